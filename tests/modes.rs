//! The default rule in a whole rollout, and the same judge with other consequences: observe, advise, all calls at once.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, minutes, name, sequential_policy};
use serin_acceptance::world::Behavior;
use serin_controller::intervene::Action;
use serin_core::phase::{Advice, Event, Phase};
use serin_core::policy::{LowVolume, Minutes, Mode, Policy};
use serin_core::rollout::Cause;
use serin_core::weight::Weight;

const FLOW: &str = "main_ivr";
const BROKEN: Behavior = Behavior { error: 0.3, abandon: 0.06, transfer: 0.22 };

fn started(version: &str, policy: Policy) -> Stage {
    let stage = Stage::new(&[FLOW]);
    stage.start(Stage::plan(FLOW, version, policy)).unwrap();
    stage
}

fn weights(stage: &Stage) -> Vec<f64> {
    stage.rollout(FLOW).weights.iter().map(|w| w.weight.percent()).collect()
}

fn why(stage: &Stage, event: &str) -> String {
    let state = stage.world.state();
    let entries = &state.books[&name(FLOW)].entries;
    entries.iter().rfind(|s| s.entry.event.name() == event).unwrap_or_else(|| panic!("no {event}")).entry.why.clone()
}

#[test]
fn the_default_rule_takes_a_healthy_change_up_the_plan_and_says_what_it_excluded() {
    let mut stage = started("15.0", sequential_policy());
    stage.until_phase(FLOW, "Promoted", 120);
    assert_eq!(weights(&stage), [5.0, 25.0, 50.0, 100.0]);
    let why = why(&stage, "PromotionStarted");
    assert!(why.starts_with("on to 100 %: ") && why.contains("is ruled out, and every other metric is within its own bound"), "{why}");
    stage.assert_lawful();
}

#[test]
fn the_default_rule_takes_a_broken_change_back_and_names_the_metric_that_decided() {
    let mut stage = started("16.0", sequential_policy());
    stage.until_phase(FLOW, "RolledBack", 30);
    let Some(Event::RollbackStarted { cause: Cause::Breach(breach) }) =
        stage.events(FLOW).into_iter().find(|e| matches!(e, Event::RollbackStarted { .. }))
    else {
        panic!("{}", stage.story())
    };
    assert_eq!(breach.sides.metric, "error");
    assert!(why(&stage, "RollbackStarted").starts_with("errors "), "{}", why(&stage, "RollbackStarted"));
    let alert = stage.alerts().into_iter().find(|a| a.incident_type == "AUTO_ROLLBACK_TRIGGERED").unwrap();
    assert!((0.05..0.5).contains(&alert.error_rate_breach.unwrap()) && alert.threshold_breach.unwrap() < 0.1, "{alert:?}");
    stage.assert_lawful();
}

#[test]
fn a_fault_that_begins_in_mid_rollout_or_at_100_percent_is_taken_back_too() {
    for phase in ["Paused", "Stepping", "Baking"] {
        let mut stage = started("15.0", Policy { final_bake_time: Minutes(60), step_cap: Minutes(600), ..sequential_policy() });
        match phase {
            "Baking" => drop(stage.until_phase(FLOW, "Baking", 120)),
            _ => drop(stage.until(120, |s| s.rollout(FLOW).in_force.weight.percent() == 25.0)),
        }
        if phase == "Paused" {
            stage.person(FLOW, Action::Pause).unwrap().unwrap();
        }
        for _ in 0..10 {
            stage.minute();
        }
        stage.world.state().traffic.behavior.insert("better".into(), BROKEN);
        stage.until_phase(FLOW, "RolledBack", 15);
        assert_eq!(stage.offered(FLOW), 0.0);
        stage.assert_lawful();
    }
}

#[test]
fn where_stable_breaks_in_the_same_minutes_nothing_rises_and_nothing_is_taken_back() {
    let mut stage = started("15.0", Policy { bake_time: Minutes(30), step_cap: Minutes(600), ..sequential_policy() });
    stage.until(60, |s| s.rollout(FLOW).in_force.weight.percent() == 25.0);
    for _ in 0..25 {
        stage.minute();
    }
    let weight = stage.rollout(FLOW).in_force.weight;
    let bad = Behavior { error: 0.2, abandon: 0.06, transfer: 0.2 };
    for configuration in ["good", "better"] {
        stage.world.state().traffic.behavior.insert(configuration.into(), bad);
    }
    for _ in 0..4 {
        stage.minute();
    }
    let report = stage.evaluate().unwrap().unwrap();
    assert!(report.flows[0].reason.contains("stable itself got worse"), "{}", report.flows[0].reason);
    assert_eq!(stage.rollout(FLOW).in_force.weight, weight);
    assert!(!stage.event_names(FLOW).contains(&"RollbackStarted"), "{}", stage.story());
}

#[test]
fn a_catastrophe_is_taken_back_while_the_cohort_is_too_young_to_be_compared() {
    let mut stage = started("16.0", Policy { long_call: Minutes(20), step_cap: Minutes(100), ..sequential_policy() });
    stage.world.state().traffic.behavior.insert("broken".into(), Behavior { error: 0.9, ..BROKEN });
    stage.until_phase(FLOW, "Stepping", 5);
    let took = stage.until_phase(FLOW, "RolledBack", 6);
    assert!(took <= 4, "{took} minutes");
    assert!(why(&stage, "RollbackStarted").contains("trip-wire"), "{}", why(&stage, "RollbackStarted"));
    stage.assert_lawful();
}

#[test]
fn a_busy_flow_starts_below_the_plan_and_a_quiet_one_above_it() {
    let busy = Policy { expected_calls_per_hour: Some(36_000.0), ..sequential_policy() };
    let mut stage = started("15.0", busy);
    stage.until_phase(FLOW, "Promoted", 120);
    assert_eq!(weights(&stage), [0.8, 5.0, 25.0, 50.0, 100.0]);
    stage.assert_lawful();
    let quiet = Policy { expected_calls_per_hour: Some(120.0), step_cap: Minutes(2_000), max_blind: Minutes(600), ..sequential_policy() };
    let mut stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.calls_per_minute = 2;
    stage.start(Stage::plan(FLOW, "15.0", quiet)).unwrap();
    stage.until(600, |s| weights(s).len() > 1);
    assert_eq!(weights(&stage), [10.0, 20.0]);
    stage.assert_lawful();
}

#[test]
fn too_few_calls_are_refused_at_the_start_and_the_two_ways_out_are_taken() {
    let stage = Stage::new(&[FLOW]);
    let few = Policy { expected_calls_per_hour: Some(10.0), ..sequential_policy() };
    let refused = stage.start(Stage::plan(FLOW, "15.0", few.clone())).unwrap_err().to_string();
    assert!(refused.contains("--accept-low-power") && refused.contains("nothing was changed"), "{refused}");
    started("15.0", Policy { low_volume: LowVolume::Accept, ..few.clone() });
    // All calls at once: watched, and taken back as fast as any.
    for (version, end) in [("15.0", "Promoted"), ("16.0", "RolledBack")] {
        let mut stage = started(version, Policy { low_volume: LowVolume::OffHoursFull, ..few.clone() });
        stage.until_phase(FLOW, "Baking", 5);
        stage.until_phase(FLOW, end, 30);
        assert_eq!(weights(&stage)[..1], [100.0]);
        stage.assert_lawful();
    }
}

#[test]
fn advise_asks_before_each_rise_and_keeps_a_broken_change_from_callers_by_itself() {
    let advise = Policy { mode: Mode::Advise, ..sequential_policy() };
    let mut stage = started("15.0", advise.clone());
    for asked_at in [5.0, 25.0, 50.0] {
        stage.until_phase(FLOW, "AwaitingApproval", 60);
        assert_eq!(stage.phase(FLOW).weight().percent(), asked_at);
        for _ in 0..10 {
            stage.minute();
        }
        assert_eq!(stage.phase(FLOW).weight().percent(), asked_at, "it waits");
        stage.person(FLOW, Action::Approve).unwrap().unwrap();
        stage.until(5, |s| s.rollout(FLOW).in_force.weight.percent() > asked_at);
    }
    stage.until_phase(FLOW, "Promoted", 60);
    assert!(stage.alerts().iter().any(|a| a.incident_type == "APPROVAL_REQUESTED" && a.next_step.contains("serin approve")));
    stage.assert_lawful();

    let mut stage = started("15.0", advise.clone());
    stage.until_phase(FLOW, "AwaitingApproval", 60);
    stage.world.state().traffic.behavior.insert("better".into(), BROKEN);
    stage.until_phase(FLOW, "RolledBack", 20);
    stage.assert_lawful();

    // Nobody answers: calls go back, and nobody is blamed.
    let mut stage = started("15.0", Policy { pause_expiry: Minutes(30), ..advise });
    stage.until_phase(FLOW, "AwaitingApproval", 60);
    stage.until_phase(FLOW, "Aborted", 40);
    assert!(stage.world.state().quarantine.is_empty());
    stage.assert_lawful();
}

#[test]
fn an_approval_counts_only_while_the_evidence_holds() {
    let mut stage = started("15.0", Policy { mode: Mode::Advise, ..sequential_policy() });
    stage.until_phase(FLOW, "AwaitingApproval", 60);
    stage.world.state().outages.insert("analytics");
    stage.person(FLOW, Action::Approve).unwrap().unwrap();
    for _ in 0..4 {
        stage.minute();
    }
    assert_eq!(stage.rollout(FLOW).in_force.weight.percent(), 5.0, "approved, and blind");
    stage.world.state().outages.clear();
    stage.until(10, |s| s.rollout(FLOW).in_force.weight.percent() == 25.0);
    stage.assert_lawful();
}

#[test]
fn observe_follows_a_persons_percentage_says_what_it_would_do_and_writes_nothing() {
    let mut stage = Stage::new(&[FLOW]);
    stage.world.state().person_sets(&name(FLOW), "0");
    stage.start(Stage::plan(FLOW, "15.0", Policy { mode: Mode::Observe, step_cap: Minutes(90), ..sequential_policy() })).unwrap();
    stage.minute();
    stage.minute();
    assert_eq!(stage.phase(FLOW), Phase::Preparing, "it publishes nothing");
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("15.0", "Pat");
    stage.until_phase(FLOW, "Stepping", 5);
    stage.world.state().person_sets(&name(FLOW), "5");
    stage.until(60, |s| s.rollout(FLOW).advised.is_some());
    assert_eq!(stage.rollout(FLOW).advised, Some(Advice::Rise { to: Weight::from_basis_points(2500).unwrap() }));
    for _ in 0..20 {
        stage.minute();
    }
    assert_eq!((stage.percentage(FLOW).as_deref(), stage.offered(FLOW)), (Some("5"), 5.0));
    stage.world.state().person_sets(&name(FLOW), "60");
    stage.until(3, |s| s.rollout(FLOW).in_force.weight.percent() == 60.0);
    stage.world.state().traffic.behavior.insert("better".into(), BROKEN);
    stage.until(15, |s| s.rollout(FLOW).advised == Some(Advice::TakeBack));
    for _ in 0..20 {
        stage.minute();
    }
    assert_eq!(stage.offered(FLOW), 60.0, "the percentage is a person's");
    let told: Vec<String> = stage.alerts().into_iter().map(|a| a.incident_type).collect();
    for (incident, times) in [("ADVANCE_ADVISED", 1), ("ROLLBACK_ADVISED", 1), ("WEIGHT_SET", 2)] {
        assert_eq!(told.iter().filter(|t| *t == incident).count(), times, "{incident} in {told:?}");
    }
    assert!(stage.world.state().quarantine.is_empty());
    let writes = |s: &Stage| {
        s.world.state().calls.iter().filter(|c| c.name == "parameters.put_percentage" || c.name == "parameters.put_halt").count()
    };
    assert_eq!(writes(&stage), 0);
    let refused = stage.person(FLOW, Action::Resume).unwrap().unwrap_err().to_string();
    assert!(refused.contains("only observed"), "{refused}");
    stage.until_phase(FLOW, "Aborted", 120);
    assert_eq!((writes(&stage), stage.offered(FLOW)), (0, 60.0), "an observation that ends writes nothing either");
    stage.assert_lawful();
}

#[test]
fn a_person_ends_an_observed_rollout_and_then_the_calls_are_taken_away() {
    let mut stage = Stage::new(&[FLOW]);
    stage.world.state().person_sets(&name(FLOW), "0");
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("15.0", "Pat");
    stage.start(Stage::plan(FLOW, "15.0", Policy { mode: Mode::Observe, ..sequential_policy() })).unwrap();
    stage.until_phase(FLOW, "Stepping", 5);
    stage.world.state().person_sets(&name(FLOW), "50");
    stage.minute();
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.until_phase(FLOW, "RolledBack", 5);
    stage.assert_lawful();
}

#[test]
fn a_lost_or_foreign_summary_changes_no_decision() {
    let play = |spoil: bool| {
        let policy = Policy { bake_time: Minutes(60), step_cap: Minutes(600), ..sequential_policy() };
        let mut stage = started("15.0", policy);
        let mut ticks = 0;
        while !stage.phase(FLOW).is_terminal() && ticks < 400 {
            stage.minute();
            ticks += 1;
            if spoil && ticks % 7 == 0 {
                let mut state = stage.world.state();
                let summaries = &mut state.books.get_mut(&name(FLOW)).unwrap().summaries;
                match ticks % 2 {
                    0 => summaries.clear(),
                    _ => summaries.values_mut().for_each(|kept| *kept = "{\"of\":\"another version\"}".into()),
                }
            }
        }
        stage.assert_lawful();
        let state = stage.world.state();
        let entries = state.books[&name(FLOW)].entries.iter().map(|s| (s.entry.at, s.entry.why.clone())).collect::<Vec<_>>();
        (entries, !state.books[&name(FLOW)].summaries.is_empty())
    };
    let ((kept, had), (spoiled, _)) = (play(false), play(true));
    assert!(had, "a summary is kept");
    assert_eq!(kept, spoiled);
}

#[test]
fn silence_holds_what_the_default_rule_would_raise() {
    let mut stage = started("15.0", Policy { max_blind: Minutes(120), step_cap: Minutes(600), ..sequential_policy() });
    stage.until(60, |s| s.rollout(FLOW).in_force.weight.percent() == 5.0);
    for _ in 0..3 {
        stage.minute();
    }
    stage.world.state().traffic.silent = true;
    let until = stage.world.state().now + minutes(60);
    while stage.world.state().now < until {
        stage.minute();
    }
    assert_eq!(stage.rollout(FLOW).in_force.weight.percent(), 5.0);
    stage.world.state().traffic.silent = false;
    stage.until(30, |s| s.rollout(FLOW).in_force.weight.percent() == 25.0);
    stage.assert_lawful();
}
