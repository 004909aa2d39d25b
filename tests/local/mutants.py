"""The proof is proved: each patch in tests/mutants breaks what Serin promises, and the test that it names must notice.

A patch begins with two lines: what it breaks, and `# caught by: TARGET [FILTER]`, a test target of the workspace with a part of a test's
name. All is done in a worktree beside this one, which is removed afterwards; what is changed here and not committed goes along, what is
not tracked does not. `mutants.py lease row` plays only patches whose names hold one of the words."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bootstrap import ROOT

PATCHES = ROOT / "tests" / "mutants"
# Always the same place, so that cargo finds what it built there last time.
SCRATCH = Path(tempfile.gettempdir()) / "serin-mutants"
# A place of its own: cargo names what it builds by the place within the workspace, and would hand a broken crate to the next `make test`.
TARGET = str(ROOT / "target" / "mutants")
# Seconds. A mutant may wait for what never comes; the first build is everybody's, and takes what it takes.
PATIENCE, FIRST_BUILD = 300, 3600


def git(*words: str, at: Path = ROOT) -> str:
    return subprocess.run(["git", *words], cwd=at, check=True, capture_output=True, text=True).stdout.strip()


def cargo(*words: str, patience: int = PATIENCE) -> subprocess.CompletedProcess | None:
    """None where it did not end."""
    env = {**os.environ, "CARGO_TARGET_DIR": TARGET, "RUST_BACKTRACE": "0"}
    try:
        return subprocess.run(["cargo", *words], cwd=SCRATCH, env=env, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return None


def read(patch: Path) -> tuple[str, list[str]]:
    """What a patch breaks, and the target and filter that catch it."""
    breaks, caught_by = patch.read_text().splitlines()[:2]
    test = re.fullmatch(r"# caught by: (\w+)(?: (\w+))?", caught_by)
    assert breaks.startswith("# ") and test, f"{patch.name} does not begin with `# what it breaks` and `# caught by: TARGET [FILTER]`"
    return breaks[2:], [word for word in test.groups() if word]


def passes(target: str, *name: str) -> bool:
    done = cargo("test", "--workspace", "--quiet", "--test", target, *name)
    return done is not None and done.returncode == 0


def play(patch: Path, target: str, *name: str) -> str:
    git("apply", str(patch), at=SCRATCH)
    try:
        built = cargo("test", "--workspace", "--quiet", "--test", target, "--no-run")
        if built is None or built.returncode != 0:
            return "does not compile"
        return "survived" if passes(target, *name) else "caught"
    finally:
        git("apply", "--reverse", str(patch), at=SCRATCH)


def main(words: list[str]) -> int:
    patches = [patch for patch in sorted(PATCHES.glob("*.patch")) if not words or any(word in patch.name for word in words)]
    wanted = {patch: read(patch) for patch in patches}
    git("worktree", "prune")
    git("worktree", "add", "--detach", str(SCRATCH), git("stash", "create") or "HEAD")
    outcomes = {}
    try:
        targets = sorted({test[0] for _, test in wanted.values()})
        print(f"▸ without a mutant: {', '.join(targets)}", flush=True)
        only = [word for target in targets for word in ("--test", target)]
        built = cargo("test", "--workspace", "--quiet", "--no-run", *only, patience=FIRST_BUILD)
        if built is None or built.returncode != 0:
            print(built.stderr if built else "not built in time", file=sys.stderr)
            return 1
        for test in sorted({tuple(test) for _, test in wanted.values()}):
            if not passes(*test):
                print(f"{' '.join(test)} fails without any mutant, and proves nothing", file=sys.stderr)
                return 1
        for patch, (breaks, test) in wanted.items():
            began = time.monotonic()
            outcomes[patch.stem] = play(patch, *test)
            took = time.monotonic() - began
            print(f"{outcomes[patch.stem]:18} {patch.stem} ({breaks}) by {' '.join(test)}, {took:.0f} s", flush=True)
    finally:
        git("worktree", "remove", "--force", str(SCRATCH))
    caught = sum(outcome == "caught" for outcome in outcomes.values())
    print(f"{caught} of {len(outcomes)} mutants are caught")
    return 0 if outcomes and caught == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
