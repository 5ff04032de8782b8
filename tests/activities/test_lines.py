"""The rate of a provider account, and who gets through; time is told to it."""

from datetime import timedelta

import pytest

from activities.lines import Line
from domain.fairness import Room

LONGEST = timedelta(seconds=15)
BATCH = 50


def rated(per_second: float, selling_per_second: float = 0.0) -> Line:
    line = Line()
    line.set_rates(0.0, per_second, selling_per_second)
    return line


def hand_over(line: Line, seconds: float, *, selling: bool, from_: float = 0.0) -> int:
    """As many as may go, looked at ten times a second; how many went."""
    went = 0
    for tenth in range(int(seconds * 10)):
        now = from_ + tenth / 10
        line.set_rates(now, line.everything.rate, line.warm_up.rate)
        room = line.room(now, 0, 0, BATCH)
        for _ in range(room.selling if selling else room.all):
            line.take()
            went += 1
    return went


def test_without_a_rate_only_what_is_under_way_is_a_limit() -> None:
    line = Line()
    assert line.room(0.0, 0, 0, BATCH) == Room(50, 50)
    assert line.room(0.0, 0, 70, BATCH) == Room(50, 0), "selling that hangs leaves the other half"
    assert line.room(0.0, 49, 49, BATCH) == Room(50, 50)
    assert line.room(0.0, 50, 0, BATCH).all == 0


@pytest.mark.parametrize("per_second", [0.2, 1, 7, 300])
@pytest.mark.parametrize("selling", [True, False])
def test_over_a_minute_the_rate_is_kept_and_used(per_second: float, selling: bool) -> None:
    went = hand_over(rated(per_second), 60, selling=selling)
    assert 60 * per_second * 0.95 - 2 <= went <= 60 * per_second + 2


@pytest.mark.parametrize("per_second", [0.2, 1, 7, 300])
def test_after_selling_took_all_it_may_something_is_left_for_the_urgent(per_second: float) -> None:
    line = rated(per_second)
    hand_over(line, 60, selling=True)
    room = line.room(60.0, 0, 0, BATCH)
    assert room.selling <= 1
    assert room.all >= max(1, min(per_second / 5, BATCH))


def test_a_rest_brings_no_more_than_a_second_of_the_rate() -> None:
    line = rated(10)
    line.set_rates(3600.0, 10, 0)
    assert line.room(3600.0, 0, 0, BATCH).all == 10


def test_a_new_rate_holds_at_once() -> None:
    line = rated(100)
    line.set_rates(10.0, 100, 0)
    line.set_rates(10.0, 1, 0)
    line.set_rates(10.1, 1, 0)
    assert line.room(10.1, 0, 0, BATCH).all == 2
    line.set_rates(10.1, 0, 0)
    assert line.room(10.1, 0, 0, BATCH).all == BATCH


def test_a_warm_up_slows_selling_and_nothing_else_though_everything_counts() -> None:
    line = rated(100, selling_per_second=0.5)
    assert hand_over(line, 60, selling=True) in range(29, 33)
    assert hand_over(line, 10, selling=False, from_=60.0) > 950
    assert hand_over(line, 60, selling=True, from_=70.0) == 0, "the urgent have used it up"


def test_a_line_that_nobody_gets_through_is_tried_by_one_at_a_time() -> None:
    line = Line()
    line.nobody_gets_through(0.0, LONGEST, None)
    assert line.room(0.4, 0, 0, BATCH) == Room(0, 0)
    assert line.room(0.6, 0, 0, BATCH) == Room(1, 1)
    assert line.room(0.6, 1, 0, BATCH) == Room(0, 0)
    line.nobody_gets_through(0.6, LONGEST, None)
    assert line.room(1.5, 0, 0, BATCH) == Room(0, 0), "twice as long"
    line.somebody_gets_through()
    assert line.room(1.5, 0, 0, BATCH) == Room(50, 50)


def test_many_that_fail_together_are_one_failure() -> None:
    line = Line()
    for _ in range(40):
        line.nobody_gets_through(0.0, LONGEST, None)
    assert line.pause == 0.5


@pytest.mark.parametrize(("asked", "wait"), [(2, 2), (0.1, 0.5), (86_400, 900)])
def test_a_provider_may_say_when_to_come_again(asked: float, wait: float) -> None:
    line = Line()
    line.nobody_gets_through(0.0, LONGEST, timedelta(seconds=asked))
    assert line.room(wait - 0.01, 0, 0, BATCH) == Room(0, 0)
    assert line.room(wait + 0.01, 0, 0, BATCH) == Room(1, 1)


def test_it_is_passed_over_only_after_some_time_and_until_somebody_gets_through() -> None:
    line, after = Line(), timedelta(seconds=30)
    assert not line.is_passed_over(99.0, after)
    line.nobody_gets_through(0.0, LONGEST, None)
    line.nobody_gets_through(20.0, LONGEST, None)
    assert not line.is_passed_over(29.0, after)
    assert line.is_passed_over(31.0, after)
    line.somebody_gets_through()
    assert not line.is_passed_over(32.0, after)
