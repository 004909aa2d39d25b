//! What an operator asks when something seems wrong, of AWS: its clock, how many requests Parameter Store takes and the endpoint makes.

use crate::alarms::cloudwatch;
use crate::signed::{Request, address, endpoint};
use crate::{Config, said};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
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

/// What the endpoint of a stage reads, as its stack says: a value of the template's `EndpointSource`; `None` if it is older than that.
pub async fn endpoint_source(config: &Config, stage: &str) -> Result<Option<String>, String> {
    let name = format!("/serin/{stage}/topics");
    let read = aws_sdk_ssm::Client::new(config).get_parameter().name(&name).send().await;
    let read = read.map_err(|e| format!("parameter {name}: {}", said(e)))?;
    let value = read.parameter.and_then(|parameter| parameter.value).unwrap_or_default();
    let told: serde_json::Value = serde_json::from_str(&value).map_err(|e| format!("parameter {name}: {e}"))?;
    Ok(told["endpoint_source"].as_str().map(str::to_owned))
}

/// Requests a second that the endpoint made of its source in the busiest minute of the day before `now`; `None` if none was counted.
pub async fn busiest_reads(config: &Config, stage: &str, now: Timestamp) -> Result<Option<f64>, String> {
    // Whole minutes, of which one answer may have 1,440.
    let end = now.as_second().div_euclid(60) * 60;
    let query = json!({
        "Namespace": "Serin", "MetricName": "Reads", "Dimensions": [{"Name": "Stage", "Value": stage}],
        "StartTime": end - 24 * 3600, "EndTime": end, "Period": 60, "Statistics": ["Sum"],
    });
    let answer = cloudwatch(config, "GetMetricStatistics", &query).await;
    let answer = answer.map_err(|reason| format!("metric Serin/Reads could not be read (cloudwatch:GetMetricStatistics): {reason}"))?;
    let sums = answer["Datapoints"].as_array().into_iter().flatten().filter_map(|point| point["Sum"].as_f64());
    Ok(sums.max_by(f64::total_cmp).map(|most| most / 60.0))
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
