"""`messages.*`: queued messages handed over per second, beside the bare cost of the same bytes.

Ours is the whole path of a batch: rows in PostgreSQL, claimed and decided about, rendered,
composed, handed over by the product's worker, settled; from the commit that queues them until the
last one is taken. The sink is a process of its own that keeps nothing. In the first round the
product's local inbox, which has each mail on disk before its answer, stands in for it; what that
keeps is what bare sends: aiosmtplib with as many connections, the same bytes and the same sink.
"""

import asyncio
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import aiosmtplib
import sqlalchemy as sa

from benchmarks.installation import Installation
from benchmarks.life import until_delivered
from benchmarks.lives import make_customers
from benchmarks.reports import listening
from database.base import Sessions, connect
from database.messages import Message
from domain.messages import MESSAGES, Channel, MessageState, Template, message_key
from messaging.render import sample_context
from messaging.smtp import SmtpAccount
from supervisor.ports import free_port, is_answered
from supervisor.service import Program

_MESSAGES, _ROUNDS = 2_000, 3
_QUICK = (200, 1)
_WARM_UP = 100
_SENDER = "hello@perennial.example"
# Half of them about orders; the others have consents, links and limits as well.
_MIX = (
    *(Template.ORDER_CONFIRMED, Template.SURVEY_REQUEST),
    *(Template.ORDER_DELIVERED, Template.WIN_BACK),
)


class SentMail(NamedTuple):
    """The envelope and the bytes that went over the wire."""

    sender: str
    to: str
    raw: bytes


async def measure_messages(
    installation: Installation, say: Callable[[str], None], *, quick: bool = False
) -> dict[str, Any]:
    count, rounds = _QUICK if quick else (_MESSAGES, _ROUNDS)
    say(f"messages: {rounds} rounds of {count}")
    sessions = connect(installation.database_url)
    ours, bare = [], []
    async with listening(installation.reports):
        with installation.worker("ours"):
            await _hand_over(sessions, _WARM_UP)
            inbox = await _hand_over(sessions, count)
        mails = newest_mails(installation.settings.inbox, count)
        with _sink(installation) as port:
            elsewhere = {"CRM_SMTP_HOST": "127.0.0.1", "CRM_SMTP_PORT": str(port)}
            with installation.worker("ours", **elsewhere):
                await _hand_over(sessions, _WARM_UP)
                for number in range(1, rounds + 1):
                    ours.append(await _hand_over(sessions, count))
                    bare.append(await hand_over_bare(port, mails))
                    say(f"round {number}: ours {ours[-1]:.0f}/s, bare {bare[-1]:.0f}/s")
    await sessions.kw["bind"].dispose()
    return {
        "per_s": round(median(ours), 1),
        "bare_per_s": round(median(bare), 1),
        "ratio": round(median(o / b for o, b in zip(ours, bare, strict=True)), 3),
        "inbox_per_s": round(inbox, 1),
        "messages": count,
        "bytes": sum(len(mail.raw) for mail in mails) // len(mails),
        "rounds": [round(one, 1) for one in ours],
        "bare_rounds": [round(one, 1) for one in bare],
    }


@contextmanager
def _sink(installation: Installation) -> Iterator[int]:
    port = free_port()
    sink = Program(
        "sink",
        [sys.executable, "-m", "benchmarks.sink", "--port", str(port)],
        log=Path(installation.settings.data_dir) / "logs" / "sink.log",
        environment=installation.plan.environment,
        answers=lambda: is_answered("127.0.0.1", port),
    )
    with sink:
        yield port


async def _hand_over(sessions: Sessions, count: int) -> float:
    """Queue so many at once, wait until all are taken; how many a second."""
    customers, _ = await make_customers(sessions, count, simulated=False)
    rows = [_row(customer, number) for number, customer in enumerate(customers)]
    async with sessions.begin() as session:
        await session.execute(sa.insert(Message), rows)
    begun = datetime.now(UTC)
    await until_delivered(sessions)
    ours = sa.and_(Message.customer_id.in_(customers), Message.state == MessageState.ACCEPTED)
    async with sessions() as session:
        taken = list(await session.scalars(sa.select(Message.accepted_at).where(ours)))
    if len(taken) != count:
        raise RuntimeError(f"{count - len(taken)} messages were not accepted")
    return count / (max(at for at in taken if at) - begun).total_seconds()


def _row(customer: Any, number: int) -> dict[str, Any]:
    template = _MIX[number % len(_MIX)]
    kind = MESSAGES[template]
    process = f"delivery/{customer}"
    samples = sample_context(template)
    return {
        "key": message_key(process, template, "1"),
        "customer_id": customer,
        "workflow_id": process,
        "step": "bench",
        "template": template,
        "message_class": kind.message_class,
        "purpose": kind.purpose,
        "channel": Channel.EMAIL,
        "context": {name: samples[name] for name in kind.variables},
        "asked_at": datetime.now(UTC),
    }


def newest_mails(inbox: Path, count: int) -> Sequence[SentMail]:
    """The newest so many that the inbox was given."""
    query = "SELECT mail_from, rcpt_to, raw FROM mails ORDER BY id DESC LIMIT ?"
    with closing(sqlite3.connect(inbox)) as kept:
        return [SentMail(*row) for row in kept.execute(query, (count,))]


async def hand_over_bare(port: int, mails: Sequence[SentMail]) -> float:
    waiting = deque(mails)

    async def send() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as smtp:
            while waiting:
                mail = waiting.popleft()
                await smtp.sendmail(mail.sender, [mail.to], mail.raw)

    begun = time.perf_counter()
    connections = SmtpAccount("127.0.0.1", port, _SENDER).connections
    await asyncio.gather(*(send() for _ in range(connections)))
    return len(mails) / (time.perf_counter() - begun)
