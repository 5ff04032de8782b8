"""Stored histories of every workflow still replay on today's code, and a broken order is seen."""

import functools
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

import worker
from temporal_sandbox import workflow_runner
from tests.record_histories import HISTORIES
from tests.workflows.reordered import Guarded, Unguarded
from workflows.marketing import MarketingContact

REGISTERED: list[type] = [
    one for name, all_ in vars(worker).items() if name.endswith("_WORKFLOWS") for one in all_
]
STORED = sorted(HISTORIES.glob("*/*.json"))
_WITH_WORDS = (
    EventType.EVENT_TYPE_TIMER_STARTED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
)
MARKETING = [path for path in STORED if path.parent.name == "MarketingContact"][:5]


@functools.cache
def history_in(path: Path) -> WorkflowHistory:
    history = json.loads(path.read_text())
    started = history["events"][0]["workflowExecutionStartedEventAttributes"]
    # Under its own id: the ids of its tasks follow from it.
    return WorkflowHistory.from_json(started["workflowId"], history)


def replayer(*workflows: type) -> Replayer:
    """As in production: its converter and its sandbox."""
    return Replayer(
        workflows=list(workflows),
        workflow_runner=workflow_runner(),
        data_converter=pydantic_data_converter,
    )


@pytest.fixture(scope="module")
async def failures() -> Mapping[str, Exception]:
    """By run id. All in one go: making a replayer costs more than a replay."""

    async def stored() -> AsyncIterator[WorkflowHistory]:
        for path in STORED:
            yield history_in(path)

    results = await replayer(*REGISTERED).replay_workflows(stored(), raise_on_replay_failure=False)
    return results.replay_failures


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_stored_history_replays(path: Path, failures: Mapping[str, Exception]) -> None:
    failure = failures.get(history_in(path).run_id)
    assert failure is None, failure


def test_every_workflow_has_stored_histories() -> None:
    assert {path.parent.name for path in STORED} == {one.__name__ for one in REGISTERED}
    assert len(STORED) >= 30


async def test_a_changed_order_of_commands_does_not_replay() -> None:
    for path in MARKETING:
        with pytest.raises(NondeterminismError):
            await replayer(Unguarded).replay_workflow(history_in(path))


async def test_the_same_change_behind_a_patch_does() -> None:
    for path in MARKETING:
        await replayer(Guarded).replay_workflow(history_in(path))
        await replayer(MarketingContact).replay_workflow(history_in(path))


def test_every_wait_step_and_child_in_a_history_says_what_it_is() -> None:
    """Read in Temporal's web UI. A patch is the one marker that is no step."""
    for path in STORED:
        for event in history_in(path).events:
            is_step = event.marker_recorded_event_attributes.marker_name == "core_local_activity"
            if is_step or event.event_type in _WITH_WORDS:
                words = event.user_metadata.summary.data.strip(b'"')
                assert words, f"{path.name}, event {event.event_id}"


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_stored_history_holds_nothing_personal_and_names_no_machine(path: Path) -> None:
    for event in history_in(path).events:
        text = str(event)
        assert "Lovelace" not in text
        assert "@" not in text
