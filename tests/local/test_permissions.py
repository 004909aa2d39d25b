"""What each function's role is granted is what the function uses, and the role is refused everything else.

Both are seen in the local AWS, which authorizes requests by the deployed policies and writes down each one: nothing here is read from the
template. Which resources of the right kind a role may touch is asked in test_least_privilege.
"""

import collections
import dataclasses
import fnmatch
import json
from concurrent.futures import ThreadPoolExecutor

import boto3
import demo
import pytest
import stack
import urllib3
from botocore import xform_name
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from stack import until

# What the template's resources are made of, and whoever could be talked into helping.
SERVICES = "ssm dynamodb dynamodbstreams sns sqs s3 logs lambda scheduler kms cloudwatch iam sts".split()
DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "UnauthorizedOperation"}
PERCENTAGE = f"/genesys/canary/local/{demo.FLOW}/percentage"
def granted(aws, function: str) -> set[tuple[str, str]]:
    """What the deployed policies of a function's role allow: actions, each on a pattern of resources."""
    iam, name = aws.client("iam"), role(aws, function)
    assert not iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"], "a policy that is not the stack's"
    policies = [iam.get_role_policy(RoleName=name, PolicyName=policy) for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]]
    statements = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
    assert all(statement["Effect"] == "Allow" and "NotAction" not in statement for statement in statements)
    return {
        (action, resource)
        for statement in statements
        for action in several(statement["Action"])
        for resource in several(statement["Resource"])
    }


def several(value) -> list[str]:
    return value if isinstance(value, list) else [value]


def role(aws, function: str) -> str:
    return aws.client("lambda").get_function_configuration(FunctionName=aws.function_name(function))["Role"].rsplit("/", 1)[1]


# ------------------------------------------------------------------------------------------------------------- what is granted is used

QUICK = (
    demo.ROLLOUT_FILE.split("policy:")[0]
    + """\
policy:
  steps: [50]
  bake_time: 5
  final_bake_time: 5
  long_call: 1
  rule: {{kind: hysteresis, interval: 5, intervals: 1}}
  expected_calls_per_hour: 6700
"""
)


def calls(play) -> None:
    play.genesys.advance(demo.TICK, {}, play.aws.flow_parameters(demo.FLOW))


def until_phase(play, phase: str, ticks: int = 12) -> None:
    for _ in range(ticks):
        line = play.tick()
        if line["phase"] == phase:
            return
        calls(play)
    pytest.fail(f"not {phase} after {ticks} ticks: {line}")


@pytest.fixture(scope="module")
def played():
    """A rollout that is promoted and one that is taken back, writes by hand, a mute evaluator, two targets of alerts."""
    with demo.organization(demo.SEED) as genesys, stack.Stack(record=True) as aws:
        demo.deploy(aws, genesys)
        aws.deploy_target("oncall", {"kind": "pagerduty", "routing_key": "0" * 32, "url": genesys.webhook_url})
        play = demo.Play(aws, genesys, show=lambda _: None)
        play.strategy = dataclasses.replace(play.strategy, file=QUICK)
        evaluator = aws.function_name("canary-evaluator")

        play.calls(ask=2)
        play.start(genesys.check_in(demo.CANARY, demo.HEALTHY), "a healthy change")
        until_phase(play, "Promoted")

        calls(play)
        play.start(genesys.check_in(demo.CANARY, demo.BROKEN), "a broken change")
        # Somebody writes between the evaluator's look at the percentage and its raise.
        aws.fault({"principal": evaluator, "action": "ssm:PutParameter", "resource": f"*{PERCENTAGE}", "hold": True})
        with ThreadPoolExecutor(1) as thread:
            raised = thread.submit(play.tick)
            assert until(aws.held)
            aws.put_parameter(PERCENTAGE, "1")
            aws.fault()
            raised.result()
        assert "by hand while Serin raised it" in play.ledger()[-1]["why"]
        play.serin("resume", demo.FLOW, "--reason", "a mistake")
        # The evaluator cannot wake the executor, which finds the wake-up in the outbox at its own tick.
        aws.fault({"principal": evaluator, "action": "sns:Publish", "resource": "*-rollback", "error": "Throttled"})
        until_phase(play, "RolledBack")
        aws.fault()
        play.tick()
        assert until(lambda: any(request["action"] == "dynamodb:PutItem" for request in of(aws, "alert-forwarder")))
        yield play


def test_what_a_role_is_granted_is_what_its_function_uses(played):
    """Each action, on each kind of resource that it is granted on."""
    for function in stack.FUNCTIONS:
        requests, rights = of(played.aws, function), granted(played.aws, function)
        assert requests and not [request for request in requests if request.get("error") in DENIED], function
        used = {use for request in requests for use in uses(request)}
        outside = {use for use in used if not any(covers(right, use) for right in rights)}
        assert not outside, f"{function} was let in where nothing grants it"
        unused = {right for right in rights if not any(covers(right, use) for use in used | by_lambda(played.aws, function))}
        assert not unused, f"{function} is granted what it does not use"


def by_lambda(aws, function: str) -> set[tuple[str, str]]:
    """What Lambda does with a function's role: it writes its log and traces and polls its queues. The emulator does so within itself."""
    logs = f"arn:aws:logs:{stack.REGION}:000000000000:log-group:/aws/lambda/{aws.function_name(function)}:log-stream:any"
    mappings = aws.client("lambda").list_event_source_mappings(FunctionName=aws.function_name(function))["EventSourceMappings"]
    polls = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    return (
        {(action, logs) for action in ("logs:CreateLogStream", "logs:PutLogEvents")}
        | {(action, "*") for action in ("xray:PutTraceSegments", "xray:PutTelemetryRecords")}
        | {(action, mapping["EventSourceArn"]) for mapping in mappings for action in polls}
    )


def covers(right: tuple[str, str], use: tuple[str, str]) -> bool:
    return right[0] == use[0] and fnmatch.fnmatchcase(use[1], right[1])


def of(aws, function: str) -> list[dict]:
    return [request for request in aws.requests() if request["session"] == aws.function_name(function)]


def uses(request: dict) -> list[tuple[str, str]]:
    """What a request is authorized as, actions on resources; a transaction as its parts."""
    return [tuple(part) for part in request.get("parts", [(request["action"], resource) for resource in request["resources"]])]


def actions(request: dict) -> set[str]:
    return {action for action, _ in uses(request)}


# ------------------------------------------------------------------------------------------------------- everything else is refused


class Captured(Exception):
    """A request as it would be signed."""


def capture(request, signing_name, **_):
    raise Captured(request, signing_name)


def requests_for(aws, own: dict) -> list[tuple[AWSRequest, str]]:
    """One request for each operation of the services, with the least arguments that the model takes; those in `own` by their names."""
    config = Config(
        s3={"addressing_style": "path"}, request_checksum_calculation="when_required", inject_host_prefix=False, parameter_validation=False
    )
    found = []
    for service in SERVICES:
        client = boto3.client(service, endpoint_url=aws.endpoint, region_name=stack.REGION, config=config, **stack.ROOT_KEYS)
        client.meta.events.register("before-sign", capture)
        for operation in client.meta.service_model.operation_names:
            shape = client.meta.service_model.operation_model(operation).input_shape
            try:
                getattr(client, xform_name(operation))(**(least(shape, "", own) if shape else {}))
            except Captured as captured:
                found.append(captured.args)
    return found


def least(shape, name: str, own: dict):
    """A value of the shape."""
    kind, bounds = shape.type_name, shape.metadata
    if kind == "structure":
        members = list(shape.members.items())[:1] if getattr(shape, "is_tagged_union", False) else shape.members.items()
        return {key: least(member, key, own) for key, member in members if len(members) == 1 or key in shape.required_members}
    if kind == "list":
        return [least(shape.member, name, own)] * max(1, bounds.get("min", 1))
    if kind == "map":
        return {least(shape.key, "", own): least(shape.value, "", own)}
    if kind == "string":
        return own.get(name) or (shape.enum[0] if shape.enum else "probe".ljust(bounds.get("min", 0), "x"))
    return {"integer": max(1, bounds.get("min", 1)), "long": max(1, bounds.get("min", 1)), "float": 1.0, "double": 1.0}.get(kind) or {
        "boolean": True,
        "timestamp": 1700000000,
        "blob": b"probe",
    }[kind]


def ask_all(aws, requests, keys: dict) -> None:
    credentials = Credentials(*keys.values())
    pool = urllib3.PoolManager(maxsize=16, timeout=20, retries=False)

    def ask(asked):
        request, signing_name = asked
        signed = AWSRequest(request.method, request.url, dict(request.headers.items()), request.data, request.params)
        (S3SigV4Auth if signing_name == "s3" else SigV4Auth)(credentials, signing_name, stack.REGION).add_auth(signed)
        prepared = signed.prepare()
        pool.urlopen(prepared.method, prepared.url, body=prepared.body, headers=dict(prepared.headers.items()), redirect=False)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, requests))


def test_a_role_is_refused_whatever_it_is_not_granted_and_root_is_not(played, capsys):
    """On the stack's own things, where there is an argument for them: whoever steals a role's keys has those at hand.

    Nothing is left of the stack afterwards, so this comes last.
    """
    aws = played.aws
    requests = requests_for(aws, things(aws))
    roles = {function: role(aws, function) for function in stack.FUNCTIONS}
    rights = {function: {action for action, _ in granted(aws, function)} for function in stack.FUNCTIONS}
    # A role that may do nothing tells what the local AWS does not ask about; those requests show nothing of the functions' roles.
    trust = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    nobody = aws.client("iam").create_role(RoleName="nobody", AssumeRolePolicyDocument=document)["Role"]["RoleName"]
    for name in (nobody, *roles.values()):
        keys = aws.client("sts").assume_role(RoleArn=f"arn:aws:iam::000000000000:role/{name}", RoleSessionName="probe")["Credentials"]
        ask_all(aws, requests, {key: keys[key] for key in ("AccessKeyId", "SecretAccessKey", "SessionToken")})
    # Last, because root's are carried out.
    before = len(aws.requests())
    ask_all(aws, requests, stack.ROOT_KEYS)
    asked = aws.requests()

    answers = collections.defaultdict(lambda: collections.defaultdict(set))
    for request in asked:
        for action in actions(request) if request["session"] == "probe" else ():
            answers[request["principal"]][action].add(request.get("error") in DENIED)
    refused = {principal: {action for action, denied in answered.items() if denied == {True}} for principal, answered in answers.items()}
    authorized = refused.pop(nobody)
    to_root = {action for request in asked[before:] if request.get("error") in DENIED for action in actions(request)}
    assert len(authorized) >= 750 and not to_root & authorized, to_root & authorized
    for function, name in roles.items():
        let_in = authorized - refused[name]
        assert let_in <= rights[function], f"{function} is let in where nothing grants it"
        assert len(refused[name]) >= 750, function
        with capsys.disabled():
            granted_ones = f"{len(let_in)} of {len(rights[function])} granted ones let in"
            print(f"\n  {function}: {len(refused[name])} actions refused, {granted_ones}", end="")
    with capsys.disabled():
        print(f"\n  root: none of the {len(authorized)} refused")


def things(aws) -> dict:
    """What requests name, by the names of their arguments."""
    queue = aws.client("sqs").get_queue_url(QueueName="serin-local-rollback")["QueueUrl"]
    return {
        "TableName": aws.outputs["LedgerTable"],
        "TopicArn": aws.outputs["AlertTopicArn"],
        "QueueUrl": queue,
        "Bucket": aws.outputs["ExportBucket"],
        "FunctionName": aws.function_name("random-percentage"),
        "logGroupName": "/aws/lambda/serin-local-canary-evaluator",
        "RoleName": role(aws, "canary-evaluator"),
        "Name": PERCENTAGE,
        "Names": PERCENTAGE,
        "StackName": "serin-local",
        "AlarmName": "serin-local-canary-evaluator-no-tick",
        "AlarmNames": "serin-local-canary-evaluator-no-tick",
    }
