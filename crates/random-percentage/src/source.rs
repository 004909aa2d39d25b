//! Where the parameters are read: one GetParameters for all of a flow's values and the heartbeat.

use aws_sdk_ssm::error::ProvideErrorMetadata;
use serin_core::cohort::Parameters;
use std::time::Duration;

/// Reads the parameters of one flow.
pub(crate) trait Source {
    /// The parameters, or why they could not be read.
    async fn read(&self, flow: &str) -> Result<Parameters, String>;
}

/// Parameter Store.
pub(crate) struct ParameterStore {
    client: aws_sdk_ssm::Client,
    stage: String,
}

impl ParameterStore {
    /// Keys, token and region stand in a function's environment and do not change in a sandbox's life, so nothing is loaded.
    pub(crate) fn from_environment(stage: String) -> Result<ParameterStore, String> {
        let setting = |name: &str| std::env::var(name).map_err(|_| format!("setting {name} is missing: Lambda sets it"));
        let session = std::env::var("AWS_SESSION_TOKEN").ok();
        let credentials = aws_sdk_ssm::config::Credentials::new(
            setting("AWS_ACCESS_KEY_ID")?,
            setting("AWS_SECRET_ACCESS_KEY")?,
            session,
            None,
            "environment",
        );
        let tls = aws_smithy_http_client::tls::Provider::Rustls(aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring);
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(aws_sdk_ssm::config::BehaviorVersion::latest())
            .region(aws_sdk_ssm::config::Region::new(setting("AWS_REGION")?))
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().tls_provider(tls).build_https())
            // The cache decides when to read again; a retry here would only make a caller wait.
            .retry_config(aws_sdk_ssm::config::retry::RetryConfig::disabled())
            .timeout_config(aws_sdk_ssm::config::timeout::TimeoutConfig::builder().operation_timeout(Duration::from_secs(2)).build());
        let config = match std::env::var("AWS_ENDPOINT_URL_SSM").or_else(|_| std::env::var("AWS_ENDPOINT_URL")) {
            Ok(endpoint) => config.endpoint_url(endpoint),
            Err(_) => config,
        };
        Ok(ParameterStore { client: aws_sdk_ssm::Client::from_conf(config.build()), stage })
    }
}

impl Source for ParameterStore {
    async fn read(&self, flow: &str) -> Result<Parameters, String> {
        let stage = &self.stage;
        let [percentage, rollout, halt] = ["percentage", "rollout", "halt"].map(|leaf| format!("/genesys/canary/{stage}/{flow}/{leaf}"));
        let heartbeat = format!("/genesys/canary/{stage}/heartbeat");
        let names = vec![percentage.clone(), rollout.clone(), halt.clone(), heartbeat.clone()];
        let read = self.client.get_parameters().set_names(Some(names)).send().await;
        let read = read.map_err(|e| e.code().map_or_else(|| e.to_string(), str::to_owned))?;
        let mut parameters = Parameters::default();
        for parameter in read.parameters.unwrap_or_default() {
            let (name, version, value) = (parameter.name.unwrap_or_default(), parameter.version, parameter.value);
            match name {
                n if n == percentage => (parameters.percentage, parameters.revision) = (value, version),
                n if n == rollout => parameters.rollout = value,
                n if n == halt => parameters.halt = value,
                n if n == heartbeat => parameters.heartbeat = value,
                _ => {}
            }
        }
        Ok(parameters)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::rc::Rc;

    /// Parameters as a test scripts them.
    #[derive(Clone, Default)]
    pub(crate) struct Script {
        pub(crate) flows: Rc<RefCell<BTreeMap<String, Parameters>>>,
        pub(crate) fails: Rc<Cell<bool>>,
        pub(crate) hangs: Rc<Cell<bool>>,
        pub(crate) reads: Rc<Cell<u32>>,
    }

    impl Script {
        pub(crate) fn of<const N: usize>(flows: [(&str, Parameters); N]) -> Script {
            let flows = flows.into_iter().map(|(flow, parameters)| (flow.to_owned(), parameters)).collect();
            Script { flows: Rc::new(RefCell::new(flows)), ..Script::default() }
        }
    }

    impl Source for Script {
        async fn read(&self, flow: &str) -> Result<Parameters, String> {
            self.reads.set(self.reads.get() + 1);
            if self.hangs.get() {
                std::future::pending::<()>().await;
            }
            if self.fails.get() {
                return Err("throttled".into());
            }
            Ok(self
                .flows
                .borrow()
                .get(flow)
                .cloned()
                .unwrap_or_else(|| Parameters { heartbeat: Some("2026-11-20T09:00:00Z".into()), ..Parameters::default() }))
        }
    }
}
