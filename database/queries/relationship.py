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
from database.queries.customers import current_consents
from database.queries.preferences import Standing, read_standing
from database.support import Case
from database.tasks import Task
from database.timeline import TimelineLine
from domain.processes import ProcessKind, ProcessState
from domain.promises import PromiseState
from domain.support import CaseState

_MOST = 20  # rows of a kind; the lists have the rest
_DUE = (PromiseState.OFFERED, PromiseState.OPEN)
_OVER = (CaseState.RESOLVED, CaseState.CLOSED)
_LIVE = (ProcessState.RUNNING, ProcessState.PAUSED)

T = TypeVar("T", Preference, Need, Promise, Case, Task, ProcessRow)


@dataclass(frozen=True)
class Relationship:
    """Of each kind what is open, and the latest that isn't where that helps."""

    standing: Standing
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


async def read_relationship(session: AsyncSession, customer_id: UUID) -> Relationship | None:
    """None when there is no such customer."""
    standing = await read_standing(session, customer_id)
    if standing is None:
        return None
    orders = (
        await session.scalars(
            sa.select(Order)
            .where(Order.customer_id == customer_id)
            .order_by(Order.placed_at.desc())
            .limit(5)
        )
    ).all()
    return Relationship(
        standing=standing,
        consents=await current_consents(session, customer_id),
        preferences=await _all(
            session, Preference, customer_id, order=[Preference.recorded_at.desc()]
        ),
        needs=await _all(session, Need, customer_id, order=[Need.recorded_at.desc()]),
        promises=await _all(
            session,
            Promise,
            customer_id,
            Promise.state.in_(_DUE),
            order=[Promise.due_on.nulls_last(), Promise.id],
        ),
        orders=orders,
        milestones=await _milestones(session, [order.id for order in orders]),
        cases=await _all(
            session, Case, customer_id, order=[Case.state.in_(_OVER), Case.opened_at.desc()]
        ),
        tasks=await _all(
            session, Task, customer_id, Task.ended_at.is_(None), order=[Task.due_at, Task.id]
        ),
        processes=await _all(
            session,
            ProcessRow,
            customer_id,
            ProcessRow.state.in_(_LIVE),
            order=[
                ProcessRow.kind == ProcessKind.LIFECYCLE,
                ProcessRow.next_timer_at.nulls_last(),
                ProcessRow.workflow_id,
            ],
        ),
        latest=await _latest(session, customer_id),
    )


async def _all(
    session: AsyncSession,
    table: type[T],
    customer_id: UUID,
    *conditions: sa.ColumnElement[bool],
    order: Sequence[sa.ColumnElement[Any] | InstrumentedAttribute[Any]],
) -> Sequence[T]:
    statement = sa.select(table).where(table.customer_id == customer_id, *conditions)
    return (await session.scalars(statement.order_by(*order).limit(_MOST))).all()


async def _milestones(
    session: AsyncSession, orders: Sequence[UUID]
) -> Mapping[UUID, Sequence[OrderMilestone]]:
    found: dict[UUID, list[OrderMilestone]] = defaultdict(list)
    rows = await session.scalars(
        sa.select(OrderMilestone)
        .where(OrderMilestone.order_id.in_(orders))
        .order_by(OrderMilestone.occurred_at, OrderMilestone.recorded_at)
    )
    for row in rows:
        found[row.order_id].append(row)
    return found


async def _latest(
    session: AsyncSession, customer_id: UUID
) -> Mapping[ProcessKind, tuple[ProcessRow, int]]:
    number = sa.func.count().over(partition_by=ProcessRow.kind)
    rows = await session.execute(
        sa.select(ProcessRow, number)
        .ext(distinct_on(ProcessRow.kind))
        .where(ProcessRow.customer_id == customer_id)
        .order_by(ProcessRow.kind, ProcessRow.started_at.desc())
    )
    return {row.kind: (row, of) for row, of in rows}


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
