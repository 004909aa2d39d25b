"""What breaks around Serin while a rollout is at work: nothing is lost, and somebody is told. docs/chaos.md has a row for each.

One stack and one rollout for all of them; each test breaks one thing, looks, mends it, and sees the rollout go on. The metrics are those
that the functions wrote into their logs or that Lambda counted, held against the alarms of the expanded template; the last test puts them
as somebody with rights would, and waits for the message of each alarm.
"""

import datetime
import inspect
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import demo
import pytest
import stack
from stack import until
from test_permissions import QUICK
from test_template import expand

PAGE = stack.ROOT / "docs" / "chaos.md"
PREFIX = "/genesys/canary/local"
STEADY, FAILING = "support_ivr", "sales_ivr"
PERCENTAGE = f"{PREFIX}/{STEADY}/percentage"
SLOW = QUICK.replace("steps: [50]\n  bake_time: 5", "steps: [5]\n  bake_time: 600")
POISONED = {"rollback": "rollback-dlq", "alert-webhook": "dlq-alert-webhook"}  # each with where its messages end


# ------------------------------------------------------------------------------------------------------------------------- the rollout


@pytest.fixture(scope="module")
def play():
    with stack.Simulator(seed=demo.SEED) as genesys, stack.Stack(record=True) as aws:
        flows = [{"slot": STEADY}, {"slot": FAILING}]
        made = genesys.reset(seed=demo.SEED, start=demo.START, calls_per_hour=demo.CALLS_PER_HOUR, flows=flows)["flows"]
        demo.deploy(aws, genesys)
        played = demo.Play(aws, genesys, show=lambda _: None)
        played.ids = {flow["name"]: flow["id"] for flow in made}
        calls(played, 5)
        yield played


@pytest.fixture(scope="module")
def stepping(play):
    """A rollout at its first step, where it stays for ten hours."""
    start(play, STEADY, SLOW, demo.HEALTHY)
    assert play.aws.parameter(PERCENTAGE) == "5"
    return play


def start(play, flow: str, file: str, behavior: dict) -> None:
    stable, canary = (play.ids[f"{flow}_{slot}"] for slot in ("Blue", "Green"))
    path = stack.LOCAL / "demo" / f"chaos-{flow}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file.format(flow=flow, stable=stable, canary=canary, version=play.genesys.check_in(canary, behavior)))
    play.serin("start", str(path), "--reason", "a test")
    assert until(lambda: ticked(play, flow)["phase"] == "Stepping")


def calls(play, minutes: float) -> None:
    play.genesys.advance(minutes, {}, play.aws.flow_parameters(STEADY, FAILING))


def ticked(play, flow: str) -> dict:
    """What the schedules send; the evaluator's line of the flow."""
    play.aws.tick("rollback-executor", play.genesys.now())
    return evaluated(play, flow)


def evaluated(play, flow: str) -> dict:
    """The evaluator's tick alone; a failed one raises."""
    [line] = [line for line in play.aws.tick("canary-evaluator", play.genesys.now())["flows"] if line["flow"] == flow]
    return line


def goes_on(play) -> None:
    """The next tick finds the rollout where it was, callers are drawn for, and the record is whole."""
    calls(play, 1)
    line = ticked(play, STEADY)
    assert (line["phase"], line.get("trouble"), play.aws.parameter(PERCENTAGE)) == ("Stepping", None, "5"), line
    assert not asked(play)["fallback"]
    is_whole(play, STEADY)


def is_whole(play, flow: str) -> None:
    assert "nothing was rewritten" in (said := play.serin("ledger", "verify", flow).stdout) or "no anchor" in said, said


def asked(play) -> dict:
    """A caller's answer, from parameters that are read anew."""
    time.sleep(0.8)
    return play.aws.invoke("random-percentage", {"flow": STEADY, "conversationId": "c0ffee"}, qualifier="live")


def events(play, flow: str) -> list[str]:
    shown = play.serin("ledger", "show", flow, "--output", "json").stdout
    return [entry["event"] for entry in json.loads(shown)["entries"]]


def told(play, flow: str, incident: str) -> list[dict]:
    bodies = [alert["body"] for alert in play.genesys.webhook()]
    bodies = [body if isinstance(body, dict) else json.loads(body) for body in bodies]
    return [body for body in bodies if body["incident_type"] == incident and body["dedup_key"].startswith(f"{flow}/")]


# ------------------------------------------------------------------------------------------------------------- metrics and their alarms

class Log:
    """What a function writes into its log from now on."""

    def __init__(self, aws, function: str):
        self._aws, self._function, self._before = aws, function, len(aws.logs(function))

    def metrics(self) -> list[tuple[str, str, dict, float]]:
        """Namespace, name, dimensions and figure, as CloudWatch takes them from the lines."""
        lines = [json.loads(line) for line in self._aws.logs(self._function)[self._before :] if line.startswith("{")]
        return [
            (directive["Namespace"], metric["Name"], {name: line[name] for name in names}, line[metric["Name"]])
            for line in lines
            for directive in line.get("_aws", {}).get("CloudWatchMetrics", [])
            for metric in directive["Metrics"]
            for names in directive["Dimensions"]
        ]


def counted(aws, namespace: str, name: str, **dimensions: str) -> float:
    """What AWS itself counted in the last minutes."""
    now = datetime.datetime.now(datetime.UTC)
    statistics = aws.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - datetime.timedelta(minutes=10),
        EndTime=now + datetime.timedelta(minutes=1),
        Period=3600,
        Statistics=["Sum"],
    )
    return sum(point["Sum"] for point in statistics["Datapoints"])


def pages(alarm: str, namespace: str, name: str, dimensions: dict) -> None:
    """The alarm looks at this metric."""
    assert (namespace, name, dimensions) in alarms()[alarm], f"{alarm} looks at {alarms()[alarm]}"


def seen(log: Log, alarm: str, least: float = 1) -> None:
    """A function emitted what the alarm looks at."""
    emitted = [(space, name, dimensions) for space, name, dimensions, figure in log.metrics() if figure >= least]
    assert any(metric in emitted for metric in alarms()[alarm]), f"{alarm} looks at {alarms()[alarm]}, and what was emitted is {emitted}"


def silent(log: Log, alarm: str) -> None:
    """No function emitted what the alarm misses."""
    assert not [metric for *metric, _ in log.metrics() if tuple(metric) in alarms()[alarm]]


_ALARMS: dict[str, list] = {}


def alarms() -> dict[str, list[tuple[str, str, dict]]]:
    """The metrics behind each alarm of the expanded template, for the stage `local`; the conditions are not looked at."""
    if not _ALARMS:
        resources = expand()["Resources"]

        def plain(value):
            match value:
                case {"Ref": "Stage"}:
                    return "local"
                case {"Ref": name}:
                    properties = resources[name]["Properties"]
                    return plain(next(properties[key] for key in ("FunctionName", "QueueName", "TopicName") if key in properties))
                case {"Fn::GetAtt": [name, "QueueName" | "TopicName"]}:
                    return plain({"Ref": name})
                case {"Fn::Sub": text}:
                    return re.sub(r"\$\{(\w+)\}", lambda found: plain({"Ref": found[1]}), text)
                case str():
                    return value
            raise AssertionError(f"not understood: {value}")

        for resource in resources.values():
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                alarm = resource["Properties"]
                metrics = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query] or [alarm]
                _ALARMS.setdefault(plain(alarm["AlarmName"]).removeprefix("serin-local-"), []).extend(
                    (metric["Namespace"], metric["MetricName"], {d["Name"]: plain(d["Value"]) for d in metric["Dimensions"]})
                    for metric in metrics
                )
    return _ALARMS


# -------------------------------------------------------------------------------------------------------------------------- the faults


def test_the_schedule_fires_twice(play):
    """Two same ticks at once, and both find that the canary has failed: neither waits for the other, and one is recorded."""
    start(play, FAILING, QUICK, demo.BROKEN)
    calls(play, 10)
    log, now = Log(play.aws, "canary-evaluator"), play.genesys.now()
    # Both have read before either writes.
    play.aws.fault({"principal": "serin-local-canary-evaluator", "action": "dynamodb:TransactWriteItems", "hold": True})
    with ThreadPoolExecutor(2) as both:
        ticks = [both.submit(evaluated, play, FAILING) for _ in range(2)]
        assert until(lambda: play.aws.held() == 2)
        play.aws.fault()
        lines = [tick.result() for tick in ticks]
    assert {line["phase"] for line in lines} == {"RollingBack"}, lines
    assert float(play.aws.parameter(f"{PREFIX}/{FAILING}/percentage")) == 0
    assert until(lambda: events(play, FAILING)[-1] == "RollbackFinished"), events(play, FAILING)
    assert events(play, FAILING).count("RollbackStarted") == 1
    alerts = until(lambda: play.aws.tick("canary-evaluator", play.genesys.now()) and told(play, FAILING, "ROLLED_BACK"))
    assert len({alert["dedup_key"] for alert in alerts}) == 1
    seen(log, "ledger-conflicts")
    # One after the other: the second has nothing to do.
    before = events(play, FAILING)
    for _ in range(2):
        play.aws.tick("canary-evaluator", now)
    assert events(play, FAILING) == before
    is_whole(play, FAILING)


def test_the_schedule_does_not_fire(stepping):
    aws, log = stepping.aws, {function: Log(stepping.aws, function) for function in ("canary-evaluator", "rollback-executor")}
    ticked(stepping, STEADY)
    seen(log["canary-evaluator"], "canary-evaluator-no-tick")  # and nobody emits it when nothing runs
    seen(log["rollback-executor"], "rollback-executor-no-tick")
    # Six minutes without a tick.
    heartbeat = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=6)
    aws.put_parameter(f"{PREFIX}/heartbeat", heartbeat.strftime("%Y-%m-%dT%H:%M:%SZ"))
    endpoint = Log(aws, "random-percentage")
    answer = asked(stepping)
    assert (answer["cohort"], answer["fallback"]) == ("stable", True)
    seen(endpoint, "random-percentage-fallbacks")
    goes_on(stepping)


def test_a_topic_is_missing(stepping):
    aws, sns = stepping.aws, stepping.aws.client("sns")
    for output in ("AlertTopicArn", "RollbackTopicArn"):
        sns.delete_topic(TopicArn=aws.outputs[output])
    stepping.serin("pause", STEADY, "--reason", "a test")
    log = Log(aws, "canary-evaluator")
    assert evaluated(stepping, STEADY)["phase"] == "Paused"
    seen(log, "notices-waiting")
    # The stack is deployed again.
    for output, queue in (("AlertTopicArn", "serin-local-alert-webhook"), ("RollbackTopicArn", "serin-local-rollback")):
        topic = sns.create_topic(Name=aws.outputs[output].rsplit(":", 1)[1])["TopicArn"]
        endpoint = f"arn:aws:sqs:{stack.REGION}:000000000000:{queue}"
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint, Attributes={"RawMessageDelivery": "true"})
    stepping.serin("resume", STEADY, "--reason", "the test is over")
    for _ in range(3):
        evaluated(stepping, STEADY)
    assert until(lambda: told(stepping, STEADY, "ROLLOUT_PAUSED"))
    time.sleep(0.5)
    assert len(told(stepping, STEADY, "ROLLOUT_PAUSED")) == 1
    goes_on(stepping)


def test_the_table_is_throttled(stepping):
    aws, log = stepping.aws, Log(stepping.aws, "canary-evaluator")
    before, failed = events(stepping, STEADY), counted(aws, "AWS/Lambda", "Errors", FunctionName="serin-local-canary-evaluator")
    calls(stepping, 1)
    aws.fault({"principal": "serin-local-*", "action": "dynamodb:*", "error": "ProvisionedThroughputExceededException"})
    with pytest.raises(stack.FunctionFailed, match="ProvisionedThroughputExceeded"):
        evaluated(stepping, STEADY)
    # Callers do not notice: what they are drawn from is elsewhere.
    assert not asked(stepping)["fallback"] and stepping.aws.parameter(PERCENTAGE) == "5"
    silent(log, "canary-evaluator-no-tick")
    dimensions = {"FunctionName": "serin-local-canary-evaluator"}
    assert counted(aws, "AWS/Lambda", "Errors", **dimensions) == failed + 1
    pages("canary-evaluator-errors", "AWS/Lambda", "Errors", dimensions)
    aws.fault()
    assert events(stepping, STEADY) == before
    goes_on(stepping)


def test_the_record_of_a_flow_cannot_be_read(stepping):
    """Another flow's, to which somebody wrote: that one is left alone, and all others are served."""
    aws, log = stepping.aws, Log(stepping.aws, "canary-evaluator")
    dynamodb, key = aws.client("dynamodb"), {"pk": {"S": f"FLOW#{STEADY}"}, "sk": {"S": "ENTRY#000000000001"}}
    item = dynamodb.get_item(TableName=aws.outputs["LedgerTable"], Key=key)["Item"]
    dynamodb.put_item(TableName=aws.outputs["LedgerTable"], Item={**item, "entry": {"S": "{}"}})
    with pytest.raises(stack.FunctionFailed, match=f"flow {STEADY} not visited"):
        evaluated(stepping, STEADY)
    seen(log, "canary-evaluator-flows-missed")
    # Nothing is guessed, and callers are drawn for as they were.
    assert aws.parameter(PERCENTAGE) == "5" and not asked(stepping)["fallback"]
    dynamodb.put_item(TableName=aws.outputs["LedgerTable"], Item=item)
    goes_on(stepping)


def test_a_parameter_is_deleted(stepping):
    aws = stepping.aws
    aws.client("ssm").delete_parameter(Name=PERCENTAGE)
    endpoint = Log(aws, "random-percentage")
    answer = asked(stepping)
    assert (answer["cohort"], answer["fallback"]) == ("stable", True)
    seen(endpoint, "random-percentage-fallbacks")
    line = evaluated(stepping, STEADY)
    assert line["phase"] == "Paused" and "the parameter was deleted" in line["reason"], line
    assert aws.parameter(PERCENTAGE) == "0", "the tick that saw it wrote it again"
    stepping.serin("resume", STEADY, "--reason", "it was a mistake")
    evaluated(stepping, STEADY)
    goes_on(stepping)


def test_a_secret_is_wrong(stepping):
    """The OAuth client was renewed, and nobody told Serin."""
    aws, log = stepping.aws, Log(stepping.aws, "canary-evaluator")
    stepping.genesys.fault({"kind": "oauth_refuse", "client_id": "serin-read"}, {"kind": "expire_tokens"})
    calls(stepping, 5)
    line = evaluated(stepping, STEADY)
    assert (line["phase"], line["decision"]) == ("Stepping", "Hold") and "unavailable" in line["reason"], line["reason"]
    seen(log, "genesys-token")
    assert "local-read-secret" not in "\n".join(aws.logs("canary-evaluator"))
    # The same sandbox reads the new one, and measures what it could not.
    renewed = {"client_id": "serin-read-2", "client_secret": "of-today"}
    aws.put_parameter("/serin/local/genesys/read", json.dumps(renewed), secret=True)
    goes_on(stepping)
    assert evaluated(stepping, STEADY)["stable"]["calls"] > line["stable"]["calls"]


def test_a_function_times_out(stepping):
    aws, lambda_ = stepping.aws, stepping.aws.client("lambda")
    name = aws.function_name("canary-evaluator")
    failed, log = counted(aws, "AWS/Lambda", "Errors", FunctionName=name), Log(aws, "canary-evaluator")
    calls(stepping, 1)
    stepping.genesys.fault({"kind": "slow", "path": "/api/v2/analytics", "seconds": 20})
    lambda_.update_function_configuration(FunctionName=name, Timeout=2)
    with pytest.raises(stack.FunctionFailed, match="timed out"):
        evaluated(stepping, STEADY)
    lambda_.update_function_configuration(FunctionName=name, Timeout=50)
    stepping.genesys.clear_faults()
    silent(log, "canary-evaluator-no-tick")
    assert counted(aws, "AWS/Lambda", "Errors", FunctionName=name) == failed + 1
    pages("canary-evaluator-errors", "AWS/Lambda", "Errors", {"FunctionName": name})
    goes_on(stepping)


def test_a_queue_is_poisoned(stepping):
    """Last of the faults, because the rollout is taken back: by a request that comes after messages which nobody understands."""
    aws, sqs = stepping.aws, stepping.aws.client("sqs")
    url = {name: sqs.get_queue_url(QueueName=f"serin-local-{name}")["QueueUrl"] for name in POISONED | {d: q for q, d in POISONED.items()}}
    visible = {name: sqs.get_queue_attributes(QueueUrl=url[name], AttributeNames=["VisibilityTimeout"])["Attributes"] for name in POISONED}
    for name in POISONED:
        sqs.set_queue_attributes(QueueUrl=url[name], Attributes={"VisibilityTimeout": "0"})  # all tries take a quarter of an hour otherwise
        for body in ("{", '{"flow": 7}', "[]"):
            sqs.send_message(QueueUrl=url[name], MessageBody=body)
    dead = lambda name: sqs.get_queue_attributes(QueueUrl=url[POISONED[name]], AttributeNames=["All"])["Attributes"]  # noqa: E731
    for name in POISONED:
        assert until(lambda name=name: dead(name)["ApproximateNumberOfMessages"] == "3"), (name, dead(name)["ApproximateNumberOfMessages"])
        sqs.set_queue_attributes(QueueUrl=url[name], Attributes=visible[name])
    pages("rollback-dlq", "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "serin-local-rollback-dlq"})
    pages("dlq-alert-webhook", "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "serin-local-dlq-alert-webhook"})
    goes_on(stepping)
    request = {"flow": STEADY, "reason": "callers complain", "requested_by": "pat", "at": stepping.genesys.now()}
    aws.publish("RollbackTopicArn", request)
    assert until(lambda: events(stepping, STEADY)[-1] == "RollbackFinished"), events(stepping, STEADY)
    assert float(aws.parameter(PERCENTAGE)) == 0
    assert until(lambda: ticked(stepping, STEADY) and told(stepping, STEADY, "ROLLED_BACK"))
    assert [dead(name)["ApproximateNumberOfMessages"] for name in POISONED] == ["3", "3"]
    is_whole(stepping, STEADY)


# ------------------------------------------------------------------------------------------------------------------- the page and the pager


def rows() -> list[tuple[str, list[str], str]]:
    """What breaks, the alarms that page, the test; from the page's table."""
    lines = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| **")]
    return [(cells[0].strip(), re.findall(r"`([a-z0-9-]+)`", cells[4]), re.search(r"`(test_\w+)`", cells[-1])[1]) for cells in lines]


def test_each_row_of_the_page_has_its_test_and_its_alarms():
    tests = {name: inspect.getsource(test) for name, test in globals().items() if name.startswith("test_")}
    shown = [test for _, _, test in rows()]
    assert sorted(shown) == sorted(name for name in tests if not name.startswith("test_each_")), "a row for each test of a fault"
    for fault, paged, test in rows():
        assert paged, fault
        for alarm in paged:
            assert alarm in alarms(), f"{fault}: the template has no alarm {alarm}"
            assert f'"{alarm}"' in tests[test], f"{fault}: {test} does not show {alarm}"


def test_each_metric_of_ours_that_an_alarm_looks_at_is_one_that_a_function_tells():
    """By its name in their code, for the alarms that no fault above sets off: one on a metric that nobody tells is silent for ever."""
    functions = [path for name in stack.FUNCTIONS for path in (stack.ROOT / "crates" / name / "src").rglob("*.rs")]
    code = "\n".join(path.read_text().split("#[cfg(test)]")[0] for path in functions)
    looked_at = {name for metrics in alarms().values() for namespace, name, _ in metrics if namespace == "Serin"}
    assert looked_at and not {name for name in looked_at if f'"{name}"' not in code}


def test_each_alarm_of_the_template_goes_off_and_its_message_arrives(play):
    """Put by somebody with rights, since the functions' lines become metrics on AWS alone."""
    aws, cloudwatch, sqs = play.aws, play.aws.client("cloudwatch"), play.aws.client("sqs")
    arn = f"arn:aws:sqs:{stack.REGION}:000000000000:probe"
    topic = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [topic]})
    url = sqs.create_queue(QueueName="probe", Attributes={"Policy": policy})["QueueUrl"]
    raw = {"RawMessageDelivery": "true"}
    aws.client("sns").subscribe(TopicArn=aws.outputs["WatchersTopicArn"], Protocol="sqs", Endpoint=arn, Attributes=raw)
    arrived = set()

    def hear() -> set:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            told = json.loads(message["Body"])
            arrived.add((told["AlarmName"].removeprefix("serin-local-"), told["NewStateValue"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return arrived

    def put(metric: tuple, figure: float, minutes) -> None:
        namespace, name, dimensions = metric
        of = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        now = datetime.datetime.now(datetime.UTC)
        data = [{"MetricName": name, "Dimensions": of, "Value": figure, "Timestamp": now - datetime.timedelta(minutes=m)} for m in minutes]
        cloudwatch.put_metric_data(Namespace=namespace, MetricData=data)

    described = cloudwatch.describe_alarms(AlarmNamePrefix="serin-local-")["MetricAlarms"]
    deployed = {alarm["AlarmName"].removeprefix("serin-local-"): alarm for alarm in described}
    assert deployed.keys() == alarms().keys() >= {alarm for _, paged, _ in rows() for alarm in paged}
    # Those of the ticks are off while the schedules are.
    cloudwatch.enable_alarm_actions(AlarmNames=[alarm["AlarmName"] for alarm in described])
    metrics = {
        name: (alarm["Namespace"], alarm["MetricName"], {each["Name"]: each["Value"] for each in alarm["Dimensions"]})
        for name, alarm in deployed.items()
    }
    assert all(metric in alarms()[name] for name, metric in metrics.items())
    # Another stage's figures set nothing off here.
    for namespace, name, dimensions in metrics.values():
        if namespace == "Serin":
            put((namespace, name, {**dimensions, "Stage": "other"}), 1000, [0.5, 1.5, 2.5, 3.5, 4.5])
    ours = {name for name, (namespace, _, _) in metrics.items() if namespace == "Serin"}
    assert not {name for name, _ in hear()} & ours
    for name, alarm in deployed.items():
        periods, least = alarm["EvaluationPeriods"], alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
        if alarm["ComparisonOperator"].startswith("LessThan"):
            put(metrics[name], 1, [periods + 1.5])  # and none since
        else:
            put(metrics[name], alarm["Threshold"], [n + 0.5 for n in range(least)])
        assert until(lambda name=name: (name, "ALARM") in hear()), f"{name}: {arrived}"
    for name in ("canary-evaluator-no-tick", "rollback-executor-no-tick"):
        put(metrics[name], 1, [0.5, 1.5])
        assert until(lambda name=name: (name, "OK") in hear()), f"{name}: {arrived}"
