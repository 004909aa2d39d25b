//! What the use cases need of the world. Adapters implement these; the tests have fakes that fail, lag and crash.

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serin_core::calendar::Restriction;
use serin_core::ledger::{Archive, Hash, StoredEntry};
use serin_core::measurement::Window;
use serin_core::projection::Seen;
use serin_core::rollout::{FlowName, Outcomes, WayBack};
use serin_core::weight::Weight;
use std::collections::BTreeMap;
use std::future::Future;

/// The wall clock, and waiting on it.
pub trait Clock {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Waits.
    fn sleep(&self, duration: SignedDuration) -> impl Future<Output = ()>;
}

/// A flow's ledger as it stands: read consistently.
#[derive(Debug, Clone, PartialEq)]
pub struct Book {
    /// Place of the last entry, 0 before the first.
    pub revision: u64,
    /// Hash of the last entry's stored bytes.
    pub head_hash: Hash,
    /// Grows with every change of the lease's holder.
    pub fence: u64,
    /// When the last rollback of this flow began.
    pub last_rollback: Option<Timestamp>,
    /// Whose turn it is to deploy, also one that is over.
    pub hold: Option<Hold>,
    /// Entries of the latest rollout, oldest first; empty before the first.
    pub entries: Vec<StoredEntry>,
}

impl Book {
    /// A flow that has no ledger yet.
    pub fn empty() -> Book {
        Book { revision: 0, head_hash: Hash::genesis(), fence: 0, last_rollback: None, hold: None, entries: Vec::new() }
    }
}

/// The right to act on a flow, held by one run at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub owner: String,
    /// The fence that came with it.
    pub fence: u64,
    /// Until when, on the wall clock.
    pub until: Timestamp,
}

/// A pipeline's turn at the gate: until it is over nobody else deploys the flow or starts a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Whose.
    pub holder: String,
    /// Until when, on the wall clock.
    pub until: Timestamp,
}

/// By what right an entry is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The holder of the lease: conditional on revision, fence and owner.
    Lease(Lease),
    /// Containment preempts: conditional on revision and fence, takes over the lease and bumps the fence.
    Preempt {
        /// The fence that was read.
        fence: u64,
        /// Who takes over.
        owner: String,
    },
}

/// A message that was recorded together with the entry it tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `flow/rollout/revision/topic`: the same however often it is sent.
    pub id: String,
    /// Where to.
    pub topic: Topic,
    /// Plain ASCII, at most 100 characters.
    pub subject: String,
    /// JSON.
    pub body: String,
    /// For subscription filters.
    pub attributes: BTreeMap<String, String>,
}

/// The two topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// People and their tools.
    Alerts,
    /// The rollback executor.
    Rollback,
}

impl Topic {
    /// Name in ids.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Alerts => "alert",
            Topic::Rollback => "rollback",
        }
    }
}

/// One transaction on a flow's ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The flow.
    pub flow: FlowName,
    /// Revision it was based on.
    pub base_revision: u64,
    /// By what right.
    pub authority: Authority,
    /// The entry.
    pub entry: StoredEntry,
    /// How the flow stands after it, for ticks and overviews; `None` leaves it as it is.
    pub active: Option<ActiveFlow>,
    /// First revision of the rollout.
    pub first_revision: u64,
    /// When the last rollback of this flow began.
    pub last_rollback: Option<Timestamp>,
    /// A configuration that must not be rolled out again, by hash.
    pub quarantine: Option<String>,
    /// A configuration that may be rolled out again, by hash.
    pub release: Option<String>,
    /// What proved healthy.
    pub known_good: Vec<KnownGood>,
    /// What to tell.
    pub notices: Vec<Notice>,
}

/// A configuration that must not run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its hash.
    pub configuration: String,
    /// The rollout that was taken back for it.
    pub rollout: String,
}

/// A version that proved healthy. The registry of them only grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownGood {
    /// Genesys flow id.
    pub flow: String,
    /// Version, as Genesys names it.
    pub version: String,
    /// Its configuration hash.
    pub hash: String,
    /// When it had been healthy at 100 % for as long as its policy asks.
    pub healthy_at: Timestamp,
}

/// A flow that ticks visit, with as much of its ledger as an overview shows: all of them are read in one query. What older code recorded
/// lacks what came later, which is empty or 0 then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFlow {
    /// The flow.
    pub flow: FlowName,
    /// Its latest rollout.
    pub rollout: String,
    /// Name of its phase.
    pub phase: String,
    /// When the phase was entered, on the clock the rollout runs by.
    pub since: Timestamp,
    /// The weight that callers should have got by now.
    pub weight: Weight,
    /// Place of the last entry.
    pub revision: u64,
    /// Why it was recorded, at most [`LONGEST_WHY`] characters of it.
    pub why: String,
    /// When visits end, once the rollout has ended.
    pub visit_until: Option<Timestamp>,
}

/// Longest reason in an overview, in characters.
pub const LONGEST_WHY: usize = 200;

/// Why the ledger did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else recorded first, or holds the lease: nothing was changed.
    #[error("flow {flow}: {reason}; nothing was changed")]
    Lost {
        /// The flow.
        flow: String,
        /// What was in the way.
        reason: String,
    },
    /// It cannot be trusted.
    #[error(transparent)]
    Broken(#[from] serin_core::ledger::BrokenLedger),
    /// It could not be reached, or refused.
    #[error("the ledger could not be reached: {0}")]
    Unavailable(String),
}

/// The truth.
pub trait Ledger {
    /// Flows that ticks visit, read consistently.
    fn active(&self) -> impl Future<Output = Result<Vec<ActiveFlow>, LedgerError>>;
    /// A flow's ledger, read consistently.
    fn load(&self, flow: &FlowName) -> impl Future<Output = Result<Book, LedgerError>>;
    /// All entries that a flow ever had, as they are stored: for whoever checks or copies them, so nothing was checked.
    fn archive(&self, flow: &FlowName) -> impl Future<Output = Result<Archive, LedgerError>>;
    /// Takes the lease if it is free or over, as of `now`; bumps the fence.
    fn lease(&self, flow: &FlowName, owner: &str, now: Timestamp, until: Timestamp) -> impl Future<Output = Result<Lease, LedgerError>>;
    /// Gives the lease back, if it is still ours.
    fn release(&self, flow: &FlowName, lease: &Lease) -> impl Future<Output = Result<(), LedgerError>>;
    /// Holds the gate of a flow of which nothing was recorded since `revision`, unless somebody else holds it or has the lease, as of
    /// `now`. Its holder may prolong it. Bumps the fence: whoever was held up past their lease records nothing any more.
    fn hold(
        &self,
        flow: &FlowName,
        holder: &str,
        revision: u64,
        now: Timestamp,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), LedgerError>>;
    /// Ends a hold; `false` if it is not theirs.
    fn release_hold(&self, flow: &FlowName, holder: &str) -> impl Future<Output = Result<bool, LedgerError>>;
    /// Appends an entry with all that belongs to it, or nothing. A commit that already stands (same bytes) succeeds.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<(), LedgerError>>;
    /// Ends the visits of a flow whose rollout has ended, unless another was opened since it was listed with `revision`.
    fn retire(&self, flow: &FlowName, revision: u64) -> impl Future<Output = Result<(), LedgerError>>;
    /// Recorded windows of a rollout that start at or after `from`.
    fn windows(&self, flow: &FlowName, rollout: &str, from: Timestamp) -> impl Future<Output = Result<Vec<Window>, LedgerError>>;
    /// What the hours before told, if it was kept: JSON. It can be made again from the windows.
    fn summary(&self, flow: &FlowName, rollout: &str) -> impl Future<Output = Result<Option<String>, LedgerError>>;
    /// Keeps it.
    fn record_summary(&self, flow: &FlowName, rollout: &str, summary: &str) -> impl Future<Output = Result<(), LedgerError>>;
    /// Records windows; those of an hour replace what was recorded of that hour.
    fn record_windows(&self, flow: &FlowName, rollout: &str, windows: &[Window]) -> impl Future<Output = Result<(), LedgerError>>;
    /// Whether a configuration is quarantined.
    fn is_quarantined(&self, flow: &FlowName, configuration: &str) -> impl Future<Output = Result<bool, LedgerError>>;
    /// What is quarantined of a flow.
    fn quarantined(&self, flow: &FlowName) -> impl Future<Output = Result<Vec<Quarantined>, LedgerError>>;
    /// What proved healthy of a Genesys flow, latest first.
    fn known_good(&self, flow: &FlowName, genesys_flow: &str) -> impl Future<Output = Result<Vec<KnownGood>, LedgerError>>;
    /// Keeps the export of a version for the day Genesys Cloud has lost it; where, or `None` if nothing is there to keep exports in.
    fn keep_export(&self, name: &str, export: &str) -> impl Future<Output = Result<Option<String>, LedgerError>>;
    /// Whether exports are kept at all.
    fn keeps_exports(&self) -> bool;
    /// Every maintenance window, freeze and stop, also those that were over not long ago.
    fn restrictions(&self) -> impl Future<Output = Result<Vec<Restriction>, LedgerError>>;
    /// Sets one; one with the same id is replaced.
    fn restrict(&self, restriction: &Restriction) -> impl Future<Output = Result<(), LedgerError>>;
    /// The right to restore, one at a time across all flows; `false` if another flow has it.
    fn restoration(&self, flow: &FlowName, now: Timestamp, until: Timestamp) -> impl Future<Output = Result<bool, LedgerError>>;
    /// Gives it back.
    fn restoration_done(&self, flow: &FlowName) -> impl Future<Output = Result<(), LedgerError>>;
    /// Notices not sent yet.
    fn outbox(&self) -> impl Future<Output = Result<Vec<Notice>, LedgerError>>;
    /// A notice was sent.
    fn sent(&self, notice: &Notice) -> impl Future<Output = Result<(), LedgerError>>;
    /// Time of the event that the last tick served.
    fn last_tick(&self) -> impl Future<Output = Result<Option<Timestamp>, LedgerError>>;
    /// Remembers it.
    fn record_tick(&self, time: Timestamp) -> impl Future<Output = Result<(), LedgerError>>;
}

/// Why a parameter was not read or written.
#[derive(Debug, thiserror::Error)]
#[error("parameter {name}: {reason}")]
pub struct ParameterError {
    /// Which.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// The projection that the caller's question is answered from.
pub trait Parameters {
    /// The parameters of a flow.
    fn read(&self, flow: &FlowName) -> impl Future<Output = Result<Seen, ParameterError>>;
    /// Those of several flows, in their order, in as few requests as the adapter can.
    fn read_all(&self, flows: &[&FlowName]) -> impl Future<Output = Vec<Result<Seen, ParameterError>>> {
        join_all(flows.iter().map(|flow| self.read(flow)))
    }
    /// Writes the percentage; returns the version it got. `raise` writes are never retried: a late one could overtake a lowering.
    fn put_percentage(&self, flow: &FlowName, weight: Weight, raise: bool) -> impl Future<Output = Result<i64, ParameterError>>;
    /// Values the percentage had, with their versions, newest first.
    fn history(&self, flow: &FlowName) -> impl Future<Output = Result<Vec<(String, i64)>, ParameterError>>;
    /// Marks a rollout as contained.
    fn put_halt(&self, flow: &FlowName, rollout: &str) -> impl Future<Output = Result<(), ParameterError>>;
    /// Writes the `rollout` parameter.
    fn put_rollout(&self, flow: &FlowName, split: &str) -> impl Future<Output = Result<(), ParameterError>>;
    /// Every active flow was visited at this time of the wall clock.
    fn beat(&self, at: Timestamp) -> impl Future<Output = Result<(), ParameterError>>;
    /// Brings a copy that callers may be answered from to what was read: a person's hand, and what failed to be written there. What was read
    /// may lag, so nothing in the copy rises or is let go on by an older reading. Answers with what could not be brought.
    fn follow(&self, _seen: &[(&FlowName, &Seen)]) -> impl Future<Output = Vec<ParameterError>> {
        async { Vec::new() }
    }
}

/// Which rows of the analytics belong to a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CohortFlows {
    /// Stable flow id and version.
    pub stable: (String, String),
    /// Canary flow id and version.
    pub canary: (String, String),
    /// Where both are branches of one flow: the outcome that each of them begins and ends, always the same two.
    pub outcomes: Option<Outcomes>,
}

/// What a flow runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The published version, if any.
    pub version: Option<String>,
    /// Who published it, as far as the vendor tells.
    pub by: Option<String>,
}

/// Why nothing was measured, or something in Genesys Cloud could not be looked at. It says nothing about any canary.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unmeasured(pub String);

/// What somebody may have changed by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed<'a> {
    /// A flow, by id.
    Flow(&'a str),
    /// A row of a data table.
    Row {
        /// Id of the table.
        table: &'a str,
        /// Key of the row.
        row: &'a str,
    },
}

/// The vendor's analytics.
pub trait Analytics {
    /// Per-minute counts of the cohorts, for whole minutes from `from` to before `to`, in the order asked. One query covers many flows.
    fn measure(&self, flows: &[CohortFlows], from: Timestamp, to: Timestamp) -> impl Future<Output = Result<Vec<Vec<Window>>, Unmeasured>>;
    /// What a flow runs now.
    fn running(&self, flow: &str) -> impl Future<Output = Result<Running, Unmeasured>>;
    /// Who changed it last since then, by name as far as the vendor's audit tells; `None` where it does not, or cannot be asked.
    fn changed_by(&self, what: Changed<'_>, since: Timestamp) -> impl Future<Output = Option<String>>;
}

/// A row of a data table that a traffic cop reads on every call: key is the flow's name in Serin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// `Active_Flow_ID`: the flow that gets the calls; for people and reports.
    pub active_flow: String,
    /// `Traffic_Weight`: 100 sends all calls to the canary flow, anything else to stable.
    pub weight: Weight,
    /// `revision`: version of the percentage that this row follows.
    pub revision: i64,
    /// `owner`: which installation of Serin writes the row, empty where nobody ever did.
    pub owner: String,
}

/// Why a row was not read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("row {row} of data table {table}: {reason}")]
pub struct RowError {
    /// Id of the table.
    pub table: String,
    /// Key of the row.
    pub row: String,
    /// Why.
    pub reason: String,
}

/// Rows of data tables. The vendor has no compare-and-set for them: the last writer wins.
pub trait Rows {
    /// A row, `None` if there is none: then the cop sends every call to stable.
    fn pointer(&self, table: &str, row: &FlowName) -> impl Future<Output = Result<Option<Pointer>, RowError>>;
    /// Writes a row, which is made if there is none, and reads it back.
    fn point(&self, table: &str, row: &FlowName, to: &Pointer) -> impl Future<Output = Result<(), RowError>>;
}

/// A flow in Genesys Cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowState {
    /// Its name.
    pub name: String,
    /// Its published version, if any.
    pub published: Option<String>,
    /// Who published it, as far as the vendor tells, if it was not our own client.
    pub published_by: Option<String>,
    /// Person or client that holds its lock, if any.
    pub locked_by: Option<String>,
    /// Its latest operation, if any.
    pub operation: Option<Operation>,
}

/// An operation on a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// Whether it still runs.
    pub running: bool,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

impl FlowState {
    /// Whether an operation runs on it.
    pub fn is_busy(&self) -> bool {
        self.operation.as_ref().is_some_and(|o| o.running)
    }
}

/// Why Genesys Cloud did not do as asked, by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlowError {
    /// Wait; nobody is to blame.
    #[error("{0}")]
    TryLater(String),
    /// Somebody holds the lock.
    #[error("flow {flow} is locked by {holder}; it is never unlocked by force")]
    Locked {
        /// Flow id.
        flow: String,
        /// Who.
        holder: String,
    },
    /// It is not there.
    #[error("{0}")]
    Gone(String),
    /// It will not work by waiting.
    #[error("{0}")]
    Refused(String),
}

/// Why a file was not published, or not for sure, by what may have become of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublicationError {
    /// It was not taken over, or its publication ended in a failure: nothing was changed.
    #[error("{0}")]
    NotPublished(FlowError),
    /// It was taken over, and nobody saw the end: it may be published by now, or later.
    #[error("{0}")]
    Unseen(String),
    /// It was published into another flow.
    #[error("the file was published into flow {flow} instead")]
    Elsewhere {
        /// Id of that flow.
        flow: String,
    },
}

/// Flows in Genesys Cloud. Only the executor's client may publish.
pub trait Flows {
    /// The flow as it is.
    fn flow(&self, flow: &str) -> impl Future<Output = Result<FlowState, FlowError>>;
    /// Published versions, latest first: what a flow can go back to.
    fn published_versions(&self, flow: &str) -> impl Future<Output = Result<Vec<String>, FlowError>>;
    /// The file that a version can be published from again, as the vendor exports it.
    fn export(&self, flow: &str, version: &str) -> impl Future<Output = Result<String, FlowError>>;
    /// Configuration hash of a version, name and ids left out. A version that does not exist is `Gone`, by two kinds of read.
    fn configuration_hash(&self, flow: &str, version: &str) -> impl Future<Output = Result<String, FlowError>>;
    /// Starts publishing a version that exists; returns the operation's id.
    fn publish(&self, flow: &str, version: &str) -> impl Future<Output = Result<String, FlowError>>;
    /// Publishes the configuration that `from` runs into the flow `to`, under the name of `to`. `TryLater` if it is still running
    /// when the adapter's patience ends.
    fn copy(&self, from: &str, to: &str) -> impl Future<Output = Result<(), FlowError>>;
    /// Whether a file bears the name and the type of a flow; `Refused` if not.
    fn check_file(&self, flow: &str, file: &str) -> impl Future<Output = Result<(), FlowError>>;
    /// Publishes a file into a flow, whose name and type it must bear: the vendor goes by these, and not by an id. `Refused` if it bears
    /// others, or is not valid.
    fn publish_file(&self, flow: &str, file: &str) -> impl Future<Output = Result<(), PublicationError>>;
}

/// What leads numbers to flows. The vendor gives each a version; whoever changed it meanwhile is looked at again, never overwritten.
pub trait Entrances {
    /// The flow that the open hours of an IVR configuration lead to.
    fn open_hours(&self, ivr: &str) -> impl Future<Output = Result<Option<String>, FlowError>>;
    /// Leads them from one flow to another, and reads that back; `false` if they lead elsewhere by now, for somebody knows why.
    fn lead(&self, ivr: &str, from: &str, to: &str) -> impl Future<Output = Result<bool, FlowError>>;
    /// Whether the emergency of a group is declared.
    fn emergency(&self, group: &str) -> impl Future<Output = Result<bool, FlowError>>;
    /// Declares it, and reads that back.
    fn declare_emergency(&self, group: &str) -> impl Future<Output = Result<(), FlowError>>;
}

/// What a version of a flow needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The vendor's type, such as `QUEUE`.
    pub kind: String,
    /// Its name, or its id where it has none any more.
    pub name: String,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// What a flow agrees on with what comes before and after it, by name; the values are types, such as `string`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Attributes that it sets on the participant.
    pub participant_data: BTreeMap<String, String>,
    /// Flow variables.
    pub variables: BTreeMap<String, String>,
}

/// Calls that ended in a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many.
    pub calls: u32,
    /// How many of them in an error of the flow.
    pub errors: u32,
}

/// Looks before anything is changed: what would be in the way of a rollout. Nothing here changes anything.
pub trait Preflight {
    /// Permissions that the client lacks, of those that a rollout of this kind needs; `rows` if it writes rows of a data table.
    fn missing_permissions(&self, flow: &str, rows: Option<&str>, back: &WayBack) -> impl Future<Output = Result<Vec<String>, FlowError>>;
    /// What a version needs. `TryLater` while the vendor has not gathered it.
    fn dependencies(&self, flow: &str, version: &str) -> impl Future<Output = Result<Vec<Dependency>, FlowError>>;
    /// What a version agrees on with its neighbours, out of its export.
    fn interface(&self, flow: &str, version: &str) -> impl Future<Output = Result<Interface, FlowError>>;
    /// Runs a data action with an input; `Refused` says what it answered instead of success.
    fn test_action(&self, action: &str, input: &serde_json::Value) -> impl Future<Output = Result<(), FlowError>>;
    /// Asks the vendor to validate a version; `Refused` says its complaints.
    fn validate(&self, flow: &str, version: &str) -> impl Future<Output = Result<(), FlowError>>;
    /// Calls from a dialled number that have ended in a version of a flow since then.
    fn ended(&self, flow: &str, version: &str, dnis: &str, since: Timestamp) -> impl Future<Output = Result<Ended, FlowError>>;
    /// The AWS region of the organization, such as `eu-west-1`; `None` where its address tells none.
    fn region(&self) -> Option<&'static str>;
    /// Requests that the client may still send in this minute, `None` before the vendor's first answer.
    fn requests_left(&self) -> Option<u32>;
}

/// The two topics.
pub trait Notifier {
    /// Publishes; an error is logged and tried again at the next tick, never waited for.
    fn publish(&self, notice: &Notice) -> impl Future<Output = Result<(), String>>;
}

/// A secret that may change while we run, such as an OAuth client's.
pub trait Secret {
    /// Its text, read anew. The error names where it is kept, never its value.
    fn read(&self) -> impl Future<Output = Result<String, String>>;
}
