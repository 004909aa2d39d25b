//! The numerical ground against scipy and mpmath: `data/special.py` wrote the vectors.
#![allow(clippy::unwrap_used)]

use serde::Deserialize;
use serin_core::sequential::special::{Allotment, ln_factorial, ln_gamma};

#[derive(Deserialize)]
struct Vectors {
    ln_gamma: Vec<(f64, f64)>,
    allotment_scipy: Vec<(u64, u64, u64, u64, f64, f64)>,
    allotment_exact: Vec<(u64, u64, u64, u64, f64, f64)>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("data/special.json")).unwrap()
}

fn close(got: f64, want: f64) -> bool {
    (got - want).abs() <= 1e-9 * want.abs()
}

#[test]
fn log_gamma_is_scipys() {
    for (x, want) in vectors().ln_gamma {
        assert!(close(ln_gamma(x), want), "ln_gamma({x}) = {} and not {want}", ln_gamma(x));
    }
    assert!(close(ln_factorial(170), ln_gamma(171.0)) && close(ln_factorial(18), ln_gamma(19.0)));
}

#[test]
fn the_allotment_of_bad_calls_is_fishers_noncentral_hypergeometric() {
    let vectors = vectors();
    for (canary, stable, bad, x, psi, want) in vectors.allotment_scipy.into_iter().chain(vectors.allotment_exact) {
        let got = Allotment::new(canary, stable, bad).ln_probability(x, psi);
        assert!(close(got, want), "{canary} {stable} {bad} {x} {psi}: {got} and not {want}");
    }
}

#[test]
fn the_allotment_sums_to_one() {
    for (canary, stable, bad, psi) in [(5, 40, 9, 3.0), (30, 30, 31, 0.2), (12, 3, 14, 1.0), (1, 1, 1, 50.0)] {
        let allotment = Allotment::new(canary, stable, bad);
        let sum: f64 = (bad.saturating_sub(stable)..=canary.min(bad)).map(|x| allotment.ln_probability(x, psi).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    }
}
