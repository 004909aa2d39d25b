//! Which alerts open an incident, which close it, and which are only told: the one table that all incident tools go by.
//!
//! A rollout has one incident. No alert that opens it can follow one that closes it: what closes it ends the rollout.
//! - Nothing is acknowledged. That stops the escalation and is a person's word; no alert says that somebody has seen the page.
//! - The rest goes to chats and plain webhooks only. PagerDuty's change events would take it, but they have another address and no
//!   key that makes a repeated one harmless, and the queue repeats.

use serin_core::alert::{Alert, Severity};
use sha2::{Digest, Sha256};

/// What an alert does to its rollout's incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It opens the incident, or adds to it.
    Trigger(Impact),
    /// It closes the incident.
    Resolve,
    /// Good to know; no incident.
    Inform,
}

/// How far callers are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Impact {
    /// Nothing goes on until a person acts, and callers may have the change.
    High,
    /// Serin has taken the calls away, or is about to.
    Medium,
}

/// The table.
pub(crate) fn effect(alert: &Alert) -> Effect {
    use Effect::{Inform, Resolve, Trigger};
    match (alert.incident_type.as_str(), alert.severity) {
        ("AUTO_ROLLBACK_TRIGGERED" | "ROLLBACK_TRIGGERED", _) => Trigger(Impact::Medium),
        ("HUMAN_NEEDED" | "ROLLOUT_CONTAMINATED" | "ROLLBACK_ADVISED", _) => Trigger(Impact::High),
        // The rollback is over, and whoever takes the way around out again closes the incident.
        ("STILL_LED_AROUND", _) => Trigger(Impact::Medium),
        ("BOTH_COHORTS_FAIL" | "CALLS_LED_AROUND", _) => Trigger(Impact::High),
        // One incident a day, which a person closes: no alert says that a storm is over.
        ("ALERT_STORM", _) => Trigger(Impact::High),

        ("ROLLED_BACK" | "CLEARED" | "ROLLOUT_FINISHED" | "ROLLOUT_ABORTED", _) => Resolve,
        // Not so while calls stay on the canary: then it is a warning.
        ("OBSERVATION_ENDED", Severity::Info) => Resolve,

        // A person waits, or chose this: nobody is woken. A rollout that failed so has moved no call.
        ("APPROVAL_REQUESTED" | "APPROVED" | "ROLLOUT_PAUSED" | "ROLLOUT_RESUMED" | "ROLLOUT_FAILED" | "OBSERVATION_ENDED", _) => Inform,
        ("ROLLOUT_REQUESTED" | "CANARY_ADVANCED" | "CANARY_PROMOTED" | "BAKE_FINISHED" | "ROLLOUT_PROGRESS", _) => Inform,
        ("OBSERVATION_STARTED" | "WEIGHT_SET" | "ADVANCE_ADVISED", _) => Inform,
        // Errors are expected in a maintenance window; somebody said so.
        ("ROLLBACK_WITHHELD", _) => Inform,

        // A kind this table does not know yet must not be missed.
        (_, Severity::Critical) => Trigger(Impact::High),
        _ => Inform,
    }
}

/// The incident's key: the same for all alerts of a rollout, at most `longest` characters.
pub(crate) fn key(alert: &Alert, longest: usize) -> String {
    let key = format!("{}/{}", alert.flow_id, alert.rollout);
    match key.len() <= longest {
        true => key,
        false => Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::samples::rollback;

    #[test]
    fn every_kind_of_alert_that_the_core_knows_is_in_the_table() {
        let path = format!("{}/../core/src/alert.rs", env!("CARGO_MANIFEST_DIR"));
        let (core, table) = (std::fs::read_to_string(path).unwrap(), include_str!("incident.rs"));
        let is_kind = |word: &&str| {
            word.len() > 6 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_') && !["WARNING", "CRITICAL"].contains(word)
        };
        let kinds: Vec<&str> = core.split('"').filter(is_kind).collect();
        assert!(kinds.len() > 20, "{kinds:?}");
        let table = table.split("#[cfg(test)]").next().unwrap();
        let missing: Vec<&&str> = kinds.iter().filter(|kind| !table.contains(&format!("\"{kind}\""))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_opens_an_incident_is_closed_by_the_same_key() {
        let (opened, closed) = (rollback(), Alert { incident_type: "ROLLED_BACK".into(), revision: 8, ..rollback() });
        assert_eq!((effect(&opened), effect(&closed)), (Effect::Trigger(Impact::Medium), Effect::Resolve));
        assert_eq!((key(&opened, 255), key(&closed, 255)), ("main_ivr/r-20261121-1".to_owned(), "main_ivr/r-20261121-1".to_owned()));
        let long = |revision| Alert { rollout: "r".repeat(300), revision, ..rollback() };
        assert_eq!((key(&long(1), 100).len(), key(&long(1), 100)), (64, key(&long(2), 100)));
    }

    #[test]
    fn an_observation_that_leaves_calls_on_the_canary_closes_nothing() {
        let ended = |severity| effect(&Alert { incident_type: "OBSERVATION_ENDED".into(), severity, ..rollback() });
        assert_eq!((ended(Severity::Info), ended(Severity::Warning)), (Effect::Resolve, Effect::Inform));
    }

    #[test]
    fn an_unknown_kind_is_missed_only_if_it_is_not_critical() {
        let unknown = |severity| effect(&Alert { incident_type: "NEW".into(), severity, ..rollback() });
        assert_eq!((unknown(Severity::Critical), unknown(Severity::Warning)), (Effect::Trigger(Impact::High), Effect::Inform));
    }
}
