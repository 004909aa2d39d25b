//! Ledgers as they were once written, in `ledgers/`: every later version of the code reads them, and replays them to what they were.
//!
//! A file is never changed. `UPDATE_SNAPSHOTS=1 cargo test -p serin-core --test ledgers` writes those that are missing, with today's
//! code: a new kind of event gets a story, and the story a new file. `docs/decisions/0016-schema.md` says what may be added how.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // the ledgers are files

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin_core::analysis::{Breach, Proof};
use serin_core::ledger::{BrokenLedger, Entry, Hash, SCHEMA, StoredEntry, audit};
use serin_core::measurement::{Comparison, Counts, Queue, Side, Sides, Times};
use serin_core::phase::{Advice, Detour, Event};
use serin_core::rollout::{Actor, Cause, FlowName, Rollout, Snapshot};
use serin_core::weight::Weight;
use std::collections::BTreeSet;
use std::path::PathBuf;

const STORIES: [&str; 7] = ["traffic-cop", "pointer", "in-flow", "publish-watch", "ways-back", "hastened", "quarantine"];

fn path(name: &str, kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ledgers").join(format!("{name}.{kind}"))
}

fn flow() -> FlowName {
    "main_ivr".parse().unwrap()
}

/// A ledger as it is kept: places and bytes.
fn kept(name: &str) -> Vec<(u64, String)> {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() && !path(name, "jsonl").exists() {
        let entries = story(name);
        let lines: Vec<&str> = entries.iter().map(|(_, bytes)| bytes.as_str()).collect();
        std::fs::write(path(name, "txt"), told(&entries)).unwrap();
        std::fs::write(path(name, "jsonl"), lines.join("\n") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(path(name, "jsonl")).unwrap();
    text.lines().zip(1..).map(|(line, place)| (place, line.to_owned())).collect()
}

fn every_entry() -> impl Iterator<Item = StoredEntry> {
    STORIES.into_iter().flat_map(kept).map(|(_, bytes)| StoredEntry::open(bytes).unwrap())
}

/// What became of the rollouts, entry by entry.
fn told(entries: &[(u64, String)]) -> String {
    let mut lines = String::new();
    for rollout in audit(&flow(), entries, None).unwrap().rollouts {
        for end in 1..=rollout.len() {
            let replayed = Rollout::replay(rollout[..end].iter().map(|s| &s.entry)).unwrap();
            let Entry { revision, event, .. } = &rollout[end - 1].entry;
            let (phase, weight, in_force) = (replayed.phase.name(), replayed.desired_weight(), replayed.in_force.weight);
            let contained = if replayed.is_contained() { ", contained" } else { "" };
            lines +=
                &format!("{revision} {} {}: {phase}, {weight} % wanted, {in_force} % in force{contained}\n", replayed.id, event.name());
        }
    }
    lines
}

#[test]
fn every_kept_ledger_is_read_and_replayed_to_what_it_was() {
    for name in STORIES {
        let entries = kept(name);
        assert!(entries.len() > 10, "{name}");
        assert_eq!(told(&entries), std::fs::read_to_string(path(name, "txt")).unwrap(), "{name}");
    }
}

#[test]
fn the_kept_ledgers_hold_every_kind_of_event() {
    let told: BTreeSet<String> = every_entry().map(|stored| stored.entry.event.name().to_owned()).collect();
    // Whoever is asked for one that there is not names those that there are.
    let refused = serde_json::from_value::<Event>(json!({"event": "Teleported"})).unwrap_err().to_string();
    let kinds: BTreeSet<String> = refused.split('`').skip(3).step_by(2).map(text).collect();
    assert!(kinds.len() >= 27, "{refused}");
    assert_eq!(told, kinds, "a kind of event that no kept ledger tells of needs a story: give it one, under a name of its own");
}

/// Places of all objects, but for two: one that stands for a choice by its only field, and what an operator's data action is asked.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = at.rsplit('/').next().unwrap_or_default();
            if name == "input" {
                return;
            }
            if !["proof", "advice", "detour"].contains(&name) {
                found.push(at.to_owned());
            }
            for (name, child) in fields {
                objects(child, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(children) => {
            for (n, child) in children.iter().enumerate() {
                objects(child, &format!("{at}/{n}"), found);
            }
        }
        _ => {}
    }
}

/// Tomorrow's entry: with a field more in these of its objects.
fn with_more(entry: &Value, places: &[String], name: &str) -> String {
    let mut more = entry.clone();
    for place in places {
        let object = more.pointer_mut(place).unwrap().as_object_mut().unwrap();
        object.entry(name).or_insert_with(|| json!({"since": "tomorrow", "of": [1, 2.5, null]}));
    }
    more.to_string()
}

/// One that nothing has today, and those that another object has: they must be left where they belong.
const ADDED: [&str; 6] = ["a_field_of_tomorrow", "zone", "dnis", "table", "percent", "flow_id"];

#[test]
fn a_field_that_newer_code_added_anywhere_is_left_out() {
    let (mut places, mut read) = (BTreeSet::new(), 0);
    for stored in every_entry() {
        let entry: Value = serde_json::from_str(&stored.bytes).unwrap();
        let mut here = Vec::new();
        objects(&entry, "", &mut here);
        places.extend(here.iter().cloned());
        for name in ADDED {
            for one in &here {
                let opened = StoredEntry::open(with_more(&entry, std::slice::from_ref(one), name));
                assert_eq!(opened.unwrap().entry, stored.entry, "{name} in {one}");
                read += 1;
            }
            assert_eq!(StoredEntry::open(with_more(&entry, &here, name)).unwrap().entry, stored.entry, "{name} everywhere");
        }
        let all_at_once =
            ADDED.iter().fold(stored.bytes.clone(), |bytes, name| with_more(&serde_json::from_str(&bytes).unwrap(), &here, name));
        assert_eq!(StoredEntry::open(all_at_once).unwrap().entry, stored.entry);
    }
    for place in [
        "",
        "/by",
        "/plan",
        "/plan/labels",
        "/plan/stable",
        "/plan/canary",
        "/plan/smoke",
        "/plan/data_actions/0",
        "/plan/pointer",
        "/plan/outcomes",
        "/plan/policy",
        "/plan/policy/rule",
        "/plan/policy/rule/metrics/0",
        "/plan/policy/bake_rule",
        "/plan/policy/catastrophe",
        "/plan/policy/errors",
        "/snapshot",
        "/plan/rollback",
        "/detour/ivr",
        "/cause",
        "/cause/sides",
        "/cause/sides/canary",
        "/evidence",
        "/evidence/stable/times",
        "/evidence/canary/queue",
        "/advice/rise",
    ] {
        assert!(places.contains(place), "no kept ledger has {place}");
    }
    assert!(read > 1_000, "{read}");
}

#[test]
fn what_is_no_plan_is_refused_whatever_was_added_to_it() {
    let first = kept("traffic-cop").remove(0).1;
    for (from, to, expected) in [
        (r#""version":"15.0""#, r#""revision":"15.0""#, "missing field `version`"),
        (r#""steps":[5.0"#, r#""steps":[500"#, "weight `500`"),
        (r#""kind":"sequential""#, r#""kind":"coin""#, "unknown variant `coin`"),
    ] {
        assert!(first.contains(from), "{from} is not in {first}");
        let refused = StoredEntry::open(first.replacen(from, to, 1).replacen(r#""plan":{"#, r#""plan":{"new":1,"#, 1));
        let Err(BrokenLedger::Unreadable { revision: Some(1), reason }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn an_entry_of_the_next_schema_is_refused_by_name_whatever_it_says() {
    let next = SCHEMA + 1;
    for stored in every_entry() {
        let Entry { revision, event, .. } = &stored.entry;
        let newer = stored.bytes.replacen(&format!("\"schema\":{SCHEMA}"), &format!("\"schema\":{next}"), 1);
        let unheard = newer.replacen(&format!("\"event\":\"{}\"", event.name()), "\"event\":\"Teleported\"", 1);
        for bytes in [newer, unheard] {
            assert_eq!(StoredEntry::open(bytes), Err(BrokenLedger::Newer { revision: *revision, schema: next }));
        }
    }
    let unheard = kept("traffic-cop").remove(0).1.replacen("\"event\":\"Requested\"", "\"event\":\"Teleported\"", 1);
    let refused = StoredEntry::open(unheard).unwrap_err().to_string();
    assert!(refused.starts_with("ledger entry 1 cannot be read") && refused.contains("Teleported"), "{refused}");
}

// What the kept ledgers were written from.

/// A ledger that grows, an entry a minute.
struct Book {
    entries: Vec<(u64, String)>,
    rollouts: u32,
    previous: Hash,
}

fn percent(percent: f64) -> Weight {
    Weight::try_from(percent).unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// So many calls on a side, with all that can be known of them.
fn counts(calls: u32) -> Counts {
    let times = Times { of: 0, handled: calls / 2, handle_ms: u64::from(calls) * 90_000, handle_s2: u64::from(calls) * 20_000 };
    let queue = Queue { of: 0, offered: calls / 2, abandoned: 1, answered: calls / 2 - 1, answer_ms: u64::from(calls) * 1_000 };
    let rest = Counts { calls, errors: 1, abandons: 2, transfers: calls / 2, contained: calls - 3 - calls / 2, ..Counts::default() };
    rest.with_details(Some(times), Some(queue))
}

impl Book {
    fn tell_with(&mut self, by: Actor, event: Event, evidence: Option<Comparison>) {
        let revision = self.entries.len() as u64 + 1;
        let at: Timestamp = "2026-11-21T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(revision as i64);
        let stored = StoredEntry::seal(Entry {
            schema: SCHEMA,
            flow: flow(),
            rollout: format!("r-20261121-{}", self.rollouts),
            revision,
            at,
            recorded_at: at + SignedDuration::from_millis(420),
            by,
            why: format!("because of {}: \"so\" & – ümläut", event.name()),
            event,
            evidence,
            previous: self.previous.clone(),
        });
        self.previous = stored.hash();
        self.entries.push((revision, stored.bytes));
    }

    fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.tell_with(Actor::Serin(text("canary-evaluator")), event, None);
        }
    }

    fn asked(&mut self, event: Event) {
        self.tell_with(Actor::Person(text("ana")), event, None);
    }

    /// Opens a rollout and prepares it.
    fn begin(&mut self, more: Value) {
        self.request(more);
        let snapshot = Snapshot {
            stable_version: text("14.0"),
            stable_hash: text("a"),
            rollback_target: text("13.0"),
            rollback_hash: text("b"),
            canary_hash: text("c"),
            ..Snapshot::default()
        };
        self.tell([Event::SnapshotTaken { snapshot }, Event::Prepared { canary_version: text("15.0") }]);
    }

    fn request(&mut self, more: Value) {
        let mut plan = json!({"flow": "main_ivr", "canary": {"flow_id": "97ee", "version": "15.0"}});
        plan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.rollouts += 1;
        self.asked(Event::Requested { plan: serde_json::from_value(plan).unwrap() });
    }

    fn raise(&mut self, to: f64, base_version: i64) {
        let weight = percent(to);
        let evidence = Comparison { stable: counts(3_000), canary: counts(160) };
        let event = match weight {
            Weight::FULL => Event::PromotionStarted { base_version },
            weight => Event::StepStarted { weight, base_version },
        };
        self.tell_with(Actor::Serin(text("canary-evaluator")), event, Some(evidence));
        self.tell([Event::WeightApplied { weight, version: base_version + 1 }]);
    }

    fn finalize(&mut self) {
        let (base_version, version) = (text("14.0"), text("15.0"));
        self.tell([Event::BakeFinished, Event::FinalizeStarted { base_version }, Event::StablePublished { version }, Event::Finalized]);
    }

    fn breach(&mut self, mean: bool, proof: Proof) {
        let side = |calls, sum| Side { sum, calls };
        let sides =
            Sides { metric: text(if mean { "handle" } else { "error" }), mean, canary: side(160.0, 24.0), stable: side(3_000.0, 45.0) };
        let cause = Cause::Breach(Breach { sides, limit: 0.051, proof });
        let evidence = Comparison { stable: counts(3_000), canary: counts(160) };
        self.tell_with(Actor::Serin(text("canary-evaluator")), Event::RollbackStarted { cause }, Some(evidence));
    }

    fn restore(&mut self) {
        self.tell([Event::RestorationStarted { base_version: text("15.0") }, Event::RollbackFinished { version: text("13.0") }]);
    }
}

fn story(name: &str) -> Vec<(u64, String)> {
    let mut book = Book { entries: Vec::new(), rollouts: 0, previous: Hash::genesis() };
    let two_flows = json!({"stable": {"flow_id": "b10e"}});
    let reason = || text("complaints from the floor");
    match name {
        "traffic-cop" => {
            // Everything a plan can say, promoted by way of a pause.
            book.begin(json!({
                "stable": {"flow_id": "b10e"},
                "labels": {"stable": "blue", "canary": "green"},
                "stickiness": "caller",
                "smoke": {"dnis": "+15550199"},
                "data_actions": [{"id": "custom_-_1", "input": {"dnis": "+15550100", "deep": {"percent": [1, {"table": 2}]}}}, {"id": "two"}],
                "validate": true,
                "policy": {
                    "steps": [5, 25, 50],
                    "rule": {"kind": "sequential", "alpha": 0.01, "metrics": [{"name": "error"}, {"name": "handle", "tolerance": 5, "margin": 15, "required": true}]},
                    "bake_rule": {"kind": "hysteresis", "error_percent": 6.5},
                    "expected_calls_per_hour": 1200.5,
                    "exposure_budget": 100,
                },
            }));
            book.raise(5.0, 1);
            book.tell_with(Actor::BreakGlass, Event::Paused { weight: percent(2.5), version: Some(3), reason: reason() }, None);
            book.asked(Event::Resumed { base_version: 3 });
            book.tell([Event::WeightApplied { weight: percent(5.0), version: 4 }]);
            book.raise(100.0, 4);
            book.finalize();
            // By approval, and taken back.
            book.begin(
                json!({"stable": {"flow_id": "b10e"}, "policy": {"mode": "advise", "rule": {"kind": "threshold", "breach_limit": 2}}}),
            );
            book.raise(5.0, 6);
            book.tell([Event::ApprovalRequested]);
            book.asked(Event::Approved { reason: reason() });
            book.raise(25.0, 7);
            book.breach(false, Proof::InARow(2));
            let next_at = "2026-11-21T10:00:00Z".parse().unwrap();
            book.tell([Event::RestorationDelayed { holder: text("Pat"), next_at }]);
            book.restore();
            // Only observed.
            book.begin(json!({"stable": {"flow_id": "b10e"}, "policy": {"mode": "observe"}}));
            book.tell([Event::ObservationStarted { version: 9 }]);
            book.tell_with(Actor::BreakGlass, Event::WeightSet { weight: percent(10.0), version: 10 }, None);
            book.tell([Event::Advised { advice: Advice::Rise { to: percent(25.0) } }, Event::Advised { advice: Advice::TakeBack }]);
            book.tell([Event::ObservationEnded { reason: reason() }]);
            // Never begun.
            book.request(two_flows);
            book.tell([Event::PreparationFailed { reason: reason() }]);
        }
        "pointer" => {
            let plan = json!({"strategy": "pointer", "stable": {"flow_id": "b10e"}, "pointer": {"table": "7ab1e"}, "finalize": "swap"});
            book.begin(plan.clone());
            book.raise(100.0, 1);
            book.finalize();
            book.begin(plan);
            book.raise(100.0, 2);
            book.breach(true, Proof::Odds(50.0));
            book.tell([Event::HumanNeeded { reason: reason() }]);
            book.asked(Event::Cleared { reason: reason() });
        }
        "in-flow" => {
            let policy = |rule| json!({"rule": rule, "low_volume": "accept", "expected_calls_per_hour": 20});
            let plan = |rule| json!({"strategy": "in-flow", "outcomes": {"stable": "01d", "canary": "0e3"}, "policy": policy(rule)});
            book.begin(plan(json!({"kind": "consecutive"})));
            book.raise(5.0, 1);
            book.tell([Event::Contaminated { reason: reason() }]);
            book.asked(Event::Aborted { reason: reason() });
            book.begin(plan(json!({"kind": "sequential", "metrics": [{"name": "error"}]})));
            book.raise(5.0, 3);
            book.tell([Event::RollbackStarted { cause: Cause::FoundContained }]);
            book.restore();
        }
        "publish-watch" => {
            let policy = json!({"bake_rule": {"kind": "not-worse"}, "low_volume": "off-hours-full"});
            let plan = json!({"strategy": "publish-watch", "policy": policy});
            for cause in
                [Cause::Requested { by: text("alarm"), reason: reason() }, Cause::Unproven { reason: reason() }, Cause::FoundContained]
            {
                book.begin(plan.clone());
                book.tell([Event::PromotionStarted { base_version: 1 }, Event::RollbackStarted { cause }]);
                book.restore();
            }
            book.begin(plan);
            book.tell([Event::PromotionStarted { base_version: 1 }]);
            book.breach(false, Proof::AtOnce);
            book.restore();
        }
        "ways-back" => {
            // Maintenance, both cohorts failing, a person who sends the calls to the canary; and all that a rollback can do besides.
            let back = json!({"known_good_days": 30, "ivr": "ivr-1", "emergency_group": "group-1"});
            book.begin(json!({"stable": {"flow_id": "b10e"}, "rollback": back}));
            book.raise(5.0, 1);
            let (cause, restriction) = (Cause::Requested { by: text("alarm"), reason: reason() }, text("maintenance-1"));
            book.tell([Event::RollbackWithheld { cause: cause.clone(), restriction: restriction.clone(), contained: None }]);
            book.tell([Event::BothFailing { weight: percent(5.0), reason: reason() }]);
            book.asked(Event::PromotionStarted { base_version: 2 });
            book.tell([Event::WeightApplied { weight: Weight::FULL, version: 3 }]);
            book.tell([Event::RollbackWithheld { cause, restriction, contained: Some(4) }]);
            book.asked(Event::RollbackStarted { cause: Cause::Requested { by: text("ana"), reason: reason() } });
            for detour in [Detour::Ivr { id: text("ivr-1"), before: text("c0b") }, Detour::Emergency { id: text("group-1") }] {
                book.tell([Event::LedAround { detour, reason: reason() }]);
            }
            book.tell([Event::Retargeted { version: text("12.0"), hash: text("d"), reason: reason() }]);
            book.restore();
            let snapshot = Snapshot {
                export: Some(text("s3://exports/main_ivr/r-20261121-2/b10e-14.0.yaml?versionId=1")),
                ivr_flow: Some(text("c0b")),
                row: Some((text("b10e"), Weight::ZERO)),
                ..Snapshot::default()
            };
            book.request(two_flows);
            book.tell([Event::SnapshotTaken { snapshot }, Event::PreparationFailed { reason: reason() }]);
        }
        "hastened" => {
            // By a person: to the next step, to more than was said before, and to 100 %.
            book.begin(two_flows);
            book.raise(5.0, 1);
            book.asked(Event::Hastened { to: percent(25.0), reason: reason() });
            book.raise(25.0, 2);
            book.asked(Event::Hastened { to: percent(50.0), reason: reason() });
            book.asked(Event::Hastened { to: Weight::FULL, reason: reason() });
            book.raise(100.0, 3);
            book.finalize();
        }
        "quarantine" => {
            // Cleared while its rollout is put back, after that, and in the midst of another.
            let clear = |configuration: &str| Event::QuarantineCleared { configuration: text(configuration), reason: reason() };
            book.begin(two_flows.clone());
            book.raise(5.0, 1);
            book.breach(false, Proof::InARow(2));
            book.asked(clear("c"));
            book.restore();
            book.asked(clear("d"));
            book.begin(two_flows);
            book.raise(5.0, 3);
            book.asked(clear("e"));
            book.asked(Event::Aborted { reason: reason() });
        }
        _ => panic!("no story {name}"),
    }
    book.entries
}
