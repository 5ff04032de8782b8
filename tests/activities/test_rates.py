"""20,000 messages that sell wait, and an order's confirmation does not wait for them."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median

import pytest
import sqlalchemy as sa

from activities.message_queue import Lane, find_waiting, lock_due
from activities.messages import MessageActivities
from database.base import Sessions
from database.messages import Message
from domain.contacts import ConsentState
from domain.messages import Channel, MessageClass, MessageState, Template
from domain.policies import SendingPolicy
from domain.sending import Account
from tests.activities.dispatching import RULES, messages, publish, queue, running, until
from tests.messaging.post_office import PostOffice

pytestmark = pytest.mark.own_database

CAMPAIGN = 20_000
PROMISED = 5.0  # seconds at most, while that many wait: docs/communications.md
# In this transaction, with those that a filter threw away.
_ROWS_READ = sa.text(
    "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
    " FROM pg_stat_xact_user_tables WHERE relname = 'messages'"
)
_FILL = sa.text("""
    WITH people AS (
        INSERT INTO customers (reference, name, kind, locale, zone, version)
        SELECT 'campaign-' || n, 'Ada', 'person', 'en', 'UTC', 1 FROM generate_series(1, :many) n
        RETURNING id
    ), points AS (
        INSERT INTO contact_points (customer_id, channel, address)
        SELECT id, 'email', id || '@shop.example' FROM people
    ), consents AS (
        INSERT INTO consents (customer_id, channel, purpose, state, source, wording, occurred_at)
        SELECT id, 'email', 'marketing', 'granted', 'test', '', now() FROM people
    )
    INSERT INTO messages (key, customer_id, workflow_id, step, template, message_class, purpose,
                          channel, context, state, asked_at, attempts, possible_duplicate)
    SELECT 'win_back/' || id, id, 'retention/' || id, 's', 'win_back', 'marketing', 'marketing',
           'email', '{}', 'queued', now(), 0, false FROM people
""")


@pytest.fixture
async def campaign(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(_FILL, {"many": CAMPAIGN})


def at(per_second: float) -> SendingPolicy:
    return SendingPolicy(smtp=Account(per_second=per_second))


async def accepted(sessions: Sessions, template: Template) -> list[datetime]:
    """When messages of the template were taken."""
    async with sessions() as session:
        found = await session.scalars(
            sa.select(Message.accepted_at)
            .where(Message.template == template, Message.state == MessageState.ACCEPTED)
            .order_by(Message.accepted_at)
        )
        return [moment for moment in found if moment is not None]


async def sent_before(sessions: Sessions, template: Template, since: datetime) -> int:
    """How many of the campaign went between a moment and the last message of the template."""
    last = (await accepted(sessions, template))[-1]
    campaign = await accepted(sessions, Template.WIN_BACK)
    return sum(since < moment < last for moment in campaign)


async def until_accepted(sessions: Sessions, template: Template, many: int) -> None:
    async with asyncio.timeout(30):
        while True:
            if len(await accepted(sessions, template)) >= many:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("per_second", [0, 50], ids=["no_limit", "50_a_second"])
async def test_an_order_overtakes_a_campaign_also_when_selling_has_used_up_the_rate(
    activities: MessageActivities,
    sessions: Sessions,
    post_office: PostOffice,
    campaign: None,
    per_second: int,
) -> None:
    await publish(sessions, at(per_second))
    delays = []
    async with running(activities):
        await until_accepted(sessions, Template.WIN_BACK, 25)
        for number in range(1, 6):
            ordered_at = datetime.now(UTC)
            await queue(sessions, Template.ORDER_CONFIRMED)
            await until_accepted(sessions, Template.ORDER_CONFIRMED, number)
            overtaken = await sent_before(sessions, Template.ORDER_CONFIRMED, ordered_at)
            # What was under way when it came, and what was being claimed: never a third batch.
            assert overtaken <= 2 * RULES.batch
            *_, accepted_at = await accepted(sessions, Template.ORDER_CONFIRMED)
            delays.append((accepted_at - ordered_at).total_seconds())
    # The campaign takes minutes, whatever the machine: a queue that made orders wait for it would
    # make each of them wait. One slow moment of the machine is one order's, and counts for nothing.
    assert median(delays) < PROMISED, delays


async def test_a_small_series_does_not_wait_for_the_end_of_a_big_one(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice, campaign: None
) -> None:
    async with running(replace(activities, rules=replace(RULES, batch=10))):
        await until_accepted(sessions, Template.WIN_BACK, 10)
        await queue(sessions, Template.MARKETING_VALUE, customers=20, consent=ConsentState.GRANTED)
        since = datetime.now(UTC)
        await until_accepted(sessions, Template.MARKETING_VALUE, 20)
    assert await sent_before(sessions, Template.MARKETING_VALUE, since) <= 20 + 2 * 10


async def test_no_more_goes_than_the_account_may(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await publish(sessions, at(5))
    await queue(sessions, customers=12)
    async with running(activities):
        rows = await until(sessions, lambda found: all(row.accepted_at for row in found))
    moments = sorted(row.accepted_at for row in rows if row.accepted_at is not None)
    # At the start there is one; any second after that brings five.
    assert (moments[-1] - moments[0]).total_seconds() > 11 / 5 - 0.5
    for first, sixth in zip(moments, moments[10:], strict=False):
        assert (sixth - first).total_seconds() > 0.7


async def test_the_rate_is_the_accounts_and_not_the_rounds(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await publish(sessions, at(0.01))
    await queue(sessions, customers=5)
    for _ in range(3):
        async with running(activities):
            await asyncio.sleep(0.4)
    states = [row.state for row in await messages(sessions)]
    assert states.count(MessageState.ACCEPTED) == 1


async def test_the_next_of_each_lane_are_found_without_looking_at_the_campaign(
    sessions: Sessions, campaign: None
) -> None:
    [customer] = await queue(sessions, Template.ORDER_CONFIRMED)
    lanes = [Lane(kind, channel, 50) for kind in MessageClass for channel in Channel]
    async with sessions.begin() as session:
        await session.execute(sa.text("ANALYZE messages"))
        before = await session.scalar(_ROWS_READ)
        waiting = await find_waiting(session, lanes)
        read = await session.scalar(_ROWS_READ) - before
        due = await lock_due(session, [one.id for one in waiting])
    assert len(waiting) == 51
    assert [row.customer_id for row in due.values() if row.template == "order_confirmed"] == [
        customer
    ]
    assert read < 200
