//! The copy in the ledger's table, for many sandboxes or many flows: Parameter Store has 40 reads a second for a whole account.

use super::{Connection, ReadError, Source};
use crate::clock::Clock;
use serde::{Deserialize, Serialize};
use serin_core::cohort::Parameters;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The copies of one stage, by BatchGetItem. The table and its keys: `serin-aws`, `ledger.rs`.
#[derive(Debug)]
pub struct DynamoDb<C> {
    connection: Connection<C>,
    table: String,
}

impl<C: Clock> DynamoDb<C> {
    /// In a table.
    pub fn new(connection: Connection<C>, table: String) -> DynamoDb<C> {
        DynamoDb { connection, table }
    }
}

impl<C: Clock> Source for DynamoDb<C> {
    async fn read(&mut self, flow: &str) -> Result<Parameters, ReadError> {
        let of_flow = format!("FLOW#{flow}");
        let keys = Keys { keys: [Key::of(&of_flow), Key::of("HEARTBEAT")], consistent: true };
        let asked = serde_json::to_vec(&Question { items: BTreeMap::from([(self.table.as_str(), keys)]) });
        let asked = asked.map_err(|e| ReadError::Failed(e.to_string()))?;
        let answer = self.connection.ask("DynamoDB_20120810.BatchGetItem", "application/x-amz-json-1.0", asked).await?;
        read_batch_get_item(&self.table, flow, &answer)
    }
}

#[derive(Serialize)]
struct Question<'a> {
    #[serde(rename = "RequestItems")]
    items: BTreeMap<&'a str, Keys<'a>>,
}

#[derive(Serialize)]
struct Keys<'a> {
    #[serde(rename = "Keys")]
    keys: [Key<'a>; 2],
    /// One that lags costs half, but callers who were off the canary could meet it again: of two replicas the later one asked may be the older.
    #[serde(rename = "ConsistentRead")]
    consistent: bool,
}

#[derive(Serialize)]
struct Key<'a> {
    pk: Text<'a>,
    sk: Text<'a>,
}

impl Key<'_> {
    fn of(sk: &str) -> Key<'_> {
        Key { pk: Text { s: "PARAMETERS".into() }, sk: Text { s: sk.into() } }
    }
}

#[derive(Serialize, Deserialize)]
struct Text<'a> {
    #[serde(rename = "S", borrow)]
    s: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Number<'a> {
    #[serde(rename = "N", borrow)]
    n: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    // No default: an answer without them is no answer, and must not pass for "nothing is there".
    #[serde(rename = "Responses", borrow)]
    responses: BTreeMap<Cow<'a, str>, Vec<Item<'a>>>,
    /// What was not looked up, for lack of capacity. It may well be there.
    #[serde(rename = "UnprocessedKeys", default)]
    unprocessed: BTreeMap<Cow<'a, str>, serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    sk: Text<'a>,
    #[serde(borrow)]
    percentage: Option<Text<'a>>,
    #[serde(borrow)]
    revision: Option<Number<'a>>,
    #[serde(borrow)]
    rollout: Option<Text<'a>>,
    #[serde(borrow)]
    halt: Option<Text<'a>>,
    #[serde(borrow)]
    at: Option<Text<'a>>,
}

/// The parameters of a flow in an answer to BatchGetItem.
pub fn read_batch_get_item(table: &str, flow: &str, answer: &[u8]) -> Result<Parameters, ReadError> {
    let mut answer: Answer<'_> = serde_json::from_slice(answer).map_err(|e| ReadError::Failed(format!("BatchGetItem answered: {e}")))?;
    if !answer.unprocessed.is_empty() {
        return Err(ReadError::Throttled("BatchGetItem left keys out".to_owned()));
    }
    let mut parameters = Parameters::default();
    let own = |text: Option<Text<'_>>| text.map(|text| text.s.into_owned());
    let items =
        answer.responses.remove(table).ok_or_else(|| ReadError::Failed(format!("BatchGetItem answered nothing of table {table}")))?;
    for item in items {
        if item.sk.s.strip_prefix("FLOW#") == Some(flow) {
            parameters.percentage = own(item.percentage);
            parameters.revision = item.revision.and_then(|number| number.n.parse().ok()).unwrap_or(0);
            parameters.rollout = own(item.rollout);
            parameters.halt = own(item.halt);
        } else if item.sk.s == "HEARTBEAT" {
            parameters.heartbeat = own(item.at);
        }
    }
    Ok(parameters)
}
