//! The weights a rollout climbs: the plan's, and what the volume and the exposure budget put before or in place of them.

use super::settings::Settings;
use serde::{Deserialize, Serialize};

/// First weight where the plan's would see fewer than `LOW_CALLS` an hour. A canary call tells the less the higher the weight is,
/// so half of it goes first.
pub(super) const LOW_WEIGHT: f64 = 20.0;
const LOW_CALLS: f64 = 20.0;
/// Canary calls wanted from the probe within so many minutes, and those that end it.
const PROBE_CALLS: f64 = 24.0;
const PROBE_MINUTES: u32 = 5;

/// Multiples of the margin that must be excluded to leave a weight, and the chance of passing a canary at that multiple.
pub(super) const CLEARANCE: [(f64, f64); 3] = [(6.0, 0.2), (3.0, 0.1), (1.0, 0.1)];

/// Which clearance leaves a weight for the next.
pub(super) fn stage(weight: f64, next: f64) -> usize {
    if weight >= 50.0 || next >= 100.0 { 2 } else { usize::from(weight >= LOW_WEIGHT) }
}

/// A start below the first weight, until a few canary calls show nothing gross.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Probe {
    /// The plan's first weight would expose many calls before the first look. The time does not count towards the first step.
    HighVolume,
    /// Too few calls for the plan's first weight; the raised one follows, and the time counts.
    LowVolume {
        /// Percent.
        then: f64,
    },
}

impl Probe {
    /// Canary calls that end it.
    pub(super) fn calls(self) -> f64 {
        match self {
            Probe::HighVolume => 15.0,
            Probe::LowVolume { .. } => 8.0,
        }
    }

    /// Evidence of harm that prolongs it.
    pub(super) fn evidence(self) -> f64 {
        match self {
            Probe::HighVolume => 2.0,
            Probe::LowVolume { .. } => 1.3,
        }
    }
}

/// A budget of callers at risk: the weight is held down so that never more of them are expected to be harmed before Serin can react,
/// if the canary were as bad as what has not been excluded yet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// Callers.
    pub callers: f64,
    /// From a call to the moment the weight is back at 0.
    pub reaction_minutes: f64,
}

/// The weights, rising, the last is 100, and the probe that the first one is, if it is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    /// Percent.
    pub weights: Vec<f64>,
    /// What the first weight is.
    pub probe: Option<Probe>,
}

impl Settings {
    /// The weights that these settings lead to.
    pub fn ladder(&self) -> Result<Ladder, String> {
        let ladder = self.by_volume();
        match self.exposure {
            Some(exposure) => self.within(exposure, ladder),
            None => Ok(ladder),
        }
    }

    fn by_volume(&self) -> Ladder {
        let (volume, every, first) = (self.expected_calls_per_hour, self.look_every, self.plan[0]);
        let per_look = PROBE_CALLS / f64::from(PROBE_MINUTES.div_ceil(every));
        let small = (1000.0 * per_look / (volume * f64::from(every) / 60.0)).max(1.0).round() / 10.0;
        if volume * first / 100.0 < LOW_CALLS && first < LOW_WEIGHT {
            // The raised weight stands for all of the plan's steps up to a quarter, so that it is not raised twice.
            let then = LOW_WEIGHT.min(self.plan[1]);
            let above = self.plan.iter().copied().filter(|w| *w > LOW_WEIGHT.max(25.0));
            // Weights have two decimals.
            let half = (then * 50.0).floor() / 100.0;
            let weights = [first.max(half), then].into_iter().chain(above.filter(|w| *w > then)).collect();
            Ladder { weights, probe: Some(Probe::LowVolume { then }) }
        } else if small <= first / 2.0 {
            Ladder { weights: [small].into_iter().chain(self.plan.iter().copied()).collect(), probe: Some(Probe::HighVolume) }
        } else {
            Ladder { weights: self.plan.clone(), probe: None }
        }
    }

    fn within(&self, exposure: Exposure, ladder: Ladder) -> Result<Ladder, String> {
        let per_percent = self.expected_calls_per_hour / 6_000.0 * exposure.reaction_minutes;
        let worst = self.metrics.iter().filter(|m| !m.is_mean()).map(|m| m.margin).fold(0.0, f64::max);
        let mut weights: Vec<f64> = Vec::new();
        // Nothing is excluded at the start: every call may fail.
        let mut excess = 1.0f64;
        for (at, weight) in ladder.weights.iter().copied().enumerate() {
            let cap = (exposure.callers / (per_percent * excess) * 10.0 + 1e-9).floor() / 10.0;
            let least = (100.0 * per_percent * excess - 1e-9).ceil();
            if weight >= 100.0 && exposure.callers < least {
                let (n, volume) = (exposure.callers, self.expected_calls_per_hour);
                return Err(format!(
                    "exposure_budget {n} is not accepted at {volume} calls an hour: the last step alone puts {least} callers at risk, so at least {least} is"
                ));
            }
            let held = weight.min(cap);
            if held < 0.1 {
                return Err(format!("exposure_budget {} is not accepted: it leaves no weight of 0.1 % or more", exposure.callers));
            }
            if weights.last().is_none_or(|before| *before < held) {
                weights.push(held);
            }
            let probing = at == 0 && ladder.probe.is_some();
            let next = ladder.weights.get(at + 1).copied().unwrap_or(100.0);
            if !probing {
                excess = excess.min(CLEARANCE[stage(held, next)].0 * worst);
            }
        }
        // Held down to the same weight, the probe is the first step.
        let probe = ladder.probe.filter(|probe| match probe {
            Probe::HighVolume => weights[0] == ladder.weights[0] && weights.get(1) == ladder.weights.get(1),
            Probe::LowVolume { then } => weights.get(1) == Some(then),
        });
        Ok(Ladder { weights, probe })
    }
}
