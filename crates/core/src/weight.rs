//! The share of new calls offered to the canary.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Share of new calls offered to the canary, in basis points inside (`0..=10_000`), in percent with two decimals outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Weight(u16);

/// A text or number that is not a weight; says which, and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("weight `{0}` is not accepted: a percentage from 0 to 100 with at most two decimals is, such as 5 or 0.25")]
pub struct InvalidWeight(pub String);

impl Weight {
    /// No call goes to the canary.
    pub const ZERO: Weight = Weight(0);
    /// Every call goes to the canary.
    pub const FULL: Weight = Weight(10_000);

    /// A weight of `points` basis points, if there is one (`0..=10_000`).
    pub fn from_basis_points(points: u16) -> Option<Weight> {
        (points <= 10_000).then_some(Weight(points))
    }

    /// Basis points, `0..=10_000`.
    pub fn basis_points(self) -> u16 {
        self.0
    }

    /// Percent, `0.0..=100.0`.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Whether a call in `bucket` (`0..10_000`) goes to the canary. Raising the weight only adds callers.
    pub fn takes(self, bucket: u16) -> bool {
        bucket < self.0
    }
}

impl TryFrom<f64> for Weight {
    type Error = InvalidWeight;

    fn try_from(percent: f64) -> Result<Self, Self::Error> {
        let points = (percent * 100.0).round();
        let exact = (points / 100.0 - percent).abs() < 1e-9;
        if exact && (0.0..=10_000.0).contains(&points) { Ok(Weight(points as u16)) } else { Err(InvalidWeight(percent.to_string())) }
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> f64 {
        weight.percent()
    }
}

/// As an operator writes it into the parameter: `5`, `0.5`, `0`. Surrounding white space is forgiven, a percent sign is not.
impl FromStr for Weight {
    type Err = InvalidWeight;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || InvalidWeight(text.chars().take(32).collect());
        let digits = text.trim();
        // `f64` also reads `inf`, `1e1` and `+5`, which nobody means when typing a percentage.
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(refuse());
        }
        let percent: f64 = digits.parse().map_err(|_| refuse())?;
        Weight::try_from(percent).map_err(|_| refuse())
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.percent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_read_and_written_without_loss() {
        for points in 0..=10_000 {
            let weight = Weight::from_basis_points(points).unwrap();
            assert_eq!(weight.to_string().parse::<Weight>().unwrap(), weight);
            assert_eq!(Weight::try_from(weight.percent()).unwrap(), weight);
        }
    }

    #[test]
    fn what_is_not_a_percentage_is_refused_by_name() {
        for text in ["101", "-1", "5%", "", "1e1", "NaN", "inf", "0.001", "100.01", "five", "+5", "5,5", "."] {
            let refused = text.parse::<Weight>().unwrap_err().to_string();
            assert!(refused.contains(&format!("`{text}`")) && refused.contains("from 0 to 100"), "{refused}");
        }
        assert!(Weight::try_from(f64::NAN).is_err());
    }
}
