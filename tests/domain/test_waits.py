"""Who owed the next move while a customer waited, and how long beyond what was promised."""

from datetime import UTC, datetime, timedelta

from domain.waits import Owed, Side, waits

AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_wait_on_us_is_late_from_what_was_promised_on() -> None:
    owed = Owed(Side.US, "an answer", AT, AT + 9 * HOUR, due=AT + 4 * HOUR)
    first, second, last = waits([AT, AT + 2 * HOUR, AT + 12 * HOUR], [owed], AT + 13 * HOUR)
    assert (first.lasts, first.late) == (2 * HOUR, timedelta(0))
    assert (second.lasts, second.late) == (10 * HOUR, 5 * HOUR)  # answered after nine
    assert (last.ends, last.lasts, last.owing) == (None, HOUR, ())


def test_a_move_that_is_still_owed_gets_later_with_time() -> None:
    owed = Owed(Side.US, "the order", AT, None, due=AT + HOUR)
    assert [wait.late for wait in waits([AT], [owed], AT + 3 * HOUR)] == [2 * HOUR]


def test_what_the_customer_owes_is_never_late() -> None:
    ours = Owed(Side.US, "the order", AT, None, due=AT + 9 * HOUR)
    theirs = Owed(Side.CUSTOMER, "an answer to our survey", AT, None, due=AT + HOUR)
    (wait,) = waits([AT], [ours, theirs], AT + 3 * HOUR)
    assert [one.owed.by for one in wait.owing] == [Side.US, Side.CUSTOMER]
    assert wait.late == timedelta(0)


def test_what_was_settled_before_is_not_owed() -> None:
    owed = Owed(Side.US, "an answer", AT - HOUR, AT)
    assert waits([AT], [owed], AT + HOUR)[0].owing == ()
    assert waits([], [owed], AT) == []
