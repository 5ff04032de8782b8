"""What a customer's journey is drawn from: the lines that are felt, and the promises settled."""

from collections.abc import Collection, Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import Customer
from database.promises import Promise
from database.timeline import TimelineLine

AT_MOST = 300  # lines: the latest


async def name_of(session: AsyncSession, customer_id: UUID) -> str | None:
    return await session.scalar(sa.select(Customer.name).where(Customer.id == customer_id))


async def lines_of(
    session: AsyncSession, customer_id: UUID, kinds: Collection[str]
) -> Sequence[TimelineLine]:
    """The latest lines of those kinds, the latest first."""
    found = await session.scalars(
        sa.select(TimelineLine)
        .where(TimelineLine.customer_id == customer_id, TimelineLine.kind.in_(kinds))
        .order_by(TimelineLine.happened_at.desc(), TimelineLine.id.desc())
        .limit(AT_MOST)
    )
    return found.all()


async def settled_promises(session: AsyncSession, customer_id: UUID) -> Sequence[Promise]:
    """Those that were kept or not, the latest first."""
    found = await session.scalars(
        sa.select(Promise)
        .where(Promise.customer_id == customer_id, Promise.settled_at.is_not(None))
        .order_by(Promise.settled_at.desc(), Promise.id.desc())
        .limit(AT_MOST)
    )
    return found.all()
