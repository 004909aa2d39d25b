//! Recorded histories: `serin ledger export FLOW` writes one, `serin replay FILE` reads one and asks what other policies had done.
//!
//! A file is JSON lines in one of two forms: decision protocol 1 as a harness spoke it, or ledger entries followed by the windows
//! that were measured. Reading is here; `walk` asks the policies and prints.

mod walk;

use crate::file;
use crate::protocol::{self, Fields, Init, Line, Tick};
use anyhow::{Context, anyhow};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serin_core::ledger::{StoredEntry, verify};
use serin_core::measurement::{Comparison, Counts, InForce, WINDOW, Window};
use serin_core::policy::{MetricRule, Minutes, Policy, Rule, SequentialRule};
use serin_core::rollout::Rollout;
use serin_core::sequential::{self, Counter, Metric, Sequential, Settings, Tally};
use serin_core::weight::Weight;
use std::collections::{BTreeMap, btree_map};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

pub(crate) use walk::{compare, table};

/// Longer files are refused.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// Longer rollouts are refused: every policy is asked every minute.
const LONGEST: SignedDuration = SignedDuration::from_hours(31 * 24);
/// Calls of one history; more than anybody has, and sums of them stay far from the end of their type.
const MOST_CALLS: u64 = 1_000_000_000;
/// Minutes before or after the beginning that a protocol line may name.
const MOST_MINUTES: i64 = 10_000_000;
/// After the last window of a history whose end is not recorded: a policy may still wait for it to settle.
const AFTERWARDS: SignedDuration = SignedDuration::from_mins(10);

/// What is accepted, said with every refusal of a line.
const ACCEPTED: &str = "accepted are lines of decision protocol 1 (`init`, `tick`, `end`) and of `serin ledger export FLOW`";

/// One rollout as it was recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    name: String,
    /// Every weight that was in force below its end, oldest first.
    weights: Vec<InForce>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Harness(Box<Harness>),
    Ledger(Box<Ledger>),
}

/// A rollout that a harness played.
#[derive(Debug)]
struct Harness {
    settings: Settings,
    fields: Fields,
    /// For the other rules.
    policy: Policy,
    looks: Vec<Look>,
}

/// What a tick told.
#[derive(Debug)]
struct Look {
    minute: i64,
    weight: f64,
    unreadable: bool,
    windows: Vec<sequential::Window>,
}

/// A rollout that Serin ran.
#[derive(Debug)]
struct Ledger {
    rollout: Rollout,
    windows: BTreeMap<Timestamp, Comparison>,
    calls: u64,
    /// When calls were no longer compared, and what was said then.
    ended: Option<(Timestamp, String)>,
}

/// A policy to compare with.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A rule by its name, within the recorded policy.
    Named(Rule),
    /// One of a file.
    Written(String, Box<Policy>),
}

/// The lines of an export: every stored entry as its bytes, then every window.
pub(crate) fn export<'a>(entries: &'a [StoredEntry], windows: &'a [Window]) -> impl Iterator<Item = String> + 'a {
    let entries = entries.iter().map(|stored| stored.bytes.clone());
    entries.chain(windows.iter().map(|window| serde_json::json!({ "window": window }).to_string()))
}

/// The policy that a person named: a rule, or a file with a policy or a rollout.
pub(crate) fn asked(name: &str) -> anyhow::Result<Asked> {
    if let Some(rule) = Rule::named(name) {
        return Ok(Asked::Named(rule));
    }
    let path = Path::new(name);
    if !path.is_file() {
        return Err(anyhow!(
            "policy `{name}` is not accepted: sequential, threshold, hysteresis, consecutive, not-worse or a YAML file (a policy, or a rollout file) are"
        ));
    }
    let mut text = String::new();
    let most = 64 * 1024;
    std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text).with_context(|| format!("policy file {name} cannot be read"))?;
    if text.len() as u64 > most {
        return Err(anyhow!("{name}: a policy file has at most {most} bytes"));
    }
    let refused = |e: serde_saphyr::Error| anyhow!("{name}: {e}");
    let policy = match serde_saphyr::from_str::<serde_json::Value>(&text).map_err(refused)? {
        serde_json::Value::Object(fields) if fields.contains_key("flow") || fields.contains_key("policy") => file::read(path)?.policy,
        _ => serde_saphyr::from_str(&text).map_err(refused)?,
    };
    Ok(Asked::Written(name.to_owned(), Box::new(policy)))
}

/// Reads a history from a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Recording>> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("history {shown} cannot be read"))?;
    let length = file.metadata().with_context(|| format!("history {shown} cannot be read"))?.len();
    if length > MOST_BYTES {
        return Err(anyhow!(
            "{shown}: {length} bytes are not accepted: a history has at most {MOST_BYTES} (256 MB); keep the rollouts that you want to compare"
        ));
    }
    parse(BufReader::new(file.take(MOST_BYTES))).with_context(|| shown.to_string())
}

/// Reads a history.
fn parse(mut input: impl BufRead) -> anyhow::Result<Vec<Recording>> {
    let (mut done, mut open, mut number) = (Vec::new(), None, 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        number += 1;
        let whole = bytes.last() == Some(&b'\n');
        let at = |why: String| anyhow!("line {number}: {why}");
        let text = std::str::from_utf8(&bytes).map_err(|e| at(format!("no UTF-8 after byte {}; {ACCEPTED}", e.valid_up_to())))?;
        if !text.trim().is_empty() {
            let cut_off = |e: &serde_json::Error| e.is_eof() && !whole;
            take(text.trim_end(), cut_off, &mut open, &mut done).map_err(at)?;
        }
    }
    close(&mut open, &mut done).map_err(|why| anyhow!("after line {number}: {why}"))?;
    if done.is_empty() {
        return Err(anyhow!("there is nothing in it; {ACCEPTED}"));
    }
    Ok(done)
}

/// The rollout that is being read.
enum Open {
    Harness(String, Box<Harness>),
    Ledger(Box<Ledger>, Box<StoredEntry>),
}

/// By which field a line tells what it is.
#[derive(Deserialize)]
struct Form {
    #[serde(rename = "type")]
    protocol: Option<IgnoredAny>,
    schema: Option<IgnoredAny>,
    window: Option<IgnoredAny>,
    action: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct WindowLine {
    window: Window,
}

fn take(
    line: &str,
    cut_off: impl Fn(&serde_json::Error) -> bool,
    open: &mut Option<Open>,
    done: &mut Vec<Recording>,
) -> Result<(), String> {
    let refused = |e: serde_json::Error| match cut_off(&e) {
        true => "it ends in the middle: the file was cut off; copy it again, or remove this line".to_owned(),
        false => format!("{e}; {ACCEPTED}"),
    };
    match serde_json::from_str(line).map_err(refused)? {
        Form { protocol: Some(_), .. } => match serde_json::from_str(line).map_err(refused)? {
            Line::Init(init) => {
                close(open, done)?;
                *open = Some(begin(&init)?);
                Ok(())
            }
            Line::Tick(tick) => match open {
                Some(Open::Harness(_, harness)) => harness.take(&tick),
                _ => Err("a tick came before any init".to_owned()),
            },
            Line::End => close(open, done),
        },
        Form { schema: Some(_), .. } => entry(StoredEntry::open(line.to_owned()).map_err(|e| e.to_string())?, open, done),
        Form { window: Some(_), .. } => match open {
            Some(Open::Ledger(ledger, _)) => ledger.take(serde_json::from_str::<WindowLine>(line).map_err(refused)?.window),
            _ => Err("a window came before any ledger entry: an export begins with the entries".to_owned()),
        },
        // What an engine answered, in a file that kept both sides.
        Form { action: Some(_), .. } => Ok(()),
        _ => Err(format!("neither a line of the protocol nor of an export; {ACCEPTED}")),
    }
}

fn close(open: &mut Option<Open>, done: &mut Vec<Recording>) -> Result<(), String> {
    done.extend(match open.take() {
        Some(Open::Harness(name, harness)) => Some(harness.recording(name)?),
        Some(Open::Ledger(ledger, _)) => Some(ledger.recording()?),
        None => None,
    });
    Ok(())
}

fn begin(init: &Init) -> Result<Open, String> {
    let (settings, fields) = protocol::settings(init)?;
    Sequential::start(settings.clone())?;
    let policy = policy_of(init, &settings)?;
    let name = if init.rollout.is_empty() { "without a name".to_owned() } else { init.rollout.clone() };
    Ok(Open::Harness(name, Box::new(Harness { settings, fields, policy, looks: Vec::new() })))
}

/// The protocol's windows are those of calls that began in them, and complete.
fn policy_of(init: &Init, settings: &Settings) -> Result<Policy, String> {
    let usual = |m: &&Metric| Metric::named(&m.name).is_some();
    let metrics: Vec<MetricRule> = settings
        .metrics
        .iter()
        .filter(usual)
        .map(|m| MetricRule { name: m.name.clone(), tolerance: Some(100.0 * m.tolerance), margin: Some(100.0 * m.margin), required: None })
        .collect();
    let default = Policy::default();
    // A step of fewer minutes would end before the limit on errors has its windows.
    let bake_time = Minutes(init.min_step_min.max(default.errors.windows));
    let steps: Result<Vec<Weight>, _> = init.plan.iter().filter(|w| **w < 100.0).map(|w| Weight::try_from(*w)).collect();
    let rule = if metrics.is_empty() { SequentialRule::default() } else { SequentialRule { metrics, ..SequentialRule::default() } };
    checked(Policy {
        steps: steps.map_err(|e| format!("plan: {e}"))?,
        bake_time,
        final_bake_time: Minutes(60),
        rule: Rule::Sequential(rule),
        expected_calls_per_hour: Some(init.expected_calls_per_hour),
        long_call: Minutes(0),
        settle: Minutes(0),
        step_cap: ENDLESS,
        max_blind: ENDLESS,
        ..default
    })
}

/// A month: longer than any history. A harness has a horizon of its own.
const ENDLESS: Minutes = Minutes(43_200);

/// A policy that was put together, checked as one that is read.
pub(crate) fn checked(policy: Policy) -> Result<Policy, String> {
    serde_json::to_value(policy).and_then(serde_json::from_value).map_err(|e| e.to_string())
}

/// A minute of the protocol as a time.
fn minute(minute: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
}

fn in_reach(name: &str, minute: i64) -> Result<(), String> {
    match minute.abs() <= MOST_MINUTES {
        true => Ok(()),
        false => Err(format!("{name} {minute} is not accepted: minutes since the rollout began are")),
    }
}

impl Harness {
    fn take(&mut self, tick: &Tick) -> Result<(), String> {
        let now = tick.t_min.ok_or("a tick without `t_min` is not accepted: the minute of the tick is")?;
        in_reach("t_min", now)?;
        if let Some(before) = self.looks.last().filter(|look| look.minute > now) {
            return Err(format!("t_min {now} is not accepted after {}: ticks in the order of time are", before.minute));
        }
        let windows = self.fields.windows(tick)?;
        for (name, weight) in [("weight", tick.weight)].into_iter().chain(windows.iter().map(|w| ("weight of a window", w.weight))) {
            if !(0.0..=100.0).contains(&weight) {
                return Err(format!("{name} {weight} is not accepted: a percentage from 0 to 100 is"));
            }
        }
        for window in &windows {
            in_reach("start_min", window.start)?;
        }
        self.looks.push(Look { minute: now, weight: tick.weight, unreadable: tick.status == "error", windows });
        Ok(())
    }

    fn recording(self: Box<Self>, name: String) -> Result<Recording, String> {
        // A change takes effect at a tick; windows that are there say so more exactly.
        let (mut by_minute, mut since) = (BTreeMap::new(), 0);
        for look in &self.looks {
            by_minute.insert(since, look.weight);
            by_minute.extend(look.windows.iter().map(|w| (w.start, w.weight)));
            since = look.minute;
        }
        let calls: u64 = self.looks.iter().flat_map(|look| &look.windows).map(|w| size(&counted(w))).sum();
        if calls == 0 {
            return Err(format!("rollout {name} has no window with a call: there is nothing to replay"));
        }
        few_enough(&name, calls)?;
        let (first, last) = (by_minute.keys().next().copied().unwrap_or(0), by_minute.keys().last().copied().unwrap_or(0).max(since));
        short_enough(&name, SignedDuration::from_mins(last - first))?;
        let mut weights: Vec<InForce> = Vec::new();
        for (start, percent) in by_minute {
            // Serin's weights have two decimals.
            let weight = Weight::from_basis_points((percent * 100.0).round() as u16).expect("a weight was checked when it was read");
            if weights.last().is_none_or(|before| before.weight != weight) {
                weights.push(InForce { weight, since: minute(start) });
            }
        }
        Ok(Recording { name, weights, source: Source::Harness(self) })
    }
}

/// A window of the protocol as Serin records one. Times have no place in it.
fn counted(window: &sequential::Window) -> Comparison {
    let count = |tally: &Tally, counter| tally.get(counter).unwrap_or(0.0).round().min(MOST_CALLS as f64) as u32;
    let side = |tally: &Tally| Counts {
        calls: count(tally, Counter::Calls),
        errors: count(tally, Counter::Errors),
        abandons: count(tally, Counter::Abandons),
        transfers: count(tally, Counter::Transfers),
        contained: count(tally, Counter::Contained),
        ..Counts::default()
    };
    Comparison { stable: side(&window.stable), canary: side(&window.canary) }
}

/// The largest sum that can be made of its counts.
fn size(counts: &Comparison) -> u64 {
    let side = |c: &Counts| [c.calls, c.errors, c.abandons, c.transfers, c.contained].into_iter().map(u64::from).max().unwrap_or(0);
    side(&counts.stable) + side(&counts.canary)
}

fn few_enough(name: &str, calls: u64) -> Result<(), String> {
    match calls <= MOST_CALLS {
        true => Ok(()),
        false => Err(format!("rollout {name} has {calls} calls, which is not accepted: at most {MOST_CALLS} are")),
    }
}

fn short_enough(name: &str, length: SignedDuration) -> Result<(), String> {
    match length <= LONGEST {
        true => Ok(()),
        false => Err(format!("rollout {name} lasted {} hours, which is not accepted: at most 31 days are", length.as_hours())),
    }
}

/// Takes a ledger entry; one that opens a rollout ends the one before.
fn entry(stored: StoredEntry, open: &mut Option<Open>, done: &mut Vec<Recording>) -> Result<(), String> {
    in_calendar("the entry's time", stored.entry.at)?;
    match open {
        Some(Open::Ledger(ledger, before)) if before.entry.rollout == stored.entry.rollout => {
            verify([&stored], before.entry.revision, before.hash()).map_err(|e| e.to_string())?;
            ledger.after(&stored)?;
            **before = stored;
            Ok(())
        }
        _ => {
            close(open, done)?;
            let rollout =
                Rollout::replay([&stored.entry]).map_err(|e| format!("{e}: an export holds a rollout from its first entry on"))?;
            *open = Some(Open::Ledger(Box::new(Ledger { rollout, windows: BTreeMap::new(), calls: 0, ended: None }), Box::new(stored)));
            Ok(())
        }
    }
}

/// Times so far off that they cannot be reckoned with.
fn in_calendar(name: &str, at: Timestamp) -> Result<(), String> {
    match (946_684_800..7_258_118_400).contains(&at.as_second()) {
        true => Ok(()),
        false => Err(format!("{name} {at} is not accepted: a time from 2000 to 2199 is")),
    }
}

impl Ledger {
    fn after(&mut self, stored: &StoredEntry) -> Result<(), String> {
        let was_watched = self.rollout.phase.is_watched();
        self.rollout = self.rollout.clone().after(&stored.entry).map_err(|e| e.to_string())?;
        if was_watched && !self.rollout.phase.is_watched() && self.ended.is_none() {
            self.ended = Some((stored.entry.at, format!("{}: {}", stored.entry.event.name(), stored.entry.why)));
        }
        Ok(())
    }

    fn take(&mut self, window: Window) -> Result<(), String> {
        in_calendar("the window's start", window.start)?;
        if window.start.as_second() % 60 != 0 || window.start.subsec_nanosecond() != 0 {
            return Err(format!("the window's start {} is not accepted: a whole minute is", window.start));
        }
        self.calls += size(&window.counts);
        few_enough(&self.rollout.id, self.calls)?;
        // One that comes again is a newer reading.
        match self.windows.entry(window.start) {
            btree_map::Entry::Vacant(free) => drop(free.insert(window.counts)),
            btree_map::Entry::Occupied(mut known) => drop(known.insert(window.counts)),
        }
        Ok(())
    }

    fn recording(self: Box<Self>) -> Result<Recording, String> {
        let name = self.rollout.id.clone();
        let Some(first) = self.rollout.weights.first().copied() else {
            return Err(format!("rollout {name} never sent a call to its canary: there is nothing to replay"));
        };
        if self.windows.is_empty() {
            return Err(format!("rollout {name} has no windows: write the file with `serin ledger export {}`", self.rollout.plan.flow));
        }
        short_enough(&name, self.until().duration_since(first.since))?;
        let until = self.until();
        let weights = self.rollout.weights.iter().copied().filter(|w| w.since <= until).collect();
        Ok(Recording { name, weights, source: Source::Ledger(self) })
    }

    /// Until when it is walked.
    fn until(&self) -> Timestamp {
        match (&self.ended, self.windows.last_key_value()) {
            (Some((at, _)), _) => *at,
            (None, Some((last, _))) => *last + WINDOW + AFTERWARDS,
            (None, None) => self.rollout.in_force.since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use serin_core::ledger::{Entry, Hash, SCHEMA};
    use serin_core::phase::Event;
    use serin_core::rollout::{Actor, Cause, Plan, Snapshot};

    fn at(minute: i64) -> Timestamp {
        "2026-11-20T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
    }

    fn percent(p: u16) -> Weight {
        Weight::from_basis_points(100 * p).unwrap()
    }

    /// 5 % from minute 10, 25 % from minute 60, taken back by a person at minute 90.
    fn entries() -> Vec<StoredEntry> {
        let plan: Plan = serde_json::from_value(json!({
            "flow": "main_ivr", "stable": {"flow_id": "b10e"}, "canary": {"flow_id": "97ee", "version": "15.0"},
            "policy": {"expected_calls_per_hour": 1200},
        }))
        .unwrap();
        let text = |t: &str| t.to_owned();
        let snapshot = Snapshot {
            stable_version: text("14.0"),
            stable_hash: text("a"),
            rollback_target: text("14.0"),
            rollback_hash: text("a"),
            canary_hash: text("b"),
            ..Snapshot::default()
        };
        let step = |p, base_version| Event::StepStarted { weight: percent(p), base_version };
        let applied = |p, version| Event::WeightApplied { weight: percent(p), version };
        let cause = Cause::Requested { by: text("ana"), reason: text("complaints") };
        let events = [
            (0, Event::Requested { plan: Box::new(plan) }),
            (1, Event::SnapshotTaken { snapshot }),
            (2, Event::Prepared { canary_version: text("15.0") }),
            (9, step(5, 1)),
            (10, applied(5, 2)),
            (59, step(25, 2)),
            (60, applied(25, 3)),
            (90, Event::RollbackStarted { cause }),
            (92, Event::RollbackFinished { version: text("14.0") }),
        ];
        let mut previous = Hash::genesis();
        let seal = |(revision, (minute, event)): (usize, (i64, Event))| {
            let stored = StoredEntry::seal(Entry {
                schema: SCHEMA,
                flow: "main_ivr".parse().unwrap(),
                rollout: text("r-20261120-1"),
                revision: revision as u64 + 1,
                at: at(minute),
                recorded_at: at(minute),
                by: Actor::Serin(text("canary-evaluator")),
                event,
                why: text("because"),
                evidence: None,
                previous: previous.clone(),
            });
            previous = stored.hash();
            stored
        };
        events.into_iter().enumerate().map(seal).collect()
    }

    /// Healthy at 5 %; at 25 % three canary calls in five fail.
    fn windows() -> Vec<Window> {
        let counts = |calls: u32, errors: u32, abandons: u32, transfers: u32| Counts {
            calls,
            errors,
            abandons,
            transfers,
            contained: calls - errors - abandons - transfers,
            ..Counts::default()
        };
        (10..90)
            .map(|minute| {
                let (abandons, transfers) = (u32::from(minute % 30 == 0), u32::from(minute % 5 == 0));
                let (stable, canary) = match minute < 60 {
                    true => (counts(19, 0, 1, 4), counts(1, 0, abandons, transfers - abandons)),
                    false => (counts(15, 0, 1, 3), counts(5, 3, abandons, transfers)),
                };
                Window { start: at(minute), counts: Comparison { stable, canary } }
            })
            .collect()
    }

    fn exported() -> Vec<String> {
        export(&entries(), &windows()).collect()
    }

    fn read_lines(lines: &[String]) -> Result<Vec<Recording>, String> {
        parse((lines.join("\n") + "\n").as_bytes()).map_err(|e| format!("{e:#}"))
    }

    fn rows(lines: &[String], asked: &[Asked]) -> Value {
        let recordings = read_lines(lines).unwrap();
        serde_json::to_value(recordings.iter().map(|r| compare(r, asked).unwrap()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn an_export_reads_back_as_it_was_recorded() {
        let recordings = read_lines(&exported()).unwrap();
        let Source::Ledger(ledger) = &recordings[0].source else { panic!("an export is a ledger") };
        assert_eq!(ledger.rollout, Rollout::replay(entries().iter().map(|s| &s.entry)).unwrap());
        let read: Vec<Window> = ledger.windows.iter().map(|(start, counts)| Window { start: *start, counts: *counts }).collect();
        assert_eq!(read, windows());
        let weights: Vec<_> = recordings[0].weights.iter().map(|w| (w.weight.percent(), w.since)).collect();
        assert_eq!(weights, [(5.0, at(10)), (25.0, at(60))]);
        assert_eq!(ledger.ended, Some((at(90), "RollbackStarted: because".to_owned())));
    }

    #[test]
    fn an_exported_rollout_shows_what_every_rule_and_the_recorded_policy_would_have_done() {
        let compared = rows(&exported(), &[]);
        let policies = compared[0]["policies"].as_array().unwrap();
        let names: Vec<&str> = policies.iter().map(|p| p["policy"].as_str().unwrap()).collect();
        assert_eq!(names, ["as recorded", "sequential", "threshold", "hysteresis", "consecutive", "not-worse"]);
        assert_eq!(policies[0]["takes_back"], policies[1]["takes_back"], "the recorded policy is the default one");
        for policy in policies {
            let back = &policy["takes_back"];
            assert_eq!(back["weight"], 25.0, "{policy}");
            let minute = back["minute"].as_i64().unwrap();
            assert!((50..80).contains(&minute), "{policy}");
            assert_eq!(back["at"], json!(at(10 + minute)), "{policy}");
            // One a minute at 5 %, five at 25 %.
            assert_eq!(back["canary_calls"], 50 + 5 * (minute - 50), "{policy}");
            assert!(policy["reason"].as_str().unwrap().contains("errors 60.0 %"), "{policy}");
            let rise = &policy["rises"][0];
            assert!(rise["minute"].as_i64().is_some_and(|minute| (30..50).contains(&minute)), "{policy}");
        }
    }

    #[test]
    fn the_walk_finds_at_every_minute_what_the_evaluator_would() {
        use serin_core::analysis::{Measured, Verdict, analyze};
        let (recordings, recorded) = (read_lines(&exported()).unwrap(), windows());
        let weights = &recordings[0].weights;
        let policy: Policy = serde_json::from_value(json!({"expected_calls_per_hour": 1200})).unwrap();
        let fails = (11..=90).find(|minute| {
            let known: Vec<Window> = recorded.iter().filter(|w| w.start + WINDOW <= at(*minute)).copied().collect();
            let weights: Vec<InForce> = weights.iter().filter(|w| w.since < at(*minute)).copied().collect();
            let measured = Measured { policy: &policy, weights: &weights, windows: &known, summary: None, baseline: None };
            matches!(analyze(&measured, at(*minute)).verdict, Verdict::Fail(_))
        });
        let compared = rows(&exported(), &[]);
        assert_eq!(compared[0]["policies"][0]["takes_back"]["minute"].as_i64().map(|m| m + 10), fails);
    }

    #[test]
    fn windows_that_come_doubled_or_out_of_order_are_sorted_and_the_later_replaces() {
        let mut lines = exported();
        let tail = lines.split_off(entries().len());
        let wrong = tail[0].replace("\"calls\":19", "\"calls\":5000");
        let shuffled: Vec<String> = lines.iter().cloned().chain([wrong]).chain(tail.into_iter().rev()).collect();
        assert_eq!(rows(&shuffled, &[]), rows(&exported(), &[]));
    }

    #[test]
    fn a_policy_of_a_file_stands_beside_a_named_rule() {
        let gentle: Policy = serde_json::from_value(json!({
            "rule": {"kind": "threshold"}, "errors": {"percent": 90}, "catastrophe": {"percent": 99},
        }))
        .unwrap();
        let asked = [Asked::Named(Rule::named("not-worse").unwrap()), Asked::Written("gentle.yaml".to_owned(), Box::new(gentle))];
        let compared = rows(&exported(), &asked);
        let policies = compared[0]["policies"].as_array().unwrap();
        assert_eq!((policies.len(), &policies[1]["policy"]), (2, &json!("gentle.yaml")));
        assert_eq!(policies[1]["takes_back"], Value::Null);
    }

    const INIT: &str = r#"{"type":"init","protocol":1,"rollout":"bench/1","tick_min":5,"window_min":1,"horizon_min":720,"plan":[5,25,50,100],"min_step_min":30,"max_step_min":180,"expected_calls_per_hour":1200,"alpha":0.01,"metrics":[{"name":"error","kind":"rate","num":"errors","den":"calls","tolerance":0.005,"margin":0.02},{"name":"handle","kind":"mean","num":"handle_sum_s","den":"handled","sumsq":"handle_sumsq_s2","tolerance":0.05,"margin":0.15}]}"#;

    fn tick(minute: i64, weight: f64, canary_errors: u32, canary_seconds: f64) -> String {
        let side = |calls: u32, errors: u32, seconds: f64| {
            let n = f64::from(calls);
            // Times of n calls that spread a little.
            json!({"calls": calls, "errors": errors, "abandons": 0, "transfers": 0, "contained": calls - errors, "handled": calls,
                   "handle_sum_s": n * seconds, "handle_sumsq_s2": n * seconds * seconds * 1.1})
        };
        let window = |start: i64| {
            json!({"start_min": start, "rev": 0, "weight": weight, "final": true,
                   "stable": side(20, 0, 200.0), "canary": side(10, canary_errors, canary_seconds)})
        };
        let windows: Vec<Value> = (minute - 5..minute).map(window).collect();
        json!({"type": "tick", "t_min": minute, "weight": weight, "status": "ok", "windows": windows}).to_string()
    }

    fn played(canary_errors: u32, seconds: f64) -> Vec<String> {
        // A third of the calls, so that the split is as configured.
        [INIT.to_owned()].into_iter().chain((1..=20).map(|n| tick(5 * n, 33.33, canary_errors, seconds))).collect()
    }

    #[test]
    fn a_history_of_protocol_lines_is_compared_rollout_by_rollout() {
        let lines: Vec<String> =
            played(4, 200.0).into_iter().chain(["{\"type\":\"end\"}".to_owned(), String::new()]).chain(played(0, 200.0)).collect();
        let compared = rows(&lines, &[]);
        assert_eq!(compared.as_array().unwrap().len(), 2);
        for policy in compared[0]["policies"].as_array().unwrap() {
            let back = &policy["takes_back"];
            let minute = back["minute"].as_i64().unwrap_or_else(|| panic!("{policy}"));
            assert_eq!((minute % 5, back["canary_calls"].as_i64().unwrap()), (0, 10 * minute), "{policy}");
            assert!(policy["reason"].as_str().unwrap().contains("errors 40.0 %"), "{policy}");
        }
        for policy in compared[1]["policies"].as_array().unwrap() {
            assert_eq!((&policy["takes_back"], &policy["rises"][0]["minute"]), (&Value::Null, &json!(30)), "{policy}");
        }
    }

    #[test]
    fn of_protocol_lines_the_sequential_rule_sees_the_handle_time() {
        let compared = rows(&played(0, 290.0), &[]);
        let policies = compared[0]["policies"].as_array().unwrap();
        let back: Vec<bool> = policies.iter().map(|p| p["takes_back"].is_object()).collect();
        assert_eq!(back, [true, false, false, false, false]);
        assert!(policies[0]["reason"].as_str().unwrap().contains("handle time 290 s"), "{}", policies[0]);
    }

    #[test]
    fn the_sequential_row_is_what_the_conversation_said_where_the_judge_was_followed() {
        let init = INIT.replace("\"expected_calls_per_hour\":1200", "\"expected_calls_per_hour\":600");
        let lines: Vec<String> = [init].into_iter().chain((1..=20).map(|n| tick(5 * n, 5.0, 1, 200.0))).collect();
        let mut out = Vec::new();
        protocol::serve(lines.join("\n").as_bytes(), &mut out).unwrap();
        let answers: Vec<Value> = String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let back = answers.iter().position(|a| a["action"] == "rollback").unwrap();
        let compared = rows(&lines, &[]);
        let row = &compared[0]["policies"][0];
        assert_eq!((&row["takes_back"]["minute"], &row["reason"]), (&json!(5 * back), &answers[back]["reason"]));
    }

    #[test]
    fn the_table_tells_the_rows_and_that_the_history_is_open_loop() {
        for lines in [exported(), played(4, 200.0)] {
            let printed = table(&compare(&read_lines(&lines).unwrap()[0], &[]).unwrap());
            for expected in ["would take back", "after canary calls", "would rise", "sequential", "not-worse", "open loop", "minute"] {
                assert!(printed.contains(expected), "{printed}\nlacks {expected}");
            }
        }
    }

    #[test]
    fn every_refusal_names_its_line_and_what_is_accepted() {
        let entry = |n: usize| entries()[n].bytes.clone();
        let moved = |from: &str, to: &str| vec![INIT.to_owned(), tick(5, 5.0, 0, 200.0).replace(from, to)];
        let cases: Vec<(Vec<String>, &[&str])> = vec![
            (vec![], &["nothing in it", "init", "ledger export"]),
            (vec!["{\"hello\":1}".to_owned()], &["line 1", "neither", "ledger export"]),
            (vec!["hello".to_owned()], &["line 1", "ledger export"]),
            (vec!["[1]".to_owned()], &["line 1"]),
            (vec!["{\"type\":\"note\"}".to_owned()], &["line 1", "note", "init"]),
            (vec![tick(5, 5.0, 0, 200.0)], &["line 1", "before any init"]),
            (vec![exported().pop().unwrap()], &["line 1", "before any ledger entry"]),
            (vec![INIT.to_owned()], &["bench/1", "no window"]),
            (vec![INIT.replace("[5,25,50,100]", "[5,25]")], &["line 1", "plan"]),
            (vec![INIT.replace("[5,25,50,100]", "[5.123,100]")], &["line 1", "5.123"]),
            (vec![INIT.to_owned(), tick(10, 5.0, 0, 200.0), tick(5, 5.0, 0, 200.0)], &["line 3", "t_min 5"]),
            (vec![INIT.to_owned(), tick(5, 101.0, 0, 200.0)], &["line 2", "weight 101"]),
            (moved("\"t_min\":5", "\"t_min\":999999999999"), &["line 2", "t_min 999999999999"]),
            (moved("\"start_min\":4", "\"start_min\":-999999999999"), &["line 2", "start_min"]),
            (moved("\"start_min\":4", "\"start_min\":-99999"), &["31 days"]),
            (moved("\"calls\":20", "\"calls\":99999999999"), &["at most 1000000000"]),
            (moved("\"t_min\":5,", ""), &["line 2", "t_min"]),
            (vec![entry(1)], &["line 1", "Requested"]),
            (vec![entry(0), entry(2)], &["line 2", "entry 2 is missing"]),
            (vec![entry(0).replace("because", "BECAUSE"), entry(1)], &["line 2", "does not follow from entry 1"]),
            (vec![entry(0).replace("\"schema\":1", "\"schema\":9")], &["line 1", "schema 9"]),
            (vec![entry(0), entry(1)], &["never sent a call"]),
            (exported()[..entries().len()].to_vec(), &["no windows", "serin ledger export main_ivr"]),
            (exported().into_iter().map(|l| l.replace("2026-11-20T09:30:00Z", "2026-11-20T09:30:07Z")).collect(), &["whole minute"]),
            (exported().into_iter().map(|l| l.replace("2026-11-20T09:30:00Z", "9999-11-20T09:30:00Z")).collect(), &["2000 to 2199"]),
        ];
        for (lines, expected) in cases {
            let refused = read_lines(&lines).err().unwrap_or_else(|| panic!("{lines:?} is accepted"));
            for word in expected {
                assert!(refused.contains(word), "{refused}\nlacks {word}");
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_off_and_one_that_is_no_text_say_so() {
        let whole = exported().join("\n");
        let cut = &whole.as_bytes()[..whole.len() - 5];
        let refused = parse(cut).unwrap_err().to_string();
        assert!(refused.contains(&format!("line {}", exported().len())) && refused.contains("cut off"), "{refused}");
        parse(whole.as_bytes()).unwrap();
        let refused = parse(&b"\n{\"type\":\"\xff\"}\n"[..]).unwrap_err().to_string();
        assert!(refused.contains("line 2") && refused.contains("UTF-8"), "{refused}");
    }

    #[test]
    fn whatever_bytes_a_history_holds_it_is_read_or_refused() {
        let whole = exported().join("\n") + "\n" + &played(1, 200.0).join("\n");
        let bytes = whole.as_bytes();
        let mut random = 7u64;
        for _ in 0..300 {
            let mut broken = bytes.to_vec();
            for _ in 0..3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) as usize % broken.len();
                broken[at] = b"0919-e,\"}x\n"[(random >> 20) as usize % 11];
            }
            // The chain of the entries would refuse most changes before anything else could.
            let _ = parse(broken.as_slice());
            let windows: Vec<u8> = broken[whole.find("{\"window\"").unwrap()..].to_vec();
            let entries = exported()[..entries().len()].join("\n") + "\n";
            if let Ok(recordings) = parse([entries.as_bytes(), &windows].concat().as_slice()) {
                for recording in &recordings {
                    let _ = compare(recording, &[]).map(|c| table(&c));
                }
            }
        }
    }
}
