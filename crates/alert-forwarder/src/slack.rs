//! Slack: an incoming webhook's message in blocks, with a text for notifications. Nothing in an alert can mention anybody or hide a
//! link behind other words.

use crate::wording::link;
use serde_json::{Value, json};
use serin_core::alert::Alert;
use serin_core::wording::{PARAGRAPH, Wording, bounded};

const LONGEST_HEADER: usize = 150;
/// A section takes 3000 characters; three paragraphs of steps share one.
const LONGEST_STEP: usize = 900;

pub(crate) fn message(alert: &Alert) -> Value {
    let wording = Wording::of(alert);
    let headline = bounded(&wording.headline, LONGEST_HEADER, escaped);
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": headline, "emoji": false}}),
        json!({"type": "section", "text": marked(bounded(&wording.why, PARAGRAPH, escaped))}),
    ];
    let labeled = |label: &str, text: &str| format!("*{label}*\n{}", bounded(text, LONGEST_STEP, escaped));
    if !wording.figures.is_empty() {
        let fields: Vec<Value> = wording.figures.iter().map(|(label, text)| marked(labeled(label, text))).collect();
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    let shown = |(label, text): &(&str, String)| match link(alert).filter(|_| *label == "Runbook") {
        Some(url) if url.as_str().len() < LONGEST_STEP / 5 => format!("*{label}*\n<{}>", bounded(url.as_str(), LONGEST_STEP, in_link)),
        _ => labeled(label, text),
    };
    let steps: Vec<String> = wording.steps.iter().map(shown).collect();
    blocks.push(json!({"type": "section", "text": marked(steps.join("\n"))}));
    blocks.push(json!({"type": "context", "elements": [marked(bounded(&wording.origin, PARAGRAPH, escaped))]}));
    json!({"text": format!("{headline}\n{}", bounded(&wording.why, PARAGRAPH, escaped)), "blocks": blocks})
}

/// Text with Slack's markup, in which it looks for nothing else: no channel names, no bare addresses.
fn marked(text: String) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Slack's three control characters as it wants them, and the marks of emphasis as lookalikes: it knows no escape for those.
fn escaped(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '*' => Some("∗"),
        '~' => Some("∼"),
        '`' => Some("'"),
        _ => None,
    }
}

fn in_link(c: char) -> Option<&'static str> {
    match c {
        // Behind it Slack expects the words to show instead.
        '|' => Some("%7C"),
        _ => escaped(c).filter(|escape| escape.starts_with('&')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use crate::wording::samples;

    #[test]
    fn every_message_is_one_that_slack_takes() {
        for alert in samples::all() {
            schema::check("slack", &message(&alert));
        }
    }

    #[test]
    fn a_reason_can_neither_call_the_channel_nor_disguise_a_link() {
        let sent = message(&Alert { runbook: "https://r.example/?a=1&b=<x>|y".into(), ..samples::hostile() }).to_string();
        assert!(sent.contains("&lt;!channel&gt; &lt;https://evil.example|here&gt; ∗a∗"), "{sent}");
        // Nothing but the runbook stands in brackets.
        let bracketed: Vec<&str> = sent.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
        assert_eq!(bracketed, ["https://r.example/?a=1&amp;b=%3Cx%3E%7Cy"]);
    }

    #[test]
    fn the_text_for_notifications_says_what_happened_and_why() {
        let sent = message(&samples::rollback());
        let text = sent["text"].as_str().unwrap();
        assert!(text.starts_with("[critical] main_ivr: ") && text.contains("15 % of 80 canary calls"), "{text}");
        assert_eq!(sent["blocks"][2]["fields"].as_array().unwrap().len(), 4);
        assert!(sent["blocks"][3]["text"]["text"].as_str().unwrap().contains("docs/runbook/rollback.md"));
    }
}
