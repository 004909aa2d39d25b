//! The control side under `/_simulator/`: clock, reset, versions, calls, faults, what people do by hand, and what was seen.

use crate::changes::{Actor, key_of};
use crate::faults::{Fault, Faults};
use crate::flow::Behavior;
use crate::meter::Meter;
use crate::organization::{Delivery, Organization, RANDOM_PERCENTAGE_ACTION, Settings, Shared, enter};
use crate::traffic;
use crate::wire::{contract, dependencies};
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::{SignedDuration, Timestamp};
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
        .route("/_simulator/script", post(add_script))
        .route("/_simulator/by_hand", post(by_hand))
        .route("/_simulator/requests", get(requests))
        .route("/_simulator/meter", get(meter))
        .route("/_simulator/meter/reset", post(reset_meter))
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

/// Faults of the script that fall due strike once the clock has moved: calls of the same advance do not feel them.
async fn advance(State(shared): State<Shared>, body: Bytes) -> Answer {
    let order = order(&body)?;
    let mut organization = enter(&shared);
    let advanced = traffic::advance(&mut organization, &order)?;
    strike_due(&mut organization)?;
    Ok(Json(json!(advanced)))
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

/// All or none.
async fn add_faults(State(shared): State<Shared>, body: Bytes) -> Answer {
    let Orders { faults } = order(&body)?;
    let mut organization = enter(&shared);
    faults.iter().try_for_each(|fault| check(&organization, fault))?;
    let count = faults.len();
    faults.into_iter().try_for_each(|fault| strike(&mut organization, fault))?;
    Ok(Json(json!({"added": count})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Later {
    after_s: f64,
    fault: Fault,
}

/// All or none, and beside what was ordered before.
async fn add_script(State(shared): State<Shared>, body: Bytes) -> Answer {
    let orders: Vec<Later> = order(&body)?;
    let mut organization = enter(&shared);
    let mut due = Vec::new();
    for Later { after_s, fault } in orders {
        check(&organization, &fault)?;
        let after = SignedDuration::try_from_secs_f64(after_s).ok().filter(|after| !after.is_negative());
        let at = after.and_then(|after| organization.now.checked_add(after).ok());
        due.push((at.ok_or_else(|| format!("after_s {after_s} is no time to come"))?, fault));
    }
    let count = due.len();
    organization.script.extend(due);
    organization.script.sort_by_key(|(at, _)| *at);
    strike_due(&mut organization)?;
    Ok(Json(json!({"added": count})))
}

fn strike_due(organization: &mut Organization) -> Result<(), Refused> {
    let due = organization.script.partition_point(|(at, _)| *at <= organization.now);
    let due: Vec<_> = organization.script.drain(..due).collect();
    due.into_iter().try_for_each(|(_, fault)| strike(organization, fault))
}

/// Whether the organization has what a fault is about.
fn check(organization: &Organization, fault: &Fault) -> Result<(), Refused> {
    let flow = fault.flow_id().map(|id| find(organization, id)).transpose()?;
    Faults::default().add(fault.clone())?;
    match (fault, flow) {
        (Fault::Forbid { permission, .. }, _) if !contract::names_permission(permission) => {
            Err(Refused(format!("no operation here needs the permission `{permission}`")))
        }
        (Fault::ActionFails { action_id }, _) if action_id != RANDOM_PERCENTAGE_ACTION => {
            Err(Refused(format!("there is no data action `{action_id}`")))
        }
        (Fault::DependencyDeleted { version, name, .. }, Some(flow)) => {
            let versions = &organization.flows[flow].versions;
            let meant = (0..versions.len()).filter(|index| version.as_ref().is_none_or(|number| versions[*index].number == *number));
            let needed = meant.flat_map(|index| dependencies::needs(organization, flow, index)).any(|needed| needed.name == *name);
            if needed { Ok(()) } else { Err(Refused(format!("no such version needs `{name}`"))) }
        }
        _ => Ok(()),
    }
}

/// What was checked when it was ordered.
fn strike(organization: &mut Organization, fault: Fault) -> Result<(), Refused> {
    let flow = fault.flow_id().map(|id| find(organization, id)).transpose()?;
    match (fault, flow) {
        (Fault::Lock { user, .. }, Some(flow)) => organization.flows[flow].locked_by = Some(user),
        (Fault::Unlock { .. }, Some(flow)) => organization.flows[flow].locked_by = None,
        (Fault::ExpireTokens, _) => organization.tokens.clear(),
        (Fault::ReportsLate { seconds }, _) => organization.reports.delay(seconds),
        (Fault::Restate { share }, _) => organization.reports.restate(share),
        (Fault::Silence { .. }, flow) => organization.reports.silence(flow),
        (waiting, _) => organization.faults.add(waiting)?,
    }
    Ok(())
}

/// Clears every fault, locks and those that are still to come among them. Reports already on their way keep their delay.
async fn clear_faults(State(shared): State<Shared>) -> Json<Value> {
    let mut organization = enter(&shared);
    organization.faults = Faults::default();
    organization.script.clear();
    organization.flows.iter_mut().for_each(|flow| flow.locked_by = None);
    organization.reports.delay(0.0);
    organization.reports.restate(0.0);
    organization.reports.silence(None);
    Json(json!({}))
}

/// What a person does in the vendor's console, past every lock and version.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum ByHand {
    /// Live at once.
    Publish {
        flow_id: String,
        version: String,
        user: String,
    },
    Row {
        row: Value,
        user: String,
    },
    DeleteRow {
        key: String,
        user: String,
    },
    Ivr {
        id: String,
        open_hours_flow: String,
        user: String,
    },
}

async fn by_hand(State(shared): State<Shared>, body: Bytes) -> Answer {
    let act: ByHand = order(&body)?;
    let mut organization = enter(&shared);
    match act {
        ByHand::Publish { flow_id, version, user } => {
            let index = find(&organization, &flow_id)?;
            let flow = &organization.flows[index];
            let target = flow.index_of(&version).ok_or_else(|| format!("flow {} has no version {version}", flow.name))?;
            if flow.is_busy() {
                return Err(Refused(format!("flow {} has an operation in progress", flow.name)));
            }
            organization.publish_by_hand(index, target, &user);
        }
        ByHand::Row { row, user } => organization.write_row(Actor::Person(user), &key_of(&row)?, row),
        ByHand::DeleteRow { key, user } => {
            if !organization.delete_row(Actor::Person(user), &key) {
                return Err(Refused(format!("there is no row `{key}`")));
            }
        }
        ByHand::Ivr { id, open_hours_flow, user } => {
            find(&organization, &open_hours_flow)?;
            let index = organization.ivrs.iter().position(|ivr| ivr.id == id).ok_or_else(|| format!("there is no IVR `{id}`"))?;
            organization.ivrs[index].open_hours_flow = open_hours_flow;
            organization.ivr_changed(Actor::Person(user), index);
        }
    }
    Ok(Json(json!({"now": organization.now})))
}

async fn meter(State(shared): State<Shared>) -> Json<Value> {
    Json(json!(enter(&shared).meter))
}

async fn reset_meter(State(shared): State<Shared>) -> Json<Value> {
    enter(&shared).meter = Meter::default();
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
