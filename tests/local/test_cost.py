"""What a month costs: the requests behind it are counted here, on the local stack, and docs/cost.md is made of the counts and the prices.

`UPDATE_SNAPSHOTS=1` writes infra/cost/counts.json and the tables in docs/cost.md anew; read what changed in them. A count that is more than
a tenth off the committed one fails: whoever makes a tick dearer is told, and whoever makes it cheaper may say so.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter

import demo
import pytest
import stack
from samtranslator.yaml_helper import yaml_parse

sys.path.insert(0, str(stack.ROOT / "infra" / "cost"))
import cost  # noqa: E402

UPDATE = "UPDATE_SNAPSHOTS" in os.environ
HOW = "UPDATE_SNAPSHOTS=1 python3 tests/local/bootstrap.py -m pytest -q tests/local/test_cost.py"
EVALUATOR, EXECUTOR, FORWARDER, ENDPOINT = "canary-evaluator", "rollback-executor", "alert-forwarder", "random-percentage"
PACE = 10  # virtual minutes between two ticks: hours pass in seconds, and an hour's measurements are met at any of its minutes
SUMMARY_EVERY = 15  # minutes, each of which would be a tick
CALLS_PER_HOUR = 1500
FRESH = 0.7  # seconds that random-percentage answers from memory
PLATFORM = ("START RequestId", "END RequestId", "REPORT RequestId", "INIT_START")  # written by Lambda; the emulator's have other lengths


# -------------------------------------------------------------------------------------------------------------------------------- counting


def billed(request: dict) -> Counter:
    """What a request is billed by."""
    service, action = request["action"].split(":")
    counted = Counter(requests=1)
    if service == "dynamodb":
        counted["write_units"] = request["write_units"]
        # A read is billed by what it finds, by begun 4 kB. The answer's JSON is a little longer than what DynamoDB counts.
        if request["read_units"]:
            counted["read_units"] = max(request["read_units"], -(-request["response_bytes"] // 4096))
        counted["transactions"] = action == "TransactWriteItems"
    elif service == "ssm":
        # The secret is read once in the life of a sandbox or a token.
        several = len(request["resources"]) if action == "GetParameters" else 1
        counted.update({"secrets": 1} if action == "GetParameter" else {"parameter_calls": 1, "parameters": several})
    elif service == "sns":
        counted["alerts" if request["resources"][0].endswith("-alerts") else "wakes"] = 1
    elif service == "s3":
        counted["exports"] = 1
    return counted


def log_bytes(lines: list[str]) -> int:
    """As CloudWatch counts them: each event is 26 bytes longer than its text."""
    return sum(len(line.encode()) + 26 for line in lines)


def metrics(lines: list[str]) -> set[tuple]:
    """The metrics that lines in the embedded format make: name, and each dimension with its value."""
    found = set()
    for told in (json.loads(line) for line in lines if '"_aws"' in line):
        for directive in told["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                found |= {(metric["Name"], *(f"{name}={told[name]}" for name in names)) for metric in directive["Metrics"]}
    return found


def stored(item: dict) -> int:
    """An item's bytes as DynamoDB bills its storage: names, values, and 100 besides."""

    def value(typed: dict) -> int:
        ((kind, of),) = typed.items()
        if kind == "M":
            return 3 + sum(len(name) + value(one) + 1 for name, one in of.items())
        return len(of) // 2 + 2 if kind == "N" else len(of.encode())

    return 100 + sum(len(name) + value(typed) for name, typed in item.items())


def mean(of: list[Counter]) -> Counter:
    total = sum_of(of)
    return Counter({name: number / len(of) for name, number in total.items()})


def sum_of(of: list[Counter]) -> Counter:
    total = Counter()
    for one in of:
        total.update(one)
    return total


class Scene:
    """A flow on the local stack, whose ticks are metered one by one."""

    def __init__(self, aws: stack.Stack, genesys: stack.Simulator):
        self.aws, self.genesys, self.play = aws, genesys, demo.Play(aws, genesys, show=lambda _: None)
        self.seen, self.lines, self.dynamodb = 0, Counter(), aws.client("dynamodb")

    def counted(self) -> dict[str, Counter]:
        """What each function asked of AWS since this was asked last; the operator's tool and this test under `root`."""
        fresh = self.aws.requests()[self.seen :]
        self.seen += len(fresh)
        by = {}
        for request in fresh:
            if not request["action"].startswith(("lambda:", "logs:")):
                by.setdefault(request["session"].removeprefix("serin-local-") or "root", Counter()).update(billed(request))
        return by

    def logged(self, function: str) -> list[str]:
        """The function's own lines since they were asked for last."""
        lines = [line for line in self.aws.logs(function) if not line.startswith(PLATFORM)]
        fresh, self.lines[function] = lines[self.lines[function] :], len(lines)
        return fresh

    def items(self) -> list[dict]:
        return self.dynamodb.scan(TableName=self.aws.outputs["LedgerTable"])["Items"]

    def item(self, pk: str, sk: str) -> dict | None:
        return self.dynamodb.get_item(TableName=self.aws.outputs["LedgerTable"], Key={"pk": {"S": pk}, "sk": {"S": sk}}).get("Item")

    def genesys_requests(self) -> int:
        return sum(count for route, count in self.genesys.requests().items() if "/_simulator/" not in route)

    def tick(self, function: str) -> dict[str, Counter]:
        """A tick, and what was asked for in it by whomever."""
        before = self.genesys_requests()
        self.aws.tick(function, self.genesys.now())
        counted = self.counted()
        counted.setdefault(function, Counter())["genesys"] = self.genesys_requests() - before
        return counted

    def advance(self) -> None:
        self.genesys.advance(PACE, {}, self.aws.flow_parameters(demo.FLOW))

    def still(self) -> dict:
        """A tick of each function in which nothing happens, with warm sandboxes."""
        found = {}
        for function in (EXECUTOR, EVALUATOR):
            self.tick(function), self.logged(function)
            found[function] = self.tick(function)[function]
            told = self.logged(function)
            found[function].update(log_bytes=log_bytes(told), log_lines=len(told))
            found.setdefault("metrics", set()).update(metrics(told))
        return found

    def phase(self) -> str:
        return self.item("ACTIVE", demo.FLOW)["phase"]["S"]

    def rollout(self, behavior: dict, ends: str) -> dict:
        """A rollout from `serin start` to its end.

        `watched` is a tick of it in which nothing happens, `once` is what it costs besides such ticks.
        """
        for function in (EXECUTOR, EVALUATOR, FORWARDER):
            self.logged(function)
        before, arrived = self.kept(), len(self.genesys.webhook())
        self.counted()
        self.play.start(self.genesys.check_in(demo.CANARY, behavior), "counted")
        once, forwarded = self.counted()["root"], Counter()

        quiet, busy, summaries = self.ticks(forwarded)
        until(lambda: self.phase() == ends, f"the rollout ends as {ends}")
        watched = {function: mean(ticks) for function, ticks in quiet.items()}
        for function, ticks in busy.items():
            once.update(sum_of(ticks))
            once.subtract({name: len(ticks) * number for name, number in watched[function].items()})
        # It is kept each quarter of an hour, and at this pace met more often.
        watched[EVALUATOR].update(requests=1 / SUMMARY_EVERY, write_units=sum(summaries) / max(1, len(summaries)) / SUMMARY_EVERY)

        # The outbox is empty after this tick at the latest; the queues deliver in their own time.
        late = self.tick(EVALUATOR)
        once["alerts"] += late[EVALUATOR]["alerts"]
        until(lambda: len(self.genesys.webhook()) - arrived >= once["alerts"], "all alerts arrive")
        time.sleep(0.3)
        rest = self.counted()
        for function in (EXECUTOR, EVALUATOR):
            once.update(rest.get(function, Counter()))  # what the queue woke
        for by in (late, rest):
            forwarded.update(by.get(FORWARDER, Counter()))

        seen = set()
        for function, counted in watched.items():
            told = self.logged(function)
            of_ticks = [line for line in told if '"_aws"' in line or '"message":"tick"' in line]
            counted["log_bytes"] = log_bytes(of_ticks) / (len(quiet[function]) + len(busy[function]) + (function == EVALUATOR))
            once["log_bytes"] += log_bytes(told) - log_bytes(of_ticks)
            seen |= metrics(of_ticks)
        forwarded["log_bytes"] = log_bytes(self.logged(FORWARDER))
        return {
            "watched": watched,
            "once": once,
            "an alert": {name: number / once["alerts"] for name, number in forwarded.items()},
            "stored": {kind: size - before[kind] for kind, size in self.kept().items()},
            "metrics": seen,
        }

    def ticks(self, forwarded: Counter) -> tuple[dict, dict, list[int]]:
        """Ticks until the rollout has ended or is being rolled back: the quiet ones, the others, and the write units of each summary."""
        quiet, busy, summaries = {EXECUTOR: [], EVALUATOR: []}, {EXECUTOR: [], EVALUATOR: []}, []
        summary = self.summary()
        for _ in range(40):
            for function in quiet:
                by = self.tick(function)
                forwarded.update(by.get(FORWARDER, Counter()))
                counted, phase = by[function], self.phase()
                if function == EVALUATOR and (now := self.summary()) != summary:
                    summary, size = now, -(-stored(now) // 1024)
                    summaries.append(size)
                    counted.subtract(requests=1, write_units=size)
                still = phase in ("Stepping", "Baking") and not counted["transactions"]
                (quiet if still else busy)[function].append(counted)
            if phase == "RollingBack" or phase in demo.ENDS:
                break
            self.advance()
        return quiet, busy, summaries

    def kept(self) -> dict[str, int]:
        """Bytes in the table, without the few items that are written over and over."""
        sizes, kept = {"for_ever": 0, "for_90_days": 0}, ("ENTRY#", "GOOD#", "QUARANTINE#", "WINDOWS#", "SUMMARY#")
        for item in self.items():
            if item["sk"]["S"].startswith(kept) or item["pk"]["S"].startswith("DELIVERED#"):
                sizes["for_90_days" if "expires_at" in item else "for_ever"] += stored(item)
        return sizes

    def summary(self) -> dict | None:
        found = self.dynamodb.query(
            TableName=self.aws.outputs["LedgerTable"],
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues={":pk": {"S": f"FLOW#{demo.FLOW}"}, ":sk": {"S": "SUMMARY#"}},
            ScanIndexForward=False,
        )
        return next(iter(found["Items"]), None)

    def ended_at_once(self, flow: str) -> None:
        """One more flow that ticks visit: its rollout is ended before anything was done."""
        path = stack.LOCAL / "demo" / f"counted-{flow}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(demo.ROLLOUT_FILE.format(flow=flow, stable=demo.STABLE, canary=demo.CANARY, version="15.0"))
        self.play.serin("start", str(path), "--reason", "counted")
        self.play.serin("abort", flow, "--reason", "counted")

    def ask(self, flow: str = demo.FLOW) -> dict:
        return self.aws.invoke(ENDPOINT, {"flow": flow, "conversationId": "c0ffee"}, qualifier="live")

    def calls(self) -> dict:
        """What the endpoint asks for: at its first call, at calls as fast as they come, at one that comes later, at one of another flow."""
        self.counted()
        self.ask()
        first = self.counted()[ENDPOINT]
        # For as long as two reads take at least, however fast the machine is, and some calls, however slow.
        begun, calls = time.monotonic(), 0
        while time.monotonic() - begun < 3 * FRESH or calls < 5:
            assert not self.ask()["fallback"]
            calls += 1
        reads = [request["time"] for request in self.aws.requests()[self.seen :] if request["session"].endswith(ENDPOINT)]
        self.counted()
        time.sleep(FRESH)
        self.ask()
        later = self.counted()[ENDPOINT]
        told = self.logged(ENDPOINT)
        # A sandbox of its own, which has told nothing yet.
        self.aws.invoke(ENDPOINT, {"flow": "nobody_rolls_this_out", "conversationId": "c0ffee"})
        time.sleep(0.3)
        other, stray = self.counted()[ENDPOINT], [line for line in self.logged(ENDPOINT) if '"Fallback"' in line]
        return {"first": first, "later": later, "other": other, "reads": reads, "calls": calls, "log": told, "fallback log": stray}


def until(true, what: str, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so: {what}"
        time.sleep(0.1)


def set_up(template: dict, kind: str) -> list[dict]:
    """What a template sets up of a kind, each with its properties; without what is for the local stack alone."""
    every = [resource for resource in template["Resources"].values() if resource.get("Condition") != "IsLocal"]
    return [resource.get("Properties", {}) for resource in every if resource["Type"] == kind]


def alarm_metrics(template: dict) -> int:
    """An alarm on an expression is billed for each metric in it."""
    alarms = set_up(template, "AWS::CloudWatch::Alarm")
    return sum(max(1, json.dumps(alarm.get("Metrics", "")).count('"MetricStat"')) for alarm in alarms)


def installation() -> dict:
    """What the template sets up, as far as it is billed."""
    template, target = (yaml_parse((stack.TEMPLATE.parent / name).read_text()) for name in ("template.yaml", "alert-target.yaml"))

    def of(kind: str) -> list[dict]:
        return set_up(template, kind)

    def short(arn) -> str:
        return next(function for function in stack.FUNCTIONS if function.replace("-", "") in json.dumps(arn).lower().replace("-", ""))

    def default(parameter: str, otherwise):
        return template["Parameters"].get(parameter, {}).get("Default", otherwise)

    ticks = Counter()
    for schedule in of("AWS::Scheduler::Schedule"):
        every_minutes = int(re.fullmatch(r"rate\((\d+) minutes?\)", schedule["ScheduleExpression"])[1])
        ticks[short(schedule["Target"]["Arn"])] += cost.HOURS * 60 // every_minutes
    functions = {short(function["FunctionName"]): function for function in of("AWS::Serverless::Function")}
    days = of("AWS::Logs::LogGroup")[0]["RetentionInDays"]
    (dashboard,) = of("AWS::CloudWatch::Dashboard")
    widgets = json.loads(dashboard["DashboardBody"]["Fn::Sub"][0])["widgets"]
    shown = [json.dumps(metric) for widget in widgets for metric in widget["properties"].get("metrics", [])]
    by_flow = [metric for metric in shown if "SEARCH('{Serin,Stage,Flow}" in metric]
    return {
        "ticks": dict(ticks),
        "memory_mb": {name: function["MemorySize"] for name, function in functions.items()},
        # Lambda's own lines can be had without only as JSON, and at a level above INFO.
        "platform_lines": {name: function["LoggingConfig"].get("SystemLogLevel") != "WARN" for name, function in functions.items()},
        "alarm_metrics": alarm_metrics(template),
        "alarm_metrics_of_a_target": alarm_metrics(target),
        "dashboards": len(of("AWS::CloudWatch::Dashboard")),
        # A search shows a metric for each flow; the one for reasons counts as one.
        "dashboard_metrics": {"always": len(shown) - len(by_flow), "a_flow": len(by_flow)},
        "queues": len(of("AWS::Lambda::EventSourceMapping")),
        "log_days": days if isinstance(days, int) else int(default("LogRetentionDays", 30)),
        "tracing": default("Tracing", "none"),
    }


def tidy(counted: dict, digits: int = 1) -> dict:
    """For people: rounded, in order, and without what is of no account."""
    kept = {name: round(number, digits) for name, number in counted.items() if name not in ("transactions", "secrets", "log_lines")}
    return {name: int(number) if number == int(number) else number for name, number in sorted(kept.items())}


# --------------------------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def played():
    """Everything that is counted, played once."""
    with stack.Simulator(seed=demo.SEED) as genesys, stack.Stack(record=True) as aws:
        genesys.reset(seed=demo.SEED, start=demo.START, calls_per_hour=CALLS_PER_HOUR, by_hour=True, flows=[{"slot": demo.FLOW}])
        demo.deploy(aws, genesys)
        scene = Scene(aws, genesys)
        found = {"idle": scene.still()}
        scene.advance()
        found["promoted"] = scene.rollout(demo.HEALTHY, "Promoted")
        found["listed"] = scene.still()
        found["listed item"] = stored(scene.item("ACTIVE", demo.FLOW)) - 100
        found["copied item"] = stored(scene.item("PARAMETERS", f"FLOW#{demo.FLOW}")) - 100
        found["calls"] = scene.calls()
        for flow in ("sales_ivr", "claims_ivr"):
            scene.ended_at_once(flow)
        found["listed, three"] = scene.still()
        scene.advance(), scene.advance()
        found["rolled back"] = scene.rollout(demo.BROKEN, "RolledBack")
        yield found


@pytest.fixture(scope="module")
def counts(played) -> dict:
    """As they are committed."""
    promoted, back, call = played["promoted"], played["rolled back"], played["calls"]
    states = {"idle": played["idle"], "listed": played["listed"], "watched": promoted["watched"]}
    of_a_flow = {one for one in promoted["metrics"] if f"Flow={demo.FLOW}" in one}
    return {
        "made by": HOW,
        "installation": installation(),
        **{state: {function: tidy(ticks[function]) for function in (EVALUATOR, EXECUTOR)} for state, ticks in states.items()},
        "promoted": tidy({"wakes": 0} | promoted["once"], 0),
        "rolled_back": tidy({"wakes": 0} | back["once"], 0),
        "forwarded": tidy(promoted["an alert"]),
        "call": tidy(call["later"]) | {"told_bytes": log_bytes(call["log"][:1]), "fallback_log_bytes": log_bytes(call["fallback log"])},
        "metrics": {"always": len(played["idle"]["metrics"]), "a_watched_flow": len(of_a_flow), "endpoint": len(metrics(call["log"]))},
        "stored": {
            "listed_flow": played["listed item"],
            "copied_flow": played["copied item"],
            "promoted": promoted["stored"],
            "rolled_back": back["stored"],
        },
    }


def flat(counts: dict, path: str = "") -> dict:
    found = {}
    for name, value in counts.items():
        found |= flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return found


def test_the_counts_are_those_that_are_committed(counts):
    path = cost.HERE / "counts.json"
    if UPDATE:
        path.write_text(json.dumps(counts, indent=2) + "\n")
    was, now = flat(json.loads(path.read_text())), flat(counts)

    def differs(name: str) -> bool:
        then, today = was.get(name), now.get(name)
        if isinstance(then, int | float) and isinstance(today, int | float):
            return abs(today - then) > abs(then) / 10
        return then != today

    told = {name: f"{was.get(name)} → {now.get(name)}" for name in was | now if differs(name)}
    assert not told, f"{path.name} is not what is counted; if that is meant: {HOW}\n{json.dumps(told, indent=2)}"


def test_the_page_is_what_counts_and_prices_make_of_it(counts):
    page = cost.PAGE.read_text()
    if UPDATE:
        cost.PAGE.write_text(cost.page(page))
    assert cost.PAGE.read_text() == cost.page(page), f"{cost.PAGE.name}: {HOW}"


def test_each_further_flow_asks_for_as_much_as_the_first(played):
    for function in (EXECUTOR, EVALUATOR):
        idle, one, three = (played[name][function] for name in ("idle", "listed", "listed, three"))
        for name in ("parameters", "log_lines"):
            assert three[name] - idle[name] == 3 * (one[name] - idle[name]), (function, name)
        # The evaluator reads the parameters of three flows with one request.
        saved = cost.TOGETHER - 1 if function == EVALUATOR else 0
        assert three["requests"] - idle["requests"] == 3 * (one["requests"] - idle["requests"]) - saved, function
        # Their ledgers are shorter.
        assert three["read_units"] - idle["read_units"] <= 3 * (one["read_units"] - idle["read_units"])


def test_the_endpoint_reads_a_flow_at_most_every_seven_tenths_of_a_second(played):
    calls = played["calls"]
    assert calls["first"]["parameter_calls"] == calls["later"]["parameter_calls"] == 1
    assert calls["other"]["parameter_calls"] == 2, "each flow is read by itself: this one, and that of `Flows` when the sandbox starts"
    gaps = [later - earlier for earlier, later in zip(calls["reads"], calls["reads"][1:])]
    # They are spread downwards, so that sandboxes that were born together do not read together.
    assert len(gaps) >= 1 and min(gaps) > 0.6 * FRESH, gaps
    assert len(calls["log"]) == 1 and calls["calls"] > 1, "what was drawn is told once a minute"
    assert len(calls["fallback log"]) == 1


def test_metrics_are_told_apart_by_their_dimensions():
    def line(dimensions, **told):
        names = [{"Name": name} for name in told if name not in ("Stage", "Flow")]
        directive = {"Namespace": "Serin", "Dimensions": dimensions, "Metrics": names}
        return json.dumps({"_aws": {"Timestamp": 1, "CloudWatchMetrics": [directive]}, **told})

    lines = [
        "no JSON",
        line([["Stage"]], Stage="prod", FlowsListed=2, FlowsMissed=0),
        line([["Stage", "Flow"]], Stage="prod", Flow="a", Weight=5),
        line([["Stage", "Flow"]], Stage="prod", Flow="b", Weight=5),
        line([["Stage"], ["Stage", "Flow"]], Stage="prod", Flow="b", Evidence=5),
    ]
    assert metrics(lines + lines) == {
        ("FlowsListed", "Stage=prod"),
        ("FlowsMissed", "Stage=prod"),
        ("Weight", "Stage=prod", "Flow=a"),
        ("Weight", "Stage=prod", "Flow=b"),
        ("Evidence", "Stage=prod"),
        ("Evidence", "Stage=prod", "Flow=b"),
    }


def reckon(*arguments: str) -> str:
    """What somebody reads who reckons it again; any Python will do."""
    command = [sys.executable, "-S", str(cost.HERE / "cost.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--flows -1", "argument --flows: '-1' is no number from 0 on"),
        ("--calls nan", "argument --calls: 'nan' is no number from 0 on"),
        ("--rollouts inf", "argument --rollouts: 'inf' is no number from 0 on"),
        ("--sandboxes 0", "argument --sandboxes: '0' is no number from 1 on"),
        ("--rolled-back 1.5", "argument --rolled-back: '1.5' is no number from 0 to 1"),
        ("--log-days 0", "argument --log-days: '0' is no whole number from 1 on"),
        ("--targets 1.5", "argument --targets: '1.5' is no whole number from 0 on"),
        ("--peak many", "argument --peak: 'many' is no number from 0 on"),
    ],
)
def test_figures_that_make_no_sense_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cost.main(arguments.replace(" ", "=").split())
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_dashboard_is_free_up_to_fifty_metrics():
    shown = json.loads((cost.HERE / "counts.json").read_text())["installation"]["dashboard_metrics"]
    free = next(flows for flows in range(100) if cost.Reckoning(flows + 1, 0).bill(free=True)["dashboards"])
    assert shown["always"] + shown["a_flow"] * free <= 50 < shown["always"] + shown["a_flow"] * (free + 1)
    assert cost.Reckoning(free, 0).bill(free=True)["dashboards"] == 0 < cost.Reckoning(free, 0).bill()["dashboards"]


def test_ticks_and_calls_read_parameters_in_the_same_second():
    month = cost.Reckoning(150, 20e6)
    ticks = month.visited / cost.TOGETHER
    assert max(ticks, month.reads_at_peak) < cost.READS < ticks + month.reads_at_peak
    assert month.needs_throughput


def test_an_endpoint_on_the_copy_leaves_parameter_store_to_the_ticks():
    month, copied = (cost.Reckoning(100, 100e6, chosen=cost.Chosen(source=source)) for source in cost.SOURCES)
    assert month.needs_throughput and not copied.needs_throughput
    read = copied.dollars("dynamodb_reads", copied.reads * cost.COPY_UNITS)
    assert copied.bill("calls")["dynamodb_reads"] == pytest.approx(read) and "parameters" not in copied.bill()
    assert copied.total() < month.total() / 10
    # With as many flows in rollouts the ticks alone need it.
    assert cost.Reckoning(1000, 0, chosen=cost.Chosen(source=cost.DYNAMODB)).needs_throughput


def together(told: str) -> str:
    return next(line for line in told.splitlines() if line.startswith("together")).split()[-1]


def test_the_command_says_what_the_page_says_and_reckons_with_other_figures():
    told = reckon("--flows", "100", "--calls", "1e7")
    assert f"| {together(told)} (" in cost.grid() and together(told) == cost.usd(cost.Reckoning(100, 1e7).total())
    few, many = (float(together(reckon("--flows", "20", "--rollouts", number))) for number in ("1", "30"))
    assert few < many
    assert float(together(reckon("--flows", "0", "--calls", "0"))) == pytest.approx(cost.Reckoning(0, 0).total(), abs=0.01)
    assert "higher throughput" in reckon("--flows", "1000") and "higher throughput" not in reckon("--flows", "10")


def test_what_is_reckoned_holds_together():
    month = cost.Reckoning(100, 1e7)
    assert abs(sum(month.total(group) for group in month.used) - month.total()) < 1e-6
    assert sum(cost.by_service(month.bill()).values()) == pytest.approx(month.total()), "every price belongs to a service"
    assert month.total(free=True) < month.total() and cost.Reckoning(0, 0).total(free=True) >= 0
    twice = cost.Reckoning(200, 1e7, chosen=cost.Chosen(throughput=False))
    once = cost.Reckoning(100, 1e7, chosen=cost.Chosen(throughput=False))
    assert twice.total("rollouts") == pytest.approx(2 * once.total("rollouts"))
    assert twice.total("installation") == once.total("installation")
    # By hand: what two queues are asked, and a million calls.
    assert cost.POLLS == 657_000
    assert cost.Reckoning(0, 1e6).bill("calls")["lambda_requests"] == pytest.approx(0.2)
    # One sandbox and one flow, called all the time: read every 0.7 s. A flow that is called once an hour: at each call.
    busy = cost.Reckoning(1, 1e12, cost.Assumed(sandboxes=1))
    assert busy.reads == pytest.approx(cost.SECONDS / FRESH, rel=0.01)
    assert cost.Reckoning(1000, 730e3).reads == pytest.approx(730e3, rel=0.01)
    # Who has rollouts all the time has each flow watched all the time, and no more than that.
    always = cost.Reckoning(10, 0, cost.Assumed(rollouts=100, watched_hours=30))
    assert always.watched == always.visited == 10


def test_every_price_names_where_it_was_found():
    told = json.loads((cost.HERE / "prices.json").read_text())
    for name, price in told["prices"].items():
        source = told["sources"][price["source"]]
        assert (source["dated"] or "date") in source["text"] and "https://" in source["text"], name
