//! The parameters in memory: at most 0.7 s old while they can be read, the last ones for 5 s after that, then stable.

use crate::source::Source;
use serin_core::cohort::Router;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

/// Read again when older than this. A rollback promises the last canary answer within a second of the write.
const FRESH: Duration = Duration::from_millis(700);
/// How long a caller may be kept waiting for a read.
const PATIENCE: Duration = Duration::from_millis(250);
/// In init nobody waits yet, and the first connection takes longest.
const INIT_PATIENCE: Duration = Duration::from_secs(1);
/// Answers rest on the last read for so long when reads fail.
const GRACE: Duration = Duration::from_secs(5);
/// A name nobody rolls out is asked for again after this: a typo in a flow must not use up the read quota.
const UNKNOWN: Duration = Duration::from_secs(30);
/// Flows kept; more are answered all the same, and read again each time.
const MOST_FLOWS: usize = 256;
/// After a failed read the next one waits, so that callers do not each wait for a source that is down.
const BACK_OFF: Duration = Duration::from_millis(500);

struct Held {
    gate: Router,
    revision: i64,
    unknown: bool,
    read: Moment,
    tried: Moment,
}

/// A moment on both clocks. The monotonic one stands still while Lambda freezes a sandbox; the wall clock can be set back.
#[derive(Clone, Copy)]
struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Moment {
        Moment { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// The longer of both; a wall clock that went back makes everything old.
    fn age(&self) -> Duration {
        SystemTime::now().duration_since(self.wall).map_or(Duration::MAX, |wall| wall.max(self.monotonic.elapsed()))
    }
}

/// The parameters of the flows this sandbox was asked about.
pub(crate) struct Cache<S> {
    source: S,
    held: HashMap<String, Held>,
}

impl<S: Source> Cache<S> {
    pub(crate) fn new(source: S) -> Cache<S> {
        Cache { source, held: HashMap::new() }
    }

    /// Reads flows ahead of the first call.
    pub(crate) async fn warm<'a>(&mut self, flows: impl Iterator<Item = &'a str>) {
        for flow in flows.take(MOST_FLOWS) {
            self.refresh(flow, INIT_PATIENCE).await;
        }
    }

    /// What decides the calls of a flow, and the version of the percentage it rests on.
    pub(crate) async fn router(&mut self, flow: &str) -> (Router, i64) {
        if self.is_due(flow) {
            self.refresh(flow, PATIENCE).await;
        }
        match self.held.get(flow) {
            Some(held) if held.read.age() <= if held.unknown { UNKNOWN + GRACE } else { GRACE } => (held.gate.clone(), held.revision),
            old => (Router::unreadable(old.map(|held| &held.gate)), 0),
        }
    }

    fn is_due(&self, flow: &str) -> bool {
        self.held.get(flow).is_none_or(|held| {
            let old = held.read.age() > if held.unknown { UNKNOWN } else { FRESH };
            old && held.tried.age() > BACK_OFF
        })
    }

    async fn refresh(&mut self, flow: &str, patience: Duration) {
        let now = Moment::now();
        match tokio::time::timeout(patience, self.source.read(flow)).await {
            Ok(Ok(parameters)) => {
                let gate = Router::read(&parameters);
                let unknown = parameters.rollout.is_none() && parameters.percentage.is_none();
                if self.held.len() >= MOST_FLOWS && !self.held.contains_key(flow) {
                    self.forget_one();
                }
                self.held.insert(flow.to_owned(), Held { gate, revision: parameters.revision, unknown, read: now, tried: now });
            }
            // What was read last answers for a while yet.
            Ok(Err(_)) | Err(_) => {
                if let Some(held) = self.held.get_mut(flow) {
                    held.tried = now;
                }
            }
        }
    }

    /// An unknown name goes first, then the one read longest ago.
    fn forget_one(&mut self) {
        let oldest = self.held.iter().max_by_key(|(_, held)| (held.unknown, held.read.age())).map(|(flow, _)| flow.clone());
        if let Some(flow) = oldest {
            self.held.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Script;
    use jiff::Timestamp;
    use serin_core::cohort::{Caller, Cohort, Fallback, Parameters};

    fn parameters(percentage: &str) -> Parameters {
        let split = r#"{"rollout":"r-1","labels":{"stable":"v1","canary":"v2"},"key":"000102030405060708090a0b0c0d0e0f"}"#;
        Parameters {
            percentage: Some(percentage.into()),
            revision: 1,
            rollout: Some(split.into()),
            halt: None,
            heartbeat: Some(Timestamp::now().to_string()),
        }
    }

    fn set_back<S>(cache: &mut Cache<S>, flow: &str, by: Duration) {
        let held = cache.held.get_mut(flow).unwrap();
        for moment in [&mut held.read, &mut held.tried] {
            *moment = Moment { monotonic: moment.monotonic, wall: moment.wall - by };
        }
    }

    async fn cohort(cache: &mut Cache<Script>) -> (Cohort, Option<Fallback>) {
        let (router, _) = cache.router("main_ivr").await;
        let assignment = router.assign(Caller { conversation: Some("c"), number: None }, Timestamp::now(), 0);
        (assignment.cohort, assignment.fallback)
    }

    #[tokio::test]
    async fn a_hit_reads_nothing_and_an_old_value_is_read_again() {
        let script = Script::of([("main_ivr", parameters("100"))]);
        let mut cache = Cache::new(script.clone());
        for _ in 0..50 {
            assert_eq!(cohort(&mut cache).await, (Cohort::Canary, None));
        }
        assert_eq!(script.reads.get(), 1);
        script.flows.borrow_mut().insert("main_ivr".into(), parameters("0"));
        set_back(&mut cache, "main_ivr", Duration::from_millis(701));
        assert_eq!(cohort(&mut cache).await, (Cohort::Stable, None));
        assert_eq!(script.reads.get(), 2);
    }

    #[tokio::test]
    async fn a_source_that_fails_is_bridged_for_the_grace_and_then_stable_answers() {
        let script = Script::of([("main_ivr", parameters("100"))]);
        let mut cache = Cache::new(script.clone());
        assert_eq!(cohort(&mut cache).await.0, Cohort::Canary);
        script.fails.set(true);
        set_back(&mut cache, "main_ivr", Duration::from_secs(4));
        assert_eq!(cohort(&mut cache).await, (Cohort::Canary, None));
        set_back(&mut cache, "main_ivr", Duration::from_secs(2));
        let (router, _) = cache.router("main_ivr").await;
        let assignment = router.assign(Caller::default(), Timestamp::now(), 0);
        assert_eq!((assignment.cohort, assignment.fallback, assignment.label), (Cohort::Stable, Some(Fallback::Unreadable), "v1"));
    }

    #[tokio::test]
    async fn a_source_that_hangs_keeps_one_caller_waiting_and_not_the_next() {
        let script = Script::of([("main_ivr", parameters("100"))]);
        let mut cache = Cache::new(script.clone());
        cohort(&mut cache).await;
        script.hangs.set(true);
        set_back(&mut cache, "main_ivr", Duration::from_secs(1));
        assert_eq!(cohort(&mut cache).await.0, Cohort::Canary, "answered although the read never ends");
        assert_eq!(cohort(&mut cache).await.0, Cohort::Canary);
        assert_eq!(script.reads.get(), 2, "the next caller does not try again at once");
    }

    #[tokio::test]
    async fn a_wall_clock_that_went_back_makes_the_value_old() {
        let script = Script::of([("main_ivr", parameters("100"))]);
        let mut cache = Cache::new(script.clone());
        cohort(&mut cache).await;
        cache.held.get_mut("main_ivr").unwrap().read.wall += Duration::from_secs(60);
        cache.held.get_mut("main_ivr").unwrap().tried.wall += Duration::from_secs(60);
        cohort(&mut cache).await;
        assert_eq!(script.reads.get(), 2);
    }

    #[tokio::test]
    async fn a_typo_is_read_once_in_30_seconds_and_many_typos_do_not_grow_the_memory() {
        let script = Script::of([("main_ivr", parameters("100"))]);
        let mut cache = Cache::new(script.clone());
        for _ in 0..10 {
            let (router, _) = cache.router("main_irv").await;
            assert_eq!(router.assign(Caller::default(), Timestamp::now(), 0).fallback, Some(Fallback::UnknownFlow));
        }
        assert_eq!(script.reads.get(), 1);
        set_back(&mut cache, "main_irv", Duration::from_secs(31));
        cache.router("main_irv").await;
        assert_eq!(script.reads.get(), 2);
        cohort(&mut cache).await;
        for i in 0..1000 {
            cache.router(&format!("typo-{i}")).await;
        }
        assert!(cache.held.len() <= MOST_FLOWS && cache.held.contains_key("main_ivr"));
    }
}
