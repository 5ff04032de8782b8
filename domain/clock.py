"""The clock a customer lives by: the machine's, or a simulation's that runs faster.

Policies and promises speak *business time*. For a real customer it is the machine's time. A
customer of a simulation (a replay, the demo) has a clock of his own, so that a year of history
passes in minutes with every duration and date scaled alike and still readable as a date.
"""

from datetime import UTC, datetime, timedelta

from domain.payload import Payload

# Ten years from the ends of the calendar, so that there is room for deadlines.
_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta(days=3650)
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(days=3650)


class Clock(Payload):
    """A straight line through (`machine_origin`, `business_origin`), `speed` seconds a second."""

    machine_origin: datetime | None = None
    business_origin: datetime | None = None
    speed: float = 1.0

    def business(self, machine: datetime) -> datetime:
        """The business time at a moment of the machine's; it stands still where calendars end."""
        if self.machine_origin is None or self.business_origin is None:
            return machine
        try:
            moment = self.business_origin + (machine - self.machine_origin) * self.speed
        except OverflowError:
            return _LAST if machine > self.machine_origin else _FIRST
        return min(max(moment, _FIRST), _LAST)

    def machine(self, business: datetime) -> datetime:
        """The machine's time at a moment of business time; the inverse of `business`."""
        if self.machine_origin is None or self.business_origin is None:
            return business
        return self.machine_origin + (business - self.business_origin) / self.speed


REAL_TIME = Clock()
