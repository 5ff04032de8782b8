"""Three hundred lives under thirty kills: nothing lost, nothing done twice, nothing stuck.

CRASH_SEED=7 python -m pytest tests/crash
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from domain.delivery import DeliveryState
from replay.chaos import kill_on_the_way
from replay.history import History
from replay.instance import Instance, insist, opened
from replay.lives import make_lives
from replay.people import People
from replay.player import Player, begin_world
from replay.reconciliation import settle
from replay.verify import verify
from tests.installation import Installation

pytestmark = pytest.mark.timeout(1500)

CUSTOMERS, KILLS = 300, 30
KILLED = ("worker", "temporal", "postgres")
DAYS, SECONDS = 60, 75.0  # of a life; and of the machine for all of them

_ORDERS = """
    SELECT x.reference, x.state FROM orders x JOIN customers c ON c.id = x.customer_id
    WHERE c.simulation_id = :simulation
"""


@pytest.fixture
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("crash") / "var")
    installation.up()
    yield installation
    installation.down()


async def test_nothing_is_lost_doubled_or_stuck(installation: Installation) -> None:
    seed = int(os.environ.get("CRASH_SEED", "20"))
    print(f"CRASH_SEED={seed}")  # noqa: T201 what makes a failure repeatable
    begins_at = datetime.now(UTC) - timedelta(days=DAYS)
    lives = make_lives(CUSTOMERS, seed, begins_at, DAYS)
    async with opened(installation.run_file) as instance:
        world = await begin_world(instance.http, "crash test", begins_at, SECONDS / DAYS)
        player = Player(instance.http, world, lives.entries)
        async with People(instance, world, seed).about(), asyncio.TaskGroup() as group:
            group.create_task(player.play())
            killing = group.create_task(_kill(installation, seed))
        assert killing.result() == KILLS
        assert player.tally.refused == []
        assert len(player.tally.accepted) + player.tally.customers == len(lives.entries)
        await insist(lambda: settle(instance, world, print))
        verdict = await verify(installation.run_file)
        assert verdict.findings == [], verdict.findings
        assert verdict.counts["customers"] == CUSTOMERS
        assert await _states(instance, world.id) == _expected(lives)


async def _kill(installation: Installation, seed: int) -> int:
    each = KILLS // len(KILLED)
    return await kill_on_the_way(installation.data_dir, each, SECONDS, seed, print, KILLED)


async def _states(instance: Instance, simulation: object) -> Counter[str]:
    async with instance.sessions() as session:
        rows = await session.execute(sa.text(_ORDERS), {"simulation": simulation})
        return Counter(state for _, state in rows)


def _expected(lives: History) -> Counter[str]:
    """Where the last report about each order leaves it."""
    states: dict[str, str] = {}
    for entry in lives.entries:
        if entry.order is not None and entry.kind != "delivery_rescheduled":
            states[entry.order] = _REACHED[entry.kind]
    return Counter(states.values())


_REACHED = {
    "order_placed": DeliveryState.PLACED,
    "order_approved": DeliveryState.APPROVED,
    "order_dispatched": DeliveryState.DISPATCHED,
    "delivery_attempt_failed": DeliveryState.ATTEMPT_FAILED,
    "order_delivered": DeliveryState.DELIVERED,
    "order_returned": DeliveryState.RETURNED,
    "order_unavailable": DeliveryState.UNAVAILABLE,
    "order_cancelled": DeliveryState.CANCELLED,
}
