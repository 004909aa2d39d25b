//! The copy of the projection in the ledger's table: for an endpoint that Parameter Store's 40 reads a second are too few for.
//!
//! One item a flow, each attribute written by itself. `revision` is the version that Parameter Store gave the percentage, and orders what
//! is written here: a raise that comes after a later value is void.

use crate::ledger::{Item, int, key, number, string, text};
use crate::{Config, said};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serin_core::cohort::Split;
use serin_core::projection::Seen;
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;
use std::collections::HashMap;

/// The one partition that an endpoint may read.
const PARTITION: &str = "PARAMETERS";

/// The copy of one stage.
#[derive(Debug, Clone)]
pub(crate) struct TableCopy {
    client: aws_sdk_dynamodb::Client,
    table: String,
}

/// What the copy holds of a flow; empty if nothing.
#[derive(Debug, Default)]
pub(crate) struct Copied(Item);

/// What the copy holds of every flow, for whoever compares.
#[derive(Debug)]
pub struct Copies(pub(crate) HashMap<String, Copied>);

impl Copies {
    /// How an endpoint that reads the copy would answer otherwise than one that reads what was read; `None` if it would not.
    pub fn differ(&self, flow: &FlowName, seen: &Seen) -> Option<String> {
        let nothing = Copied::default();
        let copied = self.0.get(flow.as_str()).unwrap_or(&nothing);
        match (copied.weight(), seen.weight()) {
            (copied, seen) if copied != seen => Some(format!("the copy in the ledger's table holds {copied} %, the parameter {seen} %")),
            _ if copied.lacks_halt(seen).is_some() => Some("the copy in the ledger's table lacks the halt marker".to_owned()),
            _ if copied.split() != seen.rollout => Some("the copy in the ledger's table has another split".to_owned()),
            _ => None,
        }
    }
}

impl TableCopy {
    pub(crate) fn new(config: &Config, table: String) -> TableCopy {
        TableCopy { client: aws_sdk_dynamodb::Client::new(config), table }
    }

    /// What it holds of every flow, read consistently.
    pub(crate) async fn read(&self) -> Result<HashMap<String, Copied>, String> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND begins_with(sk, :flow)")
            .expression_attribute_values(":pk", text(PARTITION))
            .expression_attribute_values(":flow", text("FLOW#"));
        let items = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.map_err(|e| self.failed(said(e)))?;
        let flow = |item: &Item| Some(string(item, "sk").ok()?.strip_prefix("FLOW#")?.to_owned());
        Ok(items.into_iter().filter_map(|item| Some((flow(&item)?, Copied(item)))).collect())
    }

    /// Marks a rollout as contained, whatever else is there.
    pub(crate) async fn halt(&self, flow: &FlowName, rollout: &str) -> Result<(), String> {
        self.update(of(flow), Change::default().set("halt", text(rollout)), true).await.map(|_| ())
    }

    /// Takes all calls to stable, whatever else is there and without a version: lowering waits for nothing.
    pub(crate) async fn zero(&self, flow: &FlowName) -> Result<(), String> {
        self.update(of(flow), Change::default().set("percentage", text(Weight::ZERO.to_string())), true).await.map(|_| ())
    }

    /// The weight that Parameter Store has as this version, unless a later one is there.
    pub(crate) async fn percentage(&self, flow: &FlowName, weight: Weight, version: i64, retry: bool) -> Result<(), String> {
        let change = Change::default().set("percentage", text(weight.to_string())).set("revision", int(version));
        let change = change.only_if("(attribute_not_exists(#revision) OR #revision < :revision)".to_owned());
        self.update(of(flow), change, retry).await.map(|_| ())
    }

    /// The split of a rollout, which begins at 0.
    pub(crate) async fn rollout(&self, flow: &FlowName, split: &str) -> Result<(), String> {
        let mut change = Change::default().set("rollout", text(split));
        let percentage = change.named("percentage");
        change.values.insert(":zero".to_owned(), text(Weight::ZERO.to_string()));
        let change = change.only_if(format!("(attribute_not_exists({percentage}) OR {percentage} = :zero)"));
        match self.update(of(flow), change, true).await? {
            true => Ok(()),
            false => Err(self.failed("its percentage is not 0 yet; the next tick looks again".to_owned())),
        }
    }

    /// Every active flow was visited at this time.
    pub(crate) async fn beat(&self, at: Timestamp) -> Result<(), String> {
        self.update("HEARTBEAT".to_owned(), Change::default().set("at", text(format!("{at:.0}"))), true).await.map(|_| ())
    }

    /// Brings a flow to what was read of it, unless somebody wrote here since `copied` was read: then the next tick looks.
    pub(crate) async fn follow(&self, flow: &FlowName, copied: &Copied, seen: &Seen) -> Result<(), String> {
        if let Some(halted) = copied.lacks_halt(seen) {
            self.halt(flow, halted).await?;
        }
        if let Some(change) = copied.change(flow, seen) {
            self.update(of(flow), change, true).await?;
        }
        Ok(())
    }

    /// `false` if the change's condition does not hold.
    async fn update(&self, sk: String, change: Change, retry: bool) -> Result<bool, String> {
        let list = |word: &str, parts: &[String]| if parts.is_empty() { String::new() } else { format!("{word} {} ", parts.join(", ")) };
        let expression = list("SET", &change.set) + &list("REMOVE", &change.remove);
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(PARTITION.into(), sk)))
            .update_expression(expression.trim_end())
            .set_condition_expression((!change.only_if.is_empty()).then(|| change.only_if.join(" AND ")))
            .set_expression_attribute_names(Some(change.names))
            .set_expression_attribute_values((!change.values.is_empty()).then_some(change.values));
        let retries = if retry { RetryConfig::standard() } else { RetryConfig::disabled() };
        match update.customize().config_override(aws_sdk_dynamodb::config::Builder::new().retry_config(retries)).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => Ok(false),
            Err(error) => Err(self.failed(said(error))),
        }
    }

    fn failed(&self, reason: String) -> String {
        format!("its copy in table {}: {reason}", self.table)
    }
}

impl Copied {
    /// Whether calls may reach a canary by it.
    pub(crate) fn sends_calls(&self) -> bool {
        self.weight() > Weight::ZERO
    }

    /// What is no percentage is 0, as for the caller's question.
    fn weight(&self) -> Weight {
        string(&self.0, "percentage").ok().and_then(|text| text.parse().ok()).unwrap_or(Weight::ZERO)
    }

    /// Whether it has another split than was read. Of the two either may be the later.
    pub(crate) fn has_another_split(&self, seen: &Seen) -> bool {
        self.split().is_some_and(|split| seen.rollout.as_ref() != Some(&split))
    }

    /// The rollout that was read as halted and is not halted here. Never the other way round: a reading that lags lets nothing go on.
    fn lacks_halt<'a>(&self, seen: &'a Seen) -> Option<&'a str> {
        let split: Split = serde_json::from_str(seen.rollout.as_deref()?).ok()?;
        let halted = seen.halt.as_deref().filter(|_| seen.halts(&split.rollout))?;
        (string(&self.0, "halt").ok().as_deref() != Some(halted)).then_some(halted)
    }

    /// What makes it what was read, as far as that is the later, or lower.
    fn change(&self, flow: &FlowName, seen: &Seen) -> Option<Change> {
        let has = |name: &str| self.0.contains_key(name);
        let revision = number(&self.0, "revision").unwrap_or(0);
        let copied = self.weight();
        let is_later = seen.version() > revision;
        let mut change = Change::default();
        match &seen.percentage {
            // Versions begin anew when somebody makes it again.
            None if has("percentage") || has("revision") => change = change.remove("percentage").remove("revision"),
            None => {}
            Some((value, version)) => match value.parse::<Weight>() {
                Ok(weight) if is_later || weight < copied => {
                    // With the version it was read as: if that lagged, the next reading is later again.
                    change = change.set("percentage", text(weight.to_string())).set("revision", int(*version));
                }
                Ok(weight) if weight > copied && *version == revision => {
                    tracing::warn!(%flow, %weight, %copied, version, "the copy is lower than Parameter Store, which refused that or lags: it stays until there is another version");
                }
                Ok(_) => {}
                Err(_) if is_later || has("percentage") => change = change.remove("percentage").set("revision", int(*version)),
                Err(_) => {}
            },
        }
        if seen.version() >= revision && self.split() != seen.rollout {
            change = match &seen.rollout {
                Some(split) => change.set("rollout", text(split)),
                None => change.remove("rollout"),
            };
        }
        let found = |change: Change, name| change.while_found(name, self.0.get(name).cloned());
        (!change.is_empty()).then(|| ["percentage", "revision", "rollout"].into_iter().fold(change, found))
    }

    fn split(&self) -> Option<String> {
        string(&self.0, "rollout").ok()
    }
}

/// What is written into an item, and on which conditions. Names are attributes', which DynamoDB may have reserved.
#[derive(Debug, Default)]
struct Change {
    set: Vec<String>,
    remove: Vec<String>,
    only_if: Vec<String>,
    names: HashMap<String, String>,
    values: Item,
}

impl Change {
    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    fn named(&mut self, name: &str) -> String {
        let place = format!("#{name}");
        self.names.insert(place.clone(), name.to_owned());
        place
    }

    fn set(mut self, name: &str, value: AttributeValue) -> Change {
        let place = self.named(name);
        self.values.insert(format!(":{name}"), value);
        self.set.push(format!("{place} = :{name}"));
        self
    }

    fn remove(mut self, name: &str) -> Change {
        let place = self.named(name);
        self.remove.push(place);
        self
    }

    /// On a condition, in terms of what is set.
    fn only_if(mut self, condition: String) -> Change {
        self.only_if.push(condition);
        self
    }

    /// Only while the attribute is still so.
    fn while_found(mut self, name: &str, found: Option<AttributeValue>) -> Change {
        let place = self.named(name);
        let condition = match found {
            Some(found) => {
                self.values.insert(format!(":found_{name}"), found);
                format!("{place} = :found_{name}")
            }
            None => format!("attribute_not_exists({place})"),
        };
        self.only_if(condition)
    }
}

fn of(flow: &FlowName) -> String {
    format!("FLOW#{flow}")
}
