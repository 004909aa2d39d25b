//! Why the judge decided so, as data and as one sentence for a person.

use super::settings::{Metric, OnCap};
use crate::measurement::{Sides, label};
use std::fmt;

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
        /// The most that is tolerated of the canary: a share of calls, or seconds.
        limit: f64,
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
        /// So many more than agreed that the calls must go back.
        out_of_hand: bool,
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
        /// Minutes that it takes at the present pace, if that can be told.
        minutes: Option<f64>,
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
        /// Minutes that it takes at the present pace, if that can be told.
        left: Option<f64>,
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

/// A number of rollouts as people say it.
pub fn many(odds: f64) -> String {
    if odds >= 1e9 { "a billion".to_owned() } else { format!("{odds:.0}") }
}

/// Minutes as people say them.
pub fn spell(minutes: f64) -> String {
    match minutes {
        m if m < 1.5 => "1 minute".to_owned(),
        m if m < 120.0 => format!("{m:.0} minutes"),
        m if m < 48.0 * 60.0 => format!("{:.0} hours", m / 60.0),
        m => format!("{:.0} days", m / 1_440.0),
    }
}

impl Reason {
    /// The metric that decided, with both figures.
    pub fn deciding(&self) -> Option<&Sides> {
        match self {
            Reason::Harm { sides, .. }
            | Reason::Watching { sides, .. }
            | Reason::NotCleared { sides, .. }
            | Reason::Cleared { sides, .. }
            | Reason::TimeUp { sides, .. } => Some(sides),
            _ => None,
        }
    }

    /// What would change the verdict.
    pub fn would_change(&self) -> String {
        match self {
            Reason::Start { .. } => "the first canary calls".into(),
            Reason::Harm { .. } => "nothing: a rollback is final, a changed version may be rolled out".into(),
            Reason::SampleRatio { .. } => "calls that reach the canary in the configured share again".into(),
            Reason::NoData => "a measurement".into(),
            Reason::Unreadable => "a measurement that can be read".into(),
            Reason::Unavailable { metric } => format!("{} measured in both cohorts, or not required by the policy", label(metric)),
            Reason::Probing { needed, .. } => {
                format!("{needed:.0} canary calls that look fair raise the weight; calls that fail roll back at any moment")
            }
            Reason::ProbeClean { .. } | Reason::Cleared { .. } => "calls that look worse at the next weight".into(),
            Reason::Watching { limit, sides, .. } => format!(
                "evidence of {limit:.0} rolls back; below 1.5, as {} come closer to stable's, the rollout goes on",
                label(&sides.metric)
            ),
            Reason::Baking { .. } => "time and calls that look fair raise the weight; calls that fail roll back at any moment".into(),
            Reason::NotCleared { sides, .. } => {
                format!("more calls like stable's in {}, or proof of harm in any metric", label(&sides.metric))
            }
            Reason::TimeUp { then: OnCap::Advance, .. } => "calls that look worse at the next weight".into(),
            Reason::TimeUp { .. } => "a person: `serin resume` or `serin abort`".into(),
            Reason::Promoted => "calls that look worse than stable's did before".into(),
        }
    }

    /// Minutes until the next decision, if the present pace tells.
    pub fn minutes_to_next(&self) -> Option<f64> {
        match self {
            Reason::Probing { minutes, .. } | Reason::NotCleared { minutes, .. } => *minutes,
            Reason::Baking { left, .. } => *left,
            _ => None,
        }
    }

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
            Reason::Harm { sides, tolerance, evidence, .. } => write!(
                f,
                "{sides}: worse than the tolerated rise of {tolerance}; a canary within it would look this bad in fewer than one of {} rollouts",
                many(*evidence)
            ),
            Reason::SampleRatio { share, weight, evidence, out_of_hand } => {
                write!(
                    f,
                    "sample-ratio mismatch: {share:.1} % of the calls reached the canary where {weight} % were configured, or they came in \
                     blocks; a fair split would do so in fewer than one of {} rollouts, so check the routing rule and its cache",
                    many(*evidence)
                )?;
                f.write_str(if *out_of_hand {
                    "; more than twice as many callers as agreed are at risk, so calls go back to stable"
                } else {
                    ""
                })
            }
            Reason::NoData => f.write_str("no data: nothing was measured since the last look, so the weight stays until something is"),
            Reason::Unreadable => f.write_str("no data: the measurements could not be read, so the weight stays until they can"),
            Reason::Unavailable { metric } => {
                write!(f, "{} cannot be measured, and a metric that is required but missing is no pass", label(metric))
            }
            Reason::Probing { seen, needed, .. } => {
                write!(f, "probing: {seen:.0} of {needed:.0} canary calls seen before the weight rises")
            }
            Reason::ProbeClean { seen, to } => write!(f, "{seen:.0} canary calls show nothing gross: on to {to} %"),
            Reason::Watching { sides, evidence, limit } => write!(
                f,
                "{sides}: suspicious but not proven (evidence {evidence:.1}, {limit:.0} rolls back), so the weight stays until it proves or fades"
            ),
            Reason::Baking { minutes, of, seen, needed, .. } if minutes < of => {
                write!(f, "baking: {minutes} of {of} minutes with data, {seen:.0} canary calls (at least {needed:.0})")
            }
            Reason::Baking { seen, needed, .. } => write!(f, "baking: {seen:.0} of the {needed:.0} canary calls that this step needs"),
            Reason::NotCleared { sides, margin, minutes } => {
                write!(f, "{sides}: no harm is proven, but a rise of {margin} cannot be ruled out yet")?;
                minutes.map_or(Ok(()), |m| write!(f, "; at this pace about {} more", spell(m)))
            }
            Reason::Cleared { sides, margin } => {
                write!(f, "{sides}: a rise of {margin} is ruled out, and every other metric is within its own bound")
            }
            Reason::TimeUp { sides, margin, then } => {
                write!(f, "the step's time is up; {sides}: no harm is proven, and a rise of {margin} is not ruled out")?;
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

fn points(n: f64) -> String {
    if n == 1.0 { "1 point".to_owned() } else { format!("{n} points") }
}

/// An amount in the metric's unit.
pub(super) fn amount(metric: &Metric, size: f64) -> String {
    if metric.is_mean() { format!("{:.0} %", 100.0 * size) } else { points((1000.0 * size).round() / 10.0) }
}
