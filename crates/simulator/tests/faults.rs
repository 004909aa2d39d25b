//! Faults that last, that come later, and that mislead; and what requests cost.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod support;

use serde_json::{Value, json};
use serin_simulator::{DEPLOYMENT_CONTROL, MAIN_IVR_CANARY, MAIN_IVR_STABLE};
use support::{Simulator, count};

const PUBLISH: &str = "/api/v2/flows/actions/publish";

fn refused(simulator: &Simulator, path: &str, order: Value) {
    let answer = simulator.send("POST", path, &[], &order.to_string()).unwrap();
    assert_eq!(answer.status, 400, "{order}: {}", answer.text);
}

#[test]
fn a_client_without_the_permission_learns_nothing() {
    let simulator = Simulator::start();
    let flow = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    simulator.fault(json!({"kind": "forbid", "permission": "architect:flow:view", "client_id": "other"}));
    assert_eq!(simulator.api("GET", &flow, "").status, 200);
    simulator.fault(json!({"kind": "forbid", "permission": "architect:flow:view"}));
    for path in [&flow, "/api/v2/flows/x", "/api/v2/flows?nonsense=1"] {
        let answer = simulator.api("GET", path, "");
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("missing.permissions")), "{path}");
        assert!(answer.json()["message"].as_str().unwrap().contains("architect:flow:view"));
    }
    // Either of two permissions will do.
    let publish = || simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_CANARY}&version=99.0"), "").status;
    simulator.fault(json!({"kind": "forbid", "permission": "architect:flow:publish"}));
    assert_eq!(publish(), 200);
    simulator.fault(json!({"kind": "forbid", "permission": "architect:flow:unlock"}));
    assert_eq!(publish(), 403);
    simulator.control("DELETE", "/_simulator/faults", json!({}));
    assert_eq!((simulator.api("GET", &flow, "").status, publish()), (200, 200));
    refused(&simulator, "/_simulator/faults", json!({"faults": [{"kind": "forbid", "permission": "architect:flow:read"}]}));
    refused(&simulator, "/_simulator/faults", json!({"faults": [{"kind": "action_fails", "action_id": "x"}]}));
}

#[test]
fn what_exists_can_be_denied() {
    let simulator = Simulator::start();
    let flow = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    simulator.fault(json!({"kind": "masked_not_found", "path": flow, "method": "GET", "times": 2}));
    for path in [&flow, &format!("{flow}/versions")] {
        let answer = simulator.api("GET", path, "");
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("architect.flow.not.found")));
    }
    assert_eq!(simulator.api("GET", &flow, "").status, 200);
    let table = format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}");
    simulator.fault(json!({"kind": "masked_not_found", "path": table}));
    assert_eq!(simulator.api("GET", &table, "").json()["code"], "flows.datatables.not.found");
}

#[test]
fn a_script_strikes_when_the_virtual_clock_has_come_to_it() {
    let simulator = Simulator::start();
    let flow = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    let locked = || simulator.get(&flow)["lockedUser"]["name"].clone();
    let script = json!([
        {"after_s": 90, "fault": {"kind": "unlock", "flow_id": MAIN_IVR_STABLE}},
        {"after_s": 60, "fault": {"kind": "lock", "flow_id": MAIN_IVR_STABLE, "user": "Pat"}},
        {"after_s": 600, "fault": {"kind": "status", "path": flow, "status": 503}},
    ]);
    assert_eq!(simulator.control("POST", "/_simulator/script", script)["added"], 3);
    assert_eq!(locked(), Value::Null);
    simulator.advance(1);
    assert_eq!(locked(), "Pat");
    simulator.advance(1);
    assert_eq!(locked(), Value::Null);
    simulator.control("DELETE", "/_simulator/faults", json!({}));
    simulator.advance(10);
    assert_eq!(simulator.api("GET", &flow, "").status, 200);
    simulator.control("POST", "/_simulator/script", json!([{"after_s": 0, "fault": {"kind": "status", "path": flow, "status": 503}}]));
    assert_eq!(simulator.api("GET", &flow, "").status, 503);
    refused(&simulator, "/_simulator/script", json!([{"after_s": -1, "fault": {"kind": "expire_tokens"}}]));
    refused(&simulator, "/_simulator/script", json!([{"after_s": 1, "fault": {"kind": "lock", "flow_id": "x", "user": "Pat"}}]));
    refused(&simulator, "/_simulator/script", json!([{"after_s": 1, "fault": {"kind": "slow", "path": "/", "seconds": -1}}]));
}

#[test]
fn faults_are_added_all_or_none() {
    let simulator = Simulator::start();
    let flow = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    let faults = json!({"faults": [{"kind": "status", "path": flow, "status": 503}, {"kind": "lock", "flow_id": "x", "user": "Pat"}]});
    refused(&simulator, "/_simulator/faults", faults);
    assert_eq!(simulator.api("GET", &flow, "").status, 200);
}

#[test]
fn reports_can_come_late_be_wrong_at_first_or_stay_away() {
    let counted = |fault: Value, minutes| {
        let simulator = Simulator::start();
        simulator.fault(fault);
        simulator.advance(minutes);
        let seen = simulator.aggregates("2026-11-20T09:00:00Z/2026-11-20T10:00:00Z", &["tFlow"]);
        let of = |exit| count(&seen, MAIN_IVR_STABLE, exit, "tFlow");
        (of(""), of("FLOW_DISCONNECT"))
    };
    let (all, contained) = counted(json!({"kind": "silence", "flow_id": MAIN_IVR_CANARY}), 20);
    assert!(all > 500);
    assert_eq!(counted(json!({"kind": "reports_late", "seconds": 3600}), 20).0, 0);
    assert_eq!(counted(json!({"kind": "silence", "flow_id": MAIN_IVR_STABLE}), 20).0, 0);
    assert!(counted(json!({"kind": "restate", "share": 1.0}), 20).1 > contained);
    let simulator = Simulator::start();
    for bad in [json!({"kind": "restate", "share": 1.5}), json!({"kind": "reports_late", "seconds": -1})] {
        refused(&simulator, "/_simulator/faults", json!({"faults": [bad]}));
    }
}

#[test]
fn republishing_can_start_to_mint_new_numbers() {
    let simulator = Simulator::start();
    simulator.fault(json!({"kind": "republish_mints", "on": true}));
    let publish = json!({"kind": "publish", "flow_id": MAIN_IVR_STABLE, "version": "13.0", "user": "Pat"});
    simulator.control("POST", "/_simulator/by_hand", publish);
    assert_eq!(simulator.get(&format!("/api/v2/flows/{MAIN_IVR_STABLE}"))["publishedVersion"]["id"], "15.0");
}

#[test]
fn the_meter_says_what_each_client_has_asked() {
    let simulator = Simulator::start();
    simulator.control("POST", "/_simulator/meter/reset", json!({}));
    let flow = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    simulator.fault(json!({"kind": "status", "path": flow, "status": 503}));
    for _ in 0..3 {
        simulator.api("GET", &flow, "");
    }
    simulator.send("GET", &flow, &[], "").unwrap();
    let seen = simulator.control("GET", "/_simulator/meter", json!({}));
    assert_eq!(seen, json!({"clients": {"id": {"total": 3, "busiest_minute": 3}}, "by_path": {"GET /api/v2/flows/{flowId}": 4}}));
    simulator.control("POST", "/_simulator/meter/reset", json!({}));
    assert_eq!(simulator.control("GET", "/_simulator/meter", json!({})), json!({"clients": {}, "by_path": {}}));
    assert_eq!(simulator.control("GET", "/_simulator/requests", json!({}))["GET /api/v2/flows/{flowId}"], 4);
}
