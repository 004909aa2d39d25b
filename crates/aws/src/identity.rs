//! Who calls, as AWS sees them. What people change is recorded with it.

use crate::{Config, said};

/// ARN of whoever these credentials belong to. The caller bounds the time that it is worth.
pub async fn identity(config: &Config) -> Result<String, String> {
    let answer = aws_sdk_sts::Client::new(config).get_caller_identity().send().await;
    let answer = answer.map_err(|e| format!("AWS does not say who you are: {}", said(e)))?;
    answer.arn.ok_or_else(|| "AWS does not say who you are: its answer names nobody".to_owned())
}
