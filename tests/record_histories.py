"""Records the histories in tests/histories anew: `make histories`.

Runs the tests marked `history` on the real server and keeps the history of each process they saw,
under the name of the test. Do it when a change of a workflow is meant to change the order of its
commands and no installation runs the old order; else the change goes behind `workflow.patched`.
"""

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


def main() -> int:
    with tempfile.TemporaryDirectory() as recorded:
        tests = str(Path(__file__).parent / "workflows")
        failed = pytest.main(
            ["-q", "--tb=native", "-m", "history", "--record-histories", recorded, tests]
        )
        if failed:
            return int(failed)
        for folder in sorted(Path(recorded).iterdir()):
            shutil.rmtree(HISTORIES / folder.name, ignore_errors=True)
            shutil.copytree(folder, HISTORIES / folder.name)
            print(f"{folder.name}: {len(list(folder.iterdir()))}")  # noqa: T201 a command
    REQUIRED_FIELDS.write_text(json.dumps(required_fields(), indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
