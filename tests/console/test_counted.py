"""What takes long to count is kept, and counted anew while it is shown; the rest isn't kept."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest
from fastapi import FastAPI

from console import counted as under_test
from console.counted import Counted, counted
from console.desk import Refused

Ask = Callable[[], Awaitable[Counted[int]]]


@pytest.fixture
def app() -> FastAPI:
    return FastAPI()


@pytest.fixture
def ask(app: FastAPI) -> Ask:
    """Each count finds one more than the one before; the third cannot be done."""
    numbers = itertools.count(1)

    async def count() -> int:
        number = next(numbers)
        await asyncio.sleep(0.01)
        if number == 3:
            raise Refused({"code": "process-engine-away", "status": 503})
        return number

    return lambda: counted(app, "numbers", count)


async def test_what_is_fast_is_counted_each_time(ask: Ask) -> None:
    assert [(await ask()).value for _ in range(2)] == [1, 2]


async def test_what_takes_long_rests_in_proportion_and_a_minute_at_most() -> None:
    assert [Counted(0, 0.0, took).rests for took in (0.14, 0.2, 9.0)] == [0, 4.0, 60.0]


async def test_what_takes_long_is_kept_and_shown_while_it_is_counted_anew(
    ask: Ask, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_FAST", 0.0)
    monkeypatch.setattr(under_test, "_REST_PER_TIME", 1e6)
    first = await asyncio.gather(ask(), ask(), ask())
    assert {one.value for one in first} == {1}, "who asks meanwhile waits for the same"
    assert (await ask()).value == 1

    monkeypatch.setattr(under_test, "_REST_PER_TIME", 1e-6)
    kept = app.state.counted["numbers"]
    assert (await ask()).value == 1, "nobody waits"
    await kept.anew
    assert (await ask()).value == 2
    await kept.anew  # is refused
    assert (await ask()).value == 2, "what is known stays until it can be counted again"
    await kept.anew

    monkeypatch.setattr(under_test, "_TOO_OLD", 0.0)
    assert (await ask()).value == 5


async def test_of_many_counts_those_asked_for_last_are_kept(app: FastAPI) -> None:
    async def count() -> int:
        return 0

    for number in range(100):
        await counted(app, "asked all the time", count)
        await counted(app, number, count)
    assert len(app.state.counted) < 50
    assert {99, "asked all the time"} <= set(app.state.counted)
