"""Messages: what was sent to whom, what was not, and why."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.delivery_reports import ReportView
from api.deps import Session
from api.errors import not_found
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute
from database.delivery_reports import DeliveryReportRow
from database.messages import Message
from database.reactions import MessageReaction, ReactionKind
from database.received_mails import ReceivedMail
from domain.contacts import DecidedOn, Decision
from domain.messages import Channel, MessageClass, MessageState, Purpose, SettledBy, Template
from domain.received_mails import MailKind, MailOutcome

router = APIRouter(prefix="/messages", tags=["messages"], route_class=ApiRoute)


class MessageView(BaseModel):
    """`asked_at`, `told_at` and `not_after` are business time, the other moments the machine's."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    key: str
    customer_id: UUID | None
    workflow_id: str
    step: str
    template: Template
    message_class: MessageClass
    purpose: Purpose
    channel: Channel
    asked_channel: Channel | None = Field(description="where it went by another than asked for")
    state: MessageState
    asked_at: datetime
    queued_at: datetime
    not_before: datetime
    not_after: datetime | None
    attempts: int
    accepted_at: datetime | None
    told_at: datetime | None
    possible_duplicate: bool
    settled_by: SettledBy | None = Field(
        description="how an unknown outcome was settled; null: it was not, or never unknown"
    )


class MessageDetail(MessageView):
    """As it was rendered and handed over."""

    address: str | None
    locale: str | None
    template_version: str | None = Field(description="`file`, or the number of a version of staff")
    message_id: str | None
    subject: str | None
    text: str | None
    html: str | None
    text_deleted_at: datetime | None = Field(
        description="since when subject and text are gone, under the policy of kind storage"
    )
    provider: str | None
    provider_answer: str | None
    decision: dict[str, Any] | None


class RuleConsulted(BaseModel):
    name: str
    passed: bool
    because: str


class Asked(BaseModel):
    """Who asked for the message, and when in the customer's business time."""

    workflow_id: str = Field(description="the process; its page tells what it stood at")
    step: str
    at: datetime
    not_after: datetime | None = Field(description="its deadline, business time")


class Wording(BaseModel):
    """What it was rendered from; null while it was not."""

    template: Template
    version: str | None = Field(description="`file`, or the number of a version of staff")
    locale: str | None = Field(description="of the reader")


class Said(BaseModel):
    """One answer of a provider, or what was found out where it got lost."""

    at: datetime = Field(description="the machine's time")
    provider: str | None
    attempt: int = Field(description="counted from 1; a closed door is no attempt")
    answer: str = Field(examples=["450 4.2.0 greylisted"])
    then: MessageState = Field(description="what the message became by it")


class ProviderSaid(BaseModel):
    """What came of handing it over; empty for a message that nobody tried to send."""

    name: str | None
    attempts: int
    answer: str | None = Field(description="the newest")
    conversation: list[Said] = Field(
        description="the first answer and the 19 newest; of older versions none were kept"
    )
    accepted_at: datetime | None = Field(description="the machine's time")
    possible_duplicate: bool
    settled_by: SettledBy | None = Field(
        description="how an unknown outcome was settled; null: it was not, or never unknown"
    )


class Reaction(BaseModel):
    """Counted once a day at most, and only for a customer who allows it."""

    model_config = ConfigDict(from_attributes=True)

    kind: ReactionKind
    link: str = Field(description="where it led; empty for an opening")
    first_at: datetime = Field(description="the first time that day; the machine's time")


class CameBack(BaseModel):
    """A mail that answers the message: a person's or a machine's, a bounce or a complaint."""

    model_config = ConfigDict(from_attributes=True)

    received_mail_id: UUID
    kind: MailKind
    outcome: MailOutcome
    received_at: datetime


class Explanation(BaseModel):
    """Why the message was sent, held back or not sent."""

    message_id: UUID
    state: MessageState
    words: str = Field(examples=["Not sent: no consent to marketing by email."])
    asked: Asked
    decided_by: str | None = Field(description="the rule; null while nothing is decided")
    rules: list[RuleConsulted] = Field(description="in the order in which they were consulted")
    facts: DecidedOn | None = Field(
        description="null: not decided, by the process itself, or by an older version"
    )
    held_until: datetime | None = Field(description="business time, where it is known")
    wording: Wording
    provider: ProviderSaid
    reports: list[ReportView] = Field(description="in the order in which they were received")
    reactions: list[Reaction]
    text_deleted_at: datetime | None = Field(description="under the policy of kind storage")
    reactions_deleted_at: datetime | None = Field(
        description="that there are none does not say, from then on, that there were none"
    )
    replies: list[CameBack] = Field(description="mails that answer it or came back")


@router.get("")
async def list_messages(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query()] = None,
    workflow_id: Annotated[str | None, Query(max_length=200)] = None,
    template: Annotated[Template | None, Query()] = None,
    state: Annotated[MessageState | None, Query()] = None,
    channel: Annotated[Channel | None, Query()] = None,
    possible_duplicate: Annotated[bool | None, Query()] = None,
    settled_by: Annotated[SettledBy | None, Query()] = None,
) -> Page[MessageView]:
    """Messages, the latest asked for first."""
    filters = {
        "customer_id": customer_id,
        "workflow_id": workflow_id,
        "template": template,
        "state": state,
        "channel": channel,
        "possible_duplicate": possible_duplicate,
        "settled_by": settled_by,
    }
    given = {name: value for name, value in filters.items() if value is not None}
    return await read_page(
        session,
        sa.select(Message).filter_by(**given),
        [Message.id],
        paging,
        MessageView.model_validate,
    )


@router.get("/{message_id}")
async def show_message(message_id: UUID, session: Session) -> MessageDetail:
    """One message with its wording and the decision about it."""
    return MessageDetail.model_validate(await _message(session, message_id))


@router.get("/{message_id}/explanation")
async def explain_message(message_id: UUID, session: Session) -> Explanation:
    """Who asked for it, each rule consulted, which one decided and upon which facts, all that the
    provider said, what was reported afterwards, and what came back.
    """
    message = await _message(session, message_id)
    decision = Decision.model_validate(message.decision) if message.decision else None
    rules = decision.rules if decision else ()
    return Explanation(
        message_id=message_id,
        state=message.state,
        words=_words(message, decision) + _words_of_doubt(message) + _words_about_deletion(message),
        asked=Asked(
            workflow_id=message.workflow_id,
            step=message.step,
            at=message.asked_at,
            not_after=message.not_after,
        ),
        decided_by=decision.decided_by if decision else None,
        rules=[RuleConsulted.model_validate(rule.model_dump()) for rule in rules],
        facts=decision.facts if decision else None,
        held_until=decision.until if decision else None,
        wording=Wording(
            template=message.template, version=message.template_version, locale=message.locale
        ),
        provider=ProviderSaid(
            name=message.provider,
            attempts=message.attempts,
            answer=message.provider_answer,
            conversation=[Said.model_validate(one) for one in message.conversation or ()],
            accepted_at=message.accepted_at,
            possible_duplicate=message.possible_duplicate,
            settled_by=message.settled_by,
        ),
        reports=await _reports(session, message_id),
        reactions=[Reaction.model_validate(one) for one in await _reactions(session, message_id)],
        text_deleted_at=message.text_deleted_at,
        reactions_deleted_at=message.reactions_deleted_at,
        replies=await _replies(session, message_id),
    )


async def _reports(session: AsyncSession, message_id: UUID) -> list[ReportView]:
    found = await session.scalars(
        sa.select(DeliveryReportRow)
        .where(DeliveryReportRow.message_id == message_id)
        .order_by(DeliveryReportRow.id)
    )
    return [ReportView.model_validate(row) for row in found]


async def _reactions(session: AsyncSession, message_id: UUID) -> Sequence[MessageReaction]:
    found = await session.scalars(
        sa.select(MessageReaction)
        .where(MessageReaction.message_id == message_id)
        .order_by(MessageReaction.first_at, MessageReaction.kind, MessageReaction.link)
    )
    return found.all()


async def _replies(session: AsyncSession, message_id: UUID) -> list[CameBack]:
    found = await session.execute(
        sa.select(
            ReceivedMail.id.label("received_mail_id"),
            *(ReceivedMail.kind, ReceivedMail.outcome, ReceivedMail.received_at),
        )
        .where(ReceivedMail.answers == message_id, ReceivedMail.processed_at.is_not(None))
        .order_by(ReceivedMail.id)
    )
    return [CameBack.model_validate(row) for row in found]


async def _message(session: AsyncSession, message_id: UUID) -> Message:
    message = await session.get(Message, message_id)
    if message is None:
        raise not_found("message", message_id)
    return message


def _words_about_deletion(message: Message) -> str:
    if message.text_deleted_at is None:
        return ""
    return f" Its text was deleted on {message.text_deleted_at:%Y-%m-%d} under the storage policy."


_ON_THE_WAY = (MessageState.QUEUED, MessageState.SENDING)  # their words say it themselves
_PERHAPS_TWICE = (
    *(MessageState.ACCEPTED, MessageState.DELIVERED),
    *(MessageState.BOUNCED, MessageState.COMPLAINED, MessageState.UNKNOWN),
)


def _words_of_doubt(message: Message) -> str:
    """What its state alone would hide: it was sent again after an answer had been lost."""
    if not message.possible_duplicate or message.state in _ON_THE_WAY:
        return ""
    if message.state in _PERHAPS_TWICE:
        return " It may have arrived twice: the answer to an earlier attempt was lost."
    return " An earlier attempt may have arrived: its answer was lost."


def _words_on_the_way(message: Message) -> str:
    answer, queued = message.provider_answer, message.state is MessageState.QUEUED
    if message.unknown_since is not None or message.possible_duplicate:
        after = ", and it is sent again" if queued else ""
        why = f": {answer}" if answer else ""
        return f"Perhaps sent: the outcome of an earlier attempt is unknown{after}{why}."
    if not queued:
        return "Being handed over: the provider's answer is not here yet."
    again = f", it will be tried again: {answer}" if answer else ": it waits for its turn."
    return f"Not sent yet{again}"


def _words(message: Message, decision: Decision | None) -> str:
    because = decision.because if decision else ""
    match message.state:
        case MessageState.QUEUED | MessageState.SENDING:
            return _words_on_the_way(message)
        case MessageState.HELD:
            return f"Held back for now: {because}."
        case MessageState.SUPPRESSED | MessageState.CANCELLED:
            return f"Not sent: {because}."
        case MessageState.ACCEPTED:
            return f"Sent: the provider took it at {message.accepted_at:%Y-%m-%d %H:%M} UTC."
        case MessageState.DELIVERED:
            return f"Delivered; the provider took it at {message.accepted_at:%Y-%m-%d %H:%M} UTC."
        case MessageState.COMPLAINED:
            return f"Delivered, and the recipient complained: {message.provider_answer}."
        case MessageState.BOUNCED:
            return f"It came back: {message.provider_answer}."
        case MessageState.UNKNOWN:
            return "Perhaps sent: the connection was lost before the provider's answer."
        case _:
            return f"Not delivered: {message.provider_answer or message.state.value}."
