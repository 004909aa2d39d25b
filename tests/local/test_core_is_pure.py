"""The lints that keep the core from looking for itself do bite: each line below must be refused under the core's clippy.toml."""

import os
import re
import subprocess

import pytest
from bootstrap import ROOT

LOOKS_FOR_ITSELF = {
    "the wall clock": "std::time::SystemTime::now()",
    "the monotonic clock": "std::time::Instant::now()",
    "the environment": 'std::env::var("STAGE")',
    "a file": 'std::fs::read_to_string("x")',
    "a pause": "std::thread::sleep(std::time::Duration::ZERO)",
    "a thread": "std::thread::spawn(|| ())",
    "random order": "std::collections::HashMap::<u8, u8>::new()",
}


def refused(tmp_path, body: str) -> bool:
    source = tmp_path / "attempt.rs"
    source.write_text(f"pub fn attempt() {{ let _ = {body}; }}\n")
    lints = ["-Dclippy::disallowed_methods", "-Dclippy::disallowed_types"]
    command = ["clippy-driver", "--crate-type=lib", "--edition=2024", "--emit=metadata", "--out-dir", tmp_path, *lints, source]
    done = subprocess.run(command, env={**os.environ, "CLIPPY_CONF_DIR": str(ROOT / "crates" / "core")}, capture_output=True, text=True)
    assert done.returncode == 0 or re.search(r"use of a disallowed (method|type)", done.stderr), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("what", LOOKS_FOR_ITSELF)
def test_the_core_may_not_look_at(tmp_path, what):
    assert refused(tmp_path, LOOKS_FOR_ITSELF[what])


def test_the_core_may_compute(tmp_path):
    assert not refused(tmp_path, "1 + 1")


def test_the_core_allows_no_exception():
    allowed = [path for path in (ROOT / "crates" / "core" / "src").rglob("*.rs") if re.search(r"allow\(clippy::disallowed", path.read_text())]
    assert allowed == []
