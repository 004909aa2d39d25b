//! A rollout from its start to its end: healthy, broken, unseen, locked out, asked for twice.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, evaluator_tick, minutes, name, quick_policy, race, run};
use serin_acceptance::world::{Behavior, epoch};
use serin_controller::evaluate::{RolloutClock, TickError};
use serin_controller::intervene::{self, Action, Gate};
use serin_controller::ports::Topic;
use serin_core::alert::RollbackRequest;
use serin_core::phase::{Event, Phase};
use serin_core::policy::Policy;
use serin_core::rollout::Cause;
use std::collections::BTreeSet;

const FLOW: &str = "main_ivr";

fn weights(stage: &Stage) -> Vec<f64> {
    let applied = |e: &Event| match e {
        Event::WeightApplied { weight, .. } => Some(weight.percent()),
        _ => None,
    };
    stage.events(FLOW).iter().filter_map(applied).collect()
}

fn assert_promoted(stage: &mut Stage, stable_ran_before: &str) {
    assert_eq!(weights(stage), [5.0, 25.0, 50.0, 100.0]);
    assert_eq!(stage.percentage(FLOW).as_deref(), Some("0"));
    assert_eq!(stage.offered(FLOW), 0.0);
    {
        let state = stage.world.state();
        let (stable, canary) = (&state.flows["main_ivr-stable"], &state.flows["main_ivr-canary"]);
        assert_ne!(stable.runs(), stable_ran_before);
        assert_eq!(stable.configuration(), canary.configuration(), "the stable flow runs what was promoted");
        assert_eq!(state.registry(), [["main_ivr-stable", stable.runs(), "better"], ["main_ivr-canary", "15.0", "better"]]);
    }
    assert!(!stage.is_halted(FLOW), "nothing was contained");
    one_alert_per_transition(stage);
    stage.assert_lawful();
}

/// Law 6: one dedup key per change of phase, and each was told.
fn one_alert_per_transition(stage: &Stage) {
    let mut transitions = 0;
    let mut phase: Option<Phase> = None;
    let mut revisions = BTreeSet::new();
    for (n, event) in stage.events(FLOW).iter().enumerate() {
        let next = match (&phase, event) {
            (_, Event::Requested { .. }) => Phase::Preparing,
            (Some(phase), event) => phase.clone().after(event).unwrap(),
            (None, _) => panic!("the first entry is a request"),
        };
        if phase.as_ref() != Some(&next) {
            transitions += 1;
            revisions.insert(n as u64 + 1);
        }
        phase = Some(next);
    }
    let alerts = stage.alerts();
    let keys: BTreeSet<&str> = alerts.iter().map(|a| a.dedup_key.as_str()).collect();
    assert_eq!(keys.len(), transitions, "{keys:?}\n{}", stage.story());
    assert_eq!(alerts.iter().map(|a| a.revision).collect::<BTreeSet<u64>>(), revisions);
    stage.world.state().check_told();
}

#[test]
fn a_healthy_change_goes_5_25_50_100_bakes_and_is_finalized() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Promoted", 60);
    assert_promoted(&mut stage, "14.0");
}

#[test]
fn the_default_policy_takes_a_healthy_change_through_in_under_four_hours() {
    let mut stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.calls_per_minute = 130;
    stage.start(Stage::plan(FLOW, "15.0", Policy::default())).unwrap();
    let took = stage.until_phase(FLOW, "Promoted", 240);
    assert!(took > 120, "four times 30 minutes with data: {took}");
    assert_promoted(&mut stage, "14.0");
}

#[test]
fn calls_counted_when_they_end_do_not_make_a_young_cohort_look_broken() {
    let mut stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.call_minutes = 3;
    let policy = Policy { long_call: serin_core::policy::Minutes(4), ..quick_policy() };
    stage.start(Stage::plan(FLOW, "15.0", policy)).unwrap();
    stage.until_phase(FLOW, "Promoted", 90);
    assert_promoted(&mut stage, "14.0");
}

#[test]
fn the_clock_of_events_moves_rollouts_while_the_wall_clock_is_elsewhere() {
    let mut stage = Stage::new(&[FLOW]);
    stage.clock = RolloutClock::Event;
    stage.world.state().wall_ahead = minutes(60 * 24 * 400);
    stage.start(Stage::plan(FLOW, "15.0", quick_policy())).unwrap();
    stage.until_phase(FLOW, "Promoted", 60);
    assert_promoted(&mut stage, "14.0");
}

#[test]
fn a_broken_change_is_contained_in_the_tick_of_its_verdict_restored_and_quarantined() {
    let mut stage = Stage::started(FLOW, "16.0");
    stage.executor = true;
    stage.until_phase(FLOW, "Stepping", 10);
    // The executor rests, so that what the evaluator's tick does shows by itself.
    stage.executor = false;
    let mut before = 0;
    for _ in 0..20 {
        before = stage.world.state().calls.len();
        stage.minute();
        if stage.phase(FLOW) == Phase::RollingBack {
            break;
        }
    }
    let calls = stage.world.state().calls[before..].to_vec();
    let place = |name: &str, detail: &str| calls.iter().position(|c| c.name == name && c.detail.contains(detail)).unwrap();
    let halt = place("parameters.put_halt", "");
    let zero = place("parameters.put_percentage", "lower 0");
    let commit = place("ledger.commit", "RollbackStarted");
    let notice = place("notifier.publish", "");
    assert!(halt < zero && zero < commit && commit < notice, "{calls:#?}");
    assert!(!calls[..zero].iter().any(|c| c.name == "ledger.lease"), "no lease stands before containment");
    let measured = place("analytics.measure", "");
    assert!(!calls[measured..zero].iter().any(|c| c.name == "analytics.running"), "the vendor is asked nothing more before containment");
    assert_eq!((stage.offered(FLOW), stage.percentage(FLOW).as_deref()), (0.0, Some("0")));
    assert!(stage.is_halted(FLOW));
    let alert = stage.alerts().into_iter().find(|a| a.incident_type == "AUTO_ROLLBACK_TRIGGERED").unwrap();
    let rate = alert.error_rate_breach.unwrap();
    assert!((0.1..0.2).contains(&rate), "{rate}");

    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 2);
    assert_eq!(stage.world.state().flows["main_ivr-canary"].runs(), "13.0", "the rollback target runs again");
    one_alert_per_transition(&stage);

    // The lockout, by the gate and by the start.
    let rolled_back_at = stage.world.state().now;
    let refused = stage.start(Stage::plan(FLOW, "15.0", quick_policy())).unwrap_err().to_string();
    assert!(refused.contains("15 minutes") && refused.contains("nothing was changed"), "{refused}");
    let process = stage.world.process("gate");
    let now = stage.world.state().now;
    let gate = run(&process, intervene::gate(&process, &process, &name(FLOW), now, None)).unwrap().unwrap();
    assert!(matches!(gate, Gate::Lockout { .. }) && gate.exit_code() == 11, "{gate}");

    // After it, the same configuration is refused by its hash, and another one is not.
    stage.until(16, |s| s.world.state().now >= rolled_back_at + minutes(15));
    stage.start(Stage::plan(FLOW, "16.0", quick_policy())).unwrap();
    stage.until_phase(FLOW, "Failed", 3);
    let last = stage.events(FLOW).pop().unwrap();
    assert!(matches!(&last, Event::PreparationFailed { reason } if reason.contains("quarantined")), "{last:?}");
    assert_eq!(stage.world.state().flows["main_ivr-canary"].runs(), "13.0");
    stage.start(Stage::plan(FLOW, "15.0", quick_policy())).unwrap();
    stage.until_phase(FLOW, "Promoted", 60);
    stage.assert_lawful();
}

#[test]
fn without_an_executor_and_with_every_notice_failing_a_broken_change_is_contained_in_the_same_tick() {
    let mut stage = Stage::started(FLOW, "16.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.executor = false;
    stage.world.state().outages.insert("notifier");
    stage.until(20, |s| s.phase(FLOW) == Phase::RollingBack);
    assert_eq!(stage.offered(FLOW), 0.0);
    assert_eq!(stage.percentage(FLOW).as_deref(), Some("0"));
    // Nobody restores: a person is called by the deadline, and calls stay on stable.
    stage.until_phase(FLOW, "NeedsHuman", 7);
    assert_eq!(stage.offered(FLOW), 0.0);
    assert!(stage.start(Stage::plan(FLOW, "15.0", quick_policy())).is_err(), "a person must clear it first");
    // What could not be told is told once it can.
    stage.world.state().outages.clear();
    stage.minute();
    stage.world.state().check_told();
    stage.person(FLOW, Action::Clear).unwrap().unwrap();
    assert_eq!(stage.phase(FLOW), Phase::Aborted);
    stage.assert_lawful();
}

#[test]
fn two_evaluators_at_the_same_time_make_one_transition_and_one_raise() {
    // How many turns a tick that raises takes, for the schedules below.
    let mut interleavings = 0;
    for version in ["15.0", "16.0"] {
        for turn in 0..120 {
            let mut stage = Stage::started(FLOW, version);
            stage.until_phase(FLOW, "Stepping", 10);
            let entries = stage.events(FLOW).len();
            // To the tick before something is decided.
            let mut ready = None;
            for _ in 0..30 {
                stage.pass_a_minute();
                let (a, b) = (stage.world.process("evaluator"), stage.world.process("evaluator"));
                let time = stage.world.state().now;
                stage.world.state().interleaved = true;
                let mut polls = 0;
                // `a` goes so far, then `b` runs through, then `a` ends; odd turns take alternate steps after that.
                let order = || {
                    polls += 1;
                    if turn % 2 == 0 { polls <= turn } else { polls <= turn || polls % 2 == 0 }
                };
                let before = stage.world.state().calls.len();
                let (first, second) =
                    race(evaluator_tick(&a, time, RolloutClock::Wall), evaluator_tick(&b, time, RolloutClock::Wall), order);
                first.unwrap();
                second.unwrap();
                stage.world.state().interleaved = false;
                if stage.events(FLOW).len() > entries {
                    ready = Some(before);
                    break;
                }
            }
            let before = ready.expect("something is decided within half an hour");
            let new = stage.event_names(FLOW)[entries..].to_vec();
            let calls = stage.world.state().calls[before..].to_vec();
            let raises = calls.iter().filter(|c| c.detail.contains("raise")).count();
            match version {
                "15.0" => assert_eq!((new.as_slice(), raises), (["StepStarted", "WeightApplied"].as_slice(), 1), "turn {turn}"),
                _ => assert_eq!((new.as_slice(), raises), (["RollbackStarted"].as_slice(), 0), "turn {turn}"),
            }
            let _ = stage.evaluate();
            one_alert_per_transition(&stage);
            stage.assert_lawful();
            interleavings += 1;
        }
    }
    println!("{interleavings} interleavings of two evaluators");
}

#[test]
fn no_analytics_for_longer_than_max_blind_ends_in_containment_without_blame() {
    for silent in [false, true] {
        for (phase, version) in [("Stepping", "15.0"), ("Baking", "15.0"), ("Stepping", "16.0")] {
            let mut stage = Stage::started(FLOW, version);
            stage.until_phase(FLOW, phase, 60);
            let entries = stage.events(FLOW).len();
            match silent {
                true => stage.world.state().traffic.silent = true,
                false => drop(stage.world.state().outages.insert("analytics")),
            }
            let took = stage.until_phase(FLOW, "Aborted", 30);
            assert!(took > 9, "{took} minutes");
            let new: Vec<&str> = stage.event_names(FLOW)[entries..].iter().copied().filter(|e| *e != "WeightApplied").collect();
            assert_eq!(new, ["Aborted"], "{}", stage.story());
            assert!(matches!(stage.events(FLOW).pop(), Some(Event::Aborted { reason }) if reason.contains("max_blind")));
            assert!(stage.world.state().quarantine.is_empty(), "silence blames nobody");
            assert_eq!((stage.offered(FLOW), stage.is_halted(FLOW)), (0.0, true));
            stage.assert_lawful();
        }
    }
}

#[test]
fn a_crash_between_containing_for_silence_and_recording_it_blames_nobody_either() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.world.state().outages.insert("analytics");
    stage.until(12, |s| s.rollout(FLOW).in_force.since + minutes(10) <= s.world.state().now);
    stage.world.state().outages.insert("ledger.commit");
    stage.minute();
    stage.minute();
    assert!(stage.is_halted(FLOW), "{}", stage.story());
    stage.world.state().outages.remove("ledger.commit");
    stage.minute();
    assert_eq!(stage.phase(FLOW), Phase::Aborted, "{}", stage.story());
    assert!(stage.world.state().quarantine.is_empty());
}

#[test]
fn a_persons_lock_is_waited_for_three_times_and_then_its_holder_is_named() {
    let mut stage = Stage::started(FLOW, "16.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().locked_by = Some("Pat".into());
    stage.until_phase(FLOW, "RollingBack", 20);
    assert_eq!(stage.offered(FLOW), 0.0, "no lock stands before containment");
    stage.until_phase(FLOW, "NeedsHuman", 8);
    let waits: Vec<_> = {
        let state = stage.world.state();
        let entries = &state.books[&name(FLOW)].entries;
        entries.iter().filter(|s| matches!(s.entry.event, Event::RestorationDelayed { .. })).map(|s| s.entry.at).collect()
    };
    assert_eq!(waits.len(), 3, "{}", stage.story());
    assert!(waits.windows(2).all(|pair| pair[1].duration_since(pair[0]) >= minutes(1)), "{waits:?}");
    assert!(waits.windows(2).all(|pair| pair[1].duration_since(pair[0]) <= minutes(2)), "{waits:?}");
    let reason = stage.alerts().into_iter().rfind(|a| a.incident_type == "HUMAN_NEEDED").unwrap().reason;
    assert!(reason.contains("Pat"), "{reason}");
    assert_eq!(stage.offered(FLOW), 0.0);
    assert_eq!(stage.world.state().flows["main_ivr-canary"].locked_by.as_deref(), Some("Pat"), "never unlocked by force");
    one_alert_per_transition(&stage);
    stage.assert_lawful();
}

#[test]
fn a_lock_that_is_given_back_lets_the_restoration_end() {
    let mut stage = Stage::started(FLOW, "16.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().locked_by = Some("Pat".into());
    stage.until(20, |s| s.rollout(FLOW).restoration.lock_tries == 2);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().locked_by = None;
    stage.until_phase(FLOW, "RolledBack", 3);
    stage.assert_lawful();
}

#[test]
fn after_a_lock_was_met_the_restoration_still_has_a_deadline() {
    let mut stage = Stage::started(FLOW, "16.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().locked_by = Some("Pat".into());
    stage.until(20, |s| s.rollout(FLOW).restoration.lock_tries == 1);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().locked_by = None;
    stage.world.state().outages.insert("flows");
    stage.until_phase(FLOW, "NeedsHuman", 10);
    assert_eq!(stage.offered(FLOW), 0.0);
}

#[test]
fn a_tick_repeated_changes_nothing_and_ticks_missed_are_made_up_for() {
    let (mut once, mut often) = (Stage::started(FLOW, "15.0"), Stage::started(FLOW, "15.0"));
    for minute in 0..60 {
        once.minute();
        often.pass_a_minute();
        for _ in 0..10 {
            often.evaluate().unwrap().unwrap();
        }
        often.work().unwrap().unwrap();
        often.deliver();
        assert_eq!(once.percentage(FLOW), often.percentage(FLOW), "minute {minute}");
    }
    assert_eq!(once.event_names(FLOW), often.event_names(FLOW));
    assert_eq!(often.phase(FLOW), Phase::Promoted);
    one_alert_per_transition(&often);

    let mut gap = Stage::new(&[FLOW]);
    let policy = Policy { max_blind: serin_core::policy::Minutes(60), ..quick_policy() };
    gap.start(Stage::plan(FLOW, "15.0", policy)).unwrap();
    gap.until_phase(FLOW, "Stepping", 10);
    gap.minute();
    let asleep_until = gap.world.state().now + minutes(20);
    gap.world.advance_to(asleep_until);
    let answer = gap.world.state().answer(&name(FLOW), "any");
    assert_eq!(answer.weight.percent(), 0.0, "nobody watched for 20 minutes: the dead man's answer is stable");
    gap.minute();
    assert!(gap.offered(FLOW) > 0.0);
    gap.until_phase(FLOW, "Promoted", 60);
    gap.assert_lawful();
}

#[test]
fn event_times_too_far_off_or_older_than_the_last_tick_are_refused_and_nothing_is_done() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Stepping", 10);
    let now = stage.world.state().now;
    let entries = stage.events(FLOW).len();
    for time in [now - minutes(3), now + minutes(3), now - minutes(1)] {
        let process = stage.world.process("evaluator");
        let refused = run(&process, evaluator_tick(&process, time, RolloutClock::Wall)).unwrap();
        assert!(matches!(refused, Err(TickError::Untimely { .. })), "{time}");
    }
    let process = stage.world.process("evaluator");
    let refused = run(&process, evaluator_tick(&process, now - minutes(1), RolloutClock::Event)).unwrap();
    assert!(matches!(refused, Err(TickError::Untimely { .. })));
    assert_eq!(stage.events(FLOW).len(), entries);
    assert!(!stage.world.state().calls.iter().any(|c| c.process == process.name && c.name != "ledger.last_tick"));
    let process = stage.world.process("evaluator");
    run(&process, evaluator_tick(&process, now, RolloutClock::Wall)).unwrap().unwrap();
}

#[test]
fn a_rollback_asked_for_by_message_is_done_once_however_often_it_is_sent() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Stepping", 10);
    let request = RollbackRequest {
        flow: name(FLOW),
        rollout: None,
        reason: "callers complain".into(),
        requested_by: "sam".into(),
        at: None,
        by_alarm: false,
    };
    let sent = stage.world.state().wall();
    let opened = epoch() - minutes(1);
    let old = stage.serve(&request, opened).unwrap().unwrap();
    assert!(old.step.contains("nothing done"), "older than the rollout: {old:?}");
    for _ in 0..3 {
        stage.serve(&request, sent).unwrap().unwrap();
        assert_eq!(stage.offered(FLOW), 0.0);
    }
    stage.until_phase(FLOW, "RolledBack", 3);
    let started = stage.events(FLOW).into_iter().filter(|e| matches!(e, Event::RollbackStarted { cause: Cause::Requested { .. } })).count();
    assert_eq!(started, 1);
    let wake_ups = stage.world.state().told.iter().filter(|n| n.topic == Topic::Rollback).map(|n| n.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(wake_ups.len(), 1);
    one_alert_per_transition(&stage);
    stage.assert_lawful();
}

#[test]
fn two_broken_flows_are_contained_together_and_restored_one_after_the_other() {
    let mut stage = Stage::new(&["main_ivr", "sales_ivr"]);
    for flow in ["main_ivr", "sales_ivr"] {
        stage.start(Stage::plan(flow, "16.0", quick_policy())).unwrap();
    }
    stage.until(30, |s| s.phase("main_ivr").is_terminal() && s.phase("sales_ivr").is_terminal());
    assert_eq!((stage.phase("main_ivr"), stage.phase("sales_ivr")), (Phase::RolledBack, Phase::RolledBack));
    let state = stage.world.state();
    let writes: Vec<&str> = state.calls.iter().filter(|c| c.name.starts_with("parameters.put_")).map(|c| c.name).collect();
    let last_halt = writes.iter().rposition(|n| *n == "parameters.put_halt").unwrap();
    assert_eq!(
        writes[last_halt - 1..=last_halt + 2],
        ["parameters.put_halt", "parameters.put_halt", "parameters.put_percentage", "parameters.put_percentage"],
        "all halts before any percentage"
    );
    drop(state);
    stage.assert_lawful();
}

#[test]
fn a_canary_that_breaks_while_paused_or_at_100_percent_is_rolled_back() {
    for at in ["Paused", "Baking"] {
        let mut stage = Stage::started(FLOW, "15.0");
        stage.until_phase(FLOW, if at == "Paused" { "Stepping" } else { "Baking" }, 60);
        stage.minute();
        if at == "Paused" {
            stage.person(FLOW, Action::Pause).unwrap().unwrap();
        }
        let broken = Behavior { error: 0.3, abandon: 0.06, transfer: 0.2 };
        stage.world.state().traffic.behavior.insert("better".into(), broken);
        stage.until_phase(FLOW, "RolledBack", 20);
        assert_eq!(stage.offered(FLOW), 0.0);
        stage.assert_lawful();
    }
}

#[test]
fn a_rollback_asked_for_while_finalizing_puts_the_stable_flow_back_too() {
    let mut stage = Stage::promoted_until(FLOW, "Finalizing");
    let before = stage.world.state().flows["main_ivr-stable"].runs().to_owned();
    // The stable flow gets the version, and the run stops before calls return to it.
    stage.world.state().outages.insert("parameters.put_percentage");
    stage.executor = true;
    stage.until(5, |s| s.events(FLOW).iter().any(|e| matches!(e, Event::StablePublished { .. })));
    stage.world.state().outages.clear();
    stage.executor = false;
    assert_ne!(stage.world.state().flows["main_ivr-stable"].runs(), before);
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(stage.world.state().flows["main_ivr-stable"].runs(), before, "callers are on the stable flow");
    stage.assert_lawful();
}

#[test]
fn a_persons_abort_that_meets_a_tick_keeps_its_author_and_blames_nobody() {
    let mut found = 0;
    for turn in 0..60 {
        let mut stage = Stage::started(FLOW, "15.0");
        stage.until_phase(FLOW, "Stepping", 10);
        stage.pass_a_minute();
        let (person, tick) = (stage.world.process("cli"), stage.world.process("evaluator"));
        let (flow, request, time) = (name(FLOW), stage.request("it looks odd"), stage.world.state().now);
        stage.world.state().interleaved = true;
        let mut polls = 0;
        let order = || {
            polls += 1;
            // The person goes so far, the tick takes some steps, then both in turns.
            polls <= turn || (polls > turn + 12 && polls % 2 == 0)
        };
        let abort = intervene::intervene(&person, &person, &person, &person, &flow, Action::Abort, &request);
        let (aborted, ticked) = race(abort, evaluator_tick(&tick, time, RolloutClock::Wall), order);
        stage.world.state().interleaved = false;
        ticked.unwrap();
        assert_eq!(aborted.unwrap().phase, Phase::Aborted, "turn {turn}");
        assert!(!stage.event_names(FLOW).contains(&"RollbackStarted"), "turn {turn}");
        found += usize::from(stage.offered(FLOW) == 0.0);
        stage.assert_lawful();
    }
    assert_eq!(found, 60);
}
