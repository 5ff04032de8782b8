"""How often what was received is acted upon: counted before, since an attempt may end us."""

import logging
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from activities.faults import is_away
from database.base import Sessions
from database.received_mails import ReceivedMail
from database.received_texts import ReceivedText
from domain.errors import where

Row = TypeVar("Row", ReceivedMail, ReceivedText)
Outcome = TypeVar("Outcome", bound=StrEnum)

_MOST = 8  # that end without an outcome, over some hours: then it is what was received
_AT_ONCE = 2  # of them
_TURN = 2.0  # seconds; then others have theirs
_FIRST_WAIT, _LONGEST_WAIT = 15.0, 3600.0  # seconds
_SET_ASIDE = f"set aside: {_MOST} attempts ended without an outcome"
_log = logging.getLogger(__name__)


class _Attempt(NamedTuple):
    of: UUID
    number: int


class Attempts(Generic[Row, Outcome]):
    """Of one table. Until its next attempt a row lets the others have their turn."""

    def __init__(self, table: type[Row], failed: Outcome, *options: Any) -> None:
        """`failed`: the outcome of a row that can't be acted upon; `options` of reading one."""
        self._table: type[ReceivedMail] | type[ReceivedText] = table
        self._failed = failed
        following = (
            sa.select(table.id)
            .where(table.processed_at.is_(None), table.not_before <= sa.func.now())
            .order_by(table.not_before, table.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        # Each wait is four times as long as the last.
        wait = sa.func.least(_LONGEST_WAIT, _FIRST_WAIT * sa.func.pow(4, table.attempts))
        self._begin = (
            sa.update(table)
            .where(table.id == following.scalar_subquery())
            .values(
                attempts=table.attempts + 1,
                not_before=sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, wait),
            )
            .returning(table.id, table.attempts)
            .execution_options(synchronize_session=False)
        )
        self._one: sa.Select[Any] = (
            sa.select(table)
            .where(table.id == sa.bindparam("id"), table.processed_at.is_(None))
            .options(*options)
            .with_for_update(skip_locked=True)
        )

    async def take_turn(
        self, sessions: Sessions, take_in: Callable[[AsyncSession, Row], Awaitable[Outcome]]
    ) -> list[Outcome]:
        """Act on one row after the other, until there is none or others have to have their turn.

        What came of them. Raises as `_act`.
        """
        outcomes: list[Outcome] = []
        over = time.monotonic() + _TURN
        while time.monotonic() < over:
            attempt = await self._begin_next(sessions)
            if attempt is None:
                break
            outcome = await self._act(sessions, attempt, take_in)
            outcomes += [outcome] if outcome is not None else []
        return outcomes

    async def _begin_next(self, sessions: Sessions) -> _Attempt | None:
        async with sessions.begin() as session:
            begun = (await session.execute(self._begin)).one_or_none()
        return _Attempt(*begun) if begun is not None else None

    async def _act(
        self,
        sessions: Sessions,
        attempt: _Attempt,
        take_in: Callable[[AsyncSession, Row], Awaitable[Outcome]],
    ) -> Outcome | None:
        """What came of it, in one transaction; None when another intake has it.

        A row that we stumble over is marked, one whose attempts have all ended without an outcome
        is set aside: neither holds up another. Raises while PostgreSQL or Temporal is away.
        """
        if attempt.number > _MOST:
            return await self._fail(sessions, attempt, _SET_ASIDE)
        try:
            async with sessions.begin() as session:
                row = await session.scalar(self._one, {"id": attempt.of})
                return await take_in(session, row) if row is not None else None
        except Exception as problem:
            if is_away(problem):
                if attempt.number <= _AT_ONCE:  # mostly it was not what was received
                    await self._write(sessions, attempt, not_before=sa.func.now())
                raise
            _log.error("%s %s: %s", self._table.__tablename__, attempt.of, where(problem))
            return await self._fail(sessions, attempt, type(problem).__name__)

    async def _fail(self, sessions: Sessions, attempt: _Attempt, because: str) -> Outcome:
        await self._write(
            *(sessions, attempt),
            processed_at=sa.func.now(),
            outcome=self._failed,
            because=because,
        )
        return self._failed

    async def _write(self, sessions: Sessions, attempt: _Attempt, **values: Any) -> None:
        table = self._table
        unprocessed = sa.update(table).where(table.id == attempt.of, table.processed_at.is_(None))
        async with sessions.begin() as session:
            await session.execute(unprocessed.values(values))
