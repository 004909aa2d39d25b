//! The numerical ground: log-gamma, and Fisher's noncentral hypergeometric distribution, accurate from one call to ten million.

use std::f64::consts::PI;

/// `ln Γ(x)` for `x > 0`.
pub fn ln_gamma(x: f64) -> f64 {
    if x == 1.0 || x == 2.0 {
        return 0.0;
    }
    // Below 16 the series is not exact enough: shift up and divide the product out again.
    let (mut shifted, mut product) = (x, 1.0);
    while shifted < 16.0 {
        product *= shifted;
        shifted += 1.0;
    }
    (shifted - 0.5) * shifted.ln() - shifted + 0.5 * (2.0 * PI).ln() + stirling_series(shifted) - f64::ln(product)
}

/// `ln n!`.
pub fn ln_factorial(n: u64) -> f64 {
    if n <= 18 { exact_factorial(n).ln() } else { ln_gamma(n as f64 + 1.0) }
}

/// Exact up to 18!, which still fits 53 bits.
fn exact_factorial(n: u64) -> f64 {
    (2..=n).map(|i| i as f64).product()
}

/// What Stirling's formula for `ln Γ(x)` leaves out, for `x >= 16`: the next term is below 2e-16.
fn stirling_series(x: f64) -> f64 {
    let y = 1.0 / (x * x);
    (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y / 1188.0)))) / x
}

/// `ln n! - [(n + 1/2) ln n - n + 1/2 ln 2π]`.
fn stirling_error(n: f64) -> f64 {
    if n >= 16.0 { stirling_series(n) } else { exact_factorial(n as u64).ln() - ((n + 0.5) * n.ln() - n + 0.5 * (2.0 * PI).ln()) }
}

/// `x ln(x / mean) + mean - x` without cancellation where `x` is near `mean`.
fn deviance(x: f64, mean: f64) -> f64 {
    if (x - mean).abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() + mean - x;
    }
    let v = (x - mean) / (x + mean);
    let (mut sum, mut power) = ((x - mean) * v, 2.0 * x * v);
    for j in 1..200 {
        power *= v * v;
        let next = sum + power / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// `ln [C(n, k) p^k q^(n-k)]` by Loader's saddle point: differences of log-gammas would lose eight digits at ten million calls.
fn ln_binomial(k: f64, n: f64, p: f64, q: f64) -> f64 {
    if n == 0.0 {
        0.0
    } else if k == 0.0 {
        n * (-p).ln_1p()
    } else if k == n {
        n * (-q).ln_1p()
    } else {
        stirling_error(n)
            - stirling_error(k)
            - stirling_error(n - k)
            - deviance(k, n * p)
            - deviance(n - k, n * q)
            - 0.5 * (2.0 * PI * k * (n - k) / n).ln()
    }
}

/// Which of the `bad` calls among `canary + stable` fell on the canary, if the odds of being bad differ by a ratio.
#[derive(Debug, Clone, Copy)]
pub struct Allotment {
    canary: f64,
    stable: f64,
    bad: f64,
    least: u64,
    most: u64,
}

impl Allotment {
    /// `bad` is at most `canary + stable`.
    pub fn new(canary: u64, stable: u64, bad: u64) -> Allotment {
        let (least, most) = (bad.saturating_sub(stable), canary.min(bad));
        Allotment { canary: canary as f64, stable: stable as f64, bad: bad as f64, least, most }
    }

    /// `ln P(x of the bad calls are canary calls)` under the odds ratio `psi`; `x` must be possible.
    pub fn ln_probability(&self, x: u64, psi: f64) -> f64 {
        if self.most <= self.least {
            return 0.0;
        }
        let mode = self.mode(psi);
        let offset =
            if x == mode { 0.0 } else { self.ln_weight(x as f64) - self.ln_weight(mode as f64) + (x as f64 - mode as f64) * psi.ln() };
        offset - self.rest_over_mode(mode, psi).ln_1p()
    }

    /// The weight of `k + 1` over that of `k`; it falls as `k` grows.
    fn ratio(&self, k: f64, psi: f64) -> f64 {
        (self.canary - k) * (self.bad - k) * psi / ((k + 1.0) * (self.stable - self.bad + k + 1.0))
    }

    fn mode(&self, psi: f64) -> u64 {
        let (mut low, mut high) = (self.least, self.most);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.ratio(middle as f64, psi) < 1.0 { high = middle } else { low = middle + 1 }
        }
        low
    }

    /// Sum of all weights but the mode's, over the mode's. It walks outward until nothing is added any more, so it costs some
    /// standard deviations, not the range.
    fn rest_over_mode(&self, mode: u64, psi: f64) -> f64 {
        let mut sum = 0.0;
        let mut term = 1.0;
        for k in mode..self.most {
            term *= self.ratio(k as f64, psi);
            sum += term;
            if term < 1e-18 {
                break;
            }
        }
        term = 1.0;
        for k in (self.least..mode).rev() {
            term /= self.ratio(k as f64, psi);
            sum += term;
            if term < 1e-18 {
                break;
            }
        }
        sum
    }

    /// `ln [C(canary, k) C(stable, bad - k)]`, up to a constant.
    fn ln_weight(&self, k: f64) -> f64 {
        let all = self.canary + self.stable;
        let (p, q) = (self.bad / all, (all - self.bad) / all);
        ln_binomial(k, self.canary, p, q) + ln_binomial(self.bad - k, self.stable, p, q)
    }
}
