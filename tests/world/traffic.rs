//! Callers, and the vendor's analytics of them. Every minute's calls are split by what the Data Action answers in it.

use super::{Process, State};
use jiff::{SignedDuration, Timestamp};
use serin_controller::ports::{Analytics, Changed, CohortFlows, Running, Unmeasured};
use serin_core::measurement::{Comparison, Counts, Window};
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;
use std::collections::BTreeMap;

/// How the calls of a configuration end; shares of all calls, the rest is served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behavior {
    /// Ended by an error of the flow.
    pub error: f64,
    /// The caller hung up.
    pub abandon: f64,
    /// Transferred to an agent.
    pub transfer: f64,
}

/// How callers reach the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A cop asks the Data Action.
    Asked,
    /// A cop reads the row of the table [`TABLE`].
    ByRow,
    /// `{flow}-canary` asks the Data Action, and branches inside.
    Inside,
    /// `{flow}-canary` gets all calls.
    Direct,
}

/// The data table.
pub const TABLE: &str = "deployment-control";
/// Outcomes of the branches of a flow that branches inside.
pub const OUTCOMES: (&str, &str) = ("outcome-old", "outcome-new");

/// Calls, and how they end.
#[derive(Debug)]
pub struct Traffic {
    /// Calls of each flow in a minute.
    pub calls_per_minute: u32,
    /// Seed of the noise; without one, counts are as even as whole numbers can be.
    pub noise: Option<fastrand::Rng>,
    /// Minutes after which a call is counted unless it failed: analytics count when things end.
    pub call_minutes: u32,
    /// How callers reach the flows.
    pub way: Way,
    /// Whether flows and callers are another organization's, which this world only hears of.
    pub elsewhere: bool,
    /// Whether the analytics answer with nothing.
    pub silent: bool,
    /// By configuration.
    pub behavior: BTreeMap<String, Behavior>,
    flows: Vec<FlowName>,
    next_minute: Timestamp,
    remainder: BTreeMap<(String, u8), f64>,
    counted: BTreeMap<(String, String), BTreeMap<Timestamp, Counts>>,
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

impl Traffic {
    pub(super) fn new(flows: &[FlowName], start: Timestamp) -> Traffic {
        let healthy = Behavior { error: 0.015, abandon: 0.06, transfer: 0.22 };
        let behavior = [
            ("good", healthy),
            ("better", Behavior { abandon: 0.05, ..healthy }),
            ("best", healthy),
            ("broken", Behavior { error: 0.15, ..healthy }),
        ];
        Traffic {
            calls_per_minute: 600,
            noise: None,
            call_minutes: 0,
            way: Way::Asked,
            elsewhere: false,
            silent: false,
            behavior: behavior.into_iter().map(|(hash, b)| (hash.to_owned(), b)).collect(),
            flows: flows.to_vec(),
            next_minute: start,
            remainder: BTreeMap::new(),
            counted: BTreeMap::new(),
        }
    }

    /// `share` of `calls`: drawn, or rounded so that nothing is lost over time.
    fn part(&mut self, of: &str, kind: u8, calls: u32, share: f64) -> u32 {
        if let Some(noise) = &mut self.noise {
            return (0..calls).filter(|_| noise.f64() < share).count() as u32;
        }
        let rest = self.remainder.entry((of.to_owned(), kind)).or_default();
        let exact = f64::from(calls) * share + *rest + 1e-9;
        let whole = exact.floor();
        *rest = exact - whole;
        whole as u32
    }

    fn end(&mut self, flow: &str, version: &str, behavior: Behavior, calls: u32, minute: Timestamp) {
        let errors = self.part(flow, 1, calls, behavior.error);
        let abandons = self.part(flow, 2, calls, behavior.abandon).min(calls - errors);
        let transfers = self.part(flow, 3, calls, behavior.transfer).min(calls - errors - abandons);
        let contained = calls - errors - abandons - transfers;
        let ends = minute + MINUTE * i32::try_from(self.call_minutes).unwrap();
        let counted = self.counted.entry((flow.to_owned(), version.to_owned())).or_default();
        *counted.entry(minute).or_default() += Counts { calls: errors, errors, ..Counts::default() };
        *counted.entry(ends).or_default() +=
            Counts { calls: calls - errors, errors: 0, abandons, transfers, contained, ..Counts::default() };
    }
}

impl Traffic {
    /// A branch ends its outcome: whether it did its work is all that is told.
    fn end_outcome(&mut self, flow: &str, version: &str, outcome: &str, configuration: &str, calls: u32, minute: Timestamp) {
        let Behavior { error, abandon, .. } = self.behavior[configuration];
        let errors = self.part(outcome, 1, calls, error + abandon);
        let ends = minute + MINUTE * i32::try_from(self.call_minutes).unwrap();
        let counted = self.counted.entry((flow.to_owned(), format!("{version}/{outcome}"))).or_default();
        *counted.entry(ends).or_default() += Counts { calls, errors, contained: calls - errors, ..Counts::default() };
    }
}

impl State {
    /// The calls of every whole minute until now.
    pub(super) fn run_traffic(&mut self) {
        while !self.traffic.elsewhere && self.traffic.next_minute + MINUTE <= self.now {
            let minute = self.traffic.next_minute;
            self.traffic.next_minute = minute + MINUTE;
            for flow in self.traffic.flows.clone() {
                let weight = match self.traffic.way {
                    Way::Asked | Way::Inside => self.answer(&flow, "any").weight,
                    Way::ByRow => self.pointed_weight(&flow),
                    Way::Direct => Weight::FULL,
                };
                let calls = self.traffic.calls_per_minute;
                let canary = self.traffic.part(flow.as_str(), 0, calls, weight.percent() / 100.0).min(calls);
                for (slot, calls) in [("stable", calls - canary), ("canary", canary)] {
                    let inside = self.traffic.way == Way::Inside;
                    let id = format!("{flow}-{}", if inside { "canary" } else { slot });
                    let (version, configuration) = (self.flows[&id].runs().to_owned(), self.flows[&id].configuration().to_owned());
                    match (inside, slot) {
                        (false, _) => self.traffic.end(&id, &version, self.traffic.behavior[&configuration], calls, minute),
                        (true, "stable") => self.traffic.end_outcome(&id, &version, OUTCOMES.0, "good", calls, minute),
                        (true, _) => self.traffic.end_outcome(&id, &version, OUTCOMES.1, &configuration, calls, minute),
                    }
                }
            }
        }
    }
}

impl Analytics for Process {
    async fn measure(&self, flows: &[CohortFlows], from: Timestamp, to: Timestamp) -> Result<Vec<Vec<Window>>, Unmeasured> {
        let count = |s: &mut State| {
            let silent = s.traffic.silent;
            let counted = &s.traffic.counted;
            let key = |(flow, version): &(String, String), outcome: Option<&String>| match outcome {
                Some(outcome) => (flow.clone(), format!("{version}/{outcome}")),
                None => (flow.clone(), version.clone()),
            };
            let at = |of: &(String, String), minute: Timestamp| match silent {
                true => Counts::default(),
                false => counted.get(of).and_then(|m| m.get(&minute)).copied().unwrap_or_default(),
            };
            let minutes = (0..to.duration_since(from).as_mins()).map(|n| from + SignedDuration::from_mins(n));
            let minutes: Vec<Timestamp> = minutes.collect();
            let of_flow = |flow: &CohortFlows| {
                let (stable, canary) = (
                    key(&flow.stable, flow.outcomes.as_ref().map(|o| &o.stable)),
                    key(&flow.canary, flow.outcomes.as_ref().map(|o| &o.canary)),
                );
                let window = |m: &Timestamp| Window { start: *m, counts: Comparison { stable: at(&stable, *m), canary: at(&canary, *m) } };
                minutes.iter().map(window).collect()
            };
            Ok(flows.iter().map(of_flow).collect())
        };
        self.step("analytics.measure", "", || Unmeasured("injected".into()), count).await
    }

    async fn running(&self, flow: &str) -> Result<Running, Unmeasured> {
        let look = |s: &mut State| {
            let flow = &s.flows[flow];
            Ok(Running { version: Some(flow.runs().to_owned()), by: flow.published_by.clone() })
        };
        self.step("analytics.running", flow, || Unmeasured("injected".into()), look).await
    }

    async fn changed_by(&self, what: Changed<'_>, _since: Timestamp) -> Option<String> {
        let look = |s: &mut State| match what {
            Changed::Flow(flow) => Ok(s.flows[flow].published_by.clone()),
            Changed::Row { .. } => Ok(s.rows_changed_by.clone()),
        };
        self.step("analytics.changed_by", "", || (), look).await.ok().flatten()
    }
}
