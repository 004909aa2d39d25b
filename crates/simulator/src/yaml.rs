//! The YAML of a flow: a root that names the type, `name`, the blocks `behavior` and `canary_behavior`, and lines that are carried along as
//! they are.
//!
//! Not a YAML reader: lines, two spaces, scalars. Enough for what is exported here, and for any flow whose name is on one line.

use crate::flow::{Behavior, Content};
use std::fmt::Write;

const ROOT: &str = "inboundCall";
/// How callers fare, and how they do in the canary branch.
const BLOCKS: [&str; 2] = ["behavior", "canary_behavior"];

/// The file of a flow called `name`.
pub(crate) fn write(name: &str, content: &Content) -> String {
    let mut text = format!("{ROOT}:\n  name: {name}\n");
    for line in &content.body {
        let _ = writeln!(text, "  {line}");
    }
    for (block, behavior) in BLOCKS.iter().zip([content.behavior, content.branch]) {
        let Some(Behavior { error, abandon, transfer, duration_factor, handle_factor }) = behavior else { continue };
        let _ = write!(text, "  {block}:\n    error: {error}\n    abandon: {abandon}\n    transfer: {transfer}\n");
        let _ = writeln!(text, "    duration_factor: {duration_factor}");
        if handle_factor != 1.0 {
            let _ = writeln!(text, "    handle_factor: {handle_factor}");
        }
    }
    text
}

/// The name and content of a file.
pub(crate) fn read(text: &str) -> Result<(String, Content), String> {
    let mut lines = text.lines().map(str::trim_end).filter(|line| {
        let line = line.trim_start();
        !(line.is_empty() || line.starts_with('#') || line == "---")
    });
    match lines.next().and_then(|line| line.strip_suffix(':')) {
        Some(ROOT) => {}
        Some(other) => return Err(format!("flow type `{other}` is not simulated: `{ROOT}` is")),
        None => return Err("the file does not start with a flow type".to_owned()),
    }
    let (mut name, mut behaviors, mut body, mut within) = (None, [None, None], Vec::new(), None);
    for line in lines {
        let inner = line.strip_prefix("  ").ok_or_else(|| format!("line `{line}` is outside of `{ROOT}`"))?;
        let (key, value) = scalar(inner);
        if !inner.starts_with(' ') {
            within = BLOCKS.iter().position(|block| inner.strip_suffix(':') == Some(block));
            if within.is_some() {
                continue;
            }
        }
        if let Some(block) = within {
            set(behaviors[block].get_or_insert_with(Behavior::default), key, value)?;
        } else if inner.starts_with("name:") {
            name = Some(value.to_owned());
        } else {
            body.push(normal(inner, key, value));
        }
    }
    let name = name.filter(|name| !name.is_empty()).ok_or("the flow has no name")?;
    let [behavior, branch] = behaviors.map(|behavior| behavior.map(Behavior::checked).transpose());
    Ok((name, Content { behavior: behavior?, branch: branch?, body }))
}

/// Key and value of a line; quotes around the value are gone.
fn scalar(line: &str) -> (&str, &str) {
    let (key, value) = line.split_once(':').unwrap_or((line, ""));
    let value = value.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    (key.trim(), unquoted.unwrap_or(value))
}

/// Quoting a value does not change what a flow does, so it must not change its configuration.
fn normal(line: &str, key: &str, value: &str) -> String {
    let indent = &line[..line.len() - line.trim_start().len()];
    if value.is_empty() { line.to_owned() } else { format!("{indent}{key}: {value}") }
}

fn set(behavior: &mut Behavior, key: &str, value: &str) -> Result<(), String> {
    let number: f64 = value.parse().map_err(|_| format!("behavior: `{value}` is not a number"))?;
    match key {
        "error" => behavior.error = number,
        "abandon" => behavior.abandon = number,
        "transfer" => behavior.transfer = number,
        "duration_factor" => behavior.duration_factor = number,
        "handle_factor" => behavior.handle_factor = number,
        other => return Err(format!("behavior: `{other}` is not known")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_under_any_name() {
        let behavior = Behavior { error: 0.15, handle_factor: 1.3, ..Behavior::default() };
        let body = vec!["division: Home".to_owned(), "tasks:".to_owned(), "  - task: welcome".to_owned()];
        let branch = Some(Behavior { error: 0.3, ..behavior });
        let content = Content { behavior: Some(behavior), branch, body };
        let text = write("Green", &content).replace("name: Green", "name: \"Blue\"").replace("Home", "'Home'");
        assert_eq!(read(&text).unwrap(), ("Blue".to_owned(), content));
    }

    #[test]
    fn a_file_that_is_no_flow_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "flow type"),
            ("inboundEmail:\n  name: A\n", "inboundEmail"),
            ("inboundCall:\n  division: Home\n", "no name"),
            ("inboundCall:\n  name: A\nother: 1\n", "outside"),
            ("inboundCall:\n  name: A\n  behavior:\n    error: 2\n", "shares"),
            ("inboundCall:\n  name: A\n  canary_behavior:\n    errors: 0\n", "not known"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
