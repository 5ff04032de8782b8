"""What the list of messages shows beside the messages: whose they are, why they wait, how many."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import CLOCK_COLUMNS, Customer, Simulation, clock_in
from database.messages import Message
from domain.clock import Clock
from domain.messages import MessageState

COUNTED = 1_000  # the latest messages, whose states are counted
_PENDING = (MessageState.QUEUED, MessageState.HELD, MessageState.SENDING)
# As the partial indexes say it, word for word: a parameter would not be known to fit them.
_WAITS = (sa.text("messages.state IN ('queued','held')"), sa.text("messages.state = 'sending'"))


class Beside(NamedTuple):
    """`name`, `clock`: of the customer; `because`, `until`: of the decision, business time."""

    name: str | None
    clock: Clock
    because: str | None
    until: datetime | None


async def beside(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, Beside]:
    rows = await session.execute(
        sa.select(
            Message.id,
            Customer.name,
            *CLOCK_COLUMNS,
            Message.decision["because"].astext.label("because"),
            Message.decision["until"].astext.label("until"),
        )
        .outerjoin(Customer, Customer.id == Message.customer_id)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .where(Message.id.in_(ids))
    )
    return {
        row.id: Beside(
            row.name,
            clock_in(row),
            row.because,
            datetime.fromisoformat(row.until) if row.until else None,
        )
        for row in rows
    }


async def count_states(
    session: AsyncSession, customer_id: UUID | None = None
) -> dict[MessageState, int]:
    """How many there are in each state: of what waits all, of the rest the latest COUNTED."""
    mine = sa.true() if customer_id is None else Message.customer_id == customer_id
    latest = sa.select(Message.state).where(mine).order_by(Message.id.desc()).limit(COUNTED)
    pending = [
        sa.select(Message.state, sa.func.count()).where(mine, waits).group_by(Message.state)
        for waits in _WAITS
    ]
    of_latest = latest.subquery()
    settled = sa.select(of_latest.c.state, sa.func.count()).where(
        of_latest.c.state.not_in(_PENDING)
    )
    found = await session.execute(sa.union_all(*pending, settled.group_by(of_latest.c.state)))
    return {row[0]: row[1] for row in found}
