//! Minutes of calls as fast as one core answers them, while the weight changes and the source fails, and every answer is judged.

use crate::faults;
use crate::figures::{Spread, Times, rounded};
use crate::rules::{self, Answer, Reads, Stalls, When};
use crate::runtime_api::{self, Event, Script};
use crate::sandbox::{self, Program, Sandbox};
use crate::source::{ROLLOUT_ID, Source};
use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two changes of the weight.
const CHANGE: Duration = Duration::from_secs(2);
/// A change counts as one in quiet when the source worked for so long before and after it.
const QUIET: Duration = Duration::from_millis(1500);
/// An answer that takes longer is one that does not come.
const PATIENCE: Duration = Duration::from_secs(3);
/// The main thread looks so often; when it is later than the second figure, nothing on this CPU got on.
const LOOK: Duration = Duration::from_millis(10);
const STALL: Duration = Duration::from_millis(40);
/// KiB that a process may grow by after the first tenth of the run, or 30 s: what the heap is cut up by comes early.
const GROWTH: i64 = 512;

/// What is played.
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) sandboxes: usize,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    /// Longest time without a fault; zero for none at all.
    pub(crate) calm: Duration,
    pub(crate) delay: Duration,
    pub(crate) event: Vec<u8>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    pub(crate) sandboxes: usize,
    pub(crate) answers: u64,
    /// Answers a second, all sandboxes together.
    pub(crate) rate: f64,
    /// Microseconds from event to answer.
    pub(crate) call_us_p50: u64,
    pub(crate) call_us_p99: u64,
    pub(crate) call_ms_max: f64,
    pub(crate) errors: u64,
    pub(crate) fallbacks: u64,
    /// Processes that ended.
    pub(crate) deaths: u64,
    /// Answers that broke a rule.
    pub(crate) broken: u64,
    /// The first of them, or of anything else that went wrong.
    pub(crate) first_broken: Option<String>,
    pub(crate) changes: usize,
    pub(crate) quiet_changes: usize,
    /// From a change in quiet to the last answer with the value before it, over all sandboxes.
    pub(crate) change_ms: Spread,
    /// Age of the oldest values that an answer rested on.
    pub(crate) oldest_ms_working: f64,
    pub(crate) oldest_ms_failing: f64,
    /// In the order in which they came.
    pub(crate) faults: Vec<String>,
    pub(crate) fault_seconds: f64,
    pub(crate) requests: u64,
    /// Requests to the source, a second and sandbox.
    pub(crate) requests_rate: f64,
    pub(crate) rss_begin_kib: u64,
    pub(crate) rss_end_kib: u64,
    /// The most that a single process grew by.
    pub(crate) growth_kib: i64,
    pub(crate) log_lines: u64,
    pub(crate) log_lines_not_json: u64,
    /// Time in which nothing on this CPU got on, left out of the ages.
    pub(crate) stalled_ms: f64,
}

impl Outcome {
    /// Everything that must hold, in words where it does not.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut must = |held: bool, text: String| {
            if !held {
                complaints.push(text)
            }
        };
        must(self.answers > 0, "nothing was answered".into());
        must(self.errors == 0, format!("{} errors were posted", self.errors));
        must(self.deaths == 0, format!("{} processes ended", self.deaths));
        must(self.broken == 0, format!("{} answers broke a rule", self.broken));
        must(self.growth_kib <= GROWTH, format!("a process grew by {} KiB", self.growth_kib));
        must(self.log_lines_not_json == 0, format!("{} lines of the log are not JSON", self.log_lines_not_json));
        if let Some(first) = &self.first_broken {
            complaints.push(format!("the first, with seed {}: {first}", self.seed));
        }
        complaints
    }
}

/// Plays it. An error is one of the machinery; what the function does wrong is in the outcome.
pub(crate) fn play(plan: &Plan) -> anyhow::Result<Outcome> {
    let windows = if plan.calm.is_zero() { Vec::new() } else { faults::schedule(plan.seed, plan.length, plan.calm) };
    let source = Arc::new(Source::new("0", Instant::now(), plan.delay, windows, plan.seed));
    let stalls = Arc::new(Mutex::new(Stalls::default()));
    let template = Template::of(&plan.event)?;
    let mut callers = Vec::new();
    for number in 0..plan.sandboxes {
        let reads = Arc::new(Mutex::new(Reads::from_init()));
        let port = source.open(plan.tls.clone(), Arc::clone(&reads))?.port();
        let caller = Arc::new(Caller {
            number,
            source: Arc::clone(&source),
            reads,
            stalls: Arc::clone(&stalls),
            template: template.clone(),
            until: plan.length,
            state: Mutex::new(State::new()),
        });
        let api = runtime_api::serve(Arc::clone(&caller))?;
        let mut program = plan.program.clone();
        program.env.splice(0..0, endpoints(port, plan.tls.is_some()));
        callers.push((program.start(api, None)?, caller));
    }
    let (rss_begin, rss_end) = watch(plan, &source, &stalls, &mut callers);
    Ok(outcome(plan, &source, &stalls, &callers, &rss_begin, &rss_end))
}

/// The variables that send a function to the stub.
pub(crate) fn endpoints(port: u16, tls: bool) -> Vec<(String, String)> {
    let url = format!("{}://localhost:{port}", if tls { "https" } else { "http" });
    ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL_DYNAMODB"].map(|name| (name.to_owned(), url.clone())).into()
}

type Callers = [(Sandbox, Arc<Caller>)];

/// Changes the weight and looks after the processes until the time is over; their memory in KiB, after a while and at the end.
fn watch(plan: &Plan, source: &Source, stalls: &Mutex<Stalls>, callers: &mut Callers) -> (Vec<u64>, Vec<u64>) {
    let settled = (plan.length / 10).min(Duration::from_secs(30));
    let (mut next_change, mut next_visit, mut begin) = (CHANGE, Duration::ZERO, None);
    let memory = |callers: &Callers| callers.iter().map(|(sandbox, _)| sandbox::memory(sandbox.id(), "VmRSS")).collect();
    loop {
        let before = source.now();
        thread::sleep(LOOK);
        let now = source.now();
        if now - before > LOOK + STALL {
            stalls.lock().unwrap_or_else(PoisonError::into_inner).0.push((before + LOOK, now));
        }
        if now > plan.length {
            return (begin.unwrap_or_default(), memory(callers));
        }
        if now >= next_change {
            let other = if source.world().revision().is_multiple_of(2) { "0" } else { "100" };
            source.put(other);
            next_change += CHANGE;
        }
        if begin.is_none() && now > settled {
            begin = Some(memory(callers));
        }
        if now >= next_visit {
            next_visit = now + Duration::from_millis(500);
            callers.iter_mut().for_each(|(sandbox, caller)| caller.visit(sandbox, now));
            if callers.iter().all(|(_, caller)| caller.state().dead) {
                return (begin.unwrap_or_default(), Vec::new());
            }
        }
    }
}

fn outcome(plan: &Plan, source: &Source, stalls: &Mutex<Stalls>, callers: &Callers, rss_begin: &[u64], rss_end: &[u64]) -> Outcome {
    let (seconds, requests) = (source.now().as_secs_f64().min(plan.length.as_secs_f64()), source.requests());
    let mut times = Times::new();
    let puts = source.world().puts.clone();
    let mut last_old = vec![Duration::ZERO; puts.len()];
    let mut total = State::new();
    let mut log = (0, 0);
    for (sandbox, caller) in callers {
        let state = caller.state();
        times.merge(&state.times);
        for (mine, last) in last_old.iter_mut().zip(&state.last_old) {
            *mine = (*mine).max(*last);
        }
        total.errors += state.errors;
        total.fallbacks += state.fallbacks;
        total.broken += state.broken;
        total.oldest = [total.oldest[0].max(state.oldest[0]), total.oldest[1].max(state.oldest[1])];
        total.dead_ones += u64::from(state.dead);
        if let Some((at, text)) = &state.first_broken
            && total.first_broken.as_ref().is_none_or(|(other, _)| at < other)
        {
            total.first_broken = Some((*at, text.clone()));
        }
        if let Ok(said) = sandbox.said.lock() {
            log = (log.0 + said.lines, log.1 + said.not_json);
        }
    }
    let quiet: Vec<f64> = (1..puts.len())
        .filter(|version| {
            let (from, to) = (puts[*version].saturating_sub(QUIET), puts[*version] + QUIET);
            to <= plan.length && !source.faults().iter().any(|window| window.from < to && from < window.felt())
        })
        .map(|version| rounded(last_old[version].saturating_sub(puts[version]).as_secs_f64() * 1e3))
        .collect();
    let ms = |d: Duration| rounded(d.as_secs_f64() * 1e3);
    let grown = rss_end.iter().zip(rss_begin).map(|(end, begin)| *end as i64 - *begin as i64);
    Outcome {
        seed: plan.seed,
        seconds: rounded(seconds),
        sandboxes: plan.sandboxes,
        answers: times.count(),
        rate: rounded(times.count() as f64 / seconds),
        call_us_p50: times.at(0.5),
        call_us_p99: times.at(0.99),
        call_ms_max: ms(times.max()),
        errors: total.errors,
        fallbacks: total.fallbacks,
        deaths: total.dead_ones,
        broken: total.broken,
        first_broken: total.first_broken.map(|(_, text)| text),
        changes: puts.len() - 1,
        quiet_changes: quiet.len(),
        change_ms: Spread::of(quiet),
        oldest_ms_working: ms(total.oldest[0]),
        oldest_ms_failing: ms(total.oldest[1]),
        faults: source.faults().iter().map(|window| format!("{:?}", window.fault)).collect(),
        fault_seconds: rounded(source.faults().iter().map(|window| window.to - window.from).sum::<Duration>().as_secs_f64()),
        requests,
        requests_rate: rounded(requests as f64 / seconds / plan.sandboxes as f64),
        rss_begin_kib: rss_begin.iter().copied().max().unwrap_or(0),
        rss_end_kib: rss_end.iter().copied().max().unwrap_or(0),
        growth_kib: grown.max().unwrap_or(0),
        log_lines: log.0,
        log_lines_not_json: log.1,
        stalled_ms: ms(stalls.lock().unwrap_or_else(PoisonError::into_inner).0.iter().map(|(from, to)| *to - *from).sum()),
    }
}

/// An event in which the last twelve digits of the conversation's id count the calls.
#[derive(Clone)]
struct Template {
    bytes: Vec<u8>,
    at: usize,
}

impl Template {
    const DIGITS: usize = 12;

    fn of(event: &[u8]) -> anyhow::Result<Template> {
        let mut event: Value = serde_json::from_slice(event).context("the event is not JSON")?;
        let mark = "0".repeat(Template::DIGITS);
        let id = format!("3f1c0e52-7a4d-4c1b-9a76-{mark}");
        event.as_object_mut().context("the event is no object")?.insert("conversationId".into(), id.clone().into());
        let text = event.to_string();
        let at = text.find(&id).context("the event has no conversation")? + id.len() - mark.len();
        Ok(Template { bytes: text.into_bytes(), at })
    }

    fn number(&self, number: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[self.at..self.at + Template::DIGITS].copy_from_slice(format!("{number:012}").as_bytes());
        bytes
    }
}

/// Asks one sandbox without a pause, and judges what it says.
struct Caller {
    number: usize,
    source: Arc<Source>,
    reads: Arc<Mutex<Reads>>,
    stalls: Arc<Mutex<Stalls>>,
    template: Template,
    until: Duration,
    state: Mutex<State>,
}

struct State {
    asked: u64,
    /// While an answer is waited for.
    waiting: Option<Duration>,
    times: Times,
    revision: u64,
    /// When each version's predecessor was last answered.
    last_old: Vec<Duration>,
    /// While the source worked, and otherwise.
    oldest: [Duration; 2],
    errors: u64,
    fallbacks: u64,
    broken: u64,
    first_broken: Option<(Duration, String)>,
    dead: bool,
    dead_ones: u64,
}

impl State {
    fn new() -> State {
        State {
            asked: 0,
            waiting: None,
            times: Times::new(),
            revision: 0,
            last_old: Vec::new(),
            oldest: [Duration::ZERO; 2],
            errors: 0,
            fallbacks: 0,
            broken: 0,
            first_broken: None,
            dead: false,
            dead_ones: 0,
        }
    }

    fn breaks(&mut self, at: Duration, text: String) {
        self.broken += 1;
        self.first_broken.get_or_insert((at, text));
    }
}

impl Caller {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is it still there, and does it answer?
    fn visit(&self, sandbox: &mut Sandbox, now: Duration) {
        let mut state = self.state();
        if !state.dead
            && let Some(status) = sandbox.ended()
        {
            state.dead = true;
            let text = format!("sandbox {} ended at {:.3} s: {status}. {}", self.number, now.as_secs_f64(), sandbox.errors());
            state.first_broken.get_or_insert((now, text));
        }
        if let Some(since) = state.waiting.filter(|since| now > *since + PATIENCE) {
            state.waiting = None;
            let text = format!("sandbox {}: call {} of {:.3} s is not answered after 3 s", self.number, state.asked, since.as_secs_f64());
            state.breaks(now, text);
        }
    }

    /// What is wrong with an answer.
    fn judge(&self, state: &mut State, when: When, body: &[u8]) -> Result<(), String> {
        let answer: Answer<'_> = serde_json::from_slice(body).map_err(|error| format!("is no answer: {error}"))?;
        let world = self.source.world();
        if let Some(wrong) = answer.wrong(world.percentage(answer.revision), ROLLOUT_ID) {
            return Err(wrong);
        }
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.fallback {
            state.fallbacks += 1;
            return rules::early(when, &reads, &stalls).map_or(Ok(()), Err);
        }
        let versions = world.puts.len();
        drop(world);
        state.last_old.resize(versions, Duration::ZERO);
        state.last_old[answer.revision as usize..].fill(when.at);
        if answer.revision < state.revision {
            return Err(format!("revision {} was answered before", state.revision));
        }
        state.revision = answer.revision;
        let (age, working) = rules::age(answer.revision, when, &reads, self.source.faults(), &stalls)?;
        let oldest = &mut state.oldest[usize::from(!working)];
        *oldest = (*oldest).max(age);
        Ok(())
    }
}

impl Script for Caller {
    fn polled(&self, _: Instant) -> Option<Event> {
        if self.source.now() > self.until {
            return None;
        }
        let mut state = self.state();
        if state.asked == 0 {
            self.reads.lock().unwrap_or_else(PoisonError::into_inner).in_init = false;
        }
        state.asked += 1;
        Some(Event { number: state.asked, body: self.template.number(state.asked), gap: Duration::ZERO })
    }

    fn sent(&self, at: Instant) {
        self.state().waiting = Some(self.source.at(at));
    }

    fn answered(&self, at: Instant, body: &[u8]) {
        let mut state = self.state();
        let at = self.source.at(at);
        let sent = state.waiting.take().unwrap_or(at);
        state.times.add(at.saturating_sub(sent));
        if let Err(wrong) = self.judge(&mut state, When { sent, at }, body) {
            let (asked, body) = (state.asked, String::from_utf8_lossy(body).into_owned());
            let at_fault = self.source.faults().iter().rfind(|window| window.from < at);
            let fault = at_fault.map_or("no fault so far".to_owned(), |w| {
                format!("last fault {:?} from {:.3} to {:.3} s", w.fault, w.from.as_secs_f64(), w.to.as_secs_f64())
            });
            let place = format!("sandbox {}, call {asked}, answered at {:.3} s", self.number, at.as_secs_f64());
            state.breaks(at, format!("{place} ({fault}): {wrong}: {body}"));
        }
    }

    fn failed(&self, at: Instant, body: &[u8]) {
        let at = self.source.at(at);
        if at > self.until {
            return; // the run is over, and its sandboxes are ended
        }
        let mut state = self.state();
        state.waiting = None;
        state.errors += 1;
        let text = format!("sandbox {}, at {:.3} s, an error: {}", self.number, at.as_secs_f64(), String::from_utf8_lossy(body));
        state.first_broken.get_or_insert((at, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_conversation_of_its_own() {
        let template = Template::of(br#"{"flow":"main_ivr","conversationId":"x","caller":"+15551230000"}"#).unwrap();
        let event: Value = serde_json::from_slice(&template.number(1_234_567)).unwrap();
        assert_eq!(event["conversationId"], "3f1c0e52-7a4d-4c1b-9a76-000001234567");
        assert_eq!((event["flow"].as_str(), event["caller"].as_str()), (Some("main_ivr"), Some("+15551230000")));
    }
}
