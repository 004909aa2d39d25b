"""Whatever the local stack started is gone afterwards, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stack

# Deploys, has a function started, tells the server's process group and its scratch directory, then ends as asked.
SCRIPT = """
import sys, time
import stack
with stack.Stack() as aws:
    aws.deploy()
    try:
        aws.invoke("random-percentage", stack.event("random-percentage"))
    except stack.FunctionFailed:
        pass
    print(aws._process.popen.pid, aws._scratch, flush=True)
    if sys.argv[1] == "exception":
        raise RuntimeError("boom")
    if sys.argv[1] == "wait":
        time.sleep(60)
"""


def heed_signals():
    """A runner that was itself started in the background ignores some, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("ending", "number", "code"),
    [
        ("end", None, 0),
        ("exception", None, 1),
        ("wait", signal.SIGINT, -signal.SIGINT),
        ("wait", signal.SIGTERM, 128 + signal.SIGTERM),
        ("wait", signal.SIGHUP, 128 + signal.SIGHUP),
    ],
)
def test_nothing_is_left_behind(ending, number, code, aws):
    """(`aws` only to have missing binaries reported first; both servers run side by side.)"""
    command = [sys.executable, "-c", SCRIPT, ending]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=Path(__file__).parent, text=True, preexec_fn=heed_signals, **pipes) as child:
        try:
            told = child.stdout.readline().split()
            assert len(told) == 2, child.stderr.read()
            if number:
                child.send_signal(number)
            child.wait(timeout=20)
        finally:
            child.kill()
    assert child.returncode == code
    group, scratch = int(told[0]), told[1]
    deadline = time.monotonic() + 5  # orphans are reaped by init, in its own time
    while group_is_alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not group_is_alive(group)
    assert not os.path.exists(scratch)


def test_a_missing_binary_says_what_to_run(tmp_path):
    with pytest.raises(stack.LocalError, match="cargo build"):
        stack.binary("canary-evaluator", tmp_path)


def test_a_parameter_that_the_template_forbids_is_refused():
    """Accelerated time outside the local stage must not even deploy."""
    with stack.Stack() as aws:
        with pytest.raises(Exception, match="EventClockIsLocal|local` only|AssertDescription"):
            # The local AWS knows no CodeDeploy, and would refuse that first.
            aws.deploy("prod", parameters={"Clock": "event", "EndpointDeployment": "AllAtOnce"})
