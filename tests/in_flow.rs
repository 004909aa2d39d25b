//! One flow that branches inside: told apart by an outcome per branch, taken back by the percentage alone.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, name, sequential_policy};
use serin_acceptance::world::{OUTCOMES, Way};
use serin_controller::intervene::Action;
use serin_core::alert::RollbackRequest;
use serin_core::phase::Phase;
use serin_core::policy::{MetricRule, Policy, Rule, SequentialRule};
use serin_core::rollout::{Outcomes, Plan, Strategy};

const FLOW: &str = "main_ivr";

fn policy() -> Policy {
    let errors = MetricRule { name: "error".into(), tolerance: None, margin: None, required: None };
    Policy { rule: Rule::Sequential(SequentialRule { metrics: vec![errors], ..SequentialRule::default() }), ..sequential_policy() }
}

fn plan(version: &str) -> Plan {
    let outcomes = Outcomes { stable: OUTCOMES.0.into(), canary: OUTCOMES.1.into() };
    Plan { strategy: Strategy::InFlow, stable: None, outcomes: Some(outcomes), ..Stage::plan(FLOW, version, policy()) }
}

fn started(version: &str) -> Stage {
    let stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.way = Way::Inside;
    stage.start(plan(version)).unwrap();
    stage
}

fn runs(stage: &Stage) -> String {
    stage.world.state().flows["main_ivr-canary"].runs().to_owned()
}

#[test]
fn a_healthy_branch_rises_step_by_step_and_keeps_all_calls_until_the_owner_takes_the_gate_out() {
    let mut stage = started("15.0");
    stage.until_phase(FLOW, "Promoted", 300);
    assert_eq!(runs(&stage), "15.0");
    for _ in 0..10 {
        stage.minute();
    }
    assert_eq!(stage.offered(FLOW), 100.0);
    let said = stage.alerts().last().unwrap().clone();
    assert!(said.action_taken.contains("should the data action fail") && said.next_step.contains("without the gate"), "{said:?}");
    stage.world.state().check_at_rest();
    stage.assert_lawful();

    // The next one would begin with everybody on the old branch.
    let refused = stage.start(plan("17.0")).unwrap_err().to_string();
    assert!(refused.contains("without the gate") && refused.contains("nothing was changed"), "{refused}");
    stage.world.state().person_sets(&name(FLOW), "0");
    stage.start(plan("17.0")).unwrap();
}

#[test]
fn a_broken_branch_is_taken_back_by_the_percentage_and_nothing_is_published() {
    let mut stage = started("16.0");
    stage.until_phase(FLOW, "Stepping", 10);
    let publishes = |stage: &Stage| stage.world.state().calls.iter().filter(|c| c.name == "flows.publish").count();
    let before = publishes(&stage);
    stage.until_phase(FLOW, "RolledBack", 60);
    assert_eq!((stage.offered(FLOW), runs(&stage).as_str()), (0.0, "16.0"));
    assert_eq!(publishes(&stage), before);
    assert_eq!(stage.world.state().quarantine.len(), 1);
    let said = stage.alerts().last().unwrap().clone();
    assert_eq!(said.action_taken, "all calls take the old branch");
    stage.assert_lawful();
}

#[test]
fn somebody_who_publishes_into_the_flow_spoils_the_comparison_and_is_named() {
    let mut stage = started("15.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("17.0", "Pat");
    stage.minute();
    stage.minute();
    assert_eq!(stage.phase(FLOW), Phase::Contaminated, "{}", stage.story());
    assert_eq!(stage.offered(FLOW), 0.0);
    assert!(stage.alerts().last().unwrap().reason.contains("`Pat`"));
    stage.assert_lawful();
}

#[test]
fn a_policy_that_needs_more_than_outcomes_tell_is_refused_with_the_reason() {
    for (policy, metric) in [
        (sequential_policy(), "abandon"),
        (Policy { rule: Rule::named("threshold").unwrap(), ..policy() }, "abandon"),
        (Policy { rule: Rule::named("not-worse").unwrap(), ..policy() }, "abandon"),
        (Policy { bake_rule: Rule::named("hysteresis"), ..policy() }, "abandon"),
    ] {
        let refused = Plan { policy, ..plan("15.0") }.check().unwrap_err();
        assert!(refused.contains(&format!("needs {metric}")) && refused.contains("metrics [{name: error}]"), "{refused}");
    }
    for (plan, said) in [
        (Plan { outcomes: None, ..plan("15.0") }, "outcomes are missing"),
        (Plan { outcomes: Some(Outcomes { stable: "a".into(), canary: "a".into() }), ..plan("15.0") }, "outcomes.canary `a`"),
        (Plan { strategy: Strategy::PublishWatch, ..plan("15.0") }, "outcomes is not accepted with strategy publish-watch"),
    ] {
        let refused = plan.check().unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn what_on_call_publishes_during_a_rollback_stays() {
    let mut stage = started("16.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.executor = false;
    stage.until_phase(FLOW, "RollingBack", 60);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("13.0", "Pat");
    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 3);
    assert_eq!(runs(&stage), "13.0");
    stage.assert_lawful();
}

#[test]
fn a_hand_on_the_percentage_stops_a_promotion_that_is_being_finished() {
    let mut stage = started("15.0");
    stage.until_phase(FLOW, "Baking", 300);
    stage.executor = false;
    stage.until_phase(FLOW, "Finalizing", 60);
    stage.world.state().person_sets(&name(FLOW), "0");
    let worked = stage.work().unwrap().unwrap();
    assert!(worked[0].step.contains("changed by hand"), "{}", worked[0].step);
    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.assert_lawful();
}

#[test]
fn nothing_is_published_while_anybody_may_be_on_the_new_branch() {
    let stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.way = Way::Inside;
    stage.world.state().person_sets(&name(FLOW), "100");
    stage.start(plan("15.0")).unwrap();
    let worked = stage.work().unwrap().unwrap();
    assert!(worked[0].step.contains("the percentage is 100 and must be 0"), "{}", worked[0].step);
    assert_eq!(runs(&stage), "13.0");
}

#[test]
fn a_rollback_that_is_asked_for_after_a_promotion_says_what_to_do_instead() {
    let mut stage = started("15.0");
    stage.until_phase(FLOW, "Promoted", 300);
    let refused = stage.person(FLOW, Action::Rollback).unwrap().unwrap_err().to_string();
    assert!(refused.contains("set the percentage to 0 by hand"), "{refused}");
    let request = RollbackRequest {
        flow: name(FLOW),
        rollout: None,
        reason: "alarm".into(),
        requested_by: "alarm x".into(),
        at: None,
        by_alarm: true,
    };
    let sent = stage.world.state().now;
    let refused = stage.serve(&request, sent).unwrap().unwrap_err().to_string();
    assert!(refused.contains("set the percentage to 0 by hand"), "{refused}");
}
