"""What a phone call waits for, beside what one would write instead; then minutes of load. Writes docs/performance.md.

    python3 tests/local/endpoint_bench.py [--seconds 600] [--runs 40] [--page docs/performance.md]

Needs `cargo build --release -p random-percentage --locked`, alone, so that no other function's features come along, and the same of
serin-stopwatch. Everything runs on one CPU and on 127.0.0.1. Exit status 1 where something is wrong, or a goal is missed that holds on a
busy machine too; goals in time are marked where they are missed, and no more.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import bootstrap

bootstrap.enter()

import stack  # noqa: E402  it needs the tools

sys.path.append(str(stack.ROOT / "infra" / "release"))

import archive  # noqa: E402

RELEASE = stack.ROOT / "target" / "release"
PEERS = Path(__file__).parent / "peers"
NODE = stack.LOCAL / "peers" / "node"
PAGE = stack.ROOT / "docs" / "performance.md"
CHANGED = 1000  # ms from the write to the last old answer, of 99 %
EVENT = stack.ROOT / "events" / "random-percentage.json"
OURS = {"STAGE": "prod", "FLOWS": "main_ivr"}
TABLE = {"SOURCE": "dynamodb", "LEDGER_TABLE": "serin-ledger-prod"}
SHARE = 128  # MB
FLOOR = 6.0  # µs of CPU a call that the floor took on the machine on which the goals were set
SEED = 8


@dataclass(frozen=True)
class Row:
    """One program in the table."""

    key: str
    label: str
    command: list
    env: dict
    runs: int
    warm: int
    roots: Path | None = None
    tls: bool = True


@dataclass(frozen=True)
class Goal:
    label: str
    limit: float
    unit: str
    value: float
    steady: bool  # holds on a busy machine too

    @property
    def met(self) -> bool:
        return self.value <= self.limit


# --------------------------------------------------------------------------------------------------------------------------- measuring


def cpu() -> int:
    """Both sides on one CPU: otherwise a warm call takes as long as the scheduler needs to wake an idle one."""
    return max(os.sched_getaffinity(0))


def stopwatch(program: Path, mode: str, arguments: list, command: list, env: dict, tolerant: bool = False) -> dict:
    """What the stopwatch found. Tolerant: also where it found fault."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        given = [f"--env={name}={value}" for name, value in env.items()]
        line = ["taskset", "-c", cpu(), program, mode, "--event", EVENT, "--json", result.name, *arguments, *given, "--", *command]
        done = subprocess.run([str(part) for part in line], env=stack.clean_environment(), capture_output=True, text=True)
        print(done.stdout, end="", flush=True)
        found = result.read().decode()
    if not found or (done.returncode and not tolerant):
        raise stack.LocalError(f"{done.stderr.strip()}\n{' '.join(map(str, command))} could not be measured")
    return json.loads(found) | {"complaints": done.stderr.splitlines()}


def measured(program: Path, row: Row, share: bool = False) -> dict:
    few = ["--runs", max(2, row.runs // 4), "--warm-runs", 2, "--warm", min(200, row.warm), "--gap-ms", 20, "--memory-mb", SHARE]
    arguments = few if share else ["--runs", row.runs, "--warm-runs", min(3, row.runs), "--warm", row.warm]
    arguments = [*arguments, "--label", row.label + (f", {SHARE} MB" if share else "")]
    if row.tls:
        arguments += ["--tls", *(["--roots", row.roots] if row.roots else [])]
    return stopwatch(program, "cold", arguments, row.command, row.env)


def python_rows(runs: int) -> list[Row]:
    python = bootstrap.environment(bootstrap.PEERS)
    where = "import botocore, os; print(os.path.join(os.path.dirname(botocore.__file__), 'cacert.pem'))"
    roots = Path(subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    env = {"PYTHONPATH": PEERS / "python", "PYTHONDONTWRITEBYTECODE": "1"}

    def row(key: str, label: str, handler: str, warm: int) -> Row:
        return Row(key, f"Python, {label}", [python, "-m", "awslambdaric", f"{handler}.handler"], env, runs, warm, roots)

    return [
        row("python-cached", "client kept, value kept for 1 s", "cached", 2000),
        row("python-module", "client kept, a read per call", "module_client", 1000),
        row("python-guide", "client made in the handler, a read per call", "per_call_client", 50),
    ]


def node_rows(runs: int) -> list[Row]:
    """None where Node is missing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm):
        return []
    NODE.mkdir(parents=True, exist_ok=True)
    for file in (PEERS / "node").iterdir():
        shutil.copy(file, NODE)
    subprocess.run([npm, "ci", "--prefix", NODE, "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], check=True)

    def row(key: str, label: str, handler: str, warm: int) -> Row:
        return Row(key, f"Node.js, {label}", [node, NODE / "runtime.mjs", f"./{handler}.mjs"], {}, runs, warm)

    return [
        row("node-cached", "SDK v3, value kept for 1 s", "cached", 2000),
        row("node-module", "SDK v3, a read per call", "per_call", 1000),
    ]


def share_is_possible(program: Path, floor: Row) -> bool:
    try:
        stopwatch(program, "cold", ["--runs", 1, "--warm", 1, "--memory-mb", SHARE, "--label", "is a share possible"], floor.command, {})
    except stack.LocalError as impossible:
        print(f"no share of a CPU: {impossible}", flush=True)
        return False
    return True


# ------------------------------------------------------------------------------------------------------------------------------ telling


def short(value: float) -> str:
    """Two or three digits, as much as a stopwatch is good for."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    told, *lines = (f"| {' | '.join(line)} |" for line in [head, *rows])
    return "\n".join([told, "|---|" + "--:|" * (len(head) - 1), *lines])


COLUMNS = {
    "init ms": lambda f: f["init_ms"]["p50"],
    "init CPU ms": lambda f: f["init_cpu_ms"]["p50"],
    "first call ms": lambda f: f["first_ms"]["p50"],
    "warm p50 µs": lambda f: f["warm_us"]["p50"],
    "warm p99 µs": lambda f: f["warm_us"]["p99"],
    "CPU µs a call": lambda f: f["cpu_us"],
    "memory MiB": lambda f: f["rss_mib"],
}
SHARED = {
    "first call ms": lambda f: f["first_ms"]["p50"],
    "warm p50 ms": lambda f: f["warm_us"]["p50"] / 1000,
    "warm p99 ms": lambda f: f["warm_us"]["p99"] / 1000,
}


def ratios(columns: dict, ours: dict, others: list[tuple[str, dict]]) -> str:
    def times(value: float, own: float) -> str:
        return f"{short(value / own)}" if own else "–"

    rows = [["**random-percentage**", *["1"] * len(columns)]]
    rows += [[label, *(times(of(figures), of(ours)) for of in columns.values())] for label, figures in others]
    return table(["", *columns], rows)


def absolute(columns: dict, found: list[tuple[str, dict]], requests: bool) -> str:
    head = ["", *columns, *(["requests to the source, of 1,000 calls"] if requests else [])]
    rows = []
    for label, figures in found:
        row = [label, *(short(of(figures)) for of in columns.values())]
        if requests:
            calls = sum(run["calls"] for run in figures["warm_runs"])
            row.append(short(1000 * sum(run["requests"] for run in figures["warm_runs"]) / calls) if calls else "–")
        rows.append(row)
    return table(head, rows)


def goals(ours: dict, shared: dict | None, size: int, zipped: int) -> list[Goal]:
    found = [
        Goal("init, median", 2.5, "ms", ours["init_ms"]["p50"], False),
        Goal("first call, median", 0.1, "ms", ours["first_ms"]["p50"], False),
        Goal("warm call, p50", 12, "µs", ours["warm_us"]["p50"], False),
        Goal("warm call, p99", 25, "µs", ours["warm_us"]["p99"], False),
        Goal("CPU of a warm call", 16, "µs", ours["cpu_us"], False),
        Goal("memory, the most of any process (aim: 4)", 6, "MiB", ours["rss_mib"], True),
        Goal("file", 4, "MB", size / 1e6, True),
        Goal("zip (aim: 1)", 1.8, "MB", zipped / 1e6, True),
    ]
    if shared:
        found += [
            Goal(f"first call at a share of {SHARE} MB, median", 0.2, "ms", shared["first_ms"]["p50"], False),
            Goal(f"warm call at a share of {SHARE} MB, p99", 1, "ms", shared["warm_us"]["p99"] / 1000, False),
        ]
    return found


def goal_table(found: list[Goal]) -> str:
    rows = [[g.label, f"{g.limit:g} {g.unit}", f"{short(g.value)} {g.unit}", "met" if g.met else "**missed**"] for g in found]
    return table(["", "at most", "in this run", ""], rows)


def load_list(outcome: dict) -> str:
    change, minutes = outcome["change_ms"], outcome["seconds"] / 60
    kinds = ", ".join(sorted({kind.lower() for kind in outcome["faults"]}))
    lines = [
        f"- **{outcome['rate']:,.0f} calls a second** from {outcome['sandboxes']} sandboxes on one core, which also asks and judges: "
        f"{outcome['answers']:,} answers in {minutes:.1f} minutes. A call took {outcome['call_us_p50']:,} µs (p50), "
        f"{outcome['call_us_p99']:,} µs (p99), {outcome['call_ms_max']:.0f} ms at most: for a source that does not answer a caller waits "
        "250 ms, and no longer.",
        f"- {outcome['errors']} errors, {outcome['deaths']} panics, {outcome['broken']} answers that broke a rule, under "
        f"{len(outcome['faults'])} faults of the source over {outcome['fault_seconds']:.0f} s (seed {outcome['seed']}): {kinds}.",
        f"- From the write to the last old answer: p50 {change['p50']:.0f} ms, **p99 {change['p99']:.0f} ms**, at most "
        f"{change['max']:.0f} ms, over {outcome['quiet_changes']} changes while reads worked, of {outcome['changes']}. At most 1 s (p99) "
        "is the goal.",
        f"- The oldest values that an answer rested on: {outcome['oldest_ms_working']:.0f} ms with reads working, "
        f"{outcome['oldest_ms_failing']:,.0f} ms with faults. {outcome['fallbacks']:,} answers fell back to stable, when reads had "
        "failed for longer than 5 s.",
        f"- {outcome['requests_rate']:.1f} requests to the source a second and sandbox; {outcome['log_lines']} lines of log in all.",
        f"- Memory of a process: {outcome['rss_begin_kib'] / 1024:.1f} MiB when it had settled, {outcome['rss_end_kib'] / 1024:.1f} MiB "
        f"at the end (grown by {outcome['growth_kib']} KiB). The machine stood still for {outcome['stalled_ms']:,.0f} ms, which are left "
        "out of the ages.",
    ]
    if outcome["complaints"]:
        lines += ["", "**What must hold did not:**", "", *(f"- {text}" for text in outcome["complaints"])]
    return "\n".join(lines)


def version(*command: str) -> str:
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return next(word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit())


def machine(python: Path, node: bool, busy: float) -> str:
    kernel = ".".join(platform.release().split(".")[:2])
    programs = [f"rustc {version('rustc', '--version')}", f"Python {version(str(python), '--version')}"]
    programs += [f"Node.js {version('node', '--version')}"] if node else []
    cpus = f"{os.cpu_count()} CPUs, {platform.machine()}"
    return f"{cpus}, Linux {kernel}, {', '.join(programs)}; load average when the run began: {busy:.1f}."


def words(value: float) -> str:
    return f"{value:,.0f} times" if value >= 10 else f"{value:.1f} times"


def page(found: dict, shared: dict, labels: dict, size: int, zipped: int, loads: dict, about: str, node: bool) -> str:
    """The whole document. `found` and `shared` hold figures by row; ours comes first."""
    ours, floor, cached = found["ssm"], found["floor"], found["python-cached"]
    peers = [key for key in found if key.startswith(("python", "node"))]
    parts = [
        "# How fast the endpoint is",
        "random-percentage is asked on every phone call. What it takes is compared with what a user would write in its place, in one "
        "run on one machine. `make bench` measures it and writes this page; `make figures` does that part alone.",
        "Not measured, because it takes an account: the start of Lambda's microVM, the download of the code, the network to the source. "
        "See [what this does not show](#what-this-does-not-show).",
        "## Against what one would write instead",
        "How many times as much as random-percentage each takes. All say the same: a draw, the percentage, a label.",
        ratios(COLUMNS, ours, [(labels[key], found[key]) for key in peers]),
    ]
    if shared:
        parts += [
            f"Held to the CPU that Lambda gives with {SHARE} MB ({100 * SHARE / 1769:.1f} % of one, in periods of 20 ms, after init), an "
            "event every 20 ms:",
            ratios(SHARED, shared["ssm"], [(labels[key], shared[key]) for key in shared if key in peers]),
        ]
    if not node:
        parts.append("Node.js was not there in this run: its rows are left out.")
    over = {name: of(cached) / of(ours) for name, of in COLUMNS.items()}
    parts.append(
        f"**Where a peer is close:** Python that keeps the value for a second takes {words(over['warm p50 µs'])} as long on a warm call, "
        f"{short(cached['warm_us']['p50'])} µs against {short(ours['warm_us']['p50'])}. Lambda bills whole milliseconds, and the network "
        "takes longer than either: nobody sees that, on the bill or on the phone. What is seen is the cold start "
        f"({words(over['init ms'])}), the first call ({words(over['first call ms'])}) and the memory ({words(over['memory MiB'])}). "
        "Against a read per call, most of what is won is the cache and not the language. A cache also makes a change late, which is why "
        "ours is never older than 0.7 s while it can be read."
    )
    aims = goals(ours, shared.get("ssm"), size, zipped)
    slower = floor["cpu_us"] / FLOOR
    parts += [
        "## Goals",
        goal_table(aims),
        f"{sum(goal.met for goal in aims)} of {len(aims)} are met in this run. Sizes and memory hold on any machine. CI checks them, and "
        "CPU time, and that requests to AWS are a matter of time and not of calls. Times are the machine's too: the floor below, a "
        f"program that does nothing but answer, took {short(floor['cpu_us'])} µs of CPU a call in this run"
        + (f", {slower:.1f} times the {FLOOR:g} µs of where the goals were set." if slower > 1.15 else ", as where the goals were set."),
    ]
    if not shared:
        parts.append(f"A share of {SHARE} MB could not be held, for want of the right to make a CPU cgroup: its goals are left out.")
    parts += [
        "## All figures",
        absolute(COLUMNS, [(labels[key], figures) for key, figures in found.items()], True),
        f"The file of random-percentage has {size:,} bytes, its zip {zipped:,}. A peer's code is a page; its interpreter is in Lambda's "
        "own image, and its SDK too.",
    ]
    if shared:
        parts += [f"At a share of {SHARE} MB:", absolute(SHARED, [(labels[key], figures) for key, figures in shared.items()], False)]
    parts += [
        "Init is from the start of the process to its first poll. The first call is the first event, from sent to answered; warm calls "
        f"are those after it, each directly after the one before. Medians of {ours['runs']} cold starts, {cached['runs']} of the peers; "
        f"warm calls of {len(ours['warm_runs'])} processes together. CPU is that of the whole process for a warm call, reads and all. "
        f"Memory is the most it ever had. All read over HTTPS, from a source that answers at once. {about}",
        "## Load",
    ]
    for label, outcome in loads.items():
        parts += [f"{label}:", load_list(outcome)]
    if not loads:
        parts.append("The load was left out of this run.")
    parts += [
        "A new weight (0 ⇄ 100 %) is put every 2 s; the source takes 2 ms for an answer. Every answer is judged: its form, that it says "
        "what its version of the percentage says, that no older version follows a newer one, and its age. While reads work, an old "
        "answer comes at most 1 s after the write; otherwise the last values answer until 5 s after the last read that worked, and then "
        "stable. `target/release/stopwatch load --help` says how to play it with another seed.",
        "## What this does not show",
        "- **Lambda.** A process's init is a small part of a cold start there; what Lambda adds is the same for all rows and makes the "
        "ratios of init smaller. Nothing of this was measured on an account yet.\n- **The network.** The source is on the same machine. "
        "In a Region a read takes some milliseconds, which a peer that reads per call pays on every call, and ours once in 0.7 s, "
        "mostly when nobody waits.\n- **The wall clock.** Times on a shared machine are noisy, above all p99 and init. CPU time is less "
        "so; memory and sizes are not. Both sides share one CPU here; on two, a warm call would take as long as the kernel needs to "
        "wake the other.\n- **Node's own runtime.** A thin client of ours stands in for it, which favours Node. Python runs the "
        "vendor's.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40, help="cold starts of ours; the peers get a quarter")
    parser.add_argument("--seconds", type=int, default=600, help="of load; 0 leaves it out")
    parser.add_argument("--sandboxes", type=int, default=2, help="under load")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--binary", type=Path, default=RELEASE / "random-percentage")
    parser.add_argument("--stopwatch", type=Path, default=RELEASE / "stopwatch")
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    busy = os.getloadavg()[0]
    endpoint = stack.binary(chosen.binary.name, chosen.binary.parent.resolve())
    program = stack.binary(chosen.stopwatch.name, chosen.stopwatch.parent.resolve())
    size, zipped = endpoint.stat().st_size, len(archive.zipped(endpoint.read_bytes()))
    few = max(3, chosen.runs // 4)
    floor = Row("floor", "the floor: a program that only answers", [program, "floor"], {}, chosen.runs, 5000, tls=False)
    rows = [
        Row("ssm", "**random-percentage**, Parameter Store", [endpoint], OURS, chosen.runs, 5000),
        Row("dynamodb", "**random-percentage**, DynamoDB", [endpoint], OURS | TABLE, chosen.runs, 5000),
        floor,
        *python_rows(few),
        *node_rows(few),
    ]
    node = any(row.key.startswith("node") for row in rows)
    found = {row.key: measured(program, row) for row in rows}
    shared = {}
    if share_is_possible(program, floor):
        shared = {row.key: measured(program, row, share=True) for row in rows if row.key != "floor"}
    loads = {}
    if chosen.seconds:
        for label, env, seconds in [("Parameter Store", OURS, chosen.seconds), ("DynamoDB", OURS | TABLE, max(20, chosen.seconds // 5))]:
            load = ["--tls", "--delay-us", 2000, "--seconds", seconds, "--sandboxes", chosen.sandboxes, "--seed", chosen.seed]
            loads[label] = stopwatch(program, "load", [*load, "--label", label], [endpoint], env, tolerant=True)
    about = machine(bootstrap.environment(bootstrap.PEERS), node, busy)
    labels = {row.key: row.label for row in rows}
    text = page(found, shared, labels, size, zipped, loads, about, node)
    chosen.page.write_text(text)
    print(f"\n{text}\n{chosen.page} is written", flush=True)
    aims = goals(found["ssm"], shared.get("ssm"), size, zipped)
    broken = [f"{goal.label}: {short(goal.value)} {goal.unit}" for goal in aims if goal.steady and not goal.met]
    for label, outcome in loads.items():
        broken += outcome["complaints"]
        if outcome["change_ms"]["p99"] > CHANGED:
            broken.append(f"{label}: the last old answer came {outcome['change_ms']['p99']:.0f} ms after the write (p99)")
    print("\n".join(broken), file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (stack.LocalError, subprocess.CalledProcessError) as failed:
        print(f"failed: {failed}", file=sys.stderr)
        sys.exit(1)
