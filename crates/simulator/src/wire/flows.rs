//! Flows, their versions and configurations, and publishing.

use super::Client;
use super::error::ApiError;
use super::page::page;
use crate::flow::{Flow, Target};
use crate::organization::{Organization, Shared, enter};
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;

type Answer = Result<Json<Value>, ApiError>;
type Parameters = Query<HashMap<String, String>>;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v2/flows", get(list))
        .route("/api/v2/flows/{flowId}", get(flow))
        .route("/api/v2/flows/{flowId}/versions", get(versions))
        .route("/api/v2/flows/{flowId}/versions/{versionId}", get(version))
        .route("/api/v2/flows/{flowId}/versions/{versionId}/configuration", get(configuration))
        .route("/api/v2/flows/actions/publish", post(publish))
        .route("/api/v2/flows/outcomes", get(outcomes))
}

async fn outcomes(State(shared): State<Shared>, Query(query): Parameters) -> Answer {
    let organization = enter(&shared);
    let all = organization.slots.iter().flat_map(|slot| [&slot.stable_outcome, &slot.canary_outcome]);
    let wanted = all.filter(|outcome| {
        query.get("name").is_none_or(|pattern| matches(pattern, &outcome.name))
            && query.get("id").is_none_or(|ids| ids.split(',').any(|id| id == outcome.id))
    });
    let outcomes = wanted.map(|outcome| {
        json!({"id": outcome.id, "name": outcome.name, "division": {"id": "*", "name": "Home"},
            "selfUri": format!("/api/v2/flows/outcomes/{}", outcome.id)})
    });
    Ok(Json(page(outcomes.collect(), &query, "/api/v2/flows/outcomes")?))
}

/// The flow with this id, or the vendor's refusal.
pub(super) fn find(organization: &Organization, id: &str) -> Result<usize, ApiError> {
    organization.flow_index(id).ok_or_else(ApiError::no_flow)
}

async fn list(State(shared): State<Shared>, Query(query): Parameters) -> Answer {
    let organization = enter(&shared);
    let wanted = |flow: &&Flow| {
        query.get("name").is_none_or(|pattern| matches(pattern, &flow.name))
            && query.get("type").is_none_or(|kinds| kinds.split(',').any(|kind| kind.eq_ignore_ascii_case("inboundcall")))
            && query.get("id").is_none_or(|ids| ids.split(',').any(|id| id == flow.id))
            && query.get("lockedBy").is_none_or(|user| flow.to_json()["lockedUser"]["id"] == **user)
    };
    let mut flows: Vec<&Flow> = organization.flows.iter().filter(wanted).collect();
    flows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(page(flows.into_iter().map(Flow::to_json).collect(), &query, "/api/v2/flows")?))
}

async fn flow(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let organization = enter(&shared);
    Ok(Json(organization.flows[find(&organization, &id)?].to_json()))
}

/// Newest first.
async fn versions(State(shared): State<Shared>, Path(id): Path<String>, Query(query): Parameters) -> Answer {
    let organization = enter(&shared);
    let flow = &organization.flows[find(&organization, &id)?];
    let versions = flow.versions.iter().rev().map(|version| flow.version_json(version)).collect();
    Ok(Json(page(versions, &query, &format!("/api/v2/flows/{id}/versions"))?))
}

async fn version(State(shared): State<Shared>, Path((id, number)): Path<(String, String)>) -> Answer {
    let organization = enter(&shared);
    let flow = &organization.flows[find(&organization, &id)?];
    Ok(Json(flow.version_json(&flow.versions[find_version(flow, &number)?])))
}

async fn configuration(State(shared): State<Shared>, Path((id, number)): Path<(String, String)>) -> Answer {
    let organization = enter(&shared);
    let flow = &organization.flows[find(&organization, &id)?];
    Ok(Json(flow.configuration(&flow.versions[find_version(flow, &number)?])))
}

/// Asynchronous. A version that does not exist is answered like any other, and then nothing happens: so does the vendor.
async fn publish(State(shared): State<Shared>, Extension(client): Extension<Client>, Query(query): Parameters) -> Answer {
    let required = || ApiError::bad_request("The query parameter flow is required.");
    let id = query.get("flow").filter(|id| !id.is_empty()).ok_or_else(required)?;
    let mut organization = enter(&shared);
    let index = find(&organization, id)?;
    let flow = &organization.flows[index];
    if let Some(person) = &flow.locked_by {
        let message = format!("Flow {} is locked by user {person}.", flow.name);
        return Err(ApiError::new(409, "architect.flow.locked", message));
    }
    if flow.is_busy() {
        let message = format!("Flow {} has an operation in progress.", flow.name);
        return Err(ApiError::new(409, "architect.flow.operation.in.progress", message));
    }
    let target = match query.get("version") {
        Some(number) => flow.index_of(number),
        None => flow.versions.len().checked_sub(1),
    };
    let Some(target) = target else {
        let id = organization.mint("operation");
        return Ok(Json(json!({"id": id, "complete": false, "actionName": "PUBLISH", "actionStatus": "STARTED"})));
    };
    Ok(Json(organization.start_publish(index, Target::Existing(target), &client.0).to_json()))
}

pub(super) fn find_version(flow: &Flow, number: &str) -> Result<usize, ApiError> {
    let missing = || ApiError::not_found("architect.flow.version.not.found", format!("Could not find version {number} of the flow."));
    flow.index_of(number).ok_or_else(missing)
}

/// Whether a name matches a pattern with `*`, whatever its case.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for pattern in ["Main_IVR_Blue", "main_ivr_blue", "Main*", "*Blue", "*ivr*", "m*i*e", "*"] {
            assert!(matches(pattern, "Main_IVR_Blue"), "{pattern}");
        }
        for pattern in ["Main", "*Green", "Blue*", "m*x*e"] {
            assert!(!matches(pattern, "Main_IVR_Blue"), "{pattern}");
        }
    }
}
