//! What an operator asks when something seems wrong, of AWS: its clock, and how many writes Parameter Store takes.

use crate::signed::{Request, address, endpoint};
use crate::{Config, said};
use jiff::SignedDuration;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
const THROUGHPUT: &str = "/ssm/parameter-store/high-throughput-enabled";

/// Whether Parameter Store takes more requests in a second than its default, in this region of the account.
pub async fn high_throughput(config: &Config) -> Result<bool, String> {
    let answer = aws_sdk_ssm::Client::new(config).get_service_setting().setting_id(THROUGHPUT).send().await;
    let answer = answer.map_err(|e| format!("setting {THROUGHPUT} could not be read: {}", said(e)))?;
    match answer.service_setting.and_then(|setting| setting.setting_value).as_deref() {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        other => Err(format!("setting {THROUGHPUT} holds {}, which is neither `true` nor `false`", other.unwrap_or("nothing"))),
    }
}

/// How far AWS's clock is ahead of ours; negative if it is behind. Good to about a second. A clock that is minutes off has every other
/// request refused, so refusals count here.
pub async fn clock_ahead(config: &Config) -> Result<SignedDuration, String> {
    let uri = endpoint(config, "STS").unwrap_or_else(|| address(config, "sts"));
    let request = Request {
        method: "POST",
        uri: format!("{uri}/"),
        service: "sts",
        headers: &[("content-type", "application/x-www-form-urlencoded")],
        body: b"Action=GetCallerIdentity&Version=2011-06-15",
        patience: PATIENCE,
    };
    let answer = request.send(config).await.map_err(|failed| format!("AWS's clock could not be read: {}", failed.reason))?;
    answer.ahead.ok_or_else(|| "AWS's clock could not be read: the answer has no date".to_owned())
}
