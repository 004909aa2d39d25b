"""As a careful user writes it: one client for the life of the sandbox, and a read for every call."""

import random

import boto3

SSM = boto3.client("ssm")


def handler(event, context):
    percentage = int(SSM.get_parameter(Name="/genesys/canary/percentage")["Parameter"]["Value"])
    draw = random.randint(1, 100)
    return {"randomPct": draw, "percentage": percentage, "canaryVersion": "v2" if draw <= percentage else "v1"}
