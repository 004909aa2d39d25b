//! Ledger entries, chained by the hash of their stored bytes.

use crate::measurement::Comparison;
use crate::phase::Event;
use crate::rollout::{Actor, FlowName, Plan, Rollout};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt;

/// Schema of the entries written by this code. What may change without a new one stands in `docs/decisions/0016-schema.md`.
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

    /// Reads stored bytes. What newer code added to an entry of this schema is left out; the bytes stay what they are.
    pub fn open(bytes: String) -> Result<StoredEntry, BrokenLedger> {
        /// What every schema has.
        #[derive(Deserialize)]
        struct Mark {
            schema: u32,
            revision: u64,
        }
        let unreadable = |revision| move |e: serde_json::Error| BrokenLedger::Unreadable { revision, reason: e.to_string() };
        let Mark { schema, revision } = serde_json::from_str(&bytes).map_err(unreadable(None))?;
        if schema > SCHEMA {
            return Err(BrokenLedger::Newer { revision, schema });
        }
        let entry = serde_json::from_str(&bytes).map_err(unreadable(Some(revision)))?;
        Ok(StoredEntry { entry, bytes })
    }

    /// Hash of the bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }
}

/// Reads the plan of an entry. Rollout files are read strictly, because there an unknown field is a mistake, and so are the plan's types.
/// In the ledger it is something that newer code knows: it is left out.
pub(crate) fn recorded_plan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Plan>, D::Error> {
    let mut plan = Value::deserialize(deserializer)?;
    loop {
        let refused = match Plan::deserialize(&plan) {
            Ok(read) => return Ok(Box::new(read)),
            Err(error) => error.to_string(),
        };
        let unknown = refused.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()).map(str::to_owned);
        if !unknown.is_some_and(|field| leave_out(&mut plan, &field, &refused)) {
            return Err(de::Error::custom(refused));
        }
    }
}

/// Removes the field that a plan was refused for, and no other one of that name: only that one is refused in the same words under
/// another name.
fn leave_out(plan: &mut Value, field: &str, refused: &str) -> bool {
    let renamed = format!("{field}\0");
    let in_other_words = refused.replacen(field, &renamed, 1);
    for nth in 0.. {
        let mut other = plan.clone();
        let Some(map) = holder(&mut other, field, &mut { nth }) else { return false };
        map.remove(field);
        map.insert(renamed.clone(), Value::Null);
        if Plan::deserialize(&other).is_err_and(|error| error.to_string() == in_other_words) {
            return holder(plan, field, &mut { nth }).and_then(|map| map.remove(field)).is_some();
        }
    }
    false
}

/// The object that holds a field, the `nth` of those that do.
fn holder<'a>(value: &'a mut Value, field: &str, nth: &mut usize) -> Option<&'a mut Map<String, Value>> {
    if value.get(field).is_some() {
        if *nth == 0 {
            return value.as_object_mut();
        }
        *nth -= 1;
    }
    match value {
        Value::Object(map) => map.values_mut().find_map(|child| holder(child, field, nth)),
        Value::Array(list) => list.iter_mut().find_map(|child| holder(child, field, nth)),
        _ => None,
    }
}

/// Why a ledger cannot be trusted or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLedger {
    /// An entry is no entry.
    #[error("ledger entry{} cannot be read: {reason}", .revision.map(|r| format!(" {r}")).unwrap_or_default())]
    Unreadable {
        /// Its place, as far as it is known.
        revision: Option<u64>,
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
    /// An entry of another flow.
    #[error("ledger entry {revision} is one of flow {flow}")]
    Foreign {
        /// Its place.
        revision: u64,
        /// Whose it is.
        flow: FlowName,
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
    #[error("ledger entry {revision} does not follow from entry {}: one of the two was changed", .revision - 1)]
    Rewritten {
        /// The entry whose predecessor changed.
        revision: u64,
    },
    /// The chain is sound, and cannot have happened.
    #[error("ledger entry {revision} cannot have followed: {reason}")]
    Illegal {
        /// The entry.
        revision: u64,
        /// Why.
        reason: String,
    },
    /// There are entries, and no head.
    #[error("the ledger has {entries} entries and no head: the head was removed")]
    NoHead {
        /// How many.
        entries: usize,
    },
    /// The head names another end.
    #[error("the head says that entry {head} is the last one, and it is {last}: entries were cut off, or the head was changed")]
    OtherEnd {
        /// What the head says.
        head: u64,
        /// What there is.
        last: u64,
    },
    /// The head has another hash.
    #[error("the head does not follow from entry {revision}: one of the two was changed")]
    OtherHead {
        /// The last entry.
        revision: u64,
    },
    /// The head names another beginning of the latest rollout.
    #[error("the head says that the latest rollout begins at entry {head}, and it does at {first}: the head was changed")]
    OtherBeginning {
        /// What the head says.
        head: u64,
        /// What there is.
        first: u64,
    },
    /// An anchor has another hash: the chain is sound and not the one that was anchored.
    #[error(
        "ledger entry {} has hash {found}, the anchor says {}: the ledger was rewritten, or the anchor is another ledger's", 
        .anchor.revision, .anchor.hash
    )]
    Adrift {
        /// The anchor.
        anchor: Anchor,
        /// What there is.
        found: Hash,
    },
    /// An anchor lies beyond the end.
    #[error("the anchor names entry {}, the ledger ends at {last}: entries were cut off, or the anchor is another ledger's", .anchor.revision)]
    Shorter {
        /// The anchor.
        anchor: Anchor,
        /// What there is.
        last: u64,
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

/// What stands beside a flow's entries: where they end, and where the latest rollout begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Place of the last entry.
    pub revision: u64,
    /// Hash of its bytes.
    pub hash: Hash,
    /// Place of the first entry of the latest rollout.
    pub first_revision: u64,
}

/// Everything that is stored of a flow's entries, as it is: nothing was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// The head, if there is one.
    pub head: Option<Head>,
    /// Places and bytes, in the order of the places.
    pub entries: Vec<(u64, String)>,
}

/// The hash that an entry had, kept where whoever rewrites a ledger does not reach. Every alert carries one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Place of the entry.
    pub revision: u64,
    /// Hash of its bytes.
    #[serde(rename = "head_hash")]
    pub hash: Hash,
}

/// Entries that were checked from the first to the last, and hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Audited {
    /// The entries of each rollout, oldest first.
    pub rollouts: Vec<Vec<StoredEntry>>,
}

impl Audited {
    /// Every entry, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &StoredEntry> {
        self.rollouts.iter().flatten()
    }

    /// Place and hash of the last entry.
    pub fn end(&self) -> (u64, Hash) {
        self.entries().last().map_or((0, Hash::genesis()), |last| (last.entry.revision, last.hash()))
    }
}

impl Archive {
    /// Checks everything: each entry, the chain from the first one to the head, and that every rollout can have happened.
    ///
    /// A chain that was made anew as a whole, head included, is as sound as the true one: only an anchor tells them apart.
    pub fn audit(&self, flow: &FlowName, anchor: Option<&Anchor>) -> Result<Audited, BrokenLedger> {
        let Some(head) = &self.head else {
            return match self.entries.len() {
                0 => audit(flow, &[], anchor),
                entries => Err(BrokenLedger::NoHead { entries }),
            };
        };
        if let Some((found, _)) = self.entries.first().filter(|(place, _)| *place != 1) {
            return Err(BrokenLedger::Gap { expected: 1, found: *found });
        }
        let audited = audit(flow, &self.entries, anchor)?;
        if audited.entries().next().is_some_and(|first| first.entry.previous != Hash::genesis()) {
            return Err(BrokenLedger::Rewritten { revision: 1 });
        }
        let (last, hash) = audited.end();
        let first = audited.rollouts.last().map_or(0, |latest| latest[0].entry.revision);
        match head {
            Head { revision, .. } if *revision != last => Err(BrokenLedger::OtherEnd { head: *revision, last }),
            head if head.hash != hash => Err(BrokenLedger::OtherHead { revision: last }),
            Head { first_revision, .. } if *first_revision != first => Err(BrokenLedger::OtherBeginning { head: *first_revision, first }),
            _ => Ok(audited),
        }
    }
}

/// Checks entries, by place and bytes, that begin with any rollout: a copy of a ledger, whose head is not known.
pub fn audit(flow: &FlowName, entries: &[(u64, String)], anchor: Option<&Anchor>) -> Result<Audited, BrokenLedger> {
    let mut rollouts: Vec<Vec<StoredEntry>> = Vec::new();
    let mut before: Option<(Rollout, StoredEntry)> = None;
    for (place, bytes) in entries {
        let place = *place;
        let stored = StoredEntry::open(bytes.clone()).map_err(|error| match error {
            BrokenLedger::Unreadable { reason, .. } => BrokenLedger::Unreadable { revision: Some(place), reason },
            error => error,
        })?;
        let entry = &stored.entry;
        if entry.flow != *flow {
            return Err(BrokenLedger::Foreign { revision: place, flow: entry.flow.clone() });
        }
        match &before {
            Some((_, last)) => verify([&stored], last.entry.revision, last.hash())?,
            None => verify([&stored], place.saturating_sub(1), entry.previous.clone())?,
        };
        if entry.revision != place {
            return Err(BrokenLedger::Gap { expected: place, found: entry.revision });
        }
        let illegal = |reason: String| BrokenLedger::Illegal { revision: place, reason };
        let rollout = match before.filter(|_| !matches!(entry.event, Event::Requested { .. })) {
            Some((rollout, _)) if rollout.id != entry.rollout => {
                return Err(illegal(format!("it belongs to rollout {}, in the midst of {}", entry.rollout, rollout.id)));
            }
            Some((rollout, _)) => rollout.after(entry),
            None => Rollout::replay([entry]).inspect(|_| rollouts.push(Vec::new())),
        };
        let rollout = rollout.map_err(|e| illegal(e.to_string()))?;
        rollouts.last_mut().expect("the first entry was replayed, so it opened a rollout").push(stored.clone());
        before = Some((rollout, stored));
    }
    let audited = Audited { rollouts };
    if let Some(anchor) = anchor {
        let (last, _) = audited.end();
        match audited.entries().find(|stored| stored.entry.revision == anchor.revision).map(StoredEntry::hash) {
            Some(found) if found == anchor.hash => {}
            Some(found) => return Err(BrokenLedger::Adrift { anchor: anchor.clone(), found }),
            None => return Err(BrokenLedger::Shorter { anchor: anchor.clone(), last }),
        }
    }
    Ok(audited)
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
