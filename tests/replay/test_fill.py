"""`crm.py fill`: coherent rows of the size asked for, that disturb nobody and go again."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.sweeps import SweepActivities
from activities.verify import Conservation
from database.base import Sessions
from domain.messages import MessageState
from domain.schedules import Occasion
from replay.fill.batch import TABLES
from replay.fill.customer import live
from replay.fill.filling import Size, fill, remove
from replay.fill.life import Share
from supervisor.errors import Refused
from supervisor.postgres_url import libpq_url
from supervisor.service import ROOT

SIZE = Size(customers=200, orders=600, lines=2_000)


def _quietly(what: str, done: int, total: int) -> None:
    assert 0 <= done <= total, what


def _fill(
    url: str, *, beside_real: bool = False, processes: int = 1, now: datetime | None = None
) -> None:
    fill(
        *(url, SIZE),
        seed=7,
        now=now or datetime.now(UTC),
        processes=processes,
        beside_real=beside_real,
        progress=_quietly,
    )


def _remove(url: str) -> int:
    return remove(url, processes=1, progress=_quietly)


async def _scalar(sessions: Sessions, sql: str) -> Any:
    async with sessions() as session:
        return await session.scalar(sa.text(sql))


async def _add_real_customer(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(
            sa.text(
                "INSERT INTO customers (reference, kind, name, locale, zone, version)"
                " VALUES ('C-1', 'person', 'Ada Lovelace', 'en', 'UTC', 1)"
            )
        )


async def test_a_fill_has_the_size_asked_for(database_url: str, sessions: Sessions) -> None:
    _fill(database_url)
    for table, count in (("customers", 200), ("orders", 600), ("timeline", 2_000)):
        assert await _scalar(sessions, f"SELECT count(*) FROM {table}") == count
    for table in (
        "contact_points",
        "consents",
        "promises",
        "cases",
        "tasks",
        "surveys",
        "feedback",
    ):
        assert await _scalar(sessions, f"SELECT count(*) FROM {table}") > 0, table


async def test_a_filled_life_is_coherent(database_url: str, sessions: Sessions) -> None:
    _fill(database_url)
    for wrong in (
        # An order is on its way, and its customer's stage does not say so.
        "SELECT count(*) FROM orders o JOIN lifecycles l USING (customer_id)"
        " WHERE o.delivered_at IS NULL AND o.ended_at IS NULL"
        " AND l.stage NOT IN ('delivery','support')",
        "SELECT count(*) FROM timeline WHERE happened_at > now()",
        "SELECT count(*) FROM orders o WHERE NOT EXISTS"
        " (SELECT FROM processes p WHERE p.workflow_id = 'delivery/' || o.id)",
        "SELECT count(*) FROM feedback f WHERE f.verdict = 'detractor' AND NOT EXISTS"
        " (SELECT FROM cases k WHERE k.id = f.recovery_case_id AND k.feedback_id = f.id)",
        "SELECT count(*) FROM orders WHERE delivered_late"
        " AND NOT EXISTS (SELECT FROM promises p WHERE p.order_id = orders.id AND state='broken')",
    ):
        assert await _scalar(sessions, wrong) == 0, wrong


async def test_nothing_of_a_fill_waits_to_be_sent_or_told(
    database_url: str, sessions: Sessions
) -> None:
    _fill(database_url)
    unsettled = ",".join(f"'{state}'" for state in MessageState if not state.settled)
    waiting = f"SELECT count(*) FROM messages WHERE state IN ({unsettled})"
    untold = (
        "SELECT count(*) FROM messages WHERE process_told_at IS NULL"
        " AND state IN ('failed','bounced','suppressed')"
    )
    assert await _scalar(sessions, waiting) == 0
    assert await _scalar(sessions, untold) == 0


async def test_neither_sweep_nor_verify_looks_for_what_never_ran(
    database_url: str, sessions: Sessions, temporal: WorkflowEnvironment
) -> None:
    _fill(database_url)
    check = Conservation(sessions, temporal.client, patience=timedelta(0))
    found = {finding.check: finding for finding in (await check.run()).findings}
    strangers = {"unknown_here", "workflows_failed"}  # of other tests on the same server
    assert set(found) <= strangers, found
    sweeps = SweepActivities(sessions, temporal.client)
    occasion = Occasion(at=datetime.now(UTC) + timedelta(days=400))
    for sweep in (sweeps.find_silent_customers, sweeps.find_missing_follow_ups):
        assert (await ActivityEnvironment().run(sweep, occasion)).found == 0


async def test_what_was_filled_goes_and_the_rest_stays(
    database_url: str, sessions: Sessions
) -> None:
    await _add_real_customer(sessions)
    with pytest.raises(Refused, match="real customers"):
        _fill(database_url)
    _fill(database_url, beside_real=True)
    with pytest.raises(Refused, match="filled already"):
        _fill(database_url, beside_real=True)
    assert _remove(database_url) == SIZE.customers
    assert await _scalar(sessions, "SELECT string_agg(name, ',') FROM customers") == "Ada Lovelace"
    for table in ("timeline", "orders", "order_milestones", "processes", "messages", "events"):
        assert await _scalar(sessions, f"SELECT count(*) FROM {table}") == 0, table


def test_the_same_seed_makes_the_same_lives() -> None:
    now, simulation = datetime(2026, 1, 5, tzinfo=UTC), uuid4()

    def life(seed: int) -> dict[str, Any]:
        return live(3, Share(4, 20, 0.5), seed=seed, simulation=simulation, now=now).rows

    assert life(1) == life(1)
    assert life(1) != life(2)


def test_the_rows_do_not_depend_on_how_many_processes_write_them(database_url: str) -> None:
    now = datetime.now(UTC)
    _fill(database_url, processes=1, now=now)
    by_one = _rows(database_url)
    _remove(database_url)
    _fill(database_url, processes=2, now=now)
    assert _rows(database_url) == by_one
    assert len(by_one["customers"]) == SIZE.customers


def _rows(url: str) -> dict[str, list[str]]:
    """By table, without what PostgreSQL made up."""
    made_up = {"simulations": ["id", "recorded_at"], "customers": ["simulation_id"]}
    made_up["timeline"] = ["id"]
    with psycopg.connect(libpq_url(url)) as connection:
        return {
            table: [
                row
                for (row,) in connection.execute(
                    f"SELECT (to_jsonb(t) - %s::text[])::text FROM {table} t ORDER BY 1",
                    [made_up.get(table, [])],
                )
            ]
            for table in TABLES
        }


def test_a_fill_that_was_stopped_is_taken_out(database_url: str) -> None:
    """By Ctrl-C, which goes to all of its processes: one line about it, and none goes on."""
    size = ["--customers", "3000", "--orders", "0", "--lines", "0", "--processes", "2"]
    filling = subprocess.Popen(
        [sys.executable, "crm.py", "fill", *size],
        cwd=ROOT,
        env={**os.environ, "CRM_DATABASE_URL": database_url},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # What a shell runs in the background ignores Ctrl-C, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        deadline = time.monotonic() + 60
        while not _number(connection, "FROM customers") and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(filling.pid, signal.SIGINT)
        _, said = filling.communicate(timeout=30)  # until all who could say something are gone
        assert said.startswith("crm: stopped by Ctrl-C"), said
        assert said.count("\n") == 1, said
        assert filling.returncode == 1
        there = _number(connection, "FROM customers")
        assert 0 < there < 3000
        assert _remove(database_url) == there
        for table in ("timeline", "orders", "processes", "messages", "simulations"):
            assert _number(connection, f"FROM {table}") == 0, table


def _number(connection: psycopg.Connection, source: str) -> int:
    row = connection.execute(f"SELECT count(*) {source}").fetchone()
    assert row is not None
    return int(row[0])


def test_a_process_that_ends_early_ends_the_fill(database_url: str) -> None:
    killed: list[Any] = []

    def kill_one(what: str, done: int, total: int) -> None:
        if not killed:
            killed.append(multiprocessing.active_children()[0])
            killed[0].kill()

    with pytest.raises(Refused, match="ended early"):
        fill(
            *(database_url, SIZE),
            seed=7,
            now=datetime.now(UTC),
            processes=2,
            beside_real=False,
            progress=kill_one,
        )
    assert not multiprocessing.active_children()
