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
    assert_eq!((compared["items"][0]["policies"].as_array().unwrap().len(), &compared["items"][0]["rollout"]), (5, &"played".into()));
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

/// A ledger that an earlier version wrote.
fn kept() -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../core/tests/ledgers/traffic-cop.jsonl");
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// `REVISION:HASH` of an entry.
fn anchor_of(entries: &[String], revision: usize) -> String {
    format!("{revision}:{}", serin_core::ledger::Hash::of(&entries[revision - 1]))
}

fn verified(name: &str, lines: &[String], more: &[&str]) -> (Option<i32>, String) {
    let file = written(name, &(lines.join("\n") + "\n"));
    let output = serin(&[&["ledger", "verify", "--file", file.to_str().unwrap()], more].concat());
    let (_, out, refused) = said(&output);
    (output.status.code(), out + &refused)
}

#[test]
fn a_copy_of_a_ledger_is_checked_anywhere() {
    let entries = kept();
    let (code, said) = verified("copy.jsonl", &entries, &["main_ivr"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("37 entries (1 to 37) of 4 rollouts") && said.contains("no anchor") && said.contains("more may have followed"),
        "{said}"
    );

    // With what was measured in between, from a later rollout on, and an anchor.
    let mut lines = entries[14..].to_vec();
    lines.insert(20, r#"{"window":{"start":"2026-11-21T09:00:00Z"}}"#.to_owned());
    let (code, said) = verified("latest.jsonl", &lines, &["--anchor", &anchor_of(&entries, 30), "-o", "json"]);
    let checked: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &checked["intact"], &checked["holds"]["first"], &checked["anchor"]["revision"]),
        (Some(0), &true.into(), &15.into(), &30.into())
    );
    assert_eq!(format!("37:{}", checked["holds"]["head_hash"].as_str().unwrap()), anchor_of(&entries, 37));

    // As an alert tells it.
    let alert = |flow: &str, revision: usize| {
        let hash = anchor_of(&entries, revision);
        let hash = hash.split_once(':').unwrap().1;
        written(
            &format!("{flow}-{revision}.json"),
            &format!(r#"{{"flow_id":"{flow}","revision":{revision},"head_hash":"{hash}","severity":"info"}}"#),
        )
    };
    let (code, said) = verified("copy.jsonl", &entries, &["--anchor", alert("main_ivr", 24).to_str().unwrap()]);
    assert!(code == Some(0) && said.contains("entry 24 is the one of the anchor"), "{code:?} {said}");
    let (code, said) = verified("copy.jsonl", &entries, &["--anchor", alert("sales_ivr", 24).to_str().unwrap()]);
    assert!(code == Some(20) && said.contains("is of flow sales_ivr"), "{code:?} {said}");
}

#[test]
fn a_copy_that_was_changed_is_told_with_its_place_and_what_is_no_copy_is_no_answer() {
    let entries = kept();
    let changed = |at: usize| {
        let mut entries = entries.clone();
        entries[at - 1] = entries[at - 1].replacen("because", "Because", 1);
        entries
    };
    let mut missing = entries.clone();
    missing.remove(9);
    let anchor = anchor_of(&entries, 37);
    let beyond = anchor.replacen("37:", "38:", 1);
    let newer: Vec<String> = entries.iter().map(|entry| entry.replacen("\"schema\":1", "\"schema\":2", 1)).collect();
    /// File, lines, arguments; exit code and words.
    type Case<'a> = (&'a str, Vec<String>, &'a [&'a str], i32, &'a str);
    let cases: [Case<'_>; 10] = [
        ("newer.jsonl", newer, &[], 20, "deploy the newer version"),
        ("changed.jsonl", changed(12), &[], 10, "entry 13 does not follow from entry 12"),
        ("last.jsonl", changed(37), &["--anchor", &anchor], 10, "entry 37 has hash"),
        ("missing.jsonl", missing, &[], 10, "entry 10 is missing: 11 stands in its place"),
        ("cut.jsonl", entries[..30].to_vec(), &["--anchor", &anchor], 10, "the ledger ends at 30"),
        ("beyond.jsonl", entries.clone(), &["--anchor", &beyond], 10, "the ledger ends at 37"),
        ("before.jsonl", entries[14..].to_vec(), &["--anchor", &anchor_of(&entries, 3)], 20, "begins at 15"),
        ("other.jsonl", entries.clone(), &["sales_ivr"], 20, "main_ivr, not of sales_ivr"),
        ("anchor.jsonl", entries.clone(), &["--anchor", "31:c0ffee"], 20, "REVISION:HASH"),
        ("history.jsonl", vec![history()], &[], 20, "does not begin with a ledger entry"),
    ];
    for (name, lines, more, expected, words) in cases {
        let (code, said) = verified(name, &lines, more);
        assert!(code == Some(expected) && said.contains(words), "{name}: {code:?} {said}");
    }
    assert_eq!(serin(&["ledger", "verify"]).status.code(), Some(2), "a flow or a file");
}
