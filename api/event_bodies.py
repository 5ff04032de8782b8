"""The lifecycle events other systems may report, and what each becomes inside.

What a customer wrote stays in the event's row; the fact that goes to a process carries ids only.
"""

from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from fastapi import Body as RequestBody
from pydantic import Field, model_validator
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from api.errors import Code, Problem
from api.fields import (
    Body,
    Count,
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
)
from database.feedback import Need
from database.queries.customers import withdraw_consents
from database.queries.intake import Ground
from domain.delivery import (
    REACHES,
    DeliveryAttemptFailed,
    DeliveryInput,
    DeliveryRescheduled,
    Effect,
    Milestone,
    OrderApproved,
    OrderCancelled,
    OrderDelivered,
    OrderDispatched,
    OrderLine,
    OrderPlaced,
    OrderReturned,
    OrderUnavailable,
    PromisedItem,
    effect_of,
    may_be_rescheduled,
)
from domain.follow_up import Expectation, FeedbackReceived, FollowUpInput, NeedStated
from domain.lifecycle import LeadReceived, OptedOut
from domain.marketing import ReplyReceived
from domain.messages import Channel, Purpose
from domain.policies import CaseKind, Priority, SurveyScale
from domain.processes import (
    LIFECYCLE_QUEUE,
    Fact,
    ProcessKind,
    delivery_workflow_id,
    derived_id,
    follow_up_workflow_id,
    lifecycle_workflow_id,
    order_id_of,
    support_workflow_id,
)
from domain.promises import PromiseKind, PromiseState, Shortfall
from domain.retention import RiskNoticed
from domain.support import CaseInput
from domain.tasks import Role
from temporal_runtime import tell_lifecycle, tell_process
from workflows.delivery import OrderDelivery
from workflows.follow_up import FollowUp
from workflows.support import SupportCase
from workflows.visibility import search_attributes


class EventBody(Body):
    """What every event says."""

    event_id: EventId
    source: Word = Field("api", description="the reporting system", examples=["shop"])
    occurred_at: Instant = Field(description="when it happened, with its time zone")
    kind: str

    def order(self) -> UUID | None:
        """The order it is about, if any."""
        return None

    def case(self) -> UUID | None:
        return None

    def refuse_unfounded(self, ground: Ground) -> None:
        """Raises the problem when what it is about is not known."""
        if ground.customer_id is None:
            given = getattr(self, "customer_reference", None) or getattr(self, "customer_id", None)
            raise Problem(Code.UNKNOWN_CUSTOMER, f"there is no customer {given}")

    def workflow_id(self, ground: Ground) -> str:
        """The process that is told of it."""
        raise NotImplementedError

    def notice(self, ground: Ground) -> str:
        """What the reporter should know about an accepted event; empty mostly."""
        return ""

    async def record(self, session: AsyncSession, ground: Ground) -> None:
        """Reference data that the event changes beside its own row."""

    async def tell(self, client: Client, ground: Ground) -> None:
        """Tell the process. A repeat is recognised there by the event id."""
        raise NotImplementedError


class _AboutCustomer(EventBody):
    customer_id: UUID | None = None
    customer_reference: Reference | None = None

    @model_validator(mode="after")
    def _names_one_customer(self) -> Self:
        if (self.customer_id is None) is (self.customer_reference is None):
            raise ValueError("name the customer by customer_id or by customer_reference, not both")
        return self


class _OfLifecycle(_AboutCustomer):
    """A fact for the process of the whole relationship."""

    def fact(self) -> Fact:
        raise NotImplementedError

    def workflow_id(self, ground: Ground) -> str:
        assert ground.customer_id is not None
        return lifecycle_workflow_id(ground.customer_id)

    async def tell(self, client: Client, ground: Ground) -> None:
        assert ground.customer_id is not None
        await tell_lifecycle(
            client, ground.customer_id, self.kind, self.fact(), known=ground.has_lifecycle
        )


class LeadReceivedEvent(_OfLifecycle):
    """Somebody showed interest."""

    kind: Literal["lead_received"]
    campaign: Word | None = None
    by_staff: bool = Field(False, strict=True)

    def fact(self) -> LeadReceived:
        return LeadReceived(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            source=self.source,
            campaign=self.campaign or "",
            by_staff=self.by_staff,
        )


class ReplyReceivedEvent(_OfLifecycle):
    """The customer wrote to us."""

    kind: Literal["reply_received"]
    text: Prose | None = None
    case_id: UUID | None = Field(None, description="the case the customer wrote about, if known")

    def case(self) -> UUID | None:
        return self.case_id

    def refuse_unfounded(self, ground: Ground) -> None:
        super().refuse_unfounded(ground)
        if self.case_id is not None and ground.case_customer_id != ground.customer_id:
            raise Problem(Code.UNKNOWN_CASE, f"the customer has no case {self.case_id}")

    def fact(self) -> ReplyReceived:
        return ReplyReceived(
            event_id=self.event_id, occurred_at=self.occurred_at, about_case=self.case_id
        )


class OptedOutEvent(_OfLifecycle):
    """The customer no longer wants to be written to."""

    kind: Literal["opted_out"]
    channel: Channel | None = Field(None, description="null: every channel")
    purpose: Purpose = Purpose.MARKETING

    def fact(self) -> OptedOut:
        return OptedOut(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            channel=self.channel,
            purpose=self.purpose,
        )

    async def record(self, session: AsyncSession, ground: Ground) -> None:
        assert ground.customer_id is not None
        await withdraw_consents(
            session,
            ground.customer_id,
            self.event_id,
            [self.channel] if self.channel else list(Channel),
            self.purpose,
            source=self.source,
            occurred_at=self.occurred_at,
        )


class RiskNoticedEvent(_OfLifecycle):
    """Something says that the customer may leave."""

    kind: Literal["risk_noticed"]
    cause: Word = Field(examples=["subscription-cancelled"])

    def fact(self) -> RiskNoticed:
        return RiskNoticed(event_id=self.event_id, occurred_at=self.occurred_at, cause=self.cause)


class NeedStatedEvent(_OfLifecycle):
    """The customer said what is needed next."""

    kind: Literal["need_stated"]
    text: Prose
    order_id: UUID | None = None
    author: StaffId | None = Field(None, description="who noticed it, if a member of staff did")

    def order(self) -> UUID | None:
        return self.order_id

    def refuse_unfounded(self, ground: Ground) -> None:
        super().refuse_unfounded(ground)
        _refuse_order_of_another(self.order_id, ground)

    def fact(self) -> NeedStated:
        need_id = derived_id("need", self.event_id)
        return NeedStated(event_id=self.event_id, occurred_at=self.occurred_at, need_id=need_id)

    async def record(self, session: AsyncSession, ground: Ground) -> None:
        await session.execute(
            insert(Need)
            .values(
                id=derived_id("need", self.event_id),
                customer_id=ground.customer_id,
                order_id=self.order_id,
                text=self.text,
                source=self.author or self.source,
                occurred_at=self.occurred_at,
            )
            .on_conflict_do_nothing()
        )


class OrderLineBody(Body):
    product: Line
    quantity: Count = 1
    price_minor: Minor = 0


class PromiseBody(Body):
    kind: Literal[PromiseKind.QUALITY, PromiseKind.PRICE, PromiseKind.SERVICE]
    code: Word = Field(description="what is promised, as the shop codes it")


class OrderPlacedEvent(_AboutCustomer):
    """The customer ordered. The order's id follows from `source` and `order_reference`."""

    kind: Literal["order_placed"]
    order_reference: Reference
    currency: Currency = "EUR"
    total_minor: Minor = 0
    lines: list[OrderLineBody] = Field([], max_length=200)
    promised_on: Day | None = Field(None, description="the day by which it was promised")
    promises: list[PromiseBody] = Field([], max_length=20)

    def order(self) -> UUID:
        return order_id_of(self.source, self.order_reference)

    def refuse_unfounded(self, ground: Ground) -> None:
        super().refuse_unfounded(ground)
        if ground.order_customer_id not in (None, ground.customer_id):
            raise Problem(
                Code.CONFLICT,
                f"the order {self.order_reference} of {self.source} is another customer's",
            )

    def workflow_id(self, ground: Ground) -> str:
        return delivery_workflow_id(self.order())

    def notice(self, ground: Ground) -> str:
        if ground.placed_by not in (None, self.event_id):
            return f"the order was placed before by event {ground.placed_by}; nothing changes"
        return ""

    async def tell(self, client: Client, ground: Ground) -> None:
        assert ground.customer_id is not None
        placed = OrderPlaced(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            order_id=self.order(),
            customer_id=ground.customer_id,
            reference=self.order_reference,
            currency=self.currency,
            total_minor=self.total_minor,
            lines=tuple(OrderLine.model_validate(line.model_dump()) for line in self.lines),
            promised_on=self.promised_on,
            promises=tuple(PromisedItem(kind=p.kind, code=p.code) for p in self.promises),
        )
        await start_delivery(
            client,
            DeliveryInput(order_id=self.order(), customer_id=ground.customer_id, placed=placed),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )


async def start_delivery(client: Client, order: DeliveryInput, **options: Any) -> None:
    """Start or signal the order's process; one that was started before is left alone."""
    try:
        await client.start_workflow(
            OrderDelivery.run,
            order,
            id=delivery_workflow_id(order.order_id),
            task_queue=LIFECYCLE_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=search_attributes(order.customer_id, ProcessKind.DELIVERY, "placed"),
            static_summary="One order on its way, from placed to delivered",
            **options,
        )
    except WorkflowAlreadyStartedError:
        return


class _AboutOrder(EventBody):
    order_id: UUID | None = None
    order_reference: Reference | None = Field(None, description="with `source` names the order")

    @model_validator(mode="after")
    def _names_one_order(self) -> Self:
        if (self.order_id is None) is (self.order_reference is None):
            raise ValueError("name the order by order_id or by order_reference, not both")
        return self

    def order(self) -> UUID:
        if self.order_id is not None:
            return self.order_id
        assert self.order_reference is not None
        return order_id_of(self.source, self.order_reference)

    def refuse_unfounded(self, ground: Ground) -> None:
        if not ground.order_is_known:
            given = self.order_reference or self.order_id
            raise Problem(Code.UNKNOWN_ORDER, f"there is no order {given} of {self.source}")


class MilestoneEvent(_AboutOrder):
    """A milestone of an order on its way."""

    fact_class: ClassVar[type[Fact]]

    def fact(self) -> Milestone:
        raise NotImplementedError

    def workflow_id(self, ground: Ground) -> str:
        return delivery_workflow_id(self.order())

    def contradicts(self, ground: Ground) -> bool:
        """Whether it can't be true after what is known of the order."""
        reached = REACHES.get(self.fact_class)
        if ground.order_state is None or reached is None:
            return False
        return effect_of(ground.order_state, reached) is Effect.CONTRADICTS

    def notice(self, ground: Ground) -> str:
        if self.contradicts(ground):
            return (
                f"the order is {ground.order_state}, so {self.kind} cannot follow; it is noted as "
                "a contradiction and changes nothing"
            )
        return ""

    async def tell(self, client: Client, ground: Ground) -> None:
        fact = self.fact()
        if await tell_process(client, self.workflow_id(ground), self.kind, fact):
            return
        assert ground.order_customer_id is not None
        await start_delivery(
            client,
            DeliveryInput(order_id=self.order(), customer_id=ground.order_customer_id),
            start_signal=self.kind,
            start_signal_args=[fact],
        )


class OrderApprovedEvent(MilestoneEvent):
    """The order may go out."""

    kind: Literal["order_approved"]
    fact_class = OrderApproved

    def fact(self) -> OrderApproved:
        return OrderApproved(event_id=self.event_id, occurred_at=self.occurred_at)


class OrderDispatchedEvent(MilestoneEvent):
    """The carrier has it."""

    kind: Literal["order_dispatched"]
    carrier: Line | None = None
    tracking: Line | None = None
    expected_on: Day | None = Field(
        None, description="the carrier's word; one that keeps the promise spares the warning"
    )
    fact_class = OrderDispatched

    def fact(self) -> OrderDispatched:
        return OrderDispatched(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            carrier=self.carrier or "",
            tracking=self.tracking or "",
            expected_on=self.expected_on,
        )


class DeliveryAttemptFailedEvent(MilestoneEvent):
    """The carrier came and could not hand it over."""

    kind: Literal["delivery_attempt_failed"]
    reason: Word | None = Field(None, examples=["nobody-home"])
    fact_class = DeliveryAttemptFailed

    def fact(self) -> DeliveryAttemptFailed:
        return DeliveryAttemptFailed(
            event_id=self.event_id, occurred_at=self.occurred_at, reason=self.reason or ""
        )


class DeliveryRescheduledEvent(MilestoneEvent):
    """A new promised day."""

    kind: Literal["delivery_rescheduled"]
    promised_on: Day
    fact_class = DeliveryRescheduled

    def contradicts(self, ground: Ground) -> bool:
        """Nothing is on its way any more that could come on another day."""
        return ground.order_state is not None and not may_be_rescheduled(ground.order_state)

    def fact(self) -> DeliveryRescheduled:
        return DeliveryRescheduled(
            event_id=self.event_id, occurred_at=self.occurred_at, promised_on=self.promised_on
        )


class ShortfallBody(Body):
    """A promise that the delivery did not fully keep."""

    promise_id: UUID | None = None
    kind: PromiseKind | None = None
    verdict: Literal[PromiseState.BROKEN, PromiseState.PARTLY_KEPT] = PromiseState.BROKEN


class OrderDeliveredEvent(MilestoneEvent):
    """The customer has it."""

    kind: Literal["order_delivered"]
    shortfalls: list[ShortfallBody] = Field([], max_length=50)
    fact_class = OrderDelivered

    def fact(self) -> OrderDelivered:
        return OrderDelivered(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            shortfalls=tuple(Shortfall.model_validate(s.model_dump()) for s in self.shortfalls),
        )


class OrderReturnedEvent(MilestoneEvent):
    """It came back."""

    kind: Literal["order_returned"]
    reason: Word | None = None
    fact_class = OrderReturned

    def fact(self) -> OrderReturned:
        return OrderReturned(
            event_id=self.event_id, occurred_at=self.occurred_at, reason=self.reason or ""
        )


class OrderUnavailableEvent(MilestoneEvent):
    """It can't be delivered."""

    kind: Literal["order_unavailable"]
    refund_minor: Minor | None = Field(None, description="null: all that was paid")
    alternative: Line | None = Field(None, description="a product offered instead")
    fact_class = OrderUnavailable

    def fact(self) -> OrderUnavailable:
        return OrderUnavailable(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            refund_minor=self.refund_minor,
            alternative=self.alternative or "",
        )


class OrderCancelledEvent(MilestoneEvent):
    """It was cancelled."""

    kind: Literal["order_cancelled"]
    reason: Word | None = None
    refund_minor: Minor | None = Field(None, description="null: all that was paid")
    alternative: Line | None = Field(None, description="a product offered instead")
    fact_class = OrderCancelled

    def fact(self) -> OrderCancelled:
        return OrderCancelled(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            reason=self.reason or "",
            refund_minor=self.refund_minor,
            alternative=self.alternative or "",
        )


async def tell_follow_up(
    client: Client, customer_id: UUID, about_id: UUID, about: str, feedback: FeedbackReceived
) -> None:
    """Tell the follow-up of an order or a case; feedback nobody asked for starts one."""
    workflow_id = follow_up_workflow_id(about_id)
    if await tell_process(client, workflow_id, "feedback_received", feedback):
        return
    await client.start_workflow(
        FollowUp.run,
        FollowUpInput(
            customer_id=customer_id,
            about_id=about_id,
            about=about,
            since=feedback.occurred_at,
            asks=False,
        ),
        id=workflow_id,
        task_queue=LIFECYCLE_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        start_signal="feedback_received",
        start_signal_args=[feedback],
        search_attributes=search_attributes(customer_id, ProcessKind.FOLLOW_UP, "answered"),
        static_summary="Thanks, a survey and what follows from the answer",
    )


class ReviewReceivedEvent(_AboutOrder):
    """The customer reviewed an order, 1 to 5 stars."""

    kind: Literal["review_received"]
    score: int = Field(strict=True, ge=1, le=5)
    title: Prose | None = None
    comment: Prose | None = None

    def workflow_id(self, ground: Ground) -> str:
        return follow_up_workflow_id(self.order())

    async def tell(self, client: Client, ground: Ground) -> None:
        assert ground.order_customer_id is not None
        feedback = FeedbackReceived(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            customer_id=ground.order_customer_id,
            score=self.score,
            order_id=self.order(),
        )
        await tell_follow_up(client, ground.order_customer_id, self.order(), "order", feedback)


class SurveyAnsweredEvent(EventBody):
    """A survey answered by its link; made by the survey page, not reported by other systems."""

    kind: Literal["survey_answered"]
    customer_id: UUID
    survey_id: UUID
    scale: SurveyScale
    score: int
    expectation: Expectation | None = None
    comment: Prose | None = None
    order_id: UUID | None = None
    case_id: UUID | None = None

    def order(self) -> UUID | None:
        return self.order_id

    @property
    def about_id(self) -> UUID:
        about = self.order_id or self.case_id
        assert about is not None
        return about

    def workflow_id(self, ground: Ground) -> str:
        return follow_up_workflow_id(self.about_id)

    async def tell(self, client: Client, ground: Ground) -> None:
        feedback = FeedbackReceived(
            event_id=self.event_id,
            occurred_at=self.occurred_at,
            customer_id=self.customer_id,
            score=self.score,
            scale=self.scale,
            order_id=self.order_id,
            case_id=self.case_id,
            survey_id=self.survey_id,
            expectation=self.expectation,
        )
        about = "order" if self.order_id else "case"
        await tell_follow_up(client, self.customer_id, self.about_id, about, feedback)


class CaseOpenedEvent(_AboutCustomer):
    """The customer asks for help."""

    kind: Literal["case_opened"]
    case_kind: Literal[
        CaseKind.REQUEST, CaseKind.QUESTION, CaseKind.INCIDENT, CaseKind.FAILED_DELIVERY
    ] = CaseKind.REQUEST
    priority: Priority = Priority.NORMAL
    queue: Role = Role.SUPPORT_AGENT
    text: Prose
    order_id: UUID | None = None

    def order(self) -> UUID | None:
        return self.order_id

    def opened_case(self) -> UUID:
        """The case's id follows from the event's, so a repeat finds the same case."""
        return derived_id("case", self.event_id)

    def refuse_unfounded(self, ground: Ground) -> None:
        super().refuse_unfounded(ground)
        _refuse_order_of_another(self.order_id, ground)

    def workflow_id(self, ground: Ground) -> str:
        return support_workflow_id(self.opened_case())

    async def tell(self, client: Client, ground: Ground) -> None:
        assert ground.customer_id is not None
        opened = CaseInput(
            case_id=self.opened_case(),
            customer_id=ground.customer_id,
            kind=self.case_kind,
            priority=self.priority,
            queue=self.queue,
            opened_at=self.occurred_at,
            event_id=self.event_id,
            order_id=self.order_id,
        )
        try:
            await client.start_workflow(
                SupportCase.run,
                opened,
                id=support_workflow_id(opened.case_id),
                task_queue=LIFECYCLE_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=search_attributes(
                    ground.customer_id, ProcessKind.SUPPORT, "open"
                ),
                static_summary="A case of support, from opened to closed",
            )
        except WorkflowAlreadyStartedError:
            return


def _refuse_order_of_another(order_id: UUID | None, ground: Ground) -> None:
    if order_id is not None and ground.order_customer_id != ground.customer_id:
        raise Problem(Code.UNKNOWN_ORDER, f"the customer has no order {order_id}")


LifecycleEvent = Annotated[
    LeadReceivedEvent
    | ReplyReceivedEvent
    | OptedOutEvent
    | RiskNoticedEvent
    | NeedStatedEvent
    | OrderPlacedEvent
    | OrderApprovedEvent
    | OrderDispatchedEvent
    | DeliveryAttemptFailedEvent
    | DeliveryRescheduledEvent
    | OrderDeliveredEvent
    | OrderReturnedEvent
    | OrderUnavailableEvent
    | OrderCancelledEvent
    | ReviewReceivedEvent
    | CaseOpenedEvent,
    Field(discriminator="kind"),
    RequestBody(),
]
