//! The rollout file: YAML, strict, every refusal with its place and what is accepted.

use anyhow::{Context, anyhow};
use serin_core::rollout::Plan;
use std::path::Path;

/// Longer than any rollout file or alert; a wrong path must not be read into memory whole.
const MOST_BYTES: u64 = 64 * 1024;

/// Reads and checks a rollout file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Plan> {
    parse(&text(path, "rollout file")?).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// The text of a file that a person named as such.
pub(crate) fn text(path: &Path, what: &str) -> anyhow::Result<String> {
    let shown = path.display();
    let length = std::fs::metadata(path).with_context(|| format!("{what} {shown} cannot be read"))?.len();
    if length > MOST_BYTES {
        return Err(anyhow!("{shown}: {length} bytes are not accepted: {what}s have at most {MOST_BYTES}"));
    }
    std::fs::read_to_string(path).with_context(|| format!("{what} {shown} cannot be read"))
}

fn parse(text: &str) -> Result<Plan, String> {
    let plan: Plan = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    plan.check()?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin_core::policy::Policy;

    const SHORTEST: &str = "flow: main_ivr\nstable: {flow_id: b10e}\ncanary: {flow_id: 97ee, version: \"15.0\"}\n";

    #[test]
    fn the_shortest_file_gets_every_default() {
        let plan = parse(SHORTEST).unwrap();
        assert_eq!((plan.policy, plan.labels.stable.as_str()), (Policy::default(), "v1"));
    }

    #[test]
    fn a_policy_is_read_with_its_rule() {
        let file = format!(
            "{SHORTEST}policy:\n  steps: [5, 25, 50]\n  rule: {{kind: threshold, abandon_points: 3}}\n  errors: {{min_calls: 20}}\n"
        );
        let plan = parse(&file).unwrap();
        assert_eq!(plan.policy.errors.min_calls, 20);
    }

    #[test]
    fn every_refusal_names_the_value_and_its_place() {
        let cases = [
            (format!("{SHORTEST}polcy: {{}}\n"), vec!["polcy", "line 4", "policy"]),
            (format!("{SHORTEST}policy:\n  steps: [5, 101]\n"), vec!["weight `101`", "from 0 to 100"]),
            (SHORTEST.replace("main_ivr", "\"main ivr\""), vec!["`main ivr`", "letters, digits"]),
            (SHORTEST.replace("97ee", "b10e"), vec!["canary.flow_id `b10e`"]),
            (SHORTEST.replace("flow: main_ivr\n", ""), vec!["flow"]),
            ("- 1\n".to_owned(), vec!["line 1"]),
            (String::new(), vec!["line 1"]),
        ];
        for (text, expected) in cases {
            let refused = parse(&text).unwrap_err();
            for word in expected {
                assert!(refused.contains(word), "{text}\n→ {refused}\nlacks {word}");
            }
        }
    }
}
