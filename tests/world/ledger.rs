//! DynamoDB as a ledger: every condition that the adapter must put on its transactions is checked here.

use super::{Process, State};
use jiff::Timestamp;
use serin_controller::ports::{ActiveFlow, Authority, Book, Commit, Hold, KnownGood, Lease, Ledger, LedgerError, Notice, Quarantined};
use serin_core::calendar::Restriction;
use serin_core::ledger::{Archive, BrokenLedger, Hash, Head, StoredEntry};
use serin_core::measurement::Window;
use serin_core::rollout::{FlowName, Rollout};
use std::collections::BTreeMap;

/// A flow's items.
#[derive(Debug, Clone)]
pub struct FlowBook {
    /// Every entry since the flow is known.
    pub entries: Vec<StoredEntry>,
    /// Index of the first entry of the latest rollout.
    first: usize,
    fence: u64,
    lease: Option<(String, Timestamp)>,
    /// Whose turn it is at the gate.
    pub hold: Option<Hold>,
    last_rollback: Option<Timestamp>,
    /// `None` once ticks do not visit it any more.
    pub active: Option<ActiveFlow>,
    /// Windows of a rollout, by hour.
    windows: BTreeMap<(String, i64), Vec<Window>>,
    /// What the hours before told, by rollout.
    pub summaries: BTreeMap<String, String>,
    /// Why the entries cannot be read.
    pub broken: Option<BrokenLedger>,
}

impl FlowBook {
    fn new() -> FlowBook {
        FlowBook {
            entries: Vec::new(),
            first: 0,
            fence: 0,
            lease: None,
            hold: None,
            last_rollback: None,
            active: None,
            windows: BTreeMap::new(),
            summaries: BTreeMap::new(),
            broken: None,
        }
    }

    fn head(&self) -> Hash {
        self.entries.last().map_or_else(Hash::genesis, StoredEntry::hash)
    }

    /// The latest rollout, replayed.
    pub fn rollout(&self) -> Option<Rollout> {
        let entries = &self.entries[self.first..];
        (!entries.is_empty()).then(|| Rollout::replay(entries.iter().map(|s| &s.entry)).unwrap())
    }

    /// Windows of every rollout that were recorded, oldest first.
    pub fn windows(&self) -> Vec<Window> {
        self.windows.values().flatten().copied().collect()
    }

    /// Who holds the lease.
    pub fn holder(&self, now: Timestamp) -> Option<&str> {
        self.lease.as_ref().filter(|(_, until)| *until > now).map(|(owner, _)| owner.as_str())
    }

    /// Grows with every change of the lease's holder.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether ticks visit it.
    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }
}

fn unavailable() -> LedgerError {
    LedgerError::Unavailable("injected".into())
}

fn lost(flow: &FlowName, reason: &str) -> LedgerError {
    LedgerError::Lost { flow: flow.to_string(), reason: reason.to_owned() }
}

impl State {
    fn book(&mut self, flow: &FlowName) -> &mut FlowBook {
        self.books.entry(flow.clone()).or_insert_with(FlowBook::new)
    }

    fn commit(&mut self, commit: Commit) -> Result<(), LedgerError> {
        let book = self.book(&commit.flow);
        if book.entries.last().is_some_and(|last| last.bytes == commit.entry.bytes) {
            return Ok(());
        }
        if book.entries.len() as u64 != commit.base_revision {
            return Err(lost(&commit.flow, "the revision moved on"));
        }
        match &commit.authority {
            Authority::Lease(lease) => {
                let held = book.lease.as_ref().is_some_and(|(owner, _)| *owner == lease.owner);
                if !held || book.fence != lease.fence {
                    return Err(lost(&commit.flow, "the lease is somebody else's"));
                }
            }
            Authority::Preempt { fence, owner } => {
                if book.fence != *fence {
                    return Err(lost(&commit.flow, "the fence moved on"));
                }
                book.fence += 1;
                book.lease = Some((owner.clone(), Timestamp::UNIX_EPOCH));
            }
        }
        assert_eq!(commit.entry.entry.previous, book.head(), "an entry is chained to the one before it");
        assert_eq!(commit.entry.entry.revision, commit.base_revision + 1);
        // What is stored is what will be read.
        let stored = StoredEntry::open(commit.entry.bytes.clone()).expect("what is stored can be read");
        assert_eq!(stored, commit.entry, "an entry survives storage");
        book.first = commit.first_revision as usize - 1;
        book.entries.push(stored);
        book.last_rollback = commit.last_rollback;
        if commit.active.is_some() {
            book.active = commit.active;
        }
        if let Some(configuration) = commit.quarantine {
            self.quarantine.insert((commit.flow.clone(), configuration), commit.entry.entry.rollout.clone());
        }
        if let Some(configuration) = commit.release {
            self.quarantine.remove(&(commit.flow.clone(), configuration));
        }
        self.known_good.extend(commit.known_good);
        for notice in commit.notices {
            assert!(self.recorded_notices.insert(notice.id.clone()), "{}: a notice id belongs to one entry", notice.id);
            self.outbox.insert(notice.id.clone(), notice);
        }
        self.law_of_entries(&commit.flow);
        Ok(())
    }
}

impl Ledger for Process {
    async fn active(&self) -> Result<Vec<ActiveFlow>, LedgerError> {
        self.step("ledger.active", "", unavailable, |s| Ok(s.books.values().filter_map(|b| b.active.clone()).collect())).await
    }

    async fn load(&self, flow: &FlowName) -> Result<Book, LedgerError> {
        let load = |s: &mut State| {
            let Some(book) = s.books.get(flow) else { return Ok(Book::empty()) };
            if let Some(broken) = &book.broken {
                return Err(broken.clone().into());
            }
            Ok(Book {
                revision: book.entries.len() as u64,
                head_hash: book.head(),
                fence: book.fence,
                last_rollback: book.last_rollback,
                hold: book.hold.clone(),
                entries: book.entries[book.first..].to_vec(),
            })
        };
        self.step("ledger.load", flow.as_str(), unavailable, load).await
    }

    async fn archive(&self, flow: &FlowName) -> Result<Archive, LedgerError> {
        let read = |s: &mut State| {
            let book = s.book(flow);
            let (revision, first_revision) = (book.entries.len() as u64, book.first as u64 + 1);
            let head = (revision > 0).then(|| Head { revision, hash: book.head(), first_revision });
            Ok(Archive { head, entries: book.entries.iter().zip(1..).map(|(stored, place)| (place, stored.bytes.clone())).collect() })
        };
        self.step("ledger.archive", flow.as_str(), unavailable, read).await
    }

    async fn lease(&self, flow: &FlowName, owner: &str, now: Timestamp, until: Timestamp) -> Result<Lease, LedgerError> {
        let take = |s: &mut State| {
            let book = s.book(flow);
            match &book.lease {
                Some((holder, held_until)) if *held_until > now && holder != owner => Err(lost(flow, &format!("{holder} holds the lease"))),
                _ => {
                    book.fence += 1;
                    book.lease = Some((owner.to_owned(), until));
                    Ok(Lease { owner: owner.to_owned(), fence: book.fence, until })
                }
            }
        };
        self.step("ledger.lease", flow.as_str(), unavailable, take).await
    }

    async fn release(&self, flow: &FlowName, lease: &Lease) -> Result<(), LedgerError> {
        let give_back = |s: &mut State| {
            let book = s.book(flow);
            if book.fence == lease.fence && book.lease.as_ref().is_some_and(|(owner, _)| *owner == lease.owner) {
                book.lease = None;
            }
            Ok(())
        };
        self.step("ledger.release", flow.as_str(), unavailable, give_back).await
    }

    async fn hold(&self, flow: &FlowName, holder: &str, revision: u64, now: Timestamp, until: Timestamp) -> Result<(), LedgerError> {
        let take = |s: &mut State| {
            let book = s.book(flow);
            if book.entries.len() as u64 != revision {
                return Err(lost(flow, "the revision moved on"));
            }
            if let Some(lease) = book.holder(now) {
                return Err(lost(flow, &format!("{lease} has the lease")));
            }
            if let Some(other) = book.hold.as_ref().filter(|hold| hold.until > now && hold.holder != holder) {
                return Err(lost(flow, &format!("{} holds the gate", other.holder)));
            }
            book.fence += 1;
            book.hold = Some(Hold { holder: holder.to_owned(), until });
            Ok(())
        };
        self.step("ledger.hold", flow.as_str(), unavailable, take).await
    }

    async fn release_hold(&self, flow: &FlowName, holder: &str) -> Result<bool, LedgerError> {
        let give_back = |s: &mut State| {
            let book = s.book(flow);
            let theirs = book.hold.as_ref().is_some_and(|hold| hold.holder == holder);
            if theirs {
                book.hold = None;
            }
            Ok(theirs)
        };
        self.step("ledger.release_hold", flow.as_str(), unavailable, give_back).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), LedgerError> {
        let detail = commit.entry.entry.event.name();
        let append = |s: &mut State| {
            let outcome = s.commit(commit);
            if matches!(outcome, Err(LedgerError::Lost { .. })) {
                s.exercise(3, "lost to another writer");
            }
            outcome
        };
        self.step("ledger.commit", detail, unavailable, append).await
    }

    async fn retire(&self, flow: &FlowName, revision: u64) -> Result<(), LedgerError> {
        let end = |s: &mut State| {
            let book = s.book(flow);
            match book.active.as_ref().is_some_and(|active| active.revision == revision) {
                true => {
                    book.active = None;
                    Ok(())
                }
                false => Err(lost(flow, "another rollout was opened")),
            }
        };
        self.step("ledger.retire", flow.as_str(), unavailable, end).await
    }

    async fn windows(&self, flow: &FlowName, rollout: &str, from: Timestamp) -> Result<Vec<Window>, LedgerError> {
        let recall = |s: &mut State| {
            let hours = s.book(flow).windows.iter().filter(|((of, _), _)| of == rollout);
            Ok(hours.flat_map(|(_, windows)| windows).filter(|w| w.start >= from).copied().collect())
        };
        self.step("ledger.windows", flow.as_str(), unavailable, recall).await
    }

    async fn record_windows(&self, flow: &FlowName, rollout: &str, windows: &[Window]) -> Result<(), LedgerError> {
        let keep = |s: &mut State| {
            let mut hours: BTreeMap<i64, Vec<Window>> = BTreeMap::new();
            for window in windows {
                hours.entry(window.start.as_second().div_euclid(3600)).or_default().push(*window);
            }
            let book = s.book(flow);
            book.windows.extend(hours.into_iter().map(|(hour, windows)| ((rollout.to_owned(), hour), windows)));
            Ok(())
        };
        self.step("ledger.record_windows", flow.as_str(), unavailable, keep).await
    }

    async fn summary(&self, flow: &FlowName, rollout: &str) -> Result<Option<String>, LedgerError> {
        let recall = |s: &mut State| Ok(s.book(flow).summaries.get(rollout).cloned());
        self.step("ledger.summary", flow.as_str(), unavailable, recall).await
    }

    async fn record_summary(&self, flow: &FlowName, rollout: &str, summary: &str) -> Result<(), LedgerError> {
        let keep = |s: &mut State| {
            s.book(flow).summaries.insert(rollout.to_owned(), summary.to_owned());
            Ok(())
        };
        self.step("ledger.record_summary", flow.as_str(), unavailable, keep).await
    }

    async fn is_quarantined(&self, flow: &FlowName, configuration: &str) -> Result<bool, LedgerError> {
        let ask = |s: &mut State| {
            let is = s.quarantine.contains_key(&(flow.clone(), configuration.to_owned()));
            if is {
                s.exercise(10, "quarantined asked for");
            }
            Ok(is)
        };
        self.step("ledger.is_quarantined", flow.as_str(), unavailable, ask).await
    }

    async fn quarantined(&self, flow: &FlowName) -> Result<Vec<Quarantined>, LedgerError> {
        let recall = |s: &mut State| {
            let of_flow = s.quarantine.iter().filter(|((of, _), _)| of == flow);
            let read = |((_, hash), rollout): (&(FlowName, String), &String)| Quarantined {
                configuration: hash.clone(),
                rollout: rollout.clone(),
            };
            Ok(of_flow.map(read).collect())
        };
        self.step("ledger.quarantined", flow.as_str(), unavailable, recall).await
    }

    async fn known_good(&self, flow: &FlowName, genesys_flow: &str) -> Result<Vec<KnownGood>, LedgerError> {
        let recall = |s: &mut State| Ok(s.known_good.iter().rev().filter(|good| good.flow == genesys_flow).cloned().collect());
        self.step("ledger.known_good", flow.as_str(), unavailable, recall).await
    }

    async fn keep_export(&self, name: &str, export: &str) -> Result<Option<String>, LedgerError> {
        let keep = |s: &mut State| {
            s.exports.insert(name.to_owned(), export.to_owned());
            Ok(Some(format!("s3://exports/{name}")))
        };
        self.step("ledger.keep_export", name, unavailable, keep).await
    }

    fn keeps_exports(&self) -> bool {
        true
    }

    async fn restrictions(&self) -> Result<Vec<Restriction>, LedgerError> {
        self.step("ledger.restrictions", "", unavailable, |s| Ok(s.restrictions.clone())).await
    }

    async fn restrict(&self, restriction: &Restriction) -> Result<(), LedgerError> {
        let set = |s: &mut State| {
            s.restrictions.retain(|other| other.id != restriction.id);
            s.restrictions.push(restriction.clone());
            Ok(())
        };
        self.step("ledger.restrict", restriction.id.clone(), unavailable, set).await
    }

    async fn restoration(&self, flow: &FlowName, now: Timestamp, until: Timestamp) -> Result<bool, LedgerError> {
        let take = |s: &mut State| match &s.restoration {
            Some((holder, held_until)) if holder != flow && *held_until > now => {
                s.exercise(9, "second restoration");
                Ok(false)
            }
            _ => {
                s.restoration = Some((flow.clone(), until));
                Ok(true)
            }
        };
        self.step("ledger.restoration", flow.as_str(), unavailable, take).await
    }

    async fn restoration_done(&self, flow: &FlowName) -> Result<(), LedgerError> {
        let give_back = |s: &mut State| {
            if s.restoration.as_ref().is_some_and(|(holder, _)| holder == flow) {
                s.restoration = None;
            }
            Ok(())
        };
        self.step("ledger.restoration_done", flow.as_str(), unavailable, give_back).await
    }

    async fn outbox(&self) -> Result<Vec<Notice>, LedgerError> {
        self.step("ledger.outbox", "", unavailable, |s| Ok(s.outbox.values().cloned().collect())).await
    }

    async fn sent(&self, notice: &Notice) -> Result<(), LedgerError> {
        let done = |s: &mut State| {
            s.outbox.remove(&notice.id);
            Ok(())
        };
        self.step("ledger.sent", notice.id.clone(), unavailable, done).await
    }

    async fn last_tick(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.step("ledger.last_tick", "", unavailable, |s| Ok(s.last_tick)).await
    }

    async fn record_tick(&self, time: Timestamp) -> Result<(), LedgerError> {
        let keep = |s: &mut State| {
            s.last_tick = s.last_tick.max(Some(time));
            Ok(())
        };
        self.step("ledger.record_tick", "", unavailable, keep).await
    }
}
