"""Delivery: from placed to delivered, the customer told before a promise slips, never twice."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from database.orders import Order, OrderMilestone
from database.promises import Promise
from database.support import Case
from domain.delivery import (
    DeliveryAttemptFailed,
    DeliveryInput,
    DeliveryRescheduled,
    DeliveryState,
    Effect,
    OrderApproved,
    OrderCancelled,
    OrderDelivered,
    OrderDispatched,
    OrderReturned,
    OrderUnavailable,
    PromisedItem,
)
from domain.messages import Template
from domain.policies import CaseKind, DeliveryPolicy, PolicyKind, Priority
from domain.processes import (
    Fact,
    MessageSettled,
    ProcessState,
    delivery_workflow_id,
)
from domain.promises import PromiseKind, PromiseState, Shortfall, end_of_day
from domain.tasks import Role, TaskKind, TaskState
from tests.driving import DAY, HOUR, MINUTE, Drive, Handle
from tests.patience import becomes
from workflows.delivery import OrderDelivery
from workflows.visibility import DUE_AT, STAGE

POLICY = DeliveryPolicy()


@pytest.fixture
async def customer(drive: Drive) -> UUID:
    return await drive.customer()


@pytest.fixture
def promised_on() -> date:
    return (datetime.now(UTC) + 10 * DAY).date()


@pytest.fixture
async def order(drive: Drive, customer: UUID, promised_on: date) -> tuple[UUID, Handle]:
    return await drive.place_order(customer, promised_on=promised_on)


@pytest.fixture
def order_id(order: tuple[UUID, Handle]) -> UUID:
    return order[0]


@pytest.fixture
def process(order: tuple[UUID, Handle]) -> Handle:
    return order[1]


@pytest.fixture
def report(drive: Drive, process: Handle) -> Any:
    """Reports a milestone as of now (of the process), by its signal's name."""

    async def report(signal: str, kind: type[Fact], **fields: Any) -> Fact:
        at = fields.pop("occurred_at", None) or await drive.now(process)
        event_id = fields.pop("event_id", None) or f"{signal}-{uuid4()}"
        event = kind.model_validate({"event_id": event_id, "occurred_at": at, **fields})
        await drive.signal(process, signal, event)
        return event

    return report


async def milestones(drive: Drive, order_id: UUID) -> list[tuple[str, Effect]]:
    found = sa.select(OrderMilestone).where(OrderMilestone.order_id == order_id)
    rows = await drive.rows(found.order_by(OrderMilestone.recorded_at))
    return [(row.milestone, row.effect) for row in rows]


async def promises(drive: Drive, order_id: UUID) -> dict[PromiseKind, PromiseState]:
    rows = await drive.rows(sa.select(Promise).where(Promise.order_id == order_id))
    return {row.kind: row.state for row in rows}


async def cases(drive: Drive, customer_id: UUID) -> int:
    return len(await drive.rows(sa.select(Case).where(Case.customer_id == customer_id)))


# --- the way it should go ------------------------------------------------------------------------


@pytest.mark.history
async def test_an_order_that_goes_well_is_told_step_by_step(
    drive: Drive, order_id: UUID, process: Handle, report: Any
) -> None:
    assert await drive.told(process) == ["order_confirmed"]
    await report("order_approved", OrderApproved)
    await drive.skip(process, DAY)
    await report("order_dispatched", OrderDispatched, carrier="DHL", tracking="42")
    await drive.skip(process, 2 * DAY)
    delivered = await report("order_delivered", OrderDelivered)

    assert await drive.ends(process) == DeliveryState.DELIVERED
    assert await drive.told(process) == ["order_confirmed", "order_dispatched", "order_delivered"]
    row = await drive.row(Order, order_id)
    assert (row.state, row.carrier, row.tracking) == (DeliveryState.DELIVERED, "DHL", "42")
    assert row.delivered_at == delivered.occurred_at
    assert row.delivered_late is False
    assert row.endangered_at is row.late_noticed_at is None
    assert await drive.story(process) == [
        *("order_placed", "order_approved", "order_dispatched", "order_delivered")
    ]


async def test_the_order_moves_the_stage_of_the_customer(
    drive: Drive, customer: UUID, process: Handle, report: Any
) -> None:
    await becomes(lambda: drive.stage(customer), "delivery")
    await report("order_delivered", OrderDelivered)
    await becomes(lambda: drive.stage(customer), "follow_up")


# --- the promised day ----------------------------------------------------------------------------


@pytest.mark.history
async def test_the_customer_is_warned_before_the_promised_day_and_told_once_when_it_passed(
    drive: Drive, order_id: UUID, process: Handle, report: Any, promised_on: date
) -> None:
    await report("order_approved", OrderApproved)
    end = end_of_day(promised_on, "UTC")
    await drive.skip_to(process, end - POLICY.warn_before - HOUR)
    assert await drive.told(process) == ["order_confirmed"]

    await drive.skip_to(process, end - POLICY.warn_before + HOUR)
    assert await drive.told(process) == ["order_confirmed", "order_at_risk"]
    await drive.skip_to(process, end - MINUTE)
    assert await drive.told(process) == ["order_confirmed", "order_at_risk"]
    assert await _shown(process) == ("at risk", (await drive.standing(process)).next_timer_at)

    await drive.skip_to(process, end + MINUTE)
    assert await _shown(process) == ("late", (await drive.standing(process)).next_timer_at)
    await drive.skip(process, 5 * DAY)
    assert await drive.told(process) == ["order_confirmed", "order_at_risk", "order_late"]

    await report("order_delivered", OrderDelivered)
    row = await drive.row(Order, order_id)
    assert row.delivered_late
    assert row.endangered_at is not None
    assert row.late_noticed_at is not None
    assert row.endangered_at < end <= row.late_noticed_at
    assert await promises(drive, order_id) == {PromiseKind.DATE: PromiseState.BROKEN}


async def _shown(process: Handle) -> tuple[object, object]:
    """What an operator filters by in the web UI of Temporal: Stage and DueAt."""
    attributes = (await process.describe()).typed_search_attributes
    return attributes.get(STAGE), attributes.get(DUE_AT)


async def test_a_short_promise_is_not_warned_about_with_its_confirmation(
    drive: Drive, customer: UUID
) -> None:
    today = datetime.now(UTC).date()
    _, process = await drive.place_order(customer, promised_on=today)
    assert await drive.told(process) == ["order_confirmed"]
    await drive.skip_to(process, end_of_day(today, "UTC") - timedelta(seconds=1))
    assert await drive.told(process) == ["order_confirmed", "order_at_risk"]


async def test_a_carrier_that_will_keep_the_promise_spares_the_customer_the_warning(
    drive: Drive, process: Handle, report: Any, promised_on: date
) -> None:
    await report("order_dispatched", OrderDispatched, expected_on=promised_on)
    await drive.skip_to(process, end_of_day(promised_on, "UTC") - HOUR)
    assert await drive.told(process) == ["order_confirmed", "order_dispatched"]

    await drive.skip(process, 2 * HOUR)
    assert await drive.told(process) == ["order_confirmed", "order_dispatched", "order_late"]


async def test_a_carrier_that_will_break_the_promise_doesnt(
    drive: Drive, process: Handle, report: Any, promised_on: date
) -> None:
    await report("order_dispatched", OrderDispatched, expected_on=promised_on + DAY)
    await drive.skip_to(process, end_of_day(promised_on, "UTC") - HOUR)
    assert await drive.told(process) == ["order_confirmed", "order_dispatched", "order_at_risk"]


@pytest.mark.history
async def test_a_new_day_is_told_once_and_warned_about_like_the_first(
    drive: Drive, order_id: UUID, process: Handle, report: Any, promised_on: date
) -> None:
    await report("order_dispatched", OrderDispatched)
    await drive.skip_to(process, end_of_day(promised_on, "UTC") - DAY)
    new_day = promised_on + 5 * DAY
    await report("delivery_rescheduled", DeliveryRescheduled, promised_on=new_day)
    await report("delivery_rescheduled", DeliveryRescheduled, promised_on=new_day)
    so_far = ["order_confirmed", "order_dispatched", "order_at_risk", "order_rescheduled"]
    assert await drive.told(process) == so_far
    message = (await drive.messages(process))[-1]
    assert message.context["promised_on"] == new_day.isoformat()
    assert message.context["previously_promised_on"] == promised_on.isoformat()
    assert (await drive.row(Order, order_id)).endangered_at is None, "that was the day before"

    await drive.skip_to(process, end_of_day(new_day, "UTC") - 3 * DAY)
    assert await drive.told(process) == so_far, "the day first promised is past its warnings"
    await drive.skip_to(process, end_of_day(new_day, "UTC") + HOUR)
    assert await drive.told(process) == [*so_far, "order_at_risk", "order_late"]

    await report("order_delivered", OrderDelivered)
    row = await drive.row(Order, order_id)
    assert (row.promised_on, row.first_promised_on) == (new_day, promised_on)
    assert row.delivered_late


async def test_a_day_that_is_promised_again_is_told_again(
    drive: Drive, order_id: UUID, process: Handle, report: Any, promised_on: date
) -> None:
    later = promised_on + 5 * DAY
    for day in (later, promised_on, later):
        await report("delivery_rescheduled", DeliveryRescheduled, promised_on=day)
    told = [
        message.context["promised_on"]
        for message in await drive.messages(process)
        if message.template is Template.ORDER_RESCHEDULED
    ]
    assert told == [day.isoformat() for day in (later, promised_on, later)]
    assert (await drive.row(Order, order_id)).promised_on == later


async def test_a_new_day_does_not_unbreak_the_first_promise(
    drive: Drive, order_id: UUID, process: Handle, report: Any, promised_on: date
) -> None:
    await report("delivery_rescheduled", DeliveryRescheduled, promised_on=promised_on + 5 * DAY)
    await drive.skip_to(process, end_of_day(promised_on, "UTC") + DAY)
    await report("order_delivered", OrderDelivered)
    assert (await drive.row(Order, order_id)).delivered_late
    assert "order_late" not in await drive.told(process), "kept against the new day"


async def test_the_promised_day_ends_in_the_zone_of_the_customer(drive: Drive) -> None:
    customer = await drive.customer(zone="America/Sao_Paulo")
    day = (datetime.now(UTC) + 10 * DAY).date()
    order_id, process = await drive.place_order(customer, promised_on=day)
    await drive.skip_to(process, end_of_day(day, "UTC") + HOUR)
    assert "order_late" not in await drive.told(process)
    await drive.signal(
        process,
        OrderDelivery.order_delivered,
        OrderDelivered(event_id="d", occurred_at=end_of_day(day, "UTC") + HOUR),
    )
    assert (await drive.row(Order, order_id)).delivered_late is False


@pytest.mark.history
async def test_a_late_order_is_chased_by_a_person_at_once_and_as_often_as_the_policy_says(
    drive: Drive, process: Handle, report: Any, promised_on: date
) -> None:
    await report("order_approved", OrderApproved)
    end = end_of_day(promised_on, "UTC")
    await drive.skip_to(process, end + 60 * DAY)
    chases = await drive.tasks(process, kind=TaskKind.CHASE_ORDER)
    assert len(chases) == 1 + POLICY.chases
    assert chases[0].opened_at - end == pytest.approx(timedelta(0), abs=MINUTE)
    assert {task.role for task in chases} == {Role.OPS}
    gaps = [later.opened_at - earlier.opened_at for earlier, later in pairwise(chases)]
    assert gaps == pytest.approx([POLICY.chase_every] * POLICY.chases, abs=MINUTE)

    await report("order_delivered", OrderDelivered)
    states = {task.state for task in await drive.tasks(process, kind=TaskKind.CHASE_ORDER)}
    assert states == {TaskState.CANCELLED}


async def test_an_order_without_a_promised_day_waits_without_a_word(
    drive: Drive, customer: UUID
) -> None:
    _, process = await drive.place_order(customer)
    await drive.signal(
        process,
        OrderDelivery.order_approved,
        OrderApproved(event_id="a", occurred_at=datetime.now(UTC)),
    )
    await drive.skip(process, 365 * DAY)
    assert await drive.told(process) == ["order_confirmed"]
    assert (await drive.standing(process)).next_timer_at is None


# --- promises ------------------------------------------------------------------------------------


async def test_what_was_offered_in_selling_becomes_a_promise_of_the_order(
    drive: Drive, customer: UUID, promised_on: date
) -> None:
    async with drive.sessions.begin() as session:
        session.add_all(
            Promise(
                customer_id=customer,
                kind=kind,
                text=kind,
                state=PromiseState.OFFERED,
                source="staff",
            )
            for kind in (PromiseKind.QUALITY, PromiseKind.SERVICE)
        )
    item = PromisedItem(kind=PromiseKind.PRICE, code="summer-price")
    order_id, process = await drive.place_order(customer, promised_on=promised_on, promises=[item])
    open_ = PromiseState.OPEN
    assert await promises(drive, order_id) == {
        PromiseKind.QUALITY: open_,
        PromiseKind.SERVICE: open_,
        PromiseKind.PRICE: open_,
        PromiseKind.DATE: open_,
    }

    shortfalls = (
        Shortfall(kind=PromiseKind.QUALITY, verdict=PromiseState.PARTLY_KEPT),
        Shortfall(kind=PromiseKind.SERVICE, verdict=PromiseState.BROKEN),
        # The calendar judges the date, not the reporter.
        Shortfall(kind=PromiseKind.DATE, verdict=PromiseState.BROKEN),
    )
    delivered = OrderDelivered(event_id="d", occurred_at=datetime.now(UTC), shortfalls=shortfalls)
    await drive.signal(process, OrderDelivery.order_delivered, delivered)
    assert await promises(drive, order_id) == {
        PromiseKind.QUALITY: PromiseState.PARTLY_KEPT,
        PromiseKind.SERVICE: PromiseState.BROKEN,
        PromiseKind.PRICE: PromiseState.KEPT,
        PromiseKind.DATE: PromiseState.KEPT,
    }


async def _offer_a_day(drive: Drive, customer: UUID, *days: date | None) -> None:
    async with drive.sessions.begin() as session:
        session.add_all(
            Promise(
                customer_id=customer,
                kind=PromiseKind.DATE,
                text="in time for the party",
                due_on=day,
                state=PromiseState.OFFERED,
                source="staff",
            )
            for day in days
        )


async def test_a_day_offered_in_selling_is_the_day_of_an_order_that_names_none(
    drive: Drive, customer: UUID, promised_on: date
) -> None:
    await _offer_a_day(drive, customer, promised_on, promised_on + DAY)
    order_id, process = await drive.place_order(customer)
    [confirmation] = await drive.messages(process)
    assert confirmation.context["promised_on"] == promised_on.isoformat()
    report_approved = OrderApproved(event_id="a", occurred_at=datetime.now(UTC))
    await drive.signal(process, OrderDelivery.order_approved, report_approved)

    await drive.skip_to(process, end_of_day(promised_on, "UTC") - HOUR)
    assert await drive.told(process) == ["order_confirmed", "order_at_risk"]
    delivered = OrderDelivered(event_id="d", occurred_at=end_of_day(promised_on, "UTC") + HOUR)
    await drive.signal(process, OrderDelivery.order_delivered, delivered)
    assert (await drive.row(Order, order_id)).delivered_late
    assert await _dates(drive, customer) == {
        promised_on: PromiseState.BROKEN,
        promised_on + DAY: PromiseState.KEPT,
    }


async def test_a_day_offered_in_selling_is_judged_by_itself(
    drive: Drive, customer: UUID, promised_on: date
) -> None:
    offered = promised_on - 5 * DAY
    await _offer_a_day(drive, customer, offered)
    order_id, process = await drive.place_order(customer, promised_on=promised_on)
    later = DeliveryRescheduled(
        event_id="r", occurred_at=datetime.now(UTC), promised_on=promised_on + DAY
    )
    await drive.signal(process, OrderDelivery.delivery_rescheduled, later)
    delivered = OrderDelivered(event_id="d", occurred_at=end_of_day(offered, "UTC") + DAY)
    await drive.signal(process, OrderDelivery.order_delivered, delivered)
    assert (await drive.row(Order, order_id)).delivered_late is False
    assert await _dates(drive, customer) == {
        offered: PromiseState.BROKEN,
        promised_on + DAY: PromiseState.KEPT,
    }


async def test_a_day_that_had_passed_before_the_order_binds_nobody(
    drive: Drive, customer: UUID
) -> None:
    yesterday = datetime.now(UTC).date() - DAY
    await _offer_a_day(drive, customer, yesterday)
    order_id, process = await drive.place_order(customer)
    assert (await drive.row(Order, order_id)).promised_on is None
    assert await _dates(drive, customer) == {yesterday: PromiseState.OFFERED}
    assert await drive.told(process) == ["order_confirmed"]


async def _dates(drive: Drive, customer: UUID) -> dict[date | None, PromiseState]:
    found = sa.select(Promise).where(
        Promise.customer_id == customer, Promise.kind == PromiseKind.DATE
    )
    return {row.due_on: row.state for row in await drive.rows(found)}


# --- approval ------------------------------------------------------------------------------------


@pytest.mark.history
async def test_an_approval_that_does_not_come_is_asked_of_a_person(
    drive: Drive, process: Handle, report: Any
) -> None:
    await drive.skip(process, POLICY.approval_expected - HOUR)
    assert not await drive.tasks(process)
    await drive.skip(process, 2 * HOUR)
    assert (await drive.task(process, TaskKind.APPROVE_ORDER)).role is Role.OPS

    await report("order_approved", OrderApproved)
    task = await drive.task(process, TaskKind.APPROVE_ORDER)
    assert task.state is TaskState.CANCELLED, "nobody needs it any more"


async def test_a_dispatch_shows_that_the_order_was_approved(
    drive: Drive, order_id: UUID, process: Handle, report: Any
) -> None:
    await drive.skip(process, POLICY.approval_expected + HOUR)
    await report("order_dispatched", OrderDispatched)
    assert (await drive.task(process, TaskKind.APPROVE_ORDER)).state is TaskState.CANCELLED


async def test_an_approval_reported_after_the_dispatch_fills_in_its_time(
    drive: Drive, order_id: UUID, process: Handle, report: Any
) -> None:
    await report("order_dispatched", OrderDispatched)
    approved = await report("order_approved", OrderApproved, occurred_at=datetime.now(UTC))
    row = await drive.row(Order, order_id)
    assert (row.state, row.approved_at) == (DeliveryState.DISPATCHED, approved.occurred_at)
    assert await milestones(drive, order_id) == [
        ("order_dispatched", Effect.ADVANCES),
        ("approved", Effect.FILLS_IN),
    ]


# --- failed attempts -----------------------------------------------------------------------------


@pytest.mark.history
async def test_a_second_failed_attempt_opens_a_case(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, report: Any
) -> None:
    await report("order_dispatched", OrderDispatched)
    await report("delivery_attempt_failed", DeliveryAttemptFailed, reason="nobody home")
    assert await cases(drive, customer) == 0
    await report("delivery_attempt_failed", DeliveryAttemptFailed)
    await becomes(lambda: cases(drive, customer), 1)
    await report("delivery_attempt_failed", DeliveryAttemptFailed)

    told = await drive.told(process)
    assert told.count("delivery_attempt_failed") == 3, "each attempt is news"
    [case] = await drive.rows(sa.select(Case).where(Case.customer_id == customer))
    assert (case.kind, case.priority) == (CaseKind.FAILED_DELIVERY, Priority.HIGH)
    assert case.order_id == order_id
    await becomes(lambda: drive.stage(customer), "support")


async def test_how_many_failed_attempts_open_a_case_is_the_policys(
    drive: Drive, customer: UUID
) -> None:
    async with drive.policy(PolicyKind.DELIVERY, failed_attempts=1):
        _, process = await drive.place_order(customer)
    failed = DeliveryAttemptFailed(event_id="f", occurred_at=datetime.now(UTC))
    await drive.signal(process, OrderDelivery.delivery_attempt_failed, failed)
    await becomes(lambda: cases(drive, customer), 1)


@pytest.mark.history
async def test_silence_after_a_failed_attempt_opens_a_case(
    drive: Drive, customer: UUID, process: Handle, report: Any
) -> None:
    await report("order_dispatched", OrderDispatched)
    await report("delivery_attempt_failed", DeliveryAttemptFailed)
    await drive.skip_to_next_timer(process)
    await becomes(lambda: cases(drive, customer), 1)
    await report("delivery_attempt_failed", DeliveryAttemptFailed)
    await report("delivery_attempt_failed", DeliveryAttemptFailed)
    assert await cases(drive, customer) == 1


@pytest.mark.history
@pytest.mark.parametrize("late", [OrderApproved, OrderDispatched])
async def test_what_is_only_reported_after_a_failed_attempt_is_no_news_of_another(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, report: Any, late: Any
) -> None:
    before = await drive.now(process)
    await report("delivery_attempt_failed", DeliveryAttemptFailed)
    kind = {OrderApproved: "order_approved", OrderDispatched: "order_dispatched"}[late]
    fields = {"carrier": "DHL", "tracking": "42"} if late is OrderDispatched else {}
    await report(kind, late, occurred_at=before - HOUR, **fields)
    order = await drive.row(Order, order_id)
    assert order.state is DeliveryState.ATTEMPT_FAILED
    assert (order.carrier, order.tracking) == tuple(fields.values() or ("", ""))
    await drive.skip_to_next_timer(process)
    await becomes(lambda: cases(drive, customer), 1)


async def test_news_after_a_failed_attempt_opens_none(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, report: Any
) -> None:
    await report("order_dispatched", OrderDispatched)
    await report("delivery_attempt_failed", DeliveryAttemptFailed)
    await drive.skip(process, DAY)
    await report("order_dispatched", OrderDispatched)
    assert (await drive.row(Order, order_id)).state is DeliveryState.DISPATCHED
    await drive.skip(process, 3 * DAY)
    assert await cases(drive, customer) == 0


async def test_a_parcel_on_its_way_again_is_told_of_only_when_it_travels_otherwise(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, report: Any
) -> None:
    for tracking in ("42", "42", "43"):
        await report("order_dispatched", OrderDispatched, carrier="DHL", tracking=tracking)
        await report("delivery_attempt_failed", DeliveryAttemptFailed)
    dispatched = [
        message.context["tracking"]
        for message in await drive.messages(process)
        if message.template is Template.ORDER_DISPATCHED
    ]
    assert dispatched == ["42", "43"]
    assert (await drive.row(Order, order_id)).tracking == "43"


# --- nothing will arrive -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "kind", "state"),
    [
        ("order_unavailable", OrderUnavailable, DeliveryState.UNAVAILABLE),
        ("order_cancelled", OrderCancelled, DeliveryState.CANCELLED),
        ("order_returned", OrderReturned, DeliveryState.RETURNED),
    ],
)
@pytest.mark.history
async def test_an_order_that_will_not_arrive_is_compensated(
    drive: Drive,
    customer: UUID,
    order_id: UUID,
    process: Handle,
    report: Any,
    signal: str,
    kind: type[Fact],
    state: DeliveryState,
) -> None:
    await report("order_approved", OrderApproved)
    fields = {} if kind is OrderReturned else {"alternative": "the bigger lamp"}
    await report(signal, kind, **fields)

    row = await drive.row(Order, order_id)
    assert (row.state, row.refund_minor) == (state, 4_900), "all that was paid"
    assert row.ended_at is not None
    assert await drive.told(process) == ["order_confirmed", signal]
    assert await promises(drive, order_id) == {PromiseKind.DATE: PromiseState.RELEASED}
    task = await drive.task(process, TaskKind.COMPENSATE)
    assert task.role is Role.OPS
    assert task.due_at - task.opened_at == pytest.approx(POLICY.compensation_due, abs=MINUTE)
    if fields:
        assert (await drive.messages(process))[-1].context["alternative"] == "the bigger lamp"
    await becomes(lambda: drive.stage(customer), "quiet")

    await drive.skip(process, 60 * DAY)
    assert await drive.told(process) == ["order_confirmed", signal], "nobody waits for it now"
    assert await drive.is_running(process)
    await drive.complete(process, TaskKind.COMPENSATE, "refunded")
    assert await drive.ends(process) == state
    assert (await drive.standing(process)).state is ProcessState.COMPLETED


@pytest.mark.parametrize(
    ("approved", "said", "refunded"), [(False, None, 0), (True, 1_200, 1_200), (True, 0, 0)]
)
async def test_the_refund_is_what_was_paid_or_what_the_shop_says(
    drive: Drive,
    order_id: UUID,
    report: Any,
    approved: bool,
    said: int | None,
    refunded: int,
) -> None:
    if approved:
        await report("order_approved", OrderApproved)
    await report("order_cancelled", OrderCancelled, refund_minor=said)
    assert (await drive.row(Order, order_id)).refund_minor == refunded


# --- twice, late, and against what is known ------------------------------------------------------


@pytest.mark.history
async def test_a_parcel_delivered_twice_was_delivered_once(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, report: Any
) -> None:
    first = await report("order_delivered", OrderDelivered)
    await drive.ends(process)
    again = await _reopened(drive, customer, order_id, "order_delivered", OrderDelivered)
    assert await drive.ends(again) == DeliveryState.DELIVERED

    assert (await drive.row(Order, order_id)).delivered_at == first.occurred_at
    assert (await drive.told(process)).count("order_delivered") == 1
    assert await milestones(drive, order_id) == [
        ("order_delivered", Effect.ADVANCES),
        ("delivered", Effect.REPEATS),
    ]


async def test_one_report_sent_twice_is_one(
    drive: Drive, order_id: UUID, process: Handle, report: Any
) -> None:
    for _ in range(3):
        await report("delivery_attempt_failed", DeliveryAttemptFailed, event_id="attempt-1")
    assert (await drive.told(process)).count("delivery_attempt_failed") == 1
    assert len(await milestones(drive, order_id)) == 1


@pytest.mark.parametrize(
    ("signal", "kind", "state"),
    [
        ("order_cancelled", OrderCancelled, DeliveryState.CANCELLED),
        ("order_returned", OrderReturned, DeliveryState.RETURNED),
    ],
)
@pytest.mark.history
async def test_a_delivered_order_that_comes_back_reopens_its_process(
    drive: Drive,
    customer: UUID,
    order_id: UUID,
    process: Handle,
    report: Any,
    signal: str,
    kind: type[Fact],
    state: DeliveryState,
) -> None:
    await report("order_approved", OrderApproved)
    await report("order_delivered", OrderDelivered)
    await drive.ends(process)

    again = await _reopened(drive, customer, order_id, signal, kind)
    row = await drive.row(Order, order_id)
    assert (row.state, row.refund_minor) == (state, 4_900)
    assert (await drive.standing(again)).state is ProcessState.RUNNING
    assert (await drive.told(again))[-1] == signal

    await drive.complete(again, TaskKind.COMPENSATE, "refunded")
    assert await drive.ends(again) == state


@pytest.mark.history
async def test_a_cancelled_order_that_is_delivered_contradicts_and_is_noted(
    drive: Drive, order_id: UUID, process: Handle, report: Any
) -> None:
    await report("order_cancelled", OrderCancelled)
    await report("order_delivered", OrderDelivered)

    assert (await drive.row(Order, order_id)).state is DeliveryState.CANCELLED
    assert await drive.told(process) == ["order_confirmed", "order_cancelled"]
    assert (await milestones(drive, order_id))[-1] == ("delivered", Effect.CONTRADICTS)
    await drive.complete(process, TaskKind.COMPENSATE, "done")
    assert await drive.ends(process) == DeliveryState.CANCELLED


@pytest.mark.history
async def test_an_unavailable_order_may_turn_out_delivered(
    drive: Drive, order_id: UUID, process: Handle, report: Any
) -> None:
    await report("order_approved", OrderApproved)
    await report("order_unavailable", OrderUnavailable)
    assert await promises(drive, order_id) == {PromiseKind.DATE: PromiseState.RELEASED}
    await report("order_delivered", OrderDelivered)
    assert await drive.told(process) == ["order_confirmed", "order_unavailable", "order_delivered"]
    row = await drive.row(Order, order_id)
    assert row.state is DeliveryState.DELIVERED
    assert (row.refund_minor, row.ended_at) == (None, None)
    assert await promises(drive, order_id) == {PromiseKind.DATE: PromiseState.KEPT}
    assert (await drive.standing(process)).outcome == DeliveryState.DELIVERED
    assert await drive.ends(process) == DeliveryState.DELIVERED


async def test_an_unavailable_order_that_turns_up_after_the_refund_keeps_the_refund(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, report: Any
) -> None:
    await report("order_approved", OrderApproved)
    await report("order_unavailable", OrderUnavailable)
    await drive.complete(process, TaskKind.COMPENSATE, "refunded")
    await drive.ends(process)
    again = await _reopened(drive, customer, order_id, "order_delivered", OrderDelivered)
    assert await drive.ends(again) == DeliveryState.DELIVERED
    assert (await drive.row(Order, order_id)).refund_minor == 4_900
    assert await promises(drive, order_id) == {PromiseKind.DATE: PromiseState.KEPT}


async def test_a_late_dispatch_report_of_a_delivered_order_fills_in(
    drive: Drive, customer: UUID, order_id: UUID, process: Handle, report: Any
) -> None:
    await report("order_delivered", OrderDelivered)
    await drive.ends(process)
    again = await _reopened(drive, customer, order_id, "order_dispatched", OrderDispatched)
    assert await drive.ends(again) == DeliveryState.DELIVERED
    row = await drive.row(Order, order_id)
    assert row.state is DeliveryState.DELIVERED
    assert row.dispatched_at is not None
    assert "order_dispatched" not in await drive.told(again)


# --- people --------------------------------------------------------------------------------------


@pytest.mark.history
async def test_a_message_that_cannot_arrive_asks_once_for_an_address(
    drive: Drive, process: Handle
) -> None:
    for key in ("one", "two"):
        settled = MessageSettled(message_key=key, state="bounced")
        await drive.signal(process, OrderDelivery.message_settled, settled)
    task = await drive.task(process, TaskKind.CORRECT_ADDRESS)
    assert task.role is Role.SUPPORT_AGENT
    await drive.complete(process, TaskKind.CORRECT_ADDRESS, "corrected")
    assert await drive.is_running(process)


async def test_a_paused_order_acts_on_its_clocks_when_it_goes_on(
    drive: Drive, process: Handle, promised_on: date
) -> None:
    await drive.command(process, OrderDelivery.pause, {"by": "staff-7"})
    await drive.skip_to(process, end_of_day(promised_on, "UTC") + HOUR)
    assert await drive.told(process) == ["order_confirmed"]
    assert (await drive.standing(process)).state is ProcessState.PAUSED

    await drive.command(process, OrderDelivery.resume, {"by": "staff-7"})
    await becomes(lambda: drive.told(process), ["order_confirmed", "order_at_risk", "order_late"])


async def test_a_stopped_order_no_longer_occupies_the_customer(
    drive: Drive, customer: UUID, process: Handle
) -> None:
    await becomes(lambda: drive.stage(customer), "delivery")
    await drive.command(process, OrderDelivery.stop, {"by": "staff-7", "reason": "test order"})
    assert await drive.ends(process) == ProcessState.STOPPED
    await becomes(lambda: drive.stage(customer), "quiet")


async def test_an_order_begins_with_the_delivery_policy_in_force(
    drive: Drive, customer: UUID
) -> None:
    async with drive.policy(PolicyKind.DELIVERY, approval_expected=HOUR):
        _, process = await drive.place_order(customer)
    await drive.skip(process, 2 * HOUR)
    assert await drive.task(process, TaskKind.APPROVE_ORDER)


async def _reopened(
    drive: Drive, customer: UUID, order_id: UUID, signal: str, kind: type[Fact]
) -> Handle:
    """A report about an order whose process has ended starts it again, as the API does."""
    event = kind.model_validate(
        {"event_id": f"late-{uuid4()}", "occurred_at": datetime.now(UTC) + HOUR}
    )
    order = DeliveryInput(order_id=order_id, customer_id=customer)
    return await drive.start(OrderDelivery, order, delivery_workflow_id(order_id), signal, event)
