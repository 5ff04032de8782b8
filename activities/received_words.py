"""What customers tell us by mail or text, as facts: stored as events and told to the relationship.

Each is called in the transaction that settles what was received. The process is told before the
commit, as in the API: a repeat is recognised there by its event id, and here by the event's row.
"""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from database.events import fingerprint_of, keep_event
from database.queries.customers import clock_of, withdraw_consents
from domain.clock import REAL_TIME
from domain.lifecycle import MailUnclear, OptedOut
from domain.marketing import ReplyReceived
from domain.messages import Channel, Purpose
from domain.processes import Fact, lifecycle_workflow_id
from temporal_runtime import tell_lifecycle

_TELL_LIMIT = 5.0  # seconds: the customer's row may be locked meanwhile
_LONGEST_TEXT = 10_000  # characters, as through the API; all of it stays with what was received


async def tell_of_reply(
    session: AsyncSession,
    client: Client,
    customer_id: UUID,
    *,
    event_id: str,
    source: str,
    received_at: datetime,
    text: str,
    case_id: UUID | None = None,
    answers: str = "",
) -> bool:
    """The customer wrote; False when that was told before under the event's id."""
    occurred_at = await on_his_clock(session, customer_id, received_at)
    body: dict[str, Any] = {"kind": "reply_received", "text": text[:_LONGEST_TEXT]}
    if case_id is not None:
        body["case_id"] = str(case_id)
    fact = ReplyReceived(
        event_id=event_id, occurred_at=occurred_at, about_case=case_id, answers=answers
    )
    return await _tell(session, client, customer_id, source, body, fact)


async def tell_of_opt_out(
    session: AsyncSession,
    client: Client,
    customer_id: UUID,
    *,
    event_id: str,
    source: str,
    received_at: datetime,
    channel: Channel,
) -> bool:
    """The customer wants no more marketing on the channel: the consent is withdrawn with it."""
    occurred_at = await on_his_clock(session, customer_id, received_at)
    body = {"kind": "opted_out", "channel": channel, "purpose": Purpose.MARKETING}
    await withdraw_consents(
        session,
        customer_id,
        event_id,
        [channel],
        Purpose.MARKETING,
        source=source,
        occurred_at=occurred_at,
    )
    fact = OptedOut(event_id=event_id, occurred_at=occurred_at, channel=channel)
    return await _tell(session, client, customer_id, source, body, fact)


async def ask_whose(
    session: AsyncSession,
    client: Client,
    customer_id: UUID,
    *,
    event_id: str,
    received_at: datetime,
    mail_id: UUID,
) -> None:
    """Somebody whom we don't know wrote about something of the customer's: a person decides."""
    occurred_at = await on_his_clock(session, customer_id, received_at)
    fact = MailUnclear(event_id=f"{event_id}/asked", occurred_at=occurred_at, mail_id=mail_id)
    async with asyncio.timeout(_TELL_LIMIT):
        await tell_lifecycle(client, customer_id, "mail_unclear", fact)


async def on_his_clock(session: AsyncSession, customer_id: UUID, at: datetime) -> datetime:
    """A moment of the machine in the customer's business time."""
    return (await clock_of(session, customer_id) or REAL_TIME).business(at)


async def _tell(
    session: AsyncSession,
    client: Client,
    customer_id: UUID,
    source: str,
    body: dict[str, Any],
    fact: Fact,
) -> bool:
    told = {
        **body,
        "event_id": fact.event_id,
        "source": source,
        "occurred_at": fact.occurred_at.isoformat(),
        "customer_id": str(customer_id),
    }
    new = await keep_event(
        session,
        told,
        fingerprint=fingerprint_of(told),
        customer_id=customer_id,
        workflow_id=lifecycle_workflow_id(customer_id),
        occurred_at=fact.occurred_at,
        accepted_by=source,
    )
    if new:
        async with asyncio.timeout(_TELL_LIMIT):
            await tell_lifecycle(client, customer_id, body["kind"], fact)
    return new
