"""The template as CloudFormation will see it, after SAM expanded it: what must hold before anything is deployed.

The emulator applies some settings silently not at all (point-in-time recovery, TTL, encryption), so they are asserted here.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import stack
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

FUNCTIONS = ("CanaryEvaluator", "RandomPercentage", "RollbackExecutor", "AlertForwarder")
ORGANIZATION = "00000000-0000-0000-0000-000000000000"

# The only statements that may name every resource or every action of a service, with the reason.
WIDE_ACTIONS_ALLOWED = {"TlsOnly"}  # Deny statements: the wider, the safer

# The names that may end in anything: what belongs to the stage's flows, and to the targets of its alerts.
WILDCARDS = {
    "parameter/genesys/canary/${Stage}/*",
    "parameter/genesys/canary/${Stage}/*/percentage",
    "parameter/serin/${Stage}/alerts/*",
    "serin-${Stage}-alert-*",
    "${Exports.Arn}/*",
}


def expand(build: str = "1") -> dict:
    """The template as plain CloudFormation, for a build of the functions."""
    source = yaml_parse(stack.packaged_template({name: f"s3://packages/{name}-{build}.zip" for name in stack.FUNCTIONS}))
    given = {"Stage": "prod", "GenesysApi": "https://api.mypurecloud.com", "GenesysOrganizationId": ORGANIZATION}
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=stack.REGION))
    return translator.translate(source, given)


@pytest.fixture(scope="module")
def template() -> dict:
    return expand()


@pytest.fixture(scope="module")
def resources(template) -> dict:
    return template["Resources"]


def of_type(resources: dict, kind: str) -> dict:
    """`{logical id: properties}`."""
    return {name: resource.get("Properties", {}) for name, resource in resources.items() if resource["Type"] == kind}


def statements(resources: dict):
    """Every policy statement: (where it stands, statement), those of a condition included."""

    def find(where, node):
        if isinstance(node, dict):
            if "Effect" in node:
                yield where, node
            else:
                for child in node.values():
                    yield from find(where, child)
        elif isinstance(node, list):
            for child in node:
                yield from find(where, child)

    for name, resource in resources.items():
        yield from find(name, resource.get("Properties", {}))


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def queue_of(reference: dict) -> str:
    """The logical id behind `!GetAtt Queue.Arn`."""
    return reference["Fn::GetAtt"][0]


def test_the_expanded_template_has_no_lint_error(template, tmp_path):
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template))
    lint = subprocess.run([Path(sys.executable).with_name("cfn-lint"), "--template", path], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_there_are_the_four_functions_and_each_is_named_by_its_stage(resources):
    functions = of_type(resources, "AWS::Lambda::Function")
    assert set(functions) == set(FUNCTIONS)
    assert {f["FunctionName"]["Fn::Sub"] for f in functions.values()} == {f"serin-${{Stage}}-{name}" for name in stack.FUNCTIONS}
    assert {f["Runtime"] for f in functions.values()} == {"provided.al2023"}


def test_every_fixed_name_contains_the_stage(resources):
    """Two stages live in one account; a fixed name without the stage would make them collide."""
    keys = ("Name", "FunctionName", "TableName", "BucketName", "TopicName", "QueueName", "AlarmName", "LogGroupName")
    for name, resource in resources.items():
        kind = resource["Type"]
        if kind.startswith("AWS::Lambda::") and kind != "AWS::Lambda::Function":
            continue  # they name the function they belong to
        for key in keys:
            if key in resource.get("Properties", {}):
                assert "${Stage}" in resource["Properties"][key]["Fn::Sub"], f"{name}.{key}"


def test_schedules_are_explicit_valid_and_do_not_retry(resources):
    schedules = of_type(resources, "AWS::Scheduler::Schedule")
    # cfn-lint does not look into rates.
    rates = {(queue_of(s["Target"]["Arn"]), s["ScheduleExpression"]) for s in schedules.values()}
    assert rates == {
        ("CanaryEvaluator", "rate(1 minute)"),
        ("CanaryEvaluator", "rate(15 minutes)"),
        ("RollbackExecutor", "rate(1 minute)"),
    }
    for name, schedule in schedules.items():
        assert re.fullmatch(r"rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)", schedule["ScheduleExpression"]), name
        assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}, name
        assert json.loads(schedule["Target"]["Input"]) == {"kind": "tick", "time": "<aws.scheduler.scheduled-time>"}, name
        assert schedule["State"] == {"Ref": "SchedulesState"}, name


def test_lambda_does_not_repeat_a_tick_either(resources):
    """Schedules invoke asynchronously: Lambda's own two retries would come on top of the schedule's none."""
    configs = {c["FunctionName"]["Ref"]: c for c in of_type(resources, "AWS::Lambda::EventInvokeConfig").values()}
    assert set(configs) == {"CanaryEvaluator", "RollbackExecutor"}
    for config in configs.values():
        assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 60)


def test_every_function_has_a_role_and_a_log_group_of_its_own(resources):
    roles = of_type(resources, "AWS::IAM::Role")
    groups = of_type(resources, "AWS::Logs::LogGroup")
    for name in FUNCTIONS:
        function = resources[name]["Properties"]
        assert queue_of(function["Role"]) == f"{name}Role"
        assert function["LoggingConfig"]["LogGroup"] == {"Ref": f"{name}Logs"}
        assert groups[f"{name}Logs"]["RetentionInDays"] > 0
    assert set(roles) == {f"{name}Role" for name in FUNCTIONS} | {"SchedulesRole", "GenesysRole"}
    assert not any("ManagedPolicyArns" in role for role in roles.values()), "managed policies are wider than what is asked for"


def test_no_statement_allows_every_action_or_every_resource(resources):
    seen = 0
    for where, statement in statements(resources):
        seen += 1
        allowed = statement["Effect"] == "Deny" and statement.get("Sid") in WIDE_ACTIONS_ALLOWED
        for action in as_list(statement["Action"]):
            assert action != "*" and (allowed or "*" not in action), f"{where}: {action}"
        for resource in as_list(statement.get("Resource", [])):
            text = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
            assert text != "*", f"{where}: every resource"
            # A wildcard is for the flows of this stage, its exports, and the targets of its alerts, which come and go without it; for nothing else.
            assert "*" not in text or text.rsplit(":", 1)[-1] in WILDCARDS, f"{where}: {text}"
        assert "NotAction" not in statement and "NotResource" not in statement, where
        if statement["Effect"] == "Allow" and "Principal" in statement:
            assert statement["Principal"] != "*" and statement["Principal"] != {"AWS": "*"}, where
    assert seen > 20, "the statements were not found"


def test_other_services_and_accounts_come_in_under_a_condition_only(resources):
    """Lambda's own trust and this account aside: a service without a condition can be talked into acting for another account."""
    this_account = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
    for where, statement in statements(resources):
        if statement["Effect"] == "Allow" and "Principal" in statement:
            known = statement["Principal"] in ({"Service": "lambda.amazonaws.com"}, this_account)
            assert known or statement.get("Condition"), where


def test_genesys_may_call_the_live_alias_and_nothing_else(resources):
    role = resources["GenesysRole"]
    assert role["Condition"] == "HasGenesysOrganization"
    trust = role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]
    assert trust["Condition"] == {"StringEquals": {"sts:ExternalId": {"Ref": "GenesysOrganizationId"}}}
    (policy,) = role["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "lambda:InvokeFunction"
    assert resources[statement["Resource"]["Ref"]]["Type"] == "AWS::Lambda::Alias"
    assert resources[statement["Resource"]["Ref"]]["Properties"]["Name"] == "live"


def test_new_code_gets_a_new_version_behind_the_alias():
    versions = [list(of_type(expand(build)["Resources"], "AWS::Lambda::Version")) for build in ("1", "1", "2")]
    assert len(versions[0]) == 1
    assert versions[0] == versions[1] != versions[2]


def test_every_source_queue_has_a_dead_letter_queue_and_time_enough(resources):
    queues = of_type(resources, "AWS::SQS::Queue")
    mappings = of_type(resources, "AWS::Lambda::EventSourceMapping")
    assert len(mappings) == 2
    for name, mapping in mappings.items():
        queue, function = queues[queue_of(mapping["EventSourceArn"])], resources[mapping["FunctionName"]["Ref"]]["Properties"]
        dead = queue_of(queue["RedrivePolicy"]["deadLetterTargetArn"])
        assert "Dlq" in dead and dead in queues, name
        assert queue["RedrivePolicy"]["maxReceiveCount"] == 5, name
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"], name
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}, name
    assert mappings["RollbackRequests"]["BatchSize"] == 1
    assert all(queue["SqsManagedSseEnabled"] is True for queue in queues.values())


def test_every_dead_letter_queue_is_watched(resources):
    dead = {name for name in of_type(resources, "AWS::SQS::Queue") if "Dlq" in name}
    alarms = of_type(resources, "AWS::CloudWatch::Alarm").values()
    watched = {queue_of(d["Value"]) for a in alarms if a["Namespace"] == "AWS/SQS" for d in a["Dimensions"]}
    assert dead == watched == {"AlertDlq", "RollbackDlq"}


def test_alarms_tell_the_watchers_and_silence_of_the_evaluator_is_one(resources):
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    assert all(alarm["AlarmActions"] == [{"Ref": "WatchersTopic"}] for alarm in alarms.values())
    errors = {a["Dimensions"][0]["Value"]["Ref"] for a in alarms.values() if a["MetricName"] == "Errors"}
    assert errors == {"CanaryEvaluator", "RollbackExecutor", "RandomPercentage"}
    silence = alarms["CanaryEvaluatorNoTick"]
    assert (silence["MetricName"], silence["ComparisonOperator"], silence["Threshold"]) == ("Invocations", "LessThanThreshold", 1)
    assert (silence["EvaluationPeriods"], silence["TreatMissingData"]) == (2, "breaching")


def test_topics_deliver_raw_messages_and_queues_take_them_from_their_topic_only(resources):
    for name, subscription in of_type(resources, "AWS::SNS::Subscription").items():
        if subscription["Protocol"] == "sqs":
            assert subscription["RawMessageDelivery"] is True, name
    senders = {}
    for policy in of_type(resources, "AWS::SQS::QueuePolicy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement.get("Effect") == "Allow":
                senders[queue_of(statement["Resource"])] = statement["Condition"]["ArnEquals"]["aws:SourceArn"]["Ref"]
    assert senders == {"AlertQueue": "AlertTopic", "RollbackQueue": "RollbackTopic"}


def test_a_further_target_of_alerts_is_like_the_first(template, tmp_path):
    """Another stack, so it names what the main stack refers to; but for that it is the same, word for word."""
    text = stack.ALERT_TARGET.read_text()
    further, (_, _, text) = yaml_parse(text), text.partition("\nResources:\n")
    here, arn = further["Resources"], "arn:${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}:"
    assert set(here) == {name for name in template["Resources"] if name.startswith("Alert")} - {
        "AlertTopic", "AlertTopicPolicy", "AlertForwarder", "AlertForwarderRole", "AlertForwarderLogs",
    }  # fmt: skip
    names = {
        "AlertTopic": arn % "sns" + "serin-${Stage}-alerts",
        "WatchersTopic": arn % "sns" + "serin-${Stage}-watchers",
        "AlertForwarder": "serin-${Stage}-alert-forwarder",
    }
    first = json.dumps({name: template["Resources"][name] for name in here}, sort_keys=True)
    for name, spelled in names.items():
        first = first.replace(json.dumps({"Ref": name}), json.dumps({"Fn::Sub": spelled}))
    assert json.dumps(here, sort_keys=True).replace("alert-${Target}", "alert-webhook") == first
    assert text.count("${Target}") == 3, "the queue, its dead letters, and their alarm"
    assert template["Resources"]["AlertForwarder"]["Properties"]["FunctionName"] == {"Fn::Sub": names["AlertForwarder"]}

    path = tmp_path / "alert-target.yaml"
    path.write_text(stack.ALERT_TARGET.read_text())
    lint = subprocess.run([Path(sys.executable).with_name("cfn-lint"), "--template", path], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_the_forwarder_serves_every_target_of_its_stage_and_sees_nothing_else(resources):
    (policy,) = resources["AlertForwarderRole"]["Properties"]["Policies"]
    allowed = {statement["Sid"]: statement for statement in policy["PolicyDocument"]["Statement"]}
    assert set(allowed) == {"Log", "Secrets", "Consume", "Deliveries"}
    pattern = allowed["Consume"]["Resource"]["Fn::Sub"].rsplit(":", 1)[1]
    queues = {name: queue["QueueName"]["Fn::Sub"] for name, queue in of_type(resources, "AWS::SQS::Queue").items()}
    assert {name for name, queue in queues.items() if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), queue)} == {"AlertQueue"}
    # The emulator does not know the keys of a request, so that it lets every item through.
    deliveries = allowed["Deliveries"]
    assert deliveries["Action"] == ["dynamodb:GetItem", "dynamodb:PutItem"]
    assert deliveries["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["DELIVERED#*"]}}


def test_tls_only_is_left_out_for_the_local_stage_alone(template, resources):
    assert template["Conditions"]["IsLocal"] == {"Fn::Equals": [{"Ref": "Stage"}, "local"]}
    assert template["Conditions"]["OnAws"] == {"Fn::Not": [{"Condition": "IsLocal"}]}
    covered = set()
    for kind, key in (("AWS::SNS::TopicPolicy", "Topics"), ("AWS::SQS::QueuePolicy", "Queues"), ("AWS::S3::BucketPolicy", "Bucket")):
        for name, policy in of_type(resources, kind).items():
            for statement in policy["PolicyDocument"]["Statement"]:
                if "Fn::If" in statement:
                    condition, local, statement = statement["Fn::If"]
                    assert (condition, local) == ("IsLocal", {"Ref": "AWS::NoValue"}), name
                elif statement["Effect"] == "Deny":
                    assert resources[name]["Condition"] == "OnAws", name
                if statement["Effect"] == "Deny":
                    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, name
                    covered |= {reference["Ref"] for reference in as_list(policy[key])}
    protected = ("AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::S3::Bucket")
    assert covered == set().union(*(of_type(resources, kind) for kind in protected))


def test_the_ledger_outlives_mistakes(resources):
    ledger = resources["Ledger"]
    assert ledger["DeletionPolicy"] == ledger["UpdateReplacePolicy"] == "Retain"
    properties = ledger["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["IsLocal", False, True]}
    assert properties["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    assert "GlobalSecondaryIndexes" not in properties


def test_exports_are_versioned_encrypted_private_and_outlive_the_stack(resources):
    exports = resources["Exports"]
    assert exports["DeletionPolicy"] == exports["UpdateReplacePolicy"] == "Retain"
    properties = exports["Properties"]
    assert properties["BucketName"] == {"Fn::Sub": "serin-${Stage}-exports-${AWS::AccountId}"}
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    (encryption,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4 and all(properties["PublicAccessBlockConfiguration"].values())
    assert properties["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    # What is current stays for ever; what was replaced goes after a year.
    (rule,) = properties["LifecycleConfiguration"]["Rules"]
    assert rule == {"Id": "replaced-ones-a-year", "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 365}}


def test_exports_are_written_by_the_executor_and_read_by_no_function(resources):
    of_s3 = [(where, s) for where, s in statements(resources) if s["Effect"] == "Allow" and any("s3:" in a for a in as_list(s["Action"]))]
    ((where, statement),) = of_s3
    assert (where, statement["Action"], statement["Resource"]) == ("RollbackExecutorRole", "s3:PutObject", {"Fn::Sub": "${Exports.Arn}/*"})


def test_the_stack_owns_no_value_of_a_rollout_and_no_secret(resources):
    """A value of the stack would be written back by the next deploy, in the middle of a rollout."""
    ((_, topics),) = of_type(resources, "AWS::SSM::Parameter").items()
    assert (topics["Name"], topics["Type"]) == ({"Fn::Sub": "/serin/${Stage}/topics"}, "String")
    assert not of_type(resources, "AWS::SecretsManager::Secret")


def test_functions_are_told_the_names_of_secrets_and_never_secrets(template, resources):
    expected = {
        "CanaryEvaluator": "/serin/${Stage}/genesys/read",
        "RollbackExecutor": "/serin/${Stage}/genesys/publish",
        "AlertForwarder": None,  # it takes the name out of the queue's
        "RandomPercentage": None,
    }
    for name, secret in expected.items():
        variables = resources[name]["Properties"]["Environment"]["Variables"]
        named = {key: value for key, value in variables.items() if re.search("SECRET|TOKEN|PASSWORD|KEY|WEBHOOK", key)}
        assert [value["Fn::Sub"] for value in named.values()] == ([secret] if secret else []), name
    assert not [name for name in template["Parameters"] if re.search("secret|token|password", name, re.IGNORECASE)]


def test_the_environment_is_what_the_functions_read(resources):
    both = {"STAGE", "LEDGER_TABLE", "ALERT_TOPIC_ARN", "ROLLBACK_TOPIC_ARN", "GENESYS_API", "GENESYS_LOGIN", "GENESYS_SECRET", "CLOCK"}
    expected = {
        "CanaryEvaluator": both,
        "RollbackExecutor": both | {"EXPORT_BUCKET"},
        "RandomPercentage": {"STAGE", "FLOWS"},
        "AlertForwarder": {"STAGE", "LEDGER_TABLE"},
    }
    for name, variables in expected.items():
        assert set(resources[name]["Properties"]["Environment"]["Variables"]) == variables, name


def test_the_event_clock_is_for_the_local_stage(template):
    rule = template["Rules"]["EventClockIsLocal"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Clock"}, "event"]}
    assert rule["Assertions"][0]["Assert"] == {"Fn::Equals": [{"Ref": "Stage"}, "local"]}
    assert template["Parameters"]["Clock"]["Default"] == "wall"


@pytest.mark.parametrize(
    ("api", "accepted"),
    [
        ("https://api.mypurecloud.com", True),
        ("https://api.usw2.pure.cloud", True),
        ("http://127.0.0.1:8080", True),
        ("http://api.mypurecloud.com", False),
        ("https://api.mypurecloud.com/", False),
        ("https://mypurecloud.com", False),
    ],
)
def test_a_wrong_genesys_address_stops_the_deploy(template, api, accepted):
    assert bool(re.fullmatch(template["Parameters"]["GenesysApi"]["AllowedPattern"], api)) is accepted


def test_every_sample_event_names_its_function_and_every_function_has_one():
    names = sorted(path.stem for path in stack.EVENTS.glob("*.json"))
    for name in names:
        assert isinstance(stack.event(name), dict)
        assert name.startswith(stack.FUNCTIONS), name
    assert set(stack.FUNCTIONS) <= set(names)
