"""Whoever leaves waits for a claim that was first, and whoever left first is not written to.

For each way of leaving, on both sides of its commit; `opt_out_race.py` does it by chance.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities.delivery_reports import take_in_reports
from activities.marketing import MarketingActivities
from activities.message_queue import lock_due, read_facts
from activities.messages import MessageActivities
from activities.received_mail import take_in_mail
from database.base import Sessions
from database.delivery_reports import keep_report
from database.messages import Message
from database.received_mails import keep_mail
from database.received_texts import keep_text
from domain.contacts import ConsentState
from domain.delivery_reports import DeliveryReport, ReportKind
from domain.marketing import ReplyStep
from domain.messages import Channel, MessageState, Purpose, Template
from domain.processes import ProcessKind, Standing
from domain.tasks import Role, TaskKind, TaskRequest
from domain.tokens import TokenPurpose, preferences_value, sign
from settings import Settings
from tests.activities.dispatching import LINKS, queue, running, simulate, until
from tests.activities.opt_out_race import settings_for
from tests.api.conftest import calling, running_app
from tests.messaging.post_office import PostOffice
from tests.messaging.received import answer

NOON = datetime(2026, 3, 2, 15, tzinfo=UTC)  # in Sao Paulo, where the customers live
MAILBOX, NUMBER = "ada@example.com", "+5511961234567"
KEY = LINKS.signing_key


@dataclass
class Leaving:
    """A customer to whom a message is queued, and what he can leave by."""

    sessions: Sessions
    client: Client
    customer: UUID
    settings: Settings

    async def by_the_link(self) -> None:
        link = LINKS.unsubscribe(self.customer, Channel.EMAIL, Purpose.MARKETING)
        await self._posts(link.removeprefix(LINKS.base))

    async def by_his_page(self) -> None:
        token = sign(KEY, TokenPurpose.PREFERENCES, preferences_value(self.customer, Channel.EMAIL))
        name = f"{Channel.EMAIL}/{Purpose.MARKETING}"
        form = {"offered": name, "was_on": name, "language": "en", "was_language": "en"}
        await self._posts(f"/p/{token}", data=form)

    async def by_telling_staff(self) -> None:
        said = {"channel": "email", "purpose": "marketing", "state": "withdrawn", "source": "phone"}
        await self._posts(f"/api/v1/customers/{self.customer}/consents", json=said)

    async def by_telling_a_shop(self) -> None:
        event = {
            "kind": "opted_out",
            "event_id": str(uuid4()),
            "source": "shop",
            "occurred_at": datetime.now(UTC).isoformat(),
            "customer_id": str(self.customer),
            "channel": "email",
            "purpose": "marketing",
        }
        await self._posts("/api/v1/events", json=event)

    async def by_mail(self) -> None:
        async with self.sessions.begin() as session:
            raw = answer("STOP", sender=MAILBOX)
            await keep_mail(session, "smtp", MAILBOX, ["hello@mail.example"], raw)
        await take_in_mail(self.sessions, self.client, KEY)

    async def by_mail_from_a_mailbox_of_two(self) -> None:
        await queue(self.sessions, address=MAILBOX)
        await self.by_mail()

    async def by_text(self) -> None:
        async with self.sessions.begin() as session:
            await keep_text(session, "twilio", str(uuid4()), NUMBER, "STOP")

    async def by_complaining(self) -> None:
        [earlier] = await queue(self.sessions, address=MAILBOX)
        async with self.sessions.begin() as session:
            went = sa.update(Message).where(Message.customer_id == earlier)
            effect = await session.scalar(
                went.values(
                    customer_id=self.customer,
                    state=MessageState.ACCEPTED,
                    accepted_at=sa.func.now(),
                    address=MAILBOX,
                ).returning(Message.id)
            )
            report = DeliveryReport(
                kind=ReportKind.COMPLAINED,
                effect=effect,
                said="abuse",
                at=datetime.now(UTC),
                provider="mail",
            )
            await keep_report(session, "mail", str(effect), report)
        await take_in_reports(self.sessions, self.client)

    async def by_answering(self) -> None:
        """No leaving, but what he answers is not continued by us as if he had not."""
        now = datetime.now(UTC)
        step = ReplyStep(
            workflow_id=f"marketing/{self.customer}",
            kind=ProcessKind.MARKETING,
            customer_id=self.customer,
            key="reply/1",
            at=now,
            standing=Standing(step="the customer answered"),
            event_id="1",
            task=TaskRequest(key="a", kind=TaskKind.ANSWER_REPLY, role=Role.SALES_REP, due_at=now),
        )
        await MarketingActivities(self.sessions, self.client).record_reply(step)

    async def _posts(self, path: str, **body: Any) -> None:
        key = (self.settings.data_dir / "secrets" / "api_key").read_text()
        async with running_app(self.settings) as app, calling(app, key) as api:
            taken = await api.post(path, **body)
        assert taken.status_code < 300, taken.text


WAYS = [
    *(Leaving.by_the_link, Leaving.by_his_page, Leaving.by_telling_staff),
    *(Leaving.by_telling_a_shop, Leaving.by_mail, Leaving.by_mail_from_a_mailbox_of_two),
    *(Leaving.by_text, Leaving.by_complaining, Leaving.by_answering),
]
Way = Callable[[Leaving], Awaitable[None]]
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.fixture
def leaving(
    sessions: Sessions,
    temporal: WorkflowEnvironment,
    database_url: str,
    tmp_path: Path,
    their_lifecycles: None,
) -> Leaving:
    host = temporal.client.service_client.config.target_host
    return Leaving(sessions, temporal.client, uuid4(), settings_for(database_url, host, tmp_path))


async def is_written_to(leaving: Leaving, way: Way) -> UUID:
    """A message to him is queued: of selling, or by text what STOP ends too; its id."""
    by_text = way == Leaving.by_text
    noon = (await simulate(leaving.sessions, NOON)).id if by_text else None
    [leaving.customer] = await queue(
        leaving.sessions,
        Template.ORDER_LATE if by_text else Template.MARKETING_VALUE,
        address=NUMBER if by_text else MAILBOX,
        channel=Channel.SMS if by_text else Channel.EMAIL,
        workflow_id="marketing/{}",
        consent=ConsentState.GRANTED,
        simulation_id=noon,
    )
    async with leaving.sessions.begin() as session:
        deadline = sa.update(Message).values(not_after=datetime.now(UTC) + timedelta(days=4))
        message_id: UUID = (await session.execute(deadline.returning(Message.id))).scalar_one()
    return message_id


@ways
async def test_leaving_waits_for_a_claim_that_was_first(leaving: Leaving, way: Way) -> None:
    message_id = await is_written_to(leaving, way)
    async with leaving.sessions.begin() as claim:
        await read_facts(claim, [*(await lock_due(claim, [message_id])).values()])
        leaves = asyncio.create_task(awaited(way(leaving)))
        await until_waiting(leaving.sessions, 1)
        assert not leaves.done()
        assert await has_left(claim, leaving.customer) is False
    await leaves
    async with leaving.sessions() as session:
        assert await has_left(session, leaving.customer)


@ways
async def test_a_claim_waits_for_who_leaves_first_and_then_sends_nothing(
    leaving: Leaving, way: Way, activities: MessageActivities, post_office: PostOffice
) -> None:
    message_id = await is_written_to(leaving, way)
    async with leaving.sessions.begin() as just_before_it_is_written:
        await just_before_it_is_written.execute(
            sa.text("LOCK TABLE consents, suppressions, timeline IN EXCLUSIVE MODE")
        )
        leaves = asyncio.create_task(awaited(way(leaving)))
        await until_waiting(leaving.sessions, 1)
        async with running(activities):
            await until_waiting(leaving.sessions, 2)
            assert await post_office.inbox.count() == 0
            await just_before_it_is_written.commit()
            await leaves
            rows = await until(leaving.sessions, lambda found: state_of(found, message_id).settled)
    assert state_of(rows, message_id) in (MessageState.SUPPRESSED, MessageState.CANCELLED)


def state_of(rows: Sequence[Message], message_id: UUID) -> MessageState:
    [state] = [row.state for row in rows if row.id == message_id]
    return state


async def awaited(leaving: Awaitable[None]) -> None:
    await leaving


_WAITING = sa.text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def until_waiting(sessions: Sessions, expected: int) -> None:
    """Until so many transactions wait for another's lock."""
    for _ in range(200):
        async with sessions() as session:
            if (count := await session.scalar(_WAITING) or 0) >= expected:
                return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{count} transactions wait, not {expected}")


_HAS_LEFT = sa.text(
    "SELECT EXISTS (SELECT FROM consents WHERE customer_id = :customer AND state = 'withdrawn')"
    " OR EXISTS (SELECT FROM suppressions)"
    " OR EXISTS (SELECT FROM timeline WHERE customer_id = :customer AND kind = 'reply_received')"
)


async def has_left(session: AsyncSession, customer: UUID) -> bool:
    return bool(await session.scalar(_HAS_LEFT, {"customer": customer}))
