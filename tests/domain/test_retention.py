"""Retention: how long a silence of this customer must last to mean something."""

from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.policies import RetentionPolicy
from domain.retention import silence_after

MOMENTS = st.datetimes(datetime(2016, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 made aware by `timezones`
ORDERS = st.lists(MOMENTS, max_size=12)
POLICIES = st.builds(
    RetentionPolicy,
    silence=st.timedeltas(timedelta(days=1), timedelta(days=700)),
    rhythm_factor=st.floats(1.1, 20),
    shortest_silence=st.timedeltas(timedelta(days=1), timedelta(days=90)),
)


@given(POLICIES, ORDERS)
def test_a_rhythm_takes_two_orders(policy: RetentionPolicy, orders: list[datetime]) -> None:
    silence = silence_after(policy, orders)
    if len(orders) < 2:
        assert silence == policy.silence
    else:
        assert silence >= policy.shortest_silence


@given(POLICIES, ORDERS, st.randoms())
def test_the_order_in_which_orders_are_known_says_nothing(
    policy: RetentionPolicy, orders: list[datetime], shuffle: Random
) -> None:
    shuffled = list(orders)
    shuffle.shuffle(shuffled)
    assert silence_after(policy, shuffled) == silence_after(policy, orders)


@given(POLICIES, MOMENTS, st.timedeltas(timedelta(days=1), timedelta(days=300)), st.integers(2, 9))
def test_who_orders_regularly_is_silent_after_so_many_intervals(
    policy: RetentionPolicy, first: datetime, interval: timedelta, count: int
) -> None:
    orders = [first + n * interval for n in range(count)]
    expected = max(interval * policy.rhythm_factor, policy.shortest_silence)
    assert abs(silence_after(policy, orders) - expected) < timedelta(seconds=1)


@given(POLICIES, MOMENTS, st.timedeltas(timedelta(days=1), timedelta(days=300)))
def test_who_orders_less_often_is_given_longer(
    policy: RetentionPolicy, first: datetime, interval: timedelta
) -> None:
    often = silence_after(policy, [first, first + interval])
    seldom = silence_after(policy, [first, first + 2 * interval])
    assert often <= seldom
