//! Not asking faster than Genesys Cloud allows: at most 10 requests in a second, at most 300 in a minute.

use jiff::{SignedDuration, Timestamp};
use std::collections::VecDeque;

/// What the vendor allows one token in a minute.
const PER_MINUTE: usize = 300;
/// What Serin allows itself in a second.
const PER_SECOND: usize = 10;

/// Longer than anybody waits for a place.
const AHEAD: SignedDuration = SignedDuration::from_mins(2);

/// What the vendor says of its limit with every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Requests that it takes in a minute.
    pub(crate) allowed: u32,
    /// Requests that it has counted in this one.
    pub(crate) count: u32,
    /// Seconds until it counts from zero again.
    pub(crate) reset: Option<u32>,
}

/// When the latest requests were let go, and what the vendor said of its limit.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Oldest first.
    gone: VecDeque<Timestamp>,
    /// The latest, and until when its count stands.
    limit: Option<(Limit, Timestamp)>,
}

impl Pace {
    /// When the next request may go, and takes that place; `None`, taking none, if that is after `until`.
    pub(crate) fn next(&mut self, now: Timestamp, until: Timestamp) -> Option<Timestamp> {
        // No place is taken that far ahead: the clock was set back.
        if self.gone.back().is_some_and(|last| *last > now + AHEAD) {
            self.gone.clear();
        }
        let at = self.free(now);
        if at > until {
            return None;
        }
        if self.gone.len() == PER_MINUTE {
            self.gone.pop_front();
        }
        self.gone.push_back(at);
        Some(at)
    }

    /// Remembers what the vendor said.
    pub(crate) fn note(&mut self, limit: Limit, now: Timestamp) {
        let reset = limit.reset.map_or(SignedDuration::from_mins(1), |seconds| SignedDuration::from_secs(seconds.into()));
        self.limit = Some((limit, now + reset));
    }

    /// Requests that the vendor still takes; `None` before it told.
    pub(crate) fn left(&self, now: Timestamp) -> Option<u32> {
        let (limit, until) = self.limit?;
        Some(if now < until { limit.allowed.saturating_sub(limit.count) } else { limit.allowed })
    }

    fn free(&self, now: Timestamp) -> Timestamp {
        let room = |count: usize, span: SignedDuration| {
            let blocking = self.gone.len().checked_sub(count).and_then(|i| self.gone.get(i))?;
            Some(*blocking + span)
        };
        let second = room(PER_SECOND, SignedDuration::from_secs(1));
        let minute = room(PER_MINUTE, SignedDuration::from_mins(1));
        [Some(now), second, minute].into_iter().flatten().max().unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn seconds(pace: &mut Pace, requests: usize) -> Vec<i64> {
        (0..requests).map(|_| pace.next(START, Timestamp::MAX).unwrap().duration_since(START).as_secs()).collect()
    }

    #[test]
    fn ten_go_at_once_and_then_ten_a_second() {
        let times = seconds(&mut Pace::default(), 25);
        assert_eq!(times[..10], [0; 10]);
        assert_eq!(times[10..20], [1; 10]);
        assert_eq!(times[20..], [2; 5]);
    }

    #[test]
    fn three_hundred_go_in_a_minute() {
        let times = seconds(&mut Pace::default(), 301);
        assert_eq!((times[299], times[300]), (29, 60));
    }

    #[test]
    fn who_cannot_wait_takes_no_place() {
        let mut pace = Pace::default();
        seconds(&mut pace, 10);
        assert_eq!(pace.next(START, START), None);
        assert_eq!(pace.next(START, Timestamp::MAX), Some(START + SignedDuration::from_secs(1)));
        assert_eq!(pace.next(START + SignedDuration::from_hours(1), Timestamp::MAX), Some(START + SignedDuration::from_hours(1)));
    }

    #[test]
    fn what_the_vendor_counted_stands_until_it_counts_anew() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(START), None);
        pace.note(Limit { allowed: 300, count: 120, reset: Some(20) }, START);
        assert_eq!(pace.left(START + SignedDuration::from_secs(19)), Some(180));
        assert_eq!(pace.left(START + SignedDuration::from_secs(20)), Some(300));
        pace.note(Limit { allowed: 300, count: 301, reset: None }, START);
        assert_eq!(pace.left(START + SignedDuration::from_secs(59)), Some(0));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody() {
        let mut pace = Pace::default();
        (0..10).for_each(|_| assert!(pace.next(START + SignedDuration::from_hours(1), Timestamp::MAX).is_some()));
        assert_eq!(pace.next(START, Timestamp::MAX), Some(START));
    }
}
