//! A function fails, times out or dies at every port call in turn; what runs next ends where nothing had happened.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use serin_acceptance::drive::{Stage, name, quick_policy, sequential_policy};
use serin_acceptance::world::Fault;
use serin_core::phase::{Event, Phase};
use serin_core::policy::{Minutes, Policy};

const FLOW: &str = "main_ivr";

/// Where a story ended: what must not depend on what went wrong on the way.
#[derive(Debug, PartialEq)]
struct End {
    phase: Phase,
    percentage: Option<String>,
    halted: bool,
    stable_runs: String,
    canary_runs: String,
    events: Vec<&'static str>,
    quarantined: usize,
}

/// Intents that a rerun may find recorded already, or record once more.
fn is_a_retry(event: &Event) -> bool {
    matches!(event, Event::RestorationDelayed { .. })
}

fn end(stage: &Stage) -> End {
    let events = stage.events(FLOW).iter().filter(|e| !is_a_retry(e)).map(Event::name).collect();
    let state = stage.world.state();
    End {
        phase: state.rollout(&name(FLOW)).unwrap().phase,
        percentage: state.projections[&name(FLOW)].seen.percentage.as_ref().map(|(text, _)| text.clone()),
        halted: state.projections[&name(FLOW)].seen.halt.is_some(),
        stable_runs: state.flows["main_ivr-stable"].configuration().to_owned(),
        canary_runs: state.flows["main_ivr-canary"].configuration().to_owned(),
        events,
        quarantined: state.quarantine.len(),
    }
}

fn opened(version: &str, policy: &Policy) -> Stage {
    let stage = Stage::new(&[FLOW]);
    stage.start(Stage::plan(FLOW, version, policy.clone())).unwrap();
    stage
}

/// Plays a rollout of a version to its end, and some minutes more.
fn play(version: &str, policy: &Policy, fault: Option<(usize, Fault)>) -> (Stage, End) {
    let mut stage = opened(version, policy);
    stage.world.state().faults.extend(fault);
    stage.until(120, |s| s.phase(FLOW).is_terminal());
    for _ in 0..4 {
        stage.minute();
    }
    stage.world.state().check_at_rest();
    stage.world.state().check_told();
    let end = end(&stage);
    (stage, end)
}

/// Every call of an undisturbed run, each disturbed in a run of its own.
fn disturbed_at_every_call(version: &str, fault: Fault) {
    disturbed_by(&quick_policy(), version, fault);
}

fn disturbed_by(policy: &Policy, version: &str, fault: Fault) {
    let (undisturbed, expected) = play(version, policy, None);
    undisturbed.assert_lawful();
    let opened = opened(version, policy).world.state().calls.len();
    let calls = undisturbed.world.state().calls.clone();
    for (number, call) in calls.iter().enumerate().skip(opened) {
        let (stage, reached) = play(version, policy, Some((number, fault)));
        let context = || format!("{fault:?} at call {number}, {} {} of {}\n{}", call.name, call.detail, call.process, stage.story());
        assert!(stage.world.state().faults.is_empty(), "the fault was met: {}", context());
        assert_eq!(reached, expected, "{}", context());
        assert!(stage.world.state().violations.is_empty(), "{}", context());
    }
    println!("version {version}: {} calls, each with {fault:?}; end: {:?}", calls.len() - opened, expected.phase);
}

#[test]
fn a_healthy_rollout_ends_the_same_after_a_crash_before_any_call() {
    disturbed_at_every_call("15.0", Fault::CrashBefore);
}

#[test]
fn a_healthy_rollout_ends_the_same_after_a_crash_behind_any_call() {
    disturbed_at_every_call("15.0", Fault::CrashAfter);
}

#[test]
fn a_healthy_rollout_ends_the_same_when_any_call_fails() {
    disturbed_at_every_call("15.0", Fault::Fail);
}

#[test]
fn a_healthy_rollout_ends_the_same_when_any_call_times_out_with_its_effect_done() {
    disturbed_at_every_call("15.0", Fault::TimeOut);
}

#[test]
fn a_healthy_rollout_ends_the_same_when_any_read_lags() {
    disturbed_at_every_call("15.0", Fault::Stale);
}

#[test]
fn a_healthy_rollout_ends_the_same_when_any_write_lands_after_its_time_out() {
    disturbed_at_every_call("15.0", Fault::Late(5));
}

#[test]
fn a_broken_rollout_ends_the_same_after_a_crash_before_any_call() {
    disturbed_at_every_call("16.0", Fault::CrashBefore);
}

#[test]
fn a_broken_rollout_ends_the_same_after_a_crash_behind_any_call() {
    disturbed_at_every_call("16.0", Fault::CrashAfter);
}

#[test]
fn a_broken_rollout_ends_the_same_when_any_call_fails() {
    disturbed_at_every_call("16.0", Fault::Fail);
}

#[test]
fn a_broken_rollout_ends_the_same_when_any_call_times_out_with_its_effect_done() {
    disturbed_at_every_call("16.0", Fault::TimeOut);
}

#[test]
fn a_broken_rollout_ends_the_same_when_any_read_lags() {
    disturbed_at_every_call("16.0", Fault::Stale);
}

#[test]
fn a_broken_rollout_ends_the_same_when_any_write_lands_after_its_time_out() {
    disturbed_at_every_call("16.0", Fault::Late(5));
}

/// Long enough for summaries to be kept.
#[test]
fn a_rollout_by_the_default_rule_ends_the_same_after_a_crash_behind_any_call() {
    let policy = Policy { bake_time: Minutes(10), step_cap: Minutes(600), ..sequential_policy() };
    for version in ["15.0", "16.0"] {
        disturbed_by(&policy, version, Fault::CrashAfter);
    }
}
