//! `serin explain`: why a rollout stands where it stands, what would change it, and how it got there. From the record alone.

use crate::failure::{Code, Outcome};
use crate::output::{note, plain};
use crate::site::Place;
use crate::view::Read;
use jiff::Timestamp;
use serde::Serialize;
use serin_core::calendar::{forgiven, in_force};
use serin_core::decision::{Facts, decide};
use serin_core::explain::{Explanation, explain};
use serin_core::ledger::StoredEntry;
use serin_core::measurement::{Comparison, Metric};
use serin_core::rollout::{FlowName, Rollout};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow
    flow: FlowName,
    /// Only what would be decided now
    #[arg(long)]
    now: bool,
}

/// The answer.
#[derive(Serialize)]
struct Explained {
    flow: FlowName,
    rollout: Option<String>,
    phase: Option<&'static str>,
    /// What a tick would decide now, of what is recorded.
    now: Option<Explanation>,
    /// What turned it, oldest first.
    turns: Vec<Turn>,
}

/// An entry that changed the phase.
#[derive(Serialize)]
pub(crate) struct Turn {
    revision: u64,
    at: Timestamp,
    event: &'static str,
    phase: String,
    by: String,
    pub(crate) why: String,
    /// Both cohorts as they were then.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Comparison>,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let site = place.connect().await?;
    let flow = &args.flow;
    let Read { opened, seen, unread, recalled, restrictions } = Read::of(&site, flow).await?;
    if let Some(error) = unread {
        note(&format!("note: {error}; what is explained rests on the ledger alone"));
    }
    let mut explained = Explained { flow: flow.clone(), rollout: None, phase: None, now: None, turns: Vec::new() };
    if let Some(rollout) = &opened.rollout {
        let analysis = recalled.map(|recalled| recalled.judge(rollout, &forgiven(&restrictions, flow, site.now), site.now));
        let restricted = in_force(&restrictions, flow, site.now);
        let facts = Facts { rollout, seen: &seen, analysis: analysis.as_ref(), drift: None, restricted: &restricted, now: site.now };
        explained.now = Some(explain(&decide(&facts), &facts));
        explained.rollout = Some(rollout.id.clone());
        explained.phase = Some(rollout.phase.name());
        if !args.now {
            explained.turns = turns(&opened.book.entries)?;
        }
    }
    site.output.tell("Explanation", &explained, || explained.text())?;
    Ok(Code::Done)
}

/// The entries that changed the phase, oldest first.
pub(crate) fn turns(entries: &[StoredEntry]) -> anyhow::Result<Vec<Turn>> {
    let mut turns = Vec::new();
    let mut before: Option<Rollout> = None;
    for stored in entries {
        let entry = &stored.entry;
        let after = match &before {
            Some(rollout) => rollout.clone().after(entry)?,
            None => Rollout::replay([entry])?,
        };
        if before.as_ref().is_none_or(|before| before.phase != after.phase) {
            turns.push(Turn {
                revision: entry.revision,
                at: entry.at,
                event: entry.event.name(),
                phase: after.phase.to_string(),
                by: entry.by.to_string(),
                why: entry.why.clone(),
                evidence: entry.evidence,
            });
        }
        before = Some(after);
    }
    Ok(turns)
}

impl Explained {
    fn text(&self) -> String {
        let (Some(rollout), Some(phase), Some(now)) = (&self.rollout, self.phase, &self.now) else {
            return format!("{} has no rollout to explain; `serin start FILE --reason …` opens one", self.flow);
        };
        let mut lines = vec![format!("{}  {rollout}  {phase}", self.flow), String::new()];
        lines.extend(now.to_string().lines().map(|line| format!("  {line}")));
        if !self.turns.is_empty() {
            lines.extend([String::new(), "how it got there".to_owned()]);
        }
        for turn in &self.turns {
            lines.push(format!("  {:>4}  {:.0}  {:<22} {}", turn.revision, turn.at, turn.phase, plain(&turn.why)));
            lines.push(format!("        {:<20}  by {}", "", plain(&turn.by)));
            lines.extend(turn.evidence.iter().map(|both| format!("        {:<20}  {}", "", figures(both))));
        }
        lines.join("\n")
    }
}

/// Both cohorts on a line.
fn figures(both: &Comparison) -> String {
    let side = |name: &str, counts: &serin_core::measurement::Counts| {
        let rate = |metric: Metric| counts.percent(metric).map_or("-".to_owned(), |percent| format!("{percent:.1} %"));
        format!(
            "{name} {} calls, errors {}, abandoned {}, transfers {}",
            counts.calls,
            rate(Metric::Error),
            rate(Metric::Abandon),
            rate(Metric::Transfer)
        )
    };
    format!("{}; {}", side("canary", &both.canary), side("stable", &both.stable))
}
