"""Delivers what the processes queued: claims, sends, settles, and finds out what became unknown."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.faults import is_away
from activities.lines import Line
from activities.message_claims import Claim, ClaimWriter, Decided, DispatchRules
from activities.message_fates import Fates
from activities.message_queue import (
    Lane,
    Settlement,
    disown_expired,
    end_with_us,
    find_waiting,
    lock_disowned,
    lock_due,
    note_told,
    postpone_disowned,
    read_doubted,
    read_facts,
    read_untold,
    release_claims,
    renew_claims,
    settle,
    write_decisions,
)
from activities.message_routes import Routes
from activities.message_wordings import Wordings
from activities.steps import current_policy
from database.base import Sessions
from domain.errors import where
from domain.fairness import Room, Turns, Way, share_out
from domain.messages import Channel, DispatchCounts, DispatchRound, MessageClass, MessageState
from domain.policies import PolicyKind, SendingPolicy
from domain.processes import MessageSettled
from messaging.links import Links
from messaging.provider import Answer, Evidence, Outcome, Provider
from messaging.render import Renderer
from messaging.render_process import RenderProcess

# InternalError: what PostgreSQL says after it has ended a transaction that rested for too long.
_DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
_AWAY_LIMIT = 30.0  # seconds without PostgreSQL after which Temporal shows the failure
_BEAT = 1.0
_SLOW = 1.0  # seconds for an answer
_LONGEST_OVERTIME = 300.0  # seconds; the activity's own limit is in workflows/options.py
_LAST_ANSWERS = 5.0  # seconds that a cancelled round waits for answers under way
_TELL_EVERY = 5.0
_TELL_LIMIT = timedelta(seconds=3)
_BATCH_OF_UNKNOWN = 200
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MessageActivities:
    """Providers by their name; `evidence` for those that can be asked what they have really taken.

    `lines` outlast a round: rates and troubles are those of the accounts. So does `unwritten`: the
    answers of providers that could not be written down yet.
    """

    sessions: Sessions
    client: Client
    providers: Mapping[str, Provider]
    renderer: Renderer
    links: Links
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    rules: DispatchRules = field(default_factory=DispatchRules)
    staff: RenderProcess = field(default_factory=RenderProcess)  # renders what staff wrote
    lines: dict[str, Line] = field(default_factory=dict)
    unwritten: list[Settlement] = field(default_factory=list)

    @activity.defn
    async def deliver_queued(self, request: DispatchRound) -> DispatchCounts:
        """Run the queue for as long as the request says, and answer with what became of it.

        May be killed at any moment, and repeated: what it had claimed and not settled is found
        out by the next one. One runs at a time; a second would harm nothing.
        """
        return await _Round(self).run(request.lasts)


class _Round:
    """The state of one run of the activity."""

    def __init__(self, parts: MessageActivities) -> None:
        self._parts = parts
        self._rules = parts.rules
        self._beat_every = min(_BEAT, parts.rules.lease.total_seconds() / 4)
        self._token = uuid4().hex
        self._claims = 0
        self._unsure: list[str] = []  # tokens of claims whose commit we did not see
        self._under_way: dict[asyncio.Task[Answer], Claim] = {}
        self._answered = parts.unwritten
        self._lines = {name: parts.lines.setdefault(name, Line()) for name in parts.providers}
        self._routes = Routes(parts.providers)
        self._turns = Turns()
        self._fates = Fates(parts.rules)
        self._counts = DispatchCounts()
        self._wordings = Wordings()
        self._writer = ClaimWriter(
            *(parts.renderer, parts.links, self._rules, self._still_ours),
            *(self._wordings, parts.staff),
        )
        self._held_since: dict[UUID, float] = {}  # claimed or renewed; monotonic
        self._recover_at = 0.0
        self._tell_at = 0.0

    async def run(self, lasts: timedelta) -> DispatchCounts:
        over = time.monotonic() + lasts.total_seconds()
        beating = asyncio.create_task(self._beat())
        poll = self._rules.fastest_poll
        away_since: float | None = None
        try:
            while not await self._is_over(over) and not activity.is_worker_shutdown():
                if beating.done():
                    beating.result()  # raises what ended it
                try:
                    busy = await self._turn()
                except _DATABASE_AWAY:
                    away_since = away_since or time.monotonic()
                    if time.monotonic() - away_since > _AWAY_LIMIT:
                        raise
                    await asyncio.sleep(0.5)
                    continue
                away_since = None
                if busy:
                    poll = self._rules.fastest_poll
                else:
                    await asyncio.sleep(poll)
                    poll = min(poll * 1.5, self._rules.slowest_poll)
            await self._finish(limit=None)
        except asyncio.CancelledError:
            await self._finish(limit=_LAST_ANSWERS)
            raise
        except Exception:
            await self._collect(limit=_LAST_ANSWERS)  # the next round writes them down
            raise
        finally:
            beating.cancel()
        return self._counts

    async def _is_over(self, over: float) -> bool:
        """Not while an answer is slow to come: others would wait for it before the next round."""
        if time.monotonic() < over:
            return False
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_SLOW)
        answered = all(task.done() for task in self._under_way)
        return answered or time.monotonic() > over + _LONGEST_OVERTIME

    async def _turn(self) -> bool:
        """Once around; whether there was something to do."""
        now = time.monotonic()
        if now >= self._recover_at:
            await self._recover()
            self._recover_at = now + self._beat_every
        claimed = await self._claim_due()
        if self._under_way:
            # Long enough to settle many in one transaction, short enough for a slow one not to
            # hold up the others.
            await asyncio.wait(self._under_way, timeout=0.1)
        await self._settle_answered()
        if now >= self._tell_at:
            self._tell_at = now + _TELL_EVERY
            await self._tell_processes()
        return bool(claimed or self._under_way)

    async def _claim_due(self) -> int:
        """Decide about the next messages of all lanes whose providers have room; how many."""
        now = time.monotonic()
        rooms = {name: self._room(name, now) for name in self._lines}
        ways = self._routes.ways(self._lines, now)
        lanes = []
        for (message_class, channel), way in ways.items():
            selling = message_class is MessageClass.MARKETING
            open_to = [rooms[name] for name in way.providers()]
            most = sum(room.selling if selling else room.all for room in open_to)
            if most:
                lanes.append(Lane(message_class, channel, most))
        return await self._claim(lanes, ways, rooms) if lanes else 0

    def _room(self, name: str, now: float) -> Room:
        """How many more messages the provider may be handed."""
        account = self._routes.policy.account(name)
        today = datetime.now(UTC).date()
        line = self._lines[name]
        line.set_rates(now, account.per_second, account.selling_per_second(today))
        ours = [claim.selling for claim in self._under_way.values() if claim.provider == name]
        selling = sum(ours)
        return line.room(now, len(ours) - selling, selling, self._rules.batch)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncSession]:
        async with self._parts.sessions.begin() as session:
            await end_with_us(session, self._rules.lease)
            yield session

    @contextlib.asynccontextmanager
    async def _claiming(self) -> AsyncGenerator[tuple[AsyncSession, str]]:
        """A transaction whose claims carry the token; they are released should it end in doubt."""
        self._claims += 1
        token = f"{self._token}/{self._claims}"
        self._unsure.append(token)
        async with self._transaction() as session:
            yield session, token
        self._unsure.remove(token)

    async def _claim(
        self,
        lanes: Collection[Lane],
        ways: Mapping[tuple[MessageClass, Channel], Way],
        rooms: Mapping[str, Room],
    ) -> int:
        """Decide about the next messages and send those that may go; how many were due.

        The claims are committed before the first socket opens.
        """
        decided = []
        async with self._claiming() as (session, token):
            going = share_out(await find_waiting(session, lanes), ways, rooms, self._turns)
            due = await lock_due(session, [one.id for one, _ in going]) if going else {}
            if due:
                facts = await read_facts(session, list(due.values()))
                await self._wordings.refresh(session, due.values())
                for one, provider in going:
                    if one.id not in due:
                        continue  # another dispatcher was faster
                    via = self._routes.via(one.message_class, one.channel, provider)
                    decided.append(await self._writer.decide(due[one.id], facts, token, via))
                    await asyncio.sleep(0)  # the worker's other tasks go on meanwhile
                rows = [each.row for each in decided]
                refused = await write_decisions(session, rows, MessageState.FAILED)
                decided = [each.unstored() if each.id in refused else each for each in decided]
        for each in decided:
            if each.state is not None:
                self._count(each.state)
            if each.claim is not None:
                self._send(each.claim)
        return len(due)

    def _send(self, claim: Claim) -> None:
        self._held_since[claim.id] = claim.claimed_at
        self._lines[claim.provider].take()
        provider = self._parts.providers[claim.provider]
        self._under_way[asyncio.create_task(_hand_over(claim, provider))] = claim

    def _still_ours(self, message: UUID) -> bool:
        """Whether the lease can't have run out; asked last before the text leaves us."""
        since = self._held_since.get(message, 0.0)
        return time.monotonic() - since < 0.8 * self._rules.lease.total_seconds()

    def _take_answers(self) -> None:
        for task in [task for task in self._under_way if task.done()]:
            claim = self._under_way.pop(task)
            self._held_since.pop(claim.id, None)
            self._answered.append(self._settlement(claim, task.result()))

    async def _settle_answered(self) -> None:
        self._take_answers()
        if not self._answered:
            return
        # Kept until written: while PostgreSQL is away an answer must not be forgotten.
        async with self._transaction() as session:
            states = await settle(session, self._answered)
        self._answered.clear()
        for state in states:
            self._count(state)

    def _settlement(self, claim: Claim, answer: Answer) -> Settlement:
        line = self._lines[claim.provider]
        if answer.nobody:
            pause = self._rules.longest_pause
            line.nobody_gets_through(time.monotonic(), pause, answer.retry_after)
        else:
            line.somebody_gets_through()
        return self._fates.after_answer(claim, answer, line)

    async def _beat(self) -> None:
        """Tell Temporal and PostgreSQL that we live."""
        while True:
            activity.heartbeat(self._counts)
            if self._under_way:
                started = time.monotonic()
                claims = {claim.id: claim.token for claim in self._under_way.values()}
                with contextlib.suppress(*_DATABASE_AWAY):
                    async with self._transaction() as session:
                        ours = await renew_claims(session, claims)
                    # What is not among them another dispatcher has taken over: its lease is left
                    # to run out, so that we who were away for long don't send it.
                    self._held_since.update(dict.fromkeys(ours & self._held_since.keys(), started))
            await asyncio.sleep(self._beat_every)

    async def _recover(self) -> None:
        """Messages that a dispatcher left behind, or whose answer got lost: what became of them?"""
        ours = [claim.id for claim in self._under_way.values()]
        ours += [settlement.id for settlement in self._answered]
        async with self._transaction() as session:
            if self._unsure:
                await release_claims(session, self._unsure)
            await disown_expired(session, self._rules.lease, self._rules.grace, ours)
            doubted = await read_doubted(session)
            await self._read_policy(session)
        self._unsure = []
        for name in doubted:
            if name is not None and name in self._parts.evidence and name in self._parts.providers:
                await self._settle_by_evidence(name, self._parts.evidence[name])
            else:
                await self._ask_again(name)

    async def _read_policy(self, session: AsyncSession) -> None:
        try:
            policy = await current_policy(session, PolicyKind.SENDING)
        except ValidationError:  # of a later version of the product: what was in force goes on
            log.exception("the policy of kind sending can't be read")
        else:
            self._routes.policy = cast(SendingPolicy, policy)

    async def _settle_by_evidence(self, name: str, evidence: Evidence) -> None:
        """Only a provider that answers now can have no mail of ours still under way."""
        async with self._transaction() as session:
            rows = await lock_disowned(session, name, _BATCH_OF_UNKNOWN)
        if not rows:
            return
        try:
            if not await self._parts.providers[name].reachable():
                raise ConnectionError("the provider does not answer")
            found = await evidence.by_message_id([row.message_id for row in rows])
        except OSError:
            async with self._transaction() as session:
                await postpone_disowned(session, name, self._rules.grace)
            return
        asked = {row.id for row in rows}
        async with self._transaction() as session:
            rows = await lock_disowned(session, name, _BATCH_OF_UNKNOWN)
            fates = [self._fates.by_evidence(row, found) for row in rows if row.id in asked]
            states = await settle(session, fates) if fates else []
        self._count_recovered(states)

    async def _ask_again(self, name: str | None) -> None:
        """Repeat a request under its key where the provider knows keys; else the class decides."""
        provider = self._parts.providers.get(name or "")
        repeat_within = provider.repeat_within if provider is not None else None
        room = self._room(provider.name, time.monotonic()).all if provider is not None else 0
        decided: list[Decided] = []
        fates: list[Settlement] = []
        async with self._claiming() as (session, token):
            rows = await lock_disowned(session, name, _BATCH_OF_UNKNOWN)
            facts = await read_facts(session, rows)
            for row in rows:
                if provider is None or self._fates.is_for_class(row, repeat_within):
                    fates.append(self._fates.by_class(row))
                elif len(decided) < room:
                    via = self._routes.again(row.message_class, provider.name)
                    decision, again = self._writer.decide_again(row, facts, token, via)
                    if again is None:
                        fates.append(self._fates.not_asked_again(row, decision))
                    else:
                        decided.append(again)
            if decided:
                rows_again = [one.row for one in decided]
                refused = await write_decisions(session, rows_again, MessageState.UNKNOWN)
                decided = [one for one in decided if one.id not in refused]
            states = await settle(session, fates) if fates else []
        self._count_recovered(states)
        for one in decided:
            if one.claim is not None:
                self._send(one.claim)

    def _count_recovered(self, states: Sequence[MessageState]) -> None:
        for state in states:
            self._count(state, recovered=state is not MessageState.SENDING)

    async def _tell_processes(self) -> None:
        """Processes learn that a message won't arrive; one that has ended needn't."""
        async with self._parts.sessions.begin() as session:
            untold = await read_untold(session, self._rules.batch)
        told = await asyncio.gather(*(self._tell(row) for row in untold))
        ids = [row.id for row, heard in zip(untold, told, strict=True) if heard]
        if ids:
            async with self._transaction() as session:
                await note_told(session, ids)
        if len(ids) == self._rules.batch:
            self._tell_at = 0.0  # there may be more

    async def _tell(self, row: Any) -> bool:
        process = self._parts.client.get_workflow_handle(row.workflow_id)
        settled = MessageSettled(message_key=row.key, state=row.state)
        try:
            await process.signal("message_settled", settled, rpc_timeout=_TELL_LIMIT)
        except RPCError as problem:
            if is_away(problem):
                return False
            if problem.status is not RPCStatusCode.NOT_FOUND:  # it takes no more, and never will
                log.error("the process of message %s was not told: %s", row.id, where(problem))
        return True

    async def _collect(self, limit: float | None) -> None:
        """Wait for answers under way, at most `limit` seconds."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=limit)
        for task in [task for task in self._under_way if not task.done()]:
            task.cancel()  # its outcome is unknown: the claim runs out and evidence decides
            del self._under_way[task]
        self._take_answers()

    async def _finish(self, limit: float | None) -> None:
        """Wait for answers under way, at most `limit` seconds, and write down what is known."""
        await self._collect(limit)
        deadline = time.monotonic() + (limit or _AWAY_LIMIT)
        while self._answered:
            try:
                await self._settle_answered()
            except _DATABASE_AWAY:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)

    def _count(self, state: MessageState, recovered: bool = False) -> None:
        name = {MessageState.QUEUED: "retried"}.get(state, state.value)
        gained = {name: 1} if name in DispatchCounts.model_fields else {}
        self._counts = self._counts.plus(DispatchCounts(**gained, recovered=int(recovered)))
        if state in (MessageState.FAILED, MessageState.SUPPRESSED):
            self._tell_at = 0.0


async def _hand_over(claim: Claim, provider: Provider) -> Answer:
    """What a provider raises is a fault of ours, and ends nobody else's sending.

    It may have come after the text had left: unknown. It may hold for every message: they wait.
    """
    try:
        return await provider.send(claim.outgoing)
    except Exception as problem:
        log.error("message %s: %s raised %s", claim.id, claim.provider, where(problem))
        said = f"a fault of ours: {type(problem).__name__}"
        return Answer(Outcome.UNKNOWN, said, nobody=True)
