//! Sample-ratio mismatch: do the cohorts' calls come in the configured shares? If not, nothing that compares them is fair.

use super::eprocess::{Mixture, Onset};
use super::special::ln_gamma;
use serde::{Deserialize, Serialize};

/// Odds multipliers of the canary's share that are tested.
const MULTIPLIERS: [f64; 8] = [0.01, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0, 100.0];
/// Calls per block: a cached random number that holds one side for ten minutes is invisible in longer blocks.
const BLOCK: f64 = 6.0;
const ONSET: Onset = Onset { first: 0.5, minutes: 240.0 };

/// The e-process against "every call was drawn with the configured weight".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareCheck {
    mixture: Mixture,
    open: Vec<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Open {
    weight: f64,
    canary: f64,
    stable: f64,
    minutes: f64,
}

impl Default for ShareCheck {
    fn default() -> Self {
        ShareCheck { mixture: Mixture::new(MULTIPLIERS.len() + 1), open: Vec::new() }
    }
}

impl ShareCheck {
    /// Takes the calls of one look at `weight` percent, strictly between 0 and 100. Counts may be negative where a minute was
    /// restated downward; they are pooled until they make sense again.
    pub fn take(&mut self, weight: f64, canary: f64, stable: f64, minutes: f64) {
        let at = match self.open.iter().position(|o| o.weight == weight) {
            Some(at) => at,
            None => {
                if self.open.len() == super::judge::MOST_OPEN {
                    self.open.remove(0);
                }
                self.open.push(Open { weight, canary: 0.0, stable: 0.0, minutes: 0.0 });
                self.open.len() - 1
            }
        };
        let open = &mut self.open[at];
        open.canary += canary;
        open.stable += stable;
        open.minutes += minutes;
        if open.canary + open.stable >= BLOCK && open.canary >= 0.0 && open.stable >= 0.0 {
            let block = self.open.remove(at);
            self.mixture.take(&ln_factors(weight / 100.0, block.canary, block.stable), block.minutes, ONSET, 0.0);
        }
    }

    /// The e-process, not its logarithm.
    pub fn value(&self) -> f64 {
        self.mixture.value()
    }
}

fn ln_factors(share: f64, canary: f64, stable: f64) -> [f64; MULTIPLIERS.len() + 1] {
    let all = canary + stable;
    let mut out = [0.0; MULTIPLIERS.len() + 1];
    for (slot, odds) in out.iter_mut().zip(MULTIPLIERS) {
        *slot = canary * odds.ln() - all * (1.0 - share + share * odds).ln();
    }
    // Whole blocks on one side: Beta-binomial with as much mass at the ends as the weight says.
    out[MULTIPLIERS.len()] = ln_gamma(canary + share) + ln_gamma(stable + 1.0 - share)
        - ln_gamma(all + 1.0)
        - ln_gamma(share)
        - ln_gamma(1.0 - share)
        - canary * share.ln()
        - stable * (1.0 - share).ln();
    out
}
