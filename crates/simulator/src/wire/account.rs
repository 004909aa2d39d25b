//! The organization itself: who it is, and the limits it is held to.

use super::error::ApiError;
use crate::organization::{Shared, enter};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

const ORGANIZATION: &str = "06640000-0000-4000-8000-00000000000b";

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/api/v2/organizations/me", get(me)).route("/api/v2/organizations/limits/namespaces/{namespaceName}", get(limits))
}

async fn me() -> Json<Value> {
    Json(json!({
        "id": ORGANIZATION, "name": "Simulated", "domain": "simulated", "version": 1, "state": "active", "defaultLanguage": "en-us",
        "defaultCountryCode": "US", "productPlatform": "GenesysCloud", "features": {}, "selfUri": "/api/v2/organizations/me",
    }))
}

/// Only those that bind somebody here; the vendor's other namespaces are as good as unknown.
async fn limits(State(shared): State<Shared>, Path(namespace): Path<String>) -> Result<Json<Value>, ApiError> {
    let limits = match namespace.as_str() {
        "platform.api" => vec![("client.credentials.token.rate.per.minute", enter(&shared).settings.requests_per_minute)],
        "dataactions" => vec![("actions.concurrent.executions.max", 50), ("requests.volume.max", 2500)],
        _ => return Err(ApiError::not_found("not.found", format!("Could not find the limits of {namespace}."))),
    };
    let limits = limits.into_iter().map(|(key, value)| json!({"key": key, "namespace": namespace, "value": value}));
    Ok(Json(json!({"entities": limits.collect::<Vec<_>>()})))
}
