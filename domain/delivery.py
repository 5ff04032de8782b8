"""The order on its way: its states, the facts that move it, and which may follow which."""

from collections.abc import Collection
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from domain.payload import Payload
from domain.policies import DeliveryPolicy, Terms
from domain.processes import Fact, Step
from domain.promises import PromiseKind, Shortfall, end_of_day
from domain.tasks import TaskRequest


class DeliveryState(StrEnum):
    PLACED = "placed"
    APPROVED = "approved"
    DISPATCHED = "dispatched"
    ATTEMPT_FAILED = "attempt_failed"
    DELIVERED = "delivered"
    RETURNED = "returned"
    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset(
    {
        DeliveryState.DELIVERED,
        DeliveryState.RETURNED,
        DeliveryState.UNAVAILABLE,
        DeliveryState.CANCELLED,
    }
)
_ON_THE_WAY = (
    DeliveryState.PLACED,
    DeliveryState.APPROVED,
    DeliveryState.DISPATCHED,
    DeliveryState.ATTEMPT_FAILED,
)


class Effect(StrEnum):
    """What a reported milestone does to an order."""

    ADVANCES = "advances"
    FILLS_IN = "fills_in"  # reported late: its time is noted, the state stays
    REPEATS = "repeats"
    CONTRADICTS = "contradicts"  # can't be true after what is already known


def effect_of(state: DeliveryState, reported: DeliveryState) -> Effect:
    """What `reported` does to an order in `state`.

    Carriers and shops report out of order: an approval that comes after the dispatch fills in its
    time. After the end only a correction is possible: what was delivered can still be returned or
    cancelled, what was given up can still turn out delivered; never dispatched again.
    """
    if state is reported and reported is not DeliveryState.ATTEMPT_FAILED:
        return Effect.REPEATS
    if not state.final:
        if reported.final or _ON_THE_WAY.index(reported) >= _ON_THE_WAY.index(state):
            return Effect.ADVANCES
        if state is DeliveryState.ATTEMPT_FAILED and reported is DeliveryState.DISPATCHED:
            return Effect.ADVANCES  # on its way again
        return Effect.FILLS_IN
    if state is DeliveryState.DELIVERED:
        if reported in (DeliveryState.RETURNED, DeliveryState.CANCELLED):
            return Effect.ADVANCES
        return Effect.CONTRADICTS if reported.final else Effect.FILLS_IN
    if reported is DeliveryState.DELIVERED and state is DeliveryState.UNAVAILABLE:
        return Effect.ADVANCES
    return Effect.CONTRADICTS


def may_be_reported(state: DeliveryState) -> list[DeliveryState]:
    """The milestones that make sense for an order in `state`."""
    return [
        milestone
        for milestone in DeliveryState
        if milestone is not DeliveryState.PLACED
        and effect_of(state, milestone) in (Effect.ADVANCES, Effect.FILLS_IN)
    ]


def may_be_rescheduled(state: DeliveryState) -> bool:
    """Whether a new day can be promised: as long as the order may still arrive."""
    return not state.final


class OrderLine(Payload):
    product: str
    quantity: int = 1
    price_minor: int = 0


class PromisedItem(Payload):
    """A promise made with the order itself, beside its date."""

    kind: PromiseKind
    code: str  # what is promised, as the shop codes it: no personal data


class OrderPlaced(Fact):
    order_id: UUID
    customer_id: UUID
    reference: str
    currency: str = "EUR"
    total_minor: int = 0
    lines: tuple[OrderLine, ...] = ()
    promised_on: date | None = None
    promises: tuple[PromisedItem, ...] = ()


class OrderApproved(Fact):
    pass


class OrderDispatched(Fact):
    carrier: str = ""
    tracking: str = ""
    expected_on: date | None = None  # the carrier's word: says whether the promise will be kept


class DeliveryAttemptFailed(Fact):
    reason: str = ""


class DeliveryRescheduled(Fact):
    """A new promised day; the customer is told it once."""

    promised_on: date


class OrderDelivered(Fact):
    shortfalls: tuple[Shortfall, ...] = ()


class OrderReturned(Fact):
    reason: str = ""


class OrderUnavailable(Fact):
    refund_minor: int | None = None  # None: all that was paid
    alternative: str = ""


class OrderCancelled(Fact):
    reason: str = ""
    refund_minor: int | None = None
    alternative: str = ""


Milestone = (
    OrderApproved
    | OrderDispatched
    | DeliveryAttemptFailed
    | DeliveryRescheduled
    | OrderDelivered
    | OrderReturned
    | OrderUnavailable
    | OrderCancelled
)

REACHES: dict[type[Fact], DeliveryState] = {
    OrderApproved: DeliveryState.APPROVED,
    OrderDispatched: DeliveryState.DISPATCHED,
    DeliveryAttemptFailed: DeliveryState.ATTEMPT_FAILED,
    OrderDelivered: DeliveryState.DELIVERED,
    OrderReturned: DeliveryState.RETURNED,
    OrderUnavailable: DeliveryState.UNAVAILABLE,
    OrderCancelled: DeliveryState.CANCELLED,
}


def warn_at(placed_at: datetime, promised_on: date, warn_before: timedelta, zone: str) -> datetime:
    """When to tell the customer that nothing says the promised day will be kept.

    `warn_before` ahead of the end of the promised day in the customer's zone; for a promise shorter
    than twice that, halfway, so that nobody is warned with the confirmation.
    """
    end = end_of_day(promised_on, zone)
    return max(end - warn_before, placed_at + (end - placed_at) / 2)


class DeliveryInput(Payload):
    """`placed` starts an order; without it the process reopens one that had ended."""

    order_id: UUID
    customer_id: UUID
    placed: OrderPlaced | None = None


class DeliveryTerms(Terms[DeliveryPolicy]):
    """What the process must know of the order, as PostgreSQL has it at the start."""

    zone: str = "UTC"
    state: DeliveryState = DeliveryState.PLACED
    promised_on: date | None = None
    placed_at: datetime | None = None


class Concern(StrEnum):
    """What an order on its way is looked at for, when its moment comes."""

    APPROVAL_OVERDUE = "approval_overdue"
    PROMISE_ENDANGERED = "promise_endangered"
    PROMISE_MISSED = "promise_missed"
    CHASE = "chase"
    REDELIVERY_OVERDUE = "redelivery_overdue"


class Deadline(NamedTuple):
    at: datetime  # business time
    concern: Concern
    key: str  # tells the warnings about two promised days, and two chases, apart


def next_deadline(
    terms: DeliveryTerms,
    seen: Collection[str],
    expected_on: date | None = None,
    failed_at: datetime | None = None,
) -> Deadline | None:
    """The next moment at which an order in `terms.state` has to be looked at.

    `seen` holds the keys of the deadlines that have been dealt with; `expected_on` is the day the
    carrier named, which spares the customer a warning when it keeps the promise; `failed_at` is a
    failed attempt that no news has followed yet.
    """
    if terms.state.final or terms.placed_at is None:
        return None
    policy, day = terms.policy, terms.promised_on
    found = []
    if terms.state is DeliveryState.PLACED:
        overdue = terms.placed_at + policy.approval_expected
        found.append(Deadline(overdue, Concern.APPROVAL_OVERDUE, "approval"))
    if failed_at is not None:
        redelivery = failed_at + policy.redelivery_expected
        found.append(Deadline(redelivery, Concern.REDELIVERY_OVERDUE, f"redelivery/{failed_at}"))
    if day is not None:
        end = end_of_day(day, terms.zone)
        if expected_on is None or expected_on > day:
            warning = warn_at(terms.placed_at, day, policy.warn_before, terms.zone)
            found.append(Deadline(warning, Concern.PROMISE_ENDANGERED, f"endangered/{day}"))
        found.append(Deadline(end, Concern.PROMISE_MISSED, f"missed/{day}"))
        found += [
            Deadline(end + policy.chase_every * (n + 1), Concern.CHASE, f"chase/{n + 1}")
            for n in range(policy.chases)
        ]
    return min((one for one in found if one.key not in seen), default=None)


class OrderStep(Step):
    order_id: UUID


class OrderPlacedStep(OrderStep):
    placed: OrderPlaced | None = None


class MilestoneStep(OrderStep):
    """A milestone with what it does to the order."""

    event_id: str
    effect: Effect = Effect.ADVANCES
    reached: DeliveryState | None = None
    promised_on: date | None = None
    previously_promised_on: date | None = None
    carrier: str = ""
    tracking: str = ""
    shortfalls: tuple[Shortfall, ...] = ()
    refund_minor: int | None = None
    alternative: str = ""
    reason: str = ""
    tasks: tuple[TaskRequest, ...] = ()
    withdrawn: tuple[str, ...] = ()  # keys of tasks that nobody needs any more
    zone: str = "UTC"


class PromiseEndangeredStep(OrderStep):
    """Nothing says that the promised day will be kept; or it has passed, and a person is asked."""

    promised_on: date
    task: TaskRequest | None = None


class OrderTaskStep(OrderStep):
    """A person has to look at the order."""

    task: TaskRequest
