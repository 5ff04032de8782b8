"""The recurring work: what each run does, once however often it is repeated, and its schedules."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from temporalio.client import (
    Client,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.sweeps import SweepActivities
from database.base import Sessions
from database.customers import Consent, Customer
from database.events import IdempotentAnswer, KpiSnapshot
from database.feedback import Feedback, Survey
from database.messages import Message
from database.orders import Order
from database.processes import Lifecycle, ProcessRow
from database.promises import Promise
from database.staff import SignInFailure, Staff, StaffSession
from database.support import Case
from database.timeline import TimelineLine
from domain.contacts import ConsentState
from domain.delivery import DeliveryState
from domain.follow_up import NeedStated, Verdict
from domain.messages import Channel, MessageClass, MessageState, Purpose, Template
from domain.policies import CaseKind, PolicyKind, Priority, SurveyScale
from domain.processes import Command, follow_up_workflow_id, marketing_workflow_id
from domain.promises import PromiseKind, PromiseState
from domain.schedules import RECURRENCES, Occasion, ScheduleName, SweepResult, schedule_id
from domain.support import CaseState
from domain.tasks import Role
from tests.driving import DAY, HOUR, Drive
from tests.patience import becomes
from worker import bulk_worker, ensure_schedules

NOW = datetime(2026, 11, 20, 7, tzinfo=UTC)


# --- what fell through ---------------------------------------------------------------------------


@pytest.fixture
def sweeps(drive: Drive) -> SweepActivities:
    return SweepActivities(drive.sessions, drive.client)


async def _run(activity: Any, at: datetime | None = None) -> SweepResult:
    occasion = Occasion(at=at or datetime.now(UTC))
    result: SweepResult = await ActivityEnvironment().run(activity, occasion)
    return result


async def _quiet_customer(drive: Drive, silent_since: timedelta) -> UUID:
    """A customer whose row says that the silence is over its limit; no clock has noticed."""
    customer = await drive.customer()
    need = NeedStated(event_id=f"need-{uuid4()}", occurred_at=datetime.now(UTC), need_id=uuid4())
    await drive.tell(customer, "need_stated", need)
    async with drive.sessions.begin() as session:
        await session.execute(
            sa.update(Lifecycle)
            .where(Lifecycle.customer_id == customer)
            .values(silence_due_at=datetime.now(UTC) - silent_since)
        )
    return customer


async def _processes(drive: Drive, customer: UUID) -> list[str]:
    found = await drive.rows(
        sa.select(ProcessRow).where(ProcessRow.customer_id == customer).order_by(ProcessRow.kind)
    )
    return [row.kind.value for row in found]


async def test_a_silence_no_clock_noticed_is_found_once(
    drive: Drive, sweeps: SweepActivities
) -> None:
    customer = await _quiet_customer(drive, 2 * HOUR)
    assert (await _run(sweeps.find_silent_customers)).found >= 1
    await becomes(lambda: _processes(drive, customer), ["lifecycle", "retention"])
    await _run(sweeps.find_silent_customers)
    await drive.quiet(drive.lifecycle(customer))
    assert len(await drive.lines(customer, "risk_noticed")) == 1


async def test_a_clock_that_is_only_a_little_late_is_left_alone(
    drive: Drive, sweeps: SweepActivities
) -> None:
    customer = await _quiet_customer(drive, HOUR / 2)
    await _run(sweeps.find_silent_customers)
    await drive.quiet(drive.lifecycle(customer))
    assert await _processes(drive, customer) == ["lifecycle"]


async def test_a_paused_relationship_is_not_swept(drive: Drive, sweeps: SweepActivities) -> None:
    customer = await _quiet_customer(drive, 2 * HOUR)
    lifecycle = drive.lifecycle(customer)
    await drive.command(lifecycle, "pause", Command(by="staff-7"))
    await _run(sweeps.find_silent_customers)
    assert await drive.lines(customer, "risk_noticed") == []


@pytest.mark.usefixtures("nobody_else")
async def test_who_agreed_and_was_never_contacted_is_contacted_once(
    drive: Drive, sweeps: SweepActivities
) -> None:
    today = datetime.now(UTC)
    customer = await _reachable(drive)
    assert (await _run(sweeps.find_uncontacted_customers, today)).found == 0, "unless it is asked"
    async with drive.policy(PolicyKind.MARKETING, scheduled_contacts=10):
        for _ in range(2):  # as after the death of a worker
            assert (await _run(sweeps.find_uncontacted_customers, today)).found <= 1
        contact = drive.process(marketing_workflow_id(customer, 1))
        await becomes(lambda: drive.told(contact), ["marketing_welcome"])
        for at in (today, today + DAY):
            assert (await _run(sweeps.find_uncontacted_customers, at)).found == 0
    assert await _processes(drive, customer) == ["lifecycle", "marketing"]
    line = await drive.line(customer, "contact_scheduled")
    assert line.facts["source"] == "schedule"
    row = await drive.row(Lifecycle, customer)
    assert (row.stage, row.last_heard_at) == ("marketing", None), "he has not stirred"


@pytest.mark.usefixtures("nobody_else")
async def test_nobody_is_contacted_by_schedule_who_is_known_unwilling_or_being_seen_to(
    drive: Drive, sweeps: SweepActivities
) -> None:
    unreachable = await drive.customer()
    unwilling = await _reachable(drive)
    await drive.withdraw_consent(unwilling)
    buyer = await _reachable(drive)
    await _delivered(drive, buyer, DAY)
    contacted = await _reachable(drive)
    await drive.start_contact(contacted)
    paused = await _reachable(drive)
    need = NeedStated(event_id=f"need-{uuid4()}", occurred_at=datetime.now(UTC), need_id=uuid4())
    lifecycle = await drive.tell(paused, "need_stated", need)
    await drive.command(lifecycle, "stop", Command(by="staff-7"))
    disappointed = await _reachable(drive)
    async with drive.sessions.begin() as session:
        session.add(_case(disappointed, kind=CaseKind.RECOVERY))
    async with drive.policy(PolicyKind.MARKETING, scheduled_contacts=10):
        assert (await _run(sweeps.find_uncontacted_customers)).found == 0
    assert await drive.lines(unreachable) == []


@pytest.mark.usefixtures("nobody_else")
async def test_the_schedule_contacts_no_more_a_day_than_the_policy_says(
    drive: Drive, sweeps: SweepActivities
) -> None:
    day = datetime.now(UTC) - 9 * DAY  # caught up on; no other test has contacted anybody for it
    customers = [await _reachable(drive) for _ in range(3)]

    async def contacted() -> int:
        return sum([len(await drive.lines(one, "marketing_started")) for one in customers])

    async with drive.policy(PolicyKind.MARKETING, scheduled_contacts=2):
        for at, so_far in ((day, 2), (day, 2), (day + DAY, 3)):
            await _run(sweeps.find_uncontacted_customers, at)
            await becomes(contacted, so_far)


@pytest.fixture
async def nobody_else(drive: Drive) -> None:
    """Other tests' customers have withdrawn."""
    async with drive.sessions.begin() as session:
        await session.execute(sa.update(Consent).values(state=ConsentState.WITHDRAWN))


async def _reachable(drive: Drive) -> UUID:
    """Somebody who agreed to marketing at an address of his."""
    customer = await drive.customer()
    await drive.agrees_to(customer, Channel.EMAIL, f"{customer}@example.com")
    return customer


async def _delivered(drive: Drive, customer: UUID, ago: timedelta) -> UUID:
    """An order that was delivered, and nobody told the customer's lifecycle."""
    order = Order(
        id=uuid4(),
        customer_id=customer,
        reference="O-1",
        state=DeliveryState.DELIVERED,
        currency="EUR",
        total_minor=100,
        lines=[],
        placed_at=datetime.now(UTC) - ago - DAY,
        delivered_at=datetime.now(UTC) - ago,
    )
    async with drive.sessions.begin() as session:
        session.add(order)
    return order.id


async def test_a_delivery_nobody_followed_up_is_followed_up_once(
    drive: Drive, sweeps: SweepActivities
) -> None:
    customer = await drive.customer()
    order = await _delivered(drive, customer, 5 * DAY)
    recent = await _delivered(drive, customer, DAY)
    await _run(sweeps.find_missing_follow_ups)
    follow_up = drive.process(follow_up_workflow_id(order))
    await becomes(lambda: drive.told(follow_up), ["survey_request"])
    await _run(sweeps.find_missing_follow_ups)
    await drive.quiet(drive.lifecycle(customer))
    started = await drive.rows(
        sa.select(TimelineLine).where(
            TimelineLine.customer_id == customer, TimelineLine.kind == "follow_up_started"
        )
    )
    assert [line.workflow_id for line in started] == [follow_up.id]
    assert await drive.lines(drive.process(follow_up_workflow_id(recent))) == []


async def test_a_resolved_case_nobody_followed_up_is_followed_up(
    drive: Drive, sweeps: SweepActivities
) -> None:
    customer = await drive.customer()
    case = _case(customer, resolved_at=datetime.now(UTC) - 3 * DAY, outcome="resolved")
    async with drive.sessions.begin() as session:
        session.add(case)
    await _run(sweeps.find_missing_follow_ups)
    follow_up = drive.process(follow_up_workflow_id(case.id))
    await becomes(lambda: drive.told(follow_up), ["survey_request"])


def _case(customer: UUID, **fields: Any) -> Case:
    return Case(
        **{
            "id": uuid4(),
            "reference": f"CASE-{uuid4()}",
            "customer_id": customer,
            "kind": CaseKind.REQUEST,
            "state": CaseState.RESOLVED if "resolved_at" in fields else CaseState.OPEN,
            "priority": Priority.NORMAL,
            "queue": Role.SUPPORT_AGENT,
            "opened_at": NOW - 4 * DAY,
            **fields,
        }
    )


# --- figures and digest --------------------------------------------------------------------------


@pytest.fixture
def alone(sessions: Sessions, temporal: WorkflowEnvironment) -> SweepActivities:
    """On a database with nothing in it."""
    return SweepActivities(sessions, temporal.client, digest_to="staff@example.com")


async def _customer(sessions: Sessions) -> UUID:
    customer = Customer(reference=f"c-{uuid4()}", name="Ada")
    async with sessions.begin() as session:
        session.add(customer)
    return customer.id


def _order(customer: UUID, *, late: bool) -> Order:
    return Order(
        id=uuid4(),
        customer_id=customer,
        reference="O",
        state=DeliveryState.DELIVERED,
        currency="EUR",
        total_minor=1,
        lines=[],
        placed_at=NOW - 9 * DAY,
        delivered_at=NOW - DAY,
        delivered_late=late,
    )


def _message(customer: UUID | None, state: MessageState, **fields: Any) -> Message:
    return Message(
        **{
            "key": f"k-{uuid4()}",
            "customer_id": customer,
            "workflow_id": "w",
            "step": "s",
            "template": Template.ORDER_CONFIRMED,
            "message_class": MessageClass.TRANSACTIONAL,
            "purpose": Purpose.ORDERS,
            "channel": Channel.EMAIL,
            "context": {},
            "state": state,
            "asked_at": NOW,
            **fields,
        }
    )


async def _figures(sessions: Sessions) -> dict[str, Any]:
    async with sessions() as session:
        [snapshot] = (await session.scalars(sa.select(KpiSnapshot))).all()
    return snapshot.figures


async def test_answers_to_repeated_requests_are_forgotten_in_time(
    alone: SweepActivities, sessions: Sessions
) -> None:
    async with sessions.begin() as session:
        for number, age in enumerate((timedelta(0), 71 * HOUR, 73 * HOUR)):
            answer = IdempotentAnswer(
                principal="api", route="POST /x", key=f"{number}", fingerprint="", status=201
            )
            answer.recorded_at = NOW - age
            session.add(answer)
    assert (await alone.forget_answers(Occasion(at=NOW))).found == 1
    assert await _count(sessions, IdempotentAnswer) == 2


async def test_sign_ins_that_are_over_are_forgotten(
    alone: SweepActivities, sessions: Sessions
) -> None:
    async with sessions.begin() as session:
        staff = {"email": "ana@example.com", "name": "Ana", "password_hash": "none"}
        session.add(Staff(id="agent-7", role=Role.OPS, one_time_password=False, **staff))
        await session.flush()
        for age, left in ((HOUR, HOUR), (13 * HOUR, HOUR), (HOUR, -HOUR)):
            session.add(
                StaffSession(
                    token_hash=f"{age} {left}",
                    csrf_token="",
                    staff_id="agent-7",
                    browser="",
                    seen_at=NOW - age,
                    expires_at=NOW + left,
                )
            )
        for age in (HOUR, 25 * HOUR):
            session.add(SignInFailure(subject=f"{age}", failures=9, blocked_until=NOW - age))
    assert (await alone.forget_answers(Occasion(at=NOW))).found == 3
    assert await _count(sessions, StaffSession) == 1
    assert await _count(sessions, SignInFailure) == 1


async def test_figures_of_nothing_are_no_figures(
    alone: SweepActivities, sessions: Sessions
) -> None:
    await _run(alone.take_kpi_snapshot, NOW)
    figures = await _figures(sessions)
    assert figures["perfect_deliveries"] == {"share": None, "n": 0}
    assert figures["satisfaction"]["n"] == 0
    assert len(figures) - 1 <= 7, "no more figures than a person reads; `simulated` is none"


async def test_figures_say_what_they_rest_on(alone: SweepActivities, sessions: Sessions) -> None:
    customer = await _customer(sessions)
    on_time, late = _order(customer, late=False), _order(customer, late=True)
    surveys = [
        Survey(
            id=uuid4(),
            customer_id=customer,
            workflow_id="w",
            scale=SurveyScale.STARS,
            asked_at=NOW,
            answered_at=answered,
        )
        for answered in (NOW, None, None, None)
    ]
    async with sessions.begin() as session:
        session.add_all([on_time, late, *surveys])
        await session.flush()
        session.add_all(
            [
                Promise(
                    customer_id=customer,
                    order_id=late.id,
                    kind=PromiseKind.DATE,
                    text="by then",
                    state=PromiseState.BROKEN,
                    source="order",
                    settled_at=NOW,
                ),
                Feedback(
                    id=uuid4(),
                    customer_id=customer,
                    survey_id=surveys[0].id,
                    event_id="e",
                    scale=SurveyScale.STARS,
                    score=4,
                    verdict=Verdict.PASSIVE,
                    answered_at=NOW,
                ),
                _case(customer, first_response_at=NOW),
                _case(customer, first_response_missed_at=NOW),
                _case(customer),  # its clock still runs: neither met nor missed
                _case(customer, kind=CaseKind.RECOVERY),
                _message(customer, MessageState.ACCEPTED, accepted_at=NOW),
                _message(customer, MessageState.FAILED, provider_answer="550 no such mailbox"),
                _message(customer, MessageState.FAILED),
                _message(customer, MessageState.QUEUED),
            ]
        )
    await _run(alone.take_kpi_snapshot, NOW)
    await _run(alone.take_kpi_snapshot, NOW)  # repeated for one occasion: one row
    figures = await _figures(sessions)
    assert figures["perfect_deliveries"] == {"share": 0.5, "n": 2}
    assert figures["on_time"] == {"share": 0.5, "n": 2}
    assert figures["first_response_met"] == {"share": 0.5, "n": 2}
    assert figures["satisfaction"] == {"mean_stars": 4, "n": 1, "response_rate": 0.25, "asked": 4}
    assert figures["recovery_open"] == {"n": 1, "of": 1}
    assert figures["messages_explained"]["n"] == 3
    assert figures["messages_explained"]["share"] == pytest.approx(2 / 3)


async def test_the_digest_is_one_mail_a_day(alone: SweepActivities, sessions: Sessions) -> None:
    customer = await _customer(sessions)
    async with sessions.begin() as session:
        session.add_all([_case(customer), _case(customer)])
        session.add(_message(customer, MessageState.QUEUED, queued_at=NOW - 2 * HOUR))
    for at in (NOW, NOW + timedelta(seconds=1), NOW + DAY):
        await _run(alone.write_staff_digest, at)
    async with sessions() as session:
        found = sa.select(Message).where(Message.template == Template.STAFF_DIGEST)
        first, second = (await session.scalars(found.order_by(Message.key))).all()
    assert first.context == {
        "to": "staff@example.com",
        "day": "2026-11-20",
        "lines": "cases open: support_agent: 2\nmessages waiting for more than an hour: 1",
    }
    assert (second.context["day"], second.customer_id) == ("2026-11-21", None)


async def test_without_an_address_there_is_no_digest(
    sessions: Sessions, temporal: WorkflowEnvironment
) -> None:
    await _run(SweepActivities(sessions, temporal.client).write_staff_digest, NOW)
    async with sessions() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(Message)) == 0


# --- the schedules -------------------------------------------------------------------------------


@pytest.fixture
async def scheduled(temporal: WorkflowEnvironment) -> AsyncGenerator[Client]:
    await ensure_schedules(temporal.client)
    yield temporal.client
    for name in ScheduleName:
        await temporal.client.get_schedule_handle(schedule_id(name)).delete()


async def _describe(client: Client, name: ScheduleName) -> ScheduleDescription:
    return await client.get_schedule_handle(schedule_id(name)).describe()


async def test_every_schedule_is_there_and_says_what_it_does(scheduled: Client) -> None:
    for name, recurrence in RECURRENCES.items():
        found = await _describe(scheduled, name)
        assert await found.memo_value("does") == recurrence.words
        assert found.schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
        assert found.schedule.policy.catchup_window == timedelta(days=2)
        assert found.info.next_action_times
        assert isinstance(found.schedule.action, ScheduleActionStartWorkflow)


async def test_another_start_mends_a_schedule_and_leaves_a_pause_alone(scheduled: Client) -> None:
    name = ScheduleName.KPI_SNAPSHOT
    handle = scheduled.get_schedule_handle(schedule_id(name))
    ours = (await handle.describe()).schedule.spec

    def another(found: ScheduleUpdateInput) -> ScheduleUpdate:
        found.description.schedule.spec = ScheduleSpec(cron_expressions=["0 12 1 1 *"])
        return ScheduleUpdate(schedule=found.description.schedule)

    async def is_another() -> bool:
        return (await handle.describe()).schedule.spec != ours

    async def is_paused() -> bool:
        return (await handle.describe()).schedule.state.paused

    # The server answers before the schedule has taken a change up, and of two that it finds waiting
    # it takes the pause first and the update, with the state of before, over it.
    await handle.update(another)
    await becomes(is_another, True)
    await handle.pause(note="paused by staff-7: migration")
    await becomes(is_paused, True)
    await ensure_schedules(scheduled)
    await becomes(is_another, False)
    found = (await handle.describe()).schedule
    assert found.spec == ours
    assert (found.state.paused, found.state.note) == (True, "paused by staff-7: migration")


@pytest.mark.usefixtures("only_my_processes")
async def test_a_schedule_runs_when_told_and_catches_up_on_the_past(
    scheduled: Client, alone: SweepActivities, sessions: Sessions
) -> None:
    async def figures_taken() -> int:
        return await _count(sessions, KpiSnapshot)

    async def days_told() -> list[str]:
        async with sessions() as session:
            found = (await session.scalars(sa.select(Message).order_by(Message.key))).all()
        return [message.context["day"] for message in found]

    kpi = scheduled.get_schedule_handle(schedule_id(ScheduleName.KPI_SNAPSHOT))
    digest = scheduled.get_schedule_handle(schedule_id(ScheduleName.STAFF_DIGEST))
    span = ScheduleBackfill(
        start_at=NOW.replace(hour=0),
        end_at=NOW.replace(hour=0) + 3 * DAY,
        overlap=ScheduleOverlapPolicy.BUFFER_ALL,
    )
    async with bulk_worker(scheduled, alone):
        await kpi.pause()
        await kpi.trigger()  # a pause holds back the clock, not a person
        await becomes(figures_taken, 1)
        for _ in range(2):
            await digest.backfill(span)
            await becomes(days_told, ["2026-11-20", "2026-11-21", "2026-11-22"])
        await becomes(lambda: _runs(digest), 6)
    assert await days_told() == ["2026-11-20", "2026-11-21", "2026-11-22"]


async def _runs(handle: Any) -> int:
    described: ScheduleDescription = await handle.describe()
    return described.info.num_actions


async def _count(sessions: Sessions, table: type) -> int:
    async with sessions() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(table)) or 0
