//! One tick over every active flow: observe → decide → contain → record → act.
//!
//! Level-triggered: what is done follows from the ledger, the parameters and the measurements as they are now, never from how
//! often or when a tick came. A tick that dies anywhere is finished by the next one.

use crate::contain::{Target, contain};
use crate::outbox;
use crate::pointer;
use crate::ports::{
    ActiveFlow, Analytics, Authority, Changed, Clock, CohortFlows, Lease, Ledger, LedgerError, Notifier, Parameters, Pointer, Rows,
    Unmeasured,
};
use crate::record::{Opened, Record, open, record};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serin_core::analysis::{Analysis, Measured, Verdict, analyze};
use serin_core::calendar::{Restriction, forgiven, in_force, maintenance};
use serin_core::decision::{Decision, Facts, HoldReason, decide};
use serin_core::explain::{Explanation, explain};
use serin_core::measurement::{Comparison, Window, merge, minute};
use serin_core::phase::{Event, Phase};
use serin_core::policy::Rule;
use serin_core::projection::{Seen, Standing, repair, standing};
use serin_core::rollout::{Actor, Cause, FlowName, Rollout};
use serin_core::summary::{Course, RESTATED, Summary, hour};
use serin_core::weight::Weight;

/// Which clock moves windows, step and bake times and phase deadlines. Leases and heartbeat always stay on the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutClock {
    /// The wall clock; the event's time is only checked.
    Wall,
    /// The event's time, for accelerated runs on the local stage.
    Event,
}

impl RolloutClock {
    /// The time that rollouts go by, out of the wall clock's and the event's.
    pub fn now(self, wall: Timestamp, event: Timestamp) -> Timestamp {
        match self {
            RolloutClock::Wall => wall,
            RolloutClock::Event => event,
        }
    }
}

/// What a tick is told besides its ports.
#[derive(Debug, Clone)]
pub struct Tick {
    /// Stage, part of the split key.
    pub stage: String,
    /// Time of the event that woke us.
    pub time: Timestamp,
    /// Which clock counts.
    pub clock: RolloutClock,
    /// Identity of this run, for the lease.
    pub run: String,
}

/// The ports a tick needs.
#[derive(Debug)]
pub struct Ports<'a, L, P, A, N, C> {
    /// The truth.
    pub ledger: &'a L,
    /// The projection.
    pub parameters: &'a P,
    /// The vendor's analytics.
    pub analytics: &'a A,
    /// The topics.
    pub notifier: &'a N,
    /// The wall clock.
    pub clock: &'a C,
}

/// What a tick did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Time of the event.
    pub time: Timestamp,
    /// One line per active flow.
    pub flows: Vec<FlowReport>,
    /// Active flows that the ledger listed.
    pub listed: usize,
    /// Those of them whose ledger or parameters could not be read.
    pub missed: usize,
    /// Notices published.
    pub notices_sent: usize,
    /// Notices that were recorded and could not be published yet.
    pub notices_waiting: usize,
    /// What keeps callers from being watched or safe; empty if all is well. The tick counts as failed then.
    pub unwell: Vec<String>,
}

/// What a tick did with one flow.
#[derive(Debug, Clone, Serialize)]
pub struct FlowReport {
    /// The flow.
    pub flow: FlowName,
    /// The rollout.
    pub rollout: String,
    /// Where it stands after the tick.
    pub phase: String,
    /// Percent of new calls offered to the canary.
    pub weight: Weight,
    /// Whether its callers are being compared.
    pub watched: bool,
    /// What was decided.
    pub decision: String,
    /// Why, in a sentence.
    pub reason: String,
    /// The figures behind it, what would change it, and when the next decision can fall.
    pub explanation: Explanation,
    /// Both cohorts at this weight.
    #[serde(flatten)]
    pub counts: Comparison,
    /// How far the evidence against the canary has come towards a rollback, in percent; while the sequential judge compares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<f64>,
    /// Callers do not arrive in the drawn proportion.
    pub sample_ratio: bool,
    /// Rolling back for longer than that should take.
    pub overdue: bool,
    /// What could not be done; the next tick tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Why a tick did nothing.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// The event's time cannot be used.
    #[error("event time {time} is not accepted: {reason}")]
    Untimely {
        /// The time.
        time: Timestamp,
        /// Why.
        reason: String,
    },
    /// The ledger failed before any flow was seen.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// How far the event's time may lie from the wall clock.
const OFF_BY: SignedDuration = SignedDuration::from_mins(2);
/// Decisions on observations older than this are dropped.
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(2);
/// How long a run may hold a flow; longer than a function may run.
const LEASE_FOR: SignedDuration = SignedDuration::from_secs(60);
/// What a lease must still have left before a raise is written, so that the write cannot land after somebody took over.
const RAISE_MARGIN: SignedDuration = SignedDuration::from_secs(15);
/// Minutes read again at every tick, for counts that were reported late.
const REREAD: SignedDuration = RESTATED;
/// How far back the version before is measured where the new one gets all calls at once.
const BASELINE: SignedDuration = SignedDuration::from_hours(2);
/// Rollouts whose flows are looked at in a tick, besides those that are about to rise.
const LOOKED_AT: usize = 10;
/// After a change the row that sends the calls is looked at by every tick for so long.
const LATELY: SignedDuration = SignedDuration::from_mins(5);
/// A flow that is not put back after so long is worth a look, before a person is called.
const RESTORED_WITHIN: SignedDuration = SignedDuration::from_mins(3);
/// How far back the guards look, at most.
const GUARDS_REACH: SignedDuration = SignedDuration::from_mins(60);
/// How long whoever contained a rollout has to record why, before a tick records that it found it so.
const SAYING_WHY: SignedDuration = SignedDuration::from_secs(2);
/// The same where they write a row in between, which takes some requests to the vendor.
const SAYING_WHY_BY_ROW: SignedDuration = SignedDuration::from_secs(10);
/// Stands for maintenance windows and freezes that could not be read at all.
const UNREAD: &str = "maintenance windows and freezes";
/// How far back the analytics are read after an outage.
const CATCH_UP: SignedDuration = SignedDuration::from_hours(6);

/// A flow on its way through a tick.
struct Visit {
    active: ActiveFlow,
    opened: Opened,
    seen: Result<Seen, String>,
    recalled: Recalled,
    /// Start of the earliest window that this tick read anew.
    read_from: Option<Timestamp>,
    analysis: Option<Analysis>,
    /// What somebody changed by hand of what is being compared.
    drift: Option<String>,
    /// Maintenance windows, freezes and stops that concern it.
    restricted: Vec<Restriction>,
    /// Maintenance windows of it that are over.
    forgiven: Vec<Restriction>,
    /// The row that its traffic cop reads, if it was to be read.
    row: Option<Result<Option<Pointer>, String>>,
    /// The weight that callers had when the tick began.
    weight: Weight,
    /// What is not as recorded and takes no heartbeat away: it is this flow's alone.
    ailing: Option<String>,
    decision: Decision,
    explanation: Option<Explanation>,
    trouble: Vec<String>,
    /// Its parameters could be read, and are no danger to callers.
    safe: bool,
}

/// Serves one tick.
pub async fn evaluate<L, P, A, N, C>(ports: &Ports<'_, L, P, A, N, C>, tick: &Tick) -> Result<Report, TickError>
where
    L: Ledger,
    P: Parameters,
    A: Analytics + Rows,
    N: Notifier,
    C: Clock,
{
    let started = ports.clock.now();
    timely(ports.ledger, tick, started).await?;
    let now = tick.clock.now(started, tick.time);
    let active = ports.ledger.active().await?;
    let (mut unwell, mut missed) = (Vec::new(), 0);
    let mut visits = Vec::with_capacity(active.len());
    // The projection before the truth: what we write is recorded first, so a ledger read later explains every value of ours. The other way
    // round another run's raise in between would look like a person's.
    let seen = ports.parameters.read_all(&active.iter().map(|a| &a.flow).collect::<Vec<_>>()).await;
    let read: Vec<_> = active.iter().zip(&seen).filter_map(|(active, seen)| Some((&active.flow, seen.as_ref().ok()?))).collect();
    for error in ports.parameters.follow(&read).await {
        tracing::error!(%error, "what callers may be answered from does not follow");
        unwell.push(format!("the copy does not follow: {error}"));
    }
    let begun = active.iter().zip(seen).map(|(active, seen)| visit(ports, active, seen.map_err(|e| e.to_string())));
    for (flow, visit) in active.iter().zip(join_all(begun).await) {
        match visit {
            Ok(Some(visit)) => visits.push(visit),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(flow = %flow.flow, %error, "flow not visited");
                unwell.push(format!("flow {} not visited: {error}", flow.flow));
                missed += 1;
            }
        }
    }
    missed += visits.iter().filter(|visit| visit.seen.is_err()).count();
    // What cannot be read keeps everything from rising, and nothing from being taken back.
    let restrictions = ports.ledger.restrictions().await.unwrap_or_else(|error| {
        tracing::error!(%error, "maintenance windows and freezes not read; nothing rises in this tick");
        vec![Restriction::unknown(UNREAD, &error.to_string(), now)]
    });
    for visit in &mut visits {
        visit.restricted = in_force(&restrictions, &visit.active.flow, now);
        visit.forgiven = forgiven(&restrictions, &visit.active.flow, now);
    }
    observe(ports, &mut visits, now).await;
    let fresh = ports.clock.now().duration_since(started) <= STALE_AFTER;
    for visit in &mut visits {
        settle(visit, now, fresh);
    }
    contain_failed(ports, tick, &mut visits, |_| true).await;
    // Only then is the vendor asked again: an answer that hangs must not stand between a failed verdict and the callers.
    look_for_drift(ports, tick, &mut visits, now, fresh).await;
    contain_failed(ports, tick, &mut visits, |visit| visit.drift.is_some()).await;
    // Only now: a ledger that hangs must not stand between a failed verdict and the callers.
    join_all(visits.iter_mut().map(|visit| record_measurements(ports.ledger, visit))).await;
    let flows = join_all(visits.iter_mut().map(|visit| act(ports, tick, visit, now))).await;
    unwell.extend(visits.iter().filter(|v| !v.safe).map(|v| format!("flow {}: {}", v.active.flow, v.trouble.join("; "))));
    // Without a heartbeat calls go to stable when the last one is 5 minutes old.
    if unwell.is_empty()
        && let Err(error) = ports.parameters.beat(ports.clock.now()).await
    {
        tracing::error!(%error, "heartbeat not written; calls go to stable when the last one is 5 minutes old");
        unwell.push(format!("heartbeat not written: {error}"));
    }
    unwell.extend(visits.iter().filter_map(|v| v.ailing.as_ref().map(|why| format!("flow {}: {why}", v.active.flow))));
    if let Err(error) = ports.ledger.record_tick(tick.time).await {
        tracing::warn!(%error, "the tick's time was not recorded");
    }
    let notices = outbox::send(ports.ledger, ports.notifier).await;
    let (listed, notices_sent, notices_waiting) = (active.len(), notices.published, notices.waiting);
    Ok(Report { time: tick.time, flows, listed, missed, notices_sent, notices_waiting, unwell })
}

async fn timely(ledger: &impl Ledger, tick: &Tick, wall: Timestamp) -> Result<(), TickError> {
    if tick.clock == RolloutClock::Wall && wall.duration_since(tick.time).abs() > OFF_BY {
        return Err(TickError::Untimely { time: tick.time, reason: format!("within 2 minutes of the wall clock ({wall:.0}) is") });
    }
    match ledger.last_tick().await? {
        Some(last) if tick.time < last => {
            Err(TickError::Untimely { time: tick.time, reason: format!("at or after the last tick ({last}) is") })
        }
        _ => Ok(()),
    }
}

async fn visit<L: Ledger, P: Parameters, A, N, C>(
    ports: &Ports<'_, L, P, A, N, C>,
    active: &ActiveFlow,
    seen: Result<Seen, String>,
) -> Result<Option<Visit>, LedgerError> {
    let opened = open(ports.ledger, &active.flow).await?;
    let Some(rollout) = &opened.rollout else { return Ok(None) };
    let recalled = match rollout.phase.is_watched() {
        true => recall(ports.ledger, &active.flow, rollout).await?,
        false => Recalled { summary: None, from: hour(rollout.in_force.since), windows: Vec::new() },
    };
    let decision = Decision::Hold(HoldReason::Preparing);
    let trouble = seen.as_ref().err().cloned().into_iter().collect();
    let safe = seen.is_ok();
    let weight = rollout.settled_weight();
    Ok(Some(Visit {
        active: active.clone(),
        opened,
        seen,
        recalled,
        read_from: None,
        analysis: None,
        drift: None,
        restricted: Vec::new(),
        forgiven: Vec::new(),
        row: None,
        weight,
        ailing: None,
        decision,
        explanation: None,
        trouble,
        safe,
    }))
}

/// What was measured of a rollout, as far as its rule needs it.
#[derive(Debug)]
pub struct Recalled {
    /// What the hours before told.
    pub summary: Option<Summary>,
    /// The windows from here on are loaded: a whole hour, for hours are recorded whole.
    pub from: Timestamp,
    /// The windows.
    pub windows: Vec<Window>,
}

impl Recalled {
    /// Judges what was measured, but for what maintenance windows that are over account for.
    pub fn judge(&self, rollout: &Rollout, forgiven: &[Restriction], now: Timestamp) -> Analysis {
        let (policy, weights) = (&rollout.plan.policy, rollout.weights.as_slice());
        let (windows, summary) = (held(&self.windows, rollout, forgiven), self.summary.as_ref());
        let mut analysis = analyze(&Measured { policy, weights, windows: &windows, summary, baseline: rollout.baseline }, now);
        analysis.watched_until = self.windows.iter().rev().find(|w| w.start >= rollout.in_force.since && w.has_data()).map(|w| w.start);
        analysis
    }
}

/// The windows that nobody announced errors for. Counts are of calls that ended: those that began in maintenance may end a while after.
fn held(windows: &[Window], rollout: &Rollout, forgiven: &[Restriction]) -> Vec<Window> {
    let reach = rollout.plan.policy.long_call.duration();
    let last = SignedDuration::from_secs(59);
    let is_forgiven = |w: &Window| forgiven.iter().any(|one| one.when.touches(w.start - reach, w.start + last));
    windows.iter().filter(|w| forgiven.is_empty() || !is_forgiven(w)).copied().collect()
}

/// Loads what was measured of a rollout.
pub async fn recall(ledger: &impl Ledger, flow: &FlowName, rollout: &Rollout) -> Result<Recalled, LedgerError> {
    let sequential = rollout.in_force.weight < Weight::FULL && matches!(rollout.plan.policy.rule, Rule::Sequential(_));
    let summary: Option<Summary> = match sequential {
        // A summary that another version of Serin kept is made again.
        true => ledger.summary(flow, &rollout.id).await?.and_then(|kept| serde_json::from_str(&kept).ok()),
        false => None,
    };
    let from = hour(match (&summary, rollout.weights.first()) {
        // The guards look back an hour, whatever the judge still needs.
        (Some(summary), _) => summary.until - GUARDS_REACH,
        (None, Some(first)) if sequential => first.since,
        (None, _) => rollout.in_force.since,
    });
    let windows = ledger.windows(flow, &rollout.id, from).await?;
    Ok(Recalled { summary, from, windows })
}

impl Visit {
    fn rollout(&self) -> &Rollout {
        self.opened.rollout.as_ref().expect("a visit is made of a flow with a rollout")
    }

    fn cohorts(&self) -> Option<CohortFlows> {
        let rollout = self.rollout();
        let (snapshot, canary) = (rollout.snapshot.as_ref()?, rollout.canary_version.as_ref()?);
        Some(CohortFlows {
            stable: (rollout.plan.stable_flow().to_owned(), snapshot.stable_version.clone()),
            canary: (rollout.plan.canary.flow_id.clone(), canary.clone()),
            outcomes: rollout.plan.outcomes.clone(),
        })
    }

    /// Whether its calls moved lately, or are about to: then the row that sends them is looked at.
    fn has_moved(&self, now: Timestamp) -> bool {
        let rollout = self.rollout();
        let lately = |at: Timestamp| now.duration_since(at) < LATELY;
        let moved = rollout.pending.is_some() || lately(rollout.phase_since) || lately(rollout.in_force.since);
        pointer::table(rollout).is_some() && rollout.has_stepped && moved
    }

    /// Whether visits may end: what sends its calls is known to be as recorded.
    fn is_settled(&self, stage: &str) -> bool {
        let of_row = |row: &Option<Pointer>| pointer::standing(self.rollout(), row.as_ref(), stage) != pointer::Standing::Behind;
        pointer::table(self.rollout()).is_none() || !self.rollout().has_stepped || matches!(&self.row, Some(Ok(row)) if of_row(row))
    }

    /// Whether calls must be on stable before the decision is recorded.
    fn takes_back(&self) -> bool {
        self.decision.event(0).is_some_and(|e| e.needs_containment())
    }

    /// Whether its calls are measured: those of both cohorts, and before a version is watched without a split those of the version before,
    /// which it will be compared with.
    fn is_measured(&self) -> bool {
        self.rollout().phase.is_watched() || (self.rollout().goes_at_once() && self.rollout().phase == Phase::Preparing)
    }

    /// The minute from which the analytics must be read: recent ones again, older ones if they were missed.
    fn unread_since(&self, now: Timestamp) -> Timestamp {
        if !self.rollout().phase.is_watched() {
            return minute(now - BASELINE);
        }
        let recorded_until = self.recalled.windows.last().map_or(self.rollout().in_force.since, |w| w.start);
        minute(recorded_until.min(now - REREAD).max(now - CATCH_UP))
    }
}

/// Measures all watched flows in as few queries as the adapter can, and judges them.
async fn observe<L: Ledger, P, A: Analytics, N, C>(ports: &Ports<'_, L, P, A, N, C>, visits: &mut [Visit], now: Timestamp) {
    let watched: Vec<usize> = (0..visits.len()).filter(|i| visits[*i].is_measured() && visits[*i].cohorts().is_some()).collect();
    if watched.is_empty() {
        return;
    }
    let flows: Vec<CohortFlows> = watched.iter().filter_map(|i| visits[*i].cohorts()).collect();
    let from = watched.iter().map(|i| visits[*i].unread_since(now)).min().unwrap_or(now);
    let measured = ports.analytics.measure(&flows, from, minute(now)).await;
    match measured {
        Err(unmeasured) => {
            for i in watched {
                if !visits[i].rollout().phase.is_watched() {
                    visits[i].analysis = Some(Analysis { verdict: Verdict::Error(unmeasured.to_string()), ..Analysis::before(&[]) });
                    continue;
                }
                let mut analysis = visits[i].recalled.judge(visits[i].rollout(), &visits[i].forgiven, now);
                // A failed verdict on what is recorded stands; anything else needs eyes.
                if !matches!(analysis.verdict, Verdict::Fail(_) | Verdict::Unsafe(_)) {
                    analysis.verdict = Verdict::Error(unmeasured.to_string());
                }
                visits[i].analysis = Some(analysis);
            }
        }
        Ok(per_flow) => {
            for (i, fresh) in watched.into_iter().zip(per_flow) {
                let visit = &mut visits[i];
                if !visit.rollout().phase.is_watched() {
                    visit.analysis = Some(Analysis::before(&held(&fresh, visit.rollout(), &visit.forgiven)));
                    continue;
                }
                // An hour that was not loaded must not be replaced by the part of it that was read anew.
                let fresh: Vec<Window> = fresh.into_iter().filter(|w| w.start >= visit.recalled.from).collect();
                visit.recalled.windows = merge(&visit.recalled.windows, &fresh);
                visit.read_from = fresh.first().map(|first| first.start);
                visit.analysis = Some(visit.recalled.judge(visit.rollout(), &visit.forgiven, now));
            }
        }
    }
}

/// Keeps what was measured; hours are recorded whole.
async fn record_measurements(ledger: &impl Ledger, visit: &mut Visit) {
    let Some(from) = visit.read_from.map(hour) else { return };
    let touched: Vec<Window> = visit.recalled.windows.iter().filter(|w| w.start >= from).copied().collect();
    if let Err(error) = ledger.record_windows(&visit.active.flow, &visit.rollout().id, &touched).await {
        visit.trouble.push(format!("measurements were not recorded: {error}"));
        return;
    }
    // What is measured in a maintenance window is told apart only while it stands by itself.
    let unread = visit.restricted.iter().any(|one| one.id == UNREAD);
    if unread || maintenance(&visit.restricted).is_some() || visit.analysis.as_ref().is_none_or(|analysis| analysis.evidence.is_none()) {
        return;
    }
    let (rollout, known) = (visit.rollout(), &visit.recalled.summary);
    let course = Course { policy: &rollout.plan.policy, weights: &rollout.weights };
    let summary = course.summarize(known.clone(), &held(&visit.recalled.windows, rollout, &visit.forgiven));
    if let Some(summary) = summary.filter(|new| known.as_ref().is_none_or(|known| known.until < new.until)) {
        let kept = serde_json::to_string(&summary).expect("a summary has no map");
        // Without it the next tick reads further back.
        if let Err(error) = ledger.record_summary(&visit.active.flow, &rollout.id, &kept).await {
            tracing::warn!(flow = %visit.active.flow, %error, "the summary of the last hours was not recorded");
        }
    }
}

/// The decision on one flow, explained; pure but for what the visit gathered.
fn settle(visit: &mut Visit, now: Timestamp, fresh: bool) {
    let (decision, explanation) = decided(visit, now, fresh);
    (visit.decision, visit.explanation) = (decision, Some(explanation));
}

fn decided(visit: &Visit, now: Timestamp, fresh: bool) -> (Decision, Explanation) {
    let rollout = visit.rollout();
    // Without its parameters a flow can still fail or run out of time, but nothing may rise: `seen` as recorded explains nothing new.
    let unread;
    let seen = match &visit.seen {
        Ok(seen) => seen,
        Err(_) => {
            let version = rollout.pending.map(|p| p.base_version).or(rollout.applied.map(|a| a.version));
            unread = Seen { percentage: version.map(|v| (rollout.in_force.weight.to_string(), v)), ..Seen::default() };
            &unread
        }
    };
    let (analysis, drift) = (visit.analysis.as_ref(), visit.drift.as_deref());
    let facts = Facts { rollout, seen, analysis, drift, restricted: &visit.restricted, now };
    let decision = match (decide(&facts), &visit.seen) {
        (decision, Err(reason)) if decision.rises() => Decision::Hold(HoldReason::MetricsUnavailable(reason.clone())),
        (decision, _) if decision.rises() && !fresh => {
            Decision::Hold(HoldReason::MetricsUnavailable("the observation is older than 2 minutes".into()))
        }
        (decision, _) => decision,
    };
    let explanation = explain(&decision, &facts);
    (decision, explanation)
}

/// Whether both flows still run what is being compared, and the row still sends the calls where it should. Asked of whatever is about to
/// rise or has just moved, and of some others in turn, so that the requests of a tick stay few however many rollouts there are.
async fn look_for_drift<L, P, A: Analytics + Rows, N, C>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visits: &mut [Visit],
    now: Timestamp,
    fresh: bool,
) {
    // Whatever is taken back already needs no second reason; what was found so may have this one.
    let open = |visit: &Visit| !visit.takes_back() || visit.decision == Decision::Rollback(Cause::FoundContained);
    let watched = |visit: &Visit| visit.rollout().phase.is_watched() && open(visit);
    let among = |is: &dyn Fn(&Visit) -> bool| -> Vec<usize> { (0..visits.len()).filter(|i| is(&visits[*i])).collect() };
    let compared = in_turn(&among(&watched), now);
    let rows = in_turn(&among(&|visit| pointer::table(visit.rollout()).is_some()), now);
    let due = |visit: &Visit, i: usize| Look {
        flows: watched(visit) && (compared.contains(&i) || visit.decision.rises()),
        row: rows.contains(&i) || visit.decision.rises() || visit.has_moved(now),
    };
    let due: Vec<(usize, Look)> =
        visits.iter().enumerate().map(|(i, visit)| (i, due(visit, i))).filter(|(_, look)| look.flows || look.row).collect();
    let answers = join_all(due.iter().map(|(i, wanted)| look(ports.analytics, tick, &visits[*i], *wanted))).await;
    let due = due.into_iter().map(|(i, _)| i);
    for (i, (row, answer)) in due.zip(answers) {
        let visit = &mut visits[i];
        visit.row = row;
        match answer {
            Ok(None) => {}
            Ok(Some(drift)) => {
                visit.drift = Some(drift);
                settle(visit, now, fresh);
            }
            // Only a rise needs to know. Whoever comes next asks again.
            Err(unmeasured) if visit.decision.rises() => {
                let unknown = Verdict::Error(format!("whether both flows still run what is compared could not be read: {unmeasured}"));
                visit.analysis.iter_mut().for_each(|a| a.verdict = unknown.clone());
                settle(visit, now, fresh);
            }
            Err(_) => {}
        }
    }
}

/// Some of them, others in each minute.
fn in_turn(of: &[usize], now: Timestamp) -> Vec<usize> {
    let turns = of.len().div_ceil(LOOKED_AT).max(1);
    let turn = now.as_second().div_euclid(60).rem_euclid(turns as i64) as usize;
    of.iter().enumerate().filter(|(n, _)| n % turns == turn).map(|(_, i)| *i).collect()
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// What the flows run.
    flows: bool,
    /// The row, where there is one.
    row: bool,
}

/// The row, and what was changed by hand.
async fn look(
    analytics: &(impl Analytics + Rows),
    tick: &Tick,
    visit: &Visit,
    wanted: Look,
) -> (Option<Result<Option<Pointer>, String>>, Result<Option<String>, Unmeasured>) {
    let (rollout, mut found) = (visit.rollout(), None);
    if let Some(table) = pointer::table(rollout).filter(|_| wanted.row) {
        let row = match analytics.pointer(table, &visit.active.flow).await {
            Ok(row) => row,
            Err(error) => return (Some(Err(error.to_string())), Err(Unmeasured(error.to_string()))),
        };
        let standing = pointer::standing(rollout, row.as_ref(), &tick.stage);
        found = Some(Ok(row));
        // Once they are taken back, by whomever, the row is where they should be.
        let halted = visit.seen.as_ref().is_ok_and(|seen| seen.halts(&rollout.id));
        if let (true, false, pointer::Standing::ByHand(what)) = (rollout.awaits_verdict(), halted, standing) {
            let row = Changed::Row { table, row: visit.active.flow.as_str() };
            let by = named(analytics.changed_by(row, rollout.phase_since).await);
            return (found, Ok(Some(format!("{by} {what}, in data table {table}"))));
        }
    }
    match visit.cohorts().filter(|_| wanted.flows) {
        Some(cohorts) => (found, drifted(analytics, &cohorts, rollout).await),
        None => (found, Ok(None)),
    }
}

fn named(by: Option<String>) -> String {
    by.map_or_else(|| "somebody".to_owned(), |by| format!("`{by}`"))
}

async fn drifted(analytics: &impl Analytics, cohorts: &CohortFlows, rollout: &Rollout) -> Result<Option<String>, Unmeasured> {
    let since = rollout.phase_since;
    let slots = [("canary", &cohorts.canary), ("stable", &cohorts.stable)];
    // Where one flow gets its next version it runs that one alone; and whoever mends a broken stable flow must not get its calls at once.
    let one = cohorts.canary.0 == cohorts.stable.0 || rollout.stable_is_broken;
    let slots = if one { &slots[..1] } else { &slots[..] };
    for (slot, (flow, version)) in slots {
        let running = analytics.running(flow).await?;
        if running.version.as_deref() != Some(version.as_str()) {
            // The audit knows names; the flow itself tells an id at best.
            let by = named(analytics.changed_by(Changed::Flow(flow), since).await.or(running.by));
            let now = running.version.map_or_else(|| "no version".to_owned(), |v| format!("version {v}"));
            return Ok(Some(format!(
                "{by} published {now} into the {slot} flow {flow}, which ran {version} when this rollout began to compare"
            )));
        }
    }
    Ok(None)
}

/// Calls go to stable before anybody is told, whoever holds the lease; and what a record already calls for is repaired with it.
async fn contain_failed<L, P: Parameters, A: Rows, N, C>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visits: &mut [Visit],
    among: impl Fn(&Visit) -> bool,
) {
    let wanted: Vec<usize> = (0..visits.len())
        .filter(|i| among(&visits[*i]))
        .filter(|i| {
            let visit = &visits[*i];
            let decided = visit.takes_back();
            let recorded =
                visit.rollout().is_contained() && visit.seen.as_ref().map_or(true, |s| repair(visit.rollout(), s) != Default::default());
            decided || recorded
        })
        .collect();
    let results = {
        let targets: Vec<Target<'_>> = wanted
            .iter()
            .map(|i| Target { flow: &visits[*i].active.flow, rollout: visits[*i].rollout(), seen: visits[*i].seen.as_ref().ok() })
            .collect();
        contain(ports.parameters, ports.analytics, &tick.stage, &targets).await
    };
    for (i, result) in wanted.into_iter().zip(results) {
        if let Err(error) = result {
            visits[i].safe = false;
            visits[i].trouble.push(format!("containment incomplete, tried again at the next tick: {error}"));
        }
    }
}

/// Records the decision and acts on it, for one flow.
async fn act<L: Ledger, P: Parameters, A: Rows, N, C: Clock>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visit: &mut Visit,
    now: Timestamp,
) -> FlowReport {
    let decision = visit.decision.clone();
    let explanation = visit.explanation.clone().expect("a decision is explained when it is made");
    let counts = visit.analysis.as_ref().map(|a| a.counts).unwrap_or_default();
    if let Err(error) = record_and_apply(ports, tick, visit, now).await {
        match error {
            // The other run does what is to be done. Losing changes nothing.
            LedgerError::Lost { .. } => tracing::info!(flow = %visit.active.flow, %error, "left to another run"),
            _ => visit.trouble.push(error.to_string()),
        }
    }
    if let Err(error) = follow(ports, tick, visit).await {
        let why = format!("the row that sends the calls is not as recorded, and is tried again at the next tick: {error}");
        visit.ailing = Some(why.clone());
        visit.trouble.push(why);
    }
    for trouble in &visit.trouble {
        tracing::error!(flow = %visit.active.flow, trouble, "not done");
    }
    let (rollout, evidence) = (visit.rollout(), visit.analysis.as_ref().and_then(|a| a.evidence.as_ref()));
    FlowReport {
        flow: visit.active.flow.clone(),
        rollout: rollout.id.clone(),
        phase: rollout.phase.name().to_owned(),
        weight: rollout.desired_weight(),
        watched: rollout.phase.is_watched(),
        decision: decision.name().to_owned(),
        reason: explanation.sentence.clone(),
        explanation,
        counts,
        evidence: evidence.map(|e| (100.0 * e.towards_rollback()).round()),
        sample_ratio: evidence.is_some_and(|e| e.share_alert),
        overdue: rollout.phase == Phase::RollingBack && now.duration_since(rollout.phase_since) > RESTORED_WITHIN,
        trouble: (!visit.trouble.is_empty()).then(|| visit.trouble.join("; ")),
    }
}

/// Lets the row that a traffic cop reads follow the record, where it does not or cannot be told to.
async fn follow<L: Ledger, P: Parameters, A: Rows, N, C>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visit: &Visit,
) -> Result<(), String> {
    let (rollout, flow) = (visit.rollout(), &visit.active.flow);
    let (weight, revision) = (rollout.settled_weight(), rollout.applied.map_or(0, |applied| applied.version));
    // Where no call was ever moved there is nothing to follow: after a swap the row rightly sends all of them to the canary flow.
    let is_behind = match &visit.row {
        _ if !rollout.has_stepped || pointer::table(rollout).is_none() => false,
        _ if visit.weight != weight => true,
        None => false,
        Some(Ok(row)) => pointer::standing(rollout, row.as_ref(), &tick.stage) == pointer::Standing::Behind,
        Some(Err(_)) => weight == Weight::ZERO && rollout.is_contained(),
    };
    if !is_behind {
        return Ok(());
    }
    if weight < Weight::FULL {
        return pointer::to_stable(ports.analytics, rollout, revision, &tick.stage).await.map_err(|e| e.to_string());
    }
    pointer::to_canary(ports.analytics, rollout, revision, &tick.stage).await.map_err(|e| e.to_string())?;
    // The row knows no halt marker: whoever took the calls back while we wrote must not be overwritten. Their first act is the marker. A
    // percentage that reads older than ours says nothing.
    let seen = ports.parameters.read(flow).await.map_err(|e| e.to_string())?;
    let lowered = seen.halts(&rollout.id) || (seen.version() > revision && seen.weight() < Weight::FULL);
    let now = open(ports.ledger, flow).await.map_err(|e| e.to_string())?;
    match lowered || now.rollout.as_ref().is_some_and(|now| now.settled_weight() < Weight::FULL) {
        // As ours of before: should the rollout go on after all, it is written again.
        true => pointer::to_stable(ports.analytics, rollout, 0, &tick.stage).await.map_err(|e| e.to_string()),
        false => Ok(()),
    }
}

async fn record_and_apply<L: Ledger, P: Parameters, A: Rows, N, C: Clock>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visit: &mut Visit,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let flow = visit.active.flow.clone();
    let base_version = visit.seen.as_ref().map_or(0, Seen::version);
    if visit.decision == Decision::Rollback(Cause::FoundContained) {
        // A person or another run may be between taking the calls away and saying why; they know better than we do.
        let takes = if pointer::table(visit.rollout()).is_some() { SAYING_WHY_BY_ROW } else { SAYING_WHY };
        ports.clock.sleep(takes).await;
        visit.opened = open(ports.ledger, &flow).await?;
        if visit.rollout().is_off_the_canary() {
            return Ok(());
        }
    }
    if let Some(event) = visit.decision.event(base_version).filter(Event::needs_containment) {
        return preempt(ports, tick, visit, event, now).await;
    }
    if !has_work(visit, now) {
        return Ok(());
    }
    if matches!(visit.decision, Decision::Withhold { contain: true, .. })
        && let Err(error) = pause_on_stable(ports, tick, visit).await
    {
        visit.trouble.push(format!("calls were not taken to stable, tried again at the next tick: {error}"));
        let Decision::Withhold { restriction, contain, .. } = &mut visit.decision else { return Ok(()) };
        *contain = false;
        let told = visit.opened.rollout.as_ref().and_then(|r| r.withheld.as_ref());
        if told.is_some_and(|(told, _)| told == restriction) {
            return Ok(());
        }
    }
    let wall = ports.clock.now();
    let lease = ports.ledger.lease(&flow, &tick.run, wall, wall + LEASE_FOR).await?;
    let outcome = under_lease(ports, tick, visit, &lease, now).await;
    if let Err(error) = ports.ledger.release(&flow, &lease).await {
        tracing::warn!(%flow, %error, "lease not given back; it ends by itself");
    }
    outcome
}

/// Calls go to stable before it is recorded that they did. No halt marker: a person may let it go on.
async fn pause_on_stable<L, P: Parameters, A: Rows, N, C>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visit: &mut Visit,
) -> Result<(), String> {
    let version = ports.parameters.put_percentage(&visit.active.flow, Weight::ZERO, false).await.map_err(|e| e.to_string())?;
    let seen = visit.seen.clone().unwrap_or_default();
    visit.seen = Ok(Seen { percentage: Some((Weight::ZERO.to_string(), version)), ..seen });
    // The row follows at every tick until it does.
    if let Err(error) = pointer::to_stable(ports.analytics, visit.rollout(), version, &tick.stage).await {
        visit.trouble.push(error.to_string());
    }
    Ok(())
}

/// Whether there is anything to record or to write. Most ticks of most flows have nothing, and take no lease.
fn has_work(visit: &Visit, now: Timestamp) -> bool {
    let rollout = visit.rollout();
    let unfinished = rollout.pending.is_some() || visit.active.visit_until.is_some_and(|until| now > until);
    let drifted = visit.seen.as_ref().is_ok_and(|seen| repair(rollout, seen) != Default::default());
    !matches!(visit.decision, Decision::Hold(_)) || unfinished || drifted
}

/// A rollback does not wait for anybody's lease: it takes over. If something was recorded meanwhile it looks again and goes on.
async fn preempt<L: Ledger, P, A, N, C: Clock>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visit: &mut Visit,
    event: Event,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let flow = visit.active.flow.clone();
    let mut tries = 0;
    loop {
        let authority = Authority::Preempt { fence: visit.opened.book.fence, owner: tick.run.clone() };
        let entry = entry(visit, event.clone(), now, ports.clock.now());
        let error = match record(ports.ledger, &flow, &visit.opened, authority, entry).await {
            Ok(opened) => {
                visit.opened = opened;
                return Ok(());
            }
            Err(error @ LedgerError::Lost { .. }) => error,
            Err(error) => return Err(error),
        };
        tries += 1;
        let same = visit.rollout().id.clone();
        visit.opened = open(ports.ledger, &flow).await?;
        let over = visit.rollout().id != same || visit.rollout().is_off_the_canary();
        if over || tries >= 5 {
            return Err(error);
        }
    }
}

fn entry(visit: &Visit, event: Event, at: Timestamp, recorded_at: Timestamp) -> Record {
    let by = match &event {
        Event::Paused { version: Some(_), .. } | Event::WeightSet { .. } => Actor::BreakGlass,
        _ => evaluator(),
    };
    let why = visit.explanation.as_ref().map_or_else(|| visit.decision.to_string(), |e| e.sentence.clone());
    Record { by, why, event, evidence: visit.analysis.as_ref().map(|a| a.counts), at, recorded_at }
}

fn evaluator() -> Actor {
    Actor::Serin("canary-evaluator".into())
}

async fn under_lease<L: Ledger, P: Parameters, A: Rows, N, C: Clock>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visit: &mut Visit,
    lease: &Lease,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let flow = visit.active.flow.clone();
    let read = (visit.opened.book.revision, visit.opened.book.head_hash.clone());
    let fresh = open(ports.ledger, &flow).await?;
    if (fresh.book.revision, fresh.book.head_hash.clone()) != read {
        return Err(LedgerError::Lost { flow: flow.to_string(), reason: "another run recorded since this one looked".into() });
    }
    visit.opened = fresh;
    if visit.rollout().phase == Phase::Preparing
        && matches!(visit.decision, Decision::Begin { .. } | Decision::Promote | Decision::Observe { .. })
        && !visit.rollout().is_unsplit()
        && let Err(error) = open_split(ports, tick, visit).await
    {
        visit.trouble.push(error);
        return Ok(());
    }
    let base_version = visit.seen.as_ref().map_or(0, Seen::version);
    if let Decision::Observe { version } = &mut visit.decision {
        *version = base_version;
    }
    if let Some(mut event) = visit.decision.event(base_version) {
        if let Event::Paused { weight, version: Some(version), .. } = &event
            && let Some(base) = raised_since(visit.rollout(), *weight)
            && *version > base + 1
        {
            // More than one write since then: what is seen may be our own raise, landed late over a person's value.
            event = overwritten(ports.parameters, &flow, visit, base, *version).await;
        }
        let entry = entry(visit, event, now, ports.clock.now());
        visit.opened = record(ports.ledger, &flow, &visit.opened, Authority::Lease(lease.clone()), entry).await?;
    }
    project(ports, visit, lease, now).await?;
    if visit.active.visit_until.is_some_and(|until| now > until) && visit.is_settled(&tick.stage) {
        ports.ledger.retire(&flow, visit.active.revision).await?;
    }
    Ok(())
}

/// Before the first step: the weight is 0, and the split is written while it is.
async fn open_split<L, P: Parameters, A: Rows, N, C>(
    ports: &Ports<'_, L, P, A, N, C>,
    tick: &Tick,
    visit: &mut Visit,
) -> Result<(), String> {
    let parameters = ports.parameters;
    let flow = visit.active.flow.clone();
    let seen = visit.seen.clone()?;
    if !seen.is_zero() && visit.rollout().is_observed() {
        return Err("the percentage must be there and 0 before an observation begins, and Serin writes none: set it to 0".into());
    }
    if !seen.is_zero() {
        parameters.put_percentage(&flow, Weight::ZERO, false).await.map_err(|e| e.to_string())?;
    }
    let split = serde_json::to_string(&visit.rollout().split(&tick.stage)).expect("a split has no map");
    if seen.rollout.as_ref() != Some(&split) {
        parameters.put_rollout(&flow, &split).await.map_err(|e| e.to_string())?;
    }
    let seen = parameters.read(&flow).await.map_err(|e| e.to_string())?;
    if !seen.is_zero() || seen.rollout.as_ref() != Some(&split) {
        return Err("the parameters do not read back as written yet; the next tick looks again".into());
    }
    let pointed = pointer::to_stable(ports.analytics, visit.rollout(), seen.version(), &tick.stage).await;
    visit.seen = Ok(seen);
    pointed.map_err(|e| e.to_string())
}

/// Brings the percentage to what the record says. Lowering is always right; raising needs the lease, the recorded intent and the
/// version it was based on.
async fn project<L: Ledger, P: Parameters, A, N, C: Clock>(
    ports: &Ports<'_, L, P, A, N, C>,
    visit: &mut Visit,
    lease: &Lease,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let flow = visit.active.flow.clone();
    let Ok(seen) = visit.seen.clone() else { return Ok(()) };
    if repair(visit.rollout(), &seen).zero {
        let written = ports.parameters.put_percentage(&flow, Weight::ZERO, false).await;
        if let (Ok(version), Phase::Paused { .. }) = (&written, &visit.rollout().phase) {
            let reason = match seen.percentage.as_ref().is_some_and(|(text, _)| text.parse::<Weight>().is_ok()) {
                true => "calls are on stable: the percentage is 0 now".to_owned(),
                false => "what was no percentage was replaced by 0".to_owned(),
            };
            let event = Event::Paused { weight: Weight::ZERO, version: Some(*version), reason: reason.clone() };
            let entry = Record { by: evaluator(), why: reason, event, evidence: None, at: now, recorded_at: ports.clock.now() };
            visit.opened = record(ports.ledger, &flow, &visit.opened, Authority::Lease(lease.clone()), entry).await?;
        }
        if let Err(error) = written {
            visit.trouble.push(error.to_string());
        }
        return Ok(());
    }
    let Some(pending) = visit.rollout().pending else { return Ok(()) };
    let version = match standing(visit.rollout(), &seen) {
        Standing::RaiseDone { version } => version,
        // Nothing rises in a freeze, or on a failed verdict that is not acted on in maintenance; but for what a person asked for.
        Standing::RaisePending if !visit.restricted.is_empty() && !pending.by_person => return Ok(()),
        Standing::RaisePending if lease.until.duration_since(ports.clock.now()) > RAISE_MARGIN => {
            match ports.parameters.put_percentage(&flow, pending.weight, true).await {
                Ok(version) => version,
                Err(error) => {
                    visit.trouble.push(error.to_string());
                    return Ok(());
                }
            }
        }
        _ => return Ok(()),
    };
    let event = match version == pending.base_version + 1 {
        true => Event::WeightApplied { weight: pending.weight, version },
        false => overwritten(ports.parameters, &flow, visit, pending.base_version, version).await,
    };
    let why = match &event {
        Event::Paused { reason, .. } => reason.clone(),
        _ => format!("the parameter holds {} % as version {version}", pending.weight),
    };
    let by = evaluator();
    let entry = Record { by, why, event, evidence: None, at: now, recorded_at: ports.clock.now() };
    visit.opened = record(ports.ledger, &flow, &visit.opened, Authority::Lease(lease.clone()), entry).await?;
    Ok(())
}

/// The version of the percentage after which a write of this weight may be ours: a raise on its way, or one that was written twice.
fn raised_since(rollout: &Rollout, weight: Weight) -> Option<i64> {
    match (rollout.pending, rollout.applied) {
        (Some(pending), _) => Some(pending.base_version),
        (None, applied) => applied.filter(|applied| applied.weight == weight).map(|applied| applied.version),
    }
}

/// Somebody wrote between our read and our raise: the lowest value a person wrote wins, and the rollout waits for them.
async fn overwritten(parameters: &impl Parameters, flow: &FlowName, visit: &Visit, base: i64, version: i64) -> Event {
    let written = parameters.history(flow).await.unwrap_or_default();
    let lowest = written.iter().filter(|(_, v)| *v > base && *v <= version).map(|(text, _)| text.parse().unwrap_or(Weight::ZERO)).min();
    // What cannot be read back is taken for the most careful hand.
    let weight = lowest.unwrap_or(Weight::ZERO).min(visit.rollout().phase.weight());
    let stands = visit.seen.as_ref().is_ok_and(|s| s.percentage.as_ref().is_some_and(|(t, v)| *v == version && t.parse() == Ok(weight)));
    let version = if stands { Some(version) } else { parameters.put_percentage(flow, weight, false).await.ok() };
    let reason = format!(
        "the percentage was changed by hand while Serin raised it: {weight} is kept, and the rollout waits for `serin resume` or `serin abort`"
    );
    Event::Paused { weight, version, reason }
}
