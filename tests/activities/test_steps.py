"""A step is taken once; where its process stands is right even after a task thrown away."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from activities.steps import begin_step, open_task
from database.base import Sessions
from database.customers import Customer
from database.processes import ProcessRow
from database.tasks import Task
from domain.processes import ProcessKind, ProcessState, Standing, Step
from domain.tasks import Role, TaskKind, TaskRequest, TaskState, task_id_of


async def test_an_end_that_was_overtaken_still_ends_the_process(sessions: Sessions) -> None:
    """The end is written and its task thrown away; another step comes first, then the end."""
    customer = uuid4()
    async with sessions.begin() as session:
        session.add(Customer(id=customer, reference="c-1", name="Ada Lovelace"))
    end = _step(customer, "ended", ProcessState.COMPLETED)
    assert await _take(sessions, end)
    assert await _take(sessions, _step(customer, "task_completed", ProcessState.RUNNING))
    assert not await _take(sessions, end)
    async with sessions() as session:
        row = await session.get_one(ProcessRow, end.workflow_id)
        assert (row.state, row.step, row.ended_at) == (ProcessState.COMPLETED, "ended", end.at)


async def test_a_task_the_process_forgot_ends_with_it(sessions: Sessions) -> None:
    """It was opened by a step that was thrown away, on a way that was not taken in the end."""
    customer = uuid4()
    async with sessions.begin() as session:
        session.add(Customer(id=customer, reference="c-1", name="Ada Lovelace"))
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


async def test_a_step_taken_again_changes_nothing(sessions: Sessions) -> None:
    customer = uuid4()
    async with sessions.begin() as session:
        session.add(Customer(id=customer, reference="c-1", name="Ada Lovelace"))
    first, second = (_step(customer, key, ProcessState.RUNNING) for key in ("first", "second"))
    assert await _take(sessions, first)
    assert await _take(sessions, second)
    assert not await _take(sessions, first)
    async with sessions() as session:
        assert (await session.get_one(ProcessRow, first.workflow_id)).step == "second"


async def _take(sessions: Sessions, step: Step) -> bool:
    async with sessions.begin() as session:
        return await begin_step(session, step, "tested")


def _step(customer: UUID, key: str, state: ProcessState) -> Step:
    return Step(
        workflow_id=f"marketing/{customer}/1",
        kind=ProcessKind.MARKETING,
        customer_id=customer,
        key=key,
        at=datetime.now(UTC),
        standing=Standing(step=key, state=state),
    )
