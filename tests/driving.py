"""Drives processes on the real servers: customers, facts, skipped time, and what came of it.

Each process has a virtual clock of its own (`Drive.skip`). A life that crosses processes is lived
on the accelerated clock of a simulation instead (`Drive.simulate`).
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

import temporal_runtime
from database.base import Base, Sessions
from database.customers import Consent, ContactPoint, Customer, Simulation
from database.messages import Message
from database.policies import PolicyVersion
from database.processes import Lifecycle, ProcessRow
from database.tasks import Task
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.contacts import ConsentState
from domain.delivery import DeliveryInput, OrderLine, OrderPlaced, PromisedItem
from domain.errors import Refusal
from domain.follow_up import FollowUpInput
from domain.marketing import MarketingInput
from domain.messages import Channel, MessageState, Purpose
from domain.policies import POLICIES, CaseKind, PolicyKind
from domain.processes import (
    LIFECYCLE_QUEUE,
    Fact,
    TaskCompleted,
    delivery_workflow_id,
    follow_up_workflow_id,
    lifecycle_workflow_id,
    marketing_workflow_id,
    retention_workflow_id,
    support_workflow_id,
)
from domain.retention import RetentionInput
from domain.support import CaseInput
from domain.tasks import TaskKind, TaskState
from tests.patience import becomes
from workflows.delivery import OrderDelivery
from workflows.follow_up import FollowUp
from workflows.marketing import MarketingContact
from workflows.process import Process
from workflows.retention import RetentionOutreach
from workflows.support import SupportCase

T = TypeVar("T")
Row = TypeVar("Row", bound=Base)
Handle = WorkflowHandle[Any, Any]

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


class Drive:
    """One worker's processes, the database they write and the clock they live by."""

    def __init__(self, temporal: WorkflowEnvironment, sessions: Sessions) -> None:
        self._temporal = temporal
        self.client: Client = temporal.client
        self.sessions = sessions
        self._seen: dict[str, None] = {}  # workflow ids, for the recorder of histories

    # --- who and by which rules --------------------------------------------------------------

    async def customer(
        self, *, consent: bool = True, zone: str = "UTC", simulation: UUID | None = None
    ) -> UUID:
        """A customer, by default with consent to marketing by e-mail."""
        async with self.sessions.begin() as session:
            customer = Customer(
                reference=f"c-{uuid4()}", name="Ada Lovelace", zone=zone, simulation_id=simulation
            )
            session.add(customer)
            await session.flush()
            if consent:
                session.add(_consent(customer.id, ConsentState.GRANTED))
        return customer.id

    async def agrees_to(
        self,
        customer_id: UUID,
        channel: Channel,
        address: str | None,
        state: ConsentState = ConsentState.GRANTED,
    ) -> None:
        """To marketing by the channel, at an address of his if there is one."""
        async with self.sessions.begin() as session:
            session.add(_consent(customer_id, state, channel))
            if address is not None:
                point = ContactPoint(customer_id=customer_id, channel=channel, address=address)
                session.add(point)

    async def withdraw_consent(self, customer_id: UUID) -> None:
        async with self.sessions.begin() as session:
            session.add(_consent(customer_id, ConsentState.WITHDRAWN))

    async def simulate(self, day: timedelta) -> tuple[UUID, Clock]:
        """A simulation in which a day lasts as long as given."""
        now = datetime.now(UTC)
        async with self.sessions.begin() as session:
            simulation = Simulation(
                name="test", machine_origin=now, business_origin=now, speed=DAY / day
            )
            session.add(simulation)
        return simulation.id, simulation.clock

    @asynccontextmanager
    async def policy(self, kind: PolicyKind, **fields: Any) -> AsyncGenerator[None]:
        """A published version of a policy, for the processes that start meanwhile."""
        document = POLICIES[kind](**fields).model_dump(mode="json")
        async with self.sessions.begin() as session:
            newest = await session.scalar(
                sa.select(sa.func.max(PolicyVersion.version)).where(PolicyVersion.kind == kind)
            )
            version = (newest or 0) + 1
            session.add(
                PolicyVersion(kind=kind, version=version, document=document, published_by="test")
            )
        try:
            yield
        finally:
            async with self.sessions.begin() as session:
                await session.execute(sa.delete(PolicyVersion).where(PolicyVersion.kind == kind))

    # --- starting ----------------------------------------------------------------------------

    async def start(
        self,
        process: type[Process],
        start: Any,
        workflow_id: str,
        signal: str | None = None,
        fact: Fact | None = None,
    ) -> Handle:
        """Start a process, with a first fact if there is one."""
        handle = await self.client.start_workflow(
            process.run,  # type: ignore[attr-defined]  # every process has one
            start,
            id=workflow_id,
            task_queue=LIFECYCLE_QUEUE,
            start_signal=signal,
            start_signal_args=[fact] if fact else [],
        )
        self._seen[workflow_id] = None
        await self.quiet(handle)
        return handle

    async def start_contact(self, customer_id: UUID, sequence: int = 1) -> Handle:
        contact = MarketingInput(customer_id=customer_id, sequence=sequence)
        return await self.start(
            MarketingContact, contact, marketing_workflow_id(customer_id, sequence)
        )

    async def place_order(
        self,
        customer_id: UUID,
        *,
        promised_on: date | None = None,
        promises: Sequence[PromisedItem] = (),
        at: datetime | None = None,
        order_id: UUID | None = None,
        total_minor: int = 4_900,
    ) -> tuple[UUID, Handle]:
        order_id = order_id or uuid4()
        placed = OrderPlaced(
            event_id=f"placed-{order_id}",
            occurred_at=at or datetime.now(UTC),
            order_id=order_id,
            customer_id=customer_id,
            reference=f"O-{order_id.hex[:6]}",
            total_minor=total_minor,
            lines=(OrderLine(product="Lamp", price_minor=total_minor),),
            promised_on=promised_on,
            promises=tuple(promises),
        )
        order = DeliveryInput(order_id=order_id, customer_id=customer_id, placed=placed)
        handle = await self.start(OrderDelivery, order, delivery_workflow_id(order_id))
        return order_id, handle

    async def open_case(
        self, customer_id: UUID, *, acknowledged: bool = True, **fields: Any
    ) -> tuple[UUID, Handle]:
        """A case whose acknowledgement was accepted by a mail server, unless told otherwise."""
        opened = CaseInput.model_validate(
            {
                "case_id": uuid4(),
                "customer_id": customer_id,
                "opened_at": datetime.now(UTC),
                "event_id": f"asked-{uuid4()}",
                "kind": CaseKind.REQUEST,
                **fields,
            }
        )
        handle = await self.start(SupportCase, opened, support_workflow_id(opened.case_id))
        if acknowledged:
            await self.accept_messages(handle)
        return opened.case_id, handle

    async def follow_up(self, customer_id: UUID, **fields: Any) -> tuple[UUID, Handle]:
        about = FollowUpInput.model_validate(
            {
                "customer_id": customer_id,
                "about_id": uuid4(),
                "since": datetime.now(UTC),
                **fields,
            }
        )
        handle = await self.start(FollowUp, about, follow_up_workflow_id(about.about_id))
        return about.about_id, handle

    async def retain(self, customer_id: UUID, cause: str = "usage_fell") -> Handle:
        risk = RetentionInput(customer_id=customer_id, cause=cause)
        return await self.start(RetentionOutreach, risk, retention_workflow_id(customer_id, cause))

    async def accept_messages(self, handle: Handle) -> None:
        """What the dispatcher of messages would do."""
        now = datetime.now(UTC)
        async with self.sessions.begin() as session:
            await session.execute(
                sa.update(Message)
                .where(Message.workflow_id == handle.id)
                .values(state=MessageState.ACCEPTED, accepted_at=now, told_at=now)
            )

    # --- telling -----------------------------------------------------------------------------

    async def tell(self, customer_id: UUID, signal: str, fact: Fact) -> Handle:
        """A fact about the relationship, as the API hands it to the lifecycle."""
        await temporal_runtime.tell_lifecycle(self.client, customer_id, signal, fact)
        handle = self.lifecycle(customer_id)
        await self.quiet(handle)
        return handle

    async def signal(self, handle: Handle, signal: Any, fact: Any) -> None:
        await handle.signal(signal, fact)
        await self.quiet(handle)

    @asynccontextmanager
    async def held_up(self, handle: Handle) -> AsyncGenerator[None]:
        """PostgreSQL is slow: no step of the process can be written while the block runs."""
        async with self.sessions.begin() as session:
            row = sa.select(ProcessRow).where(ProcessRow.workflow_id == handle.id)
            await session.scalars(row.with_for_update())
            yield

    async def tell_held_up(self, handle: Handle, signal: Any, fact: Any) -> None:
        """A fact that comes in the middle of a step; until the process knows of it."""

        async def is_in_a_step() -> bool:
            last = (await handle.fetch_history()).events[-1]
            return last.HasField("workflow_task_started_event_attributes")

        async def has_heard() -> bool:
            """A workflow task that takes long is prolonged, and learns what has come."""
            told = prolonged = 0
            for event in (await handle.fetch_history()).events:
                if event.HasField("workflow_execution_signaled_event_attributes"):
                    told = event.event_id
                elif event.HasField("workflow_task_completed_event_attributes"):
                    prolonged = event.event_id
            return 0 < told < prolonged

        await becomes(is_in_a_step, True)
        await handle.signal(signal, fact)
        await becomes(has_heard, True)

    async def command(self, handle: Handle, update: Any, command: Any) -> None:
        before = len(await self.lines(handle))
        update_id = str(uuid4())  # of each try: it is carried out once
        for _ in range(5):
            try:
                await handle.execute_update(update, command, id=update_id)
            except RPCError as error:
                # The server lets go of an update that meets a workflow task which has to be
                # repeated because of something else that happened meanwhile.
                if error.status is not RPCStatusCode.FAILED_PRECONDITION:
                    raise
                await asyncio.sleep(0.2)
            else:
                break

        async def is_carried_out() -> bool:
            return len(await self.lines(handle)) > before

        await becomes(is_carried_out, True)
        await self.quiet(handle)

    async def refused(self, handle: Handle, update: Any, command: Any) -> list[str]:
        """Give a command that can't be obeyed; what is allowed instead, by the refusal."""
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(update, command)
        cause = refused.value.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == Refusal.NOT_ALLOWED_NOW
        [allowed] = cause.details
        return list(allowed)

    async def complete(self, handle: Handle, kind: TaskKind, outcome: str) -> None:
        """Complete the one open task of a kind."""
        [task] = await self.tasks(handle, kind=kind, state=TaskState.OPEN)
        done = TaskCompleted(task_id=task.id, outcome=outcome, by="staff-7")
        await self.command(handle, "complete_task", done)

    # --- time --------------------------------------------------------------------------------

    async def now(self, handle: Handle) -> datetime:
        """What a process believes the time to be."""
        return await self._temporal.get_current_time(handle)

    async def skip(self, handle: Handle, duration: timedelta) -> None:
        """Let time pass for one process, with all that follows in it."""
        await asyncio.wait_for(self._temporal.fast_forward(handle, duration), 30)
        await self.quiet(handle)

    async def skip_to(self, handle: Handle, moment: datetime) -> None:
        await self.skip(handle, moment - await self.now(handle))

    async def skip_to_next_timer(self, handle: Handle) -> None:
        """Just before it: time can't be skipped past the start of a child, which may follow."""
        due_at = (await self.standing(handle)).next_timer_machine_at
        assert due_at is not None, f"{handle.id} waits for no moment"
        await self.skip_to(handle, due_at - timedelta(milliseconds=200))

    async def quiet(self, handle: Handle) -> None:
        """Wait until a process has nothing to do: a step is part of a workflow task."""

        async def under_way() -> int:
            """The attempts at a workflow task; 0 when there is none."""
            description = (await handle.describe()).raw_description
            attempt = description.pending_workflow_task.attempt
            assert attempt < 6, f"{handle.id} can't go on"
            return attempt

        await becomes(under_way, 0)

    # --- what came of it ---------------------------------------------------------------------

    def process(self, workflow_id: str) -> Handle:
        """A process somebody else starts or started."""
        self._seen[workflow_id] = None
        return self.client.get_workflow_handle(workflow_id)

    def lifecycle(self, customer_id: UUID) -> Handle:
        return self.process(lifecycle_workflow_id(customer_id))

    async def is_running(self, handle: Handle) -> bool:
        return (await handle.describe()).status is WorkflowExecutionStatus.RUNNING

    async def story(self, of: Handle | UUID) -> list[str]:
        """The timeline of a process, or of a customer, in the order in which it was written."""
        return [line.kind for line in await self.lines(of)]

    async def lines(self, of: Handle | UUID, kind: str | None = None) -> Sequence[TimelineLine]:
        found = sa.select(TimelineLine).order_by(TimelineLine.id)
        if isinstance(of, UUID):
            found = found.where(TimelineLine.customer_id == of)
        else:
            found = found.where(TimelineLine.workflow_id == of.id)
        return await self.rows(found if kind is None else found.where(TimelineLine.kind == kind))

    async def line(self, of: Handle | UUID, kind: str) -> TimelineLine:
        [line] = await self.lines(of, kind)
        return line

    async def told(self, of: Handle | UUID) -> list[str]:
        """The templates of the messages that were asked for, in order."""
        return [message.template.value for message in await self.messages(of)]

    async def messages(self, of: Handle | UUID) -> Sequence[Message]:
        found = sa.select(Message).order_by(Message.asked_at, Message.id)
        if isinstance(of, UUID):
            return await self.rows(found.where(Message.customer_id == of))
        return await self.rows(found.where(Message.workflow_id == of.id))

    async def tasks(self, of: Handle | UUID, **is_: Any) -> Sequence[Task]:
        found = sa.select(Task).order_by(Task.opened_at, Task.id).filter_by(**is_)
        if isinstance(of, UUID):
            return await self.rows(found.where(Task.customer_id == of))
        return await self.rows(found.where(Task.workflow_id == of.id))

    async def task(self, of: Handle | UUID, kind: TaskKind) -> Task:
        [task] = await self.tasks(of, kind=kind)
        return task

    async def row(self, table: type[Row], key: Any) -> Row:
        async with self.sessions() as session:
            return await session.get_one(table, key)

    async def rows(self, statement: sa.Select[T]) -> Sequence[T]:
        async with self.sessions() as session:
            return (await session.scalars(statement)).all()

    async def standing(self, handle: Handle) -> ProcessRow:
        """Where PostgreSQL says that a process stands."""
        return await self.row(ProcessRow, handle.id)

    async def stage(self, customer_id: UUID) -> str:
        """Empty before the first fact."""
        async with self.sessions() as session:
            lifecycle = await session.get(Lifecycle, customer_id)
        return "" if lifecycle is None else lifecycle.stage.value

    async def histories(self) -> list[WorkflowHistory]:
        """Every run of the processes seen since the last call."""
        await asyncio.sleep(1)  # visibility is told after the fact
        found = [
            await self.client.get_workflow_handle(one.id, run_id=one.run_id).fetch_history()
            for workflow_id in self._seen
            async for one in self.client.list_workflows(f"WorkflowId = '{workflow_id}'")
        ]
        self._seen.clear()
        return found

    async def ends(self, handle: Handle) -> str:
        """The outcome of a process that ends now; agrees with its row."""
        outcome = str(await asyncio.wait_for(handle.result(), 15))
        row = await self.standing(handle)
        assert row.state.ended, f"{handle.id} ended, its row says {row.state}"
        assert row.next_timer_at is None
        return outcome


def _consent(customer_id: UUID, state: ConsentState, channel: Channel = Channel.EMAIL) -> Consent:
    return Consent(
        customer_id=customer_id,
        channel=channel,
        purpose=Purpose.MARKETING,
        state=state,
        source="form",
        occurred_at=datetime.now(UTC),
    )
