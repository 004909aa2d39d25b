//! The client against the vendor's contract: what it sends, what it needs permission for, and the recorded answers it is tested with.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

// The simulator's own; it holds whatever the tests of other crates send to it to the same contract.
#[path = "../../simulator/src/wire/contract.rs"]
mod contract;

use contract::{Misfit, Operation, check_request, find};
use jiff::Timestamp;
use serde_json::{Value, json};
use serin_controller::ports::{Analytics, Changed, CohortFlows, Flows, Pointer, Preflight, RowError, Rows};
use serin_core::rollout::{Outcomes, WayBack};
use serin_core::weight::Weight;
use serin_genesys::operations;
use std::collections::BTreeSet;
use support::{Asked, JumpingClock, Stub, Vault, client, data, ok, refusal, text};

const GREEN: &str = "GET /api/v2/flows/green";
const BLUE: &str = "GET /api/v2/flows/blue";
const VERSIONS: &str = "GET /api/v2/flows/green/versions";
const CONFIGURATION: &str = "GET /api/v2/flows/green/versions/3.0/configuration";
const PUBLISH: &str = "POST /api/v2/flows/actions/publish";
const AGGREGATES: &str = "POST /api/v2/analytics/flows/aggregates/query";
const EXPORT: &str = "POST /api/v2/flows/export/jobs";
const EXPORT_JOB: &str = "GET /api/v2/flows/export/jobs/export-1";
const DOWNLOAD: &str = "GET /files/export-1";
const REGISTER: &str = "POST /api/v2/flows/jobs";
const UPLOAD: &str = "PUT /files/job-1";
const JOB: &str = "GET /api/v2/flows/jobs/job-1";
const AUDITS: &str = "POST /api/v2/audits/query/realtime";
const ROW: &str = "GET /api/v2/flows/datatables/table-1/rows/main_ivr";
const PUT_ROW: &str = "PUT /api/v2/flows/datatables/table-1/rows/main_ivr";
const ROWS: &str = "GET /api/v2/flows/datatables/table-1/rows";
const ADD_ROW: &str = "POST /api/v2/flows/datatables/table-1/rows";
const BUILD: &str = "GET /api/v2/architect/dependencytracking/build";
const CONSUMED: &str = "GET /api/v2/architect/dependencytracking/consumedresources";
const TEST: &str = "POST /api/v2/integrations/actions/action-1/test";
const ACTION: &str = "GET /api/v2/integrations/actions/action-1";
const VALIDATE: &str = "POST /api/v2/flows/validate/jobs";
const VALIDATION: &str = "GET /api/v2/flows/validate/jobs/validation-1";
const IVRS: &str = "GET /api/v2/architect/ivrs";
const IVR: &str = "GET /api/v2/architect/ivrs/ivr-1";
const PUT_IVR: &str = "PUT /api/v2/architect/ivrs/ivr-1";
const GROUP: &str = "GET /api/v2/architect/emergencygroups/group-1";
const PUT_GROUP: &str = "PUT /api/v2/architect/emergencygroups/group-1";
const OUTCOMES: &str = "GET /api/v2/flows/outcomes";
const READING: &str = "POST /api/v2/analytics/conversations/details/jobs";
const LOOK: &str = "GET /api/v2/analytics/conversations/details/jobs/reading-1";
const READ: &str = "GET /api/v2/analytics/conversations/details/jobs/reading-1/results";
const LIMITS: &str = "GET /api/v2/organizations/limits/namespaces/platform.api";

/// Answers under which every function of the client goes all its way.
async fn answering() -> Stub {
    Stub::start()
        .await
        .on(GREEN, [ok("flow_green.json")])
        .on(BLUE, [ok("flow_blue.json")])
        .on(VERSIONS, [ok("versions_1.json"), ok("versions_2.json"), ok("versions_2.json")])
        .on(CONFIGURATION, [ok("configuration.json")])
        .on(PUBLISH, [ok("operation.json")])
        .on(AGGREGATES, [ok("aggregates.json")])
        .on(EXPORT, [ok("export_registered.json")])
        .on(EXPORT_JOB, [ok("export_started.json"), ok("export_done.json")])
        .on(DOWNLOAD, [ok("flow.yaml")])
        .on(REGISTER, [ok("job_registered.json")])
        .on(UPLOAD, [text(200, "")])
        .on(JOB, [ok("job_started.json"), ok("job_done.json")])
        .on(AUDITS, [ok("audits.json")])
        .on(
            ROW,
            [
                refusal(404, "error_404.json"),
                ok("row.json"),
                ok("row.json"),
                ok("row_pointed.json"),
                ok("row_pointed.json"),
                ok("row.json"),
            ],
        )
        .on(ROWS, [ok("rows_other.json")])
        .on(ADD_ROW, [ok("row.json")])
        .on(PUT_ROW, [ok("row.json")])
        .on(BUILD, [ok("build.json")])
        .on(CONSUMED, [ok("consumed_1.json"), ok("consumed_2.json")])
        .on(TEST, [ok("tested.json")])
        .on(ACTION, [ok("action.json")])
        .on(VALIDATE, [ok("validation_registered.json")])
        .on(VALIDATION, [ok("validation_started.json"), ok("validation_done.json")])
        .on(IVRS, [ok("ivrs.json")])
        .on(IVR, [ok("ivr_blue.json")])
        .on(PUT_IVR, [ok("ivr_cop.json")])
        .on(GROUP, [ok("group_quiet.json")])
        .on(PUT_GROUP, [ok("group_declared.json")])
        .on(OUTCOMES, [ok("outcomes.json")])
        .on(READING, [ok("reading_started.json")])
        .on(LOOK, [ok("reading_queued.json"), ok("reading_fulfilled.json")])
        .on(READ, [ok("read_1.json"), ok("read_2.json")])
        .on(LIMITS, [ok("limits.json")])
}

/// What the stub was asked as Genesys Cloud; uploads and downloads go to addresses that the vendor hands out.
fn sent(stub: &Stub) -> Vec<Asked> {
    let lines: BTreeSet<String> = stub.lines().into_iter().filter(|line| !line.contains(" /files/")).collect();
    lines.iter().flat_map(|line| stub.asked(line)).collect()
}

fn check(asked: &Asked) -> Result<&'static Operation, Misfit> {
    let (method, path) = asked.line.split_once(' ').unwrap();
    check_request(method, &format!("{path}?{}", asked.query).parse().unwrap(), asked.body.as_bytes())
}

/// Holds everything to the contract; answers which operations these were.
fn held(stub: &Stub) -> BTreeSet<(&'static str, &'static str)> {
    let operation = |asked: Asked| check(&asked).unwrap_or_else(|misfit| panic!("{misfit:?}: {asked:?}"));
    sent(stub).into_iter().map(operation).map(|operation| (operation.method.as_str(), operation.path.as_str())).collect()
}

fn cohorts(stable: (&str, &str), canary: (&str, &str)) -> CohortFlows {
    let owned = |(flow, version): (&str, &str)| (flow.to_owned(), version.to_owned());
    CohortFlows { stable: owned(stable), canary: owned(canary), outcomes: None }
}

/// Calls every function of the client.
async fn driven() -> Stub {
    let stub = answering().await;
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    genesys.flow("green").await.unwrap();
    genesys.running("green").await.unwrap();
    genesys.published_versions("green").await.unwrap();
    genesys.configuration_hash("green", "3.0").await.unwrap();
    genesys.publish("green", "2.0").await.unwrap();
    genesys.copy("green", "blue").await.unwrap();
    genesys.publish_file("blue", &data("flow.yaml").replace("Main_IVR_Green", "Main_IVR_Blue")).await.unwrap();
    let at = |time: &str| format!("2026-11-20T{time}:00Z").parse::<Timestamp>().unwrap();
    let flows = [cohorts(("blue", "14.0"), ("green", "3.0")), cohorts(("blue", "13.0"), ("blue", "14.0"))];
    genesys.measure(&flows, at("10:00"), at("10:05")).await.unwrap();
    genesys.changed_by(Changed::Flow("green"), at("09:00")).await.unwrap();
    for weight in [Weight::ZERO, Weight::FULL, Weight::ZERO] {
        point(&genesys, weight).await.unwrap();
    }
    let armed = WayBack { ivr: Some("ivr-1".into()), emergency_group: Some("group-1".into()), ..WayBack::default() };
    genesys.missing_permissions("green", Some("table-1"), &armed).await.unwrap();
    genesys.dependencies("green", "3.0").await.unwrap();
    genesys.interface("green", "3.0").await.unwrap();
    genesys.test_action("action-1", &json!({"flow": "main_ivr", "conversationId": "c-1"})).await.unwrap();
    genesys.data_action("action-1").await.unwrap();
    genesys.clock_ahead().await.unwrap();
    let plan = json!({"flow": "main_ivr", "strategy": "pointer", "pointer": {"table": "table-1"}, "stable": {"flow_id": "blue"},
        "canary": {"flow_id": "green", "version": "3.0"}, "data_actions": [{"id": "action-1"}],
        "rollback": {"ivr": "ivr-1", "emergency_group": "group-1"}});
    let permissions = genesys.permissions(operations::Client::Publisher, Some(&serde_json::from_value(plan).unwrap())).await;
    assert!(permissions.iter().all(|one| one.granted == Ok(true)), "{permissions:?}");
    genesys.validate("green", "3.0").await.unwrap();
    let stub = stub.on(AGGREGATES, [ok("aggregates_smoke.json"), ok("aggregates_outcomes.json")]);
    genesys.ended("green", "3.0", "+15551230000", at("09:50")).await.unwrap();
    let outcomes = Some(Outcomes { stable: "o-1".into(), canary: "o-2".into() });
    let branches = CohortFlows { outcomes, ..cohorts(("blue", "14.0"), ("blue", "14.0")) };
    genesys.measure(&[branches], at("10:00"), at("10:05")).await.unwrap();
    genesys.ivrs().await.unwrap();
    genesys.ivr("ivr-1").await.unwrap();
    genesys.repoint("ivr-1", "cop", 5).await.unwrap();
    genesys.emergency_group("group-1").await.unwrap();
    genesys.set_emergency("group-1", true, 3).await.unwrap();
    genesys.flow_outcomes().await.unwrap();
    genesys.details_job(&["green", "blue"], at("08:00"), at("09:00")).await.unwrap();
    genesys.limits("platform.api").await.unwrap();
    stub
}

async fn point(rows: &impl Rows, weight: Weight) -> Result<(), RowError> {
    let (active_flow, revision) = if weight == Weight::FULL { ("green", 7) } else { ("blue", 6) };
    let to = Pointer { active_flow: active_flow.into(), weight, revision, owner: "serin-prod".into() };
    rows.point("table-1", &"main_ivr".parse().unwrap(), &to).await
}

#[tokio::test]
async fn every_request_of_the_client_is_the_vendors_and_every_operation_is_seen() {
    let mut expected: BTreeSet<_> = operations::ALL.iter().map(|operation| (operation.method, operation.path)).collect();
    expected.insert(("POST", "/oauth/token"));
    assert_eq!(held(&driven().await), expected, "left: what the client sent here; right: what it may send");
}

#[tokio::test]
async fn the_same_requests_with_something_invented_are_not() {
    for asked in sent(&driven().await) {
        let elsewhere = Asked { line: asked.line.replacen("/", "/invented/", 1), ..asked.clone() };
        assert!(matches!(check(&elsewhere), Err(Misfit::NoSuchOperation)), "{elsewhere:?}");
        let asking = Asked { query: format!("invented=1&{}", asked.query), ..asked.clone() };
        assert!(matches!(check(&asking), Err(Misfit::Malformed(_))), "{asking:?}");
        // Whose columns and inputs are somebody's own takes anything.
        if asked.line.contains("/rows") || asked.line.ends_with("/test") {
            continue;
        }
        let body = match asked.body.as_str() {
            form if form.starts_with("grant_type") => format!("{form}&invented=1"),
            "" | "null" => r#"{"invented":1}"#.to_owned(),
            object => object.replacen('{', r#"{"invented":1,"#, 1),
        };
        let saying = Asked { body, ..asked };
        assert!(matches!(check(&saying), Err(Misfit::Malformed(_))), "{saying:?}");
    }
}

#[tokio::test]
async fn what_the_client_sends_after_a_refusal_is_the_vendors_too() {
    for (status, name) in [(401, "error_401.json"), (403, "error_403.json"), (404, "error_404.json"), (409, "error_409.json")] {
        for refused in [GREEN, VERSIONS, CONFIGURATION, PUBLISH, AGGREGATES, EXPORT, EXPORT_JOB, REGISTER, JOB] {
            let stub = answering().await.on(refused, [refusal(status, name)]);
            let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
            let _ = genesys.configuration_hash("green", "3.0").await;
            let _ = genesys.publish("green", "2.0").await;
            let _ = genesys.copy("green", "blue").await;
            held(&stub);
        }
        for refused in
            [ROW, ROWS, ADD_ROW, PUT_ROW, BUILD, CONSUMED, VALIDATE, VALIDATION, IVR, PUT_IVR, GROUP, PUT_GROUP, READING, LOOK, READ]
        {
            let stub = answering().await.on(refused, [refusal(status, name)]);
            let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
            let _ = point(&genesys, Weight::ZERO).await;
            let _ = point(&genesys, Weight::FULL).await;
            let _ = genesys.missing_permissions("green", Some("table-1"), &WayBack::default()).await;
            let _ = genesys.dependencies("green", "3.0").await;
            let _ = genesys.validate("green", "3.0").await;
            let _ = genesys.repoint("ivr-1", "cop", 5).await;
            let _ = genesys.set_emergency("group-1", true, 3).await;
            let _ = genesys.details_job(&["green"], Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).await;
            held(&stub);
        }
    }
}

#[tokio::test]
async fn an_id_of_any_form_stays_in_its_place() {
    let stub = Stub::start().await;
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    for id in ["a/../b", "a?deleted=true", "ü & ö", "a#b", "100%"] {
        assert!(genesys.flow(id).await.is_err());
        assert!(genesys.configuration_hash(id, id).await.is_err());
    }
    assert_eq!(held(&stub).len(), 4, "token, flow, configuration, and the versions that confirm that there is none");
}

#[test]
fn every_operation_needs_the_permissions_that_the_vendor_names() {
    let file: Value = serde_json::from_str(include_str!("../../simulator/contract/genesys.json")).unwrap();
    for operation in operations::ALL {
        let vendors = &file["operations"][format!("{} {}", operation.method, operation.path)];
        assert!(vendors.is_object(), "{} {} is not in the contract: add it to generate.py", operation.method, operation.path);
        let theirs: BTreeSet<&str> = vendors["permissions"].as_array().into_iter().flatten().map(|p| p.as_str().unwrap()).collect();
        assert_eq!(operation.permissions.iter().copied().collect::<BTreeSet<_>>(), theirs, "{}", operation.path);
        // "Any one of them will do" is how the table reads.
        assert!(vendors["allPermissions"].is_null(), "{}", operation.path);
    }
}

/// Which operation answers with a recorded file, by the beginning of its name.
const ANSWERS: [(&str, &str, &str); 29] = [
    ("action", "GET", "/api/v2/integrations/actions/a"),
    ("audits", "POST", "/api/v2/audits/query/realtime"),
    ("build", "GET", "/api/v2/architect/dependencytracking/build"),
    ("consumed_", "GET", "/api/v2/architect/dependencytracking/consumedresources"),
    ("group_", "GET", "/api/v2/architect/emergencygroups/g"),
    ("ivr_", "GET", "/api/v2/architect/ivrs/i"),
    ("ivrs", "GET", "/api/v2/architect/ivrs"),
    ("limits", "GET", "/api/v2/organizations/limits/namespaces/n"),
    ("outcomes", "GET", "/api/v2/flows/outcomes"),
    ("read_", "GET", "/api/v2/analytics/conversations/details/jobs/j/results"),
    ("reading_started", "POST", "/api/v2/analytics/conversations/details/jobs"),
    ("reading_", "GET", "/api/v2/analytics/conversations/details/jobs/j"),
    ("rows", "GET", "/api/v2/flows/datatables/t/rows"),
    ("row", "GET", "/api/v2/flows/datatables/t/rows/r"),
    ("tested", "POST", "/api/v2/integrations/actions/a/test"),
    ("validation_registered", "POST", "/api/v2/flows/validate/jobs"),
    ("validation_", "GET", "/api/v2/flows/validate/jobs/j"),
    ("aggregates", "POST", "/api/v2/analytics/flows/aggregates/query"),
    ("configuration", "GET", "/api/v2/flows/f/versions/v/configuration"),
    ("conversations", "POST", "/api/v2/analytics/conversations/details/query"),
    ("details", "POST", "/api/v2/analytics/conversations/details/query"),
    ("export_registered", "POST", "/api/v2/flows/export/jobs"),
    ("export_", "GET", "/api/v2/flows/export/jobs/j"),
    ("flow_", "GET", "/api/v2/flows/f"),
    ("job_registered", "POST", "/api/v2/flows/jobs"),
    ("job_", "GET", "/api/v2/flows/jobs/j"),
    ("operation.", "POST", "/api/v2/flows/actions/publish"),
    ("token.", "POST", "/oauth/token"),
    ("versions", "GET", "/api/v2/flows/f/versions"),
];
/// The login's refusals have a form of their own, and `operations.json` is no answer.
const OTHERS: [&str; 3] = ["operations.json", "token_invalid_client.json", "token_rate_limit.json"];

#[test]
fn every_recorded_answer_could_be_the_vendors() {
    let mut names: Vec<String> = std::fs::read_dir(format!("{}/tests/data", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json") && !OTHERS.contains(&name.as_str()))
        .collect();
    names.sort_unstable();
    assert!(names.len() > 20);
    let any: &Operation = find("GET", "/api/v2/flows/f").unwrap();
    let misfits: Vec<String> = names
        .iter()
        .filter_map(|name| {
            let (status, operation) = match name.strip_prefix("error_").and_then(|rest| rest.strip_suffix(".json")) {
                Some(status) => (status.parse().unwrap(), any),
                None => {
                    let answer = ANSWERS.iter().find(|(prefix, _, _)| name.starts_with(prefix));
                    let (_, method, path) = answer.unwrap_or_else(|| panic!("{name}: say in ANSWERS which operation answers with it"));
                    (200, find(method, path).unwrap())
                }
            };
            operation.check_answer(status, data(name).as_bytes()).err().map(|reason| format!("{name}: {reason}"))
        })
        .collect();
    assert!(misfits.is_empty(), "{misfits:#?}");
}
