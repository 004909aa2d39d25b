//! Properties of the core: whatever the order of events, the phases, the plan and the ledger hold together.
#![allow(clippy::unwrap_used)]

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serin_core::analysis::{Breach, Proof};
use serin_core::ledger::{Entry, Hash, SCHEMA, StoredEntry, verify};
use serin_core::measurement::{Comparison, Counts, Side, Sides};
use serin_core::phase::{Advice, Event, Phase};
use serin_core::policy::{Consecutive, ErrorLimit, Hysteresis, Minutes, Mode, NotWorse, Policy, Rule, SequentialRule, Threshold};
use serin_core::rollout::{Actor, Cause, Plan, Rollout, Snapshot};
use serin_core::weight::Weight;
use std::collections::BTreeSet;

fn weight(points: u16) -> Weight {
    Weight::from_basis_points(points).unwrap()
}

fn plan() -> Plan {
    serde_json::from_str(
        r#"{"flow":"main_ivr","stable":{"flow_id":"stable-1"},"canary":{"flow_id":"canary-1","version":"15.0"},"policy":{"steps":[5,25,50]}}"#,
    )
    .unwrap()
}

fn breach() -> Breach {
    let side = |sum: f64, calls: f64| Side { sum, calls };
    let sides = Sides { metric: "error".into(), mean: false, canary: side(3.0, 20.0), stable: side(1.0, 300.0) };
    Breach { sides, limit: 1.0 / 3.0, proof: Proof::InARow(3) }
}

fn start() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

/// Every kind of event, with every weight that matters.
fn alphabet() -> Vec<Event> {
    let text = || "because".to_owned();
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
        Event::Prepared { canary_version: "15.0".into() },
        Event::PreparationFailed { reason: text() },
        Event::PromotionStarted { base_version: 4 },
        Event::ApprovalRequested,
        Event::Approved { reason: text() },
        Event::ObservationStarted { version: 7 },
        Event::ObservationEnded { reason: text() },
        Event::Advised { advice: Advice::TakeBack },
        Event::Advised { advice: Advice::Rise { to: weight(2500) } },
        Event::Resumed { base_version: 5 },
        Event::BakeFinished,
        Event::FinalizeStarted { base_version: "14.0".into() },
        Event::StablePublished { version: "15.0".into() },
        Event::Finalized,
        Event::RollbackStarted { cause: Cause::Breach(breach()) },
        Event::RollbackStarted { cause: Cause::Requested { by: "sam".into(), reason: text() } },
        Event::RollbackStarted { cause: Cause::FoundContained },
        Event::RollbackStarted { cause: Cause::Unproven { reason: text() } },
        Event::RestorationStarted { base_version: "15.0".into() },
        Event::RestorationDelayed { holder: "Pat".into(), next_at: start() },
        Event::RollbackFinished { version: "13.0".into() },
        Event::Aborted { reason: text() },
        Event::Contaminated { reason: text() },
        Event::HumanNeeded { reason: text() },
        Event::Cleared { reason: text() },
        Event::QuarantineCleared { configuration: text(), reason: text() },
    ];
    for points in [0, 1, 500, 2500, 5000, 10_000] {
        all.push(Event::StepStarted { weight: weight(points), base_version: 3 });
        all.push(Event::WeightSet { weight: weight(points), version: 8 });
        all.push(Event::WeightApplied { weight: weight(points), version: 4 });
        all.push(Event::Hastened { to: weight(points), reason: text() });
        all.push(Event::Paused { weight: weight(points), version: None, reason: text() });
        all.push(Event::Paused { weight: weight(points), version: Some(9), reason: text() });
    }
    all
}

/// Every phase that can be reached, by closure over the alphabet.
fn reachable(from: Phase) -> Vec<Phase> {
    let alphabet = alphabet();
    let mut found = vec![from];
    let mut next = 0;
    while next < found.len() {
        for event in &alphabet {
            if let Ok(phase) = found[next].clone().after(event)
                && !found.contains(&phase)
            {
                found.push(phase);
            }
        }
        next += 1;
    }
    found
}

fn entry(n: usize, event: Event, previous: Hash) -> StoredEntry {
    let at = start() + SignedDuration::from_mins(n as i64);
    StoredEntry::seal(Entry {
        schema: SCHEMA,
        flow: "main_ivr".parse().unwrap(),
        rollout: "r-20261120-1".into(),
        revision: n as u64 + 1,
        at,
        recorded_at: at,
        by: Actor::Serin("canary-evaluator".into()),
        event,
        why: "because".into(),
        evidence: None,
        previous,
    })
}

fn event() -> impl Strategy<Value = Event> {
    proptest::sample::select(alphabet())
}

/// Events as they were accepted, one after the other; refused ones are left out.
fn accepted(events: Vec<Event>) -> Vec<StoredEntry> {
    let first = entry(0, Event::Requested { plan: Box::new(plan()) }, Hash::genesis());
    let mut rollout = Rollout::replay([&first.entry]).unwrap();
    let mut entries = vec![first];
    for event in events {
        let stored = entry(entries.len(), event, entries.last().unwrap().hash());
        if let Ok(after) = rollout.clone().after(&stored.entry) {
            rollout = after;
            entries.push(stored);
        }
    }
    entries
}

#[test]
fn every_phase_reaches_a_terminal_one() {
    let all = reachable(Phase::Preparing);
    assert!(all.len() > 20, "the closure reaches {} phases", all.len());
    for phase in all {
        assert!(reachable(phase.clone()).iter().any(Phase::is_terminal), "{phase} leads nowhere");
    }
}

#[test]
fn every_kind_of_phase_is_reached() {
    let names: BTreeSet<&str> = reachable(Phase::Preparing).iter().map(Phase::name).collect();
    assert_eq!(names.len(), 13, "{names:?}");
}

#[test]
fn containment_is_legal_in_every_phase_that_may_hold_calls() {
    for phase in reachable(Phase::Preparing) {
        let taken_away = [
            phase.clone().after(&Event::RollbackStarted { cause: Cause::FoundContained }),
            phase.clone().after(&Event::Aborted { reason: "because".into() }),
        ];
        let may_hold_calls = phase.weight() > Weight::ZERO && !phase.is_terminal();
        for after in taken_away {
            match after {
                Ok(after) => assert_eq!(after.weight(), Weight::ZERO, "{phase} to {after}"),
                Err(illegal) => assert!(!may_hold_calls, "{illegal}"),
            }
        }
        // Law 5: wherever a rollout is not over, somebody can end it.
        let over = phase.is_terminal() || phase == Phase::RollingBack;
        assert!(over || phase.clone().after(&Event::Aborted { reason: String::new() }).is_ok(), "{phase}");
    }
}

#[test]
fn no_phase_behind_a_failed_verdict_has_a_weight() {
    for phase in reachable(Phase::Preparing) {
        if let Ok(contained) = phase.after(&Event::RollbackStarted { cause: Cause::Breach(breach()) }) {
            for later in reachable(contained) {
                assert_eq!(later.weight(), Weight::ZERO, "{later}");
            }
        }
    }
}

#[test]
fn a_finished_rollout_stays_finished() {
    for phase in reachable(Phase::Preparing).into_iter().filter(Phase::is_finished) {
        assert_eq!(reachable(phase.clone()), [phase]);
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let steps = proptest::collection::btree_set(1u16..10_000, 1..6);
    let times = (1u32..500, 1u32..500, 1u32..60, 1u32..6, 0u32..60, 0u32..30);
    let rates = (1u32..2000, 1u32..10_000, 1u32..10_000, 1u32..10, 1u32..100, 1u32..200);
    let ends = (1u32..1000, 1u32..3000, 1u32..1000);
    (steps, times, rates, ends).prop_map(|(steps, times, rates, ends)| {
        let (bake_time, final_bake_time, evaluate_every, breach_limit, long_call, settle) = times;
        let (error, abandon, transfer, windows, min_calls, min_canary_calls) = rates;
        let (bake_time, final_bake_time) = (bake_time.max(windows), final_bake_time.max(windows));
        let least = long_call + settle + bake_time.max(evaluate_every * breach_limit);
        let threshold = Threshold {
            abandon_points: f64::from(abandon) / 100.0,
            transfer_points: f64::from(transfer) / 100.0,
            evaluate_every: Minutes(evaluate_every),
            lookback: Minutes(evaluate_every * 3),
            breach_limit,
        };
        let rule = match windows % 5 {
            0 => Rule::Sequential(SequentialRule { alpha: f64::from(abandon) / 100_000.0, ..SequentialRule::default() }),
            1 => Rule::Hysteresis(Hysteresis { interval: Minutes(evaluate_every), intervals: breach_limit, ..Hysteresis::default() }),
            2 => Rule::Consecutive(Consecutive { percent: f64::from(error) / 100.0, minutes: breach_limit }),
            3 => Rule::NotWorse(NotWorse {}),
            _ => Rule::Threshold(threshold),
        };
        Policy {
            mode: [Mode::Observe, Mode::Advise, Mode::Act][ends.0 as usize % 3],
            steps: steps.into_iter().map(weight).collect(),
            bake_time: Minutes(bake_time),
            final_bake_time: Minutes(final_bake_time),
            min_canary_calls,
            rule,
            bake_rule: (ends.1 % 2 == 0).then_some(Rule::Threshold(threshold)),
            expected_calls_per_hour: (ends.2 % 2 == 0).then_some(f64::from(ends.1)),
            errors: ErrorLimit { percent: f64::from(error) / 100.0, windows, min_calls },
            long_call: Minutes(long_call),
            settle: Minutes(settle),
            step_cap: Minutes(least + ends.0),
            max_blind: Minutes(ends.1),
            pause_expiry: Minutes(ends.2),
            ..Policy::default()
        }
    })
}

fn counts() -> impl Strategy<Value = Counts> {
    (0u32..1000, 0u32..1000, 0u32..1000, 0u32..1000).prop_map(|(errors, abandons, transfers, contained)| Counts {
        calls: errors + abandons + transfers + contained,
        errors,
        abandons,
        transfers,
        contained,
        ..Counts::default()
    })
}

fn seeded() -> ProptestConfig {
    let told = ProptestConfig::default();
    match told.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(20_261_121), ..told },
        RngSeed::Fixed(_) => told,
    }
}

proptest! {
    // The same cases every time; PROPTEST_RNG_SEED=n PROPTEST_CASES=m tries others.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..seeded() })]

    #[test]
    fn any_sequence_of_events_is_refused_or_replays(events in vec(event(), 0..40)) {
        let entries = accepted(events);
        let rollout = Rollout::replay(entries.iter().map(|s| &s.entry)).unwrap();
        // What is stored is what is replayed, and the chain verifies.
        let read: Vec<StoredEntry> = entries.iter().map(|s| StoredEntry::open(s.bytes.clone()).unwrap()).collect();
        prop_assert_eq!(&read, &entries);
        prop_assert_eq!(Rollout::replay(read.iter().map(|s| &s.entry)).unwrap(), rollout.clone());
        prop_assert_eq!(verify(&entries, 0, Hash::genesis()).unwrap(), entries.last().unwrap().hash());
        // A contained rollout has no weight, no raise on its way, and says so.
        if rollout.is_contained() {
            prop_assert_eq!(rollout.desired_weight(), Weight::ZERO);
            prop_assert_eq!(rollout.in_force.weight, Weight::ZERO);
            prop_assert!(rollout.pending.is_none());
        }
        // A person's word is for one rise, from the step it was said at.
        if let Some(hastened) = &rollout.hastened {
            let besides = |event: &Event| matches!(event, Event::Advised { .. } | Event::QuarantineCleared { .. });
            let told = entries.iter().rfind(|s| !besides(&s.entry.event)).map(|s| &s.entry.event);
            prop_assert!(matches!(told, Some(Event::Hastened { to, .. }) if *to == hastened.to), "{told:?}");
            prop_assert!(matches!(rollout.phase, Phase::Stepping { weight } if weight < hastened.to), "{}", rollout.phase);
        }
    }

    #[test]
    fn a_phase_reached_by_a_failed_verdict_never_gains_weight(before in vec(event(), 0..25), after in vec(event(), 0..25)) {
        let mut phase = Phase::Preparing;
        for event in before {
            phase = phase.clone().after(&event).unwrap_or(phase);
        }
        let Ok(mut phase) = phase.after(&Event::RollbackStarted { cause: Cause::Breach(breach()) }) else { return Ok(()) };
        for event in after {
            phase = phase.clone().after(&event).unwrap_or(phase);
            prop_assert_eq!(phase.weight(), Weight::ZERO);
        }
    }

    #[test]
    fn weight_rises_by_steps_promotions_and_a_persons_hand_only(events in vec(event(), 0..40)) {
        let mut phase = Phase::Preparing;
        for event in events {
            let Ok(next) = phase.clone().after(&event) else { continue };
            let may_rise = matches!(event, Event::StepStarted { .. } | Event::PromotionStarted { .. } | Event::Resumed { .. } | Event::WeightSet { .. });
            prop_assert!(may_rise || next.weight() <= phase.weight(), "{} raises {} to {}", event.name(), phase, next);
            phase = next;
        }
    }

    #[test]
    fn policy_and_plan_survive_json(policy in policy()) {
        let text = serde_json::to_string(&policy).unwrap();
        prop_assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy.clone());
        let plan = Plan { policy, ..plan() };
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn entries_survive_storage_to_the_last_digit(
        event in event(), canary in 0.0f64..100.0, stable in 0.0f64..100.0, limit in 0.0f64..100.0,
        a in counts(), b in counts(), why in "\\PC{0,80}", second in 0i64..4_000_000_000, nanos in 0i32..1_000_000_000,
    ) {
        let at = Timestamp::new(second, nanos).unwrap();
        let event = match event {
            Event::RollbackStarted { cause: Cause::Breach(breach) } => Event::RollbackStarted {
                cause: Cause::Breach(Breach {
                    sides: Sides { canary: Side { sum: canary, calls: 3.0 }, stable: Side { sum: stable, calls: 7.0 }, ..breach.sides },
                    limit,
                    proof: Proof::Odds(canary),
                }),
            },
            other => other,
        };
        let evidence = Some(Comparison { stable: a, canary: b });
        let sealed = StoredEntry::seal(Entry { at, recorded_at: at, why, evidence, ..entry(3, event, Hash::of("before")).entry });
        let read = StoredEntry::open(sealed.bytes.clone()).unwrap();
        prop_assert_eq!(read.hash(), sealed.hash());
        prop_assert_eq!(StoredEntry::seal(read.entry.clone()).bytes, sealed.bytes.clone());
        prop_assert_eq!(read, sealed);
    }
}
