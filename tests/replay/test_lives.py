"""Generated lives: repeatable, in order, and such as the API takes them."""

from collections import Counter
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from pydantic import TypeAdapter

from api.customers import CustomerFields
from api.event_bodies import LifecycleEvent
from domain.clock import REAL_TIME
from replay.history import CUSTOMER
from replay.lives import make_lives
from replay.player import World

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_same_seed_makes_the_same_lives() -> None:
    assert make_lives(50, 7, BEGINS).entries == make_lives(50, 7, BEGINS).entries
    assert make_lives(50, 7, BEGINS).entries != make_lives(50, 8, BEGINS).entries


def test_a_life_is_told_in_its_order() -> None:
    entries = make_lives(200, 1, BEGINS).entries
    assert entries == sorted(entries, key=lambda entry: entry.at)
    assert entries[0].at == BEGINS
    assert len({entry.key for entry in entries}) == len(entries)
    known: set[str] = set()
    for entry in entries:
        if entry.kind == CUSTOMER:
            known.add(entry.customer)
        elif entry.kind == "order_placed":
            assert entry.order is not None
            assert entry.customer in known
            known.add(entry.order)
        else:
            assert (entry.order or entry.customer) in known


@pytest.mark.parametrize("seed", range(5))
def test_something_moves_at_once(seed: int) -> None:
    """Whoever starts the demo waits for nothing."""
    entries = make_lives(200, seed, BEGINS).entries
    at_once = [entry for entry in entries if entry.at == BEGINS]
    assert len({entry.customer for entry in at_once}) == 3
    assert {entry.kind for entry in at_once} & {"lead_received", "order_placed"}


def test_the_api_takes_every_entry() -> None:
    world = World(uuid4(), REAL_TIME)
    event: TypeAdapter[object] = TypeAdapter(LifecycleEvent)
    for entry in make_lives(200, 1, BEGINS).entries:
        _, _, body = world.request(entry)
        if entry.kind == CUSTOMER:
            CustomerFields.model_validate(body)
        else:
            event.validate_python(body)


def test_every_branch_is_lived() -> None:
    lives = make_lives(200, 1, BEGINS)
    kinds = Counter(entry.kind for entry in lives.entries)
    assert set(kinds) >= {
        "lead_received",
        "reply_received",
        "opted_out",
        "order_cancelled",
        "order_unavailable",
        "order_returned",
        "delivery_attempt_failed",
        "delivery_rescheduled",
        "case_opened",
        "need_stated",
        "risk_noticed",
    }
    locales = {entry.fields["locale"] for entry in lives.entries if entry.kind == CUSTOMER}
    assert locales == {"en", "pt-BR"}
