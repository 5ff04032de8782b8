"""When a customer is not to be disturbed, by the clock on his wall, and how often at most."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from domain.payload import Payload

_DAY = timedelta(days=1)


class QuietHours(Payload):
    """From `begins` to `ends` of the local day, over midnight where it ends before it begins."""

    begins: time
    ends: time

    def over_at(self, at: datetime, zone: str) -> datetime | None:
        """When the quiet hours end that `at` falls into (UTC); None outside of them.

        Raises zoneinfo.ZoneInfoNotFoundError for what is no IANA time zone.
        """
        here = ZoneInfo(zone)
        today = at.astimezone(here).date()
        for day in (today - _DAY, today):
            last = day if self.begins < self.ends else day + _DAY
            if _earliest(day, self.begins, here) <= at < _latest(last, self.ends, here):
                return _latest(last, self.ends, here)
        return None


def _earliest(day: date, wall: time, zone: ZoneInfo) -> datetime:
    return min(_instants(day, wall, zone))


def _latest(day: date, wall: time, zone: ZoneInfo) -> datetime:
    return max(_instants(day, wall, zone))


def _instants(day: date, wall: time, zone: ZoneInfo) -> list[datetime]:
    """What a clock on the wall may mean: where clocks change it shows a time twice, or never.

    Both readings of PEP 495; on all other days they are the same.
    """
    return [datetime.combine(day, wall.replace(fold=fold), zone).astimezone(UTC) for fold in (0, 1)]


class ContactCap(Payload):
    """So many messages within so long, whatever process or campaign asks for them."""

    at_most: int
    within: timedelta

    def free_at(self, at: datetime, sent: Sequence[datetime]) -> datetime | None:
        """When one more may go; None: now. `sent`: the moments of those that went before."""
        lately = self.counted(at, sent)
        if len(lately) < self.at_most:
            return None
        return lately[-self.at_most] + self.within

    def counted(self, at: datetime, sent: Sequence[datetime]) -> list[datetime]:
        """Those of the last `within` before `at`, the first first: a window that moves with time,
        not a day or week of a calendar.
        """
        return sorted(moment for moment in sent if moment > at - self.within)
