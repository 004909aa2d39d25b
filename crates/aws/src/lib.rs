//! Adapter: DynamoDB (the truth), Parameter Store (the projection, copied into the ledger's table), SNS (what is told) and S3 (exports), over one client each; and what
//! an operator's tool asks of AWS besides.

pub mod alarms;
pub mod checkup;
pub mod clock;
mod copy;
pub mod deliveries;
pub mod exports;
pub mod identity;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod notifier;
pub mod parameters;
pub mod secret;
pub mod settings;
mod signed;

pub use clock::WallClock;
pub use copy::Copies;
pub use deliveries::DynamoDeliveries;
pub use exports::S3Exports;
pub use identity::identity;
pub use ledger::DynamoLedger;
pub use notifier::SnsNotifier;
pub use parameters::ParameterStore;
pub use secret::SecureParameter;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::time::Duration;

/// The shared configuration of all clients.
pub type Config = SdkConfig;

/// Reads region, credentials and endpoints as every AWS tool does, with one HTTP client (rustls on ring) and bounded time: a call
/// that hangs must not cost the tick.
pub async fn load() -> Config {
    load_with(None, None).await
}

/// The same with a profile and a region that were named. A named profile is meant: its credentials are taken although the environment
/// holds others. Its region is not, where the environment or the caller names one, as with every AWS tool.
pub async fn load_with(profile: Option<&str>, region: Option<&str>) -> Config {
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls()).build_https();
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(3))
        .operation_timeout(Duration::from_secs(10))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).timeout_config(timeouts);
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let Some(profile) = profile else { return loader.load().await };
    let config = loader.profile_name(profile).load().await;
    let surroundings = ProviderConfig::default()
        .with_http_client(http)
        .with_region(config.region().cloned())
        .with_behavior_version(Some(BehaviorVersion::latest()));
    let credentials = ProfileFileCredentialsProvider::builder().configure(&surroundings).profile_name(profile).build();
    config.into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build()
}

/// The one TLS stack.
fn tls() -> Provider {
    Provider::Rustls(CryptoMode::Ring)
}

/// The same for calls that are worth 3 s and no more.
pub fn hurried(config: Config) -> Config {
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(2))
        .operation_timeout(Duration::from_secs(3))
        .build();
    config.into_builder().timeout_config(timeouts).build()
}

/// What an AWS error says, without the layers around it.
fn said<E: std::error::Error + 'static, R: std::fmt::Debug>(error: aws_sdk_dynamodb::error::SdkError<E, R>) -> String {
    match error.as_service_error() {
        Some(service) => with_causes(service),
        None => with_causes(&error),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        source = cause.source();
    }
    text
}
