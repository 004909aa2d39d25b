"""The template as CloudFormation will see it, after SAM expanded it: what must hold before anything is deployed.

The emulator applies some settings silently not at all (point-in-time recovery, TTL, encryption), so they are asserted here. What depends on
a condition is asserted in every variant below, with its conditions worked out. That the checks can fail is shown at the end.
"""

import copy
import functools
import inspect
import itertools
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
KEY = stack.ROOT / "infra" / "key.yaml"
SECURITY = stack.ROOT / "docs" / "security.md"
NO_VALUE = {"Ref": "AWS::NoValue"}

# Between them every condition is true somewhere and false somewhere, and a test sees to it.
VARIANTS = {
    "as it comes": {"Stage": "prod", "GenesysOrganizationId": ORGANIZATION},
    "with everything": {
        "Stage": "prod",
        "GenesysOrganizationId": ORGANIZATION,
        "GenesysLogin": "https://login.example.com",
        "NotifyEmail": "oncall@example.com",
        "RollbackPublishers": "arn:aws:iam::123456789012:role/oncall,arn:aws:iam::123456789012:role/pipeline",
        "KeyArn": "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000",
        "EndpointConcurrency": "50",
        "WorkerConcurrency": "3",
        "Tracing": "all",
        "EndpointDeployment": "Linear10PercentEvery1Minute",
        "EndpointUrl": "iam",
        "EndpointSource": "DynamoDB",
    },
    "over what was kept": {
        "Stage": "prod",
        "ExistingLedgerTable": "restored",
        "ExistingExportBucket": "serin-prod-exports-123456789012-us-east-1",
        "Tracing": "none",
        "EndpointDeployment": "AllAtOnce",
        "SchedulesState": "DISABLED",
    },
    "local": {"Stage": "local", "Clock": "event"},
}

# The statements that may name every action of a service or every resource, with the reason.
EVERY_ACTION = {"TlsOnly": "it denies: the wider, the safer"}
EVERY_RESOURCE = {
    "Trace": "X-Ray knows no resources",
    "SeeAlarms": "whether CodeDeploy asks for alarms by name is not documented; it reads states, nothing else",
}

# The names that may end in anything: what belongs to the stage's flows, and to the targets of its alerts.
WILDCARDS = {
    "parameter/genesys/canary/${Stage}/*",
    "parameter/genesys/canary/${Stage}/*/percentage",
    "parameter/serin/${Stage}/alerts/*",
    "serin-${Stage}-alert-*",
    "${Bucket}/*",
    "${Exports.Arn}/*",
}

# What the functions emit, and what AWS does, with the dimensions it can be asked by. An alarm on anything else would wait for ever.
METRICS = {
    ("Serin", "Tick"): [{"Stage", "Function"}],
    ("Serin", "FlowsListed"): [{"Stage"}],
    ("Serin", "FlowsMissed"): [{"Stage"}],
    ("Serin", "GenesysRequests"): [{"Stage"}],
    ("Serin", "NeedsHuman"): [{"Stage"}],
    ("Serin", "RestorationOverdue"): [{"Stage"}],
    ("Serin", "SampleRatio"): [{"Stage"}],
    ("Serin", "LedgerConflicts"): [{"Stage"}],
    ("Serin", "GenesysThrottled"): [{"Stage"}],
    ("Serin", "GenesysTokenFailures"): [{"Stage"}],
    ("Serin", "NoticesWaiting"): [{"Stage"}],
    ("Serin", "Fallback"): [{"Stage"}, {"Stage", "Reason"}],
    ("Serin", "CanaryAnswers"): [{"Stage"}],
    ("Serin", "StableAnswers"): [{"Stage"}],
    ("Serin", "AnswerAge"): [{"Stage"}],
    ("Serin", "Reads"): [{"Stage"}],
    ("Serin", "ReadsFailed"): [{"Stage"}],
    ("Serin", "ReadsThrottled"): [{"Stage"}],
    ("Serin", "ReadsDenied"): [{"Stage"}],
    ("Serin", "ProcessEnded"): [{"Stage"}],
    ("Serin", "Weight"): [{"Stage", "Flow"}],
    ("Serin", "CanaryCalls"): [{"Stage", "Flow"}],
    ("Serin", "StableCalls"): [{"Stage", "Flow"}],
    ("Serin", "CanaryErrorRate"): [{"Stage", "Flow"}],
    ("Serin", "StableErrorRate"): [{"Stage", "Flow"}],
    ("Serin", "Evidence"): [{"Stage", "Flow"}],
    ("AWS/Lambda", "Invocations"): [{"FunctionName"}, {"FunctionName", "Resource"}],
    ("AWS/Lambda", "Errors"): [{"FunctionName"}, {"FunctionName", "Resource"}],
    ("AWS/Lambda", "Throttles"): [{"FunctionName"}, {"FunctionName", "Resource"}],
    ("AWS/Lambda", "Duration"): [{"FunctionName"}, {"FunctionName", "Resource"}],
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): [{"QueueName"}],
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): [{"QueueName"}],
    ("AWS/SNS", "NumberOfNotificationsFailed"): [{"TopicName"}],
    ("AWS/DynamoDB", "ConsumedReadCapacityUnits"): [{"TableName"}],
    ("AWS/DynamoDB", "ConsumedWriteCapacityUnits"): [{"TableName"}],
    ("AWS/Logs", "IncomingBytes"): [{"LogGroupName"}],
}

# Its end in `serin-{stage}-…`, and what it watches.
ALARMS = {
    "canary-evaluator-no-tick": "Serin/Tick",
    "canary-evaluator-flows-missed": "Serin/FlowsMissed",
    "canary-evaluator-errors": "AWS/Lambda/Errors",
    "needs-human": "Serin/NeedsHuman",
    "sample-ratio": "Serin/SampleRatio",
    "genesys-throttled": "Serin/GenesysThrottled",
    "genesys-token": "Serin/GenesysTokenFailures",
    "ledger-conflicts": "Serin/LedgerConflicts",
    "notices-waiting": "Serin/NoticesWaiting",
    "random-percentage-errors": "AWS/Lambda/Errors",
    "random-percentage-throttles": "AWS/Lambda/Throttles",
    "random-percentage-fallbacks": "Serin/Fallback",
    "random-percentage-p99": "AWS/Lambda/Duration",
    "rollback-executor-no-tick": "Serin/Tick",
    "rollback-executor-errors": "AWS/Lambda/Errors",
    "restoration-overdue": "Serin/RestorationOverdue",
    "rollback-waiting": "AWS/SQS/ApproximateAgeOfOldestMessage",
    "rollback-undelivered": "AWS/SNS/NumberOfNotificationsFailed",
    "rollback-dlq": "AWS/SQS/ApproximateNumberOfMessagesVisible",
    "alerts-undelivered": "AWS/SNS/NumberOfNotificationsFailed",
    "waiting-alert-webhook": "AWS/SQS/ApproximateAgeOfOldestMessage",
    "dlq-alert-webhook": "AWS/SQS/ApproximateNumberOfMessagesVisible",
}


def expand(build: str = "1") -> dict:
    """The template as plain CloudFormation, for a build of the functions."""
    return copy.deepcopy(_expand(build))


@functools.cache
def _expand(build: str) -> dict:
    source = yaml_parse(stack.packaged_template({name: f"s3://packages/{name}-{build}.zip" for name in stack.FUNCTIONS}))
    given = {"Stage": "prod", "GenesysApi": "https://api.mypurecloud.com", "GenesysOrganizationId": ORGANIZATION}
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=stack.REGION))
    return translator.translate(source, given)


def conditions(template: dict, given: dict) -> dict[str, bool]:
    """Which conditions hold for these parameters, the others being what they are by default."""
    values = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()} | given

    def value(node):
        if isinstance(node, dict):
            ((name, of),) = node.items()
            assert name == "Ref", f"a condition asks for {node}"
            return values[of]
        return node

    def holds(node) -> bool:
        ((name, of),) = node.items()
        if name == "Condition":
            return holds(template["Conditions"][of])
        if name == "Fn::Equals":
            return value(of[0]) == value(of[1])
        assert name in ("Fn::Not", "Fn::And", "Fn::Or"), node
        parts = [holds(part) for part in of]
        return not parts[0] if name == "Fn::Not" else all(parts) if name == "Fn::And" else any(parts)

    return {name: holds(condition) for name, condition in template.get("Conditions", {}).items()}


def resolved(template: dict, given: dict) -> dict:
    """The template without its conditions: what these parameters make of it. References stay references."""
    true = conditions(template, given)

    def settle(node):
        if isinstance(node, dict):
            if set(node) == {"Fn::If"}:
                condition, then, otherwise = node["Fn::If"]
                return settle(then if true[condition] else otherwise)
            settled = {key: settle(child) for key, child in node.items()}
            return {key: child for key, child in settled.items() if child != NO_VALUE}
        if isinstance(node, list):
            return [child for child in map(settle, node) if child != NO_VALUE]
        return node

    def kept(section: str) -> dict:
        wanted = {name: part for name, part in template[section].items() if true.get(part.get("Condition"), True)}
        return {name: settle({key: child for key, child in part.items() if key != "Condition"}) for name, part in wanted.items()}

    rest = {key: part for key, part in template.items() if key != "Conditions"}
    return rest | {"Resources": kept("Resources"), "Outputs": kept("Outputs")}


@pytest.fixture(scope="module")
def template() -> dict:
    return expand()


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def resources(variant) -> dict:
    return resolved(expand(), VARIANTS[variant])["Resources"]


@pytest.fixture(scope="module")
def as_it_comes() -> dict:
    return resolved(expand(), VARIANTS["as it comes"])["Resources"]


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


def role_of(resources: dict, function: str) -> str:
    """The logical id of a function's role."""
    return queue_of(resources[function]["Properties"]["Role"])


def reads_the_copy(variant: str) -> bool:
    return VARIANTS[variant].get("EndpointSource") == "DynamoDB"


def text_of(value) -> str:
    """A string as it is spelled, with the variables of `!Sub` still in it."""
    if not isinstance(value, dict):
        return value
    spelled = value.get("Fn::Sub", "")
    return spelled if isinstance(spelled, str) else spelled[0]


def in_stage(value, stage: str) -> str:
    """A name as it will be in a stage, in the region with the longest name."""
    region, account = "ap-southeast-1", "123456789012"
    return text_of(value).replace("${Stage}", stage).replace("${AWS::Region}", region).replace("${AWS::AccountId}", account)


@pytest.fixture(scope="module")
def lint(tmp_path_factory) -> dict[str, list[str]]:
    """What cfn-lint finds in each template, and in one with faults. One run for all: most of its time is its start."""
    broken = expand()
    statement_of(broken, "CanaryEvaluatorRole", "Ledger").update(Action=["dynamodb:GetItems"])
    properties_of(broken, "CanaryEvaluator").update(Timeout=3000)
    properties_of(broken, "RandomPercentage").update(Architectures=["x86"])
    paths = {"alert-target": stack.ALERT_TARGET, "key": KEY}
    for name, template in (("template", expand()), ("broken", broken)):
        paths[name] = tmp_path_factory.mktemp("lint") / f"{name}.json"
        paths[name].write_text(json.dumps(template))
    command = [Path(sys.executable).with_name("cfn-lint"), "--format", "parseable", "--template", *paths.values()]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode < 32 and not run.stderr, run.stderr
    return {name: [line for line in run.stdout.splitlines() if line.startswith(str(path))] for name, path in paths.items()}


def test_every_condition_holds_in_one_variant_and_not_in_another(template):
    seen = [conditions(template, given) for given in VARIANTS.values()]
    for name in template["Conditions"]:
        assert {holds[name] for holds in seen} == {True, False}, name


def test_nothing_refers_to_what_its_conditions_leave_out(template, variant):
    """A reference to a resource that is not made stops the deploy, in that combination of parameters only."""
    whole = resolved(template, VARIANTS[variant])
    there = set(whole["Resources"]) | set(whole["Parameters"])

    def look(where, node, local=()):
        if isinstance(node, dict):
            named = [node["Ref"]] if set(node) == {"Ref"} else [node["Fn::GetAtt"][0]] if set(node) == {"Fn::GetAtt"} else []
            if "Fn::Sub" in node:
                text, local = (node["Fn::Sub"], ()) if isinstance(node["Fn::Sub"], str) else (node["Fn::Sub"][0], tuple(node["Fn::Sub"][1]))
                named += [name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", text)]
            for name in named:
                assert name in there or name in local or name.startswith("AWS::"), f"{where}: {name}"
            for child in node.values():
                look(where, child, local)
        elif isinstance(node, list):
            for child in node:
                look(where, child, local)

    for section in ("Resources", "Outputs"):
        for name, part in whole[section].items():
            look(name, part)


def test_the_expanded_templates_have_no_lint_error_and_the_linter_notices_some(lint):
    """With their conditions, which the linter follows itself."""
    found = lint["broken"]
    assert lint == {"template": [], "alert-target": [], "key": [], "broken": found}
    for fault in ("'getitems' is not one of", "3000 is greater than the maximum", "'x86' is not one of"):
        assert any(fault in line for line in found), f"{fault}: {found}"


def test_there_are_the_four_functions_and_each_is_named_by_its_stage(resources):
    functions = of_type(resources, "AWS::Lambda::Function")
    assert set(functions) == set(FUNCTIONS)
    assert {f["FunctionName"]["Fn::Sub"] for f in functions.values()} == {f"serin-${{Stage}}-{name}" for name in stack.FUNCTIONS}
    assert {f["Runtime"] for f in functions.values()} == {"provided.al2023"}


# Of each kind of name: where it stands, and how long it may be.
NAMES = {
    ("AWS::Lambda::Function", "FunctionName"): 64,
    ("AWS::DynamoDB::Table", "TableName"): 255,
    ("AWS::S3::Bucket", "BucketName"): 63,
    ("AWS::SNS::Topic", "TopicName"): 256,
    ("AWS::SQS::Queue", "QueueName"): 80,
    ("AWS::CloudWatch::Alarm", "AlarmName"): 255,
    ("AWS::CloudWatch::Dashboard", "DashboardName"): 255,
    ("AWS::Logs::LogGroup", "LogGroupName"): 512,
    ("AWS::Scheduler::Schedule", "Name"): 64,
    ("AWS::SSM::Parameter", "Name"): 1011,
    ("AWS::CodeDeploy::Application", "ApplicationName"): 100,
    ("AWS::KMS::Alias", "AliasName"): 256,
}


def names(resources: dict):
    """Every fixed name: (kind, as it is spelled)."""
    for resource in resources.values():
        for kind, key in NAMES:
            if kind == resource["Type"] and key in resource["Properties"]:
                yield (kind, key), resource["Properties"][key]


def test_every_fixed_name_contains_the_stage_and_fits_with_the_longest(resources):
    """Two stages live in one account; a fixed name without the stage would make them collide."""
    seen = set()
    for kind, spelled in names(resources):
        seen.add(kind)
        assert "${Stage}" in text_of(spelled), spelled
        assert len(in_stage(spelled, "s" * 16)) <= NAMES[kind], spelled
    assert len(seen) >= 8
    named = {
        "Name",
        "FunctionName",
        "TableName",
        "BucketName",
        "TopicName",
        "QueueName",
        "AlarmName",
        "LogGroupName",
        "RoleName",
        "PolicyName",
    }
    for name, resource in resources.items():
        # The others name what they belong to, or are told apart by it.
        if not resource["Type"].startswith(("AWS::Lambda::", "AWS::CodeDeploy::", "AWS::IAM::")):
            assert all((resource["Type"], key) in NAMES for key in named & set(resource.get("Properties", {}))), name
        assert "RoleName" not in resource.get("Properties", {}), f"{name}: a role that CloudFormation names needs no CAPABILITY_NAMED_IAM"


def test_two_stages_never_collide_whatever_their_targets_of_alerts_are_called(template):
    accepted = re.compile(template["Parameters"]["Stage"]["AllowedPattern"])
    for stage in ("prod", "prod-eu", "alert", "dlq", "keys-eu", "a1-b2-c3", "x-alerts"):
        assert accepted.fullmatch(stage), stage
    for stage in ("prod-dlq", "prod-alert", "prod-alert-x", "prod-key", "Prod", "1st", "", "s" * 17):
        assert not accepted.fullmatch(stage), stage
    assert yaml_parse(stack.ALERT_TARGET.read_text())["Parameters"]["Stage"]["AllowedPattern"] == accepted.pattern
    assert yaml_parse(KEY.read_text())["Parameters"]["Stage"]["AllowedPattern"] == accepted.pattern

    everything = template["Resources"] | yaml_parse(KEY.read_text())["Resources"]
    further = yaml_parse(stack.ALERT_TARGET.read_text())["Resources"]
    spelled = {(kind, text_of(name)) for kind, name in itertools.chain(names(everything), names(further))}
    # The names of the stacks themselves, see the Makefile.
    spelled |= {("stack", f"serin-${{Stage}}{end}") for end in ("", "-key", "-alert-${Target}")}

    def patterns(stage: str) -> set:
        """Names as (kind, beginning, open end): a target's name may be anything, so its end is open."""
        return {(kind, in_stage(text.split("${Target}")[0], stage), "${Target}" in text) for kind, text in spelled}

    # Stages that begin like another and go on like a name do: those are the ones that could meet.
    words = {word for _, text in spelled for word in re.findall(r"[a-z0-9]+", text.split("${Stage}")[-1])}
    longer = ["x-" + "-".join(some) for n in (1, 2) for some in itertools.product(sorted(words), repeat=n)]
    stages = [stage for stage in longer if accepted.fullmatch(stage)]
    assert len(stages) > 500
    mine = patterns("x")
    for stage in stages:
        for kind, name, is_open in patterns(stage):
            for my_kind, my_name, my_is_open in mine:
                if kind == my_kind:
                    meets = (my_is_open and name.startswith(my_name)) or (is_open and my_name.startswith(name)) or name == my_name
                    assert not meets, f"{kind}: {name} of stage {stage}, {my_name} of stage x"
            # What the forwarder of the shorter stage may read.
            assert kind[0] != "AWS::SQS::Queue" or not name.startswith("serin-x-alert-"), name


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


def test_every_function_has_a_role_and_a_log_group_of_its_own(resources, variant):
    roles = of_type(resources, "AWS::IAM::Role")
    groups = of_type(resources, "AWS::Logs::LogGroup")
    own = {name: f"{name}Role" for name in FUNCTIONS}
    if reads_the_copy(variant):
        own["RandomPercentage"] = "RandomPercentageCopyRole"
    for name in FUNCTIONS:
        function = resources[name]["Properties"]
        assert role_of(resources, name) == own[name]
        assert function["LoggingConfig"]["LogGroup"] == {"Ref": f"{name}Logs"}
        assert groups[f"{name}Logs"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    others = {"SchedulesRole"}
    if "GenesysOrganizationId" in VARIANTS[variant]:
        others.add("GenesysRole")
    if gradual(variant):
        others.add("EndpointDeploymentRole")
    assert set(roles) == set(own.values()) | others
    assert not any("ManagedPolicyArns" in role for role in roles.values()), "managed policies are wider than what is asked for"


def gradual(variant: str) -> bool:
    given = VARIANTS[variant]
    return given["Stage"] != "local" and given.get("EndpointDeployment") != "AllAtOnce"


def test_logs_are_kept_for_a_time_that_is_a_parameter(template):
    parameter = template["Parameters"]["LogRetentionDays"]
    assert parameter["Default"] == 30 and parameter["Default"] in parameter["AllowedValues"] and min(parameter["AllowedValues"]) > 0


def test_no_statement_allows_every_action_or_every_resource(resources):
    seen = 0
    for where, statement in statements(resources):
        seen += 1
        sid = statement.get("Sid")
        for action in as_list(statement["Action"]):
            assert action != "*" and (sid in EVERY_ACTION or "*" not in action), f"{where}: {action}"
        assert sid != "TlsOnly" or statement["Effect"] == "Deny", where
        for resource in as_list(statement.get("Resource", [])):
            text = text_of(resource)
            assert text != "*" or sid in EVERY_RESOURCE, f"{where}: every resource"
            # A wildcard is for the flows of this stage, its exports, and the targets of its alerts, which come and go without it.
            assert "*" not in text.strip("*") or text.rsplit(":", 1)[-1] in WILDCARDS, f"{where}: {text}"
        assert "NotAction" not in statement and "NotResource" not in statement and "NotPrincipal" not in statement, where
        if statement["Effect"] == "Allow" and "Principal" in statement:
            assert statement["Principal"] != "*" and statement["Principal"] != {"AWS": "*"}, where
    assert seen > 20, "the statements were not found"


def test_a_star_for_a_resource_is_written_where_nothing_narrower_can_be(resources):
    wide = {statement["Sid"]: as_list(statement["Action"]) for _, statement in statements(resources) if statement.get("Resource") == "*"}
    allowed = {
        "Trace": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
        "SeeAlarms": ["cloudwatch:DescribeAlarms"],
    }
    assert set(allowed) == set(EVERY_RESOURCE)
    for sid, actions in wide.items():
        assert actions == allowed[sid], sid


def test_the_endpoint_alone_is_not_traced_by_default(resources, variant):
    """X-Ray takes $5 a million traces: one for each of many calls is more than the calls cost."""
    traced = VARIANTS[variant].get("Tracing", "workers")
    for name in FUNCTIONS:
        expected = traced == "all" or (traced == "workers" and name != "RandomPercentage")
        assert resources[name]["Properties"]["TracingConfig"] == {"Mode": "Active" if expected else "PassThrough"}, name
        (policy,) = resources[role_of(resources, name)]["Properties"]["Policies"]
        assert ("Trace" in {s["Sid"] for s in policy["PolicyDocument"]["Statement"]}) is expected, name


def test_concurrency_is_reserved_only_where_asked(template, resources, variant):
    given = VARIANTS[variant]
    of = {"RandomPercentage": "EndpointConcurrency", "CanaryEvaluator": "WorkerConcurrency", "RollbackExecutor": "WorkerConcurrency"}
    for name, parameter in of.items():
        reserved = resources[name]["Properties"].get("ReservedConcurrentExecutions")
        assert reserved == ({"Ref": parameter} if parameter in given else None), name
        assert template["Parameters"][parameter]["Default"] == "0"
    # Its targets come and go, two runs for each: a limit for all of them would throttle it.
    assert "ReservedConcurrentExecutions" not in resources["AlertForwarder"]["Properties"]
    # Two runs for its queue and one for its tick, or a function would be throttled by its own triggers.
    accepted = re.compile(template["Parameters"]["WorkerConcurrency"]["AllowedPattern"])
    assert [n for n in range(13) if accepted.fullmatch(str(n))] == [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_other_services_and_accounts_come_in_under_a_condition_only(resources):
    """Lambda's trust and this account's identities aside: a service without a condition can be talked into acting for another account."""
    this_account = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
    functions = {"AWS": [{"Fn::GetAtt": ["CanaryEvaluatorRole", "Arn"]}, {"Fn::GetAtt": ["RollbackExecutorRole", "Arn"]}]}
    on_call = {"AWS": {"Fn::Split": [",", {"Ref": "RollbackPublishers"}]}}
    for where, statement in statements(resources):
        if statement["Effect"] == "Allow" and "Principal" in statement:
            known = statement["Principal"] in ({"Service": "lambda.amazonaws.com"}, this_account, functions, on_call)
            assert known or statement.get("Condition"), where


def test_the_topics_name_who_may_publish(resources, variant):
    allowed = {}
    for policy in of_type(resources, "AWS::SNS::TopicPolicy").values():
        (topic,) = policy["Topics"]
        allowed[topic["Ref"]] = {s["Sid"]: s for s in policy["PolicyDocument"]["Statement"] if s["Sid"] != "TlsOnly"}
        assert all(s["Action"] == "sns:Publish" and s["Resource"] == topic for s in allowed[topic["Ref"]].values())
    named = "RollbackPublishers" in VARIANTS[variant]
    assert {topic: set(by) for topic, by in allowed.items()} == {
        "AlertTopic": {"AsTheAccountAllows"},
        "RollbackTopic": {"AlarmsOfThisAccount", "Functions"} | ({"NobodyElse", "OnCall"} if named else set()),
        "WatchersTopic": {"AlarmsOfThisAccount"},
    }
    if named:
        denied = allowed["RollbackTopic"]["NobodyElse"]
        assert (denied["Effect"], denied["Principal"]) == ("Deny", "*")
        # Alarms are a service's, and pass, also where a request does not say so; the functions and those who are named are everybody else
        # who does.
        assert set(denied["Condition"]) == {"ArnNotEquals", "Bool"}
        assert denied["Condition"]["Bool"] == {"aws:PrincipalIsAWSService": "false"}
        (_, joined) = denied["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]["Fn::Split"]
        *roles, publishers = joined["Fn::Join"][1]
        assert {"AWS": roles} == allowed["RollbackTopic"]["Functions"]["Principal"]
        assert publishers == {"Ref": "RollbackPublishers"}
        assert allowed["RollbackTopic"]["OnCall"]["Principal"] == {"AWS": {"Fn::Split": [",", publishers]}}


def test_genesys_may_call_the_live_alias_and_nothing_else(template, as_it_comes):
    assert template["Resources"]["GenesysRole"]["Condition"] == "HasGenesysOrganization"
    role = as_it_comes["GenesysRole"]
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${GenesysAccountId}:root"}}
    assert trust["Condition"] == {"StringEquals": {"sts:ExternalId": {"Ref": "GenesysOrganizationId"}}}
    (policy,) = role["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "lambda:InvokeFunction"
    assert as_it_comes[statement["Resource"]["Ref"]]["Type"] == "AWS::Lambda::Alias"
    assert as_it_comes[statement["Resource"]["Ref"]]["Properties"]["Name"] == "live"
    assert template["Outputs"]["RandomPercentageLiveArn"]["Value"] == statement["Resource"]


def test_the_functions_have_no_address_of_their_own_unless_asked_and_then_the_endpoint_for_signed_requests(template, resources, variant):
    """And no permission lets anybody in: what may call them is a role's policy."""
    assert not of_type(resources, "AWS::Lambda::Permission")
    parameter = template["Parameters"]["EndpointUrl"]
    assert (parameter["Default"], parameter["AllowedValues"]) == ("none", ["none", "iam"])
    urls, asked = of_type(resources, "AWS::Lambda::Url"), VARIANTS[variant].get("EndpointUrl") == "iam"
    signed = {"TargetFunctionArn": {"Ref": "RandomPercentage"}, "Qualifier": "live", "AuthType": "AWS_IAM"}
    assert list(urls.values()) == ([signed] if asked else [])
    outputs = resolved(template, VARIANTS[variant])["Outputs"]
    assert ("EndpointUrl" in outputs) is asked
    for name in urls:
        # The alias is named, not referred to.
        assert resources[resources[name]["DependsOn"]]["Properties"]["Name"] == "live"
        assert outputs["EndpointUrl"]["Value"] == {"Fn::GetAtt": [name, "FunctionUrl"]}


def test_the_endpoint_is_deployed_gradually_and_the_others_all_at_once(resources, variant):
    aliases = of_type(resources, "AWS::Lambda::Alias")
    assert {(alias["FunctionName"]["Ref"], alias["Name"]) for alias in aliases.values()} == {
        ("RandomPercentage", "live"),
        ("RandomPercentage", "newest"),
    }
    (live,) = [name for name, alias in aliases.items() if alias["Name"] == "live"]
    (version,) = of_type(resources, "AWS::Lambda::Version")
    assert aliases[live]["FunctionVersion"] == {"Fn::GetAtt": [version, "Version"]}
    moved = resources[live]["UpdatePolicy"]
    groups = of_type(resources, "AWS::CodeDeploy::DeploymentGroup")
    if not gradual(variant):
        assert moved == {} and not groups and not of_type(resources, "AWS::CodeDeploy::Application")
        return
    ((name, group),) = groups.items()
    application = group["ApplicationName"]
    assert moved == {"CodeDeployLambdaAliasUpdate": {"ApplicationName": application, "DeploymentGroupName": {"Ref": name}}}
    assert resources[application["Ref"]]["Properties"]["ComputePlatform"] == "Lambda"
    assert group["DeploymentConfigName"] == {"Fn::Sub": "CodeDeployDefault.Lambda${EndpointDeployment}"}
    assert group["AlarmConfiguration"]["Enabled"] is True
    watched = {text_of(resources[alarm["Name"]["Ref"]]["Properties"]["AlarmName"]) for alarm in group["AlarmConfiguration"]["Alarms"]}
    assert watched == {f"serin-${{Stage}}-random-percentage-{what}" for what in ("errors", "fallbacks", "p99")}
    assert (
        "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"] and group["AutoRollbackConfiguration"]["Enabled"] is True
    )
    (policy,) = resources["EndpointDeploymentRole"]["Properties"]["Policies"]
    moves, sees = policy["PolicyDocument"]["Statement"]
    assert [resource.get("Fn::Sub", "") for resource in moves["Resource"]] == ["", "${RandomPercentage.Arn}:live"]
    assert sees["Action"] == "cloudwatch:DescribeAlarms"


def test_the_ways_of_deploying_gradually_are_ways_that_codedeploy_has(template):
    known = {
        "AllAtOnce",
        *(f"Canary10Percent{n}Minutes" for n in (5, 10, 15, 30)),
        *(f"Linear10PercentEvery{n}Minute{'s' * (n > 1)}" for n in (1, 2, 3, 10)),
    }
    assert set(template["Parameters"]["EndpointDeployment"]["AllowedValues"]) <= known


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
        # After ten minutes a request for a rollback is void: two tries fit in.
        tries = {"RollbackRequests": 2, "Alerts": 5}[name]
        assert queue["RedrivePolicy"]["maxReceiveCount"] == tries, name
        assert name != "RollbackRequests" or queue["VisibilityTimeout"] * (tries - 1) < 600 <= queue["VisibilityTimeout"] * tries
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"], name
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}, name
    assert mappings["RollbackRequests"]["BatchSize"] == 1


def test_messages_that_nobody_takes_are_told_whether_they_wait_or_failed_or_never_arrived(resources):
    queues = of_type(resources, "AWS::SQS::Queue")
    dead = {name for name in queues if "Dlq" in name}
    watched = {}
    for metric in alarm_metrics(resources):
        if metric.namespace in ("AWS/SQS", "AWS/SNS"):
            (value,) = metric.dimensions.values()
            watched.setdefault(metric.name, set()).add(queue_of(value))
    assert watched == {
        "ApproximateNumberOfMessagesVisible": dead,
        "ApproximateAgeOfOldestMessage": set(queues) - dead,
        "NumberOfNotificationsFailed": {
            s["TopicArn"]["Ref"] for s in of_type(resources, "AWS::SNS::Subscription").values() if s["Protocol"] == "sqs"
        },
    }
    assert dead == {"AlertDlq", "RollbackDlq"} and len(queues) == 4
    # Half of the time for which a request counts; and when the last try of an alert that fails is over.
    assert resources["RollbackWaiting"]["Properties"]["Threshold"] == 300
    alerts = queues["AlertQueue"]
    last = alerts["VisibilityTimeout"] * alerts["RedrivePolicy"]["maxReceiveCount"]
    assert resources["AlertWaiting"]["Properties"]["Threshold"] == last == 900
    for name in ("RollbackWaiting", "AlertWaiting", "UndeliveredAlerts", "UndeliveredRollbacks"):
        alarm = resources[name]["Properties"]
        assert (alarm["Period"], alarm["EvaluationPeriods"]) == (60, 1), name
        assert alarm["Statistic"] == ("Sum" if "Undelivered" in name else "Maximum"), name


class Metric:
    """What an alarm or a widget asks for."""

    def __init__(self, namespace: str, name: str, dimensions: dict, statistic: str):
        self.namespace, self.name, self.dimensions, self.statistic = namespace, name, dimensions, statistic

    def is_known(self) -> bool:
        return set(self.dimensions) in METRICS.get((self.namespace, self.name), [])

    def __repr__(self):
        return f"{self.namespace}/{self.name} by {sorted(self.dimensions)}"


def metrics_of(alarm: dict) -> list[Metric]:
    """The one metric of an alarm, or those that it reckons with."""
    if "Metrics" not in alarm:
        parts = [(alarm, alarm.get("Statistic") or alarm.get("ExtendedStatistic"))]
    else:
        parts = [(part["MetricStat"]["Metric"], part["MetricStat"]["Stat"]) for part in alarm["Metrics"] if "MetricStat" in part]
    return [
        Metric(part["Namespace"], part["MetricName"], {d["Name"]: d["Value"] for d in part["Dimensions"]}, statistic)
        for part, statistic in parts
    ]


def alarm_metrics(resources: dict) -> list[Metric]:
    return [metric for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values() for metric in metrics_of(alarm)]


def test_there_is_an_alarm_for_everything_that_a_person_has_to_know(resources):
    alarms = {
        text_of(alarm["AlarmName"]).removeprefix("serin-${Stage}-"): alarm
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
    }
    assert {name: repr(metrics_of(alarm)[0]).split(" by ")[0] for name, alarm in alarms.items()} == ALARMS
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "WatchersTopic"}], name
        # What happened, whom it concerns, what to do: no three of them fit into less.
        assert 90 < len(alarm["AlarmDescription"]) <= 1024, name
        assert alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"] <= 24 * 60, name


def test_alarms_ask_for_metrics_that_exist_by_the_dimensions_that_they_have(resources):
    metrics = alarm_metrics(resources)
    assert len(metrics) >= len(ALARMS)
    for metric in metrics:
        assert metric.is_known(), metric
        if metric.namespace == "Serin":
            assert metric.dimensions["Stage"] == {"Ref": "Stage"}, metric
        for value in metric.dimensions.values():
            assert isinstance(value, str) or value.get("Ref") != "AWS::Region", metric
    ticks = {metric.dimensions["Function"] for metric in metrics if metric.name == "Tick"}
    assert ticks == {"canary-evaluator", "rollback-executor"}
    errors = {metric.dimensions["FunctionName"]["Ref"] for metric in metrics if metric.name == "Errors"}
    assert errors == {"CanaryEvaluator", "RollbackExecutor", "RandomPercentage"}


def test_silence_is_an_alarm_and_everything_else_is_silent_when_it_is_well(resources):
    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        if "NoTick" in name:
            assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == ("Sum", "LessThanThreshold", 1), name
            assert (alarm["Period"], alarm["EvaluationPeriods"], alarm["TreatMissingData"]) == (60, 2, "breaching"), name
            assert "DatapointsToAlarm" not in alarm, name
        else:
            assert (alarm["TreatMissingData"], alarm["ComparisonOperator"]) == ("notBreaching", "GreaterThanOrEqualToThreshold"), name


def test_only_the_alarms_of_ticks_are_quiet_while_the_schedules_are_off(resources, variant):
    quiet = {name for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items() if alarm.get("ActionsEnabled") is False}
    off = VARIANTS[variant].get("SchedulesState") == "DISABLED"
    assert quiet == ({"CanaryEvaluatorNoTick", "RollbackExecutorNoTick"} if off else set())


def goes_off_after(alarm: dict, minutes: list[dict]) -> int | None:
    """The minute in which an alarm goes off, if each has these sums by metric; as CloudWatch reckons it when no minute is late."""
    breaching = []
    for count, sums in enumerate(minutes, 1):
        if "Metrics" in alarm:
            (expression,) = [part["Expression"] for part in alarm["Metrics"] if "Expression" in part]
            assert expression == "IF(FILL(fallbacks, 0) >= 10, 100, 100 * FILL(fallbacks, 0) / calls)"
            fallbacks, calls = sums.get("Fallback", 0), sums.get("Invocations")
            # Without calls there is no quotient, and what is missing does not breach.
            value = 100 if fallbacks >= 10 else 100 * fallbacks / calls if calls else 0
        else:
            value = sums.get(alarm["MetricName"], 0)
        breaching = [*breaching, value >= alarm["Threshold"]][-alarm["EvaluationPeriods"] :]
        if sum(breaching) >= alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]):
            return count
    return None


def test_the_endpoints_alarms_hold_for_ten_calls_an_hour_and_for_twenty_thousand(as_it_comes):
    errors, throttles, fallbacks = (as_it_comes[f"RandomPercentage{what}"]["Properties"] for what in ("Errors", "Throttles", "Fallbacks"))
    p99 = as_it_comes["RandomPercentageP99"]["Properties"]
    small = [{"Invocations": 1} if minute % 6 == 5 else {} for minute in range(120)]
    big = [{"Invocations": 333} for _ in range(120)]

    def share(minutes, metric, of_calls, per=1):
        return [sums | {metric: sums["Invocations"] * of_calls} if sums and n % per == 0 else sums for n, sums in enumerate(minutes)]

    for alarm, metric in ((errors, "Errors"), (throttles, "Throttles"), (fallbacks, "Fallback")):
        # Every call: the second one tells at ten an hour, the second minute at twenty thousand.
        assert goes_off_after(alarm, share(small, metric, 1)) == 12, metric
        assert goes_off_after(alarm, share(big, metric, 1)) == 2, metric
        # One call in two hours is nobody's night.
        once = [sums | {metric: 1} if n == 59 else sums for n, sums in enumerate(small)]
        assert goes_off_after(alarm, once) is None, metric
    # A deployment that has a tenth of the calls for five minutes, and fails them all: taken back before it gets the rest.
    assert goes_off_after(errors, share(big, "Errors", 0.1)) <= 4
    assert goes_off_after(fallbacks, share(big, "Fallback", 0.1)) <= 4
    # One broken flow among many: a twentieth of the calls, sixteen in a minute.
    assert goes_off_after(fallbacks, [{"Invocations": 333, "Fallback": 16} for _ in range(120)]) == 2
    # One in a thousand that is not drawn wakes nobody.
    assert goes_off_after(fallbacks, share(big, "Fallback", 0.001)) is None
    assert (p99["ExtendedStatistic"], p99["EvaluationPeriods"], p99["DatapointsToAlarm"]) == ("p99", 30, 2)
    assert p99["Threshold"] == as_it_comes["RandomPercentage"]["Properties"]["Timeout"] * 1000 / 2
    dimensions = {d["Name"]: d["Value"] for d in p99["Dimensions"]}
    assert dimensions == {"FunctionName": {"Ref": "RandomPercentage"}, "Resource": {"Fn::Sub": "${RandomPercentage}:live"}}


def widgets(resources: dict) -> list[dict]:
    (dashboard,) = of_type(resources, "AWS::CloudWatch::Dashboard").values()
    return json.loads(text_of(dashboard["DashboardBody"]))["widgets"]


def widget_metrics(widget: dict):
    """What a widget draws: searches by their schema and filter, and metrics by name."""
    for metric in widget["properties"].get("metrics", []):
        if isinstance(metric[0], dict):
            found = re.fullmatch(
                r"SEARCH\('\{([^,]+),([A-Za-z,]+)\} MetricName=\"(\w+)\" Stage=\"\$\{Stage\}\"', '(\w+)', \d+\)", metric[0]["expression"]
            )
            assert found, metric[0]["expression"]
            yield Metric(found[1], found[3], dict.fromkeys(found[2].split(","), "${Stage}"), found[4])
        else:
            *path, last = metric
            namespace, name, *dimensions = path
            yield Metric(namespace, name, dict(zip(dimensions[::2], dimensions[1::2], strict=True)), last["stat"])


def test_the_dashboard_shows_metrics_that_exist_and_all_of_ours(resources):
    drawn = [metric for widget in widgets(resources) for metric in widget_metrics(widget)]
    for metric in drawn:
        assert metric.is_known(), metric
        assert all(
            "${Stage}" in value or value in ("canary-evaluator", "rollback-executor", "${Table}") for value in metric.dimensions.values()
        ), metric
    assert {(metric.namespace, metric.name) for metric in drawn} >= {known for known in METRICS if known[0] == "Serin"}
    of_cost = {name for _, name in METRICS} & {"Invocations", "ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits", "IncomingBytes"}
    assert {metric.name for metric in drawn} >= of_cost and len(of_cost) == 4
    functions = {metric.dimensions["FunctionName"] for metric in drawn if metric.name == "Invocations"}
    assert functions == {text_of(resources[name]["Properties"]["FunctionName"]) for name in FUNCTIONS}
    groups = {metric.dimensions["LogGroupName"] for metric in drawn if metric.name == "IncomingBytes"}
    assert groups == {text_of(group["LogGroupName"]) for group in of_type(resources, "AWS::Logs::LogGroup").values()}


def test_the_dashboard_shows_every_alarm_and_nothing_on_top_of_another(resources):
    shown = [arn.rsplit(":", 1)[1] for widget in widgets(resources) for arn in widget["properties"].get("alarms", [])]
    assert sorted(shown) == sorted(text_of(alarm["AlarmName"]) for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values())
    taken = set()
    for widget in widgets(resources):
        cells = set(
            itertools.product(range(widget["x"], widget["x"] + widget["width"]), range(widget["y"], widget["y"] + widget["height"]))
        )
        assert not cells & taken and widget["x"] + widget["width"] <= 24, widget["properties"]["title"]
        taken |= cells


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


def test_a_further_target_of_alerts_is_like_the_first(template):
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
    assert text.count("${Target}") == 4, "the queue, its dead letters, and the alarm of each"
    assert template["Resources"]["AlertForwarder"]["Properties"]["FunctionName"] == {"Fn::Sub": names["AlertForwarder"]}


def test_the_forwarder_serves_every_target_of_its_stage_and_sees_nothing_else(resources):
    (policy,) = resources["AlertForwarderRole"]["Properties"]["Policies"]
    allowed = {statement["Sid"]: statement for statement in policy["PolicyDocument"]["Statement"]}
    assert {sid for sid in allowed if not sid.startswith(("Trace", "KeyOf"))} == {"Log", "Secrets", "Consume", "Deliveries"}
    pattern = allowed["Consume"]["Resource"]["Fn::Sub"].rsplit(":", 1)[1]
    queues = {name: queue["QueueName"]["Fn::Sub"] for name, queue in of_type(resources, "AWS::SQS::Queue").items()}
    assert {name for name, queue in queues.items() if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), queue)} == {"AlertQueue"}
    # The emulator does not know the keys of a request, so that it lets every item through.
    deliveries = allowed["Deliveries"]
    assert deliveries["Action"] == ["dynamodb:GetItem", "dynamodb:PutItem"]
    assert deliveries["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["DELIVERED#*"]}}


def test_the_endpoint_reads_its_source_and_nothing_else(template, resources, variant):
    parameter = template["Parameters"]["EndpointSource"]
    assert (parameter["Default"], parameter["AllowedValues"]) == ("ParameterStore", ["ParameterStore", "DynamoDB"])
    (policy,) = resources[role_of(resources, "RandomPercentage")]["Properties"]["Policies"]
    allowed = {s["Sid"]: s for s in policy["PolicyDocument"]["Statement"]}
    copied, keyed = reads_the_copy(variant), "KeyArn" in VARIANTS[variant]
    assert set(allowed) - {"Trace"} == {"Log", "Read"} | ({"KeyOfLedger"} if copied and keyed else set())
    read, variables = allowed["Read"], resources["RandomPercentage"]["Properties"]["Environment"]["Variables"]
    if copied:
        # By partition; the emulator does not know the keys of a request, so that it lets every item through.
        assert read["Action"] == "dynamodb:BatchGetItem" and "table/${Table}" in text_of(read["Resource"])
        assert read["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["PARAMETERS"]}}
    else:
        assert read["Action"] == "ssm:GetParameters" and text_of(read["Resource"]).endswith(":parameter/genesys/canary/${Stage}/*")
    assert variables["SOURCE"] == ("dynamodb" if copied else "parameter-store")


def test_another_source_gets_a_version_of_its_own_whose_role_the_version_before_does_not_share(template, variant):
    """What a version is published from are the function's properties before parameters have values, so a value alone publishes nothing."""
    (version,) = of_type(template["Resources"], "AWS::Lambda::Version").values()
    assert version["Description"] == {"Ref": "EndpointSource"}  # it is made anew where this changes
    one, other = (resolved(template, VARIANTS[variant] | {"EndpointSource": s})["Resources"] for s in ("ParameterStore", "DynamoDB"))
    first, second = role_of(one, "RandomPercentage"), role_of(other, "RandomPercentage")
    assert first != second and first not in other and second not in one


def test_those_who_steer_remove_what_is_over_and_never_what_was_recorded(resources):
    """By partition; the emulator does not know the keys of a request, so that it lets every item through."""
    for role in ("CanaryEvaluatorRole", "RollbackExecutorRole"):
        (policy,) = resources[role]["Properties"]["Policies"]
        allowed = {s["Sid"]: s for s in policy["PolicyDocument"]["Statement"]}
        assert [sid for sid, s in allowed.items() if "dynamodb:DeleteItem" in as_list(s["Action"])] == ["Ended"], role
        ended = allowed["Ended"]
        assert (ended["Action"], ended["Resource"]) == ("dynamodb:DeleteItem", allowed["Ledger"]["Resource"]), role
        assert ended["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["ACTIVE", "OUTBOX", "STAGE"]}}, role


def test_tls_only_is_left_out_for_the_local_stage_alone(template, resources, variant):
    assert template["Conditions"]["IsLocal"] == {"Fn::Equals": [{"Ref": "Stage"}, "local"]}
    assert template["Conditions"]["OnAws"] == {"Fn::Not": [{"Condition": "IsLocal"}]}
    covered = set()
    for kind, key in (("AWS::SNS::TopicPolicy", "Topics"), ("AWS::SQS::QueuePolicy", "Queues"), ("AWS::S3::BucketPolicy", "Bucket")):
        for name, policy in of_type(resources, kind).items():
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Sid"] == "TlsOnly":
                    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*"), name
                    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, name
                    covered |= {reference["Ref"] for reference in as_list(policy[key])}
    protected = set().union(*(of_type(resources, kind) for kind in ("AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::S3::Bucket")))
    assert len(protected) >= 7
    assert covered == (set() if VARIANTS[variant]["Stage"] == "local" else protected)


def test_what_is_kept_is_under_the_customers_key_or_under_aws(resources, variant):
    """And topics are under the customer's or under none: an alarm cannot publish to one under the key that AWS manages."""
    key = {"Ref": "KeyArn"} if "KeyArn" in VARIANTS[variant] else None
    for name, topic in of_type(resources, "AWS::SNS::Topic").items():
        assert topic.get("KmsMasterKeyId") == key, name
    for name, queue in of_type(resources, "AWS::SQS::Queue").items():
        assert (queue.get("KmsMasterKeyId"), queue.get("SqsManagedSseEnabled")) == ((key, None) if key else (None, True)), name
    for name, group in of_type(resources, "AWS::Logs::LogGroup").items():
        assert group.get("KmsKeyId") == key, name
    for table in of_type(resources, "AWS::DynamoDB::Table").values():
        assert table["SSESpecification"] == {"SSEEnabled": True} | ({"SSEType": "KMS", "KMSMasterKeyId": key} if key else {})
    for bucket in of_type(resources, "AWS::S3::Bucket").values():
        (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        algorithm = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key} if key else {"SSEAlgorithm": "AES256"}
        assert encryption == {"ServerSideEncryptionByDefault": algorithm} | ({"BucketKeyEnabled": True} if key else {})


def test_each_role_uses_the_key_for_what_it_works_with_and_through_the_service_that_keeps_it(resources, variant):
    # The service, if a role's other statements have one of these actions; and what it then needs of the key.
    table = {
        "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
    }  # fmt: skip
    needs = {
        "ssm:GetParameter": ("ssm", {"kms:Decrypt"}),
        "dynamodb:GetItem": ("dynamodb", table),
        "dynamodb:BatchGetItem": ("dynamodb", table),
        "sns:Publish": ("sns", {"kms:Decrypt", "kms:GenerateDataKey"}),
        "sqs:ReceiveMessage": ("sqs", {"kms:Decrypt"}),
        "s3:PutObject": ("s3", {"kms:GenerateDataKey"}),
    }
    for name in FUNCTIONS:
        (policy,) = resources[role_of(resources, name)]["Properties"]["Policies"]
        all_of_them = policy["PolicyDocument"]["Statement"]
        actions = {action for s in all_of_them for action in as_list(s["Action"])}
        expected = (
            {service: of_key for action, (service, of_key) in needs.items() if action in actions} if "KeyArn" in VARIANTS[variant] else {}
        )
        granted = {}
        for statement in all_of_them:
            if any(action.startswith("kms:") for action in as_list(statement["Action"])):
                assert statement["Resource"] == {"Ref": "KeyArn"}, name
                ((operator, condition),) = statement["Condition"].items()
                service, _, rest = text_of(condition["kms:ViaService"]).partition(".")
                assert rest == "${AWS::Region}.${AWS::URLSuffix}", name
                granted[service] = set(as_list(statement["Action"]))
                if service == "ssm":
                    # Its own secrets: the encryption context of a SecureString is the parameter's ARN.
                    (own,) = [s for s in all_of_them if s["Action"] == "ssm:GetParameter"]
                    assert condition["kms:EncryptionContext:PARAMETER_ARN"] == own["Resource"], name
                    assert operator == ("StringLike" if text_of(own["Resource"]).endswith("*") else "StringEquals"), name
        assert granted == expected, name


def test_the_key_is_for_the_services_that_call_by_themselves_and_outlives_everything(resources):
    whole = yaml_parse(KEY.read_text())["Resources"]
    key = whole["Key"]
    assert key["DeletionPolicy"] == key["UpdateReplacePolicy"] == "Retain"
    assert key["Properties"]["EnableKeyRotation"] is True and key["Properties"]["PendingWindowInDays"] == 30
    by = {statement["Sid"]: statement for statement in key["Properties"]["KeyPolicy"]["Statement"]}
    assert set(by) == {"AsTheAccountAllows", "AlarmsOfThisAccount", "DeliveriesOfTheTopics", "LogsOfTheFunctions"}
    for sid, statement in by.items():
        assert sid == "AsTheAccountAllows" or set(statement) >= {"Condition"} and "Service" in statement["Principal"], sid
    assert by["AlarmsOfThisAccount"]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert by["AlarmsOfThisAccount"]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    assert by["AlarmsOfThisAccount"]["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}

    def last(arns) -> set:
        return {re.sub(r"^arn:(\$\{AWS::\w+\}|[a-z]+)(:(\$\{AWS::\w+\}|[a-z]+)){3}:(log-group:)?", "", text_of(arn)) for arn in arns}

    # Those topics that have a queue behind them, and the functions' logs.
    sources = {s["TopicArn"]["Ref"] for s in of_type(resources, "AWS::SNS::Subscription").values() if s["Protocol"] == "sqs"}
    topics = {text_of(resources[name]["Properties"]["TopicName"]) for name in sources}
    assert last(by["DeliveriesOfTheTopics"]["Condition"]["ArnEquals"]["aws:SourceArn"]) == topics
    groups = {text_of(group["LogGroupName"]) for group in of_type(resources, "AWS::Logs::LogGroup").values()}
    assert last(by["LogsOfTheFunctions"]["Condition"]["ArnEquals"]["kms:EncryptionContext:aws:logs:arn"]) == groups


def test_the_ledger_outlives_mistakes(resources, variant):
    if "ExistingLedgerTable" in VARIANTS[variant]:
        assert not of_type(resources, "AWS::DynamoDB::Table")
        return
    ledger = resources["Ledger"]
    # A first create that failed may take its empty table back; nothing else may.
    assert (ledger["DeletionPolicy"], ledger["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    properties = ledger["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["DeletionProtectionEnabled"] is (VARIANTS[variant]["Stage"] != "local")
    assert properties["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    assert "GlobalSecondaryIndexes" not in properties


def test_everything_works_on_the_same_table_and_bucket_the_stacks_own_or_the_one_that_was_given(template, variant):
    whole = resolved(template, VARIANTS[variant])
    for parameter, own, variable, output, of_arn in (
        ("ExistingLedgerTable", "Ledger", "LEDGER_TABLE", "LedgerTable", "Table"),
        ("ExistingExportBucket", "Exports", "EXPORT_BUCKET", "ExportBucket", "Bucket"),
    ):
        expected = {"Ref": parameter if parameter in VARIANTS[variant] else own}
        assert whole["Outputs"][output]["Value"] == expected
        told = [
            f["Environment"]["Variables"].get(variable, expected) for f in of_type(whole["Resources"], "AWS::Lambda::Function").values()
        ]
        assert told == [expected] * 4
        (dashboard,) = of_type(whole["Resources"], "AWS::CloudWatch::Dashboard").values()
        service = {"Table": "dynamodb:", "Bucket": "s3:"}[of_arn]
        arns = [
            s["Resource"]
            for where, s in statements(whole["Resources"])
            if where.endswith("Role") and as_list(s["Action"])[0].startswith(service)
        ]
        assert len(arns) == {"Table": 5 + reads_the_copy(variant), "Bucket": 1}[of_arn]
        for arn in arns:
            assert arn["Fn::Sub"][1] == {of_arn: expected}
        assert of_arn != "Table" or dashboard["DashboardBody"]["Fn::Sub"][1] == {"Table": expected}


def test_exports_are_versioned_private_and_outlive_the_stack(resources, variant):
    if "ExistingExportBucket" in VARIANTS[variant]:
        assert not of_type(resources, "AWS::S3::Bucket") and not of_type(resources, "AWS::S3::BucketPolicy")
        return
    for name in ("Exports", "ExportsPolicy"):
        if name in resources:  # there is no policy on the local stage
            assert (resources[name]["DeletionPolicy"], resources[name]["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    properties = resources["Exports"]["Properties"]
    # The names of buckets are the world's.
    assert properties["BucketName"] == {"Fn::Sub": "serin-${Stage}-exports-${AWS::AccountId}-${AWS::Region}"}
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4 and all(properties["PublicAccessBlockConfiguration"].values())
    assert properties["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    # What is current stays for ever; what was replaced goes after a year.
    (rule,) = properties["LifecycleConfiguration"]["Rules"]
    assert rule == {"Id": "replaced-ones-a-year", "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 365}}


def test_exports_are_written_by_the_executor_and_read_by_no_function(resources):
    of_s3 = [(where, s) for where, s in statements(resources) if s["Effect"] == "Allow" and any("s3:" in a for a in as_list(s["Action"]))]
    ((where, statement),) = of_s3
    assert (where, statement["Action"], text_of(statement["Resource"])) == (
        "RollbackExecutorRole", "s3:PutObject", "arn:${AWS::Partition}:s3:::${Bucket}/*",
    )  # fmt: skip


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


def test_the_environment_is_what_the_functions_read(resources, variant):
    both = {"STAGE", "LEDGER_TABLE", "ALERT_TOPIC_ARN", "ROLLBACK_TOPIC_ARN", "GENESYS_API", "GENESYS_LOGIN", "GENESYS_SECRET", "CLOCK"}
    expected = {
        "CanaryEvaluator": both,
        "RollbackExecutor": both | {"EXPORT_BUCKET"},
        "RandomPercentage": {"STAGE", "FLOWS", "SOURCE"} | ({"LEDGER_TABLE"} if reads_the_copy(variant) else set()),
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


# ------------------------------------------------------------------------------------------------------------ what a reviewer is told


def documented() -> set:
    """The table of docs/security.md: `{(role, action)}`."""
    rows = re.findall(r"(?m)^\| (`[A-Za-z` ,]+`) \| (`[^|]+`) \|", SECURITY.read_text())
    return {
        (role, action) for roles, actions in rows for role in re.findall(r"`(\w+)`", roles) for action in re.findall(r"`([\w:]+)`", actions)
    }


def granted(resources: dict) -> set:
    """Every action that a role of ours is allowed: `{(role, action)}`."""
    found = set()
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow"
                found |= {(name, action) for action in as_list(statement["Action"])}
    return found


def test_the_table_of_rights_in_the_documentation_is_the_templates(template):
    everything = resolved(template, VARIANTS["with everything"])["Resources"]
    # The endpoint has one of two roles.
    with_the_other = resolved(template, VARIANTS["with everything"] | {"EndpointSource": "ParameterStore"})["Resources"]
    assert documented() == granted(everything) | granted(with_the_other)


# --------------------------------------------------------------------------------------------------------- that the checks can fail


def statement_of(template: dict, role: str, sid: str) -> dict:
    (policy,) = template["Resources"][role]["Properties"]["Policies"]
    (found,) = [s for s in policy["PolicyDocument"]["Statement"] if s.get("Sid") == sid]
    return found


def properties_of(template: dict, name: str) -> dict:
    return template["Resources"][name]["Properties"]


def drop(template: dict, name: str, *keys: str) -> None:
    for key in keys:
        del properties_of(template, name)[key]


def rename_metric(template: dict) -> None:
    body = properties_of(template, "Dashboard")["DashboardBody"]["Fn::Sub"]
    body[0] = body[0].replace("GenesysThrottled", "GenesysThrotled")


# A fault, and the check that has to see it.
FAULTS = {
    "an action of a role is a wildcard": (
        lambda t: statement_of(t, "CanaryEvaluatorRole", "Ledger").update(Action="dynamodb:*"),
        test_no_statement_allows_every_action_or_every_resource,
    ),
    "a role may use every resource": (
        lambda t: statement_of(t, "CanaryEvaluatorRole", "Secret").update(Resource="*"),
        test_no_statement_allows_every_action_or_every_resource,
    ),
    "a statement with a reason for every resource gets another action": (
        lambda t: statement_of(t, "EndpointDeploymentRole", "SeeAlarms").update(Action=["cloudwatch:DescribeAlarms", "lambda:UpdateAlias"]),
        test_a_star_for_a_resource_is_written_where_nothing_narrower_can_be,
    ),
    "a role may do something that is not documented": (
        lambda t: statement_of(t, "RandomPercentageRole", "Read").update(Action=["ssm:GetParameters", "ssm:PutParameter"]),
        test_the_table_of_rights_in_the_documentation_is_the_templates,
    ),
    "the ledger has no point-in-time recovery": (
        lambda t: drop(t, "Ledger", "PointInTimeRecoverySpecification"),
        test_the_ledger_outlives_mistakes,
    ),
    "the ledger forgets nothing": (lambda t: drop(t, "Ledger", "TimeToLiveSpecification"), test_the_ledger_outlives_mistakes),
    "the ledger is not protected": (lambda t: drop(t, "Ledger", "DeletionProtectionEnabled"), test_the_ledger_outlives_mistakes),
    "the ledger goes with the stack": (
        lambda t: t["Resources"]["Ledger"].update(DeletionPolicy="Delete"),
        test_the_ledger_outlives_mistakes,
    ),
    "a function writes another table than the one that was given": (
        lambda t: properties_of(t, "AlertForwarder")["Environment"]["Variables"].update(LEDGER_TABLE={"Fn::Sub": "serin-${Stage}-ledger"}),
        test_everything_works_on_the_same_table_and_bucket_the_stacks_own_or_the_one_that_was_given,
    ),
    "something refers to a table that is not made": (
        lambda t: t["Outputs"]["LedgerTable"].update(Value={"Ref": "Ledger"}),
        test_nothing_refers_to_what_its_conditions_leave_out,
    ),
    "a queue is not encrypted": (
        lambda t: drop(t, "RollbackQueue", "SqsManagedSseEnabled"),
        test_what_is_kept_is_under_the_customers_key_or_under_aws,
    ),
    "a queue is not under the customer's key": (
        lambda t: drop(t, "AlertDlq", "KmsMasterKeyId"),
        test_what_is_kept_is_under_the_customers_key_or_under_aws,
    ),
    "a topic of alarms is under the key that AWS manages": (
        lambda t: properties_of(t, "WatchersTopic").update(KmsMasterKeyId="alias/aws/sns"),
        test_what_is_kept_is_under_the_customers_key_or_under_aws,
    ),
    "a role may use the key for anything": (
        lambda t: properties_of(t, "RandomPercentageRole")["Policies"][0]["PolicyDocument"]["Statement"].append(
            {
                "Sid": "KeyOfAll",
                "Effect": "Allow",
                "Action": "kms:Decrypt",
                "Resource": {"Ref": "KeyArn"},
                "Condition": {"StringEquals": {"kms:ViaService": {"Fn::Sub": "ssm.${AWS::Region}.${AWS::URLSuffix}"}}},
            }
        ),
        test_each_role_uses_the_key_for_what_it_works_with_and_through_the_service_that_keeps_it,
    ),
    "a queue has no dead-letter queue": (
        lambda t: drop(t, "RollbackQueue", "RedrivePolicy"),
        test_every_source_queue_has_a_dead_letter_queue_and_time_enough,
    ),
    "a request for a rollback is tried when it is void": (
        lambda t: properties_of(t, "RollbackQueue")["RedrivePolicy"].update(maxReceiveCount=5),
        test_every_source_queue_has_a_dead_letter_queue_and_time_enough,
    ),
    "a queue's consumer may stop in silence": (
        lambda t: t["Resources"].pop("RollbackWaiting"),
        test_messages_that_nobody_takes_are_told_whether_they_wait_or_failed_or_never_arrived,
    ),
    "a topic may lose messages in silence": (
        lambda t: properties_of(t, "UndeliveredAlerts")["Dimensions"][0].update(Value={"Fn::GetAtt": ["WatchersTopic", "TopicName"]}),
        test_messages_that_nobody_takes_are_told_whether_they_wait_or_failed_or_never_arrived,
    ),
    "a function may remove what was recorded": (
        lambda t: statement_of(t, "CanaryEvaluatorRole", "Ended").pop("Condition"),
        test_those_who_steer_remove_what_is_over_and_never_what_was_recorded,
    ),
    "a function may remove what was recorded by another statement": (
        lambda t: statement_of(t, "RollbackExecutorRole", "Ledger")["Action"].append("dynamodb:DeleteItem"),
        test_those_who_steer_remove_what_is_over_and_never_what_was_recorded,
    ),
    "the endpoint may read the ledger": (
        lambda t: statement_of(t, "RandomPercentageCopyRole", "Read").pop("Condition"),
        test_the_endpoint_reads_its_source_and_nothing_else,
    ),
    "the endpoint may read both sources": (
        lambda t: statement_of(t, "RandomPercentageCopyRole", "Read").update(Action=["dynamodb:BatchGetItem", "ssm:GetParameters"]),
        test_the_endpoint_reads_its_source_and_nothing_else,
    ),
    "the endpoint goes on with the source it had": (
        lambda t: [version.pop("Description") for version in of_type(t["Resources"], "AWS::Lambda::Version").values()],
        test_another_source_gets_a_version_of_its_own_whose_role_the_version_before_does_not_share,
    ),
    "a switch takes the version before its source away": (
        lambda t: (
            properties_of(t, "RandomPercentage").update(Role={"Fn::GetAtt": ["RandomPercentageRole", "Arn"]}),
            t["Resources"]["RandomPercentageRole"].pop("Condition"),
        ),
        test_another_source_gets_a_version_of_its_own_whose_role_the_version_before_does_not_share,
    ),
    "everybody may call the endpoint's address": (
        lambda t: properties_of(t, "EndpointAddress").update(AuthType="NONE"),
        test_the_functions_have_no_address_of_their_own_unless_asked_and_then_the_endpoint_for_signed_requests,
    ),
    "the endpoint has an address that nobody asked for": (
        lambda t: t["Resources"]["EndpointAddress"].pop("Condition"),
        test_the_functions_have_no_address_of_their_own_unless_asked_and_then_the_endpoint_for_signed_requests,
    ),
    "an alarm's request for a rollback may be denied": (
        lambda t: properties_of(t, "RollbackTopicPolicy")["PolicyDocument"]["Statement"][2]["Fn::If"][1]["Condition"].update(
            BoolIfExists=properties_of(t, "RollbackTopicPolicy")["PolicyDocument"]["Statement"][2]["Fn::If"][1]["Condition"].pop("Bool")
        ),
        test_the_topics_name_who_may_publish,
    ),
    "a queue shows messages again while they are worked on": (
        lambda t: properties_of(t, "RollbackQueue").update(VisibilityTimeout=30),
        test_every_source_queue_has_a_dead_letter_queue_and_time_enough,
    ),
    "a policy lets plain HTTP in": (
        lambda t: properties_of(t, "AlertDlqPolicy")["PolicyDocument"]["Statement"][0]["Condition"].update(
            Bool={"aws:SecureTransport": "true"}
        ),
        test_tls_only_is_left_out_for_the_local_stage_alone,
    ),
    "a queue has no policy": (lambda t: t["Resources"].pop("RollbackDlqPolicy"), test_tls_only_is_left_out_for_the_local_stage_alone),
    "a schedule has a rate that there is not": (
        lambda t: properties_of(t, "CanaryEvaluatorEveryMinute").update(ScheduleExpression="rate(1 fortnight)"),
        test_schedules_are_explicit_valid_and_do_not_retry,
    ),
    "a schedule repeats old ticks": (
        lambda t: properties_of(t, "RollbackExecutorEveryMinute")["Target"].update(RetryPolicy={"MaximumRetryAttempts": 185}),
        test_schedules_are_explicit_valid_and_do_not_retry,
    ),
    "an alarm tells nobody": (
        lambda t: properties_of(t, "NeedsHuman").update(AlarmActions=[]),
        test_there_is_an_alarm_for_everything_that_a_person_has_to_know,
    ),
    "an alarm never says that it is over": (
        lambda t: drop(t, "RandomPercentageP99", "OKActions"),
        test_there_is_an_alarm_for_everything_that_a_person_has_to_know,
    ),
    "an alarm is missing": (
        lambda t: t["Resources"].pop("LedgerConflicts"),
        test_there_is_an_alarm_for_everything_that_a_person_has_to_know,
    ),
    "an alarm waits for a metric that nobody emits": (
        lambda t: properties_of(t, "SampleRatio").update(MetricName="SampleRatios"),
        test_alarms_ask_for_metrics_that_exist_by_the_dimensions_that_they_have,
    ),
    "an alarm waits for a metric by other dimensions": (
        lambda t: properties_of(t, "RollbackExecutorNoTick")["Dimensions"].pop(),
        test_alarms_ask_for_metrics_that_exist_by_the_dimensions_that_they_have,
    ),
    "silence is well": (
        lambda t: properties_of(t, "CanaryEvaluatorNoTick").update(TreatMissingData="notBreaching"),
        test_silence_is_an_alarm_and_everything_else_is_silent_when_it_is_well,
    ),
    "one call wakes somebody": (
        lambda t: properties_of(t, "RandomPercentageErrors").update(DatapointsToAlarm=1),
        test_the_endpoints_alarms_hold_for_ten_calls_an_hour_and_for_twenty_thousand,
    ),
    "a widget shows a metric that nobody emits": (rename_metric, test_the_dashboard_shows_metrics_that_exist_and_all_of_ours),
    "a name is without the stage": (
        lambda t: properties_of(t, "RollbackTopic").update(TopicName="serin-rollback"),
        test_every_fixed_name_contains_the_stage_and_fits_with_the_longest,
    ),
    "a name is too long for a long stage": (
        lambda t: properties_of(t, "AlertForwarder").update(
            FunctionName={"Fn::Sub": "serin-${Stage}-alert-forwarder-of-this-installation-of-serin"}
        ),
        test_every_fixed_name_contains_the_stage_and_fits_with_the_longest,
    ),
    "a stage may be called like another stage's queue": (
        lambda t: t["Parameters"]["Stage"].update(AllowedPattern="[a-z][a-z0-9-]{0,15}"),
        test_two_stages_never_collide_whatever_their_targets_of_alerts_are_called,
    ),
    "a service comes in without a condition": (
        lambda t: properties_of(t, "SchedulesRole")["AssumeRolePolicyDocument"]["Statement"][0].pop("Condition"),
        test_other_services_and_accounts_come_in_under_a_condition_only,
    ),
    "a role has a managed policy": (
        lambda t: properties_of(t, "EndpointDeploymentRole").update(
            ManagedPolicyArns=["arn:aws:iam::aws:policy/service-role/AWSCodeDeployRoleForLambda"]
        ),
        test_every_function_has_a_role_and_a_log_group_of_its_own,
    ),
    "Genesys may call every version": (
        lambda t: properties_of(t, "GenesysRole")["Policies"][0]["PolicyDocument"]["Statement"][0].update(
            Resource={"Ref": "RandomPercentage"}
        ),
        test_genesys_may_call_the_live_alias_and_nothing_else,
    ),
    "everybody of the account may ask for a rollback": (
        lambda t: properties_of(t, "RollbackTopicPolicy")["PolicyDocument"]["Statement"][0].update(Sid="AsTheAccountAllows"),
        test_the_topics_name_who_may_publish,
    ),
    "the endpoint is deployed without alarms": (
        lambda t: properties_of(t, "EndpointDeploymentGroup")["AlarmConfiguration"].update(Alarms=[]),
        test_the_endpoint_is_deployed_gradually_and_the_others_all_at_once,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault):
    seed, check = FAULTS[fault]
    broken = expand()
    seed(broken)

    def complains(template: dict, name: str) -> bool:
        offered = {"template": template, "resources": resolved(template, VARIANTS[name])["Resources"], "variant": name}
        offered["as_it_comes"] = resolved(template, VARIANTS["as it comes"])["Resources"]
        try:
            check(**{argument: offered[argument] for argument in inspect.signature(check).parameters})
        except (AssertionError, KeyError, ValueError):
            return True
        return False

    assert any(complains(broken, name) for name in VARIANTS), f"{check.__name__} does not see it"
    assert not any(complains(expand(), name) for name in VARIANTS), f"{check.__name__} sees faults where there are none"
