//! What was counted: both cohorts, minute by minute.

use crate::cohort::Cohort;
use crate::weight::Weight;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
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
    /// Percentage of calls that ended so, `None` without calls: no calls say nothing.
    pub fn percent(&self, metric: Metric) -> Option<f64> {
        let bad = match metric {
            Metric::Error => self.errors,
            Metric::Abandon => self.abandons,
            Metric::Transfer => self.transfers,
        };
        (self.calls > 0).then(|| f64::from(bad) * 100.0 / f64::from(self.calls))
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
