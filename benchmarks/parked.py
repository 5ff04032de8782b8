"""`parked.*`: what a customer costs who waits: a lead, and an order that is on its way."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import temporal_runtime
from benchmarks.cpu import resident_kb
from benchmarks.installation import Installation
from benchmarks.life import live_all, until_delivered
from benchmarks.lives import LifeDriver, make_customers
from benchmarks.reports import listening
from database.base import Sessions, connect
from domain.clock import REAL_TIME

_CUSTOMERS = 2_000
_QUICK = 100
_AT_ONCE = 20


async def measure_parked(
    installation: Installation, say: Callable[[str], None], *, quick: bool = False
) -> dict[str, Any]:
    count = _QUICK if quick else _CUSTOMERS
    say(f"parked: {count} customers")
    sessions = connect(installation.database_url)
    client = await temporal_runtime.connect(installation.temporal_address)
    async with listening(installation.reports) as progress:
        with installation.worker("ours") as worker:
            # One life first: tables, indexes and modules have their first pages.
            driver = LifeDriver(client, sessions, progress, REAL_TIME)
            first, _ = await make_customers(sessions, 1, simulated=False)
            await driver.park(first[0])
            await until_delivered(sessions)
            temporal, postgres = _temporal_bytes(installation), await _postgres_bytes(sessions)
            base_kb = resident_kb(worker)
            customers, _ = await make_customers(sessions, count, simulated=False)
            await live_all(driver.park, customers, _AT_ONCE)
            await until_delivered(sessions)
            figures = {
                "temporal_bytes": (_temporal_bytes(installation) - temporal) // count,
                "postgres_bytes": (await _postgres_bytes(sessions) - postgres) // count,
                "worker_kb": resident_kb(worker),
                "worker_base_kb": base_kb,
                "temporal_server_kb": resident_kb(installation.temporal_pid),
                "customers": count,
            }
    await sessions.kw["bind"].dispose()
    return figures


def _temporal_bytes(installation: Installation) -> int:
    """Pages in use, those still in the write-ahead log included."""
    assert installation.plan.temporal is not None
    path: Path = installation.plan.temporal.database
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        pages, free, size = (
            int(database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size


async def _postgres_bytes(sessions: Sessions) -> int:
    async with sessions() as session:
        found = await session.scalar(
            sa.select(sa.func.pg_database_size(sa.func.current_database()))
        )
    return int(found or 0)
