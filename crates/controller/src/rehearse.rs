//! What a command would do: the same use case on ports that read the world and change nothing.
//!
//! Every look and every refusal is the real one. What would be written is said instead, in a sentence each and in order, and read back by
//! the same rehearsal. Leases are not taken: whether somebody is at the flow in the very moment of the command only the command finds out.

use crate::ports::{
    ActiveFlow, Authority, Book, Commit, Hold, KnownGood, Lease, Ledger, LedgerError, Notice, ParameterError, Parameters, Pointer,
    Quarantined, RowError, Rows, Topic,
};
use jiff::Timestamp;
use serin_core::calendar::Restriction;
use serin_core::ledger::Archive;
use serin_core::measurement::Window;
use serin_core::projection::Seen;
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Ports for the use cases of [`crate::intervene`] that write nothing.
#[derive(Debug)]
pub struct Rehearsal<'a, L, P, R> {
    ledger: &'a L,
    parameters: &'a P,
    rows: &'a R,
    written: RefCell<Written>,
}

/// What would have been written by now, as far as it is read again.
#[derive(Debug, Default)]
struct Written {
    said: Vec<String>,
    books: BTreeMap<FlowName, Book>,
    restrictions: Vec<Restriction>,
    percentages: BTreeMap<FlowName, (String, i64)>,
    halts: BTreeMap<FlowName, String>,
    rows: BTreeMap<FlowName, Pointer>,
}

impl<'a, L, P, R> Rehearsal<'a, L, P, R> {
    /// Over the real ones.
    pub fn new(ledger: &'a L, parameters: &'a P, rows: &'a R) -> Rehearsal<'a, L, P, R> {
        Rehearsal { ledger, parameters, rows, written: RefCell::default() }
    }

    /// What would have been done by now, in order: `would set the percentage of main_ivr to 0`.
    pub fn would(&self) -> Vec<String> {
        self.written.borrow().said.clone()
    }

    fn say(&self, what: impl Into<String>) {
        self.written.borrow_mut().said.push(format!("would {}", what.into()));
    }
}

fn lost(flow: &FlowName, reason: &str) -> LedgerError {
    LedgerError::Lost { flow: flow.to_string(), reason: reason.to_owned() }
}

impl<L: Ledger, P, R> Rehearsal<'_, L, P, R> {
    /// Changes what is read of a flow from now on.
    async fn change(&self, flow: &FlowName, change: impl FnOnce(&mut Book)) -> Result<(), LedgerError> {
        let mut book = self.load(flow).await?;
        change(&mut book);
        self.written.borrow_mut().books.insert(flow.clone(), book);
        Ok(())
    }
}

impl<L: Ledger, P, R> Ledger for Rehearsal<'_, L, P, R> {
    async fn active(&self) -> Result<Vec<ActiveFlow>, LedgerError> {
        self.ledger.active().await
    }

    async fn load(&self, flow: &FlowName) -> Result<Book, LedgerError> {
        let known = self.written.borrow().books.get(flow).cloned();
        match known {
            Some(book) => Ok(book),
            None => self.ledger.load(flow).await,
        }
    }

    async fn archive(&self, flow: &FlowName) -> Result<Archive, LedgerError> {
        self.ledger.archive(flow).await
    }

    async fn lease(&self, flow: &FlowName, owner: &str, _now: Timestamp, until: Timestamp) -> Result<Lease, LedgerError> {
        Ok(Lease { owner: owner.to_owned(), fence: self.load(flow).await?.fence + 1, until })
    }

    async fn release(&self, _flow: &FlowName, _lease: &Lease) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn hold(&self, flow: &FlowName, holder: &str, revision: u64, now: Timestamp, until: Timestamp) -> Result<(), LedgerError> {
        let book = self.load(flow).await?;
        let others = book.hold.as_ref().is_some_and(|hold| now < hold.until && hold.holder != holder);
        if book.revision != revision || others {
            return Err(lost(flow, "somebody else holds the gate, or recorded since"));
        }
        self.say(format!("hold the gate of {flow} for {holder} until {until:.0}"));
        self.change(flow, |book| book.hold = Some(Hold { holder: holder.to_owned(), until })).await
    }

    async fn release_hold(&self, flow: &FlowName, holder: &str) -> Result<bool, LedgerError> {
        let theirs = self.load(flow).await?.hold.is_some_and(|hold| hold.holder == holder);
        if theirs {
            self.say(format!("give back the gate of {flow}, which {holder} holds"));
            self.change(flow, |book| book.hold = None).await?;
        }
        Ok(theirs)
    }

    async fn commit(&self, commit: Commit) -> Result<(), LedgerError> {
        let flow = commit.flow.clone();
        let book = self.load(&flow).await?;
        let preempts = match &commit.authority {
            Authority::Lease(_) => false,
            Authority::Preempt { fence, .. } if *fence == book.fence => true,
            Authority::Preempt { .. } => return Err(lost(&flow, "the fence moved on")),
        };
        if book.revision != commit.base_revision {
            return Err(lost(&flow, "the revision moved on"));
        }
        let entry = &commit.entry.entry;
        self.say(format!("record {} of rollout {} on flow {flow}: {}", entry.event.name(), entry.rollout, entry.why));
        if let Some(configuration) = &commit.quarantine {
            self.say(format!("quarantine configuration {configuration} of flow {flow}"));
        }
        if let Some(configuration) = &commit.release {
            self.say(format!("let configuration {configuration} of flow {flow} out of quarantine"));
        }
        for notice in &commit.notices {
            self.say(match notice.topic {
                Topic::Alerts => format!("tell on-call: {}", notice.attributes.get("incident_type").map_or("", String::as_str)),
                Topic::Rollback => "wake the executor, which puts the flow back".to_owned(),
            });
        }
        self.change(&flow, |book| {
            if commit.first_revision == commit.entry.entry.revision {
                book.entries.clear();
            }
            book.revision += 1;
            book.head_hash = commit.entry.hash();
            book.fence += u64::from(preempts);
            book.last_rollback = commit.last_rollback;
            book.entries.push(commit.entry);
        })
        .await
    }

    async fn retire(&self, _flow: &FlowName, _revision: u64) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn windows(&self, flow: &FlowName, rollout: &str, from: Timestamp) -> Result<Vec<Window>, LedgerError> {
        self.ledger.windows(flow, rollout, from).await
    }

    async fn summary(&self, flow: &FlowName, rollout: &str) -> Result<Option<String>, LedgerError> {
        self.ledger.summary(flow, rollout).await
    }

    async fn record_summary(&self, _flow: &FlowName, _rollout: &str, _summary: &str) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn record_windows(&self, _flow: &FlowName, _rollout: &str, _windows: &[Window]) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn is_quarantined(&self, flow: &FlowName, configuration: &str) -> Result<bool, LedgerError> {
        self.ledger.is_quarantined(flow, configuration).await
    }

    async fn quarantined(&self, flow: &FlowName) -> Result<Vec<Quarantined>, LedgerError> {
        self.ledger.quarantined(flow).await
    }

    async fn known_good(&self, flow: &FlowName, genesys_flow: &str) -> Result<Vec<KnownGood>, LedgerError> {
        self.ledger.known_good(flow, genesys_flow).await
    }

    async fn keep_export(&self, name: &str, _export: &str) -> Result<Option<String>, LedgerError> {
        self.say(format!("keep the export {name}"));
        Ok(None)
    }

    fn keeps_exports(&self) -> bool {
        self.ledger.keeps_exports()
    }

    async fn restrictions(&self) -> Result<Vec<Restriction>, LedgerError> {
        let mut all = self.ledger.restrictions().await?;
        let set = self.written.borrow().restrictions.clone();
        all.retain(|one| set.iter().all(|new| new.id != one.id));
        all.extend(set);
        Ok(all)
    }

    async fn restrict(&self, restriction: &Restriction) -> Result<(), LedgerError> {
        self.say(format!("{} the {restriction}", if restriction.ended.is_some() { "end" } else { "set" }));
        let mut written = self.written.borrow_mut();
        written.restrictions.retain(|one| one.id != restriction.id);
        written.restrictions.push(restriction.clone());
        Ok(())
    }

    async fn restoration(&self, _flow: &FlowName, _now: Timestamp, _until: Timestamp) -> Result<bool, LedgerError> {
        Ok(true)
    }

    async fn restoration_done(&self, _flow: &FlowName) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn outbox(&self) -> Result<Vec<Notice>, LedgerError> {
        self.ledger.outbox().await
    }

    async fn sent(&self, _notice: &Notice) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn last_tick(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.ledger.last_tick().await
    }

    async fn record_tick(&self, _time: Timestamp) -> Result<(), LedgerError> {
        Ok(())
    }
}

impl<L, P: Parameters, R> Parameters for Rehearsal<'_, L, P, R> {
    async fn read(&self, flow: &FlowName) -> Result<Seen, ParameterError> {
        let mut seen = self.parameters.read(flow).await?;
        let written = self.written.borrow();
        seen.percentage = written.percentages.get(flow).cloned().or(seen.percentage);
        seen.halt = written.halts.get(flow).cloned().or(seen.halt);
        Ok(seen)
    }

    async fn put_percentage(&self, flow: &FlowName, weight: Weight, _raise: bool) -> Result<i64, ParameterError> {
        // The version that it would get, as far as that can be known.
        let version = self.read(flow).await.map_or(0, |seen| seen.version()) + 1;
        self.say(format!("set the percentage of {flow} to {weight}"));
        self.written.borrow_mut().percentages.insert(flow.clone(), (weight.to_string(), version));
        Ok(version)
    }

    async fn history(&self, flow: &FlowName) -> Result<Vec<(String, i64)>, ParameterError> {
        self.parameters.history(flow).await
    }

    async fn put_halt(&self, flow: &FlowName, rollout: &str) -> Result<(), ParameterError> {
        self.say(format!("mark rollout {rollout} of {flow} as halted"));
        self.written.borrow_mut().halts.insert(flow.clone(), rollout.to_owned());
        Ok(())
    }

    async fn put_rollout(&self, flow: &FlowName, _split: &str) -> Result<(), ParameterError> {
        self.say(format!("write how the calls of {flow} are split"));
        Ok(())
    }

    async fn beat(&self, _at: Timestamp) -> Result<(), ParameterError> {
        Ok(())
    }
}

impl<L, P, R: Rows> Rows for Rehearsal<'_, L, P, R> {
    async fn pointer(&self, table: &str, row: &FlowName) -> Result<Option<Pointer>, RowError> {
        let known = self.written.borrow().rows.get(row).cloned();
        match known {
            Some(pointer) => Ok(Some(pointer)),
            None => self.rows.pointer(table, row).await,
        }
    }

    async fn point(&self, table: &str, row: &FlowName, to: &Pointer) -> Result<(), RowError> {
        self.say(format!("point row {row} of data table {table} to flow {} with weight {}", to.active_flow, to.weight));
        self.written.borrow_mut().rows.insert(row.clone(), to.clone());
        Ok(())
    }
}
