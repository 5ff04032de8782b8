"""The board of orders: how each stands to its promised day, and what its customer was told."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import CLOCK_COLUMNS, Customer, Simulation, clock_in
from database.messages import Message
from database.orders import Order
from database.processes import ProcessRow
from database.tasks import Task
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.delivery import DeliveryState
from domain.processes import delivery_workflow_id
from domain.promises import end_of_day


class Column(StrEnum):
    """Of the board: each order is in one. What the process has noticed decides, not the reader."""

    PROMISED = "promised"
    AT_RISK = "at_risk"
    LATE = "late"
    DELIVERED = "delivered"
    FAILED = "failed"


_ON_ITS_WAY = Order.delivered_at.is_(None) & Order.ended_at.is_(None)
_LATE = _ON_ITS_WAY & Order.late_noticed_at.is_not(None)
_IN_TIME = _ON_ITS_WAY & Order.late_noticed_at.is_(None)
_FAILED_ATTEMPT = Order.state == DeliveryState.ATTEMPT_FAILED
_GIVEN_UP = (DeliveryState.RETURNED, DeliveryState.UNAVAILABLE, DeliveryState.CANCELLED)

IN_COLUMN: Mapping[Column, sa.ColumnElement[bool]] = {
    Column.PROMISED: _IN_TIME & Order.endangered_at.is_(None) & ~_FAILED_ATTEMPT,
    Column.AT_RISK: _IN_TIME & Order.endangered_at.is_not(None) & ~_FAILED_ATTEMPT,
    Column.LATE: _LATE,
    Column.DELIVERED: Order.state == DeliveryState.DELIVERED,
    Column.FAILED: Order.state.in_(_GIVEN_UP) | (_FAILED_ATTEMPT & _IN_TIME),
}
# Those the process still works on come by their day, the next first; the others the latest first.
BY_DAY = frozenset({Column.PROMISED, Column.AT_RISK, Column.LATE})
_DAY = sa.func.coalesce(Order.promised_on, sa.literal(date.max, sa.Date))
NEXT_DAY_FIRST = (_DAY, Order.id)
LATEST_FIRST = (Order.placed_at, Order.id)


class Told(NamedTuple):
    """The newest message about an order; `at` is business time, of the answer or the question."""

    message_id: UUID
    template: str
    state: str
    at: datetime


class OnBoard(NamedTuple):
    order: Order
    customer_name: str
    zone: str
    clock: Clock
    waiting_for: str
    next_at: datetime | None  # business time
    told: Told | None

    @property
    def promise_ends(self) -> datetime | None:
        """When the promised day does, where the customer lives."""
        day = self.order.promised_on
        return None if day is None else end_of_day(day, self.zone)


class Wanted(NamedTuple):
    """What narrows the board; the days are those promised now, both included."""

    reference: str | None = None
    promised_from: date | None = None
    promised_until: date | None = None


def orders_on_board(column: Column | None, wanted: Wanted) -> sa.Select[Order]:
    """Orders of a column (None: of all), in no order yet."""
    statement = sa.select(Order)
    if column is not None:
        statement = statement.where(IN_COLUMN[column])
    if wanted.reference:
        statement = statement.where(Order.reference == wanted.reference)
    if wanted.promised_from:
        statement = statement.where(Order.promised_on >= wanted.promised_from)
    if wanted.promised_until:
        statement = statement.where(Order.promised_on <= wanted.promised_until)
    return statement


async def count_open(session: AsyncSession) -> dict[Column, int]:
    """How many stand in the columns of what is on its way: an index holds no others."""
    counts = [sa.func.count().filter(IN_COLUMN[column]).label(column) for column in BY_DAY]
    row = (await session.execute(sa.select(*counts).where(_ON_ITS_WAY))).one()
    return {column: getattr(row, column) for column in BY_DAY}


async def on_board(session: AsyncSession, orders: Sequence[Order]) -> list[OnBoard]:
    """A page of orders with customer, what each process waits for, and the newest message."""
    ids = [delivery_workflow_id(order.id) for order in orders]
    customers = await session.execute(
        sa.select(Customer.id, Customer.name, Customer.zone, *CLOCK_COLUMNS)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .where(Customer.id.in_({order.customer_id for order in orders}))
    )
    known = {row.id: row for row in customers}
    standing = await session.execute(
        sa.select(ProcessRow.workflow_id, ProcessRow.waiting_for, ProcessRow.next_timer_at).where(
            ProcessRow.workflow_id.in_(ids)
        )
    )
    waits = {row.workflow_id: row for row in standing}
    told = await _newest_messages(session, ids)
    return [
        OnBoard(
            order,
            known[order.customer_id].name,
            known[order.customer_id].zone,
            clock_in(known[order.customer_id]),
            waits[key].waiting_for if key in waits else "",
            waits[key].next_timer_at if key in waits else None,
            told.get(key),
        )
        for order, key in zip(orders, ids, strict=True)
    ]


async def _newest_messages(session: AsyncSession, workflow_ids: Sequence[str]) -> dict[str, Told]:
    found = await session.execute(
        sa.select(
            *(Message.workflow_id, Message.id, Message.template, Message.state),
            sa.func.coalesce(Message.told_at, Message.asked_at).label("at"),
        )
        .ext(distinct_on(Message.workflow_id))
        .where(Message.workflow_id.in_(workflow_ids))
        .order_by(Message.workflow_id, Message.asked_at.desc(), Message.id.desc())
    )
    return {row.workflow_id: Told(row.id, row.template, row.state, row.at) for row in found}


class Around(NamedTuple):
    """What stands around one order."""

    customer_name: str
    zone: str
    clock: Clock
    process: ProcessRow | None
    tasks: Sequence[Task]
    lines: Sequence[TimelineLine]


async def around_order(session: AsyncSession, customer_id: UUID, workflow_id: str) -> Around:
    row = (
        await session.execute(
            sa.select(Customer.name, Customer.zone, *CLOCK_COLUMNS)
            .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
            .where(Customer.id == customer_id)
        )
    ).one()
    tasks = await session.scalars(
        sa.select(Task).where(Task.workflow_id == workflow_id).order_by(Task.opened_at, Task.id)
    )
    lines = await session.scalars(
        sa.select(TimelineLine)
        .where(TimelineLine.workflow_id == workflow_id)
        .order_by(TimelineLine.happened_at, TimelineLine.id)
    )
    process = await session.get(ProcessRow, workflow_id)
    return Around(row.name, row.zone, clock_in(row), process, tasks.all(), lines.all())
