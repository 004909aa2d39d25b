//! Looks before anything is changed.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use jiff::Timestamp;
use serde_json::json;
use serin_controller::ports::{Dependency, Ended, FlowError, Preflight};
use serin_core::rollout::WayBack;
use serin_genesys::Genesys;
use support::{JumpingClock, Planned, Stub, Vault, broken, client, ok, refusal, text};

const GREEN: &str = "GET /api/v2/flows/green";
const VERSIONS: &str = "GET /api/v2/flows/green/versions";
const AGGREGATES: &str = "POST /api/v2/analytics/flows/aggregates/query";
const PUBLISH: &str = "POST /api/v2/flows/actions/publish";
const EXPORT: &str = "POST /api/v2/flows/export/jobs";
const BUILD: &str = "GET /api/v2/architect/dependencytracking/build";
const CONSUMED: &str = "GET /api/v2/architect/dependencytracking/consumedresources";
const TEST: &str = "POST /api/v2/integrations/actions/action-1/test";
const VALIDATE: &str = "POST /api/v2/flows/validate/jobs";
const VALIDATION: &str = "GET /api/v2/flows/validate/jobs/validation-1";
const NOTHING: &str = "00000000-0000-0000-0000-000000000000";

fn genesys(stub: &Stub) -> Genesys<Vault, JumpingClock> {
    client(stub, &JumpingClock::new(), &Vault::default())
}

fn forbidden() -> Planned {
    refusal(403, "error_403.json")
}

#[tokio::test]
async fn permissions_are_found_out_by_trying_what_changes_nothing() {
    let row = format!("PUT /api/v2/flows/datatables/table-1/rows/{NOTHING}");
    let stub = Stub::start()
        .await
        .on(GREEN, [ok("flow_green.json")])
        .on(PUBLISH, [forbidden()])
        .on(AGGREGATES, [text(200, "{}")])
        .on(BUILD, [forbidden()])
        .on(CONSUMED, [forbidden()])
        .on(&row, [forbidden()])
        .on(EXPORT, [text(500, "")]);
    let expected = [
        "architect:datatable:edit or architect:datatableRow:edit",
        "architect:dependencyTracking:view",
        "architect:flow:publish or architect:flow:unlock",
    ];
    assert_eq!(genesys(&stub).missing_permissions("green", Some("table-1"), &WayBack::default()).await.unwrap(), expected);
    assert_eq!(stub.asked(PUBLISH)[0].query, format!("flow={NOTHING}&version=0"));
    assert_eq!(stub.bodies(&row), [json!({})]);
    assert_eq!(stub.bodies("POST /api/v2/flows/datatables/table-1/rows"), [json!({})]);
    assert!(!stub.lines().iter().any(|line| line.contains("/files/")));

    let without_rows = genesys(&stub).missing_permissions("green", None, &WayBack::default()).await.unwrap();
    assert_eq!(without_rows, expected[1..]);
    assert_eq!(stub.asked(&row).len(), 1);

    // The ways that a rollout arms are tried on what cannot exist.
    let (ivr, group) = (format!("PUT /api/v2/architect/ivrs/{NOTHING}"), format!("PUT /api/v2/architect/emergencygroups/{NOTHING}"));
    let stub = stub.on(&ivr, [forbidden()]).on(&group, [forbidden()]);
    let armed = WayBack { ivr: Some("ivr-1".into()), emergency_group: Some("group-1".into()), ..WayBack::default() };
    let missing = genesys(&stub).missing_permissions("green", None, &armed).await.unwrap();
    assert_eq!(missing[missing.len() - 2..], ["routing:callRoute:edit", "routing:emergencyGroup:edit"]);
    assert_eq!((stub.asked(&ivr).len(), stub.asked(&group).len()), (1, 1));
}

#[tokio::test]
async fn what_could_not_be_tried_is_tried_later() {
    for answer in [text(504, ""), refusal(429, "error_429.json"), broken()] {
        let stub = Stub::start().await.on(PUBLISH, [answer]);
        let error = genesys(&stub).missing_permissions("green", None, &WayBack::default()).await.unwrap_err();
        assert!(matches!(&error, FlowError::TryLater(_)), "{error}");
    }
    let stub = Stub::start().await.on(GREEN, [refusal(401, "error_401.json")]);
    let error = genesys(&stub).missing_permissions("green", None, &WayBack::default()).await.unwrap_err();
    assert!(matches!(&error, FlowError::Refused(said) if said.contains("oauth client")), "{error}");
}

#[tokio::test]
async fn probes_keep_the_pace() {
    let (stub, clock) = (Stub::start().await, JumpingClock::new());
    client(&stub, &clock, &Vault::default()).missing_permissions("green", Some("table-1"), &WayBack::default()).await.unwrap();
    assert!(stub.lines().len() > 10 && !clock.slept().is_empty());
}

#[tokio::test]
async fn what_a_version_needs_comes_from_all_pages() {
    let stub = Stub::start()
        .await
        .on(GREEN, [ok("flow_green.json")])
        .on(BUILD, [ok("build.json")])
        .on(CONSUMED, [ok("consumed_1.json"), ok("consumed_2.json")]);
    let needed = genesys(&stub).dependencies("green", "3.0").await.unwrap();
    let dependency = |kind: &str, name: &str, deleted| Dependency { kind: kind.into(), name: name.into(), deleted };
    assert_eq!(needed, [dependency("QUEUE", "Sales", false), dependency("USERPROMPT", "p-1", true)]);
    assert_eq!(stub.asked(CONSUMED)[1].query, "id=green&version=3.0&objectType=INBOUNDCALLFLOW&pageNumber=2&pageSize=100");
}

#[tokio::test]
async fn dependencies_that_are_not_all_gathered_are_not_told() {
    let stub = Stub::start().await.on(GREEN, [ok("flow_green.json")]).on(BUILD, [ok("build_running.json")]);
    let error = genesys(&stub).dependencies("green", "3.0").await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(said) if said.contains("BUILDINPROGRESS")), "{error}");
    assert!(stub.asked(CONSUMED).is_empty());

    let missing = refusal(404, "error_404.json");
    let stub = Stub::start().await.on(GREEN, [ok("flow_green.json")]).on(BUILD, [ok("build.json")]).on(CONSUMED, [missing]);
    let stub = stub.on(VERSIONS, [ok("versions_2.json")]);
    let error = genesys(&stub).dependencies("green", "99.0").await.unwrap_err();
    assert!(matches!(&error, FlowError::Gone(said) if said.contains("no version 99.0")), "{error}");
}

#[tokio::test]
async fn an_interface_is_read_out_of_the_export() {
    let exporting = async |file: &str| {
        Stub::start()
            .await
            .on(EXPORT, [ok("export_registered.json")])
            .on("GET /api/v2/flows/export/jobs/export-1", [ok("export_started.json"), ok("export_done.json")])
            .on("GET /files/export-1", [text(200, file)])
    };
    let file = "inboundCall:\n  name: A\n  variables:\n    - stringVariable: {name: Flow.X}\n  tasks:\n    - task:\n        actions:\n          - setParticipantData: {attributes: [{attribute: {name: {lit: canaryVersion}, value: {lit: v2}}}]}\n";
    let stub = exporting(file).await;
    let found = genesys(&stub).interface("green", "3.0").await.unwrap();
    assert_eq!(found.participant_data.into_iter().collect::<Vec<_>>(), [("canaryVersion".to_owned(), "string".to_owned())]);
    assert_eq!(found.variables.into_iter().collect::<Vec<_>>(), [("Flow.X".to_owned(), "string".to_owned())]);
    assert_eq!(stub.bodies(EXPORT)[0]["flows"][0]["flow"], json!({"id": "green", "version": "3.0"}));
    let error = genesys(&exporting("<html>").await).interface("green", "3.0").await.unwrap_err();
    assert!(matches!(&error, FlowError::Refused(said) if said.contains("flow green version 3.0")), "{error}");
}

#[tokio::test]
async fn an_action_is_tested_once_and_its_refusal_repeated_without_addresses() {
    let stub = Stub::start().await.on(TEST, [ok("tested.json"), ok("tested_failed.json"), broken()]);
    let genesys = genesys(&stub);
    let input = json!({"flow": "main_ivr", "conversationId": "c-1"});
    genesys.test_action("action-1", &input).await.unwrap();
    assert_eq!(stub.bodies(TEST)[0], input);
    let error = genesys.test_action("action-1", &input).await.unwrap_err();
    let expected = "testing data action action-1: it failed: bad.gateway: could not be invoked, see <address>";
    assert!(matches!(&error, FlowError::Refused(said) if said == expected), "{error}");
    let error = genesys.test_action("action-1", &input).await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(_)), "{error}");
    assert_eq!(stub.asked(TEST).len(), 3);
    let error = genesys.test_action("action-2", &input).await.unwrap_err();
    assert!(matches!(&error, FlowError::Gone(_)), "{error}");
}

#[tokio::test]
async fn a_version_is_validated_by_a_job() {
    let validating = async || Stub::start().await.on(VALIDATE, [ok("validation_registered.json")]);
    let stub = validating().await.on(VALIDATION, [ok("validation_started.json"), ok("validation_done.json")]);
    genesys(&stub).validate("green", "3.0").await.unwrap();
    assert_eq!(stub.bodies(VALIDATE), [json!({"flows": [{"flow": {"id": "green", "version": "3.0"}}]})]);
    assert_eq!(stub.asked(VALIDATION)[0].query, "expand=messages");
    let error = genesys(&validating().await.on(VALIDATION, [ok("validation_failed.json")])).validate("green", "3.0").await.unwrap_err();
    assert!(matches!(&error, FlowError::Refused(said) if said.contains("an expression in task main is not valid")), "{error}");
    let error = genesys(&validating().await.on(VALIDATION, [ok("validation_started.json")])).validate("green", "3.0").await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(said) if said.contains("still runs")), "{error}");
    // The vendor names no permission for it; what it says is repeated.
    let error = genesys(&Stub::start().await.on(VALIDATE, [forbidden()])).validate("green", "3.0").await.unwrap_err();
    assert!(matches!(&error, FlowError::Refused(said) if said.contains("missing the following permission")), "{error}");
}

#[tokio::test]
async fn calls_of_one_number_are_counted_as_they_end() {
    let stub = Stub::start().await.on(AGGREGATES, [ok("aggregates_smoke.json"), text(200, "{}")]);
    let genesys = genesys(&stub);
    let since: Timestamp = "2026-11-20T09:50:00Z".parse().unwrap();
    assert_eq!(genesys.ended("green", "3.0", "+15551230000", since).await.unwrap(), Ended { calls: 3, errors: 1 });
    let body = &stub.bodies(AGGREGATES)[0];
    assert_eq!(body["interval"], "2026-11-20T09:50:00.000Z/2026-11-20T10:00:00.000Z");
    let filter: Vec<_> = body["filter"]["predicates"].as_array().unwrap().iter().map(|p| (&p["dimension"], &p["value"])).collect();
    assert_eq!(json!(filter), json!([["flowId", "green"], ["flowVersion", "3.0"], ["dnis", "+15551230000"]]));
    assert_eq!(body["filter"]["type"], "and");
    assert_eq!(genesys.ended("green", "3.0", "+15551230000", since).await.unwrap(), Ended::default());
    let future: Timestamp = "2026-11-20T11:00:00Z".parse().unwrap();
    assert_eq!(genesys.ended("green", "3.0", "+15551230000", future).await.unwrap(), Ended::default());
    assert_eq!(stub.asked(AGGREGATES).len(), 2);
}
