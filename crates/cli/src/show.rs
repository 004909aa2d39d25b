//! What is printed: for people as plain columns, for programs as JSON.

use jiff::Timestamp;
use serde::Serialize;
use serin_controller::evaluate::Recalled;
use serin_controller::record::Opened;
use serin_core::calendar::{Restriction, forgiven, in_force};
use serin_core::decision::{Facts, decide};
use serin_core::explain::{Explanation, explain};
use serin_core::measurement::{Comparison, Counts, Metric};
use serin_core::projection::Seen;
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;

/// Where one flow stands.
#[derive(Serialize)]
pub(crate) struct Line {
    flow: FlowName,
    rollout: Option<String>,
    phase: String,
    weight: Weight,
    percentage: Option<String>,
    halted: bool,
    since: Option<jiff::Timestamp>,
    cohorts: Comparison,
    last: Option<String>,
    /// What a tick would decide now, of what is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Explanation>,
}

impl Line {
    pub(crate) fn of(
        flow: FlowName,
        opened: &Opened,
        seen: &Seen,
        recalled: Option<&Recalled>,
        restrictions: &[Restriction],
        now: Timestamp,
    ) -> Line {
        let (restricted, forgiven) = (in_force(restrictions, &flow, now), forgiven(restrictions, &flow, now));
        let rollout = opened.rollout.as_ref();
        let watched = rollout.filter(|r| r.phase.is_watched()).zip(recalled);
        let analysis = watched.map(|(rollout, recalled)| recalled.judge(rollout, &forgiven, now));
        let explanation = watched.zip(analysis.as_ref()).map(|((rollout, _), analysis)| {
            let facts = Facts { rollout, seen, analysis: Some(analysis), drift: None, restricted: &restricted, now };
            explain(&decide(&facts), &facts)
        });
        Line {
            flow,
            rollout: rollout.map(|r| r.id.clone()),
            phase: rollout.map_or("no rollout yet".into(), |r| r.phase.to_string()),
            weight: rollout.map_or(Weight::ZERO, |r| r.desired_weight()),
            percentage: seen.percentage.as_ref().map(|(text, _)| text.clone()),
            halted: rollout.is_some_and(|r| seen.halts(&r.id)),
            since: rollout.map(|r| r.phase_since),
            cohorts: analysis.map(|a| a.counts).unwrap_or_default(),
            now: explanation,
            last: opened.book.entries.last().map(|last| last.entry.why.clone()),
        }
    }
}

/// Prints where flows stand.
pub(crate) fn status(lines: &[Line], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(lines)?);
        return Ok(());
    }
    if lines.is_empty() {
        println!("no flow is watched; `serin start FILE --reason …` opens a rollout");
    }
    for line in lines {
        let since = line.since.map_or(String::new(), |at| format!(" since {at:.0}"));
        let rollout = line.rollout.as_deref().unwrap_or("-");
        println!("{}  {}  {}{since}", line.flow, rollout, line.phase);
        let percentage = line.percentage.as_deref().unwrap_or("not there");
        let halt = if line.halted { ", halted" } else { "" };
        println!("  weight {} % by the record; the parameter holds {percentage}{halt}", line.weight);
        println!("  stable  {}", side(&line.cohorts.stable));
        println!("  canary  {}", side(&line.cohorts.canary));
        if let Some(last) = &line.last {
            println!("  last    {last}");
        }
        if let Some(now) = &line.now {
            println!("  now     {}", now.to_string().replace('\n', "\n          "));
        }
    }
    Ok(())
}

fn side(counts: &Counts) -> String {
    let rate = |metric: Metric| counts.percent(metric).map_or("     -".into(), |p| format!("{p:5.1}%"));
    format!(
        "{:>6} calls   error {}   abandon {}   transfer {}",
        counts.calls,
        rate(Metric::Error),
        rate(Metric::Abandon),
        rate(Metric::Transfer)
    )
}

/// Prints the entries of the latest rollout. They were checked when they were read.
pub(crate) fn ledger(opened: &Opened, json: bool) -> anyhow::Result<()> {
    for stored in &opened.book.entries {
        let entry = &stored.entry;
        match json {
            true => println!("{}", stored.bytes),
            false => {
                println!("{:>4}  {:.0}  {:<19} {:<18} {}", entry.revision, entry.at, entry.event.name(), entry.by.to_string(), entry.why)
            }
        }
    }
    if !json {
        let first = opened.book.entries.first().map_or(0, |first| first.entry.revision);
        println!("chain intact from revision {first} to {}, head {}", opened.book.revision, opened.book.head_hash);
    }
    Ok(())
}
