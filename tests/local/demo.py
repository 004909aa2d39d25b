"""The demo: a healthy change goes 5 → 25 → 50 → 100 and is promoted; a broken one is contained and put back.

    python3 tests/local/demo.py [--seed N] [--keep]

Everything is what production runs: the deployed functions, the template, the AWS and the Genesys Cloud protocols. Only the clock is the
simulator's: `Clock=event` lets minutes pass in milliseconds. Exit status 0 only if both rollouts ended as they should.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import bootstrap

started = time.monotonic()


def step(what: str) -> None:
    print(f"\033[1m▸ {what}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else f"▸ {what}", flush=True)


bootstrap.enter()

import stack  # noqa: E402  it needs the tools

FLOW = "main_ivr"
STABLE, CANARY = "b10e0000-0000-4000-8000-000000000002", "97ee0000-0000-4000-8000-000000000003"
START = "2026-11-20T09:00:00Z"
NUMBERS = "+1555"  # callers' numbers begin so
TICK = 5  # virtual minutes
SEED = 7  # of the callers
ASK = 32  # calls of a tick that ask the deployed function
LONGEST = 6 * 60  # virtual minutes a rollout may take
CALLS_PER_HOUR = 3800  # mean over the day; between 5,900 and 7,600 in the hours played
HEALTHY = {"error": 0.015, "abandon": 0.06, "transfer": 0.22}
BROKEN = {**HEALTHY, "error": 0.15}
ROLLOUT_FILE = """\
# A rollout as an engineer writes it; the policy is the default one, and knows how many calls to expect.
flow: {flow}
stable: {{flow_id: {stable}}}
canary: {{flow_id: {canary}, version: "{version}"}}
labels: {{stable: v1, canary: v2}}
policy:
  steps: [5, 25, 50]
  expected_calls_per_hour: 6700
"""
COLUMNS = "{:<6} {:<13} {:>6}  {:>7} {:>6} {:>7} {:>6}  {:>7} {:>6} {:>7} {:>6}  {:<11} {}"


class DemoFailed(Exception):
    """A rollout did not end as it should; the message says how it ended."""


class Play:
    """One organization, one stack, one flow, and a clock that moves when told."""

    def __init__(self, aws: stack.Stack, genesys: stack.Simulator, show=print):
        self.aws, self.genesys, self.show = aws, genesys, show
        self.asked = Counter()
        self.disagreements, self.last_parameters, self.evaluations = [], None, []
        self.pool = ThreadPoolExecutor(10)  # the emulator answers a call in 0.1 s, however short the function

    # The operator's side

    def serin(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        env = stack.clean_environment(
            AWS_ENDPOINT_URL=self.aws.endpoint,
            AWS_REGION=stack.REGION,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            SERIN_STAGE=self.aws.stage,
            SERIN_TIME=self.genesys.now(),
            SERIN_BY="demo",
        )
        done = subprocess.run([str(stack.binary("serin")), *arguments], env=env, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise DemoFailed(f"serin {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def ledger(self) -> list[dict]:
        lines = self.serin("ledger", FLOW, "--output", "json").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def start(self, version: str, why: str) -> None:
        path = stack.LOCAL / "demo" / f"rollout-{version}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROLLOUT_FILE.format(flow=FLOW, stable=STABLE, canary=CANARY, version=version))
        self.show(self.serin("start", str(path), "--reason", why).stdout.strip())

    # The callers' side

    def calls(self, minutes: int = TICK, ask: int = ASK) -> dict:
        """Lets callers call. Some ask the deployed function; all others are decided by the same code on the same parameters."""
        parameters = self.aws.flow_parameters(FLOW)
        projected = {name: parameters[FLOW].get(name) for name in ("percentage", "rollout", "halt")}
        if projected != self.last_parameters:
            time.sleep(0.8)  # the function may answer from values up to 0.7 s old
            self.last_parameters = projected
        calls = self.genesys.arrivals(minutes, ask)
        answers = dict(self.pool.map(self._ask, calls))
        parameters = self.aws.flow_parameters(FLOW)
        moved = self.genesys.advance(minutes, answers, parameters)
        self.asked["deployed"] += moved["asked"]
        self.asked["all"] += moved["calls"]
        self.asked["canary"] += moved["canary"]
        self.disagreements += moved["disagreements"]
        return moved

    def _ask(self, call: dict) -> tuple[str, str]:
        # The caller's number travels with the question, as in Architect; it must never be seen again (the tests look for it).
        question = {"flow": call["flow"], "conversationId": call["conversationId"], "caller": f"{NUMBERS}{hash(call['conversationId']) % 10**7:07}"}
        answer = self.aws.invoke("random-percentage", question, qualifier="live")
        return call["conversationId"], answer["cohort"]

    # The schedules

    def tick(self) -> dict | None:
        """What the schedules do: first the executor's tick, then the evaluator's; answers the flow's line of the report."""
        now = self.genesys.now()
        self.aws.tick("rollback-executor", now)
        report = self.aws.tick("canary-evaluator", now)
        if troubled := [flow["trouble"] for flow in report["flows"] if flow.get("trouble")]:
            self.show(f"       trouble: {'; '.join(troubled)}")
        return next((flow for flow in report["flows"] if flow["flow"] == FLOW), None)

    def head(self) -> None:
        self.show("")
        self.show(COLUMNS.format("", "", "", "stable", "", "", "", "canary", "", "", "", "", ""))
        self.show(COLUMNS.format("time", "phase", "weight", *["calls", "error", "abandon", "transf"] * 2, "decision", "reason"))

    def row(self, line: dict) -> None:
        def side(counts):
            rate = lambda bad: f"{100 * counts[bad] / counts['calls']:.1f}%" if counts["calls"] else "-"  # noqa: E731
            return [counts["calls"], rate("errors"), rate("abandons"), rate("transfers")]

        at = self.genesys.now()[11:16]
        self.show(COLUMNS.format(at, line["phase"], f"{line['weight']:g}%", *side(line["stable"]), *side(line["canary"]), line["decision"], line["reason"]))

    def play(self, ends: set[str], ask: int = ASK, longest: int = LONGEST, least: int = 0) -> dict:
        """Ticks until the rollout has ended in one of the phases, and callers have called for at least `least` minutes."""
        self.head()
        begun = datetime.fromisoformat(self.genesys.now())
        while True:
            line = self.tick()
            if line["phase"] == "RollingBack":
                # Containment is done; the queue wakes the executor by itself, in real time.
                line = self.restored(line)
            self.row(line)
            played = datetime.fromisoformat(self.genesys.now()) - begun
            if line["phase"] in ends and played >= timedelta(minutes=least):
                return line
            if played > timedelta(minutes=longest):
                raise DemoFailed(f"the rollout stands at {line['phase']} after {longest} minutes: {line['reason']}")
            self.calls(ask=ask)

    def restored(self, line: dict, seconds: float = 20) -> dict:
        self.row(line)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            last = self.ledger()[-1]
            if last["event"] in ("RollbackFinished", "HumanNeeded"):
                phase = "RolledBack" if last["event"] == "RollbackFinished" else "NeedsHuman"
                return {**line, "phase": phase, "decision": "", "reason": last["why"]}
            time.sleep(0.2)
        return line

    # The end

    def expect(self, what: str, ok: bool) -> None:
        if not ok:
            raise DemoFailed(f"not so: {what}")
        self.show(f"  ✓ {what}")

    def alerts(self, rollouts: list[str], seconds: float = 20) -> list[dict]:
        """What reached the webhook, once an alert of each rollout's last change has."""
        deadline = time.monotonic() + seconds
        while True:
            arrived = [alert["body"] if isinstance(alert["body"], dict) else json.loads(alert["body"]) for alert in self.genesys.webhook()]
            final = {a["rollout"] for a in arrived if a["incident_type"] in ("ROLLOUT_FINISHED", "ROLLED_BACK")}
            if final >= set(rollouts) or time.monotonic() > deadline:
                return sorted(arrived, key=lambda a: (a["timestamp"], a["revision"]))
            self.aws.tick("canary-evaluator", self.genesys.now())  # the outbox is emptied by ticks
            time.sleep(0.3)


def both(play: Play) -> None:
    """Plays both rollouts and checks how they ended."""
    aws, genesys, say = play.aws, play.genesys, play.show
    play.calls(ask=0)

    step("a healthy change")
    play.start(genesys.check_in(CANARY, **HEALTHY), "new opening hours announcement")
    play.play(ENDS)
    healthy, first = play.ledger(), play.asked.copy()
    say("")
    play.expect("the healthy change is promoted", healthy[-1]["event"] == "Finalized")
    weights = [entry["weight"] for entry in healthy if entry["event"] == "WeightApplied"]
    play.expect("its weight went 5 → 25 → 50 → 100", weights == [5, 25, 50, 100])
    play.expect(f"{first['deployed']} of its {first['all']} calls asked the deployed function (at least 1,000)", first["deployed"] >= 1000)
    back = aws.parameter(f"/genesys/canary/{aws.stage}/{FLOW}/percentage")
    play.expect("calls are back on the stable flow, which runs the promoted version", float(back) == 0)

    step("a broken change: errors 1.5 → 15 %")
    play.start(genesys.check_in(CANARY, **BROKEN), "new payment menu")
    # It ends early; callers go on calling, to show where they go.
    play.play(ENDS, ask=90, least=60)
    broken = play.ledger()
    say("")
    play.expect("the broken change is rolled back", broken[-1]["event"] == "RollbackFinished")
    play.expect("it never got above 5 %", max((e["weight"] for e in broken if e["event"] == "WeightApplied"), default=0) == 5)
    asked = play.asked["deployed"] - first["deployed"]
    play.expect(f"{asked} of its {play.asked['all'] - first['all']} calls asked the deployed function (at least 1,000)", asked >= 1000)
    play.expect("no call goes to the canary any more", play.calls()["canary"] == 0)
    play.expect("the deployed function and the core agreed on every call that asked", not play.disagreements)

    step("the ledger")
    for entry in healthy + broken:
        say(f"  {entry['revision']:>3}  {entry['at'][11:16]}  {entry['event']:<19} {entry['why']}")
    play.expect("its chain is intact", "chain intact" in play.serin("ledger", FLOW).stdout)

    step("the alerts that reached the webhook")
    arrived = play.alerts([healthy[0]["rollout"], broken[0]["rollout"]])
    for alert in arrived:
        say(f"  {alert['timestamp'][11:16]}  {alert['severity']:<8} {alert['incident_type']:<24} {alert['action_taken']}")
    told = {f"{FLOW}/{e['rollout']}/{e['revision']}" for e in healthy + broken if e["event"] in TOLD}
    play.expect("one for each change of state", {alert["dedup_key"] for alert in arrived} == told)


def demo(seed: int, keep: bool) -> None:
    step("start the local AWS and the Genesys Cloud organization")
    with organization(seed) as genesys, stack.Stack() as aws:
        step("deploy infra/template.yaml")
        deploy(aws, genesys)
        both(Play(aws, genesys))
        print(f"\nBoth rollouts ended as they should, in {time.monotonic() - started:.0f} s.")
        if keep:
            print(f"Kept up until Ctrl-C: AWS at {aws.endpoint}, Genesys Cloud at {genesys.url}", flush=True)
            while True:
                time.sleep(3600)


@contextlib.contextmanager
def organization(seed: int):
    """The simulator, in the hours that the demo plays."""
    with stack.Simulator(seed=seed) as genesys:
        genesys.reset(seed=seed, start=START, calls_per_hour=CALLS_PER_HOUR, by_hour=True)
        yield genesys


def deploy(aws: stack.Stack, genesys: stack.Simulator) -> None:
    aws.deploy("local", parameters={"GenesysApi": genesys.url, "Clock": "event", "Flows": FLOW})
    aws.seed_secrets(webhook_url=genesys.webhook_url)


# Phases in which nothing follows by itself.
ENDS = {"Promoted", "RolledBack", "Aborted", "Failed", "NeedsHuman"}
# Events that change the phase, each of which is told.
TOLD = {"Requested", "StepStarted", "PromotionStarted", "BakeFinished", "Finalized", "RollbackStarted", "RollbackFinished"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED, help="of the callers")
    parser.add_argument("--keep", action="store_true", help="keep everything up at the end")
    chosen = parser.parse_args()
    try:
        demo(chosen.seed, chosen.keep)
    except (DemoFailed, stack.LocalError, stack.FunctionFailed) as failed:
        print(f"\nfailed: {failed}\nlogs: {stack.LOGS.relative_to(stack.ROOT)}/", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
