"""How a customer is reached, what he allows, and what is known of his wishes."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.customers import AddressView
from api.deps import Caller, Held, Session
from api.errors import Code, Problem, invalid_field, not_found
from api.event_bodies import OptedOutEvent
from api.fields import (
    Body,
    Flag,
    Instant,
    Line,
    LocaleTag,
    Prose,
    Word,
    email_address,
    phone_number,
)
from api.intake import accept, event_id_for, now_on, refuse_future
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs
from database.customers import NEWEST_STATEMENT, Consent, ContactPoint, Customer, Preference
from database.queries.consents import (
    Statement,
    after_all,
    ask_to_confirm,
    contact_policy,
    newest_statement,
    withdrawn_at,
)
from database.queries.customers import addresses_of, clock_of, hold_messages
from domain.clock import Clock
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose
from domain.processes import derived_id
from domain.staff import Permission

router = APIRouter(prefix="/customers/{customer_id}", tags=["contacts"], route_class=ApiRoute)

_ADDRESSES = {Channel.EMAIL: email_address, Channel.SMS: phone_number}


class NewContactPoint(Body):
    channel: Channel
    address: Line = Field(examples=["ada@example.com"])
    locale: LocaleTag | None = Field(None, description="null: the customer's")


class NewConsent(Body):
    """One statement of the customer about one channel and purpose."""

    channel: Channel
    purpose: Purpose
    state: Literal[ConsentState.GRANTED, ConsentState.WITHDRAWN]
    source: Word = Field(description="how it was given", examples=["newsletter-form"])
    wording: Prose | None = Field(None, description="what the customer agreed to")
    occurred_at: Instant | None = Field(None, description="null: now")
    confirmed: Flag = Field(
        False, description="true: confirmed where it was given, so no link to confirm is sent"
    )


class ConsentView(BaseModel):
    """A statement; `holds` when no later one of its channel and purpose is known, and it waits for
    no confirmation.
    """

    id: UUID
    channel: Channel
    purpose: Purpose
    state: ConsentState
    source: str
    wording: str
    occurred_at: datetime
    recorded_at: datetime
    holds: bool


class NewPreference(Body):
    name: Word = Field(examples=["delivery-day"])
    value: Line = Field(examples=["Saturday"])
    source: Word = Field("staff", description="who says so")


class PreferenceView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    value: str
    source: str
    order_id: UUID | None
    recorded_at: datetime


async def customer_clock(session: AsyncSession, customer_id: UUID) -> Clock:
    """Raises the 404 problem for a customer that isn't there."""
    clock = await clock_of(session, customer_id)
    if clock is None:
        raise Problem(Code.UNKNOWN_CUSTOMER, f"there is no customer {customer_id}")
    return clock


@router.post("/contact-points", status_code=201)
@needs(Permission.EDIT_CUSTOMERS)
async def add_contact_point(
    customer_id: UUID, body: NewContactPoint, session: Session
) -> AddressView:
    """Add an address; the newest of a channel is used. Adding a retired one takes it up again.

    Adding the one that is used already changes nothing.
    """
    try:
        address = _ADDRESSES[body.channel](body.address)
    except ValueError as problem:
        raise invalid_field("/address", str(problem)) from None
    await customer_clock(session, customer_id)
    points = (await addresses_of(session, [customer_id]))[customer_id]
    used = next((point for point in points if point.channel is body.channel), None)
    if used is not None and (used.address, used.locale) == (address, body.locale):
        return AddressView.model_validate(used)
    statement = insert(ContactPoint).values(
        customer_id=customer_id, channel=body.channel, address=address, locale=body.locale
    )
    point = await session.scalar(
        statement.on_conflict_do_update(
            index_elements=["customer_id", "channel", "address"],
            set_={"retired_at": None, "recorded_at": sa.func.now(), "locale": body.locale},
        ).returning(ContactPoint)
    )
    await _note_change(session, customer_id)
    return AddressView.model_validate(point)


@router.delete("/contact-points/{contact_point_id}", status_code=204)
@needs(Permission.EDIT_CUSTOMERS)
async def retire_contact_point(customer_id: UUID, contact_point_id: UUID, session: Session) -> None:
    """Use the address no more. A repeat changes nothing."""
    point = await session.get(ContactPoint, contact_point_id)
    if point is None or point.customer_id != customer_id:
        raise not_found("contact point", contact_point_id)
    if point.retired_at is None:
        point.retired_at = datetime.now(UTC)
        await _note_change(session, customer_id)


async def _note_change(session: AsyncSession, customer_id: UUID) -> None:
    await session.execute(
        sa.update(Customer)
        .where(Customer.id == customer_id)
        .values(version=Customer.version + 1, updated_at=sa.func.now())
    )


@router.post("/consents", status_code=201)
@needs(Permission.EDIT_CUSTOMERS)
async def record_consent(
    customer_id: UUID,
    body: NewConsent,
    request: Request,
    session: Session,
    held: Held,
    caller: Caller,
) -> ConsentView:
    """Record that the customer gave or withdrew a consent.

    A withdrawal holds from its commit on, over every grant that was recorded before, whatever
    moment is given. One of marketing ends what is under way for selling, once no channel is left.
    Where the policy asks for it, a grant is `pending` until the customer follows the link he is
    sent. A statement that was recorded with the same `source` and `occurred_at` is not recorded
    again; one without a moment is a new one, but under its Idempotency-Key.
    """
    clock = await customer_clock(session, customer_id)
    await hold_messages(session, customer_id)
    newest = await newest_statement(session, customer_id, body.channel, body.purpose)
    if (known := await _same_statement(session, customer_id, body, newest)) is not None:
        return await _consent(session, known)
    occurred_at = body.occurred_at or after_all(newest, now_on(clock))
    refuse_future(occurred_at, clock)
    if body.state is ConsentState.WITHDRAWN and body.purpose is Purpose.MARKETING:
        event = OptedOutEvent(
            kind="opted_out",
            event_id=event_id_for(request, "opt-out"),
            source=body.source,
            occurred_at=occurred_at,
            customer_id=customer_id,
            channel=body.channel,
            purpose=body.purpose,
        )
        await accept(session, held, caller, event, body)
        return await _consent(session, derived_id("opt-out", event.event_id, body.channel))
    if body.state is ConsentState.WITHDRAWN:
        occurred_at = withdrawn_at(newest, occurred_at)
    state = await _needing_confirmation(session, customer_id, body, newest, now_on(clock))
    consent_id = await session.scalar(
        insert(Consent)
        .values(
            customer_id=customer_id,
            channel=body.channel,
            purpose=body.purpose,
            state=state,
            source=body.source,
            wording=body.wording or "",
            occurred_at=occurred_at,
        )
        .returning(Consent.id)
    )
    assert consent_id is not None
    return await _consent(session, consent_id)


async def _same_statement(
    session: AsyncSession, customer_id: UUID, body: NewConsent, newest: Statement | None
) -> UUID | None:
    """The statement as it was recorded. A withdrawal may stand later than it says
    (`withdrawn_at`), and one that does not hold any more is never taken for a new one.
    """
    if newest is None or body.occurred_at is None:
        return None
    if body.state is ConsentState.WITHDRAWN:
        holds = newest.state is body.state and newest.occurred_at >= body.occurred_at
        return newest.id if holds and newest.source == body.source else None
    unconfirmed = () if body.confirmed else (ConsentState.PENDING,)
    return await session.scalar(
        sa.select(Consent.id)
        .where(
            Consent.customer_id == customer_id,
            Consent.channel == body.channel,
            Consent.purpose == body.purpose,
            Consent.source == body.source,
            Consent.occurred_at == body.occurred_at,
            Consent.state.in_((ConsentState.GRANTED, *unconfirmed)),
        )
        .limit(1)
    )


async def _needing_confirmation(
    session: AsyncSession,
    customer_id: UUID,
    body: NewConsent,
    newest: Statement | None,
    now: datetime,
) -> ConsentState:
    """The state to be recorded: a grant that has to be confirmed first is asked about."""
    policy = await contact_policy(session)
    if body.state is not ConsentState.GRANTED or body.confirmed:
        return body.state
    if not policy.confirms(body.channel, body.purpose):
        return body.state
    if newest is not None and newest.state is ConsentState.GRANTED:
        return body.state
    await ask_to_confirm(session, customer_id, body.channel, policy=policy, now=now)
    return ConsentState.PENDING


async def _consent(session: AsyncSession, consent_id: UUID) -> ConsentView:
    statements = _statements().subquery()
    query = sa.select(statements).where(statements.c.id == consent_id)
    return ConsentView.model_validate((await session.execute(query)).one()._asdict())


def _statements() -> sa.Select[*tuple[object, ...]]:
    rank = sa.func.row_number().over(
        partition_by=(Consent.customer_id, Consent.channel, Consent.purpose),
        order_by=NEWEST_STATEMENT,
    )
    holds = sa.and_(rank == 1, Consent.state != ConsentState.PENDING)
    return sa.select(*Consent.__table__.c, holds.label("holds"))


@router.get("/consents")
async def list_consents(
    customer_id: UUID,
    session: Session,
    paging: Paging,
    holds: Annotated[bool | None, Query(description="true: only what holds now")] = None,
) -> Page[ConsentView]:
    """What the customer said about being written to, the newest first."""
    await customer_clock(session, customer_id)
    of_customer = _statements().where(Consent.customer_id == customer_id).subquery()
    query = sa.select(*of_customer.c)
    if holds is not None:
        query = query.where(of_customer.c.holds.is_(holds))
    return await read_page(
        session,
        query,
        [of_customer.c.occurred_at, of_customer.c.id],
        paging,
        lambda row: ConsentView.model_validate(row._asdict()),
    )


@router.post("/preferences", status_code=201)
@needs(Permission.EDIT_CUSTOMERS)
async def record_preference(
    customer_id: UUID, body: NewPreference, session: Session
) -> PreferenceView:
    """Note what the customer prefers, with who says so."""
    await customer_clock(session, customer_id)
    preference = await session.scalar(
        insert(Preference)
        .values(customer_id=customer_id, name=body.name, value=body.value, source=body.source)
        .returning(Preference)
    )
    return PreferenceView.model_validate(preference)


@router.get("/preferences")
async def list_preferences(
    customer_id: UUID, session: Session, paging: Paging
) -> Page[PreferenceView]:
    """What the customer prefers, the newest first."""
    await customer_clock(session, customer_id)
    return await read_page(
        session,
        sa.select(Preference).where(Preference.customer_id == customer_id),
        [Preference.id],
        paging,
        PreferenceView.model_validate,
    )
