"""The clock a customer lives by: the machine's, or a simulation's that runs faster.

Policies and promises speak *business time*. For a real customer it is the machine's time. A
customer of a simulation (a replay, the demo) has a clock of his own, so that a year of history
passes in minutes with every duration and date scaled alike and still readable as a date.
"""

from datetime import datetime

from domain.payload import Payload


class Clock(Payload):
    """A straight line through (`machine_origin`, `business_origin`), `speed` seconds a second."""

    machine_origin: datetime | None = None
    business_origin: datetime | None = None
    speed: float = 1.0

    def business(self, machine: datetime) -> datetime:
        """The business time at a moment of the machine's."""
        if self.machine_origin is None or self.business_origin is None:
            return machine
        return self.business_origin + (machine - self.machine_origin) * self.speed

    def machine(self, business: datetime) -> datetime:
        """The machine's time at a moment of business time; the inverse of `business`."""
        if self.machine_origin is None or self.business_origin is None:
            return business
        return self.machine_origin + (business - self.business_origin) / self.speed


REAL_TIME = Clock()
