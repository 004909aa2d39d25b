//! An alert as people read it: what happened, to whom, both cohorts' figures, what was done, the next step. Each target sets it in
//! its own form, bounded and escaped.

use reqwest::Url;
use serin_core::alert::{Alert, Severity};
use serin_core::measurement::{Counts, Metric, label};

/// The parts of the message, not escaped yet, none of them empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wording {
    /// One line: how urgent, which flow, what was done.
    pub(crate) headline: String,
    /// Why.
    pub(crate) why: String,
    /// To whom, and both cohorts side by side; empty where nothing was compared.
    pub(crate) figures: Vec<(&'static str, String)>,
    /// What was done, the next step, where it is explained.
    pub(crate) steps: Vec<(&'static str, String)>,
    /// Which alert this is.
    pub(crate) origin: String,
}

impl Wording {
    pub(crate) fn of(alert: &Alert) -> Wording {
        let mut figures = Vec::new();
        if let Some(calls) = alert.affected_calls {
            figures.push(("Affected", format!("{calls} canary calls of {}", alert.flow_id)));
        }
        if let (Some(rate), Some(limit)) = (alert.error_rate_breach, alert.threshold_breach) {
            figures.push(("Breach", format!("{:.1} % of canary calls; the limit is {:.1} %", 100.0 * rate, 100.0 * limit)));
        }
        if let Some(cohorts) = &alert.cohorts {
            figures.extend([("Canary", side(&cohorts.canary)), ("Stable", side(&cohorts.stable))]);
        }
        let steps = [("Done", &alert.action_taken), ("Next step", &alert.next_step), ("Runbook", &alert.runbook)];
        Wording {
            headline: format!("[{}] {}: {}", severity(alert.severity), alert.flow_id, alert.action_taken),
            why: said(&alert.reason),
            figures,
            steps: steps.into_iter().map(|(label, text)| (label, said(text))).collect(),
            origin: format!("{}, rollout {}, revision {}, {}", alert.incident_type, alert.rollout, alert.revision, alert.timestamp),
        }
    }

    /// Everything but the headline, line by line; no part is longer than a paragraph.
    pub(crate) fn text(&self) -> String {
        let why = ("Why", &self.why);
        let labeled = [why].into_iter().chain(self.figures.iter().chain(&self.steps).map(|(label, text)| (*label, text)));
        let lines = labeled.map(|(label, text)| format!("{label}: {}", bounded(text, PARAGRAPH, verbatim)));
        lines.chain([bounded(&self.origin, PARAGRAPH, verbatim)]).collect::<Vec<_>>().join("\n")
    }
}

/// Longest part of a message.
pub(crate) const PARAGRAPH: usize = 1_000;

/// The word for it, as in the alert.
pub(crate) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// A text of at most `longest` characters after escaping, in one line. What would show it as something else is taken out.
pub(crate) fn bounded(text: &str, longest: usize, escape: fn(char) -> Option<&'static str>) -> String {
    let (mut bounded, mut room) = (String::new(), longest.saturating_sub(1)); // one place for the ellipsis
    for c in text.chars() {
        let mut buffer = [0; 4];
        let shown = if c.is_control() || is_direction(c) { ' ' } else { c };
        let piece = escape(shown).unwrap_or_else(|| shown.encode_utf8(&mut buffer));
        // Some vendors count UTF-16 units: never fewer than characters.
        let size = piece.encode_utf16().count();
        if size > room {
            bounded.push('…');
            break;
        }
        room -= size;
        bounded.push_str(piece);
    }
    bounded
}

/// No escaping.
pub(crate) fn verbatim(_: char) -> Option<&'static str> {
    None
}

/// The runbook as something to click on, if it is that: an alert names it by its place in the repository unless told otherwise.
pub(crate) fn link(alert: &Alert) -> Option<Url> {
    Url::parse(&alert.runbook).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.as_str().len() <= PARAGRAPH)
}

fn side(counts: &Counts) -> String {
    if counts.calls == 0 {
        return "no call".to_owned();
    }
    let share = |metric: Metric| Some(format!("{:.1} % {}", counts.percent(metric)?, label(metric.name())));
    let mut figures: Vec<String> = [Metric::Error, Metric::Abandon, Metric::Transfer].into_iter().filter_map(share).collect();
    figures.extend(counts.times.and_then(|times| times.mean_s()).map(|mean| format!("{} {mean:.0} s", label("handle"))));
    format!("{} calls: {}", counts.calls, figures.join(", "))
}

/// Overrides of the writing direction: with them a text reads other than it is.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn said(text: &str) -> String {
    if text.trim().is_empty() { "not said".to_owned() } else { text.to_owned() }
}

/// Alerts for the tests of all targets.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use serde_json::Value;

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
             Runbook: docs/runbook.md#rollback\n\
             AUTO_ROLLBACK_TRIGGERED, rollout r-20261121-1, revision 7, 2026-11-21T09:00:00Z"
        );
        let bare = Wording::of(&samples::bare());
        assert_eq!((bare.why.as_str(), bare.figures.len()), ("not said", 0));
    }

    #[test]
    fn a_text_is_one_line_within_its_limit_and_never_cut_inside_an_escape() {
        let escape = |c| (c == '&').then_some("&amp;");
        assert_eq!(bounded("a\n&\u{202e}b", 20, escape), "a &amp; b");
        assert_eq!(bounded("aaaa&", 9, escape), "aaaa…");
        assert_eq!(bounded("🦀🦀🦀", 6, verbatim), "🦀🦀…");
        assert_eq!(bounded("", 6, verbatim), "");
    }

    #[test]
    fn only_a_web_address_is_a_link() {
        let link = |runbook: &str| link(&Alert { runbook: runbook.into(), ..samples::rollback() }).is_some();
        assert!(link("https://runbooks.example/#rollback"));
        assert!(!link("docs/runbook.md#rollback") && !link("javascript:alert(1)"));
    }
}
