"""Adds to the histories in tests/histories: `make histories`.

Runs the tests marked `history` on the real server and keeps the history of each process they saw,
under the name of the test. What is stored stays: somewhere an installation runs a process with
that history. So without `--as` only the histories of new tests are added; after a change of the
order of commands (behind `workflow.patched`), `--as LABEL` adds the new order beside the old one.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory

from domain.payload import Payload

HISTORIES = Path(__file__).parent / "histories"
REQUIRED_FIELDS = HISTORIES / "required_fields.json"  # of the payloads, when they were recorded
_OF_THIS_MACHINE = re.compile(r"\b\d+@[\w.-]+")  # the worker: process id and host name


def keep(histories: Iterable[WorkflowHistory], directory: Path, test: str) -> None:
    """Write each as <Workflow>/<test>.json; several runs of one workflow are numbered."""
    name = re.sub(r"\W+", "-", test.removeprefix("test_")).strip("-")
    for history in histories:
        started = history.events[0].workflow_execution_started_event_attributes
        folder = directory / started.workflow_type.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.json"
        number = 1
        while path.exists():
            number += 1
            path = folder / f"{name}-{number}.json"
        path.write_text(_event_by_event(history))


def required_fields() -> dict[str, list[str]]:
    """The fields without a default of every payload."""
    found: dict[str, list[str]] = {}
    classes: list[type[Payload]] = [Payload]
    while classes:
        one = classes.pop()
        classes += one.__subclasses__()
        fields = one.model_fields.items()
        found[one.__qualname__] = sorted(name for name, field in fields if field.is_required())
    return found


def _event_by_event(history: WorkflowHistory) -> str:
    """One line each, so that a difference can be read."""
    events = [json.dumps(event) for event in history.to_json_dict()["events"]]
    return _OF_THIS_MACHINE.sub("worker", '{"events": [\n' + ",\n".join(events) + "\n]}\n")


def add(recorded: Path, stored: Path, label: str | None) -> list[Path]:
    """Copy what is not there yet, under its name or its name and the label; answer what was added.

    Raises FileExistsError, before anything is copied, when the label is taken.
    """
    copies: dict[Path, Path] = {}
    for history in sorted(recorded.glob("*/*.json")):
        name = f"{history.stem}-{label}" if label else history.stem
        copies[history] = stored / history.parent.name / f"{name}.json"
    if label and (taken := [path for path in copies.values() if path.exists()]):
        raise FileExistsError(f"{taken[0]} is stored already: choose another label")
    new = {source: path for source, path in copies.items() if not path.exists()}
    for source, path in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)
    return list(new.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make histories", description="Add histories; those that are stored stay."
    )
    parser.add_argument("--as", dest="label", help="add beside a stored history, with this suffix")
    parser.add_argument("-k", dest="tests", default="", help="only these tests, as pytest's -k")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as recorded:
        tests = ["-m", "history", "-k", wanted.tests, str(Path(__file__).parent / "workflows")]
        failed = pytest.main(["-q", "--tb=native", "--record-histories", recorded, *tests])
        if failed:
            return int(failed)
        try:
            added = add(Path(recorded), HISTORIES, wanted.label)
        except FileExistsError as taken:
            parser.error(str(taken))
    for path in added:
        print(path.relative_to(HISTORIES))  # noqa: T201 a command
    print(f"{len(added)} added")  # noqa: T201 a command
    fields = required_fields() | json.loads(REQUIRED_FIELDS.read_text())  # what is stored stays
    REQUIRED_FIELDS.write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
