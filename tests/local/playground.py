"""The playground: a local stack with callers on which time runs by itself, to try `serin` on.

    python3 tests/local/playground.py [--speed 1.5] [--seed N] [--place .local]
    python3 tests/local/playground.py check-in healthy|broken --simulator URL [--place .local]   what `.local/check-in` runs

Everything is what production runs, as in the demo; only the clock is the simulator's. While it runs, `.local/env` makes `serin` work on
it (`. .local/env`) and `.local/check-in` puts a change into the canary flow. Ctrl-C or SIGTERM ends it, and everything is gone.
"""

import argparse
import base64
import contextlib
import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import bootstrap

bootstrap.enter()

import demo  # noqa: E402  they need the tools
import stack  # noqa: E402

SPEED = 1.5  # virtual minutes a second: a healthy rollout of 165 minutes is promoted within two
CALLS_PER_HOUR = 6700  # day and night, what the demo has in the hours it plays
BEFORE = 60  # virtual minutes of calls before anybody can do anything
ASK = 2  # calls of a tick that ask the deployed function
CHANGES = {"healthy": demo.HEALTHY, "broken": demo.BROKEN}
ENV = """\
# For sh, bash and zsh: . {env}
# Written by the playground and gone with it.
unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN SERIN_CONTEXT SERIN_LEDGER_TABLE GENESYS_LOGIN
{exports}
export NO_PROXY="127.0.0.1${{NO_PROXY:+,$NO_PROXY}}"
export PATH={binaries}:"$PATH"
"""
CHECK_IN = """\
#!/bin/sh
# Checks a change into the canary flow of the running playground: check-in healthy|broken
exec {python} {script} check-in --simulator {simulator} --place {place} "$@"
"""
NEXT = """
{flow}: callers call {calls:,} times an hour, and {speed:g} minutes pass in a second
  stable  {stable}  Main_IVR_Blue
  canary  {canary}  Main_IVR_Green; {healthy} and {broken} are checked in, and the callers of {broken} would meet errors

In another terminal, in this directory:

  . {env}    # `serin` from here on is the one built here, and works on this playground
  serin init {flow} --stable "$STABLE_FLOW" --canary "$CANARY_FLOW" --version 15.0 --mode act --out rollout.yaml
  {check_in} healthy    # the next change; `broken` is one whose callers meet errors. Says its version and writes {yaml}
  serin deploy rollout.yaml --flow-yaml {yaml} --reason "new opening hours"
  serin status {flow} --watch

docs/quick-start.md goes through it step by step. Alerts show up here. Ctrl-C ends the playground, and everything in it is gone.
"""


class Playground(stack._Cleanly):
    """What `serin` is tried on. Its files are written last and removed first: whoever finds them finds a stack that answers."""

    def __init__(self, aws: stack.Stack, genesys: stack.Simulator, place: Path, speed: float = SPEED, show=print):
        self.aws, self.genesys, self.place, self.speed, self.show = aws, genesys, place, speed, show
        self.play = demo.Play(aws, genesys, show=lambda _: None)
        self.checked_in = {}
        self._told, self._trouble = set(), None

    def start(self) -> None:
        demo.deploy(self.aws, self.genesys)
        self.checked_in = {change: self.genesys.check_in(demo.CANARY, behavior) for change, behavior in CHANGES.items()}
        self.play.calls(BEFORE, ask=0)
        self.tick()
        (self.place / "check-in").touch(mode=0o755)
        (self.place / "check-in").write_text(
            CHECK_IN.format(
                python=shlex.quote(sys.executable),
                script=shlex.quote(str(Path(__file__).resolve())),
                simulator=shlex.quote(self.genesys.url),
                place=shlex.quote(str(self.place.resolve())),
            )
        )
        exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in self.environment().items())
        # In one step: whoever waits for it reads all of it.
        (self.place / "env.new").write_text(
            ENV.format(env=shown(self.place / "env"), exports=exports, binaries=shlex.quote(str(stack.BINARIES)))
        )
        (self.place / "env.new").rename(self.place / "env")

    def stop(self) -> None:
        for name in ("env", "env.new", "check-in", "flow.yaml", "contexts.yaml"):
            (self.place / name).unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        """What `serin` needs to work on this playground."""
        return {
            "AWS_ENDPOINT_URL": self.aws.endpoint,
            "AWS_REGION": stack.REGION,
            "AWS_ACCESS_KEY_ID": stack.ROOT_KEYS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": stack.ROOT_KEYS["aws_secret_access_key"],
            "SERIN_STAGE": self.aws.stage,
            "SERIN_TIME": "last-tick",
            "SERIN_CONFIG": str(self.place.resolve() / "contexts.yaml"),  # one's own contexts neither count nor change
            "GENESYS_API": self.genesys.url,
            "STABLE_FLOW": demo.STABLE,
            "CANARY_FLOW": demo.CANARY,
        }

    def run(self) -> None:
        """Lets time pass, until somebody interrupts."""
        due = time.monotonic()
        while True:
            # Late ticks are not made up for: on a busy machine time runs slower.
            due = max(due + demo.TICK / self.speed, time.monotonic())
            self.play.calls(demo.TICK, ask=ASK)
            self.tick()
            self.tell()
            time.sleep(max(0.0, due - time.monotonic()))

    def tick(self) -> None:
        """What the schedules do. A tick that fails is told once, and the next one comes all the same, as in production."""
        now, troubles = self.genesys.now(), []
        for function in ("rollback-executor", "canary-evaluator"):
            try:
                self.aws.tick(function, now)
            except stack.FunctionFailed as failed:
                troubles.append(str(failed).splitlines()[0])
        trouble = "; ".join(troubles)
        if trouble and trouble != self._trouble:
            self.show(f"{now[11:16]}  {trouble}")
        self._trouble = trouble

    def tell(self) -> None:
        """The alerts that have come: one for each change of state."""
        alerts = [alert["body"] for alert in self.genesys.webhook() if isinstance(alert["body"], dict)]
        new = {alert["dedup_key"]: alert for alert in alerts if alert["dedup_key"] not in self._told}
        for key, alert in sorted(new.items(), key=lambda item: (item[1]["timestamp"], item[1]["revision"])):
            self.show(f"{alert['timestamp'][11:16]}  {alert['flow_id']}  {alert['action_taken']} ({alert['reason']})")
            self._told.add(key)


def shown(path: Path) -> str:
    """As somebody in this directory would write it, so that a shell takes it for a path."""
    with contextlib.suppress(ValueError):
        path = path.absolute().relative_to(Path.cwd())
    return shlex.quote(str(path))


@contextlib.contextmanager
def alone(place: Path):
    """At most one playground writes there. The lock goes with its process, however that ends."""
    place.mkdir(parents=True, exist_ok=True)
    directory = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        env = shown(place / "env")
        raise stack.LocalError(f"a playground runs here already: use it (`. {env}`), or end it with Ctrl-C in its terminal") from None
    finally:
        os.close(directory)


def playground(place: Path, speed: float, seed: int) -> None:
    show = lambda line: print(line, flush=True)  # noqa: E731
    with alone(place):
        demo.step("start the local AWS and the Genesys Cloud organization, deploy infra/template.yaml")
        with stack.Simulator(seed=seed) as genesys, stack.Stack() as aws:
            genesys.reset(seed=seed, start=demo.START, calls_per_hour=CALLS_PER_HOUR, flows=[{"slot": demo.FLOW}])
            with Playground(aws, genesys, place, speed, show) as ground:
                names = {"env": shown(place / "env"), "check_in": shown(place / "check-in"), "yaml": shown(place / "flow.yaml")}
                flows = {"flow": demo.FLOW, "stable": demo.STABLE, "canary": demo.CANARY}
                show(NEXT.format(calls=CALLS_PER_HOUR, speed=speed, **flows, **names, **ground.checked_in))
                ground.run()


class InAnotherTerminal(stack._Cleanly):
    """For the tests: a playground that somebody started, as fast as this machine can, and shells that use it."""

    def __init__(self, place: Path, speed: float = 1e6):
        self.place, self.speed, self._process = place, speed, None

    def start(self) -> None:
        command = [sys.executable, Path(__file__), "--place", self.place, "--speed", self.speed]
        self._process = stack.Process(f"playground-{self.place.parent.name}", command, stack.clean_environment(NO_COLOR="1"))
        deadline = time.monotonic() + 90
        while not (self.place / "env").exists():
            self._process.check()
            if time.monotonic() > deadline:
                raise stack.LocalError(f"the playground is not there after 90 s:\n{self._process.log_tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process:
            self._process.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.popen.wait(timeout=30)
            self._process.stop()

    def said(self) -> str:
        return self._process.log_path.read_text()

    def shell(self, script: str, shell: str = "sh", timeout: float = 60, check: bool = True, **more: str) -> subprocess.CompletedProcess:
        """A script in the directory above the playground's, its environment sourced."""
        command = [shell, "-euc", f". {shlex.quote(str(self.place / 'env'))}\n{script}"]
        env = stack.clean_environment(**more)
        done = subprocess.run(command, cwd=self.place.parent, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{script!r} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done


# -------------------------------------------------------------------------------------------------------------------------- a change


def check_in(simulator: str, change: str, place: Path) -> None:
    """Standard output is the version alone, for `$(…)`; what to do with it goes beside it."""
    genesys = stack.Simulator()
    genesys.url = simulator
    version = genesys.check_in(demo.CANARY, CHANGES[change])
    path = place / "flow.yaml"
    path.write_bytes(exported(simulator, demo.CANARY, version))
    print(version)
    what = "its callers meet errors" if change == "broken" else "callers fare as before"
    print(f"checked in, not published: {what}. {shown(path)} is the same as a file, for `serin deploy --flow-yaml`", file=sys.stderr)


def exported(simulator: str, flow: str, version: str) -> bytes:
    """A version as the vendor exports it, asked for as anybody would."""
    basic = base64.b64encode(b"playground:local-secret").decode()
    token = send(f"{simulator}/oauth/token", b"grant_type=client_credentials", Authorization=f"Basic {basic}")
    bearer = f"Bearer {json.loads(token)['access_token']}"
    job = {"flows": [{"flow": {"id": flow, "version": version}, "exportType": "Yaml"}]}
    jobs = f"{simulator}/api/v2/flows/export/jobs"
    begun = json.loads(send(jobs, json.dumps(job).encode(), Authorization=bearer, **{"Content-Type": "application/json"}))
    done = json.loads(send(f"{jobs}/{begun['id']}", Authorization=bearer))
    return send(done["downloadUrl"])


def send(url: str, data: bytes | None = None, **headers: str) -> bytes:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # nothing here leaves the machine
    with direct.open(urllib.request.Request(url, data=data, headers=headers), timeout=30) as answer:
        return answer.read()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", type=float, default=SPEED, help=f"virtual minutes that pass in a second, default {SPEED:g}")
    parser.add_argument("--seed", type=int, default=demo.SEED, help="of the callers")
    parser.add_argument("--place", type=Path, default=stack.LOCAL, help="where env and check-in are written, default .local")
    commands = parser.add_subparsers(dest="command")
    change = commands.add_parser("check-in", help="check a change into the canary flow of a running playground")
    change.add_argument("change", choices=CHANGES, help="how its callers fare")
    change.add_argument("--simulator", required=True, help="where the playground's Genesys Cloud is")
    change.add_argument("--place", type=Path, default=stack.LOCAL, help="where flow.yaml is written, default .local")
    chosen = parser.parse_args()
    try:
        if chosen.command:
            check_in(chosen.simulator, chosen.change, chosen.place)
        else:
            playground(chosen.place, chosen.speed, chosen.seed)
    except (stack.LocalError, stack.FunctionFailed, OSError) as failed:
        print(f"failed: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe playground is gone.")  # the way it is meant to end
    return 0


if __name__ == "__main__":
    sys.exit(main())
