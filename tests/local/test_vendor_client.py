"""The vendor's own clients against the simulator: they find their way, and read what it meant. `make contract` installs them and runs
this; elsewhere it is skipped, for they are too big for every `make test`."""

import json
import shutil
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
import stack
from bootstrap import LOCAL

vendor = pytest.importorskip("PureCloudPlatformClientV2", reason="the vendor's client takes 170 MB: `make contract` installs it")

COP = "c0900000-0000-4000-8000-000000000001"
STABLE = "b10e0000-0000-4000-8000-000000000002"
CANARY = "97ee0000-0000-4000-8000-000000000003"
TABLE = "7ab1e000-0000-4000-8000-000000000004"
HALF_HOUR = "2026-11-20T09:00:00.000Z/2026-11-20T09:30:00.000Z"
SCRIPT = Path(__file__).with_name("contract") / "client.js"
MODULES = LOCAL / "contract" / "js" / "node_modules"


@pytest.fixture
def genesys():
    with stack.Simulator(seed=1) as genesys:
        yield genesys


@pytest.fixture
def client(genesys):
    """Logged in."""
    vendor.configuration.host = genesys.url
    return vendor.api_client.ApiClient().get_client_credentials_token("id", "secret")


@pytest.fixture
def architect(client):
    return vendor.ArchitectApi(client)


def test_a_flow_and_its_versions_are_read(architect):
    flow = architect.get_flow(STABLE)
    assert (flow.id, flow.name, flow.type, flow.active) == (STABLE, "Main_IVR_Blue", "INBOUNDCALL", True)
    assert (flow.locked_user, flow.locked_client, flow.current_operation) == (None, None, None)
    live = flow.published_version
    assert (live.id, live.type, live.date_published) == ("14.0", "PUBLISH", datetime(2026, 11, 13, 9, tzinfo=timezone.utc))

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


def test_flow_aggregates_are_queried(client, genesys):
    analytics, calls = vendor.AnalyticsApi(client), genesys.advance(30)["calls"]
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


def test_rows_are_written_and_read(architect):
    row = {"key": "main_ivr", "weight": 5, "enabled": True}
    assert architect.post_flows_datatable_rows(TABLE, row) == row
    assert architect.put_flows_datatable_row(TABLE, "main_ivr", body={**row, "weight": 0})["weight"] == 0
    assert architect.get_flows_datatable_row(TABLE, "main_ivr", showbrief=False) == {**row, "weight": 0}
    assert architect.get_flows_datatable_rows(TABLE).entities == [{"key": "main_ivr"}]
    architect.delete_flows_datatable_row(TABLE, "main_ivr")
    assert architect.get_flows_datatable_rows(TABLE).total == 0


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
    calls = genesys.advance(30)["calls"]
    genesys.advance(10)
    environment = stack.clean_environment(NODE_PATH=str(MODULES), HOME=str(tmp_path))
    run = subprocess.run(
        [shutil.which("node"), SCRIPT, genesys.url.rsplit(":", 1)[1], CANARY], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)[COP] == calls
