//! Thirty days of releases on many flows, some broken, with faults and people in between; and what is left of it all at the end.
//!
//! Every minute is ticked while a rollout is under way, nights hour by hour. `make soak` plays more flows and seeds.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use jiff::{SignedDuration, Timestamp};
use serin_acceptance::drive::{Stage, minutes, name, sequential_policy};
use serin_acceptance::world::{Behavior, Chaos, Fault};
use serin_controller::intervene::Action;
use serin_core::ledger::{Hash, StoredEntry, verify};
use serin_core::phase::Phase;
use serin_core::rollout::Rollout;
use std::collections::BTreeMap;

const FLOWS: u64 = 6;
const DAYS: i64 = 30;
/// Minutes of a day in which releases begin.
const OFFICE: i64 = 180;
/// A rollout of the policy played here takes half an hour; one that nobody resumes is ended after an hour.
const LONGEST: SignedDuration = SignedDuration::from_hours(6);
/// Writes of a percentage in one rollout: its steps, the way back, and what hands and faults add.
const MOST_WRITES: f64 = 8.0;
const HEALTHY: Behavior = Behavior { error: 0.015, abandon: 0.06, transfer: 0.22 };

struct Month {
    stage: Stage,
    flows: Vec<String>,
    rng: fastrand::Rng,
    /// Versions that engineers checked in so far.
    versions: u32,
    refused: u32,
}

impl Month {
    fn new(seed: u64, flows: u64) -> Month {
        let flows: Vec<String> = (0..flows).map(|n| format!("ivr_{n}")).collect();
        let names: Vec<&str> = flows.iter().map(String::as_str).collect();
        let stage = Stage::new(&names);
        // Enough for every step to be judged in minutes.
        stage.world.state().traffic.calls_per_minute = 300;
        Month { stage, flows, rng: fastrand::Rng::with_seed(seed), versions: 100, refused: 0 }
    }

    /// An engineer checks a version in and releases it; one in four is broken.
    fn release(&mut self, flow: &str) {
        self.versions += 1;
        let (version, broken) = (format!("{}.0", self.versions), self.rng.u32(..4) == 0);
        let configuration = format!("{} {version}", if broken { "broken" } else { "good" });
        {
            let mut state = self.stage.world.state();
            let behavior = if broken { Behavior { error: 0.15, ..HEALTHY } } else { HEALTHY };
            state.traffic.behavior.insert(configuration.clone(), behavior);
            state.flows.get_mut(&format!("{flow}-canary")).unwrap().versions.insert(version.clone(), configuration);
        }
        let accepted = self.stage.start(Stage::plan(flow, &version, sequential_policy()));
        self.refused += u32::from(accepted.is_err());
    }

    fn day(&mut self, day: i64) {
        let flows = self.flows.clone();
        let mut due: Vec<(i64, &String)> = Vec::new();
        for flow in &flows {
            if self.stage.world.state().rollout(&name(flow)).is_some_and(|r| matches!(r.phase, Phase::NeedsHuman { .. })) {
                self.stage.person(flow, Action::Clear).unwrap().unwrap();
            }
            let releases = self.rng.usize(..3);
            due.extend((0..releases).map(|_| (self.rng.i64(0..OFFICE), flow)));
        }
        // One day in three has a bad hour.
        let bad = (day % 3 == 0).then(|| self.rng.i64(0..OFFICE));
        for minute in 0..24 * 60 {
            if minute >= OFFICE && flows.iter().all(|flow| self.is_over(flow)) {
                break;
            }
            let begin: Vec<&String> = due.iter().filter(|(at, _)| *at == minute).map(|(_, flow)| *flow).collect();
            // The pipeline's own machine is a good one.
            self.stage.world.state().chaos = None;
            begin.into_iter().for_each(|flow| self.release(flow));
            let kinds = vec![Fault::Fail, Fault::TimeOut, Fault::Stale, Fault::Late(5), Fault::CrashBefore, Fault::CrashAfter];
            let is_bad = bad.is_some_and(|from| (from..from + 60).contains(&minute));
            self.stage.world.state().chaos = is_bad.then(|| Chaos { rng: self.rng.fork(), chance: 0.02, kinds });
            let flow = &flows[self.rng.usize(..flows.len())];
            let known = self.stage.world.state().rollout(&name(flow)).is_some();
            match self.rng.u32(..120) {
                0 => self.stage.world.state().person_sets(&name(flow), "0"),
                1 if known => drop(self.stage.person(flow, Action::Resume)),
                2 if known => drop(self.stage.person(flow, Action::Rollback)),
                3 => self.turn_lock(flow, Some("Pat")),
                4..8 => flows.iter().for_each(|flow| self.turn_lock(flow, None)),
                _ => {}
            }
            self.stage.minute();
        }
        self.stage.world.state().chaos = None;
        self.stage.world.state().land_all();
        flows.iter().for_each(|flow| self.turn_lock(flow, None));
    }

    fn turn_lock(&self, flow: &str, holder: Option<&str>) {
        let mut state = self.stage.world.state();
        state.flows.get_mut(&format!("{flow}-canary")).unwrap().locked_by = holder.map(str::to_owned);
    }

    fn is_over(&self, flow: &str) -> bool {
        self.stage.world.state().rollout(&name(flow)).is_none_or(|rollout| rollout.phase.is_terminal())
    }

    /// Hour by hour.
    fn sleep_until(&mut self, morning: Timestamp) {
        while self.stage.world.state().now < morning {
            let next = (self.stage.world.state().now + minutes(59)).min(morning);
            self.stage.world.advance_to(next);
            self.stage.minute();
        }
    }

    /// Bytes of all parameters.
    fn parameters(&self) -> usize {
        let state = self.stage.world.state();
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        state
            .projections
            .values()
            .map(|p| p.seen.percentage.as_ref().map_or(0, |(t, _)| t.len()) + of(&p.seen.rollout) + of(&p.seen.halt))
            .sum()
    }
}

/// The rollouts of a flow's ledger, each with its entries.
fn rollouts(entries: &[StoredEntry]) -> Vec<Vec<&StoredEntry>> {
    let mut rollouts: Vec<Vec<&StoredEntry>> = Vec::new();
    for stored in entries {
        match rollouts.last_mut().filter(|last| last[0].entry.rollout == stored.entry.rollout) {
            Some(rollout) => rollout.push(stored),
            None => rollouts.push(vec![stored]),
        }
    }
    rollouts
}

/// How a rollout ended; no phase was older than it may get, waiting for somebody's lock aside.
#[track_caller]
fn ended(rollout: &[&StoredEntry]) -> &'static str {
    let id = &rollout[0].entry.rollout;
    for (n, stored) in rollout.iter().enumerate().skip(1) {
        let before = Rollout::replay(rollout[..n].iter().map(|s| &s.entry)).unwrap();
        let since = before.restoration.next_at.map_or(before.phase_since, |at| at.max(before.phase_since));
        let in_phase = stored.entry.at.duration_since(since);
        let limit = before.phase.deadline().unwrap_or(LONGEST) + minutes(3);
        assert!(in_phase <= limit || before.phase.is_terminal(), "{id}: {in_phase:#} in {}", before.phase);
    }
    let end = Rollout::replay(rollout.iter().map(|s| &s.entry)).unwrap();
    assert!(end.phase.is_finished(), "{id} ended as {}", end.phase);
    end.phase.name()
}

fn play(seed: u64, flows: u64) {
    let mut month = Month::new(seed, flows);
    let (begun, mut most) = (month.stage.world.state().now, Vec::new());
    for day in 0..DAYS {
        month.day(day);
        month.stage.assert_lawful();
        most.push(month.parameters());
        month.sleep_until(begun + SignedDuration::from_hours(24 * (day + 1)));
    }
    for flow in month.flows.clone() {
        if matches!(month.stage.phase(&flow), Phase::NeedsHuman { .. }) {
            month.stage.person(&flow, Action::Clear).unwrap().unwrap();
        }
    }
    // Ended rollouts are looked after for a day more.
    month.sleep_until(begun + SignedDuration::from_hours(24 * (DAYS + 1) + 2));
    month.stage.assert_lawful();
    let mut state = month.stage.world.state();
    state.check_at_rest();
    state.check_told();
    assert_eq!(state.violations, Vec::<String>::new(), "seed {seed}");

    let (mut ends, mut entries) = (BTreeMap::<&str, u32>::new(), 0);
    for (flow, book) in &state.books {
        verify(&book.entries, 0, Hash::genesis()).unwrap();
        rollouts(&book.entries).iter().for_each(|rollout| *ends.entry(ended(rollout)).or_default() += 1);
        entries += book.entries.len();
        assert!(!book.is_active() && book.holder(state.wall()).is_none(), "{flow} is at rest");
        assert_eq!(state.offered(flow).percent(), 0.0, "{flow}");
    }
    assert!(state.outbox.is_empty() && state.restoration.is_none() && !state.awaits_late_writes(), "nothing is on its way");
    // What callers' questions are answered from does not grow.
    let each = most.iter().max().unwrap() / flows as usize;
    assert_eq!(state.projections.len() as u64, flows);
    assert!(each < 300, "{each} bytes of parameters for a flow");
    let played: u32 = ends.values().sum();
    let writes = state.calls.iter().filter(|call| call.name == "parameters.put_percentage").count() as f64 / f64::from(played);
    assert!(writes <= MOST_WRITES, "{writes:.1} writes of the percentage in a rollout");
    for (end, least) in [("Promoted", 10), ("RolledBack", 5), ("Aborted", 1)] {
        let met = ends.get(end).copied().unwrap_or_default();
        assert!(u64::from(met) >= least * flows / FLOWS, "seed {seed}: {met} ended as {end}: {ends:?}");
    }
    println!(
        "seed {seed}: {flows} flows, {DAYS} days, {} port calls, {played} rollouts ({} refused): {ends:?}, {entries} entries, {} notices; \
         {each} bytes of parameters for a flow, {writes:.1} writes of its percentage for a rollout",
        state.calls.len(),
        month.refused,
        state.recorded_notices.len(),
    );
}

fn set(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn a_month_of_releases_leaves_nothing_undone() {
    let (first, seeds, flows) = (set("MONTH_SEED", 0), set("MONTH_SEEDS", 1), set("MONTH_FLOWS", FLOWS));
    for seed in first..first + seeds {
        let played = std::panic::catch_unwind(|| play(seed, flows));
        assert!(played.is_ok(), "play it again: MONTH_SEED={seed} MONTH_FLOWS={flows} cargo test --workspace --test month -- --nocapture");
    }
}
