"""The bill of materials of one function: what is linked into its program, as CycloneDX 1.6 JSON.

Cargo says what that is (`cargo tree` for the one package, target and kind of dependency); its lock file has the checksums, its metadata
the licences. Left out is what only builds or tests: build scripts, procedural macros, development dependencies.
"""

import functools
import json
import re
import subprocess
import tomllib
import uuid
from datetime import datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

NAMESPACE = uuid.UUID("9f0f9b0e-5a7b-5d0e-8a44-6d0b6f1c7b52")  # any, and never another: serial numbers are made with it


@functools.cache
def metadata(root: Path, *arguments: str) -> dict:
    """`cargo metadata`, of the lock file as it is; asked once."""
    return json.loads(_cargo(root, "metadata", "--format-version", "1", *arguments))


@functools.cache
def linked(root: Path, function: str, target: str) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """What is linked into a function, and which needs which: `{(name, version): {(name, version), …}}`, the function first."""
    edges = ["-e", "normal,no-proc-macro"]
    tree = _cargo(root, "tree", "-p", function, "--target", target, *edges, "--prefix", "depth", "--format", " {p}")
    needs, above = {}, []
    for line in tree.splitlines():
        found = re.match(r"(\d+) (\S+) v(\S+)", line)
        depth, crate = int(found[1]), (found[2], found[3])
        needs.setdefault(crate, set())
        del above[depth:]
        if above:
            needs[above[-1]].add(crate)
        above.append(crate)
    return needs


def named(program: bytes) -> set[tuple[str, str]]:
    """The crates that a program names: a panic says which file it came from, and so which crate. They are fewer than are linked."""
    found = re.findall(rb"(?:/registry/src/[^/\0]+|/crates)/([A-Za-z0-9_-]+?)-(\d+\.\d+\.\d+[^/\0]*)/src/", program)
    return {(name.decode(), version.decode()) for name, version in found}


def bill(root: Path, function: str, target: str, program_sha256: str, made: datetime, compiler: str, notes: dict[str, str]) -> str:
    """The document. `compiler` is the version of rustc, `notes` how the program was built; the same arguments give the same bytes."""
    packages = {(package["name"], package["version"]): package for package in metadata(root)["packages"]}
    lock = tomllib.loads((root / "Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock}
    needs = linked(root, function, target)

    components = {crate: _component(packages[crate], checksums[crate]) for crate in needs}
    main, standard_library = components[next(iter(needs))], _standard_library(compiler)
    main.type = ComponentType.APPLICATION
    main.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=program_sha256))  # of the program in the zip
    bom = Bom(
        # A name for exactly this bill: the same one when it is made again, another as soon as anything in it differs.
        serial_number=uuid.uuid5(NAMESPACE, json.dumps([function, target, program_sha256, made.isoformat(), compiler, sorted(notes.items())])),
        metadata=BomMetaData(
            component=main,
            timestamp=made,
            lifecycles=[PredefinedLifecycle(LifecyclePhase.BUILD)],
            properties=[Property(name=f"serin:{name}", value=value) for name, value in notes.items()],
        ),
        components=[component for component in components.values() if component is not main] + [standard_library],
    )
    for crate, component in components.items():
        bom.register_dependency(component, [components[needed] for needed in needs[crate]] + [standard_library])
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n"
    if invalid := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"the bill of materials of {function} is no CycloneDX 1.6: {invalid}")
    return text


def _component(package: dict, checksum: str | None) -> Component:
    name, version = package["name"], package["version"]
    # Our own crates are not on the registry: a name for them there would be somebody else's.
    purl = PackageURL("cargo", name=name, version=version) if package["source"] else None
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl) if purl else f"{name}@{version}",
        description=" ".join((package.get("description") or "").split()) or None,
        licenses=[LicenseExpression(expression(package))] if package.get("license") else None,
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else None,
    )


def _standard_library(compiler: str) -> Component:
    """Rust's own, which is linked into every program and in no lock file."""
    return Component(
        name="rust-std",
        version=compiler,
        type=ComponentType.LIBRARY,
        bom_ref=f"rust-std@{compiler}",
        description="The standard library of Rust, as the compiler of this version brings it",
        licenses=[LicenseExpression("MIT OR Apache-2.0")],
        purl=PackageURL("github", namespace="rust-lang", name="rust", version=compiler),
    )


def expression(package: dict) -> str:
    """A package's licence as an SPDX expression; older crates write `MIT/Apache-2.0` for a choice."""
    return " OR ".join(part.strip() for part in (package.get("license") or "NONE").split("/"))


def _cargo(root: Path, *arguments: str) -> str:
    done = subprocess.run(["cargo", *arguments, "--locked"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"cargo {arguments[0]} failed:\n{done.stderr.strip()}")
    return done.stdout
