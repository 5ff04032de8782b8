"""Dispatchers killed at random moments of thousands of sendings: is each effect there once?

The moments are whatever they are: while it starts, claims, talks, writes down, or finds out what
the one before it has left behind. Beside the five that `smtp_crashes` aims at.
"""

import asyncio
import random
from collections import Counter

import sqlalchemy as sa

from chaos.ground import Ground, Table
from chaos.victims import PATIENCE, SURVIVOR, dispatching
from database.messages import Message
from domain.contacts import ConsentState
from domain.messages import MessageState, Template
from tests.activities.dispatching import queue
from tests.messaging.post_office import PostOffice, free_port

_SHORTEST, _LONGEST = 0.05, 0.5  # seconds that one lives
_COLUMNS = (
    *("killed", "messages", "kills", "found at the server", "tried again"),
    *("accepted", "arrived", "twice", "lost"),
)
_FOUND = "its answer was lost; found at the provider"
_LEFT = sa.select(sa.func.count()).where(
    Message.state.not_in([state for state in MessageState if state.settled])
)


async def kill_at_random(ground: Ground, size: int) -> Table:
    """`size` messages, half of them marketing, and an inbox that can be asked."""
    table = Table("G1 kills at random moments", _COLUMNS)
    ground.say(f"{table.title}: {size} messages")
    office = PostOffice(ground.directory / "random-kills.sqlite", free_port())
    await office.open()
    try:
        orders = size - size // 2
        await queue(ground.sessions, customers=orders)
        await queue(
            ground.sessions, Template.WIN_BACK, customers=size // 2, consent=ConsentState.GRANTED
        )
        kills = await _kill_until_settled(ground, office)
        await _judge(table, ground, office, size, kills)
    finally:
        await office.close()
    return table


async def _kill_until_settled(ground: Ground, office: PostOffice) -> int:
    """How many it took. Where a machine is slow to start one, they live longer."""
    kills, longest, taken = 0, _LONGEST, 0
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while await _left(ground):
        async with dispatching(ground, office.port, office.path, SURVIVOR, evidence=True):
            await asyncio.sleep(random.uniform(_SHORTEST, longest))
        kills += 1
        before, taken = taken, await office.inbox.count()
        now = asyncio.get_running_loop().time()
        if taken > before:
            deadline, longest = now + PATIENCE, max(longest / 1.2, _LONGEST)
        elif now > deadline:
            raise TimeoutError(f"nothing arrives any more; {await _left(ground)} are left")
        else:
            longest *= 1.2
    return kills


async def _left(ground: Ground) -> int:
    async with ground.sessions() as session:
        return await session.scalar(_LEFT) or 0


async def _judge(table: Table, ground: Ground, office: PostOffice, size: int, kills: int) -> None:
    async with ground.sessions() as session:
        columns = (Message.id, Message.state, Message.attempts, Message.provider_answer)
        rows = (await session.execute(sa.select(*columns, Message.possible_duplicate))).all()
    mails = await office.inbox.mails(limit=100 * size)
    copies = Counter(mail.effect for mail in mails)
    accepted = [row for row in rows if row.state is MessageState.ACCEPTED]
    lost = [row for row in accepted if not copies[str(row.id)]]
    arrived = [row for row in rows if copies[str(row.id)]]
    twice = [row for row in rows if copies[str(row.id)] > 1]
    found = [row for row in rows if (row.provider_answer or "").startswith(_FOUND)]
    again = [row for row in rows if row.attempts > 1]
    table.rows.append(
        [
            *("at random", len(rows), kills, len(found), len(again)),
            *(len(accepted), len(arrived), len(twice), len(lost)),
        ]
    )
    table.expect("accepted", len(accepted), size)
    table.expect("arrived", len(arrived), size)
    table.expect("twice", len(twice), 0)
    table.expect("marked as possible duplicates", sum(row.possible_duplicate for row in rows), 0)
    table.expect("mails", len(mails), size)
