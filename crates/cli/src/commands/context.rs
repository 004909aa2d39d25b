//! `serin context`: several installations, accounts and organizations by name.

use crate::contexts::{Context, Contexts};
use crate::failure::{Code, Failure, Outcome};
use crate::output::{Items, Output, columns};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Keep a context, or change it: what is not said stays as it is
    ///
    /// A context has nothing secret: credentials are the AWS profile's.
    Add(Add),
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
    /// What contexts there are; the current one has a star
    List,
    /// Forget a context
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Add {
    /// Its name, such as prod-eu
    name: String,
    #[command(flatten)]
    set: Set,
}

/// What a context says.
#[derive(Args)]
struct Set {
    /// Also make it the current one
    #[arg(long = "use")]
    make_current: bool,
}

/// What the command line says of the place, for `add`.
pub(crate) fn run(command: Command, said: Context, output: Output) -> Outcome {
    let mut all = Contexts::read()?;
    match command {
        Command::List => return list(&all, output),
        Command::Add(Add { name, set }) => {
            let kept = all.contexts.entry(name.clone()).or_default();
            for (kept, said) in [
                (&mut kept.stage, said.stage),
                (&mut kept.profile, said.profile),
                (&mut kept.region, said.region),
                (&mut kept.table, said.table),
                (&mut kept.genesys_api, said.genesys_api),
            ] {
                if said.is_some() {
                    *kept = said;
                }
            }
            // The first one is meant.
            if set.make_current || all.contexts.len() == 1 {
                all.current = Some(name);
            }
        }
        Command::Use { name } => {
            all.clone().chosen(Some(&name))?;
            all.current = Some(name);
        }
        Command::Remove { name } => {
            if all.contexts.remove(&name).is_none() {
                return Err(Failure::not_accepted(anyhow!("there is no context `{name}`; `serin context list` shows which there are")));
            }
            all.current = all.current.filter(|current| *current != name);
        }
    }
    all.write()?;
    list(&all, output)
}

fn list(all: &Contexts, output: Output) -> Outcome {
    let is_current = |name: &String| all.current.as_ref() == Some(name);
    let items = all.contexts.iter().map(|(name, context)| {
        json!({
            "name": name, "current": is_current(name), "stage": context.stage, "profile": context.profile, "region": context.region,
            "table": context.table, "genesys_api": context.genesys_api,
        })
    });
    output.tell("ContextList", &Items { items: items.collect() }, || {
        if all.contexts.is_empty() {
            return "no context: flags and the environment say where to work; `serin context add prod --stage prod --region …` keeps one"
                .to_owned();
        }
        let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let row = |(name, context): (&String, &Context)| {
            let star = if is_current(name) { "*" } else { "" };
            [star.to_owned(), name.clone()]
                .into_iter()
                .chain([&context.stage, &context.profile, &context.region, &context.genesys_api].map(or_dash))
                .collect::<Vec<_>>()
        };
        columns(&["", "NAME", "STAGE", "PROFILE", "REGION", "GENESYS"], &all.contexts.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(Code::Done)
}
