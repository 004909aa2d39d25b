//! The parameters in memory: at most 0.7 s old while they can be read, the last ones for 5 s after that, then stable.

use crate::clock::{Clock, Moment};
use crate::counters::Counters;
use crate::source::{ReadError, Source};
use serin_core::cohort::Router;
use std::collections::HashMap;
use std::time::Duration;

/// Read again before it is older than this. A rollback promises the last canary answer within a second of the write.
pub const FRESH: Duration = Duration::from_millis(700);
/// After an answer, when nobody waits, what will be too old within this is read ahead.
const AHEAD: Duration = Duration::from_millis(60);
/// How long a caller may be kept waiting for a read.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// In init nobody waits yet, and the first connection takes longest.
pub const INIT_PATIENCE: Duration = Duration::from_secs(1);
/// Answers rest on the last read for so long when reads fail.
pub const GRACE: Duration = Duration::from_secs(5);
/// A name nobody rolls out is asked for again after this: a typo in a flow must not use up the read quota.
pub const UNKNOWN: Duration = Duration::from_secs(30);
/// Flows kept; more are answered all the same, and read again each time.
pub const MOST_FLOWS: usize = 256;
/// After a failed read the next one waits, so that callers do not each wait for a source that is down. Half of it by chance.
const BACK_OFF: Duration = Duration::from_millis(500);
/// A sandbox that is denied for so long has keys that are no good any more; a new one gets new ones.
pub const DENIED: Duration = Duration::from_secs(30);

struct Held {
    router: Router,
    revision: i64,
    unknown: bool,
    read: Moment,
    /// The age at which it is read again; drawn for each read, so that sandboxes born together do not read together.
    limit: Duration,
}

impl Held {
    fn grace(&self) -> Duration {
        if self.unknown { UNKNOWN + GRACE } else { GRACE }
    }
}

/// What the calls of a flow are decided by.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// Decides.
    pub router: &'a Router,
    /// Version of the percentage, 0 if unknown.
    pub revision: i64,
    /// How old it is.
    pub age: Duration,
    /// When it was looked up.
    pub at: Moment,
}

/// The parameters of the flows this sandbox was asked about.
pub struct Cache<S, C> {
    source: S,
    clock: C,
    /// Any number, each as likely as the other.
    draw: fn() -> u64,
    held: HashMap<String, Held>,
    /// When the clocks were looked at last: once a call, and what follows the answer is microseconds later.
    looked: Moment,
    /// The flow asked for last: of all of them the likeliest to be asked for next.
    last: String,
    /// The read that failed last, and how long the next one waits.
    failed: Option<(Moment, Duration)>,
    denied: Option<Moment>,
    unreadable: Router,
    /// What happened.
    pub counters: Counters,
}

impl<S: Source, C: Clock> Cache<S, C> {
    /// An empty one.
    pub fn new(source: S, clock: C, draw: fn() -> u64) -> Cache<S, C> {
        let (unreadable, looked) = (Router::unreadable(None), clock.now());
        let (held, last, counters) = (HashMap::new(), String::new(), Counters::default());
        Cache { source, clock, draw, held, looked, last, failed: None, denied: None, unreadable, counters }
    }

    /// Reads flows ahead of the first call, as far as that is quick. A read that fails fails nothing: init must not, for a caller waits for it too,
    /// and the first call tries again.
    pub async fn warm(&mut self, flows: impl Iterator<Item = &str>) {
        let began = self.clock.now();
        for flow in flows.take(MOST_FLOWS) {
            self.read(flow, INIT_PATIENCE).await;
            if self.failed.is_some() || self.clock.now().since(began) >= INIT_PATIENCE {
                break;
            }
        }
    }

    /// What decides the calls of a flow. A caller waits for it, at most [`PATIENCE`] and seldom at all.
    pub async fn route(&mut self, flow: &str) -> Route<'_> {
        let now = self.look();
        if self.is_due(flow, now, Duration::ZERO) {
            self.read(flow, PATIENCE).await;
            self.look();
        }
        let now = self.looked;
        if self.last != flow {
            flow.clone_into(&mut self.last);
        }
        let Some(held) = self.held.get_mut(flow) else {
            return Route { router: &self.unreadable, revision: 0, age: Duration::ZERO, at: now };
        };
        let age = now.since(held.read);
        if age > held.grace() {
            // Until it is read again: then all of it is new.
            (held.router, held.revision) = (Router::unreadable(Some(&held.router)), 0);
        }
        Route { router: &held.router, revision: held.revision, age, at: now }
    }

    /// After an answer and before the next event is asked for: Lambda lets a sandbox run until it asks, and no caller waits.
    pub async fn read_ahead(&mut self) {
        let last = std::mem::take(&mut self.last);
        if !last.is_empty() && self.is_due(&last, self.looked, AHEAD) {
            self.read(&last, PATIENCE).await;
            self.look();
        }
        self.last = last;
    }

    /// Whether this process cannot read any more and another one may.
    pub fn is_locked_out(&self) -> bool {
        self.denied.is_some_and(|since| self.looked.since(since) >= DENIED)
    }

    /// Looks at the clocks.
    pub fn look(&mut self) -> Moment {
        self.looked = self.clock.now();
        self.looked
    }

    /// When they were looked at last.
    pub fn looked(&self) -> Moment {
        self.looked
    }

    /// A draw for what nothing identifies, `0..10_000`.
    pub fn draw(&self) -> u16 {
        ((self.draw)() % 10_000) as u16
    }

    fn is_due(&self, flow: &str, now: Moment, ahead: Duration) -> bool {
        let old = self.held.get(flow).is_none_or(|held| now.since(held.read).saturating_add(ahead) > held.limit);
        old && self.failed.is_none_or(|(at, wait)| now.since(at) > wait)
    }

    async fn read(&mut self, flow: &str, patience: Duration) {
        // The values are as old as the question: what is written while the answer is on its way may be missing in it.
        let asked = self.clock.now();
        self.counters.read();
        let read = tokio::time::timeout(patience, self.source.read(flow)).await;
        match read {
            Ok(Ok(parameters)) => {
                (self.failed, self.denied) = (None, None);
                let unknown = parameters.rollout.is_none() && parameters.percentage.is_none();
                let limit = self.limit(unknown);
                if self.held.len() >= MOST_FLOWS && !self.held.contains_key(flow) {
                    self.forget_one();
                }
                let router = Router::read(&parameters);
                self.held.insert(flow.to_owned(), Held { router, revision: parameters.revision, unknown, read: asked, limit });
            }
            // What was read last answers for a while yet.
            other => {
                let why = other.ok().and_then(Result::err);
                self.counters.failed(why.as_ref());
                let now = self.clock.now();
                self.failed = Some((now, self.some_of(BACK_OFF / 2) + BACK_OFF / 2));
                if matches!(why, Some(ReadError::Denied(_))) {
                    self.denied.get_or_insert(now);
                }
            }
        }
    }

    /// A tenth of it by chance. In a new sandbox nearly all of it: those born in one burst have read at once.
    fn limit(&self, unknown: bool) -> Duration {
        if unknown {
            return UNKNOWN;
        }
        let chance = if self.held.is_empty() { FRESH * 6 / 7 } else { FRESH / 10 };
        FRESH - self.some_of(chance)
    }

    /// From nothing to all of it.
    fn some_of(&self, whole: Duration) -> Duration {
        whole * ((self.draw)() % 1024) as u32 / 1024
    }

    /// An unknown name goes first, then the one read longest ago.
    fn forget_one(&mut self) {
        let now = self.clock.now();
        let oldest = self.held.iter().max_by_key(|(_, held)| (held.unknown, now.since(held.read))).map(|(flow, _)| flow.clone());
        if let Some(flow) = oldest {
            self.held.remove(&flow);
        }
    }
}
