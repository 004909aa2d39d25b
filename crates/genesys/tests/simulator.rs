//! The same client against the simulated organization: tokens, publishing, copying and measuring as they belong together.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin_controller::ports::{Analytics, Clock, CohortFlows, FlowError, Flows};
use serin_genesys::{Credentials, Genesys, Settings};
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
    let cohorts = CohortFlows { stable: (MAIN_IVR_STABLE.into(), stable_before.clone()), canary: (MAIN_IVR_CANARY.into(), version.into()) };
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
