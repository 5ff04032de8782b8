"""The journey curve: what each moment counts, and long waits."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.journey import (
    REACH,
    RULES,
    Happened,
    Moment,
    moments_of,
    promise_moment,
    remembered,
)
from domain.promises import PromiseState
from domain.timeline import words_for

BEGAN = datetime(2026, 3, 2, 9, tzinfo=UTC)


def _after(days: float, kind: str, case: str = "", **facts: object) -> Happened:
    return Happened(BEGAN + timedelta(days=days), kind, facts, kind, case)


def _values(*lines: Happened) -> list[int]:
    return [moment.value for moment in moments_of(lines)]


def test_moments_come_in_the_order_of_time_and_only_if_they_are_felt() -> None:
    lines = (_after(9, "promise_missed"), _after(1, "order_placed"), _after(2, "order_approved"))
    assert _values(*lines) == [1, -2]
    assert moments_of([]) == []


@pytest.mark.parametrize(("verdict", "value"), [("promoter", 3), ("passive", 1), ("detractor", -3)])
def test_a_score_is_what_the_customer_said(verdict: str, value: int) -> None:
    assert _values(_after(0, "feedback_received", verdict=verdict)) == [value]


def test_feedback_that_no_rule_knows_is_not_felt() -> None:
    assert _values(_after(0, "feedback_received", verdict="furious")) == []


@pytest.mark.parametrize(("days", "felt"), [(0.5, []), (1, []), (2, [-1]), (3, [-1]), (4, [-2])])
def test_a_long_wait_for_an_answer_is_felt_when_it_ends(days: float, felt: list[int]) -> None:
    case = "case/1"
    waited = moments_of([_after(0, "case_opened", case), _after(days, "case_answered", case)])
    assert [moment.value for moment in waited] == [-1, *felt]
    if felt:
        assert waited[-1].at == BEGAN + timedelta(days=days)
        assert f"Waited {days} days" in waited[-1].words


def test_one_case_is_not_answered_by_another_and_a_second_answer_ends_no_wait() -> None:
    lines = (
        _after(0, "case_opened", "case/1"),
        _after(0, "case_opened", "case/2"),
        _after(0.5, "case_answered", "case/2"),
        _after(5, "case_answered", "case/1"),
        _after(9, "case_answered", "case/1"),
    )
    assert _values(*lines) == [-1, -1, -2]


@pytest.mark.parametrize("state", PromiseState)
def test_promises_count_once_they_are_settled(state: PromiseState) -> None:
    moment = promise_moment(BEGAN, state, "gift-wrapped")
    expected = {PromiseState.KEPT: 1, PromiseState.PARTLY_KEPT: -1, PromiseState.BROKEN: -2}
    assert (moment and moment.value) == expected.get(state)


def test_the_peak_and_the_end_are_remembered() -> None:
    def moments(*values: int) -> list[Moment]:
        return [Moment(BEGAN, value, "", "") for value in values]

    assert remembered([]) is None
    assert remembered(moments(2)) == 2
    assert remembered(moments(1, -3, 1, 2)) == -0.5


def test_every_rule_is_of_a_line_that_there_is_and_within_reach() -> None:
    for kind, (value, because) in RULES.items():
        assert 0 < abs(value) <= REACH
        assert because
        assert words_for(kind, {}) != kind.replace("_", " ").capitalize(), kind
