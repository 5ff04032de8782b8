"""What a customer may choose about our messages, and for how long he may have a rest from them."""

from calendar import monthrange
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from domain.messages import Channel, Purpose

# What may be refused, in the order in which it is shown; orders are part of the contract.
REFUSABLE = (Purpose.MARKETING, Purpose.FEEDBACK, Purpose.SUPPORT)
PAUSES = (1, 3, 6)  # months without marketing


def choices(channels: list[Channel], *, tracking: bool) -> list[tuple[Channel, Purpose]]:
    """What a customer with addresses on these channels decides about. Only mails are tracked."""
    found = [(channel, purpose) for channel in channels for purpose in REFUSABLE]
    if tracking and Channel.EMAIL in channels:
        found.append((Channel.EMAIL, Purpose.TRACKING))
    return found


def pause_until(now: datetime, months: int, zone: str) -> datetime:
    """The same day so many months on, or the last of a shorter month, as it begins in the zone.

    All day long the same moment, so that the same wish sent twice is one.
    """
    day = now.astimezone(ZoneInfo(zone)).date()
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    last = monthrange(year, month)[1]
    return datetime(year, month, min(day.day, last), tzinfo=ZoneInfo(zone)).astimezone(UTC)
