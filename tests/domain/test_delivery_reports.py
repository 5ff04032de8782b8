"""Reports come late, twice and in any order; what follows from them is always the same."""

from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.delivery_reports import ReportKind, next_state, was_taken
from domain.messages import MessageState

STATES = st.sampled_from(MessageState)
KINDS = st.lists(st.sampled_from(ReportKind), max_size=8)


def after(state: MessageState, kinds: list[ReportKind]) -> MessageState:
    return reduce(next_state, kinds, state)


@given(STATES, KINDS, st.randoms())
def test_neither_order_nor_repetition_changes_the_end(
    state: MessageState, kinds: list[ReportKind], chance: Random
) -> None:
    shuffled = kinds + [kind for kind in kinds if chance.random() < 0.5]
    chance.shuffle(shuffled)
    assert after(state, shuffled) is after(state, kinds)


@given(KINDS, KINDS, STATES)
def test_our_own_acceptance_may_come_between_any_two_reports(
    before: list[ReportKind], later: list[ReportKind], state: MessageState
) -> None:
    """The dispatcher's yes says what a report of acceptance says."""
    first = after(state, [ReportKind.ACCEPTED, *before, *later])
    assert after(state, [*before, ReportKind.ACCEPTED, *later]) is first


@given(STATES, KINDS)
def test_what_was_taken_is_never_sent_again(state: MessageState, kinds: list[ReportKind]) -> None:
    end = after(state, kinds)
    if any(was_taken(kind) for kind in kinds):
        assert end.settled
        assert end not in (MessageState.UNKNOWN, MessageState.SUPPRESSED, MessageState.CANCELLED)
    if all(kind is ReportKind.OTHER for kind in kinds):
        assert end is state


@pytest.mark.parametrize(
    ("told", "end"),
    [
        ("accepted delivered", "delivered"),
        ("delayed delivered", "delivered"),
        ("delivered bounced", "bounced"),  # an asynchronous bounce
        ("bounced complained", "complained"),
        ("delayed failed", "failed"),
        ("delayed expired", "failed"),
        ("expired delivered", "delivered"),
        ("failed delivered", "delivered"),
        ("delayed", "accepted"),
        ("other", "sending"),
    ],
)
def test_what_is_known_last_holds(told: str, end: str) -> None:
    kinds = [ReportKind(kind) for kind in told.split()]
    assert after(MessageState.SENDING, kinds) is MessageState(end)
