//! `serin retry`: opens the flow's latest rollout once more.

use crate::commands::gate::Turn;
use crate::commands::start::{self, Volume};
use crate::failure::{Failure, Outcome};
use crate::site::{Place, Why};
use anyhow::anyhow;
use serin_controller::record::open;
use serin_core::policy::LowVolume;
use serin_core::rollout::FlowName;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow
    flow: FlowName,
    #[command(flatten)]
    volume: Volume,
    #[command(flatten)]
    turn: Turn,
    /// Do not ask, where all calls would go at once
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    why: Why,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let site = place.connect().await?;
    let Some(before) = open(&site.ledger, &args.flow).await?.rollout else {
        return Err(Failure::refused(anyhow!(
            "flow {} has had no rollout to open again; `serin start FILE` opens the first. Nothing was changed",
            args.flow
        )));
    };
    let mut plan = before.plan;
    // What was said of the volume was said for then: all calls at once at night are not all calls at once at noon.
    plan.policy.low_volume = LowVolume::default();
    start::open(&site, args.volume.of(plan, args.yes || args.why.dry_run)?, &args.turn, &args.why).await
}
