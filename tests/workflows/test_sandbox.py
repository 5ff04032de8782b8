"""What workflow code may not do it can't do, in its first execution and in every other."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError

from temporal_sandbox import workflow_runner
from tests.workflows.forbidden import LooksAtTheClock, ReadsAFile, Sums, ThrowsDice


@pytest.fixture(scope="module")
async def queue(temporal: WorkflowEnvironment) -> AsyncIterator[str]:
    name = f"sandbox-{uuid4().hex}"
    async with Worker(
        temporal.client,
        task_queue=name,
        workflows=[LooksAtTheClock, ReadsAFile, Sums, ThrowsDice],
        workflow_runner=workflow_runner(),
        workflow_failure_exception_types=[RestrictedWorkflowAccessError],
    ):
        yield name


@pytest.mark.parametrize("forbidden", [LooksAtTheClock, ReadsAFile, ThrowsDice])
async def test_what_would_replay_otherwise_is_refused(
    temporal: WorkflowEnvironment, queue: str, forbidden: type
) -> None:
    for _ in range(3):
        with pytest.raises(WorkflowFailureError) as failed:
            await temporal.client.execute_workflow(
                forbidden.__name__, id=uuid4().hex, task_queue=queue
            )
        assert "Cannot access" in str(failed.value.cause)


async def test_anything_else_is_done(temporal: WorkflowEnvironment, queue: str) -> None:
    for _ in range(3):
        assert (
            await temporal.client.execute_workflow(Sums.run, id=uuid4().hex, task_queue=queue) == 2
        )
