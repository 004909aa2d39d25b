//! The sequential judge of a rollout, derived from its recorded windows: the same windows give the same evidence to the last bit.
//!
//! What the hours before `until` told is kept as a [`Summary`], bounded in size, so that a tick judges some half hour of
//! windows however old the rollout is. It is a cache: thrown away, it is made again from the windows. A quarter of an hour goes into
//! it once a window well after its end has been read, so that nothing of it is still being restated.

use crate::measurement::{Comparison, Counts, InForce, WINDOW, Window};
use crate::policy::Policy;
use crate::sequential::{self, Counter, Sequential, Tally};
use crate::weight::Weight;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long after its end a minute may still be restated.
pub const RESTATED: SignedDuration = SignedDuration::from_mins(15);
const QUARTER: SignedDuration = SignedDuration::from_mins(15);

/// What the time before `until` told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The windows from here on are not in it.
    pub until: Timestamp,
    /// The evidence.
    pub judge: Sequential,
    /// The calls of the weight in force.
    pub step: Comparison,
    /// Start of the latest minute with data, at whatever weight.
    pub last_data: Option<Timestamp>,
}

impl Summary {
    fn is_elsewhere(&self, weight: Weight) -> bool {
        (self.judge.weight() - weight.percent()).abs() >= 1e-9
    }

    /// Another weight is another step, also before it has calls. Not for a window: the judge wants to see the change with its first one.
    fn weigh(&mut self, weight: Weight) {
        if self.is_elsewhere(weight) {
            self.judge.observe(weight.percent(), &[]);
            self.step = Comparison::default();
        }
    }
}

/// The start of the hour that holds a time.
pub fn hour(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second().div_euclid(3600) * 3600).expect("rounding down stays in range")
}

/// What a rollout's weights were, and how they are judged.
#[derive(Debug, Clone, Copy)]
pub struct Course<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Every weight that was in force, oldest first.
    pub weights: &'a [InForce],
}

impl Course<'_> {
    /// A judge that has seen nothing; `None` before the first weight.
    fn begin(&self) -> Option<Summary> {
        let first = self.weights.first()?;
        let settings = self.policy.settings().expect("a policy is checked when it is read");
        let (judge, _) = Sequential::start(settings).expect("a policy is checked when it is read");
        Some(Summary { until: hour(first.since), judge, step: Comparison::default(), last_data: None })
    }

    /// Takes into the summary what will not change any more.
    pub fn summarize(&self, summary: Option<Summary>, windows: &[Window]) -> Option<Summary> {
        let mut summary = match summary {
            Some(summary) => summary,
            None => self.begin()?,
        };
        let last = windows.last()?.start;
        while summary.until + QUARTER + RESTATED <= last {
            let (from, end) = (summary.until, summary.until + QUARTER);
            self.take(&mut summary, windows.iter().filter(|w| w.start >= from && w.start < end));
            summary.judge.forget_minutes();
            summary.until = end;
        }
        Some(summary)
    }

    /// What is told as of `now`, at the weight in force then. `until` stays where it was.
    pub fn judge(&self, summary: Option<&Summary>, windows: &[Window], now: Timestamp) -> Option<Summary> {
        let mut summary = match summary {
            Some(summary) => summary.clone(),
            None => self.begin()?,
        };
        let (from, settled) = (summary.until, now - self.policy.settle.duration() - WINDOW);
        self.take(&mut summary, windows.iter().filter(|w| w.start >= from && w.start <= settled));
        let in_force = self.weights.iter().rev().find(|w| w.since <= now)?;
        summary.weigh(in_force.weight);
        Some(summary)
    }

    fn take<'w>(&self, summary: &mut Summary, windows: impl Iterator<Item = &'w Window>) {
        for window in windows.filter(|w| w.has_data()) {
            summary.last_data = Some(window.start);
            if let Some(weight) = self.weight_of(window) {
                if summary.is_elsewhere(weight) {
                    summary.step = Comparison::default();
                }
                summary.step += window.counts;
                summary.judge.observe(weight.percent(), &[as_told(window, weight)]);
            }
        }
    }

    /// The weight whose calls a window holds. `None` right after a change: calls are counted when they end, so the young cohort has
    /// only had time for short, often failed, ones.
    fn weight_of(&self, window: &Window) -> Option<Weight> {
        let at = self.weights.iter().rposition(|w| w.since <= window.start)?;
        let in_force = self.weights[at];
        let next = self.weights.get(at + 1).map(|next| next.since);
        let fair = window.start >= in_force.since + self.policy.long_call.duration() && next.is_none_or(|n| window.start + WINDOW <= n);
        fair.then_some(in_force.weight)
    }
}

/// A window as the judge takes it.
pub fn as_told(window: &Window, weight: Weight) -> sequential::Window {
    sequential::Window {
        start: window.start.as_second().div_euclid(60),
        revision: 0,
        weight: weight.percent(),
        stable: tally(&window.counts.stable),
        canary: tally(&window.counts.canary),
    }
}

/// Counts as the judge takes them. What is not known is not zero.
pub fn tally(counts: &Counts) -> Tally {
    let counted = [
        (Counter::Calls, counts.calls),
        (Counter::Errors, counts.errors),
        (Counter::Abandons, counts.abandons),
        (Counter::Transfers, counts.transfers),
        (Counter::Contained, counts.contained),
    ]
    .into_iter()
    .fold(Tally::default(), |tally, (counter, count)| tally.with(counter, f64::from(count)));
    match counts.times {
        None => counted,
        Some(times) => counted
            .with(Counter::Handled, f64::from(times.handled))
            .with(Counter::HandleSum, times.handle_ms as f64 / 1000.0)
            .with(Counter::HandleSquares, times.handle_s2 as f64),
    }
}
