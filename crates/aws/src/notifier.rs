//! SNS: what is told to people and to the executor.

use crate::Config;
use aws_sdk_sns::types::MessageAttributeValue;
use serin_controller::ports::{Notice, Notifier, Topic};

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
}

impl Notifier for SnsNotifier {
    async fn publish(&self, notice: &Notice) -> Result<(), String> {
        let topic = match notice.topic {
            Topic::Alerts => &self.alerts,
            Topic::Rollback => &self.rollback,
        };
        let mut publish = self.client.publish().topic_arn(topic).subject(&notice.subject).message(&notice.body);
        for (name, value) in &notice.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            publish = publish.message_attributes(name, value.map_err(|e| e.to_string())?);
        }
        publish.send().await.map(|_| ()).map_err(|e| format!("{topic}: {}", crate::said(e)))
    }
}
