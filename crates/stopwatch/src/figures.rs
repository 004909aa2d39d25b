//! Figures of many measurements.

use serde::Serialize;
use std::time::Duration;

/// Of a list, sorted. All are the values themselves, never between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// All zero for an empty list.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| match sorted.len() {
            0 => 0.0,
            count => rounded(sorted[rank(share, count as u64) as usize - 1]),
        };
        Spread { min: at(0.0), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }
}

/// The nearest rank, from 1: the smallest that at least `share` of all do not exceed.
fn rank(share: f64, count: u64) -> u64 {
    ((share * count as f64).ceil() as u64).clamp(1, count)
}

/// Three decimals are more than any clock here is good for.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Times of very many calls in whole microseconds, in memory that does not grow with them.
pub(crate) struct Times {
    counts: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Times {
    /// Longer ones all count as this.
    const LONGEST: usize = 1_000_000;

    pub(crate) fn new() -> Times {
        Times { counts: vec![0; Times::LONGEST + 1], count: 0, max: Duration::ZERO }
    }

    pub(crate) fn add(&mut self, took: Duration) {
        self.counts[(took.as_micros() as usize).min(Times::LONGEST)] += 1;
        self.count += 1;
        self.max = self.max.max(took);
    }

    /// Microseconds that `share` of the calls did not exceed.
    pub(crate) fn at(&self, share: f64) -> u64 {
        let (wanted, mut seen) = (rank(share, self.count.max(1)), 0);
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.unwrap_or(0) as u64
    }

    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn merge(&mut self, other: &Times) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree() {
        let values: Vec<u64> = (1..=1000).rev().collect();
        let spread = Spread::of(values.iter().map(|v| *v as f64));
        let mut times = Times::new();
        for value in &values {
            times.add(Duration::from_micros(*value));
        }
        assert_eq!(spread, Spread { min: 1.0, p50: 500.0, p90: 900.0, p99: 990.0, max: 1000.0 });
        assert_eq!((times.at(0.5), times.at(0.99), times.at(1.0), times.count()), (500, 990, 1000, 1000));
        assert_eq!(Spread::of([7.0]), Spread { min: 7.0, p50: 7.0, p90: 7.0, p99: 7.0, max: 7.0 });
    }
}
