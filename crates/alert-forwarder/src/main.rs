//! alert-forwarder: brings alerts from the queue to the incident system or chat that its secret names.

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
use handler::Forwarder;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use serin_aws::settings::setting;
use serin_aws::{SecureParameter, WallClock};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    serin_aws::log::init();
    let (stage, secret) = (setting("STAGE")?, setting("WEBHOOK_SECRET")?);
    let secret = SecureParameter::new(&serin_aws::load().await, secret);
    let client = Client::new(client::TIMEOUT, address::system).context("the system's trusted certificates could not be read")?;
    let forwarder = Forwarder::new(secret, client, WallClock);
    tracing::info!(stage, "ready");
    let forwarder = &forwarder;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        forwarder.handle(&event.payload).await.map_err(|e| Error::from(format!("{e:#}")))
    }))
    .await
}
