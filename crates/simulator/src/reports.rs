//! What the organization has measured: one cell per minute, flow, version and way out, and every conversation; a report counts once
//! it has arrived.

use crate::callers::{Exit, Service};
use serin_core::cohort::Cohort;
use std::collections::{BTreeMap, VecDeque};

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A call entered a flow.
    Entry,
    /// A call left a flow.
    Exit(Exit),
    /// A call left a branch of a gated flow: the slot by its index, the branch, and whether the call came to nothing.
    Outcome { slot: usize, branch: Cohort, failed: bool },
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
    /// The number dialled, as [`Reports::number_for`] gave it.
    pub(crate) number: usize,
}

/// Something that happened to a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// When it happened, milliseconds since the epoch.
    pub(crate) at: i64,
    /// When it will be known.
    pub(crate) arrives: i64,
    /// Index of the flow.
    pub(crate) flow: usize,
    /// Index of its version.
    pub(crate) version: usize,
    pub(crate) kind: Kind,
    /// The number dialled, as [`Reports::number_for`] gave it.
    pub(crate) number: usize,
    /// How long the call took.
    pub(crate) ms: i64,
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
    /// Index of the slot whose call it was.
    pub(crate) slot: usize,
    /// The number dialled, as [`Reports::number_for`] gave it.
    pub(crate) number: usize,
    /// Milliseconds since the epoch, like all of its times.
    pub(crate) start: i64,
    /// Index of the traffic cop and of its version, and when the caller left it; `None` if the call entered the flow directly.
    pub(crate) cop: Option<(usize, usize, i64)>,
    /// The same of the flow that served the caller.
    pub(crate) flow: (usize, usize, i64),
    pub(crate) exit: Exit,
    /// The branch taken in a gated flow.
    pub(crate) branch: Option<Cohort>,
    /// The label that the gate in the flow answered.
    pub(crate) label: Option<String>,
    /// What followed a transfer.
    pub(crate) service: Option<Service>,
    /// How much later anything of it is known, milliseconds.
    pub(crate) late: i64,
}

impl Conversation {
    /// When the caller entered the flow that served them.
    pub(crate) fn entered(&self) -> i64 {
        self.cop.map_or(self.start, |(.., left)| left)
    }

    /// When the caller hung up, or was. After-call work may go on.
    pub(crate) fn end(&self) -> i64 {
        let served = self.service.map_or(0, |s| s.wait_ms + s.agent.map_or(0, |a| a.talk_ms + a.held_ms));
        self.flow.2 + served
    }
}

/// Conversations are forgotten when they began so long ago, milliseconds.
const REMEMBERED: i64 = 48 * 3_600_000;
/// A restated exit is put right so long after it arrived, milliseconds.
const RESTATED_AFTER: i64 = 3 * 60_000;

/// Reports that have arrived, as cells, and reports on their way.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    cells: BTreeMap<Key, Cell>,
    /// When each arrives (milliseconds since the epoch), its cell, and what it does to it. What is discounted was sent before.
    under_way: Vec<(i64, Key, Change)>,
    /// In the order of their beginning.
    conversations: VecDeque<Conversation>,
    /// Every number that was dialled.
    numbers: Vec<String>,
    /// Reports of calls that come now arrive so many milliseconds later than they would.
    delay: i64,
    /// Share of exits that are first counted as contained.
    restated: f64,
    /// Index of the flow of which nothing is told.
    silent: Option<usize>,
}

/// What a report does to its cell: a call that took so many milliseconds is counted, or no longer counted.
#[derive(Debug, Clone, Copy)]
enum Change {
    Count(i64),
    Discount(i64),
}

impl Reports {
    /// Reports of calls that come from now on arrive so many seconds later; 0 ends it.
    pub(crate) fn delay(&mut self, seconds: f64) {
        self.delay = (seconds.clamp(0.0, 86_400.0) * 1000.0) as i64;
    }

    /// From now on this share of the exits from flows counts as contained at first, and as what it was three minutes later; 0 ends it.
    pub(crate) fn restate(&mut self, share: f64) {
        self.restated = share;
    }

    /// No cell of this flow is told, as if nothing had happened; `None` ends it.
    pub(crate) fn silence(&mut self, flow: Option<usize>) {
        self.silent = flow;
    }

    /// What stands for a number in reports.
    pub(crate) fn number_for(&mut self, dnis: &str) -> usize {
        self.numbers.iter().position(|known| known == dnis).unwrap_or_else(|| {
            self.numbers.push(dnis.to_owned());
            self.numbers.len() - 1
        })
    }

    pub(crate) fn dnis(&self, number: usize) -> &str {
        &self.numbers[number]
    }

    /// A thing happened and will be known.
    pub(crate) fn send(&mut self, report: Report) {
        self.push(report, Change::Count(report.ms));
    }

    /// Sends the exit from the flow that served the caller; `luck`, uniform in `(0, 1)`, says whether it is restated.
    pub(crate) fn send_exit(&mut self, report: Report, luck: f64) {
        if luck >= self.restated {
            return self.send(report);
        }
        let mistaken = Report { kind: Kind::Exit(Exit::Contained), ..report };
        self.send(mistaken);
        let arrives = report.arrives + RESTATED_AFTER;
        self.push(Report { arrives, ..mistaken }, Change::Discount(report.ms));
        self.send(Report { arrives, ..report });
    }

    fn push(&mut self, report: Report, change: Change) {
        let Report { at, arrives, flow, version, kind, number, ms: _ } = report;
        self.under_way.push((arrives + self.delay, Key { minute: at.div_euclid(60_000), flow, version, kind, number }, change));
    }

    /// A call came; calls come in order.
    pub(crate) fn remember(&mut self, conversation: Conversation) {
        self.conversations.push_back(Conversation { late: conversation.late + self.delay, ..conversation });
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
        for (_, key, change) in arrived {
            match change {
                Change::Count(ms) => {
                    self.cells.entry(key).and_modify(|cell| cell.add(Cell::one(ms))).or_insert(Cell::one(ms));
                }
                Change::Discount(ms) => self.discount(key, ms),
            }
        }
    }

    /// The bounds of what is left stay as wide as they were.
    fn discount(&mut self, key: Key, ms: i64) {
        let Some(cell) = self.cells.get_mut(&key) else { return };
        cell.count -= 1;
        cell.sum_ms -= ms;
        if cell.count == 0 {
            self.cells.remove(&key);
        }
    }

    /// The cells of the minutes that begin in `[from, to)`, milliseconds since the epoch; none of a silent flow.
    pub(crate) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = (&Key, &Cell)> {
        let minute = |ms: i64| ms.div_euclid(60_000) + i64::from(ms.rem_euclid(60_000) > 0);
        let first = |ms: i64| Key { minute: minute(ms), flow: 0, version: 0, kind: Kind::Entry, number: 0 };
        self.cells.range(first(from)..first(to.max(from))).filter(|(key, _)| self.silent != Some(key.flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Report = Report { at: 61_000, arrives: 150_000, flow: 0, version: 0, kind: Kind::Exit(Exit::Error), number: 0, ms: 5 };

    /// Exits of the first hour by their kind.
    fn exits(reports: &Reports) -> Vec<(Kind, u64)> {
        reports.between(0, 3_600_000).map(|(key, cell)| (key.kind, cell.count)).collect()
    }

    #[test]
    fn a_restated_exit_is_contained_for_three_minutes_and_then_what_it_was() {
        let mut reports = Reports::default();
        reports.restate(0.5);
        reports.send_exit(EXIT, 0.4);
        reports.send_exit(EXIT, 0.6);
        reports.receive(150_000);
        assert_eq!(exits(&reports), [(Kind::Exit(Exit::Error), 1), (Kind::Exit(Exit::Contained), 1)]);
        reports.receive(330_000);
        assert_eq!(exits(&reports), [(Kind::Exit(Exit::Error), 2)]);
    }

    #[test]
    fn of_a_silent_flow_there_is_nothing_and_of_the_others_everything() {
        let mut reports = Reports::default();
        reports.send(EXIT);
        reports.send(Report { flow: 1, ..EXIT });
        reports.receive(150_000);
        reports.silence(Some(0));
        assert!(reports.between(0, 3_600_000).all(|(key, _)| key.flow == 1));
        reports.silence(None);
        assert_eq!(exits(&reports).len(), 2);
    }

    #[test]
    fn a_delay_is_for_what_happens_while_it_lasts() {
        let mut reports = Reports::default();
        reports.delay(60.0);
        reports.send(EXIT);
        reports.delay(0.0);
        reports.send(Report { flow: 1, ..EXIT });
        reports.receive(150_000);
        assert_eq!(exits(&reports).len(), 1);
        reports.receive(210_000);
        assert_eq!(exits(&reports).len(), 2);
    }

    #[test]
    fn a_report_counts_in_its_own_minute_and_only_once_it_has_arrived() {
        let mut reports = Reports::default();
        reports.send(EXIT);
        reports.receive(149_999);
        assert_eq!(reports.between(0, 600_000).count(), 0);
        reports.receive(150_000);
        assert_eq!(reports.between(60_000, 120_000).map(|(_, cell)| cell.count).sum::<u64>(), 1);
        assert_eq!(reports.between(0, 60_000).count() + reports.between(120_000, 600_000).count(), 0);
    }
}
