//! Whatever goes wrong at the vendor, during each strategy: the laws hold, and the rollout ends in the phase it should.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use serin_acceptance::drive::{minutes, name, sequential_policy};
use serin_acceptance::live::Live;
use serin_controller::intervene::Action;
use serin_core::policy::{Minutes, Policy};
use serin_core::rollout::{ActionTest, Plan, Smoke, Strategy};
use serin_simulator::{
    DEPLOYMENT_CONTROL, MAIN_IVR_CANARY, MAIN_IVR_CANARY_OUTCOME, MAIN_IVR_STABLE, MAIN_IVR_STABLE_OUTCOME, MAIN_IVR_TEST_DNIS,
    RANDOM_PERCENTAGE_ACTION,
};

const FLOW: &str = "main_ivr";
const STRATEGIES: [Strategy; 4] = [Strategy::TrafficCop, Strategy::Pointer, Strategy::InFlow, Strategy::PublishWatch];

fn organization(strategy: Strategy, more: &Value) -> Value {
    let slot = match strategy {
        Strategy::TrafficCop => json!({"slot": FLOW}),
        Strategy::Pointer => json!({"slot": FLOW, "cop_reads": "row"}),
        Strategy::InFlow | Strategy::PublishWatch => json!({"slot": FLOW, "entry": "stable"}),
    };
    let mut settings = json!({"seed": 7, "calls_per_hour": 18_000.0, "requests_per_minute": 1_000_000, "flows": [slot]});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

/// The flow that gets the change.
fn changed(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::TrafficCop | Strategy::Pointer => MAIN_IVR_CANARY,
        Strategy::InFlow | Strategy::PublishWatch => MAIN_IVR_STABLE,
    }
}

fn plan(strategy: Strategy, version: &str) -> Plan {
    let policy = |metrics: &[&str]| {
        let metrics: Vec<Value> = metrics.iter().map(|name| json!({"name": name})).collect();
        let rule = serde_json::from_value(json!({"kind": "sequential", "metrics": metrics})).unwrap();
        serde_json::to_value(Policy { rule, step_cap: Minutes(300), ..sequential_policy() }).unwrap()
    };
    let every = ["error", "abandon", "transfer"];
    let file = match strategy {
        Strategy::TrafficCop => json!({"stable": {"flow_id": MAIN_IVR_STABLE}, "policy": policy(&every)}),
        Strategy::Pointer => {
            json!({"stable": {"flow_id": MAIN_IVR_STABLE}, "pointer": {"table": DEPLOYMENT_CONTROL}, "policy": policy(&every)})
        }
        Strategy::InFlow => {
            json!({"outcomes": {"stable": MAIN_IVR_STABLE_OUTCOME, "canary": MAIN_IVR_CANARY_OUTCOME}, "policy": policy(&every[..1])})
        }
        Strategy::PublishWatch => json!({"policy": policy(&every)}),
    };
    let mut whole = json!({"flow": FLOW, "strategy": strategy, "canary": {"flow_id": changed(strategy), "version": version}});
    whole.as_object_mut().unwrap().extend(file.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn stage(strategy: Strategy, more: &Value) -> Live {
    let live = Live::new(organization(strategy, more), &[FLOW], Some(1));
    // What stable did before is what some strategies compare with.
    live.calls(60);
    live
}

/// Somebody checks a change in; its version.
fn check_in(live: &Live, strategy: Strategy, broken: bool) -> String {
    let good = json!({"error": 0.015, "abandon": 0.06, "transfer": 0.22});
    let behavior = if broken { json!({"error": 0.2, "abandon": 0.06, "transfer": 0.22}) } else { good.clone() };
    let order = match strategy {
        Strategy::InFlow => json!({"flow_id": changed(strategy), "behavior": good, "canary_behavior": behavior}),
        _ => json!({"flow_id": changed(strategy), "behavior": behavior}),
    };
    live.order("versions", order)["version"].as_str().unwrap().to_owned()
}

/// One thing that goes wrong.
struct Mishap {
    name: &'static str,
    /// Settings of the organization.
    settings: Value,
    /// The phase on whose first minute it begins.
    begins: &'static str,
    faults: Vec<Value>,
    /// Minutes after which it is over, 0 for one that passes by itself.
    lasts: u32,
}

impl Mishap {
    fn new(name: &'static str, begins: &'static str, faults: Value) -> Mishap {
        Mishap { name, settings: json!({}), begins, faults: faults.as_array().unwrap().clone(), lasts: 0 }
    }
}

fn mishaps(strategy: Strategy) -> Vec<Mishap> {
    let path = |kind: &str, path: &str, more: Value| {
        let mut fault = json!({"kind": kind, "path": path});
        fault.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fault
    };
    let api = "/api/v2/";
    let analytics = "/api/v2/analytics/flows/aggregates/query";
    let throttle = |times: u32| path("status", api, json!({"status": 429, "retry_after": 2, "times": times}));
    vec![
        Mishap::new("nothing", "Preparing", json!([])),
        Mishap { lasts: 300, ..Mishap::new("publishes take a while", "Preparing", json!([{"kind": "publish_seconds", "seconds": 0.03}])) },
        Mishap { lasts: 300, ..Mishap::new("republishing mints a number", "Preparing", json!([{"kind": "republish_mints", "on": true}])) },
        Mishap::new("throttled while preparing", "Preparing", json!([throttle(6)])),
        Mishap::new("throttled while watched", "Watched", json!([throttle(9)])),
        Mishap::new("throttled while ending", "Ending", json!([throttle(6)])),
        Mishap::new(
            "the throttle looks like not found",
            "Preparing",
            json!([path("masked_not_found", "/api/v2/flows/", json!({"method": "GET", "times": 1}))]),
        ),
        Mishap::new(
            "not found while ending",
            "Ending",
            json!([path("masked_not_found", "/api/v2/flows/", json!({"method": "GET", "times": 1}))]),
        ),
        Mishap { lasts: 12, ..Mishap::new("reports come late", "Watched", json!([{"kind": "reports_late", "seconds": 150}])) },
        Mishap { lasts: 300, ..Mishap::new("reports are restated", "Watched", json!([{"kind": "restate", "share": 0.3}])) },
        Mishap { lasts: 6, ..Mishap::new("groups are missing", "Watched", json!([{"kind": "silence", "flow_id": changed(strategy)}])) },
        Mishap::new("tokens expire", "Watched", json!([{"kind": "expire_tokens"}])),
        Mishap::new("tokens expire while ending", "Ending", json!([{"kind": "expire_tokens"}])),
        Mishap::new("answers are slow", "Watched", json!([path("slow", api, json!({"seconds": 0.2, "times": 4}))])),
        Mishap::new("gateways fail", "Watched", json!([path("status", api, json!({"status": 503, "times": 5}))])),
        Mishap::new("408", "Watched", json!([path("status", api, json!({"status": 408, "times": 3}))])),
        Mishap::new("connections drop while preparing", "Preparing", json!([path("drop", api, json!({"times": 3}))])),
        Mishap::new(
            "a publish is lost on its way back",
            "Preparing",
            json!([path("drop", "/api/v2/flows/actions/publish", json!({"after": true}))]),
        ),
        Mishap::new(
            "connections drop while watched",
            "Watched",
            json!([path("drop", api, json!({"times": 4})), path("drop", api, json!({"after": true, "times": 4}))]),
        ),
        Mishap::new(
            "connections drop while ending",
            "Ending",
            json!([path("drop", api, json!({"times": 2})), path("drop", api, json!({"after": true, "times": 2}))]),
        ),
        Mishap {
            lasts: 2,
            ..Mishap::new(
                "a person locks the flows",
                "Ending",
                json!([
            {"kind": "lock", "flow_id": MAIN_IVR_CANARY, "user": "Pat"}, {"kind": "lock", "flow_id": MAIN_IVR_STABLE, "user": "Pat"}]),
            )
        },
        Mishap { settings: json!({"largest_answer": 30_000}), ..Mishap::new("answers must be small", "Preparing", json!([])) },
        Mishap {
            lasts: 5,
            ..Mishap::new(
                "the analytics are down",
                "Watched",
                json!([path("status", analytics, json!({"status": 500, "times": 1_000_000}))]),
            )
        },
    ]
}

fn is_reached(live: &Live, begins: &str) -> bool {
    match (begins, live.phase(FLOW)) {
        ("Watched", "Stepping" | "Baking") | ("Ending", "Finalizing" | "RollingBack") => true,
        (begins, phase) => begins == phase,
    }
}

fn endures(strategy: Strategy, broken: bool, mishap: &Mishap) {
    let mut live = stage(strategy, &mishap.settings);
    let version = check_in(&live, strategy, broken);
    live.start(plan(strategy, &version)).unwrap();
    let what = format!("{} with {}, {}", strategy.name(), mishap.name, if broken { "broken" } else { "healthy" });
    let (mut begun, mut left) = (false, mishap.lasts);
    for _ in 0..400 {
        if live.rollout(FLOW).phase.is_terminal() {
            break;
        }
        if !begun && is_reached(&live, mishap.begins) {
            begun = true;
            live.order("faults", json!({"faults": mishap.faults}));
        } else if begun && left > 0 {
            left -= 1;
            if left == 0 {
                live.clear_faults();
            }
        }
        live.minute();
    }
    let wanted = if broken { "RolledBack" } else { "Promoted" };
    assert_eq!(live.phase(FLOW), wanted, "{what}:\n{}", live.story());
    live.clear_faults();
    for _ in 0..2 {
        live.minute();
    }
    // Where the calls are at the end is asked of the callers, not of the record.
    let canary = live.canary_calls(5);
    match (strategy, broken) {
        (Strategy::InFlow, false) => assert!(canary > 0, "{what}"),
        (Strategy::PublishWatch, _) => {}
        _ => assert_eq!(canary, 0, "{what}:\n{}", live.story()),
    }
    live.assert_lawful();
}

/// `MISHAP=throttled cargo test --test faults` plays those alone.
fn endure(strategy: Strategy, broken: bool) {
    let wanted = std::env::var("MISHAP").unwrap_or_default();
    for mishap in mishaps(strategy).iter().filter(|mishap| mishap.name.contains(&wanted)) {
        endures(strategy, broken, mishap);
    }
}

#[test]
fn a_healthy_change_behind_a_traffic_cop_is_promoted_whatever_goes_wrong() {
    endure(Strategy::TrafficCop, false);
}

#[test]
fn a_broken_change_behind_a_traffic_cop_is_rolled_back_whatever_goes_wrong() {
    endure(Strategy::TrafficCop, true);
}

#[test]
fn a_healthy_change_behind_a_row_is_promoted_whatever_goes_wrong() {
    endure(Strategy::Pointer, false);
}

#[test]
fn a_broken_change_behind_a_row_is_rolled_back_whatever_goes_wrong() {
    endure(Strategy::Pointer, true);
}

#[test]
fn a_healthy_branch_is_promoted_whatever_goes_wrong() {
    endure(Strategy::InFlow, false);
}

#[test]
fn a_broken_branch_is_rolled_back_whatever_goes_wrong() {
    endure(Strategy::InFlow, true);
}

#[test]
fn a_healthy_version_is_kept_whatever_goes_wrong() {
    endure(Strategy::PublishWatch, false);
}

#[test]
fn a_broken_version_is_taken_back_whatever_goes_wrong() {
    endure(Strategy::PublishWatch, true);
}

#[test]
fn a_version_that_is_not_there_moves_no_call_although_the_vendor_answers_well() {
    for strategy in STRATEGIES {
        let mut live = stage(strategy, &json!({}));
        live.start(plan(strategy, "99.0")).unwrap();
        assert_eq!(live.until_end(FLOW, 5), "Failed", "{}", strategy.name());
        assert_eq!(live.canary_calls(3), 0);
        live.assert_lawful();
    }
}

#[test]
fn a_flow_that_stays_locked_is_left_contained_and_a_person_is_called_by_the_name_of_who_locked_it() {
    for strategy in [Strategy::TrafficCop, Strategy::Pointer, Strategy::PublishWatch] {
        let mut live = stage(strategy, &json!({}));
        let version = check_in(&live, strategy, true);
        live.start(plan(strategy, &version)).unwrap();
        for _ in 0..60 {
            if live.phase(FLOW) == "RollingBack" || ["Stepping", "Baking"].contains(&live.phase(FLOW)) {
                break;
            }
            live.minute();
        }
        live.fault(json!({"kind": "lock", "flow_id": changed(strategy), "user": "Pat"}));
        assert_eq!(live.until_end(FLOW, 90), "NeedsHuman", "{}", strategy.name());
        let alert = live.alerts().pop().unwrap();
        assert!(alert.reason.contains("locked by Pat"), "{}", alert.reason);
        if strategy != Strategy::PublishWatch {
            assert_eq!(live.canary_calls(3), 0);
        }
        live.assert_lawful();
    }
}

#[test]
fn a_publish_that_fails_is_said_with_the_vendors_reason() {
    for strategy in STRATEGIES {
        let mut live = stage(strategy, &json!({}));
        let version = check_in(&live, strategy, false);
        live.fault(json!({"kind": "publish_fails", "times": 3}));
        live.start(plan(strategy, &version)).unwrap();
        assert_eq!(live.until_end(FLOW, 5), "Failed", "{}", strategy.name());
        let alert = live.alerts().pop().unwrap();
        assert!(alert.reason.contains("the flow could not be published"), "{}", alert.reason);
        live.assert_lawful();
    }
}

#[test]
fn a_change_by_hand_is_found_in_each_strategy_and_the_audit_names_who_did_it() {
    for strategy in STRATEGIES {
        let mut live = stage(strategy, &json!({}));
        let version = check_in(&live, strategy, false);
        live.start(plan(strategy, &version)).unwrap();
        for _ in 0..20 {
            if ["Stepping", "Baking"].contains(&live.phase(FLOW)) {
                break;
            }
            live.minute();
        }
        let other = check_in(&live, strategy, false);
        live.order("by_hand", json!({"kind": "publish", "flow_id": changed(strategy), "version": other, "user": "Pat"}));
        live.minute();
        live.minute();
        assert_eq!(live.phase(FLOW), "Contaminated", "{}:\n{}", strategy.name(), live.story());
        let alert = live.alerts().pop().unwrap();
        assert!(alert.reason.contains("`Pat`"), "{}: {}", strategy.name(), alert.reason);
        live.assert_lawful();
    }
    let mut live = stage(Strategy::Pointer, &json!({}));
    let version = check_in(&live, Strategy::Pointer, false);
    live.start(plan(Strategy::Pointer, &version)).unwrap();
    live.until_phase(FLOW, "Baking", 10);
    live.minute();
    let row = json!({"key": FLOW, "Active_Flow_ID": MAIN_IVR_STABLE, "Traffic_Weight": 0, "revision": 2, "owner": "serin/test"});
    live.order("by_hand", json!({"kind": "row", "row": row, "user": "Kim"}));
    live.minute();
    assert_eq!(live.phase(FLOW), "Contaminated", "{}", live.story());
    assert!(live.alerts().pop().unwrap().reason.contains("`Kim`"), "{}", live.story());
}

#[test]
fn a_persons_abort_takes_the_calls_back_at_once_in_every_split() {
    for strategy in [Strategy::TrafficCop, Strategy::Pointer, Strategy::InFlow] {
        let mut live = stage(strategy, &json!({}));
        let version = check_in(&live, strategy, false);
        live.start(plan(strategy, &version)).unwrap();
        for _ in 0..20 {
            if ["Stepping", "Baking"].contains(&live.phase(FLOW)) && live.canary_calls(1) > 0 {
                break;
            }
            live.minute();
        }
        live.person(FLOW, Action::Abort).unwrap();
        assert_eq!(live.canary_calls(2), 0, "{}:\n{}", strategy.name(), live.story());
        live.minute();
        live.assert_lawful();
    }
}

#[test]
fn every_permission_that_is_missing_is_named_and_nothing_is_changed() {
    for strategy in STRATEGIES {
        let live = stage(strategy, &json!({}));
        let version = check_in(&live, strategy, false);
        for permission in ["architect:flow:publish", "architect:flow:unlock", "architect:job:create"] {
            live.fault(json!({"kind": "forbid", "permission": permission, "client_id": "serin-publish"}));
        }
        let mut live = live;
        live.start(plan(strategy, &version)).unwrap();
        assert_eq!(live.until_end(FLOW, 3), "Failed", "{}", strategy.name());
        let reason = live.alerts().pop().unwrap().reason;
        assert!(reason.contains("architect:flow:publish or architect:flow:unlock") && reason.contains("architect:job:create"), "{reason}");
        assert!(reason.contains("nothing was changed"), "{reason}");
        live.assert_lawful();
    }
}

#[test]
fn what_a_version_needs_and_what_it_asks_must_be_there() {
    let faults = [
        (
            json!({"kind": "dependency_deleted", "flow_id": MAIN_IVR_CANARY, "name": "Service_Desk"}),
            "needs QUEUE `Service_Desk`, which was deleted",
        ),
        (json!({"kind": "action_fails", "action_id": RANDOM_PERCENTAGE_ACTION}), "does not answer its test"),
        (json!({"kind": "validation_fails", "flow_id": MAIN_IVR_CANARY}), "does not find version"),
    ];
    for (fault, said) in faults {
        let mut live = stage(Strategy::TrafficCop, &json!({}));
        let version = check_in(&live, Strategy::TrafficCop, false);
        live.fault(fault);
        let input = json!({"flow": FLOW, "conversationId": "a-test"}).as_object().unwrap().clone();
        let data_actions = vec![ActionTest { id: RANDOM_PERCENTAGE_ACTION.into(), input }];
        live.start(Plan { data_actions, validate: true, ..plan(Strategy::TrafficCop, &version) }).unwrap();
        assert_eq!(live.until_end(FLOW, 3), "Failed", "{said}");
        let reason = live.alerts().pop().unwrap().reason;
        assert!(reason.contains(said), "{reason}");
        live.clear_faults();
        live.assert_lawful();
    }
}

#[test]
fn callers_come_once_a_test_call_to_the_hidden_number_has_ended_well() {
    let mut live = stage(Strategy::TrafficCop, &json!({}));
    let version = check_in(&live, Strategy::TrafficCop, false);
    let smoke = Some(Smoke { dnis: MAIN_IVR_TEST_DNIS.into() });
    live.start(Plan { smoke, ..plan(Strategy::TrafficCop, &version) }).unwrap();
    for _ in 0..4 {
        live.minute();
    }
    assert_eq!(live.phase(FLOW), "Preparing", "{}", live.story());
    live.order("call", json!({"dnis": MAIN_IVR_TEST_DNIS, "count": 3}));
    live.until_phase(FLOW, "Stepping", 6);
    live.assert_lawful();
}

#[test]
fn a_healthy_canary_of_long_calls_is_not_rolled_back_after_a_step_up() {
    let mut live = stage(Strategy::TrafficCop, &json!({}));
    let long = json!({"error": 0.03, "abandon": 0.1, "transfer": 0.22, "duration_factor": 25.0});
    for flow in [MAIN_IVR_STABLE, MAIN_IVR_CANARY] {
        let version = live.order("versions", json!({"flow_id": flow, "behavior": long}))["version"].clone();
        live.order("by_hand", json!({"kind": "publish", "flow_id": flow, "version": version, "user": "Pat"}));
    }
    live.calls(60);
    let version = live.order("versions", json!({"flow_id": MAIN_IVR_CANARY, "behavior": long}))["version"].clone();
    let mut plan = plan(Strategy::TrafficCop, version.as_str().unwrap());
    (plan.policy.long_call, plan.policy.steps) = (Minutes(12), vec!["50".parse().unwrap()]);
    live.start(plan).unwrap();
    assert_eq!(live.until_end(FLOW, 400), "Promoted", "{}", live.story());
    live.assert_lawful();

    // Calls are counted when they end, and those that fail end first: right after the first step the canary held hardly any other.
    let stepped = live.rollout(FLOW).weights[0].since;
    let windows = live.world.state().books[&name(FLOW)].windows();
    let young = windows.iter().filter(|w| w.start >= stepped && w.start < stepped + minutes(3));
    let (failed, all) =
        young.fold((0, 0), |sum, w| (sum.0 + w.counts.canary.errors + w.counts.canary.abandons, sum.1 + w.counts.canary.calls));
    assert!(all >= 5 && f64::from(failed) > 0.26 * f64::from(all), "twice stable's share: {failed} of {all}");
}
