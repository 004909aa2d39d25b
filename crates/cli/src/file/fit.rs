//! Whether a tree has the shape that the schema asks for: its keys, and the kind of each value.
//!
//! Only what must fit before the types can be read; bounds and what belongs together is theirs to check, who say it better
//! ([`serin_core::rollout::Plan::refusals`]). All misfits are told, each with its place.

use super::Problem;
use super::tree::{Entry, Is, Node, Spot};
use serde_json::{Map, Value};
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;

/// Likeness (Jaro) from which one word is suggested for another.
const ALIKE: f64 = 0.8;

/// What does not fit.
pub(super) fn fit(schema: &Value, file: &Node) -> Vec<Problem> {
    let mut fit = Fit { schema, problems: Vec::new() };
    fit.value(schema, file, Spot { width: 1, ..file.spot }, "");
    fit.problems
}

/// `a` and `b` as `a.b`.
fn under(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

struct Fit<'a> {
    schema: &'a Value,
    problems: Vec<Problem>,
}

impl<'a> Fit<'a> {
    fn say(&mut self, spot: Spot, said: String, hint: Option<String>) {
        self.problems.push(Problem { spot, said, hint });
    }

    /// A schema with what it refers to, and the name of that.
    fn whole(&self, schema: &Value) -> (Map<String, Value>, String) {
        let own = schema.as_object().cloned().unwrap_or_default();
        let Some(name) = own.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/$defs/")) else {
            return (own, String::new());
        };
        let name = name.to_owned();
        let mut whole = self.schema["$defs"][&name].as_object().cloned().unwrap_or_default();
        whole.extend(own);
        (whole, name)
    }

    /// `at` is where its key stands.
    fn value(&mut self, schema: &Value, node: &Node, at: Spot, path: &str) {
        let (schema, name) = self.whole(schema);
        let hint = hint(&schema, path);
        if matches!(node.is, Is::Null) && !path.is_empty() {
            return self.say(at, format!("{path} has no value: write one, or leave it out"), hint);
        }
        if let Some(kinds) = schema.get("oneOf").and_then(Value::as_array) {
            return match kinds[0].get("properties").is_some() {
                true => self.kind(kinds, node, at, path, hint),
                false => self.word(kinds.iter().filter_map(|kind| kind["const"].as_str()).collect(), node, path, hint),
            };
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return self.word(words.iter().filter_map(Value::as_str).collect(), node, path, hint);
        }
        match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
            "object" => self.object(&schema, node, at, path, hint),
            "array" => match &node.is {
                Is::List(items) => {
                    for (number, item) in items.iter().enumerate() {
                        self.value(&schema["items"], item, item.spot, &format!("{path}[{number}]"));
                    }
                }
                _ => {
                    let example = schema.get("examples").or(schema.get("default")).map(|all| match &all[0] {
                        example @ Value::Array(_) => format!(", such as {}", flow(example)),
                        _ => format!(", such as {}", flow(all)),
                    });
                    self.misfit(node, path, &format!("a list is{}", example.unwrap_or_default()), hint);
                }
            },
            "string" => self.text(&name, node, path, hint),
            "integer" => self.integer(&schema, &name, node, path, hint),
            "number" => self.number(&name, node, path, hint),
            "boolean" if !matches!(node.is, Is::Bool(_)) => self.misfit(node, path, "true or false is", hint),
            _ => {}
        }
    }

    fn misfit(&mut self, node: &Node, path: &str, accepted: &str, hint: Option<String>) {
        let said = match &node.is {
            Is::List(_) => format!("{path} is not accepted as a list: {accepted}"),
            Is::Map(_) => format!("{path} is not accepted as a group of settings: {accepted}"),
            Is::Number(_) | Is::NoNumber => format!("{path} {} is not accepted: {accepted}", short(&node.written)),
            _ => format!("{path} `{}` is not accepted: {accepted}", short(&node.written)),
        };
        self.say(node.spot, said, hint);
    }

    fn object(&mut self, schema: &Map<String, Value>, node: &Node, at: Spot, path: &str, hint: Option<String>) {
        let none = Map::new();
        let fields = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let Is::Map(entries) = &node.is else {
            let others: Vec<&str> = fields.keys().map(String::as_str).filter(|name| !required.contains(name)).collect();
            let also = if others.is_empty() { String::new() } else { format!("; it may also have {}", listed(&others, "and")) };
            let accepted = match required.as_slice() {
                _ if path.is_empty() => {
                    let said = "a rollout file is made of settings, such as `flow: main_ivr`, one below the other";
                    return self.say(node.spot, said.to_owned(), None);
                }
                [] if fields.is_empty() => "write it as {key: value, …}".to_owned(),
                [] => format!("it has settings of its own: {}", listed(&others, "and")),
                [one] if !node.written.is_empty() => format!("write it as {{{one}: {}}}{also}", short(&node.written)),
                all => format!("write it as {{{}: …}}{also}", all.join(": …, ")),
            };
            return self.misfit(node, path, &accepted, hint);
        };
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return;
        }
        let mut meant = Vec::new();
        for Entry { key, spot, value } in entries {
            match fields.get(key) {
                Some(field) => self.value(field, value, *spot, &under(path, key)),
                None => meant.extend(self.unknown(fields, entries, key, *spot, path)),
            }
        }
        for missing in required {
            if node.entry(missing).is_none() && !meant.contains(&missing.to_owned()) {
                let (field, _) = self.whole(&fields[missing]);
                let place = under(path, missing);
                let keys: Vec<&str> =
                    field.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
                let example = if keys.is_empty() { String::new() } else { format!(": write {missing}: {{{}: …}}", keys.join(": …, ")) };
                self.say(at, format!("{place} is missing{example}"), self::hint(&field, &place));
            }
        }
    }

    /// What a key that nobody knows was meant to be, if that can be told.
    fn unknown(&mut self, fields: &Map<String, Value>, siblings: &[Entry], key: &str, spot: Spot, path: &str) -> Option<String> {
        let free = fields.keys().filter(|name| !siblings.iter().any(|entry| entry.key == **name));
        let alike = free.map(|name| (strsim::jaro(name, &key.to_lowercase()), name)).filter(|(likeness, _)| *likeness > ALIKE);
        let meant = alike.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name.clone());
        let elsewhere = self.places(key, path);
        let known: Vec<&str> = fields.keys().map(String::as_str).collect();
        let mut said = format!("`{}` is not known {}", short(key), if path.is_empty() { "here".into() } else { format!("in {path}") });
        match (&meant, elsewhere.is_empty()) {
            (_, false) => said += &format!(": it belongs to {}", listed(&elsewhere.iter().map(String::as_str).collect::<Vec<_>>(), "or")),
            (Some(name), _) => said += &format!(": did you mean `{name}`?"),
            (None, _) if known.len() == 1 => said += &format!(": only {} is", known[0]),
            (None, _) => said += &format!(": {} are", listed(&known, "and")),
        }
        self.say(spot, said, None);
        meant.filter(|_| elsewhere.is_empty())
    }

    /// Where else such a key is known.
    fn places(&self, key: &str, path: &str) -> Vec<String> {
        let has = |schema: &Value| schema["properties"].get(key).is_some();
        let mut places = Vec::new();
        let roots = [("the top level", "", self.schema), ("policy", "policy", &self.schema["$defs"]["Policy"])];
        places.extend(roots.iter().filter(|(_, at, schema)| *at != path && has(schema)).map(|(name, ..)| (*name).to_owned()));
        for (at, fields) in [("", self.schema), ("policy.", &self.schema["$defs"]["Policy"])] {
            for (name, field) in fields["properties"].as_object().into_iter().flatten() {
                let (whole, _) = self.whole(field);
                let place = format!("{at}{name}");
                if place != path && place != "policy" && has(&Value::Object(whole.clone())) {
                    places.push(place);
                } else if name == "rule" {
                    let kinds = whole["oneOf"].as_array().into_iter().flatten().filter(|kind| has(kind));
                    places.extend(kinds.filter_map(|kind| Some(format!("rule {}", kind["properties"]["kind"]["const"].as_str()?))));
                }
            }
        }
        places.truncate(3);
        places
    }

    fn word(&mut self, words: Vec<&str>, node: &Node, path: &str, hint: Option<String>) {
        let written = node.written.as_str();
        if matches!(node.is, Is::Text) && words.contains(&written) {
            return;
        }
        let alike = words.iter().map(|word| (strsim::jaro(word, &written.to_lowercase()), *word)).filter(|(likeness, _)| *likeness > ALIKE);
        let meant = alike.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| format!("; did you mean `{word}`?"));
        let accepted = format!("{} is{}", listed(&words, "or"), meant.unwrap_or_default());
        self.misfit(node, path, &accepted, hint);
    }

    /// One of several groups of settings, told apart by `kind`.
    fn kind(&mut self, kinds: &[Value], node: &Node, at: Spot, path: &str, hint: Option<String>) {
        let names: Vec<&str> = kinds.iter().filter_map(|kind| kind["properties"]["kind"]["const"].as_str()).collect();
        let Is::Map(_) = &node.is else {
            let written = if names.contains(&node.written.as_str()) { &node.written } else { names[0] };
            return self.misfit(node, path, &format!("write it as {{kind: {written}}}"), hint);
        };
        match node.entry("kind") {
            None => self.say(at, format!("{}.kind is missing: {} is", path, listed(&names, "or")), hint),
            Some(entry) => match names.iter().position(|name| matches!(entry.value.is, Is::Text) && *name == entry.value.written) {
                Some(number) => self.value(&kinds[number], node, at, path),
                None => self.word(names, &entry.value, &under(path, "kind"), hint),
            },
        }
    }

    fn text(&mut self, name: &str, node: &Node, path: &str, hint: Option<String>) {
        let written = short(&node.written);
        let quoted =
            |what: &str| format!("{path} {written} is not accepted without quotes, because YAML takes it for {what}: write \"{written}\"");
        match &node.is {
            Is::Text if name == "FlowName" => {
                if let Err(why) = FlowName::try_from(node.written.clone()) {
                    self.say(node.spot, format!("{path} {}", why.strip_prefix("flow ").unwrap_or(&why)), hint);
                }
            }
            Is::Text => {}
            Is::Number(_) | Is::NoNumber => self.say(node.spot, quoted("a number"), hint),
            Is::Bool(_) => self.say(node.spot, quoted("a boolean"), hint),
            _ => self.misfit(node, path, "a text is", hint),
        }
    }

    fn integer(&mut self, schema: &Map<String, Value>, name: &str, node: &Node, path: &str, hint: Option<String>) {
        let bound = |key: &str| schema.get(key).and_then(Value::as_i64);
        let range = match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) => format!(" from {least} to {most}"),
            _ => String::new(),
        };
        let inside = |value: i64| bound("minimum").is_none_or(|least| least <= value) && bound("maximum").is_none_or(|most| value <= most);
        match &node.is {
            Is::Number(number) if number.as_i64().is_some_and(inside) => {}
            _ if name == "Minutes" => {
                self.misfit(node, path, &format!("whole minutes{range} are{}", spelled(node, "30")), hint);
            }
            _ => self.misfit(node, path, &format!("a whole number{range} is{}", spelled(node, "20")), hint),
        }
    }

    fn number(&mut self, name: &str, node: &Node, path: &str, hint: Option<String>) {
        match &node.is {
            Is::Number(number) if name == "Weight" => {
                let value = number.as_f64().unwrap_or(f64::NAN);
                if let Err(why) = Weight::try_from(value) {
                    let why = why.to_string();
                    self.say(node.spot, format!("{path} {}", why.strip_prefix("weight ").unwrap_or(&why)), hint);
                }
            }
            Is::Number(_) => {}
            _ => self.misfit(node, path, &format!("a number is{}", spelled(node, "5")), hint),
        }
    }
}

/// How a number is written, where it was written as something else.
fn spelled(node: &Node, example: &str) -> String {
    let written = node.written.trim();
    match node.is {
        Is::Text if written.ends_with('%') => format!("; leave out the percent sign: {}", written.trim_end_matches('%').trim()),
        Is::Text if written.parse::<f64>().is_ok() => "; leave out the quotes".to_owned(),
        Is::Text if written.contains(',') && written.replace(',', ".").parse::<f64>().is_ok() => "; write a point, not a comma".to_owned(),
        Is::Text => format!(", such as {example}"),
        _ => String::new(),
    }
}

/// What a setting is for, in a sentence.
fn hint(schema: &Map<String, Value>, path: &str) -> Option<String> {
    let description = schema.get("description")?.as_str()?;
    let sentence = description.split_inclusive(". ").next()?.trim_end_matches(['.', ' ']);
    (!path.is_empty()).then(|| format!("{path}: {sentence}"))
}

/// `a, b and c`.
fn listed(names: &[&str], last: &str) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

/// As YAML in one line.
fn flow(value: &Value) -> String {
    value.to_string().replace(',', ", ").replace('"', "")
}

/// Long enough to know it again.
fn short(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
