"""Links and images that count, for who allowed it; for everybody else they just lead on.

A link works for ever: what it leads to is in its signed token, and nothing has to be looked up.
Whether it is counted is found out after the answer, under the policy and the consent of now.
"""

import asyncio
import logging
from base64 import b64decode
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, BackgroundTasks, Path, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources
from api.errors import Code, Problem
from api.pages import PageRoute
from database.base import insert_once
from database.messages import Message
from database.queries.consents import contact_policy, newest_statement
from database.reactions import MessageReaction, ReactionKind
from domain.contacts import ConsentState
from domain.messages import Purpose
from domain.tokens import TokenPurpose, parse_click_value, verify

router = APIRouter(tags=["pages"], route_class=PageRoute)

Token = Annotated[str, Path(max_length=1000)]
_COUNTED_FOR = timedelta(days=90)  # after it was queued; machine time
_PATIENCE = 5.0  # seconds
# The smallest transparent image: GIF89a, one pixel.
_PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_log = logging.getLogger(__name__)


@router.api_route("/c/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def follow_link(
    token: Token, request: Request, held: Held, later: BackgroundTasks
) -> RedirectResponse:
    """To the page that the signed token names, and to no other."""
    value = verify(held.signing_key.encode(), TokenPurpose.CLICK, token)
    message_id, target = parse_click_value(value) if value is not None else (None, "")
    if message_id is None or not target.startswith("https://"):
        raise Problem(Code.INVALID_LINK, "the token was not made here")
    if request.method == "GET":  # a HEAD is a scanner's
        later.add_task(_count, held, message_id, ReactionKind.CLICKED, target)
    return RedirectResponse(target, 302)


@router.api_route("/o/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def show_pixel(
    token: Token, request: Request, held: Held, later: BackgroundTasks
) -> Response:
    """An image of one pixel."""
    value = verify(held.signing_key.encode(), TokenPurpose.OPEN, token)
    if value is None:
        raise Problem(Code.INVALID_LINK, "the token was not made here")
    if request.method == "GET":
        later.add_task(_count, held, UUID(value), ReactionKind.OPENED)
    return Response(_PIXEL, media_type="image/gif")


async def _count(held: Resources, message_id: UUID, kind: ReactionKind, link: str = "") -> None:
    """Once a day at most. What cannot be written now is not counted: nobody waits for it."""
    try:
        async with asyncio.timeout(_PATIENCE), held.sessions.begin() as session:
            if await _may_count(session, message_id):
                reaction = {"message_id": message_id, "kind": kind, "link": link}
                await insert_once(session, MessageReaction, **reaction)
    except (DBAPIError, PoolTimeout, TimeoutError) as problem:
        _log.warning("a reaction to a message is not counted: %s", type(problem).__name__)


async def _may_count(session: AsyncSession, message_id: UUID) -> bool:
    found = await session.execute(
        sa.select(Message.customer_id, Message.channel).where(
            Message.id == message_id, Message.queued_at > sa.func.now() - _COUNTED_FOR
        )
    )
    message = found.one_or_none()
    if message is None or not (await contact_policy(session)).track:
        return False
    said = await newest_statement(session, message.customer_id, message.channel, Purpose.TRACKING)
    return said is not None and said.state is ConsentState.GRANTED
