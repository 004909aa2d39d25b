//! Containment: calls go to stable, at once. No lease, no queue, no lock and no alert stands before it.

use crate::pointer;
use crate::ports::{ParameterError, Parameters, RowError, Rows};
use futures::future::join_all;
use serin_core::projection::Seen;
use serin_core::rollout::{FlowName, Rollout};
use serin_core::weight::Weight;

/// A rollout to contain, with its parameters as read (`None` if they could not be).
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// The flow.
    pub flow: &'a FlowName,
    /// The rollout.
    pub rollout: &'a Rollout,
    /// Its parameters.
    pub seen: Option<&'a Seen>,
}

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ContainError {
    /// A parameter.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The row that the traffic cop reads.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Marks every rollout as halted first, then takes the weights to 0: the marker alone already sends calls to stable, and
/// Parameter Store takes only a few writes a second. Rows last: the vendor may let us wait, and few rollouts have one. A failed write
/// does not keep the next from being tried. What is already so is not written again.
pub async fn contain(parameters: &impl Parameters, rows: &impl Rows, stage: &str, targets: &[Target<'_>]) -> Vec<Result<(), ContainError>> {
    let mut halts = Vec::with_capacity(targets.len());
    for target in targets {
        halts.push(match target.seen.is_some_and(|s| s.halts(&target.rollout.id)) {
            true => Ok(()),
            false => parameters.put_halt(target.flow, &target.rollout.id).await,
        });
    }
    let mut zeros = Vec::with_capacity(targets.len());
    for target in targets {
        zeros.push(match target.seen.filter(|seen| seen.is_zero()) {
            Some(seen) => Ok(seen.version()),
            None => parameters.put_percentage(target.flow, Weight::ZERO, false).await,
        });
    }
    let revisions: Vec<i64> = zeros.iter().map(|zero| *zero.as_ref().unwrap_or(&0)).collect();
    let pointed = targets.iter().zip(revisions).map(|(target, revision)| pointer::to_stable(rows, target.rollout, revision, stage));
    let pointed = join_all(pointed).await;
    // Either write of the parameters keeps callers off the canary; all must stand for it to count as done.
    let all = halts.into_iter().zip(zeros).zip(pointed);
    let whole = all.map(|((halt, zero), pointed)| {
        halt?;
        zero?;
        Ok(pointed?)
    });
    whole.collect()
}
