//! How careful a rollout is: its steps, its times, and the rules that judge it.

use crate::weight::Weight;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Whole minutes, as written in a rollout file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minutes(pub u32);

impl Minutes {
    /// As a duration.
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_mins(i64::from(self.0))
    }
}

/// The policy of a rollout. Every field has a default; the reason stands beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Policy {
    /// Weights on the way, rising; 100 follows by itself.
    pub steps: Vec<Weight>,
    /// Minutes with data that a step must look healthy.
    pub bake_time: Minutes,
    /// Minutes with data that 100 % must look healthy.
    pub final_bake_time: Minutes,
    /// Minutes between two looks of the rule.
    pub evaluate_every: Minutes,
    /// How far a look reaches back, at most to the start of the step.
    pub lookback: Minutes,
    /// Canary calls below which the rule says nothing.
    pub min_canary_calls: u32,
    /// Looks in a row that must breach before the verdict is `Fail`.
    pub breach_limit: u32,
    /// What compares canary with stable.
    pub rule: Rule,
    /// The absolute limit on errors that runs beside every rule, at every tick.
    pub errors: ErrorLimit,
    /// Longest call that a fair comparison must include (the flow's 95th percentile): windows this close to a step are left out.
    pub long_call: Minutes,
    /// How long the counts of a minute may still grow.
    pub settle: Minutes,
    /// A step that is undecided for so long is handed to a person.
    pub step_cap: Minutes,
    /// Without any data for so long, calls go back to stable.
    pub max_blind: Minutes,
    /// A pause nobody ends is an abort.
    pub pause_expiry: Minutes,
}

/// What compares canary with stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// The canary's rate may exceed stable's by so many percentage points.
    Threshold {
        /// Points of abandon rate.
        #[serde(default = "abandon_points")]
        abandon_points: f64,
        /// Points of transfer rate.
        #[serde(default = "transfer_points")]
        transfer_points: f64,
    },
}

/// Errors of the canary above `percent` in `windows` windows in a row, each of the fewest whole minutes that hold
/// `min_calls` canary calls: a ratio, never a count, so that one failed call at night is no alarm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorLimit {
    /// Percent of canary calls.
    pub percent: f64,
    /// Windows in a row.
    pub windows: u32,
    /// Canary calls a window must hold.
    pub min_calls: u32,
}

impl Default for ErrorLimit {
    fn default() -> Self {
        ErrorLimit { percent: 5.0, windows: 3, min_calls: 10 }
    }
}

fn abandon_points() -> f64 {
    2.0
}

fn transfer_points() -> f64 {
    5.0
}

impl Default for Policy {
    fn default() -> Self {
        let percent = |p: u16| Weight::from_basis_points(p * 100).expect("the default steps are percentages");
        Policy {
            steps: vec![percent(5), percent(25), percent(50)],
            bake_time: Minutes(30),
            final_bake_time: Minutes(30),
            evaluate_every: Minutes(15),
            lookback: Minutes(60),
            min_canary_calls: 20,
            // One look in a row is the rule to the letter; two forgive a single unlucky quarter of an hour.
            breach_limit: 2,
            rule: Rule::Threshold { abandon_points: abandon_points(), transfer_points: transfer_points() },
            errors: ErrorLimit::default(),
            long_call: Minutes(5),
            settle: Minutes(2),
            step_cap: Minutes(6 * 60),
            max_blind: Minutes(60),
            pause_expiry: Minutes(24 * 60),
        }
    }
}

impl Policy {
    /// The first weight.
    pub fn first_step(&self) -> Weight {
        self.steps[0]
    }

    /// The step above `weight`, `None` where 100 % is next.
    pub fn step_after(&self, weight: Weight) -> Option<Weight> {
        self.steps.iter().copied().find(|step| *step > weight)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let policy = Policy::deserialize(deserializer)?; // as derived: types, defaults, unknown fields
        policy.check().map_err(serde::de::Error::custom)?;
        Ok(policy)
    }
}

impl Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Policy::serialize(self, serializer)
    }
}

impl Policy {
    /// What does not hold together is refused by name, with what is accepted.
    fn check(&self) -> Result<(), String> {
        let rising = self.steps.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = self.steps.iter().all(|s| Weight::ZERO < *s && *s < Weight::FULL);
        if self.steps.is_empty() || !rising || !inside {
            let written: Vec<String> = self.steps.iter().map(Weight::to_string).collect();
            return Err(format!(
                "steps [{}] are not accepted: rising percentages above 0 and below 100 are, such as [5, 25, 50] (100 follows by itself)",
                written.join(", ")
            ));
        }
        let at_least_one = [
            ("bake_time", self.bake_time.0),
            ("final_bake_time", self.final_bake_time.0),
            ("evaluate_every", self.evaluate_every.0),
            ("min_canary_calls", self.min_canary_calls),
            ("breach_limit", self.breach_limit),
            ("errors.windows", self.errors.windows),
            ("errors.min_calls", self.errors.min_calls),
            ("max_blind", self.max_blind.0),
            ("pause_expiry", self.pause_expiry.0),
        ];
        for (name, value) in at_least_one {
            // A month bounds every sum of these that is taken below and on the clock.
            if value == 0 || value > 43_200 {
                return Err(format!("{name} {value} is not accepted: a whole number from 1 to 43200 is"));
            }
        }
        for (name, value) in
            [("lookback", self.lookback.0), ("long_call", self.long_call.0), ("settle", self.settle.0), ("step_cap", self.step_cap.0)]
        {
            if value > 43_200 {
                return Err(format!("{name} {value} is not accepted: at most 43200 minutes are"));
            }
        }
        let Rule::Threshold { abandon_points, transfer_points } = self.rule;
        for (name, value) in
            [("abandon_points", abandon_points), ("transfer_points", transfer_points), ("errors.percent", self.errors.percent)]
        {
            if !(value > 0.0 && value <= 100.0) {
                return Err(format!("{name} {value} is not accepted: a number above 0 and up to 100 is"));
            }
        }
        if self.lookback < self.evaluate_every {
            return Err(format!(
                "lookback {} is not accepted: it must reach back at least evaluate_every ({} minutes)",
                self.lookback.0, self.evaluate_every.0
            ));
        }
        // Shorter, and a step could end before the limit had its windows.
        let longest_run = self.errors.windows;
        for (name, value) in [("bake_time", self.bake_time.0), ("final_bake_time", self.final_bake_time.0)] {
            if value < longest_run {
                return Err(format!("{name} {value} is not accepted: at least errors.windows ({longest_run}) minutes are"));
            }
        }
        let looks = u64::from(self.evaluate_every.0) * u64::from(self.breach_limit);
        let least = u64::from(self.long_call.0) + u64::from(self.settle.0) + looks.max(u64::from(self.bake_time.0));
        if u64::from(self.step_cap.0) <= least {
            return Err(format!(
                "step_cap {} is not accepted: a step needs more than {least} minutes (long_call + settle + bake_time, or the looks that fail it)",
                self.step_cap.0
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Policy, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_policy_is_the_default_one() {
        assert_eq!(read("{}").unwrap(), Policy::default());
    }

    #[test]
    fn every_refusal_names_the_value_and_what_is_accepted() {
        let cases = [
            (r#"{"steps":[]}"#, "rising percentages"),
            (r#"{"steps":[25,5]}"#, "[25, 5]"),
            (r#"{"steps":[5,100]}"#, "below 100"),
            (r#"{"steps":[101]}"#, "weight `101`"),
            (r#"{"step":[5]}"#, "unknown field `step`"),
            (r#"{"bake_time":0}"#, "bake_time 0"),
            (r#"{"breach_limit":0}"#, "breach_limit 0"),
            (r#"{"errors":{"percent":0}}"#, "errors.percent 0"),
            (r#"{"rule":{"kind":"threshold","abandon_points":-1}}"#, "abandon_points -1"),
            (r#"{"rule":{"kind":"coin"}}"#, "`coin`"),
            (r#"{"lookback":10}"#, "lookback 10"),
            (r#"{"step_cap":20}"#, "step_cap 20"),
            (r#"{"bake_time":2}"#, "bake_time 2"),
        ];
        for (json, expected) in cases {
            let refused = read(json).unwrap_err();
            assert!(refused.contains(expected), "{json}: {refused}");
        }
    }
}
