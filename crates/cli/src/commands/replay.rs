//! `serin replay`: what policies would have done with a recorded history.

use crate::failure::{Code, Failure, Outcome};
use crate::output::{Items, Output};
use crate::{protocol, recording};
use anyhow::anyhow;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// JSON lines of decision protocol 1, or of `serin ledger export FLOW`
    #[arg(required_unless_present = "stdio")]
    file: Option<PathBuf>,
    /// Compare this one: sequential, threshold, hysteresis, consecutive, not-worse, or a YAML file (a policy or a rollout file).
    /// May be given several times; without it, all five rules and the policy of the recording
    #[arg(long, value_name = "NAME|FILE")]
    policy: Vec<String>,
    /// Speak decision protocol 1 on standard input and output instead, one JSON line each
    #[arg(long, conflicts_with_all = ["file", "policy"])]
    stdio: bool,
}

pub(crate) fn run(args: &Args, output: Output) -> Outcome {
    let Some(file) = &args.file else {
        protocol::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
        return Ok(Code::Done);
    };
    let asked = args.policy.iter().map(|name| recording::asked(name)).collect::<anyhow::Result<Vec<_>>>().map_err(Failure::not_accepted)?;
    let recordings = recording::read(file).map_err(Failure::not_accepted)?;
    let compared = recordings.iter().map(|recording| recording::compare(recording, &asked).map_err(|why| anyhow!(why)));
    let items = compared.collect::<anyhow::Result<Vec<_>>>().map_err(Failure::not_accepted)?;
    let compared = Items { items };
    output.tell("Replay", &compared, || compared.items.iter().map(recording::table).collect::<Vec<_>>().join("\n"))?;
    Ok(Code::Done)
}
