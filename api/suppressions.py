"""Addresses that must not be written to: shown with their reasons, and lifted by a person."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.contacts import customer_clock
from api.deps import Session
from api.errors import invalid_field, not_found
from api.fields import Body, Line, StaffId, Word, example
from api.intake import now_on
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs
from database.base import insert_once
from database.customers import Consent, ContactPoint, Suppression
from database.queries.consents import newest_statement
from database.timeline import TimelineLine
from domain.contacts import ConsentState, was_asked_for
from domain.messages import Channel, Purpose
from domain.processes import Phase, lifecycle_workflow_id
from domain.staff import Permission

router = APIRouter(prefix="/suppressions", tags=["contacts"], route_class=ApiRoute)


class SuppressionView(BaseModel):
    """`purpose` null: for every purpose. All moments are the machine's."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    channel: Channel
    address: str
    purpose: Purpose | None
    reason: str = Field(examples=["hard bounce: 5.1.1 user unknown"])
    recorded_at: datetime
    lifted_at: datetime | None
    lifted_because: str | None


class Lifting(Body):
    """Why the address may be written to again, and who says so."""

    model_config = example(reason="mailbox-was-mended", by="agent-7")

    reason: Word = Field(description="a code, no personal data")
    by: StaffId
    consent_id: UUID | None = Field(
        None, description="what the recipient asked for himself, a complaint: his consent since"
    )


@router.get("")
async def list_suppressions(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query(description="of one of his addresses")] = None,
    channel: Annotated[Channel | None, Query()] = None,
    lifted: Annotated[bool | None, Query(description="false: those that hold")] = None,
    reason: Annotated[
        Line | None, Query(description="how it begins: `hard bounce`, `complaint`, `asked by`")
    ] = None,
    q: Annotated[Line | None, Query(description="a part of the address")] = None,
) -> Page[SuppressionView]:
    """Suppressions, the latest first."""
    statement = sa.select(Suppression)
    if customer_id is not None:
        statement = statement.where(_is_of(customer_id))
    if channel is not None:
        statement = statement.where(Suppression.channel == channel)
    if lifted is not None:
        statement = statement.where(Suppression.lifted_at.is_not(None) == lifted)
    if reason is not None:
        statement = statement.where(Suppression.reason.startswith(reason, autoescape=True))
    if q is not None:
        statement = statement.where(Suppression.address.contains(q.lower(), autoescape=True))
    return await read_page(
        session, statement, [Suppression.id], paging, SuppressionView.model_validate
    )


@router.get("/{suppression_id}")
async def show_suppression(suppression_id: UUID, session: Session) -> SuppressionView:
    """One suppression."""
    return SuppressionView.model_validate(await _suppression(session, suppression_id))


@router.post("/{suppression_id}/lift")
@needs(Permission.EDIT_CUSTOMERS)
async def lift_suppression(
    suppression_id: UUID, body: Lifting, session: Session
) -> SuppressionView:
    """Let the address be written to again; a repeat changes nothing.

    A complaint, or a wish to stop, is lifted only with a consent to marketing on the channel that
    its owner has given since, and that holds: `consent_id`. The history of each customer who has
    the address tells of it.
    """
    found = await _suppression(session, suppression_id, lock=True)
    if found.lifted_at is not None:
        return SuppressionView.model_validate(found)
    owners = await _owners(session, found)
    if was_asked_for(found.reason):
        await _refuse_without_consent(session, found, owners, body.consent_id)
    found.lifted_at = await session.scalar(sa.select(sa.func.now()))
    found.lifted_because = f"{body.by}: {body.reason}"
    await session.flush()
    for customer_id in owners:
        await insert_once(
            session,
            TimelineLine,
            customer_id=customer_id,
            workflow_id=lifecycle_workflow_id(customer_id),
            step_key=f"suppression_lifted/{suppression_id}",
            kind="suppression_lifted",
            phase=Phase.AFTER,
            happened_at=now_on(await customer_clock(session, customer_id)),
            facts={"reason": body.reason, "by": body.by, "channel": found.channel},
        )
    return SuppressionView.model_validate(found)


async def _refuse_without_consent(
    session: AsyncSession, found: Suppression, owners: Sequence[UUID], consent_id: UUID | None
) -> None:
    """Raises the problem, unless the consent is of an owner, newer than the suppression and in
    force.
    """
    if consent_id is None:
        raise invalid_field("/consent_id", "is missing: the recipient asked for this himself")
    consent = await session.get(Consent, consent_id)
    if consent is None or consent.customer_id not in owners:
        raise invalid_field("/consent_id", "is no consent of a customer with this address")
    about = (consent.customer_id, found.channel, Purpose.MARKETING)
    newest = await newest_statement(session, *about)
    holds = newest is not None and newest.id == consent_id
    if not holds or consent.state is not ConsentState.GRANTED:
        raise invalid_field("/consent_id", f"is no consent to marketing by {found.channel} now")
    if consent.recorded_at <= found.recorded_at:
        raise invalid_field("/consent_id", "was given before the recipient asked to stop")


def _is_of(customer_id: UUID) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        ContactPoint.customer_id == customer_id,
        ContactPoint.channel == Suppression.channel,
        sa.func.lower(ContactPoint.address) == Suppression.address,
    )


async def _owners(session: AsyncSession, found: Suppression) -> Sequence[UUID]:
    """The customers who have the address in use, in the order in which others lock them."""
    owners = await session.scalars(
        sa.select(ContactPoint.customer_id)
        .where(
            sa.func.lower(ContactPoint.address) == found.address,
            ContactPoint.channel == found.channel,
            ContactPoint.retired_at.is_(None),
        )
        .distinct()
        .order_by(ContactPoint.customer_id)
    )
    return owners.all()


async def _suppression(
    session: AsyncSession, suppression_id: UUID, *, lock: bool = False
) -> Suppression:
    """Raises the 404 problem."""
    found = await session.get(Suppression, suppression_id, with_for_update=lock or None)
    if found is None:
        raise not_found("suppression", suppression_id)
    return found
