//! The JSON Schema of the rollout file, for editors.
//!
//! Fields, defaults and descriptions are the types' own. What the types check in code ([`Plan::refusals`]) is said here once more as far
//! as a schema can say it; tests hold both against the same files.

use crate::rollout::{FlowName, Plan};
use crate::weight::Weight;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

impl JsonSchema for FlowName {
    fn schema_name() -> Cow<'static, str> {
        "FlowName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "examples": ["main_ivr"]})
    }
}

impl JsonSchema for Weight {
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }

    /// Without `multipleOf`: editors reckon it in binary fractions and would refuse 0.07.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 100, "description": "Percent, with at most two decimals."})
    }
}

/// The schema of a rollout file, draft 2020-12.
pub fn rollout_file() -> Value {
    let mut schema = schemars::schema_for!(Plan).to_value();
    plain(&mut schema);
    for (place, keywords) in KEYWORDS {
        let field = schema.pointer_mut(place).unwrap_or_else(|| panic!("the schema has {place}"));
        let (Value::Object(field), Ok(Value::Object(keywords))) = (field, serde_json::from_str(keywords)) else {
            panic!("{place} and its keywords are objects");
        };
        field.extend(keywords);
    }
    for rule in schema["$defs"]["Rule"]["oneOf"].as_array_mut().expect("one schema for each rule") {
        bound_rule(rule["properties"].as_object_mut().expect("a rule has fields"));
    }
    let policy = &mut schema["$defs"]["Policy"];
    policy["dependentRequired"] = json!({"exposure_budget": ["expected_calls_per_hour"]});
    policy["if"] = json!({"required": ["exposure_budget"]});
    policy["then"] = json!({"properties": {"rule": {"properties": {"kind": {"const": "sequential"}}}}});
    let root = schema.as_object_mut().expect("a schema is an object");
    root.insert("$id".into(), "urn:serin:rollout-file:1".into());
    root.insert("title".into(), "Serin rollout file".into());
    root.insert("allOf".into(), by_strategy());
    schema
}

/// Without what only Rust programmers need: `null` for what is left out, sizes of integers, line breaks of comments.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("format");
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            if let Some(Value::Array(types)) = fields.get("type") {
                let one = types.iter().find(|kind| **kind != "null").cloned();
                fields.extend(one.map(|kind| ("type".to_owned(), kind)));
            }
            if let Some(Value::Array(any)) = fields.get("anyOf")
                && let [Value::Object(one), Value::Object(nothing)] = any.as_slice()
                && nothing.get("type").is_some_and(|kind| kind == "null")
            {
                let one = one.clone();
                fields.remove("anyOf");
                fields.extend(one);
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            // A whole policy as a default says nothing that its fields do not say.
            if fields.get("$ref").is_some_and(|to| to == "#/$defs/Policy") {
                fields.remove("default");
            }
            fields.values_mut().for_each(plain);
        }
        Value::Array(all) => all.iter_mut().for_each(plain),
        _ => {}
    }
}

/// What stands for an id in Genesys Cloud, a version and a label.
const NAME: &str = r#"{"pattern": "^[A-Za-z0-9._-]{1,64}$"}"#;
const ID: &str = r#"{"pattern": "^[A-Za-z0-9._-]{1,64}$", "examples": ["b10e4f6a-3c1d-4a52-9c0e-2f6d1b7a9e01"]}"#;
const COUNT: &str = r#"{"minimum": 1, "maximum": 43200}"#;
const MINUTES: &str = r#"{"minimum": 1}"#;
const PERCENT: &str = r#"{"exclusiveMinimum": 0, "maximum": 100}"#;

/// What [`Plan::refusals`] checks of single fields.
const KEYWORDS: [(&str, &str); 37] = [
    ("/$defs/StableSlot/properties/flow_id", ID),
    ("/$defs/CanarySlot/properties/flow_id", ID),
    ("/$defs/CanarySlot/properties/version", r#"{"pattern": "^[A-Za-z0-9._-]{1,64}$", "examples": ["15.0"]}"#),
    ("/$defs/Labels/properties/stable", NAME),
    ("/$defs/Labels/properties/canary", NAME),
    ("/$defs/PointerTable/properties/table", ID),
    ("/$defs/Outcomes/properties/stable", ID),
    ("/$defs/Outcomes/properties/canary", ID),
    ("/$defs/ActionTest/properties/id", ID),
    ("/$defs/WayBack/properties/ivr", ID),
    ("/$defs/WayBack/properties/emergency_group", ID),
    ("/$defs/WayBack/properties/known_good_days", r#"{"minimum": 1, "examples": [90]}"#),
    ("/$defs/Smoke/properties/dnis", r#"{"pattern": "^(\\+[0-9]{1,19}|[0-9]{2,20})$", "examples": ["+15550199"]}"#),
    ("/$defs/Minutes", r#"{"maximum": 43200}"#),
    ("/$defs/Policy/properties/steps", r#"{"minItems": 1, "examples": [[5, 25, 50], [1, 5, 25, 50]]}"#),
    ("/$defs/Policy/properties/steps/items", r#"{"exclusiveMinimum": 0, "exclusiveMaximum": 100}"#),
    ("/$defs/Policy/properties/bake_time", MINUTES),
    ("/$defs/Policy/properties/final_bake_time", MINUTES),
    ("/$defs/Policy/properties/max_blind", MINUTES),
    ("/$defs/Policy/properties/pause_expiry", MINUTES),
    ("/$defs/Policy/properties/step_cap", MINUTES),
    ("/$defs/Policy/properties/min_canary_calls", COUNT),
    ("/$defs/Policy/properties/exposure_budget", r#"{"minimum": 1, "maximum": 43200, "examples": [20]}"#),
    ("/$defs/Policy/properties/expected_calls_per_hour", r#"{"minimum": 0, "maximum": 10000000, "examples": [3000]}"#),
    ("/$defs/Catastrophe/properties/percent", PERCENT),
    ("/$defs/Catastrophe/properties/calls", COUNT),
    ("/$defs/ErrorLimit/properties/percent", PERCENT),
    ("/$defs/ErrorLimit/properties/windows", COUNT),
    ("/$defs/ErrorLimit/properties/min_calls", COUNT),
    ("/$defs/MetricRule/properties/name", r#"{"enum": ["error", "abandon", "transfer", "handle", "containment"]}"#),
    ("/$defs/MetricRule/properties/tolerance", r#"{"exclusiveMinimum": 0, "exclusiveMaximum": 200}"#),
    ("/$defs/MetricRule/properties/margin", r#"{"exclusiveMinimum": 0, "maximum": 200}"#),
    ("/$defs/Rule", r#"{"examples": [{"kind": "sequential"}]}"#),
    ("/properties/stable", r#"{"examples": [{"flow_id": "b10e4f6a-3c1d-4a52-9c0e-2f6d1b7a9e01"}]}"#),
    ("/properties/canary", r#"{"examples": [{"flow_id": "97ee2d18-7a40-4d4b-8d37-51c0e8f3a602", "version": "15.0"}]}"#),
    ("/properties/finalize", r#"{"default": "copy"}"#),
    ("/properties/validate", r#"{"default": false}"#),
];

/// The same of the fields of a rule.
fn bound_rule(fields: &mut Map<String, Value>) {
    for (name, field) in fields {
        let bounds = match name.as_str() {
            "alpha" => json!({"exclusiveMinimum": 0, "maximum": 0.2}),
            "metrics" => json!({"minItems": 1, "maxItems": 8}),
            "max_step" | "evaluate_every" | "lookback" | "interval" => json!({"minimum": 1}),
            "breach_limit" | "intervals" | "min_calls" | "minutes" => json!({"minimum": 1, "maximum": 43_200}),
            "abandon_points" | "transfer_points" | "error_percent" | "percent" => json!({"exclusiveMinimum": 0, "maximum": 100}),
            _ => continue,
        };
        let (Value::Object(field), Value::Object(bounds)) = (field, bounds) else { unreachable!("both are objects") };
        field.extend(bounds);
    }
}

/// What each strategy needs, and what it has no use for.
fn by_strategy() -> Value {
    let one_of = |names: &[&str]| json!({"properties": {"strategy": {"enum": names}}, "required": ["strategy"]});
    let policy = |rules: Value| json!({"properties": {"policy": {"properties": rules}}});
    let told_by_outcomes = json!({
        "oneOf": [
            {"properties": {"kind": {"const": "consecutive"}}},
            {
                "properties": {
                    "kind": {"const": "sequential"},
                    "metrics": {"items": {"properties": {"name": {"enum": ["error", "containment"]}}}},
                },
                "required": ["metrics"],
            },
        ],
    });
    json!([
        {
            "if": one_of(&["in-flow", "publish-watch"]),
            "then": {"properties": {"stable": false, "smoke": false, "rollback": {"properties": {"ivr": false}}}},
            "else": {"required": ["stable"]},
        },
        {
            "if": one_of(&["pointer"]),
            "then": {"required": ["pointer"]},
            "else": {"properties": {"pointer": false, "finalize": {"const": "copy"}}},
        },
        {
            "if": one_of(&["in-flow"]),
            "then": {
                "required": ["outcomes", "policy"],
                "properties": {
                    "policy": {"required": ["rule"], "properties": {"rule": told_by_outcomes, "bake_rule": told_by_outcomes}},
                },
            },
            "else": {"properties": {"outcomes": false}},
        },
        {"if": one_of(&["pointer", "publish-watch"]), "then": policy(json!({"mode": {"const": "act"}}))},
        {
            "if": {"properties": {"policy": {"properties": {"mode": {"const": "observe"}}, "required": ["mode"]}}, "required": ["policy"]},
            "then": {"properties": {"smoke": false}},
        },
    ])
}
