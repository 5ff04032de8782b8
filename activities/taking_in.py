"""Taking in one of the things that came back: mails and text messages wait in a table of each."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from activities.faults import is_away, where
from database.base import Sessions
from database.received_mails import ReceivedMail
from database.received_texts import ReceivedText

Row = TypeVar("Row", ReceivedMail, ReceivedText)
Outcome = TypeVar("Outcome")
_log = logging.getLogger(__name__)


async def take_in_next(
    sessions: Sessions,
    table: type[Row],
    act: Callable[[AsyncSession, Row], Awaitable[Outcome]],
    *,
    failed: Outcome,
    because: Callable[[Exception], Mapping[str, Any]] = lambda problem: {},
    options: tuple[Any, ...] = (),
) -> Outcome | None:
    """Act on the oldest row that nobody has seen to, in a transaction of its own; None: no more.

    May be killed at any moment, or run twice at once: a row that is locked is left alone. Raises
    while PostgreSQL or Temporal is away. One that we stumble over is marked `failed`, with what
    `because` adds, and holds up none.
    """
    row_id: UUID | None = None
    try:
        async with sessions.begin() as session:
            row = await session.scalar(
                sa.select(table)
                .where(table.processed_at.is_(None))
                .order_by(table.id)
                .limit(1)
                .options(*options)
                .with_for_update(skip_locked=True)
            )
            if row is None:
                return None
            row_id = row.id
            return await act(session, row)
    except Exception as problem:
        if row_id is None or is_away(problem):
            raise
        _log.error("%s %s: %s", table.__tablename__, row_id, where(problem))
        async with sessions.begin() as session:
            await session.execute(
                sa.update(table)
                .where(table.id == row_id, table.processed_at.is_(None))
                .values(processed_at=sa.func.now(), outcome=failed, **because(problem))
            )
        return failed
