"""What a history is held against: who was told in time, and what `--check` makes of differences."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from database.base import Base, Sessions
from database.customers import Customer, Simulation
from database.events import Event
from database.support import Case
from database.timeline import TimelineLine
from domain.clock import REAL_TIME
from domain.delivery import DeliveryState
from domain.policies import CaseKind, Priority
from domain.processes import Phase
from domain.support import CaseState
from domain.tasks import Role
from replay import command
from replay.history import CUSTOMER, Entry, HistoricOrder, History
from replay.instance import Instance
from replay.player import World
from replay.reconciliation import Reconciliation, _Comparison, _Product, _read
from replay.report import print_reconciliation
from supervisor.errors import Refused
from supervisor.run_file import RunFile
from tests.replay.shop import varied_shop

PROMISED = date(2017, 3, 20)  # which ends at 3 in the morning, UTC, where the shop is
BEFORE, AFTER = (datetime(2017, 3, day, 12, tzinfo=UTC) for day in (19, 22))
JUST_BEFORE, AT_ITS_END = (datetime(2017, 3, 21, hour, tzinfo=UTC) for hour in (2, 3))


def history(*orders: HistoricOrder, scores: Mapping[str, int] | None = None) -> History:
    begun = Entry(BEFORE, "c1", CUSTOMER, "c1/made", BEFORE, {})
    return History(
        [begun],
        "America/Sao_Paulo",
        orders={order.reference: order for order in orders},
        scores=dict(scores or {}),
    )


def order(reference: str, *, late: bool) -> HistoricOrder:
    return HistoricOrder(
        reference, "c1", "delivered", DeliveryState.DELIVERED, PROMISED, delivered=True, late=late
    )


def known(
    *, told_at: datetime | None = None, delivered_late: bool = True, told_late: bool = False
) -> SimpleNamespace:
    """An order as the product has it."""
    return SimpleNamespace(told_at=told_at, delivered_late=delivered_late, told_late=told_late)


def compared(said: History, **product: Any) -> _Comparison:
    return _Comparison(said, cast(_Product, SimpleNamespace(**product)))


@pytest.mark.parametrize(
    ("told_at", "before", "after"),
    [(BEFORE, 1, 0), (JUST_BEFORE, 1, 0), (AT_ITS_END, 0, 1), (AFTER, 0, 1)],
)
def test_who_is_told_while_the_day_lasts_where_he_lives_is_told_before(
    told_at: datetime, before: int, after: int
) -> None:
    found = compared(history(order("a", late=True)), orders={"a": known(told_at=told_at)})
    late = found.late()
    assert (late["told_before"], late["told_after"], late["noticed"]) == (before, after, 1)
    assert found.disagreements == []  # how fast it was is for the reader to judge


@pytest.mark.parametrize(
    "ours",
    [{}, {"a": known()}, {"a": known(told_at=AFTER, delivered_late=False)}],
    ids=["unknown", "nobody told", "not late for us"],
)
def test_a_late_order_that_is_not_noticed_or_told_is_a_disagreement(
    ours: dict[str, SimpleNamespace],
) -> None:
    found = compared(history(order("a", late=True)), orders=ours)
    late = found.late()
    assert (late["file"], late["noticed"], late["told_before"], late["told_after"]) == (1, 0, 0, 0)
    assert found.disagreements == [
        "1 late orders were not noticed, or the customer was not told (a)"
    ]


def test_an_order_on_time_is_neither_late_nor_told_so() -> None:
    ours = {"a": known(delivered_late=True, told_late=True), "b": known(delivered_late=False)}
    found = compared(history(order("a", late=False), order("b", late=False)), orders=ours)
    assert found.late()["false_alarms"] == 1
    assert found.disagreements == [
        "1 orders count as delivered late; by the file they were not (a)"
    ]


def test_each_bad_review_has_a_recovery_case_with_a_deadline() -> None:
    said = history(scores={"r1": 1, "r2": 2, "r3": 3})
    reviews = {"r1": 1, "r2": 2, "r3": 3}
    enough = SimpleNamespace(cases=2, without_deadline=0)
    found = compared(said, reviews=reviews, recoveries=enough)
    found.reviews()
    assert found.disagreements == []
    lacking = SimpleNamespace(cases=1, without_deadline=1)
    found = compared(said, reviews=reviews, recoveries=lacking)
    found.reviews()
    assert found.disagreements == [
        "1 recovery cases for 2 reviews of 1 or 2",
        "1 recovery cases have no deadline",
    ]


async def test_how_far_processes_were_behind_is_read_from_what_is_stored(
    sessions: Sessions,
) -> None:
    """From an accepted event to the first step it caused, and to the recovery case."""
    simulation = Simulation(
        id=uuid4(), name="test", machine_origin=BEFORE, business_origin=BEFORE, speed=1.0
    )
    customer = Customer(id=uuid4(), reference="c1", name="Ada", simulation_id=simulation.id)
    async with sessions.begin() as session:
        session.add(simulation)
        await session.flush()
        session.add(customer)
        await session.flush()
        for event_id, kind, key, seconds in (
            ("e1", "order_placed", "order_placed", 0.5),
            ("e2", "order_approved", "e2", 2),
            ("e3", "order_delivered", "heard/e3", 30),
            ("e4", "review_received", "e4", None),  # its process has not come to it yet
        ):
            session.add_all(happened(customer.id, event_id, kind, key, seconds))
        session.add(
            Case(
                id=uuid4(),
                reference="R-1",
                customer_id=customer.id,
                **{"kind": CaseKind.RECOVERY, "state": CaseState.OPEN, "queue": Role.SUPPORT_AGENT},
                priority=Priority.HIGH,
                event_id="e3",
                opened_at=BEFORE,
                recorded_at=BEFORE + timedelta(seconds=95.5),
            )
        )
    instance = cast(Instance, SimpleNamespace(sessions=sessions))
    product = await _read(instance, World(simulation.id, REAL_TIME))
    assert product.lags == {"p50": 2, "p99": 30, "max": 30}
    assert float(product.recoveries.slowest) == 95.5


def happened(
    customer_id: UUID, event_id: str, kind: str, step_key: str, seconds: float | None
) -> list[Base]:
    """An event, and the step that it caused so many seconds later."""
    whose = {"customer_id": customer_id, "workflow_id": f"about/{event_id}", "kind": kind}
    event = Event(
        event_id=event_id,
        occurred_at=BEFORE,
        accepted_at=BEFORE,
        **{"body": {}, "fingerprint": "", "accepted_by": "test"},
        **whose,
    )
    if seconds is None:
        return [event]
    step = TimelineLine(
        step_key=step_key,
        phase=Phase.DURING,
        happened_at=BEFORE,
        recorded_at=BEFORE + timedelta(seconds=seconds),
        facts={},
        **whose,
    )
    return [event, step]


def outcome(**fields: Any) -> Reconciliation:
    lag = {"p50": 0.0, "p99": 0.1, "max": 0.2}
    none: dict[str, Any] = {
        **{key: {} for key in ("promises", "messages", "processes")},
        **{key: [] for key in ("disagreements", "assumptions", "skipped_rows")},
        **dict.fromkeys(("reviews_1_2", "recovery_cases", "duplicates", "lost", "unexplained"), 0),
        **dict.fromkeys(("customers", "events", "repeated_requests", "elapsed_s"), 0),
        "orders": {"file": {}, "product": {}},
        "late": dict.fromkeys(("file", "noticed", "told_before", "told_after", "false_alarms"), 0),
        "overdue": {"file": 0, "noticed": 0},
        "surveys": dict.fromkeys(
            ("asked", "reminded", "answered_by_link", "answered_by_review"), 0
        ),
        "simulation": "",
        "lag_s": lag,
        "processes_lag_s": lag,
        "processes_lag_days": 0,
        "recovery_slowest_s": 0,
    }
    return Reconciliation.model_validate({**none, **fields})


@pytest.mark.parametrize(
    "fault",
    [{}, {"disagreements": ["…"]}, {"duplicates": 1}, {"lost": 1}, {"unexplained": 1}],
    ids=lambda fault: next(iter(fault), "none"),
)
@pytest.mark.parametrize("check", [True, False])
def test_any_fault_is_exit_code_1_where_it_is_asked_for(
    fault: dict[str, Any], check: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def played(*_: object) -> Reconciliation:
        return outcome(**fault)

    monkeypatch.setattr(command, "_replay", played)
    directory = varied_shop().write(tmp_path)
    run = cast(RunFile, None)  # nobody is called
    code = command.run_replay(run, directory, day=1, check=check, zone="America/Sao_Paulo")
    assert code == (1 if check and fault else 0)


def test_what_somebody_else_runs_is_not_killed(tmp_path: Path) -> None:
    directory = varied_shop().write(tmp_path)
    run = cast(RunFile, SimpleNamespace(pids={"worker": 4711}))
    with pytest.raises(Refused, match="temporal was not started by this instance"):
        command.run_replay(run, directory, day=1, kills=5, zone="America/Sao_Paulo")


def test_a_reader_sees_how_far_behind_it_was() -> None:
    slow = outcome(
        recovery_slowest_s=1495.6,
        processes_lag_s={"p50": 500.0, "p99": 1400.0, "max": 1490.0},
        processes_lag_days=745.0,
    )
    console = Console(record=True, width=120)
    print_reconciliation(console, slow)
    told = console.export_text()
    assert "1495.6 s" in told
    assert "500.00 s / 1400.00 s / 1490.00 s" in told
    assert "745.0" in told
