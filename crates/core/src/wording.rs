//! An alert as people read it: what happened, to whom, both cohorts' figures, what was done, the next step. Each target sets it in
//! its own form, bounded and escaped; e-mail and SMS have theirs here.

use crate::alert::{Alert, Severity};
use crate::measurement::{Counts, Metric, label};

/// The parts of the message, not escaped yet, none of them empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Wording {
    /// One line: how urgent, which flow, what was done.
    pub headline: String,
    /// Why.
    pub why: String,
    /// To whom, and both cohorts side by side; empty where nothing was compared.
    pub figures: Vec<(&'static str, String)>,
    /// What was done, the next step, where it is explained.
    pub steps: Vec<(&'static str, String)>,
    /// Which alert this is.
    pub origin: String,
}

/// Longest part of a message.
pub const PARAGRAPH: usize = 1_000;
/// Longest SMS: one part, whatever the network counts a bracket for.
const LONGEST_SMS: usize = 140;

impl Wording {
    /// An alert's.
    pub fn of(alert: &Alert) -> Wording {
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
            headline: format!("[{}] {}: {}", alert.severity.name(), alert.flow_id, alert.action_taken),
            why: said(&alert.reason),
            figures,
            steps: steps.into_iter().map(|(label, text)| (label, said(text))).collect(),
            origin: format!("{}, rollout {}, revision {}, {}", alert.incident_type, alert.rollout, alert.revision, alert.timestamp),
        }
    }

    /// Everything but the headline, line by line; no part is longer than a paragraph.
    pub fn text(&self) -> String {
        let why = ("Why", &self.why);
        let labeled = [why].into_iter().chain(self.figures.iter().chain(&self.steps).map(|(label, text)| (*label, text)));
        let lines = labeled.map(|(label, text)| format!("{label}: {}", bounded(text, PARAGRAPH, verbatim)));
        lines.chain([bounded(&self.origin, PARAGRAPH, verbatim)]).collect::<Vec<_>>().join("\n")
    }
}

impl Alert {
    /// The body of an e-mail: lines rather than columns, since mail programs choose the font. It ends with the anchor to check the ledger against.
    pub fn email(&self) -> String {
        let wording = Wording::of(self);
        let headline = bounded(&wording.headline, PARAGRAPH, verbatim);
        let anchor = if self.revision == 0 { String::new() } else { format!("Ledger up to here: {}\n", self.head_hash) };
        format!("{headline}\n\n{}\n{anchor}", wording.text())
    }

    /// An SMS: plain ASCII, at most 140 characters.
    pub fn sms(&self) -> String {
        let text = format!("[{}] {}: {}. Next: {}", self.severity.name(), self.flow_id, self.action_taken, self.next_step);
        // A backtick is not in the alphabet of SMS, and would halve what fits into one.
        let plain = bounded(&text, usize::MAX, |c| match c {
            '`' => Some("'"),
            c if !c.is_ascii() => Some("?"),
            _ => None,
        });
        if plain.len() <= LONGEST_SMS { plain } else { format!("{}...", &plain[..LONGEST_SMS - 3]) }
    }
}

impl Severity {
    /// The word for it, as in the alert.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// A text of at most `longest` characters after escaping, in one line. What would show it as something else is taken out.
pub fn bounded(text: &str, longest: usize, escape: fn(char) -> Option<&'static str>) -> String {
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
pub fn verbatim(_: char) -> Option<&'static str> {
    None
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

/// Overrides of the writing direction: with them a text reads other than it is. So do line separators that are no control characters.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn said(text: &str) -> String {
    if text.trim().is_empty() { "not said".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_within_its_limit_and_never_cut_inside_an_escape() {
        let escape = |c| (c == '&').then_some("&amp;");
        assert_eq!(bounded("a\n&\u{202e}b\u{2028}", 20, escape), "a &amp; b ");
        assert_eq!(bounded("aaaa&", 9, escape), "aaaa…");
        assert_eq!(bounded("🦀🦀🦀", 6, verbatim), "🦀🦀…");
        assert_eq!(bounded("", 6, verbatim), "");
    }
}
