"""Tasks: what people have to do; claimed, and completed with one of the outcomes to choose from."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.commands import CommandAccepted, command_process
from api.deps import Held, Session
from api.errors import Code, FieldError, Problem, not_found
from api.fields import Body, Instant, StaffId, Word
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs, note_change
from database.customers import Customer, Simulation
from database.tasks import Task
from domain.processes import TaskCompleted
from domain.staff import Permission
from domain.tasks import OUTCOMES, Role, TaskKind, TaskState
from workflows.process import Process

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=ApiRoute)


class TaskView(BaseModel):
    """A task; `opened_at` and `due_at` are business time. `outcomes`: what it may end with."""

    id: UUID
    customer_id: UUID
    workflow_id: str
    kind: TaskKind
    role: Role
    state: TaskState
    owner: str | None
    order_id: UUID | None
    case_id: UUID | None
    opened_at: datetime
    due_at: datetime
    overdue: bool
    ended_at: datetime | None
    outcome: str | None
    note: str | None
    outcomes: list[str]
    allowed_actions: list[str]


class Claim(Body):
    owner: StaffId


class Completion(Body):
    outcome: Word = Field(examples=["answered"])
    by: StaffId = "api"
    reason: Word | None = Field(None, description="a code, no personal data")


# What time it is for the customer of a task: the real clock, or the simulation's.
_NOW = sa.func.coalesce(
    Simulation.business_origin
    + sa.func.make_interval(
        0,
        0,
        0,
        0,
        0,
        0,
        sa.extract("epoch", sa.func.now() - Simulation.machine_origin) * Simulation.speed,
    ),
    sa.func.now(),
)


def _tasks() -> sa.Select[Task, bool]:
    overdue = (Task.ended_at.is_(None) & (Task.due_at < _NOW)).label("overdue")
    return (
        sa.select(Task, overdue)
        .join(Customer, Customer.id == Task.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
    )


@router.get("")
async def list_tasks(
    session: Session,
    paging: Paging,
    role: Annotated[Role | None, Query()] = None,
    state: Annotated[TaskState | None, Query()] = None,
    kind: Annotated[TaskKind | None, Query()] = None,
    owner: Annotated[StaffId | None, Query()] = None,
    customer_id: Annotated[UUID | None, Query()] = None,
    workflow_id: Annotated[str | None, Query(max_length=200)] = None,
    overdue: Annotated[bool | None, Query()] = None,
    due_before: Annotated[Instant | None, Query(description="business time")] = None,
) -> Page[TaskView]:
    """Tasks, the most urgent first."""
    filters = {
        Task.role: role,
        Task.state: state,
        Task.kind: kind,
        Task.owner: owner,
        Task.customer_id: customer_id,
        Task.workflow_id: workflow_id,
    }
    statement = _tasks().where(
        *(column == value for column, value in filters.items() if value is not None)
    )
    if state in (TaskState.OPEN, TaskState.CLAIMED):  # says nothing more, and names the index
        statement = statement.where(Task.ended_at.is_(None))
    if due_before is not None:
        statement = statement.where(Task.due_at < due_before)
    if overdue is not None:
        is_overdue = Task.ended_at.is_(None) & (Task.due_at < _NOW)
        statement = statement.where(is_overdue if overdue else ~is_overdue)
    return await read_page(
        session,
        statement,
        [Task.due_at, Task.id],
        paging,
        lambda row: _view(row[0], row[1]),
        descending=False,
    )


@router.get("/{task_id}")
async def show_task(task_id: UUID, session: Session) -> TaskView:
    """One task with the outcomes to choose from."""
    row = (await session.execute(_tasks().where(Task.id == task_id))).one_or_none()
    if row is None:
        raise not_found("task", task_id)
    return _view(row[0], row[1])


@router.post("/{task_id}/claim")
@needs(Permission.WORK_TASKS)
async def claim_task(task_id: UUID, body: Claim, request: Request, session: Session) -> TaskView:
    """Take an open task. 409 when somebody else has it; taking one's own again changes nothing."""
    before = await show_task(task_id, session)
    note_change(request, before={"state": before.state, "owner": before.owner})
    claimed = await session.scalar(
        sa.update(Task)
        .where(
            Task.id == task_id,
            sa.or_(
                Task.state == TaskState.OPEN,
                (Task.state == TaskState.CLAIMED) & (Task.owner == body.owner),
            ),
        )
        .values(state=TaskState.CLAIMED, owner=body.owner, version=Task.version + 1)
        .returning(Task.id)
    )
    view = await show_task(task_id, session)
    if claimed is None:
        whose = f" by {view.owner}" if view.owner else ""
        raise Problem(
            Code.NOT_ALLOWED_NOW,
            f"the task is {view.state}{whose}",
            allowed_actions=view.allowed_actions,
        )
    return view


@router.post("/{task_id}/complete")
@needs(Permission.WORK_TASKS)
async def complete_task(
    task_id: UUID, body: Completion, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """End a task with one of its outcomes; the process that waits for it goes on."""
    task = await _task(session, task_id)
    outcomes = OUTCOMES[task.kind]
    if body.outcome not in outcomes:
        detail = f"must be one of: {', '.join(outcomes)}"
        raise Problem(
            Code.INVALID_REQUEST,
            f"/outcome: {detail}",
            errors=[FieldError(pointer="/outcome", code="unknown_outcome", detail=detail)],
        )
    if task.ended_at is not None:
        raise Problem(Code.NOT_ALLOWED_NOW, f"the task is {task.state}", allowed_actions=[])
    done = TaskCompleted(
        task_id=task_id, outcome=body.outcome, by=body.by, reason=body.reason or ""
    )
    return await command_process(
        request, session, held, task.workflow_id, Process.complete_task, done
    )


async def _task(session: AsyncSession, task_id: UUID) -> Task:
    task = await session.get(Task, task_id)
    if task is None:
        raise not_found("task", task_id)
    return task


def _view(task: Task, overdue: bool) -> TaskView:
    actions = {TaskState.OPEN: ["claim", "complete"], TaskState.CLAIMED: ["complete"]}
    return TaskView(
        id=task.id,
        customer_id=task.customer_id,
        workflow_id=task.workflow_id,
        kind=task.kind,
        role=task.role,
        state=task.state,
        owner=task.owner,
        order_id=task.order_id,
        case_id=task.case_id,
        opened_at=task.opened_at,
        due_at=task.due_at,
        overdue=overdue,
        ended_at=task.ended_at,
        outcome=task.outcome,
        note=task.note,
        outcomes=list(OUTCOMES[task.kind]),
        allowed_actions=actions.get(task.state, []),
    )
