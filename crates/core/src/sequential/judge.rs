//! Windows in, verdict out: pools calls into blocks, multiplies the evidence, and says hold, advance, promote or roll back.
//!
//! The state is a bounded summary of the windows (about 14 KiB, most of it the last 48 minutes, which may still be restated): a look
//! costs the same in the first hour and on the third day. It is a function of the settings and the looks alone, so replaying the
//! recorded looks gives the same state to the last bit.

use super::eprocess::{Counts, Factors, Mixture, Onset, Overdispersion, Spread, Times, additive, conditional, gaussian};
use super::explain::{Reason, amount};
use super::ladder::{CLEARANCE, LOW_WEIGHT, Probe, stage};
use super::settings::{Counter, Factor, Figure, Metric, OnCap, Settings, TIMES, Tally, Window};
use super::srm::ShareCheck;
use crate::measurement::{Side, Sides};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Calls of a block: so many keep all but a twelfth of the information, and the closing rule looks at call counts only.
const BLOCK: f64 = 12.0;
/// Calls after which a block with an empty cohort is given up.
const ONE_SIDED: f64 = 60.0;
/// Canary and stable calls of a block of times.
const BLOCK_OF_TIMES: f64 = 30.0;
/// A block whose counts contradict each other (a downward restatement) is pooled up to so many calls, then judged without them.
const PATIENCE: f64 = 120.0;
/// Blocks that are open at once, one per weight. More weights than these within an hour are a person's play.
pub(super) const MOST_OPEN: usize = 4;
/// Minutes back that a window may be restated. Older news is left out.
const MEMORY: i64 = 48;

const ONSET: Onset = Onset { first: 0.6, minutes: 90.0 };
/// Share of the unspent prior that a change of weight spends.
const AFTER_CHANGE: f64 = 0.25;
/// Half-life of the baseline, minutes of data.
const HALF_LIFE: f64 = 120.0;
/// Weight of the hint, calls.
const HINT_CALLS: f64 = 20.0;

/// From here on the weight is held: staying low costs time, going up costs callers.
const WATCH: f64 = 1.5;
/// The same for one metric by itself: late in a rollout the others' spent priors would hide it in the average.
const WATCH_ONE: f64 = 3.0;
/// A clearance once reached stays, while at least this share of it (in nats) is left.
const LATCH: f64 = 0.5;
/// More evidence than this for health would only delay the detection of the opposite.
const MOST_CLEAR: f64 = 40.0;
/// Nats with which an equal canary would be expected to have cleared the last step.
const COULD_TELL: f64 = 5.0;

/// A fair split crosses this once in twenty rollouts; it holds, and passes.
const SHARE_GATE: f64 = 20.0;
const SHARE_ALERT: f64 = 1000.0;
/// A fair split looks so in one of 100,000 rollouts: enough to take the calls away where too many of them reach the canary.
const OUT_OF_HAND: f64 = 1e5;

/// What the measurements gave since the last look.
#[derive(Debug, Clone, Copy)]
pub enum Reading<'a> {
    /// New or restated windows, in any order, perhaps none.
    Windows(&'a [Window]),
    /// They could not be read.
    Unreadable,
}

/// Whether there was anything new to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Something was measured since the last look.
    Fresh,
    /// Nothing was.
    Nothing,
    /// It could not be read.
    Unreadable,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The weight stays.
    Hold,
    /// On to a higher weight.
    Advance,
    /// On to 100 %.
    Promote,
    /// Calls go back to stable.
    Rollback,
}

/// A decision and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What to do.
    pub action: Action,
    /// Percent of new calls from now on.
    pub weight: f64,
    /// Why.
    pub reason: Reason,
}

/// Where the evidence stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Against the canary, all metrics together.
    pub harm: f64,
    /// As much of it rolls back: `1 / alpha`.
    pub harm_limit: f64,
    /// How much of what the next weight asks for is there: 0 nothing, 1 all of it. The least of time, calls and what is excluded of each
    /// metric; `None` at 100 %.
    pub towards_rise: Option<f64>,
    /// Against the split; 20 holds.
    pub share: f64,
    /// Somebody should look at the split.
    pub share_alert: bool,
    /// Per metric.
    pub metrics: Vec<MetricEvidence>,
}

impl Evidence {
    /// How far it has come towards a rollback: 0 nothing speaks against the canary, 1 it rolls back. On the scale on which it grows evenly.
    pub fn towards_rollback(&self) -> f64 {
        (self.harm.max(1.0).ln() / self.harm_limit.ln()).clamp(0.0, 1.0)
    }
}

/// One metric's evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricEvidence {
    /// Both figures.
    pub sides: Sides,
    /// Evidence of harm.
    pub harm: f64,
    /// Log evidence against the margin multiples 6, 3 and 1.
    pub clear: [f64; 3],
    /// Enough windows of this step carry it.
    pub available: bool,
}

/// The judge of one rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    /// Its plan is the ladder: with the weights below the file's that come first.
    settings: Settings,
    /// Percent that it decided last, or found in force.
    weight: f64,
    probe: Option<Probe>,
    /// The weight has just changed: a fault would like to begin here.
    changed: bool,
    /// Minutes with data, and calls, at this weight.
    minutes: u32,
    step_canary: f64,
    step_stable: f64,
    /// Minutes with data in all.
    all_minutes: u32,
    share: ShareCheck,
    metrics: Vec<State>,
    open: Vec<Block>,
    recent: VecDeque<Window>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    harm: Mixture,
    clear: [f64; 3],
    best: [f64; 3],
    /// Discounted bad and all calls of stable.
    base: (f64, f64),
    spread: Spread,
    overdispersion: Overdispersion,
    /// Stratified difference: weighted sum, weights.
    difference: (f64, f64),
    /// Times pooled across blocks of calls.
    times: Vec<Block>,
    /// Canary sum and calls, stable sum and calls: of this step and of the rollout.
    step: [f64; 4],
    whole: [f64; 4],
    /// Minutes of this step that carry it.
    known_minutes: u32,
}

/// Calls of equal weight, pooled until they are enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Block {
    weight: f64,
    canary: Tally,
    stable: Tally,
    minutes: f64,
    /// Counters that some window of the block did not carry.
    missing: u16,
}

impl Block {
    fn empty(weight: f64) -> Block {
        Block { weight, canary: Tally::default(), stable: Tally::default(), minutes: 0.0, missing: 0 }
    }

    fn add(&mut self, other: &Block) {
        self.canary.add(&other.canary);
        self.stable.add(&other.stable);
        self.minutes += other.minutes;
        self.missing |= other.missing;
    }

    fn calls(&self) -> (f64, f64) {
        (self.canary.sum(Counter::Calls), self.stable.sum(Counter::Calls))
    }

    fn lacks(&self, counter: Counter) -> bool {
        self.missing & (1 << counter as u16) != 0
    }

    /// The counts of a rate, if they are complete, make sense, and both cohorts have calls.
    fn counts(&self, figure: Figure) -> Option<Counts> {
        if figure.needs().into_iter().any(|c| self.lacks(c)) {
            return None;
        }
        let ((canary_bad, canary), (stable_bad, stable)) = (figure.rate(&self.canary)?, figure.rate(&self.stable)?);
        let sound = (0.0..=canary).contains(&canary_bad) && (0.0..=stable).contains(&stable_bad) && canary >= 1.0 && stable >= 1.0;
        sound.then_some(Counts {
            canary: canary as u64,
            canary_bad: canary_bad as u64,
            stable: stable as u64,
            stable_bad: stable_bad as u64,
        })
    }

    fn times(&self, figure: Figure) -> Option<(Times, Times)> {
        let Figure::Mean { sum, squares, of } = figure else { return None };
        let squares_known = self.canary.knows(squares) && self.stable.knows(squares) && !self.lacks(squares);
        let side = |t: &Tally| Times { calls: t.sum(of), sum: t.sum(sum), squares: squares_known.then(|| t.sum(squares)) };
        Some((side(&self.canary), side(&self.stable)))
    }
}

/// The block of that weight in a short list; the oldest makes room.
fn block_at(blocks: &mut Vec<Block>, weight: f64) -> usize {
    if let Some(at) = blocks.iter().position(|b| b.weight == weight) {
        return at;
    }
    if blocks.len() == MOST_OPEN {
        blocks.remove(0);
    }
    blocks.push(Block::empty(weight));
    blocks.len() - 1
}

impl Sequential {
    /// A rollout that begins now, and its first weight. Settings that do not hold together are refused.
    pub fn start(settings: Settings) -> Result<(Sequential, Judgement), String> {
        settings.check()?;
        let ladder = settings.ladder()?;
        let metrics = settings.metrics.iter().map(State::new).collect();
        let judge = Sequential {
            weight: ladder.weights[0],
            settings: Settings { plan: ladder.weights, ..settings },
            probe: ladder.probe,
            changed: false,
            minutes: 0,
            step_canary: 0.0,
            step_stable: 0.0,
            all_minutes: 0,
            share: ShareCheck::default(),
            metrics,
            open: Vec::new(),
            recent: VecDeque::with_capacity(MEMORY as usize + 1),
        };
        let low_volume = matches!(judge.probe, Some(Probe::LowVolume { .. }));
        let reason = Reason::Start { probe: judge.probe.is_some(), low_volume, weight: judge.weight };
        let judgement = judge.say(Action::Hold, reason);
        Ok((judge, judgement))
    }

    /// Percent of new calls that it wants.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Looks at what was measured while `in_force` percent of the calls went to the canary, decides, and takes its own decision
    /// for granted: from then on it waits for calls at the new weight.
    pub fn look(&mut self, in_force: f64, reading: Reading<'_>) -> Judgement {
        let data = match reading {
            Reading::Windows(windows) if self.observe(in_force, windows) => Data::Fresh,
            Reading::Windows(_) => Data::Nothing,
            Reading::Unreadable => {
                self.observe(in_force, &[]);
                Data::Unreadable
            }
        };
        let judgement = self.verdict(data);
        if matches!(judgement.action, Action::Advance | Action::Promote) {
            self.step_to(judgement.weight);
        }
        judgement
    }

    /// Takes what was measured while `in_force` percent of the calls went to the canary, and decides nothing. False if it held
    /// nothing that was not known. A weight that is not the judge's own was set by a person or by whoever keeps the plan: it judges
    /// what is, and goes on along the plan from there.
    pub fn observe(&mut self, in_force: f64, windows: &[Window]) -> bool {
        if (in_force - self.weight).abs() >= 1e-9 && (0.0..=100.0).contains(&in_force) {
            self.step_to(in_force);
        }
        let fresh = self.take(windows);
        self.changed = false;
        for state in &mut self.metrics {
            for (best, now) in state.best.iter_mut().zip(state.clear) {
                *best = best.max(now);
            }
        }
        fresh
    }

    /// No minute that was seen so far will be restated: what was kept to compare with goes.
    pub fn forget_minutes(&mut self) {
        self.recent.clear();
    }

    /// Minutes with data at the weight in force.
    pub fn minutes(&self) -> u32 {
        self.minutes
    }

    /// Where the evidence stands.
    pub fn evidence(&self) -> Evidence {
        let share = self.share.value();
        let (harm_limit, towards_rise) = (1.0 / self.settings.alpha, (self.weight < 100.0).then(|| self.towards_rise()));
        let metrics = self.settings.metrics.iter().zip(&self.metrics).map(|(m, s)| MetricEvidence {
            sides: s.sides(m),
            harm: s.harm.value(),
            clear: s.clear,
            available: s.is_available(self.minutes),
        });
        Evidence { harm: self.harm(), harm_limit, towards_rise, share, share_alert: share >= SHARE_ALERT, metrics: metrics.collect() }
    }

    fn step_to(&mut self, weight: f64) {
        match self.probe.take() {
            // The minutes and calls of this probe count towards the step.
            Some(Probe::LowVolume { then }) if weight == then => {
                self.weight = weight;
                return;
            }
            Some(Probe::HighVolume) if self.next_weight() == weight => self.changed = false,
            _ => self.changed = weight > self.weight,
        }
        self.weight = weight;
        (self.minutes, self.step_canary, self.step_stable) = (0, 0.0, 0.0);
        for state in &mut self.metrics {
            state.step = [0.0; 4];
            state.known_minutes = 0;
        }
    }

    /// What follows the weight in force on the plan.
    fn next_weight(&self) -> f64 {
        self.settings.plan.iter().copied().find(|w| *w > self.weight).unwrap_or(100.0)
    }

    /// Takes the windows; false if they hold nothing that was not known.
    fn take(&mut self, windows: &[Window]) -> bool {
        let mut sorted: Vec<&Window> = windows.iter().filter(|w| (0.0..=100.0).contains(&w.weight)).collect();
        // One order, whatever order they came in.
        sorted.sort_by_key(|w| (w.start, w.revision));
        let mut looks: Vec<Block> = Vec::new();
        for window in sorted {
            if let Some(news) = self.news(window) {
                let at = looks.iter().position(|b| b.weight == window.weight).unwrap_or_else(|| {
                    looks.push(Block::empty(window.weight));
                    looks.len() - 1
                });
                looks[at].add(&news);
            }
        }
        let fresh = !looks.is_empty();
        for look in looks.iter().filter(|l| l.weight > 0.0 && l.weight < 100.0) {
            let (canary, stable) = look.calls();
            self.share.take(look.weight, canary, stable, look.minutes);
            for (metric, state) in self.settings.metrics.iter().zip(&mut self.metrics) {
                state.show(metric, look, look.weight == self.weight);
            }
            self.pool(look);
        }
        fresh
    }

    /// What a window adds to what is known of its minute.
    fn news(&mut self, window: &Window) -> Option<Block> {
        let newest = self.recent.back().map_or(window.start, |w| w.start);
        let at = self.recent.partition_point(|w| w.start < window.start);
        let known = self.recent.get(at).filter(|w| w.start == window.start).copied();
        let ours = window.weight == self.weight;
        let mut news = Block { canary: window.canary, stable: window.stable, ..Block::empty(window.weight) };
        match known {
            Some(known) if known.revision >= window.revision => return None,
            Some(known) => {
                news.canary = window.canary.since(&known.canary);
                news.stable = window.stable.since(&known.stable);
                self.recent[at] = *window;
            }
            None if window.start + MEMORY <= newest => return None,
            None => {
                news.minutes = 1.0;
                self.recent.insert(at, *window);
                while self.recent.front().is_some_and(|w| w.start + MEMORY <= newest.max(window.start)) {
                    self.recent.pop_front();
                }
                // Read back or grown, it would keep room for a third more than it ever holds.
                self.recent.shrink_to(MEMORY as usize + 1);
                self.all_minutes = self.all_minutes.saturating_add(1);
                self.minutes = self.minutes.saturating_add(u32::from(ours));
            }
        }
        for (metric, state) in self.settings.metrics.iter().zip(&mut self.metrics) {
            let carries = |w: &Window| metric.figure.needs().iter().all(|c| w.canary.knows(*c) && w.stable.knows(*c));
            let newly = carries(window) && !known.is_some_and(|k| carries(&k));
            state.known_minutes = state.known_minutes.saturating_add(u32::from(ours && newly));
        }
        let first = known.unwrap_or(*window);
        for counter in COUNTS {
            if !first.canary.knows(counter) || !first.stable.knows(counter) {
                news.missing |= 1 << counter as u16;
            }
        }
        for counter in TIMES {
            if !window.canary.knows(counter) || !window.stable.knows(counter) {
                news.missing |= 1 << counter as u16;
            }
        }
        if ours {
            let (canary, stable) = news.calls();
            self.step_canary += canary;
            self.step_stable += stable;
        }
        Some(news)
    }

    fn pool(&mut self, look: &Block) {
        let at = block_at(&mut self.open, look.weight);
        self.open[at].add(look);
        let block = self.open[at];
        let (canary, stable) = block.calls();
        if canary + stable < BLOCK || canary < 0.0 || stable < 0.0 {
            return;
        }
        if canary < 1.0 || stable < 1.0 {
            // Only the share can be told from one-sided calls, and the share check has seen them.
            if canary + stable >= ONE_SIDED {
                self.open.remove(at);
            }
            return;
        }
        let contradicts = |m: &Metric| {
            !m.is_mean() && m.figure.needs().iter().all(|c| !block.lacks(*c)) && {
                let off = |t: &Tally| m.figure.rate(t).is_some_and(|(bad, of)| !(0.0..=of).contains(&bad));
                off(&block.canary) || off(&block.stable)
            }
        };
        if canary + stable < PATIENCE && self.settings.metrics.iter().any(contradicts) {
            return;
        }
        self.open.remove(at);
        let least = if self.changed { AFTER_CHANGE } else { 0.0 };
        for (metric, state) in self.settings.metrics.iter().zip(&mut self.metrics) {
            state.close(metric, &block, least);
        }
    }

    /// The e-process against "no metric is worse than tolerated": an average of e-processes is one.
    fn harm(&self) -> f64 {
        let all: f64 = self.settings.metrics.iter().map(|m| m.weight).sum();
        self.settings.metrics.iter().zip(&self.metrics).map(|(m, s)| m.weight / all * s.harm.value()).sum()
    }

    /// What the evidence calls for. Nothing is changed by asking.
    pub fn verdict(&self, data: Data) -> Judgement {
        let (harm, limit) = (self.harm(), 1.0 / self.settings.alpha);
        if harm >= limit {
            let (metric, state) = self.worst();
            let sides = state.sides(metric);
            let stable = sides.stable.figure();
            let limit = if metric.is_mean() { stable * (1.0 + metric.tolerance) } else { stable + metric.tolerance };
            let reason = Reason::Harm { sides, limit, tolerance: amount(metric, metric.tolerance), evidence: harm };
            return Judgement { action: Action::Rollback, weight: 0.0, reason };
        }
        if self.weight >= 100.0 {
            return self.say(Action::Hold, Reason::Promoted);
        }
        let share = self.share.value();
        if share >= SHARE_GATE {
            let percent = 100.0 * self.step_canary / (self.step_canary + self.step_stable).max(1.0);
            // More callers than anybody agreed to: nothing is wrong with the canary as far as we know, but the exposure is out of hand.
            let out_of_hand = share >= OUT_OF_HAND && percent > 2.0 * self.weight && self.weight < 50.0;
            let reason = Reason::SampleRatio { share: percent, weight: self.weight, evidence: share, out_of_hand };
            return match out_of_hand {
                true => Judgement { action: Action::Rollback, weight: 0.0, reason },
                false => self.say(Action::Hold, reason),
            };
        }
        match data {
            Data::Unreadable => return self.say(Action::Hold, Reason::Unreadable),
            Data::Nothing => return self.say(Action::Hold, Reason::NoData),
            Data::Fresh if self.weight <= 0.0 => return self.say(Action::Hold, Reason::NoData),
            Data::Fresh => {}
        }
        if let Some(probe) = self.probe {
            return self.probing(probe, harm);
        }
        let (minutes, of) = (self.minutes, self.settings.min_step);
        if let Some(reason) = self.suspect(harm) {
            return self.say(Action::Hold, reason);
        }
        let needed = f64::from(self.settings.min_calls);
        if minutes < of || self.step_canary < needed {
            let waiting = f64::from(of.saturating_sub(minutes));
            let left = self.minutes_until(needed).map(|m| m.max(waiting)).or((self.step_canary >= needed).then_some(waiting));
            return self.say(Action::Hold, Reason::Baking { minutes, of, seen: self.step_canary, needed, left });
        }
        self.clear()
    }

    fn probing(&self, probe: Probe, harm: f64) -> Judgement {
        let (seen, needed) = (self.step_canary, probe.calls());
        if seen < needed {
            return self.say(Action::Hold, Reason::Probing { seen, needed, minutes: self.minutes_until(needed) });
        }
        if harm >= probe.evidence() {
            let reason = self.watching(harm);
            return self.say(Action::Hold, reason);
        }
        self.advance(Reason::ProbeClean { seen, to: self.next_weight() })
    }

    /// Minutes until so many canary calls of this step have been seen, at its pace so far.
    fn minutes_until(&self, calls: f64) -> Option<f64> {
        let pace = self.step_canary / f64::from(self.minutes.max(1));
        (pace > 0.0).then(|| (calls - self.step_canary).max(0.0) / pace)
    }

    /// Enough evidence of harm to stay where we are.
    fn suspect(&self, harm: f64) -> Option<Reason> {
        if harm >= WATCH {
            return Some(self.watching(harm));
        }
        if self.weight < LOW_WEIGHT {
            // Below it, going up is also the faster way to find out.
            return None;
        }
        let (metric, state) = self.both().find(|(_, s)| s.harm.value() >= WATCH_ONE)?;
        let all: f64 = self.settings.metrics.iter().map(|m| m.weight).sum();
        let limit = all / metric.weight / self.settings.alpha;
        Some(Reason::Watching { sides: state.sides(metric), evidence: state.harm.value(), limit })
    }

    fn watching(&self, evidence: f64) -> Reason {
        let (metric, state) = self.worst();
        Reason::Watching { sides: state.sides(metric), evidence, limit: 1.0 / self.settings.alpha }
    }

    fn towards_rise(&self) -> f64 {
        let part = |seen: f64, needed: f64| if needed > 0.0 { (seen / needed).clamp(0.0, 1.0) } else { 1.0 };
        if let Some(probe) = self.probe {
            return part(self.step_canary, probe.calls());
        }
        if self.both().any(|(m, s)| m.required && !s.is_available(self.minutes)) {
            return 0.0;
        }
        let stage = stage(self.weight, self.next_weight());
        let bar = f64::ln(1.0 / CLEARANCE[stage].1);
        let waited = part(f64::from(self.minutes), f64::from(self.settings.min_step));
        let called = part(self.step_canary, f64::from(self.settings.min_calls));
        let excluded = self.metrics.iter().filter(|s| s.is_available(self.minutes)).map(|s| part(s.clear[stage], bar));
        excluded.fold(waited.min(called), f64::min)
    }

    /// No harm is in sight: is enough excluded to go on?
    fn clear(&self) -> Judgement {
        let required = |m: &Metric, s: &State| m.required && !s.is_available(self.minutes);
        if let Some((m, _)) = self.both().find(|(m, s)| required(m, s)) {
            let metric = m.name.clone();
            return self.say(Action::Hold, Reason::Unavailable { metric });
        }
        let stage = stage(self.weight, self.next_weight());
        let last = stage == 2;
        let (multiple, level) = CLEARANCE[stage];
        let bar = f64::ln(1.0 / level);
        let lag = |s: &State| (bar - s.best[stage]).max(LATCH * bar - s.clear[stage]);
        // Metrics that nobody measures were required above or count for neither side.
        let slowest = self.both().filter(|(_, s)| s.is_available(self.minutes)).max_by(|a, b| lag(a.1).total_cmp(&lag(b.1)));
        let Some((metric, state)) = slowest else {
            let metric = self.settings.metrics[0].name.clone();
            return self.say(Action::Hold, Reason::Unavailable { metric });
        };
        let (sides, margin, lacking) = (state.sides(metric), amount(metric, multiple * metric.margin), lag(state));
        if lacking <= 0.0 {
            return self.advance(Reason::Cleared { sides, margin });
        }
        if self.minutes >= self.settings.max_step {
            let then = self.settings.on_cap;
            match then {
                OnCap::Hold => return self.say(Action::Hold, Reason::TimeUp { sides, margin, then }),
                OnCap::Rollback => {
                    return Judgement { action: Action::Rollback, weight: 0.0, reason: Reason::TimeUp { sides, margin, then } };
                }
                OnCap::Advance if self.looks_harmless(last) => return self.advance(Reason::TimeUp { sides, margin, then }),
                OnCap::Advance => {}
            }
        }
        let pace = state.clear[stage] / f64::from(self.all_minutes.max(1));
        let minutes = (pace > 1e-6).then(|| (bar - state.clear[stage]).max(0.0) / pace);
        self.say(Action::Hold, Reason::NotCleared { sides, margin, minutes })
    }

    /// At the time cap: no estimate points to harm, and at the last step the data could not have told more.
    fn looks_harmless(&self, last: bool) -> bool {
        let share = if last { 0.5 } else { 0.75 };
        let low = self.both().filter(|(_, s)| s.is_available(self.minutes)).all(|(m, s)| s.estimate() <= share * m.margin);
        low && !(last && self.both().any(|(m, s)| s.could_tell(m)))
    }

    fn advance(&self, reason: Reason) -> Judgement {
        let weight = self.next_weight();
        Judgement { action: if weight >= 100.0 { Action::Promote } else { Action::Advance }, weight, reason }
    }

    fn say(&self, action: Action, reason: Reason) -> Judgement {
        Judgement { action, weight: self.weight, reason }
    }

    fn both(&self) -> impl Iterator<Item = (&Metric, &State)> {
        self.settings.metrics.iter().zip(&self.metrics)
    }

    fn worst(&self) -> (&Metric, &State) {
        let pull = |(m, s): &(&Metric, &State)| m.weight * s.harm.value();
        self.both().max_by(|a, b| pull(a).total_cmp(&pull(b))).expect("settings with no metric are refused")
    }
}

/// All counters that are not times.
const COUNTS: [Counter; 7] =
    [Counter::Calls, Counter::Abandons, Counter::Transfers, Counter::Errors, Counter::Contained, Counter::Own1, Counter::Own2];

impl State {
    fn new(metric: &Metric) -> State {
        State {
            harm: Mixture::new(3),
            clear: [0.0; 3],
            best: [0.0; 3],
            base: (HINT_CALLS * metric.hint.min(1.0), HINT_CALLS),
            spread: Spread::default(),
            overdispersion: Overdispersion::default(),
            difference: (0.0, 0.0),
            times: Vec::new(),
            step: [0.0; 4],
            whole: [0.0; 4],
            known_minutes: 0,
        }
    }

    /// Most of the step's minutes carry it.
    fn is_available(&self, minutes: u32) -> bool {
        2 * self.known_minutes >= minutes.max(1)
    }

    /// Adds to the figures that people see.
    fn show(&mut self, metric: &Metric, look: &Block, this_step: bool) {
        let figures = match (metric.figure, look.times(metric.figure)) {
            (_, Some((c, s))) => [c.sum, c.calls, s.sum, s.calls],
            (figure, None) => match (figure.rate(&look.canary), figure.rate(&look.stable)) {
                (Some(c), Some(s)) if figure.needs().iter().all(|c| !look.lacks(*c)) => [c.0, c.1, s.0, s.1],
                _ => return,
            },
        };
        for ((whole, step), figure) in self.whole.iter_mut().zip(&mut self.step).zip(figures) {
            *whole += figure;
            *step += if this_step { figure } else { 0.0 };
        }
    }

    /// This step's figures, or the whole rollout's where they say more against the canary: a rollback right after a step rests
    /// on the calls before it.
    fn sides(&self, metric: &Metric) -> Sides {
        let of = |f: [f64; 4]| {
            let side = |sum: f64, calls: f64| Side { sum: sum.max(0.0), calls: calls.max(0.0) };
            Sides { metric: metric.name.clone(), mean: metric.is_mean(), canary: side(f[0], f[1]), stable: side(f[2], f[3]) }
        };
        let (step, whole) = (of(self.step), of(self.whole));
        if step.canary.calls >= 1.0 && step.stable.calls >= 1.0 && step.excess() >= whole.excess() { step } else { whole }
    }

    /// Canary minus stable, over all weights, each block compared within itself.
    fn estimate(&self) -> f64 {
        if self.difference.1 > 0.0 { self.difference.0 / self.difference.1 } else { 0.0 }
    }

    /// An equal canary would by now be expected to have cleared the last bar. Then the time cap must not stand in for evidence.
    fn could_tell(&self, metric: &Metric) -> bool {
        let (multiple, level) = CLEARANCE[2];
        let margin = multiple * metric.margin;
        let variance = if metric.is_mean() {
            self.spread.observed()
        } else {
            let p = (self.base.0 / self.base.1 + margin / 2.0).min(1.0);
            p * (1.0 - p)
        };
        self.best[2] < f64::ln(1.0 / level) && self.difference.1 * margin * margin / (2.0 * variance.max(1e-4)) >= COULD_TELL
    }

    fn close(&mut self, metric: &Metric, block: &Block, least: f64) {
        if metric.is_mean() {
            return self.close_times(metric, block, least);
        }
        let Some(counts) = block.counts(metric.figure) else { return };
        let (canary, stable) = (counts.canary as f64, counts.stable as f64);
        let (canary_bad, stable_bad) = (counts.canary_bad as f64, counts.stable_bad as f64);
        let past = self.base.0 / self.base.1;
        let with_this = (self.base.0 + stable_bad) / (self.base.1 + stable);
        let keep = 0.5f64.powf(block.minutes / HALF_LIFE);
        self.base = (self.base.0 * keep + stable_bad, self.base.1 * keep + stable);
        self.differ(canary * stable / (canary + stable), canary_bad / canary - stable_bad / stable);
        let margins = CLEARANCE.map(|(multiple, _)| multiple * metric.margin);
        let factors = match metric.factor {
            Factor::Additive => Some(additive(counts, past, metric.tolerance, metric.excesses(), margins)),
            Factor::Conditional => conditional(counts, with_this, metric.tolerance, metric.excesses(), margins),
        };
        let Some(factors) = factors else { return };
        self.weigh(&factors, block.minutes, least);
        self.overdispersion.learn(counts.score());
    }

    fn close_times(&mut self, metric: &Metric, block: &Block, least: f64) {
        let at = block_at(&mut self.times, block.weight);
        self.times[at].add(block);
        let pooled = self.times[at];
        let Some((canary, stable)) = pooled.times(metric.figure) else { return };
        if canary.calls < BLOCK_OF_TIMES || stable.calls < BLOCK_OF_TIMES {
            return;
        }
        self.times.remove(at);
        let margins = CLEARANCE.map(|(multiple, _)| multiple * metric.margin);
        let Some(factors) = gaussian(canary, stable, &mut self.spread, metric.tolerance, metric.excesses(), margins) else { return };
        self.weigh(&factors, pooled.minutes, least);
        let mean = stable.sum / stable.calls;
        if mean > 0.0 {
            self.differ(canary.calls * stable.calls / (canary.calls + stable.calls), canary.sum / canary.calls / mean - 1.0);
        }
    }

    fn weigh(&mut self, factors: &Factors, minutes: f64, least: f64) {
        let phi = self.overdispersion.factor();
        self.harm.take(&factors.harm.map(|l| l / phi), minutes, ONSET, least);
        for (clear, ln) in self.clear.iter_mut().zip(factors.clear) {
            *clear = (*clear + (ln / phi).clamp(-200.0, 200.0)).min(MOST_CLEAR);
        }
    }

    fn differ(&mut self, weight: f64, difference: f64) {
        self.difference.0 += weight * difference;
        self.difference.1 += weight;
    }
}
