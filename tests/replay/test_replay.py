"""A whole replay against a real `crm.py up`: the outcome is the file's; differences are seen."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from activities.verify import Verdict
from domain.clock import REAL_TIME
from replay.instance import opened
from replay.olist import ORDERS, REVIEWS, read_olist
from replay.player import Tally, World
from replay.reconciliation import reconcile
from supervisor.run_file import RunFile
from tests.installation import Installation
from tests.replay.shop import varied_shop

pytestmark = pytest.mark.timeout(400)

KEYS = {
    "orders",
    "late",
    "overdue",
    "promises",
    "messages",
    "surveys",
    "reviews_1_2",
    "recovery_cases",
    "processes",
    "duplicates",
    "lost",
    "unexplained",
    "disagreements",
}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("replay") / "var")
    installation.up()
    yield installation
    installation.down()


@pytest.fixture(scope="module")
def outcome(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The reconciliation of one replay of every kind of order, twice each."""
    directory = varied_shop(of_each=2).write(tmp_path_factory.mktemp("shop"))
    result = directory / "result.json"
    options = ("--day", "250ms", "--check", "--json", str(result))
    done = installation.command("replay", str(directory), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome: dict[str, Any] = json.loads(result.read_text())
    return outcome


def test_the_outcome_is_the_files(outcome: dict[str, Any]) -> None:
    assert outcome.keys() >= KEYS
    states = {
        "placed": 2,
        "approved": 4,
        "dispatched": 2,
        "delivered": 14,
        "unavailable": 2,
        "cancelled": 4,
    }
    assert outcome["orders"]["file"] == outcome["orders"]["product"] == states
    assert (outcome["late"]["file"], outcome["late"]["noticed"]) == (2, 2)
    assert outcome["late"]["told_before"] + outcome["late"]["told_after"] == 2
    assert outcome["overdue"] == {"file": 6, "noticed": 6}
    assert outcome["promises"] == {"broken": 2, "kept": 14, "open": 8, "released": 4}
    assert outcome["reviews_1_2"] == outcome["recovery_cases"] == 6
    assert [outcome[key] for key in ("duplicates", "lost", "unexplained")] == [0, 0, 0]
    assert outcome["disagreements"] == []


def test_it_says_how_far_behind_processes_were(outcome: dict[str, Any]) -> None:
    lag = outcome["processes_lag_s"]
    assert 0 < lag["p50"] <= lag["p99"] <= lag["max"]
    days = lag["max"] / 0.25
    assert outcome["processes_lag_days"] == pytest.approx(days, abs=0.1)
    assert outcome["recovery_slowest_s"] > 0


def test_every_order_was_confirmed_once(outcome: dict[str, Any]) -> None:
    sent = {template: sum(states.values()) for template, states in outcome["messages"].items()}
    assert sent["order_confirmed"] == 28
    assert sent["order_delivered"] == 16  # two of them were cancelled afterwards
    assert sent["order_cancelled"] == 4
    assert sent["recovery_started"] == 6


def test_nothing_is_sent_of_files_that_can_not_be_played(
    installation: Installation, outcome: dict[str, Any], tmp_path: Path
) -> None:
    shop = varied_shop()
    shop.change(ORDERS, 1, order_status="lost")
    shop.change(REVIEWS, 0, review_score="7")
    refused = installation.command("replay", str(shop.write(tmp_path)), "--day", "1s", "--check")
    assert refused.returncode == 2
    assert "olist_orders_dataset.csv, row 3, order_status: 'lost' is unknown" in refused.stderr
    assert "olist_order_reviews_dataset.csv, row 2, review_score: '7'" in refused.stderr
    assert "--skip-bad-rows" in refused.stderr


def test_verify_is_clean_after_it(installation: Installation, outcome: dict[str, Any]) -> None:
    done = installation.command("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing lost, nothing twice, nothing stuck" in done.stdout


async def test_a_difference_from_the_file_is_a_disagreement(
    installation: Installation, outcome: dict[str, Any], tmp_path: Path
) -> None:
    """The same outcome, held against a file that says otherwise."""
    shop = varied_shop(of_each=2)
    shop.change(ORDERS, 0, order_status="canceled")  # ontime000
    shop.change(ORDERS, 2, order_delivered_customer_date="2017-03-29 10:00:00")  # lateday000
    shop.change(REVIEWS, 0, review_score="1")
    shop.order("unheard-of", "created", 1)
    found = await _reconcile(installation.run_file, shop.write(tmp_path), outcome["simulation"])
    told = "\n".join(found)
    for words in (
        "1 orders of the file are not known (unheard-of)",
        "1 orders are delivered; the file says cancelled (ontime000)",
        "1 late orders were not noticed, or the customer was not told (lateday000)",
        "2 promised days are broken; by the file it is 3",
        "1 reviews have another score than in the file",
        "6 recovery cases for 7 reviews of 1 or 2",
        "26 customers are known; the file has 27",
    ):
        assert words in told


async def _reconcile(run: RunFile, directory: Path, simulation: str) -> list[str]:
    clean = Verdict(taken_at=datetime.now(UTC), clean=True, seconds=0, counts={}, findings=[])
    world = World(UUID(simulation), REAL_TIME)
    async with opened(run) as instance:
        history = read_olist(directory)
        found = await reconcile(instance, history, world, Tally(), clean, elapsed=0)
    assert not found.agrees
    return found.disagreements
