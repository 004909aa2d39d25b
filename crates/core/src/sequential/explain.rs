//! Why the judge decided so, as data and as one sentence for a person.

use super::settings::{Metric, OnCap};
use std::fmt;

/// One cohort's figure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Side {
    /// Bad calls, or the sum of a time.
    pub sum: f64,
    /// Calls.
    pub calls: f64,
}

impl Side {
    fn figure(self) -> f64 {
        self.sum / self.calls.max(1.0)
    }
}

/// A metric in both cohorts.
#[derive(Debug, Clone, PartialEq)]
pub struct Sides {
    /// Name of the metric.
    pub metric: String,
    /// It is a mean, not a rate.
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
}

impl fmt::Display for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: Side, cohort: &str| {
            if side.calls < 1.0 {
                format!("no {cohort} call yet")
            } else if self.mean {
                format!("{:.0} s over {:.0} {cohort} calls", side.figure(), side.calls)
            } else {
                format!("{:.1} % of {:.0} {cohort} calls", 100.0 * side.figure(), side.calls)
            }
        };
        write!(f, "{} {} against {}", label(&self.metric), side(self.canary, "canary"), side(self.stable, "stable"))
    }
}

/// As a person says it.
fn label(name: &str) -> &str {
    match name {
        "error" => "errors",
        "abandon" => "abandoned calls",
        "transfer" => "transfers",
        "handle" => "handle time",
        "containment" => "calls not served by the flow",
        own => own,
    }
}

/// Why. `Display` gives the sentence.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// The first weight.
    Start {
        /// Below the plan: until the first calls have been seen.
        probe: bool,
        /// Above the plan: too few calls for its first weight.
        low_volume: bool,
        /// Percent.
        weight: f64,
    },
    /// Worse than tolerated.
    Harm {
        /// The metric that weighs most.
        sides: Sides,
        /// Its tolerance, in words.
        tolerance: String,
        /// The evidence, all metrics together.
        evidence: f64,
    },
    /// The cohorts' shares are not those that were configured.
    SampleRatio {
        /// Percent of calls that reached the canary at this step.
        share: f64,
        /// Percent configured.
        weight: f64,
        /// The evidence.
        evidence: f64,
    },
    /// Nothing new was measured.
    NoData,
    /// The measurement failed.
    Unreadable,
    /// A required metric is missing.
    Unavailable {
        /// Its name.
        metric: String,
    },
    /// The probe goes on.
    Probing {
        /// Canary calls seen.
        seen: f64,
        /// Canary calls wanted.
        needed: f64,
    },
    /// The probe saw nothing wrong.
    ProbeClean {
        /// Canary calls seen.
        seen: f64,
        /// Percent that follows.
        to: f64,
    },
    /// Something may be wrong: more calls will tell.
    Watching {
        /// The metric that weighs most.
        sides: Sides,
        /// The evidence so far.
        evidence: f64,
        /// The evidence that rolls back.
        limit: f64,
    },
    /// The step is young.
    Baking {
        /// Minutes with data so far.
        minutes: u32,
        /// Minutes wanted.
        of: u32,
        /// Canary calls so far.
        seen: f64,
        /// Canary calls wanted.
        needed: f64,
    },
    /// Not yet known to be harmless.
    NotCleared {
        /// The metric that is furthest from it.
        sides: Sides,
        /// What must be excluded, in words.
        margin: String,
        /// Minutes that it takes at the present pace, if that can be told.
        minutes: Option<f64>,
    },
    /// Every metric is known not to be worse by the margin of this step.
    Cleared {
        /// The metric that took longest.
        sides: Sides,
        /// What is excluded, in words.
        margin: String,
    },
    /// The step's time is up.
    TimeUp {
        /// The metric that is not cleared.
        sides: Sides,
        /// What is not excluded, in words.
        margin: String,
        /// What follows.
        then: OnCap,
    },
    /// At 100 %.
    Promoted,
}

impl Reason {
    /// Nothing can be said about the canary.
    pub fn is_inconclusive(&self) -> bool {
        matches!(self, Reason::SampleRatio { .. } | Reason::NoData | Reason::Unreadable | Reason::Unavailable { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_inconclusive() {
            f.write_str("INCONCLUSIVE ")?;
        }
        match self {
            Reason::Start { low_volume: true, weight, .. } => write!(
                f,
                "starting at {weight} %: at this volume the plan's first weight would see too few calls to tell anything in a day"
            ),
            Reason::Start { probe: true, weight, .. } => write!(
                f,
                "starting at {weight} %, below the plan: at this volume a few minutes of it already tell whether the change is broken"
            ),
            Reason::Start { weight, .. } => write!(f, "starting at {weight} %"),
            Reason::Harm { sides, tolerance, evidence } => write!(
                f,
                "{sides}: worse than the tolerated {tolerance}; a canary within it would look this bad in fewer than one of {:.0} rollouts",
                evidence.min(1e9)
            ),
            Reason::SampleRatio { share, weight, evidence } => write!(
                f,
                "sample-ratio mismatch: {share:.1} % of the calls reached the canary where {weight} % were configured, or they came in \
                 blocks; a fair split would do so in fewer than one of {:.0} rollouts, so check the routing rule and its cache",
                evidence.min(1e9)
            ),
            Reason::NoData => f.write_str("no data: nothing was measured since the last look, so the weight stays until something is"),
            Reason::Unreadable => f.write_str("no data: the measurements could not be read, so the weight stays until they can"),
            Reason::Unavailable { metric } => {
                write!(f, "{} cannot be measured, and a metric that is required but missing is no pass", label(metric))
            }
            Reason::Probing { seen, needed } => write!(f, "probing: {seen:.0} of {needed:.0} canary calls seen before the weight rises"),
            Reason::ProbeClean { seen, to } => write!(f, "{seen:.0} canary calls show nothing gross: on to {to} %"),
            Reason::Watching { sides, evidence, limit } => write!(
                f,
                "{sides}: suspicious but not proven (evidence {evidence:.1}, {limit:.0} rolls back), so the weight stays until it proves or fades"
            ),
            Reason::Baking { minutes, of, seen, needed } if minutes < of => {
                write!(f, "baking: {minutes} of {of} minutes with data, {seen:.0} canary calls (at least {needed:.0})")
            }
            Reason::Baking { seen, needed, .. } => write!(f, "baking: {seen:.0} of the {needed:.0} canary calls that this step needs"),
            Reason::NotCleared { sides, margin, minutes } => {
                write!(f, "{sides}: harm is not proven, but {margin} is not excluded yet")?;
                match minutes {
                    Some(m) if *m < 120.0 => write!(f, "; at this pace about {:.0} more minutes", m.max(1.0)),
                    Some(m) => write!(f, "; at this pace about {:.0} more hours", m / 60.0),
                    None => Ok(()),
                }
            }
            Reason::Cleared { sides, margin } => write!(f, "{sides}: {margin} is excluded, as for every other metric"),
            Reason::TimeUp { sides, margin, then } => {
                write!(f, "the step's time is up; {sides}: harm is not proven, {margin} is not excluded")?;
                f.write_str(match then {
                    OnCap::Advance => ", and the policy goes on",
                    OnCap::Hold => "; a person must decide",
                    OnCap::Rollback => ", and the policy goes back",
                })
            }
            Reason::Promoted => f.write_str("at 100 %: no stable calls are left to compare with"),
        }
    }
}

/// An amount in the metric's unit.
pub(super) fn amount(metric: &Metric, size: f64) -> String {
    if metric.is_mean() { format!("+{:.0} %", 100.0 * size) } else { format!("+{} points", (1000.0 * size).round() / 10.0) }
}
