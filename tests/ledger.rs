//! The ledger as evidence: whatever somebody does to it afterwards is found, and nothing else is taken for it.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, name, quick_policy, run};
use serin_controller::intervene::Action;
use serin_controller::ports::Ledger;
use serin_core::alert::Alert;
use serin_core::cohort::Fallback;
use serin_core::ledger::{Anchor, Archive, Audited, BrokenLedger, Entry, Hash, Head, SCHEMA, StoredEntry, audit};
use serin_core::phase::Event;

const FLOW: &str = "main_ivr";
const OTHER: &str = "sales_ivr";

/// Two flows, the first of which had a healthy rollout and then a broken one.
fn two_flows() -> Stage {
    let mut stage = Stage::new(&[FLOW, OTHER]);
    stage.start(Stage::plan(FLOW, "15.0", quick_policy())).unwrap();
    stage.start(Stage::plan(OTHER, "15.0", quick_policy())).unwrap();
    stage.until_phase(FLOW, "Promoted", 60);
    stage.start(Stage::plan(FLOW, "16.0", quick_policy())).unwrap();
    stage.until_phase(FLOW, "RolledBack", 60);
    stage
}

fn archive(stage: &Stage, flow: &str) -> Archive {
    let process = stage.world.process("cli");
    run(&process, process.archive(&name(flow))).unwrap().unwrap()
}

fn checked(archive: &Archive, anchor: Option<&Anchor>) -> Result<Audited, BrokenLedger> {
    archive.audit(&name(FLOW), anchor)
}

/// What the alerts of a flow tell of its ledger.
fn anchors(stage: &Stage, flow: &str) -> Vec<Anchor> {
    let told = stage.alerts().into_iter().filter(|alert| alert.flow_id == flow);
    told.map(|Alert { revision, head_hash: hash, .. }| Anchor { revision, hash }).collect()
}

/// The chain made anew from an entry on, as its owner could, head included.
fn chained(archive: &Archive, from: usize, change: impl FnOnce(&mut Entry)) -> Archive {
    let mut entries: Vec<Entry> = archive.entries.iter().map(|(_, bytes)| StoredEntry::open(bytes.clone()).unwrap().entry).collect();
    change(&mut entries[from]);
    let mut previous = Hash::genesis();
    let mut forged = Archive::default();
    for (mut entry, place) in entries.into_iter().zip(1..) {
        (entry.revision, entry.previous) = (place, previous);
        if matches!(entry.event, Event::Requested { .. }) || forged.head.is_none() {
            forged.head = Some(Head { revision: 0, hash: Hash::genesis(), first_revision: place });
        }
        let stored = StoredEntry::seal(entry);
        previous = stored.hash();
        forged.entries.push((place, stored.bytes));
    }
    let head = forged.head.as_mut().unwrap();
    (head.revision, head.hash) = (forged.entries.len() as u64, previous);
    forged
}

#[test]
fn what_was_recorded_holds_and_every_alert_anchors_it() {
    let stage = two_flows();
    let archive = archive(&stage, FLOW);
    let audited = checked(&archive, None).unwrap();
    assert_eq!(audited.rollouts.len(), 2);
    assert_eq!(audited.entries().map(|s| s.entry.event.clone()).collect::<Vec<_>>(), stage.events(FLOW));
    let head = archive.head.clone().unwrap();
    assert_eq!(audited.end(), (head.revision, head.hash));
    let anchors = anchors(&stage, FLOW);
    assert!(anchors.len() > 10, "{anchors:?}");
    for anchor in &anchors {
        checked(&archive, Some(anchor)).unwrap();
    }
    // The latest rollout alone, as it is exported.
    let latest = &archive.entries[head.first_revision as usize - 1..];
    assert_eq!(audit(&name(FLOW), latest, anchors.last()).unwrap().rollouts, audited.rollouts[1..]);
    // Nothing was ever recorded.
    assert_eq!(checked(&Archive::default(), None), Ok(Audited::default()));
}

#[test]
fn a_byte_that_was_changed_is_found_wherever_it_is() {
    let archive = archive(&two_flows(), FLOW);
    let mut changed = 0;
    for (n, (_, bytes)) in archive.entries.iter().enumerate() {
        for at in (n % 5..bytes.len()).step_by(5).filter(|at| bytes.is_char_boundary(*at) && bytes.is_char_boundary(at + 1)) {
            let other = if &bytes[at..=at] == "1" { "2" } else { "1" };
            let mut forged = archive.clone();
            forged.entries[n].1.replace_range(at..=at, other);
            let broken = checked(&forged, None).unwrap_err().to_string();
            let (here, next) = (format!("entry {}", n + 1), format!("entry {}", n + 2));
            assert!(broken.contains(&here) || broken.contains(&next), "byte {at} of {here}: {broken}");
            changed += 1;
        }
    }
    assert!(changed > 2_000, "{changed}");
}

#[test]
fn an_entry_that_is_missing_moved_doubled_or_another_flows_is_found() {
    let stage = two_flows();
    let archive = archive(&stage, FLOW);
    let last = archive.entries.len();
    for n in 0..last {
        let place = n as u64 + 1;
        let mut missing = archive.clone();
        missing.entries.remove(n);
        let expected = match n + 1 == last {
            true => BrokenLedger::OtherEnd { head: place, last: place - 1 },
            false => BrokenLedger::Gap { expected: place, found: place + 1 },
        };
        assert_eq!(checked(&missing, None), Err(expected));

        let mut doubled = archive.clone();
        doubled.entries.insert(n, doubled.entries[n].clone());
        assert_eq!(checked(&doubled, None), Err(BrokenLedger::Gap { expected: place + 1, found: place }));
    }
    for n in 1..last {
        let mut swapped = archive.clone();
        let (a, b) = (swapped.entries[n - 1].1.clone(), swapped.entries[n].1.clone());
        (swapped.entries[n - 1].1, swapped.entries[n].1) = (b, a);
        assert_eq!(checked(&swapped, None), Err(BrokenLedger::Gap { expected: n as u64, found: n as u64 + 1 }));
    }
    let mut foreign = archive.clone();
    foreign.entries[1] = self::archive(&stage, OTHER).entries[1].clone();
    assert_eq!(checked(&foreign, None), Err(BrokenLedger::Foreign { revision: 2, flow: name(OTHER) }));
}

#[test]
fn a_tail_that_was_cut_off_and_a_head_that_was_changed_are_found() {
    let archive = archive(&two_flows(), FLOW);
    let last = archive.entries.len();
    for kept in 1..last {
        let mut cut = archive.clone();
        cut.entries.truncate(kept);
        assert_eq!(checked(&cut, None), Err(BrokenLedger::OtherEnd { head: last as u64, last: kept as u64 }));
    }
    let with = |change: fn(&mut Head)| {
        let mut forged = archive.clone();
        change(forged.head.as_mut().unwrap());
        checked(&forged, None).unwrap_err()
    };
    let (revision, first) = (last as u64, archive.head.as_ref().unwrap().first_revision);
    assert_eq!(with(|head| head.revision -= 1), BrokenLedger::OtherEnd { head: revision - 1, last: revision });
    assert_eq!(with(|head| head.hash = Hash::of("")), BrokenLedger::OtherHead { revision });
    assert_eq!(with(|head| head.first_revision = 1), BrokenLedger::OtherBeginning { head: 1, first });
    let headless = Archive { head: None, ..archive.clone() };
    assert_eq!(checked(&headless, None), Err(BrokenLedger::NoHead { entries: last }));
    let empty = Archive { entries: Vec::new(), ..archive.clone() };
    assert_eq!(checked(&empty, None), Err(BrokenLedger::OtherEnd { head: revision, last: 0 }));
    let beheaded = Archive { entries: archive.entries[first as usize - 1..].to_vec(), ..archive.clone() };
    assert_eq!(checked(&beheaded, None), Err(BrokenLedger::Gap { expected: 1, found: first }));
}

#[test]
fn a_chain_that_was_made_anew_as_a_whole_is_found_by_every_alert_that_was_told_since() {
    let stage = two_flows();
    let archive = archive(&stage, FLOW);
    let anchors = anchors(&stage, FLOW);
    for n in 0..archive.entries.len() {
        let forged = chained(&archive, n, |entry| entry.why = "nothing happened".into());
        checked(&forged, None).unwrap_or_else(|e| panic!("a sound chain: {e}"));
        for anchor in &anchors {
            let found = checked(&forged, Some(anchor));
            match anchor.revision > n as u64 {
                true => assert!(matches!(&found, Err(BrokenLedger::Adrift { anchor: named, .. }) if named == anchor), "{n}: {found:?}"),
                false => assert!(found.is_ok(), "{n}: {found:?}"),
            }
        }
    }
    // The way back taken out of the record altogether.
    let mut shorter = archive.clone();
    shorter.entries.truncate(shorter.head.as_ref().unwrap().first_revision as usize);
    let shorter = chained(&shorter, 0, |_| {});
    checked(&shorter, None).unwrap();
    let anchor = anchors.last().unwrap();
    assert_eq!(checked(&shorter, Some(anchor)), Err(BrokenLedger::Shorter { anchor: anchor.clone(), last: shorter.entries.len() as u64 }));
    assert!(matches!(checked(&Archive::default(), Some(anchor)), Err(BrokenLedger::Shorter { last: 0, .. })));
}

#[test]
fn an_anchor_of_another_flow_holds_for_no_entry() {
    let stage = two_flows();
    let archive = archive(&stage, FLOW);
    let others = anchors(&stage, OTHER);
    assert!(others.len() > 5);
    for anchor in &others {
        assert!(matches!(checked(&archive, Some(anchor)), Err(BrokenLedger::Adrift { .. } | BrokenLedger::Shorter { .. })));
    }
}

#[test]
fn a_sound_chain_of_what_cannot_have_happened_is_found() {
    let archive = archive(&two_flows(), FLOW);
    let illegal = |from: usize, change: fn(&mut Entry)| match checked(&chained(&archive, from, change), None) {
        Err(BrokenLedger::Illegal { revision, reason }) => (revision, reason),
        other => panic!("{other:?}"),
    };
    let (revision, reason) = illegal(1, |entry| entry.event = Event::Finalized);
    assert!(revision == 2 && reason.contains("Finalized"), "{revision}: {reason}");
    let (revision, reason) = illegal(2, |entry| entry.rollout = "r-20200101-1".into());
    assert!(revision == 3 && reason.contains("r-20200101-1"), "{revision}: {reason}");
    let (revision, _) = illegal(0, |entry| entry.event = Event::BakeFinished);
    assert_eq!(revision, 1);
}

#[test]
fn a_flow_whose_ledger_newer_code_wrote_is_left_alone_and_all_calls_go_to_stable() {
    let mut stage = Stage::new(&[FLOW, OTHER]);
    for flow in [FLOW, OTHER] {
        stage.start(Stage::plan(flow, "15.0", quick_policy())).unwrap();
        stage.until_phase(flow, "Stepping", 20);
    }
    let newer = BrokenLedger::Newer { revision: 5, schema: SCHEMA + 1 };
    let before = stage.world.state().heartbeat;
    let recorded = stage.events(FLOW);
    stage.world.state().books.get_mut(&name(FLOW)).unwrap().broken = Some(newer);
    stage.pass_a_minute();
    // The tick says which one, the others are served, and nobody is told that all is well.
    let report = stage.evaluate().unwrap().unwrap();
    assert!(report.unwell[0].contains("flow main_ivr not visited: ledger entry 5 has schema 2"), "{:?}", report.unwell);
    assert_eq!(report.flows.iter().map(|f| f.flow.as_str()).collect::<Vec<_>>(), [OTHER]);
    assert_eq!(stage.work().unwrap().unwrap(), [], "what is watched is none of the executor's");
    // A phase of its own does not get past it either.
    let listed_as = |phase: &str| stage.world.state().books.get_mut(&name(FLOW)).unwrap().active.as_mut().unwrap().phase = phase.into();
    listed_as("RollingBack");
    let worked = stage.work().unwrap().unwrap();
    assert!(worked.iter().any(|w| w.flow == name(FLOW) && w.step.contains("deploy the newer version")), "{worked:?}");
    listed_as("Stepping");
    // Neither a person nor an alarm gets past it: the parameter is what is left to them.
    assert!(stage.person(FLOW, Action::Rollback).unwrap().is_err());
    for _ in 0..6 {
        stage.minute();
    }
    assert_eq!(stage.world.state().heartbeat, before);
    let answers = |stage: &Stage| [FLOW, OTHER].map(|flow| stage.world.state().answer(&name(flow), "c-1").fallback);
    assert_eq!(answers(&stage), [Some(Fallback::NoHeartbeat); 2]);
    assert_eq!(stage.events(FLOW), recorded, "nothing was recorded");
    // The newer code is there.
    stage.world.state().books.get_mut(&name(FLOW)).unwrap().broken = None;
    stage.minute();
    assert_eq!(answers(&stage), [None; 2]);
}
