"""Tasks with their customers' names and clocks, and what each was opened by."""

from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import BUSINESS_NOW, CLOCK_COLUMNS, Customer, Simulation
from database.events import Event
from database.feedback import Need
from database.orders import Order
from database.support import Case
from database.tasks import Task
from database.timeline import TimelineLine
from domain.tasks import Role, TaskKind, task_id_of

OVERDUE = Task.ended_at.is_(None) & (Task.due_at < BUSINESS_NOW)


def tasks_with_clocks() -> sa.Select[*tuple[Any, ...]]:
    """Task, its customer's name, what it is about, and the columns of the clock."""
    about = sa.func.coalesce(Case.reference, Order.reference, "").label("about")
    return (
        sa.select(Task, Customer.name, about, *CLOCK_COLUMNS)
        .join(Customer, Customer.id == Task.customer_id)
        .outerjoin(Case, Case.id == Task.case_id)
        .outerjoin(Order, Order.id == Task.order_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
    )


def for_me(staff_id: str, roles: Collection[Role]) -> sa.ColumnElement[bool]:
    """Mine, and what nobody of those roles has taken yet."""
    return sa.or_(Task.owner == staff_id, sa.and_(Task.role.in_(roles), Task.owner.is_(None)))


class Opening(NamedTuple):
    """The step that opened a task: its timeline line, and what the customer had said."""

    kind: str
    facts: dict[str, Any]
    said: str


async def opening_of(session: AsyncSession, task_id: UUID) -> Opening | None:
    """By the line that was written with the task, at the same business time."""
    text = sa.func.coalesce(Event.body["text"].astext, Event.body["comment"].astext, "")
    row = (
        await session.execute(
            sa.select(Task, TimelineLine.kind, TimelineLine.facts, text.label("said"))
            .join(
                TimelineLine,
                sa.and_(
                    TimelineLine.workflow_id == Task.workflow_id,
                    TimelineLine.happened_at == Task.opened_at,
                ),
            )
            .outerjoin(Event, Event.event_id == TimelineLine.facts["event"].astext)
            .where(Task.id == task_id)
            .order_by(TimelineLine.id)
            .limit(1)
        )
    ).one_or_none()
    if row is None:
        return None
    task: Task = row[0]
    said = row.said
    if task.kind is TaskKind.OPPORTUNITY:
        said = await _need(session, task)
    return Opening(row.kind, row.facts, said or "")


async def _need(session: AsyncSession, task: Task) -> str | None:
    needs = await session.scalars(sa.select(Need).filter_by(customer_id=task.customer_id))
    keys = {task_id_of(task.workflow_id, f"need/{need.id}"): need.text for need in needs}
    return keys.get(task.id)
