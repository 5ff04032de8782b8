"""Everything around one customer that a person on the phone looks at, read together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from database.customers import Consent, Preference
from database.events import Event
from database.feedback import Need
from database.orders import Order, OrderMilestone
from database.processes import ProcessRow
from database.promises import Promise
from database.queries.customers import clock_of, current_consents
from database.queries.preferences import suppressed_at
from database.support import Case
from database.tasks import Task
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.messages import Channel, Purpose
from domain.processes import ProcessKind, ProcessState
from domain.promises import PromiseState
from domain.support import CaseState

_MOST = 20  # rows of a kind; the lists have the rest
_DUE = (PromiseState.OFFERED, PromiseState.OPEN)
_OVER = (CaseState.RESOLVED, CaseState.CLOSED)
_LIVE = (ProcessState.RUNNING, ProcessState.PAUSED)

T = TypeVar("T")
Own = TypeVar("Own", Preference, Need, Promise, Order, Case, Task, ProcessRow)

# The statements are built once: that costs as much as asking does.
_CUSTOMER = sa.bindparam("customer_id", type_=sa.Uuid)


def _of_customer(
    table: type[Own],
    *conditions: sa.ColumnElement[bool],
    order: Sequence[sa.ColumnElement[Any] | InstrumentedAttribute[Any]],
    most: int = _MOST,
) -> sa.Select[Own]:
    statement = sa.select(table).where(table.customer_id == _CUSTOMER, *conditions)
    return statement.order_by(*order).limit(most)


_PREFERENCES = _of_customer(Preference, order=[Preference.recorded_at.desc()])
_NEEDS = _of_customer(Need, order=[Need.recorded_at.desc()])
_PROMISES = _of_customer(
    Promise, Promise.state.in_(_DUE), order=[Promise.due_on.nulls_last(), Promise.id]
)
_ORDERS = _of_customer(Order, order=[Order.placed_at.desc()], most=5)
_CASES = _of_customer(Case, order=[Case.state.in_(_OVER), Case.opened_at.desc()])
_TASKS = _of_customer(Task, Task.ended_at.is_(None), order=[Task.due_at, Task.id])
_NEXT_FIRST = (
    ProcessRow.kind == ProcessKind.LIFECYCLE,
    ProcessRow.next_timer_at.nulls_last(),
    ProcessRow.workflow_id,
)
_OPEN = _of_customer(ProcessRow, ProcessRow.state.in_(_LIVE), order=_NEXT_FIRST)
_LATEST = (
    sa.select(ProcessRow.workflow_id)
    .ext(distinct_on(ProcessRow.kind))
    .where(ProcessRow.customer_id == _CUSTOMER)
    .order_by(ProcessRow.kind, ProcessRow.started_at.desc())
)
_NUMBERS = (
    sa.select(ProcessRow.kind, sa.func.count())
    .where(ProcessRow.customer_id == _CUSTOMER)
    .group_by(ProcessRow.kind)
)
_SHOWN = sa.union(  # each by an index: what is asked with OR is looked for among all
    _OPEN.with_only_columns(ProcessRow.workflow_id).subquery().select(), _LATEST.subquery().select()
).subquery()
_PROCESSES = (
    sa.select(ProcessRow)
    .join(_SHOWN, _SHOWN.c.workflow_id == ProcessRow.workflow_id)
    .order_by(*_NEXT_FIRST)
)
_MILESTONES = (
    sa.select(OrderMilestone)
    .where(OrderMilestone.order_id.in_(_ORDERS.with_only_columns(Order.id)))
    .order_by(OrderMilestone.occurred_at, OrderMilestone.recorded_at)
)


@dataclass(frozen=True)
class Relationship:
    """Of each kind what is open, and the latest that isn't where that helps."""

    clock: Clock
    suppressed: frozenset[tuple[Channel, Purpose | None]]  # of the addresses; None: every purpose
    consents: Sequence[Consent]  # the newest of each channel and purpose
    preferences: Sequence[Preference]
    needs: Sequence[Need]
    promises: Sequence[Promise]
    orders: Sequence[Order]
    milestones: Mapping[UUID, Sequence[OrderMilestone]]  # by order
    cases: Sequence[Case]
    tasks: Sequence[Task]
    processes: Sequence[ProcessRow]  # that have not ended
    latest: Mapping[ProcessKind, tuple[ProcessRow, int]]  # of each kind, of how many; ended or not


async def read_relationship(
    session: AsyncSession, customer_id: UUID, addresses: Mapping[Channel, str]
) -> Relationship | None:
    """None when there is no such customer. `addresses`: those that are used."""
    clock = await clock_of(session, customer_id)
    if clock is None:
        return None

    async def all_of(statement: sa.Select[T]) -> Sequence[T]:
        return (await session.scalars(statement, {"customer_id": customer_id})).all()

    milestones: dict[UUID, list[OrderMilestone]] = defaultdict(list)
    for milestone in await all_of(_MILESTONES):
        milestones[milestone.order_id].append(milestone)
    processes = await all_of(_PROCESSES)
    latest: dict[ProcessKind, ProcessRow] = {}
    for row in sorted(processes, key=lambda row: row.started_at):
        latest[row.kind] = row
    counted = await session.execute(_NUMBERS, {"customer_id": customer_id})
    numbers = {kind: number for kind, number in counted}
    return Relationship(
        clock=clock,
        suppressed=await suppressed_at(session, addresses),
        consents=await current_consents(session, customer_id),
        preferences=await all_of(_PREFERENCES),
        needs=await all_of(_NEEDS),
        promises=await all_of(_PROMISES),
        orders=await all_of(_ORDERS),
        milestones=milestones,
        cases=await all_of(_CASES),
        tasks=await all_of(_TASKS),
        processes=[row for row in processes if row.state in _LIVE][:_MOST],
        latest={kind: (row, numbers[kind]) for kind, row in latest.items()},
    )


async def words_in(
    session: AsyncSession, customer_id: UUID, first: datetime, last: datetime
) -> Mapping[tuple[str, str, datetime], str]:
    """What the customer wrote, by (workflow id, kind, moment) of the line that took note of it.

    `first` and `last`: business time of the lines that are shown.
    """
    event_id = sa.func.coalesce(TimelineLine.facts["event"].astext, TimelineLine.step_key)
    text = sa.func.coalesce(Event.body["text"].astext, Event.body["comment"].astext)
    rows = await session.execute(
        sa.select(
            TimelineLine.workflow_id,
            TimelineLine.kind,
            TimelineLine.happened_at,
            Event.event_id,
            text.label("text"),
        )
        .join(Event, Event.event_id == event_id)
        .where(
            TimelineLine.customer_id == customer_id,
            TimelineLine.happened_at.between(first, last),
            text.is_not(None),
        )
        .order_by(TimelineLine.id)
    )
    said, found = set(), {}
    for row in rows:  # several processes take note of one event: told once
        if row.event_id not in said:
            said.add(row.event_id)
            found[row.workflow_id, row.kind, row.happened_at] = row.text
    return found
