"""The stage of a customer follows from what is open: what he would call most pressing."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.lifecycle import LifecycleState, stage_of
from domain.policies import CaseKind
from domain.processes import ProcessKind, Stage

IDS = st.uuids()
STATES = st.builds(
    LifecycleState,
    open_processes=st.dictionaries(st.text(max_size=5), st.sampled_from(ProcessKind), max_size=3),
    open_orders=st.lists(IDS, max_size=2).map(tuple),
    open_cases=st.dictionaries(IDS, st.sampled_from(CaseKind), max_size=2),
    lost=st.booleans(),
    ordered_at=st.lists(st.just(datetime(2026, 1, 1, tzinfo=UTC)), max_size=2).map(tuple),
)


@given(STATES)
def test_an_open_case_is_the_most_pressing_then_an_order_on_its_way(state: LifecycleState) -> None:
    stage = stage_of(state)
    assert (stage is Stage.SUPPORT) is bool(state.open_cases)
    if not state.open_cases:
        assert (stage is Stage.DELIVERY) is bool(state.open_orders)


@given(STATES)
def test_a_customer_is_quiet_or_lost_only_when_nothing_is_open(state: LifecycleState) -> None:
    stage = stage_of(state)
    if stage in (Stage.QUIET, Stage.LOST):
        assert not state.open_cases
        assert not state.open_orders
        assert (stage is Stage.LOST) is state.lost


@given(STATES, st.sampled_from(ProcessKind))
def test_a_process_that_starts_never_makes_a_customer_quiet(
    state: LifecycleState, kind: ProcessKind
) -> None:
    stages = {
        ProcessKind.MARKETING: Stage.MARKETING,
        ProcessKind.FOLLOW_UP: Stage.FOLLOW_UP,
        ProcessKind.RETENTION: Stage.RETENTION,
    }
    if kind in stages:
        assert stage_of(state.with_process("next", kind)) not in (Stage.QUIET, Stage.LOST)
        assert stage_of(LifecycleState().with_process("next", kind)) is stages[kind]


@given(STATES)
def test_what_a_run_remembers_survives_the_way_into_the_next(state: LifecycleState) -> None:
    assert LifecycleState.model_validate_json(state.model_dump_json()) == state


def test_a_state_of_an_older_version_is_read() -> None:
    assert LifecycleState.model_validate({}) == LifecycleState()
    assert LifecycleState.model_validate({"of_a_later_version": 1}) == LifecycleState()


@given(IDS)
def test_the_phases_follow_the_purchase(order_id: UUID) -> None:
    assert stage_of(LifecycleState(open_orders=(order_id,))) is Stage.DELIVERY
