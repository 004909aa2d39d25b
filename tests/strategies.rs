//! One flow gets its next version: published to all callers, watched against what the version before did, and taken back by publishing that.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, sequential_policy};
use serin_acceptance::world::{Behavior, Way};
use serin_controller::intervene::Action;
use serin_core::phase::{Event, Phase};
use serin_core::policy::{Minutes, Policy, Rule};
use serin_core::rollout::{Cause, Plan, Strategy};

const FLOW: &str = "main_ivr";
const BROKEN: Behavior = Behavior { error: 0.15, abandon: 0.06, transfer: 0.22 };

fn plan(version: &str, policy: Policy) -> Plan {
    let plan = Plan { strategy: Strategy::PublishWatch, stable: None, ..Stage::plan(FLOW, version, policy) };
    plan.check().unwrap();
    plan
}

/// Two hours after callers came to the flow.
fn stage() -> Stage {
    let stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.way = Way::Direct;
    let later = stage.world.state().now + serin_acceptance::drive::minutes(120);
    stage.world.advance_to(later);
    stage
}

fn started(version: &str, policy: Policy) -> Stage {
    let stage = stage();
    stage.start(plan(version, policy)).unwrap();
    stage
}

fn runs(stage: &Stage) -> String {
    stage.world.state().flows["main_ivr-canary"].runs().to_owned()
}

#[test]
fn a_healthy_version_is_published_watched_against_the_one_before_and_kept() {
    let mut stage = started("15.0", sequential_policy());
    stage.until_phase(FLOW, "Baking", 5);
    assert_eq!(runs(&stage), "15.0");
    let baseline = stage.rollout(FLOW).baseline.unwrap();
    assert!(baseline.calls > 50_000, "two hours of the version before: {baseline:?}");
    stage.until_phase(FLOW, "Promoted", 30);
    assert_eq!(runs(&stage), "15.0");
    assert_eq!(stage.world.state().registry(), [["main_ivr-canary", "15.0", "better"]]);
    stage.assert_lawful();
}

#[test]
fn a_broken_version_is_taken_back_by_publishing_the_one_before_and_quarantined() {
    for rule in ["sequential", "threshold", "hysteresis", "consecutive"] {
        let policy = Policy { rule: Rule::named(rule).unwrap(), step_cap: Minutes(600), ..sequential_policy() };
        let mut stage = started("16.0", policy);
        stage.until_phase(FLOW, "RolledBack", 30);
        assert_eq!(runs(&stage), "13.0", "{rule}");
        assert_eq!(stage.world.state().quarantine.len(), 1, "{rule}");
        let alert = stage.alerts().into_iter().find(|a| a.incident_type == "AUTO_ROLLBACK_TRIGGERED").unwrap();
        assert!(alert.action_taken.contains("the version before is being published"), "{}", alert.action_taken);
        stage.assert_lawful();
    }
}

#[test]
fn what_nobody_can_measure_is_taken_back_without_blame() {
    let mut stage = started("15.0", sequential_policy());
    stage.until_phase(FLOW, "Baking", 5);
    stage.world.state().outages.insert("analytics.measure");
    stage.until_phase(FLOW, "RolledBack", 20);
    assert_eq!(runs(&stage), "13.0");
    assert!(stage.world.state().quarantine.is_empty());
    let cause = stage.events(FLOW).into_iter().find_map(|e| if let Event::RollbackStarted { cause } = e { Some(cause) } else { None });
    assert!(matches!(cause, Some(Cause::Unproven { .. })), "{cause:?}");
    stage.assert_lawful();
}

#[test]
fn nothing_is_published_over_what_somebody_published_by_hand() {
    let mut stage = started("15.0", sequential_policy());
    stage.until_phase(FLOW, "Baking", 5);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("17.0", "Pat");
    stage.minute();
    stage.minute();
    assert_eq!(stage.phase(FLOW), Phase::Contaminated, "{}", stage.story());
    for _ in 0..10 {
        stage.minute();
    }
    assert_eq!(runs(&stage), "17.0");
    let alert = stage.alerts().into_iter().find(|a| a.incident_type == "ROLLOUT_CONTAMINATED").unwrap();
    assert!(alert.reason.contains("`Pat`") && !alert.action_taken.contains("stable"), "{alert:?}");
    // Nothing is watched any more, so a person can end it, and what was published stays.
    assert_eq!(stage.person(FLOW, Action::Abort).unwrap().unwrap().phase, Phase::Aborted);
    assert_eq!(runs(&stage), "17.0");
    stage.assert_lawful();
}

#[test]
fn without_a_split_there_is_nothing_to_abort_to_and_a_rollback_publishes() {
    let mut stage = started("15.0", sequential_policy());
    stage.until_phase(FLOW, "Baking", 5);
    let refused = stage.person(FLOW, Action::Abort).unwrap().unwrap_err().to_string();
    assert!(refused.contains("serin rollback") && refused.contains("nothing was changed"), "{refused}");
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(runs(&stage), "13.0");
    stage.assert_lawful();
}

#[test]
fn a_fault_that_begins_later_is_found_and_a_version_that_runs_already_is_refused() {
    let mut stage = started("15.0", Policy { final_bake_time: Minutes(60), step_cap: Minutes(600), ..sequential_policy() });
    stage.until_phase(FLOW, "Baking", 5);
    for _ in 0..20 {
        stage.minute();
    }
    stage.world.state().traffic.behavior.insert("better".into(), BROKEN);
    stage.until_phase(FLOW, "RolledBack", 15);
    stage.assert_lawful();

    let mut stage = started("13.0", sequential_policy());
    stage.until_phase(FLOW, "Failed", 5);
    assert_eq!(runs(&stage), "13.0");
}

#[test]
fn a_plan_whose_strategy_and_slots_do_not_fit_is_refused_by_name() {
    let with_stable = Plan { strategy: Strategy::PublishWatch, ..Stage::plan(FLOW, "15.0", sequential_policy()) };
    assert!(with_stable.check().unwrap_err().contains("stable is not accepted"));
    let without = Plan { stable: None, ..Stage::plan(FLOW, "15.0", sequential_policy()) };
    assert!(without.check().unwrap_err().contains("stable.flow_id is missing"));
}
