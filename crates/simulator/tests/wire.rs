//! The vendor's side keeps to its contract: tokens, limits, publishing, YAML, tables, faults.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail where it stands, and say what it measured")]

mod support;

use serde_json::json;
use serin_simulator::{DEPLOYMENT_CONTROL, MAIN_IVR_CANARY, MAIN_IVR_STABLE};
use std::time::{Duration, Instant};
use support::{Simulator, until};

const PUBLISH: &str = "/api/v2/flows/actions/publish";

#[test]
fn every_api_call_needs_a_valid_token() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    let missing = simulator.send("GET", &path, &[], "").unwrap();
    assert_eq!((missing.status, missing.json()["status"].as_u64()), (401, Some(401)));
    let unknown = simulator.send("GET", &path, &[("Authorization", "Bearer nope")], "").unwrap();
    assert_eq!((unknown.status, unknown.json()["code"].as_str()), (401, Some("bad.credentials")));
    assert_eq!(simulator.api("GET", &path, "").status, 200);
    simulator.fault(json!({"kind": "expire_tokens"}));
    assert_eq!(simulator.api("GET", &path, "").status, 401);
}

#[test]
fn a_token_needs_credentials_and_the_right_grant_and_a_client_that_is_not_refused() {
    let simulator = Simulator::start();
    let ask = |headers: &[(&str, &str)], body: &str| simulator.send("POST", "/oauth/token", headers, body).unwrap();
    let basic = [("Authorization", "Basic aWQ6c2VjcmV0")];
    assert_eq!(ask(&[], "grant_type=client_credentials").status, 401);
    assert_eq!(ask(&basic, "grant_type=password").status, 400);
    let token = ask(&basic, "grant_type=client_credentials").json();
    assert_eq!((token["token_type"].as_str(), token["expires_in"].as_u64()), (Some("bearer"), Some(86_399)));
    simulator.fault(json!({"kind": "oauth_refuse", "client_id": "id"}));
    let refused = ask(&basic, "grant_type=client_credentials");
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_client")));
}

#[test]
fn unknown_paths_flows_and_missing_parameters_are_refused_in_the_vendors_form() {
    let simulator = Simulator::start();
    for (method, path, status) in [
        ("GET", "/api/v2/architect/flows/x", 404),
        ("GET", "/api/v2/flows/x", 404),
        ("GET", "/api/v2/flows/x/versions", 404),
        ("POST", PUBLISH, 400),
        ("PATCH", "/api/v2/flows/x", 404),
        ("GET", "/api/v2/flows?pageSize=0", 400),
    ] {
        let answer = simulator.api(method, path, "null");
        assert_eq!((answer.status, answer.json()["status"].as_u64()), (status, Some(status.into())), "{method} {path}: {}", answer.text);
        assert!(answer.json()["code"].is_string() && answer.json()["message"].is_string());
    }
}

#[test]
fn flows_and_versions_are_listed_in_pages() {
    let simulator = Simulator::start();
    let page = simulator.get("/api/v2/flows?name=Main_IVR_*&pageSize=2&pageNumber=2");
    assert_eq!((page["total"].as_u64(), page["pageCount"].as_u64(), page["entities"].as_array().unwrap().len()), (Some(3), Some(2), 1));
    let versions = simulator.get(&format!("/api/v2/flows/{MAIN_IVR_STABLE}/versions"));
    let ids: Vec<_> = versions["entities"].as_array().unwrap().iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["14.0", "13.0"]);
}

#[test]
fn both_slots_start_with_the_same_configuration_but_for_name_and_id() {
    let simulator = Simulator::start();
    let configuration = |flow: &str, version: &str| simulator.get(&format!("/api/v2/flows/{flow}/versions/{version}/configuration"));
    let (stable, canary) = (configuration(MAIN_IVR_STABLE, "14.0"), configuration(MAIN_IVR_CANARY, "14.0"));
    assert_ne!((&stable["id"], &stable["name"]), (&canary["id"], &canary["name"]));
    assert_eq!((&stable["body"], &stable["behavior"]), (&canary["body"], &canary["behavior"]));
    assert_ne!(stable["body"], configuration(MAIN_IVR_STABLE, "13.0")["body"]);
}

#[test]
fn publishing_takes_a_while_and_then_the_version_is_live() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/flows/{MAIN_IVR_CANARY}");
    let started = simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=13.0"), "null");
    let operation = started.json();
    assert_eq!((started.status, operation["complete"].as_bool(), operation["actionStatus"].as_str()), (200, Some(false), Some("STARTED")));
    let flow = simulator.get(&path);
    assert_eq!((flow["publishedVersion"]["id"].as_str(), &flow["currentOperation"]["id"]), (Some("14.0"), &operation["id"]));
    let busy = simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=14.0"), "");
    assert_eq!(busy.status, 409);
    until("the publish", || simulator.get(&path)["currentOperation"]["complete"] == true);
    let flow = simulator.get(&path);
    assert_eq!(flow["publishedVersion"]["id"], "13.0");
    assert_eq!(flow["publishedVersion"]["datePublished"], "2026-11-20T09:00:00.000Z");
    assert_eq!((flow["currentOperation"]["actionStatus"].as_str(), flow["publishedBy"]["id"].as_str()), (Some("SUCCESS"), Some("id")));
}

#[test]
fn publishing_a_version_that_does_not_exist_answers_200_and_does_nothing() {
    let simulator = Simulator::start();
    let before = simulator.get(&format!("/api/v2/flows/{MAIN_IVR_CANARY}"));
    let answer = simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=99.0"), "");
    assert_eq!((answer.status, answer.json()["complete"].as_bool()), (200, Some(false)));
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(simulator.get(&format!("/api/v2/flows/{MAIN_IVR_CANARY}")), before);
}

#[test]
fn a_flow_that_a_person_edits_is_not_published_until_the_person_lets_go() {
    let simulator = Simulator::start();
    let publish = || simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=13.0"), "").status;
    simulator.fault(json!({"kind": "lock", "flow_id": MAIN_IVR_CANARY, "user": "Pat"}));
    assert_eq!(publish(), 409);
    assert_eq!(simulator.get(&format!("/api/v2/flows/{MAIN_IVR_CANARY}"))["lockedUser"]["name"], "Pat");
    simulator.control("DELETE", "/_simulator/faults", json!({}));
    assert_eq!(publish(), 200);
}

#[test]
fn a_publish_can_be_made_to_fail_and_to_take_longer() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/flows/{MAIN_IVR_CANARY}");
    simulator.fault(json!({"kind": "publish_fails", "times": 1}));
    simulator.fault(json!({"kind": "publish_seconds", "seconds": 0}));
    simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=13.0"), "");
    let flow = simulator.get(&path);
    assert_eq!(
        (flow["currentOperation"]["actionStatus"].as_str(), flow["publishedVersion"]["id"].as_str()),
        (Some("FAILURE"), Some("14.0"))
    );
    simulator.fault(json!({"kind": "publish_seconds", "seconds": 60}));
    simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=13.0"), "");
    assert_eq!(simulator.get(&path)["currentOperation"]["complete"], false);
}

/// Exports the live version of a flow as YAML.
fn exported(simulator: &Simulator, flow: &str) -> String {
    let job = simulator.api("POST", "/api/v2/flows/export/jobs", &json!({"flows": [{"flow": {"id": flow}}]}).to_string()).json();
    let job = simulator.get(&format!("/api/v2/flows/export/jobs/{}", job["id"].as_str().unwrap()));
    assert_eq!(job["status"], "Success");
    let url = job["downloadUrl"].as_str().unwrap();
    let path = url.strip_prefix(&format!("http://{}", simulator.address)).unwrap();
    simulator.send("GET", path, &[], "").unwrap().text
}

/// Publishes YAML and returns the finished job.
fn uploaded(simulator: &Simulator, yaml: &str) -> serde_json::Value {
    let job = simulator.api("POST", "/api/v2/flows/jobs", "{}").json();
    let path = job["presignedUrl"].as_str().unwrap().strip_prefix(&format!("http://{}", simulator.address)).unwrap().to_owned();
    assert_eq!(simulator.send("PUT", &path, &[], yaml).unwrap().status, 403);
    let headers: Vec<_> = job["headers"].as_object().unwrap().iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
    assert_eq!(simulator.send("PUT", &path, &headers, yaml).unwrap().status, 200);
    let poll = format!("/api/v2/flows/jobs/{}?expand=messages", job["id"].as_str().unwrap());
    until("the job", || simulator.get(&poll)["status"] != "Started");
    simulator.get(&poll)
}

#[test]
fn the_canarys_export_published_under_the_stable_name_carries_its_behavior() {
    let simulator = Simulator::start();
    let behavior = json!({"error": 0.12, "abandon": 0.06, "transfer": 0.22, "duration_factor": 1.5});
    let change = simulator.control("POST", "/_simulator/versions", json!({"flow_id": MAIN_IVR_CANARY, "behavior": behavior}));
    assert_eq!(change["version"], "15.0");
    let path = format!("/api/v2/flows/{MAIN_IVR_CANARY}");
    assert_eq!(simulator.get(&path)["checkedInVersion"], simulator.get(&format!("{path}/versions/15.0")));
    assert_eq!(simulator.get(&format!("{path}/versions/15.0"))["type"], "CHECKIN");
    simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=15.0"), "");
    until("the publish", || simulator.get(&path)["publishedVersion"]["id"] == "15.0");

    let yaml = exported(&simulator, MAIN_IVR_CANARY);
    assert!(yaml.starts_with("inboundCall:\n  name: Main_IVR_Green\n"), "{yaml}");
    let job = uploaded(&simulator, &yaml.replace("Main_IVR_Green", "Main_IVR_Blue"));
    assert_eq!((job["status"].as_str(), job["flow"]["id"].as_str()), (Some("Success"), Some(MAIN_IVR_STABLE)));
    let live = simulator.get(&format!("/api/v2/flows/{MAIN_IVR_STABLE}"))["publishedVersion"]["id"].as_str().unwrap().to_owned();
    let stable = simulator.get(&format!("/api/v2/flows/{MAIN_IVR_STABLE}/versions/{live}/configuration"));
    let canary = simulator.get(&format!("{path}/versions/15.0/configuration"));
    assert_eq!((&stable["behavior"], &stable["body"]), (&behavior, &canary["body"]));
}

#[test]
fn yaml_with_an_unknown_name_makes_a_second_flow_and_bad_yaml_a_failure() {
    let simulator = Simulator::start();
    let job = uploaded(&simulator, &exported(&simulator, MAIN_IVR_STABLE).replace("Main_IVR_Blue", "Main_IVR_Bleu"));
    let made = simulator.get(&format!("/api/v2/flows/{}", job["flow"]["id"].as_str().unwrap()));
    assert_eq!((job["status"].as_str(), made["name"].as_str()), (Some("Success"), Some("Main_IVR_Bleu")));
    assert_eq!(simulator.get("/api/v2/flows")["total"], 4);
    let job = uploaded(&simulator, "inboundCall:\n  division: Home\n");
    assert_eq!((job["status"].as_str(), job["messages"][0]["type"].as_str()), (Some("Failure"), Some("Error")));
    simulator.fault(json!({"kind": "lock", "flow_id": MAIN_IVR_STABLE, "user": "Pat"}));
    let job = uploaded(&simulator, &exported(&simulator, MAIN_IVR_STABLE));
    assert!(job["messages"][0]["text"].as_str().unwrap().contains("is locked by another entity"));
}

#[test]
fn the_301st_request_in_a_minute_is_told_to_wait() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    let first = simulator.api("GET", &path, "");
    assert_eq!((first.headers["inin-ratelimit-count"].as_str(), first.headers["inin-ratelimit-allowed"].as_str()), ("1", "300"));
    for _ in 0..299 {
        assert_eq!(simulator.api("GET", &path, "").status, 200);
    }
    let refused = simulator.api("GET", &path, "");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("too.many.requests.retry.after")));
    assert!((1..=60).contains(&refused.headers["retry-after"].parse::<u64>().unwrap()));
    let seen = simulator.control("GET", "/_simulator/requests", json!({}));
    assert_eq!(seen["GET /api/v2/flows/{flowId}"], 301);
}

#[test]
fn faults_refuse_delay_and_cut_as_often_as_told() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    let bearer = format!("Bearer {}", simulator.token);
    let ask = || simulator.send("GET", &path, &[("Authorization", &bearer)], "");
    simulator.fault(json!({"kind": "status", "path": "/api/v2/flows", "status": 503, "retry_after": 2, "times": 1}));
    let refused = ask().unwrap();
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "2"));
    simulator.fault(json!({"kind": "drop", "path": "/api/v2/flows", "times": 1}));
    assert!(ask().is_none());
    simulator.fault(json!({"kind": "slow", "path": "/api/v2/flows", "seconds": 0.3, "times": 1}));
    let asked = Instant::now();
    assert_eq!(ask().unwrap().status, 200);
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(ask().unwrap().status, 200);
}

#[test]
fn a_dropped_answer_can_hide_a_publish_that_was_carried_out() {
    let simulator = Simulator::start();
    simulator.fault(json!({"kind": "drop", "path": PUBLISH, "after": true}));
    let bearer = format!("Bearer {}", simulator.token);
    let path = format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=13.0");
    assert!(simulator.send("POST", &path, &[("Authorization", &bearer)], "").is_none());
    until("the publish", || simulator.get(&format!("/api/v2/flows/{MAIN_IVR_CANARY}"))["publishedVersion"]["id"] == "13.0");
}

#[test]
fn rows_are_written_whole_and_the_last_writer_wins() {
    let simulator = Simulator::start();
    let rows = format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}/rows");
    let row = |weight: u32| json!({"key": "main_ivr", "Traffic_Weight": weight}).to_string();
    assert_eq!(simulator.api("PUT", &format!("{rows}/main_ivr"), &row(5)).status, 404);
    assert_eq!(simulator.api("POST", &rows, &row(5)).status, 200);
    assert_eq!(simulator.api("POST", &rows, &row(5)).status, 409);
    assert_eq!(simulator.api("PUT", &format!("{rows}/main_ivr"), &row(0)).status, 200);
    assert_eq!(simulator.get(&format!("{rows}/main_ivr?showbrief=false"))["Traffic_Weight"], 0);
    assert_eq!(simulator.get(&rows)["entities"], json!([{"key": "main_ivr"}]));
    assert_eq!(simulator.api("DELETE", &format!("{rows}/main_ivr"), "").status, 204);
    assert_eq!(simulator.get(&rows)["total"], 0);
}
