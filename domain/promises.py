"""Promises: what was said in selling, and whether it was kept."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.payload import Payload


class PromiseKind(StrEnum):
    DATE = "date"
    QUALITY = "quality"
    PRICE = "price"
    SERVICE = "service"


class PromiseState(StrEnum):
    """`offered` before the order; `open` once the customer ordered on the strength of it."""

    OFFERED = "offered"
    OPEN = "open"
    KEPT = "kept"
    PARTLY_KEPT = "partly_kept"
    BROKEN = "broken"
    RELEASED = "released"  # the order was cancelled: nothing left to keep


class Shortfall(Payload):
    """A promise that a delivery did not fully keep, as the reporter saw it."""

    promise_id: UUID | None = None
    kind: PromiseKind | None = None
    verdict: PromiseState = PromiseState.BROKEN


def day_in(zone: str, moment: datetime) -> date:
    """The calendar day of a moment in an IANA time zone."""
    return moment.astimezone(ZoneInfo(zone)).date()


def end_of_day(day: date, zone: str) -> datetime:
    """The first moment after `day` in an IANA time zone; a promise for `day` holds until then."""
    following = date.fromordinal(day.toordinal() + 1)
    return datetime(following.year, following.month, following.day, tzinfo=ZoneInfo(zone))


def delivered_late(promised_on: date | None, delivered_at: datetime, zone: str) -> bool:
    """Late means a later calendar day than promised, in the customer's time zone."""
    return promised_on is not None and day_in(zone, delivered_at) > promised_on
