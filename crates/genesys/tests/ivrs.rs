//! IVR configurations and emergency groups: nothing is lost by a change, and nothing overwritten. Outcomes, limits, detail jobs.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use jiff::Timestamp;
use serde_json::Value;
use serin_genesys::{Conversation, Error, Genesys, Ivr};
use support::{JumpingClock, Stub, Vault, client, data, ok, refusal, text};

const IVRS: &str = "GET /api/v2/architect/ivrs";
const IVR: &str = "GET /api/v2/architect/ivrs/ivr-1";
const PUT_IVR: &str = "PUT /api/v2/architect/ivrs/ivr-1";
const GROUP: &str = "GET /api/v2/architect/emergencygroups/group-1";
const PUT_GROUP: &str = "PUT /api/v2/architect/emergencygroups/group-1";
const START: &str = "POST /api/v2/analytics/conversations/details/jobs";
const LOOK: &str = "GET /api/v2/analytics/conversations/details/jobs/reading-1";
const READ: &str = "GET /api/v2/analytics/conversations/details/jobs/reading-1/results";
const MISMATCH: &str = r#"{"code": "bad.request", "message": "The version 5 does not match the current version 6"}"#;

fn genesys(stub: &Stub) -> Genesys<Vault, JumpingClock> {
    client(stub, &JumpingClock::new(), &Vault::default())
}

fn json(name: &str) -> Value {
    serde_json::from_str(&data(name)).unwrap()
}

#[tokio::test]
async fn ivr_configurations_are_listed_with_the_flows_they_lead_to() {
    let stub = Stub::start().await.on(IVRS, [ok("ivrs.json")]).on(IVR, [ok("ivr_blue.json")]);
    let ivrs = genesys(&stub).ivrs().await.unwrap();
    let expected = Ivr {
        id: "ivr-1".into(),
        name: "Main".into(),
        version: 5,
        dnis: vec!["+15551230000".into()],
        open_flow: Some("blue".into()),
        closed_flow: Some("closed".into()),
        holiday_flow: None,
    };
    assert_eq!((&ivrs[0], ivrs[1].open_flow.as_deref()), (&expected, None));
    assert_eq!(genesys(&stub).ivr("ivr-1").await.unwrap(), expected);
    // There is none only if the list says so too.
    let masked = Stub::start().await.on(IVRS, [ok("ivrs.json")]);
    assert_eq!(genesys(&masked).ivr("ivr-1").await.unwrap(), expected);
    assert!(matches!(genesys(&masked).ivr("ivr-9").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn an_ivr_configuration_changes_its_flow_and_nothing_else() {
    let stub = Stub::start().await.on(IVR, [ok("ivr_blue.json")]).on(PUT_IVR, [ok("ivr_cop.json")]);
    let after = genesys(&stub).repoint("ivr-1", "cop", 5).await.unwrap();
    assert_eq!((after.version, after.open_flow.as_deref()), (6, Some("cop")));
    let mut expected = json("ivr_blue.json");
    expected["openHoursFlow"] = serde_json::json!({"id": "cop"});
    assert_eq!(stub.bodies(PUT_IVR), [expected]);

    // What a call began that then broke off is done.
    let done = Stub::start().await.on(IVR, [ok("ivr_cop.json")]);
    assert_eq!(genesys(&done).repoint("ivr-1", "cop", 5).await.unwrap(), after);
    assert!(done.asked(PUT_IVR).is_empty());
}

#[tokio::test]
async fn another_version_is_a_conflict_however_the_vendor_says_it() {
    let moved = Stub::start().await.on(IVR, [ok("ivr_blue.json")]);
    let error = genesys(&moved).repoint("ivr-1", "cop", 4).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { .. }) && moved.asked(PUT_IVR).is_empty(), "{error}");

    for answer in [refusal(409, "error_409.json"), text(408, ""), text(400, MISMATCH)] {
        let stub = Stub::start().await.on(IVR, [ok("ivr_blue.json")]).on(PUT_IVR, [answer.clone()]);
        let stub = stub.on(GROUP, [ok("group_quiet.json")]).on(PUT_GROUP, [answer]);
        let error = genesys(&stub).repoint("ivr-1", "cop", 5).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict { .. }), "{error:?}");
        let error = genesys(&stub).set_emergency("group-1", true, 3).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict { .. }), "{error:?}");
        assert_eq!((stub.asked(PUT_IVR).len(), stub.asked(PUT_GROUP).len()), (1, 1));
    }
    let other = Stub::start()
        .await
        .on(IVR, [ok("ivr_blue.json")])
        .on(PUT_IVR, [text(400, r#"{"code": "bad.request", "message": "no such flow"}"#)]);
    let error = genesys(&other).repoint("ivr-1", "cop", 5).await.unwrap_err();
    assert!(matches!(&error, Error::Unexpected { status: 400, .. }), "{error:?}");
}

#[tokio::test]
async fn an_emergency_is_declared_without_letting_go_of_what_it_is_for() {
    let stub = Stub::start().await.on(GROUP, [ok("group_quiet.json")]).on(PUT_GROUP, [ok("group_declared.json")]);
    let before = genesys(&stub).emergency_group("group-1").await.unwrap();
    assert!(!before.enabled && before.flows[0].flow.as_deref() == Some("storm") && before.flows[0].ivrs == ["ivr-1", "ivr-2"]);
    let after = genesys(&stub).set_emergency("group-1", true, before.version).await.unwrap();
    assert!(after.enabled && after.version == 4 && after.flows == before.flows);
    let mut expected = json("group_quiet.json");
    expected["enabled"] = true.into();
    assert_eq!(stub.bodies(PUT_GROUP), [expected]);
    assert_eq!(genesys(&stub).set_emergency("group-1", false, 2).await.unwrap(), before);
    assert_eq!(stub.asked(PUT_GROUP).len(), 1);
}

#[tokio::test]
async fn outcomes_and_limits_are_read() {
    let stub = Stub::start()
        .await
        .on("GET /api/v2/flows/outcomes", [ok("outcomes.json")])
        .on("GET /api/v2/organizations/limits/namespaces/platform.api", [ok("limits.json")]);
    let outcomes = genesys(&stub).flow_outcomes().await.unwrap();
    assert_eq!(
        outcomes.iter().map(|o| (o.id.as_str(), o.name.as_str())).collect::<Vec<_>>(),
        [("o-1", "Old branch"), ("o-2", "New branch")]
    );
    let limits = genesys(&stub).limits("platform.api").await.unwrap();
    assert_eq!((limits[0].key.as_str(), limits[0].value), ("client.credentials.token.rate.per.minute", 300));
}

async fn read(stub: &Stub) -> Result<Vec<Conversation>, Error> {
    let at = |time: &str| format!("2026-11-20T{time}:00Z").parse::<Timestamp>().unwrap();
    genesys(stub).details_job(&["blue", "green"], at("08:00"), at("09:00")).await
}

#[tokio::test]
async fn a_job_tells_which_callers_had_which_version() {
    let stub = Stub::start()
        .await
        .on(START, [ok("reading_started.json")])
        .on(LOOK, [ok("reading_queued.json"), ok("reading_fulfilled.json")])
        .on(READ, [ok("read_1.json"), ok("read_2.json")]);
    let conversations = read(&stub).await.unwrap();
    let told = |c: &Conversation| (c.id.clone(), c.flows.iter().cloned().collect::<Vec<_>>().join(" "), c.canary_version.clone());
    let expected = [("c-1", "cop green", Some("v2")), ("c-2", "blue cop", None)];
    assert_eq!(
        conversations.iter().map(told).collect::<Vec<_>>(),
        expected.map(|(id, flows, label)| (id.into(), flows.into(), label.map(String::from)))
    );
    assert_eq!(stub.asked(READ).iter().map(|asked| asked.query.as_str()).collect::<Vec<_>>(), ["", "cursor=next"]);
    assert_eq!(stub.bodies(START)[0]["interval"], "2026-11-20T08:00:00.000Z/2026-11-20T09:00:00.000Z");
}

#[tokio::test]
async fn a_job_that_fails_or_takes_too_long_is_said() {
    let starting = async || Stub::start().await.on(START, [ok("reading_started.json")]);
    let error = read(&starting().await.on(LOOK, [ok("reading_failed.json")])).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { reason, .. } if reason.contains("the data lake is closed")), "{error}");
    let error = read(&starting().await.on(LOOK, [ok("reading_queued.json")])).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable { reason, .. } if reason.contains("still runs")), "{error}");
    let endless = starting().await.on(LOOK, [ok("reading_fulfilled.json")]).on(READ, [ok("read_1.json")]);
    assert!(read(&endless).await.is_err());
}
