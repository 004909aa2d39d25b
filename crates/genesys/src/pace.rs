//! Not asking faster than Genesys Cloud allows: at most 10 requests in a second, at most 300 in a minute.

use jiff::{SignedDuration, Timestamp};
use std::collections::VecDeque;

/// What the vendor allows one token in a minute.
const PER_MINUTE: usize = 300;
/// What Serin allows itself in a second.
const PER_SECOND: usize = 10;

/// Longer than anybody waits for a place.
const AHEAD: SignedDuration = SignedDuration::from_mins(2);

/// When the latest requests were let go, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Pace(VecDeque<Timestamp>);

impl Pace {
    /// When the next request may go, and takes that place; `None`, taking none, if that is after `until`.
    pub(crate) fn next(&mut self, now: Timestamp, until: Timestamp) -> Option<Timestamp> {
        // No place is taken that far ahead: the clock was set back.
        if self.0.back().is_some_and(|last| *last > now + AHEAD) {
            self.0.clear();
        }
        let at = self.free(now);
        if at > until {
            return None;
        }
        if self.0.len() == PER_MINUTE {
            self.0.pop_front();
        }
        self.0.push_back(at);
        Some(at)
    }

    fn free(&self, now: Timestamp) -> Timestamp {
        let room = |count: usize, span: SignedDuration| {
            let blocking = self.0.len().checked_sub(count).and_then(|i| self.0.get(i))?;
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
    fn a_clock_that_is_set_back_holds_nobody() {
        let mut pace = Pace::default();
        (0..10).for_each(|_| assert!(pace.next(START + SignedDuration::from_hours(1), Timestamp::MAX).is_some()));
        assert_eq!(pace.next(START, Timestamp::MAX), Some(START));
    }
}
