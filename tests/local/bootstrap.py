"""Makes the environments that tests and demo need, once each, under `.local`, and runs Python in the one with the tools. Standard library only:
this file runs under any python3.

    python3 tests/local/bootstrap.py                          only make sure that the tools are there
    python3 tests/local/bootstrap.py -m pytest tests/local    ... and run something with them
    python3 tests/local/bootstrap.py --all                    make everything that `make test` needs
    python3 tests/local/bootstrap.py --package FILE …         run a script with what makes a release
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
VENV = LOCAL / "venv"
PACKAGE = LOCAL / "package"
PEERS = LOCAL / "peers" / "python"
HERE = Path(__file__).parent
# Each apart from the others, for each pins a hundred packages: the local stack and pytest, the template's checker, the vendor's client,
# what makes a release (which no test needs: a linker for every machine is large), and what the endpoint is compared with (in benchmarks).
ENVIRONMENTS = {
    VENV: HERE / "requirements.txt",
    LOCAL / "checkov": HERE / "checkov" / "requirements.txt",
    LOCAL / "contract" / "python": HERE / "contract" / "requirements.txt",
    PACKAGE: ROOT / "infra" / "release" / "requirements.txt",
    PEERS: HERE / "peers" / "python" / "requirements.txt",
}


def environment(directory: Path) -> Path:
    """The Python of an environment, which is made when it is missing or its requirements changed. Two at once make it once."""
    requirements, python, stamp = ENVIRONMENTS[directory], directory / "bin" / "python", directory / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with open(directory.parent / f"{directory.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
            print(f"installing {requirements.relative_to(ROOT)} into {directory.relative_to(ROOT)} (once)", file=sys.stderr, flush=True)
            venv.create(directory, clear=True, symlinks=True, with_pip=True)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
            subprocess.run(pip, check=True)
            stamp.write_text(wanted)  # last: an interrupted installation starts again
    return python


def tools() -> Path:
    """The Python of the tools' environment."""
    return environment(VENV)


def enter() -> None:
    """Call it first in a script: continues the script under the tools' Python, in the same process."""
    python = tools()
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    if sys.argv[1:] == ["--all"]:
        for directory in ENVIRONMENTS:
            if directory not in (PACKAGE, PEERS):
                environment(directory)
        sys.exit()
    packages = sys.argv[1:2] == ["--package"]
    python, command = environment(PACKAGE if packages else VENV), sys.argv[1 + packages :]
    if command:
        os.execv(python, [str(python), *command])
