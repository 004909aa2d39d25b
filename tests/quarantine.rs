//! What was taken back must not run again, until a person says so of exactly that.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, every_order, minutes, name, quick_policy, race, run};
use serin_acceptance::world::{Fault, Process};
use serin_controller::intervene::{InterventionError, Request, clear_quarantine};
use serin_controller::ports::{Ledger, LedgerError};
use serin_core::phase::{Event, Phase};
use serin_core::rollout::Actor;

const FLOW: &str = "main_ivr";

/// The broken version was taken back, and its lockout is over.
fn taken_back() -> Stage {
    let mut stage = Stage::started(FLOW, "16.0");
    stage.until_phase(FLOW, "RolledBack", 30);
    for _ in 0..16 {
        stage.minute();
    }
    stage
}

async fn cleared(process: &Process, request: &Request, configuration: Option<&str>) -> Result<String, InterventionError> {
    clear_quarantine(process, process, &name(FLOW), configuration, request).await
}

fn clears(stage: &Stage, configuration: Option<&str>) -> Option<Result<String, InterventionError>> {
    let (process, request) = (stage.world.process("cli"), stage.request("the provider has mended its line"));
    run(&process, cleared(&process, &request, configuration))
}

fn refused(stage: &Stage, configuration: Option<&str>) -> String {
    let events = stage.events(FLOW).len();
    let Err(InterventionError::Refused(why)) = clears(stage, configuration).unwrap() else { panic!("{}", stage.story()) };
    assert_eq!(stage.events(FLOW).len(), events);
    why
}

#[test]
fn what_was_taken_back_runs_again_once_a_person_cleared_it_and_who_and_why_is_recorded() {
    let mut stage = taken_back();
    stage.start(Stage::plan(FLOW, "16.0", quick_policy())).unwrap();
    stage.until_phase(FLOW, "Failed", 3);
    let alerts = stage.alerts().len();

    let process = stage.world.process("cli");
    let kept = run(&process, process.quarantined(&name(FLOW))).unwrap().unwrap();
    assert_eq!(kept.iter().map(|one| (one.configuration.as_str(), one.rollout.as_str())).collect::<Vec<_>>(), [("broken", "r-20261120-1")]);
    assert_eq!(clears(&stage, None).unwrap().unwrap(), "broken");
    let entry = stage.world.state().books[&name(FLOW)].entries.last().unwrap().entry.clone();
    let reason = "quarantine cleared by sam: the provider has mended its line".to_owned();
    assert_eq!(entry.event, Event::QuarantineCleared { configuration: "broken".into(), reason });
    assert_eq!((entry.by, entry.rollout.as_str()), (Actor::Person("sam".into()), "r-20261120-2"));
    assert_eq!((stage.phase(FLOW), stage.alerts().len()), (Phase::Failed, alerts), "nothing of the rollout changed, and nobody is woken");

    stage.start(Stage::plan(FLOW, "16.0", quick_policy())).unwrap();
    stage.until_phase(FLOW, "Stepping", 5);
    // It fails again, and is quarantined again.
    stage.until_phase(FLOW, "RolledBack", 30);
    assert_eq!(stage.world.state().quarantine.len(), 1);
    stage.assert_lawful();
}

#[test]
fn it_is_named_by_its_hash_or_the_first_eight_characters_of_it() {
    let stage = taken_back();
    let hashes = ["1d0ced11aa", "1d0ced11bb", "0ff1ce0000"];
    let kept = |hash: &str| ((name(FLOW), hash.to_owned()), "r-20261120-1".to_owned());
    stage.world.state().quarantine = hashes.into_iter().map(kept).collect();
    for (named, says) in [
        (None, "say which of those that are quarantined: 0ff1ce0000 (r-20261120-1), 1d0ced11aa (r-20261120-1), 1d0ced11bb"),
        (Some("1d0ced11"), "say which of those that are quarantined: 1d0ced11aa (r-20261120-1), 1d0ced11bb (r-20261120-1)"),
        (Some("0ff1ce0"), "begins with `0ff1ce0`, of which 8 characters are wanted; these are: 0ff1ce0000"),
        (Some(""), "begins with ``"),
        (Some("deadbeef"), "begins with `deadbeef`"),
    ] {
        let why = refused(&stage, named);
        assert!(why.contains(says), "{named:?}: {why}");
    }
    assert_eq!(clears(&stage, Some("0ff1ce00")).unwrap().unwrap(), "0ff1ce0000");
    assert_eq!(clears(&stage, Some("1d0ced11bb")).unwrap().unwrap(), "1d0ced11bb");
    assert_eq!(clears(&stage, None).unwrap().unwrap(), "1d0ced11aa");
    assert_eq!(refused(&stage, None), "flow main_ivr: no configuration is quarantined");
    assert_eq!(refused(&Stage::started(FLOW, "15.0"), None), "flow main_ivr: no configuration is quarantined");
}

#[test]
fn a_command_that_fails_or_dies_anywhere_leaves_it_cleared_or_not_and_is_done_when_asked_again() {
    let calls = |stage: &Stage| stage.world.state().calls.len();
    let whole = taken_back();
    let before = calls(&whole);
    clears(&whole, None).unwrap().unwrap();
    let steps = calls(&whole) - before;
    assert!(steps >= 4, "{steps}");
    for (step, fault) in (0..steps).flat_map(|n| [Fault::Fail, Fault::TimeOut, Fault::CrashBefore, Fault::CrashAfter].map(|f| (n, f))) {
        let stage = taken_back();
        let at = calls(&stage) + step;
        stage.world.state().faults.insert(at, fault);
        let first = clears(&stage, None);
        stage.assert_lawful();
        // Whatever lease it left is over by then.
        stage.world.state().now += minutes(1);
        let done = stage.world.state().quarantine.is_empty();
        match clears(&stage, None).unwrap() {
            Ok(_) => assert!(!done, "at call {step}, {fault:?}: {first:?}"),
            Err(InterventionError::Refused(_)) => assert!(done, "at call {step}, {fault:?}: {first:?}"),
            Err(error) => panic!("at call {step}, {fault:?}: {error}"),
        }
        assert!(stage.world.state().quarantine.is_empty());
        assert_eq!(stage.event_names(FLOW).iter().filter(|event| **event == "QuarantineCleared").count(), 1);
        stage.assert_lawful();
    }
}

#[test]
fn of_two_people_who_clear_the_same_one_is_told_that_it_was_done_before() {
    every_order(|next| {
        let stage = taken_back();
        let [a, b] = ["sam", "pat"].map(|by| (stage.world.process(by), Request { by: by.into(), ..stage.request("mended") }));
        stage.world.state().interleaved = true;
        let (first, second) = race(cleared(&a.0, &a.1, None), cleared(&b.0, &b.1, None), next);
        stage.world.state().interleaved = false;
        let ((Ok(_), Err(late)) | (Err(late), Ok(_))) = (first, second) else { panic!("{}", stage.story()) };
        assert!(matches!(late, InterventionError::Refused(_) | InterventionError::Ledger(LedgerError::Lost { .. })), "{late}");
        assert_eq!(stage.event_names(FLOW).iter().filter(|event| **event == "QuarantineCleared").count(), 1);
        stage.assert_lawful();
    });
}

#[test]
fn a_rollout_that_ended_long_ago_is_not_visited_again_and_one_that_just_ended_not_for_longer() {
    for (hours, visited) in [(1, true), (25, false)] {
        let mut stage = taken_back();
        let ended = stage.world.state().now;
        for _ in 0..4 * hours {
            stage.world.state().now += minutes(14);
            stage.minute();
        }
        let is_active = |stage: &Stage| stage.world.state().books[&name(FLOW)].is_active();
        assert_eq!(is_active(&stage), visited);
        clears(&stage, None).unwrap().unwrap();
        // Its percentage is its owner's again.
        stage.world.state().person_sets(&name(FLOW), "7");
        stage.minute();
        assert_eq!((is_active(&stage), stage.percentage(FLOW).as_deref()), (visited, Some(if visited { "0" } else { "7" })));
        while stage.world.state().now < ended + minutes(26 * 60) {
            stage.world.state().now += minutes(14);
            stage.minute();
        }
        assert!(!is_active(&stage), "{}", stage.story());
    }
}
