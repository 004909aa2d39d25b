//! Where alerts go: what the secret says, and the one request that brings an alert there.

use crate::message::Message;
use crate::{address, pagerduty, servicenow, slack, teams, webhook};
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;

/// Where alerts go. The address is a secret in itself: it is never shown.
#[derive(Clone)]
pub(crate) struct Target {
    kind: Kind,
    url: Url,
    private: bool,
}

#[derive(Clone)]
enum Kind {
    Webhook { hmac_key: Option<String> },
    PagerDuty { routing_key: String },
    Slack,
    Teams,
    ServiceNow { user: String, password: String },
}

/// What is sent. Not shown either: a body may hold a key.
pub(crate) struct Request {
    pub(crate) url: Url,
    /// The name may lead inside.
    pub(crate) private: bool,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) login: Option<(String, String)>,
    pub(crate) body: String,
}

/// Shorter keys can be guessed.
const SHORTEST_HMAC_KEY: usize = 16;

const WEBHOOK: &str = concat!(
    r#"the webhook's secret is not JSON of the form {"url": "https://…"}, "#,
    r#"with "hmac_key" (16 characters or more) and "private" if wanted"#
);
const PAGERDUTY: &str =
    r#"the secret is not of the form {"kind": "pagerduty", "routing_key": "<32 letters and digits>"}, with "url" and "private" if wanted"#;
const SLACK: &str = r#"the secret is not of the form {"kind": "slack", "url": "https://…"}, with "private" if wanted"#;
const TEAMS: &str = r#"the secret is not of the form {"kind": "teams", "url": "https://…"}, with "private" if wanted"#;
const SERVICENOW: &str = concat!(
    r#"the secret is not of the form {"kind": "servicenow", "url": "https://<instance>", "user": "…", "password": "…"}, "#,
    r#"with "private" if wanted"#
);
const KINDS: &str = r#"the secret's "kind" is none of "webhook", "pagerduty", "slack", "teams" and "servicenow""#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookSecret {
    url: String,
    hmac_key: Option<String>,
    #[serde(default)]
    private: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerDutySecret {
    routing_key: String,
    url: Option<String>,
    #[serde(default)]
    private: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatSecret {
    url: String,
    #[serde(default)]
    private: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceNowSecret {
    url: String,
    user: String,
    password: String,
    #[serde(default)]
    private: bool,
}

impl Target {
    /// Reads the secret; the error repeats nothing of it.
    pub(crate) fn parse(secret: &str) -> Result<Target, &'static str> {
        let mut fields: Map<String, Value> = serde_json::from_str(secret).map_err(|_| WEBHOOK)?;
        let kind = fields.remove("kind");
        match kind.as_ref().map(Value::as_str) {
            // The first form of the secret, which ignored what it did not know.
            None => {
                fields.retain(|name, _| ["url", "hmac_key", "private"].contains(&name.as_str()));
                webhook_of(fields)
            }
            Some(Some("webhook")) => webhook_of(fields),
            Some(Some("pagerduty")) => pagerduty_of(fields),
            Some(Some("slack")) => chat_of(fields, Kind::Slack, SLACK),
            Some(Some("teams")) => chat_of(fields, Kind::Teams, TEAMS),
            Some(Some("servicenow")) => servicenow_of(fields),
            Some(_) => Err(KINDS),
        }
    }

    /// Whether a resolve closes what a trigger opened here, so that it must not come first.
    pub(crate) fn closes_incidents(&self) -> bool {
        matches!(self.kind, Kind::PagerDuty { .. })
    }

    /// The request that brings this alert there; `None` if this target is not told of such.
    pub(crate) fn request(&self, message: &Message, now: Timestamp) -> Option<Request> {
        let alert = &message.alert;
        let (mut headers, mut login) = (Vec::new(), None);
        let body = match &self.kind {
            Kind::Webhook { hmac_key } => {
                headers.extend(hmac_key.iter().flat_map(|key| webhook::signed(key, now, &message.body)));
                message.body.clone()
            }
            Kind::PagerDuty { routing_key } => pagerduty::event(routing_key, alert)?.to_string(),
            Kind::Slack => slack::message(alert).to_string(),
            Kind::Teams => teams::message(alert).to_string(),
            Kind::ServiceNow { user, password } => {
                headers.push(("accept", "application/json".to_owned()));
                login = Some((user.clone(), password.clone()));
                servicenow::incident(alert)?.to_string()
            }
        };
        Some(Request { url: self.url.clone(), private: self.private, headers, login, body })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target(hidden)")
    }
}

fn webhook_of(fields: Map<String, Value>) -> Result<Target, &'static str> {
    let secret: WebhookSecret = read(fields, WEBHOOK)?;
    if secret.hmac_key.as_ref().is_some_and(|key| key.len() < SHORTEST_HMAC_KEY) {
        return Err(WEBHOOK);
    }
    Ok(Target { kind: Kind::Webhook { hmac_key: secret.hmac_key }, url: safe(&secret.url)?, private: secret.private })
}

fn pagerduty_of(fields: Map<String, Value>) -> Result<Target, &'static str> {
    let secret: PagerDutySecret = read(fields, PAGERDUTY)?;
    if secret.routing_key.len() != 32 || !secret.routing_key.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(PAGERDUTY);
    }
    let url = safe(secret.url.as_deref().unwrap_or(pagerduty::URL))?;
    Ok(Target { kind: Kind::PagerDuty { routing_key: secret.routing_key }, url, private: secret.private })
}

fn chat_of(fields: Map<String, Value>, kind: Kind, form: &'static str) -> Result<Target, &'static str> {
    let secret: ChatSecret = read(fields, form)?;
    Ok(Target { kind, url: safe(&secret.url)?, private: secret.private })
}

fn servicenow_of(fields: Map<String, Value>) -> Result<Target, &'static str> {
    let secret: ServiceNowSecret = read(fields, SERVICENOW)?;
    let mut url = safe(&secret.url)?;
    // A colon would end the user's name in the header.
    if secret.user.is_empty() || secret.user.contains(':') || url.query().is_some() || url.fragment().is_some() {
        return Err(SERVICENOW);
    }
    url.path_segments_mut().map_err(|()| SERVICENOW)?.pop_if_empty().extend(servicenow::PATH);
    Ok(Target { kind: Kind::ServiceNow { user: secret.user, password: secret.password }, url, private: secret.private })
}

fn read<T: DeserializeOwned>(fields: Map<String, Value>, form: &'static str) -> Result<T, &'static str> {
    serde_json::from_value(Value::Object(fields)).map_err(|_| form)
}

fn safe(url: &str) -> Result<Url, &'static str> {
    let url = Url::parse(url.trim()).map_err(|_| "the secret holds no url")?;
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = address::is_localhost(host) || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() == "https" || (url.scheme() == "http" && is_loopback) {
        true => Ok(url),
        false => Err("the secret's url is not https; plain http is for the loopback address only"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::samples::rollback;
    use serde_json::json;
    use serin_core::alert::Alert;

    #[test]
    fn only_https_and_the_loopback_address_are_targets() {
        let parse = |url: &str| Target::parse(&format!(r#"{{"url": "{url}"}}"#));
        for good in ["https://events.example.com/hook?key=hunter2", "http://127.0.0.1:8080/x", "http://[::1]:1/", "http://localhost/"] {
            assert_eq!(format!("{:?}", parse(good).unwrap()), "Target(hidden)");
        }
        for bad in [
            "http://events.example.com/hunter2",
            "http://10.0.0.1/hunter2",
            "http://localhost.example.com/hunter2",
            "ftp://127.0.0.1/",
            "hunter2",
        ] {
            assert!(!parse(bad).unwrap_err().contains("hunter2"), "{bad}");
        }
        for bad in ["", "https://hunter2", r#"{"uri": "https://hunter2"}"#] {
            assert!(Target::parse(bad).unwrap_err().contains("not JSON of the form"), "{bad}");
        }
    }

    #[test]
    fn each_kind_of_secret_is_read() {
        let key = "0123456789abcdef0123456789abcdef";
        for (secret, url) in [
            // What the first form did not know, it ignored.
            (json!({"url": "https://h.example/x", "note": "ours"}), "https://h.example/x"),
            (json!({"kind": "webhook", "url": "https://h.example/x", "hmac_key": key, "private": true}), "https://h.example/x"),
            (json!({"kind": "pagerduty", "routing_key": key}), "https://events.pagerduty.com/v2/enqueue"),
            (
                json!({"kind": "pagerduty", "routing_key": key, "url": "https://events.eu.pagerduty.com/v2/enqueue"}),
                "https://events.eu.pagerduty.com/v2/enqueue",
            ),
            (json!({"kind": "slack", "url": "https://hooks.slack.com/services/T/B/x"}), "https://hooks.slack.com/services/T/B/x"),
            (json!({"kind": "teams", "url": "https://t.example/workflows/x?sig=y"}), "https://t.example/workflows/x?sig=y"),
            (
                json!({"kind": "servicenow", "url": "https://acme.example/", "user": "u", "password": "p:w"}),
                "https://acme.example/api/now/table/incident",
            ),
        ] {
            assert_eq!(Target::parse(&secret.to_string()).unwrap().url.as_str(), url, "{secret}");
        }
    }

    #[test]
    fn a_secret_that_does_not_fit_is_refused_with_what_is_accepted_and_nothing_of_itself() {
        let key = "hunter2hunter2hunter2hunter2hunt";
        for bad in [
            json!({"kind": "hunter2", "url": "https://h.example"}),
            json!({"kind": null, "url": "https://h.example"}),
            json!({"kind": "webhook", "url": "https://h.example", "hmac_key": "hunter2"}),
            json!({"kind": "webhook", "url": "https://h.example", "hmac-key": key}),
            json!({"url": "https://h.example", "private": "hunter2"}),
            json!({"kind": "pagerduty", "routing_key": "hunter2"}),
            json!({"kind": "pagerduty", "url": "https://h.example/hunter2"}),
            json!({"kind": "pagerduty", "routing_key": key, "url": "http://h.example/hunter2"}),
            json!({"kind": "slack", "url": "https://h.example", "routing_key": key}),
            json!({"kind": "teams"}),
            json!({"kind": "servicenow", "url": "https://h.example", "user": "hunter2"}),
            json!({"kind": "servicenow", "url": "https://h.example", "user": "a:hunter2", "password": "hunter2"}),
            json!({"kind": "servicenow", "url": "https://h.example?hunter2", "user": "a", "password": "hunter2"}),
            json!(["hunter2"]),
        ] {
            let refused = Target::parse(&bad.to_string()).unwrap_err();
            assert!(!refused.contains("hunter2") && refused.starts_with("the "), "{refused}");
        }
    }

    /// Every text in a payload.
    fn texts(payload: &Value) -> Vec<&str> {
        match payload {
            Value::String(text) => vec![text],
            Value::Array(parts) => parts.iter().flat_map(texts).collect(),
            Value::Object(fields) => fields.values().flat_map(texts).collect(),
            _ => vec![],
        }
    }

    #[test]
    fn no_reason_becomes_more_than_text_at_any_target() {
        let reasons = [
            "<!channel> <!here> <@U024BE7LH> <!subteam^S1|all>",
            "@everyone @channel <at>everyone</at>",
            "`rm -rf /` ```x``` *bold* _i_ ~s~ # h",
            "[here](https://evil.example) <https://evil.example|here> ![i](https://evil.example/i.png)",
            "{{DATE(2026-11-20T09:00:00Z,SHORT)}} ${secret} [code]<script>alert(1)</script>[/code]",
            "a\r\nRunbook: https://evil.example\u{2028}\0\x1b[31m\u{202e}txet",
            "\"},{\"event_action\":\"resolve\"",
        ];
        let long = reasons.concat().repeat(30);
        assert!(long.chars().count() > 10_000);
        let at = "https://h.example";
        for (kind, secret) in [
            ("webhook", json!({"url": at})),
            ("pagerduty", json!({"routing_key": "0123456789abcdef0123456789abcdef"})),
            ("slack", json!({"url": at})),
            ("teams", json!({"url": at})),
            ("servicenow", json!({"url": at, "user": "u", "password": "p"})),
        ] {
            let mut secret = secret;
            secret["kind"] = json!(kind);
            let target = Target::parse(&secret.to_string()).unwrap();
            let sent = |reason: &str| -> Value {
                let alert = Alert { reason: reason.to_owned(), ..rollback() };
                let message = Message::parse(serde_json::to_string(&alert).unwrap()).unwrap();
                serde_json::from_str(&target.request(&message, Timestamp::UNIX_EPOCH).unwrap().body).unwrap()
            };
            let plain = sent("plain");
            for reason in reasons.into_iter().chain([long.as_str()]) {
                let payload = sent(reason);
                let shown = texts(&payload);
                assert_eq!(shown.len(), texts(&plain).len(), "{kind}: {reason} is one text among the others");
                if kind == "webhook" {
                    // For programs: as it is, within JSON.
                    assert_eq!(payload["reason"].as_str().unwrap(), reason.chars().take(1_000).collect::<String>());
                    continue;
                }
                crate::schema::check(kind, &payload);
                let lines = |payload: &Value| texts(payload).iter().map(|text| text.lines().count()).sum::<usize>();
                assert_eq!(lines(&payload), lines(&plain), "{kind}: {reason} adds no line");
                for text in shown {
                    let hidden = text.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{2028}'..='\u{202e}').contains(c));
                    assert_eq!(hidden, None, "{kind}: {text:?}");
                    assert!(text.chars().count() < 3_000, "{kind}: {} characters", text.chars().count());
                    // Slack alone reads markup in what it gets; the others' fields know none.
                    let markup = ["<!", "<@", "<http", "`", "*bold*", "~s~"].iter().find(|mark| text.contains(**mark));
                    assert!(kind != "slack" || markup.is_none(), "{text}");
                }
            }
        }
        // Teams reads Markdown in a TextBlock, and in nothing that a card of ours has.
        let card = crate::teams::message(&Alert { reason: long, ..rollback() }).to_string();
        assert!(card.contains(r#""type":"TextRun""#) && !card.contains(r#""type":"TextBlock""#));
    }
}
