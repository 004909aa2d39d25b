//! Holds a payload against what its vendor documents: the part of JSON Schema that `tests/data/*.schema.json` use.

use serde_json::Value;

/// Panics with the place that does not fit.
pub(crate) fn check(vendor: &str, payload: &Value) {
    let path = format!("{}/tests/data/{vendor}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path);
    if let Err(problem) = fits(&schema, payload, vendor) {
        panic!("{problem}\n{payload:#}");
    }
}

fn fits(schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let schema = schema.as_object().expect("a schema is an object");
    for (word, rule) in schema {
        let holds = match word.as_str() {
            "$comment" => true,
            "type" => rule == kind(value),
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "minLength" => length(value) >= rule.as_u64().unwrap(),
            "maxLength" => length(value) <= rule.as_u64().unwrap(),
            "minItems" => value.as_array().unwrap().len() as u64 >= rule.as_u64().unwrap(),
            "maxItems" => value.as_array().unwrap().len() as u64 <= rule.as_u64().unwrap(),
            "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" if rule.is_boolean() => {
                value.as_object().unwrap().keys().all(|name| schema["properties"].get(name).is_some())
            }
            "additionalProperties" => each(value.as_object().unwrap().iter(), |_| Some(rule), place)?,
            "properties" => each(value.as_object().unwrap().iter(), |name| rule.get(name), place)?,
            "items" => each(value.as_array().unwrap().iter().enumerate().map(|(i, v)| (i.to_string(), v)), |_| Some(rule), place)?,
            "oneOf" => {
                let refused: Vec<String> = rule.as_array().unwrap().iter().filter_map(|choice| fits(choice, value, place).err()).collect();
                match refused.len() + 1 == rule.as_array().unwrap().len() {
                    true => true,
                    false => return Err(format!("{place} is not exactly one of its forms: {refused:#?}")),
                }
            }
            other => panic!("{place}: the word {other} is not known here"),
        };
        if !holds {
            return Err(format!("{place}: {word} {rule}"));
        }
    }
    Ok(())
}

fn each<'a, N: AsRef<str> + std::fmt::Display>(
    values: impl Iterator<Item = (N, &'a Value)>,
    rule: impl Fn(&str) -> Option<&'a Value>,
    place: &str,
) -> Result<bool, String> {
    for (name, value) in values {
        if let Some(rule) = rule(name.as_ref()) {
            fits(rule, value, &format!("{place}.{name}"))?;
        }
    }
    Ok(true)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn length(value: &Value) -> u64 {
    value.as_str().unwrap().encode_utf16().count() as u64
}

#[test]
fn what_does_not_fit_is_found() {
    let event = |summary: &str, severity: &str| {
        let payload = serde_json::json!({"summary": summary, "severity": severity, "source": "x"});
        serde_json::json!({"routing_key": "0".repeat(32), "event_action": "trigger", "dedup_key": "k", "payload": payload})
    };
    check("pagerduty", &event("fine", "critical"));
    for bad in [event(&"x".repeat(1_025), "critical"), event("fine", "urgent"), serde_json::json!({"event_action": "resolve"})] {
        std::panic::catch_unwind(|| check("pagerduty", &bad)).unwrap_err();
    }
}
