//! `serin start`: opens a rollout.

use crate::commands::gate::Turn;
use crate::commands::plan;
use crate::failure::{Code, Failure, Outcome};
use crate::site::{Place, Site, Why};
use crate::{ask, file};
use serde_json::json;
use serin_aws::WallClock;
use serin_controller::intervene::{Request, start};
use serin_controller::rehearse::Rehearsal;
use serin_core::policy::LowVolume;
use serin_core::rollout::Plan;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rollout file (YAML); `serin plan FILE` tells before what it can see, and by when
    file: PathBuf,
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

/// Where hardly anybody calls.
#[derive(clap::Args)]
pub(crate) struct Volume {
    /// Start although fewer than 40 calls come in an hour
    ///
    /// Serin watches as always, but within a day it only notices a badly broken canary; anything milder reaches all callers.
    /// `serin plan FILE` has the list.
    #[arg(long, conflicts_with = "off_hours_full")]
    accept_low_power: bool,
    /// No steps: ALL calls go to the canary as soon as it is published
    ///
    /// For a night in which hardly anybody calls, with somebody awake: there is no stable left to compare with, so Serin only
    /// notices gross faults. `serin rollback FLOW --reason …` puts everything back at once.
    #[arg(long)]
    off_hours_full: bool,
}

impl Volume {
    /// The plan, with what was said of its volume. All calls at once are asked for.
    pub(crate) fn of(&self, mut plan: Plan, yes: bool) -> Result<Plan, Failure> {
        if self.off_hours_full {
            let what = format!("No steps: ALL calls of {} go to the canary as soon as it is published.", plan.flow);
            ask::confirm(yes, &what)?;
        }
        if self.accept_low_power {
            plan.policy.low_volume = LowVolume::Accept;
        } else if self.off_hours_full {
            plan.policy.low_volume = LowVolume::OffHoursFull;
        }
        Ok(plan)
    }
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    // A file is refused before anything is contacted.
    let plan = args.volume.of(file::read(&args.file).map_err(Failure::not_accepted)?, args.yes || args.why.dry_run)?;
    open(&place.connect().await?, plan, &args.turn, &args.why).await
}

/// Opens it, and says what to expect.
pub(crate) async fn open(site: &Site, plan: Plan, turn: &Turn, why: &Why) -> Outcome {
    let request = Request { holder: turn.holder(), ..site.request(why).await };
    let (flow, expected) = (plan.flow.clone(), plan::expected(&plan::reckoned(plan.clone())));
    if why.dry_run {
        let genesys = site.genesys();
        let rehearsal = Rehearsal::new(&site.ledger, &site.parameters, &genesys);
        start(&rehearsal, &rehearsal, &WallClock, plan, &request).await?;
        return site.would(&rehearsal);
    }
    let id = start(&site.ledger, &site.parameters, &WallClock, plan, &request).await?;
    site.publish().await;
    site.output.tell("Rollout", &json!({"flow": flow, "rollout": id, "phase": "Preparing", "weight": 0, "expected": expected}), || {
        let opened = format!("{flow}: rollout {id} opened; `serin status {flow}` shows where it stands");
        expected.iter().fold(opened, |text, expected| format!("{text}\n{expected}"))
    })?;
    Ok(Code::Done)
}
