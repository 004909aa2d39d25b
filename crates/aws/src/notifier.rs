//! SNS: what is told to people and to the executor.

use crate::Config;
use aws_sdk_sns::types::MessageAttributeValue;
use serde_json::json;
use serin_controller::ports::{Notice, Notifier, Topic};
use serin_core::alert::Alert;

/// The two topics.
#[derive(Debug, Clone)]
pub struct SnsNotifier {
    client: aws_sdk_sns::Client,
    alerts: String,
    rollback: String,
}

impl SnsNotifier {
    /// With the ARNs of both topics.
    pub fn new(config: &Config, alerts: String, rollback: String) -> SnsNotifier {
        SnsNotifier { client: aws_sdk_sns::Client::new(config), alerts, rollback }
    }

    /// With the topics of a stage, as its stack names them in `/serin/{stage}/topics`.
    pub async fn of_stage(config: &Config, stage: &str) -> Result<SnsNotifier, String> {
        let name = format!("/serin/{stage}/topics");
        let read = aws_sdk_ssm::Client::new(config).get_parameter().name(&name).send().await;
        let read = read.map_err(|e| format!("parameter {name}: {}", crate::said(e)))?;
        let value = read.parameter.and_then(|parameter| parameter.value).unwrap_or_default();
        let topics: serde_json::Value = serde_json::from_str(&value).map_err(|e| format!("parameter {name}: {e}"))?;
        match (topics["alerts"].as_str(), topics["rollback"].as_str()) {
            (Some(alerts), Some(rollback)) => Ok(SnsNotifier::new(config, alerts.to_owned(), rollback.to_owned())),
            _ => Err(format!("parameter {name} does not name both topics; deploy the stack again")),
        }
    }
}

impl Notifier for SnsNotifier {
    async fn publish(&self, notice: &Notice) -> Result<(), String> {
        let topic = match notice.topic {
            Topic::Alerts => &self.alerts,
            Topic::Rollback => &self.rollback,
        };
        let mut publish = self.client.publish().topic_arn(topic).subject(&notice.subject);
        publish = match readable(notice) {
            Some(message) => publish.message_structure("json").message(message),
            None => publish.message(&notice.body),
        };
        for (name, value) in &notice.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            publish = publish.message_attributes(name, value.map_err(|e| e.to_string())?);
        }
        publish.send().await.map(|_| ()).map_err(|e| format!("{topic}: {}", crate::said(e)))
    }
}

/// The alert for each kind of subscription: as it is for programs, readable for people. `None` if it is no alert.
fn readable(notice: &Notice) -> Option<String> {
    let alert: Alert = (notice.topic == Topic::Alerts).then(|| serde_json::from_str(&notice.body).ok()).flatten()?;
    Some(json!({"default": notice.body, "email": alert.email(), "sms": alert.sms()}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    #[test]
    fn programs_get_the_alert_as_it_is_and_people_get_it_readable() {
        let alert = Alert::storm(950, 420, jiff::Timestamp::UNIX_EPOCH);
        let body = serde_json::to_string(&alert).expect("json");
        let notice = |topic| Notice { id: String::new(), topic, subject: alert.subject(), body: body.clone(), attributes: BTreeMap::new() };
        let sent: Value = serde_json::from_str(&readable(&notice(Topic::Alerts)).expect("an alert")).expect("json");
        // What has no form of its own (sqs, https, lambda, email-json) gets the default.
        assert_eq!(sent, json!({"default": body, "email": alert.email(), "sms": alert.sms()}));
        assert_eq!(readable(&notice(Topic::Rollback)), None);
        assert_eq!(readable(&Notice { body: "hello".into(), ..notice(Topic::Alerts) }), None);
    }
}
