"""AWS and Genesys Cloud on this machine: the emulator with the production template in it, and the simulator. For the demo, the tests and
`make invoke`.

    with Simulator() as genesys, Stack() as aws:
        aws.deploy("local", parameters={"GenesysApi": genesys.url})
        aws.seed_secrets(webhook_url=genesys.webhook_url)
        print(aws.invoke("random-percentage", {"flow": "main_ivr", "conversationId": "c0ffee"}))

Whatever was started is gone when the block is left: normally, by an exception, by Ctrl-C, SIGTERM or SIGHUP.
"""

import atexit
import contextlib
import json
import os
import platform
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import boto3
from botocore.config import Config

from bootstrap import LOCAL, ROOT, tools

TEMPLATE = ROOT / "infra" / "template.yaml"
ALERT_TARGET = ROOT / "infra" / "alert-target.yaml"
EVENTS = ROOT / "events"
BINARIES = ROOT / "target" / "debug"
LOGS = LOCAL / "logs"
FUNCTIONS = ("canary-evaluator", "random-percentage", "rollback-executor", "alert-forwarder")
REGION = "us-east-1"
# The emulator's root: for deploying and seeding, never the identity that a test asserts on.
ROOT_KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
ARCHITECTURE = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]


class LocalError(Exception):
    """Something on this machine is missing or did not start; the message says what to do."""


class FunctionFailed(Exception):
    """A function answered with an error; carries its type, its text and the end of its log."""

    def __init__(self, function: str, error: dict, log: str):
        self.function, self.error, self.log = function, error, log
        text = error.get("errorMessage", json.dumps(error)) if isinstance(error, dict) else str(error)
        super().__init__(f"{function}: {text}" + (f"\n{log}" if log else ""))


def binary(name: str, directory: Path = BINARIES) -> Path:
    """A program that cargo built."""
    path = directory / name
    if not path.is_file():
        raise LocalError(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path} is missing: run `cargo build --workspace`")
    return path


def event(name: str) -> dict:
    """A sample from `events/`, by its name without `.json`."""
    return json.loads((EVENTS / f"{name}.json").read_text())


def now() -> str:
    """The wall clock, as events write it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def until(true, what: str = "", seconds: float = 20):
    """What `true` answers, once it is; after so many seconds of looking it fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, f"not so in {seconds:.0f} s: {what or answer!r}"
        time.sleep(0.1)
    return answer


# -------------------------------------------------------------------------------------------------------------------------- processes


class Process:
    """A child in a process group of its own, so that Ctrl-C reaches us first and all its descendants can be ended with it."""

    _alive: list["Process"] = []

    def __init__(self, name: str, command: list, env: dict, read_stdout: bool = False):
        LOGS.mkdir(parents=True, exist_ok=True)
        for old in LOGS.glob("*.log"):
            if old.stat().st_mtime < time.time() - 24 * 3600:
                old.unlink(missing_ok=True)
        self.name, self.log_path = name, LOGS / f"{name}-{os.getpid()}.log"  # two runs at once have a log each
        with open(self.log_path, "wb") as log:
            self.popen = subprocess.Popen(
                [str(part) for part in command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if read_stdout else log,
                stderr=log,
                start_new_session=True,
            )
        Process._alive.append(self)

    def check(self) -> None:
        """Raises with the end of the log when the process is not running any more."""
        if self.popen.poll() is not None:
            raise LocalError(f"{self.name} stopped with {self.popen.returncode}, see {self.log_path.relative_to(ROOT)}:\n{self.log_tail()}")

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ends the whole group at once: nothing in it is worth saving. May be called twice."""
        if self not in Process._alive:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)  # start_new_session made it the leader
        self.popen.wait()
        if self.popen.stdout:
            self.popen.stdout.close()
        Process._alive.remove(self)

    @classmethod
    def stop_all(cls) -> None:
        for process in reversed(cls._alive[:]):
            process.stop()


atexit.register(Process.stop_all)


class _Cleanly:
    """A context whose end cannot be interrupted, and which SIGTERM and SIGHUP leave the way Ctrl-C does."""

    def __enter__(self):
        self._before = {}
        try:
            self._handle((signal.SIGTERM, signal.SIGHUP), _leave)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._handle((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)
        try:
            self.stop()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _handle(self, numbers, handler) -> None:
        if threading.current_thread() is threading.main_thread():  # others can neither set handlers nor are they interrupted
            for number in numbers:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # `nohup` stays what it is
                    self._before.setdefault(number, signal.signal(number, handler))


def _leave(number, _frame):
    raise SystemExit(128 + number)


def clean_environment(**more: str) -> dict:
    """What a child needs and nothing else: no credentials, profiles or endpoints of whoever runs this."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **more}


# ------------------------------------------------------------------------------------------------------------------------------- AWS


class Stack(_Cleanly):
    """The emulator on a free port, requests authorized as AWS does, and one deployment of our template in it. `beside` adds another.

    With `record` it writes down each request it serves, for `requests`.
    """

    def __init__(self, record: bool = False):
        self.stage = self.endpoint = self.outputs = self._process = self._scratch = None
        self._record = record
        self._parameters, self._packages, self._local_stage = {}, {}, "local"

    # Life

    def start(self) -> None:
        python = tools()
        self._scratch = tempfile.mkdtemp(prefix="serin-local-")
        port = _free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        env = clean_environment(
            AUTH="true",  # signatures and IAM policies count
            IOT_MTLS_ENABLED="0",  # it would listen on a fixed port, and two stacks may run at once
            BIND_HOST="127.0.0.1",
            GATEWAY_PORT=str(port),
            AWS_ENDPOINT_URL=self.endpoint,  # handed to every function; without it they would call the real AWS
            MINISTACK_REGION=REGION,
            AWS_DEFAULT_REGION=REGION,
            TMPDIR=self._scratch,  # unpacked functions
            STATE_DIR=os.path.join(self._scratch, "state"),
            EMULATOR_FAULTS=self._faults,
            PYTHONUNBUFFERED="1",
            **({"EMULATOR_REQUESTS": self._requests} if self._record else {}),
        )
        self._process = Process("ministack", [python, Path(__file__).with_name("emulator.py")], env)
        _wait_for(f"{self.endpoint}/_ministack/health", self._process)

    def stop(self) -> None:
        if self._process:
            self._process.stop()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def beside(self, stage: str) -> "Stack":
        """One more stage in the same account, to be deployed, and as local as `local`; it lives as long as the emulator of this one.

        The one thing that is changed in the template: which stage's name stands for the local stack, without TLS and with its own clock.
        """
        other = Stack()
        other.endpoint, other._process, other._local_stage = self.endpoint, self._process, stage
        return other

    # Access

    def client(self, service: str, **keys):
        """A boto3 client; of the emulator's root unless keys are given."""
        config = Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            read_timeout=90,
            proxies={},  # nothing here leaves the machine
        )
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, config=config, **(keys or ROOT_KEYS))

    def function_name(self, function: str) -> str:
        return f"serin-{self.stage}-{function}"

    @property
    def _requests(self) -> str:
        return os.path.join(self._scratch, "requests.jsonl")

    @property
    def _faults(self) -> str:
        return os.path.join(self._scratch, "faults.json")

    def requests(self) -> list[dict]:
        """All requests served so far, in the order of their answers; see emulator.py for what is told of each."""
        return [json.loads(line) for line in Path(self._requests).read_text().splitlines()]

    def held(self) -> int:
        """How many requests were put on hold so far."""
        return len([request for request in self.requests() if "held" in request])

    def fault(self, *faults: dict) -> None:
        """From now on requests of a `principal` for an `action` on a `resource` are answered with an `error`, or on `hold` until the next call
        of this (for which they have to be recorded); see emulator.py."""
        if faults:
            written = Path(f"{self._faults}.new")
            written.write_text(json.dumps(faults))
            written.rename(self._faults)  # in one step: the server reads it at each request
        else:
            Path(self._faults).unlink(missing_ok=True)

    # Deployment

    def deploy(self, stage: str = "local", binaries_dir: Path = BINARIES, parameters: dict | None = None) -> dict:
        """Packages the functions and creates the stack as `sam deploy` would; answers the stack's outputs.

        Schedules are off unless asked for: the emulator does not fill in the scheduled time, so ticks are sent with `invoke`.
        """
        self.stage = stage
        self.client("s3").create_bucket(Bucket=f"serin-{stage}-packages")
        self._packages = self._upload({function: package(function, Path(binaries_dir)) for function in FUNCTIONS})
        self._parameters = {"Stage": stage, "Architecture": ARCHITECTURE, "SchedulesState": "DISABLED", "GenesysApi": "http://127.0.0.1:9"}
        self._parameters.update(parameters or {})
        self.outputs = self._create(f"serin-{stage}", self._template(self._packages), self._parameters)
        return self.outputs

    def update(self, packages: dict[str, Path | str] | None = None, parameters: dict | None = None) -> dict:
        """Updates the stack as a later `sam deploy` would: what is not named keeps its code and its value; answers the stack's outputs.

        A package is a file, or the address of one that lies in a bucket. An update that fails is taken back by the stack, and is raised
        with what failed.
        """
        packages = self._packages | self._upload(packages or {})
        parameters = self._parameters | (parameters or {})
        self.client("cloudformation").update_stack(**self._request(f"serin-{self.stage}", self._template(packages), parameters))
        self.outputs = self.ended(f"serin-{self.stage}", "UPDATE_COMPLETE")
        self._packages, self._parameters = packages, parameters
        return self.outputs

    def delete(self) -> None:
        """Deletes the stack. What it keeps, what it never owned, and the other targets of alerts stay."""
        self._delete(f"serin-{self.stage}")
        self.outputs = None

    def deploy_target(self, target: str, secret: dict) -> None:
        """One more target of alerts, as `make alerts` deploys it, and its secret."""
        self.put_parameter(f"/serin/{self.stage}/alerts/{target}", json.dumps(secret), secret=True)
        self._create(f"serin-{self.stage}-alert-{target}", ALERT_TARGET.read_text(), {"Stage": self.stage, "Target": target})

    def delete_target(self, target: str) -> None:
        """Deletes what `deploy_target` made, but for the secret."""
        self._delete(f"serin-{self.stage}-alert-{target}")

    def _upload(self, packages: dict[str, Path | str]) -> dict[str, str]:
        """Where the packages lie."""
        bucket, s3, locations = f"serin-{self.stage}-packages", self.client("s3"), {}
        for function, where in packages.items():
            if isinstance(where, Path):
                s3.upload_file(str(where), bucket, where.name)
                where = f"s3://{bucket}/{where.name}"
            locations[function] = where
        return locations

    def _template(self, locations: dict[str, str]) -> str:
        return packaged_template(locations).replace("!Equals [!Ref Stage, local]", f"!Equals [!Ref Stage, {self._local_stage}]")

    def _create(self, name: str, template: str, parameters: dict) -> dict:
        """Creates a stack and waits for it; answers its outputs."""
        self.client("cloudformation").create_stack(**self._request(name, template, parameters))
        return self.ended(name, "CREATE_COMPLETE")

    def _delete(self, name: str) -> None:
        cloudformation = self.client("cloudformation")
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackId"]  # a deleted one has no name any more
        cloudformation.delete_stack(StackName=name)
        self.ended(stack, "DELETE_COMPLETE")

    def _request(self, name: str, template: str, parameters: dict) -> dict:
        """By way of a bucket, as `sam deploy` sends it: a template within the request may have 51,200 bytes."""
        bucket, key = f"serin-{self.stage}-packages", f"{name}.yaml"
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=template.encode())
        return {
            "StackName": name,
            "TemplateURL": f"{self.endpoint}/{bucket}/{key}",
            "Parameters": [{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()],
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        }

    def ended(self, name: str, wanted: str) -> dict:
        """Waits until nothing is done to a stack any more; answers its outputs, or raises with what failed."""
        cloudformation = self.client("cloudformation")
        deadline = time.monotonic() + 60
        while (stack := cloudformation.describe_stacks(StackName=name)["Stacks"][0])["StackStatus"].endswith("_IN_PROGRESS"):
            if time.monotonic() > deadline:
                raise LocalError(f"{name} is still {stack['StackStatus']} after a minute, see {self._process.log_path.relative_to(ROOT)}")
            time.sleep(0.1)
        if stack["StackStatus"] != wanted:
            raise LocalError(f"{name} ended as {stack['StackStatus']}\n" + "\n".join(self._failures(name)))
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def events(self, name: str) -> list[dict]:
        """What the last operation on a stack did, oldest first."""
        pages = self.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=name)
        last = []
        for event in (event for page in pages for event in page["StackEvents"]):
            last.insert(0, event)
            if event.get("ResourceStatusReason") == "User Initiated":
                break
        return last

    def _failures(self, name: str) -> list[str]:
        failed = [event for event in self.events(name) if "FAILED" in event["ResourceStatus"]]
        return [f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}" for event in failed]

    # Use

    def invoke(self, function: str, payload, qualifier: str | None = None) -> dict:
        """Calls a function by its short name and answers what it answered; raises FunctionFailed with its own words."""
        target = {"FunctionName": self.function_name(function), **({"Qualifier": qualifier} if qualifier else {})}
        answer = self.client("lambda").invoke(**target, Payload=json.dumps(payload).encode())
        body = answer["Payload"].read()
        answered = json.loads(body) if body else None
        if "FunctionError" in answer:
            raise FunctionFailed(function, answered, "\n".join(self.logs(function)[-10:]))
        return answered

    def tick(self, function: str, time: str | None = None) -> dict:
        """What the schedule would send; at the given time, or now."""
        return self.invoke(function, {"kind": "tick", "time": time or now()})

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, None where there is none."""
        ssm = self.client("ssm")
        try:
            return ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        except ssm.exceptions.ParameterNotFound:
            return None

    def flow_parameters(self, *flows: str) -> dict:
        """What the endpoint reads, now: `{flow: {"percentage", "rollout", "halt", "heartbeat", "wall"}}`; absent ones are left out."""
        prefix = f"/genesys/canary/{self.stage}/"
        pages = self.client("ssm").get_paginator("get_parameters_by_path").paginate(Path=prefix, Recursive=True)
        found = {p["Name"].removeprefix(prefix): p["Value"] for page in pages for p in page["Parameters"]}
        shared = {"wall": now()} | ({"heartbeat": found["heartbeat"]} if "heartbeat" in found else {})
        own = ("percentage", "rollout", "halt")
        return {flow: {name: found[f"{flow}/{name}"] for name in own if f"{flow}/{name}" in found} | shared for flow in flows}

    def put_parameter(self, name: str, value: str, secret: bool = False) -> int:
        """Writes a parameter by hand, as on-call might; answers its version."""
        kind = "SecureString" if secret else "String"
        return self.client("ssm").put_parameter(Name=name, Value=value, Type=kind, Overwrite=True)["Version"]

    def seed_secrets(
        self,
        read: tuple[str, str] = ("serin-read", "local-read-secret"),
        publish: tuple[str, str] = ("serin-publish", "local-publish-secret"),
        webhook_url: str = "http://127.0.0.1:9/",
    ) -> None:
        """The secrets an operator would create once: two OAuth clients (id, secret) and the webhook."""
        for name, (client_id, client_secret) in (("genesys/read", read), ("genesys/publish", publish)):
            value = json.dumps({"client_id": client_id, "client_secret": client_secret})
            self.put_parameter(f"/serin/{self.stage}/{name}", value, secret=True)
        self.put_parameter(f"/serin/{self.stage}/alerts/webhook", json.dumps({"url": webhook_url}), secret=True)

    def publish(self, topic_output: str, message) -> str:
        """Publishes to a topic by its output's name, e.g. `RollbackTopicArn`; answers the message id."""
        text = message if isinstance(message, str) else json.dumps(message)
        return self.client("sns").publish(TopicArn=self.outputs[topic_output], Message=text)["MessageId"]

    def logs(self, function: str) -> list[str]:
        """The function's log lines, oldest first."""
        logs = self.client("logs")
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{self.function_name(function)}")
            return [entry["message"].rstrip() for page in pages for entry in page["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []


def packaged_template(locations: dict[str, str]) -> str:
    """The template with each local `CodeUri` replaced by where the package lies, as `aws cloudformation package` does."""
    template, count = re.subn(
        r"(?m)^(\s+CodeUri:) \.\./target/lambda/([a-z-]+)/$", lambda found: f"{found[1]} {locations[found[2]]}", TEMPLATE.read_text()
    )
    assert count == len(FUNCTIONS), f"{TEMPLATE.name} has {count} packages to replace, expected {len(FUNCTIONS)}"
    return template


def package(function: str, binaries_dir: Path = BINARIES) -> Path:
    """The program stripped and zipped as `bootstrap`. Kept until cargo builds the program anew."""
    program = binary(function, binaries_dir)
    built = program.stat()
    directory = LOCAL / "packages"
    directory.mkdir(parents=True, exist_ok=True)
    made = directory / f"{program.name}-{built.st_mtime_ns:x}-{built.st_size:x}.zip"
    if made.exists():
        return made
    for old in directory.glob(f"{program.name}-*.zip"):
        old.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        stripped, zipped = Path(scratch, "bootstrap"), Path(scratch, "package.zip")
        subprocess.run(["strip", "-o", stripped, program], check=True)
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(stripped, "bootstrap")
        zipped.rename(made)  # in one step: an interrupted run leaves no half package
    return made


def release(name: str, directory: Path) -> dict[str, Path]:
    """The packages of another release: the same programs, and one more file in each."""
    packages = {function: Path(shutil.copy(package(function), directory / f"{function}-{name}.zip")) for function in FUNCTIONS}
    for made in packages.values():
        with zipfile.ZipFile(made, "a") as archive:
            archive.writestr("release", name)
    return packages


# --------------------------------------------------------------------------------------------------------------------------- Genesys


class Simulator(_Cleanly):
    """A Genesys Cloud organization and its callers, with a virtual clock; see the simulator's own documentation for the bodies."""

    def __init__(self, seed: int | None = None):
        self._seed, self._process, self.url = seed, None, None

    def start(self) -> None:
        command = [binary("serin-simulator"), "--listen", "127.0.0.1:0"] + (["--seed", self._seed] if self._seed is not None else [])
        self._process = Process("simulator", command, clean_environment(), read_stdout=True)
        self.url = "http://" + self._address()

    def stop(self) -> None:
        if self._process:
            self._process.stop()

    def _address(self, seconds: float = 10) -> str:
        stdout = self._process.popen.stdout
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ)
            line = stdout.readline().decode() if ready.select(seconds) else ""
        if not (found := re.fullmatch(r"listening on (\S+)\s*", line)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.popen.wait(timeout=1)
            self._process.check()
            raise LocalError(f"the simulator did not say where it listens, but {line!r}")
        # Whatever else it prints must not fill the pipe.
        threading.Thread(target=_drain, args=(stdout,), daemon=True).start()
        return found[1]

    @property
    def webhook_url(self) -> str:
        """Where alerts may be sent to; `webhook()` lists them."""
        return f"{self.url}/_simulator/webhook"

    def control(self, method: str, name: str, body=None):
        """One request to the control side; answers its JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/_simulator/{name}", data=data, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with _direct.open(request, timeout=60) as response:
                answer = response.read()
        except urllib.error.HTTPError as refused:
            raise LocalError(f"simulator: {method} {name} answered {refused.code}: {refused.read().decode(errors='replace')}") from None
        return json.loads(answer) if answer.strip() else None

    def now(self) -> str:
        return self.control("GET", "clock")["now"]

    def reset(self, **settings) -> dict:
        return self.control("POST", "reset", settings)

    def check_in(self, flow_id: str, behavior: dict, **more) -> str:
        """Somebody checks in a change that behaves so (`{"error": 0.15, …}`); answers the new version, which is not published."""
        return self.control("POST", "versions", {"flow_id": flow_id, "behavior": behavior, **more})["version"]

    def by_hand(self, kind: str, **what) -> None:
        """A person changes something in Genesys Cloud: `publish`, `row`, `delete_row`, `ivr`."""
        self.control("POST", "by_hand", {"kind": kind, **what})

    def arrivals(self, minutes: float, ask: int) -> list[dict]:
        """The calls of the next minutes that shall ask the deployed function."""
        return self.control("POST", "arrivals", {"minutes": minutes, "ask": ask})["calls"]

    def advance(self, minutes: float, answers: dict | None = None, parameters: dict | None = None) -> dict:
        """Moves the virtual clock; `answers` are the cohorts of the calls that asked, `parameters` decide all others."""
        return self.control("POST", "advance", {"minutes": minutes, "answers": answers or {}, "parameters": parameters or {}})

    def fault(self, *faults: dict) -> None:
        self.control("POST", "faults", {"faults": faults})

    def clear_faults(self) -> None:
        self.control("DELETE", "faults")

    def requests(self) -> dict:
        return self.control("GET", "requests")

    def webhook(self) -> list[dict]:
        """The alerts that arrived."""
        return self.control("GET", "webhook")


# --------------------------------------------------------------------------------------------------------------------------- plumbing

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # nothing here leaves the machine


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(url: str, process: Process, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        process.check()
        try:
            with _direct.open(url, timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise LocalError(f"{process.name} is not healthy after {seconds:.0f} s:\n{process.log_tail()}") from None
            time.sleep(0.1)


def _drain(stream) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            sys.stderr.buffer.write(b"simulator: " + line)
