"""The deployed functions on the production template: what must hold when everything is real but the clock, the callers and the cloud."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import demo
import pytest
import stack
from stack import until

PERCENTAGE = f"/genesys/canary/local/{demo.FLOW}/percentage"


@pytest.fixture
def play():
    """A stack and an organization of the test's own, and nothing printed."""
    with demo.organization(demo.SEED) as genesys, stack.Stack() as aws:
        demo.deploy(aws, genesys)
        yield demo.Play(aws, genesys, show=lambda _: None)


def stepping(play, behavior=demo.HEALTHY):
    """A rollout at its first step."""
    play.calls(ask=0)
    play.start(play.genesys.check_in(demo.CANARY, behavior), "a test")
    assert play.tick()["phase"] == "Stepping"
    assert play.aws.parameter(PERCENTAGE) == "5"


def events(play):
    return [entry["event"] for entry in play.ledger()]


def arrived(play):
    bodies = [alert["body"] for alert in play.genesys.webhook()]
    return [body if isinstance(body, dict) else json.loads(body) for body in bodies]


def ask(play, **question):
    return play.aws.invoke("random-percentage", question, qualifier="live")


def test_two_evaluators_at_once_make_one_transition(play):
    stepping(play)
    pool = ThreadPoolExecutor(3)
    # Every tick is served three times at once, up to the raise to 25 % and a while beyond.
    for _ in range(11):
        play.calls()
        now = play.genesys.now()
        list(pool.map(lambda _: play.aws.tick("canary-evaluator", now), range(3)))
    assert events(play).count("StepStarted") == 2 and events(play).count("WeightApplied") == 2
    assert play.aws.parameter(PERCENTAGE) == "25"
    history = play.aws.client("ssm").get_parameter_history(Name=PERCENTAGE)["Parameters"]
    assert [version["Value"] for version in history] == ["0", "5", "25"]
    assert until(lambda: {"CANARY_ADVANCED", "ROLLOUT_REQUESTED"} <= {alert["incident_type"] for alert in arrived(play)})
    advanced = {alert["dedup_key"] for alert in arrived(play) if alert["incident_type"] == "CANARY_ADVANCED"}
    assert len(advanced) == 2, advanced


def test_containment_does_not_wait_for_queue_topic_or_executor(play):
    stepping(play, demo.BROKEN)
    lambda_, sns = play.aws.client("lambda"), play.aws.client("sns")
    for mapping in lambda_.list_event_source_mappings()["EventSourceMappings"]:
        lambda_.delete_event_source_mapping(UUID=mapping["UUID"])
    for output in ("AlertTopicArn", "RollbackTopicArn"):
        sns.delete_topic(TopicArn=play.aws.outputs[output])
    for _ in range(24):
        play.calls()
        [line] = play.aws.tick("canary-evaluator", play.genesys.now())["flows"]
        if line["decision"] == "Rollback":
            break
    else:
        pytest.fail(f"no failed verdict in two hours: {line}")
    # Same tick: the parameter and the marker are written; the function may answer from memory for 0.7 s more.
    assert float(play.aws.parameter(PERCENTAGE)) == 0
    time.sleep(0.8)
    answers = [ask(play, flow=demo.FLOW, conversationId=f"c-{n}") for n in range(100)]
    assert {answer["cohort"] for answer in answers} == {"stable"} and not any(answer["fallback"] for answer in answers)
    assert events(play)[-1] == "RollbackStarted"
    # And the schedule alone brings the flow back, without any message.
    assert until(lambda: play.aws.tick("rollback-executor", play.genesys.now()) and events(play)[-1] == "RollbackFinished")


def test_a_person_who_sets_the_percentage_to_0_is_obeyed_and_on_call_is_told(play):
    stepping(play)
    play.calls()
    play.tick()
    play.aws.put_parameter(PERCENTAGE, "0")
    for _ in range(12):
        play.calls()
        line = play.tick()
        assert (line["phase"], play.aws.parameter(PERCENTAGE)) == ("Paused", "0")
    told = until(lambda: [alert for alert in arrived(play) if alert["incident_type"] == "ROLLOUT_PAUSED"])
    assert len({alert["dedup_key"] for alert in told}) == 1
    assert "by hand" in told[0]["reason"] and "serin resume" in told[0]["next_step"]
    # They let it go on, and it does, from where it was.
    play.serin("resume", demo.FLOW, "--reason", "false alarm")
    assert play.tick()["phase"] == "Stepping" and play.aws.parameter(PERCENTAGE) == "5"


@pytest.mark.parametrize("written", ["101", "5%", "five", "-1", "1e1"])
def test_a_malformed_percentage_sends_calls_to_stable_and_is_said(play, written):
    stepping(play)
    play.aws.put_parameter(PERCENTAGE, written)
    time.sleep(0.8)
    answer = ask(play, flow=demo.FLOW, conversationId="c0ffee")
    assert (answer["cohort"], answer["fallback"], answer["canaryVersion"]) == ("stable", True, "v1")
    line = play.tick()
    assert line["phase"] == "Paused" and f"`{written}`" in line["reason"] and "from 0 to 100" in line["reason"]


def test_unknown_flows_and_what_is_no_question_get_stable(play):
    answer = ask(play, flow="main_irv", conversationId="c0ffee")
    assert (answer["cohort"], answer["fallback"], answer["canaryVersion"]) == ("stable", True, "")
    for question in ({}, {"flow": "main ivr"}, {"flow": 5}, [1], "hello", None, stack.event("random-percentage-not-an-event")):
        answer = play.aws.invoke("random-percentage", question, qualifier="live")
        assert (answer["cohort"], answer["fallback"]) == ("stable", True)
        assert "accepted" in answer["error"], answer


@pytest.mark.parametrize("function", ["canary-evaluator", "rollback-executor", "alert-forwarder"])
def test_an_event_that_is_none_is_refused_with_what_is_accepted_and_nothing_is_written(play, function):
    def state():
        items = play.aws.client("dynamodb").scan(TableName=play.aws.outputs["LedgerTable"])["Items"]
        return sorted(map(str, items)), play.aws.flow_parameters(demo.FLOW)[demo.FLOW].keys()

    before = state()
    for event in ({"hello": "world"}, [], "tick", {"kind": "tick", "time": "yesterday"}):
        with pytest.raises(stack.FunctionFailed) as refused:
            play.aws.invoke(function, event)
        assert "accepted" in str(refused.value) and "panic" not in str(refused.value)
    assert state() == before


def test_an_expired_token_is_minted_again_and_a_refused_client_only_holds(play):
    stepping(play)
    play.calls()
    play.genesys.fault({"kind": "expire_tokens"})
    assert "unavailable" not in play.tick()["reason"]
    play.genesys.fault({"kind": "expire_tokens"}, {"kind": "oauth_refuse", "client_id": "serin-read"})
    play.calls()
    line = play.tick()
    assert line["phase"] == "Stepping" and line["decision"] == "Hold" and "unavailable" in line["reason"], line
    assert "local-read-secret" not in json.dumps(line)
    play.genesys.clear_faults()
    play.calls()
    assert "unavailable" not in play.tick()["reason"]


def test_a_rollout_file_that_is_wrong_is_refused_before_anything_is_written(play, tmp_path):
    path = tmp_path / "rollout.yaml"
    good = demo.ROLLOUT_FILE.format(flow=demo.FLOW, stable=demo.STABLE, canary=demo.CANARY, version="15.0")
    cases = {"polcy: {}": "polcy", "strategy: magic": "strategy"}
    for line, word in cases.items():
        path.write_text(f"{good}{line}\n")
        refused = play.serin("start", str(path), "--reason", "a test", check=False)
        assert refused.returncode == 2 and word in refused.stderr and "rollout.yaml:" in refused.stderr, refused.stderr
    path.write_text(good.replace("[5, 25, 50]", "[5, 101]"))
    refused = play.serin("start", str(path), "--reason", "a test", check=False)
    assert refused.returncode == 2 and "`101`" in refused.stderr and "from 0 to 100" in refused.stderr
    assert play.serin("status").stdout.startswith("no flow is watched")


def test_the_gate_answers_pipelines(play):
    assert play.serin("gate", demo.FLOW, check=False).returncode == 0
    stepping(play)
    closed = play.serin("gate", demo.FLOW, check=False)
    assert closed.returncode == 10 and "Stepping at 5 %" in closed.stdout
    play.serin("rollback", demo.FLOW, "--reason", "looks odd")
    assert float(play.aws.parameter(PERCENTAGE)) == 0
    assert until(lambda: play.aws.tick("rollback-executor", play.genesys.now()) and events(play)[-1] == "RollbackFinished")
    assert play.serin("gate", demo.FLOW, check=False).returncode == 11
    refused = play.serin("start", str(stack.LOCAL / "demo" / "rollout-15.0.yaml"), "--reason", "again", check=False)
    assert refused.returncode == 3 and "15 minutes" in refused.stderr


def test_on_call_can_publish_a_rollback_request(play):
    stepping(play)
    play.aws.publish("RollbackTopicArn", {"flow": demo.FLOW, "reason": "callers complain", "requested_by": "pat", "at": play.genesys.now()})
    assert until(lambda: events(play)[-1] == "RollbackFinished")
    assert float(play.aws.parameter(PERCENTAGE)) == 0
    assert "callers complain" in json.dumps(play.ledger())


def test_a_target_that_is_dead_delays_nothing_of_another_and_an_incident_is_closed_after_it_was_opened(play):
    hook = {"kind": "pagerduty", "routing_key": "0" * 32, "url": play.genesys.webhook_url}
    play.aws.deploy_target("oncall", hook)
    play.aws.put_parameter("/serin/local/alerts/webhook", json.dumps({"url": "http://127.0.0.1:9/"}), secret=True)
    stepping(play)
    play.serin("rollback", demo.FLOW, "--reason", "looks odd")
    assert until(lambda: play.aws.tick("rollback-executor", play.genesys.now()) and events(play)[-1] == "RollbackFinished")
    play.tick()
    actions = until(lambda: (told := [event["event_action"] for event in arrived(play)])[-1:] == ["resolve"] and told)
    assert actions == ["trigger", "resolve"], actions
    # The table knows that the trigger arrived there, and for how long to know it.
    query = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": "DELIVERED#oncall"}}}
    (noted,) = play.aws.client("dynamodb").query(TableName=play.aws.outputs["LedgerTable"], **query)["Items"]
    assert noted["sk"]["S"].startswith(f"{demo.FLOW}/r-") and int(noted["expires_at"]["N"]) > time.time() + 29 * 24 * 3600
    assert until(lambda: any("could not be reached" in line and "webhook" in line for line in play.aws.logs("alert-forwarder")))


def test_a_secret_that_is_no_secure_string_is_not_used(play):
    play.aws.client("ssm").delete_parameter(Name="/serin/local/alerts/webhook")
    play.aws.put_parameter("/serin/local/alerts/webhook", json.dumps({"url": play.genesys.webhook_url}))
    with pytest.raises(stack.FunctionFailed, match="no SecureString"):
        play.aws.invoke("alert-forwarder", stack.event("alert-forwarder"))
    assert arrived(play) == []


IVR, COP = "1f500000-0000-4000-8000-000000000007", "c0900000-0000-4000-8000-000000000001"


def test_a_number_is_led_to_the_traffic_cop_and_back(play, tmp_path):
    file = tmp_path / "rollout.yaml"
    file.write_text(demo.ROLLOUT_FILE.format(flow=demo.FLOW, stable=demo.STABLE, canary=demo.CANARY, version="15.0"))
    adopt = lambda *more, **named: play.serin("adopt", str(file), "--ivr", IVR, "--cop", COP, *more, **named)  # noqa: E731

    # The organization begins as adopted: its number leads to the cop.
    assert "already" in adopt(check=False).stderr
    shown = adopt("--undo", "--dry-run").stdout
    assert "now    open hours lead to Main_IVR_TrafficCop" in shown and "Nothing was changed" in shown
    undone = adopt("--undo", "--yes").stdout
    assert "then   open hours lead to Main_IVR_Blue" in undone and "done: the IVR has version 2" in undone

    # Somebody else was first: theirs stays.
    play.genesys.fault({"kind": "version_conflict", "path": "/api/v2/architect/ivrs"})
    refused = adopt("--yes", check=False)
    assert refused.returncode == 1 and "was not changed" in refused.stderr
    play.genesys.clear_faults()
    unasked = adopt(check=False)
    assert unasked.returncode == 3 and "--yes says that it is meant" in unasked.stderr
    shown = adopt("--dry-run").stdout
    assert "sums of flow entries over all flows double" in shown
    assert "--undo takes it back" in adopt("--yes").stdout

    stepping(play)
    assert "end it first" in adopt("--undo", "--yes", check=False).stderr


def test_what_is_in_the_way_is_said_before_anything_is_changed(play):
    play.genesys.fault({"kind": "forbid", "permission": "architect:job:create", "client_id": "serin-publish"})
    play.start(play.genesys.check_in(demo.CANARY, demo.HEALTHY), "a test")
    play.tick()
    last = play.ledger()[-1]
    assert last["event"] == "PreparationFailed" and "lacks the permission architect:job:create" in last["why"]
    assert play.calls()["canary"] == 0


def test_a_ledger_that_was_rewritten_is_told(play, tmp_path):
    """As whoever owns the account could do it: one entry changed, then a whole chain made anew."""
    stepping(play)
    play.serin("rollback", demo.FLOW, "--reason", "looks odd")
    assert until(lambda: play.aws.tick("rollback-executor", play.genesys.now()) and events(play)[-1] == "RollbackFinished")
    told = until(lambda: [alert for alert in arrived(play) if alert["incident_type"] == "ROLLED_BACK"])
    anchor, copy = tmp_path / "alert.json", tmp_path / "copy.jsonl"
    anchor.write_text(json.dumps(told[0]))

    def verify(*more):
        done = play.serin("ledger", "verify", *more, check=False)
        return done.returncode, done.stdout + done.stderr

    entries = play.ledger()
    code, said = verify(demo.FLOW, "--anchor", str(anchor))
    assert code == 0 and f"{len(entries)} entries" in said and "nothing was rewritten" in said, said
    copy.write_text(play.serin("ledger", "export", demo.FLOW, "--all").stdout)
    assert verify("--file", str(copy), "--anchor", str(anchor))[0] == 0
    assert verify("sales_ivr")[0] == 20  # nothing is recorded of it

    dynamodb, table = play.aws.client("dynamodb"), play.aws.outputs["LedgerTable"]

    def place(sk):
        return {"pk": {"S": f"FLOW#{demo.FLOW}"}, "sk": {"S": sk}}

    def put(sk, **attributes):
        changes = {f":{name}": value for name, value in attributes.items()}
        update = "SET " + ", ".join(f"{name} = :{name}" for name in attributes)
        dynamodb.update_item(TableName=table, Key=place(sk), UpdateExpression=update, ExpressionAttributeValues=changes)

    def stored(revision):
        return dynamodb.get_item(TableName=table, Key=place(f"ENTRY#{revision:012}"))["Item"]["entry"]["S"]

    true = [stored(revision) for revision in range(1, len(entries) + 1)]
    assert copy.read_text().splitlines()[: len(true)] == true, "the copy has the bytes as they are stored"

    # One entry: who asked for the rollback is somebody else now.
    n = events(play).index("RollbackStarted") + 1
    put(f"ENTRY#{n:012}", entry={"S": true[n - 1].replace('"demo (', '"ana (')})
    code, said = verify(demo.FLOW)
    assert code == 10 and f"entry {n + 1} does not follow from entry {n}" in said, said
    code, said = verify(demo.FLOW, "-o", "json")
    assert code == 10 and json.loads(said)["intact"] is False
    assert play.serin("status", demo.FLOW, check=False).returncode == 1  # and nobody acts on it

    # All of them: a sound chain, which an alert that went out before knows better.
    previous = "0" * 64
    for revision, entry in enumerate(true, 1):
        forged = entry.replace('"demo (', '"ana (').replace(entries[revision - 1]["previous"], previous)
        put(f"ENTRY#{revision:012}", entry={"S": forged})
        previous = hashlib.sha256(forged.encode()).hexdigest()
    assert verify(demo.FLOW)[0] == 10  # the head still tells
    put("HEAD", head_hash={"S": previous})
    code, said = verify(demo.FLOW)
    assert code == 0 and "no anchor" in said, said
    code, said = verify(demo.FLOW, "--anchor", str(anchor))
    assert code == 10 and f"entry {told[0]['revision']} has hash" in said and "rewritten" in said, said
    assert verify("--file", str(copy), "--anchor", str(anchor))[0] == 0  # what was kept elsewhere is what it was


def test_a_freeze_holds_a_stop_takes_all_calls_and_the_gate_and_start_say_so(play):
    stepping(play)
    play.serin("freeze", "--for", "10h", "--reason", "quarter end")
    [freeze] = json.loads(play.serin("maintenance", "list", "-o", "json").stdout)["items"]
    assert freeze["kind"] == {"kind": "freeze"} and freeze["reason"] == "quarter end"
    for _ in range(12):
        play.calls()
        line = play.tick()
    assert (line["phase"], play.aws.parameter(PERCENTAGE)) == ("Stepping", "5") and freeze["id"] in line["reason"]
    stopped = play.serin("stop-all", "--yes", "--reason", "all hands")
    assert "stands at Aborted" in stopped.stdout and float(play.aws.parameter(PERCENTAGE)) == 0
    gate = play.serin("gate", demo.FLOW, check=False)
    assert gate.returncode == 12 and "quarter end" in gate.stdout
    file = max((stack.LOCAL / "demo").glob("rollout-*.yaml"), key=lambda path: path.stat().st_mtime)
    refused = play.serin("start", str(file), "--reason", "too early", check=False)
    assert refused.returncode != 0 and "the gate is closed" in refused.stderr
    play.serin("maintenance", "end", freeze["id"], "--reason", "over")
    assert "stop" in play.serin("gate", demo.FLOW, check=False).stdout
    play.serin("stop-all", "--end", "--reason", "over")
    assert play.serin("gate", demo.FLOW).returncode == 0
    assert play.serin("maintenance", "end", "stop", "--reason", "again", check=False).returncode != 0


def test_what_stable_ran_is_kept_in_the_bucket_before_anything_is_changed(play):
    stepping(play)
    [snapshot] = [entry["snapshot"] for entry in play.ledger() if entry["event"] == "SnapshotTaken"]
    bucket, _, rest = snapshot["export"].removeprefix("s3://").partition("/")
    key, _, version = rest.partition("?versionId=")
    kept = play.aws.client("s3").get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read().decode()
    assert bucket == play.aws.outputs["ExportBucket"] and key.startswith(f"{demo.FLOW}/r-") and "inboundCall:" in kept


def test_a_rollback_by_command_restores_the_flow_without_any_tick(play):
    stepping(play)
    done = play.serin("rollback", demo.FLOW, "--reason", "callers complain")
    assert not done.stderr and float(play.aws.parameter(PERCENTAGE)) == 0
    assert until(lambda: events(play)[-1] == "RollbackFinished", seconds=30)
    assert until(lambda: "ROLLBACK_TRIGGERED" in {alert["incident_type"] for alert in arrived(play)})
