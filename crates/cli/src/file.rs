//! The rollout file: YAML, strict, every refusal with its place and what is accepted.
//!
//! First the YAML itself ([`tree`]), then its shape ([`fit`]), then what the types refuse ([`Plan::refusals`]): whatever is wrong is told
//! at once, as far as one does not hide the other.

mod fit;
mod tree;

use anyhow::{Context, anyhow};
use serde_json::Value;
use serin_core::policy::Policy;
use serin_core::refusal::Refusal;
use serin_core::rollout::Plan;
use std::io::Read;
use std::path::Path;
use tree::{Is, Node, Spot};

/// Longer than any rollout file or alert; a wrong path must not be read into memory whole.
const MOST_BYTES: u64 = 64 * 1024;

const NOTHING: &str =
    "there is nothing in this file: a rollout needs at least flow, stable and canary; `serin init` writes a file to begin with";

/// More, and nobody reads them.
const MOST_PROBLEMS: usize = 12;

/// The JSON Schema of a rollout file, for editors. Made of the types by a test, which holds it to them.
pub(crate) const SCHEMA: &str = include_str!("../../../docs/rollout.schema.json");

/// Reads and checks a rollout file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Plan> {
    let text = text(path, "rollout file")?;
    parse(&text).map_err(|problems| anyhow!(told(&problems, &text, &path.display().to_string())))
}

/// Checks the text of a rollout file that is not written yet.
pub(crate) fn check(text: &str, shown: &str) -> anyhow::Result<()> {
    parse(text).map(|_| ()).map_err(|problems| anyhow!(told(&problems, text, shown)))
}

/// The text of a file that a person named as such.
pub(crate) fn text(path: &Path, what: &str) -> anyhow::Result<String> {
    let shown = path.display();
    let unreadable = || format!("{what} {shown} cannot be read");
    let file = std::fs::File::open(path).with_context(unreadable)?;
    if file.metadata().with_context(unreadable)?.is_dir() {
        return Err(anyhow!("{what} {shown} cannot be read: it is a directory; name the file in it"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(anyhow!("{what} {shown} is not accepted: it is longer than {MOST_BYTES} bytes, and no {what} is"));
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(anyhow!("{what} {shown} is not accepted: it is UTF-16; save it as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        anyhow!("{what} {shown} is not accepted: line {line} is not text; save it as UTF-8")
    })
}

/// Something that is not accepted, and where.
#[derive(Debug)]
struct Problem {
    spot: Spot,
    said: String,
    /// What the setting is for.
    hint: Option<String>,
}

impl Problem {
    fn at(spot: Spot, said: impl Into<String>) -> Problem {
        Problem { spot, said: said.into(), hint: None }
    }
}

fn parse(text: &str) -> Result<Plan, Vec<Problem>> {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is json");
    let mut problems = Vec::new();
    // A byte-order mark says nothing: YAML is UTF-8 anyway.
    let file = match tree::read(text.strip_prefix('\u{feff}').unwrap_or(text), &mut problems) {
        Ok(file) => file,
        Err(problem) => {
            problems.push(problem);
            return Err(problems);
        }
    };
    if matches!(file.is, Is::Null) {
        return Err(vec![Problem::at(Spot::TOP, NOTHING)]);
    }
    problems.extend(fit::fit(&schema, &file));
    if problems.is_empty() {
        match typed(file.json()) {
            Ok(plan) => match plan.refusals() {
                none if none.is_empty() => return Ok(plan),
                refusals => problems.extend(refusals.iter().map(|refusal| located(refusal, &file))),
            },
            Err(why) => problems.push(Problem::at(Spot::TOP, why)),
        }
    }
    problems.sort_by_key(|problem| (problem.spot.line, problem.spot.column));
    Err(problems)
}

/// The plan, its policy not checked yet: deserializing one as a whole would tell the first fault only, and no place.
fn typed(mut file: Value) -> Result<Plan, String> {
    let policy = file.as_object_mut().and_then(|fields| fields.remove("policy"));
    let mut plan: Plan = serde_json::from_value(file).map_err(|e| e.to_string())?;
    if let Some(policy) = policy {
        plan.policy = Policy::deserialize(policy).map_err(|e| format!("policy: {e}"))?;
    }
    Ok(plan)
}

/// Where the field of a refusal stands, or what it would stand in.
fn located(refusal: &Refusal, file: &Node) -> Problem {
    let mut spot = Spot::TOP;
    let mut node = Some(file);
    for step in refusal.at.split(['.', '[']) {
        let number = step.strip_suffix(']').and_then(|number| number.parse::<usize>().ok());
        let next = match (node.map(|node| &node.is), number) {
            (Some(Is::List(items)), Some(number)) => items.get(number).map(|item| (item.spot, item)),
            (Some(Is::Map(_)), None) => node.and_then(|node| node.entry(step)).map(|entry| (entry.spot, &entry.value)),
            _ => None,
        };
        if let Some((at, value)) = next {
            spot = if matches!(value.is, Is::List(_) | Is::Map(_)) { at } else { value.spot };
        }
        node = next.map(|(_, value)| value);
    }
    let absent = node.is_none() && !refusal.why.contains(" missing");
    let hint = absent.then(|| format!("{} is not in the file: this is its default", refusal.at));
    Problem { spot, said: refusal.to_string(), hint }
}

/// All of them, each with its line.
fn told(problems: &[Problem], text: &str, path: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = problems.iter().take(MOST_PROBLEMS).map(|problem| problem.shown(path, &lines));
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    let rest = (more > 0).then(|| format!("… and {more} more"));
    shown.chain(rest).collect::<Vec<_>>().join("\n")
}

impl Problem {
    fn shown(&self, path: &str, lines: &[&str]) -> String {
        let Spot { line, column, width } = self.spot;
        let mut out = format!("{path}:{line}:{column}: {}", self.said);
        if let Some(source) = lines.get(line - 1).filter(|source| !source.trim().is_empty()) {
            let (source, before) = window(source, column - 1);
            let width = width.min(source.chars().count().saturating_sub(before)).max(1);
            let margin = " ".repeat(line.to_string().len());
            out += &format!("\n  {line} | {source}\n  {margin} | {}{}", " ".repeat(before), "^".repeat(width));
            out.extend(self.hint.iter().map(|hint| format!("\n  {margin} = {hint}")));
        } else {
            out.extend(self.hint.iter().map(|hint| format!("\n  = {hint}")));
        }
        out
    }
}

/// The part of a line that is shown, and how far into it the caret is. A terminal must not be driven by what is in a file.
fn window(source: &str, column: usize) -> (String, usize) {
    const WIDEST: usize = 120;
    let visible = |c: char| match c {
        '\t' => '→',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let length = source.chars().count();
    let cut = if length <= WIDEST { 0 } else { column.saturating_sub(WIDEST / 2) };
    let mut shown: Vec<char> = source.chars().skip(cut).take(WIDEST).map(visible).collect();
    if cut > 0 {
        shown[0] = '…';
    }
    if cut + WIDEST < length {
        shown[WIDEST - 1] = '…';
    }
    (shown.into_iter().collect::<String>().trim_end().to_owned(), column - cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: &str = "flow: main_ivr\nstable: {flow_id: b10e}\ncanary: {flow_id: 97ee, version: \"15.0\"}\n";

    fn refused(text: &str) -> String {
        told(&parse(text).unwrap_err(), text, "rollout.yaml")
    }

    #[test]
    fn the_shortest_file_gets_every_default() {
        let plan = parse(SHORTEST).unwrap();
        assert_eq!((plan.policy, plan.labels.stable.as_str()), (Policy::default(), "v1"));
    }

    #[test]
    fn a_policy_is_read_with_its_rule() {
        let file = format!(
            "{SHORTEST}policy:\n  steps: [5, 25.5, 50]\n  rule: {{kind: threshold, abandon_points: 3}}\n  errors: {{min_calls: 20}}\n"
        );
        let plan = parse(&file).unwrap();
        assert_eq!((plan.policy.errors.min_calls, plan.policy.steps[1].percent()), (20, 25.5));
    }

    #[test]
    fn what_editors_on_windows_leave_in_a_file_is_accepted() {
        let plan = parse(&format!("\u{feff}{}", SHORTEST.replace('\n', "\r\n"))).unwrap();
        assert_eq!(plan, parse(SHORTEST).unwrap());
    }

    #[test]
    fn a_refusal_points_at_what_it_is_about() {
        let said = refused(&SHORTEST.replace("97ee", "b10e"));
        let (said, line) = said.split_once('\n').unwrap();
        assert!(said.starts_with("rollout.yaml:3:19: canary.flow_id `b10e` is not accepted: "), "{said}");
        assert_eq!(line, "  3 | canary: {flow_id: b10e, version: \"15.0\"}\n    |                   ^^^^");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let shape = refused(&format!("{SHORTEST}polcy: {{}}\nvalidate: maybe\nsmoke: {{}}\n"));
        for expected in
            [":4:1: `polcy` is not known here: did you mean `policy`?", ":5:11: validate `maybe`", ":6:1: smoke.dnis is missing"]
        {
            assert!(shape.contains(expected), "{shape}\nlacks {expected}");
        }
        let types = refused(&format!("{SHORTEST}labels: {{stable: a, canary: A}}\npolicy: {{bake_time: 2, errors: {{percent: 0}}}}\n"));
        for expected in [":4:29: labels.canary `A`", ":5:42: policy.errors.percent 0"] {
            assert!(types.contains(expected), "{types}\nlacks {expected}");
        }
    }

    #[test]
    fn what_was_not_written_is_said_to_be_a_default() {
        let said = refused(&format!("{SHORTEST}policy:\n  bake_time: 2000\n"));
        assert!(said.contains(":4:1: policy.step_cap 1440") && said.contains("this is its default"), "{said}");
    }

    #[test]
    fn nothing_in_a_file_reaches_the_terminal_as_a_command() {
        let said = refused(&format!("{SHORTEST}\"\u{1b}[2J\": 1 # \u{1b}[2J\n"));
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
}
