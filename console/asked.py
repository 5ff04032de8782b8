"""What an address asks a list for: values that are known, and the clocks of its rows."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from console.desk import Desk
from database.customers import clock_in

E = TypeVar("E", bound=StrEnum)


def one_of(desk: Desk, name: str, codes: type[E]) -> E | None:
    """A filter of the address; what isn't a value of it filters nothing."""
    text = desk.request.query_params.get(name, "").strip()
    return next((code for code in codes if code == text), None)


class CustomersTime(NamedTuple):
    """What the filter `clock` of templates needs."""

    now: datetime
    speed: float


def time_of(row: Any) -> CustomersTime:
    """Of a row with the CLOCK_COLUMNS: what time it is for its customer, and how fast it runs."""
    clock = clock_in(row)
    return CustomersTime(clock.business(datetime.now(UTC)), clock.speed)
