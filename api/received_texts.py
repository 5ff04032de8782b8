"""Text messages that customers send, from any provider; Twilio's own way is twilio_texts.py."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.contacts import customer_clock
from api.deps import Caller, Held, Session
from api.errors import Code, Problem, not_found
from api.event_bodies import ReplyReceivedEvent
from api.fields import Body, EventId, Phone, Word, Written
from api.intake import Accepted, accept
from api.paging import Page, Paging, read_page
from api.received_mails import Attribution, Dismissal, refuse_settled
from api.routing import ApiRoute, needs, note_change
from database.received_texts import OtherText, ReceivedText, keep_text
from domain.opt_out_words import Wish
from domain.received_texts import TextOutcome
from domain.staff import Permission

router = APIRouter(prefix="/received-texts", tags=["received texts"], route_class=ApiRoute)


class NewReceivedText(Body):
    source: Word = Field("api", description="the provider", examples=["sms-provider"])
    event_id: EventId
    sender: Phone
    text: Written = Field(examples=["STOP"])


class TextTaken(BaseModel):
    """The text is stored. STOP and START hold already; all else follows within seconds."""

    id: UUID
    duplicate: bool = Field(description="true: it was stored before; nothing was done again")


class ReceivedTextView(BaseModel):
    """`happened_at` is business time, the other moments are the machine's."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    source: str
    event_id: str
    sender: str
    text: str
    words_deleted_at: datetime | None = Field(description="since when the text is empty")
    wish: Wish | None = Field(description="what its words ask for, where they ask for that alone")
    received_at: datetime
    attempts: int = Field(description="how often we began to act on it")
    processed_at: datetime | None
    outcome: TextOutcome | None
    because: str | None = Field(description="why it failed, where it did")
    customer_id: UUID | None = Field(description="null: the number is of nobody, or of several")
    happened_at: datetime | None


@router.post("", status_code=202)
async def take_received_text(body: NewReceivedText, session: Session) -> TextTaken:
    """Hand in a text message of a customer.

    STOP and the like suppress the number with this answer, START lifts what STOP has made, HELP is
    answered once a day; anything else is a reply of the customer who has the number.
    """
    text_id, new = await take_text(session, body.source, body.event_id, body.sender, body.text)
    return TextTaken(id=text_id, duplicate=not new)


async def take_text(
    session: AsyncSession, source: str, event_id: str, sender: str, text: str
) -> tuple[UUID, bool]:
    """As `keep_text`; raises the problem for an id that came before with another text."""
    try:
        return await keep_text(session, source, event_id, sender, text)
    except OtherText:
        raise Problem(
            Code.EVENT_CONFLICT, f"event_id {event_id} came before with another text"
        ) from None


@router.get("")
async def list_received_texts(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query()] = None,
    outcome: Annotated[TextOutcome | None, Query()] = None,
) -> Page[ReceivedTextView]:
    """Text messages that came, the latest first."""
    filters = {"customer_id": customer_id, "outcome": outcome}
    given = {name: value for name, value in filters.items() if value is not None}
    statement = sa.select(ReceivedText).filter_by(**given)
    return await read_page(
        session, statement, [ReceivedText.id], paging, ReceivedTextView.model_validate
    )


@router.get("/{text_id}")
async def show_received_text(text_id: UUID, session: Session) -> ReceivedTextView:
    """One text message."""
    return ReceivedTextView.model_validate(await _text(session, text_id))


@router.post("/{text_id}/attribution", status_code=202)
@needs(Permission.WORK_TASKS)
async def attribute_received_text(
    text_id: UUID, body: Attribution, session: Session, held: Held, caller: Caller
) -> Accepted:
    """A person says whose text it is: from then on it is a reply of that customer.

    409 for a text that was acted upon already.
    """
    row = await _text(session, text_id, lock=True)
    refuse_settled("text", row.outcome, TextOutcome.ATTRIBUTED)
    clock = await customer_clock(session, body.customer_id)
    event = ReplyReceivedEvent(
        kind="reply_received",
        event_id=f"text/{row.id}",
        source="text",
        occurred_at=clock.business(row.received_at),
        customer_id=body.customer_id,
        case_id=body.case_id,
        text=row.text[:10_000] or "(no text)",
    )
    accepted = await accept(session, held, caller, event, body)
    row.outcome, row.customer_id = TextOutcome.ATTRIBUTED, body.customer_id
    row.happened_at = event.occurred_at
    return accepted


@router.post("/{text_id}/dismissal")
@needs(Permission.WORK_TASKS)
async def dismiss_received_text(
    text_id: UUID, body: Dismissal, request: Request, session: Session
) -> ReceivedTextView:
    """A person says that nothing follows from a text. It can still be given to a customer.

    A repeat changes nothing. 409 for a text that was acted upon.
    """
    row = await _text(session, text_id, lock=True)
    refuse_settled("text", row.outcome, TextOutcome.DISMISSED)
    note_change(request, before={"outcome": row.outcome})
    row.outcome = TextOutcome.DISMISSED
    await session.flush()
    return ReceivedTextView.model_validate(row)


async def _text(session: AsyncSession, text_id: UUID, *, lock: bool = False) -> ReceivedText:
    """Raises the 404 problem."""
    row = await session.get(ReceivedText, text_id, with_for_update=lock or None)
    if row is None:
        raise not_found("received text", text_id)
    return row
