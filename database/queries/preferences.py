"""What a customer has chosen about our messages, read and changed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from database.customers import (
    CLOCK_COLUMNS,
    READING_LOCALE,
    Customer,
    Preference,
    Simulation,
    Suppression,
    clock_in,
)
from database.queries.customers import addresses_of, current_consents
from domain.clock import Clock
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose


class Standing(NamedTuple):
    """How a customer wants to be written to. Moments are business time."""

    locale: str
    zone: str
    clock: Clock
    preferred_channel: Channel | None
    marketing_paused_until: datetime | None
    channels: list[Channel]  # on which an address is known
    consents: Mapping[str, ConsentState]  # "<channel>/<purpose>" -> the newest statement
    suppressed: frozenset[tuple[Channel, Purpose | None]]  # None: every purpose

    def is_suppressed(self, channel: Channel, purpose: Purpose) -> bool:
        """Whether his address there takes nothing of the kind, whatever he has agreed to."""
        return not self.suppressed.isdisjoint({(channel, None), (channel, purpose)})


async def read_standing(session: AsyncSession, customer_id: UUID) -> Standing | None:
    """None when there is no such customer."""
    found = await session.execute(
        sa.select(
            READING_LOCALE.label("locale"),
            Customer.zone,
            Customer.preferred_channel,
            Customer.marketing_paused_until,
            *CLOCK_COLUMNS,
        )
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .where(Customer.id == customer_id)
    )
    row = found.one_or_none()
    if row is None:
        return None
    points = (await addresses_of(session, [customer_id]))[customer_id]
    used = {point.channel: point.address.lower() for point in reversed(points)}
    consents = await current_consents(session, customer_id)
    return Standing(
        locale=row.locale,
        zone=row.zone,
        clock=clock_in(row),
        preferred_channel=row.preferred_channel,
        marketing_paused_until=row.marketing_paused_until,
        channels=[channel for channel in Channel if channel in used],
        consents={f"{one.channel}/{one.purpose}": one.state for one in consents},
        suppressed=await suppressed_at(session, used),
    )


async def suppressed_at(
    session: AsyncSession, used: Mapping[Channel, str]
) -> frozenset[tuple[Channel, Purpose | None]]:
    """What the addresses, in small letters, take nothing of."""
    at_one = (
        sa.and_(Suppression.channel == channel, Suppression.address == address)
        for channel, address in used.items()
    )
    found = await session.execute(
        sa.select(Suppression.channel, Suppression.purpose).where(
            Suppression.lifted_at.is_(None), sa.or_(sa.false(), *at_one)
        )
    )
    return frozenset((row.channel, row.purpose) for row in found)


async def newest_preferences(
    session: AsyncSession, customer_id: UUID | str, names: Sequence[str]
) -> list[Preference]:
    """What was noted last about each of the names, in their order; nothing about some."""
    found = await session.scalars(
        sa.select(Preference)
        .ext(distinct_on(Preference.name))
        .where(Preference.customer_id == customer_id, Preference.name.in_(names))
        .order_by(Preference.name, Preference.recorded_at.desc(), Preference.id.desc())
    )
    return sorted(found, key=lambda one: names.index(one.name))


async def note_choice(
    session: AsyncSession, customer_id: UUID, name: str, value: str, source: str, **columns: Any
) -> None:
    """Set columns of the customer, and keep for ever that they were chosen."""
    await session.execute(
        sa.update(Customer)
        .where(Customer.id == customer_id)
        .values(**columns, version=Customer.version + 1, updated_at=sa.func.now())
    )
    session.add(Preference(customer_id=customer_id, name=name, value=value, source=source))
