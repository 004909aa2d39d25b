//! ServiceNow: a row of the incident table. Only what opens an incident is sent: a row can be closed by its id alone, which is in the
//! answer's body, and with a close code that every instance words for itself. All rows of a rollout carry one correlation id.

use crate::incident::{self, Effect, Impact};
use serde_json::{Value, json};
use serin_core::alert::{Alert, Severity};
use serin_core::wording::{Wording, bounded, verbatim};

/// The table's address below the instance's.
pub(crate) const PATH: [&str; 4] = ["api", "now", "table", "incident"];

// Widths of the columns as delivered; what is longer would be cut by the table.
const LONGEST_SHORT_DESCRIPTION: usize = 160;
const LONGEST_DESCRIPTION: usize = 4_000;
const LONGEST_KEY: usize = 100;

/// `None` if it opens no incident.
pub(crate) fn incident(alert: &Alert) -> Option<Value> {
    let Effect::Trigger(impact) = incident::effect(alert) else { return None };
    let wording = Wording::of(alert);
    let lines = wording.text();
    let description: Vec<String> = lines.lines().map(|line| bounded(line, LONGEST_DESCRIPTION / 10, verbatim)).collect();
    Some(json!({
        "short_description": bounded(&wording.headline, LONGEST_SHORT_DESCRIPTION, verbatim),
        "description": description.join("\n"),
        "urgency": match alert.severity {
            Severity::Critical => "1",
            Severity::Warning => "2",
            Severity::Info => "3",
        },
        "impact": match impact {
            Impact::High => "1",
            Impact::Medium => "2",
        },
        "correlation_id": incident::key(alert, LONGEST_KEY),
        "correlation_display": "Serin",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use crate::wording::samples;

    #[test]
    fn every_row_fits_the_incident_table() {
        for alert in samples::all() {
            schema::check("servicenow", &incident(&alert).unwrap());
        }
    }

    #[test]
    fn urgency_is_the_alerts_and_impact_says_whether_calls_are_safe() {
        let row = |kind: &str| incident(&Alert { incident_type: kind.into(), ..samples::rollback() });
        let rollback = row("AUTO_ROLLBACK_TRIGGERED").unwrap();
        assert_eq!((&rollback["urgency"], &rollback["impact"]), (&json!("1"), &json!("2")));
        assert_eq!(row("HUMAN_NEEDED").unwrap()["impact"], "1");
        assert_eq!(rollback["correlation_id"], "main_ivr/r-20261121-1");
        assert!(rollback["description"].as_str().unwrap().contains("\nRunbook: docs/runbook/rollback.md\n"));
        assert_eq!((row("ROLLED_BACK"), row("CANARY_ADVANCED")), (None, None));
    }
}
