//! Parameter Store: the projection that the caller's question is answered from.

use crate::{Config, said};
use aws_sdk_ssm::config::retry::RetryConfig;
use aws_sdk_ssm::types::ParameterType;
use futures::future::join_all;
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
}

impl ParameterStore {
    /// The parameters of a stage.
    pub fn new(config: &Config, stage: String) -> ParameterStore {
        ParameterStore { client: aws_sdk_ssm::Client::new(config), stage }
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
        self.put(self.name(flow, "percentage"), &weight.to_string(), !raise).await
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
        self.put(self.name(flow, "halt"), rollout, true).await.map(|_| ())
    }

    async fn put_rollout(&self, flow: &FlowName, split: &str) -> Result<(), ParameterError> {
        self.put(self.name(flow, "rollout"), split, true).await.map(|_| ())
    }

    async fn beat(&self, at: Timestamp) -> Result<(), ParameterError> {
        self.put(format!("/genesys/canary/{}/heartbeat", self.stage), &format!("{at:.0}"), true).await.map(|_| ())
    }
}
