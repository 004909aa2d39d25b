//! Which flow calls enter: IVR configurations and emergency groups. A PUT replaces everything and names the version it was made from.
//!
//! Left out: closed hours, holidays and schedules. A change that has them is refused, for it would be lost.

use super::Client;
use super::error::ApiError;
use super::flows::matches;
use super::page::page;
use crate::changes::Actor;
use crate::organization::{EmergencyGroup, Ivr, Organization, Shared, enter};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;

type Answer = Result<Json<Value>, ApiError>;

const IVRS: &str = "/api/v2/architect/ivrs";
const GROUPS: &str = "/api/v2/architect/emergencygroups";

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route(IVRS, get(ivrs))
        .route("/api/v2/architect/ivrs/{ivrId}", get(ivr).put(replace_ivr))
        .route("/api/v2/architect/emergencygroups/{emergencyGroupId}", get(group).put(replace_group))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IvrChange {
    id: Option<String>,
    name: String,
    version: Option<u64>,
    #[serde(default)]
    dnis: Vec<String>,
    open_hours_flow: Option<Reference>,
    closed_hours_flow: Option<Reference>,
    holiday_hours_flow: Option<Reference>,
    schedule_group: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupChange {
    id: Option<String>,
    name: String,
    version: Option<u64>,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    emergency_call_flows: Vec<CallFlow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallFlow {
    emergency_flow: Reference,
    #[serde(default)]
    ivrs: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    id: String,
}

async fn ivrs(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Answer {
    let organization = enter(&shared);
    let wanted = |ivr: &&Ivr| {
        query.get("name").is_none_or(|pattern| matches(pattern, &ivr.name)) && query.get("dnis").is_none_or(|dnis| ivr.dnis.contains(dnis))
    };
    let mut ivrs: Vec<&Ivr> = organization.ivrs.iter().filter(wanted).collect();
    ivrs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(page(ivrs.into_iter().map(|ivr| ivr_json(&organization, ivr)).collect(), &query, IVRS)?))
}

async fn ivr(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let organization = enter(&shared);
    Ok(Json(ivr_json(&organization, &organization.ivrs[find_ivr(&organization, &id)?])))
}

async fn replace_ivr(State(shared): State<Shared>, Extension(client): Extension<Client>, Path(id): Path<String>, body: Bytes) -> Answer {
    let change: IvrChange = parse(&body)?;
    let mut organization = enter(&shared);
    let index = find_ivr(&organization, &id)?;
    if change.closed_hours_flow.is_some() || change.holiday_hours_flow.is_some() || change.schedule_group.is_some() {
        return Err(ApiError::bad_request("closed hours, holidays and schedules are not simulated"));
    }
    let flow = change.open_hours_flow.map(|flow| flow.id);
    flow.iter().try_for_each(|flow| known_flow(&organization, flow))?;
    if let Some((ivr, number)) = taken(&organization, index, &change.dnis) {
        return Err(ApiError::bad_request(format!("The number {number} belongs to IVR {}.", ivr.name)));
    }
    if organization.faults.take_conflict(&format!("{IVRS}/{id}")) {
        organization.ivr_changed(somebody_else(), index);
    }
    same(&id, change.id.as_deref(), change.version, organization.ivrs[index].version)?;
    let ivr = &mut organization.ivrs[index];
    (ivr.name, ivr.dnis, ivr.open_hours_flow) = (change.name, change.dnis, flow.unwrap_or_default());
    organization.ivr_changed(Actor::Client(client.0), index);
    Ok(Json(ivr_json(&organization, &organization.ivrs[index])))
}

async fn group(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let organization = enter(&shared);
    Ok(Json(group_json(&organization, &organization.emergency_groups[find_group(&organization, &id)?])))
}

async fn replace_group(State(shared): State<Shared>, Extension(client): Extension<Client>, Path(id): Path<String>, body: Bytes) -> Answer {
    let change: GroupChange = parse(&body)?;
    let mut organization = enter(&shared);
    let index = find_group(&organization, &id)?;
    for CallFlow { emergency_flow, ivrs } in &change.emergency_call_flows {
        known_flow(&organization, &emergency_flow.id)?;
        ivrs.iter().try_for_each(|ivr| find_ivr(&organization, &ivr.id).map(drop).map_err(|_| unknown("IVR", &ivr.id)))?;
    }
    if organization.faults.take_conflict(&format!("{GROUPS}/{id}")) {
        organization.emergency_group_changed(somebody_else(), index);
    }
    same(&id, change.id.as_deref(), change.version, organization.emergency_groups[index].version)?;
    let group = &mut organization.emergency_groups[index];
    let flows = change.emergency_call_flows.into_iter();
    group.flows = flows.map(|flow| (flow.emergency_flow.id, flow.ivrs.into_iter().map(|ivr| ivr.id).collect())).collect();
    (group.name, group.enabled) = (change.name, change.enabled);
    organization.emergency_group_changed(Actor::Client(client.0), index);
    Ok(Json(group_json(&organization, &organization.emergency_groups[index])))
}

fn ivr_json(organization: &Organization, ivr: &Ivr) -> Value {
    let flow = (!ivr.open_hours_flow.is_empty()).then(|| flow_reference(organization, &ivr.open_hours_flow));
    json!({
        "id": ivr.id, "name": ivr.name, "division": {"id": "*", "name": "Home"}, "version": ivr.version, "state": "active",
        "dnis": ivr.dnis, "openHoursFlow": flow, "selfUri": format!("{IVRS}/{}", ivr.id),
    })
}

fn group_json(organization: &Organization, group: &EmergencyGroup) -> Value {
    let flows = group.flows.iter().map(|(flow, ivrs)| {
        let ivrs: Vec<Value> = ivrs.iter().map(|ivr| json!({"id": ivr, "selfUri": format!("{IVRS}/{ivr}")})).collect();
        json!({"emergencyFlow": flow_reference(organization, flow), "ivrs": ivrs})
    });
    json!({
        "id": group.id, "name": group.name, "division": {"id": "*", "name": "Home"}, "version": group.version, "state": "active",
        "enabled": group.enabled, "emergencyCallFlows": flows.collect::<Vec<_>>(), "selfUri": format!("{GROUPS}/{}", group.id),
    })
}

fn flow_reference(organization: &Organization, id: &str) -> Value {
    let name = organization.flow_index(id).map(|index| &organization.flows[index].name);
    json!({"id": id, "name": name, "selfUri": format!("/api/v2/flows/{id}")})
}

fn find_ivr(organization: &Organization, id: &str) -> Result<usize, ApiError> {
    let found = organization.ivrs.iter().position(|ivr| ivr.id == id);
    found.ok_or_else(|| ApiError::not_found("architect.ivr.not.found", format!("Could not find IVR {id}.")))
}

fn find_group(organization: &Organization, id: &str) -> Result<usize, ApiError> {
    let found = organization.emergency_groups.iter().position(|group| group.id == id);
    found.ok_or_else(|| ApiError::not_found("architect.emergency.group.not.found", format!("Could not find emergency group {id}.")))
}

/// A number that already leads to another IVR configuration.
fn taken<'a>(organization: &'a Organization, index: usize, dnis: &'a [String]) -> Option<(&'a Ivr, &'a String)> {
    let others = organization.ivrs.iter().enumerate().filter(|(other, _)| *other != index);
    others.map(|(_, ivr)| ivr).find_map(|ivr| Some((ivr, dnis.iter().find(|number| ivr.dnis.contains(number))?)))
}

fn known_flow(organization: &Organization, id: &str) -> Result<(), ApiError> {
    organization.flow_index(id).map(drop).ok_or_else(|| unknown("flow", id))
}

fn unknown(what: &str, id: &str) -> ApiError {
    ApiError::bad_request(format!("There is no {what} {id}."))
}

/// Whom a fault has change things.
fn somebody_else() -> Actor {
    Actor::Person("Somebody Else".to_owned())
}

/// Whether a change is one of what is there now.
fn same(id: &str, named: Option<&str>, version: Option<u64>, current: u64) -> Result<(), ApiError> {
    if let Some(other) = named.filter(|named| *named != id) {
        return Err(ApiError::bad_request(format!("The id {other} of the body is not the id {id} of the path.")));
    }
    let version = version.ok_or_else(|| ApiError::bad_request("version is required"))?;
    if version != current {
        let message = format!("The version {version} does not match the current version {current}.");
        return Err(ApiError::new(409, "general.conflict", message));
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))
}
