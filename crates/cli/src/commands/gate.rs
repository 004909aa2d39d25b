//! `serin gate`: may a flow be deployed now? A pipeline may also take its turn: of several that ask at once one gets it.

use crate::commands::restrictions::length;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{Output, note, print};
use crate::site::{Place, Site};
use anyhow::anyhow;
use clap::Args as Arguments;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;
use serin_aws::WallClock;
use serin_controller::intervene::{Gate, LONGEST_HOLD, hold_gate, look, release_gate};
use serin_core::rollout::FlowName;
use std::io::Read;
use std::time::Duration;

#[derive(Arguments)]
pub(crate) struct Args {
    /// The flow
    flow: FlowName,
    /// Take the turn for so long, such as 10m (24h at most): until then nobody else passes
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    hold: Option<SignedDuration>,
    /// Give the turn back
    #[arg(long, conflicts_with = "hold")]
    release: bool,
    #[command(flatten)]
    turn: Turn,
    /// Answer as an external data source of Terraform: a flat map of strings, exit code 0 whatever the answer is
    #[arg(long, conflicts_with_all = ["hold", "release"])]
    terraform: bool,
}

/// Whose turn it is.
#[derive(Debug, Clone, Arguments)]
pub(crate) struct Turn {
    /// Whose turn: the name of a pipeline's run (default: made of what GitHub or GitLab tell)
    #[arg(long, env = "SERIN_HOLDER", value_name = "NAME", value_parser = name)]
    holder: Option<String>,
}

fn name(text: &str) -> Result<String, String> {
    match (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("1 to 200 letters, digits and signs without spaces are accepted".to_owned()),
    }
}

impl Turn {
    /// The turn of somebody who is known.
    pub(crate) fn of(holder: &str) -> Turn {
        Turn { holder: Some(holder.to_owned()) }
    }

    /// The name that was given, or the run's of the pipeline that this is.
    pub(crate) fn holder(&self) -> Option<String> {
        self.holder.clone().or_else(|| of_pipeline(|name| std::env::var(name).ok().filter(|value| !value.is_empty())))
    }
}

fn of_pipeline(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let all = |system: &str, names: &[&str]| {
        let values: Option<Vec<String>> = names.iter().map(|name| variable(name)).collect();
        name(&format!("{system}/{}", values?.join("/"))).ok()
    };
    all("github", &["GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT"])
        .or_else(|| all("gitlab", &["CI_PROJECT_PATH", "CI_PIPELINE_ID"]))
}

/// The answer.
#[derive(Serialize)]
struct Answer {
    flow: FlowName,
    open: bool,
    code: u8,
    answer: String,
    /// Who has the turn now, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// A gate that does not answer by then is closed.
const PATIENCE: Duration = Duration::from_millis(850);
/// Whatever else hangs (a name, a file of a network, a pipe that nobody closes) does not keep it open either.
const LAST: Duration = Duration::from_millis(970);
const LATE: &str =
    "the ledger did not answer within a second, so the gate is closed; ask again, and look at credentials and region if it stays so";

/// Closes the gate when its second is over, from beside.
pub(crate) fn watch_over(args: &Args, output: Output) {
    let (flow, is_terraform) = (args.flow.clone(), args.terraform);
    std::thread::spawn(move || {
        std::thread::sleep(LAST);
        let code = match is_terraform {
            true => {
                let _ = print(&flat(&flow, false, Code::CouldNotTell as u8, LATE));
                Code::Done
            }
            false => {
                crate::tell(&anyhow!(LATE), Code::CouldNotTell, output);
                Code::CouldNotTell
            }
        };
        std::process::exit(code as i32)
    });
}

/// A flat map of strings.
fn flat(flow: &FlowName, open: bool, code: u8, answer: &str) -> String {
    json!({"flow": flow, "open": open.to_string(), "code": code.to_string(), "answer": answer}).to_string()
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    if args.terraform {
        return terraform(args, place).await;
    }
    let mut named = None;
    if let Some(length) = args.hold {
        if length > LONGEST_HOLD {
            return Err(Failure::not_accepted(anyhow!("--hold {length:#} is not accepted: at most 24h is")));
        }
        if args.turn.holder().is_none() {
            // Whoever has no name gets one that nobody else has, and is told before it counts: a turn that nobody can give back is worse.
            let holder = format!("h-{:016x}", fastrand::u64(..));
            note(&format!("note: the turn is asked for in the name of {holder}"));
            named = Some(holder);
        }
    }
    let answer = within(ask(args, place, named)).await?;
    place.output.tell("Gate", &answer, || format!("{}: {}", answer.flow, answer.answer))?;
    Ok(Code::of_gate(answer.code))
}

async fn within(asked: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(anyhow!(LATE).into()),
    }
}

async fn ask(args: &Args, place: &Place, named: Option<String>) -> Result<Answer, Failure> {
    let site = place.connect().await?;
    let holder = args.turn.holder().or(named);
    if args.release {
        return release(args, &site, holder).await;
    }
    let (flow, now) = (&args.flow, site.now);
    let Some(length) = args.hold else {
        let (opened, gate) = look(&site.ledger, &WallClock, flow, now, holder.as_deref()).await?;
        // Whoever mistyped the name should see that.
        let said = match gate {
            Gate::Open if opened.book.revision == 0 => "open: nothing was ever rolled out under this name".to_owned(),
            _ => said(flow, &gate),
        };
        return Ok(Answer::of(flow, &gate, said, None));
    };
    let holder = holder.unwrap_or_default();
    let gate = hold_gate(&site.ledger, &WallClock, flow, now, &holder, length).await?;
    let said = match gate {
        Gate::Open => {
            let until = Timestamp::now() + length;
            format!("open, and held for {holder} until {until:.0}; `serin gate {flow} --release --holder {holder}` gives it back")
        }
        _ => said(flow, &gate),
    };
    Ok(Answer::of(flow, &gate, said, Some((holder, length))))
}

/// The answer in words, with the name of the flow.
fn said(flow: &FlowName, gate: &Gate) -> String {
    gate.to_string().replace("gate FLOW", &format!("gate {flow}"))
}

async fn release(args: &Args, site: &Site, holder: Option<String>) -> Result<Answer, Failure> {
    let holder = holder.ok_or_else(|| Failure::not_accepted(anyhow!("--holder is missing: whose turn is given back?")))?;
    let was_theirs = release_gate(&site.ledger, &args.flow, &holder).await?;
    let answer = match was_theirs {
        true => format!("given back by {holder}"),
        // As wished, though not by this: a pipeline that tidies up twice is no failure.
        false => format!("not held by {holder} (any more); nothing was changed"),
    };
    Ok(Answer { flow: args.flow.clone(), open: true, code: 0, answer, holder: None, until: None })
}

impl Answer {
    fn of(flow: &FlowName, gate: &Gate, answer: String, turn: Option<(String, SignedDuration)>) -> Answer {
        let open = *gate == Gate::Open;
        let (holder, until) = match (gate, turn) {
            (Gate::Open, Some((holder, length))) => (Some(holder), Some(Timestamp::now() + length)),
            (Gate::Held { holder, until }, _) => (Some(holder.clone()), Some(*until)),
            _ => (None, None),
        };
        Answer { flow: flow.clone(), open, code: gate.exit_code(), answer, holder, until }
    }
}

/// Terraform writes a query and reads a flat map. The query is not needed: the flow is on the command line.
async fn terraform(args: &Args, place: &Place) -> Outcome {
    let mut query = String::new();
    std::io::stdin().lock().take(64 * 1024).read_to_string(&mut query)?;
    let (open, code, answer) = match within(ask(args, place, None)).await {
        Ok(Answer { open, code, answer, .. }) => (open, code, answer),
        Err(Failure { error, .. }) => (false, Code::CouldNotTell as u8, format!("could not tell, which is a no: {error:#}")),
    };
    print(&flat(&args.flow, open, code, &answer))?;
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipelines_run_is_a_holder_by_itself() {
        let with = |set: &'static [(&str, &str)]| {
            of_pipeline(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(
            with(&[("GITHUB_REPOSITORY", "acme/ivr"), ("GITHUB_RUN_ID", "7"), ("GITHUB_RUN_ATTEMPT", "2")]).as_deref(),
            Some("github/acme/ivr/7/2")
        );
        assert_eq!(with(&[("CI_PROJECT_PATH", "acme/ivr"), ("CI_PIPELINE_ID", "9")]).as_deref(), Some("gitlab/acme/ivr/9"));
        assert_eq!(with(&[("GITHUB_RUN_ID", "7")]), None);
        assert!(name("two words").is_err() && name("").is_err() && name(&"x".repeat(201)).is_err());
    }
}
