//! How old an answer may be, and what is read when.

#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use random_percentage::cache::Cache;
use random_percentage::clock::{Clock, Moment};
use random_percentage::source::ReadError;
use serin_core::cohort::{Caller, Cohort, Fallback};
use std::time::Duration;
use support::{Mood, World, denied, draw, seed, throttled};

const FLOW: &str = "main_ivr";

// What is promised, and not what the code happens to say.
const FRESH: Duration = Duration::from_millis(700);
const GRACE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_millis(250);
const UNKNOWN: Duration = Duration::from_secs(30);
const MOST_FLOWS: usize = 256;

/// What the next call gets, and why.
async fn ask(cache: &mut Cache<World, World>, flow: &str) -> (Cohort, Option<Fallback>) {
    let route = cache.route(flow).await;
    let drawn = route.router.assign(Caller { conversation: Some("c"), number: None }, route.at.timestamp(), 0);
    (drawn.cohort, drawn.fallback)
}

const CANARY: (Cohort, Option<Fallback>) = (Cohort::Canary, None);
const UNREADABLE: (Cohort, Option<Fallback>) = (Cohort::Stable, Some(Fallback::Unreadable));

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::test]
async fn a_hit_reads_nothing_and_nothing_older_than_700_ms_is_answered() {
    for run in 0..200 {
        seed(run);
        let world = World::with(FLOW, "100");
        let mut cache = world.cache();
        assert_eq!(ask(&mut cache, FLOW).await, CANARY);
        for _ in 0..20 {
            ask(&mut cache, FLOW).await;
        }
        assert_eq!(world.reads(), 1, "seed {run}");
        world.set(FLOW, "0");
        world.pass(FRESH + ms(1));
        assert_eq!(ask(&mut cache, FLOW).await.0, Cohort::Stable, "seed {run}");
        assert_eq!(world.reads(), 2, "seed {run}");
        // From now on at least nine tenths of it are used: reads are counted by the account.
        for hits in [FRESH * 9 / 10 - ms(1), FRESH / 10 + ms(2)].into_iter().zip([2, 3]) {
            world.pass(hits.0);
            ask(&mut cache, FLOW).await;
            assert_eq!(world.reads(), hits.1, "seed {run}");
        }
    }
}

/// At every moment of two minutes in which reads work, whatever they take: no answer rests on values older than [`FRESH`].
#[tokio::test]
async fn with_reads_that_work_no_answer_is_too_old_and_few_callers_wait() {
    for (run, gap, takes) in [(1, 1, 5), (2, 15, 5), (3, 40, 120), (4, 333, 20), (5, 900, 240)] {
        seed(run);
        let world = World::with(FLOW, "100");
        world.takes(ms(takes));
        let mut cache = world.cache();
        let (mut calls, mut waited, began) = (0, 0, world.now());
        world.churns(FLOW);
        while world.now().since(began) < Duration::from_secs(120) {
            let before = world.reads();
            let route = cache.route(FLOW).await;
            assert!(route.age <= FRESH, "seed {run}: {:?}", route.age);
            // What it says of itself is one thing; that it has seen all that was written 700 ms before the answer is the other.
            let seen = world.revision_of(FRESH, route.at);
            assert!(route.revision >= seen, "seed {run}: revision {} when {seen} was {FRESH:?} old", route.revision);
            (calls, waited) = (calls + 1, waited + world.reads() - before);
            cache.read_ahead().await;
            world.pass(ms(gap));
        }
        let reads = u64::from(world.reads());
        assert!(reads <= 1 + 120_000 / 570, "seed {run}: {reads} reads of {calls} calls");
        // A sandbox that is asked every 40 ms reads after its answers, and one that sleeps in between has to read first.
        assert!(if gap <= 40 { waited <= 1 } else { waited > 50 }, "seed {run}: {waited} of {calls} callers waited");
    }
}

#[tokio::test]
async fn sandboxes_born_together_do_not_read_together() {
    seed(7);
    let flows = [FLOW, "billing"];
    let born = World::with(FLOW, "100");
    born.set("billing", "5");
    let mut caches: Vec<Cache<World, World>> = (0..500).map(|_| born.cache()).collect();
    for cache in &mut caches {
        cache.warm(flows.into_iter()).await;
    }
    // How many of the 1,000 reads a round takes are made in each 50 ms of the first 700 ms, and 10 s later: no wave in either.
    for skip in [0, 1000] {
        let mut after = async |steps| {
            let before = born.reads();
            for _ in 0..steps {
                born.pass(ms(10));
                for cache in &mut caches {
                    for flow in flows {
                        cache.route(flow).await;
                    }
                }
            }
            born.reads() - before
        };
        after(skip).await;
        for slot in 0..15 {
            let read = after(5).await;
            assert!(read <= 150, "after {skip} steps, slot {slot}: {read} of 1000 reads within 50 ms");
        }
    }
}

#[tokio::test]
async fn a_source_that_fails_is_bridged_for_five_seconds_and_then_stable_answers() {
    for mood in [throttled(), denied(), Mood::Hangs] {
        let world = World::with(FLOW, "100");
        let mut cache = world.cache();
        assert_eq!(ask(&mut cache, FLOW).await, CANARY);
        world.mood(mood.clone());
        world.pass(GRACE);
        assert_eq!(ask(&mut cache, FLOW).await, CANARY, "{mood:?}");
        world.pass(ms(1));
        assert_eq!(ask(&mut cache, FLOW).await, UNREADABLE, "{mood:?}");
        let route = cache.route(FLOW).await;
        assert_eq!(
            (route.revision, route.router.assign(Caller::default(), route.at.timestamp(), 0).label),
            (0, "v1"),
            "the label last seen"
        );
        world.mood(Mood::Works);
        world.pass(ms(701));
        assert_eq!(ask(&mut cache, FLOW).await, CANARY, "{mood:?}");
    }
}

#[tokio::test]
async fn a_flow_that_could_never_be_read_gets_stable() {
    let world = World::with(FLOW, "100");
    world.mood(throttled());
    let mut cache = world.cache();
    cache.warm([FLOW].into_iter()).await;
    assert_eq!(ask(&mut cache, FLOW).await, UNREADABLE);
    assert_eq!(world.reads(), 1, "throttled in init: the first call does not ask again at once");
    world.mood(Mood::Works);
    world.pass(ms(701));
    assert_eq!(ask(&mut cache, FLOW).await, CANARY);
    // What else went wrong in init may be over.
    for mood in [denied(), Mood::Hangs] {
        world.mood(mood);
        let mut cache = world.cache();
        cache.warm([FLOW].into_iter()).await;
        world.mood(Mood::Works);
        assert_eq!(ask(&mut cache, FLOW).await, CANARY);
    }
}

/// A sandbox that is seldom asked connects anew each time. If that takes longer than a caller waits, it is ended after the answer.
#[tokio::test]
async fn a_read_too_slow_for_a_caller_gets_its_time_after_the_answer() {
    let world = World::with(FLOW, "100");
    let mut cache = world.cache();
    world.mood(Mood::Slow(PATIENCE + ms(100)));
    assert_eq!(ask(&mut cache, FLOW).await, UNREADABLE);
    cache.read_ahead().await;
    assert_eq!((world.reads(), ask(&mut cache, FLOW).await), (2, CANARY));
    cache.read_ahead().await;
    assert_eq!(world.reads(), 2, "once");
}

#[tokio::test]
async fn init_waits_for_one_failure_at_most_and_not_for_many_slow_flows() {
    for (mood, takes, expected) in [(throttled(), 5, 1), (Mood::Works, 5, 100), (Mood::Works, 300, 4)] {
        let world = World::new();
        world.mood(mood);
        world.takes(ms(takes));
        let names: Vec<String> = (0..100).map(|i| format!("flow-{i}")).collect();
        world.cache().warm(names.iter().map(String::as_str)).await;
        assert_eq!(world.reads(), expected);
    }
}

#[tokio::test]
async fn a_source_that_hangs_keeps_one_caller_waiting_and_not_the_next() {
    let world = World::with(FLOW, "100");
    let mut cache = world.cache();
    ask(&mut cache, FLOW).await;
    world.mood(Mood::Hangs);
    world.pass(FRESH + ms(1));
    let began = std::time::Instant::now();
    assert_eq!(ask(&mut cache, FLOW).await, CANARY, "answered although the read never ends");
    assert!(began.elapsed() >= PATIENCE, "it is waited for");
    assert_eq!(ask(&mut cache, FLOW).await, CANARY);
    assert_eq!(ask(&mut cache, "billing").await, UNREADABLE, "a flow never read, of the same source");
    assert_eq!(world.reads(), 2, "the next callers do not try again at once");
    world.pass(ms(701));
    ask(&mut cache, FLOW).await;
    assert_eq!(world.reads(), 3);
}

#[tokio::test]
async fn an_age_is_the_longer_of_what_two_clocks_say_and_a_clock_that_went_back_makes_all_old() {
    let second = Duration::from_secs(1);
    type Change = fn(Moment) -> Moment;
    let cases: [(&str, Change); 4] = [
        ("frozen: the machine's clock stood still", |now| Moment { wall: now.wall + Duration::from_secs(1), ..now }),
        ("the wall clock was held", |now| Moment { boot: now.boot + Duration::from_secs(1), ..now }),
        ("the wall clock went back", |now| Moment { wall: now.wall - Duration::from_millis(1), ..now }),
        ("thawed on another machine", |now| Moment { boot: Duration::from_secs(3), wall: now.wall }),
    ];
    for (case, change) in cases {
        let world = World::with(FLOW, "100");
        let mut cache = world.cache();
        ask(&mut cache, FLOW).await;
        world.set_clocks(change(world.now()));
        ask(&mut cache, FLOW).await;
        assert_eq!(world.reads(), 2, "{case}");
    }
    let early = Moment { boot: second, wall: second };
    let late = Moment { boot: 3 * second, wall: 2 * second };
    assert_eq!((late.since(early), early.since(late)), (2 * second, Duration::MAX));
}

#[tokio::test]
async fn a_typo_is_read_once_in_30_seconds_and_many_typos_do_not_grow_the_memory() {
    let world = World::with(FLOW, "100");
    let mut cache = world.cache();
    for _ in 0..10 {
        assert_eq!(ask(&mut cache, "main_irv").await.1, Some(Fallback::UnknownFlow));
        cache.read_ahead().await;
    }
    assert_eq!(world.reads(), 1);
    world.pass(UNKNOWN * 9 / 10 - ms(1));
    ask(&mut cache, "main_irv").await;
    assert_eq!(world.reads(), 1);
    world.pass(UNKNOWN / 10 + ms(2));
    ask(&mut cache, "main_irv").await;
    assert_eq!(world.reads(), 2);
    ask(&mut cache, FLOW).await;
    for i in 0..3 * MOST_FLOWS {
        world.pass(Duration::from_micros(100));
        ask(&mut cache, &format!("typo-{i}")).await;
    }
    let before = world.reads();
    ask(&mut cache, FLOW).await;
    assert_eq!(world.reads(), before, "a flow in a rollout is not forgotten for typos");
    ask(&mut cache, "typo-0").await;
    assert_eq!(world.reads(), before + 1, "an old typo is");
}

#[tokio::test]
async fn thirty_seconds_of_denials_lock_a_process_out_and_nothing_else_does() {
    let world = World::with(FLOW, "100");
    let mut cache = world.cache();
    ask(&mut cache, FLOW).await;
    for (mood, expected) in [(throttled(), false), (Mood::Fails(ReadError::Failed("503".into())), false), (denied(), true)] {
        world.mood(mood.clone());
        let began = world.now();
        while world.now().since(began) < Duration::from_secs(32) {
            world.pass(ms(600));
            ask(&mut cache, FLOW).await;
            let since = world.now().since(began);
            assert!(!cache.is_locked_out() || since >= Duration::from_secs(30), "{mood:?} after {since:?}");
        }
        assert_eq!(cache.is_locked_out(), expected, "{mood:?}");
    }
    world.mood(Mood::Works);
    world.pass(ms(701));
    ask(&mut cache, FLOW).await;
    assert!(!cache.is_locked_out(), "a read that works makes good");
    // One denial, ten minutes of sleep and something else are no 30 seconds of denials, nor are two with a throttle between them.
    for between in [throttled(), Mood::Fails(ReadError::Failed("503".into()))] {
        for mood in [denied(), between, denied(), Mood::Works] {
            world.mood(mood);
            world.pass(Duration::from_secs(600));
            ask(&mut cache, FLOW).await;
            assert!(!cache.is_locked_out());
        }
    }
}

#[tokio::test]
async fn whatever_happens_nothing_older_than_the_grace_is_answered() {
    for run in 0..300_u64 {
        seed(run * 7919);
        let world = World::with(FLOW, "1");
        let mut cache = world.cache();
        let mut read = None;
        for _ in 0..300 {
            world.pass(ms(draw() % [3, 90, 900, 9000][(draw() % 4) as usize]));
            if draw().is_multiple_of(8) {
                world.mood([Mood::Works, throttled(), denied(), Mood::Works][(draw() % 4) as usize].clone());
            }
            if draw().is_multiple_of(16) {
                world.set(FLOW, ["0", "100", "rubbish"][(draw() % 3) as usize]);
            }
            let before = world.reads();
            let (now, route) = (world.now(), cache.route(FLOW).await);
            let drawn = route.router.assign(Caller::default(), route.at.timestamp(), 0);
            let unreadable = drawn.fallback == Some(Fallback::Unreadable);
            assert!(unreadable || route.age <= GRACE, "seed {run}: {:?}", route.age);
            assert!(!unreadable || drawn.cohort == Cohort::Stable, "seed {run}");
            if world.reads() > before && !unreadable && route.age == Duration::ZERO {
                read = Some(now);
            }
            let known = read.map_or(Duration::MAX, |read| now.since(read));
            assert!(unreadable || known <= GRACE, "seed {run}: answered {known:?} after the last read that worked");
            if draw().is_multiple_of(2) {
                cache.read_ahead().await;
                // Reading ahead counts as a read too.
                if world.reads() > before && cache.route(FLOW).await.age == Duration::ZERO {
                    read = Some(world.now());
                }
            }
        }
    }
}
