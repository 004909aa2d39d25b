//! The vendor's contract: the operations that Serin uses, and what fits them. It is stricter than the vendor, who may overlook what
//! it does not know: an invented path, parameter, property or value fails here.
//!
//! The file is written by `tests/local/contract/generate.py`. It holds a small part of JSON schema, all of which is read here: a
//! keyword that is not understood is an error, not a check left out. Permissions are in it too.
//! Depends on nothing else of this crate: the tests of the simulator and of the client include this file.

use axum::extract::Query;
use axum::http::Uri;
use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static CONTRACT: LazyLock<Contract> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../contract/genesys.json")).expect("the contract is one that was generated"));

/// All operations, in the order of method and path.
pub(crate) fn operations() -> &'static [Operation] {
    &CONTRACT.operations
}

/// The operation that a path and method mean. A literal path goes before one with a placeholder, whatever the method.
pub(crate) fn find(method: &str, path: &str) -> Option<&'static Operation> {
    let meant = operations().iter().filter(|operation| operation.matches(path));
    let closest = &meant.min_by_key(|operation| operation.path.matches('{').count())?.path;
    operations().iter().find(|operation| operation.method == method && operation.path == *closest)
}

/// Whether any operation needs this permission.
#[allow(dead_code, reason = "the tests that include this file do not ask")]
pub(crate) fn names_permission(permission: &str) -> bool {
    operations().iter().any(|operation| operation.rules.permissions.iter().any(|named| named == permission))
}

/// Why a request does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The vendor has no such operation, or Serin does not use it.
    NoSuchOperation,
    /// A parameter or the body; with the place and the reason.
    Malformed(String),
}

/// Whether a request fits; which operation it is.
pub(crate) fn check_request(method: &str, uri: &Uri, body: &[u8]) -> Result<&'static Operation, Misfit> {
    let operation = find(method, uri.path()).ok_or(Misfit::NoSuchOperation)?;
    operation.check_query(uri).and_then(|()| operation.check_body(body)).map_err(Misfit::Malformed)?;
    Ok(operation)
}

/// The contract as it is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contract {
    #[serde(rename = "source")]
    _source: String,
    #[serde(deserialize_with = "by_line")]
    operations: Vec<Operation>,
    schemas: BTreeMap<String, Schema>,
}

/// One operation of the vendor's.
#[derive(Debug)]
pub(crate) struct Operation {
    /// HTTP method.
    pub(crate) method: String,
    /// Path with `{placeholders}`.
    pub(crate) path: String,
    rules: Rules,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default)]
    all_permissions: bool,
    query: Schema,
    body: Option<Schema>,
    form: Option<Schema>,
    #[serde(default)]
    body_required: bool,
    response: Option<Schema>,
}

fn by_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Operation>, D::Error> {
    let lines: BTreeMap<String, Rules> = BTreeMap::deserialize(deserializer)?;
    let operation = |(line, rules): (String, Rules)| {
        let (method, path) = line.split_once(' ').ok_or_else(|| D::Error::custom(format!("`{line}` is no method and path")))?;
        Ok(Operation { method: method.to_owned(), path: path.to_owned(), rules })
    };
    lines.into_iter().map(operation).collect()
}

impl Operation {
    fn matches(&self, path: &str) -> bool {
        let fits = |(ours, theirs): (&str, &str)| ours == theirs || (ours.starts_with('{') && !theirs.is_empty());
        self.path.split('/').count() == path.split('/').count() && self.path.split('/').zip(path.split('/')).all(fits)
    }

    /// What a client must be granted, if what `holds` says of its permissions is not enough: one of these, or all.
    #[allow(dead_code, reason = "the tests that include this file do not ask")]
    pub(crate) fn missing(&self, holds: impl Fn(&str) -> bool) -> Option<String> {
        let permissions = &self.rules.permissions;
        let enough = if self.rules.all_permissions {
            permissions.iter().all(|permission| holds(permission))
        } else {
            permissions.is_empty() || permissions.iter().any(|permission| holds(permission))
        };
        (!enough).then(|| permissions.join(if self.rules.all_permissions { " and " } else { " or " }))
    }

    fn check_query(&self, uri: &Uri) -> Result<(), String> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| format!("query: {error}"))?;
        check(&self.rules.query, &self.rules.query.object_of(pairs), "query")
    }

    /// The vendor's clients send `null` where there is nothing to send.
    fn check_body(&self, body: &[u8]) -> Result<(), String> {
        if matches!(body.trim_ascii(), b"" | b"null") {
            return if self.rules.body_required { Err("body: it is required".to_owned()) } else { Ok(()) };
        }
        if let Some(schema) = &self.rules.form {
            let uri = format!("/?{}", String::from_utf8_lossy(body)).parse().map_err(|error| format!("body: {error}"))?;
            let Query(pairs) = Query::try_from_uri(&uri).map_err(|error| format!("body: {error}"))?;
            return check(schema, &schema.object_of(pairs), "body");
        }
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("body: {error}"))?;
        match &self.rules.body {
            Some(schema) => check(schema, &value, "body"),
            None => Err("body: this operation takes none".to_owned()),
        }
    }

    /// Whether this could be the vendor's answer: the operation's own for a success, the common one for a refusal.
    pub(crate) fn check_answer(&self, status: u16, body: &[u8]) -> Result<(), String> {
        let success = (200..300).contains(&status);
        let schema = if success { self.rules.response.as_ref() } else { CONTRACT.schemas.get("ErrorBody") };
        match schema {
            None if body.trim_ascii().is_empty() => Ok(()),
            None => Err("answer: this operation has none".to_owned()),
            Some(schema) => {
                let value: Value = serde_json::from_slice(body).map_err(|error| format!("answer: {error}"))?;
                check(schema, &value, "answer")
            }
        }
    }
}

/// The part of JSON schema that is in use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Schema {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    #[serde(rename = "type")]
    kind: Option<Kind>,
    format: Option<Format>,
    #[serde(rename = "enum", default)]
    accepted: Vec<String>,
    #[serde(default)]
    required: Vec<String>,
    properties: Option<BTreeMap<String, Schema>>,
    items: Option<Box<Schema>>,
    additional_properties: Option<Box<Schema>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Format {
    #[serde(rename = "date-time")]
    DateTime,
    #[serde(rename = "date")]
    Date,
}

impl Schema {
    /// Text pairs as the object that this schema describes. What does not fit stays text, so that the check names it.
    fn object_of(&self, pairs: Vec<(String, String)>) -> Value {
        let mut object = Map::new();
        for (name, text) in pairs {
            let schema = self.properties.as_ref().and_then(|known| known.get(&name));
            match schema.and_then(|schema| schema.items.as_deref()) {
                // A list comes as one text with commas or as several.
                Some(items) => {
                    let mut parts: Vec<Value> = text.split(',').map(|part| items.value_of(part)).collect();
                    match object.get_mut(&name) {
                        Some(Value::Array(list)) => list.append(&mut parts),
                        _ => drop(object.insert(name, Value::Array(parts))),
                    }
                }
                None => {
                    let value = schema.map_or_else(|| Value::String(text.clone()), |schema| schema.value_of(&text));
                    // Twice is a list, which a single value must not be.
                    let value = object.remove(&name).map_or(value.clone(), |first| Value::Array(vec![first, value]));
                    object.insert(name, value);
                }
            }
        }
        Value::Object(object)
    }

    fn value_of(&self, text: &str) -> Value {
        let read = match self.kind {
            Some(Kind::Boolean) => text.parse().ok().map(Value::Bool),
            Some(Kind::Integer | Kind::Number) => serde_json::from_str(text).ok().filter(Value::is_number),
            _ => None,
        };
        read.unwrap_or_else(|| Value::String(text.to_owned()))
    }
}

fn check(schema: &Schema, value: &Value, at: &str) -> Result<(), String> {
    if let Some(name) = &schema.reference {
        let schema = CONTRACT.schemas.get(name).ok_or_else(|| format!("{at}: the contract lacks {name}"))?;
        return check(schema, value, at);
    }
    let Some(kind) = schema.kind else { return Ok(()) };
    match (kind, value) {
        (Kind::String, Value::String(text)) => schema.check_text(text).map_err(|reason| format!("{at}: {reason}")),
        (Kind::Integer, Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(()),
        (Kind::Number, Value::Number(_)) | (Kind::Boolean, Value::Bool(_)) => Ok(()),
        (Kind::Array, Value::Array(entries)) => match &schema.items {
            Some(items) => entries.iter().enumerate().try_for_each(|(index, entry)| check(items, entry, &format!("{at}[{index}]"))),
            None => Ok(()),
        },
        (Kind::Object, Value::Object(object)) => schema.check_object(object, at),
        _ => Err(format!("{at}: {} is no {}", shown(value), format!("{kind:?}").to_lowercase())),
    }
}

impl Schema {
    fn check_text(&self, text: &str) -> Result<(), String> {
        if !self.accepted.is_empty() && !self.accepted.iter().any(|accepted| accepted == text) {
            return Err(format!("`{text}` is not one of {}", abridged(&self.accepted)));
        }
        match self.format {
            Some(Format::DateTime) if text.parse::<Timestamp>().is_err() => {
                Err(format!("`{text}` is no time such as 2026-11-20T09:00:00Z"))
            }
            Some(Format::Date) if text.parse::<jiff::civil::Date>().is_err() => Err(format!("`{text}` is no date such as 2026-11-20")),
            _ => Ok(()),
        }
    }

    /// Null is as good as absent. Where properties are listed, others are not accepted unless the schema says what they may be.
    fn check_object(&self, object: &Map<String, Value>, at: &str) -> Result<(), String> {
        if let Some(name) = self.required.iter().find(|name| object.get(*name).is_none_or(Value::is_null)) {
            return Err(format!("{at}: {name} is required"));
        }
        for (name, value) in object.iter() {
            let known = self.properties.as_ref().and_then(|properties| properties.get(name));
            match known.or(self.additional_properties.as_deref()) {
                Some(_) if value.is_null() => {}
                Some(schema) => check(schema, value, &format!("{at}.{name}"))?,
                None if self.properties.is_none() => {}
                None => return Err(format!("{at}: {name} is not known")),
            }
        }
        Ok(())
    }
}

/// Enough of a list to see what it is about.
fn abridged(accepted: &[String]) -> String {
    let rest = accepted.len().saturating_sub(8);
    let first = accepted.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    if rest == 0 { first } else { format!("{first} and {rest} more") }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { format!("{}…", text.chars().take(60).collect::<String>()) } else { text }
}
