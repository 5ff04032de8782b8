"""Each role's home: what needs me now, by the time that is left."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from console import cases, tasks
from console.asked import CustomersTime, time_of
from console.desk import PREFIX, AtDesk, Desk, Refused, segment
from console.processes import unless_away
from console.remedies import remedy
from console.rendering import moment, words
from console.routes import ConsoleRoute
from database.queries import homes
from database.queries.processes import names_of
from database.queries.tasks import for_me
from database.support import Case
from database.tasks import Task
from domain.processes import ProcessKind
from domain.promises import end_of_day
from domain.tasks import Role, TaskKind

router = APIRouter(route_class=ConsoleRoute)

_FIRST = 5  # alarms; the others are on the screen of operations
_REPLIES = (TaskKind.ANSWER_REPLY, TaskKind.ANSWER_REPLY_ESCALATED)


@dataclass(frozen=True)
class Item:
    """One thing that needs somebody. `version` differs when it changes."""

    key: str
    version: object
    title: str
    address: str
    state: str = ""
    note: str = ""
    customer: str = ""
    customer_id: object = ""
    due: datetime | None = None
    at: datetime | None = None  # of what has happened
    time: CustomersTime | None = None


@dataclass(frozen=True)
class Section:
    """`more`: the list that it is the beginning of."""

    title: str
    items: Sequence[Item]
    nothing: str
    remedy: str = ""
    more: str = ""


Builder = Callable[[Desk, AsyncSession], Awaitable[Section]]


@router.get("")
async def show_home(desk: AtDesk) -> Response:
    role = desk.viewer.role
    sections = []
    for build in HOMES[role]:
        # A session of its own: what asks the API meanwhile must not hold a connection it waits for.
        async with desk.database() as session:
            sections.append(await build(desk, session))
    async with desk.database() as session:
        is_manager = role is Role.MANAGER
        shares = await homes.shares(session) if is_manager else []
        counted = await homes.count_open(session) if is_manager else None
    return desk.page("home.html", sections=sections, shares=shares, counted=counted)


# --- tasks and cases ------------------------------------------------------------------------------


async def _replies_waiting(desk: Desk, session: AsyncSession) -> Section:
    rows = await homes.tasks_due(session, _mine(desk), Task.kind.in_(_REPLIES))
    return Section(
        "Replies waiting for a first response",
        [_task(row) for row in rows],
        "Nobody waits for an answer.",
        "Who answers a first contact stands here until somebody has responded.",
    )


async def _other_tasks(desk: Desk, session: AsyncSession) -> Section:
    rows = await homes.tasks_due(session, _mine(desk), Task.kind.not_in(_REPLIES))
    return _tasks_section(rows)


async def _all_tasks(desk: Desk, session: AsyncSession) -> Section:
    return _tasks_section(await homes.tasks_due(session, _mine(desk)))


def _mine(desk: Desk) -> Any:
    return for_me(desk.viewer.id, tasks.roles_of(desk.viewer.role))


def _tasks_section(rows: homes.Rows) -> Section:
    return Section(
        "Tasks for me",
        [_task(row) for row in rows],
        "No task waits.",
        "Processes open tasks here when they need a person.",
        f"{PREFIX}/tasks",
    )


def _task(row: Any) -> Item:
    line = tasks.line_of(row)
    task = line.task
    return Item(
        f"task-{task.id}",
        task.version,
        words(task.kind),
        f"{PREFIX}/tasks/{task.id}",
        task.state,
        line.about,
        line.customer,
        task.customer_id,
        task.due_at,
        time=line.time,
    )


async def _my_cases(desk: Desk, session: AsyncSession) -> Section:
    rows = await homes.cases_due(session, Case.owner == desk.viewer.id)
    return Section(
        "My cases",
        [_case(row) for row in rows],
        "No open case is yours.",
        "Take one of those below.",
        f"{PREFIX}/cases?show=mine",
    )


async def _unassigned(desk: Desk, session: AsyncSession) -> Section:
    rows = await homes.cases_due(session, Case.owner.is_(None))
    return Section(
        "Nobody's yet",
        [_case(row) for row in rows],
        "Every open case has an owner.",
        more=f"{PREFIX}/cases?show=unassigned",
    )


async def _came_back(desk: Desk, session: AsyncSession) -> Section:
    rows = await homes.cases_that_came_back(session)
    return Section(
        "Customers who just answered",
        [_case(row, row.due_at) for row in rows],
        "No customer has answered since we wrote.",
        "A case that waited for its customer stands here as soon as the answer comes.",
    )


async def _strangers(desk: Desk, session: AsyncSession) -> Section:
    def told(row: Any) -> Item:
        return Item(
            f"stranger-{row.id}",
            row.outcome,
            row.begins or "No words",
            f"{PREFIX}/{row.screen}/{row.id}",
            row.outcome,
            f"from {row.sender or 'nobody'}",
            at=row.received_at,
        )

    return Section(
        "Mails and texts of strangers",
        [told(row) for row in await homes.strangers(session)],
        "Whatever came has found its customer.",
        "Give each to its customer, or dismiss it.",
        f"{PREFIX}/received-mails",
    )


async def _recoveries(desk: Desk, session: AsyncSession) -> Section:
    return Section(
        "Disappointed customers",
        [_case(row) for row in await homes.recoveries(session)],
        "Nobody is disappointed right now.",
        "A bad answer to a survey opens a recovery case by itself.",
        f"{PREFIX}/feedback?loop=open",
    )


def _case(row: Any, due: datetime | None = None) -> Item:
    line = cases.line_of(row)
    case = line.case
    return Item(
        f"case-{case.id}",
        line.version,
        case.reference,
        f"{PREFIX}/cases/{case.id}",
        case.state,
        line.begins,
        line.customer,
        case.customer_id,
        due or line.due,
        time=line.time,
    )


async def _breaches(desk: Desk, session: AsyncSession) -> Section:
    def told(row: Any) -> Item:
        line = cases.line_of(row)
        case = line.case
        late = "resolution" if case.resolution_missed_at else "first response"
        return Item(
            f"breach-{case.id}",
            f"{case.state} {row.missed_at}",
            case.reference,
            f"{PREFIX}/cases/{case.id}",
            case.state,
            f"missed: {late}",
            line.customer,
            case.customer_id,
            at=row.missed_at,
        )

    return Section(
        "Clocks missed in the last 7 days",
        [told(row) for row in await homes.breaches(session)],
        "No clock of a case was missed.",
    )


# --- promises, contacts, silence ------------------------------------------------------------------


async def _promises_owed(desk: Desk, session: AsyncSession) -> Section:
    def told(row: Any) -> Item:
        promise = row[0]
        return Item(
            f"promise-{promise.id}",
            promise.state,
            promise.text,
            f"{PREFIX}/orders/{promise.order_id}",
            promise.state,
            f"order {row.reference}",
            row.name,
            promise.customer_id,
            end_of_day(promise.due_on, row.zone) if promise.due_on else None,
            time=time_of(row),
        )

    return Section(
        "Promises we owe",
        [told(row) for row in await homes.promises_owed(session)],
        "No order on its way carries a promise.",
    )


async def _contacts(desk: Desk, session: AsyncSession) -> Section:
    return await _running(
        session,
        ProcessKind.MARKETING,
        "First contacts under way",
        "Nobody is being contacted for the first time.",
        "Start a marketing contact on a customer's page.",
    )


async def _save_plays(desk: Desk, session: AsyncSession) -> Section:
    return await _running(
        session,
        ProcessKind.RETENTION,
        "Customers we try to keep",
        "No save play runs.",
        "One starts when a customer falls silent, or from a customer's page.",
    )


async def _running(
    session: AsyncSession, kind: ProcessKind, title: str, nothing: str, remedy: str
) -> Section:
    rows = await homes.processes_next(session, kind)
    more = f"{PREFIX}/processes/kinds/{kind}"
    return Section(title, [_process(row) for row in rows], nothing, remedy, more)


async def _silent(desk: Desk, session: AsyncSession) -> Section:
    def told(row: Any) -> Item:
        lifecycle = row[0]
        return Item(
            f"silent-{lifecycle.customer_id}",
            lifecycle.updated_at,
            row.name,
            f"{PREFIX}/customers/{lifecycle.customer_id}",
            lifecycle.stage,
            "silence would mean something",
            due=lifecycle.silence_due_at,
            time=time_of(row),
        )

    return Section(
        "Customers falling silent",
        [told(row) for row in await homes.silent_customers(session)],
        "No customer is quiet.",
    )


# --- the machinery --------------------------------------------------------------------------------


def _process(row: Any) -> Item:
    process = row[0]
    return Item(
        f"process-{process.workflow_id}",
        process.updated_at,
        process.step,
        f"{PREFIX}/processes/{segment(process.workflow_id)}",
        process.state,
        f"waits for {process.waiting_for}" if process.waiting_for else words(process.kind),
        row.name,
        process.customer_id,
        process.next_timer_at,
        time=time_of(row),
    )


async def _stuck(desk: Desk, session: AsyncSession) -> Section:
    rows = await homes.processes_stuck(session)
    return Section(
        "Processes that should have gone on",
        [_process(row) for row in rows],
        "Every process goes on when it should.",
        more=f"{PREFIX}/operations",
    )


async def _alarms(desk: Desk, session: AsyncSession) -> Section:
    """One question to Temporal; while it is away the rest of the home stands."""
    title, more = "Processes that failed or stumble", f"{PREFIX}/operations"
    found = await unless_away(desk, "/operations/alarms")
    if found is None:
        return Section(title, [], "Temporal does not answer: processes wait, nothing is lost.")
    alarms, at_least = found["items"], "" if found["complete"] else " or more"
    first = alarms[:_FIRST]
    ids = {one["customer_id"]: UUID(one["customer_id"]) for one in first if one["customer_id"]}
    names = await names_of(session, ids.values())
    items = [
        Item(
            f"alarm-{one['workflow_id']}",
            one["trouble"],
            words(one["kind"] or one["workflow_type"]),
            f"{PREFIX}/processes/{segment(one['workflow_id'])}",
            one["trouble"],
            one["means"],
            names.get(ids[one["customer_id"]], "") if one["customer_id"] else "",
            one["customer_id"] or "",
            at=moment(one["since"]),
        )
        for one in first
    ]
    if items:
        title += f": {len(alarms)}{at_least}"
    return Section(title, items, "None failed, none stumbles.", more=more)


async def _messages_in_trouble(desk: Desk, session: AsyncSession) -> Section:
    def told(row: Any) -> Item:
        message = row[0]
        return Item(
            f"message-{message.id}",
            message.state,
            words(message.template),
            f"{PREFIX}/messages/{message.id}",
            message.state,
            message.provider_answer or "",
            row.name or "",
            message.customer_id or "",
            at=message.queued_at,
        )

    return Section(
        "Messages that failed, or whose fate nobody knows",
        [told(row) for row in await homes.messages_in_trouble(session)],
        "Every message has arrived or has its reason.",
        more=f"{PREFIX}/messages",
    )


async def _paused_schedules(desk: Desk, session: AsyncSession) -> Section:
    title, more = "Schedules that are paused", f"{PREFIX}/schedules"
    try:
        schedules = (await desk.get("/schedules"))["items"]
    except Refused as refused:  # Temporal is away: the rest of the home is not
        return Section(title, [], str(refused.problem["detail"]), remedy(refused.problem))
    paused = [
        Item(
            f"schedule-{one['name']}",
            one["paused"],
            words(one["name"]),
            f"{more}/{segment(one['name'])}",
            "paused",
            one["note"],
        )
        for one in schedules
        if one["paused"]
    ]
    return Section(title, paused, "All of them run.", more=more)


async def _accounts(desk: Desk, session: AsyncSession) -> Section:
    accounts = [
        Item(
            f"account-{one.id}",
            one.version,
            one.name,
            f"{PREFIX}/staff/{one.id}",
            "closed" if one.disabled_at else "open",
            words(one.role) if one.disabled_at else "has not signed in yet",
            at=one.disabled_at or one.recorded_at,
        )
        for one in await homes.accounts_to_look_at(session)
    ]
    return Section(
        "Accounts to look at",
        accounts,
        "Everybody has signed in and may.",
        more=f"{PREFIX}/staff",
    )


_OPS = (_alarms, _stuck, _messages_in_trouble, _paused_schedules)
HOMES: Mapping[Role, Sequence[Builder]] = {
    Role.SALES_REP: (_replies_waiting, _contacts, _promises_owed, _other_tasks),
    Role.SUPPORT_AGENT: (_my_cases, _came_back, _unassigned, _strangers, _all_tasks),
    Role.ACCOUNT_MANAGER: (_recoveries, _all_tasks, _save_plays, _silent),
    Role.OPS: (*_OPS, _all_tasks),
    Role.MANAGER: (_breaches, _all_tasks),
    Role.ADMIN: (*_OPS, _accounts),
}
