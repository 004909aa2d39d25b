//! What the judge is told: metrics with a tolerance and a margin, the plan, and the windows.

use super::ladder::Exposure;
use serde::{Deserialize, Serialize};

/// What is counted per cohort and minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// Finished calls that began in the minute.
    Calls,
    /// The caller hung up inside the flow.
    Abandons,
    /// Transferred to an agent.
    Transfers,
    /// Ended by an error of the flow.
    Errors,
    /// The flow served the caller.
    Contained,
    /// Calls that have a handle time.
    Handled,
    /// Sum of the handle times, seconds.
    HandleSum,
    /// Sum of their squares.
    HandleSquares,
    /// A first counter of the user's own.
    Own1,
    /// A second one.
    Own2,
}

const COUNTERS: usize = 10;

/// These come from another source than the counts, often later, and are complete in themselves.
pub(super) const TIMES: [Counter; 3] = [Counter::Handled, Counter::HandleSum, Counter::HandleSquares];

/// The counters of one cohort; one that is not known is not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    values: [f64; COUNTERS],
    known: u16,
}

impl Tally {
    /// With one counter more. What no count can be (negative, not a number) stays unknown.
    #[must_use]
    pub fn with(mut self, counter: Counter, value: f64) -> Tally {
        if (0.0..=1e15).contains(&value) {
            self.values[counter as usize] = value;
            self.known |= 1 << counter as u16;
        }
        self
    }

    /// A counter, if it is known.
    pub fn get(&self, counter: Counter) -> Option<f64> {
        self.knows(counter).then(|| self.sum(counter))
    }

    pub(super) fn knows(&self, counter: Counter) -> bool {
        self.known & (1 << counter as u16) != 0
    }

    /// What is known of it, in a sum.
    pub(super) fn sum(&self, counter: Counter) -> f64 {
        self.values[counter as usize]
    }

    pub(super) fn add(&mut self, other: &Tally) {
        for (mine, theirs) in self.values.iter_mut().zip(other.values) {
            *mine += theirs;
        }
        self.known |= other.known;
    }

    /// What a restated minute adds, possibly less than nothing. A count that was missing at first stays missing: the calls it belongs to
    /// have been judged without it. Times are taken whole.
    pub(super) fn since(&self, earlier: &Tally) -> Tally {
        let mut out = *self;
        for i in 0..COUNTERS {
            if earlier.known & self.known & (1 << i) != 0 {
                out.values[i] -= earlier.values[i];
            } else if !TIMES.iter().any(|t| *t as usize == i) {
                out.values[i] = 0.0;
            }
        }
        out
    }
}

/// One minute of both cohorts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Minute of the rollout, counted from its beginning.
    pub start: i64,
    /// Reports of the same minute are numbered; a higher one replaces a lower one.
    pub revision: u32,
    /// Percent of new calls that was configured for the canary then.
    pub weight: f64,
    /// Callers who kept what they had.
    pub stable: Tally,
    /// Callers who got the change.
    pub canary: Tally,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Figure {
    /// `bad / of`, up is bad.
    Rate {
        /// Bad calls.
        bad: Counter,
        /// Calls.
        of: Counter,
    },
    /// `1 - good / of`: for rates whose fall is bad.
    Shortfall {
        /// Good calls.
        good: Counter,
        /// Calls.
        of: Counter,
    },
    /// `sum / of`, up is bad; tolerance and margin are relative.
    Mean {
        /// Sum.
        sum: Counter,
        /// Sum of squares.
        squares: Counter,
        /// Calls.
        of: Counter,
    },
}

impl Figure {
    /// Bad calls and calls of a rate.
    pub(super) fn rate(self, tally: &Tally) -> Option<(f64, f64)> {
        match self {
            Figure::Rate { bad, of } => Some((tally.sum(bad), tally.sum(of))),
            Figure::Shortfall { good, of } => Some((tally.sum(of) - tally.sum(good), tally.sum(of))),
            Figure::Mean { .. } => None,
        }
    }

    /// The counters without which it cannot be told.
    pub(super) fn needs(self) -> [Counter; 2] {
        match self {
            Figure::Rate { bad, of } => [bad, of],
            Figure::Shortfall { good, of } => [good, of],
            Figure::Mean { sum, of, .. } => [sum, of],
        }
    }
}

/// Which evidence a rate gets; means have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// For common outcomes: needs no guess of the base rate.
    Conditional,
    /// For rare outcomes: works where stable has no bad call at all.
    Additive,
}

/// A metric and what of it is acceptable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// As in messages: `error`, `abandon`, …
    pub name: String,
    /// What is compared.
    pub figure: Figure,
    /// Which evidence.
    pub factor: Factor,
    /// A regression up to this must not roll back.
    pub tolerance: f64,
    /// A regression of this size must not reach 100 %.
    pub margin: f64,
    /// Prior on "this is what breaks", relative to the other metrics'.
    pub weight: f64,
    /// Effects that are guessed, as multiples of `margin - tolerance` above the tolerance.
    pub effects: [f64; 3],
    /// Stable's figure from history. It costs or saves power, never validity.
    pub hint: f64,
    /// Where it is missing: a required one holds the rollout, an optional one counts for neither side.
    pub required: bool,
}

impl Metric {
    /// Calls that end by an error of the flow: the commonest gross fault, and rare in health.
    pub fn error() -> Metric {
        let figure = Figure::Rate { bad: Counter::Errors, of: Counter::Calls };
        Metric { factor: Factor::Additive, weight: 0.5, effects: [2.0, 8.0, 20.0], ..Metric::rate("error", figure, 0.005, 0.02, 0.015) }
    }

    /// Callers who hang up inside the flow.
    pub fn abandon() -> Metric {
        let figure = Figure::Rate { bad: Counter::Abandons, of: Counter::Calls };
        Metric { weight: 0.2, ..Metric::rate("abandon", figure, 0.005, 0.02, 0.06) }
    }

    /// Transfers to an agent.
    pub fn transfer() -> Metric {
        let figure = Figure::Rate { bad: Counter::Transfers, of: Counter::Calls };
        Metric { effects: [1.0, 2.0, 5.0], ..Metric::rate("transfer", figure, 0.01, 0.05, 0.22) }
    }

    /// Calls that the flow did not serve by itself.
    pub fn containment() -> Metric {
        let figure = Figure::Shortfall { good: Counter::Contained, of: Counter::Calls };
        Metric { effects: [1.0, 2.0, 5.0], required: false, ..Metric::rate("containment", figure, 0.01, 0.05, 0.3) }
    }

    /// Mean handle time.
    pub fn handle() -> Metric {
        let figure = Figure::Mean { sum: Counter::HandleSum, squares: Counter::HandleSquares, of: Counter::Handled };
        Metric { effects: [1.0, 1.75, 4.0], required: false, ..Metric::rate("handle", figure, 0.05, 0.15, 240.0) }
    }

    /// A rate of the user's own.
    pub fn rate(name: &str, figure: Figure, tolerance: f64, margin: f64, hint: f64) -> Metric {
        let (name, factor, effects) = (name.to_owned(), Factor::Conditional, [1.0, 2.5, 8.0]);
        Metric { name, figure, factor, tolerance, margin, weight: 0.15, effects, hint, required: true }
    }

    /// The metric of that name that PROTOCOL and METHOD define.
    pub fn named(name: &str) -> Option<Metric> {
        [Metric::error(), Metric::abandon(), Metric::transfer(), Metric::handle(), Metric::containment()]
            .into_iter()
            .find(|m| m.name == name)
    }

    pub(super) fn is_mean(&self) -> bool {
        matches!(self.figure, Figure::Mean { .. })
    }

    /// The guessed effects, in the metric's unit.
    pub(super) fn excesses(&self) -> [f64; 3] {
        self.effects.map(|a| self.tolerance + (self.margin - self.tolerance) * a)
    }
}

/// What follows when a step's time is up and the evidence has not cleared it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnCap {
    /// Up to the next weight, where nothing points to harm and the data could not have told more.
    #[default]
    Advance,
    /// A person decides; the weight stays.
    Hold,
    /// Back to stable, without blame.
    Rollback,
}

/// How the judge judges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Percentages on the way, rising, the last is 100.
    pub plan: Vec<f64>,
    /// What is watched.
    pub metrics: Vec<Metric>,
    /// Chance of ever rolling back a canary that is no worse than tolerated.
    pub alpha: f64,
    /// When a step's time is up.
    pub on_cap: OnCap,
    /// Minutes with data that a step takes at least.
    pub min_step: u32,
    /// Minutes with data after which its time is up.
    pub max_step: u32,
    /// Canary calls that a step takes at least.
    pub min_calls: u32,
    /// Both cohorts together; for planning only.
    pub expected_calls_per_hour: f64,
    /// How many callers may be at risk before Serin can react, if the owner says.
    pub exposure: Option<Exposure>,
    /// Minutes between two looks.
    pub look_every: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            plan: vec![5.0, 25.0, 50.0, 100.0],
            metrics: vec![Metric::error(), Metric::abandon(), Metric::transfer(), Metric::handle()],
            alpha: 0.02,
            on_cap: OnCap::Advance,
            min_step: 30,
            max_step: 180,
            min_calls: 20,
            expected_calls_per_hour: 600.0,
            exposure: None,
            look_every: 1,
        }
    }
}

impl Settings {
    /// What does not hold together is refused by name, with what is accepted.
    pub fn check(&self) -> Result<(), String> {
        let rising = self.plan.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || self.plan.len() < 2 || self.plan[0] <= 0.0 || self.plan.last() != Some(&100.0) {
            return Err(format!("plan {:?} is not accepted: two or more rising percentages above 0 that end at 100 are", self.plan));
        }
        if !(self.alpha > 0.0 && self.alpha <= 0.2) {
            return Err(format!("alpha {} is not accepted: a number above 0 and up to 0.2 is", self.alpha));
        }
        if self.look_every == 0 {
            return Err("look_every 0 is not accepted: at least one minute is".to_owned());
        }
        if self.max_step <= self.min_step {
            return Err(format!("max_step {} is not accepted: more than min_step ({}) is", self.max_step, self.min_step));
        }
        if !(0.0..=1e9).contains(&self.expected_calls_per_hour) {
            return Err(format!("expected_calls_per_hour {} is not accepted: 0 to 1e9 is", self.expected_calls_per_hour));
        }
        if self.metrics.is_empty() || self.metrics.len() > 8 {
            return Err(format!("{} metrics are not accepted: 1 to 8 are", self.metrics.len()));
        }
        self.metrics.iter().try_for_each(|m| {
            let most = if m.is_mean() { 2.0 } else { 0.5 };
            if !(m.tolerance > 0.0 && m.tolerance < m.margin && m.margin <= most) {
                let (name, t, d) = (&m.name, m.tolerance, m.margin);
                return Err(format!("{name}: tolerance {t} and margin {d} are not accepted: 0 < tolerance < margin <= {most} are"));
            }
            let positive = |x: f64| x > 0.0 && x.is_finite();
            if !(positive(m.weight) && m.effects.iter().all(|a| positive(*a)) && m.hint >= 0.0 && m.hint.is_finite()) {
                return Err(format!("{}: weight and effects must be above 0, the hint at least 0", m.name));
            }
            Ok(())
        })
    }
}
