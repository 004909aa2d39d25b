//! What flow aggregates cannot tell: how long agents took, and how callers fared in the queue. From conversation details.
//!
//! Read from the conversations that ended last to those that ended first, within a budget of pages a tick that all flows share. A minute
//! is told whole or not at all: one that the budget, an error or a strange answer leaves unread stays unknown. Left out: conversations
//! that never reached a queue or an agent, and those that went through both cohorts, which tell nothing of either.

use crate::analytics::{interval, of_flows};
use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::operations;
use crate::token::CredentialsSource;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use serin_controller::ports::{Clock, CohortFlows};
use serin_core::cohort::Cohort;
use serin_core::measurement::{Queue, Times, WINDOW, Window, minute};
use std::collections::{BTreeMap, HashSet};

/// Rollouts of one query, two flows each: a thousand of them are fewer batches than there are pages.
const ROLLOUTS_PER_QUERY: usize = 100;
/// The most that the vendor gives at once.
const PAGE: usize = 100;
/// Details trail: after-call work ends later than the call. Earlier minutes were told by earlier ticks.
const REACH: SignedDuration = SignedDuration::from_mins(15);
/// Conversations that lasted longer may be left out by the vendor, who goes by the day on which they began.
const LONGEST: SignedDuration = SignedDuration::from_hours(2);
/// A verdict on the counts must not wait long for figures that nobody may need.
const PATIENCE: SignedDuration = SignedDuration::from_secs(3);
const DOING: &str = "reading conversation details";

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// Adds times and queues to the latest windows where they can be had; elsewhere they stay unknown, and the counts as they are.
    pub(crate) async fn add_details(&self, flows: &[CohortFlows], measured: &mut [Vec<Window>], to: Timestamp, until: Timestamp) {
        let from = to - REACH;
        let has_calls = |windows: &[Window]| windows.iter().any(|w| w.start >= from && w.has_data());
        // Conversations tell the flow, not which of its branches.
        let asked: Vec<usize> = (0..flows.len()).filter(|i| flows[*i].outcomes.is_none() && has_calls(&measured[*i])).collect();
        let (mut budget, until) = (self.settings.detail_pages, until.min(self.clock.now() + PATIENCE));
        let batches: Vec<&[usize]> = if budget == 0 { Vec::new() } else { asked.chunks(ROLLOUTS_PER_QUERY).collect() };
        let mut untold = Vec::new();
        for (i, batch) in batches.iter().enumerate() {
            let cohorts: Vec<&CohortFlows> = batch.iter().map(|at| &flows[*at]).collect();
            // What one batch leaves of its share is the others'.
            let pages = budget.div_ceil(u32::try_from(batches.len() - i).unwrap_or(u32::MAX));
            let read = self.read(&cohorts, (from, to), pages, until).await;
            budget -= read.pages;
            for (at, cohorts) in batch.iter().zip(cohorts) {
                tell(cohorts, &read, &mut measured[*at]);
            }
            untold.extend(read.untold);
            if read.failed {
                break;
            }
        }
        if !untold.is_empty() {
            let reason = untold.join("; ");
            tracing::warn!(reason, "handle times and queues of some minutes are not known; the calls themselves are");
        }
    }

    /// Never fails: what could not be read is not told.
    async fn read(&self, flows: &[&CohortFlows], (from, to): (Timestamp, Timestamp), budget: u32, until: Timestamp) -> Read {
        let mut read = Read { conversations: Vec::new(), told_from: to, pages: 0, failed: false, untold: None };
        let mut seen = HashSet::new();
        let mut earliest = Timestamp::MAX;
        while read.pages < budget {
            read.pages += 1;
            let page = match self.page(flows, (from, to), read.pages, until).await {
                Ok(page) => page,
                Err(error) => {
                    (read.failed, read.untold) = (true, Some(error.to_string()));
                    return read;
                }
            };
            let full = page.len() >= PAGE;
            for conversation in page {
                // One that ended while we read shifts the pages, so that some come twice.
                if !seen.insert(conversation.conversation_id.clone()) {
                    continue;
                }
                let Some(end) = conversation.conversation_end.filter(|end| *end <= earliest) else {
                    (read.failed, read.untold) = (true, Some(format!("{DOING}: they do not come in the order of their ends")));
                    return read;
                };
                earliest = end;
                read.conversations.push((end, conversation));
            }
            if !full || earliest < from {
                read.told_from = from;
                return read;
            }
            // Its minute may go on on the next page.
            read.told_from = to.min(minute(earliest) + WINDOW);
        }
        read.untold = Some(format!("{budget} pages of conversation details reach back to {:.0} only", read.told_from));
        read
    }

    async fn page(
        &self,
        flows: &[&CohortFlows],
        (from, to): (Timestamp, Timestamp),
        number: u32,
        until: Timestamp,
    ) -> Result<Vec<Conversation>, Error> {
        let request = Request {
            operation: &operations::QUERY_CONVERSATION_DETAILS,
            doing: DOING.to_owned(),
            path: &[],
            query: &[],
            body: Some(query(flows, from - LONGEST, to, number)),
        };
        let answer: Answer = self.call(&request, until).await?;
        Ok(answer.conversations.unwrap_or_default())
    }
}

/// What was read of some flows.
struct Read {
    /// By their ends, latest first.
    conversations: Vec<(Timestamp, Conversation)>,
    /// Every minute from here on was read whole.
    told_from: Timestamp,
    pages: u32,
    /// There is no use in asking for more.
    failed: bool,
    /// Why some minutes were not.
    untold: Option<String>,
}

fn query(flows: &[&CohortFlows], from: Timestamp, to: Timestamp, page: u32) -> Value {
    let has = |metric| json!({"type": "metric", "metric": metric, "operator": "exists"});
    let ended = json!({"type": "dimension", "dimension": "conversationEnd", "operator": "exists"});
    json!({
        "interval": interval(from, to),
        "order": "desc",
        "orderBy": "conversationEnd",
        "paging": {"pageSize": PAGE, "pageNumber": page},
        "segmentFilters": [of_flows(flows)],
        "conversationFilters": [
            {"type": "and", "predicates": [ended]},
            {"type": "or", "predicates": [has("tHandle"), has("tAbandon")]},
        ],
    })
}

#[derive(Deserialize)]
struct Answer {
    /// Absent when there is none.
    #[serde(default)]
    conversations: Option<Vec<Conversation>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conversation {
    conversation_id: String,
    conversation_end: Option<Timestamp>,
    #[serde(default)]
    participants: Vec<Participant>,
}

#[derive(Deserialize)]
struct Participant {
    #[serde(default)]
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
struct Session {
    flow: Option<Flow>,
    #[serde(default)]
    metrics: Vec<Metric>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flow {
    flow_id: Option<String>,
    flow_version: Option<String>,
}

#[derive(Deserialize)]
struct Metric {
    name: String,
    #[serde(default)]
    value: i64,
}

impl Conversation {
    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.participants.iter().flat_map(|p| &p.sessions)
    }

    /// Whose call it was, if it was one cohort's.
    fn cohort(&self, cohorts: &CohortFlows) -> Option<Cohort> {
        let of = |(id, version): &(String, String)| {
            // Two versions of one flow cannot be told apart without the version; two flows can.
            let alone = cohorts.stable.0 != cohorts.canary.0;
            let is = |flow: &Flow| flow.flow_id.as_ref() == Some(id) && flow.flow_version.as_ref().map_or(alone, |v| v == version);
            self.sessions().filter_map(|s| s.flow.as_ref()).any(is)
        };
        match (of(&cohorts.stable), of(&cohorts.canary)) {
            (true, false) => Some(Cohort::Stable),
            (false, true) => Some(Cohort::Canary),
            _ => None,
        }
    }

    /// The sum of a metric over all sessions, milliseconds; `None` where it was not emitted.
    fn sum(&self, name: &str) -> Option<u64> {
        let emitted = self.sessions().flat_map(|s| &s.metrics).filter(|m| m.name == name);
        emitted.map(|m| u64::try_from(m.value).unwrap_or(0)).reduce(u64::saturating_add)
    }
}

/// One side of a minute.
type Details = (Times, Queue);

fn tell(cohorts: &CohortFlows, read: &Read, windows: &mut [Window]) {
    let mut minutes: BTreeMap<Timestamp, [Details; 2]> = BTreeMap::new();
    for (end, conversation) in read.conversations.iter().filter(|(end, _)| *end >= read.told_from) {
        let Some(cohort) = conversation.cohort(cohorts) else { continue };
        let (times, queue) = &mut minutes.entry(minute(*end)).or_default()[cohort as usize];
        count(conversation, times, queue);
    }
    // Where nobody hands calls over to people there is nothing to tell, and no verdict should wait for it.
    let sides = || minutes.values().flatten();
    let (are_handled, are_queued) = (sides().any(|(times, _)| times.handled > 0), sides().any(|(_, queue)| queue.offered > 0));
    for window in windows.iter_mut().filter(|w| w.start >= read.told_from) {
        let told = minutes.get(&window.start).copied().unwrap_or_default();
        for cohort in [Cohort::Stable, Cohort::Canary] {
            let (times, queue) = told[cohort as usize];
            let counts = window.counts.side(cohort);
            *counts = counts.with_details(are_handled.then_some(times), are_queued.then_some(queue));
        }
    }
}

/// Handle time is the vendor's: talk, hold and after-call work of all agents, emitted when the last is done.
fn count(conversation: &Conversation, times: &mut Times, queue: &mut Queue) {
    if let Some(ms) = conversation.sum("tHandle") {
        times.add_one(ms);
    }
    let (answered, abandoned) = (conversation.sum("tAnswered"), conversation.sum("tAbandon").is_some());
    queue.answered += u32::from(answered.is_some());
    queue.answer_ms = queue.answer_ms.saturating_add(answered.unwrap_or(0));
    queue.abandoned += u32::from(abandoned);
    queue.offered += u32::from(answered.is_some() || abandoned || ["nOffered", "tAcd"].iter().any(|name| conversation.sum(name).is_some()));
}
