//! The parameters that Architect's question is answered from, compared with what our record says they should be.
//!
//! Parameter Store has no compare-and-set. What makes up for it: versions are compared before values, a raise names the version
//! it was based on, and a value our record does not explain is a person's.

use crate::phase::Phase;
use crate::rollout::Rollout;
use crate::weight::Weight;

/// The parameters of a flow as a tick read them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `percentage` with its version, `None` if it does not exist.
    pub percentage: Option<(String, i64)>,
    /// `rollout`.
    pub rollout: Option<String>,
    /// `halt`.
    pub halt: Option<String>,
}

/// How the percentage stands to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As recorded.
    AsRecorded,
    /// A recorded raise has not been written yet, or not been seen yet.
    RaisePending,
    /// A recorded raise was written; its outcome was not recorded.
    RaiseDone {
        /// Version that holds it.
        version: i64,
    },
    /// The read is older than what we know was written. It says nothing.
    Stale,
    /// A person's value.
    Foreign {
        /// The value, or the text that is none.
        value: Result<Weight, String>,
        /// Its version.
        version: i64,
    },
}

impl Seen {
    /// The weight that callers can get from this percentage; unreadable is 0, as for the caller's question.
    pub fn weight(&self) -> Weight {
        self.percentage.as_ref().and_then(|(text, _)| text.parse().ok()).unwrap_or(Weight::ZERO)
    }

    /// Whether the percentage is there and plainly 0.
    pub fn is_zero(&self) -> bool {
        self.percentage.as_ref().is_some_and(|(text, _)| text.parse() == Ok(Weight::ZERO))
    }

    /// Version of the percentage, 0 if it does not exist.
    pub fn version(&self) -> i64 {
        self.percentage.as_ref().map_or(0, |(_, version)| *version)
    }

    /// Whether the halt marker names the rollout.
    pub fn halts(&self, rollout: &str) -> bool {
        self.halt.as_deref() == Some(rollout)
    }
}

/// How the percentage stands to the record of a rollout whose calls are being split.
pub fn standing(rollout: &Rollout, seen: &Seen) -> Standing {
    if rollout.is_unsplit() {
        // Nobody asks the parameters.
        return Standing::AsRecorded;
    }
    let version = seen.version();
    let foreign = |version| Standing::Foreign {
        value: match &seen.percentage {
            Some((text, _)) => text.parse().map_err(|_| text.chars().take(32).collect()),
            None => Err("the parameter was deleted".to_owned()),
        },
        version,
    };
    match (rollout.pending, rollout.applied) {
        (Some(pending), _) if version == pending.base_version => Standing::RaisePending,
        (Some(pending), _) if version == pending.base_version + 1 && seen.weight() == pending.weight => Standing::RaiseDone { version },
        (Some(pending), _) if version > pending.base_version || seen.percentage.is_none() => foreign(version),
        (Some(_), _) => Standing::Stale,
        (None, Some(applied)) if version == applied.version => Standing::AsRecorded,
        (None, Some(applied)) if version > applied.version || seen.percentage.is_none() => foreign(version),
        (None, Some(_)) => Standing::Stale,
        // Nothing was ever written for this rollout: only 0 is explained.
        (None, None) if seen.weight() == Weight::ZERO => Standing::AsRecorded,
        (None, None) => foreign(version),
    }
}

/// What must be written, whatever is seen: lowering and marking never wait for anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repair {
    /// The halt marker must name this rollout.
    pub halt: bool,
    /// The percentage must be 0.
    pub zero: bool,
}

/// The repair a rollout's record calls for.
pub fn repair(rollout: &Rollout, seen: &Seen) -> Repair {
    // The percentage of a rollout that is only observed is a person's, until they take the calls away for good.
    if rollout.is_observed() && !rollout.is_contained() {
        return Repair::default();
    }
    let zero = match rollout.phase {
        // The split still names the rollout before; a percentage written by hand now would send calls to a canary nobody watches.
        Phase::Preparing => seen.weight() > Weight::ZERO,
        _ => rollout.desired_weight() == Weight::ZERO && !seen.is_zero(),
    };
    Repair { halt: rollout.is_contained() && !seen.halts(&rollout.id), zero }
}
