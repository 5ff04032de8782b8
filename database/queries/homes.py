"""What each role's home shows. Every query is bounded by its limit over an index or a small set:
what is open now, or the newest of a kind.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from database.customers import BUSINESS_NOW, CLOCK_COLUMNS, Customer, Simulation
from database.feedback import Feedback, Survey
from database.messages import Message
from database.orders import Order
from database.processes import Lifecycle, ProcessRow
from database.promises import Promise
from database.queries import operations
from database.queries.cases import ACTIVE, NEXT_CLOCK, cases_with_clocks
from database.queries.tasks import OVERDUE, tasks_with_clocks
from database.received_mails import OF_STRANGERS, ReceivedMail
from database.received_texts import ReceivedText
from database.staff import Staff
from database.support import Case
from database.tasks import Task
from domain.follow_up import Verdict
from domain.messages import MessageState
from domain.policies import CaseKind
from domain.processes import ProcessKind, ProcessState, Stage
from domain.promises import PromiseState
from domain.support import CaseState
from domain.tasks import TaskKind, TaskState

Rows = Sequence[Any]
Statement = sa.Select[*tuple[Any, ...]]

AT_MOST = 12  # rows of a list on a home
_BEGINS = 80  # characters of a text
SAMPLE = 500  # the newest of a kind, which a figure is taken from
_LOOKED_AT = 2000  # rows that a list is chosen from, where no index has its order
_TROUBLE = (MessageState.UNKNOWN, MessageState.FAILED)


async def _rows(session: AsyncSession, statement: Statement, limit: int = AT_MOST) -> Rows:
    return (await session.execute(statement.limit(limit))).all()


async def tasks_due(session: AsyncSession, *which: sa.ColumnElement[bool]) -> Rows:
    """Open tasks, the most urgent first."""
    wanted = tasks_with_clocks().where(Task.ended_at.is_(None), *which)
    return await _rows(session, wanted.order_by(Task.due_at, Task.id))


async def cases_due(session: AsyncSession, *which: sa.ColumnElement[bool]) -> Rows:
    """Cases that aren't resolved, by the clock that rings next."""
    wanted = cases_with_clocks().where(Case.state.in_(ACTIVE), *which)
    return await _rows(session, wanted.order_by(NEXT_CLOCK, Case.id))


async def cases_that_came_back(session: AsyncSession) -> Rows:
    """The customer has answered, and nobody has gone on since: by when somebody should."""
    wanted = (
        cases_with_clocks()
        .add_columns(Task.due_at)
        .join(Task, Task.case_id == Case.id)
        .where(
            Task.ended_at.is_(None),
            Task.kind == TaskKind.FIRST_RESPONSE,
            Task.opened_at > Case.opened_at,
            Case.state == CaseState.IN_PROGRESS,
        )
    )
    return await _rows(session, wanted.order_by(Task.due_at, Task.id))


async def recoveries(session: AsyncSession) -> Rows:
    return await cases_due(session, Case.kind == CaseKind.RECOVERY)


async def strangers(session: AsyncSession) -> Rows:
    """Mails and texts that wait for a person to say whose they are, the latest first."""
    columns = ("id", "sender", "outcome", "received_at")
    newest = sa.union_all(
        *(
            sa.select(
                sa.literal(screen).label("screen"),
                sa.func.left(words, _BEGINS).label("begins"),
                *(getattr(table, name) for name in columns),
            )
            .where(sa.text(OF_STRANGERS))
            .order_by(table.received_at.desc(), table.id.desc())
            .limit(AT_MOST)
            .subquery()
            .select()
            for screen, table, words in (
                ("received-mails", ReceivedMail, ReceivedMail.subject),
                ("received-texts", ReceivedText, ReceivedText.text),
            )
        )
    ).subquery()
    return await _rows(session, sa.select(newest).order_by(newest.c.received_at.desc()))


def _with_customer(
    table: type[Promise | ProcessRow | Lifecycle], *columns: InstrumentedAttribute[Any]
) -> Statement:
    """Rows of `table` and `columns`, with their customer's name and clock."""
    return (
        sa.select(table, *columns, Customer.name, *CLOCK_COLUMNS)
        .select_from(table)
        .join(Customer, Customer.id == table.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
    )


async def promises_owed(session: AsyncSession) -> Rows:
    """Of orders on their way, the nearest day first."""
    on_their_way = Order.delivered_at.is_(None) & Order.ended_at.is_(None)
    wanted = (
        _with_customer(Promise, Order.reference, Customer.zone)
        .join(Order, Order.id == Promise.order_id)
        .where(on_their_way, Promise.state == PromiseState.OPEN, Order.promised_on.is_not(None))
        .order_by(Order.promised_on, Order.id)
    )
    return await _rows(session, wanted)


async def processes_next(session: AsyncSession, kind: ProcessKind) -> Rows:
    """Those of a kind that run, by the moment at which each goes on by itself."""
    wanted = (
        _with_customer(ProcessRow)
        .where(ProcessRow.kind == kind, ProcessRow.state == ProcessState.RUNNING)
        .order_by(ProcessRow.next_timer_machine_at, ProcessRow.workflow_id)
    )
    return await _rows(session, wanted)


async def silent_customers(session: AsyncSession) -> Rows:
    """Quiet ones whose silence would soon mean something, or does already."""
    wanted = (
        _with_customer(Lifecycle)
        .where(Lifecycle.stage == Stage.QUIET, Lifecycle.silence_due_at.is_not(None))
        .order_by(Lifecycle.silence_due_at, Lifecycle.customer_id)
    )
    return await _rows(session, wanted)


async def processes_stuck(session: AsyncSession) -> Rows:
    """Their timer should have rung a minute ago: a worker is away, or a step fails again and again.

    By the machine's time.
    """
    wanted = (
        _with_customer(ProcessRow)
        .where(operations.OVERDUE)
        .order_by(ProcessRow.next_timer_machine_at)
    )
    return await _rows(session, wanted)


async def messages_in_trouble(session: AsyncSession) -> Rows:
    """Failed, or of an outcome nobody knows, the newest first."""
    wanted = (
        sa.select(Message, Customer.name)
        .outerjoin(Customer, Customer.id == Message.customer_id)
        .where(Message.state.in_(_TROUBLE))
        .order_by(Message.id.desc())
    )
    return await _rows(session, wanted)


async def accounts_to_look_at(session: AsyncSession) -> Sequence[Staff]:
    """Who has not signed in yet, or may not any more."""
    found = await session.scalars(
        sa.select(Staff)
        .where(sa.or_(Staff.one_time_password, Staff.disabled_at.is_not(None)))
        .order_by(Staff.recorded_at.desc())
        .limit(AT_MOST)
    )
    return found.all()


async def breaches(session: AsyncSession) -> Rows:
    """Clocks missed in the last 7 days of the customer's time, among the newest cases."""
    newest = (
        sa.select(Case.id).order_by(Case.opened_at.desc(), Case.id.desc()).limit(_LOOKED_AT)
    ).subquery()
    missed_at = sa.func.greatest(Case.first_response_missed_at, Case.resolution_missed_at)
    wanted = (
        cases_with_clocks()
        .add_columns(missed_at.label("missed_at"))
        .join(newest, newest.c.id == Case.id)
        .where(missed_at > BUSINESS_NOW - sa.text("interval '7 days'"))
        .order_by(missed_at.desc(), Case.id)
    )
    return await _rows(session, wanted)


class Share(NamedTuple):
    """`good` of `n`; the newest of their kind, at most SAMPLE."""

    name: str
    means: str
    good: int
    n: int


async def shares(session: AsyncSession) -> list[Share]:
    """The manager's figures, each of the newest SAMPLE of its kind."""
    return [
        await _share(
            session,
            "Delivered by the promised day",
            "orders that arrived on the promised day or before",
            Order.delivered_late,
            Order.placed_at,
            Order.delivered_late.is_not(None),
            good=sa.false(),
        ),
        await _share(
            session,
            "First response in time",
            "cases answered by a person before their clock rang",
            Case.first_response_missed_at.is_(None),
            Case.opened_at,
            sa.or_(Case.first_response_at.is_not(None), Case.first_response_missed_at.is_not(None)),
        ),
        await _share(
            session,
            "Resolved in time",
            "resolved cases whose resolution clock did not ring",
            Case.resolution_missed_at.is_(None),
            Case.opened_at,
            Case.resolved_at.is_not(None),
        ),
        await _share(
            session,
            "Surveys answered",
            "surveys with an answer",
            Survey.answered_at.is_not(None),
            Survey.asked_at,
            sa.true(),
        ),
        await _share(
            session,
            "Not disappointed",
            "answers that are not a disappointment (stars 1-2, NPS 0-6)",
            Feedback.verdict != Verdict.DETRACTOR,
            Feedback.answered_at,
            sa.true(),
        ),
    ]


async def _share(
    session: AsyncSession,
    name: str,
    means: str,
    of: Any,
    newest_by: Any,
    which: sa.ColumnElement[bool],
    good: sa.ColumnElement[bool] | None = None,
) -> Share:
    sample = sa.select(of.label("is_so")).where(which).order_by(newest_by.desc()).limit(SAMPLE)
    newest = sample.subquery()
    is_good = newest.c.is_so.is_(sa.true() if good is None else good)
    counted = sa.select(sa.func.count().filter(is_good), sa.func.count()).select_from(newest)
    found, n = (await session.execute(counted)).one()
    return Share(name, means, found, n)


class Counted(NamedTuple):
    open_cases: int
    overdue_tasks: int
    open_tasks: int


async def count_open(session: AsyncSession) -> Counted:
    """Over what is open now, which is what people can work off."""
    cases = sa.select(sa.func.count()).where(Case.state.in_(ACTIVE)).scalar_subquery()
    row = (
        await session.execute(
            sa.select(cases, sa.func.count().filter(OVERDUE), sa.func.count())
            .select_from(Task)
            .join(Customer, Customer.id == Task.customer_id)
            .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
            .where(Task.ended_at.is_(None), Task.state.in_((TaskState.OPEN, TaskState.CLAIMED)))
        )
    ).one()
    return Counted(*row)
