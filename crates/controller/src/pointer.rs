//! The row that a traffic cop reads where nobody splits the calls: it follows the percentage, and a hand on it is noticed.
//!
//! The percentage stays what people and the record go by; the row is written after it. The vendor knows no compare-and-set, so what
//! tells our row of earlier from somebody else's is its owner and the version of the percentage that it says it follows.

use crate::ports::{Pointer, RowError, Rows};
use serin_core::rollout::Rollout;
use serin_core::weight::Weight;

/// How a row stands to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As recorded.
    AsRecorded,
    /// It does not follow yet.
    Behind,
    /// Somebody changed it: what they did.
    ByHand(String),
}

/// Who writes the rows of a stage.
pub(crate) fn owner(stage: &str) -> String {
    format!("serin/{stage}")
}

/// The table of a rollout whose calls a row sends.
pub(crate) fn table(rollout: &Rollout) -> Option<&str> {
    rollout.plan.pointer.as_ref().map(|pointer| pointer.table.as_str())
}

/// The row that belongs to a weight. `revision` is the version of the percentage that it follows.
fn row(rollout: &Rollout, weight: Weight, revision: i64, stage: &str) -> Pointer {
    let flow = if weight == Weight::FULL { &rollout.plan.canary.flow_id } else { rollout.plan.stable_flow() };
    let weight = if weight == Weight::FULL { Weight::FULL } else { Weight::ZERO };
    Pointer { active_flow: flow.to_owned(), weight, revision, owner: owner(stage) }
}

/// Sends all calls to stable, unless the row does already or belongs to somebody else. Nothing to do where no row sends the calls.
pub(crate) async fn to_stable(rows: &impl Rows, rollout: &Rollout, revision: i64, stage: &str) -> Result<(), RowError> {
    follow(rows, rollout, Weight::ZERO, revision, stage).await
}

/// Lets the row follow the percentage.
pub(crate) async fn follow(rows: &impl Rows, rollout: &Rollout, weight: Weight, revision: i64, stage: &str) -> Result<(), RowError> {
    let Some(table) = table(rollout) else { return Ok(()) };
    let wanted = row(rollout, weight, revision, stage);
    // Where it cannot be read it is written all the same when calls are taken back: rather twice than not at all.
    let found = match rows.pointer(table, &rollout.plan.flow).await {
        Err(error) if weight > Weight::ZERO => return Err(error),
        found => found.ok().flatten(),
    };
    match found {
        Some(row) if is_foreign(&row, stage) => Err(RowError {
            table: table.to_owned(),
            row: rollout.plan.flow.to_string(),
            reason: format!("it belongs to `{}` and is not written; it sends calls to flow {}", row.owner, row.active_flow),
        }),
        Some(row) if row.weight == wanted.weight && row.active_flow == wanted.active_flow && row.owner == wanted.owner => match weight {
            Weight::ZERO => Ok(()),
            _ if row.revision == revision => Ok(()),
            _ => rows.point(table, &rollout.plan.flow, &wanted).await,
        },
        _ => rows.point(table, &rollout.plan.flow, &wanted).await,
    }
}

/// Whether another installation writes the row.
pub(crate) fn is_foreign(row: &Pointer, stage: &str) -> bool {
    !row.owner.is_empty() && row.owner != owner(stage)
}

/// How a row that was read stands to the record of its rollout.
pub(crate) fn standing(rollout: &Rollout, row: Option<&Pointer>, stage: &str) -> Standing {
    let weight = rollout.settled_weight();
    let revision = rollout.applied.map_or(0, |applied| applied.version);
    let wanted = self::row(rollout, weight, revision, stage);
    let by_hand = |what: String| Standing::ByHand(what);
    match row {
        // Without a row the cop sends every call to stable, which is where it began.
        None if weight == Weight::ZERO => Standing::Behind,
        None => by_hand("deleted the row, which sends all calls to stable".to_owned()),
        Some(row) if is_foreign(row, stage) => by_hand(format!("took the row over as `{}`", row.owner)),
        Some(row) if row.weight == wanted.weight && row.active_flow == wanted.active_flow => Standing::AsRecorded,
        // Ours of before the last change of the percentage. What was written by hand says so by its revision, or keeps ours.
        Some(row) if row.revision < revision || weight == Weight::ZERO => Standing::Behind,
        Some(row) => by_hand(format!("changed the row to flow {} with weight {}", row.active_flow, row.weight)),
    }
}
