//! Counts that come late, are told wrongly at first, or are not told at all.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod support;

use serde_json::json;
use serin_simulator::{MAIN_IVR_CANARY, MAIN_IVR_STABLE};
use support::{Simulator, advance, count};

const FIRST: &str = "2026-11-20T09:00:00Z/2026-11-20T09:05:00Z";
const SECOND: &str = "2026-11-20T09:05:00Z/2026-11-20T09:10:00Z";

/// A simulator whose reports arrive at once.
fn prompt() -> Simulator {
    let simulator = Simulator::start();
    simulator.control("POST", "/_simulator/reset", json!({"latency_s": 0, "report_delay_s": 0}));
    simulator
}

#[test]
fn a_delay_holds_back_the_calls_that_come_while_it_lasts_and_no_others() {
    let simulator = prompt();
    simulator.fault(json!({"kind": "reports_late", "seconds": 1800}));
    simulator.advance(5);
    simulator.fault(json!({"kind": "reports_late", "seconds": 0}));
    simulator.advance(10);
    let told = |interval| count(&simulator.aggregates(interval, &["nFlow"]), MAIN_IVR_STABLE, "", "nFlow");
    assert_eq!(told(FIRST), 0);
    assert!(told(SECOND) > 200);
    simulator.advance(30);
    assert!(told(FIRST) > 200);
}

#[test]
fn a_restated_minute_says_contained_first_and_the_truth_three_minutes_later() {
    let simulator = prompt();
    simulator.fault(json!({"kind": "restate", "share": 1}));
    simulator.advance(1);
    let minute = "2026-11-20T09:00:00Z/2026-11-20T09:01:00Z";
    let told = || {
        let seen = simulator.aggregates(minute, &["tFlow"]);
        ["", "FLOW_DISCONNECT", "TRANSFER"].map(|exit| count(&seen, MAIN_IVR_STABLE, exit, "tFlow"))
    };
    let [all, contained, transferred] = told();
    assert!(all > 20 && contained == all && transferred == 0, "{all} {contained} {transferred}");
    simulator.fault(json!({"kind": "restate", "share": 0}));
    simulator.advance(3);
    let [later, contained, transferred] = told();
    assert_eq!(later, all);
    assert!(transferred > 0 && contained < all, "{contained} {transferred}");
}

#[test]
fn a_silent_flow_has_no_group_at_all_until_it_is_heard_again() {
    let simulator = prompt();
    advance(&simulator, 5, "50");
    let told = || {
        let seen = simulator.aggregates(FIRST, &["nFlow", "tFlow"]);
        let groups = seen["results"].as_array().unwrap();
        [MAIN_IVR_STABLE, MAIN_IVR_CANARY].map(|flow| groups.iter().filter(|result| result["group"]["flowId"] == flow).count())
    };
    let before = told();
    simulator.fault(json!({"kind": "silence", "flow_id": MAIN_IVR_CANARY}));
    assert_eq!(told(), [before[0], 0]);
    simulator.fault(json!({"kind": "silence"}));
    assert!(before[1] > 0 && told() == before);
}
