"""What checkov says about the templates as they are deployed: with SAM expanded, and in every variant with its conditions worked out.

Checkov reads neither `Fn::If` nor what SAM adds, so of the sources it would see half. It lives in an environment of its own, which is made
when it is missing: it pins a hundred packages.
"""

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import stack
from bootstrap import environment
from samtranslator.yaml_helper import yaml_parse
from test_template import FUNCTIONS, KEY, VARIANTS, expand, resolved

ALL = frozenset(FUNCTIONS)
QUEUES = frozenset({"AlertQueue", "AlertDlq"})
EVERYWHERE = frozenset(VARIANTS)
WITHOUT_KEY = EVERYWHERE - {"with everything"}
WITHOUT_CONCURRENCY = EVERYWHERE - {"with everything"}
OWN_DATA = EVERYWHERE - {"over what was kept"}


class Skip(NamedTuple):
    """A finding that stands: on which resources, in which variants, and why."""

    check: str
    resources: frozenset
    variants: frozenset
    reason: str


SKIPS = [
    Skip("CKV_AWS_116", ALL, EVERYWHERE, "a lost tick is made good by the next one, and both queues have dead letters of their own; the endpoint is called synchronously"),
    Skip("CKV_AWS_117", ALL, EVERYWHERE, "nothing of it is in a network: the functions need Genesys Cloud and public AWS endpoints, and a VPC would only add a NAT gateway"),
    Skip("CKV_AWS_173", ALL, EVERYWHERE, "the settings name secrets and hold none; Lambda encrypts them with its own key"),
    Skip("CKV_AWS_115", ALL - {"AlertForwarder"}, WITHOUT_CONCURRENCY, "small accounts cannot reserve concurrency, so it is off unless asked for"),
    Skip("CKV_AWS_115", frozenset({"AlertForwarder"}), EVERYWHERE, "each target's mapping is limited to two runs; a limit for all of them would throttle it"),
    Skip("CKV_AWS_18", frozenset({"Exports"}), OWN_DATA, "access logs need a second bucket; who read an export is in CloudTrail, where data events are on"),
    Skip("CKV_AWS_119", frozenset({"Ledger"}), WITHOUT_KEY & OWN_DATA, "the customer's key is optional; without it the table is under AWS's key for DynamoDB in this account"),
    Skip("CKV_AWS_158", frozenset(f"{name}Logs" for name in FUNCTIONS), WITHOUT_KEY, "the same; CloudWatch Logs encrypts with its own key"),
    Skip("CKV_AWS_26", frozenset({"AlertTopic", "RollbackTopic", "WatchersTopic"}), WITHOUT_KEY, "alarms cannot publish under AWS's key for SNS: without the customer's there is none"),
    Skip("CKV_AWS_27", QUEUES | {"RollbackQueue", "RollbackDlq"}, WITHOUT_KEY, "SQS encrypts with its own key, which the check does not know"),
    Skip("CKV_AWS_27", QUEUES, frozenset({"target as it comes"}), "as in the main stack"),
]  # fmt: skip


@pytest.fixture(scope="module")
def checkov() -> Path:
    """Its program, in an environment of its own."""
    return environment(stack.LOCAL / "checkov").with_name("checkov")


def as_given(template: dict, given: dict) -> dict:
    """As deployed with these parameters. Checkov takes a parameter for what it is by default, so that is what they become."""
    whole = resolved({"Outputs": {}} | template, given)
    for name, value in given.items():
        whole["Parameters"][name]["Default"] = value
    return {key: part for key, part in whole.items() if part}


def further(name: str) -> dict:
    target = yaml_parse(stack.ALERT_TARGET.read_text())
    return as_given(target, {key: value for key, value in VARIANTS[name].items() if key in target["Parameters"]} | {"Target": "oncall"})


@pytest.fixture(scope="module")
def report(checkov, tmp_path_factory) -> dict:
    """What it found: `{(variant, check, resource)}`, and how much it looked at. One run for all: most of its time is its start."""
    directory = tmp_path_factory.mktemp("checkov")
    faulty = expand()
    faulty["Resources"]["RollbackQueue"]["Properties"] = {"QueueName": "plain"}
    faulty["Resources"]["CanaryEvaluatorRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"][0].update(
        Action="*", Resource="*"
    )
    del faulty["Resources"]["Ledger"]["Properties"]["PointInTimeRecoverySpecification"]
    templates = {name: as_given(expand(), given) for name, given in VARIANTS.items()}
    templates |= {f"target {name}": further(name) for name in ("as it comes", "with everything")}
    templates |= {"key": yaml_parse(KEY.read_text()), "faulty": as_given(faulty, VARIANTS["with everything"])}
    for name, template in templates.items():
        (directory / f"{name.replace(' ', '-')}.json").write_text(json.dumps(template))
    command = [checkov, "--directory", directory, "--framework", "cloudformation", "--output", "json", "--compact", "--skip-download"]
    run = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=stack.clean_environment(BC_SKIP_MAPPING="TRUE")
    )
    assert run.returncode in (0, 1), run.stderr
    answer = json.loads(run.stdout)
    names = {f"/{name.replace(' ', '-')}.json": name for name in templates}

    def of(kind: str) -> set:
        return {(names[c["file_path"]], c["check_id"], c["resource"].rsplit(".", 1)[1]) for c in answer["results"][kind]}

    looked_at = {variant for variant, _, _ in of("passed_checks") | of("failed_checks")}
    assert answer["summary"]["parsing_errors"] == 0 and looked_at == set(templates), set(templates) - looked_at
    return {"failed": of("failed_checks"), "passed": of("passed_checks")}


def test_everything_it_finds_stands_with_a_reason_and_no_reason_is_left_over(report):
    found = {finding for finding in report["failed"] if finding[0] != "faulty"}
    expected = {(variant, skip.check, resource) for skip in SKIPS for variant in skip.variants for resource in skip.resources}
    assert sorted(found - expected) == [], "found, and no reason is given"
    assert sorted(expected - found) == [], "a reason is given for what is not found any more: take it out"
    assert len(report["passed"]) > 200


def test_it_finds_what_is_wrong(report):
    found = {(check, resource) for variant, check, resource in report["failed"] if variant == "faulty"}
    assert ("CKV_AWS_27", "RollbackQueue") in found, "a queue that is not encrypted"
    assert ("CKV_AWS_28", "Ledger") in found, "a table without point-in-time recovery"
    assert {check for check, resource in found if resource == "CanaryEvaluatorRole"}, "a role that may do everything"
