//! Where a flow stands, for people and for programs: both cohorts side by side, how far the evidence is either way, and what a tick would
//! decide now. Read from the ledger and the parameters alone; Genesys Cloud is not asked.

use crate::output::{Tone, columns, plain};
use crate::site::Site;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serin_controller::evaluate::{Recalled, recall};
use serin_controller::ports::{Ledger, Parameters};
use serin_controller::record::{Opened, open};
use serin_core::analysis::Analysis;
use serin_core::calendar::{Restriction, forgiven, in_force};
use serin_core::decision::{Facts, decide};
use serin_core::explain::{Explanation, explain};
use serin_core::measurement::{Comparison, Counts, Metric, label};
use serin_core::phase::Phase;
use serin_core::projection::Seen;
use serin_core::rollout::{FlowName, Rollout, Strategy};
use serin_core::sequential::spell;
use serin_core::weight::Weight;

/// Everything about one flow.
#[derive(Serialize)]
pub(crate) struct View {
    pub(crate) flow: FlowName,
    /// `None` before the first rollout.
    pub(crate) rollout: Option<Running>,
    /// What the parameter holds, as it is written there.
    pub(crate) percentage: Option<String>,
    /// Why the parameters could not be read, if they could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unread: Option<String>,
    /// Maintenance windows, freezes and stops that are in force.
    pub(crate) restrictions: Vec<String>,
    /// The latest entries, newest first.
    pub(crate) entries: Vec<Said>,
}

/// Its latest rollout.
#[derive(Serialize)]
pub(crate) struct Running {
    pub(crate) id: String,
    pub(crate) phase: &'static str,
    #[serde(skip)]
    pub(crate) shown: String,
    /// Percent that callers should get by the record.
    pub(crate) weight: Weight,
    pub(crate) since: Timestamp,
    #[serde(skip)]
    pub(crate) lasts: String,
    pub(crate) strategy: &'static str,
    pub(crate) mode: &'static str,
    /// Percentages of the plan, with the 100 that follows by itself.
    pub(crate) steps: Vec<Weight>,
    /// Version of the canary flow: as Genesys Cloud names it, or until that is known as the plan does.
    pub(crate) version: String,
    /// Whether the halt marker names it: its calls are on stable whatever the percentage says.
    pub(crate) halted: bool,
    pub(crate) is_watched: bool,
    /// Calls at this weight.
    pub(crate) cohorts: Comparison,
    pub(crate) rates: Vec<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<Evidence>,
    /// What a tick would decide now, of what is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) now: Option<Explanation>,
}

/// One metric of both cohorts, percent of calls, with 95 % intervals.
#[derive(Serialize)]
pub(crate) struct Rate {
    pub(crate) metric: &'static str,
    pub(crate) stable: Option<Interval>,
    pub(crate) canary: Option<Interval>,
}

#[derive(Clone, Copy, Serialize)]
pub(crate) struct Interval {
    pub(crate) percent: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// How far the sequential rule is either way.
#[derive(Serialize)]
pub(crate) struct Evidence {
    /// Against the canary, and as much as rolls back.
    pub(crate) harm: f64,
    pub(crate) harm_limit: f64,
    /// 0 nothing, 1 rolls back.
    pub(crate) towards_rollback: f64,
    /// 0 nothing, 1 rises; none at 100 %.
    pub(crate) towards_rise: Option<f64>,
    /// Where it would rise to.
    pub(crate) next: Option<Weight>,
}

/// One entry of the ledger.
#[derive(Serialize)]
pub(crate) struct Said {
    pub(crate) revision: u64,
    pub(crate) at: Timestamp,
    pub(crate) event: &'static str,
    pub(crate) by: String,
    pub(crate) why: String,
}

/// What is known of a flow.
pub(crate) struct Read {
    pub(crate) opened: Opened,
    /// The parameters; where they could not be read, as the record says they are.
    pub(crate) seen: Seen,
    /// Why they could not be read.
    pub(crate) unread: Option<String>,
    /// What was measured, of a rollout that is watched.
    pub(crate) recalled: Option<Recalled>,
    pub(crate) restrictions: Vec<Restriction>,
}

impl Read {
    /// From the ledger and the parameters. The record is worth seeing also when Parameter Store has trouble.
    pub(crate) async fn of(site: &Site, flow: &FlowName) -> anyhow::Result<Read> {
        let opened = open(&site.ledger, flow).await?;
        let restrictions = site.ledger.restrictions().await?;
        let (seen, unread) = match site.parameters.read(flow).await {
            Ok(seen) => (seen, None),
            Err(error) => (as_recorded(opened.rollout.as_ref()), Some(error.to_string())),
        };
        let recalled = match &opened.rollout {
            Some(rollout) if rollout.phase.is_watched() => Some(recall(&site.ledger, flow, rollout).await?),
            _ => None,
        };
        Ok(Read { opened, seen, unread, recalled, restrictions })
    }
}

/// The percentage that our record explains: one that was not read must not look like one that somebody deleted.
fn as_recorded(rollout: Option<&Rollout>) -> Seen {
    let applied = rollout.and_then(|rollout| rollout.applied);
    Seen { percentage: applied.map(|applied| (applied.weight.to_string(), applied.version)), ..Seen::default() }
}

/// Entries that a view shows.
const ENTRIES: usize = 8;

impl View {
    /// Reads it.
    pub(crate) async fn of(site: &Site, flow: &FlowName) -> anyhow::Result<View> {
        let Read { opened, seen, unread, recalled, restrictions } = Read::of(site, flow).await?;
        let view = View::seen(flow, &opened, &seen, recalled.as_ref(), &restrictions, site.now);
        Ok(match unread {
            // What is taken for granted then is not what was seen.
            Some(_) => View { unread, percentage: None, ..view },
            None => view,
        })
    }

    pub(crate) fn seen(
        flow: &FlowName,
        opened: &Opened,
        seen: &Seen,
        recalled: Option<&Recalled>,
        restrictions: &[Restriction],
        now: Timestamp,
    ) -> View {
        let restricted = in_force(restrictions, flow, now);
        let forgiven = forgiven(restrictions, flow, now);
        let entry = |stored: &serin_core::ledger::StoredEntry| {
            let entry = &stored.entry;
            Said {
                revision: entry.revision,
                at: entry.at,
                event: entry.event.name(),
                by: plain(&entry.by.to_string()),
                why: plain(&entry.why),
            }
        };
        let rollout = opened.rollout.as_ref().map(|rollout| {
            let analysis = recalled.map(|recalled| recalled.judge(rollout, &forgiven, now));
            Running::of(rollout, analysis.as_ref(), seen, &restricted, now)
        });
        View {
            flow: flow.clone(),
            rollout,
            percentage: seen.percentage.as_ref().map(|(text, _)| text.clone()),
            unread: None,
            restrictions: restricted.iter().map(ToString::to_string).collect(),
            entries: opened.book.entries.iter().rev().take(ENTRIES).map(entry).collect(),
        }
    }

    /// What calls get, as far as it can be seen here.
    pub(crate) fn weight(&self) -> String {
        let Some(rollout) = &self.rollout else { return "no rollout yet".to_owned() };
        let holds = match (&self.unread, &self.percentage) {
            (Some(_), _) => "the parameter cannot be read".to_owned(),
            (None, Some(text)) => format!("the parameter holds {text}"),
            (None, None) => "there is no parameter yet".to_owned(),
        };
        let halt = if rollout.halted { ", halted: calls are on stable" } else { "" };
        format!("{} % by the record, {holds}{halt}", rollout.weight)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let Some(rollout) = &self.rollout else {
            return format!("{}  no rollout yet; `serin start FILE --reason …` opens one", self.flow);
        };
        let labelled = |label: &str, text: &str| format!("  {label:<14}{}", text.replace('\n', "\n                "));
        let mut lines = vec![
            format!("{}  {}  {}  {}", self.flow, rollout.id, tone_of(rollout.phase).paint(&rollout.shown), rollout.lasts),
            labelled("plan", &format!("version {}, {}, mode {}, steps {}", rollout.version, rollout.strategy, rollout.mode, rollout.way())),
            labelled("weight", &self.weight()),
        ];
        lines.extend(self.unread.iter().map(|unread| labelled("", unread)));
        lines.extend(self.restrictions.iter().map(|restriction| labelled("restricted", restriction)));
        if rollout.is_watched {
            lines.push(String::new());
            lines.extend(rollout.table().lines().map(|line| format!("  {line}")));
            lines.push(String::new());
        }
        if let Some(evidence) = &rollout.evidence {
            lines.extend(evidence.bars(24).into_iter().map(|(label, bar, said)| labelled(&label, &format!("[{bar}] {said}"))));
        }
        if let Some(now) = &rollout.now {
            lines.push(labelled("now", &now.sentence));
            lines.push(labelled("would change", &now.would_change));
            lines.push(labelled("next", &next(now)));
        }
        if let Some(entry) = self.entries.first() {
            lines.push(labelled("last", &format!("{:.0}  {}  {}", entry.at, entry.event, entry.why)));
        }
        lines.join("\n")
    }
}

/// When the next decision is.
pub(crate) fn next(now: &Explanation) -> String {
    match now.next_in_minutes {
        Some(minutes) => format!("in about {}", spell(f64::from(minutes))),
        None => "not foreseeable".to_owned(),
    }
}

/// The color of a phase, by its name.
pub(crate) fn tone_of(phase: &str) -> Tone {
    match phase {
        "Promoted" => Tone::Good,
        "RollingBack" | "RolledBack" | "NeedsHuman" | "Contaminated" | "Failed" => Tone::Bad,
        "Paused" | "AwaitingApproval" | "Aborted" => Tone::Busy,
        _ => Tone::Plain,
    }
}

impl Running {
    fn of(rollout: &Rollout, analysis: Option<&Analysis>, seen: &Seen, restricted: &[Restriction], now: Timestamp) -> Running {
        let policy = &rollout.plan.policy;
        let explanation = analysis.map(|analysis| {
            let facts = Facts { rollout, seen, analysis: Some(analysis), drift: None, restricted, now };
            explain(&decide(&facts), &facts)
        });
        let counts = analysis.map(|a| a.counts).unwrap_or_default();
        let evidence = analysis
            .and_then(|a| a.evidence.as_ref())
            .filter(|_| matches!(rollout.phase, Phase::Stepping { .. } | Phase::AwaitingApproval { .. }));
        let next = policy.step_after(rollout.in_force.weight).unwrap_or(Weight::FULL);
        Running {
            id: rollout.id.clone(),
            phase: rollout.phase.name(),
            shown: rollout.phase.to_string(),
            weight: rollout.desired_weight(),
            since: rollout.phase_since,
            lasts: lasts(rollout.phase_since, now),
            strategy: rollout.plan.strategy.name(),
            mode: policy.mode.name(),
            steps: policy.weights().into_iter().chain([Weight::FULL]).collect(),
            version: rollout.canary_version.clone().unwrap_or_else(|| rollout.plan.canary.version.clone()),
            halted: seen.halts(&rollout.id),
            is_watched: rollout.phase.is_watched(),
            rates: measured(rollout).iter().map(|metric| Rate::of(*metric, &counts)).collect(),
            cohorts: counts,
            evidence: evidence.map(|e| Evidence {
                harm: e.harm,
                harm_limit: e.harm_limit,
                towards_rollback: e.towards_rollback(),
                towards_rise: e.towards_rise,
                next: e.towards_rise.map(|_| next),
            }),
            now: explanation,
        }
    }

    /// Its steps; the one it is at in brackets.
    pub(crate) fn way(&self) -> String {
        let step = |step: &Weight| if *step == self.weight && self.is_watched { format!("[{step}]") } else { step.to_string() };
        self.steps.iter().map(step).collect::<Vec<_>>().join(" ")
    }

    /// Both cohorts.
    pub(crate) fn table(&self) -> String {
        let cell = |side: Option<Interval>| match side {
            Some(Interval { percent, low, high }) => format!("{percent:.1} % ({low:.1} – {high:.1})"),
            None => "-".to_owned(),
        };
        let row = |name: &str, calls: u32, side: fn(&Rate) -> Option<Interval>| {
            [name.to_owned(), format!("{calls:>6}")].into_iter().chain(self.rates.iter().map(|rate| cell(side(rate)))).collect::<Vec<_>>()
        };
        let rows =
            [row("stable", self.cohorts.stable.calls, |rate| rate.stable), row("canary", self.cohorts.canary.calls, |rate| rate.canary)];
        let names = self.rates.iter().map(|rate| format!("{} (95 %)", label(rate.metric)));
        let head: Vec<String> = [String::new(), " calls".to_owned()].into_iter().chain(names).collect();
        columns(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
    }
}

/// What is measured of a flow: an outcome tells whether a branch did its work, and nothing else.
fn measured(rollout: &Rollout) -> &'static [Metric] {
    match rollout.plan.strategy {
        Strategy::InFlow => &[Metric::Error],
        Strategy::TrafficCop | Strategy::Pointer | Strategy::PublishWatch => &[Metric::Error, Metric::Abandon, Metric::Transfer],
    }
}

impl Rate {
    fn of(metric: Metric, counts: &Comparison) -> Rate {
        let side = |counts: &Counts| {
            let ((low, high), percent) = counts.interval(metric).zip(counts.percent(metric))?;
            Some(Interval { percent, low, high })
        };
        Rate { metric: metric.name(), stable: side(&counts.stable), canary: side(&counts.canary) }
    }
}

impl Evidence {
    /// Label, bar, and what it says in words.
    pub(crate) fn bars(&self, width: usize) -> Vec<(String, String, String)> {
        let percent = |part: f64| format!("{:>3.0} %", (100.0 * part).floor());
        let back = format!("{}  evidence {:.1} of {:.0}", percent(self.towards_rollback), self.harm, self.harm_limit);
        let mut bars = vec![("to rollback".to_owned(), bar(self.towards_rollback, width), back)];
        if let (Some(part), Some(next)) = (self.towards_rise, self.next) {
            bars.push((format!("to {next} %"), bar(part, width), percent(part)));
        }
        bars
    }
}

fn bar(part: f64, width: usize) -> String {
    let full = ((part * width as f64).floor() as usize).min(width);
    format!("{}{}", "#".repeat(full), "-".repeat(width - full))
}

/// Since when, and for how long.
fn lasts(since: Timestamp, now: Timestamp) -> String {
    let minutes = now.duration_since(since).max(SignedDuration::ZERO).as_secs_f64() / 60.0;
    match minutes {
        m if m < 1.0 => format!("since {since:.0}"),
        m => format!("since {since:.0}, {}", spell(m)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serin_controller::ports::Book;
    use serin_core::ledger::StoredEntry;
    use serin_core::measurement::Window;

    /// A rollout a while after its first step: its ledger, its parameters, what was measured, and now.
    pub(crate) fn stepping() -> (Opened, Seen, Recalled, Timestamp) {
        let kept = include_str!("../../core/tests/ledgers/traffic-cop.jsonl");
        let entries: Vec<StoredEntry> = kept.lines().map(|line| StoredEntry::open(line.to_owned()).expect("an entry")).collect();
        let applied = entries.iter().position(|stored| stored.entry.event.name() == "WeightApplied").expect("a step");
        let entries = entries[..=applied].to_vec();
        let last = &entries[applied];
        let rollout = Rollout::replay(entries.iter().map(|stored| &stored.entry)).expect("a rollout");
        let now = last.entry.at + SignedDuration::from_mins(25);
        let counts = |calls, errors, abandons, transfers| Counts {
            calls,
            errors,
            abandons,
            transfers,
            contained: calls - errors - abandons - transfers,
            ..Counts::default()
        };
        let from = serin_core::summary::hour(rollout.in_force.since);
        let window = |minute: i64| Window {
            start: from + SignedDuration::from_mins(minute),
            counts: Comparison { stable: counts(95, 1, 5, 20), canary: counts(5, u32::from(minute % 4 == 0), 0, 1) },
        };
        let minutes = now.duration_since(from).as_mins();
        let recalled = Recalled { summary: None, from, windows: (0..minutes).map(window).collect() };
        let seen = Seen { percentage: Some(("5".to_owned(), rollout.applied.expect("applied").version)), ..Seen::default() };
        let book = Book { revision: last.entry.revision, head_hash: last.hash(), entries, ..Book::empty() };
        (Opened { book, rollout: Some(rollout) }, seen, recalled, now)
    }

    #[test]
    fn a_flow_is_told_with_both_cohorts_the_evidence_and_what_comes_next() {
        let (opened, seen, recalled, now) = stepping();
        let view = View::seen(&"main_ivr".parse().expect("a name"), &opened, &seen, Some(&recalled), &[], now);
        let text = view.text();
        for words in [
            "Stepping at 5 %",
            "steps [5] 25 50 100",
            "the parameter holds 5",
            "stable",
            "canary",
            "to rollback",
            "evidence",
            "would change",
            "next",
            "WeightApplied",
        ] {
            assert!(text.contains(words), "{words} is not there\n{text}");
        }
        let told = serde_json::to_value(&view).expect("json");
        let evidence = &told["rollout"]["evidence"];
        assert!(evidence["towards_rollback"].as_f64().is_some_and(|part| (0.0..=1.0).contains(&part)), "{told}");
        assert_eq!((&told["rollout"]["phase"], &evidence["next"]), (&"Stepping".into(), &serde_json::json!(25.0)), "{told}");
        assert!(told["rollout"]["rates"][0]["canary"]["high"].as_f64() > told["rollout"]["rates"][0]["canary"]["percent"].as_f64());
    }

    #[test]
    fn parameters_that_cannot_be_read_do_not_hide_the_record() {
        let (opened, _, recalled, now) = stepping();
        let seen = as_recorded(opened.rollout.as_ref());
        let view = View::seen(&"main_ivr".parse().expect("a name"), &opened, &seen, Some(&recalled), &[], now);
        let view = View { unread: Some("parameter /genesys/canary/prod/main_ivr/percentage: throttled".into()), percentage: None, ..view };
        let text = view.text();
        assert!(!text.contains("deleted") && text.contains("baking"), "{text}");
        assert!(text.contains("the parameter cannot be read") && text.contains("throttled") && text.contains("Stepping at 5 %"), "{text}");
    }

    #[test]
    fn a_bar_is_as_long_as_it_is_wide() {
        assert_eq!((bar(0.0, 4).as_str(), bar(0.49, 4).as_str(), bar(1.0, 4).as_str()), ("----", "#---", "####"));
    }
}
