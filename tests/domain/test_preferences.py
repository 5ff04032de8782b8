"""What a customer may choose, and how long a rest lasts."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.messages import Channel, Purpose
from domain.preferences import PAUSES, choices, pause_until

ZONES = st.sampled_from(
    ["UTC", "America/Sao_Paulo", "Pacific/Kiritimati", "Etc/GMT+12", "Africa/Cairo"]
)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 made aware by `timezones`


@given(MOMENTS, st.sampled_from(PAUSES), ZONES)
def test_a_rest_lasts_whole_months_of_the_calendar_where_the_customer_lives(
    now: datetime, months: int, zone: str
) -> None:
    until = pause_until(now, months, zone)
    begins, ends = now.astimezone(ZoneInfo(zone)), until.astimezone(ZoneInfo(zone))
    assert (ends.year - begins.year) * 12 + ends.month - begins.month == months
    assert ends.day == begins.day or (ends + timedelta(days=1)).month != ends.month
    assert ends.day <= begins.day
    assert ends.hour <= 1  # midnight, or the first hour there is where the clock jumps over it


@given(MOMENTS, st.sampled_from(PAUSES), ZONES)
def test_the_same_wish_later_that_day_is_the_same_rest(
    now: datetime, months: int, zone: str
) -> None:
    local = now.astimezone(ZoneInfo(zone))
    earlier = local.replace(hour=12, minute=0, second=0, microsecond=0)
    later = earlier.replace(hour=23)
    assert pause_until(earlier, months, zone) == pause_until(later, months, zone)


@pytest.mark.parametrize(
    ("day", "months", "ends"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2023-11-30", 3, "2024-02-29"),
        ("2026-08-31", 6, "2027-02-28"),
    ],
)
def test_a_month_without_that_day_ends_it_on_its_last(day: str, months: int, ends: str) -> None:
    now = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    assert pause_until(now, months, "UTC").date().isoformat() == ends


def test_only_channels_with_an_address_are_offered_and_only_mails_are_tracked() -> None:
    assert choices([], tracking=True) == []
    every = choices(list(Channel), tracking=True)
    assert (Channel.SMS, Purpose.TRACKING) not in every
    assert (Channel.EMAIL, Purpose.TRACKING) in choices([Channel.EMAIL], tracking=True)
    assert all(
        purpose is not Purpose.ORDERS for _, purpose in choices(list(Channel), tracking=True)
    )
