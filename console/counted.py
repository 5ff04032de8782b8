"""What takes long to count: kept for a while, shown with its age, and counted anew meanwhile."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from console.desk import Refused

T = TypeVar("T")
Count = Callable[[], Awaitable[T]]

_log = logging.getLogger(__name__)

# Seconds. What is counted that fast is counted whenever it is asked for.
_FAST = 0.15
# What takes longer is kept for a multiple of its time: counting takes a twentieth of PostgreSQL.
_REST_PER_TIME = 20.0
_REST_AT_MOST = 60.0
_TOO_OLD = 600.0
_KEPT_AT_MOST = 32  # counts


@dataclass(frozen=True)
class Counted(Generic[T]):
    """`began`: by the monotonic clock; `took`: seconds."""

    value: T
    began: float
    took: float

    @property
    def age(self) -> float:
        """Seconds since it was so."""
        return time.monotonic() - self.began

    @property
    def rests(self) -> float:
        """Seconds for which it is not counted again."""
        return 0 if self.took < _FAST else min(_REST_AT_MOST, _REST_PER_TIME * self.took)


@dataclass
class _Kept:
    """The newest count of something, and those who count it: one at a time."""

    known: Counted[Any] | None = None
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    anew: asyncio.Task[object] | None = None


async def counted(app: FastAPI, key: Hashable, count: Count[T]) -> Counted[T]:
    """What `count` finds; the same `key` means the same.

    What is older than it rests is counted anew, and shown once more meanwhile; what is older than
    ten minutes, or was fast, is waited for.
    """
    kept = _kept(app, key)
    known: Counted[T] | None = kept.known
    if known is None or not known.rests or known.age >= _TOO_OLD:
        return await _count(kept, count)
    if known.age >= known.rests and (kept.anew is None or kept.anew.done()):
        kept.anew = asyncio.create_task(_count_anew(kept, count))
    return known


async def _count_anew(kept: _Kept, count: Count[T]) -> None:
    """Nobody waits for it: what goes wrong is in the log, and the next request tries again."""
    try:
        await _count(kept, count)
    except (DBAPIError, PoolTimeout, Refused) as error:
        _log.warning("figures were not counted: %s", type(error).__name__)


async def _count(kept: _Kept, count: Count[T]) -> Counted[T]:
    """Count, unless somebody has done it while this waited for its turn."""
    asked = time.monotonic()
    async with kept.counting:
        known: Counted[T] | None = kept.known
        if known is None or (known.began < asked and known.age >= known.rests):
            began = time.monotonic()
            value = await count()
            kept.known = known = Counted(value, began, time.monotonic() - began)
        return known


def _kept(app: FastAPI, key: Hashable) -> _Kept:
    """Of an application; what was asked for last stays longest."""
    if not hasattr(app.state, "counted"):
        app.state.counted = {}
    by_key: dict[Hashable, _Kept] = app.state.counted
    kept = by_key[key] = by_key.pop(key) if key in by_key else _Kept()
    while len(by_key) > _KEPT_AT_MOST:
        by_key.pop(next(iter(by_key)))
    return kept
