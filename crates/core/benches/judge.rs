//! What a rollout costs: the time of a tick and the memory between ticks. It fails where either is more than was promised.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, clippy::disallowed_types)] // measuring needs a clock

#[path = "../tests/calls/mod.rs"]
mod calls;

use calls::{Draw, USUAL, minute, settings};
use criterion::Criterion;
use peak_alloc::PeakAlloc;
use serin_core::sequential::{Reading, Sequential, Settings, Window};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Counts the bytes that live on the heap.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MOST_MICROSECONDS: f64 = 50.0;
const MOST_BYTES: usize = 16 * 1024;
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
        let Some(microseconds) = time(&mut criterion, volume) else { continue };
        println!("{volume} calls/h: {microseconds:.1} µs a tick (median), at most {MOST_MICROSECONDS}");
        if microseconds > MOST_MICROSECONDS {
            missed.push(format!("{microseconds:.1} µs a tick at {volume} calls/h"));
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
