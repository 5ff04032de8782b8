"""The lifecycle: takes what happens, keeps the stage, starts the stage processes, and never sells
to somebody who is unhappy, silent by his own wish, or already being talked to.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from database.customers import Suppression
from database.feedback import Survey
from database.processes import Lifecycle, ProcessRow
from database.support import Case
from domain.contacts import ConsentState
from domain.delivery import OrderApproved, OrderDelivered, OrderDispatched
from domain.follow_up import FeedbackReceived, NeedStated
from domain.lifecycle import LeadReceived, LifecycleInput, LifecycleState, OptedOut, OrderNews
from domain.marketing import MarketingOutcome, ReplyReceived
from domain.messages import Channel
from domain.policies import CaseKind, FollowUpPolicy, PolicyKind, RetentionPolicy
from domain.processes import (
    Command,
    Fact,
    ProcessEnded,
    ProcessKind,
    ProcessState,
    delivery_workflow_id,
    follow_up_workflow_id,
    lifecycle_workflow_id,
    marketing_workflow_id,
    retention_workflow_id,
    support_workflow_id,
)
from domain.retention import RiskNoticed
from domain.support import CaseClosed, CaseOpened, CaseResolved, CaseState, Resolve
from domain.tasks import Role, TaskKind, TaskState
from tests.driving import DAY, HOUR, MINUTE, Drive, Handle
from tests.patience import becomes
from workflows.lifecycle import CustomerLifecycle
from workflows.support import SupportCase

POLICY = RetentionPolicy()
STAFF = Command(by="staff-7")

Tell = Callable[..., Awaitable[Any]]


def outreach_of(risk: RiskNoticed, customer: UUID) -> str:
    return retention_workflow_id(customer, risk.cause, risk.event_id)


@pytest.fixture
async def customer(drive: Drive) -> UUID:
    return await drive.customer()


@pytest.fixture
def lifecycle(drive: Drive, customer: UUID) -> Handle:
    return drive.lifecycle(customer)


SIGNALS = {
    LeadReceived: "lead_received",
    ReplyReceived: "reply_received",
    OptedOut: "opted_out",
    RiskNoticed: "risk_noticed",
    NeedStated: "need_stated",
    OrderNews: "order_news",
    CaseOpened: "case_opened",
    CaseResolved: "case_resolved",
    CaseClosed: "case_closed",
    ProcessEnded: "process_ended",
}


@pytest.fixture
def tell(drive: Drive, customer: UUID) -> Tell:
    """Tells the lifecycle a fact that happened now, unless it says otherwise."""

    async def tell(of: type[Fact], /, **fields: Any) -> Any:
        named = {"event_id": f"event-{uuid4()}", "occurred_at": datetime.now(UTC), **fields}
        fact = of.model_validate(named)
        await drive.tell(customer, SIGNALS[of], fact)
        return fact

    return tell


@pytest.fixture
def order_news(tell: Tell) -> Tell:
    async def news(kind: str, order_id: UUID, **fields: Any) -> Any:
        return await tell(OrderNews, kind=kind, order_id=order_id, **fields)

    return news


async def started(drive: Drive, workflow_id: str) -> Handle:
    """A process that the lifecycle started, once its first step is taken."""
    handle = drive.process(workflow_id)

    async def is_there() -> bool:
        async with drive.sessions() as session:
            return await session.get(ProcessRow, workflow_id) is not None

    await becomes(is_there, True)
    await drive.quiet(handle)
    return handle


async def processes(drive: Drive, customer: UUID, kind: ProcessKind) -> list[str]:
    found = sa.select(ProcessRow).where(ProcessRow.customer_id == customer)
    rows = await drive.rows(found.where(ProcessRow.kind == kind))
    return [row.workflow_id for row in rows]


async def stage_and_reason(drive: Drive, customer: UUID) -> tuple[str, str]:
    row = await drive.row(Lifecycle, customer)
    return row.stage.value, row.stage_reason


# --- leads ---------------------------------------------------------------------------------------


@pytest.mark.history
async def test_a_lead_starts_a_marketing_contact(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    lead = await tell(LeadReceived, source="fair", campaign="spring")
    await started(drive, marketing_workflow_id(customer, 1))
    assert await stage_and_reason(drive, customer) == ("marketing", "a lead came in")
    assert (await drive.row(Lifecycle, customer)).stage_since == lead.occurred_at
    line = await drive.line(lifecycle, "lead_received")
    assert line.facts == {"source": "fair", "campaign": "spring"}
    attributes = (await lifecycle.describe()).search_attributes
    assert (attributes["Process"], attributes["Stage"]) == (["lifecycle"], ["marketing"])
    contact = drive.process(marketing_workflow_id(customer, 1))
    attributes = (await contact.describe()).search_attributes
    assert (attributes["Process"], attributes["CustomerId"]) == (["marketing"], [f"{customer}"])


@pytest.mark.history
async def test_nobody_is_contacted_without_consent(
    drive: Drive, lifecycle: Handle, tell: Tell, customer: UUID
) -> None:
    await drive.withdraw_consent(customer)
    await tell(LeadReceived)
    await tell(RiskNoticed, cause="usage_fell")
    assert await drive.stage(customer) == "quiet"
    for kind in ("lead_received", "risk_noticed"):
        line = await drive.line(lifecycle, kind)
        assert line.facts["not_started"] == "no consent to marketing on any channel"
    assert await drive.told(customer) == []
    assert not await processes(drive, customer, ProcessKind.MARKETING)


async def test_a_second_lead_finds_the_contact_running_and_a_later_one_starts_another(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    await tell(LeadReceived)
    line = (await drive.lines(lifecycle, "lead_received"))[-1]
    assert line.facts["not_started"] == "a contact is running already"

    await drive.skip(contact, 60 * DAY)
    await becomes(lambda: drive.stage(customer), "quiet")
    await tell(LeadReceived)
    await started(drive, marketing_workflow_id(customer, 2))


async def test_a_lead_waits_for_no_recovery_to_end(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    await tell(CaseOpened, case_id=uuid4(), kind=CaseKind.RECOVERY)
    await tell(LeadReceived)
    line = await drive.line(lifecycle, "lead_received")
    assert line.facts["not_started"] == "a recovery case is open"
    assert not await processes(drive, customer, ProcessKind.MARKETING)


# --- twice and out of order ----------------------------------------------------------------------


@pytest.mark.history
async def test_a_fact_told_twice_changes_nothing_twice(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    await tell(LeadReceived, event_id="lead-1")
    await started(drive, marketing_workflow_id(customer, 1))
    for _ in range(2):
        await tell(LeadReceived, event_id="lead-1")
        await tell(ReplyReceived, event_id="reply-1")
        await tell(NeedStated, event_id="need-1", need_id=UUID(int=1))
    assert await drive.story(lifecycle) == ["lead_received", "reply_received", "need_stated"]
    contact = drive.process(marketing_workflow_id(customer, 1))
    await drive.quiet(contact)
    assert (await drive.story(contact)).count("reply_received") == 1
    assert len(await drive.tasks(lifecycle, kind=TaskKind.OPPORTUNITY)) == 1


async def test_facts_that_arrive_out_of_order_settle_the_same(
    drive: Drive, customer: UUID, lifecycle: Handle, order_news: Tell, tell: Tell
) -> None:
    order_id, now = uuid4(), datetime.now(UTC)
    await order_news("placed", order_id, occurred_at=now)
    # What happened before is heard after: it neither moves back what was last heard of him.
    await tell(NeedStated, need_id=uuid4(), occurred_at=now - 30 * DAY)
    row = await drive.row(Lifecycle, customer)
    assert row.last_heard_at == now
    assert await drive.stage(customer) == "delivery"
    # An end whose beginning isn't known ends nothing.
    await tell(
        ProcessEnded, workflow_id="marketing/x/9", kind=ProcessKind.MARKETING, outcome="ordered"
    )
    await tell(CaseResolved, case_id=uuid4(), kind=CaseKind.RECOVERY)
    await tell(CaseClosed, case_id=uuid4(), kind=CaseKind.REQUEST)
    assert await drive.stage(customer) == "delivery"
    await order_news("ended", order_id)
    assert await drive.stage(customer) == "quiet"


# --- replies -------------------------------------------------------------------------------------


async def test_a_reply_goes_to_the_contact_that_wrote_to_him(
    drive: Drive, customer: UUID, tell: Tell
) -> None:
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    await tell(ReplyReceived)
    await drive.quiet(contact)
    assert await drive.task(contact, TaskKind.ANSWER_REPLY)
    assert not await processes(drive, customer, ProcessKind.SUPPORT)


async def test_a_reply_goes_to_the_open_case_first(
    drive: Drive, customer: UUID, tell: Tell
) -> None:
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    _, case = await drive.open_case(customer)
    await drive.command(case, SupportCase.wait_for_customer, STAFF)
    await tell(ReplyReceived)
    await drive.quiet(case)
    assert (await drive.story(case))[-1] == "case_updated"
    assert "reply_received" not in await drive.story(contact)


async def test_a_reply_about_a_resolved_case_reopens_it(
    drive: Drive, customer: UUID, tell: Tell
) -> None:
    case_id, case = await drive.open_case(customer)
    await drive.command(case, SupportCase.resolve, Resolve(by="staff-7"))
    survey = await started(drive, follow_up_workflow_id(case_id))
    await tell(ReplyReceived, about_case=case_id)
    await drive.quiet(case)
    assert (await drive.story(case))[-1] == "case_reopened"
    assert await drive.ends(survey) == "reopened"
    await becomes(lambda: drive.stage(customer), "support")


@pytest.mark.history
async def test_who_answers_an_outreach_is_saved_and_answered(
    drive: Drive, customer: UUID, tell: Tell
) -> None:
    risk = await tell(RiskNoticed, cause="usage_fell")
    outreach = await started(drive, outreach_of(risk, customer))
    reply = await tell(ReplyReceived, answers=outreach.id)
    assert await drive.ends(outreach) == "saved"
    await becomes(lambda: drive.stage(customer), "support")
    [case] = await drive.rows(sa.select(Case).where(Case.event_id == reply.event_id))
    assert (case.kind, case.state) == (CaseKind.QUESTION, CaseState.OPEN)
    [task] = await drive.tasks(drive.process(support_workflow_id(case.id)), ended_at=None)
    assert task.kind is TaskKind.FIRST_RESPONSE


@pytest.mark.parametrize("before", ["nothing", "a contact that ends", "a closed case"])
@pytest.mark.history
async def test_a_reply_to_nobody_in_particular_opens_a_case(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell, before: str
) -> None:
    about = None
    if before == "a contact that ends":
        await tell(LeadReceived)
        contact = await started(drive, marketing_workflow_id(customer, 1))
        await contact.terminate("ended, and the lifecycle doesn't know yet")
    if before == "a closed case":
        about, case = await drive.open_case(customer)
        await drive.command(case, SupportCase.stop, STAFF)
        await becomes(lambda: drive.stage(customer), "quiet")
    earlier = await processes(drive, customer, ProcessKind.SUPPORT)
    reply = await tell(ReplyReceived, about_case=about)

    async def opened() -> int:
        return len(await processes(drive, customer, ProcessKind.SUPPORT)) - len(earlier)

    await becomes(opened, 1)
    found = sa.select(Case).where(Case.event_id == reply.event_id)
    [case_row] = await drive.rows(found)
    assert case_row.kind is CaseKind.QUESTION
    await becomes(lambda: drive.stage(customer), "support")


# --- orders --------------------------------------------------------------------------------------


@pytest.mark.history
async def test_an_order_ends_the_selling(
    drive: Drive, customer: UUID, tell: Tell, order_news: Tell
) -> None:
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    await order_news("placed", uuid4())
    assert await drive.ends(contact) == MarketingOutcome.ORDERED
    assert await stage_and_reason(drive, customer) == ("delivery", "an order was placed")


@pytest.mark.history
async def test_each_delivered_order_is_followed_up(
    drive: Drive, customer: UUID, order_news: Tell
) -> None:
    first, second = uuid4(), uuid4()
    await order_news("placed", first)
    await order_news("placed", second)
    delivered = await order_news("delivered", first)
    follow_up = await started(drive, follow_up_workflow_id(first))
    row = await drive.standing(follow_up)
    assert row.next_timer_at == delivered.occurred_at + FollowUpPolicy().after_delivery
    assert await drive.stage(customer) == "delivery", "the second is still on its way"
    await order_news("delivered", second)
    await started(drive, follow_up_workflow_id(second))
    await becomes(lambda: drive.stage(customer), "follow_up")


async def test_an_order_that_ended_otherwise_is_not(
    drive: Drive, customer: UUID, order_news: Tell
) -> None:
    order_id = uuid4()
    await order_news("placed", order_id)
    await order_news("ended", order_id)
    assert await stage_and_reason(drive, customer) == ("quiet", "the order ended undelivered")
    assert not await processes(drive, customer, ProcessKind.FOLLOW_UP)


async def test_a_follow_up_that_a_review_started_is_found_running(
    drive: Drive, customer: UUID, order_news: Tell
) -> None:
    order_id = uuid4()
    _, review = await drive.follow_up(customer, about_id=order_id)
    await order_news("placed", order_id)
    await order_news("delivered", order_id)
    await becomes(lambda: drive.stage(customer), "follow_up")
    assert await processes(drive, customer, ProcessKind.FOLLOW_UP) == [review.id]


# --- cases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (CaseKind.REQUEST, True),
        (CaseKind.QUESTION, True),
        (CaseKind.INCIDENT, True),
        (CaseKind.FAILED_DELIVERY, False),
        (CaseKind.RECOVERY, False),
    ],
)
async def test_a_resolved_case_is_asked_about_unless_it_was_itself_an_answer(
    drive: Drive, customer: UUID, kind: CaseKind, asked: bool
) -> None:
    case_id, case = await drive.open_case(customer, kind=kind)
    await becomes(lambda: drive.stage(customer), "support")
    await drive.command(case, SupportCase.resolve, Resolve(by="staff-7"))
    if asked:
        await started(drive, follow_up_workflow_id(case_id))
    await becomes(lambda: drive.stage(customer), "follow_up" if asked else "quiet")
    assert bool(await processes(drive, customer, ProcessKind.FOLLOW_UP)) is asked


@pytest.mark.history
async def test_selling_is_held_while_any_recovery_is_open(
    drive: Drive, customer: UUID, tell: Tell
) -> None:
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    (_, one), (_, other) = [
        await drive.open_case(customer, kind=CaseKind.RECOVERY) for _ in range(2)
    ]
    await drive.quiet(drive.lifecycle(customer))
    await drive.skip(contact, 30 * DAY)
    assert await drive.told(contact) == ["marketing_welcome"]

    await drive.command(one, SupportCase.resolve, Resolve(by="staff-7"))
    await drive.quiet(drive.lifecycle(customer))
    await drive.quiet(contact)
    assert await drive.told(contact) == ["marketing_welcome"], "one is left"

    # A reply would reopen it: unhappy again, so selling rests again.
    await drive.command(one, SupportCase.reopen, STAFF)
    await drive.command(one, SupportCase.resolve, Resolve(by="staff-7"))
    await drive.command(other, SupportCase.stop, STAFF)
    await becomes(lambda: drive.told(contact), ["marketing_welcome", "marketing_value"])


@pytest.mark.parametrize("kind", [CaseKind.REQUEST, CaseKind.FAILED_DELIVERY])
async def test_another_case_holds_nothing_back(
    drive: Drive, customer: UUID, tell: Tell, kind: CaseKind
) -> None:
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    await drive.open_case(customer, kind=kind)
    await drive.quiet(drive.lifecycle(customer))
    await drive.skip(contact, 5 * DAY)
    assert await drive.told(contact) == ["marketing_welcome", "marketing_value"]


async def test_an_opt_out_reaches_whoever_sells(drive: Drive, customer: UUID, tell: Tell) -> None:
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    risk = await tell(RiskNoticed, cause="usage_fell")
    outreach = await started(drive, outreach_of(risk, customer))
    await tell(OptedOut)
    assert await drive.ends(contact) == MarketingOutcome.OPTED_OUT
    assert await drive.ends(outreach) == "lost"
    await becomes(lambda: drive.stage(customer), "lost")


@pytest.mark.history
async def test_an_opt_out_of_one_channel_leaves_the_selling_on_the_other(
    drive: Drive, customer: UUID, tell: Tell
) -> None:
    await drive.agrees_to(customer, Channel.SMS, "+5511961234567")
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    risk = await tell(RiskNoticed, cause="usage_fell")
    outreach = await started(drive, outreach_of(risk, customer))

    await tell(OptedOut, channel=Channel.EMAIL)
    await drive.withdraw_consent(customer)
    noted = await drive.line(drive.lifecycle(customer), "opted_out")
    assert noted.facts == {"selling_goes_on_by": "sms"}
    await drive.quiet(contact)
    assert await drive.is_running(contact)
    assert await drive.is_running(outreach)

    await tell(OptedOut, channel=Channel.SMS)
    assert await drive.ends(contact) == MarketingOutcome.OPTED_OUT
    assert await drive.ends(outreach) == "lost"


@pytest.mark.parametrize("obstacle", ["no address", "suppressed", "not confirmed"])
async def test_a_channel_that_is_not_open_keeps_no_selling_alive(
    drive: Drive, customer: UUID, tell: Tell, obstacle: str
) -> None:
    number = f"+55119{uuid4().int % 10**8:08}"
    state = ConsentState.PENDING if obstacle == "not confirmed" else ConsentState.GRANTED
    address = None if obstacle == "no address" else number
    await drive.agrees_to(customer, Channel.SMS, address, state)
    if obstacle == "suppressed":
        async with drive.sessions.begin() as session:
            session.add(Suppression(channel=Channel.SMS, address=number, reason="STOP"))
    await tell(LeadReceived)
    contact = await started(drive, marketing_workflow_id(customer, 1))
    await tell(OptedOut, channel=Channel.EMAIL)
    assert await drive.ends(contact) == MarketingOutcome.OPTED_OUT


# --- needs ---------------------------------------------------------------------------------------


@pytest.mark.history
async def test_a_stated_need_is_an_opportunity_for_a_person(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    async with drive.policy(PolicyKind.FOLLOW_UP, opportunity_due=DAY):
        need = await tell(NeedStated, need_id=uuid4())
    task = await drive.task(lifecycle, TaskKind.OPPORTUNITY)
    assert (task.role, task.state) == (Role.ACCOUNT_MANAGER, TaskState.OPEN)
    assert task.due_at == need.occurred_at + DAY

    await drive.complete(lifecycle, TaskKind.OPPORTUNITY, "won")
    task = await drive.task(lifecycle, TaskKind.OPPORTUNITY)
    assert (task.state, task.outcome) == (TaskState.DONE, "won")
    assert (await drive.story(lifecycle))[-1] == "task_completed"
    assert await drive.is_running(lifecycle)


# --- silence and risk ----------------------------------------------------------------------------


async def ordered_before(order_news: Tell, *days: int) -> None:
    """Orders so many days ago; each ended undelivered, so that nothing follows from it."""
    for ago in days:
        order_id, at = uuid4(), datetime.now(UTC) - ago * DAY
        await order_news("placed", order_id, occurred_at=at)
        await order_news("ended", order_id, occurred_at=at)


async def the_play(drive: Drive, customer: UUID) -> Handle:
    """The one save play of a customer, once it has started."""

    async def how_many() -> int:
        return len(await processes(drive, customer, ProcessKind.RETENTION))

    await becomes(how_many, 1)
    [play] = await processes(drive, customer, ProcessKind.RETENTION)
    return await started(drive, play)


async def silences(drive: Drive, lifecycle: Handle) -> list[timedelta]:
    """How long nothing had been heard each time that silence was noticed."""
    return [
        line.happened_at
        - datetime.strptime(line.step_key, "silence/%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        for line in await drive.lines(lifecycle, "silence_noticed")
    ]


@pytest.mark.parametrize(
    ("orders", "silence"),
    [
        ((), POLICY.silence),
        ((0,), POLICY.silence),
        ((80, 40, 0), 40 * DAY * POLICY.rhythm_factor),
        ((2, 1, 0), POLICY.shortest_silence),
    ],
    ids=["never_ordered", "one_order", "own_rhythm", "not_sooner_than"],
)
@pytest.mark.history
async def test_silence_longer_than_his_own_rhythm_starts_retention(
    drive: Drive,
    customer: UUID,
    lifecycle: Handle,
    tell: Tell,
    order_news: Tell,
    orders: tuple[int, ...],
    silence: timedelta,
) -> None:
    await tell(NeedStated, need_id=uuid4())
    await ordered_before(order_news, *orders)
    row = await drive.row(Lifecycle, customer)
    assert row.last_heard_at is not None
    assert row.silence_due_at is not None
    assert row.silence_due_at - row.last_heard_at == pytest.approx(silence, abs=MINUTE)
    await drive.skip(lifecycle, silence - HOUR)
    assert await silences(drive, lifecycle) == []

    await drive.skip_to_next_timer(lifecycle)
    await becomes(lambda: drive.stage(customer), "retention")
    assert await silences(drive, lifecycle) == pytest.approx([silence], abs=MINUTE)
    play = await the_play(drive, customer)
    assert play.id.startswith(f"retention/{customer}/silence-")


async def test_a_sign_of_life_begins_the_silence_anew(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    await tell(NeedStated, need_id=uuid4())
    await drive.skip(lifecycle, POLICY.silence - DAY)
    await tell(NeedStated, need_id=uuid4(), occurred_at=await drive.now(lifecycle))
    await drive.skip(lifecycle, POLICY.silence - DAY)
    assert await silences(drive, lifecycle) == []
    await drive.skip(lifecycle, DAY - HOUR)
    await drive.skip_to_next_timer(lifecycle)
    await becomes(lambda: drive.stage(customer), "retention")


async def test_who_waits_for_an_order_is_not_silent(
    drive: Drive, customer: UUID, lifecycle: Handle, order_news: Tell
) -> None:
    await order_news("placed", uuid4())
    await drive.skip(lifecycle, 2 * POLICY.silence)
    assert await silences(drive, lifecycle) == []
    assert await drive.stage(customer) == "delivery"


@pytest.mark.history
@pytest.mark.parametrize("said", ["a task is done", "it is resumed"])
async def test_who_waits_for_an_order_waits_for_no_silence_whatever_staff_do(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell, order_news: Tell, said: str
) -> None:
    """The timer of before the order is left running, as re-arming costs more; it means nothing."""
    await tell(NeedStated, need_id=uuid4())
    assert (await drive.row(ProcessRow, lifecycle.id)).next_timer_at is not None
    await order_news("placed", uuid4())
    if said == "it is resumed":
        await lifecycle.execute_update(CustomerLifecycle.pause, STAFF)
        await lifecycle.execute_update(CustomerLifecycle.resume, STAFF)
        await drive.quiet(lifecycle)
    else:
        await drive.complete(lifecycle, TaskKind.OPPORTUNITY, "won")
    row = await drive.row(ProcessRow, lifecycle.id)
    assert (row.next_timer_at, row.next_timer_machine_at) == (None, None)


async def test_silence_without_consent_is_noticed_once_and_left_at_that(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    await drive.withdraw_consent(customer)
    await tell(NeedStated, need_id=uuid4())
    await drive.skip(lifecycle, 5 * POLICY.silence)
    line = await drive.line(lifecycle, "silence_noticed")
    assert line.facts["not_started"] == "no consent to marketing on any channel"
    assert await drive.told(customer) == []


async def test_a_risk_starts_retention_once_at_a_time_and_not_during_a_recovery(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    recovery = await tell(CaseOpened, case_id=uuid4(), kind=CaseKind.RECOVERY)
    await tell(RiskNoticed, cause="usage_fell")
    await tell(CaseResolved, case_id=recovery.case_id, kind=CaseKind.RECOVERY)
    risk = await tell(RiskNoticed, cause="contract_ends")
    outreach = await started(drive, outreach_of(risk, customer))
    await tell(RiskNoticed, cause="payment_failed")
    reasons = [
        line.facts.get("not_started") for line in await drive.lines(lifecycle, "risk_noticed")
    ]
    assert reasons == ["a recovery case is open", None, "a save play is running"]
    assert await processes(drive, customer, ProcessKind.RETENTION) == [outreach.id]
    assert await stage_and_reason(drive, customer) == ("retention", "retention: contract_ends")


@pytest.mark.history
async def test_a_cause_that_comes_again_is_another_outreach(
    drive: Drive, customer: UUID, tell: Tell
) -> None:
    """A contract ends every year."""
    for year in (1, 2):
        risk = await tell(RiskNoticed, cause="contract_ends")
        outreach = await started(drive, outreach_of(risk, customer))
        assert await drive.told(outreach) == ["retention_check_in"]
        assert (await drive.told(customer)).count("retention_check_in") == year
        reply = ReplyReceived(event_id=f"reply-{year}", occurred_at=datetime.now(UTC))
        await drive.signal(outreach, "reply_received", reply)
        assert await drive.ends(outreach) == "saved"
        await becomes(lambda: drive.stage(customer), "quiet")


async def test_silence_is_counted_by_the_policy_in_force_from_the_first_fact_on(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    async with drive.policy(PolicyKind.RETENTION, silence=365 * DAY):
        stated = await tell(NeedStated, need_id=uuid4())
        row = await drive.row(Lifecycle, customer)
        assert row.silence_due_at == stated.occurred_at + 365 * DAY
        assert (await drive.standing(lifecycle)).next_timer_at == row.silence_due_at


async def test_a_lost_customer_who_orders_is_none(
    drive: Drive, customer: UUID, tell: Tell, order_news: Tell
) -> None:
    risk = await tell(RiskNoticed, cause="usage_fell")
    outreach = await started(drive, outreach_of(risk, customer))
    await drive.skip(outreach, 365 * DAY)
    await becomes(lambda: stage_and_reason(drive, customer), ("lost", "retention ended"))
    order_id = uuid4()
    await order_news("placed", order_id)
    await order_news("ended", order_id)
    assert await drive.stage(customer) == "quiet"


async def test_who_was_saved_by_a_person_may_fall_silent_again(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    await tell(NeedStated, need_id=uuid4())
    await drive.skip_to_next_timer(lifecycle)
    await becomes(lambda: drive.stage(customer), "retention")
    outreach = await the_play(drive, customer)
    await drive.skip(outreach, 6 * DAY)
    await drive.complete(outreach, TaskKind.SAVE_CUSTOMER, "saved")
    await becomes(lambda: drive.stage(customer), "quiet")
    row = await drive.row(Lifecycle, customer)
    assert row.silence_due_at is not None
    assert row.silence_due_at > await drive.now(lifecycle) + POLICY.silence - DAY


# --- steering ------------------------------------------------------------------------------------


async def test_what_happens_while_it_is_paused_is_kept_for_later(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    await tell(NeedStated, need_id=uuid4())
    await drive.command(lifecycle, CustomerLifecycle.pause, STAFF)
    await tell(LeadReceived)
    assert not await processes(drive, customer, ProcessKind.MARKETING)
    await drive.command(lifecycle, CustomerLifecycle.resume, STAFF)
    await started(drive, marketing_workflow_id(customer, 1))


async def test_a_stopped_lifecycle_begins_again_with_the_next_fact(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell
) -> None:
    await tell(LeadReceived)
    await started(drive, marketing_workflow_id(customer, 1))
    await drive.command(lifecycle, CustomerLifecycle.stop, STAFF)
    assert await drive.ends(lifecycle) == ProcessState.STOPPED

    await tell(LeadReceived)
    await started(drive, marketing_workflow_id(customer, 2))
    assert (await drive.standing(drive.lifecycle(customer))).state is ProcessState.RUNNING


# --- for ever ------------------------------------------------------------------------------------


@pytest.mark.history
async def test_a_long_life_continues_as_new_and_forgets_nothing(
    drive: Drive, customer: UUID, lifecycle: Handle, tell: Tell, order_news: Tell
) -> None:
    await tell(LeadReceived, event_id="lead-1")
    contact = await started(drive, marketing_workflow_id(customer, 1))
    need = await tell(NeedStated, need_id=uuid4())
    order_id = uuid4()
    first_run = (await lifecycle.describe()).run_id
    now = datetime.now(UTC)
    await asyncio.gather(
        *(
            lifecycle.signal(
                CustomerLifecycle.risk_noticed,
                RiskNoticed(event_id=f"risk-{n % 150}", occurred_at=now, cause="usage_fell"),
            )
            for n in range(200)
        )
    )
    await drive.quiet(lifecycle)
    await tell(RiskNoticed, cause="contract_ends")

    async def is_a_new_run() -> bool:
        return (await drive.lifecycle(customer).describe()).run_id != first_run

    # The server suggests it with a workflow task that begins after so many events: one that began
    # before may have dealt with all of them, and the next fact begins another. Each has time,
    # since a signal that arrives meanwhile makes the server refuse the new run.
    noticed = 151
    with contextlib.suppress(AssertionError):
        await becomes(is_a_new_run, True, within=10)
    if not await is_a_new_run():
        await tell(RiskNoticed, cause="usage_fell")
        noticed += 1
        await becomes(is_a_new_run, True)
    await drive.quiet(lifecycle)
    assert len(await drive.lines(lifecycle, "risk_noticed")) == noticed, "each once"

    # What was seen is still known, what was open is still open, and the tasks are still his.
    await tell(LeadReceived, event_id="lead-1")
    await tell(RiskNoticed, event_id="risk-7", cause="usage_fell")
    assert len(await drive.lines(lifecycle, "lead_received")) == 1
    assert len(await drive.lines(lifecycle, "risk_noticed")) == noticed
    await drive.command(lifecycle, CustomerLifecycle.pause, STAFF)
    await drive.command(lifecycle, CustomerLifecycle.resume, STAFF)
    assert (await drive.standing(lifecycle)).step == "in retention"
    await drive.complete(lifecycle, TaskKind.OPPORTUNITY, "won")
    assert need.need_id is not None
    await order_news("placed", order_id)
    assert await drive.ends(contact) == MarketingOutcome.ORDERED
    await tell(LeadReceived)
    await started(drive, marketing_workflow_id(customer, 2))


async def test_what_is_carried_into_a_new_run_is_acted_on(
    drive: Drive, customer: UUID, lifecycle: Handle
) -> None:
    heard = datetime.now(UTC)
    state = LifecycleState(
        last_heard_at=heard,
        seen=("lead-1",),
        marketing_sequence=3,
        ordered_at=(heard - 80 * DAY, heard - 40 * DAY, heard),
    )
    start = LifecycleInput(customer_id=customer, state=state)
    await drive.start(CustomerLifecycle, start, lifecycle_workflow_id(customer))
    lead = LeadReceived(event_id="lead-1", occurred_at=heard)
    await drive.tell(customer, "lead_received", lead)
    assert await drive.story(lifecycle) == []
    await drive.skip_to(lifecycle, heard + 80 * DAY - timedelta(milliseconds=100))
    await the_play(drive, customer)
    assert await silences(drive, lifecycle) == pytest.approx([80 * DAY], abs=MINUTE)


@pytest.mark.history
async def test_a_year_of_a_customer_passes_in_seconds(drive: Drive) -> None:
    """Across all processes, on the accelerated clock of a simulation: a day lasts 20 ms."""
    simulation, clock = await drive.simulate(day=timedelta(milliseconds=20))
    customer = await drive.customer(simulation=simulation)

    def now() -> datetime:
        return clock.business(datetime.now(UTC))

    def fact(name: str) -> dict[str, Any]:
        return {"event_id": f"{name}-{uuid4()}", "occurred_at": now()}

    born = now()
    await drive.tell(customer, "lead_received", LeadReceived(**fact("lead"), source="fair"))
    contact = drive.process(marketing_workflow_id(customer, 1))
    await becomes(lambda: _told(drive, contact, "marketing_welcome"), True)
    await drive.tell(customer, "reply_received", ReplyReceived(**fact("reply")))

    async def asked_to_answer() -> int:
        return len(await drive.tasks(contact, kind=TaskKind.ANSWER_REPLY))

    await becomes(asked_to_answer, 1)
    await drive.complete(contact, TaskKind.ANSWER_REPLY, "answered")
    assert await drive.ends(contact) == MarketingOutcome.ANSWERED

    promised_on = (now() + 20 * DAY).date()
    order_id, order = await drive.place_order(customer, promised_on=promised_on, at=now())
    await order.signal("order_approved", OrderApproved(**fact("approved")))
    await order.signal("order_dispatched", OrderDispatched(**fact("dispatched")))
    await becomes(lambda: _told_late(drive, order), True)
    # An answer is waited for long enough for a machine that is slow to give it.
    async with drive.policy(PolicyKind.FOLLOW_UP, close_after=200 * DAY):
        await order.signal("order_delivered", OrderDelivered(**fact("delivered")))
        assert await drive.ends(order) == "delivered"
        follow_up = drive.process(follow_up_workflow_id(order_id))
        await becomes(lambda: _told(drive, follow_up, "survey_request"), True)
    [survey] = await drive.rows(sa.select(Survey).where(Survey.order_id == order_id))
    answer = FeedbackReceived(
        **fact("answer"), customer_id=customer, order_id=order_id, score=1, survey_id=survey.id
    )
    await follow_up.signal("feedback_received", answer)

    async def recovery() -> int:
        return len(await processes(drive, customer, ProcessKind.SUPPORT))

    await becomes(recovery, 1)
    [case] = await processes(drive, customer, ProcessKind.SUPPORT)
    await drive.command(drive.process(case), SupportCase.resolve, Resolve(by="staff-7"))
    await becomes(lambda: drive.stage(customer), "quiet")

    # Nothing more is heard of him: silence by the default, the save play, lost, won back in vain.
    await becomes(lambda: drive.stage(customer), "retention")
    await becomes(lambda: drive.stage(customer), "lost", within=40)
    assert now() - born > 365 * DAY

    running = sa.select(ProcessRow).where(
        ProcessRow.customer_id == customer, ProcessRow.state == ProcessState.RUNNING
    )
    assert [row.kind for row in await drive.rows(running)] == [ProcessKind.LIFECYCLE]
    # How many touches and warnings go before depends on the machine: a day is short.
    told = [message.template for message in await drive.messages(customer)]
    perhaps = {"marketing_value", "marketing_last", "order_at_risk", "survey_reminder"}
    assert [name.value for name in told if name not in perhaps] == [
        "marketing_welcome",
        *("order_confirmed", "order_dispatched", "order_late", "order_delivered"),
        *("survey_request", "recovery_started", "recovery_outcome"),
        *("retention_check_in", "retention_offer", "win_back"),
    ]


async def _told(drive: Drive, process: Handle, template: str) -> bool:
    return template in await drive.told(process)


async def _told_late(drive: Drive, order: Handle) -> bool:
    return await _told(drive, order, "order_late")


def test_every_fact_the_lifecycle_takes_is_told_here() -> None:
    assert set(SIGNALS.values()) <= {
        name for name in vars(CustomerLifecycle) if not name.startswith("_")
    }
    assert delivery_workflow_id(UUID(int=0)) != support_workflow_id(UUID(int=0))
