//! What goes wrong with the source and when: a schedule made of a seed.

use fastrand::Rng;
use std::time::Duration;

/// One way in which a source fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// 400, the service's own words for "too many".
    Throttled,
    /// The request is read and never answered.
    Hangs,
    /// Answered after 20 to 400 ms: some in time, some after the caller has given up.
    Slow,
    /// Answered with what is no answer.
    Garbage,
    /// Connections are reset, and new ones refused.
    Gone,
    /// 400, the role may not.
    Denied,
    /// 500 and 503.
    Broken,
    /// DynamoDB alone: some keys, or all, come back unprocessed. Parameter Store is throttled instead.
    Unprocessed,
    /// Every other request fails, in any of the ways above but `Gone`.
    Unsteady,
}

impl Fault {
    const ALL: [Fault; 9] = [
        Fault::Throttled,
        Fault::Hangs,
        Fault::Slow,
        Fault::Garbage,
        Fault::Gone,
        Fault::Denied,
        Fault::Broken,
        Fault::Unprocessed,
        Fault::Unsteady,
    ];

    /// One of those that a single request can meet.
    pub(crate) fn of_one_request(rng: &mut Rng) -> Fault {
        loop {
            let fault = Fault::ALL[rng.usize(..Fault::ALL.len())];
            if !matches!(fault, Fault::Gone | Fault::Unsteady) {
                return fault;
            }
        }
    }
}

/// A fault and its time, both ends from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) fault: Fault,
}

impl Window {
    /// When the last of what it met is given up: a request that hangs is waited for, by a caller for 250 ms and once after the answer for a second.
    pub(crate) fn felt(&self) -> Duration {
        match self.fault {
            Fault::Hangs | Fault::Unsteady => self.to + Duration::from_secs(1),
            _ => self.to,
        }
    }

    pub(crate) fn holds(&self, at: Duration) -> bool {
        self.from <= at && at < self.to
    }
}

/// Short faults that the last values bridge, and every third one so long that they run out; between them it is calm for up to `calm`.
/// None begins in the first second, and every kind comes up before any comes up again.
pub(crate) fn schedule(seed: u64, length: Duration, calm: Duration) -> Vec<Window> {
    let mut rng = Rng::with_seed(seed);
    let (mut windows, mut kinds, mut at) = (Vec::new(), Vec::new(), Duration::from_secs(1));
    loop {
        if kinds.is_empty() {
            kinds = Fault::ALL.to_vec();
            rng.shuffle(&mut kinds);
        }
        let Some(fault) = kinds.pop() else { return windows };
        let from = at + calm.mul_f64(0.25 + 0.75 * rng.f64());
        let seconds = if windows.len() % 3 == 2 { 6.0 + 2.0 * rng.f64() } else { 0.2 + 1.3 * rng.f64() };
        let to = from + Duration::from_secs_f64(seconds);
        // The end is calm, so that what the last fault did is seen.
        if to + Duration::from_secs(1) > length {
            return windows;
        }
        windows.push(Window { from, to, fault });
        at = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_is_a_schedule_with_every_fault_in_it() {
        let (minutes, calm) = (Duration::from_secs(180), Duration::from_secs(8));
        for seed in 0..50 {
            let windows = schedule(seed, minutes, calm);
            assert_eq!(windows, schedule(seed, minutes, calm), "seed {seed}");
            assert_eq!(windows.iter().map(|w| w.fault).collect::<BTreeSet<_>>().len(), Fault::ALL.len(), "seed {seed}");
            assert!(windows.is_sorted_by(|a, b| a.to < b.from), "seed {seed}");
            assert!(windows.iter().any(|w| w.to - w.from > Duration::from_secs(5)), "seed {seed}");
        }
    }
}
