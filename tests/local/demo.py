"""The demo: a healthy change goes 5 → 25 → 50 → 100 and is promoted; a broken one is contained and put back.

    python3 tests/local/demo.py [--strategy traffic-cop|pointer|in-flow|publish-watch] [--seed N] [--keep]

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
from dataclasses import dataclass
from datetime import datetime, timedelta

import bootstrap

started = time.monotonic()


def step(what: str) -> None:
    print(f"\033[1m▸ {what}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else f"▸ {what}", flush=True)


bootstrap.enter()

import stack  # noqa: E402  it needs the tools

FLOW = "main_ivr"
STABLE, CANARY = "b10e0000-0000-4000-8000-000000000002", "97ee0000-0000-4000-8000-000000000003"
TABLE = "7ab1e000-0000-4000-8000-000000000004"
OUTCOMES = "0c0e0000-0000-4000-8000-000000000005", "0c0e0000-0000-4000-8000-000000000006"
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
BY_ROW = """\
# A row of a data table sends all calls, at once: they are compared with what stable did before.
flow: {flow}
strategy: pointer
pointer: {{table: {table}}}
stable: {{flow_id: {stable}}}
canary: {{flow_id: {canary}, version: "{version}"}}
policy: {{expected_calls_per_hour: 6700}}
"""
INSIDE = """\
# One flow asks, and branches inside; each branch has a flow outcome, which tells whether it did its work and nothing else.
flow: {flow}
strategy: in-flow
canary: {{flow_id: {stable}, version: "{version}"}}
outcomes: {{stable: {outcomes[0]}, canary: {outcomes[1]}}}
labels: {{stable: v1, canary: v2}}
policy:
  steps: [5, 25, 50]
  rule: {{kind: sequential, metrics: [{{name: error}}]}}
  expected_calls_per_hour: 6700
"""
WATCHED = """\
# The next version of the one flow that all callers have: published, watched against the one before, taken back by publishing that.
flow: {flow}
strategy: publish-watch
canary: {{flow_id: {stable}, version: "{version}"}}
policy: {{expected_calls_per_hour: 6700}}
"""


@dataclass(frozen=True)
class Strategy:
    """How calls come to the change, and what must be seen of it."""

    name: str
    file: str
    changed: str  # the flow that gets the change
    weights: tuple[float, ...]  # of the healthy one
    asks: bool = True  # callers' flows ask the deployed function
    before: int = 5  # virtual minutes of calls before the first change
    slot: tuple[tuple[str, str], ...] = ()  # how the organization's callers are led


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy("traffic-cop", ROLLOUT_FILE, CANARY, (5, 25, 50, 100)),
        Strategy("pointer", BY_ROW, CANARY, (100,), asks=False, before=120, slot=(("cop_reads", "row"),)),
        Strategy("in-flow", INSIDE, STABLE, (5, 25, 50, 100), slot=(("entry", "stable"),)),
        Strategy("publish-watch", WATCHED, STABLE, (), asks=False, before=120, slot=(("entry", "stable"),)),
    )
}
COLUMNS = "{:<6} {:<13} {:>6}  {:>7} {:>6} {:>7} {:>6}  {:>7} {:>6} {:>7} {:>6}  {:<11} {}"


class DemoFailed(Exception):
    """A rollout did not end as it should; the message says how it ended."""


class Play:
    """One organization, one stack, one flow, and a clock that moves when told."""

    def __init__(self, aws: stack.Stack, genesys: stack.Simulator, show=print, strategy: str = "traffic-cop"):
        self.aws, self.genesys, self.show, self.strategy = aws, genesys, show, STRATEGIES[strategy]
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
            GENESYS_API=self.genesys.url,
            SERIN_BY="demo",
        )
        done = subprocess.run([str(stack.binary("serin")), *arguments], env=env, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise DemoFailed(f"serin {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def ledger(self) -> list[dict]:
        return json.loads(self.serin("ledger", "show", FLOW, "--output", "json").stdout)["entries"]

    def start(self, version: str, why: str) -> None:
        path = stack.LOCAL / "demo" / f"rollout-{version}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        names = {"flow": FLOW, "stable": STABLE, "canary": CANARY, "table": TABLE, "outcomes": OUTCOMES}
        path.write_text(self.strategy.file.format(version=version, **names))
        self.show(self.serin("start", str(path), "--reason", why).stdout.strip())

    def check_in(self, behavior: dict) -> str:
        """Somebody checks in a change that makes callers fare so; answers its version."""
        if self.strategy.name == "in-flow":  # the new branch; the old one stays beside it
            return self.genesys.check_in(self.strategy.changed, HEALTHY, canary_behavior=behavior)
        return self.genesys.check_in(self.strategy.changed, behavior)

    def take_out_the_gate(self) -> None:
        """What the owner of a flow that branches inside does after a promotion: the new branch alone, then the percentage at 0."""
        version = self.genesys.check_in(self.strategy.changed, HEALTHY)
        self.genesys.by_hand("publish", flow_id=self.strategy.changed, version=version, user="Robin")
        self.aws.put_parameter(f"/genesys/canary/{self.aws.stage}/{FLOW}/percentage", "0")

    # The callers' side

    def calls(self, minutes: int = TICK, ask: int = ASK) -> dict:
        """Lets callers call. Some ask the deployed function; all others are decided by the same code on the same parameters."""
        ask = ask if self.strategy.asks else 0
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
    aws, say, strategy = play.aws, play.show, play.strategy
    play.calls(strategy.before, ask=0)

    step("a healthy change")
    play.start(play.check_in(HEALTHY), "new opening hours announcement")
    play.play(ENDS)
    healthy, first = play.ledger(), play.asked.copy()
    say("")
    play.expect("the healthy change is promoted", healthy[-1]["event"] == "Finalized")
    weights = tuple(entry["weight"] for entry in healthy if entry["event"] == "WeightApplied")
    if strategy.weights:
        play.expect(f"its weight went {' → '.join(f'{w:g}' for w in strategy.weights)}", weights == strategy.weights)
    if strategy.asks:
        play.expect(f"{first['deployed']} of its {first['all']} calls asked the deployed function (at least 1,000)", first["deployed"] >= 1000)
    back = aws.parameter(f"/genesys/canary/{aws.stage}/{FLOW}/percentage")
    if strategy.name in ("traffic-cop", "pointer"):
        play.expect("calls are back on the stable flow, which runs the promoted version", float(back) == 0)
    if strategy.name == "in-flow":
        play.expect("all calls take the new branch until the owner takes the gate out", float(back) == 100)
        play.take_out_the_gate()

    play.calls(strategy.before, ask=0)
    step("a broken change: errors 1.5 → 15 %")
    play.start(play.check_in(BROKEN), "new payment menu")
    # It ends early; callers go on calling, to show where they go.
    play.play(ENDS, ask=90, least=60)
    broken = play.ledger()
    say("")
    play.expect("the broken change is rolled back", broken[-1]["event"] == "RollbackFinished")
    if strategy.asks:
        worst = max((e["weight"] for e in broken if e["event"] == "WeightApplied"), default=0)
        play.expect("it never got above 5 %", worst == 5)
        asked = play.asked["deployed"] - first["deployed"]
        play.expect(f"{asked} of its {play.asked['all'] - first['all']} calls asked the deployed function (at least 1,000)", asked >= 1000)
    if strategy.name == "publish-watch":
        before = next(entry["canary_version"] for entry in healthy if entry["event"] == "Prepared")
        play.expect(f"the flow runs the version before, {before}, again", broken[-1]["version"] == before)
    else:
        play.expect("no call goes to the canary any more", play.calls()["canary"] == 0)
    if strategy.asks:
        play.expect("the deployed function and the core agreed on every call that asked", not play.disagreements)

    step("the ledger")
    for entry in healthy + broken:
        say(f"  {entry['revision']:>3}  {entry['at'][11:16]}  {entry['event']:<19} {entry['why']}")
    play.expect("its chain is intact", "chain intact" in play.serin("ledger", "show", FLOW).stdout)

    step("the alerts that reached the webhook")
    arrived = play.alerts([healthy[0]["rollout"], broken[0]["rollout"]])
    for alert in arrived:
        say(f"  {alert['timestamp'][11:16]}  {alert['severity']:<8} {alert['incident_type']:<24} {alert['action_taken']}")
    told = {f"{FLOW}/{e['rollout']}/{e['revision']}" for e in healthy + broken if e["event"] in TOLD}
    play.expect("one for each change of state", {alert["dedup_key"] for alert in arrived} == told)


def demo(seed: int, keep: bool, strategy: str) -> None:
    step("start the local AWS and the Genesys Cloud organization")
    with organization(seed, strategy) as genesys, stack.Stack() as aws:
        step("deploy infra/template.yaml")
        deploy(aws, genesys)
        both(Play(aws, genesys, strategy=strategy))
        print(f"\nBoth rollouts ended as they should, in {time.monotonic() - started:.0f} s.")
        if keep:
            print(f"Kept up until Ctrl-C: AWS at {aws.endpoint}, Genesys Cloud at {genesys.url}", flush=True)
            while True:
                time.sleep(3600)


@contextlib.contextmanager
def organization(seed: int, strategy: str = "traffic-cop"):
    """The simulator, in the hours that the demo plays."""
    with stack.Simulator(seed=seed) as genesys:
        slot = {"slot": FLOW, **dict(STRATEGIES[strategy].slot)}
        genesys.reset(seed=seed, start=START, calls_per_hour=CALLS_PER_HOUR, by_hour=True, flows=[slot])
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
    parser.add_argument("--strategy", choices=STRATEGIES, default="traffic-cop", help="how calls come to the change")
    parser.add_argument("--seed", type=int, default=SEED, help="of the callers")
    parser.add_argument("--keep", action="store_true", help="keep everything up at the end")
    chosen = parser.parse_args()
    try:
        demo(chosen.seed, chosen.keep, chosen.strategy)
    except (DemoFailed, stack.LocalError, stack.FunctionFailed) as failed:
        print(f"\nfailed: {failed}\nlogs: {stack.LOGS.relative_to(stack.ROOT)}/", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
