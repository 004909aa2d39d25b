"""How long people wait for `serin`, and how large it is.

    python3 tests/local/tool_times.py [--flows 1000] [--binary target/release/serin]

Starting it is compared with starting a program that does nothing. Then many flows are put beside one that really runs, as copies of its
items, and asked for at once. Exit status 1 where a limit is exceeded.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bootstrap

bootstrap.enter()

import demo  # noqa: E402  they need the tools
import stack  # noqa: E402

START, GATE, ALL = 0.020, 1.0, 2.0  # seconds: to start, to answer a pipeline, and to tell of all flows
BYTES = 15_000_000
RUNS, NOTHING = 30, "/bin/true"


def seconds(command: list, env: dict, runs: int = RUNS, lines: int = 0) -> list[float]:
    """How long each run took; each said at least so many lines."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True, timeout=60)
        took.append(time.perf_counter() - began)
        if done.returncode or len(done.stdout.splitlines()) < lines:
            raise stack.LocalError(f"{command} ended with {done.returncode} and said\n{done.stdout[-500:]}{done.stderr}")
    return took


def told(what: str, took: list[float], limit: float | None = None) -> bool:
    middle = statistics.median(took)
    of = f" (limit {1000 * limit:g} ms)" if limit else ""
    print(f"{what}, {len(took)} runs: median {1000 * middle:.1f} ms, best {1000 * min(took):.1f}, worst {1000 * max(took):.1f}{of}", flush=True)
    return limit is None or middle <= limit


def copied(aws: stack.Stack, flow: str, count: int) -> None:
    """The items of one flow under many other names. Its entries keep saying whose they are; an overview does not look at them."""
    table, client = aws.outputs["LedgerTable"], aws.client("dynamodb")
    query = {"TableName": table, "KeyConditionExpression": "pk = :pk"}
    own = client.query(**query, ExpressionAttributeValues={":pk": {"S": f"FLOW#{flow}"}})["Items"]
    active = client.query(**query, ExpressionAttributeValues={":pk": {"S": "ACTIVE"}})["Items"]
    if len(active) != 1 or len(own) < 3:
        raise stack.LocalError(f"flow {flow} is not the only one that is watched: {len(active)} are")
    names = [f"ivr_{number:04}" for number in range(count)]
    items = [{**active[0], "sk": {"S": name}} for name in names]
    items += [{**item, "pk": {"S": f"FLOW#{name}"}} for name in names for item in own]
    for first in range(0, len(items), 25):
        unwritten = client.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": item}} for item in items[first : first + 25]]})
        if unwritten.get("UnprocessedItems"):
            raise stack.LocalError(f"the ledger did not take all items: {unwritten['UnprocessedItems']}")
    print(f"{count} flows with {len(own)} items each were put beside {flow}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--binary", type=Path, default=stack.ROOT / "target" / "release" / "serin")
    chosen = parser.parse_args()
    serin = stack.binary(chosen.binary.name, chosen.binary.parent.resolve())
    size = serin.stat().st_size
    print(f"{serin.name}: {size / 1e6:.1f} MB (limit {BYTES / 1e6:g})")
    held = [size <= BYTES]

    nothing = seconds([NOTHING], stack.clean_environment())
    told("a program that does nothing", nothing)
    version = seconds([serin, "--version"], stack.clean_environment())
    held.append(told("serin --version", version, START))
    print(f"  {statistics.median(version) / statistics.median(nothing):.1f} times nothing")
    with demo.organization(demo.SEED) as genesys, stack.Stack() as aws:
        demo.deploy(aws, genesys)
        play = demo.Play(aws, genesys, show=lambda _: None)
        play.calls(ask=0)
        play.start(genesys.check_in(demo.CANARY, demo.HEALTHY), "to be timed")
        play.tick()
        env = stack.clean_environment(
            AWS_ENDPOINT_URL=aws.endpoint,
            AWS_REGION=stack.REGION,
            AWS_ACCESS_KEY_ID=stack.ROOT_KEYS["aws_access_key_id"],
            AWS_SECRET_ACCESS_KEY=stack.ROOT_KEYS["aws_secret_access_key"],
            SERIN_STAGE="local",
            SERIN_TIME="last-tick",
        )
        one = seconds([serin, "status"], env, lines=2)
        told("serin status, one flow", one)
        print(f"  {statistics.median(one) / statistics.median(nothing):.1f} times nothing")
        told(f"serin status {demo.FLOW}", seconds([serin, "status", demo.FLOW], env, lines=5))
        held.append(told(f"serin gate {demo.FLOW}", [answered(serin, env) for _ in range(RUNS)], GATE))
        copied(aws, demo.FLOW, chosen.flows)
        held.append(told(f"serin status, {chosen.flows} flows", seconds([serin, "status"], env, 10, chosen.flows), ALL))
        held.append(told(f"serin status -o json, {chosen.flows} flows", seconds([serin, "status", "-o", "json"], env, 10, 1), ALL))
    return 0 if all(held) else 1


def answered(serin: Path, env: dict) -> float:
    """The gate is closed: a rollout runs."""
    began = time.perf_counter()
    code = subprocess.run([serin, "gate", demo.FLOW], env=env, capture_output=True, timeout=60).returncode
    if code != 10:
        raise stack.LocalError(f"the gate of {demo.FLOW} answered {code}, and 10 was expected")
    return time.perf_counter() - began


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (demo.DemoFailed, stack.LocalError, stack.FunctionFailed) as failed:
        print(f"failed: {failed}", file=sys.stderr)
        sys.exit(1)
