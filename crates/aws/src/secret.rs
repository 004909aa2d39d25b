//! Secrets: SecureString parameters, read by name, never logged.

use crate::{Config, said};
use serin_controller::ports::Secret;

/// A SecureString parameter.
#[derive(Debug, Clone)]
pub struct SecureParameter {
    client: aws_sdk_ssm::Client,
    name: String,
}

impl SecureParameter {
    /// By its full name.
    pub fn new(config: &Config, name: String) -> SecureParameter {
        SecureParameter { client: aws_sdk_ssm::Client::new(config), name }
    }
}

impl Secret for SecureParameter {
    async fn read(&self) -> Result<String, String> {
        let name = &self.name;
        let answer = self.client.get_parameter().name(name).with_decryption(true).send().await;
        let answer = answer.map_err(|e| format!("secret parameter {name} could not be read: {}", said(e)))?;
        answer.parameter.and_then(|p| p.value).ok_or_else(|| format!("secret parameter {name} is empty"))
    }
}

/// Reads a secret once.
pub async fn read(config: &Config, name: &str) -> Result<String, String> {
    SecureParameter::new(config, name.to_owned()).read().await
}
