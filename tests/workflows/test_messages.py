"""Dispatch and intake go on for ever: from round to round, from run to run, from worker to worker.

And what comes back reaches the process that had written.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.delivery_reports import take_in_reports
from activities.messages import MessageActivities
from activities.received import ReceivedActivities
from database.base import Sessions
from database.delivery_reports import keep_report
from database.messages import Message
from domain.delivery_reports import DeliveryReport, ReportKind
from domain.lifecycle import LeadReceived
from domain.marketing import MarketingOutcome
from domain.messages import (
    DispatchCounts,
    DispatchInput,
    DispatchRound,
    IntakeCounts,
    IntakeInput,
    IntakeRound,
    MessageState,
)
from domain.processes import marketing_workflow_id
from temporal_sandbox import workflow_runner
from tests.activities.dispatching import dispatcher, messages, queue, running, until_settled
from tests.driving import Drive
from tests.messaging.post_office import PostOffice
from tests.patience import becomes
from workflows.messages import MessageDispatch, MessageIntake

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
    received = ReceivedActivities(sessions, temporal.client, b"k" * 32)
    return lambda: Worker(
        temporal.client,
        task_queue=queue_name,
        workflows=[MessageDispatch, MessageIntake],
        activities=[activities.deliver_queued, received.take_in],
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


async def report(sessions: Sessions, message: UUID, kind: ReportKind) -> None:
    said = DeliveryReport(
        kind=kind, effect=message, said="said so", at=datetime.now(UTC), provider="resend"
    )
    async with sessions.begin() as session:
        assert await keep_report(session, "resend", str(uuid4()), said)


async def test_what_was_reported_before_and_after_its_start_is_taken_in(
    temporal: WorkflowEnvironment, sessions: Sessions, worker: Work, queue_name: str
) -> None:
    await queue(sessions, customers=2)
    first, second = [message.id for message in await messages(sessions)]
    await report(sessions, first, ReportKind.DELIVERED)
    short = IntakeInput(round=IntakeRound(lasts=timedelta(seconds=0.6)), rounds=2)
    handle = await temporal.client.start_workflow(
        MessageIntake.run, short, id=queue_name, task_queue=queue_name
    )

    async def states() -> list[MessageState]:
        return [message.state for message in await messages(sessions)]

    async with worker():
        await becomes(states, [MessageState.DELIVERED, MessageState.QUEUED])
        await report(sessions, second, ReportKind.BOUNCED)
        await becomes(states, [MessageState.DELIVERED, MessageState.BOUNCED])
        *_, last = await events_of(temporal, handle)
    carried = await temporal.client.data_converter.decode(
        last.workflow_execution_continued_as_new_event_attributes.input.payloads, [IntakeInput]
    )
    so_far = IntakeCounts(reports=2, delivered=1, bounced=1)
    assert carried == [short.model_copy(update={"so_far": so_far})]
    await temporal.client.get_workflow_handle(queue_name).terminate()


@pytest.mark.parametrize(
    ("kind", "ends_as"),
    [
        (ReportKind.BOUNCED, MarketingOutcome.UNDELIVERABLE),
        (ReportKind.COMPLAINED, MarketingOutcome.OPTED_OUT),
    ],
)
async def test_a_first_contact_whose_mail_comes_back_ends_and_the_lifecycle_hears_of_it(
    drive: Drive, tmp_path: Path, kind: ReportKind, ends_as: MarketingOutcome
) -> None:
    customer = await drive.customer()
    lead = LeadReceived.model_validate(
        {"event_id": f"lead-{uuid4()}", "occurred_at": datetime.now(UTC), "source": "form"}
    )
    lifecycle = await drive.tell(customer, "lead_received", lead)
    contact = drive.process(marketing_workflow_id(customer, 1))
    await becomes(lambda: drive.told(contact), ["marketing_welcome"])
    await drive.accept_messages(contact)
    async with drive.sessions.begin() as session:
        message = await session.scalar(
            sa.update(Message)
            .where(Message.workflow_id == contact.id)
            .values(address=f"{customer}@example.com", provider_answer="250 kept")
            .returning(Message.id)
        )
    assert message is not None
    await report(drive.sessions, message, kind)
    assert await take_in_reports(drive.sessions, drive.client) == [kind]
    sending_nothing = replace(
        dispatcher(drive.sessions, drive.client, 1, tmp_path / "inbox.sqlite"), providers={}
    )
    async with running(sending_nothing):
        assert await drive.ends(contact) == ends_as
    await becomes(lambda: has_heard(drive, customer), True)
    assert f"message_{kind}" in await drive.story(contact)
    assert (await lifecycle.describe()).status is WorkflowExecutionStatus.RUNNING


async def has_heard(drive: Drive, customer: UUID) -> bool:
    return "process_ended" in await drive.story(drive.lifecycle(customer))


async def events_of(
    temporal: WorkflowEnvironment,
    handle: WorkflowHandle[MessageDispatch, None] | WorkflowHandle[MessageIntake, None],
) -> list[HistoryEvent]:
    """Of the run that was started, once the next one goes on."""
    run = temporal.client.get_workflow_handle(handle.id, run_id=handle.result_run_id)
    async with asyncio.timeout(20):
        return [event async for event in run.fetch_history_events(wait_new_event=True)]
