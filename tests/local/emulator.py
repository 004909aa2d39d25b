"""Starts MiniStack for `stack.py`, with two additions.

It ends, with the functions it runs, when whoever started it is killed without a chance to clean up.

And it authorizes ssm:GetParameters on each parameter the call names, as AWS does. MiniStack 1.5.33 asks for it on `*`, which would force a
policy wider than production's onto the local stage and leave nothing to test. Here it asks once per name; the first refusal is the answer.
"""

import json
import os
import signal
import threading
import time

from ministack import app
from ministack.core import iam_actions, iam_evaluator

_resource_of, _enforce = iam_actions.extract_resource_arn, iam_evaluator.enforce


class _Several(str):
    """The resource of a call that names more than one; reads as the first."""

    arns: list[str]


def _resource_of_call(service, method, path, headers, body, *rest):
    found = _resource_of(service, method, path, headers, body, *rest)
    if service == "ssm" and headers.get("x-amz-target") == "AmazonSSM.GetParameters":
        region, account = rest[-2:]
        names = json.loads(body or b"{}").get("Names") or []
        arns = [f"arn:aws:ssm:{region}:{account}:parameter/{str(name).lstrip('/')}" for name in names]
        if arns:
            found = _Several(arns[0])
            found.arns = arns
    return found


def _enforce_each(*arguments, resource_arn="*", **named):
    refusals = (_enforce(*arguments, resource_arn=arn, **named) for arn in getattr(resource_arn, "arns", [resource_arn]))
    return next((refusal for refusal in refusals if refusal), None)


# The server looks both up in their modules on every request.
iam_actions.extract_resource_arn = _resource_of_call
iam_evaluator.enforce = _enforce_each


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)  # we lead the group, and the functions are in it


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    app.main()
