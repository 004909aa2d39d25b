//! Measurements → verdict. Pure functions of the recorded windows and the time: asked twice, they answer the same.

use crate::measurement::{Comparison, InForce, Metric, WINDOW, Window, total, usable};
use crate::policy::{ErrorLimit, Policy, Rule};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the measurements say about the canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Enough calls, no breach, long enough.
    Pass,
    /// The canary is worse than the policy allows.
    Fail(Breach),
    /// Not enough to say.
    Inconclusive(Doubt),
    /// We could not look. That says nothing about the canary.
    Error(String),
}

/// How the canary was worse than allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// What went wrong.
    pub metric: Metric,
    /// The canary's rate, percent.
    pub canary_percent: f64,
    /// Stable's rate in the same windows, percent; `None` if stable had no call.
    pub stable_percent: Option<f64>,
    /// The most that was allowed for the canary, percent.
    pub limit_percent: f64,
    /// How often in a row.
    pub in_a_row: u32,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Breach { metric, canary_percent, stable_percent, limit_percent, in_a_row } = self;
        write!(f, "{} rate of canary {canary_percent:.1} %", metric.name())?;
        match stable_percent {
            Some(stable) => write!(f, " against {stable:.1} % of stable")?,
            None => f.write_str(" (stable had no call)")?,
        }
        write!(f, ", limit {limit_percent:.1} %, breached {in_a_row} {} in a row", if *in_a_row == 1 { "time" } else { "times" })
    }
}

/// Why there is no verdict yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Doubt {
    /// Too few canary calls.
    TooFewCalls {
        /// Canary calls in the look.
        seen: u32,
        /// Canary calls the policy wants.
        needed: u32,
    },
    /// A breach, not yet often enough in a row.
    Breaching {
        /// The last one.
        breach: Breach,
        /// The policy's limit.
        limit: u32,
    },
    /// The first look of this step has not come.
    NoLookYet {
        /// When it comes.
        at: Timestamp,
    },
    /// No stable call to compare with.
    NoBaseline,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::TooFewCalls { seen, needed } => write!(f, "{seen} canary calls seen, {needed} needed"),
            Doubt::Breaching { breach, limit } => write!(f, "{breach}; rolls back at {limit}"),
            Doubt::NoLookYet { at } => write!(f, "first look at this weight at {at:.0}"),
            Doubt::NoBaseline => f.write_str("no stable call in the same minutes to compare with"),
        }
    }
}

/// A verdict with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// What the measurements say.
    pub verdict: Verdict,
    /// Both cohorts, over all usable windows at this weight.
    pub counts: Comparison,
    /// Minutes with data at this weight.
    pub data_minutes: u32,
}

/// Judges the windows of the weight in force, as of `now`.
pub fn analyze(policy: &Policy, windows: &[Window], in_force: InForce, now: Timestamp) -> Analysis {
    let since = in_force.since;
    let usable_now = usable(windows, since, now, policy.long_call.duration(), policy.settle.duration());
    // At 100 % nobody is left on stable: only the absolute limit can speak.
    let compared = in_force.weight < crate::weight::Weight::FULL;
    let verdict = match error_breach(policy.errors, &usable_now) {
        Some(breach) => Verdict::Fail(breach),
        None if compared => look(policy, windows, since, now),
        None => enough_calls(policy, &usable_now),
    };
    Analysis { verdict, counts: total(&usable_now), data_minutes: usable_now.len() as u32 }
}

/// The latest look of the rule. Looks stand on a grid from the start of the step, so a tick that comes twice or late sees the
/// same ones, and how many breached in a row is counted from the windows, not remembered.
fn look(policy: &Policy, windows: &[Window], since: Timestamp, now: Timestamp) -> Verdict {
    let every = policy.evaluate_every.duration();
    let looks = now.duration_since(since).as_secs().max(0) / every.as_secs();
    if looks == 0 {
        return Verdict::Inconclusive(Doubt::NoLookYet { at: since + every });
    }
    let mut latest = None;
    for back in 0..i64::from(policy.breach_limit).min(looks) {
        let at = since + SignedDuration::from_secs(every.as_secs() * (looks - back));
        let seen = look_at(policy, windows, since, at);
        match (seen, latest.take()) {
            (Look::Breach(mut breach), None) => {
                breach.in_a_row = 1;
                latest = Some(breach);
            }
            (Look::Breach(_), Some(breach)) => latest = Some(Breach { in_a_row: breach.in_a_row + 1, ..breach }),
            (Look::Healthy, None) => return Verdict::Pass,
            (Look::Doubt(doubt), None) => return Verdict::Inconclusive(doubt),
            (_, Some(breach)) => {
                latest = Some(breach);
                break;
            }
        }
    }
    match latest {
        Some(breach) if breach.in_a_row >= policy.breach_limit => Verdict::Fail(breach),
        Some(breach) => Verdict::Inconclusive(Doubt::Breaching { breach, limit: policy.breach_limit }),
        None => Verdict::Inconclusive(Doubt::NoBaseline),
    }
}

enum Look {
    Healthy,
    Breach(Breach),
    Doubt(Doubt),
}

fn look_at(policy: &Policy, windows: &[Window], since: Timestamp, at: Timestamp) -> Look {
    let from = since.max(at - policy.lookback.duration());
    let seen = usable(windows, since, at, policy.long_call.duration(), policy.settle.duration());
    let counts = total(seen.iter().filter(|w| w.start >= from));
    if counts.canary.calls < policy.min_canary_calls {
        return Look::Doubt(Doubt::TooFewCalls { seen: counts.canary.calls, needed: policy.min_canary_calls });
    }
    let Rule::Threshold { abandon_points, transfer_points } = policy.rule;
    for (metric, points) in [(Metric::Abandon, abandon_points), (Metric::Transfer, transfer_points)] {
        let (Some(canary), Some(stable)) = (counts.canary.percent(metric), counts.stable.percent(metric)) else {
            return Look::Doubt(Doubt::NoBaseline);
        };
        if canary - stable > points {
            let breach =
                Breach { metric, canary_percent: canary, stable_percent: Some(stable), limit_percent: stable + points, in_a_row: 1 };
            return Look::Breach(breach);
        }
    }
    Look::Healthy
}

fn enough_calls(policy: &Policy, usable: &[Window]) -> Verdict {
    let seen = total(usable).canary.calls;
    match seen >= policy.min_canary_calls {
        true => Verdict::Pass,
        false => Verdict::Inconclusive(Doubt::TooFewCalls { seen, needed: policy.min_canary_calls }),
    }
}

/// The latest windows in a row above the limit. Minutes are pooled until they hold enough canary calls; a gap in the data ends
/// a run, for minutes we did not see prove nothing.
fn error_breach(limit: ErrorLimit, usable: &[Window]) -> Option<Breach> {
    let mut run: Vec<Comparison> = Vec::new();
    let mut pool = Comparison::default();
    let mut previous: Option<Timestamp> = None;
    for window in usable {
        if previous.is_some_and(|p| window.start.duration_since(p) > WINDOW * 5) {
            run.clear();
            pool = Comparison::default();
        }
        previous = Some(window.start);
        pool += window.counts;
        if pool.canary.calls < limit.min_calls {
            continue;
        }
        match pool.canary.percent(Metric::Error) {
            Some(percent) if percent > limit.percent => run.push(pool),
            _ => run.clear(),
        }
        pool = Comparison::default();
        if run.len() >= limit.windows as usize {
            let mut sum = Comparison::default();
            run.iter().for_each(|counts| sum += *counts);
            return Some(Breach {
                metric: Metric::Error,
                canary_percent: sum.canary.percent(Metric::Error)?,
                stable_percent: sum.stable.percent(Metric::Error),
                limit_percent: limit.percent,
                in_a_row: limit.windows,
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Counts;
    use crate::weight::Weight;

    fn start() -> Timestamp {
        "2026-11-20T09:00:00Z".parse().unwrap()
    }

    fn minute(n: i64) -> Timestamp {
        start() + SignedDuration::from_mins(n)
    }

    fn counts(calls: u32, errors: u32, abandons: u32) -> Counts {
        Counts { calls, errors, abandons, transfers: 0, contained: calls - errors - abandons }
    }

    fn windows(minutes: std::ops::Range<i64>, stable: Counts, canary: Counts) -> Vec<Window> {
        minutes.map(|n| Window { start: minute(n), counts: Comparison { stable, canary } }).collect()
    }

    fn judge(windows: &[Window], now: i64) -> Analysis {
        let in_force = InForce { weight: Weight::from_basis_points(500).unwrap(), since: start() };
        analyze(&Policy::default(), windows, in_force, minute(now))
    }

    #[test]
    fn equal_cohorts_pass_once_there_is_a_look_with_enough_calls() {
        let seen = windows(0..60, counts(50, 0, 3), counts(5, 0, 0));
        assert_eq!(judge(&seen, 10).verdict, Verdict::Inconclusive(Doubt::NoLookYet { at: minute(15) }));
        assert_eq!(judge(&seen, 35).verdict, Verdict::Pass);
        assert_eq!(judge(&seen, 35).data_minutes, 28, "5 minutes of long calls and 2 of settling are left out");
    }

    #[test]
    fn one_breach_is_a_doubt_and_the_limit_in_a_row_fails() {
        let seen = windows(0..60, counts(50, 0, 3), counts(5, 0, 1));
        assert!(matches!(judge(&seen, 20).verdict, Verdict::Inconclusive(Doubt::Breaching { .. })));
        assert!(matches!(judge(&seen, 31).verdict, Verdict::Fail(Breach { metric: Metric::Abandon, in_a_row: 2, .. })));
        assert_eq!(judge(&seen, 31).verdict, judge(&seen, 44).verdict, "the same look, whenever it is asked for");
    }

    #[test]
    fn too_few_canary_calls_are_no_verdict_however_bad_they_are() {
        let seen = windows(5..9, counts(50, 0, 3), counts(4, 0, 4));
        assert_eq!(judge(&seen, 31).verdict, Verdict::Inconclusive(Doubt::TooFewCalls { seen: 16, needed: 20 }));
    }

    #[test]
    fn errors_above_the_limit_in_three_windows_fail_at_once_and_one_failed_call_does_not() {
        let bad = windows(5..14, counts(50, 0, 3), counts(4, 1, 0));
        assert!(matches!(judge(&bad, 16).verdict, Verdict::Fail(Breach { metric: Metric::Error, in_a_row: 3, .. })));
        let night = windows(5..6, counts(0, 0, 0), counts(1, 1, 0));
        assert!(matches!(judge(&night, 16).verdict, Verdict::Inconclusive(_)));
    }

    #[test]
    fn calls_that_ended_right_after_a_step_prove_nothing() {
        let young = windows(0..5, counts(50, 0, 3), counts(20, 20, 0));
        assert!(!matches!(judge(&young, 60).verdict, Verdict::Fail(_)));
    }

    #[test]
    fn minutes_without_a_call_are_not_data() {
        let silent = windows(0..60, Counts::default(), Counts::default());
        let analysis = judge(&silent, 60);
        assert_eq!(analysis.data_minutes, 0);
        assert!(matches!(analysis.verdict, Verdict::Inconclusive(_)));
    }
}
