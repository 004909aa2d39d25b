//! The control side under `/_simulator/`: clock, reset, versions, calls, faults, and what was seen.

use crate::faults::{Fault, Faults};
use crate::flow::Behavior;
use crate::organization::{Delivery, Organization, Settings, Shared, enter};
use crate::traffic;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The paths of the control side.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/_simulator/clock", get(clock))
        .route("/_simulator/reset", post(reset))
        .route("/_simulator/versions", post(versions))
        .route("/_simulator/arrivals", post(arrivals))
        .route("/_simulator/advance", post(advance))
        .route("/_simulator/call", post(call))
        .route("/_simulator/faults", post(add_faults).delete(clear_faults))
        .route("/_simulator/requests", get(requests))
        .route("/_simulator/webhook", post(receive).get(received))
}

/// An order that cannot be carried out, and why.
struct Refused(String);

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Refused(reason)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({"error": self.0}))).into_response()
    }
}

type Answer = Result<Json<Value>, Refused>;

/// Reads an order, whatever its content type; an empty body is `{}`.
fn order<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(if body.is_empty() { b"{}" } else { body }).map_err(|error| Refused(error.to_string()))
}

async fn clock(State(shared): State<Shared>) -> Json<Value> {
    Json(json!({"now": enter(&shared).now}))
}

async fn reset(State(shared): State<Shared>, body: Bytes) -> Answer {
    let settings: Settings = order(&body)?;
    let mut fresh = Organization::new(settings)?;
    let mut organization = enter(&shared);
    fresh.keep_tokens_of(&mut organization);
    *organization = fresh;
    let flows: Vec<_> = organization.flows.iter().map(|flow| json!({"id": flow.id, "name": flow.name})).collect();
    Ok(Json(json!({"now": organization.now, "flows": flows})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    flow_id: String,
    #[serde(default)]
    behavior: Behavior,
    /// Of the canary branch; without it the version has no gate.
    canary_behavior: Option<Behavior>,
}

async fn versions(State(shared): State<Shared>, body: Bytes) -> Answer {
    let change: Change = order(&body)?;
    let behavior = change.behavior.checked()?;
    let branch = change.canary_behavior.map(Behavior::checked).transpose()?;
    let mut organization = enter(&shared);
    let index = find(&organization, &change.flow_id)?;
    Ok(Json(json!({"version": organization.check_in(index, behavior, branch)})))
}

async fn arrivals(State(shared): State<Shared>, body: Bytes) -> Answer {
    let ask = order(&body)?;
    Ok(Json(json!({"calls": traffic::next_calls(&enter(&shared), &ask)?})))
}

async fn advance(State(shared): State<Shared>, body: Bytes) -> Answer {
    let order = order(&body)?;
    Ok(Json(json!(traffic::advance(&mut enter(&shared), &order)?)))
}

async fn call(State(shared): State<Shared>, body: Bytes) -> Answer {
    let order = order(&body)?;
    Ok(Json(json!({"conversations": traffic::call(&mut enter(&shared), &order)?})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Orders {
    faults: Vec<Fault>,
}

async fn add_faults(State(shared): State<Shared>, body: Bytes) -> Answer {
    let orders: Orders = order(&body)?;
    let mut organization = enter(&shared);
    let count = orders.faults.len();
    for fault in orders.faults {
        match fault {
            Fault::Lock { flow_id, user } => {
                let index = find(&organization, &flow_id)?;
                organization.flows[index].locked_by = Some(user);
            }
            Fault::Unlock { flow_id } => {
                let index = find(&organization, &flow_id)?;
                organization.flows[index].locked_by = None;
            }
            Fault::ExpireTokens => organization.tokens.clear(),
            waiting => organization.faults.add(waiting)?,
        }
    }
    Ok(Json(json!({"added": count})))
}

/// Clears every fault, locks among them.
async fn clear_faults(State(shared): State<Shared>) -> Json<Value> {
    let mut organization = enter(&shared);
    organization.faults = Faults::default();
    organization.flows.iter_mut().for_each(|flow| flow.locked_by = None);
    Json(json!({}))
}

async fn requests(State(shared): State<Shared>) -> Json<Value> {
    Json(json!(enter(&shared).requests))
}

async fn receive(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    enter(&shared).webhook.push(Delivery { received_at: Timestamp::now(), headers, body });
    StatusCode::ACCEPTED
}

async fn received(State(shared): State<Shared>) -> Json<Value> {
    Json(json!(enter(&shared).webhook))
}

fn find(organization: &Organization, flow_id: &str) -> Result<usize, Refused> {
    organization.flow_index(flow_id).ok_or_else(|| Refused(format!("there is no flow `{flow_id}`")))
}
