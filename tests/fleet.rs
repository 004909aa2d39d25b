//! Many rollouts at once: what a tick asks of the vendor, counted there, and whether each rollout got its own figures.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use serin_acceptance::drive::{name, sequential_policy};
use serin_acceptance::live::Live;
use serin_controller::ports::Authority;
use serin_controller::record::{Record, open, record};
use serin_core::phase::Event;
use serin_core::rollout::{Actor, Plan, Snapshot};
use serin_core::weight::Weight;
use std::collections::BTreeMap;
use std::time::Instant;

const WEIGHT: &str = "50";

/// So many flows with a rollout each at 50 %, and what callers did: calls and canary calls by flow.
fn fleet(size: usize, minutes: u32, more: Value) -> (Live, BTreeMap<String, (u64, u64)>) {
    let names: Vec<String> = (0..size).map(|n| format!("ivr_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let slots: Vec<Value> = names.iter().map(|slot| json!({"slot": slot})).collect();
    let mut organization = json!({"seed": 3, "calls_per_hour": 240.0, "requests_per_minute": 1_000_000, "flows": slots});
    organization.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let live = Live::new(organization.clone(), &names, None);
    let told = live.order("reset", organization);
    let ids: BTreeMap<&str, &str> =
        told["flows"].as_array().unwrap().iter().map(|f| (f["name"].as_str().unwrap(), f["id"].as_str().unwrap())).collect();
    for flow in &names {
        let id = |slot: &str| ids[format!("{flow}_{slot}").as_str()].to_owned();
        let mut plan: Plan = serde_json::from_value(json!({
            "flow": flow, "stable": {"flow_id": id("Blue")}, "canary": {"flow_id": id("Green"), "version": "14.0"},
        }))
        .unwrap();
        plan.policy = sequential_policy();
        stands_at_half(&live, flow, plan);
    }
    let moved = live.moved(minutes);
    let flows = moved["flows"].as_object().unwrap();
    let count = |share: &Value| (share["calls"].as_u64().unwrap(), share["canary"].as_u64().unwrap());
    (live, flows.iter().map(|(flow, share)| (flow.clone(), count(share))).collect())
}

/// As if it had been prepared and had risen to 50 % now.
fn stands_at_half(live: &Live, flow: &str, plan: Plan) {
    let process = live.world.process("history");
    let flow = name(flow);
    let weight: Weight = WEIGHT.parse().unwrap();
    let snapshot = Snapshot {
        stable_version: "14.0".into(),
        stable_hash: "a".into(),
        rollback_target: "13.0".into(),
        rollback_hash: "b".into(),
        canary_hash: "c".into(),
        ..Snapshot::default()
    };
    let events = [
        Event::Requested { plan: Box::new(plan) },
        Event::SnapshotTaken { snapshot },
        Event::Prepared { canary_version: "14.0".into() },
        Event::StepStarted { weight, base_version: 1 },
        Event::WeightApplied { weight, version: 2 },
    ];
    let now = live.world.state().now;
    for event in events {
        live.wait_for(async {
            let opened = open(&process, &flow).await.unwrap();
            let authority = Authority::Preempt { fence: opened.book.fence, owner: "history".into() };
            let by = Actor::Serin("history".into());
            let entry = Record { by, why: "as it was".into(), event, evidence: None, at: now, recorded_at: now };
            record(&process, &flow, &opened, authority, entry).await.unwrap();
        });
    }
    let mut state = live.world.state();
    let split = serde_json::to_string(&state.rollout(&flow).unwrap().split("test")).unwrap();
    state.heartbeat = Some(now);
    let seen = &mut state.projections.get_mut(&flow).unwrap().seen;
    (seen.percentage, seen.rollout) = (Some((WEIGHT.into(), 2)), Some(split));
}

/// Requests of a client in the tick that has just been served: all of them, and those to the analytics.
fn asked(live: &Live) -> (u64, u64) {
    let meter = live.told("meter");
    let total = meter["clients"]["serin-read"]["total"].as_u64().unwrap();
    let paths = meter["by_path"].as_object().unwrap();
    let analytics = paths.iter().filter(|(path, _)| path.contains("/api/v2/analytics/")).map(|(_, n)| n.as_u64().unwrap()).sum();
    (total, analytics)
}

#[test]
fn a_thousand_rollouts_are_measured_in_25_requests_and_each_gets_its_own_figures() {
    let (live, called) = fleet(1_000, 12, json!({}));
    live.order("meter/reset", json!({}));
    let report = live.evaluate().unwrap();
    assert_eq!((report.flows.len(), report.unwell.len()), (1_000, 0), "{:?}", report.unwell);
    let (all, analytics) = asked(&live);
    assert!(analytics <= 25, "{analytics} analytics requests");
    assert!(all <= 300, "{all} requests of one client in one tick");

    assert_own_figures(&live, &called, 100);
}

/// Each flow was recorded with its own calls; so many of them differ.
#[track_caller]
fn assert_own_figures(live: &Live, called: &BTreeMap<String, (u64, u64)>, different: usize) {
    let state = live.world.state();
    let mut figures = Vec::new();
    for (flow, (calls, canary)) in called {
        let windows = state.books[&name(flow)].windows();
        let counted = windows.iter().fold((0, 0), |sum, w| {
            (sum.0 + u64::from(w.counts.stable.calls + w.counts.canary.calls), sum.1 + u64::from(w.counts.canary.calls))
        });
        // Reports of the last two minutes are on their way; four calls come in a minute.
        assert!(counted.0 <= *calls && counted.0 + 24 >= *calls, "{flow}: {counted:?} of {calls} calls");
        assert!(counted.1 <= *canary && counted.1 + 16 >= *canary, "{flow}: {counted:?} of {canary} canary calls");
        assert!(windows.len() >= 7, "{flow}: {} minutes", windows.len());
        figures.push(counted);
    }
    figures.sort_unstable();
    figures.dedup();
    assert!(figures.len() > different, "no two neighbours got one another's figures: {} different ones", figures.len());
}

#[test]
fn where_the_vendor_takes_fewer_predicates_or_gives_shorter_answers_smaller_queries_do() {
    for more in [json!({"most_predicates": 21}), json!({"largest_answer": 60_000})] {
        let (live, called) = fleet(40, 12, more.clone());
        live.order("meter/reset", json!({}));
        let report = live.evaluate().unwrap();
        assert!(report.unwell.is_empty() && report.flows.iter().all(|flow| flow.decision != "Error"), "{more}: {:?}", report.unwell);
        let (_, analytics) = asked(&live);
        assert!((4..=40).contains(&analytics), "{more}: {analytics} analytics requests");
        assert_own_figures(&live, &called, 10);
    }
}

#[test]
#[ignore = "measures: `make bench` prints it"]
fn requests_and_seconds_of_a_tick() {
    println!("{:>8} {:>10} {:>10} {:>9}", "rollouts", "analytics", "requests", "seconds");
    for size in [1, 10, 100, 1_000] {
        let (live, _) = fleet(size, 12, json!({}));
        let mut best = f64::INFINITY;
        let mut counted = (0, 0);
        for _ in 0..3 {
            live.calls(1);
            live.order("meter/reset", json!({}));
            let begun = Instant::now();
            live.evaluate().unwrap();
            best = best.min(begun.elapsed().as_secs_f64());
            counted = asked(&live);
        }
        println!("{size:>8} {:>10} {:>10} {best:>9.2}", counted.1, counted.0);
    }
}
