//! Microsoft Teams: an adaptive card for a Workflows webhook. All text is in runs, which know no Markdown, so nothing is escaped.

use crate::wording::link;
use serde_json::{Value, json};
use serin_core::alert::{Alert, Severity};
use serin_core::wording::{Wording, bounded, verbatim};

/// A message of more than 28 KB is refused; ten such parts of four-byte characters are less.
const LONGEST_PART: usize = 600;

pub(crate) fn message(alert: &Alert) -> Value {
    let wording = Wording::of(alert);
    let color = match alert.severity {
        Severity::Info => "default",
        Severity::Warning => "warning",
        Severity::Critical => "attention",
    };
    let headline = bounded(&wording.headline, LONGEST_PART, verbatim);
    let mut body = vec![
        block(vec![json!({"type": "TextRun", "text": headline, "weight": "bolder", "size": "large", "color": color})]),
        block(vec![run(&wording.why)]),
    ];
    let labeled = wording.figures.iter().chain(&wording.steps);
    body.extend(
        labeled.map(|(label, text)| block(vec![json!({"type": "TextRun", "text": format!("{label}: "), "weight": "bolder"}), run(text)])),
    );
    let origin = bounded(&wording.origin, LONGEST_PART, verbatim);
    body.push(block(vec![json!({"type": "TextRun", "text": origin, "size": "small", "isSubtle": true})]));
    let actions: Vec<Value> =
        link(alert).into_iter().map(|url| json!({"type": "Action.OpenUrl", "title": "Runbook", "url": url.as_str()})).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "fallbackText": headline,
                "body": body,
                "actions": actions,
            },
        }],
    })
}

fn block(inlines: Vec<Value>) -> Value {
    json!({"type": "RichTextBlock", "inlines": inlines})
}

fn run(text: &str) -> Value {
    json!({"type": "TextRun", "text": bounded(text, LONGEST_PART, verbatim)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use crate::wording::samples;

    #[test]
    fn every_card_is_one_that_teams_takes() {
        let crabs = Alert { reason: "🦀".repeat(5_000), ..samples::hostile() };
        for alert in samples::all().into_iter().chain([crabs]) {
            let card = message(&alert);
            schema::check("teams", &card);
            assert!(card.to_string().len() < 28_000, "{}", card.to_string().len());
        }
    }

    #[test]
    fn a_card_tells_all_and_links_the_runbook_if_that_is_a_web_address() {
        let [alert, .., linked] = samples::all();
        let content = |alert| message(alert)["attachments"][0]["content"].clone();
        let text = content(&alert).to_string();
        for told in [&alert.reason, &alert.action_taken, &alert.next_step, &alert.runbook, "1520 calls: 1.0 % errors", "80 calls: 15.0 %"] {
            assert!(text.contains(told), "{told}");
        }
        assert_eq!(content(&alert)["actions"], json!([]));
        assert_eq!(content(&linked)["actions"][0]["url"], json!(linked.runbook));
    }
}
