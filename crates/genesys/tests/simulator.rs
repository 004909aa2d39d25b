//! The same client against the simulated organization: tokens, publishing, copying and measuring as they belong together.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin_controller::ports::{Analytics, Clock, CohortFlows, FlowError, Flows};
use serin_core::cohort::{Labels, Split, SplitKey, Stickiness};
use serin_core::measurement::{Comparison, Window, merge, total};
use serin_genesys::{Credentials, CredentialsSource, Genesys, Settings};
use serin_simulator::{MAIN_IVR_CANARY, MAIN_IVR_STABLE, Organization, serve};

#[derive(Clone, Copy)]
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: SignedDuration) {
        tokio::time::sleep(duration.unsigned_abs()).await;
    }
}

async fn start() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, Organization::new(serin_simulator::Settings::default()).unwrap()));
    base
}

async fn order(base: &str, path: &str, body: Value) -> Value {
    let answer = reqwest::Client::new().post(format!("{base}/_simulator/{path}")).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

async fn published(genesys: &impl Flows, flow: &str, operation: &str) -> String {
    loop {
        let state = genesys.flow(flow).await.unwrap();
        match state.operation {
            Some(done) if done.id == operation && !done.running => return state.published.unwrap(),
            _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

#[tokio::test]
async fn a_change_is_published_measured_and_copied() {
    let base = start().await;
    let credentials = async || Credentials::parse(r#"{"client_id": "id", "client_secret": "secret"}"#);
    let genesys = Genesys::new(Settings::new(&base, None).unwrap(), credentials, WallClock).unwrap();
    order(&base, "faults", json!({"faults": [{"kind": "publish_seconds", "seconds": 0}]})).await;

    let behavior = json!({"error": 0.5, "abandon": 0.05, "transfer": 0.2, "duration_factor": 1.0});
    let change = order(&base, "versions", json!({"flow_id": MAIN_IVR_CANARY, "behavior": behavior})).await;
    let version = change["version"].as_str().unwrap();
    let before = genesys.flow(MAIN_IVR_CANARY).await.unwrap().published.unwrap();
    assert!(!genesys.published_versions(MAIN_IVR_CANARY).await.unwrap().iter().any(|v| v == version));
    assert!(matches!(genesys.publish(MAIN_IVR_CANARY, "99.0").await, Err(FlowError::Gone(_))));
    order(&base, "faults", json!({"faults": [{"kind": "lock", "flow_id": MAIN_IVR_CANARY, "user": "Pat"}]})).await;
    assert!(matches!(genesys.publish(MAIN_IVR_CANARY, version).await, Err(FlowError::Locked { holder, .. }) if holder == "Pat"));
    order(&base, "faults", json!({"faults": [{"kind": "unlock", "flow_id": MAIN_IVR_CANARY}, {"kind": "expire_tokens"}]})).await;
    let operation = genesys.publish(MAIN_IVR_CANARY, version).await.unwrap();
    assert_eq!(published(&genesys, MAIN_IVR_CANARY, &operation).await, version);
    assert_eq!(genesys.published_versions(MAIN_IVR_CANARY).await.unwrap()[0], version);
    assert_ne!(
        genesys.configuration_hash(MAIN_IVR_CANARY, version).await.unwrap(),
        genesys.configuration_hash(MAIN_IVR_CANARY, &before).await.unwrap()
    );

    let stable_before = genesys.flow(MAIN_IVR_STABLE).await.unwrap().published.unwrap();
    let now = order(&base, "advance", json!({"minutes": 30})).await["now"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let cohorts = CohortFlows {
        stable: (MAIN_IVR_STABLE.into(), stable_before.clone()),
        canary: (MAIN_IVR_CANARY.into(), version.into()),
        outcomes: None,
    };
    let windows = genesys.measure(&[cohorts], now - SignedDuration::from_mins(30), now).await.unwrap();
    let total = serin_core::measurement::total(&windows[0]);
    assert!(total.stable.calls > 500 && total.canary.calls == 0, "{total:?}");
    assert!(total.stable.contained > 0 && total.stable.transfers > 0 && total.stable.abandons > 0, "{total:?}");

    genesys.copy(MAIN_IVR_CANARY, MAIN_IVR_STABLE).await.unwrap();
    let stable = genesys.flow(MAIN_IVR_STABLE).await.unwrap();
    let running = stable.published.unwrap();
    assert_ne!(running, stable_before);
    assert_eq!(stable.name, "Main_IVR_Blue");
    assert_eq!(
        genesys.configuration_hash(MAIN_IVR_STABLE, &running).await.unwrap(),
        genesys.configuration_hash(MAIN_IVR_CANARY, version).await.unwrap()
    );
}

/// Half of the calls go to the canary for `minutes`; the time then.
async fn split(base: &str, minutes: u32) -> Timestamp {
    let wall = "2026-11-21T12:00:00Z";
    let split = Split {
        rollout: "r-1".into(),
        labels: Labels { stable: "v1".into(), canary: "v2".into() },
        stickiness: Stickiness::Conversation,
        key: SplitKey::derive("test", "main_ivr", "r-1"),
    };
    let given = json!({"percentage": "50", "rollout": serde_json::to_string(&split).unwrap(), "heartbeat": wall, "wall": wall});
    let moved = order(base, "advance", json!({"minutes": minutes, "parameters": {"main_ivr": given}})).await;
    moved["now"].as_str().unwrap().parse().unwrap()
}

async fn tick<S: CredentialsSource>(genesys: &Genesys<S, WallClock>, now: Timestamp) -> Vec<Window> {
    let flow = |id: &str, version: &str| (id.to_owned(), version.to_owned());
    let cohorts = CohortFlows { stable: flow(MAIN_IVR_STABLE, "14.0"), canary: flow(MAIN_IVR_CANARY, "15.0"), outcomes: None };
    genesys.measure(&[cohorts], now - SignedDuration::from_mins(20), now).await.unwrap().remove(0)
}

#[tokio::test]
async fn handle_times_are_read_from_details_and_what_cannot_be_read_is_unknown() {
    let base = start().await;
    let credentials = async || Credentials::parse(r#"{"client_id": "id", "client_secret": "secret"}"#);
    let settings = || Settings::new(&base, None).unwrap();
    let genesys = Genesys::new(settings(), credentials, WallClock).unwrap();
    order(&base, "faults", json!({"faults": [{"kind": "publish_seconds", "seconds": 0}]})).await;
    let behavior = json!({"error": 0.015, "abandon": 0.06, "transfer": 0.22, "duration_factor": 1.0, "handle_factor": 2.0});
    order(&base, "versions", json!({"flow_id": MAIN_IVR_CANARY, "behavior": behavior})).await;
    let operation = genesys.publish(MAIN_IVR_CANARY, "15.0").await.unwrap();
    assert_eq!(published(&genesys, MAIN_IVR_CANARY, &operation).await, "15.0");

    // Long conversations end late: only then do both cohorts have their usual mix.
    split(&base, 90).await;
    let mut recorded = Vec::new();
    let mut now = Timestamp::MIN;
    for _ in 0..12 {
        now = split(&base, 10).await;
        recorded = merge(&recorded, &tick(&genesys, now).await);
    }
    let (known, unknown): (Vec<Window>, Vec<Window>) = recorded.iter().partition(|w| w.counts.canary.times.is_some());
    // Before the first tick's quarter of an hour nobody asked.
    assert_eq!(unknown.iter().filter(|w| w.start >= now - SignedDuration::from_mins(120)).count(), 0);
    assert!(known.len() >= 120, "{}", known.len());
    let Comparison { stable, canary } = total(&known);
    for side in [stable, canary] {
        let (times, queue) = (side.times.unwrap(), side.queue.unwrap());
        assert_eq!((times.of, queue.of), (side.calls, side.calls));
        assert_eq!((queue.answered, queue.offered), (times.handled, times.handled + queue.abandoned));
        assert!(queue.offered * 10 > side.transfers * 8 && queue.offered * 10 < side.transfers * 12, "{side:?}");
        assert!(queue.abandon_percent().is_some_and(|p| (4.0..20.0).contains(&p)), "{queue:?}");
        assert!(queue.answer_s().is_some_and(|s| (10.0..60.0).contains(&s)), "{queue:?}");
    }
    let (of_stable, of_canary) = (stable.times.unwrap().mean_s().unwrap(), canary.times.unwrap().mean_s().unwrap());
    assert!((130.0..300.0).contains(&of_stable) && of_canary / of_stable > 1.5, "{of_stable} {of_canary}");

    // One page reaches back some minutes; the others are unknown, and keep what is known of them.
    let frugal = Genesys::new(settings().with_detail_pages(1), credentials, WallClock).unwrap();
    let few = tick(&frugal, now).await;
    let told = few.iter().filter(|w| w.counts.stable.times.is_some()).count();
    assert!((3..12).contains(&told) && few.last().unwrap().counts.stable.times.is_some(), "{told}");
    assert_eq!(merge(&recorded, &few), recorded);

    // Without the details the calls are still counted.
    let path = "/api/v2/analytics/conversations/details/query";
    order(&base, "faults", json!({"faults": [{"kind": "status", "path": path, "status": 403, "times": 1}]})).await;
    let counted = tick(&genesys, now).await;
    assert!(counted.len() >= 18 && counted.iter().all(|w| w.counts.stable.times.is_none() && w.counts.stable.queue.is_none()));
    assert_eq!(merge(&recorded, &counted), recorded);
}
