//! `serin ledger`: what was recorded of a flow: show it, check it, copy it.

use crate::commands::verify;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{Output, plain, print};
use crate::recording;
use crate::site::{Place, Site};
use anyhow::anyhow;
use clap::Subcommand;
use serde_json::{Value, json};
use serin_aws::DynamoLedger;
use serin_controller::ports::Ledger;
use serin_controller::record::{Opened, open};
use serin_core::ledger::StoredEntry;
use serin_core::rollout::{FlowName, Rollout};
use serin_core::summary::hour;

#[derive(Subcommand)]
pub(crate) enum Command {
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
    /// For `serin replay` and `serin ledger verify --file`; always JSON lines, whatever --output says. Measurements are kept for 90 days,
    /// entries for ever.
    Export {
        /// The flow
        flow: FlowName,
        /// Every rollout since the flow is known, to keep and to check; `serin replay` wants one that was measured
        #[arg(long)]
        all: bool,
    },
}

pub(crate) async fn run(command: Command, place: &Place) -> Outcome {
    match command {
        Command::Verify(args) if args.file.is_some() => verify::copy(&args, place.output),
        Command::Verify(args) => verify::table(&place.connect().await?.ledger, args, place.output).await,
        Command::Show { flow } => show(&open(&place.connect().await?.ledger, &flow).await?, place.output),
        Command::Export { flow, all } => export(&place.connect().await?, &flow, all).await,
    }
}

/// The entries of the latest rollout. They were checked when they were read.
fn show(opened: &Opened, output: Output) -> Outcome {
    let entries = &opened.book.entries;
    let first = entries.first().map_or(0, |first| first.entry.revision);
    let kept: Vec<Value> = entries.iter().map(|stored| serde_json::from_str(&stored.bytes)).collect::<Result<_, _>>()?;
    let shown = json!({
        "flow": entries.first().map(|first| &first.entry.flow), "entries": kept, "first": first, "revision": opened.book.revision,
        "head_hash": opened.book.head_hash, "intact": true,
    });
    output.tell("Ledger", &shown, || {
        let line = |stored: &StoredEntry| {
            let entry = &stored.entry;
            format!(
                "{:>4}  {:.0}  {:<19} {:<18} {}",
                entry.revision,
                entry.at,
                entry.event.name(),
                plain(&entry.by.to_string()),
                plain(&entry.why)
            )
        };
        let mut lines: Vec<String> = entries.iter().map(line).collect();
        lines.push(match entries.is_empty() {
            true => "nothing was recorded yet: no rollout of this flow was ever opened".to_owned(),
            false => format!("chain intact from revision {first} to {}, head {}", opened.book.revision, opened.book.head_hash),
        });
        lines.join("\n")
    })?;
    Ok(Code::Done)
}

async fn export(site: &Site, flow: &FlowName, all: bool) -> Outcome {
    let ledger = &site.ledger;
    if !all {
        exported(ledger, &[open(ledger, flow).await?.book.entries]).await?;
        return Ok(Code::Done);
    }
    let archive = ledger.archive(flow).await?;
    match archive.audit(flow, None) {
        Ok(audited) => exported(ledger, &audited.rollouts).await?,
        // What is stored is copied all the same: it is evidence.
        Err(broken) => {
            print(&archive.entries.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>().join("\n"))?;
            return Err(Failure::from(anyhow!("the copy has every entry as it is stored, without measurements, because {broken}")));
        }
    }
    Ok(Code::Done)
}

/// Writes rollouts, each with what was measured of it.
async fn exported(ledger: &DynamoLedger, rollouts: &[Vec<StoredEntry>]) -> anyhow::Result<()> {
    for entries in rollouts.iter().filter(|entries| !entries.is_empty()) {
        let rollout = Rollout::replay(entries.iter().map(|stored| &stored.entry))?;
        let windows = match rollout.weights.first() {
            Some(first) => ledger.windows(&rollout.plan.flow, &rollout.id, hour(first.since)).await?,
            None => Vec::new(),
        };
        print(&recording::export(entries, &windows).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(())
}
