"""deny.toml, checked without cargo-deny: licences, banned crates and sources, from what cargo knows of the lock file.

    python infra/release/licences.py

It reads the same policy, in a second and without building a tool. `make audit` runs cargo-deny itself, which looks deeper: at the texts of
licences and at copies of a crate; with CHECK=advisories at known vulnerabilities.
"""

import sys
import tomllib
from pathlib import Path

from license_expression import LicenseSymbol, LicenseWithExceptionSymbol, Licensing

from sbom import expression, metadata

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
_EXPRESSIONS = Licensing()


def policy(root: Path = ROOT) -> dict:
    return tomllib.loads((root / "deny.toml").read_text())


def packages(root: Path, rules: dict) -> list[dict]:
    """Every package that is built for one of the policy's targets, build scripts and tests included."""
    platforms = [argument for target in rules["graph"]["targets"] for argument in ("--filter-platform", target)]
    known = metadata(root, "--all-features", *platforms)
    used = {node["id"] for node in known["resolve"]["nodes"]}
    return [package for package in known["packages"] if package["id"] in used]


def refused(found: list[dict], rules: dict) -> list[str]:
    """What the policy does not allow, a sentence each."""
    allowed = set(rules["licenses"]["allow"])
    banned = {ban["crate"].partition(":")[0]: ban for ban in rules["bans"]["deny"]}
    complaints = []
    for package in found:
        name = f"{package['name']} {package['version']}"
        if not _may_be_used(_EXPRESSIONS.parse(expression(package)), allowed):
            complaints.append(f"{name}: the licence {package.get('license') or 'that is not stated'} is not among those of deny.toml")
        if (ban := banned.get(package["name"])) and _within(package["version"], ban["crate"].partition(":")[2]):
            complaints.append(f"{name} is banned: {ban['reason']}")
        if package["source"] not in (None, REGISTRY):
            complaints.append(f"{name} comes from {package['source']}, not from crates.io")
    return sorted(complaints)


def _may_be_used(node, allowed: set[str]) -> bool:
    if isinstance(node, (LicenseSymbol, LicenseWithExceptionSymbol)):
        return str(node) in allowed
    return (any if node.operator.strip() == "OR" else all)(_may_be_used(part, allowed) for part in node.args)


def _within(version: str, bound: str) -> bool:
    """Is the version below the bound, e.g. `<1.0`? No bound: every version is."""
    if not bound:
        return True
    assert bound.startswith("<"), f"deny.toml bans {bound!r}: only `crate` and `crate:<version` are understood here"
    limit = [int(part) for part in bound[1:].split(".")]
    return [int(part) for part in version.split("-")[0].split("+")[0].split(".")][: len(limit)] < limit


if __name__ == "__main__":
    rules = policy()
    found = packages(ROOT, rules)
    complaints = refused(found, rules)
    print("\n".join(complaints) or f"{len(found)} packages keep to deny.toml", file=sys.stderr if complaints else sys.stdout)
    sys.exit(1 if complaints else 0)
