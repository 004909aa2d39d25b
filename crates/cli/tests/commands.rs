//! The commands that contact nothing, run as an operator runs them.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output};

fn serin(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_serin")).args(arguments).env_remove("SERIN_STAGE").output().unwrap()
}

fn said(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn written(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Forty minutes in which half of the canary's calls fail.
fn history() -> String {
    let init = r#"{"type":"init","protocol":1,"rollout":"played","tick_min":10,"window_min":1,"horizon_min":720,"plan":[5,25,50,100],"min_step_min":30,"max_step_min":180,"expected_calls_per_hour":600,"alpha":0.01,"metrics":[{"name":"error","kind":"rate","num":"errors","den":"calls","tolerance":0.005,"margin":0.02}]}"#;
    let side = |calls: u32, errors: u32| {
        format!(r#"{{"calls":{calls},"errors":{errors},"abandons":0,"transfers":0,"contained":{}}}"#, calls - errors)
    };
    let tick = |minute: u32| {
        let window = |start: u32| {
            format!(r#"{{"start_min":{start},"rev":0,"weight":20,"final":true,"stable":{},"canary":{}}}"#, side(8, 0), side(2, 1))
        };
        let windows: Vec<String> = (minute - 10..minute).map(window).collect();
        format!(r#"{{"type":"tick","t_min":{minute},"weight":20,"status":"ok","windows":[{}]}}"#, windows.join(","))
    };
    let ticks: Vec<String> = (1..=4).map(|n| tick(10 * n)).collect();
    format!("{init}\n{}\n", ticks.join("\n"))
}

#[test]
fn a_history_is_compared_under_the_policies_that_were_named() {
    let file = written("played.jsonl", &history());
    let policy = written("policy.yaml", "rule: {kind: hysteresis, error_percent: 60}\nerrors: {percent: 70}\ncatastrophe: {percent: 80}\n");
    let rollout = written(
        "rollout.yaml",
        "flow: main_ivr\nstable: {flow_id: b10e}\ncanary: {flow_id: 97ee, version: \"15.0\"}\npolicy:\n  rule: {kind: consecutive}\n",
    );
    let (file, policy, rollout) = (file.to_str().unwrap(), policy.to_str().unwrap(), rollout.to_str().unwrap());
    let (done, out, _) = said(&serin(&["replay", file, "--policy", "sequential", "--policy", policy, "--policy", rollout]));
    assert!(done && out.contains("minute 10 at 20 %") && out.contains("policy.yaml") && out.contains("rollout.yaml"), "{out}");
    let (done, out, _) = said(&serin(&["replay", file, "-o", "json"]));
    let compared: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(done);
    assert_eq!((compared[0]["policies"].as_array().unwrap().len(), &compared[0]["rollout"]), (5, &"played".into()));
}

#[test]
fn what_cannot_be_replayed_is_refused_with_its_place() {
    let cut = written("cut.jsonl", &history()[..history().len() - 9]);
    let policy = written("wrong.yaml", "rule: {kind: coin}\n");
    let file = written("whole.jsonl", &history());
    let empty = written("empty.jsonl", "\n\n");
    let huge = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("huge.jsonl");
    std::fs::File::create(&huge).unwrap().set_len(257 * 1024 * 1024).unwrap();
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let cases = [
        (vec!["replay".to_owned(), path(&cut)], "line 5"),
        (vec!["replay".to_owned(), path(&empty)], "nothing in it"),
        (vec!["replay".to_owned(), path(&huge)], "256 MB"),
        (vec!["replay".to_owned(), "/no/such/file".to_owned()], "cannot be read"),
        (vec!["replay".to_owned(), env!("CARGO_TARGET_TMPDIR").to_owned()], "error"),
        (vec!["replay".to_owned(), path(&file), "--policy".to_owned(), "coin".to_owned()], "not-worse"),
        (vec!["replay".to_owned(), path(&file), "--policy".to_owned(), path(&policy)], "coin"),
        (vec!["replay".to_owned()], "<FILE>"),
        (vec!["replay".to_owned(), path(&file), "--stdio".to_owned()], "cannot be used with"),
        (vec!["plan".to_owned()], "--calls-per-hour"),
    ];
    for (arguments, expected) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (done, _, refused) = said(&serin(&arguments));
        assert!(!done && refused.contains(expected), "{arguments:?}: {refused}");
        assert!(!refused.contains("panicked"), "{refused}");
    }
    std::fs::remove_file(huge).unwrap();
}

#[test]
fn a_plan_tells_weights_and_times_before_anything_starts() {
    let (done, out, _) = said(&serin(&["plan", "--calls-per-hour", "600"]));
    assert!(done && out.contains("at 50 %") && out.contains("when all is well"), "{out}");
    let (done, out, _) = said(&serin(&["plan", "--calls-per-hour", "600", "--alpha", "0.01", "-o", "json"]));
    let planned: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(done && planned["hours_to_full"].as_f64().unwrap() > 1.5, "{planned}");
}
