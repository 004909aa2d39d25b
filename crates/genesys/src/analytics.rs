//! Measuring cohorts: flow aggregates by minute, from rows to counts.
//!
//! What the vendor has no row for is unknown. A minute without rows gives no window, never one of zeros.

use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::operations;
use crate::token::CredentialsSource;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use serin_controller::ports::{Analytics, Changed, Clock, CohortFlows, Running, Unmeasured};
use serin_core::cohort::Cohort;
use serin_core::measurement::{self, Counts, Window};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Flows of one query, two per rollout: 1,000 rollouts are ten queries, and with the details' pages 22 of a minute's 300 requests.
const ROLLOUTS_PER_QUERY: usize = 100;
/// Its count is the number of calls that left the flow; entries are another metric.
const EXITS: &str = "tFlow";
/// Their counts are the outcomes that calls began, and those of them that failed.
const OUTCOMES: &str = "nFlowOutcome";
const FAILED_OUTCOMES: &str = "nFlowOutcomeFailed";
const DOING: &str = "measuring flows";

impl<S: CredentialsSource, C: Clock> Analytics for Genesys<S, C> {
    async fn measure(&self, flows: &[CohortFlows], from: Timestamp, to: Timestamp) -> Result<Vec<Vec<Window>>, Unmeasured> {
        let mut measured = vec![Vec::new(); flows.len()];
        if from >= to {
            return Ok(measured);
        }
        let until = self.deadline();
        let (branches, slots): (Vec<usize>, Vec<usize>) = (0..flows.len()).partition(|i| flows[*i].outcomes.is_some());
        for (source, asked) in [(Source::Exits, slots), (Source::Outcomes, branches)] {
            let whole = asked.chunks(ROLLOUTS_PER_QUERY).rev().map(|batch| Batch { of: batch, from, to });
            let mut batches: Vec<Batch<'_>> = whole.collect();
            while let Some(batch) = batches.pop() {
                let cohorts: Vec<&CohortFlows> = batch.of.iter().map(|at| &flows[*at]).collect();
                let answer = self.aggregates(DOING, source.query(&cohorts, batch.from, batch.to), until).await;
                if answer.as_ref().is_err_and(Error::is_too_much)
                    && let Some([first, second]) = batch.halves()
                {
                    batches.extend([second, first]);
                    continue;
                }
                let told = source.read(answer?, &cohorts, batch.from, batch.to)?;
                batch.of.iter().zip(told).for_each(|(at, windows)| measured[*at].extend(windows));
            }
        }
        self.add_details(flows, &mut measured, to, until).await;
        Ok(measured)
    }

    async fn running(&self, flow: &str) -> Result<Running, Unmeasured> {
        Ok(self.runs_now(flow).await?)
    }

    async fn changed_by(&self, what: Changed<'_>, since: Timestamp) -> Option<String> {
        self.last_change(what, since).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "who made a change by hand is not known; the change itself is");
            None
        })
    }
}

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    pub(crate) async fn aggregates(&self, doing: &str, query: Value, until: Timestamp) -> Result<Aggregates, Error> {
        self.call(&Request { body: Some(query), ..Request::of(&operations::QUERY_FLOW_AGGREGATES, doing) }, until).await
    }
}

/// A span of time as the vendor writes it.
pub(crate) fn interval(from: Timestamp, to: Timestamp) -> String {
    let time = |t: Timestamp| t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    format!("{}/{}", time(from), time(to))
}

/// Rows of which a dimension is this.
pub(crate) fn is(dimension: &str, value: &str) -> Value {
    json!({"type": "dimension", "dimension": dimension, "operator": "matches", "value": value})
}

/// Rows of the cohorts' flows.
pub(crate) fn of_flows(flows: &[&CohortFlows]) -> Value {
    let ids: BTreeSet<&str> = flows.iter().flat_map(|f| [f.stable.0.as_str(), f.canary.0.as_str()]).collect();
    json!({"type": "or", "predicates": ids.into_iter().map(|id| is("flowId", id)).collect::<Vec<_>>()})
}

/// What tells the cohorts apart, and so what is counted.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Two flows, or two versions of one: how calls left them.
    Exits,
    /// Two branches of one flow: the outcome that each of them begins and ends.
    Outcomes,
}

/// What one query asks: rollouts by their place, and minutes.
#[derive(Clone, Copy)]
struct Batch<'a> {
    of: &'a [usize],
    from: Timestamp,
    to: Timestamp,
}

impl Batch<'_> {
    /// Fewer rollouts, or of one rollout fewer minutes, the earlier ones first; `None` where it is one minute of one.
    fn halves(&self) -> Option<[Self; 2]> {
        if self.of.len() > 1 {
            let (first, second) = self.of.split_at(self.of.len() / 2);
            return Some([Batch { of: first, ..*self }, Batch { of: second, ..*self }]);
        }
        let minutes = self.to.duration_since(self.from).as_mins();
        let middle = self.from + SignedDuration::from_mins(minutes / 2);
        (minutes > 1).then_some([Batch { to: middle, ..*self }, Batch { from: middle, ..*self }])
    }
}

impl Source {
    fn query(self, flows: &[&CohortFlows], from: Timestamp, to: Timestamp) -> Value {
        let (by, metrics) = match self {
            Source::Exits => (vec!["flowId", "flowVersion", "exitReason", "transferType"], vec![EXITS]),
            Source::Outcomes => (vec!["flowId", "flowVersion", "flowOutcomeId"], vec![OUTCOMES, FAILED_OUTCOMES]),
        };
        json!({
            "interval": interval(from, to),
            "granularity": "PT1M",
            "groupBy": by,
            "filter": of_flows(flows),
            "metrics": metrics,
        })
    }

    /// The windows of each of the cohorts.
    fn read(self, answer: Aggregates, flows: &[&CohortFlows], from: Timestamp, to: Timestamp) -> Result<Vec<Vec<Window>>, Error> {
        match self {
            Source::Exits => {
                let rows = by_flow(answer.rows()?, |row| &row.flow);
                Ok(flows.iter().map(|cohorts| windows(cohorts, &rows, from, to)).collect())
            }
            Source::Outcomes => {
                let rows = by_flow(answer.outcomes()?, |row| &row.flow);
                Ok(flows.iter().map(|cohorts| branches(cohorts, &rows, from, to)).collect())
            }
        }
    }
}

/// Rows of the vendor's.
#[derive(Deserialize)]
pub(crate) struct Aggregates {
    /// Absent when there is no data at all.
    #[serde(default)]
    results: Option<Vec<Container>>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    group: Group,
    #[serde(default)]
    data: Vec<Data>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Group {
    flow_id: Option<String>,
    flow_version: Option<String>,
    exit_reason: Option<String>,
    transfer_type: Option<String>,
    flow_outcome_id: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    interval: String,
    #[serde(default)]
    metrics: Vec<MetricData>,
}

#[derive(Deserialize)]
struct MetricData {
    metric: String,
    #[serde(default)]
    stats: Stats,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Stats {
    count: f64,
}

impl Data {
    fn minute(&self) -> Result<Timestamp, Error> {
        let start = self.interval.split_once('/').and_then(|(start, _)| start.parse().ok());
        start.map(measurement::minute).ok_or_else(|| unreadable("rows come without the minute they are of"))
    }

    /// Saturates; a negative or undefined count is 0.
    fn count(&self, metric: &str) -> u32 {
        self.metrics.iter().filter(|m| m.metric == metric).map(|m| m.stats.count).sum::<f64>().round() as u32
    }
}

/// Calls of one version of a flow that ended in one way in one minute.
pub(crate) struct Row {
    flow: String,
    version: String,
    minute: Timestamp,
    pub(crate) end: End,
    pub(crate) calls: u32,
}

/// An outcome in one minute.
struct OutcomeRow {
    flow: String,
    version: Option<String>,
    outcome: String,
    minute: Timestamp,
    begun: u32,
    failed: u32,
}

/// How a call left the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Error,
    Abandon,
    Transfer,
    Contained,
}

impl Aggregates {
    /// How calls left their flows.
    pub(crate) fn rows(self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for Container { group, data } in self.results.unwrap_or_default() {
            // Without a version a row belongs to no cohort, and without a reason it says nothing: calls that ended in no known way
            // must not count as served ones.
            let (Some(flow), Some(version), Some(reason)) = (group.flow_id, group.flow_version, group.exit_reason) else {
                return Err(unreadable("rows come without flow, version or exit reason"));
            };
            let end = end(&reason, group.transfer_type.as_deref());
            for data in data {
                let (minute, calls) = (data.minute()?, data.count(EXITS));
                rows.push(Row { flow: flow.clone(), version: version.clone(), minute, end, calls });
            }
        }
        Ok(rows)
    }

    /// Outcomes that calls began. A flow may begin others, or none: those rows are no cohort's.
    fn outcomes(self) -> Result<Vec<OutcomeRow>, Error> {
        let mut rows = Vec::new();
        for Container { group, data } in self.results.unwrap_or_default() {
            let flow = group.flow_id.ok_or_else(|| unreadable("rows come without the flow they are of"))?;
            let Some(outcome) = group.flow_outcome_id else { continue };
            for data in data {
                let (minute, begun, failed) = (data.minute()?, data.count(OUTCOMES), data.count(FAILED_OUTCOMES));
                let (flow, version, outcome) = (flow.clone(), group.flow_version.clone(), outcome.clone());
                rows.push(OutcomeRow { flow, version, outcome, minute, begun, failed });
            }
        }
        Ok(rows)
    }
}

fn unreadable(message: &str) -> Error {
    Error::unreadable(DOING, message)
}

/// The vendor's exit reasons and transfer types, whatever their case. Whatever is not an error, a hang-up of the caller or a transfer
/// to an agent was served by the flow, the hand-over to another flow included.
fn end(reason: &str, transfer: Option<&str>) -> End {
    match reason.to_ascii_uppercase().as_str() {
        "FLOW_ERROR_DISCONNECT" | "FLOW_ERROR_EXIT" => End::Error,
        "DISCONNECT" => End::Abandon,
        "TRANSFER" if transfer.is_some_and(is_to_agent) => End::Transfer,
        _ => End::Contained,
    }
}

fn is_to_agent(transfer: &str) -> bool {
    let agents = ["ACD", "USER", "GROUP", "NUMBER", "ACD_VOICEMAIL", "USER_VOICEMAIL", "GROUP_VOICEMAIL", "RETURN_TO_AGENT"];
    agents.iter().any(|agent| agent.eq_ignore_ascii_case(transfer))
}

/// Every rollout looks at the rows of its own flows alone: a query has many of both.
type ByFlow<R> = HashMap<String, Vec<R>>;

fn by_flow<R>(rows: Vec<R>, flow: impl Fn(&R) -> &String) -> ByFlow<R> {
    let mut by_flow: ByFlow<R> = HashMap::new();
    for row in rows {
        by_flow.entry(flow(&row).clone()).or_default().push(row);
    }
    by_flow
}

fn of_cohorts<'a, R>(rows: &'a ByFlow<R>, cohorts: &'a CohortFlows) -> impl Iterator<Item = &'a R> {
    let flows = BTreeSet::from([&cohorts.stable.0, &cohorts.canary.0]);
    flows.into_iter().filter_map(|flow| rows.get(flow)).flatten()
}

/// One window for each minute in which a row was seen on either side.
fn windows(cohorts: &CohortFlows, rows: &ByFlow<Row>, from: Timestamp, to: Timestamp) -> Vec<Window> {
    let mut by_minute: BTreeMap<Timestamp, Window> = BTreeMap::new();
    for row in of_cohorts(rows, cohorts).filter(|row| from <= row.minute && row.minute < to) {
        let runs = |(flow, version): &(String, String)| *flow == row.flow && *version == row.version;
        let sides = [(Cohort::Stable, &cohorts.stable), (Cohort::Canary, &cohorts.canary)];
        for (cohort, _) in sides.into_iter().filter(|(_, side)| runs(side)) {
            let window = by_minute.entry(row.minute).or_insert_with(|| Window { start: row.minute, counts: Default::default() });
            count(window.counts.side(cohort), row);
        }
    }
    by_minute.into_values().collect()
}

fn count(counts: &mut Counts, row: &Row) {
    let way = match row.end {
        End::Error => &mut counts.errors,
        End::Abandon => &mut counts.abandons,
        End::Transfer => &mut counts.transfers,
        End::Contained => &mut counts.contained,
    };
    *way = way.saturating_add(row.calls);
    counts.calls = counts.calls.saturating_add(row.calls);
}

/// One window for each minute in which a branch began its outcome. A branch that fails its outcome is an error, whatever became of the
/// call; how else it ended the outcome does not tell.
fn branches(cohorts: &CohortFlows, rows: &ByFlow<OutcomeRow>, from: Timestamp, to: Timestamp) -> Vec<Window> {
    let Some(outcomes) = &cohorts.outcomes else { return Vec::new() };
    let mut by_minute: BTreeMap<Timestamp, Window> = BTreeMap::new();
    for row in of_cohorts(rows, cohorts).filter(|row| from <= row.minute && row.minute < to) {
        let sides = [(Cohort::Stable, &cohorts.stable, &outcomes.stable), (Cohort::Canary, &cohorts.canary, &outcomes.canary)];
        let is_of = |(flow, version): &(String, String), outcome: &String| {
            *flow == row.flow && *outcome == row.outcome && row.version.as_ref().is_none_or(|v| v == version)
        };
        for (cohort, _, _) in sides.into_iter().filter(|(_, side, outcome)| is_of(side, outcome)) {
            let window = by_minute.entry(row.minute).or_insert_with(|| Window { start: row.minute, counts: Default::default() });
            let counts = window.counts.side(cohort);
            // No failure goes missing, should the vendor tell it in another minute than its beginning.
            counts.calls = counts.calls.saturating_add(row.begun.max(row.failed));
            counts.errors = counts.errors.saturating_add(row.failed);
            counts.contained = counts.contained.saturating_add(row.begun.saturating_sub(row.failed));
        }
    }
    by_minute.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_leave_a_flow_is_counted_as_one_end() {
        for (reason, transfer, expected) in [
            ("FLOW_ERROR_DISCONNECT", None, End::Error),
            ("flow_error_exit", None, End::Error),
            ("DISCONNECT", None, End::Abandon),
            ("FLOW_DISCONNECT", None, End::Contained),
            ("TRANSFER", Some("ACD"), End::Transfer),
            ("transfer", Some("group_voicemail"), End::Transfer),
            ("TRANSFER", Some("NUMBER"), End::Transfer),
            ("TRANSFER", Some("RETURN_TO_AGENT"), End::Transfer),
            ("TRANSFER", Some("FLOW"), End::Contained),
            ("TRANSFER", Some("SECURE_FLOW"), End::Contained),
            ("SESSION_EXPIRE_DISCONNECT", None, End::Contained),
            ("RECOGNITION_FAILURE_EXIT", None, End::Contained),
            ("FLOW_EXIT", None, End::Contained),
            ("UNKNOWN", None, End::Contained),
        ] {
            assert_eq!(end(reason, transfer), expected, "{reason} {transfer:?}");
        }
    }

    #[test]
    fn one_query_asks_for_every_flow_once() {
        let pair = |stable: &str, canary: &str| CohortFlows {
            stable: (stable.into(), "1".into()),
            canary: (canary.into(), "2".into()),
            outcomes: None,
        };
        let from: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let query = Source::Exits.query(&[&pair("a", "b"), &pair("a", "c")], from, from + SignedDuration::from_mins(5));
        assert_eq!(query["interval"], "2026-11-20T10:00:00.000Z/2026-11-20T10:05:00.000Z");
        let asked: Vec<&str> = query["filter"]["predicates"].as_array().unwrap().iter().map(|p| p["value"].as_str().unwrap()).collect();
        assert_eq!(asked, ["a", "b", "c"]);
    }
}
