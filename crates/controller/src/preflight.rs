//! What is in the way of a rollout, found before anything is changed: each thing named, with what to do about it.

use crate::pointer;
use crate::ports::{FlowError, Interface, Ledger, Parameters};
use crate::work::{Executing, Ports, Run};
use serin_core::rollout::{FlowName, Rollout, Snapshot, Strategy};
use serin_core::weight::Weight;
use std::collections::BTreeMap;

/// Requests that a preparation needs besides: publishing, looking at it, and what the other rollouts ask in the same minute.
const REQUESTS: u32 = 60;

/// Everything that is in the way; empty if nothing is. An error says that it could not be told, and whether to look again.
pub(crate) async fn problems<L: Ledger, P: Parameters, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    flow: &FlowName,
    rollout: &Rollout,
    snapshot: &Snapshot,
) -> Result<Vec<String>, FlowError> {
    let (plan, genesys) = (&rollout.plan, ports.flows);
    let (canary, version) = (&plan.canary.flow_id, &plan.canary.version);
    if let Some(left) = genesys.requests_left().filter(|left| *left < REQUESTS) {
        return Err(FlowError::TryLater(format!("only {left} requests are left in this minute, and preparing takes up to {REQUESTS}")));
    }
    let mut problems = Vec::new();
    problems.extend(region(genesys.region(), run.region.as_deref(), plan.strategy));
    if !rollout.is_observed() {
        let missing = genesys.missing_permissions(canary, pointer::table(rollout), &plan.rollback).await?;
        problems.extend(missing.iter().map(|permission| format!("the OAuth client's role lacks the permission {permission}: grant it")));
    }
    let deleted = genesys.dependencies(canary, version).await?.into_iter().filter(|needed| needed.deleted);
    problems.extend(deleted.map(|needed| {
        format!("version {version} needs {} `{}`, which was deleted: publish a version without it, or restore it", needed.kind, needed.name)
    }));
    problems.extend(row(ports, run, flow, rollout, snapshot).await?);
    problems.extend(entrances(ports, rollout, snapshot).await?);
    problems.extend(interface(ports, rollout, snapshot).await?);
    if plan.validate
        && let Some(complaint) = refused(genesys.validate(canary, version).await)?
    {
        problems.push(format!("Genesys Cloud does not find version {version} valid: {complaint}"));
    }
    // Last, for they do something: whatever must be waited for was waited for by now.
    for action in &plan.data_actions {
        if let Some(answer) = refused(genesys.test_action(&action.id, &action.input.clone().into()).await)? {
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

async fn row<L: Ledger, P: Parameters, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    run: &Run,
    flow: &FlowName,
    rollout: &Rollout,
    snapshot: &Snapshot,
) -> Result<Option<String>, FlowError> {
    let Some(table) = pointer::table(rollout) else { return Ok(None) };
    let found = ports.flows.pointer(table, flow).await.map_err(|e| FlowError::TryLater(e.to_string()))?;
    let Some(found) = found else { return Ok(None) };
    if pointer::is_foreign(&found, &run.stage) {
        return Ok(Some(format!(
            "row {flow} of data table {table} belongs to `{}`: one installation writes a row. Use another flow name, or empty its owner",
            found.owner
        )));
    }
    let plan = &rollout.plan;
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
async fn entrances<L: Ledger, P: Parameters, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    rollout: &Rollout,
    snapshot: &Snapshot,
) -> Result<Vec<String>, FlowError> {
    let (plan, mut problems) = (&rollout.plan, Vec::new());
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
async fn interface<L: Ledger, P: Parameters, F: Executing, N, C>(
    ports: &Ports<'_, L, P, F, N, C>,
    rollout: &Rollout,
    snapshot: &Snapshot,
) -> Result<Vec<String>, FlowError> {
    let plan = &rollout.plan;
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
