"""Support: a clock that rests, priorities that only rise, tasks with outcomes to choose from."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.policies import CaseKind, Priority, SupportPolicy
from domain.support import ALLOWED, CaseInput, CaseState, StopClock, first_task
from domain.tasks import OUTCOMES, TaskKind, task_id_of

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
DURATIONS = st.timedeltas(timedelta(0), timedelta(days=30))
BUDGETS = st.timedeltas(timedelta(minutes=1), timedelta(days=30))
# Stretches of time, in turn running and resting.
STRETCHES = st.lists(st.tuples(st.booleans(), DURATIONS), max_size=12)


@given(BUDGETS, STRETCHES)
def test_a_rest_costs_nothing_and_running_costs_what_it_lasts(
    budget: timedelta, stretches: list[tuple[bool, timedelta]]
) -> None:
    clock, now, ran = StopClock(left=budget, since=NOON), NOON, timedelta(0)
    for runs, lasts in stretches:
        clock = clock.started(now) if runs else clock.rested(now)
        assert (clock.due_at is None) is not runs
        now += lasts
        ran += lasts if runs else timedelta(0)
    assert clock.started(now).due_at == now + budget - ran if clock.since is None else True
    assert clock.rested(now).left == budget - ran


@given(BUDGETS, DURATIONS, DURATIONS)
def test_starting_what_runs_and_resting_what_rests_changes_nothing(
    budget: timedelta, first: timedelta, second: timedelta
) -> None:
    running = StopClock(left=budget, since=NOON)
    assert running.started(NOON + first) == running
    rested = running.rested(NOON + first)
    assert rested.rested(NOON + first + second) == rested


@given(BUDGETS, DURATIONS)
def test_a_clock_is_never_given_time_by_a_report_from_the_past(
    budget: timedelta, before: timedelta
) -> None:
    assert StopClock(left=budget, since=NOON).rested(NOON - before).left == budget


def test_a_raised_priority_is_higher_until_there_is_none() -> None:
    for lower, higher in pairwise(Priority):
        assert lower.raised() is higher
    assert list(Priority)[-1].raised() is list(Priority)[-1]


def test_more_urgent_is_sooner() -> None:
    policy = SupportPolicy()
    for clocks in (policy.first_response, policy.resolution):
        assert list(clocks) == list(Priority)
        assert all(later > sooner for later, sooner in pairwise(clocks.values()))


@given(st.sampled_from(CaseKind), st.sampled_from(Priority), st.none() | st.just(NOON))
def test_a_new_case_asks_one_person_by_one_moment(
    kind: CaseKind, priority: Priority, contact_by: datetime | None
) -> None:
    opened = CaseInput.model_validate(
        {
            "case_id": "00000000-0000-0000-0000-000000000001",
            "customer_id": "00000000-0000-0000-0000-000000000002",
            "kind": kind,
            "priority": priority,
            "opened_at": NOON,
            "event_id": "e",
            "contact_by": contact_by,
        }
    )
    policy = SupportPolicy()
    task = first_task(policy, opened)
    assert task.due_at == (contact_by or NOON + policy.first_response[priority])
    assert (task.kind is TaskKind.CONTACT_DISAPPOINTED) is (kind is CaseKind.RECOVERY)


def test_every_state_says_what_is_allowed_and_a_closed_case_allows_nothing() -> None:
    assert set(ALLOWED) == set(CaseState)
    assert ALLOWED[CaseState.CLOSED] == ()
    assert ALLOWED[CaseState.RESOLVED] == ("reopen",)


def test_every_task_has_outcomes_to_choose_from() -> None:
    assert set(OUTCOMES) == set(TaskKind)
    assert all(OUTCOMES.values())


@given(st.text(), st.text(), st.text(), st.text())
def test_a_task_is_known_by_its_process_and_its_key(a: str, b: str, c: str, d: str) -> None:
    same = (a, b) == (c, d) or f"{a}/{b}" == f"{c}/{d}"
    assert (task_id_of(a, b) == task_id_of(c, d)) is same
