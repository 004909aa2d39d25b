//! The vendor's contract, both ways: what is invented is refused, and whatever the simulator answers could be the vendor's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "../src/wire/contract.rs"]
mod contract;
mod support;

use contract::{Misfit, check_request, find};
use serde_json::{Value, json};
use serin_simulator::{DEPLOYMENT_CONTROL, EMERGENCY, MAIN_IVR_CANARY, MAIN_IVR_IVR, MAIN_IVR_STABLE, RANDOM_PERCENTAGE_ACTION};
use support::{Answer, Simulator, until};

const PUBLISH: &str = "/api/v2/flows/actions/publish";
const AGGREGATES: &str = "/api/v2/analytics/flows/aggregates/query";
const DETAILS: &str = "/api/v2/analytics/conversations/details/query";
const JOBS: &str = "/api/v2/analytics/conversations/details/jobs";
const AUDITS: &str = "/api/v2/audits/query/realtime";
const CONSUMED: &str = "/api/v2/architect/dependencytracking/consumedresources";
const INTERVAL: &str = "2026-11-20T09:00:00.000Z/2026-11-20T10:00:00.000Z";

fn misfit(method: &str, uri: &str, body: &str) -> String {
    match check_request(method, &uri.parse().unwrap(), body.as_bytes()) {
        Err(Misfit::Malformed(reason)) => reason,
        Err(Misfit::NoSuchOperation) => "no such operation".to_owned(),
        Ok(_) => panic!("{method} {uri} {body} fits"),
    }
}

fn fits(method: &str, uri: &str, body: &str) {
    check_request(method, &uri.parse().unwrap(), body.as_bytes()).unwrap();
}

// ------------------------------------------------------------------------------------------------------------------------ the validator

#[test]
fn a_literal_path_goes_before_a_placeholder_whatever_the_method() {
    let template = |method, path| find(method, path).map(|operation| operation.path.as_str());
    assert_eq!(template("GET", "/api/v2/flows/datatables"), Some("/api/v2/flows/datatables"));
    assert_eq!(template("GET", "/api/v2/flows/5e91"), Some("/api/v2/flows/{flowId}"));
    for (method, path) in [("GET", "/api/v2/flows/jobs"), ("PATCH", "/api/v2/flows/5e91"), ("GET", "/api/v2/flows/"), ("GET", "/")] {
        assert_eq!(template(method, path), None, "{method} {path}");
    }
}

#[test]
fn parameters_are_held_to_name_type_and_number() {
    fits("GET", "/api/v2/flows?type=inboundcall,workflow&type=bot&pageSize=5&deleted=false", "");
    fits("GET", "/api/v2/flows/jobs/j?expand=messages", "");
    fits("GET", "/api/v2/flows?name=Main%20IVR*", "");
    for (uri, reason) in [
        ("/api/v2/flows?pageSize=many", "query.pageSize: \"many\" is no integer"),
        ("/api/v2/flows?pageSize=2.5", "query.pageSize: 2.5 is no integer"),
        ("/api/v2/flows?deleted=True", "query.deleted: \"True\" is no boolean"),
        ("/api/v2/flows?deleted=1", "query.deleted: \"1\" is no boolean"),
        ("/api/v2/flows?page=1", "query: page is not known"),
        ("/api/v2/flows?name=a&name=b", "query.name: [\"a\",\"b\"] is no string"),
        ("/api/v2/flows?pageSize=5&pageSize=6", "query.pageSize: [5,6] is no integer"),
        ("/api/v2/flows/jobs/j?expand=flow", "query.expand[0]: `flow` is not one of messages"),
    ] {
        assert_eq!(misfit("GET", uri, ""), reason);
    }
    assert_eq!(misfit("POST", "/api/v2/flows/actions/publish?version=1.0", ""), "query: flow is required");
}

#[test]
fn bodies_are_held_to_their_schema_and_null_is_none() {
    fits("POST", "/api/v2/flows/actions/publish?flow=f", "null");
    fits("POST", "/api/v2/flows/jobs", " null ");
    fits("POST", "/api/v2/flows/jobs", r#"{"createStubs":false}"#);
    fits("PUT", "/api/v2/flows/datatables/t/rows/main_ivr", r#"{"key":"main_ivr","weight":5}"#);
    fits("POST", "/oauth/token", "grant_type=client_credentials");
    let (publish, export, table) = ("/api/v2/flows/actions/publish?flow=f", "/api/v2/flows/export/jobs", "/api/v2/flows/datatables/t/rows");
    for (uri, body, reason) in [
        ("/oauth/token", "grant_type=password", "body.grant_type: `password` is not one of client_credentials"),
        (export, "null", "body: it is required"),
        (export, r#"{"flows":{}}"#, "body.flows: {} is no array"),
        (export, r#"{"flows":[{"flow":null}]}"#, "body.flows[0]: flow is required"),
        (export, r#"{"flows":[{"flow":{"id":7}}]}"#, "body.flows[0].flow.id: 7 is no string"),
        (publish, "{}", "body: this operation takes none"),
        (table, "[]", "body: [] is no object"),
    ] {
        assert_eq!(misfit("POST", uri, body), reason);
    }
    assert!(misfit("POST", "/api/v2/flows/jobs", "{").starts_with("body: EOF"));
}

#[test]
fn an_answer_has_the_shape_of_its_status() {
    let flow = find("GET", "/api/v2/flows/f").unwrap();
    flow.check_answer(200, br#"{"id":"f","name":"F","lockedUser":null,"publishedBy":{"id":"u"}}"#).unwrap();
    assert_eq!(flow.check_answer(200, br#"{"id":"f"}"#).unwrap_err(), "answer: name is required");
    let dated = br#"{"name":"F","publishedVersion":{"datePublished":"yesterday"}}"#;
    assert!(flow.check_answer(200, dated).unwrap_err().starts_with("answer.publishedVersion.datePublished: `yesterday` is no time"));
    flow.check_answer(404, br#"{"message":"gone","code":"architect.flow.not.found","status":404}"#).unwrap();
    assert_eq!(flow.check_answer(404, br#"{"error":"gone"}"#).unwrap_err(), "answer: error is not known");
    let delete = find("DELETE", "/api/v2/flows/datatables/t/rows/r").unwrap();
    delete.check_answer(204, b"").unwrap();
    assert!(delete.check_answer(200, b"{}").is_err());
}

// --------------------------------------------------------------------------------------------------------------------------- inventions

/// Calls that the guides invent, and slips that a client could make: status, method, path and body.
fn inventions() -> Vec<(u16, &'static str, String, Value)> {
    let (flow, stable) = (format!("/api/v2/flows/{MAIN_IVR_STABLE}"), MAIN_IVR_STABLE);
    let query = |change: Value| {
        let mut query = json!({"interval": INTERVAL, "granularity": "PT1M", "groupBy": ["flowId"], "metrics": ["nFlow"]});
        query.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        query
    };
    let filtered = |predicate: Value| query(json!({"filter": {"type": "or", "predicates": [predicate]}}));
    let export = |details: Value| json!({"flows": [details]});
    vec![
        (404, "POST", "/api/v2/flowroutingrules".into(), json!({"type": "RANDOM_PERCENTAGE"})),
        (404, "PATCH", "/api/v2/flowroutingrules/r1".into(), json!({"percentage": 5})),
        (404, "POST", format!("{flow}/versions/14.0/validate"), json!({"includeDependencies": true})),
        (404, "GET", format!("/api/v2/architect/flows/{stable}"), Value::Null),
        (404, "PUT", format!("/api/v2/architect/flows/{stable}"), json!({"version": "13.0", "status": "PUBLISHED"})),
        (404, "POST", format!("/api/v2/architect/flows/{stable}/versions"), json!({"status": "DRAFT"})),
        (404, "POST", format!("/api/v2/architect/flows/{stable}/versions/13.0/publish"), Value::Null),
        (404, "PATCH", format!("/api/v2/architect/deployments/{stable}/versions/13.0"), json!({"active": true})),
        (404, "GET", format!("/api/v2/architect/flows/{stable}/locks"), Value::Null),
        (404, "GET", format!("/api/v2/analytics/flows/{stable}/summary"), Value::Null),
        (404, "GET", "/api/v2/analytics/measures/conversations".into(), Value::Null),
        (404, "PATCH", flow.clone(), json!({"name": "Other"})),
        (404, "GET", PUBLISH.into(), Value::Null),
        (400, "POST", PUBLISH.into(), Value::Null),
        (400, "POST", format!("{PUBLISH}?flow={stable}&versionId=13.0"), Value::Null),
        (400, "POST", format!("{PUBLISH}?flow={stable}&version=13.0"), json!({"flowVersionId": "13.0"})),
        (400, "GET", format!("{flow}?expand=versions"), Value::Null),
        (400, "GET", format!("{flow}/versions?pageSize=all"), Value::Null),
        (400, "GET", "/api/v2/flows?type=INBOUNDCALL".into(), Value::Null),
        (400, "POST", AGGREGATES.into(), Value::Null),
        (400, "POST", AGGREGATES.into(), json!({"metrics": ["nFlow"]})),
        (400, "POST", AGGREGATES.into(), query(json!({"interval": {"start": 1, "end": 2}}))),
        (400, "POST", AGGREGATES.into(), query(json!({"metrics": ["conversation.errors.total"]}))),
        (400, "POST", AGGREGATES.into(), query(json!({"metrics": ["nAbandon"]}))),
        (400, "POST", AGGREGATES.into(), query(json!({"metrics": "nFlow"}))),
        (400, "POST", AGGREGATES.into(), query(json!({"groupBy": ["participantData.canaryVersion"]}))),
        (400, "POST", AGGREGATES.into(), query(json!({"pageSize": 100}))),
        (400, "POST", AGGREGATES.into(), query(json!({"filter": {"predicates": []}}))),
        (400, "POST", AGGREGATES.into(), filtered(json!({"dimension": "participantData.canaryVersion", "value": "v2"}))),
        (400, "POST", AGGREGATES.into(), filtered(json!({"dimension": "flowId", "operator": "equals", "value": stable}))),
        (400, "POST", AGGREGATES.into(), filtered(json!({"dimension": "flowId", "values": [stable]}))),
        (400, "POST", "/api/v2/flows/export/jobs".into(), export(json!({"flowId": stable}))),
        (400, "POST", "/api/v2/flows/export/jobs".into(), export(json!({"flow": {"id": stable}, "exportType": "yaml"}))),
        (400, "POST", "/api/v2/flows/jobs".into(), json!({"command": "Publish"})),
        (400, "GET", "/api/v2/flows/jobs/j1?expand=flow".into(), Value::Null),
        (400, "POST", DETAILS.into(), json!({"interval": INTERVAL, "participantData": {"canaryVersion": "v2"}})),
        (400, "POST", JOBS.into(), json!({"interval": INTERVAL, "paging": {"pageSize": 100, "pageNumber": 1}})),
        (400, "GET", format!("{JOBS}/j1/results?pageNumber=2"), Value::Null),
        (404, "GET", format!("{JOBS}/j1/status"), Value::Null),
        (400, "POST", AUDITS.into(), json!({"filters": []})),
        (400, "POST", AUDITS.into(), json!({"interval": INTERVAL, "filters": [{"property": "FlowId", "value": stable}]})),
        (400, "POST", AUDITS.into(), json!({"interval": INTERVAL, "sort": [{"name": "eventDate", "sortOrder": "asc"}]})),
        (404, "GET", AUDITS.into(), Value::Null),
        (400, "GET", format!("{CONSUMED}?id={stable}&version=14.0"), Value::Null),
        (400, "GET", format!("{CONSUMED}?id={stable}&version=14.0&objectType=FLOW"), Value::Null),
        (404, "PATCH", format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}"), json!({"openHoursFlow": {"id": stable}})),
        (400, "PUT", format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}"), json!({"name": "Main_IVR", "flowId": stable})),
        (400, "PUT", format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}"), json!({"version": 1, "openHoursFlow": {"id": stable}})),
        (400, "GET", "/api/v2/architect/ivrs?flowId=f".into(), Value::Null),
        (400, "PUT", format!("/api/v2/architect/emergencygroups/{EMERGENCY}"), json!({"enabled": true, "version": 1})),
        (404, "POST", format!("/api/v2/architect/emergencygroups/{EMERGENCY}/activate"), Value::Null),
        (400, "POST", "/api/v2/flows/validate/jobs".into(), json!({"flows": [{"flow": {"id": stable}}], "includeDependencies": true})),
        (400, "POST", format!("/api/v2/integrations/actions/{RANDOM_PERCENTAGE_ACTION}/test"), Value::Null),
        (404, "PATCH", format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}/rows/main_ivr"), json!({"Traffic_Weight": 5})),
        (400, "GET", format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}?expand=rows"), Value::Null),
        (400, "GET", "/api/v2/flows/outcomes?flowId=f".into(), Value::Null),
        (400, "GET", "/api/v2/organizations/me?expand=limits".into(), Value::Null),
        (404, "GET", "/api/v2/organizations/limits/platform.api".into(), Value::Null),
    ]
}

#[test]
fn what_is_invented_is_refused_by_the_simulator_in_the_vendors_form() {
    let simulator = Simulator::start();
    for (status, method, path, body) in inventions() {
        let answer = simulator.api(method, &path, &body.to_string());
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text);
        // By the contract, not by a handler that happens to be stricter or absent.
        let reason = misfit(method, &path, &body.to_string());
        let said = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(said == reason || (status == 404 && said.starts_with("there is no operation")), "{method} {path} {body}: {said}");
        assert_eq!(answer.json()["code"], if status == 404 { "not.found" } else { "bad.request" });
    }
}

#[test]
fn a_request_without_a_token_learns_nothing_of_the_contract() {
    let simulator = Simulator::start();
    assert_eq!(simulator.send("POST", "/api/v2/flowroutingrules", &[], "{}").unwrap().status, 401);
}

// ------------------------------------------------------------------------------------------------------------------------------ answers

/// Asks and holds the answer to the contract. The simulator does so itself, so a handler without a line below is held to it too.
fn ask(simulator: &Simulator, method: &str, path: &str, body: &str) -> Value {
    let answer = simulator.api(method, path, body);
    assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text);
    hold(method, path, &answer);
    answer.json()
}

fn refused(simulator: &Simulator, status: u16, method: &str, path: &str) {
    let answer = simulator.api(method, path, "");
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    hold(method, path, &answer);
}

fn hold(method: &str, path: &str, answer: &Answer) {
    let operation = find(method, path.split('?').next().unwrap()).unwrap();
    if let Err(reason) = operation.check_answer(answer.status, answer.text.as_bytes()) {
        panic!("{method} {path}: {reason}");
    }
}

fn path_of(address: &Value) -> &str {
    let address = address.as_str().unwrap();
    &address[address.find("/_simulator").unwrap()..]
}

#[test]
fn every_answer_could_be_the_vendors() {
    let (simulator, flow) = (&Simulator::start(), format!("/api/v2/flows/{MAIN_IVR_CANARY}"));
    let token = simulator.send("POST", "/oauth/token", &[("Authorization", "Basic aWQ6c2VjcmV0")], "grant_type=client_credentials");
    hold("POST", "/oauth/token", &token.unwrap());

    ask(simulator, "GET", "/api/v2/flows?pageSize=1&pageNumber=2", "");
    ask(simulator, "GET", &format!("{flow}/versions?pageSize=1"), "");
    ask(simulator, "GET", &format!("{flow}/versions/14.0"), "");
    ask(simulator, "GET", &format!("{flow}/versions/14.0/configuration"), "");
    simulator.control("POST", "/_simulator/versions", json!({"flow_id": MAIN_IVR_CANARY}));
    // A flow at rest, one with a running operation, one after a failure, one after a success, and one that is locked.
    ask(simulator, "GET", &flow, "");
    simulator.fault(json!({"kind": "publish_fails", "times": 1}));
    for outcome in ["FAILURE", "SUCCESS"] {
        ask(simulator, "POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=15.0"), "null");
        ask(simulator, "GET", &flow, "");
        until(outcome, || simulator.get(&flow)["currentOperation"]["actionStatus"] == outcome);
        ask(simulator, "GET", &flow, "");
    }
    ask(simulator, "POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=99.0"), "");
    simulator.fault(json!({"kind": "lock", "flow_id": MAIN_IVR_CANARY, "user": "Pat"}));
    ask(simulator, "GET", &flow, "");
    refused(simulator, 409, "POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=14.0"));

    let job = ask(simulator, "POST", "/api/v2/flows/export/jobs", &json!({"flows": [{"flow": {"id": MAIN_IVR_STABLE}}]}).to_string());
    let done = ask(simulator, "GET", &format!("/api/v2/flows/export/jobs/{}?expand=messages", job["id"].as_str().unwrap()), "");
    let file = simulator.send("GET", path_of(&done["downloadUrl"]), &[], "").unwrap().text;
    for (file, outcome) in [(file.as_str(), "Success"), ("inboundCall:\n  division: Home\n", "Failure")] {
        let job = ask(simulator, "POST", "/api/v2/flows/jobs", "null");
        let poll = format!("/api/v2/flows/jobs/{}?expand=messages", job["id"].as_str().unwrap());
        ask(simulator, "GET", &poll, "");
        let headers: Vec<_> = job["headers"].as_object().unwrap().iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
        assert_eq!(simulator.send("PUT", path_of(&job["presignedUrl"]), &headers, file).unwrap().status, 200);
        until(outcome, || ask(simulator, "GET", &poll, "")["status"] == outcome);
    }

    let rows = format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}/rows");
    ask(simulator, "GET", "/api/v2/flows/datatables", "");
    ask(simulator, "POST", &rows, r#"{"key":"main_ivr","Traffic_Weight":100,"owner":"serin"}"#);
    ask(simulator, "PUT", &format!("{rows}/main_ivr"), r#"{"key":"main_ivr","Traffic_Weight":0,"owner":"serin"}"#);
    ask(simulator, "GET", &format!("{rows}?showbrief=false"), "");
    ask(simulator, "GET", &format!("{rows}/main_ivr?showbrief=false"), "");
    ask(simulator, "DELETE", &format!("{rows}/main_ivr"), "");

    simulator.advance(30);
    let query = json!({"interval": INTERVAL, "granularity": "PT1M", "groupBy": ["flowId", "flowVersion", "exitReason", "transferType"],
        "filter": {"type": "or", "predicates": [{"dimension": "flowId", "value": MAIN_IVR_STABLE}]}, "metrics": ["nFlow", "tFlow"]});
    assert!(!ask(simulator, "POST", AGGREGATES, &query.to_string())["results"].as_array().unwrap().is_empty());
    let nobody = query.to_string().replace(MAIN_IVR_STABLE, "nobody");
    assert_eq!(ask(simulator, "POST", AGGREGATES, &nobody), json!({}));
    let segment = json!([{"type": "or", "predicates": [{"dimension": "flowId", "value": MAIN_IVR_STABLE}]}]);
    let details = json!({"interval": INTERVAL, "segmentFilters": segment, "paging": {"pageSize": 100, "pageNumber": 1}});
    assert!(!ask(simulator, "POST", DETAILS, &details.to_string())["conversations"].as_array().unwrap().is_empty());

    for (status, method, path) in [(404, "GET", "/api/v2/flows/x"), (404, "GET", "/api/v2/flows/jobs/x"), (400, "GET", "/api/v2/flows?x=1")]
    {
        refused(simulator, status, method, path);
    }
}

#[test]
fn what_is_looked_at_and_switched_could_be_the_vendors() {
    let simulator = &Simulator::start();
    ask(simulator, "GET", "/api/v2/organizations/me", "");
    ask(simulator, "GET", "/api/v2/organizations/limits/namespaces/dataactions", "");
    ask(simulator, "GET", "/api/v2/flows/outcomes?pageSize=1", "");
    ask(simulator, "GET", "/api/v2/flows/datatables?expand=schema", "");
    ask(simulator, "GET", &format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}"), "");
    ask(simulator, "GET", "/api/v2/architect/ivrs?pageSize=1", "");
    for path in [format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}"), format!("/api/v2/architect/emergencygroups/{EMERGENCY}")] {
        let whole = ask(simulator, "GET", &path, "").to_string();
        ask(simulator, "PUT", &path, &whole);
        let late = simulator.api("PUT", &path, &whole);
        assert_eq!(late.status, 409);
        hold("PUT", &path, &late);
    }
    ask(simulator, "GET", "/api/v2/architect/dependencytracking/build", "");
    ask(simulator, "POST", "/api/v2/architect/dependencytracking/build", "null");
    ask(simulator, "GET", &format!("{CONSUMED}?id={MAIN_IVR_STABLE}&version=14.0&objectType=INBOUNDCALLFLOW&resourceType=QUEUE"), "");
    let test = format!("/api/v2/integrations/actions/{RANDOM_PERCENTAGE_ACTION}/test");
    ask(simulator, "POST", &test, r#"{"flow":"main_ivr","conversationId":"c"}"#);
    ask(simulator, "POST", &test, "{}");
    ask(simulator, "GET", &format!("/api/v2/integrations/actions/{RANDOM_PERCENTAGE_ACTION}?includeConfig=true"), "");
    let flow = json!({"flows": [{"flow": {"id": MAIN_IVR_STABLE, "version": "99.0"}}]}).to_string();
    let job = ask(simulator, "POST", "/api/v2/flows/validate/jobs", &flow);
    for _ in 0..2 {
        ask(simulator, "GET", &format!("/api/v2/flows/validate/jobs/{}?expand=messages", job["id"].as_str().unwrap()), "");
    }
    let publish = json!({"kind": "publish", "flow_id": MAIN_IVR_STABLE, "version": "13.0", "user": "Pat"});
    simulator.control("POST", "/_simulator/by_hand", publish);
    ask(simulator, "GET", &format!("/api/v2/flows/{MAIN_IVR_STABLE}"), "");
    ask(simulator, "POST", &format!("{AUDITS}?expand=user"), &json!({"interval": INTERVAL}).to_string());

    simulator.advance(30);
    ask(simulator, "GET", &format!("{JOBS}/availability"), "");
    let job = ask(simulator, "POST", JOBS, &json!({"interval": INTERVAL}).to_string());
    let job = format!("{JOBS}/{}", job["jobId"].as_str().unwrap());
    refused(simulator, 400, "GET", &format!("{job}/results"));
    for _ in 0..3 {
        ask(simulator, "GET", &job, "");
    }
    assert!(!ask(simulator, "GET", &format!("{job}/results?pageSize=5"), "")["conversations"].as_array().unwrap().is_empty());
    ask(simulator, "DELETE", &job, "");

    simulator.fault(json!({"kind": "forbid", "permission": "routing:callRoute:view"}));
    for (status, path) in [
        (403, "/api/v2/architect/ivrs"),
        (404, "/api/v2/architect/emergencygroups/x"),
        (404, "/api/v2/flows/validate/jobs/x"),
        (404, "/api/v2/flows/datatables/x"),
        (404, "/api/v2/organizations/limits/namespaces/x"),
        (404, &format!("{CONSUMED}?id=x&version=1.0&objectType=INBOUNDCALLFLOW")),
        (404, &format!("{CONSUMED}?id={MAIN_IVR_STABLE}&version=14.0&objectType=WORKFLOW")),
        (404, &job),
    ] {
        refused(simulator, status, "GET", path);
    }
}

#[test]
fn nothing_of_the_contract_is_left_unanswered() {
    let simulator = Simulator::start();
    for operation in contract::operations() {
        let answer = simulator.api(&operation.method, &operation.path.replace(['{', '}'], ""), "");
        assert_ne!(answer.json()["code"], "not.simulated", "{} {}", operation.method, operation.path);
    }
    let seen = simulator.control("GET", "/_simulator/requests", json!({}));
    let unmatched: Vec<&String> = seen.as_object().unwrap().keys().filter(|line| line.contains("unmatched")).collect();
    assert!(unmatched.is_empty(), "{unmatched:?}");
}
