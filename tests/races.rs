//! What only shows at the right moment: something happens just before one call of a tick, or fails in the one minute in which it matters.
#![allow(clippy::unwrap_used)]

use jiff::SignedDuration;
use serin_acceptance::drive::{
    Running, Stage, a_turn, evaluator_tick, executor_tick, in_turns, minutes, name, quick_policy, sequential_policy,
};
use serin_acceptance::world::{Call, Fault, TABLE, Way};
use serin_controller::evaluate::RolloutClock;
use serin_controller::intervene::Action;
use serin_core::phase::Phase;
use serin_core::rollout::{Plan, PointerTable, Strategy};
use std::pin::pin;
use std::task::{Context, Waker};

const FLOW: &str = "main_ivr";

/// The next minute's tick, call by call; before the turn of that number `meanwhile` happens. Says at which turn the first call was made that
/// `is_it` knows.
fn tick(stage: &Stage, turn: Option<usize>, is_it: &dyn Fn(&Call) -> bool, meanwhile: impl FnOnce(&Stage)) -> Option<usize> {
    stage.pass_a_minute();
    let process = stage.world.process("evaluator");
    let time = stage.world.state().now;
    let before = stage.world.state().calls.len();
    let mut tick = pin!(evaluator_tick(&process, time, RolloutClock::Wall));
    let (mut found, mut meanwhile) = (None, Some(meanwhile));
    for n in 0.. {
        if turn == Some(n) {
            stage.world.state().interleaved = false;
            meanwhile.take().into_iter().for_each(|happens| happens(stage));
        }
        stage.world.state().interleaved = true;
        let done = tick.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if found.is_none() && stage.world.state().calls[before..].iter().any(is_it) {
            found = Some(n);
        }
        if done {
            break;
        }
    }
    stage.world.state().interleaved = false;
    found
}

/// A stage whose next tick was interrupted just before the first call that `is_it` knows.
fn interrupted(build: impl Fn() -> Stage, is_it: impl Fn(&Call) -> bool, meanwhile: impl FnOnce(&Stage)) -> Stage {
    let turn = tick(&build(), None, &is_it, |_| ()).expect("the call is made where nothing comes between");
    let stage = build();
    tick(&stage, Some(turn), &is_it, meanwhile);
    stage
}

fn raises(stage: &Stage) -> usize {
    stage.world.state().calls.iter().filter(|call| call.name == "parameters.put_percentage" && call.detail.contains("raise")).count()
}

fn prepared() -> Stage {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until(5, |s| s.rollout(FLOW).canary_version.is_some());
    stage
}

/// As prepared, where a row sends the calls.
fn prepared_by_row() -> Stage {
    let mut stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.way = Way::ByRow;
    let later = stage.world.state().now + minutes(120);
    stage.world.advance_to(later);
    let plan = Stage::plan(FLOW, "15.0", sequential_policy());
    stage.start(Plan { strategy: Strategy::Pointer, pointer: Some(PointerTable { table: TABLE.into() }), ..plan }).unwrap();
    stage.until(5, |s| s.rollout(FLOW).canary_version.is_some());
    stage
}

/// The executor's next run; just before its first call of that name the clock moves on, and nobody else is there.
fn executor_held_up(stage: &Stage, before: &str, pause: SignedDuration) -> String {
    stage.pass_a_minute();
    let (process, begun) = (stage.world.process("executor"), stage.world.state().calls.len());
    let (task, id) = (stage.task(&process), process.name.clone());
    let mut held: Running<'_> = Box::pin(async {
        let _ = executor_tick(&process, &task).await;
    });
    stage.world.state().interleaved = true;
    while stage.world.state().calls[begun..].iter().all(|call| call.name != before) {
        assert!(!a_turn(&mut held), "it calls {before}: {}", stage.story());
    }
    stage.world.state().now += pause;
    in_turns(vec![held], |_| 0);
    stage.world.state().interleaved = false;
    id
}

fn publishes(stage: &Stage, process: &str) -> usize {
    let state = stage.world.state();
    state.calls.iter().filter(|call| call.process == process && ["flows.publish", "flows.copy"].contains(&call.name)).count()
}

fn is_commit_of(event: &'static str) -> impl Fn(&Call) -> bool {
    move |call| call.name == "ledger.commit" && call.detail == event
}

#[test]
fn whoever_was_held_up_until_the_lease_is_nearly_over_raises_nothing() {
    let mut stage = interrupted(prepared, is_commit_of("StepStarted"), |stage| stage.world.state().now += SignedDuration::from_secs(50));
    assert!(stage.rollout(FLOW).pending.is_some(), "{}", stage.story());
    assert_eq!(raises(&stage), 0, "{}", stage.story());
    stage.until(3, |s| s.offered(FLOW) == 5.0);
    assert_eq!(raises(&stage), 1);
    stage.assert_lawful();
}

#[test]
fn whoever_lost_the_lease_while_held_up_records_and_raises_nothing() {
    let stage = interrupted(prepared, is_commit_of("StepStarted"), |stage| {
        stage.world.state().now += minutes(2);
        let other = stage.evaluate().unwrap().unwrap();
        assert_eq!(other.flows[0].decision, "Begin", "{other:?}");
    });
    assert_eq!(stage.event_names(FLOW).iter().filter(|event| **event == "StepStarted").count(), 1, "{}", stage.story());
    assert_eq!(raises(&stage), 1);
    stage.assert_lawful();
}

#[test]
fn whoever_was_overtaken_by_a_persons_abort_records_and_raises_nothing() {
    let stage = interrupted(prepared, is_commit_of("StepStarted"), |stage| {
        stage.person(FLOW, Action::Abort).unwrap().unwrap();
    });
    assert_eq!((stage.phase(FLOW), raises(&stage)), (Phase::Aborted, 0), "{}", stage.story());
    assert_eq!(stage.event_names(FLOW).last(), Some(&"Aborted"));
    stage.assert_lawful();
}

#[test]
fn what_was_observed_too_long_ago_raises_nothing() {
    let stage = interrupted(prepared, |call| call.name == "ledger.load", |stage| stage.world.state().now += minutes(3));
    assert_eq!(stage.phase(FLOW), Phase::Preparing, "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn calls_that_are_taken_back_while_the_row_is_written_do_not_stay_on_the_canary() {
    let writes_the_row = |call: &Call| call.name == "rows.point" && call.detail.ends_with("100");
    let stage = interrupted(prepared_by_row, writes_the_row, |stage| {
        stage.person(FLOW, Action::Abort).unwrap().unwrap();
    });
    assert!(stage.world.state().calls.iter().any(writes_the_row), "the write was on its way");
    assert_eq!(stage.phase(FLOW), Phase::Aborted);
    assert_eq!(stage.world.state().pointed_weight(&name(FLOW)).percent(), 0.0, "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn nobody_says_that_all_is_well_while_a_flow_cannot_be_looked_at() {
    let mut stage = prepared();
    stage.until_phase(FLOW, "Stepping", 5);
    let before = stage.world.state().heartbeat;
    stage.world.state().outages.insert("parameters.read");
    stage.minute();
    assert_eq!(stage.world.state().heartbeat, before);
    stage.world.state().outages.clear();
    stage.minute();
    assert!(stage.world.state().heartbeat > before);
}

#[test]
fn a_rollout_begins_neither_before_the_last_is_over_nor_within_its_lockout() {
    let mut stage = Stage::started(FLOW, "16.0");
    for _ in 0..60 {
        let _ = stage.start(Stage::plan(FLOW, "15.0", quick_policy()));
        stage.minute();
    }
    stage.assert_lawful();
}

#[test]
fn a_promotion_whose_publish_failed_is_done_once_the_stable_flow_runs_the_version() {
    let mut stage = Stage::promoted_until(FLOW, "Finalizing");
    stage.world.state().flows.get_mut("main_ivr-stable").unwrap().publish_fails = 1;
    stage.executor = true;
    stage.until_phase(FLOW, "Promoted", 9);
    assert_eq!(stage.world.state().flows["main_ivr-stable"].configuration(), "better", "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn whoever_was_held_up_past_its_lease_restores_nothing() {
    let rolled_back = || {
        let mut stage = prepared();
        stage.until_phase(FLOW, "Stepping", 5);
        stage.executor = false;
        stage.person(FLOW, Action::Rollback).unwrap().unwrap();
        stage
    };
    for (pause, published) in [(SignedDuration::from_secs(50), 1), (SignedDuration::from_secs(61), 0)] {
        let mut stage = rolled_back();
        let executor = executor_held_up(&stage, "ledger.restoration", pause);
        assert_eq!(publishes(&stage, &executor), published, "after {pause:#}: {}", stage.story());
        stage.executor = true;
        stage.until_phase(FLOW, "RolledBack", 3);
        stage.assert_lawful();
    }
}

#[test]
fn whoever_was_held_up_past_its_lease_publishes_nothing_into_the_stable_flow() {
    for (pause, published) in [(SignedDuration::from_secs(50), 1), (SignedDuration::from_secs(61), 0)] {
        let mut stage = Stage::promoted_until(FLOW, "Finalizing");
        let executor = executor_held_up(&stage, "ledger.lease", pause);
        assert_eq!(publishes(&stage, &executor), published, "after {pause:#}: {}", stage.story());
        stage.executor = true;
        stage.until_phase(FLOW, "Promoted", 5);
        stage.assert_lawful();
    }
}

#[test]
fn a_row_that_reads_as_before_its_raise_is_taken_back_all_the_same() {
    let mut stage = prepared_by_row();
    stage.until(3, |s| s.world.state().pointed_weight(&name(FLOW)).percent() == 100.0);
    stage.world.state().ailing.insert("rows.pointer", Fault::Stale);
    stage.person(FLOW, Action::Abort).unwrap().unwrap();
    let pointed = stage.world.state().pointed_weight(&name(FLOW));
    assert_eq!(pointed.percent(), 0.0, "{}", stage.story());
    stage.world.state().ailing.clear();
    stage.minute();
    stage.assert_lawful();
}

#[test]
fn a_raise_that_was_written_twice_and_lands_over_a_hand_does_not_count() {
    let mut stage = interrupted(prepared, is_commit_of("StepStarted"), |stage| {
        stage.world.state().ailing.insert("parameters.put_percentage", Fault::Late(1_000_000));
    });
    assert!(stage.rollout(FLOW).pending.is_some(), "{}", stage.story());
    stage.world.state().ailing.clear();
    stage.until(3, |s| s.offered(FLOW) == 5.0);
    stage.world.state().person_sets(&name(FLOW), "2");
    stage.world.state().land_all();
    stage.minute();
    assert_eq!((stage.phase(FLOW).name(), stage.offered(FLOW)), ("Paused", 2.0), "{}", stage.story());
    stage.assert_lawful();
}
