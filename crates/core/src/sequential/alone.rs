//! The watch at 100 %, where no concurrent stable exists: the canary's calls against what stable's looked like at the last step.
//!
//! Without stable in the same minutes a busy hour cannot be told from a fault, so the whole margin is forgiven here, not only the
//! tolerance, and on top of the rate at which the baseline may really lie. The e-process is that of one binomial sample.

use super::eprocess::{Mixture, Onset};
use super::settings::{Metric, Settings, Tally, Window};
use crate::measurement::{Side, Sides};

const ONSET: Onset = Onset { first: 0.5, minutes: 60.0 };
/// Standard deviations by which the baseline may lie above what was counted.
const DOUBT: f64 = 2.0;

/// Evidence against a canary that has all calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Alone {
    /// All metrics together; `1 / alpha` rolls back.
    pub harm: f64,
    /// The metric that weighs most, stable as it was, and the rate that was forgiven.
    pub worst: Option<(Sides, f64)>,
}

/// Judges the windows at 100 % against stable's recorded counts. Times are not compared: their spread was not recorded.
pub fn watch(settings: &Settings, baseline: &Tally, windows: &[Window]) -> Alone {
    let rates = settings.metrics.iter().filter(|m| !m.is_mean());
    let all: f64 = settings.metrics.iter().map(|m| m.weight).sum();
    let judged = rates.filter_map(|metric| {
        let stable = side(metric, baseline).filter(|s| s.calls >= 1.0)?;
        let mut canary = Side::default();
        let mut mixture = Mixture::new(3);
        let forgiven = forgiven(metric, stable);
        for now in windows.iter().filter_map(|w| side(metric, &w.canary)).filter(|now| now.calls >= 1.0) {
            canary = Side { sum: canary.sum + now.sum, calls: canary.calls + now.calls };
            mixture.take(&ln_factors(metric, forgiven, now), 1.0, ONSET, 0.0);
        }
        let sides = Sides { metric: metric.name.clone(), mean: false, canary, stable };
        Some((metric.weight / all * mixture.value(), sides, forgiven))
    });
    let judged: Vec<_> = judged.collect();
    let harm = judged.iter().map(|(pull, ..)| pull).sum();
    let worst = judged.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, sides, forgiven)| (sides, forgiven));
    Alone { harm, worst }
}

fn side(metric: &Metric, tally: &Tally) -> Option<Side> {
    let known = metric.figure.needs().into_iter().all(|c| tally.knows(c));
    let (sum, calls) = metric.figure.rate(tally).filter(|_| known)?;
    ((0.0..=calls).contains(&sum)).then_some(Side { sum, calls })
}

fn forgiven(metric: &Metric, stable: Side) -> f64 {
    let p = (stable.sum + 1.0) / (stable.calls + 2.0);
    (p + DOUBT * (p * (1.0 - p) / stable.calls).sqrt() + metric.margin).min(0.9)
}

fn ln_factors(metric: &Metric, null: f64, now: Side) -> [f64; 3] {
    metric.excesses().map(|excess| {
        let guess = (null + excess).min(0.97);
        now.sum * (guess / null).ln() + (now.calls - now.sum) * ((1.0 - guess) / (1.0 - null)).ln()
    })
}
