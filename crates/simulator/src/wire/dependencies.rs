//! Dependency tracking: what a version of a flow needs, and whether the vendor has gathered it.
//!
//! A flow for callers needs a queue and a prompt, one with a gate the data action too; a traffic cop what it asks and the two flows
//! behind it. Left out: what each of these needs in turn, and who needs a flow.

use super::error::ApiError;
use super::flows::{find, find_version};
use super::page::page;
use crate::chance::{Draws, number_of};
use crate::flow::date_time;
use crate::organization::{CopReads, DEPLOYMENT_CONTROL, Organization, RANDOM_PERCENTAGE_ACTION, Shared, enter};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v2/architect/dependencytracking/build", get(build).post(rebuild))
        .route("/api/v2/architect/dependencytracking/consumedresources", get(consumed))
}

async fn build(State(shared): State<Shared>) -> Json<Value> {
    let organization = enter(&shared);
    let built = date_time(organization.dependencies_built);
    Json(json!({"status": organization.faults.build(), "dateStarted": built, "dateCompleted": built, "failedObjects": [],
        "selfUri": "/api/v2/architect/dependencytracking/build"}))
}

/// Done at once, unless a fault says otherwise of every build.
async fn rebuild(State(shared): State<Shared>) -> StatusCode {
    let mut organization = enter(&shared);
    organization.dependencies_built = organization.now;
    StatusCode::ACCEPTED
}

async fn consumed(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Result<Json<Value>, ApiError> {
    let organization = enter(&shared);
    let asked = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let index = find(&organization, asked("id"))?;
    let flow = &organization.flows[index];
    let version = find_version(flow, asked("version"))?;
    if asked("objectType") != "INBOUNDCALLFLOW" {
        let message = format!("Could not find {} with id {}.", asked("objectType"), flow.id);
        return Err(ApiError::not_found("architect.dependency.object.not.found", message));
    }
    let wanted = |needed: &Needed| query.get("resourceType").is_none_or(|kinds| kinds.split(',').any(|kind| kind == needed.kind));
    let number = flow.versions[version].number.as_str();
    let needs = needs(&organization, index, version).into_iter().filter(wanted);
    let entities = needs.map(|Needed { id, name, kind }| {
        json!({"id": id, "name": name, "type": kind, "deleted": organization.faults.deleted(&flow.id, number, &name),
            "updated": false, "stateUnknown": false})
    });
    Ok(Json(page(entities.collect(), &query, "/api/v2/architect/dependencytracking/consumedresources")?))
}

/// Something that a version needs.
pub(crate) struct Needed {
    id: String,
    /// Name of it; within one version no two have the same.
    pub(crate) name: String,
    /// The vendor's type.
    kind: &'static str,
}

/// What a version of a flow needs, both by index.
pub(crate) fn needs(organization: &Organization, flow: usize, version: usize) -> Vec<Needed> {
    let needed = |id: &str, name: &str, kind| Needed { id: id.to_owned(), name: name.to_owned(), kind };
    let action = || needed(RANDOM_PERCENTAGE_ACTION, "Random Percentage", "DATAACTION");
    let Some(slot) = organization.slots.iter().find(|slot| slot.cop == flow) else {
        let gate = organization.flows[flow].versions[version].content.branch.map(|_| action());
        let own = organization.slots.iter().find(|slot| slot.stable == flow || slot.canary == flow);
        let queue = own.or(organization.slots.first()).map(|slot| needed(&slot.queue(), "Service_Desk", "QUEUE"));
        let prompt = Draws::of(0, &[number_of("prompt")]).uuid();
        return queue.into_iter().chain([needed(&prompt, "Main_Menu", "USERPROMPT")]).chain(gate).collect();
    };
    let asks = match slot.cop_reads {
        CopReads::Lambda => action(),
        CopReads::Row => needed(DEPLOYMENT_CONTROL, "Deployment_Control", "DATATABLE"),
    };
    let behind = [slot.stable, slot.canary].map(|index| &organization.flows[index]);
    [asks].into_iter().chain(behind.map(|flow| needed(&flow.id, &flow.name, "INBOUNDCALLFLOW"))).collect()
}
