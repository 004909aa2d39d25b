//! Who changed what, and when: the changes that clients and people make, and the record of them that an audit is asked for.
//!
//! Left out: uploads and publishes, which take a while (`organization`); they come here once they are done.

use crate::flow::{Operation, Target};
use crate::organization::{DEPLOYMENT_CONTROL, Organization};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Actor {
    /// An OAuth client, by id.
    Client(String),
    /// A person, by name.
    Person(String),
}

impl Actor {
    pub(crate) fn id(&self) -> String {
        match self {
            Actor::Client(id) => id.clone(),
            Actor::Person(name) => user_id(name),
        }
    }

    /// As the vendor refers to whoever published a flow.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Actor::Client(id) => json!({"id": id}),
            Actor::Person(name) => json!({"id": user_id(name), "name": name}),
        }
    }
}

/// Id of the person of this name.
pub(crate) fn user_id(name: &str) -> String {
    format!("user-{}", name.to_lowercase().replace(' ', "-"))
}

/// What was done, in the vendor's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Publish,
    Create,
    Update,
    Delete,
}

/// What a change was made to. The vendor's service mapping is not published; these are the entity types of its audit events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    Flow,
    Row,
    Ivr,
    EmergencyGroup,
}

impl Thing {
    pub(crate) fn entity_type(self) -> &'static str {
        match self {
            Thing::Flow => "Flow",
            Thing::Row => "Row",
            Thing::Ivr => "IVR",
            Thing::EmergencyGroup => "EmergencyGroup",
        }
    }

    pub(crate) fn service(self) -> &'static str {
        match self {
            Thing::Flow => "Architect",
            Thing::Row => "Datatables",
            Thing::Ivr | Thing::EmergencyGroup => "Telephony",
        }
    }
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    pub(crate) id: String,
    /// Virtual time.
    pub(crate) at: Timestamp,
    pub(crate) by: Actor,
    pub(crate) action: Action,
    pub(crate) thing: Thing,
    /// Id of the flow, IVR configuration or emergency group; of a row, the id of its table.
    pub(crate) id_of_thing: String,
    /// Name of it; of a row, its key.
    pub(crate) name: String,
}

impl Organization {
    pub(crate) fn record(&mut self, by: Actor, action: Action, thing: Thing, (id, name): (&str, &str)) {
        let (id_of_thing, name) = (id.to_owned(), name.to_owned());
        let audit = Audit { id: self.mint("audit"), at: self.now, by, action, thing, id_of_thing, name };
        self.audits.push(audit);
    }

    /// Writes a whole row, which is made if there is none.
    pub(crate) fn write_row(&mut self, by: Actor, key: &str, row: Value) {
        let before = self.rows.insert(key.to_owned(), row);
        let action = if before.is_some() { Action::Update } else { Action::Create };
        self.record(by, action, Thing::Row, (DEPLOYMENT_CONTROL, key));
    }

    /// Whether there was such a row.
    pub(crate) fn delete_row(&mut self, by: Actor, key: &str) -> bool {
        let existed = self.rows.remove(key).is_some();
        if existed {
            self.record(by, Action::Delete, Thing::Row, (DEPLOYMENT_CONTROL, key));
        }
        existed
    }

    /// Counts a change of an IVR configuration that was made just now.
    pub(crate) fn ivr_changed(&mut self, by: Actor, index: usize) {
        self.ivrs[index].version += 1;
        let (id, name) = (self.ivrs[index].id.clone(), self.ivrs[index].name.clone());
        self.record(by, Action::Update, Thing::Ivr, (&id, &name));
    }

    /// Counts a change of an emergency group that was made just now.
    pub(crate) fn emergency_group_changed(&mut self, by: Actor, index: usize) {
        self.emergency_groups[index].version += 1;
        let (id, name) = (self.emergency_groups[index].id.clone(), self.emergency_groups[index].name.clone());
        self.record(by, Action::Update, Thing::EmergencyGroup, (&id, &name));
    }

    /// A person publishes a version of a flow that is not busy: it is live at once.
    pub(crate) fn publish_by_hand(&mut self, index: usize, version: usize, person: &str) {
        let (id, wall) = (self.mint("operation"), self.wall.now());
        let (by, target) = (Actor::Person(person.to_owned()), Target::Existing(version));
        self.flows[index].operation = Some(Operation { id, by, target, done_at: wall, will_fail: false, complete: false });
        self.settle(wall);
    }
}

/// The data table's schema, as the vendor writes one.
pub(crate) fn row_schema() -> Value {
    let properties = COLUMNS.map(|(name, kind)| (name.to_owned(), json!({"title": name, "type": kind})));
    json!({
        "$schema": "http://json-schema.org/draft-04/schema#", "title": "Deployment_Control", "type": "object", "required": ["key"],
        "properties": properties.into_iter().collect::<serde_json::Map<_, _>>(), "additionalProperties": false,
    })
}

/// Columns of the data table, with their types.
const COLUMNS: [(&str, &str); 5] =
    [("key", "string"), ("Active_Flow_ID", "string"), ("Traffic_Weight", "integer"), ("revision", "integer"), ("owner", "string")];

/// The key of a row that fits the table's schema, or why it does not.
pub(crate) fn key_of(row: &Value) -> Result<String, String> {
    for (name, value) in row.as_object().ok_or("a row is an object")? {
        let fits = match COLUMNS.iter().find(|(column, _)| column == name) {
            None => return Err(format!("the table has no column {name}")),
            Some((_, "integer")) => value.is_i64(),
            Some(_) => value.is_string(),
        };
        if !fits {
            return Err(format!("column {name} does not take {value}"));
        }
    }
    let key = row["key"].as_str().filter(|key| !key.is_empty());
    key.map(str::to_owned).ok_or_else(|| "the row has no key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_key_and_columns_of_the_table_alone() {
        let whole = json!({"key": "main_ivr", "Active_Flow_ID": "f", "Traffic_Weight": 100, "revision": 3, "owner": "prod"});
        assert_eq!(key_of(&whole).as_deref(), Ok("main_ivr"));
        assert_eq!(key_of(&json!({"key": "k"})).as_deref(), Ok("k"));
        for bad in [
            json!([]),
            json!({"owner": "prod"}),
            json!({"key": ""}),
            json!({"key": "k", "weight": 5}),
            json!({"key": "k", "Traffic_Weight": 2.5}),
            json!({"key": "k", "Traffic_Weight": "100"}),
            json!({"key": "k", "owner": null}),
        ] {
            assert!(key_of(&bad).is_err(), "{bad}");
        }
    }
}
