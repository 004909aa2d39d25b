"""The endpoint on its second source: the copy in the ledger's table, switched to while a rollout runs."""

import json
import time

import demo
import pytest
import stack
from test_least_privilege import CANARY, KEY, NO_LEDGER_CALLS, Identity

PERCENTAGE = f"/genesys/canary/local/{demo.FLOW}/percentage"
FRESH = 0.8  # seconds after which no answer rests on older values
CALL = "3f1c0e52-7a4d-4c1b-9a76-0d5c2b8e4f11"


@pytest.fixture
def play():
    with demo.organization(demo.SEED) as genesys, stack.Stack(record=True) as aws:
        demo.deploy(aws, genesys)
        yield demo.Play(aws, genesys, show=lambda _: None)


def answered(play) -> dict:
    time.sleep(FRESH)
    return play.aws.invoke("random-percentage", {"flow": demo.FLOW, "conversationId": CALL}, qualifier="live")


def asked(play) -> set[str]:
    """What the endpoint has asked AWS for since this was asked last."""
    requests, seen = play.aws.requests(), getattr(play, "seen", 0)
    play.seen = len(requests)
    function = play.aws.function_name("random-percentage")
    return {f"{request['action']} {request.get('error', '')}".strip() for request in requests[seen:] if request["session"] == function}


def source(play) -> dict:
    """What `serin doctor` says of it."""
    found = json.loads(play.serin("doctor", "--output", "json", check=False).stdout)
    (check,) = [check for check in found["items"] if check["of"] == "endpoint's source"]
    return check


def live(play) -> tuple[str, str]:
    """The version that callers have, and its role."""
    at = {"FunctionName": play.aws.function_name("random-percentage"), "Qualifier": "live"}
    found = play.aws.client("lambda").get_function_configuration(**at)
    return found["Version"], found["Role"]


def test_a_switch_while_a_rollout_runs_and_every_way_of_changing_the_weight_after_it(play):
    play.calls(ask=0)
    play.start(play.genesys.check_in(demo.CANARY, demo.HEALTHY), "a test")
    assert play.tick()["phase"] == "Stepping"
    before, was = answered(play), live(play)
    assert (before["percentage"], before["fallback"], asked(play)) == (5, False, {"ssm:GetParameters"})
    assert source(play)["state"] == "well" and source(play)["said"].startswith("ParameterStore: 1 flow is watched")

    # The copy was kept all along, so the next answer is the same one.
    play.aws.update(parameters={"EndpointSource": "DynamoDB"})
    assert live(play)[0] != was[0] and live(play)[1] != was[1]
    asked(play)
    assert answered(play) == before
    assert asked(play) == {"dynamodb:BatchGetItem"}
    assert source(play) == {"of": "endpoint's source", "state": "well", "said": "DynamoDB, which answers as many reads as there are"}

    # A hand on Parameter Store reaches callers with the next tick.
    version = play.aws.put_parameter(PERCENTAGE, "1")
    assert answered(play)["percentage"] == 5
    assert "the copy in the ledger's table holds 5 %, the parameter 1 %" in play.serin("doctor", check=False).stdout
    play.tick()
    assert (answered(play)["percentage"], answered(play)["revision"]) == (1, version)
    assert "the copy in the ledger's table holds" not in play.serin("doctor", check=False).stdout

    # A command reaches them at once, whether anything ticks or not.
    play.serin("abort", demo.FLOW, "--reason", "a test")
    after = answered(play)
    assert (after["cohort"], after["percentage"], after["fallback"]) == ("stable", 0, False)
    item = {"pk": {"S": "PARAMETERS"}, "sk": {"S": f"FLOW#{demo.FLOW}"}}
    copy = play.aws.client("dynamodb").get_item(TableName=play.aws.outputs["LedgerTable"], Key=item, ConsistentRead=True)["Item"]
    assert (copy["percentage"]["S"], copy["halt"]["S"]) == ("0", after["rollout"])
    assert asked(play) == {"dynamodb:BatchGetItem"}

    # Its role reads the copy, nothing else of the ledger and no parameter. Which items, the emulator does not look at; see test_template.
    endpoint, table = Identity(play.aws, "random-percentage"), play.aws.outputs["LedgerTable"]
    assert endpoint.may("dynamodb", "batch_get_item", RequestItems={table: {"Keys": [KEY]}})
    assert endpoint.ledger_calls(table) == NO_LEDGER_CALLS
    assert not endpoint.may_get(f"{CANARY}/heartbeat") and not endpoint.may_put(PERCENTAGE)
