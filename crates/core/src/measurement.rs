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
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.abandons += other.abandons;
        self.transfers += other.transfers;
        self.contained += other.contained;
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

impl Window {
    /// A minute in which nothing was seen on either side says nothing, not even that all was well.
    pub fn has_data(&self) -> bool {
        self.counts.stable.calls + self.counts.canary.calls > 0
    }
}

/// Newer readings replace older ones of the same minute; the result is ordered by time.
pub fn merge(recorded: &[Window], fresh: &[Window]) -> Vec<Window> {
    let mut by_start: std::collections::BTreeMap<Timestamp, Window> = recorded.iter().map(|w| (w.start, *w)).collect();
    by_start.extend(fresh.iter().map(|w| (w.start, *w)));
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
