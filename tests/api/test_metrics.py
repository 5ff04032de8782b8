"""What operators are alerted by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from database.base import Sessions
from database.messages import Message
from domain.messages import Channel, MessageClass, Purpose, Template

DAY = timedelta(days=1)


async def figures(api: httpx2.AsyncClient) -> dict[str, float]:
    """By name, without labels."""
    answer = await api.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {sample.name: sample.value for family in families for sample in family.samples}


@asynccontextmanager
async def waiting(sessions: Sessions, customer: UUID, **row: Any) -> AsyncIterator[None]:
    """A message that waits while the block runs: it is the oldest of the tests'."""
    key = uuid4().hex
    async with sessions.begin() as session:
        session.add(
            Message(
                key=key,
                customer_id=customer,
                workflow_id=f"marketing/{customer}/1",
                step="touch/1",
                template=Template.MARKETING_WELCOME,
                message_class=MessageClass.MARKETING,
                purpose=Purpose.MARKETING,
                channel=Channel.EMAIL,
                context={},
                asked_at=datetime.now(UTC),
                **row,
            )
        )
    yield
    async with sessions.begin() as session:
        await session.execute(sa.delete(Message).where(Message.key == key))


async def test_the_outbox_is_as_old_as_the_oldest_message_that_is_due(
    api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    now = datetime.now(UTC)
    assert (await figures(api))["perennial_outbox_age_seconds"] < DAY.total_seconds()
    async with waiting(sessions, customer, due_since=now - DAY, not_before=now - DAY):
        age = (await figures(api))["perennial_outbox_age_seconds"]
        assert DAY.total_seconds() <= age < DAY.total_seconds() + 60
    async with waiting(sessions, customer, due_since=now - DAY, not_before=now + DAY):
        assert (await figures(api))["perennial_outbox_age_seconds"] < DAY.total_seconds()


async def test_the_database_is_said_to_be_up(api: httpx2.AsyncClient) -> None:
    assert (await figures(api))["perennial_database_up"] == 1
