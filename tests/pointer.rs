//! A row of a data table sends all calls: at once, judged against what stable did before, and taken back by the same row.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, minutes, name, run, sequential_policy};
use serin_acceptance::world::{Behavior, Fault, TABLE, Way};
use serin_controller::intervene::{Action, intervene};
use serin_controller::ports::Pointer;
use serin_core::phase::{Event, Phase};
use serin_core::policy::{Minutes, Policy};
use serin_core::rollout::{Finalize, Plan, PointerTable, Strategy};
use serin_core::weight::Weight;

const FLOW: &str = "main_ivr";

/// What a person makes of a row.
type Edit = Box<dyn Fn(&Pointer) -> Option<Pointer>>;
const BROKEN: Behavior = Behavior { error: 0.15, abandon: 0.06, transfer: 0.22 };

fn plan(version: &str) -> Plan {
    let plan = Plan {
        strategy: Strategy::Pointer,
        pointer: Some(PointerTable { table: TABLE.into() }),
        ..Stage::plan(FLOW, version, sequential_policy())
    };
    plan.check().unwrap();
    plan
}

/// Two hours after callers came to the flow.
fn stage() -> Stage {
    let stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.way = Way::ByRow;
    let later = stage.world.state().now + minutes(120);
    stage.world.advance_to(later);
    stage
}

fn started(version: &str) -> Stage {
    let stage = stage();
    stage.start(plan(version)).unwrap();
    stage
}

fn pointed(stage: &Stage) -> u16 {
    stage.world.state().pointed_weight(&name(FLOW)).percent() as u16
}

fn row(stage: &Stage) -> Pointer {
    stage.world.state().rows[&name(FLOW)].clone()
}

#[test]
fn all_calls_go_at_once_are_compared_with_stable_before_and_come_back_when_both_flows_run_the_version() {
    let mut stage = started("15.0");
    stage.until_phase(FLOW, "Baking", 5);
    stage.minute();
    assert_eq!(pointed(&stage), 100);
    assert_eq!(row(&stage).active_flow, "main_ivr-canary");
    assert_eq!(row(&stage).owner, "serin/test");
    let baseline = stage.rollout(FLOW).baseline.unwrap();
    assert!(baseline.calls > 50_000, "two hours of stable: {baseline:?}");
    stage.until_phase(FLOW, "Promoted", 30);
    assert_eq!((pointed(&stage), row(&stage).active_flow.as_str()), (0, "main_ivr-stable"));
    assert_eq!(stage.world.state().flows["main_ivr-stable"].configuration(), "better");
    stage.world.state().check_at_rest();
    stage.assert_lawful();
}

#[test]
fn a_broken_version_loses_its_calls_in_the_tick_of_the_verdict() {
    let mut stage = started("16.0");
    stage.until_phase(FLOW, "Baking", 5);
    stage.executor = false;
    stage.until_phase(FLOW, "RollingBack", 30);
    assert_eq!((pointed(&stage), row(&stage).active_flow.as_str()), (0, "main_ivr-stable"));
    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(stage.world.state().flows["main_ivr-canary"].runs(), "13.0");
    stage.assert_lawful();
}

#[test]
fn with_swap_calls_stay_on_the_canary_and_the_next_rollout_first_takes_them_to_stable() {
    let mut stage = stage();
    stage.start(Plan { finalize: Finalize::Swap, ..plan("15.0") }).unwrap();
    stage.until_phase(FLOW, "Promoted", 40);
    for _ in 0..20 {
        stage.minute();
    }
    assert_eq!((pointed(&stage), row(&stage).active_flow.as_str()), (100, "main_ivr-canary"));
    assert_eq!(stage.world.state().flows["main_ivr-stable"].configuration(), "better");
    let said = stage.alerts().last().unwrap().clone();
    assert!(said.action_taken.contains("calls stay on the canary flow"), "{}", said.action_taken);
    stage.world.state().check_at_rest();

    stage.start(plan("17.0")).unwrap();
    let before = stage.world.state().calls.len();
    stage.until_phase(FLOW, "Baking", 6);
    let calls: Vec<String> = stage.world.state().calls[before..]
        .iter()
        .filter(|c| ["rows.point", "flows.publish"].contains(&c.name))
        .map(|c| c.name.into())
        .collect();
    assert_eq!(calls[..2], ["rows.point".to_owned(), "flows.publish".to_owned()], "callers leave the flow before it is published into");
    stage.until_phase(FLOW, "Promoted", 40);
    stage.world.state().check_at_rest();
    stage.assert_lawful();
}

#[test]
fn a_rollout_that_failed_before_its_first_call_leaves_the_row_as_it_was() {
    let mut stage = stage();
    let row = Pointer { active_flow: "main_ivr-canary".into(), weight: Weight::FULL, revision: 3, owner: String::new() };
    stage.world.state().rows.insert(name(FLOW), row.clone());
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("17.0", "Pat");
    stage.start(plan("15.0")).unwrap();
    stage.until_phase(FLOW, "Failed", 3);
    for _ in 0..5 {
        stage.minute();
    }
    assert_eq!(self::row(&stage), row, "{}", stage.story());
}

#[test]
fn a_row_that_somebody_changed_is_contaminated_contained_and_named() {
    let changed = |f: fn(&mut Pointer)| {
        move |row: &Pointer| {
            Some({
                let mut row = row.clone();
                f(&mut row);
                row
            })
        }
    };
    let edits: [(&str, Edit); 4] = [
        // As a table's import or a row made anew has it: nothing of ours in it.
        (
            "changed the row to flow main_ivr-stable with weight 0",
            Box::new(|_| Some(Pointer { active_flow: "main_ivr-stable".into(), weight: Weight::ZERO, revision: 0, owner: String::new() })),
        ),
        ("changed the row to flow main_ivr-canary with weight 0", Box::new(changed(|row| row.weight = Weight::ZERO))),
        ("took the row over as `other`", Box::new(changed(|row| row.owner = "other".into()))),
        ("deleted the row", Box::new(|_| None)),
    ];
    for (said, edit) in edits {
        let mut stage = started("15.0");
        stage.until_phase(FLOW, "Baking", 5);
        stage.minute();
        let edited = edit(&row(&stage));
        let foreign = edited.as_ref().is_some_and(|row| row.owner == "other");
        stage.world.state().person_points(&name(FLOW), edited, "Pat");
        stage.minute();
        assert_eq!(stage.phase(FLOW), Phase::Contaminated, "{}", stage.story());
        let alert = stage.alerts().into_iter().find(|a| a.incident_type == "ROLLOUT_CONTAMINATED").unwrap();
        assert!(alert.reason.contains("`Pat`") && alert.reason.contains(said), "{}", alert.reason);
        match foreign {
            // Whoever took the row over sends the calls now; it is not fought for.
            true => assert_eq!(row(&stage).owner, "other"),
            false => assert_eq!(pointed(&stage), 0),
        }
        stage.assert_lawful();
    }
}

#[test]
fn on_call_takes_calls_back_by_the_percentage_too_and_the_row_follows() {
    let mut stage = started("15.0");
    stage.until_phase(FLOW, "Baking", 5);
    stage.minute();
    stage.world.state().person_sets(&name(FLOW), "0");
    stage.minute();
    assert_eq!((stage.phase(FLOW).name(), pointed(&stage)), ("Paused", 0), "{}", stage.story());
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(pointed(&stage), 0);
    stage.assert_lawful();
}

#[test]
fn a_row_that_cannot_be_written_is_written_later_and_nothing_is_concluded_meanwhile() {
    let mut stage = started("15.0");
    stage.world.state().outages.insert("rows.point");
    for _ in 0..4 {
        stage.minute();
    }
    assert_eq!(stage.phase(FLOW), Phase::Preparing, "{}", stage.story());
    stage.world.state().outages.clear();
    stage.until_phase(FLOW, "Baking", 5);
    stage.world.state().outages.insert("rows.point");
    stage.person(FLOW, Action::Abort).unwrap().unwrap();
    for _ in 0..3 {
        stage.minute();
    }
    stage.world.state().outages.clear();
    stage.minute();
    assert_eq!(pointed(&stage), 0);
    stage.world.state().check_at_rest();
    stage.assert_lawful();
}

/// Port calls of a whole rollout that ends so.
fn calls(version: &str, end: &str) -> usize {
    let mut stage = started(version);
    stage.until_phase(FLOW, end, 60);
    stage.world.clone().state().calls.len()
}

#[test]
fn whatever_call_of_the_row_fails_or_is_the_last_of_its_process_the_end_is_the_same() {
    for (version, end) in [("15.0", "Promoted"), ("16.0", "RolledBack")] {
        let all = calls(version, end);
        let mut disturbed = 0;
        for at in 0..all {
            for fault in [Fault::Fail, Fault::TimeOut, Fault::CrashBefore, Fault::CrashAfter] {
                let mut stage = started(version);
                stage.world.state().faults.insert(at, fault);
                // Only calls about the row: the others are every strategy's.
                let mut phase = String::new();
                for _ in 0..90 {
                    stage.minute();
                    let state = stage.world.state();
                    if state.calls.len() > at && !state.calls[at].name.starts_with("rows.") {
                        break;
                    }
                    drop(state);
                    phase = stage.phase(FLOW).name().to_owned();
                    if stage.phase(FLOW).is_terminal() {
                        break;
                    }
                }
                if !stage.world.state().calls[at].name.starts_with("rows.") {
                    break;
                }
                disturbed += 1;
                assert_eq!(phase, end, "{fault:?} at call {at}\n{}", stage.story());
                for _ in 0..3 {
                    stage.minute();
                }
                assert_eq!(pointed(&stage), 0, "{fault:?} at call {at}\n{}", stage.story());
                stage.world.state().check_at_rest();
                stage.assert_lawful();
            }
        }
        assert!(disturbed > 30, "{version}: {disturbed}");
    }
}

#[test]
fn a_fault_that_begins_after_all_calls_moved_is_found() {
    let stage = stage();
    let policy = Policy { final_bake_time: Minutes(60), step_cap: Minutes(600), ..sequential_policy() };
    stage.start(Plan { policy, ..plan("15.0") }).unwrap();
    let mut stage = stage;
    stage.until_phase(FLOW, "Baking", 5);
    for _ in 0..20 {
        stage.minute();
    }
    stage.world.state().traffic.behavior.insert("better".into(), BROKEN);
    stage.until_phase(FLOW, "RolledBack", 15);
    let blamed = stage.events(FLOW).into_iter().any(|e| matches!(e, Event::RollbackStarted { .. }));
    assert!(blamed);
    stage.assert_lawful();
}

#[test]
fn a_hand_on_the_row_stops_a_promotion_that_is_being_finished() {
    let mut stage = started("15.0");
    stage.until_phase(FLOW, "Baking", 5);
    stage.executor = false;
    stage.until_phase(FLOW, "Finalizing", 30);
    let edited = Pointer { weight: Weight::ZERO, active_flow: "main_ivr-stable".into(), ..row(&stage) };
    stage.world.state().person_points(&name(FLOW), Some(edited), "Pat");
    let worked = stage.work().unwrap().unwrap();
    assert!(worked[0].step.contains("the row that sends the calls was changed by hand"), "{}", worked[0].step);
    stage.minute();
    assert_eq!(stage.phase(FLOW), Phase::RollingBack, "{}", stage.story());
    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(stage.world.state().flows["main_ivr-stable"].runs(), "14.0");
    assert_eq!(pointed(&stage), 0);
    stage.assert_lawful();
}

#[test]
fn a_rollback_that_dies_before_it_says_why_is_nobody_elses_doing() {
    let mut stage = started("15.0");
    stage.until_phase(FLOW, "Baking", 5);
    stage.minute();
    // The person's command takes the calls back, and dies before it records.
    let process = stage.world.process("cli");
    let commit = {
        let mut rehearsal = started("15.0");
        rehearsal.until_phase(FLOW, "Baking", 5);
        rehearsal.minute();
        let before = rehearsal.world.state().calls.len();
        rehearsal.person(FLOW, Action::Rollback).unwrap().unwrap();
        let state = rehearsal.world.state();
        state.calls[before..].iter().position(|call| call.name == "ledger.commit").unwrap()
    };
    let (flow, request) = (name(FLOW), stage.request("it looks odd"));
    {
        let mut state = stage.world.state();
        let at = state.calls.len() + commit;
        state.faults.insert(at, Fault::CrashBefore);
    }
    let done = run(&process, intervene(&process, &process, &process, &process, &flow, Action::Rollback, &request));
    assert!(done.is_none() && pointed(&stage) == 0);
    stage.minute();
    assert!(matches!(stage.phase(FLOW), Phase::RollingBack | Phase::RolledBack), "{}", stage.story());
    stage.until_phase(FLOW, "RolledBack", 5);
    stage.assert_lawful();
}

#[test]
fn calls_that_the_row_still_sends_are_said_at_every_tick_and_no_rollback_is_called_done() {
    let mut stage = started("16.0");
    stage.until_phase(FLOW, "Baking", 5);
    stage.minute();
    stage.world.state().outages.insert("rows");
    stage.until_phase(FLOW, "RollingBack", 30);
    for _ in 0..3 {
        stage.pass_a_minute();
        let report = stage.evaluate().unwrap().unwrap();
        assert!(report.unwell.iter().any(|why| why.contains("the row that sends the calls is not as recorded")), "{report:?}");
        let worked = stage.work().unwrap().unwrap();
        assert!(worked[0].step.starts_with("waiting: row main_ivr"), "{}", worked[0].step);
    }
    assert_eq!((stage.phase(FLOW), pointed(&stage)), (Phase::RollingBack, 100));
    stage.world.state().outages.clear();
    stage.until_phase(FLOW, "RolledBack", 3);
    assert_eq!(pointed(&stage), 0);
    stage.assert_lawful();
}

#[test]
fn after_a_swap_the_slots_keep_their_places_and_the_row_its_strategy() {
    let mut stage = stage();
    stage.start(Plan { finalize: Finalize::Swap, ..plan("15.0") }).unwrap();
    stage.until_phase(FLOW, "Promoted", 40);

    let asked = Plan { strategy: Strategy::TrafficCop, pointer: None, ..plan("17.0") };
    let refused = stage.start(asked).unwrap_err().to_string();
    assert!(refused.contains("sends all calls to flow main_ivr-canary") && refused.contains("nothing was changed"), "{refused}");

    let mut flipped = plan("14.0");
    flipped.stable.as_mut().unwrap().flow_id = "main_ivr-canary".into();
    flipped.canary.flow_id = "main_ivr-stable".into();
    stage.start(flipped).unwrap();
    let before = stage.world.state().calls.len();
    stage.until_phase(FLOW, "Failed", 3);
    let said = stage.alerts().pop().unwrap().reason;
    assert!(said.contains("stable and canary keep their places"), "{said}");
    assert!(stage.world.state().calls[before..].iter().all(|c| !["flows.publish", "rows.point"].contains(&c.name)));
    assert_eq!(pointed(&stage), 100);
}

#[test]
fn what_stable_does_must_be_known_before_all_calls_leave_it() {
    let mut stage = started("15.0");
    stage.world.state().outages.insert("analytics.measure");
    for _ in 0..5 {
        stage.minute();
    }
    assert_eq!((stage.phase(FLOW), pointed(&stage)), (Phase::Preparing, 0), "{}", stage.story());
    stage.world.state().outages.clear();
    stage.until_phase(FLOW, "Baking", 2);
    assert!(stage.rollout(FLOW).baseline.is_some());
}
