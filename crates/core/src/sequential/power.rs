//! What a rollout can see, and by when, before anything starts.
//!
//! A true difference makes the evidence grow by a known amount per call; what a decision needs, over that, is the expected number of
//! calls. These are means over many rollouts at the expected volume, with a fault that is there from the first call: a fault that
//! begins later costs about 4 nats more, and calls that come in bursts cost what the overdispersion says.

use super::ladder::{CLEARANCE, stage};
use super::settings::{Metric, OnCap, Settings};

/// A regression whose detection time is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    /// The metric's name.
    pub metric: String,
    /// Stable's figure: a rate between 0 and 1; for a mean 0, as `to` is relative to it.
    pub from: f64,
    /// The canary's: a rate between 0 and 1; for a mean the relative excess, 0.3 for 30 % longer.
    pub to: f64,
}

/// When a regression is expected to be rolled back at a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// What is wrong with the canary.
    pub regression: Regression,
    /// Canary calls that no test can do without, on average, if it is to be wrong in 1 of 100 rollouts. Finite.
    pub bound_calls: f64,
    /// Canary calls that this judge is expected to need. Finite.
    pub canary_calls: f64,
    /// Hours at the expected calls an hour, at least one look. `None` where no calls are expected.
    pub hours: Option<f64>,
    /// Callers who will have met the fault by then: of a rate, those the stable flow would have served well; of a mean, all of the
    /// canary's. Finite.
    pub harmed_calls: f64,
}

/// When a step is expected to be cleared if the canary equals stable.
#[derive(Debug, Clone, PartialEq)]
pub struct Clearance {
    /// Percent.
    pub weight: f64,
    /// The metric that takes longest.
    pub metric: String,
    /// The excess over stable that will have been excluded: 0.12 is 12 points of a rate, or a mean 12 % longer.
    pub margin: f64,
    /// Canary calls, at least those that every step needs. Finite.
    pub canary_calls: f64,
    /// Hours at the expected calls an hour, at least the step's minimum. `None` where no calls are expected.
    pub hours: Option<f64>,
}

/// One weight on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Percent.
    pub weight: f64,
    /// One for each regression asked for. Left out are those that are never rolled back: within the tolerance, or not watched.
    pub detections: Vec<Detection>,
    /// What leaves the step, counted from its first call. What earlier steps have excluded already makes it shorter.
    pub clearance: Clearance,
    /// Hours that a canary equal to stable stays: until it is cleared, or until its time is up where that lets it pass. `None` where it
    /// never passes: no calls are expected, or its time is up first and that rolls back.
    pub hours: Option<f64>,
}

/// What a rollout can see, and by when.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// The plan's weights below 100.
    pub steps: Vec<Step>,
    /// Hours until a canary equal to stable takes all calls, nearer to the median than to the mean: below some 100 calls an hour chance
    /// makes one rollout in ten wait days, because a bad-looking estimate holds also when the time is up. A probe counts as a full
    /// step. `None` where it never takes them.
    pub hours_to_full: Option<f64>,
    /// Where there are too few calls: what a day shows and what it does not, in one sentence.
    pub low_power: Option<String>,
}

/// The chance of a wrong rollback for which the bound is stated, so that judges of another `alpha` compare.
const BOUND_ALPHA: f64 = 0.01;
/// Prior mass on a fault that is there from the first block.
const FROM_THE_START: f64 = 0.6;

/// Of a mean: squared coefficient of variation, calls of the smaller cohort in a block, and the most that is bet on harm and on health.
const CV2: f64 = 1.25;
const BLOCK_OF_TIMES: f64 = 30.0;
const MOST_ON_HARM: f64 = 0.6;
const MOST_ON_HEALTH: f64 = 0.8;

/// Rates are kept below 1, as the judge does it.
const MOST_BASE: f64 = 0.97;
const MOST_RATE: f64 = 0.985;
/// Nats a call below which rounding is all there is.
const LEAST_GROWTH: f64 = 1e-15;

/// Rises of the errors, the gross one is what every rollout should see within a day; and those of the other usual metrics.
const GROSS: f64 = 0.135;
const ERRORS: [f64; 3] = [0.385, GROSS, 0.035];
const ABANDONS: [f64; 3] = [0.1, 0.05, 0.02];
const TRANSFERS: [f64; 2] = [0.08, 0.05];
const HOURS_OF_A_DAY: f64 = 24.0;
/// Calls an hour below which only gross faults can show within a day.
const FEW_CALLS: f64 = 40.0;

/// What settings that hold together can see on their plan.
pub fn outlook(settings: &Settings, regressions: &[Regression]) -> Outlook {
    let pairs = settings.plan.windows(2).filter(|pair| pair[0] < 100.0);
    let steps: Vec<Step> = pairs.map(|pair| step(settings, pair[0], pair[1], regressions)).collect();
    let hours_to_full = steps.iter().map(|step| step.hours).sum();
    let low_power = steps.first().and_then(|step| low_power(settings, step.weight));
    Outlook { steps, hours_to_full, low_power }
}

/// What usually breaks, from each metric's hint, the largest first. Of metrics that are not the usual ones: the margin, and 2.5 times it.
pub fn usual_regressions(settings: &Settings) -> Vec<Regression> {
    let of = |metric: &Metric| {
        let own = [2.5 * metric.margin, metric.margin];
        let excesses: &[f64] = match metric.name.as_str() {
            "error" => &ERRORS,
            "abandon" => &ABANDONS,
            "transfer" => &TRANSFERS,
            _ => &own,
        };
        excesses.iter().filter_map(|excess| rise(metric, *excess)).collect::<Vec<_>>()
    };
    settings.metrics.iter().flat_map(of).collect()
}

/// A regression from the hint, if it is one that rolls back.
fn rise(metric: &Metric, excess: f64) -> Option<Regression> {
    let from = if metric.is_mean() { 0.0 } else { metric.hint.min(MOST_BASE) };
    let to = if metric.is_mean() { excess } else { (from + excess).min(MOST_RATE) };
    (to - from > metric.tolerance).then(|| Regression { metric: metric.name.clone(), from, to })
}

fn step(settings: &Settings, weight: f64, next: f64, regressions: &[Regression]) -> Step {
    let detections = regressions.iter().filter_map(|r| detection(settings, weight, r)).collect();
    let clearance = clearance(settings, weight, next);
    let hours = stay(settings, &clearance);
    Step { weight, detections, clearance, hours }
}

fn detection(settings: &Settings, weight: f64, regression: &Regression) -> Option<Detection> {
    let metric = settings.metrics.iter().find(|m| m.name == regression.metric)?;
    let (share, tolerance, (from, to)) = (weight / 100.0, metric.tolerance, (regression.from.max(0.0), regression.to));
    if !(to - from > tolerance && to.is_finite() && (metric.is_mean() || to <= 1.0)) {
        return None;
    }
    let (growth, most) = if metric.is_mean() {
        let excess = to - from - tolerance;
        // At best stable's mean is known.
        (growth_of_mean(excess, tolerance, share, MOST_ON_HARM), excess * excess / (2.0 * CV2))
    } else {
        (growth_of_rates(to, from, tolerance, share), divergence(to, from + tolerance))
    };
    let calls = nats(settings, metric) / growth;
    let canary_calls = share * calls;
    let a_look = f64::from(settings.look_every) / 60.0;
    // Nobody reacts before the first look, however many calls it will have seen.
    let met = canary_calls.max(share * settings.expected_calls_per_hour * a_look);
    Some(Detection {
        regression: regression.clone(),
        bound_calls: (1.0 / BOUND_ALPHA).ln() / most.max(LEAST_GROWTH),
        canary_calls,
        hours: hours(settings, calls).map(|h| h.max(a_look)),
        harmed_calls: met * if metric.is_mean() { 1.0 } else { to - from },
    })
}

/// Evidence of one metric that rolls back by itself: the threshold, and the price of not knowing which metric, effect and start.
fn nats(settings: &Settings, metric: &Metric) -> f64 {
    let all: f64 = settings.metrics.iter().map(|m| m.weight).sum();
    let prior = settings.alpha * metric.weight / all / metric.effects.len() as f64 * FROM_THE_START;
    (1.0 / prior).ln()
}

fn clearance(settings: &Settings, weight: f64, next: f64) -> Clearance {
    let share = weight / 100.0;
    let (multiple, level) = CLEARANCE[stage(weight, next)];
    let of = |metric: &Metric| {
        let base = metric.hint.min(MOST_BASE);
        let margin = multiple * metric.margin;
        let growth = if metric.is_mean() {
            growth_of_mean(margin, margin, share, MOST_ON_HEALTH)
        } else {
            growth_of_rates(base, base, margin.min(MOST_RATE - base), share)
        };
        (metric.name.clone(), margin, f64::ln(1.0 / level) / growth)
    };
    let slowest = settings.metrics.iter().map(of).max_by(|a, b| a.2.total_cmp(&b.2));
    let (metric, margin, calls) = slowest.expect("settings with no metric are refused");
    let calls = calls.max(f64::from(settings.min_calls) / share);
    let hours = hours(settings, calls).map(|h| h.max(f64::from(settings.min_step) / 60.0));
    Clearance { weight, metric, margin, canary_calls: share * calls, hours }
}

fn stay(settings: &Settings, clearance: &Clearance) -> Option<f64> {
    let cleared = clearance.hours?;
    let enough = hours(settings, f64::from(settings.min_calls) / clearance.weight * 100.0)?;
    let time_up = enough.max(f64::from(settings.max_step) / 60.0);
    match settings.on_cap {
        OnCap::Hold => Some(cleared),
        OnCap::Advance => Some(cleared.min(time_up)),
        OnCap::Rollback => (cleared <= time_up).then_some(cleared),
    }
}

/// How long so many calls of both cohorts take.
fn hours(settings: &Settings, calls: f64) -> Option<f64> {
    Some(calls / settings.expected_calls_per_hour).filter(|h| h.is_finite())
}

/// Nats per call of either cohort against `canary = stable + difference`, at the pair on that line which is hardest to tell from the truth.
fn growth_of_rates(canary: f64, stable: f64, difference: f64, share: f64) -> f64 {
    let at = |p: f64| share * divergence(canary, p + difference) + (1.0 - share) * divergence(stable, p);
    let shifted = (canary - difference).max(0.0);
    let (mut low, mut high) = (stable.min(shifted), stable.max(shifted));
    // Convex, so the lower of two points tells which third is without the least.
    for _ in 0..100 {
        let third = (high - low) / 3.0;
        if at(low + third) < at(high - third) { high -= third } else { low += third }
    }
    at(f64::midpoint(low, high)).max(LEAST_GROWTH)
}

/// The Gaussian analogue for a mean: `excess` is the distance from the null `canary = (1 + ratio) stable`, relative to stable's. Every call
/// is taken to have a time.
fn growth_of_mean(excess: f64, ratio: f64, share: f64, most: f64) -> f64 {
    let calls = BLOCK_OF_TIMES / share.min(1.0 - share);
    let z = excess / (CV2 / calls * (1.0 / share + (1.0 + ratio).powi(2) / (1.0 - share))).sqrt();
    let bet = z.min(most);
    ((bet * z - bet * bet / 2.0) / calls).max(LEAST_GROWTH)
}

/// Kullback-Leibler divergence of two coins, nats.
fn divergence(p: f64, q: f64) -> f64 {
    let side = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    side(p, q) + side(1.0 - p, 1.0 - q)
}

fn low_power(settings: &Settings, weight: f64) -> Option<String> {
    let volume = settings.expected_calls_per_hour;
    let usual = usual_regressions(settings);
    let shows = |r: &Regression| detection(settings, weight, r).and_then(|d| d.hours).is_some_and(|h| h <= HOURS_OF_A_DAY);
    let errors = settings.metrics.iter().find(|m| m.name == "error").and_then(|m| rise(m, GROSS));
    let gross = errors.as_ref().or(usual.first());
    if volume >= FEW_CALLS && gross.is_none_or(shows) {
        return None;
    }
    // Of each metric the least that shows, and the most that does not.
    let (mut seen, mut unseen) = (Vec::new(), Vec::new());
    for metric in &settings.metrics {
        let (yes, no): (Vec<_>, Vec<_>) = usual.iter().filter(|r| r.metric == metric.name).partition(|r| shows(r));
        seen.extend(yes.last().map(|r| words(metric, r)));
        unseen.extend(no.first().map(|r| words(metric, r)));
    }
    let list = |words: Vec<String>, none: &str| if words.is_empty() { none.to_owned() } else { words.join(", ") };
    let (seen, unseen) = (list(seen, "nothing of what usually breaks"), list(unseen, "smaller ones"));
    let volume = (10.0 * volume).round() / 10.0;
    Some(format!("at {volume} calls an hour and {weight} % canary, a day on average shows {seen}; it does not show {unseen}"))
}

fn words(metric: &Metric, regression: &Regression) -> String {
    let (name, to) = (&metric.name, (1000.0 * regression.to).round() / 10.0);
    if metric.is_mean() { format!("{name} {to} % longer") } else { format!("{name} at {to} %") }
}
