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
}
