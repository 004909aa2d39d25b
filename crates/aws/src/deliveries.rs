//! What has arrived at a target: beside the ledger, in its table, for whoever closes an incident that another sandbox opened.

use crate::ledger::{int, key};
use crate::{Config, said};
use jiff::{SignedDuration, Timestamp};

/// An incident that stays open for longer is closed all the same, only later.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Deliveries, in the ledger's table.
#[derive(Debug, Clone)]
pub struct DynamoDeliveries {
    client: aws_sdk_dynamodb::Client,
    table: String,
}

impl DynamoDeliveries {
    /// With the table's name.
    pub fn new(config: &Config, table: String) -> DynamoDeliveries {
        DynamoDeliveries { client: aws_sdk_dynamodb::Client::new(config), table }
    }

    /// An alert has arrived at a target.
    pub async fn record(&self, target: &str, alert: &str, now: Timestamp) -> Result<(), String> {
        let mut item = key(delivered(target), alert.to_owned());
        item.insert("expires_at".into(), int((now + KEPT).as_second()));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        put.send().await.map(|_| ()).map_err(|e| format!("alert {alert}: {}", said(e)))
    }

    /// Whether it has.
    pub async fn is_recorded(&self, target: &str, alert: &str) -> Result<bool, String> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let get = get.set_key(Some(key(delivered(target), alert.to_owned())));
        get.send().await.map(|answer| answer.item.is_some()).map_err(|e| format!("alert {alert}: {}", said(e)))
    }
}

/// The one kind of partition that the forwarder may read and write.
fn delivered(target: &str) -> String {
    format!("DELIVERED#{target}")
}
