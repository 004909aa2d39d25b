//! What must hold while ports are called. What is found goes to `violations`, so that it survives whatever the code does next.

use super::{State, Traffic, Writer};
use jiff::SignedDuration;
use serin_controller::intervene::LOCKOUT;
use serin_controller::ports::{LONGEST_WHY, Pointer};
use serin_core::calendar::{in_force, maintenance};
use serin_core::ledger::{Entry, Hash, verify};
use serin_core::phase::{Event, Phase};
use serin_core::policy::Mode;
use serin_core::rollout::{Actor, Cause, FlowName, Rollout, Strategy};
use serin_core::weight::Weight;
use std::collections::BTreeSet;

impl State {
    fn violated(&mut self, law: u8, what: String) {
        let at = self.calls.len();
        self.violations.push(format!("law {law}, at call {at} ({}): {what}", self.now));
    }

    /// A law had something to check.
    pub fn exercise(&mut self, law: u8, with: &'static str) {
        *self.exercised.entry((law, with)).or_default() += 1;
    }

    /// Whether calls are split for a rollout that was contained, in fact.
    pub(super) fn is_held(&self, flow: &FlowName) -> bool {
        self.split_for(flow).is_some_and(|named| self.held.contains(&(flow.clone(), named)))
    }

    /// The latest rollout of a flow.
    pub fn rollout(&self, flow: &FlowName) -> Option<Rollout> {
        self.books.get(flow).and_then(|book| book.rollout())
    }

    /// The rollout that calls are split for.
    fn split_for(&self, flow: &FlowName) -> Option<String> {
        let text = self.projections.get(flow)?.seen.rollout.clone()?;
        serde_json::from_str::<serin_core::cohort::Split>(&text).ok().map(|s| s.rollout)
    }

    /// Law 1: once a rollout was contained, by the ledger and in fact, no call goes to its canary, whoever writes what. Where the
    /// writes of the containment failed, the ledger says it first; that they are made up for is checked at rest.
    pub(super) fn law_of_containment(&mut self, flow: &FlowName) {
        let offered = self.offered(flow);
        let Some(named) = self.split_for(flow) else { return };
        let rollout = (flow.clone(), named.clone());
        let halted = self.projections.get(flow).is_some_and(|p| p.seen.halts(&named));
        if halted && self.contained.contains(&rollout) {
            self.held.insert(rollout.clone());
        }
        if self.held.contains(&rollout) {
            self.exercise(1, "contained");
        }
        if offered > Weight::ZERO && self.held.contains(&rollout) {
            self.violated(1, format!("{flow}: {offered} % of calls go to the canary of {named}, which was contained"));
        }
    }

    /// Law 4, at each write of a function: never more than the plan's step as recorded.
    pub(super) fn law_of_the_plan(&mut self, flow: &FlowName) {
        self.law_of_containment(flow);
        let offered = self.offered(flow);
        if offered > Weight::ZERO {
            self.exercise(4, "raise");
        }
        let allowed = match self.rollout(flow) {
            Some(rollout) if self.split_for(flow).as_ref() == Some(&rollout.id) => rollout.phase.weight(),
            _ => Weight::ZERO,
        };
        if offered > allowed {
            self.violated(4, format!("{flow}: {offered} % were written, the record says {allowed} %"));
        }
    }

    /// Law 4, at each write of the row by a function: all calls only as the record says. Where functions run side by side the row may be
    /// late, since the vendor has no compare-and-set; that it is made up for is checked at rest.
    pub(super) fn law_of_the_row(&mut self, flow: &FlowName) {
        let recorded = self.rollout(flow).map_or(Weight::ZERO, |r| r.settled_weight());
        if self.pointed_weight(flow) > Weight::ZERO {
            self.exercise(4, "row raised");
        }
        if !self.interleaved && self.pointed_weight(flow) > recorded {
            self.violated(4, format!("{flow}: the row sends all calls to the canary, the record says {recorded} %"));
        }
    }

    /// Laws 1, 2, 4 and 5, at each entry.
    pub(super) fn law_of_entries(&mut self, flow: &FlowName) {
        let entry = self.books[flow].entries.last().expect("one was just recorded").entry.clone();
        if entry.event.needs_containment() && self.rollout(flow).is_some_and(|r| r.has_stepped) {
            self.contained.insert((flow.clone(), entry.rollout.clone()));
        }
        self.law_of_containment(flow);
        let to_canary = matches!((&entry.event, &entry.by), (Event::PromotionStarted { .. }, Actor::Person(_)));
        if to_canary || matches!(entry.event, Event::Resumed { .. } | Event::Requested { .. }) {
            self.projections.entry(flow.clone()).or_default().hand = None;
        }
        self.law_of_beginnings(flow);
        self.law_of_ends(flow);
        self.law_of_restrictions(flow);
        if self.outages.contains("notifier") {
            self.exercise(7, "recorded while nobody can be told");
        }
        let rollout = self.rollout(flow).expect("an entry belongs to a rollout");
        self.law_of_the_overview(&entry, &rollout);
        self.law_of_outcomes(flow, &rollout);
        let policy = &rollout.plan.policy;
        let first = policy.step_after(Weight::ZERO);
        let rises = match &entry.event {
            Event::StepStarted { weight, .. } => Some(*weight) != first,
            // A person's word, where stable is the broken one.
            Event::PromotionStarted { .. } if matches!(entry.by, Actor::Person(_)) => false,
            Event::PromotionStarted { .. } => first.is_some() && !rollout.goes_at_once() && !to_canary,
            Event::BakeFinished => true,
            _ => false,
        };
        let blind = self.traffic.silent || self.outages.contains("analytics");
        // Without more evidence by a person's word, but not blindly.
        let hastened = self.told_to_rise(flow);
        let seen = if hastened.is_some() { u32::MAX } else { entry.evidence.map_or(0, |e| e.canary.calls) };
        // A probe ends on a few calls that show nothing gross.
        let probing = policy.step_after(Weight::ZERO).is_some_and(|first| first == rollout.in_force.weight && first != policy.steps[0]);
        let needed = if probing { 8 } else { policy.min_canary_calls };
        if rises {
            self.exercise(2, "rise");
        }
        if rises && (blind || seen < needed) {
            self.violated(2, format!("{flow}: {} on {seen} canary calls, analytics down: {blind}", entry.event.name()));
        }
        let ours = !matches!(entry.by, Actor::Person(_) | Actor::BreakGlass);
        let writes = entry.event.needs_containment() || matches!(entry.event, Event::StepStarted { .. } | Event::PromotionStarted { .. });
        if policy.mode == Mode::Observe
            && ours
            && writes
            && !matches!(entry.event, Event::RollbackStarted { cause: Cause::Requested { .. } })
        {
            self.violated(4, format!("{flow}: {} by {} in a rollout that is only observed", entry.event.name(), entry.by));
        }
        if policy.mode == Mode::Observe && ours {
            self.exercise(4, "observed");
        }
        let offered = self.offered(flow);
        if matches!((&entry.event, &entry.by), (Event::Aborted { .. }, Actor::Person(_))) && rollout.has_stepped && offered > Weight::ZERO {
            self.violated(5, format!("{flow}: {} is told that it was aborted, and {offered} % of calls go to the canary", entry.by));
        }
        let is_blamed = matches!(&entry.event, Event::RollbackStarted { cause: Cause::Breach(_) });
        if is_blamed {
            self.exercise(2, "blame");
        }
        if is_blamed && self.runs_healthy(&rollout) {
            self.violated(2, format!("{flow}: {} while what the canary flow runs is healthy", entry.why));
        }
        self.law_of_steps(flow, &rollout, hastened);
    }

    /// The weight that a person told the rollout to rise to, if nothing came between that and the latest entry.
    fn told_to_rise(&self, flow: &FlowName) -> Option<Weight> {
        let (last, before) = self.books[flow].entries.split_last()?;
        match &before.iter().rev().find(|s| !matches!(s.entry.event, Event::QuarantineCleared { .. }))?.entry {
            Entry { event: Event::Hastened { to, .. }, rollout, .. } if *rollout == last.entry.rollout => Some(*to),
            _ => None,
        }
    }

    /// Law 4: a raise by Serin leads to the next step of the plan, or exactly to where a person told it to rise.
    fn law_of_steps(&mut self, flow: &FlowName, rollout: &Rollout, hastened: Option<Weight>) {
        let entry = self.books[flow].entries.last().expect("one was just recorded").entry.clone();
        let to = match &entry.event {
            Event::StepStarted { weight, .. } => *weight,
            Event::PromotionStarted { .. } => Weight::FULL,
            _ => return,
        };
        if matches!(entry.by, Actor::Person(_)) || rollout.goes_at_once() {
            return;
        }
        let next = rollout.plan.policy.step_after(rollout.in_force.weight).unwrap_or(Weight::FULL);
        if hastened.is_some() {
            self.exercise(4, "hastened");
        }
        if to != hastened.unwrap_or(next) {
            let asked = hastened.map_or("nobody asked for more".to_owned(), |to| format!("somebody asked for {to} %"));
            self.violated(4, format!("{flow}: on to {to} %, where {next} % is the plan's next step and {asked}"));
        }
    }

    /// What an overview shows of a flow is what its entries say.
    fn law_of_the_overview(&mut self, entry: &Entry, rollout: &Rollout) {
        let Some(shown) = self.books[&entry.flow].active.clone() else { return };
        if matches!(entry.event, Event::QuarantineCleared { .. }) && rollout.phase.is_finished() {
            return; // It is of the flow, and brings no ended rollout back.
        }
        let why: String = entry.why.chars().take(LONGEST_WHY).collect();
        let recorded = (&rollout.id, rollout.phase.name(), rollout.phase_since, rollout.settled_weight(), entry.revision, &why);
        if (&shown.rollout, shown.phase.as_str(), shown.since, shown.weight, shown.revision, &shown.why) != recorded {
            self.violated(3, format!("{}: the overview says {shown:?}, the ledger {recorded:?}", entry.flow));
        }
    }

    /// Laws 5 and 8, as far as an entry tells: from where calls were taken away, and which phase was left because its time was over.
    fn law_of_ends(&mut self, flow: &FlowName) {
        let (last, before) = self.books[flow].entries.split_last().expect("one was just recorded");
        let of_it: Vec<_> = before.iter().rev().take_while(|s| s.entry.rollout == last.entry.rollout).collect();
        let Ok(rollout) = Rollout::replay(of_it.into_iter().rev().map(|s| &s.entry)) else { return };
        let (contains, at) = (last.entry.event.needs_containment(), last.entry.at);
        let by_itself = !matches!(last.entry.by, Actor::Person(_) | Actor::BreakGlass);
        if contains {
            self.exercise(5, rollout.phase.name());
        }
        let left = self.rollout(flow).is_some_and(|now| now.phase.name() != rollout.phase.name());
        if left && by_itself && rollout.phase.deadline().is_some_and(|limit| at.duration_since(rollout.phase_since) > limit) {
            self.exercise(8, rollout.phase.name());
        }
    }

    /// Law 9: in a maintenance window nothing is rolled back by Serin, and in no restriction it raises anything.
    fn law_of_restrictions(&mut self, flow: &FlowName) {
        let last = self.books[flow].entries.last().expect("one was just recorded").entry.clone();
        let restricted = in_force(&self.restrictions, flow, last.at);
        if restricted.is_empty() || matches!(last.by, Actor::Person(_) | Actor::BreakGlass) {
            return;
        }
        self.exercise(9, "recorded in a restriction");
        // Where restrictions cannot be read, everything that fails is taken back.
        let readable = self.faults.is_empty() && self.chaos.is_none();
        let blames = readable && matches!(last.event, Event::RollbackStarted { cause: Cause::Breach(_) });
        // Where the version was published to everybody, the promotion only begins the watch.
        let splits = self.rollout(flow).is_some_and(|rollout| !rollout.is_unsplit());
        let rises = splits && matches!(last.event, Event::StepStarted { .. } | Event::PromotionStarted { .. });
        if rises || (blames && maintenance(&restricted).is_some()) {
            self.violated(9, format!("{flow}: {} by {} within {restricted:?}", last.event.name(), last.by));
        }
        if matches!(last.event, Event::RollbackWithheld { .. }) {
            self.exercise(9, "rollback withheld");
        }
    }

    /// Laws 9 and 10: a rollout begins when the one before is over and its lockout has passed, and no call goes to what was blamed before.
    fn law_of_beginnings(&mut self, flow: &FlowName) {
        let (last, before) = self.books[flow].entries.split_last().expect("one was just recorded");
        let (last, configuration) = (last.entry.clone(), self.rollout(flow).and_then(|r| r.snapshot).map(|s| s.canary_hash));
        let blamed = configuration.is_some_and(|c| self.quarantine.contains_key(&(flow.clone(), c)));
        let rolled_back = before.iter().rev().find(|s| matches!(s.entry.event, Event::RollbackStarted { .. })).map(|s| s.entry.recorded_at);
        let previous: Vec<_> =
            before.iter().rev().take_while(|s| before.last().is_some_and(|b| b.entry.rollout == s.entry.rollout)).collect();
        let unfinished = Rollout::replay(previous.into_iter().rev().map(|s| &s.entry)).is_ok_and(|r| !r.phase.is_finished());
        match last.event {
            Event::Requested { .. } if unfinished => {
                self.violated(9, format!("{flow}: {} began before the one before was over", last.rollout))
            }
            Event::Requested { .. } if rolled_back.is_some_and(|at| last.recorded_at < at + LOCKOUT) => {
                self.violated(9, format!("{flow}: {} began within the lockout", last.rollout));
            }
            Event::StepStarted { .. } | Event::PromotionStarted { .. } if blamed => {
                self.violated(10, format!("{flow}: {} by {} gives calls to what was rolled back before", last.event.name(), last.by));
            }
            _ => {}
        }
    }

    /// What is recorded as done is so in Genesys Cloud, whatever version number it has there.
    fn law_of_outcomes(&mut self, flow: &FlowName, rollout: &Rollout) {
        let last = self.books[flow].entries.last().expect("one was just recorded").entry.event.clone();
        let (plan, Some(snapshot)) = (&rollout.plan, &rollout.snapshot) else { return };
        if self.traffic.elsewhere || plan.strategy == Strategy::InFlow {
            return;
        }
        let said = match last {
            Event::Prepared { .. } => (plan.canary.flow_id.clone(), &snapshot.canary_hash),
            Event::StablePublished { .. } => (plan.stable_flow().to_owned(), &snapshot.canary_hash),
            Event::RollbackFinished { .. } => (plan.canary.flow_id.clone(), &snapshot.rollback_hash),
            _ => return,
        };
        let (genesys_flow, wanted) = said;
        let Some(runs) = self.flows.get(&genesys_flow).map(|f| f.configuration()) else { return };
        if runs != wanted {
            let what = format!("{flow}: {} is recorded, and flow {genesys_flow} runs {runs}, not {wanted}", last.name());
            self.violated(3, what);
        }
    }

    /// Whether the canary flow runs what fails hardly ever, by even counts, as far as this world knows.
    fn runs_healthy(&self, rollout: &Rollout) -> bool {
        let Traffic { elsewhere, noise, behavior, .. } = &self.traffic;
        // A branch that does not do its work has failed, hang-ups and all; with all calls on it there is none to compare it with.
        let alone = rollout.plan.strategy == Strategy::InFlow && rollout.weights.iter().any(|before| before.weight == Weight::FULL);
        if *elsewhere || noise.is_some() || alone {
            return false;
        }
        let healthy = |configuration: &str| behavior[configuration].error < 0.05;
        // Somebody may have published over it since it was measured.
        let rolled_out = rollout.snapshot.as_ref().is_none_or(|s| healthy(&s.canary_hash));
        rolled_out && healthy(self.flows[&rollout.plan.canary.flow_id].configuration())
    }

    /// Law 9: who restores has the one right to.
    pub(super) fn law_of_single_flight(&mut self, genesys_flow: &str) {
        let name = genesys_flow.trim_end_matches("-canary").trim_end_matches("-stable").to_owned();
        let Ok(flow) = name.parse::<FlowName>() else { return };
        let restores = self.rollout(&flow).is_some_and(|r| r.phase == Phase::RollingBack);
        if restores {
            self.exercise(9, "restored");
        }
        let wall = self.wall();
        let has_right = self.restoration.as_ref().is_some_and(|(holder, until)| *holder == flow && *until > wall);
        if restores && !has_right {
            self.violated(9, format!("{flow}: restored without the right to"));
        }
        self.law_of_empty_flows(&flow, genesys_flow);
    }

    /// Law 11: nothing is published into a flow that a row of ours sends all calls to, but where callers get a version by its publication.
    fn law_of_empty_flows(&mut self, flow: &FlowName, genesys_flow: &str) {
        let Some(rollout) = self.rollout(flow).filter(|r| r.plan.pointer.is_some()) else { return };
        self.exercise(11, "published where a row may send calls");
        let sent_there = self.pointed_weight(flow) == Weight::FULL && !self.is_taken_over(flow);
        if sent_there && rollout.plan.canary.flow_id == genesys_flow {
            self.violated(11, format!("{flow}: published into {genesys_flow}, where the row sends all calls, in {}", rollout.phase));
        }
    }

    /// Law 11: a file is published only into a flow that no caller reaches.
    pub(super) fn law_of_deployment(&mut self, genesys_flow: &str) {
        let Ok(flow) = genesys_flow.trim_end_matches("-canary").parse::<FlowName>() else { return };
        self.exercise(11, "deployed");
        let weight = self.projections.get(&flow).map_or(Weight::ZERO, |p| p.seen.weight());
        if weight.max(self.offered(&flow)).max(self.pointed_weight(&flow)) > Weight::ZERO {
            self.violated(11, format!("{flow}: a file was published into {genesys_flow}, which callers reach"));
        }
    }

    /// Whether another installation writes the row.
    fn is_taken_over(&self, flow: &FlowName) -> bool {
        self.rows.get(flow).is_some_and(|row| !["", "serin/test"].contains(&row.owner.as_str()))
    }

    /// The weight that callers get and Serin answers for; `None` where it is somebody else's to say.
    pub fn answered_for(&self, flow: &FlowName, rollout: &Rollout) -> Option<Weight> {
        if rollout.is_observed() && !rollout.is_contained() {
            return None; // The percentage is a person's, and stays so.
        }
        if rollout.plan.pointer.is_none() {
            return Some(self.offered(flow));
        }
        let follows = rollout.applied.map(|applied| applied.version);
        let is_ours = |row: &Pointer| row.owner == "serin/test" && follows == Some(row.revision);
        // Before its first call, and once it was promoted, a rollout leaves a person's row alone.
        let left_alone = match rollout.phase {
            Phase::Promoted => !self.rows.get(flow).is_some_and(is_ours),
            _ => !rollout.has_stepped,
        };
        (!left_alone && !self.is_taken_over(flow)).then(|| self.pointed_weight(flow))
    }

    /// What holds whenever ticks have been served undisturbed for a while.
    pub fn check_at_rest(&mut self) {
        for flow in self.books.keys().cloned().collect::<Vec<_>>() {
            self.check_chain(&flow);
            let Some(rollout) = self.rollout(&flow) else { continue };
            let Some(offered) = self.answered_for(&flow, &rollout) else { continue };
            let writer: Option<Writer> = self.last_writer(&flow).filter(|_| rollout.plan.pointer.is_none());
            if offered > rollout.desired_weight() {
                self.violated(4, format!("{flow}: {offered} % at rest in {}, last written by {writer:?}", rollout.phase));
            }
            self.law_of_deadlines(&flow, &rollout);
            let hand = self.projections.get(&flow).and_then(|p| p.hand);
            if hand.is_some_and(|hand| hand < rollout.plan.policy.steps.last().copied().unwrap_or(Weight::FULL)) {
                self.exercise(4, "at rest under a hand");
            }
            if self.outages.contains("notifier") {
                self.exercise(7, "at rest while nobody can be told");
            }
            if let Some(hand) = hand.filter(|hand| offered > *hand && !rollout.phase.is_terminal()) {
                self.violated(4, format!("{flow}: {offered} % at rest over a person's hand, which left {hand} %"));
            }
        }
    }

    /// Law 8: at rest no phase is older than it may get, a waiting for somebody's lock aside.
    fn law_of_deadlines(&mut self, flow: &FlowName, rollout: &Rollout) {
        let limit = match &rollout.phase {
            Phase::Paused { .. } | Phase::AwaitingApproval { .. } => Some(rollout.plan.policy.pause_expiry.duration()),
            phase => phase.deadline(),
        };
        let Some(limit) = limit else { return };
        self.exercise(8, "at rest within a deadline");
        let last = self.books[flow].entries.last().expect("a rollout has entries").entry.clone();
        // The clock that it runs by is as far from ours as when it recorded last.
        let now = self.wall() - last.recorded_at.duration_since(last.at);
        let since = rollout.restoration.next_at.map_or(rollout.phase_since, |at| at.max(rollout.phase_since));
        if now.duration_since(since) > limit + SignedDuration::from_mins(3) {
            self.violated(8, format!("{flow}: in {} since {}, {limit:#} is the limit", rollout.phase, rollout.phase_since));
        }
    }

    /// Law 3: the chain verifies; law 10: what was rolled back is quarantined; law 11: answers follow the weight.
    pub fn check_chain(&mut self, flow: &FlowName) {
        self.law_of_containment(flow);
        let book = self.books[flow].clone();
        self.exercise(3, "chain verified");
        if let Err(broken) = verify(&book.entries, 0, Hash::genesis()) {
            self.violated(3, format!("{flow}: {broken}"));
        }
        let (mut configuration, mut blamed) = (None, BTreeSet::new());
        for stored in &book.entries {
            match &stored.entry.event {
                Event::SnapshotTaken { snapshot } => configuration = Some(snapshot.canary_hash.clone()),
                Event::Requested { .. } => configuration = None,
                // A containment that was found without its reason blames nobody.
                Event::RollbackStarted { cause } if !matches!(cause, Cause::FoundContained | Cause::Unproven { .. }) => {
                    self.exercise(10, "rolled back");
                    blamed.insert(configuration.clone());
                }
                Event::QuarantineCleared { configuration, .. } => {
                    self.exercise(10, "cleared");
                    blamed.remove(&Some(configuration.clone()));
                }
                _ => {}
            }
        }
        let kept = self.quarantine.keys().filter(|(of, _)| of == flow).map(|(_, hash)| Some(hash.clone()));
        let kept: BTreeSet<Option<String>> = kept.collect();
        if kept != blamed {
            self.violated(10, format!("{flow}: {blamed:?} were rolled back and not cleared since, and {kept:?} are quarantined"));
        }
        for call in 0..8 {
            let answer = self.answer(flow, &format!("conversation-{call}"));
            if answer.fallback.is_some() {
                self.exercise(11, "fallback");
            }
            let canary = answer.cohort == serin_core::cohort::Cohort::Canary;
            if canary
                && (answer.fallback.is_some()
                    || answer.weight == Weight::ZERO
                    || self.held.contains(&(flow.clone(), answer.rollout.clone())))
            {
                self.violated(11, format!("{flow}: {answer:?}"));
            }
        }
    }

    /// Law 6: every notice that was recorded arrived.
    pub fn check_told(&mut self) {
        *self.exercised.entry((6, "recorded")).or_default() += self.recorded_notices.len() as u64;
        let missing: Vec<String> =
            self.recorded_notices.iter().filter(|id| !self.told.iter().any(|notice| notice.id == **id)).cloned().collect();
        if !missing.is_empty() {
            self.violated(6, format!("never told: {}", missing.join(", ")));
        }
    }
}
