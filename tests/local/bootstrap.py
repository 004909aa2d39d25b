"""Makes `.local/venv` with the pinned tools, once, and runs Python inside it. Standard library only: this file runs under any python3.

    python3 tests/local/bootstrap.py                          only make sure that the tools are there
    python3 tests/local/bootstrap.py -m pytest tests/local    ... and run something with them
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
VENV = LOCAL / "venv"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def tools() -> Path:
    """The Python of the tools' environment, which is made when it is missing or its requirements changed."""
    python = VENV / "bin" / "python"
    stamp = VENV / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        print(f"installing the local tools into {VENV.relative_to(ROOT)} (once)", file=sys.stderr, flush=True)
        venv.create(VENV, clear=True, symlinks=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)  # last: an interrupted installation starts again
    return python


def enter() -> None:
    """Call it first in a script: continues the script under the tools' Python, in the same process."""
    python = tools()
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    tools_python = tools()
    if sys.argv[1:]:
        os.execv(tools_python, [str(tools_python), *sys.argv[1:]])
