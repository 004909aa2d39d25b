//! Measuring cohorts: flow aggregates by minute, from rows to counts.
//!
//! What the vendor has no row for is unknown. A minute without rows gives no window, never one of zeros.

use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::operations;
use crate::token::CredentialsSource;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use serin_controller::ports::{Analytics, Changed, Clock, CohortFlows, Running, Unmeasured};
use serin_core::cohort::Cohort;
use serin_core::measurement::{self, Counts, Window};
use std::collections::{BTreeMap, BTreeSet};

/// Flows of one query, two per rollout.
const ROLLOUTS_PER_QUERY: usize = 50;
/// Its count is the number of calls that left the flow; entries are another metric.
const EXITS: &str = "tFlow";
const DOING: &str = "measuring flows";

impl<S: CredentialsSource, C: Clock> Analytics for Genesys<S, C> {
    async fn measure(&self, flows: &[CohortFlows], from: Timestamp, to: Timestamp) -> Result<Vec<Vec<Window>>, Unmeasured> {
        if from >= to {
            return Ok(vec![Vec::new(); flows.len()]);
        }
        let until = self.deadline();
        let mut measured = Vec::with_capacity(flows.len());
        for batch in flows.chunks(ROLLOUTS_PER_QUERY) {
            let request = Request {
                operation: &operations::QUERY_FLOW_AGGREGATES,
                doing: DOING.to_owned(),
                path: &[],
                query: &[],
                body: Some(query(batch, from, to)),
            };
            let answer: Aggregates = self.call(&request, until).await?;
            let rows = answer.rows()?;
            measured.extend(batch.iter().map(|cohorts| windows(cohorts, &rows, from, to)));
        }
        self.add_details(flows, &mut measured, to, until).await;
        Ok(measured)
    }

    async fn running(&self, flow: &str) -> Result<Running, Unmeasured> {
        Ok(self.runs_now(flow).await?)
    }

    async fn changed_by(&self, _what: Changed<'_>, _since: Timestamp) -> Option<String> {
        None
    }
}

fn query(flows: &[CohortFlows], from: Timestamp, to: Timestamp) -> Value {
    let ids: BTreeSet<&str> = flows.iter().flat_map(|f| [f.stable.0.as_str(), f.canary.0.as_str()]).collect();
    let one = |id| json!({"type": "dimension", "dimension": "flowId", "operator": "matches", "value": id});
    let time = |t: Timestamp| t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    json!({
        "interval": format!("{}/{}", time(from), time(to)),
        "granularity": "PT1M",
        "groupBy": ["flowId", "flowVersion", "exitReason", "transferType"],
        "filter": {"type": "or", "predicates": ids.into_iter().map(one).collect::<Vec<_>>()},
        "metrics": [EXITS],
    })
}

#[derive(Deserialize)]
struct Aggregates {
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

/// Calls of one version of a flow that ended in one way in one minute.
struct Row {
    flow: String,
    version: String,
    minute: Timestamp,
    end: End,
    calls: u32,
}

/// How a call left the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Error,
    Abandon,
    Transfer,
    Contained,
}

impl Aggregates {
    fn rows(self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for Container { group, data } in self.results.unwrap_or_default() {
            // Without a version a row belongs to no cohort, and without a reason it says nothing: calls that ended in no known way
            // must not count as served ones.
            let (Some(flow), Some(version), Some(reason)) = (group.flow_id, group.flow_version, group.exit_reason) else {
                return Err(unreadable("rows come without flow, version or exit reason"));
            };
            let end = end(&reason, group.transfer_type.as_deref());
            for data in data {
                let minute = data.interval.split_once('/').and_then(|(start, _)| start.parse().ok());
                let minute = minute.map(measurement::minute).ok_or_else(|| unreadable("rows come without the minute they are of"))?;
                let exits = data.metrics.iter().filter(|m| m.metric == EXITS).map(|m| m.stats.count).sum::<f64>();
                // Saturates; a negative or undefined count becomes 0.
                rows.push(Row { flow: flow.clone(), version: version.clone(), minute, end, calls: exits.round() as u32 });
            }
        }
        Ok(rows)
    }
}

fn unreadable(message: &str) -> Error {
    Error::Unexpected { doing: DOING.to_owned(), status: 200, code: "unreadable".to_owned(), message: message.to_owned() }
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

/// One window for each minute in which a row was seen on either side.
fn windows(cohorts: &CohortFlows, rows: &[Row], from: Timestamp, to: Timestamp) -> Vec<Window> {
    let mut by_minute: BTreeMap<Timestamp, Window> = BTreeMap::new();
    for row in rows.iter().filter(|row| from <= row.minute && row.minute < to) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

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
        let query = query(&[pair("a", "b"), pair("a", "c")], from, from + SignedDuration::from_mins(5));
        assert_eq!(query["interval"], "2026-11-20T10:00:00.000Z/2026-11-20T10:05:00.000Z");
        let asked: Vec<&str> = query["filter"]["predicates"].as_array().unwrap().iter().map(|p| p["value"].as_str().unwrap()).collect();
        assert_eq!(asked, ["a", "b", "c"]);
    }
}
