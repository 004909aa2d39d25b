//! Decision protocol 1 on standard input and output: one JSON line in, one out, decided by the core's sequential judge.
//!
//! The harness owns the clock and the calls; nothing here is contacted. Times are whole minutes, weights percent, rates fractions.

use anyhow::{Context, anyhow};
use serde::Deserialize;
use serin_core::sequential::{Action, Counter, Judgement, Metric, Reading, Sequential, Settings, Tally, Window};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Init(Init),
    Tick(Tick),
    End,
}

#[derive(Deserialize)]
struct Init {
    tick_min: u32,
    plan: Vec<f64>,
    min_step_min: u32,
    max_step_min: u32,
    expected_calls_per_hour: f64,
    #[serde(default)]
    baseline_hint: BTreeMap<String, f64>,
    metrics: Vec<MetricLine>,
}

#[derive(Deserialize)]
struct MetricLine {
    name: String,
    tolerance: f64,
    margin: f64,
}

#[derive(Deserialize)]
struct Tick {
    weight: f64,
    status: String,
    windows: Vec<WindowLine>,
}

#[derive(Deserialize)]
struct WindowLine {
    start_min: i64,
    #[serde(default)]
    rev: u32,
    weight: f64,
    stable: BTreeMap<String, f64>,
    canary: BTreeMap<String, f64>,
}

fn tally(fields: &BTreeMap<String, f64>) -> Tally {
    let counters = [
        ("calls", Counter::Calls),
        ("abandons", Counter::Abandons),
        ("transfers", Counter::Transfers),
        ("errors", Counter::Errors),
        ("contained", Counter::Contained),
        ("handled", Counter::Handled),
        ("handle_sum_s", Counter::HandleSum),
        ("handle_sumsq_s2", Counter::HandleSquares),
    ];
    let known = counters.into_iter().filter_map(|(name, counter)| fields.get(name).map(|value| (counter, *value)));
    known.fold(Tally::default(), |tally, (counter, value)| tally.with(counter, value))
}

fn settings(init: Init) -> Result<Settings, String> {
    let metric = |line: &MetricLine| {
        let known = Metric::named(&line.name).ok_or_else(|| format!("metric `{}` is not known", line.name))?;
        let hint = init.baseline_hint.get(&line.name).copied().unwrap_or(known.hint);
        Ok(Metric { tolerance: line.tolerance, margin: line.margin, hint, ..known })
    };
    Ok(Settings {
        metrics: init.metrics.iter().map(metric).collect::<Result<_, String>>()?,
        plan: init.plan,
        min_step: init.min_step_min,
        max_step: init.max_step_min,
        expected_calls_per_hour: init.expected_calls_per_hour,
        look_every: init.tick_min,
        ..Settings::default()
    })
}

/// Serves one conversation to its end; every `init` discards what was before.
pub(crate) fn serve(input: impl BufRead, mut out: impl Write) -> anyhow::Result<()> {
    let mut judge: Option<Sequential> = None;
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
fn said(judge: &mut Option<Sequential>, line: &str) -> Result<Option<Judgement>, String> {
    Ok(match serde_json::from_str(line).map_err(|e| format!("{e}; an `init`, `tick` or `end` of decision protocol 1 is accepted"))? {
        Line::End => None,
        Line::Init(init) => {
            let (fresh, said) = Sequential::start(settings(init)?)?;
            *judge = Some(fresh);
            Some(said)
        }
        Line::Tick(tick) => {
            let windows: Vec<Window> = tick.windows.iter().map(window).collect();
            let reading = if tick.status == "error" { Reading::Unreadable } else { Reading::Windows(&windows) };
            Some(judge.as_mut().ok_or("a tick came before any init")?.look(tick.weight, reading))
        }
    })
}

fn window(line: &WindowLine) -> Window {
    Window { start: line.start_min, revision: line.rev, weight: line.weight, stable: tally(&line.stable), canary: tally(&line.canary) }
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
            (vec![INIT.replace("\"error\",\"kind\"", "\"mood\",\"kind\"")], "`mood`"),
        ] {
            let refused = played(&lines).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
