//! A person writes the percentage by hand in Parameter Store while a rollout runs.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, evaluator_tick, minutes, name, quick_policy, race};
use serin_controller::evaluate::RolloutClock;
use serin_controller::intervene::Action;
use serin_core::phase::{Event, Phase};
use serin_core::policy::Minutes;
use serin_core::policy::Policy;
use serin_core::rollout::Actor;
use serin_core::weight::Weight;

const FLOW: &str = "main_ivr";

/// A healthy rollout at 25 %, a minute in.
fn at_25() -> Stage {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until(30, |s| s.rollout(FLOW).in_force.weight.percent() == 25.0);
    stage.minute();
    assert_eq!(stage.offered(FLOW), 25.0);
    stage
}

fn writes(stage: &Stage, text: &str) {
    stage.world.state().person_sets(&name(FLOW), text);
}

fn is_paused_at(stage: &Stage, percent: f64) -> bool {
    matches!(stage.phase(FLOW), Phase::Paused { weight, .. } if weight.percent() == percent)
}

fn told(stage: &Stage, incident: &str) -> usize {
    stage.alerts().iter().filter(|a| a.incident_type == incident).count()
}

fn rest(stage: &mut Stage, for_minutes: u32) {
    for _ in 0..for_minutes {
        stage.minute();
        stage.world.state().check_at_rest();
    }
    stage.assert_lawful();
}

#[test]
fn a_lower_percentage_is_kept_the_rollout_pauses_and_people_are_told_once() {
    for (text, percent) in [("0", 0.0), ("2", 2.0), ("0.5", 0.5), (" 24.99 ", 24.99), ("25", 25.0)] {
        let mut stage = at_25();
        writes(&stage, text);
        rest(&mut stage, 20);
        assert!(is_paused_at(&stage, percent), "{text}: {}", stage.story());
        assert_eq!((stage.offered(FLOW), stage.percentage(FLOW).as_deref()), (percent, Some(text)));
        assert_eq!(told(&stage, "ROLLOUT_PAUSED"), 1);
        let by = stage.world.state().books[&name(FLOW)].entries.last().unwrap().entry.by.clone();
        assert_eq!(by, Actor::BreakGlass);
        // A person lets it go on, and it ends as if nothing had been.
        stage.person(FLOW, Action::Resume).unwrap().unwrap();
        stage.until_phase(FLOW, "Promoted", 60);
        stage.assert_lawful();
    }
}

#[test]
fn a_higher_percentage_is_contained_in_the_next_tick_and_said() {
    for text in ["26", "50", "100"] {
        let mut stage = at_25();
        writes(&stage, text);
        stage.pass_a_minute();
        let before = stage.world.state().calls.len();
        stage.evaluate().unwrap().unwrap();
        assert_eq!((stage.offered(FLOW), stage.is_halted(FLOW)), (0.0, true));
        let calls: Vec<&str> = stage.world.state().calls[before..].iter().map(|c| c.name).collect();
        let place = |name: &str| calls.iter().position(|c| *c == name).unwrap();
        assert!(place("parameters.put_halt") < place("ledger.commit"));
        assert!(place("parameters.put_percentage") < place("ledger.commit"));
        rest(&mut stage, 20);
        assert_eq!((stage.phase(FLOW), told(&stage, "ROLLOUT_CONTAMINATED")), (Phase::Contaminated, 1), "{text}");
        assert!(stage.world.state().quarantine.is_empty());
        stage.person(FLOW, Action::Abort).unwrap().unwrap();
        assert_eq!(stage.phase(FLOW), Phase::Aborted);
        rest(&mut stage, 2);
    }
}

#[test]
fn a_contaminated_rollout_that_nobody_comes_back_to_is_aborted_after_a_day() {
    let mut stage = at_25();
    writes(&stage, "100");
    stage.minute();
    let since = stage.world.state().now;
    stage.until_phase(FLOW, "Aborted", 24 * 60 + 2);
    assert!(stage.world.state().now.duration_since(since) >= minutes(24 * 60));
    stage.assert_lawful();
}

#[test]
fn what_is_no_percentage_is_0_and_the_rollout_pauses() {
    for text in ["5%", "", "abc", "-1", "101", "NaN", "1e1"] {
        let mut stage = at_25();
        writes(&stage, text);
        assert_eq!(stage.offered(FLOW), 0.0, "callers are safe before anybody looks");
        rest(&mut stage, 20);
        assert!(is_paused_at(&stage, 0.0), "`{text}`: {}", stage.story());
        assert_eq!(stage.percentage(FLOW).as_deref(), Some("0"));
        assert_eq!(told(&stage, "ROLLOUT_PAUSED"), 1);
        let paused = stage.event_names(FLOW).iter().filter(|e| **e == "Paused").count();
        assert!(paused <= 2, "{}", stage.story());
        stage.person(FLOW, Action::Resume).unwrap().unwrap();
        stage.until_phase(FLOW, "Promoted", 60);
        stage.assert_lawful();
    }
}

#[test]
fn a_deleted_percentage_is_0_and_the_rollout_pauses() {
    let mut stage = at_25();
    stage.world.state().person_deletes(&name(FLOW));
    assert_eq!(stage.offered(FLOW), 0.0);
    rest(&mut stage, 20);
    assert!(is_paused_at(&stage, 0.0), "{}", stage.story());
    assert_eq!((stage.percentage(FLOW).as_deref(), told(&stage, "ROLLOUT_PAUSED")), (Some("0"), 1));
    stage.person(FLOW, Action::Resume).unwrap().unwrap();
    stage.until_phase(FLOW, "Promoted", 60);
    stage.assert_lawful();
}

#[test]
fn a_pause_ends_by_its_expiry_whatever_was_written_meanwhile() {
    for texts in [&["2"][..], &["2", "2"], &["2", "1", "0", "0"], &["abc", "def"], &["0", "abc"]] {
        let mut stage = at_25();
        for text in texts {
            writes(&stage, text);
            rest(&mut stage, 3);
        }
        stage.until_phase(FLOW, "Aborted", 70);
        assert_eq!(stage.offered(FLOW), 0.0);
        assert!(stage.world.state().quarantine.is_empty());
        stage.assert_lawful();
    }
}

#[test]
fn a_higher_percentage_during_a_pause_is_contained() {
    let mut stage = at_25();
    writes(&stage, "2");
    rest(&mut stage, 3);
    writes(&stage, "10");
    rest(&mut stage, 1);
    assert_eq!((stage.phase(FLOW), stage.offered(FLOW)), (Phase::Contaminated, 0.0));
}

#[test]
fn a_percentage_written_after_the_end_is_put_back_to_0() {
    for version in ["15.0", "16.0"] {
        let mut stage = Stage::started(FLOW, version);
        stage.until(60, |s| s.phase(FLOW).is_terminal());
        writes(&stage, "50");
        rest(&mut stage, 2);
        assert_eq!((stage.offered(FLOW), stage.percentage(FLOW).as_deref()), (0.0, Some("0")));
    }
}

#[test]
fn a_percentage_written_while_the_next_rollout_prepares_is_put_back_to_0() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Promoted", 60);
    stage.start(Stage::plan(FLOW, "17.0", quick_policy())).unwrap();
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().locked_by = Some("Pat".into());
    stage.minute();
    writes(&stage, "50");
    stage.minute();
    assert_eq!(stage.phase(FLOW), Phase::Preparing);
    assert_eq!(stage.offered(FLOW), 0.0, "the split still names the rollout before: {}", stage.story());
}

#[test]
fn a_hand_that_lowers_while_serin_raises_wins_wherever_it_lands() {
    let mut stories = 0;
    for turn in 0..60 {
        let mut stage = at_25();
        stage.until(20, |s| {
            // The tick after this minute goes on to 50 %.
            let rollout = s.rollout(FLOW);
            s.world.state().now >= rollout.in_force.since + minutes(5)
        });
        stage.pass_a_minute();
        let (process, time) = (stage.world.process("evaluator"), stage.world.state().now);
        stage.world.state().interleaved = true;
        let mut polls = 0;
        let world = stage.world.clone();
        let hand = async move { world.state().person_sets(&name(FLOW), "2") };
        let _ = race(evaluator_tick(&process, time, RolloutClock::Wall), hand, || {
            polls += 1;
            polls <= turn
        });
        stage.world.state().interleaved = false;
        rest(&mut stage, 3);
        assert!(is_paused_at(&stage, 2.0), "turn {turn}: {}", stage.story());
        assert_eq!((stage.offered(FLOW), told(&stage, "ROLLOUT_PAUSED")), (2.0, 1));
        stories += 1;
    }
    println!("{stories} turns at which a hand came between");
}

#[test]
fn a_raise_that_lands_after_its_time_out_does_not_stand_over_a_hand_that_came_before_it() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until(30, |s| s.rollout(FLOW).in_force.weight.percent() == 5.0);
    // The raise to 25 % times out and lands after somebody lowered.
    stage.world.state().late_writes = true;
    while !stage.world.state().awaits_late_writes() {
        stage.pass_a_minute();
        stage.evaluate().unwrap().unwrap();
    }
    stage.world.state().late_writes = false;
    assert_eq!(stage.phase(FLOW), Phase::Stepping { weight: Weight::from_basis_points(2500).unwrap() });
    writes(&stage, "2");
    stage.world.state().land_all();
    assert_eq!(stage.offered(FLOW), 25.0);
    rest(&mut stage, 3);
    assert_eq!(stage.offered(FLOW), 2.0, "{}", stage.story());
    assert!(is_paused_at(&stage, 2.0));
}

#[test]
fn a_step_nobody_can_decide_is_handed_to_a_person_by_the_cap() {
    let mut stage = Stage::new(&[FLOW]);
    // Enough calls to see something every few minutes, too few canary calls for a verdict.
    stage.world.state().traffic.calls_per_minute = 10;
    stage.start(Stage::plan(FLOW, "15.0", Policy { step_cap: Minutes(20), ..quick_policy() })).unwrap();
    stage.until(40, |s| is_paused_at(s, 5.0));
    let last = stage.events(FLOW).pop().unwrap();
    assert!(matches!(&last, Event::Paused { reason, .. } if reason.contains("step_cap")), "{last:?}");
    rest(&mut stage, 3);
    stage.until_phase(FLOW, "Aborted", 70);
}

#[test]
fn a_step_that_looks_healthy_but_never_for_long_enough_is_handed_to_a_person_too() {
    let mut stage = Stage::new(&[FLOW]);
    stage.start(Stage::plan(FLOW, "15.0", Policy { bake_time: Minutes(15), ..quick_policy() })).unwrap();
    stage.until_phase(FLOW, "Stepping", 10);
    // Calls in one minute of six: fifteen minutes with data would take an hour and a half.
    for minute in 0..40 {
        stage.world.state().traffic.calls_per_minute = if minute % 6 == 0 { 1200 } else { 0 };
        stage.minute();
    }
    assert!(is_paused_at(&stage, 5.0), "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn parameters_that_cannot_be_read_blame_nobody_and_raise_nothing() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Preparing", 1);
    stage.until(5, |s| s.rollout(FLOW).canary_version.is_some());
    // The first raise is recorded and not written, then nothing can be read.
    writes(&stage, "0");
    stage.world.state().late_writes = true;
    stage.minute();
    stage.world.state().late_writes = false;
    assert!(stage.rollout(FLOW).pending.is_some());
    stage.world.state().outages.insert("parameters.read");
    let entries = stage.events(FLOW).len();
    for _ in 0..5 {
        stage.minute();
    }
    assert_eq!(stage.events(FLOW).len(), entries, "{}", stage.story());
    stage.world.state().outages.clear();
    stage.until_phase(FLOW, "Promoted", 60);
    stage.assert_lawful();
}

#[test]
fn a_percentage_set_to_0_while_finalizing_stops_the_promotion_before_the_stable_flow_is_touched() {
    let mut stage = Stage::promoted_until(FLOW, "Finalizing");
    let before = stage.world.state().flows["main_ivr-stable"].runs().to_owned();
    writes(&stage, "0");
    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(stage.world.state().flows["main_ivr-stable"].runs(), before);
    assert_eq!((stage.offered(FLOW), told(&stage, "ROLLBACK_TRIGGERED")), (0.0, 1));
    stage.assert_lawful();
}

#[test]
fn a_promotion_that_got_stuck_with_all_calls_on_the_canary_can_still_be_taken_back() {
    let mut stage = Stage::promoted_until(FLOW, "NeedsHuman");
    assert_eq!(stage.offered(FLOW), 100.0);
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 5);
    stage.assert_lawful();
}

#[test]
fn a_publish_by_hand_into_either_flow_is_contained_in_the_next_tick_and_says_who_did_it() {
    for slot in ["canary", "stable"] {
        for phase in ["Stepping", "Paused", "Baking"] {
            let mut stage = Stage::started(FLOW, "15.0");
            stage.until_phase(FLOW, if phase == "Baking" { "Baking" } else { "Stepping" }, 60);
            if phase == "Paused" {
                stage.person(FLOW, Action::Pause).unwrap().unwrap();
            }
            let id = format!("{FLOW}-{slot}");
            stage.world.state().flows.get_mut(&id).unwrap().versions.insert("18.0".into(), "good".into());
            stage.world.state().flows.get_mut(&id).unwrap().publish_by_hand("18.0", "Pat");
            stage.minute();
            stage.minute();
            assert_eq!(stage.phase(FLOW), Phase::Contaminated, "{slot} in {phase}\n{}", stage.story());
            assert_eq!((stage.offered(FLOW), stage.is_halted(FLOW)), (0.0, true));
            let alert = stage.alerts().into_iter().find(|a| a.incident_type == "ROLLOUT_CONTAMINATED").unwrap();
            for word in ["`Pat`", "18.0", slot, &id] {
                assert!(alert.reason.contains(word), "{word} in {}", alert.reason);
            }
            assert!(stage.world.state().quarantine.is_empty(), "nobody blames the canary");
            stage.assert_lawful();
        }
    }
}

#[test]
fn a_crash_between_containing_for_a_publish_by_hand_and_recording_it_publishes_nothing_over_it() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("17.0", "Pat");
    stage.world.state().outages.insert("ledger.commit");
    stage.minute();
    stage.minute();
    assert!(stage.is_halted(FLOW), "{}", stage.story());
    stage.world.state().outages.clear();
    stage.minute();
    assert_eq!(stage.phase(FLOW), Phase::Contaminated, "{}", stage.story());
    for _ in 0..10 {
        stage.minute();
    }
    assert_eq!(stage.world.state().flows["main_ivr-canary"].runs(), "17.0");
    stage.assert_lawful();
}

#[test]
fn nothing_rises_while_nobody_can_tell_what_the_flows_run() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.world.state().outages.insert("analytics.running");
    for _ in 0..12 {
        stage.minute();
    }
    assert_eq!(stage.rollout(FLOW).in_force.weight.percent(), 5.0, "{}", stage.story());
    let reason = stage.evaluate().unwrap().unwrap().flows[0].reason.clone();
    assert!(reason.contains("could not be read"), "{reason}");
    stage.world.state().outages.clear();
    stage.until_phase(FLOW, "Promoted", 60);
    stage.assert_lawful();
}

#[test]
fn of_many_rollouts_each_has_its_turn_to_be_looked_at_and_a_tick_stays_cheap() {
    let flows: Vec<String> = (0..35).map(|n| format!("flow_{n}")).collect();
    let names: Vec<&str> = flows.iter().map(String::as_str).collect();
    let mut stage = Stage::new(&names);
    for flow in &names {
        let policy = Policy { bake_time: Minutes(60), step_cap: Minutes(600), ..quick_policy() };
        stage.start(Stage::plan(flow, "15.0", policy)).unwrap();
    }
    stage.until(20, |s| names.iter().all(|f| s.rollout(f).in_force.weight > serin_core::weight::Weight::ZERO));
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let before = stage.world.state().calls.len();
        stage.minute();
        let state = stage.world.state();
        let asked: Vec<&str> = state.calls[before..].iter().filter(|c| c.name == "analytics.running").map(|c| c.detail.as_str()).collect();
        assert!(asked.len() <= 20, "{}", asked.len());
        asked.iter().for_each(|flow| *seen.entry((*flow).to_owned()).or_insert(0) += 1);
    }
    assert_eq!(seen.len(), 70, "both flows of each, within four minutes");
    stage.assert_lawful();
}
