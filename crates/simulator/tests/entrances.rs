//! Where calls enter, which branch they take, and how test calls are placed: the organization's to say, and seen in what is counted.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod support;

use serde_json::{Value, json};
use serin_simulator::{
    DEPLOYMENT_CONTROL, EMERGENCY, MAIN_IVR_CANARY, MAIN_IVR_CANARY_OUTCOME, MAIN_IVR_COP, MAIN_IVR_DNIS, MAIN_IVR_IVR, MAIN_IVR_STABLE,
    MAIN_IVR_STABLE_OUTCOME, MAIN_IVR_TEST_DNIS,
};
use support::{Simulator, advance, count, parameters, until};

const AGGREGATES: &str = "/api/v2/analytics/flows/aggregates/query";
const DETAILS: &str = "/api/v2/analytics/conversations/details/query";
const HOUR: &str = "2026-11-20T09:00:00Z/2026-11-20T10:00:00Z";

/// A simulator whose one slot, `main_ivr`, is set up so.
fn with_slot(mut slot: Value) -> Simulator {
    let simulator = Simulator::start();
    slot["slot"] = json!("main_ivr");
    simulator.control("POST", "/_simulator/reset", json!({"flows": [slot]}));
    simulator
}

/// Checks in a version of the stable flow and publishes it as 15.0.
fn publish(simulator: &Simulator, mut change: Value) {
    change["flow_id"] = json!(MAIN_IVR_STABLE);
    assert_eq!(simulator.control("POST", "/_simulator/versions", change)["version"], "15.0");
    simulator.api("POST", &format!("/api/v2/flows/actions/publish?flow={MAIN_IVR_STABLE}&version=15.0"), "null");
    until("the publish", || simulator.get(&format!("/api/v2/flows/{MAIN_IVR_STABLE}"))["publishedVersion"]["id"] == "15.0");
}

fn write_row(simulator: &Simulator, weight: u32) {
    let row = json!({"key": "main_ivr", "Active_Flow_ID": MAIN_IVR_CANARY, "Traffic_Weight": weight, "revision": weight, "owner": "r-1"});
    let rows = format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}/rows");
    let created = simulator.api("POST", &rows, &row.to_string());
    let answer = if created.status == 409 { simulator.api("PUT", &format!("{rows}/main_ivr"), &row.to_string()) } else { created };
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Reads a thing, changes it and writes it back.
fn change(simulator: &Simulator, path: &str, edit: impl FnOnce(&mut Value)) {
    let mut thing = simulator.get(path);
    edit(&mut thing);
    let answer = simulator.api("PUT", path, &thing.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn ask(simulator: &Simulator, path: &str, query: &Value) -> Value {
    let answer = simulator.api("POST", path, &query.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Outcomes of the hour by `metric`, of one outcome and value.
fn outcomes(simulator: &Simulator, metric: &str, id: &str, value: &str) -> u64 {
    let query = json!({"interval": HOUR, "groupBy": ["flowId", "flowOutcomeId", "flowOutcomeValue"], "metrics": [metric]});
    let results = ask(simulator, AGGREGATES, &query)["results"].as_array().cloned().unwrap_or_default();
    let group = json!({"mediaType": "voice", "flowId": MAIN_IVR_STABLE, "flowOutcomeId": id, "flowOutcomeValue": value});
    let found = results.into_iter().find(|result| result["group"] == group);
    found.map_or(0, |result| result["data"][0]["metrics"][0]["stats"]["count"].as_u64().unwrap())
}

#[test]
fn without_a_cop_calls_enter_the_flow_directly_and_the_cop_is_never_reported() {
    let simulator = with_slot(json!({"entry": "stable"}));
    let moved = advance(&simulator, 5, "100");
    // Nobody asks, so nobody is sent to canary.
    assert_eq!((&moved["canary"], &moved["disagreements"]), (&json!(0), &json!([])));
    simulator.control("POST", "/_simulator/advance", json!({"minutes": 10}));
    let seen = simulator.aggregates("2026-11-20T09:00:00Z/2026-11-20T09:05:00Z", &["nFlow", "tFlow"]);
    assert_eq!(count(&seen, MAIN_IVR_STABLE, "", "nFlow"), moved["calls"].as_u64().unwrap());
    assert_eq!(count(&seen, MAIN_IVR_COP, "", "nFlow") + count(&seen, MAIN_IVR_CANARY, "", "nFlow"), 0);
    let conversation = ask(&simulator, DETAILS, &json!({"interval": HOUR}))["conversations"][0].clone();
    let sessions = conversation["participants"][1]["sessions"].as_array().unwrap();
    assert_eq!((sessions.len(), &sessions[0]["flow"]["flowId"]), (1, &json!(MAIN_IVR_STABLE)));
    assert_eq!(sessions[0]["segments"][0]["segmentStart"], conversation["conversationStart"]);
    assert_eq!(sessions[0]["dnis"], MAIN_IVR_DNIS);
}

#[test]
fn a_cop_that_reads_the_row_goes_by_a_weight_of_a_hundred_and_nothing_else() {
    let simulator = with_slot(json!({"cop_reads": "row"}));
    let step = |weight: Option<u32>| {
        weight.into_iter().for_each(|weight| write_row(&simulator, weight));
        let calls = simulator.control("POST", "/_simulator/arrivals", json!({"minutes": 5, "ask": 1}))["calls"].clone();
        let answers = json!({calls[0]["conversationId"].as_str().unwrap(): "canary"});
        let order = json!({"minutes": 5, "answers": answers, "parameters": {"main_ivr": parameters("50")}});
        let moved = simulator.control("POST", "/_simulator/advance", order);
        assert_eq!(moved["disagreements"], json!([]));
        (moved["canary"].as_u64().unwrap(), moved["calls"].as_u64().unwrap())
    };
    assert_eq!(step(None).0, 0);
    assert_eq!(step(Some(99)).0, 0);
    let (canary, calls) = step(Some(100));
    assert_eq!(canary, calls);
    assert_eq!(step(Some(0)).0, 0);
    simulator.advance(5);
    let seen = simulator.aggregates(HOUR, &["nFlow"]);
    assert_eq!(count(&seen, MAIN_IVR_CANARY, "", "nFlow"), canary);
    assert!(count(&seen, MAIN_IVR_COP, "", "nFlow") > calls * 3);
}

#[test]
fn calls_inside_when_the_row_switches_are_counted_in_the_flow_and_version_they_entered() {
    let simulator = with_slot(json!({"cop_reads": "row"}));
    let before = simulator.advance(1)["calls"].as_u64().unwrap();
    write_row(&simulator, 100);
    publish(&simulator, json!({}));
    simulator.advance(40);
    let drained = simulator.aggregates("2026-11-20T09:01:00Z/2026-11-20T10:00:00Z", &["tFlow"]);
    assert!(count(&drained, MAIN_IVR_STABLE, "", "tFlow") > 0);
    let seen = simulator.aggregates(HOUR, &["nFlow", "tFlow"]);
    assert_eq!((count(&seen, MAIN_IVR_STABLE, "", "nFlow"), count(&seen, MAIN_IVR_STABLE, "", "tFlow")), (before, before));
    let of_stable = seen["results"].as_array().unwrap().iter().filter(|result| result["group"]["flowId"] == MAIN_IVR_STABLE);
    assert!(of_stable.into_iter().all(|result| result["group"]["flowVersion"] == "14.0"));
}

#[test]
fn a_changed_ivr_configuration_moves_new_calls_and_those_inside_drain() {
    let simulator = with_slot(json!({"entry": "stable"}));
    let before = simulator.advance(1)["calls"].as_u64().unwrap();
    change(&simulator, &format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}"), |ivr| ivr["openHoursFlow"]["id"] = json!(MAIN_IVR_CANARY));
    let moved = simulator.advance(40);
    assert_eq!(moved["canary"], moved["calls"]);
    let seen = simulator.aggregates(HOUR, &["nFlow", "tFlow"]);
    assert_eq!((count(&seen, MAIN_IVR_STABLE, "", "nFlow"), count(&seen, MAIN_IVR_STABLE, "", "tFlow")), (before, before));
    let drained = simulator.aggregates("2026-11-20T09:01:00Z/2026-11-20T10:00:00Z", &["tFlow"]);
    assert!(count(&drained, MAIN_IVR_STABLE, "", "tFlow") > 0);
    assert_eq!(count(&seen, MAIN_IVR_COP, "", "nFlow"), 0);
}

#[test]
fn the_emergency_flow_takes_calls_past_the_cop_while_its_group_is_enabled() {
    let simulator = Simulator::start();
    let group = format!("/api/v2/architect/emergencygroups/{EMERGENCY}");
    change(&simulator, &group, |group| group["enabled"] = json!(true));
    // The cop is not asked, whatever the weight.
    assert_eq!(advance(&simulator, 5, "100")["canary"], 0);
    change(&simulator, &group, |group| group["enabled"] = json!(false));
    let moved = advance(&simulator, 5, "100");
    assert_eq!(moved["canary"], moved["calls"]);
    simulator.advance(5);
    let seen = simulator.aggregates("2026-11-20T09:00:00Z/2026-11-20T09:05:00Z", &["nFlow"]);
    assert!(count(&seen, MAIN_IVR_COP, "", "nFlow") == 0 && count(&seen, MAIN_IVR_STABLE, "", "nFlow") > 200);
}

#[test]
fn a_gated_flow_ends_one_outcome_per_call_and_a_broken_branch_fails_its_own() {
    let simulator = with_slot(json!({"entry": "stable"}));
    publish(&simulator, json!({"canary_behavior": {"error": 0.3, "abandon": 0.06, "transfer": 0.22}}));
    let configuration = simulator.get(&format!("/api/v2/flows/{MAIN_IVR_STABLE}/versions/15.0/configuration"));
    assert_eq!(configuration["canary_behavior"]["error"], 0.3);
    let moved = advance(&simulator, 40, "25");
    let (canary, calls) = (moved["canary"].as_u64().unwrap(), moved["calls"].as_u64().unwrap());
    assert!((calls / 5..calls * 3 / 10).contains(&canary), "{canary} of {calls}");
    simulator.control("POST", "/_simulator/advance", json!({"minutes": 15, "parameters": {"main_ivr": parameters("25")}}));
    let failures = |id: &str| {
        let [failed, succeeded] = ["FAILURE", "SUCCESS"].map(|value| outcomes(&simulator, "nFlowOutcome", id, value));
        assert_eq!(outcomes(&simulator, "nFlowOutcomeFailed", id, "FAILURE"), failed);
        assert_eq!(outcomes(&simulator, "nFlowOutcomeFailed", id, "SUCCESS"), 0);
        (failed as f64 / (failed + succeeded) as f64, failed + succeeded)
    };
    let (of_stable, of_canary) = (failures(MAIN_IVR_STABLE_OUTCOME), failures(MAIN_IVR_CANARY_OUTCOME));
    assert!((0.05..0.10).contains(&of_stable.0) && (0.30..0.42).contains(&of_canary.0), "{of_stable:?} {of_canary:?}");
    let exits = count(&simulator.aggregates(HOUR, &["tFlow"]), MAIN_IVR_STABLE, "", "tFlow");
    assert_eq!(exits, of_stable.1 + of_canary.1);
    let failed = json!({"interval": HOUR, "segmentFilters": [{"type": "and", "predicates": [
        {"dimension": "flowOutcomeId", "value": MAIN_IVR_CANARY_OUTCOME}, {"dimension": "flowOutcomeValue", "value": "FAILURE"}]}]});
    let conversation = ask(&simulator, DETAILS, &failed)["conversations"][0].clone();
    let outcome = &conversation["participants"][1]["sessions"][0]["flow"]["outcomes"][0];
    assert_eq!(outcome["flowOutcomeId"], MAIN_IVR_CANARY_OUTCOME);
    assert!(conversation["participants"].as_array().unwrap().iter().all(|participant| participant.get("attributes").is_none()));
}

#[test]
fn what_the_gate_answered_is_told_by_asynchronous_jobs() {
    let simulator = with_slot(json!({"entry": "stable"}));
    publish(&simulator, json!({"canary_behavior": {}}));
    advance(&simulator, 30, "50");
    let jobs = "/api/v2/analytics/conversations/details/jobs";
    let created = simulator.api("POST", jobs, &json!({"interval": HOUR}).to_string());
    let job = format!("{jobs}/{}", created.json()["jobId"].as_str().unwrap());
    until("the job", || simulator.get(&job)["state"] == "FULFILLED");
    let answer = simulator.get(&format!("{job}/results?pageSize=1000"));
    let conversations = answer["conversations"].as_array().unwrap();
    let labelled = |label: &str| {
        let wrote = |conversation: &&Value| conversation["participants"][0]["attributes"]["canaryVersion"] == label;
        conversations.iter().filter(wrote).count()
    };
    let (stable, canary) = (labelled("v1"), labelled("v2"));
    assert_eq!(stable + canary, conversations.len());
    assert!(stable > 300 && canary > 300, "{stable} {canary}");
}

#[test]
fn an_exit_has_no_outcome_and_an_outcome_has_no_exit() {
    let simulator = with_slot(json!({"entry": "stable"}));
    publish(&simulator, json!({"canary_behavior": {}}));
    advance(&simulator, 20, "50");
    let by = |dimension: &str, metrics: &[&str]| json!({"interval": HOUR, "groupBy": [dimension], "metrics": metrics});
    assert_eq!(ask(&simulator, AGGREGATES, &by("flowOutcomeId", &["nFlow", "tFlow", "tFlowExit", "tFlowDisconnect"])), json!({}));
    let mut filtered = by("flowId", &["tFlow"]);
    filtered["filter"] = json!({"type": "and", "predicates": [{"dimension": "flowOutcomeId", "value": MAIN_IVR_STABLE_OUTCOME}]});
    assert_eq!(ask(&simulator, AGGREGATES, &filtered), json!({}));
    filtered["metrics"] = json!(["tFlowOutcome"]);
    let stats = &ask(&simulator, AGGREGATES, &filtered)["results"][0]["data"][0]["metrics"][0]["stats"];
    assert!(stats["sum"].as_u64().unwrap() > stats["count"].as_u64().unwrap() * 1000, "{stats}");
    let exits = ask(&simulator, AGGREGATES, &by("exitReason", &["nFlowOutcome"]));
    assert_eq!(exits["results"].as_array().unwrap().len(), 1);
    assert_eq!(exits["results"][0]["group"], json!({"mediaType": "voice"}));
}

#[test]
fn the_gate_in_the_flow_takes_the_answer_and_names_a_wrong_one() {
    let simulator = with_slot(json!({"entry": "stable"}));
    publish(&simulator, json!({"canary_behavior": {}}));
    let calls = simulator.control("POST", "/_simulator/arrivals", json!({"minutes": 1, "ask": 1}))["calls"].clone();
    let id = calls[0]["conversationId"].as_str().unwrap();
    let order = json!({"minutes": 1, "answers": {id: "canary"}, "parameters": {"main_ivr": parameters("0")}});
    let moved = simulator.control("POST", "/_simulator/advance", order);
    assert_eq!(moved["disagreements"], json!([{"flow": "main_ivr", "conversationId": id, "answered": "canary", "decided": "stable"}]));
    assert_eq!(moved["canary"], 1);
}

#[test]
fn test_calls_reach_the_canary_flow_by_their_number_and_are_found_by_it() {
    let simulator = Simulator::start();
    simulator.advance(2);
    let order = json!({"dnis": MAIN_IVR_TEST_DNIS, "count": 3});
    let placed = simulator.control("POST", "/_simulator/call", order.clone())["conversations"].clone();
    assert_eq!(placed.as_array().unwrap().len(), 3);
    let by_number = json!({"type": "and", "predicates": [{"dimension": "dnis", "value": MAIN_IVR_TEST_DNIS}]});
    let query = json!({"interval": HOUR, "groupBy": ["flowId", "dnis"], "metrics": ["nFlow", "tFlow"], "filter": by_number});
    assert_eq!(ask(&simulator, AGGREGATES, &query), json!({}));
    simulator.advance(40);
    let answer = ask(&simulator, AGGREGATES, &query);
    assert_eq!(answer["results"][0]["group"], json!({"mediaType": "voice", "flowId": MAIN_IVR_CANARY, "dnis": MAIN_IVR_TEST_DNIS}));
    assert!(answer["results"].as_array().unwrap().len() == 1);
    assert!(answer["results"][0]["data"][0]["metrics"].as_array().unwrap().iter().all(|metric| metric["stats"]["count"] == 3));
    let details = ask(&simulator, DETAILS, &json!({"interval": HOUR, "segmentFilters": [by_number]}));
    let mut found: Vec<&Value> = details["conversations"].as_array().unwrap().iter().map(|found| &found["conversationId"]).collect();
    let mut expected: Vec<&Value> = placed.as_array().unwrap().iter().collect();
    found.sort_by_key(|id| id.as_str());
    expected.sort_by_key(|id| id.as_str());
    assert_eq!(found, expected);
    // The same order in the same run gives the same calls.
    simulator.control("POST", "/_simulator/reset", json!({}));
    assert_eq!(simulator.control("POST", "/_simulator/call", order)["conversations"], placed);
}

#[test]
fn a_test_call_to_the_main_number_goes_by_the_parameters_given() {
    let simulator = Simulator::start();
    for percentage in ["100", "0"] {
        let order = json!({"dnis": MAIN_IVR_DNIS, "count": 5, "parameters": {"main_ivr": parameters(percentage)}});
        simulator.control("POST", "/_simulator/call", order);
    }
    simulator.control("POST", "/_simulator/advance", json!({"minutes": 0}));
    for bad in [json!({"dnis": "+15550000"}), json!({"dnis": MAIN_IVR_DNIS, "count": 0}), json!({}), json!({"dnis": MAIN_IVR_DNIS, "n": 1})]
    {
        assert_eq!(simulator.send("POST", "/_simulator/call", &[], &bad.to_string()).unwrap().status, 400, "{bad}");
    }
    simulator.advance(40);
    let seen = simulator.aggregates("2026-11-20T09:00:00Z/2026-11-20T09:40:00Z", &["nFlow"]);
    assert_eq!(count(&seen, MAIN_IVR_CANARY, "", "nFlow"), 5);
}

#[test]
fn a_query_or_an_answer_beyond_the_limits_is_refused_with_the_limit() {
    let simulator = Simulator::start();
    simulator.control("POST", "/_simulator/reset", json!({"most_predicates": 3, "largest_answer": 1000}));
    simulator.advance(10);
    let flows = |count: usize| vec![json!({"dimension": "flowId", "value": MAIN_IVR_STABLE}); count];
    let aggregates = |filters: usize| {
        let clauses = json!([{"type": "or", "predicates": flows(filters - 1)}]);
        let filter = json!({"type": "or", "predicates": flows(1), "clauses": clauses});
        (AGGREGATES, json!({"interval": HOUR, "groupBy": ["flowId"], "metrics": ["nFlow"], "filter": filter}))
    };
    let details = |filters: usize| {
        let filters = json!([{"type": "or", "predicates": flows(filters)}]);
        (DETAILS, json!({"interval": HOUR, "paging": {"pageSize": 1, "pageNumber": 9999}, "segmentFilters": filters}))
    };
    for (path, query) in [aggregates(3), details(3)] {
        ask(&simulator, path, &query);
    }
    for (path, query) in [aggregates(4), details(4)] {
        let answer = simulator.api("POST", path, &query.to_string());
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad.request")));
        assert!(answer.json()["message"].as_str().unwrap().contains("at most 3"), "{}", answer.text);
    }
    let minutes = json!({"interval": HOUR, "granularity": "PT1M", "groupBy": ["flowId"], "metrics": ["nFlow"]});
    for (path, query) in [(AGGREGATES, minutes), (DETAILS, json!({"interval": HOUR}))] {
        let answer = simulator.api("POST", path, &query.to_string());
        assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("response.entity.too.large")));
        assert!(answer.json()["message"].as_str().unwrap().contains("at most 1000"), "{}", answer.text);
    }
}
