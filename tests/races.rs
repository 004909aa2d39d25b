//! What only shows at the right moment: something happens just before one call of a tick, or fails in the one minute in which it matters.
#![allow(clippy::unwrap_used)]

use jiff::SignedDuration;
use serin_acceptance::drive::{
    Running, Stage, a_turn, evaluator_tick, every_order, executor_tick, in_turns, minutes, name, quick_policy, race, run, sequential_policy,
};
use serin_acceptance::world::{Call, Fault, TABLE, Way};
use serin_controller::evaluate::RolloutClock;
use serin_controller::intervene::{self, Action, Gate, InterventionError, Request};
use serin_controller::ports::LedgerError;
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
    stage.pass_a_minute();
    let report = stage.evaluate().unwrap().unwrap();
    assert_eq!((report.listed, report.missed), (1, 1));
    assert_eq!(stage.world.state().heartbeat, before);
    stage.world.state().outages.clear();
    stage.minute();
    assert!(stage.world.state().heartbeat > before);
}

#[test]
fn each_tick_has_the_copy_follow_what_it_read_and_says_that_all_is_well_only_if_it_does() {
    let mut stage = prepared();
    stage.until_phase(FLOW, "Stepping", 5);
    stage.world.state().followed.clear();
    stage.pass_a_minute();
    stage.evaluate().unwrap().unwrap();
    assert_eq!(std::mem::take(&mut stage.world.state().followed), [[name(FLOW)]], "once, with what could be read");
    stage.world.state().outages.insert("parameters.read");
    stage.pass_a_minute();
    stage.evaluate().unwrap().unwrap();
    assert_eq!(stage.world.state().followed, [[]], "and with nothing else");
    stage.world.state().outages.clear();

    let before = stage.world.state().heartbeat;
    stage.world.state().outages.insert("parameters.follow");
    stage.pass_a_minute();
    let report = stage.evaluate().unwrap().unwrap();
    assert!(report.unwell[0].starts_with("the copy does not follow: parameter main_ivr"), "{:?}", report.unwell);
    assert_eq!((stage.world.state().heartbeat, report.missed, report.flows.len()), (before, 0, 1), "everything else is done");
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
fn nothing_is_published_where_a_row_of_the_rollout_before_still_sends_the_calls_though_it_reads_otherwise() {
    let mut stage = prepared_by_row();
    stage.until(3, |s| s.world.state().pointed_weight(&name(FLOW)).percent() == 100.0);
    // The write that takes the calls back does not arrive, and a read shows what stood before the raise.
    stage.world.state().ailing.insert("rows.point", Fault::Late(1_000_000));
    stage.person(FLOW, Action::Abort).unwrap().unwrap();
    stage.world.state().ailing.clear();
    assert_eq!(stage.world.state().pointed_weight(&name(FLOW)).percent(), 100.0);
    let plan = Stage::plan(FLOW, "17.0", sequential_policy());
    stage.start(Plan { strategy: Strategy::Pointer, pointer: Some(PointerTable { table: TABLE.into() }), ..plan }).unwrap();
    stage.world.state().ailing.insert("rows.pointer", Fault::Stale);
    stage.minute();
    assert_eq!(stage.world.state().pointed_weight(&name(FLOW)).percent(), 0.0, "{}", stage.story());
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

/// A flow with a rollout that is over, or with none yet.
fn may_be_deployed(had_one: bool) -> Stage {
    if !had_one {
        return Stage::new(&[FLOW]);
    }
    let stage = Stage::started(FLOW, "15.0");
    stage.person(FLOW, Action::Abort).unwrap().unwrap();
    stage
}

fn holds(stage: &Stage, holder: &'static str) -> impl Future<Output = Result<Gate, LedgerError>> {
    let (process, now) = (stage.world.process("gate"), stage.rollout_now());
    async move { intervene::hold_gate(&process, &process, &name(FLOW), now, holder, minutes(10)).await }
}

fn starts(stage: &Stage, holder: Option<&'static str>) -> impl Future<Output = Result<String, InterventionError>> {
    let process = stage.world.process("cli");
    let request = Request { by: process.name.clone(), holder: holder.map(str::to_owned), ..stage.request("a release") };
    async move { intervene::start(&process, &process, &process, Stage::plan(FLOW, "15.0", quick_policy()), &request).await }
}

/// The answer that a closed gate gives whoever asks without holding it.
fn closed(stage: &Stage) -> String {
    let gate = stage.gate(FLOW, None);
    assert_eq!(gate.exit_code(), 10, "{gate}");
    gate.to_string()
}

#[test]
fn of_two_pipelines_at_the_gate_one_passes_in_every_order_of_their_calls() {
    for had_one in [false, true] {
        let orders = every_order(|next| {
            let stage = may_be_deployed(had_one);
            stage.world.state().interleaved = true;
            let (a, b) = race(holds(&stage, "build/1"), holds(&stage, "build/2"), next);
            stage.world.state().interleaved = false;
            let (passed, refused) = match (a.unwrap(), b.unwrap()) {
                (Gate::Open, refused) => ("build/1", refused),
                (refused, Gate::Open) => ("build/2", refused),
                neither => panic!("{neither:?}"),
            };
            assert!(matches!(&refused, Gate::Held { holder, .. } if holder == passed) && refused.exit_code() == 10, "{refused:?}");
            assert!(closed(&stage).contains(passed));
        });
        assert!(orders > 20, "{orders}");
    }
}

#[test]
fn of_a_hold_and_a_start_one_passes_in_every_order_of_their_calls() {
    for had_one in [false, true] {
        let (mut held, mut started) = (0, 0);
        let orders = every_order(|next| {
            let stage = may_be_deployed(had_one);
            let before = stage.world.state().books.get(&name(FLOW)).map_or(0, |book| book.entries.len());
            let (hold, start) = {
                stage.world.state().interleaved = true;
                let mut start = Box::pin(starts(&stage, None));
                // Its first look is for those who would be refused anyway.
                while stage.world.state().calls.last().is_none_or(|call| call.name != "ledger.restrictions") {
                    assert!(start.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                }
                race(holds(&stage, "build/1"), start, next)
            };
            stage.world.state().interleaved = false;
            let recorded = stage.world.state().books[&name(FLOW)].entries.len() - before;
            match (&hold, &start) {
                (Ok(Gate::Open), Err(InterventionError::Refused(why))) => {
                    held += 1;
                    assert!(recorded == 0 && why.contains("build/1 holds it"), "{why}");
                }
                // Somebody was at the gate for as long as it was asked: it could not tell, which is a no.
                (Ok(Gate::RolloutUnfinished { .. }) | Err(LedgerError::Lost { .. }), Ok(_)) => {
                    started += 1;
                    assert_eq!(recorded, 1);
                }
                both => panic!("{both:?}: {}", stage.story()),
            }
            stage.assert_lawful();
        });
        assert!(held > 0 && started > 100, "{held} and {started} of {orders}");
    }
}

#[test]
fn of_two_rollouts_one_starts_in_every_order_of_their_calls() {
    let orders = every_order(|next| {
        let stage = may_be_deployed(true);
        let before = stage.events(FLOW).len();
        stage.world.state().interleaved = true;
        let (a, b) = race(starts(&stage, None), starts(&stage, None), next);
        stage.world.state().interleaved = false;
        assert!(a.is_ok() != b.is_ok(), "{a:?} and {b:?}");
        assert_eq!(stage.events(FLOW).len(), before + 1);
        stage.assert_lawful();
    });
    assert!(orders > 100, "{orders}");
}

#[test]
fn whoever_holds_the_gate_starts_a_rollout_and_nobody_else_does() {
    let stage = may_be_deployed(true);
    assert_eq!(stage.hold(FLOW, "build/1").unwrap().unwrap(), Gate::Open);
    let process = stage.world.process("cli");
    for stranger in [None, Some("build/2")] {
        let refused = run(&process, starts(&stage, stranger)).unwrap().unwrap_err().to_string();
        assert!(refused.contains("build/1 holds it until") && refused.contains("nothing was changed"), "{refused}");
    }
    // As often as it likes, and then for longer.
    stage.world.state().now += minutes(9);
    assert_eq!(stage.hold(FLOW, "build/1").unwrap().unwrap(), Gate::Open);
    stage.world.state().now += minutes(9);
    assert_eq!(stage.gate(FLOW, Some("build/1")), Gate::Open);
    assert!(closed(&stage).contains("build/1"));
    run(&process, starts(&stage, Some("build/1"))).unwrap().unwrap();
    assert!(matches!(stage.hold(FLOW, "build/1").unwrap().unwrap(), Gate::RolloutUnfinished { .. }), "its own rollout closes it too");
    stage.assert_lawful();
}

#[test]
fn a_hold_ends_when_it_is_given_back_or_over_and_no_hold_lasts_longer_than_a_day() {
    let stage = may_be_deployed(true);
    assert_eq!(stage.hold(FLOW, "build/1").unwrap().unwrap(), Gate::Open);
    let process = stage.world.process("gate");
    let gives_back = |holder| run(&process, intervene::release_gate(&process, &name(FLOW), holder)).unwrap().unwrap();
    assert!(!gives_back("build/2"), "only its holder gives it back");
    assert!(closed(&stage).contains("build/1"));
    assert!(gives_back("build/1") && !gives_back("build/1"));
    assert_eq!(stage.gate(FLOW, None), Gate::Open);

    assert_eq!(stage.hold(FLOW, "build/2").unwrap().unwrap(), Gate::Open);
    stage.world.state().now += minutes(10);
    assert_eq!((stage.gate(FLOW, None), stage.hold(FLOW, "build/3").unwrap().unwrap()), (Gate::Open, Gate::Open));

    let (flow, now) = (name(FLOW), stage.rollout_now());
    let forever = intervene::hold_gate(&process, &process, &flow, now, "build/3", minutes(60 * 24 * 365));
    assert_eq!(run(&process, forever).unwrap().unwrap(), Gate::Open);
    let until = stage.world.state().books[&name(FLOW)].hold.clone().unwrap().until;
    assert_eq!(until, now + minutes(60 * 24));
}

#[test]
fn whoever_was_held_up_past_its_lease_starts_nothing_over_a_hold() {
    let stage = may_be_deployed(true);
    let before = stage.events(FLOW).len();
    stage.world.state().interleaved = true;
    {
        let process = stage.world.process("cli");
        let (request, plan) = (stage.request("a release"), Stage::plan(FLOW, "15.0", quick_policy()));
        let mut held: Running<'_> = Box::pin(async {
            let lost = intervene::start(&process, &process, &process, plan, &request).await;
            assert!(matches!(lost, Err(InterventionError::Ledger(LedgerError::Lost { .. }))), "{lost:?}");
        });
        // Both looks found the gate open; what is left is the commit.
        while stage.world.state().calls.iter().filter(|call| call.name == "ledger.restrictions" && call.process == process.name).count() < 2
        {
            assert!(!a_turn(&mut held));
        }
        stage.world.state().now += minutes(1);
        stage.world.state().interleaved = false;
        assert_eq!(stage.hold(FLOW, "build/1").unwrap().unwrap(), Gate::Open);
        in_turns(vec![held], |_| 0);
    }
    assert_eq!(stage.events(FLOW).len(), before, "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn a_gate_that_somebody_is_at_says_so_after_a_moment_and_a_hold_that_timed_out_is_ours_when_asked_again() {
    let stage = may_be_deployed(true);
    stage.world.state().ailing.insert("ledger.hold", Fault::TimeOut);
    assert!(matches!(stage.hold(FLOW, "build/1").unwrap(), Err(LedgerError::Unavailable(_))));
    stage.world.state().ailing.clear();
    assert_eq!(stage.hold(FLOW, "build/1").unwrap().unwrap(), Gate::Open);
    assert!(closed(&stage).contains("build/1"));

    let stage = may_be_deployed(true);
    let process = stage.world.process("evaluator");
    let now = stage.world.state().wall();
    run(&process, serin_controller::ports::Ledger::lease(&process, &name(FLOW), "a tick", now, now + minutes(1))).unwrap().unwrap();
    let asked = stage.hold(FLOW, "build/1").unwrap();
    assert!(matches!(asked, Err(LedgerError::Lost { .. })), "{asked:?}");
    let took = stage.world.state().wall().duration_since(now);
    assert!(took <= SignedDuration::from_millis(200), "{took:#}");
}
