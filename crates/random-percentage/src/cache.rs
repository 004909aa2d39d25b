//! The parameters in memory: at most 0.7 s old while they can be read, the last ones for 5 s after that, then stable.

use crate::clock::{Clock, Moment};
use crate::counters::Counters;
use crate::source::{ReadError, Source};
use serin_core::cohort::Router;
use std::collections::HashMap;
use std::pin::Pin;
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
/// After a failed read the next one waits, and up to a quarter longer by chance: callers must not each wait for a source that is down, and one that is
/// asked too often must not be asked more often than one that answers.
const BACK_OFF: Duration = Duration::from_millis(560);
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
    /// Whether a caller was answered without the read that was begun for them.
    late: bool,
    /// The first and the last of denials in a row.
    denied: Option<(Moment, Moment)>,
    unreadable: Router,
    /// What happened.
    pub counters: Counters,
}

impl<S: Source, C: Clock> Cache<S, C> {
    /// An empty one.
    pub fn new(source: S, clock: C, draw: fn() -> u64) -> Cache<S, C> {
        let (unreadable, looked) = (Router::unreadable(None), clock.now());
        let (held, last, counters) = (HashMap::new(), String::new(), Counters::default());
        Cache { source, clock, draw, held, looked, last, failed: None, late: false, denied: None, unreadable, counters }
    }

    /// Reads flows ahead of the first call, for [`INIT_PATIENCE`] in all: in a cold start a caller waits for it. A read that fails fails nothing, and the
    /// first call tries again at once, except where everybody was told to ask less.
    pub async fn warm(&mut self, flows: impl Iterator<Item = &str>) {
        let began = self.clock.now();
        for flow in flows.take(MOST_FLOWS) {
            let left = INIT_PATIENCE.saturating_sub(self.clock.now().since(began));
            if left.is_zero() {
                break;
            }
            match self.read(flow, left).await {
                Ok(()) => {}
                Err(Some(ReadError::Throttled(_))) => break,
                Err(_) => {
                    self.failed = None;
                    break;
                }
            }
        }
    }

    /// What decides the calls of a flow. A caller waits for it, at most [`PATIENCE`] and seldom at all.
    pub async fn route(&mut self, flow: &str) -> Route<'_> {
        let now = self.look();
        if self.is_due(flow, now, Duration::ZERO) {
            self.late = matches!(self.read(flow, PATIENCE).await, Err(None));
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

    /// After an answer and before the next event is asked for: Lambda lets a sandbox run until it asks, and no caller waits. What took too long for a
    /// caller gets its time here, or a sandbox that is seldom asked, and has to connect anew each time, might never read.
    pub async fn read_ahead(&mut self) {
        let last = std::mem::take(&mut self.last);
        let late = std::mem::take(&mut self.late);
        if late || (!last.is_empty() && self.is_due(&last, self.looked, AHEAD)) {
            let _ = self.read(&last, if late { INIT_PATIENCE } else { PATIENCE }).await;
            self.look();
        }
        self.last = last;
    }

    /// Whether this process cannot read any more and another one may.
    pub fn is_locked_out(&self) -> bool {
        self.denied.is_some_and(|(first, last)| last.since(first) >= DENIED)
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

    /// `None` is an error of time.
    ///
    /// Boxed: it holds a whole TLS handshake, kilobytes that would be moved about for every call that needs none.
    fn read<'a>(&'a mut self, flow: &'a str, patience: Duration) -> Pin<Box<dyn Future<Output = Result<(), Option<ReadError>>> + 'a>> {
        Box::pin(self.read_now(flow, patience))
    }

    async fn read_now(&mut self, flow: &str, patience: Duration) -> Result<(), Option<ReadError>> {
        // The values are as old as the question: what is written while the answer is on its way may be missing in it.
        let asked = self.clock.now();
        self.counters.read();
        let read = tokio::time::timeout(patience, self.source.read(flow)).await;
        match read {
            Ok(Ok(parameters)) => {
                (self.failed, self.denied) = (None, None);
                let unknown = parameters.rollout.is_none() && parameters.percentage.is_none();
                let limit = self.limit(unknown, !self.held.contains_key(flow));
                if self.held.len() >= MOST_FLOWS && !self.held.contains_key(flow) {
                    self.forget_one();
                }
                let router = Router::read(&parameters);
                self.held.insert(flow.to_owned(), Held { router, revision: parameters.revision, unknown, read: asked, limit });
                Ok(())
            }
            // What was read last answers for a while yet.
            other => {
                let why = other.ok().and_then(Result::err);
                self.counters.failed(why.as_ref());
                let now = self.clock.now();
                self.failed = Some((now, BACK_OFF + self.some_of(BACK_OFF / 4)));
                self.denied = match why {
                    Some(ReadError::Denied(_)) => Some((self.denied.map_or(now, |(first, _)| first), now)),
                    _ => None,
                };
                Err(why)
            }
        }
    }

    /// A tenth less by chance. Of the first time nearly all: sandboxes born in one burst have read at once.
    fn limit(&self, unknown: bool, first: bool) -> Duration {
        let whole = if unknown { UNKNOWN } else { FRESH };
        whole - self.some_of(if first && !unknown { whole * 6 / 7 } else { whole / 10 })
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
