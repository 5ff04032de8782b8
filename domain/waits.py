"""Waits between what a customer saw and did: how long, who owed the next move, and how late it was.

The customer's-eye view (features.md B7). All moments are business time.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import zip_longest
from typing import NamedTuple


class Side(StrEnum):
    US = "us"
    CUSTOMER = "customer"


class Owed(NamedTuple):
    """A move that somebody owed. `until` None: still; `due` None: nobody said by when."""

    by: Side
    what: str
    since: datetime
    until: datetime | None
    due: datetime | None = None


class Owing(NamedTuple):
    """It in one wait. `late`: how far the wait goes beyond what was due; 0: it doesn't."""

    owed: Owed
    late: timedelta


class Wait(NamedTuple):
    begins: datetime
    ends: datetime | None  # None: it goes on
    lasts: timedelta
    owing: tuple[Owing, ...]  # nothing: nobody owed a move

    @property
    def late(self) -> timedelta:
        """How far it goes beyond what we owed."""
        ours = [one.late for one in self.owing if one.owed.by is Side.US]
        return max(ours, default=timedelta(0))


def waits(moments: Sequence[datetime], owed: Sequence[Owed], now: datetime) -> list[Wait]:
    """One after each of `moments`, which are in order; the last goes on until `now`."""
    found = []
    for begins, ends in zip_longest(moments, moments[1:]):
        over = max(now, begins) if ends is None else ends
        owing = tuple(
            Owing(one, _beyond(one, over))
            for one in owed
            if one.since < over and (one.until is None or one.until > begins)
        )
        found.append(Wait(begins, ends, over - begins, owing))
    return found


def _beyond(one: Owed, over: datetime) -> timedelta:
    if one.due is None:
        return timedelta(0)
    end = over if one.until is None else min(one.until, over)
    return max(end - one.due, timedelta(0))
