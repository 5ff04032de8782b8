"""Delivers what the processes queued: claims, sends, settles, and finds out what became unknown."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.message_claims import Claim, ClaimWriter, DispatchRules
from activities.message_queue import (
    Settlement,
    disown_expired,
    end_with_us,
    lock_disowned,
    lock_due,
    note_told,
    postpone_disowned,
    read_facts,
    read_untold,
    release_claims,
    renew_claims,
    settle,
    write_decisions,
)
from activities.message_wordings import Wordings
from database.base import Sessions
from database.customers import clock_in
from domain.messages import Channel, DispatchCounts, DispatchRound, MessageClass, MessageState
from domain.processes import MessageSettled
from messaging.links import Links
from messaging.provider import Answer, Evidence, Outcome, Provider
from messaging.render import Renderer
from messaging.render_process import RenderProcess

# InternalError: what PostgreSQL says after it has ended a transaction that rested for too long.
_DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
_AWAY_LIMIT = 30.0  # seconds without PostgreSQL after which Temporal shows the failure
_BEAT = 1.0
_LAST_ANSWERS = 5.0  # seconds that a cancelled round waits for answers under way
_TELL_EVERY = 5.0
_TELL_LIMIT = timedelta(seconds=3)
_BATCH_OF_UNKNOWN = 200


@dataclass(frozen=True)
class MessageActivities:
    """`evidence` is given for a channel whose provider can be asked what it has really taken."""

    sessions: Sessions
    client: Client
    providers: Mapping[Channel, Provider]
    renderer: Renderer
    links: Links
    evidence: Mapping[Channel, Evidence] = field(default_factory=dict)
    rules: DispatchRules = field(default_factory=DispatchRules)
    staff: RenderProcess = field(default_factory=RenderProcess)  # renders what staff wrote

    @activity.defn
    async def deliver_queued(self, request: DispatchRound) -> DispatchCounts:
        """Run the queue for as long as the request says, and answer with what became of it.

        May be killed at any moment, and repeated: what it had claimed and not settled is found
        out by the next one. One runs at a time; a second would harm nothing.
        """
        return await _Round(self).run(request.lasts)


@dataclass
class _Line:
    """The way to one provider, and since when nobody gets through."""

    paused_until: float = 0.0
    pause: float = 0.0
    doubtful: bool = False  # one message goes ahead before the others

    def nobody_gets_through(self, longest: timedelta) -> None:
        if time.monotonic() < self.paused_until:
            return  # another message has said so already
        self.doubtful = True
        self.pause = min(self.pause * 2 or 0.5, longest.total_seconds())
        self.paused_until = time.monotonic() + self.pause

    def somebody_gets_through(self) -> None:
        self.doubtful, self.pause, self.paused_until = False, 0.0, 0.0


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
        self._answered: list[Settlement] = []
        self._lines = {channel: _Line() for channel in parts.providers}
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
            while time.monotonic() < over and not activity.is_worker_shutdown():
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
        finally:
            beating.cancel()
        return self._counts

    async def _turn(self) -> bool:
        """Once around; whether there was something to do."""
        now = time.monotonic()
        if now >= self._recover_at:
            await self._recover()
            self._recover_at = now + self._beat_every
        claimed = 0
        if len(self._under_way) < self._rules.batch:
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
        now = time.monotonic()
        open_lines = [channel for channel, line in self._lines.items() if now >= line.paused_until]
        sure = [channel for channel in open_lines if not self._lines[channel].doubtful]
        claimed = await self._claim(sure, self._rules.batch) if sure else 0
        for channel in open_lines:
            if channel not in sure and not self._is_probing(channel):
                claimed += await self._claim([channel], 1)
        return claimed

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncSession]:
        async with self._parts.sessions.begin() as session:
            await end_with_us(session, self._rules.lease)
            yield session

    def _is_probing(self, channel: Channel) -> bool:
        return any(claim.channel is channel for claim in self._under_way.values())

    async def _claim(self, channels: Collection[Channel], most: int) -> int:
        """Decide about the next messages and send those that may go; how many were due.

        The claims are committed before the first socket opens.
        """
        self._claims += 1
        token = f"{self._token}/{self._claims}"
        decided = []
        self._unsure.append(token)
        async with self._transaction() as session:
            due = await lock_due(session, channels, most)
            if due:
                facts = await read_facts(session, due)
                await self._wordings.refresh(session, due)
                for row in due:
                    decided.append(await self._writer.decide(row, facts, token))
                    await asyncio.sleep(0)  # the worker's other tasks go on meanwhile
                await write_decisions(session, [one.row for one in decided])
        self._unsure.remove(token)
        for one in decided:
            self._count(one.state)
            if one.claim is not None:
                self._send(one.claim)
        return len(due)

    def _send(self, claim: Claim) -> None:
        self._held_since[claim.id] = claim.claimed_at
        provider = self._parts.providers[claim.channel]
        self._under_way[asyncio.create_task(provider.send(claim.outgoing))] = claim

    def _still_ours(self, message: UUID) -> bool:
        """Whether the lease can't have run out; asked last before the text leaves us."""
        since = self._held_since.get(message, 0.0)
        return time.monotonic() - since < 0.8 * self._rules.lease.total_seconds()

    async def _settle_answered(self) -> None:
        for task in [task for task in self._under_way if task.done()]:
            claim = self._under_way.pop(task)
            self._held_since.pop(claim.id, None)
            self._answered.append(self._settlement(claim, task.result()))
        if not self._answered:
            return
        # Kept until written: while PostgreSQL is away an answer must not be forgotten.
        async with self._transaction() as session:
            states = await settle(session, self._answered)
        self._answered = []
        for state in states:
            self._count(state)

    def _settlement(self, claim: Claim, answer: Answer) -> Settlement:
        line = self._lines[claim.channel]
        if answer.nobody:
            line.nobody_gets_through(self._rules.longest_pause)
        else:
            line.somebody_gets_through()
        written = _Written(claim, self._parts.providers[claim.channel].name, answer.said)
        match answer.outcome:
            case Outcome.ACCEPTED:
                return written.accepted(datetime.now(UTC))
            case Outcome.PERMANENT:
                return written.failed(answer.bad_address)
            case Outcome.UNKNOWN:
                return written.unknown(self._rules.grace)
            case Outcome.TRANSIENT:
                if self._rules.gives_up(claim.due_since):
                    return written.failed(bad_address=False)
                if answer.nobody:
                    return written.again(line.pause, uncounted=1)
                delay = self._rules.retry_delay(claim.attempts)
                if answer.retry_after is not None:
                    delay = answer.retry_after.total_seconds()
                return written.again(delay)

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
            waiting = await lock_disowned(session, list(self._parts.providers), 1)
        self._unsure = []
        for channel in self._parts.providers if waiting else ():
            evidence = self._parts.evidence.get(channel)
            if evidence is None:
                await self._settle_unknown(channel, {}, complete=False)
            else:
                await self._settle_by_evidence(channel, evidence)

    async def _settle_by_evidence(self, channel: Channel, evidence: Evidence) -> None:
        """Only a provider that answers now can have no mail of ours still under way."""
        async with self._transaction() as session:
            rows = await lock_disowned(session, [channel], _BATCH_OF_UNKNOWN)
        if not rows:
            return
        try:
            if not await self._parts.providers[channel].reachable():
                raise ConnectionError("the provider does not answer")
            found = await evidence.by_message_id([row.message_id for row in rows])
        except OSError:
            async with self._transaction() as session:
                await postpone_disowned(session, [channel], self._rules.grace)
            return
        asked = {row.id for row in rows}
        await self._settle_unknown(channel, found, complete=True, only=asked)

    async def _settle_unknown(
        self,
        channel: Channel,
        found: Mapping[str, datetime],
        *,
        complete: bool,
        only: Collection[UUID] | None = None,
    ) -> None:
        """`complete`: what was not found was not taken. Else the class of the message decides."""
        async with self._transaction() as session:
            rows = await lock_disowned(session, [channel], _BATCH_OF_UNKNOWN)
            settlements = [
                self._fate(row, found.get(row.message_id), complete)
                for row in rows
                if only is None or row.id in only
            ]
            states = await settle(session, settlements) if settlements else []
        for state in states:
            self._count(state, recovered=state is not MessageState.SENDING)

    def _fate(self, row: Any, taken_at: datetime | None, complete: bool) -> Settlement:
        nobody: dict[str, Any] = {"id": row.id, "token": None}
        provider = self._parts.providers[row.channel].name
        if taken_at is not None:
            return Settlement(
                **nobody,
                state=MessageState.ACCEPTED,
                answer="its answer was lost; found at the provider by its Message-ID",
                provider=provider,
                accepted_at=taken_at,
                told_at=clock_in(row).business(taken_at),
            )
        if complete:
            return Settlement(
                **nobody,
                state=MessageState.QUEUED,
                answer="its answer was lost; the provider has not taken it",
            )
        if row.message_class is MessageClass.MARKETING:
            return Settlement(
                **nobody,
                state=MessageState.UNKNOWN,
                answer="its answer was lost; marketing is never sent again blindly",
                provider=provider,
            )
        since = row.now - row.claimed_at
        if since < self._rules.resend_after:
            return Settlement(
                **nobody,
                state=MessageState.SENDING,
                answer="its answer was lost; waiting for evidence",
                delay=(self._rules.resend_after - since).total_seconds(),
            )
        return Settlement(
            **nobody,
            state=MessageState.QUEUED,
            answer="its answer was lost and nothing was heard since; sent again",
            possible_duplicate=True,
        )

    async def _tell_processes(self) -> None:
        """Processes learn that a message won't arrive; one that has ended needn't."""
        async with self._parts.sessions() as session:
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
            return problem.status is RPCStatusCode.NOT_FOUND
        return True

    async def _finish(self, limit: float | None) -> None:
        """Wait for answers under way, at most `limit` seconds, and write down what is known."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=limit)
        for task in [task for task in self._under_way if not task.done()]:
            task.cancel()  # its outcome is unknown: the claim runs out and evidence decides
            del self._under_way[task]
        deadline = time.monotonic() + (limit or _AWAY_LIMIT)
        while self._under_way or self._answered:
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


@dataclass(frozen=True)
class _Written:
    """What is written about a claim of ours, by the provider's answer."""

    claim: Claim
    provider: str
    said: str

    def accepted(self, at: datetime) -> Settlement:
        return self._settlement(
            MessageState.ACCEPTED, accepted_at=at, told_at=self.claim.clock.business(at)
        )

    def failed(self, bad_address: bool) -> Settlement:
        address = (self.claim.channel, self.claim.outgoing.address) if bad_address else None
        return self._settlement(MessageState.FAILED, suppress=address)

    def again(self, delay: float, uncounted: int = 0) -> Settlement:
        return self._settlement(MessageState.QUEUED, delay=delay, uncounted=uncounted)

    def unknown(self, grace: timedelta) -> Settlement:
        """Still `sending`, but nobody's: looked into after the grace."""
        return self._settlement(MessageState.SENDING, delay=grace.total_seconds())

    def _settlement(self, state: MessageState, **more: Any) -> Settlement:
        return Settlement(
            id=self.claim.id,
            token=self.claim.token,
            state=state,
            answer=self.said,
            provider=self.provider,
            **more,
        )
