"""Providers that repeat every event many times, in any order, sometimes before we know ourselves.

`make chaos` runs the same storm as the suite, only larger (reliability.md F9).
"""

import asyncio
import hmac
import json
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from random import Random
from typing import Any
from uuid import UUID, uuid4

import httpx2
import sqlalchemy as sa
from temporalio.client import Client

from activities.delivery_reports import take_in_reports
from activities.message_queue import Settlement, settle
from database.base import Sessions
from database.customers import Customer, Suppression
from database.delivery_reports import DeliveryReportRow
from database.messages import Message
from database.timeline import TimelineLine
from domain.delivery_reports import ReportKind, next_state
from domain.messages import MESSAGES, Channel, MessageState, Purpose, Template

RESEND = "/api/v1/provider-events/resend"
_TYPES = {
    "email.sent": ReportKind.ACCEPTED,
    "email.delivered": ReportKind.DELIVERED,
    "email.delivery_delayed": ReportKind.DELAYED,
    "email.bounced": ReportKind.BOUNCED,
    "email.complained": ReportKind.COMPLAINED,
    "email.failed": ReportKind.FAILED,
}
_MORE = {"email.bounced": {"bounce": {"type": "Permanent", "message": "no such user"}}}
_MOST_REPEATS = 46
_MOST_EVENTS_OF_A_MESSAGE = 4
_AT_ONCE = 16
_TOKEN = "a dispatcher that has not committed yet"


def signed(secret: bytes, event_id: str, body: bytes, at: float | None = None) -> dict[str, str]:
    """The headers that Svix sends with an event, at a moment in seconds since 1970."""
    timestamp = str(int(time.time() if at is None else at))
    content = f"{event_id}.{timestamp}.".encode() + body
    signature = b64encode(hmac.digest(secret, content, "sha256")).decode()
    return {
        "content-type": "application/json",
        "svix-id": event_id,
        "svix-timestamp": timestamp,
        "svix-signature": f"v1,{signature}",
    }


def resend_event(type_: str, effect: UUID | str, **data: Any) -> bytes:
    event = {
        "type": type_,
        "created_at": datetime.now(UTC).isoformat(),
        "data": {"email_id": str(uuid4()), "tags": {"effect": str(effect)}, **data},
    }
    return json.dumps(event).encode()


@dataclass
class Storm:
    """What was sent, and everything that is not as it must be."""

    events: int
    deliveries: int = 0
    early: int = 0  # events delivered before our own record of the provider's yes
    duplicates: int = 0  # answered as such
    wrong: list[str] = field(default_factory=list)

    def compare(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.wrong.append(f"{what}: {found!r:.300} instead of {expected!r:.300}")


async def storm(
    api: httpx2.AsyncClient,
    sessions: Sessions,
    client: Client,
    secret: bytes,
    *,
    events: int,
    seed: int,
) -> Storm:
    """Deliver so many events, each 1 to 46 times, shuffled, a tenth before our own commit.

    The application must have `secret` as that of Resend. The intake runs meanwhile.
    """
    chance = Random(seed)
    result = Storm(events)
    told = _choose(chance, events)
    early = set(list(told)[: max(1, len(told) // 10)])
    result.early = sum(len(told[message]) for message in early)
    await _queue(sessions, told, early)
    bodies = {
        str(uuid4()): resend_event(type_, message, **_MORE.get(type_, {}))
        for message, types in told.items()
        for type_ in types
    }
    deliveries = [one for one in bodies for _ in range(chance.randint(1, _MOST_REPEATS))]
    chance.shuffle(deliveries)
    result.deliveries = len(deliveries)
    answers: Counter[tuple[int, str]] = Counter()
    waiting = iter(deliveries)

    async def deliver() -> None:
        for event_id in waiting:
            body = bodies[event_id]
            answer = await api.post(RESEND, content=body, headers=signed(secret, event_id, body))
            answers[answer.status_code, answer.text] += 1

    over = asyncio.Event()
    intake = asyncio.create_task(_take_in_until(over, sessions, client))
    await asyncio.gather(*(deliver() for _ in range(_AT_ONCE)))
    await _accept(sessions, early)
    over.set()
    await intake
    result.duplicates = answers[200, '{"duplicate":true}']
    expected = {(200, '{"duplicate":false}'): events}
    if len(deliveries) > events:
        expected[200, '{"duplicate":true}'] = len(deliveries) - events
    result.compare("answers", dict(answers), expected)
    await _compare(sessions, told, result)
    return result


def _choose(chance: Random, events: int) -> dict[UUID, list[str]]:
    """Which events come about which message."""
    told: dict[UUID, list[str]] = {}
    left = events
    while left:
        types = chance.sample(list(_TYPES), min(left, chance.randint(1, _MOST_EVENTS_OF_A_MESSAGE)))
        told[uuid4()] = types
        left -= len(types)
    return told


async def _queue(sessions: Sessions, told: Mapping[UUID, object], early: set[UUID]) -> None:
    """The messages, handed over; of the early ones the dispatcher has not recorded it."""
    kind = MESSAGES[Template.ORDER_CONFIRMED]
    now = datetime.now(UTC)
    async with sessions.begin() as session:
        customer = Customer(reference=str(uuid4()), name="Ada Lovelace")
        session.add(customer)
        await session.flush()
        for message in told:
            sending = message in early
            session.add(
                Message(
                    id=message,
                    key=f"storm/{message}",
                    customer_id=customer.id,
                    workflow_id=f"delivery/{message}",
                    step="step",
                    template=Template.ORDER_CONFIRMED,
                    message_class=kind.message_class,
                    purpose=kind.purpose,
                    channel=Channel.EMAIL,
                    context={},
                    asked_at=now,
                    state=MessageState.SENDING if sending else MessageState.ACCEPTED,
                    claimed_by=_TOKEN if sending else None,
                    claimed_at=now,
                    accepted_at=None if sending else now,
                    told_at=None if sending else now,
                    address=f"{message}@example.com",
                )
            )


async def _take_in_until(over: asyncio.Event, sessions: Sessions, client: Client) -> None:
    while True:
        was_over = over.is_set()
        if not await take_in_reports(sessions, client):
            if was_over:
                return
            await asyncio.sleep(0.02)


async def _accept(sessions: Sessions, messages: set[UUID]) -> None:
    """The dispatcher commits that the provider took them, long after the provider said so."""
    now = datetime.now(UTC)
    settlements = [
        Settlement(
            id=message,
            token=_TOKEN,
            state=MessageState.ACCEPTED,
            answer="200 taken",
            provider="resend",
            accepted_at=now,
            told_at=now,
        )
        for message in messages
    ]
    async with sessions.begin() as session:
        assert len(await settle(session, settlements)) == len(messages)


async def _compare(sessions: Sessions, told: Mapping[UUID, list[str]], result: Storm) -> None:
    kinds = {message: [_TYPES[type_] for type_ in types] for message, types in told.items()}
    async with sessions() as session:
        messages = {
            row.id: row
            for row in await session.scalars(sa.select(Message).where(Message.id.in_(told)))
        }
        reports = sa.select(DeliveryReportRow).where(DeliveryReportRow.message_id.in_(told))
        rows = list(await session.scalars(reports))
        addresses = [f"{message}@example.com" for message in told]
        active = sa.select(Suppression).where(Suppression.address.in_(addresses))
        suppressed = Counter((one.address, one.purpose) for one in await session.scalars(active))
        workflows = [f"delivery/{message}" for message in told]
        lines = sa.select(TimelineLine).where(TimelineLine.workflow_id.in_(workflows))
        history = Counter((line.workflow_id, line.kind) for line in await session.scalars(lines))
    result.compare("reports kept", len(rows), result.events)
    result.compare("not processed", [row.event_id for row in rows if not row.processed_at], [])
    for message, row in messages.items():
        state = reduce(next_state, kinds[message], MessageState.ACCEPTED)
        result.compare(f"state after {kinds[message]}", row.state, state)
        dated = row.accepted_at is not None and row.told_at is not None and row.claimed_by is None
        result.compare(f"dates and claim after {kinds[message]}", dated, True)
    bounced = [m for m, said in kinds.items() if ReportKind.BOUNCED in said]
    complained = [m for m, said in kinds.items() if ReportKind.COMPLAINED in said]
    addressed: list[tuple[str, Purpose | None]] = [
        *((f"{message}@example.com", None) for message in bounced),
        *((f"{message}@example.com", Purpose.MARKETING) for message in complained),
    ]
    result.compare("suppressions", suppressed, Counter(addressed))
    written = [(f"delivery/{message}", "message_bounced") for message in bounced]
    written += [(f"delivery/{message}", "message_complained") for message in complained]
    result.compare("lines in the history", history, Counter(written))
