"""The Architect files under `infra/genesys/`, read as graphs: whatever happens to a call, it reaches a flow, and everything but the
canary's own answer reaches the stable one. No organization is asked: that Genesys Cloud accepts the files is left to whoever applies them.

Outputs that a YAML leaves out or leaves empty go on to the next action, as in Architect; an action or output that is not known here is
refused, so that nothing is walked past.
"""

import copy
import itertools
import json
import re
from dataclasses import dataclass

import jsonschema
import pytest
import stack
import yaml
from bootstrap import ROOT

FILES = ROOT / "infra" / "genesys"
TERRAFORM = (FILES / "main.tf").read_text()
ACTION = json.loads((FILES / "random-percentage.data-action.json").read_text())
QUESTION = ACTION["contract"]["input"]["inputSchema"]
ANSWER = ACTION["contract"]["output"]["successSchema"]

SOURCES = {"callData": ("success", "failure", "timeout"), "dataTableLookup": ("found", "notFound", "failure")}
ANSWERED = {"success", "found"}
GOES_ON = {"setParticipantData", "playAudio", "initializeFlowOutcome", "setFlowOutcome"}


@dataclass(frozen=True)
class Entry:
    """What one YAML promises: whom it asks, what it decides on, and where the two cohorts go. A step is `(what, which)`."""

    file: str
    source: tuple
    decides: str
    variable: tuple  # which output of the source the decision looks at, and where it is kept
    stable: tuple
    canary: tuple
    flows: frozenset  # every flow it may transfer to
    last: str  # only after a transfer to this flow failed may a call end here

    def parsed(self) -> dict:
        return yaml.safe_load((FILES / self.file).read_text())


COP = Entry(
    "traffic-cop.yaml",
    source=("callData", "Serin/Random Percentage"),
    decides='Task.CanaryVersion == "{{canary_label}}"',
    variable=("canaryVersion", "Task.CanaryVersion"),
    stable=("transfer", "{{stable_flow}}"),
    canary=("transfer", "{{canary_flow}}"),
    flows=frozenset({"{{stable_flow}}", "{{canary_flow}}"}),
    last="{{stable_flow}}",
)
POINTER = Entry(
    "traffic-cop-pointer.yaml",
    source=("dataTableLookup", "Deployment_Control"),
    decides="Task.TrafficWeight == 100",
    variable=("Traffic_Weight", "Task.TrafficWeight"),
    stable=COP.stable,
    canary=COP.canary,
    flows=COP.flows,
    last=COP.last,
)
# Both branches are tasks of the one flow here, and go on to the same next flow.
GATE = Entry(
    "in-flow-gate.yaml",
    source=COP.source,
    decides=COP.decides,
    variable=COP.variable,
    stable=("task", "stable"),
    canary=("task", "canary"),
    flows=frozenset({"{{next_flow}}"}),
    last="{{next_flow}}",
)
ENTRIES = (COP, POINTER, GATE)
names = {"ids": lambda value: value.file if isinstance(value, Entry) else None}


class Unknown(Exception):
    """Something this test cannot walk."""


# The graph of one flow.


def tasks_of(document: dict) -> dict:
    return {item["task"]["refId"]: tuple(item["task"]["actions"]) for item in document["inboundCall"]["tasks"]}


def task_named(reference: str) -> str:
    found = re.fullmatch(r"/inboundCall/tasks/task\[(\w+)\]", reference)
    if not found:
        raise Unknown(f"{reference} is no reference to a task")
    return found[1]


def one(mapping: dict) -> tuple:
    ((key, value),) = mapping.items()
    return key, value


def source_of(kind: str, body: dict) -> tuple:
    """Who is asked, and which output of it is kept in which variable."""
    if kind == "callData":
        category, within = one(body["category"])
        action, call = one(within["dataAction"])
        return f"{category}/{action}", call["successOutputs"]
    table, call = one(body["dataTable"])
    return table, call["foundOutputs"]


def paths(tasks: dict, actions: tuple, been: frozenset = frozenset()):
    """Every way through `actions`, each a list of steps. `been` are the tasks entered on the way here."""
    if not actions:
        yield [("nowhere", "the end of a task")]
        return
    (kind, body), rest = one(actions[0]), actions[1:]

    def after(steps: list, branch: tuple):
        for way in paths(tasks, branch + rest, been):
            yield [*steps, *way]

    def outputs(known: tuple) -> dict:
        given = body.get("outputs", {})
        if set(given) - set(known):
            raise Unknown(f"{kind} has no outputs {sorted(set(given) - set(known))}")
        return {output: tuple(given.get(output, {}).get("actions", ())) for output in known}

    match kind:
        case "callData" | "dataTableLookup":
            for output, branch in outputs(SOURCES[kind]).items():
                yield from after([("source", (kind, source_of(kind, body)[0])), ("output", output)], branch)
        case "decision":
            for answer, branch in outputs(("yes", "no")).items():
                yield from after([("decision", (body["condition"]["exp"], answer))], branch)
        case "switch":
            of = body["evaluate"]["firstTrue"]
            before = []  # a case is reached when those before it said no
            for case in of["cases"]:
                condition = case["case"]["value"]["exp"]
                yield from after([*before, ("decision", (condition, "yes"))], tuple(case["case"]["actions"]))
                before.append(("decision", (condition, "no")))
            yield from after(before, tuple(of.get("default", {}).get("actions", ())))
        case "transferToFlow":
            target = body["targetFlow"]
            fixed = set(target) == {"name"} and isinstance(target["name"], str)
            step = ("transfer", target["name"]) if fixed else ("dynamic", json.dumps(target))
            yield [step, ("arrived", "")]
            yield from after([step, ("refused", "")], outputs(("failure",))["failure"])
        case "jumpToTask":
            if rest:
                raise Unknown(f"actions behind {body['name']} are never reached")
            name = task_named(body["targetTaskRef"])
            yield from entered(tasks, name, been)
        case "disconnect":
            if rest:
                raise Unknown("actions behind a disconnect are never reached")
            yield [("disconnect", "")]
        case _ if kind in GOES_ON and "outputs" not in body:
            yield from after([(kind, said(kind, body))], ())
        case _:
            raise Unknown(f"{kind} is not known here")


def entered(tasks: dict, name: str, been: frozenset = frozenset()):
    if name in been:
        yield [("nowhere", f"task {name} again and again")]
        return
    for way in paths(tasks, tasks[name], been | {name}):
        yield [("task", name), *way]


def said(kind: str, body: dict):
    """What an action leaves behind that others read: attributes, and the outcome it touches."""
    if kind == "setParticipantData":
        return tuple((a["attribute"]["name"]["lit"], tuple(a["attribute"]["value"].values())[0]) for a in body["attributes"])
    return body["flowOutcome"]["name"] if kind.endswith("FlowOutcome") else ""


def calls(document: dict) -> list:
    """Every way a call may take."""
    return list(entered(tasks_of(document), task_named(document["inboundCall"]["startUpRef"])))


def after_an_error(document: dict) -> list:
    """Every way a call may take once the flow itself failed."""
    handling, target = one(document["inboundCall"]["settingsErrorHandling"]["errorHandling"])
    if handling != "task":
        return [[(handling, "")]]
    return list(entered(tasks_of(document), task_named(target["targetTaskRef"])))


def actions_within(node):
    """Every `(kind, body)` below a node, reachable or not."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in SOURCES or key in ("transferToFlow", "decision", "setParticipantData"):
                yield key, value
            yield from actions_within(value)
    elif isinstance(node, list):
        for value in node:
            yield from actions_within(value)


# What must hold.


def complaints(entry: Entry, document: dict) -> list:
    """What is wrong with a flow, in words. Empty: nothing."""
    found = []
    asked = [(kind, source_of(kind, body)) for kind, body in actions_within(document) if kind in SOURCES]
    if [(kind, name) for kind, (name, _) in asked] != [entry.source]:
        found.append(f"asks {[name for _, (name, _) in asked]}, which is not its one source")
    output, variable = entry.variable
    if not any(kept.get(output) == {"var": variable} for _, (_, kept) in asked):
        found.append(f"does not keep {output} in {variable}")
    for steps in calls(document):
        found += [f"{problem}: {told(steps)}" for problem in problems(entry, steps)]
    for steps in after_an_error(document):
        if slots(entry, steps) != [entry.stable] or ends_badly(entry, steps):
            found.append(f"an error of the flow does not reach stable: {told(steps)}")
    return found


def problems(entry: Entry, steps: list):
    kinds = [kind for kind, _ in steps]
    outputs = [which for kind, which in steps if kind == "output"]
    decisions = [which for kind, which in steps if kind == "decision"]
    if kinds.count("source") != 1:
        yield "asks not exactly once"
    if ends_badly(entry, steps):
        yield "ends without a flow"
    for kind, which in steps:
        if kind == "dynamic" or (kind == "transfer" and which not in entry.flows):
            yield f"transfers to {which}"
    if any(expression != entry.decides for expression, _ in decisions):
        yield "decides on something else"
    canary = set(outputs) <= ANSWERED and decisions == [(entry.decides, "yes")]
    # A transfer to the canary that fails goes on to stable.
    refused = (entry.canary, ("refused", "")) in itertools.pairwise(steps)
    if slots(entry, steps) != [entry.canary] * canary + [entry.stable] * (refused or not canary):
        yield f"after {', '.join(outputs + [answer for _, answer in decisions])} goes to {slots(entry, steps)}"


def slots(entry: Entry, steps: list) -> list:
    return [step for step in steps if step in (entry.stable, entry.canary)]


def ends_badly(entry: Entry, steps: list) -> bool:
    if steps[-1] == ("arrived", ""):
        return False
    transfers = [which for kind, which in steps if kind in ("transfer", "dynamic")]
    return not (steps[-1] == ("disconnect", "") and ("refused", "") in steps and transfers[-1] == entry.last)


def told(steps: list) -> str:
    return " > ".join(f"{kind} {which}".strip() for kind, which in steps)


@pytest.mark.parametrize("entry", ENTRIES, **names)
def test_whatever_happens_a_call_reaches_a_flow_and_all_but_the_canarys_own_answer_reach_stable(entry):
    assert complaints(entry, entry.parsed()) == []


@pytest.mark.parametrize(("entry", "ways"), [(COP, 9), (POINTER, 9), (GATE, 8)], **names)
def test_every_output_is_walked(entry, ways):
    """The walk is only as good as what it visits: each output of the source, both answers, each transfer arrived and refused."""
    walked = calls(entry.parsed())
    assert {which for way in walked for kind, which in way if kind == "output"} == set(SOURCES[entry.source[0]])
    assert {which[1] for way in walked for kind, which in way if kind == "decision"} == {"yes", "no"}
    assert {("arrived", ""), ("refused", ""), entry.stable, entry.canary} <= {step for way in walked for step in way}
    assert len(walked) == ways
    assert {item["task"]["refId"] for item in entry.parsed()["inboundCall"]["tasks"]} == {w for way in walked for k, w in way if k == "task"}


def test_the_cop_says_which_version_and_rollout_a_caller_got():
    for way in calls(COP.parsed()):
        attributes = [pair for kind, which in way if kind == "setParticipantData" for pair in which]
        answered = ("output", "success") in way
        assert attributes == ([("canaryVersion", "Task.CanaryVersion"), ("serinRollout", "Task.Rollout")] if answered else [])


def test_each_branch_of_the_gate_is_told_by_its_own_outcome_and_label():
    for way in calls(GATE.parsed()) + after_an_error(GATE.parsed()):
        branch = "canary" if GATE.canary in way else "stable"
        touched = [(kind, which) for kind, which in way if kind.endswith("FlowOutcome")]
        assert touched == [(kind, f"{{{{{branch}_outcome}}}}") for kind in ("initializeFlowOutcome", "setFlowOutcome")]
        labels = [value for kind, which in way if kind == "setParticipantData" for name, value in which if name == "canaryVersion"]
        assert labels == [f"{{{{{branch}_label}}}}"]


# The walk bites: each of these is a mistake somebody could make.


def at(document: dict, kind: str, task: str = "ask") -> dict:
    """The first action of a kind in a task."""
    (actions,) = [item["task"]["actions"] for item in document["inboundCall"]["tasks"] if item["task"]["refId"] == task]

    def within(node):
        if isinstance(node, dict):
            if kind in node:
                yield node[kind]
            node = list(node.values())
        if isinstance(node, list):
            for value in node:
                yield from within(value)

    return next(within(actions))


def jump(task: str) -> list:
    return [{"jumpToTask": {"name": "Somewhere else", "targetTaskRef": f"/inboundCall/tasks/task[{task}]"}}]


TO_CANARY = [{"transferToFlow": {"name": "To canary", "targetFlow": {"name": "{{canary_flow}}"}}}]
LOOKUP = {"lookupValue": {"lit": "x"}, "dataTable": {"Deployment_Control": {"foundOutputs": {}}}, "outputs": {"found": {"actions": TO_CANARY}}}


def output_to(kind, output, actions):
    return lambda document: at(document, kind)["outputs"][output].update(actions=actions)


def output_missing(kind, output, task="ask"):
    return lambda document: at(document, kind, task)["outputs"].pop(output)


def swap_the_decision(document):
    outputs = at(document, "decision")["outputs"]
    outputs["yes"], outputs["no"] = outputs["no"], outputs["yes"]


def decide_on(expression):
    return lambda document: at(document, "decision")["condition"].update(exp=expression)


def second_source(document):
    outputs = at(document, "callData")["outputs"]
    outputs["failure"]["actions"] = [{"dataTableLookup": LOOKUP}, *outputs["failure"]["actions"]]


def ask_twice(document):
    ask = at(document, "callData")
    ask["outputs"]["timeout"]["actions"] = [{"callData": copy.deepcopy(ask)}]


def refused_by_canary(actions):
    return lambda document: at(document, "transferToFlow")["outputs"]["failure"].update(actions=actions)


def target_of(task, target):
    return lambda document: at(document, "transferToFlow", task).update(targetFlow=target)


def stable_refused(actions):
    return lambda document: at(document, "transferToFlow", "stable")["outputs"]["failure"].update(actions=actions)


def errors_go(handling):
    return lambda document: document["inboundCall"]["settingsErrorHandling"].update(errorHandling=handling)


def keep_something_else(document):
    _, category = one(at(document, "callData")["category"])
    _, call = one(category["dataAction"])
    call["successOutputs"].update(cohort={"var": "Task.CanaryVersion"}, canaryVersion={"noValue": True})


def keep_another_column(document):
    _, call = one(at(document, "dataTableLookup")["dataTable"])
    call["foundOutputs"].update(revision={"var": "Task.TrafficWeight"}, Traffic_Weight={"noValue": True})


HANG_UP = [{"disconnect": {"name": "Bye"}}]
MISTAKES = {
    "the cop's time-out leads nowhere": (COP, output_to("callData", "timeout", []), "ends without a flow"),
    "the cop's failure output is left out": (COP, output_missing("callData", "failure"), "ends without a flow"),
    "the cop's failure leads to canary": (COP, output_to("callData", "failure", TO_CANARY), "after failure goes to"),
    "the cop's time-out leads to canary": (COP, output_to("callData", "timeout", TO_CANARY), "after timeout goes to"),
    "the cop's failure hangs up": (COP, output_to("callData", "failure", HANG_UP), "ends without a flow"),
    "the cop's failure asks the pointer": (COP, second_source, "which is not its one source"),
    "the cop asks again after a time-out": (COP, ask_twice, "asks not exactly once"),
    "the cop's decision is swapped": (COP, swap_the_decision, "after success, no goes to"),
    "the cop's decision is turned round": (COP, decide_on('Task.CanaryVersion != "{{canary_label}}"'), "decides on something else"),
    "the cop decides on stable's label": (COP, decide_on('Task.CanaryVersion == "{{stable_label}}"'), "decides on something else"),
    "the cop's no is left out": (COP, output_missing("decision", "no"), "ends without a flow"),
    "the cop keeps the cohort for the label": (COP, keep_something_else, "does not keep canaryVersion"),
    "canary refuses and the call ends": (COP, refused_by_canary(HANG_UP), "ends without a flow"),
    "canary refuses and is tried again": (COP, refused_by_canary(TO_CANARY), "ends without a flow"),
    "the target is a value": (COP, target_of("ask", {"exp": "Task.Flow"}), "transfers to"),
    "stable is another flow": (COP, target_of("stable", {"name": "Main_IVR_Old"}), "transfers to Main_IVR_Old"),
    "stable refuses and nothing follows": (COP, stable_refused([]), "ends without a flow"),
    "stable refuses and canary is tried": (COP, stable_refused(TO_CANARY), "after failure goes to"),
    "stable refuses and the cop starts again": (COP, stable_refused(jump("ask")), "again and again"),
    "an error hangs up": (COP, errors_go({"disconnect": {"none": True}}), "an error of the flow"),
    "an error asks again": (COP, errors_go({"task": {"targetTaskRef": "/inboundCall/tasks/task[ask]"}}), "an error of the flow"),
    "no row leads to canary": (POINTER, output_to("dataTableLookup", "notFound", TO_CANARY), "after notFound goes to"),
    "no row leads nowhere": (POINTER, output_missing("dataTableLookup", "notFound"), "ends without a flow"),
    "the lookup's failure leads to canary": (POINTER, output_to("dataTableLookup", "failure", TO_CANARY), "after failure goes to"),
    "the pointer's decision is swapped": (POINTER, swap_the_decision, "after found, no goes to"),
    "the pointer decides by halves": (POINTER, decide_on("Task.TrafficWeight >= 50"), "decides on something else"),
    "the pointer reads another column": (POINTER, keep_another_column, "does not keep Traffic_Weight"),
    "the gate's time-out takes the new branch": (GATE, output_to("callData", "timeout", jump("canary")), "after timeout goes to"),
    "the gate's decision is swapped": (GATE, swap_the_decision, "after success, no goes to"),
    "the gate's error takes the new branch": (GATE, errors_go({"task": {"targetTaskRef": "/inboundCall/tasks/task[canary]"}}), "an error of"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_walk_finds(mistake):
    entry, make, expected = MISTAKES[mistake]
    document = entry.parsed()
    make(document)
    assert expected in "\n".join(complaints(entry, document))


@pytest.mark.parametrize(
    "make",
    [
        lambda document: at(document, "callData")["outputs"].update(default={"actions": TO_CANARY}),
        lambda document: document["inboundCall"]["tasks"][0]["task"]["actions"].insert(0, {"callTask": {"targetTaskRef": "x"}}),
        lambda document: document["inboundCall"]["tasks"][1]["task"]["actions"].insert(0, {"disconnect": {}}),
    ],
    ids=["an output", "an action", "actions nobody reaches"],
)
def test_the_walk_refuses_what_it_does_not_know(make):
    document = COP.parsed()
    make(document)
    with pytest.raises(Unknown):
        complaints(COP, document)


@pytest.mark.parametrize(("default", "right"), [(jump("stable"), True), (TO_CANARY, False), ([], False)], ids=["stable", "canary", "nothing"])
def test_a_switch_is_walked_like_a_decision(default, right):
    document = COP.parsed()
    success = at(document, "callData")["outputs"]["success"]
    to_canary = at(document, "decision")["outputs"]["yes"]["actions"]
    case = {"case": {"value": {"exp": COP.decides}, "actions": to_canary}}
    success["actions"][-1] = {"switch": {"name": "Canary?", "evaluate": {"firstTrue": {"default": {"actions": default}, "cases": [case]}}}}
    assert (complaints(COP, document) == []) is right


# The data action: one definition, and everybody who names a part of it.

DRAWN = {"randomPct": 37, "percentage": 5.0, "cohort": "stable", "canaryVersion": "v1", "rollout": "r-20261121-1", "revision": 12, "fallback": False}
NOT_KNOWN = {"randomPct": 100, "percentage": 0.0, "cohort": "stable", "canaryVersion": "", "rollout": "", "revision": 0, "fallback": True}
ANSWERS = {
    "stable": DRAWN,
    "canary": DRAWN | {"randomPct": 4, "percentage": 12.5, "cohort": "canary", "canaryVersion": "v2"},
    "an unknown flow": NOT_KNOWN,
    "not understood": NOT_KNOWN | {"error": "missing field `flow`; an object such as {…} is accepted"},
}


def fields() -> list:
    """The keys of the JSON that random-percentage answers with, from its source."""
    source = (ROOT / "crates" / "random-percentage" / "src" / "endpoint.rs").read_text()
    attributes, body = re.search(r"((?:^#\[.*\n)+)pub struct Answer \{(.*?)^\}", source, re.DOTALL | re.MULTILINE).groups()
    assert 'rename_all = "camelCase"' in attributes
    return [re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in re.findall(r"^    pub (\w+):", body, re.MULTILINE)]


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_fits_the_contract_and_no_field_is_left_out_of_it(name):
    jsonschema.Draft7Validator.check_schema(ANSWER)
    jsonschema.validate(ANSWERS[name], ANSWER | {"additionalProperties": False})


def test_the_contract_is_what_random_percentage_answers():
    assert fields() == [*DRAWN, "error"] == list(ANSWERS["not understood"]) == list(ANSWER["properties"])
    assert list(DRAWN) == ANSWER["required"]


@pytest.mark.parametrize("field", DRAWN)
def test_an_answer_without_a_field_or_with_another_type_takes_the_failure_path(field):
    for broken in ({k: v for k, v in DRAWN.items() if k != field}, DRAWN | {field: None}, DRAWN | {field: [1]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, ANSWER)


@pytest.mark.parametrize("sample", sorted(path.stem for path in stack.EVENTS.glob("random-percentage*.json")))
def test_a_sample_event_is_a_question_of_the_contract(sample):
    event = stack.event(sample)
    question = json.loads(event["body"]) if "body" in event else event
    if sample.endswith("not-an-event"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(question, QUESTION)
    else:
        jsonschema.validate(question, QUESTION)


def test_the_data_action_passes_question_and_answer_as_they_are_and_waits_two_seconds():
    assert ACTION["config"]["timeoutSeconds"] == 2
    assert ACTION["config"]["request"]["requestType"] == "POST"
    assert ACTION["config"]["request"]["requestTemplate"] == "${input.rawRequest}"
    assert ACTION["config"]["response"]["successTemplate"] == "${rawResult}"
    assert {"category", "name", "integrationId", "config", "contract"} <= set(ACTION), "POST /api/v2/integrations/actions requires them"
    assert "function data action" not in ACTION["category"].lower(), "the Terraform provider would take it for another kind of action"


@pytest.mark.parametrize("entry", [COP, GATE], **names)
def test_who_asks_names_the_action_its_inputs_and_its_outputs_as_the_definition_does(entry):
    ask = at(entry.parsed(), "callData")
    call = ask["category"][ACTION["category"]]["dataAction"][ACTION["name"]]
    assert set(call["inputs"]) == set(QUESTION["properties"])
    assert {name for name, value in call["inputs"].items() if "noValue" not in value} == set(QUESTION["required"])
    assert set(call["successOutputs"]) == set(ANSWER["properties"])
    assert call["inputs"]["conversationId"] == {"exp": "Call.ConversationID"}
    assert ask["timeout"] == {"lit": {"seconds": ACTION["config"]["timeoutSeconds"]}}


# Terraform.


def resource(kind: str) -> str:
    return re.search(rf'^resource "{kind}" .*?^}}', TERRAFORM, re.DOTALL | re.MULTILINE)[0]


def test_terraform_publishes_each_of_the_flows_and_fills_in_every_name():
    assert {path.name for path in FILES.glob("*.yaml")} == {entry.file for entry in ENTRIES}
    assert set(re.findall(r"[\w-]+\.yaml", TERRAFORM)) == {entry.file for entry in ENTRIES}
    filled = set(re.findall(r"^    (\w+) += ", resource("genesyscloud_flow"), re.MULTILINE))
    asked_for = {name for entry in ENTRIES for name in re.findall(r"\{\{(\w+)\}\}", (FILES / entry.file).read_text())}
    assert filled == asked_for


def test_terraform_reads_the_data_action_from_its_definition():
    assert 'file("${path.module}/random-percentage.data-action.json")' in TERRAFORM
    paths_read = set(re.findall(r"local\.action\.([\w.]+)", TERRAFORM))
    for path in paths_read:
        value = ACTION
        for key in path.split("."):
            value = value[key]
    assert {"name", "category", "config.timeoutSeconds", "contract.input.inputSchema", "contract.output.successSchema"} <= paths_read
    assert not re.search(rf'"{re.escape(ACTION["name"])}"', TERRAFORM), "the name is written once"


def test_the_table_has_the_columns_that_the_pointer_reads():
    columns = re.findall(r'^    name +=? *"(\w+)"', resource("genesyscloud_architect_datatable"), re.MULTILINE)
    table, call = one(at(POINTER.parsed(), "dataTableLookup")["dataTable"])
    assert f'name        = "{table}"' in resource("genesyscloud_architect_datatable")
    assert columns == ["key", *sorted(call["foundOutputs"], key=columns.index)]
    assert len(columns) == 5


def test_the_provider_is_pinned_and_no_persons_draft_is_published():
    assert re.search(r'source  = "mypurecloud/genesyscloud"\n +version = "\d+\.\d+\.\d+"', TERRAFORM)
    assert not re.search(r"^\s*force_unlock", TERRAFORM, re.MULTILINE)
    assert "datatable_row" not in TERRAFORM, "an apply would write rows back in the middle of a rollout"


def test_every_file_says_that_it_was_not_validated_here():
    unmarked = [path.name for path in FILES.iterdir() if "validate in your organization" not in path.read_text().lower()]
    assert unmarked == ["variables.tf"]
