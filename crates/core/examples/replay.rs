//! Speaks decision protocol 1 on stdin and stdout, with the judge of the core.

use serde::Deserialize;
use serin_core::sequential::{Action, Counter, Judgement, Metric, Reading, Sequential, Settings, Tally, Window};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut judge: Option<Sequential> = None;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let said = match serde_json::from_str(&line?)? {
            Line::End => break,
            Line::Init(init) => {
                let (fresh, said) = Sequential::start(settings(init)?)?;
                judge = Some(fresh);
                said
            }
            Line::Tick(tick) => {
                let windows: Vec<Window> = tick.windows.iter().map(window).collect();
                let reading = if tick.status == "error" { Reading::Unreadable } else { Reading::Windows(&windows) };
                judge.as_mut().ok_or("a tick came before any init")?.look(tick.weight, reading)
            }
        };
        serde_json::to_writer(&mut out, &answer(&said))?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
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
