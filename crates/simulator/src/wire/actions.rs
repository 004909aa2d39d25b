//! The one data action, `Random Percentage`: its configuration, and a test of it. The deployed function is not called, since the simulator does not know
//! where it is; the answer is the one that it gives while nothing is rolled out.

use super::error::ApiError;
use crate::organization::{RANDOM_PERCENTAGE_ACTION, Shared, enter};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What its contract takes, the first two always.
const INPUTS: [&str; 4] = ["flow", "conversationId", "caller", "flowVersion"];

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v2/integrations/actions/{actionId}", get(read))
        .route("/api/v2/integrations/actions/{actionId}/test", post(test))
}

/// How it is configured is told on request.
async fn read(Path(id): Path<String>, Query(asked): Query<HashMap<String, String>>) -> Result<Json<Value>, ApiError> {
    known(&id)?;
    let mut action = json!({"id": id, "name": "Random Percentage", "integrationId": "i-1", "category": "Serin", "version": 1,
        "secure": false, "selfUri": format!("/api/v2/integrations/actions/{id}")});
    if asked.get("includeConfig").is_some_and(|include| include == "true") {
        action["config"] = json!({"timeoutSeconds": 2});
    }
    Ok(Json(action))
}

fn known(id: &str) -> Result<(), ApiError> {
    match id {
        RANDOM_PERCENTAGE_ACTION => Ok(()),
        _ => Err(ApiError::not_found("not.found", format!("Could not find action {id}."))),
    }
}

async fn test(State(shared): State<Shared>, Path(id): Path<String>, body: Bytes) -> Result<Json<Value>, ApiError> {
    known(&id)?;
    let input: Value = serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let refusal = if enter(&shared).faults.fails_action(&id) {
        Some((500, "bad.gateway", "The function of the data action could not be invoked.".to_owned()))
    } else {
        misfit(&input).map(|reason| (400, "bad.request", reason))
    };
    let step = |name: &str, success| json!({"step": 1, "name": name, "success": success});
    Ok(Json(match refusal {
        None => {
            let result = json!({"randomPct": 100, "percentage": 0, "cohort": "stable", "canaryVersion": "", "rollout": "", "revision": 0,
                "fallback": true});
            json!({"operations": [step("Execute", true)], "finalResult": result, "success": true})
        }
        Some((status, code, message)) => {
            let error = json!({"message": message, "code": code, "status": status, "details": [], "errors": []});
            json!({"operations": [step("Execute", false)], "error": error, "success": false})
        }
    }))
}

/// Why an input is not one of the action's contract.
fn misfit(input: &Value) -> Option<String> {
    let known = |name: &String| INPUTS.contains(&name.as_str());
    let unknown = input.as_object().and_then(|object| object.keys().find(|name| !known(name)));
    let missing = INPUTS[..2].iter().find(|name| !input[**name].is_string());
    match (unknown, missing) {
        (Some(name), _) => Some(format!("The input has no property {name}.")),
        (None, Some(name)) => Some(format!("The input lacks {name}.")),
        (None, None) => None,
    }
}
