"""Retention: a save play after silence or a risk; saved, or lost with a reason and won back."""

import itertools
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from domain.lifecycle import OptedOut, OrderNews
from domain.marketing import ReplyReceived
from domain.policies import PolicyKind, RetentionPolicy
from domain.processes import Fact
from domain.retention import RetentionOutcome
from domain.tasks import Role, TaskKind, TaskState
from tests.driving import DAY, HOUR, MINUTE, Drive, Handle
from workflows.retention import RetentionOutreach

POLICY = RetentionPolicy()
PLAY = ["retention_check_in", "retention_offer", "win_back"]


@pytest.fixture
async def customer(drive: Drive) -> UUID:
    return await drive.customer()


@pytest.fixture
async def outreach(drive: Drive, customer: UUID) -> Handle:
    return await drive.retain(customer)


def order() -> OrderNews:
    return OrderNews(
        event_id=f"order-{uuid4()}", occurred_at=datetime.now(UTC), order_id=uuid4(), kind="placed"
    )


def reply() -> ReplyReceived:
    return ReplyReceived(event_id=f"reply-{uuid4()}", occurred_at=datetime.now(UTC))


def opt_out() -> OptedOut:
    return OptedOut(event_id=f"out-{uuid4()}", occurred_at=datetime.now(UTC))


def fact() -> Fact:
    return Fact(event_id=f"fact-{uuid4()}", occurred_at=datetime.now(UTC))


SAVED_BY = [("order_placed", order(), "ordered"), ("reply_received", reply(), "answered")]


async def reason(drive: Drive, outreach: Handle) -> str:
    return str((await drive.line(outreach, "retention_ended")).facts["reason"])


@pytest.mark.history
async def test_silence_all_the_way_is_a_customer_lost_and_asked_once_more(
    drive: Drive, outreach: Handle
) -> None:
    await drive.skip(outreach, 365 * DAY)
    assert await drive.ends(outreach) == RetentionOutcome.LOST
    assert await drive.told(outreach) == PLAY
    for message, stands in zip(
        await drive.messages(outreach),
        (POLICY.answer_within, POLICY.offer_stands, POLICY.offer_stands),
        strict=True,
    ):
        assert message.not_after is not None
        assert message.not_after - message.asked_at == pytest.approx(stands, abs=MINUTE)
    assert await drive.story(outreach) == [
        "retention_started",
        "save_task_opened",
        "retention_offer",
        "customer_lost",
        "win_back",
        "retention_ended",
    ]
    times = [line.happened_at for line in await drive.lines(outreach)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == pytest.approx(
        [
            POLICY.answer_within,
            POLICY.manager_within,
            POLICY.offer_stands,
            POLICY.win_back_after,
            POLICY.offer_stands,
        ],
        abs=MINUTE,
    )
    row = await drive.standing(outreach)
    assert row.outcome == "lost: no_answer"
    assert {task.state for task in await drive.tasks(outreach)} == {TaskState.CANCELLED}


@pytest.mark.parametrize(
    "days",
    [0, 6, 9, 30, 115],
    ids=["after_check_in", "with_the_manager", "while_the_offer_stands", "lost", "after_win_back"],
)
@pytest.mark.parametrize(("signal", "sign", "how"), SAVED_BY, ids=["order", "reply"])
async def test_an_order_or_a_reply_saves_the_customer_at_any_moment(
    drive: Drive, outreach: Handle, days: int, signal: str, sign: Fact, how: str
) -> None:
    await drive.skip(outreach, days * DAY + HOUR)
    told = await drive.told(outreach)
    await drive.signal(outreach, signal, sign)
    assert await drive.ends(outreach) == RetentionOutcome.SAVED
    assert await reason(drive, outreach) == how
    assert await drive.told(outreach) == told, "nothing more is sent"


@pytest.mark.history
async def test_who_orders_while_he_is_written_off_has_come_back(
    drive: Drive, outreach: Handle
) -> None:
    """PostgreSQL is slow to write that he is lost."""
    await drive.skip(outreach, POLICY.answer_within + POLICY.manager_within + HOUR)
    await drive.skip_to_next_timer(outreach)
    async with drive.held_up(outreach):
        await drive.tell_held_up(outreach, RetentionOutreach.order_placed, order())
    assert await drive.ends(outreach) == "saved"
    assert "win_back" not in await drive.told(outreach)


async def test_the_account_manager_is_asked_when_the_message_is_not_answered(
    drive: Drive, outreach: Handle
) -> None:
    await drive.skip(outreach, POLICY.answer_within - HOUR)
    assert not await drive.tasks(outreach)
    await drive.skip(outreach, 2 * HOUR)
    task = await drive.task(outreach, TaskKind.SAVE_CUSTOMER)
    assert task.role is Role.ACCOUNT_MANAGER
    assert task.due_at - task.opened_at == pytest.approx(POLICY.manager_within, abs=MINUTE)


@pytest.mark.history
async def test_the_account_manager_saves_the_customer(drive: Drive, outreach: Handle) -> None:
    await drive.skip(outreach, 6 * DAY)
    await drive.complete(outreach, TaskKind.SAVE_CUSTOMER, "saved")
    assert await drive.ends(outreach) == RetentionOutcome.SAVED
    assert await reason(drive, outreach) == "account_manager"
    assert await drive.told(outreach) == PLAY[:1]


@pytest.mark.history
async def test_the_account_manager_asks_for_an_offer_at_once(
    drive: Drive, outreach: Handle
) -> None:
    await drive.skip(outreach, 6 * DAY)
    await drive.complete(outreach, TaskKind.SAVE_CUSTOMER, "offer")
    assert await drive.told(outreach) == PLAY[:2]
    message = (await drive.messages(outreach))[-1]
    until = datetime.fromisoformat(message.context["offer_until"])
    assert until - await drive.now(outreach) == pytest.approx(POLICY.offer_stands, abs=MINUTE)


@pytest.mark.history
async def test_the_account_manager_gives_up_and_the_win_back_still_comes(
    drive: Drive, outreach: Handle
) -> None:
    await drive.skip(outreach, 6 * DAY)
    await drive.complete(outreach, TaskKind.SAVE_CUSTOMER, "lost")
    assert (await drive.line(outreach, "customer_lost")).facts == {"reason": "account_manager"}
    assert await drive.told(outreach) == PLAY[:1], "no offer"
    await drive.skip(outreach, POLICY.win_back_after + HOUR)
    assert await drive.told(outreach) == ["retention_check_in", "win_back"]
    await drive.skip(outreach, POLICY.offer_stands + HOUR)
    assert await drive.ends(outreach) == RetentionOutcome.LOST
    assert await reason(drive, outreach) == "account_manager"


async def test_the_account_manager_may_save_him_after_he_was_lost(
    drive: Drive, outreach: Handle
) -> None:
    await drive.skip(outreach, 30 * DAY)
    assert "customer_lost" in await drive.story(outreach)
    await drive.complete(outreach, TaskKind.SAVE_CUSTOMER, "saved")
    assert await drive.ends(outreach) == RetentionOutcome.SAVED


@pytest.mark.parametrize("days", [0, 6, 9, 30, 115])
@pytest.mark.history
async def test_who_opts_out_is_lost_and_left_alone(
    drive: Drive, outreach: Handle, days: int
) -> None:
    await drive.skip(outreach, days * DAY + HOUR)
    told = await drive.told(outreach)
    await drive.signal(outreach, RetentionOutreach.opted_out, opt_out())
    assert await drive.ends(outreach) == RetentionOutcome.LOST
    assert await reason(drive, outreach) == "opted_out"
    assert await drive.told(outreach) == told, "no win-back"


@pytest.mark.history
async def test_no_offer_is_made_while_a_recovery_case_is_open(
    drive: Drive, outreach: Handle
) -> None:
    await drive.signal(outreach, RetentionOutreach.selling_held, fact())
    await drive.skip(outreach, 60 * DAY)
    assert await drive.told(outreach) == PLAY[:1]
    assert await drive.task(outreach, TaskKind.SAVE_CUSTOMER), "a person may call all the same"

    await drive.signal(outreach, RetentionOutreach.selling_released, fact())
    assert await drive.told(outreach) == PLAY[:2]


async def test_no_win_back_is_sent_while_a_recovery_case_is_open(
    drive: Drive, outreach: Handle
) -> None:
    await drive.skip(outreach, 30 * DAY)
    await drive.signal(outreach, RetentionOutreach.selling_held, fact())
    await drive.skip(outreach, 180 * DAY)
    assert await drive.told(outreach) == PLAY[:2]
    await drive.signal(outreach, RetentionOutreach.selling_released, fact())
    assert await drive.told(outreach) == PLAY


@pytest.mark.parametrize("days", [10, 200], ids=["before_the_offer", "before_the_win_back"])
async def test_an_order_while_selling_rests_saves_him_without_a_word(
    drive: Drive, outreach: Handle, days: int
) -> None:
    if days > 100:
        await drive.skip(outreach, 30 * DAY)
    await drive.signal(outreach, RetentionOutreach.selling_held, fact())
    await drive.skip(outreach, days * DAY)
    told = await drive.told(outreach)
    await drive.signal(outreach, RetentionOutreach.order_placed, order())
    assert await drive.ends(outreach) == RetentionOutcome.SAVED
    assert await drive.told(outreach) == told


async def test_the_play_follows_the_policy_in_force_at_its_start(
    drive: Drive, customer: UUID
) -> None:
    async with drive.policy(PolicyKind.RETENTION, answer_within=HOUR, manager_within=HOUR):
        outreach = await drive.retain(customer, "contract_ends")
    await drive.skip(outreach, 3 * HOUR)
    assert await drive.told(outreach) == PLAY[:2]
