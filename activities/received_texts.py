"""What follows from a received text message: an opt-out, an answer to HELP, a customer's words."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from activities.attempts import Attempts
from activities.received_words import (
    on_his_clock,
    tell_of_opt_out,
    tell_of_reply,
)
from database.base import Sessions
from database.customers import ContactPoint
from database.messages import Message
from database.queries.customers import hold_messages
from database.queries.messages import insert_message
from database.received_texts import ReceivedText
from domain.messages import Channel, MessageRequest, Template
from domain.opt_out_words import Wish
from domain.processes import lifecycle_workflow_id
from domain.received_mails import ONE_ANSWER_IN
from domain.received_texts import TextOutcome

_ATTEMPTS = Attempts(ReceivedText, TextOutcome.FAILED)
_SOURCE = "text"


async def take_in_texts(sessions: Sessions, client: Client) -> list[TextOutcome]:
    """Act on the next text messages, each in a transaction of its own; what came of them.

    May be killed at any moment, or run twice at once. Raises while PostgreSQL or Temporal is away.
    A text that can't be acted upon is marked and holds up none.
    """

    async def take_in(session: AsyncSession, row: ReceivedText) -> TextOutcome:
        return await _take_in(session, client, row)

    return await _ATTEMPTS.take_turn(sessions, take_in)


async def _take_in(session: AsyncSession, client: Client, row: ReceivedText) -> TextOutcome:
    outcome = await _act(session, client, row)
    if row.customer_id is not None:
        row.happened_at = await on_his_clock(session, row.customer_id, row.received_at)
    row.outcome, row.processed_at = outcome, sa.func.now()
    return outcome


async def _act(session: AsyncSession, client: Client, row: ReceivedText) -> TextOutcome:
    """The number itself was suppressed, or not any more, when the text was stored."""
    customers = await _customers_at(session, row.sender)
    if len(customers) == 1:
        row.customer_id = customers[0]
    match row.wish:
        case Wish.STOP:
            for customer_id in customers:
                await tell_of_opt_out(
                    session,
                    client,
                    customer_id,
                    event_id=f"text/{row.id}/{customer_id}",
                    source=_SOURCE,
                    received_at=row.received_at,
                    channel=Channel.SMS,
                )
            return TextOutcome.STOPPED
        case Wish.START:
            return TextOutcome.STARTED
    if row.customer_id is None:
        return TextOutcome.UNKNOWN_SENDER
    if row.wish is Wish.HELP:
        helped = await _help(session, row.customer_id, row.id, row.received_at)
        return TextOutcome.HELPED if helped else TextOutcome.KEPT
    await tell_of_reply(
        session,
        client,
        row.customer_id,
        event_id=f"text/{row.id}",
        source=_SOURCE,
        received_at=row.received_at,
        text=row.text or "(no text)",
    )
    return TextOutcome.REPLY_RECEIVED


async def _customers_at(session: AsyncSession, number: str) -> Sequence[UUID]:
    found = await session.scalars(
        sa.select(ContactPoint.customer_id)
        .where(
            sa.func.lower(ContactPoint.address) == number,
            ContactPoint.channel == Channel.SMS,
            ContactPoint.retired_at.is_(None),
        )
        .distinct()
        .order_by(ContactPoint.customer_id)
        .limit(100)
    )
    return found.all()


async def _help(
    session: AsyncSession, customer_id: UUID, text_id: UUID, received_at: datetime
) -> bool:
    """Queue the answer; False when one went not long ago: a machine may have asked."""
    await hold_messages(session, customer_id)
    lately = await session.scalar(
        sa.select(Message.id)
        .where(
            Message.customer_id == customer_id,
            Message.template == Template.SMS_HELP,
            Message.queued_at > sa.func.now() - ONE_ANSWER_IN,
        )
        .limit(1)
    )
    if lately is not None:
        return False
    request = MessageRequest(
        template=Template.SMS_HELP, occurrence=str(text_id), channel=Channel.SMS
    )
    return await insert_message(
        session,
        request,
        customer_id=customer_id,
        workflow_id=lifecycle_workflow_id(customer_id),
        step="asked by text",
        asked_at=await on_his_clock(session, customer_id, received_at),
    )
