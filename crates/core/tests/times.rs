//! Handle times come from another source, often later or not at all: known they are judged, unknown they change nothing.
#![allow(clippy::unwrap_used)]

mod calls;

use calls::{Draw, Rates, USUAL};
use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::{Analysis, Measured, Verdict, analyze};
use serin_core::measurement::{Comparison, Counts, InForce, Queue, Times, WINDOW, Window, merge};
use serin_core::policy::Policy;
use serin_core::sequential::{Counter, Tally};
use serin_core::summary::{Course, Summary};
use serin_core::weight::Weight;

const VOLUME: f64 = 3000.0;
const HOURS: i64 = 8;

fn start() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

/// The default policy, with handle time asked for.
fn policy() -> Policy {
    let json = r#"{"rule":{"kind":"sequential","metrics":[{"name":"error"},{"name":"abandon"},{"name":"transfer"},{"name":"handle"}]}}"#;
    Policy { expected_calls_per_hour: Some(VOLUME), ..serde_json::from_str(json).unwrap() }
}

/// Only who is transferred reaches an agent; the others have no handle time.
fn counted(draw: &mut Draw, tally: &Tally, rates: Rates, known: bool) -> Counts {
    let get = |counter| tally.get(counter).unwrap() as u32;
    let counts = Counts {
        calls: get(Counter::Calls),
        errors: get(Counter::Errors),
        abandons: get(Counter::Abandons),
        transfers: get(Counter::Transfers),
        contained: get(Counter::Contained),
        ..Counts::default()
    };
    let mut times = Times::default();
    for _ in 0..counts.transfers {
        let seconds = rates.handle * (rates.sigma * draw.normal() - rates.sigma * rates.sigma / 2.0).exp();
        times.add_one((1000.0 * seconds) as u64);
    }
    counts.with_details(known.then_some(times), known.then(Queue::default))
}

/// A rollout that follows its verdicts along the plan.
struct Played {
    analyses: Vec<Analysis>,
    weights: Vec<InForce>,
    windows: Vec<Window>,
}

impl Played {
    fn end(&self) -> &Verdict {
        &self.analyses.last().unwrap().verdict
    }

    /// What the judge says when the times of a minute are known only so many minutes later.
    fn judged_with_times_after(&self, minutes: i64) -> Summary {
        let policy = policy();
        let course = Course { policy: &policy, weights: &self.weights };
        let (mut recorded, mut summary) = (Vec::new(), None::<Summary>);
        let last = self.windows.len() - 1;
        for upto in 0..=last + minutes as usize {
            let until = upto.min(last);
            let from = until.saturating_sub(15);
            let told = self.windows[from..=until].iter().map(|w| {
                let late = w.start + WINDOW * minutes as i32 > start() + WINDOW * upto as i32;
                if late { without_times(w) } else { *w }
            });
            recorded = merge(&recorded, &told.collect::<Vec<_>>());
            let since = summary.as_ref().map_or(start(), |s: &Summary| s.until);
            let new: Vec<Window> = recorded.iter().filter(|w| w.start >= since).copied().collect();
            summary = course.summarize(summary, &new);
        }
        let since = summary.as_ref().map_or(start(), |s| s.until);
        let new: Vec<Window> = recorded.iter().filter(|w| w.start >= since).copied().collect();
        course.judge(summary.as_ref(), &new, start() + WINDOW * (last as i32 + 10)).unwrap()
    }
}

fn without_times(window: &Window) -> Window {
    let side = |counts: Counts| Counts { times: None, queue: None, ..counts };
    Window { counts: Comparison { stable: side(window.counts.stable), canary: side(window.counts.canary) }, ..*window }
}

fn play(seed: u64, canary: Rates, known: bool) -> Played {
    let policy = policy();
    let mut draw = Draw::seeded(seed);
    let in_force = |weight: Weight, minute: i64| InForce { weight, since: start() + WINDOW * minute as i32 };
    let (mut weights, mut windows, mut analyses) = (vec![in_force(policy.weights()[0], 0)], Vec::<Window>::new(), Vec::new());
    let mut summary = None::<Summary>;
    for minute in 0..HOURS * 60 {
        let weight = weights[weights.len() - 1].weight;
        let drawn = calls::minute(&mut draw, minute, weight.percent(), VOLUME, USUAL, canary);
        let stable = counted(&mut draw, &drawn.stable, USUAL, known);
        let canary = counted(&mut draw, &drawn.canary, canary, known);
        windows.push(Window { start: start() + WINDOW * minute as i32, counts: Comparison { stable, canary } });
        let course = Course { policy: &policy, weights: &weights };
        let since = summary.as_ref().map_or(start(), |s: &Summary| s.until);
        let recent: Vec<Window> = windows.iter().filter(|w| w.start >= since - SignedDuration::from_hours(1)).copied().collect();
        let new: Vec<Window> = recent.iter().filter(|w| w.start >= since).copied().collect();
        summary = course.summarize(summary, &new);
        let measured = Measured { policy: &policy, weights: &weights, windows: &recent, summary: summary.as_ref(), baseline: None };
        let analysis = analyze(&measured, start() + WINDOW * (minute + 3) as i32);
        let verdict = analysis.verdict.clone();
        analyses.push(analysis);
        match (verdict, policy.step_after(weight)) {
            (Verdict::Pass, Some(next)) => weights.push(in_force(next, minute + 3)),
            (Verdict::Fail(_), _) | (Verdict::Pass, None) => break,
            _ => {}
        }
    }
    Played { analyses, weights, windows }
}

fn slower() -> Rates {
    Rates { handle: 1.3 * USUAL.handle, ..USUAL }
}

#[test]
fn a_canary_whose_calls_keep_agents_a_third_longer_is_rolled_back_for_that() {
    for seed in 1..=10 {
        match play(seed, slower(), true).end() {
            Verdict::Fail(breach) => assert_eq!(breach.sides.metric, "handle", "seed {seed}"),
            other => panic!("seed {seed}: {other:?}"),
        }
        assert!(!matches!(play(seed, USUAL, true).end(), Verdict::Fail(_)), "seed {seed}: one that does not is not");
    }
}

#[test]
fn times_that_nobody_measured_change_nothing() {
    for seed in 1..=3 {
        // The same calls, but agents take three times as long.
        let (usual, unseen) = (play(seed, USUAL, false), play(seed, Rates { handle: 3.0 * USUAL.handle, ..USUAL }, false));
        assert_eq!(usual.analyses, unseen.analyses);
        assert_eq!(*usual.end(), Verdict::Pass);
        let course = Course { policy: &policy(), weights: &usual.weights };
        let now = start() + WINDOW * (usual.windows.len() + 2) as i32;
        let told = course.judge(None, &usual.windows, now).unwrap().judge.evidence();
        let handle = told.metrics.iter().find(|m| m.sides.metric == "handle").unwrap();
        assert_eq!((handle.harm, handle.clear, handle.available, handle.sides.canary.calls), (1.0, [0.0; 3], false, 0.0));
    }
}

#[test]
fn times_that_come_late_count_as_if_they_had_been_known_from_the_start() {
    let played = play(4, slower(), true);
    let at_once = played.judged_with_times_after(0).judge.evidence();
    assert_eq!(at_once, played.judged_with_times_after(12).judge.evidence());
    assert!(at_once.harm >= 50.0, "{}", at_once.harm);
}
