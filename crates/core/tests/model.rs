//! The phases as a finite model: everything that can be reached is visited, and what DESIGN §3 says of it is checked there.
//!
//! [`MOVES`] is the whole of what can follow what. A move that is added to the code and not to it fails here, and the other way round.
#![allow(clippy::unwrap_used)]

use jiff::{SignedDuration, Timestamp};
use serin_core::decision::{Facts, decide};
use serin_core::ledger::{Entry, Hash, SCHEMA};
use serin_core::measurement::InForce;
use serin_core::phase::{Advice, Detour, Event, Phase};
use serin_core::policy::{Mode, Policy};
use serin_core::projection::Seen;
use serin_core::rollout::{Actor, Applied, Cause, Plan, Rollout, Snapshot, Strategy};
use serin_core::weight::Weight;
use std::collections::{BTreeMap, BTreeSet};

/// What each phase leaves to, by the name of the phases. Why `Contaminated` does not lead back to `Stepping` nor `Baking` to
/// `AwaitingApproval`, and why `Finalizing` leads to `Aborted` and `AwaitingApproval` to `Paused`: docs/decisions/0015-phases.md.
const MOVES: [(&str, &[&str]); 13] = [
    ("Preparing", &["Stepping", "Baking", "RollingBack", "Failed", "Aborted"]),
    ("Stepping", &["AwaitingApproval", "Paused", "Baking", "RollingBack", "Aborted", "Contaminated"]),
    ("AwaitingApproval", &["Stepping", "Paused", "Baking", "RollingBack", "Aborted", "Contaminated"]),
    ("Paused", &["Stepping", "Baking", "RollingBack", "Aborted", "Contaminated", "NeedsHuman"]),
    ("Baking", &["Finalizing", "Paused", "RollingBack", "Aborted", "Contaminated", "NeedsHuman"]),
    ("Finalizing", &["Promoted", "NeedsHuman", "RollingBack", "Aborted"]),
    ("RollingBack", &["RolledBack", "NeedsHuman"]),
    ("Contaminated", &["Aborted"]),
    ("Promoted", &[]),
    ("RolledBack", &[]),
    ("Aborted", &[]),
    ("Failed", &[]),
    // By a person, once they have cleared it; or to take back a promotion that got stuck.
    ("NeedsHuman", &["Aborted", "RollingBack"]),
];

/// Phases that follow on no event at all.
const ENDS: [&str; 4] = ["Promoted", "RolledBack", "Aborted", "Failed"];

/// What raises the share of calls that a phase stands for: a recorded step of the plan, a person who resumes at the step it was at, or a
/// person's own percentage where Serin only observes.
const RAISES: [&str; 4] = ["StepStarted", "PromotionStarted", "Resumed", "WeightSet"];

/// Percent that matter: nothing, the first and the last step, everything.
const WEIGHTS: [f64; 4] = [0.0, 5.0, 25.0, 100.0];

fn weights() -> [Weight; 4] {
    WEIGHTS.map(|percent| Weight::try_from(percent).unwrap())
}

fn plan() -> Plan {
    serde_json::from_str(
        r#"{"flow":"main_ivr","stable":{"flow_id":"stable-1"},"canary":{"flow_id":"canary-1","version":"15.0"},"policy":{"steps":[5,25]}}"#,
    )
    .unwrap()
}

/// An event of each kind, with every weight where it has one.
fn alphabet() -> Vec<Event> {
    let text = || "because".to_owned();
    let version = || "15.0".to_owned();
    let snapshot = Snapshot {
        stable_version: "14.0".into(),
        stable_hash: "a".into(),
        rollback_target: "13.0".into(),
        rollback_hash: "b".into(),
        canary_hash: "c".into(),
        ..Snapshot::default()
    };
    let mut all = vec![
        Event::Requested { plan: Box::new(plan()) },
        Event::SnapshotTaken { snapshot },
        Event::Prepared { canary_version: version() },
        Event::PreparationFailed { reason: text() },
        Event::PromotionStarted { base_version: 4 },
        Event::ApprovalRequested,
        Event::Approved { reason: text() },
        Event::ObservationStarted { version: 7 },
        Event::Advised { advice: Advice::TakeBack },
        Event::ObservationEnded { reason: text() },
        Event::Resumed { base_version: 5 },
        Event::BakeFinished,
        Event::FinalizeStarted { base_version: version() },
        Event::StablePublished { version: version() },
        Event::Finalized,
        Event::RollbackStarted { cause: Cause::FoundContained },
        Event::RestorationStarted { base_version: version() },
        Event::RestorationDelayed { holder: "Pat".into(), next_at: start() },
        Event::RollbackFinished { version: version() },
        Event::Aborted { reason: text() },
        Event::Contaminated { reason: text() },
        Event::HumanNeeded { reason: text() },
        Event::Cleared { reason: text() },
        Event::QuarantineCleared { configuration: text(), reason: text() },
        Event::RollbackWithheld { cause: Cause::FoundContained, restriction: text(), contained: None },
        Event::RollbackWithheld { cause: Cause::FoundContained, restriction: text(), contained: Some(9) },
        Event::LedAround { detour: Detour::Emergency { id: text() }, reason: text() },
        Event::Retargeted { version: version(), hash: text(), reason: text() },
    ];
    for weight in weights() {
        all.push(Event::StepStarted { weight, base_version: 3 });
        all.push(Event::WeightApplied { weight, version: 4 });
        all.push(Event::Hastened { to: weight, reason: text() });
        all.push(Event::WeightSet { weight, version: 8 });
        all.push(Event::Paused { weight, version: None, reason: text() });
        all.push(Event::BothFailing { weight, reason: text() });
        all.push(Event::Paused { weight, version: Some(9), reason: text() });
    }
    all
}

/// One more kind of event does not compile until it stands here, and in the alphabet.
fn place(event: &Event) -> usize {
    match event {
        Event::Requested { .. } => 0,
        Event::SnapshotTaken { .. } => 1,
        Event::Prepared { .. } => 2,
        Event::PreparationFailed { .. } => 3,
        Event::StepStarted { .. } => 4,
        Event::PromotionStarted { .. } => 5,
        Event::WeightApplied { .. } => 6,
        Event::ApprovalRequested => 7,
        Event::Approved { .. } => 8,
        Event::ObservationStarted { .. } => 9,
        Event::WeightSet { .. } => 10,
        Event::Advised { .. } => 11,
        Event::ObservationEnded { .. } => 12,
        Event::Paused { .. } => 13,
        Event::Resumed { .. } => 14,
        Event::BakeFinished => 15,
        Event::FinalizeStarted { .. } => 16,
        Event::StablePublished { .. } => 17,
        Event::Finalized => 18,
        Event::RollbackStarted { .. } => 19,
        Event::RestorationStarted { .. } => 20,
        Event::RestorationDelayed { .. } => 21,
        Event::RollbackFinished { .. } => 22,
        Event::Aborted { .. } => 23,
        Event::Contaminated { .. } => 24,
        Event::HumanNeeded { .. } => 25,
        Event::Cleared { .. } => 26,
        Event::RollbackWithheld { .. } => 27,
        Event::BothFailing { .. } => 28,
        Event::LedAround { .. } => 29,
        Event::Retargeted { .. } => 30,
        Event::Hastened { .. } => 31,
        Event::QuarantineCleared { .. } => 32,
    }
}

/// Every move of the model: from, by, to.
fn moves() -> Vec<(Phase, Event, Phase)> {
    let alphabet = alphabet();
    let (mut found, mut moves, mut next) = (vec![Phase::Preparing], Vec::new(), 0);
    while next < found.len() {
        let from = found[next].clone();
        for event in &alphabet {
            let Ok(to) = from.clone().after(event) else { continue };
            if !found.contains(&to) {
                found.push(to.clone());
            }
            moves.push((from.clone(), event.clone(), to));
        }
        next += 1;
    }
    moves
}

fn reachable() -> Vec<Phase> {
    let mut all = vec![Phase::Preparing];
    for (_, _, to) in moves() {
        if !all.contains(&to) {
            all.push(to);
        }
    }
    all
}

fn start() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

#[test]
fn the_alphabet_holds_every_kind_of_event() {
    let kinds: BTreeSet<usize> = alphabet().iter().map(place).collect();
    assert_eq!(kinds, (0..33).collect());
}

#[test]
fn what_can_follow_what_is_exactly_what_is_documented() {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = reachable().iter().map(|phase| (phase.name(), BTreeSet::new())).collect();
    for (from, _, to) in moves().iter().filter(|(from, _, to)| from.name() != to.name()) {
        found.get_mut(from.name()).unwrap().insert(to.name());
    }
    let documented: BTreeMap<&str, BTreeSet<&str>> = MOVES.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    assert_eq!(found, documented);
}

#[test]
fn from_every_phase_an_end_is_reached() {
    let moves = moves();
    let mut ending: Vec<Phase> = reachable().into_iter().filter(Phase::is_terminal).collect();
    loop {
        let leads_there = |from: &Phase, to: &Phase| ending.contains(to) && !ending.contains(from);
        let Some((more, ..)) = moves.iter().find(|(from, _, to)| leads_there(from, to)) else { break };
        ending.push(more.clone());
    }
    let lost: Vec<Phase> = reachable().into_iter().filter(|phase| !ending.contains(phase)).collect();
    assert!(lost.is_empty(), "no end follows on {lost:?}");
}

#[test]
fn calls_can_be_taken_back_in_every_phase_that_may_have_them_on_the_canary() {
    for phase in reachable() {
        let taken_back = alphabet().iter().filter(|event| event.needs_containment()).any(|event| phase.clone().after(event).is_ok());
        let is_over = phase.is_terminal() || phase == Phase::RollingBack;
        assert!(taken_back || (is_over && phase.weight() == Weight::ZERO), "{phase}");
    }
    for (from, event, to) in moves().iter().filter(|(_, event, _)| event.needs_containment()) {
        assert_eq!(to.weight(), Weight::ZERO, "{} leads from {from} to {to}", event.name());
    }
}

#[test]
fn once_they_were_taken_back_none_goes_there_again() {
    let moves = moves();
    let mut held: Vec<Phase> = moves.iter().filter(|(_, event, _)| event.needs_containment()).map(|(_, _, to)| to.clone()).collect();
    let mut next = 0;
    while next < held.len() {
        let here = held[next].clone();
        assert_eq!(here.weight(), Weight::ZERO, "{here}");
        for (_, _, to) in moves.iter().filter(|(from, ..)| *from == here) {
            if !held.contains(to) {
                held.push(to.clone());
            }
        }
        next += 1;
    }
}

#[test]
fn nothing_but_a_recorded_raise_raises_a_weight() {
    for (from, event, to) in moves() {
        let risen = to.weight() > from.weight();
        assert!(!risen || RAISES.contains(&event.name()), "{} raises {from} to {to}", event.name());
        match (&event, &from) {
            (Event::StepStarted { weight, .. }, _) => assert!(to.weight() == *weight && *weight < Weight::FULL, "{from} to {to}"),
            // Never further than where it was held.
            (Event::Resumed { .. }, Phase::Paused { step, .. }) => assert_eq!(to.weight(), *step, "{from} to {to}"),
            (Event::Paused { weight, .. } | Event::BothFailing { weight, .. }, _) => {
                assert!(to.weight() == *weight && !risen, "{from} to {to}")
            }
            _ => {}
        }
    }
}

#[test]
fn what_has_ended_stays_so_unless_a_person_clears_it_or_takes_it_back() {
    for (from, event, to) in moves().iter().filter(|(from, _, to)| from.is_terminal() && from != to) {
        assert!(!ENDS.contains(&from.name()), "{} leads from {from} to {to}", event.name());
        let allowed: &[&str] = match from.weight() {
            Weight::ZERO => &["Cleared"],
            _ => &["Cleared", "RollbackStarted", "Aborted"],
        };
        assert!(allowed.contains(&event.name()), "{} leads from {from} to {to}", event.name());
    }
    let ends: BTreeSet<&str> = reachable().iter().filter(|phase| phase.is_finished()).map(Phase::name).collect();
    assert_eq!(ends, ENDS.into_iter().collect());
}

/// A rollout that stands there since the start, with its percentage as recorded.
fn standing_at(phase: Phase, strategy: Strategy, mode: Mode) -> (Rollout, Seen) {
    let policy = Policy { mode, ..plan().policy };
    let plan = Plan { strategy, policy, ..plan() };
    let entry = Entry {
        schema: SCHEMA,
        flow: "main_ivr".parse().unwrap(),
        rollout: "r-20261120-1".into(),
        revision: 1,
        at: start(),
        recorded_at: start(),
        by: Actor::Person("sam".into()),
        event: Event::Requested { plan: Box::new(plan) },
        why: "because".into(),
        evidence: None,
        previous: Hash::genesis(),
    };
    let opened = Rollout::replay([&entry]).unwrap();
    let weight = phase.weight();
    let has_stepped = phase != Phase::Preparing;
    let rollout = Rollout {
        phase,
        has_stepped,
        in_force: InForce { weight, since: start() },
        applied: has_stepped.then_some(Applied { weight, version: 1 }),
        ..opened
    };
    let seen = Seen { percentage: Some((weight.to_string(), 1)), rollout: None, halt: None };
    (rollout, seen)
}

/// Law 8. Nobody comes, nothing is measured: each tick finds the clock two months further.
#[test]
fn left_alone_every_phase_is_left_and_the_calls_are_on_stable_or_a_person_is_called() {
    let months = SignedDuration::from_hours(24 * 60);
    let strategies = [Strategy::TrafficCop, Strategy::Pointer, Strategy::InFlow, Strategy::PublishWatch];
    for (strategy, mode) in strategies.into_iter().flat_map(|s| [Mode::Act, Mode::Advise, Mode::Observe].map(|m| (s, m))) {
        for phase in reachable() {
            let (mut rollout, seen) = standing_at(phase.clone(), strategy, mode);
            let (mut now, mut way) = (start(), vec![phase.to_string()]);
            while !rollout.phase.is_terminal() {
                now += months;
                let decision = decide(&Facts { rollout: &rollout, seen: &seen, analysis: None, drift: None, restricted: &[], now });
                let event = decision.event(1).unwrap_or_else(|| panic!("{way:?} with {} in {mode:?} stays: {decision}", strategy.name()));
                assert!(!decision.rises(), "{way:?} with {} in {mode:?}: {decision}", strategy.name());
                rollout.phase = rollout.phase.after(&event).unwrap();
                rollout.phase_since = now;
                way.push(rollout.phase.to_string());
                assert!(way.len() < 5, "{way:?} with {} in {mode:?}", strategy.name());
            }
            let is_safe = rollout.phase.weight() == Weight::ZERO || matches!(rollout.phase, Phase::NeedsHuman { .. });
            assert!(is_safe, "{way:?} with {} in {mode:?}", strategy.name());
        }
    }
}

#[test]
fn phases_whose_length_no_policy_sets_have_a_deadline_of_their_own() {
    for phase in reachable().iter().filter(|phase| !phase.is_terminal()) {
        let by_policy = phase.is_watched();
        assert_eq!(phase.deadline().is_none(), by_policy, "{phase}");
    }
}
