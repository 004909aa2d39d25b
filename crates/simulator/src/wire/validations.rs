//! Validating versions of flows, which the vendor has in preview: register, poll.

use super::error::ApiError;
use super::flows::find;
use crate::organization::{Organization, Shared, Validation, enter};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

type Answer = Result<Json<Value>, ApiError>;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/api/v2/flows/validate/jobs", post(register)).route("/api/v2/flows/validate/jobs/{jobId}", get(job))
}

#[derive(Deserialize)]
struct Request {
    flows: Vec<Details>,
}

#[derive(Deserialize)]
struct Details {
    flow: Reference,
}

/// The live version unless one is named.
#[derive(Deserialize)]
struct Reference {
    id: Option<String>,
    version: Option<String>,
}

async fn register(State(shared): State<Shared>, body: Bytes) -> Answer {
    let request: Request = serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    if request.flows.is_empty() {
        return Err(ApiError::bad_request("flows is empty"));
    }
    let mut organization = enter(&shared);
    let mut complaints = Vec::new();
    for Details { flow } in &request.flows {
        let id = flow.id.as_deref().ok_or_else(|| ApiError::bad_request("flow.id is required"))?;
        complaints.extend(complaint(&organization, find(&organization, id)?, flow.version.as_deref()));
    }
    let id = organization.mint("validation");
    organization.validations.insert(id.clone(), Validation { looks: 0, complaints });
    let uri = format!("/api/v2/flows/validate/jobs/{id}");
    Ok(Json(json!({"id": id, "status": "Registered", "totalFlows": request.flows.len(), "selfUri": uri})))
}

fn complaint(organization: &Organization, index: usize, version: Option<&str>) -> Option<String> {
    let flow = &organization.flows[index];
    let found = version.map_or(flow.live, |number| flow.index_of(number));
    let which = version.map_or_else(|| "a published version".to_owned(), |number| format!("version {number}"));
    if found.is_none() {
        return Some(format!("flow '{}' does not have {which}", flow.name));
    }
    let fails = organization.faults.fails_validation(&flow.id);
    fails.then(|| format!("flow '{}': an action in task 'main' has an expression that is not valid", flow.name))
}

async fn job(State(shared): State<Shared>, Path(id): Path<String>, Query(query): Query<HashMap<String, String>>) -> Answer {
    let mut organization = enter(&shared);
    let missing = || ApiError::not_found("architect.job.not.found", format!("Could not find job {id}."));
    let job = organization.validations.get_mut(&id).ok_or_else(missing)?;
    job.looks += 1;
    let status = match (job.looks, job.complaints.is_empty()) {
        (1, _) => "Started",
        (_, true) => "Success",
        (_, false) => "Failure",
    };
    let mut body = json!({"id": id, "status": status, "command": "Validate", "selfUri": format!("/api/v2/flows/validate/jobs/{id}")});
    if query.get("expand").is_some_and(|expand| expand.split(',').any(|field| field == "messages")) {
        let complaints = job.complaints.iter().filter(|_| status == "Failure");
        body["messages"] = complaints.map(|text| json!({"type": "Error", "text": text, "details": []})).collect();
    }
    Ok(Json(body))
}
