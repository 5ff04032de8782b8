"""F8: ten ways in which a mail server fails us; each mail ends in the right state.

Nine kinds are of single mails and are met by one dispatcher in one go. The tenth, a server whose
TLS is broken, is met by a dispatcher of its own: nobody gets through to such a server.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import sqlalchemy as sa

from activities.messages import MessageActivities
from chaos.ground import Ground, Table
from database.customers import Suppression
from database.messages import Message
from domain.messages import MessageState
from tests.activities.dispatching import (
    RULES,
    dispatcher,
    messages,
    queue,
    running,
    until,
    until_settled,
)
from tests.messaging.post_office import Fault, PostOffice, free_port

_ANSWER_TIMEOUT = 0.5  # seconds; 20 in the product
_GREYLISTED = 0.5  # seconds
_ALWAYS = 1_000_000
_BROKEN_TLS_LASTS = 1.0  # seconds
_EARLY = 0.005  # seconds that two clocks of one machine may seem apart

_COLUMNS = (
    *("fault", "messages", "accepted", "failed", "tries", "arrived", "twice", "lost"),
    *("too early", "suppressed"),
)


class _Kind(NamedTuple):
    """A fault, and what it must end in. Where two are given they take turns."""

    faults: Sequence[Fault]
    tries: Sequence[int]
    state: MessageState = MessageState.ACCEPTED
    suppressed: bool = False


_KINDS = {
    "421 closing": _Kind([Fault("RCPT", "421 4.3.2 closing", times=2)], [3]),
    "450 busy": _Kind([Fault("RCPT", "450 4.2.1 mailbox busy", times=2)], [3]),
    "452 full": _Kind([Fault("DATA", "452 4.3.1 no space", times=2)], [3]),
    "550 nobody": _Kind(
        [Fault("RCPT", "550 5.1.1 no such user", times=_ALWAYS)], [1], MessageState.FAILED, True
    ),
    "554 refused": _Kind(
        [Fault("TEXT", "554 5.7.1 looks like spam", times=_ALWAYS)], [1], MessageState.FAILED
    ),
    "silent": _Kind([Fault("TEXT", hang=True, keep=True), Fault("TEXT", hang=True)], [1, 2]),
    "reset": _Kind([Fault("TEXT", keep=True), Fault("TEXT")], [1, 2]),
    "1 byte/s": _Kind(
        [
            Fault("TEXT", "250 2.0.0 kept", keep=True, seconds_a_byte=1.0),
            Fault("RCPT", "250 OK", seconds_a_byte=1.0),
        ],
        [1, 2],
    ),
    "greylist": _Kind([Fault("RCPT", "450 4.2.0 come later", lasts=_GREYLISTED)], []),
}
_TLS = "broken TLS"


async def meet_faults(ground: Ground, size: int) -> Table:
    """`size` messages for each kind of fault."""
    table = Table("F8 SMTP faults", _COLUMNS)
    ground.say(f"{table.title}: {size} messages of each of {len(_KINDS)} kinds")
    office = PostOffice(ground.directory / "faults.sqlite", free_port())
    await office.open()
    try:
        for number, kind in enumerate(_KINDS.values()):
            for one in range(size):
                address = _address(number, one)
                office.faults[address] = replace(kind.faults[one % len(kind.faults)])
            await queue(ground.sessions, customers=size, address=_address(number, "{}"))
        async with running(_dispatcher(ground, office)):
            await until_settled(ground.sessions, within=60 + size)
        for number, (name, kind) in enumerate(_KINDS.items()):
            await _judge(table, ground, office, name, kind, f"kind{number}-")
        await _meet_broken_tls(table, ground, office, size)
    finally:
        await office.close()
    return table


async def _meet_broken_tls(table: Table, ground: Ground, office: PostOffice, size: int) -> None:
    """Nothing goes in the clear and no attempt is counted; then TLS is given up, by a person."""
    ground.say(f"{table.title}: {size} messages, {_TLS}")
    office.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # it has no certificate
    await queue(ground.sessions, customers=size, address="tls-{}@example.com")
    connections, mails = office.connections, await office.inbox.count()
    async with running(_dispatcher(ground, office, starttls=True)):
        await until(
            ground.sessions,
            lambda found: any(row.provider_answer for row in found if row.state in _WAITS),
        )
        await asyncio.sleep(_BROKEN_TLS_LASTS)
    waiting = [row for row in await messages(ground.sessions) if row.state in _WAITS]
    tried = office.connections - connections
    table.expect(f"{_TLS}: waiting", len(waiting), size)
    table.expect(f"{_TLS}: counted as attempts", sum(row.attempts for row in waiting), 0)
    table.expect(f"{_TLS}: sent in the clear", await office.inbox.count() - mails, 0)
    # Each of the first claim tries; after that one goes ahead of the others, and after a pause.
    if tried > min(size, RULES.batch) + _BROKEN_TLS_LASTS / RULES.longest_pause.total_seconds() + 1:
        table.wrong.append(f"{_TLS}: {tried} connections in {_BROKEN_TLS_LASTS} s")
    office.tls = None
    async with running(_dispatcher(ground, office)):
        await until_settled(ground.sessions, within=60)
    await _judge(table, ground, office, _TLS, _Kind([], [1]), "tls-")


_WAITS = (MessageState.QUEUED, MessageState.SENDING)


def _dispatcher(ground: Ground, office: PostOffice, *, starttls: bool = False) -> MessageActivities:
    return dispatcher(
        *(ground.sessions, ground.client, office.port, office.path),
        answer_timeout=_ANSWER_TIMEOUT,
        starttls=starttls,
    )


def _address(number: int, one: int | str) -> str:
    return f"kind{number}-{one}@example.com"


async def _judge(
    table: Table, ground: Ground, office: PostOffice, name: str, kind: _Kind, to: str
) -> None:
    rows = [row for row in await messages(ground.sessions) if (row.address or "").startswith(to)]
    copies = Counter(mail.effect for mail in await office.inbox.mails(limit=1_000_000))
    tries = [office.tries[row.address or ""] for row in rows]
    states = Counter(row.state for row in rows)
    arrived = [row for row in rows if copies[str(row.id)]]
    twice = [row for row in rows if copies[str(row.id)] > 1]
    lost = [row for row in rows if row.state is MessageState.ACCEPTED and not copies[str(row.id)]]
    early = sum(_too_early(moments) for moments in tries)
    suppressed = await _suppressed(ground, rows)
    table.rows.append(
        [
            *(name, len(rows), states[MessageState.ACCEPTED], states[MessageState.FAILED]),
            *(sum(map(len, tries)), len(arrived), len(twice), len(lost), early, suppressed),
        ]
    )
    accepted = kind.state is MessageState.ACCEPTED
    table.expect(f"{name}: states", states, Counter({kind.state: len(rows)}))
    table.expect(f"{name}: arrived", len(arrived), len(rows) * accepted)
    table.expect(f"{name}: twice", len(twice), 0)
    table.expect(f"{name}: lost", len(lost), 0)
    table.expect(f"{name}: tried before its time", early, 0)
    table.expect(f"{name}: suppressed", suppressed, len(rows) * kind.suppressed)
    if kind.tries:
        wanted = Counter(kind.tries[number % len(kind.tries)] for number in range(len(rows)))
        table.expect(f"{name}: tries of each", Counter(map(len, tries)), wanted)


def _too_early(moments: Sequence[float]) -> int:
    """How many tries came before the schedule allows them after the one before."""
    return sum(
        later - earlier < RULES.retry_delay(attempt) - _EARLY
        for attempt, (earlier, later) in enumerate(pairwise(moments), start=1)
    )


async def _suppressed(ground: Ground, rows: Sequence[Message]) -> int:
    async with ground.sessions() as session:
        addresses = set(await session.scalars(sa.select(Suppression.address)))
    return len(addresses & {(row.address or "").lower() for row in rows})
