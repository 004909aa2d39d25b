//! DynamoDB: the truth. One table, string keys `pk` and `sk`:
//!
//! | pk | sk | holds |
//! |---|---|---|
//! | `FLOW#main_ivr` | `HEAD` | revision, head hash, fence, lease, hold of the gate, first revision of the latest rollout, last rollback, phase (to look at) |
//! | `FLOW#main_ivr` | `ENTRY#000000000012` | the stored bytes of an entry |
//! | `FLOW#main_ivr` | `WINDOWS#r-…#2026-11-20T09` | the windows of one hour |
//! | `FLOW#main_ivr` | `SUMMARY#r-…` | what the hours before the latest ones told the sequential judge; made again if it is lost |
//! | `FLOW#main_ivr` | `QUARANTINE#hash` | a configuration that must not run again |
//! | `FLOW#main_ivr` | `GOOD#flow#time#version` | a version that proved healthy; only ever added |
//! | `ACTIVE` | `main_ivr` | a flow that ticks visit, until when, and what an overview shows of it |
//! | `OUTBOX` | notice id | a notice to be sent |
//! | `STAGE` | `TICK`, `RESTORATION` | last tick; the right to restore |
//! | `RESTRICTION` | id | a maintenance window, a freeze or a stop |
//! | `PARAMETERS` | `FLOW#main_ivr` | a copy of the flow's parameters, which an endpoint may be answered from; by [`crate::parameters`] |
//! | `PARAMETERS` | `HEARTBEAT` | a copy of the heartbeat |
//! | `DELIVERED#webhook` | `main_ivr/r-…/7` | an alert that opened an incident has arrived at that target; by [`crate::deliveries`] |

use crate::{Config, S3Exports, said};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};
use jiff::{SignedDuration, Timestamp};
use serin_controller::ports::{
    ActiveFlow, Authority, Book, Commit, Hold, KnownGood, Lease, Ledger, LedgerError, Notice, Quarantined, Topic,
};
use serin_core::calendar::{Restriction, When};
use serin_core::ledger::{Archive, BrokenLedger, Hash, Head, StoredEntry};
use serin_core::measurement::{Comparison, Counts, Queue, Times, Window};
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) type Item = HashMap<String, AttributeValue>;

const RESTRICTION: &str = "RESTRICTION";

/// How long measurements are kept; entries are kept for ever.
const WINDOWS_KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);

/// The ledger of one stage.
#[derive(Debug, Clone)]
pub struct DynamoLedger {
    client: aws_sdk_dynamodb::Client,
    table: String,
    exports: Option<Arc<S3Exports>>,
    conflicts: Arc<AtomicU32>,
}

impl DynamoLedger {
    /// With the table's name.
    pub fn new(config: &Config, table: String) -> DynamoLedger {
        DynamoLedger { client: aws_sdk_dynamodb::Client::new(config), table, exports: None, conflicts: Arc::default() }
    }

    /// That also keeps exports, in a bucket.
    pub fn with_exports(self, exports: S3Exports) -> DynamoLedger {
        DynamoLedger { exports: Some(Arc::new(exports)), ..self }
    }

    /// Entries that were not recorded because somebody else's came first, since this was called last.
    pub fn conflicts(&self) -> u32 {
        self.conflicts.swap(0, Ordering::Relaxed)
    }

    async fn get(&self, pk: String, sk: String) -> Result<Option<Item>, LedgerError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true).set_key(Some(key(pk, sk)));
        Ok(get.send().await.map_err(unavailable)?.item)
    }

    async fn query(&self, pk: String, from: String, to: String) -> Result<Vec<Item>, LedgerError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to");
        let query = query
            .expression_attribute_values(":pk", text(pk))
            .expression_attribute_values(":from", text(from))
            .expression_attribute_values(":to", text(to));
        query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.map_err(unavailable)
    }
}

impl Ledger for DynamoLedger {
    async fn active(&self) -> Result<Vec<ActiveFlow>, LedgerError> {
        let items = self.query("ACTIVE".into(), " ".into(), "~".into()).await?;
        items.iter().map(read_active).collect()
    }

    async fn load(&self, flow: &FlowName) -> Result<Book, LedgerError> {
        let Some(head) = self.get(flow_key(flow), "HEAD".into()).await? else { return Ok(Book::empty()) };
        let mut book = Book {
            revision: number(&head, "revision")? as u64,
            head_hash: Hash::from_stored(string(&head, "head_hash")?),
            fence: number(&head, "fence")? as u64,
            last_rollback: time(&head, "last_rollback"),
            hold: string(&head, "hold_owner").ok().zip(time(&head, "hold_until")).map(|(holder, until)| Hold { holder, until }),
            entries: Vec::new(),
        };
        if book.revision == 0 {
            return Ok(book);
        }
        let first = number(&head, "first_revision")? as u64;
        for item in self.query(flow_key(flow), entry_key(first), entry_key(book.revision)).await? {
            book.entries.push(StoredEntry::open(string(&item, "entry")?)?);
        }
        // A commit between the two reads shows as a missing last entry at most: the query ends at the head that was read.
        let base = match book.entries.first() {
            Some(first) => first.entry.previous.clone(),
            None => return Err(LedgerError::Unavailable(format!("flow {flow}: entry {first} is missing"))),
        };
        let hash = serin_core::ledger::verify(&book.entries, first - 1, base)?;
        if hash != book.head_hash {
            return Err(BrokenLedger::OtherHead { revision: book.revision }.into());
        }
        Ok(book)
    }

    async fn archive(&self, flow: &FlowName) -> Result<Archive, LedgerError> {
        let mut archive = Archive::default();
        // What is recorded between the two reads belongs to a later head. Such a one is there at the next try.
        for _ in 0..3 {
            let head = self.get(flow_key(flow), "HEAD".into()).await?;
            let head = head.map(|head| {
                let (revision, first_revision) = (number(&head, "revision")? as u64, number(&head, "first_revision").unwrap_or(0) as u64);
                Ok::<_, LedgerError>(Head { revision, hash: Hash::from_stored(string(&head, "head_hash")?), first_revision })
            });
            archive.head = head.transpose()?;
            let items = self.query(flow_key(flow), entry_key(0), "ENTRY#~".into()).await?;
            // One that is not as we write them is for whoever checks it.
            let stored = |item: &Item| {
                let place = string(item, "sk").ok().and_then(|sk| sk.strip_prefix("ENTRY#")?.parse().ok());
                (place.unwrap_or(0), string(item, "entry").unwrap_or_default())
            };
            archive.entries = items.iter().map(stored).collect();
            if archive.entries.last().map(|(place, _)| *place) == archive.head.as_ref().map(|head| head.revision).filter(|r| *r > 0) {
                break;
            }
        }
        Ok(archive)
    }

    async fn lease(&self, flow: &FlowName, owner: &str, now: Timestamp, until: Timestamp) -> Result<Lease, LedgerError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(flow_key(flow), "HEAD".into())))
            .update_expression(
                "SET lease_owner = :owner, lease_until = :until, fence = if_not_exists(fence, :zero) + :one, \
                 revision = if_not_exists(revision, :zero), head_hash = if_not_exists(head_hash, :genesis)",
            )
            .condition_expression("attribute_not_exists(lease_until) OR lease_until < :now OR lease_owner = :owner")
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":until", int(until.as_millisecond()))
            .expression_attribute_values(":now", int(now.as_millisecond()))
            .expression_attribute_values(":zero", int(0))
            .expression_attribute_values(":one", int(1))
            .expression_attribute_values(":genesis", text(Hash::genesis().as_str()))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew);
        match update.send().await {
            Ok(answer) => {
                let fence = number(&answer.attributes.unwrap_or_default(), "fence")? as u64;
                Ok(Lease { owner: owner.to_owned(), fence, until })
            }
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Err(lost(flow, "another run holds the lease"))
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn release(&self, flow: &FlowName, lease: &Lease) -> Result<(), LedgerError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(flow_key(flow), "HEAD".into())))
            .update_expression("SET lease_until = :zero")
            .condition_expression("fence = :fence AND lease_owner = :owner")
            .expression_attribute_values(":zero", int(0))
            .expression_attribute_values(":fence", int(lease.fence as i64))
            .expression_attribute_values(":owner", text(&lease.owner));
        match update.send().await {
            Err(error) if !error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Err(unavailable(error)),
            _ => Ok(()),
        }
    }

    async fn hold(&self, flow: &FlowName, holder: &str, revision: u64, now: Timestamp, until: Timestamp) -> Result<(), LedgerError> {
        let unchanged = if revision == 0 { "(attribute_not_exists(revision) OR revision = :revision)" } else { "revision = :revision" };
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(flow_key(flow), "HEAD".into())))
            .update_expression(
                "SET hold_owner = :holder, hold_until = :until, fence = if_not_exists(fence, :zero) + :one, \
                 revision = if_not_exists(revision, :zero), head_hash = if_not_exists(head_hash, :genesis)",
            )
            .condition_expression(format!(
                "{unchanged} AND (attribute_not_exists(lease_until) OR lease_until < :now) \
                 AND (attribute_not_exists(hold_until) OR hold_until <= :now OR hold_owner = :holder)"
            ))
            .expression_attribute_values(":holder", text(holder))
            .expression_attribute_values(":until", int(until.as_millisecond()))
            .expression_attribute_values(":now", int(now.as_millisecond()))
            .expression_attribute_values(":revision", int(revision as i64))
            .expression_attribute_values(":zero", int(0))
            .expression_attribute_values(":one", int(1))
            .expression_attribute_values(":genesis", text(Hash::genesis().as_str()));
        match update.send().await {
            Ok(_) => Ok(()),
            // A transaction on the same head is somebody who records.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception() || e.is_transaction_conflict_exception()) =>
            {
                Err(lost(flow, "somebody else holds the gate, has the lease, or recorded since"))
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn release_hold(&self, flow: &FlowName, holder: &str) -> Result<bool, LedgerError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(flow_key(flow), "HEAD".into())))
            .update_expression("REMOVE hold_owner, hold_until")
            .condition_expression("hold_owner = :holder")
            .expression_attribute_values(":holder", text(holder));
        match update.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn commit(&self, commit: Commit) -> Result<(), LedgerError> {
        let items = self.transaction(&commit)?;
        // The token makes a retry after a lost answer a no-op instead of a loss against ourselves.
        let token = Hash::of(&format!("{}{}", commit.flow, commit.entry.bytes)).as_str()[..32].to_owned();
        let sent = self.client.transact_write_items().set_transact_items(Some(items)).client_request_token(token).send().await;
        let Err(error) = sent else { return Ok(()) };
        // Somebody else's write is a loss; a throttle or a refused item is trouble, and must be seen as such.
        let conflict = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => true,
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => canceled
                .cancellation_reasons()
                .iter()
                .filter_map(|reason| reason.code())
                .all(|code| matches!(code, "None" | "ConditionalCheckFailed" | "TransactionConflict")),
            _ => false,
        };
        if !conflict {
            return Err(unavailable(error));
        }
        // Was it ours after all, written by an answer that never came?
        match self.get(flow_key(&commit.flow), entry_key(commit.entry.entry.revision)).await? {
            Some(item) if string(&item, "entry")? == commit.entry.bytes => Ok(()),
            _ => {
                self.conflicts.fetch_add(1, Ordering::Relaxed);
                Err(lost(&commit.flow, &canceled(error)))
            }
        }
    }

    async fn retire(&self, flow: &FlowName, revision: u64) -> Result<(), LedgerError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key("ACTIVE".into(), flow.to_string())))
            .condition_expression("revision = :revision")
            .expression_attribute_values(":revision", int(revision as i64));
        match delete.send().await {
            Err(error) if !error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Err(unavailable(error)),
            _ => Ok(()),
        }
    }

    async fn windows(&self, flow: &FlowName, rollout: &str, from: Timestamp) -> Result<Vec<Window>, LedgerError> {
        let mut windows = Vec::new();
        for item in self.query(flow_key(flow), windows_key(rollout, from), format!("WINDOWS#{rollout}#~")).await? {
            let rows: Vec<Row> =
                serde_json::from_str(&string(&item, "windows")?).map_err(|e| LedgerError::Unavailable(format!("recorded windows: {e}")))?;
            // Missing ones are not known, and so are those that cannot be read.
            let details: Vec<DetailRow> = item.get("details").and_then(|d| serde_json::from_str(d.as_s().ok()?).ok()).unwrap_or_default();
            let details = details.into_iter().map(|(start, stable, canary)| (start, (stable, canary))).collect();
            windows.extend(rows.into_iter().filter_map(|row| unpack(row, &details)));
        }
        Ok(windows)
    }

    async fn record_windows(&self, flow: &FlowName, rollout: &str, windows: &[Window]) -> Result<(), LedgerError> {
        let mut hours: BTreeMap<String, (Vec<Row>, Vec<DetailRow>)> = BTreeMap::new();
        let mut last = None;
        for window in windows {
            let (rows, details) = hours.entry(windows_key(rollout, window.start)).or_default();
            rows.push(pack(window));
            details.extend(pack_details(window));
            last = Some(window.start);
        }
        for (sk, (rows, details)) in hours {
            let mut item = key(flow_key(flow), sk);
            item.insert("windows".into(), text(serde_json::to_string(&rows).expect("rows are numbers")));
            if !details.is_empty() {
                item.insert("details".into(), text(serde_json::to_string(&details).expect("rows are numbers")));
            }
            item.insert("expires_at".into(), int((last.unwrap_or_default() + WINDOWS_KEPT).as_second()));
            self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await.map_err(unavailable)?;
        }
        Ok(())
    }

    async fn summary(&self, flow: &FlowName, rollout: &str) -> Result<Option<String>, LedgerError> {
        let item = self.get(flow_key(flow), summary_key(rollout)).await?;
        item.map(|item| string(&item, "summary")).transpose()
    }

    async fn record_summary(&self, flow: &FlowName, rollout: &str, summary: &str) -> Result<(), LedgerError> {
        let mut item = key(flow_key(flow), summary_key(rollout));
        item.insert("summary".into(), text(summary));
        item.insert("expires_at".into(), int((Timestamp::now() + WINDOWS_KEPT).as_second()));
        self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await.map_err(unavailable)?;
        Ok(())
    }

    async fn is_quarantined(&self, flow: &FlowName, configuration: &str) -> Result<bool, LedgerError> {
        Ok(self.get(flow_key(flow), quarantine_key(configuration)).await?.is_some())
    }

    async fn quarantined(&self, flow: &FlowName) -> Result<Vec<Quarantined>, LedgerError> {
        let items = self.query(flow_key(flow), quarantine_key(""), quarantine_key("~")).await?;
        let read = |item: &Item| {
            let sk = string(item, "sk")?;
            let configuration = sk.strip_prefix(&quarantine_key("")).unwrap_or(&sk).to_owned();
            Ok(Quarantined { configuration, rollout: string(item, "rollout").unwrap_or_default() })
        };
        items.iter().map(read).collect()
    }

    async fn known_good(&self, flow: &FlowName, genesys_flow: &str) -> Result<Vec<KnownGood>, LedgerError> {
        let good = good_key(genesys_flow);
        let items = self.query(flow_key(flow), good.clone(), format!("{good}~")).await?;
        // One that cannot be read is none: there may be others.
        let read = |item: &Item| {
            let (version, hash) = (string(item, "version").ok()?, string(item, "configuration").ok()?);
            Some(KnownGood { flow: genesys_flow.to_owned(), version, hash, healthy_at: time(item, "healthy_at")? })
        };
        Ok(items.iter().rev().filter_map(read).collect())
    }

    async fn keep_export(&self, name: &str, export: &str) -> Result<Option<String>, LedgerError> {
        match &self.exports {
            Some(exports) => exports.keep(name, export.as_bytes()).await.map(Some).map_err(LedgerError::Unavailable),
            None => Ok(None),
        }
    }

    fn keeps_exports(&self) -> bool {
        self.exports.is_some()
    }

    async fn restrictions(&self) -> Result<Vec<Restriction>, LedgerError> {
        // One that newer code wrote holds back what it may, and can be ended.
        let read = |item: &Item| {
            let kept = serde_json::from_str(&string(item, "restriction")?);
            let id = string(item, "sk")?;
            Ok(kept.unwrap_or_else(|e| Restriction::unknown(&id, &e.to_string(), Timestamp::UNIX_EPOCH)))
        };
        self.query(RESTRICTION.into(), " ".into(), "~".into()).await?.iter().map(read).collect()
    }

    async fn restrict(&self, restriction: &Restriction) -> Result<(), LedgerError> {
        let mut item = key(RESTRICTION.into(), restriction.id.clone());
        item.insert("restriction".into(), text(serde_json::to_string(restriction).expect("a restriction has no map")));
        if let When::Once { until: Some(until), .. } = restriction.when {
            item.insert("expires_at".into(), int((until + WINDOWS_KEPT).as_second()));
        }
        self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await.map_err(unavailable)?;
        Ok(())
    }

    async fn restoration(&self, flow: &FlowName, now: Timestamp, until: Timestamp) -> Result<bool, LedgerError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key("STAGE".into(), "RESTORATION".into())))
            .update_expression("SET flow = :flow, held_until = :until")
            .condition_expression("attribute_not_exists(held_until) OR held_until < :now OR flow = :flow")
            .expression_attribute_values(":flow", text(flow.as_str()))
            .expression_attribute_values(":until", int(until.as_millisecond()))
            .expression_attribute_values(":now", int(now.as_millisecond()));
        match update.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn restoration_done(&self, flow: &FlowName) -> Result<(), LedgerError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key("STAGE".into(), "RESTORATION".into())))
            .condition_expression("flow = :flow")
            .expression_attribute_values(":flow", text(flow.as_str()));
        match delete.send().await {
            Err(error) if !error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Err(unavailable(error)),
            _ => Ok(()),
        }
    }

    async fn outbox(&self) -> Result<Vec<Notice>, LedgerError> {
        self.query("OUTBOX".into(), " ".into(), "~".into()).await?.iter().map(notice).collect()
    }

    async fn sent(&self, notice: &Notice) -> Result<(), LedgerError> {
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(key("OUTBOX".into(), notice.id.clone())));
        delete.send().await.map(|_| ()).map_err(unavailable)
    }

    async fn last_tick(&self) -> Result<Option<Timestamp>, LedgerError> {
        Ok(self.get("STAGE".into(), "TICK".into()).await?.and_then(|item| time(&item, "time")))
    }

    async fn record_tick(&self, time: Timestamp) -> Result<(), LedgerError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key("STAGE".into(), "TICK".into())))
            .update_expression("SET #time = :time")
            .condition_expression("attribute_not_exists(#time) OR #time < :time")
            .expression_attribute_names("#time", "time")
            .expression_attribute_values(":time", int(time.as_millisecond()));
        match update.send().await {
            Err(error) if !error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Err(unavailable(error)),
            _ => Ok(()),
        }
    }
}

impl DynamoLedger {
    fn transaction(&self, commit: &Commit) -> Result<Vec<TransactWriteItem>, LedgerError> {
        let pk = flow_key(&commit.flow);
        let mut items = vec![self.head(commit)?];

        let mut entry = key(pk.clone(), entry_key(commit.entry.entry.revision));
        entry.insert("entry".into(), text(&commit.entry.bytes));
        items.push(self.put(entry, true)?);

        if let Some(flow) = &commit.active {
            items.push(self.put(active(flow), false)?);
        }

        if let Some(hash) = &commit.quarantine {
            let mut item = key(pk.clone(), quarantine_key(hash));
            item.insert("rollout".into(), text(&commit.entry.entry.rollout));
            items.push(self.put(item, false)?);
        }
        if let Some(hash) = &commit.release {
            let delete = Delete::builder().table_name(&self.table).set_key(Some(key(pk.clone(), quarantine_key(hash))));
            let delete = delete.build().map_err(|e| LedgerError::Unavailable(e.to_string()))?;
            items.push(TransactWriteItem::builder().delete(delete).build());
        }
        for KnownGood { flow, version, hash, healthy_at } in &commit.known_good {
            let at = healthy_at.as_millisecond();
            let mut item = key(pk.clone(), format!("{}{at:015}#{version}", good_key(flow)));
            item.insert("version".into(), text(version));
            item.insert("configuration".into(), text(hash));
            item.insert("healthy_at".into(), int(at));
            items.push(self.put(item, false)?);
        }
        for notice in &commit.notices {
            let mut item = key("OUTBOX".into(), notice.id.clone());
            item.insert("topic".into(), text(notice.topic.name()));
            item.insert("subject".into(), text(&notice.subject));
            item.insert("body".into(), text(&notice.body));
            item.insert("attributes".into(), AttributeValue::M(notice.attributes.iter().map(|(k, v)| (k.clone(), text(v))).collect()));
            items.push(self.put(item, false)?);
        }
        Ok(items)
    }

    /// The head moves only from the revision and the fence that were read; a lease holder must also still be named as owner.
    fn head(&self, commit: &Commit) -> Result<TransactWriteItem, LedgerError> {
        let entry = &commit.entry.entry;
        let mut sets =
            "SET revision = :next, head_hash = :hash, first_revision = :first, rollout = :rollout, schema_version = :schema".to_owned();
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(flow_key(&commit.flow), "HEAD".into())))
            .expression_attribute_values(":base", int(commit.base_revision as i64))
            .expression_attribute_values(":next", int(entry.revision as i64))
            .expression_attribute_values(":hash", text(commit.entry.hash().as_str()))
            .expression_attribute_values(":first", int(commit.first_revision as i64))
            .expression_attribute_values(":rollout", text(&entry.rollout))
            .expression_attribute_values(":schema", int(i64::from(entry.schema)));
        let update = match &commit.active {
            Some(active) => {
                sets.push_str(", phase = :phase");
                update.expression_attribute_values(":phase", text(&active.phase))
            }
            None => update,
        };
        let update = match commit.last_rollback {
            Some(at) => {
                sets.push_str(", last_rollback = :rollback");
                update.expression_attribute_values(":rollback", int(at.as_millisecond()))
            }
            None => update,
        };
        let update = match &commit.authority {
            Authority::Lease(lease) => update
                .condition_expression("revision = :base AND fence = :fence AND lease_owner = :owner")
                .expression_attribute_values(":fence", int(lease.fence as i64))
                .expression_attribute_values(":owner", text(&lease.owner)),
            Authority::Preempt { fence, owner } => {
                sets.push_str(", fence = :taken, lease_owner = :owner, lease_until = :over");
                update
                    .condition_expression("revision = :base AND fence = :fence")
                    .expression_attribute_values(":fence", int(*fence as i64))
                    .expression_attribute_values(":taken", int(*fence as i64 + 1))
                    .expression_attribute_values(":owner", text(owner))
                    .expression_attribute_values(":over", int(0))
            }
        };
        let update = update.update_expression(sets).build().map_err(|e| LedgerError::Unavailable(e.to_string()))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn put(&self, item: Item, new: bool) -> Result<TransactWriteItem, LedgerError> {
        let put = Put::builder().table_name(&self.table).set_item(Some(item));
        let put = if new { put.condition_expression("attribute_not_exists(pk)") } else { put };
        let put = put.build().map_err(|e| LedgerError::Unavailable(e.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

/// A flow among those that ticks visit. The weight in basis points.
fn active(flow: &ActiveFlow) -> Item {
    let mut item = key("ACTIVE".into(), flow.flow.to_string());
    item.insert("rollout".into(), text(&flow.rollout));
    item.insert("phase".into(), text(&flow.phase));
    item.insert("since".into(), int(flow.since.as_millisecond()));
    item.insert("weight".into(), int(i64::from(flow.weight.basis_points())));
    item.insert("revision".into(), int(flow.revision as i64));
    item.insert("why".into(), text(&flow.why));
    if let Some(until) = flow.visit_until {
        item.insert("visit_until".into(), int(until.as_millisecond()));
    }
    item
}

fn read_active(item: &Item) -> Result<ActiveFlow, LedgerError> {
    let weight = number(item, "weight").ok().and_then(|points| Weight::from_basis_points(u16::try_from(points).ok()?));
    Ok(ActiveFlow {
        flow: flow_name(&string(item, "sk")?)?,
        rollout: string(item, "rollout").unwrap_or_default(),
        phase: string(item, "phase")?,
        since: time(item, "since").unwrap_or_default(),
        weight: weight.unwrap_or(Weight::ZERO),
        revision: number(item, "revision").unwrap_or_default() as u64,
        why: string(item, "why").unwrap_or_default(),
        visit_until: time(item, "visit_until"),
    })
}

/// A window as it is kept: minute, then the counts of stable and of canary.
type Row = (i64, [u32; 5], [u32; 5]);

/// What is known of a window beyond its counts, kept beside them: whoever does not know of it reads the counts all the same.
type DetailRow = (i64, Details, Details);
/// Handled, their milliseconds and squared seconds; offered, abandoned, answered, milliseconds of the answered.
type Details = (Option<[u64; 3]>, Option<[u64; 4]>);

fn pack(window: &Window) -> Row {
    let counts = |c: Counts| [c.calls, c.errors, c.abandons, c.transfers, c.contained];
    (window.start.as_second(), counts(window.counts.stable), counts(window.counts.canary))
}

/// Nothing, if nothing is known.
fn pack_details(window: &Window) -> Option<DetailRow> {
    let times = |t: Times| [u64::from(t.handled), t.handle_ms, t.handle_s2];
    let queue = |q: Queue| [u64::from(q.offered), u64::from(q.abandoned), u64::from(q.answered), q.answer_ms];
    let details = |c: Counts| (c.times.map(times), c.queue.map(queue));
    let (stable, canary) = (details(window.counts.stable), details(window.counts.canary));
    ((stable, canary) != Default::default()).then_some((window.start.as_second(), stable, canary))
}

fn unpack((start, stable, canary): Row, details: &BTreeMap<i64, (Details, Details)>) -> Option<Window> {
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let times = |[handled, handle_ms, handle_s2]: [u64; 3]| Times { of: 0, handled: small(handled), handle_ms, handle_s2 };
    let queue = |[offered, abandoned, answered, answer_ms]: [u64; 4]| {
        let (offered, abandoned, answered) = (small(offered), small(abandoned), small(answered));
        Queue { of: 0, offered, abandoned, answered, answer_ms }
    };
    let counts = |[calls, errors, abandons, transfers, contained]: [u32; 5], details: Details| {
        let counts = Counts { calls, errors, abandons, transfers, contained, times: None, queue: None };
        counts.with_details(details.0.map(times), details.1.map(queue))
    };
    let (of_stable, of_canary) = details.get(&start).copied().unwrap_or_default();
    let counts = Comparison { stable: counts(stable, of_stable), canary: counts(canary, of_canary) };
    Some(Window { start: Timestamp::from_second(start).ok()?, counts })
}

fn notice(item: &Item) -> Result<Notice, LedgerError> {
    let attributes = match item.get("attributes") {
        Some(AttributeValue::M(map)) => map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_s().ok()?.clone()))).collect(),
        _ => BTreeMap::new(),
    };
    let topic = match string(item, "topic")?.as_str() {
        "rollback" => Topic::Rollback,
        _ => Topic::Alerts,
    };
    Ok(Notice { id: string(item, "sk")?, topic, subject: string(item, "subject")?, body: string(item, "body")?, attributes })
}

fn flow_key(flow: &FlowName) -> String {
    format!("FLOW#{flow}")
}

fn entry_key(revision: u64) -> String {
    format!("ENTRY#{revision:012}")
}

fn quarantine_key(configuration: &str) -> String {
    format!("QUARANTINE#{configuration}")
}

fn good_key(genesys_flow: &str) -> String {
    format!("GOOD#{genesys_flow}#")
}

fn windows_key(rollout: &str, at: Timestamp) -> String {
    format!("WINDOWS#{rollout}#{}", at.strftime("%Y-%m-%dT%H"))
}

fn summary_key(rollout: &str) -> String {
    format!("SUMMARY#{rollout}")
}

pub(crate) fn key(pk: String, sk: String) -> Item {
    HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn int(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn string(item: &Item, name: &str) -> Result<String, LedgerError> {
    item.get(name).and_then(|v| v.as_s().ok()).cloned().ok_or_else(|| LedgerError::Unavailable(format!("an item has no text `{name}`")))
}

pub(crate) fn number(item: &Item, name: &str) -> Result<i64, LedgerError> {
    let found = item.get(name).and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok());
    found.ok_or_else(|| LedgerError::Unavailable(format!("an item has no number `{name}`")))
}

fn time(item: &Item, name: &str) -> Option<Timestamp> {
    number(item, name).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok())
}

fn flow_name(text: &str) -> Result<FlowName, LedgerError> {
    text.parse().map_err(LedgerError::Unavailable)
}

fn lost(flow: &FlowName, reason: &str) -> LedgerError {
    LedgerError::Lost { flow: flow.to_string(), reason: reason.to_owned() }
}

fn unavailable<E: std::error::Error + 'static, R: std::fmt::Debug>(error: SdkError<E, R>) -> LedgerError {
    LedgerError::Unavailable(said(error))
}

fn canceled<R: std::fmt::Debug>(error: SdkError<TransactWriteItemsError, R>) -> String {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
            let reasons: Vec<&str> =
                canceled.cancellation_reasons().iter().filter_map(|r| r.code()).filter(|code| *code != "None").collect();
            format!("somebody else recorded first ({})", reasons.join(", "))
        }
        _ => "somebody else records at this moment".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details_of(windows: &[Window]) -> BTreeMap<i64, (Details, Details)> {
        windows.iter().filter_map(pack_details).map(|(start, stable, canary)| (start, (stable, canary))).collect()
    }

    #[test]
    fn an_active_flow_is_read_as_it_was_kept_and_one_of_older_code_with_what_it_has() {
        let flow = ActiveFlow {
            flow: "main_ivr".parse().expect("a name"),
            rollout: "r-20261121-1".into(),
            phase: "Stepping".into(),
            since: Timestamp::from_second(60).expect("a time"),
            weight: Weight::try_from(12.5).expect("a weight"),
            revision: 7,
            why: "healthy long enough: on to 12.5 %".into(),
            visit_until: Some(Timestamp::from_second(120).expect("a time")),
        };
        assert_eq!(read_active(&active(&flow)).expect("an item"), flow);
        let mut older = active(&flow);
        for later in ["since", "weight", "why", "visit_until"] {
            older.remove(later);
        }
        let read = read_active(&older).expect("an item");
        let (since, weight, why) = (Timestamp::UNIX_EPOCH, Weight::ZERO, String::new());
        assert_eq!(read, ActiveFlow { since, weight, why, visit_until: None, ..flow });
    }

    #[test]
    fn windows_are_read_as_they_were_kept_with_and_without_times() {
        let stable = Counts { calls: 190, errors: 2, abandons: 11, transfers: 38, contained: 139, ..Counts::default() };
        let canary = Counts { calls: 9, transfers: 2, contained: 7, ..Counts::default() };
        let times = Times { of: 0, handled: 40, handle_ms: 9_000_000_000, handle_s2: 81_000_000_000 };
        let queue = Queue { of: 0, offered: 41, abandoned: 1, answered: 40, answer_ms: 1_234_567 };
        let window = |second, times, queue| Window {
            start: Timestamp::from_second(second).expect("a time"),
            counts: Comparison { stable: stable.with_details(times, queue), canary: canary.with_details(times, None) },
        };
        let windows = [window(60, None, None), window(120, Some(times), Some(queue)), window(180, Some(Times::default()), None)];
        let details = details_of(&windows);
        assert_eq!(details.len(), 2, "what is not known is not written");
        let kept = serde_json::to_string(&windows.iter().map(pack).collect::<Vec<_>>()).expect("json");
        let rows: Vec<Row> = serde_json::from_str(&kept).expect("rows");
        assert_eq!(rows.into_iter().filter_map(|row| unpack(row, &details)).collect::<Vec<_>>(), windows);
        // As older ones kept them.
        let old: Row = serde_json::from_str("[60,[190,2,11,38,139],[9,0,0,2,7]]").expect("a row");
        assert_eq!(unpack(old, &BTreeMap::new()), Some(windows[0]));
    }
}
