"""The dispatch goes on for ever: from round to round, from run to run, from worker to worker."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.messages import MessageActivities
from database.base import Sessions
from domain.messages import DispatchCounts, DispatchInput, DispatchRound, MessageState
from temporal_sandbox import workflow_runner
from tests.activities.dispatching import dispatcher, queue, until_settled
from tests.messaging.post_office import PostOffice
from workflows.messages import MessageDispatch

Dispatch = WorkflowHandle[MessageDispatch, None]
Work = Callable[[], Worker]


@pytest.fixture
def queue_name() -> str:
    return f"messaging-{uuid4()}"


@pytest.fixture
def worker(
    temporal: WorkflowEnvironment, sessions: Sessions, post_office: PostOffice, queue_name: str
) -> Work:
    activities: MessageActivities = dispatcher(
        sessions, temporal.client, post_office.port, post_office.path
    )
    return lambda: Worker(
        temporal.client,
        task_queue=queue_name,
        workflows=[MessageDispatch],
        activities=[activities.deliver_queued],
        workflow_runner=workflow_runner(),
        graceful_shutdown_timeout=timedelta(seconds=5),
    )


async def start(
    temporal: WorkflowEnvironment, queue_name: str, dispatch: DispatchInput
) -> Dispatch:
    return await temporal.client.start_workflow(
        MessageDispatch.run,
        dispatch,
        id=queue_name,
        task_queue=queue_name,
        static_summary="Delivers the messages that processes queued",
    )


async def test_messages_queued_before_and_after_its_start_are_delivered(
    temporal: WorkflowEnvironment,
    sessions: Sessions,
    post_office: PostOffice,
    worker: Work,
    queue_name: str,
) -> None:
    await queue(sessions, customers=3)
    handle = await start(temporal, queue_name, DispatchInput())
    async with worker():
        await until_settled(sessions)
        await queue(sessions, customers=2)
        rows = await until_settled(sessions)
    # A second worker takes over where the first one stopped.
    await queue(sessions)
    async with worker():
        rows = await until_settled(sessions)
    assert {row.state for row in rows} == {MessageState.ACCEPTED}
    assert await post_office.inbox.count() == 6
    await handle.terminate()


async def test_it_goes_on_as_new_with_its_counts_and_tells_an_operator_of_them(
    temporal: WorkflowEnvironment,
    sessions: Sessions,
    worker: Work,
    queue_name: str,
) -> None:
    await queue(sessions, customers=2)
    short = DispatchInput(round=DispatchRound(lasts=timedelta(seconds=0.6)), rounds=2)
    first = await start(temporal, queue_name, short)
    async with worker():
        await until_settled(sessions)
        *_, last = await events_of(temporal, first)
    carried = await temporal.client.data_converter.decode(
        last.workflow_execution_continued_as_new_event_attributes.input.payloads,
        [DispatchInput],
    )
    assert carried == [short.model_copy(update={"so_far": DispatchCounts(accepted=2)})]
    next_run = temporal.client.get_workflow_handle(queue_name)
    await next_run.terminate()


async def events_of(temporal: WorkflowEnvironment, handle: Dispatch) -> list[HistoryEvent]:
    """Of the run that was started, once the next one goes on."""
    run = temporal.client.get_workflow_handle(handle.id, run_id=handle.result_run_id)
    async with asyncio.timeout(20):
        return [event async for event in run.fetch_history_events(wait_new_event=True)]
