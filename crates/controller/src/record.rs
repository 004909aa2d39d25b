//! The one way an entry gets into the ledger: with the alert that tells of it, or not at all.

use crate::ports::{ActiveFlow, Authority, Book, Commit, KnownGood, LONGEST_WHY, Ledger, LedgerError, Notice, Topic};
use jiff::{SignedDuration, Timestamp};
use serin_core::alert::{Alert, RollbackRequest};
use serin_core::ledger::{Entry, SCHEMA, StoredEntry};
use serin_core::measurement::Comparison;
use serin_core::phase::{Event, Phase};
use serin_core::rollout::{Actor, Cause, FlowName, Rollout};
use std::collections::BTreeMap;

/// How long the parameters of an ended rollout are still repaired.
const RECONCILED_FOR: SignedDuration = SignedDuration::from_hours(24);

/// A flow's ledger with its latest rollout replayed.
#[derive(Debug, Clone)]
pub struct Opened {
    /// As stored.
    pub book: Book,
    /// The replay, `None` before the first rollout.
    pub rollout: Option<Rollout>,
}

/// Loads and replays a flow's ledger.
pub async fn open(ledger: &impl Ledger, flow: &FlowName) -> Result<Opened, LedgerError> {
    let book = ledger.load(flow).await?;
    let rollout = match book.entries.is_empty() {
        true => None,
        false => Some(Rollout::replay(book.entries.iter().map(|s| &s.entry)).map_err(|e| broken(flow, &e))?),
    };
    Ok(Opened { book, rollout })
}

fn broken(flow: &FlowName, error: &serin_core::phase::IllegalTransition) -> LedgerError {
    LedgerError::Unavailable(format!("flow {flow}: its entries do not replay: {error}; `serin ledger verify {flow}` tells which one"))
}

/// What to record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Who.
    pub by: Actor,
    /// What.
    pub event: Event,
    /// Why, in a sentence.
    pub why: String,
    /// What both cohorts looked like.
    pub evidence: Option<Comparison>,
    /// The clock the rollout runs by.
    pub at: Timestamp,
    /// The wall clock.
    pub recorded_at: Timestamp,
}

/// Records an event on the rollout that was opened; returns the ledger as it stands after it.
pub async fn record(
    ledger: &impl Ledger,
    flow: &FlowName,
    opened: &Opened,
    authority: Authority,
    record: Record,
) -> Result<Opened, LedgerError> {
    let Opened { book, rollout } = opened;
    let opens = matches!(record.event, Event::Requested { .. });
    let id = match (&rollout, opens) {
        (Some(rollout), false) => rollout.id.clone(),
        (previous, _) => serin_core::rollout::rollout_id(record.at, previous.as_ref().map(|r| r.id.as_str())),
    };
    let entry = Entry {
        schema: SCHEMA,
        flow: flow.clone(),
        rollout: id,
        revision: book.revision + 1,
        at: record.at,
        recorded_at: record.recorded_at,
        by: record.by,
        event: record.event,
        why: record.why,
        evidence: record.evidence,
        previous: book.head_hash.clone(),
    };
    let before = if opens { None } else { rollout.as_ref() };
    let after = match before {
        Some(rollout) => rollout.clone().after(&entry),
        None => Rollout::replay([&entry]),
    }
    .map_err(|illegal| LedgerError::Lost { flow: flow.to_string(), reason: illegal.to_string() })?;
    let stored = StoredEntry::seal(entry);
    let commit = transaction(flow, book, before, &after, &stored, authority.clone());
    let mut book =
        Book { revision: commit.base_revision + 1, head_hash: stored.hash(), last_rollback: commit.last_rollback, ..book.clone() };
    if let Authority::Preempt { fence, .. } = authority {
        book.fence = fence + 1;
    }
    ledger.commit(commit).await?;
    if opens {
        book.entries.clear();
    }
    book.entries.push(stored);
    Ok(Opened { book, rollout: Some(after) })
}

/// As [`record`], under a lease of its own, which is held from the first to the second time at most.
pub async fn leased(
    ledger: &impl Ledger,
    flow: &FlowName,
    opened: &Opened,
    owner: &str,
    [from, until]: [Timestamp; 2],
    entry: Record,
) -> Result<Opened, LedgerError> {
    let lease = ledger.lease(flow, owner, from, until).await?;
    let outcome = record(ledger, flow, opened, Authority::Lease(lease.clone()), entry).await;
    // One that is not given back ends by itself.
    let _ = ledger.release(flow, &lease).await;
    outcome
}

fn transaction(
    flow: &FlowName,
    book: &Book,
    before: Option<&Rollout>,
    after: &Rollout,
    stored: &StoredEntry,
    authority: Authority,
) -> Commit {
    let entry = &stored.entry;
    let changed = before.is_none_or(|b| b.phase != after.phase);
    let rolls_back = matches!(entry.event, Event::RollbackStarted { .. });
    let first_revision = match before {
        None => entry.revision,
        Some(_) => book.entries.first().map_or(entry.revision, |first| first.entry.revision),
    };
    let cleared = match &entry.event {
        Event::QuarantineCleared { configuration, .. } => Some(configuration.clone()),
        _ => None,
    };
    // Whoever clears what an ended rollout left does not have its parameters repaired for another day.
    let visited = cleared.is_none() || !after.phase.is_finished();
    let mut notices = Vec::new();
    if changed || matches!(entry.event, Event::Advised { .. } | Event::RollbackWithheld { .. } | Event::LedAround { .. }) {
        notices.push(alert(after, &book.entries, stored));
    }
    if rolls_back {
        notices.push(wake_up(after, entry));
    }
    Commit {
        flow: flow.clone(),
        base_revision: book.revision,
        authority,
        entry: stored.clone(),
        active: visited.then(|| ActiveFlow {
            flow: flow.clone(),
            rollout: after.id.clone(),
            phase: after.phase.name().to_owned(),
            since: after.phase_since,
            weight: after.settled_weight(),
            revision: entry.revision,
            why: entry.why.chars().take(LONGEST_WHY).collect(),
            // `NeedsHuman` is visited until a person clears it.
            visit_until: after.phase.is_finished().then(|| entry.at + RECONCILED_FOR),
        }),
        first_revision,
        // The lockout is the wall clock's, whatever clock the rollout runs by.
        last_rollback: if rolls_back { Some(entry.recorded_at) } else { book.last_rollback },
        quarantine: blamed(&entry.event).then(|| after.snapshot.as_ref().map(|s| s.canary_hash.clone())).flatten(),
        release: cleared,
        known_good: known_good(after, entry),
        notices,
    }
}

/// Whether the canary's configuration is to blame. A containment that was found without its reason blames nobody: had the verdict
/// failed, it would have been the reason.
fn blamed(event: &Event) -> bool {
    matches!(event, Event::RollbackStarted { cause: Cause::Breach(_) | Cause::Requested { .. } })
}

/// What was healthy at 100 % for as long as its policy asks, in each flow that has it now.
fn known_good(rollout: &Rollout, entry: &Entry) -> Vec<KnownGood> {
    let (Event::Finalized, Some(snapshot)) = (&entry.event, &rollout.snapshot) else { return Vec::new() };
    let plan = &rollout.plan;
    let slots = [(plan.stable_flow(), &rollout.finalized_version), (plan.canary.flow_id.as_str(), &rollout.canary_version)];
    // Where one flow has both names the later one counts.
    let slots = if slots[0].0 == slots[1].0 { &slots[1..] } else { &slots[..] };
    let good = slots.iter().filter_map(|(flow, version)| {
        let version = version.as_ref()?.clone();
        Some(KnownGood { flow: (*flow).to_owned(), version, hash: snapshot.canary_hash.clone(), healthy_at: entry.at })
    });
    good.collect()
}

fn alert(rollout: &Rollout, before: &[StoredEntry], stored: &StoredEntry) -> Notice {
    notice_of(&Alert::of(rollout, before, stored))
}

/// An alert as it is published.
pub(crate) fn notice_of(alert: &Alert) -> Notice {
    let attributes =
        [("flow", alert.flow_id.clone()), ("incident_type", alert.incident_type.clone()), ("severity", alert.severity.name().to_owned())];
    Notice {
        id: format!("{}/{}", alert.dedup_key, Topic::Alerts.name()),
        topic: Topic::Alerts,
        subject: alert.subject(),
        body: serde_json::to_string(alert).expect("an alert has no map with keys that are not text"),
        attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    }
}

fn wake_up(rollout: &Rollout, entry: &Entry) -> Notice {
    let request = RollbackRequest {
        flow: entry.flow.clone(),
        rollout: Some(rollout.id.clone()),
        reason: entry.why.clone(),
        requested_by: entry.by.to_string(),
        at: Some(entry.at),
        by_alarm: false,
    };
    Notice {
        id: format!("{}/{}/{}/{}", entry.flow, rollout.id, entry.revision, Topic::Rollback.name()),
        topic: Topic::Rollback,
        subject: format!("restore {}", entry.flow),
        body: serde_json::to_string(&request).expect("a request has no map"),
        attributes: BTreeMap::from([("flow".to_owned(), entry.flow.to_string())]),
    }
}

/// Whether a phase is one the executor works in.
pub fn is_executors(phase: &Phase) -> bool {
    matches!(phase, Phase::Preparing | Phase::Finalizing | Phase::RollingBack)
}
