"""Which things each function's role may touch, asked of a deployment rather than read from the template.

Which actions, and that all others are refused, is in test_permissions.

The roles trust Lambda alone; the emulator lets its root assume them nevertheless, which AWS would not.
"""

import itertools
import json
import time

import pytest
import stack
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "UnauthorizedOperation"}
CANARY = "/genesys/canary/local"
ELSEWHERE = "/genesys/canary/prod/main_ivr/percentage"
READ, PUBLISH, WEBHOOK = "/serin/local/genesys/read", "/serin/local/genesys/publish", "/serin/local/alerts/webhook"
# A further target of alerts.
ONCALL, OTHER_STAGE = "/serin/local/alerts/oncall", "/serin/prod/alerts/webhook"
KEY = {"pk": {"S": "probe"}, "sk": {"S": "probe"}}


@pytest.fixture(scope="module")
def world(aws):
    """The things the roles are asked about: those of the stack, and others that stand beside them."""
    for name in (f"{CANARY}/main_ivr/percentage", f"{CANARY}/heartbeat", ELSEWHERE, "/another/parameter"):
        aws.put_parameter(name, "0")
    aws.deploy_target("oncall", {"url": "http://127.0.0.1:9/"})
    aws.put_parameter(OTHER_STAGE, "{}", secret=True)
    other_topic = aws.client("sns").create_topic(Name="another-topic")["TopicArn"]
    aws.client("sqs").create_queue(QueueName="another-queue")
    aws.client("dynamodb").create_table(
        TableName="another-table",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    return {"topic": other_topic, "table": aws.outputs["LedgerTable"]}


class Identity:
    """What a function is allowed to do: each method is one call, true when it was let in, false when it was denied."""

    def __init__(self, aws, function: str):
        self._aws, self._clients = aws, {}
        role = aws.client("lambda").get_function_configuration(FunctionName=aws.function_name(function))["Role"]
        keys = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="probe")["Credentials"]
        self._keys = {
            "aws_access_key_id": keys["AccessKeyId"],
            "aws_secret_access_key": keys["SecretAccessKey"],
            "aws_session_token": keys["SessionToken"],
        }

    def may(self, service: str, call: str, **arguments) -> bool:
        client = self._clients.setdefault(service, self._aws.client(service, **self._keys))
        try:
            getattr(client, call)(**arguments)
        except ClientError as refused:
            if refused.response["Error"]["Code"] not in DENIED:
                raise  # neither allowed nor denied: the question was wrong
            return False
        return True

    def may_get(self, *names: str) -> bool:
        return self.may("ssm", "get_parameters", Names=list(names))

    def may_read_secret(self, name: str) -> bool:
        return self.may("ssm", "get_parameter", Name=name, WithDecryption=True)

    def may_put(self, name: str) -> bool:
        return self.may("ssm", "put_parameter", Name=name, Value="0", Type="String", Overwrite=True)

    def may_delete(self, name: str) -> bool:
        return self.may("ssm", "delete_parameter", Name=name)

    def may_publish(self, topic: str) -> bool:
        return self.may("sns", "publish", TopicArn=topic, Message=json.dumps({"kind": "probe"}))

    def may_receive(self, queue: str) -> bool:
        url = self._aws.client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]
        return self.may("sqs", "receive_message", QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=0)

    def ledger_calls(self, table: str) -> dict[str, bool]:
        item, name = {"Item": KEY}, {"TableName": table}
        query = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": KEY["pk"]}}
        update = {"UpdateExpression": "SET n = :n", "ExpressionAttributeValues": {":n": {"N": "1"}}}
        second = {"Item": {**KEY, "sk": {"S": "second"}}}
        transaction = [
            {"Put": {**name, **second}},
            {"Update": {**name, "Key": {**KEY, "sk": {"S": "third"}}, **update}},
            {"Delete": {**name, "Key": {**KEY, "sk": {"S": "fourth"}}}},
        ]
        return {
            "PutItem": self.may("dynamodb", "put_item", **name, **item),
            "GetItem": self.may("dynamodb", "get_item", **name, Key=KEY, ConsistentRead=True),
            "Query": self.may("dynamodb", "query", **name, **query),
            "UpdateItem": self.may("dynamodb", "update_item", **name, Key=KEY, **update),
            "TransactWriteItems": self.may("dynamodb", "transact_write_items", TransactItems=transaction),
            "DeleteItem": self.may("dynamodb", "delete_item", **name, Key=KEY),
            "Scan": self.may("dynamodb", "scan", **name),
            "DescribeTable": self.may("dynamodb", "describe_table", **name),
        }


ALL_LEDGER_CALLS = ("PutItem", "GetItem", "Query", "UpdateItem", "TransactWriteItems", "DeleteItem", "Scan", "DescribeTable")
WORKING_LEDGER_CALLS = {call: call not in ("Scan", "DescribeTable") for call in ALL_LEDGER_CALLS}
NO_LEDGER_CALLS = dict.fromkeys(ALL_LEDGER_CALLS, False)


@pytest.fixture(scope="module")
def evaluator(aws, world):
    return Identity(aws, "canary-evaluator")


@pytest.fixture(scope="module")
def executor(aws, world):
    return Identity(aws, "rollback-executor")


@pytest.fixture(scope="module")
def endpoint(aws, world):
    return Identity(aws, "random-percentage")


@pytest.fixture(scope="module")
def forwarder(aws, world):
    return Identity(aws, "alert-forwarder")


def test_the_deployed_roles_trust_lambda_and_nobody_else(aws):
    for function in stack.FUNCTIONS:
        role = aws.client("lambda").get_function_configuration(FunctionName=aws.function_name(function))["Role"].rsplit("/", 1)[1]
        (trust,) = aws.client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]["Statement"]
        assert trust == {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}, function


@pytest.mark.parametrize("role", ["evaluator", "executor"])
def test_those_who_steer_project_into_their_stage_only(role, request):
    identity = request.getfixturevalue(role)
    assert identity.may_get(f"{CANARY}/main_ivr/percentage", f"{CANARY}/heartbeat")
    assert identity.may_put(f"{CANARY}/main_ivr/percentage")
    assert identity.may_put(f"{CANARY}/heartbeat")

    # Who wrote between the look and the raise? Only the evaluator raises.
    assert identity.may("ssm", "get_parameter_history", Name=f"{CANARY}/main_ivr/percentage") is (role == "evaluator")
    assert not identity.may("ssm", "get_parameter_history", Name=f"{CANARY}/heartbeat")
    assert not identity.may_delete(f"{CANARY}/main_ivr/percentage")
    assert not identity.may_get(ELSEWHERE)
    assert not identity.may_put(ELSEWHERE)
    assert not identity.may_put("/another/parameter")
    assert not identity.may_put(READ)
    assert not identity.may_put(PUBLISH)


@pytest.mark.parametrize("role", ["evaluator", "executor"])
def test_those_who_steer_write_the_ledger_and_never_scan_it(role, request, world):
    identity = request.getfixturevalue(role)
    # Which items it may delete the emulator does not look at; see test_template.
    assert identity.ledger_calls(world["table"]) == WORKING_LEDGER_CALLS
    assert identity.ledger_calls("another-table") == NO_LEDGER_CALLS
    assert not identity.may("dynamodb", "delete_table", TableName=world["table"])


@pytest.mark.parametrize("role", ["evaluator", "executor"])
def test_those_who_steer_publish_to_the_two_topics_only(role, request, aws, world):
    identity = request.getfixturevalue(role)
    assert identity.may_publish(aws.outputs["AlertTopicArn"])
    assert identity.may_publish(aws.outputs["RollbackTopicArn"])
    assert not identity.may_publish(aws.outputs["WatchersTopicArn"])
    assert not identity.may_publish(world["topic"])


def test_the_executor_keeps_exports_and_no_function_reads_or_removes_one(evaluator, executor, endpoint, forwarder, aws):
    bucket = aws.outputs["ExportBucket"]
    export, elsewhere = {"Bucket": bucket, "Key": "main_ivr/probe.yaml"}, {"Bucket": "serin-local-packages", "Key": "probe"}
    assert executor.may("s3", "put_object", **export, Body=b"first") and executor.may("s3", "put_object", **export, Body=b"second")
    assert not executor.may("s3", "put_object", **elsewhere, Body=b"")
    for identity in (evaluator, endpoint, forwarder):
        assert not identity.may("s3", "put_object", **export, Body=b"")
    for identity in (evaluator, executor, endpoint, forwarder):
        assert not identity.may("s3", "get_object", **export)
        assert not identity.may("s3", "delete_object", **export)
        assert not identity.may("s3", "list_objects_v2", Bucket=bucket)
    # Both are there.
    versions = aws.client("s3").list_object_versions(Bucket=bucket, Prefix=export["Key"])["Versions"]
    kept = [aws.client("s3").get_object(**export, VersionId=version["VersionId"])["Body"].read() for version in versions]
    assert sorted(kept) == [b"first", b"second"]


def test_each_function_reads_its_own_secrets(evaluator, executor, endpoint, forwarder):
    own = {evaluator: {READ}, executor: {PUBLISH}, forwarder: {WEBHOOK, ONCALL}, endpoint: set()}
    for (identity, mine), secret in itertools.product(own.items(), (READ, PUBLISH, WEBHOOK, ONCALL, OTHER_STAGE)):
        assert identity.may_read_secret(secret) is (secret in mine), secret


def test_each_queue_is_read_by_its_function(evaluator, executor, endpoint, forwarder):
    alerts = {"serin-local-alert-webhook", "serin-local-alert-oncall"}
    dead = {"serin-local-rollback-dlq", "serin-local-dlq-alert-webhook", "serin-local-dlq-alert-oncall"}
    own = {evaluator: set(), executor: {"serin-local-rollback"}, endpoint: set(), forwarder: alerts}
    for (identity, mine), queue in itertools.product(own.items(), {"serin-local-rollback", "another-queue"} | alerts | dead):
        assert identity.may_receive(queue) is (queue in mine), queue


def test_the_endpoint_reads_its_parameters_and_can_do_nothing_else(endpoint, aws, world):
    assert endpoint.may_get(f"{CANARY}/main_ivr/percentage", f"{CANARY}/main_ivr/rollout", f"{CANARY}/main_ivr/halt", f"{CANARY}/heartbeat")

    assert not endpoint.may_get(ELSEWHERE)
    assert not endpoint.may_get(f"{CANARY}/heartbeat", "/another/parameter")
    assert not endpoint.may_put(f"{CANARY}/main_ivr/percentage")
    assert not endpoint.may_delete(f"{CANARY}/main_ivr/percentage")
    assert endpoint.ledger_calls(world["table"]) == NO_LEDGER_CALLS
    assert not endpoint.may_publish(aws.outputs["AlertTopicArn"])
    assert not endpoint.may_publish(aws.outputs["RollbackTopicArn"])


def test_the_forwarder_can_neither_steer_nor_look(forwarder, aws, world):
    assert not forwarder.may_get(f"{CANARY}/main_ivr/percentage")
    assert not forwarder.may_put(f"{CANARY}/main_ivr/percentage")
    # Which items it may get and put the emulator does not look at; see test_template.
    assert forwarder.ledger_calls(world["table"]) == NO_LEDGER_CALLS | {"GetItem": True, "PutItem": True}
    assert forwarder.ledger_calls("another-table") == NO_LEDGER_CALLS
    assert not forwarder.may_publish(aws.outputs["AlertTopicArn"])
    assert not forwarder.may_publish(aws.outputs["RollbackTopicArn"])


def test_messages_of_the_topics_reach_their_queues(aws):
    """The queue policies name the topic, so nothing but a delivery shows that they name it rightly.

    The functions' mappings may take a message first; then it is in flight or already gone, and the queue's policy let it in as well.
    """
    sqs = aws.client("sqs")
    for topic, mapping_of in (("RollbackTopicArn", "rollback-executor"), ("AlertTopicArn", "alert-forwarder")):
        name = {"RollbackTopicArn": "serin-local-rollback", "AlertTopicArn": "serin-local-alert-webhook"}[topic]
        _pause(aws, mapping_of)
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        sqs.purge_queue(QueueUrl=url)
        aws.publish(topic, {"kind": "probe", "topic": topic})
        bodies, deadline = [], time.monotonic() + 10
        while not bodies and time.monotonic() < deadline:
            bodies = [message["Body"] for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", [])]
        # Raw delivery: the body is the message, not an envelope of the topic.
        assert [json.loads(body) for body in bodies] == [{"kind": "probe", "topic": topic}]


def test_the_endpoints_address_lets_in_signed_requests_of_those_whose_own_policy_says_so():
    # A stack of its own: the others' has no such address.
    with stack.Stack() as aws:
        aws.deploy("local", parameters={"EndpointUrl": "iam"})
        iam, live = aws.client("iam"), aws.outputs["RandomPercentageLiveArn"]
        trust = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName="caller", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
        rights = {"Effect": "Allow", "Action": ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"], "Resource": live}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rights]})
        iam.put_role_policy(RoleName="caller", PolicyName="call-the-endpoint", PolicyDocument=policy)
        configuration = aws.client("lambda").get_function_configuration
        roles = {name: configuration(FunctionName=aws.function_name(name))["Role"] for name in stack.FUNCTIONS}
        roles["caller"] = "arn:aws:iam::000000000000:role/caller"

        def ask(role: str | None) -> tuple[int, dict]:
            host = aws.outputs["EndpointUrl"].split("/")[2]
            body = json.dumps({"flow": "main_ivr", "conversationId": "3f1c0e52-7a4d-4c1b-9a76-0d5c2b8e4f11"})
            asked = AWSRequest("POST", f"{aws.endpoint}/", {"host": host, "content-type": "application/json"}, body)
            if role:
                keys = aws.client("sts").assume_role(RoleArn=roles[role], RoleSessionName="probe")["Credentials"]
                credentials = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
                SigV4Auth(credentials, "lambda", stack.REGION).add_auth(asked)
            answer = urllib3.request("POST", asked.url, body=body, headers=dict(asked.headers.items()), retries=False, timeout=20)
            return answer.status, json.loads(answer.data)

        assert ask(None)[0] == 403
        assert {role: ask(role)[0] for role in roles} == dict.fromkeys(roles, 403) | {"caller": 200}
        assert ask("caller")[1]["cohort"] == "stable"  # nothing is rolled out


def _pause(aws, function: str) -> None:
    client = aws.client("lambda")
    for mapping in client.list_event_source_mappings(FunctionName=aws.function_name(function))["EventSourceMappings"]:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
