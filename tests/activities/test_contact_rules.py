"""Messages wait for the customer's morning and his limit, unless it is too late for them then."""

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from activities.messages import MessageActivities
from database.base import Sessions
from database.messages import Message
from database.policies import PolicyVersion
from domain.contacts import ConsentState
from domain.messages import MESSAGES, Channel, MessageState, Template
from domain.policies import ContactPolicy, PolicyKind
from tests.activities.dispatching import (
    messages,
    queue,
    running,
    simulate,
    until,
    until_settled,
)
from tests.messaging.post_office import PostOffice

MORNING = datetime(2026, 3, 2, 11, tzinfo=UTC)  # 08:00 in Sao Paulo, where the customers live
SELLING = (Template.MARKETING_WELCOME, Template.MARKETING_VALUE, Template.MARKETING_LAST)


async def publish(sessions: Sessions, policy: ContactPolicy) -> None:
    document = policy.model_dump(mode="json")
    async with sessions.begin() as session:
        session.add(
            PolicyVersion(
                kind=PolicyKind.CONTACT, version=1, document=document, published_by="test"
            )
        )


async def text_before_dawn(
    sessions: Sessions, *, early: timedelta, speed: float, not_after: datetime | None = None
) -> None:
    """A text message to somebody for whom it is so much before eight in the morning."""
    clock = await simulate(sessions, MORNING - early, speed)
    await queue(
        sessions,
        Template.ORDER_LATE,
        channel=Channel.SMS,
        address="+551198765432{}",
        simulation_id=clock.id,
    )
    async with sessions.begin() as session:
        await session.execute(sa.update(Message).values(not_after=not_after))


async def test_a_text_message_at_night_goes_in_the_morning(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await text_before_dawn(sessions, early=timedelta(minutes=3), speed=60)
    async with running(activities):
        [held] = await until(sessions, lambda found: found[0].state is MessageState.HELD)
        assert held.decision is not None
        assert held.decision["decided_by"] == "quiet_hours"
        assert datetime.fromisoformat(held.decision["until"]) == MORNING
        [message] = await until_settled(sessions)
    assert message.state is MessageState.ACCEPTED
    assert message.told_at is not None
    sao_paulo = message.told_at.astimezone(ZoneInfo("America/Sao_Paulo"))
    assert (sao_paulo.date(), time(8) <= sao_paulo.time() < time(9)) == (date(2026, 3, 2), True)
    assert len(await post_office.inbox.texts()) == 1


async def test_what_would_be_too_late_in_the_morning_is_not_sent_at_all(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    deadline = MORNING - timedelta(hours=1)
    await text_before_dawn(sessions, early=timedelta(hours=3), speed=1, not_after=deadline)
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.state is MessageState.CANCELLED
    assert message.decision is not None
    assert "when it is too late" in message.decision["because"]
    assert await post_office.inbox.texts() == []


async def test_a_message_past_its_deadline_is_cancelled_with_the_reason(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await queue(sessions, Template.MARKETING_VALUE, consent=ConsentState.GRANTED)
    async with sessions.begin() as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await session.execute(sa.update(Message).values(not_after=past))
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.state is MessageState.CANCELLED
    assert message.decision is not None
    assert message.decision["decided_by"] == "deadline"
    assert await post_office.inbox.count() == 0


async def test_the_policy_says_which_contacts_keep_the_night(
    activities: MessageActivities, sessions: Sessions
) -> None:
    await publish(sessions, ContactPolicy(quiet=("email/orders",), quiet_from=time(20)))
    await text_before_dawn(sessions, early=timedelta(hours=3), speed=1)
    night = await simulate(sessions, MORNING - timedelta(hours=3))
    await queue(sessions, Template.ORDER_LATE, simulation_id=night.id)
    async with running(activities):
        await until(
            sessions,
            lambda found: (
                {(row.channel, row.state) for row in found}
                == {(Channel.SMS, MessageState.ACCEPTED), (Channel.EMAIL, MessageState.HELD)}
            ),
        )


@pytest.mark.parametrize("at_once", [True, False], ids=["in_one_batch", "one_after_the_other"])
async def test_a_customer_is_sold_to_so_often_and_not_more_whoever_asks(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice, at_once: bool
) -> None:
    await publish(sessions, ContactPolicy(at_most=2, within=timedelta(days=7)))
    [customer] = await queue(sessions, SELLING[0], consent=ConsentState.GRANTED)
    further = [(SELLING[1], "marketing/1"), (SELLING[2], "retention/2")]
    if at_once:
        await ask(sessions, customer, *further)
    async with running(activities):
        if not at_once:
            for one in further:
                await until_settled(sessions)
                await ask(sessions, customer, one)
        rows = await until(
            sessions,
            lambda found: (
                sorted(row.state for row in found)
                == [MessageState.ACCEPTED, MessageState.ACCEPTED, MessageState.HELD]
            ),
        )
        await ask(sessions, customer, (Template.ORDER_LATE, "delivery/1"))  # that is no selling
        await until(
            sessions, lambda found: sum(row.state is MessageState.ACCEPTED for row in found) == 3
        )
    [held] = [row for row in rows if row.state is MessageState.HELD]
    assert held.decision is not None
    assert held.decision["decided_by"] == "cap"
    first = min(row.told_at for row in rows if row.told_at is not None)
    free_at = datetime.fromisoformat(held.decision["until"])
    assert abs(free_at - (first + timedelta(days=7))) < timedelta(seconds=5)
    assert len(await messages(sessions)) == 4


async def ask(sessions: Sessions, customer: UUID, *wanted: tuple[Template, str]) -> None:
    """Further messages to a customer, of other processes."""
    async with sessions.begin() as session:
        for template, process in wanted:
            kind = MESSAGES[template]
            session.add(
                Message(
                    key=f"{process}/{template}",
                    customer_id=customer,
                    workflow_id=process,
                    step="step",
                    template=template,
                    message_class=kind.message_class,
                    purpose=kind.purpose,
                    channel=Channel.EMAIL,
                    context=dict.fromkeys(kind.variables, "2026-03-02"),
                    asked_at=datetime.now(UTC),
                )
            )
