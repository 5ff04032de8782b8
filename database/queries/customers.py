"""Customers written many at a time, and read with their stage and addresses."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from database.base import table_of
from database.customers import (
    CLOCK_COLUMNS,
    NEWEST_STATEMENT,
    Consent,
    ContactPoint,
    Customer,
    CustomerKind,
    Simulation,
    clock_in,
)
from database.processes import Lifecycle
from database.queries.consents import (
    ask_to_confirm,
    contact_policy,
    newest_statement,
    withdrawn_at,
)
from domain.clock import REAL_TIME, Clock
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose
from domain.processes import derived_id


class Grant(NamedTuple):
    """A consent the customer gave. `occurred_at` None: known now, and only if nothing is known."""

    channel: Channel
    purpose: Purpose
    source: str
    wording: str
    occurred_at: datetime | None
    confirmed: bool = False  # where it was given it was confirmed already


class CustomerWrite(NamedTuple):
    reference: str
    kind: CustomerKind
    name: str
    locale: str
    zone: str
    simulation_id: UUID | None
    addresses: dict[Channel, str]
    grants: Sequence[Grant]


class Written(NamedTuple):
    id: UUID
    created: bool


_CLOCKS = sa.select(Simulation.id, *CLOCK_COLUMNS).where(
    Simulation.id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid)))
)
_FIELDS = ("kind", "name", "locale", "zone")


def _upsert_statement() -> sa.Executable:
    customers = table_of(Customer)
    row = insert(customers)
    old, new = customers.c, row.excluded
    changed = row.on_conflict_do_update(
        index_elements=["reference"],
        set_={
            **{field: new[field] for field in _FIELDS},
            "version": old.version + 1,
            "updated_at": sa.func.now(),
        },
        where=sa.or_(*(old[field] != new[field] for field in _FIELDS)),
    )
    return changed.returning(
        old.id, old.reference, sa.literal_column("(xmax = 0)").label("created")
    )


_UPSERT = _upsert_statement()
_ADD_ADDRESS = insert(table_of(ContactPoint)).on_conflict_do_update(
    index_elements=["customer_id", "channel", "address"],
    set_={"retired_at": sa.null(), "recorded_at": sa.func.now()},
)
_ADD_CONSENT = insert(table_of(Consent))


async def clocks_of(session: AsyncSession, ids: set[UUID]) -> dict[UUID, Clock]:
    """The clocks of the simulations that exist among `ids`."""
    if not ids:
        return {}
    found = await session.execute(_CLOCKS, {"ids": list(ids)})
    return {row.id: clock_in(row) for row in found}


async def write_customers(
    session: AsyncSession,
    customers: Sequence[CustomerWrite],
    clocks: dict[UUID, Clock],
    now: datetime,
) -> dict[str, Written]:
    """Insert or update by reference (each at most once in `customers`); by reference, the ids.

    A customer keeps the simulation it was made with. An address is added, or becomes the newest of
    its channel; none is taken away. Repeating it changes nothing.
    """
    ordered = sorted(customers, key=lambda customer: customer.reference)  # no deadlock of twins
    written = await _upsert(session, ordered)
    addresses = [
        {"customer_id": written[c.reference].id, "channel": channel, "address": address}
        for c in ordered
        for channel, address in c.addresses.items()
    ]
    if addresses:
        await _add_addresses(session, addresses)
    await _add_grants(session, ordered, written, clocks, now)
    return written


async def _upsert(session: AsyncSession, customers: Sequence[CustomerWrite]) -> dict[str, Written]:
    rows = [
        {
            "reference": c.reference,
            "simulation_id": c.simulation_id,
            **{field: getattr(c, field) for field in _FIELDS},
        }
        for c in customers
    ]
    changed: sa.Result[UUID, str, bool] = await session.execute(_UPSERT, rows)
    written = {row.reference: Written(row.id, row.created) for row in changed}
    same = [c.reference for c in customers if c.reference not in written]
    if same:
        found = await session.execute(
            sa.select(Customer.id, Customer.reference).where(Customer.reference.in_(same))
        )
        written |= {row.reference: Written(row.id, False) for row in found}
    return written


async def _add_addresses(session: AsyncSession, addresses: Sequence[dict[str, Any]]) -> None:
    await session.execute(_ADD_ADDRESS, addresses)


async def _add_grants(
    session: AsyncSession,
    customers: Sequence[CustomerWrite],
    written: dict[str, Written],
    clocks: dict[UUID, Clock],
    now: datetime,
) -> None:
    given = [(written[c.reference].id, c, grant) for c in customers for grant in c.grants]
    if not given:
        return
    newest = await _newest_consents(session, {customer_id for customer_id, _, _ in given})
    policy = await contact_policy(session)
    rows, unconfirmed = [], []
    for customer_id, customer, grant in given:
        known = newest.get((customer_id, grant.channel, grant.purpose))
        # A repeat of what a shop knows must not undo an opt-out that came after it.
        if known is not None and (grant.occurred_at is None or grant.occurred_at <= known[1]):
            continue
        if known is not None and known[0] is ConsentState.GRANTED:
            continue
        pending = not grant.confirmed and policy.confirms(grant.channel, grant.purpose)
        clock = (
            clocks.get(customer.simulation_id, REAL_TIME) if customer.simulation_id else REAL_TIME
        )
        if pending:
            # What was pending before is said again; at most one message a day comes of it.
            unconfirmed.append((customer_id, grant.channel, clock.business(now)))
        rows.append(
            {
                "customer_id": customer_id,
                "channel": grant.channel,
                "purpose": grant.purpose,
                "state": ConsentState.PENDING if pending else ConsentState.GRANTED,
                "source": grant.source,
                "wording": grant.wording,
                "occurred_at": grant.occurred_at or clock.business(now),
            }
        )
    if rows:
        await session.execute(_ADD_CONSENT, rows)
    for customer_id, channel, moment in unconfirmed:
        await ask_to_confirm(session, customer_id, channel, policy=policy, now=moment)


async def hold_messages(session: AsyncSession, customer_id: UUID) -> None:
    """Until this transaction ends no message to the customer can be claimed.

    Taken before a withdrawal is written: the dispatcher decides under a shared lock on the same
    row, so a withdrawal that commits first is always seen.
    """
    await session.execute(
        sa.select(Customer.id).where(Customer.id == customer_id).with_for_update(key_share=True)
    )


async def hold_messages_to(session: AsyncSession, channel: Channel, address: str) -> None:
    """The same for all who have, or had, the address (in lower case): it is about to be closed."""
    await session.execute(
        sa.select(Customer.id)
        .join(ContactPoint, ContactPoint.customer_id == Customer.id)
        .where(sa.func.lower(ContactPoint.address) == address, ContactPoint.channel == channel)
        .order_by(Customer.id)
        .with_for_update(key_share=True, of=Customer)
    )


async def withdraw_consents(
    session: AsyncSession,
    customer_id: UUID,
    event_id: str,
    channels: Collection[Channel],
    purpose: Purpose,
    *,
    source: str,
    occurred_at: datetime,
) -> None:
    """Write the withdrawals that an event stated; a repeat of the event changes nothing.

    They win over all grants that are recorded already (`withdrawn_at`).
    """
    await hold_messages(session, customer_id)
    newest = {
        channel: await newest_statement(session, customer_id, channel, purpose)
        for channel in channels
    }
    statements = [
        {
            "id": derived_id("opt-out", event_id, channel),
            "customer_id": customer_id,
            "channel": channel,
            "purpose": purpose,
            "state": ConsentState.WITHDRAWN,
            "source": source,
            "occurred_at": withdrawn_at(statement, occurred_at),
        }
        for channel, statement in newest.items()
    ]
    await session.execute(insert(Consent).values(statements).on_conflict_do_nothing())


async def _newest_consents(
    session: AsyncSession, customers: set[UUID]
) -> dict[tuple[UUID, Channel, Purpose], tuple[ConsentState, datetime]]:
    key = (Consent.customer_id, Consent.channel, Consent.purpose)
    found = await session.execute(
        sa.select(*key, Consent.state, Consent.occurred_at)
        .ext(distinct_on(*key))
        .where(Consent.customer_id.in_(customers))
        .order_by(*key, *NEWEST_STATEMENT)
    )
    return {(r.customer_id, r.channel, r.purpose): (r.state, r.occurred_at) for r in found}


async def current_consents(session: AsyncSession, customer_id: UUID) -> Sequence[Consent]:
    """What the customer allows now: the newest statement per channel and purpose."""
    key = (Consent.channel, Consent.purpose)
    found = await session.scalars(
        sa.select(Consent)
        .ext(distinct_on(*key))
        .where(Consent.customer_id == customer_id)
        .order_by(*key, *NEWEST_STATEMENT)
    )
    return found.all()


def holds_consent(channel: Channel, purpose: Purpose) -> sa.ColumnElement[bool]:
    """Of a customer: his newest statement about it says yes."""
    granted = sa.select(Consent.customer_id).where(
        Consent.channel == channel,
        Consent.purpose == purpose,
        Consent.state == ConsentState.GRANTED,
    )
    newest = (
        sa.select(Consent.state)
        .where(
            Consent.customer_id == Customer.id,
            Consent.channel == channel,
            Consent.purpose == purpose,
        )
        .order_by(*NEWEST_STATEMENT)
        .limit(1)
        .scalar_subquery()
    )
    # The first alone leads to few where few ever agreed.
    return Customer.id.in_(granted) & (newest == ConsentState.GRANTED)


async def clock_of(session: AsyncSession, customer_id: UUID) -> Clock | None:
    """The clock a customer lives by; None when there is no such customer."""
    row = (
        await session.execute(
            sa.select(Customer.id, *CLOCK_COLUMNS)
            .select_from(Customer)
            .outerjoin(Simulation, Simulation.id == Customer.simulation_id)
            .where(Customer.id == customer_id)
        )
    ).one_or_none()
    return None if row is None else clock_in(row)


def customers_with_stage() -> sa.Select[Customer, Lifecycle]:
    return sa.select(Customer, Lifecycle).outerjoin(Lifecycle, Lifecycle.customer_id == Customer.id)


async def addresses_of(
    session: AsyncSession, customers: Sequence[UUID]
) -> dict[UUID, list[ContactPoint]]:
    """The addresses in use, the newest of a channel first."""
    found = await session.scalars(
        sa.select(ContactPoint)
        .where(ContactPoint.customer_id.in_(customers), ContactPoint.retired_at.is_(None))
        .order_by(ContactPoint.recorded_at.desc(), ContactPoint.id.desc())
    )
    by_customer: dict[UUID, list[ContactPoint]] = {customer: [] for customer in customers}
    for point in found:
        by_customer[point.customer_id].append(point)
    return by_customer
