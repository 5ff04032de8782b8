"""A customer's timeline: before, during and after the purchase, in plain words."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.contacts import customer_clock
from api.deps import Session
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute
from database.queries.timeline import LINE, MAIL, TEXT, TIMELINE
from domain.messages import MessageState
from domain.processes import PHASES, Phase, ProcessKind
from domain.timeline import words_for, words_for_received

router = APIRouter(prefix="/customers/{customer_id}", tags=["timeline"], route_class=ApiRoute)

_PHASES_BY_ID = {
    "customer": PHASES[ProcessKind.LIFECYCLE],
    "marketing": PHASES[ProcessKind.MARKETING],
    "delivery": PHASES[ProcessKind.DELIVERY],
    "case": PHASES[ProcessKind.SUPPORT],
    "follow-up": PHASES[ProcessKind.FOLLOW_UP],
    "retention": PHASES[ProcessKind.RETENTION],
}


What = Literal["line", "message", "mail", "text"]


class TimelineEntry(BaseModel):
    """Something that happened, a message, or a mail or text that came. `happened_at` is business
    time.
    """

    what: What
    kind: str = Field(description="the event's or step's word, or the message's template")
    words: str
    phase: Phase
    happened_at: datetime
    workflow_id: str
    facts: dict[str, Any]
    message_id: UUID | None = None
    message_state: MessageState | None = None


@router.get("/timeline")
async def show_timeline(
    customer_id: UUID,
    session: Session,
    paging: Paging,
    what: Annotated[What | None, Query()] = None,
    oldest_first: Annotated[bool, Query()] = False,
) -> Page[TimelineEntry]:
    """What happened, what the customer was told and what he wrote, the latest first."""
    statement = sa.select(TIMELINE)
    if what is not None:
        statement = statement.where(TIMELINE.c.what == what)
    page = await read_page(
        session,
        statement,
        [TIMELINE.c.happened_at, TIMELINE.c.ref],
        paging,
        _entry,
        descending=not oldest_first,
        parameters={"customer_id": customer_id},
    )
    if not page.items:
        await customer_clock(session, customer_id)  # an answer only if there is such a customer
    return page


def _entry(row: Any) -> TimelineEntry:
    if row.what == LINE:
        words, phase = words_for(row.kind, row.facts), Phase(row.phase)
    elif row.what in (MAIL, TEXT):
        words, phase = words_for_received(row.kind, row.facts["outcome"]), Phase.AFTER
    else:
        words = f"Message: {row.kind.replace('_', ' ')} ({row.state})"
        phase = _PHASES_BY_ID.get(row.workflow_id.partition("/")[0], Phase.AFTER)
    return TimelineEntry(
        what=row.what,
        kind=row.kind,
        words=words,
        phase=phase,
        happened_at=row.happened_at,
        workflow_id=row.workflow_id,
        facts=row.facts,
        message_id=row.message_id,
        message_state=row.state,
    )
