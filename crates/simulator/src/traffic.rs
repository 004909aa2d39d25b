//! Calls: who calls next, which flow takes each call, and what is reported of it.

use crate::callers::{Exit, arrivals, fate, rate, service};
use crate::flow::Behavior;
use crate::organization::Organization;
use crate::reports::{Conversation, Kind};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serin_core::cohort::{Caller, Cohort, Parameters, Router};
use std::collections::{BTreeMap, HashMap};

/// The longest advance, in minutes.
const LONGEST: i64 = 24 * 60;

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
    let gates = gates(organization, &order.parameters)?;
    let asked = calls.iter().filter(|call| order.answers.contains_key(&call.conversation_id)).count();
    if asked < order.answers.len() {
        return Err(format!("answers: {} are for calls that do not come in these minutes", order.answers.len() - asked));
    }
    let mut flows: BTreeMap<_, Share> = organization.slots.iter().map(|slot| (slot.name.clone(), Share::default())).collect();
    let mut disagreements = Vec::new();
    for call in &calls {
        let decided = gates.get(call.flow.as_str()).map_or(Cohort::Stable, |(gate, wall)| {
            gate.assign(Caller { conversation: Some(&call.conversation_id), number: None }, *wall, 0).cohort
        });
        let cohort = order.answers.get(&call.conversation_id).copied().unwrap_or(decided);
        if cohort != decided {
            let (flow, conversation_id) = (call.flow.clone(), call.conversation_id.clone());
            disagreements.push(Disagreement { flow, conversation_id, answered: cohort, decided });
        }
        if let Some(share) = flows.get_mut(&call.flow) {
            share.calls += 1;
            share.canary += usize::from(cohort == Cohort::Canary);
        }
        take(organization, call, cohort);
    }
    organization.now = until;
    organization.reports.receive(until.as_millisecond());
    let canary = flows.values().map(|share| share.canary).sum();
    Ok(Advanced { now: until, calls: calls.len(), canary, asked, disagreements, flows })
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

fn gates<'a>(organization: &Organization, given: &'a HashMap<String, Given>) -> Result<HashMap<&'a str, (Router, Timestamp)>, String> {
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
            Ok((slot.as_str(), (Router::read(&parameters), given.wall.unwrap_or_else(Timestamp::now))))
        })
        .collect()
}

/// One call: through the traffic cop into the version that is live now, perhaps on to an agent, and what is reported of it.
fn take(organization: &mut Organization, call: &Call, cohort: Cohort) {
    let Some(slot) = organization.slots.iter().find(|slot| slot.name == call.flow) else { return };
    let flow = match cohort {
        Cohort::Stable => slot.stable,
        Cohort::Canary => slot.canary,
    };
    let (Some(cop_version), Some(version)) = (organization.flows[slot.cop].live, organization.flows[flow].live) else { return };
    let behavior: Behavior = organization.flows[flow].versions[version].content.behavior.unwrap_or_default();
    let fate = fate(organization.settings.seed, &call.conversation_id, &behavior);
    let entered = call.at.as_millisecond();
    let handed_over = entered + fate.cop_ms;
    let left = handed_over + fate.flow_ms;
    let settings = &organization.settings;
    let arrives = |at: i64, late: f64| at + ((settings.report_delay_s + late * settings.latency_s) * 1000.0) as i64;
    let [a, b, c, d] = fate.late;
    let conversation = Conversation {
        id: call.conversation_id.clone(),
        start: entered,
        cop: (slot.cop, cop_version, handed_over),
        flow: (flow, version, left),
        exit: fate.exit,
        service: (fate.exit == Exit::Transfer).then(|| service(settings.seed, &call.conversation_id, &behavior)),
        late: arrives(0, d),
    };
    let cop = slot.cop;
    let reports = &mut organization.reports;
    reports.remember(conversation);
    reports.send(entered, arrives(entered, a), (cop, cop_version, Kind::Entry), 0);
    reports.send(handed_over, arrives(handed_over, b), (cop, cop_version, Kind::Exit(Exit::ToFlow)), fate.cop_ms);
    reports.send(handed_over, arrives(handed_over, c), (flow, version, Kind::Entry), 0);
    reports.send(left, arrives(left, d), (flow, version, Kind::Exit(fate.exit)), fate.flow_ms);
}
