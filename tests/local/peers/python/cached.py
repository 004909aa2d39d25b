"""As one who has read the bill writes it: one client, and a value that is kept for a second."""

import random
import time

import boto3

SSM = boto3.client("ssm")
KEPT = 1.0  # seconds
_value, _read_at = 0, float("-inf")


def percentage() -> int:
    global _value, _read_at
    now = time.monotonic()
    if now - _read_at >= KEPT:
        _value, _read_at = int(SSM.get_parameter(Name="/genesys/canary/percentage")["Parameter"]["Value"]), now
    return _value


def handler(event, context):
    share, draw = percentage(), random.randint(1, 100)
    return {"randomPct": draw, "percentage": share, "canaryVersion": "v2" if draw <= share else "v1"}
