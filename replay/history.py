"""A history to be played: what entered when, and what must have come of it in the end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple

from domain.delivery import DeliveryState
from domain.promises import end_of_day

CUSTOMER = "customer"  # the kind of an entry that makes or updates a customer; others are events


@dataclass(frozen=True, slots=True)
class Entry:
    """One call of the public API at its moment. Ids are the history's own: the player prefixes
    them with the simulation's, so that every replay is a world of its own."""

    at: datetime  # when it enters, UTC; never before what it builds on
    customer: str
    kind: str  # CUSTOMER, or the kind of a lifecycle event
    key: str  # unique within the history; becomes the event id
    occurred_at: datetime  # as reported; mostly the same as `at`
    fields: Mapping[str, Any]
    order: str | None = None


class HistoricOrder(NamedTuple):
    """What the history says of an order, in the product's words."""

    reference: str
    customer: str
    status: str  # in the source's own words
    state: DeliveryState  # at the end of the history
    promised_on: date | None
    delivered: bool  # it was delivered, whatever came afterwards
    late: bool  # delivered on a later day than promised


class BadRow(NamedTuple):
    """Something in a file that can't be played, and what to do about it."""

    file: str
    row: int | None  # the header is row 1
    line: int | None  # where the row begins; comments may have line breaks
    field: str
    what: str

    def __str__(self) -> str:
        where = self.file
        if self.row is not None:
            where += f", row {self.row}"
            where += f" (line {self.line})" if self.line not in (None, self.row) else ""
        return f"{where}, {self.field}: {self.what}" if self.field else f"{where}: {self.what}"


class BadInput(Exception):
    """The files can't be played as they are."""

    def __init__(self, problems: Sequence[BadRow]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems[:3]))
        self.problems = list(problems)


@dataclass
class History:
    """Ordered by time; what customers and orders say is taken from the same rows."""

    entries: list[Entry]
    zone: str
    orders: dict[str, HistoricOrder] = field(default_factory=dict)
    scores: dict[str, int] = field(default_factory=dict)  # of reviews, by the entry's key
    statuses: Counter[str] = field(default_factory=Counter)  # in the source's own words
    assumptions: list[str] = field(default_factory=list)
    skipped: list[BadRow] = field(default_factory=list)

    @property
    def begins_at(self) -> datetime:
        return self.entries[0].at

    @property
    def ends_at(self) -> datetime:
        """The latest moment of anything in the history."""
        return self.entries[-1].at

    @property
    def customers(self) -> set[str]:
        return {entry.customer for entry in self.entries}

    @property
    def states(self) -> Counter[DeliveryState]:
        return Counter(order.state for order in self.orders.values())

    @property
    def disappointments(self) -> int:
        return sum(score <= 2 for score in self.scores.values())

    def is_overdue(self, order: HistoricOrder) -> bool:
        """Neither delivered nor given up, and past the promised day when the history ends."""
        return (
            not order.state.final
            and order.promised_on is not None
            and end_of_day(order.promised_on, self.zone) <= self.ends_at
        )
