"""A release of Serin, as `make package` makes it: the same bytes for the same commit, wherever it is checked out.

    python infra/release/package.py arm64

It builds each function for Lambda with cargo-lambda, refuses a program that would not start there, and fills
`target/release-packages/serin-VERSION-COMMIT-ARCH/`: a zip and a bill of materials per function, the templates with those zips in place of
the build's folders, how it was built, and the checksum of each. docs/releases.md tells how to check one and how to make it again.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from datetime import datetime, timezone
from pathlib import Path

import archive
import checkout
import elf
import licences
import sbom

ROOT = checkout.ROOT
FUNCTIONS = ("random-percentage", "canary-evaluator", "rollback-executor", "alert-forwarder")
TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
# The oldest processors that Lambda runs on: Graviton2 and Haswell, which has AVX2.
PROCESSORS = {"arm64": "neoverse-n1", "x86_64": "haswell"}
# All that a build gets of a person's environment: where things are, and how to reach them. Whatever it says besides, of compilers or of
# profiles, could be in the bytes.
KEPT = re.compile(
    r"PATH|HOME|USER|LANG|TMPDIR|CARGO_HOME|RUSTUP_\w+|CARGO_(NET|HTTP|REGISTRIES|SOURCE)_\w+|SSL_CERT_\w+|XDG_\w+|(\w+_)?(proxy|PROXY)"
)
# What cargo's own configuration may say, for the same reason.
HARMLESS = {"alias", "cache", "credential-alias", "future-incompat-report", "http", "net", "registries", "registry", "source", "term"}


class Failed(Exception):
    """Nothing was packaged; the message says what to do."""


def build(function: str, architecture: str, made: int) -> Path:
    """The function's program, built for Lambda."""
    target_dir = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
    # Panics name the file they came from: the checkout's place must not be part of it, nor the registry's or the build's.
    places = {ROOT: "/serin", target_dir: "/serin/target"} | {source: "/crates" for source in sorted(cargo_home().glob("registry/src/*"))}
    # The standard library's files have a name without a place, unless rustup's component rust-src is here: then it is theirs again.
    sysroot, hashed = checkout.output("rustc", "--print", "sysroot"), re.search(r"(?m)^commit-hash: (\w+)$", checkout.output("rustc", "-vV"))
    if not sysroot or not hashed:
        raise Failed("rustc does not say where it is and what it was made of: install Rust, see https://rustup.rs")
    places[Path(sysroot) / "lib" / "rustlib" / "src" / "rust"] = f"/rustc/{hashed[1]}"
    if strange := [str(place) for place in places if re.search(r"\s", str(place))]:
        raise Failed(f"cargo cannot be told of a path with blanks in it ({strange[0]}): package from another folder")
    flags = [f"--remap-path-prefix={place}={name}" for place, name in places.items()] + ["-C", f"target-cpu={PROCESSORS[architecture]}"]
    environment = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
    environment |= {"CARGO_TARGET_DIR": str(target_dir), "RUSTFLAGS": " ".join(flags), "SOURCE_DATE_EPOCH": str(made)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"  # cargo-lambda and its Zig
    # The version behind the target is glibc's: what is newer cannot be linked by accident.
    target = f"{TARGETS[architecture]}.{'.'.join(map(str, elf.GLIBC))}"
    # One function at a time: built together, each would carry the others' features along.
    command = ["cargo", "lambda", "build", "--release", "--locked", "--target", target, "--package", function]
    command += ["--lambda-dir", str(ROOT / "target" / "lambda")]
    if subprocess.run(command, cwd=ROOT, env=environment).returncode:
        raise Failed(f"{function} could not be built: see above")
    return ROOT / "target" / "lambda" / function / "bootstrap"


def package(programs: dict[str, Path], architecture: str, into: Path, made: int, notes: dict[str, str], compiler: str) -> None:
    """Fills the folder `into` with a release of these programs; nothing is there when one of them is unfit."""
    for program in programs.values():
        elf.check(program, architecture)
    unfinished = into.with_name(into.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    day = datetime.fromtimestamp(made, timezone.utc)
    for function, path in programs.items():
        program = path.read_bytes()
        (unfinished / f"{function}.zip").write_bytes(archive.zipped(program))
        digest = hashlib.sha256(program).hexdigest()
        bill = sbom.bill(ROOT, function, TARGETS[architecture], digest, day, compiler, notes)
        (unfinished / f"{function}.cdx.json").write_text(bill)
        listed = {(component["name"], component["version"]) for component in json.loads(bill)["components"]}
        if missing := sorted(f"{name} {version}" for name, version in sbom.named(program) - listed):
            raise Failed(f"{function} is made of {', '.join(missing)}, which its bill of materials does not name: build it with `make package`")
    for name, text in templates(tuple(programs), architecture).items():
        (unfinished / name).write_text(text)
    shutil.copyfile(ROOT / "LICENSE", unfinished / "LICENSE")
    (unfinished / "BUILD").write_text("".join(f"{name}: {value}\n" for name, value in {**notes, "rustc": compiler}.items()))
    (unfinished / "SHA256SUMS").write_text(sums(unfinished))
    shutil.rmtree(into, ignore_errors=True)
    unfinished.rename(into)  # in one step: an interrupted run leaves no half release


def templates(functions: tuple[str, ...], architecture: str) -> dict[str, str]:
    """infra's templates as a release has them: each `CodeUri` is the zip beside it, and no other architecture can be asked for."""
    found = {path.name: path.read_text() for path in sorted((ROOT / "infra").glob("*.yaml"))}
    text, uris = re.subn(r"(?m)^(\s+CodeUri:) \.\./target/lambda/([a-z-]+)/$", r"\1 ./\2.zip", found["template.yaml"])
    text, values = re.subn(r"(?m)^(    AllowedValues:) \[arm64, x86_64\]$", rf"\1 [{architecture}]", text)
    text, default = re.subn(r"(?m)^(  Architecture:\n    Type: String\n    Default:) arm64$", rf"\1 {architecture}", text)
    if (uris, values, default) != (len(FUNCTIONS), 1, 1):
        raise Failed("infra/template.yaml has no longer the lines that package.py looks for (CodeUri, Architecture): change both together")
    return found | {"template.yaml": text}


def sums(folder: Path) -> str:
    """What `sha256sum -c SHA256SUMS` checks."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def cargo_home() -> Path:
    return Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")


def configured(root: Path, home: Path) -> list[str]:
    """Each file of cargo's configuration that could change the bytes, with what it sets: in the checkout, above it and in cargo's home."""
    folders = dict.fromkeys([*(folder / ".cargo" for folder in (root, *root.parents)), home])
    files = [file for folder in folders for name in ("config.toml", "config") if (file := folder / name).is_file()]
    found = {file: sorted(tomllib.loads(file.read_text()).keys() - HARMLESS) for file in files}
    return [f"{file} ({', '.join(names)})" for file, names in found.items() if names]


def versions(architecture: str, of: str) -> tuple[str, dict[str, str]]:
    """The compiler's version, and what else decides the bytes."""
    rustc = checkout.output("rustc", "--version")
    if not (found := re.match(r"rustc (\S+)", rustc)):
        raise Failed("rustc does not run here: install Rust, see https://rustup.rs")
    pins = dict(re.findall(r"(?m)^([a-z-]+)==(\S+)$", (Path(__file__).with_name("requirements.txt")).read_text()))
    notes = {"commit": of, "target": TARGETS[architecture], "processor": PROCESSORS[architecture]}
    return found[1], notes | {"glibc": ".".join(map(str, elf.GLIBC)), "cargo-lambda": pins["cargo-lambda"], "ziglang": pins["ziglang"]}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Makes a release in target/release-packages")
    parser.add_argument("architecture", choices=TARGETS)
    architecture = parser.parse_args(arguments).architecture
    rules = licences.policy()
    if complaints := licences.refused(licences.packages(ROOT, rules), rules):
        raise Failed("\n".join(complaints))
    if files := configured(ROOT, cargo_home()):
        raise Failed(f"cargo's configuration could be in the bytes: take {' and '.join(files)} away, or package with another CARGO_HOME or folder")
    name, (head, changed), made = checkout.name(architecture), checkout.commit(), checkout.committed()
    if made is None:
        raise Failed("this is no git checkout, so nobody knows of when it is: set SOURCE_DATE_EPOCH to the release's day, in seconds since 1970")
    of = f"{head} with changes that are not committed" if changed else head or "unknown"
    compiler, notes = versions(architecture, of)
    if subprocess.run(["cargo", "fetch", "--locked", "--target", TARGETS[architecture]], cwd=ROOT).returncode:
        raise Failed("the dependencies could not be fetched: see above")
    programs = {function: build(function, architecture, made) for function in FUNCTIONS}
    if checkout.name(architecture) != name:
        raise Failed(f"the checkout changed while {name} was built: package again")
    into = ROOT / "target" / "release-packages" / name
    package(programs, architecture, into, made, notes, compiler)
    print((into / "SHA256SUMS").read_text() + f"in {shlex.quote(os.path.relpath(into))}, of {of}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Failed, elf.Unfit, RuntimeError) as failed:
        sys.exit(f"not packaged: {failed}")
