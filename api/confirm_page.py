"""The link in a message that asks whether a consent was meant (double opt-in)."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources, Session
from api.errors import Code, Problem
from api.intake import now_on
from api.pages import PageRoute, page, page_locale
from api.statements import tell_of_confirmation
from database.queries.consents import Statement, newest_statement, state_consent
from database.queries.customers import addresses_of, hold_messages
from database.queries.preferences import Standing, read_standing
from domain.contacts import ConsentState
from domain.messages import Purpose
from domain.tokens import (
    Confirmation,
    TokenPurpose,
    parse_confirmation_value,
    preferences_value,
    sign,
    verify,
)

router = APIRouter(
    prefix="/v", tags=["pages"], route_class=PageRoute, default_response_class=HTMLResponse
)

Token = Annotated[str, Path(max_length=1000)]
_SOURCE = "double-opt-in"
_GONE = 410


@router.api_route("/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def open_confirmation(token: Token, session: Session, held: Held) -> HTMLResponse:
    """Show the button; change nothing: mail scanners open every link."""
    return await _page(session, held, token, _asked(held, token))


@router.post("/{token}", include_in_schema=False)
async def confirm_consent(token: Token, session: Session, held: Held) -> HTMLResponse:
    """The pending consent holds from its commit on. A repeat changes nothing."""
    asked = _asked(held, token)
    async with held.sessions.begin() as own:
        await hold_messages(own, asked.customer_id)
        confirmed = await _confirm(own, asked)
    if confirmed is not None:
        await tell_of_confirmation(session, held, asked.customer_id, confirmed)
    return await _page(session, held, token, asked)


def _asked(held: Resources, token: str) -> Confirmation:
    value = verify(held.signing_key.encode(), TokenPurpose.CONFIRM, token)
    if value is None:
        raise Problem(Code.INVALID_LINK, "the token was not made here")
    return parse_confirmation_value(value)


async def _confirm(session: AsyncSession, asked: Confirmation) -> Statement | None:
    """The consent that holds; None when there is nothing to confirm, or not any more."""
    standing, statement, how = await _look(session, asked)
    if statement is None or how not in ("waiting", "confirmed"):
        return None
    return await state_consent(
        session,
        asked.customer_id,
        asked.channel,
        Purpose.MARKETING,
        ConsentState.GRANTED,
        source=_SOURCE,
        now=now_on(standing.clock),
        wording=statement.wording,
    )


async def _look(
    session: AsyncSession, asked: Confirmation
) -> tuple[Standing, Statement | None, str]:
    """The customer, the newest statement, and what it means for the link (a word of confirm.html).

    Only the address that the message went to can confirm: a newer one has proved nothing.
    """
    standing = await read_standing(session, asked.customer_id)
    if standing is None:
        raise Problem(Code.INVALID_LINK, "the customer is not there")
    statement = await newest_statement(session, asked.customer_id, asked.channel, Purpose.MARKETING)
    points = (await addresses_of(session, [asked.customer_id]))[asked.customer_id]
    used = next((point.address for point in points if point.channel is asked.channel), None)
    state = statement.state if statement is not None else None
    if state is ConsentState.GRANTED:
        return standing, statement, "confirmed"
    if state is not ConsentState.PENDING or used is None or not asked.is_of(used):
        return standing, statement, "over"
    late = now_on(standing.clock) > asked.until
    return standing, statement, "late" if late else "waiting"


async def _page(
    session: AsyncSession, held: Resources, token: str, asked: Confirmation
) -> HTMLResponse:
    standing, _, how = await _look(session, asked)
    choices = preferences_value(asked.customer_id, asked.channel)
    context = {
        "token": token,
        "standing": how,
        "channel": str(asked.channel),
        "preferences": sign(held.signing_key.encode(), TokenPurpose.PREFERENCES, choices),
    }
    status = _GONE if how in ("over", "late") else 200
    return page("confirm.html", context, lang=page_locale(standing.locale), status=status)
