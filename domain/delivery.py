"""The order on its way: its states, the facts that move it, and which may follow which."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from domain.payload import Payload
from domain.policies import DeliveryPolicy, Terms
from domain.processes import Fact, Step
from domain.promises import PromiseKind, Shortfall


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
    told: tuple[str, ...] = ()


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
    compensate_by: datetime | None = None
    redelivery_by: datetime | None = None
    zone: str = "UTC"


class PromiseEndangeredStep(OrderStep):
    """Nothing says that the promised day will be kept, or it has passed."""

    promised_on: date
    passed: bool = False


class OrderTaskStep(OrderStep):
    """A person has to look at the order."""

    task: str
    due_at: datetime
