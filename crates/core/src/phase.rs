//! Where a rollout stands, and what can follow what. One function owns every transition.

use crate::rollout::{Cause, Plan, Snapshot};
use crate::weight::Weight;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Gate, snapshot, publish into the canary flow. No call is moved.
    Preparing,
    /// Some calls go to the canary.
    Stepping {
        /// The step's weight.
        weight: Weight,
    },
    /// A person must approve the next step.
    AwaitingApproval {
        /// Weight meanwhile.
        weight: Weight,
    },
    /// Held by a person, or for one.
    Paused {
        /// Weight meanwhile.
        weight: Weight,
        /// The step it was at.
        step: Weight,
    },
    /// All calls go to the canary, still watched.
    Baking,
    /// The stable slot gets the promoted version.
    Finalizing,
    /// Contained; the canary flow is put back.
    RollingBack,
    /// Contained; somebody changed by hand what was being compared.
    Contaminated,
    /// Both slots run the new version.
    Promoted,
    /// Contained and restored.
    RolledBack,
    /// Ended by a person or without blame.
    Aborted,
    /// Ended before any call was moved.
    Failed,
    /// Serin cannot finish this by itself.
    NeedsHuman {
        /// Where the calls go meanwhile.
        weight: Weight,
    },
}

/// What happened to a rollout; past tense, recorded, replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub enum Event {
    /// Somebody asked for a rollout.
    Requested {
        /// For what.
        #[serde(deserialize_with = "crate::ledger::recorded_plan")]
        plan: Box<Plan>,
    },
    /// What stood in Genesys was recorded; from here a publish into the canary flow is ours.
    SnapshotTaken {
        /// The way back.
        snapshot: Snapshot,
    },
    /// The canary flow runs the version to roll out.
    Prepared {
        /// As Genesys names it.
        canary_version: String,
    },
    /// It could not be prepared; no call was moved.
    PreparationFailed {
        /// Why.
        reason: String,
    },
    /// Intent: raise the weight to a step.
    StepStarted {
        /// The step.
        weight: Weight,
        /// Version of the parameter seen.
        base_version: i64,
    },
    /// Intent: raise the weight to 100 %.
    PromotionStarted {
        /// Version of the parameter seen.
        base_version: i64,
    },
    /// Outcome: the parameter holds the weight.
    WeightApplied {
        /// The weight.
        weight: Weight,
        /// Version of the parameter that holds it.
        version: i64,
    },
    /// A step wants a person's approval.
    ApprovalRequested,
    /// A person lets it rise from its weight, once the evidence still says so.
    Approved {
        /// What they say.
        reason: String,
    },
    /// A person lets it rise at the next tick: without more evidence, but not against any.
    Hastened {
        /// To here.
        to: Weight,
        /// What they say.
        reason: String,
    },
    /// Observing began: a person moves the percentage, Serin only judges.
    ObservationStarted {
        /// Version of the parameter seen, which holds 0.
        version: i64,
    },
    /// A person set the percentage of a rollout that is only observed.
    WeightSet {
        /// The weight.
        weight: Weight,
        /// Version of the parameter that holds it.
        version: i64,
    },
    /// What Serin would have done, had it been allowed to.
    Advised {
        /// To do what.
        advice: Advice,
    },
    /// Nobody moved the percentage any more; nothing was written.
    ObservationEnded {
        /// Why.
        reason: String,
    },
    /// It was held.
    Paused {
        /// Weight meanwhile.
        weight: Weight,
        /// Version of the parameter, where a person's value was taken over.
        version: Option<i64>,
        /// Why.
        reason: String,
    },
    /// A person lets it go on, at the step it was at.
    Resumed {
        /// Version of the parameter seen.
        base_version: i64,
    },
    /// It looked healthy at 100 % for long enough.
    BakeFinished,
    /// Intent: publish the promoted version into the stable flow.
    FinalizeStarted {
        /// The stable flow's published version before.
        base_version: String,
    },
    /// The stable flow runs the promoted version, verified by configuration hash.
    StablePublished {
        /// As Genesys names it.
        version: String,
    },
    /// The weight is back at 0.
    Finalized,
    /// Calls were taken away; the flow is to be put back.
    RollbackStarted {
        /// Why.
        cause: Cause,
    },
    /// Errors are expected, so a rollback that was called for was not done.
    RollbackWithheld {
        /// Why it was called for.
        cause: Cause,
        /// The maintenance window, by its occurrence.
        restriction: String,
        /// Version of the parameter that holds 0, where its calls were paused on stable instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contained: Option<i64>,
    },
    /// Canary and stable both fail grossly: where calls are better off only a person can tell.
    BothFailing {
        /// Weight meanwhile.
        weight: Weight,
        /// What was seen.
        reason: String,
    },
    /// The parameters could not take the calls away; something before them did.
    LedAround {
        /// What.
        detour: Detour,
        /// Why.
        reason: String,
    },
    /// The version to go back to is gone; there is another.
    Retargeted {
        /// The version.
        version: String,
        /// Its configuration hash.
        hash: String,
        /// Why.
        reason: String,
    },
    /// Intent: publish the rollback target into the canary flow.
    RestorationStarted {
        /// The canary flow's published version before.
        base_version: String,
    },
    /// Somebody holds the flow's lock; it is never broken.
    RestorationDelayed {
        /// Who.
        holder: String,
        /// Next try.
        next_at: Timestamp,
    },
    /// The canary flow runs its known-good version again.
    RollbackFinished {
        /// As Genesys names it.
        version: String,
    },
    /// Ended by a person, or for want of data.
    Aborted {
        /// Why.
        reason: String,
    },
    /// Somebody changed by hand what was being compared.
    Contaminated {
        /// What was seen.
        reason: String,
    },
    /// Serin cannot finish this by itself.
    HumanNeeded {
        /// Why, and what to do.
        reason: String,
    },
    /// A person has put things right.
    Cleared {
        /// What they say.
        reason: String,
    },
    /// A person lets a configuration run again that was taken back.
    QuarantineCleared {
        /// Its hash.
        configuration: String,
        /// What they say.
        reason: String,
    },
}

/// What takes the calls around the canary where its parameters cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detour {
    /// The open hours of an IVR configuration lead to the stable flow itself.
    Ivr {
        /// Its id.
        id: String,
        /// The flow they led to before.
        before: String,
    },
    /// The emergency of a group was declared.
    Emergency {
        /// Id of the group.
        id: String,
    },
}

/// What Serin would do with a rollout that it only observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Raise the weight.
    Rise {
        /// To here.
        to: Weight,
    },
    /// Take the calls away.
    TakeBack,
}

impl Event {
    /// The event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Requested { .. } => "Requested",
            Event::SnapshotTaken { .. } => "SnapshotTaken",
            Event::Prepared { .. } => "Prepared",
            Event::PreparationFailed { .. } => "PreparationFailed",
            Event::StepStarted { .. } => "StepStarted",
            Event::PromotionStarted { .. } => "PromotionStarted",
            Event::WeightApplied { .. } => "WeightApplied",
            Event::ApprovalRequested => "ApprovalRequested",
            Event::Approved { .. } => "Approved",
            Event::Hastened { .. } => "Hastened",
            Event::ObservationStarted { .. } => "ObservationStarted",
            Event::WeightSet { .. } => "WeightSet",
            Event::Advised { .. } => "Advised",
            Event::ObservationEnded { .. } => "ObservationEnded",
            Event::Paused { .. } => "Paused",
            Event::Resumed { .. } => "Resumed",
            Event::BakeFinished => "BakeFinished",
            Event::FinalizeStarted { .. } => "FinalizeStarted",
            Event::StablePublished { .. } => "StablePublished",
            Event::Finalized => "Finalized",
            Event::RollbackStarted { .. } => "RollbackStarted",
            Event::RollbackWithheld { .. } => "RollbackWithheld",
            Event::BothFailing { .. } => "BothFailing",
            Event::LedAround { .. } => "LedAround",
            Event::Retargeted { .. } => "Retargeted",
            Event::RestorationStarted { .. } => "RestorationStarted",
            Event::RestorationDelayed { .. } => "RestorationDelayed",
            Event::RollbackFinished { .. } => "RollbackFinished",
            Event::Aborted { .. } => "Aborted",
            Event::Contaminated { .. } => "Contaminated",
            Event::HumanNeeded { .. } => "HumanNeeded",
            Event::Cleared { .. } => "Cleared",
            Event::QuarantineCleared { .. } => "QuarantineCleared",
        }
    }

    /// Whether calls must be on stable before this is recorded.
    pub fn needs_containment(&self) -> bool {
        matches!(self, Event::RollbackStarted { .. } | Event::Aborted { .. } | Event::Contaminated { .. })
    }
}

/// An event that cannot follow; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct IllegalTransition {
    /// Where the rollout stands, `None` before its first entry.
    pub phase: Option<Phase>,
    /// What was to happen.
    pub event: &'static str,
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.phase {
            Some(phase) => write!(f, "{} cannot follow in phase {phase}", self.event),
            None => write!(f, "{} cannot open a rollout: its first entry is Requested", self.event),
        }
    }
}

impl Phase {
    /// The one transition function; a line per legal move.
    pub fn after(self, event: &Event) -> Result<Phase, IllegalTransition> {
        use Phase::*;
        match (&self, event) {
            (Preparing, Event::SnapshotTaken { .. } | Event::Prepared { .. }) => Ok(Preparing),
            (Preparing, Event::PreparationFailed { .. }) => Ok(Failed),
            (Preparing, Event::Aborted { .. }) => Ok(Aborted),
            // Where all callers get it by its publication, that may have happened.
            (Preparing, Event::RollbackStarted { .. }) => Ok(RollingBack),
            (Preparing, Event::StepStarted { weight, .. }) if *weight < Weight::FULL => Ok(Stepping { weight: *weight }),

            // Hours with hardly a call: all of them at once, watched.
            (Preparing, Event::PromotionStarted { .. }) => Ok(Baking),
            (Preparing, Event::ObservationStarted { .. }) => Ok(Stepping { weight: Weight::ZERO }),
            (Stepping { .. }, Event::WeightSet { weight, .. }) => Ok(Stepping { weight: *weight }),
            (Stepping { .. }, Event::Advised { .. }) => Ok(self),
            (Stepping { .. }, Event::ObservationEnded { .. }) => Ok(Aborted),

            (Stepping { weight: from }, Event::StepStarted { weight, .. }) if from < weight && *weight < Weight::FULL => {
                Ok(Stepping { weight: *weight })
            }
            (Stepping { .. }, Event::PromotionStarted { .. }) => Ok(Baking),
            // By a person, for the day on which stable is the broken one.
            (AwaitingApproval { .. } | Paused { .. }, Event::PromotionStarted { .. }) => Ok(Baking),
            (
                Stepping { weight: step } | AwaitingApproval { weight: step } | Paused { step, .. },
                Event::RollbackWithheld { contained: Some(_), .. },
            ) => Ok(Paused { weight: Weight::ZERO, step: *step }),
            (Baking, Event::RollbackWithheld { contained: Some(_), .. }) => Ok(Paused { weight: Weight::ZERO, step: Weight::FULL }),
            (Stepping { .. } | AwaitingApproval { .. } | Paused { .. } | Baking, Event::RollbackWithheld { .. }) => Ok(self),
            (Stepping { weight: step } | AwaitingApproval { weight: step }, Event::BothFailing { weight, .. }) if weight <= step => {
                Ok(Paused { weight: *weight, step: *step })
            }
            (Stepping { weight }, Event::WeightApplied { weight: applied, .. }) if applied == weight => Ok(self),
            (Stepping { weight }, Event::ApprovalRequested) => Ok(AwaitingApproval { weight: *weight }),
            (Stepping { weight: step } | AwaitingApproval { weight: step }, Event::Paused { weight, .. }) if weight <= step => {
                Ok(Paused { weight: *weight, step: *step })
            }
            (Baking, Event::Paused { weight, .. } | Event::BothFailing { weight, .. }) => {
                Ok(Paused { weight: *weight, step: Weight::FULL })
            }
            (Stepping { weight }, Event::Hastened { to, .. }) if to > weight => Ok(self),
            (AwaitingApproval { weight }, Event::Approved { .. }) => Ok(Stepping { weight: *weight }),
            // The same weight again, as another version: somebody wrote it once more, or we replaced what was no percentage by 0.
            (Paused { weight: from, step }, Event::Paused { weight, version, .. })
                if weight < from || (weight == from && version.is_some()) =>
            {
                Ok(Paused { weight: *weight, step: *step })
            }
            (Paused { step, .. }, Event::Resumed { .. }) if *step == Weight::FULL => Ok(Baking),
            (Paused { step, .. }, Event::Resumed { .. }) => Ok(Stepping { weight: *step }),

            (Baking, Event::WeightApplied { weight, .. }) if *weight == Weight::FULL => Ok(Baking),
            (Baking, Event::BakeFinished) => Ok(Finalizing),
            (Finalizing, Event::FinalizeStarted { .. } | Event::StablePublished { .. }) => Ok(Finalizing),
            (Finalizing, Event::Finalized) => Ok(Promoted),
            // After a person sent all calls there because stable is broken.
            (Baking, Event::HumanNeeded { .. }) => Ok(NeedsHuman { weight: Weight::FULL }),
            (Paused { weight, .. }, Event::HumanNeeded { .. }) => Ok(NeedsHuman { weight: *weight }),
            (Finalizing, Event::HumanNeeded { .. }) => Ok(NeedsHuman { weight: Weight::FULL }),

            (RollingBack, Event::RestorationStarted { .. } | Event::RestorationDelayed { .. }) => Ok(RollingBack),
            (RollingBack, Event::LedAround { .. } | Event::Retargeted { .. }) => Ok(RollingBack),
            (RollingBack, Event::RollbackFinished { .. }) => Ok(RolledBack),
            (RollingBack, Event::HumanNeeded { .. }) => Ok(NeedsHuman { weight: Weight::ZERO }),
            (NeedsHuman { .. }, Event::Cleared { .. }) => Ok(Aborted),

            // A promotion that got stuck with all calls on the canary can still be taken back.
            (NeedsHuman { weight }, Event::RollbackStarted { .. }) if *weight > Weight::ZERO => Ok(RollingBack),
            (NeedsHuman { weight }, Event::Aborted { .. }) if *weight > Weight::ZERO => Ok(Aborted),
            // Containment is possible wherever calls may be on the canary.
            (Stepping { .. } | AwaitingApproval { .. } | Paused { .. } | Baking | Finalizing, Event::RollbackStarted { .. }) => {
                Ok(RollingBack)
            }
            (Stepping { .. } | AwaitingApproval { .. } | Paused { .. } | Baking | Finalizing | Contaminated, Event::Aborted { .. }) => {
                Ok(Aborted)
            }
            (Stepping { .. } | AwaitingApproval { .. } | Paused { .. } | Baking, Event::Contaminated { .. }) => Ok(Contaminated),
            // It is the flow's, and changes nothing of any rollout.
            (_, Event::QuarantineCleared { .. }) => Ok(self),
            _ => Err(IllegalTransition { phase: Some(self), event: event.name() }),
        }
    }

    /// The weight that belongs to the phase.
    pub fn weight(&self) -> Weight {
        match self {
            Phase::Stepping { weight }
            | Phase::AwaitingApproval { weight }
            | Phase::Paused { weight, .. }
            | Phase::NeedsHuman { weight } => *weight,
            Phase::Baking | Phase::Finalizing => Weight::FULL,
            _ => Weight::ZERO,
        }
    }

    /// Whether nothing follows by itself.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Phase::Promoted | Phase::RolledBack | Phase::Aborted | Phase::Failed | Phase::NeedsHuman { .. })
    }

    /// Whether a new rollout may start. `NeedsHuman` must be cleared first.
    pub fn is_finished(&self) -> bool {
        self.is_terminal() && !matches!(self, Phase::NeedsHuman { .. })
    }

    /// Whether both cohorts are being compared.
    pub fn is_watched(&self) -> bool {
        matches!(self, Phase::Stepping { .. } | Phase::AwaitingApproval { .. } | Phase::Paused { .. } | Phase::Baking)
    }

    /// The phase's name.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Preparing => "Preparing",
            Phase::Stepping { .. } => "Stepping",
            Phase::AwaitingApproval { .. } => "AwaitingApproval",
            Phase::Paused { .. } => "Paused",
            Phase::Baking => "Baking",
            Phase::Finalizing => "Finalizing",
            Phase::RollingBack => "RollingBack",
            Phase::Contaminated => "Contaminated",
            Phase::Promoted => "Promoted",
            Phase::RolledBack => "RolledBack",
            Phase::Aborted => "Aborted",
            Phase::Failed => "Failed",
            Phase::NeedsHuman { .. } => "NeedsHuman",
        }
    }

    /// How long the phase may last where the policy does not say (law 8).
    pub fn deadline(&self) -> Option<SignedDuration> {
        match self {
            Phase::Preparing => Some(SignedDuration::from_mins(30)),
            Phase::Finalizing => Some(SignedDuration::from_mins(10)),
            Phase::RollingBack => Some(SignedDuration::from_mins(5)),
            Phase::Contaminated => Some(SignedDuration::from_hours(24)),
            _ => None,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Stepping { weight } | Phase::AwaitingApproval { weight } | Phase::Paused { weight, .. } => {
                write!(f, "{} at {weight} %", self.name())
            }
            _ => f.write_str(self.name()),
        }
    }
}
