//! `POST /api/v2/audits/query/realtime`: who changed what in the last 14 days of the virtual clock, latest first unless asked otherwise.
//!
//! Recorded are publishes (`Publish` of a `Flow`), rows (`Create`, `Update`, `Delete` of a `Row`: its id is that of the data table, its
//! name the key), and `Update` of an `IVR` or `EmergencyGroup`. As with the vendor, a person's name comes with `expand=user` alone.

use super::error::ApiError;
use crate::changes::{Actor, Audit};
use crate::flow::date_time;
use crate::organization::{Organization, Shared, enter};
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::routing::post;
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// What the vendor answers of at all, and audits of a page at most.
const REACH: SignedDuration = SignedDuration::from_hours(14 * 24);
const LARGEST: usize = 500;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/api/v2/audits/query/realtime", post(query))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    interval: String,
    service_name: Option<String>,
    #[serde(default)]
    filters: Vec<Filter>,
    #[serde(default)]
    sort: Vec<Sort>,
    page_number: Option<usize>,
    page_size: Option<usize>,
}

#[derive(Deserialize)]
struct Filter {
    property: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sort {
    sort_order: String,
}

async fn query(
    State(shared): State<Shared>,
    Query(parameters): Query<HashMap<String, String>>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Request = serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let named = parameters.get("expand").is_some_and(|expand| expand.split(',').any(|field| field == "user"));
    Ok(Json(answer(&enter(&shared), &request, named).map_err(ApiError::bad_request)?))
}

fn answer(organization: &Organization, request: &Request, named: bool) -> Result<Value, String> {
    let interval = &request.interval;
    let ends = interval.split_once('/').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to): (Timestamp, Timestamp) = ends.ok_or_else(|| format!("interval `{interval}` is not accepted"))?;
    if from > to {
        return Err(format!("interval `{interval}` ends before it begins"));
    }
    let (number, size) = (request.page_number.unwrap_or(1), request.page_size.unwrap_or(25));
    if number == 0 || !(1..=LARGEST).contains(&size) {
        return Err(format!("pageNumber {number} and pageSize {size} are not accepted: from 1, and from 1 to {LARGEST} are"));
    }
    // Both ends count: the virtual clock stands still, and what happens now lies at the end of every interval until now.
    let from = from.max(organization.now - REACH);
    let mut found: Vec<&Audit> = organization
        .audits
        .iter()
        .filter(|audit| (from..=to).contains(&audit.at))
        .filter(|audit| request.service_name.as_deref().is_none_or(|name| audit.thing.service() == name))
        .filter(|audit| request.filters.iter().all(|filter| filter.holds(audit)))
        .collect();
    if request.sort.first().is_none_or(|sort| sort.sort_order == "descending") {
        found.reverse();
    }
    let entities: Vec<Value> = found.iter().skip(size.saturating_mul(number - 1)).take(size).map(|audit| shown(audit, named)).collect();
    let pages = found.len().div_ceil(size);
    Ok(json!({"entities": entities, "pageSize": size, "pageNumber": number, "total": found.len(), "pageCount": pages}))
}

impl Filter {
    fn holds(&self, audit: &Audit) -> bool {
        let theirs = match (self.property.as_str(), &audit.by) {
            ("UserId", Actor::Person(_)) | ("ClientId", Actor::Client(_)) => audit.by.id(),
            ("Action", _) => format!("{:?}", audit.action),
            ("EntityType", _) => audit.thing.entity_type().to_owned(),
            ("EntityId", _) => audit.id_of_thing.clone(),
            _ => return false,
        };
        theirs == self.value
    }
}

fn shown(audit: &Audit, named: bool) -> Value {
    let mut shown = json!({
        "id": audit.id, "serviceName": audit.thing.service(), "level": "USER", "eventDate": date_time(audit.at),
        "action": format!("{:?}", audit.action), "entityType": audit.thing.entity_type(),
        "entity": {"id": audit.id_of_thing, "name": audit.name}, "status": "SUCCESS",
    });
    match &audit.by {
        Actor::Client(id) => shown["client"] = json!({"id": id}),
        Actor::Person(_) if named => shown["user"] = audit.by.to_json(),
        Actor::Person(_) => shown["user"] = json!({"id": audit.by.id()}),
    }
    shown
}
