//! What a rollout could see, and by when, reckoned before anything starts: `serin plan`, and the lines after `serin start`.
//!
//! The figures are the core's ([`serin_core::sequential::power`]); here they are asked for and printed.

use crate::failure::{Code, Failure, Outcome};
use crate::output::Output;
use crate::{file, recording};
use anyhow::anyhow;
use serde_json::{Value, json};
use serin_core::measurement::label;
use serin_core::policy::{LowVolume, Mode, Policy, Rule};
use serin_core::rollout::{Plan, Strategy};
use serin_core::sequential::ladder::Probe;
use serin_core::sequential::power::{Clearance, Detection, Outlook, Regression, Step, outlook, usual_regressions};
use serin_core::sequential::{Figure, Settings, spell};
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rollout file (YAML); without it, the default policy
    file: Option<PathBuf>,
    /// Calls an hour of both cohorts together; takes the place of the file's expected_calls_per_hour
    #[arg(long, value_name = "N")]
    calls_per_hour: Option<f64>,
    /// Chance of ever taking back a canary within its tolerances; takes the place of the file's
    #[arg(long)]
    alpha: Option<f64>,
}

/// Prints the outlook.
pub(crate) fn run(args: &Args, output: Output) -> Outcome {
    let policy = match &args.file {
        Some(file) => reckoned(file::read(file).map_err(Failure::not_accepted)?),
        None => Policy::default(),
    };
    let foreseen = with(policy, args.calls_per_hour, args.alpha).and_then(|policy| foresee(&policy));
    let foreseen = foreseen.map_err(|why| Failure::not_accepted(anyhow!(why)))?;
    output.tell("Plan", &foreseen.json(), || foreseen.table())?;
    Ok(Code::Done)
}

/// The policy as it takes effect: strategies without a split give all calls the change at once.
pub(crate) fn reckoned(plan: Plan) -> Policy {
    match plan.strategy {
        Strategy::TrafficCop | Strategy::InFlow => plan.policy,
        Strategy::Pointer | Strategy::PublishWatch => Policy { low_volume: LowVolume::OffHoursFull, exposure_budget: None, ..plan.policy },
    }
}

/// What an operator may expect of a rollout that was just opened; `None` where nobody said how many calls come.
pub(crate) fn expected(policy: &Policy) -> Option<String> {
    policy.expected_calls_per_hour?;
    let foreseen = foresee(policy).ok()?;
    Some(match policy.mode {
        Mode::Observe => "what to expect: Serin only watches, at the percentage that a person sets".to_owned(),
        Mode::Advise => format!("what to expect: {}; each rise after the first weight waits for `serin approve`", foreseen.way()),
        Mode::Act => format!("what to expect: {}", foreseen.way()),
    })
}

fn with(mut policy: Policy, calls_per_hour: Option<f64>, alpha: Option<f64>) -> Result<Policy, String> {
    for (name, value) in [("expected_calls_per_hour", calls_per_hour), ("alpha", alpha)] {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            return Err(format!("{name} {value} is not accepted: a number is"));
        }
    }
    if calls_per_hour.is_some() {
        policy.expected_calls_per_hour = calls_per_hour;
    }
    if policy.expected_calls_per_hour.is_none() {
        return Err("how many calls come in an hour is not known: say --calls-per-hour N, or expected_calls_per_hour in the file's policy"
            .to_owned());
    }
    match (&mut policy.rule, alpha) {
        (Rule::Sequential(rule), Some(alpha)) => rule.alpha = alpha,
        (other, Some(_)) => return Err(format!("--alpha is not accepted with the rule {}: it is the sequential rule's", other.name())),
        (_, None) => {}
    }
    recording::checked(policy)
}

/// What can be told before the start.
struct Foreseen {
    policy: Policy,
    settings: Settings,
    /// Of the sequential rule; the others tell nothing about what they can see.
    outlook: Option<Outlook>,
    /// Percentages below 100.
    weights: Vec<f64>,
    /// The first of them is left after a few clean calls.
    probes: bool,
    refusal: Option<String>,
}

fn foresee(policy: &Policy) -> Result<Foreseen, String> {
    let mut settings = policy.settings()?;
    // How many calls have a time is not known before. Such a metric counts for neither side here, but keeps its share of alpha.
    let all: f64 = settings.metrics.iter().map(|m| m.weight).sum();
    settings.metrics.retain(|m| !matches!(m.figure, Figure::Mean { .. }));
    let kept: f64 = settings.metrics.iter().map(|m| m.weight).sum();
    settings.alpha *= kept / all;
    let probe = matches!(settings.ladder()?.probe, Some(Probe::HighVolume));
    let weights: Vec<f64> = policy.weights().iter().map(|w| w.percent()).collect();
    settings.plan = weights.iter().copied().chain([100.0]).collect();
    let sees = matches!(policy.rule, Rule::Sequential(_)) && !weights.is_empty() && !settings.metrics.is_empty();
    let outlook = sees.then(|| outlook(&settings, &usual_regressions(&settings)));
    Ok(Foreseen { policy: policy.clone(), probes: probe && outlook.is_some(), settings, outlook, weights, refusal: policy.refusal() })
}

impl Foreseen {
    fn volume(&self) -> f64 {
        self.settings.expected_calls_per_hour
    }

    /// Hours of a step in which calls do not count: too young to be fair, or still being reported.
    fn lost_hours(&self) -> f64 {
        f64::from(self.policy.long_call.0 + self.policy.settle.0) / 60.0
    }

    /// Canary calls and harmed callers until a regression is taken back, those of the young step included.
    fn met(&self, step: &Step, d: &Detection) -> (f64, f64) {
        let unseen = self.volume() * step.weight / 100.0 * self.lost_hours();
        (d.canary_calls + unseen, d.harmed_calls + unseen * (d.regression.to - d.regression.from))
    }

    /// Hours until all calls go to a canary that equals stable.
    fn hours_to_full(&self) -> Option<f64> {
        let steps = self.weights.len() as f64;
        let judged = match &self.outlook {
            Some(outlook) => outlook.hours_to_full?,
            None => steps * f64::from(self.policy.bake_time.0) / 60.0,
        };
        Some(judged + steps * self.lost_hours())
    }

    /// The weights and the time, in a sentence.
    fn way(&self) -> String {
        if self.policy.low_volume == LowVolume::OffHoursFull {
            return format!("all calls at once, then {} at 100 %, watched", time(Some(f64::from(self.policy.final_bake_time.0) / 60.0)));
        }
        let weights: Vec<String> = self.weights.iter().map(|w| format!("{w} %")).chain(["100 %".to_owned()]).collect();
        let least = if self.outlook.is_some() { "after about" } else { "at the earliest after" };
        let reached = match self.hours_to_full() {
            Some(hours) => format!("100 % {least} {}", time(Some(hours))),
            None => "100 % is not reached".to_owned(),
        };
        let bake = time(Some(f64::from(self.policy.final_bake_time.0) / 60.0));
        format!("{}; when all is well, {reached}, and {bake} more there", weights.join(", then "))
    }

    fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{} calls an hour, rule {}{}", self.volume(), self.policy.rule.name(), self.alpha());
        let _ = writeln!(out, "{}", self.way());
        if let Some(low) = self.outlook.as_ref().and_then(|o| o.low_power.as_ref()) {
            let _ = writeln!(out, "LOW POWER: {low}");
        }
        if let Some(refusal) = &self.refusal {
            let _ = writeln!(out, "`serin start` will refuse: {refusal}");
        }
        let Some(outlook) = &self.outlook else {
            let why = match self.weights.is_empty() {
                true => "with all calls at once there is no stable in the same minutes to compare with",
                false => "only the sequential rule knows what it can see; of other rules the steps' times are known, no more",
            };
            let _ = writeln!(out, "\nno table: {why}");
            return out;
        };
        for step in &outlook.steps {
            let _ = write!(out, "\n{}", self.step(step));
        }
        out.push('\n');
        for note in self.notes() {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    fn alpha(&self) -> String {
        match &self.policy.rule {
            Rule::Sequential(rule) => format!(", alpha {}", rule.alpha),
            _ => String::new(),
        }
    }

    fn step(&self, step: &Step) -> String {
        let Clearance { metric, margin, canary_calls, .. } = &step.clearance;
        let mut out = String::new();
        let stays = match step.hours {
            Some(hours) => format!("left after about {}", time(Some(hours + self.lost_hours()))),
            None => "never left".to_owned(),
        };
        let points = (1000.0 * margin).round() / 10.0;
        let _ = writeln!(
            out,
            "at {} % ({} canary calls an hour): {stays} when all is well; {} +{points} points need {} canary calls to be excluded",
            step.weight,
            few(self.volume() * step.weight / 100.0),
            label(metric),
            few(*canary_calls)
        );
        let head =
            ["if the canary has", "taken back after", "canary calls", "callers harmed", "calls no test can do without"].map(str::to_owned);
        let rows = step.detections.iter().map(|d| self.cells(step, d));
        let rows: Vec<[String; 5]> = [head].into_iter().chain(rows).collect();
        let widths = [0, 1, 2, 3, 4].map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        for row in &rows {
            let cells = row.iter().zip(widths).enumerate();
            let cells = cells.map(|(at, (cell, width))| if at < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
            let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  "));
        }
        out
    }

    fn cells(&self, step: &Step, d: &Detection) -> [String; 5] {
        let after = time(d.hours.map(|h| h + self.lost_hours()));
        let (canary_calls, harmed_calls) = self.met(step, d);
        [what(&d.regression), after, few(canary_calls), few(harmed_calls), few(d.bound_calls)]
    }

    fn notes(&self) -> Vec<String> {
        let lost = self.policy.long_call.0 + self.policy.settle.0;
        let mut notes = vec![
            "Means over many rollouts, for a fault that is there from the first call at that weight, against usual figures of stable."
                .to_owned(),
        ];
        if lost > 0 {
            notes.push(format!(
                "Times and calls include the {} of a step in which calls do not count yet (long_call and settle).",
                time(Some(f64::from(lost) / 60.0))
            ));
        }
        let trip = self.policy.catastrophe;
        notes
            .push(format!("Errors in {} % of {} canary calls take the calls back at once, without any of this.", trip.percent, trip.calls));
        if self.probes {
            notes.push(format!(
                "{} % is a probe: when all is well it is left after a few calls, sooner than reckoned here.",
                self.weights[0]
            ));
        }
        notes.push(
            "Handle time is left out of this table: how many calls have one, and how late it is known, shows only in the rollout."
                .to_owned(),
        );
        notes
    }

    fn json(&self) -> Value {
        let lost = self.lost_hours();
        let detection = |s: &Step, d: &Detection| {
            let (canary_calls, harmed_calls) = self.met(s, d);
            json!({
                "metric": d.regression.metric, "from": d.regression.from, "to": d.regression.to, "bound_calls": d.bound_calls,
                "canary_calls": canary_calls, "hours": d.hours.map(|h| h + lost), "harmed_calls": harmed_calls,
            })
        };
        let step = |s: &Step| {
            let c = &s.clearance;
            json!({
                "weight": s.weight,
                "detections": s.detections.iter().map(|d| detection(s, d)).collect::<Vec<_>>(),
                "clearance": {
                    "metric": c.metric, "margin": c.margin, "canary_calls": c.canary_calls, "hours": c.hours.map(|h| h + lost),
                },
                "hours": s.hours.map(|h| h + lost),
            })
        };
        json!({
            "calls_per_hour": self.volume(),
            "rule": self.policy.rule.name(),
            "alpha": match &self.policy.rule { Rule::Sequential(rule) => Some(rule.alpha), _ => None },
            "weights": self.weights,
            "hours_to_full": self.hours_to_full(),
            "final_bake_minutes": self.policy.final_bake_time.0,
            "steps": self.outlook.as_ref().map(|o| o.steps.iter().map(step).collect::<Vec<_>>()),
            "low_power": self.outlook.as_ref().and_then(|o| o.low_power.clone()),
            "start_refuses": self.refusal,
        })
    }
}

fn what(regression: &Regression) -> String {
    let percent = |rate: f64| (1000.0 * rate).round() / 10.0;
    let Regression { metric, from, to } = regression;
    format!("{} {} % instead of {} %", label(metric), percent(*to), percent(*from))
}

/// A number as people say it.
fn few(number: f64) -> String {
    match number {
        n if n < 9.95 => format!("{n:.1}"),
        n if n < 1e9 => format!("{n:.0}"),
        _ => "over 1e9".to_owned(),
    }
}

fn time(hours: Option<f64>) -> String {
    match hours {
        None => "never".to_owned(),
        Some(hours) if hours > 24.0 * 365.0 => "over a year".to_owned(),
        Some(hours) if hours < 2.0 => match (60.0 * hours).round().max(1.0) {
            1.0 => "1 minute".to_owned(),
            minutes => format!("{minutes:.0} minutes"),
        },
        // Whole hours would hide the difference between 2 and 2.9.
        Some(hours) if (2.0..10.0).contains(&hours) => format!("{hours:.1} hours"),
        Some(hours) => spell(60.0 * hours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str, calls_per_hour: Option<f64>, alpha: Option<f64>) -> Result<Foreseen, String> {
        foresee(&with(serde_json::from_str(json).unwrap(), calls_per_hour, alpha)?)
    }

    #[test]
    fn every_weight_below_100_has_its_table_and_its_time() {
        let foreseen = planned("{}", Some(600.0), None).unwrap();
        let (table, json) = (foreseen.table(), foreseen.json());
        for expected in
            ["at 5 % (30 canary", "at 25 %", "at 50 %", "errors 40 % instead of 1.5 %", "abandoned calls 11 %", "transfers 27 %"]
        {
            assert!(table.contains(expected), "{table}\nlacks {expected}");
        }
        assert!(!table.contains("LOW POWER") && !table.contains("refuse") && !table.contains("handle time "), "{table}");
        let steps = json["steps"].as_array().unwrap();
        let sum: f64 = steps.iter().map(|s| s["hours"].as_f64().unwrap()).sum();
        assert!(steps.len() == 3 && (sum - json["hours_to_full"].as_f64().unwrap()).abs() < 1e-9, "{json}");
    }

    #[test]
    fn few_calls_are_said_to_show_little_and_that_the_start_refuses() {
        let table = planned("{}", Some(10.0), None).unwrap().table();
        assert!(table.contains("LOW POWER: at 10 calls an hour") && table.contains("--accept-low-power"), "{table}");
    }

    #[test]
    fn a_smaller_alpha_takes_longer_to_take_calls_back() {
        let hours = |alpha| planned("{}", Some(600.0), Some(alpha)).unwrap().json()["steps"][0]["detections"][0]["hours"].as_f64().unwrap();
        assert!(hours(0.001) > hours(0.1));
    }

    #[test]
    fn a_rule_that_tells_nothing_of_its_power_gets_its_weights_and_least_times_only() {
        let table = planned(r#"{"rule":{"kind":"threshold"},"expected_calls_per_hour":600}"#, None, None).unwrap().table();
        assert!(table.contains("100 % at the earliest after 111 minutes") && table.contains("no table"), "{table}");
        let table = planned(r#"{"low_volume":"off-hours-full"}"#, Some(5.0), None).unwrap().table();
        assert!(table.contains("all calls at once") && table.contains("no table"), "{table}");
    }

    #[test]
    fn what_cannot_be_planned_is_refused_by_name() {
        for (json, calls, alpha, expected) in [
            ("{}", None, None, "--calls-per-hour"),
            ("{}", Some(-1.0), None, "expected_calls_per_hour -1"),
            ("{}", Some(600.0), Some(0.5), "alpha 0.5"),
            (r#"{"rule":{"kind":"not-worse"}}"#, Some(600.0), Some(0.01), "--alpha"),
            ("{}", Some(f64::NAN), None, "expected_calls_per_hour"),
        ] {
            let refused = planned(json, calls, alpha).err().unwrap();
            assert!(refused.contains(expected), "{refused}");
        }
        for calls in [0.0, 1e-9, 1e7] {
            assert!(!planned("{}", Some(calls), None).unwrap().table().is_empty());
        }
    }

    #[test]
    fn after_a_start_the_way_is_told_where_the_volume_is_known() {
        let told = |json: &str| expected(&serde_json::from_str(json).unwrap());
        assert_eq!(told("{}"), None);
        let way = told(r#"{"expected_calls_per_hour":600}"#).unwrap();
        assert!(way.contains("5 %, then 25 %, then 50 %, then 100 %") && way.contains("hours, and 30 minutes more there"), "{way}");
        assert!(told(r#"{"expected_calls_per_hour":600,"mode":"advise"}"#).unwrap().contains("serin approve"));
        assert!(told(r#"{"expected_calls_per_hour":600,"mode":"observe"}"#).unwrap().contains("only watches"));
    }
}
