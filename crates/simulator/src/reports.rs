//! What the organization has measured: one cell per minute, flow, version and way out, and every conversation; a report counts once
//! it has arrived.

use crate::callers::{Exit, Service};
use std::collections::{BTreeMap, VecDeque};

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A call entered a flow.
    Entry,
    /// A call left a flow.
    Exit(Exit),
}

/// Minute since the epoch first, so that a range of minutes is a range of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) minute: i64,
    /// Index of the flow.
    pub(crate) flow: usize,
    /// Index of its version.
    pub(crate) version: usize,
    pub(crate) kind: Kind,
}

/// Counted calls and their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) count: u64,
    pub(crate) sum_ms: i64,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
}

impl Cell {
    pub(crate) fn one(ms: i64) -> Cell {
        Cell { count: 1, sum_ms: ms, min_ms: ms, max_ms: ms }
    }

    pub(crate) fn add(&mut self, other: Cell) {
        self.count += other.count;
        self.sum_ms += other.sum_ms;
        self.min_ms = self.min_ms.min(other.min_ms);
        self.max_ms = self.max_ms.max(other.max_ms);
    }
}

/// A call from its beginning to its end, as it will have been. What of it is known is a matter of the time of the question.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    /// Milliseconds since the epoch, like all of its times.
    pub(crate) start: i64,
    /// Index of the traffic cop and of its version, and when the caller left it.
    pub(crate) cop: (usize, usize, i64),
    /// The same of the flow behind it.
    pub(crate) flow: (usize, usize, i64),
    pub(crate) exit: Exit,
    /// What followed a transfer.
    pub(crate) service: Option<Service>,
    /// How much later anything of it is known, milliseconds.
    pub(crate) late: i64,
}

impl Conversation {
    /// When the caller hung up, or was. After-call work may go on.
    pub(crate) fn end(&self) -> i64 {
        let served = self.service.map_or(0, |s| s.wait_ms + s.agent.map_or(0, |a| a.talk_ms + a.held_ms));
        self.flow.2 + served
    }
}

/// Conversations are forgotten when they began so long ago, milliseconds.
const REMEMBERED: i64 = 48 * 3_600_000;

/// Reports that have arrived, as cells, and reports on their way.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    cells: BTreeMap<Key, Cell>,
    /// When it arrives (milliseconds since the epoch), what it counts, how long the call took.
    under_way: Vec<(i64, Key, i64)>,
    /// In the order of their beginning.
    conversations: VecDeque<Conversation>,
}

impl Reports {
    /// A thing happened at `at` and will be known at `arrives` (both milliseconds since the epoch).
    pub(crate) fn send(&mut self, at: i64, arrives: i64, (flow, version, kind): (usize, usize, Kind), duration_ms: i64) {
        self.under_way.push((arrives, Key { minute: at.div_euclid(60_000), flow, version, kind }, duration_ms));
    }

    /// A call came; calls come in order.
    pub(crate) fn remember(&mut self, conversation: Conversation) {
        self.conversations.push_back(conversation);
    }

    /// The conversations that began in `[from, to)`, milliseconds since the epoch.
    pub(crate) fn begun(&self, from: i64, to: i64) -> impl Iterator<Item = &Conversation> {
        let at = |time: i64| self.conversations.partition_point(|c| c.start < time);
        self.conversations.range(at(from)..at(to.max(from)))
    }

    /// Counts what has arrived by `now`.
    pub(crate) fn receive(&mut self, now: i64) {
        while self.conversations.front().is_some_and(|c| c.start < now - REMEMBERED) {
            self.conversations.pop_front();
        }
        let (arrived, later): (Vec<_>, Vec<_>) = self.under_way.drain(..).partition(|(arrives, ..)| *arrives <= now);
        self.under_way = later;
        for (_, key, ms) in arrived {
            self.cells.entry(key).and_modify(|cell| cell.add(Cell::one(ms))).or_insert(Cell::one(ms));
        }
    }

    /// The cells of the minutes that begin in `[from, to)`, milliseconds since the epoch.
    pub(crate) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = (&Key, &Cell)> {
        let first =
            |ms: i64| Key { minute: ms.div_euclid(60_000) + i64::from(ms.rem_euclid(60_000) > 0), flow: 0, version: 0, kind: Kind::Entry };
        self.cells.range(first(from)..first(to.max(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_in_its_own_minute_and_only_once_it_has_arrived() {
        let mut reports = Reports::default();
        reports.send(61_000, 150_000, (0, 0, Kind::Entry), 5);
        reports.receive(149_999);
        assert_eq!(reports.between(0, 600_000).count(), 0);
        reports.receive(150_000);
        assert_eq!(reports.between(60_000, 120_000).map(|(_, cell)| cell.count).sum::<u64>(), 1);
        assert_eq!(reports.between(0, 60_000).count() + reports.between(120_000, 600_000).count(), 0);
    }
}
