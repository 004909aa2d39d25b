//! The laws under a random soup of ticks, faults, crashes, hands and commands; and every rollout comes to its end.
//!
//! A failing seed is printed; `SOUP_SEED=17 cargo test -p serin-acceptance --test laws` plays that one alone.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, evaluator_tick, minutes, name, quick_policy, race, sequential_policy};
use serin_acceptance::world::{Chaos, Fault};
use serin_controller::evaluate::RolloutClock;
use serin_controller::intervene::Action;
use serin_core::phase::Phase;
use serin_core::policy::{Mode, Policy, Rule, Threshold};
use serin_core::rollout::Rollout;
use serin_core::weight::Weight;
use std::collections::BTreeMap;

const FLOWS: [&str; 2] = ["main_ivr", "sales_ivr"];
const SEEDS: u64 = 300;
const STEPS: usize = 120;

const FAULTS: [Fault; 8] =
    [Fault::Fail, Fault::Fail, Fault::TimeOut, Fault::Stale, Fault::CrashBefore, Fault::CrashAfter, Fault::Late(1), Fault::Late(15)];

/// One story: its stage, its dice, and how long it has been left alone.
struct Soup {
    stage: Stage,
    rng: fastrand::Rng,
    /// Undisturbed minutes in a row.
    calm: u32,
}

/// Small cohorts of whole calls are coarse; only what is clearly broken may fail here by the guide's rule. The default one needs no help.
fn policy(rng: &mut fastrand::Rng) -> Policy {
    let mode = [Mode::Act, Mode::Act, Mode::Act, Mode::Advise, Mode::Observe][rng.usize(..5)];
    let policy = match (rng.bool(), quick_policy().rule) {
        (true, Rule::Threshold(rule)) => {
            Policy { rule: Rule::Threshold(Threshold { abandon_points: 15.0, transfer_points: 25.0, ..rule }), ..quick_policy() }
        }
        _ => sequential_policy(),
    };
    Policy { mode, ..policy }
}

impl Soup {
    fn new(seed: u64) -> Soup {
        let mut rng = fastrand::Rng::with_seed(seed);
        let flows = &FLOWS[..if rng.bool() { 1 } else { 2 }];
        let mut stage = Stage::new(flows);
        if rng.bool() {
            stage.clock = RolloutClock::Event;
            stage.world.state().wall_ahead = minutes(rng.i64(-100_000..100_000));
        }
        for flow in flows {
            let version = if rng.bool() { "15.0" } else { "16.0" };
            stage.start(Stage::plan(flow, version, policy(&mut rng))).unwrap();
        }
        Soup { stage, rng, calm: 0 }
    }

    fn flow(&mut self) -> &'static str {
        let known = self.stage.world.state().books.len();
        FLOWS[self.rng.usize(..known)]
    }

    fn disturb(&mut self, chance: f64) {
        self.calm = 0;
        let chaos = Chaos { rng: self.rng.fork(), chance, kinds: FAULTS.to_vec() };
        self.stage.world.state().chaos = Some(chaos);
    }

    fn calm_down(&self) {
        self.stage.world.state().chaos = None;
    }

    fn minute(&mut self) {
        self.stage.minute();
        self.calm += 1;
    }

    fn toggle(&mut self, outage: &'static str) {
        self.calm = 0;
        let mut state = self.stage.world.state();
        if !state.outages.remove(outage) {
            state.outages.insert(outage);
        }
    }

    /// Something happens.
    fn step(&mut self) -> String {
        let flow = self.flow();
        match self.rng.u32(..100) {
            0..45 => {
                self.minute();
                "a minute".into()
            }
            45..62 => {
                let chance = [0.01, 0.05, 0.2][self.rng.usize(..3)];
                self.disturb(chance);
                self.minute();
                self.calm_down();
                self.calm = 0;
                format!("a minute with {chance} of faults")
            }
            62..65 => {
                let gap = minutes(self.rng.i64(2..25));
                let to = self.stage.world.state().now + gap;
                self.stage.world.advance_to(to);
                self.calm = 0;
                format!("nobody ticks for {gap:#}")
            }
            65..72 => {
                let text = ["0", "2", "5", "10", "25", "50", "100", "abc", "", " 3 "][self.rng.usize(..10)];
                self.stage.world.state().person_sets(&name(flow), text);
                self.calm = 0;
                format!("a hand sets {flow} to `{text}`")
            }
            72 => {
                self.stage.world.state().person_deletes(&name(flow));
                self.calm = 0;
                // As nobody writes it again before the next tick: see the open question on versions that start again.
                self.minute();
                format!("a hand deletes the percentage of {flow}")
            }
            73..83 => {
                let actions =
                    [Action::Pause, Action::Resume, Action::Resume, Action::Approve, Action::Abort, Action::Rollback, Action::Clear];
                let action = actions[self.rng.usize(..7)];
                let disturbed = self.rng.u32(..4) == 0;
                if disturbed {
                    self.disturb(0.2);
                }
                let _ = self.stage.person(flow, action);
                self.calm_down();
                self.calm = 0;
                format!("somebody wants to {} {flow}, disturbed: {disturbed}", action.name())
            }
            83..88 => {
                let version = ["15.0", "16.0", "17.0"][self.rng.usize(..3)];
                let accepted = self.stage.start(Stage::plan(flow, version, policy(&mut self.rng))).is_ok();
                format!("a rollout of {version} on {flow}, accepted: {accepted}")
            }
            88..90 => {
                self.toggle("analytics");
                "the analytics come or go".into()
            }
            90 => {
                let mut state = self.stage.world.state();
                state.traffic.silent = !state.traffic.silent;
                "the analytics fall silent or not".into()
            }
            91 => {
                self.toggle("notifier");
                "the topics come or go".into()
            }
            92 => {
                self.toggle("flows");
                "Genesys comes or goes".into()
            }
            93..95 => {
                let slot = if self.rng.bool() { "stable" } else { "canary" };
                let mut state = self.stage.world.state();
                let flow = state.flows.get_mut(&format!("{flow}-{slot}")).unwrap();
                flow.locked_by = if flow.locked_by.is_some() { None } else { Some("Pat".into()) };
                format!("Pat takes or leaves the lock of the {slot} flow")
            }
            95 if self.rng.bool() => {
                let slot = if self.rng.bool() { "stable" } else { "canary" };
                let mut state = self.stage.world.state();
                state
                    .flows
                    .get_mut(&format!("{flow}-{slot}"))
                    .unwrap()
                    .publish_by_hand(if slot == "stable" { "14.0" } else { "17.0" }, "Pat");
                self.calm = 0;
                format!("Pat publishes into the {slot} flow")
            }
            95 => {
                let mut state = self.stage.world.state();
                let flow = state.flows.get_mut(&format!("{flow}-canary")).unwrap();
                flow.publish_takes = self.rng.u32(1..60);
                flow.publish_fails = self.rng.u32(..2);
                "publishing gets slow".into()
            }
            96 => {
                self.stage.executor = !self.stage.executor;
                "the executor comes or goes".into()
            }
            _ => {
                self.stage.pass_a_minute();
                let (a, b) = (self.stage.world.process("evaluator"), self.stage.world.process("evaluator"));
                let time = match self.stage.clock {
                    RolloutClock::Wall => self.stage.world.state().wall(),
                    RolloutClock::Event => self.stage.world.state().now,
                };
                self.stage.world.state().interleaved = true;
                let rng = &mut self.rng;
                let _ = race(evaluator_tick(&a, time, self.stage.clock), evaluator_tick(&b, time, self.stage.clock), || rng.bool());
                self.stage.world.state().interleaved = false;
                self.calm = 0;
                "two evaluators at once".into()
            }
        }
    }

    /// After every step.
    fn check(&mut self) {
        let mut state = self.stage.world.state();
        let flows: Vec<_> = state.books.keys().cloned().collect();
        if self.calm >= 3 && !state.awaits_late_writes() {
            state.check_at_rest();
        }
        for flow in flows {
            state.check_chain(&flow);
        }
    }

    /// Everything works again: every rollout comes to its end, and what was recorded was told.
    fn end(&mut self, told: &mut Vec<String>) -> Vec<Phase> {
        {
            let mut state = self.stage.world.state();
            state.chaos = None;
            state.outages.clear();
            state.land_all();
            state.traffic.silent = false;
            for flow in state.flows.values_mut() {
                (flow.locked_by, flow.publish_takes, flow.publish_fails) = (None, 2, 0);
            }
        }
        self.stage.executor = true;
        let known = self.stage.world.state().books.len();
        for minute in 0..26 * 60 {
            if FLOWS[..known].iter().all(|f| self.stage.phase(f).is_terminal()) {
                told.push(format!("ended {minute} minutes after everything worked again"));
                break;
            }
            self.stage.minute();
        }
        for _ in 0..4 {
            self.stage.minute();
        }
        let mut state = self.stage.world.state();
        state.check_at_rest();
        state.check_told();
        let rollouts: Vec<Rollout> = FLOWS[..known].iter().map(|f| state.rollout(&name(f)).unwrap()).collect();
        for (flow, rollout) in FLOWS.iter().zip(&rollouts) {
            let (offered, phase) = (state.offered(&name(flow)), &rollout.phase);
            let allowed = match phase {
                Phase::NeedsHuman { .. } => phase.weight(),
                // Where Serin only observed, a person's percentage stays.
                _ if rollout.is_observed() && !rollout.is_contained() => Weight::FULL,
                _ => Weight::ZERO,
            };
            if !phase.is_terminal() || offered > allowed {
                state.violations.push(format!("law 8: {flow} stands at {phase} with {offered} % at the end"));
            }
        }
        rollouts.into_iter().map(|rollout| rollout.phase).collect()
    }
}

/// Plays one seed; the phases it ended in.
fn play(seed: u64) -> Vec<Phase> {
    let mut soup = Soup::new(seed);
    let mut told = Vec::new();
    let fail = |soup: &Soup, told: &[String]| {
        let violations = soup.stage.world.state().violations.join("\n");
        if !violations.is_empty() {
            panic!("seed {seed}\n{violations}\n{}\n{}", told.join("\n"), soup.stage.story());
        }
    };
    for _ in 0..STEPS {
        let done = soup.step();
        told.push(format!("{} {done}", soup.stage.world.state().now));
        soup.check();
        fail(&soup, &told);
    }
    let phases = soup.end(&mut told);
    fail(&soup, &told);
    phases
}

#[test]
fn no_soup_of_faults_hands_and_commands_breaks_a_law() {
    if let Some(seed) = std::env::var("SOUP_SEED").ok().and_then(|s| s.parse().ok()) {
        println!("{:?}", play(seed));
        return;
    }
    let seeds = std::env::var("SOUP_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(SEEDS);
    let mut ends: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in 0..seeds {
        match std::panic::catch_unwind(|| play(seed)) {
            Ok(phases) => phases.iter().for_each(|p| *ends.entry(p.name()).or_default() += 1),
            Err(_) => failed.push(seed),
        }
    }
    println!("{seeds} seeds of {STEPS} steps ended in {ends:?}");
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
    for end in ["Promoted", "RolledBack", "Aborted", "NeedsHuman"] {
        assert!(ends.contains_key(end), "the soup reaches {end}");
    }
}
