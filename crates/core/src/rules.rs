//! The guides' rules, as written there. Each is a pure function of the windows of the weight in force.
//!
//! At 100 % nobody is left on stable: what stable's calls looked like at the last step stands in for it.

use crate::analysis::{Breach, Doubt, Proof, Verdict};
use crate::guards::is_shared;
use crate::measurement::{Comparison, Counts, Metric, WINDOW, Window, total, usable};
use crate::policy::{Consecutive, ErrorLimit, Hysteresis, Policy, Threshold};
use jiff::{SignedDuration, Timestamp};

/// Exactly at a limit is no breach, whatever the last binary digit says.
const ROUNDING: f64 = 1e-9;

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Left-out times and the least number of calls.
    pub policy: &'a Policy,
    /// Every window that was recorded.
    pub windows: &'a [Window],
    /// When the weight took effect.
    pub since: Timestamp,
    /// Stable's calls before 100 %, where the comparison is with them.
    pub baseline: Option<Counts>,
    /// The clock the rollout runs by.
    pub now: Timestamp,
}

impl Step<'_> {
    /// Windows that tell something about the weight, as known at a time.
    pub fn usable_at(&self, at: Timestamp) -> Vec<Window> {
        usable(self.windows, self.since, at, self.policy.long_call.duration(), self.policy.settle.duration())
    }

    /// The sum, with the baseline in stable's place where there is one.
    fn sum<'w>(&self, windows: impl IntoIterator<Item = &'w Window>) -> Comparison {
        let sum = total(windows);
        Comparison { stable: self.baseline.unwrap_or(sum.stable), ..sum }
    }

    /// Looks on a grid from the start of the step, the latest first: a tick that comes twice or late sees the same ones.
    fn looks(&self, every: SignedDuration) -> impl Iterator<Item = Timestamp> + use<> {
        let (since, every) = (self.since, every.as_secs());
        let looks = self.now.duration_since(since).as_secs().max(0) / every;
        (1..=looks).rev().map(move |n| since + SignedDuration::from_secs(every * n))
    }
}

/// The latest look; how many breached in a row is counted from the windows, not remembered.
pub fn threshold(rule: &Threshold, step: &Step<'_>) -> Verdict {
    let every = rule.evaluate_every.duration();
    let mut latest: Option<Breach> = None;
    let mut in_a_row = 0;
    for at in step.looks(every).take(rule.breach_limit as usize) {
        match (look(rule, step, at), &latest) {
            (Ok(Some(breach)), _) => {
                in_a_row += 1;
                latest.get_or_insert(breach);
            }
            (Ok(None), None) => return Verdict::Pass,
            (Err(doubt), None) => return Verdict::Inconclusive(doubt),
            (Ok(None) | Err(_), Some(_)) => break,
        }
    }
    match latest {
        None => Verdict::Inconclusive(Doubt::NoLookYet { at: step.since + every }),
        Some(breach) => breached(Breach { proof: Proof::InARow(in_a_row), ..breach }, rule.breach_limit),
    }
}

fn breached(breach: Breach, limit: u32) -> Verdict {
    match breach.proof {
        Proof::InARow(n) if n < limit => Verdict::Inconclusive(Doubt::Breaching { breach, limit }),
        _ => Verdict::Fail(breach),
    }
}

fn look(rule: &Threshold, step: &Step<'_>, at: Timestamp) -> Result<Option<Breach>, Doubt> {
    let from = step.since.max(at - rule.lookback.duration());
    let counts = step.sum(step.usable_at(at).iter().filter(|w| w.start >= from));
    if let Some(doubt) = too_few(step.policy, counts.canary.calls) {
        return Err(doubt);
    }
    for (metric, points) in [(Metric::Abandon, rule.abandon_points), (Metric::Transfer, rule.transfer_points)] {
        let excess = counts.excess_points(metric).ok_or(Doubt::NoBaseline)?;
        if excess > points + ROUNDING {
            let sides = counts.sides(metric);
            let limit = sides.stable.figure() + points / 100.0;
            return Ok(Some(Breach { sides, limit, proof: Proof::InARow(1) }));
        }
    }
    Ok(None)
}

/// Intervals in a row above the limits; those with too few calls are ignored, neither good nor bad.
pub fn hysteresis(rule: &Hysteresis, step: &Step<'_>) -> Verdict {
    let length = rule.interval.duration();
    let usable = step.usable_at(step.now);
    let mut run: Vec<Breach> = Vec::new();
    let settled = step.now - step.policy.settle.duration();
    for at in step.looks(length).filter(|at| *at <= settled) {
        let interval = usable.iter().filter(|w| w.start >= at - length && w.start < at);
        let counts = step.sum(interval);
        if counts.canary.calls < rule.min_calls {
            continue;
        }
        match over(rule, &counts) {
            Some(breach) => run.push(breach),
            None => break,
        }
        if run.len() >= rule.intervals as usize {
            break;
        }
    }
    let Some(latest) = run.first().cloned() else { return enough(step.policy, &usable) };
    breached(Breach { proof: Proof::InARow(run.len() as u32), ..latest }, rule.intervals)
}

fn over(rule: &Hysteresis, counts: &Comparison) -> Option<Breach> {
    let sides = counts.sides(Metric::Error);
    let limit = rule.error_percent / 100.0;
    let errors = (sides.canary.figure() > limit + ROUNDING).then_some(Breach { sides, limit, proof: Proof::InARow(1) });
    if errors.as_ref().is_some_and(|breach| !is_shared(breach)) {
        return errors;
    }
    let sides = counts.sides(Metric::Abandon);
    let limit = sides.stable.figure() + rule.abandon_points / 100.0;
    let worse = sides.stable.calls > 0.0 && sides.canary.figure() > limit + ROUNDING;
    // Errors that stable shares come last: they prove nothing, and must not hide what does.
    worse.then_some(Breach { sides, limit, proof: Proof::InARow(1) }).or(errors)
}

/// Minutes in a row above the ratio.
pub fn consecutive(rule: &Consecutive, step: &Step<'_>, compared: bool) -> Verdict {
    let limit = ErrorLimit { percent: rule.percent, windows: rule.minutes, min_calls: 1 };
    let usable = step.usable_at(step.now);
    error_limit(limit, &usable, compared).unwrap_or_else(|| enough(step.policy, &usable))
}

/// On once the canary hangs up no more than stable does.
pub fn not_worse(step: &Step<'_>) -> Verdict {
    let counts = step.sum(&step.usable_at(step.now));
    if let Some(doubt) = too_few(step.policy, counts.canary.calls) {
        return Verdict::Inconclusive(doubt);
    }
    match counts.excess_points(Metric::Abandon) {
        None => Verdict::Inconclusive(Doubt::NoBaseline),
        Some(excess) if excess > 0.0 => Verdict::Inconclusive(Doubt::Worse { sides: counts.sides(Metric::Abandon) }),
        Some(_) => Verdict::Pass,
    }
}

/// Nothing speaks against it; are there calls enough to say so?
pub fn enough(policy: &Policy, usable: &[Window]) -> Verdict {
    match too_few(policy, total(usable).canary.calls) {
        Some(doubt) => Verdict::Inconclusive(doubt),
        None => Verdict::Pass,
    }
}

fn too_few(policy: &Policy, seen: u32) -> Option<Doubt> {
    let needed = policy.min_canary_calls;
    (seen < needed).then_some(Doubt::TooFewCalls { seen, needed })
}

/// Windows in a row above the limit, if there are any: the first run that is the canary's alone fails. One that stable shares says
/// nothing about the change, and is told only while it lasts. Minutes are pooled until they hold enough canary calls; a gap in the data
/// ends a run, for minutes we did not see prove nothing.
pub fn error_limit(limit: ErrorLimit, usable: &[Window], compared: bool) -> Option<Verdict> {
    let mut run: Vec<Comparison> = Vec::new();
    let mut pool = Comparison::default();
    let mut previous: Option<Timestamp> = None;
    let mut lasting = None;
    for window in usable {
        if previous.is_some_and(|p| window.start.duration_since(p) > WINDOW * 5) {
            (run, pool, lasting) = (Vec::new(), Comparison::default(), None);
        }
        previous = Some(window.start);
        pool += window.counts;
        if pool.canary.calls < limit.min_calls {
            continue;
        }
        match pool.canary.percent(Metric::Error) {
            Some(percent) if percent > limit.percent + ROUNDING => run.push(pool),
            _ => (run, lasting) = (Vec::new(), None),
        }
        pool = Comparison::default();
        if run.len() >= limit.windows as usize {
            let mut sum = Comparison::default();
            run[run.len() - limit.windows as usize..].iter().for_each(|counts| sum += *counts);
            let breach = Breach { sides: sum.sides(Metric::Error), limit: limit.percent / 100.0, proof: Proof::InARow(limit.windows) };
            if !(compared && is_shared(&breach)) {
                return Some(Verdict::Fail(breach));
            }
            lasting = Some(Verdict::Inconclusive(Doubt::Shared { breach }));
        }
    }
    lasting
}
