"""Text messages that customers send, from any provider; Twilio's own way is twilio_texts.py."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Session
from api.errors import Code, Problem
from api.fields import Body, EventId, Phone, Word, Written
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute
from database.received_texts import OtherText, ReceivedText, keep_text
from domain.opt_out_words import Wish
from domain.received_texts import TextOutcome

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
