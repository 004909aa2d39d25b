//! The client against the vendor's contract: what it sends, what it needs permission for, and the recorded answers it is tested with.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

// The simulator's own; it holds whatever the tests of other crates send to it to the same contract.
#[path = "../../simulator/src/wire/contract.rs"]
mod contract;

use contract::{Misfit, Operation, check_request, find};
use jiff::Timestamp;
use serde_json::Value;
use serin_controller::ports::{Analytics, CohortFlows, Flows};
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
    let at = |time: &str| format!("2026-11-20T{time}:00Z").parse::<Timestamp>().unwrap();
    let flows = [cohorts(("blue", "14.0"), ("green", "3.0")), cohorts(("blue", "13.0"), ("blue", "14.0"))];
    genesys.measure(&flows, at("10:00"), at("10:05")).await.unwrap();
    stub
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
        let theirs: BTreeSet<&str> = vendors["permissions"]
            .as_array()
            .unwrap_or_else(|| panic!("{} {} is not in the contract: add it to generate.py", operation.method, operation.path))
            .iter()
            .map(|permission| permission.as_str().unwrap())
            .collect();
        assert_eq!(operation.permissions.iter().copied().collect::<BTreeSet<_>>(), theirs, "{}", operation.path);
        // "Any one of them will do" is how the table reads.
        assert!(vendors["allPermissions"].is_null(), "{}", operation.path);
    }
}

/// Which operation answers with a recorded file, by the beginning of its name.
const ANSWERS: [(&str, &str, &str); 12] = [
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
