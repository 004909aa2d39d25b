//! What was counted: both cohorts, minute by minute.

use crate::cohort::Cohort;
use crate::weight::Weight;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::AddAssign;

/// Calls of one cohort that ended in a window, by how they ended. The last four add up to the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Calls that left the flow.
    pub calls: u32,
    /// Ended by an error of the flow.
    pub errors: u32,
    /// The caller hung up inside the flow.
    pub abandons: u32,
    /// Transferred to an agent.
    pub transfers: u32,
    /// Everything else: the flow served the caller.
    pub contained: u32,
    /// How long agents took. Comes from another source, often later; `None` is not known, and never zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// How callers fared in the queue. Comes with the times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
}

/// Handle times of the conversations that ended in a window. Whole numbers, so that they are equal or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Calls of the windows whose times are known: all of a window's, or in a sum perhaps fewer than there were.
    pub of: u32,
    /// Conversations that agents handled.
    pub handled: u32,
    /// Sum of their handle times (talk, hold and after-call work), milliseconds.
    pub handle_ms: u64,
    /// Sum of the squares, seconds².
    pub handle_s2: u64,
}

/// Conversations that ended in a window and had been offered to a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Calls of the windows whose queues are known.
    pub of: u32,
    /// Offered to a queue.
    pub offered: u32,
    /// The caller hung up in it.
    pub abandoned: u32,
    /// An agent answered.
    pub answered: u32,
    /// Sum of the answered callers' waits, milliseconds.
    pub answer_ms: u64,
}

/// What can go wrong with a cohort's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Share of calls ended by an error of the flow.
    Error,
    /// Share of calls whose caller hung up inside the flow.
    Abandon,
    /// Share of calls transferred to an agent.
    Transfer,
}

impl Metric {
    /// The word in messages and tables.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Error => "error",
            Metric::Abandon => "abandon",
            Metric::Transfer => "transfer",
        }
    }
}

impl Counts {
    /// Calls that ended so.
    pub fn bad(&self, metric: Metric) -> u32 {
        match metric {
            Metric::Error => self.errors,
            Metric::Abandon => self.abandons,
            Metric::Transfer => self.transfers,
        }
    }

    /// Percentage of calls that ended so, `None` without calls: no calls say nothing.
    pub fn percent(&self, metric: Metric) -> Option<f64> {
        (self.calls > 0).then(|| f64::from(self.bad(metric)) * 100.0 / f64::from(self.calls))
    }

    /// Where the percentage may truly lie: Wilson's interval, 95 %. For the eye; nothing is decided by it.
    pub fn interval(&self, metric: Metric) -> Option<(f64, f64)> {
        const Z: f64 = 1.959_964;
        let (n, share) = (f64::from(self.calls), self.percent(metric)? / 100.0);
        let (middle, of) = (share + Z * Z / (2.0 * n), 1.0 + Z * Z / n);
        let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        Some((100.0 * ((middle - reach) / of).max(0.0), 100.0 * ((middle + reach) / of).min(1.0)))
    }

    /// With what the other source told of this window. It stands for all of the window's calls.
    #[must_use]
    pub fn with_details(self, times: Option<Times>, queue: Option<Queue>) -> Counts {
        let of = self.calls;
        Counts { times: times.map(|t| Times { of, ..t }), queue: queue.map(|q| Queue { of, ..q }), ..self }
    }
}

impl Times {
    /// Mean handle time in seconds; `None` if nothing was handled.
    pub fn mean_s(&self) -> Option<f64> {
        (self.handled > 0).then(|| self.handle_ms as f64 / 1000.0 / f64::from(self.handled))
    }

    /// One more handled conversation.
    pub fn add_one(&mut self, handle_ms: u64) {
        let squared = u128::from(handle_ms).pow(2);
        self.handled = self.handled.saturating_add(1);
        self.handle_ms = self.handle_ms.saturating_add(handle_ms);
        self.handle_s2 = self.handle_s2.saturating_add(u64::try_from((squared + 500_000) / 1_000_000).unwrap_or(u64::MAX));
    }
}

impl Queue {
    /// Percentage of the offered calls whose caller hung up in the queue; `None` if none was offered.
    pub fn abandon_percent(&self) -> Option<f64> {
        (self.offered > 0).then(|| f64::from(self.abandoned) * 100.0 / f64::from(self.offered))
    }

    /// Mean speed of answer in seconds; `None` if nothing was answered.
    pub fn answer_s(&self) -> Option<f64> {
        (self.answered > 0).then(|| self.answer_ms as f64 / 1000.0 / f64::from(self.answered))
    }
}

impl AddAssign for Times {
    fn add_assign(&mut self, other: Times) {
        self.of = self.of.saturating_add(other.of);
        self.handled = self.handled.saturating_add(other.handled);
        self.handle_ms = self.handle_ms.saturating_add(other.handle_ms);
        self.handle_s2 = self.handle_s2.saturating_add(other.handle_s2);
    }
}

impl AddAssign for Queue {
    fn add_assign(&mut self, other: Queue) {
        self.of = self.of.saturating_add(other.of);
        self.offered = self.offered.saturating_add(other.offered);
        self.abandoned = self.abandoned.saturating_add(other.abandoned);
        self.answered = self.answered.saturating_add(other.answered);
        self.answer_ms = self.answer_ms.saturating_add(other.answer_ms);
    }
}

/// A sum of times tells what the windows that know them told, and by `of` how many of all calls those had. Nothing known stays so.
fn known<T: AddAssign + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(mut sum), Some(other)) => {
            sum += other;
            Some(sum)
        }
        (one, other) => one.or(other),
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.abandons += other.abandons;
        self.transfers += other.transfers;
        self.contained += other.contained;
        self.times = known(self.times, other.times);
        self.queue = known(self.queue, other.queue);
    }
}

/// Both cohorts side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Callers who kept what they had.
    pub stable: Counts,
    /// Callers who got the change.
    pub canary: Counts,
}

impl Comparison {
    /// Canary minus stable, percentage points; `None` while either side has no call.
    pub fn excess_points(&self, metric: Metric) -> Option<f64> {
        Some(self.canary.percent(metric)? - self.stable.percent(metric)?)
    }

    /// Both figures of a metric.
    pub fn sides(&self, metric: Metric) -> Sides {
        let of = |counts: &Counts| Side { sum: f64::from(counts.bad(metric)), calls: f64::from(counts.calls) };
        Sides { metric: metric.name().to_owned(), mean: false, canary: of(&self.canary), stable: of(&self.stable) }
    }

    /// The counts of one side.
    pub fn side(&mut self, cohort: Cohort) -> &mut Counts {
        match cohort {
            Cohort::Stable => &mut self.stable,
            Cohort::Canary => &mut self.canary,
        }
    }
}

impl AddAssign for Comparison {
    fn add_assign(&mut self, other: Comparison) {
        self.stable += other.stable;
        self.canary += other.canary;
    }
}

/// One measurement: the calls of both cohorts that ended in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Start of the minute.
    pub start: Timestamp,
    /// What was counted.
    #[serde(flatten)]
    pub counts: Comparison,
}

/// Length of every window.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// The start of the window that holds a time.
pub fn minute(time: Timestamp) -> Timestamp {
    let length = WINDOW.as_secs();
    Timestamp::from_second(time.as_second().div_euclid(length) * length).expect("rounding down stays in range")
}

impl Window {
    /// A minute in which nothing was seen on either side says nothing, not even that all was well.
    pub fn has_data(&self) -> bool {
        self.counts.stable.calls + self.counts.canary.calls > 0
    }

    /// This reading in place of an earlier one.
    fn over(&self, earlier: &Window) -> Window {
        let side = |now: Counts, before: Counts| now.with_details(now.times.or(before.times), now.queue.or(before.queue));
        let (now, before) = (self.counts, earlier.counts);
        Window { counts: Comparison { stable: side(now.stable, before.stable), canary: side(now.canary, before.canary) }, ..*self }
    }
}

/// Newer readings replace older ones of the same minute; the result is ordered by time. What the newer one does not know of times
/// and queue stays as it was known.
pub fn merge(recorded: &[Window], fresh: &[Window]) -> Vec<Window> {
    let mut by_start: std::collections::BTreeMap<Timestamp, Window> = recorded.iter().map(|w| (w.start, *w)).collect();
    for window in fresh {
        by_start.entry(window.start).and_modify(|known| *known = window.over(known)).or_insert(*window);
    }
    by_start.into_values().collect()
}

/// The windows that tell something about a weight: those that began a while after it took effect and have settled by `until`.
///
/// Calls are counted when they end. Right after a step the young cohort has only had time for short, often failed, calls, so
/// the windows of the first `long_call` are left out on both sides; and the last `settle` is still being reported.
pub fn usable(
    windows: &[Window],
    in_force_since: Timestamp,
    until: Timestamp,
    long_call: SignedDuration,
    settle: SignedDuration,
) -> Vec<Window> {
    let from = in_force_since + long_call;
    windows.iter().filter(|w| w.start >= from && w.start + WINDOW + settle <= until && w.has_data()).copied().collect()
}

/// Sum over windows.
pub fn total<'a>(windows: impl IntoIterator<Item = &'a Window>) -> Comparison {
    let mut sum = Comparison::default();
    for window in windows {
        sum += window.counts;
    }
    sum
}

/// A weight and since when it has been in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Share of calls.
    pub weight: Weight,
    /// When the parameter took that value.
    pub since: Timestamp,
}

/// One cohort's figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Bad calls, or the sum of a time in seconds.
    pub sum: f64,
    /// Calls.
    pub calls: f64,
}

impl Side {
    /// The share of bad calls, or the mean time in seconds; 0 without calls.
    pub fn figure(self) -> f64 {
        self.sum / self.calls.max(1.0)
    }
}

/// A metric in both cohorts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sides {
    /// Name of the metric.
    pub metric: String,
    /// It is a mean time, not a rate.
    pub mean: bool,
    /// Calls with the change.
    pub canary: Side,
    /// Calls without it, in the same minutes.
    pub stable: Side,
}

impl Sides {
    /// Canary's figure minus stable's; for a mean relative to stable's.
    pub fn excess(&self) -> f64 {
        let (c, s) = (self.canary.figure(), self.stable.figure());
        if self.mean { if s > 0.0 { c / s - 1.0 } else { 0.0 } } else { c - s }
    }

    /// A figure of this metric as people read it.
    pub fn amount(&self, figure: f64) -> String {
        if self.mean { format!("{figure:.0} s") } else { format!("{:.1} %", 100.0 * figure) }
    }
}

impl fmt::Display for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: Side, cohort: &str| {
            if side.calls < 1.0 {
                format!("no {cohort} call")
            } else {
                let over = if self.mean { "over" } else { "of" };
                let calls = if side.calls == 1.0 { "call" } else { "calls" };
                format!("{} {over} {:.0} {cohort} {calls}", self.amount(side.figure()), side.calls)
            }
        };
        write!(f, "{} {} against {}", label(&self.metric), side(self.canary, "canary"), side(self.stable, "stable"))
    }
}

/// A metric as a person says it.
pub fn label(name: &str) -> &str {
    match name {
        "error" => "errors",
        "abandon" => "abandoned calls",
        "transfer" => "transfers",
        "handle" => "handle time",
        "containment" => "calls not served by the flow",
        own => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(calls: u32) -> Counts {
        Counts { calls, contained: calls, ..Counts::default() }
    }

    fn handled(times: &[u64]) -> Option<Times> {
        let mut sum = Times::default();
        times.iter().for_each(|ms| sum.add_one(*ms));
        Some(sum)
    }

    fn window(counts: Counts) -> Window {
        Window { start: Timestamp::UNIX_EPOCH, counts: Comparison { stable: counts, canary: counts } }
    }

    #[test]
    fn a_sum_tells_the_known_times_and_how_many_calls_they_cover() {
        let mut sum = served(10);
        assert_eq!(sum.times, None);
        sum += served(7).with_details(handled(&[60_000, 30_500]), Some(Queue { offered: 3, ..Queue::default() }));
        sum += served(5).with_details(handled(&[90_000]), None);
        let expected = Times { of: 12, handled: 3, handle_ms: 180_500, handle_s2: 3600 + 930 + 8100 };
        assert_eq!((sum.calls, sum.times), (22, Some(expected)));
        assert_eq!(sum.queue, Some(Queue { of: 7, offered: 3, ..Queue::default() }));
    }

    #[test]
    fn a_newer_reading_keeps_the_times_it_does_not_know_and_replaces_those_it_does() {
        let known = window(served(7).with_details(handled(&[60_000]), Some(Queue::default())));
        let counted_anew = merge(&[known], &[window(served(9))])[0].counts.canary;
        assert_eq!((counted_anew.calls, counted_anew.times.map(|t| (t.of, t.handled))), (9, Some((9, 1))));
        let told_anew = window(served(9).with_details(handled(&[1_000, 2_000]), None));
        assert_eq!(merge(&[known], &[told_anew])[0].counts.stable.times.map(|t| t.handled), Some(2));
        assert_eq!(merge(&[window(served(7))], &[window(served(9))]), [window(served(9))]);
    }

    #[test]
    fn what_was_recorded_without_times_still_reads_and_is_written_as_it_was() {
        let old = r#"{"calls":3,"errors":1,"abandons":0,"transfers":1,"contained":1}"#;
        let counts: Counts = serde_json::from_str(old).unwrap();
        assert_eq!((counts.times, counts.queue), (None, None));
        assert_eq!(serde_json::to_string(&counts).unwrap(), old);
        let known = counts.with_details(handled(&[1]), Some(Queue { answered: 1, answer_ms: 9, ..Queue::default() }));
        assert_eq!(serde_json::from_str::<Counts>(&serde_json::to_string(&known).unwrap()).unwrap(), known);
    }
}
