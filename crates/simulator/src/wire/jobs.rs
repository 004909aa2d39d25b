//! Publishing a flow from YAML, and exporting one: register, upload or download, poll.

use super::Client;
use super::error::ApiError;
use super::flows::find;
use crate::organization::{Job, Shared, enter};
use crate::yaml;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

type Answer = Result<Json<Value>, ApiError>;

/// The header that must come with an upload, beside the flow's metadata.
const SIGNED: &str = "x-amz-meta-signature";

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v2/flows/jobs", post(register))
        .route("/api/v2/flows/jobs/{jobId}", get(job))
        .route("/_simulator/upload/{jobId}", put(upload))
        .route("/api/v2/flows/export/jobs", post(export))
        .route("/api/v2/flows/export/jobs/{jobId}", get(export_job))
        .route("/_simulator/download/{jobId}", get(download))
}

async fn register(State(shared): State<Shared>, Extension(client): Extension<Client>, headers: HeaderMap) -> Json<Value> {
    let mut organization = enter(&shared);
    let (id, signature) = (organization.mint("job"), organization.mint("signature"));
    let body = json!({
        "id": id, "presignedUrl": format!("{}/_simulator/upload/{id}", base(&headers)),
        "headers": {SIGNED: signature, "x-amz-meta-jobid": id}, "selfUri": format!("/api/v2/flows/jobs/{id}"),
    });
    organization.jobs.insert(id, Job { client: client.0, signature, status: "Registered", work: None, error: None });
    Json(body)
}

/// Stands for the vendor's object store: no bearer, and a plain refusal if the headers it signed are missing.
async fn upload(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let mut organization = enter(&shared);
    let sent = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let signed = |job: &&Job| sent(SIGNED) == Some(job.signature.as_str()) && sent("x-amz-meta-jobid") == Some(id.as_str());
    match organization.jobs.get(&id).filter(signed) {
        None => (StatusCode::FORBIDDEN, "<Error><Code>SignatureDoesNotMatch</Code></Error>").into_response(),
        // The job started with the first upload; later ones change nothing.
        Some(job) if job.status != "Registered" => StatusCode::OK.into_response(),
        Some(_) => {
            organization.upload(&id, &String::from_utf8_lossy(&body));
            StatusCode::OK.into_response()
        }
    }
}

async fn job(State(shared): State<Shared>, Path(id): Path<String>, Query(query): Query<HashMap<String, String>>) -> Answer {
    let organization = enter(&shared);
    let job = organization.jobs.get(&id).ok_or_else(|| missing(&id))?;
    let mut body = json!({"id": id, "status": job.status, "command": "Publish", "selfUri": format!("/api/v2/flows/jobs/{id}")});
    if let (Some((index, _)), "Success") = (&job.work, job.status) {
        let flow = &organization.flows[*index];
        body["flow"] = json!({"id": flow.id, "selfUri": format!("/api/v2/flows/{}", flow.id)});
    }
    if query.get("expand").is_some_and(|expand| expand.split(',').any(|field| field == "messages")) {
        let messages = job.error.iter().map(|text| json!({"type": "Error", "text": text, "details": []}));
        body["messages"] = messages.collect();
    }
    Ok(Json(body))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    flows: Vec<ExportDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExportDetails {
    flow: Reference,
    export_type: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    id: Option<String>,
    version: Option<String>,
}

/// One flow per job: several come as an archive, which is not simulated.
async fn export(State(shared): State<Shared>, body: Bytes) -> Answer {
    let export: Export = serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let [details] = export.flows.as_slice() else {
        return Err(ApiError::bad_request("exactly one flow per export job is simulated"));
    };
    if let Some(other) = details.export_type.as_deref().filter(|kind| !kind.eq_ignore_ascii_case("yaml")) {
        return Err(ApiError::bad_request(format!("exportType {other} is not simulated: Yaml is")));
    }
    let mut organization = enter(&shared);
    let id = details.flow.id.as_deref().ok_or_else(|| ApiError::bad_request("flow.id is required"))?;
    let flow = &organization.flows[find(&organization, id)?];
    let version = match &details.flow.version {
        Some(number) => flow.index_of(number),
        None => flow.live,
    };
    let version =
        version.ok_or_else(|| ApiError::not_found("architect.flow.version.not.found", "Could not find the version of the flow."))?;
    let text = yaml::write(&flow.name, &flow.versions[version].content);
    let job = organization.mint("export");
    organization.exports.insert(job.clone(), text);
    Ok(Json(json!({"id": job, "status": "Registered", "totalFlows": 1, "selfUri": format!("/api/v2/flows/export/jobs/{job}")})))
}

async fn export_job(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let organization = enter(&shared);
    if !organization.exports.contains_key(&id) {
        return Err(missing(&id));
    }
    Ok(Json(json!({
        "id": id, "status": "Success", "command": "Export", "downloadUrl": format!("{}/_simulator/download/{id}", base(&headers)),
        "messages": [], "selfUri": format!("/api/v2/flows/export/jobs/{id}"),
    })))
}

async fn download(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    match enter(&shared).exports.get(&id) {
        Some(text) => ([(CONTENT_TYPE, "application/yaml")], text.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Our address as the caller knows it.
fn base(headers: &HeaderMap) -> String {
    format!("http://{}", headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1"))
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("architect.job.not.found", format!("Could not find job {id}."))
}
