//! What an operator asks when something seems wrong: permissions of a client, the vendor's clock, data actions. Nothing is changed, and
//! whoever may not look is told so.

use crate::analytics::interval;
use crate::audits;
use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::operations::{self, Client};
use crate::preflight::{NOTHING, Probe, probes};
use crate::token::CredentialsSource;
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::json;
use serin_controller::ports::{Changed, Clock};
use serin_core::rollout::{Plan, WayBack};

/// A permission, and whether a client has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Its name; of several, any one will do.
    pub name: String,
    /// What Serin wants with it.
    pub why: &'static str,
    /// Whether no rollout can do without it; without any other a name or a figure stays unknown.
    pub required: bool,
    /// Whether the client has it, or why nobody could look.
    pub granted: Result<bool, String>,
}

/// A data action, as far as it can be told how long callers wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataAction {
    /// Its name.
    pub name: String,
    /// Seconds after which the vendor gives it up; without one it does so after 60.
    pub timeout_seconds: Option<u32>,
}

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// What a client needs, in the order in which it is needed: for a rollout of the plan, or without one for any. This client is asked,
    /// which must be the one that `of` says. Takes up to some twenty requests.
    pub async fn permissions(&self, of: Client, plan: Option<&Plan>) -> Vec<Permission> {
        let until = self.deadline();
        let mut found: Vec<Permission> = Vec::new();
        let mut unreachable: Option<String> = None;
        for (probe, required) in self.wanted(plan) {
            let Some(name) = named(&probe).filter(|_| of == Client::Publisher || probe.operation.client == Client::Both) else { continue };
            let before = found.iter().position(|one| one.name == name);
            // Another operation of the same permission may still say no.
            if before.is_some_and(|at| found[at].granted != Ok(true)) {
                continue;
            }
            let granted = match &unreachable {
                Some(error) => Err(error.clone()),
                None => self.may(&probe, until).await.map_err(|error| error.to_string()),
            };
            // Whatever keeps one request from being answered keeps the others, and nobody waits for each.
            unreachable = granted.as_ref().err().cloned();
            match before {
                Some(at) => found[at].granted = granted,
                None => found.push(Permission { name, why: probe.operation.why, required, granted }),
            }
        }
        found
    }

    /// How far the vendor's clock is ahead of ours; negative if it is behind. Good to about a second.
    pub async fn clock_ahead(&self) -> Result<SignedDuration, Error> {
        const DOING: &str = "reading the vendor's clock";
        // Needs no permission, and any answer has a date.
        let request = Request { path: &["architect"], ..Request::of(&operations::GET_LIMITS, DOING) };
        let answer = self.ask(&request, self.deadline()).await?;
        answer.ahead.ok_or_else(|| Error::unreadable(DOING, "the answer has no date"))
    }

    /// A data action.
    pub async fn data_action(&self, id: &str) -> Result<DataAction, Error> {
        let doing = format!("reading data action {id}");
        let request = Request { path: &[id], query: &[("includeConfig", "true")], ..Request::of(&operations::GET_ACTION, doing) };
        let action: Action = self.call(&request, self.deadline()).await?;
        Ok(DataAction { name: action.name, timeout_seconds: action.config.and_then(|config| config.timeout_seconds) })
    }

    /// Each with whether a rollout needs it.
    fn wanted<'a>(&self, plan: Option<&'a Plan>) -> Vec<(Probe<'a>, bool)> {
        static NO_WAY_BACK: WayBack = WayBack { known_good_days: None, ivr: None, emergency_group: None };
        let now = self.clock.now();
        let flow = plan.map_or(NOTHING, |plan| plan.canary.flow_id.as_str());
        let table = plan.and_then(|plan| plan.pointer.as_ref()).map(|pointer| pointer.table.as_str());
        let back = plan.map_or(&NO_WAY_BACK, |plan| &plan.rollback);
        let mut wanted: Vec<(Probe<'a>, bool)> = probes(flow, table, back, now).into_iter().map(|probe| (probe, true)).collect();
        let bare = |operation| Probe { operation, path: Vec::new(), query: Vec::new(), body: None };
        if plan.is_some_and(|plan| !plan.data_actions.is_empty()) {
            // There is no such action to run.
            wanted.push((Probe { path: vec![NOTHING], body: Some(json!({})), ..bare(&operations::TEST_ACTION) }, true));
            wanted.push((Probe { path: vec![NOTHING], ..bare(&operations::GET_ACTION) }, false));
        }
        let minute_ago = now - SignedDuration::from_mins(1);
        let details = json!({"interval": interval(minute_ago, now), "paging": {"pageNumber": 1, "pageSize": 1}});
        let audit = audits::query(Changed::Flow(flow), minute_ago, now);
        wanted.push((Probe { body: Some(details), ..bare(&operations::QUERY_CONVERSATION_DETAILS) }, false));
        wanted.push((Probe { body: Some(audit), ..bare(&operations::QUERY_AUDITS) }, false));
        wanted
    }
}

/// The permissions of a probe in one text, where the vendor names any.
fn named(probe: &Probe<'_>) -> Option<String> {
    let permissions = probe.operation.permissions;
    (!permissions.is_empty()).then(|| permissions.join(" or "))
}

#[derive(Deserialize)]
struct Action {
    #[serde(default)]
    name: String,
    config: Option<ActionConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActionConfig {
    timeout_seconds: Option<u32>,
}
