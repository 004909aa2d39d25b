//! `serin init`: a rollout file to begin with.

use crate::failure::{Code, Failure, Outcome};
use crate::{file, output::Output};
use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use serde_json::json;
use serin_core::rollout::FlowName;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow's name in Serin: letters, digits, `_`, `-`
    flow: Option<FlowName>,
    /// Id of the flow that callers have now
    #[arg(long, value_name = "ID")]
    stable: Option<String>,
    /// Id of the flow that gets the change
    #[arg(long, value_name = "ID")]
    canary: Option<String>,
    /// Version to roll out, such as 15.0, checked in before; `serin deploy` puts in the one that it publishes
    #[arg(long)]
    version: Option<String>,
    /// How calls come to the change
    #[arg(long, value_enum, default_value_t)]
    strategy: Strategy,
    /// What Serin may do about its verdicts; begin with observe (a file of strategy pointer or publish-watch can only act)
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Calls an hour that both flows get together
    #[arg(long, value_name = "N")]
    calls_per_hour: Option<u32>,
    /// Where to write it; - is standard output
    #[arg(long, default_value = "rollout.yaml", value_name = "FILE")]
    out: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Default, PartialEq, ValueEnum)]
enum Strategy {
    /// A thin flow asks which of two flows a call goes to
    #[default]
    TrafficCop,
    /// A thin flow reads a row of a data table: all calls at once, no steps
    Pointer,
    /// One flow asks, and branches inside
    InFlow,
    /// The version is published to everybody, and watched
    PublishWatch,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    /// Judges and says what it would do; writes nothing
    Observe,
    /// Takes calls away by itself; each rise waits for a person
    Advise,
    /// Rises and takes calls away by itself
    Act,
}

pub(crate) fn run(args: &Args, output: Output) -> Outcome {
    let to_stdout = args.out.as_os_str() == "-";
    if !to_stdout && !args.force && args.out.exists() {
        return Err(Failure::not_accepted(anyhow!(
            "{} is there already: --out names another file, --force writes over it",
            args.out.display()
        )));
    }
    let two_flows = matches!(args.strategy, Strategy::TrafficCop | Strategy::Pointer);
    let flow = match &args.flow {
        Some(flow) => flow.clone(),
        None => asked("The flow's name in Serin (such as main_ivr)", "FLOW")?
            .parse()
            .map_err(|why: String| Failure::not_accepted(anyhow!(why)))?,
    };
    let stable = match (two_flows, &args.stable) {
        (true, Some(id)) => Some(id.clone()),
        (true, None) => Some(asked("Id of the flow that callers have now", "--stable ID")?),
        (false, Some(_)) => {
            return Err(Failure::not_accepted(anyhow!(
                "--stable is not accepted with strategy {}: there is one flow, --canary names it",
                args.strategy.word()
            )));
        }
        (false, None) => None,
    };
    let canary = match &args.canary {
        Some(id) => id.clone(),
        None => asked("Id of the flow that gets the change", "--canary ID")?,
    };
    let version = match &args.version {
        Some(version) => version.clone(),
        None => asked("Version to roll out (such as 15.0; with `serin deploy` any will do)", "--version VERSION")?,
    };
    let text = args.text(flow.as_str(), stable.as_deref(), [&canary, &version]);
    // What was said on the command line is refused here, and not at the next command.
    let not_made = "what was said does not make a rollout file; nothing was written";
    file::check(&text, "rollout file").map_err(|refused| Failure::not_accepted(refused.context(not_made)))?;
    if to_stdout {
        crate::output::print(&text)?;
        return Ok(Code::Done);
    }
    std::fs::write(&args.out, &text).with_context(|| format!("{} cannot be written", args.out.display()))?;
    let shown = args.out.display().to_string();
    output.tell("Initialized", &json!({"file": shown, "flow": flow}), || {
        format!(
            "{shown} is written. Read it, then\n  serin validate {shown}     is it accepted?\n  serin plan {shown}         what will it see, and by when?\n  \
             serin preflight {shown}    is anything in the way?\n  serin start {shown} --reason \"…\""
        )
    })?;
    Ok(Code::Done)
}

/// Asks on a terminal; elsewhere it must be on the command line.
fn asked(question: &str, argument: &str) -> Result<String, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::not_accepted(anyhow!("{argument} is missing: {}", question.to_lowercase())));
    }
    let mut err = std::io::stderr();
    write!(err, "{question}: ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "" => Err(Failure::not_accepted(anyhow!("{argument} is missing; nothing was written"))),
        answer => Ok(answer.to_owned()),
    }
}

impl Strategy {
    fn word(self) -> &'static str {
        match self {
            Strategy::TrafficCop => "traffic-cop",
            Strategy::Pointer => "pointer",
            Strategy::InFlow => "in-flow",
            Strategy::PublishWatch => "publish-watch",
        }
    }
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Advise => "advise",
            Mode::Act => "act",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Mode::Observe => "Serin writes nothing and says what it would do: `serin report` after a week; then advise, then act",
            Mode::Advise => "Serin takes calls away by itself; each rise waits for `serin approve`",
            Mode::Act => "Serin rises and takes calls away by itself",
        }
    }
}

impl Args {
    /// The file, explained line by line.
    fn text(&self, flow: &str, stable: Option<&str>, [canary, version]: [&str; 2]) -> String {
        let at_once = matches!(self.strategy, Strategy::Pointer | Strategy::PublishWatch);
        let mode = self.mode.unwrap_or(if at_once { Mode::Act } else { Mode::Observe });
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut lines = vec![
            "# A rollout of Serin. `serin validate` checks it, `serin schema` has every field, for editors too.".to_owned(),
            format!("flow: {}                # the name in Serin", quoted(flow)),
            format!("strategy: {}", self.strategy.word()),
        ];
        if let Some(stable) = stable {
            lines.push(format!("stable: {{flow_id: {}}}    # the flow that callers have now", quoted(stable)));
        }
        lines.push(format!(
            "canary: {{flow_id: {}, version: {}}}    # the flow that gets the change, and which version",
            quoted(canary),
            quoted(version)
        ));
        match self.strategy {
            Strategy::Pointer => lines.push("pointer: {table: PUT-THE-ID-HERE}    # the data table that the traffic cop reads".to_owned()),
            Strategy::InFlow => lines.push(
                "outcomes: {stable: PUT-THE-OLD-BRANCH-HERE, canary: PUT-THE-NEW-BRANCH-HERE}    # ids of the flow outcome of each branch"
                    .to_owned(),
            ),
            Strategy::TrafficCop | Strategy::PublishWatch => {}
        }
        lines.extend([
            "labels: {stable: v1, canary: v2}    # what your flow branches on".to_owned(),
            "policy:".to_owned(),
            format!("  mode: {}    # {}", mode.word(), mode.meaning()),
        ]);
        if !at_once {
            lines.push("  steps: [5, 25, 50]    # percent of calls; 100 follows by itself".to_owned());
        }
        lines.push(match self.calls_per_hour {
            Some(calls) => format!(
                "  expected_calls_per_hour: {calls}    # both flows together: chooses the first weight, and tells what can be seen by when"
            ),
            None => {
                "  # expected_calls_per_hour: 600    # both flows together: chooses the first weight, and tells what can be seen by when"
                    .to_owned()
            }
        });
        lines.push("  bake_time: 30    # minutes with data that a step takes at least".to_owned());
        if self.strategy == Strategy::InFlow {
            lines.push("  rule: {kind: sequential, metrics: [{name: error}]}    # an outcome tells whether a branch did its work, and nothing else".to_owned());
        }
        lines.join("\n") + "\n"
    }
}
