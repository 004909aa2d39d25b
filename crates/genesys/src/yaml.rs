//! Which flow a file is of, and giving it another name: one line is replaced, every other byte stays.
//!
//! Not a YAML reader. It looks at two levels of lines and refuses whatever it is not sure about: a publish job goes live by name,
//! so a file with the wrong one would overwrite the wrong flow.

use serde::Deserialize;

/// The file with the flow's name replaced, or why it cannot be done for sure. `flow_type` is the vendor's, such as `INBOUNDCALL`,
/// which is the file's first key but for its case.
pub(crate) fn rename(file: &str, flow_type: &str, name: &str) -> Result<String, String> {
    let lines = lines(file);
    let (line, indent) = name_line(&lines, flow_type)?;
    with_name(&lines, line, indent, name)
}

/// The file of a flow that has this type and this name already, or why it is not that. The name is quoted in what is returned: as
/// whoever publishes it reads it, it is this one and no other.
pub(crate) fn expect(file: &str, flow_type: &str, name: &str) -> Result<String, String> {
    let lines = lines(file);
    let (line, indent) = name_line(&lines, flow_type)?;
    let found = serde_saphyr::from_str::<Named>(lines[line].trim_start());
    let found = found.map_err(|_| format!("the flow's name in the file, `{}`, cannot be read: put it in quotes", shown(lines[line])))?.name;
    match found == name {
        true => with_name(&lines, line, indent, name),
        false => Err(format!("the file is of flow `{}`, and this flow is `{name}`", shown(&found))),
    }
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

fn lines(file: &str) -> Vec<&str> {
    file.strip_prefix('\u{feff}').unwrap_or(file).split_inclusive('\n').collect()
}

/// The line that names the flow, and how far it is indented.
fn name_line(lines: &[&str], flow_type: &str) -> Result<(usize, usize), String> {
    let root = root(lines)?;
    let key = lines[root].trim_end().strip_suffix(':').unwrap_or_default();
    if !key.eq_ignore_ascii_case(flow_type) || key.is_empty() {
        return Err(format!("the file holds `{}`, not a flow of type {flow_type}", shown(lines[root])));
    }
    let body = lines[root + 1..].iter().position(|line| says_something(line)).map(|offset| root + 1 + offset);
    let indent = body.map(|i| indent(lines[i])).filter(|indent| *indent > 0).ok_or("the flow in the file is empty")?;
    let names: Vec<usize> =
        (root + 1..lines.len()).filter(|i| lines[*i].get(indent..).is_some_and(is_name) && self::indent(lines[*i]) == indent).collect();
    let [line] = names[..] else {
        return Err(format!("the flow in the file has {} names on its first level instead of one", names.len()));
    };
    let goes_on = lines[line + 1..].iter().find(|next| says_something(next)).is_some_and(|next| self::indent(next) > indent);
    check_value(lines[line][indent..].trim_start_matches("name:").trim(), goes_on)?;
    Ok((line, indent))
}

fn with_name(lines: &[&str], line: usize, indent: usize, name: &str) -> Result<String, String> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("the target flow has no name that fits on a line".to_owned());
    }
    // Quoted as JSON, which is YAML: a name such as `yes`, or one with a colon, stays a name.
    let ending = &lines[line][lines[line].trim_end_matches(['\r', '\n']).len()..];
    let replacement = format!("{}name: {}{ending}", &lines[line][..indent], serde_json::Value::from(name));
    let mut renamed: String = lines[..line].concat();
    renamed.push_str(&replacement);
    renamed.push_str(&lines[line + 1..].concat());
    Ok(renamed)
}

/// The one line that is not indented.
fn root(lines: &[&str]) -> Result<usize, String> {
    let top: Vec<usize> = (0..lines.len()).filter(|i| says_something(lines[*i]) && indent(lines[*i]) == 0).collect();
    match top[..] {
        [root] => Ok(root),
        [] => Err("the file is empty".to_owned()),
        [_, second, ..] => Err(format!("the file holds more than one flow: `{}`", shown(lines[second]))),
    }
}

fn says_something(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with('#') || line == "---")
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_name(rest: &str) -> bool {
    rest.strip_prefix("name:").is_some_and(|value| value.is_empty() || value.starts_with([' ', '\t', '\r', '\n']))
}

/// Only a name that ends on its line can be replaced by replacing the line.
fn check_value(value: &str, goes_on: bool) -> Result<(), String> {
    let whole = match value.chars().next() {
        _ if goes_on => false,
        None | Some('|' | '>' | '&' | '*' | '!' | '{' | '[' | '#') => false,
        Some(quote @ ('"' | '\'')) => value[1..].contains(quote),
        Some(_) => true,
    };
    whole.then_some(()).ok_or_else(|| "the flow's name in the file is not on one line".to_owned())
}

fn shown(line: &str) -> String {
    line.trim_end().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# exported\ninboundCall:\n  name: Main_IVR_Green\n  division: Home\n  tasks:\n    - task:\n        name: route\n        audio: |\n          name: not this\n";

    #[test]
    fn only_the_name_of_the_flow_is_replaced() {
        let renamed = rename(FILE, "INBOUNDCALL", "Main_IVR_Blue").unwrap();
        assert_eq!(renamed, FILE.replace("  name: Main_IVR_Green\n", "  name: \"Main_IVR_Blue\"\n"));
        assert_eq!(rename(&renamed, "INBOUNDCALL", "Main_IVR_Blue").unwrap(), renamed);
        let windows = FILE.replace('\n', "\r\n");
        assert_eq!(rename(&windows, "INBOUNDCALL", "B: \"x\"").unwrap(), windows.replace("name: Main_IVR_Green", r#"name: "B: \"x\"""#));
    }

    #[test]
    fn the_name_may_come_after_other_lines() {
        let file = "---\nworkflow:\n    division: Home\n    settings:\n        name: inner\n    name: 'A'  # the flow\n";
        assert_eq!(rename(file, "WORKFLOW", "B").unwrap(), file.replace("name: 'A'  # the flow", "name: \"B\""));
    }

    #[test]
    fn a_file_is_of_the_flow_whose_name_and_type_it_bears() {
        for (written, name) in [
            ("Main_IVR_Green", "Main_IVR_Green"),
            ("\"Main_IVR_Green\"  # the canary", "Main_IVR_Green"),
            ("'Pat''s: IVR'", "Pat's: IVR"),
            (r#""Grün""#, "Grün"),
            ("Main IVR (1)", "Main IVR (1)"),
        ] {
            let file = FILE.replace("name: Main_IVR_Green", &format!("name: {written}"));
            let published = expect(&file, "INBOUNDCALL", name).unwrap();
            assert_eq!(published, rename(FILE, "INBOUNDCALL", name).unwrap(), "{written}");
            let other = expect(&file, "INBOUNDCALL", "Main_IVR_Blue").unwrap_err();
            assert!(other.contains(&format!("of flow `{name}`")) && other.contains("is `Main_IVR_Blue`"), "{other}");
            assert!(expect(&file, "INBOUNDCALL", &name.to_lowercase()).is_err(), "names are told apart by their case too");
            let mistyped = expect(&file, "WORKFLOW", name).unwrap_err();
            assert!(mistyped.contains("`inboundCall:`") && mistyped.contains("WORKFLOW"), "{mistyped}");
        }
        for unreadable in ["*name", "|", "\"Main", "{{flow_name}}"] {
            expect(&FILE.replace("Main_IVR_Green", unreadable), "INBOUNDCALL", "Main").unwrap_err();
        }
    }

    #[test]
    fn a_file_that_is_not_surely_the_flow_is_refused() {
        for (file, reason) in [
            ("", "empty"),
            ("inboundEmail:\n  name: A\n", "not a flow of type INBOUNDCALL"),
            ("inboundCall: {name: A}\n", "not a flow of type"),
            ("inboundCall:\n", "empty"),
            ("inboundCall:\n  division: A\n", "0 names"),
            ("inboundCall:\n  name: A\n  name: B\n", "2 names"),
            ("inboundCall:\n  name: A\ninboundChat:\n  name: A\n", "more than one"),
            ("inboundCall:\n  name: |\n    A\n", "not on one line"),
            ("inboundCall:\n  name: \"A\n    B\"\n", "not on one line"),
            ("inboundCall:\n  name:\n    A\n", "not on one line"),
            ("inboundCall:\n  name: A\n    B\n", "not on one line"),
            ("<html>\n", "not a flow of type"),
        ] {
            let refused = rename(file, "INBOUNDCALL", "B").unwrap_err();
            assert!(refused.contains(reason), "{file:?}: {refused}");
        }
        assert!(rename(FILE, "INBOUNDCALL", "two\nlines").is_err());
    }
}
