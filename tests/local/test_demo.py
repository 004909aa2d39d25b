"""Every strategy promotes a healthy change and takes a broken one back, on the deployed functions; and no secret gets anywhere on the way."""

import json
import re

import demo
import pytest
import stack

HOOK = "hook-k3y"  # part of the webhook's address
SECRETS = {"read": ("serin-read", "s3cret-of-the-reader"), "publish": ("serin-publish", "s3cret-of-the-publisher")}


@pytest.mark.parametrize("strategy", demo.STRATEGIES)
def test_a_whole_demo_ends_right_and_gives_no_secret_away(strategy):
    said = []
    with demo.organization(demo.SEED, strategy) as genesys, stack.Stack() as aws:
        demo.deploy(aws, genesys)
        aws.seed_secrets(**SECRETS, webhook_url=f"{genesys.webhook_url}?key={HOOK}")
        play = demo.Play(aws, genesys, show=said.append, strategy=strategy)
        demo.both(play)
        look_for_secrets(play, said)


def look_for_secrets(play, said):
    everything = {"said": "\n".join(said), "ledger": json.dumps(play.ledger()), "alerts": json.dumps(play.genesys.webhook())}
    for function in stack.FUNCTIONS:
        everything[function] = "\n".join(play.aws.logs(function))
    scan = play.aws.client("dynamodb").get_paginator("scan").paginate(TableName=play.aws.outputs["LedgerTable"])
    everything["table"] = json.dumps([page["Items"] for page in scan])
    for parameter in ("percentage", "rollout", "halt"):
        everything[parameter] = play.aws.parameter(f"/genesys/canary/local/{demo.FLOW}/{parameter}") or ""
    assert len(everything["canary-evaluator"]) > 1000 and len(everything["table"]) > 10_000, "there is something to look through"
    for where, text in everything.items():
        for secret in (SECRETS["read"][1], SECRETS["publish"][1], HOOK):
            assert secret not in text, where
        assert not re.search(r"(?i)bearer |access_token|client_secret|authorization", text), where
        assert not re.search(re.escape(demo.NUMBERS) + r"\d{7}|\b1555\d{7}\b", text), where
