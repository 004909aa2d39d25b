//! Ledger entries, chained by the hash of their stored bytes.

use crate::measurement::Comparison;
use crate::phase::Event;
use crate::rollout::{Actor, FlowName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// Schema of the entries written by this code.
pub const SCHEMA: u32 = 1;

/// SHA-256 of stored bytes, as 64 hexadecimal digits outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(String);

impl Hash {
    /// What the first entry of a flow names as its predecessor.
    pub fn genesis() -> Hash {
        Hash("0".repeat(64))
    }

    /// The hash of stored bytes.
    pub fn of(bytes: &str) -> Hash {
        Hash(Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As read back from where it was stored.
    pub fn from_stored(text: String) -> Hash {
        Hash(text)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One recorded event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Schema of this entry.
    pub schema: u32,
    /// The flow.
    pub flow: FlowName,
    /// The rollout.
    pub rollout: String,
    /// Place in the flow's ledger, from 1, without gaps.
    pub revision: u64,
    /// When, on the clock the rollout runs by.
    pub at: Timestamp,
    /// When, on the wall clock.
    pub recorded_at: Timestamp,
    /// Who.
    pub by: Actor,
    /// What.
    #[serde(flatten)]
    pub event: Event,
    /// Why, in a sentence.
    pub why: String,
    /// What both cohorts looked like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Comparison>,
    /// Hash of the stored bytes of the entry before.
    pub previous: Hash,
}

/// An entry with the bytes it is stored as.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEntry {
    /// The entry.
    pub entry: Entry,
    /// Its bytes.
    pub bytes: String,
}

impl StoredEntry {
    /// Serializes an entry; the bytes are what is hashed and kept.
    pub fn seal(entry: Entry) -> StoredEntry {
        let bytes = serde_json::to_string(&entry).expect("an entry has no map with keys that are not text");
        StoredEntry { entry, bytes }
    }

    /// Reads stored bytes.
    pub fn open(bytes: String) -> Result<StoredEntry, BrokenLedger> {
        let entry: Entry = serde_json::from_str(&bytes).map_err(|e| BrokenLedger::Unreadable { reason: e.to_string() })?;
        if entry.schema > SCHEMA {
            return Err(BrokenLedger::Newer { revision: entry.revision, schema: entry.schema });
        }
        Ok(StoredEntry { entry, bytes })
    }

    /// Hash of the bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }
}

/// Why a ledger cannot be trusted or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLedger {
    /// An entry is no entry.
    #[error("a ledger entry cannot be read: {reason}")]
    Unreadable {
        /// What serde says.
        reason: String,
    },
    /// An entry was written by newer code.
    #[error("ledger entry {revision} has schema {schema}, this code reads up to {SCHEMA}; deploy the newer version of Serin")]
    Newer {
        /// Its place.
        revision: u64,
        /// Its schema.
        schema: u32,
    },
    /// A place is missing or taken twice.
    #[error("ledger entry {expected} is missing: {found} stands in its place")]
    Gap {
        /// The place.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// The bytes before an entry are not those it was chained to.
    #[error("ledger entry {revision} does not follow from the one before it: the bytes before it were changed")]
    Rewritten {
        /// The entry whose predecessor changed.
        revision: u64,
    },
}

/// Checks that entries follow from each other, starting from what is known of the one before the first.
/// Returns the hash of the last.
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a StoredEntry>, mut revision: u64, mut previous: Hash) -> Result<Hash, BrokenLedger> {
    for stored in entries {
        let entry = &stored.entry;
        if entry.revision != revision + 1 {
            return Err(BrokenLedger::Gap { expected: revision + 1, found: entry.revision });
        }
        if entry.previous != previous {
            return Err(BrokenLedger::Rewritten { revision: entry.revision });
        }
        (revision, previous) = (entry.revision, stored.hash());
    }
    Ok(previous)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> Vec<StoredEntry> {
        let mut previous = Hash::genesis();
        (1..=length)
            .map(|revision| {
                let at: Timestamp = "2026-11-20T09:00:00Z".parse().unwrap();
                let entry = Entry {
                    schema: SCHEMA,
                    flow: "main_ivr".parse().unwrap(),
                    rollout: "r-20261120-1".into(),
                    revision,
                    at,
                    recorded_at: at,
                    by: Actor::Serin("canary-evaluator".into()),
                    event: Event::BakeFinished,
                    why: "healthy".into(),
                    evidence: None,
                    previous: previous.clone(),
                };
                let stored = StoredEntry::seal(entry);
                previous = stored.hash();
                stored
            })
            .collect()
    }

    #[test]
    fn an_untouched_chain_verifies_and_survives_storage() {
        let chain = chain(5);
        assert_eq!(verify(&chain, 0, Hash::genesis()).unwrap(), chain[4].hash());
        for stored in &chain {
            assert_eq!(StoredEntry::open(stored.bytes.clone()).unwrap(), *stored);
        }
    }

    #[test]
    fn a_changed_word_a_missing_and_a_swapped_entry_are_found() {
        let mut changed = chain(5);
        changed[2] = StoredEntry::open(changed[2].bytes.replace("healthy", "HEALTHY")).unwrap();
        assert_eq!(verify(&changed, 0, Hash::genesis()), Err(BrokenLedger::Rewritten { revision: 4 }));
        let mut missing = chain(5);
        missing.remove(1);
        assert_eq!(verify(&missing, 0, Hash::genesis()), Err(BrokenLedger::Gap { expected: 2, found: 3 }));
        let mut swapped = chain(5);
        swapped.swap(0, 1);
        assert!(verify(&swapped, 0, Hash::genesis()).is_err());
    }

    #[test]
    fn an_entry_of_a_newer_schema_is_refused_by_name() {
        let newer = chain(1)[0].bytes.replace("\"schema\":1", "\"schema\":2");
        assert_eq!(StoredEntry::open(newer), Err(BrokenLedger::Newer { revision: 1, schema: 2 }));
    }
}
