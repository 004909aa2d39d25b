//! `serin deploy`: from a flow's file to a rollout: gate, preflight, publish into the canary flow, start.

use crate::commands::gate::Turn;
use crate::commands::preflight::ports;
use crate::commands::start::{self, Volume};
use crate::failure::{Code, Failure, Outcome};
use crate::genesys::Client;
use crate::output::note;
use crate::progress::Progress;
use crate::site::{Place, Site, Why};
use crate::{ask, file};
use anyhow::anyhow;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use serin_aws::WallClock;
use serin_controller::deploy::{DeployError, deploy, rehearse, stands};
use serin_controller::intervene::{Gate, gate, hold_gate, release_gate};
use serin_controller::record::open;
use serin_core::rollout::{FlowName, Plan};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rollout file (YAML); the version that comes out takes the place of its canary.version
    file: PathBuf,
    /// The flow's file (YAML, as Archy has it); its name and type must be the canary flow's
    #[arg(long, value_name = "FILE")]
    flow_yaml: PathBuf,
    #[command(flatten)]
    volume: Volume,
    #[command(flatten)]
    turn: Turn,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    why: Why,
}

/// Longer than a publish job takes.
const TURN: SignedDuration = SignedDuration::from_mins(30);

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let plan = args.volume.of(file::read(&args.file).map_err(Failure::not_accepted)?, args.yes || args.why.dry_run)?;
    let flow_yaml = flow_file(&args.flow_yaml)?;
    let site = place.connect().await?;
    let flow = plan.flow.clone();
    if args.why.dry_run {
        return would(&site, &plan, &flow_yaml, &args.turn).await;
    }
    let what =
        format!("{} is published into canary flow {}, and a rollout of {flow} is opened.", args.flow_yaml.display(), plan.canary.flow_id);
    ask::confirm(args.yes, &what)?;
    let genesys = site.genesys().connect().map_err(Failure::not_accepted)?;
    let holder = args.turn.holder().unwrap_or_else(|| format!("deploy-{:016x}", fastrand::u64(..)));
    let hold = open(&site.ledger, &flow).await?.book.hold;
    let had_turn = hold.is_some_and(|hold| hold.holder == holder && Timestamp::now() < hold.until);
    match hold_gate(&site.ledger, &WallClock, &flow, site.now, &holder, TURN).await? {
        Gate::Open => {}
        closed => {
            return Err(Failure {
                code: Code::of_gate(closed.exit_code()),
                error: anyhow!("flow {flow}: the gate is {closed}; nothing was changed"),
            });
        }
    }
    if !had_turn {
        note(&held(&flow, &holder, Timestamp::now() + TURN));
    }
    let outcome = under_way(&site, &genesys, plan, &flow_yaml, &holder, &args.why).await;
    // A turn that was taken before is given back by whoever took it.
    if !had_turn && let Err(error) = release_gate(&site.ledger, &flow, &holder).await {
        note(&format!("note: the gate of {flow} stays held for {holder} for {TURN:#} at most: {error}"));
    }
    outcome
}

/// Said at once: whoever is stopped in the middle gives nothing back.
fn held(flow: &FlowName, holder: &str, until: Timestamp) -> String {
    format!(
        "the gate of {flow} is held for {holder} until {until:.0} at most; should this be cut short, \
         `serin gate {flow} --release --holder {holder}` gives it back"
    )
}

async fn under_way(site: &Site, genesys: &Client, plan: Plan, flow_yaml: &str, holder: &str, why: &Why) -> Outcome {
    let progress = Progress::begin(&format!("looking, then publishing into canary flow {}", plan.canary.flow_id));
    let deployed = deploy(&ports(site, genesys), &site.as_run(), &plan, flow_yaml).await;
    progress.end();
    let plan = deployed.map_err(failure)?;
    note(&format!("published: canary flow {} runs version {}", plan.canary.flow_id, plan.canary.version));
    let stands = stands(&plan);
    let turn = Turn::of(holder);
    let opened = start::open(site, plan, &turn, why).await;
    opened.map_err(|failure| Failure { error: anyhow!("{:#}. {stands}", failure.error), code: Code::Failed })
}

fn failure(error: DeployError) -> Failure {
    match error {
        DeployError::Refused(_) => Failure::refused(error),
        DeployError::Failed(_) | DeployError::Unfinished(_) => Failure::from(error),
    }
}

/// What would be done, as far as it can be seen without publishing.
async fn would(site: &Site, plan: &Plan, flow_yaml: &str, turn: &Turn) -> Outcome {
    let gate = gate(&site.ledger, &WallClock, &plan.flow, site.now, turn.holder().as_deref()).await?;
    if gate != Gate::Open {
        let error = anyhow!("flow {}: the gate is {gate}; nothing was changed", plan.flow);
        return Err(Failure { code: Code::of_gate(gate.exit_code()), error });
    }
    let genesys = site.genesys().connect().map_err(Failure::not_accepted)?;
    let progress = Progress::begin(&format!("looking at what is in the way of a version of canary flow {}", plan.canary.flow_id));
    let looked = rehearse(&ports(site, &genesys), &site.as_run(), plan, flow_yaml).await;
    progress.end();
    let version = looked.map_err(failure)?;
    let would = [
        format!("would hold the gate of {}", plan.flow),
        format!("would publish the file into canary flow {}, which runs version {version}", plan.canary.flow_id),
        format!("would open a rollout of {} with the version that comes out", plan.flow),
    ];
    site.output.tell("DryRun", &json!({"flow": plan.flow, "would": would}), || format!("{}\nnothing was changed", would.join("\n")))?;
    Ok(Code::Done)
}

/// The most that a flow's file may have.
const MOST_BYTES: u64 = 20 * 1024 * 1024;

fn flow_file(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let read = || -> anyhow::Result<String> {
        let length = std::fs::metadata(path)?.len();
        if length > MOST_BYTES {
            return Err(anyhow!("{length} bytes are too many: at most {MOST_BYTES} are accepted"));
        }
        Ok(std::fs::read_to_string(path)?)
    };
    read().map_err(|error| Failure::not_accepted(error.context(format!("flow file {shown} cannot be read"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_the_gate_is_told_how_to_give_it_back() {
        let until = "2026-11-20T09:30:00.25Z".parse().unwrap();
        assert_eq!(
            held(&"main_ivr".parse().unwrap(), "deploy-00c0ffee", until),
            "the gate of main_ivr is held for deploy-00c0ffee until 2026-11-20T09:30:00Z at most; should this be cut short, \
             `serin gate main_ivr --release --holder deploy-00c0ffee` gives it back"
        );
    }
}
