"""The clock: business time and machine time are two readings of one line."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.clock import REAL_TIME, Clock

MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 made aware by `timezones`
CLOCKS = st.builds(
    Clock,
    machine_origin=MOMENTS,
    business_origin=MOMENTS,
    speed=st.floats(0.01, 5_000_000),
)


@given(CLOCKS, MOMENTS)
def test_the_machine_time_of_a_business_time_is_read_back(clock: Clock, moment: datetime) -> None:
    there_and_back = clock.business(clock.machine(moment))
    # A microsecond of the machine's is `speed` microseconds of business.
    assert abs(there_and_back - moment) <= timedelta(microseconds=2 + 2 * clock.speed)


@given(CLOCKS, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=30)))
def test_time_never_runs_backwards(clock: Clock, moment: datetime, later: timedelta) -> None:
    assert clock.machine(moment) <= clock.machine(moment + later)


@given(CLOCKS)
def test_the_origins_coincide(clock: Clock) -> None:
    assert clock.machine_origin is not None
    assert clock.business(clock.machine_origin) == clock.business_origin


def test_a_clock_that_ran_past_the_calendar_stands_still_there() -> None:
    origin = datetime(2026, 1, 1, tzinfo=UTC)
    clock = Clock(machine_origin=origin, business_origin=origin, speed=10_000_000)
    for away in (timedelta(hours=7), timedelta(days=1), timedelta(days=365)):
        assert clock.business(origin + away) == clock.business(origin + timedelta(days=400))
        assert (
            clock.business(origin - away) < clock.business(origin) < clock.business(origin + away)
        )
    assert clock.business(origin + timedelta(days=1)).year == 9990


@given(MOMENTS)
def test_a_real_customer_lives_by_the_time_of_the_machine(moment: datetime) -> None:
    assert REAL_TIME.business(moment) == REAL_TIME.machine(moment) == moment


@given(CLOCKS)
def test_a_clock_survives_the_way_into_a_history(clock: Clock) -> None:
    assert Clock.model_validate_json(clock.model_dump_json()) == clock
