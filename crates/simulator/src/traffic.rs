//! Calls: who calls next, which flow takes each call, and what is reported of it.

use crate::callers::{Exit, arrivals, fate, rate, service};
use crate::chance::{Draws, number_of};
use crate::flow::Behavior;
use crate::organization::{CopReads, Organization};
use crate::reports::{Conversation, Kind, Report};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_core::cohort::{Caller, Cohort, Labels, Parameters, Router, Split};
use std::collections::{BTreeMap, HashMap};

/// The longest advance, in minutes.
const LONGEST: i64 = 24 * 60;
/// The most test calls of one order.
const MOST_TEST_CALLS: usize = 1000;

/// The next calls, and how many of them shall ask the deployed function.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    minutes: i64,
    ask: usize,
}

/// A call that is about to come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Call {
    pub(crate) at: Timestamp,
    pub(crate) flow: String,
    pub(crate) conversation_id: String,
}

/// Moves the clock.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Advance {
    minutes: i64,
    /// What the deployed function answered, by conversation.
    #[serde(default)]
    answers: HashMap<String, Cohort>,
    /// The parameters as they are, by slot.
    #[serde(default)]
    parameters: HashMap<String, Given>,
}

/// Test calls.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dial {
    dnis: String,
    #[serde(default = "one")]
    count: usize,
    /// The parameters as they are, by slot.
    #[serde(default)]
    parameters: HashMap<String, Given>,
}

fn one() -> usize {
    1
}

/// The parameters of one slot.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    percentage: Option<String>,
    revision: i64,
    rollout: Option<String>,
    halt: Option<String>,
    heartbeat: Option<String>,
    /// The wall clock that the heartbeat is read by; this process's if missing.
    wall: Option<Timestamp>,
}

/// What an advance did.
#[derive(Debug, Serialize)]
pub(crate) struct Advanced {
    now: Timestamp,
    calls: usize,
    canary: usize,
    asked: usize,
    disagreements: Vec<Disagreement>,
    /// Calls and canary calls by slot.
    flows: BTreeMap<String, Share>,
}

#[derive(Debug, Default, Serialize)]
struct Share {
    calls: usize,
    canary: usize,
}

/// An asked call that the function and the gate decided differently.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Disagreement {
    flow: String,
    conversation_id: String,
    answered: Cohort,
    decided: Cohort,
}

/// The calls that shall ask, evenly spread; the clock stays where it is.
pub(crate) fn next_calls(organization: &Organization, ask: &Ask) -> Result<Vec<Call>, String> {
    let calls = calls_until(organization, end(organization, ask.minutes)?);
    let asked = ask.ask.min(calls.len());
    Ok((0..asked).map(|i| calls[i * calls.len() / asked].clone()).collect())
}

/// Lets the calls of the next minutes come in, and time pass.
pub(crate) fn advance(organization: &mut Organization, order: &Advance) -> Result<Advanced, String> {
    let until = end(organization, order.minutes)?;
    let calls = calls_until(organization, until);
    let asking = Asking { answers: &order.answers, gates: gates(organization, &order.parameters)? };
    let asked = calls.iter().filter(|call| order.answers.contains_key(&call.conversation_id)).count();
    if asked < order.answers.len() {
        return Err(format!("answers: {} are for calls that do not come in these minutes", order.answers.len() - asked));
    }
    let mut flows: BTreeMap<_, Share> = organization.slots.iter().map(|slot| (slot.name.clone(), Share::default())).collect();
    let mut disagreements = Vec::new();
    for call in &calls {
        let Some(slot) = organization.slots.iter().position(|slot| slot.name == call.flow) else { continue };
        let dnis = organization.slots[slot].dnis.clone();
        let incoming = Incoming { at: call.at, conversation: &call.conversation_id, dnis: &dnis };
        let route = route(organization, &asking, &incoming);
        if let Some(share) = flows.get_mut(&call.flow) {
            share.calls += 1;
            share.canary += usize::from(route.as_ref().is_some_and(|route| route.served == Cohort::Canary));
        }
        let Some(route) = route else { continue };
        take(organization, &incoming, &route);
        if let Some(Decision { cohort: answered, decided, .. }) = route.asked.filter(|asked| asked.cohort != asked.decided) {
            let (flow, conversation_id) = (call.flow.clone(), call.conversation_id.clone());
            disagreements.push(Disagreement { flow, conversation_id, answered, decided });
        }
    }
    organization.now = until;
    organization.reports.receive(until.as_millisecond());
    let canary = flows.values().map(|share| share.canary).sum();
    Ok(Advanced { now: until, calls: calls.len(), canary, asked, disagreements, flows })
}

/// Places test calls now; they end when the clock moves. Answers their ids.
pub(crate) fn call(organization: &mut Organization, order: &Dial) -> Result<Vec<String>, String> {
    if !(1..=MOST_TEST_CALLS).contains(&order.count) {
        return Err(format!("count is from 1 to {MOST_TEST_CALLS}"));
    }
    let answers = HashMap::new();
    let asking = Asking { answers: &answers, gates: gates(organization, &order.parameters)? };
    let at = organization.now;
    (0..order.count)
        .map(|_| {
            let id = organization.mint("call");
            let incoming = Incoming { at, conversation: &id, dnis: &order.dnis };
            let route = route(organization, &asking, &incoming).ok_or_else(|| format!("dnis: nothing answers `{}`", order.dnis))?;
            take(organization, &incoming, &route);
            Ok(id)
        })
        .collect()
}

fn end(organization: &Organization, minutes: i64) -> Result<Timestamp, String> {
    if !(0..=LONGEST).contains(&minutes) {
        return Err(format!("minutes is from 0 to {LONGEST}"));
    }
    organization.now.checked_add(SignedDuration::from_mins(minutes)).map_err(|error| error.to_string())
}

/// Every call from now until `until`, in order.
fn calls_until(organization: &Organization, until: Timestamp) -> Vec<Call> {
    let settings = &organization.settings;
    let (from, to) = (organization.now.as_millisecond(), until.as_millisecond());
    let mut calls = Vec::new();
    for slot in &organization.slots {
        for minute in from.div_euclid(60_000)..=(to - 1).div_euclid(60_000) {
            let per_hour = rate(minute, settings.calls_per_hour, settings.by_hour);
            let within = arrivals(settings.seed, &slot.name, minute, per_hour).into_iter().filter(|call| (from..to).contains(&call.at));
            calls.extend(within.filter_map(|call| {
                let at = Timestamp::from_millisecond(call.at).ok()?;
                Some(Call { at, flow: slot.name.clone(), conversation_id: call.conversation })
            }));
        }
    }
    calls.sort();
    calls
}

/// The gate of one slot, the wall clock its heartbeat is read by, and the labels it answers.
struct Gate {
    router: Router,
    wall: Timestamp,
    labels: Option<Labels>,
}

fn gates<'a>(organization: &Organization, given: &'a HashMap<String, Given>) -> Result<HashMap<&'a str, Gate>, String> {
    given
        .iter()
        .map(|(slot, given)| {
            if !organization.slots.iter().any(|known| known.name == *slot) {
                return Err(format!("parameters: there is no slot `{slot}`"));
            }
            let parameters = Parameters {
                percentage: given.percentage.clone(),
                revision: given.revision,
                rollout: given.rollout.clone(),
                halt: given.halt.clone(),
                heartbeat: given.heartbeat.clone(),
            };
            let split = given.rollout.as_deref().and_then(|rollout| serde_json::from_str::<Split>(rollout).ok());
            let wall = given.wall.unwrap_or_else(Timestamp::now);
            Ok((slot.as_str(), Gate { router: Router::read(&parameters), wall, labels: split.map(|split| split.labels) }))
        })
        .collect()
}

/// What flows are answered when they ask about a call: what the deployed function said, or else what the gate decides.
struct Asking<'a> {
    answers: &'a HashMap<String, Cohort>,
    gates: HashMap<&'a str, Gate>,
}

/// An answer about one call.
struct Decision {
    cohort: Cohort,
    /// What the gate decides, whoever answered.
    decided: Cohort,
    label: Option<String>,
}

impl Asking<'_> {
    fn ask(&self, slot: &str, conversation: &str) -> Decision {
        let gate = self.gates.get(slot);
        let caller = Caller { conversation: Some(conversation), number: None };
        let decided = gate.map_or(Cohort::Stable, |gate| gate.router.assign(caller, gate.wall, 0).cohort);
        let cohort = self.answers.get(conversation).copied().unwrap_or(decided);
        let label = gate.and_then(|gate| gate.labels.as_ref()).map(|labels| match cohort {
            Cohort::Stable => labels.stable.clone(),
            Cohort::Canary => labels.canary.clone(),
        });
        Decision { cohort, decided, label }
    }
}

/// A call that rings.
struct Incoming<'a> {
    at: Timestamp,
    conversation: &'a str,
    dnis: &'a str,
}

/// Where a call goes.
struct Route {
    /// The slot whose call it is.
    slot: usize,
    /// The traffic cop and its version, if the call enters one.
    cop: Option<(usize, usize)>,
    flow: usize,
    version: usize,
    behavior: Behavior,
    /// The branch of a gated flow.
    branch: Option<Cohort>,
    /// The side that serves the caller.
    served: Cohort,
    /// What was answered about the call, if a flow asked.
    asked: Option<Decision>,
}

/// The way of a call: by the IVR configuration of its number into what is live now. `None` if nothing answers.
fn route(organization: &Organization, asking: &Asking<'_>, call: &Incoming<'_>) -> Option<Route> {
    let (ivr, entry) = organization.entrance(call.dnis)?;
    let slots = &organization.slots;
    // A flow asks for the slot it belongs to, whichever number the call came by.
    let owner = slots.iter().position(|slot| [slot.cop, slot.stable, slot.canary].contains(&entry));
    let index = owner.or_else(|| slots.iter().position(|slot| slot.name == ivr.slot))?;
    let slot = &slots[index];
    let entry_version = organization.flows[entry].live?;
    let mut asked = None;
    let mut ask = || asked.get_or_insert_with(|| asking.ask(&slot.name, call.conversation)).cohort;
    let flow = match (entry == slot.cop, slot.cop_reads) {
        (false, _) => entry,
        (true, CopReads::Lambda) if ask() == Cohort::Canary => slot.canary,
        (true, CopReads::Row) if points_to_canary(organization.rows.get(&slot.name)) => slot.canary,
        (true, _) => slot.stable,
    };
    let version = organization.flows[flow].live?;
    let content = &organization.flows[flow].versions[version].content;
    let branch = content.branch.map(|_| ask());
    let behavior = content.branch.filter(|_| branch == Some(Cohort::Canary)).or(content.behavior).unwrap_or_default();
    let served = branch.unwrap_or(if flow == slot.canary { Cohort::Canary } else { Cohort::Stable });
    let cop = (entry == slot.cop).then_some((entry, entry_version));
    Some(Route { slot: index, cop, flow, version, behavior, branch, served, asked })
}

/// One call on its way through its flows, perhaps on to an agent, and what is reported of it.
fn take(organization: &mut Organization, call: &Incoming<'_>, route: &Route) {
    let Route { slot, flow, version, branch, behavior, .. } = *route;
    let settings = &organization.settings;
    let fate = fate(settings.seed, call.conversation, &behavior);
    let [a, b, c, d] = fate.late.map(|late| ((settings.report_delay_s + late * settings.latency_s) * 1000.0) as i64);
    let luck = Draws::of(settings.seed, &[number_of("restated"), number_of(call.conversation)]).unit();
    let service = (fate.exit == Exit::Transfer).then(|| service(settings.seed, call.conversation, &behavior));
    let start = call.at.as_millisecond();
    let cop = route.cop.map(|(cop, version)| (cop, version, start + fate.cop_ms));
    let entered = cop.map_or(start, |(.., left)| left);
    let left = entered + fate.flow_ms;
    let reports = &mut organization.reports;
    let number = reports.number_for(call.dnis);
    if let Some((flow, version, out)) = cop {
        let entry = Report { at: start, arrives: start + a, flow, version, kind: Kind::Entry, number, ms: 0 };
        reports.send(entry);
        reports.send(Report { at: out, arrives: out + b, kind: Kind::Exit(Exit::ToFlow), ms: fate.cop_ms, ..entry });
    }
    let entry = Report { at: entered, arrives: entered + c, flow, version, kind: Kind::Entry, number, ms: 0 };
    let exit = Report { at: left, arrives: left + d, kind: Kind::Exit(fate.exit), ms: fate.flow_ms, ..entry };
    reports.send(entry);
    reports.send_exit(exit, luck);
    if let Some(branch) = branch {
        reports.send(Report { kind: Kind::Outcome { slot, branch, failed: fate.exit.is_failure() }, ..exit });
    }
    // The flow writes down what it was answered; a cop does not.
    let label = route.asked.as_ref().filter(|_| branch.is_some()).and_then(|asked| asked.label.clone());
    let (id, flow) = (call.conversation.to_owned(), (flow, version, left));
    reports.remember(Conversation { id, slot, number, start, cop, flow, exit: fate.exit, branch, label, service, late: d });
}

/// A cop that reads the row takes calls to canary at a weight of 100, and to stable whatever else the row says, if there is one.
fn points_to_canary(row: Option<&Value>) -> bool {
    row.is_some_and(|row| row["Traffic_Weight"].as_f64() == Some(100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::organization::{MAIN_IVR_CANARY, MAIN_IVR_DNIS, Settings};

    /// Whether a call to the main number enters a cop, and the flow that serves it.
    fn entered(organization: &Organization) -> Option<(bool, usize)> {
        let asking = Asking { answers: &HashMap::new(), gates: HashMap::new() };
        let call = Incoming { at: organization.now, conversation: "c", dnis: MAIN_IVR_DNIS };
        route(organization, &asking, &call).map(|route| (route.cop.is_some(), route.flow))
    }

    #[test]
    fn a_call_follows_the_ivr_configuration_and_the_emergency_flow_while_its_group_is_enabled() {
        let mut organization = Organization::new(Settings::default()).unwrap();
        let (stable, canary) = (organization.slots[0].stable, organization.slots[0].canary);
        assert_eq!(entered(&organization), Some((true, stable)));
        organization.ivrs[0].open_hours_flow = MAIN_IVR_CANARY.to_owned();
        assert_eq!(entered(&organization), Some((false, canary)));
        organization.emergency_groups[0].enabled = true;
        assert_eq!(entered(&organization), Some((false, stable)));
        organization.emergency_groups[0].flows.clear();
        assert_eq!(entered(&organization), Some((false, canary)));
        organization.ivrs[0].dnis.clear();
        assert_eq!(entered(&organization), None);
    }

    #[test]
    fn a_cop_hands_calls_of_a_row_to_canary_only_at_the_number_of_a_hundred() {
        let row = |weight: Value| serde_json::json!({"key": "main_ivr", "Traffic_Weight": weight});
        assert!(points_to_canary(Some(&row(100.into()))) && points_to_canary(Some(&row(100.0.into()))));
        for row in [Some(&row(99.into())), Some(&row("100".into())), Some(&row(Value::Null)), Some(&Value::Null), None] {
            assert!(!points_to_canary(row), "{row:?}");
        }
    }
}
