"""Counts the round trips to PostgreSQL that an activity makes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine


@dataclass
class Counted:
    """Statements, BEGIN, COMMIT or ROLLBACK, and the pool's question whether the server lives."""

    round_trips: int = 0


_current: ContextVar[Counted | None] = ContextVar("current", default=None)


class StatementCounter:
    """Counts while `counted()`; costs nothing until it is attached to an engine."""

    @contextmanager
    def counted(self) -> Iterator[Counted]:
        counted = Counted()
        token = _current.set(counted)
        try:
            yield counted
        finally:
            _current.reset(token)

    def attach(self, engine: AsyncEngine) -> None:
        synchronous = engine.sync_engine
        # psycopg sends BEGIN by itself, as an exchange of its own before the first statement.
        for event in ("before_cursor_execute", "begin", "commit", "rollback"):
            sa.event.listen(synchronous, event, _count)
        if getattr(synchronous.pool, "_pre_ping", False):
            sa.event.listen(synchronous.pool, "checkout", _count)


def _count(*_: Any) -> None:
    counted = _current.get()
    if counted is not None:
        counted.round_trips += 1
