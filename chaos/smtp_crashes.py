"""F7: dispatchers killed at five points of handing a mail over; what became of the mails?

A victim is a real dispatcher in a process of its own. It claims as many messages as it hands over
at once; when all of them are at the point it gets SIGKILL, and the next victim claims the next
messages. Where a point is not on the wire, what holds the victim there is the world around it, not
code in it: a server that doesn't take the connection, a commit that isn't answered, a locked row.
At the end one dispatcher that nobody kills goes on with what all of them left behind.
"""

import asyncio
import contextlib
import itertools
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from multiprocessing.context import ForkServerProcess
from uuid import UUID

import psycopg
import sqlalchemy as sa

from activities.message_claims import DispatchRules
from chaos.ground import Ground, Table
from chaos.victims import PATIENCE, SURVIVOR, dispatching, kill
from database.messages import Message
from domain.contacts import ConsentState
from domain.messages import MessageClass, MessageState, Template
from tests.activities.dispatching import RULES, messages, queue, until_settled
from tests.messaging.post_office import PostOffice, Stage, free_port, go_on

_AT_ONCE = 7  # messages that one kill hits: of a victim's 8 connections all that selling gets
# A victim leaves alone what the one before it has left behind, and claims no more than it can send.
_VICTIM = replace(RULES, batch=_AT_ONCE, lease=timedelta(days=1))


class Point(StrEnum):
    BEFORE_CONNECT = "before connect"
    AFTER_CLAIM = "after the claim"  # it is on disk, and the dispatcher hasn't heard
    BEFORE_DOT = "before the dot"
    BEFORE_ANSWER = "dot, before 250"
    BEFORE_RECORD = "250, before record"

    @property
    def taken(self) -> bool:
        """Whether the server has the mail then."""
        return self in (Point.BEFORE_ANSWER, Point.BEFORE_RECORD)


_COLUMNS = (
    *("killed", "messages", "kills", "taken", "accepted", "unknown", "possible twice"),
    *("arrived", "twice", "lost", "twice uncounted"),
)


async def crash_dispatchers(ground: Ground, size: int, *, evidence: bool) -> Table:
    """`size` messages at each point, half of them marketing.

    With evidence (the inbox can be asked) each must have arrived once. Without it, what each victim
    held must be counted: marketing as unknown, all else as a possible duplicate.
    """
    known = "with the inbox to ask" if evidence else "without evidence"
    table = Table(f"F7 SMTP crash points, {known}", _COLUMNS)
    office = PostOffice(ground.directory / f"crashes-{evidence}.sqlite", free_port())
    await office.open()
    try:
        execution = _Execution(ground, office, evidence)
        for point in Point:
            ground.say(f"{table.title}: {size} messages, {point}")
            await execution.kill_at(point, size)
        await execution.let_one_survive()
        await _judge(table, execution)
    finally:
        await office.close()
    return table


@dataclass
class _Execution:
    ground: Ground
    office: PostOffice
    evidence: bool
    hit: dict[Point, set[UUID]] = field(default_factory=lambda: {point: set() for point in Point})
    kills: Counter[Point] = field(default_factory=Counter)
    taken: Counter[Point] = field(default_factory=Counter)

    async def kill_at(self, point: Point, size: int) -> None:
        """Queue the messages, and kill victims until each was in the hands of one."""
        for template, count in (
            (Template.ORDER_CONFIRMED, size - size // 2),
            (Template.WIN_BACK, size // 2),
        ):
            await queue(
                self.ground.sessions, template, customers=count, consent=ConsentState.GRANTED
            )
        kill = {
            Point.BEFORE_CONNECT: self._before_connect,
            Point.AFTER_CLAIM: self._after_claim,
            Point.BEFORE_DOT: self._before_dot,
            Point.BEFORE_ANSWER: self._before_answer,
            Point.BEFORE_RECORD: self._before_record,
        }[point]
        while len(self.hit[point]) < size:
            here = min(_AT_ONCE, size - len(self.hit[point]))
            before = await self.office.inbox.count()
            await kill(here)
            self.kills[point] += 1
            self.hit[point] |= await self._newly_held()
            self.taken[point] += await self.office.inbox.count() - before

    async def let_one_survive(self) -> None:
        async with self._process(self.office.port, SURVIVOR):
            await until_settled(self.ground.sessions, within=4 * PATIENCE)

    async def _before_connect(self, here: int) -> None:
        with _deaf_port() as port:
            async with self._process(port, _VICTIM) as victim:
                await _until(lambda: self._holds(here))
                await kill(victim)

    async def _after_claim(self, here: int) -> None:
        async with (
            _unanswered_commits(self.ground.admin_url) as waiting,
            self._process(self.office.port, _VICTIM) as victim,
        ):
            await _until(waiting)
            await kill(victim)
        await _until(lambda: self._holds(here))  # it was on disk, though nobody could see it yet

    async def _before_dot(self, here: int) -> None:
        await self._held_at(Stage.TEXT_BEGUN, here)

    async def _before_answer(self, here: int) -> None:
        await self._held_at(Stage.KEPT, here)

    async def _before_record(self, here: int) -> None:
        async def answered(trap: _Trap, victim: ForkServerProcess) -> None:
            async with self.ground.sessions.begin() as session:
                rows = sa.select(Message.id).where(_IS_HELD).with_for_update()
                await session.execute(rows)
                trap.let_go.set()
                await _until(self._is_kept_from_recording)
                await kill(victim)

        await self._held_at(Stage.KEPT, here, answered)

    async def _held_at(
        self,
        stage: Stage,
        here: int,
        then: "Callable[[_Trap, ForkServerProcess], Awaitable[None]] | None" = None,
    ) -> None:
        trap = _Trap(stage, here)
        self.office.hold = trap.hold
        try:
            async with self._process(self.office.port, _VICTIM) as victim:
                async with asyncio.timeout(PATIENCE):
                    await trap.full.wait()
                if then:
                    await then(trap, victim)
                else:
                    await kill(victim)
        finally:
            self.office.hold = go_on

    def _process(
        self, port: int, rules: DispatchRules
    ) -> AbstractAsyncContextManager[ForkServerProcess]:
        return dispatching(self.ground, port, self.office.path, rules, evidence=self.evidence)

    async def _newly_held(self) -> set[UUID]:
        known = set().union(*self.hit.values())
        async with self.ground.sessions() as session:
            held = set(await session.scalars(sa.select(Message.id).where(_IS_HELD)))
        return held - known

    async def _holds(self, count: int) -> bool:
        return len(await self._newly_held()) == count

    async def _is_kept_from_recording(self) -> bool:
        async with self.ground.sessions() as session:
            return bool(await session.scalar(_WAITS_TO_RECORD))


_IS_HELD = sa.and_(Message.state == MessageState.SENDING, Message.claimed_by.is_not(None))
# Of the statements that write to a message only the one of a settlement names this column.
_WAITS_TO_RECORD = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock' AND query LIKE 'UPDATE messages SET%accepted_at=%'"
)


class _Trap:
    """Holds mails at a stage until `size` of them are there, and then until it is let go."""

    def __init__(self, stage: Stage, size: int) -> None:
        self._stage = stage
        self._size = size
        self._there = 0
        self.full = asyncio.Event()
        self.let_go = asyncio.Event()

    async def hold(self, stage: Stage, address: str) -> None:
        if stage is not self._stage:
            return
        self._there += 1
        if self._there == self._size:
            self.full.set()
        await self.let_go.wait()


@contextmanager
def _deaf_port() -> Iterator[int]:
    """A port where no connection is ever established: the queue of those that wait is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(2):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        yield port


@asynccontextmanager
async def _unanswered_commits(
    admin_url: str,
) -> AsyncGenerator[Callable[[], Awaitable[bool]]]:
    """PostgreSQL writes commits to disk and answers none, as for a standby that doesn't come.

    Yields whether somebody waits for such an answer.
    """
    address = admin_url.replace("postgresql+psycopg://", "postgresql://")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid <> {}"
    async with (
        await psycopg.AsyncConnection.connect(address, autocommit=True) as admin,
        await psycopg.AsyncConnection.connect(address, autocommit=True) as probe,
    ):

        async def waiting(but: int = 0) -> bool:
            found = await (await admin.execute(waits.format(but))).fetchone()
            return found is not None and found[0] > 0

        async def stand_by(names: str) -> None:
            await admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            await admin.execute("SELECT pg_reload_conf()")

        await stand_by("nobody")
        try:
            # In force only once a commit of our own gets no answer.
            held = asyncio.create_task(_commit_until_held(probe))
            await _until(waiting)
            yield lambda: waiting(but=probe.info.backend_pid)
        finally:
            await stand_by("")
            held.cancel()
            await asyncio.wait([held])


async def _commit_until_held(probe: "psycopg.AsyncConnection[tuple[object, ...]]") -> None:
    for number in itertools.count():
        await probe.execute(f"CREATE TEMP TABLE probe_{number} ()")


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)


async def _judge(table: Table, execution: _Execution) -> None:
    rows = await messages(execution.ground.sessions)
    mails = await execution.office.inbox.mails(limit=100 * len(rows))
    copies = Counter(mail.effect for mail in mails)
    for point in Point:
        ours = [row for row in rows if row.id in execution.hit[point]]
        table.rows.append(_figures(table, execution, point, ours, copies))
        if execution.evidence:
            continue
        for row in ours:
            marketing = row.message_class is MessageClass.MARKETING
            counted = row.state is MessageState.UNKNOWN if marketing else row.possible_duplicate
            table.expect(f"{point}: {row.template} is counted", counted, True)
            sent = int(point.taken) + int(not marketing)
            table.expect(f"{point}: copies of {row.template}", copies[str(row.id)], sent)


def _figures(
    table: Table,
    execution: _Execution,
    point: Point,
    ours: Collection[Message],
    copies: Counter[str],
) -> list[str | int]:
    accepted = [row for row in ours if row.state is MessageState.ACCEPTED]
    unknown = [row for row in ours if row.state is MessageState.UNKNOWN]
    marked = [row for row in ours if row.possible_duplicate]
    arrived = [row for row in ours if copies[str(row.id)]]
    twice = [row for row in ours if copies[str(row.id)] > 1]
    lost = [row for row in accepted if not copies[str(row.id)]]
    uncounted = [row for row in twice if not row.possible_duplicate]
    size = len(ours)
    table.expect(f"{point}: settled", len(accepted) + len(unknown), size)
    table.expect(f"{point}: lost", len(lost), 0)
    table.expect(f"{point}: twice and not counted", len(uncounted), 0)
    table.expect(f"{point}: taken when killed", execution.taken[point], size * point.taken)
    counted = 0 if execution.evidence else size
    table.expect(f"{point}: counted", len(unknown) + len(marked), counted)
    if execution.evidence:
        table.expect(f"{point}: arrived", len(arrived), size)
    return [
        *(point, size, execution.kills[point], execution.taken[point]),
        *(len(accepted), len(unknown), len(marked)),
        *(len(arrived), len(twice), len(lost), len(uncounted)),
    ]
