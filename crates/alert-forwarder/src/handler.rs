//! A batch of the alert queue in, the messages that did not arrive out: those come again, and end in the dead-letter queue.

use crate::client::{Client, Undelivered};
use crate::incident::{self, Effect};
use crate::message::Message;
use crate::target::Target;
use anyhow::{Context, anyhow};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_controller::ports::{Clock, Secret};
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

/// Alerts on their way at the same time.
const AT_ONCE: usize = 5;
/// A changed address is in use after this long.
const SECRET_AGE: SignedDuration = SignedDuration::from_mins(5);
/// An alert that was last tried so long ago is in the dead-letter queue: its next try would have come after 3 min.
const OWED_FOR: SignedDuration = SignedDuration::from_mins(10);

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
    client: Client,
    clock: C,
    known: Mutex<Option<(Target, Timestamp)>>,
    /// What should have opened an incident and did not arrive: rollout's incident, revision, when it was last tried.
    owed: Mutex<Vec<(String, u64, Timestamp)>>,
}

impl<S: Secret, C: Clock> Forwarder<S, C> {
    pub(crate) fn new(secret: S, client: Client, clock: C) -> Forwarder<S, C> {
        Forwarder { secret, client, clock, known: Mutex::default(), owed: Mutex::default() }
    }

    /// Serves one batch. An error means that all of it comes again.
    pub(crate) async fn handle(&self, event: &Value) -> anyhow::Result<Outcome> {
        let batch = parse(event)?;
        let (mut failed, mut openers, mut closers) = (Vec::new(), Vec::new(), Vec::new());
        for (place, Record { message_id, body, .. }) in batch.records.into_iter().enumerate() {
            match Message::parse(body) {
                Some(message) if message.effect == Effect::Resolve => closers.push((place, message_id, message)),
                Some(message) => openers.push((place, message_id, message)),
                None => {
                    tracing::error!(message_id, "the message is no alert; it is left to the dead-letter queue");
                    failed.push((place, message_id));
                }
            }
        }
        if !(openers.is_empty() && closers.is_empty()) {
            let target = self.target().await?;
            // The queue keeps no order, and what closes an incident does nothing before it is open.
            for messages in [openers, closers] {
                failed.extend(self.send_all(&target, messages).await?);
            }
        }
        failed.sort();
        Ok(Outcome { batch_item_failures: failed.into_iter().map(|(_, item_identifier)| Item { item_identifier }).collect() })
    }

    /// Sends messages side by side and returns those that did not arrive.
    async fn send_all(&self, target: &Target, messages: Vec<(usize, String, Message)>) -> anyhow::Result<Vec<(usize, String)>> {
        let (mut under_way, mut failed, gate) = (JoinSet::new(), Vec::new(), Arc::new(Semaphore::new(AT_ONCE)));
        for (place, message_id, message) in messages {
            let must_wait = target.closes_incidents() && self.must_wait(&message).await;
            let request = target.request(&message, self.clock.now());
            let (client, gate) = (self.client.clone(), gate.clone());
            under_way.spawn(async move {
                let sent = match request {
                    None => Ok(false),
                    Some(_) if must_wait => Err(Undelivered::TooEarly),
                    Some(request) => {
                        let _turn = gate.acquire_owned().await;
                        client.post(&message.alert.dedup_key, request).await.map(|()| true)
                    }
                };
                (place, message_id, message, sent)
            });
        }
        while let Some(done) = under_way.join_next().await {
            let (place, message_id, message, sent) = done.context("an alert was dropped on its way")?;
            let dedup_key = &message.alert.dedup_key;
            match &sent {
                Ok(true) => tracing::info!(message_id, dedup_key, "the alert arrived"),
                Ok(false) => tracing::info!(message_id, dedup_key, "the alert is not of a kind that this target is told"),
                Err(reason) => {
                    tracing::error!(message_id, dedup_key, %reason, "the alert did not arrive and is tried again");
                    self.learn(reason).await;
                    failed.push((place, message_id));
                }
            }
            if target.closes_incidents() {
                self.remember(&message, sent.is_ok()).await;
            }
        }
        Ok(failed)
    }

    /// Whether an alert would close an incident that an earlier one, still on its way, has yet to open.
    async fn must_wait(&self, message: &Message) -> bool {
        let (now, alert) = (self.clock.now(), &message.alert);
        let mut owed = self.owed.lock().await;
        owed.retain(|(.., tried)| now.duration_since(*tried).abs() < OWED_FOR);
        let (key, is_closing) = (incident::key(alert, usize::MAX), message.effect == Effect::Resolve);
        is_closing && owed.iter().any(|(incident, revision, _)| *incident == key && *revision < alert.revision)
    }

    async fn remember(&self, message: &Message, arrived: bool) {
        if matches!(message.effect, Effect::Trigger(_)) {
            let (key, revision) = (incident::key(&message.alert, usize::MAX), message.alert.revision);
            let mut owed = self.owed.lock().await;
            owed.retain(|(incident, other, _)| (incident, *other) != (&key, revision));
            if !arrived {
                owed.push((key, revision, self.clock.now()));
            }
        }
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
                    tracing::warn!(reason, "the target's secret could not be read anew");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address;
    use crate::schema;
    use crate::wording::samples::rollback;
    use axum::Router;
    use axum::extract::{Request, State};
    use axum::http::{HeaderMap, StatusCode, header};
    use axum::response::{IntoResponse, Response};
    use serde_json::json;
    use serin_core::alert::Alert;
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
            "/429" => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "3600")]).into_response(),
            "/503" => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "3600")]).into_response(),
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
        (Forwarder::new(secret.clone(), Client::new(Duration::from_millis(300), address::system).unwrap(), clock.clone()), clock)
    }

    /// As a name server would answer whose owner wants to reach what is inside.
    fn inside(_: String) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<std::net::SocketAddr>>> + Send>> {
        Box::pin(async { Ok(vec!["127.0.0.1:0".parse().unwrap()]) })
    }

    /// One alert of a rollout, in a batch of its own or with others.
    fn batch(kinds: &[(&str, u64)]) -> Value {
        let record = |(kind, revision): &(&str, u64)| {
            let alert = Alert { incident_type: (*kind).into(), revision: *revision, dedup_key: format!("k-{revision}"), ..rollback() };
            json!({"messageId": format!("m-{revision}"), "body": serde_json::to_string(&alert).unwrap()})
        };
        json!({"Records": kinds.iter().map(record).collect::<Vec<_>>()})
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
        for path in ["/500", "/404", "/429", "/503", "/elsewhere", "/hang"] {
            let outcome = forwarder(&incidents.at(path)).0.handle(&one(&first_alert().to_string())).await.unwrap();
            assert_eq!(serde_json::to_value(&outcome).unwrap(), json!({"batchItemFailures": [{"itemIdentifier": "m-1"}]}), "{path}");
        }
        // The redirect was not followed, and nobody waited for an hour to try again: one request for each path.
        assert_eq!(incidents.arrived().len(), 6);
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

    #[tokio::test]
    async fn a_signed_alert_can_be_verified_and_is_void_later() {
        let incidents = Incidents::start().await;
        let key = "0123456789abcdef";
        let secret = Stored::holding(&json!({"kind": "webhook", "url": format!("{}/ok", incidents.base), "hmac_key": key}).to_string());
        let (forwarder, clock) = forwarder(&secret);
        let body = first_alert().to_string();
        forwarder.handle(&one(&body)).await.unwrap();
        clock.sleep(SignedDuration::from_mins(3)).await;
        forwarder.handle(&one(&body)).await.unwrap();
        let signatures: Vec<(String, String)> = incidents
            .arrived()
            .iter()
            .map(|(headers, _)| ["x-serin-timestamp", "x-serin-signature"].map(|name| headers[name].to_str().unwrap().to_owned()).into())
            .collect();
        let expected = |at: &str| {
            let [(_, timestamp), (_, signature)] = crate::webhook::signed(key, at.parse().unwrap(), &body);
            (timestamp, signature)
        };
        assert_eq!(signatures, [expected("2026-11-20T09:00:00Z"), expected("2026-11-20T09:03:00Z")]);
        assert_ne!(signatures[0].1, signatures[1].1);
    }

    #[tokio::test]
    async fn an_alert_without_a_key_is_not_signed() {
        let incidents = Incidents::start().await;
        forwarder(&incidents.at("/ok")).0.handle(&one(&first_alert().to_string())).await.unwrap();
        let (headers, _) = &incidents.arrived()[0];
        assert!(!headers.contains_key("x-serin-signature") && !headers.contains_key("x-serin-timestamp"));
    }

    #[tokio::test]
    async fn each_target_gets_what_its_vendor_documents() {
        let everything = batch(&[("AUTO_ROLLBACK_TRIGGERED", 7), ("ROLLED_BACK", 8), ("CANARY_ADVANCED", 6)]);
        let routing_key = "0123456789abcdef0123456789abcdef";
        for (kind, more, arrive) in [
            ("pagerduty", json!({"routing_key": routing_key}), 2),
            ("slack", json!({}), 3),
            ("teams", json!({}), 3),
            ("servicenow", json!({"user": "serin", "password": "hunter2"}), 1),
        ] {
            let incidents = Incidents::start().await;
            let mut secret = json!({"kind": kind, "url": format!("{}/", incidents.base)});
            secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let outcome = forwarder(&Stored::holding(&secret.to_string())).0.handle(&everything).await.unwrap();
            let arrived = incidents.arrived();
            assert_eq!((failures(&outcome).len(), arrived.len()), (0, arrive), "{kind}");
            for (headers, body) in &arrived {
                schema::check(kind, body);
                assert_eq!(headers["content-type"], "application/json");
                let login = headers.get("authorization").map(|login| login.to_str().unwrap());
                assert_eq!(login, (kind == "servicenow").then_some("Basic c2VyaW46aHVudGVyMg=="));
            }
        }
    }

    #[tokio::test]
    async fn what_closes_an_incident_comes_after_what_opened_it() {
        let incidents = Incidents::start().await;
        let secret = |path: &str| {
            let key = "0123456789abcdef0123456789abcdef";
            json!({"kind": "pagerduty", "routing_key": key, "url": format!("{}{path}", incidents.base)}).to_string()
        };
        let stored = Stored::holding(&secret("/404"));
        let (forwarder, clock) = forwarder(&stored);
        let (opens, closes) = (("AUTO_ROLLBACK_TRIGGERED", 7), ("ROLLED_BACK", 8));
        // In one batch, however the queue sorts it: the trigger failed, so the resolve was not tried.
        assert_eq!(failures(&forwarder.handle(&batch(&[closes, opens])).await.unwrap()), ["m-8", "m-7"]);
        assert_eq!(incidents.arrived().len(), 1);
        // The way is free again, and the resolve comes first: it waits.
        stored.set(Ok(secret("/ok")));
        clock.sleep(SignedDuration::from_mins(3)).await;
        assert_eq!(failures(&forwarder.handle(&batch(&[closes])).await.unwrap()), ["m-8"]);
        assert!(failures(&forwarder.handle(&batch(&[opens])).await.unwrap()).is_empty());
        assert!(failures(&forwarder.handle(&batch(&[closes])).await.unwrap()).is_empty());
        let actions: Vec<Value> = incidents.arrived().iter().map(|(_, event)| event["event_action"].clone()).collect();
        assert_eq!(actions, ["trigger", "trigger", "resolve"]);
        // Whatever happens to a trigger: a later one is never held back.
        stored.set(Ok(secret("/404")));
        clock.sleep(SECRET_AGE).await;
        assert_eq!(failures(&forwarder.handle(&batch(&[("ROLLBACK_TRIGGERED", 9)])).await.unwrap()), ["m-9"]);
        stored.set(Ok(secret("/ok")));
        assert!(failures(&forwarder.handle(&batch(&[("HUMAN_NEEDED", 10)])).await.unwrap()).is_empty());
        // And what is in the dead-letter queue by now is not waited for.
        assert_eq!(failures(&forwarder.handle(&batch(&[("CLEARED", 11)])).await.unwrap()), ["m-11"]);
        clock.sleep(OWED_FOR).await;
        assert!(failures(&forwarder.handle(&batch(&[("CLEARED", 11)])).await.unwrap()).is_empty());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_connected_to_unless_the_secret_says_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://hooks.example.com:{}/hunter2", listener.local_addr().unwrap().port());
        let connections = Arc::new(StdMutex::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                *counted.lock().unwrap() += 1;
            }
        });
        for (private, expected) in [(false, 0), (true, 1)] {
            let client = Client::new(Duration::from_millis(300), inside).unwrap();
            let target = Target::parse(&json!({"url": url, "private": private}).to_string()).unwrap();
            let message = Message::parse(first_alert().to_string()).unwrap();
            let request = target.request(&message, Timestamp::UNIX_EPOCH).unwrap();
            let refused = client.post("key", request).await.unwrap_err();
            assert_eq!(matches!(refused, Undelivered::Private), !private, "{refused}");
            assert!(!refused.to_string().contains("hunter2") && !refused.to_string().contains("example"), "{refused}");
            assert_eq!(*connections.lock().unwrap(), expected);
        }
        // Through the handler: such an alert stays in the queue.
        let clock = Hands(Arc::new(StdMutex::new(Timestamp::UNIX_EPOCH)));
        let client = Client::new(Duration::from_millis(300), inside).unwrap();
        let forwarder = Forwarder::new(Stored::holding(&json!({"url": url}).to_string()), client, clock);
        assert_eq!(failures(&forwarder.handle(&one(&first_alert().to_string())).await.unwrap()), ["m-1"]);
        assert_eq!(*connections.lock().unwrap(), 1);
    }

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<StdMutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn no_log_and_no_error_holds_anything_of_a_secret_or_an_answer() {
        let log = Log::default();
        let kept = log.clone();
        // For all threads: what other tests log is held against it too.
        tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(move || kept.clone()).init();
        let incidents = Incidents::start().await;
        let key = "hunter2hunter2hunter2hunter2hunt";
        let mut errors = String::new();
        for path in ["/ok", "/500", "/404", "/elsewhere", "/hang"] {
            let url = format!("{}{path}?hunter2", incidents.base);
            for secret in [
                json!({"url": url, "hmac_key": key}),
                json!({"kind": "pagerduty", "url": url, "routing_key": key}),
                json!({"kind": "slack", "url": url}),
                json!({"kind": "servicenow", "url": format!("{}{path}", incidents.base), "user": "u", "password": key}),
                json!({"kind": "servicenow", "url": url, "user": "u", "password": key}),
                json!({"kind": "teams", "url": format!("https://{key}.invalid/{key}")}),
                json!({"kind": key, "url": url}),
            ] {
                if let Err(error) = forwarder(&Stored::holding(&secret.to_string())).0.handle(&sample()).await {
                    errors.push_str(&format!("{error:#} {error:?}"));
                }
            }
        }
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("did not arrive") && log.contains("the alert arrived") && !errors.is_empty(), "{log}{errors}");
        for secret in ["hunter2", "127.0.0.1"] {
            let said = log.lines().chain(errors.lines()).find(|line| line.contains(secret));
            assert_eq!(said, None, "{secret}");
        }
    }

    /// A target that takes some alerts, and answers others with errors, with nothing or not at all; by turns, so that runs are alike.
    async fn moody(arrived: Arc<StdMutex<std::collections::HashMap<String, u32>>>) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut turn = 0_u32;
            while let Ok((mut socket, _)) = listener.accept().await {
                turn += 1;
                let arrived = arrived.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    // An alert is small: its last brace ends what is read, and so does one before it, which costs another try.
                    while !request.ends_with(b"}") && socket.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
                    let status = match turn % 401 {
                        0 => return tokio::time::sleep(Duration::from_secs(1)).await,
                        n if n % 7 == 0 => return,
                        n if n % 5 == 0 => "429 Slow Down\r\nretry-after: 3600",
                        n if n % 3 == 0 => "503 Not Now",
                        _ => "202 Taken",
                    };
                    let text = String::from_utf8(request).unwrap();
                    let key = text.lines().find_map(|line| line.strip_prefix("x-serin-dedup-key: ")).expect("every alert has its key");
                    if status.starts_with("202") {
                        *arrived.lock().unwrap().entry(key.to_owned()).or_default() += 1;
                    }
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        base
    }

    #[tokio::test]
    async fn ten_thousand_alerts_arrive_at_a_target_that_fails_in_every_way() {
        let arrived = Arc::new(StdMutex::new(std::collections::HashMap::new()));
        let secret = Stored::holding(&json!({"url": moody(arrived.clone()).await}).to_string());
        let clock = Hands(Arc::new(StdMutex::new(Timestamp::UNIX_EPOCH)));
        let forwarder = Forwarder::new(secret, Client::new(Duration::from_millis(50), address::system).unwrap(), clock);
        let alert = |i: u32| {
            let alert = Alert { dedup_key: format!("main_ivr/r-1/{i}"), ..rollback() };
            json!({"messageId": i.to_string(), "body": serde_json::to_string(&alert).unwrap()})
        };
        let mut queue: std::collections::VecDeque<u32> = (0..10_000).collect();
        let mut tries = 0;
        while !queue.is_empty() {
            let batch: Vec<u32> = queue.drain(..queue.len().min(10)).collect();
            tries += batch.len();
            let records: Vec<Value> = batch.iter().map(|i| alert(*i)).collect();
            let outcome = forwarder.handle(&json!({"Records": records})).await.unwrap();
            queue.extend(failures(&outcome).iter().map(|id| id.parse::<u32>().unwrap()));
        }
        assert!(tries > 15_000, "{tries}");
        let arrived = arrived.lock().unwrap();
        assert!((0..10_000).all(|i| arrived.contains_key(&format!("main_ivr/r-1/{i}"))));
        assert_eq!(arrived.len(), 10_000);
    }
}
