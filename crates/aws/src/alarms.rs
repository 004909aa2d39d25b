//! CloudWatch: the alarms that tell people when Serin itself is unwell.

use crate::Config;
use crate::signed::{Request, address, endpoint};
use serde_json::{Value, json};
use std::time::Duration;

/// What the template makes for every stage, by the ends of their names.
pub const OF_THE_TEMPLATE: [&str; 22] = [
    "canary-evaluator-errors",
    "canary-evaluator-no-tick",
    "canary-evaluator-flows-missed",
    "needs-human",
    "sample-ratio",
    "genesys-throttled",
    "genesys-token",
    "ledger-conflicts",
    "notices-waiting",
    "random-percentage-errors",
    "random-percentage-throttles",
    "random-percentage-fallbacks",
    "random-percentage-p99",
    "rollback-executor-errors",
    "rollback-executor-no-tick",
    "restoration-overdue",
    "rollback-waiting",
    "rollback-undelivered",
    "rollback-dlq",
    "alerts-undelivered",
    "waiting-alert-webhook",
    "dlq-alert-webhook",
];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// A stage has some twenty; a bound against answers that do not end.
const MOST_PAGES: usize = 20;

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// Whether its actions are switched on.
    pub enabled: bool,
    /// Whether it tells anybody when it goes off.
    pub has_actions: bool,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    /// Why it is in this state.
    pub reason: String,
}

/// The alarms of a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Those that are there, those of further alert targets among them.
    pub found: Vec<Alarm>,
    /// Names of those that the template makes and that are not there.
    pub missing: Vec<String>,
}

/// The template's, and those of further alert targets.
fn is_ours(name: &str) -> bool {
    OF_THE_TEMPLATE.contains(&name) || name.starts_with("waiting-alert-") || name.starts_with("dlq-alert-")
}

/// The alarms of a stage, by their names.
pub async fn alarms(config: &Config, stage: &str) -> Result<Alarms, String> {
    let prefix = format!("serin-{stage}-");
    let (mut found, mut next) = (Vec::new(), None::<String>);
    for _ in 0..MOST_PAGES {
        let mut query = json!({"AlarmNamePrefix": prefix, "AlarmTypes": ["MetricAlarm"], "MaxRecords": 100});
        if let Some(token) = next {
            query["NextToken"] = json!(token);
        }
        let mut page = cloudwatch(config, "DescribeAlarms", &query)
            .await
            .map_err(|reason| format!("alarms {prefix}… could not be listed: {reason}"))?;
        let alarms = page["MetricAlarms"].as_array().into_iter().flatten().map(Alarm::of);
        // Stage prod has no part in prod-eu.
        found.extend(alarms.filter(|alarm| is_ours(alarm.name.strip_prefix(&prefix).unwrap_or_default())));
        next = page["NextToken"].take().as_str().map(str::to_owned);
        if next.is_none() {
            let is_missing = |name: &String| found.iter().all(|alarm| alarm.name != *name);
            let missing = OF_THE_TEMPLATE.iter().map(|end| format!("{prefix}{end}")).filter(is_missing).collect();
            return Ok(Alarms { found, missing });
        }
    }
    Err(format!("alarms {prefix}… could not be listed: the list does not end"))
}

/// What CloudWatch answers to a query.
pub(crate) async fn cloudwatch(config: &Config, operation: &str, query: &Value) -> Result<Value, String> {
    let uri = endpoint(config, "CLOUDWATCH").unwrap_or_else(|| address(config, "monitoring"));
    let target = format!("GraniteServiceVersion20100801.{operation}");
    let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
    let body = query.to_string();
    let request = Request {
        method: "POST",
        uri: format!("{uri}/"),
        service: "monitoring",
        headers: &headers,
        body: body.as_bytes(),
        patience: PATIENCE,
    };
    let answer = request.send(config).await.map_err(|failed| failed.reason)?;
    let said: Option<Value> = serde_json::from_str(&answer.text()).ok();
    match said {
        Some(said) if answer.status == 200 => Ok(said),
        // `com.amazonaws…#AccessDenied`
        Some(said) if said["__type"].is_string() => {
            let kind = said["__type"].as_str().unwrap_or_default();
            let message = said["message"].as_str().or(said["Message"].as_str()).unwrap_or_default();
            Err(format!("status {}, {}, {message}", answer.status, kind.rsplit('#').next().unwrap_or(kind)))
        }
        _ => Err(format!("status {}", answer.status)),
    }
}

impl Alarm {
    fn of(told: &Value) -> Alarm {
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        Alarm {
            name: text("AlarmName"),
            enabled: told["ActionsEnabled"].as_bool().unwrap_or(true),
            has_actions: told["AlarmActions"].as_array().is_some_and(|actions| !actions.is_empty()),
            state: text("StateValue"),
            reason: text("StateReason"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_makes_these_alarms_and_no_others() {
        let template = include_str!("../../../infra/template.yaml");
        let named = template.lines().filter_map(|line| line.trim().strip_prefix("AlarmName: !Sub serin-${Stage}-"));
        // The fallbacks' alarm is there twice: as it reckons on AWS, and as it counts on the local stack.
        let mut named: Vec<_> = named.collect();
        named.dedup();
        assert_eq!(named, OF_THE_TEMPLATE);
    }
}
