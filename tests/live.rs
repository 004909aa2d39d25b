//! Serin's own code on the simulated organization, over HTTP and through the real client; AWS is in memory.
//!
//! Time is the organization's: a minute passes when it is told to. Whatever waits in between, such as back-off, pace and patience of the
//! client, a publish that takes its time or an answer that is late, waits on one clock that stands still but for that, and costs no time.

use crate::drive::name;
use crate::world::{Process, World};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin_controller::evaluate::{self, Report, RolloutClock, Tick};
use serin_controller::intervene::{self, Action, Request};
use serin_controller::ports::{Clock, Topic};
use serin_controller::work::{self, Run};
use serin_core::alert::{Alert, RollbackRequest};
use serin_core::rollout::{Plan, Rollout};
use serin_genesys::{Credentials, Genesys, Settings};
use serin_simulator::{Organization, Wall, serve};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// Waits by jumping: whoever waits moves the time on, for the organization too.
#[derive(Debug, Clone)]
pub struct Jumping {
    /// What the time was when nobody had waited yet.
    begun: Arc<Mutex<Timestamp>>,
    wall: Wall,
}

impl Jumping {
    /// Never back: who waited longer than callers called stays ahead of them.
    fn set(&self, now: Timestamp) {
        let passed = SignedDuration::try_from(self.wall.passed()).expect("less than centuries");
        let mut begun = self.begun.lock().expect("nobody panics with the time in hand");
        *begun = (*begun).max(now - passed);
    }
}

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        *self.begun.lock().expect("nobody panics with the time in hand") + self.wall.passed()
    }

    async fn sleep(&self, duration: SignedDuration) {
        self.wall.wait(duration.unsigned_abs()).await;
        tokio::task::yield_now().await;
    }
}

type Key = fn() -> std::future::Ready<Result<Credentials, String>>;

fn reader() -> std::future::Ready<Result<Credentials, String>> {
    std::future::ready(Credentials::parse(r#"{"client_id": "serin-read", "client_secret": "secret"}"#))
}

fn publisher() -> std::future::Ready<Result<Credentials, String>> {
    std::future::ready(Credentials::parse(r#"{"client_id": "serin-publish", "client_secret": "secret"}"#))
}

/// A stage whose vendor answers over HTTP.
#[derive(Debug)]
pub struct Live {
    /// AWS, and the time.
    pub world: World,
    base: String,
    runtime: Rc<Runtime>,
    http: reqwest::Client,
    reader: Genesys<Key, Jumping>,
    publisher: Genesys<Key, Jumping>,
    clock: Jumping,
    flows: Vec<String>,
    served: usize,
}

impl Live {
    /// A stage on an organization; `flows` are the names of its slots. Conversation details are read as in production, or so many pages.
    pub fn new(organization: Value, flows: &[&str], pages: Option<u32>) -> Live {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let settings = serde_json::from_value(organization).expect("settings of an organization");
        let wall = Wall::standing();
        let organization = Organization::new(settings).expect("an organization").by_the_clock(wall.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        runtime.spawn(serve(listener, organization));
        let clock = Jumping { begun: Arc::new(Mutex::new(crate::world::epoch())), wall };
        let client = |key: Key| {
            let settings = Settings::new(&base, None).expect("an address");
            let settings = pages.map_or(settings.clone(), |pages| settings.with_detail_pages(pages));
            Genesys::new(settings, key, clock.clone()).expect("a client")
        };
        let (reader, publisher) = (client(reader), client(publisher));
        let world = World::new(flows);
        world.state().traffic.elsewhere = true;
        let flows = flows.iter().map(|f| (*f).to_owned()).collect();
        let live =
            Live { world, base, http: reqwest::Client::new(), reader, publisher, clock, flows, served: 0, runtime: Rc::new(runtime) };
        live.order("faults", json!({"faults": [{"kind": "publish_seconds", "seconds": 0}]}));
        live
    }

    /// An order to the simulation's control side.
    #[track_caller]
    pub fn order(&self, path: &str, body: Value) -> Value {
        self.runtime.block_on(async {
            let answer = self.http.post(format!("{}/_simulator/{path}", self.base)).json(&body).send().await.expect("it answers");
            let (status, text) = (answer.status(), answer.text().await.expect("a body"));
            assert!(status.is_success(), "{path} {body}: {text}");
            serde_json::from_str(&text).unwrap_or(Value::Null)
        })
    }

    /// What the control side tells.
    pub fn told(&self, path: &str) -> Value {
        self.runtime.block_on(async {
            let answer = self.http.get(format!("{}/_simulator/{path}", self.base)).send().await.expect("it answers");
            answer.json().await.expect("json")
        })
    }

    /// Runs something to its end.
    pub fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Somebody orders a fault.
    pub fn fault(&self, fault: Value) {
        self.order("faults", json!({"faults": [fault]}));
    }

    /// Opens a rollout.
    pub fn start(&self, plan: Plan) -> Result<String, String> {
        plan.check()?;
        let (process, request) = (self.world.process("cli"), self.request());
        let started = intervene::start(&process, &process, &process, plan, &request);
        self.runtime.block_on(started).map_err(|e| e.to_string())
    }

    /// A person does something.
    pub fn person(&self, flow: &str, action: Action) -> Result<Rollout, String> {
        let (process, flow, request) = (self.world.process("cli"), name(flow), self.request());
        let done = intervene::intervene(&process, &process, &self.publisher, &process, &flow, action, &request);
        self.runtime.block_on(done).map_err(|e| e.to_string())
    }

    fn request(&self) -> Request {
        Request { by: "sam".into(), reason: "a release".into(), now: self.world.state().now, stage: "test".into(), holder: None }
    }

    /// Every fault ends, but publishing stays quick.
    pub fn clear_faults(&self) {
        let cleared = self.http.delete(format!("{}/_simulator/faults", self.base)).send();
        assert!(self.runtime.block_on(cleared).expect("it answers").status().is_success());
        self.fault(json!({"kind": "publish_seconds", "seconds": 0}));
    }

    /// Calls of the next minutes that get the change.
    pub fn canary_calls(&self, minutes: u32) -> u64 {
        self.moved(minutes)["canary"].as_u64().expect("a count")
    }

    /// Callers call for some minutes, by what the parameters say now.
    pub fn calls(&self, minutes: u32) {
        self.moved(minutes);
    }

    /// The same; what the organization says of it.
    pub fn moved(&self, minutes: u32) -> Value {
        let wall = self.world.state().now.to_string();
        let heartbeat = self.world.state().heartbeat;
        let parameters: serde_json::Map<String, Value> = self
            .flows
            .iter()
            .map(|flow| {
                let seen = self.world.state().projections[&name(flow)].seen.clone();
                let given = json!({
                    "percentage": seen.percentage.map(|(text, _)| text), "rollout": seen.rollout, "halt": seen.halt,
                    "heartbeat": heartbeat.map(|at| at.to_string()), "wall": wall,
                });
                (flow.clone(), given)
            })
            .collect();
        let moved = self.order("advance", json!({"minutes": minutes, "parameters": parameters}));
        let now: Timestamp = moved["now"].as_str().and_then(|now| now.parse().ok()).expect("the time");
        self.world.advance_to(now);
        self.clock.set(now);
        moved
    }

    /// The evaluator's tick.
    pub fn evaluate(&self) -> Result<Report, String> {
        let process = self.world.process("evaluator");
        let ports =
            evaluate::Ports { ledger: &process, parameters: &process, analytics: &self.reader, notifier: &process, clock: &self.clock };
        let time = self.world.state().now;
        let tick = Tick { stage: "test".into(), time, clock: RolloutClock::Wall, run: process.name.clone() };
        let report = self.runtime.block_on(evaluate::evaluate(&ports, &tick)).map_err(|e| e.to_string());
        self.world.advance_to(self.clock.now());
        report
    }

    /// The executor's tick.
    pub fn work(&self) {
        let process = self.world.process("executor");
        let _ = self.runtime.block_on(work::work(&self.ports(&process), &self.run(&process)));
        self.world.advance_to(self.clock.now());
    }

    fn ports<'a>(&'a self, process: &'a Process) -> work::Ports<'a, Process, Process, Genesys<Key, Jumping>, Process, Jumping> {
        work::Ports { ledger: process, parameters: process, flows: &self.publisher, notifier: process, clock: &self.clock }
    }

    fn run(&self, process: &Process) -> Run {
        Run { time: self.world.state().now, clock: RolloutClock::Wall, id: process.name.clone(), stage: "test".into(), region: None }
    }

    /// A minute passes, then everything that runs every minute runs.
    pub fn minute(&mut self) {
        self.calls(1);
        let _ = self.evaluate();
        self.work();
        self.deliver();
    }

    /// The queue hands over what was published on the rollback topic.
    pub fn deliver(&mut self) {
        while let Some(notice) = { self.world.state().told.get(self.served).cloned() } {
            self.served += 1;
            if notice.topic == Topic::Rollback {
                let request: RollbackRequest = serde_json::from_str(&notice.body).expect("a request");
                let process = self.world.process("executor");
                let sent = self.world.state().now;
                let _ = self.runtime.block_on(work::serve(&self.ports(&process), &self.run(&process), &request, sent));
            }
        }
    }

    /// What was published on the rollback topic gets lost.
    pub fn lose_messages(&mut self) {
        self.served = self.world.state().told.len();
    }

    /// Time passes without a call.
    pub fn wait(&self, duration: SignedDuration) {
        self.runtime.block_on(self.clock.sleep(duration));
        self.world.advance_to(self.clock.now());
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Minutes until a flow's rollout is in a phase.
    #[track_caller]
    pub fn until_phase(&mut self, flow: &str, phase: &str, at_most: u32) {
        for _ in 0..at_most {
            if self.phase(flow) == phase {
                return;
            }
            self.minute();
        }
        assert_eq!(self.phase(flow), phase, "within {at_most} minutes; it stands so:\n{}", self.story());
    }

    /// Minutes until a flow's rollout has ended; in which phase.
    #[track_caller]
    pub fn until_end(&mut self, flow: &str, at_most: u32) -> &'static str {
        for _ in 0..at_most {
            let rollout = self.rollout(flow);
            if rollout.phase.is_terminal() {
                return rollout.phase.name();
            }
            self.minute();
        }
        panic!("not within {at_most} minutes; it stands so:\n{}", self.story());
    }

    /// A flow's latest rollout.
    pub fn rollout(&self, flow: &str) -> Rollout {
        self.world.state().rollout(&name(flow)).expect("the flow has a rollout")
    }

    /// Where it stands.
    pub fn phase(&self, flow: &str) -> &'static str {
        self.rollout(flow).phase.name()
    }

    /// Alerts that arrived, in order.
    pub fn alerts(&self) -> Vec<Alert> {
        let state = self.world.state();
        let alerts = state.told.iter().filter(|n| n.topic == Topic::Alerts);
        alerts.map(|n| serde_json::from_str(&n.body).expect("an alert")).collect()
    }

    /// What happened, for a failing test.
    pub fn story(&self) -> String {
        let state = self.world.state();
        let mut lines = Vec::new();
        for book in state.books.values() {
            let told = book.entries.iter().map(|s| &s.entry);
            lines.extend(told.map(|e| format!("{} {} {} by {}: {}", e.at, e.rollout, e.event.name(), e.by, e.why)));
        }
        lines.push(format!("at {}", state.now));
        lines.extend(state.violations.iter().cloned());
        lines.join("\n")
    }

    /// No law was broken so far, and nothing is left where it should not be.
    #[track_caller]
    pub fn assert_lawful(&self) {
        self.world.state().check_at_rest();
        self.world.state().check_told();
        let violations = self.world.state().violations.clone();
        assert!(violations.is_empty(), "{}\n{}", violations.join("\n"), self.story());
    }
}
