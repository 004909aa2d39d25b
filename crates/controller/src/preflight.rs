//! What stands before a rollout, and what is in the way of it: found before anything is changed, each thing named, with what to do
//! about it. The executor looks while it prepares; people and pipelines may look at any time, and nothing comes of it.

use crate::pointer;
use crate::ports::{Clock, Flows};
use crate::ports::{FlowError, FlowState, Interface, KnownGood, Ledger, LedgerError, Parameters};
use crate::work::{Executing, Ports, Run};
use jiff::SignedDuration;
use serin_core::policy::Mode;
use serin_core::rollout::{Plan, Snapshot, Strategy};
use serin_core::weight::Weight;
use std::collections::{BTreeMap, BTreeSet};

/// Requests that a preparation needs besides: publishing, looking at it, and what the other rollouts ask in the same minute.
const REQUESTS: u32 = 60;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What stands in Genesys Cloud; its export is not kept.
    pub snapshot: Snapshot,
    /// Everything that is in the way, each with what to do about it; empty if nothing is.
    pub problems: Vec<String>,
}

/// Looks at everything that a rollout of this plan needs, and writes nothing. Data actions of the plan are asked with their test inputs. An
/// error says that it could not be told, and whether to look again.
pub async fn look<L: Ledger, P: Parameters, F: Executing, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
) -> Result<Looked, FlowError> {
    let snapshot = snapshot(ports, run, plan).await?;
    enough_requests(ports)?;
    let mut problems = around(ports, run, plan, &snapshot).await?;
    problems.extend(of_version(ports, plan, &snapshot).await?);
    if ports.ledger.is_quarantined(&plan.flow, &snapshot.canary_hash).await.map_err(later)? {
        problems.push(
            "this configuration was rolled back before and is quarantined: roll out a changed one, or `serin clear-quarantine`".to_owned(),
        );
    }
    // Last, for they do something: whatever must be waited for was waited for by now.
    problems.extend(unanswered(ports, plan).await?);
    Ok(Looked { snapshot, problems })
}

/// All that is in the way in one sentence, if anything is.
pub(crate) fn listed(problems: &[String]) -> Option<String> {
    match problems {
        [] => None,
        [one] => Some(format!("preflight: {one}")),
        many => {
            let numbered: Vec<String> = many.iter().enumerate().map(|(n, what)| format!("({}) {what}", n + 1)).collect();
            Some(format!("preflight found {} things in the way: {}", many.len(), numbered.join("; ")))
        }
    }
}

/// The same before the version to roll out exists: everything but what is looked up of it.
pub(crate) async fn look_around<L: Ledger, P: Parameters, F: Executing, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
) -> Result<Vec<String>, FlowError> {
    let (mut snapshot, published) = standing(ports, plan).await?;
    (snapshot.rollback_target, snapshot.rollback_hash) = target(ports, run, plan, published, &Sought::default()).await?;
    enough_requests(ports)?;
    let mut problems = around(ports, run, plan, &snapshot).await?;
    problems.extend(unanswered(ports, plan).await?);
    Ok(problems)
}

/// What stands in Genesys before anything is changed.
async fn snapshot<L: Ledger, P, F: Executing, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
) -> Result<Snapshot, FlowError> {
    let (canary, version) = (&plan.canary.flow_id, &plan.canary.version);
    let (mut snapshot, published) = standing(ports, plan).await?;
    if plan.strategy == Strategy::PublishWatch && snapshot.stable_version == *version {
        return Err(FlowError::Refused(format!("flow {canary} runs version {version} already: there is nothing to watch")));
    }
    snapshot.canary_hash = ports.flows.configuration_hash(canary, version).await?;
    (snapshot.rollback_target, snapshot.rollback_hash) = match plan.strategy {
        // The old branch is in the same version: taking the calls back is the whole way.
        Strategy::InFlow => (version.clone(), snapshot.canary_hash.clone()),
        _ => {
            let sought = Sought { not: Some(version), unlike: Some(&snapshot.canary_hash), ..Sought::default() };
            target(ports, run, plan, published, &sought).await?
        }
    };
    if plan.strategy == Strategy::InFlow {
        // Both branches run in the version that is rolled out, so stable is that one too.
        snapshot.stable_version = version.clone();
    }
    Ok(snapshot)
}

/// What stands whatever is rolled out, and what the canary flow has published.
async fn standing<L, P, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    plan: &Plan,
) -> Result<(Snapshot, Option<String>), FlowError> {
    let flows = ports.flows;
    let stable = flows.flow(plan.stable_flow()).await?;
    let canary = flows.flow(&plan.canary.flow_id).await?;
    unlocked(&plan.canary.flow_id, &canary)?;
    let stable_version = published(plan.stable_flow(), &stable)?;
    let stable_hash = flows.configuration_hash(plan.stable_flow(), &stable_version).await?;
    let ivr_flow = match &plan.rollback.ivr {
        Some(ivr) => flows.open_hours(ivr).await?,
        None => None,
    };
    let row = match pointer::table_of(plan) {
        Some(table) => flows.pointer(table, &plan.flow).await.map_err(|e| FlowError::TryLater(e.to_string()))?,
        None => None,
    };
    let row = row.map(|row| (row.active_flow, row.weight));
    Ok((Snapshot { stable_version, stable_hash, ivr_flow, row, ..Snapshot::default() }, canary.published))
}

/// What a way back is looked for beside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sought<'a> {
    /// The version that is rolled out.
    pub(crate) not: Option<&'a str>,
    /// Its configuration: no way back under another number either, unless there is no other.
    pub(crate) unlike: Option<&'a str>,
    /// The version to go back to that is not there any more; then the same configuration is none in any case.
    pub(crate) gone: Option<&'a str>,
}

async fn target<L: Ledger, P, F: Executing, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
    published: Option<String>,
    sought: &Sought<'_>,
) -> Result<(String, String), FlowError> {
    way_back(ports, run, plan, published, sought).await?.ok_or_else(|| {
        let flow = &plan.canary.flow_id;
        FlowError::Refused(format!("canary flow {flow} has no published version to go back to; publish a known-good one first"))
    })
}

/// The version that the canary flow goes back to, with its configuration hash: what all callers had just before, where they had this
/// flow; else the latest that proved healthy; else, before there is any, the latest it ran. In each case one that still exists and that
/// nobody blamed. What was published to be rolled out is none, as long as there is another.
pub(crate) async fn way_back<L: Ledger, P, F: Flows, N, C: Clock>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
    published: Option<String>,
    sought: &Sought<'_>,
) -> Result<Option<(String, String)>, FlowError> {
    let flow = &plan.canary.flow_id;
    let proven = ports.ledger.known_good(&plan.flow, flow).await.map_err(later)?;
    let now = run.clock.now(ports.clock.now(), run.time);
    let oldest = plan.rollback.known_good_days.map(|days| now - SignedDuration::from_hours(24 * i64::from(days)));
    let proven =
        proven.into_iter().filter(|one| oldest.is_none_or(|oldest| one.healthy_at >= oldest)).map(|KnownGood { version, .. }| version);
    let callers_had = published.clone().filter(|_| plan.strategy == Strategy::PublishWatch);
    let earlier = ports.flows.published_versions(flow).await?;
    let candidates = callers_had.iter().cloned().chain(proven).chain(published).chain(earlier);
    let mut seen: BTreeSet<String> = [sought.not, sought.gone].into_iter().flatten().map(str::to_owned).collect();
    let mut the_same = None;
    for version in candidates {
        if !seen.insert(version.clone()) {
            continue;
        }
        match ports.flows.configuration_hash(flow, &version).await {
            // The same by another number.
            Ok(hash) if sought.unlike == Some(hash.as_str()) && sought.gone.is_some() => {}
            Ok(hash) if ports.ledger.is_quarantined(&plan.flow, &hash).await.map_err(later)? => {}
            Ok(hash) if sought.unlike == Some(hash.as_str()) && callers_had.as_ref() != Some(&version) => {
                the_same.get_or_insert((version, hash));
            }
            Ok(hash) => return Ok(Some((version, hash))),
            // It was deleted since.
            Err(FlowError::Gone(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(the_same)
}

fn later(error: LedgerError) -> FlowError {
    FlowError::TryLater(error.to_string())
}

/// Nobody is unlocked by force, and nothing is published over somebody's shoulder.
pub(crate) fn unlocked(flow: &str, state: &FlowState) -> Result<(), FlowError> {
    match &state.locked_by {
        Some(holder) => Err(FlowError::Locked { flow: flow.to_owned(), holder: holder.clone() }),
        None => Ok(()),
    }
}

/// The version that a flow has published.
pub(crate) fn published(flow: &str, state: &FlowState) -> Result<String, FlowError> {
    state.published.clone().ok_or_else(|| FlowError::Refused(format!("flow {flow} ({}) has no published version", state.name)))
}

fn enough_requests<L, P, F: Executing, N, C>(ports: &Ports<'_, L, P, F, N, C>) -> Result<(), FlowError> {
    match ports.flows.requests_left().filter(|left| *left < REQUESTS) {
        Some(left) => {
            Err(FlowError::TryLater(format!("only {left} requests are left in this minute, and preparing takes up to {REQUESTS}")))
        }
        None => Ok(()),
    }
}

/// What is in the way whatever version is rolled out.
async fn around<L: Ledger, P: Parameters, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
    snapshot: &Snapshot,
) -> Result<Vec<String>, FlowError> {
    let genesys = ports.flows;
    let mut problems = Vec::new();
    problems.extend(region(genesys.region(), run.region.as_deref(), plan.strategy));
    if plan.policy.mode != Mode::Observe {
        let missing = genesys.missing_permissions(&plan.canary.flow_id, pointer::table_of(plan), &plan.rollback).await?;
        problems.extend(missing.iter().map(|permission| format!("the OAuth client's role lacks the permission {permission}: grant it")));
    }
    problems.extend(row(ports, run, plan, snapshot).await?);
    problems.extend(entrances(ports, plan, snapshot).await?);
    Ok(problems)
}

/// What is in the way of this version.
async fn of_version<L, P, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    plan: &Plan,
    snapshot: &Snapshot,
) -> Result<Vec<String>, FlowError> {
    let (genesys, canary, version) = (ports.flows, &plan.canary.flow_id, &plan.canary.version);
    let deleted = genesys.dependencies(canary, version).await?.into_iter().filter(|needed| needed.deleted);
    let deleted = deleted.map(|needed| {
        format!("version {version} needs {} `{}`, which was deleted: publish a version without it, or restore it", needed.kind, needed.name)
    });
    let mut problems: Vec<String> = deleted.collect();
    problems.extend(interface(ports, plan, snapshot).await?);
    if plan.validate
        && let Some(complaint) = refused(genesys.validate(canary, version).await)?
    {
        problems.push(format!("Genesys Cloud does not find version {version} valid: {complaint}"));
    }
    Ok(problems)
}

/// Data actions that do not answer.
async fn unanswered<L, P, F: Executing, N, C>(ports: &Ports<'_, L, P, F, N, C>, plan: &Plan) -> Result<Vec<String>, FlowError> {
    let mut problems = Vec::new();
    for action in &plan.data_actions {
        if let Some(answer) = refused(ports.flows.test_action(&action.id, &action.input.clone().into()).await)? {
            problems.push(format!("data action {} does not answer its test: {answer}", action.id));
        }
    }
    Ok(problems)
}

/// What a look says no to; what cannot be told is an error.
fn refused(outcome: Result<(), FlowError>) -> Result<Option<String>, FlowError> {
    match outcome {
        Ok(()) => Ok(None),
        Err(FlowError::Refused(said) | FlowError::Gone(said)) => Ok(Some(said)),
        Err(error) => Err(error),
    }
}

/// Genesys Cloud calls a function in its own region only.
fn region(organization: Option<&str>, functions: Option<&str>, strategy: Strategy) -> Option<String> {
    let asks = matches!(strategy, Strategy::TrafficCop | Strategy::InFlow);
    let (organization, functions) = (organization?, functions.filter(|_| asks)?);
    (organization != functions).then(|| {
        format!(
            "the organization lives in {organization} and Serin in {functions}: its data actions reach functions of their own region only. \
             Deploy Serin in {organization}"
        )
    })
}

async fn row<L, P, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    plan: &Plan,
    snapshot: &Snapshot,
) -> Result<Option<String>, FlowError> {
    let flow = &plan.flow;
    let Some(table) = pointer::table_of(plan) else { return Ok(None) };
    let found = ports.flows.pointer(table, flow).await.map_err(|e| FlowError::TryLater(e.to_string()))?;
    let Some(found) = found else { return Ok(None) };
    if pointer::is_foreign(&found, &run.stage) {
        return Ok(Some(format!(
            "row {flow} of data table {table} belongs to `{}`: one installation writes a row. Use another flow name, or empty its owner",
            found.owner
        )));
    }
    let (stable, canary) = (plan.stable_flow(), &plan.canary.flow_id);
    let meant = if found.weight == Weight::FULL { canary } else { stable };
    if !found.active_flow.is_empty() && found.active_flow != *meant {
        return Ok(Some(format!(
            "row {flow} of data table {table} has weight {} and flow {}, where this file means flow {meant}: what a weight means is fixed in \
             the traffic cop, so stable and canary keep their places, also after a swap",
            found.weight, found.active_flow
        )));
    }
    if found.weight < Weight::FULL {
        return Ok(None);
    }
    // After a swap they are on the canary flow, and stable runs the same; anything else would change what callers get before a rollout began.
    let running = match ports.flows.flow(canary).await?.published {
        Some(version) => Some(ports.flows.configuration_hash(canary, &version).await?),
        None => None,
    };
    Ok((running.as_ref() != Some(&snapshot.stable_hash)).then(|| {
        format!(
            "row {flow} of data table {table} sends all calls to the canary flow, which runs another version than stable: set its \
             Traffic_Weight to 0 first, when callers may get what stable runs"
        )
    }))
}

/// Whether callers come by the way that the rollout file says.
async fn entrances<L, P, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    plan: &Plan,
    snapshot: &Snapshot,
) -> Result<Vec<String>, FlowError> {
    let mut problems = Vec::new();
    if let Some(ivr) = &plan.rollback.ivr {
        match snapshot.ivr_flow.as_deref() {
            Some(leads_to) if leads_to == plan.stable_flow() || leads_to == plan.canary.flow_id => problems.push(format!(
                "rollback.ivr {ivr} leads to flow {leads_to} itself, so no call would be split: lead it to the traffic cop with `serin adopt`"
            )),
            Some(_) => {}
            None => problems.push(format!("rollback.ivr {ivr} has no flow for its open hours: name the IVR that callers come by")),
        }
    }
    if let Some(group) = &plan.rollback.emergency_group
        && ports.flows.emergency(group).await?
    {
        problems.push(format!("the emergency of group {group} is declared: end it in Genesys Cloud first"));
    }
    Ok(problems)
}

/// What comes before and after a flow relies on the names and types of what it sets. More of them is no harm.
async fn interface<L, P, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    plan: &Plan,
    snapshot: &Snapshot,
) -> Result<Vec<String>, FlowError> {
    // Where the version runs already nothing changes for anybody.
    if plan.stable_flow() == plan.canary.flow_id && snapshot.stable_hash == snapshot.canary_hash {
        return Ok(Vec::new());
    }
    let running = match plan.strategy {
        // Its snapshot names the version of both branches; what callers have before is what runs.
        Strategy::InFlow => ports.flows.flow(plan.stable_flow()).await?.published.unwrap_or_default(),
        _ => snapshot.stable_version.clone(),
    };
    let stable = ports.flows.interface(plan.stable_flow(), &running).await?;
    let canary = ports.flows.interface(&plan.canary.flow_id, &plan.canary.version).await?;
    Ok(lost(&stable, &canary).into_iter().map(|what| format!("{what}: keep it, or roll the change of its users out first")).collect())
}

/// What the stable flow has and the canary has not.
fn lost(stable: &Interface, canary: &Interface) -> Vec<String> {
    let of = |kind: &str, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>| -> Vec<String> {
        let differs = |(name, was): (&String, &String)| match after.get(name) {
            None => Some(format!("{kind} `{name}` of the stable flow is not in the canary")),
            Some(is) if is != was => Some(format!("{kind} `{name}` is {was} in the stable flow and {is} in the canary")),
            Some(_) => None,
        };
        before.iter().filter_map(differs).collect()
    };
    let mut lost = of("participant attribute", &stable.participant_data, &canary.participant_data);
    lost.extend(of("flow variable", &stable.variables, &canary.variables));
    lost
}
