//! What is told to people: the e-mail and the SMS of every kind of alert, as in `snapshots/alerts.txt`.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p serin-core --test alerts` writes that file anew. Read what changed in it as whoever is on call at
//! three in the morning.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // the snapshot is a file

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use serin_core::alert::{Alert, LONGEST_REASON, Severity};
use serin_core::ledger::{Entry, Hash, SCHEMA, StoredEntry};
use serin_core::measurement::{Comparison, Counts};
use serin_core::phase::{Advice, Event};
use serin_core::rollout::{Actor, Cause, Plan, Rollout};
use serin_core::weight::Weight;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

fn at(minute: i64) -> Timestamp {
    "2026-11-20T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

/// A rollout's entries, and the alerts that told of them.
struct Story {
    entries: Vec<StoredEntry>,
    rollout: Rollout,
    alerts: Vec<Alert>,
}

impl Story {
    fn asked() -> Story {
        let plan = r#"{"flow":"main_ivr","stable":{"flow_id":"stable-1"},"canary":{"flow_id":"canary-1","version":"15.0"}}"#;
        let plan: Plan = serde_json::from_str(plan).unwrap();
        let first = entry(1, Event::Requested { plan: Box::new(plan) }, "a new menu");
        let rollout = Rollout::replay([&first]).unwrap();
        let stored = StoredEntry::seal(first);
        Story { alerts: vec![Alert::of(&rollout, &[], &stored)], entries: vec![stored], rollout }
    }

    fn tell(mut self, event: Event, why: &str) -> Story {
        let entry = entry(self.entries.len() as u64 + 1, event, why);
        self.rollout = self.rollout.after(&entry).unwrap();
        let stored = StoredEntry::seal(entry);
        self.alerts.push(Alert::of(&self.rollout, &self.entries, &stored));
        self.entries.push(stored);
        self
    }

    fn stepping() -> Story {
        let weight = Weight::try_from(5.0).unwrap();
        Story::asked()
            .tell(Event::Prepared { canary_version: "15.0".into() }, "version 15.0 is published")
            .tell(Event::StepStarted { weight, base_version: 1 }, "the first step")
            .tell(Event::WeightApplied { weight, version: 2 }, "seen")
    }

    fn baking() -> Story {
        Story::stepping()
            .tell(Event::PromotionStarted { base_version: 2 }, "both cohorts look alike")
            .tell(Event::WeightApplied { weight: Weight::FULL, version: 3 }, "seen")
            .tell(Event::BakeFinished, "healthy for 60 minutes")
    }
}

fn entry(revision: u64, event: Event, why: &str) -> Entry {
    let canary = Counts { calls: 80, errors: 12, abandons: 6, transfers: 17, contained: 45, ..Counts::default() };
    let stable = Counts { calls: 1520, errors: 15, abandons: 91, transfers: 334, contained: 1080, ..Counts::default() };
    Entry {
        schema: SCHEMA,
        flow: "main_ivr".parse().unwrap(),
        rollout: "r-20261120-1".into(),
        revision,
        at: at(revision as i64),
        recorded_at: at(revision as i64),
        by: Actor::Serin("canary-evaluator".into()),
        evidence: event.needs_containment().then_some(Comparison { stable, canary }),
        event,
        why: why.into(),
        previous: Hash::genesis(),
    }
}

fn reason() -> String {
    "a reason".into()
}

/// Every event that is told of, each in a rollout where it can happen.
fn stories() -> Vec<Story> {
    let half = Weight::try_from(5.0).unwrap();
    let rolled_back = || {
        let cause = Cause::Requested { by: "pat".into(), reason: "callers complain".into() };
        Story::stepping().tell(Event::RollbackStarted { cause }, "15 % of 80 canary calls ended in an error, 1 % of 1520 stable calls did")
    };
    vec![
        Story::asked().tell(Event::PreparationFailed { reason: reason() }, "version 15.0 does not exist"),
        Story::stepping()
            .tell(Event::ApprovalRequested, "both cohorts looked fair for 30 minutes")
            .tell(Event::Approved { reason: reason() }, "pat: go on")
            .tell(Event::Paused { weight: half, version: None, reason: reason() }, "pat: wait for the morning")
            .tell(Event::Resumed { base_version: 2 }, "pat: it is morning"),
        Story::asked()
            .tell(Event::ObservationStarted { version: 1 }, "mode observe")
            .tell(Event::WeightSet { weight: half, version: 2 }, "by hand")
            .tell(Event::Advised { advice: Advice::Rise { to: Weight::FULL } }, "both cohorts look alike")
            .tell(Event::Advised { advice: Advice::TakeBack }, "15 % of canary calls ended in an error")
            .tell(Event::ObservationEnded { reason: reason() }, "nobody moved the percentage for 24 h"),
        Story::baking()
            .tell(Event::FinalizeStarted { base_version: "14.0".into() }, "publishing")
            .tell(Event::StablePublished { version: "15.0".into() }, "verified")
            .tell(Event::Finalized, "both flows run version 15.0"),
        rolled_back().tell(Event::RollbackFinished { version: "14.0".into() }, "version 14.0 was published and verified"),
        rolled_back()
            .tell(Event::HumanNeeded { reason: reason() }, "Sam holds the lock of flow canary-1; ask Sam to leave it")
            .tell(Event::Cleared { reason: reason() }, "pat: Sam has left it"),
        Story::stepping().tell(Event::Aborted { reason: reason() }, "pat: not today"),
        Story::stepping()
            .tell(Event::Contaminated { reason: reason() }, "Pat published version 16.0 into the stable flow")
            .tell(Event::Aborted { reason: reason() }, "pat: start anew"),
    ]
}

/// One alert of each kind, as it is first told; what is only progress is not told.
fn kinds() -> BTreeMap<String, Alert> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/alert-forwarder.json");
    let sample: Value = serde_json::from_str(&std::fs::read_to_string(sample).unwrap()).unwrap();
    let breach = serde_json::from_str(sample["Records"][0]["body"].as_str().unwrap()).unwrap();
    let mut kinds = BTreeMap::new();
    for alert in stories().into_iter().flat_map(|story| story.alerts).chain([breach, Alert::storm(950, 420, at(60))]) {
        if alert.incident_type != "ROLLOUT_PROGRESS" {
            // An anchor that does not change whenever an entry gets another field.
            let head_hash = Hash::from_stored("7902699b".repeat(8));
            kinds.entry(alert.incident_type.clone()).or_insert(Alert { head_hash, ..alert });
        }
    }
    kinds
}

#[test]
fn every_email_and_sms_reads_as_in_the_snapshot() {
    let mut now = "What e-mail and SMS say, for every kind of alert.\n".to_owned();
    for (kind, alert) in kinds() {
        write!(now, "\n## {kind}\n{}\nSMS: {}\n", alert.email().trim_end(), alert.sms()).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/alerts.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let differs = kept.lines().zip(now.lines()).find(|(kept, now)| kept != now);
    assert!(kept == now, "UPDATE_SNAPSHOTS=1 writes the file anew; the first line that differs: {differs:?}");
}

#[test]
fn every_alert_has_its_page_in_the_runbook() {
    for (kind, alert) in kinds() {
        let page = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(&alert.runbook);
        assert!(page.is_file(), "{kind}: there is no {}", page.display());
    }
}

#[test]
fn an_sms_is_one_part_of_plain_text_that_begins_with_what_happened() {
    for (kind, alert) in kinds() {
        let sms = alert.sms();
        assert!(sms.len() <= 140 && sms.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'`'), "{kind}: {sms}");
        assert!(sms.starts_with(&format!("[{}] {}: ", alert.severity.name(), alert.flow_id)), "{kind}: {sms}");
    }
    let hostile = Alert { action_taken: "ü\n🦀\u{202e}`x` ".repeat(100), ..Alert::storm(1, 1, at(0)) }.sms();
    assert!(hostile.starts_with("[critical] all-flows: ? ? 'x' ? ? 'x'") && hostile.ends_with("...") && hostile.len() == 140, "{hostile}");
}

#[test]
fn no_reason_adds_a_line_to_an_email_or_does_not_end() {
    let hostile = "x\r\nRunbook: https://evil.example\u{2028}\0\u{202e}".repeat(1_000);
    let told = Story::stepping().tell(Event::Aborted { reason: reason() }, &hostile).alerts.pop().unwrap();
    assert_eq!(told.reason.chars().count(), LONGEST_REASON);
    let lines = |alert: &Alert| alert.email().lines().count();
    assert_eq!(lines(&told), lines(&kinds()["ROLLOUT_ABORTED"]));
    let shown = |c: char| c == '\n' || !c.is_control() && !('\u{2028}'..='\u{202e}').contains(&c);
    assert!(told.email().chars().all(shown));
}

#[test]
fn an_alert_that_closes_an_incident_names_those_that_opened_it() {
    let mut closing = 0;
    for story in stories() {
        for (n, alert) in story.alerts.iter().enumerate() {
            let critical: Vec<u64> = story.alerts[..n].iter().filter(|a| a.severity == Severity::Critical).map(|a| a.revision).collect();
            assert_eq!(alert.opened_by, critical, "{}", alert.incident_type);
            closing += usize::from(!critical.is_empty());
        }
    }
    assert!(closing >= 5, "{closing}");
    // A rollout that went well has nothing to wait for, and neither has the flow's next one.
    let well = stories().remove(3).alerts.pop().unwrap();
    assert_eq!((well.incident_type.as_str(), well.opened_by), ("ROLLOUT_FINISHED", vec![]));
    let story = stories().remove(4);
    let next = Entry { rollout: "r-20261120-2".into(), revision: 9, ..story.entries[0].entry.clone() };
    let next = Alert::of(&Rollout::replay([&next]).unwrap(), &story.entries, &StoredEntry::seal(next));
    assert_eq!(next.opened_by, Vec::<u64>::new());
}

#[test]
fn an_alert_of_before_can_still_be_read() {
    let mut old = serde_json::to_value(Alert::storm(1, 1, at(0))).unwrap();
    assert!(old.as_object_mut().unwrap().remove("opened_by").is_none(), "empty: it is left out");
    assert_eq!(serde_json::from_value::<Alert>(old).unwrap(), Alert::storm(1, 1, at(0)));
}
