"""Waits for the step that an accepted command becomes, so that the next page shows it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa

from console.desk import Desk
from database.timeline import TimelineLine

_EVERY = 0.04  # seconds between looks
_LOOKS = 30  # then the page is shown as it is, and brings itself up to date


@asynccontextmanager
async def step_shown(desk: Desk, workflow_id: str) -> AsyncIterator[None]:
    """Send a command inside; it ends when the process has written a line, or soon after."""
    before = await _last_line(desk, workflow_id)
    yield
    for _ in range(_LOOKS):
        if await _last_line(desk, workflow_id) != before:
            return
        await asyncio.sleep(_EVERY)


async def _last_line(desk: Desk, workflow_id: str) -> int | None:
    newest = sa.select(sa.func.max(TimelineLine.id)).where(TimelineLine.workflow_id == workflow_id)
    async with desk.database() as session:
        found: int | None = await session.scalar(newest)
    return found
