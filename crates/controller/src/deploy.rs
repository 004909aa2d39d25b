//! Deploying: a file of the repository becomes a version of the canary flow, which no caller reaches, ready for a rollout to start.
//!
//! Not here: the gate, which the caller holds meanwhile, and the start. Everything that may be in the way is looked at before anything
//! is published, for a version that is there by mistake is somebody's work to take away.

use crate::pointer;
use crate::ports::{Clock, FlowError, Ledger, Parameters, PublicationError};
use crate::preflight::{listed, look_around, published, unlocked};
use crate::record::{Opened, open};
use crate::work::{Executing, Ports, Run};
use jiff::SignedDuration;
use serin_core::phase::Phase;
use serin_core::policy::Mode;
use serin_core::rollout::{Finalize, Plan, Strategy};
use serin_core::weight::Weight;
use std::collections::BTreeSet;

/// Between two looks for the version that came out.
const POLL: SignedDuration = SignedDuration::from_secs(1);
/// Looks for it.
const POLLS: u32 = 20;

/// Why nothing can be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployError {
    /// It makes no sense now.
    #[error("{0}; nothing was changed")]
    Refused(String),
    /// It could not be done.
    #[error("{0}; nothing was changed")]
    Failed(String),
    /// It was published, or may have been: says what stands, and what to do.
    #[error("{0}")]
    Unfinished(String),
}

impl DeployError {
    fn of(error: FlowError) -> DeployError {
        match error {
            FlowError::Refused(_) => DeployError::Refused(error.to_string()),
            _ => DeployError::Failed(error.to_string()),
        }
    }

    fn failed(error: impl std::fmt::Display) -> DeployError {
        DeployError::Failed(error.to_string())
    }
}

/// Publishes a file into the canary flow of a plan, whose `canary.version` does not count. Returns the plan with the version that came
/// out, to be started.
pub async fn deploy<L: Ledger, P: Parameters, F: Executing, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
    file: &str,
) -> Result<Plan, DeployError> {
    let before = ready(ports, run, plan, file).await?;
    let seen = match ports.flows.publish_file(&plan.canary.flow_id, file).await {
        Ok(()) => Ok(()),
        Err(PublicationError::Unseen(said)) => Err(said),
        Err(PublicationError::NotPublished(error)) => return Err(DeployError::of(error)),
        Err(PublicationError::Elsewhere { flow }) => return Err(before.elsewhere(&flow)),
    };
    let version = before.came_out(ports, seen).await?;
    tracing::info!(flow = %plan.flow, canary = plan.canary.flow_id, before = before.version, version, "deployed");
    let mut plan = plan.clone();
    plan.canary.version = version;
    Ok(plan)
}

/// All of [`deploy`] but the publication. Returns the version that the canary flow runs.
pub async fn rehearse<L: Ledger, P: Parameters, F: Executing, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
    file: &str,
) -> Result<String, DeployError> {
    Ok(ready(ports, run, plan, file).await?.version)
}

/// Whether nothing is in the way of the publication.
async fn ready<'a, L: Ledger, P: Parameters, F: Executing, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &'a Plan,
    file: &str,
) -> Result<Before<'a>, DeployError> {
    publishable(plan)?;
    let opened = open(ports.ledger, &plan.flow).await.map_err(DeployError::failed)?;
    nothing_open(&opened, plan)?;
    nobody_there(ports, &opened, plan).await?;
    ports.flows.check_file(&plan.canary.flow_id, file).await.map_err(DeployError::of)?;
    let problems = look_around(ports, run, plan).await.map_err(DeployError::of)?;
    if let Some(problems) = listed(&problems) {
        return Err(DeployError::Refused(problems));
    }
    let before = Before::of(ports, &plan.canary.flow_id).await.map_err(DeployError::of)?;
    // Looking took a while, and a hand on the percentage takes none.
    nobody_there(ports, &opened, plan).await?;
    Ok(before)
}

/// For people, where a deployed version was not started: what stands, and what can be done about it.
pub fn stands(plan: &Plan) -> String {
    let (flow, version) = (&plan.canary.flow_id, &plan.canary.version);
    format!("canary flow {flow} runs version {version}, and no caller gets there: `serin start` with canary.version {version} rolls it out")
}

/// Whether a publication reaches nobody by itself.
fn publishable(plan: &Plan) -> Result<(), DeployError> {
    let (flow, strategy) = (&plan.canary.flow_id, plan.strategy.name());
    let instead = match plan.strategy {
        Strategy::TrafficCop | Strategy::Pointer => None,
        Strategy::PublishWatch | Strategy::InFlow => Some(format!(
            "strategy {strategy}: callers are in flow {flow} itself, and a publication reaches them at once. Check the version in without \
             publishing it, name it as canary.version, and `serin start`: the rollout publishes it"
        )),
    };
    let observed = (plan.policy.mode == Mode::Observe).then(|| {
        format!(
            "mode observe: Serin publishes nothing there. Publish the file into flow {flow} by hand, name its version as canary.version, \
             and `serin start`"
        )
    });
    let refusal = instead.or(observed).or_else(|| plan.policy.refusal());
    refusal.map_or(Ok(()), |refusal| Err(DeployError::Refused(format!("flow {}: {refusal}", plan.flow))))
}

/// Whether a rollout could be opened.
fn nothing_open(opened: &Opened, plan: &Plan) -> Result<(), DeployError> {
    let Some(before) = &opened.rollout else { return Ok(()) };
    if !before.phase.is_finished() {
        return Err(DeployError::Refused(format!(
            "flow {}: rollout {} stands at {}, and the version that it compares is not published over. Wait for its end, or `serin abort` it",
            plan.flow, before.id, before.phase
        )));
    }
    if before.plan.finalize == Finalize::Swap && before.phase == Phase::Promoted && before.plan.pointer != plan.pointer {
        return Err(DeployError::Refused(format!(
            "flow {}: after the swap of {} a row decides where its callers are, and this file does not know the row. Name pointer.table as \
             before",
            plan.flow, before.id
        )));
    }
    Ok(())
}

/// Whether what is published now reaches no caller.
async fn nobody_there<L: Ledger, P: Parameters, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    opened: &Opened,
    plan: &Plan,
) -> Result<(), DeployError> {
    let (flow, canary) = (&plan.flow, &plan.canary.flow_id);
    let weight = ports.parameters.read(flow).await.map_err(DeployError::failed)?.weight();
    // After a swap the percentage says so too, and the row is what has to be changed.
    let before = opened.rollout.as_ref().map(|rollout| &rollout.plan);
    for table in [Some(plan), before].into_iter().flatten().filter_map(pointer::table_of) {
        let row = ports.flows.pointer(table, flow).await.map_err(DeployError::failed)?;
        if row.is_some_and(|row| row.weight == Weight::FULL || row.active_flow == *canary) {
            return Err(DeployError::Refused(format!(
                "flow {flow}: row {flow} of data table {table} sends the calls to canary flow {canary}, as after a swap, and a publication \
                 would reach them at once. Check the version in without publishing it, name it as canary.version, and `serin start`: the \
                 rollout leads callers to the stable flow before it publishes"
            )));
        }
    }
    if weight > Weight::ZERO {
        return Err(DeployError::Refused(format!(
            "flow {flow}: the percentage is {weight}, so callers are in canary flow {canary}, and a publication would reach them at once. \
             Set it to 0 first"
        )));
    }
    of_no_other(ports.ledger, plan).await
}

/// Whether no rollout of another flow sends callers there, or compares with what runs there.
async fn of_no_other(ledger: &impl Ledger, plan: &Plan) -> Result<(), DeployError> {
    let canary = &plan.canary.flow_id;
    for active in ledger.active().await.map_err(DeployError::failed)? {
        if active.flow == plan.flow {
            continue;
        }
        let Some(other) = open(ledger, &active.flow).await.map_err(DeployError::failed)?.rollout else { continue };
        if !other.phase.is_finished() && [other.plan.stable_flow(), &other.plan.canary.flow_id].contains(&canary.as_str()) {
            return Err(DeployError::Refused(format!(
                "flow {}: rollout {} of {} stands at {} and uses flow {canary} too, so a publication may reach its callers. Wait for its end, \
                 or give each flow a canary flow of its own",
                plan.flow, other.id, active.flow, other.phase
            )));
        }
    }
    Ok(())
}

/// The canary flow before the publication.
struct Before<'a> {
    flow: &'a str,
    /// What it ran.
    version: String,
    /// What it ever ran.
    known: Vec<String>,
}

impl<'a> Before<'a> {
    async fn of<L, P, F: Executing, N, C>(ports: &Ports<'_, L, P, F, N, C>, flow: &'a str) -> Result<Before<'a>, FlowError> {
        let state = ports.flows.flow(flow).await?;
        unlocked(flow, &state)?;
        if state.is_busy() {
            return Err(FlowError::TryLater(format!("an operation runs on canary flow {flow}: wait for its end")));
        }
        Ok(Before { flow, version: published(flow, &state)?, known: ports.flows.published_versions(flow).await? })
    }

    /// The version that a file made which was handed over, whether the end of its publication was seen or not.
    async fn came_out<L, P, F: Executing, N, C: Clock>(
        &self,
        ports: &Ports<'_, L, P, F, N, C>,
        seen: Result<(), String>,
    ) -> Result<String, DeployError> {
        let mut last = Ok(None);
        for n in 0..POLLS {
            if n > 0 {
                ports.clock.sleep(POLL).await;
            }
            last = self.look(ports).await;
            if let Ok(Some(now)) = &last {
                return if now.is_one_publication() { Ok(now.version.clone()) } else { Err(self.taken(now, seen)) };
            }
        }
        Err(self.unseen(seen, last.err()))
    }

    /// What the flow runs in place of what it ran; `None` as long as it does not.
    async fn look<L, P, F: Executing, N, C>(&self, ports: &Ports<'_, L, P, F, N, C>) -> Result<Option<Now>, FlowError> {
        let state = ports.flows.flow(self.flow).await?;
        let Some(version) = state.published.clone().filter(|version| !state.is_busy() && *version != self.version) else {
            return Ok(None);
        };
        let new: BTreeSet<String> =
            ports.flows.published_versions(self.flow).await?.into_iter().filter(|version| !self.known.contains(version)).collect();
        // The list may be behind.
        let is_listed = new.contains(&version) || self.known.contains(&version);
        Ok(is_listed.then_some(Now { version, by: state.published_by, new }))
    }

    /// Somebody else published meanwhile.
    fn taken(&self, now: &Now, seen: Result<(), String>) -> DeployError {
        let Before { flow, version: before, .. } = self;
        let by = now.by.as_ref().map(|by| format!(", published by {by}")).unwrap_or_default();
        let new = match now.new.is_empty() {
            true => "nothing".to_owned(),
            false => now.new.iter().cloned().collect::<Vec<_>>().join(", "),
        };
        let said = seen.err().map(|said| format!(". Of the file it is said: {said}")).unwrap_or_default();
        DeployError::Unfinished(format!(
            "canary flow {flow} ran version {before} and runs {} now{by}; new since then: {new}. Somebody else publishes into it, and what this \
             file made is not told apart from that{said}. No caller gets there; look at the flow in Architect: `serin start` with the file's \
             version as canary.version if it is there, deploy again if not",
            now.version
        ))
    }

    /// The vendor goes by names, and somebody changed one.
    fn elsewhere(&self, flow: &str) -> DeployError {
        let Before { flow: canary, version, .. } = self;
        DeployError::Unfinished(format!(
            "the file is live in flow {flow}, and its callers get it: Genesys Cloud published it there instead of into canary flow {canary}, \
             which ran version {version}. In Architect, publish what flow {flow} ran before, look at the names of both flows, then deploy again"
        ))
    }

    fn unseen(&self, seen: Result<(), String>, look: Option<FlowError>) -> DeployError {
        let Before { flow, version: before, .. } = self;
        let said = match (seen, look) {
            (Err(said), _) => said,
            (Ok(()), Some(error)) => error.to_string(),
            (Ok(()), None) => "Genesys Cloud says that it was published, and the flow does not show it".to_owned(),
        };
        DeployError::Unfinished(format!(
            "no new version of canary flow {flow} was seen: {said}. It ran {before}, and may run the new one by now or later; no caller gets there \
             either way. Look at the flow in Architect: `serin start` with the version as canary.version if it is there, deploy again if not"
        ))
    }
}

/// The canary flow after a publication.
struct Now {
    version: String,
    /// Who published that, as far as it is told, if it was not us.
    by: Option<String>,
    /// What was published into it since it was looked at before.
    new: BTreeSet<String>,
}

impl Now {
    /// Whether nobody but us published.
    fn is_one_publication(&self) -> bool {
        self.by.is_none() && self.new.len() == 1 && self.new.contains(&self.version)
    }
}
