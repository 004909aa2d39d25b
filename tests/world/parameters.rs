//! Parameter Store: versions, a history, reads that lag and writes that land after their time-out.

use super::{Fault, Process, State};
use jiff::Timestamp;
use serin_controller::ports::{ParameterError, Parameters};
use serin_core::cohort::{self, Caller, Cohort, Fallback, Router};
use serin_core::projection::Seen;
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;

/// Who wrote a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A function.
    Serin,
    /// A function, whose write landed after it had given up on it.
    SerinLate,
    /// A person.
    Person,
}

/// What a call was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which side.
    pub cohort: Cohort,
    /// Weight in force.
    pub weight: Weight,
    /// Rollout that decided, empty where there is none.
    pub rollout: String,
    /// Why it was not drawn, if so.
    pub fallback: Option<Fallback>,
}

/// The parameters of one flow.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// As they stand.
    pub seen: Seen,
    /// As they stood before the last write.
    before: Seen,
    /// Values of the percentage, oldest first, with who wrote them.
    pub history: Vec<(String, i64, Writer)>,
    /// Where a person's hand left it, until a person lets the rollout go on.
    pub hand: Option<Weight>,
}

impl Projection {
    fn put(&mut self, text: String, writer: Writer) -> i64 {
        let version = self.seen.version() + 1;
        self.before = self.seen.clone();
        self.seen.percentage = Some((text.clone(), version));
        self.history.push((text, version, writer));
        version
    }
}

fn error(flow: &FlowName) -> ParameterError {
    ParameterError { name: flow.to_string(), reason: "injected".into() }
}

impl State {
    fn projection(&mut self, flow: &FlowName) -> &mut Projection {
        self.projections.entry(flow.clone()).or_default()
    }

    /// Who wrote the percentage last.
    pub fn last_writer(&self, flow: &FlowName) -> Option<Writer> {
        self.projections.get(flow)?.history.last().map(|(_, _, writer)| *writer)
    }

    /// What the Data Action answers for a call now.
    pub fn answer(&self, flow: &FlowName, conversation: &str) -> Answer {
        let seen = self.projections.get(flow).map(|p| p.seen.clone()).unwrap_or_default();
        let parameters = cohort::Parameters {
            revision: seen.version(),
            percentage: seen.percentage.map(|(text, _)| text),
            rollout: seen.rollout,
            halt: seen.halt,
            heartbeat: self.heartbeat.map(|at| at.to_string()),
        };
        let router = Router::read(&parameters);
        let drawn = router.assign(Caller { conversation: Some(conversation), number: None }, self.wall(), 0);
        Answer { cohort: drawn.cohort, weight: drawn.weight, rollout: drawn.rollout.to_owned(), fallback: drawn.fallback }
    }

    /// The weight callers get now, were the heartbeat fresh.
    pub fn offered(&self, flow: &FlowName) -> Weight {
        let Some(projection) = self.projections.get(flow) else { return Weight::ZERO };
        let parameters = cohort::Parameters {
            percentage: projection.seen.percentage.as_ref().map(|(text, _)| text.clone()),
            revision: 0,
            rollout: projection.seen.rollout.clone(),
            halt: projection.seen.halt.clone(),
            heartbeat: Some(self.now.to_string()),
        };
        Router::read(&parameters).assign(Caller { conversation: Some("any"), number: None }, self.now, 0).weight
    }

    /// Somebody writes the percentage by hand.
    pub fn person_sets(&mut self, flow: &FlowName, text: &str) {
        let weight = text.parse().unwrap_or(Weight::ZERO);
        let rollout = self.books.get(flow).and_then(|b| b.rollout());
        let watched = rollout.as_ref().is_some_and(|r| r.phase.is_watched());
        let pending = rollout.and_then(|r| r.pending);
        let as_pending = pending.is_some_and(|p| p.weight == weight);
        let projection = self.projection(flow);
        projection.put(text.to_owned(), Writer::Person);
        if watched && !as_pending {
            // Where it crosses a raise of ours, the lowest of what was written wins.
            let lowest = projection.hand.filter(|_| pending.is_some()).map_or(weight, |hand| hand.min(weight));
            projection.hand = Some(lowest);
        }
    }

    /// Somebody deletes the percentage by hand; with it goes its history, and versions start again.
    pub fn person_deletes(&mut self, flow: &FlowName) {
        let watched = self.rollout(flow).is_some_and(|r| r.phase.is_watched());
        let projection = self.projection(flow);
        projection.before = projection.seen.clone();
        projection.seen.percentage = None;
        projection.history.clear();
        if watched {
            projection.hand = Some(Weight::ZERO);
        }
    }

    /// Writes that were given up on, and land now.
    pub(super) fn land_late(&mut self, call: usize) {
        let (due, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late).into_iter().partition(|(at, _, _)| *at <= call);
        self.late = waiting;
        for (_, flow, weight) in due {
            self.projection(&flow).put(weight.to_string(), Writer::SerinLate);
            if weight > Weight::ZERO && self.is_held(&flow) {
                self.exercise(1, "late raise");
            }
            self.law_of_containment(&flow);
        }
        self.land_late_rows(call);
    }

    /// Whether a write is still on its way.
    pub fn awaits_late_writes(&self) -> bool {
        !self.late.is_empty() || !self.late_rows.is_empty()
    }

    /// What writes are on their way land now.
    pub fn land_all(&mut self) {
        self.land_late(usize::MAX);
    }
}

impl Parameters for Process {
    async fn read(&self, flow: &FlowName) -> Result<Seen, ParameterError> {
        match self.begin("parameters.read", flow.to_string()).await {
            None | Some(Fault::TimeOut) => Ok(self.world.state().projection(flow).seen.clone()),
            Some(Fault::Stale) => Ok(self.world.state().projection(flow).before.clone()),
            Some(Fault::Fail | Fault::Late(_)) => Err(error(flow)),
            Some(Fault::CrashBefore | Fault::CrashAfter) => self.die().await,
        }
    }

    async fn put_percentage(&self, flow: &FlowName, weight: Weight, raise: bool) -> Result<i64, ParameterError> {
        let put = |state: &mut State| {
            let version = state.projection(flow).put(weight.to_string(), Writer::Serin);
            state.law_of_the_plan(flow);
            version
        };
        let detail = format!("{flow} {} {weight}", if raise { "raise" } else { "lower" });
        match self.begin("parameters.put_percentage", detail).await {
            None | Some(Fault::Stale) => Ok(put(&mut self.world.state())),
            Some(Fault::Fail) => Err(error(flow)),
            Some(Fault::TimeOut) => {
                put(&mut self.world.state());
                Err(error(flow))
            }
            Some(Fault::Late(calls)) => {
                let mut state = self.world.state();
                let due = state.calls.len() + calls;
                state.late.push((due, flow.clone(), weight));
                Err(error(flow))
            }
            Some(Fault::CrashBefore) => self.die().await,
            Some(Fault::CrashAfter) => {
                put(&mut self.world.state());
                self.die().await
            }
        }
    }

    async fn history(&self, flow: &FlowName) -> Result<Vec<(String, i64)>, ParameterError> {
        let recall =
            |s: &mut State| Ok(s.projection(flow).history.iter().rev().map(|(text, version, _)| (text.clone(), *version)).collect());
        self.step("parameters.history", flow.as_str(), || error(flow), recall).await
    }

    async fn put_halt(&self, flow: &FlowName, rollout: &str) -> Result<(), ParameterError> {
        let put = |s: &mut State| {
            let projection = s.projection(flow);
            projection.before = projection.seen.clone();
            projection.seen.halt = Some(rollout.to_owned());
            Ok(())
        };
        self.step("parameters.put_halt", format!("{flow} {rollout}"), || error(flow), put).await
    }

    async fn put_rollout(&self, flow: &FlowName, split: &str) -> Result<(), ParameterError> {
        let put = |s: &mut State| {
            let projection = s.projection(flow);
            projection.before = projection.seen.clone();
            projection.seen.rollout = Some(split.to_owned());
            s.law_of_containment(flow);
            Ok(())
        };
        self.step("parameters.put_rollout", flow.as_str(), || error(flow), put).await
    }

    async fn beat(&self, at: Timestamp) -> Result<(), ParameterError> {
        let put = |s: &mut State| {
            s.heartbeat = Some(at);
            Ok(())
        };
        self.step("parameters.beat", "", || ParameterError { name: "heartbeat".into(), reason: "injected".into() }, put).await
    }

    /// There is no copy here: it belongs to the adapter. What becomes of a tick that cannot keep it is the use case's.
    async fn follow(&self, seen: &[(&FlowName, &Seen)]) -> Vec<ParameterError> {
        let mut state = self.world.state();
        state.followed.push(seen.iter().map(|(flow, _)| (*flow).clone()).collect());
        let fails = state.outages.contains("parameters.follow");
        seen.iter().filter(|_| fails).map(|(flow, _)| error(flow)).collect()
    }
}
