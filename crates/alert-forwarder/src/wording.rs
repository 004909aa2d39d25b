//! What targets need of an alert's wording beyond the core's: a runbook to click on.

use reqwest::Url;
use serin_core::alert::Alert;
use serin_core::wording::PARAGRAPH;

/// The runbook as something to click on, if it is that: an alert names it by its place in the repository unless told otherwise.
pub(crate) fn link(alert: &Alert) -> Option<Url> {
    Url::parse(&alert.runbook).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.as_str().len() <= PARAGRAPH)
}

/// Alerts for the tests of all targets.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use serde_json::Value;
    use serin_core::alert::Severity;

    /// A breach and its rollback, the first message of `events/alert-forwarder.json`.
    pub(crate) fn rollback() -> Alert {
        let path = format!("{}/../../events/alert-forwarder.json", env!("CARGO_MANIFEST_DIR"));
        let event: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path);
        serde_json::from_str(event["Records"][0]["body"].as_str().unwrap()).unwrap()
    }

    /// What an alert may look like at worst: every text long, and full of what a target could take for markup.
    pub(crate) fn hostile() -> Alert {
        let text =
            "<!channel> <https://evil.example|here> *a* _b_ [c](https://evil.example) \r\n\u{202e}`d` & {{DATE(x)}} ü🦀\0\"}]".repeat(60);
        Alert {
            incident_type: text.clone(),
            flow_id: text.clone(),
            action_taken: text.clone(),
            rollout: text.clone(),
            reason: text.clone(),
            next_step: text.clone(),
            runbook: format!("https://runbooks.example/{}", "a|b>c&".repeat(500)),
            severity: Severity::Critical,
            ..rollback()
        }
    }

    /// As little as an alert can say.
    pub(crate) fn bare() -> Alert {
        let texts = [String::new(), String::new(), " \n".to_owned(), String::new()];
        let [reason, next_step, action_taken, runbook] = texts;
        let (error_rate_breach, threshold_breach, affected_calls, cohorts) = (None, None, None, None);
        Alert { reason, next_step, action_taken, runbook, error_rate_breach, threshold_breach, affected_calls, cohorts, ..rollback() }
    }

    /// One of each.
    pub(crate) fn all() -> [Alert; 4] {
        [rollback(), hostile(), bare(), Alert { runbook: "https://runbooks.example/serin?a=1&b=2#rollback".into(), ..rollback() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin_core::wording::Wording;

    #[test]
    fn an_alert_says_what_happened_to_whom_what_was_done_and_what_comes_next() {
        let wording = Wording::of(&samples::rollback());
        assert_eq!(wording.headline, "[critical] main_ivr: new calls are on stable; version 15.0 is being taken back");
        assert_eq!(
            wording.text(),
            "Why: 15 % of 80 canary calls ended in an error, 1 % of 1520 stable calls did\n\
             Affected: 80 canary calls of main_ivr\n\
             Breach: 15.0 % of canary calls; the limit is 5.0 %\n\
             Canary: 80 calls: 15.0 % errors, 7.5 % abandoned calls, 21.2 % transfers\n\
             Stable: 1520 calls: 1.0 % errors, 6.0 % abandoned calls, 22.0 % transfers\n\
             Done: new calls are on stable; version 15.0 is being taken back\n\
             Next step: no caller needs you now; find out what broke before the next rollout\n\
             Runbook: docs/runbook/rollback.md\n\
             AUTO_ROLLBACK_TRIGGERED, rollout r-20261121-1, revision 7, 2026-11-21T09:00:00Z"
        );
        let bare = Wording::of(&samples::bare());
        assert_eq!((bare.why.as_str(), bare.figures.len()), ("not said", 0));
    }

    #[test]
    fn only_a_web_address_is_a_link() {
        let link = |runbook: &str| link(&Alert { runbook: runbook.into(), ..samples::rollback() }).is_some();
        assert!(link("https://runbooks.example/#rollback"));
        assert!(!link("docs/runbook/rollback.md") && !link("javascript:alert(1)"));
    }
}
