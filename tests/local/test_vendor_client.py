"""The vendor's own clients against the simulator: they find their way, and read what it meant.

The Python part is in `make test`, in an environment of its own (`.local/contract/python`), for the client takes 170 MB. The JavaScript
part is in `make contract`, which installs that client; elsewhere it is skipped."""

import json
import shutil
import subprocess
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import PureCloudPlatformClientV2 as vendor
import pytest
import stack
from bootstrap import LOCAL

COP = "c0900000-0000-4000-8000-000000000001"
STABLE = "b10e0000-0000-4000-8000-000000000002"
CANARY = "97ee0000-0000-4000-8000-000000000003"
TABLE = "7ab1e000-0000-4000-8000-000000000004"
OUTCOMES = {"v1": "0c0e0000-0000-4000-8000-000000000005", "v2": "0c0e0000-0000-4000-8000-000000000006"}
IVR = "1f500000-0000-4000-8000-000000000007"
NUMBER = "+15550100"
ACTION = "ac700000-0000-4000-8000-000000000009"
HALF_HOUR = "2026-11-20T09:00:00.000Z/2026-11-20T09:30:00.000Z"
DAY = "2026-11-20T00:00:00.000Z/2026-11-21T00:00:00.000Z"
ROW = {"key": "main_ivr", "Active_Flow_ID": CANARY, "Traffic_Weight": 5, "revision": 1, "owner": "prod"}
SCRIPT = Path(__file__).with_name("contract") / "client.js"
MODULES = LOCAL / "contract" / "js" / "node_modules"


@pytest.fixture
def genesys():
    with stack.Simulator(seed=1) as genesys:
        yield genesys


@pytest.fixture
def client(genesys, monkeypatch):
    """Logged in, and strict: it says nothing of a field or a value that it does not know, so what it read must be all that was sent."""
    lenient = vendor.ApiClient.deserialize

    def strict(client, response, kind):
        read = lenient(client, response, kind)
        lost = list(losses(json.loads(response.data or "null"), client.sanitize_for_serialization(read)))
        assert not lost, f"{kind}: {lost}"
        return read

    monkeypatch.setattr(vendor.ApiClient, "deserialize", strict)
    monkeypatch.setattr(vendor.configuration, "host", genesys.url)
    return vendor.ApiClient().get_client_credentials_token("id", "secret")


def losses(sent, read, place=""):
    """Where something was sent and something else was read; to the client, null is nothing."""
    if isinstance(sent, dict) and isinstance(read, dict):
        for name, value in sent.items():
            yield from losses(value, read.get(name), f"{place}.{name}")
    elif isinstance(sent, list) and isinstance(read, list) and len(sent) == len(read):
        for index, (value, other) in enumerate(zip(sent, read)):
            yield from losses(value, other, f"{place}[{index}]")
    elif sent != read and (time_of(sent) is None or time_of(sent) != time_of(read)):
        yield f"{place}: {sent!r} was read as {read!r}"


def time_of(text):
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


@pytest.fixture
def architect(client):
    return vendor.ArchitectApi(client)


@pytest.fixture
def analytics(client):
    return vendor.AnalyticsApi(client)


def test_a_field_or_a_value_that_the_client_does_not_know_is_noticed(client):
    answer = {"id": "f", "type": "INBOUNDCALL", "publishedVersion": {"id": "14.0", "datePublished": "2026-11-13T09:00:00.000Z"}}

    def read(answer):
        return client.deserialize(SimpleNamespace(data=json.dumps(answer), getheader=lambda name: "application/json"), "Flow")

    assert read(answer).published_version.date_published == at(9, day=13)
    with pytest.raises(AssertionError, match="INBOUND_CALL"):
        read({**answer, "type": "INBOUND_CALL"})
    with pytest.raises(AssertionError, match="liveVersion"):
        read({**answer, "liveVersion": "14.0"})


def test_a_flow_and_its_versions_are_read(architect):
    flow = architect.get_flow(STABLE)
    assert (flow.id, flow.name, flow.type, flow.active) == (STABLE, "Main_IVR_Blue", "INBOUNDCALL", True)
    assert (flow.locked_user, flow.locked_client, flow.current_operation) == (None, None, None)
    live = flow.published_version
    assert (live.id, live.type, live.date_published) == ("14.0", "PUBLISH", at(9, day=13))

    versions = architect.get_flow_versions(STABLE)
    assert (versions.total, [version.id for version in versions.entities]) == (2, ["14.0", "13.0"])
    assert versions.entities[1].date_published_end == versions.entities[1].date_published.replace(month=11, day=13)
    second = architect.get_flow_versions(STABLE, page_size=1, page_number=2)
    assert (second.page_count, [version.id for version in second.entities]) == (2, ["13.0"])
    assert architect.get_flow_version(STABLE, "13.0").id == "13.0"
    found = architect.get_flows(type=["inboundcall", "workflow"], name="Main_IVR_*", deleted=False)
    assert [flow.name for flow in found.entities] == ["Main_IVR_Blue", "Main_IVR_Green", "Main_IVR_TrafficCop"]


def test_a_version_is_published(architect, genesys):
    operation = architect.post_flows_actions_publish(CANARY, version="13.0")
    assert (operation.action_name, operation.action_status, operation.complete) == ("PUBLISH", "STARTED", False)
    flow = when(architect, CANARY)
    assert (flow.current_operation.id, flow.current_operation.action_status) == (operation.id, "SUCCESS")
    assert (flow.published_version.id, flow.published_by.id, flow.current_operation.client.id) == ("13.0", "id", "id")

    genesys.fault({"kind": "publish_fails"})
    architect.post_flows_actions_publish(CANARY, version="14.0")
    failed = when(architect, CANARY)
    assert (failed.published_version.id, failed.current_operation.action_status) == ("13.0", "FAILURE")
    assert failed.current_operation.error_code == "flow.publish.failed"

    genesys.fault({"kind": "lock", "flow_id": CANARY, "user": "Pat"})
    assert architect.get_flow(CANARY).locked_user.name == "Pat"
    assert refusal(architect.post_flows_actions_publish, CANARY, version="14.0") == (409, "architect.flow.locked")


def when(architect, flow_id, seconds=10):
    """The flow, once its operation has ended."""
    deadline = time.monotonic() + seconds
    while not (flow := architect.get_flow(flow_id)).current_operation.complete:
        assert time.monotonic() < deadline, "the operation does not end"
        time.sleep(0.1)
    return flow


def at(hour, minute=0, day=20):
    """A time of the month in which it all happens."""
    return datetime(2026, 11, day, hour, minute, tzinfo=timezone.utc)


def test_flow_aggregates_are_queried(analytics, genesys):
    calls = genesys.advance(30)["calls"]
    query = vendor.FlowAggregationQuery()
    query.interval, query.granularity, query.group_by, query.metrics = HALF_HOUR, "PT30M", ["flowId", "exitReason"], ["nFlow", "tFlow"]
    query.filter = vendor.FlowAggregateQueryFilter()
    query.filter.type, query.filter.predicates = "or", [predicate(COP), predicate(STABLE)]
    genesys.advance(10)  # reports come late

    results = analytics.post_analytics_flows_aggregates_query(query).results
    assert {result.group["flowId"] for result in results} == {COP, STABLE}
    entries = {result.group["flowId"]: count(result, "nFlow") for result in results if "exitReason" not in result.group}
    assert entries[COP] == calls > 1000
    exits = {result.group["exitReason"]: result for result in results if result.group["flowId"] == STABLE and "exitReason" in result.group}
    assert set(exits) == {"FLOW_ERROR_DISCONNECT", "DISCONNECT", "FLOW_DISCONNECT", "TRANSFER"}
    assert 0.9 * entries[STABLE] < sum(count(result, "tFlow") for result in exits.values()) <= entries[STABLE]
    (datum,) = exits["TRANSFER"].data
    assert datum.interval == HALF_HOUR
    stats = datum.metrics[0].stats
    assert 0 < stats.min <= stats.sum / stats.count <= stats.max

    query.filter.predicates = [predicate("nobody")]
    assert analytics.post_analytics_flows_aggregates_query(query).results is None
    query.metrics = ["nAbandon"]
    assert refusal(analytics.post_analytics_flows_aggregates_query, query) == (400, "bad.request")


def predicate(flow_id):
    predicate = vendor.FlowAggregateQueryPredicate()
    predicate.type, predicate.dimension, predicate.operator, predicate.value = "dimension", "flowId", "matches", flow_id
    return predicate


def count(result, metric):
    return sum(data.stats.count for datum in result.data for data in datum.metrics if data.metric == metric)


def test_conversations_are_queried_page_by_page(analytics, genesys):
    moved = calls_through_a_gate(genesys)
    query, paging = vendor.ConversationQuery(), vendor.PagingSpec()
    query.interval, query.order, query.order_by, query.paging = HALF_HOUR, "asc", "conversationStart", paging
    paging.page_size, pages = 100, []
    for number in (1, 2, 3):
        paging.page_number = number
        pages.append(analytics.post_analytics_conversations_details_query(query))
    calls = moved["calls"]
    assert [page.total_hits for page in pages] == [calls] * 3
    assert [len(page.conversations or []) for page in pages] == [100, calls - 100, 0]

    conversations = pages[0].conversations + pages[1].conversations
    starts = [conversation.conversation_start for conversation in conversations]
    assert starts == sorted(starts) and at(9) <= starts[0] and starts[-1] < at(9, 30)
    assert len({conversation.conversation_id for conversation in conversations}) == calls
    customers, flows = [of(conversation, "customer") for conversation in conversations], [flow_of(c) for c in conversations]
    assert {(session.dnis, session.media_type, session.direction) for session in customers} == {(NUMBER, "voice", "inbound")}
    assert {(flow.flow_id, flow.flow_name, flow.flow_type, flow.flow_version) for flow in flows} == {
        (STABLE, "Main_IVR_Blue", "INBOUNDCALL", "15.0")
    }
    branches = Counter(flow.outcomes[0].flow_outcome_id for flow in flows)
    assert branches == {OUTCOMES["v1"]: calls - moved["canary"], OUTCOMES["v2"]: moved["canary"]}

    transferred = [flow.exit_reason == "TRANSFER" for flow in flows]
    assert [flow.transfer_type == "ACD" for flow in flows] == transferred
    assert [of(conversation, "acd") is not None for conversation in conversations] == transferred
    durations = [duration(of(conversation, "ivr").segments[0]) for conversation in conversations]
    assert [metrics(of(conversation, "ivr"))["tFlow"] for conversation in conversations] == durations
    queued = [conversation for conversation in conversations if of(conversation, "acd")]
    offered = [metrics(of(conversation, "acd")) for conversation in queued]
    assert {metric["nOffered"] for metric in offered} == {1}
    assert [of(conversation, "agent") is None for conversation in queued] == ["tAbandon" in metric for metric in offered]


def test_the_two_ways_to_count_agree(analytics, genesys):
    moved = calls_through_a_gate(genesys)
    order = vendor.FlowAggregationQuery()
    order.interval, order.group_by, order.metrics = HALF_HOUR, ["flowId", "flowVersion"], ["nFlow", "nFlowOutcome"]
    (result,) = [r for r in analytics.post_analytics_flows_aggregates_query(order).results if count(r, "nFlow")]
    assert (result.group["flowId"], result.group["flowVersion"], count(result, "nFlow")) == (STABLE, "15.0", moved["calls"])

    # A flow ends when it ends: of a whole day, all calls that took the branch are in both.
    order.interval, order.group_by, order.metrics = DAY, ["flowOutcomeId", "flowOutcomeValue"], ["nFlowOutcome"]
    groups = [(r.group, count(r, "nFlowOutcome")) for r in analytics.post_analytics_flows_aggregates_query(order).results]
    ended = {group["flowOutcomeValue"]: ends for group, ends in groups if group["flowOutcomeId"] == OUTCOMES["v2"]}
    assert set(ended) == {"SUCCESS", "FAILURE"} and sum(ended.values()) == moved["canary"]
    query, segments = vendor.ConversationQuery(), vendor.SegmentDetailQueryFilter()
    query.interval, query.segment_filters, segments.type = DAY, [segments], "and"
    for value, ends in ended.items():
        segments.predicates = [detail("flowOutcomeId", OUTCOMES["v2"]), detail("flowOutcomeValue", value)]
        assert analytics.post_analytics_conversations_details_query(query).total_hits == ends, value

    segments.predicates = [detail("flowId", "nobody")]
    none = analytics.post_analytics_conversations_details_query(query)
    assert (none.total_hits, none.conversations) == (0, None)
    query.paging = vendor.PagingSpec()
    query.paging.page_number, query.paging.page_size = 1, 101
    assert refusal(analytics.post_analytics_conversations_details_query, query) == (400, "bad.request")


def test_a_job_tells_what_the_flow_wrote_down(analytics, genesys):
    moved, query = calls_through_a_gate(genesys), vendor.AsyncConversationQuery()
    query.interval = HALF_HOUR
    job = analytics.post_analytics_conversations_details_jobs(query).job_id
    assert refusal(analytics.get_analytics_conversations_details_job_results, job) == (400, "bad.request")
    looks = look_thrice(analytics, job)
    assert [look.state for look in looks] == ["QUEUED", "PENDING", "FULFILLED"]
    assert (looks[2].submission_date, looks[2].expiration_date) == (at(9, 50), at(9, 50, day=21))
    assert analytics.get_analytics_conversations_details_jobs_availability().data_availability_date == at(9, 40)

    pages = [analytics.get_analytics_conversations_details_job_results(job, page_size=50)]
    while cursor := pages[-1].cursor:
        pages.append(analytics.get_analytics_conversations_details_job_results(job, page_size=50, cursor=cursor))
    calls, canary = moved["calls"], moved["canary"]
    assert [len(page.conversations) for page in pages] == [50, 50, calls - 100]
    conversations = [conversation for page in pages for conversation in page.conversations]
    assert len({conversation.conversation_id for conversation in conversations}) == calls
    labels = [conversation.participants[0].attributes["canaryVersion"] for conversation in conversations]
    assert Counter(labels) == {"v1": calls - canary, "v2": canary}
    assert [flow_of(conversation).outcomes[0].flow_outcome_id for conversation in conversations] == [OUTCOMES[label] for label in labels]

    analytics.delete_analytics_conversations_details_job(job)
    assert refusal(analytics.get_analytics_conversations_details_job, job) == (404, "not.found")
    query.limit = 7
    job = analytics.post_analytics_conversations_details_jobs(query).job_id
    assert look_thrice(analytics, job)[-1].state == "FULFILLED"
    assert len(analytics.get_analytics_conversations_details_job_results(job).conversations) == 7


def look_thrice(analytics, job):
    """How far a job is, three times: here it gets on by being looked at."""
    return [analytics.get_analytics_conversations_details_job(job) for _ in range(3)]


def calls_through_a_gate(genesys):
    """Half an hour of calls, half of which the gate in the stable flow sends to the worse branch; answers what came of them, once all
    of it is known."""
    genesys.reset(calls_per_hour=240, flows=[{"slot": "main_ivr", "entry": "stable"}])
    version = genesys.check_in(STABLE, {}, canary_behavior={"error": 0.3})
    genesys.by_hand("publish", flow_id=STABLE, version=version, user="Robin")
    rollout = {"rollout": "r-1", "labels": {"stable": "v1", "canary": "v2"}, "key": "00000000000000000000000000000001"}
    wall = stack.now()
    parameters = {"percentage": "50", "rollout": json.dumps(rollout), "heartbeat": wall, "wall": wall}
    moved = genesys.advance(30, parameters={"main_ivr": parameters})
    assert 100 < moved["calls"] < 150 and 0.3 < moved["canary"] / moved["calls"] < 0.7
    genesys.advance(20)
    return moved


def of(conversation, purpose):
    """The last session of whoever took part as this, if anybody did."""
    sessions = [participant.sessions[-1] for participant in conversation.participants if participant.purpose == purpose]
    return sessions[0] if sessions else None


def flow_of(conversation):
    return of(conversation, "ivr").flow


def metrics(session):
    return {metric.name: metric.value for metric in session.metrics}


def duration(segment):
    return round((segment.segment_end - segment.segment_start).total_seconds() * 1000)


def detail(dimension, value):
    predicate = vendor.SegmentDetailQueryPredicate()
    predicate.type, predicate.dimension, predicate.operator, predicate.value = "dimension", dimension, "matches", value
    return predicate


def test_a_flow_is_exported_and_jobs_are_registered(architect):
    details, reference, order = vendor.ExportDetails(), vendor.ArchitectFlowReference(), vendor.RegisterArchitectExportJob()
    reference.id, details.flow, details.export_type, order.flows = STABLE, reference, "Yaml", [details]
    export = architect.post_flows_export_jobs(order)
    done = architect.get_flows_export_job(export.id, expand=["messages"])
    assert (export.status, export.total_flows, done.status, done.messages) == ("Registered", 1, "Success", [])
    assert "/_simulator/download/" in done.download_url

    job = architect.post_flows_jobs()
    assert set(job.headers) == {"x-amz-meta-signature", "x-amz-meta-jobid"}
    assert architect.get_flows_job(job.id).status == "Registered"


def test_a_flow_is_validated(architect, genesys):
    def validated():
        order, details, reference = vendor.RegisterArchitectValidateJob(), vendor.ValidateDetails(), vendor.ArchitectFlowReference()
        reference.id, reference.version, details.flow, order.flows = STABLE, "13.0", reference, [details]
        job = architect.post_flows_validate_jobs(order)
        assert (job.status, job.total_flows) == ("Registered", 1)
        first, then = [architect.get_flows_validate_job(job.id, expand=["messages"]) for _ in range(2)]
        assert (first.status, first.messages, then.command) == ("Started", [], "Validate")
        return then.status, [(message.type, message.text.split(":")[0]) for message in then.messages]

    assert validated() == ("Success", [])
    genesys.fault({"kind": "validation_fails", "flow_id": STABLE})
    assert validated() == ("Failure", [("Error", "flow 'Main_IVR_Blue'")])


def test_rows_are_written_and_read(architect, genesys):
    columns = architect.get_flows_datatable(TABLE, expand="schema").schema.properties
    kinds = {"key": "string", "Active_Flow_ID": "string", "Traffic_Weight": "integer", "revision": "integer", "owner": "string"}
    assert {name: column["type"] for name, column in columns.items()} == kinds
    assert architect.post_flows_datatable_rows(TABLE, ROW) == ROW
    assert refusal(architect.post_flows_datatable_rows, TABLE, ROW) == (409, "flows.datatables.row.exists")
    assert architect.put_flows_datatable_row(TABLE, "main_ivr", body={**ROW, "Traffic_Weight": 0})["Traffic_Weight"] == 0
    assert architect.get_flows_datatable_row(TABLE, "main_ivr", showbrief=False) == {**ROW, "Traffic_Weight": 0}
    for misfit in ({"enabled": True}, {"Traffic_Weight": "100"}, {"Traffic_Weight": 2.5}, {"owner": 7}):
        refused = refusal(architect.put_flows_datatable_row, TABLE, "main_ivr", body={**ROW, **misfit})
        assert refused == (400, "flows.datatables.schema.exception"), misfit
    assert architect.get_flows_datatable_rows(TABLE).entities == [{"key": "main_ivr"}]
    genesys.by_hand("row", row={**ROW, "owner": "Pat"}, user="Pat")
    assert architect.get_flows_datatable_rows(TABLE, showbrief=False).entities == [{**ROW, "owner": "Pat"}]
    architect.delete_flows_datatable_row(TABLE, "main_ivr")
    assert architect.get_flows_datatable_rows(TABLE).total == 0
    assert refusal(architect.get_flows_datatable_row, TABLE, "main_ivr") == (404, "flows.datatables.row.not.found")


def test_an_ivr_configuration_is_replaced_in_its_version_alone(architect, genesys):
    ivr = architect.get_architect_ivr(IVR)
    assert (ivr.name, ivr.version, ivr.state, ivr.dnis, ivr.open_hours_flow.id) == ("Main_IVR", 1, "active", [NUMBER], COP)
    ivr.open_hours_flow.id = CANARY
    changed = architect.put_architect_ivr(IVR, ivr)
    assert (changed.version, changed.open_hours_flow.id, changed.open_hours_flow.name) == (2, CANARY, "Main_IVR_Green")
    moved = genesys.advance(10)
    assert moved["canary"] == moved["calls"] > 0, "the calls go where the configuration leads them"

    ivr.open_hours_flow.id = STABLE
    assert refusal(architect.put_architect_ivr, IVR, ivr) == (409, "general.conflict"), "it was read as version 1"
    genesys.by_hand("ivr", id=IVR, open_hours_flow=COP, user="Pat")
    assert refusal(architect.put_architect_ivr, IVR, changed) == (409, "general.conflict"), "somebody was faster"
    now = architect.get_architect_ivr(IVR)
    assert (now.version, now.open_hours_flow.id) == (3, COP)
    listed = architect.get_architect_ivrs(name="Main_IVR*").entities
    assert [(ivr.name, ivr.version) for ivr in listed] == [("Main_IVR", 3), ("Main_IVR_Test", 1)]


def test_an_audit_tells_who_published(client, architect, genesys):
    audits, query = vendor.AuditApi(client), vendor.AuditRealtimeQueryRequest()
    query.interval, query.service_name, query.filters = DAY, "Architect", [audited("EntityId", CANARY), audited("Action", "Publish")]
    assert audits.post_audits_query_realtime(query).entities == []
    architect.post_flows_actions_publish(CANARY, version="13.0")
    when(architect, CANARY)
    genesys.advance(5)
    genesys.by_hand("publish", flow_id=CANARY, version="14.0", user="Robin Doe")
    genesys.by_hand("publish", flow_id=STABLE, version="13.0", user="Pat")
    genesys.by_hand("row", row=ROW, user="Pat")

    last, first = audits.post_audits_query_realtime(query, expand=["user"]).entities
    for audit, time_of_it in ((first, at(9)), (last, at(9, 5))):
        assert (audit.service_name, audit.level, audit.action, audit.status) == ("Architect", "USER", "Publish", "SUCCESS")
        assert (audit.entity_type, audit.entity.id, audit.entity.name) == ("Flow", CANARY, "Main_IVR_Green")
        assert audit.event_date == time_of_it
    assert (first.client.id, first.user) == ("id", None)
    assert (last.client, last.user.id, last.user.name) == (None, "user-robin-doe", "Robin Doe")
    unnamed = audits.post_audits_query_realtime(query).entities[0].user
    assert (unnamed.id, unnamed.name) == ("user-robin-doe", None)

    query.filters, query.service_name, query.page_size = [audited("UserId", "user-pat")], None, 1
    query.page_number, query.sort = 2, [vendor.AuditQuerySort()]
    query.sort[0].name, query.sort[0].sort_order = "Timestamp", "ascending"
    page = audits.post_audits_query_realtime(query)
    (row,) = page.entities
    assert (page.total, page.page_count) == (2, 2)
    assert (row.service_name, row.entity_type, row.action) == ("Datatables", "Row", "Create")
    assert (row.entity.id, row.entity.name) == (TABLE, "main_ivr")


def audited(name, value):
    filter = vendor.AuditQueryFilter()
    filter.pcProperty, filter.value = name, value
    return filter


def test_what_a_version_needs_is_listed(architect, genesys):
    def needs(flow_id, version, **narrowed):
        found = architect.get_architect_dependencytracking_consumedresources(flow_id, version, "INBOUNDCALLFLOW", **narrowed)
        assert found.total == len(found.entities)
        return [(needed.name, needed.type, needed.deleted) for needed in found.entities]

    own = [("Service_Desk", "QUEUE", False), ("Main_Menu", "USERPROMPT", False)]
    gated = genesys.check_in(STABLE, {}, canary_behavior={})
    assert needs(STABLE, "14.0") == own
    assert needs(STABLE, gated) == [*own, ("Random Percentage", "DATAACTION", False)]
    assert needs(STABLE, gated, resource_type=["DATAACTION", "USERPROMPT"]) == [own[1], ("Random Percentage", "DATAACTION", False)]
    genesys.fault({"kind": "dependency_deleted", "flow_id": STABLE, "version": gated, "name": "Service_Desk"})
    assert needs(STABLE, gated, resource_type=["QUEUE"]) == [("Service_Desk", "QUEUE", True)]
    assert needs(STABLE, "14.0") == own
    behind = architect.get_architect_dependencytracking_consumedresources(COP, "14.0", "INBOUNDCALLFLOW", page_size=2, page_number=2)
    assert (behind.total, behind.page_count, [needed.id for needed in behind.entities]) == (3, 2, [CANARY])
    (asked,) = architect.get_architect_dependencytracking_consumedresources(COP, "14.0", "INBOUNDCALLFLOW", page_size=1).entities
    assert asked.id == ACTION
    missing = refusal(architect.get_architect_dependencytracking_consumedresources, STABLE, "99.0", "INBOUNDCALLFLOW")
    assert missing == (404, "architect.flow.version.not.found")

    assert architect.get_architect_dependencytracking_build().status == "OPERATIONAL"
    genesys.advance(5)
    architect.post_architect_dependencytracking_build()
    genesys.fault({"kind": "dependency_build", "status": "BUILDINPROGRESS"})
    build = architect.get_architect_dependencytracking_build()
    assert (build.status, build.date_completed) == ("BUILDINPROGRESS", at(9, 5))


def test_refusals_are_the_vendors(architect, genesys):
    assert refusal(architect.get_flow, "nobody") == (404, "architect.flow.not.found")
    assert refusal(architect.get_flow_latestconfiguration, STABLE) == (404, "not.found"), "the vendor has it, Serin does not use it"
    # The client waits and asks again, without a word.
    genesys.fault({"kind": "status", "path": "/api/v2/flows", "status": 429, "retry_after": 1})
    assert architect.get_flow(STABLE).name == "Main_IVR_Blue"
    assert genesys.requests()["GET /api/v2/flows/{flowId}"] == 3
    genesys.fault({"kind": "expire_tokens"})
    assert refusal(architect.get_flow, STABLE) == (401, "bad.credentials")


def refusal(call, *arguments, **named):
    with pytest.raises(vendor.rest.ApiException) as refused:
        call(*arguments, **named)
    return refused.value.status, json.loads(refused.value.body)["code"]


def test_the_javascript_client_reads_the_same(genesys, tmp_path):
    if not MODULES.is_dir():
        pytest.skip("`make contract` installs the vendor's JavaScript client")
    moved = calls_through_a_gate(genesys)
    environment = stack.clean_environment(NODE_PATH=str(MODULES), HOME=str(tmp_path))
    command = [shutil.which("node"), SCRIPT, genesys.url.rsplit(":", 1)[1], CANARY, TABLE, HALF_HOUR]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    read = json.loads(run.stdout)

    flow, versions = read["flow"], read["versions"]
    assert (flow["name"], flow["type"], flow["publishedVersion"]["id"]) == ("Main_IVR_Green", "INBOUNDCALL", "14.0")
    assert (versions["total"], [version["id"] for version in versions["entities"]]) == (2, ["13.0"])
    operation, published = read["operation"], read["published"]
    assert (operation["actionName"], operation["actionStatus"], operation["complete"]) == ("PUBLISH", "STARTED", False)
    ended = published["currentOperation"]
    assert (ended["id"], ended["actionStatus"], ended["client"]["id"]) == (operation["id"], "SUCCESS", "id")
    assert (published["publishedVersion"]["id"], published["publishedBy"]["id"]) == ("13.0", "id")

    calls, canary = moved["calls"], moved["canary"]
    (result,) = read["aggregates"]["results"]
    assert result["group"] == {"mediaType": "voice", "flowId": STABLE, "flowVersion": "15.0"}
    assert [(datum["interval"], datum["metrics"]) for datum in result["data"]] == [
        (HALF_HOUR, [{"metric": "nFlow", "stats": {"count": calls}}])
    ]

    queried, job = read["details"], read["job"]
    assert [(page["totalHits"], len(page["conversations"])) for page in queried] == [(calls, 100), (calls, calls - 100)]
    assert (job["early"], job["states"]) == ([400, "bad.request"], ["QUEUED", "PENDING", "FULFILLED"])
    assert [len(page["conversations"]) for page in job["pages"]] == [50, 50, calls - 100]
    now, later = [[conversation for page in pages for conversation in page["conversations"]] for pages in (queried, job["pages"])]
    labels = [conversation["participants"][0].pop("attributes")["canaryVersion"] for conversation in later]
    assert Counter(labels) == {"v1": calls - canary, "v2": canary}
    assert now == later, "only the job tells of attributes"

    rows, last = read["rows"], {**ROW, "Traffic_Weight": 100, "revision": 2}
    assert (rows["created"], rows["replaced"], rows["read"]) == (ROW, last, last)
    assert (rows["listed"]["entities"], rows["left"]["total"]) == ([{"key": "main_ivr"}], 0)
    refused = {"flow": [404, "architect.flow.not.found"], "metric": [400, "bad.request"], "row": [400, "flows.datatables.schema.exception"]}
    assert read["refused"] == refused
