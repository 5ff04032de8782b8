"""The unsubscribe link (RFC 8058): GET only shows a button, since mail scanners open every link.

The POST needs no cookie, no key and no certain body, and is answered without a redirect (RFC 8058
section 3.1); the token says who and what (section 3.1, "hard-to-forge component").
"""

from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources, Session
from api.errors import Code, Problem
from api.intake import now_on
from api.pages import PageRoute, page, page_locale
from api.statements import tell_of_opt_out
from database.customers import READING_LOCALE, Customer
from database.queries.consents import Statement, state_consent
from database.queries.customers import clock_of, hold_messages
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose
from domain.tokens import TokenPurpose, parse_unsubscribe_value, preferences_value, sign, verify

router = APIRouter(
    prefix="/u", tags=["pages"], route_class=PageRoute, default_response_class=HTMLResponse
)

Token = Annotated[str, Path(max_length=1000)]
_SOURCE = "unsubscribe-link"


@router.api_route("/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def open_unsubscribing(token: Token, session: Session, held: Held) -> HTMLResponse:
    """Show the button; change nothing."""
    customer_id, channel, purpose = _about(held, token)
    return await _page(session, held, token, customer_id, channel, purpose, done=False)


@router.post("/{token}", include_in_schema=False)
async def unsubscribe_customer(token: Token, session: Session, held: Held) -> HTMLResponse:
    """Withdraw the consent. The body is not looked at; a repeat changes nothing."""
    customer_id, channel, purpose = _about(held, token)
    statement = await _withdraw(held, customer_id, channel, purpose)
    if purpose is Purpose.MARKETING:
        await tell_of_opt_out(session, held, customer_id, channel, statement)
    return await _page(session, held, token, customer_id, channel, purpose, done=True)


def _about(held: Resources, token: str) -> tuple[UUID, Channel, Purpose]:
    value = verify(held.signing_key.encode(), TokenPurpose.UNSUBSCRIBE, token)
    if value is None:
        raise Problem(Code.INVALID_LINK, "the token was not made here")
    return parse_unsubscribe_value(value)


async def _withdraw(
    held: Resources, customer_id: UUID, channel: Channel, purpose: Purpose
) -> Statement:
    """The withdrawal that holds. Committed by itself: it must hold even while Temporal is away.

    Before the request's own session is used: who holds one connection and waits for another can
    wait for ever, where many unsubscribe at once.
    """
    async with held.sessions.begin() as own:
        await hold_messages(own, customer_id)
        clock = await clock_of(own, customer_id)
        if clock is None:
            raise Problem(Code.INVALID_LINK, "the customer is not there")
        return await state_consent(
            own,
            customer_id,
            channel,
            purpose,
            ConsentState.WITHDRAWN,
            source=_SOURCE,
            now=now_on(clock),
        )


async def _page(
    session: AsyncSession,
    held: Resources,
    token: str,
    customer_id: UUID,
    channel: Channel,
    purpose: Purpose,
    *,
    done: bool,
) -> HTMLResponse:
    locale = await session.scalar(sa.select(READING_LOCALE).where(Customer.id == customer_id))
    if locale is None:
        raise Problem(Code.INVALID_LINK, "the customer is not there")
    lang = page_locale(locale)
    choices = preferences_value(customer_id, channel)
    context = {
        "token": token,
        "preferences": sign(held.signing_key.encode(), TokenPurpose.PREFERENCES, choices),
        "done": done,
        "channel": str(channel),
        "purpose": str(purpose),
    }
    return page(f"{lang}/unsubscribe.html", context, lang=lang)
