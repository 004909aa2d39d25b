//! How callers behave: when they call, how long they stay in the IVR, and how the call leaves the flow.
//!
//! The figures are fitted (`fit/fit.py`) to 17,313 calls of 14 days. Source: Guedj and Mandelbaum, Technion: anonymous bank call
//! centre, February 1999. What the log cannot tell (errors of a flow, calls that end well without an agent) is set by hand.

use crate::chance::{Draws, number_of};
use crate::flow::Behavior;

/// A time whose logarithm is normal; seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormal {
    /// Mean of the logarithm.
    pub mu: f64,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
}

/// Share of a day's calls by the hour in which they arrive, from midnight.
pub const HOURLY_SHARE: [f64; 24] = [
    0.0035, 0.0009, 0.0006, 0.0002, 0.0003, 0.0008, 0.0034, 0.0268, 0.0674, 0.0716, 0.0810, 0.0747, 0.0643, 0.0832, 0.0682, 0.0651, 0.0738,
    0.0561, 0.0527, 0.0474, 0.0419, 0.0485, 0.0381, 0.0295,
];
/// Time in the IVR: median 8.7 s, mean 10.2 s.
pub const IVR_TIME: LogNormal = LogNormal { mu: 2.165, sigma: 0.562 };
/// Share of callers who hang up before they reach a queue.
pub const HANGS_UP_IN_IVR: f64 = 0.060;
/// Share of callers who have to wait in the queue.
pub const WAITS: f64 = 0.511;
/// Wait of those who wait: median 40 s.
pub const QUEUE_WAIT: LogNormal = LogNormal { mu: 3.699, sigma: 1.105 };
/// Share of the waiting who give up.
pub const ABANDONS_QUEUE: f64 = 0.211;
/// Mean patience in the queue, seconds: all waiting divided by the abandonments seen.
pub const PATIENCE_MEAN_S: f64 = 323.0;
/// Time with an agent: median 92 s.
pub const SERVICE_TIME: LogNormal = LogNormal { mu: 4.517, sigma: 1.245 };

/// Share of an agent's time that is after-call work.
const AFTER_CALL: f64 = 0.15;
/// Share of callers who are put on hold, and of the agent's time that they are.
const HOLDS: (f64, f64) = (0.15, 0.2);
/// Nobody waits or talks for longer.
const LONGEST_SERVICE_MS: f64 = 60.0 * 60_000.0;
/// Nobody stays in an IVR for longer.
const LONGEST_MS: f64 = 30.0 * 60_000.0;

/// One call as it reaches the traffic cop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival {
    /// Milliseconds since the epoch.
    pub(crate) at: i64,
    /// Genesys conversation id.
    pub(crate) conversation: String,
}

/// How a call leaves a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// The flow broke off.
    Error,
    /// The caller hung up.
    Abandon,
    /// To an agent's queue.
    Transfer,
    /// The flow served the caller and ended the call.
    Contained,
    /// From the traffic cop to one of its flows.
    ToFlow,
}

impl Exit {
    /// Whether the caller did not get what they called for.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Exit::Error | Exit::Abandon)
    }
}

/// What becomes of one call in the flow it reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fate {
    pub(crate) exit: Exit,
    /// Time in the traffic cop.
    pub(crate) cop_ms: i64,
    /// Time in the flow.
    pub(crate) flow_ms: i64,
    /// How late each of the call's four reports is, as shares of the longest jitter.
    pub(crate) late: [f64; 4],
}

/// The calls of one minute (`minute` = minutes since the epoch), in order: a Poisson process of `per_hour` calls.
pub(crate) fn arrivals(seed: u64, slot: &str, minute: i64, per_hour: f64) -> Vec<Arrival> {
    let mut draws = Draws::of(seed, &[number_of("arrivals"), number_of(slot), minute as u64]);
    let mut calls = Vec::new();
    // Without calls the first gap is infinite.
    let mut gap = || -draws.unit().ln() * 3_600_000.0 / per_hour;
    let mut at = gap();
    while at < 60_000.0 {
        calls.push(at as i64);
        at += gap();
    }
    calls.into_iter().map(|at| Arrival { at: minute * 60_000 + at, conversation: draws.uuid() }).collect()
}

/// Calls per hour in the hour of day that `minute` lies in, given the mean over the day.
pub(crate) fn rate(minute: i64, mean_per_hour: f64, by_hour: bool) -> f64 {
    if !by_hour {
        return mean_per_hour;
    }
    let hour = minute.div_euclid(60).rem_euclid(24) as usize;
    mean_per_hour * 24.0 * HOURLY_SHARE[hour] / HOURLY_SHARE.iter().sum::<f64>()
}

/// Depends on the seed, the conversation and the behavior alone. Two behaviors see the same luck, so a worse one only adds harm.
pub(crate) fn fate(seed: u64, conversation: &str, behavior: &Behavior) -> Fate {
    let mut draws = Draws::of(seed, &[number_of("fate"), number_of(conversation)]);
    let luck = draws.unit();
    let natural = (IVR_TIME.mu + IVR_TIME.sigma * draws.normal()).exp() * 1000.0 * behavior.duration_factor;
    let cut = draws.unit();
    let exit = match luck {
        luck if luck < behavior.error => Exit::Error,
        luck if luck < behavior.error + behavior.abandon => Exit::Abandon,
        luck if luck < behavior.error + behavior.abandon + behavior.transfer => Exit::Transfer,
        _ => Exit::Contained,
    };
    // A flow that breaks does so early; who hangs up does so anywhere.
    let share = match exit {
        Exit::Error => 0.1 + 0.3 * cut,
        Exit::Abandon => 0.2 + 0.8 * cut,
        _ => 1.0,
    };
    let flow_ms = (natural * share).clamp(200.0, LONGEST_MS) as i64;
    let cop_ms = 200 + (draws.unit() * 600.0) as i64;
    Fate { exit, cop_ms, flow_ms, late: std::array::from_fn(|_| draws.unit()) }
}

/// What becomes of a call that was handed to an agent's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Service {
    /// Time in the queue.
    pub(crate) wait_ms: i64,
    /// Time with the agent; `None` if the caller gave up first.
    pub(crate) agent: Option<Agent>,
}

/// An agent's time with one caller, and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) talk_ms: i64,
    pub(crate) held_ms: i64,
    pub(crate) after_ms: i64,
}

impl Agent {
    pub(crate) fn handle_ms(self) -> i64 {
        self.talk_ms + self.held_ms + self.after_ms
    }
}

/// As [`fate`]: a version whose callers keep agents longer has the same callers, and the same queue.
pub(crate) fn service(seed: u64, conversation: &str, behavior: &Behavior) -> Service {
    let mut draws = Draws::of(seed, &[number_of("service"), number_of(conversation)]);
    let ms = |seconds: f64| (seconds * 1000.0).min(LONGEST_SERVICE_MS);
    let mut log_normal = |time: LogNormal| ms((time.mu + time.sigma * draws.normal()).exp());
    let (wait, handle) = (log_normal(QUEUE_WAIT), log_normal(SERVICE_TIME) * behavior.handle_factor);
    let patience = ms(-draws.unit().ln() * PATIENCE_MEAN_S);
    let wait = if draws.unit() < WAITS { wait } else { 0.0 };
    let held = if draws.unit() < HOLDS.0 { HOLDS.1 } else { 0.0 };
    if wait > patience {
        return Service { wait_ms: patience as i64, agent: None };
    }
    let part = |share: f64| (handle * share) as i64;
    let agent = Agent { talk_ms: part(1.0 - held - AFTER_CALL), held_ms: part(held), after_ms: part(AFTER_CALL) };
    Service { wait_ms: wait as i64, agent: Some(agent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_the_rate_asked_for_and_lie_in_their_minute() {
        let minutes: Vec<_> = (0..600).map(|m| arrivals(1, "main_ivr", m, 3000.0)).collect();
        let calls: usize = minutes.iter().map(Vec::len).sum();
        assert!((29_000..31_000).contains(&calls), "{calls} in 10 h at 3000/h");
        for (minute, calls) in minutes.iter().enumerate() {
            assert!(calls.is_sorted_by_key(|c| c.at) && calls.iter().all(|c| c.at / 60_000 == minute as i64));
        }
        assert_eq!(arrivals(1, "main_ivr", 7, 3000.0), minutes[7]);
        assert_ne!(arrivals(2, "main_ivr", 7, 3000.0), minutes[7]);
    }

    #[test]
    fn the_hourly_profile_keeps_the_mean_of_the_day() {
        let mean = (0..24).map(|hour| rate(hour * 60, 3000.0, true)).sum::<f64>() / 24.0;
        assert!((mean - 3000.0).abs() < 1e-6);
        assert!(rate(13 * 60, 3000.0, true) > 20.0 * rate(4 * 60, 3000.0, true));
    }

    #[test]
    fn outcomes_follow_the_behavior_and_a_worse_one_only_adds_harm() {
        let healthy = Behavior::default();
        let broken = Behavior { error: 0.15, ..healthy };
        let mut errors = (0, 0);
        for i in 0..20_000 {
            let id = format!("c-{i}");
            let (a, b) = (fate(1, &id, &healthy).exit, fate(1, &id, &broken).exit);
            errors.0 += u32::from(a == Exit::Error);
            errors.1 += u32::from(b == Exit::Error);
            assert!(a != Exit::Error || b == Exit::Error);
        }
        assert!((250..350).contains(&errors.0) && (2850..3150).contains(&errors.1), "{errors:?}");
    }

    #[test]
    fn callers_wait_give_up_and_are_served_as_in_the_log() {
        let usual = Behavior::default();
        let services: Vec<Service> = (0..20_000).map(|i| service(1, &format!("c-{i}"), &usual)).collect();
        let waited = services.iter().filter(|s| s.wait_ms > 0).count() as f64;
        let gave_up = services.iter().filter(|s| s.agent.is_none()).count() as f64;
        assert!((waited / 20_000.0 - WAITS).abs() < 0.02, "{waited}");
        assert!((gave_up / waited - ABANDONS_QUEUE).abs() < 0.05, "{}", gave_up / waited);
        let mut handled: Vec<i64> = services.iter().filter_map(|s| s.agent).map(Agent::handle_ms).collect();
        handled.sort_unstable();
        let median = handled[handled.len() / 2];
        assert!((86_000..98_000).contains(&median), "{median}");
        let slower = Behavior { handle_factor: 1.3, ..usual };
        for (i, before) in services.iter().enumerate().take(1000) {
            let after = service(1, &format!("c-{i}"), &slower);
            assert_eq!((after.wait_ms, after.agent.is_some()), (before.wait_ms, before.agent.is_some()));
            let ratio = after.agent.map_or(1.3, |a| a.handle_ms() as f64 / before.agent.map_or(1.0, |b| b.handle_ms() as f64));
            assert!((ratio - 1.3).abs() < 0.01, "{ratio}");
        }
    }
}
