//! Cold starts, one process after the other, and warm calls in some of them.

use crate::figures::{Spread, rounded};
use crate::runtime_api::{self, Event, Script};
use crate::sandbox::{self, Program, Share};
use crate::source::Source;
use anyhow::bail;
use serde::Serialize;
use serde_json::Value;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is measured.
pub(crate) struct Plan {
    pub(crate) program: Program,
    /// Processes, each a cold start.
    pub(crate) runs: usize,
    /// Of those, how many take warm calls too.
    pub(crate) warm_runs: usize,
    /// Warm calls in each of them.
    pub(crate) warm: u64,
    pub(crate) event: Vec<u8>,
    pub(crate) gap: Duration,
    pub(crate) timeout: Duration,
    /// What the process is held to once init is over, as on Lambda.
    pub(crate) share: Option<Arc<Share>>,
}

/// The figures of one program.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) runs: usize,
    /// Start of the process to its first poll.
    pub(crate) init_ms: Spread,
    pub(crate) init_cpu_ms: Spread,
    /// The first event, sent to answered.
    pub(crate) first_ms: Spread,
    pub(crate) first_cpu_ms: Spread,
    /// The events after it.
    pub(crate) warm_us: Spread,
    /// CPU time of the process for one warm call, with all that it does between two.
    pub(crate) cpu_us: f64,
    pub(crate) rss_first_mib: f64,
    /// The most memory that any process ever had.
    pub(crate) rss_mib: f64,
    pub(crate) file_bytes: u64,
    /// Events answered.
    pub(crate) calls: u64,
    /// Requests that reached the source, all processes together.
    pub(crate) requests: u64,
    /// Of each process that took warm calls: how long it lived after init, and its requests to the source.
    pub(crate) warm_runs: Vec<Warm>,
    /// Errors that were posted.
    pub(crate) errors: u64,
    /// Answers that were none.
    pub(crate) invalid: u64,
    /// The first of either.
    pub(crate) first_wrong: String,
}

/// One process that took warm calls.
#[derive(Debug, Serialize)]
pub(crate) struct Warm {
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) cpu_us: f64,
}

/// Measures. A process that ends, or does not answer in time, is an error: there is no figure then.
pub(crate) fn measure(plan: &Plan, source: &Source) -> anyhow::Result<Figures> {
    let stopwatch = Arc::new(Stopwatch::default());
    let api = runtime_api::serve(Arc::clone(&stopwatch))?;
    let one = |calls: u64| -> anyhow::Result<Run> {
        let before = source.requests();
        if let Some(share) = &plan.share {
            share.limit(false)?;
        }
        *stopwatch.run() = Run { calls, event: plan.event.clone(), gap: plan.gap, share: plan.share.clone(), ..Run::default() };
        let mut sandbox = {
            // Held over the start: a poll that comes at once finds out whose it is.
            let mut run = stopwatch.run();
            let sandbox = plan.program.start(api, plan.share.as_deref())?;
            (run.id, run.started) = (sandbox.id(), Some(sandbox.started));
            sandbox
        };
        let deadline = Instant::now() + plan.timeout;
        let mut run = stopwatch.run();
        while !run.over {
            run = stopwatch.over.wait_timeout(run, Duration::from_millis(200)).unwrap_or_else(PoisonError::into_inner).0;
            let ended = sandbox.ended();
            if !run.over && (ended.is_some() || Instant::now() > deadline) {
                let how = ended.map_or("did not answer in time".to_owned(), |status| format!("ended: {status}"));
                bail!("the function {how} after {} of {calls} calls. {} {}", run.answered.len(), run.first_wrong, sandbox.errors());
            }
        }
        run.requests = source.requests() - before;
        Ok(std::mem::take(&mut run))
    };
    one(1)?; // not measured: it fills the page cache
    let before = source.requests();
    let runs = (0..plan.runs).map(|n| one(1 + if n < plan.warm_runs { plan.warm } else { 0 })).collect::<anyhow::Result<Vec<Run>>>()?;
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let warm = || runs.iter().filter(|run| run.calls > 1);
    Ok(Figures {
        runs: plan.runs,
        init_ms: Spread::of(runs.iter().filter_map(|run| Some(rounded(ms(run.polled? - run.started?))))),
        init_cpu_ms: Spread::of(runs.iter().map(|run| ms(run.cpu[0]))),
        first_ms: Spread::of(runs.iter().filter_map(|run| run.answered.first()).map(|took| ms(*took))),
        first_cpu_ms: Spread::of(runs.iter().map(|run| ms(run.cpu[1].saturating_sub(run.cpu[0])))),
        warm_us: Spread::of(warm().flat_map(|run| &run.answered[1..]).map(|took| rounded(ms(*took) * 1e3))),
        cpu_us: rounded(Spread::of(warm().map(Run::cpu_us)).p50),
        rss_first_mib: rounded(Spread::of(runs.iter().map(|run| run.rss[0] as f64 / 1024.0)).p50),
        rss_mib: rounded(Spread::of(runs.iter().map(|run| run.rss[1] as f64 / 1024.0)).max),
        file_bytes: plan.program.size(),
        calls: runs.iter().map(|run| run.answered.len() as u64).sum(),
        requests: source.requests() - before,
        warm_runs: warm()
            .map(|run| {
                let (seconds, cpu_us) = (rounded(run.lived.as_secs_f64()), rounded(run.cpu_us()));
                Warm { calls: run.calls, seconds, requests: run.requests, cpu_us }
            })
            .collect(),
        errors: runs.iter().map(|run| run.errors).sum(),
        invalid: runs.iter().map(|run| run.invalid).sum(),
        first_wrong: runs.iter().map(|run| run.first_wrong.as_str()).find(|text| !text.is_empty()).unwrap_or_default().to_owned(),
    })
}

/// What is known of one process.
#[derive(Default)]
struct Run {
    calls: u64,
    event: Vec<u8>,
    gap: Duration,
    id: u32,
    started: Option<Instant>,
    polled: Option<Instant>,
    share: Option<Arc<Share>>,
    sent: u64,
    sent_at: Option<Instant>,
    answered: Vec<Duration>,
    /// CPU time and memory when init, the first call and the last were over.
    cpu: [Duration; 3],
    rss: [u64; 2],
    lived: Duration,
    requests: u64,
    errors: u64,
    invalid: u64,
    first_wrong: String,
    over: bool,
}

impl Run {
    /// CPU time of one warm call.
    fn cpu_us(&self) -> f64 {
        self.cpu[2].saturating_sub(self.cpu[1]).as_secs_f64() * 1e6 / (self.calls - 1) as f64
    }

    fn wrong(&mut self, body: &[u8]) {
        if self.first_wrong.is_empty() {
            self.first_wrong = String::from_utf8_lossy(body).chars().take(400).collect();
        }
    }
}

#[derive(Default)]
struct Stopwatch {
    run: Mutex<Run>,
    over: Condvar,
}

impl Stopwatch {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script for Stopwatch {
    fn polled(&self, at: Instant) -> Option<Event> {
        let mut run = self.run();
        match run.sent {
            0 => {
                run.polled = Some(at);
                run.cpu[0] = sandbox::cpu(run.id);
                if let Some(Err(error)) = run.share.as_deref().map(|share| share.limit(true)) {
                    run.errors += 1;
                    run.wrong(format!("not held to its share: {error}").as_bytes());
                }
            }
            1 => {
                run.cpu[1] = sandbox::cpu(run.id);
                run.rss[0] = sandbox::memory(run.id, "VmHWM");
            }
            _ => {}
        }
        if run.sent == run.calls {
            run.cpu[2] = sandbox::cpu(run.id);
            run.rss[1] = sandbox::memory(run.id, "VmHWM");
            run.lived = run.polled.map_or(Duration::ZERO, |polled| at - polled);
            run.over = true;
            self.over.notify_all();
            return None;
        }
        let gap = if run.sent == 0 { Duration::ZERO } else { run.gap };
        run.sent += 1;
        Some(Event { number: run.sent, body: run.event.clone(), gap })
    }

    fn sent(&self, at: Instant) {
        self.run().sent_at = Some(at);
    }

    fn answered(&self, at: Instant, body: &[u8]) {
        let mut run = self.run();
        if let Some(sent) = run.sent_at {
            run.answered.push(at - sent);
        }
        if !is_answer(body) {
            run.invalid += 1;
            run.wrong(body);
        }
    }

    fn failed(&self, _: Instant, body: &[u8]) {
        let mut run = self.run();
        run.errors += 1;
        run.wrong(body);
    }
}

/// What every program that is compared must say: a draw, and that it was one.
fn is_answer(body: &[u8]) -> bool {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    said["randomPct"].as_u64().is_some_and(|draw| (1..=100).contains(&draw)) && said["fallback"] != Value::Bool(true)
}
