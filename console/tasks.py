"""Tasks: the queue, one task with its context, taken, given back and completed."""

from typing import Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.paging import Paging, read_page
from console.asked import CustomersTime, one_of, time_of
from console.desk import AtDesk, Desk, Json, Refused, Undo, segment
from console.outcomes import ASKS, THEN
from console.routes import ConsoleRoute
from console.steps import step_shown
from database.queries.cases import names_of_staff
from database.queries.tasks import OVERDUE, for_me, opening_of, tasks_with_clocks
from database.tasks import Task
from domain.tasks import Role, TaskKind, TaskState
from domain.timeline import words_for

router = APIRouter(route_class=ConsoleRoute)

_OVER = (TaskState.DONE, TaskState.CANCELLED)


class TaskLine(NamedTuple):
    task: Task
    customer: str
    about: str  # the reference of its case or order
    time: CustomersTime


def line_of(row: Any) -> TaskLine:
    """Of a row of `tasks_with_clocks`."""
    return TaskLine(row[0], row.name, row.about, time_of(row))


def roles_of(role: Role) -> tuple[Role, ...]:
    """Whose open tasks somebody sees first: an administrator everybody's."""
    return tuple(Role) if role is Role.ADMIN else (role,)


@router.get("/tasks")
async def list_tasks(desk: AtDesk, paging: Paging) -> Response:
    """Mine and my role's open ones, by the time that is left; the filters are in the address."""
    state = one_of(desk, "state", TaskState)
    show = desk.filters("show").get("show", "")
    given = {
        Task.role: one_of(desk, "role", Role),
        Task.kind: one_of(desk, "kind", TaskKind),
        Task.owner: desk.filters("owner").get("owner"),
        Task.state: state,
    }
    statement = tasks_with_clocks().where(
        *(column == value for column, value in given.items() if value is not None)
    )
    if state is None:
        statement = statement.where(Task.ended_at.is_(None))
    if show == "mine":
        statement = statement.where(Task.owner == desk.viewer.id)
    elif show != "all" and not (given[Task.owner] or given[Task.role]):
        statement = statement.where(for_me(desk.viewer.id, roles_of(desk.viewer.role)))
    if desk.filters("overdue"):
        statement = statement.where(OVERDUE)
    async with desk.database() as session:
        page = await read_page(
            session,
            statement,
            [Task.due_at, Task.id],
            paging,
            line_of,
            descending=state in _OVER,
        )
        names = await names_of_staff(session)
    return desk.page(
        "tasks/list.html",
        page=page,
        names=names,
        roles=list(Role),
        kinds=list(TaskKind),
        states=list(TaskState),
    )


@router.get("/tasks/{task_id}")
async def show_task(desk: AtDesk, task_id: UUID) -> Response:
    task = await desk.get(f"/tasks/{task_id}")
    kind = TaskKind(task["kind"])
    async with desk.database() as session:
        opening = await opening_of(session, task_id)
        names = await names_of_staff(session)
        time = await _time(session, task_id)
    case = task["case_id"] and await _known(desk, f"/cases/{task['case_id']}")
    return desk.page(
        "tasks/one.html",
        task=task,
        time=time,
        names=names,
        customer=await desk.get(f"/customers/{task['customer_id']}"),
        process=await _known(desk, f"/processes/{segment(task['workflow_id'])}"),
        order=task["order_id"] and await _known(desk, f"/orders/{task['order_id']}"),
        case=case,
        mail=await _mail_asked_about(desk, task) if kind is TaskKind.ATTRIBUTE_MAIL else None,
        asks=ASKS[kind],
        then=THEN[kind],
        wrote=(opening and opening.said) or (case and case["text"]) or "",
        because=words_for(opening.kind, opening.facts) if opening else "",
    )


@router.post("/tasks/{task_id}/claim")
async def claim_task(desk: AtDesk, task_id: UUID) -> Response:
    await desk.act("POST", f"/tasks/{task_id}/claim", {"owner": desk.viewer.id})
    return desk.back("The task is yours", undo=Undo(f"/console/tasks/{task_id}/release"))


@router.post("/tasks/{task_id}/release")
async def release_task(desk: AtDesk, task_id: UUID) -> Response:
    """Give it back: what I have; a task of a colleague stays theirs."""
    await desk.act("POST", f"/tasks/{task_id}/release", {"owner": desk.viewer.id})
    return desk.back(
        "The task waits for somebody again", undo=Undo(f"/console/tasks/{task_id}/claim")
    )


@router.post("/tasks/{task_id}/complete")
async def complete_task(desk: AtDesk, task_id: UUID) -> Response:
    task = await desk.get(f"/tasks/{task_id}")
    async with step_shown(desk, task["workflow_id"]):
        await desk.act("POST", f"/tasks/{task_id}/complete", {"outcome": desk.text("outcome")})
    return desk.back("The task is done; its process goes on", to=f"/console/tasks/{task_id}")


async def _time(session: AsyncSession, task_id: UUID) -> CustomersTime:
    return time_of((await session.execute(tasks_with_clocks().where(Task.id == task_id))).one())


async def _known(desk: Desk, path: str) -> Json | None:
    """None where the API doesn't know it yet: its first step comes after the task's request."""
    try:
        return await desk.get(path)
    except Refused as refused:
        if refused.status != 404:
            raise
        return None


async def _mail_asked_about(desk: Desk, task: Json) -> Json | None:
    asked = {"customer_id": task["customer_id"], "limit": 200}
    mails = (await desk.get("/received-mails", **asked))["items"]
    return next((mail for mail in mails if mail["task_id"] == task["id"]), None)
