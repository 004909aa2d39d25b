"""The stack's life: made, updated, not updated, half updated, deleted, made again, and a second one beside it."""

import re
import subprocess
from pathlib import Path

import demo
import pytest
import stack
from botocore.exceptions import ClientError

# What differs each time somebody looks, or tells when and how often something was done.
RESTLESS = {"RevisionId", "UUID", "Version", "LastModified", "LastModifiedTimestamp", "StateUpdatedTimestamp"}
RESTLESS |= {"AlarmConfigurationUpdatedTimestamp", "State", "StateValue", "StateReason", "StateReasonCode", "LastUpdateStatus"}
RESTLESS |= {"LastUpdateStatusReason", "LastUpdateStatusReasonCode", "LastProcessingResult"}
RESTLESS |= {"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"}
NEVER_UPLOADED = {"rollback-executor": "s3://serin-local-packages/never-uploaded.zip"}


def account(aws, of=lambda name: True) -> dict:
    """All there is in the account, by kind and name, as it is set up; or what has such names."""

    def calm(found):
        if isinstance(found, dict):
            return {key: calm(value) for key, value in found.items() if key not in RESTLESS}
        return [calm(value) for value in found] if isinstance(found, list) else found

    lambda_, sns, sqs, iam, logs = (aws.client(name) for name in ("lambda", "sns", "sqs", "iam", "logs"))
    found = {"function": {f["FunctionName"]: f for f in lambda_.list_functions()["Functions"]}}
    found["alias"] = {
        alias["AliasArn"]: (alias["FunctionVersion"], lambda_.get_function_configuration(FunctionName=alias["AliasArn"])["CodeSha256"])
        for name in found["function"]
        for alias in lambda_.list_aliases(FunctionName=name)["Aliases"]
    }
    found["mapping"] = {m["EventSourceArn"]: m for m in lambda_.list_event_source_mappings()["EventSourceMappings"]}
    found["table"] = {
        name: aws.client("dynamodb").describe_table(TableName=name)["Table"]["TableId"]
        for name in aws.client("dynamodb").list_tables()["TableNames"]
    }
    found["bucket"] = {b["Name"]: "" for b in aws.client("s3").list_buckets()["Buckets"] if not b["Name"].endswith("-packages")}
    found["topic"] = {t["TopicArn"]: sns.get_topic_attributes(**t)["Attributes"] for t in sns.list_topics()["Topics"]}
    found["subscription"] = {s["Endpoint"] + s["TopicArn"]: "" for s in sns.list_subscriptions()["Subscriptions"]}
    queues = sqs.list_queues().get("QueueUrls", [])
    found["queue"] = {url: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in queues}
    found["alarm"] = {a["AlarmName"]: a for a in aws.client("cloudwatch").describe_alarms()["MetricAlarms"]}
    found["dashboard"] = {d["DashboardName"]: d for d in aws.client("cloudwatch").list_dashboards()["DashboardEntries"]}
    found["role"] = {
        role["RoleName"]: [
            iam.get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
            for policy in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        ]
        for role in iam.list_roles()["Roles"]
        if role["RoleName"].startswith("serin")
    }
    found["log group"] = {group["logGroupName"]: group.get("retentionInDays") for group in logs.describe_log_groups()["logGroups"]}
    found["schedule"] = {s["Name"]: s["State"] for s in aws.client("scheduler").list_schedules()["Schedules"]}
    found["parameter"] = {p["Name"]: p["Value"] for p in aws.client("ssm").get_parameters_by_path(Path="/", Recursive=True)["Parameters"]}
    chosen = {kind: {name: calm(what) for name, what in there.items() if of(name)} for kind, there in found.items()}
    return {kind: there for kind, there in chosen.items() if there}


def stack_of(aws) -> dict:
    """What CloudFormation says the stack is."""
    cloudformation, name = aws.client("cloudformation"), f"serin-{aws.stage}"
    [found] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    given = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in found["Parameters"]}
    return {"parameters": given, "outputs": found["Outputs"], "template": str(cloudformation.get_template(StackName=name)["TemplateBody"])}


def changed(aws) -> set[str]:
    """What the last operation had made or updated before it failed."""
    statuses = [(event["LogicalResourceId"], event["ResourceStatus"]) for event in aws.events(f"serin-{aws.stage}")]
    failed = next(n for n, (_, status) in enumerate(statuses) if status.endswith("_FAILED"))
    return {name for name, status in statuses[:failed] if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")}


@pytest.fixture(scope="module")
def aws():
    with stack.Stack() as aws:
        aws.deploy("local", parameters={"Flows": "main_ivr"})
        yield aws


def test_a_first_installation_that_fails_leaves_nothing_and_is_repeated():
    with stack.Stack() as aws:
        # Somebody made by hand what the stack is about to make. No validation sees it, and the ledger and the bucket are there by then.
        aws.put_parameter("/serin/local/topics", "{}")
        before = account(aws)
        with pytest.raises(stack.LocalError, match="ROLLBACK_COMPLETE\nTopics: .*ParameterAlreadyExists"):
            aws.deploy()
        assert {"Ledger", "Exports"} <= changed(aws)
        assert account(aws) == before
        aws.client("ssm").delete_parameter(Name="/serin/local/topics")
        aws.deploy()
        assert {"table", "bucket", "function"} <= account(aws).keys()


def test_an_update_without_a_change_is_none_and_a_parameter_changes_what_it_names(aws):
    before, was = account(aws), stack_of(aws)
    with pytest.raises(ClientError, match="No updates are to be performed"):
        aws.update()
    assert (account(aws), stack_of(aws)) == (before, was)

    aws.update(parameters={"LogRetentionDays": 90})
    after = account(aws)
    assert set(after.pop("log group").values()) == {90} and set(before.pop("log group").values()) == {30}
    assert after == before, "nothing else, and no version of the endpoint"
    aws.update(parameters={"LogRetentionDays": 30})


def test_an_update_that_fails_half_way_puts_everything_back(aws, tmp_path):
    before, was = account(aws), stack_of(aws)
    # One of the packages never reached the bucket, as when an upload was cut off: that is found when it is this function's turn.
    with pytest.raises(stack.LocalError, match="UPDATE_ROLLBACK_COMPLETE\nRollbackExecutor: .*never-uploaded"):
        changes = {"Flows": "other_ivr", "LogRetentionDays": 90, "SchedulesState": "ENABLED", "NotifyEmail": "a@b.example"}
        aws.update(stack.release("2", tmp_path) | NEVER_UPLOADED, changes)
    assert {"AlertForwarder", "RandomPercentage", "RandomPercentageAliaslive", "CanaryEvaluator", "CanaryEvaluatorLogs"} <= changed(aws)
    assert account(aws) == before
    assert stack_of(aws) == was


def test_a_rollback_that_fails_too_is_continued_once_its_cause_is_gone(aws, tmp_path):
    before, was = account(aws), stack_of(aws)
    # To put the old code back takes the old packages, which somebody has tidied away.
    s3, bucket = aws.client("s3"), "serin-local-packages"
    old = {function: stack.package(function) for function in stack.FUNCTIONS}
    for package in old.values():
        s3.delete_object(Bucket=bucket, Key=package.name)
    with pytest.raises(stack.LocalError, match="UPDATE_ROLLBACK_FAILED") as failed:
        aws.update(stack.release("2", tmp_path) | NEVER_UPLOADED)
    assert "CanaryEvaluator: " in str(failed.value) and account(aws) != before
    for package in old.values():
        s3.upload_file(str(package), bucket, package.name)
    aws.client("cloudformation").continue_update_rollback(StackName="serin-local")
    aws.ended("serin-local", "UPDATE_ROLLBACK_COMPLETE")
    assert (account(aws), stack_of(aws)) == (before, was)


def test_further_targets_of_alerts_are_made_again_after_the_stack_was(aws):
    """Their subscription is to a topic that went with the stack. Nobody would be told, so the page on upgrades says what to do."""

    def told():
        return [found["Endpoint"].rpartition(":")[2] for found in aws.client("sns").list_subscriptions()["Subscriptions"]]

    aws.deploy_target("oncall", {"url": "http://127.0.0.1:9/"})
    kept = aws.outputs
    assert "serin-local-alert-oncall" in told()
    aws.delete()
    aws.deploy("local", parameters={"ExistingLedgerTable": kept["LedgerTable"], "ExistingExportBucket": kept["ExportBucket"]})
    assert "serin-local-alert-webhook" in told() and "serin-local-alert-oncall" not in told()
    aws.delete_target("oncall")
    aws.deploy_target("oncall", {"url": "http://127.0.0.1:9/"})
    assert "serin-local-alert-oncall" in told()
    aws.delete_target("oncall")


def test_the_page_on_upgrades_names_every_test_behind_it():
    tests = "".join(Path(__file__).with_name(name).read_text() for name in ("test_lifecycle.py", "test_upgrade.py"))
    named = re.findall(r"::(test_\w+)`", (stack.ROOT / "docs" / "upgrade.md").read_text())
    assert {*named, "test_the_page_on_upgrades_names_every_test_behind_it"} == set(re.findall(r"(?m)^def (test_\w+)", tests))


class ByTheWall(demo.Play):
    """A play on a stage other than `local`: the tool refuses a time of its own there."""

    def serin(self, *arguments, check=True):
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": stack.REGION}
        there = {"AWS_ENDPOINT_URL": self.aws.endpoint, "SERIN_STAGE": self.aws.stage, "GENESYS_API": self.genesys.url}
        env = stack.clean_environment(**keys, **there, SERIN_BY="demo")
        done = subprocess.run([str(stack.binary("serin")), *arguments], env=env, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"serin {' '.join(arguments)}: {done.stderr}"
        return done

    def tick(self):
        self.aws.tick("rollback-executor")
        return next(flow for flow in self.aws.tick("canary-evaluator")["flows"] if flow["flow"] == demo.FLOW)


def state(play) -> tuple:
    """Everything a stage has recorded and projected."""
    items = play.aws.client("dynamodb").scan(TableName=play.aws.outputs["LedgerTable"])["Items"]
    parameters = play.aws.client("ssm").get_parameters_by_path(Path=f"/genesys/canary/{play.aws.stage}", Recursive=True)["Parameters"]
    return sorted(map(str, items)), [(p["Name"], p["Version"], p["Value"]) for p in parameters]


def resources(aws) -> set[str]:
    """What the stack's resources are called."""
    pages = aws.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=f"serin-{aws.stage}")
    return {resource["PhysicalResourceId"] for page in pages for resource in page["StackResourceSummaries"]}


def reaches(aws, other) -> list[str]:
    """What the functions of one stage may do with things of another, of what some of them do with those of their own."""
    ours, theirs = f"/genesys/canary/{other.stage}", f"/serin/{other.stage}"
    names = (f"serin-{other.stage}-{name}" for name in ("rollback", "alert-webhook"))
    queues = [aws.client("sqs").get_queue_url(QueueName=name)["QueueUrl"] for name in names]
    key, table = {"pk": {"S": "DELIVERED#probe"}, "sk": {"S": "probe"}}, {"TableName": other.outputs["LedgerTable"]}
    calls = [
        ("ssm", "get_parameters", {"Names": [f"{ours}/{demo.FLOW}/percentage"]}),
        ("ssm", "put_parameter", {"Name": f"{ours}/{demo.FLOW}/percentage", "Value": "100", "Type": "String", "Overwrite": True}),
        *(("ssm", "get_parameter", {"Name": f"{theirs}/{name}"}) for name in ("genesys/read", "genesys/publish", "alerts/webhook")),
        ("dynamodb", "get_item", {**table, "Key": key}),
        ("dynamodb", "put_item", {**table, "Item": key}),
        *(("sqs", "receive_message", {"QueueUrl": url}) for url in queues),
        *(("sns", "publish", {"TopicArn": other.outputs[name], "Message": "{}"}) for name in ("AlertTopicArn", "RollbackTopicArn")),
        ("s3", "put_object", {"Bucket": other.outputs["ExportBucket"], "Key": "probe", "Body": b""}),
        ("lambda", "invoke", {"FunctionName": other.function_name("canary-evaluator")}),
    ]
    reached = []
    for function in stack.FUNCTIONS:
        role = aws.client("lambda").get_function_configuration(FunctionName=aws.function_name(function))["Role"]
        keys = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="probe")["Credentials"]
        keys = dict(zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), list(keys.values())))
        clients = {service: aws.client(service, **keys) for service in {service for service, _, _ in calls}}
        for service, call, arguments in calls:
            try:
                getattr(clients[service], call)(**arguments)
                reached.append(f"{function}: {service}:{call}")
            except ClientError as refused:
                assert refused.response["Error"]["Code"].startswith(("AccessDenied", "AuthorizationError")), refused
    return reached


def test_two_stages_in_one_account_share_nothing(aws):
    other = aws.beside("local-2")  # one name begins with the other's
    with stack.Simulator(seed=demo.SEED) as one, stack.Simulator(seed=demo.SEED) as two:
        aws.update(parameters={"GenesysApi": one.url})
        other.deploy("local-2", parameters={"GenesysApi": two.url})
        assert len(resources(other)) > 50 and not resources(aws) & resources(other)
        assert not set(aws.outputs.values()) & set(other.outputs.values())
        plays = []
        for at, genesys in ((aws, one), (other, two)):
            genesys.reset(seed=demo.SEED, start=stack.now(), calls_per_hour=demo.CALLS_PER_HOUR, flows=[{"slot": demo.FLOW}])
            at.seed_secrets(webhook_url=genesys.webhook_url)
            play = ByTheWall(at, genesys, show=lambda _: None)
            play.start(genesys.check_in(demo.CANARY, demo.HEALTHY), "a test")
            assert play.tick()["phase"] == "Stepping"
            plays.append(play)
        mine, theirs = plays
        assert reaches(aws, other) == [] and reaches(other, aws) == []

        # The same flow, at 5 % in both; a rollback in one, then all of that one goes.
        here = lambda name: "local-2" not in name  # noqa: E731
        stands, complete = state(mine), account(aws, here)
        theirs.serin("rollback", demo.FLOW, "--reason", "a test")
        stack.until(lambda: theirs.ledger()[-1]["event"] == "RollbackFinished", "the queue wakes the executor", seconds=30)
        recorded = theirs.ledger()
        other.delete()
        assert state(mine) == stands and account(aws, here) == complete
        assert mine.tick()["phase"] == "Stepping" and aws.parameter("/genesys/canary/local/main_ivr/percentage") == "5"
        # What is left of the other: its record, and what the stack never owned.
        left = account(aws, lambda name: not here(name))
        assert left.keys() == {"table", "bucket", "parameter"} and theirs.ledger() == recorded
        assert {name.split("/")[1] for name in left["parameter"]} == {"genesys", "serin"}
        assert "/serin/local-2/topics" not in left["parameter"]
        # Last, because it does harm: with things of its own each of these calls is somebody's to make, so it would have been seen.
        own = {reached.split(": ")[1] for reached in reaches(aws, aws)}
        assert own >= {"ssm:get_parameters", "ssm:put_parameter", "dynamodb:put_item", "sqs:receive_message", "sns:publish", "s3:put_object"}
        # And when every function is gone, people still take the calls back.
        aws.delete()
        assert float(aws.parameter("/genesys/canary/local/main_ivr/percentage")) > 0
        mine.serin("abort", demo.FLOW, "--reason", "a test")
        assert float(aws.parameter("/genesys/canary/local/main_ivr/percentage")) == 0
        assert aws.parameter("/genesys/canary/local/main_ivr/halt") == mine.ledger()[0]["rollout"]
