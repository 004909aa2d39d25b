//! `/api/v2/analytics/conversations/details/jobs`: the same query as in `details`, answered later out of a data lake that lags behind.
//! It alone tells what flows wrote down about callers.
//!
//! A job is as far as it was looked at: queued, pending, fulfilled. How far the lake lags is not published; ten minutes are assumed.

use super::details::{Request, conversation_json, search};
use super::{ApiError, sized};
use crate::flow::date_time;
use crate::organization::{DetailsJob, Organization, Shared, enter};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::HashMap;

const LAG: SignedDuration = SignedDuration::from_mins(10);
/// How long an answer is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Conversations of a page: unless told otherwise, and at most.
const PAGE: (usize, usize) = (100, 10_000);

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v2/analytics/conversations/details/jobs", post(create))
        .route("/api/v2/analytics/conversations/details/jobs/availability", get(availability))
        .route("/api/v2/analytics/conversations/details/jobs/{jobId}", get(status).delete(remove))
        .route("/api/v2/analytics/conversations/details/jobs/{jobId}/results", get(results))
}

async fn create(State(shared): State<Shared>, body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (request, most) = Request::of_job(&body)?;
    let mut organization = enter(&shared);
    let submitted = organization.now;
    let in_lake = |start: i64| start <= (submitted - LAG).as_millisecond();
    let found = search(&organization, &request)?;
    let found = found.into_iter().filter(|c| in_lake(c.start)).take(most).map(|c| (c.start, c.id.clone())).collect();
    let id = organization.mint("details job");
    organization.details_jobs.insert(id.clone(), DetailsJob { submitted, looks: 0, found });
    Ok((StatusCode::ACCEPTED, Json(json!({"jobId": id}))))
}

async fn availability(State(shared): State<Shared>) -> Json<Value> {
    Json(json!({"dataAvailabilityDate": date_time(enter(&shared).now - LAG)}))
}

async fn status(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let mut organization = enter(&shared);
    let now = organization.now;
    let job = organization.details_jobs.get_mut(&id).ok_or_else(|| missing(&id))?;
    job.looks += 1;
    let mut status = json!({"state": state(job), "submissionDate": date_time(job.submitted)});
    if state(job) == "FULFILLED" {
        status["completionDate"] = json!(date_time(now));
        status["expirationDate"] = json!(date_time(now + KEPT));
    }
    Ok(Json(status))
}

fn state(job: &DetailsJob) -> &'static str {
    match job.looks {
        0 | 1 => "QUEUED",
        2 => "PENDING",
        _ => "FULFILLED",
    }
}

async fn results(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, ApiError> {
    let organization = enter(&shared);
    let job = organization.details_jobs.get(&id).ok_or_else(|| missing(&id))?;
    if state(job) != "FULFILLED" {
        return Err(ApiError::bad_request(format!("The job {id} is not fulfilled: it is {}.", state(job))));
    }
    let size = query.get("pageSize").map_or(Ok(PAGE.0), |size| size.parse().map_err(|_| size));
    let size = size.ok().filter(|size| (1..=PAGE.1).contains(size));
    let size = size.ok_or_else(|| ApiError::bad_request(format!("pageSize is from 1 to {}", PAGE.1)))?;
    let first = match query.get("cursor") {
        None => 0,
        Some(cursor) => after(cursor, job.found.len()).ok_or_else(|| ApiError::bad_request(format!("cursor `{cursor}` is not known")))?,
    };
    let page = job.found.iter().skip(first).take(size).filter_map(|found| conversation(&organization, found));
    let mut answer = json!({"conversations": page.collect::<Vec<_>>(), "dataAvailabilityDate": date_time(job.submitted - LAG)});
    if first + size < job.found.len() {
        answer["cursor"] = json!(format!("from-{}", first + size));
    }
    sized(&organization, &answer)
}

/// Where the page of a cursor begins.
fn after(cursor: &str, found: usize) -> Option<usize> {
    cursor.strip_prefix("from-")?.parse().ok().filter(|first| (1..found).contains(first))
}

fn conversation(organization: &Organization, (start, id): &(i64, String)) -> Option<Value> {
    let conversation = organization.reports.begun(*start, start + 1).find(|conversation| conversation.id == *id)?;
    Some(conversation_json(organization, conversation, true))
}

async fn remove(State(shared): State<Shared>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    enter(&shared).details_jobs.remove(&id).map(|_| StatusCode::NO_CONTENT).ok_or_else(|| missing(&id))
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("not.found", format!("Could not find job {id}."))
}
