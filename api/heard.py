"""What a customer told a member of staff, by phone or in person: an answer, a need."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field

from api.deps import Caller, Held, Session
from api.event_bodies import NeedStatedEvent, ReplyReceivedEvent
from api.fields import Body, Instant, Prose, StaffId, Word
from api.intake import Accepted, accept, business_now, event_id_for
from api.routing import ApiRoute, needs
from domain.staff import Permission

router = APIRouter(prefix="/customers/{customer_id}", tags=["contacts"], route_class=ApiRoute)

Moment = Annotated[Instant | None, Field(description="null: now on the customer's clock")]


class HeardReply(Body):
    text: Prose = Field(examples=["She would like an offer for two."])
    source: Word = Field("phone", description="the way it came", examples=["phone"])
    case_id: UUID | None = Field(None, description="the case it is about, if known")
    occurred_at: Moment = None


class HeardNeed(Body):
    text: Prose = Field(examples=["a second battery for the winter"])
    author: StaffId
    occurred_at: Moment = None


@router.post("/replies", status_code=202)
@needs(Permission.EDIT_CUSTOMERS)
async def record_reply(
    customer_id: UUID,
    body: HeardReply,
    request: Request,
    session: Session,
    held: Held,
    caller: Caller,
) -> Accepted:
    """Record what a customer said by another way than mail or text: it is a reply like theirs.

    It goes to the case it is about or to an open one, and ends the messages it answers.
    """
    event = ReplyReceivedEvent(
        kind="reply_received",
        event_id=event_id_for(request, "reply"),
        source=body.source,
        occurred_at=body.occurred_at or await business_now(session, customer_id=customer_id),
        customer_id=customer_id,
        case_id=body.case_id,
        text=body.text,
    )
    return await accept(session, held, caller, event, body)


@router.post("/needs", status_code=202)
@needs(Permission.EDIT_CUSTOMERS)
async def record_need(
    customer_id: UUID,
    body: HeardNeed,
    request: Request,
    session: Session,
    held: Held,
    caller: Caller,
) -> Accepted:
    """Record what a customer needs next: it becomes an opportunity for a person."""
    event = NeedStatedEvent(
        kind="need_stated",
        event_id=event_id_for(request, "need"),
        occurred_at=body.occurred_at or await business_now(session, customer_id=customer_id),
        customer_id=customer_id,
        text=body.text,
        author=body.author,
    )
    return await accept(session, held, caller, event, body)
