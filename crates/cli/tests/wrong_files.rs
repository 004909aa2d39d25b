//! What a person is told whose rollout file is not accepted: every message as a whole, in `wrong.txt`, and exit code 2.
//!
//! `UPDATE_SNAPSHOTS=1` writes it anew; read the difference as somebody who has five minutes and never saw the source.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn wrong() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong")
}

/// What `serin validate FILE` says; the file's name is relative to `folder`, so that no message depends on the machine.
fn told(folder: &Path, file: &str) -> String {
    let mut serin = Command::new(env!("CARGO_BIN_EXE_serin"));
    let output = serin.args(["validate", file]).current_dir(folder).env_remove("SERIN_STAGE").output().unwrap();
    let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2), "{file}: {out}{said}");
    assert!(out.is_empty() && !said.contains("panicked"), "{file}: {out}{said}");
    said
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_wrong_file_is_refused_with_its_place_the_reason_and_what_to_do() {
    let folder = wrong();
    let names = names(&folder);
    assert!(names.len() >= 45, "{}", names.len());
    let mut all = String::new();
    for name in names {
        let said = told(&folder, &name);
        assert!(said.starts_with(&format!("error: {name}:")), "{name} has no place: {said}");
        writeln!(all, "{said}").unwrap();
    }
    let kept = folder.with_extension("txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&kept, &all).unwrap();
    }
    let kept = std::fs::read_to_string(&kept).unwrap_or_default();
    let changed = kept.lines().zip(all.lines()).find(|(kept, now)| kept != now);
    assert!(kept == all, "tests/wrong.txt differs (UPDATE_SNAPSHOTS=1 writes it anew): {changed:?}");
}

#[test]
fn what_is_no_rollout_file_at_all_is_refused_in_a_line() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_rollout_files");
    std::fs::create_dir_all(folder.join("directory.yaml")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("binary.yaml", b"flow: main_ivr\nstable: \xC3\x28\n");
    write("utf16.yaml", &[&[0xFF, 0xFE][..], &"flow: main_ivr\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()].concat());
    write("huge.yaml", "# nothing\n".repeat(10_000).as_bytes());
    for (name, expected) in [
        ("missing.yaml", "rollout file missing.yaml cannot be read: No such file or directory (os error 2)"),
        ("directory.yaml", "rollout file directory.yaml cannot be read: it is a directory; name the file in it"),
        ("binary.yaml", "rollout file binary.yaml is not accepted: line 2 is not text; save it as UTF-8"),
        ("utf16.yaml", "rollout file utf16.yaml is not accepted: it is UTF-16; save it as UTF-8"),
        ("huge.yaml", "rollout file huge.yaml is not accepted: it is longer than 65536 bytes, and no rollout file is"),
    ] {
        assert_eq!(told(&folder, name), format!("error: {expected}\n"));
    }
}
