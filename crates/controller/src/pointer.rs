//! The row that a traffic cop reads where nobody splits the calls: it follows the percentage, and a hand on it is noticed.
//!
//! The percentage stays what people and the record go by; the row is written after it. The vendor knows no compare-and-set, so what
//! tells our row of earlier from somebody else's is its owner and the version of the percentage that it says it follows.

use crate::ports::{Pointer, RowError, Rows};
use serin_core::phase::Phase;
use serin_core::rollout::{Plan, Rollout};
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
fn owner(stage: &str) -> String {
    format!("serin/{stage}")
}

/// The table of a rollout whose calls a row sends.
pub(crate) fn table(rollout: &Rollout) -> Option<&str> {
    table_of(&rollout.plan)
}

/// The same, before there is a rollout.
pub(crate) fn table_of(plan: &Plan) -> Option<&str> {
    plan.pointer.as_ref().map(|pointer| pointer.table.as_str())
}

/// The row that belongs to a weight. `revision` is the version of the percentage that it follows.
fn row(rollout: &Rollout, weight: Weight, revision: i64, stage: &str) -> Pointer {
    let flow = if weight == Weight::FULL { &rollout.plan.canary.flow_id } else { rollout.plan.stable_flow() };
    let weight = if weight == Weight::FULL { Weight::FULL } else { Weight::ZERO };
    Pointer { active_flow: flow.to_owned(), weight, revision, owner: owner(stage) }
}

/// Sends all calls to stable, unless the row does already or belongs to somebody else. Nothing to do where no row sends the calls.
pub(crate) async fn to_stable(rows: &impl Rows, rollout: &Rollout, revision: i64, stage: &str) -> Result<(), RowError> {
    let Some(table) = table(rollout) else { return Ok(()) };
    let wanted = row(rollout, Weight::ZERO, revision, stage);
    // Where it cannot be read it is written all the same: rather twice than not at all.
    match rows.pointer(table, &rollout.plan.flow).await.ok().flatten() {
        Some(found) if is_foreign(&found, stage) => Err(taken_over(table, rollout, &found)),
        // A read may lag: what is older than our own raise says nothing, and of a raise of the rollout before nothing is known here.
        Some(found)
            if sends_as(&found, &wanted)
                && found.owner == wanted.owner
                && raised(rollout).is_some_and(|raised| found.revision >= raised) =>
        {
            Ok(())
        }
        _ => write(rows, table, rollout, &wanted).await,
    }
}

/// Sends all calls to the canary flow, where the row is ours of before; whatever else it is, a hand was there.
pub(crate) async fn to_canary(rows: &impl Rows, rollout: &Rollout, revision: i64, stage: &str) -> Result<(), RowError> {
    let Some(table) = table(rollout) else { return Ok(()) };
    let found = rows.pointer(table, &rollout.plan.flow).await?;
    match standing(rollout, found.as_ref(), stage) {
        Standing::Behind => write(rows, table, rollout, &row(rollout, Weight::FULL, revision, stage)).await,
        Standing::AsRecorded | Standing::ByHand(_) => Ok(()),
    }
}

/// Version of the percentage with which a row got all calls, 0 before that; `None` before the first call.
fn raised(rollout: &Rollout) -> Option<i64> {
    let applied = rollout.applied.filter(|applied| applied.weight == Weight::FULL);
    rollout.has_stepped.then(|| applied.map_or(0, |applied| applied.version))
}

async fn write(rows: &impl Rows, table: &str, rollout: &Rollout, row: &Pointer) -> Result<(), RowError> {
    rows.point(table, &rollout.plan.flow, row).await?;
    tracing::info!(flow = %rollout.plan.flow, table, weight = %row.weight, active_flow = row.active_flow, "row written");
    Ok(())
}

fn taken_over(table: &str, rollout: &Rollout, row: &Pointer) -> RowError {
    let reason = format!("it belongs to `{}` and is not written; it sends calls to flow {}", row.owner, row.active_flow);
    RowError { table: table.to_owned(), row: rollout.plan.flow.to_string(), reason }
}

fn sends_as(row: &Pointer, wanted: &Pointer) -> bool {
    row.weight == wanted.weight && row.active_flow == wanted.active_flow
}

/// Whether another installation writes the row.
pub fn is_foreign(row: &Pointer, stage: &str) -> bool {
    !row.owner.is_empty() && row.owner != owner(stage)
}

/// How a row that was read stands to the record of its rollout.
pub(crate) fn standing(rollout: &Rollout, row: Option<&Pointer>, stage: &str) -> Standing {
    let weight = rollout.settled_weight();
    let revision = rollout.applied.map_or(0, |applied| applied.version);
    let wanted = self::row(rollout, weight, revision, stage);
    let before = self::row(rollout, Weight::ZERO, 0, stage);
    match row {
        // Without a row the cop sends every call to stable, which is where it began.
        None if weight == Weight::ZERO => Standing::Behind,
        None => Standing::ByHand("deleted the row, which sends all calls to stable".to_owned()),
        Some(row) if is_foreign(row, stage) => {
            Standing::ByHand(format!("took the row over as `{}`, which sends the calls now and is not fought for", row.owner))
        }
        Some(row) if sends_as(row, &wanted) => Standing::AsRecorded,
        // Ours of before the raise.
        Some(row) if weight > Weight::ZERO && row.owner == wanted.owner && sends_as(row, &before) && row.revision < revision => {
            Standing::Behind
        }
        // What was promoted is its owner's again, but for a write of ours that did not arrive.
        Some(row) if rollout.phase == Phase::Promoted && (row.owner != wanted.owner || row.revision != revision) => {
            Standing::ByHand("changed the row after the promotion".to_owned())
        }
        Some(_) if weight == Weight::ZERO => Standing::Behind,
        Some(row) => Standing::ByHand(format!("changed the row to flow {} with weight {}", row.active_flow, row.weight)),
    }
}
