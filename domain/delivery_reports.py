"""What a provider or a bounce says about a message afterwards, and what state follows from it."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field

from domain.messages import MessageState
from domain.payload import Payload


class ReportKind(StrEnum):
    ACCEPTED = "accepted"  # the provider took it: evidence where our own answer was lost
    DELAYED = "delayed"  # not yet, and it is still being tried: no failure (RFC 3464 §2.3.3)
    DELIVERED = "delivered"
    EXPIRED = "expired"  # a soft bounce: given up in the end, for a passing reason
    FAILED = "failed"  # the provider gave it up, and not because of the address
    BOUNCED = "bounced"  # a hard bounce: the address takes no mail
    COMPLAINED = "complained"
    OTHER = "other"  # kept and shown, but says nothing about the delivery


_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # before it a date is a mistake
_LONGEST = 500
_ADDRESS = re.compile(r"<?[^\s<>;,]+@[^\s<>;,]+>?|\+\d[\d ()-]{6,}\d")


def without_addresses(text: str) -> str:
    """What a provider says, as one line of plain text that names nobody; at most 500 characters."""
    plain = "".join(char if char.isprintable() else " " for char in text[: 4 * _LONGEST])
    return " ".join(_ADDRESS.sub("<address>", plain).split())[:_LONGEST]


class DeliveryReport(Payload):
    """One report. `effect` is the id of our message as the provider gives it back, if it does.

    `at` is the machine's time at the provider. `said` is shown and logged, so whoever is named in
    it is taken out.
    """

    kind: ReportKind
    effect: UUID | None
    said: Annotated[str, AfterValidator(without_addresses)]
    at: Annotated[AwareDatetime, Field(ge=_EARLIEST)]
    provider: str


# The further down, the more is known: a report moves a message down this list or not at all, so
# that neither order nor repetition matters. An asynchronous bounce outweighs the receiving server's
# yes, and who complains has got the message. Evidence also ends what we had given up, or would have
# sent again. All states that are not named are above the first.
_KNOWLEDGE = (
    MessageState.ACCEPTED,
    MessageState.FAILED,
    MessageState.DELIVERED,
    MessageState.BOUNCED,
    MessageState.COMPLAINED,
)
_SAYS = {
    ReportKind.ACCEPTED: MessageState.ACCEPTED,
    ReportKind.DELAYED: MessageState.ACCEPTED,  # only what was taken can be late
    ReportKind.EXPIRED: MessageState.FAILED,
    ReportKind.FAILED: MessageState.FAILED,
    ReportKind.DELIVERED: MessageState.DELIVERED,
    ReportKind.BOUNCED: MessageState.BOUNCED,
    ReportKind.COMPLAINED: MessageState.COMPLAINED,
}


def next_state(current: MessageState, kind: ReportKind) -> MessageState:
    """The state after a report. Any order and any repetition of the same ones ends alike."""
    said = _SAYS.get(kind)
    if said is None or _rank(current) >= _rank(said):
        return current
    return said


def _rank(state: MessageState) -> int:
    return _KNOWLEDGE.index(state) if state in _KNOWLEDGE else -1


def was_taken(kind: ReportKind) -> bool:
    """Whether it proves that a provider had the message."""
    return kind not in (ReportKind.FAILED, ReportKind.OTHER)
