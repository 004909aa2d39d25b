"""Serin is upgraded, broken, mended, taken down and put up again under a rollout that stands at 25 %: it goes on where it was.

One rollout for all tests of this file, which run in order. Each finds it as the one before left it, at 25 % and with functions that work.
"""

import json
import threading
import time
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import demo
import pytest
import stack
from test_lifecycle import NEVER_UPLOADED

OWN = f"/genesys/canary/local/{demo.FLOW}"
CALLERS = [f"caller-{n}" for n in range(40)]
HEARTBEAT = "/genesys/canary/local/heartbeat"
MINUTES = 15  # between two ticks; the demo looks every 5


@pytest.fixture(scope="module")
def play():
    """A healthy rollout that was raised to 25 % and has measured calls there. Before the raise the ledger was backed up."""
    with demo.organization(demo.SEED) as genesys, stack.Stack() as aws:
        demo.deploy(aws, genesys)
        play = demo.Play(aws, genesys, show=lambda _: None)
        play.calls(MINUTES, ask=0)
        play.start(genesys.check_in(demo.CANARY, demo.HEALTHY), "a test")
        play.tick()
        play.calls(MINUTES, ask=0)
        play.backup = aws.client("dynamodb").create_backup(TableName=aws.outputs["LedgerTable"], BackupName="at-5-percent")
        while (line := play.tick())["weight"] < 25:
            assert line["phase"] == "Stepping", line
            play.calls(MINUTES, ask=0)
        play.calls(MINUTES, ask=0)
        play.stands, play.went = Standing(play), cohorts(play)
        assert (play.stands.decided["phase"], play.stands.decided["weight"]) == ("Stepping", 25)
        assert play.stands.parameters[f"{OWN}/percentage"] == (3, "25")  # 0, 5, 25: nobody else wrote
        assert play.stands.decided["canary"]["calls"] >= 20 and play.stands.status["rollout"]["evidence"]["harm"] > 0
        assert set(play.went.values()) == {"canary", "stable"}
        yield play


class Standing:
    """All that a rollout consists of: what is projected, recorded, measured and decided. The virtual clock does not move meanwhile."""

    def __init__(self, play):
        self.decided = play.tick()
        parameters = play.aws.client("ssm").get_parameters_by_path(Path=OWN, Recursive=True)["Parameters"]
        self.parameters = {found["Name"]: (found["Version"], found["Value"]) for found in parameters}
        self.ledger = play.ledger()
        self.status = json.loads(play.serin("status", demo.FLOW, "-o", "json").stdout)

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __repr__(self):
        return json.dumps(vars(self), indent=1)


def unmoved(play):
    """It stands where it stood, its record is whole, and each caller goes where they went."""
    assert Standing(play) == play.stands
    assert json.loads(play.serin("ledger", "verify", demo.FLOW, "-o", "json").stdout)["intact"]
    assert cohorts(play) == play.went
    return True


def ask(play, caller):
    return play.aws.invoke("random-percentage", {"flow": demo.FLOW, "conversationId": caller}, qualifier="live")


def cohorts(play):
    """Where each caller goes; everybody is drawn, nobody falls back."""
    answers = dict(zip(CALLERS, play.pool.map(lambda caller: ask(play, caller), CALLERS)))
    assert not [answer for answer in answers.values() if answer["fallback"]]
    return {caller: answer["cohort"] for caller, answer in answers.items()}


def code(play):
    """What each function runs, and what callers are answered by."""
    lambda_ = play.aws.client("lambda")
    names = {function: {"FunctionName": play.aws.function_name(function)} for function in stack.FUNCTIONS}
    live = lambda_.get_alias(**names["random-percentage"], Name="live")["FunctionVersion"]
    read = {function: lambda_.get_function_configuration(**name) for function, name in names.items()}
    read["live"] = lambda_.get_function_configuration(**names["random-percentage"], Qualifier=live)
    return {name: (found["CodeSha256"], json.dumps(found["Environment"], sort_keys=True)) for name, found in read.items()}


def crashing(scratch: Path) -> dict[str, Path]:
    """A release that ends before it can answer anything."""
    packages = {}
    for function in stack.FUNCTIONS:
        packages[function] = scratch / f"{function}-crashing.zip"
        with zipfile.ZipFile(packages[function], "w") as archive:
            bootstrap = zipfile.ZipInfo("bootstrap")
            bootstrap.external_attr = 0o755 << 16
            archive.writestr(bootstrap, "#!/bin/sh\necho this release does not start >&2\nexit 1\n")
    return packages


def breaching(play, name):
    """Whether what the functions did in the last minutes is what this alarm goes off at: its own metric, dimensions and threshold."""
    cloudwatch = play.aws.client("cloudwatch")
    [alarm] = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["AlarmActions"] == [play.aws.outputs["WatchersTopicArn"]]
    of = {key: alarm[key] for key in ("Namespace", "MetricName", "Dimensions", "Period")}
    end = datetime.now(timezone.utc) + timedelta(minutes=1)
    points = cloudwatch.get_metric_statistics(**of, Statistics=[alarm["Statistic"]], StartTime=end - timedelta(minutes=5), EndTime=end)
    return any(point[alarm["Statistic"]] >= alarm["Threshold"] for point in points["Datapoints"])


def test_an_upgrade_leaves_a_rollout_where_it_is(play, tmp_path):
    ran, asked, updated = code(play), [], threading.Event()

    def call():
        while not updated.is_set():
            asked.extend((caller, ask(play, caller)) for caller in CALLERS[:5])

    # Callers call meanwhile.
    calling = play.pool.submit(call)
    try:
        play.aws.update(stack.release("2", tmp_path), {"Flows": f"{demo.FLOW},sales_ivr"})
    finally:
        updated.set()
    calling.result()
    assert asked and not [answer for _, answer in asked if answer["fallback"]]
    assert all(answer["cohort"] == play.went[caller] for caller, answer in asked)

    runs = code(play)
    assert all(runs[name][0] != ran[name][0] for name in ran), "every function has other code"
    assert runs["live"] == runs["random-percentage"], "and callers have it"
    assert "sales_ivr" in runs["live"][1] and "sales_ivr" not in ran["live"][1]
    assert unmoved(play)

    play.calls(MINUTES, ask=0)
    before, play.stands = play.stands, Standing(play)
    assert play.stands.decided["phase"] == "Stepping" and play.stands.decided["canary"]["calls"] > before.decided["canary"]["calls"]


def test_an_update_that_fails_half_way_is_taken_back_under_a_running_rollout(play, tmp_path):
    ran = code(play)
    # One package never reached the bucket. That is found when it is this function's turn, and others have their new code by then.
    packages = stack.release("3", tmp_path) | NEVER_UPLOADED
    with pytest.raises(stack.LocalError, match="UPDATE_ROLLBACK_COMPLETE\nRollbackExecutor: .*never-uploaded"):
        play.aws.update(packages, {"Flows": "other_ivr"})
    assert code(play) == ran and unmoved(play)


def test_a_release_that_does_not_start_leaves_callers_on_stable_and_the_one_before_goes_on(play, tmp_path):
    ran = code(play)
    play.aws.update(crashing(tmp_path))

    # In a call an error is the data action's failure path, which leads to stable. Ticks fail, so nothing is decided. All of it is told.
    with pytest.raises(stack.FunctionFailed, match="this release does not start"):
        ask(play, CALLERS[0])
    for function in ("canary-evaluator", "rollback-executor"):
        with pytest.raises(stack.FunctionFailed, match="this release does not start"):
            play.aws.tick(function, play.genesys.now())
    for function in ("random-percentage", "canary-evaluator", "rollback-executor"):
        assert breaching(play, f"serin-local-{function}-errors"), function

    # Nobody has to wait for a deployment: the alias goes back to the version before, and callers are drawn again.
    lambda_, alias = play.aws.client("lambda"), {"FunctionName": play.aws.function_name("random-percentage"), "Name": "live"}
    bad = int(lambda_.get_alias(**alias)["FunctionVersion"])
    lambda_.update_alias(**alias, FunctionVersion=str(bad - 1))
    assert cohorts(play) == play.went
    # But an evaluator that does not start writes no heartbeat, and after five minutes without one everybody gets stable.
    play.aws.put_parameter(HEARTBEAT, f"{datetime.now(timezone.utc) - timedelta(minutes=6):%Y-%m-%dT%H:%M:%SZ}")
    time.sleep(0.8)  # the function may answer from values up to 0.7 s old
    assert {(answer["cohort"], answer["fallback"]) for answer in (ask(play, caller) for caller in CALLERS[:5])} == {("stable", True)}

    play.aws.update(stack.release("2", tmp_path))
    runs = code(play)
    assert {name: runs[name][1] for name in runs} == {name: ran[name][1] for name in ran} and runs["live"] == runs["random-percentage"]
    play.tick()  # the heartbeat
    time.sleep(0.8)
    assert unmoved(play)


def test_a_rollout_goes_on_over_what_is_kept_of_a_deleted_stack(play):
    kept, s3 = dict(play.aws.outputs), play.aws.client("s3")
    exports = s3.list_object_versions(Bucket=kept["ExportBucket"])["Versions"]
    play.aws.delete()
    lambda_ = play.aws.client("lambda")
    assert not lambda_.list_functions()["Functions"] and not play.aws.client("sns").list_topics()["Topics"]
    with pytest.raises(lambda_.exceptions.ResourceNotFoundException):  # the data action's failure path again
        ask(play, CALLERS[0])
    # The tool needs no function.
    assert play.ledger() == play.stands.ledger and exports
    assert s3.list_object_versions(Bucket=kept["ExportBucket"])["Versions"] == exports

    # Whoever does not name what was kept is refused, and nothing of it is touched.
    parameters = {"GenesysApi": play.genesys.url, "Clock": "event", "Flows": demo.FLOW}
    with pytest.raises(stack.LocalError, match="ROLLBACK_COMPLETE"):
        play.aws.deploy("local", parameters=parameters)
    assert play.ledger() == play.stands.ledger
    existing = {"ExistingLedgerTable": kept["LedgerTable"], "ExistingExportBucket": kept["ExportBucket"]}
    made = play.aws.deploy("local", parameters=parameters | existing)
    assert all(made[name] == kept[name] for name in ("LedgerTable", "ExportBucket", "RandomPercentageLiveArn"))
    assert unmoved(play)

    while (line := play.tick())["weight"] == 25:
        assert line["phase"] == "Stepping" and line["decision"] == "Hold", line
        play.calls(MINUTES, ask=0)
    assert (line["phase"], line["weight"], play.aws.parameter(f"{OWN}/percentage")) == ("Stepping", 50, "50")
    # Deleted and made again, it keeps what it did not make as well.
    play.aws.delete()
    assert play.ledger()[: len(play.stands.ledger)] == play.stands.ledger
    play.aws.deploy("local", parameters=parameters | existing)


def test_a_restored_ledger_that_is_older_than_the_split_takes_calls_to_stable(play):
    """It says 5 %, and half of the calls go to the canary: nobody can know why, so nobody is left there."""
    restored = "serin-local-ledger-restored"
    arn = play.backup["BackupDetails"]["BackupArn"]
    play.aws.client("dynamodb").restore_table_from_backup(TargetTableName=restored, BackupArn=arn)
    assert play.aws.update(parameters={"ExistingLedgerTable": restored})["LedgerTable"] == restored
    line = play.tick()
    assert line["phase"] == "Aborted" and "of the calls reached the canary where 5 % were configured" in line["reason"], line
    assert float(play.aws.parameter(f"{OWN}/percentage")) == 0
    # The record goes on from where it was restored to, and is whole; the table that was kept still has the rest.
    of = lambda table: json.loads(play.serin("ledger", "verify", demo.FLOW, "--table", table, "-o", "json").stdout)  # noqa: E731
    whole, cut = of("serin-local-ledger"), of(restored)
    assert whole["intact"] and cut["intact"] and cut["entries"] < whole["entries"]
