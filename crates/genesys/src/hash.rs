//! Knowing a configuration again: after a publish that minted a new number, and in the other flow under another name.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Keys of the top level that say which flow and which version it is, when and by whom it was made, but not what it does.
///
/// Exactly these are left out, at the top level only: further down, an id says which queue or prompt is meant, and a name may be
/// spoken. So two configurations with the same hash do the same; a vendor that mints new ids inside of a copy makes them differ,
/// which shows as "does not run it" and never as a false match.
const IDENTITY: [&str; 32] = [
    "id",
    "ids",
    "name",
    "flowId",
    "flowName",
    "flowVersion",
    "version",
    "versionId",
    "versionName",
    "commitVersion",
    "configurationVersion",
    "generationId",
    "publishedVersion",
    "checkedInVersion",
    "savedVersion",
    "debugVersion",
    "currentOperation",
    "selfUri",
    "configurationUri",
    "publishResultUri",
    "dateCreated",
    "dateModified",
    "dateSaved",
    "dateCheckedIn",
    "datePublished",
    "datePublishedEnd",
    "createdBy",
    "createdByClient",
    "modifiedBy",
    "publishedBy",
    "lockedUser",
    "lockedClient",
];

/// SHA-256, in hexadecimal, of what a configuration does: without identity, whatever the order of its keys.
pub fn configuration_hash(configuration: &Value) -> String {
    let mut text = String::new();
    match configuration {
        Value::Object(map) => write_sorted(map.iter().filter(|(key, _)| !IDENTITY.contains(&key.as_str())), &mut text),
        other => write(other, &mut text),
    }
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => write_sorted(map.iter(), text),
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write(item, text);
                text.push(',');
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn write_sorted<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>, text: &mut String) {
    // Sorted here: whether a map of serde_json is depends on what else is compiled in.
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|(key, _)| *key);
    text.push('{');
    for (key, value) in entries {
        text.push_str(&Value::from(key.as_str()).to_string());
        text.push(':');
        write(value, text);
        text.push(',');
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_configuration_is_known_again_under_another_name_and_number() {
        let canary =
            json!({"id": "g", "name": "Green", "version": "3.0", "selfUri": "/a", "tasks": [{"id": 1, "b": 2.5}], "type": "INBOUNDCALL"});
        let stable =
            json!({"type": "INBOUNDCALL", "tasks": [{"b": 2.5, "id": 1}], "name": "Blue", "version": "14.0", "id": "b", "ids": ["x"]});
        assert_eq!(configuration_hash(&canary), configuration_hash(&stable));
        assert_eq!(configuration_hash(&canary).len(), 64);
    }

    #[test]
    fn whatever_it_does_changes_the_hash() {
        let base = json!({"name": "A", "tasks": [{"id": "q1", "name": "x"}, {"id": "q2"}]});
        for other in [
            json!({"name": "A", "tasks": [{"id": "q9", "name": "x"}, {"id": "q2"}]}),
            json!({"name": "A", "tasks": [{"id": "q1", "name": "y"}, {"id": "q2"}]}),
            json!({"name": "A", "tasks": [{"id": "q2"}, {"id": "q1", "name": "x"}]}),
            json!({"name": "A", "tasks": [{"id": "q1", "name": "x"}, {"id": "q2"}], "more": null}),
            json!({"name": "A"}),
        ] {
            assert_ne!(configuration_hash(&base), configuration_hash(&other), "{other}");
        }
    }
}
