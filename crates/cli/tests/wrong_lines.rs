//! What a person is told whose command line is not accepted, or who did not say that it is meant: every message as a whole, and its exit
//! code, in `wrong_lines.txt`. Nothing is contacted: nobody listens where AWS would be.
//!
//! That file is the list too. `UPDATE_SNAPSHOTS=1` writes what is said below each line of it anew, also below one that was just added; read
//! the difference as somebody who is in a hurry and never saw the source.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What lies in the directory in which the lines are run.
const FILES: [(&str, &str); 6] = [
    ("rollout.yaml", "flow: main_ivr\nstable: {flow_id: b10e}\ncanary: {flow_id: 97ee, version: \"15.0\"}\n"),
    (
        "in-flow.yaml",
        "flow: main_ivr\nstrategy: in-flow\ncanary: {flow_id: b10e, version: \"15.0\"}\noutcomes: {stable: 0c0e, canary: 0c0f}\n\
         policy: {rule: {kind: sequential, metrics: [{name: error}]}}\n",
    ),
    ("flow.yaml", "inboundCall:\n  name: Main_IVR_Green\n"),
    ("contexts.yaml", "current: eu\ncontexts:\n  eu: {stage: prod, region: eu-central-1}\n  us: {stage: prod, region: us-east-1}\n"),
    ("broken.yaml", "contexts:\n  eu: {stge: prod}\n"),
    (
        "other-alert.json",
        "{\"flow_id\":\"sales_ivr\",\"revision\":24,\"head_hash\":\"0000000000000000000000000000000000000000000000000000000000000000\"}\n",
    ),
];

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong_lines");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("home")).unwrap();
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let export = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/ledgers/traffic-cop.jsonl");
    std::fs::copy(export, folder.join("export.jsonl")).unwrap();
    folder
}

/// What a line says, and its exit code. Lines are a shell's, so that quotes and variables mean what they mean to people.
fn told(folder: &Path, line: &str) -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_serin")).parent().unwrap();
    let output = Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir(folder)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", binaries.display()))
        .env("HOME", folder.join("home"))
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let code = output.status.code().unwrap();
    assert!(out.is_empty(), "{line} prints as if it had been done: {out}");
    assert!([2, 3, 20].contains(&code), "{line} ended with {code}: {said}");
    assert!(!said.contains("panicked") && !said.contains("could not be reached") && !said.contains('\u{1b}'), "{line}: {said}");
    format!("{said}exit {code}\n")
}

#[test]
fn every_wrong_command_line_is_refused_with_the_reason_and_what_to_do() {
    let (folder, path) = (folder(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong_lines.txt"));
    let kept = std::fs::read_to_string(&path).unwrap();
    let mut all = Vec::new();
    for case in kept.split("\n# ") {
        let mut lines = case.lines();
        let title = lines.next().unwrap().trim_start_matches("# ");
        let line = lines.next().unwrap().strip_prefix("$ ").unwrap_or_else(|| panic!("no `$ ` line follows: {title}"));
        all.push(format!("# {title}\n$ {line}\n{}", told(&folder, line)));
    }
    assert!(all.len() >= 60, "{}", all.len());
    let all = all.join("\n");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &all).unwrap();
        return;
    }
    let changed = kept.lines().zip(all.lines()).find(|(kept, now)| kept != now);
    assert!(kept == all, "tests/wrong_lines.txt differs (UPDATE_SNAPSHOTS=1 writes it anew): {changed:?}");
}
