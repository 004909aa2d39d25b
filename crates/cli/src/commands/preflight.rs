//! `serin preflight`: what would be in the way of a rollout, before anything is changed.

use crate::failure::{Code, Failure, Outcome};
use crate::file;
use crate::genesys::Client;
use crate::progress::Progress;
use crate::site::{Place, Site};
use serde::Serialize;
use serin_aws::{DynamoLedger, ParameterStore, WallClock};
use serin_controller::evaluate::RolloutClock;
use serin_controller::intervene::{Gate, gate};
use serin_controller::preflight::look;
use serin_controller::work::{Ports, Run};
use serin_core::rollout::{FlowName, Snapshot};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rollout file (YAML)
    file: PathBuf,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    flow: FlowName,
    ready: bool,
    /// What is in the way, each with what to do about it.
    problems: Vec<String>,
    /// What stands in Genesys Cloud: the way back.
    snapshot: Snapshot,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let plan = file::read(&args.file).map_err(Failure::not_accepted)?;
    let site = place.connect().await?;
    let genesys = site.genesys().connect().map_err(Failure::not_accepted)?;
    let progress = Progress::begin(&format!("looking at what a rollout of {} needs", plan.flow));
    let mut looked = look(&ports(&site, &genesys), &site.as_run(), &plan).await?;
    progress.end();
    match gate(&site.ledger, &WallClock, &plan.flow, site.now, None).await? {
        Gate::Open => {}
        closed => looked.problems.insert(0, format!("`serin start` would be refused now: the gate is {closed}")),
    }
    let ready = looked.problems.is_empty();
    let found = Found { flow: plan.flow.clone(), ready, problems: looked.problems, snapshot: looked.snapshot };
    site.output.tell("Preflight", &found, || {
        let Snapshot { stable_version, rollback_target, .. } = &found.snapshot;
        let stands = format!("stable runs version {stable_version}; the canary flow would go back to version {rollback_target}");
        match ready {
            true => format!("{}: nothing is in the way; {stands}", found.flow),
            false => {
                found.problems.iter().fold(format!("{}: not ready; {stands}", found.flow), |text, problem| format!("{text}\n  - {problem}"))
            }
        }
    })?;
    Ok(if ready { Code::Done } else { Code::No })
}

/// What the use cases that look at Genesys Cloud need. Nothing is told by them.
pub(crate) fn ports<'a>(site: &'a Site, genesys: &'a Client) -> Ports<'a, DynamoLedger, ParameterStore, Client, (), WallClock> {
    Ports { ledger: &site.ledger, parameters: &site.parameters, flows: genesys, notifier: &(), clock: &WallClock }
}

impl Site {
    /// A run of such a use case.
    pub(crate) fn as_run(&self) -> Run {
        Run {
            time: self.now,
            clock: RolloutClock::Event,
            id: format!("serin {}", self.now),
            stage: self.stage.clone(),
            region: self.aws.region().map(ToString::to_string),
        }
    }
}
