//! What people and pipelines ask for: start, pause, resume, abort, roll back, clear; and the gate's question.

use crate::contain::{ContainError, Target, contain};
use crate::ports::{Authority, Clock, Hold, Ledger, LedgerError, Parameters, Quarantined, Rows};
use crate::record::{Opened, Record, leased, open, record};
use jiff::{SignedDuration, Timestamp};
use serin_core::calendar::{Kind, Restriction, When, in_force};
use serin_core::phase::{Event, Phase};
use serin_core::rollout::{Actor, Cause, Finalize, FlowName, PendingRaise, Plan, Rollout, Strategy};
use serin_core::weight::Weight;
use std::collections::BTreeMap;
use std::fmt;

/// Cooldown after a rollback: no rollout starts in it.
pub const LOCKOUT: SignedDuration = SignedDuration::from_mins(15);
const LEASE_FOR: SignedDuration = SignedDuration::from_secs(30);
/// The longest time for which a gate is held at once; whoever holds it may prolong it.
pub const LONGEST_HOLD: SignedDuration = SignedDuration::from_hours(24);
/// Times that a gate which others are at is looked at, and the pause between.
const HOLD_TRIES: u32 = 5;
const BETWEEN_TRIES: SignedDuration = SignedDuration::from_millis(50);

/// The gate's answer: may a flow be deployed now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// A rollout is not finished.
    RolloutUnfinished {
        /// Which.
        rollout: String,
        /// Where it stands.
        phase: String,
    },
    /// A maintenance window, a freeze or a stop.
    Restricted(Box<Restriction>),
    /// The last rollback is too recent.
    Lockout {
        /// Until when.
        until: Timestamp,
    },
    /// Another pipeline's turn.
    Held {
        /// Whose.
        holder: String,
        /// Until when.
        until: Timestamp,
    },
}

impl Gate {
    /// Exit code of `serin gate`. 20 (could not tell) completes the table.
    pub fn exit_code(&self) -> u8 {
        match self {
            Gate::Open => 0,
            Gate::RolloutUnfinished { .. } | Gate::Held { .. } => 10,
            Gate::Lockout { .. } => 11,
            Gate::Restricted(_) => 12,
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gate::Open => f.write_str("open: the flow may be deployed"),
            Gate::RolloutUnfinished { rollout, phase } => {
                write!(f, "closed: rollout {rollout} stands at {phase}; wait for it, or end it with `serin abort`")
            }
            Gate::Restricted(restriction) => write!(f, "closed: {restriction}"),
            Gate::Lockout { until } => write!(f, "closed: the last rollback was less than 15 minutes ago; open again at {until:.0}"),
            Gate::Held { holder, until } => write!(
                f,
                "closed: {holder} holds it until {until:.0}; wait until it deployed or gave it back. If nobody is at it any more: \
                 `serin gate FLOW --release --holder {holder}`"
            ),
        }
    }
}

/// Why an intervention was not done.
#[derive(Debug, thiserror::Error)]
pub enum InterventionError {
    /// It makes no sense now; nothing was changed.
    #[error("{0}; nothing was changed")]
    Refused(String),
    /// It could not be done.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It could not be done.
    #[error(transparent)]
    Parameter(#[from] crate::ports::ParameterError),
}

/// Who asks, why, and when.
#[derive(Debug, Clone)]
pub struct Request {
    /// Identity.
    pub by: String,
    /// Reason, recorded as it is.
    pub reason: String,
    /// The clock the rollout runs by.
    pub now: Timestamp,
    /// Stage, part of what owns a row.
    pub stage: String,
    /// The pipeline that asks: a gate that it holds itself is open to it.
    pub holder: Option<String>,
}

/// The gate's answer for a flow; `now` on the clock that rollouts run by. It is open to whoever holds it.
pub async fn gate(
    ledger: &impl Ledger,
    clock: &impl Clock,
    flow: &FlowName,
    now: Timestamp,
    holder: Option<&str>,
) -> Result<Gate, LedgerError> {
    Ok(look(ledger, clock, flow, now, holder).await?.1)
}

/// Asks the gate, and holds it if it is open: of several at once one gets it, and each other one is told who. Held for
/// [`LONGEST_HOLD`] at most; held by the same holder it is prolonged.
pub async fn hold_gate(
    ledger: &impl Ledger,
    clock: &impl Clock,
    flow: &FlowName,
    now: Timestamp,
    holder: &str,
    for_: SignedDuration,
) -> Result<Gate, LedgerError> {
    let mut tries = 1;
    loop {
        let (opened, gate) = look(ledger, clock, flow, now, Some(holder)).await?;
        if gate != Gate::Open {
            return Ok(gate);
        }
        let wall = clock.now();
        let own = opened.book.hold.as_ref().filter(|hold| hold.holder == holder).map(|hold| hold.until);
        // A longer one that they have already is not cut short.
        let until = own.map_or(wall + for_.min(LONGEST_HOLD), |own| own.max(wall + for_.min(LONGEST_HOLD)));
        match ledger.hold(flow, holder, opened.book.revision, wall, until).await {
            // Somebody was faster: the gate says who.
            Err(LedgerError::Lost { .. }) if tries < HOLD_TRIES => clock.sleep(BETWEEN_TRIES).await,
            outcome => return outcome.map(|()| Gate::Open),
        }
        tries += 1;
    }
}

/// Gives a gate back; `false` if it is not theirs.
pub async fn release_gate(ledger: &impl Ledger, flow: &FlowName, holder: &str) -> Result<bool, LedgerError> {
    ledger.release_hold(flow, holder).await
}

/// The gate's answer with the ledger that it was read from.
pub async fn look(
    ledger: &impl Ledger,
    clock: &impl Clock,
    flow: &FlowName,
    now: Timestamp,
    holder: Option<&str>,
) -> Result<(Opened, Gate), LedgerError> {
    let (opened, restrictions) = (open(ledger, flow).await?, ledger.restrictions().await?);
    let gate = gate_of(&opened, &restrictions, flow, [clock.now(), now], holder);
    Ok((opened, gate))
}

/// `now` by the wall clock, which lockout and holds go by, and by the rollout's.
fn gate_of(
    opened: &Opened,
    restrictions: &[Restriction],
    flow: &FlowName,
    [now, rollouts_now]: [Timestamp; 2],
    holder: Option<&str>,
) -> Gate {
    let is_held = |hold: &&Hold| now < hold.until && holder != Some(hold.holder.as_str());
    match &opened.rollout {
        Some(rollout) if !rollout.phase.is_finished() => {
            Gate::RolloutUnfinished { rollout: rollout.id.clone(), phase: rollout.phase.to_string() }
        }
        _ => match opened.book.last_rollback.map(|at| at + LOCKOUT) {
            Some(until) if now < until => Gate::Lockout { until },
            _ => match in_force(restrictions, flow, rollouts_now).into_iter().next() {
                Some(restriction) => Gate::Restricted(Box::new(restriction)),
                None => match opened.book.hold.as_ref().filter(is_held) {
                    Some(Hold { holder, until }) => Gate::Held { holder: holder.clone(), until: *until },
                    None => Gate::Open,
                },
            },
        },
    }
}

/// Opens a rollout; the executor prepares it, the evaluator takes the first step. Returns its id. A hold of the gate goes on.
pub async fn start(
    ledger: &impl Ledger,
    parameters: &impl Parameters,
    clock: &impl Clock,
    plan: Plan,
    request: &Request,
) -> Result<String, InterventionError> {
    let flow = plan.flow.clone();
    if let Some(refusal) = plan.policy.refusal() {
        return Err(InterventionError::Refused(format!("flow {flow}: {refusal}")));
    }
    // Whoever is refused is in nobody's way.
    admitted(ledger, parameters, clock, &plan, request).await?;
    let wall = clock.now();
    let lease = ledger.lease(&flow, &owner(request, wall), wall, wall + LEASE_FOR).await?;
    // Looked at again: what somebody did until the lease was ours shows now, and from now on nobody can hold the gate.
    let outcome = match admitted(ledger, parameters, clock, &plan, request).await {
        Ok(opened) => {
            let event = Event::Requested { plan: Box::new(plan) };
            record(ledger, &flow, &opened, Authority::Lease(lease.clone()), entry(clock, request, event)).await.map_err(Into::into)
        }
        Err(refused) => Err(refused),
    };
    // One that is not given back ends by itself.
    let _ = ledger.release(&flow, &lease).await;
    Ok(outcome?.rollout.map(|r| r.id).unwrap_or_default())
}

/// Whether a rollout may begin as things stand.
async fn admitted(
    ledger: &impl Ledger,
    parameters: &impl Parameters,
    clock: &impl Clock,
    plan: &Plan,
    request: &Request,
) -> Result<Opened, InterventionError> {
    let flow = &plan.flow;
    let (opened, gate) = look(ledger, clock, flow, request.now, request.holder.as_deref()).await?;
    if let Some(before) = opened.rollout.as_ref().filter(|r| r.plan.strategy == Strategy::InFlow && r.phase == Phase::Promoted)
        && parameters.read(flow).await?.weight() > Weight::ZERO
    {
        // A rollout begins at 0, where the gate takes the old branch.
        return Err(InterventionError::Refused(format!(
            "flow {flow}: callers are on the new branch of {}, and a rollout begins on the old one. Publish flow {} without the gate \
             and the old branch, set the percentage to 0, then start",
            before.id, before.plan.canary.flow_id
        )));
    }
    if let Some(before) = opened.rollout.as_ref().filter(|r| r.plan.finalize == Finalize::Swap && r.phase == Phase::Promoted)
        && before.plan.pointer != plan.pointer
    {
        return Err(InterventionError::Refused(format!(
            "flow {flow}: after the swap of {} its row sends all calls to flow {}, and this file does not know the row. Set the row's \
             Traffic_Weight to 0 and roll out with pointer.table as before, or finish one with finalize: copy first",
            before.id, before.plan.canary.flow_id
        )));
    }
    match gate {
        Gate::Open => Ok(opened),
        closed => Err(InterventionError::Refused(format!("flow {flow}: the gate is {closed}"))),
    }
}

/// What a person can do to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Hold it at its weight.
    Pause,
    /// Let it go on.
    Resume,
    /// Let it rise, where each step waits for a person.
    Approve,
    /// On to the next step of the plan at the next tick, without waiting for more evidence.
    Advance,
    /// The same, to 100 %.
    Promote,
    /// Send all calls to the canary, for the day on which stable is the broken one.
    ToCanary,
    /// End it: calls go to stable, the flow stays as it is.
    Abort,
    /// End it: calls go to stable, the canary flow is put back.
    Rollback,
    /// Things were put right by hand.
    Clear,
}

impl Action {
    /// The verb.
    pub fn name(self) -> &'static str {
        match self {
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Approve => "approve",
            Action::Advance => "advance",
            Action::Promote => "promote",
            Action::ToCanary => "send all calls to the canary",
            Action::Abort => "abort",
            Action::Rollback => "roll back",
            Action::Clear => "clear",
        }
    }
}

/// Does what a person asks. Whatever takes calls away contains before it records.
pub async fn intervene(
    ledger: &impl Ledger,
    parameters: &impl Parameters,
    rows: &impl Rows,
    clock: &impl Clock,
    flow: &FlowName,
    action: Action,
    request: &Request,
) -> Result<Rollout, InterventionError> {
    let mut opened = open(ledger, flow).await?;
    let rollout = opened.rollout.clone().ok_or_else(|| InterventionError::Refused(format!("flow {flow} has no rollout")))?;
    let published = rollout.phase == Phase::Preparing && rollout.snapshot.is_some();
    if rollout.is_unsplit() && action == Action::Abort && (published || rollout.phase.is_watched() || rollout.phase == Phase::Finalizing) {
        return Err(InterventionError::Refused(format!(
            "flow {flow}: all callers have version {} by its publication, or are about to, so there is nothing to take them back from; `serin rollback` publishes the version before",
            rollout.plan.canary.version
        )));
    }
    if rollout.is_observed() && matches!(action, Action::Pause | Action::Resume | Action::Advance | Action::Promote | Action::ToCanary) {
        return Err(InterventionError::Refused(format!(
            "flow {flow}: rollout {} is only observed; its percentage is moved by hand, and `serin abort` ends it",
            rollout.id
        )));
    }
    if action == Action::ToCanary && !is_compared(&rollout) {
        return Err(InterventionError::Refused(format!(
            "flow {flow}: rollout {} stands at {}, and only from a step, an approval or a pause can its canary get all calls. If stable is broken \
             and no rollout is open, roll a good version out with `serin start FILE --off-hours-full`",
            rollout.id, rollout.phase
        )));
    }
    let event = asked(parameters, flow, &rollout, action, request).await?;
    if let Event::Hastened { to, .. } = &event {
        let restrictions = ledger.restrictions().await?;
        let restricted = in_force(&restrictions, flow, request.now).into_iter().next();
        if let Some(reason) = not_hastened(&rollout, *to, request.now, restricted.as_ref()) {
            return Err(InterventionError::Refused(format!("flow {flow}: rollout {} {reason}", rollout.id)));
        }
    }
    let nothing_published = rollout.phase == Phase::Preparing && !(rollout.is_unsplit() && published);
    if action == Action::Rollback && nothing_published {
        return Err(refused(flow, &rollout, action));
    }
    rollout.phase.clone().after(&event).map_err(|_| refused(flow, &rollout, action))?;
    if !event.needs_containment() {
        return Ok(under_lease(ledger, clock, flow, &opened, request, event).await?.rollout.unwrap_or(rollout));
    }
    if rollout.phase != Phase::Preparing {
        let seen = parameters.read(flow).await.ok();
        for result in contain(parameters, rows, &request.stage, &[Target { flow, rollout: &rollout, seen: seen.as_ref() }]).await {
            match result {
                // Whoever has no access to the row still gets it written: every tick looks at it, and what is recorded now says how.
                Ok(()) | Err(ContainError::Row(_)) => {}
                Err(ContainError::Parameter(error)) => return Err(error.into()),
            }
        }
    }
    for _ in 0..5 {
        let authority = Authority::Preempt { fence: opened.book.fence, owner: request.by.clone() };
        match record(ledger, flow, &opened, authority, entry(clock, request, event.clone())).await {
            Err(LedgerError::Lost { .. }) => opened = open(ledger, flow).await?,
            outcome => return Ok(outcome?.rollout.unwrap_or(rollout)),
        }
        // A tick saw the calls taken away and recorded it first: what was asked for is done.
        if let Some(now) = opened.rollout.clone().filter(|now| now.id != rollout.id || now.is_off_the_canary()) {
            return Ok(now);
        }
    }
    Err(LedgerError::Lost { flow: flow.to_string(), reason: "calls are on stable, but others kept recording; ask again".into() }.into())
}

async fn asked(
    parameters: &impl Parameters,
    flow: &FlowName,
    rollout: &Rollout,
    action: Action,
    request: &Request,
) -> Result<Event, InterventionError> {
    let reason = format!("{} by {}: {}", action.name(), request.by, request.reason);
    Ok(match action {
        Action::Pause => Event::Paused { weight: rollout.in_force.weight, version: None, reason },
        Action::Resume => Event::Resumed { base_version: parameters.read(flow).await?.version() },
        Action::Approve => Event::Approved { reason },
        Action::Advance => {
            let next = rollout.plan.policy.step_after(rollout.in_force.weight);
            Event::Hastened { to: next.unwrap_or(Weight::FULL), reason }
        }
        Action::Promote => Event::Hastened { to: Weight::FULL, reason },
        Action::ToCanary => Event::PromotionStarted { base_version: parameters.read(flow).await?.version() },
        Action::Abort => Event::Aborted { reason },
        Action::Rollback => Event::RollbackStarted { cause: Cause::Requested { by: request.by.clone(), reason: request.reason.clone() } },
        Action::Clear => Event::Cleared { reason },
    })
}

/// Why a rollout does not rise sooner by a person's word. What is found out later holds it at the tick.
fn not_hastened(rollout: &Rollout, to: Weight, now: Timestamp, restricted: Option<&Restriction>) -> Option<String> {
    Some(match (&rollout.phase, rollout.pending) {
        (Phase::Preparing, _) => "moves no call yet; it takes its first step by itself once it is prepared".to_owned(),
        (Phase::AwaitingApproval { weight }, _) => format!("waits at {weight} % for a person: `serin approve` lets it rise"),
        (Phase::Paused { weight, .. }, _) => format!("is paused at {weight} %: `serin resume` first"),
        (Phase::Baking, _) => "has all calls on the canary; nothing can hasten its bake time".to_owned(),
        (_, Some(PendingRaise { weight, .. })) => format!("is on its way to {weight} %; say it again once that is in force"),
        (Phase::Stepping { .. }, None) => match (restricted, rollout.hastened_at(now)) {
            (Some(restriction), _) => format!("does not rise meanwhile: {restriction}"),
            (None, Some(hastened)) if hastened.to == to => format!("was told so already; {to} % follow at the next tick that may raise it"),
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether both flows have callers, or had until somebody paused it.
fn is_compared(rollout: &Rollout) -> bool {
    let compared = matches!(rollout.phase, Phase::Stepping { .. } | Phase::AwaitingApproval { .. } | Phase::Paused { .. });
    compared && !rollout.is_unsplit()
}

/// Stops everything: nothing starts and nothing rises from now on, and all calls are taken to stable. Returns what was done to each flow
/// that had a rollout, and what could not be; asked again it goes on.
pub async fn stop_all(
    ledger: &impl Ledger,
    parameters: &impl Parameters,
    rows: &impl Rows,
    clock: &impl Clock,
    request: &Request,
) -> Result<Vec<(FlowName, Result<Rollout, InterventionError>)>, LedgerError> {
    // First, so that nothing rises or starts while the flows are gone through.
    ledger.restrict(&stop(request)).await?;
    let (mut done, mut open_ones) = (Vec::new(), Vec::new());
    for active in ledger.active().await? {
        match open(ledger, &active.flow).await {
            Ok(opened) => open_ones.extend(opened.rollout.filter(|r| r.has_stepped || !r.phase.is_terminal())),
            // One flow's trouble is not the next one's.
            Err(error) => done.push((active.flow, Err(error.into()))),
        }
    }
    // What was promoted is nobody's rollout any more.
    open_ones.retain(|rollout| rollout.phase != Phase::Promoted);
    // All calls first, also of those whose record says that they are back; then flow by flow.
    let split: Vec<&Rollout> = open_ones.iter().filter(|r| r.has_stepped && !r.is_unsplit()).collect();
    let mut seen = Vec::with_capacity(split.len());
    for rollout in &split {
        seen.push(parameters.read(&rollout.plan.flow).await.ok());
    }
    let targets = split.iter().zip(&seen).map(|(rollout, seen)| Target { flow: &rollout.plan.flow, rollout, seen: seen.as_ref() });
    let targets: Vec<Target<'_>> = targets.collect();
    let contained = contain(parameters, rows, &request.stage, &targets).await;
    let failed: BTreeMap<FlowName, String> = split
        .iter()
        .zip(contained)
        .filter_map(|(rollout, contained)| contained.err().map(|error| (rollout.plan.flow.clone(), error.to_string())))
        .collect();
    for rollout in open_ones {
        let flow = rollout.plan.flow.clone();
        // Where all callers have the version by its publication, or stable may have it already, there is only the version before.
        let published = rollout.is_unsplit() && (rollout.phase != Phase::Preparing || rollout.snapshot.is_some());
        let action = if published || rollout.stable_touched.is_some() { Action::Rollback } else { Action::Abort };
        let stopped = match rollout.is_off_the_canary() {
            true if rollout.is_unsplit() && !rollout.phase.is_finished() => Err(InterventionError::Refused(format!(
                "flow {flow}: rollout {} stands at {}, and callers get its version until the one before is published",
                rollout.id, rollout.phase
            ))),
            true => match failed.get(&flow) {
                Some(error) => Err(InterventionError::Refused(format!("flow {flow}: calls may still go to the canary: {error}"))),
                None => continue,
            },
            false => intervene(ledger, parameters, rows, clock, &flow, action, request).await,
        };
        done.push((flow, stopped));
    }
    Ok(done)
}

/// Ends a restriction before its time; `None` if there is none with this id, or it is over. What was measured in a maintenance window
/// until now stays forgiven, but for one of every week.
pub async fn lift(ledger: &impl Ledger, id: &str, request: &Request) -> Result<Option<Restriction>, LedgerError> {
    let now = request.now;
    let found = ledger.restrictions().await?.into_iter().find(|one| one.id == id && !one.when.is_over(now));
    let Some(mut ended) = found else { return Ok(None) };
    ended.when = match ended.when {
        // One that has not begun ends with its beginning.
        When::Once { from, .. } => When::Once { from: from.min(now), until: Some(now) },
        When::Weekly { .. } => When::Once { from: now, until: Some(now) },
    };
    ended.ended = Some(format!("{}: {}", request.by, request.reason));
    ledger.restrict(&ended).await?;
    Ok(Some(ended))
}

/// Characters of a configuration's hash that name it.
const SHORTEST_NAME: usize = 8;

/// Lets a configuration be rolled out again that was taken back: the one whose hash begins so, or the only one there is. Returns its hash.
pub async fn clear_quarantine(
    ledger: &impl Ledger,
    clock: &impl Clock,
    flow: &FlowName,
    configuration: Option<&str>,
    request: &Request,
) -> Result<String, InterventionError> {
    let opened = open(ledger, flow).await?;
    let kept = ledger.quarantined(flow).await?;
    let configuration = one_of(&kept, configuration).map_err(|why| InterventionError::Refused(format!("flow {flow}: {why}")))?;
    let reason = format!("quarantine cleared by {}: {}", request.by, request.reason);
    let event = Event::QuarantineCleared { configuration: configuration.clone(), reason };
    under_lease(ledger, clock, flow, &opened, request, event).await?;
    Ok(configuration)
}

/// The one that is meant.
fn one_of(kept: &[Quarantined], configuration: Option<&str>) -> Result<String, String> {
    let begins = |hash: &str, name: &str| hash == name || (name.len() >= SHORTEST_NAME && hash.starts_with(name));
    let meant: Vec<&Quarantined> = kept.iter().filter(|one| configuration.is_none_or(|name| begins(&one.configuration, name))).collect();
    let named =
        |all: &[&Quarantined]| all.iter().map(|one| format!("{} ({})", one.configuration, one.rollout)).collect::<Vec<_>>().join(", ");
    match (meant.as_slice(), configuration) {
        ([one], _) => Ok(one.configuration.clone()),
        ([], _) if kept.is_empty() => Err("no configuration is quarantined".to_owned()),
        ([], name) => Err(format!(
            "no configuration that is quarantined begins with `{}`, of which {SHORTEST_NAME} characters are wanted; these are: {}",
            name.unwrap_or_default(),
            named(&kept.iter().collect::<Vec<_>>())
        )),
        (several, _) => Err(format!("say which of those that are quarantined: {}", named(several))),
    }
}

/// The one stop of a stage.
pub const STOP: &str = "stop";

fn stop(request: &Request) -> Restriction {
    Restriction {
        id: STOP.to_owned(),
        kind: Kind::Stop,
        flow: None,
        when: When::Once { from: request.now, until: None },
        reason: request.reason.clone(),
        by: request.by.clone(),
        ended: None,
    }
}

fn refused(flow: &FlowName, rollout: &Rollout, action: Action) -> InterventionError {
    if rollout.phase == Phase::Promoted && rollout.stays_on_canary() {
        return InterventionError::Refused(format!(
            "flow {flow}: rollout {} was promoted, and its callers stay on the new version: to take them back set the percentage to 0 by hand \
             (after a swap, the row's Traffic_Weight)",
            rollout.id
        ));
    }
    InterventionError::Refused(format!(
        "flow {flow}: rollout {} stands at {} and cannot {} from there",
        rollout.id,
        rollout.phase,
        action.name()
    ))
}

fn entry(clock: &impl Clock, request: &Request, event: Event) -> Record {
    Record {
        by: Actor::Person(request.by.clone()),
        event,
        why: request.reason.clone(),
        evidence: None,
        at: request.now,
        recorded_at: clock.now(),
    }
}

async fn under_lease(
    ledger: &impl Ledger,
    clock: &impl Clock,
    flow: &FlowName,
    opened: &Opened,
    request: &Request,
    event: Event,
) -> Result<Opened, LedgerError> {
    let wall = clock.now();
    leased(ledger, flow, opened, &owner(request, wall), [wall, wall + LEASE_FOR], entry(clock, request, event)).await
}

/// A command's identity, for its lease.
fn owner(request: &Request, wall: Timestamp) -> String {
    format!("{} {wall}", request.by)
}
