//! A source that does what a test says, a clock that stands until it is told, and draws from a seed.
#![allow(dead_code)] // each test file uses its part

use random_percentage::cache::Cache;
use random_percentage::clock::{Clock, Moment};
use random_percentage::source::{ReadError, Source};
use serin_core::cohort::Parameters;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// 2026-11-20T10:00:00Z.
pub(crate) const START: Duration = Duration::from_secs(1_795_168_800);
pub(crate) const SPLIT: &str = r#"{"rollout":"r-1","labels":{"stable":"v1","canary":"v2"},"key":"000102030405060708090a0b0c0d0e0f"}"#;

/// How the source behaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mood {
    Works,
    Fails(ReadError),
    Hangs,
    /// Works, after so long.
    Slow(Duration),
    Panics,
}

pub(crate) fn throttled() -> Mood {
    Mood::Fails(ReadError::Throttled("400 ThrottlingException".into()))
}

pub(crate) fn denied() -> Mood {
    Mood::Fails(ReadError::Denied("400 ExpiredTokenException".into()))
}

/// A source and the clock, in a test's hands.
#[derive(Clone)]
pub(crate) struct World(Rc<Inner>);

struct Inner {
    flows: RefCell<BTreeMap<String, Parameters>>,
    mood: RefCell<Mood>,
    reads: Cell<u32>,
    /// How long a read takes.
    takes: Cell<Duration>,
    now: Cell<Moment>,
    /// Each write with its version.
    written: RefCell<Vec<(Moment, i64)>>,
    /// Written anew as soon as it was read, and with each step of time.
    churns: RefCell<Option<String>>,
    beats: Cell<bool>,
}

impl World {
    pub(crate) fn new() -> World {
        let now = Moment { boot: Duration::from_secs(60), wall: START };
        World(Rc::new(Inner {
            flows: RefCell::default(),
            mood: RefCell::new(Mood::Works),
            reads: Cell::default(),
            takes: Cell::default(),
            now: Cell::new(now),
            written: RefCell::default(),
            churns: RefCell::default(),
            beats: Cell::new(true),
        }))
    }

    /// One flow in a rollout.
    pub(crate) fn with(flow: &str, percentage: &str) -> World {
        let world = World::new();
        world.set(flow, percentage);
        world
    }

    pub(crate) fn cache(&self) -> Cache<World, World> {
        Cache::new(self.clone(), self.clone(), draw)
    }

    pub(crate) fn set(&self, flow: &str, percentage: &str) {
        let mut flows = self.0.flows.borrow_mut();
        let parameters = flows.entry(flow.into()).or_default();
        parameters.revision += 1;
        parameters.percentage = Some(percentage.into());
        parameters.rollout = Some(SPLIT.into());
        self.0.written.borrow_mut().push((self.now(), parameters.revision));
    }

    /// Somebody writes the percentage of a flow all the time, also while it is read.
    pub(crate) fn churns(&self, flow: &str) {
        *self.0.churns.borrow_mut() = Some(flow.into());
    }

    fn churn(&self) {
        let flow = self.0.churns.borrow().clone();
        flow.iter().for_each(|flow| self.set(flow, "100"));
    }

    /// The last version that was written so long before a moment.
    pub(crate) fn revision_of(&self, age: Duration, at: Moment) -> i64 {
        self.0.written.borrow().iter().rfind(|(written, _)| at.since(*written) >= age).map_or(0, |(_, revision)| *revision)
    }

    pub(crate) fn change(&self, flow: &str, change: impl FnOnce(&mut Parameters)) {
        change(self.0.flows.borrow_mut().entry(flow.into()).or_default());
    }

    pub(crate) fn mood(&self, mood: Mood) {
        *self.0.mood.borrow_mut() = mood;
    }

    pub(crate) fn takes(&self, time: Duration) {
        self.0.takes.set(time);
    }

    pub(crate) fn no_heartbeat(&self) {
        self.0.beats.set(false);
    }

    pub(crate) fn reads(&self) -> u32 {
        self.0.reads.get()
    }

    /// Both clocks go on.
    pub(crate) fn pass(&self, time: Duration) {
        let now = self.0.now.get();
        self.set_clocks(Moment { boot: now.boot + time, wall: now.wall + time });
        self.churn();
    }

    pub(crate) fn set_clocks(&self, now: Moment) {
        self.0.now.set(now);
    }
}

impl Clock for World {
    fn now(&self) -> Moment {
        self.0.now.get()
    }
}

impl Source for World {
    async fn read(&mut self, flow: &str) -> Result<Parameters, ReadError> {
        self.0.reads.set(self.reads() + 1);
        let mood = self.0.mood.borrow().clone();
        let heartbeat = self.0.beats.get().then(|| self.now().timestamp().to_string());
        let read = Parameters { heartbeat, ..self.0.flows.borrow().get(flow).cloned().unwrap_or_default() };
        self.churn();
        self.pass(self.0.takes.get());
        match mood {
            Mood::Works => Ok(read),
            Mood::Fails(error) => Err(error),
            Mood::Hangs => std::future::pending().await,
            Mood::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(read)
            }
            Mood::Panics => panic!("a fault, for the test"),
        }
    }
}

thread_local!(static SEED: Cell<u64> = const { Cell::new(0) });

pub(crate) fn seed(seed: u64) {
    SEED.set(seed);
}

/// SplitMix64, as its author describes it.
pub(crate) fn draw() -> u64 {
    let state = SEED.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    SEED.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
