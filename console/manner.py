"""How a customer wants to be written to, for whoever is about to write: above each composer."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from console.desk import Json
from console.rendering import moment, words
from database.queries.preferences import newest_preferences

_WISHES = ("form-of-address", "contact-time", "handle-with")


async def manner_of(
    session: AsyncSession, customer: Json, now: datetime
) -> list[tuple[str, str, str]]:
    """(what, how, by which way it was said, where that is known). `now`: business time.

    Of each wish the newest, in the order of `_WISHES`.
    """
    chosen = customer["chosen_locale"]
    manner = [
        ("Language", chosen or customer["locale"], "the customer's choice" if chosen else ""),
        ("Tone", words(customer["tone"] or "as to all"), ""),
        ("Prefers", words(customer["preferred_channel"] or "no channel"), ""),
    ]
    resting = moment(customer["marketing_paused_until"])
    if resting is not None and resting > now:
        manner.append(("No marketing until", f"{resting:%d %b %Y}", "the customer rests from it"))
    wishes = await newest_preferences(session, customer["id"], _WISHES)
    manner += [(words(one.name), one.value, one.source) for one in wishes]
    return manner
