"""Whose a suppressed address is."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import ContactPoint, Customer
from domain.messages import Channel

_MOST = 20  # customers with one address


class Owner(NamedTuple):
    """`retired`: the address is not in use for this customer any more."""

    customer_id: UUID
    name: str
    retired: bool


async def owners_of(session: AsyncSession, channel: Channel, address: str) -> Sequence[Owner]:
    rows = await session.execute(
        sa.select(Customer.id, Customer.name, ContactPoint.retired_at.is_not(None))
        .join(ContactPoint, ContactPoint.customer_id == Customer.id)
        .where(ContactPoint.channel == channel, sa.func.lower(ContactPoint.address) == address)
        .order_by(ContactPoint.retired_at.is_not(None), Customer.id)
        .limit(_MOST)
    )
    return [Owner(*row) for row in rows]
