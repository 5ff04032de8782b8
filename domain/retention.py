"""Retention: silence or a risk noticed, a save play, and its outcome with a reason."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from domain.payload import Payload
from domain.policies import RetentionPolicy, Terms
from domain.processes import Fact, Step
from domain.tasks import TaskRequest


class RetentionOutcome(StrEnum):
    SAVED = "saved"
    LOST = "lost"
    NOT_ALLOWED = "not_allowed"


def silence_after(policy: RetentionPolicy, orders: Sequence[datetime]) -> timedelta:
    """How long a silence must last to mean something, from the customer's own rhythm.

    With two orders or more: the mean interval between them times `rhythm_factor`, never shorter
    than `shortest_silence`. With fewer: the policy's default.
    """
    if len(orders) < 2:
        return policy.silence
    ordered = sorted(orders)
    mean = (ordered[-1] - ordered[0]) / (len(ordered) - 1)
    return max(mean * policy.rhythm_factor, policy.shortest_silence)


class RetentionInput(Payload):
    customer_id: UUID
    cause: str  # silence-<date>, or the risk event's code
    event_id: str = ""


class RetentionTerms(Terms[RetentionPolicy]):
    allowed: bool = True
    because: str = ""


class RetentionStep(Step):
    cause: str = ""


class SaveTaskStep(RetentionStep):
    task: TaskRequest


class OfferStep(RetentionStep):
    offer_until: datetime


class RetentionEndStep(RetentionStep):
    outcome: RetentionOutcome
    reason: str = ""


class RiskNoticed(Fact):
    cause: str


class CustomerReturned(Fact):
    """The customer ordered or wrote while we tried to keep him."""

    how: str = "order"
