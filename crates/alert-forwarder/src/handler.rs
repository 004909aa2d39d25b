//! A batch of the alert queue in, the messages that did not arrive out: those come again, and end in the dead-letter queue.

use crate::webhook::{Target, Undelivered, Webhook};
use anyhow::{Context, anyhow};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_controller::ports::{Clock, Secret};
use serin_core::alert::Alert;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

/// Alerts on their way at the same time.
const AT_ONCE: usize = 5;
/// A changed address is in use after this long.
const SECRET_AGE: SignedDuration = SignedDuration::from_mins(5);
/// Longest reason that is passed on.
const LONGEST_REASON: usize = 1_000;

const ACCEPTED: &str = r#"accepted is an SQS event, {"Records":[{"messageId":"…","body":"<an alert as JSON>"}]}"#;

/// What the queue sends.
#[derive(Debug, Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    body: String,
    event_source: Option<String>,
}

/// Which messages are to come again.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    batch_item_failures: Vec<Item>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    item_identifier: String,
}

/// Brings alerts to where the secret says.
pub(crate) struct Forwarder<S, C> {
    secret: S,
    webhook: Webhook,
    clock: C,
    known: Mutex<Option<(Target, Timestamp)>>,
}

impl<S: Secret, C: Clock> Forwarder<S, C> {
    pub(crate) fn new(secret: S, webhook: Webhook, clock: C) -> Forwarder<S, C> {
        Forwarder { secret, webhook, clock, known: Mutex::default() }
    }

    /// Serves one batch. An error means that all of it comes again.
    pub(crate) async fn handle(&self, event: &Value) -> anyhow::Result<Outcome> {
        let batch = parse(event)?;
        let (mut failed, mut messages) = (Vec::new(), Vec::new());
        for (place, Record { message_id, body, .. }) in batch.records.into_iter().enumerate() {
            match Message::parse(body) {
                Some(message) => messages.push((place, message_id, message)),
                None => {
                    tracing::error!(message_id, "the message is no alert; it is left to the dead-letter queue");
                    failed.push((place, message_id));
                }
            }
        }
        let mut under_way = JoinSet::new();
        if !messages.is_empty() {
            let (target, gate) = (self.target().await?, Arc::new(Semaphore::new(AT_ONCE)));
            for (place, message_id, message) in messages {
                let (target, webhook, gate) = (target.clone(), self.webhook.clone(), gate.clone());
                under_way.spawn(async move {
                    let _turn = gate.acquire_owned().await;
                    let sent = webhook.post(&target, &message.dedup_key, message.body).await;
                    (place, message_id, message.dedup_key, sent)
                });
            }
        }
        while let Some(done) = under_way.join_next().await {
            let (place, message_id, dedup_key, sent) = done.context("an alert was dropped on its way")?;
            match sent {
                Ok(()) => tracing::info!(message_id, dedup_key, "the alert arrived"),
                Err(reason) => {
                    tracing::error!(message_id, dedup_key, %reason, "the alert did not arrive and is tried again");
                    self.learn(&reason).await;
                    failed.push((place, message_id));
                }
            }
        }
        failed.sort();
        Ok(Outcome { batch_item_failures: failed.into_iter().map(|(_, item_identifier)| Item { item_identifier }).collect() })
    }

    /// Where alerts go, read anew when it was read long ago or could not be used.
    async fn target(&self) -> anyhow::Result<Target> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        match known.as_ref() {
            // A clock that was set back does not make a secret younger than its age allows.
            Some((target, read)) if now.duration_since(*read).abs() < SECRET_AGE => return Ok(target.clone()),
            _ => {}
        }
        match self.secret.read().await {
            Ok(secret) => {
                *known = None;
                let target = Target::parse(&secret).map_err(|reason| anyhow!(reason))?;
                *known = Some((target.clone(), now));
                Ok(target)
            }
            // An alert to yesterday's address is better than none.
            Err(reason) => match known.as_ref() {
                Some((target, _)) => {
                    tracing::warn!(reason, "the webhook's secret could not be read anew");
                    Ok(target.clone())
                }
                None => Err(anyhow!(reason)),
            },
        }
    }

    /// The address may have been changed: the next batch reads the secret again, and keeps this one if it cannot.
    async fn learn(&self, reason: &Undelivered) {
        if reason.doubts_the_address()
            && let Some((_, read)) = self.known.lock().await.as_mut()
        {
            *read = Timestamp::UNIX_EPOCH;
        }
    }
}

fn parse(event: &Value) -> anyhow::Result<Batch> {
    // The event itself is not repeated: it may be anything.
    let batch = Batch::deserialize(event).map_err(|_| anyhow!("the event is not accepted: {ACCEPTED}"))?;
    match batch.records.iter().all(|r| r.event_source.as_deref().is_none_or(|source| source == "aws:sqs")) {
        true => Ok(batch),
        false => Err(anyhow!("the event is of another source: {ACCEPTED}")),
    }
}

/// An alert as it is sent on.
struct Message {
    dedup_key: String,
    body: String,
}

impl Message {
    /// `None` if it is no alert. The alert is sent as it came, but for a reason that does not end.
    fn parse(body: String) -> Option<Message> {
        let mut alert: Alert = serde_json::from_str(&body).ok()?;
        let end = alert.reason.char_indices().nth(LONGEST_REASON).map(|(end, _)| end);
        let body = match end {
            None => body,
            Some(end) => {
                alert.reason.truncate(end);
                serde_json::to_string(&alert).ok()?
            }
        };
        Some(Message { dedup_key: alert.dedup_key, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::{Request, State};
    use axum::http::{HeaderMap, StatusCode, header};
    use axum::response::{IntoResponse, Response};
    use serde_json::json;
    use std::sync::Mutex as StdMutex;
    use std::time::Duration;

    /// An incident system: answers by the path it is asked for, and remembers.
    #[derive(Clone, Default)]
    struct Incidents {
        base: String,
        arrived: Arc<StdMutex<Vec<(HeaderMap, Value)>>>,
    }

    impl Incidents {
        async fn start() -> Incidents {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let base = format!("http://{}", listener.local_addr().unwrap());
            let incidents = Incidents { base, ..Incidents::default() };
            let router = Router::new().fallback(receive).with_state(incidents.clone());
            tokio::spawn(async move { axum::serve(listener, router).await });
            incidents
        }

        fn at(&self, path: &str) -> Stored {
            Stored::holding(&json!({"url": format!("{}{path}", self.base)}).to_string())
        }

        fn arrived(&self) -> Vec<(HeaderMap, Value)> {
            self.arrived.lock().unwrap().clone()
        }
    }

    async fn receive(State(incidents): State<Incidents>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        incidents.arrived.lock().unwrap().push((parts.headers, serde_json::from_slice(&body).unwrap()));
        match parts.uri.path() {
            "/hang" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                StatusCode::OK.into_response()
            }
            "/elsewhere" => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/ok")]).into_response(),
            "/500" => (StatusCode::INTERNAL_SERVER_ERROR, "hunter2").into_response(),
            "/404" => StatusCode::NOT_FOUND.into_response(),
            _ => StatusCode::ACCEPTED.into_response(),
        }
    }

    #[derive(Clone)]
    struct Stored(Arc<StdMutex<(Result<String, String>, usize)>>);

    impl Stored {
        fn holding(text: &str) -> Stored {
            Stored(Arc::new(StdMutex::new((Ok(text.to_owned()), 0))))
        }

        fn set(&self, secret: Result<String, String>) {
            self.0.lock().unwrap().0 = secret;
        }

        fn reads(&self) -> usize {
            self.0.lock().unwrap().1
        }
    }

    impl Secret for Stored {
        async fn read(&self) -> Result<String, String> {
            let mut stored = self.0.lock().unwrap();
            stored.1 += 1;
            stored.0.clone()
        }
    }

    #[derive(Clone)]
    struct Hands(Arc<StdMutex<Timestamp>>);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        async fn sleep(&self, duration: SignedDuration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    fn forwarder(secret: &Stored) -> (Forwarder<Stored, Hands>, Hands) {
        let clock = Hands(Arc::new(StdMutex::new("2026-11-20T09:00:00Z".parse().unwrap())));
        (Forwarder::new(secret.clone(), Webhook::new(Duration::from_millis(300)).unwrap(), clock.clone()), clock)
    }

    fn sample() -> Value {
        let path = format!("{}/../../events/alert-forwarder.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
    }

    fn one(body: &str) -> Value {
        json!({"Records": [{"messageId": "m-1", "body": body}]})
    }

    fn first_alert() -> Value {
        serde_json::from_str(sample()["Records"][0]["body"].as_str().unwrap()).unwrap()
    }

    fn failures(outcome: &Outcome) -> Vec<&str> {
        outcome.batch_item_failures.iter().map(|item| item.item_identifier.as_str()).collect()
    }

    #[tokio::test]
    async fn every_alert_of_a_batch_arrives_as_it_is_with_its_dedup_key() {
        let incidents = Incidents::start().await;
        let outcome = forwarder(&incidents.at("/ok")).0.handle(&sample()).await.unwrap();
        assert_eq!(serde_json::to_value(&outcome).unwrap(), json!({"batchItemFailures": []}));
        let mut arrived = incidents.arrived();
        arrived.sort_by_key(|(headers, _)| headers["x-serin-dedup-key"].to_str().unwrap().to_owned());
        assert_eq!(arrived.len(), 2);
        assert_eq!(arrived[0].0["x-serin-dedup-key"], "main_ivr/r-20261121-1/7");
        assert_eq!(arrived[0].0["content-type"], "application/json");
        assert_eq!(arrived[0].1, first_alert());
    }

    #[tokio::test]
    async fn what_the_webhook_does_not_take_comes_again() {
        let incidents = Incidents::start().await;
        for path in ["/500", "/404", "/elsewhere", "/hang"] {
            let outcome = forwarder(&incidents.at(path)).0.handle(&one(&first_alert().to_string())).await.unwrap();
            assert_eq!(serde_json::to_value(&outcome).unwrap(), json!({"batchItemFailures": [{"itemIdentifier": "m-1"}]}), "{path}");
        }
        // The redirect was not followed: one request for each path.
        assert_eq!(incidents.arrived().len(), 4);
        let nobody = Stored::holding(r#"{"url": "http://127.0.0.1:9/"}"#);
        assert_eq!(failures(&forwarder(&nobody).0.handle(&one(&first_alert().to_string())).await.unwrap()), ["m-1"]);
    }

    #[tokio::test]
    async fn a_message_that_is_no_alert_fails_alone() {
        let incidents = Incidents::start().await;
        let mut event = sample();
        event["Records"][0]["body"] = json!("hello");
        let outcome = forwarder(&incidents.at("/ok")).0.handle(&event).await.unwrap();
        assert_eq!(failures(&outcome), ["059f36b4-87a3-44ab-83d2-661975970001"]);
        assert_eq!(incidents.arrived().len(), 1);
    }

    #[tokio::test]
    async fn many_alerts_arrive_and_none_twice() {
        let incidents = Incidents::start().await;
        let records: Vec<Value> =
            (0..30).map(|i| json!({"messageId": format!("m-{i}"), "body": first_alert().to_string(), "eventSource": "aws:sqs"})).collect();
        let secret = incidents.at("/ok");
        let outcome = forwarder(&secret).0.handle(&json!({"Records": records})).await.unwrap();
        assert_eq!((failures(&outcome).len(), incidents.arrived().len(), secret.reads()), (0, 30, 1));
    }

    #[tokio::test]
    async fn an_event_that_is_no_batch_is_refused_with_what_is_accepted() {
        let (forwarder, _) = forwarder(&Stored::holding("{}"));
        for event in [
            json!({"kind": "tick", "time": "2026-11-20T09:00:00Z"}),
            json!("hello"),
            json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "hunter2"}}]}),
            json!({"Records": [{"messageId": "1", "body": "{}", "eventSource": "aws:kinesis"}]}),
        ] {
            let refused = forwarder.handle(&event).await.unwrap_err().to_string();
            assert!(refused.contains("accepted is an SQS event") && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[tokio::test]
    async fn an_address_that_would_leak_the_alert_is_not_used() {
        let (forwarder, _) = forwarder(&Stored::holding(r#"{"url": "http://incidents.example.com/hunter2"}"#));
        let refused = forwarder.handle(&sample()).await.unwrap_err().to_string();
        assert!(refused.contains("not https") && !refused.contains("hunter2"), "{refused}");
    }

    #[tokio::test]
    async fn the_address_is_read_again_when_it_is_old_unusable_or_in_doubt() {
        let incidents = Incidents::start().await;
        let (secret, alert) = (Stored::holding("oops"), one(&first_alert().to_string()));
        let (forwarder, clock) = forwarder(&secret);
        forwarder.handle(&alert).await.unwrap_err();
        secret.set(incidents.at("/404").0.lock().unwrap().0.clone());
        assert_eq!(failures(&forwarder.handle(&alert).await.unwrap()), ["m-1"]);
        secret.set(incidents.at("/ok").0.lock().unwrap().0.clone());
        assert!(failures(&forwarder.handle(&alert).await.unwrap()).is_empty());
        assert_eq!(secret.reads(), 3);
        // In use for five minutes without another look; and longer while it cannot be read.
        clock.sleep(SignedDuration::from_secs(299)).await;
        forwarder.handle(&alert).await.unwrap();
        assert_eq!(secret.reads(), 3);
        secret.set(Err("no".to_owned()));
        clock.sleep(SignedDuration::from_secs(1)).await;
        assert!(failures(&forwarder.handle(&alert).await.unwrap()).is_empty());
        assert_eq!(secret.reads(), 4);
    }

    #[test]
    fn a_reason_that_does_not_end_is_cut() {
        let mut alert = first_alert();
        alert["reason"] = json!("ü".repeat(5_000));
        let sent: Value = serde_json::from_str(&Message::parse(alert.to_string()).unwrap().body).unwrap();
        assert_eq!(sent["reason"].as_str().unwrap().chars().count(), 1_000);
        alert["reason"] = json!("short");
        assert_eq!(Message::parse(alert.to_string()).unwrap().body, alert.to_string());
        assert!(Message::parse(r#"{"flow_id": "main_ivr"}"#.to_owned()).is_none());
    }
}
