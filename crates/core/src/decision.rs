//! Verdict, guards and time → what to do now. The core is told everything and answers with a value; a `Hold` says why.

use crate::analysis::{Analysis, Breach, Doubt, Verdict};
use crate::calendar::{Restriction, maintenance};
use crate::measurement::{Sides, label};
use crate::phase::{Advice, Event, Phase};
use crate::policy::{Mode, Rule};
use crate::projection::{Seen, Standing, standing};
use crate::rollout::{Actor, Cause, Rollout, Strategy};
use crate::sequential::spell;
use crate::weight::Weight;
use jiff::{SignedDuration, Timestamp};
use std::fmt;

/// What to do with a rollout now.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing, and why.
    Hold(HoldReason),
    /// Prepared: on to the first weight.
    Begin {
        /// The step.
        to: Weight,
    },
    /// On to a higher weight below 100 %.
    Advance {
        /// The step.
        to: Weight,
    },
    /// On to 100 %, where it bakes.
    Promote,
    /// A person must approve the rise.
    AskApproval {
        /// Percent that would follow.
        to: Weight,
    },
    /// Only to be observed: it begins, at the percentage that a person sets.
    Observe {
        /// Version of the parameter, which holds 0.
        version: i64,
    },
    /// A person moved the percentage of a rollout that is only observed.
    Follow {
        /// To here.
        weight: Weight,
        /// Version of the parameter.
        version: i64,
    },
    /// What would be done, were it allowed.
    Advise(Advice, String),
    /// Nobody moved the percentage for long: the observation ends, and nothing is written.
    EndObservation(String),
    /// It looked healthy at 100 % for long enough.
    FinishBake,
    /// Calls are taken away, the flow is put back.
    Rollback(Cause),
    /// A rollback is called for, and not done in a maintenance window.
    Withhold {
        /// Why it is called for.
        cause: Cause,
        /// The window, by its occurrence.
        restriction: String,
        /// The window, described.
        window: Box<Restriction>,
        /// Whether its calls are paused on stable instead.
        contain: bool,
    },
    /// Both cohorts fail: held for a person, at this weight.
    CallJudge {
        /// Weight meanwhile.
        weight: Weight,
        /// What was seen.
        reason: String,
    },
    /// Held for a person.
    Pause {
        /// Weight meanwhile.
        weight: Weight,
        /// Version of the parameter, where a person's value is taken over.
        version: Option<i64>,
        /// Why.
        reason: String,
    },
    /// Somebody changed by hand what is being compared: contained.
    Contaminate(String),
    /// Ended without blame: contained.
    Abort(String),
    /// Ended before any call was moved.
    FailPreparation(String),
    /// Serin cannot finish this by itself.
    CallHuman(String),
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq)]
pub enum HoldReason {
    /// The flow is being prepared.
    Preparing,
    /// The recorded weight is not in force yet.
    ApplyingWeight {
        /// The weight on its way.
        weight: Weight,
    },
    /// The parameter was read as it was before our last write.
    StaleRead,
    /// No verdict yet.
    Inconclusive(Doubt),
    /// We could not look.
    MetricsUnavailable(String),
    /// Healthy, not for long enough.
    Baking {
        /// Minutes with data so far.
        seen: u32,
        /// Minutes with data the policy wants.
        needed: u32,
    },
    /// Healthy; a person holds it.
    Paused,
    /// Healthy; a person must approve.
    AwaitingApproval,
    /// Only observed, and what would be done was said.
    Advised(Advice),
    /// Only to be observed, and the percentage is not at 0 to begin with.
    NotZero,
    /// Only observed, and nobody has sent calls to the canary.
    NotObservable,
    /// Only observed, and healthy with all calls on the canary.
    ObservedAtFull,
    /// Stable itself got worse: before, and lately.
    CommonCause(Sides),
    /// The evidence is old.
    NoRecentData {
        /// Start of the latest minute with data.
        last: Option<Timestamp>,
    },
    /// The canary fails, and a person sent all calls there because stable is broken.
    LeftToPerson(Breach),
    /// A maintenance window, a freeze or a stop: nothing rises.
    Restricted(Box<Restriction>),
    /// A rollback is called for, not done in a maintenance window, and was said.
    Withheld(Box<Restriction>),
    /// The executor publishes the promoted version into the stable flow.
    Finalizing,
    /// The executor puts the canary flow back.
    Restoring,
    /// A person must look.
    Contaminated,
    /// It has ended.
    Ended,
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HoldReason::Preparing => f.write_str("the canary version is being published; no call is moved yet"),
            HoldReason::ApplyingWeight { weight } => write!(f, "weight {weight} % is recorded and not in force yet"),
            HoldReason::StaleRead => f.write_str("the parameter was read older than our last write; the next tick reads again"),
            HoldReason::Inconclusive(doubt) => doubt.fmt(f),
            HoldReason::MetricsUnavailable(reason) => write!(f, "metrics unavailable: {reason}"),
            HoldReason::Baking { seen, needed } => write!(f, "healthy for {seen} of {needed} minutes"),
            HoldReason::Paused => f.write_str("paused: `serin resume` lets it go on"),
            HoldReason::AwaitingApproval => f.write_str("healthy, and waiting for a person: `serin approve` lets it rise"),
            HoldReason::Advised(Advice::TakeBack) => {
                f.write_str("observed only: Serin would take the calls away, and has said so; set the percentage to 0")
            }
            HoldReason::Advised(Advice::Rise { to }) => {
                write!(f, "observed only: Serin would go on to {to} %, and has said so; set the percentage, or leave it")
            }
            HoldReason::NotZero => {
                f.write_str("to be observed only, and Serin writes no percentage: it must be there and 0 before the observation begins")
            }
            HoldReason::NotObservable => f.write_str("observed only: no call goes to the canary until somebody sets the percentage"),
            HoldReason::ObservedAtFull => {
                f.write_str("observed only: healthy with all calls on the canary, so there is nothing left to advise")
            }
            HoldReason::CommonCause(sides) => write!(
                f,
                "stable itself got worse: {} {} in the last minutes, {} before; the cause lies outside of the change, and nothing rises meanwhile",
                label(&sides.metric),
                sides.amount(sides.stable.figure()),
                sides.amount(sides.canary.figure())
            ),
            HoldReason::NoRecentData { last: Some(last) } => {
                write!(f, "no call has ended since {last:.0}: nothing rises on evidence older than {} minutes", FRESH.as_mins())
            }
            HoldReason::NoRecentData { last: None } => f.write_str("no call has ended at this weight yet"),
            HoldReason::LeftToPerson(breach) => write!(
                f,
                "{breach}; but a person sent the calls here because stable is broken, so nothing is taken back: `serin rollback` does that"
            ),
            HoldReason::Restricted(restriction) => write!(f, "nothing rises meanwhile: {restriction}"),
            HoldReason::Withheld(restriction) => {
                write!(f, "a rollback is called for and not done: {restriction}; `serin rollback` takes the calls away")
            }
            HoldReason::Finalizing => f.write_str("healthy: the promotion is being finished"),
            HoldReason::Restoring => f.write_str("calls are on stable; the canary flow is being put back"),
            HoldReason::Contaminated => {
                f.write_str("calls are on stable; somebody changed by hand what was compared, and a person must look")
            }
            HoldReason::Ended => f.write_str("ended"),
        }
    }
}

impl Decision {
    /// The word in tables and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Decision::Hold(_) => "Hold",
            Decision::Begin { .. } => "Begin",
            Decision::Advance { .. } => "Advance",
            Decision::Promote => "Promote",
            Decision::AskApproval { .. } => "AskApproval",
            Decision::Observe { .. } => "Observe",
            Decision::Follow { .. } => "Follow",
            Decision::Advise(..) => "Advise",
            Decision::EndObservation(_) => "EndObservation",
            Decision::FinishBake => "FinishBake",
            Decision::Rollback(_) => "Rollback",
            Decision::Withhold { .. } => "Withhold",
            Decision::CallJudge { .. } => "CallJudge",
            Decision::Pause { .. } => "Pause",
            Decision::Contaminate(_) => "Contaminate",
            Decision::Abort(_) => "Abort",
            Decision::FailPreparation(_) => "FailPreparation",
            Decision::CallHuman(_) => "CallHuman",
        }
    }

    /// Whether more rests on the canary afterwards: a higher weight, or the stable flow.
    pub fn rises(&self) -> bool {
        matches!(self, Decision::Begin { .. } | Decision::Advance { .. } | Decision::Promote | Decision::FinishBake)
    }

    /// The event that records the decision, `None` for a hold. `base_version` is the version of the parameter that was seen.
    pub fn event(&self, base_version: i64) -> Option<Event> {
        Some(match self.clone() {
            Decision::Hold(_) => return None,
            Decision::Begin { to } | Decision::Advance { to } => Event::StepStarted { weight: to, base_version },
            Decision::Promote => Event::PromotionStarted { base_version },
            Decision::AskApproval { .. } => Event::ApprovalRequested,
            Decision::Observe { version } => Event::ObservationStarted { version },
            Decision::Follow { weight, version } => Event::WeightSet { weight, version },
            Decision::Advise(advice, _) => Event::Advised { advice },
            Decision::EndObservation(reason) => Event::ObservationEnded { reason },
            Decision::FinishBake => Event::BakeFinished,
            Decision::Rollback(cause) => Event::RollbackStarted { cause },
            // Its calls are on stable by then, and the version is that of the 0.
            Decision::Withhold { cause, restriction, contain, .. } => {
                Event::RollbackWithheld { cause, restriction, contained: contain.then_some(base_version) }
            }
            Decision::CallJudge { weight, reason } => Event::BothFailing { weight, reason },
            Decision::Pause { weight, version, reason } => Event::Paused { weight, version, reason },
            Decision::Contaminate(reason) => Event::Contaminated { reason },
            Decision::Abort(reason) => Event::Aborted { reason },
            Decision::FailPreparation(reason) => Event::PreparationFailed { reason },
            Decision::CallHuman(reason) => Event::HumanNeeded { reason },
        })
    }
}

impl fmt::Display for Decision {
    /// One sentence a person understands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Hold(reason) => reason.fmt(f),
            Decision::Begin { to } => write!(f, "prepared: {to} % of new calls go to the canary"),
            Decision::Advance { to } => write!(f, "healthy long enough: on to {to} %"),
            Decision::Promote => f.write_str("healthy long enough: on to 100 %"),
            Decision::AskApproval { to } => write!(f, "healthy long enough: {to} % follows once a person says `serin approve`"),
            Decision::Observe { .. } => {
                f.write_str("prepared, and only observed: set the percentage by hand, and Serin judges what it sees")
            }
            Decision::Follow { weight, version } => {
                write!(f, "the percentage was set to {weight} by hand (version {version}); it is judged as it is")
            }
            Decision::Advise(Advice::Rise { to }, why) => write!(f, "Serin would go on to {to} %: {why}"),
            Decision::Advise(Advice::TakeBack, why) => write!(f, "Serin would take the calls away: {why}"),
            Decision::EndObservation(reason) => f.write_str(reason),
            Decision::FinishBake => f.write_str("healthy at 100 % long enough: the stable flow gets this version"),
            Decision::Rollback(cause) => cause.fmt(f),
            Decision::Withhold { cause, window, contain: false, .. } => {
                write!(f, "{cause}; not rolled back, for errors are expected: {window}")
            }
            Decision::Withhold { cause, window, contain: true, .. } => {
                write!(f, "{cause}; paused with all calls on stable and nobody blamed, for errors are expected: {window}")
            }
            Decision::CallJudge { reason, .. } => f.write_str(reason),
            Decision::Pause { reason, .. } => f.write_str(reason),
            Decision::Contaminate(reason) | Decision::Abort(reason) | Decision::FailPreparation(reason) | Decision::CallHuman(reason) => {
                f.write_str(reason)
            }
        }
    }
}

/// What is known about a rollout at a tick.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The replay of its ledger.
    pub rollout: &'a Rollout,
    /// Its parameters as read.
    pub seen: &'a Seen,
    /// What the measurements say; `None` in phases that are not watched.
    pub analysis: Option<&'a Analysis>,
    /// What somebody changed by hand in Genesys Cloud of what is being compared, and who.
    pub drift: Option<&'a str>,
    /// Maintenance windows, freezes and stops that concern the flow now.
    pub restricted: &'a [Restriction],
    /// The clock the rollout runs by.
    pub now: Timestamp,
}

/// How long after its deadline a restoration is the executor's to give up.
const EXECUTORS_OWN: SignedDuration = SignedDuration::from_mins(3);

/// Evidence must be at least this young for anything to rise.
pub const FRESH: SignedDuration = SignedDuration::from_mins(15);

/// Decides. Containment first, then a person's hand, then the verdict, then deadlines; only then may anything rise.
pub fn decide(facts: &Facts<'_>) -> Decision {
    let is_left = facts.rollout.phase.is_watched() && facts.rollout.is_left_to_person();
    let decision = match decide_split(facts) {
        // Nothing splits the calls: the only way back is the version before.
        Decision::Abort(reason) if facts.rollout.is_unsplit() && facts.rollout.phase.is_watched() => {
            Decision::Rollback(Cause::Unproven { reason })
        }
        Decision::Abort(reason) | Decision::Contaminate(reason) if is_left => Decision::CallHuman(format!(
            "{reason}; but a person sent the calls to the canary because stable is broken, so they stay there. `serin rollback` takes them to \
             stable, `serin clear` does so without putting the canary flow back"
        )),
        // The executor calls a person too, and declares the emergency before.
        Decision::CallHuman(_) if is_left_to_executor(facts) => Decision::Hold(HoldReason::Restoring),
        decision => decision,
    };
    held_back(facts, decision)
}

/// Whether an emergency is armed that only the executor can declare, and it has a while yet.
fn is_left_to_executor(facts: &Facts<'_>) -> bool {
    let Facts { rollout, now, .. } = facts;
    let armed = rollout.is_unsplit() && rollout.plan.rollback.emergency_group.is_some();
    let late = Phase::RollingBack.deadline().unwrap_or_default() + EXECUTORS_OWN;
    armed && rollout.phase == Phase::RollingBack && now.duration_since(counted_from(rollout)) <= late
}

/// From when the phase's deadline counts: each wait for a person's lock moves that of the restoration; there are only so many.
fn counted_from(rollout: &Rollout) -> Timestamp {
    rollout.restoration.next_at.map_or(rollout.phase_since, |at| at.max(rollout.phase_since))
}

/// In a maintenance window nothing is rolled back by itself, and in no restriction does anything rise (law 9).
fn held_back(facts: &Facts<'_>, decision: Decision) -> Decision {
    let Facts { rollout, restricted, now, .. } = facts;
    let restricted_by = |restriction: &Restriction| Decision::Hold(HoldReason::Restricted(Box::new(restriction.clone())));
    match (decision, maintenance(restricted)) {
        (Decision::Rollback(cause @ (Cause::Breach(_) | Cause::Unproven { .. })), Some((window, contain)))
            if rollout.phase.is_watched() =>
        {
            let contain = contain && rollout.in_force.weight > Weight::ZERO && !rollout.is_unsplit();
            let restriction = window.occurrence(*now);
            // Whoever resumed it after that has decided; what only was told may still be contained.
            match rollout.withheld.as_ref().is_some_and(|(told, contained)| *told == restriction && (*contained || !contain)) {
                true => but_for_the_verdict(facts, HoldReason::Withheld(Box::new(window.clone()))),
                false => Decision::Withhold { cause, restriction, window: Box::new(window.clone()), contain },
            }
        }
        (Decision::CallJudge { .. } | Decision::Advise(Advice::TakeBack, _), Some((window, _))) => restricted_by(window),
        // All callers have it already; now it is watched.
        (decision @ Decision::Promote, _) if rollout.is_unsplit() => decision,
        (decision, _)
            if decision.rises() || matches!(decision, Decision::AskApproval { .. } | Decision::Advise(Advice::Rise { .. }, _)) =>
        {
            restricted.first().map_or(decision, restricted_by)
        }
        (decision, _) => decision,
    }
}

/// What is left to decide while a failed verdict is held back: a hand, a halt marker or a deadline is heeded as ever.
fn but_for_the_verdict(facts: &Facts<'_>, otherwise: HoldReason) -> Decision {
    let verdict = Verdict::Error(otherwise.to_string());
    let unjudged = facts.analysis.map(|a| Analysis { verdict, both_failing: None, ..a.clone() });
    match decide_split(&Facts { analysis: unjudged.as_ref(), ..*facts }) {
        // Without a split there is no taking back but by publishing, which waits too.
        Decision::Abort(_) if facts.rollout.is_unsplit() => Decision::Hold(otherwise),
        Decision::Hold(_) => Decision::Hold(otherwise),
        decision if decision.rises() => Decision::Hold(otherwise),
        decision => decision,
    }
}

fn decide_split(facts: &Facts<'_>) -> Decision {
    let Facts { rollout, seen, analysis, .. } = facts;
    if rollout.is_observed() && matches!(rollout.phase, Phase::Preparing | Phase::Stepping { .. }) {
        return observe(facts);
    }
    let verdict = analysis.map(|a| &a.verdict);
    let left_to_person = rollout.is_left_to_person();
    let weight = rollout.in_force.weight;
    if let (true, Phase::Baking, Some(Verdict::Fail(breach))) =
        (left_to_person && weight == Weight::FULL && !rollout.asked_to_judge, &rollout.phase, verdict)
    {
        return Decision::CallJudge { weight, reason: HoldReason::LeftToPerson(breach.clone()).to_string() };
    }
    if let (true, Some(Verdict::Fail(breach))) = (rollout.phase.is_watched() && !left_to_person, verdict) {
        return Decision::Rollback(Cause::Breach(breach.clone()));
    }
    // Before the halt marker: a run that took the calls away for these and stopped before saying so must not end in a restoration, which
    // would publish over what somebody just published.
    if let (true, Some(Verdict::Unsafe(doubt))) = (rollout.phase.is_watched(), verdict) {
        let said = doubt.to_string();
        return Decision::Abort(format!("{}; the canary is not blamed", said.trim_start_matches("INCONCLUSIVE ")));
    }
    if let (Phase::Finalizing, true, Some(drift)) = (&rollout.phase, rollout.awaits_verdict(), facts.drift) {
        let reason = format!("{drift}, while the stable flow was to get the promoted version");
        return Decision::Rollback(Cause::Requested { by: Actor::BreakGlass.to_string(), reason });
    }
    if let (true, Some(drift)) = (rollout.phase.is_watched(), facts.drift) {
        let then = match rollout.plan.strategy {
            Strategy::PublishWatch => "what was watched is gone, and nothing is published over it",
            Strategy::Pointer => "calls were put back on stable, where the row is ours",
            Strategy::TrafficCop | Strategy::InFlow => "calls were put back on stable",
        };
        return Decision::Contaminate(format!("{drift}: {then}. `serin abort` ends it, then a new rollout may start"));
    }
    if let (Phase::Stepping { .. } | Phase::AwaitingApproval { .. }, Some(sides)) =
        (&rollout.phase, analysis.and_then(|a| a.both_failing.as_ref()))
        && !rollout.asked_to_judge
        && standing(rollout, seen) == Standing::AsRecorded
    {
        let reason = format!(
            "{sides}: both fail, and where callers are better off only a person can tell. Calls stay where they are, and the rollout waits: \
             `serin abort` takes them to stable, `serin intervene --to canary` to the canary, `serin resume` goes on as before"
        );
        return Decision::CallJudge { weight: rollout.in_force.weight, reason };
    }
    if seen.halts(&rollout.id) && Phase::after(rollout.phase.clone(), &Event::RollbackStarted { cause: Cause::FoundContained }).is_ok() {
        // Calls taken away for want of data or of an answer blame nobody, also when the run that did it stopped before saying so.
        return match overdue(facts) {
            Some(abort @ Decision::Abort(_)) => abort,
            _ => Decision::Rollback(Cause::FoundContained),
        };
    }
    // Until the stable flow has the version, a person's hand on the percentage stops the promotion too.
    let waiting = match rollout.awaits_verdict().then(|| standing(rollout, seen)) {
        Some(Standing::Foreign { value, version }) => return foreign(rollout, value, version),
        Some(Standing::Stale) => Some(HoldReason::StaleRead),
        Some(Standing::RaisePending | Standing::RaiseDone { .. }) => Some(HoldReason::ApplyingWeight { weight: rollout.phase.weight() }),
        Some(Standing::AsRecorded) | None => None,
    };
    if let Some(overdue) = overdue(facts) {
        return overdue;
    }
    if let Some(reason) = waiting {
        return Decision::Hold(reason);
    }
    match (&rollout.phase, analysis) {
        (Phase::Preparing, Some(Analysis { verdict: Verdict::Error(reason), .. }))
            if rollout.canary_version.is_some() && !rollout.is_unsplit() =>
        {
            Decision::Hold(HoldReason::MetricsUnavailable(format!(
                "what stable does now is what all calls will be compared with: {reason}"
            )))
        }
        (Phase::Preparing, _) if rollout.canary_version.is_some() => match rollout.plan.policy.step_after(Weight::ZERO) {
            Some(to) if !rollout.goes_at_once() => Decision::Begin { to },
            _ => Decision::Promote,
        },
        (Phase::Preparing, _) => Decision::Hold(HoldReason::Preparing),
        (Phase::Finalizing, _) => Decision::Hold(HoldReason::Finalizing),
        (Phase::RollingBack, _) => Decision::Hold(HoldReason::Restoring),
        (Phase::Contaminated, _) => Decision::Hold(HoldReason::Contaminated),
        (phase, _) if phase.is_terminal() => Decision::Hold(HoldReason::Ended),
        (_, Some(analysis)) => judged(facts, analysis),
        (_, None) => Decision::Hold(HoldReason::MetricsUnavailable("nothing was measured".into())),
    }
}

/// Serin's part in a rollout that it only observes: it follows a person's percentage, and says what it would do.
fn observe(facts: &Facts<'_>) -> Decision {
    let Facts { rollout, seen, analysis, .. } = facts;
    if rollout.phase == Phase::Preparing {
        return match overdue(facts) {
            Some(overdue) => overdue,
            None if rollout.canary_version.is_some() && seen.is_zero() => Decision::Observe { version: seen.version() },
            None if rollout.canary_version.is_some() => Decision::Hold(HoldReason::NotZero),
            None => Decision::Hold(HoldReason::Preparing),
        };
    }
    if let Some(drift) = facts.drift {
        return Decision::EndObservation(format!("{drift}: what was compared is gone, and the percentage stays as it is"));
    }
    match standing(rollout, seen) {
        Standing::AsRecorded => {}
        Standing::Foreign { version, .. } => return Decision::Follow { weight: seen.weight(), version },
        Standing::Stale | Standing::RaisePending | Standing::RaiseDone { .. } => return Decision::Hold(HoldReason::StaleRead),
    }
    let policy = &rollout.plan.policy;
    if facts.now.duration_since(rollout.phase_since) > policy.step_cap.duration() {
        return Decision::EndObservation(format!(
            "nobody moved the percentage for {}, the policy's step_cap: the observation ends, and the percentage stays as it is",
            spell(f64::from(policy.step_cap.0))
        ));
    }
    let Some(analysis) = analysis.filter(|_| rollout.in_force.weight > Weight::ZERO) else {
        return Decision::Hold(HoldReason::NotObservable);
    };
    match (&analysis.verdict, rollout.advised) {
        // Once is enough at a weight: evidence that fades takes nothing back that was said.
        (_, Some(Advice::TakeBack)) => Decision::Hold(HoldReason::Advised(Advice::TakeBack)),
        (Verdict::Fail(breach), _) => Decision::Advise(Advice::TakeBack, breach.to_string()),
        (Verdict::Unsafe(doubt), _) => Decision::Advise(Advice::TakeBack, doubt.to_string()),
        _ => match rise(facts, analysis) {
            Ok(_) if rollout.in_force.weight == Weight::FULL => Decision::Hold(HoldReason::ObservedAtFull),
            Ok(to) if rollout.advised == Some(Advice::Rise { to }) => Decision::Hold(HoldReason::Advised(Advice::Rise { to })),
            Ok(to) => Decision::Advise(Advice::Rise { to }, why(analysis)),
            Err(reason) => Decision::Hold(reason),
        },
    }
}

/// The verdict on a watched rollout, once nothing else had precedence.
fn judged(facts: &Facts<'_>, analysis: &Analysis) -> Decision {
    let Facts { rollout, .. } = facts;
    let policy = &rollout.plan.policy;
    match (&analysis.verdict, &rollout.phase) {
        // A person who resumed it has decided; they are asked again when as much time has passed.
        (Verdict::Inconclusive(doubt), Phase::Stepping { weight }) if doubt.wants_a_person() && waited(facts) && haste(facts).is_none() => {
            return Decision::Pause { weight: *weight, version: None, reason: doubt.to_string() };
        }
        _ => {}
    }
    let to = match rise(facts, analysis) {
        _ if rollout.in_force.weight == Weight::ZERO && matches!(rollout.phase, Phase::Paused { .. }) => {
            return Decision::Hold(HoldReason::Paused);
        }
        Ok(to) => to,
        Err(reason) => return Decision::Hold(reason),
    };
    // What the start of a rollout allowed reaches to the plan's first step; the rest is a person's to approve, and whoever hastened it did.
    let by_person = rollout.approved == Some(rollout.phase.weight()) || haste(facts).is_some();
    let approved = policy.mode != Mode::Advise || policy.steps[0] >= to || by_person;
    match rollout.phase {
        Phase::Paused { .. } => Decision::Hold(HoldReason::Paused),
        Phase::AwaitingApproval { .. } => Decision::Hold(HoldReason::AwaitingApproval),
        Phase::Baking => Decision::FinishBake,
        _ if !approved => Decision::AskApproval { to },
        _ if to == Weight::FULL => Decision::Promote,
        _ => Decision::Advance { to },
    }
}

/// The weight that the evidence allows next (100 % again for the end of the bake), or why it allows none. Where a person hastened it, it
/// need only allow it: time and evidence that are still missing are not waited for, but whoever sees nothing raises nothing.
fn rise(facts: &Facts<'_>, analysis: &Analysis) -> Result<Weight, HoldReason> {
    let Facts { rollout, now, .. } = facts;
    let haste = haste(facts);
    if let Verdict::Error(reason) = &analysis.verdict {
        return Err(HoldReason::MetricsUnavailable(reason.clone()));
    }
    // Said first: whatever else holds the rollout matters less to whoever reads it.
    if let Some(sides) = &analysis.common_cause {
        return Err(HoldReason::CommonCause(sides.clone()));
    }
    match &analysis.verdict {
        Verdict::Pass | Verdict::Error(_) => {}
        Verdict::Inconclusive(doubt) if haste.is_some() && doubt.is_want_of_evidence() => {}
        Verdict::Inconclusive(doubt) | Verdict::Unsafe(doubt) => return Err(HoldReason::Inconclusive(doubt.clone())),
        Verdict::Fail(breach) if rollout.stable_is_broken => return Err(HoldReason::LeftToPerson(breach.clone())),
        Verdict::Fail(breach) => return Err(HoldReason::Inconclusive(Doubt::Breaching { breach: breach.clone(), limit: 1 })),
    }
    match haste {
        None if !is_ripe(rollout, analysis) => {
            return Err(HoldReason::Baking { seen: analysis.data_minutes, needed: minutes_needed(rollout) });
        }
        _ if analysis.last_data.is_none_or(|last| now.duration_since(last) > FRESH) => {
            return Err(HoldReason::NoRecentData { last: analysis.last_data });
        }
        // Somebody must have been there before others are sent after them.
        Some(_) if analysis.counts.canary.calls == 0 => {
            return Err(HoldReason::Inconclusive(Doubt::TooFewCalls { seen: 0, needed: 1 }));
        }
        // At 100 % these stand in for stable, and a few of them would forgive anything.
        Some(to) if to == Weight::FULL && analysis.counts.stable.calls < rollout.plan.policy.min_canary_calls => {
            return Err(HoldReason::Inconclusive(Doubt::NoBaseline));
        }
        _ => {}
    }
    let next = || rollout.plan.policy.step_after(rollout.in_force.weight).unwrap_or(Weight::FULL);
    Ok(haste.unwrap_or_else(next))
}

/// Where a person wants it to rise without more evidence.
fn haste(facts: &Facts<'_>) -> Option<Weight> {
    facts.rollout.hastened_at(facts.now).map(|hastened| hastened.to)
}

/// Whether the phase has lasted as long as a step may without a verdict.
fn waited(facts: &Facts<'_>) -> bool {
    let most = match &facts.rollout.plan.policy.rule {
        Rule::Sequential(rule) => rule.max_step.duration(),
        _ => SignedDuration::ZERO,
    };
    facts.now.duration_since(facts.rollout.phase_since) > most
}

/// Why the evidence allows a rise.
fn why(analysis: &Analysis) -> String {
    analysis.said.as_ref().map_or_else(|| "healthy long enough".to_owned(), |said| said.reason.to_string())
}

/// Whether it looked healthy for long enough. The sequential judge keeps its own time.
fn is_ripe(rollout: &Rollout, analysis: &Analysis) -> bool {
    analysis.verdict == Verdict::Pass && (analysis.said.is_some() || analysis.data_minutes >= minutes_needed(rollout))
}

/// Minutes with data that the phase must look healthy.
fn minutes_needed(rollout: &Rollout) -> u32 {
    let policy = &rollout.plan.policy;
    if rollout.phase == Phase::Baking { policy.final_bake_time.0 } else { policy.bake_time.0 }
}

/// A value that our record does not explain is a person's: lower is kept, higher is contained.
fn foreign(rollout: &Rollout, value: Result<Weight, String>, version: i64) -> Decision {
    let ours = rollout.phase.weight();
    if rollout.phase == Phase::Finalizing {
        let wrote = value.map_or_else(|text| format!("`{text}`"), |weight| weight.to_string());
        let reason = format!("the percentage was set to {wrote} (version {version}) while the stable flow was to get the promoted version");
        return Decision::Rollback(Cause::Requested { by: Actor::BreakGlass.to_string(), reason });
    }
    match value {
        Ok(weight) if weight <= ours => Decision::Pause {
            weight,
            version: Some(version),
            reason: format!(
                "the percentage was set to {weight} by hand (version {version}) while Serin had {ours}: it is kept, and the rollout waits for `serin resume` or `serin abort`"
            ),
        },
        Ok(weight) => Decision::Contaminate(format!(
            "the percentage was set to {weight} by hand (version {version}), above the {ours} of the plan: calls were put back on stable. `serin abort` ends it, then a new rollout may start"
        )),
        Err(text) => Decision::Pause {
            weight: Weight::ZERO,
            version: Some(version),
            reason: format!(
                "the percentage reads `{text}` (version {version}), which is no percentage from 0 to 100: calls are on stable, and the rollout waits for `serin resume` or `serin abort`"
            ),
        },
    }
}

/// Every phase is left by its deadline (law 8); this is how, once it has passed.
pub fn overdue(facts: &Facts<'_>) -> Option<Decision> {
    let Facts { rollout, analysis, now, .. } = facts;
    let policy = &rollout.plan.policy;
    let in_phase = now.duration_since(rollout.phase_since);
    let past_fixed = rollout.phase.deadline().is_some_and(|limit| now.duration_since(counted_from(rollout)) > limit);
    match &rollout.phase {
        Phase::Preparing if past_fixed => {
            let waited = match &rollout.plan.smoke {
                Some(smoke) => format!(" It waited for the version to be published, or for a test call to {} to end in it without an error.", smoke.dnis),
                None => String::new(),
            };
            let reason = match facts.restricted.first().filter(|_| rollout.canary_version.is_some()) {
                Some(restriction) => format!("prepared, and kept from beginning for 30 minutes; no call was moved: {restriction}"),
                None => format!("not prepared within 30 minutes; no call was moved.{waited} See the executor's log for what it waited for"),
            };
            // Where all callers get it by its publication they may have it by now.
            Some(match rollout.is_unsplit() && rollout.snapshot.is_some() {
                true => Decision::Rollback(Cause::Unproven { reason: format!("{reason}; it may have been published") }),
                false => Decision::FailPreparation(reason),
            })
        }
        Phase::Finalizing if past_fixed && rollout.plan.strategy == Strategy::InFlow => Some(Decision::CallHuman(
            "the promotion was not finished within 10 minutes; all calls take the new branch, which works. See the executor's log; `serin clear` takes them to the old branch".into(),
        )),
        Phase::Finalizing if past_fixed => {
            Some(Decision::CallHuman("the stable flow did not get the promoted version within 10 minutes; all calls stay on the canary flow, which works. Publish the version into the stable flow by hand, then `serin clear`".into()))
        }
        Phase::RollingBack if past_fixed => {
            let calls = match facts.seen.is_zero() || facts.seen.halts(&rollout.id) {
                _ if rollout.is_unsplit() => "all callers still get it",
                _ if rollout.plan.pointer.is_some() => "calls go where the row sends them, so see that its Traffic_Weight is 0",
                true => "calls are on stable",
                false => "whether calls are on stable cannot be seen, so set the percentage to 0 by hand",
            };
            Some(Decision::CallHuman(format!(
                "the canary flow was not put back within 5 minutes; {calls}. Publish the rollback target by hand, then `serin clear`"
            )))
        }
        Phase::Contaminated if past_fixed => Some(Decision::Abort("nobody came back to this contaminated rollout within 24 hours; calls have been on stable since".into())),
        Phase::Paused { .. } | Phase::AwaitingApproval { .. } if in_phase > policy.pause_expiry.duration() => {
            Some(Decision::Abort(format!(
                "nobody resumed or approved it for {} (pause_expiry): calls were put back on stable",
                spell(f64::from(policy.pause_expiry.0))
            )))
        }
        Phase::Stepping { .. } | Phase::Baking | Phase::Paused { .. } | Phase::AwaitingApproval { .. } => {
            let seen_until = analysis.and_then(|a| a.last_data.max(a.watched_until)).unwrap_or(rollout.in_force.since).max(rollout.in_force.since);
            if rollout.in_force.weight > Weight::ZERO && now.duration_since(seen_until) > policy.max_blind.duration() {
                return Some(Decision::Abort(format!(
                    "no data for more than {}, the policy's max_blind: calls were put back on stable, without blame on the canary",
                    spell(f64::from(policy.max_blind.0))
                )));
            }
            let decided = analysis.is_some_and(|a| is_ripe(rollout, a));
            let capped = matches!(rollout.phase, Phase::Stepping { .. } | Phase::Baking) && in_phase > policy.step_cap.duration();
            (capped && !decided).then(|| Decision::Pause {
                weight: rollout.in_force.weight,
                version: None,
                reason: format!(
                    "undecided at {} % for {}, the policy's step_cap: look at both cohorts, then `serin resume` or `serin abort`",
                    rollout.in_force.weight,
                    spell(f64::from(policy.step_cap.0))
                ),
            })
        }
        _ => None,
    }
}
