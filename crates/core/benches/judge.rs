//! What a rollout costs: the time of a tick and the memory between ticks. It fails where either is more than was promised.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, clippy::disallowed_types)] // measuring needs a clock

#[path = "../tests/calls/mod.rs"]
mod calls;

use calls::{Draw, USUAL, minute, settings};
use criterion::Criterion;
use jiff::{SignedDuration, Timestamp};
use peak_alloc::PeakAlloc;
use serin_core::analysis::{Measured, analyze};
use serin_core::measurement::{self, Comparison, Counts, InForce};
use serin_core::policy::Policy;
use serin_core::sequential::{Counter, Reading, Sequential, Settings, Tally, Window};
use serin_core::summary::Course;
use serin_core::weight::Weight;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Counts the bytes that live on the heap.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MOST_MICROSECONDS: f64 = 50.0;
const MOST_BYTES: usize = 16 * 1024;
/// The evaluator takes recorded minutes one by one, and again those that may have been restated: at most so many after the summary.
const RECALLED: i64 = 45;
const MOST_EVALUATING: f64 = 2_000.0;
/// Windows of a tick, one a minute.
const TICK: i64 = 15;
const TICKS_OF_A_DAY: i64 = 96;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut missed = Vec::new();
    for volume in [600.0, 20_000.0] {
        let bytes = memory(volume);
        println!("{volume} calls/h: {bytes} bytes a rollout, at most {MOST_BYTES}");
        if bytes > MOST_BYTES {
            missed.push(format!("{bytes} bytes a rollout at {volume} calls/h"));
        }
        if let Some(microseconds) = time(&mut criterion, volume) {
            println!("{volume} calls/h: {microseconds:.1} µs a tick of {TICK} windows (median), at most {MOST_MICROSECONDS}");
            if microseconds > MOST_MICROSECONDS {
                missed.push(format!("{microseconds:.1} µs a tick at {volume} calls/h"));
            }
        }
        if let Some(microseconds) = evaluation(&mut criterion, volume) {
            println!(
                "{volume} calls/h: {microseconds:.1} µs to derive a verdict from {RECALLED} recorded minutes, at most {MOST_EVALUATING}"
            );
            if microseconds > MOST_EVALUATING {
                missed.push(format!("{microseconds:.1} µs a verdict at {volume} calls/h"));
            }
        }
    }
    criterion.final_summary();
    assert!(missed.is_empty(), "more than promised: {}", missed.join(", "));
}

/// A rollout that goes on for ever, so that every tick is a full one.
fn endless(volume: f64, draw: &mut Draw) -> Sequential {
    let endless = Settings { min_step: 100_000_000, max_step: 100_000_001, look_every: TICK as u32, ..settings(volume, USUAL, draw) };
    Sequential::start(endless).unwrap().0
}

fn tick(draw: &mut Draw, at: i64, volume: f64) -> Vec<Window> {
    (0..TICK).map(|m| minute(draw, TICK * at + m, 50.0, volume, USUAL, USUAL)).collect()
}

/// Microseconds, the median of what criterion samples: it leaves out what else this machine has to do. `None` where the command line
/// leaves this one out.
fn time(criterion: &mut Criterion, volume: f64) -> Option<f64> {
    let mut draw = Draw::seeded(11);
    let mut judge = endless(volume, &mut draw);
    let day: Vec<Vec<Window>> = (0..TICKS_OF_A_DAY).map(|at| tick(&mut draw, at, volume)).collect();
    let (mut at, mut samples) = (0, Vec::new());
    criterion.bench_function(&format!("a tick at {volume} calls per hour"), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let (again, part) = (at / TICKS_OF_A_DAY, at % TICKS_OF_A_DAY);
                let later = |w: &Window| Window { start: w.start + again * TICKS_OF_A_DAY * TICK, ..*w };
                let windows: Vec<Window> = day[part as usize].iter().map(later).collect();
                let began = Instant::now();
                black_box(judge.look(50.0, Reading::Windows(black_box(&windows))));
                spent += began.elapsed();
                at += 1;
            }
            samples.push(spent.as_secs_f64() * 1e6 / rounds as f64);
            spent
        });
    });
    samples.sort_unstable_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

/// Microseconds of a whole verdict of a rollout that is three hours old, guards included, as the evaluator asks for it.
fn evaluation(criterion: &mut Criterion, volume: f64) -> Option<f64> {
    let start: Timestamp = "2026-11-20T09:00:00Z".parse().unwrap();
    let at = |n: i64| start + SignedDuration::from_mins(n);
    let weight = Weight::from_basis_points(500).unwrap();
    let (policy, weights, mut draw) = (Policy::default(), [InForce { weight, since: start }], Draw::seeded(11));
    let recorded: Vec<measurement::Window> = (0..195).map(|n| recorded(&minute(&mut draw, n, 5.0, volume, USUAL, USUAL), at(n))).collect();
    let course = Course { policy: &policy, weights: &weights };
    let summary = course.summarize(None, &recorded);
    let until = summary.as_ref().map(|s| s.until);
    let windows: Vec<_> = recorded.into_iter().filter(|w| Some(w.start) >= until).take(RECALLED as usize).collect();
    let now = windows.last().unwrap().start + SignedDuration::from_mins(3);
    let measured = Measured { policy: &policy, weights: &weights, windows: &windows, summary: summary.as_ref(), baseline: None };
    let mut samples = Vec::new();
    criterion.bench_function(&format!("a verdict at {volume} calls per hour"), |bencher| {
        bencher.iter_custom(|rounds| {
            let began = Instant::now();
            for _ in 0..rounds {
                black_box(analyze(black_box(&measured), now));
            }
            samples.push(began.elapsed().as_secs_f64() * 1e6 / rounds as f64);
            began.elapsed()
        });
    });
    samples.sort_unstable_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

fn recorded(window: &Window, start: Timestamp) -> measurement::Window {
    let counts = |tally: &Tally| {
        let count = |counter| tally.get(counter).unwrap() as u32;
        let [calls, errors, abandons] = [Counter::Calls, Counter::Errors, Counter::Abandons].map(count);
        let transfers = count(Counter::Transfers);
        Counts { calls, errors, abandons, transfers, contained: calls - errors - abandons - transfers, ..Counts::default() }
    };
    measurement::Window { start, counts: Comparison { stable: counts(&window.stable), canary: counts(&window.canary) } }
}

/// The most bytes of a rollout in a day, as it was started or as it is read back before every tick, whichever takes more.
fn memory(volume: f64) -> usize {
    let in_a_day = |read_back: bool| {
        let mut draw = Draw::seeded(11);
        let before = HEAP.current_usage();
        let mut judge = Box::new(endless(volume, &mut draw));
        let mut most = 0;
        for at in 0..TICKS_OF_A_DAY {
            if read_back {
                *judge = serde_json::from_str(&serde_json::to_string(&judge).unwrap()).unwrap();
            }
            judge.look(50.0, Reading::Windows(&tick(&mut draw, at, volume)));
            most = most.max(HEAP.current_usage() - before);
        }
        most
    };
    in_a_day(false).max(in_a_day(true))
}
