"""`crm.py fill`: coherent rows of the size asked for, that disturb nobody and go again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.sweeps import SweepActivities
from activities.verify import Conservation
from database.base import Sessions
from domain.messages import MessageState
from domain.schedules import Occasion
from replay.fill.filling import Size, fill, remove
from replay.fill.lives import Life, Share
from supervisor.errors import Refused

SIZE = Size(customers=200, orders=600, lines=2_000)


def _quietly(what: str, done: int, total: int) -> None:
    assert 0 <= done <= total, what


def _fill(url: str, *, beside_real: bool = False) -> None:
    fill(url, SIZE, seed=7, beside_real=beside_real, progress=_quietly)


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
    assert remove(database_url, _quietly) == SIZE.customers
    assert await _scalar(sessions, "SELECT string_agg(name, ',') FROM customers") == "Ada Lovelace"
    for table in ("timeline", "orders", "order_milestones", "processes", "messages", "events"):
        assert await _scalar(sessions, f"SELECT count(*) FROM {table}") == 0, table


def test_the_same_seed_makes_the_same_lives() -> None:
    now, simulation = datetime(2026, 1, 5, tzinfo=UTC), uuid4()

    def life(seed: int) -> dict[str, Any]:
        return Life(3, Share(4, 20), seed=seed, simulation=simulation, now=now).rows

    assert life(1) == life(1)
    assert life(1) != life(2)
