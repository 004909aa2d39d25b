//! Measurements → verdict. Pure functions of the recorded windows and the time: asked twice, they answer the same.

use crate::guards;
use crate::measurement::{Comparison, Counts, InForce, Sides, Window, total, usable};
use crate::policy::{Policy, Rule};
use crate::rules::{self, Step};
use crate::sequential::{self, Action, Data, Evidence, Judgement, Reason, many};
use crate::summary::{Course, Summary, as_told, tally};
use crate::weight::Weight;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the measurements say about the canary.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing speaks against a rise.
    Pass,
    /// The canary is worse than the policy allows.
    Fail(Breach),
    /// Calls must go back, and the canary is not to blame.
    Unsafe(Doubt),
    /// Not enough to say.
    Inconclusive(Doubt),
    /// We could not look. That says nothing about the canary.
    Error(String),
}

/// How the canary was worse than allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// What went wrong, in both cohorts.
    pub sides: Sides,
    /// The most that was allowed for the canary, in the metric's unit.
    pub limit: f64,
    /// Why that is enough.
    pub proof: Proof,
}

/// Why a breach is enough to take calls away.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It was seen so often in a row.
    InARow(u32),
    /// A canary within its tolerances would look this bad in fewer than one of so many rollouts.
    Odds(f64),
    /// No healthy flow does this.
    AtOnce,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Breach { sides, limit, proof } = self;
        let limit = sides.amount(*limit);
        match proof {
            Proof::InARow(1) => write!(f, "{sides}, limit {limit}"),
            Proof::InARow(n) => write!(f, "{sides}, limit {limit}, for the {} in a row", ordinal(*n)),
            Proof::Odds(odds) => write!(
                f,
                "{sides}, tolerated {limit}: a canary within its tolerances would look this bad in fewer than one of {} rollouts",
                many(*odds)
            ),
            Proof::AtOnce => write!(f, "{sides}: no healthy flow does that, and {limit} is the trip-wire"),
        }
    }
}

fn ordinal(n: u32) -> String {
    match n {
        1 => "first time".into(),
        2 => "second time".into(),
        3 => "third time".into(),
        n => format!("{n}th time"),
    }
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq)]
pub enum Doubt {
    /// Too few canary calls.
    TooFewCalls {
        /// Canary calls in the look.
        seen: u32,
        /// Canary calls the policy wants.
        needed: u32,
    },
    /// A breach, not yet often enough in a row.
    Breaching {
        /// The last one.
        breach: Breach,
        /// The policy's limit.
        limit: u32,
    },
    /// A breach that stable shares.
    Shared {
        /// What was found.
        breach: Breach,
    },
    /// The canary is not better than stable, and the rule waits until it is.
    Worse {
        /// Both figures.
        sides: Sides,
    },
    /// The first look of this step has not come.
    NoLookYet {
        /// When it comes.
        at: Timestamp,
    },
    /// No stable call to compare with.
    NoBaseline,
    /// What the sequential judge says.
    Judge(Reason),
}

impl Doubt {
    /// Nothing speaks against the canary: calls or time are missing, no more.
    pub(crate) fn is_want_of_evidence(&self) -> bool {
        match self {
            Doubt::TooFewCalls { .. } | Doubt::NoLookYet { .. } => true,
            Doubt::Judge(reason) => matches!(
                reason,
                Reason::Start { .. } | Reason::Probing { .. } | Reason::Baking { .. } | Reason::NotCleared { .. } | Reason::TimeUp { .. }
            ),
            Doubt::Breaching { .. } | Doubt::Shared { .. } | Doubt::Worse { .. } | Doubt::NoBaseline => false,
        }
    }

    /// The step's time is up, and the policy leaves it to a person.
    pub fn wants_a_person(&self) -> bool {
        matches!(self, Doubt::Judge(Reason::TimeUp { then: sequential::OnCap::Hold, .. }))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::TooFewCalls { seen, needed } => write!(f, "{seen} canary calls seen, {needed} needed"),
            Doubt::Breaching { breach, limit } => write!(f, "{breach}; {limit} in a row roll back"),
            Doubt::Shared { breach } => {
                write!(f, "{breach}; but stable fails at least half as often in the same minutes, so this is not the change alone")
            }
            Doubt::Worse { sides } => write!(f, "{sides}: worse than stable, and the rule goes on only when it is not"),
            Doubt::NoLookYet { at } => write!(f, "first look at this weight at {at:.0}"),
            Doubt::NoBaseline => f.write_str("no stable call in the same minutes to compare with"),
            Doubt::Judge(reason) => reason.fmt(f),
        }
    }
}

/// A verdict with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// What the measurements say.
    pub verdict: Verdict,
    /// Both cohorts, over all usable windows at this weight.
    pub counts: Comparison,
    /// Minutes with data at this weight.
    pub data_minutes: u32,
    /// Start of the latest minute with data at this weight.
    pub last_data: Option<Timestamp>,
    /// Until when calls could be watched at this weight, whatever they are held for.
    pub watched_until: Option<Timestamp>,
    /// Stable before and stable lately, where it got strikingly worse.
    pub common_cause: Option<Sides>,
    /// Both cohorts, where both fail grossly.
    pub both_failing: Option<Sides>,
    /// Where the sequential judge's evidence stands, and what it says; `None` under other rules and at 100 %.
    pub evidence: Option<Evidence>,
    /// What the sequential judge said.
    pub said: Option<Judgement>,
}

impl Analysis {
    /// What stable did before there was a canary: no verdict, the figures it will be compared with.
    pub fn before(windows: &[Window]) -> Analysis {
        let counts = Comparison { canary: Counts::default(), ..total(windows) };
        Analysis {
            verdict: Verdict::Pass,
            counts,
            data_minutes: windows.len() as u32,
            last_data: None,
            watched_until: None,
            common_cause: None,
            both_failing: None,
            evidence: None,
            said: None,
        }
    }
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// How it is judged.
    pub policy: &'a Policy,
    /// Every weight that was in force, oldest first; the last is in force now.
    pub weights: &'a [InForce],
    /// The windows that were recorded since the summary, or since the weight took effect, whichever is earlier.
    pub windows: &'a [Window],
    /// What the hours before told.
    pub summary: Option<&'a Summary>,
    /// Stable's calls at the last step before 100 %.
    pub baseline: Option<Counts>,
}

/// Judges what was measured, as of `now`.
pub fn analyze(measured: &Measured<'_>, now: Timestamp) -> Analysis {
    let Measured { policy, windows, .. } = *measured;
    let in_force = measured.weights.last().copied().unwrap_or(InForce { weight: Weight::ZERO, since: now });
    let usable_now = usable(windows, in_force.since, now, policy.long_call.duration(), policy.settle.duration());
    let last_data = windows.iter().rev().find(|w| w.start >= in_force.since && w.has_data()).map(|w| w.start);
    let mut analysis = Analysis {
        verdict: Verdict::Pass,
        counts: total(&usable_now),
        data_minutes: usable_now.len() as u32,
        last_data,
        watched_until: last_data,
        common_cause: guards::common_cause(&usable_now, now),
        both_failing: None,
        evidence: None,
        said: None,
    };
    let fresh = usable(windows, in_force.since, now, SignedDuration::ZERO, SignedDuration::ZERO);
    if in_force.weight < Weight::FULL {
        analysis.both_failing = guards::both_failing(policy.catastrophe, &fresh, &usable_now, now);
    }
    if in_force.weight == Weight::FULL
        && let Some(stable) = measured.baseline
    {
        analysis.counts.stable = stable;
    }
    analysis.verdict = match guards::catastrophe(policy.catastrophe, &fresh, &usable_now, now) {
        Some(breach) => Verdict::Fail(breach),
        None => by_rule(measured, in_force, &usable_now, now, &mut analysis),
    };
    analysis
}

fn by_rule(measured: &Measured<'_>, in_force: InForce, usable: &[Window], now: Timestamp, analysis: &mut Analysis) -> Verdict {
    let Measured { policy, windows, .. } = *measured;
    let full = in_force.weight == Weight::FULL;
    let rule = policy.rule_at(in_force.weight);
    if let Rule::Sequential(_) = rule {
        return match (full, measured.baseline) {
            (false, _) => sequentially(measured, now, analysis),
            (true, Some(stable)) => alone(policy, stable, usable),
            (true, None) => rules::error_limit(policy.errors, usable, false).unwrap_or_else(|| rules::enough(policy, usable)),
        };
    }
    let baseline = if full { measured.baseline } else { None };
    let step = Step { policy, windows, since: in_force.since, baseline, now };
    let beside = match rule {
        Rule::Consecutive(_) => None,
        _ => match rules::error_limit(policy.errors, usable, !full) {
            Some(fail @ Verdict::Fail(_)) => return fail,
            lasting => lasting,
        },
    };
    let nobody_to_compare_with = full && baseline.is_none();
    let verdict = match rule {
        Rule::Threshold(_) | Rule::NotWorse(_) if nobody_to_compare_with => rules::enough(policy, usable),
        Rule::Threshold(rule) => rules::threshold(rule, &step),
        Rule::Hysteresis(rule) => shared(rules::hysteresis(rule, &step), full),
        Rule::Consecutive(rule) => rules::consecutive(rule, &step, !full),
        Rule::NotWorse(_) => rules::not_worse(&step),
        Rule::Sequential(_) => unreachable!("answered above"),
    };
    match (verdict, beside) {
        (Verdict::Pass, Some(lasting)) => lasting,
        (verdict, _) => verdict,
    }
}

/// An absolute limit that stable breaks too says nothing about the change. At 100 % there is no stable to ask.
fn shared(verdict: Verdict, full: bool) -> Verdict {
    match verdict {
        Verdict::Fail(breach) if !full && guards::is_shared(&breach) => Verdict::Inconclusive(Doubt::Shared { breach }),
        verdict => verdict,
    }
}

fn sequentially(measured: &Measured<'_>, now: Timestamp, analysis: &mut Analysis) -> Verdict {
    let course = Course { policy: measured.policy, weights: measured.weights };
    let Some(told) = course.judge(measured.summary, measured.windows, now) else {
        return Verdict::Inconclusive(Doubt::Judge(Reason::NoData));
    };
    let said = told.judge.verdict(Data::Fresh);
    (analysis.counts, analysis.data_minutes, analysis.last_data) =
        (told.step, told.judge.minutes(), told.last_data.max(analysis.last_data));
    analysis.evidence = Some(told.judge.evidence());
    analysis.said = Some(said.clone());
    match (said.action, said.reason) {
        (Action::Advance | Action::Promote, _) => Verdict::Pass,
        (Action::Rollback, Reason::Harm { sides, limit, evidence, .. }) => {
            Verdict::Fail(Breach { sides, limit, proof: Proof::Odds(evidence) })
        }
        (Action::Rollback, reason) => Verdict::Unsafe(Doubt::Judge(reason)),
        (Action::Hold, reason) => Verdict::Inconclusive(Doubt::Judge(reason)),
    }
}

fn alone(policy: &Policy, stable: Counts, usable: &[Window]) -> Verdict {
    let settings = policy.settings_of(policy.rule_at(Weight::FULL)).expect("a policy is checked when it is read");
    let windows: Vec<sequential::Window> = usable.iter().map(|w| as_told(w, Weight::FULL)).collect();
    let watched = sequential::alone::watch(&settings, &tally(&stable), &windows);
    match watched.worst {
        Some((sides, limit)) if watched.harm >= 1.0 / settings.alpha => {
            Verdict::Fail(Breach { sides, limit, proof: Proof::Odds(watched.harm) })
        }
        _ => rules::enough(policy, usable),
    }
}
