//! Conversations are told when things end, a page at a time, and as the vendor shapes them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod support;

use serde_json::{Value, json};
use serin_simulator::{MAIN_IVR_CANARY, MAIN_IVR_COP, MAIN_IVR_STABLE};
use std::collections::BTreeSet;
use support::{Answer, Simulator, count};

const DETAILS: &str = "/api/v2/analytics/conversations/details/query";
const HOUR: &str = "2026-11-20T09:00:00.000Z/2026-11-20T10:00:00.000Z";

/// Conversations through the stable flow that have ended and were handled or given up, latest end first.
fn handled(page: u32) -> Value {
    let has = |metric| json!({"type": "metric", "metric": metric, "operator": "exists"});
    json!({"interval": HOUR, "order": "desc", "orderBy": "conversationEnd", "paging": {"pageSize": 100, "pageNumber": page},
        "segmentFilters": [{"type": "or", "predicates": [
            {"type": "dimension", "dimension": "flowId", "operator": "matches", "value": MAIN_IVR_STABLE},
            {"dimension": "flowId", "value": MAIN_IVR_CANARY}]}],
        "conversationFilters": [
            {"type": "and", "predicates": [{"type": "dimension", "dimension": "conversationEnd", "operator": "exists"}]},
            {"type": "or", "predicates": [has("tHandle"), has("tAbandon")]}]})
}

fn ask(simulator: &Simulator, query: &Value) -> Answer {
    simulator.api("POST", DETAILS, &query.to_string())
}

fn pages(simulator: &Simulator) -> Vec<Value> {
    let mut all = Vec::new();
    for number in 1.. {
        let answer = ask(simulator, &handled(number));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let Some(page) = answer.json()["conversations"].as_array().cloned() else {
            assert_eq!(answer.json()["totalHits"], all.len());
            return all;
        };
        all.extend(page);
    }
    all
}

fn metric(conversation: &Value, name: &str) -> Option<i64> {
    let sessions = conversation["participants"].as_array().unwrap().iter().flat_map(|p| p["sessions"].as_array().unwrap());
    let metrics = sessions.flat_map(|session| session["metrics"].as_array().unwrap());
    metrics.filter(|m| m["name"] == name).map(|m| m["value"].as_i64().unwrap()).reduce(|a, b| a + b)
}

#[test]
fn every_transferred_call_is_handled_or_given_up_once_and_pages_hold_a_hundred_at_most() {
    let simulator = Simulator::start();
    simulator.advance(40);
    let counted = simulator.aggregates("2026-11-20T09:00:00Z/2026-11-20T09:40:00Z", &["tFlow"]);
    let transferred = count(&counted, MAIN_IVR_STABLE, "TRANSFER", "tFlow") as usize;
    let found = pages(&simulator);
    // Who waits, talks or is being written up is not there yet.
    assert!(found.len() + 10 < transferred, "{} of {transferred}", found.len());
    assert!(found.len() > 100, "{}", found.len());
    let ids: BTreeSet<&str> = found.iter().map(|c| c["conversationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), found.len());
    let ends: Vec<&str> = found.iter().map(|c| c["conversationEnd"].as_str().unwrap()).collect();
    assert!(ends.is_sorted_by(|a, b| a >= b));
    let abandoned = found.iter().filter(|c| metric(c, "tAbandon").is_some()).count();
    assert!(found.iter().all(|c| metric(c, "tHandle").is_some() != metric(c, "tAbandon").is_some()));
    assert!((found.len() / 30..found.len() / 5).contains(&abandoned), "{abandoned} of {}", found.len());
    for conversation in found.iter().filter(|c| metric(c, "tHandle").is_some()) {
        let part = |name| metric(conversation, name).unwrap_or(0);
        assert_eq!(part("tHandle"), part("tTalk") + part("tHeld") + part("tAcw"));
        assert_eq!(part("tAcd"), part("tAnswered"));
    }
}

#[test]
fn a_conversation_is_shaped_as_published_and_known_as_far_as_it_has_gone() {
    let simulator = Simulator::start();
    simulator.control("POST", "/_simulator/reset", json!({"latency_s": 0, "report_delay_s": 0}));
    simulator.advance(10);
    let talking = json!({"interval": HOUR, "conversationFilters": [{"type": "and", "clauses": [{"type": "and", "predicates": [
        {"dimension": "conversationEnd", "operator": "notExists"}, {"metric": "tAnswered", "range": {"gte": 0}}]}]}]});
    let answer = ask(&simulator, &talking);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let conversation = &answer.json()["conversations"][0];
    assert_eq!(conversation["conversationEnd"], Value::Null);
    let purposes: Vec<&str> = conversation["participants"].as_array().unwrap().iter().map(|p| p["purpose"].as_str().unwrap()).collect();
    assert_eq!(purposes, ["customer", "ivr", "acd", "agent"]);
    let ivr = &conversation["participants"][1]["sessions"];
    assert_eq!((&ivr[0]["flow"]["flowId"], &ivr[0]["flow"]["transferType"]), (&json!(MAIN_IVR_COP), &json!("FLOW")));
    let flow = &ivr[1]["flow"];
    assert_eq!((&flow["flowId"], &flow["flowVersion"], &flow["transferType"]), (&json!(MAIN_IVR_STABLE), &json!("14.0"), &json!("ACD")));
    let agent = &conversation["participants"][3]["sessions"][0];
    assert_eq!((&agent["segments"][0]["segmentType"], &agent["segments"][0]["segmentEnd"]), (&json!("interact"), &Value::Null));
    assert_eq!(metric(conversation, "tHandle"), None);
    let id = conversation["conversationId"].clone();
    simulator.advance(130);
    let one = json!({"interval": HOUR, "conversationFilters": [{"type": "and", "predicates": [{"dimension": "conversationId", "value": id}]}],
        "segmentFilters": [{"type": "and", "predicates": [{"dimension": "purpose", "value": "agent"}, {"dimension": "segmentType", "value": "wrapup"}]}]});
    let later = ask(&simulator, &one).json()["conversations"][0].clone();
    assert!(later["conversationEnd"].is_string() && metric(&later, "tHandle").is_some(), "{later}");
}

#[test]
fn what_the_vendor_does_not_take_is_refused() {
    let simulator = Simulator::start();
    simulator.advance(5);
    for (field, bad) in [
        ("paging", json!({"pageSize": 101, "pageNumber": 1})),
        ("paging", json!({"pageSize": 100, "pageNumber": 0})),
        ("paging", json!({"pageSize": 100})),
        ("interval", json!("yesterday")),
        ("interval", json!("2026-10-01T00:00:00Z/2026-11-20T00:00:00Z")),
        ("order", json!("down")),
        ("orderBy", json!("handleTime")),
        ("flowId", json!(MAIN_IVR_STABLE)),
        ("segmentFilters", json!([{"predicates": []}])),
        ("segmentFilters", json!([{"type": "or", "predicates": [{"dimension": "canaryVersion", "value": "x"}]}])),
        ("conversationFilters", json!([{"type": "or", "predicates": [{"dimension": "flowId", "value": "x"}]}])),
        ("conversationFilters", json!([{"type": "or", "predicates": [{"metric": "tHandle"}]}])),
    ] {
        let mut query = json!({"interval": HOUR});
        query[field] = bad.clone();
        assert_eq!(ask(&simulator, &query).status, 400, "{field} {bad}");
    }
    assert_eq!(ask(&simulator, &json!({"paging": {"pageSize": 1, "pageNumber": 1}})).status, 400);
    // Without paging a page holds 25, and beyond the last there is none.
    assert_eq!(ask(&simulator, &json!({"interval": HOUR})).json()["conversations"].as_array().unwrap().len(), 25);
    let beyond = ask(&simulator, &json!({"interval": HOUR, "paging": {"pageSize": 100, "pageNumber": 1000}})).json();
    assert!(beyond["conversations"].is_null() && beyond["totalHits"].as_u64().unwrap() > 100, "{beyond}");
}

#[test]
fn aggregates_still_know_no_handle_time() {
    let simulator = Simulator::start();
    let query = json!({"interval": HOUR, "metrics": ["tHandle"], "groupBy": ["flowId"]});
    assert_eq!(simulator.api("POST", "/api/v2/analytics/flows/aggregates/query", &query.to_string()).status, 400);
}
