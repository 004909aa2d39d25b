"""What pipelines are given under `infra/pipelines`: the very scripts, run as GitHub and GitLab run them, first with a `serin` that answers
as told, then with the real one on the local stack; and the Terraform module, as far as this machine has what it takes."""

import json
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import demo
import playground
import pytest
import stack
import yaml

PIPELINES = stack.ROOT / "infra" / "pipelines"
ROUNDS = 100  # of two pipelines that want the same flow at the same moment
CI = {"GITHUB_REPOSITORY": "acme/flows", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_ACTOR": "sam"}
GITLAB = {"CI_PROJECT_PATH": "acme/flows", "GITLAB_USER_LOGIN": "sam", "CI_COMMIT_TITLE": "a new `menu`; $(touch owned)"}


@dataclass
class Ended:
    """How a job ended."""

    code: int
    said: str
    outputs: dict[str, str] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------- as GitHub runs a composite action


def expanded(text: str, **contexts: dict[str, str]) -> str:
    """`${{ inputs.flow }}` and the like; anything else between such braces is more than this knows."""

    def value(found):
        path = found[1].split(".")
        assert path[0] in contexts, f"{found[0]} is not understood here"
        return contexts[path[0]][".".join(path[1:])]

    return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", value, text)


def github(where: Path, env: dict, run: str = "1001", **inputs: str) -> Ended:
    action = yaml.safe_load((PIPELINES / "github" / "action.yml").read_text())
    given = {name.replace("_", "-"): value for name, value in inputs.items()}
    assert set(given) <= set(action["inputs"]), "an input that the action does not have"
    missing = [name for name, known in action["inputs"].items() if known.get("required") and name not in given]
    assert not missing, f"{missing} must be given"
    given = {name: known.get("default", "") for name, known in action["inputs"].items()} | given
    outputs, said = {}, ""
    for number, step in enumerate(action["runs"]["steps"]):
        assert step["shell"] == "bash" and "${{" not in step["run"], "values reach a script by its environment only"
        # Several jobs of a test run side by side.
        script, told = (where / f"{run}-{number}-{random.getrandbits(32):x}.{kind}" for kind in ("sh", "output"))
        script.write_text(step["run"])
        told.touch()
        own = {name: expanded(value, inputs=given, **{f"steps.{key}": kept for key, kept in outputs.items()}) for name, value in step["env"].items()}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", script]
        done = execute(command, where, env | CI | {"GITHUB_RUN_ID": run, "GITHUB_OUTPUT": str(told)} | own)
        said += done.stdout
        outputs |= {f"{step['id']}.outputs.{name}": value for name, value in (line.split("=", 1) for line in told.read_text().splitlines())}
        if done.returncode:
            break
    steps = {known["value"]: name for name, known in action["outputs"].items()}
    return Ended(done.returncode, said, {name: expanded(value, steps=outputs) if outputs else "" for value, name in steps.items()})


# -------------------------------------------------------------------------------------------------------------- as GitLab runs a job


class Reference(list):
    """`!reference [job, key]`."""


class GitLabFile(yaml.SafeLoader):
    pass


GitLabFile.add_constructor("!reference", lambda loader, node: Reference(loader.construct_sequence(node)))


def merged(base: dict, over: dict) -> dict:
    both = dict(base)
    for key, value in over.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def job(name: str) -> dict:
    file = yaml.load((PIPELINES / "gitlab" / "serin.gitlab-ci.yml").read_text(), GitLabFile)

    def resolved(name: str) -> dict:
        own = dict(file[name])
        return merged(resolved(own.pop("extends")), own) if "extends" in own else own

    def lines(script) -> list[str]:
        return [line for part in script for line in (lines(resolved(part[0])[part[1]]) if isinstance(part, Reference) else [part])]

    found = resolved(name)
    return found | {part: lines(found.get(part, [])) for part in ("before_script", "script", "after_script")}


def gitlab(where: Path, env: dict, name: str = ".serin-gate", run: str = "2001", shell: str = "bash", **variables: str) -> Ended:
    found, project = job(name), where / "project"
    project.mkdir(exist_ok=True)
    predefined = GITLAB | {"CI_PIPELINE_ID": run, "CI_PROJECT_DIR": str(project), "SERIN_ID_TOKEN": "the-token"}
    given = predefined | found.get("variables", {}) | variables
    given = {key: re.sub(r"^\$(\w+)$", lambda found: predefined[found[1]], value) for key, value in given.items()}
    strict = "set -eo pipefail" if shell == "bash" else "set -e"
    done = execute([shell, "-c", "\n".join([strict, *found["before_script"], *found["script"]])], project, env | given)
    after = execute([shell, "-c", "\n".join(found["after_script"])], project, env | given)
    assert after.returncode == 0, after.stdout
    assert not list(project.glob(".serin-token")), "the token is gone afterwards"
    return Ended(done.returncode, done.stdout)


def execute(command: list, cwd: Path, env: dict) -> subprocess.CompletedProcess:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=env, text=True, timeout=120, **pipes)


# ------------------------------------------------------------------------------------------------------- with a `serin` that answers as told

STUB = """\
#!/bin/sh
printf '%s|%s|%s|%s\\n' "$SERIN_HOLDER" "$SERIN_STAGE" "${AWS_REGION-}" "$*" >>"$0.asked"
for word in "$@"; do printf '[%s]' "$word" >>"$0.words"; done
code=$(head -n 1 "$0.codes")
sed -i.bak 1d "$0.codes"
echo "main_ivr: the answer
of code $code" >&2
exit "$code"
"""


class Stub:
    def __init__(self, where: Path):
        self.path = where / "bin" / "serin"
        self.path.parent.mkdir()
        for name, script in (("serin", STUB), ("sleep", '#!/bin/sh\necho "$1" >>"$0.slept"\n')):
            program = self.path.with_name(name)
            program.write_text(script)
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.env = stack.clean_environment() | {"PATH": f"{self.path.parent}:{os.environ['PATH']}"}

    def answers(self, *codes: int) -> dict:
        Path(f"{self.path}.codes").write_text("".join(f"{code}\n" for code in codes))
        return self.env

    @property
    def asked(self) -> list[list[str]]:
        """Holder, stage, region and words of each question."""
        file = Path(f"{self.path}.asked")
        return [line.split("|") for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def slept(self) -> list[str]:
        file = self.path.with_name("sleep.slept")
        return file.read_text().split() if file.exists() else []


@pytest.fixture
def stub(tmp_path):
    return Stub(tmp_path)


ALL = [github, gitlab]


def ask(pipeline, where: Path, env: dict, run: str = "1", minutes: str = "0", hold: str | None = "10m") -> Ended:
    """The same question to either."""
    if pipeline is github:
        mode = {"mode": "hold", "hold": hold} if hold else {"mode": "check"}
        return github(where, env, run, flow="main_ivr", stage="local", wait_minutes=minutes, **mode)
    return gitlab(where, env, run=run, SERIN_FLOW="main_ivr", SERIN_STAGE="local", SERIN_WAIT_MINUTES=minutes, SERIN_HOLD=hold or "")


@pytest.mark.parametrize("pipeline", ALL)
@pytest.mark.parametrize("code", [0, 1, 2, 3, 10, 11, 12, 20, 101, 137])
def test_only_a_clear_yes_lets_a_job_go_on(stub, tmp_path, pipeline, code):
    ended = ask(pipeline, tmp_path, stub.answers(code))
    assert ended.code == code and len(stub.asked) == 1 and not stub.slept
    if pipeline is github:
        assert ended.outputs == {"code": str(code), "answer": f"main_ivr: the answer of code {code}", "holder": "github/acme/flows/1/1"}


@pytest.mark.parametrize("pipeline", ALL)
def test_a_missing_program_is_a_no(tmp_path, pipeline):
    bare = tmp_path / "bare"
    bare.mkdir()
    for tool in ("bash", "sh", "date", "sleep", "tr", "rm", "cat"):
        (bare / tool).symlink_to(shutil.which(tool))
    ended = ask(pipeline, tmp_path, {"PATH": str(bare)})
    assert ended.code == 127


@pytest.mark.parametrize("pipeline", ALL)
def test_it_asks_again_while_waiting_can_help_and_no_longer(stub, tmp_path, pipeline):
    assert ask(pipeline, tmp_path, stub.answers(10, 11, 10, 0), minutes="1").code == 0
    assert len(stub.slept) == 3
    assert ask(pipeline, tmp_path, stub.answers(10, 12, 0), minutes="1").code == 12
    assert ask(pipeline, tmp_path, stub.answers(11, 20, 0), minutes="1").code == 20
    assert len(stub.slept) == 5
    assert ask(pipeline, tmp_path, stub.answers(10, 0)).code == 10
    assert len(stub.slept) == 5
    assert ask(pipeline, tmp_path, stub.answers(0), minutes="soon").code not in (0, 10, 11), "what is no number is a no"


@pytest.mark.parametrize("pipeline", ALL)
def test_a_hold_is_the_runs_own(stub, tmp_path, pipeline):
    ask(pipeline, tmp_path, stub.answers(0), run="77")
    holder = "github/acme/flows/77/1" if pipeline is github else "gitlab/acme/flows/77"
    assert stub.asked == [[holder, "local", "", "gate main_ivr --hold 10m"]]


def test_check_and_release_ask_for_just_that(stub, tmp_path):
    env = stub.answers(0, 0, 0, 0)
    github(tmp_path, env, flow="main_ivr", mode="check", region="eu-west-1")
    github(tmp_path, env, flow="main_ivr", mode="release", holder="night")
    gitlab(tmp_path, env, SERIN_FLOW="main_ivr", SERIN_HOLD="")
    gitlab(tmp_path, env, ".serin-release", SERIN_FLOW="main_ivr")
    assert [asked[1:] for asked in stub.asked] == [
        ["prod", "eu-west-1", "gate main_ivr"],
        ["prod", "", "gate main_ivr --release"],
        ["prod", "", "gate main_ivr"],
        ["prod", "", "gate main_ivr --release"],
    ]
    assert stub.asked[1][0] == "night"


def test_a_mode_that_is_not_known_asks_nothing(stub, tmp_path):
    ended = github(tmp_path, stub.answers(0), flow="main_ivr", mode="chek")
    assert ended.code == 2 and "chek" in ended.said and not stub.asked


def deploy(pipeline, where: Path, env: dict, file: str, flow_yaml: str, reason: str, **more) -> Ended:
    if pipeline is github:
        return github(where, env, flow="main_ivr", stage="local", mode="deploy", file=file, flow_yaml=flow_yaml, reason=reason, **more)
    given = {"SERIN_FILE": file, "SERIN_FLOW_YAML": flow_yaml, "SERIN_REASON": reason, "SERIN_FLOW": "main_ivr", "SERIN_STAGE": "local"}
    return gitlab(where, env, ".serin-deploy", **given)


@pytest.mark.parametrize("pipeline", ALL)
def test_a_deployment_holds_first_and_lets_go_however_it_ends(stub, tmp_path, pipeline):
    files = {"file": "r.yaml", "flow_yaml": "f.yaml", "reason": "why"}
    assert deploy(pipeline, tmp_path, stub.answers(10), **files).code == 10
    assert deploy(pipeline, tmp_path, stub.answers(0, 3, 0), **files).code == 3
    assert deploy(pipeline, tmp_path, stub.answers(0, 1, 1), **files).code == 1, "the deployment's code, not that of the release"
    assert deploy(pipeline, tmp_path, stub.answers(0, 0, 1), **files).code == 0
    held, released, deployed = "gate main_ivr --hold 10m", "gate main_ivr --release", "deploy r.yaml --flow-yaml f.yaml --reason why --yes"
    assert [words for *_, words in stub.asked] == [held, *[held, deployed, released] * 3]
    assert len({holder for holder, *_ in stub.asked}) == 1


@pytest.mark.parametrize("pipeline", ALL)
def test_a_commit_message_is_never_run(stub, tmp_path, pipeline):
    evil = "it's `touch owned` $(touch owned) \"; touch owned; #"
    deploy(pipeline, tmp_path, stub.answers(0, 0, 0), file="r.yaml", flow_yaml="f.yaml", reason=evil)
    assert f"[--reason][{evil}][--yes]" in Path(f"{stub.path}.words").read_text()
    assert not list(tmp_path.rglob("owned"))


def test_gitlab_takes_its_role_by_a_token_that_does_not_stay(stub, tmp_path):
    env = stub.answers(0)
    stub.path.write_text('#!/bin/sh\nstat -c %a "$AWS_WEB_IDENTITY_TOKEN_FILE"\ncat "$AWS_WEB_IDENTITY_TOKEN_FILE"; echo " for $AWS_ROLE_ARN"\n')
    for shell in ("bash", "sh"):  # an image may have no other
        ended = gitlab(tmp_path, env, shell=shell, SERIN_FLOW="main_ivr", SERIN_ROLE_ARN="arn:aws:iam::123456789012:role/x")
        assert ended.code == 0 and "600\nthe-token for arn:aws:iam::123456789012:role/x" in ended.said


def test_every_input_and_variable_in_the_examples_is_known():
    text = (PIPELINES / "README.md").read_text()
    action = yaml.safe_load((PIPELINES / "github" / "action.yml").read_text())
    for example in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        read = yaml.safe_load(example)
        jobs = read["jobs"].values() if isinstance(read, dict) and "jobs" in read else []
        for step in [step for found in jobs for step in found["steps"]] + (read if isinstance(read, list) else []):
            if str(step.get("uses")).endswith("/serin"):
                assert set(step["with"]) <= set(action["inputs"]), step
        for name, found in read.items() if isinstance(read, dict) else []:
            if isinstance(found, dict) and "extends" in found:
                known = job(found["extends"])["variables"]
                assert set(found["variables"]) <= set(known), name


def test_scripts_are_what_shellcheck_would_let_pass(tmp_path):
    if not (shellcheck := shutil.which("shellcheck")):
        pytest.skip("shellcheck is not on this machine")
    action = yaml.safe_load((PIPELINES / "github" / "action.yml").read_text())
    scripts = {"action": "#!/bin/bash\n" + "\n".join(step["run"] for step in action["runs"]["steps"])}
    for name in (".serin-gate", ".serin-deploy", ".serin-release"):
        found = job(name)
        scripts[name] = "\n".join(["#!/bin/sh", *found["before_script"], *found["script"], *found["after_script"]])
    for name, script in scripts.items():
        (tmp_path / name).write_text(script)
        done = subprocess.run([shellcheck, "--exclude=SC2154", tmp_path / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------------------------------------------------- with the real one, on the stack


@pytest.fixture(scope="module")
def play():
    with demo.organization(demo.SEED) as genesys, stack.Stack() as aws:
        demo.deploy(aws, genesys)
        played = demo.Play(aws, genesys, show=lambda _: None)
        played.calls(5, ask=0)
        played.tick()
        yield played


def surroundings(play) -> dict:
    return stack.clean_environment() | {
        "PATH": f"{stack.BINARIES}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": play.aws.endpoint,
        "AWS_REGION": stack.REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "SERIN_TIME": play.genesys.now(),
        "SERIN_CONFIG": "/nonexistent/contexts.yaml",
        "GENESYS_API": play.genesys.url,
    }


@pytest.fixture
def local(play):
    return surroundings(play)


@pytest.mark.parametrize("pipeline", ALL)
def test_a_gate_is_open_and_then_stopped_by_hand(play, local, tmp_path, pipeline):
    assert ask(pipeline, tmp_path, local, hold=None).code == 0
    play.serin("stop-all", "--reason", "a test", *yes("stop-all"))
    stopped = ask(pipeline, tmp_path, local, hold=None)
    assert stopped.code == 12 and "closed" in stopped.said
    play.serin("stop-all", "--end", "--reason", "a test", *yes("stop-all"))
    assert ask(pipeline, tmp_path, local, hold=None).code == 0


def yes(command: str) -> list[str]:
    """For the ones that ask."""
    told = subprocess.run([stack.binary("serin"), command, "--help"], capture_output=True, text=True)
    return ["--yes"] if "--yes" in told.stdout else []


@pytest.mark.parametrize("pipeline", ALL)
def test_an_unreachable_ledger_is_a_no(local, tmp_path, pipeline):
    assert ask(pipeline, tmp_path, local | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, hold=None).code == 20


def test_a_ledger_that_never_answers_is_a_no_within_a_second(local, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # whoever connects waits
        env = local | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "SERIN_TIME": "last-tick"}
        took = []
        for _ in range(3):
            began = time.monotonic()
            done = execute([stack.binary("serin"), "--stage", "local", "gate", "main_ivr", "--hold", "1m"], tmp_path, env)
            took.append(time.monotonic() - began)
            assert done.returncode == 20 and "closed" in done.stdout, done.stdout
    assert min(took) < 1.2, took  # this machine may be busy now and then


@pytest.mark.parametrize("pipeline", ALL)
def test_of_two_runs_the_second_waits_for_the_first(local, tmp_path, pipeline):
    first, second = "311", "312"
    assert ask(pipeline, tmp_path, local, first).code == 0
    refused = ask(pipeline, tmp_path, local, second)
    assert refused.code == 10 and f"/acme/flows/{first}" in refused.said, "the holder is named"
    assert ask(pipeline, tmp_path, local, first).code == 0, "whoever holds may ask again"
    release(pipeline, tmp_path, local, first)
    assert ask(pipeline, tmp_path, local, second).code == 0
    release(pipeline, tmp_path, local, second)


def release(pipeline, where: Path, env: dict, run: str) -> None:
    if pipeline is github:
        ended = github(where, env, run, flow="main_ivr", stage="local", mode="release")
    else:
        ended = gitlab(where, env, ".serin-release", run, SERIN_FLOW="main_ivr", SERIN_STAGE="local")
    assert ended.code == 0, ended.said


def test_nobody_starts_what_another_one_holds(play, local, tmp_path):
    assert ask(github, tmp_path, local, "411").code == 0
    file = rollout(tmp_path, play.genesys.check_in(demo.CANARY, demo.HEALTHY))
    start = [stack.binary("serin"), "--stage", "local", "start", file, "--reason", "in between"]
    refused = execute(start, tmp_path, local)
    assert refused.returncode == 3 and "github/acme/flows/411/1" in refused.stdout
    release(github, tmp_path, local, "411")


def rollout(where: Path, version: str) -> Path:
    path = where / "rollout.yaml"
    names = {"flow": demo.FLOW, "stable": demo.STABLE, "canary": demo.CANARY}
    path.write_text(demo.ROLLOUT_FILE.format(version=version, **names))
    return path


def test_two_pipelines_race_for_a_flow_and_exactly_one_gets_it_each_time(local, tmp_path):
    """GitHub against GitLab, each its whole script."""
    won = {github: 0, gitlab: 0}
    with ThreadPoolExecutor(2) as pool:
        for turn in range(ROUNDS):
            run = f"5{turn:03}"
            ended = dict(zip(ALL, pool.map(lambda pipeline: ask(pipeline, tmp_path, local, run), ALL)))
            codes = sorted(done.code for done in ended.values())
            assert codes == [0, 10], f"round {turn}: {ended}"
            winner = next(pipeline for pipeline, done in ended.items() if done.code == 0)
            won[winner] += 1
            release(winner, tmp_path, local, run)
    print(f"{ROUNDS} rounds: GitHub's script won {won[github]}, GitLab's {won[gitlab]}")


def test_a_deployment_opens_a_rollout_and_the_gate_says_so_until_it_is_over(play, local, tmp_path):
    """(The last one here: a rollback locks the flow out.)"""
    version = play.genesys.check_in(demo.CANARY, demo.BROKEN)
    flow = tmp_path / "flow.yaml"
    flow.write_bytes(playground.exported(play.genesys.url, demo.CANARY, version))
    file = rollout(tmp_path, "14.0")
    files = {"file": str(file), "reason": "a pipeline's"}
    other = tmp_path / "other.yaml"
    other.write_text(flow.read_text().replace("Main_IVR_Green", "Main_IVR_Blue"))
    wrong = deploy(github, tmp_path, local, flow_yaml=str(other), **files)
    assert wrong.code not in (0, 10) and "Main_IVR_Blue" in wrong.said, wrong.said
    assert ask(gitlab, tmp_path, local, "601").code == 0, "what was held for it is free again"
    release(gitlab, tmp_path, local, "601")

    done = deploy(github, tmp_path, local, flow_yaml=str(flow), **files)
    assert done.code == 0, done.said
    assert any(entry["event"] == "Requested" and entry["why"] == "a pipeline's" for entry in play.ledger())
    closed = ask(gitlab, tmp_path, local, "602")
    assert closed.code == 10 and "r-20261120-1" in closed.said
    line = play.play({"RolledBack"})
    assert line["phase"] == "RolledBack"
    assert ask(github, tmp_path, surroundings(play), "603").code == 11


# -------------------------------------------------------------------------------------------------------------------------- Terraform

MODULE = PIPELINES / "terraform"
needs_terraform = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on this machine: nothing of its module is tried")
QUERY = {"asked_at": "2026-11-20T09:00:00Z"}


def terraform(where: Path, *words: str, plugins: Path | None = None, **variables) -> subprocess.CompletedProcess:
    """Never with the network: what is not on this machine is not there."""
    config = where / "terraform.rc"
    mirror = f'filesystem_mirror {{\n path = "{plugins}"\n}}' if plugins else f'filesystem_mirror {{\n path = "{where}"\n}}'
    config.write_text(f"disable_checkpoint = true\nprovider_installation {{\n{mirror}\n}}\n")
    env = stack.clean_environment() | {"TF_CLI_CONFIG_FILE": str(config), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    env |= {f"TF_VAR_{name}": value if isinstance(value, str) else json.dumps(value) for name, value in variables.items()}
    return execute(["terraform", *words], where, env)


@needs_terraform
def test_terraform_files_are_formatted():
    done = subprocess.run(["terraform", "fmt", "-check", "-diff", "-recursive", MODULE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The module with what the provider `external` does left out: its answer is a variable, its program an output. All else is as it is,
    and a resource depends on it."""
    where = tmp_path_factory.mktemp("terraform")
    shutil.copytree(MODULE, where / "gate", ignore=shutil.ignore_patterns("example", ".terraform*"))
    main = where / "gate" / "main.tf"
    text, count = re.subn(
        r'data "external" "gate" \{\n  program = (.*?)\n  query = .*?\n\}\n', r'output "program" {\n  value = \1\n}\n', main.read_text(), flags=re.DOTALL
    )
    assert count == 1
    text = re.sub(r"  required_providers \{.*?\n  \}\n", "", text, flags=re.DOTALL)
    text += 'variable "result" {\n  type = map(string)\n}\n\nresource "terraform_data" "asked" {\n  input = var.result\n  triggers_replace = timestamp()\n}\n'
    main.write_text(text)
    for file in (where / "gate").glob("*.tf"):
        file.write_text(file.read_text().replace("data.external.gate.result", "terraform_data.asked.output"))
    (where / "main.tf").write_text(
        'variable "result" {\n  type = map(string)\n}\nvariable "content" {\n  type = string\n}\n'
        'module "gate" {\n  source = "./gate"\n  flow = "main_ivr"\n  stage = "local"\n  result = var.result\n}\n'
        'resource "terraform_data" "flow" {\n  input = var.content\n  depends_on = [module.gate]\n  lifecycle {\n    precondition {\n'
        '      condition = module.gate.open\n      error_message = "Flow main_ivr is not deployed now: ${module.gate.answer}"\n    }\n  }\n}\n'
        'output "program" {\n  value = module.gate.program\n}\noutput "flow" {\n  value = terraform_data.flow.output\n}\n'
    )
    done = terraform(where, "init", "-no-color", "-input=false")
    assert done.returncode == 0, done.stdout
    return where


def apply(module: Path, result: dict, content: str) -> subprocess.CompletedProcess:
    return terraform(module, "apply", "-auto-approve", "-no-color", "-input=false", result=result, content=content)


def output(module: Path, name: str):
    return json.loads(terraform(module, "output", "-json", name).stdout)


@needs_terraform
def test_terraform_touches_nothing_unless_the_answer_is_yes(module):
    yes = {"open": "true", "code": "0", "answer": "open"}
    done = apply(module, yes, "one")
    assert done.returncode == 0, done.stdout
    assert output(module, "flow") == "one"
    for no in (
        {"open": "false", "code": "10", "answer": "rollout r-1 stands at Stepping"},
        {"open": "false", "code": "20", "answer": "could not tell"},
        {"open": "yes", "code": "0", "answer": "a word that nobody agreed on"},
        {"open": "", "code": "0", "answer": "nothing"},
        {"answer": "another program's", "code": "0"},
    ):
        done = apply(module, no, "two")
        assert done.returncode != 0, no
        assert "open" not in no or no["answer"] in re.sub(r"\s+", " ", done.stdout), done.stdout
        assert output(module, "flow") == "one"
    # Also where nothing is to be changed: the gate is asked each time.
    assert apply(module, {"open": "false", "code": "12", "answer": "a freeze"}, "one").returncode != 0
    assert apply(module, yes, "two").returncode == 0 and output(module, "flow") == "two"


def external(program: list[str], env: dict, where: Path, query: dict = QUERY) -> dict[str, str]:
    """What the provider does: the query on standard input, an object of strings on standard output, an exit code of 0."""
    done = subprocess.run(program, cwd=where, env=env, input=json.dumps(query), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"the provider would say that the program failed: {done.stderr}"
    result = json.loads(done.stdout)
    assert isinstance(result, dict) and all(isinstance(value, str) for value in result.values()), done.stdout
    return result


@needs_terraform
def test_the_program_answers_as_the_provider_wants_it_and_terraform_obeys(play, local, module, tmp_path):
    # (Runs after a rollback: the gate is locked out, unless this test is run alone.)
    apply(module, {"open": "true", "code": "0", "answer": "open"}, "before")
    program = output(module, "program")
    assert program[0] == "serin" and "--terraform" in program
    for query in (QUERY, {}):
        result = external(program, local, tmp_path, query)
        assert set(result) >= {"open", "code", "answer"} and result["open"] == ("true" if result["code"] == "0" else "false")
    assert (apply(module, result, "after").returncode == 0) == (result["open"] == "true")

    held = [*program[:2], "other_ivr", *program[3:]]
    assert external(held, local, tmp_path)["open"] == "true", "a flow that nobody deploys"
    play.serin("stop-all", "--reason", "a test", *yes("stop-all"))
    stopped = external(held, local, tmp_path)
    play.serin("stop-all", "--end", "--reason", "a test", *yes("stop-all"))
    assert (stopped["open"], stopped["code"]) == ("false", "12")
    assert apply(module, stopped, "stopped").returncode != 0
    unreachable = external(held, local | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, tmp_path)
    assert (unreachable["open"], unreachable["code"]) == ("false", "20"), "an answer, for the precondition's words"


def mirror() -> Path | None:
    """Where Terraform would look on this machine, if the provider `external` is there."""
    named = [os.environ[name] for name in ("TF_PLUGIN_CACHE_DIR",) if os.environ.get(name)]
    usual = ["~/.terraform.d/plugins", "~/.local/share/terraform/plugins", "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"]
    places = [Path(place).expanduser() for place in named + usual]
    return next((place for place in places if list(place.glob("registry.terraform.io/hashicorp/external/*"))), None)


@needs_terraform
def test_the_whole_module_with_the_real_provider(local, tmp_path):
    if not (plugins := mirror()):
        pytest.skip("terraform's provider hashicorp/external is not on this machine: its side of the protocol was spoken by hand instead")
    shutil.copytree(MODULE, tmp_path / "gate", ignore=shutil.ignore_patterns("example", ".terraform*"))
    (tmp_path / "main.tf").write_text('module "gate" {\n  source = "./gate"\n  flow = "another_ivr"\n  stage = "local"\n}\n')
    done = terraform(tmp_path, "init", "-no-color", "-input=false", plugins=plugins)
    assert done.returncode == 0, done.stdout
    done = terraform(tmp_path, "validate", "-no-color", plugins=plugins)
    assert done.returncode == 0, done.stdout
    env = local | {"TF_CLI_CONFIG_FILE": str(tmp_path / "terraform.rc"), "CHECKPOINT_DISABLE": "1"}
    applied = execute(["terraform", "apply", "-auto-approve", "-no-color", "-input=false"], tmp_path, env)
    assert applied.returncode == 0, applied.stdout
    closed = execute(["terraform", "apply", "-auto-approve", "-no-color", "-input=false"], tmp_path, env | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert closed.returncode != 0 and "is closed (20)" in closed.stdout, closed.stdout
