"""Every command of `serin` on the local stack: what it prints and in which form, with which exit code it ends, who the ledger names,
and what is left as it was when it is refused, only rehearsed, or when something cannot be reached.

Tests run in the order in which they stand here: the last ones ask whether every command and every document was seen.
"""

import contextlib
import http.server
import json
import os
import pty
import re
import select
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import demo
import playground
import pytest
import stack
import yaml

MAIN, ROW, SEEN, ASKS, NEW = demo.FLOW, "row_line", "seen_line", "asks_line", "new_line"
FLOWS = (MAIN, ROW, SEEN, ASKS, NEW)
IVR = "1f500000-0000-4000-8000-000000000007"
COP = "c0900000-0000-4000-8000-000000000001"
CLOSED = "http://127.0.0.1:9"
POLICIES = {
    MAIN: "{steps: [5, 25, 50], expected_calls_per_hour: 3000, bake_time: 120, final_bake_time: 600}",
    ROW: "{expected_calls_per_hour: 3000, final_bake_time: 600}",
    SEEN: "{mode: observe, steps: [5, 25], expected_calls_per_hour: 3000, rule: {kind: threshold}}",
    ASKS: "{mode: advise, steps: [25, 50], expected_calls_per_hour: 3000, rule: {kind: threshold}}",
    NEW: "{steps: [5, 25], expected_calls_per_hour: 3000}",
}
# Characters that a terminal acts on; line ends and tabs are for everybody.
ESCAPES = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
REFERENCE = (stack.ROOT / "docs" / "reference.md").read_text()
OUTPUT = (stack.ROOT / "docs" / "output.md").read_text()


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict:
        return json.loads(self.out)


class Site:
    """A stack, an organization with a rollout of every kind, and the tool in a directory of its own."""

    def __init__(self, aws: stack.Stack, genesys: stack.Simulator, ids: dict, place):
        self.aws, self.genesys, self.ids, self.place = aws, genesys, ids, place
        self.ran, self.rehearsed, self.asked, self.documents, self.printed = set(), set(), set(), [], []
        self._token = None

    # The tool

    def environment(self, **more: str | None) -> dict:
        """Set on top of what every test has; None takes a variable out."""
        env = stack.clean_environment(
            AWS_ENDPOINT_URL=self.aws.endpoint,
            AWS_REGION=stack.REGION,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_EC2_METADATA_DISABLED="true",
            HOME=str(self.place),
            SERIN_STAGE="local",
            SERIN_TIME="last-tick",
            SERIN_CONFIG=str(self.place / "contexts.yaml"),
            GENESYS_API=self.genesys.url,
        )
        return {name: value for name, value in {**env, **more}.items() if value is not None}

    def serin(self, *words: str, code: int | None = 0, said: str = "", **more: str | None) -> Done:
        """Runs it with no terminal around. `code` is how it must end, `said` what must stand in what it says."""
        command = [str(stack.binary("serin")), *words]
        ran = subprocess.run(command, env=self.environment(**more), cwd=self.place, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        shown = f"serin {' '.join(words)} ended with {ran.returncode}\n{ran.stdout.decode()}{ran.stderr.decode()}"
        assert not ESCAPES.search(ran.stdout + ran.stderr), f"{shown}\n{ran.stdout + ran.stderr!r}"
        assert b"panicked" not in ran.stderr, shown
        assert code is None or ran.returncode == code, shown
        assert said in shown, f"not said: {said}\n{shown}"
        done = Done(ran.returncode, ran.stdout.decode(), ran.stderr.decode())
        self._remember(words, done)
        return done

    def _remember(self, words: tuple[str, ...], done: Done) -> None:
        line = " ".join(words)
        self.ran.add(self.command(words))
        if "--dry-run" in words and done.code == 0:
            self.rehearsed.add(self.command(words))
        form = re.search(r"(?:-o|--output) (json|yaml)", line)
        if form and form[1] == "json" and done.out.startswith("{") and "export" not in words:
            self.printed.append((line, done.out))
        if form and "export" not in words and "--terraform" not in words:
            for text in (done.out, done.err):
                with contextlib.suppress(ValueError, yaml.YAMLError):
                    document = yaml.safe_load(text)  # JSON is YAML
                    if isinstance(document, dict) and "version" in document:
                        self.documents.append((line, document))

    @staticmethod
    def command(words: tuple[str, ...]) -> str:
        """Its name in the reference."""
        return next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), "")

    def told(self, *words: str, code: int | None = 0, **more: str | None) -> tuple[dict, str]:
        """The document and the table; JSON and YAML must say the same."""
        table, as_json, as_yaml = (self.serin(*words, "-o", form, code=code, **more) for form in ("table", "json", "yaml"))
        document = as_json.document
        # What would get an id made of the time gets another one each time it is rehearsed.
        same = [json.dumps(one, sort_keys=True) for one in (document, yaml.safe_load(as_yaml.out))]
        assert len({re.sub(r"-\d{13}\b", "-ID", one) for one in same}) == 1, f"{words}\n{as_json.out}\n{as_yaml.out}"
        assert document["version"] == 1 and isinstance(document["kind"], str), as_json.out
        assert table.out.strip() and not table.out.lstrip().startswith("{"), table.out
        return document, table.out

    def did(self, *words: str, form: str = "json", **more: str | None) -> dict:
        """Does it once, and answers the document."""
        text = self.serin(*words, "-o", form, **more).out
        return json.loads(text) if form == "json" else yaml.safe_load(text)

    def window(self, *words: str, form: str = "json", **more: str | None) -> dict:
        """Sets or ends a maintenance window, a freeze or the stop, and answers it."""
        document = self.did(*words, form=form, **more)
        return document.get("restriction", document)

    def file(self, flow: str, version: str, name: str | None = None) -> str:
        """A rollout file; answers its name."""
        row = f"pointer: {{table: {demo.TABLE}}}\nstrategy: pointer\n" if flow == ROW else ""
        slots = f'stable: {{flow_id: {self.slot(flow)}}}\ncanary: {{flow_id: {self.slot(flow, "Green")}, version: "{version}"}}\n'
        name = name or f"{flow}-{version}.yaml"
        (self.place / name).write_text(f"flow: {flow}\n{slots}labels: {{stable: v1, canary: v2}}\npolicy: {POLICIES[flow]}\n{row}")
        return name

    def slot(self, flow: str, colour: str = "Blue") -> str:
        return self.ids[f"{'Main_IVR' if flow == MAIN else flow}_{colour}"]

    def check_in(self, flow: str, behavior: dict = demo.HEALTHY) -> str:
        return self.genesys.check_in(self.slot(flow, "Green"), behavior)

    def flow_yaml(self, flow: str, version: str) -> str:
        """A version as a file, as Archy writes it."""
        (self.place / "flow.yaml").write_bytes(playground.exported(self.genesys.url, self.slot(flow, "Green"), version))
        return "flow.yaml"

    # Time

    def tick(self) -> None:
        now = self.genesys.now()
        self.aws.tick("rollback-executor", now)
        self.aws.tick("canary-evaluator", now)

    def minutes(self, count: int, every: int = 5) -> None:
        """Lets callers call, a tick every so many minutes."""
        for _ in range(0, count, every):
            self.genesys.advance(every, {}, self.aws.flow_parameters(*FLOWS))
            self.tick()

    def until(self, flow: str, phase: str, ticks: int = 12, every: int = 10) -> None:
        for _ in range(ticks):
            if self.phase(flow) == phase:
                return
            self.minutes(every, every)
        raise AssertionError(f"{flow} is not {phase}:\n{self.serin('ledger', 'show', flow).out}")

    def phase(self, flow: str) -> str | None:
        rollout = self.did("status", flow)["rollout"]
        return rollout and rollout["phase"]

    def percentage(self, flow: str) -> float:
        return float(self.aws.parameter(f"/genesys/canary/local/{flow}/percentage") or 0)

    # What is there

    def state(self) -> dict:
        """Ledger, parameters and Genesys Cloud, each thing by its name."""
        dynamodb, ssm = self.aws.client("dynamodb"), self.aws.client("ssm")
        pages = dynamodb.get_paginator("scan").paginate(TableName=self.aws.outputs["LedgerTable"], ConsistentRead=True)
        found = {f"item {item['pk']['S']} {item['sk']['S']}": item for page in pages for item in page["Items"]}
        for page in ssm.get_paginator("get_parameters_by_path").paginate(Path="/", Recursive=True, WithDecryption=True):
            found |= {f"parameter {one['Name']}": (one["Value"], one["Version"]) for one in page["Parameters"]}
        paths = [f"architect/ivrs/{IVR}", f"flows/datatables/{demo.TABLE}/rows?showbrief=false&pageSize=100"]
        paths += [f"flows/{id}{more}" for name, id in self.ids.items() if not name.endswith("TrafficCop") for more in ("", "/versions")]
        return found | {path: self.asks_genesys(path) for path in paths}

    def asks_genesys(self, path: str) -> dict:
        if not self._token:
            basic = "c2VyaW4tcmVhZDpsb2NhbC1yZWFkLXNlY3JldA=="  # serin-read:local-read-secret
            answer = playground.send(f"{self.genesys.url}/oauth/token", b"grant_type=client_credentials", Authorization=f"Basic {basic}")
            self._token = json.loads(answer)["access_token"]
        return json.loads(playground.send(f"{self.genesys.url}/api/v2/{path}", Authorization=f"Bearer {self._token}"))

    def settled(self) -> dict:
        """The same twice: what was under way in the background has come to its end."""
        before = self.state()
        for _ in range(40):
            time.sleep(0.25)
            now = self.state()
            if now == before:
                return now
            before = now
        raise AssertionError("something goes on changing")

    @contextlib.contextmanager
    def unchanged(self):
        """Whatever happens within leaves everything as it was, byte for byte."""
        before = self.settled()
        yield
        self.same(before, self.state())

    @staticmethod
    def same(before: dict, now: dict) -> None:
        differ = {name: (before.get(name), now.get(name)) for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        assert not differ, json.dumps(differ, indent=1, default=str)

    def last(self, flow: str) -> dict:
        return self.did("ledger", "show", flow)["entries"][-1]


def strict(text: str) -> dict:
    """A JSON document in which no name comes twice."""

    def once(pairs):
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), f"a name comes twice: {names}\n{text}"
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)


# ------------------------------------------------------------------------------------------------------------------- what is documented


def sections(text: str, level: str) -> dict[str, str]:
    parts = re.split(rf"(?m)^{level} (.+)$", text)
    return dict(zip([name.strip() for name in parts[1::2]], parts[2::2]))


COMMANDS = {name.removeprefix("serin "): text for name, text in sections(REFERENCE, "##").items() if name.startswith("serin ")}


def with_option(option: str) -> set[str]:
    return {name for name, text in COMMANDS.items() if re.search(rf"(?m)^\| `[^`]*{option}[ `]", text)}


def documented() -> dict[str, dict[str, bool]]:
    """`{kind: {field: whether it is always there}}`, of the first table under each `### Kind`."""
    kinds = {}
    for kind, text in sections(OUTPUT, "###").items():
        rows = re.findall(r"(?m)^\| `(\w+)`( \(not always\))? \|", re.split(r"(?m)^(?:####|##) ", text)[0])
        kinds[kind.strip("`")] = {name: not sometimes for name, sometimes in rows}
    return kinds


# -------------------------------------------------------------------------------------------------------------------------- the fixture


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Rollouts: one that steps, one by a row, one that is only observed, one that asks; and a flow without any."""
    slots = [{"slot": flow, **({"cop_reads": "row"} if flow == ROW else {})} for flow in FLOWS]
    with stack.Simulator(seed=demo.SEED) as genesys, stack.Stack() as aws:
        flows = genesys.reset(seed=demo.SEED, start=demo.START, calls_per_hour=3000, requests_per_minute=100_000, flows=slots)["flows"]
        demo.deploy(aws, genesys)
        made = Site(aws, genesys, {flow["name"]: flow["id"] for flow in flows}, tmp_path_factory.mktemp("serin"))
        made.minutes(120, every=120)
        yield made


@pytest.fixture(scope="module")
def running(site):
    versions = {flow: site.check_in(flow) for flow in (MAIN, ROW, SEEN, ASKS)}
    for flow, version in versions.items():
        site.serin("start", site.file(flow, version), "--reason", "a new menu")
    site.tick()
    # Where Serin only observes, people publish the version, and the percentage is theirs from the beginning.
    site.genesys.by_hand("publish", flow_id=site.slot(SEEN, "Green"), version=versions[SEEN], user="Robin")
    site.aws.put_parameter(f"/genesys/canary/local/{SEEN}/percentage", "0")
    site.until(SEEN, "Stepping")
    site.aws.put_parameter(f"/genesys/canary/local/{SEEN}/percentage", "25")
    site.until(ASKS, "AwaitingApproval")
    for _ in range(6):
        if site.did("report", SEEN)["items"][0]["advice"]:
            break
        site.minutes(10, every=10)
    assert [site.phase(flow) for flow in (MAIN, ROW, SEEN, NEW)] == ["Stepping", "Baking", "Stepping", None]
    return site


# ------------------------------------------------------------------------------------------------- without a stack: nothing is contacted


NOWHERE = {"AWS_ENDPOINT_URL": CLOSED, "GENESYS_API": None, "SERIN_TIME": None}


def test_what_is_told_of_a_file_needs_nothing(site):
    file = site.file(MAIN, "15.0")
    document, table = site.told("validate", file, **NOWHERE)
    assert document["plan"]["flow"] == MAIN and "accepted" in table
    document, table = site.told("plan", file, **NOWHERE)
    assert document["weights"] == [5, 25, 50] and "when all is well" in table
    assert "complete" in site.serin("completions", "bash", **NOWHERE).out
    schema = json.loads(site.serin("schema", **NOWHERE).out)
    assert "flow" in schema["properties"] and schema == yaml.safe_load(site.serin("schema", "-o", "yaml", **NOWHERE).out)


def test_a_starter_file_is_written_once_and_is_accepted(site):
    for strategy in ("traffic-cop", "pointer", "in-flow", "publish-watch"):
        stable = ("--stable", "b10e") if strategy in ("traffic-cop", "pointer") else ()
        words = ("init", MAIN, *stable, "--canary", "97ee", "--version", "15.0", "--strategy", strategy, "--out", f"{strategy}.yaml")
        document, table = site.told(*words, "--force", **NOWHERE)
        assert (document["file"], document["flow"]) == (f"{strategy}.yaml", MAIN) and "serin validate" in table
        site.serin("validate", f"{strategy}.yaml", **NOWHERE)
        before = (site.place / f"{strategy}.yaml").read_text()
        site.serin(*words, code=2, said="is there already", **NOWHERE)
        assert (site.place / f"{strategy}.yaml").read_text() == before
    printed = site.serin("init", MAIN, "--stable", "b10e", "--canary", "97ee", "--version", "15.0", "--out", "-", **NOWHERE).out
    assert yaml.safe_load(printed)["policy"]["mode"] == "observe"


def test_contexts_are_kept_changed_and_forgotten(site):
    contexts = {"SERIN_CONFIG": str(site.place / "own" / "contexts.yaml"), **NOWHERE, "SERIN_STAGE": None, "AWS_REGION": None}
    assert site.told("context", "list", **contexts)[0]["items"] == []
    first = site.did("context", "add", "eu", "--stage", "prod", "--region", "eu-central-1", **contexts)
    assert [(one["name"], one["current"]) for one in first["items"]] == [("eu", True)]
    second = site.did("context", "add", "us", "--region", "us-east-1", form="yaml", **contexts)
    assert [(one["name"], one["current"]) for one in second["items"]] == [("eu", True), ("us", False)]
    changed = site.did("context", "add", "us", "--profile", "acme", "--use", **contexts)["items"][1]
    assert (changed["region"], changed["profile"], changed["current"]) == ("us-east-1", "acme", True), "what is not said stays"
    used, table = site.told("context", "use", "eu", **contexts)
    assert used["items"][0]["current"] and re.search(r"(?m)^\*\s+eu\s+prod", table)
    left = site.did("context", "remove", "eu", **contexts)
    assert [(one["name"], one["current"]) for one in left["items"]] == [("us", False)]
    site.serin("context", "remove", "eu", code=2, said="serin context list", **contexts)
    site.serin("context", "use", "eu", "-o", "json", code=2, said='"exit_code": 2', **contexts)


class Listener:
    """Where AWS would be: remembers who asked for which table, and answers no."""

    def __enter__(self):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                key, _day, region, _service = re.search(r"Credential=([^,]+)/aws4_request", self.headers["Authorization"])[1].split("/")
                if self.headers.get("X-Amz-Target", "").startswith("DynamoDB"):
                    asked.append((region, key, json.loads(body)["TableName"]))
                self.send_response(400)
                self.end_headers()
                self.wfile.write(b'{"__type":"ResourceNotFoundException","message":"no such table"}')

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def test_a_flag_counts_before_a_named_context_then_the_environment_then_the_current_context(site):
    (site.place / "aws").write_text(
        "".join(
            f"[profile {name}]\nregion = {name}-profile-1\naws_access_key_id = {name}\naws_secret_access_key = x\n"
            for name in ("flag", "env", "context")
        )
    )
    (site.place / "two.yaml").write_text(
        "current: context\ncontexts:\n"
        "  context: {stage: context, profile: context, region: context-region-1, table: context}\n"
        "  other: {stage: other}\n  bare: {}\n"
    )
    bare = {
        "SERIN_CONFIG": str(site.place / "two.yaml"),
        "AWS_CONFIG_FILE": str(site.place / "aws"),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        **dict.fromkeys(("SERIN_STAGE", "SERIN_TIME", "AWS_REGION", "GENESYS_API")),
    }
    with Listener() as aws:

        def asked(*words, keys=False, **more):
            """Region, key and table of the request."""
            none = {} if keys else {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
            aws.asked.clear()
            site.serin("status", *words, code=1, **{**bare, **none, "AWS_ENDPOINT_URL": aws.url, **more})
            return aws.asked[0]

        assert asked() == ("context-region-1", "context", "context")
        assert asked(SERIN_LEDGER_TABLE="env") == ("context-region-1", "context", "env")
        assert asked("--table", "flag", SERIN_LEDGER_TABLE="env") == ("context-region-1", "context", "flag")
        assert asked("--region", "flag-region-1", "--profile", "flag", AWS_REGION="env-region-1", AWS_PROFILE="env") == (
            "flag-region-1",
            "flag",
            "context",
        )
        assert asked(AWS_REGION="env-region-1", AWS_PROFILE="env") == ("env-region-1", "env", "context")
        # Whoever names a context means it; which one: the flag's before the environment's.
        assert asked("--context", "context", AWS_REGION="env-region-1", SERIN_LEDGER_TABLE="env") == ("context-region-1", "context", "context")
        assert asked("--context", "other", SERIN_CONTEXT="bare", AWS_PROFILE="env") == ("env-profile-1", "env", "serin-other-ledger")
        assert asked(SERIN_CONTEXT="other", SERIN_STAGE="env", AWS_PROFILE="env")[2] == "serin-other-ledger"
        assert asked("--stage", "flag", SERIN_CONTEXT="other", AWS_PROFILE="env")[2] == "serin-flag-ledger"
        # What a context leaves out is the environment's, and then the default.
        assert asked(SERIN_CONTEXT="bare", SERIN_STAGE="env", AWS_PROFILE="env")[2] == "serin-env-ledger"
        assert asked(SERIN_CONTEXT="bare", AWS_PROFILE="env")[2] == "serin-prod-ledger"
        # A service's own endpoint counts before that of all, as in the AWS CLI.
        assert asked(AWS_ENDPOINT_URL=CLOSED, AWS_ENDPOINT_URL_DYNAMODB=aws.url)[2] == "context"


# ---------------------------------------------------------------------------------------------------------------------- what is looked at


def test_a_flow_without_a_rollout_says_so_everywhere(site):
    for words in (("status",), ("status", NEW), ("explain", NEW), ("history", NEW), ("report", NEW), ("ledger", "show", NEW), ("gate", NEW)):
        document, table = site.told(*words)
        assert document.get("flow", NEW) in (NEW, None) and table
    site.serin("ledger", "verify", NEW, code=20, said="has no ledger here")
    site.serin("retry", NEW, "--reason", "again", code=3, said="has had no rollout")
    assert site.serin("ledger", "export", NEW).out.strip() == ""


def test_where_rollouts_stand(running):
    document, table = running.told("status")
    assert {line["flow"] for line in document["items"]} == {MAIN, ROW, SEEN, ASKS} and table.startswith("FLOW")
    document, table = running.told("status", MAIN)
    assert document["rollout"]["phase"] == "Stepping" and document["rollout"]["cohorts"]["canary"]["calls"] > 0
    assert re.search(r"(?m)^  canary +\d+  \d", table) and "to rollback" in table
    for words in (("explain", MAIN), ("explain", ASKS, "--now"), ("history", MAIN), ("ledger", "show", MAIN), ("ledger", "verify", MAIN)):
        running.told(*words)
    observed, table = running.told("report", SEEN)
    assert observed["items"][0]["advice"], "an hour of healthy calls is enough for an advice"
    assert "would have" in table
    running.serin("status", MAIN, "--watch", code=2, said="terminal")


def test_a_doctor_looks_and_changes_nothing(running):
    with running.unchanged():
        document, table = running.told("doctor", running.file(MAIN, "15.0"), code=None)
        assert {"identity", "ledger", "parameters", "endpoint's source", "publish client"} <= {check["of"] for check in document["items"]} and "stage local" in table


def test_a_ledger_is_copied_checked_and_replayed(running):
    (running.place / "copy.jsonl").write_text(running.serin("ledger", "export", MAIN).out)
    (running.place / "all.jsonl").write_text(running.serin("ledger", "export", MAIN, "--all", "-o", "json").out)
    assert (running.place / "copy.jsonl").read_text() == (running.place / "all.jsonl").read_text(), "it is the first rollout"
    document, _ = running.told("ledger", "verify", "--file", "copy.jsonl", **NOWHERE)
    assert document["intact"] and document["copy"]
    document, table = running.told("replay", "copy.jsonl", **NOWHERE)
    assert len(document["items"]) == 1 and "sequential" in table
    # One letter is another one now.
    (running.place / "changed.jsonl").write_text((running.place / "copy.jsonl").read_text().replace("a new menu", "a now menu", 1))
    document, table = running.told("ledger", "verify", "--file", "changed.jsonl", code=10, **NOWHERE)
    assert not document["intact"] and "NOT INTACT" in table
    running.told("ledger", "verify", MAIN, "--anchor", anchor(running, MAIN))


def anchor(site, flow: str) -> str:
    shown = site.did("ledger", "show", flow)
    return f"{shown['revision']}:{shown['head_hash']}"


def test_the_gate_is_closed_while_a_rollout_runs(running):
    document, table = running.told("gate", MAIN, code=10)
    assert (document["open"], document["code"]) == (False, 10) and "Stepping" in table
    flat = json.loads(running.serin("gate", MAIN, "--terraform").out)
    assert flat["open"] == "false" and flat["code"] == "10" and all(isinstance(value, str) for value in flat.values())


def test_preflight_looks_and_changes_nothing(running):
    file = running.file(NEW, running.check_in(NEW))
    with running.unchanged():
        document, table = running.told("preflight", file)
        assert document["ready"] and "nothing is in the way" in table
        running.genesys.fault({"kind": "forbid", "permission": "architect:job:create", "client_id": "serin-publish"})
        document = running.did("preflight", file, code=10)
        running.genesys.clear_faults()
        assert not document["ready"] and any("architect:job:create" in problem for problem in document["problems"]), document


# ------------------------------------------------------------------------------------------------------------- rehearsed, or not confirmed


def rehearsed(site, *words: str) -> None:
    """Says what would be done, in all three forms, and leaves everything as it was."""
    before = site.settled()
    document, table = site.told(*words, "--dry-run")
    site.same(before, site.state())
    assert document["kind"] in ("DryRun", "Adoption") and "nothing was changed" in table.lower(), table


def test_a_rehearsal_says_what_would_be_done_and_changes_nothing(running):
    version, why = running.check_in(NEW), ("--reason", "rehearsed")
    file = running.file(NEW, version)
    for words in (
        ("start", file),
        ("deploy", file, "--flow-yaml", running.flow_yaml(NEW, version)),
        ("pause", MAIN),
        ("approve", ASKS),
        ("advance", MAIN),
        ("promote", MAIN),
        ("abort", MAIN),
        ("abort", ROW),
        ("rollback", MAIN),
        ("rollback", ROW),
        ("intervene", MAIN, "--to", "canary"),
        ("intervene", MAIN, "--to", "stable"),
        ("freeze", "--for", "2h"),
        ("maintenance", "add", MAIN, "--every", "Fri 16:00 - Mon 08:00", "--zone", "Europe/Berlin"),
        ("stop-all",),
    ):
        rehearsed(running, *words, *why)
    # What makes no sense is refused as ever.
    for words in (("resume", MAIN), ("clear", MAIN), ("retry", MAIN), ("approve", MAIN), ("start", running.file(MAIN, "15.0"))):
        refused = running.serin(*words, *why, "--dry-run", code=3)
        assert "nothing was changed" in refused.err, refused.err


def unconfirmed(site, *words: str) -> None:
    """Wants a yes where nobody can be asked."""
    before = site.settled()
    site.serin(*words, code=3, said="--yes")
    refused = site.serin(*words, "-o", "json", code=3)
    assert strict(refused.err)["exit_code"] == 3 and not refused.out
    site.same(before, site.state())
    site.asked.add(site.command(words))


def test_what_is_dangerous_wants_a_yes_where_nobody_can_be_asked(running):
    version, why = running.check_in(NEW), ("--reason", "x")
    file = running.file(NEW, version)
    unconfirmed(running, "start", file, "--off-hours-full", *why)
    unconfirmed(running, "retry", MAIN, "--off-hours-full", *why)
    unconfirmed(running, "deploy", file, "--flow-yaml", running.flow_yaml(NEW, version), *why)
    unconfirmed(running, "adopt", file, "--ivr", other_ivr(running), "--cop", running.slot(NEW, "TrafficCop"), "--undo")
    unconfirmed(running, "intervene", MAIN, "--to", "canary", *why)
    unconfirmed(running, "stop-all", *why)
    unconfirmed(running, "advance", MAIN, *why)
    unconfirmed(running, "promote", MAIN, *why)
    unconfirmed(running, "clear-quarantine", MAIN, *why)
    unconfirmed(running, "maintenance", "add", "--for", "2h", *why)


def other_ivr(site) -> str:
    """The IVR configuration by which callers of a flow without a rollout come in."""
    return next(ivr["id"] for ivr in site.asks_genesys("architect/ivrs?pageSize=100")["entities"] if ivr["name"] == NEW)


def test_the_number_is_shown_before_it_is_led_elsewhere(running):
    words = ("adopt", running.file(NEW, "2.0"), "--ivr", other_ivr(running), "--cop", running.slot(NEW, "TrafficCop"))
    with running.unchanged():
        document, table = running.told(*words, "--undo", "--dry-run")
        assert not document["changed"] and "then   open hours lead to new_line_Blue" in table
    assert running.did(*words, "--undo", "--yes")["changed"]
    assert running.did(*words, "--yes", form="yaml")["changed"]
    running.serin("adopt", running.file(MAIN, "15.0"), "--ivr", IVR, "--cop", COP, "--undo", "--yes", code=3, said="end it first")


# --------------------------------------------------------------------------------------------------------------------- who did it, and why


@pytest.fixture(scope="module")
def people(site):
    """Keys of people by their names: each may do what the policy says."""
    iam, made = site.aws.client("iam"), {}

    def person(name: str, *statements: dict) -> dict:
        if name not in made:
            iam.create_user(UserName=name)
            every = {"Effect": "Allow", "Action": "*", "Resource": "*"}
            policy = {"Version": "2012-10-17", "Statement": [every, *statements]}
            iam.put_user_policy(UserName=name, PolicyName="work", PolicyDocument=json.dumps(policy))
            key = iam.create_access_key(UserName=name)["AccessKey"]
            made[name] = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        return made[name]

    return person


def test_the_ledger_names_the_aws_identity_and_the_reason(running, people):
    ana, arn = people("ana"), "arn:aws:iam::000000000000:user/ana"

    def by_and_why(flow):
        entry = running.last(flow)
        return entry["event"], entry["by"]["name"], entry["why"]

    def named(entry, *words):
        event, by, why = entry
        assert all(word in by for word in words[:-1]) and words[-1] in why, entry

    running.did("pause", MAIN, "--reason", "callers complain", **ana)
    named(by_and_why(MAIN), arn, "callers complain")
    rehearsed(running, "resume", MAIN, "--reason", "it was the trunk")
    running.did("resume", MAIN, "--reason", "it was the trunk", "--by", "night shift", **ana)
    named(by_and_why(MAIN), arn, "night shift", "it was the trunk")
    running.did("pause", MAIN, "--reason", "once more", SERIN_BY="the pipeline", **ana)
    named(by_and_why(MAIN), arn, "the pipeline", "once more")
    running.did("resume", MAIN, "--reason", "fine", **ana)
    frozen = running.window("freeze", ROW, "--for", "2h", "--reason", "holidays", **ana)
    assert arn in frozen["by"] and frozen["reason"] == "holidays"
    ended = running.window("maintenance", "end", frozen["id"], "--reason", "over", **ana)
    assert arn in ended["ended"] and "over" in ended["ended"]


# -------------------------------------------------------------------------------------------------------------------- what changes something


def test_a_hand_on_a_rollout_says_where_it_stands_then(running):
    paused = running.did("pause", MAIN, "--reason", "wait")
    resumed = running.did("resume", MAIN, "--reason", "on", form="yaml")
    assert (paused["phase"], resumed["phase"]) == ("Paused", "Stepping")
    assert running.did("pause", MAIN, "--reason", "wait", form="yaml") == paused
    assert running.percentage(MAIN) > 0, "paused at its weight"
    running.serin("pause", MAIN, "--reason", "wait", "-o", "json", code=3, said='"kind": "Error"')
    assert running.did("resume", MAIN, "--reason", "on")["phase"] == "Stepping"
    assert "stands at" in running.serin("pause", MAIN, "--reason", "wait").out and "stands at" in running.serin("resume", MAIN, "--reason", "on").out
    running.serin("approve", MAIN, "--reason", "yes", code=3, said="nothing was changed")
    assert running.did("approve", ASKS, "--reason", "yes")["flow"] == ASKS
    running.minutes(5)
    assert running.percentage(ASKS) == 50


def test_times_in_which_nothing_rises_are_set_shown_and_ended(running):
    why = ("--reason", "new trunk")
    for words in (
        ("freeze", MAIN, "--for", "2h", *why),
        ("freeze", "--from", "2026-12-24T16:00:00+01:00", "--until", "2027-01-02T08:00:00+01:00", *why),
        ("maintenance", "add", MAIN, "--every", "Tue 01:00 - Tue 05:00", "--zone", "Europe/Berlin", *why),
        ("maintenance", "add", "--for", "90m", "--contain", "--yes", *why),
    ):
        made = [running.window(*words, form=form) for form in ("json", "yaml")]
        assert made[0].keys() == made[1].keys(), made
        shown, table = running.told("maintenance", "list")
        for one in made:
            listed = [other["id"] for other in shown["items"]]
            assert listed.count(one["id"]) == 1 and one["id"] in table, f"{one['id']} is not in {listed}"
        for one in {one["id"] for one in made}:
            running.window("maintenance", "end", one, "--reason", "over")
    running.serin("maintenance", "end", "freeze-0", *why, code=3, said="serin maintenance list")
    rehearsed(running, "maintenance", "end", running.window("freeze", ASKS, "--for", "1m", *why)["id"], "--reason", "over")
    frozen = running.window("freeze", NEW, "--for", "2h", *why)
    running.serin("gate", NEW, code=12, said="freeze")
    running.serin("start", running.file(NEW, "2.0"), *why, code=3, said="freeze")
    running.window("maintenance", "end", frozen["id"], "--reason", "over")
    running.serin("gate", NEW, code=0)


def test_two_windows_that_are_set_at_once_are_two(running):
    """On a stage whose clock is the events' nothing moves between two ticks."""
    made = [running.window("freeze", flow, "--for", "2h", "--reason", "new trunk")["id"] for flow in (MAIN, ASKS)]
    listed = [one["id"] for one in running.did("maintenance", "list")["items"]]
    for one in set(made):
        running.window("maintenance", "end", one, "--reason", "over")
    assert len(set(made)) == 2 and set(made) <= set(listed), f"{made}, listed {listed}"


def test_a_turn_is_taken_once_and_given_back(running):
    taken = running.did("gate", NEW, "--hold", "10m", "--holder", "build/7")
    assert taken["open"] and taken["holder"] == "build/7" and taken["until"]
    document, _ = running.told("gate", NEW, code=10)
    assert document["holder"] == "build/7"
    running.serin("gate", NEW, "--hold", "10m", "--holder", "build/8", code=10, said="build/7")
    running.serin("start", running.file(NEW, "2.0"), "--reason", "x", code=3, said="build/7")
    running.serin("gate", NEW, SERIN_HOLDER="build/7")
    running.serin("gate", NEW, "--release", "--holder", "build/8", said="nothing was changed")
    document, _ = running.told("gate", NEW, "--release", "--holder", "build/7")
    assert document["code"] == 0
    running.serin("gate", NEW)


def test_a_file_is_deployed_opened_again_and_taken_back(running):
    version = running.check_in(NEW)
    words = (running.file(NEW, version, "new.yaml"), "--flow-yaml", running.flow_yaml(NEW, version), "--reason", "new hours")
    deployed = running.did("deploy", *words, "--yes")
    assert (deployed["flow"], deployed["phase"]) == (NEW, "Preparing") and deployed["expected"]
    running.serin("deploy", *words, "--yes", code=10, said="nothing was changed")
    running.until(NEW, "Stepping")
    ended = running.did("abort", NEW, "--reason", "not today", form="yaml")
    assert ended["phase"] == "Aborted" and running.percentage(NEW) == 0
    running.serin("abort", NEW, "--reason", "twice", code=3, said="nothing was changed")
    rehearsed(running, "retry", NEW, "--reason", "today")
    again = running.did("retry", NEW, "--reason", "today")
    assert again.keys() == deployed.keys() and again["rollout"] != deployed["rollout"]
    running.until(NEW, "Stepping")
    assert running.did("advance", NEW, "--reason", "seen enough", "--yes")["flow"] == NEW
    running.serin("promote", NEW, "--reason", "seen enough", "--yes")
    # Put back, and somebody is in the way.
    running.genesys.fault({"kind": "status", "path": "/api/v2/flows/actions/publish", "status": 403, "times": 1000})
    back = running.did("rollback", NEW, "--reason", "looks odd")
    assert back["weight"] == 0 and running.percentage(NEW) == 0
    running.until(NEW, "NeedsHuman")
    running.genesys.clear_faults()
    running.serin("gate", NEW, code=10)
    rehearsed(running, "clear", NEW, "--reason", "published by hand")
    assert running.did("clear", NEW, "--reason", "published by hand")["flow"] == NEW
    running.serin("gate", NEW, code=11, said="15 minutes")
    running.serin("start", words[0], "--reason", "again", code=3, said="15 minutes")
    document, table = running.told("history", NEW)
    assert document["rollouts"] == 2 and table.startswith("ROLLOUT")
    # What was taken back is not rolled out again, until a person says so.
    rehearsed(running, "clear-quarantine", NEW, "--reason", "it was the trunk")
    assert running.did("clear-quarantine", NEW, "--reason", "it was the trunk", "--yes")["configuration"]
    running.serin("clear-quarantine", NEW, "--reason", "twice", "--yes", code=3)


# --------------------------------------------------------------------------------------------------------------------------- a terminal


def on_a_terminal(site, *words: str, answer: bytes = b"", **more: str | None) -> tuple[int, bytes]:
    """Runs it with a terminal around, and answers what it is asked."""
    ours, theirs = pty.openpty()
    env = site.environment(**{"TERM": "xterm-256color", **more})
    program = subprocess.Popen([str(stack.binary("serin")), *words], env=env, cwd=site.place, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):
        while select.select([ours], [], [], 30)[0] and (data := os.read(ours, 65536)):
            said += data
            if answer and b"Type yes" in said:
                os.write(ours, answer)
                answer = b""
    os.close(ours)
    return program.wait(timeout=10), said.replace(b"\r\n", b"\n")


COLOR = re.compile(rb"\x1b\[[0-9;]*m")


def test_colors_are_for_terminals_and_never_the_only_sign(running):
    plain = running.serin("history", NEW).out.encode()
    code, colored = on_a_terminal(running, "history", NEW)
    assert code == 0 and COLOR.search(colored) and COLOR.sub(b"", colored) == plain, "the words are the same"
    for none in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, said = on_a_terminal(running, "history", NEW, **none)
        assert code == 0 and said == plain, none
    for words in (("status",), ("status", NEW), ("explain", NEW), ("history", NEW), ("gate", NEW), ("--help",), ("pause",)):
        code, said = on_a_terminal(running, *words, NO_COLOR="1")
        assert not COLOR.search(said), said
    # A document is for programs, wherever it is printed.
    assert not COLOR.search(on_a_terminal(running, "history", NEW, "-o", "json")[1])


def test_on_a_terminal_it_asks_and_only_yes_is_yes(running):
    words = ("stop-all", "--reason", "bad night")
    for answer in (b"\n", b"no\n", b"Y E S\n"):
        with running.unchanged():
            code, said = on_a_terminal(running, *words, answer=answer)
            assert code == 3 and b"nothing was changed" in said, said


# --------------------------------------------------------------------------------------------------------------------- Genesys Cloud is down


DOWN = pytest.mark.parametrize("api", [CLOSED, None], ids=["closed", "unset"])


@DOWN
def test_what_is_recorded_is_told_also_when_genesys_cloud_is_down(running, api):
    for words, code in (
        (("status",), 0),
        (("status", MAIN), 0),
        (("status", ROW), 0),
        (("explain", MAIN), 0),
        (("history", MAIN), 0),
        (("report", SEEN), 0),
        (("ledger", "show", MAIN), 0),
        (("ledger", "verify", MAIN), 0),
        (("ledger", "export", MAIN), 0),
        (("maintenance", "list"), 0),
        (("gate", MAIN), 10),
    ):
        down, up = running.serin(*words, code=code, GENESYS_API=api), running.serin(*words, code=code)
        assert down == up, f"{words}: {down}\n{up}"


@DOWN
def test_what_needs_genesys_cloud_says_so_and_changes_nothing(running, api):
    if running.phase(MAIN) == "Stepping":
        running.serin("abort", MAIN, "--reason", "to make room")
    version = running.check_in(MAIN)
    file, flow_yaml = running.file(MAIN, version), running.flow_yaml(MAIN, version)
    lines = (
        ("preflight", file),
        ("deploy", file, "--flow-yaml", flow_yaml, "--reason", "x", "--yes"),
        ("adopt", file, "--ivr", IVR, "--cop", COP, "--undo", "--yes"),
    )
    before = running.settled()
    with ThreadPoolExecutor() as pool:  # each tries for a while
        for words, refused in zip(lines, pool.map(lambda words: running.serin(*words, code=None, GENESYS_API=api), lines)):
            assert refused.code in ((1,) if api else (1, 2)) and not refused.out, f"{words}: {refused}"
            assert re.search("(?i)genesys cloud" if api else "GENESYS_API", refused.err), f"{words}: {refused}"
    running.same(rows(before), rows(running.state()))


def rows(state: dict) -> dict:
    """But for who had the lease last: a turn that was taken and given back leaves that."""
    lease = ("fence", "lease_owner", "lease_until")
    return {name: {k: v for k, v in thing.items() if k not in lease} if name.startswith("item") else thing for name, thing in state.items()}


@DOWN
def test_a_hand_on_a_rollout_needs_no_genesys_cloud(running, api):
    """Of strategy pointer too: the functions write its row from what was recorded."""
    if running.phase(ROW) != "Baking":
        running.serin("start", running.file(ROW, running.check_in(ROW)), "--reason", "another menu")
        running.until(ROW, "Baking")
    row = f"flows/datatables/{demo.TABLE}/rows?showbrief=false&pageSize=100"

    def weight():
        return next(row for row in running.asks_genesys(row)["entities"] if row["key"] == ROW)["Traffic_Weight"]

    running.serin("pause", ROW, "--reason", "wait", GENESYS_API=api)
    assert running.phase(ROW) == "Paused"
    running.serin("resume", ROW, "--reason", "on", GENESYS_API=api)
    assert running.phase(ROW) == "Baking" and weight() == 100
    verb, phase = ("abort", "Aborted") if api else ("rollback", "RollingBack")
    begun = time.monotonic()
    ended = running.serin(verb, ROW, "--reason", "looks odd", GENESYS_API=api)
    took = time.monotonic() - begun
    assert "the functions write it within a minute" in ended.err, ended.err
    assert running.phase(ROW) in (phase, "RolledBack")
    running.tick()
    assert weight() == 0
    assert took < 10, f"the functions, which may well reach Genesys Cloud, were told after {took:.0f} s only"


# -------------------------------------------------------------------------------------------------------------------- AWS is unreachable


@pytest.fixture(scope="module")
def silent():
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        accepted = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


GATES = [("gate", MAIN), ("gate", MAIN, "--hold", "10m", "--holder", "build/9"), ("gate", MAIN, "--release", "--holder", "build/9")]


@pytest.mark.parametrize("words", GATES, ids=["ask", "hold", "release"])
@pytest.mark.parametrize("where", ["closed", "silent"])
def test_a_gate_that_cannot_ask_is_closed_within_a_second(running, silent, where, words):
    endpoint = CLOSED if where == "closed" else silent
    begun = time.monotonic()
    refused = running.serin(*words, "-o", "json", code=20, SERIN_TIME=None, AWS_ENDPOINT_URL=endpoint)
    took = time.monotonic() - begun
    assert took < 3, f"{took:.1f} s"
    assert strict(refused.err)["exit_code"] == 20 and not refused.out
    flat = json.loads(running.serin("gate", MAIN, "--terraform", SERIN_TIME=None, AWS_ENDPOINT_URL=endpoint).out)
    assert (flat["open"], flat["code"]) == ("false", "20")


@pytest.mark.parametrize(
    "words",
    [("status",), ("history", MAIN), ("pause", MAIN, "--reason", "x"), ("abort", MAIN, "--reason", "x"), ("freeze", "--for", "1h", "--reason", "x")],
    ids=lambda words: words[0],
)
def test_without_the_ledger_commands_end_with_1_and_nothing_is_changed(running, words):
    with running.unchanged():
        refused = running.serin(*words, code=1, said="the ledger could not be reached", AWS_ENDPOINT_URL_DYNAMODB=CLOSED, SERIN_TIME=None)
        assert not refused.out
        refused = running.serin(*words, "-o", "json", code=1, AWS_ENDPOINT_URL_DYNAMODB=CLOSED, SERIN_TIME=None)
        assert strict(refused.err)["exit_code"] == 1


def test_a_ledger_that_never_answers_is_given_up_on(running, silent):
    lines = ((1, "status"), (1, "abort", MAIN, "--reason", "x"), (20, "ledger", "verify", MAIN))
    begun = time.monotonic()
    with ThreadPoolExecutor() as pool:
        ask = lambda line: running.serin(*line[1:], code=line[0], SERIN_TIME=None, AWS_ENDPOINT_URL=silent)  # noqa: E731
        assert all("the ledger could not be reached" in refused.err for refused in pool.map(ask, lines))
    assert time.monotonic() - begun < 15


def test_the_record_is_shown_also_when_parameter_store_refuses(running, people):
    nobody = people("auditor", {"Effect": "Deny", "Action": "ssm:*", "Resource": "*"})
    document, table = running.told("status", ROW, **nobody)
    assert document["percentage"] is None and document["unread"] and document["rollout"]["id"]
    assert "the parameter cannot be read" in table
    running.told("history", ROW, **nobody)
    running.told("ledger", "show", ROW, **nobody)


def test_whoever_may_not_write_the_ledger_is_told_and_changes_nothing(running, people):
    reader = people("reader", {"Effect": "Deny", "Action": ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"], "Resource": "*"})
    with running.unchanged():
        running.serin("freeze", "--for", "1h", "--reason", "x", code=1, **reader)
        running.serin("gate", ROW, "--hold", "10m", "--holder", "x", code=None, **reader)


# ---------------------------------------------------------------------------------------------------------------------------------- the end


def test_everything_is_stopped_and_may_go_on(running):
    stopped = running.did("stop-all", "--reason", "bad night", "--yes")
    assert all(one["error"] is None for one in stopped["items"]), stopped
    assert all(running.percentage(flow) == 0 for flow in (MAIN, ROW, ASKS, NEW))
    running.serin("gate", NEW, code=None, said="closed")
    running.serin("stop-all", "--reason", "bad night", "--yes", "-o", "yaml")
    rehearsed(running, "stop-all", "--end", "--reason", "morning")
    assert running.window("stop-all", "--end", "--reason", "morning")["ended"]
    running.serin("stop-all", "--end", "--reason", "morning", code=3)


def test_every_command_of_the_reference_was_tried(running):
    assert running.ran >= COMMANDS.keys(), "every command"
    assert running.rehearsed == with_option("--dry-run"), "every command that can be rehearsed"
    assert running.asked == with_option("--yes"), "every command that asks"


def test_no_document_says_a_name_twice(running):
    for line, text in running.printed:
        strict(text)


def test_every_document_is_what_docs_output_md_says(running):
    """Fields of the top level: those of the table and no others, and what is always there always."""
    kinds, seen, wrong = documented(), {}, set()
    for line, document in running.documents:
        kind, fields = str(document["kind"]), document.keys() - {"version", "kind"}
        always = {name for name, always in kinds.get(kind, {}).items() if always}
        if kind not in kinds or not always <= fields:
            wrong.add(f"{line}: kind {kind} has {sorted(fields)}, and docs/output.md says {sorted(always)}")
        seen.setdefault(kind, set()).update(fields)
    for kind in kinds:
        if seen.get(kind) != set(kinds[kind]):
            wrong.add(f"{kind} has {sorted(seen.get(kind, []))} in all, and docs/output.md says {sorted(kinds[kind])}")
    assert not wrong, "\n".join(sorted(wrong))
