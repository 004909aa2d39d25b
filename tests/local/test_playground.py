"""The playground is there for whoever sources its environment, and gone when it ends."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import playground
import pytest
import stack
from test_harness import group_is_alive, heed_signals

SHELLS = [shell for shell in ("sh", "bash", "zsh", "dash") if shutil.which(shell)]
ROLLOUT = """\
flow: main_ivr
stable: {{flow_id: {stable}}}
canary: {{flow_id: {canary}, version: "{version}"}}
labels: {{stable: v1, canary: v2}}
policy: {{steps: [5, 25, 50], expected_calls_per_hour: 6700}}
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """(Its directory has a blank and a quote in its name, as a checkout may.)"""
    place = tmp_path_factory.mktemp("it's here") / ".local"
    with playground.InAnotherTerminal(place) as running:
        yield running


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_serin_and_both_flows(ground, shell):
    told = ground.shell('command -v serin; echo "$STABLE_FLOW $CANARY_FLOW"; serin gate main_ivr', shell).stdout.splitlines()
    assert told[0] == str(stack.BINARIES / "serin")
    assert told[1] == f"{playground.demo.STABLE} {playground.demo.CANARY}"


def test_what_the_shell_had_for_the_real_cloud_does_not_count(ground):
    had = {"AWS_PROFILE": "production", "AWS_SESSION_TOKEN": "a-real-one", "SERIN_STAGE": "prod", "SERIN_CONTEXT": "prod", "SERIN_TIME": ""}
    ground.shell("serin gate main_ivr", **had)


def test_it_says_what_to_do_next_and_every_path_in_it_is_there(ground):
    said = ground.said()
    for file in ("env", "check-in"):
        assert (ground.place / file).exists() and playground.shown(ground.place / file) in said
    for command in ("serin init", "serin deploy", "serin status"):
        assert f"  {command} main_ivr" in said or f"  {command} rollout.yaml" in said


def test_a_broken_change_is_checked_in_rolled_out_and_taken_back_while_time_runs(ground):
    done = ground.shell('"$PWD/.local/check-in" broken')
    version = done.stdout.strip()
    assert re.fullmatch(r"\d+\.0", version), "nothing but the version is on standard output"
    assert "errors" in done.stderr and "flow.yaml" in done.stderr
    exported = (ground.place / "flow.yaml").read_text()
    assert "name: Main_IVR_Green" in exported and "error: 0.15" in exported
    file = ground.place.parent / "rollout.yaml"
    file.write_text(ROLLOUT.format(stable=playground.demo.STABLE, canary=playground.demo.CANARY, version=version))
    ground.shell("serin start rollout.yaml --reason 'to see it taken back'")
    deadline = time.monotonic() + 60
    while not re.search(r"runs version 14\.0 again; calls are on stable", ground.said()):
        assert time.monotonic() < deadline, ground.said()
        time.sleep(0.3)
    told = [line[7:] for line in ground.said().splitlines() if re.match(r"\d\d:\d\d  main_ivr ", line)]
    assert len(told) == len(set(told)) == 4, told  # requested, 5 %, rolling back, rolled back


def test_a_change_of_no_known_kind_is_refused_in_words(ground):
    done = ground.shell('"$PWD/.local/check-in" perfect', check=False)
    assert done.returncode == 2 and "healthy" in done.stderr and not done.stdout


def test_a_second_playground_in_the_same_place_is_refused_and_does_no_harm(ground):
    before = (ground.place / "env").read_text()
    command = [sys.executable, playground.__file__, "--place", ground.place]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert second.returncode == 1 and "runs here already" in second.stderr
    assert (ground.place / "env").read_text() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP)])
def test_nothing_is_left_when_it_ends(tmp_path, number, code):
    command = [sys.executable, playground.__file__, "--place", tmp_path]
    with subprocess.Popen(command, text=True, preexec_fn=heed_signals, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            while "Ctrl-C" not in (line := child.stdout.readline()):
                assert line, child.stderr.read()
            children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
            assert len(children) == 2, "the simulator and the local AWS, each the leader of its group"
            time.sleep(1)
            child.send_signal(number)
            child.wait(timeout=20)
        finally:
            child.kill()
    assert child.returncode == code
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 5  # orphans are reaped by init, in its own time
    while any(group_is_alive(int(group)) for group in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(group_is_alive(int(group)) for group in children)
