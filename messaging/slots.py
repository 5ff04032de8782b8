"""The connections to one provider: selling never takes them all."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator


class Slots:
    """At most `connections` at once, one in eight of them only for what is urgent.

    So an urgent message waits for other urgent ones at most, also while a provider lets every
    other connection hang.
    """

    def __init__(self, connections: int) -> None:
        kept = max(1, connections // 8) if connections > 1 else 0
        self._all = asyncio.Semaphore(connections)
        self._selling = asyncio.Semaphore(connections - kept)

    @contextlib.asynccontextmanager
    async def taken(self, *, urgent: bool) -> AsyncGenerator[None]:
        async with contextlib.AsyncExitStack() as slots:
            if not urgent:
                await slots.enter_async_context(self._selling)
            await slots.enter_async_context(self._all)
            yield
