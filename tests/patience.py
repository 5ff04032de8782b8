"""Waiting for what nobody tells us of."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
_FIRST, _LONGEST = 0.01, 0.4  # seconds


async def seen(
    look: Callable[[], Awaitable[T]], holds: Callable[[T], bool], within: float = 45
) -> T:
    """What is seen last: what holds, or what was there when the time (in seconds) had passed.

    It looks often at first, as most has just happened, and then ever more seldom: to look takes
    time from those who are to make it so.
    """
    deadline = time.monotonic() + within
    pause = _FIRST
    while not holds(found := await look()) and time.monotonic() < deadline:
        await asyncio.sleep(pause)
        pause = min(pause * 1.25, _LONGEST)
    return found


async def becomes(look: Callable[[], Awaitable[T]], expected: T, within: float = 45) -> None:
    """Wait until what is looked at is as expected; else fail with the difference."""
    found = await seen(look, lambda found: found == expected, within)
    assert found == expected, f"{found!r} instead of {expected!r}"
