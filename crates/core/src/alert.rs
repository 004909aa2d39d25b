//! What is told to people: one alert per change of state, with one dedup key.

use crate::ledger::{Hash, StoredEntry};
use crate::measurement::Comparison;
use crate::phase::{Advice, Detour, Event, Phase};
use crate::rollout::{Cause, Finalize, Rollout, Strategy};
use crate::weight::Weight;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look today.
    Warning,
    /// Somebody should look now.
    Critical,
}

/// One alert, as published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Kind, such as `AUTO_ROLLBACK_TRIGGERED`.
    pub incident_type: String,
    /// The flow's name in Serin.
    pub flow_id: String,
    /// The canary's rate that breached, as a fraction.
    pub error_rate_breach: Option<f64>,
    /// The limit it breached, as a fraction.
    pub threshold_breach: Option<f64>,
    /// When, on the clock the rollout runs by.
    pub timestamp: Timestamp,
    /// What Serin did.
    pub action_taken: String,
    /// The rollout.
    pub rollout: String,
    /// Its place in the flow's ledger.
    pub revision: u64,
    /// Hash of the ledger up to here: an anchor to check the ledger against.
    pub head_hash: Hash,
    /// The same for every copy of this alert.
    pub dedup_key: String,
    /// Revisions of the rollout's earlier alerts that opened its incident: what closes it must not come before them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened_by: Vec<u64>,
    /// How urgent.
    pub severity: Severity,
    /// Both cohorts side by side, where they were compared.
    pub cohorts: Option<Comparison>,
    /// Canary calls behind the decision.
    pub affected_calls: Option<u32>,
    /// Why, in a sentence.
    pub reason: String,
    /// What to do next.
    pub next_step: String,
    /// Where it is explained.
    pub runbook: String,
}

/// Longest reason, in characters: a vendor's answer may be in it.
pub const LONGEST_REASON: usize = 1_000;

impl Alert {
    /// The alert for an entry that changed the phase to that of `rollout`, given the flow's entries before it.
    pub fn of(rollout: &Rollout, before: &[StoredEntry], stored: &StoredEntry) -> Alert {
        let entry = &stored.entry;
        let (incident_type, severity, action_taken, next_step, section) = words(rollout, &entry.event);
        let breach = match &entry.event {
            Event::RollbackStarted { cause: Cause::Breach(breach) } => Some(breach),
            _ => None,
        };
        let opened = before.iter().map(|s| &s.entry).filter(|e| e.rollout == entry.rollout && opens_incident(&e.event));
        Alert {
            incident_type: incident_type.to_owned(),
            flow_id: entry.flow.to_string(),
            // A mean time is no rate.
            error_rate_breach: breach.filter(|b| !b.sides.mean).map(|b| b.sides.canary.figure()),
            threshold_breach: breach.filter(|b| !b.sides.mean).map(|b| b.limit),
            timestamp: entry.at,
            action_taken,
            rollout: entry.rollout.clone(),
            revision: entry.revision,
            head_hash: stored.hash(),
            dedup_key: format!("{}/{}/{}", entry.flow, entry.rollout, entry.revision),
            opened_by: opened.map(|e| e.revision).collect(),
            severity,
            cohorts: entry.evidence,
            affected_calls: entry.evidence.map(|c| c.canary.calls),
            reason: entry.why.chars().take(LONGEST_REASON).collect(),
            next_step: next_step.to_owned(),
            runbook: format!("docs/runbook/{section}.md"),
        }
    }

    /// So many alerts of so many flows wait for the next tick. The same day is the same storm, so that each tick of it can say so.
    pub fn storm(waiting: usize, flows: usize, at: Timestamp) -> Alert {
        let (flow_id, rollout) = ("all-flows", at.strftime("storm-%Y%m%d").to_string());
        Alert {
            incident_type: "ALERT_STORM".to_owned(),
            flow_id: flow_id.to_owned(),
            error_rate_breach: None,
            threshold_breach: None,
            timestamp: at,
            action_taken: format!("{waiting} alerts of {flows} flows wait; critical ones go out first, none is lost"),
            dedup_key: format!("{flow_id}/{rollout}/0"),
            rollout,
            revision: 0,
            head_hash: Hash::genesis(),
            opened_by: Vec::new(),
            severity: Severity::Critical,
            cohorts: None,
            affected_calls: None,
            reason: "more was recorded than a tick may publish: look for a cause that the flows share".to_owned(),
            next_step: "see `serin status` for all flows instead of waiting for their alerts".to_owned(),
            runbook: "docs/runbook/storm.md".to_owned(),
        }
    }

    /// The subject line: plain ASCII, less than 100 characters, as SNS wants it.
    pub fn subject(&self) -> String {
        let severity = match self.severity {
            Severity::Info => "info",
            Severity::Warning => "WARNING",
            Severity::Critical => "CRITICAL",
        };
        let line = format!("[{severity}] {}: {}", self.flow_id, self.action_taken);
        line.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }).take(99).collect()
    }
}

/// Whether the alert of an event is critical and opens its rollout's incident.
fn opens_incident(event: &Event) -> bool {
    match event {
        Event::RollbackStarted { .. } | Event::Contaminated { .. } | Event::HumanNeeded { .. } => true,
        Event::BothFailing { .. } | Event::LedAround { .. } => true,
        Event::Advised { advice } => *advice == Advice::TakeBack,
        _ => false,
    }
}

fn words(rollout: &Rollout, event: &Event) -> (&'static str, Severity, String, &'static str, &'static str) {
    use Severity::*;
    let plan = &rollout.plan;
    match event {
        Event::Requested { .. } => {
            ("ROLLOUT_REQUESTED", Info, "rollout opened; the canary version is being published".into(), "nothing to do", "requested")
        }
        Event::PreparationFailed { .. } => (
            "ROLLOUT_FAILED",
            Warning,
            "rollout ended before any call was moved".into(),
            "mend what the reason names, then start a new rollout",
            "failed",
        ),
        Event::StepStarted { weight, .. } => (
            "CANARY_ADVANCED",
            Info,
            format!("{weight} percent of new calls go to the canary"),
            "nothing to do; watch `serin status`",
            "advanced",
        ),
        Event::PromotionStarted { .. } => (
            "CANARY_PROMOTED",
            Info,
            "all new calls go to the canary, still watched".into(),
            "nothing to do; it bakes before the stable flow gets it",
            "advanced",
        ),
        Event::ApprovalRequested => (
            "APPROVAL_REQUESTED",
            Warning,
            format!("rollout waits at {} percent for an approval", rollout.phase.weight()),
            "look at both cohorts with `serin status`, then `serin approve`; `serin abort` ends it",
            "approval",
        ),
        Event::Approved { .. } => {
            ("APPROVED", Info, "a person approved the next step".into(), "nothing to do; it follows while the evidence holds", "approval")
        }
        Event::ObservationStarted { .. } => (
            "OBSERVATION_STARTED",
            Info,
            "Serin only observes this rollout".into(),
            "set the percentage by hand when you like; Serin says what it would do",
            "observed",
        ),
        Event::WeightSet { weight, .. } => (
            "WEIGHT_SET",
            Info,
            format!("somebody sends {weight} percent of new calls to the canary; Serin only observes"),
            "nothing to do",
            "observed",
        ),
        Event::Advised { advice: Advice::TakeBack } => (
            "ROLLBACK_ADVISED",
            Critical,
            "nothing was done: Serin only observes and would take the calls away".into(),
            "set the percentage to 0, or `serin rollback`",
            "observed",
        ),
        Event::Advised { advice: Advice::Rise { to } } => (
            "ADVANCE_ADVISED",
            Info,
            format!("nothing was done: Serin only observes and would go on to {to} percent"),
            "set the percentage, or leave it",
            "observed",
        ),
        Event::ObservationEnded { .. } => {
            let weight = rollout.in_force.weight;
            let next = if weight > Weight::ZERO {
                "set the percentage to 0 or start a new rollout: nobody watches these calls"
            } else {
                "end it with `serin abort`, then start a new rollout to go on"
            };
            let severity = if weight > Weight::ZERO { Warning } else { Info };
            (
                "OBSERVATION_ENDED",
                severity,
                format!("Serin no longer observes; {weight} percent of new calls stay on the canary"),
                next,
                "observed",
            )
        }
        Event::Paused { weight, .. } => (
            "ROLLOUT_PAUSED",
            Warning,
            match plan.strategy {
                Strategy::Pointer if *weight < Weight::FULL => "rollout paused; the row sends all calls to stable".to_owned(),
                _ => format!("rollout paused with {weight} percent of new calls on the canary"),
            },
            "look at both cohorts with `serin status`, then `serin resume` or `serin abort`",
            "paused",
        ),
        Event::Resumed { .. } => {
            ("ROLLOUT_RESUMED", Info, format!("rollout goes on at {} percent", rollout.phase.weight()), "nothing to do", "paused")
        }
        Event::BakeFinished => {
            let then = match plan.strategy {
                Strategy::InFlow => "the new branch keeps all calls",
                Strategy::PublishWatch => "the flow keeps this version",
                _ => "the stable flow gets this version",
            };
            ("BAKE_FINISHED", Info, format!("healthy at 100 percent; {then}"), "nothing to do", "finalizing")
        }
        Event::Finalized => {
            let (done, next) = match (plan.strategy, plan.finalize) {
                (Strategy::InFlow, _) => (
                    "all calls take the new branch; should the data action fail, they take the old one",
                    "publish the flow without the gate and the old branch, then set the percentage to 0",
                ),
                (_, Finalize::Swap) => (
                    "both flows run the new version; calls stay on the canary flow",
                    "nothing to do; the next rollout first takes the calls to the stable flow, which runs the same",
                ),
                (Strategy::PublishWatch, _) => ("the flow keeps the new version", "nothing to do; the flow may be deployed again"),
                _ => ("both flows run the new version; calls are on the stable flow", "nothing to do; the flow may be deployed again"),
            };
            ("ROLLOUT_FINISHED", Info, done.into(), next, "finished")
        }
        Event::BothFailing { weight, .. } => (
            "BOTH_COHORTS_FAIL",
            Critical,
            match *weight == Weight::FULL {
                true => "nothing was moved: all calls stay on the canary, which fails, and stable is said to be broken".to_owned(),
                false => format!("nothing was moved: {weight} percent of new calls stay on the canary, and stable fails too"),
            },
            "decide where callers are better off: `serin abort` (stable) or `serin intervene --to canary`",
            "both-fail",
        ),
        Event::RollbackWithheld { contained: Some(_), .. } => (
            "ROLLBACK_WITHHELD",
            Warning,
            "rollout paused in a maintenance window; new calls are on stable".into(),
            "when the maintenance is over, `serin resume` or `serin abort`",
            "withheld",
        ),
        Event::RollbackWithheld { .. } => (
            "ROLLBACK_WITHHELD",
            Warning,
            format!("nothing was done in a maintenance window: {} percent of new calls stay on the canary", rollout.in_force.weight),
            "nothing to do if these errors are expected; else `serin rollback`",
            "withheld",
        ),
        Event::LedAround { detour: Detour::Ivr { id, .. }, .. } => (
            "CALLS_LED_AROUND",
            Critical,
            format!("IVR {id} leads to the stable flow itself: the percentage could not be written"),
            "when the percentage can be written again, lead the IVR back with `serin adopt`",
            "led-around",
        ),
        Event::LedAround { detour: Detour::Emergency { id }, .. } => (
            "CALLS_LED_AROUND",
            Critical,
            format!("the emergency of group {id} was declared: nothing else took the calls away"),
            "when callers are safe, end the emergency in Genesys Cloud",
            "led-around",
        ),
        Event::RollbackStarted { cause } => (
            if matches!(cause, Cause::Breach(_)) { "AUTO_ROLLBACK_TRIGGERED" } else { "ROLLBACK_TRIGGERED" },
            Critical,
            match rollout.is_unsplit() {
                true => format!("version {} is being taken back: the version before is being published", plan.canary.version),
                false => format!("new calls are on stable; version {} is being taken back", plan.canary.version),
            },
            "no caller needs you now; find out what broke before the next rollout",
            "rollback",
        ),
        // Callers are safe, and what leads them around the canary is still there.
        Event::RollbackFinished { version } if rollout.restoration.detour.is_some() => (
            "STILL_LED_AROUND",
            Critical,
            format!("the canary flow runs version {version} again; calls are still led around it"),
            "take the way around out again, as the reason says, and close the incident",
            "led-around",
        ),
        Event::RollbackFinished { version } => (
            "ROLLED_BACK",
            Warning,
            match plan.strategy {
                Strategy::InFlow => "all calls take the old branch".to_owned(),
                Strategy::PublishWatch => format!("the flow runs version {version} again"),
                _ => format!("the canary flow runs version {version} again; calls are on stable"),
            },
            "find out what broke, and roll out a changed configuration",
            "rollback",
        ),
        Event::Aborted { .. } => {
            ("ROLLOUT_ABORTED", Warning, "rollout ended; new calls are on stable".into(), "start a new rollout when ready", "aborted")
        }
        Event::Contaminated { .. } => (
            "ROLLOUT_CONTAMINATED",
            Critical,
            match rollout.is_unsplit() {
                true => "callers get what was published by hand; nothing is published over it".into(),
                false => "new calls are on stable; the comparison was spoiled by hand".to_owned(),
            },
            "find out who changed what, then `serin abort` and start a new rollout",
            "contaminated",
        ),
        Event::HumanNeeded { .. } => (
            "HUMAN_NEEDED",
            Critical,
            match rollout.phase {
                Phase::NeedsHuman { weight } if weight > Weight::ZERO => "Serin stopped; all calls stay on the canary flow".into(),
                _ => "Serin stopped; the reason says where calls go".into(),
            },
            "do what the reason says, then `serin clear`",
            "needs-human",
        ),
        Event::Cleared { .. } => {
            ("CLEARED", Info, "a person has put things right; the flow may be deployed again".into(), "nothing to do", "needs-human")
        }
        Event::SnapshotTaken { .. }
        | Event::Prepared { .. }
        | Event::Hastened { .. }
        | Event::QuarantineCleared { .. }
        | Event::WeightApplied { .. }
        | Event::FinalizeStarted { .. }
        | Event::StablePublished { .. }
        | Event::Retargeted { .. }
        | Event::RestorationStarted { .. }
        | Event::RestorationDelayed { .. } => ("ROLLOUT_PROGRESS", Info, event.name().to_owned(), "nothing to do", "requested"),
    }
}

/// A request to put a flow back, as published on the rollback topic. A wake-up: what is done rests on the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The flow's name in Serin.
    pub flow: crate::rollout::FlowName,
    /// The rollout meant; without it, the one open when the message was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub requested_by: String,
    /// When, on the clock the rollout runs by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Whether an alarm asks, and no person; nobody can say so in a message.
    #[serde(skip)]
    pub by_alarm: bool,
}
