//! `serin status`: where rollouts stand.

use crate::commands::watch;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{Items, Output, columns, plain};
use crate::site::{Place, Site};
use crate::view::{View, tone_of};
use anyhow::anyhow;
use jiff::Timestamp;
use serde::Serialize;
use serin_controller::ports::{ActiveFlow, Ledger};
use serin_core::rollout::FlowName;
use serin_core::sequential::spell;
use serin_core::weight::Weight;

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
    weight: Weight,
    since: Timestamp,
    last: &'a str,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    if args.watch && place.output != Output::Table {
        return Err(Failure::not_accepted(anyhow!("--watch is for people: with -o json ask `serin status FLOW` again and again")));
    }
    let site = place.connect().await?;
    if args.watch {
        return watch::run(site, args.flow.clone()).await;
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

/// Its weight, and for how long it has stood there; a dash where an older function wrote what is not known of it.
pub(crate) fn standing(active: &ActiveFlow, now: Timestamp) -> (String, String) {
    if active.rollout.is_empty() || active.since == Timestamp::UNIX_EPOCH {
        return ("-".to_owned(), "-".to_owned());
    }
    let minutes = now.duration_since(active.since).as_secs_f64() / 60.0;
    (format!("{} %", active.weight), if minutes < 1.0 { "now".to_owned() } else { spell(minutes) })
}

fn overview(site: &Site, active: &[ActiveFlow]) -> String {
    if active.is_empty() {
        return "no flow is watched; `serin start FILE --reason …` opens a rollout".to_owned();
    }
    let row = |active: &ActiveFlow| {
        let (weight, since) = standing(active, site.now);
        vec![
            active.flow.to_string(),
            active.rollout.clone(),
            tone_of(&active.phase).paint(&active.phase),
            weight,
            since,
            plain(&active.why),
        ]
    };
    columns(&["FLOW", "ROLLOUT", "PHASE", "WEIGHT", "FOR", "LAST"], &active.iter().map(row).collect::<Vec<_>>())
}
