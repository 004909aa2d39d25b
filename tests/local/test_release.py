"""What `make package` promises about a release, and what `make deploy` does with one. The programs are the debug ones: that the compiler
gives the same bytes from another folder takes two release builds, and docs/releases.md tells how to see it."""

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import stack

RELEASE = stack.ROOT / "infra" / "release"
sys.path.insert(0, str(RELEASE))

import archive  # noqa: E402
import checkout  # noqa: E402
import elf  # noqa: E402
import licences  # noqa: E402
import package  # noqa: E402
import sbom  # noqa: E402

ARCHITECTURE = stack.ARCHITECTURE
OTHER = {"arm64": "x86_64", "x86_64": "arm64"}[ARCHITECTURE]
MADE = 1_780_000_000
NOTES = {"commit": "c0ffee", "target": package.TARGETS[ARCHITECTURE]}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The endpoint, built alone as releases are: together with others it has features, and so crates, that it asks nobody for. Built on a
    system newer than Lambda's it may ask for more than a release does; that is taken out of it."""
    built = stack.ROOT / "target" / "release" / "random-percentage"
    if not built.is_file():
        pytest.fail("target/release/random-percentage is missing: run `cargo build --release -p random-percentage --locked`", pytrace=False)
    stripped = tmp_path_factory.mktemp("program") / "bootstrap"
    subprocess.run(["strip", "-o", stripped, built], check=True)
    stripped.write_bytes(re.sub(rb"GLIBC_2\.(3[5-9]|[4-9]\d)\0", b"GLIBC_2.34\0", stripped.read_bytes()))
    return stripped


@pytest.fixture(scope="module")
def release(program, tmp_path_factory) -> Path:
    """A release with one function in it."""
    return released(program, tmp_path_factory.mktemp("release"))


def released(program: Path, folder: Path) -> Path:
    into = folder / "release-packages" / "serin"
    package.package({"random-percentage": program}, ARCHITECTURE, into, MADE, NOTES, "1.95.0")
    return into


def bytes_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def patched(program: Path, folder: Path, old: bytes, new: bytes) -> Path:
    """A copy with the same bytes but for some."""
    content = program.read_bytes()
    assert old in content and len(old) == len(new)
    copy = folder / "bootstrap"
    copy.write_bytes(content.replace(old, new))
    return copy


# -------------------------------------------------------------------------------------------------------------------------- the bytes


def test_the_same_program_makes_the_same_release(program, release, tmp_path):
    elsewhere = tmp_path / "another" / "place" / "program"
    elsewhere.parent.mkdir(parents=True)
    shutil.copyfile(program, elsewhere)
    elsewhere.chmod(0o600)
    os.utime(elsewhere, (1, 1))

    again = released(elsewhere, tmp_path)

    assert bytes_of(again) == bytes_of(release)
    assert sorted(bytes_of(release)) == sorted(
        ["BUILD", "LICENSE", "SHA256SUMS", "random-percentage.cdx.json", "random-percentage.zip"]
        + [path.name for path in (stack.ROOT / "infra").glob("*.yaml")]
    )


def test_a_changed_byte_changes_the_sums(program, release, tmp_path):
    changed = bytearray(program.read_bytes())
    changed[-1] ^= 1  # within the section headers' names
    other = tmp_path / "bootstrap"
    other.write_bytes(changed)

    differ = bytes_of(released(other, tmp_path)).items() ^ bytes_of(release).items()

    assert {name for name, _ in differ} == {"SHA256SUMS", "random-percentage.zip", "random-percentage.cdx.json"}


def test_the_zip_holds_one_program_that_everybody_may_run(program, release):
    with zipfile.ZipFile(release / "random-percentage.zip") as opened:
        (entry,) = opened.infolist()
        assert opened.testzip() is None
        assert opened.read("bootstrap") == program.read_bytes()
    assert (entry.filename, entry.external_attr >> 16, entry.create_system) == ("bootstrap", 0o100755, 3)
    assert (entry.date_time, entry.extra, entry.comment) == ((1980, 1, 1, 0, 0, 0), b"", b"")


def test_an_empty_program_makes_a_zip_too():
    with zipfile.ZipFile(io.BytesIO(archive.zipped(b""))) as opened:
        assert opened.read("bootstrap") == b""


def test_the_sums_are_those_that_sha256sum_checks(release, tmp_path):
    copy = shutil.copytree(release, tmp_path / "copy")
    check = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    good = subprocess.run(check, cwd=copy, capture_output=True, text=True)
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.count(": OK") == len(list(release.iterdir())) - 1

    (copy / "template.yaml").write_text((copy / "template.yaml").read_text() + "#\n")
    assert subprocess.run(check, cwd=copy, capture_output=True).returncode != 0


def test_the_template_of_a_release_has_the_zips_and_the_one_architecture(release):
    ours = (stack.ROOT / "infra" / "template.yaml").read_text().splitlines()
    theirs = (release / "template.yaml").read_text().splitlines()
    assert len(ours) == len(theirs)
    changed = sorted(new.strip() for old, new in zip(ours, theirs) if old != new)
    expected = [f"CodeUri: ./{function}.zip" for function in stack.FUNCTIONS] + [f"AllowedValues: [{ARCHITECTURE}]"]
    assert changed == sorted(expected + ([f"Default: {ARCHITECTURE}"] if ARCHITECTURE != "arm64" else []))


# ------------------------------------------------------------------------------------------------------------------ what Lambda can run


def test_a_program_for_amazon_linux_2023_is_taken(program):
    elf.check(program, ARCHITECTURE)


def test_a_program_that_needs_a_newer_glibc_is_refused(program, tmp_path):
    newer = patched(program, tmp_path, b"GLIBC_2.34\0", b"GLIBC_2.39\0")
    with pytest.raises(elf.Unfit, match=r"GLIBC_2\.39, and Amazon Linux 2023 has GLIBC_2\.34: build it with `make package`"):
        released(newer, tmp_path)
    assert not (tmp_path / "release-packages").exists()


def test_a_program_for_another_machine_is_refused(program, tmp_path):
    with pytest.raises(elf.Unfit, match=f"built for {ARCHITECTURE}, not for {OTHER}: run `make package ARCH={OTHER}`"):
        elf.check(program, OTHER)
    foreign = bytearray(program.read_bytes())
    foreign[18:20] = (8).to_bytes(2, "little")  # MIPS
    copy = tmp_path / "bootstrap"
    copy.write_bytes(foreign)
    with pytest.raises(elf.Unfit, match=f"built for EM_MIPS, not for {ARCHITECTURE}"):
        elf.check(copy, ARCHITECTURE)


def test_a_program_that_needs_a_library_of_its_own_is_refused(program, tmp_path):
    with pytest.raises(elf.Unfit, match=r"needs libssl\.so, which the runtime does not have"):
        elf.check(patched(program, tmp_path, b"\0libc.so.6\0", b"\0libssl.so\0"[:11]), ARCHITECTURE)


def test_what_is_no_program_is_refused(tmp_path):
    (tmp_path / "bootstrap").write_text("#!/bin/sh\n")
    with pytest.raises(elf.Unfit, match="no Linux program"):
        elf.check(tmp_path / "bootstrap", ARCHITECTURE)


# ------------------------------------------------------------------------------------------------------------------ bills of materials


@pytest.fixture(scope="module")
def bills() -> dict[str, dict]:
    day = package.datetime.fromtimestamp(MADE, package.timezone.utc)
    return {
        function: json.loads(sbom.bill(stack.ROOT, function, NOTES["target"], "0" * 64, day, "1.95.0", NOTES))
        for function in ("random-percentage", "canary-evaluator")
    }


def test_a_program_made_of_more_than_its_bill_names_is_refused(program, bills, tmp_path):
    """A panic names the file it came from, and with it crate and version: a release looks for those in the bill."""
    named = sbom.named(program.read_bytes())
    assert len(named) > 20 and named <= {(c["name"], c["version"]) for c in bills["random-percentage"]["components"]}

    foreign = patched(program, tmp_path, b"/tokio-1.", b"/tokyo-1.")
    with pytest.raises(package.Failed, match=r"random-percentage is made of tokyo 1\.\S+, which its bill of materials does not name"):
        released(foreign, tmp_path)


def test_a_bill_lists_what_is_linked_and_nothing_that_only_builds(bills):
    endpoint, evaluator = ({c["name"] for c in bill["components"]} for bill in bills.values())
    assert {"ring", "rustls", "tokio", "aws-sigv4", "serin-core", "rust-std"} <= endpoint
    assert "aws-sdk-dynamodb" in evaluator and "aws-sdk-dynamodb" not in endpoint
    assert not (endpoint | evaluator) & {"serde_derive", "syn", "quote", "cc", "proptest", "serin-simulator", "openssl-sys"}


def test_every_part_of_a_bill_can_be_looked_up(bills):
    lock = (stack.ROOT / "Cargo.lock").read_text()
    for function, bill in bills.items():
        assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "1.6", function)
        refs = {component["bom-ref"] for component in bill["components"]}
        for component in bill["components"]:
            assert component["licenses"], component["name"]
            if "purl" in component and component["name"] != "rust-std":
                assert component["purl"] == f"pkg:cargo/{component['name']}@{component['version'].replace('+', '%2B')}"
                assert f'checksum = "{component["hashes"][0]["content"]}"' in lock
            else:
                assert component["name"].startswith("serin-") or component["name"] == "rust-std"
        (top,) = [d for d in bill["dependencies"] if d["ref"] == bill["metadata"]["component"]["bom-ref"]]
        assert top["dependsOn"] and set(top["dependsOn"]) <= refs


def test_a_bill_that_is_no_cyclonedx_is_refused():
    with pytest.raises(ValueError, match="no CycloneDX 1.6"):
        sbom.bill(stack.ROOT, "random-percentage", NOTES["target"], "no checksum", package.datetime.now(package.timezone.utc), "1", NOTES)


# ------------------------------------------------------------------------------------------------------------------ licences and bans


@pytest.fixture(scope="module")
def dependencies() -> list[dict]:
    return licences.packages(stack.ROOT, licences.policy())


def test_all_dependencies_keep_to_the_policy(dependencies):
    assert len(dependencies) > 250
    assert licences.refused(dependencies, licences.policy()) == []


@pytest.mark.parametrize(
    ("crate", "complaint"),
    [
        ({"license": "GPL-3.0-only"}, "the licence GPL-3.0-only is not among those"),
        ({"license": "MIT AND GPL-3.0-only"}, "the licence MIT AND GPL-3.0-only"),
        ({"license": None}, "that is not stated"),
        ({"license": "MPL-2.0/GPL-2.0"}, "the licence MPL-2.0/GPL-2.0"),
        ({"name": "openssl", "version": "0.10.66"}, "openssl 0.10.66 is banned: TLS is rustls"),
        ({"name": "hyper", "version": "0.14.32"}, "hyper 0.14.32 is banned"),
        ({"source": "git+https://example.com/left-pad"}, "not from crates.io"),
        ({"source": "registry+https://example.com/index"}, "not from crates.io"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused(crate, complaint):
    found = {"name": "left-pad", "version": "1.0.0", "license": "MIT", "source": licences.REGISTRY} | crate
    (said,) = licences.refused([found], licences.policy())
    assert complaint in said


def test_what_the_policy_allows_is_not_refused():
    crate = {"name": "hyper", "version": "1.12.0", "source": licences.REGISTRY}
    for licence in ("MIT OR GPL-3.0-only", "Apache-2.0/MIT", "(MIT OR GPL-2.0) AND ISC"):
        assert licences.refused([crate | {"license": licence}], licences.policy()) == []


def test_no_licence_is_allowed_that_nobody_has(dependencies):
    stated = " ".join(sbom.expression(package) for package in dependencies)
    assert [licence for licence in licences.policy()["licenses"]["allow"] if not re.search(rf"(?<![\w.-]){re.escape(licence)}(?![\w-])", stated)] == []


# -------------------------------------------------------------------------------------------------------------------------- the build


def test_a_build_does_not_depend_on_where_and_by_whom(tmp_path, monkeypatch):
    """Of the compiler's command: places renamed, glibc's version named, nothing of the person's own settings."""
    said, bin = tmp_path / "said.json", tmp_path / "bin"
    script(bin / "cargo", f"import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open({str(said)!r}, 'w'))")
    script(bin / "rustc", "import sys; print('/home/me/rust' if 'sysroot' in sys.argv else 'rustc 1.95.0\\ncommit-hash: c0ffee')")
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CARGO_TARGET_DIR", str(tmp_path / "target"))
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "registry" / "src" / "mirror-1234").mkdir(parents=True)
    compilers = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PROFILE_RELEASE_LTO", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC")
    for name in (*compilers, "CFLAGS", "TARGET_CFLAGS", "CFLAGS_aarch64_unknown_linux_gnu", "HOST_CC", "CPATH", "LD_PRELOAD", "RING_PREGENERATE_ASM"):
        monkeypatch.setenv(name, "of-mine")
    reached = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost", "CARGO_NET_OFFLINE": "true", "RUSTUP_TOOLCHAIN": "1.95.0"}
    for name, value in reached.items():
        monkeypatch.setenv(name, value)
    # cargo-lambda lies beside the Python that packages; here the fake has to come first.
    monkeypatch.setattr(sys, "executable", str(bin / "python"))

    package.build("random-percentage", "arm64", MADE)

    arguments, environment = json.loads(said.read_text())
    assert "of-mine" not in environment.values()
    assert reached.items() <= environment.items()
    assert arguments[arguments.index("--target") + 1] == "aarch64-unknown-linux-gnu.2.34"
    assert {"--release", "--locked", "random-percentage"} <= set(arguments)
    assert environment["SOURCE_DATE_EPOCH"] == str(MADE)
    assert environment["CARGO_TARGET_DIR"] == str(tmp_path / "target")
    assert environment["RUSTFLAGS"].split() == [
        f"--remap-path-prefix={stack.ROOT}=/serin",
        f"--remap-path-prefix={tmp_path}/target=/serin/target",
        f"--remap-path-prefix={tmp_path}/home/registry/src/mirror-1234=/crates",
        "--remap-path-prefix=/home/me/rust/lib/rustlib/src/rust=/rustc/c0ffee",
        "-C",
        "target-cpu=neoverse-n1",
    ]


def test_configurations_of_cargo_that_could_be_in_the_bytes_are_found(tmp_path):
    root, home = tmp_path / "folder" / "serin", tmp_path / "home"
    settings = {
        root / ".cargo" / "config.toml": "[profile.release]\nlto = false\n",
        tmp_path / ".cargo" / "config": "[env]\nA = '1'\n[net]\noffline = true\n",
        home / "config.toml": "[build]\nrustflags = []\n[target.x86_64-unknown-linux-gnu]\nlinker = 'lld'\n",
    }
    for file, text in settings.items():
        file.parent.mkdir(parents=True)
        file.write_text(text)
    names = ("profile", "env", "build, target")
    assert package.configured(root, home) == [f"{file} ({name})" for file, name in zip(settings, names)]
    for file in settings:
        file.write_text("[net]\noffline = true\n[source.crates-io]\nreplace-with = 'mirror'\n")
    assert package.configured(root, home) == []


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A checkout with one commit, made at `MADE`."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in {"NAME": "a", "EMAIL": "a@example.com", "DATE": f"{MADE} +0000"}.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value), monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    root = tmp_path / "repository"
    root.mkdir()
    (root / "Cargo.toml").write_text('[workspace.package]\nversion = "1.2.3"\n')
    (root / ".gitignore").write_text("target/\n")
    for command in (["init", "--quiet"], ["add", "."], ["-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


def test_a_release_is_named_by_version_commit_and_architecture(repository):
    """So that the one before stays beside it."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True).stdout.strip()
    assert checkout.name("arm64", repository) == f"serin-1.2.3-{head[:12]}-arm64"
    (repository / "target").mkdir()
    (repository / "target" / "what-was-built").write_text("")
    assert checkout.commit(repository) == (head, False)
    (repository / ".cargo").mkdir()
    (repository / ".cargo" / "config.toml").write_text("")  # a new file, which a build would read
    assert checkout.commit(repository) == (head, True)
    assert checkout.name("x86_64", repository) == f"serin-1.2.3-{head[:12]}-dirty-x86_64"


def test_a_release_is_of_the_day_of_its_commit(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert checkout.committed(repository) == MADE
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "no-repository").mkdir()
    assert checkout.committed(tmp_path / "no-repository") == 1
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert checkout.committed(tmp_path / "no-repository") is None


def test_the_tests_use_what_packages():
    """The libraries that decide the bytes have one version."""
    ours = (stack.ROOT / "tests" / "local" / "requirements.txt").read_text().splitlines()
    theirs = [line for line in (RELEASE / "requirements.txt").read_text().splitlines() if "==" in line]
    assert [pin for pin in theirs if pin not in ours] == ["cargo-lambda==1.9.2", "ziglang==0.17.1"]


# ------------------------------------------------------------------------------------------------------------------------- deployment


def script(path: Path, python: str) -> None:
    """A command of the given name that runs some Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('python3')}\n{python}\n")
    path.chmod(0o755)


class Sam:
    """`make` with a SAM CLI that only writes down what it was asked."""

    def __init__(self, folder: Path, answers: str):
        self._folder, self._said = folder, folder / "said"
        listing = {"there": "print('[]')", "none": "sys.exit('Error: The input stack x does not exist on Cloudformation')"}
        listing = listing.get(answers) or f"sys.exit({answers!r})"
        noted = "json.dumps([*sys.argv[1:], os.environ.get('AWS_DEFAULT_REGION')]) + '\\n'"
        script(folder / "bin" / "sam", f"import json, os, sys\nopen({str(self._said)!r}, 'a').write({noted})\nif sys.argv[1] == 'list': {listing}")
        # Nothing is built here: whoever comes as far as cargo is told so.
        script(folder / "bin" / "cargo", "import sys; sys.exit('cargo was asked')")

    def make(self, *arguments: str, **more: str) -> subprocess.CompletedProcess:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "AWS_")) and name not in ("STAGE", "PARAMETERS")}
        environment = kept | more | {"PATH": f"{self._folder / 'bin'}{os.pathsep}{kept['PATH']}"}
        return subprocess.run(["make", "--silent", *arguments], cwd=stack.ROOT, env=environment, capture_output=True, text=True)

    @property
    def deployed(self) -> list[list[str]]:
        """The arguments of each `sam deploy`, and at their end its region."""
        lines = self._said.read_text().splitlines() if self._said.exists() else []
        return [arguments for arguments in map(json.loads, lines) if arguments[0] == "deploy"]


def overrides(arguments: list[str]) -> list[str]:
    return arguments[arguments.index("--parameter-overrides") + 1 : -1]


def after(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_a_first_deployment_passes_what_was_given(release, tmp_path):
    sam = Sam(tmp_path, "none")
    done = sam.make(
        "deploy", f"PACKAGE={release}", "STAGE=prod", "GENESYS_API=https://api.mypurecloud.de", "PARAMETERS=NotifyEmail=oncall@example.com Flows=a,b"
    )
    assert done.returncode == 0, done.stderr
    (arguments,) = sam.deployed
    assert after(arguments, "--template-file") == str(release / "template.yaml")
    assert after(arguments, "--stack-name") == "serin-prod"
    assert after(arguments, "--on-failure") == "DELETE"
    assert overrides(arguments) == [
        'Stage="prod"',
        f'Architecture="{ARCHITECTURE}"',
        'GenesysApi="https://api.mypurecloud.de"',
        'NotifyEmail="oncall@example.com"',
        'Flows="a,b"',
    ]


def test_a_later_deployment_leaves_the_parameters_alone(release, tmp_path):
    sam = Sam(tmp_path, "there")
    assert sam.make("deploy", f"PACKAGE={release}", "STAGE=prod").returncode == 0
    (arguments,) = sam.deployed
    assert overrides(arguments) == ['Stage="prod"', f'Architecture="{ARCHITECTURE}"']


@pytest.mark.parametrize(
    ("answers", "given", "said"),
    [
        ("none", [], "first deployment has to know your Genesys Cloud region: make deploy STAGE=… GENESYS_API="),
        ("Error: ExpiredToken", [], "AWS could not be asked for the stack serin-prod:\nError: ExpiredToken"),
        ("there", ["PARAMETERS=NotifyMail=a@b.c"], "has no parameter 'NotifyMail': it has Clock, "),
        ("there", ["PARAMETERS=NotifyEmail"], "'NotifyEmail' is no parameter"),
        ("there", ["PARAMETERS=Architecture=riscv"], "it follows from STAGE, TARGET, GENESYS_API or the package"),
        ("there", ['PARAMETERS=NotifyEmail="a@b.c'], "is there a quote too few?"),
        ("there", ["STAGE=local"], "the stage `local` is the local stack's"),
        ("there", ["STAGE="], "which installation? Name it: STAGE=prod"),
    ],
)
def test_what_sam_would_not_notice_is_refused(answers, given, said, release, tmp_path):
    sam = Sam(tmp_path, answers)
    done = sam.make("deploy", f"PACKAGE={release}", "STAGE=prod", *given)
    assert done.returncode != 0
    assert said in done.stderr
    assert sam.deployed == []
    # The same, before half an hour of building; this one would fail at once.
    unpackaged = sam.make("deploy", "STAGE=prod", *given)
    assert unpackaged.returncode != 0
    assert said in unpackaged.stderr and "cargo was asked" not in unpackaged.stderr
    assert sam.deployed == []


def test_what_would_be_deployed_is_packaged_first(tmp_path):
    sam = Sam(tmp_path, "there")
    checks = [sys.executable, str(RELEASE / "deploy.py"), "serin", "--stage", "prod", "--check-only"]
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    assert subprocess.run(checks, env=environment).returncode == 0 and sam.deployed == []
    # What make would run then: it makes the release that it deploys.
    planned = sam.make("deploy", "STAGE=prod", "--dry-run").stdout
    steps = ("--check-only", "infra/release/package.py arm64", f'--package "target/release-packages/{checkout.name("arm64")}"')
    assert sorted(map(planned.index, steps)) == [planned.index(step) for step in steps]


@pytest.mark.parametrize("command", ["deploy", "alerts", "key"])
def test_nobody_deploys_without_saying_where(command, release, tmp_path):
    sam = Sam(tmp_path, "there")
    done = sam.make(command, f"PACKAGE={release}", "TARGET=oncall")
    assert done.returncode != 0 and "which installation? Name it: STAGE=prod" in done.stderr
    assert sam.deployed == []


def test_the_region_that_everything_else_reads_is_the_one(release, tmp_path):
    sam = Sam(tmp_path, "there")
    assert sam.make("deploy", f"PACKAGE={release}", "STAGE=prod", AWS_REGION="eu-central-1", AWS_DEFAULT_REGION="us-east-1").returncode == 0
    assert [arguments[-1] for arguments in sam.deployed] == ["eu-central-1"]


def test_the_shell_does_not_read_parameters(release, tmp_path):
    sam = Sam(tmp_path, "there")
    done = sam.make("deploy", f"PACKAGE={release}", "STAGE=prod", """PARAMETERS=NotifyEmail=a&b;c`d`@example.com Flows='a, b'""")
    assert done.returncode == 0, done.stderr
    assert overrides(sam.deployed[0])[2:] == ['NotifyEmail="a&b;c`d`@example.com"', 'Flows="a, b"']


def test_a_release_that_was_changed_is_not_deployed(release, tmp_path):
    sam, sums = Sam(tmp_path, "there"), (release / "SHA256SUMS").read_text()

    def deployed(name: str, content: str | bytes | None) -> str:
        copy = shutil.copytree(release, tmp_path / "copy")
        (copy / name).unlink(missing_ok=True)
        if content is not None:
            (copy / name).write_bytes(content.encode() if isinstance(content, str) else content)
        done = sam.make("deploy", f"PACKAGE={copy}", "STAGE=prod")
        shutil.rmtree(copy)
        assert done.returncode != 0
        return done.stderr

    again = ": get the release again, or make it with `make package`"
    assert f"random-percentage.zip is not what {tmp_path}/copy/SHA256SUMS says{again}" in deployed("random-percentage.zip", b"something else")
    assert f"copy lacks random-percentage.zip{again}" in deployed("random-percentage.zip", None)
    assert "SHA256SUMS does not list BUILD, LICENSE, alert-target.yaml, " in deployed("SHA256SUMS", "")
    without = "".join(line for line in sums.splitlines(keepends=True) if "template.yaml" not in line)
    assert "SHA256SUMS does not list template.yaml: take away what is not the release's, or get" in deployed("SHA256SUMS", without)
    assert f"copy lacks the end of its sums{again}" in deployed("SHA256SUMS", sums + sums[:20])
    assert "SHA256SUMS does not list samconfig.toml" in deployed("samconfig.toml", "version = 0.1\n")
    assert sam.make("deploy", f"PACKAGE={tmp_path}", "STAGE=prod").stderr.startswith(f"not deployed: {tmp_path} is no release")
    assert sam.deployed == []


def test_targets_of_alerts_and_the_key_are_stacks_of_their_own(tmp_path):
    sam = Sam(tmp_path, "none")
    assert "which target?" in sam.make("alerts", "STAGE=prod").stderr
    assert sam.make("alerts", "STAGE=prod", "TARGET=oncall").returncode == 0
    assert sam.make("key", "STAGE=prod").returncode == 0
    target, key = sam.deployed
    assert (after(target, "--stack-name"), overrides(target)) == ("serin-prod-alert-oncall", ['Stage="prod"', 'Target="oncall"'])
    assert (after(key, "--stack-name"), overrides(key)) == ("serin-prod-key", ['Stage="prod"'])
    assert Path(after(key, "--template-file")).name == "key.yaml"
    assert "key.yaml has no parameter 'Colour': it has none that is given by name" in sam.make("key", "STAGE=prod", "PARAMETERS=Colour=red").stderr
