"""A step is taken once; where its process stands is right even after a task thrown away."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.lifecycle import LifecycleActivities
from activities.steps import Begun, begin_step, open_task, queue_message
from activities.support import SupportActivities
from database.base import Sessions
from database.customers import Customer
from database.messages import Message
from database.processes import Lifecycle, ProcessRow
from database.support import Case
from database.tasks import Task
from domain.lifecycle import LifecycleStep
from domain.messages import MessageRequest, Template
from domain.policies import CaseKind, Priority
from domain.processes import ProcessKind, ProcessState, Stage, Standing, Step
from domain.support import CaseEscalatedStep, CaseState, CaseStep
from domain.tasks import Role, TaskKind, TaskRequest, TaskState, task_id_of

_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
async def customer(sessions: Sessions) -> UUID:
    known = uuid4()
    async with sessions.begin() as session:
        session.add(Customer(id=known, reference="c-1", name="Ada Lovelace"))
    return known


async def test_an_end_that_was_overtaken_still_ends_the_process(
    sessions: Sessions, customer: UUID
) -> None:
    """The end is written and its task thrown away; another step comes first, then the end."""
    end = _step(customer, "ended", ProcessState.COMPLETED)
    assert await _take(sessions, end)
    assert await _take(sessions, _step(customer, "task_completed", ProcessState.RUNNING))
    assert not await _take(sessions, end)
    async with sessions() as session:
        row = await session.get_one(ProcessRow, end.workflow_id)
        assert (row.state, row.step, row.ended_at) == (ProcessState.COMPLETED, "ended", end.at)


async def test_a_task_the_process_forgot_ends_with_it(sessions: Sessions, customer: UUID) -> None:
    """It was opened by a step that was thrown away, on a way that was not taken in the end."""
    escalated = _step(customer, "escalated", ProcessState.RUNNING)
    async with sessions.begin() as session:
        await begin_step(session, escalated, "tested")
        kind, role = TaskKind.RESOLVE_CASE, Role.MANAGER
        request = TaskRequest(key="escalated", kind=kind, role=role, due_at=escalated.at)
        await open_task(session, escalated, request)
    end = _step(customer, "ended", ProcessState.COMPLETED)
    assert await _take(sessions, end)
    async with sessions() as session:
        task = await session.get_one(Task, task_id_of(end.workflow_id, "escalated"))
        assert (task.state, task.ended_at, task.version) == (TaskState.CANCELLED, end.at, 2)


async def test_an_end_of_a_worker_that_was_too_slow_takes_no_task_away(
    sessions: Sessions, customer: UUID
) -> None:
    asked = _decided(customer, "asked", 20)
    async with sessions.begin() as session:
        await begin_step(session, asked, "tested")
        request = TaskRequest(
            key="asked", kind=TaskKind.RESOLVE_CASE, role=Role.MANAGER, due_at=asked.at
        )
        await open_task(session, asked, request)
    end = _step(customer, "ended", ProcessState.COMPLETED, _NOON)
    assert await _begun(sessions, end) is Begun.OVERTAKEN
    async with sessions() as session:
        task = await session.get_one(Task, task_id_of(end.workflow_id, "asked"))
        assert task.state is TaskState.OPEN


async def test_a_step_taken_again_changes_nothing(sessions: Sessions, customer: UUID) -> None:
    first, second = (_step(customer, key, ProcessState.RUNNING) for key in ("first", "second"))
    assert await _take(sessions, first)
    assert await _take(sessions, second)
    assert not await _take(sessions, first)
    async with sessions() as session:
        assert (await session.get_one(ProcessRow, first.workflow_id)).step == "second"


async def test_a_step_that_comes_after_another_the_second_time_says_where_its_process_stands(
    sessions: Sessions, customer: UUID
) -> None:
    """Its task was thrown away; on the next attempt a fact that came meanwhile is dealt with first.

    A life under kills showed it: the row said that the process waits for a moment long past.
    """
    assert await _begun(sessions, _decided(customer, "silence", 0)) is Begun.FIRST
    assert await _begun(sessions, _decided(customer, "fact", 10)) is Begun.FIRST
    assert await _begun(sessions, _decided(customer, "silence", 10)) is Begun.AGAIN
    assert await _stands(sessions, customer) == "silence"


async def test_a_case_shows_what_its_process_came_to_and_counts_it_once(
    sessions: Sessions, temporal: WorkflowEnvironment, customer: UUID
) -> None:
    """Escalated, the task thrown away; on the next attempt the customer's answer comes first."""
    case_id = uuid4()
    async with sessions.begin() as session:
        session.add(
            Case(
                id=case_id,
                reference="CASE-1",
                customer_id=customer,
                kind=CaseKind.INCIDENT,
                state=CaseState.OPEN,
                priority=Priority.NORMAL,
                queue=Role.SUPPORT_AGENT,
                opened_at=_NOON,
            )
        )

    def step(key: str, seconds: int, state: CaseState, priority: Priority) -> dict[str, Any]:
        return {
            "workflow_id": f"case/{case_id}",
            "kind": ProcessKind.SUPPORT,
            "customer_id": customer,
            "key": key,
            "at": _NOON,
            "standing": Standing(step=key),
            "decided_at": _NOON + timedelta(seconds=seconds),
            "case_id": case_id,
            "case_kind": CaseKind.INCIDENT,
            "case_state": state,
            "priority": priority,
        }

    def escalated(seconds: int, state: CaseState) -> CaseEscalatedStep:
        fields = step("escalated", seconds, state, Priority.HIGH)
        return CaseEscalatedStep(**fields, clock="resolution")

    answered = CaseStep(**step("answer", 10, CaseState.IN_PROGRESS, Priority.NORMAL))
    activities = SupportActivities(sessions, temporal.client)
    await activities.record_case_escalated(escalated(0, CaseState.OPEN))
    await activities.record_case_noted(answered)
    await activities.record_case_escalated(escalated(10, CaseState.IN_PROGRESS))
    await activities.record_case_escalated(escalated(0, CaseState.OPEN))  # the old worker, late
    async with sessions() as session:
        case = await session.get_one(Case, case_id)
        assert (case.state, case.priority) == (CaseState.IN_PROGRESS, Priority.HIGH)
        assert (case.escalations, case.resolution_missed_at) == (1, _NOON)

    # It wrote these for the first time: they did happen, and are not where the case stands.
    urgent = step("another", 0, CaseState.OPEN, Priority.URGENT)
    await activities.record_case_escalated(CaseEscalatedStep(**urgent))
    closed = step("closed", 0, CaseState.CLOSED, Priority.HIGH)
    await activities.record_case_closed(CaseStep(**closed))
    async with sessions() as session:
        case = await session.get_one(Case, case_id)
        assert (case.state, case.priority) == (CaseState.IN_PROGRESS, Priority.HIGH)
        assert (case.escalations, case.closed_at) == (2, None)
    with pytest.raises(RPCError, match="not found"):  # the relationship has not been told
        await temporal.client.get_workflow_handle(f"customer/{customer}").describe()


async def test_a_relationship_is_in_the_stage_its_process_came_to(
    sessions: Sessions, temporal: WorkflowEnvironment, customer: UUID
) -> None:

    def noted(fact: str, seconds: int, stage: Stage) -> LifecycleStep:
        return LifecycleStep(
            workflow_id=f"customer/{customer}",
            kind=ProcessKind.LIFECYCLE,
            customer_id=customer,
            key=fact,
            at=_NOON,
            standing=Standing(step=fact),
            decided_at=_NOON + timedelta(seconds=seconds),
            fact=fact,
            stage=stage,
            stage_otherwise=stage,
        )

    activities = LifecycleActivities(sessions, temporal.client)
    for step in (
        noted("silence_noticed", 0, Stage.RETENTION),
        noted("process_ended", 10, Stage.QUIET),
        noted("silence_noticed", 10, Stage.RETENTION),
        noted("process_ended", 4, Stage.QUIET),  # the old worker, late
    ):
        await activities.record_fact(step)
    async with sessions() as session:
        assert (await session.get_one(Lifecycle, customer)).stage is Stage.RETENTION


async def test_what_a_worker_still_writes_after_another_took_over_is_not_where_it_stands(
    sessions: Sessions, customer: UUID
) -> None:
    assert await _begun(sessions, _decided(customer, "first", 0)) is Begun.FIRST
    assert await _begun(sessions, _decided(customer, "second", 10)) is Begun.FIRST
    assert await _begun(sessions, _decided(customer, "first", 0)) is Begun.LATE
    late = _decided(customer, "of the old worker", 4)
    assert await _begun(sessions, late) is Begun.OVERTAKEN  # it did happen
    assert await _stands(sessions, customer) == "second"
    # Another server's clock is a little behind.
    assert await _begun(sessions, _decided(customer, "third", 6)) is Begun.FIRST
    assert await _stands(sessions, customer) == "third"


async def test_asking_twice_for_a_message_makes_one_row_the_first(
    sessions: Sessions, customer: UUID
) -> None:
    step = _step(customer, "touch/1", ProcessState.RUNNING)
    for subject in ("first", "second"):
        async with sessions.begin() as session:
            await queue_message(session, step, _welcome(subject))
    async with sessions.begin() as session:
        await queue_message(session, step, _welcome("another touch", occurrence="2"))
    async with sessions() as session:
        rows = (await session.scalars(sa.select(Message).order_by(Message.id))).all()
    assert [row.context["subject"] for row in rows] == ["first", "another touch"]


@pytest.mark.parametrize("first_commits", [True, False])
async def test_two_transactions_that_ask_at_once_make_one_row(
    sessions: Sessions, customer: UUID, first_commits: bool
) -> None:
    """The second waits for the first: its row is there, or was never."""
    step = _step(customer, "touch/1", ProcessState.RUNNING)

    async def ask_second() -> None:
        async with sessions.begin() as session:
            await queue_message(session, step, _welcome("second"))

    async with sessions() as first:
        await queue_message(first, step, _welcome("first"))
        second = asyncio.create_task(ask_second())
        done, _ = await asyncio.wait([second], timeout=0.3)
        assert not done, "it did not wait for the other's end"
        await (first.commit() if first_commits else first.rollback())
    await second
    async with sessions() as session:
        [row] = await session.scalars(sa.select(Message))
    assert row.context["subject"] == ("first" if first_commits else "second")


def _welcome(subject: str, occurrence: str = "1") -> MessageRequest:
    return MessageRequest(
        template=Template.MARKETING_WELCOME, occurrence=occurrence, context={"subject": subject}
    )


async def _begun(sessions: Sessions, step: Step) -> Begun:
    async with sessions.begin() as session:
        return await begin_step(session, step, "tested")


async def _stands(sessions: Sessions, customer: UUID) -> str:
    async with sessions() as session:
        return (await session.get_one(ProcessRow, f"marketing/{customer}/1")).step


async def _take(sessions: Sessions, step: Step) -> bool:
    return bool(await _begun(sessions, step))


def _decided(customer: UUID, key: str, seconds: int) -> Step:
    return _step(customer, key, ProcessState.RUNNING, _NOON + timedelta(seconds=seconds))


def _step(
    customer: UUID, key: str, state: ProcessState, decided_at: datetime | None = None
) -> Step:
    return Step(
        decided_at=decided_at,
        workflow_id=f"marketing/{customer}/1",
        kind=ProcessKind.MARKETING,
        customer_id=customer,
        key=key,
        at=datetime.now(UTC),
        standing=Standing(step=key, state=state),
    )
