//! What a job tells of conversations, and nothing else does: the attributes of their participants.
//!
//! Jobs read what the vendor has stored, which trails the calls by hours; they are for proving, not for judging.

use crate::analytics::{interval, is};
use crate::client::{Genesys, Request};
use crate::error::{Error, redact};
use crate::jobs::POLL;
use crate::operations;
use crate::token::CredentialsSource;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use serin_controller::ports::Clock;
use std::collections::{BTreeMap, BTreeSet};

/// A conversation that was in a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: String,
    /// Ids of the flows that it was in.
    pub flows: BTreeSet<String>,
    /// Its attribute `canaryVersion`, which the traffic cop or the flow sets.
    pub canary_version: Option<String>,
}

const LABEL: &str = "canaryVersion";
/// A bound against results that do not end.
const MOST_PAGES: u32 = 1_000;
const DOING: &str = "reading conversations by a job";

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// Conversations of these flows with activity from `from` to before `to`, in no order. As patient as with a copy; `Unavailable` if
    /// the job still runs then.
    pub async fn details_job(&self, flows: &[&str], from: Timestamp, to: Timestamp) -> Result<Vec<Conversation>, Error> {
        let until = self.clock.now() + self.settings.copy_patience;
        let of_flows: Vec<Value> = flows.iter().map(|flow| is("flowId", flow)).collect();
        let body = json!({"interval": interval(from, to), "segmentFilters": [{"type": "or", "predicates": of_flows}]});
        let start = Request { body: Some(body), ..Request::of(&operations::START_DETAILS_JOB, DOING) };
        let job: Started = self.call(&start, until).await?;
        self.fulfilled(&job.job_id, until).await?;
        self.results(&job.job_id, until).await
    }

    async fn fulfilled(&self, job: &str, until: Timestamp) -> Result<(), Error> {
        let look = Request { path: &[job], ..Request::of(&operations::GET_DETAILS_JOB, DOING) };
        loop {
            let status: Status = self.call(&look, until).await?;
            match status.state.as_deref() {
                Some("FULFILLED") => return Ok(()),
                Some(ended @ ("FAILED" | "CANCELLED" | "EXPIRED")) => {
                    let reason = format!("the job ended as {ended}: {}", redact(status.error_message.as_deref().unwrap_or("no reason")));
                    return Err(Error::Refused { doing: DOING.to_owned(), reason });
                }
                _ if !self.wait(POLL, until).await => {
                    return Err(Error::Unavailable { doing: DOING.to_owned(), reason: "the job still runs".to_owned() });
                }
                _ => {}
            }
        }
    }

    async fn results(&self, job: &str, until: Timestamp) -> Result<Vec<Conversation>, Error> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let query: Vec<(&str, &str)> = cursor.iter().map(|cursor| ("cursor", cursor.as_str())).collect();
            let page = Request { path: &[job], query: &query, ..Request::of(&operations::GET_DETAILS, DOING) };
            let page: Results = self.call(&page, until).await?;
            all.extend(page.conversations.unwrap_or_default().into_iter().map(Conversation::from));
            cursor = page.cursor.filter(|next| !next.is_empty());
            if cursor.is_none() {
                return Ok(all);
            }
        }
        Err(Error::unreadable(DOING, "the results do not end"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    job_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    state: Option<String>,
    error_message: Option<String>,
}

#[derive(Deserialize)]
struct Results {
    conversations: Option<Vec<Wire>>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    conversation_id: String,
    #[serde(default)]
    participants: Vec<Participant>,
}

#[derive(Deserialize)]
struct Participant {
    #[serde(default)]
    sessions: Vec<Session>,
    attributes: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct Session {
    flow: Option<Flow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flow {
    flow_id: Option<String>,
}

impl From<Wire> for Conversation {
    fn from(wire: Wire) -> Conversation {
        let label = |participant: &Participant| Some(participant.attributes.as_ref()?.get(LABEL)?.as_str()?.to_owned());
        let canary_version = wire.participants.iter().find_map(label);
        let flows = wire.participants.into_iter().flat_map(|p| p.sessions).filter_map(|s| s.flow?.flow_id).collect();
        Conversation { id: wire.conversation_id, flows, canary_version }
    }
}
