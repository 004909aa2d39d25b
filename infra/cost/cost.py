"""What a month on AWS costs at list price: counts times prices, and the assumptions that neither has. Standard library only.

    python3 infra/cost/cost.py --flows 20 --calls 1e6
    python3 infra/cost/cost.py --flows 20 --calls 1e6 --rollouts 30 --watched-hours 6 --tracing all --evaluator-seconds 0.4

`counts.json` is counted on the local stack by tests/local/test_cost.py, `prices.json` is a list with its sources: put in your region's.
The tables in docs/cost.md are made here too, and the test keeps them so.
"""

import argparse
import json
import math
import re
import sys
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "cost.md"
HOURS = 730  # of a month
SECONDS = HOURS * 3600
EVALUATOR, EXECUTOR, FORWARDER, ENDPOINT = "canary-evaluator", "rollback-executor", "alert-forwarder", "random-percentage"
WORKERS = (EVALUATOR, EXECUTOR, FORWARDER)
TRACING = ("none", "workers", "all")
PARAMETER_STORE, DYNAMODB = SOURCES = ("ParameterStore", "DynamoDB")
VISITED_AFTER = 24  # hours that ticks visit a flow after its rollout ended
FRESH = 0.7  # seconds that a sandbox of random-percentage answers from memory for a flow
POLLS = 5 * 3 * 60 * HOURS  # Lambda asks a queue with five pollers, each for 20 seconds; with a maximum concurrency never with fewer
READS = 30  # a second that Serin may ask of Parameter Store, of the 40 that an account has
COPY_UNITS = 2  # of a read of the copy: a flow's item and the heartbeat's, a unit each, since what was halted must not come back
TOGETHER = 3  # flows that the evaluator reads with one request (crates/aws/src/parameters.rs)
FREE_DASHBOARD = 50  # metrics that a dashboard may show and be free
GB = 1e9


def assumed(value, help: str, least: float = 0, most: float = math.inf):
    return field(default=value, metadata={"help": help, "least": least, "most": most})


@dataclass(frozen=True)
class Assumed:
    """What is not counted; each can be given on the command line."""

    rollouts: float = assumed(8, "rollouts of a flow in a month")
    watched_hours: float = assumed(3, "hours from a rollout's first step to its end")
    rolled_back: float = assumed(0.2, "share of the rollouts that are rolled back", most=1)
    evaluator_seconds: float = assumed(2, "seconds of an evaluator's tick with no flow")
    evaluator_seconds_per_flow: float = assumed(0.05, "seconds more for each flow that it visits")
    executor_seconds: float = assumed(0.5, "seconds of an executor's tick with no flow")
    executor_seconds_per_flow: float = assumed(0.05, "seconds more for each flow that it visits")
    executor_seconds_per_rollout: float = assumed(90, "seconds that it exports and publishes in a rollout")
    forwarder_seconds: float = assumed(1, "seconds to forward an alert")
    endpoint_ms: float = assumed(2, "milliseconds of a call that is answered from memory")
    endpoint_ms_reading: float = assumed(40, "milliseconds of a call that has to read first, a new sandbox's among them")
    sandboxes: float = assumed(5, "sandboxes of the endpoint that share the calls", least=1)
    peak: float = assumed(3, "times as many calls in the busiest hour as in an average one")
    platform_log_bytes: float = assumed(380, "bytes that Lambda itself writes to the log for each run: START, END, REPORT")
    export_kb: float = assumed(200, "kB of a flow's export in the bucket")
    request_kb: float = assumed(2, "kB that a request to Genesys Cloud sends")
    key_requests: float = assumed(35_000, "requests to KMS for the table's key: by the two functions that tick, each five minutes, twice")
    months: float = assumed(12, "months after which storage is looked at; entries of the ledger are never deleted")


@dataclass(frozen=True)
class Chosen:
    """What the template lets one choose; None is the template's default."""

    tracing: str | None = None
    log_days: int | None = None
    key: bool = False
    targets: int = 0  # further ones
    throughput: bool | None = None  # None: as soon as it is needed
    trails: int = 0  # further copies of the account's management events
    source: str = PARAMETER_STORE  # what the endpoint reads
    platform_lines: bool = True  # of the endpoint


class Reckoning:
    """The month of so many flows and calls."""

    def __init__(self, flows: float, calls: float, assumed: Assumed = Assumed(), chosen: Chosen = Chosen(), counts=None, prices=None):
        self.flows, self.calls, self.assumed, self.chosen = flows, calls, assumed, chosen
        self.counts, self.prices = counts or load("counts.json"), (prices or load("prices.json"))["prices"]
        here = self.counts["installation"]
        self.tracing = chosen.tracing or here["tracing"]
        self.log_days = chosen.log_days or here["log_days"]
        self.watched = flows * min(1, assumed.rollouts * assumed.watched_hours / HOURS)  # at once, on average
        after = min(1, assumed.rollouts * (assumed.watched_hours + VISITED_AFTER) / HOURS) * flows
        self.listed = after - self.watched
        self.visited = after
        # A tick reads all that it visits at once; the endpoint reads as its calls come, in that second too.
        self.reads = self._reads(calls / SECONDS) * SECONDS
        self.reads_at_peak = self._reads(calls / SECONDS * assumed.peak)
        self.copied = chosen.source == DYNAMODB
        self.needs_throughput = self.visited / TOGETHER + self.reads_at_peak * (not self.copied) > READS
        self.throughput = self.needs_throughput if chosen.throughput is None else chosen.throughput
        self.used = {"installation": self._installation(), "rollouts": self._rollouts(), "calls": self._calls()}

    def _reads(self, calls: float) -> float:
        """Reads a second of so many calls a second: of each flow by itself, in each sandbox, not again for 0.7 s, then at the next call."""
        return calls / (1 + FRESH * calls / max(1, self.flows) / self.assumed.sandboxes)

    # What is used: quantities by price

    def _installation(self) -> Counter:
        here, used = self.counts["installation"], Counter()
        for function, ticks in here["ticks"].items():
            idle = self.counts["idle"][function]
            used["scheduler"] += ticks
            self._run(used, function, ticks, getattr(self.assumed, f"{_short(function)}_seconds"))
            self._asked(used, idle, ticks)
        used["alarms"] = here["alarm_metrics"] + self.chosen.targets * here["alarm_metrics_of_a_target"]
        used["dashboards"] = here["dashboards"]
        used["metrics"] = self.counts["metrics"]["always"]
        used["sqs"] = (here["queues"] + self.chosen.targets) * POLLS
        # The endpoint would be the third whose reads of the table ask for its key.
        used["key_requests"] = self.assumed.key_requests * (1.5 if self.copied else 1)
        used["keys"] = int(self.chosen.key)
        used["trail"] += used["key_requests"] * self.chosen.trails
        return used

    def _rollouts(self) -> Counter:
        used, counts = Counter(), self.counts
        for function, ticks in counts["installation"]["ticks"].items():
            for state, flows in (("watched", self.watched), ("listed", self.listed)):
                extra = {name: number - counts["idle"][function].get(name, 0) for name, number in counts[state][function].items()}
                # With one flow the list of flows is one read unit; each further one adds its bytes.
                extra["read_units"] += counts["stored"]["listed_flow"] / 4096
                self._asked(used, extra, ticks * flows)
            per_flow = getattr(self.assumed, f"{_short(function)}_seconds_per_flow")
            used["lambda_seconds"] += self._gb(function) * ticks * self.visited * per_flow
        # Each tick reads the copy of all flows there are.
        used["dynamodb_reads"] += counts["installation"]["ticks"][EVALUATOR] * self.flows * counts["stored"]["copied_flow"] / 4096
        rollouts = self.flows * self.assumed.rollouts
        used["lambda_seconds"] += self._gb(EXECUTOR) * rollouts * self.assumed.executor_seconds_per_rollout
        # A metric costs the whole hour in which it is reported, and a rollout begins and ends within one.
        hours = min(HOURS, self.assumed.rollouts * (self.assumed.watched_hours + 1))
        used["metrics"] = self.flows * counts["metrics"]["a_watched_flow"] * hours / HOURS
        for how, share in (("promoted", 1 - self.assumed.rolled_back), ("rolled_back", self.assumed.rolled_back)):
            number, once, kept = rollouts * share, counts[how], counts["stored"][how]
            self._asked(used, once, number)
            used["sns"] += number * (once["alerts"] + once["wakes"])
            self._alerts(used, number * once["alerts"])
            self._run(used, EXECUTOR, number * once["wakes"], 0)
            used["sqs"] += number * once["wakes"] * 2
            used["exports"] += number * once["exports"]
            used["exports_stored"] += number * once["exports"] * self.assumed.export_kb * 1e3 / GB * self.assumed.months
            stored = number * (kept["for_ever"] * self.assumed.months + kept["for_90_days"] * min(3, self.assumed.months)) / GB
            used["dynamodb_stored"] += stored
            used["dynamodb_recovery"] += stored
        return used

    def _alerts(self, used: Counter, alerts: float) -> None:
        alerts *= 1 + self.chosen.targets
        used["sqs"] += alerts * 2  # put in and deleted; it is fetched by a poll
        self._run(used, FORWARDER, alerts, self.assumed.forwarder_seconds)
        self._asked(used, self.counts["forwarded"], alerts)

    def _calls(self) -> Counter:
        used, call = Counter(), self.counts["call"]
        in_ms = self.reads * self.assumed.endpoint_ms_reading + (self.calls - self.reads) * self.assumed.endpoint_ms
        self._run(used, ENDPOINT, self.calls, in_ms / 1000 / self.calls if self.calls else 0)
        read = {"read_units": COPY_UNITS} if self.copied else {name: call[name] for name in ("parameters", "parameter_calls")}
        self._asked(used, read, self.reads)
        # A sandbox tells what it counted once a minute, if it was called; and a metric costs the whole hour.
        self._log(used, min(self.calls, SECONDS / 60 * self.assumed.sandboxes) * call["told_bytes"])
        used["metrics"] = self.counts["metrics"]["endpoint"] * min(1, self.calls / HOURS)
        return used

    def _run(self, used: Counter, function: str, runs: float, seconds: float) -> None:
        """Runs of a function, with what Lambda writes about them and X-Ray records."""
        used["lambda_requests"] += runs
        used["lambda_seconds"] += runs * seconds * self._gb(function)
        traced = self.tracing == "all" or (self.tracing == "workers" and function in WORKERS)
        if traced:
            # The first of a second, and every twentieth of the others.
            first = min(runs, SECONDS)
            used["traces"] += first + (runs - first) / 20
        writes = self.counts["installation"]["platform_lines"][function] and (self.chosen.platform_lines or function != ENDPOINT)
        self._log(used, runs * self.assumed.platform_log_bytes if writes else 0)

    def _asked(self, used: Counter, counted: dict, times: float) -> None:
        """What was counted, so many times."""
        used["dynamodb_reads"] += counted.get("read_units", 0) * times
        used["dynamodb_writes"] += counted.get("write_units", 0) * times
        used["transfer"] += counted.get("genesys", 0) * times * self.assumed.request_kb * 1e3 / GB
        used["trail"] += counted.get("parameter_calls", 0) * times * self.chosen.trails
        if self.throughput:
            used["parameters"] += counted.get("parameters", 0) * times
        self._log(used, counted.get("log_bytes", 0) * times)

    def _log(self, used: Counter, bytes_: float) -> None:
        used["logs"] += bytes_ / GB
        used["logs_stored"] += bytes_ / GB * self.log_days / 30

    def _gb(self, function: str) -> float:
        return self.counts["installation"]["memory_mb"][function] / 1024

    # What it costs

    def dollars(self, price: str, quantity: float) -> float:
        return quantity / self.prices[price]["per"] * self.prices[price]["usd"]

    def bill(self, *groups: str, free: bool = False) -> dict[str, float]:
        """Dollars by price, of the groups named or of all; what is free each month in every account taken off or not."""
        used = sum((Counter({p: q for p, q in self.used[g].items() if q > 0}) for g in groups or self.used), Counter())
        shown = self.counts["installation"]["dashboard_metrics"]
        allowed = {p: self.prices[p]["free"] * free for p in used}
        if shown["always"] + self.flows * shown["a_flow"] > FREE_DASHBOARD:
            allowed["dashboards"] = 0
        return {p: self.dollars(p, max(0, q - allowed[p])) for p, q in used.items() if q}

    def total(self, *groups: str, free: bool = False) -> float:
        return sum(self.bill(*groups, free=free).values())


def _short(function: str) -> str:
    return function.rsplit("-", 1)[-1]


def load(name: str) -> dict:
    return json.loads((HERE / name).read_text())


# ----------------------------------------------------------------------------------------------------------------------------- the page

FLOWS, CALLS = (10, 100, 1000), (1e6, 10e6, 100e6)
SERVICES = {
    "Lambda": ("lambda_requests", "lambda_seconds"),
    "DynamoDB requests": ("dynamodb_reads", "dynamodb_writes"),
    "DynamoDB storage and recovery": ("dynamodb_stored", "dynamodb_recovery"),
    "own metrics": ("metrics",),
    "alarms": ("alarms",),
    "dashboard": ("dashboards",),
    "logs": ("logs", "logs_stored"),
    "X-Ray": ("traces",),
    "queues and topics": ("sqs", "sns"),
    "schedules": ("scheduler",),
    "keys": ("keys", "key_requests"),
    "exports": ("exports", "exports_stored"),
    "data out to Genesys Cloud": ("transfer",),
    "Parameter Store, higher throughput": ("parameters",),
    "CloudTrail, a further copy": ("trail",),
}


def usd(amount: float) -> str:
    if amount < 0.005:
        return "0"
    return f"{amount:,.2f}" if amount < 9.995 else f"{amount:,.0f}"


def count(number: float) -> str:
    """Three digits of it, or what there is."""
    if number >= 1e6:
        return f"{number / 1e6:,.3g} million" if number < 1e9 else f"{number / 1e6:,.0f} million"
    if number >= 1000:
        return f"{round(number, 2 - len(str(int(number))) + 1):,.0f}"
    return f"{number:.3g}"


def table(head: list[str], rows: list[list[str]], right: int) -> str:
    """Markdown; the last `right` columns are figures."""
    marks = "|" + "---|" * (len(head) - right) + "--:|" * right
    lines = ["|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in (head, *rows)]
    return "\n".join([lines[0], marks, *lines[1:]])


def by_service(bill: dict[str, float]) -> dict[str, float]:
    return {service: sum(bill.get(price, 0) for price in prices) for service, prices in SERVICES.items()}


def grid(source: str = PARAMETER_STORE) -> str:
    rows = []
    for flows in FLOWS:
        row = [f"{flows:,} flows"]
        for calls in CALLS:
            month = Reckoning(flows, calls, chosen=Chosen(source=source))
            row.append(f"{usd(month.total())} ({usd(month.total(free=True))})" + "*" * month.needs_throughput)
        rows.append(row)
    return table(["dollars a month, at list price (less what is always free)", *(f"{count(calls)} calls" for calls in CALLS)], rows, 3)


def idle() -> str:
    month = Reckoning(0, 0)
    listed, free = month.bill(), month.bill(free=True)
    rows = []
    for price, dollars in sorted(listed.items(), key=lambda line: -line[1]):
        allowed = month.prices[price]["free"]
        used = count(month.used["installation"][price])
        rows.append([month.prices[price]["what"], used, count(allowed) if allowed else "–", usd(dollars), usd(free[price])])
    rows.append(["**together**", "", "", f"**{usd(sum(listed.values()))}**", f"**{usd(sum(free.values()))}**"])
    return table(["", "used in a month", "of it always free", "$", "$ beyond that"], rows, 4)


def flows() -> str:
    months = [Reckoning(number, 0) for number in FLOWS]
    bills = [by_service(month.bill("rollouts")) for month in months]
    names = sorted((name for name in SERVICES if any(bill[name] >= 0.005 for bill in bills)), key=lambda name: -bills[1][name])
    rows = [[name, *(usd(bill[name]) for bill in bills)] for name in names]
    rows.append(["**together**", *(f"**{usd(sum(bill.values()))}**" for bill in bills)])
    rows.append(["flows in a rollout at once, on average", *(count(month.watched) for month in months)])
    rows.append(["and visited by ticks", *(count(month.visited) for month in months)])
    return table(["dollars a month", *(f"{number:,} flows" for number in FLOWS)], rows, 3)


def calls() -> str:
    months = [Reckoning(FLOWS[1], number, chosen=Chosen(throughput=False)) for number in CALLS]
    names = {
        "requests": ["lambda_requests"],
        "time": ["lambda_seconds"],
        "log lines, Lambda's own nearly all": ["logs", "logs_stored"],
        "own metrics": ["metrics"],
    }
    bills = [month.bill("calls") for month in months]
    rows = [[name, *(usd(sum(bill.get(price, 0) for price in prices)) for bill in bills)] for name, prices in names.items()]
    rows.append(["**together**", *(f"**{usd(sum(bill.values()))}**" for bill in bills)])
    rows.append(["calls a second, on average", *(count(number / SECONDS) for number in CALLS)])
    rows.append(["and in the busiest hour", *(count(number / SECONDS * months[0].assumed.peak) for number in CALLS)])
    for flows in (1, *FLOWS):
        at_peak = [count(Reckoning(flows, number).reads_at_peak) for number in CALLS]
        rows.append([f"reads a second then, of {flows:,} flow{'s' * (flows > 1)}", *at_peak])
    return table([f"dollars a month, of {FLOWS[1]} flows", *(f"{count(number)} calls" for number in CALLS)], rows, 3)


def drivers() -> str:
    rows = []
    for number, asked in ((10, 1e6), (100, 10e6), (1000, 100e6)):
        month = Reckoning(number, asked)
        bill = by_service(month.bill())
        most = sorted(bill.items(), key=lambda line: -line[1])[:5]
        named = ", ".join(f"{name} {usd(dollars)}" for name, dollars in most)
        rows.append([f"{number:,} flows, {count(asked)} calls", named, usd(month.total())])
    return table(["", "what costs most", "$"], rows, 1)


def options() -> str:
    """What each choice adds at three sizes, compared with the template's defaults."""
    sizes = ((10, 1e6), (100, 10e6), (1000, 100e6))

    def adds(less: Chosen, **chosen) -> list[str]:
        found = []
        for number, asked in sizes:
            more = Reckoning(number, asked, chosen=replace(less, **chosen))
            difference = more.total() - Reckoning(number, asked, chosen=less).total()
            found.append(("−" if difference < -0.005 else "") + usd(abs(difference)))
        return found

    usual = load("counts.json")["installation"]["tracing"]
    others = [tracing for tracing in TRACING if tracing != usual]
    long = load("counts.json")["installation"]["log_days"]
    rows = [
        *([f"`Tracing={tracing}` in place of `{usual}`", *adds(Chosen(), tracing=tracing)] for tracing in others),
        ["`KeyArn`: a customer key (and 1 more for each of its first two rotations)", *adds(Chosen(), key=True)],
        [f"`LogRetentionDays=365` in place of {long}", *adds(Chosen(), log_days=365)],
        ["each further target of alerts", *adds(Chosen(), targets=1)],
        [f"`EndpointSource={DYNAMODB}` in place of `{PARAMETER_STORE}`", *adds(Chosen(), source=DYNAMODB)],
        ["Parameter Store's higher throughput", *adds(Chosen(throughput=False), throughput=True)],
        ["each further copy of the account's management events (a second CloudTrail)", *adds(Chosen(), trails=1)],
        ["the endpoint without Lambda's own log lines", *adds(Chosen(), platform_lines=False)],
    ]
    return table(["dollars a month", *(f"{number:,} flows, {count(asked)} calls" for number, asked in sizes)], rows, 3)


def counted() -> str:
    counts, rows = load("counts.json"), []

    def row(what: str, of: dict) -> None:
        shown = (of.get(name) for name in ("requests", "read_units", "write_units", "parameters", "genesys", "log_bytes"))
        rows.append([what, *("" if number is None else count(number) for number in shown)])

    for function in (EVALUATOR, EXECUTOR):
        states = {"idle": "no flow", "listed": "a flow whose rollout has ended", "watched": "a flow at a step, nothing happens"}
        for state, what in states.items():
            row(f"tick of {function}, {what}", counts[state][function])
    row("a promoted rollout, besides its ticks", counts["promoted"])
    row("a rolled back one, besides its ticks", counts["rolled_back"])
    row("an alert that is forwarded", counts["forwarded"])
    row("a call that reads first", counts["call"])
    row("a call from memory", {"requests": 0})
    head = ["", "AWS requests", "read units", "write units", "parameters", "to Genesys Cloud", "log bytes"]
    return table(head, rows, 6)


def assumptions() -> str:
    shown = [[f"`--{one.name.replace('_', '-')}`", one.metadata["help"], count(one.default)] for one in fields(Assumed)]
    return table(["", "", "assumed"], shown, 1)


def prices() -> str:
    told = load("prices.json")
    rows = []
    for one in told["prices"].values():
        always = count(one["free"]) if one["free"] else "–"
        amount = f"${one['usd']:.10f}".rstrip("0").rstrip(".") + (" a " if one["per"] == 1 else " per ") + one["unit"]
        rows.append([one["what"], amount, always, told["sources"][one["source"]]["text"]])
    return table(["", "price", "always free, a month", "found at"], rows, 0)


def figures() -> str:
    """The figures that the page's sentences need."""
    counts, one = load("counts.json"), Reckoning(1, 0)
    always = Reckoning(1, 0, replace(Assumed(), rollouts=1, watched_hours=HOURS))
    a_flow, rollouts, metrics = one.total("rollouts"), one.assumed.rollouts, counts["metrics"]["a_watched_flow"]
    stray, told, kept = counts["call"]["fallback_log_bytes"], counts["call"]["told_bytes"], counts["stored"]["promoted"]
    promoted, back = counts["promoted"], counts["rolled_back"]
    lines, of_endpoint = SECONDS / 60 / GB, counts["metrics"]["endpoint"]

    def of_lines(length: float) -> str:
        return usd(one.dollars("logs", lines * length) + one.dollars("logs_stored", lines * length))

    lines = [
        f"A flow costs ${usd(a_flow)} a month with {count(rollouts)} rollouts. A rollout that is open all month costs "
        f"${usd(always.total('rollouts'))}.",
        f"Each watched flow reports {metrics} metrics of its own; of a flow watched all month they are "
        f"${usd(one.dollars('metrics', metrics))}.",
        f"A sandbox of the endpoint that is called writes a line of {told} bytes a minute: ${of_lines(told)} a month for each that is busy "
        f"all the time, and ${usd(one.dollars('metrics', of_endpoint))} for the {of_endpoint} metrics of all of them.",
        f"A traffic cop in front of a flow that never had a rollout adds {stray} bytes a minute: ${of_lines(stray)}, "
        f"and ${usd(one.dollars('metrics', 1))} for the metric that counts its calls.",
        f"The ledger grows by {count(kept['for_ever'] / 1000)} kB for each promoted rollout for good, and by "
        f"{count(kept['for_90_days'] / 1000)} kB for 90 days.",
        f"A promoted rollout tells {promoted['alerts']} alerts and keeps {promoted['exports']} export, one that is rolled back at its "
        f"first step {back['alerts']} and {back['exports']}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def copied() -> str:
    return grid(DYNAMODB)


SECTIONS = {
    "grid": grid,
    "copied": copied,
    "idle": idle,
    "flows": flows,
    "calls": calls,
    "drivers": drivers,
    "options": options,
    "counted": counted,
    "figures": figures,
    "assumptions": assumptions,
    "prices": prices,
}


def page(text: str) -> str:
    """The page with its tables as they are now."""
    for name, make in SECTIONS.items():
        place = rf"<!-- made: {name} -->\n.*?<!-- end -->"
        made = f"<!-- made: {name} -->\n\n{make()}\n\n<!-- end -->"
        text, found = re.subn(place, made.replace("\\", r"\\"), text, count=1, flags=re.DOTALL)
        assert found, f"{PAGE.name} has no place for `{name}`"
    return text


# ------------------------------------------------------------------------------------------------------------------------- the command


def number(least: float = 0, most: float = math.inf, kind: type = float):
    """A figure for an option: neither less nor more than makes sense."""

    def read(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most):
            bounds = f"from {least:g}" + (f" to {most:g}" if most < math.inf else " on")
            raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' * (kind is int)}number {bounds}")
        return value

    return read


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--flows", type=number(), default=10, help="flows that have rollouts")
    parser.add_argument("--calls", type=number(), default=1e6, help="calls a month that ask the endpoint")
    for one in fields(Assumed):
        bounds = number(one.metadata["least"], one.metadata["most"])
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=bounds, default=one.default, help=one.metadata["help"])
    parser.add_argument("--tracing", choices=TRACING, help="the template's parameter Tracing")
    parser.add_argument("--log-days", type=number(1, kind=int), help="the template's parameter LogRetentionDays")
    parser.add_argument("--key", action="store_true", help="a customer key")
    parser.add_argument("--targets", type=number(kind=int), default=0, help="further targets of alerts")
    parser.add_argument("--source", choices=SOURCES, default=PARAMETER_STORE, help="the template's parameter EndpointSource")
    parser.add_argument("--trails", type=number(kind=int), default=0, help="further copies of the account's management events")
    parser.add_argument("--throughput", action="store_true", default=None, help="Parameter Store's higher throughput, needed or not")
    given = vars(parser.parse_args(arguments))
    assume = Assumed(**{one.name: given[one.name] for one in fields(Assumed)})
    chosen = Chosen(**{name: given[name] for name in ("tracing", "log_days", "key", "targets", "throughput", "trails", "source")})
    month = Reckoning(given["flows"], given["calls"], assume, chosen)

    def line(name: str, *shown: str) -> None:
        print(f"{name:<36}" + "".join(f"{one:>14}" for one in shown))

    line("dollars a month, at list price", *month.used, "together")
    bills = [by_service(month.bill(group)) for group in month.used]
    for name in SERVICES:
        dollars = [bill[name] for bill in bills]
        if sum(dollars) >= 0.005:
            line(name, *map(usd, (*dollars, sum(dollars))))
    line("together", *(usd(month.total(group)) for group in month.used), usd(month.total()))
    line("beyond what is always free", "", "", "", usd(month.total(free=True)))
    if month.needs_throughput:
        # The ticks read there whatever the endpoint reads.
        otherwise = f" (or --source {DYNAMODB})" if month.visited / TOGETHER <= READS else ""
        print(f"Parameter Store needs its higher throughput{otherwise}:")
        print(f"{month.visited:,.0f} flows are visited at once, and the endpoint reads {month.reads_at_peak:,.0f} times a second at its peak")
    return 0


if __name__ == "__main__":
    sys.exit(main())
