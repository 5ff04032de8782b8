"""Marketing contact: touches until the customer answers, orders, opts out, or the last one."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from domain.lifecycle import LeadReceived, OptedOut, OrderNews
from domain.marketing import MarketingOutcome, ReplyReceived
from domain.messages import Template
from domain.policies import MarketingPolicy, PolicyKind
from domain.processes import (
    Command,
    Fact,
    MessageSettled,
    ProcessState,
    TaskCompleted,
    marketing_workflow_id,
)
from domain.tasks import Role, TaskKind, TaskState
from tests.driving import DAY, HOUR, MINUTE, Drive, Handle
from tests.patience import becomes
from workflows.marketing import MarketingContact

POLICY = MarketingPolicy()


@pytest.fixture
async def customer(drive: Drive) -> UUID:
    return await drive.customer()


@pytest.fixture
async def contact(drive: Drive, customer: UUID) -> Handle:
    return await drive.start_contact(customer)


def reply(event_id: str = "") -> ReplyReceived:
    return ReplyReceived(event_id=event_id or f"reply-{uuid4()}", occurred_at=datetime.now(UTC))


def order() -> OrderNews:
    return OrderNews(
        event_id=f"order-{uuid4()}", occurred_at=datetime.now(UTC), order_id=uuid4(), kind="placed"
    )


def fact() -> Fact:
    return Fact(event_id=f"fact-{uuid4()}", occurred_at=datetime.now(UTC))


@pytest.mark.history
async def test_touches_are_spaced_by_the_policy_and_stop_with_the_last(
    drive: Drive, contact: Handle
) -> None:
    await drive.skip(contact, 60 * DAY)

    assert await drive.ends(contact) == MarketingOutcome.NO_ANSWER
    assert await drive.told(contact) == ["marketing_welcome", "marketing_value", "marketing_last"]
    first, second, third = [
        line.happened_at for line in await drive.lines(contact, "marketing_touch")
    ]
    ended = (await drive.line(contact, "marketing_ended")).happened_at
    assert second - first == pytest.approx(POLICY.between_touches, abs=MINUTE)
    assert third - second == pytest.approx(POLICY.between_touches, abs=MINUTE)
    assert ended - third == pytest.approx(POLICY.after_last_touch, abs=MINUTE)


async def test_no_touch_goes_out_before_its_moment(drive: Drive, contact: Handle) -> None:
    await drive.skip(contact, POLICY.between_touches - HOUR)
    assert await drive.told(contact) == ["marketing_welcome"]
    await drive.skip(contact, 2 * HOUR)
    assert await drive.told(contact) == ["marketing_welcome", "marketing_value"]
    for touch in await drive.messages(contact):  # it makes no sense once the next one is due
        assert touch.not_after is not None
        until_next = touch.not_after - touch.asked_at
        assert until_next == pytest.approx(POLICY.between_touches, abs=MINUTE)


async def test_a_running_contact_keeps_the_policy_it_began_with(
    drive: Drive, customer: UUID
) -> None:
    async with drive.policy(
        PolicyKind.MARKETING, touches=("marketing_value",), after_last_touch=DAY
    ):
        first = await drive.start_contact(customer, 1)
    second = await drive.start_contact(customer, 2)

    await drive.skip(first, 2 * DAY)
    await drive.skip(second, 2 * DAY)

    assert await drive.ends(first) == MarketingOutcome.NO_ANSWER
    assert await drive.told(first) == ["marketing_value"]
    assert await drive.is_running(second)
    assert await drive.told(second) == ["marketing_welcome"]


async def test_a_reply_becomes_a_task_for_the_sales_rep_and_no_touch_follows(
    drive: Drive, contact: Handle
) -> None:
    await drive.signal(contact, MarketingContact.reply_received, reply())

    task = await drive.task(contact, TaskKind.ANSWER_REPLY)
    assert (task.role, task.state) == (Role.SALES_REP, TaskState.OPEN)
    replied = (await drive.line(contact, "reply_received")).happened_at
    assert task.due_at - replied == pytest.approx(POLICY.first_response, abs=MINUTE)
    assert (await drive.standing(contact)).next_timer_at == task.due_at

    await drive.skip(contact, 60 * DAY)
    assert await drive.told(contact) == ["marketing_welcome"]


@pytest.mark.parametrize(
    ("outcome", "ends_as"),
    [
        ("answered", MarketingOutcome.ANSWERED),
        ("not_interested", MarketingOutcome.NOT_INTERESTED),
    ],
)
@pytest.mark.history
async def test_a_reply_answered_in_time_ends_the_contact_without_the_manager(
    drive: Drive, contact: Handle, outcome: str, ends_as: MarketingOutcome
) -> None:
    await drive.signal(contact, MarketingContact.reply_received, reply())
    await drive.complete(contact, TaskKind.ANSWER_REPLY, outcome)

    assert await drive.ends(contact) == ends_as
    task = await drive.task(contact, TaskKind.ANSWER_REPLY)
    assert (task.state, task.outcome, task.owner) == (TaskState.DONE, outcome, "staff-7")
    assert not await drive.tasks(contact, kind=TaskKind.ANSWER_REPLY_ESCALATED)


@pytest.mark.parametrize("who", [TaskKind.ANSWER_REPLY, TaskKind.ANSWER_REPLY_ESCALATED])
@pytest.mark.history
async def test_a_missed_first_response_goes_to_the_manager_and_either_may_answer(
    drive: Drive, contact: Handle, who: TaskKind
) -> None:
    await drive.signal(contact, MarketingContact.reply_received, reply())
    await drive.skip(contact, POLICY.first_response - MINUTE)
    assert not await drive.tasks(contact, kind=TaskKind.ANSWER_REPLY_ESCALATED)

    await drive.skip(contact, 2 * MINUTE)
    escalated = await drive.task(contact, TaskKind.ANSWER_REPLY_ESCALATED)
    assert escalated.role is Role.MANAGER
    missed = (await drive.line(contact, "first_response_missed")).happened_at
    assert escalated.due_at - missed == pytest.approx(POLICY.escalated_response, abs=MINUTE)

    await drive.complete(contact, who, "answered")
    assert await drive.ends(contact) == MarketingOutcome.ANSWERED
    left = [task.state for task in await drive.tasks(contact)]
    assert sorted(left) == [TaskState.CANCELLED, TaskState.DONE]


@pytest.mark.history
async def test_another_reply_starts_the_first_response_clock_again(
    drive: Drive, contact: Handle
) -> None:
    await drive.signal(contact, MarketingContact.reply_received, reply())
    await drive.skip(contact, 3 * HOUR)
    await drive.signal(contact, MarketingContact.reply_received, reply())
    await drive.skip(contact, 3 * HOUR)
    assert len(await drive.tasks(contact, kind=TaskKind.ANSWER_REPLY)) == 2
    assert "first_response_missed" not in await drive.story(contact)

    await drive.skip(contact, 2 * HOUR)
    assert "first_response_missed" in await drive.story(contact)


@pytest.mark.history
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_reply_that_comes_during_a_pause_is_answered_too(
    drive: Drive, contact: Handle, ordered: bool
) -> None:
    await drive.signal(contact, MarketingContact.reply_received, reply())
    await drive.command(contact, MarketingContact.pause, Command(by="staff-7"))
    if ordered:
        await drive.signal(contact, MarketingContact.order_placed, order())
    else:
        await drive.complete(contact, TaskKind.ANSWER_REPLY, "answered")
    await drive.signal(contact, MarketingContact.reply_received, reply())
    await drive.command(contact, MarketingContact.resume, Command(by="staff-7"))

    await becomes(lambda: open_tasks(drive, contact), [TaskKind.ANSWER_REPLY])
    assert (await drive.standing(contact)).state is ProcessState.RUNNING
    [task] = await drive.tasks(contact, ended_at=None)
    done = TaskCompleted(task_id=task.id, outcome="answered", by="staff-7")
    await drive.command(contact, MarketingContact.complete_task, done)
    assert await drive.ends(contact) == ("ordered" if ordered else "answered")
    assert (await drive.standing(contact)).state is ProcessState.COMPLETED
    assert await open_tasks(drive, contact) == []


async def open_tasks(drive: Drive, contact: Handle) -> list[TaskKind]:
    return [task.kind for task in await drive.tasks(contact, ended_at=None)]


async def test_a_reply_that_arrives_twice_is_answered_once(drive: Drive, contact: Handle) -> None:
    twice = reply()
    await drive.signal(contact, MarketingContact.reply_received, twice)
    await drive.skip(contact, HOUR)
    await drive.signal(contact, MarketingContact.reply_received, twice)

    assert len(await drive.lines(contact, "reply_received")) == 1
    await drive.skip(contact, 3 * HOUR + MINUTE)
    assert "first_response_missed" in await drive.story(contact), "the clock ran on"


@pytest.mark.parametrize(
    ("signal", "fact", "ends_as"),
    [
        ("order_placed", order(), MarketingOutcome.ORDERED),
        (
            "opted_out",
            OptedOut(event_id="o", occurred_at=datetime.now(UTC)),
            MarketingOutcome.OPTED_OUT,
        ),
        (
            "message_settled",
            MessageSettled(message_key="m", state="bounced"),
            MarketingOutcome.UNDELIVERABLE,
        ),
    ],
)
@pytest.mark.history
async def test_the_contact_ends_when_there_is_nobody_to_sell_to(
    drive: Drive, contact: Handle, signal: str, fact: object, ends_as: MarketingOutcome
) -> None:
    await drive.skip(contact, 5 * DAY)
    await drive.signal(contact, signal, fact)

    assert await drive.ends(contact) == ends_as
    assert await drive.told(contact) == ["marketing_welcome", "marketing_value"]
    row = await drive.standing(contact)
    assert (row.state, row.outcome) == (ProcessState.COMPLETED, ends_as)


@pytest.mark.parametrize(
    ("signal", "fact", "ends_as"),
    [
        ("order_placed", order(), MarketingOutcome.ORDERED),
        (
            "opted_out",
            OptedOut(event_id="o", occurred_at=datetime.now(UTC)),
            MarketingOutcome.OPTED_OUT,
        ),
    ],
)
@pytest.mark.parametrize("missed", [False, True], ids=["in_time", "after_the_escalation"])
@pytest.mark.history
async def test_an_order_or_opt_out_spares_the_rep_the_answer(
    drive: Drive, contact: Handle, signal: str, fact: object, ends_as: str, missed: bool
) -> None:
    await drive.signal(contact, MarketingContact.reply_received, reply())
    if missed:
        await drive.skip(contact, POLICY.first_response + MINUTE)
    await drive.signal(contact, signal, fact)

    assert await drive.ends(contact) == ends_as
    assert {task.state for task in await drive.tasks(contact)} == {TaskState.CANCELLED}


@pytest.mark.history
async def test_selling_rests_while_a_recovery_case_is_open(drive: Drive, contact: Handle) -> None:
    await drive.signal(contact, MarketingContact.selling_held, fact())
    await drive.skip(contact, 30 * DAY)
    assert await drive.told(contact) == ["marketing_welcome"]

    await drive.signal(contact, MarketingContact.selling_released, fact())
    assert await drive.told(contact) == ["marketing_welcome", "marketing_value"]
    await drive.skip(contact, 30 * DAY)
    assert await drive.ends(contact) == MarketingOutcome.NO_ANSWER
    assert len(await drive.told(contact)) == 3


async def test_a_reply_is_answered_even_while_selling_rests(drive: Drive, contact: Handle) -> None:
    await drive.signal(contact, MarketingContact.selling_held, fact())
    await drive.skip(contact, 10 * DAY)
    await drive.signal(contact, MarketingContact.reply_received, reply())
    await drive.complete(contact, TaskKind.ANSWER_REPLY, "answered")

    assert await drive.ends(contact) == MarketingOutcome.ANSWERED
    assert await drive.told(contact) == ["marketing_welcome"]


async def test_the_end_is_reported_to_the_lifecycle(drive: Drive, customer: UUID) -> None:
    lead = LeadReceived(event_id="lead", occurred_at=datetime.now(UTC), source="fair")
    await drive.tell(customer, "lead_received", lead)
    contact = drive.process(marketing_workflow_id(customer, 1))
    await becomes(lambda: drive.story(contact), ["marketing_started", "marketing_touch"])
    assert await drive.stage(customer) == "marketing"

    await drive.skip(contact, 60 * DAY)
    await becomes(lambda: drive.stage(customer), "quiet")
    line = await drive.line(drive.lifecycle(customer), "process_ended")
    assert line.facts == {"process": contact.id, "outcome": MarketingOutcome.NO_ANSWER}


def test_the_default_touches_are_templates() -> None:
    assert all(Template(name) for name in POLICY.touches)
