"""The people of a generated world: what they do is done once, and only with what is theirs."""

import asyncio
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import httpx2
import sqlalchemy as sa
from temporalio.testing import WorkflowEnvironment

from database.base import Sessions
from database.messages import Message
from domain.clock import REAL_TIME
from domain.messages import Template
from replay.instance import Instance
from replay.people import People
from replay.player import World
from tests.activities.dispatching import dispatcher, queue, running, simulate, until_settled
from tests.messaging.post_office import PostOffice
from tests.patience import becomes


async def test_what_is_sent_again_is_the_same_request() -> None:
    """An answer to a case is stored before the case is told: under a new key it would stay there
    for each try, as words that were never sent."""
    keys: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["Idempotency-Key"])
        return httpx2.Response(503 if len(keys) < 3 else 200)

    transport = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(transport=transport, base_url="http://there") as http:
        instance = cast(Instance, SimpleNamespace(http=http))
        people = People(instance, World(uuid4(), REAL_TIME), seed=1)
        assert await people._post("/api/v1/cases/1/respond", {"text": "Hello"})
        assert await people._post("/api/v1/cases/1/respond", {"text": "Hello"})
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


async def test_customers_read_their_own_mail_only(
    sessions: Sessions, temporal: WorkflowEnvironment, post_office: PostOffice
) -> None:
    """What a person who watches the demo tries out with a customer of their own is theirs."""
    world = await simulate(sessions, datetime(2026, 3, 2, tzinfo=UTC), speed=86_400 * 100)
    for simulation_id, address in ((world.id, "played{}@example.com"), (None, "own{}@example.com")):
        await queue(
            *(sessions, Template.SURVEY_REQUEST),
            customers=5,
            address=address,
            simulation_id=simulation_id,
        )
    async with sessions.begin() as session:
        for message in await session.scalars(sa.select(Message)):
            message.context = {**message.context, "survey_id": str(uuid4())}
    answered: set[str] = set()

    def answer(request: httpx2.Request) -> httpx2.Response:
        answered.add(request.url.path)
        return httpx2.Response(200)

    async def have_answered() -> bool:
        return people.did["surveys clicked"] >= 3

    activities = dispatcher(sessions, temporal.client, post_office.port, post_office.path)
    transport = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(transport=transport, base_url="http://there") as http:
        there = SimpleNamespace(http=http, sessions=sessions, inbox=post_office.inbox)
        people = People(cast(Instance, there), World(world.id, world.clock), seed=1)
        async with people.about(), running(activities):
            await until_settled(sessions)
            await becomes(have_answered, True)
            await asyncio.sleep(0.5)  # long after the slowest has made up their mind
    receivers = {}
    for mail in await post_office.inbox.mails():
        opened = await post_office.inbox.open(mail.id)
        assert opened is not None
        for link in re.findall(r"https?://[^/]+(/s/[^?\s]+)", opened.text):
            receivers[link] = mail.rcpt_to
    assert len(receivers) == 10
    assert {receivers[link][:6] for link in answered} == {"played"}
