//! The same client against the simulated organization: tokens, publishing, copying and measuring as they belong together.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin_controller::ports::{
    Analytics, Changed, Clock, CohortFlows, Ended, Entrances, FlowError, Flows, Pointer, Preflight, PublicationError, Rows,
};
use serin_core::cohort::{Labels, Split, SplitKey, Stickiness};
use serin_core::measurement::{Comparison, Window, merge, total};
use serin_core::rollout::{Outcomes, WayBack};
use serin_core::weight::Weight;
use serin_genesys::operations::Client;
use serin_genesys::{Credentials, CredentialsSource, Error, Genesys, Settings};
use serin_simulator::{
    DEPLOYMENT_CONTROL, EMERGENCY, MAIN_IVR_CANARY, MAIN_IVR_CANARY_OUTCOME, MAIN_IVR_COP, MAIN_IVR_DNIS, MAIN_IVR_IVR, MAIN_IVR_STABLE,
    MAIN_IVR_STABLE_OUTCOME, MAIN_IVR_TEST_DNIS, Organization, RANDOM_PERCENTAGE_ACTION, serve,
};

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

/// The client `id` of the organization.
fn client(base: &str) -> Genesys<impl CredentialsSource, WallClock> {
    let credentials = async || Credentials::parse(r#"{"client_id": "id", "client_secret": "secret"}"#);
    Genesys::new(Settings::new(base, None).unwrap(), credentials, WallClock).unwrap()
}

async fn fault(base: &str, fault: Value) {
    order(base, "faults", json!({"faults": [fault]})).await;
}

/// Before anything that happens in the organization.
fn long_ago() -> Timestamp {
    "2026-11-20T08:00:00Z".parse().unwrap()
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

#[tokio::test]
async fn a_file_becomes_the_next_version_of_the_flow_it_names() {
    let base = start().await;
    let genesys = client(&base);
    order(&base, "faults", json!({"faults": [{"kind": "publish_seconds", "seconds": 0}]})).await;
    let before = genesys.flow(MAIN_IVR_CANARY).await.unwrap().published.unwrap();
    let file = genesys.export(MAIN_IVR_CANARY, &before).await.unwrap();
    genesys.publish_file(MAIN_IVR_CANARY, &file).await.unwrap();
    let after = genesys.flow(MAIN_IVR_CANARY).await.unwrap().published.unwrap();
    assert_ne!(after, before);
    let hash = async |version: &str| genesys.configuration_hash(MAIN_IVR_CANARY, version).await.unwrap();
    assert_eq!(hash(&after).await, hash(&before).await, "the same file does the same");

    let stable = genesys.flow(MAIN_IVR_STABLE).await.unwrap().published;
    assert_eq!(genesys.flow(MAIN_IVR_CANARY).await.unwrap().published_by, None, "our own publication is nobody's");
    let error = genesys.publish_file(MAIN_IVR_STABLE, &file).await.unwrap_err();
    assert!(
        matches!(&error, PublicationError::NotPublished(FlowError::Refused(said)) if said.contains("Main_IVR_Green") && said.contains("Main_IVR_Blue")),
        "{error}"
    );
    assert_eq!(genesys.flow(MAIN_IVR_STABLE).await.unwrap().published, stable);
    assert_eq!(genesys.flow(MAIN_IVR_CANARY).await.unwrap().published, Some(after));
}

#[tokio::test]
async fn what_one_client_lacks_the_other_need_not() {
    let base = start().await;
    let of = |id: &'static str| {
        let credentials = async move || Credentials::parse(&format!(r#"{{"client_id": "{id}", "client_secret": "secret"}}"#));
        Genesys::new(Settings::new(&base, None).unwrap(), credentials, WallClock).unwrap()
    };
    fault(&base, json!({"kind": "forbid", "permission": "analytics:flowAggregate:view", "client_id": "read"})).await;
    let missing = async |id: &'static str, which: Client| -> Vec<String> {
        let permissions = of(id).permissions(which, None).await;
        permissions.into_iter().filter(|one| one.granted != Ok(true)).map(|one| one.name).collect()
    };
    assert_eq!(missing("read", Client::Both).await, ["analytics:flowAggregate:view"]);
    assert!(missing("publish", Client::Publisher).await.is_empty());
    let action = of("publish").data_action(RANDOM_PERCENTAGE_ACTION).await.unwrap();
    assert_eq!(action.timeout_seconds, Some(2));
    let ahead = of("read").clock_ahead().await.unwrap();
    assert!(ahead.abs() < SignedDuration::from_secs(5), "{ahead}");
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

#[tokio::test]
async fn a_row_is_made_replaced_and_watched() {
    let base = start().await;
    let (genesys, row) = (client(&base), "main_ivr".parse().unwrap());
    let to = |weight: Weight, revision| Pointer { active_flow: MAIN_IVR_CANARY.into(), weight, revision, owner: "serin-test".into() };
    assert_eq!(genesys.pointer(DEPLOYMENT_CONTROL, &row).await.unwrap(), None);
    for (weight, revision) in [(Weight::FULL, 3), (Weight::ZERO, 4)] {
        genesys.point(DEPLOYMENT_CONTROL, &row, &to(weight, revision)).await.unwrap();
        assert_eq!(genesys.pointer(DEPLOYMENT_CONTROL, &row).await.unwrap(), Some(to(weight, revision)));
    }
    assert!(genesys.pointer("no-such-table", &row).await.unwrap_err().reason.contains("does not know it"));

    // A throttle in disguise: the row is there.
    let path = format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}/rows/main_ivr");
    fault(&base, json!({"kind": "masked_not_found", "path": path, "method": "GET", "times": 1})).await;
    assert_eq!(genesys.pointer(DEPLOYMENT_CONTROL, &row).await.unwrap(), Some(to(Weight::ZERO, 4)));

    // Our own writes are nobody's; a person's are.
    assert_eq!(genesys.changed_by(Changed::Row { table: DEPLOYMENT_CONTROL, row: "main_ivr" }, long_ago()).await, None);
    let by_hand =
        json!({"key": "main_ivr", "Active_Flow_ID": MAIN_IVR_CANARY, "Traffic_Weight": 100, "revision": 4, "owner": "serin-test"});
    order(&base, "by_hand", json!({"kind": "row", "row": by_hand, "user": "Pat Doe"})).await;
    assert_eq!(
        genesys.changed_by(Changed::Row { table: DEPLOYMENT_CONTROL, row: "main_ivr" }, long_ago()).await.as_deref(),
        Some("Pat Doe")
    );
    assert_eq!(genesys.pointer(DEPLOYMENT_CONTROL, &row).await.unwrap(), Some(to(Weight::FULL, 4)));
}

#[tokio::test]
async fn who_published_by_hand_is_known_and_our_own_publish_is_nobodys() {
    let base = start().await;
    let genesys = client(&base);
    fault(&base, json!({"kind": "publish_seconds", "seconds": 0})).await;
    let change = order(&base, "versions", json!({"flow_id": MAIN_IVR_CANARY})).await;
    let version = change["version"].as_str().unwrap();
    let operation = genesys.publish(MAIN_IVR_CANARY, version).await.unwrap();
    published(&genesys, MAIN_IVR_CANARY, &operation).await;
    assert_eq!(genesys.changed_by(Changed::Flow(MAIN_IVR_CANARY), long_ago()).await, None);
    order(&base, "by_hand", json!({"kind": "publish", "flow_id": MAIN_IVR_CANARY, "version": "14.0", "user": "Pat Doe"})).await;
    assert_eq!(genesys.changed_by(Changed::Flow(MAIN_IVR_CANARY), long_ago()).await.as_deref(), Some("Pat Doe"));
    assert_eq!(genesys.changed_by(Changed::Flow(MAIN_IVR_STABLE), long_ago()).await, None);
    fault(&base, json!({"kind": "forbid", "permission": "audits:audit:view"})).await;
    assert_eq!(genesys.changed_by(Changed::Flow(MAIN_IVR_CANARY), long_ago()).await, None);
}

#[tokio::test]
async fn missing_permissions_are_found_and_nothing_is_changed_by_looking() {
    let base = start().await;
    let genesys = client(&base);
    assert_eq!(genesys.requests_left(), None);
    let missing = async || genesys.missing_permissions(MAIN_IVR_CANARY, Some(DEPLOYMENT_CONTROL), &WayBack::default()).await.unwrap();
    assert_eq!(missing().await, [""; 0]);
    assert!(genesys.requests_left().is_some_and(|left| left < 300));
    let row = "00000000-0000-0000-0000-000000000000".parse().unwrap();
    assert_eq!(genesys.pointer(DEPLOYMENT_CONTROL, &row).await.unwrap(), None);
    for flow in [MAIN_IVR_CANARY, MAIN_IVR_STABLE] {
        assert_eq!(genesys.changed_by(Changed::Flow(flow), long_ago()).await, None);
        assert_eq!(genesys.flow(flow).await.unwrap().operation, None);
    }
    let forbidden = ["architect:flow:publish", "architect:flow:unlock", "architect:dependencyTracking:view", "architect:datatableRow:edit"];
    for permission in forbidden {
        fault(&base, json!({"kind": "forbid", "permission": permission})).await;
    }
    // Rows may still be edited by who may edit the table.
    assert_eq!(missing().await, ["architect:dependencyTracking:view", "architect:flow:publish or architect:flow:unlock"]);
}

#[tokio::test]
async fn preflight_sees_what_would_be_in_the_way() {
    let base = start().await;
    let genesys = client(&base);
    let needed = genesys.dependencies(MAIN_IVR_CANARY, "14.0").await.unwrap();
    assert!(needed.iter().any(|needed| needed.kind == "QUEUE" && !needed.deleted), "{needed:?}");
    fault(&base, json!({"kind": "dependency_deleted", "flow_id": MAIN_IVR_CANARY, "version": "14.0", "name": needed[0].name})).await;
    assert!(genesys.dependencies(MAIN_IVR_CANARY, "14.0").await.unwrap()[0].deleted);
    assert!(matches!(genesys.dependencies(MAIN_IVR_CANARY, "99.0").await, Err(FlowError::Gone(_))));
    fault(&base, json!({"kind": "dependency_build", "status": "BUILDINPROGRESS"})).await;
    assert!(matches!(genesys.dependencies(MAIN_IVR_CANARY, "14.0").await, Err(FlowError::TryLater(_))));

    genesys.interface(MAIN_IVR_COP, "14.0").await.unwrap();
    genesys.validate(MAIN_IVR_CANARY, "14.0").await.unwrap();
    fault(&base, json!({"kind": "validation_fails", "flow_id": MAIN_IVR_CANARY})).await;
    let refused = genesys.validate(MAIN_IVR_CANARY, "14.0").await.unwrap_err();
    assert!(matches!(&refused, FlowError::Refused(said) if said.contains("expression that is not valid")), "{refused}");

    let input = json!({"flow": "main_ivr", "conversationId": "c-1"});
    genesys.test_action(RANDOM_PERCENTAGE_ACTION, &input).await.unwrap();
    let misfit = genesys.test_action(RANDOM_PERCENTAGE_ACTION, &json!({"flow": "main_ivr"})).await.unwrap_err();
    assert!(matches!(&misfit, FlowError::Refused(said) if said.contains("lacks conversationId")), "{misfit}");
    fault(&base, json!({"kind": "action_fails", "action_id": RANDOM_PERCENTAGE_ACTION})).await;
    assert!(matches!(genesys.test_action(RANDOM_PERCENTAGE_ACTION, &input).await, Err(FlowError::Refused(_))));
}

#[tokio::test]
async fn smoke_calls_are_counted_by_the_number_they_dialled() {
    let base = start().await;
    let genesys = client(&base);
    order(&base, "call", json!({"dnis": MAIN_IVR_TEST_DNIS, "count": 5})).await;
    split(&base, 60).await;
    let ended = async |dnis| genesys.ended(MAIN_IVR_CANARY, "14.0", dnis, long_ago()).await.unwrap();
    assert_eq!(ended(MAIN_IVR_TEST_DNIS).await.calls, 5);
    assert!(ended(MAIN_IVR_DNIS).await.calls > 100);
    assert_eq!(ended("+15550000").await, Ended::default());
}

#[tokio::test]
async fn an_ivr_configuration_is_led_elsewhere_unless_somebody_was_faster() {
    let base = start().await;
    let genesys = client(&base);
    let ivr = genesys.ivrs().await.unwrap().into_iter().find(|ivr| ivr.id == MAIN_IVR_IVR).unwrap();
    assert_eq!((ivr.dnis.as_slice(), ivr.open_flow.as_deref()), (&[MAIN_IVR_DNIS.to_owned()][..], Some(MAIN_IVR_COP)));
    let after = genesys.repoint(&ivr.id, MAIN_IVR_STABLE, ivr.version).await.unwrap();
    assert_eq!((after.open_flow.as_deref(), &after.dnis, &after.name), (Some(MAIN_IVR_STABLE), &ivr.dnis, &ivr.name));
    assert!(after.version > ivr.version);
    assert_eq!(genesys.ivr(&ivr.id).await.unwrap(), after);
    let stale = genesys.repoint(&ivr.id, MAIN_IVR_COP, ivr.version).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { .. }), "{stale}");
    // Somebody is faster between our reading and our writing.
    fault(&base, json!({"kind": "version_conflict", "path": format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}")})).await;
    let overtaken = genesys.repoint(&ivr.id, MAIN_IVR_COP, after.version).await.unwrap_err();
    assert!(matches!(overtaken, Error::Conflict { .. }), "{overtaken}");
    assert_eq!(genesys.ivr(&ivr.id).await.unwrap().open_flow.as_deref(), Some(MAIN_IVR_STABLE));

    let group = genesys.emergency_group(EMERGENCY).await.unwrap();
    let declared = genesys.set_emergency(EMERGENCY, true, group.version).await.unwrap();
    assert!(declared.enabled && !group.enabled && !group.flows.is_empty() && declared.flows == group.flows);
    assert!(matches!(genesys.set_emergency(EMERGENCY, false, group.version).await, Err(Error::Conflict { .. })));
}

#[tokio::test]
async fn calls_are_led_around_a_canary_once_and_never_away_from_where_a_person_led_them() {
    let base = start().await;
    let genesys = client(&base);
    let conflict = |path: String| json!({"kind": "version_conflict", "path": path});
    let leads_to = async || genesys.open_hours(MAIN_IVR_IVR).await.unwrap().unwrap();
    // Somebody is faster the first time.
    fault(&base, conflict(format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}"))).await;
    assert!(genesys.lead(MAIN_IVR_IVR, MAIN_IVR_COP, MAIN_IVR_STABLE).await.unwrap());
    assert_eq!(leads_to().await, MAIN_IVR_STABLE);
    let version = genesys.ivr(MAIN_IVR_IVR).await.unwrap().version;
    assert!(genesys.lead(MAIN_IVR_IVR, MAIN_IVR_COP, MAIN_IVR_STABLE).await.unwrap());
    assert_eq!(genesys.ivr(MAIN_IVR_IVR).await.unwrap().version, version, "it leads there, and nothing is written");
    assert!(!genesys.lead(MAIN_IVR_IVR, MAIN_IVR_COP, MAIN_IVR_CANARY).await.unwrap());
    assert_eq!(leads_to().await, MAIN_IVR_STABLE);

    assert!(!genesys.emergency(EMERGENCY).await.unwrap());
    fault(&base, conflict(format!("/api/v2/architect/emergencygroups/{EMERGENCY}"))).await;
    genesys.declare_emergency(EMERGENCY).await.unwrap();
    assert!(genesys.emergency(EMERGENCY).await.unwrap());
}

#[tokio::test]
async fn two_branches_of_one_flow_are_measured_and_told_apart_by_a_job() {
    let base = start().await;
    let genesys = client(&base);
    order(&base, "reset", json!({"flows": [{"slot": "main_ivr", "entry": "stable"}]})).await;
    fault(&base, json!({"kind": "publish_seconds", "seconds": 0})).await;
    let worse = json!({"error": 0.3, "abandon": 0.06, "transfer": 0.22});
    let change = order(&base, "versions", json!({"flow_id": MAIN_IVR_STABLE, "canary_behavior": worse})).await;
    let version = change["version"].as_str().unwrap();
    let operation = genesys.publish(MAIN_IVR_STABLE, version).await.unwrap();
    published(&genesys, MAIN_IVR_STABLE, &operation).await;
    split(&base, 60).await;
    let now = split(&base, 15).await;

    let known: Vec<String> = genesys.flow_outcomes().await.unwrap().into_iter().map(|outcome| outcome.id).collect();
    let outcomes = Outcomes { stable: MAIN_IVR_STABLE_OUTCOME.into(), canary: MAIN_IVR_CANARY_OUTCOME.into() };
    assert!(known.contains(&outcomes.stable) && known.contains(&outcomes.canary), "{known:?}");
    let of = |version: &str| {
        let side = || (MAIN_IVR_STABLE.to_owned(), version.to_owned());
        CohortFlows { stable: side(), canary: side(), outcomes: Some(outcomes.clone()) }
    };
    let measured = genesys.measure(&[of(version), of("99.0")], now - SignedDuration::from_mins(70), now).await.unwrap();
    let Comparison { stable, canary } = total(&measured[0]);
    for side in [stable, canary] {
        assert!(side.calls > 200 && side.errors + side.contained == side.calls && side.transfers + side.abandons == 0, "{side:?}");
        assert!(side.times.is_none() && side.queue.is_none());
    }
    assert!(stable.errors * 10 < stable.calls && canary.errors * 4 > canary.calls, "{stable:?} {canary:?}");
    assert!(measured[1].is_empty());

    let told = genesys.details_job(&[MAIN_IVR_STABLE], now - SignedDuration::from_mins(75), now).await.unwrap();
    let labelled = |label: &str| told.iter().filter(|c| c.canary_version.as_deref() == Some(label)).count();
    assert!(labelled("v1") > 200 && labelled("v2") > 200 && labelled("v1") + labelled("v2") == told.len(), "{}", told.len());
    assert!(told.iter().all(|c| c.flows.contains(MAIN_IVR_STABLE)));
    assert_eq!(genesys.limits("platform.api").await.unwrap()[0].value, 300);
}
