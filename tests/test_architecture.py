"""Rules of the layout that no linter knows: what is defined is registered, told and kept."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio import activity

import worker
from domain.messages import MESSAGES, Template
from domain.payload import Payload
from domain.policies import POLICIES, PolicyKind
from domain.processes import ProcessKind
from domain.schedules import RECURRENCES
from domain.tasks import TaskKind
from tests.record_histories import REQUIRED_FIELDS, required_fields
from tests.sources import ROOT, product_files
from workflows.process import Process

PRODUCT = product_files()
REGISTERED: list[type] = [
    one for name, all_ in vars(worker).items() if name.endswith("_WORKFLOWS") for one in all_
]


def modules_of(layer: str) -> list[Any]:
    return [importlib.import_module(f"{layer}.{path.stem}") for path in (ROOT / layer).glob("*.py")]


def classes_of(layer: str) -> Iterator[type]:
    for module in modules_of(layer):
        for _, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__:
                yield found


def source_of(layer: str) -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / layer).glob("*.py")))


# --- workflows and activities --------------------------------------------------------------------

ACTIVITIES: dict[type, list[str]] = {
    found: methods
    for found in classes_of("activities")
    if (
        methods := [
            name
            for name, part in vars(found).items()
            if hasattr(part, "__temporal_activity_definition")
        ]
    )
}


def test_every_workflow_is_registered() -> None:
    defined = [
        one for one in classes_of("workflows") if hasattr(one, "__temporal_workflow_definition")
    ]
    assert set(defined) == set(REGISTERED)
    assert len(REGISTERED) == len(set(REGISTERED))


def test_every_class_of_activities_is_given_to_a_worker() -> None:
    """With all its methods: `activities_of` finds them."""
    built = {call.func.id for call in _calls("worker.py") if isinstance(call.func, ast.Name)}
    assert {one.__name__ for one in ACTIVITIES} <= built


def test_activities_of_finds_every_activity_and_nothing_else() -> None:
    class Some:
        @activity.defn
        async def one(self) -> None: ...

        async def none(self) -> None: ...

    some = Some()
    assert worker.activities_of(some) == [some.one]


@pytest.mark.parametrize("of", ACTIVITIES, ids=lambda of: of.__name__)
def test_every_activity_is_taken_by_some_process(of: type) -> None:
    workflows = source_of("workflows")
    for name in ACTIVITIES[of]:
        assert f"{of.__name__}.{name}" in workflows, f"nobody takes {name}"


@pytest.mark.parametrize("kind", ProcessKind)
def test_every_kind_of_process_has_one_workflow(kind: ProcessKind) -> None:
    processes = [one for one in REGISTERED if issubclass(one, Process)]
    assert [one.kind for one in processes].count(kind) == 1


# --- names that cross as strings -----------------------------------------------------------------


def handlers(of: type, marker: str) -> set[str]:
    names = (name for one in of.__mro__ for name in vars(one))
    return {name for name in names if hasattr(getattr(of, name, None), marker)}


SIGNALS = {one.__name__: handlers(one, "__temporal_signal_definition") for one in REGISTERED}
UPDATES = {one.__name__: handlers(one, "_defn") for one in REGISTERED}


@cache
def _parsed(path: str | Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


@cache
def _calls(path: str | Path) -> list[ast.Call]:
    return [node for node in ast.walk(_parsed(path)) if isinstance(node, ast.Call)]


def strings(node: ast.expr) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def names_in(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def said(calls: dict[str, int], keyword: str = "") -> list[tuple[str, str]]:
    """(file, name) of each literal name handed over: by position in `calls`, or by keyword."""
    found = []
    for path in PRODUCT:
        for node in _calls(path):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            at = calls.get(name)
            arguments = [] if at is None else node.args[at : at + 1]
            arguments += [one.value for one in node.keywords if keyword and one.arg == keyword]
            found += [
                (str(path.relative_to(ROOT)), argument.value)
                for argument in arguments
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            ]
    return found


def test_every_signal_that_is_sent_to_the_lifecycle_is_one_of_its_own() -> None:
    sent = said({"tell_lifecycle": 2})
    assert sent
    for path, name in sent:
        assert name in SIGNALS["CustomerLifecycle"], f"{path} sends {name}"


def test_every_signal_that_is_sent_is_taken_by_somebody() -> None:
    taken = set().union(*SIGNALS.values())
    sent = [
        *said({"tell_process": 2, "signal": 0}),
        *said({}, "signal"),
        *said({}, "start_signal"),
    ]
    assert sent
    for path, name in sent:
        assert name in taken, f"{path} sends {name}"


def test_what_the_lifecycle_passes_on_is_taken_by_those_it_tells() -> None:
    passed_on: set[str] = set()
    for node in ast.walk(_parsed("workflows/lifecycle.py")):
        if isinstance(node, ast.keyword) and node.arg == "signal":
            passed_on |= set(strings(node.value))
        if isinstance(node, ast.Assign) and "signal" in names_in(node.targets[0]):
            passed_on |= set(strings(node.value))
    assert passed_on >= {"selling_held", "selling_released", "order_placed", "case_reopened"}
    for name in passed_on:
        assert any(name in signals for signals in SIGNALS.values()), name


def test_every_update_and_workflow_named_by_a_string_exists() -> None:
    updates = set().union(*UPDATES.values())
    assert updates >= {"pause", "resume", "stop", "complete_task", "respond", "assign"}
    for path, name in said({"execute_update": 0, "start_update": 0}):
        assert name in updates, f"{path} asks for {name}"
    types = {one.__name__ for one in REGISTERED}
    for path, name in said({"start_workflow": 0, "execute_workflow": 0}):
        assert name in types, f"{path} starts {name}"
    assert {recurrence.workflow for recurrence in RECURRENCES.values()} <= types


# What makes an entry in Temporal's web UI, and the argument that puts it in words.
SAID_BY = {
    "execute_activity_method": "summary",
    "execute_local_activity_method": "summary",
    "sleep": "summary",
    "start_child_workflow": "static_summary",
    "start_workflow": "static_summary",
    "ScheduleActionStartWorkflow": "static_summary",
}
STARTS = ("worker.py", "temporal_runtime.py", "api/event_bodies.py", "api/processes.py")


def test_every_process_wait_and_step_says_what_it_is() -> None:
    """And a process of a customer is found by him: those the worker starts are nobody's."""
    started = {path for path, _ in said({"start_workflow": 0})}
    assert started <= set(STARTS)
    seen = set()
    for path in [*STARTS, *(f"workflows/{one.name}" for one in (ROOT / "workflows").glob("*.py"))]:
        for node in _calls(path):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {one.arg: one.value for one in node.keywords}
            where = f"{path}:{node.lineno}"
            in_a_process = path.startswith("workflows/")
            if name in SAID_BY and (in_a_process or name != "sleep"):
                words = given.get(SAID_BY[name], ast.Constant(""))
                assert not isinstance(words, ast.Constant) or words.value, f"{where} is silent"
                seen.add(name)
            if name.startswith("start_") and name in SAID_BY and path != "worker.py":
                assert "search_attributes" in given, where
            if in_a_process:  # timers of another kind say nothing
                assert name != "wait_condition" or "timeout" not in given, where
                assert name not in ("wait_for", "timeout", "timeout_at", "call_later"), where
    assert seen == set(SAID_BY)


# --- what crosses into histories -----------------------------------------------------------------


def crossing() -> set[type[BaseModel]]:
    """Every model that an activity, a workflow, a signal or an update takes or answers."""
    callables: list[Callable[..., Any]] = [
        getattr(of, name) for of, methods in ACTIVITIES.items() for name in methods
    ]
    for one in REGISTERED:
        callables.append(one.run)  # type: ignore[attr-defined]  # every workflow has one
        callables += [getattr(one, name) for name in SIGNALS[one.__name__] | UPDATES[one.__name__]]
    found: set[type[BaseModel]] = set()
    for each in callables:
        hints = typing.get_type_hints(inspect.unwrap(each))
        for hint in hints.values():
            _collect(hint, found)
    return found


def _collect(hint: Any, found: set[type[BaseModel]]) -> None:
    if inspect.isclass(hint) and issubclass(hint, BaseModel) and hint not in found:
        found.add(hint)
        for field in hint.model_fields.values():
            _collect(field.annotation, found)
    for part in typing.get_args(hint):
        _collect(part, found)


CROSSING = sorted(crossing(), key=lambda one: one.__name__)


@pytest.mark.parametrize("model", CROSSING, ids=lambda model: model.__name__)
def test_what_crosses_is_a_payload_frozen_and_patient_with_what_it_does_not_know(
    model: type[BaseModel],
) -> None:
    assert issubclass(model, Payload)
    assert model.model_config.get("frozen") is True
    assert model.model_config.get("extra") == "ignore"


def test_every_handler_takes_one_payload() -> None:
    for of, methods in ACTIVITIES.items():
        for name in methods:
            assert len(inspect.signature(getattr(of, name)).parameters) <= 2, name
    for one in REGISTERED:
        for name in SIGNALS[one.__name__] | UPDATES[one.__name__]:
            handler = inspect.unwrap(getattr(one, name))
            assert len(inspect.signature(handler).parameters) == 2, f"{one.__name__}.{name}"


@pytest.mark.parametrize("model", CROSSING, ids=lambda model: model.__name__)
def test_nothing_that_crosses_has_room_for_who_a_person_is(model: type[BaseModel]) -> None:
    personal = {"name", "email", "phone", "address", "comment", "subject", "body", "text", "words"}
    assert not personal & set(model.model_fields)


def test_what_was_optional_stays_optional_and_what_is_new_is() -> None:
    """Histories are years old: a field that is required now must have been required then."""
    before: dict[str, list[str]] = json.loads(REQUIRED_FIELDS.read_text())
    for name, fields in required_fields().items():
        if name in before:
            assert set(fields) <= set(before[name]), f"{name}: give the new field a default"


# --- policies, messages, tasks -------------------------------------------------------------------


@pytest.mark.parametrize("kind", PolicyKind)
def test_every_duration_count_and_limit_of_a_policy_is_kept_by_somebody(kind: PolicyKind) -> None:
    layers = ("workflows", "activities", "domain", "database/queries")
    rules = [source_of(layer) for layer in layers]
    for name in POLICIES[kind].model_fields:
        assert any(f".{name}" in source for source in rules), f"nobody keeps {kind}.{name}"


# What bounds a process's own memory, or lets the machine breathe: nothing that a business decides.
OWN_NUMBERS = {
    "_A_MOMENT",
    "_REMEMBERED_EVENTS",
    "_REMEMBERED_ORDERS",
    "_REMEMBERED_CASES",
}


def test_a_process_has_no_duration_count_or_limit_beside_its_policy() -> None:
    named = set()
    for path in (ROOT / "workflows").glob("*.py"):
        if path.name == "options.py":  # timeouts and retries of activities
            continue
        for statement in _parsed(path).body:
            numbers = [
                part.value
                for part in ast.walk(statement)
                if isinstance(part, ast.Constant)
                and type(part.value) in (int, float)
                and part.value not in (0, 1)
            ]
            durations = [
                part
                for part in ast.walk(statement)
                if isinstance(part, ast.Call)
                and "timedelta" in names_in(part.func)
                and ast.unparse(part) != "timedelta(0)"
            ]
            if numbers or durations:
                target = statement.targets[0] if isinstance(statement, ast.Assign) else None
                name = target.id if isinstance(target, ast.Name) else f"in {path.name}"
                named.add(name)
    assert named == OWN_NUMBERS


@pytest.mark.parametrize("template", Template)
def test_every_message_has_its_wording_in_every_locale_it_claims_and_in_no_other(
    template: Template,
) -> None:
    folder = ROOT / "templates" / template
    assert {locale.name for locale in folder.iterdir()} == set(MESSAGES[template].locales)
    for locale in folder.iterdir():
        assert {path.name for path in locale.iterdir()} >= {"subject.txt", "body.txt", "body.mjml"}


def test_every_wording_is_of_a_message() -> None:
    folders = {path.name for path in (ROOT / "templates").iterdir()}
    assert folders == {*Template, "_layout"}
    assert set(MESSAGES) == set(Template)


@pytest.mark.parametrize("template", Template)
def test_every_message_is_asked_for_by_somebody(template: Template) -> None:
    touches = POLICIES[PolicyKind.MARKETING]().touches  # type: ignore[union-attr]  # of this one
    asked = "".join(map(source_of, ("activities", "workflows", "database/queries")))
    asked += (ROOT / "domain" / "support.py").read_text()  # an outcome names its own
    assert template in touches or f"Template.{template.name}" in asked


@pytest.mark.parametrize("kind", TaskKind)
def test_every_kind_of_task_is_opened_by_somebody(kind: TaskKind) -> None:
    rules = source_of("activities") + source_of("workflows") + source_of("domain")
    assert rules.count(f"TaskKind.{kind.name}") > 1, "beside its outcomes"


# --- files ---------------------------------------------------------------------------------------


def test_a_package_holds_no_code_of_its_own() -> None:
    for path in PRODUCT:
        if path.name == "__init__.py":
            code = _parsed(path).body
            assert len(code) == (ast.get_docstring(ast.Module(code, [])) is not None), path
    assert (ROOT / "workflows" / "__init__.py").read_text() == ""


def test_no_module_takes_the_name_of_a_standard_one() -> None:
    ours = {path.stem for path in ROOT.glob("*.py")}
    ours |= {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert not ours & sys.stdlib_module_names


def test_every_module_says_what_it_is() -> None:
    for path in PRODUCT:
        if path.name != "__init__.py":
            assert ast.get_docstring(_parsed(path)), path


_REGISTRY = re.compile(
    r"https?://\S*(?:pypi|pythonhosted|/simple\b)"
    r"|--(?:(?:extra-|default-)?index(?:-url)?|find-links|trusted-host)\b|tool\.uv\.index",
    re.IGNORECASE,
)


def test_no_file_says_where_packages_come_from() -> None:
    """Where they are installed from is for whoever installs them: their hashes are pinned."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a clone: there is no list of what is ours")
    naming = []
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if path.is_file() and _REGISTRY.search(path.read_bytes().decode(errors="ignore")):
            naming.append(name)
    assert naming == []
    for requirements in ROOT.glob("requirements*"):
        assert "://" not in requirements.read_text(), requirements


def test_one_word_is_one_process_in_every_room() -> None:
    for kind in ProcessKind:
        for room in ("workflows", "activities", "domain"):
            assert (ROOT / room / f"{kind}.py").exists(), f"{room}/{kind}.py"


def test_handlers_note_and_run_acts() -> None:
    for one in REGISTERED:
        for name in SIGNALS[one.__name__] | UPDATES[one.__name__]:
            assert not inspect.iscoroutinefunction(getattr(one, name)), f"{one.__name__}.{name}"
