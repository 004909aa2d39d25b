//! Calls come, go where they are sent, and are counted when they end, late.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail where it stands, and say what it measured")]

mod support;

use serde_json::{Value, json};
use serin_core::cohort::{Caller, Cohort, Parameters, Router};
use serin_simulator::{MAIN_IVR_CANARY, MAIN_IVR_COP, MAIN_IVR_STABLE};
use std::time::{Duration, Instant};
use support::{Simulator, WALL, advance, count, parameters, until};

const HOUR: &str = "2026-11-20T09:00:00Z/2026-11-20T10:00:00Z";

#[test]
fn the_clock_moves_only_when_told() {
    let simulator = Simulator::start();
    assert_eq!(simulator.control("GET", "/_simulator/clock", json!({}))["now"], "2026-11-20T09:00:00Z");
    simulator.advance(5);
    assert_eq!(simulator.control("GET", "/_simulator/clock", json!({}))["now"], "2026-11-20T09:05:00Z");
}

#[test]
fn calls_count_when_they_end_and_become_visible_late() {
    let simulator = Simulator::start();
    let calls = simulator.advance(1)["calls"].as_u64().unwrap();
    assert!((30..75).contains(&calls), "{calls}");
    // Reports take 45 s at least: the minute's end cannot be known yet, and what is not known has no row.
    let early = simulator.aggregates(HOUR, &["nFlow", "tFlow"]);
    assert!(count(&early, MAIN_IVR_COP, "", "nFlow") < calls / 2);
    simulator.control("POST", "/_simulator/advance", json!({"minutes": 4}));
    let minute = "2026-11-20T09:00:00Z/2026-11-20T09:01:00Z";
    let late = simulator.aggregates(minute, &["nFlow", "tFlow"]);
    assert_eq!(count(&late, MAIN_IVR_COP, "", "nFlow"), calls);
    assert_eq!(count(&late, MAIN_IVR_CANARY, "", "nFlow"), 0);
    // Some calls of the first minute were still in the flow at its end.
    let (entered, left) = (count(&late, MAIN_IVR_STABLE, "", "nFlow"), count(&late, MAIN_IVR_STABLE, "", "tFlow"));
    assert!(left < entered && entered <= calls, "{left} {entered} {calls}");
}

#[test]
fn nothing_known_is_an_empty_answer_and_not_a_row_of_zeros() {
    let simulator = Simulator::start();
    assert_eq!(simulator.aggregates(HOUR, &["nFlow"]), json!({}));
    simulator.advance(10);
    let metrics = simulator.aggregates(HOUR, &["nFlow", "tFlowExit", "nFlowOutcome"]);
    for group in metrics["results"].as_array().unwrap() {
        for metric in group["data"].as_array().unwrap().iter().flat_map(|datum| datum["metrics"].as_array().unwrap()) {
            assert!(metric["stats"]["count"].as_u64().unwrap() > 0);
        }
    }
}

#[test]
fn aggregates_are_shaped_filtered_and_grouped_as_published() {
    let simulator = Simulator::start();
    simulator.advance(15);
    let ask = |query: Value| simulator.api("POST", "/api/v2/analytics/flows/aggregates/query", &query.to_string());
    let query = json!({"interval": "2026-11-20T09:00:00.000Z/2026-11-20T09:10:00.000Z", "granularity": "PT5M", "groupBy": ["exitReason"],
        "filter": {"type": "and", "clauses": [{"type": "or", "predicates": [
            {"type": "dimension", "dimension": "flowId", "operator": "matches", "value": MAIN_IVR_COP}, {"dimension": "flowId", "value": "x"}]}],
            "predicates": [{"dimension": "transferType", "value": "FLOW"}]},
        "metrics": ["nFlow", "tFlow"]});
    let results = ask(query).json()["results"].clone();
    assert_eq!(results.as_array().unwrap().len(), 1);
    assert_eq!(results[0]["group"], json!({"mediaType": "voice", "exitReason": "TRANSFER"}));
    let data = results[0]["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    assert_eq!(data[0]["interval"], "2026-11-20T09:00:00.000Z/2026-11-20T09:05:00.000Z");
    let stats = &data[0]["metrics"][0]["stats"];
    assert_eq!(data[0]["metrics"].as_array().unwrap().len(), 1);
    assert!(stats["count"].as_u64().unwrap() > 100 && stats["sum"].as_u64().unwrap() > stats["max"].as_u64().unwrap());
    for (field, bad) in [
        ("metrics", json!(["nCalls"])),
        ("metrics", json!([])),
        ("groupBy", json!(["canaryVersion"])),
        ("interval", json!("yesterday")),
        ("granularity", json!("PT30S")),
        ("filter", json!({"predicates": []})),
        ("filter", json!({"type": "or", "predicates": [{"dimension": "participantData", "value": "x"}]})),
    ] {
        let mut query = json!({"interval": HOUR, "metrics": ["nFlow"]});
        query[field] = bad;
        let refused = ask(query);
        assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("bad.request")), "{field}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_however_time_is_cut() {
    let run = |seed: u64, steps: &[u32]| {
        let simulator = Simulator::start();
        simulator.control("POST", "/_simulator/reset", json!({"seed": seed}));
        steps.iter().for_each(|minutes| drop(advance(&simulator, *minutes, "25")));
        simulator.aggregates(HOUR, &["nFlow", "tFlow"])
    };
    let whole = run(7, &[20]);
    assert_eq!(whole, run(7, &[5, 1, 14]));
    assert_ne!(whole, run(8, &[20]));
}

#[test]
fn the_next_calls_are_foretold_without_moving_the_clock() {
    let simulator = Simulator::start();
    let ask = || simulator.control("POST", "/_simulator/arrivals", json!({"minutes": 5, "ask": 40}));
    let calls = ask();
    assert_eq!(calls, ask());
    let times: Vec<_> = calls["calls"].as_array().unwrap().iter().map(|call| call["at"].as_str().unwrap().to_owned()).collect();
    assert!(times.len() == 40 && times.is_sorted());
    assert!(times[0].as_str() < "2026-11-20T09:00:20" && times[39].as_str() > "2026-11-20T09:04:30", "{times:?}");
    assert_eq!(simulator.control("GET", "/_simulator/clock", json!({}))["now"], "2026-11-20T09:00:00Z");
}

#[test]
fn the_split_agrees_with_the_gate_and_a_wrong_answer_is_named() {
    let simulator = Simulator::start();
    let calls = simulator.control("POST", "/_simulator/arrivals", json!({"minutes": 5, "ask": 60}))["calls"].clone();
    let given = parameters("50");
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    let gate = Router::read(&Parameters {
        percentage: text("percentage"),
        rollout: text("rollout"),
        heartbeat: text("heartbeat"),
        ..Parameters::default()
    });
    let mut answers = serde_json::Map::new();
    for call in calls.as_array().unwrap() {
        let id = call["conversationId"].as_str().unwrap();
        let cohort = gate.assign(Caller { conversation: Some(id), number: None }, WALL.parse().unwrap(), 0).cohort;
        answers.insert(id.to_owned(), json!(cohort));
    }
    let id = calls[0]["conversationId"].as_str().unwrap();
    let decided = answers[id].clone();
    let wrong = if decided == json!(Cohort::Canary) { Cohort::Stable } else { Cohort::Canary };
    answers.insert(id.to_owned(), json!(wrong));
    let order = json!({"minutes": 5, "answers": answers, "parameters": {"main_ivr": given}});
    let moved = simulator.control("POST", "/_simulator/advance", order.clone());
    assert_eq!(moved["disagreements"], json!([{"flow": "main_ivr", "conversationId": id, "answered": wrong, "decided": decided}]));
    let (calls, canary) = (moved["calls"].as_u64().unwrap(), moved["canary"].as_u64().unwrap());
    assert!(moved["asked"] == 60 && (calls * 2 / 5..calls * 3 / 5).contains(&canary), "{moved}");
    // The calls have come and gone: the same answers no longer belong to anything.
    assert_eq!(simulator.send("POST", "/_simulator/advance", &[], &order.to_string()).unwrap().status, 400);
}

#[test]
fn a_broken_version_shows_in_the_rates_of_its_flow_alone() {
    let simulator = Simulator::start();
    let behavior = json!({"error": 0.15, "abandon": 0.06, "transfer": 0.22, "duration_factor": 1.0});
    simulator.control("POST", "/_simulator/versions", json!({"flow_id": MAIN_IVR_CANARY, "behavior": behavior}));
    simulator.api("POST", &format!("/api/v2/flows/actions/publish?flow={MAIN_IVR_CANARY}&version=15.0"), "null");
    until("the publish", || simulator.get(&format!("/api/v2/flows/{MAIN_IVR_CANARY}"))["publishedVersion"]["id"] == "15.0");
    advance(&simulator, 60, "50");
    let seen = simulator.aggregates(HOUR, &["tFlow"]);
    let share = |flow: &str, exit: &str| count(&seen, flow, exit, "tFlow") as f64 / count(&seen, flow, "", "tFlow") as f64;
    let (broken, healthy) = (share(MAIN_IVR_CANARY, "FLOW_ERROR_DISCONNECT"), share(MAIN_IVR_STABLE, "FLOW_ERROR_DISCONNECT"));
    assert!((0.12..0.18).contains(&broken) && (0.005..0.025).contains(&healthy), "{broken} {healthy}");
    for flow in [MAIN_IVR_STABLE, MAIN_IVR_CANARY] {
        assert!((0.18..0.26).contains(&share(flow, "TRANSFER")) && (0.04..0.08).contains(&share(flow, "DISCONNECT")));
    }
    let versions: Vec<_> = seen["results"].as_array().unwrap().iter().filter(|g| g["group"]["flowId"] == MAIN_IVR_CANARY).collect();
    assert!(versions.iter().all(|group| group["group"]["flowVersion"] == "15.0"));
}

#[test]
fn several_slots_live_side_by_side_under_the_names_given() {
    let simulator = Simulator::start();
    let flows =
        json!([{"slot": "main_ivr", "stable": {"id": "S", "name": "One"}, "canary": {"id": "C", "name": "Two"}}, {"slot": "support"}]);
    simulator.control("POST", "/_simulator/reset", json!({"flows": flows, "calls_per_hour": 600}));
    assert_eq!(simulator.get("/api/v2/flows/C")["name"], "Two");
    assert_eq!(simulator.get("/api/v2/flows")["total"], 6);
    let moved = advance(&simulator, 10, "100");
    assert_eq!(moved["flows"]["main_ivr"]["canary"], moved["flows"]["main_ivr"]["calls"]);
    assert_eq!(moved["flows"]["support"]["canary"], 0);
    let twice = json!({"flows": [{"slot": "a", "stable": {"id": "S"}, "canary": {"id": "S"}}]});
    assert_eq!(simulator.send("POST", "/_simulator/reset", &[], &twice.to_string()).unwrap().status, 400);
}

#[test]
fn what_alerts_are_delivered_can_be_read() {
    let simulator = Simulator::start();
    let sent = simulator.send("POST", "/_simulator/webhook", &[("X-Kind", "alert")], r#"{"flow":"main_ivr"}"#).unwrap();
    assert_eq!(sent.status, 202);
    let received = simulator.control("GET", "/_simulator/webhook", json!({}));
    assert_eq!((&received[0]["body"], &received[0]["headers"]["x-kind"]), (&json!({"flow": "main_ivr"}), &json!("alert")));
}

#[test]
fn a_busy_hour_is_simulated_and_read_quickly() {
    let simulator = Simulator::start();
    simulator.control("POST", "/_simulator/reset", json!({"calls_per_hour": 8000}));
    advance(&simulator, 60, "25");
    let quickest = |work: &dyn Fn()| {
        let timed = |()| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        };
        [(); 3].map(timed).into_iter().min().unwrap()
    };
    let advanced = quickest(&|| drop(advance(&simulator, 5, "25")));
    let queried = quickest(&|| drop(simulator.aggregates(HOUR, &["nFlow", "tFlow", "tFlowDisconnect", "tFlowExit"])));
    println!("advance {advanced:?}, query {queried:?}");
    assert!(advanced < Duration::from_millis(100) && queried < Duration::from_millis(100), "{advanced:?} {queried:?}");
}
