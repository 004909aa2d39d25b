//! Containment: calls go to stable, at once. No lease, no queue, no lock and no alert stands before it.

use crate::ports::{ParameterError, Parameters};
use serin_core::projection::Seen;
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;

/// A rollout to contain, with its parameters as read (`None` if they could not be).
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// The flow.
    pub flow: &'a FlowName,
    /// The rollout.
    pub rollout: &'a str,
    /// Its parameters.
    pub seen: Option<&'a Seen>,
}

/// Marks every rollout as halted first, then takes the weights to 0: the marker alone already sends calls to stable, and
/// Parameter Store takes only a few writes a second. A failed write does not keep the next from being tried.
/// What is already so is not written again.
pub async fn contain(parameters: &impl Parameters, targets: &[Target<'_>]) -> Vec<Result<(), ParameterError>> {
    let mut halts = Vec::with_capacity(targets.len());
    for target in targets {
        halts.push(match target.seen.is_some_and(|s| s.halts(target.rollout)) {
            true => Ok(()),
            false => parameters.put_halt(target.flow, target.rollout).await,
        });
    }
    let mut results = Vec::with_capacity(targets.len());
    for (target, halt) in targets.iter().zip(halts) {
        let zero = match target.seen.is_some_and(Seen::is_zero) {
            true => Ok(()),
            false => parameters.put_percentage(target.flow, Weight::ZERO, false).await.map(|_| ()),
        };
        // Either write keeps callers off the canary; both must stand for it to count as done.
        results.push(halt.and(zero));
    }
    results
}
