//! Why Serin does what it does, for people: the sentence, both cohorts' figures, the metric that decided, what would change it, and when
//! the next decision can fall.

use crate::analysis::{Analysis, Doubt, Verdict};
use crate::decision::{Decision, Facts, HoldReason};
use crate::measurement::{Metric, Sides, label};
use crate::phase::Phase;
use crate::policy::Rule;
use crate::rollout::{Cause, Hastened, Rollout, Strategy};
use crate::sequential::{Reason, spell};
use serde::Serialize;
use std::fmt;

/// A decision, explained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What is done, and why.
    pub sentence: String,
    /// The figures of both cohorts, a line per metric; a metric that cannot be measured says so.
    pub figures: Vec<String>,
    /// The metric that decided, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// What would change the verdict.
    pub would_change: String,
    /// Minutes until the next decision, as far as it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_in_minutes: Option<u32>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.sentence)?;
        for line in &self.figures {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "decided by: {}", self.decided_by.as_deref().unwrap_or("no metric"))?;
        writeln!(f, "would change it: {}", self.would_change)?;
        match self.next_in_minutes {
            Some(minutes) => write!(f, "next decision: in about {}", spell(f64::from(minutes))),
            None => f.write_str("next decision: not foreseeable"),
        }
    }
}

/// Minutes until the guide's rule looks again.
fn next_look(rollout: &Rollout, facts: &Facts<'_>) -> Option<f64> {
    let every = match rollout.plan.policy.rule_at(rollout.in_force.weight) {
        Rule::Threshold(rule) => rule.evaluate_every,
        Rule::Hysteresis(rule) => rule.interval,
        _ => return None,
    };
    let (passed, every) = (facts.now.duration_since(rollout.in_force.since).as_secs_f64() / 60.0, f64::from(every.0));
    Some(every - passed % every)
}

/// Explains a decision by the facts it was made of.
pub fn explain(decision: &Decision, facts: &Facts<'_>) -> Explanation {
    let Facts { rollout, analysis, .. } = facts;
    let mut analysis = analysis.as_ref().copied();
    let unsaid;
    let hastened = rollout.hastened_at(facts.now);
    if let (true, true, Some(judged)) = (hastened.is_some(), decision.rises(), analysis) {
        // The person decided, whatever the judge said.
        unsaid = Analysis { said: None, ..judged.clone() };
        analysis = Some(&unsaid);
    }
    let held = held_by_people(decision, facts);
    let foreseen = if held.is_none() { next(decision, rollout, analysis, facts) } else { None };
    Explanation {
        sentence: sentence(decision, rollout, hastened, analysis),
        figures: analysis.map(|a| figures(decision, a)).unwrap_or_default(),
        decided_by: deciding(decision, analysis).map(|sides| label(&sides.metric).to_owned()),
        would_change: held.unwrap_or_else(|| would_change(decision, analysis)),
        next_in_minutes: foreseen,
    }
}

/// The decision, and for a rise the evidence that allows it, or the person who did not wait for it.
fn sentence(decision: &Decision, rollout: &Rollout, hastened: Option<&Hastened>, analysis: Option<&Analysis>) -> String {
    match (decision, hastened) {
        (Decision::Advance { .. } | Decision::Promote, Some(Hastened { to, reason, .. })) => {
            return format!("on to {to} % without waiting for more evidence: {reason}");
        }
        (Decision::Hold(held), Some(Hastened { to, reason, .. })) => {
            return format!("{held}. {to} % follows once nothing holds it ({reason})");
        }
        _ => {}
    }
    let said = analysis.and_then(|a| a.said.as_ref()).map(|said| &said.reason);
    match (decision, said) {
        (Decision::Advance { .. }, Some(reason @ Reason::ProbeClean { .. })) => reason.to_string(),
        (Decision::Advance { to }, Some(reason)) => format!("on to {to} %: {reason}"),
        (Decision::Promote, _) if rollout.phase == Phase::Preparing => "prepared: all callers get the new version at once".to_owned(),
        (Decision::FinishBake, _) if rollout.plan.strategy == Strategy::InFlow => {
            "healthy at 100 % long enough: the new branch keeps all calls".to_owned()
        }
        (Decision::Promote, Some(reason)) => format!("on to 100 %: {reason}"),
        (Decision::AskApproval { to }, Some(reason)) => format!("{to} % follows once a person says `serin approve`: {reason}"),
        _ => decision.to_string(),
    }
}

fn figures(decision: &Decision, analysis: &Analysis) -> Vec<String> {
    // The figures that decided may be of other minutes than the step's. A common cause compares stable with itself.
    let decided = deciding(decision, Some(analysis)).filter(|_| !matches!(decision, Decision::Hold(HoldReason::CommonCause(_))));
    let line = |sides: &Sides, measured: bool| match decided.filter(|decided| decided.metric == sides.metric) {
        _ if sides.canary.calls + sides.stable.calls < 1.0 && decided.is_none_or(|d| d.metric != sides.metric) => {
            format!("{}: {}", label(&sides.metric), if measured { "no call yet" } else { "not measured" })
        }
        Some(decided) => decided.to_string(),
        None => sides.to_string(),
    };
    match &analysis.evidence {
        Some(evidence) => evidence.metrics.iter().map(|m| line(&m.sides, m.available || analysis.data_minutes == 0)).collect(),
        None => [Metric::Error, Metric::Abandon, Metric::Transfer].map(|m| line(&analysis.counts.sides(m), true)).into(),
    }
}

fn deciding<'a>(decision: &'a Decision, analysis: Option<&'a Analysis>) -> Option<&'a Sides> {
    match decision {
        Decision::Rollback(Cause::Breach(breach)) | Decision::Withhold { cause: Cause::Breach(breach), .. } => Some(&breach.sides),
        Decision::CallJudge { .. } => analysis.and_then(|a| a.both_failing.as_ref()),
        Decision::Rollback(_) => None,
        Decision::Hold(HoldReason::CommonCause(sides)) => Some(sides),
        Decision::Hold(HoldReason::LeftToPerson(breach)) => Some(&breach.sides),
        Decision::Hold(HoldReason::Inconclusive(Doubt::Breaching { breach, .. } | Doubt::Shared { breach })) => Some(&breach.sides),
        Decision::Hold(HoldReason::Inconclusive(Doubt::Worse { sides })) => Some(sides),
        Decision::Hold(HoldReason::Inconclusive(Doubt::Judge(reason))) => reason.deciding(),
        Decision::Pause { version: Some(_), .. } => None,
        Decision::Advance { .. } | Decision::Promote | Decision::AskApproval { .. } | Decision::Advise(..) | Decision::Pause { .. } => {
            match analysis.map(|a| &a.verdict) {
                Some(Verdict::Fail(breach)) => Some(&breach.sides),
                _ => analysis.and_then(|a| a.said.as_ref()).and_then(|said| said.reason.deciding()),
            }
        }
        _ => None,
    }
}

/// What holds it whatever the evidence says.
fn held_by_people(decision: &Decision, facts: &Facts<'_>) -> Option<String> {
    let Decision::Hold(HoldReason::Inconclusive(_) | HoldReason::Baking { .. } | HoldReason::NoRecentData { .. }) = decision else {
        return None;
    };
    let Facts { rollout, restricted, .. } = facts;
    if matches!(rollout.phase, Phase::Paused { .. }) {
        return Some("a person: `serin resume` or `serin abort`; calls that fail roll back at any moment".to_owned());
    }
    if rollout.is_observed() {
        return Some("calls: Serin says what it would do once there is evidence; the percentage is a person's".to_owned());
    }
    let restriction = restricted.first()?;
    Some(format!("the end of what holds it ({restriction}), and after that evidence that is good enough"))
}

fn would_change(decision: &Decision, analysis: Option<&Analysis>) -> String {
    match decision {
        Decision::Hold(reason) => held(reason),
        Decision::Rollback(_) | Decision::Abort(_) => "nothing: it is over; a new rollout may be started once the cause is known".into(),
        Decision::Pause { .. } => "a person: `serin resume` or `serin abort`".into(),
        Decision::CallJudge { .. } => "a person: `serin abort`, `serin intervene --to canary`, or `serin resume`".into(),
        Decision::Withhold { contain: true, .. } => "a person: `serin resume` or `serin abort`".into(),
        Decision::Withhold { .. } => WITHHELD.into(),
        Decision::AskApproval { .. } => "a person: `serin approve`, or `serin abort`".into(),
        Decision::Contaminate(_) => "a new rollout".into(),
        Decision::CallHuman(_) => "a person, as the reason says".into(),
        Decision::Advise(..) | Decision::Follow { .. } | Decision::Observe { .. } => "the percentage, which a person sets".into(),
        Decision::Advance { .. } | Decision::Promote => match analysis.and_then(|a| a.said.as_ref()) {
            Some(said) => said.reason.would_change(),
            None => "calls that look worse at the next weight".into(),
        },
        Decision::Begin { .. } => "the first canary calls".into(),
        Decision::FinishBake => "a publish that fails".into(),
        Decision::FailPreparation(_) | Decision::EndObservation(_) => "a new rollout".into(),
    }
}

const WITHHELD: &str = "the end of the maintenance window, or a person: `serin rollback`";

fn held(reason: &HoldReason) -> String {
    match reason {
        HoldReason::Inconclusive(doubt) => doubted(doubt),
        HoldReason::Preparing => "the canary flow running the version".into(),
        HoldReason::ApplyingWeight { .. } | HoldReason::StaleRead => "the parameter read as written".into(),
        HoldReason::MetricsUnavailable(_) => "a measurement that can be read".into(),
        HoldReason::Baking { .. } => "time with calls that look fair; a failed verdict takes them away at any moment".into(),
        HoldReason::Paused => "a person: `serin resume` or `serin abort`".into(),
        HoldReason::AwaitingApproval => "a person: `serin approve`, or `serin abort`".into(),
        HoldReason::Advised(_) | HoldReason::NotZero | HoldReason::NotObservable | HoldReason::ObservedAtFull => {
            "the percentage, which a person sets".into()
        }
        HoldReason::CommonCause(sides) => format!("stable's {} back where they were", label(&sides.metric)),
        HoldReason::NoRecentData { .. } => "a call".into(),
        HoldReason::LeftToPerson(_) => "a person: `serin rollback` takes the calls to stable".into(),
        HoldReason::Restricted(_) => "its end, or a person: `serin maintenance end`".into(),
        HoldReason::Withheld(_) => WITHHELD.into(),
        HoldReason::Finalizing | HoldReason::Restoring => "the executor, which works at it every minute".into(),
        HoldReason::Contaminated => "a person: `serin abort`".into(),
        HoldReason::Ended => "a new rollout".into(),
    }
}

fn doubted(doubt: &Doubt) -> String {
    match doubt {
        Doubt::TooFewCalls { seen, needed } => format!("{} more canary calls", needed.saturating_sub(*seen)),
        Doubt::Breaching { limit, .. } => format!("the same {limit} times in a row rolls back; one look that is fair forgets it"),
        Doubt::Shared { .. } => "stable well again: then the canary stands by itself".into(),
        Doubt::Worse { sides } => format!("a canary whose {} are not above stable's", label(&sides.metric)),
        Doubt::NoLookYet { .. } => "the first look".into(),
        Doubt::NoBaseline => "a stable call in the same minutes".into(),
        Doubt::Judge(reason) => reason.would_change(),
    }
}

fn next(decision: &Decision, rollout: &Rollout, analysis: Option<&Analysis>, facts: &Facts<'_>) -> Option<u32> {
    let minutes = match decision {
        Decision::Hold(HoldReason::Inconclusive(Doubt::Judge(reason))) => reason.minutes_to_next()?,
        Decision::Hold(HoldReason::Inconclusive(Doubt::NoLookYet { at })) => at.duration_since(facts.now).as_secs_f64() / 60.0,
        Decision::Hold(HoldReason::Inconclusive(Doubt::TooFewCalls { seen, needed })) => {
            let pace = f64::from(*seen) / f64::from(analysis?.data_minutes.max(1));
            (pace > 0.0).then(|| f64::from(needed.saturating_sub(*seen)) / pace)?
        }
        Decision::Hold(HoldReason::Baking { seen, needed }) => f64::from(needed.saturating_sub(*seen)),
        Decision::Hold(HoldReason::Inconclusive(Doubt::Breaching { .. })) => next_look(rollout, facts)?,
        Decision::Hold(
            HoldReason::MetricsUnavailable(_)
            | HoldReason::NoRecentData { .. }
            | HoldReason::Inconclusive(Doubt::Worse { .. } | Doubt::Shared { .. } | Doubt::NoBaseline)
            | HoldReason::Preparing
            | HoldReason::ApplyingWeight { .. }
            | HoldReason::StaleRead
            | HoldReason::Finalizing
            | HoldReason::Restoring,
        ) => 1.0,
        // Nothing is looked at before the young cohort is fair, and a step takes its time.
        Decision::Begin { .. } | Decision::Advance { .. } | Decision::Promote => {
            let policy = &rollout.plan.policy;
            let bake = if matches!(decision, Decision::Promote) { policy.final_bake_time } else { policy.bake_time };
            f64::from(policy.long_call.0 + policy.settle.0 + bake.0)
        }
        Decision::FinishBake => 1.0,
        Decision::Rollback(_) if rollout.phase != Phase::RollingBack => 1.0,
        _ => return None,
    };
    Some(minutes.clamp(1.0, 1e6).ceil() as u32)
}
