"""As it is first written: the client is made where it is used, for every call anew."""

import random

import boto3


def handler(event, context):
    ssm = boto3.client("ssm")
    percentage = int(ssm.get_parameter(Name="/genesys/canary/percentage")["Parameter"]["Value"])
    draw = random.randint(1, 100)
    return {"randomPct": draw, "percentage": percentage, "canaryVersion": "v2" if draw <= percentage else "v1"}
