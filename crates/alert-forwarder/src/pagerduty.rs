//! PagerDuty: an event of its Events API v2. Alerts of a rollout share one key, so that a resolve closes what was triggered.

use crate::incident::{self, Effect};
use crate::wording::link;
use serde_json::{Map, Value, json};
use serin_core::alert::Alert;
use serin_core::wording::{PARAGRAPH, Wording, bounded, verbatim};

/// Where events go, unless the secret names another region.
pub(crate) const URL: &str = "https://events.pagerduty.com/v2/enqueue";

const LONGEST_SUMMARY: usize = 1_024;
const LONGEST_KEY: usize = 255;

/// `None` if no incident comes or goes with it.
pub(crate) fn event(routing_key: &str, alert: &Alert) -> Option<Value> {
    let dedup_key = incident::key(alert, LONGEST_KEY);
    match incident::effect(alert) {
        Effect::Inform => None,
        Effect::Resolve => Some(json!({"routing_key": routing_key, "event_action": "resolve", "dedup_key": dedup_key})),
        Effect::Trigger(_) => {
            let links: Vec<Value> = link(alert).into_iter().map(|href| json!({"href": href.as_str(), "text": "Runbook"})).collect();
            Some(json!({
                "routing_key": routing_key,
                "event_action": "trigger",
                "dedup_key": dedup_key,
                "client": "Serin",
                "links": links,
                "payload": {
                    "summary": bounded(&Wording::of(alert).headline, LONGEST_SUMMARY, verbatim),
                    "source": bounded(&alert.flow_id, LONGEST_KEY, verbatim),
                    "component": bounded(&alert.flow_id, LONGEST_KEY, verbatim),
                    "group": "Serin",
                    "class": bounded(&alert.incident_type, LONGEST_KEY, verbatim),
                    "severity": alert.severity.name(),
                    "timestamp": alert.timestamp.to_string(),
                    "custom_details": details(alert),
                },
            }))
        }
    }
}

fn details(alert: &Alert) -> Map<String, Value> {
    let wording = Wording::of(alert);
    let labeled = [("Why", wording.why)].into_iter().chain(wording.figures).chain(wording.steps);
    let rest = [("Rollout", alert.rollout.clone()), ("Revision", alert.revision.to_string()), ("Ledger", alert.head_hash.to_string())];
    labeled.chain(rest).map(|(label, text)| (label.to_owned(), bounded(&text, PARAGRAPH, verbatim).into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use crate::wording::samples;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn every_event_is_one_that_pagerduty_takes() {
        for alert in samples::all() {
            let event = event(KEY, &alert).unwrap();
            schema::check("pagerduty", &event);
            assert!(event.to_string().len() < 100_000);
        }
    }

    #[test]
    fn a_resolve_closes_what_its_rollout_triggered() {
        let resolve = Alert { incident_type: "ROLLED_BACK".into(), revision: 8, ..samples::rollback() };
        let (opened, closed) = (event(KEY, &samples::rollback()).unwrap(), event(KEY, &resolve).unwrap());
        schema::check("pagerduty", &closed);
        assert_eq!((&opened["event_action"], &closed["event_action"]), (&json!("trigger"), &json!("resolve")));
        assert_eq!(opened["dedup_key"], closed["dedup_key"]);
        assert_eq!(opened["payload"]["custom_details"]["Next step"], json!(samples::rollback().next_step));
        assert_eq!(opened["payload"]["custom_details"]["Runbook"], "docs/runbook/rollback.md");
    }

    #[test]
    fn nobody_is_paged_for_what_is_only_good_to_know() {
        assert_eq!(event(KEY, &Alert { incident_type: "CANARY_ADVANCED".into(), ..samples::rollback() }), None);
    }
}
