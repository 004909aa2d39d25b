//! What people read: the explanation of every kind of decision, reason to hold, doubt and judgement, as in `snapshots/explanations.txt`.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p serin-core --test explanations` writes that file anew. Read what changed in it as whoever is on
//! call at three in the morning.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // the snapshot is a file

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::{Analysis, Breach, Doubt, Measured, Proof, Verdict, analyze};
use serin_core::calendar::{Kind, Restriction, When};
use serin_core::decision::{Decision, Facts, HoldReason, decide};
use serin_core::explain::{Explanation, explain};
use serin_core::ledger::{Entry, Hash, SCHEMA};
use serin_core::measurement::{Comparison, Counts, Side, Sides, Window};
use serin_core::phase::{Advice, Event};
use serin_core::projection::Seen;
use serin_core::rollout::{Actor, Cause, Plan, Rollout, Snapshot};
use serin_core::sequential::{OnCap, Reason, spell};
use serin_core::weight::Weight;
use std::collections::BTreeSet;
use std::fmt::Write;
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

/// A minute at 5 %, both cohorts well.
const STABLE: Counts = Counts { calls: 190, errors: 2, abandons: 11, transfers: 38, contained: 139, times: None, queue: None };
const WELL: Counts = Counts { calls: 10, errors: 0, abandons: 0, transfers: 2, contained: 8, times: None, queue: None };

/// A rollout and the parameter as its ledger explains it.
#[derive(Clone)]
struct Story {
    entries: Vec<Entry>,
    rollout: Rollout,
    seen: Seen,
    restricted: Vec<Restriction>,
}

impl Story {
    /// Asked for at minute 0.
    fn asked(policy: &str) -> Story {
        let plan: Plan = serde_json::from_str(&format!(
            r#"{{"flow":"main_ivr","stable":{{"flow_id":"stable-1"}},"canary":{{"flow_id":"canary-1","version":"15.0"}},"policy":{policy}}}"#
        ))
        .unwrap();
        let first = entry(0, Event::Requested { plan: Box::new(plan) }, None);
        let rollout = Rollout::replay([&first]).unwrap();
        Story { entries: vec![first], rollout, seen: Seen { percentage: Some(("0".into(), 1)), ..Seen::default() }, restricted: Vec::new() }
    }

    /// While errors are expected, or no change is wanted.
    fn during(self, kind: Kind) -> Story {
        let when = When::Once { from: at(0), until: Some(at(120)) };
        let (id, reason) = (format!("{}-1", kind.name()), "the carrier works on its lines".to_owned());
        Story { restricted: vec![Restriction { id, kind, flow: None, when, reason, by: "sam".into(), ended: None }], ..self }
    }

    fn prepared(policy: &str) -> Story {
        Story::asked(policy).tell(0, Event::Prepared { canary_version: "15.0".into() })
    }

    /// At 5 % since minute 0.
    fn stepping(policy: &str) -> Story {
        Story::prepared(policy).raised(0, 5.0, None)
    }

    /// At 100 % since minute 0, after so many stable calls at the last step.
    fn baking(policy: &str) -> Story {
        let stable = of(3000, 45, 180, 660);
        Story::stepping(policy).raised(0, 100.0, Some(Comparison { stable, canary: stable }))
    }

    fn observed(policy: &str, weight: Option<f64>) -> Story {
        let mut story = Story::prepared(policy).tell(0, Event::ObservationStarted { version: 1 });
        if let Some(weight) = weight {
            story.seen.percentage = Some((weight.to_string(), 2));
            story = story.tell(0, Event::WeightSet { weight: percent(weight), version: 2 });
        }
        story
    }

    fn tell(self, minute: i64, event: Event) -> Story {
        self.tell_with(minute, event, None)
    }

    fn tell_with(self, minute: i64, event: Event, evidence: Option<Comparison>) -> Story {
        self.tell_entry(entry(minute, event, evidence))
    }

    fn tell_entry(mut self, entry: Entry) -> Story {
        self.entries.push(entry);
        self.rollout = Rollout::replay(&self.entries).unwrap();
        self
    }

    /// Recorded, written and seen.
    fn raised(self, minute: i64, to: f64, evidence: Option<Comparison>) -> Story {
        let (base_version, weight) = (self.seen.version(), percent(to));
        let event = match weight {
            Weight::FULL => Event::PromotionStarted { base_version },
            weight => Event::StepStarted { weight, base_version },
        };
        self.tell_with(minute, event, evidence)
            .set(&to.to_string())
            .tell(minute, Event::WeightApplied { weight, version: base_version + 1 })
    }

    /// The parameter gets a value; the ledger knows nothing of it.
    fn set(mut self, text: &str) -> Story {
        self.seen.percentage = Some((text.to_owned(), self.seen.version() + 1));
        self
    }

    fn analysis(&self, windows: &[Window], now: i64) -> Option<Analysis> {
        let (policy, weights) = (&self.rollout.plan.policy, self.rollout.weights.as_slice());
        let measured = Measured { policy, weights, windows, summary: None, baseline: self.rollout.baseline };
        self.rollout.phase.is_watched().then(|| analyze(&measured, at(now)))
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

/// One explanation.
struct Case {
    title: String,
    decision: Decision,
    analysis: Option<Analysis>,
    explanation: Explanation,
}

#[derive(Default)]
struct Book(Vec<Case>);

impl Book {
    /// What is decided on a story, explained.
    fn decided(&mut self, title: &str, story: &Story, windows: &[Window], now: i64) {
        let analysis = story.analysis(windows, now);
        self.on(title, story, analysis, now, None);
    }

    /// A decision that no short story leads to, explained by the facts of one.
    fn given(&mut self, title: &str, decision: Decision, story: &Story, windows: &[Window], now: i64) {
        let analysis = story.analysis(windows, now);
        self.on(title, story, analysis, now, Some(decision));
    }

    fn on(&mut self, title: &str, story: &Story, analysis: Option<Analysis>, now: i64, decision: Option<Decision>) {
        let (rollout, seen, restricted) = (&story.rollout, &story.seen, story.restricted.as_slice());
        let facts = Facts { rollout, seen, analysis: analysis.as_ref(), drift: None, restricted, now: at(now) };
        let decision = decision.unwrap_or_else(|| decide(&facts));
        let explanation = explain(&decision, &facts);
        self.0.push(Case { title: title.to_owned(), decision, analysis, explanation });
    }

    /// What a rule says where it is the only one.
    fn rule(&mut self, title: &str, rule: &str, windows: &[Window], now: i64) {
        self.decided(title, &Story::stepping(&format!(r#"{{"rule":{{{rule}}}}}"#)), windows, now);
    }

    /// What the sequential judge says at 5 %.
    fn judge(&mut self, title: &str, reason: Reason) {
        let seen = minutes(0..60, STABLE, WELL);
        self.given(title, Decision::Hold(HoldReason::Inconclusive(Doubt::Judge(reason))), &Story::stepping("{}"), &seen, 40);
    }
}

fn sides(metric: &str, canary: (f64, f64), stable: (f64, f64)) -> Sides {
    let side = |(sum, calls)| Side { sum, calls };
    Sides { metric: metric.into(), mean: metric == "handle", canary: side(canary), stable: side(stable) }
}

fn phases(book: &mut Book) {
    book.decided("preparing", &Story::asked("{}"), &[], 5);
    book.decided("preparing, for too long", &Story::asked("{}"), &[], 31);
    book.decided("prepared", &Story::prepared("{}"), &[], 5);
    let raising = Story::stepping("{}").tell(40, Event::StepStarted { weight: percent(25.0), base_version: 2 });
    book.decided("a raise is under way", &raising, &minutes(0..40, STABLE, WELL), 40);
    let mut stale = Story::stepping("{}");
    stale.seen.percentage = Some(("0".into(), 1));
    book.decided("an old read of the parameter", &stale, &minutes(0..40, STABLE, WELL), 40);
    let paused = Story::stepping("{}").tell(20, Event::Paused { weight: percent(5.0), version: None, reason: "lunch".into() });
    book.decided("paused by a person, healthy", &paused, &minutes(0..60, STABLE, WELL), 60);
    book.decided("paused by a person, for too long", &paused, &minutes(0..1470, STABLE, WELL), 1470);
    let snapshot = Snapshot {
        stable_version: "14.0".into(),
        stable_hash: "a".into(),
        rollback_target: "13.0".into(),
        rollback_hash: "b".into(),
        canary_hash: "c".into(),
        ..Snapshot::default()
    };
    let finalizing = Story::asked("{}")
        .tell(0, Event::SnapshotTaken { snapshot })
        .tell(0, Event::Prepared { canary_version: "15.0".into() })
        .raised(0, 100.0, None)
        .tell(40, Event::BakeFinished);
    book.decided("finalizing", &finalizing, &[], 42);
    book.decided("finalizing, for too long", &finalizing, &[], 51);
    book.decided("finalizing, and a person sets the percentage", &finalizing.clone().set("0"), &[], 42);
    let rolling_back = Story::stepping("{}").tell(20, Event::RollbackStarted { cause: Cause::FoundContained });
    book.decided("rolling back", &rolling_back, &[], 21);
    book.decided("rolling back, for too long", &rolling_back, &[], 26);
    book.decided("rolled back", &rolling_back.tell(21, Event::RollbackFinished { version: "13.0".into() }), &[], 22);
    let contaminated = Story::stepping("{}").tell(20, Event::Contaminated { reason: "set to 60 by hand".into() });
    book.decided("contaminated", &contaminated, &[], 21);
    book.decided("contaminated, for too long", &contaminated, &[], 1461);
}

fn hands_and_silence(book: &mut Book) {
    let seen = minutes(0..40, STABLE, WELL);
    book.decided("a person lowers the percentage", &Story::stepping("{}").set("2"), &seen, 40);
    book.decided("a person raises the percentage", &Story::stepping("{}").set("60"), &seen, 40);
    book.decided("a person writes what is no percentage", &Story::stepping("{}").set("five"), &seen, 40);
    let mut halted = Story::stepping("{}");
    halted.seen.halt = Some("r-20261120-1".into());
    book.decided("found contained", &halted, &seen, 40);
    let asked = Cause::Requested { by: "sam".into(), reason: "callers complain".into() };
    book.given("a person asks for a rollback", Decision::Rollback(asked), &Story::stepping("{}"), &seen, 40);
    book.decided("no call has ended yet", &Story::stepping("{}"), &[], 3);
    book.decided("evidence that is old", &Story::stepping("{}"), &minutes(0..40, STABLE, WELL), 60);
    let never = Decision::Hold(HoldReason::NoRecentData { last: None });
    book.given("no data at this weight", never, &Story::stepping("{}"), &[], 10);
    book.decided("no data for too long", &Story::stepping("{}"), &minutes(0..40, STABLE, WELL), 101);
    let mut unread = Story::stepping("{}").analysis(&seen, 40);
    unread.as_mut().unwrap().verdict = Verdict::Error("analytics answered 503".into());
    book.on("metrics that cannot be read", &Story::stepping("{}"), unread, 40, None);
    let undecided = Story::stepping(r#"{"rule":{"kind":"not-worse"},"step_cap":60}"#);
    book.decided("undecided for too long", &undecided, &minutes(0..70, STABLE, of(10, 0, 1, 2)), 61);
    let outage = [minutes(0..45, STABLE, WELL), minutes(45..60, of(190, 19, 11, 38), WELL)].concat();
    book.decided("stable itself got worse", &Story::stepping(r#"{"rule":{"kind":"threshold"}}"#), &outage, 60);
}

fn trip_wire(book: &mut Book) {
    book.decided("the trip-wire: errors", &Story::stepping("{}"), &minutes(0..3, STABLE, of(10, 6, 0, 0)), 3);
    book.decided("the trip-wire: hang-ups", &Story::stepping("{}"), &minutes(5..7, STABLE, of(10, 0, 6, 0)), 9);
    book.decided("the trip-wire at 100 %", &Story::baking("{}"), &minutes(0..2, of(0, 0, 0, 0), of(200, 150, 0, 0)), 2);
}

fn restrictions(book: &mut Book) {
    let (broken, well) = (minutes(0..3, STABLE, of(10, 6, 0, 0)), minutes(0..120, STABLE, WELL));
    let (expected, contained) = (Kind::Maintenance { contain: false }, Kind::Maintenance { contain: true });
    book.decided("maintenance: a rollback is called for", &Story::stepping("{}").during(expected), &broken, 3);
    let cause = Cause::FoundContained;
    let told = Story::stepping("{}").tell(3, Event::RollbackWithheld { cause, restriction: "maintenance-1".into(), contained: None });
    book.decided("maintenance: that was told", &told.during(expected), &broken, 3);
    book.decided("maintenance that contains: a rollback is called for", &Story::stepping("{}").during(contained), &broken, 3);
    let rule = r#"{"rule":{"kind":"not-worse"}}"#;
    book.decided("maintenance: healthy long enough", &Story::stepping(rule).during(expected), &well, 115);
    book.decided("a freeze: healthy long enough", &Story::stepping(rule).during(Kind::Freeze), &well, 115);
    book.decided("a freeze: the canary is broken", &Story::stepping("{}").during(Kind::Freeze), &broken, 3);
    book.decided("a stop: prepared", &Story::prepared("{}").during(Kind::Stop), &[], 5);
    book.decided("a stop: prepared, for too long", &Story::prepared("{}").during(Kind::Stop), &[], 31);
}

fn both_fail(book: &mut Book) {
    let both = minutes(0..3, of(190, 120, 5, 5), of(10, 7, 0, 0));
    book.decided("both cohorts fail", &Story::stepping("{}"), &both, 3);
    let (weight, reason) = (percent(5.0), "both fail".to_owned());
    let asked = Story::stepping("{}").tell(3, Event::BothFailing { weight, reason });
    book.decided("both cohorts fail, and a person was asked", &asked, &both, 4);
    let by_person = |story: Story| {
        let promoted = Entry { by: Actor::Person("sam".into()), ..entry(5, Event::PromotionStarted { base_version: 2 }, None) };
        story.tell_entry(promoted).set("100").tell(5, Event::WeightApplied { weight: Weight::FULL, version: 3 })
    };
    let broken = minutes(5..8, of(0, 0, 0, 0), of(200, 150, 0, 0));
    let sent = by_person(asked);
    book.decided("stable is broken, and so is the canary", &sent, &broken, 8);
    let asked = sent.tell(8, Event::BothFailing { weight: Weight::FULL, reason: "it fails too".into() });
    book.decided("stable is broken, and so is the canary, and a person was asked", &asked, &broken, 9);
}

fn rules(book: &mut Book) {
    let (threshold, hysteresis, consecutive, not_worse) =
        (r#""kind":"threshold""#, r#""kind":"hysteresis""#, r#""kind":"consecutive""#, r#""kind":"not-worse""#);
    book.rule("threshold: before the first look", threshold, &minutes(0..10, STABLE, WELL), 10);
    book.rule("threshold: too few calls", threshold, &minutes(0..20, STABLE, of(1, 0, 0, 0)), 16);
    book.rule("threshold: nobody on stable", threshold, &minutes(0..20, of(0, 0, 0, 0), WELL), 16);
    book.rule("threshold: healthy, not for long enough", threshold, &minutes(0..30, STABLE, WELL), 30);
    book.rule("threshold: on", threshold, &minutes(0..60, STABLE, WELL), 46);
    book.rule("threshold: abandons", threshold, &minutes(0..20, STABLE, of(10, 0, 2, 2)), 16);
    book.rule("threshold: transfers", threshold, &minutes(0..20, STABLE, of(10, 0, 0, 4)), 16);
    let twice = r#""kind":"threshold","breach_limit":2"#;
    book.rule("threshold: one look of two", twice, &minutes(0..20, STABLE, of(10, 0, 2, 2)), 16);
    book.rule("threshold: two looks of two", twice, &minutes(0..40, STABLE, of(10, 0, 2, 2)), 31);
    let far = r#"{"rule":{"kind":"hysteresis"},"errors":{"percent":100}}"#;
    let erring = minutes(0..40, STABLE, of(10, 1, 0, 2));
    book.decided("hysteresis: one interval", &Story::stepping(far), &erring, 12);
    book.decided("hysteresis: errors", &Story::stepping(far), &erring, 17);
    book.decided("hysteresis: abandons", &Story::stepping(far), &minutes(0..40, STABLE, of(10, 0, 2, 2)), 17);
    book.rule("hysteresis: on", hysteresis, &minutes(0..60, STABLE, WELL), 46);
    book.rule("consecutive: errors", consecutive, &erring, 12);
    book.rule("consecutive: errors that stable shares", consecutive, &minutes(0..40, of(190, 15, 11, 38), of(10, 1, 0, 2)), 12);
    book.rule("consecutive: on", consecutive, &minutes(0..60, STABLE, WELL), 46);
    book.rule("not-worse: worse", not_worse, &minutes(0..40, STABLE, of(10, 0, 1, 2)), 40);
    book.rule("not-worse: on", not_worse, &minutes(0..60, STABLE, WELL), 46);
    book.rule("the limit on errors beside a rule", not_worse, &minutes(0..40, STABLE, of(10, 1, 0, 2)), 12);
}

fn at_full(book: &mut Book) {
    let alone = |canary| minutes(0..60, of(0, 0, 0, 0), canary);
    book.decided("at 100 %: healthy, not for long enough", &Story::baking("{}"), &alone(of(200, 3, 12, 44)), 20);
    book.decided("at 100 %: the bake is over", &Story::baking("{}"), &alone(of(200, 3, 12, 44)), 60);
    book.decided("at 100 %: worse than stable was", &Story::baking("{}"), &alone(of(200, 20, 12, 44)), 12);
    let threshold = Story::baking(r#"{"rule":{"kind":"threshold"}}"#);
    book.decided("at 100 %: threshold against what stable was", &threshold, &alone(of(200, 3, 20, 44)), 16);
    let late = minutes(0..1500, of(0, 0, 0, 0), of(200, 3, 13, 44));
    let undecided = Story::baking(r#"{"rule":{"kind":"not-worse"}}"#);
    book.decided("at 100 %: undecided for too long", &undecided, &late, 1450);
}

fn modes(book: &mut Book) {
    let well = minutes(0..60, STABLE, WELL);
    let advise = Story::stepping(r#"{"mode":"advise"}"#);
    book.decided("advise: asks", &advise, &well, 45);
    book.decided("advise: asks, under another rule", &Story::stepping(r#"{"mode":"advise","rule":{"kind":"threshold"}}"#), &well, 46);
    let waiting = advise.tell(45, Event::ApprovalRequested);
    book.decided("advise: waits for the approval", &waiting, &well, 46);
    book.decided("advise: nobody approved", &waiting, &minutes(0..1500, STABLE, WELL), 1490);
    book.decided("advise: approved", &waiting.tell(50, Event::Approved { reason: "looks well".into() }), &well, 50);
    let observe = r#"{"mode":"observe"}"#;
    book.decided("observe: begins", &Story::prepared(observe), &[], 5);
    book.decided("observe: the percentage is not at 0 to begin with", &Story::prepared(observe).set("5"), &[], 5);
    book.decided("observe: nobody has set the percentage", &Story::observed(observe, None), &[], 5);
    book.decided("observe: a person sets the percentage", &Story::observed(observe, None).set("5"), &[], 5);
    book.decided("observe: nobody did for long", &Story::observed(observe, None), &[], 1441);
    let at_5 = Story::observed(observe, Some(5.0));
    book.decided("observe: would go on", &at_5, &well, 45);
    let said = at_5.clone().tell(45, Event::Advised { advice: Advice::Rise { to: percent(25.0) } });
    book.decided("observe: would go on, and has said so", &said, &well, 46);
    let broken = minutes(0..5, STABLE, of(10, 6, 0, 0));
    book.decided("observe: would take the calls away", &at_5, &broken, 3);
    let said = at_5.clone().tell(3, Event::Advised { advice: Advice::TakeBack });
    book.decided("observe: would take the calls away, and has said so", &said, &broken, 4);
    let threshold = Story::observed(r#"{"mode":"observe","rule":{"kind":"threshold"}}"#, Some(5.0));
    book.decided("observe: would go on, under another rule", &threshold, &well, 46);
    let at_100 = Story::observed(observe, Some(100.0));
    book.decided("observe: healthy at 100 %", &at_100, &minutes(0..60, of(0, 0, 0, 0), of(200, 3, 12, 44)), 45);
}

/// Minutes of so many calls at 5 %, one of whose canary calls fails now and then.
fn erring(calls: u32, every: i64, until: i64) -> Vec<Window> {
    let mut seen = minutes(0..until, of(19 * calls, calls / 4, calls, 4 * calls), of(calls, 0, calls / 18, calls / 5));
    seen.iter_mut().filter(|w| w.start.duration_since(at(0)).as_mins() % every == 0).for_each(|w| {
        w.counts.canary = of(calls, 1, calls / 18, calls / 5);
    });
    seen
}

fn sequential(book: &mut Book) {
    book.decided("sequential: baking", &Story::stepping("{}"), &minutes(0..20, STABLE, WELL), 20);
    let mut rare = minutes(0..60, of(6, 0, 0, 1), of(0, 0, 0, 0));
    rare.iter_mut().step_by(4).for_each(|w| w.counts.canary = of(1, 0, 0, 0));
    book.decided("sequential: baking, long enough but with too few calls", &Story::stepping("{}"), &rare, 50);
    book.decided("sequential: on", &Story::stepping("{}"), &minutes(0..60, STABLE, WELL), 46);
    let last = Story::stepping("{}").raised(0, 50.0, None);
    let half = of(500, 5, 30, 110);
    book.decided("sequential: on to 100 %", &last, &minutes(0..60, half, half), 46);
    book.decided("sequential: harm", &Story::stepping("{}"), &minutes(0..40, STABLE, of(10, 2, 0, 2)), 20);
    let (story, seen) = (Story::stepping("{}"), erring(10, 2, 90));
    let suspicious = |now: &i64| matches!(story.analysis(&seen, *now).unwrap().said.unwrap().reason, Reason::Watching { .. });
    let now = (10..90).find(suspicious).unwrap();
    book.decided("sequential: suspicious", &story, &seen, now);
    let mut slow = minutes(0..90, of(19, 0, 1, 4), of(1, 0, 0, 0));
    slow.iter_mut().step_by(8).for_each(|w| w.counts.canary = of(1, 0, 1, 0));
    book.decided("sequential: not cleared", &Story::stepping("{}"), &slow, 50);
    for on_cap in ["hold", "rollback"] {
        let story = Story::stepping(&format!(r#"{{"rule":{{"kind":"sequential","on_cap":"{on_cap}","max_step":40}}}}"#));
        book.decided(&format!("sequential: the step's time is up, on_cap {on_cap}"), &story, &slow, 50);
    }
    let mut alike = minutes(0..60, of(3, 0, 0, 1), of(1, 0, 0, 0));
    alike.iter_mut().step_by(10).for_each(|w| w.counts.stable = of(3, 0, 1, 0));
    alike.iter_mut().skip(15).step_by(40).for_each(|w| w.counts.canary = of(1, 0, 1, 0));
    let story = Story::stepping(r#"{"rule":{"kind":"sequential","max_step":40}}"#).raised(0, 25.0, None);
    book.decided("sequential: the step's time is up, on_cap advance", &story, &alike, 47);
    let few = minutes(0..90, of(200, 2, 11, 38), of(0, 0, 0, 0));
    book.decided("sequential: no call reaches the canary", &Story::stepping("{}"), &few, 40);
    book.decided("sequential: far too many calls reach the canary", &Story::stepping("{}"), &minutes(0..40, half, half), 20);
    let busy = r#"{"expected_calls_per_hour":20000}"#;
    let probe = Story::prepared(busy).raised(0, 1.4, None);
    book.decided("sequential: probing", &probe, &minutes(0..10, of(329, 3, 20, 66), of(4, 0, 0, 1)), 10);
    book.decided("sequential: the probe is clean", &probe, &minutes(0..20, of(329, 3, 20, 66), of(5, 0, 0, 1)), 12);
    let quiet = Story::prepared(r#"{"expected_calls_per_hour":100}"#).raised(0, 10.0, None);
    book.decided("sequential: probing where few call", &quiet, &minutes(0..40, of(2, 0, 0, 0), of(0, 0, 0, 0)), 20);
    book.decided(
        "sequential: nothing at weight 0",
        &Story::stepping("{}").tell(5, paused_at(0.0)).set("0"),
        &minutes(0..40, STABLE, of(0, 0, 0, 0)),
        40,
    );
    // What only `serin replay --stdio` says, and what needs a metric that nobody measures yet.
    book.judge("sequential: start", Reason::Start { probe: false, low_volume: false, weight: 5.0 });
    book.judge("sequential: start with a probe", Reason::Start { probe: true, low_volume: false, weight: 1.4 });
    book.judge("sequential: start at low volume", Reason::Start { probe: true, low_volume: true, weight: 10.0 });
    book.judge("sequential: nothing was measured", Reason::NoData);
    book.judge("sequential: unreadable", Reason::Unreadable);
    book.judge("sequential: a required metric is missing", Reason::Unavailable { metric: "handle".into() });
    book.judge("sequential: at 100 %", Reason::Promoted);
    let handle = sides("handle", (7_800.0, 20.0), (91_200.0, 380.0));
    let slower = Breach { sides: handle.clone(), limit: 252.0, proof: Proof::Odds(120.0) };
    let seen = minutes(0..60, STABLE, WELL);
    book.given("sequential: handle time", Decision::Rollback(Cause::Breach(slower)), &Story::stepping("{}"), &seen, 40);
    let margin = "+90 %".to_owned();
    book.judge("sequential: handle time not cleared", Reason::NotCleared { sides: handle, margin, minutes: Some(7_000.0) });
}

fn hastened(book: &mut Book) {
    let well = minutes(0..30, STABLE, WELL);
    let by = |story: Story, to: f64, verb: &str| {
        let reason = format!("{verb} by sam: the floor waits for it");
        story.tell(9, Event::Hastened { to: percent(to), reason })
    };
    let next = by(Story::stepping("{}"), 25.0, "advance");
    book.decided("a person hastened it to the next step", &next, &well, 10);
    book.decided("a person hastened it to 100 %", &by(Story::stepping("{}"), 100.0, "promote"), &well, 10);
    let advise = by(Story::stepping(r#"{"mode":"advise","rule":{"kind":"threshold"}}"#), 25.0, "advance");
    book.decided("a person hastened it where each step waits for one", &advise, &well, 10);
    book.decided("hastened: nothing to be seen", &next, &[], 10);
    book.decided("hastened: in a freeze", &next.clone().during(Kind::Freeze), &well, 10);
    let outage = [minutes(0..18, STABLE, WELL), minutes(18..40, of(190, 60, 11, 38), WELL)].concat();
    book.decided("hastened: stable got worse too", &next, &outage, 24);
    book.decided("hastened: the verdict fails", &next, &minutes(0..40, STABLE, of(10, 2, 0, 2)), 20);
}

fn paused_at(weight: f64) -> Event {
    Event::Paused { weight: percent(weight), version: Some(3), reason: "set to 0 by hand".into() }
}

fn book() -> Book {
    let mut book = Book::default();
    phases(&mut book);
    hands_and_silence(&mut book);
    trip_wire(&mut book);
    restrictions(&mut book);
    both_fail(&mut book);
    rules(&mut book);
    at_full(&mut book);
    modes(&mut book);
    hastened(&mut book);
    sequential(&mut book);
    book
}

const HEAD: &str = "What people read, a heading per case. Written by `UPDATE_SNAPSHOTS=1 cargo test -p serin-core --test explanations`.\n";

#[test]
fn every_explanation_reads_as_in_the_snapshot() {
    let mut now = HEAD.to_owned();
    for case in book().0 {
        write!(now, "\n## {}\n[{}] {}\n", case.title, case.decision.name(), case.explanation).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/explanations.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let differs =
        kept.lines().zip(now.lines()).position(|(kept, now)| kept != now).unwrap_or(kept.lines().count().min(now.lines().count()));
    let around = |text: &str| text.lines().skip(differs.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n");
    assert!(
        kept == now,
        "line {} differs; UPDATE_SNAPSHOTS=1 writes the file anew.\n--- kept\n{}\n--- now\n{}",
        differs + 1,
        around(&kept),
        around(&now)
    );
}

#[test]
fn every_explanation_is_whole() {
    for Case { title, analysis, explanation, .. } in book().0 {
        let text = explanation.to_string();
        for nonsense in ["NaN", "inf ", "inf%", "-0.0", "None", "Some(", "  \n", "{", "}"] {
            assert!(!text.contains(nonsense), "{title}: `{nonsense}` in\n{text}");
        }
        assert!(!explanation.sentence.trim().is_empty() && !explanation.would_change.trim().is_empty(), "{title}");
        assert!(text.contains("\nwould change it: ") && text.contains("\ndecided by: ") && text.contains("\nnext decision: "), "{title}");
        if analysis.is_some_and(|a| a.counts.canary.calls > 0) {
            let told = |metric: &str| explanation.figures.iter().any(|line| line.starts_with(metric) && line.contains(" %"));
            assert!(["errors", "abandoned calls", "transfers"].into_iter().all(told), "{title}: a figure is lacking in\n{text}");
        }
        if let Some(metric) = &explanation.decided_by {
            let known =
                explanation.sentence.contains(metric.as_str()) || explanation.figures.iter().any(|line| line.starts_with(metric.as_str()));
            assert!(known, "{title}: decided by {metric}, of which nothing is said in\n{text}");
        }
    }
}

#[test]
fn the_figures_hold_the_calls_that_the_sentence_speaks_of() {
    for Case { title, explanation, .. } in book().0 {
        let Some(metric) = &explanation.decided_by else { continue };
        let text = explanation.to_string();
        let empty = explanation.figures.iter().any(|line| line.starts_with(metric.as_str()) && line.contains("no canary call"));
        assert!(!empty, "{title}: decided by calls that the figures deny in\n{text}");
    }
}

#[test]
fn what_a_person_did_was_decided_by_no_metric() {
    for Case { title, explanation, .. } in book().0.into_iter().filter(|case| case.title.starts_with("a person")) {
        assert_eq!(explanation.decided_by, None, "{title}");
    }
}

#[test]
fn a_pause_at_weight_0_does_not_complain_about_missing_measurements() {
    let story = Story::stepping("{}").tell(5, paused_at(0.0)).set("0");
    let mut book = Book::default();
    book.decided("", &story, &minutes(0..40, STABLE, of(0, 0, 0, 0)), 40);
    assert_eq!(book.0[0].decision, Decision::Hold(HoldReason::Paused));
}

#[test]
fn one_minute_is_a_minute_and_twenty_one_are_minutes() {
    for (minutes, expected) in
        [(0.3, "1 minute"), (1.0, "1 minute"), (1.4, "1 minute"), (2.0, "2 minutes"), (11.0, "11 minutes"), (21.0, "21 minutes")]
    {
        assert_eq!(spell(minutes), expected);
    }
    for (minutes, expected) in [(101.0, "101 minutes"), (120.0, "2 hours"), (2_880.0, "2 days")] {
        assert_eq!(spell(minutes), expected);
    }
}

#[test]
fn at_100_percent_the_figures_are_those_that_were_compared() {
    for Case { title, explanation, .. } in book().0.into_iter().filter(|case| case.title.starts_with("at 100 %")) {
        let text = explanation.to_string();
        assert!(
            explanation.figures.iter().all(|line| line.contains("3000 stable calls")),
            "{title}: what it was compared with is not in\n{text}"
        );
    }
}

// Every kind has a case: a new one does not compile here, and then fails below until it has one.

fn decision(decision: &Decision) -> &'static str {
    match decision {
        Decision::Hold(_)
        | Decision::Begin { .. }
        | Decision::Advance { .. }
        | Decision::Promote
        | Decision::AskApproval { .. }
        | Decision::Observe { .. }
        | Decision::Follow { .. }
        | Decision::Advise(..)
        | Decision::EndObservation(_)
        | Decision::FinishBake
        | Decision::Rollback(_)
        | Decision::Withhold { .. }
        | Decision::CallJudge { .. }
        | Decision::Pause { .. }
        | Decision::Contaminate(_)
        | Decision::Abort(_)
        | Decision::FailPreparation(_)
        | Decision::CallHuman(_) => decision.name(),
    }
}

fn hold(reason: &HoldReason) -> &'static str {
    match reason {
        HoldReason::Preparing => "Preparing",
        HoldReason::ApplyingWeight { .. } => "ApplyingWeight",
        HoldReason::StaleRead => "StaleRead",
        HoldReason::Inconclusive(_) => "Inconclusive",
        HoldReason::MetricsUnavailable(_) => "MetricsUnavailable",
        HoldReason::Baking { .. } => "Baking",
        HoldReason::Paused => "Paused",
        HoldReason::AwaitingApproval => "AwaitingApproval",
        HoldReason::Advised(Advice::Rise { .. }) => "Advised rise",
        HoldReason::Advised(Advice::TakeBack) => "Advised take-back",
        HoldReason::NotZero => "NotZero",
        HoldReason::NotObservable => "NotObservable",
        HoldReason::ObservedAtFull => "ObservedAtFull",
        HoldReason::CommonCause(_) => "CommonCause",
        HoldReason::NoRecentData { .. } => "NoRecentData",
        HoldReason::LeftToPerson(_) => "LeftToPerson",
        HoldReason::Restricted(_) => "Restricted",
        HoldReason::Withheld(_) => "Withheld",
        HoldReason::Finalizing => "Finalizing",
        HoldReason::Restoring => "Restoring",
        HoldReason::Contaminated => "Contaminated",
        HoldReason::Ended => "Ended",
    }
}

fn doubt(doubt: &Doubt) -> &'static str {
    match doubt {
        Doubt::TooFewCalls { .. } => "TooFewCalls",
        Doubt::Breaching { .. } => "Breaching",
        Doubt::Shared { .. } => "Shared",
        Doubt::Worse { .. } => "Worse",
        Doubt::NoLookYet { .. } => "NoLookYet",
        Doubt::NoBaseline => "NoBaseline",
        Doubt::Judge(_) => "Judge",
    }
}

fn judgement(reason: &Reason) -> &'static str {
    match reason {
        Reason::Start { .. } => "Start",
        Reason::Harm { .. } => "Harm",
        Reason::SampleRatio { out_of_hand: false, .. } => "SampleRatio",
        Reason::SampleRatio { out_of_hand: true, .. } => "SampleRatio out of hand",
        Reason::NoData => "NoData",
        Reason::Unreadable => "Unreadable",
        Reason::Unavailable { .. } => "Unavailable",
        Reason::Probing { .. } => "Probing",
        Reason::ProbeClean { .. } => "ProbeClean",
        Reason::Watching { .. } => "Watching",
        Reason::Baking { .. } => "Baking",
        Reason::NotCleared { .. } => "NotCleared",
        Reason::Cleared { .. } => "Cleared",
        Reason::TimeUp { then: OnCap::Advance, .. } => "TimeUp, on",
        Reason::TimeUp { then: OnCap::Hold, .. } => "TimeUp, a person",
        Reason::TimeUp { then: OnCap::Rollback, .. } => "TimeUp, back",
        Reason::Promoted => "Promoted",
    }
}

#[test]
fn every_kind_of_decision_and_reason_is_explained_in_the_snapshot() {
    let book = book().0;
    let decisions: BTreeSet<_> = book.iter().map(|case| decision(&case.decision)).collect();
    assert_eq!(decisions.len(), 18, "{decisions:?}");
    let holds: Vec<&HoldReason> =
        book.iter().filter_map(|case| if let Decision::Hold(reason) = &case.decision { Some(reason) } else { None }).collect();
    let reasons: BTreeSet<_> = holds.iter().map(|reason| hold(reason)).collect();
    assert_eq!(reasons.len(), 22, "{reasons:?}");
    let doubts: Vec<&Doubt> =
        holds.iter().filter_map(|reason| if let HoldReason::Inconclusive(doubt) = reason { Some(doubt) } else { None }).collect();
    let kinds: BTreeSet<_> = doubts.iter().map(|d| doubt(d)).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    let held = doubts.iter().filter_map(|doubt| if let Doubt::Judge(reason) = doubt { Some(reason) } else { None });
    let said = book.iter().filter_map(|case| case.analysis.as_ref()?.said.as_ref()).map(|said| &said.reason);
    let judgements: BTreeSet<_> = held.chain(said).map(judgement).collect();
    assert_eq!(judgements.len(), 17, "{judgements:?}");
    // The guides' rules and the trip-wire, as the breaches of rollbacks.
    let breaches: BTreeSet<String> = book
        .iter()
        .filter_map(|case| if let Decision::Rollback(Cause::Breach(breach)) = &case.decision { Some(breach) } else { None })
        .map(|breach| {
            let proof = match breach.proof {
                Proof::InARow(n) => format!("{n} in a row"),
                Proof::Odds(_) => "odds".into(),
                Proof::AtOnce => "at once".into(),
            };
            format!("{}, {proof}", breach.sides.metric)
        })
        .collect();
    for expected in [
        "abandon, 1 in a row",
        "transfer, 1 in a row",
        "abandon, 2 in a row",
        "error, 2 in a row",
        "error, 3 in a row",
        "error, odds",
        "handle, odds",
        "error, at once",
        "abandon, at once",
    ] {
        assert!(breaches.contains(expected), "{expected} is not in {breaches:?}");
    }
}
