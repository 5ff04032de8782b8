"""What a provider or a bounce says about a message afterwards, and what state follows from it."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, Field

from domain.messages import MessageState
from domain.payload import Payload


class ReportKind(StrEnum):
    ACCEPTED = "accepted"  # the provider took it: evidence where our own answer was lost
    DELAYED = "delayed"  # a soft bounce: not now, or not any more but for a passing reason
    DELIVERED = "delivered"
    FAILED = "failed"  # the provider gave it up, and not because of the address
    BOUNCED = "bounced"  # a hard bounce: the address takes no mail
    COMPLAINED = "complained"
    OTHER = "other"  # kept and shown, but says nothing about the delivery


class DeliveryReport(Payload):
    """One report. `effect` is the id of our message as the provider gives it back, if it does.

    `at` is the machine's time at the provider. `said` holds no address: it is shown and logged.
    """

    kind: ReportKind
    effect: UUID | None
    said: str = Field(max_length=500)
    at: AwareDatetime
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
