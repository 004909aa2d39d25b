//! One factor of evidence per block of calls, and the mixture over the moment at which a fault may have begun.
//!
//! A factor has expectation at most 1 while the canary is within its tolerance, given everything before the block; products of
//! factors keep that, and so do averages of products. All figures here are natural logarithms unless said otherwise.

use super::special::Allotment;
use serde::{Deserialize, Serialize};

/// Counts of one metric in one block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Canary calls.
    pub canary: u64,
    /// Bad ones among them.
    pub canary_bad: u64,
    /// Stable calls.
    pub stable: u64,
    /// Bad ones among them.
    pub stable_bad: u64,
}

impl Counts {
    /// The canary's count of bad calls, in standard deviations above an even allotment. `None` where the block says too little.
    pub fn score(&self) -> Option<f64> {
        let (c, s) = (self.canary as f64, self.stable as f64);
        let (n, bad) = (c + s, (self.canary_bad + self.stable_bad) as f64);
        let variance = bad * (c / n) * (s / n) * (n - bad) / (n - 1.0).max(1.0);
        (variance >= 0.5).then(|| (self.canary_bad as f64 - bad * c / n) / variance.sqrt())
    }
}

/// The odds ratio that lifts the rate `base` by `excess`.
pub fn odds_ratio(base: f64, excess: f64) -> f64 {
    let p = base.clamp(1e-4, 0.97);
    let q = (p + excess).min(0.985);
    q / (1.0 - q) * (1.0 - p) / p
}

/// Evidence of both kinds from one block: against "within tolerance" for each guessed effect, and against each margin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Log factor of harm per guessed effect.
    pub harm: [f64; 3],
    /// Log factor against each multiple of the margin.
    pub clear: [f64; 3],
}

/// Common outcomes. Given how many calls of the block were bad, a fair router makes the canary's share of them a random draw: the
/// factor needs no base rate at all, so drift, carrier blips and busy hours cancel. The base only turns points into an odds ratio.
/// `None` where all calls ended alike: nothing was drawn.
pub fn conditional(counts: Counts, base: f64, tolerance: f64, effects: [f64; 3], margins: [f64; 3]) -> Option<Factors> {
    let bad = counts.canary_bad + counts.stable_bad;
    if bad == 0 || bad == counts.canary + counts.stable {
        return None;
    }
    let allotment = Allotment::new(counts.canary, counts.stable, bad);
    let ln_p = |psi: f64| allotment.ln_probability(counts.canary_bad, psi);
    let (tolerated, equal) = (ln_p(odds_ratio(base, tolerance)), ln_p(1.0));
    Some(Factors {
        harm: effects.map(|excess| ln_p(odds_ratio(base, excess)) - tolerated),
        clear: margins.map(|margin| equal - ln_p(odds_ratio(base, margin))),
    })
}

/// Rare outcomes. Where stable has no bad call every odds ratio is possible and the conditional factor learns nothing; here the
/// null is `canary <= stable + tolerance` with stable's rate free in every block, and the guess comes from the past alone.
pub fn additive(counts: Counts, past: f64, tolerance: f64, effects: [f64; 3], margins: [f64; 3]) -> Factors {
    let stable = past.clamp(3e-4, 0.5);
    Factors {
        harm: effects.map(|excess| ln_likelihood_ratio(counts, stable, (stable + excess).min(0.9), tolerance)),
        // A lower margin than asked for is harder to clear, so the bound that keeps the rates below 1 errs on the safe side.
        clear: margins.map(|margin| ln_likelihood_ratio(counts, stable, stable, margin.min(0.45))),
    }
}

/// Likelihood of the guess over that of the nearest point of the line `canary = stable + difference`. The nearest point makes
/// the expectation at most 1 on the whole side beyond the line.
fn ln_likelihood_ratio(counts: Counts, stable: f64, canary: f64, difference: f64) -> f64 {
    let p = project(counts.stable as f64, counts.canary as f64, stable, canary, difference);
    let c = p + difference;
    let side = |bad: u64, all: u64, guess: f64, null: f64| {
        bad as f64 * (guess / null).ln() + (all - bad) as f64 * ((1.0 - guess) / (1.0 - null)).ln()
    };
    side(counts.canary_bad, counts.canary, canary, c) + side(counts.stable_bad, counts.stable, stable, p)
}

fn project(n_stable: f64, n_canary: f64, stable: f64, canary: f64, difference: f64) -> f64 {
    let shifted = (canary - difference).max(1e-9);
    let (mut low, mut high) = (stable.min(shifted), stable.max(shifted));
    for _ in 0..30 {
        let p = f64::midpoint(low, high);
        let c = p + difference;
        let slope = n_stable * (p - stable) / (p * (1.0 - p)) + n_canary * (c - canary) / (c * (1.0 - c));
        if slope < 0.0 { low = p } else { high = p }
    }
    f64::midpoint(low, high)
}

/// Sums of a time over the calls of one cohort.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// Calls.
    pub calls: f64,
    /// Sum of the times.
    pub sum: f64,
    /// Sum of their squares, `None` where the source does not tell.
    pub squares: Option<f64>,
}

impl Times {
    fn mean(&self) -> f64 {
        self.sum / self.calls
    }
}

/// The running spread of a time within a cohort, relative to its mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    calls: f64,
    weighted: f64,
}

/// Assumed until there is data: times of calls are skewed, and early variances of skewed times read low.
const PRIOR_SPREAD: f64 = 1.25;
const PRIOR_CALLS: f64 = 100.0;

impl Spread {
    fn learn(&mut self, canary: Times, stable: Times) {
        let (Some(c2), Some(s2)) = (canary.squares, stable.squares) else { return };
        let within = (c2 - canary.sum * canary.mean() + s2 - stable.sum * stable.mean()).max(1.0);
        let calls = canary.calls + stable.calls;
        let mean = (canary.sum + stable.sum) / calls;
        self.calls += calls;
        self.weighted += calls * within / (calls - 2.0) / (mean * mean);
    }

    /// As observed, without the prior; 0 while nothing was.
    pub fn observed(&self) -> f64 {
        self.weighted / self.calls.max(1.0)
    }

    /// Squared coefficient of variation.
    pub fn cv2(&self) -> f64 {
        (self.weighted + PRIOR_SPREAD * PRIOR_CALLS) / (self.calls + PRIOR_CALLS)
    }
}

/// Mean times from sums alone: a Gaussian factor with capped bets. `None` where the sums cannot be those of times.
pub fn gaussian(
    canary: Times,
    stable: Times,
    spread: &mut Spread,
    tolerance: f64,
    effects: [f64; 3],
    margins: [f64; 3],
) -> Option<Factors> {
    let (c, s) = (canary.mean(), stable.mean());
    if !(c.is_finite() && s.is_finite() && canary.sum + stable.sum > 0.0 && c >= 0.0 && s >= 0.0) {
        return None;
    }
    let mut learned = *spread;
    learned.learn(canary, stable);
    if !learned.weighted.is_finite() {
        return None;
    }
    *spread = learned;
    let cv2 = spread.cv2();
    let cv = cv2.sqrt();
    // The scale is stable's mean under the null, pooled over both cohorts. Stable's own mean would correlate with the difference:
    // a bias in every block, and it adds up.
    let scale = |r: f64| (canary.sum + (1.0 + r) * stable.sum) / (canary.calls + stable.calls) / (1.0 + r);
    let sd = |r: f64| scale(r) * (cv2 * (1.0 / canary.calls + (1.0 + r).powi(2) / stable.calls)).sqrt();
    // Third cumulant of the difference for lognormal times; only the smaller canary's longer tail points to harm.
    let skew = (3.0 * cv + cv.powi(3)) * (canary.calls.powi(-2) - stable.calls.powi(-2)).max(0.0)
        / (1.0 / canary.calls + 1.0 / stable.calls).powf(1.5);
    let z = (c - (1.0 + tolerance) * s) / sd(tolerance);
    Some(Factors {
        harm: effects.map(|excess| {
            let bet = ((excess - tolerance) * scale(tolerance) / sd(tolerance)).min(0.6);
            bet * z - bet * bet / 2.0 - skew * bet.powi(3) / 6.0
        }),
        clear: margins.map(|r| {
            let bet = (r * scale(r) / sd(r)).min(0.8);
            bet * ((1.0 + r) * s - c) / sd(r) - bet * bet / 2.0
        }),
    })
}

/// A mixture over the block in which a fault began: past health does not delay the detection of a later fault, and the
/// guarantee still covers the whole rollout, because the prior over the start sums to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    begun: Vec<f64>,
    unspent: f64,
    fresh: bool,
}

/// Prior mass of "it was there from the first block", and the minutes of data over which the rest is spent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Onset {
    /// Mass on the first block.
    pub first: f64,
    /// Mean minutes until a later start.
    pub minutes: f64,
}

impl Mixture {
    /// Over so many alternatives, all mass unspent.
    pub fn new(alternatives: usize) -> Mixture {
        Mixture { begun: vec![0.0; alternatives], unspent: 1.0, fresh: true }
    }

    /// Takes the log factors of one block that holds so many `minutes` of data. `least` is the share spent at the least: a
    /// fault likes to begin where the weight has just changed.
    pub fn take(&mut self, ln_factors: &[f64], minutes: f64, onset: Onset, least: f64) {
        let hazard = if self.fresh { onset.first } else { (1.0 - (-minutes / onset.minutes).exp()).max(least) };
        self.fresh = false;
        let spent = self.unspent * hazard;
        self.unspent -= spent;
        for (mass, ln_factor) in self.begun.iter_mut().zip(ln_factors) {
            *mass = ((*mass + spent) * ln_factor.clamp(-200.0, 200.0).exp()).min(1e100);
        }
    }

    /// The e-process itself, not its logarithm.
    pub fn value(&self) -> f64 {
        self.begun.iter().sum::<f64>() / self.begun.len() as f64 + self.unspent
    }
}

/// How much more the blocks scatter than a fair allotment would. Evidence is divided by it, from the next block on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Overdispersion {
    sum: f64,
    count: f64,
    last: Option<f64>,
    factor: f64,
}

impl Default for Overdispersion {
    fn default() -> Self {
        Overdispersion { sum: 15.0, count: 15.0, last: None, factor: 1.0 }
    }
}

impl Overdispersion {
    /// At least 1.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Learns from a block's score. Successive differences leave a constant effect of the canary out.
    pub fn learn(&mut self, score: Option<f64>) {
        let Some(score) = score else { return };
        if let Some(last) = self.last {
            self.sum += ((score - last).powi(2) / 2.0).min(6.0);
            self.count += 1.0;
        }
        self.last = Some(score);
        // One standard error is forgiven: without that the factor is above 1 half of the time in clean data.
        self.factor = (self.sum / self.count - (3.0 / self.count).sqrt()).max(1.0);
    }
}
