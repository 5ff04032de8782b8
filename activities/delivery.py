"""Writes of the delivery process. One activity is one transaction."""

from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities.steps import (
    begin_step,
    open_task,
    queue_message,
    surroundings_of,
    withdraw_tasks,
)
from database.base import Sessions, insert_once, table_of
from database.orders import Order, OrderMilestone
from database.promises import FROM_ORDER, Promise
from database.tasks import Task
from domain.delivery import (
    DeliveryState,
    DeliveryTerms,
    MilestoneStep,
    OrderPlaced,
    OrderPlacedStep,
    OrderStep,
    OrderTaskStep,
    PromiseEndangeredStep,
    next_deadline,
)
from domain.errors import Refusal
from domain.lifecycle import OrderNews
from domain.messages import MessageRequest, Template
from domain.policies import DeliveryPolicy, PolicyKind
from domain.processes import derived_id
from domain.promises import PromiseKind, PromiseState, day_in, delivered_late
from domain.tasks import TaskKind, TaskState
from temporal_runtime import tell_lifecycle

_NEW_ORDER, _NEW_PROMISE = insert(table_of(Order)), insert(table_of(Promise))


@dataclass(frozen=True)
class DeliveryActivities:
    sessions: Sessions
    client: Client

    @activity.defn
    async def open_delivery(self, step: OrderPlacedStep) -> DeliveryTerms:
        """Record a placed order with its promises, or read one whose process is reopened.

        Answers with the terms: the customer's clock, the policy in force, the order as it stands.
        """
        async with self.sessions.begin() as session:
            around = await surroundings_of(session, step.customer_id, PolicyKind.DELIVERY)
            clock, zone, policy, version = around
            terms = DeliveryTerms(
                clock=clock, zone=zone, policy=cast(DeliveryPolicy, policy), policy_version=version
            )
            if step.placed is None:
                order = await _order(session, step)
                return terms.model_copy(
                    update={
                        "state": order.state,
                        "promised_on": order.promised_on,
                        "placed_at": order.placed_at,
                    }
                )
            placed = step.placed
            promised_on = placed.promised_on or await _promised_in_selling(session, placed, zone)
            terms = terms.model_copy(
                update={"promised_on": promised_on, "placed_at": placed.occurred_at}
            )
            first = next_deadline(terms, set())
            opened = step.with_timer(first.at if first else None, clock)
            if await begin_step(session, opened, "order_placed", {"order": placed.reference}):
                await _place(session, step, placed, promised_on, zone)
        await self._tell_lifecycle(step, "placed")
        return terms

    @activity.defn
    async def record_approved(self, step: MilestoneStep) -> None:
        async with self.sessions.begin() as session:
            if await _begin_milestone(session, step, "order_approved"):
                await _move(session, step, approved_at=step.at)
                if step.withdrawn:
                    await withdraw_tasks(session, step, *step.withdrawn)

    @activity.defn
    async def record_dispatched(self, step: MilestoneStep) -> None:
        """On its way; the same parcel on its way again after a failed attempt is told once."""
        async with self.sessions.begin() as session:
            if await _begin_milestone(session, step, "order_dispatched"):
                order = await _move(
                    session,
                    step,
                    dispatched_at=step.at,
                    carrier=step.carrier,
                    tracking=step.tracking,
                )
                context = {
                    "carrier": step.carrier,
                    "tracking": step.tracking,
                    "promised_on": order.promised_on.isoformat() if order.promised_on else "",
                }
                parcel = str(derived_id(step.carrier, step.tracking))
                await _tell(session, step, order, Template.ORDER_DISPATCHED, context, parcel)
                if step.withdrawn:
                    await withdraw_tasks(session, step, *step.withdrawn)

    @activity.defn
    async def record_attempt_failed(self, step: MilestoneStep) -> None:
        async with self.sessions.begin() as session:
            if await _begin_milestone(session, step, "delivery_attempt_failed"):
                order = await _move(session, step)
                await _tell(session, step, order, Template.DELIVERY_ATTEMPT_FAILED)

    @activity.defn
    async def record_redelivery_overdue(self, step: OrderStep) -> None:
        """Nothing was heard since a failed attempt; a support case follows."""
        async with self.sessions.begin() as session:
            await begin_step(session, step, "redelivery_overdue")

    @activity.defn
    async def record_rescheduled(self, step: MilestoneStep) -> None:
        """A new promised day: the customer is told it once each time it becomes the promised one.

        What was noticed about the day before is over: danger and delay are of the day promised now.
        """
        async with self.sessions.begin() as session:
            if await _begin_milestone(session, step, "delivery_rescheduled"):
                order = await _order(session, step)
                before, order.promised_on = order.promised_on, step.promised_on
                order.endangered_at = order.late_noticed_at = None
                await session.execute(
                    sa.update(Promise)
                    .where(
                        Promise.order_id == step.order_id,
                        Promise.kind == PromiseKind.DATE,
                        Promise.source == FROM_ORDER,
                        Promise.state == PromiseState.OPEN,
                    )
                    .values(due_on=step.promised_on)
                )
                assert step.promised_on is not None
                context = {
                    "promised_on": step.promised_on.isoformat(),
                    "previously_promised_on": before.isoformat() if before else "",
                }
                await _tell(session, step, order, Template.ORDER_RESCHEDULED, context)

    @activity.defn
    async def record_endangered(self, step: PromiseEndangeredStep) -> None:
        """Nothing says that the promised day will be kept: tell the customer before it passes."""
        day = step.promised_on.isoformat()
        async with self.sessions.begin() as session:
            if await begin_step(session, step, "promise_endangered", {"promised_on": day}):
                order = await _order(session, step)
                order.endangered_at = order.endangered_at or step.at
                context = {"promised_on": day}
                await _tell(session, step, order, Template.ORDER_AT_RISK, context, day)

    @activity.defn
    async def record_missed(self, step: PromiseEndangeredStep) -> None:
        """The promised day has passed: tell the customer, and ask a person to look into it."""
        day = step.promised_on.isoformat()
        async with self.sessions.begin() as session:
            if await begin_step(session, step, "promise_missed", {"promised_on": day}):
                order = await _order(session, step)
                order.late_noticed_at = order.late_noticed_at or step.at
                await _tell(session, step, order, Template.ORDER_LATE, {"promised_on": day}, day)
                if step.task is not None:
                    await open_task(session, step, step.task, order_id=step.order_id)

    @activity.defn
    async def record_delivered(self, step: MilestoneStep) -> None:
        """Mark the order delivered, settle its promises and tell the customer."""
        async with self.sessions.begin() as session:
            if await _begin_milestone(session, step, "order_delivered"):
                order = await _order(session, step)
                if order.ended_at is not None:
                    await _recall_compensation(session, step)
                # Measured against the day first promised: a new date doesn't unbreak a promise.
                late = delivered_late(order.first_promised_on, step.at, step.zone)
                arrived = {"delivered_at": step.at, "delivered_late": late, "ended_at": None}
                await _move(session, step, **arrived)
                await _settle_promises(session, step, order)
                context = {"delivered_on": step.at.isoformat(), "late": "yes" if late else ""}
                await _tell(session, step, order, Template.ORDER_DELIVERED, context)
        await self._tell_lifecycle(step, "delivered")

    @activity.defn
    async def record_compensated(self, step: MilestoneStep) -> None:
        """Returned, unavailable or cancelled: refund noted, apology sent, a person asked to act."""
        assert step.reached is not None
        template, kind = {
            DeliveryState.RETURNED: (Template.ORDER_RETURNED, "order_returned"),
            DeliveryState.UNAVAILABLE: (Template.ORDER_UNAVAILABLE, "order_unavailable"),
            DeliveryState.CANCELLED: (Template.ORDER_CANCELLED, "order_cancelled"),
        }[step.reached]
        async with self.sessions.begin() as session:
            if await _begin_milestone(session, step, kind):
                order = await _move(session, step, ended_at=step.at)
                # What was never approved was never paid: nothing to give back.
                paid = order.total_minor if order.approved_at else 0
                order.refund_minor = paid if step.refund_minor is None else step.refund_minor
                await session.execute(
                    sa.update(Promise)
                    .where(Promise.order_id == step.order_id, Promise.state == PromiseState.OPEN)
                    .values(state=PromiseState.RELEASED, settled_at=step.at)
                )
                context = (
                    {}
                    if template is Template.ORDER_RETURNED
                    else {
                        "refund": f"{order.refund_minor} {order.currency}",
                        "alternative": step.alternative,
                    }
                )
                await _tell(session, step, order, template, context)
                for task in step.tasks:
                    await open_task(session, step, task, order_id=step.order_id)
        await self._tell_lifecycle(step, "ended")

    @activity.defn
    async def record_noted(self, step: MilestoneStep) -> None:
        """A report that doesn't move the order: late, repeated, or against what is known."""
        name = step.reached or "delivery_rescheduled"
        async with self.sessions.begin() as session:
            if await begin_step(session, step, f"noted_{name}", {"effect": step.effect}):
                await _note_milestone(session, step, f"{name}")
                order = await _order(session, step)
                if step.reached is DeliveryState.APPROVED and order.approved_at is None:
                    order.approved_at = step.at
                if step.reached is DeliveryState.DISPATCHED and order.dispatched_at is None:
                    order.dispatched_at = step.at
                    order.carrier = order.carrier or step.carrier
                    order.tracking = order.tracking or step.tracking
                if step.withdrawn:
                    await withdraw_tasks(session, step, *step.withdrawn)

    @activity.defn
    async def record_order_task(self, step: OrderTaskStep) -> None:
        """A person has to look at the order."""
        async with self.sessions.begin() as session:
            begun = await begin_step(session, step, f"asked_{step.task.kind}")
            if begun.stands:
                await open_task(session, step, step.task, order_id=step.order_id)

    @activity.defn
    async def record_delivery_ended(self, step: OrderStep) -> None:
        """The last thing open about the order is done; what it came to was reported before."""
        async with self.sessions.begin() as session:
            await begin_step(session, step, "delivery_ended", {"outcome": step.standing.outcome})

    async def _tell_lifecycle(self, step: OrderStep, kind: str) -> None:
        news = OrderNews(
            event_id=f"{step.workflow_id}/{step.key}",
            occurred_at=step.at,
            order_id=step.order_id,
            kind=kind,
        )
        await tell_lifecycle(self.client, step.customer_id, "order_news", news)


async def _begin_milestone(session: AsyncSession, step: MilestoneStep, kind: str) -> bool:
    if not await begin_step(session, step, kind, _facts(step)):
        return False
    await _note_milestone(session, step, kind)
    return True


async def _note_milestone(session: AsyncSession, step: MilestoneStep, kind: str) -> None:
    await insert_once(
        session,
        OrderMilestone,
        order_id=step.order_id,
        event_id=step.event_id,
        milestone=kind,
        effect=step.effect,
        occurred_at=step.at,
    )


def _facts(step: MilestoneStep) -> dict[str, Any]:
    named = {"carrier": step.carrier, "reason": step.reason, "promised_on": step.promised_on}
    return {name: str(value) for name, value in named.items() if value}


async def _order(session: AsyncSession, step: OrderStep) -> Order:
    """The order under a row lock."""
    return _found(await session.get(Order, step.order_id, with_for_update=True), step)


async def _move(session: AsyncSession, step: MilestoneStep, **values: Any) -> Order:
    """Bring the order to the state the milestone reached; answers with the order as it is then."""
    assert step.reached is not None
    moved = (
        sa.update(Order)
        .where(Order.id == step.order_id)
        .values(state=step.reached, **values)
        .returning(Order)
    )
    return _found((await session.scalars(moved)).one_or_none(), step)


def _found(order: Order | None, step: OrderStep) -> Order:
    if order is None:
        raise ApplicationError(
            f"no order {step.order_id}", type=Refusal.UNKNOWN_ORDER, non_retryable=True
        )
    return order


async def _tell(
    session: AsyncSession,
    step: OrderStep,
    order: Order,
    template: Template,
    context: dict[str, str] | None = None,
    occurrence: str = "",
) -> None:
    """One message for each occasion: a second failed attempt is news, a second report isn't."""
    if not occurrence:
        occurrence = step.event_id if isinstance(step, MilestoneStep) else step.key
    request = MessageRequest(
        template=template,
        occurrence=occurrence,
        context={"order": order.reference, **(context or {})},
    )
    await queue_message(session, step, request)


def _offered(placed: OrderPlaced, zone: str) -> sa.ColumnElement[bool]:
    """What was offered in selling and binds with the order; a day that had passed does not."""
    too_late = sa.and_(
        Promise.kind == PromiseKind.DATE,
        Promise.due_on < day_in(zone, placed.occurred_at),
    )
    return sa.and_(
        Promise.customer_id == placed.customer_id,
        Promise.state == PromiseState.OFFERED,
        too_late.is_not(True),
    )


async def _promised_in_selling(
    session: AsyncSession, placed: OrderPlaced, zone: str
) -> date | None:
    """The day of an order that names none: the earliest one offered in selling.

    An order that is there has its day already: a repeat answers as the first time did.
    """
    there = await session.get(Order, placed.order_id)
    if there is not None:
        return there.promised_on
    earliest: date | None = await session.scalar(
        sa.select(sa.func.min(Promise.due_on)).where(
            _offered(placed, zone), Promise.kind == PromiseKind.DATE
        )
    )
    return earliest


async def _place(
    session: AsyncSession,
    step: OrderStep,
    placed: OrderPlaced,
    promised_on: date | None,
    zone: str,
) -> None:
    """The order, its promises (those offered in selling too), and the confirmation."""
    day = promised_on.isoformat() if promised_on else ""
    row = {
        "id": placed.order_id,
        "customer_id": placed.customer_id,
        "reference": placed.reference,
        "state": DeliveryState.PLACED,
        "currency": placed.currency,
        "total_minor": placed.total_minor,
        "lines": [line.model_dump() for line in placed.lines],
        "promised_on": promised_on,
        "first_promised_on": promised_on,
        "placed_at": placed.occurred_at,
    }
    await session.execute(_NEW_ORDER, row)
    await session.execute(
        sa.update(Promise)
        .where(_offered(placed, zone))
        .values(state=PromiseState.OPEN, order_id=placed.order_id)
    )
    promises: list[dict[str, Any]] = [
        {"kind": item.kind, "text": item.code, "due_on": None} for item in placed.promises
    ]
    if placed.promised_on is not None:
        text = f"delivered by {day}"
        promises.append({"kind": PromiseKind.DATE, "text": text, "due_on": placed.promised_on})
    common = {
        "customer_id": step.customer_id,
        "order_id": placed.order_id,
        "state": PromiseState.OPEN,
        "source": FROM_ORDER,
    }
    if promises:
        rows = [{**common, **promise} for promise in promises]
        await session.execute(_NEW_PROMISE, rows)
    confirmation = MessageRequest(
        template=Template.ORDER_CONFIRMED,
        context={
            "order": placed.reference,
            "lines": "\n".join(f"{line.quantity} x {line.product}" for line in placed.lines),
            "total": f"{placed.total_minor} {placed.currency}",
            "promised_on": day,
        },
    )
    await queue_message(session, step, confirmation)


async def _recall_compensation(session: AsyncSession, step: MilestoneStep) -> None:
    """It was given up and has arrived: its promises are judged after all, and nothing is given back
    unless a person has done so already.
    """
    compensated = sa.exists().where(
        Task.workflow_id == step.workflow_id,
        Task.kind == TaskKind.COMPENSATE,
        Task.state == TaskState.DONE,
    )
    await session.execute(
        sa.update(Order).where(Order.id == step.order_id, ~compensated).values(refund_minor=None)
    )
    await session.execute(
        sa.update(Promise)
        .where(Promise.order_id == step.order_id, Promise.state == PromiseState.RELEASED)
        .values(state=PromiseState.OPEN, settled_at=None)
    )


async def _settle_promises(session: AsyncSession, step: MilestoneStep, order: Order) -> None:
    """Mark each promise of the order kept, partly kept or broken.

    A promise nobody reports short of was kept; a date is judged by the calendar, not by opinion:
    that of the order by the day first promised, one offered in selling by its own.
    """
    promises = (
        await session.scalars(
            sa.select(Promise)
            .where(Promise.order_id == step.order_id, Promise.state == PromiseState.OPEN)
            .with_for_update()
        )
    ).all()
    for promise in promises:
        promise.state = PromiseState.KEPT
        promise.settled_at = step.at
        if promise.kind is PromiseKind.DATE:
            own = None if promise.source == FROM_ORDER else promise.due_on
            if delivered_late(own or order.first_promised_on, step.at, step.zone):
                promise.state = PromiseState.BROKEN
            continue
        for shortfall in step.shortfalls:
            if shortfall.promise_id == promise.id or shortfall.kind is promise.kind:
                promise.state = shortfall.verdict
