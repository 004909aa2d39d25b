"""What is checked out, and so what a release of it is called. Standard library only: `make` asks as well.

    python3 infra/release/checkout.py arm64
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def output(*command: str, root: Path = ROOT) -> str:
    """What a command says, or nothing where it fails or is missing."""
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def commit(root: Path = ROOT) -> tuple[str, bool]:
    """The commit, empty where there is no repository, and whether there is anything that is not committed: a new file counts, for cargo
    and the packaging would take it in."""
    changes = output("git", "status", "--porcelain", "--untracked-files=normal", root=root)  # whatever a person's git shows by itself
    return output("git", "rev-parse", "HEAD", root=root), bool(changes)


def committed(root: Path = ROOT) -> int | None:
    """When that was, in seconds since 1970. `SOURCE_DATE_EPOCH` stands in where there is no repository, and only there."""
    when = output("git", "log", "-1", "--format=%ct", root=root) or os.environ.get("SOURCE_DATE_EPOCH")
    return int(when) if when else None


def name(architecture: str, root: Path = ROOT) -> str:
    """The folder of a release. With the commit in it, so that the release before stays where it is: it is the way back."""
    version = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    head, changed = commit(root)
    return f"serin-{version}-{head[:12] or 'unknown'}{'-dirty' if changed else ''}-{architecture}"


if __name__ == "__main__":
    print(name(sys.argv[1]))
