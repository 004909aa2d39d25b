//! Every port in memory: what Serin sees of AWS and Genesys Cloud, with faults at each call and a clock that only tests move.
//!
//! A [`Process`] is one running function: it implements all ports on the shared [`State`]. A crash stops a process for good in the
//! middle of a call, with or without the call's effect; a new process then finds what it left.

mod entrances;
mod flows;
mod laws;
mod ledger;
mod notifier;
mod parameters;
mod rows;
mod traffic;

pub use flows::FlowInGenesys;
pub use ledger::FlowBook;
pub use parameters::{Projection, Writer};
pub use rows::Found;
pub use traffic::{Behavior, OUTCOMES, TABLE, Traffic, Way};

use jiff::{SignedDuration, Timestamp};
use serin_controller::ports::{Clock, KnownGood, Notice, Pointer};
use serin_core::calendar::Restriction;
use serin_core::rollout::FlowName;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing happens.
    Fail,
    /// It fails for the caller, and its effect stands.
    TimeOut,
    /// It fails for the caller, and its effect lands so many calls later. Only a write of the percentage or of a row can; others just fail.
    Late(usize),
    /// A read answers with what stood before the last write. Only reads of parameters and rows can; others are not disturbed.
    Stale,
    /// The process dies before the effect.
    CrashBefore,
    /// The process dies after the effect.
    CrashAfter,
}

/// One port call, as it was made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which process.
    pub process: String,
    /// Port and function, such as `ledger.commit`.
    pub name: &'static str,
    /// What about, such as the event that was recorded.
    pub detail: String,
}

/// Faults at random calls.
#[derive(Debug)]
pub struct Chaos {
    /// Decides.
    pub rng: fastrand::Rng,
    /// Chance per call.
    pub chance: f64,
    /// What can go wrong.
    pub kinds: Vec<Fault>,
}

/// The whole world.
#[derive(Debug)]
pub struct State {
    /// The time in which calls are made.
    pub now: Timestamp,
    /// How far the wall clock is ahead of it: as on the local stage, where events carry their own time.
    pub wall_ahead: SignedDuration,
    /// Every port call so far.
    pub calls: Vec<Call>,
    /// Faults by the number of the call.
    pub faults: BTreeMap<usize, Fault>,
    /// Faults at random calls.
    pub chaos: Option<Chaos>,
    /// Calls that fail as long as their name stands here; a whole port by its name.
    pub outages: BTreeSet<&'static str>,
    /// What each call of a name meets, as long as it stands here.
    pub ailing: BTreeMap<&'static str, Fault>,
    /// Whether raises time out and land only when they are let.
    pub late_writes: bool,
    /// Whether a process gives way to others at each call.
    pub interleaved: bool,
    /// What goes wrong against a law, found while it happened.
    pub violations: Vec<String>,
    /// Rollouts whose calls were taken away, by the ledger.
    pub contained: BTreeSet<(FlowName, String)>,
    /// How often each law had something to check, by its number and by what that was; under 0, what Genesys Cloud said no to.
    pub exercised: BTreeMap<(u8, &'static str), u64>,
    /// Those of them that the halt marker was seen to name.
    pub held: BTreeSet<(FlowName, String)>,
    /// DynamoDB.
    pub books: BTreeMap<FlowName, FlowBook>,
    /// Notices waiting.
    pub outbox: BTreeMap<String, Notice>,
    /// Every notice that was ever recorded.
    pub recorded_notices: BTreeSet<String>,
    /// Quarantined configurations, and the rollouts that were taken back for them.
    pub quarantine: BTreeMap<(FlowName, String), String>,
    /// Versions that proved healthy, oldest first.
    pub known_good: Vec<KnownGood>,
    /// Exports that were kept, by name.
    pub exports: BTreeMap<String, String>,
    /// Maintenance windows, freezes and stops.
    pub restrictions: Vec<Restriction>,
    /// IVR configurations: where their open hours lead.
    pub ivrs: BTreeMap<String, String>,
    /// Emergency groups, and whether their emergency is declared.
    pub emergencies: BTreeMap<String, bool>,
    /// Who may restore, and until when.
    pub restoration: Option<(FlowName, Timestamp)>,
    /// Time of the last tick's event.
    pub last_tick: Option<Timestamp>,
    /// Parameter Store.
    pub projections: BTreeMap<FlowName, Projection>,
    /// `heartbeat`.
    pub heartbeat: Option<Timestamp>,
    /// Flows whose parameters were read, each time a copy was to follow.
    pub followed: Vec<Vec<FlowName>>,
    /// Writes that land later: at which call, and what.
    late: Vec<(usize, FlowName, serin_core::weight::Weight)>,
    /// Genesys Cloud's flows.
    pub flows: BTreeMap<String, FlowInGenesys>,
    /// Where Genesys Cloud publishes files instead of where they are meant for, as long as it stands here.
    pub published_elsewhere: Option<String>,
    /// Rows of the data table [`TABLE`].
    pub rows: BTreeMap<FlowName, Pointer>,
    /// Rows as they stood before their last write.
    rows_before: BTreeMap<FlowName, Option<Pointer>>,
    /// Rows that land later: at which call, and what.
    late_rows: Vec<(usize, FlowName, Pointer)>,
    /// What a look before a rollout finds.
    pub found: Found,
    /// Who changed a row of the data table last, as the vendor's audit tells.
    pub rows_changed_by: Option<String>,
    /// Calls, and how they end.
    pub traffic: Traffic,
    /// Notices that arrived, in order.
    pub told: Vec<Notice>,
    processes: usize,
}

/// A handle on the world.
#[derive(Debug, Clone)]
pub struct World(Rc<RefCell<State>>);

/// When every world begins.
pub fn epoch() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

impl World {
    /// A world with nothing in it but these flows: each has a stable flow `{name}-stable` and a canary flow `{name}-canary` with
    /// good versions, and on the canary flow a healthy version `15.0` and a broken one `16.0`, both checked in.
    pub fn new(flows: &[&str]) -> World {
        let names: Vec<FlowName> = flows.iter().map(|f| f.parse().unwrap()).collect();
        let mut in_genesys = BTreeMap::new();
        for name in flows {
            in_genesys.insert(format!("{name}-stable"), FlowInGenesys::new("Stable", &[("14.0", "good")], "14.0"));
            let versions = [("13.0", "good"), ("15.0", "better"), ("16.0", "broken"), ("17.0", "best")];
            in_genesys.insert(format!("{name}-canary"), FlowInGenesys::new("Canary", &versions, "13.0"));
        }
        World(Rc::new(RefCell::new(State {
            now: epoch(),
            wall_ahead: SignedDuration::ZERO,
            calls: Vec::new(),
            faults: BTreeMap::new(),
            chaos: None,
            outages: BTreeSet::new(),
            ailing: BTreeMap::new(),
            late_writes: false,
            interleaved: false,
            violations: Vec::new(),
            contained: BTreeSet::new(),
            exercised: BTreeMap::new(),
            held: BTreeSet::new(),
            books: BTreeMap::new(),
            outbox: BTreeMap::new(),
            recorded_notices: BTreeSet::new(),
            quarantine: BTreeMap::new(),
            known_good: Vec::new(),
            exports: BTreeMap::new(),
            restrictions: Vec::new(),
            ivrs: BTreeMap::new(),
            emergencies: BTreeMap::new(),
            restoration: None,
            last_tick: None,
            projections: names.iter().map(|n| (n.clone(), Projection::default())).collect(),
            heartbeat: None,
            followed: Vec::new(),
            late: Vec::new(),
            flows: in_genesys,
            published_elsewhere: None,
            rows: BTreeMap::new(),
            rows_before: BTreeMap::new(),
            late_rows: Vec::new(),
            found: Found::default(),
            rows_changed_by: None,
            traffic: Traffic::new(&names, epoch()),
            told: Vec::new(),
            processes: 0,
        })))
    }

    /// Looks at, or changes, anything; as nobody's call.
    pub fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// A function starts.
    pub fn process(&self, function: &str) -> Process {
        let mut state = self.state();
        state.processes += 1;
        let name = format!("{function}-{}", state.processes);
        Process { world: self.clone(), name, dead: Rc::new(Cell::new(false)), held_up: Rc::new(Cell::new(false)) }
    }

    /// Moves the clock, and lets the calls of the minutes between be made.
    pub fn advance_to(&self, to: Timestamp) {
        let mut state = self.state();
        state.now = state.now.max(to);
        state.run_traffic();
    }
}

impl State {
    /// What proved healthy: Genesys flow, version, configuration.
    pub fn registry(&self) -> Vec<[&str; 3]> {
        self.known_good.iter().map(|good| [good.flow.as_str(), &good.version, &good.hash]).collect()
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        self.now + self.wall_ahead
    }
}

/// One running function.
#[derive(Debug, Clone)]
pub struct Process {
    world: World,
    /// Its identity.
    pub name: String,
    dead: Rc<Cell<bool>>,
    /// Whether it was held up in the middle of its latest call.
    held_up: Rc<Cell<bool>>,
}

/// Whoever gives way for longer gets no answer to the call any more: the connection has timed out.
const PATIENCE: SignedDuration = SignedDuration::from_secs(15);

impl Process {
    /// Whether it crashed.
    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// One port call: counted, disturbed, and then done.
    async fn step<T, E>(
        &self,
        name: &'static str,
        detail: impl Into<String>,
        failed: impl Fn() -> E,
        effect: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        let fault = self.begin(name, detail.into()).await;
        self.finish(fault, failed, effect).await
    }

    async fn finish<T, E>(
        &self,
        fault: Option<Fault>,
        failed: impl Fn() -> E,
        effect: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        match fault {
            None | Some(Fault::Stale) => effect(&mut self.world.state()),
            Some(Fault::Fail | Fault::Late(_)) => Err(failed()),
            Some(Fault::TimeOut) => {
                let _ = effect(&mut self.world.state());
                Err(failed())
            }
            Some(Fault::CrashBefore) => self.die().await,
            Some(Fault::CrashAfter) => {
                let _ = effect(&mut self.world.state());
                self.die().await
            }
        }
    }

    /// Counts a call and says what goes wrong with it. A dead process makes no call any more.
    async fn begin(&self, name: &'static str, detail: String) -> Option<Fault> {
        let asked = self.world.state().now;
        if self.world.state().interleaved {
            give_way().await;
        }
        self.held_up.set(self.world.state().now.duration_since(asked) > PATIENCE);
        if self.dead.get() {
            std::future::pending::<()>().await;
        }
        let mut state = self.world.state();
        let number = state.calls.len();
        state.calls.push(Call { process: self.name.clone(), name, detail });
        state.land_late(number);
        // A raise that was on its way all the time lands over whatever was written meanwhile.
        if self.held_up.get() && name == "parameters.put_percentage" && state.calls[number].detail.contains(" raise ") {
            return Some(Fault::Late(0));
        }
        let port = name.split('.').next().unwrap_or_default();
        if state.outages.contains(name) || state.outages.contains(port) {
            return Some(Fault::Fail);
        }
        if state.late_writes && name == "parameters.put_percentage" {
            return Some(Fault::Late(1_000_000));
        }
        let planned = state.faults.remove(&number).or(state.ailing.get(name).copied());
        let random = state.chaos.as_mut().and_then(|chaos| {
            let hit = chaos.rng.f64() < chaos.chance;
            hit.then(|| chaos.kinds[chaos.rng.usize(..chaos.kinds.len())])
        });
        planned.or(random)
    }

    async fn die<T>(&self) -> T {
        self.dead.set(true);
        std::future::pending().await
    }
}

async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|_| match std::mem::replace(&mut given, true) {
        true => std::task::Poll::Ready(()),
        false => std::task::Poll::Pending,
    })
    .await;
}

impl Clock for Process {
    fn now(&self) -> Timestamp {
        self.world.state().wall()
    }

    /// Virtual: nobody waits, the clock moves.
    async fn sleep(&self, duration: SignedDuration) {
        // Whoever else runs gets some twenty calls done in a second.
        let interleaved = self.world.state().interleaved;
        for _ in 0..(20 * duration.as_secs()).min(400) * i64::from(interleaved) {
            give_way().await;
        }
        self.world.state().now += duration;
    }
}
