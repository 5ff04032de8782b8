"""Whose turn it is: the urgent first, a share for them, and no series before another's turn."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from domain.fairness import Room, Turns, Waiting, Way, share_out
from domain.messages import Channel, MessageClass

NOW = datetime(2026, 3, 2, tzinfo=UTC)
OF = {
    "order_late": MessageClass.TRANSACTIONAL,
    "survey_request": MessageClass.SERVICE,
    "staff_digest": MessageClass.STAFF,
    "win_back": MessageClass.MARKETING,
    "marketing_value": MessageClass.MARKETING,
    "referral_request": MessageClass.MARKETING,
}
Ways = Mapping[tuple[MessageClass, Channel], Way]
WAYS: Ways = {(kind, channel): Way(open="smtp") for kind in MessageClass for channel in Channel}


def due(series: str, many: int = 1, *, minutes: int = 0, tried: bool = False) -> list[Waiting]:
    """Queued so many minutes after the others."""
    at = NOW + timedelta(minutes=minutes)
    return [
        Waiting(uuid4(), OF[series], Channel.EMAIL, series, at + timedelta(seconds=n), tried)
        for n in range(many)
    ]


def gone(
    waiting: list[Waiting],
    room: Room,
    turns: Turns | None = None,
    ways: Ways = WAYS,
) -> list[str]:
    going = share_out(waiting, ways, {"smtp": room}, turns or Turns())
    return [one.series for one, _ in going]


def test_the_urgent_classes_go_first_and_each_in_the_order_in_which_it_came() -> None:
    waiting = due("win_back") + due("staff_digest") + due("survey_request") + due("order_late", 2)
    assert gone(waiting, Room(9, 9)) == [
        *("order_late", "order_late", "survey_request", "staff_digest", "win_back")
    ]
    late, early = due("order_late", minutes=1), due("order_late")
    going = share_out(late + early, WAYS, {"smtp": Room(2, 2)}, Turns())
    assert [one for one, _ in going] == early + late


def test_a_small_series_has_its_turn_beside_a_big_one() -> None:
    waiting = due("win_back", 50) + due("marketing_value", 3, minutes=9) + due("referral_request")
    assert Counter(gone(waiting, Room(7, 7))) == {
        "win_back": 3,
        "marketing_value": 3,
        "referral_request": 1,
    }


def test_turns_are_remembered_when_only_one_may_go_at_a_time() -> None:
    turns, went = Turns(), []
    big, small = due("win_back", 100), due("marketing_value", 5, minutes=9)
    for _ in range(10):
        [(one, _)] = share_out(big + small, WAYS, {"smtp": Room(1, 1)}, turns)
        went.append(one.series)
        (big if one in big else small).remove(one)
    assert Counter(went) == {"win_back": 5, "marketing_value": 5}


def test_a_series_that_had_nothing_for_long_does_not_make_up_for_it() -> None:
    turns = Turns()
    gone(due("win_back", 100), Room(100, 100), turns)
    assert Counter(gone(due("win_back", 9) + due("marketing_value", 9), Room(6, 6), turns)) == {
        "win_back": 3,
        "marketing_value": 3,
    }


def test_what_has_failed_goes_another_way_and_what_is_new_tries_the_first() -> None:
    ways = {**WAYS, (MessageClass.TRANSACTIONAL, Channel.EMAIL): Way(("smtp",), "resend")}
    rooms = {"smtp": Room(1, 1), "resend": Room(9, 9)}
    [tried], new = due("order_late", tried=True), due("order_late", 2, minutes=1)
    going = share_out([tried, *new], ways, rooms, Turns())
    assert [name for _, name in going] == ["resend", "smtp", "resend"]


def test_with_nobody_else_to_ask_also_what_has_failed_tries_again() -> None:
    ways = {**WAYS, (MessageClass.TRANSACTIONAL, Channel.EMAIL): Way(("smtp", "resend"))}
    rooms = {"smtp": Room(0, 0), "resend": Room(1, 1)}
    going = share_out(due("order_late", 2, tried=True), ways, rooms, Turns())
    assert [name for _, name in going] == ["resend"]


SOME_WAITING = st.lists(
    st.tuples(st.sampled_from(sorted(OF)), st.integers(0, 99)).map(
        lambda one: due(one[0], minutes=one[1])[0]
    ),
    max_size=60,
)


@given(SOME_WAITING, st.integers(0, 40), st.integers(0, 40))
def test_nobody_goes_twice_no_room_is_exceeded_and_none_is_wasted(
    waiting: list[Waiting], most: int, selling: int
) -> None:
    going = [one for one, _ in share_out(waiting, WAYS, {"smtp": Room(most, selling)}, Turns())]
    sold = [one for one in going if one.message_class is MessageClass.MARKETING]
    urgent = [one for one in waiting if one.message_class is not MessageClass.MARKETING]
    assert len(set(going)) == len(going) <= most
    assert set(going) <= set(waiting)
    assert len(going) - len(sold) == min(len(urgent), most)
    left = min(selling, most - min(len(urgent), most))
    assert len(sold) == min(len(waiting) - len(urgent), left)


@given(SOME_WAITING, st.integers(0, 40))
def test_no_series_is_more_than_one_turn_ahead_of_another_that_waits(
    waiting: list[Waiting], most: int
) -> None:
    sold = [one for one in waiting if one.message_class is MessageClass.MARKETING]
    there = Counter(one.series for one in sold)
    went = Counter(gone(sold, Room(most, most)))
    for one in there:
        for other in there:
            assert went[one] <= went[other] + 1 or went[other] == there[other]
