//! stopwatch: plays Lambda's Runtime API and the services that a function reads from, on 127.0.0.1, and measures the function between them.
//!
//! `stopwatch cold` takes cold starts and warm calls of any program that speaks the Runtime API; `stopwatch load` plays minutes of calls
//! to the endpoint while the weight changes and the source fails. Both leave out what a machine of AWS adds: the start of the microVM, the
//! download of the code, the network. Run it with `taskset`, so that both sides share one CPU: otherwise the times are those of the
//! scheduler.

mod cold;
mod faults;
mod figures;
mod floor;
mod http;
mod load;
mod rules;
mod runtime_api;
mod sandbox;
mod source;

use anyhow::Context;
use clap::{Args, Parser};
use sandbox::{Program, Share};
use serde::Serialize;
use source::{Authority, Source};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Measures a Lambda function on this machine, without Lambda.
#[derive(Parser)]
#[command(name = "stopwatch")]
enum Asked {
    /// Cold starts, first calls and warm calls
    Cold(Cold),
    /// Calls at the highest rate while the weight changes and the source fails; exit status 1 where a rule is broken
    Load(Load),
    /// Be the least that a function can be, to be measured itself: `stopwatch cold … -- stopwatch floor`
    Floor,
}

#[derive(Args)]
struct Common {
    /// The event, a file with JSON
    #[arg(long)]
    event: PathBuf,
    /// A variable for the function, NAME=VALUE; {ca} in it is the file with the certificates to trust
    #[arg(long, value_parser = pair)]
    env: Vec<(String, String)>,
    /// The source speaks HTTPS; AWS_CA_BUNDLE, NODE_EXTRA_CA_CERTS and SSL_CERT_FILE name the certificates to trust
    #[arg(long)]
    tls: bool,
    /// A bundle of real authorities put before the stub's own, for programs that read one on Lambda
    #[arg(long, requires = "tls")]
    roots: Option<PathBuf>,
    /// Microseconds that the source takes for an answer
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
    /// Append the result to a file, as a line of JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Name of the result
    #[arg(long, default_value = "")]
    label: String,
    /// The function and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct Cold {
    #[command(flatten)]
    common: Common,
    /// Cold starts
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Of these processes, how many take warm calls too
    #[arg(long, default_value_t = 1)]
    warm_runs: usize,
    /// Warm calls of each
    #[arg(long, default_value_t = 5000)]
    warm: u64,
    /// Milliseconds between two events
    #[arg(long, default_value_t = 0)]
    gap_ms: u64,
    /// After init, hold the function to the CPU that Lambda gives with so many MB (needs the right to make a cgroup)
    #[arg(long)]
    memory_mb: Option<u64>,
    /// Seconds that one process may take
    #[arg(long, default_value_t = 60)]
    timeout_s: u64,
}

#[derive(Args)]
struct Load {
    #[command(flatten)]
    common: Common,
    /// How long
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Processes that answer side by side
    #[arg(long, default_value_t = 1)]
    sandboxes: usize,
    /// Makes the schedule of faults, and all else that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds without a fault, at most; 0: no faults
    #[arg(long, default_value_t = 8.0)]
    calm_s: f64,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is accepted")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let done = match Asked::parse() {
        Asked::Cold(asked) => cold(&asked),
        Asked::Load(asked) => load(&asked),
        Asked::Floor => floor::run().map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stopwatch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Common {
    fn event(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(&self.event).with_context(|| self.event.display().to_string())
    }

    fn authority(&self) -> anyhow::Result<Option<Authority>> {
        self.tls.then(|| Authority::new(self.roots.as_deref())).transpose()
    }

    fn program(&self, authority: Option<&Authority>, memory: u64) -> Program {
        let bundle = authority.map(|a| a.bundle.display().to_string()).unwrap_or_default();
        let mut env = Vec::new();
        if authority.is_some() {
            env.extend(["AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"].map(|name| (name.to_owned(), bundle.clone())));
        }
        env.extend(self.env.iter().map(|(name, value)| (name.clone(), value.replace("{ca}", &bundle))));
        Program { command: self.command.clone(), env, memory }
    }
}

fn cold(asked: &Cold) -> anyhow::Result<bool> {
    let common = &asked.common;
    let authority = common.authority()?;
    let source = Arc::new(Source::new("5", Instant::now(), Duration::from_micros(common.delay_us), Vec::new(), 0));
    let port = source.open(authority.as_ref().map(|a| Arc::clone(&a.server)), Arc::new(Mutex::default()))?.port();
    let mut program = common.program(authority.as_ref(), asked.memory_mb.unwrap_or(128));
    program.env.splice(0..0, load::endpoints(port, common.tls));
    let plan = cold::Plan {
        program,
        runs: asked.runs,
        warm_runs: asked.warm_runs,
        warm: asked.warm,
        event: common.event()?,
        gap: Duration::from_millis(asked.gap_ms),
        timeout: Duration::from_secs(asked.timeout_s),
        share: asked.memory_mb.map(Share::of_memory).transpose()?.map(Arc::new),
    };
    let figures = cold::measure(&plan, &source)?;
    say(&format!(
        "{}: init {:.2} ms (CPU {:.2}), first {:.3} ms, warm p50 {:.1} µs p99 {:.1} max {:.0}, CPU {:.1} µs a call, memory {:.1} MiB, \
         file {} bytes, {} calls, {} requests to the source, {} errors, {} invalid {}",
        common.name(),
        figures.init_ms.p50,
        figures.init_cpu_ms.p50,
        figures.first_ms.p50,
        figures.warm_us.p50,
        figures.warm_us.p99,
        figures.warm_us.max,
        figures.cpu_us,
        figures.rss_mib,
        figures.file_bytes,
        figures.calls,
        figures.requests,
        figures.errors,
        figures.invalid,
        figures.first_wrong,
    ));
    common.keep(&figures)?;
    Ok(figures.errors == 0 && figures.invalid == 0)
}

fn load(asked: &Load) -> anyhow::Result<bool> {
    let common = &asked.common;
    let authority = common.authority()?;
    let plan = load::Plan {
        program: common.program(authority.as_ref(), 128),
        sandboxes: asked.sandboxes,
        length: Duration::from_secs(asked.seconds),
        seed: asked.seed,
        calm: Duration::try_from_secs_f64(asked.calm_s).context("--calm-s")?,
        delay: Duration::from_micros(common.delay_us),
        event: common.event()?,
        tls: authority.as_ref().map(|a| Arc::clone(&a.server)),
    };
    let outcome = load::play(&plan)?;
    say(&format!(
        "{}: {:.0} calls/s ({} answers in {:.0} s, {} sandboxes; p50 {} µs, p99 {} µs, max {:.1} ms), \
         {} errors, {} deaths, {} broken, {} fallbacks",
        common.name(),
        outcome.rate,
        outcome.answers,
        outcome.seconds,
        outcome.sandboxes,
        outcome.call_us_p50,
        outcome.call_us_p99,
        outcome.call_ms_max,
        outcome.errors,
        outcome.deaths,
        outcome.broken,
        outcome.fallbacks,
    ));
    say(&format!(
        "  {} changes, {} of them in quiet: last old answer after p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms; \
         oldest values {:.0} ms with reads working, {:.0} ms otherwise",
        outcome.changes,
        outcome.quiet_changes,
        outcome.change_ms.p50,
        outcome.change_ms.p99,
        outcome.change_ms.max,
        outcome.oldest_ms_working,
        outcome.oldest_ms_failing,
    ));
    say(&format!(
        "  {} faults over {:.0} s; {} requests to the source, {:.2} a second and sandbox; memory {} to {} KiB, grown by {}; \
         {} lines of log; stood still for {:.0} ms",
        outcome.faults.len(),
        outcome.fault_seconds,
        outcome.requests,
        outcome.requests_rate,
        outcome.rss_begin_kib,
        outcome.rss_end_kib,
        outcome.growth_kib,
        outcome.log_lines,
        outcome.stalled_ms,
    ));
    common.keep(&outcome)?;
    let complaints = outcome.complaints();
    complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
    Ok(complaints.is_empty())
}

impl Common {
    fn name(&self) -> &str {
        if self.label.is_empty() { &self.command[0] } else { &self.label }
    }

    /// Adds the result to the file that was named.
    fn keep(&self, result: &impl Serialize) -> anyhow::Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let mut line = serde_json::to_value(result)?;
        line["label"] = self.name().into();
        append(path, &format!("{line}\n")).with_context(|| path.display().to_string())
    }
}

fn append(path: &Path, line: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

#[allow(clippy::print_stdout)] // a tool's standard output is its result
fn say(line: &str) {
    println!("{line}");
}
