"""Suppresses addresses: those that take no mail, and those whose owner complained."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from database.base import insert_once
from database.customers import Suppression
from domain.messages import Channel, Purpose


async def suppress(
    session: AsyncSession,
    addresses: Mapping[tuple[Channel, str], str],
    purpose: Purpose | None = None,
) -> None:
    """Suppress each for the reason given, for one purpose or for all; a repeat changes nothing.

    In order, so that two that do it at the same time don't wait for each other in a circle.
    """
    for (channel, address), reason in sorted(addresses.items()):
        await insert_once(
            session,
            Suppression,
            channel=channel,
            address=address.lower(),
            purpose=purpose,
            reason=reason,
        )
