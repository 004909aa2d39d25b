//! The executor's work on Genesys Cloud: prepare a canary flow, finalize a promotion, put a flow back.
//!
//! Intent → act → outcome. Each piece of work begins by looking at what is, so a rerun finishes what a crash began; none waits
//! longer than a function may run, for the next tick goes on.

use crate::contain::{Target, contain};
use crate::evaluate::RolloutClock;
use crate::outbox;
use crate::pointer;
use crate::ports::{
    Authority, Clock, Entrances, FlowError, FlowState, Flows, Lease, Ledger, LedgerError, Notifier, Parameters, Preflight, Rows,
};
use crate::preflight::{Looked, Sought, listed, look, published, unlocked, way_back};
use crate::record::{Opened, Record, is_executors, leased, open, record};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serin_core::alert::RollbackRequest;
use serin_core::calendar::{in_force, maintenance};
use serin_core::decision::{Facts, overdue};
use serin_core::phase::{Detour, Event, Phase};
use serin_core::projection::{Seen, Standing, standing};
use serin_core::rollout::{Actor, Cause, FlowName, Rollout, Snapshot, Strategy};
use serin_core::weight::Weight;

/// The ports the executor needs.
#[derive(Debug)]
pub struct Ports<'a, L, P, F, N, C> {
    /// The truth.
    pub ledger: &'a L,
    /// The projection.
    pub parameters: &'a P,
    /// Flows, by a client that may publish.
    pub flows: &'a F,
    /// The topics.
    pub notifier: &'a N,
    /// The wall clock.
    pub clock: &'a C,
}

/// What one run is told besides its ports.
#[derive(Debug, Clone)]
pub struct Run {
    /// Time of the event or message.
    pub time: Timestamp,
    /// Which clock counts.
    pub clock: RolloutClock,
    /// Identity of this run, for the lease.
    pub id: String,
    /// Stage, part of what owns a row.
    pub stage: String,
    /// AWS region that the functions run in, where it is known.
    pub region: Option<String>,
}

/// What was done on one flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Worked {
    /// The flow.
    pub flow: FlowName,
    /// Where its rollout stands now.
    pub phase: String,
    /// What was done, or what is waited for.
    pub step: String,
}

/// What the executor does in Genesys Cloud.
pub trait Executing: Flows + Rows + Entrances + Preflight {}

impl<F: Flows + Rows + Entrances + Preflight> Executing for F {}

/// As long as the function may run, so that the next tick can go on after a run that was killed.
const LEASE_FOR: SignedDuration = SignedDuration::from_secs(60);
/// No further flow is begun after so long.
const ENOUGH: SignedDuration = SignedDuration::from_secs(30);
/// A publish into the stable flow that was begun may still take effect for so long, whoever began it.
const COPY_LASTS: SignedDuration = SignedDuration::from_secs(90);
/// Between two looks at a running publish.
const POLL: SignedDuration = SignedDuration::from_secs(1);
/// Looks at a running publish before the next tick takes over.
const POLLS: u32 = 20;
/// Between two tries at a flow that a person has locked.
const LOCK_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// Tries before a person is called.
const LOCK_TRIES: u32 = 3;
/// Calls that the parameters did not take back for so long are led around.
const PARAMETER_BUDGET: SignedDuration = SignedDuration::from_secs(30);
/// An IVR that could not be led there for so long is given up.
const IVR_BUDGET: SignedDuration = SignedDuration::from_mins(2);
/// Times that calls are taken back in a run before they are led around, and the pause between.
const CONTAINMENT_TRIES: u32 = 3;
const BETWEEN_TRIES: SignedDuration = SignedDuration::from_secs(3);
/// No further try after so long.
const CONTAINMENT_LASTS: SignedDuration = SignedDuration::from_secs(10);
/// A request older than this is void.
const VOID_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The phase of a flow that could not be worked on.
pub const UNKNOWN: &str = "unknown";

/// Goes on with whatever is preparing, finalizing or rolling back.
pub async fn work<L: Ledger, P: Parameters, F: Executing, N: Notifier, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
) -> Result<Vec<Worked>, LedgerError> {
    let mut worked = Vec::new();
    let started = ports.clock.now();
    let mut active = ports.ledger.active().await?;
    // Where a rollout stands is written with each entry, so those that are watched or over need not be opened to be passed over. What is
    // rolled back comes first; the others have half an hour.
    active.retain(|a| [Phase::Preparing, Phase::Finalizing, Phase::RollingBack].iter().any(|phase| phase.name() == a.phase));
    active.sort_by_key(|a| a.phase != Phase::RollingBack.name());
    for active in active {
        if ports.clock.now().duration_since(started) > ENOUGH {
            tracing::warn!("out of time; the next tick goes on");
            break;
        }
        // One flow's trouble is not the next one's.
        match work_on(ports, run, &active.flow).await {
            Ok(Some(done)) => worked.push(done),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(flow = %active.flow, %error, "not worked on; the next tick tries again");
                worked.push(Worked { flow: active.flow, phase: UNKNOWN.into(), step: error.to_string() });
            }
        }
    }
    outbox::send(ports.ledger, ports.notifier).await;
    Ok(worked)
}

/// Serves a request to put a flow back: contains, records, restores. `sent` is when the message was sent, on the wall clock.
pub async fn serve<L: Ledger, P: Parameters, F: Executing, N: Notifier, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    request: &RollbackRequest,
    sent: Timestamp,
) -> Result<Worked, LedgerError> {
    let flow = &request.flow;
    let worked = |phase: &str, step: String| Worked { flow: flow.clone(), phase: phase.to_owned(), step };
    let mut opened = open(ports.ledger, flow).await?;
    let Some(rollout) = opened.rollout.clone() else {
        return Ok(worked("none", format!("flow {flow} has no rollout: nothing to put back")));
    };
    let phase = rollout.phase.name();
    if let Some(meant) = request.rollout.as_ref().filter(|meant| **meant != rollout.id) {
        return Ok(worked(phase, format!("the request means rollout {meant}, the latest is {}: nothing done", rollout.id)));
    }
    let opened_at = opened.book.entries.first().map(|first| first.entry.recorded_at);
    if request.rollout.is_none() && opened_at.is_some_and(|at| sent < at) {
        return Ok(worked(phase, format!("the request is older than rollout {}: nothing done", rollout.id)));
    }
    if rollout.phase == Phase::Promoted && rollout.stays_on_canary() {
        // An error, so that it ends in the dead-letter queue and its alarm, and not in silence.
        let reason = format!(
            "rollout {} was promoted, and its callers stay on the new version: set the percentage to 0 by hand (a row's Traffic_Weight, after a swap)",
            rollout.id
        );
        return Err(LedgerError::Lost { flow: flow.to_string(), reason });
    }
    if rollout.phase.is_terminal() && rollout.is_off_the_canary() {
        return Ok(worked(phase, format!("rollout {} has ended as {phase}: nothing to put back", rollout.id)));
    }
    if rollout.phase != Phase::RollingBack {
        if ports.clock.now().duration_since(sent) > VOID_AFTER {
            // An error, so that it ends in the dead-letter queue and its alarm, and not in silence.
            let reason = format!(
                "a rollback request of {} is older than 10 minutes and void; send it again if it is still meant",
                request.requested_by
            );
            return Err(LedgerError::Lost { flow: flow.to_string(), reason });
        }
        let cause = Cause::Requested { by: request.requested_by.clone(), reason: request.reason.clone() };
        if request.by_alarm && rollout.is_left_to_person() {
            let step = "an alarm takes nothing back to a stable flow that a person called broken; `serin rollback` does".to_owned();
            tracing::warn!(%flow, step, "an alarm is not followed");
            return Ok(worked(phase, step));
        }
        if request.by_alarm
            && let Some(done) = withheld(ports, run, &opened, &cause, sent).await?
        {
            return Ok(done);
        }
        opened = begin(ports, run, flow, opened, cause).await?;
    }
    tracing::info!(%flow, phase = opened.rollout.as_ref().map(|r| r.phase.name()), "rollback request served");
    let done = work_on(ports, run, flow).await?;
    outbox::send_few(ports.ledger, ports.notifier).await;
    Ok(done.unwrap_or_else(|| worked("RollingBack", "another run is at it".into())))
}

/// In a maintenance window an alarm takes nothing back; that it would have is recorded and told, once. `sent` counts too: a message that comes
/// late is of the window in which it was sent.
async fn withheld<L: Ledger, P, F, N: Notifier, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    opened: &Opened,
    cause: &Cause,
    sent: Timestamp,
) -> Result<Option<Worked>, LedgerError> {
    let Some(rollout) = &opened.rollout else { return Ok(None) };
    let (flow, wall) = (&rollout.plan.flow, ports.clock.now());
    let now = run.clock.now(wall, run.time);
    // What cannot be read keeps nothing from being taken back.
    let restrictions = ports.ledger.restrictions().await.unwrap_or_default();
    let held = [now, now - wall.duration_since(sent)].map(|at| (in_force(&restrictions, flow, at), at));
    let Some((window, at)) = held.iter().find_map(|(held, at)| maintenance(held).map(|(window, _)| (window, *at))) else {
        return Ok(None);
    };
    let why = format!("{cause}; not rolled back, for errors are expected: {window}");
    let restriction = window.occurrence(at);
    let unsaid = rollout.withheld.as_ref().is_none_or(|(told, _)| *told != restriction);
    let event = Event::RollbackWithheld { cause: cause.clone(), restriction, contained: None };
    if rollout.phase.clone().after(&event).is_err() {
        // Nothing is compared any more: a promotion that is being finished does not wait for the end of a window.
        return Ok(None);
    }
    tracing::warn!(%flow, why, "an alarm is not followed");
    if unsaid {
        let entry = note(ports.clock, run, executor(), event, why.clone());
        match leased(ports.ledger, flow, opened, &run.id, [wall, wall + LEASE_FOR], entry).await {
            // Another run is at it, and says so itself.
            Ok(_) | Err(LedgerError::Lost { .. }) => {}
            Err(error) => return Err(error),
        }
        outbox::send_few(ports.ledger, ports.notifier).await;
    }
    Ok(Some(Worked { flow: flow.clone(), phase: rollout.phase.name().into(), step: why }))
}

/// Contains first, then takes the ledger over.
async fn begin<L: Ledger, P: Parameters, F: Rows, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    flow: &FlowName,
    mut opened: Opened,
    cause: Cause,
) -> Result<Opened, LedgerError> {
    let rollout = opened.rollout.clone().expect("a rollback is of a rollout");
    let by = match &cause {
        Cause::Requested { by, .. } => Actor::Person(by.clone()),
        _ => executor(),
    };
    for _ in 0..5 {
        let phase = opened.rollout.as_ref().map_or(&Phase::Preparing, |r| &r.phase);
        // Before the first step no call was moved, and the split still names the rollout before: its halt marker must stay.
        if *phase != Phase::Preparing {
            put_on_stable(ports, run, flow, &rollout).await;
        }
        let event = match phase {
            // There is nothing to put back, or nobody knows any more what to put back.
            Phase::Preparing if !(rollout.is_unsplit() && rollout.snapshot.is_some()) => Event::Aborted { reason: cause.to_string() },
            Phase::Contaminated => Event::Aborted { reason: cause.to_string() },
            _ => Event::RollbackStarted { cause: cause.clone() },
        };
        let authority = Authority::Preempt { fence: opened.book.fence, owner: run.id.clone() };
        let entry = note(ports.clock, run, by.clone(), event, cause.to_string());
        match record(ports.ledger, flow, &opened, authority, entry).await {
            Err(LedgerError::Lost { .. }) => opened = open(ports.ledger, flow).await?,
            outcome => return outcome,
        }
        let over = opened.rollout.as_ref().is_none_or(|now| now.id != rollout.id || now.is_off_the_canary());
        if over {
            return Ok(opened);
        }
    }
    Err(LedgerError::Lost { flow: flow.to_string(), reason: "others kept recording".into() })
}

async fn put_on_stable<L, P: Parameters, F: Rows, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    flow: &FlowName,
    rollout: &Rollout,
) -> bool {
    let seen = ports.parameters.read(flow).await.ok();
    let results = contain(ports.parameters, ports.flows, &run.stage, &[Target { flow, rollout, seen: seen.as_ref() }]).await;
    for error in results.iter().filter_map(|r| r.as_ref().err()) {
        tracing::error!(%flow, %error, "containment incomplete; every tick tries again");
    }
    results.iter().all(Result::is_ok)
}

fn executor() -> Actor {
    Actor::Serin("rollback-executor".into())
}

fn note(clock: &impl Clock, run: &Run, by: Actor, event: Event, why: String) -> Record {
    let wall = clock.now();
    Record { by, event, why, evidence: None, at: run.clock.now(wall, run.time), recorded_at: wall }
}

/// One flow under its lease.
struct Task<'a, 'p, L, P, F, N, C> {
    ports: &'a Ports<'p, L, P, F, N, C>,
    run: &'a Run,
    flow: &'a FlowName,
    lease: Lease,
    /// Whether what is rolled back has no more calls, as far as this run could do something about it.
    contained: bool,
    opened: Opened,
}

async fn work_on<L: Ledger, P: Parameters, F: Executing, N: Notifier, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    flow: &FlowName,
) -> Result<Option<Worked>, LedgerError> {
    let opened = open(ports.ledger, flow).await?;
    let Some(rollout) = opened.rollout.as_ref().filter(|r| is_executors(&r.phase)) else { return Ok(None) };
    if rollout.phase == Phase::Preparing && rollout.canary_version.is_some() {
        return Ok(None);
    }
    // Calls must be on stable whoever holds the lease.
    let (mut contained, mut detour) = (false, None);
    if rollout.phase == Phase::RollingBack {
        let calls = calls_of(ports, run, flow, rollout).await;
        contained = calls == Calls::Off;
        // Where nobody can see the parameters, random-percentage cannot either, and answers stable.
        if calls == Calls::On {
            detour = lead_around(ports, run, rollout).await;
        }
    }
    let wall = ports.clock.now();
    let lease = match ports.ledger.lease(flow, &run.id, wall, wall + LEASE_FOR).await {
        Ok(lease) => lease,
        Err(LedgerError::Lost { reason, .. }) => {
            return Ok(Some(Worked { flow: flow.clone(), phase: rollout.phase.name().into(), step: reason }));
        }
        Err(error) => return Err(error),
    };
    let mut task = Task { ports, run, flow, lease, contained: contained || detour.is_some(), opened: open(ports.ledger, flow).await? };
    let outcome = match detour {
        Some((detour, reason)) => task.led_around(detour, reason).await,
        None => task.step().await,
    };
    if let Err(error) = ports.ledger.release(flow, &task.lease).await {
        tracing::warn!(%flow, %error, "lease not given back; it ends by itself");
    }
    let step = outcome?;
    let phase = task.rollout().phase.name().to_owned();
    tracing::info!(%flow, phase, step, "worked");
    Ok(Some(Worked { flow: flow.clone(), phase, step }))
}

/// Where the calls of what is rolled back are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// Not on the canary any more, or not ours to move.
    Off,
    /// On the canary, as was seen.
    On,
    /// Nobody could see.
    Unknown,
}

/// Takes the calls back, and looks where they are: one write that fails need not mean that they are on the canary, for any of the parameters
/// is enough. Tried again for some seconds where there is something to lead the calls around with.
async fn calls_of<L, P: Parameters, F: Executing, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    flow: &FlowName,
    rollout: &Rollout,
) -> Calls {
    // The evaluator repairs the parameters at every tick.
    if rollout.is_unsplit() || rollout.restoration.detour.is_some() {
        return Calls::Off;
    }
    let (back, started) = (&rollout.plan.rollback, ports.clock.now());
    let tries = if back.ivr.is_some() || back.emergency_group.is_some() { CONTAINMENT_TRIES } else { 1 };
    let mut calls = Calls::Unknown;
    for n in 1..=tries {
        if put_on_stable(ports, run, flow, rollout).await {
            return Calls::Off;
        }
        let is_off = match pointer::table(rollout) {
            // A row that another installation took over is theirs, and so are its calls.
            Some(table) => ports
                .flows
                .pointer(table, flow)
                .await
                .ok()
                .map(|row| row.is_none_or(|row| row.weight < Weight::FULL || pointer::is_foreign(&row, &run.stage))),
            None => ports.parameters.read(flow).await.ok().map(|seen| seen.halts(&rollout.id) || seen.is_zero()),
        };
        calls = match is_off {
            Some(true) => return Calls::Off,
            Some(false) => Calls::On,
            None => Calls::Unknown,
        };
        // Where each try hangs until it times out, the time is better spent on another way.
        if n == tries || ports.clock.now().duration_since(started) > CONTAINMENT_LASTS {
            break;
        }
        ports.clock.sleep(BETWEEN_TRIES).await;
    }
    calls
}

/// Takes the calls around the canary by what stands before the parameters, once these had their time: the open hours of the IVR that the
/// rollout file names, or else the emergency that it arms. Says what was done, if anything was.
async fn lead_around<L, P, F: Entrances, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    rollout: &Rollout,
) -> Option<(Detour, String)> {
    let since = run.clock.now(ports.clock.now(), run.time).duration_since(rollout.phase_since);
    if since < PARAMETER_BUDGET {
        return None;
    }
    let (back, stable) = (&rollout.plan.rollback, rollout.plan.stable_flow());
    let before = rollout.snapshot.as_ref().and_then(|s| s.ivr_flow.as_deref());
    if let (Some(ivr), Some(before)) = (&back.ivr, before) {
        match ports.flows.lead(ivr, before, stable).await {
            Ok(true) => {
                let reason = format!(
                    "the calls could not be taken back, so IVR {ivr} leads to stable flow {stable} itself and no longer to {before}"
                );
                return Some((Detour::Ivr { id: ivr.to_owned(), before: before.to_owned() }, reason));
            }
            Ok(false) => {
                tracing::error!(flow = %rollout.plan.flow, ivr, "the IVR does not lead to the traffic cop any more, and is left to whoever led it elsewhere");
                return None;
            }
            Err(error) => {
                tracing::error!(flow = %rollout.plan.flow, ivr, %error, "the IVR does not lead around the canary");
                // What may work in a minute is tried again before all callers get an emergency.
                if matches!(error, FlowError::TryLater(_) | FlowError::Locked { .. }) && since < IVR_BUDGET {
                    return None;
                }
            }
        }
    }
    let group = back.emergency_group.as_ref()?;
    declared(ports, rollout, group).await.map(|detour| {
        let reason =
            format!("the calls could not be taken back, and no IVR led around the canary, so the emergency of group {group} was declared");
        (detour, reason)
    })
}

async fn declared<L, P, F: Entrances, N, C>(ports: &Ports<'_, L, P, F, N, C>, rollout: &Rollout, group: &str) -> Option<Detour> {
    match ports.flows.declare_emergency(group).await {
        Ok(()) => Some(Detour::Emergency { id: group.to_owned() }),
        Err(error) => {
            tracing::error!(flow = %rollout.plan.flow, group, %error, "the emergency was not declared");
            None
        }
    }
}

/// How a publish came out.
enum Published {
    /// The flow runs the wanted configuration, as this version.
    As(String),
    /// Still running; the next tick looks again.
    Running,
    /// It failed.
    Failed(String),
}

impl<L: Ledger, P: Parameters, F: Executing, N: Notifier, C: Clock> Task<'_, '_, L, P, F, N, C> {
    fn rollout(&self) -> &Rollout {
        self.opened.rollout.as_ref().expect("a task is made of a flow with a rollout")
    }

    async fn record(&mut self, event: Event, why: String) -> Result<String, LedgerError> {
        let entry = note(self.ports.clock, self.run, executor(), event, why.clone());
        self.opened = record(self.ports.ledger, self.flow, &self.opened, Authority::Lease(self.lease.clone()), entry).await?;
        Ok(why)
    }

    async fn step(&mut self) -> Result<String, LedgerError> {
        // The evaluator leaves a phase by its deadline too, but not while this function holds the lease.
        let late =
            |seen: &Seen| overdue(&Facts { rollout: self.rollout(), seen, analysis: None, drift: None, restricted: &[], now: self.now() });
        // Where the calls are is looked up only for whoever has to be told.
        let late = match late(&Seen::default()).filter(|_| is_executors(&self.rollout().phase)) {
            Some(_) => late(&self.ports.parameters.read(self.flow).await.unwrap_or_default()),
            None => None,
        };
        if let Some(late) = late
            && let Some(event) = late.event(0)
        {
            let said = late.to_string();
            if self.rollout().phase == Phase::RollingBack {
                // Once more before anybody is called: it may be done by now.
                let done = self.put_back().await?;
                if self.rollout().phase != Phase::RollingBack {
                    return Ok(done);
                }
            }
            return match event {
                Event::HumanNeeded { reason } => self.call_human(reason).await,
                event => self.record(event, said).await,
            };
        }
        match self.rollout().phase {
            Phase::Preparing => self.prepare().await,
            Phase::Finalizing => self.finalize().await,
            Phase::RollingBack => self.put_back().await,
            _ => Ok("nothing to do: another run finished".into()),
        }
    }

    // ---- Preparing ----

    async fn prepare(&mut self) -> Result<String, LedgerError> {
        if self.rollout().canary_version.is_some() {
            return Ok("nothing to do: prepared".into());
        }
        if self.rollout().snapshot.is_none()
            && let Some(waiting) = self.await_leave().await
        {
            return Ok(waiting);
        }
        let snapshot = match self.rollout().snapshot.clone() {
            Some(snapshot) => snapshot,
            None => match self.looked_over().await {
                Ok(snapshot) => {
                    let why = format!("before: stable {}, canary flow goes back to {}", snapshot.stable_version, snapshot.rollback_target);
                    self.record(Event::SnapshotTaken { snapshot: snapshot.clone() }, why).await?;
                    snapshot
                }
                Err(error) => return self.unprepared(error).await,
            },
        };
        let (flow, version) = (self.rollout().plan.canary.flow_id.clone(), self.rollout().plan.canary.version.clone());
        if self.rollout().is_observed() {
            return self.find_running(&flow, &version, &snapshot.canary_hash).await;
        }
        if let Some(waiting) = self.await_nobody_there().await {
            return Ok(waiting);
        }
        if let Some(waiting) = self.await_leave().await
            && !self.is_under_way(&flow, &snapshot.canary_hash).await
        {
            return Ok(waiting);
        }
        match self.publish_version(&flow, &version, &snapshot.canary_hash).await {
            Ok(Published::As(version)) => {
                if let Some(waiting) = self.await_test_call(&flow, &version).await {
                    return Ok(waiting);
                }
                let why = format!("the canary flow runs version {version}");
                self.record(Event::Prepared { canary_version: version }, why).await
            }
            Ok(Published::Running) => Ok(format!("version {version} is being published into the canary flow")),
            Ok(Published::Failed(reason)) => self.fail_preparation(format!("version {version} was not published: {reason}")).await,
            Err(error) => self.unprepared(error).await,
        }
    }

    /// Observing publishes nothing: a person does, or has.
    async fn find_running(&mut self, flow: &str, version: &str, hash: &str) -> Result<String, LedgerError> {
        let running = match self.ports.flows.flow(flow).await {
            Ok(state) => self.runs(flow, &state, hash).await,
            Err(error) => Err(error),
        };
        match running {
            Ok(Some(running)) => {
                let why = format!("the canary flow runs version {running}, published by hand");
                self.record(Event::Prepared { canary_version: running }, why).await
            }
            Ok(None) => Ok(format!("waiting: Serin only observes; publish version {version} into canary flow {flow} by hand")),
            Err(error) => self.unprepared(error).await,
        }
    }

    async fn unprepared(&mut self, error: FlowError) -> Result<String, LedgerError> {
        match error {
            FlowError::TryLater(_) | FlowError::Locked { .. } => Ok(format!("waiting: {error}")),
            FlowError::Gone(_) | FlowError::Refused(_) => self.fail_preparation(error.to_string()).await,
        }
    }

    async fn fail_preparation(&mut self, reason: String) -> Result<String, LedgerError> {
        self.record(Event::PreparationFailed { reason: reason.clone() }, reason).await
    }

    /// The snapshot, once nothing is in the way of a rollout.
    async fn looked_over(&self) -> Result<Snapshot, FlowError> {
        let Looked { mut snapshot, problems } = look(self.ports, self.run, &self.rollout().plan).await?;
        if let Some(problems) = listed(&problems) {
            return Err(FlowError::Refused(format!("{problems}; nothing was changed")));
        }
        snapshot.export = self.kept(self.rollout().plan.stable_flow(), &snapshot.stable_version).await?;
        Ok(snapshot)
    }

    /// What is waited for while callers may be in the flow, or the branch, that is published into now: after a swap, after a promotion inside
    /// a flow, or by somebody's hand. Where all callers have the flow anyway there is nothing to wait for.
    async fn await_nobody_there(&self) -> Option<String> {
        if self.rollout().is_unsplit() {
            return None;
        }
        match self.ports.parameters.read(self.flow).await {
            Ok(seen) if seen.weight() == Weight::ZERO => {}
            Ok(seen) => return Some(format!("waiting: the percentage is {} and must be 0 before anything is published", seen.weight())),
            Err(error) => return Some(format!("waiting: {error}")),
        }
        let pointed = pointer::to_stable(self.ports.flows, self.rollout(), 0, &self.run.stage).await;
        pointed.err().map(|error| format!("waiting: {error}"))
    }

    /// What is waited for while nothing may rise, where a publication gives the version to all callers.
    async fn await_leave(&self) -> Option<String> {
        if !self.rollout().is_unsplit() {
            return None;
        }
        match self.ports.ledger.restrictions().await {
            Ok(restrictions) => in_force(&restrictions, self.flow, self.now()).first().map(|one| format!("waiting: {one}")),
            Err(error) => Some(format!("waiting: {error}")),
        }
    }

    /// Whether a publication has begun, or is done: then it is seen through, for it is watched only after that.
    async fn is_under_way(&self, flow: &str, hash: &str) -> bool {
        let Ok(state) = self.ports.flows.flow(flow).await else { return false };
        state.is_busy() || self.runs(flow, &state, hash).await.is_ok_and(|running| running.is_some())
    }

    /// What is waited for while nobody's test call has ended well.
    async fn await_test_call(&self, flow: &str, version: &str) -> Option<String> {
        let smoke = self.rollout().plan.smoke.as_ref()?;
        match self.ports.flows.ended(flow, version, &smoke.dnis, self.rollout().phase_since).await {
            Ok(ended) if ended.calls > ended.errors => None,
            Ok(ended) => Some(format!(
                "waiting for a test call: version {version} is published, call {} ({} ended so far, {} of them in an error)",
                smoke.dnis, ended.calls, ended.errors
            )),
            Err(error) => Some(format!("waiting for a test call to {}: {error}", smoke.dnis)),
        }
    }

    /// Keeps a version outside of Genesys Cloud, where there is a place for it.
    async fn kept(&self, flow: &str, version: &str) -> Result<Option<String>, FlowError> {
        if !self.ports.ledger.keeps_exports() {
            return Ok(None);
        }
        let export = self.ports.flows.export(flow, version).await?;
        let name = format!("{}/{}/{flow}-{version}.yaml", self.flow, self.rollout().id);
        self.ports.ledger.keep_export(&name, &export).await.map_err(|e| FlowError::TryLater(e.to_string()))
    }

    // ---- publishing ----

    /// Publishes a version unless its configuration already runs, and looks until it does.
    async fn publish_version(&self, flow: &str, version: &str, hash: &str) -> Result<Published, FlowError> {
        let state = self.ports.flows.flow(flow).await?;
        if let Some(running) = self.runs(flow, &state, hash).await? {
            return Ok(Published::As(running));
        }
        unlocked(flow, &state)?;
        if state.is_busy() {
            return self.watch(flow, hash, None).await;
        }
        self.not_held_up()?;
        let operation = self.ports.flows.publish(flow, version).await?;
        self.watch(flow, hash, Some(&operation)).await
    }

    /// Whoever was held up for longer than its lease publishes nothing: somebody else may be at it, and the vendor knows no fence.
    fn not_held_up(&self) -> Result<(), FlowError> {
        let is_over = self.lease.until <= self.ports.clock.now();
        if is_over {
            Err(FlowError::TryLater("this run was held up for longer than its lease; the next tick goes on".into()))
        } else {
            Ok(())
        }
    }

    async fn watch(&self, flow: &str, hash: &str, operation: Option<&str>) -> Result<Published, FlowError> {
        for _ in 0..POLLS {
            let state = self.ports.flows.flow(flow).await?;
            if let Some(running) = self.runs(flow, &state, hash).await? {
                return Ok(Published::As(running));
            }
            match &state.operation {
                Some(done) if operation == Some(&done.id) && !done.running => {
                    // Publish answers well for a version that it then does not publish: only what runs counts.
                    let reason = done.failure.clone().unwrap_or_else(|| "the operation ended well, but the flow does not run it".into());
                    return Ok(Published::Failed(reason));
                }
                // Somebody else's operation ended; the next tick publishes ours.
                Some(other) if operation.is_none() && !other.running => return Ok(Published::Running),
                _ => self.ports.clock.sleep(POLL).await,
            }
        }
        Ok(Published::Running)
    }

    /// The version that runs, if it has the wanted configuration. Numbers may be minted anew; the configuration decides.
    async fn runs(&self, flow: &str, state: &FlowState, hash: &str) -> Result<Option<String>, FlowError> {
        let Some(version) = state.published.as_ref().filter(|_| !state.is_busy()) else { return Ok(None) };
        let running = self.ports.flows.configuration_hash(flow, version).await?;
        Ok((running == hash).then(|| version.clone()))
    }

    // ---- Finalizing ----

    async fn finalize(&mut self) -> Result<String, LedgerError> {
        if self.rollout().plan.strategy == Strategy::InFlow {
            if let Some(stopped) = self.stopped_by_hand().await {
                return Ok(stopped);
            }
            let flow = &self.rollout().plan.canary.flow_id;
            let why = format!(
                "all callers take the new branch, and the percentage stays at 100. Should the data action fail they take the old one: \
                 publish flow {flow} without the gate and the old branch, then set the percentage to 0"
            );
            return self.record(Event::Finalized, why).await;
        }
        if self.rollout().finalized_version.is_none() {
            match self.publish_into_stable().await? {
                Some(waiting) => return Ok(waiting),
                None if self.rollout().phase != Phase::Finalizing => return Ok("a person is needed".into()),
                None => {}
            }
        }
        let version = self.rollout().finalized_version.clone().unwrap_or_default();
        if self.rollout().stays_on_canary() {
            let why = format!(
                "the stable flow runs the promoted version as {version} too; calls stay on the canary flow until the next rollout begins"
            );
            return self.record(Event::Finalized, why).await;
        }
        // Both flows run the same version by now, so a crash in between harms nobody.
        match self.ports.parameters.read(self.flow).await {
            Ok(seen) if seen.is_zero() => {}
            Ok(_) => {
                if let Err(error) = self.ports.parameters.put_percentage(self.flow, Weight::ZERO, false).await {
                    return Ok(format!("waiting: {error}"));
                }
            }
            Err(error) => return Ok(format!("waiting: {error}")),
        }
        if let Err(error) = pointer::to_stable(self.ports.flows, self.rollout(), 0, &self.run.stage).await {
            return Ok(format!("waiting: {error}"));
        }
        self.record(Event::Finalized, format!("the stable flow runs the promoted version as {version}; calls are back on it")).await
    }

    /// `None` once the stable flow runs the promoted configuration.
    async fn publish_into_stable(&mut self) -> Result<Option<String>, LedgerError> {
        let plan = self.rollout().plan.clone();
        let (from, to) = (plan.canary.flow_id.clone(), plan.stable_flow().to_owned());
        let wanted = self.rollout().snapshot.as_ref().map(|s| s.canary_hash.clone()).unwrap_or_default();
        let mut tried = false;
        loop {
            if let Some(stopped) = self.stopped_by_hand().await {
                return Ok(Some(stopped));
            }
            let outcome = self.look_at_stable(&to, &wanted).await;
            match outcome {
                Ok(Ok(version)) => {
                    let why = format!("the stable flow runs the promoted configuration as version {version}");
                    self.record(Event::StablePublished { version }, why).await?;
                    return Ok(None);
                }
                Ok(Err(base_version)) if !tried => {
                    match self.is_running(&from, &wanted).await {
                        Ok(true) => {}
                        Ok(false) => {
                            let reason = "somebody published another version into the canary flow; the stable flow was not touched. Look at what callers get, then `serin rollback`, or put it right and `serin clear`";
                            self.call_human(reason.to_owned()).await?;
                            return Ok(None);
                        }
                        Err(error) => return self.unfinalized(error).await,
                    }
                    if !self.rollout().publishing {
                        let why = format!("the promoted version is published into the stable flow, which runs {base_version}");
                        self.record(Event::FinalizeStarted { base_version }, why).await?;
                    }
                    tried = true;
                    let copied = match self.not_held_up() {
                        Ok(()) => self.ports.flows.copy(&from, &to).await,
                        held_up => held_up,
                    };
                    if let Err(error) = copied {
                        return self.unfinalized(error).await;
                    }
                }
                Ok(Err(base_version)) => return Ok(Some(format!("waiting: the stable flow still runs {base_version}"))),
                Err(error) => return self.unfinalized(error).await,
            }
        }
    }

    /// A hand on the percentage, or a halt: the evaluator decides what it means; until then nothing is published.
    async fn stopped_by_hand(&self) -> Option<String> {
        match self.ports.parameters.read(self.flow).await {
            Ok(seen) if seen.halts(&self.rollout().id) => Some("waiting: calls were taken back to stable".into()),
            Ok(seen) if standing(self.rollout(), &seen) == Standing::AsRecorded => self.stopped_at_the_row().await,
            Ok(_) => Some("waiting: the percentage was changed by hand".into()),
            Err(error) => Some(format!("waiting: {error}")),
        }
    }

    async fn stopped_at_the_row(&self) -> Option<String> {
        let table = pointer::table(self.rollout())?;
        match self.ports.flows.pointer(table, self.flow).await {
            Ok(row) if pointer::standing(self.rollout(), row.as_ref(), &self.run.stage) == pointer::Standing::AsRecorded => None,
            Ok(_) => Some("waiting: the row that sends the calls was changed by hand".into()),
            Err(error) => Some(format!("waiting: {error}")),
        }
    }

    async fn is_running(&self, flow: &str, wanted: &str) -> Result<bool, FlowError> {
        let state = self.ports.flows.flow(flow).await?;
        if state.is_busy() {
            return Err(FlowError::TryLater(format!("an operation runs on canary flow {flow}")));
        }
        Ok(self.runs(flow, &state, wanted).await?.is_some())
    }

    async fn look_at_stable(&self, flow: &str, wanted: &str) -> Result<Result<String, String>, FlowError> {
        let state = self.ports.flows.flow(flow).await?;
        if let Some(version) = self.runs(flow, &state, wanted).await? {
            return Ok(Ok(version));
        }
        unlocked(flow, &state)?;
        if state.is_busy() {
            return Err(FlowError::TryLater(format!("an operation runs on stable flow {flow}")));
        }
        Ok(Err(published(flow, &state)?))
    }

    async fn unfinalized(&mut self, error: FlowError) -> Result<Option<String>, LedgerError> {
        match error {
            FlowError::TryLater(_) | FlowError::Locked { .. } => Ok(Some(format!("waiting: {error}"))),
            FlowError::Gone(_) | FlowError::Refused(_) => {
                let reason = format!(
                    "the stable flow cannot get the promoted version: {error}; all calls stay on the canary flow, which works. Publish it into the stable flow by hand, then `serin clear`"
                );
                self.record(Event::HumanNeeded { reason: reason.clone() }, reason).await?;
                Ok(None)
            }
        }
    }

    // ---- RollingBack ----

    async fn put_back(&mut self) -> Result<String, LedgerError> {
        let wall = self.ports.clock.now();
        if let Some(next_at) = self.rollout().restoration.next_at.filter(|at| self.now() < *at) {
            return Ok(format!("waiting for the lock's holder until {next_at:.0}"));
        }
        if !self.ports.ledger.restoration(self.flow, wall, wall + LEASE_FOR).await? {
            return Ok("waiting: another flow is being restored".into());
        }
        let outcome = self.restore().await;
        if let Err(error) = self.ports.ledger.restoration_done(self.flow).await {
            tracing::warn!(flow = %self.flow, %error, "the right to restore was not given back; it ends by itself");
        }
        outcome
    }

    async fn restore(&mut self) -> Result<String, LedgerError> {
        let Some(snapshot) = self.rollout().snapshot.clone() else {
            return self.call_human(format!("no version to go back to is recorded; {}", self.where_calls_are())).await;
        };
        let plan = self.rollout().plan.clone();
        if let Err(error) = pointer::to_stable(self.ports.flows, self.rollout(), 0, &self.run.stage).await {
            return Ok(format!("waiting: {error}"));
        }
        if plan.strategy == Strategy::InFlow && !self.contained {
            return Ok("waiting for the percentage, which could not be set to 0".into());
        }
        if plan.strategy == Strategy::InFlow {
            // The old branch is in the version that runs. Whatever somebody published meanwhile stays.
            let version = snapshot.rollback_target;
            let why = format!("all callers take the old branch; nothing is published{}", self.still_led_around().await);
            return self.record(Event::RollbackFinished { version }, why).await;
        }
        if !self.rollout().restoration.publishing {
            let base_version = self.ports.flows.flow(&plan.canary.flow_id).await.ok().and_then(|s| s.published).unwrap_or_default();
            let why = format!("version {} is published into the canary flow, which runs {base_version}", snapshot.rollback_target);
            self.record(Event::RestorationStarted { base_version }, why).await?;
        }
        // The stable flow first, if it was touched: callers are on it.
        if let Some(touched) = self.rollout().stable_touched {
            let until = touched + COPY_LASTS;
            if self.ports.clock.now() < until {
                return Ok(format!("waiting until {until:.0}: a publish into the stable flow may still be under way"));
            }
            let published = self.publish_known_good(plan.stable_flow(), &snapshot.stable_version, &snapshot.stable_hash).await;
            if let Err(unfinished) = self.restored("stable", &snapshot.stable_version, published).await? {
                return Ok(unfinished);
            }
        }
        if let Some(until) = self.may_still_land() {
            return Ok(format!("waiting until {until:.0}: the publication of version {} may still be under way", plan.canary.version));
        }
        let Snapshot { mut rollback_target, mut rollback_hash, .. } = snapshot;
        let mut published = self.publish_known_good(&plan.canary.flow_id, &rollback_target, &rollback_hash).await;
        if let Err(FlowError::Gone(said)) = &published {
            (rollback_target, rollback_hash) = match self.retarget(&rollback_target, said).await? {
                Ok(other) => other,
                Err(unfinished) => return Ok(unfinished),
            };
            published = self.publish_known_good(&plan.canary.flow_id, &rollback_target, &rollback_hash).await;
        }
        match self.restored("canary", &rollback_target, published).await? {
            Ok(version) if !self.contained => Ok(format!(
                "the canary flow runs version {version} again, which is what all callers get; waiting for the percentage, which could not be set to 0"
            )),
            Ok(version) => {
                let around = self.still_led_around().await;
                let why = format!("the canary flow runs version {version} again, verified by its configuration{around}");
                self.record(Event::RollbackFinished { version }, why).await
            }
            Err(unfinished) => Ok(unfinished),
        }
    }

    /// Until when a publication to all callers may still land that was never seen done: whoever took over did not stop it.
    fn may_still_land(&self) -> Option<Timestamp> {
        let rollout = self.rollout();
        let began = self.opened.book.entries.iter().rev().find(|s| matches!(s.entry.event, Event::RollbackStarted { .. }))?;
        let until = began.entry.recorded_at + COPY_LASTS;
        (rollout.is_unsplit() && rollout.canary_version.is_none() && self.ports.clock.now() < until).then_some(until)
    }

    /// The version to go back to was deleted since: on to the next known-good one, at once.
    async fn retarget(&mut self, gone: &str, said: &str) -> Result<Result<(String, String), String>, LedgerError> {
        let rolled_out = self.rollout().snapshot.as_ref().map(|s| s.canary_hash.as_str());
        let plan = &self.rollout().plan;
        let sought = Sought { not: Some(&plan.canary.version), unlike: rolled_out, gone: Some(gone) };
        let unfinished = match way_back(self.ports, self.run, plan, None, &sought).await {
            Ok(Some((version, hash))) => {
                let why = format!("version {gone} is gone ({said}); the flow goes back to version {version} instead");
                self.record(Event::Retargeted { version: version.clone(), hash: hash.clone(), reason: why.clone() }, why).await?;
                return Ok(Ok((version, hash)));
            }
            Err(error @ (FlowError::TryLater(_) | FlowError::Locked { .. })) => format!("waiting: {error}"),
            Ok(None) | Err(FlowError::Gone(_) | FlowError::Refused(_)) => {
                let kept = self.rollout().snapshot.as_ref().and_then(|s| s.export.clone());
                let kept = kept.map(|at| format!(" What stable ran is kept at {at}.")).unwrap_or_default();
                let calls = self.where_calls_are();
                let said = format!(
                    "version {gone} cannot be published into the canary flow: {said}, and no other version is known to be good; {calls}.{kept} \
                     Publish a known-good version by hand, then `serin clear`"
                );
                self.call_human(said).await?
            }
        };
        Ok(Err(unfinished))
    }

    /// Publishes what is known to be good, unless something it needs was deleted since: callers would fall into the gap. Whether it was
    /// is not waited for.
    async fn publish_known_good(&self, flow: &str, version: &str, hash: &str) -> Result<Published, FlowError> {
        let state = self.ports.flows.flow(flow).await?;
        // Where callers have this very flow, an old version that lacks something is better than the one that is rolled back.
        let is_empty = flow != self.rollout().plan.stable_flow();
        if is_empty && !state.is_busy() && self.runs(flow, &state, hash).await?.is_none() {
            let needed = self.ports.flows.dependencies(flow, version).await.unwrap_or_default();
            let deleted: Vec<String> =
                needed.into_iter().filter(|one| one.deleted).map(|one| format!("{} `{}`", one.kind, one.name)).collect();
            if !deleted.is_empty() {
                let owner = "have its owner restore it";
                return Err(FlowError::Refused(format!("it needs {}, which was deleted: {owner}", deleted.join(", "))));
            }
        }
        self.publish_version(flow, version, hash).await
    }

    /// For whoever is called: what callers get meanwhile.
    fn where_calls_are(&self) -> String {
        match (self.rollout().is_unsplit(), self.contained) {
            (true, _) => format!("all callers still get version {}", self.rollout().plan.canary.version),
            (false, true) => "calls are on stable".to_owned(),
            (false, false) => "calls may still go to the canary, so set the percentage to 0 by hand".to_owned(),
        }
    }

    /// What still leads the calls around the canary, by Serin's record or as it is found: a run may have stopped before saying so. For people.
    async fn still_led_around(&self) -> String {
        let (back, rollout) = (&self.rollout().plan.rollback, self.rollout());
        if let Some(Detour::Ivr { id, before }) = &rollout.restoration.detour {
            return format!("; IVR {id} still leads to the stable flow itself, and `serin adopt` leads it back to {before}");
        }
        if let Some(Detour::Emergency { id }) = &rollout.restoration.detour {
            return format!("; the emergency of group {id} is still declared: end it in Genesys Cloud");
        }
        if let Some(ivr) = &back.ivr
            && self.ports.flows.open_hours(ivr).await.is_ok_and(|flow| flow.as_deref() == Some(rollout.plan.stable_flow()))
        {
            return format!("; IVR {ivr} leads to the stable flow itself, by Serin or by hand: `serin adopt` leads it to the traffic cop");
        }
        if let Some(group) = &back.emergency_group
            && self.ports.flows.emergency(group).await.is_ok_and(|declared| declared)
        {
            return format!("; the emergency of group {group} is declared, by Serin or by hand: look whether it is still meant");
        }
        String::new()
    }

    /// Calls were led around the canary already; now it is recorded.
    async fn led_around(&mut self, detour: Detour, reason: String) -> Result<String, LedgerError> {
        match self.rollout().phase {
            Phase::RollingBack => self.record(Event::LedAround { detour, reason: reason.clone() }, reason).await,
            _ => Ok("nothing to do: another run finished".into()),
        }
    }

    /// The version that one slot's flow runs again, or what is waited for.
    async fn restored(
        &mut self,
        slot: &str,
        target: &str,
        published: Result<Published, FlowError>,
    ) -> Result<Result<String, String>, LedgerError> {
        let by_hand = format!("{}: publish a known-good version by hand, then `serin clear`", self.where_calls_are());
        let unfinished = match published {
            Ok(Published::As(version)) => return Ok(Ok(version)),
            Ok(Published::Running) => format!("version {target} is being published into the {slot} flow"),
            Err(FlowError::TryLater(reason)) => format!("waiting: {reason}"),
            Err(FlowError::Locked { holder, .. }) => self.locked_out(slot, holder).await?,
            Ok(Published::Failed(reason)) => {
                let said = format!("version {target} was not published into the {slot} flow: {reason}; {by_hand}");
                self.call_human(said).await?
            }
            Err(error @ (FlowError::Gone(_) | FlowError::Refused(_))) => {
                let said = format!("version {target} cannot be published into the {slot} flow: {error}; {by_hand}");
                self.call_human(said).await?
            }
        };
        Ok(Err(unfinished))
    }

    async fn locked_out(&mut self, slot: &str, holder: String) -> Result<String, LedgerError> {
        if self.rollout().restoration.lock_tries >= LOCK_TRIES {
            let said = format!(
                "the {slot} flow is locked by {holder} and is never unlocked by force; {}. \
                 Ask {holder} to leave the flow, publish the known-good version, then `serin clear`",
                self.where_calls_are()
            );
            return self.call_human(said).await;
        }
        let next_at = self.now() + LOCK_PAUSE;
        let why = format!("the {slot} flow is locked by {holder}; tried again at {next_at:.0}");
        self.record(Event::RestorationDelayed { holder, next_at }, why).await
    }

    /// Silence hangs up on nobody: an emergency is for a version that failed, or that a person wants back.
    fn blames_the_version(&self) -> bool {
        let started = self.opened.book.entries.iter().rev().find(|s| matches!(s.entry.event, Event::RollbackStarted { .. }));
        started.is_some_and(|s| matches!(s.entry.event, Event::RollbackStarted { cause: Cause::Breach(_) | Cause::Requested { .. } }))
    }

    async fn call_human(&mut self, reason: String) -> Result<String, LedgerError> {
        // Where all callers have the version that could not be taken back, only an emergency takes them away from it.
        let armed = self.rollout().plan.rollback.emergency_group.clone();
        if let Some(group) = armed.filter(|_| self.rollout().is_unsplit() && self.rollout().phase == Phase::RollingBack)
            && self.rollout().restoration.detour.is_none()
            && self.rollout().restoration.publishing
            && self.blames_the_version()
            && let Some(detour) = declared(self.ports, self.rollout(), &group).await
        {
            let why = format!("the version before cannot be published, so the emergency of group {group} was declared: {reason}");
            self.record(Event::LedAround { detour, reason: why.clone() }, why).await?;
        }
        self.record(Event::HumanNeeded { reason: reason.clone() }, reason).await
    }

    fn now(&self) -> Timestamp {
        self.run.clock.now(self.ports.clock.now(), self.run.time)
    }
}
