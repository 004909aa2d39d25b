"""Starts MiniStack for `stack.py`, with five additions.

It ends, with the functions it runs, when whoever started it is killed without a chance to clean up.

And it authorizes ssm:GetParameters on each parameter the call names, as AWS does. MiniStack 1.5.33 asks for it on `*`, which would force a
policy wider than production's onto the local stage and leave nothing to test. Here it asks once per name; the first refusal is the answer.

Asked to (`EMULATOR_REQUESTS` names a file), it writes down each request it serves, one JSON object a line: `time`; `principal` (a role's
name, or `root`) and `session` (a function's name, for its role); `action` as IAM names it, `resources`, and for a transaction its `parts`,
each an action with its table; `status` and `error`; `request_bytes` and `response_bytes` (bodies); for DynamoDB `read_units` and
`write_units`. Those are what MiniStack counts, per item and index, and for a write that failed its condition, which MiniStack does not
count and AWS does, one unit per kilobyte of 1 (two in a transaction) for each part. What MiniStack does within itself is no request: the
polling of queues, the deliveries of topics, the schedules' invocations, the functions' logs.

And it answers chosen requests with an error or not yet: `EMULATOR_FAULTS` names a file with a list of `{"principal", "action", "resource"}`,
patterns of which each may be left out, with `error` (a code such as ThrottlingException; nothing else happens then) or `hold`: such a
request is written down as `held`, and served when it is not in the list any more. `principal` is a role's, a function's name or `root`.

Its alarms look at the metric with exactly their dimensions, period by period back from now, count those that breach, and treat periods
without data as they are told to. MiniStack's look at the mean of all dimensions and periods. As there, an alarm changes when a metric is
put, and not before its own metric ever was; alarms that reckon with several metrics do not change at all.
"""

import asyncio
import contextvars
import fnmatch
import json
import operator
import os
import re
import signal
import threading
import time
import zlib

from ministack import app
from ministack.core import iam_actions, iam_evaluator, responses
from ministack.services import cloudwatch

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


# ------------------------------------------------------------------------------------------------------------------------------- alarms

_COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def _evaluate_alarm(alarm):
    dimensions = alarm.get("Dimensions") or {}
    dimensions = dimensions if isinstance(dimensions, dict) else {each["Name"]: each["Value"] for each in dimensions}
    points = cloudwatch._metrics.get((alarm.get("Namespace"), alarm.get("MetricName"), cloudwatch._dims_key(dimensions)))
    if not points:
        return
    now, period, periods = time.time(), int(alarm["Period"]), int(alarm["EvaluationPeriods"])
    statistic, breaches = alarm.get("ExtendedStatistic") or alarm["Statistic"], _COMPARISONS[alarm["ComparisonOperator"]]
    missing = {"breaching": True, "notBreaching": False}.get(alarm.get("TreatMissingData"))
    seen = []
    for back in range(periods):
        of_period = [point for point in points if now - period * (back + 1) < point["Timestamp"] <= now - period * back]
        value = cloudwatch._stat_value(cloudwatch._calc_stats(of_period), statistic, of_period) if of_period else None
        seen.append(missing if value is None else breaches(value, alarm["Threshold"]))
    if all(each is None for each in seen):
        return
    least = int(alarm.get("DatapointsToAlarm") or periods)
    before, after = alarm["StateValue"], "ALARM" if seen.count(True) >= least else "OK"
    if before == after:
        return
    reason = f"Threshold Crossed: {seen.count(True)} of the last {periods} periods breach, {least} are enough"
    alarm |= {"StateValue": after, "StateReason": reason, "StateUpdatedTimestamp": int(now)}
    cloudwatch._record_history(alarm["AlarmName"], before, after, reason)
    cloudwatch._dispatch_alarm_actions(alarm, before, after, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


cloudwatch._evaluate_alarm = _evaluate_alarm


# ------------------------------------------------------------------------------------------------------------------- seeing each request

_dispatch, _dynamodb = app._dispatch_service_request, app.SERVICE_HANDLERS["dynamodb"]
_recording, _faults_file = os.environ.get("EMULATOR_REQUESTS"), os.environ.get("EMULATOR_FAULTS")
_record = open(_recording, "a", buffering=1) if _recording else None  # noqa: SIM115: as long as the server
_units: contextvars.ContextVar[dict | None] = contextvars.ContextVar("units", default=None)
_READS = {"GetItem", "Query", "Scan", "BatchGetItem", "TransactGetItems"}
_WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}


def _described(method, path, headers, body, query) -> tuple[str, dict]:
    """The service, and who asks it for what."""
    query = app._routing_params(method, path, headers, body, query)
    service, region, account = app.detect_service(method, path, headers, query), app.extract_region(headers), responses.get_account_id()
    action = iam_actions.extract_iam_action(service, method, path, headers, body, query) or f"{service}:?"
    resource = iam_actions.extract_resource_arn(service, method, path, headers, body, query, region, account)
    key = app.extract_access_key_id(headers, query)
    credential = iam_evaluator.resolve_credential(key or "", account)
    arn = getattr(credential, "principal_arn", "") or "unknown"
    principal, _, session = arn.rsplit(":", 1)[-1].removeprefix("assumed-role/").partition("/")
    seen = {"principal": principal, "session": session, "action": action, "resources": getattr(resource, "arns", [resource])}
    if service == "dynamodb" and (parts := iam_actions.dynamodb_transaction_checks(action, body, region, account)):
        seen |= {"parts": parts, "resources": sorted({table for _, table in parts})}
    return service, seen


async def _seen(method, path, headers, body, query, request_id):
    if not _record and not (_faults_file and os.path.exists(_faults_file)):
        return await _dispatch(method, path, headers, body, query, request_id)
    service, seen = _described(method, path, headers, body, query)
    units = _units.set({})
    if _fault(seen).get("hold"):
        _record.write(json.dumps({"time": time.time(), **seen, "held": True}) + "\n")
    while _fault(seen).get("hold"):
        await asyncio.sleep(0.02)
    if code := _fault(seen).get("error"):
        said = {"error_code": code, "message": "injected", "headers": headers}
        answer = 400, *iam_actions.access_denied_response(service, seen["action"], "", request_id, **said)[1:]
    else:
        answer = await _dispatch(method, path, headers, body, query, request_id)
    status, _, answered = answer
    size = len(answered) if isinstance(answered, (bytes, str)) else None
    error = {} if status < 400 else {"error": _code(answered)}
    if _record:
        line = {"time": time.time(), **seen, "status": status, **error, "request_bytes": len(body or b""), "response_bytes": size}
        _record.write(json.dumps({**line, **_units.get()}) + "\n")
    _units.reset(units)
    return answer


def _code(answered) -> str:
    """The error of an answer in whichever protocol."""
    text = answered.decode(errors="replace") if isinstance(answered, bytes) else str(answered)
    found = re.search(r'"__type": ?"(?:[^"]*#)?(\w+)"|<Code>([\w.]+)</Code>|__type[^\w]?(\w+Exception)', text)
    return next(filter(None, found.groups()), "") if found else ""


def _fault(seen) -> dict:
    try:
        with open(_faults_file) as file:
            faults = json.load(file)
    except (OSError, TypeError):
        return {}
    told = {"principal": [seen["principal"], seen["session"]], "action": [seen["action"]], "resource": seen["resources"]}
    for fault in faults:
        if all(any(fnmatch.fnmatchcase(name, fault.get(what, "*")) for name in names) for what, names in told.items()):
            return fault
    return {}


async def _counted(method, path, headers, body, query):
    """Has MiniStack tell what a request costs, and hands its answer on without that."""
    operation = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
    if not _record or operation not in _READS | _WRITES:
        return await _dynamodb(method, path, headers, body, query)
    try:
        asked = json.loads(body)
    except ValueError:
        return await _dynamodb(method, path, headers, body, query)
    told = "ReturnConsumedCapacity" in asked
    body = json.dumps({"ReturnConsumedCapacity": "TOTAL", **asked}).encode()
    status, answer_headers, answered = await _dynamodb(method, path, headers, body, query)
    answer = json.loads(answered)
    units = {"read_units": 0.0, "write_units": 0.0}
    consumed = answer.get("ConsumedCapacity", [])
    for table in consumed if isinstance(consumed, list) else [consumed]:
        # A transaction that is repeated under its token only reads.
        read = operation in _READS or "ReadCapacityUnits" in table
        units["read_units" if read else "write_units"] += table["CapacityUnits"]
    if _code(answered) in ("ConditionalCheckFailedException", "TransactionCanceledException"):
        units["write_units"] = 2.0 * len(asked["TransactItems"]) if operation.startswith("Transact") else 1.0
    if (mine := _units.get()) is not None:
        mine |= units
    if consumed and not told:
        answer.pop("ConsumedCapacity")
        answered = json.dumps(answer, ensure_ascii=False).encode()
        answer_headers["x-amz-crc32"] = str(zlib.crc32(answered))
    return status, answer_headers, answered


app._dispatch_service_request = _seen
app.SERVICE_HANDLERS["dynamodb"] = _counted


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)  # we lead the group, and the functions are in it


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    app.main()
