"""The order on its way: laws of its states, and the moments at which it is looked at."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.delivery import (
    Concern,
    DeliveryState,
    DeliveryTerms,
    Effect,
    effect_of,
    may_be_reported,
    next_deadline,
    warn_at,
)
from domain.policies import DeliveryPolicy
from domain.promises import day_in, delivered_late, end_of_day

STATES = st.sampled_from(DeliveryState)
REPORTS = st.sampled_from([state for state in DeliveryState if state is not DeliveryState.PLACED])
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/Sao_Paulo",
        "Pacific/Kiritimati",  # +14
        "Etc/GMT+12",  # -12
        "Australia/Lord_Howe",  # half an hour of daylight saving
        "Asia/Kathmandu",
    ]
)
DAYS = st.dates(date(2016, 1, 1), date(2030, 12, 31))
MOMENTS = st.datetimes(datetime(2016, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 made aware by `timezones`


def reached(state: DeliveryState, reports: list[DeliveryState]) -> DeliveryState:
    for report in reports:
        if effect_of(state, report) is Effect.ADVANCES:
            state = report
    return state


# --- states --------------------------------------------------------------------------------------


@given(REPORTS, st.lists(REPORTS))
def test_a_repeat_changes_nothing(report: DeliveryState, before: list[DeliveryState]) -> None:
    assume(report is not DeliveryState.ATTEMPT_FAILED)  # each attempt is news
    once = reached(DeliveryState.PLACED, [*before, report])
    if once is report:
        assert effect_of(once, report) is Effect.REPEATS
    assert reached(once, [report]) is once or once is not report


@given(STATES, st.lists(REPORTS))
def test_a_final_state_is_left_only_by_a_correction(
    state: DeliveryState, reports: list[DeliveryState]
) -> None:
    assume(state.final)
    corrections = {
        (DeliveryState.DELIVERED, DeliveryState.RETURNED),
        (DeliveryState.DELIVERED, DeliveryState.CANCELLED),
        (DeliveryState.UNAVAILABLE, DeliveryState.DELIVERED),
    }
    for report in reports:
        after = reached(state, [report])
        assert after is state or (state, after) in corrections
        assert after.final, "what is over is never on its way again"
        state = after


@given(STATES, REPORTS)
def test_an_order_on_its_way_goes_forward_or_over(
    state: DeliveryState, report: DeliveryState
) -> None:
    assume(not state.final)
    after = reached(state, [report])
    if report.final:
        assert after is report, "any end may be reported at any time"
    order = list(DeliveryState)
    again = state is DeliveryState.ATTEMPT_FAILED and after is DeliveryState.DISPATCHED
    assert again or order.index(after) >= order.index(state)


@given(STATES)
def test_what_may_be_reported_is_what_has_an_effect(state: DeliveryState) -> None:
    for report in set(DeliveryState) - {DeliveryState.PLACED}:
        useful = effect_of(state, report) in (Effect.ADVANCES, Effect.FILLS_IN)
        assert (report in may_be_reported(state)) is useful


# --- the promised day ----------------------------------------------------------------------------


@given(MOMENTS, DAYS, st.timedeltas(timedelta(minutes=1), timedelta(days=60)), ZONES)
def test_the_warning_comes_after_the_order_and_before_the_day_has_passed(
    placed_at: datetime, promised_on: date, warn_before: timedelta, zone: str
) -> None:
    end = end_of_day(promised_on, zone)
    assume(placed_at < end)
    warning = warn_at(placed_at, promised_on, warn_before, zone)
    assert placed_at < warning < end
    assert end - warning <= warn_before or warning == placed_at + (end - placed_at) / 2


@given(DAYS, ZONES)
def test_a_promise_holds_to_the_last_moment_of_its_day_in_the_zone_of_the_customer(
    day: date, zone: str
) -> None:
    end = end_of_day(day, zone)
    last = end.astimezone(UTC) - timedelta(microseconds=1)
    assert day_in(zone, last) == day
    assert day_in(zone, end) == day + timedelta(days=1)
    assert not delivered_late(day, last, zone)
    assert delivered_late(day, end, zone)


@given(MOMENTS, ZONES)
def test_nothing_promised_is_nothing_late(moment: datetime, zone: str) -> None:
    assert not delivered_late(None, moment, zone)


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 7, 1), 24)]
)
def test_the_day_the_clock_changes_is_as_long_as_it_is(day: date, hours: int) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(day.year, day.month, day.day, tzinfo=berlin).astimezone(UTC)
    end = end_of_day(day, "Europe/Berlin").astimezone(UTC)
    assert end - start == timedelta(hours=hours)


@pytest.mark.parametrize("day", [date(2024, 2, 29), date(2026, 12, 31), date(2028, 2, 28)])
def test_the_end_of_a_day_is_the_beginning_of_the_next(day: date) -> None:
    assert end_of_day(day, "UTC").date() == day + timedelta(days=1)


# --- when an order is looked at ------------------------------------------------------------------

TERMS = st.builds(
    DeliveryTerms,
    policy=st.builds(
        DeliveryPolicy,
        chases=st.integers(0, 5),
        warn_before=st.timedeltas(timedelta(hours=1), timedelta(days=10)),
        chase_every=st.timedeltas(timedelta(hours=1), timedelta(days=10)),
    ),
    zone=ZONES,
    state=STATES,
    promised_on=st.none() | DAYS,
    placed_at=MOMENTS,
)


@given(TERMS, st.none() | DAYS, st.none() | MOMENTS)
def test_the_moments_of_an_order_come_in_order_each_once_and_end(
    terms: DeliveryTerms, expected_on: date | None, failed_at: datetime | None
) -> None:
    seen: set[str] = set()
    moments: list[datetime] = []
    while deadline := next_deadline(terms, seen, expected_on, failed_at):
        assert deadline.key not in seen
        seen.add(deadline.key)
        moments.append(deadline.at)
        assert len(moments) <= terms.policy.chases + 4
    assert moments == sorted(moments)
    if terms.state.final:
        assert not moments


@given(TERMS, DAYS)
def test_the_word_of_the_carrier_spares_the_warning_only_when_it_keeps_the_promise(
    terms: DeliveryTerms, expected_on: date
) -> None:
    assume(terms.promised_on is not None and not terms.state.final)
    concerns: set[Concern] = set()
    seen: set[str] = set()
    while deadline := next_deadline(terms, seen, expected_on):
        seen.add(deadline.key)
        concerns.add(deadline.concern)
    assert Concern.PROMISE_MISSED in concerns
    assert terms.promised_on is not None
    assert (Concern.PROMISE_ENDANGERED in concerns) is (expected_on > terms.promised_on)


@given(TERMS, DAYS)
def test_the_warnings_about_two_days_are_two(terms: DeliveryTerms, other: date) -> None:
    assume(terms.promised_on is not None and not terms.state.final and other != terms.promised_on)
    seen: set[str] = set()
    while deadline := next_deadline(terms, seen):
        seen.add(deadline.key)
    moved = terms.model_copy(update={"promised_on": other})
    concerns = set()
    while deadline := next_deadline(moved, seen):
        seen.add(deadline.key)
        concerns.add(deadline.concern)
    assert concerns == {Concern.PROMISE_ENDANGERED, Concern.PROMISE_MISSED}
