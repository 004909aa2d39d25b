//! What is in the way of a rollout is found before anything is changed, all of it at once, each with what to do about it.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, name, quick_policy};
use serin_acceptance::world::{State, TABLE, Way};
use serin_controller::ports::{Dependency, Ended, Interface, Pointer};
use serin_core::phase::{Event, Phase};
use serin_core::rollout::{ActionTest, Plan, PointerTable, Smoke, Strategy};
use serin_core::weight::Weight;

const FLOW: &str = "main_ivr";

/// What is changed in the world, to be found.
type Finding = Box<dyn Fn(&mut State)>;

fn started(plan: Plan, found: impl Fn(&mut State)) -> Stage {
    let stage = Stage::new(&[FLOW]);
    found(&mut stage.world.state());
    plan.check().unwrap();
    stage.start(plan).unwrap();
    stage
}

fn plan() -> Plan {
    Stage::plan(FLOW, "15.0", quick_policy())
}

fn refusal(plan: Plan, found: impl Fn(&mut State)) -> String {
    let mut stage = started(plan, found);
    stage.until_phase(FLOW, "Failed", 3);
    assert!(stage.world.state().calls.iter().all(|c| !["flows.publish", "rows.point"].contains(&c.name)), "nothing is changed");
    stage.assert_lawful();
    match stage.events(FLOW).pop().unwrap() {
        Event::PreparationFailed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn interface(attributes: &[&str], variables: &[(&str, &str)]) -> Interface {
    let text = |(name, kind): &(&str, &str)| ((*name).to_owned(), (*kind).to_owned());
    Interface {
        participant_data: attributes.iter().map(|a| ((*a).to_owned(), "string".to_owned())).collect(),
        variables: variables.iter().map(text).collect(),
    }
}

#[test]
fn each_thing_in_the_way_is_named() {
    let deleted = Dependency { kind: "QUEUE".into(), name: "Billing".into(), deleted: true };
    let action = ActionTest { id: "ac70".into(), input: serde_json::Map::new() };
    let row = |owner: &str, weight: Weight| Pointer { active_flow: "main_ivr-canary".into(), weight, revision: 3, owner: owner.into() };
    let by_row = || Plan { strategy: Strategy::Pointer, pointer: Some(PointerTable { table: TABLE.into() }), ..plan() };
    let cases: Vec<(Plan, Finding, &str)> = vec![
        (plan(), Box::new(|s| s.found.missing = vec!["architect:flow:publish".into()]), "lacks the permission architect:flow:publish"),
        (plan(), Box::new(move |s| s.found.dependencies = vec![deleted.clone()]), "needs QUEUE `Billing`, which was deleted"),
        (plan(), Box::new(|s| s.found.region = Some("eu-west-1")), "lives in eu-west-1 and Serin in us-east-1"),
        (
            Plan { data_actions: vec![action], ..plan() },
            Box::new(|s| drop(s.found.actions.insert("ac70".into(), "504 from the CRM".into()))),
            "data action ac70 does not answer its test: 504",
        ),
        (Plan { validate: true, ..plan() }, Box::new(|s| s.found.invalid = Some("task 2 is empty".into())), "task 2 is empty"),
        (by_row(), Box::new(move |s| drop(s.rows.insert(name(FLOW), row("serin/other", Weight::ZERO)))), "belongs to `serin/other`"),
        (
            by_row(),
            Box::new(move |s| {
                s.rows.insert(name(FLOW), row("", Weight::FULL));
                s.flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("17.0", "Pat");
            }),
            "set its Traffic_Weight to 0 first",
        ),
    ];
    for (plan, found, said) in cases {
        let reason = refusal(plan, found);
        assert!(reason.contains(said) && reason.contains("nothing was changed"), "{said}: {reason}");
    }
}

#[test]
fn everything_in_the_way_is_said_at_once() {
    let reason = refusal(plan(), |s| {
        s.found.missing = vec!["architect:flow:publish".into(), "architect:job:create".into()];
        s.found.region = Some("eu-west-1");
    });
    assert!(reason.starts_with("preflight found 3 things in the way: (1)") && reason.contains("architect:job:create"), "{reason}");
}

#[test]
fn what_others_rely_on_must_stay_and_may_grow() {
    let key = |slot: &str, version: &str| (format!("main_ivr-{slot}"), version.to_owned());
    let before = || interface(&["accountId", "language"], &[("Flow.balance", "currency")]);
    for (after, said) in [
        (
            interface(&["account_id", "language"], &[("Flow.balance", "currency")]),
            "participant attribute `accountId` of the stable flow is not",
        ),
        (interface(&["accountId", "language"], &[]), "flow variable `Flow.balance` of the stable flow is not"),
        (interface(&["accountId", "language"], &[("Flow.balance", "string")]), "`Flow.balance` is currency in the stable flow and string"),
    ] {
        let reason = refusal(plan(), |s| {
            s.found.interfaces.insert(key("stable", "14.0"), before());
            s.found.interfaces.insert(key("canary", "15.0"), after.clone());
        });
        assert!(reason.contains(said), "{reason}");
    }
    let mut stage = started(plan(), |s| {
        s.found.interfaces.insert(key("stable", "14.0"), before());
        let grown = interface(&["accountId", "language", "vip"], &[("Flow.balance", "currency"), ("Flow.due", "string")]);
        s.found.interfaces.insert(key("canary", "15.0"), grown);
    });
    stage.until_phase(FLOW, "Stepping", 6);
}

#[test]
fn where_it_cannot_be_told_the_rollout_waits_and_looks_again() {
    for outage in ["preflight.missing_permissions", "preflight.dependencies", "preflight.interface"] {
        let mut stage = started(plan(), |s| {
            s.outages.insert(outage);
        });
        for _ in 0..5 {
            stage.minute();
        }
        assert_eq!(stage.phase(FLOW), Phase::Preparing, "{outage}");
        stage.world.state().outages.clear();
        stage.until_phase(FLOW, "Stepping", 6);
    }
    let mut stage = started(plan(), |s| s.found.requests_left = Some(10));
    stage.minute();
    stage.minute();
    assert_eq!(stage.phase(FLOW), Phase::Preparing);
    stage.world.state().found.requests_left = Some(300);
    stage.until_phase(FLOW, "Stepping", 6);
}

#[test]
fn no_caller_gets_there_before_a_test_call_ended_well() {
    let smoke = || Plan { smoke: Some(Smoke { dnis: "+15550199".into() }), ..plan() };
    let ended = |calls, errors| {
        move |s: &mut State| {
            s.found.test_calls.insert("+15550199".into(), Ended { calls, errors });
        }
    };
    let mut stage = started(smoke(), |_| {});
    for _ in 0..5 {
        stage.minute();
    }
    assert_eq!(stage.phase(FLOW), Phase::Preparing);
    ended(2, 2)(&mut stage.world.state());
    stage.minute();
    let worked = stage.work().unwrap().unwrap();
    assert!(worked[0].step.contains("call +15550199 (2 ended so far, 2 of them in an error)"), "{}", worked[0].step);
    ended(3, 2)(&mut stage.world.state());
    stage.until_phase(FLOW, "Stepping", 5);

    let mut stage = started(smoke(), |_| {});
    stage.until_phase(FLOW, "Failed", 40);
    let alert = stage.alerts().pop().unwrap();
    assert!(alert.reason.contains("a test call to +15550199"), "{}", alert.reason);

    let observed = serin_core::policy::Policy { mode: serin_core::policy::Mode::Observe, ..quick_policy() };
    for refused in [Plan { strategy: Strategy::PublishWatch, stable: None, ..smoke() }, Plan { policy: observed, ..smoke() }] {
        assert!(refused.check().unwrap_err().contains("smoke is not accepted"), "callers would be there already");
    }
    for dnis in ["", "call me", "+1555 0199", "+"] {
        let refused = Plan { smoke: Some(Smoke { dnis: dnis.into() }), ..plan() }.check().unwrap_err();
        assert!(refused.contains("smoke.dnis"), "{refused}");
    }
}

#[test]
fn a_rollout_that_is_only_observed_needs_no_right_to_publish() {
    let policy = serin_core::policy::Policy { mode: serin_core::policy::Mode::Observe, ..quick_policy() };
    let stage = started(Plan { policy, ..plan() }, |s| {
        s.found.missing = vec!["architect:flow:publish".into()];
        s.traffic.way = Way::Asked;
    });
    let worked = stage.work().unwrap().unwrap();
    assert!(worked[0].step.contains("publish version 15.0"), "{}", worked[0].step);
}

#[test]
fn a_look_from_outside_finds_what_a_rollout_would_and_writes_nothing() {
    let stage = Stage::new(&[FLOW]);
    let looked = stage.look(&plan()).unwrap();
    assert_eq!((looked.problems, looked.snapshot.rollback_target), (Vec::<String>::new(), "13.0".to_owned()));
    {
        let mut state = stage.world.state();
        state.found.missing = vec!["architect:job:create".into()];
        state.found.region = Some("eu-west-1");
        state.quarantine.insert((name(FLOW), "better".into()), "r-20261120-1".into());
    }
    let problems = stage.look(&plan()).unwrap().problems;
    let found = ["lives in eu-west-1", "architect:job:create", "is quarantined: roll out a changed one"];
    assert!(problems.len() == found.len() && problems.iter().zip(found).all(|(problem, found)| problem.contains(found)), "{problems:?}");
    // The rollout says the same.
    stage.start(plan()).unwrap();
    let worked = stage.work().unwrap().unwrap();
    assert!(problems.iter().all(|problem| worked[0].step.contains(problem)), "{}", worked[0].step);
}

#[test]
fn whoever_looks_writes_nothing_and_needs_no_rollout() {
    let stage = Stage::new(&[FLOW]);
    let action = ActionTest { id: "ac70".into(), input: serde_json::Map::new() };
    let plan = Plan { validate: true, data_actions: vec![action], ..plan() };
    stage.look(&plan).unwrap();
    let state = stage.world.state();
    let reads = [
        "flow",
        "configuration_hash",
        "published_versions",
        "known_good",
        "is_quarantined",
        "pointer",
        "open_hours",
        "emergency",
        "missing_permissions",
        "dependencies",
        "interface",
        "validate",
        "test_action",
    ];
    for call in &state.calls {
        assert!(call.name.split_once('.').is_some_and(|(_, what)| reads.contains(&what)), "{}", call.name);
    }
    assert!(state.books.is_empty() && state.exports.is_empty() && state.told.is_empty());
}

#[test]
fn what_cannot_be_looked_at_is_an_error_and_no_finding() {
    let stage = Stage::new(&[FLOW]);
    for outage in ["flows.flow", "preflight.missing_permissions", "ledger.is_quarantined", "ledger.known_good"] {
        stage.world.state().outages = [outage].into();
        assert!(stage.look(&plan()).is_err(), "{outage}");
    }
    stage.world.state().outages.clear();
    stage.world.state().found.requests_left = Some(10);
    assert!(stage.look(&plan()).unwrap_err().to_string().contains("only 10 requests are left"));
}
