//! `serin history`: the rollouts that a flow has had.

use crate::commands::explain::turns;
use crate::failure::{Code, Outcome};
use crate::output::{columns, plain};
use crate::site::{Place, Site};
use crate::view::tone_of;
use jiff::Timestamp;
use serde::Serialize;
use serin_controller::ports::Ledger;
use serin_core::ledger::StoredEntry;
use serin_core::rollout::{FlowName, Rollout};
use serin_core::sequential::spell;
use serin_core::weight::Weight;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow
    flow: FlowName,
    /// The latest so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

/// All of them, latest first.
#[derive(Serialize)]
struct History {
    flow: FlowName,
    /// Rollouts in all.
    rollouts: usize,
    items: Vec<Past>,
}

/// One of them.
#[derive(Serialize)]
struct Past {
    rollout: String,
    version: String,
    strategy: &'static str,
    mode: &'static str,
    opened: Timestamp,
    by: String,
    reason: String,
    phase: &'static str,
    since: Timestamp,
    /// Minutes from its opening to the phase it is in, if that is its last.
    lasted_minutes: Option<u32>,
    /// Highest percentage that callers got.
    reached: Weight,
    /// Why it stands where it stands.
    why: String,
}

impl Past {
    fn of(entries: &[StoredEntry]) -> anyhow::Result<Past> {
        let rollout = Rollout::replay(entries.iter().map(|stored| &stored.entry))?;
        let opened = &entries[0].entry;
        // What changed the phase last says why; later entries clear a quarantine, or apply a weight.
        let turned = turns(entries)?.pop();
        let lasted = rollout.phase.is_terminal().then(|| rollout.phase_since.duration_since(opened.at).as_mins());
        Ok(Past {
            version: rollout.canary_version.clone().unwrap_or_else(|| rollout.plan.canary.version.clone()),
            strategy: rollout.plan.strategy.name(),
            mode: rollout.plan.policy.mode.name(),
            opened: opened.at,
            by: opened.by.to_string(),
            reason: opened.why.clone(),
            phase: rollout.phase.name(),
            since: rollout.phase_since,
            lasted_minutes: lasted.and_then(|minutes| u32::try_from(minutes).ok()),
            reached: rollout.weights.iter().map(|at| at.weight).max().unwrap_or(Weight::ZERO),
            why: turned.map_or_else(|| opened.why.clone(), |turn| turn.why),
            rollout: rollout.id,
        })
    }
}

/// The entries of every rollout that a flow has had, oldest first, their chain checked.
pub(crate) async fn rollouts(site: &Site, flow: &FlowName) -> anyhow::Result<Vec<Vec<StoredEntry>>> {
    let archive = site.ledger.archive(flow).await?;
    Ok(match archive.entries.is_empty() {
        true => Vec::new(),
        false => archive.audit(flow, None)?.rollouts,
    })
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let site = place.connect().await?;
    let rollouts = rollouts(&site, &args.flow).await?;
    let items = rollouts.iter().rev().take(args.limit).map(|entries| Past::of(entries)).collect::<anyhow::Result<Vec<_>>>()?;
    let history = History { flow: args.flow.clone(), rollouts: rollouts.len(), items };
    site.output.tell("History", &history, || table(&history))?;
    Ok(Code::Done)
}

fn table(history: &History) -> String {
    if history.items.is_empty() {
        return format!("{} has had no rollout yet", history.flow);
    }
    let row = |past: &Past| {
        vec![
            past.rollout.clone(),
            format!("{:.0}", past.opened),
            past.version.clone(),
            tone_of(past.phase).paint(past.phase),
            format!("{} %", past.reached),
            past.lasted_minutes.map_or_else(|| "-".to_owned(), |minutes| spell(f64::from(minutes))),
            plain(&past.why),
        ]
    };
    let rows: Vec<Vec<String>> = history.items.iter().map(row).collect();
    let shown = columns(&["ROLLOUT", "OPENED", "VERSION", "PHASE", "REACHED", "LASTED", "WHY"], &rows);
    match history.rollouts - history.items.len() {
        0 => shown,
        more => format!("{shown}\n{more} earlier ones are not shown: --limit {}", history.rollouts),
    }
}
