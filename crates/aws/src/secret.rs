//! Secrets: SecureString parameters, read by name, never logged.

use crate::{Config, said};
use aws_sdk_ssm::types::{Parameter, ParameterType};
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
        accepted(name, answer.parameter)
    }
}

/// A plain String would be shown to everybody who may look at parameters, and stay in their history.
fn accepted(name: &str, parameter: Option<Parameter>) -> Result<String, String> {
    let Some(Parameter { r#type: kind, value: Some(value), .. }) = parameter else {
        return Err(format!("secret parameter {name} is empty"));
    };
    match kind {
        Some(ParameterType::SecureString) => Ok(value),
        _ => Err(format!(
            "secret parameter {name} is not used: it is no SecureString. Change what it holds where it was issued, delete the parameter, \
             and store the new one with --type SecureString"
        )),
    }
}

/// Reads a secret once.
pub async fn read(config: &Config, name: &str) -> Result<String, String> {
    SecureParameter::new(config, name.to_owned()).read().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_secure_string_is_a_secret_and_what_is_refused_is_not_repeated() {
        let stored = |kind: Option<ParameterType>| Some(Parameter::builder().set_type(kind).value("hunter2").build());
        assert_eq!(accepted("/s", stored(Some(ParameterType::SecureString))), Ok("hunter2".to_owned()));
        for refused in [stored(Some(ParameterType::String)), stored(Some(ParameterType::StringList)), stored(None), None] {
            let said = accepted("/s", refused).expect_err("it is no SecureString");
            assert!(said.contains("parameter /s ") && !said.contains("hunter2"), "{said}");
        }
    }
}
