"""Shows a replay while it runs: the business date, what has entered, what has come of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from replay.instance import Instance
from replay.player import Player

_EVERY = 0.5
_LINE_EVERY = 15.0  # where nobody watches

_ORDERS = """
    SELECT x.state, count(*) FROM orders x JOIN customers c ON c.id = x.customer_id
    WHERE c.simulation_id = :simulation GROUP BY 1 ORDER BY 1
"""
_SENT = """
    SELECT count(*) FROM messages x JOIN customers c ON c.id = x.customer_id
    WHERE c.simulation_id = :simulation AND x.state IN ('accepted','delivered')
"""


class Progress:
    """What is shown; `note` adds a line that stays."""

    def __init__(
        self, console: Console, instance: Instance, player: Player, ends_at: datetime, zone: str
    ) -> None:
        self._console = console
        self._instance = instance
        self._player = player
        self._ends_at = ends_at
        self._zone = ZoneInfo(zone)
        self._orders: dict[str, int] = {}
        self._sent = 0
        self._doing = ""

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def doing(self, text: str) -> None:
        """What is being waited for after the last entry."""
        self._doing = text

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """While the block runs."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        if self._console.is_terminal:
            with Live(self._picture(), console=self._console, auto_refresh=False) as live:
                while True:
                    await self._look()
                    live.update(self._picture(), refresh=True)
                    await asyncio.sleep(_EVERY)
        said_at = time.monotonic()
        while True:
            await asyncio.sleep(_EVERY)
            if time.monotonic() - said_at >= _LINE_EVERY:
                await self._look()
                self.note(self._line())
                said_at = time.monotonic()

    async def _look(self) -> None:
        world = {"simulation": self._player.world.id}
        # PostgreSQL may be away: then the last picture stays.
        with contextlib.suppress(DBAPIError, TimeoutError):
            async with asyncio.timeout(5), self._instance.sessions() as session:
                rows = await session.execute(sa.text(_ORDERS), world)
                self._orders = {state: count for state, count in rows}
                self._sent = int(await session.scalar(sa.text(_SENT), world) or 0)

    def _picture(self) -> RenderableType:
        tally = self._player.tally
        facts = Table.grid(padding=(0, 2))
        facts.add_row("business date", f"[bold]{self._today()}[/]")
        facts.add_row("entered", f"{tally.answered:,} of {tally.total:,}")
        facts.add_row("orders", self._in_states() or "-")
        facts.add_row("messages sent", f"{self._sent:,}")
        facts.add_row("behind", f"{self._player.behind:.2f} s")
        if self._doing:
            facts.add_row("now", self._doing)
        bar = ProgressBar(total=max(tally.total, 1), completed=tally.answered, width=60)
        return Group(Text(), Columns([bar]), facts)

    def _line(self) -> str:
        tally = self._player.tally
        return (
            f"{self._today()}: {tally.answered:,} of {tally.total:,} entered, {self._sent:,} "
            f"messages sent, {self._player.behind:.2f} s behind; {self._in_states()}"
            + (f"; {self._doing}" if self._doing else "")
        )

    def _today(self) -> str:
        now = min(self._player.world.now, self._ends_at)
        return f"{now.astimezone(self._zone):%Y-%m-%d}"

    def _in_states(self) -> str:
        return ", ".join(f"{count:,} {state}" for state, count in self._orders.items())
