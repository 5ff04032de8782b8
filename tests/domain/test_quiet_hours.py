"""Quiet hours and limits: by the clock on the customer's wall, also in the nights it is changed."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.quiet_hours import ContactCap, QuietHours

ZONES = (
    *("UTC", "America/Sao_Paulo", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"),
    *("Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu", "Africa/Casablanca", "Asia/Tehran"),
)
NIGHT = QuietHours(begins=time(21), ends=time(8))
MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 made aware by `timezones`
TIMES = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))
QUIET = st.builds(QuietHours, begins=TIMES, ends=TIMES).filter(lambda q: q.begins != q.ends)


@given(QUIET, MOMENTS, st.sampled_from(ZONES))
def test_what_is_held_goes_when_they_end_and_not_before(
    quiet: QuietHours, at: datetime, zone: str
) -> None:
    over_at = quiet.over_at(at, zone)
    if over_at is None:
        return
    assert at < over_at <= at + timedelta(hours=26)  # a day of 25 hours is the longest
    assert quiet.over_at(over_at, zone) is None
    assert quiet.over_at(over_at - timedelta(seconds=1), zone) == over_at


@given(QUIET, MOMENTS, st.sampled_from(ZONES))
def test_nobody_is_disturbed_while_the_wall_says_quiet(
    quiet: QuietHours, at: datetime, zone: str
) -> None:
    wall = at.astimezone(ZoneInfo(zone)).time()
    if quiet.begins < quiet.ends:
        within = quiet.begins <= wall < quiet.ends
    else:
        within = wall >= quiet.begins or wall < quiet.ends
    if within:
        assert quiet.over_at(at, zone) is not None


def test_the_night_in_which_clocks_go_forward_is_an_hour_shorter() -> None:
    at = datetime(2026, 3, 28, 20, tzinfo=UTC)  # 21:00 in Berlin
    assert NIGHT.over_at(at, "Europe/Berlin") == at + timedelta(hours=10)


def test_the_night_in_which_they_go_back_is_an_hour_longer() -> None:
    at = datetime(2026, 10, 24, 19, tzinfo=UTC)  # 21:00 in Berlin
    assert NIGHT.over_at(at, "Europe/Berlin") == at + timedelta(hours=12)


def test_an_end_that_the_wall_shows_twice_is_the_second() -> None:
    until_half_past_two = QuietHours(begins=time(21), ends=time(2, 30))
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, for the first time
    assert until_half_past_two.over_at(first, "Europe/Berlin") == first + timedelta(hours=1)


def test_an_end_that_the_wall_never_shows_comes_late_rather_than_early() -> None:
    until_half_past_two = QuietHours(begins=time(21), ends=time(2, 30))
    at = datetime(2026, 3, 29, 0, tzinfo=UTC)  # 01:00 in Berlin; from 02:00 it is 03:00
    half_past_three = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert until_half_past_two.over_at(at, "Europe/Berlin") == half_past_three


@pytest.mark.parametrize(
    ("zone", "quiet"), [("Pacific/Kiritimati", False), ("UTC", True), ("Etc/GMT+12", False)]
)
def test_it_is_the_customers_own_night(zone: str, quiet: bool) -> None:
    at = datetime(2026, 2, 28, 22, tzinfo=UTC)  # noon of the next day, night, ten in the morning
    assert (NIGHT.over_at(at, zone) is not None) is quiet


# --- how often at most ----------------------------------------------------------------------------

CAPS = st.builds(
    ContactCap,
    at_most=st.integers(1, 5),
    within=st.timedeltas(timedelta(minutes=1), timedelta(days=60)),
)


@given(CAPS, MOMENTS, st.lists(st.timedeltas(timedelta(0), timedelta(days=90)), max_size=12))
def test_the_limit_is_kept_whatever_was_sent_before(
    cap: ContactCap, at: datetime, ago: list[timedelta]
) -> None:
    sent = [at - each for each in ago]
    free_at = cap.free_at(at, sent)
    lately = [moment for moment in sent if moment > at - cap.within]
    assert (free_at is None) is (len(lately) < cap.at_most)
    if free_at is not None:
        assert at < free_at <= at + cap.within
        assert cap.free_at(free_at, sent) is None
        assert cap.free_at(free_at - timedelta(microseconds=1), sent) == free_at
