//! `serin report`: what Serin would have done with rollouts that it only observed, beside what people did.

use crate::commands::history;
use crate::failure::{Code, Outcome};
use crate::output::{counted, plain};
use crate::site::{Place, Site};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serin_controller::ports::Ledger;
use serin_core::ledger::StoredEntry;
use serin_core::measurement::{Comparison, Counts, Window, total};
use serin_core::phase::{Advice, Event};
use serin_core::policy::Mode;
use serin_core::rollout::{FlowName, Rollout};
use serin_core::sequential::spell;
use serin_core::summary::hour;
use serin_core::weight::Weight;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The flow
    flow: FlowName,
    /// Rollouts of which something was recorded in the last so many days, and one that is not finished
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

#[derive(Serialize)]
struct Report {
    flow: FlowName,
    days: u32,
    items: Vec<Observed>,
}

/// One observed rollout.
#[derive(Serialize)]
struct Observed {
    rollout: String,
    version: String,
    opened: Timestamp,
    phase: &'static str,
    /// Both cohorts over all its calls, as far as measurements are kept (90 days).
    calls: Comparison,
    advice: Vec<Given>,
    /// Times that a person moved the percentage.
    moved: usize,
}

/// What Serin would have done, and what became of it.
#[derive(Serialize)]
struct Given {
    at: Timestamp,
    /// Weight that callers had then.
    weight: Weight,
    advice: Advice,
    why: String,
    /// When a person did it, or the opposite, or it ended.
    followed: Option<Followed>,
    /// Calls that the canary got from then until they did.
    canary_calls: u32,
    /// Of these, ended by an error or a hang-up beyond what stable's rate in the same minutes explains.
    canary_bad: u32,
}

#[derive(Serialize)]
struct Followed {
    at: Timestamp,
    minutes: u32,
    /// Weight that a person set; none where the observation ended.
    weight: Option<Weight>,
}

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let site = place.connect().await?;
    let rollouts = history::rollouts(&site, &args.flow).await?;
    let since = site.now - SignedDuration::from_hours(24 * i64::from(args.days));
    let mut items = Vec::new();
    let is_late = |entries: &Vec<StoredEntry>| entries.last().is_some_and(|last| last.entry.at >= since);
    // The latest one counts however long ago its last word was: it may be waiting for somebody.
    let last = rollouts.len().saturating_sub(1);
    for (_, entries) in rollouts.iter().enumerate().filter(|(n, entries)| *n == last || is_late(entries)) {
        items.extend(observed(&site, entries).await?);
    }
    let report = Report { flow: args.flow.clone(), days: args.days, items };
    site.output.tell("Report", &report, || report.text())?;
    Ok(Code::Done)
}

async fn observed(site: &Site, entries: &[StoredEntry]) -> anyhow::Result<Option<Observed>> {
    let rollout = Rollout::replay(entries.iter().map(|stored| &stored.entry))?;
    if rollout.plan.policy.mode != Mode::Observe {
        return Ok(None);
    }
    let windows = match rollout.weights.first() {
        Some(first) => site.ledger.windows(&rollout.plan.flow, &rollout.id, hour(first.since)).await?,
        None => Vec::new(),
    };
    Ok(Some(Observed::of(&rollout, entries, &windows, site.now)))
}

impl Observed {
    fn of(rollout: &Rollout, entries: &[StoredEntry], windows: &[Window], now: Timestamp) -> Observed {
        let set = |stored: &StoredEntry| match stored.entry.event {
            Event::WeightSet { weight, .. } => Some(Some(weight)),
            Event::ObservationEnded { .. } | Event::Aborted { .. } | Event::RollbackStarted { .. } => Some(None),
            _ => None,
        };
        let (mut weight, mut advice) = (Weight::ZERO, Vec::new());
        for (n, stored) in entries.iter().enumerate() {
            let entry = &stored.entry;
            match &entry.event {
                Event::WeightSet { weight: set, .. } => weight = *set,
                Event::Advised { advice: given } => {
                    // A rise is no answer to the advice to take the calls back.
                    let is_answer = |to: Option<Weight>| *given != Advice::TakeBack || to.is_none_or(|to| to < weight);
                    let hands = entries[n + 1..].iter().filter_map(|later| Some((later.entry.at, set(later)?)));
                    let hand = hands.into_iter().find(|(_, to)| is_answer(*to));
                    let until = hand.map_or(now, |(at, _)| at);
                    let both = total(windows.iter().filter(|window| (entry.at..until).contains(&window.start)));
                    let bad = |counts: &Counts| f64::from(counts.errors + counts.abandons);
                    let usual = bad(&both.stable) / f64::from(both.stable.calls.max(1));
                    let excess = (bad(&both.canary) - usual * f64::from(both.canary.calls)).max(0.0);
                    let minutes = |at: Timestamp| u32::try_from(at.duration_since(entry.at).as_mins()).unwrap_or_default();
                    advice.push(Given {
                        at: entry.at,
                        weight,
                        advice: *given,
                        why: entry.why.clone(),
                        followed: hand.map(|(at, weight)| Followed { at, minutes: minutes(at), weight }),
                        canary_calls: both.canary.calls,
                        canary_bad: excess.round() as u32,
                    });
                }
                _ => {}
            }
        }
        Observed {
            rollout: rollout.id.clone(),
            version: rollout.canary_version.clone().unwrap_or_else(|| rollout.plan.canary.version.clone()),
            opened: entries[0].entry.at,
            phase: rollout.phase.name(),
            calls: total(windows),
            advice,
            moved: entries.iter().filter(|stored| matches!(stored.entry.event, Event::WeightSet { .. })).count(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{}  version {}, opened {:.0}, {}: {} calls on stable, {} on the canary; people moved the percentage {} times",
            self.rollout, self.version, self.opened, self.phase, self.calls.stable.calls, self.calls.canary.calls, self.moved
        )];
        if self.advice.is_empty() {
            lines.push("  Serin would have done nothing: no evidence was enough either way".to_owned());
        }
        lines.extend(self.advice.iter().map(Given::text));
        lines.join("\n")
    }
}

impl Given {
    fn text(&self) -> String {
        let Given { at, weight, advice, why, followed, canary_calls, canary_bad } = self;
        let would = match advice {
            Advice::Rise { to } => format!("would have gone from {weight} to {to} %"),
            Advice::TakeBack => format!("WOULD HAVE TAKEN THE CALLS BACK from {weight} %"),
        };
        let then = match (followed, advice) {
            (None, _) => "nobody has moved the percentage since".to_owned(),
            (Some(Followed { minutes, weight: None, .. }), _) => format!("it ended {} later", spell(f64::from(*minutes))),
            (Some(Followed { minutes, weight: Some(set), .. }), _) => format!("a person set {set} % {} later", spell(f64::from(*minutes))),
        };
        let met = match advice {
            Advice::TakeBack => format!(
                "; meanwhile {canary_calls} callers got the canary, some {canary_bad} more of whom met an error or hung up than of as many on stable"
            ),
            Advice::Rise { .. } => String::new(),
        };
        format!("  {at:.0}  {would}. It said: {}\n      {then}{met}", plain(why))
    }
}

impl Report {
    fn text(&self) -> String {
        if self.items.is_empty() {
            return format!(
                "no rollout of {} was only observed in the last {} days; `mode: observe` in a rollout file's policy opens one that Serin only watches",
                self.flow, self.days
            );
        }
        let given = |wanted: fn(&Advice) -> bool| {
            self.items.iter().flat_map(|one| &one.advice).filter(|given| wanted(&given.advice)).collect::<Vec<_>>()
        };
        let (rises, back) = (given(|advice| matches!(advice, Advice::Rise { .. })), given(|advice| *advice == Advice::TakeBack));
        let bad: u32 = back.iter().map(|given| given.canary_bad).sum();
        let mut lines = vec![format!(
            "{}: {} in {} days. Serin would have risen {} and taken the calls back {}; after that advice some {bad} \
             callers more met an error or hung up than of as many on stable.",
            self.flow,
            counted(self.items.len(), "observed rollout", "observed rollouts"),
            self.days,
            counted(rises.len(), "time", "times"),
            counted(back.len(), "time", "times")
        )];
        lines.extend(self.items.iter().map(|one| format!("\n{}", one.text())));
        lines.push("\nIf you would have done the same, set `mode: advise` (each rise asks) or `mode: act` in the rollout file.".to_owned());
        lines.join("\n")
    }
}
