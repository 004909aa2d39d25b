//! alert-forwarder: brings alerts from a target's queue to the incident system or chat that the target's secret names.

mod address;
mod client;
mod handler;
mod incident;
mod message;
mod pagerduty;
#[cfg(test)]
mod schema;
mod servicenow;
mod slack;
mod target;
mod teams;
mod webhook;
mod wording;

use anyhow::Context;
use client::Client;
use handler::{Deliveries, Forwarder, Secrets};
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use serin_aws::settings::setting;
use serin_aws::{Config, DynamoDeliveries, WallClock};

/// The SecureString parameters `/serin/{stage}/alerts/{target}`.
struct Parameters {
    config: Config,
    stage: String,
}

impl Secrets for Parameters {
    async fn read(&self, target: &str) -> Result<String, String> {
        serin_aws::secret::read(&self.config, &format!("/serin/{}/alerts/{target}", self.stage)).await
    }
}

impl Deliveries for DynamoDeliveries {
    async fn record(&self, target: &str, alert: &str, now: Timestamp) -> Result<(), String> {
        self.record(target, alert, now).await
    }

    async fn is_recorded(&self, target: &str, alert: &str) -> Result<bool, String> {
        self.is_recorded(target, alert).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serin_aws::log::init();
    let (stage, table) = (setting("STAGE")?, setting("LEDGER_TABLE")?);
    let config = serin_aws::hurried(serin_aws::load().await);
    let deliveries = DynamoDeliveries::new(&config, table);
    let client = Client::new(client::TIMEOUT, address::system).context("the system's trusted certificates could not be read")?;
    let secrets = Parameters { config, stage: stage.clone() };
    let forwarder = Forwarder::new(&stage, secrets, deliveries, client, WallClock);
    tracing::info!(stage, "ready");
    let forwarder = &forwarder;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        forwarder.handle(&event.payload).await.map_err(|e| Error::from(format!("{e:#}")))
    }))
    .await
}
