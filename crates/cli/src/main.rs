//! serin, the operator's and the pipeline's tool.
#![allow(clippy::print_stdout)] // what a command has to say goes to standard output

mod file;
mod replay;
mod show;

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use serin_aws::{DynamoLedger, ParameterStore, WallClock};
use serin_controller::intervene::{Action, Request, gate, intervene, start};
use serin_controller::ports::{Ledger, Parameters};
use serin_controller::record::open;
use serin_core::rollout::FlowName;
use std::path::PathBuf;
use std::process::ExitCode;

/// Roll out Genesys Cloud Architect flow changes a few callers at a time.
///
/// AWS profile, region, credentials and endpoint are taken from the environment, as in the AWS CLI.
#[derive(Parser)]
#[command(name = "serin", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Place {
    /// Stage to work on
    #[arg(long, env = "SERIN_STAGE", default_value = "prod", global = true)]
    stage: String,
    /// Ledger table (default: serin-STAGE-ledger)
    #[arg(long, env = "SERIN_LEDGER_TABLE", global = true)]
    table: Option<String>,
    /// How to print
    #[arg(long, short, value_enum, default_value = "table", global = true)]
    output: Output,
    /// The rollout's time, RFC 3339; only on the stage `local`, whose clock is the events'
    #[arg(long, env = "SERIN_TIME", global = true)]
    time: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Check a rollout file; nothing is contacted
    Validate {
        /// Rollout file (YAML)
        file: PathBuf,
    },
    /// Open a rollout: the canary version is published, then calls move step by step
    Start {
        /// Rollout file (YAML)
        file: PathBuf,
        #[command(flatten)]
        why: Why,
    },
    /// Where rollouts stand
    Status {
        /// One flow; without it, every flow that is watched
        flow: Option<FlowName>,
    },
    /// What was recorded of the latest rollout, oldest first, chain checked
    Ledger {
        /// The flow
        flow: FlowName,
    },
    /// Hold a rollout at its weight
    Pause(On),
    /// Let a paused rollout go on
    Resume(On),
    /// End a rollout: calls go to stable at once
    Abort(On),
    /// End a rollout: calls go to stable at once, and the canary flow is put back
    Rollback(On),
    /// Say that things were put right by hand after NeedsHuman
    Clear(On),
    /// Let the sequential judge decide histories that a harness plays; nothing is contacted
    Replay {
        /// Speak decision protocol 1 on standard input and output, one JSON line each
        #[arg(long, required = true)]
        stdio: bool,
    },
    /// May a flow be deployed now? 0 yes, 10 a rollout is not finished, 11 lockout, 20 could not tell (a no)
    Gate {
        /// The flow
        flow: FlowName,
    },
}

#[derive(Args)]
struct On {
    /// The flow
    flow: FlowName,
    #[command(flatten)]
    why: Why,
}

#[derive(Args)]
struct Why {
    /// Why; recorded in the ledger
    #[arg(long)]
    reason: String,
    /// Who; recorded in the ledger
    #[arg(long, env = "SERIN_BY", default_value_t = std::env::var("USER").unwrap_or_else(|_| "unknown".into()))]
    by: String,
}

/// Exit code of a command that could not be done.
const FAILED: u8 = 1;
/// Exit code of a gate that could not tell.
const COULD_NOT_TELL: u8 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let asks_gate = matches!(cli.command, Command::Gate { .. });
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if asks_gate { COULD_NOT_TELL } else { FAILED })
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { place, command } = cli;
    if let Command::Validate { file } = &command {
        let plan = file::read(file)?;
        println!(
            "{}: accepted: flow {}, version {} of canary flow {}",
            file.display(),
            plan.flow,
            plan.canary.version,
            plan.canary.flow_id
        );
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Replay { .. } = command {
        replay::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    if place.time.is_some() && place.stage != "local" {
        return Err(anyhow!("--time is not accepted on stage {}: only the stage `local` runs by the events' time", place.stage));
    }
    // A file is refused before anything is contacted.
    let plan = match &command {
        Command::Start { file, .. } => Some(file::read(file)?),
        _ => None,
    };
    let aws = serin_aws::load().await;
    let table = place.table.clone().unwrap_or_else(|| format!("serin-{}-ledger", place.stage));
    let ledger = DynamoLedger::new(&aws, table);
    let parameters = ParameterStore::new(&aws, place.stage.clone());
    let now = place.time.unwrap_or_else(Timestamp::now);
    match command {
        Command::Validate { .. } | Command::Replay { .. } => {}
        Command::Start { why, .. } => {
            let plan = plan.context("a start has a file")?;
            let flow = plan.flow.clone();
            let id = start(&ledger, &WallClock, plan, &request(why, now)).await?;
            println!("{flow}: rollout {id} opened; `serin status {flow}` shows where it stands");
        }
        Command::Status { flow } => status(&place, &ledger, &parameters, flow).await?,
        Command::Ledger { flow } => {
            let opened = open(&ledger, &flow).await?;
            show::ledger(&opened, place.output == Output::Json)?;
        }
        Command::Pause(on) => act(&ledger, &parameters, on, Action::Pause, now).await?,
        Command::Resume(on) => act(&ledger, &parameters, on, Action::Resume, now).await?,
        Command::Abort(on) => act(&ledger, &parameters, on, Action::Abort, now).await?,
        Command::Rollback(on) => act(&ledger, &parameters, on, Action::Rollback, now).await?,
        Command::Clear(on) => act(&ledger, &parameters, on, Action::Clear, now).await?,
        Command::Gate { flow } => {
            let answer = gate(&ledger, &WallClock, &flow).await?;
            println!("{flow}: {answer}");
            return Ok(ExitCode::from(answer.exit_code()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn request(why: Why, now: Timestamp) -> Request {
    Request { by: why.by, reason: why.reason, now }
}

async fn act(ledger: &DynamoLedger, parameters: &ParameterStore, on: On, action: Action, now: Timestamp) -> anyhow::Result<()> {
    let rollout = intervene(ledger, parameters, &WallClock, &on.flow, action, &request(on.why, now)).await?;
    println!("{}: rollout {} stands at {}", on.flow, rollout.id, rollout.phase);
    Ok(())
}

async fn status(place: &Place, ledger: &DynamoLedger, parameters: &ParameterStore, flow: Option<FlowName>) -> anyhow::Result<()> {
    let flows = match flow {
        Some(flow) => vec![flow],
        None => ledger.active().await?.into_iter().map(|active| active.flow).collect(),
    };
    let mut lines = Vec::new();
    for flow in flows {
        let opened = open(ledger, &flow).await?;
        let seen = parameters.read(&flow).await?;
        let windows = match &opened.rollout {
            Some(rollout) => ledger.windows(&flow, &rollout.id, rollout.in_force.since).await?,
            None => Vec::new(),
        };
        lines.push(show::Line::of(flow, &opened, &seen, &windows));
    }
    show::status(&lines, place.output == Output::Json)
}
