"""A whole life of a customer, driven as the API drives it: by signals and starts, one at a time.

A lead comes in, the customer replies, orders, the order is dispatched and delivered, he answers
the survey with five stars and is asked to recommend us. Between two facts the driver waits until
the processes have acted on the last one.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import sqlalchemy as sa
from temporalio.client import Client

from benchmarks.reports import Progress, Report
from database.base import Sessions
from database.customers import Consent, ContactPoint, Customer, Simulation
from database.feedback import Survey
from database.policies import PolicyVersion
from domain.clock import REAL_TIME, Clock
from domain.contacts import ConsentState
from domain.delivery import DeliveryInput, OrderDelivered, OrderDispatched, OrderLine, OrderPlaced
from domain.follow_up import FeedbackReceived
from domain.lifecycle import LeadReceived
from domain.marketing import ReplyReceived
from domain.messages import Channel, Purpose
from domain.policies import (
    DeliveryPolicy,
    FollowUpPolicy,
    MarketingPolicy,
    Policy,
    PolicyKind,
    RetentionPolicy,
)
from domain.processes import (
    LIFECYCLE_QUEUE,
    ProcessKind,
    delivery_workflow_id,
    follow_up_workflow_id,
)
from temporal_runtime import tell_lifecycle
from workflows.delivery import OrderDelivery
from workflows.visibility import search_attributes

DAY = 1.0  # seconds that a day of business time lasts
_MONTH = timedelta(days=30)
_YEARS = timedelta(days=3650)

# What a life waits for comes at once (6 hours are 250 ms); what would interfere comes much later.
_POLICIES: dict[PolicyKind, Policy] = {
    PolicyKind.MARKETING: MarketingPolicy(between_touches=_MONTH, first_response=_MONTH * 4),
    PolicyKind.DELIVERY: DeliveryPolicy(approval_expected=_MONTH * 4),
    PolicyKind.FOLLOW_UP: FollowUpPolicy(
        after_delivery=timedelta(hours=6),
        remind_after=_MONTH * 4,
        answer_changeable=timedelta(hours=6),
    ),
    PolicyKind.RETENTION: RetentionPolicy(silence=_YEARS, shortest_silence=_YEARS),
}
_PROMISED_AFTER = timedelta(days=120)


class Mark(NamedTuple):
    """The step whose end lets the driver go on; the twin's driver waits for the same."""

    role: str
    number: int


async def publish_policies(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        for kind, policy in _POLICIES.items():
            session.add(
                PolicyVersion(
                    kind=kind,
                    version=1,
                    document=policy.model_dump(mode="json"),
                    published_by="benchmarks",
                )
            )


async def make_customers(
    sessions: Sessions, count: int, *, simulated: bool = True, consents: bool = True
) -> tuple[list[UUID], Clock]:
    """Customers with an address, by default with consent and on a fast clock that starts now."""
    now = datetime.now(UTC)
    async with sessions.begin() as session:
        simulation = Simulation(
            name="bench", machine_origin=now, business_origin=now, speed=86400 / DAY
        )
        session.add(simulation)
        await session.flush()
        lived_by = simulation.id if simulated else None
        customers = [
            Customer(reference=f"bench-{uuid4()}", name="Ada", simulation_id=lived_by)
            for _ in range(count)
        ]
        session.add_all(customers)
        await session.flush()
        ids = [customer.id for customer in customers]
        session.add_all(
            ContactPoint(customer_id=id_, channel=Channel.EMAIL, address=f"{id_}@example.com")
            for id_ in ids
        )
        session.add_all(_consent(id_, now) for id_ in ids if consents)
        clock = simulation.clock if simulated else REAL_TIME
    return ids, clock


def _consent(customer_id: UUID, now: datetime) -> Consent:
    return Consent(
        customer_id=customer_id,
        channel=Channel.EMAIL,
        purpose=Purpose.MARKETING,
        state=ConsentState.GRANTED,
        source="bench",
        occurred_at=now,
    )


class LifeDriver:
    """Leads customers through their lives, one call each."""

    def __init__(
        self, client: Client, sessions: Sessions, progress: Progress, clock: Clock
    ) -> None:
        self._client = client
        self._sessions = sessions
        self._progress = progress
        self._clock = clock

    async def live(self, customer_id: UUID) -> list[Mark]:
        """A life from the first contact to the quiet after it; where the driver waited."""
        order_id = uuid4()
        return [
            await self._lead(customer_id),
            await self._reply(customer_id),
            await self._order(customer_id, order_id),
            await self._dispatch(customer_id, order_id),
            await self._deliver(customer_id, order_id),
            await self._answer(customer_id, order_id),
        ]

    async def park(self, customer_id: UUID) -> None:
        """A lead and an order that waits for its approval."""
        await self._lead(customer_id)
        await self._order(customer_id, uuid4())

    async def _lead(self, customer_id: UUID) -> Mark:
        lead = LeadReceived(**self._fact(), source="bench")
        await tell_lifecycle(self._client, customer_id, "lead_received", lead)
        return await self._until(customer_id, ProcessKind.MARKETING, "touch/1")

    async def _reply(self, customer_id: UUID) -> Mark:
        reply = ReplyReceived(**self._fact())
        await tell_lifecycle(self._client, customer_id, "reply_received", reply)
        return await self._until(customer_id, ProcessKind.MARKETING, "reply/")

    async def _order(self, customer_id: UUID, order_id: UUID) -> Mark:
        fact = self._fact()
        placed = OrderPlaced(
            **fact,
            order_id=order_id,
            customer_id=customer_id,
            reference=order_id.hex[:12],
            total_minor=4_200,
            promised_on=(fact["occurred_at"] + _PROMISED_AFTER).date(),
            lines=(OrderLine(product="sku-1", price_minor=4_200),),
        )
        await self._client.start_workflow(
            OrderDelivery.run,
            DeliveryInput(order_id=order_id, customer_id=customer_id, placed=placed),
            id=delivery_workflow_id(order_id),
            task_queue=LIFECYCLE_QUEUE,
            search_attributes=search_attributes(customer_id, ProcessKind.DELIVERY, "placed"),
            static_summary="One order on its way, from placed to delivered",
        )
        return await self._until(customer_id, ProcessKind.LIFECYCLE, "ended/marketing/")

    async def _dispatch(self, customer_id: UUID, order_id: UUID) -> Mark:
        dispatched = OrderDispatched(**self._fact(), carrier="bench")
        handle = self._client.get_workflow_handle(delivery_workflow_id(order_id))
        await handle.signal(OrderDelivery.order_dispatched, dispatched)
        return await self._until(customer_id, ProcessKind.DELIVERY, dispatched.event_id)

    async def _deliver(self, customer_id: UUID, order_id: UUID) -> Mark:
        delivered = OrderDelivered(**self._fact())
        handle = self._client.get_workflow_handle(delivery_workflow_id(order_id))
        await handle.signal(OrderDelivery.order_delivered, delivered)
        return await self._until(customer_id, ProcessKind.FOLLOW_UP, "asked/")

    async def _answer(self, customer_id: UUID, order_id: UUID) -> Mark:
        async with self._sessions() as session:  # as the survey page finds it by its link
            survey_id = await session.scalar(
                sa.select(Survey.id).where(Survey.order_id == order_id)
            )
        answer = FeedbackReceived(
            **self._fact(),
            customer_id=customer_id,
            score=5,
            order_id=order_id,
            survey_id=survey_id,
        )
        handle = self._client.get_workflow_handle(follow_up_workflow_id(order_id))
        await handle.signal("feedback_received", answer)
        return await self._until(customer_id, ProcessKind.LIFECYCLE, "ended/follow-up/")

    def _fact(self) -> dict[str, Any]:
        return {
            "event_id": f"bench-{uuid4()}",
            "occurred_at": self._clock.business(datetime.now(UTC)),
        }

    async def _until(self, customer_id: UUID, role: ProcessKind, key: str) -> Mark:
        report = await self._progress.until(str(customer_id), _is(role, key), f"{role}:{key}")
        return Mark(report.role, report.number)


def _is(role: ProcessKind, key: str) -> Callable[[Report], bool]:
    return lambda report: report.role == role and report.key.startswith(key)
