//! What stands over every rule: the trip-wire, common causes, freshness, too few calls, the exposure budget, the watch at 100 %,
//! and what each mode may do.
#![allow(clippy::unwrap_used)]

mod calls;

use calls::{Draw, Rates, USUAL};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serin_core::analysis::{Analysis, Breach, Doubt, Measured, Proof, Verdict, analyze};
use serin_core::decision::{Decision, Facts, HoldReason, decide};
use serin_core::ledger::{Entry, Hash, SCHEMA};
use serin_core::measurement::{Comparison, Counts, InForce, Window};
use serin_core::phase::{Advice, Event, Phase};
use serin_core::policy::Policy;
use serin_core::projection::Seen;
use serin_core::rollout::{Actor, Plan, Rollout};
use serin_core::sequential::{Counter, Tally};
use serin_core::weight::Weight;
use std::ops::Range;

fn at(minute: i64) -> Timestamp {
    "2026-11-20T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

fn percent(percent: f64) -> Weight {
    Weight::try_from(percent).unwrap()
}

/// Calls of a minute, with so many errors, hang-ups and transfers among them.
fn of(calls: u32, errors: u32, abandons: u32, transfers: u32) -> Counts {
    Counts { calls, errors, abandons, transfers, contained: calls - errors - abandons - transfers, ..Counts::default() }
}

fn minutes(range: Range<i64>, stable: Counts, canary: Counts) -> Vec<Window> {
    range.map(|n| Window { start: at(n), counts: Comparison { stable, canary } }).collect()
}

fn policy(json: &str) -> Policy {
    serde_json::from_str(json).unwrap_or_else(|refused| panic!("{json}: {refused}"))
}

/// A policy of each rule.
fn of_each_rule(and: &str) -> Vec<Policy> {
    let kinds = ["sequential", "threshold", "hysteresis", "consecutive", "not-worse"];
    kinds.map(|kind| policy(&format!(r#"{{"rule":{{"kind":"{kind}"}}{and}}}"#))).into()
}

/// What is said of windows at a weight in force since minute 0.
fn judged(policy: &Policy, weight: f64, baseline: Option<Counts>, windows: &[Window], now: i64) -> Analysis {
    let weights = [InForce { weight: percent(weight), since: at(0) }];
    analyze(&Measured { policy, weights: &weights, windows, summary: None, baseline }, at(now))
}

fn verdict(policy: &Policy, windows: &[Window], now: i64) -> Verdict {
    judged(policy, 5.0, None, windows, now).verdict
}

fn trips(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Fail(Breach { proof: Proof::AtOnce, .. }))
}

/// A rollout and the parameter as its ledger explains it.
struct Story {
    entries: Vec<Entry>,
    rollout: Rollout,
    seen: Seen,
}

impl Story {
    /// Prepared at minute 0, nothing on the canary yet.
    fn prepared(policy: &Policy) -> Story {
        let mut plan: Plan =
            serde_json::from_str(r#"{"flow":"main_ivr","stable":{"flow_id":"stable-1"},"canary":{"flow_id":"canary-1","version":"15.0"}}"#)
                .unwrap();
        plan.policy = policy.clone();
        let first = entry(0, Event::Requested { plan: Box::new(plan) }, None);
        let rollout = Rollout::replay([&first]).unwrap();
        let mut story = Story { entries: vec![first], rollout, seen: Seen { percentage: Some(("0".into(), 1)), ..Seen::default() } };
        story.tell(0, Event::Prepared { canary_version: "15.0".into() });
        story
    }

    /// At a weight since minute 0.
    fn at_weight(policy: &Policy, weight: f64) -> Story {
        let mut story = Story::prepared(policy);
        story.raise(0, percent(weight), None);
        story
    }

    fn tell(&mut self, minute: i64, event: Event) {
        self.tell_with(minute, event, None);
    }

    fn tell_with(&mut self, minute: i64, event: Event, evidence: Option<Comparison>) {
        self.entries.push(entry(minute, event, evidence));
        self.rollout = Rollout::replay(&self.entries).unwrap();
    }

    /// Recorded, written and seen.
    fn raise(&mut self, minute: i64, to: Weight, evidence: Option<Comparison>) {
        let base_version = self.seen.version();
        let event = match to {
            Weight::FULL => Event::PromotionStarted { base_version },
            weight => Event::StepStarted { weight, base_version },
        };
        self.tell_with(minute, event, evidence);
        self.set(to);
        self.tell(minute, Event::WeightApplied { weight: to, version: base_version + 1 });
    }

    /// The parameter gets a value; the ledger knows nothing of it.
    fn set(&mut self, weight: Weight) {
        self.seen.percentage = Some((weight.to_string(), self.seen.version() + 1));
    }

    fn analysis(&self, windows: &[Window], now: i64) -> Analysis {
        let (policy, weights) = (&self.rollout.plan.policy, self.rollout.weights.as_slice());
        analyze(&Measured { policy, weights, windows, summary: None, baseline: self.rollout.baseline }, at(now))
    }

    fn decide(&self, windows: &[Window], now: i64) -> Decision {
        let analysis = self.rollout.phase.is_watched().then(|| self.analysis(windows, now));
        decide(&Facts { rollout: &self.rollout, seen: &self.seen, analysis: analysis.as_ref(), drift: None, restricted: &[], now: at(now) })
    }

    /// Decides, and records and does what was decided.
    fn tick(&mut self, windows: &[Window], now: i64) -> Decision {
        let decision = self.decide(windows, now);
        match (&decision, decision.event(self.seen.version())) {
            (Decision::Begin { to } | Decision::Advance { to }, _) => {
                let evidence = self.analysis(windows, now).counts;
                self.raise(now, *to, Some(evidence));
            }
            (Decision::Promote, _) => {
                let evidence = self.analysis(windows, now).counts;
                self.raise(now, Weight::FULL, Some(evidence));
            }
            (_, Some(event)) => self.tell(now, event),
            (_, None) => {}
        }
        decision
    }
}

fn entry(minute: i64, event: Event, evidence: Option<Comparison>) -> Entry {
    Entry {
        schema: SCHEMA,
        flow: "main_ivr".parse().unwrap(),
        rollout: "r-20261120-1".into(),
        revision: 1,
        at: at(minute),
        recorded_at: at(minute),
        by: Actor::Serin("canary-evaluator".into()),
        event,
        why: "because".into(),
        evidence,
        previous: Hash::genesis(),
    }
}

/// A minute at 5 %, both cohorts well.
const STABLE: Counts = Counts { calls: 190, errors: 2, abandons: 11, transfers: 38, contained: 139, times: None, queue: None };
const WELL: Counts = Counts { calls: 10, errors: 0, abandons: 0, transfers: 2, contained: 8, times: None, queue: None };

/// A minute of a thousand calls at a weight, both cohorts well.
fn healthy(minute: i64, weight: Weight) -> Window {
    let side = |calls: u32, share: fn(u32) -> u32| of(calls, calls / 100, share(calls), calls / 5);
    let canary = u32::from(weight.basis_points()) / 10;
    let counts = Comparison { stable: side(1000 - canary, |n| (n * 6).div_ceil(100)), canary: side(canary, |n| n * 6 / 100) };
    Window { start: at(minute), counts }
}

// ---- the trip-wire ---------------------------------------------------------------------------------------------------------

#[test]
fn half_of_the_latest_twenty_canary_calls_failing_takes_the_calls_away_under_every_rule() {
    for policy in of_each_rule("") {
        let mut seen = minutes(0..60, STABLE, WELL);
        seen[58].counts.canary = of(10, 5, 0, 0);
        seen[59].counts.canary = of(10, 5, 0, 0);
        let Verdict::Fail(breach) = verdict(&policy, &seen, 60) else { panic!("{}", policy.rule.name()) };
        assert_eq!((breach.sides.metric.as_str(), breach.proof, breach.limit), ("error", Proof::AtOnce, 0.5));
        assert_eq!((breach.sides.canary.sum, breach.sides.canary.calls), (10.0, 20.0), "an hour of health before does not dilute it");
        seen[59].counts.canary = of(10, 4, 0, 0);
        assert!(!trips(&verdict(&policy, &seen, 60)), "nine of twenty do not");
    }
}

#[test]
fn the_trip_wire_looks_at_young_and_unsettled_minutes() {
    for policy in of_each_rule("") {
        let young = minutes(0..2, STABLE, of(10, 5, 0, 0));
        assert!(!trips(&verdict(&policy, &young, 1)), "ten calls are not twenty");
        assert!(trips(&verdict(&policy, &young, 2)), "two minutes after the weight took effect");
    }
}

#[test]
fn the_trip_wire_says_nothing_below_twenty_calls() {
    for policy in of_each_rule("") {
        let nineteen = minutes(0..1, STABLE, of(19, 19, 0, 0));
        assert!((1..10).all(|now| !trips(&verdict(&policy, &nineteen, now))), "{}", policy.rule.name());
        let spread = minutes(0..60, STABLE, of(1, 1, 0, 0));
        assert!(trips(&verdict(&policy, &spread, 20)), "twenty single calls within the hour are twenty");
        let mut rare = minutes(0..200, STABLE, of(0, 0, 0, 0));
        rare.iter_mut().step_by(5).for_each(|w| w.counts.canary = of(1, 1, 0, 0));
        assert!(!trips(&verdict(&policy, &rare, 200)), "twelve an hour are not: the trip-wire reaches back an hour");
    }
}

#[test]
fn the_trip_wire_leaves_alone_what_breaks_stable_half_as_badly() {
    for policy in of_each_rule("") {
        let outage = minutes(0..60, of(100, 30, 6, 20), of(10, 6, 0, 0));
        assert!(!trips(&verdict(&policy, &outage, 3)), "{}", policy.rule.name());
        let own = minutes(0..60, of(100, 29, 6, 20), of(10, 6, 0, 0));
        assert!(trips(&verdict(&policy, &own, 3)), "{}", policy.rule.name());
    }
}

#[test]
fn one_failed_stable_call_does_not_excuse_a_broken_canary() {
    // At a high weight, and right after the last step, hardly anybody comes out of stable.
    let policy = Policy::default();
    for weight in [95.0, 100.0] {
        let mut seen = minutes(0..3, of(0, 0, 0, 0), of(30, 30, 0, 0));
        seen[2].counts.stable = of(1, 1, 0, 0);
        assert!(trips(&judged(&policy, weight, Some(of(1000, 15, 60, 220)), &seen, 3).verdict), "{weight} %");
    }
}

#[test]
fn hang_ups_trip_only_in_minutes_that_are_fair() {
    for policy in of_each_rule("") {
        let young = minutes(0..5, STABLE, of(20, 0, 20, 0));
        assert!((0..60).all(|now| !trips(&verdict(&policy, &young, now))), "{}: callers who hang up come out first", policy.rule.name());
        let fair = minutes(5..7, STABLE, of(10, 0, 5, 0));
        assert!(!trips(&verdict(&policy, &fair, 8)), "not settled");
        let Verdict::Fail(breach) = verdict(&policy, &fair, 9) else { panic!("{}", policy.rule.name()) };
        assert_eq!((breach.sides.metric.as_str(), breach.proof), ("abandon", Proof::AtOnce));
    }
}

#[test]
fn the_trip_wire_watches_at_100_percent_too() {
    for policy in of_each_rule("") {
        for baseline in [None, Some(of(1000, 15, 60, 220))] {
            let broken = minutes(0..2, of(0, 0, 0, 0), of(100, 50, 0, 0));
            assert!(trips(&judged(&policy, 100.0, baseline, &broken, 1).verdict), "{}", policy.rule.name());
        }
    }
}

#[test]
fn the_trip_wire_is_set_by_the_policy() {
    let careful = policy(r#"{"catastrophe":{"percent":30,"calls":10}}"#);
    assert!(trips(&verdict(&careful, &minutes(0..1, STABLE, of(10, 3, 0, 0)), 1)));
    assert!(!trips(&verdict(&Policy::default(), &minutes(0..1, STABLE, of(10, 3, 0, 0)), 1)));
}

#[test]
fn a_tripped_rollout_is_rolled_back_in_every_phase_that_is_watched() {
    let broken = minutes(40..42, STABLE, of(20, 15, 0, 0));
    let policy = policy(r#"{"mode":"advise"}"#);
    let stepping = Story::at_weight(&policy, 5.0);
    let mut paused = Story::at_weight(&policy, 5.0);
    paused.tell(10, Event::Paused { weight: percent(5.0), version: None, reason: "lunch".into() });
    let mut awaiting = Story::at_weight(&policy, 5.0);
    awaiting.tell(35, Event::ApprovalRequested);
    let baking = Story::at_weight(&policy, 100.0);
    for story in [stepping, paused, awaiting, baking] {
        let decision = story.decide(&broken, 42);
        assert!(matches!(decision, Decision::Rollback(_)), "{}: {decision:?}", story.rollout.phase);
    }
}

// ---- common causes ---------------------------------------------------------------------------------------------------------

/// Healthy for 45 minutes; from then on stable as told.
fn stable_turns(stable: Counts, canary: Counts) -> Vec<Window> {
    let mut seen = minutes(0..45, STABLE, WELL);
    seen.extend(minutes(45..60, stable, canary));
    seen
}

#[test]
fn nothing_rises_while_stable_itself_is_strikingly_worse_and_it_says_so() {
    for policy in of_each_rule("") {
        let story = Story::at_weight(&policy, 5.0);
        let name = policy.rule.name();
        let calm = stable_turns(STABLE, WELL);
        assert!(story.decide(&calm, 60).rises(), "{name}: {:?}", story.decide(&calm, 60));
        let outage = stable_turns(of(190, 19, 11, 38), WELL);
        let decision = story.decide(&outage, 60);
        let Decision::Hold(HoldReason::CommonCause(sides)) = &decision else { panic!("{name}: {decision:?}") };
        assert_eq!(sides.metric, "error");
        let said = decision.to_string();
        assert!(said.contains("stable itself got worse") && said.contains("9.4 %") && said.contains("1.1 % before"), "{said}");
        let hang_ups = story.decide(&stable_turns(of(190, 2, 30, 38), WELL), 60);
        assert!(matches!(hang_ups, Decision::Hold(HoldReason::CommonCause(_))), "{name}: {hang_ups:?}");
    }
}

#[test]
fn a_common_cause_is_over_once_stable_is_well_again() {
    let story = Story::at_weight(&policy(r#"{"rule":{"kind":"threshold"}}"#), 5.0);
    let mut seen = stable_turns(of(190, 19, 11, 38), WELL);
    seen.extend(minutes(60..100, STABLE, WELL));
    assert!(matches!(story.decide(&seen[..61], 61), Decision::Hold(HoldReason::CommonCause(_))));
    assert!(story.decide(&seen, 100).rises(), "{:?}", story.decide(&seen, 100));
}

#[test]
fn chance_in_few_stable_calls_is_no_common_cause() {
    let quiet = |errors| {
        let mut seen = minutes(0..60, of(4, 0, 0, 0), of(3, 0, 0, 0));
        seen[50].counts.stable = of(4, errors, 0, 0);
        judged(&Policy::default(), 5.0, None, &seen, 60).common_cause
    };
    assert_eq!(quiet(1), None, "one error in 56 calls");
    let mut nobody = minutes(0..60, of(0, 0, 0, 0), WELL);
    nobody[50].counts.stable = of(19, 19, 0, 0);
    assert_eq!(judged(&Policy::default(), 5.0, None, &nobody, 60).common_cause, None, "19 stable calls");
}

#[test]
fn the_same_rates_seldom_look_like_a_common_cause() {
    let mut found = 0;
    for run in 0..400 {
        let mut draw = Draw::seeded(31_000 + run);
        let rates = USUAL.jittered(&mut draw);
        let seen: Vec<Window> = (0..60).map(|n| drawn(&mut draw, n, 5.0, 600.0, rates, rates)).collect();
        found += usize::from(judged(&Policy::default(), 5.0, None, &seen, 60).common_cause.is_some());
    }
    assert!(found <= 2, "{found} of 400");
}

#[test]
fn an_absolute_breach_that_stable_shares_takes_no_calls_away() {
    for policy in of_each_rule("") {
        let name = policy.rule.name();
        let outage = minutes(0..40, of(100, 12, 6, 20), of(20, 3, 1, 4));
        for now in 5..40 {
            let said = verdict(&policy, &outage, now);
            assert!(!matches!(said, Verdict::Fail(_)), "{name}, minute {now}: {said:?}");
        }
        if name != "sequential" {
            let Verdict::Inconclusive(doubt @ Doubt::Shared { .. }) = verdict(&policy, &outage, 31) else { panic!("{name}") };
            assert!(doubt.to_string().contains("stable"), "{doubt}");
            let own = minutes(0..40, of(100, 7, 6, 20), of(20, 3, 1, 4));
            assert!(matches!(verdict(&policy, &own, 31), Verdict::Fail(_)), "{name}: less than half as bad is not shared");
            let hardly_known = minutes(0..40, of(0, 0, 0, 0), of(20, 3, 1, 4));
            assert!(matches!(verdict(&policy, &hardly_known, 31), Verdict::Fail(_)), "{name}: nobody on stable shares nothing");
        }
    }
}

// ---- freshness, minimum calls ----------------------------------------------------------------------------------------------

#[test]
fn nothing_rises_on_data_older_than_a_quarter_of_an_hour() {
    for policy in of_each_rule("") {
        let story = Story::at_weight(&policy, 5.0);
        let name = policy.rule.name();
        let until = minutes(0..60, STABLE, WELL);
        assert!(story.decide(&until, 74).rises(), "{name}: {:?}", story.decide(&until, 74));
        for now in 75..110 {
            let decision = story.decide(&until, now);
            assert!(matches!(decision, Decision::Hold(HoldReason::NoRecentData { last: Some(_) })), "{name}, minute {now}: {decision:?}");
        }
        // Silence blames nobody: an hour of it ends the rollout without a rollback.
        assert!(matches!(story.decide(&until, 121), Decision::Abort(_)), "{name}: {:?}", story.decide(&until, 121));
    }
}

#[test]
fn nothing_rises_below_the_least_number_of_canary_calls() {
    for policy in of_each_rule("") {
        let name = policy.rule.name();
        let story = Story::at_weight(&policy, 5.0);
        let mut seen = minutes(0..90, STABLE, of(0, 0, 0, 0));
        seen.iter_mut().skip(50).take(19).for_each(|w| w.counts.canary = of(1, 0, 0, 0));
        assert!((0..75).all(|now| !story.decide(&seen, now).rises()), "{name}: 19 calls");
    }
}

#[test]
fn a_healthy_step_takes_its_bake_time_in_minutes_with_data() {
    for policy in of_each_rule("") {
        let name = policy.rule.name();
        let story = Story::at_weight(&policy, 5.0);
        let whole = minutes(0..60, STABLE, WELL);
        let first = |seen: &[Window]| (0..200).find(|now| story.decide(seen, *now).rises());
        assert_eq!(first(&whole), Some(37), "{name}: 5 minutes of long calls, 30 with data, 2 of settling");
        let holes: Vec<Window> =
            minutes(0..120, STABLE, WELL).into_iter().enumerate().filter(|(n, _)| n % 2 == 1).map(|(_, w)| w).collect();
        assert!(first(&holes).is_some_and(|now| now > 60), "{name}: minutes that were not seen do not count");
    }
}

// ---- too few calls to compare ------------------------------------------------------------------------------------------------

#[test]
fn fewer_than_forty_calls_an_hour_are_refused_until_the_owner_says_what_to_do() {
    for volume in [0.0, 10.0, 39.9] {
        let with = |more: &str| policy(&format!(r#"{{"expected_calls_per_hour":{volume}{more}}}"#)).refusal();
        let refused = with("").unwrap();
        assert!(refused.contains("--accept-low-power") && refused.contains("--off-hours-full"), "{refused}");
        assert!(with(r#","mode":"advise""#).is_some(), "a person's approval makes them no more");
        for way_out in [r#","low_volume":"accept""#, r#","low_volume":"off-hours-full""#, r#","mode":"observe""#] {
            assert_eq!(with(way_out), None, "{way_out}");
        }
    }
    assert_eq!(policy(r#"{"expected_calls_per_hour":40}"#).refusal(), None);
}

#[test]
fn off_hours_all_calls_go_at_once_and_are_watched() {
    let mut story = Story::prepared(&policy(r#"{"expected_calls_per_hour":10,"low_volume":"off-hours-full"}"#));
    assert_eq!(story.tick(&[], 1), Decision::Promote);
    assert_eq!((story.rollout.phase.clone(), story.rollout.in_force.weight), (Phase::Baking, Weight::FULL));
    let broken = minutes(10..30, of(0, 0, 0, 0), of(1, 1, 0, 0));
    assert!(matches!(story.decide(&broken, 30), Decision::Rollback(_)));
}

#[test]
fn where_nobody_says_how_many_calls_come_the_steps_are_taken_as_written() {
    for points in 1..2_000 {
        let first = f64::from(points) / 100.0;
        let weights: Vec<f64> = policy(&format!(r#"{{"steps":[{first},25,50]}}"#)).weights().iter().map(|w| w.percent()).collect();
        assert_eq!(weights, [first, 25.0, 50.0]);
    }
}

fn fixed(cases: u32) -> ProptestConfig {
    let told = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    match told.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(20_261_121), ..told },
        RngSeed::Fixed(_) => told,
    }
}

fn steps() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::btree_set(1u16..10_000, 1..6).prop_map(|steps| steps.into_iter().map(|s| f64::from(s) / 100.0).collect())
}

/// What a step must have excluded when it is left, as a multiple of the margin: METHOD, 2.8.
fn excluded_when_left(weight: f64, next: f64) -> f64 {
    match (weight, next) {
        (w, n) if w >= 50.0 || n >= 100.0 => 1.0,
        (w, _) if w >= 20.0 => 3.0,
        _ => 6.0,
    }
}

proptest! {
    #![proptest_config(fixed(2_000))]

    #[test]
    fn every_accepted_policy_has_rising_weights_below_100_percent(
        steps in steps(),
        volume in prop_oneof![Just(None), (0u32..30_000).prop_map(Some)],
        budget in prop_oneof![Just(None), (1u32..500).prop_map(Some)],
        rule in prop_oneof![Just("sequential"), Just("threshold"), Just("consecutive")],
    ) {
        let volume = volume.map_or(String::new(), |v| format!(r#","expected_calls_per_hour":{v}"#));
        let budget = budget.map_or(String::new(), |b| format!(r#","exposure_budget":{b}"#));
        let json = format!(r#"{{"steps":{steps:?},"rule":{{"kind":"{rule}"}}{volume}{budget}}}"#);
        let Ok(policy) = serde_json::from_str::<Policy>(&json) else { return Ok(()) };
        let weights = policy.weights();
        prop_assert!(!weights.is_empty() && weights.windows(2).all(|w| w[0] < w[1]), "{json}: {weights:?}");
        prop_assert!(weights.iter().all(|w| Weight::ZERO < *w && *w < Weight::FULL), "{json}: {weights:?}");
        for (n, weight) in weights.iter().enumerate() {
            prop_assert_eq!(policy.step_after(*weight), weights.get(n + 1).copied());
        }
    }

    #[test]
    fn no_weight_puts_more_callers_at_risk_than_the_budget(
        steps in steps(),
        volume in 40u32..30_000,
        budget in 1u32..3_000,
        settle in 0u32..10,
        long_call in 0u32..20,
    ) {
        let json = format!(
            r#"{{"steps":{steps:?},"expected_calls_per_hour":{volume},"exposure_budget":{budget},"settle":{settle},"long_call":{long_call}}}"#
        );
        let Ok(policy) = serde_json::from_str::<Policy>(&json) else { return Ok(()) };
        let unbounded = Policy { exposure_budget: None, ..policy.clone() };
        let weights: Vec<f64> = policy.weights().iter().map(|w| w.percent()).chain([100.0]).collect();
        prop_assert!(weights.windows(2).all(|w| w[0] < w[1]), "{weights:?}");
        prop_assert!(weights[0] <= unbounded.weights()[0].percent(), "a budget never raises the start");
        // A tick, the time counts settle, the longest call: from a call to the moment the weight is back at 0.
        let reaction = f64::from(1 + settle + long_call);
        let worst_margin = 0.05;
        let mut excess = 1.0f64;
        for (n, weight) in weights.iter().enumerate() {
            let at_risk = f64::from(volume) / 60.0 * reaction * weight / 100.0 * excess;
            prop_assert!(at_risk <= f64::from(budget) * (1.0 + 1e-9), "{weight} %: {at_risk} of {budget}, {weights:?}");
            if let Some(next) = weights.get(n + 1) {
                excess = excess.min(excluded_when_left(*weight, *next) * worst_margin);
            }
        }
    }

    #[test]
    fn a_budget_that_is_refused_names_one_that_is_accepted(volume in 40u32..30_000, budget in 1u32..200) {
        let read = |budget: u32| {
            serde_json::from_str::<Policy>(&format!(r#"{{"expected_calls_per_hour":{volume},"exposure_budget":{budget}}}"#))
        };
        let Err(refused) = read(budget) else { return Ok(()) };
        let refused = refused.to_string();
        let least = refused.split("at least ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse::<u32>().ok());
        match least {
            Some(least) => prop_assert!(read(least).is_ok(), "{refused}, and yet {:?}", read(least)),
            None => prop_assert!(refused.contains("no weight of 0.1 %"), "{refused}"),
        }
    }
}

// ---- the watch at 100 % ----------------------------------------------------------------------------------------------------

fn counted(tally: &Tally) -> Counts {
    let get = |counter| tally.get(counter).unwrap() as u32;
    of(get(Counter::Calls), get(Counter::Errors), get(Counter::Abandons), get(Counter::Transfers))
}

/// A minute of drawn calls.
fn drawn(draw: &mut Draw, minute: i64, weight: f64, volume: f64, stable: Rates, canary: Rates) -> Window {
    let window = calls::minute(draw, minute, weight, volume, stable, canary);
    Window { start: at(minute), counts: Comparison { stable: counted(&window.stable), canary: counted(&window.canary) } }
}

/// The minute at which the watch takes the calls back, if it does within the bake. The baseline is that of so many stable calls.
fn baked(draw: &mut Draw, volume: f64, before: u32, stable: Rates, canary: Rates, bake: i64) -> Option<i64> {
    let policy = Policy::default();
    let mut baseline = Counts::default();
    while baseline.calls < before {
        baseline += drawn(draw, 0, 0.0, 600.0, stable, stable).counts.stable;
    }
    let windows: Vec<Window> = (0..bake).map(|n| drawn(draw, n, 100.0, volume, stable, canary)).collect();
    (8..=bake).find(|now| matches!(judged(&policy, 100.0, Some(baseline), &windows, *now).verdict, Verdict::Fail(_)))
}

#[test]
fn the_watch_at_100_percent_catches_a_broken_canary_quickly() {
    for (case, broken, within) in [
        ("errors 15 %", Rates { error: 0.15, ..USUAL }, 12),
        ("abandons 20 %", Rates { abandon: 0.20, ..USUAL }, 20),
        ("transfers 50 %", Rates { transfer: 0.50, ..USUAL }, 12),
    ] {
        for run in 0..40 {
            let mut draw = Draw::seeded(41_000 + run);
            let caught = baked(&mut draw, 3_000.0, 1_500, USUAL, broken, 40);
            assert!(caught.is_some_and(|minute| minute <= within), "{case}, run {run}: {caught:?}");
        }
    }
}

#[test]
fn the_watch_at_100_percent_seldom_takes_back_an_equal_canary() {
    let taken = (0..300).filter(|run| {
        let mut draw = Draw::seeded(42_000 + run);
        let rates = USUAL.jittered(&mut draw);
        baked(&mut draw, 1_200.0, 600, rates, rates, 90).is_some()
    });
    assert_eq!(taken.count(), 0, "the whole margin is forgiven, so that an equal canary is far from it");
}

#[test]
fn the_watch_at_100_percent_seldom_takes_back_a_canary_worse_by_exactly_the_margin() {
    let runs = 300;
    let taken = (0..runs).filter(|run| {
        let mut draw = Draw::seeded(43_000 + run);
        let stable = USUAL.jittered(&mut draw);
        let canary = Rates { error: stable.error + 0.02, abandon: stable.abandon + 0.02, transfer: stable.transfer + 0.05, ..stable };
        baked(&mut draw, 1_200.0, 600, stable, canary, 90).is_some()
    });
    // alpha is 0.02; the mean and three standard deviations of it.
    let (taken, mean) = (taken.count(), 0.02 * runs as f64);
    assert!(taken as f64 <= mean + 3.0 * mean.sqrt(), "{taken} of {runs}");
}

#[test]
fn the_watch_at_100_percent_compares_with_stables_calls_of_the_last_step() {
    let policy = Policy::default();
    let mut story = Story::at_weight(&policy, 50.0);
    let before = Comparison { stable: of(3000, 45, 180, 660), canary: of(3000, 45, 180, 660) };
    story.raise(60, Weight::FULL, Some(before));
    assert_eq!(story.rollout.baseline, Some(before.stable));
    let same = minutes(60..120, of(0, 0, 0, 0), of(100, 1, 6, 22));
    assert_eq!(story.decide(&same, 100), Decision::FinishBake);
    let worse = minutes(60..120, of(0, 0, 0, 0), of(100, 8, 6, 22));
    let Decision::Rollback(cause) = story.decide(&worse, 100) else { panic!("{:?}", story.decide(&worse, 100)) };
    assert!(cause.to_string().contains("against 1.5 % of 3000 stable calls"), "{cause}");
}

#[test]
fn the_watch_at_100_percent_is_as_the_bake_rule_says() {
    let only_errors =
        policy(r#"{"rule":{"kind":"threshold"},"bake_rule":{"kind":"sequential","metrics":[{"name":"error"}]},"errors":{"percent":100}}"#);
    let baseline = Some(of(3000, 45, 180, 660));
    let hang_ups = minutes(0..60, of(0, 0, 0, 0), of(100, 1, 30, 22));
    assert_eq!(judged(&only_errors, 100.0, baseline, &hang_ups, 40).verdict, Verdict::Pass, "the bake rule watches errors alone");
    let refused = serde_json::from_str::<Policy>(r#"{"rule":{"kind":"threshold"},"bake_rule":{"kind":"sequential","alpha":7}}"#);
    assert!(refused.as_ref().is_err_and(|e| e.to_string().contains("alpha 7")), "{refused:?}");
}

// ---- modes -----------------------------------------------------------------------------------------------------------------

#[test]
fn advise_asks_before_each_rise_above_the_plans_first_step() {
    let mut story = Story::prepared(&policy(r#"{"mode":"advise"}"#));
    assert_eq!(story.tick(&[], 0), Decision::Begin { to: percent(5.0) }, "the start allowed the first step");
    let (mut seen, mut asked) = (Vec::new(), Vec::new());
    for now in 1..400 {
        seen.push(healthy(now - 1, story.rollout.in_force.weight));
        match story.tick(&seen, now) {
            Decision::AskApproval { to } => asked.push(to),
            Decision::Hold(HoldReason::AwaitingApproval) if now % 20 == 0 => {
                story.tell(now, Event::Approved { reason: "looks well".into() })
            }
            Decision::Advance { .. } | Decision::Promote => assert_eq!(story.rollout.approved, None, "an approval is for one rise"),
            Decision::FinishBake => break,
            Decision::Hold(_) => {}
            other => panic!("minute {now}: {other:?}"),
        }
    }
    assert_eq!(asked, [percent(25.0), percent(50.0), Weight::FULL]);
    assert_eq!(story.rollout.phase, Phase::Finalizing);
}

#[test]
fn advise_rises_after_an_approval_only_while_the_evidence_holds() {
    let well: Vec<Window> = (0..60).map(|n| healthy(n, percent(5.0))).collect();
    let approved = |rule: &str| {
        let mut story = Story::at_weight(&policy(&format!(r#"{{"mode":"advise","rule":{{"kind":"{rule}"}}}}"#)), 5.0);
        assert_eq!(story.tick(&well, 45), Decision::AskApproval { to: percent(25.0) }, "{rule}");
        assert_eq!(story.tick(&well, 46), Decision::Hold(HoldReason::AwaitingApproval), "{rule}");
        story.tell(59, Event::Approved { reason: "looks well".into() });
        story
    };
    for rule in ["sequential", "threshold", "hysteresis", "consecutive", "not-worse"] {
        let story = approved(rule);
        assert_eq!(story.decide(&well, 60), Decision::Advance { to: percent(25.0) }, "{rule}");
        assert!(matches!(story.decide(&well, 80), Decision::Hold(HoldReason::NoRecentData { .. })), "{rule}: the approval is old news");
        let mut broken = well.clone();
        broken.extend(minutes(60..64, of(950, 9, 57, 190), of(50, 30, 3, 10)));
        assert!(matches!(story.decide(&broken, 64), Decision::Rollback(_)), "{rule}");
        let mut outage = well.clone();
        outage.extend(minutes(60..80, of(950, 85, 57, 190), of(50, 2, 3, 10)));
        assert!(!story.decide(&outage, 80).rises(), "{rule}: {:?}", story.decide(&outage, 80));
    }
}

/// A person's word at minute 5 of 5 %.
fn hastened(policy: &Policy, to: Weight) -> Story {
    let mut story = Story::at_weight(policy, 5.0);
    story.tell(5, Event::Hastened { to, reason: "advance by sam: the floor waits for it".into() });
    story
}

#[test]
fn what_a_person_hastened_rises_without_more_evidence_under_every_rule_and_in_both_modes() {
    // Two of them are fair: the step is 9 minutes old.
    let few = minutes(0..10, STABLE, WELL);
    for policy in ["", r#","mode":"advise""#].into_iter().flat_map(of_each_rule) {
        let name = policy.rule.name();
        let undecided = Story::at_weight(&policy, 5.0).decide(&few, 9);
        assert!(matches!(undecided, Decision::Hold(_)), "{name}: {undecided:?}");
        assert_eq!(hastened(&policy, percent(25.0)).decide(&few, 9), Decision::Advance { to: percent(25.0) }, "{name}");
        assert_eq!(hastened(&policy, Weight::FULL).decide(&few, 9), Decision::Promote, "{name}");
        // It is for one rise.
        let mut risen = hastened(&policy, percent(25.0));
        risen.tick(&few, 9);
        assert_eq!((risen.rollout.in_force.weight, &risen.rollout.hastened), (percent(25.0), &None), "{name}");
        assert!(!risen.decide(&few, 11).rises(), "{name}: {:?}", risen.decide(&few, 11));
    }
}

#[test]
fn what_a_person_hastened_does_not_rise_against_what_is_seen_nor_blindly() {
    for policy in of_each_rule("") {
        let (story, name) = (hastened(&policy, Weight::FULL), policy.rule.name());
        assert_eq!(story.decide(&[], 6), Decision::Hold(HoldReason::NoRecentData { last: None }), "{name}");
        let old = minutes(0..8, STABLE, WELL);
        assert!(matches!(story.decide(&old, 25), Decision::Hold(HoldReason::NoRecentData { .. })), "{name}: {:?}", story.decide(&old, 25));
        let failing = minutes(0..8, STABLE, of(10, 8, 0, 0));
        assert!(matches!(story.decide(&failing, 8), Decision::Rollback(_)), "{name}: {:?}", story.decide(&failing, 8));
        let outage = stable_turns(of(190, 19, 11, 38), WELL);
        assert!(!story.decide(&outage, 60).rises(), "{name}: {:?}", story.decide(&outage, 60));
        let both = minutes(0..8, of(190, 120, 11, 38), of(10, 8, 0, 0));
        assert!(matches!(story.decide(&both, 8), Decision::CallJudge { .. }), "{name}: {:?}", story.decide(&both, 8));
    }
}

#[test]
fn a_hand_on_the_percentage_outdoes_what_a_person_hastened_before() {
    let few = minutes(0..8, STABLE, WELL);
    let mut story = hastened(&Policy::default(), percent(25.0));
    story.set(percent(2.0));
    assert!(matches!(story.tick(&few, 6), Decision::Pause { version: Some(_), .. }));
    assert_eq!(story.rollout.hastened, None, "a pause ends it");
    story.set(percent(50.0));
    assert!(matches!(story.decide(&few, 6), Decision::Contaminate(_)));
}

#[test]
fn advise_takes_calls_away_without_asking() {
    let story = Story::at_weight(&policy(r#"{"mode":"advise"}"#), 5.0);
    assert!(matches!(story.decide(&minutes(0..3, STABLE, of(20, 15, 0, 0)), 3), Decision::Rollback(_)));
}

#[test]
fn what_a_person_resumed_is_not_held_for_a_person_again_a_minute_later() {
    let hold = policy(r#"{"rule":{"kind":"sequential","on_cap":"hold","max_step":40}}"#);
    let mut story = Story::at_weight(&hold, 5.0);
    // Too few calls to exclude anything.
    let mut seen = minutes(0..200, of(19, 0, 1, 4), of(0, 0, 0, 0));
    seen.iter_mut().for_each(|w| w.counts.canary = of(1, 0, 0, 0));
    seen.iter_mut().step_by(8).for_each(|w| w.counts.canary = of(1, 0, 1, 0));
    let paused = (1..200).find(|now| matches!(story.tick(&seen, *now), Decision::Pause { .. })).expect("the step's time is up");
    story.tell(paused, Event::Resumed { base_version: story.seen.version() });
    let next = story.decide(&seen, paused + 1);
    assert!(!matches!(next, Decision::Pause { .. }), "resumed at minute {paused}, and then: {next:?}");
}

fn observed(rule: &str) -> Story {
    let mut story = Story::prepared(&policy(&format!(r#"{{"mode":"observe","rule":{{"kind":"{rule}"}}}}"#)));
    assert_eq!(story.tick(&[], 0), Decision::Observe { version: 1 });
    story
}

#[test]
fn observe_follows_a_persons_percentage_wherever_it_goes() {
    let mut story = observed("sequential");
    assert_eq!(story.tick(&[], 1), Decision::Hold(HoldReason::NotObservable));
    for (n, weight) in [5.0, 70.0, 12.5, 0.0, 100.0, 5.0].into_iter().enumerate() {
        let now = 2 + 2 * n as i64;
        story.set(percent(weight));
        let version = story.seen.version();
        assert_eq!(story.tick(&[], now), Decision::Follow { weight: percent(weight), version });
        assert_eq!(story.rollout.in_force, InForce { weight: percent(weight), since: at(now) });
        assert!(matches!(story.tick(&[], now + 1), Decision::Hold(_)));
    }
}

#[test]
fn observe_does_not_begin_while_the_percentage_is_not_0() {
    let mut story = Story::prepared(&policy(r#"{"mode":"observe"}"#));
    story.set(percent(5.0));
    assert_eq!(story.tick(&[], 1), Decision::Hold(HoldReason::NotZero), "its split would not be known to callers who are on the canary");
    story.set(percent(0.0));
    assert!(matches!(story.tick(&[], 2), Decision::Observe { .. }));
}

#[test]
fn observe_says_once_per_weight_what_it_would_do() {
    for rule in ["sequential", "threshold", "hysteresis", "consecutive", "not-worse"] {
        let mut story = observed(rule);
        let (mut well, mut advised) = (Vec::new(), Vec::new());
        for now in 1..180 {
            well.push(healthy(now - 1, story.rollout.in_force.weight));
            match now {
                2 => story.set(percent(5.0)),
                90 => story.set(percent(30.0)),
                _ => {}
            }
            if let Decision::Advise(advice, why) = story.tick(&well, now) {
                assert!(!why.is_empty());
                advised.push((story.rollout.in_force.weight, advice));
            }
        }
        let rise = |from: f64, to: f64| (percent(from), Advice::Rise { to: percent(to) });
        assert_eq!(advised, [rise(5.0, 25.0), rise(30.0, 50.0)], "{rule}");
        assert!(matches!(story.tick(&well, 180), Decision::Hold(HoldReason::Advised(_))), "{rule}");
    }
}

#[test]
fn observe_that_would_have_taken_the_calls_away_advises_no_rise_at_that_weight_any_more() {
    let mut seen: Vec<Window> = (0..240).map(|n| healthy(n, percent(5.0))).collect();
    seen[40..43].iter_mut().for_each(|w| w.counts.canary = of(50, 40, 0, 0));
    for rule in ["threshold", "not-worse", "sequential"] {
        let mut story = observed(rule);
        story.set(percent(5.0));
        story.tick(&seen[..1], 1);
        let advised: Vec<Advice> = (2..240)
            .filter_map(|now| match story.tick(&seen[..now as usize], now) {
                Decision::Advise(advice, _) => Some(advice),
                _ => None,
            })
            .collect();
        assert_eq!(advised, [Advice::Rise { to: percent(25.0) }, Advice::TakeBack], "{rule}");
    }
}

#[test]
fn observe_ends_when_nobody_moves_the_percentage_for_long_and_writes_nothing() {
    let mut story = observed("sequential");
    assert!(matches!(story.tick(&[], 24 * 60), Decision::Hold(_)));
    assert!(matches!(story.tick(&[], 24 * 60 + 1), Decision::EndObservation(_)));
    assert_eq!(story.rollout.phase, Phase::Aborted);
}

proptest! {
    #![proptest_config(fixed(60))]

    #[test]
    fn observe_never_decides_what_writes(
        rule in prop_oneof![Just("sequential"), Just("threshold"), Just("hysteresis"), Just("consecutive"), Just("not-worse")],
        seed in 0u64..1_000_000,
        hands in proptest::collection::vec((1i64..240, prop_oneof![Just("0"), Just("5"), Just("50"), Just("100"), Just("five")]), 0..8),
        error in prop_oneof![Just(0.015), Just(0.15), Just(0.8)],
        silent in 0i64..240,
    ) {
        let mut draw = Draw::seeded(seed);
        let mut story = observed(rule);
        let mut seen: Vec<Window> = Vec::new();
        for now in 1..240 {
            for (_, text) in hands.iter().filter(|(minute, _)| *minute == now) {
                story.seen.percentage = Some(((*text).to_owned(), story.seen.version() + 1));
            }
            if !(silent..silent + 70).contains(&now) {
                let weight = story.seen.weight().percent();
                seen.push(drawn(&mut draw, now - 1, weight, 1_200.0, USUAL, Rates { error, ..USUAL }));
            }
            let weight = story.rollout.in_force.weight;
            let decision = story.tick(&seen, now);
            let writes = !matches!(
                decision,
                Decision::Hold(_) | Decision::Observe { .. } | Decision::Follow { .. } | Decision::Advise(..) | Decision::EndObservation(_)
            );
            prop_assert!(!writes, "minute {now} at {weight} %: {decision:?}");
            prop_assert!(!decision.rises());
            prop_assert!(decision.event(1).is_none_or(|event| !event.needs_containment()));
        }
    }
}
