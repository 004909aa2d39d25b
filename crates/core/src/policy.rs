//! How careful a rollout is: its steps, its times, the rule that judges it, and what Serin may do about the verdict.

use crate::refusal::{self, Refusal};
use crate::sequential::{self, Exposure, OnCap, Settings};
use crate::weight::Weight;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Whole minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Minutes(pub u32);

impl Minutes {
    /// As a duration.
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_mins(i64::from(self.0))
    }
}

/// How careful a rollout is. Every setting has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Policy {
    /// What Serin may do by itself. Begin with `observe`: it only says what it would do.
    pub mode: Mode,
    /// Percent of calls that the canary gets, step by step: rising, above 0 and below 100, at most two decimals. 100 follows by itself.
    pub steps: Vec<Weight>,
    /// Minutes with data that a step takes at least. At least `errors.windows`.
    pub bake_time: Minutes,
    /// Minutes with data for which 100 % must look healthy before the version is promoted. At least `errors.windows`.
    pub final_bake_time: Minutes,
    /// What compares the canary with stable.
    pub rule: Rule,
    /// What judges at 100 %, where the calls that stable had in the last step stand in for stable. Without it: the same rule.
    pub bake_rule: Option<Rule>,
    /// Calls an hour of both sides together, as usual for the hours of the rollout. Chooses the first weight, and lets `serin plan` tell
    /// what can be seen by when. Without it the steps are taken as they are written.
    pub expected_calls_per_hour: Option<f64>,
    /// What to do where fewer than 40 calls come in an hour, so that only gross faults would show within a day.
    pub low_volume: LowVolume,
    /// Callers who may be harmed before Serin can react: the weight is held down so that never more are expected to be. Needs
    /// `expected_calls_per_hour` and the sequential rule.
    pub exposure_budget: Option<u32>,
    /// The trip-wire over every rule: calls are taken back at once, without waiting for evidence.
    pub catastrophe: Catastrophe,
    /// A limit on errors that runs beside the rules threshold, hysteresis and not-worse, every minute.
    pub errors: ErrorLimit,
    /// Canary calls of a step below which nothing rises.
    pub min_canary_calls: u32,
    /// Minutes that the longest usual call takes (95 of 100 are shorter). Calls are counted when they end, so the first minutes of a step,
    /// with only short calls in them, are left out.
    pub long_call: Minutes,
    /// Minutes for which the counts of a minute may still grow in Genesys Cloud. So long they are not used.
    pub settle: Minutes,
    /// Minutes after which a step that is still undecided is handed to a person. More than `long_call`, `settle` and `bake_time` together.
    pub step_cap: Minutes,
    /// Minutes without any data after which calls go back to stable, without blame.
    pub max_blind: Minutes,
    /// Minutes after which a pause that nobody ends is an abort.
    pub pause_expiry: Minutes,
}

/// The same judge, other consequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Judges live and says what it would do; publishes nothing and writes no weight. A person sets the percentage.
    Observe,
    /// Takes calls away by itself; every rise waits for a person's `serin approve`.
    Advise,
    /// Rises and takes calls away by itself.
    #[default]
    Act,
}

impl Mode {
    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Advise => "advise",
            Mode::Act => "act",
        }
    }
}

/// What to do with fewer than 40 calls an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LowVolume {
    /// The rollout does not start, and says why.
    #[default]
    Refuse,
    /// It starts, and says what it cannot see.
    Accept,
    /// All calls at once, watched, with the way back ready: for hours in which hardly anybody calls.
    OffHoursFull,
}

/// Calls an hour below which only gross faults show within a day.
pub const LOW_VOLUME: f64 = 40.0;

/// What compares the canary with stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Rule {
    /// The default. Collects evidence that may be looked at every minute: a canary within its tolerances is rolled back in fewer than
    /// `alpha` of all rollouts, however long they run.
    Sequential(SequentialRule),
    /// Rolls back where the canary's abandon or transfer rate is more than so many percentage points above stable's. Simple, and noisy: 20
    /// calls are a coin.
    Threshold(Threshold),
    /// Rolls back after two intervals in a row above absolute limits, each with enough calls.
    Hysteresis(Hysteresis),
    /// Rolls back where errors stay above a ratio for some minutes in a row. Weights rise by the clock.
    Consecutive(Consecutive),
    /// Goes on once the canary's abandon rate is not above stable's. Never goes back by itself; `catastrophe` and `errors` do.
    NotWorse(NotWorse),
}

/// The default rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SequentialRule {
    /// Chance of ever rolling back a canary that is no worse than tolerated: above 0, at most 0.2.
    pub alpha: f64,
    /// What happens when a step's time is up and nothing is proven.
    pub on_cap: OnCap,
    /// Minutes with data after which a step's time is up.
    pub max_step: Minutes,
    /// What is compared, 1 to 8 metrics.
    pub metrics: Vec<MetricRule>,
}

/// A metric of the sequential rule; what is left out has the default of its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MetricRule {
    /// What is compared. `error`: calls that end by an error of the flow. `abandon`: callers who hang up inside it. `transfer`: calls that go to an agent.
    /// `containment`: calls that the flow does not serve by itself. `handle`: mean handle time, needs conversation details.
    pub name: String,
    /// A worsening up to this must not roll back. Percentage points; for `handle` percent of stable's mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// A worsening of this size must not reach 100 %. Percentage points, above the tolerance, at most 50; for `handle` percent of stable's
    /// mean, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Whether the rollout waits where this cannot be measured. Default: yes for `error`, `abandon` and `transfer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
}

impl MetricRule {
    fn named(name: &str) -> MetricRule {
        MetricRule { name: name.to_owned(), tolerance: None, margin: None, required: None }
    }

    fn metric(&self) -> Result<sequential::Metric, String> {
        let metric = sequential::Metric::named(&self.name)
            .ok_or_else(|| format!("metric `{}` is not accepted: error, abandon, transfer, handle and containment are", self.name))?;
        Ok(sequential::Metric {
            tolerance: self.tolerance.map_or(metric.tolerance, |t| t / 100.0),
            margin: self.margin.map_or(metric.margin, |d| d / 100.0),
            required: self.required.unwrap_or(metric.required),
            ..metric
        })
    }
}

impl Default for SequentialRule {
    fn default() -> Self {
        SequentialRule {
            alpha: 0.02,
            on_cap: OnCap::Advance,
            max_step: Minutes(180),
            // Whoever wants handle time judged asks for it: few calls have one, so a healthy rollout would wait twice as long for it.
            metrics: ["error", "abandon", "transfer"].map(MetricRule::named).into(),
        }
    }
}

/// A look on a grid from the start of the step; a canary above stable by more than the points breaches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Threshold {
    /// Percentage points that the canary's abandon rate may lie above stable's.
    pub abandon_points: f64,
    /// Percentage points that the canary's transfer rate may lie above stable's.
    pub transfer_points: f64,
    /// Minutes between two looks.
    pub evaluate_every: Minutes,
    /// Minutes that a look reaches back, at most to the start of the step. At least `evaluate_every`.
    pub lookback: Minutes,
    /// Looks in a row that must be above. Two forgive a single unlucky quarter of an hour.
    pub breach_limit: u32,
}

impl Default for Threshold {
    fn default() -> Self {
        Threshold { abandon_points: 2.0, transfer_points: 5.0, evaluate_every: Minutes(15), lookback: Minutes(60), breach_limit: 1 }
    }
}

/// Absolute limits in intervals that hold enough canary calls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Hysteresis {
    /// Percent of canary calls that may end by an error of the flow.
    pub error_percent: f64,
    /// Percentage points that the canary's abandon rate may lie above stable's.
    pub abandon_points: f64,
    /// Minutes of an interval.
    pub interval: Minutes,
    /// Intervals in a row that must be above.
    pub intervals: u32,
    /// Canary calls below which an interval is ignored.
    pub min_calls: u32,
}

impl Default for Hysteresis {
    fn default() -> Self {
        Hysteresis { error_percent: 5.0, abandon_points: 5.0, interval: Minutes(5), intervals: 2, min_calls: 10 }
    }
}

/// Minutes in a row above a ratio of errors. A minute without a canary call is ignored: it is no good news and no bad news.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Consecutive {
    /// Percent of canary calls that may end by an error of the flow.
    pub percent: f64,
    /// Minutes in a row that must be above.
    pub minutes: u32,
}

impl Default for Consecutive {
    fn default() -> Self {
        Consecutive { percent: 5.0, minutes: 3 }
    }
}

/// The canary's abandon rate is at most stable's, over the whole step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NotWorse {}

impl Rule {
    /// The word in files and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Rule::Sequential(_) => "sequential",
            Rule::Threshold(_) => "threshold",
            Rule::Hysteresis(_) => "hysteresis",
            Rule::Consecutive(_) => "consecutive",
            Rule::NotWorse(_) => "not-worse",
        }
    }

    /// The rule of that name as it comes.
    pub fn named(name: &str) -> Option<Rule> {
        serde_json::from_value(serde_json::json!({ "kind": name })).ok()
    }
}

/// Errors or hang-ups that no healthy flow has, whatever the rule says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Catastrophe {
    /// Percent of the latest canary calls that must fail.
    pub percent: f64,
    /// How many of the latest canary calls are looked at.
    pub calls: u32,
}

impl Default for Catastrophe {
    fn default() -> Self {
        // Ten failures in twenty calls: where one call in ten fails in health, this comes once in fifty thousand looks.
        Catastrophe { percent: 50.0, calls: 20 }
    }
}

/// Errors of the canary above `percent` in `windows` windows in a row, each of the fewest whole minutes that hold
/// `min_calls` canary calls: a ratio, never a count, so that one failed call at night is no alarm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ErrorLimit {
    /// Percent of canary calls that may end by an error of the flow.
    pub percent: f64,
    /// Windows in a row that must be above.
    pub windows: u32,
    /// Canary calls a window must hold.
    pub min_calls: u32,
}

impl Default for ErrorLimit {
    fn default() -> Self {
        ErrorLimit { percent: 5.0, windows: 3, min_calls: 10 }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let percent = |p: u16| Weight::from_basis_points(p * 100).expect("the default steps are percentages");
        Policy {
            mode: Mode::Act,
            steps: vec![percent(5), percent(25), percent(50)],
            bake_time: Minutes(30),
            final_bake_time: Minutes(30),
            rule: Rule::Sequential(SequentialRule::default()),
            bake_rule: None,
            expected_calls_per_hour: None,
            low_volume: LowVolume::Refuse,
            exposure_budget: None,
            catastrophe: Catastrophe::default(),
            errors: ErrorLimit::default(),
            min_canary_calls: 20,
            long_call: Minutes(5),
            settle: Minutes(2),
            // A quiet queue needs most of a working day for a step.
            step_cap: Minutes(24 * 60),
            max_blind: Minutes(60),
            pause_expiry: Minutes(24 * 60),
        }
    }
}

/// Minutes between two ticks, and the time a decision takes to reach the callers (the cache of the caller's question included).
const TICK: u32 = 1;

impl Policy {
    /// The rule that judges at a weight.
    pub fn rule_at(&self, weight: Weight) -> &Rule {
        match &self.bake_rule {
            Some(rule) if weight == Weight::FULL => rule,
            _ => &self.rule,
        }
    }

    /// Percentages on the way to 100 %, rising: the steps, and what the volume and the exposure budget put before or in place of
    /// them. Empty where all calls go at once.
    pub fn weights(&self) -> Vec<Weight> {
        if self.low_volume == LowVolume::OffHoursFull {
            return Vec::new();
        }
        let ladder = self.settings().and_then(|settings| settings.ladder()).expect("a policy is checked when it is read");
        // The smaller first weight is left by evidence, which only the sequential rule has.
        let skipped = usize::from(ladder.probe.is_some() && !matches!(self.rule, Rule::Sequential(_)));
        let weights = ladder.weights.into_iter().skip(skipped).filter(|w| *w < 100.0);
        weights.map(|w| Weight::try_from(w).expect("a weight of the ladder has at most two decimals")).collect()
    }

    /// The step above `weight`, `None` where 100 % is next.
    pub fn step_after(&self, weight: Weight) -> Option<Weight> {
        self.weights().into_iter().find(|step| *step > weight)
    }

    /// What the sequential judge is told; for other rules, what the weights are planned with.
    pub fn settings(&self) -> Result<Settings, String> {
        self.settings_of(&self.rule)
    }

    /// The same for one of its rules.
    pub fn settings_of(&self, rule: &Rule) -> Result<Settings, String> {
        let default;
        let rule = match rule {
            Rule::Sequential(rule) => rule,
            _ => {
                default = SequentialRule::default();
                &default
            }
        };
        let first = self.steps.first().map_or(1.0, |w| w.percent());
        let steps = self.steps.iter().map(|w| w.percent());
        // Where nobody says how many calls come: a hair more than the fewest for which the steps are taken as written.
        let volume = self.expected_calls_per_hour.unwrap_or(2_000.0 / first * (1.0 + 1e-9));
        let reaction = f64::from(TICK + self.settle.0 + self.long_call.0);
        Ok(Settings {
            plan: steps.chain([100.0]).collect(),
            metrics: rule.metrics.iter().map(MetricRule::metric).collect::<Result<_, _>>()?,
            alpha: rule.alpha,
            on_cap: rule.on_cap,
            min_step: self.bake_time.0,
            max_step: rule.max_step.0.max(self.bake_time.0 + 1),
            min_calls: self.min_canary_calls,
            expected_calls_per_hour: volume,
            exposure: self.exposure_budget.map(|n| Exposure { callers: f64::from(n), reaction_minutes: reaction }),
            look_every: TICK,
        })
    }

    /// Which of its rules do not get by with these metrics: where it stands, and the first other metric it needs.
    pub(crate) fn needs_besides(&self, known: &[&str]) -> Vec<(String, String)> {
        let mut besides = Vec::new();
        for (at, rule) in [("rule", Some(&self.rule)), ("bake_rule", self.bake_rule.as_ref())] {
            let Some(rule) = rule else { continue };
            let needed: Vec<&str> = match rule {
                Rule::Sequential(rule) => rule.metrics.iter().map(|m| m.name.as_str()).collect(),
                Rule::Threshold(_) => vec!["abandon", "transfer"],
                Rule::Hysteresis(_) => vec!["error", "abandon"],
                Rule::Consecutive(_) => vec!["error"],
                Rule::NotWorse(_) => vec!["abandon"],
            };
            let metric = needed.into_iter().find(|metric| !known.contains(metric));
            besides.extend(metric.map(|metric| (at.to_owned(), metric.to_owned())));
        }
        besides
    }

    /// Why a rollout with this policy should not start as it is, with the ways out.
    pub fn refusal(&self) -> Option<String> {
        if self.low_volume == LowVolume::OffHoursFull && self.exposure_budget.is_some() {
            return Some("an exposure_budget cannot be kept where all calls go at once (off-hours-full); leave one of them out".to_owned());
        }
        let volume = self.expected_calls_per_hour.filter(|v| *v < LOW_VOLUME)?;
        (self.low_volume == LowVolume::Refuse && self.mode != Mode::Observe).then(|| {
            format!(
                "{volume} calls an hour are too few to compare two flows: within a day only gross faults would show (`serin plan` has \
                 the table). Start with --accept-low-power to go on knowing that, or with --off-hours-full to send all calls at once, \
                 watched, in hours in which hardly anybody calls"
            )
        })
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let policy = Policy::deserialize(deserializer)?; // as derived: types, defaults, unknown fields
        refusal::first(policy.refusals()).map_err(serde::de::Error::custom)?;
        Ok(policy)
    }
}

impl Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Policy::serialize(self, serializer)
    }
}

/// A month bounds every sum of minutes that is taken below and on the clock.
const MOST: u32 = 43_200;

/// Collects what is not accepted, all of it: nobody wants to hear of the next thing only after the first is mended.
#[derive(Default)]
struct Refused(Vec<Refusal>);

impl Refused {
    fn add(&mut self, at: &str, why: String) {
        self.0.push(Refusal::new(at, why));
    }

    fn unless_minutes(&mut self, at: &str, Minutes(value): Minutes, least: u32) {
        if !(least..=MOST).contains(&value) {
            self.add(at, format!("{value} is not accepted: whole minutes from {least} to {MOST} (30 days) are"));
        }
    }

    fn unless_count(&mut self, at: &str, value: u32) {
        if !(1..=MOST).contains(&value) {
            self.add(at, format!("{value} is not accepted: a whole number from 1 to {MOST} is"));
        }
    }

    fn unless_points(&mut self, at: &str, value: f64) {
        // Also refuses what is no number.
        if !(value > 0.0 && value <= 100.0) {
            self.add(at, format!("{value} is not accepted: a number above 0 and up to 100 is"));
        }
    }
}

impl Policy {
    /// Everything that does not hold together, with what is accepted.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut refused = Refused::default();
        if self.steps.is_empty() {
            refused.add("steps", format!("[] is not accepted: {STEPS}"));
        }
        for (at, step) in self.steps.iter().enumerate() {
            let before = at.checked_sub(1).map(|before| self.steps[before]);
            match before {
                _ if *step == Weight::ZERO || *step == Weight::FULL => {
                    refused.add(&format!("steps[{at}]"), format!("{step} is not accepted: {STEPS}"));
                }
                Some(before) if *step <= before => {
                    refused.add(&format!("steps[{at}]"), format!("{step} is not accepted after {before}: {STEPS}"));
                }
                _ => {}
            }
        }
        refused.unless_minutes("bake_time", self.bake_time, 1);
        refused.unless_minutes("final_bake_time", self.final_bake_time, 1);
        refused.unless_count("min_canary_calls", self.min_canary_calls);
        refused.unless_points("catastrophe.percent", self.catastrophe.percent);
        refused.unless_count("catastrophe.calls", self.catastrophe.calls);
        refused.unless_points("errors.percent", self.errors.percent);
        refused.unless_count("errors.windows", self.errors.windows);
        refused.unless_count("errors.min_calls", self.errors.min_calls);
        refused.unless_minutes("max_blind", self.max_blind, 1);
        refused.unless_minutes("pause_expiry", self.pause_expiry, 1);
        refused.unless_minutes("long_call", self.long_call, 0);
        refused.unless_minutes("settle", self.settle, 0);
        refused.unless_minutes("step_cap", self.step_cap, 0);
        if let Some(volume) = self.expected_calls_per_hour
            && !(0.0..=1e7).contains(&volume)
        {
            refused.add("expected_calls_per_hour", format!("{volume} is not accepted: a number from 0 to 10000000 is"));
        }
        self.refuse_budget(&mut refused);
        self.rule.refuse("rule", &mut refused);
        if let Some(rule) = &self.bake_rule {
            rule.refuse("bake_rule", &mut refused);
        }
        if refused.0.is_empty() {
            self.refuse_sums(&mut refused);
        }
        refused.0
    }

    fn refuse_budget(&self, refused: &mut Refused) {
        let Some(budget) = self.exposure_budget else { return };
        refused.unless_count("exposure_budget", budget);
        if self.expected_calls_per_hour.is_none() {
            refused.add(
                "exposure_budget",
                "is not accepted without expected_calls_per_hour: the weight is reckoned from both; say how many calls come".to_owned(),
            );
        }
        if !matches!(self.rule, Rule::Sequential(_)) {
            let rule = self.rule.name();
            refused.add(
                "exposure_budget",
                format!("is not accepted with rule {rule}: only sequential proves what is not harmed; leave it out, or use that rule"),
            );
        }
    }

    /// What only shows when every field for itself is accepted.
    fn refuse_sums(&self, refused: &mut Refused) {
        // Shorter, and a step could end before a rule had its windows.
        for (at, value) in [("bake_time", self.bake_time.0), ("final_bake_time", self.final_bake_time.0)] {
            if value < self.errors.windows {
                refused.add(at, format!("{value} is not accepted: at least errors.windows ({}) minutes are", self.errors.windows));
            }
        }
        let rules = [("rule", Some(&self.rule)), ("bake_rule", self.bake_rule.as_ref())];
        let rules: Vec<(&str, &Rule)> = rules.into_iter().filter_map(|(at, rule)| Some((at, rule?))).collect();
        let longest_look = rules.iter().map(|(_, rule)| rule.longest_look()).max().unwrap_or(0);
        let least = self.long_call.0 + self.settle.0 + longest_look.max(self.bake_time.0);
        if self.step_cap.0 <= least {
            refused.add(
                "step_cap",
                format!(
                    "{} is not accepted: a step needs more than {least} minutes (long_call + settle + bake_time, or the looks that fail it)",
                    self.step_cap.0
                ),
            );
        }
        for (at, rule) in rules {
            if let Err(why) = self.settings_of(rule).and_then(|settings| settings.check()) {
                refused.add(at, format!("is not accepted: {why}"));
            }
        }
        if refused.0.is_empty()
            && let Err(why) = self.settings().and_then(|settings| settings.ladder())
        {
            refused.add("exposure_budget", why.strip_prefix("exposure_budget ").unwrap_or(&why).to_owned());
        }
    }
}

/// What the steps are.
const STEPS: &str = "rising percentages above 0 and below 100 are, such as [5, 25, 50] (100 follows by itself)";

impl Rule {
    fn refuse(&self, at: &str, refused: &mut Refused) {
        let field = |name: &str| format!("{at}.{name}");
        match self {
            Rule::Sequential(rule) => {
                if !(rule.alpha > 0.0 && rule.alpha <= 0.2) {
                    refused.add(&field("alpha"), format!("{} is not accepted: a number above 0 and up to 0.2 is", rule.alpha));
                }
                refused.unless_minutes(&field("max_step"), rule.max_step, 1);
                if rule.metrics.is_empty() || rule.metrics.len() > 8 {
                    refused.add(&field("metrics"), format!("is not accepted with {} metrics: 1 to 8 are", rule.metrics.len()));
                }
                for (number, metric) in rule.metrics.iter().enumerate() {
                    metric.refuse(&field(&format!("metrics[{number}]")), refused);
                }
            }
            Rule::Threshold(rule) => {
                refused.unless_points(&field("abandon_points"), rule.abandon_points);
                refused.unless_points(&field("transfer_points"), rule.transfer_points);
                refused.unless_minutes(&field("evaluate_every"), rule.evaluate_every, 1);
                refused.unless_count(&field("breach_limit"), rule.breach_limit);
                if rule.lookback < rule.evaluate_every || rule.lookback.0 > MOST {
                    refused.add(
                        &field("lookback"),
                        format!(
                            "{} is not accepted: it must reach back at least evaluate_every ({} minutes), at most {MOST}",
                            rule.lookback.0, rule.evaluate_every.0
                        ),
                    );
                }
            }
            Rule::Hysteresis(rule) => {
                refused.unless_points(&field("error_percent"), rule.error_percent);
                refused.unless_points(&field("abandon_points"), rule.abandon_points);
                refused.unless_minutes(&field("interval"), rule.interval, 1);
                refused.unless_count(&field("intervals"), rule.intervals);
                refused.unless_count(&field("min_calls"), rule.min_calls);
            }
            Rule::Consecutive(rule) => {
                refused.unless_points(&field("percent"), rule.percent);
                refused.unless_count(&field("minutes"), rule.minutes);
            }
            Rule::NotWorse(NotWorse {}) => {}
        }
    }

    /// Minutes that a failing verdict takes at least.
    fn longest_look(&self) -> u32 {
        match self {
            Rule::Sequential(_) | Rule::NotWorse(NotWorse {}) => 0,
            Rule::Threshold(rule) => rule.evaluate_every.0.saturating_mul(rule.breach_limit),
            Rule::Hysteresis(rule) => rule.interval.0.saturating_mul(rule.intervals),
            Rule::Consecutive(rule) => rule.minutes,
        }
    }
}

impl MetricRule {
    fn refuse(&self, at: &str, refused: &mut Refused) {
        let Ok(metric) = self.metric() else {
            let why = format!("`{}` is not accepted: error, abandon, transfer, handle or containment is", self.name);
            return refused.add(&format!("{at}.name"), why);
        };
        // In points, as they are written.
        let hundredfold = |share: f64| (share * 1e6).round() / 1e4;
        let (tolerance, margin) = (hundredfold(metric.tolerance), hundredfold(metric.margin));
        let most = if matches!(metric.figure, sequential::Figure::Mean { .. }) { 200.0 } else { 50.0 };
        if !(tolerance > 0.0 && tolerance < most) {
            let why = format!("{tolerance} is not accepted: a number above 0 and below the margin ({margin}) is");
            refused.add(&format!("{at}.tolerance"), why);
        } else if !(margin > tolerance && margin <= most) {
            let given = if self.margin.is_some() { "margin" } else { "tolerance" };
            let why = match given {
                "margin" => format!("{margin} is not accepted: a number above the tolerance ({tolerance}) and up to {most} is"),
                _ => {
                    format!("{tolerance} is not accepted: a number above 0 and below the margin ({margin}) is; set both, or a smaller one")
                }
            };
            refused.add(&format!("{at}.{given}"), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Policy, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    fn weights(json: &str) -> Vec<f64> {
        read(json).unwrap().weights().iter().map(|w| w.percent()).collect()
    }

    #[test]
    fn an_empty_policy_is_the_default_one() {
        assert_eq!(read("{}").unwrap(), Policy::default());
        assert_eq!(weights("{}"), [5.0, 25.0, 50.0]);
    }

    #[test]
    fn every_rule_is_read_by_its_name_and_survives_storage() {
        for kind in ["sequential", "threshold", "hysteresis", "consecutive", "not-worse"] {
            let policy = read(&format!(r#"{{"rule":{{"kind":"{kind}"}},"bake_rule":{{"kind":"threshold"}}}}"#)).unwrap();
            assert_eq!(policy.rule.name(), kind);
            assert_eq!(Rule::named(kind), Some(policy.rule.clone()));
            assert_eq!(read(&serde_json::to_string(&policy).unwrap()).unwrap(), policy);
        }
    }

    #[test]
    fn the_volume_and_the_budget_choose_the_weights() {
        assert_eq!(weights(r#"{"expected_calls_per_hour":3000}"#), [5.0, 25.0, 50.0]);
        assert_eq!(weights(r#"{"expected_calls_per_hour":100}"#), [10.0, 20.0, 50.0]);
        assert_eq!(weights(r#"{"expected_calls_per_hour":20000}"#), [1.4, 5.0, 25.0, 50.0]);
        let threshold = r#"{"expected_calls_per_hour":20000,"rule":{"kind":"threshold"}}"#;
        assert_eq!(weights(threshold), [5.0, 25.0, 50.0], "a probe needs evidence to be left");
        // 3000 an hour, 8 minutes until Serin has reacted: 4 callers a percent.
        assert_eq!(weights(r#"{"expected_calls_per_hour":3000,"exposure_budget":20}"#), [5.0, 16.6]);
        assert_eq!(weights(r#"{"expected_calls_per_hour":10,"low_volume":"off-hours-full"}"#), [0.0; 0]);
    }

    #[test]
    fn too_few_calls_are_refused_with_the_ways_out_unless_the_owner_takes_one() {
        let refused = read(r#"{"expected_calls_per_hour":10}"#).unwrap().refusal().unwrap();
        assert!(
            refused.contains("--accept-low-power") && refused.contains("--off-hours-full") && refused.contains("10 calls"),
            "{refused}"
        );
        for accepted in [
            r#"{"expected_calls_per_hour":10,"low_volume":"accept"}"#,
            r#"{"expected_calls_per_hour":10,"low_volume":"off-hours-full"}"#,
            r#"{"expected_calls_per_hour":10,"mode":"observe"}"#,
            r#"{"expected_calls_per_hour":40}"#,
            "{}",
        ] {
            assert_eq!(read(accepted).unwrap().refusal(), None, "{accepted}");
        }
    }

    #[test]
    fn every_refusal_names_the_value_and_what_is_accepted() {
        let cases = [
            (r#"{"steps":[]}"#, "rising percentages"),
            (r#"{"steps":[25,5]}"#, "steps[1] 5 is not accepted after 25"),
            (r#"{"steps":[5,100]}"#, "below 100"),
            (r#"{"steps":[101]}"#, "weight `101`"),
            (r#"{"step":[5]}"#, "unknown field `step`"),
            (r#"{"mode":"watch"}"#, "`watch`"),
            (r#"{"bake_time":0}"#, "bake_time 0"),
            (r#"{"rule":{"kind":"threshold","breach_limit":0}}"#, "breach_limit 0"),
            (r#"{"errors":{"percent":0}}"#, "errors.percent 0"),
            (r#"{"catastrophe":{"calls":0}}"#, "catastrophe.calls 0"),
            (r#"{"rule":{"kind":"threshold","abandon_points":-1}}"#, "abandon_points -1"),
            (r#"{"rule":{"kind":"coin"}}"#, "`coin`"),
            (r#"{"rule":{"kind":"threshold","lookback":10}}"#, "lookback 10"),
            (r#"{"rule":{"kind":"hysteresis","intervals":0}}"#, "intervals 0"),
            (r#"{"rule":{"kind":"consecutive","percent":101}}"#, "percent 101"),
            (r#"{"rule":{"kind":"not-worse","points":1}}"#, "`points`"),
            (r#"{"rule":{"kind":"sequential","alpha":0}}"#, "alpha 0"),
            (r#"{"rule":{"kind":"sequential","metrics":[{"name":"mood"}]}}"#, "`mood`"),
            (r#"{"rule":{"kind":"sequential","metrics":[{"name":"error","margin":0.1}]}}"#, "rule.metrics[0].margin 0.1"),
            (r#"{"rule":{"kind":"sequential","metrics":[]}}"#, "rule.metrics is not accepted with 0 metrics"),
            (r#"{"bake_rule":{"kind":"consecutive","minutes":0}}"#, "minutes 0"),
            (r#"{"step_cap":20}"#, "step_cap 20"),
            (r#"{"bake_time":2}"#, "bake_time 2"),
            (r#"{"exposure_budget":5}"#, "expected_calls_per_hour"),
            (r#"{"exposure_budget":5,"expected_calls_per_hour":3000}"#, "exposure_budget 5"),
            (r#"{"expected_calls_per_hour":-1}"#, "expected_calls_per_hour -1"),
        ];
        for (json, expected) in cases {
            let refused = read(json).unwrap_err();
            assert!(refused.contains(expected), "{json}: {refused}");
        }
    }
}
