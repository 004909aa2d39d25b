//! Runs the functions' ticks on a [`World`], minute by minute.

use crate::world::{Process, World};
use jiff::{SignedDuration, Timestamp};
use serin_controller::deploy::{DeployError, deploy, rehearse};
use serin_controller::evaluate::{self, Report, RolloutClock, Tick, TickError};
use serin_controller::intervene::{self, Action, Gate, InterventionError, Request};
use serin_controller::ports::{FlowError, LedgerError, Topic};
use serin_controller::preflight::{self, Looked};
use serin_controller::work::{self, Run, Worked};
use serin_core::alert::{Alert, RollbackRequest};
use serin_core::phase::{Event, Phase};
use serin_core::policy::Policy;
use serin_core::rollout::{FlowName, Plan, Rollout};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Runs a future of a process to its end; `None` if the process crashed on the way.
pub fn run<T>(process: &Process, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => return Some(done),
            Poll::Pending if process.is_dead() => return None,
            // It gave way, and there is nobody else.
            Poll::Pending => {}
        }
    }
}

/// Runs two futures in turns: `first_next` says whose turn it is. Both run to their end.
pub fn race<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>, mut first_next: impl FnMut() -> bool) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut done_a, mut done_b) = (None, None);
    loop {
        let mut context = Context::from_waker(Waker::noop());
        let first = done_a.is_none() && (done_b.is_some() || first_next());
        if first && let Poll::Ready(done) = a.as_mut().poll(&mut context) {
            done_a = Some(done);
        }
        if !first
            && done_b.is_none()
            && let Poll::Ready(done) = b.as_mut().poll(&mut context)
        {
            done_b = Some(done);
        }
        (done_a, done_b) = match (done_a, done_b) {
            (Some(a), Some(b)) => return (a, b),
            unfinished => unfinished,
        };
    }
}

/// Plays a story in every order that its two sides can take turns in; returns how many there are. The story asks who is next as
/// [`race`] does.
pub fn every_order(mut story: impl FnMut(&mut dyn FnMut() -> bool)) -> usize {
    let mut orders = 0;
    let mut turns: Vec<bool> = Vec::new();
    loop {
        let mut at = 0;
        story(&mut || {
            if at == turns.len() {
                turns.push(false);
            }
            at += 1;
            turns[at - 1]
        });
        orders += 1;
        while turns.last() == Some(&true) {
            turns.pop();
        }
        match turns.last_mut() {
            Some(turn) => *turn = true,
            None => return orders,
        }
    }
}

/// Something that runs until it is done.
pub type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Runs all of them in turns to their ends: `next` says whose turn it is, of so many.
pub fn in_turns(mut running: Vec<Running<'_>>, mut next: impl FnMut(usize) -> usize) {
    while !running.is_empty() {
        let turn = next(running.len());
        if a_turn(&mut running[turn]) {
            drop(running.swap_remove(turn));
        }
    }
}

/// One turn; whether it is done.
pub fn a_turn(running: &mut Running<'_>) -> bool {
    running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Serves one evaluator tick.
pub async fn evaluator_tick(process: &Process, time: Timestamp, clock: RolloutClock) -> Result<Report, TickError> {
    let ports = evaluate::Ports { ledger: process, parameters: process, analytics: process, notifier: process, clock: process };
    let tick = Tick { stage: "test".into(), time, clock, run: process.name.clone() };
    evaluate::evaluate(&ports, &tick).await
}

/// Runs the executor's schedule once.
pub async fn executor_tick(process: &Process, task: &Run) -> Result<Vec<Worked>, LedgerError> {
    let ports = work::Ports { ledger: process, parameters: process, flows: process, notifier: process, clock: process };
    work::work(&ports, task).await
}

/// A stage: its functions, and when they run.
#[derive(Debug)]
pub struct Stage {
    /// Everything outside of Serin.
    pub world: World,
    /// Which clock moves rollouts.
    pub clock: RolloutClock,
    /// Whether the executor's schedule and queue run at all.
    pub executor: bool,
    served: usize,
}

/// A policy that is through in half an hour, for 600 calls a minute, by a guide's rule.
pub fn quick_policy() -> Policy {
    let json = r#"{"steps":[5,25,50],"rule":{"kind":"threshold","evaluate_every":2,"lookback":10,"breach_limit":2},"bake_time":4,
        "final_bake_time":4,"long_call":1,"settle":1,"step_cap":30,"max_blind":10,"pause_expiry":60}"#;
    serde_json::from_str(json).unwrap()
}

/// As quick, by the default rule.
pub fn sequential_policy() -> Policy {
    Policy { rule: Policy::default().rule, ..quick_policy() }
}

impl Stage {
    /// A stage on a fresh world.
    pub fn new(flows: &[&str]) -> Stage {
        Stage { world: World::new(flows), clock: RolloutClock::Wall, executor: true, served: 0 }
    }

    /// The plan to roll a version out.
    pub fn plan(flow: &str, version: &str, policy: Policy) -> Plan {
        let mut plan: Plan = serde_json::from_value(serde_json::json!({
            "flow": flow,
            "stable": {"flow_id": format!("{flow}-stable")},
            "canary": {"flow_id": format!("{flow}-canary"), "version": version},
        }))
        .unwrap();
        plan.policy = policy;
        plan.check().unwrap();
        plan
    }

    /// Opens a rollout.
    pub fn start(&self, plan: Plan) -> Result<String, InterventionError> {
        let process = self.world.process("cli");
        let request = self.request("a release");
        run(&process, intervene::start(&process, &process, &process, plan, &request)).expect("the pipeline does not crash")
    }

    /// Opens a rollout that must be accepted.
    pub fn started(flow: &str, version: &str) -> Stage {
        let stage = Stage::new(&[flow]);
        stage.start(Stage::plan(flow, version, quick_policy())).unwrap();
        stage
    }

    /// A healthy rollout that baked, and whose executor rests from then on.
    pub fn promoted_until(flow: &str, phase: &str) -> Stage {
        let mut stage = Stage::started(flow, "15.0");
        stage.executor = true;
        stage.until_phase(flow, "Baking", 60);
        stage.executor = false;
        stage.until_phase(flow, phase, 60);
        stage
    }

    /// A pipeline asks the gate, and holds it for ten minutes if it is open; `None` if its command crashed.
    pub fn hold(&self, flow: &str, holder: &str) -> Option<Result<Gate, LedgerError>> {
        let process = self.world.process("gate");
        let now = self.rollout_now();
        run(&process, intervene::hold_gate(&process, &process, &name(flow), now, holder, minutes(10)))
    }

    /// The gate's answer to a pipeline.
    pub fn gate(&self, flow: &str, holder: Option<&str>) -> Gate {
        let process = self.world.process("gate");
        run(&process, intervene::gate(&process, &process, &name(flow), self.rollout_now(), holder)).unwrap().unwrap()
    }

    /// A person does something; `None` if their command crashed.
    pub fn person(&self, flow: &str, action: Action) -> Option<Result<Rollout, InterventionError>> {
        let process = self.world.process("cli");
        let (flow, request) = (name(flow), self.request("as I see fit"));
        run(&process, intervene::intervene(&process, &process, &process, &process, &flow, action, &request))
    }

    /// A person's request, now.
    pub fn request(&self, reason: &str) -> Request {
        Request { by: "sam".into(), reason: reason.into(), now: self.rollout_now(), stage: "test".into(), holder: None }
    }

    /// The time that rollouts go by.
    pub fn rollout_now(&self) -> Timestamp {
        match self.clock {
            RolloutClock::Wall => self.world.state().wall(),
            RolloutClock::Event => self.world.state().now,
        }
    }

    /// One evaluator tick now; `None` if it crashed.
    pub fn evaluate(&self) -> Option<Result<Report, TickError>> {
        let process = self.world.process("evaluator");
        run(&process, evaluator_tick(&process, self.rollout_now(), self.clock))
    }

    /// What a run of the executor is told now.
    pub fn task(&self, process: &Process) -> Run {
        let region = Some("us-east-1".to_owned());
        Run { time: self.rollout_now(), clock: self.clock, id: process.name.clone(), stage: "test".into(), region }
    }

    /// One run of the executor's schedule now; `None` if it crashed.
    pub fn work(&self) -> Option<Result<Vec<Worked>, LedgerError>> {
        let process = self.world.process("executor");
        run(&process, executor_tick(&process, &self.task(&process)))
    }

    /// What a look before a rollout finds now.
    pub fn look(&self, plan: &Plan) -> Result<Looked, FlowError> {
        let process = self.world.process("cli");
        let ports = work::Ports { ledger: &process, parameters: &process, flows: &process, notifier: &(), clock: &process };
        run(&process, preflight::look(&ports, &self.task(&process), plan)).expect("nobody crashes by looking")
    }

    /// Publishes a file into the canary flow; `None` if the command crashed.
    pub fn deploy(&self, plan: &Plan, file: &str) -> Option<Result<Plan, DeployError>> {
        let process = self.world.process("cli");
        let ports = work::Ports { ledger: &process, parameters: &process, flows: &process, notifier: &(), clock: &process };
        run(&process, deploy(&ports, &self.task(&process), plan, file))
    }

    /// What that would do.
    pub fn rehearse_deploy(&self, plan: &Plan, file: &str) -> Result<String, DeployError> {
        let process = self.world.process("cli");
        let ports = work::Ports { ledger: &process, parameters: &process, flows: &process, notifier: &(), clock: &process };
        run(&process, rehearse(&ports, &self.task(&process), plan, file)).expect("nobody crashes by looking")
    }

    /// The executor serves one message of its queue; `None` if it crashed.
    pub fn serve(&self, request: &RollbackRequest, sent: Timestamp) -> Option<Result<Worked, LedgerError>> {
        let process = self.world.process("executor");
        let ports = work::Ports { ledger: &process, parameters: &process, flows: &process, notifier: &process, clock: &process };
        let task = self.task(&process);
        run(&process, work::serve(&ports, &task, request, sent))
    }

    /// The queue hands over what was published on the rollback topic; a message whose run failed stays.
    pub fn deliver(&mut self) {
        loop {
            let (next, sent) = {
                let state = self.world.state();
                (state.told.get(self.served).cloned(), state.wall())
            };
            let Some(notice) = next else { return };
            if notice.topic == Topic::Rollback {
                let request: RollbackRequest = serde_json::from_str(&notice.body).unwrap();
                if !matches!(self.serve(&request, sent), Some(Ok(_))) {
                    return;
                }
            }
            self.served += 1;
        }
    }

    /// The clock moves to the next whole minute.
    pub fn pass_a_minute(&self) {
        let second = self.world.state().now.as_second();
        self.world.advance_to(Timestamp::from_second((second.div_euclid(60) + 1) * 60).unwrap());
    }

    /// A minute passes, then everything that runs every minute runs.
    pub fn minute(&mut self) {
        self.pass_a_minute();
        let _ = self.evaluate();
        if self.executor {
            let _ = self.work();
            self.deliver();
        }
    }

    /// Minutes until something holds; how many it took.
    #[track_caller]
    pub fn until(&mut self, at_most: u32, holds: impl Fn(&Stage) -> bool) -> u32 {
        for minutes in 0..=at_most {
            if holds(self) {
                return minutes;
            }
            self.minute();
        }
        panic!("not within {at_most} minutes; it stands so:\n{}", self.story());
    }

    /// Minutes until a flow's rollout is in a phase.
    #[track_caller]
    pub fn until_phase(&mut self, flow: &str, phase: &str, at_most: u32) -> u32 {
        self.until(at_most, |s| s.phase(flow).name() == phase)
    }

    /// Where a flow's latest rollout stands.
    pub fn phase(&self, flow: &str) -> Phase {
        self.rollout(flow).phase
    }

    /// A flow's latest rollout.
    pub fn rollout(&self, flow: &str) -> Rollout {
        self.world.state().rollout(&name(flow)).expect("the flow has a rollout")
    }

    /// `percentage` as text.
    pub fn percentage(&self, flow: &str) -> Option<String> {
        self.world.state().projections[&name(flow)].seen.percentage.as_ref().map(|(text, _)| text.clone())
    }

    /// Percent of calls that the Data Action gives to the canary now.
    pub fn offered(&self, flow: &str) -> f64 {
        self.world.state().offered(&name(flow)).percent()
    }

    /// Whether `halt` names the latest rollout.
    pub fn is_halted(&self, flow: &str) -> bool {
        let id = self.rollout(flow).id;
        self.world.state().projections[&name(flow)].seen.halts(&id)
    }

    /// Events of a flow, oldest first.
    pub fn events(&self, flow: &str) -> Vec<Event> {
        self.world.state().books[&name(flow)].entries.iter().map(|s| s.entry.event.clone()).collect()
    }

    /// Names of the events of a flow, oldest first.
    pub fn event_names(&self, flow: &str) -> Vec<&'static str> {
        self.events(flow).iter().map(Event::name).collect()
    }

    /// Alerts that arrived, in order.
    pub fn alerts(&self) -> Vec<Alert> {
        let state = self.world.state();
        state.told.iter().filter(|n| n.topic == Topic::Alerts).map(|n| serde_json::from_str(&n.body).unwrap()).collect()
    }

    /// What happened, for a failing test: entries, and what was found against the laws.
    pub fn story(&self) -> String {
        let state = self.world.state();
        let mut lines = Vec::new();
        for (flow, book) in &state.books {
            for stored in &book.entries {
                let entry = &stored.entry;
                lines.push(format!("{} {flow} {} {} by {}: {}", entry.at, entry.rollout, entry.event.name(), entry.by, entry.why));
            }
            lines.push(format!("{flow} now: {:?}", state.projections.get(flow)));
        }
        lines.push(format!("at {}, last calls:", state.now));
        lines.extend(state.calls.iter().rev().take(25).rev().map(|c| format!("  {} {} {}", c.process, c.name, c.detail)));
        lines.extend(state.violations.iter().cloned());
        lines.join("\n")
    }

    /// No law was broken so far.
    #[track_caller]
    pub fn assert_lawful(&self) {
        let flows: Vec<FlowName> = self.world.state().books.keys().cloned().collect();
        for flow in flows {
            self.world.state().check_chain(&flow);
        }
        let violations = self.world.state().violations.clone();
        assert!(violations.is_empty(), "{}\n{}", violations.join("\n"), self.story());
    }
}

/// A flow's name.
pub fn name(flow: &str) -> FlowName {
    flow.parse().unwrap()
}

/// So many minutes.
pub fn minutes(n: i64) -> SignedDuration {
    SignedDuration::from_mins(n)
}
