"""The unsubscribe link (RFC 8058): GET only shows a button, since mail scanners open every link."""

import logging
from datetime import datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources, Session
from api.errors import Code, Problem
from api.event_bodies import OptedOutEvent
from api.intake import accept, now_on
from api.pages import PageRoute, page, page_locale
from database.customers import Consent, Customer
from database.queries.customers import clock_of, hold_messages
from database.queries.intake import Ground
from domain.clock import REAL_TIME
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose
from domain.tokens import TokenPurpose, parse_unsubscribe_value, verify

router = APIRouter(
    prefix="/u", tags=["pages"], route_class=PageRoute, default_response_class=HTMLResponse
)

Token = Annotated[str, Path(max_length=1000)]
_SOURCE = "unsubscribe-link"
_log = logging.getLogger(__name__)


class UnsubscribedEvent(OptedOutEvent):
    """An opt-out by link: its statement is committed before the process is told."""

    async def record(self, session: AsyncSession, ground: Ground) -> None:
        return


@router.api_route("/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def open_unsubscribing(token: Token, session: Session, held: Held) -> HTMLResponse:
    """Show the button; change nothing."""
    customer_id, channel, purpose = _about(held, token)
    return await _page(session, token, customer_id, channel, purpose, done=False)


@router.post("/{token}", include_in_schema=False)
async def unsubscribe_customer(token: Token, session: Session, held: Held) -> HTMLResponse:
    """Withdraw the consent. The body is not looked at; a repeat changes nothing."""
    customer_id, channel, purpose = _about(held, token)
    answer = await _page(session, token, customer_id, channel, purpose, done=True)
    statement_id = await _withdraw(held, customer_id, channel, purpose)
    if purpose is Purpose.MARKETING:
        await _tell(session, held, customer_id, channel, statement_id)
    return answer


def _about(held: Resources, token: str) -> tuple[UUID, Channel, Purpose]:
    value = verify(held.signing_key.encode(), TokenPurpose.UNSUBSCRIBE, token)
    if value is None:
        raise Problem(Code.INVALID_LINK, "the token was not made here")
    return parse_unsubscribe_value(value)


async def _withdraw(
    held: Resources, customer_id: UUID, channel: Channel, purpose: Purpose
) -> tuple[UUID, datetime]:
    """The withdrawal that holds. Committed by itself: it must hold even while Temporal is away."""
    async with held.sessions.begin() as own:
        await hold_messages(own, customer_id)
        newest = (
            await own.execute(
                sa.select(Consent.id, Consent.state, Consent.occurred_at)
                .where(
                    Consent.customer_id == customer_id,
                    Consent.channel == channel,
                    Consent.purpose == purpose,
                )
                .order_by(Consent.occurred_at.desc(), Consent.id.desc())
                .limit(1)
            )
        ).one_or_none()
        if newest is not None and newest.state is ConsentState.WITHDRAWN:
            return newest.id, newest.occurred_at
        now = now_on(await clock_of(own, customer_id) or REAL_TIME)
        # After any grant, whatever the clock of the system that reported it said.
        occurred_at = max(now, newest.occurred_at) if newest is not None else now
        statement_id = await own.scalar(
            insert(Consent)
            .values(
                customer_id=customer_id,
                channel=channel,
                purpose=purpose,
                state=ConsentState.WITHDRAWN,
                source=_SOURCE,
                occurred_at=occurred_at,
            )
            .returning(Consent.id)
        )
        assert statement_id is not None
        return statement_id, occurred_at


async def _tell(
    session: AsyncSession,
    held: Resources,
    customer_id: UUID,
    channel: Channel,
    statement: tuple[UUID, datetime],
) -> None:
    """End what is under way for selling. The consent holds without it: no message would go out."""
    statement_id, occurred_at = statement
    event = UnsubscribedEvent(
        kind="opted_out",
        event_id=f"unsubscribe/{statement_id}",
        source=_SOURCE,
        occurred_at=occurred_at,
        customer_id=customer_id,
        channel=channel,
    )
    try:
        async with session.begin_nested():
            await accept(session, held, "unsubscribe link", event)
    except Problem as problem:
        _log.warning("an opt-out was stored, its process not told: %s", problem.code)


async def _page(
    session: AsyncSession,
    token: str,
    customer_id: UUID,
    channel: Channel,
    purpose: Purpose,
    *,
    done: bool,
) -> HTMLResponse:
    locale = await session.scalar(sa.select(Customer.locale).where(Customer.id == customer_id))
    if locale is None:
        raise Problem(Code.INVALID_LINK, "the customer is not there")
    lang = page_locale(locale)
    context = {"token": token, "done": done, "channel": str(channel), "purpose": str(purpose)}
    return page(f"{lang}/unsubscribe.html", context, lang=lang)
