//! A person does not want to wait: `advance` and `promote`, and what they do not overrule.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, minutes, name, quick_policy, sequential_policy};
use serin_acceptance::world::{Behavior, TABLE, Way};
use serin_controller::intervene::{Action, InterventionError};
use serin_core::calendar::{Kind, Restriction, When};
use serin_core::phase::{Event, Phase};
use serin_core::policy::{Minutes, Mode, Policy, Rule, Threshold};
use serin_core::rollout::{Actor, Plan, PointerTable, Strategy};
use serin_core::weight::Weight;

const FLOW: &str = "main_ivr";

/// A policy that by itself takes hours over each step.
fn patient(mode: Mode) -> Policy {
    Policy { mode, bake_time: Minutes(240), final_bake_time: Minutes(10), step_cap: Minutes(3_000), ..sequential_policy() }
}

/// At 5 % for some minutes, of a policy that stays there for hours.
fn at_5_percent(version: &str, mode: Mode) -> Stage {
    let mut stage = Stage::new(&[FLOW]);
    stage.start(Stage::plan(FLOW, version, patient(mode))).unwrap();
    stage.until(10, |s| s.rollout(FLOW).in_force.weight.percent() == 5.0);
    for _ in 0..3 {
        stage.minute();
    }
    stage
}

fn asks(stage: &Stage, action: Action) {
    stage.person(FLOW, action).unwrap().unwrap();
}

fn refused(stage: &Stage, action: Action) -> String {
    let events = stage.events(FLOW).len();
    let Err(InterventionError::Refused(why)) = stage.person(FLOW, action).unwrap() else { panic!("{action:?}: {}", stage.story()) };
    assert_eq!(stage.events(FLOW).len(), events, "nothing was changed");
    why
}

fn freeze(stage: &Stage, lasting: i64) {
    let from = stage.world.state().now;
    let when = When::Once { from, until: Some(from + minutes(lasting)) };
    let (id, reason, by) = ("freeze-1".into(), "the holidays".into(), "sam".into());
    stage.world.state().restrictions.push(Restriction { id, kind: Kind::Freeze, flow: None, when, reason, by, ended: None });
}

fn weight(stage: &Stage) -> f64 {
    stage.rollout(FLOW).in_force.weight.percent()
}

#[test]
fn a_person_takes_a_rollout_up_step_by_step_and_each_rise_says_who_and_why() {
    for mode in [Mode::Act, Mode::Advise] {
        let mut stage = at_5_percent("15.0", mode);
        for step in [25.0, 50.0, 100.0] {
            asks(&stage, Action::Advance);
            assert!(weight(&stage) < step, "it is the tick that raises");
            // Once a fair canary call was seen at the weight.
            stage.until(10, |s| weight(s) == step);
            assert_eq!(stage.offered(FLOW), step, "{}", stage.story());
        }
        let state = stage.world.state();
        let rises = state.books[&name(FLOW)].entries.iter().map(|s| s.entry.clone()).filter(|e| {
            matches!(e.event, Event::StepStarted { weight, .. } if weight.percent() > 5.0)
                || matches!(e.event, Event::PromotionStarted { .. })
        });
        let rises: Vec<_> = rises.collect();
        assert_eq!(rises.len(), 3);
        for entry in rises {
            assert!(entry.why.ends_with("without waiting for more evidence: advance by sam: as I see fit"), "{}", entry.why);
            assert!(matches!(entry.by, Actor::Serin(_)) && entry.evidence.is_some());
        }
        drop(state);
        let told = stage.alerts();
        let advanced = told.iter().filter(|a| a.reason.contains("advance by sam")).map(|a| a.incident_type.as_str());
        assert_eq!(advanced.collect::<Vec<_>>(), ["CANARY_ADVANCED", "CANARY_ADVANCED", "CANARY_PROMOTED"]);
        stage.until_phase(FLOW, "Promoted", 60);
        stage.assert_lawful();
    }
}

#[test]
fn promote_goes_to_100_percent_where_it_is_watched_and_taken_back_if_it_fails() {
    let mut stage = at_5_percent("15.0", Mode::Act);
    asks(&stage, Action::Promote);
    stage.minute();
    assert_eq!((stage.phase(FLOW), stage.offered(FLOW)), (Phase::Baking, 100.0));
    assert!(!stage.rollout(FLOW).stable_is_broken, "it was not said that stable is broken");
    assert!(stage.rollout(FLOW).baseline.is_some_and(|stable| stable.calls > 1_000), "it is compared with stable's calls of the last step");
    stage.world.state().traffic.behavior.insert("better".into(), Behavior { error: 0.4, abandon: 0.06, transfer: 0.2 });
    stage.until_phase(FLOW, "RolledBack", 15);
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.assert_lawful();
}

#[test]
fn a_failed_verdict_takes_back_what_was_hastened_and_it_never_rises() {
    let mut stage = at_5_percent("15.0", Mode::Act);
    stage.world.state().traffic.behavior.insert("better".into(), Behavior { error: 0.9, abandon: 0.05, transfer: 0.02 });
    stage.pass_a_minute();
    asks(&stage, Action::Promote);
    stage.minute();
    assert_eq!(stage.phase(FLOW).weight(), Weight::ZERO, "{}", stage.story());
    assert_eq!((weight(&stage), stage.offered(FLOW)), (0.0, 0.0));
    stage.until_phase(FLOW, "RolledBack", 5);
    assert!(!stage.event_names(FLOW).contains(&"PromotionStarted"));
    stage.assert_lawful();
}

#[test]
fn whoever_sees_nothing_raises_nothing_and_says_what_waits() {
    let mut stage = at_5_percent("15.0", Mode::Act);
    stage.world.state().outages.insert("analytics");
    asks(&stage, Action::Advance);
    for _ in 0..3 {
        stage.pass_a_minute();
        let report = stage.evaluate().unwrap().unwrap();
        let said = &report.flows[0].reason;
        assert!(said.contains("metrics unavailable") && said.contains("25 % follows once nothing holds it (advance by sam"), "{said}");
        assert_eq!(weight(&stage), 5.0);
    }
    stage.world.state().outages.clear();
    stage.minute();
    assert_eq!(weight(&stage), 25.0, "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn doubt_about_the_canary_holds_what_was_hastened() {
    let rule = Rule::Threshold(Threshold { breach_limit: 1_000, evaluate_every: Minutes(1), ..Threshold::default() });
    let mut stage = Stage::new(&[FLOW]);
    stage.start(Stage::plan(FLOW, "15.0", Policy { rule, ..patient(Mode::Act) })).unwrap();
    stage.world.state().traffic.behavior.insert("better".into(), Behavior { error: 0.0, abandon: 0.2, transfer: 0.2 });
    stage.until(10, |s| s.rollout(FLOW).in_force.weight.percent() == 5.0);
    for _ in 0..5 {
        stage.minute();
    }
    asks(&stage, Action::Promote);
    for _ in 0..10 {
        stage.minute();
        assert_eq!(weight(&stage), 5.0, "{}", stage.story());
    }
    stage.assert_lawful();
}

#[test]
fn the_word_of_a_person_is_good_for_half_an_hour() {
    let mut stage = at_5_percent("15.0", Mode::Act);
    asks(&stage, Action::Advance);
    freeze(&stage, 31);
    for _ in 0..32 {
        stage.minute();
    }
    for _ in 0..5 {
        stage.minute();
        assert_eq!(weight(&stage), 5.0, "whoever said it is home by now: {}", stage.story());
    }
    asks(&stage, Action::Advance);
    stage.until(10, |s| weight(s) == 25.0);
    stage.assert_lawful();
}

#[test]
fn a_freeze_a_hand_and_a_publication_go_before_what_was_hastened() {
    let mut stage = at_5_percent("15.0", Mode::Act);
    asks(&stage, Action::Advance);
    freeze(&stage, 5);
    for _ in 0..4 {
        stage.minute();
        assert_eq!(weight(&stage), 5.0);
    }
    let why = refused(&stage, Action::Promote);
    assert!(why.contains("does not rise meanwhile: freeze of all flows"), "{why}");
    stage.minute();
    stage.minute();
    assert_eq!(weight(&stage), 25.0, "{}", stage.story());

    asks(&stage, Action::Advance);
    stage.world.state().person_sets(&name(FLOW), "2");
    stage.minute();
    assert_eq!((stage.phase(FLOW).name(), stage.offered(FLOW)), ("Paused", 2.0));
    asks(&stage, Action::Resume);
    stage.until(5, |s| s.offered(FLOW) == 25.0);
    stage.minute();
    assert_eq!(weight(&stage), 25.0, "what was said before the pause is over: {}", stage.story());

    asks(&stage, Action::Promote);
    stage.world.state().flows.get_mut("main_ivr-stable").unwrap().publish_by_hand("14.0", "Pat");
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("17.0", "Pat");
    stage.minute();
    assert_eq!((stage.phase(FLOW), stage.offered(FLOW)), (Phase::Contaminated, 0.0), "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn a_pause_takes_back_what_was_hastened() {
    let mut stage = at_5_percent("15.0", Mode::Act);
    for action in [Action::Advance, Action::Pause, Action::Resume] {
        asks(&stage, action);
    }
    for _ in 0..3 {
        stage.minute();
        assert_eq!(weight(&stage), 5.0, "{}", stage.story());
    }
    stage.assert_lawful();
}

#[test]
fn where_nothing_can_be_hastened_it_says_what_to_do_instead() {
    let mut stage = Stage::new(&[FLOW]);
    assert!(matches!(stage.person(FLOW, Action::Advance).unwrap(), Err(InterventionError::Refused(why)) if why.contains("has no rollout")));
    stage.start(Stage::plan(FLOW, "15.0", Policy { mode: Mode::Advise, ..quick_policy() })).unwrap();
    let says = |stage: &Stage, what: &str| {
        for action in [Action::Advance, Action::Promote] {
            let why = refused(stage, action);
            assert!(why.contains(what) && why.starts_with("flow main_ivr: rollout r-20261120-1 "), "{why}");
        }
    };
    says(&stage, "takes its first step by itself");
    stage.until_phase(FLOW, "AwaitingApproval", 30);
    says(&stage, "`serin approve`");
    asks(&stage, Action::Pause);
    says(&stage, "`serin resume` first");
    asks(&stage, Action::Resume);
    asks(&stage, Action::Advance);
    let why = refused(&stage, Action::Advance);
    assert!(why.contains("was told so already; 25 % follow"), "{why}");
    // More than was said is another word.
    asks(&stage, Action::Promote);
    stage.minute();
    stage.until_phase(FLOW, "Baking", 3);
    says(&stage, "nothing can hasten its bake time");
    asks(&stage, Action::Abort);
    says(&stage, "cannot");
    stage.assert_lawful();
}

#[test]
fn while_a_raise_is_on_its_way_no_further_one_is_asked_for() {
    let mut stage = at_5_percent("15.0", Mode::Act);
    asks(&stage, Action::Advance);
    stage.world.state().outages.insert("parameters.put_percentage");
    stage.minute();
    assert!(stage.rollout(FLOW).pending.is_some(), "{}", stage.story());
    assert!(refused(&stage, Action::Advance).contains("is on its way to 25 %"));
    stage.world.state().outages.clear();
    stage.minute();
    asks(&stage, Action::Advance);
    stage.until(10, |s| s.offered(FLOW) == 50.0);
    stage.assert_lawful();
}

#[test]
fn what_is_observed_or_goes_at_once_is_not_hastened() {
    let mut observed = Stage::new(&[FLOW]);
    observed.start(Stage::plan(FLOW, "15.0", Policy { mode: Mode::Observe, ..quick_policy() })).unwrap();
    observed.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("15.0", "Pat");
    observed.world.state().person_sets(&name(FLOW), "0");
    observed.until_phase(FLOW, "Stepping", 10);
    assert!(refused(&observed, Action::Advance).contains("its percentage is moved by hand"));

    let mut by_row = Stage::new(&[FLOW]);
    by_row.world.state().traffic.way = Way::ByRow;
    let later = by_row.world.state().now + minutes(120);
    by_row.world.advance_to(later);
    let plan = Stage::plan(FLOW, "15.0", sequential_policy());
    by_row.start(Plan { strategy: Strategy::Pointer, pointer: Some(PointerTable { table: TABLE.into() }), ..plan }).unwrap();
    by_row.until_phase(FLOW, "Baking", 10);
    assert!(refused(&by_row, Action::Promote).contains("nothing can hasten its bake time"));
}
