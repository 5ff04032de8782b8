"""Orders: placed, on their way, with what was promised, told and learned."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.contacts import PreferenceView
from api.deps import Caller, Held, Session
from api.errors import Code, Problem, field_errors
from api.event_bodies import (
    DeliveryAttemptFailedEvent,
    DeliveryRescheduledEvent,
    MilestoneEvent,
    NeedStatedEvent,
    OrderApprovedEvent,
    OrderCancelledEvent,
    OrderDeliveredEvent,
    OrderDispatchedEvent,
    OrderLineBody,
    OrderPlacedEvent,
    OrderReturnedEvent,
    OrderUnavailableEvent,
    PromiseBody,
    ShortfallBody,
)
from api.fields import (
    Body,
    Currency,
    Day,
    EventId,
    Instant,
    Line,
    Minor,
    Prose,
    Reference,
    StaffId,
    Word,
    example,
)
from api.intake import Accepted, accept, business_now, event_id_for
from api.messages import MessageView
from api.paging import Key, Page, Paging, order_by, read_page
from api.promises import PromiseView
from api.routing import ApiRoute, needs
from database.customers import Preference
from database.feedback import Need
from database.messages import Message
from database.orders import Order, OrderMilestone
from database.promises import Promise
from database.queries.intake import find_ground
from domain.delivery import DeliveryState, Effect, may_be_reported
from domain.processes import delivery_workflow_id, order_id_of
from domain.staff import Permission

router = APIRouter(prefix="/orders", tags=["orders"], route_class=ApiRoute)

_Milestone = Annotated[
    OrderApprovedEvent
    | OrderDispatchedEvent
    | DeliveryAttemptFailedEvent
    | DeliveryRescheduledEvent
    | OrderDeliveredEvent
    | OrderReturnedEvent
    | OrderUnavailableEvent
    | OrderCancelledEvent,
    Field(discriminator="kind"),
]
_ORDERS: Mapping[str, Sequence[Key]] = {
    "placed_at": [Order.placed_at, Order.id],
    "promised_on": [Order.promised_on, Order.id],
}
_MILESTONE: TypeAdapter[MilestoneEvent] = TypeAdapter(_Milestone)
_REPORTS = {
    DeliveryState.APPROVED: "order_approved",
    DeliveryState.DISPATCHED: "order_dispatched",
    DeliveryState.ATTEMPT_FAILED: "delivery_attempt_failed",
    DeliveryState.DELIVERED: "order_delivered",
    DeliveryState.RETURNED: "order_returned",
    DeliveryState.UNAVAILABLE: "order_unavailable",
    DeliveryState.CANCELLED: "order_cancelled",
}


class NewOrder(Body):
    """An order as it was placed; its id follows from `source` and `reference`."""

    event_id: EventId | None = Field(None, description="null: one that follows from the order's id")
    source: Word = Field("api", examples=["shop"])
    reference: Reference = Field(examples=["4711"])
    customer_id: UUID | None = None
    customer_reference: Reference | None = None
    placed_at: Instant | None = Field(None, description="null: now on the customer's clock")
    currency: Currency = "EUR"
    total_minor: Minor = 0
    lines: list[OrderLineBody] = Field([], max_length=200)
    promised_on: Day | None = None
    promises: list[PromiseBody] = Field([], max_length=20)

    @model_validator(mode="after")
    def _names_one_customer(self) -> Self:
        if (self.customer_id is None) is (self.customer_reference is None):
            raise ValueError("name the customer by customer_id or by customer_reference, not both")
        return self


class MilestoneReport(Body):
    """What happened to the order; `kind` says which of the further fields there may be."""

    kind: Literal[
        "order_approved",
        "order_dispatched",
        "delivery_attempt_failed",
        "delivery_rescheduled",
        "order_delivered",
        "order_returned",
        "order_unavailable",
        "order_cancelled",
    ]
    event_id: EventId | None = None
    source: Word | None = None
    occurred_at: Instant | None = Field(None, description="null: now on the customer's clock")
    promised_on: Day | None = None
    carrier: Line | None = None
    tracking: Line | None = None
    reason: Word | None = None
    refund_minor: Minor | None = None
    alternative: Line | None = None
    shortfalls: list[ShortfallBody] | None = Field(None, max_length=50)


class Learned(Body):
    """What a delivery taught us: a need (text) or a preference (name and value)."""

    model_config = example(kind="need", author="agent-7", text="a second battery for the winter")

    kind: Literal["need", "preference"]
    author: StaffId
    text: Prose | None = None
    name: Word | None = None
    value: Line | None = None
    occurred_at: Instant | None = Field(None, description="null: now on the customer's clock")

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        said = {"text": self.text, "name": self.name, "value": self.value}
        wanted = {"text"} if self.kind == "need" else {"name", "value"}
        if {name for name, value in said.items() if value is not None} != wanted:
            raise ValueError(
                f"a {self.kind} has {' and '.join(sorted(wanted))}, and no other words"
            )
        return self


class LearnedView(BaseModel):
    """`workflow_id` names the process that makes an opportunity of a need."""

    kind: Literal["need", "preference"]
    id: UUID
    workflow_id: str | None = None


class MilestoneView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    event_id: str
    milestone: str
    effect: Effect
    occurred_at: datetime
    recorded_at: datetime


class NeedView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    text: str
    source: str
    state: str
    occurred_at: datetime


class OrderView(BaseModel):
    """Where an order stands."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    customer_id: UUID
    reference: str
    state: DeliveryState
    currency: str
    total_minor: int
    lines: list[dict[str, Any]]
    promised_on: date | None
    first_promised_on: date | None
    placed_at: datetime
    approved_at: datetime | None
    dispatched_at: datetime | None
    delivered_at: datetime | None
    ended_at: datetime | None
    carrier: str
    tracking: str
    endangered_at: datetime | None
    late_noticed_at: datetime | None
    delivered_late: bool | None
    refund_minor: int | None


class OrderDetail(OrderView):
    """An order with everything around it. `allowed_actions`: milestones that make sense now."""

    workflow_id: str
    allowed_actions: list[str]
    milestones: list[MilestoneView]
    promises: list[PromiseView]
    told: list[MessageView]
    needs: list[NeedView]
    preferences: list[PreferenceView]


@router.post("", status_code=202)
@needs(Permission.REPORT_ORDERS)
async def place_order(
    body: NewOrder, request: Request, session: Session, held: Held, caller: Caller
) -> Accepted:
    """Report an order; its delivery process starts. The same as the event order_placed."""
    order_id = order_id_of(body.source, body.reference)
    now = await business_now(
        session, customer_id=body.customer_id, customer_reference=body.customer_reference
    )
    event = OrderPlacedEvent(
        kind="order_placed",
        event_id=body.event_id or f"order/{order_id}/placed",
        source=body.source,
        occurred_at=body.placed_at or now,
        customer_id=body.customer_id,
        customer_reference=body.customer_reference,
        order_reference=body.reference,
        currency=body.currency,
        total_minor=body.total_minor,
        lines=body.lines,
        promised_on=body.promised_on,
        promises=body.promises,
    )
    return await accept(session, held, caller, event, body)


@router.post("/{order_id}/milestones", status_code=202)
@needs(Permission.REPORT_ORDERS)
async def report_milestone(
    order_id: UUID,
    body: MilestoneReport,
    request: Request,
    session: Session,
    held: Held,
    caller: Caller,
) -> Accepted:
    """Report a milestone. 409 when it can't follow what is known, with what may be reported."""
    given = body.model_dump(exclude_unset=True)
    given["event_id"] = body.event_id or event_id_for(request, f"order/{order_id}/{body.kind}")
    given["occurred_at"] = body.occurred_at or await business_now(session, order_id=order_id)
    if body.source is None:
        given.pop("source", None)
    try:
        event = _MILESTONE.validate_python({**given, "order_id": order_id})
    except ValidationError as error:
        errors = field_errors(error.errors(include_url=False, include_input=False), given)
        raise Problem(
            Code.INVALID_REQUEST, f"{errors[0].pointer}: {errors[0].detail}", errors=errors
        ) from None
    ground = await find_ground(session, event.event_id, order_id=order_id)
    if ground.fingerprint is None and event.contradicts(ground):
        assert ground.order_state is not None
        raise Problem(
            Code.MILESTONE_OUT_OF_ORDER,
            f"the order is {ground.order_state}: {body.kind} cannot follow",
            allowed_actions=_may_be_reported(ground.order_state),
        )
    return await accept(session, held, caller, event, body)


def _may_be_reported(state: DeliveryState) -> list[str]:
    return [_REPORTS[milestone] for milestone in may_be_reported(state)]


@router.post(
    "/{order_id}/learnings",
    status_code=201,
    responses={202: {"model": LearnedView, "description": "A need was given to its process"}},
)
@needs(Permission.EDIT_CUSTOMERS)
async def record_learning(
    order_id: UUID,
    body: Learned,
    request: Request,
    response: Response,
    session: Session,
    held: Held,
    caller: Caller,
) -> LearnedView:
    """Record what was learned with an order. A need becomes an opportunity for a person."""
    order = await _order(session, order_id)
    if body.kind == "preference":
        preference_id = await session.scalar(
            insert(Preference)
            .values(
                customer_id=order.customer_id,
                order_id=order_id,
                name=body.name,
                value=body.value,
                source=body.author,
            )
            .returning(Preference.id)
        )
        assert preference_id is not None
        return LearnedView(kind="preference", id=preference_id)
    assert body.text is not None
    now = await business_now(session, customer_id=order.customer_id)
    event = NeedStatedEvent(
        kind="need_stated",
        event_id=event_id_for(request, "need"),
        occurred_at=body.occurred_at or now,
        customer_id=order.customer_id,
        order_id=order_id,
        text=body.text,
        author=body.author,
    )
    accepted = await accept(session, held, caller, event, body)
    response.status_code = 202
    return LearnedView(kind="need", id=event.fact().need_id, workflow_id=accepted.workflow_id)


@router.get("")
async def list_orders(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query()] = None,
    reference: Annotated[Reference | None, Query()] = None,
    state: Annotated[DeliveryState | None, Query()] = None,
    late: Annotated[
        bool | None, Query(description="true: delivered late, or noticed past its promised day")
    ] = None,
    at_risk: Annotated[
        bool | None, Query(description="true: on its way, and its promised day is in danger")
    ] = None,
    overdue: Annotated[
        bool | None, Query(description="true: on its way, and noticed past its promised day")
    ] = None,
    promised_from: Annotated[Day | None, Query()] = None,
    promised_before: Annotated[Day | None, Query()] = None,
    sort: Annotated[
        Literal["placed_at", "-placed_at", "promised_on", "-promised_on"],
        Query(description="with a minus the latest first; what has no such day is left out"),
    ] = "-placed_at",
) -> Page[OrderView]:
    """Orders, the latest placed first if not sorted otherwise."""
    statement = sa.select(Order)
    if customer_id is not None:
        statement = statement.where(Order.customer_id == customer_id)
    if reference is not None:
        statement = statement.where(Order.reference == reference)
    if state is not None:
        statement = statement.where(Order.state == state)
    if late is not None:
        is_late = Order.delivered_late.is_(True) | Order.late_noticed_at.is_not(None)
        statement = statement.where(is_late if late else ~is_late)
    on_its_way = Order.delivered_at.is_(None) & Order.ended_at.is_(None)
    if at_risk is not None:
        endangered = Order.endangered_at.is_not(None) & Order.late_noticed_at.is_(None)
        is_at_risk = on_its_way & endangered
        statement = statement.where(is_at_risk if at_risk else ~is_at_risk)
    if overdue is not None:
        is_overdue = on_its_way & Order.late_noticed_at.is_not(None)
        statement = statement.where(is_overdue if overdue else ~is_overdue)
    if promised_from is not None:
        statement = statement.where(Order.promised_on >= promised_from)
    if promised_before is not None:
        statement = statement.where(Order.promised_on < promised_before)
    keys, descending = order_by(sort, _ORDERS)
    return await read_page(
        session,
        statement.where(keys[0].is_not(None)),
        keys,
        paging,
        OrderView.model_validate,
        descending=descending,
    )


@router.get("/{order_id}")
async def show_order(order_id: UUID, session: Session) -> OrderDetail:
    """One order: milestones, promises, what the customer was told, what was learned."""
    order = await _order(session, order_id)
    milestones = await session.scalars(
        sa.select(OrderMilestone)
        .where(OrderMilestone.order_id == order_id)
        .order_by(OrderMilestone.occurred_at, OrderMilestone.recorded_at)
    )
    promises = await session.scalars(
        sa.select(Promise).where(Promise.order_id == order_id).order_by(Promise.id)
    )
    workflow_id = delivery_workflow_id(order_id)
    told = await session.scalars(
        sa.select(Message).where(Message.workflow_id == workflow_id).order_by(Message.id)
    )
    needs = await session.scalars(sa.select(Need).where(Need.order_id == order_id))
    preferences = await session.scalars(
        sa.select(Preference).where(Preference.order_id == order_id)
    )
    view = OrderView.model_validate(order)
    return OrderDetail(
        **view.model_dump(),
        workflow_id=workflow_id,
        allowed_actions=_may_be_reported(order.state),
        milestones=[MilestoneView.model_validate(one) for one in milestones],
        promises=[PromiseView.model_validate(one) for one in promises],
        told=[MessageView.model_validate(one) for one in told],
        needs=[NeedView.model_validate(one) for one in needs],
        preferences=[PreferenceView.model_validate(one) for one in preferences],
    )


async def _order(session: AsyncSession, order_id: UUID) -> Order:
    order = await session.get(Order, order_id)
    if order is None:
        raise Problem(Code.UNKNOWN_ORDER, f"there is no order {order_id}")
    return order
