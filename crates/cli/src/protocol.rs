//! Decision protocol 1 on standard input and output: one JSON line in, one out, decided by the core's sequential judge.
//!
//! The harness owns the clock and the calls; nothing here is contacted. Times are whole minutes, weights percent, rates fractions.
//! The lines are also what a recorded history is made of, see [`crate::history`].

use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serin_core::sequential::{Action, Counter, Figure, Judgement, Metric, Reading, Sequential, Settings, Tally, Window};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line {
    Init(Init),
    Tick(Tick),
    End,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Init {
    #[serde(default = "one")]
    protocol: u32,
    #[serde(default)]
    pub(crate) rollout: String,
    tick_min: u32,
    #[serde(default = "one")]
    window_min: u32,
    pub(crate) plan: Vec<f64>,
    pub(crate) min_step_min: u32,
    max_step_min: u32,
    pub(crate) expected_calls_per_hour: f64,
    #[serde(default)]
    baseline_hint: BTreeMap<String, Field>,
    metrics: Vec<MetricLine>,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Deserialize)]
struct MetricLine {
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    num: String,
    #[serde(default)]
    den: String,
    tolerance: f64,
    margin: f64,
}

#[derive(Deserialize)]
pub(crate) struct Tick {
    pub(crate) t_min: Option<i64>,
    pub(crate) weight: f64,
    pub(crate) status: String,
    windows: Vec<WindowLine>,
}

#[derive(Deserialize)]
struct WindowLine {
    start_min: i64,
    #[serde(default)]
    rev: u32,
    weight: f64,
    stable: BTreeMap<String, Field>,
    canary: BTreeMap<String, Field>,
}

/// A number, or something of a field that is not ours to understand.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Field {
    Number(f64),
    Other(IgnoredAny),
}

/// The field names of a cohort that are known to everybody.
const FIELDS: [(&str, Counter); 8] = [
    ("calls", Counter::Calls),
    ("abandons", Counter::Abandons),
    ("transfers", Counter::Transfers),
    ("errors", Counter::Errors),
    ("contained", Counter::Contained),
    ("handled", Counter::Handled),
    ("handle_sum_s", Counter::HandleSum),
    ("handle_sumsq_s2", Counter::HandleSquares),
];

/// What the harness's rates may count besides.
const OWN: [Counter; 2] = [Counter::Own1, Counter::Own2];

/// Stable's figure where the harness gives none for a rate of its own.
const OWN_HINT: f64 = 0.05;

/// How the fields of a window are read: the known names, and up to two of the harness's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields {
    own: Vec<String>,
}

impl Fields {
    fn counter(&mut self, metric: &str, field: &str) -> Result<Counter, String> {
        let known = FIELDS.iter().find(|(name, _)| *name == field);
        match known {
            Some((_, Counter::HandleSum | Counter::HandleSquares)) => Err(format!(
                "metric `{metric}`: `{field}` is not accepted in a rate: it is a sum of times, and a rate divides calls by calls"
            )),
            Some((_, counter)) => Ok(*counter),
            None if field.is_empty() => {
                Err(format!("metric `{metric}`: `num` and `den` are needed, each the name of a field of the windows"))
            }
            None => {
                let at = self.own.iter().position(|name| name == field).unwrap_or_else(|| {
                    self.own.push(field.to_owned());
                    self.own.len() - 1
                });
                OWN.get(at).copied().ok_or_else(|| {
                    let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).take(6).collect();
                    format!(
                        "metric `{metric}`: field `{field}` is not accepted: {} and two fields of your own are, which `{}` and `{}` already are",
                        known.join(", "),
                        self.own[0],
                        self.own[1]
                    )
                })
            }
        }
    }

    fn tally(&self, fields: &BTreeMap<String, Field>) -> Result<Tally, String> {
        let own = self.own.iter().map(String::as_str).zip(OWN);
        FIELDS.into_iter().chain(own).try_fold(Tally::default(), |tally, (name, counter)| match fields.get(name) {
            None => Ok(tally),
            Some(Field::Number(value)) => Ok(tally.with(counter, *value)),
            Some(Field::Other(_)) => Err(format!("`{name}` is not a number")),
        })
    }

    /// The windows of a tick as the judge takes them.
    pub(crate) fn windows(&self, tick: &Tick) -> Result<Vec<Window>, String> {
        let window = |line: &WindowLine| {
            let side = |name: &str, fields| self.tally(fields).map_err(|why| format!("window {}, {name}: {why}", line.start_min));
            let (stable, canary) = (side("stable", &line.stable)?, side("canary", &line.canary)?);
            Ok(Window { start: line.start_min, revision: line.rev, weight: line.weight, stable, canary })
        };
        tick.windows.iter().map(window).collect()
    }
}

fn metric(line: &MetricLine, hints: &BTreeMap<String, Field>, fields: &mut Fields) -> Result<Metric, String> {
    let name = &line.name;
    let usual = match Metric::named(name) {
        Some(usual) => usual,
        None if line.kind == "rate" => {
            let (bad, of) = (fields.counter(name, &line.num)?, fields.counter(name, &line.den)?);
            if bad == of {
                return Err(format!(
                    "metric `{name}`: `{}` divided by itself is not accepted: `num` counts some of the calls of `den`",
                    line.num
                ));
            }
            Metric::rate(name, Figure::Rate { bad, of }, line.tolerance, line.margin, OWN_HINT)
        }
        None if line.kind == "mean" => {
            return Err(format!(
                "metric `{name}` of kind mean is not accepted: the mean that is known is `handle`; your own metrics are of kind rate"
            ));
        }
        None => {
            let kind = &line.kind;
            return Err(format!(
                "metric `{name}` of kind `{kind}` is not accepted: error, abandon, transfer, handle, containment and any other name of kind rate are"
            ));
        }
    };
    let hint = match hints.get(name) {
        None => usual.hint,
        Some(Field::Number(hint)) => *hint,
        Some(Field::Other(_)) => return Err(format!("baseline_hint `{name}` is not a number")),
    };
    Ok(Metric { tolerance: line.tolerance, margin: line.margin, hint, ..usual })
}

/// What the judge is told, and how the windows are read.
pub(crate) fn settings(init: &Init) -> Result<(Settings, Fields), String> {
    for (name, value) in [("protocol", init.protocol), ("window_min", init.window_min)] {
        if value != 1 {
            return Err(format!("{name} {value} is not accepted: 1 is"));
        }
    }
    let mut fields = Fields::default();
    let settings = Settings {
        metrics: init.metrics.iter().map(|line| metric(line, &init.baseline_hint, &mut fields)).collect::<Result<_, String>>()?,
        plan: init.plan.clone(),
        min_step: init.min_step_min,
        max_step: init.max_step_min,
        expected_calls_per_hour: init.expected_calls_per_hour,
        look_every: init.tick_min,
        ..Settings::default()
    };
    Ok((settings, fields))
}

/// Serves one conversation to its end; every `init` discards what was before.
pub(crate) fn serve(input: impl BufRead, mut out: impl Write) -> anyhow::Result<()> {
    let mut judge: Option<(Sequential, Fields)> = None;
    for (number, line) in input.lines().enumerate() {
        let line = line.context("standard input cannot be read")?;
        let said = match said(&mut judge, &line).map_err(|why| anyhow!("line {}: {why}", number + 1))? {
            Some(said) => said,
            None => break,
        };
        serde_json::to_writer(&mut out, &answer(&said))?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// The answer to one line, `None` at the end.
fn said(judge: &mut Option<(Sequential, Fields)>, line: &str) -> Result<Option<Judgement>, String> {
    Ok(match serde_json::from_str(line).map_err(|e| format!("{e}; an `init`, `tick` or `end` of decision protocol 1 is accepted"))? {
        Line::End => None,
        Line::Init(init) => {
            let (settings, fields) = settings(&init)?;
            let (fresh, said) = Sequential::start(settings)?;
            *judge = Some((fresh, fields));
            Some(said)
        }
        Line::Tick(tick) => {
            let (judge, fields) = judge.as_mut().ok_or("a tick came before any init")?;
            let windows = fields.windows(&tick)?;
            let reading = if tick.status == "error" { Reading::Unreadable } else { Reading::Windows(&windows) };
            Some(judge.look(tick.weight, reading))
        }
    })
}

fn answer(said: &Judgement) -> serde_json::Value {
    let action = match said.action {
        Action::Hold => "hold",
        Action::Advance => "advance",
        Action::Promote => "promote",
        Action::Rollback => "rollback",
    };
    serde_json::json!({ "action": action, "weight": said.weight, "reason": said.reason.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = r#"{"type":"init","protocol":1,"rollout":"r","tick_min":15,"window_min":1,"horizon_min":720,"plan":[5,25,50,100],"min_step_min":30,"max_step_min":180,"expected_calls_per_hour":600,"alpha":0.01,"baseline_hint":{"error":0.017},"metrics":[{"name":"error","kind":"rate","num":"errors","den":"calls","tolerance":0.005,"margin":0.02}]}"#;

    fn played(lines: &[String]) -> anyhow::Result<Vec<serde_json::Value>> {
        let mut out = Vec::new();
        serve(lines.join("\n").as_bytes(), &mut out)?;
        String::from_utf8(out)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    fn tick(minute: u32, weight: f64, errors: u32) -> String {
        let side = |calls: u32, errors: u32| {
            format!(r#"{{"calls":{calls},"abandons":0,"transfers":0,"errors":{errors},"contained":{}}}"#, calls - errors)
        };
        let windows: Vec<String> = (minute - 15..minute)
            .map(|start| {
                let (stable, canary) = (side(10, 0), side(2, errors));
                format!(r#"{{"start_min":{start},"rev":0,"weight":{weight},"final":true,"stable":{stable},"canary":{canary}}}"#)
            })
            .collect();
        format!(r#"{{"type":"tick","t_min":{minute},"weight":{weight},"status":"ok","windows":[{}]}}"#, windows.join(","))
    }

    #[test]
    fn a_broken_canary_is_rolled_back_and_every_line_is_answered() {
        let first = played(&[INIT.to_owned()]).unwrap()[0]["weight"].as_f64().unwrap();
        let answers = played(&[INIT.to_owned(), tick(15, first, 2), "{\"type\":\"end\"}".to_owned(), "never read".to_owned()]).unwrap();
        assert_eq!((answers.len(), &answers[0]["action"]), (2, &"hold".into()));
        assert_eq!((&answers[1]["action"], answers[1]["weight"].as_f64()), (&"rollback".into(), Some(0.0)), "{answers:?}");
        assert!(answers[1]["reason"].as_str().unwrap().contains("error"));
    }

    #[test]
    fn what_is_no_line_of_the_protocol_is_refused_with_its_place() {
        for (lines, expected) in [
            (vec!["{}".to_owned()], "line 1"),
            (vec![INIT.to_owned(), "tick".to_owned()], "line 2"),
            (vec![tick(15, 5.0, 0)], "before any init"),
            (vec![INIT.replace("\"protocol\":1", "\"protocol\":2")], "protocol 2"),
            (vec![INIT.to_owned(), tick(15, 5.0, 0).replace("\"calls\":10", "\"calls\":\"ten\"")], "`calls` is not a number"),
            (vec![own(&[("mood", "mean", "sum", "calls")])], "metric `mood` of kind mean"),
            (vec![own(&[("mood", "", "bad", "calls")])], "metric `mood` of kind ``"),
            (vec![own(&[("mood", "rate", "", "calls")])], "`num` and `den` are needed"),
            (vec![own(&[("mood", "rate", "bad", "bad")])], "divided by itself"),
            (vec![own(&[("mood", "rate", "handle_sum_s", "calls")])], "sum of times"),
            (
                vec![own(&[("a", "rate", "a", "calls"), ("b", "rate", "b", "calls"), ("c", "rate", "c", "calls")])],
                "field `c` is not accepted",
            ),
        ] {
            let refused = played(&lines).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    fn own(metrics: &[(&str, &str, &str, &str)]) -> String {
        let metrics: Vec<String> = metrics
            .iter()
            .map(|(name, kind, num, den)| {
                format!(r#"{{"name":"{name}","kind":"{kind}","num":"{num}","den":"{den}","tolerance":0.01,"margin":0.05}}"#)
            })
            .collect();
        let (before, _) = INIT.split_once("\"metrics\"").unwrap();
        format!("{before}\"metrics\":[{}]}}", metrics.join(","))
    }

    #[test]
    fn a_rate_of_the_harnesss_own_is_judged_by_its_own_counters() {
        let init = own(&[("hangs", "rate", "hung", "offered"), ("again", "rate", "repeats", "calls")]);
        assert!(played(std::slice::from_ref(&init)).unwrap_err().to_string().contains("field `repeats`"), "a third counter");
        let init = own(&[("hangs", "rate", "hung", "offered"), ("again", "rate", "hung", "calls")]);
        let with_own = |line: String| {
            let canary = line.replace(r#""canary":{"calls":2,"#, r#""canary":{"offered":2,"hung":2,"calls":2,"#);
            canary.replace(r#""stable":{"calls":10,"#, r#""stable":{"offered":10,"hung":0,"calls":10,"#)
        };
        let first = played(std::slice::from_ref(&init)).unwrap()[0]["weight"].as_f64().unwrap();
        let answers = played(&[init, with_own(tick(15, first, 0))]).unwrap();
        assert_eq!(answers[1]["action"], "rollback", "{answers:?}");
        let reason = answers[1]["reason"].as_str().unwrap();
        assert!(reason.contains("100.0 % of 30 canary calls against 0.0 % of 150 stable calls"), "{reason}");
    }

    #[test]
    fn fields_that_nobody_knows_change_nothing() {
        let plain = [INIT.to_owned(), tick(15, 5.0, 1)];
        let fuller = plain.clone().map(|line| {
            line.replacen('{', r#"{"note":{"by":["x"]},"#, 1)
                .replace(r#""rev":0,"#, r#""rev":0,"trunk":"west","#)
                .replace(r#""errors":1,"#, r#""errors":1,"language":"de","queue":{"id":1},"#)
                .replace(r#""error":0.017"#, r#""error":0.017,"source":"last month""#)
        });
        assert_eq!(played(&plain).unwrap(), played(&fuller).unwrap());
    }
}
