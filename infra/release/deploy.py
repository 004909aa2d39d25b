"""Deploys with the SAM CLI what `make package` made: `make deploy`, `make alerts`, `make key`. Standard library only.

    python3 infra/release/deploy.py serin  --stage prod --package target/release-packages/serin-… --parameters "Flows=main_ivr"
    python3 infra/release/deploy.py serin  --stage prod --check-only
    python3 infra/release/deploy.py alerts --stage prod --target oncall
    python3 infra/release/deploy.py key    --stage prod

Parameters that are not given keep the values they have in AWS. What SAM would pass over in silence is refused here: a parameter the template
does not know, a package whose files are not those of its checksums, the stage of the local stack. `--check-only` refuses the same before
there is a package, which takes half an hour to make.
"""

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

INFRA = Path(__file__).resolve().parents[1]


class Refused(Exception):
    """Nothing was deployed; the message says what to do."""


def checked(package: Path) -> Path:
    """The package's template, after every file was found to be the one that was checksummed."""
    sums = package / "SHA256SUMS"
    if not sums.is_file():
        raise Refused(f"{package} is no release: make one with `make package`, or name its folder with PACKAGE=…")
    again = "get the release again, or make it with `make package`"
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in sums.read_text().splitlines())}
    there = {file.name for file in package.iterdir()} - {sums.name}
    if lacks := sorted(({"template.yaml"} | listed.keys()) - there):
        raise Refused(f"{package} lacks {', '.join(name or 'the end of its sums' for name in lacks)}: {again}")
    if unknown := sorted(there - listed.keys()):
        raise Refused(f"{sums} does not list {', '.join(unknown)}: take away what is not the release's, or {again}")
    for name, digest in listed.items():
        if hashlib.sha256((package / name).read_bytes()).hexdigest() != digest:
            raise Refused(f"{package / name} is not what {sums} says: {again}")
    return package / "template.yaml"


def known(template: Path) -> dict[str, str]:
    """The template's parameters, each with its text."""
    section = re.search(r"(?ms)^Parameters:\n(.*?)^\S", template.read_text())[1]
    parts = re.split(r"(?m)^  ([A-Za-z0-9]+):\n", section)
    return dict(zip(parts[1::2], parts[2::2]))


def parameters(template: Path, given: str, fixed: dict[str, str]) -> dict[str, str]:
    """`Name=value Name="two words"` as people write it, with those that are not theirs to give."""
    names, values = known(template), {}
    try:
        items = shlex.split(given)
    except ValueError as broken:
        raise Refused(f"PARAMETERS={given!r} cannot be taken apart ({broken}): is there a quote too few?") from None
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or re.search(r'["\\]', value):
            raise Refused(f'{item!r} is no parameter: write PARAMETERS="Name=value Name=value", without quotes in a value')
        if name in fixed:
            raise Refused(f"{name} is {fixed[name]!r} here: it follows from STAGE, TARGET, GENESYS_API or the package")
        if name not in names:
            has = ", ".join(sorted(set(names) - set(fixed))) or "none that is given by name"
            raise Refused(f"{template.name} has no parameter {name!r}: it has {has}")
        values[name] = value
    return {name: value for name, value in fixed.items() if name in names} | values


def is_deployed(stack: str) -> bool:
    """Does the stack exist, as one that was created to its end?"""
    asked = subprocess.run(["sam", "list", "stack-outputs", "--stack-name", stack, "--output", "json"], capture_output=True, text=True)
    if asked.returncode == 0:
        return True
    # Two answers of SAM's: no such stack, and one without outputs, which is a creation that failed.
    if re.search(r"do(es)? not exist", asked.stderr + asked.stdout, re.IGNORECASE):
        return False
    raise Refused(f"AWS could not be asked for the stack {stack}:\n{(asked.stderr or asked.stdout).strip()}")


def deploy(template: Path, stack: str, values: dict[str, str]) -> int:
    """Runs `sam deploy` and answers its exit code."""
    command = ["sam", "deploy", "--template-file", str(template), "--stack-name", stack, "--resolve-s3", "--capabilities", "CAPABILITY_IAM"]
    # A first creation that failed would be in the way of the next; an update that failed is rolled back and the stack stays.
    command += ["--on-failure", "DELETE", "--no-confirm-changeset", "--no-fail-on-empty-changeset"]
    return subprocess.run([*command, "--parameter-overrides", *(f'{name}="{value}"' for name, value in values.items())]).returncode


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Deploys a release with the SAM CLI")
    parser.add_argument("what", choices=("serin", "alerts", "key"))
    parser.add_argument("--stage", required=True)
    parser.add_argument("--package", type=Path)
    parser.add_argument("--target", default="")
    parser.add_argument("--genesys-api", default="")
    parser.add_argument("--parameters", default="", metavar='"Name=value Name=value"')
    parser.add_argument("--check-only", action="store_true", help="refuse what would be refused, and deploy nothing")
    asked = parser.parse_args(arguments)
    if region := os.environ.get("AWS_REGION"):
        os.environ["AWS_DEFAULT_REGION"] = region  # the only one of the two that SAM reads; everything else reads the first first
    os.environ.setdefault("SAM_CLI_TELEMETRY", "0")  # a deployment is nobody else's business
    if not asked.stage:
        raise Refused("which installation? Name it: STAGE=prod")
    if asked.stage == "local":
        raise Refused("the stage `local` is the local stack's and goes without protections: give the installation another name, STAGE=…")
    if not shutil.which("sam"):
        raise Refused("the SAM CLI is missing: https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/install-sam-cli.html")

    stack, fixed = f"serin-{asked.stage}", {"Stage": asked.stage}
    if asked.what == "serin":
        if not asked.package and not asked.check_only:
            raise Refused("which release? Make one with `make package`, or name its folder with PACKAGE=…")
        # A package's template has the same parameters as the one that it is made from.
        template = checked(asked.package) if asked.package else INFRA / "template.yaml"
        # Said each time: a stack keeps what it was told last, and binaries for another machine do not start.
        fixed["Architecture"] = re.search(r"Default: (\S+)", known(template)["Architecture"])[1]
        if asked.genesys_api:
            fixed["GenesysApi"] = asked.genesys_api
    elif asked.what == "alerts":
        if not asked.target:
            raise Refused("which target? Name it with TARGET=…, as its secret is named: /serin/STAGE/alerts/TARGET")
        template, stack = INFRA / "alert-target.yaml", f"{stack}-alert-{asked.target}"
        fixed["Target"] = asked.target
    else:
        template, stack = INFRA / "key.yaml", f"{stack}-key"
    values = parameters(template, asked.parameters, fixed)
    if asked.what == "serin" and "GenesysApi" not in values and not is_deployed(stack):
        raise Refused(
            f"{stack} is not there yet, and its first deployment has to know your Genesys Cloud region: "
            "make deploy STAGE=… GENESYS_API=https://api.mypurecloud.com (docs/quick-start.md lists the regions)"
        )
    return 0 if asked.check_only else deploy(template, stack, values)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refused as refused:
        sys.exit(f"not deployed: {refused}")
