//! Parameter Store: the projection that the caller's question is answered from, and its copy in the ledger's table.
//!
//! Both are always written, whichever the endpoint reads, so that it can be switched at any time. A halt and a 0 go to both at once, each
//! whatever becomes of the other. A raise goes to Parameter Store first, for the version that orders what is written into the copy.

use crate::copy::{Copied, Copies, TableCopy};
use crate::{Config, said};
use aws_sdk_ssm::config::retry::RetryConfig;
use aws_sdk_ssm::types::ParameterType;
use futures::future::{join, join_all};
use jiff::Timestamp;
use serin_controller::ports::{ParameterError, Parameters};
use serin_core::projection::Seen;
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;
use std::collections::HashMap;

/// What a flow's parameters are called.
const LEAVES: [&str; 3] = ["percentage", "rollout", "halt"];
/// Flows that are read with one request, which takes ten names.
const TOGETHER: usize = 3;

/// The parameters of one stage.
#[derive(Debug, Clone)]
pub struct ParameterStore {
    client: aws_sdk_ssm::Client,
    stage: String,
    copy: TableCopy,
}

impl ParameterStore {
    /// The parameters of a stage, and the name of its ledger's table.
    pub fn new(config: &Config, stage: String, table: String) -> ParameterStore {
        ParameterStore { client: aws_sdk_ssm::Client::new(config), stage, copy: TableCopy::new(config, table) }
    }

    /// What the copy holds.
    pub async fn copies(&self) -> Result<Copies, String> {
        self.copy.read().await.map(Copies)
    }

    /// Full name of a flow's parameter.
    pub fn name(&self, flow: &FlowName, leaf: &str) -> String {
        format!("/genesys/canary/{}/{flow}/{leaf}", self.stage)
    }

    /// Whether the percentage could be written: a parameter that is there is written without leave to overwrite it, which changes nothing.
    /// `false` if there is none to try it on, or whoever asks may not look.
    pub async fn may_write(&self) -> Result<bool, String> {
        if !matches!(self.heartbeat().await, Ok(Some(_))) {
            return Ok(false);
        }
        let name = format!("/genesys/canary/{}/heartbeat", self.stage);
        let put =
            self.client.put_parameter().name(&name).value("never written").r#type(ParameterType::String).overwrite(false).send().await;
        match put {
            Err(error) if error.as_service_error().is_some_and(|e| e.is_parameter_already_exists()) => Ok(true),
            Err(error) => Err(format!("parameter {name}: {}", said(error))),
            // It was deleted in between, and a heartbeat that nobody can read means stable, as before.
            Ok(_) => Ok(true),
        }
    }

    /// When a tick last visited every flow; `None` if none ever did.
    pub async fn heartbeat(&self) -> Result<Option<Timestamp>, ParameterError> {
        let name = format!("/genesys/canary/{}/heartbeat", self.stage);
        match self.client.get_parameter().name(&name).send().await {
            Ok(read) => Ok(read.parameter.and_then(|p| p.value).and_then(|value| value.parse().ok())),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_parameter_not_found()) => Ok(None),
            Err(error) => Err(ParameterError { name, reason: said(error) }),
        }
    }

    /// One request for at most [`TOGETHER`] flows; answers in their order.
    async fn read_together(&self, flows: &[&FlowName]) -> Vec<Result<Seen, ParameterError>> {
        let names = flows.iter().flat_map(|flow| LEAVES.map(|leaf| self.name(flow, leaf))).collect();
        let found: HashMap<String, (String, i64)> = match self.client.get_parameters().set_names(Some(names)).send().await {
            Ok(read) => {
                let parameters = read.parameters.unwrap_or_default().into_iter();
                parameters.filter_map(|p| Some((p.name?, (p.value.unwrap_or_default(), p.version)))).collect()
            }
            Err(error) => {
                let reason = said(error);
                let of = |flow: &&FlowName| Err(ParameterError { name: self.name(flow, "percentage"), reason: reason.clone() });
                return flows.iter().map(of).collect();
            }
        };
        let value = |flow, leaf| found.get(&self.name(flow, leaf));
        let seen = |flow| Seen {
            percentage: value(flow, "percentage").cloned(),
            rollout: value(flow, "rollout").map(|(text, _)| text.clone()),
            halt: value(flow, "halt").map(|(text, _)| text.clone()),
        };
        flows.iter().map(|flow| Ok(seen(flow))).collect()
    }

    async fn put(&self, name: String, value: &str, retry: bool) -> Result<i64, ParameterError> {
        let put = self.client.put_parameter().name(&name).value(value).r#type(ParameterType::String).overwrite(true);
        // A raise that was sent twice could land after somebody's lowering, so it is sent once. The next tick looks what became of it.
        let retries = if retry { RetryConfig::standard() } else { RetryConfig::disabled() };
        let answer = put.customize().config_override(aws_sdk_ssm::config::Builder::new().retry_config(retries)).send().await;
        answer.map(|put| put.version).map_err(|e| ParameterError { name, reason: said(e) })
    }
}

impl Parameters for ParameterStore {
    async fn read(&self, flow: &FlowName) -> Result<Seen, ParameterError> {
        self.read_together(&[flow]).await.pop().expect("one flow, one answer")
    }

    async fn read_all(&self, flows: &[&FlowName]) -> Vec<Result<Seen, ParameterError>> {
        join_all(flows.chunks(TOGETHER).map(|some| self.read_together(some))).await.into_iter().flatten().collect()
    }

    async fn put_percentage(&self, flow: &FlowName, weight: Weight, raise: bool) -> Result<i64, ParameterError> {
        let name = self.name(flow, "percentage");
        let copied = |written: Result<(), String>| written.map_err(|reason| ParameterError { name: name.clone(), reason });
        if raise || weight > Weight::ZERO {
            // What the copy lacks of a raise it gets with the next tick, which also finds that it was written.
            let version = self.put(name.clone(), &weight.to_string(), !raise).await?;
            return copied(self.copy.percentage(flow, weight, version, !raise).await).map(|()| version);
        }
        let (put, zero) = join(self.put(name.clone(), &weight.to_string(), true), self.copy.zero(flow)).await;
        let Ok(version) = put else { return both(put, copied(zero)) };
        // Only its version makes a raise void that is still on its way; and what failed is made good.
        copied(self.copy.percentage(flow, weight, version, true).await).map(|()| version)
    }

    async fn history(&self, flow: &FlowName) -> Result<Vec<(String, i64)>, ParameterError> {
        let name = self.name(flow, "percentage");
        let mut versions = Vec::new();
        let mut pages = self.client.get_parameter_history().name(&name).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| ParameterError { name: name.clone(), reason: said(e) })?;
            versions.extend(page.parameters.unwrap_or_default().into_iter().map(|p| (p.value.unwrap_or_default(), p.version)));
        }
        versions.sort_by_key(|(_, version)| std::cmp::Reverse(*version));
        Ok(versions)
    }

    async fn put_halt(&self, flow: &FlowName, rollout: &str) -> Result<(), ParameterError> {
        let name = self.name(flow, "halt");
        let (put, copied) = join(self.put(name.clone(), rollout, true), self.copy.halt(flow, rollout)).await;
        both(put.map(|_| ()), copied.map_err(|reason| ParameterError { name, reason }))
    }

    async fn put_rollout(&self, flow: &FlowName, split: &str) -> Result<(), ParameterError> {
        let name = self.name(flow, "rollout");
        // The copy first: what Parameter Store has is not written again, and the percentage rises on it.
        self.copy.rollout(flow, split).await.map_err(|reason| ParameterError { name: name.clone(), reason })?;
        self.put(name, split, true).await.map(|_| ())
    }

    async fn beat(&self, at: Timestamp) -> Result<(), ParameterError> {
        let name = format!("/genesys/canary/{}/heartbeat", self.stage);
        let (put, copied) = join(self.put(name.clone(), &format!("{at:.0}"), true), self.copy.beat(at)).await;
        both(put.map(|_| ()), copied.map_err(|reason| ParameterError { name, reason }))
    }

    async fn follow(&self, seen: &[(&FlowName, &Seen)]) -> Vec<ParameterError> {
        let copied = match self.copy.read().await {
            Ok(copied) => copied,
            Err(reason) => return vec![ParameterError { name: format!("/genesys/canary/{}", self.stage), reason }],
        };
        // No tick visits these any more, and calls are still sent by them: a hand counts there too.
        let is_seen = |flow: &str| seen.iter().any(|(seen, _)| seen.as_str() == flow);
        let others = copied.iter().filter(|(flow, copied)| copied.sends_calls() && !is_seen(flow));
        let others: Vec<FlowName> = others.filter_map(|(flow, _)| flow.parse().ok()).collect();
        let others: Vec<&FlowName> = others.iter().collect();
        let (mut read, mut failed) = (Vec::new(), Vec::new());
        for (flow, seen) in others.iter().zip(self.read_all(&others).await) {
            match seen {
                Ok(seen) => read.push((*flow, seen)),
                Err(error) => failed.push(error),
            }
        }
        let nothing = Copied::default();
        let all = seen.iter().copied().chain(read.iter().map(|(flow, seen)| (*flow, seen)));
        let brought = all.map(|(flow, seen)| self.bring(flow, copied.get(flow.as_str()).unwrap_or(&nothing), seen));
        failed.extend(join_all(brought).await.into_iter().filter_map(Result::err));
        failed
    }
}

impl ParameterStore {
    async fn bring(&self, flow: &FlowName, copied: &Copied, seen: &Seen) -> Result<(), ParameterError> {
        // A split has no version: what was read before the copy may be the older by now.
        let again = if copied.has_another_split(seen) { Some(self.read(flow).await?) } else { None };
        let brought = self.copy.follow(flow, copied, again.as_ref().unwrap_or(seen)).await;
        brought.map_err(|reason| ParameterError { name: self.name(flow, "percentage"), reason })
    }
}

/// What was written to Parameter Store if the copy was written too, or what failed of the two.
fn both<T>(put: Result<T, ParameterError>, copied: Result<(), ParameterError>) -> Result<T, ParameterError> {
    match (put, copied) {
        (Ok(put), Ok(())) => Ok(put),
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Err(put), Err(copied)) => Err(ParameterError { name: put.name, reason: format!("{}; {}", put.reason, copied.reason) }),
    }
}
