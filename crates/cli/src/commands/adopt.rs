//! `serin adopt`: leads a number to the traffic cop instead of to its flow, or back.

use crate::failure::{Code, Failure, Outcome};
use crate::genesys::Adoption;
use crate::site::Place;
use crate::{ask, file};
use anyhow::anyhow;
use jiff::Timestamp;
use serde_json::json;
use serin_aws::WallClock;
use serin_controller::intervene::{Gate, gate};
use serin_core::rollout::Strategy;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rollout file (YAML); its stable flow is what callers have without the traffic cop
    file: PathBuf,
    /// IVR configuration (id)
    #[arg(long)]
    ivr: String,
    /// The traffic cop (flow id)
    #[arg(long)]
    cop: String,
    /// The other way: from the traffic cop back to the flow
    #[arg(long)]
    undo: bool,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let plan = file::read(&args.file).map_err(Failure::not_accepted)?;
    if plan.strategy == Strategy::InFlow || plan.strategy == Strategy::PublishWatch {
        let reason = anyhow!("strategy {} needs no traffic cop: there is nothing to adopt", plan.strategy.name());
        return Err(Failure::not_accepted(reason));
    }
    let site = place.connect().await?;
    // In the middle of a rollout the way back would take its canary's calls along.
    match gate(&site.ledger, &WallClock, &plan.flow, Timestamp::now(), None).await? {
        Gate::RolloutUnfinished { rollout, phase } => {
            let reason = anyhow!("flow {}: rollout {rollout} stands at {phase}; end it first. Nothing was changed", plan.flow);
            return Err(Failure::refused(reason));
        }
        // The way back is for emergencies too.
        Gate::Open => {}
        _ if args.undo => {}
        closed => return Err(Failure::refused(anyhow!("flow {}: the gate is {closed}. Nothing was changed", plan.flow))),
    }
    let adoption =
        Adoption::plan(site.genesys().connect().map_err(Failure::not_accepted)?, &args.ivr, plan.stable_flow(), &args.cop, args.undo)
            .await?;
    if args.dry_run {
        let looked = json!({"changed": false, "described": adoption.described()});
        site.output.tell("Adoption", &looked, || {
            format!("{}\nNothing was changed; without --dry-run it is done once you say yes.", adoption.described())
        })?;
        return Ok(Code::Done);
    }
    ask::confirm(args.yes, &adoption.described())?;
    let version = adoption.apply().await?;
    let done = json!({"changed": true, "described": adoption.described(), "ivr_version": version});
    site.output.tell("Adoption", &done, || {
        let back = if args.undo { "--undo is done" } else { "--undo takes it back" };
        format!("{}\ndone: the IVR has version {version} now; {back}", adoption.described())
    })?;
    Ok(Code::Done)
}
