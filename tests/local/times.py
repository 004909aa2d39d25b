"""How long callers wait when a change is taken back, on the deployed functions and by this machine's clock.

    python3 tests/local/times.py [--runs 200] [--rollouts 5]

First some whole rollouts: on-call publishes a rollback request at 25 %, while callers ask; the queue wakes the executor, the vendor is
unsteady (10 % of its answers are 429 with 1 to 5 seconds to wait, 5 % are 5 seconds late) and a publish takes 1 to 15 seconds. Then the part
that callers feel, often: the halt marker is put as containment puts it, while they ask. Exit status 1 where a limit is exceeded. 200
restorations, one after the other, would take an hour here; `cargo test --test restoration` plays them in simulated time.
"""

import argparse
import json
import math
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import bootstrap

bootstrap.enter()

import demo  # noqa: E402  they need the tools
import stack  # noqa: E402

CONTAINED, RESTORED = 1.0, 60.0  # seconds, of 99 %
ASKERS = 3  # callers of one flow that ask at once, one after the other
QUIET = 1.5  # seconds without a canary answer, after which there will be none: answers are 0.7 s old at most
AT_ONCE = 4  # flows whose callers ask at the same time
FILE = """\
flow: {flow}
stable: {{flow_id: {stable}}}
canary: {{flow_id: {canary}, version: "{version}"}}
labels: {{stable: v1, canary: v2}}
policy: {{steps: [25, 50], rule: {{kind: threshold}}}}
"""


class Callers:
    """Callers of one flow, who ask without a pause; remembers when each was answered, and with what."""

    def __init__(self, aws: stack.Stack, flow: str):
        self.aws, self.flow, self.answers, self._over = aws, flow, [], threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(ASKERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        client, target = self.aws.client("lambda"), self.aws.function_name("random-percentage")
        for call in range(1 << 30):
            if self._over.is_set():
                return
            question = json.dumps({"flow": self.flow, "conversationId": f"{self.flow}-{number}-{call}"})
            answer = json.loads(client.invoke(FunctionName=target, Qualifier="live", Payload=question)["Payload"].read())
            self.answers.append((time.time(), answer["cohort"]))

    def last_canary(self) -> float:
        return max((at for at, cohort in self.answers if cohort == "canary"), default=0.0)

    def wait_for_canary(self, seconds: float = 20) -> None:
        deadline = time.time() + seconds
        while not self.last_canary():
            if time.time() > deadline:
                raise stack.LocalError(f"no caller of {self.flow} was answered `canary` within {seconds:.0f} s")
            time.sleep(0.02)

    def last_after(self, halted: float) -> float:
        """Seconds from the halt marker to the last canary answer."""
        while time.time() < max(self.last_canary(), halted) + QUIET:
            time.sleep(0.05)
        if sum(at > halted for at, _ in self.answers) < 5:
            raise stack.LocalError(f"callers of {self.flow} were hardly answered after the halt: nothing was measured")
        return max(0.0, self.last_canary() - halted)


def parameter(aws: stack.Stack, flow: str, name: str) -> str:
    return f"/genesys/canary/{aws.stage}/{flow}/{name}"


def rolled_back(play: demo.Play, flow: str, ids: dict, seed: int) -> tuple[float, float, float]:
    """One rollout, taken back at 25 %: seconds from the request to the halt marker, from there to the last canary answer, and from the
    recorded decision to the verified restoration."""
    aws, genesys, rng = play.aws, play.genesys, random.Random(seed)
    version = genesys.check_in(ids["canary"], demo.BROKEN)
    path = stack.LOCAL / "times.yaml"
    path.write_text(FILE.format(flow=flow, version=version, **ids))
    genesys.fault({"kind": "publish_seconds", "seconds": 0})
    play.serin("start", str(path), "--reason", "to be timed")
    for _ in range(5):
        now = genesys.now()
        aws.tick("rollback-executor", now)
        aws.tick("canary-evaluator", now)
        if aws.parameter(parameter(aws, flow, "percentage")) == "25":
            break
        genesys.advance(1)
    else:
        raise stack.LocalError(f"{flow} did not get to 25 %: {ledger(play, flow)[-1]}")
    genesys.fault({"kind": "publish_seconds", "seconds": rng.uniform(1, 15)})
    genesys.fault({"kind": "unsteady", "seed": seed, "throttled": 0.1, "slow": 0.05, "seconds": 5})
    with Callers(aws, flow) as callers:
        callers.wait_for_canary()
        asked = time.time()
        aws.publish("RollbackTopicArn", {"flow": flow, "reason": "to be timed", "requested_by": "pat", "at": genesys.now()})
        while not aws.parameter(parameter(aws, flow, "halt")):
            if time.time() > asked + 30:
                raise stack.LocalError(f"nobody took the callers of {flow} back within 30 s")
            time.sleep(0.05)
        halt = aws.client("ssm").get_parameter(Name=parameter(aws, flow, "halt"))["Parameter"]["LastModifiedDate"].timestamp()
        contained = callers.last_after(halt)
    deadline = time.time() + 120
    while (entries := ledger(play, flow))[-1]["event"] not in ("RollbackFinished", "HumanNeeded"):
        if time.time() > deadline:
            raise stack.LocalError(f"{flow} is not restored after two minutes: {entries[-1]}")
        time.sleep(0.5)
        if time.time() - halt > 60:
            aws.tick("rollback-executor", genesys.now())  # the schedule
    genesys.clear_faults()
    if entries[-1]["event"] != "RollbackFinished":
        raise stack.LocalError(f"{flow} was not restored: {entries[-1]['why']}")
    at = {entry["event"]: datetime.fromisoformat(entry["recorded_at"]) for entry in entries}
    return halt - asked, contained, (at["RollbackFinished"] - at["RollbackStarted"]).total_seconds()


def ledger(play: demo.Play, flow: str) -> list[dict]:
    return json.loads(play.serin("ledger", "show", flow, "--output", "json").stdout)["entries"]


def halted(aws: stack.Stack, flow: str, split: dict, number: int) -> float:
    """The parameters of a rollout at 25 %, halted as containment does it: seconds to the last canary answer."""
    rollout = f"r-20261120-{number}"
    aws.put_parameter(parameter(aws, flow, "percentage"), "0")
    aws.put_parameter(parameter(aws, flow, "rollout"), json.dumps({**split, "rollout": rollout}))
    aws.put_parameter(f"/genesys/canary/{aws.stage}/heartbeat", stack.now())
    aws.put_parameter(parameter(aws, flow, "percentage"), "25")
    with Callers(aws, flow) as callers:
        callers.wait_for_canary()
        # Anywhere between two reads of the function.
        time.sleep(random.Random(number).uniform(0, 0.7))
        aws.put_parameter(parameter(aws, flow, "halt"), rollout)
        put = time.time()
        aws.put_parameter(parameter(aws, flow, "percentage"), "0")
        return callers.last_after(put)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def told(what: str, values: list[float], limit: float) -> bool:
    p50, p99 = quantile(values, 0.5), quantile(values, 0.99)
    print(f"{what}, {len(values)} runs: p50 {p50:.2f} s, p99 {p99:.2f} s, worst {max(values):.2f} s (limit {limit:g} s)", flush=True)
    return p99 <= limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="of the halt marker alone")
    parser.add_argument("--rollouts", type=int, default=5, help="whole ones, each on a flow of its own: a rollback locks its flow out")
    chosen = parser.parse_args()
    flows = [f"ivr_{n}" for n in range(chosen.rollouts)]
    with stack.Simulator(seed=demo.SEED) as genesys, stack.Stack() as aws:
        reset = genesys.reset(seed=demo.SEED, start=demo.START, calls_per_hour=demo.CALLS_PER_HOUR, flows=[{"slot": flow} for flow in flows])
        ids = {flow["name"]: flow["id"] for flow in reset["flows"]}
        demo.deploy(aws, genesys)
        play, rollouts = demo.Play(aws, genesys, show=lambda _: None), []
        for seed, flow in enumerate(flows):
            slots = {"stable": ids[f"{flow}_Blue"], "canary": ids[f"{flow}_Green"]}
            rollouts.append(rolled_back(play, flow, slots, seed))
        split = json.loads(aws.parameter(parameter(aws, flows[0], "rollout")))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            lanes = [range(lane, chosen.runs, AT_ONCE) for lane in range(AT_ONCE)]
            # Each lane has a flow of its own, and one run after the other.
            played = pool.map(lambda lane: [halted(aws, f"lane_{lane.start}", split, 100 + n) for n in lane], lanes)
            halts = [seconds for lane in played for seconds in lane]
    commands, contained, restored = zip(*rollouts)
    print(f"request on the topic to the halt marker, {len(commands)} runs: worst {max(commands):.2f} s")
    held = [
        told("halt marker to the last canary answer, whole rollouts", list(contained), CONTAINED),
        told("halt marker to the last canary answer", halts, CONTAINED),
        told("decision to known-good published and verified, unsteady vendor", list(restored), RESTORED),
    ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (demo.DemoFailed, stack.LocalError, stack.FunctionFailed) as failed:
        print(f"failed: {failed}", file=sys.stderr)
        sys.exit(1)
