//! One attempt to move calls from stable to canary: its plan, and its state as the replay of its ledger entries.

use crate::analysis::Breach;
use crate::cohort::{Labels, Split, SplitKey, Stickiness};
use crate::ledger::Entry;
use crate::measurement::{Counts, InForce};
use crate::phase::{Advice, Detour, Event, IllegalTransition, Phase};
use crate::policy::{Mode, Policy};
use crate::refusal::{self, Refusal};
use crate::weight::Weight;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Name of a flow in Serin: `[A-Za-z0-9_-]{1,64}`, part of parameter names and keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlowName(String);

impl FlowName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text can name a flow.
    pub fn accepts(text: &str) -> bool {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }
}

impl TryFrom<String> for FlowName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if FlowName::accepts(&text) {
            return Ok(FlowName(text));
        }
        let shown: String = text.chars().take(80).collect();
        Err(format!("flow `{shown}` is not accepted: 1 to 64 letters, digits, `_` or `-` are"))
    }
}

impl From<FlowName> for String {
    fn from(flow: FlowName) -> String {
        flow.0
    }
}

impl std::str::FromStr for FlowName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        FlowName::try_from(text.to_owned())
    }
}

impl fmt::Display for FlowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What Serin is asked to roll out: a version of a flow, how calls come to it, and how careful to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The flow's name in Serin: 1 to 64 letters, digits, `_` or `-`. It names the flow in every command, alert and parameter.
    pub flow: FlowName,
    /// How calls come to the change. Decides which of the other settings are needed.
    #[serde(default)]
    pub strategy: Strategy,
    /// The flow that callers have now. Needed by strategies traffic-cop and pointer; left out where one flow gets its next version
    /// (in-flow, publish-watch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<StableSlot>,
    /// The flow that gets the change, and the version to roll out.
    pub canary: CanarySlot,
    /// What Architect flows call the two sides: a traffic cop, or a flow that branches inside, compares its answer with these.
    #[serde(default = "default_labels")]
    pub labels: Labels,
    /// What keeps a caller on one side during a rollout.
    #[serde(default)]
    pub stickiness: Stickiness,
    /// The data table whose row the traffic cop reads. Needed by strategy pointer, and only by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<PointerTable>,
    /// The flow outcomes that tell the two branches apart. Needed by strategy in-flow, and only by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Outcomes>,
    /// Where callers are once the version is promoted.
    #[serde(default, skip_serializing_if = "Finalize::is_copy")]
    pub finalize: Finalize,
    /// A test call that must have ended well in the canary flow before any caller gets there. For strategies traffic-cop and pointer, in
    /// mode act or advise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoke: Option<Smoke>,
    /// Data actions that the version needs. Each is asked once, and must answer, before anything is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_actions: Vec<ActionTest>,
    /// Whether Genesys Cloud is asked to validate the version before anything is changed. The check is a preview of theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validate: bool,
    /// What a rollback may do besides taking the calls back and publishing a known-good version.
    #[serde(default, skip_serializing_if = "WayBack::is_plain")]
    pub rollback: WayBack,
    /// How careful to be: mode, steps, times, and the rule that compares the two sides. Everything has a default.
    #[serde(default)]
    pub policy: Policy,
}

/// Further ways back, all optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WayBack {
    /// Days for which a version that proved healthy counts as known-good. Without it: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_good_days: Option<u16>,
    /// Id of the IVR configuration whose open hours are led to the stable flow should the percentage not let itself be written for 30
    /// seconds. For strategies traffic-cop and pointer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ivr: Option<String>,
    /// Id of an emergency group that is armed: its emergency is declared if nothing else takes the calls away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency_group: Option<String>,
}

impl WayBack {
    fn is_plain(&self) -> bool {
        *self == WayBack::default()
    }
}

/// How calls come to the change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// A thin flow asks, call by call, which of two flows the call goes to.
    #[default]
    TrafficCop,
    /// A thin flow reads a row of a data table, which sends all calls to one of two flows: Architect has no random function. The canary
    /// is compared with what stable did in the two hours before.
    Pointer,
    /// One flow asks, and branches inside. Each branch has a flow outcome, which tells how often it did its work and nothing else, so the
    /// rule may look at `error` and `containment` only.
    InFlow,
    /// The version is published into the flow that all callers have, and watched. Nothing splits the calls: it is compared with what the
    /// version before did, and the way back is to publish that one again.
    PublishWatch,
}

impl Strategy {
    /// The word in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::TrafficCop => "traffic-cop",
            Strategy::Pointer => "pointer",
            Strategy::InFlow => "in-flow",
            Strategy::PublishWatch => "publish-watch",
        }
    }
}

/// Where callers are once it is promoted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Finalize {
    /// The stable flow gets the promoted version, and then the calls.
    #[default]
    Copy,
    /// The stable flow gets the promoted version, and the calls stay on the canary flow until the next rollout begins.
    Swap,
}

impl Finalize {
    fn is_copy(&self) -> bool {
        *self == Finalize::Copy
    }
}

/// The data table that a traffic cop reads: the row whose key is the flow's name in Serin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PointerTable {
    /// Id of the data table in Genesys Cloud. The row's key is the flow's name in Serin.
    pub table: String,
}

/// A number that only testers dial, and that leads into the canary flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Smoke {
    /// The number as it is dialled, in quotes: `"+15550199"`.
    pub dnis: String,
}

/// A data action that the flow needs, and an input that it can be asked with without harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActionTest {
    /// Id of the data action in Genesys Cloud.
    pub id: String,
    /// The input it is asked with; must do no harm.
    #[serde(default)]
    pub input: serde_json::Map<String, serde_json::Value>,
}

/// The flow that callers have now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StableSlot {
    /// Id of the flow in Genesys Cloud.
    pub flow_id: String,
}

/// The flow that gets the change, and the version to roll out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CanarySlot {
    /// Id of the flow in Genesys Cloud. With strategies in-flow and publish-watch it is the flow that all callers have.
    pub flow_id: String,
    /// Version to roll out, in quotes: `"15.0"`. It must be checked in before the rollout starts; Serin publishes it.
    pub version: String,
}

/// The flow outcome of each branch of a flow that branches inside: always the same two, since an organization has few.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Outcomes {
    /// Id of the outcome that the old branch begins and ends.
    pub stable: String,
    /// Id of the outcome that the new branch begins and ends.
    pub canary: String,
}

fn default_labels() -> Labels {
    Labels { stable: "v1".into(), canary: "v2".into() }
}

impl Plan {
    /// The flow that callers have before and after the rollout.
    pub fn stable_flow(&self) -> &str {
        self.stable.as_ref().map_or(&self.canary.flow_id, |stable| &stable.flow_id)
    }

    /// What types alone cannot refuse; the first of it.
    pub fn check(&self) -> Result<(), String> {
        refusal::first(self.refusals())
    }

    /// Everything that types alone cannot refuse.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut refused = self.misnamed();
        self.refuse_strategy(&mut refused);
        let mut refuse = |at: &str, why: String| refused.push(Refusal::new(at, why));
        if self.stable.as_ref().is_some_and(|stable| stable.flow_id == self.canary.flow_id) {
            let id = &self.canary.flow_id;
            refuse("canary.flow_id", format!("`{id}` is not accepted: it is the stable flow's; the two slots are two flows"));
        }
        if self.labels.stable.eq_ignore_ascii_case(&self.labels.canary) {
            let label = &self.labels.canary;
            let why = "it is the stable side's label too, and flows, which do not tell upper from lower case, branch on it";
            refuse("labels.canary", format!("`{label}` is not accepted: {why}"));
        }
        if let Some(Smoke { dnis }) = &self.smoke {
            let plain = dnis.strip_prefix('+').unwrap_or(dnis).bytes().all(|b| b.is_ascii_digit());
            if !plain || !(2..=20).contains(&dnis.len()) {
                let shown: String = dnis.chars().take(40).collect();
                refuse("smoke.dnis", format!("`{shown}` is not accepted: a number as it is dialled is, such as +15550199"));
            }
        }
        if self.rollback.known_good_days == Some(0) {
            refuse("rollback.known_good_days", "0 is not accepted: 1 or more is, or none for no limit".to_owned());
        }
        refused.extend(self.policy.refusals().into_iter().map(|refusal| refusal.within("policy")));
        refused
    }

    /// Ids, versions and labels that cannot be one.
    fn misnamed(&self) -> Vec<Refusal> {
        let mut named = vec![
            ("canary.flow_id".to_owned(), &self.canary.flow_id),
            ("canary.version".to_owned(), &self.canary.version),
            ("labels.stable".to_owned(), &self.labels.stable),
            ("labels.canary".to_owned(), &self.labels.canary),
        ];
        named.extend(self.stable.iter().map(|s| ("stable.flow_id".to_owned(), &s.flow_id)));
        named.extend(self.pointer.iter().map(|p| ("pointer.table".to_owned(), &p.table)));
        if let Some(Outcomes { stable, canary }) = &self.outcomes {
            named.extend([("outcomes.stable".to_owned(), stable), ("outcomes.canary".to_owned(), canary)]);
        }
        named.extend(self.data_actions.iter().enumerate().map(|(at, action)| (format!("data_actions[{at}].id"), &action.id)));
        named.extend(self.rollback.ivr.iter().map(|id| ("rollback.ivr".to_owned(), id)));
        named.extend(self.rollback.emergency_group.iter().map(|id| ("rollback.emergency_group".to_owned(), id)));
        let plain = |value: &str| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        named.retain(|(_, value)| value.is_empty() || value.len() > 64 || !plain(value));
        let shown = |value: &str| value.chars().take(80).collect::<String>();
        let why = |value: &str| format!("`{}` is not accepted: 1 to 64 letters, digits, `.`, `_` or `-` are", shown(value));
        named.into_iter().map(|(at, value)| Refusal::new(at, why(value))).collect()
    }

    /// What the strategy needs, and what it has no use for.
    fn refuse_strategy(&self, refused: &mut Vec<Refusal>) {
        let mut refuse = |at: &str, why: String| refused.push(Refusal::new(at, why));
        let name = self.strategy.name();
        let (two_flows, at_once) = match self.strategy {
            Strategy::TrafficCop => (true, false),
            Strategy::Pointer => (true, true),
            Strategy::InFlow => (false, false),
            Strategy::PublishWatch => (false, true),
        };
        match (two_flows, &self.stable) {
            (true, None) => refuse("stable.flow_id", format!("is missing: strategy {name} needs the flow that callers have now")),
            (false, Some(_)) => {
                refuse("stable", format!("is not accepted with strategy {name}: the canary's flow is the one that callers have"));
            }
            _ => {}
        }
        let mode = self.policy.mode.name();
        if at_once && self.policy.mode != Mode::Act {
            refuse("policy.mode", format!("`{mode}` is not accepted with strategy {name}: there is no step to ask for; `act` is"));
        }
        for (field, given, of) in [
            ("pointer", self.pointer.is_some(), Strategy::Pointer),
            ("outcomes", self.outcomes.is_some(), Strategy::InFlow),
            ("finalize", self.finalize == Finalize::Swap, Strategy::Pointer),
        ] {
            if given && self.strategy != of {
                let what = if field == "finalize" { "`swap` " } else { "" };
                refuse(field, format!("{what}is not accepted with strategy {name}: it belongs to strategy {}", of.name()));
            }
        }
        if self.rollback.ivr.is_some() && !two_flows {
            refuse(
                "rollback.ivr",
                format!("is not accepted with strategy {name}: there is no stable flow beside the canary's to lead it to"),
            );
        }
        if self.smoke.is_some() && (!two_flows || self.policy.mode == Mode::Observe) {
            refuse(
                "smoke",
                format!(
                    "is not accepted with strategy {name} in mode {mode}: a test call proves something only in a flow that Serin has published \
                     into and no caller reaches yet"
                ),
            );
        }
        if self.strategy == Strategy::Pointer && self.pointer.is_none() {
            refuse("pointer.table", "is missing: strategy pointer needs the id of the data table that the traffic cop reads".to_owned());
        }
        if self.strategy != Strategy::InFlow {
            return;
        }
        match &self.outcomes {
            None => refuse("outcomes", "are missing: strategy in-flow needs the id of the flow outcome of each branch".to_owned()),
            Some(Outcomes { stable, canary }) if stable == canary => {
                refuse("outcomes.canary", format!("`{canary}` is not accepted: it is the old branch's outcome too"));
            }
            Some(_) => {}
        }
        for (at, metric) in self.policy.needs_besides(&["error", "containment"]) {
            refuse(
                &format!("policy.{at}"),
                format!(
                    "needs {metric}, which is not accepted with strategy in-flow: a flow outcome tells whether a branch did its work (`error` \
                     counts those that did not), and nothing else. Use rule sequential with metrics [{{name: error}}], or rule consecutive"
                ),
            );
        }
    }
}

/// What stood in Genesys before anything was changed; the way back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Published version of the stable flow.
    pub stable_version: String,
    /// Its configuration hash, name and ids left out.
    pub stable_hash: String,
    /// Version the canary flow goes back to.
    pub rollback_target: String,
    /// Its configuration hash.
    pub rollback_hash: String,
    /// Configuration hash of the version to roll out.
    pub canary_hash: String,
    /// Where the stable version is kept outside of Genesys Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<String>,
    /// The flow that the open hours of `rollback.ivr` led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ivr_flow: Option<String>,
    /// The row of the data table: its flow and weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<(String, Weight)>,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub enum Actor {
    /// One of Serin's functions.
    Serin(String),
    /// A person or pipeline, by identity.
    Person(String),
    /// Somebody who changed the parameter by hand; Parameter Store's history names the user.
    BreakGlass,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Serin(function) => f.write_str(function),
            Actor::Person(name) => f.write_str(name),
            Actor::BreakGlass => f.write_str("somebody, by hand in Parameter Store"),
        }
    }
}

/// Why calls were taken away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cause {
    /// The verdict failed.
    Breach(Breach),
    /// A person or an alarm asked for it.
    Requested {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Nothing is proven against it, and nobody could watch it any longer.
    Unproven {
        /// Why.
        reason: String,
    },
    /// The halt marker named this rollout before the ledger did: a run stopped between containing and recording.
    FoundContained,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Breach(breach) => breach.fmt(f),
            Cause::Unproven { reason } => f.write_str(reason),
            Cause::Requested { by, reason } => write!(f, "asked for by {by}: {reason}"),
            Cause::FoundContained => {
                f.write_str("the halt marker already named this rollout: an earlier run contained it and stopped before recording why")
            }
        }
    }
}

/// A raise that was recorded but not yet seen in the parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRaise {
    /// Weight to reach.
    pub weight: Weight,
    /// Version of the parameter the intent was based on; ours will be the next one.
    pub base_version: i64,
    /// Whether a person asked for it.
    pub by_person: bool,
}

/// For how long a person's word is good: until the calls of a young step are fair takes ten minutes.
const HASTE_LASTS: SignedDuration = SignedDuration::from_mins(30);

/// A person's word that it may rise at the next tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hastened {
    /// To here.
    pub to: Weight,
    /// Who says so, and why.
    pub reason: String,
    /// When, on the clock the rollout runs by.
    pub since: Timestamp,
}

/// What our record says of the parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Its value.
    pub weight: Weight,
    /// Its version.
    pub version: i64,
}

/// The restoration so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restoration {
    /// Times a person's lock was met.
    pub lock_tries: u32,
    /// Not before.
    pub next_at: Option<Timestamp>,
    /// Whether a publish was intended, so that a running operation is ours.
    pub publishing: bool,
    /// What takes the calls around the canary, until a person takes it out.
    pub detour: Option<Detour>,
}

/// A rollout: the replay of its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Id, such as `r-20261121-1`.
    pub id: String,
    /// What was asked for.
    pub plan: Plan,
    /// Where it stands.
    pub phase: Phase,
    /// When the phase was entered.
    pub phase_since: Timestamp,
    /// What stood in Genesys before.
    pub snapshot: Option<Snapshot>,
    /// The canary version as Genesys names it once published.
    pub canary_version: Option<String>,
    /// The stable flow's version after finalizing.
    pub finalized_version: Option<String>,
    /// What our record says of the parameter.
    pub applied: Option<Applied>,
    /// A raise not yet seen there.
    pub pending: Option<PendingRaise>,
    /// The weight that callers get, and since when.
    pub in_force: InForce,
    /// Every weight that callers got, oldest first; empty before the first.
    pub weights: Vec<InForce>,
    /// Stable's calls at the last step, which stand in for stable at 100 %.
    pub baseline: Option<Counts>,
    /// The weight from which a person approved the next rise.
    pub approved: Option<Weight>,
    /// Whether a person lets it rise without more evidence. Whatever comes between ends it: a raise, a pause, a rollback that was withheld.
    pub hastened: Option<Hastened>,
    /// What was advised at the weight in force, where Serin only observes.
    pub advised: Option<Advice>,
    /// Whether a person sent all calls to the canary because stable is the broken one.
    pub stable_is_broken: bool,
    /// Whether a person was asked at this weight where callers are better off, since both cohorts fail.
    pub asked_to_judge: bool,
    /// The maintenance window in which a rollback was called for and not done, and whether its calls were paused on stable.
    pub withheld: Option<(String, bool)>,
    /// The way back so far.
    pub restoration: Restoration,
    /// A publish of `Preparing` or `Finalizing` was intended, so a running operation is ours.
    pub publishing: bool,
    /// Whether calls were ever offered to its canary.
    pub has_stepped: bool,
    /// Whether a publish into the stable flow was intended: a rollback must then put that flow back too.
    /// When, on the wall clock, for that publish may still be under way.
    pub stable_touched: Option<Timestamp>,
}

impl Rollout {
    /// Replays the entries of one rollout, oldest first.
    pub fn replay<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Rollout, IllegalTransition> {
        let mut rollout: Option<Rollout> = None;
        for entry in entries {
            rollout = Some(match rollout {
                None => Rollout::open(entry)?,
                Some(rollout) => rollout.after(entry)?,
            });
        }
        rollout.ok_or(IllegalTransition { phase: None, event: "nothing" })
    }

    fn open(entry: &Entry) -> Result<Rollout, IllegalTransition> {
        let Event::Requested { plan } = &entry.event else {
            return Err(IllegalTransition { phase: None, event: entry.event.name() });
        };
        Ok(Rollout {
            id: entry.rollout.clone(),
            plan: (**plan).clone(),
            phase: Phase::Preparing,
            phase_since: entry.at,
            snapshot: None,
            canary_version: None,
            finalized_version: None,
            applied: None,
            pending: None,
            in_force: InForce { weight: Weight::ZERO, since: entry.at },
            weights: Vec::new(),
            baseline: None,
            approved: None,
            hastened: None,
            advised: None,
            stable_is_broken: false,
            asked_to_judge: false,
            withheld: None,
            restoration: Restoration::default(),
            publishing: false,
            has_stepped: false,
            stable_touched: None,
        })
    }

    /// The rollout after one more entry.
    pub fn after(mut self, entry: &Entry) -> Result<Rollout, IllegalTransition> {
        let phase = self.phase.clone().after(&entry.event)?;
        if phase != self.phase {
            self.phase_since = entry.at;
            self.publishing = false;
            self.hastened = None;
        }
        self.phase = phase;
        match &entry.event {
            Event::SnapshotTaken { snapshot } => {
                self.snapshot = Some(snapshot.clone());
                self.publishing = true;
            }
            Event::Prepared { canary_version } => {
                self.canary_version = Some(canary_version.clone());
                self.publishing = false;
            }
            Event::StepStarted { weight, base_version } => {
                self.has_stepped = true;
                self.withheld = None;
                self.pending = Some(PendingRaise { weight: *weight, base_version: *base_version, by_person: false });
            }
            Event::PromotionStarted { base_version } => {
                self.has_stepped = true;
                self.withheld = None;
                self.baseline = entry.evidence.map(|e| e.stable).filter(|stable| stable.calls > 0);
                if self.is_unsplit() {
                    // Published, so every caller has it; there is no parameter to write.
                    self.put_in_force(Weight::FULL, entry.at);
                    return Ok(self);
                }
                self.stable_is_broken = matches!(entry.by, Actor::Person(_));
                let by_person = self.stable_is_broken;
                self.pending = Some(PendingRaise { weight: Weight::FULL, base_version: *base_version, by_person });
            }
            Event::Resumed { base_version } => {
                let weight = self.phase.weight();
                self.pending =
                    (weight > self.in_force.weight).then_some(PendingRaise { weight, base_version: *base_version, by_person: true });
            }
            Event::WeightApplied { weight, version } => {
                self.pending = None;
                self.applied = Some(Applied { weight: *weight, version: *version });
                self.put_in_force(*weight, entry.at);
            }
            Event::ObservationStarted { version } => self.applied = Some(Applied { weight: Weight::ZERO, version: *version }),
            Event::WeightSet { weight, version } => {
                if *weight == Weight::FULL {
                    self.baseline = entry.evidence.map(|e| e.stable).filter(|stable| stable.calls > 0);
                }
                self.applied = Some(Applied { weight: *weight, version: *version });
                self.put_in_force(*weight, entry.at);
            }
            Event::Advised { advice } => self.advised = Some(*advice),
            Event::Approved { .. } => self.approved = Some(self.phase.weight()),
            Event::Hastened { to, reason } => self.hastened = Some(Hastened { to: *to, reason: reason.clone(), since: entry.at }),
            Event::Paused { weight, version, .. } => {
                self.pending = None;
                if let Some(version) = version {
                    self.applied = Some(Applied { weight: *weight, version: *version });
                }
                if *weight != self.in_force.weight {
                    self.put_in_force(*weight, entry.at);
                }
            }
            Event::BothFailing { weight, .. } => {
                self.pending = None;
                if *weight != self.in_force.weight {
                    self.put_in_force(*weight, entry.at);
                }
                self.asked_to_judge = true;
            }
            Event::RollbackWithheld { restriction, contained, .. } => {
                self.withheld = Some((restriction.clone(), contained.is_some()));
                self.hastened = None;
                if let Some(version) = contained {
                    self.pending = None;
                    self.applied = Some(Applied { weight: Weight::ZERO, version: *version });
                    self.put_in_force(Weight::ZERO, entry.at);
                }
            }
            Event::LedAround { detour, .. } => self.restoration.detour = Some(detour.clone()),
            Event::Retargeted { version, hash, .. } => {
                if let Some(snapshot) = &mut self.snapshot {
                    (snapshot.rollback_target, snapshot.rollback_hash) = (version.clone(), hash.clone());
                }
            }
            Event::HumanNeeded { .. } => {
                // A raise on its way is not written any more: nobody watches.
                self.pending = None;
                self.phase = Phase::NeedsHuman { weight: self.in_force.weight };
            }
            Event::FinalizeStarted { .. } => {
                self.publishing = true;
                self.stable_touched = Some(entry.recorded_at);
            }
            Event::StablePublished { version } => {
                self.finalized_version = Some(version.clone());
                self.publishing = false;
            }
            Event::RestorationStarted { .. } => self.restoration.publishing = true,
            Event::RestorationDelayed { next_at, .. } => {
                self.restoration.lock_tries += 1;
                self.restoration.next_at = Some(*next_at);
            }
            _ => {}
        }
        if self.is_contained() {
            self.pending = None;
            self.in_force = InForce { weight: Weight::ZERO, since: entry.at };
        }
        Ok(self)
    }

    fn put_in_force(&mut self, weight: Weight, since: Timestamp) {
        self.in_force = InForce { weight, since };
        self.weights.push(self.in_force);
        self.stable_is_broken &= weight == Weight::FULL;
        (self.approved, self.hastened, self.advised, self.asked_to_judge) = (None, None, None, false);
    }

    /// A person's word to rise without more evidence, while it is good: what holds it for longer may be another trouble than they knew of.
    pub fn hastened_at(&self, now: Timestamp) -> Option<&Hastened> {
        self.hastened.as_ref().filter(|hastened| now.duration_since(hastened.since) <= HASTE_LASTS)
    }

    /// Whether all callers get the change by its publication.
    pub fn is_unsplit(&self) -> bool {
        self.plan.strategy == Strategy::PublishWatch
    }

    /// Whether all callers get the change at the same time: it is compared with what stable did before.
    pub fn goes_at_once(&self) -> bool {
        matches!(self.plan.strategy, Strategy::PublishWatch | Strategy::Pointer)
    }

    /// Whether a hand on what sends the calls changes anything: they are compared, or about to be promoted.
    pub fn awaits_verdict(&self) -> bool {
        self.phase.is_watched() || (self.phase == Phase::Finalizing && self.finalized_version.is_none())
    }

    /// Whether callers stay on the canary once it is promoted: by wish, or because there is one flow, whose old branch is gone only when its
    /// owner takes the gate out.
    pub fn stays_on_canary(&self) -> bool {
        self.plan.finalize == Finalize::Swap || self.plan.strategy == Strategy::InFlow
    }

    /// Whether a person sent all calls to the canary, or is about to, because stable is broken: then nothing goes back there by itself.
    pub fn is_left_to_person(&self) -> bool {
        let there = self.in_force.weight == Weight::FULL || self.pending.is_some_and(|pending| pending.weight == Weight::FULL);
        self.stable_is_broken && there
    }

    /// Whether Serin only says what it would do.
    pub fn is_observed(&self) -> bool {
        self.plan.policy.mode == Mode::Observe
    }

    /// The weight the parameter should hold. Finalizing keeps all calls on the canary until the stable flow runs the same version.
    pub fn desired_weight(&self) -> Weight {
        match self.phase {
            Phase::Promoted if self.stays_on_canary() => Weight::FULL,
            Phase::Finalizing if self.finalized_version.is_some() && !self.stays_on_canary() => Weight::ZERO,
            _ => self.phase.weight(),
        }
    }

    /// The weight that callers should have got by now.
    pub fn settled_weight(&self) -> Weight {
        self.in_force.weight.min(self.desired_weight())
    }

    /// Whether the halt marker must name this rollout. One that was aborted before its first step needs none, and must not take it
    /// from the rollout before, which the split may still name.
    pub fn is_contained(&self) -> bool {
        match self.phase {
            Phase::RollingBack | Phase::RolledBack | Phase::Contaminated => true,
            Phase::Aborted => self.has_stepped,
            Phase::NeedsHuman { weight } => weight == Weight::ZERO,
            _ => false,
        }
    }

    /// Whether its record leaves no call on the canary for good. `NeedsHuman` may still have all of them there.
    pub fn is_off_the_canary(&self) -> bool {
        self.is_contained() || (self.phase.is_terminal() && self.phase.weight() == Weight::ZERO)
    }

    /// The `rollout` parameter.
    pub fn split(&self, stage: &str) -> Split {
        Split {
            rollout: self.id.clone(),
            labels: self.plan.labels.clone(),
            stickiness: self.plan.stickiness,
            key: SplitKey::derive(stage, self.plan.flow.as_str(), &self.id),
        }
    }
}

/// Id of a rollout that begins on this day after so many earlier ones of that day: `r-20261121-1`.
pub fn rollout_id(now: Timestamp, previous: Option<&str>) -> String {
    let day = now.strftime("r-%Y%m%d-").to_string();
    let last = previous.and_then(|id| id.strip_prefix(&day)).and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    format!("{day}{}", last + 1)
}
