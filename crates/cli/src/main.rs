//! serin, the operator's and the pipeline's tool.
#![allow(clippy::print_stdout)] // what a command has to say goes to standard output

mod calendar;
mod file;
mod genesys;
mod history;
mod plan;
mod replay;
mod show;
mod verify;

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use serin_aws::{DynamoLedger, ParameterStore, SnsNotifier, WallClock};
use serin_controller::evaluate::recall;
use serin_controller::intervene::{Action, Gate, Request, gate, intervene, start};
use serin_controller::outbox;
use serin_controller::ports::{Ledger, Parameters};
use serin_controller::record::open;
use serin_core::calendar::Kind;
use serin_core::ledger::StoredEntry;
use serin_core::policy::LowVolume;
use serin_core::rollout::{FlowName, Plan, Rollout, Strategy};
use serin_core::summary::hour;
use std::io::Write;
use std::path::{Path, PathBuf};
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
    /// Genesys Cloud's API, such as https://api.mypurecloud.com; only `adopt` and rollouts by a row of a data table need it
    #[arg(long, env = "GENESYS_API", global = true)]
    genesys_api: Option<String>,
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
        /// Rollout file (YAML); `serin plan FILE` tells before what it can see, and by when
        file: PathBuf,
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
        #[command(flatten)]
        why: Why,
    },
    /// Where rollouts stand
    Status {
        /// One flow; without it, every flow that is watched
        flow: Option<FlowName>,
    },
    /// What was recorded of a flow: show it, check it, copy it
    #[command(subcommand)]
    Ledger(Records),
    /// What a rollout could see, and by when, at so many calls an hour; nothing is contacted
    Plan(plan::Args),
    /// Hold a rollout at its weight
    Pause(On),
    /// Let a paused rollout go on
    Resume(On),
    /// Say yes to the next step of a rollout that asks (`mode: advise`)
    ///
    /// The weight rises at the next tick that finds the canary healthy. One yes is for one step, and taking calls back never waits
    /// for anybody.
    Approve(On),
    /// End a rollout: calls go to stable at once
    Abort(On),
    /// End a rollout: calls go to stable at once, and the canary flow is put back
    Rollback(On),
    /// Send all calls of a rollout to one side at once, for the day on which the other is the broken one
    Intervene {
        #[command(flatten)]
        on: On,
        /// Which side. `stable` ends the rollout, as `serin abort` does; `canary` lets it go on with all calls, at the next tick
        #[arg(long, value_enum)]
        to: Side,
    },
    /// Say that things were put right by hand after NeedsHuman
    Clear(On),
    /// Times in which errors are expected
    Maintenance {
        #[command(subcommand)]
        what: calendar::Maintenance,
    },
    /// Set a time in which nothing starts and nothing rises; a failed verdict rolls back as ever
    ///
    /// `serin maintenance list` shows it, `serin maintenance end` ends it before its time.
    Freeze(calendar::Period),
    /// Take all calls of every rollout to stable, and let nothing start or rise until --end
    StopAll {
        /// End the stop
        #[arg(long)]
        end: bool,
        #[command(flatten)]
        why: Why,
    },
    /// What policies would have done with a recorded history, side by side; nothing is contacted
    Replay {
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
    },
    /// Lead a number to the traffic cop instead of to its flow, or back
    ///
    /// Says what is there, what comes and what changes in reports. Changes something only with --yes: the open hours' flow of one IVR
    /// configuration, on the version that was looked at.
    Adopt {
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
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// May a flow be deployed now? 0 yes, 10 a rollout is not finished, 11 lockout, 12 maintenance, freeze or stop, 20 could not tell (a no)
    Gate {
        /// The flow
        flow: FlowName,
    },
}

/// Where calls go.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Side {
    /// To the canary flow
    Canary,
    /// To the stable flow
    Stable,
}

#[derive(Subcommand)]
enum Records {
    /// What was recorded of the latest rollout, oldest first, its chain checked
    Show {
        /// The flow
        flow: FlowName,
    },
    /// Is the whole ledger what it was? 0 yes, 10 no, 20 could not tell (a no)
    ///
    /// Reads every entry since the flow is known and checks the chain of hashes from the first to the head, that every rollout can
    /// have happened, and the entry that an anchor names.
    Verify(verify::Args),
    /// Copy the latest rollout as JSON lines: the stored entries byte for byte, then what was measured, minute by minute
    ///
    /// For `serin replay` and `serin ledger verify --file`. Measurements are kept for 90 days, entries for ever.
    Export {
        /// The flow
        flow: FlowName,
        /// Every rollout since the flow is known, to keep and to check; `serin replay` wants one that was measured
        #[arg(long)]
        all: bool,
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
/// Exit code of a ledger that is not what it was.
const BROKEN: u8 = 10;
/// Exit code of a gate or a check that could not tell.
const COULD_NOT_TELL: u8 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let tells = matches!(cli.command, Command::Gate { .. } | Command::Ledger(Records::Verify(_)));
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if tells { COULD_NOT_TELL } else { FAILED })
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
    match &command {
        Command::Replay { file: Some(file), policy, .. } => {
            replayed(file, policy, place.output == Output::Json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Replay { .. } => {
            replay::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Plan(args) => {
            plan::show(args, place.output == Output::Json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Ledger(Records::Verify(args @ verify::Args { file: Some(file), .. })) => return verify::copy(file, args, place.output),
        _ => {}
    }
    if place.time.is_some() && place.stage != "local" {
        return Err(anyhow!("--time is not accepted on stage {}: only the stage `local` runs by the events' time", place.stage));
    }
    // A file is refused before anything is contacted.
    let plan = match &command {
        Command::Adopt { file, .. } => Some(file::read(file)?),
        Command::Start { file, accept_low_power, off_hours_full, .. } => {
            let mut plan = file::read(file)?;
            if *accept_low_power {
                plan.policy.low_volume = LowVolume::Accept;
            } else if *off_hours_full {
                plan.policy.low_volume = LowVolume::OffHoursFull;
            }
            Some(plan)
        }
        _ => None,
    };
    let aws = serin_aws::load().await;
    let table = place.table.clone().unwrap_or_else(|| format!("serin-{}-ledger", place.stage));
    let ledger = DynamoLedger::new(&aws, table);
    let parameters = ParameterStore::new(&aws, place.stage.clone());
    let now = place.time.unwrap_or_else(Timestamp::now);
    let genesys = genesys::Place { aws: &aws, stage: &place.stage, api: place.genesys_api.as_deref() };
    let hands = Hands { ledger: &ledger, parameters: &parameters, genesys: &genesys, stage: &place.stage, now };
    match command {
        Command::Validate { .. } | Command::Replay { .. } | Command::Plan(_) => {}
        Command::Start { why, .. } => {
            let plan = plan.context("a start has a file")?;
            let (flow, expected) = (plan.flow.clone(), plan::expected(&plan.policy));
            let id = start(&ledger, &parameters, &WallClock, plan, &hands.request(why)).await?;
            println!("{flow}: rollout {id} opened; `serin status {flow}` shows where it stands");
            hands.tell().await;
            if let Some(expected) = expected {
                println!("{expected}");
            }
        }
        Command::Status { flow } => status(&place, &ledger, &parameters, flow, now).await?,
        Command::Ledger(Records::Show { flow }) => show::ledger(&open(&ledger, &flow).await?, place.output == Output::Json)?,
        Command::Ledger(Records::Verify(args)) => return verify::table(&ledger, args, place.output).await,
        Command::Ledger(Records::Export { flow, all: false }) => exported(&ledger, &[open(&ledger, &flow).await?.book.entries]).await?,
        Command::Ledger(Records::Export { flow, all: true }) => {
            let archive = ledger.archive(&flow).await?;
            match archive.audit(&flow, None) {
                Ok(audited) => exported(&ledger, &audited.rollouts).await?,
                // What is stored is copied all the same: it is evidence.
                Err(broken) => {
                    print(&archive.entries.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>().join("\n"))?;
                    return Err(anyhow!("the copy has every entry as it is stored, without measurements, because {broken}"));
                }
            }
        }
        Command::Pause(on) => hands.act(on, Action::Pause).await?,
        Command::Approve(on) => hands.act(on, Action::Approve).await?,
        Command::Resume(on) => hands.act(on, Action::Resume).await?,
        Command::Abort(on) => hands.act(on, Action::Abort).await?,
        Command::Rollback(on) => hands.act(on, Action::Rollback).await?,
        Command::Intervene { on, to } => hands.act(on, if to == Side::Canary { Action::ToCanary } else { Action::Abort }).await?,
        Command::Clear(on) => hands.act(on, Action::Clear).await?,
        Command::Maintenance { what } => hands.maintenance(what, place.output == Output::Json).await?,
        Command::Freeze(period) => hands.restrict(Kind::Freeze, period).await?,
        Command::StopAll { end, why } => hands.stop_all(end, why).await?,
        Command::Adopt { ivr, cop, undo, yes, .. } => {
            let plan = plan.context("an adoption has a file")?;
            adopt(&genesys, &ledger, &plan, [&ivr, &cop], undo, yes).await?;
        }
        Command::Gate { flow } => {
            let answer = gate(&ledger, &WallClock, &flow, now, None).await?;
            println!("{flow}: {answer}");
            return Ok(ExitCode::from(answer.exit_code()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn replayed(file: &Path, policies: &[String], json: bool) -> anyhow::Result<()> {
    let asked = policies.iter().map(|name| history::asked(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let recordings = history::read(file)?;
    let compared = recordings.iter().map(|recording| history::compare(recording, &asked).map_err(|why| anyhow!(why)));
    let compared = compared.collect::<anyhow::Result<Vec<_>>>()?;
    print(&match json {
        true => serde_json::to_string_pretty(&compared)?,
        false => compared.iter().map(history::table).collect::<Vec<_>>().join("\n"),
    })
}

/// Prints what may be long. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes rollouts, each with what was measured of it.
async fn exported(ledger: &DynamoLedger, rollouts: &[Vec<StoredEntry>]) -> anyhow::Result<()> {
    for entries in rollouts.iter().filter(|entries| !entries.is_empty()) {
        let rollout = Rollout::replay(entries.iter().map(|stored| &stored.entry))?;
        let windows = match rollout.weights.first() {
            Some(first) => ledger.windows(&rollout.plan.flow, &rollout.id, hour(first.since)).await?,
            None => Vec::new(),
        };
        print(&history::export(entries, &windows).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(())
}

/// What a person's command needs.
struct Hands<'a> {
    ledger: &'a DynamoLedger,
    parameters: &'a ParameterStore,
    genesys: &'a genesys::Place<'a>,
    stage: &'a str,
    now: Timestamp,
}

impl Hands<'_> {
    fn request(&self, why: Why) -> Request {
        Request { by: why.by, reason: why.reason, now: self.now, stage: self.stage.to_owned(), holder: None }
    }

    async fn act(&self, on: On, action: Action) -> anyhow::Result<()> {
        let request = self.request(on.why);
        let rollout = intervene(self.ledger, self.parameters, self.genesys, &WallClock, &on.flow, action, &request).await?;
        println!("{}: rollout {} stands at {}", on.flow, rollout.id, rollout.phase);
        self.tell().await;
        Ok(())
    }

    /// Publishes what was recorded, and wakes the executor. What cannot be published from here is at the next tick.
    async fn tell(&self) {
        match SnsNotifier::of_stage(self.genesys.aws, self.stage).await {
            Ok(notifier) => drop(outbox::send_few(self.ledger, &notifier).await),
            Err(reason) => eprintln!("note: alerts and the executor's wake-up go out with the next tick, within a minute: {reason}"),
        }
    }
}

async fn adopt(
    genesys: &genesys::Place<'_>,
    ledger: &DynamoLedger,
    plan: &Plan,
    [ivr, cop]: [&str; 2],
    undo: bool,
    yes: bool,
) -> anyhow::Result<()> {
    if plan.strategy == Strategy::InFlow || plan.strategy == Strategy::PublishWatch {
        return Err(anyhow!("strategy {} needs no traffic cop: there is nothing to adopt", plan.strategy.name()));
    }
    // In the middle of a rollout the way back would take its canary's calls along.
    match gate(ledger, &WallClock, &plan.flow, Timestamp::now(), None).await? {
        Gate::RolloutUnfinished { rollout, phase } => {
            return Err(anyhow!("flow {}: rollout {rollout} stands at {phase}; end it first. Nothing was changed", plan.flow));
        }
        Gate::Open | Gate::Restricted(_) | Gate::Lockout { .. } | Gate::Held { .. } => {}
    }
    let adoption = genesys::Adoption::plan(genesys.connect()?, ivr, plan.stable_flow(), cop, undo).await?;
    println!("{}", adoption.described());
    match yes {
        true => println!(
            "done: the IVR has version {} now; {}",
            adoption.apply().await?,
            if undo { "--undo is done" } else { "--undo takes it back" }
        ),
        false => println!("Nothing was changed; --yes does it."),
    }
    Ok(())
}

async fn status(
    place: &Place,
    ledger: &DynamoLedger,
    parameters: &ParameterStore,
    flow: Option<FlowName>,
    now: Timestamp,
) -> anyhow::Result<()> {
    let flows = match flow {
        Some(flow) => vec![flow],
        None => ledger.active().await?.into_iter().map(|active| active.flow).collect(),
    };
    let restrictions = ledger.restrictions().await?;
    let mut lines = Vec::new();
    for flow in flows {
        let opened = open(ledger, &flow).await?;
        let seen = parameters.read(&flow).await?;
        let recalled = match &opened.rollout {
            Some(rollout) => Some(recall(ledger, &flow, rollout).await?),
            None => None,
        };
        lines.push(show::Line::of(flow, &opened, &seen, recalled.as_ref(), &restrictions, now));
    }
    show::status(&lines, place.output == Output::Json)
}
