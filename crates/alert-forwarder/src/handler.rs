//! A batch of a target's queue in, the messages that did not arrive out: those come again, and end in the dead-letter queue.
//!
//! Every target has a queue, a secret and runs of its own: one that is dead, slow or wrongly set delays nothing of another.

use crate::client::{Client, Undelivered};
use crate::incident::{self, Effect};
use crate::message::Message;
use crate::target::Target;
use anyhow::anyhow;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_controller::ports::Clock;
use serin_core::alert::Alert;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::sync::Semaphore;

/// Alerts on their way at the same time.
const AT_ONCE: usize = 5;
/// A changed address is in use after this long.
const SECRET_AGE: SignedDuration = SignedDuration::from_mins(5);
/// Tries in one run; the queue repeats the run.
const TRIES: u32 = 3;
/// The first pause between two tries; each further one is twice as long.
const PAUSE: SignedDuration = SignedDuration::from_millis(500);
/// No request of a run ends later than this. With 3 s each for what is noted afterwards and for what is looked up before a resolve
/// it stays below the function's 30 s.
const BUDGET: SignedDuration = SignedDuration::from_secs(18);
/// The queue gives a message out so often before it goes to the dead-letter queue; infra/alert-target.yaml says the same.
const LAST_RECEIVE: u32 = 5;

const ACCEPTED: &str =
    r#"accepted is an SQS event, {"Records":[{"messageId":"…","body":"<an alert as JSON>","eventSourceARN":"<the queue's>"}]}"#;

/// Where targets' secrets are.
pub(crate) trait Secrets {
    /// A target's secret, read anew. The error names where it is kept, never its value.
    fn read(&self, target: &str) -> impl Future<Output = Result<String, String>>;
}

/// What is remembered of what has arrived, by all sandboxes of the function together.
pub(crate) trait Deliveries {
    /// An alert has arrived at a target.
    fn record(&self, target: &str, alert: &str, now: Timestamp) -> impl Future<Output = Result<(), String>>;
    /// Whether it has.
    fn is_recorded(&self, target: &str, alert: &str) -> impl Future<Output = Result<bool, String>>;
}

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
    #[serde(rename = "eventSourceARN")]
    queue: String,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Debug, Default, Deserialize)]
struct Attributes {
    #[serde(rename = "ApproximateReceiveCount")]
    receives: Option<String>,
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

/// A message, and which try of the queue this is.
struct Parcel {
    place: usize,
    id: String,
    receives: u32,
    message: Message,
}

/// Where the messages of a run go, and until when.
struct Run<'a> {
    name: &'a str,
    target: Target,
    until: Timestamp,
    gate: Semaphore,
}

/// Brings alerts to where their targets' secrets say.
pub(crate) struct Forwarder<S, D, C> {
    stage: String,
    secrets: S,
    deliveries: D,
    client: Client,
    clock: C,
    /// By target, with the time it was read.
    known: Mutex<BTreeMap<String, (Target, Timestamp)>>,
}

impl<S: Secrets, D: Deliveries, C: Clock> Forwarder<S, D, C> {
    pub(crate) fn new(stage: &str, secrets: S, deliveries: D, client: Client, clock: C) -> Forwarder<S, D, C> {
        Forwarder { stage: stage.to_owned(), secrets, deliveries, client, clock, known: Mutex::default() }
    }

    /// Serves one batch. An error means that all of it comes again.
    pub(crate) async fn handle(&self, event: &Value) -> anyhow::Result<Outcome> {
        let until = self.clock.now() + BUDGET;
        let batch = parse(event)?;
        let Some(name) = self.target_of(&batch)? else { return Ok(Outcome::default()) };
        let (mut failed, mut openers, mut closers) = (Vec::new(), Vec::new(), Vec::new());
        for (place, Record { message_id: id, body, attributes, .. }) in batch.records.into_iter().enumerate() {
            let receives = attributes.receives.and_then(|count| count.parse().ok()).unwrap_or(1);
            match Message::parse(body) {
                Some(message) if message.effect == Effect::Resolve => closers.push(Parcel { place, id, receives, message }),
                Some(message) => openers.push(Parcel { place, id, receives, message }),
                None => {
                    tracing::error!(target = name, message_id = id, "the message is no alert; it is left to the dead-letter queue");
                    failed.push((place, id));
                }
            }
        }
        if !(openers.is_empty() && closers.is_empty()) {
            let target = self.target(&name).await?;
            let run = Run { name: &name, target, until, gate: Semaphore::new(AT_ONCE) };
            // The queue keeps no order, and what closes an incident does nothing before it is open.
            for parcels in [openers, closers] {
                let sent = join_all(parcels.into_iter().map(|parcel| self.deliver(&run, parcel))).await;
                failed.extend(sent.into_iter().flatten());
            }
        }
        failed.sort();
        Ok(Outcome { batch_item_failures: failed.into_iter().map(|(_, item_identifier)| Item { item_identifier }).collect() })
    }

    /// The target whose queue sent the batch: `serin-{stage}-alert-{target}`. `None` if the batch is empty.
    fn target_of(&self, batch: &Batch) -> anyhow::Result<Option<String>> {
        let Some(first) = batch.records.first() else { return Ok(None) };
        let prefix = format!("serin-{}-alert-", self.stage);
        let name = first.queue.rsplit(':').next().and_then(|queue| queue.strip_prefix(&prefix)).filter(|name| !name.is_empty());
        match name {
            Some(name) if batch.records.iter().all(|record| record.queue == first.queue) => Ok(Some(name.to_owned())),
            _ => Err(anyhow!("the batch is not of one queue {prefix}<target>: its name says where alerts go")),
        }
    }

    /// Sends one message; returns it if it did not arrive.
    async fn deliver(&self, run: &Run<'_>, parcel: Parcel) -> Option<(usize, String)> {
        let sent = self.send(run, &parcel).await;
        let (target, message_id, dedup_key) = (run.name, &parcel.id, &parcel.message.alert.dedup_key);
        match sent {
            Ok(true) => tracing::info!(target, message_id, dedup_key, "the alert arrived"),
            Ok(false) => tracing::info!(target, message_id, dedup_key, "the alert is not of a kind that this target is told"),
            Err(reason) => {
                tracing::error!(target, message_id, dedup_key, %reason, "the alert did not arrive and is tried again");
                self.learn(target, &reason);
                return Some((parcel.place, parcel.id));
            }
        }
        None
    }

    /// `false` if this target is not told of such.
    async fn send(&self, run: &Run<'_>, parcel: &Parcel) -> Result<bool, Undelivered> {
        let Message { alert, effect, .. } = &parcel.message;
        let has_incidents = run.target.closes_incidents();
        if has_incidents && *effect == Effect::Resolve && !self.has_opened(run.name, alert).await {
            if parcel.receives < LAST_RECEIVE {
                return Err(Undelivered::TooEarly);
            }
            let dedup_key = &alert.dedup_key;
            tracing::error!(
                target = run.name,
                dedup_key,
                "what opened the incident has not arrived; this is the last try, so it is closed unseen"
            );
        }
        if !self.post(run, parcel).await? {
            return Ok(false);
        }
        if has_incidents
            && matches!(effect, Effect::Trigger(_))
            && let Err(reason) = self.deliveries.record(run.name, &opening(alert, alert.revision), self.clock.now()).await
        {
            tracing::warn!(target = run.name, reason, "not noted that the alert arrived; what closes its incident comes with its last try");
        }
        Ok(true)
    }

    /// Posts, and again after a pause while that may help and there is time: then the queue tries again.
    async fn post(&self, run: &Run<'_>, parcel: &Parcel) -> Result<bool, Undelivered> {
        let (mut tried, mut last) = (0, Undelivered::NoTime);
        loop {
            // Whoever has not been tried yet comes before a second try: the turns are in order.
            let turn = run.gate.acquire().await.expect("nobody closes it");
            let now = self.clock.now();
            let Some(request) = run.target.request(&parcel.message, now) else { return Ok(false) };
            if now + self.client.timeout > run.until {
                return Err(last);
            }
            let sent = self.client.post(&parcel.message.alert.dedup_key, request).await;
            drop(turn);
            tried += 1;
            let Err(reason) = sent else { return Ok(true) };
            let pause = reason.asks_for().unwrap_or_default() + back_off(&parcel.id, parcel.receives, tried);
            if tried == TRIES || !reason.may_pass() || self.clock.now() + pause + self.client.timeout > run.until {
                return Err(reason);
            }
            last = reason;
            self.clock.sleep(pause).await;
        }
    }

    /// Whether everything that opened the incident has arrived at the target. What cannot be looked up is not known to.
    async fn has_opened(&self, target: &str, alert: &Alert) -> bool {
        let keys: Vec<String> = alert.opened_by.iter().map(|revision| opening(alert, *revision)).collect();
        let recorded = join_all(keys.iter().map(|key| self.deliveries.is_recorded(target, key))).await;
        recorded.into_iter().all(|recorded| {
            recorded.unwrap_or_else(|reason| {
                tracing::warn!(target, reason, "not looked up whether an alert arrived");
                false
            })
        })
    }

    /// Where alerts go, read anew when it was read long ago or could not be used.
    async fn target(&self, name: &str) -> anyhow::Result<Target> {
        let now = self.clock.now();
        let known = self.known().get(name).cloned();
        match &known {
            // A clock that was set back does not make a secret younger than its age allows.
            Some((target, read)) if now.duration_since(*read).abs() < SECRET_AGE => return Ok(target.clone()),
            _ => {}
        }
        match (self.secrets.read(name).await, known) {
            (Ok(secret), _) => {
                let parsed = Target::parse(&secret).map_err(|reason| anyhow!("target {name}: {reason}"));
                match &parsed {
                    Ok(target) => self.known().insert(name.to_owned(), (target.clone(), now)),
                    Err(_) => self.known().remove(name),
                };
                parsed
            }
            // An alert to yesterday's address is better than none.
            (Err(reason), Some((target, _))) => {
                tracing::warn!(target = name, reason, "the target's secret could not be read anew");
                Ok(target)
            }
            (Err(reason), None) => Err(anyhow!("target {name}: {reason}")),
        }
    }

    /// The address may have been changed: the next batch reads the secret again, and keeps this one if it cannot.
    fn learn(&self, target: &str, reason: &Undelivered) {
        if reason.doubts_the_address()
            && let Some((_, read)) = self.known().get_mut(target)
        {
            *read = Timestamp::UNIX_EPOCH;
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Target, Timestamp)>> {
        self.known.lock().expect("nobody panics while holding it")
    }
}

/// The alert of a rollout's incident at a revision, as deliveries know it.
fn opening(alert: &Alert, revision: u64) -> String {
    format!("{}/{revision}", incident::key(alert, usize::MAX))
}

/// How long to wait before another try: doubled each time, less up to a half of it, which differs by message. A target that comes
/// back does not get all at once what it has missed.
fn back_off(message: &str, receives: u32, tried: u32) -> SignedDuration {
    let digest = Sha256::digest(format!("{message}/{receives}/{tried}"));
    let full = PAUSE * (1 << (tried - 1));
    full - full * i32::from(digest[0]) / 512
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
    use std::collections::{BTreeSet, HashMap, VecDeque};
    use std::sync::Arc;
    use std::time::Duration;

    /// An incident system: answers by the path it is asked for, and remembers.
    #[derive(Clone, Default)]
    struct Incidents {
        base: String,
        arrived: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
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
        let path = parts.uri.path();
        if let Some(seconds) = path.strip_prefix("/429/") {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_owned())]).into_response();
        }
        match path {
            "/hang" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                StatusCode::OK.into_response()
            }
            "/elsewhere" => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/ok")]).into_response(),
            "/500" => (StatusCode::INTERNAL_SERVER_ERROR, "hunter2").into_response(),
            "/404" => StatusCode::NOT_FOUND.into_response(),
            "/503" => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "3600")]).into_response(),
            _ => StatusCode::ACCEPTED.into_response(),
        }
    }

    #[derive(Clone)]
    struct Stored(Arc<Mutex<(Result<String, String>, usize)>>);

    impl Stored {
        fn holding(text: &str) -> Stored {
            Stored(Arc::new(Mutex::new((Ok(text.to_owned()), 0))))
        }

        fn set(&self, secret: Result<String, String>) {
            self.0.lock().unwrap().0 = secret;
        }

        fn reads(&self) -> usize {
            self.0.lock().unwrap().1
        }
    }

    impl Secrets for Stored {
        async fn read(&self, _: &str) -> Result<String, String> {
            let mut stored = self.0.lock().unwrap();
            stored.1 += 1;
            stored.0.clone()
        }
    }

    /// A secret for each of several targets.
    struct Each(Vec<(&'static str, Stored)>);

    impl Secrets for Each {
        async fn read(&self, target: &str) -> Result<String, String> {
            self.0.iter().find(|(name, _)| *name == target).expect("it is one of them").1.read(target).await
        }
    }

    /// The table that all sandboxes share; it fails while it is told to.
    #[derive(Clone, Default)]
    struct Noted(Arc<Mutex<(BTreeSet<String>, bool)>>);

    impl Deliveries for Noted {
        async fn record(&self, target: &str, alert: &str, _: Timestamp) -> Result<(), String> {
            let mut noted = self.0.lock().unwrap();
            let fails = noted.1;
            noted.0.extend((!fails).then(|| format!("{target} {alert}")));
            if fails { Err("down".to_owned()) } else { Ok(()) }
        }

        async fn is_recorded(&self, target: &str, alert: &str) -> Result<bool, String> {
            let noted = self.0.lock().unwrap();
            if noted.1 { Err("down".to_owned()) } else { Ok(noted.0.contains(&format!("{target} {alert}"))) }
        }
    }

    #[derive(Clone)]
    struct Hands(Arc<Mutex<Timestamp>>);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        /// Nobody waits, the clock moves; who sleeps at the same time sleeps side by side.
        async fn sleep(&self, duration: SignedDuration) {
            let until = self.now() + duration;
            tokio::task::yield_now().await;
            let mut now = self.0.lock().unwrap();
            *now = until.max(*now);
        }
    }

    fn forwarder(secret: &Stored) -> (Forwarder<Stored, Noted, Hands>, Hands) {
        sandbox(secret.clone(), &Noted::default())
    }

    /// One of the function's sandboxes.
    fn sandbox<S: Secrets>(secrets: S, noted: &Noted) -> (Forwarder<S, Noted, Hands>, Hands) {
        let clock = Hands(Arc::new(Mutex::new("2026-11-20T09:00:00Z".parse().unwrap())));
        let client = Client::new(Duration::from_millis(300), address::system).unwrap();
        (Forwarder::new("local", secrets, noted.clone(), client, clock.clone()), clock)
    }

    /// As a name server would answer whose owner wants to reach what is inside.
    fn inside(_: String) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<std::net::SocketAddr>>> + Send>> {
        Box::pin(async { Ok(vec!["127.0.0.1:0".parse().unwrap()]) })
    }

    /// Alerts of a rollout whose incident is opened by those before the 8th revision, in one batch.
    fn batch(kinds: &[(&str, u64)]) -> Value {
        let record = |(kind, revision): &(&str, u64)| {
            let opened_by = if *revision > 7 { vec![7] } else { vec![] };
            let dedup_key = format!("k-{revision}");
            let alert = Alert { incident_type: (*kind).into(), revision: *revision, dedup_key, opened_by, ..rollback() };
            record("webhook", &format!("m-{revision}"), &serde_json::to_string(&alert).unwrap())
        };
        json!({"Records": kinds.iter().map(record).collect::<Vec<_>>()})
    }

    fn record(target: &str, id: &str, body: &str) -> Value {
        json!({"messageId": id, "body": body, "eventSourceARN": format!("arn:aws:sqs:us-east-1:000000000000:serin-local-alert-{target}")})
    }

    /// The same batch, as the queue gives it out for the so-many-th time.
    fn again(mut batch: Value, receives: u32) -> Value {
        for record in batch["Records"].as_array_mut().unwrap() {
            record["attributes"] = json!({"ApproximateReceiveCount": receives.to_string()});
        }
        batch
    }

    fn sample() -> Value {
        let path = format!("{}/../../events/alert-forwarder.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
    }

    fn one(body: &str) -> Value {
        json!({"Records": [record("webhook", "m-1", body)]})
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
        for path in ["/500", "/404", "/429/3600", "/503", "/elsewhere", "/hang"] {
            let outcome = forwarder(&incidents.at(path)).0.handle(&one(&first_alert().to_string())).await.unwrap();
            assert_eq!(serde_json::to_value(&outcome).unwrap(), json!({"batchItemFailures": [{"itemIdentifier": "m-1"}]}), "{path}");
        }
        // The redirect was not followed, nobody waited for an hour, and only what may pass was tried again: /500 and /hang.
        assert_eq!(incidents.arrived().len(), 4 + 2 * 3);
        let nobody = Stored::holding(r#"{"url": "http://127.0.0.1:9/"}"#);
        assert_eq!(failures(&forwarder(&nobody).0.handle(&one(&first_alert().to_string())).await.unwrap()), ["m-1"]);
    }

    #[tokio::test]
    async fn a_target_in_trouble_is_tried_again_after_pauses_that_it_may_name_and_that_end_in_time() {
        for (path, tries, seconds) in [
            ("/ok", 1, 0.0..=0.0),
            ("/500", 3, 0.7..=1.5),
            ("/429/0", 3, 0.7..=1.5),
            ("/429/4", 3, 8.7..=9.5),
            // The third would end after the budget.
            ("/429/10", 2, 10.2..=10.5),
            ("/429/17", 2, 17.2..=17.5),
            ("/429/18", 1, 0.0..=0.0),
            ("/429/soon", 3, 0.7..=1.5),
        ] {
            let incidents = Incidents::start().await;
            let took = async |messages: usize| {
                let (forwarder, clock) = forwarder(&incidents.at(path));
                let began = clock.now();
                let records = (0..messages).map(|n| record("webhook", &format!("m-{n}"), &first_alert().to_string()));
                let outcome = forwarder.handle(&json!({"Records": records.collect::<Vec<_>>()})).await.unwrap();
                assert_eq!(outcome.batch_item_failures.len(), if path == "/ok" { 0 } else { messages }, "{path}");
                clock.now().duration_since(began)
            };
            let alone = took(1).await;
            assert!(seconds.contains(&alone.as_secs_f64()), "{path}: {alone}");
            assert_eq!(incidents.arrived().len(), tries, "{path}");
            // However many wait for one another: the run ends in time, and each was tried.
            assert!(took(10).await < BUDGET, "{path}");
            assert!(incidents.arrived().len() >= tries + 10, "{path}");
        }
    }

    #[test]
    fn pauses_double_and_no_two_messages_come_back_at_the_same_time() {
        for (tried, full) in [(1, 500), (2, 1_000)] {
            let pauses: BTreeSet<i128> = (0..100).map(|n| back_off(&format!("m-{n}"), 1, tried).as_millis()).collect();
            assert!(*pauses.first().unwrap() >= full / 2 && *pauses.last().unwrap() <= full, "{pauses:?}");
            assert!(pauses.len() > 50, "{pauses:?}");
        }
        assert_ne!(back_off("m-1", 1, 1), back_off("m-1", 2, 1), "nor does one after each time the queue gives it out");
    }

    /// A secret that takes its time.
    struct Late(Stored, Hands);

    impl Secrets for Late {
        async fn read(&self, target: &str) -> Result<String, String> {
            self.1.sleep(BUDGET).await;
            self.0.read(target).await
        }
    }

    #[tokio::test]
    async fn what_there_is_no_time_for_is_not_begun_and_comes_again() {
        let incidents = Incidents::start().await;
        let (first, clock) = forwarder(&incidents.at("/429/10"));
        let (batch, began) = (batch(&[("ROLLBACK_TRIGGERED", 7), ("ROLLED_BACK", 8)]), clock.now());
        // The first alert waits as long as it was asked to; then there is time to try the second, and none to wait for it.
        assert_eq!(failures(&first.handle(&batch).await.unwrap()), ["m-7", "m-8"]);
        assert!(clock.now().duration_since(began) < BUDGET);
        let keys: Vec<_> = incidents.arrived().iter().map(|(headers, _)| headers["x-serin-dedup-key"].clone()).collect();
        assert_eq!(keys, ["k-7", "k-7", "k-8"]);

        let client = Client::new(Duration::from_millis(300), address::system).unwrap();
        let late = Forwarder::new("local", Late(incidents.at("/ok"), clock.clone()), Noted::default(), client, clock);
        assert_eq!(failures(&late.handle(&batch).await.unwrap()), ["m-7", "m-8"]);
        assert_eq!(incidents.arrived().len(), 3);
        // The secret is known now.
        assert!(failures(&late.handle(&batch).await.unwrap()).is_empty());
    }

    #[tokio::test]
    async fn a_target_that_hangs_or_is_wrongly_set_delays_nothing_of_another() {
        let incidents = Incidents::start().await;
        let each = [("slow", incidents.at("/hang")), ("good", incidents.at("/ok")), ("wrong", Stored::holding("oops"))];
        let (forwarder, _) = sandbox(Each(each.into()), &Noted::default());
        let batch = |target: &str| json!({"Records": [record(target, target, &first_alert().to_string())]});
        let (slow, good, wrong) = (batch("slow"), batch("good"), batch("wrong"));
        let slow = forwarder.handle(&slow);
        let rest = async { (forwarder.handle(&good).await.unwrap(), forwarder.handle(&wrong).await.unwrap_err().to_string()) };
        let (slow, rest) = (std::pin::pin!(slow), std::pin::pin!(rest));
        match futures::future::select(slow, rest).await {
            futures::future::Either::Right(((good, wrong), slow)) => {
                assert!(failures(&good).is_empty());
                assert!(wrong.starts_with("target wrong: the webhook's secret is not JSON"), "{wrong}");
                assert_eq!(failures(&slow.await.unwrap()), ["slow"]);
            }
            futures::future::Either::Left(_) => panic!("the others waited for the one that hangs"),
        }
    }

    #[tokio::test]
    async fn each_target_has_its_own_address_which_is_read_once_for_a_while() {
        let [ours, theirs] = [Incidents::start().await, Incidents::start().await];
        let [a, b] = [ours.at("/ok"), theirs.at("/ok")];
        let (forwarder, clock) = sandbox(Each(vec![("a", a.clone()), ("b", b.clone())]), &Noted::default());
        for (target, times) in [("a", 3), ("b", 2)] {
            for _ in 0..times {
                let batch = json!({"Records": [record(target, "m-1", &first_alert().to_string())]});
                assert!(failures(&forwarder.handle(&batch).await.unwrap()).is_empty());
            }
        }
        assert_eq!([ours.arrived().len(), theirs.arrived().len(), a.reads(), b.reads()], [3, 2, 1, 1]);
        // What one of them answers makes nobody doubt the other's.
        a.set(incidents_gone(&ours));
        clock.sleep(SECRET_AGE).await;
        for (target, failed) in [("b", 0), ("a", 1), ("b", 0), ("a", 1)] {
            let batch = json!({"Records": [record(target, "m-1", &first_alert().to_string())]});
            assert_eq!(failures(&forwarder.handle(&batch).await.unwrap()).len(), failed, "{target}");
        }
        assert_eq!([a.reads(), b.reads()], [3, 2]);
    }

    /// The secret of an address that is no longer right.
    fn incidents_gone(incidents: &Incidents) -> Result<String, String> {
        incidents.at("/404").0.lock().unwrap().0.clone()
    }

    #[tokio::test]
    async fn a_batch_of_another_queue_is_refused() {
        let (forwarder, _) = forwarder(&Stored::holding("{}"));
        let of = |queues: &[&str]| {
            let records = queues.iter().map(|q| json!({"messageId": "m", "body": "{}", "eventSourceARN": format!("arn:aws:sqs:r:1:{q}")}));
            json!({"Records": records.collect::<Vec<_>>()})
        };
        for queues in [
            &["serin-prod-alert-webhook"][..],
            &["serin-local-alert-"],
            &["serin-local-rollback"],
            &["serin-local-alert-a", "serin-local-alert-b"],
        ] {
            let refused = forwarder.handle(&of(queues)).await.unwrap_err().to_string();
            assert!(refused.contains("serin-local-alert-<target>"), "{refused}");
        }
        assert_eq!(forwarder.handle(&of(&[])).await.unwrap(), Outcome::default());
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
        let records: Vec<Value> = (0..30).map(|i| record("webhook", &format!("m-{i}"), &first_alert().to_string())).collect();
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
            json!({"Records": [{"messageId": "1", "body": "{}", "eventSource": "aws:kinesis", "eventSourceARN": "hunter2"}]}),
            json!({"Records": [{"messageId": "1", "body": "{}", "eventSource": "aws:sqs"}]}),
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

    fn pagerduty(incidents: &Incidents, path: &str) -> Stored {
        let key = "0123456789abcdef0123456789abcdef";
        Stored::holding(&json!({"kind": "pagerduty", "routing_key": key, "url": format!("{}{path}", incidents.base)}).to_string())
    }

    fn actions(incidents: &Incidents) -> Vec<Value> {
        incidents.arrived().iter().map(|(_, event)| event["event_action"].clone()).collect()
    }

    const OPENS: (&str, u64) = ("AUTO_ROLLBACK_TRIGGERED", 7);
    const CLOSES: (&str, u64) = ("ROLLED_BACK", 8);

    #[tokio::test]
    async fn what_closes_an_incident_waits_for_what_opened_it_in_whatever_sandbox() {
        let (incidents, noted) = (Incidents::start().await, Noted::default());
        let (first, _) = sandbox(pagerduty(&incidents, "/404"), &noted);
        // In one batch, however the queue sorts it: the trigger failed, so the resolve was not tried.
        assert_eq!(failures(&first.handle(&batch(&[CLOSES, OPENS])).await.unwrap()), ["m-8", "m-7"]);
        assert_eq!(actions(&incidents), ["trigger"]);
        // The way is free again, and a sandbox that knows of nothing gets the resolve first.
        let [second, third] = [(), ()].map(|()| sandbox(pagerduty(&incidents, "/ok"), &noted).0);
        assert_eq!(failures(&second.handle(&again(batch(&[CLOSES]), 2)).await.unwrap()), ["m-8"]);
        assert!(failures(&third.handle(&again(batch(&[OPENS]), 2)).await.unwrap()).is_empty());
        assert!(failures(&second.handle(&again(batch(&[CLOSES]), 3)).await.unwrap()).is_empty());
        assert_eq!(actions(&incidents), ["trigger", "trigger", "resolve"]);
        // In one batch with its trigger it need not wait.
        let fresh = sandbox(pagerduty(&incidents, "/ok"), &Noted::default()).0;
        assert!(failures(&fresh.handle(&batch(&[CLOSES, OPENS])).await.unwrap()).is_empty());
        assert_eq!(actions(&incidents)[3..], ["trigger", "resolve"]);
    }

    #[tokio::test]
    async fn what_closes_an_incident_is_sent_at_the_queues_last_try_whatever_became_of_what_opened_it() {
        let (incidents, noted) = (Incidents::start().await, Noted::default());
        let (forwarder, _) = sandbox(pagerduty(&incidents, "/ok"), &noted);
        for receives in 1..LAST_RECEIVE {
            assert_eq!(failures(&forwarder.handle(&again(batch(&[CLOSES]), receives)).await.unwrap()), ["m-8"]);
        }
        assert!(incidents.arrived().is_empty());
        assert!(failures(&forwarder.handle(&again(batch(&[CLOSES]), LAST_RECEIVE)).await.unwrap()).is_empty());
        // So it is while nothing can be looked up; a trigger never waits.
        noted.0.lock().unwrap().1 = true;
        assert!(failures(&forwarder.handle(&batch(&[OPENS, ("HUMAN_NEEDED", 9)])).await.unwrap()).is_empty());
        assert_eq!(failures(&forwarder.handle(&batch(&[CLOSES])).await.unwrap()), ["m-8"]);
        assert!(failures(&forwarder.handle(&again(batch(&[CLOSES]), LAST_RECEIVE)).await.unwrap()).is_empty());
        assert_eq!(actions(&incidents), ["resolve", "trigger", "trigger", "resolve"]);
        // Another target has an incident of its own, and no target that closes none waits.
        noted.0.lock().unwrap().1 = false;
        assert!(!noted.is_recorded("webhook", "main_ivr/r-20261121-1/7").await.unwrap());
        assert!(failures(&sandbox(incidents.at("/ok"), &noted).0.handle(&batch(&[CLOSES])).await.unwrap()).is_empty());
    }

    #[tokio::test]
    async fn a_rollout_that_went_well_has_nothing_to_wait_for() {
        let incidents = Incidents::start().await;
        let (forwarder, _) = sandbox(pagerduty(&incidents, "/ok"), &Noted::default());
        assert!(failures(&forwarder.handle(&batch(&[("ROLLOUT_FINISHED", 6)])).await.unwrap()).is_empty());
        assert_eq!(actions(&incidents), ["resolve"]);
    }

    #[test]
    fn the_queue_gives_a_message_out_as_often_as_is_thought_here() {
        let path = format!("{}/../../infra/alert-target.yaml", env!("CARGO_MANIFEST_DIR"));
        let template = std::fs::read_to_string(&path).expect(&path);
        assert!(template.contains(&format!("maxReceiveCount: {LAST_RECEIVE}")), "{path}");
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_connected_to_unless_the_secret_says_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://hooks.example.com:{}/hunter2", listener.local_addr().unwrap().port());
        let connections = Arc::new(Mutex::new(0));
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
        let clock = Hands(Arc::new(Mutex::new(Timestamp::UNIX_EPOCH)));
        let client = Client::new(Duration::from_millis(300), inside).unwrap();
        let forwarder = Forwarder::new("local", Stored::holding(&json!({"url": url}).to_string()), Noted::default(), client, clock);
        assert_eq!(failures(&forwarder.handle(&one(&first_alert().to_string())).await.unwrap()), ["m-1"]);
        assert_eq!(*connections.lock().unwrap(), 1);
    }

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

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

    /// Alerts that arrived, by dedup key, and how many requests came at all.
    type Counts = Arc<Mutex<(HashMap<String, u32>, u32)>>;

    /// A target that takes alerts, or some of them and answers others with errors, with nothing or not at all; by turns, so that runs
    /// are alike.
    async fn target(moody: bool, counts: Counts) -> Stored {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let turn = {
                    let mut counts = counts.lock().unwrap();
                    counts.1 += 1;
                    counts.1
                };
                let counts = counts.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    // An alert is small: its last brace ends what is read, and so does one before it, which costs another try.
                    while !request.ends_with(b"}") && socket.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
                    let status = match turn % 2_003 {
                        _ if !moody => "202 Taken",
                        0 => return tokio::time::sleep(Duration::from_secs(1)).await,
                        n if n % 7 == 0 => return,
                        n if n % 5 == 0 => "429 Slow Down\r\nretry-after: 3600",
                        n if n % 3 == 0 => "503 Not Now",
                        _ => "202 Taken",
                    };
                    let text = String::from_utf8(request).unwrap();
                    let key = text.lines().find_map(|line| line.strip_prefix("x-serin-dedup-key: ")).expect("every alert has its key");
                    if status.starts_with("202") {
                        *counts.lock().unwrap().0.entry(key.to_owned()).or_default() += 1;
                    }
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        Stored::holding(&json!({"url": base}).to_string())
    }

    #[tokio::test]
    async fn ten_thousand_alerts_arrive_at_a_target_that_fails_in_every_way_and_none_is_late_at_another() {
        let [bad, good] = [(); 2].map(|()| Counts::default());
        let each = vec![("bad", target(true, bad.clone()).await), ("good", target(false, good.clone()).await)];
        let clock = Hands(Arc::new(Mutex::new(Timestamp::UNIX_EPOCH)));
        let client = Client::new(Duration::from_millis(500), address::system).unwrap();
        let forwarder = Forwarder::new("local", Each(each), Noted::default(), client, clock);
        let alert = |target: &str, i: u32| {
            let alert = Alert { dedup_key: format!("main_ivr/r-1/{i}"), ..rollback() };
            record(target, &i.to_string(), &serde_json::to_string(&alert).unwrap())
        };
        // Each target's queue, worked off by the same process at the same time; how often it gave out a message.
        let worked_off = async |target: &str| {
            let mut queue: VecDeque<u32> = (0..10_000).collect();
            let mut given_out = 0;
            while !queue.is_empty() {
                let batch: Vec<u32> = queue.drain(..queue.len().min(10)).collect();
                given_out += batch.len();
                let records: Vec<Value> = batch.iter().map(|i| alert(target, *i)).collect();
                let outcome = forwarder.handle(&json!({"Records": records})).await.unwrap();
                queue.extend(failures(&outcome).iter().map(|id| id.parse::<u32>().unwrap()));
            }
            given_out
        };
        let (by_bad, by_good) = futures::future::join(worked_off("bad"), worked_off("good")).await;
        let (bad, good) = (bad.lock().unwrap(), good.lock().unwrap());
        assert!(bad.1 > 15_000 && by_bad > 11_000, "{} requests, {by_bad} messages", bad.1);
        // None came again, none was asked for twice.
        assert_eq!((good.1, by_good), (10_000, 10_000));
        for arrived in [&bad.0, &good.0] {
            assert!((0..10_000).all(|i| arrived.contains_key(&format!("main_ivr/r-1/{i}"))));
            assert_eq!(arrived.len(), 10_000);
        }
    }
}
