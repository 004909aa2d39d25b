//! Maintenance windows, freezes and the stop of everything, in whole rollouts; and the day on which both cohorts fail.
#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use serin_acceptance::drive::{Stage, minutes, name, run, sequential_policy};
use serin_acceptance::world::{Behavior, Way};
use serin_controller::intervene::{Action, Gate, InterventionError, gate, lift, stop_all};
use serin_controller::work::Worked;
use serin_core::alert::{Alert, RollbackRequest, Severity};
use serin_core::calendar::{Kind, Restriction, When};
use serin_core::ledger::BrokenLedger;
use serin_core::phase::Phase;
use serin_core::policy::{Minutes, Policy};
use serin_core::rollout::{FlowName, Plan, Rollout, Strategy};

const FLOW: &str = "main_ivr";
const EXPECTED: Kind = Kind::Maintenance { contain: false };

/// For so many minutes from now on.
fn restrict(stage: &Stage, kind: Kind, flow: Option<&str>, lasting: i64) {
    let from = stage.world.state().now;
    let when = When::Once { from, until: Some(from + minutes(lasting)) };
    let (id, flow) = (format!("{}-1", kind.name()), flow.map(name));
    let restriction = Restriction { id, kind, flow, when, reason: "the carrier works".into(), by: "sam".into(), ended: None };
    stage.world.state().restrictions.push(restriction);
}

fn at_25_percent(version: &str) -> Stage {
    let mut stage = Stage::new(&[FLOW]);
    stage.start(Stage::plan(FLOW, version, Policy { step_cap: Minutes(600), ..sequential_policy() })).unwrap();
    stage.until(60, |s| s.rollout(FLOW).in_force.weight.percent() == 25.0);
    stage
}

fn alert(stage: &Stage, kind: &str) -> Option<Alert> {
    stage.alerts().into_iter().find(|alert| alert.incident_type == kind)
}

fn break_canary(stage: &Stage) {
    stage.world.state().traffic.behavior.insert("better".into(), Behavior { error: 0.4, abandon: 0.06, transfer: 0.2 });
}

/// A message on the rollback topic, from an alarm or a person.
fn asked(stage: &Stage, by_alarm: bool) -> Worked {
    let (reason, requested_by) = ("errors above 5 %".into(), "alarm ivr-errors".into());
    let request = RollbackRequest { flow: name(FLOW), rollout: None, reason, requested_by, at: None, by_alarm };
    let sent = stage.world.state().wall();
    stage.serve(&request, sent).unwrap().unwrap()
}

fn the_gate(stage: &Stage) -> Gate {
    let (process, now) = (stage.world.process("cli"), stage.world.state().now);
    run(&process, gate(&process, &process, &name(FLOW), now, None)).unwrap().unwrap()
}

#[test]
fn in_maintenance_a_broken_canary_keeps_its_calls_and_that_is_told_once() {
    let mut stage = at_25_percent("15.0");
    restrict(&stage, EXPECTED, None, 30);
    break_canary(&stage);
    stage.until(20, |s| s.event_names(FLOW).contains(&"RollbackWithheld"));
    (0..8).for_each(|_| stage.minute());
    assert_eq!((stage.rollout(FLOW).phase, stage.offered(FLOW)), (Phase::Stepping { weight: "25".parse().unwrap() }, 25.0));
    assert_eq!(stage.alerts().iter().filter(|alert| alert.incident_type == "ROLLBACK_WITHHELD").count(), 1);
    let told = alert(&stage, "ROLLBACK_WITHHELD").unwrap();
    assert!(told.reason.contains("maintenance-1") && told.reason.contains("the carrier works"), "{}", told.reason);
    // When it is over, what is still so is acted on.
    stage.until_phase(FLOW, "RolledBack", 30);
    stage.assert_lawful();
}

#[test]
fn in_maintenance_a_hand_on_the_percentage_is_heeded_as_ever() {
    for (written, kept) in [("5", 5.0), ("100", 25.0), ("nothing", 0.0)] {
        let mut stage = at_25_percent("15.0");
        restrict(&stage, EXPECTED, None, 600);
        break_canary(&stage);
        stage.until(20, |s| s.event_names(FLOW).contains(&"RollbackWithheld"));
        stage.world.state().person_sets(&name(FLOW), written);
        (0..3).for_each(|_| stage.minute());
        assert_ne!(stage.phase(FLOW).name(), "Stepping", "{written}: {}", stage.story());
        assert!(stage.offered(FLOW) <= kept, "{written}: {}", stage.story());
        stage.assert_lawful();
    }
}

#[test]
fn in_maintenance_a_person_takes_calls_back_as_ever() {
    let mut stage = at_25_percent("15.0");
    restrict(&stage, EXPECTED, Some(FLOW), 600);
    break_canary(&stage);
    stage.until(20, |s| s.event_names(FLOW).contains(&"RollbackWithheld"));
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.until_phase(FLOW, "RolledBack", 5);
    stage.assert_lawful();
}

#[test]
fn maintenance_that_contains_pauses_on_stable_and_blames_nobody() {
    let mut stage = at_25_percent("15.0");
    restrict(&stage, Kind::Maintenance { contain: true }, None, 600);
    break_canary(&stage);
    stage.until_phase(FLOW, "Paused", 20);
    assert_eq!((stage.offered(FLOW), stage.percentage(FLOW).as_deref()), (0.0, Some("0")));
    assert!(stage.world.state().quarantine.is_empty() && !stage.is_halted(FLOW));
    // A person lets it go on, who knows better: in this window nothing is taken back again.
    stage.person(FLOW, Action::Resume).unwrap().unwrap();
    stage.until(5, |s| s.offered(FLOW) == 25.0);
    (0..10).for_each(|_| stage.minute());
    assert_eq!(stage.offered(FLOW), 25.0);
    stage.assert_lawful();
}

#[test]
fn what_was_measured_in_maintenance_is_held_against_nobody_once_it_is_over() {
    let mut stage = at_25_percent("15.0");
    restrict(&stage, EXPECTED, None, 200);
    break_canary(&stage);
    (0..100).for_each(|_| stage.minute());
    assert!(alert(&stage, "ROLLBACK_WITHHELD").is_some());
    stage.world.state().traffic.behavior.insert("better".into(), Behavior { error: 0.01, abandon: 0.06, transfer: 0.2 });
    stage.minute();
    let process = stage.world.process("cli");
    let request = stage.request("done early");
    let ended = run(&process, lift(&process, "maintenance-1", &request)).unwrap().unwrap().unwrap();
    assert_eq!(ended.ended.as_deref(), Some("sam: done early"));
    assert!(run(&process, lift(&process, "maintenance-1", &request)).unwrap().unwrap().is_none(), "it is over");
    stage.until_phase(FLOW, "Promoted", 120);
    stage.assert_lawful();
}

#[test]
fn in_maintenance_an_alarm_takes_nothing_back_and_a_person_s_message_does() {
    let mut stage = at_25_percent("15.0");
    restrict(&stage, EXPECTED, None, 600);
    for _ in 0..3 {
        let done = asked(&stage, true);
        assert!(done.step.contains("maintenance-1"), "{done:?}");
    }
    assert_eq!((stage.offered(FLOW), stage.event_names(FLOW).iter().filter(|e| **e == "RollbackWithheld").count()), (25.0, 1));
    asked(&stage, false);
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.assert_lawful();
}

#[test]
fn in_a_freeze_nothing_rises_and_a_broken_canary_is_rolled_back() {
    for broken in [false, true] {
        let mut stage = at_25_percent("15.0");
        restrict(&stage, Kind::Freeze, None, 40);
        if broken {
            break_canary(&stage);
            stage.until_phase(FLOW, "RolledBack", 30);
        } else {
            (0..38).for_each(|_| stage.minute());
            assert_eq!(stage.rollout(FLOW).in_force.weight.percent(), 25.0);
            let said = stage.evaluate().unwrap().unwrap().flows[0].reason.clone();
            assert!(said.contains("freeze-1"), "{said}");
            stage.until_phase(FLOW, "Promoted", 90);
        }
        stage.assert_lawful();
    }
}

#[test]
fn where_restrictions_cannot_be_read_nothing_rises_and_what_fails_is_taken_back() {
    for broken in [false, true] {
        let mut stage = at_25_percent("15.0");
        stage.world.state().outages.insert("ledger.restrictions");
        if broken {
            break_canary(&stage);
            stage.until_phase(FLOW, "RolledBack", 30);
        } else {
            (0..40).for_each(|_| stage.minute());
            assert_eq!(stage.rollout(FLOW).in_force.weight.percent(), 25.0);
            stage.world.state().outages.clear();
            stage.until_phase(FLOW, "Promoted", 90);
        }
        stage.assert_lawful();
    }
}

#[test]
fn nothing_starts_in_any_of_them_and_the_gate_says_which() {
    for kind in [EXPECTED, Kind::Freeze, Kind::Stop] {
        let mut stage = Stage::new(&[FLOW]);
        restrict(&stage, kind, None, 5);
        let closed = the_gate(&stage);
        assert_eq!((closed.exit_code(), closed.to_string().contains("the carrier works")), (12, true), "{closed}");
        let refused = stage.start(Stage::plan(FLOW, "15.0", sequential_policy())).unwrap_err().to_string();
        assert!(refused.contains(kind.name()) && refused.contains("nothing was changed"), "{refused}");
        (0..5).for_each(|_| stage.minute());
        assert_eq!(the_gate(&stage).exit_code(), 0);
        stage.start(Stage::plan(FLOW, "15.0", sequential_policy())).unwrap();
    }
    // Another flow's is none of ours.
    let stage = Stage::new(&[FLOW]);
    restrict(&stage, Kind::Freeze, Some("sales_ivr"), 5);
    assert_eq!(the_gate(&stage).exit_code(), 0);
}

fn stopped(stage: &Stage) -> Vec<(FlowName, Result<Rollout, InterventionError>)> {
    let process = stage.world.process("cli");
    run(&process, stop_all(&process, &process, &process, &process, &stage.request("all hands"))).unwrap().unwrap()
}

#[test]
fn a_stop_takes_all_calls_of_all_rollouts_to_stable_and_lets_nothing_begin() {
    let mut stage = Stage::new(&[FLOW, "sales_ivr"]);
    let policy = || Policy { step_cap: Minutes(600), ..sequential_policy() };
    stage.start(Stage::plan(FLOW, "15.0", policy())).unwrap();
    stage.until(60, |s| s.rollout(FLOW).in_force.weight.percent() == 25.0);
    stage.start(Stage::plan("sales_ivr", "15.0", policy())).unwrap();
    let done = stopped(&stage);
    assert_eq!(
        done.iter().map(|(flow, stopped)| (flow.as_str(), stopped.is_ok())).collect::<Vec<_>>(),
        [(FLOW, true), ("sales_ivr", true)]
    );
    assert_eq!((stage.offered(FLOW), stage.phase(FLOW), stage.phase("sales_ivr")), (0.0, Phase::Aborted, Phase::Aborted));
    (0..10).for_each(|_| stage.minute());
    assert!(stage.start(Stage::plan(FLOW, "17.0", policy())).unwrap_err().to_string().contains("stop"));
    assert!(stopped(&stage).is_empty(), "asked again there is nothing left");
    assert_eq!(stage.world.state().restrictions.len(), 1);
    stage.world.state().restrictions.clear();
    stage.start(Stage::plan(FLOW, "17.0", policy())).unwrap();
    stage.until_phase(FLOW, "Promoted", 120);
    stage.assert_lawful();
}

#[test]
fn a_week_s_freeze_holds_each_week() {
    // The world begins on a Friday at 9.
    let stage = Stage::new(&[FLOW]);
    let (from, until) = ("Fri 16:00".parse().unwrap(), "Mon 08:00".parse().unwrap());
    let when = When::Weekly { from, until, zone: "UTC".into() };
    let weekend = Restriction {
        id: "freeze-1".into(),
        kind: Kind::Freeze,
        flow: None,
        when,
        reason: "weekends".into(),
        by: "sam".into(),
        ended: None,
    };
    stage.world.state().restrictions.push(weekend);
    for (at, code) in [("2026-11-20T15:59:00Z", 0), ("2026-11-21T12:00:00Z", 12), ("2026-11-23T08:00:00Z", 0), ("2026-11-27T16:00:00Z", 12)]
    {
        stage.world.advance_to(at.parse::<Timestamp>().unwrap());
        assert_eq!(the_gate(&stage).exit_code(), code, "{at}");
    }
}

fn both_fail(stage: &Stage) {
    let bad = Behavior { error: 0.8, abandon: 0.06, transfer: 0.1 };
    for configuration in ["good", "better"] {
        stage.world.state().traffic.behavior.insert(configuration.into(), bad);
    }
}

#[test]
fn where_both_cohorts_fail_nothing_is_moved_and_a_person_is_paged_once() {
    let mut stage = at_25_percent("15.0");
    both_fail(&stage);
    stage.until_phase(FLOW, "Paused", 10);
    assert_eq!(stage.offered(FLOW), 25.0);
    let page = alert(&stage, "BOTH_COHORTS_FAIL").unwrap();
    assert_eq!(page.severity, Severity::Critical);
    assert!(page.next_step.contains("serin intervene --to canary"), "{}", page.next_step);
    // Whoever lets it go on has decided.
    stage.person(FLOW, Action::Resume).unwrap().unwrap();
    (0..10).for_each(|_| stage.minute());
    assert_eq!(stage.event_names(FLOW).iter().filter(|e| **e == "BothFailing").count(), 1, "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn a_person_sends_all_calls_to_the_canary_where_stable_is_broken() {
    let mut stage = at_25_percent("15.0");
    both_fail(&stage);
    stage.until_phase(FLOW, "Paused", 10);
    stage.world.state().traffic.behavior.insert("better".into(), Behavior { error: 0.01, abandon: 0.06, transfer: 0.2 });
    stage.person(FLOW, Action::ToCanary).unwrap().unwrap();
    stage.until(3, |s| s.offered(FLOW) == 100.0);
    stage.until_phase(FLOW, "Promoted", 60);
    assert_eq!(stage.world.state().flows["main_ivr-stable"].configuration(), "better", "stable is mended by it");
    stage.assert_lawful();
}

#[test]
fn what_a_person_sent_to_the_canary_is_not_taken_to_a_broken_stable_by_itself() {
    let mut stage = at_25_percent("15.0");
    stage.person(FLOW, Action::ToCanary).unwrap().unwrap();
    stage.until(3, |s| s.offered(FLOW) == 100.0);
    stage.world.state().traffic.behavior.insert("better".into(), Behavior { error: 0.9, abandon: 0.05, transfer: 0.0 });
    stage.until_phase(FLOW, "Paused", 10);
    assert_eq!(stage.offered(FLOW), 100.0);
    assert!(alert(&stage, "BOTH_COHORTS_FAIL").is_some());
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.until_phase(FLOW, "RolledBack", 5);
    stage.assert_lawful();
}

#[test]
fn all_calls_go_to_the_canary_only_from_where_it_is_compared() {
    let mut stage = Stage::new(&[FLOW]);
    stage.start(Stage::plan(FLOW, "15.0", sequential_policy())).unwrap();
    let refused = stage.person(FLOW, Action::ToCanary).unwrap().unwrap_err().to_string();
    assert!(refused.contains("Preparing") && refused.contains("--off-hours-full"), "{refused}");
    stage.until_phase(FLOW, "Stepping", 10);
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    assert!(stage.person(FLOW, Action::ToCanary).unwrap().is_err());
    stage.assert_lawful();
}

/// A flow that gets its next version, which all its callers have by its publication.
fn publish_watch() -> Plan {
    let plan = Plan { strategy: Strategy::PublishWatch, stable: None, ..Stage::plan(FLOW, "15.0", sequential_policy()) };
    plan.check().unwrap();
    plan
}

fn with_a_history() -> Stage {
    let stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.way = Way::Direct;
    let later = stage.world.state().now + minutes(120);
    stage.world.advance_to(later);
    stage
}

fn runs(stage: &Stage) -> String {
    stage.world.state().flows["main_ivr-canary"].runs().to_owned()
}

#[test]
fn where_a_publication_gives_a_version_to_all_callers_it_waits_for_the_end_of_a_freeze() {
    for lasting in [10, 60] {
        let mut stage = with_a_history();
        stage.start(publish_watch()).unwrap();
        restrict(&stage, Kind::Freeze, None, lasting);
        (0..9).for_each(|_| stage.minute());
        assert_eq!(runs(&stage), "13.0", "{}", stage.story());
        stage.until_phase(FLOW, if lasting == 10 { "Promoted" } else { "Failed" }, 90);
        assert_eq!(runs(&stage), if lasting == 10 { "15.0" } else { "13.0" });
        stage.assert_lawful();
    }
}

#[test]
fn what_all_callers_have_by_now_is_watched_in_a_freeze_too() {
    for error in [0.01, 0.5] {
        let mut stage = with_a_history();
        stage.world.state().traffic.behavior.insert("better".into(), Behavior { error, abandon: 0.06, transfer: 0.2 });
        stage.start(publish_watch()).unwrap();
        stage.until(10, |s| s.event_names(FLOW).contains(&"Prepared"));
        restrict(&stage, Kind::Freeze, None, 600);
        match error > 0.1 {
            true => drop(stage.until_phase(FLOW, "RolledBack", 20)),
            false => drop(stage.until(5, |s| s.phase(FLOW).is_watched())),
        }
        stage.assert_lawful();
    }
}

#[test]
fn a_stop_goes_on_past_a_flow_that_cannot_be_read_and_puts_stable_back_where_it_was_touched() {
    let mut stage = Stage::new(&[FLOW, "sales_ivr"]);
    for flow in [FLOW, "sales_ivr"] {
        stage.start(Stage::plan(flow, "15.0", Policy { step_cap: Minutes(600), ..sequential_policy() })).unwrap();
    }
    stage.world.state().flows.get_mut("sales_ivr-stable").unwrap().publish_takes = 1_000;
    stage.until(120, |s| s.rollout("sales_ivr").stable_touched.is_some());
    stage.world.state().books.get_mut(&name(FLOW)).unwrap().broken = Some(BrokenLedger::Rewritten { revision: 2 });
    let done = stopped(&stage);
    let outcomes: Vec<_> = done.iter().map(|(flow, stopped)| (flow.as_str(), stopped.as_ref().map(|r| r.phase.name()).ok())).collect();
    assert_eq!(outcomes, [(FLOW, None), ("sales_ivr", Some("RollingBack"))]);
    assert_eq!(stage.offered("sales_ivr"), 0.0);
}

#[test]
fn what_was_paused_by_a_person_is_contained_too_also_after_an_alarm() {
    let mut stage = at_25_percent("15.0");
    stage.person(FLOW, Action::Pause).unwrap().unwrap();
    restrict(&stage, Kind::Maintenance { contain: true }, None, 600);
    asked(&stage, true);
    assert_eq!(stage.offered(FLOW), 25.0);
    break_canary(&stage);
    stage.until(20, |s| s.offered(FLOW) == 0.0);
    assert_eq!(stage.phase(FLOW).weight().percent(), 0.0);
    stage.assert_lawful();
}

#[test]
fn a_raise_that_is_pending_is_not_written_on_a_failed_verdict() {
    let mut stage = at_25_percent("15.0");
    stage.world.state().outages.insert("parameters.put_percentage");
    stage.until(60, |s| s.rollout(FLOW).pending.is_some());
    break_canary(&stage);
    restrict(&stage, EXPECTED, None, 600);
    stage.until(20, |s| s.event_names(FLOW).contains(&"RollbackWithheld"));
    stage.world.state().outages.clear();
    (0..5).for_each(|_| stage.minute());
    assert_eq!(stage.offered(FLOW), 25.0, "{}", stage.story());
}

/// All calls on the canary, by a person's word.
fn sent_to_canary() -> Stage {
    let mut stage = at_25_percent("15.0");
    stage.person(FLOW, Action::ToCanary).unwrap().unwrap();
    stage.until(3, |s| s.offered(FLOW) == 100.0);
    stage
}

#[test]
fn whoever_mends_a_broken_stable_flow_does_not_get_its_calls_at_once() {
    let mut stage = sent_to_canary();
    stage.world.state().flows.get_mut("main_ivr-stable").unwrap().publish_by_hand("14.0", "Pat");
    stage.world.state().flows.get_mut("main_ivr-stable").unwrap().versions.insert("14.1".into(), "good".into());
    stage.world.state().flows.get_mut("main_ivr-stable").unwrap().publish_by_hand("14.1", "Pat");
    (0..3).for_each(|_| stage.minute());
    assert_eq!(stage.offered(FLOW), 100.0, "{}", stage.story());
}

#[test]
fn no_deadline_takes_calls_back_to_a_stable_flow_that_is_broken() {
    let mut stage = sent_to_canary();
    stage.world.state().traffic.silent = true;
    stage.until_phase(FLOW, "NeedsHuman", 200);
    assert_eq!(stage.offered(FLOW), 100.0);
    let told = alert(&stage, "HUMAN_NEEDED").unwrap();
    assert!(told.reason.contains("`serin rollback`") && told.action_taken.contains("stay on the canary"), "{told:?}");
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.assert_lawful();
}

#[test]
fn a_fix_published_into_the_canary_and_an_alarm_take_nothing_back_to_a_broken_stable_flow() {
    let mut stage = sent_to_canary();
    asked(&stage, true);
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("17.0", "Pat");
    stage.until_phase(FLOW, "NeedsHuman", 5);
    assert_eq!(stage.offered(FLOW), 100.0);
}

#[test]
fn a_raise_that_was_recorded_before_a_freeze_waits_for_its_end() {
    let mut stage = at_25_percent("15.0");
    stage.world.state().outages.insert("parameters.put_percentage");
    stage.until(60, |s| s.rollout(FLOW).pending.is_some());
    restrict(&stage, Kind::Freeze, None, 10);
    stage.world.state().outages.clear();
    (0..8).for_each(|_| stage.minute());
    assert_eq!(stage.offered(FLOW), 25.0);
    stage.until(8, |s| s.offered(FLOW) > 25.0);
    stage.assert_lawful();
}
