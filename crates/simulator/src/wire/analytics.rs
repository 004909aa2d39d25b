//! `POST /api/v2/analytics/flows/aggregates/query`: counts of what has arrived, never a row of zeros. Conversations are in `details`.

pub(super) mod details;
mod jobs;

use super::error::ApiError;
use crate::callers::Exit;
use crate::flow::date_time;
use crate::organization::{Organization, Shared, enter};
use crate::reports::{Cell, Key, Kind};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serin_core::cohort::Cohort;
use std::collections::BTreeMap;

/// What the vendor lets one group by; those that are never set here give no key.
const DIMENSIONS: [&str; 11] = [
    "flowId",
    "flowName",
    "flowType",
    "flowVersion",
    "exitReason",
    "transferType",
    "mediaType",
    "dnis",
    "flowOutcomeId",
    "flowOutcomeValue",
    "flowMilestoneId",
];
/// The vendor's metrics for flows; those that are never measured here give no row.
const METRICS: [&str; 9] = [
    "nFlow",
    "nFlowOutcome",
    "nFlowOutcomeFailed",
    "nFlowMilestone",
    "oFlowMilestone",
    "tFlow",
    "tFlowDisconnect",
    "tFlowExit",
    "tFlowOutcome",
];

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/api/v2/analytics/flows/aggregates/query", post(query)).merge(details::routes()).merge(jobs::routes())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    interval: Option<String>,
    granularity: Option<String>,
    #[serde(default)]
    group_by: Vec<String>,
    filter: Option<Filter>,
    #[serde(default)]
    metrics: Vec<String>,
}

#[derive(Deserialize)]
struct Filter {
    #[serde(rename = "type")]
    kind: Junction,
    #[serde(default)]
    clauses: Vec<Clause>,
    #[serde(default)]
    predicates: Vec<Predicate>,
}

#[derive(Deserialize)]
struct Clause {
    #[serde(rename = "type")]
    kind: Junction,
    #[serde(default)]
    predicates: Vec<Predicate>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Junction {
    And,
    Or,
}

#[derive(Deserialize)]
struct Predicate {
    #[serde(rename = "type")]
    kind: Option<String>,
    dimension: Option<String>,
    #[serde(default)]
    operator: Operator,
    value: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Operator {
    #[default]
    Matches,
    Exists,
    NotExists,
}

/// A request that was understood.
struct Query {
    from: i64,
    to: i64,
    step: i64,
    request: Request,
}

async fn query(State(shared): State<Shared>, body: Bytes) -> Result<Response, ApiError> {
    let request: Request = serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let query = understand(request).map_err(ApiError::bad_request)?;
    let organization = enter(&shared);
    within_limit(&organization, query.request.filter.as_ref().map_or(0, |filter| filter.predicates().count()))?;
    sized(&organization, &answer(&organization, &query))
}

/// Refuses a query of more predicates than the vendor takes.
fn within_limit(organization: &Organization, predicates: usize) -> Result<(), ApiError> {
    let most = organization.settings.most_predicates;
    let refused = || ApiError::bad_request(format!("the query has {predicates} predicates: at most {most} are accepted"));
    (predicates <= most).then_some(()).ok_or_else(refused)
}

/// The answer, unless it is larger than the vendor's may be.
fn sized(organization: &Organization, answer: &Value) -> Result<Response, ApiError> {
    let text = answer.to_string();
    let largest = organization.settings.largest_answer;
    if text.len() > largest {
        let message = format!("The answer has {} bytes: at most {largest} are sent. Ask for less.", text.len());
        return Err(ApiError::new(413, "response.entity.too.large", message));
    }
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

fn understand(request: Request) -> Result<Query, String> {
    let interval = request.interval.as_deref().ok_or("interval is required")?;
    let ends = interval.split_once('/').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to): (Timestamp, Timestamp) = ends.ok_or_else(|| format!("interval `{interval}` is not accepted"))?;
    if from >= to {
        return Err(format!("interval `{interval}` is empty"));
    }
    let (from, to) = (from.as_millisecond(), to.as_millisecond());
    let step = match &request.granularity {
        None => to - from,
        Some(text) => granularity(text).ok_or_else(|| format!("granularity `{text}` is not accepted"))?,
    };
    if request.metrics.is_empty() {
        return Err("metrics is required".to_owned());
    }
    if let Some(unknown) = request.metrics.iter().find(|metric| !METRICS.contains(&metric.as_str())) {
        return Err(format!("metric `{unknown}` is not known"));
    }
    if let Some(unknown) = request.group_by.iter().find(|dimension| !DIMENSIONS.contains(&dimension.as_str())) {
        return Err(format!("dimension `{unknown}` is not known"));
    }
    if let Some(filter) = &request.filter {
        filter.predicates().try_for_each(Predicate::check)?;
    }
    Ok(Query { from, to, step, request })
}

/// Milliseconds of a granularity of whole minutes, `PT1M` to `P1D`.
fn granularity(text: &str) -> Option<i64> {
    let duration = if text == "P1D" { SignedDuration::from_hours(24) } else { text.parse().ok()? };
    let whole = duration.as_secs() > 0 && duration.as_secs() % 60 == 0 && duration.subsec_nanos() == 0;
    (text.starts_with('P') && whole).then(|| duration.as_secs() * 1000)
}

impl Predicate {
    fn check(&self) -> Result<(), String> {
        if let Some(other) = self.kind.as_deref().filter(|kind| *kind != "dimension") {
            return Err(format!("predicate type `{other}` is not accepted"));
        }
        let dimension = self.dimension.as_deref().unwrap_or_default();
        if !DIMENSIONS.contains(&dimension) {
            return Err(format!("dimension `{dimension}` is not known"));
        }
        if self.operator == Operator::Matches && self.value.is_none() {
            return Err(format!("the predicate on `{dimension}` has no value"));
        }
        Ok(())
    }

    fn holds(&self, organization: &Organization, key: &Key) -> bool {
        let value = self.dimension.as_deref().and_then(|dimension| dimension_of(organization, key, dimension));
        match self.operator {
            Operator::Matches => value.is_some() && value == self.value.as_deref(),
            Operator::Exists => value.is_some(),
            Operator::NotExists => value.is_none(),
        }
    }
}

impl Filter {
    fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        self.predicates.iter().chain(self.clauses.iter().flat_map(|clause| &clause.predicates))
    }

    fn holds(&self, organization: &Organization, key: &Key) -> bool {
        let clause = |clause: &Clause| join(clause.kind, clause.predicates.iter().map(|p| p.holds(organization, key)));
        join(self.kind, self.predicates.iter().map(|p| p.holds(organization, key)).chain(self.clauses.iter().map(clause)))
    }
}

fn join(kind: Junction, mut parts: impl Iterator<Item = bool>) -> bool {
    match kind {
        Junction::And => parts.all(|holds| holds),
        Junction::Or => parts.any(|holds| holds),
    }
}

/// What a cell says about a dimension, if anything.
fn dimension_of<'a>(organization: &'a Organization, key: &Key, dimension: &str) -> Option<&'a str> {
    let flow = &organization.flows[key.flow];
    let exit = match key.kind {
        Kind::Exit(exit) => Some(exit),
        Kind::Entry | Kind::Outcome { .. } => None,
    };
    match dimension {
        "dnis" => Some(organization.reports.dnis(key.number)),
        "flowOutcomeId" | "flowOutcomeValue" => outcome(organization, key.kind, dimension),
        "mediaType" => Some("voice"),
        "flowId" => Some(&flow.id),
        "flowName" => Some(&flow.name),
        "flowType" => Some("INBOUNDCALL"),
        "flowVersion" => Some(&flow.versions[key.version].number),
        "exitReason" => exit.map(exit_reason),
        "transferType" => transfer_type(exit?),
        _ => None,
    }
}

/// Only what an outcome's end emits has an outcome.
fn outcome<'a>(organization: &'a Organization, kind: Kind, dimension: &str) -> Option<&'a str> {
    let Kind::Outcome { slot, branch, failed } = kind else { return None };
    Some(if dimension == "flowOutcomeId" { outcome_id(organization, slot, branch) } else { outcome_value(failed) })
}

fn outcome_id(organization: &Organization, slot: usize, branch: Cohort) -> &str {
    let slot = &organization.slots[slot];
    match branch {
        Cohort::Stable => &slot.stable_outcome.id,
        Cohort::Canary => &slot.canary_outcome.id,
    }
}

fn outcome_value(failed: bool) -> &'static str {
    if failed { "FAILURE" } else { "SUCCESS" }
}

fn exit_reason(exit: Exit) -> &'static str {
    match exit {
        Exit::Error => "FLOW_ERROR_DISCONNECT",
        Exit::Abandon => "DISCONNECT",
        Exit::Contained => "FLOW_DISCONNECT",
        Exit::Transfer | Exit::ToFlow => "TRANSFER",
    }
}

fn transfer_type(exit: Exit) -> Option<&'static str> {
    match exit {
        Exit::Transfer => Some("ACD"),
        Exit::ToFlow => Some("FLOW"),
        _ => None,
    }
}

/// Whether a metric counts a cell.
fn counts(metric: &str, kind: Kind) -> bool {
    match (metric, kind) {
        ("nFlow", Kind::Entry) | ("tFlow", Kind::Exit(_)) => true,
        ("tFlowDisconnect", Kind::Exit(exit)) => matches!(exit, Exit::Error | Exit::Abandon | Exit::Contained),
        ("tFlowExit", Kind::Exit(exit)) => matches!(exit, Exit::Transfer | Exit::ToFlow),
        ("nFlowOutcome" | "tFlowOutcome", Kind::Outcome { .. }) | ("nFlowOutcomeFailed", Kind::Outcome { failed: true, .. }) => true,
        _ => false,
    }
}

/// Cells of one group, by time and by metric in the order asked for.
type Times = BTreeMap<i64, BTreeMap<usize, Cell>>;

fn answer(organization: &Organization, query: &Query) -> Value {
    let request = &query.request;
    let mut dimensions = vec!["mediaType"];
    dimensions.extend(request.group_by.iter().map(String::as_str).filter(|dimension| *dimension != "mediaType"));
    // A query by outcome is about outcomes: what has none is in no group.
    let by_outcome = dimensions.iter().any(|dimension| dimension.starts_with("flowOutcome"));
    let mut groups: BTreeMap<Vec<Option<&str>>, Times> = BTreeMap::new();
    for (key, cell) in organization.reports.between(query.from, query.to) {
        let is_meant = !by_outcome || matches!(key.kind, Kind::Outcome { .. });
        if !is_meant || request.filter.as_ref().is_some_and(|filter| !filter.holds(organization, key)) {
            continue;
        }
        let metrics = request.metrics.iter().enumerate().filter(|(_, metric)| counts(metric, key.kind));
        for (position, _) in metrics {
            let group = dimensions.iter().map(|dimension| dimension_of(organization, key, dimension)).collect();
            let time = (key.minute * 60_000 - query.from) / query.step;
            let cells = groups.entry(group).or_default().entry(time).or_default();
            cells.entry(position).and_modify(|sum| sum.add(*cell)).or_insert(*cell);
        }
    }
    let results: Vec<Value> = groups.into_iter().map(|(group, times)| container(query, &dimensions, &group, times)).collect();
    if results.is_empty() { json!({}) } else { json!({"results": results}) }
}

fn container(query: &Query, dimensions: &[&str], group: &[Option<&str>], times: Times) -> Value {
    let named = dimensions.iter().zip(group).filter_map(|(dimension, value)| Some(((*dimension).to_owned(), json!((*value)?))));
    let data: Vec<Value> = times
        .into_iter()
        .map(|(time, cells)| {
            let from = query.from + time * query.step;
            let metrics: Vec<Value> = cells.into_iter().map(|(position, cell)| metric(&query.request.metrics[position], cell)).collect();
            json!({"interval": interval(from, (from + query.step).min(query.to)), "metrics": metrics, "views": []})
        })
        .collect();
    json!({"group": named.collect::<Map<_, _>>(), "data": data})
}

fn metric(name: &str, cell: Cell) -> Value {
    let stats = if name.starts_with('n') {
        json!({"count": cell.count})
    } else {
        json!({"count": cell.count, "sum": cell.sum_ms, "min": cell.min_ms, "max": cell.max_ms})
    };
    json!({"metric": name, "stats": stats})
}

fn interval(from: i64, to: i64) -> String {
    let text = |ms| Timestamp::from_millisecond(ms).map(date_time).unwrap_or_default();
    format!("{}/{}", text(from), text(to))
}
