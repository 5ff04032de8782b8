"""What must be known of customers before a process of theirs is started by hand or a schedule."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from database.customers import CLOCK_COLUMNS, Consent, Customer, Simulation, clock_in
from database.events import Event
from database.orders import Order
from database.processes import ProcessRow
from database.support import Case
from database.timeline import TimelineLine
from domain.clock import Clock
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose
from domain.processes import ProcessKind, ProcessState, lifecycle_workflow_id
from domain.starts import StartFacts, obstacle

_FACTS = sa.text(
    """
    SELECT c.id,
           ARRAY(SELECT n.channel FROM (
                     SELECT DISTINCT ON (s.channel) s.channel, s.state FROM consents s
                     WHERE s.customer_id = c.id AND s.purpose = 'marketing'
                     ORDER BY s.channel, s.occurred_at DESC, s.recorded_at DESC, s.id DESC) n
                 WHERE n.state = 'granted') AS agrees,
           ARRAY(SELECT DISTINCT p.channel FROM contact_points p
                 WHERE p.customer_id = c.id AND p.retired_at IS NULL) AS reachable,
           ARRAY(SELECT r.kind FROM processes r
                 WHERE r.customer_id = c.id AND r.state IN ('running', 'paused')
                 UNION  -- a start that its lifecycle was told of and has not come to yet
                 SELECT b.kind FROM events e
                 JOIN (VALUES ('lead_received', 'marketing'), ('risk_noticed', 'retention'))
                     AS b (told_by, kind) ON b.told_by = e.kind
                 WHERE e.customer_id = c.id AND e.accepted_at > now() - interval '1 day'
                   AND NOT EXISTS (SELECT FROM processes r WHERE r.customer_id = c.id
                                     AND r.kind = b.kind AND r.updated_at >= e.accepted_at)
                   AND NOT EXISTS (SELECT FROM timeline t WHERE t.workflow_id = 'customer/' || c.id
                                     AND t.step_key = e.event_id
                                     AND jsonb_exists(t.facts, 'not_started'))) AS running,
           EXISTS (SELECT FROM cases k WHERE k.customer_id = c.id AND k.kind = 'recovery'
                     AND k.state NOT IN ('resolved', 'closed')) AS recovering,
           EXISTS (SELECT FROM processes l WHERE l.workflow_id = 'customer/' || c.id
                     AND l.state = 'paused') AS paused
    FROM customers c WHERE c.id = ANY(:ids)
    """
)


_PAGE = 500
_of_his = ProcessRow.customer_id == Customer.id
_UNCONTACTED = (
    sa.select(Customer.id, *CLOCK_COLUMNS)
    .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
    .where(
        Customer.id > sa.bindparam("after"),
        Simulation.filled.is_not(True),
        sa.exists().where(
            Consent.customer_id == Customer.id,
            Consent.purpose == Purpose.MARKETING,
            Consent.state == ConsentState.GRANTED,
        ),
        ~sa.exists().where(Order.customer_id == Customer.id),
        ~sa.exists().where(_of_his, ProcessRow.kind == ProcessKind.MARKETING),
        ~sa.exists().where(
            _of_his,
            ProcessRow.kind == ProcessKind.LIFECYCLE,
            ProcessRow.state.in_((ProcessState.PAUSED, ProcessState.STOPPED)),
        ),
    )
    .order_by(Customer.id)
    .limit(_PAGE)
)


async def facts_to_start(
    session: AsyncSession, customers: Collection[UUID]
) -> Mapping[UUID, StartFacts]:
    """By customer; who isn't there is not in it."""
    found = await session.execute(_FACTS, {"ids": list(customers)})
    return {
        row.id: StartFacts(
            agrees=frozenset(map(Channel, row.agrees)),
            reachable=frozenset(map(Channel, row.reachable)),
            running=frozenset(map(ProcessKind, row.running)),
            recovering=row.recovering,
            paused=row.paused,
        )
        for row in found
    }


async def customers_to_contact(session: AsyncSession, at_most: int) -> Sequence[tuple[UUID, Clock]]:
    """Who agreed to marketing, has not ordered and was never contacted, where nothing is in the way
    of a contact now; each with his clock.
    """
    chosen: list[tuple[UUID, Clock]] = []
    after = UUID(int=0)
    while len(chosen) < at_most:
        page = (await session.execute(_UNCONTACTED, {"after": after})).all()
        if not page:
            break
        after = page[-1].id
        facts = await facts_to_start(session, [row.id for row in page])
        free = [row for row in page if not obstacle(ProcessKind.MARKETING, facts[row.id])]
        chosen += [(row.id, clock_in(row)) for row in free]
    return chosen[:at_most]


async def contacts_begun(session: AsyncSession, event_id: str, since: datetime) -> int:
    """How many contacts a fact has begun, with customers who share its id; `since`: machine time,
    before the first of them.
    """
    told = sa.exists().where(
        TimelineLine.workflow_id == sa.func.concat("customer/", ProcessRow.customer_id),
        TimelineLine.step_key == event_id,
    )
    begun = sa.select(sa.func.count()).where(
        ProcessRow.kind == ProcessKind.MARKETING, ProcessRow.recorded_at >= since, told
    )
    return await session.scalar(begun) or 0


async def was_told(session: AsyncSession, customer_id: UUID, event_id: str) -> bool:
    """Whether the event is kept; or its lifecycle has it, where the commit after that was lost."""
    by_lifecycle = sa.exists().where(
        TimelineLine.workflow_id == lifecycle_workflow_id(customer_id),
        TimelineLine.step_key == event_id,
    )
    kept = sa.exists().where(Event.event_id == event_id)
    return bool(await session.scalar(sa.select(kept | by_lifecycle)))


class Named(NamedTuple):
    """A customer as a list of starts shows one; the clock tells what will be when."""

    id: UUID
    name: str
    reference: str
    zone: str
    clock: Clock


class Done(NamedTuple):
    """Something that was done for the customer and that nobody has asked about."""

    about: str  # order, case
    id: UUID
    reference: str
    at: datetime


async def name_customers(
    session: AsyncSession, customers: Collection[UUID]
) -> Mapping[UUID, Named]:
    """By customer, by name; who isn't there is not in it."""
    found = await session.execute(
        sa.select(Customer.id, Customer.name, Customer.reference, Customer.zone, *CLOCK_COLUMNS)
        .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
        .where(Customer.id.in_(customers))
        .order_by(Customer.name, Customer.id)
    )
    return {
        row.id: Named(row.id, row.name, row.reference, row.zone, clock_in(row)) for row in found
    }


async def processes_of_kind(
    session: AsyncSession, customer_id: UUID, kind: ProcessKind
) -> Sequence[ProcessRow]:
    """The latest first."""
    found = await session.scalars(
        sa.select(ProcessRow)
        .where(ProcessRow.customer_id == customer_id, ProcessRow.kind == kind)
        .order_by(ProcessRow.recorded_at.desc())
        .limit(20)
    )
    return found.all()


async def what_may_be_followed_up(session: AsyncSession, customer_id: UUID) -> Sequence[Done]:
    """Orders delivered and cases resolved without a follow-up, the latest first."""

    def followed(about_id: InstrumentedAttribute[UUID]) -> sa.ColumnElement[bool]:
        workflow_id = sa.func.concat("follow-up/", about_id)
        return sa.exists().where(ProcessRow.workflow_id == workflow_id)

    orders = sa.select(
        sa.literal("order").label("about"),
        Order.id,
        Order.reference,
        Order.delivered_at.label("at"),
    ).where(Order.customer_id == customer_id, Order.delivered_at.is_not(None), ~followed(Order.id))
    cases = sa.select(sa.literal("case"), Case.id, Case.reference, Case.resolved_at).where(
        Case.customer_id == customer_id, Case.resolved_at.is_not(None), ~followed(Case.id)
    )
    both = sa.union_all(orders, cases).subquery()
    found = await session.execute(sa.select(both).order_by(both.c.at.desc()).limit(20))
    return [Done(*row) for row in found]
