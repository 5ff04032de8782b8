"""The board of orders: how each stands to its promised day, and what its customer was told."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import CLOCK_COLUMNS, Customer, Simulation, clock_in
from database.messages import Message
from database.orders import Order
from database.processes import ProcessRow
from database.tasks import Task
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.delivery import DeliveryState
from domain.promises import end_of_day


class Column(StrEnum):
    """Of the board: each order is in one. What the process has noticed decides, not the reader."""

    PROMISED = "promised"
    AT_RISK = "at_risk"
    LATE = "late"
    DELIVERED = "delivered"
    FAILED = "failed"


_ON_ITS_WAY = Order.delivered_at.is_(None) & Order.ended_at.is_(None)
_IN_TIME = Order.late_noticed_at.is_(None)
_FAILED_ATTEMPT = Order.state == DeliveryState.ATTEMPT_FAILED
_GIVEN_UP = (DeliveryState.RETURNED, DeliveryState.UNAVAILABLE, DeliveryState.CANCELLED)

# Of those that are on their way.
_STANDS: Mapping[Column, sa.ColumnElement[bool]] = {
    Column.PROMISED: _IN_TIME & Order.endangered_at.is_(None) & ~_FAILED_ATTEMPT,
    Column.AT_RISK: _IN_TIME & Order.endangered_at.is_not(None) & ~_FAILED_ATTEMPT,
    Column.LATE: Order.late_noticed_at.is_not(None),
}
IN_COLUMN: Mapping[Column, sa.ColumnElement[bool]] = {
    **{column: _ON_ITS_WAY & stands for column, stands in _STANDS.items()},
    Column.DELIVERED: Order.state == DeliveryState.DELIVERED,
    Column.FAILED: Order.state.in_(_GIVEN_UP) | (_FAILED_ATTEMPT & _IN_TIME & _ON_ITS_WAY),
}
# Those the process still works on come by their day, the next first; the others the latest first.
BY_DAY = frozenset(_STANDS)
# As the index has it, word for word.
_DAY = sa.func.coalesce(Order.promised_on, sa.literal_column("'9999-12-31'::date", sa.Date))
NEXT_DAY_FIRST = (_DAY, Order.id)
LATEST_FIRST = (Order.placed_at, Order.id)


def in_lane(column: Column) -> list[sa.ColumnElement[Any]]:
    """The order of a column."""
    if column in BY_DAY:
        return [key.asc() for key in NEXT_DAY_FIRST]
    return [key.desc() for key in LATEST_FIRST]


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
    customer_id: UUID | None = None
    promised_from: date | None = None
    promised_until: date | None = None


def orders_on_board(column: Column | None, wanted: Wanted) -> sa.Select[Order]:
    """Orders of a column (None: of all), in no order yet."""
    statement = sa.select(Order)
    if column is not None:
        statement = statement.where(IN_COLUMN[column])
    if wanted.reference:
        statement = statement.where(Order.reference == wanted.reference)
    if wanted.customer_id:
        statement = statement.where(Order.customer_id == wanted.customer_id)
    if wanted.promised_from:
        statement = statement.where(Order.promised_on >= wanted.promised_from)
    if wanted.promised_until:
        statement = statement.where(Order.promised_on <= wanted.promised_until)
    return statement


async def count_open(session: AsyncSession) -> dict[Column, int]:
    """How many stand in the columns of what is on its way: an index holds no others."""
    row = (await session.execute(_COUNTS)).one()
    return {column: getattr(row, column) for column in _STANDS}


_COUNTS = sa.select(
    *(sa.func.count().filter(stands).label(column) for column, stands in _STANDS.items())
).where(_ON_ITS_WAY)


async def first_of_lanes(
    session: AsyncSession, wanted: Wanted, most: int
) -> dict[Column, list[Order]]:
    """Of each column the first orders, at most that many."""
    lanes = sa.union_all(
        *(
            orders_on_board(column, wanted)
            .with_only_columns(sa.literal(column.value).label("lane"), Order.id)
            .order_by(*in_lane(column))
            .limit(most)
            .subquery()
            .select()
            for column in Column
        )
    ).subquery()
    rows = await session.execute(sa.select(lanes.c.lane, Order).join(lanes, lanes.c.id == Order.id))
    found: dict[Column, list[Order]] = {column: [] for column in Column}
    for lane, order in rows:
        found[Column(lane)].append(order)
    for column, orders in found.items():
        if column in BY_DAY:
            orders.sort(key=lambda order: (order.promised_on or date.max, order.id))
        else:
            orders.sort(key=lambda order: (order.placed_at, order.id), reverse=True)
    return found


async def on_board(session: AsyncSession, orders: Sequence[Order]) -> dict[UUID, OnBoard]:
    """Orders with customer, what each process waits for, and the newest message; by order."""
    rows = await session.execute(_AROUND, {"orders": [order.id for order in orders]})
    known = {row.order_id: row for row in rows}
    return {order.id: _on_board(order, known[order.id]) for order in orders}


def _around() -> sa.Select[*tuple[Any, ...]]:
    workflow_id = sa.func.concat("delivery/", Order.id)
    told = (
        sa.select(
            Message.id.label("message_id"),
            *(Message.template, Message.state),
            sa.func.coalesce(Message.told_at, Message.asked_at).label("told_at"),
        )
        .where(Message.workflow_id == workflow_id)
        .order_by(Message.asked_at.desc(), Message.id.desc())
        .limit(1)
        .lateral()
    )
    return (
        sa.select(
            Order.id.label("order_id"),
            *(Customer.name, Customer.zone, *CLOCK_COLUMNS),
            *(ProcessRow.waiting_for, ProcessRow.next_timer_at),
            *told.c,
        )
        .join(Customer, Customer.id == Order.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .outerjoin(ProcessRow, ProcessRow.workflow_id == workflow_id)
        .outerjoin(told, sa.true())
        .where(Order.id == sa.func.any(sa.bindparam("orders", type_=ARRAY(sa.Uuid))))
    )


_AROUND = _around()


def _on_board(order: Order, row: Any) -> OnBoard:
    told = row.message_id and Told(row.message_id, row.template, row.state, row.told_at)
    return OnBoard(
        *(order, row.name, row.zone, clock_in(row)),
        *(row.waiting_for or "", row.next_timer_at, told),
    )


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
