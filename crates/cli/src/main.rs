//! serin, the operator's and the pipeline's tool.
//!
//! `main` parses and dispatches; each command is a module of [`commands`], [`site`] knows where it works, [`output`] how it speaks, and
//! [`failure`] with which exit code it ends.

mod ask;
mod commands;
mod contexts;
mod failure;
mod file;
mod genesys;
mod output;
mod progress;
mod protocol;
mod recording;
#[cfg(test)]
mod reference;
mod site;
mod view;
mod who;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use commands::{
    act, adopt, completions, context, deploy, doctor, explain, gate, history, init, ledger, plan, preflight, quarantine, replay, report,
    restrictions, retry, schema, start, status, validate,
};
use failure::{Code, Failure, Outcome};
use output::{Output, note};
use serde_json::json;
use serin_controller::intervene::Action;
use serin_core::calendar::Kind;
use site::Place;

/// Roll out Genesys Cloud Architect flow changes a few callers at a time.
///
/// AWS profile, region, credentials and endpoint are taken from the environment, as in the AWS CLI, or from a context (`serin context`).
#[derive(Parser)]
#[command(name = "serin", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "In an emergency no tool is needed: set the parameter /genesys/canary/STAGE/FLOW/percentage to 0.";

#[derive(Subcommand)]
enum Command {
    /// Write a rollout file to begin with, explained line by line
    Init(init::Args),
    /// Check a rollout file; nothing is contacted
    Validate(validate::Args),
    /// What a rollout could see, and by when, at so many calls an hour; nothing is contacted
    Plan(plan::Args),
    /// What would be in the way of a rollout: looks at everything it needs, and changes nothing. 0 nothing, 10 something
    ///
    /// Data actions that the rollout file names are asked with their test inputs.
    Preflight(preflight::Args),
    /// From a flow's file to a rollout: gate, preflight, publish into the canary flow, start
    ///
    /// Holds the gate meanwhile. What comes out is a version of the canary flow that no caller reaches until the rollout moves calls there.
    Deploy(deploy::Args),
    /// Lead a number to the traffic cop instead of to its flow, or back
    ///
    /// Says what is there, what comes and what changes in reports, then asks. Changes the open hours' flow of one IVR configuration, on the
    /// version that was looked at.
    Adopt(adopt::Args),
    /// Open a rollout: the canary version is published, then calls move step by step
    Start(start::Args),
    /// Where rollouts stand
    ///
    /// Read from the ledger and the parameters alone: it answers also when Genesys Cloud does not.
    Status(status::Args),
    /// Why a rollout stands where it stands, what would change it, and how it got there
    Explain(explain::Args),
    /// Hold a rollout at its weight
    Pause(act::On),
    /// Let a paused rollout go on
    Resume(act::On),
    /// Say yes to the next step of a rollout that asks (`mode: advise`)
    ///
    /// The weight rises at the next tick that finds the canary healthy. One yes is for one step, and taking calls back never waits
    /// for anybody.
    Approve(act::On),
    /// Go on to the next step at the next tick, without waiting for more evidence
    ///
    /// What speaks against the canary still holds or rolls back: a failed verdict, missing measurements, a freeze.
    Advance(act::Hastened),
    /// Go on to 100 % at the next tick, without waiting for more evidence
    ///
    /// What speaks against the canary still holds or rolls back. The rollout bakes at 100 % as ever.
    Promote(act::Hastened),
    /// End a rollout: calls go to stable at once
    Abort(act::On),
    /// End a rollout: calls go to stable at once, and the canary flow is put back
    Rollback(act::On),
    /// Send all calls of a rollout to one side at once, for the day on which the other is the broken one
    Intervene(act::Intervention),
    /// Open the latest rollout of a flow once more, as its file was
    Retry(retry::Args),
    /// Say that things were put right by hand after NeedsHuman
    Clear(act::On),
    /// Let a configuration be rolled out again that was rolled back
    ClearQuarantine(quarantine::Args),
    /// Times in which errors are expected
    #[command(subcommand)]
    Maintenance(restrictions::Maintenance),
    /// Set a time in which nothing starts and nothing rises; a failed verdict rolls back as ever
    ///
    /// `serin maintenance list` shows it, `serin maintenance end` ends it before its time.
    Freeze(restrictions::Period),
    /// Take all calls of every rollout to stable, and let nothing start or rise until --end
    StopAll(restrictions::StopAll),
    /// The rollouts that a flow has had
    History(history::Args),
    /// What Serin would have done with rollouts that it only observed, beside what people did
    Report(report::Args),
    /// What was recorded of a flow: show it, check it, copy it
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// What policies would have done with a recorded history, side by side; nothing is contacted
    Replay(replay::Args),
    /// May a flow be deployed now? For pipelines, which can also take their turn
    ///
    /// Exit code 0 yes, 10 a rollout is not finished or another pipeline has its turn, 11 lockout after a rollback, 12 maintenance, freeze or
    /// stop, 20 could not tell within a second (a no).
    Gate(gate::Args),
    /// Is everything there that a rollout needs, and is it well? 0 yes, 10 no, 20 could not tell
    ///
    /// Looks at permissions on both sides, clocks, schedules, regions, alarms, quotas, and whether ledger, parameters, rows and calls agree. What
    /// nobody may look at is said to be unknown.
    Doctor(doctor::Args),
    /// Several installations, accounts and organizations by name
    #[command(subcommand)]
    Context(context::Command),
    /// What a shell needs to complete command lines
    Completions(completions::Args),
    /// The JSON Schema of the rollout file, for editors and checks
    Schema,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ! {
    let Cli { place, command } = parsed();
    // Whoever asked a question takes any other code for an answer.
    let answers = matches!(command, Command::Gate(_) | Command::Ledger(ledger::Command::Verify(_)));
    let output = place.output;
    if let Command::Gate(args) = &command {
        gate::watch_over(args, output);
    }
    let code = run(command, &place).await.unwrap_or_else(|Failure { code, error }| {
        let code = if answers && code != Code::NotAccepted { Code::CouldNotTell } else { code };
        tell(&error, code, output);
        code
    });
    // Not by returning, which would wait for a look-up that hangs.
    std::process::exit(code as i32)
}

/// The command line; of what it does not say, what the environment does.
fn parsed() -> Cli {
    let given: Vec<String> = std::env::args().collect();
    let matches = Cli::command().try_get_matches().unwrap_or_else(|error| {
        // For programs a refusal is a document too.
        let wanted = given.iter().zip(given.iter().skip(1)).find_map(|(option, value)| match option.as_str() {
            "-o" | "--output" => Output::from_str(value, true).ok(),
            _ => None,
        });
        match wanted.filter(|output| *output != Output::Table && error.use_stderr()) {
            Some(output) => {
                tell(&anyhow::anyhow!("{}", error.to_string().trim().trim_start_matches("error: ")), Code::NotAccepted, output);
                std::process::exit(Code::NotAccepted as i32)
            }
            None => error.exit(),
        }
    });
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut innermost = &matches;
    while let Some((_, below)) = innermost.subcommand() {
        innermost = below;
    }
    let is_environments = |name: &&'static str| innermost.value_source(name) == Some(ValueSource::EnvVariable);
    cli.place.from_environment = ["stage", "profile", "region", "table", "genesys_api"].into_iter().filter(is_environments).collect();
    cli
}

async fn run(command: Command, place: &Place) -> Outcome {
    match command {
        Command::Init(args) => init::run(&args, place.output),
        Command::Validate(args) => validate::run(&args, place.output),
        Command::Plan(args) => plan::run(&args, place.output),
        Command::Preflight(args) => preflight::run(&args, place).await,
        Command::Deploy(args) => deploy::run(&args, place).await,
        Command::Adopt(args) => adopt::run(&args, place).await,
        Command::Start(args) => start::run(&args, place).await,
        Command::Status(args) => status::run(&args, place).await,
        Command::Explain(args) => explain::run(&args, place).await,
        Command::Retry(args) => retry::run(&args, place).await,
        Command::History(args) => history::run(&args, place).await,
        Command::Report(args) => report::run(&args, place).await,
        Command::Doctor(args) => doctor::run(&args, place).await,
        Command::Schema => schema::run(place.output),
        Command::Completions(args) => completions::run(&args),
        Command::Pause(on) => act::run(&on, Action::Pause, place).await,
        Command::Resume(on) => act::run(&on, Action::Resume, place).await,
        Command::Approve(on) => act::run(&on, Action::Approve, place).await,
        Command::Advance(asked) => act::hasten(&asked, Action::Advance, place).await,
        Command::Promote(asked) => act::hasten(&asked, Action::Promote, place).await,
        Command::Abort(on) => act::run(&on, Action::Abort, place).await,
        Command::Rollback(on) => act::run(&on, Action::Rollback, place).await,
        Command::Intervene(asked) => act::to_one_side(&asked, place).await,
        Command::Clear(on) => act::run(&on, Action::Clear, place).await,
        Command::ClearQuarantine(args) => quarantine::run(&args, place).await,
        Command::Maintenance(what) => restrictions::maintenance(what, place).await,
        Command::Freeze(period) => restrictions::restrict(Kind::Freeze, period, place).await,
        Command::StopAll(asked) => restrictions::stop_all(&asked, place).await,
        Command::Ledger(command) => ledger::run(command, place).await,
        Command::Replay(args) => replay::run(&args, place.output),
        Command::Gate(args) => gate::run(&args, place).await,
        Command::Context(command) => context::run(command, place.said(), place.output),
    }
}

/// Says what went wrong, to whoever reads it.
fn tell(error: &anyhow::Error, code: Code, output: Output) {
    let words = format!("{error:#}");
    let said = match output {
        Output::Table => None,
        _ => output.document("Error", &json!({"error": words, "exit_code": code as u8})).ok(),
    };
    note(&said.unwrap_or_else(|| format!("error: {words}")));
}
