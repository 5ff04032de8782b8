"""The people of a generated world: customers who read their mail, staff who do their tasks.

They see what anybody would see: the mail in the inbox with its signed links, and the tasks.
"""

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from database.inbox import InboxUnavailable, KeptMail
from replay.instance import Instance
from replay.player import DAY, Caller, World

_LOOK_EVERY = 0.25
_LINK = re.compile(r"(?P<url>http\S+/s/\S+)\?score=(?P<score>\d+)")
_NOBODY = {"Authorization": ""}
_ANSWERS = 0.7  # of the customers asked
_THINKS_AGAIN = 0.08
_DONE_IN_TIME = 0.9  # of the tasks
_OPEN_TASKS = """
    SELECT x.id, x.kind, x.case_id, x.due_at FROM tasks x
    JOIN customers c ON c.id = x.customer_id
    WHERE c.simulation_id = :simulation AND x.state = 'open' ORDER BY x.due_at LIMIT 200
"""
_IS_OURS = """
    SELECT true FROM messages x JOIN customers c ON c.id = x.customer_id
    WHERE c.simulation_id = :simulation AND x.id = :message
"""
_OUTCOMES: dict[str, Sequence[str]] = {
    "answer_reply": ("answered", "answered", "answered", "not_interested"),
    "answer_reply_escalated": ("answered",),
    "approve_order": ("done",),
    "chase_order": ("on_its_way", "done"),
    "compensate": ("refunded", "refunded", "replaced"),
    "first_response": ("answered",),
    "resolve_case": ("done",),
    "contact_disappointed": ("contacted", "contacted", "contacted", "unreachable"),
    "opportunity": ("won", "lost", "nothing_there"),
    "save_customer": ("saved", "saved", "offer", "lost"),
    "correct_address": ("corrected",),
}
_SLOWEST, _FORGOTTEN = 0.5, (2.0, 6.0)  # days that staff lets a task lie


class People:
    """Everybody in a world; what they do is drawn by the seed and by what they get to see."""

    def __init__(self, instance: Instance, world: World, seed: int) -> None:
        self.did: Counter[str] = Counter()
        self._instance = instance
        self._world = world
        self._seed = seed
        self._caller = Caller(instance.http)
        self._day = DAY / world.clock.speed  # machine seconds
        self._tasks_seen: set[UUID] = set()
        self._doing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def about(self) -> AsyncIterator[None]:
        """They are there while the block runs."""
        watchers = [asyncio.create_task(self._do_tasks())]
        if self._instance.inbox is not None:
            newest = await self._instance.inbox.mails(limit=1)
            watchers.append(asyncio.create_task(self._read_mail(newest[0].id if newest else 0)))
        try:
            yield
        finally:
            for task in (*watchers, *self._doing):
                task.cancel()
            await asyncio.gather(*watchers, *self._doing, return_exceptions=True)

    def _soon(self, days: float, act: Callable[[], Awaitable[None]]) -> None:
        async def later() -> None:
            await asyncio.sleep(days * self._day)
            await act()

        task = asyncio.create_task(later())
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    # --- customers ---------------------------------------------------------------------------

    async def _read_mail(self, last: int) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            with contextlib.suppress(InboxUnavailable):
                for mail in reversed(await self._new_mails(after=last)):
                    last = max(last, mail.id)
                    await self._look_for_a_survey(mail)

    async def _new_mails(self, after: int) -> list[KeptMail]:
        assert self._instance.inbox is not None
        return await self._instance.inbox.mails(limit=10_000, after=after)

    async def _look_for_a_survey(self, mail: KeptMail) -> None:
        assert self._instance.inbox is not None
        opened = await self._instance.inbox.open(mail.id)
        links = _LINK.findall(opened.text) if opened else []
        if not links or not await self._is_ours(mail):
            return
        dice = random.Random(f"{self._seed}/{mail.rcpt_to}/{mail.subject}")
        if dice.random() > _ANSWERS:
            return
        scores = [int(score) for _, score in links]
        url = links[0][0]
        score = dice.choices(scores, [1, 1, 2, 5, 8] if len(scores) == 5 else None)[0]
        self._soon(dice.uniform(0.2, 3), lambda: self._click(url, score))
        if dice.random() < _THINKS_AGAIN:
            again = dice.choice(scores)
            self._soon(dice.uniform(3.1, 4), lambda: self._click(url, again))

    async def _is_ours(self, mail: KeptMail) -> bool:
        """The inbox is everybody's: what somebody else tries out meanwhile is theirs to answer."""
        with contextlib.suppress(ValueError, DBAPIError):  # it may be of no message of ours
            ours = {"simulation": self._world.id, "message": UUID(mail.effect)}
            async with self._instance.sessions() as session:
                return await session.scalar(sa.text(_IS_OURS), ours) is True
        return False

    async def _click(self, url: str, score: int) -> None:
        """As a browser would, without a key; and again when the page says to try later."""
        answer = await self._caller.call("GET", f"{url}?score={score}", headers=_NOBODY)
        if answer.is_success:
            self.did["surveys clicked"] += 1

    # --- staff -------------------------------------------------------------------------------

    async def _do_tasks(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            for task in await self._new_tasks():
                self._tasks_seen.add(task.id)
                dice = random.Random(f"{self._seed}/{len(self._tasks_seen)}")
                in_time = dice.random() < _DONE_IN_TIME
                wait = dice.uniform(0, _SLOWEST) if in_time else dice.uniform(*_FORGOTTEN)
                self._soon(wait, lambda task=task, dice=dice: self._do(task, dice))  # type: ignore[misc]

    async def _new_tasks(self) -> list[Any]:
        # PostgreSQL may be away for a moment.
        with contextlib.suppress(DBAPIError):
            async with self._instance.sessions() as session:
                found = await session.execute(sa.text(_OPEN_TASKS), {"simulation": self._world.id})
                return [task for task in found.all() if task.id not in self._tasks_seen]
        return []

    async def _do(self, task: Any, dice: random.Random) -> None:
        outcome = dice.choice(_OUTCOMES[task.kind])
        by = f"agent-{dice.randint(1, 5)}"
        if task.kind == "first_response" and task.case_id is not None:
            text = {"text": "Thank you for writing; we are looking into it.", "by": by}
            done = await self._post(f"/api/v1/cases/{task.case_id}/respond", text)
        else:
            done = await self._post(
                f"/api/v1/tasks/{task.id}/complete", {"outcome": outcome, "by": by}
            )
        if done:
            self.did["tasks done"] += 1
        if task.case_id is not None and task.kind != "compensate":
            case = f"/api/v1/cases/{task.case_id}/resolve"
            told = {"text": "It is settled: we made good on it.", "by": by}
            self._soon(dice.uniform(0.5, 2), lambda: self._resolve(case, told))

    async def _resolve(self, path: str, body: dict[str, str]) -> None:
        if await self._post(path, body):
            self.did["cases resolved"] += 1

    async def _post(self, path: str, body: dict[str, str]) -> bool:
        """False when it was refused: somebody or some clock was faster.

        Sent again, it is the same one by its key: else each try would leave its words behind.
        """
        key = {"Idempotency-Key": str(uuid4())}
        answer = await self._caller.call("POST", path, body, key)
        return answer.is_success
