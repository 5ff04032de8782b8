"""Whoever watches a replay sees it move; where nobody watches, a line from time to time."""

from datetime import UTC, datetime
from io import StringIO
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import httpx2
import pytest
from rich.console import Console

from database.base import Sessions
from domain.clock import REAL_TIME
from replay import progress
from replay.instance import Instance
from replay.lives import make_lives
from replay.player import Player, World
from replay.progress import Progress
from tests.patience import becomes

ENDS = datetime(2020, 3, 1, 12, tzinfo=UTC)  # business time can't come further
ENTRIES = make_lives(2, 1, datetime(2020, 1, 1, tzinfo=UTC)).entries


async def shown(sessions: Sessions, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What is printed while something is being waited for."""
    for pause in ("_EVERY", "_LINE_EVERY"):
        monkeypatch.setattr(progress, pause, 0.01)
    printed = StringIO()
    screen = Console(file=printed, force_terminal=terminal, width=100, record=True)
    instance = cast(Instance, SimpleNamespace(sessions=sessions))
    async with httpx2.AsyncClient() as http:
        player = Player(http, World(uuid4(), REAL_TIME), ENTRIES)
        player.tally.customers = 1
        display = Progress(screen, instance, player, ENDS, "UTC")
        async with display.shown():
            display.doing("waiting until all is settled")
            await becomes(lambda: _says(printed, "waiting until all is settled"), True)
    return screen.export_text()


async def _says(printed: StringIO, words: str) -> bool:
    return words in printed.getvalue()


async def test_on_a_terminal_it_is_a_picture(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await shown(sessions, monkeypatch, terminal=True)
    assert "business date  2020-03-01" in told
    assert f"entered        1 of {len(ENTRIES)}" in told
    assert "waiting until all is settled" in told


async def test_elsewhere_it_is_a_line(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    told = await shown(sessions, monkeypatch, terminal=False)
    assert f"2020-03-01: 1 of {len(ENTRIES)} entered, 0 messages sent, 0.00 s behind" in told
