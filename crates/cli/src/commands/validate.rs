//! `serin validate`: is a rollout file accepted?

use crate::failure::{Code, Failure, Outcome};
use crate::file;
use crate::output::Output;
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rollout file (YAML)
    file: PathBuf,
}

pub(crate) fn run(args: &Args, output: Output) -> Outcome {
    let plan = file::read(&args.file).map_err(Failure::not_accepted)?;
    let shown = args.file.display().to_string();
    output.tell("Validated", &json!({"file": shown, "accepted": true, "plan": plan}), || {
        format!(
            "{shown}: accepted: flow {}, version {} of canary flow {}, strategy {}, mode {}",
            plan.flow,
            plan.canary.version,
            plan.canary.flow_id,
            plan.strategy.name(),
            plan.policy.mode.name()
        )
    })?;
    Ok(Code::Done)
}
