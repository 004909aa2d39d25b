"""Writes the contract: the vendor's operations that Serin uses, and the schemas they need, as one compact file of our own.

    python3 tests/local/contract/generate.py path/to/publicapi-excerpt.json            write it
    python3 tests/local/contract/generate.py --check path/to/publicapi-excerpt.json    fail if it is not up to date

The source is an OpenAPI document and stays outside; what is kept is what a request or an answer can be held against: types, properties,
required ones, enumerations, and the permissions. To use another operation, add it below, write, and commit both.
"""

import json
import sys
from pathlib import Path

CONTRACT = Path(__file__).resolve().parents[3] / "crates" / "simulator" / "contract" / "genesys.json"

OPERATIONS = """
POST    /api/v2/analytics/conversations/details/query
POST    /api/v2/analytics/conversations/details/jobs
GET     /api/v2/analytics/conversations/details/jobs/availability
GET     /api/v2/analytics/conversations/details/jobs/{jobId}
DELETE  /api/v2/analytics/conversations/details/jobs/{jobId}
GET     /api/v2/analytics/conversations/details/jobs/{jobId}/results
POST    /api/v2/analytics/flows/aggregates/query
GET     /api/v2/architect/dependencytracking/build
POST    /api/v2/architect/dependencytracking/build
GET     /api/v2/architect/dependencytracking/consumedresources
GET     /api/v2/architect/emergencygroups/{emergencyGroupId}
PUT     /api/v2/architect/emergencygroups/{emergencyGroupId}
GET     /api/v2/architect/ivrs
GET     /api/v2/architect/ivrs/{ivrId}
PUT     /api/v2/architect/ivrs/{ivrId}
POST    /api/v2/audits/query/realtime
GET     /api/v2/flows
POST    /api/v2/flows/actions/publish
GET     /api/v2/flows/datatables
GET     /api/v2/flows/datatables/{datatableId}
GET     /api/v2/flows/datatables/{datatableId}/rows
POST    /api/v2/flows/datatables/{datatableId}/rows
GET     /api/v2/flows/datatables/{datatableId}/rows/{rowId}
PUT     /api/v2/flows/datatables/{datatableId}/rows/{rowId}
DELETE  /api/v2/flows/datatables/{datatableId}/rows/{rowId}
POST    /api/v2/flows/export/jobs
GET     /api/v2/flows/export/jobs/{jobId}
POST    /api/v2/flows/jobs
GET     /api/v2/flows/jobs/{jobId}
GET     /api/v2/flows/outcomes
POST    /api/v2/flows/validate/jobs
GET     /api/v2/flows/validate/jobs/{jobId}
GET     /api/v2/flows/{flowId}
GET     /api/v2/flows/{flowId}/versions
GET     /api/v2/flows/{flowId}/versions/{versionId}
GET     /api/v2/flows/{flowId}/versions/{versionId}/configuration
GET     /api/v2/integrations/actions/{actionId}
POST    /api/v2/integrations/actions/{actionId}/test
GET     /api/v2/organizations/limits/namespaces/{namespaceName}
GET     /api/v2/organizations/me
POST    /oauth/token
"""
# What every refusal looks like.
ALWAYS = ["ErrorBody"]
# Inside of others they come abbreviated to id and name, whatever their schema requires.
ABBREVIATED = ("User",)


def contract(source: dict) -> dict:
    wanted = [tuple(line.split()) for line in OPERATIONS.split("\n") if line]
    operations = {f"{method} {path}": operation(source["paths"][path][method.lower()]) for method, path in wanted}
    schemas, open_ends = {}, ALWAYS + sorted(references(list(operations.values())))
    while open_ends:
        name = open_ends.pop()
        if name not in schemas:
            schemas[name] = compact(source["components"]["schemas"][name])
            if name in ABBREVIATED:
                schemas[name].pop("required", None)
            open_ends += references(schemas[name])
    version = source["info"]["version"]
    return {"source": version, "operations": dict(sorted(operations.items())), "schemas": dict(sorted(schemas.items()))}


def operation(vendors: dict) -> dict:
    kept = {}
    if permissions := vendors.get("x-inin-requires-permissions"):
        kept["permissions"] = permissions["permissions"]
        if permissions["type"] == "ALL" and len(permissions["permissions"]) > 1:
            kept["allPermissions"] = True
    query = [parameter for parameter in vendors.get("parameters", []) if parameter["in"] == "query"]
    # Read like a body, so that one validator serves both.
    kept["query"] = {"type": "object", "properties": {q["name"]: compact(q["schema"]) for q in query}}
    if required := [q["name"] for q in query if q.get("required")]:
        kept["query"]["required"] = required
    if body := vendors.get("requestBody"):
        ((media_type, content),) = body["content"].items()
        kept["form" if media_type == "application/x-www-form-urlencoded" else "body"] = compact(content["schema"])
        kept["bodyRequired"] = body.get("required", False)
    success = next(vendors["responses"][status] for status in ("2XX", "200") if status in vendors["responses"])
    if content := success.get("content"):
        kept["response"] = compact(content["application/json"]["schema"])
    return kept


def compact(schema: dict) -> dict:
    """What validation needs. Objects with properties and without `additionalProperties` have these properties and no others."""
    if "allOf" in schema:
        (only,) = schema["allOf"]
        return compact(only)
    if "$ref" in schema:
        return {"$ref": schema["$ref"].rsplit("/", 1)[1]}
    kept = {key: schema[key] for key in ("type", "enum", "format", "required") if key in schema}
    if "properties" in schema:
        kept["properties"] = {name: value(inner) for name, inner in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = value(schema["items"])
    if "additionalProperties" in schema:
        kept["additionalProperties"] = value(schema["additionalProperties"])
    return kept


def value(schema: dict) -> dict:
    """A schema inside of another. The SDKs write `object` for a value they know nothing of; `{}` is anything."""
    kept = compact(schema)
    return {} if kept == {"type": "object"} else kept


def references(part) -> set:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(references, part.values()))
    return set().union(*map(references, part)) if isinstance(part, list) else set()


def written(document: dict) -> str:
    """One operation or schema per line: a change shows as the lines that it is."""
    parts = ['{"source":' + json.dumps(document["source"])]
    for part in ("operations", "schemas"):
        entries = (f"{json.dumps(key)}:{json.dumps(entry, separators=(',', ':'))}" for key, entry in document[part].items())
        parts.append(f"{json.dumps(part)}:{{\n" + ",\n".join(entries) + "\n}")
    return ",\n".join(parts) + "}\n"


def main(arguments: list) -> int:
    check = "--check" in arguments
    paths = [argument for argument in arguments if argument != "--check"]
    if len(paths) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    text = written(contract(json.loads(Path(paths[0]).read_text())))
    if check:
        current = CONTRACT.exists() and CONTRACT.read_text() == text
        print("the contract is up to date" if current else f"{CONTRACT.name} is not what {paths[0]} gives: write it again and commit it")
        return 0 if current else 1
    CONTRACT.parent.mkdir(exist_ok=True)
    CONTRACT.write_text(text)
    print(f"{CONTRACT}: {text.count(chr(10))} lines, {len(text) // 1024} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
