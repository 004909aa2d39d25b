//! `serin status`: where rollouts stand.

use crate::commands::watch;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{Items, Output, columns};
use crate::site::{Place, Site};
use crate::view::{View, lasts, tone_of};
use anyhow::anyhow;
use serde::Serialize;
use serin_controller::ports::{ActiveFlow, Ledger};
use serin_core::rollout::FlowName;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One flow, with both cohorts side by side; without it, a line for every flow that is watched
    flow: Option<FlowName>,
    /// Stay, and show how it changes; q leaves
    #[arg(long, short)]
    watch: bool,
}

/// One line of the overview.
#[derive(Serialize)]
struct Line<'a> {
    flow: &'a FlowName,
    rollout: &'a str,
    phase: &'a str,
    weight: serin_core::weight::Weight,
    since: jiff::Timestamp,
    last: &'a str,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    if args.watch && place.output != Output::Table {
        return Err(Failure::not_accepted(anyhow!("--watch is for people: with -o json ask `serin status FLOW` again and again")));
    }
    let site = place.connect().await?;
    if args.watch {
        return watch::run(&site, place, args.flow.clone()).await;
    }
    match &args.flow {
        Some(flow) => {
            let view = View::of(&site, flow).await?;
            site.output.tell("Status", &view, || view.text())?;
        }
        None => {
            let active = site.ledger.active().await?;
            let items = Items { items: active.iter().map(line).collect() };
            site.output.tell("StatusList", &items, || overview(&site, &active))?;
        }
    }
    Ok(Code::Done)
}

fn line(active: &ActiveFlow) -> Line<'_> {
    let ActiveFlow { flow, rollout, phase, weight, since, why, .. } = active;
    Line { flow, rollout, phase, weight: *weight, since: *since, last: why }
}

fn overview(site: &Site, active: &[ActiveFlow]) -> String {
    if active.is_empty() {
        return "no flow is watched; `serin start FILE --reason …` opens a rollout".to_owned();
    }
    let row = |active: &ActiveFlow| {
        vec![
            active.flow.to_string(),
            active.rollout.clone(),
            tone_of(&active.phase).paint(&active.phase),
            format!("{} %", active.weight),
            lasts(active.since, site.now).trim_start_matches("since ").to_owned(),
            active.why.clone(),
        ]
    };
    columns(&["FLOW", "ROLLOUT", "PHASE", "WEIGHT", "SINCE", "LAST"], &active.iter().map(row).collect::<Vec<_>>())
}
