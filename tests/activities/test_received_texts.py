"""Who writes STOP is left alone from then on; who writes anything else is heard."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from activities.received_texts import take_in_texts
from database.base import Sessions
from database.customers import Consent, Suppression
from database.events import Event
from database.messages import Message
from database.received_texts import ReceivedText, keep_text
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose, Template
from domain.received_texts import TextOutcome
from tests.activities.dispatching import queue
from tests.activities.refusing import refusing_client

T = TypeVar("T")
NUMBER = "+5511961234567"


class Desk:
    def __init__(self, sessions: Sessions, client: Client) -> None:
        self.sessions = sessions
        self.client = client

    async def customer(self) -> UUID:
        template = Template.DELIVERY_ATTEMPT_FAILED
        [customer] = await queue(self.sessions, template, address=NUMBER, channel=Channel.SMS)
        async with self.sessions.begin() as session:
            await session.execute(sa.delete(Message))
        return customer

    async def comes(self, text: str, event_id: str = "", number: str = NUMBER) -> list[TextOutcome]:
        async with self.sessions.begin() as session:
            await keep_text(session, "twilio", event_id or str(uuid4()), number, text)
        return await take_in_texts(self.sessions, self.client)

    async def suppressed(self) -> bool:
        return any(one.lifted_at is None for one in await self.all(Suppression))

    async def all(self, table: type[T]) -> Sequence[T]:
        async with self.sessions() as session:
            return (await session.scalars(sa.select(table))).all()


@pytest.fixture
def desk(sessions: Sessions, temporal: WorkflowEnvironment, their_lifecycles: None) -> Desk:
    return Desk(sessions, temporal.client)


async def test_stop_suppresses_the_number_when_it_is_stored_and_withdraws_the_consent(
    desk: Desk,
) -> None:
    customers = {await desk.customer(), await desk.customer()}
    async with desk.sessions.begin() as session:
        await keep_text(session, "twilio", "SM1", NUMBER, "Please stop")
    [suppression] = await desk.all(Suppression)
    assert (suppression.channel, suppression.address, suppression.purpose) == (
        *(Channel.SMS, NUMBER),
        None,
    )
    assert await take_in_texts(desk.sessions, desk.client) == [TextOutcome.STOPPED]
    consents = await desk.all(Consent)
    assert {(one.customer_id, one.channel, one.purpose, one.state) for one in consents} == {
        (customer, Channel.SMS, Purpose.MARKETING, ConsentState.WITHDRAWN) for customer in customers
    }


async def test_stop_of_a_number_of_nobody_holds_too(desk: Desk) -> None:
    assert await desk.comes("STOP") == [TextOutcome.STOPPED]
    assert await desk.suppressed()


async def test_start_lifts_what_stop_has_made_and_nothing_else(desk: Desk) -> None:
    customer = await desk.customer()
    await desk.comes("STOP", "1")
    assert await desk.comes("START", "2") == [TextOutcome.STARTED]
    assert not await desk.suppressed()
    async with desk.sessions.begin() as session:
        bounced = Suppression(channel=Channel.SMS, address=NUMBER, purpose=None, reason="bounced")
        session.add(bounced)
    assert await desk.comes("YES", "3") == [TextOutcome.REPLY_RECEIVED]
    assert await desk.suppressed()
    [event] = [one for one in await desk.all(Event) if one.kind == "reply_received"]
    assert (event.customer_id, event.body["text"]) == (customer, "YES")


async def test_a_start_that_is_repeated_does_not_lift_a_later_stop(desk: Desk) -> None:
    await desk.comes("STOP", "1")
    await desk.comes("START", "2")
    await desk.comes("STOP", "3")
    assert await desk.comes("START", "2") == []
    assert await desk.suppressed()
    assert len(await desk.all(ReceivedText)) == 3


async def test_help_is_answered_once_a_day(desk: Desk) -> None:
    customer = await desk.customer()
    assert await desk.comes("HELP") == [TextOutcome.HELPED]
    assert await desk.comes("help!") == [TextOutcome.KEPT]
    [message] = await desk.all(Message)
    assert (message.customer_id, message.template, message.channel) == (
        *(customer, Template.SMS_HELP),
        Channel.SMS,
    )
    async with desk.sessions.begin() as session:
        yesterday = datetime.now(UTC) - timedelta(hours=25)
        await session.execute(sa.update(Message).values(queued_at=yesterday))
    assert await desk.comes("info") == [TextOutcome.HELPED]


async def test_anything_else_is_a_reply_of_the_one_who_has_the_number(desk: Desk) -> None:
    customer = await desk.customer()
    assert await desk.comes("Saturday is fine") == [TextOutcome.REPLY_RECEIVED]
    [event] = await desk.all(Event)
    assert (event.customer_id, event.body["text"]) == (customer, "Saturday is fine")
    assert await desk.comes("hello?", number="+4930123456") == [TextOutcome.UNKNOWN_SENDER]


@pytest.mark.own_database
async def test_a_text_that_we_stumble_over_holds_up_no_other(desk: Desk) -> None:
    await desk.customer()
    async with desk.sessions.begin() as session:
        for text in ("hello", "STOP"):
            await keep_text(session, "twilio", text, NUMBER, text)
        await session.execute(
            sa.text("ALTER TABLE events ADD CONSTRAINT no_hello CHECK (kind <> 'reply_received')")
        )
    try:
        outcomes = await take_in_texts(desk.sessions, desk.client)
    finally:
        async with desk.sessions.begin() as session:
            await session.execute(sa.text("ALTER TABLE events DROP CONSTRAINT no_hello"))
    assert outcomes == [TextOutcome.FAILED, TextOutcome.STOPPED]


async def test_a_text_at_which_temporal_seems_away_for_ever_is_set_aside_and_says_so(
    desk: Desk,
) -> None:
    """What it means to say to Temporal can be what Temporal never answers."""
    await desk.customer()
    away = Desk(desk.sessions, refusing_client(desk.client, RPCStatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(RPCError):
        await away.comes("hello")
    for _ in range(7):
        await _its_turn(desk)
        with pytest.raises(RPCError):
            await take_in_texts(away.sessions, away.client)
    [text] = await desk.all(ReceivedText)
    assert (text.attempts, text.outcome) == (8, None)
    await _its_turn(desk)
    assert await take_in_texts(away.sessions, away.client) == [TextOutcome.FAILED]
    [text] = await desk.all(ReceivedText)
    assert text.because == "set aside: 8 attempts ended without an outcome"
    assert await desk.all(Event) == []


async def test_a_text_that_is_tried_again_lets_others_go_before_it(desk: Desk) -> None:
    await desk.customer()
    away = Desk(desk.sessions, refusing_client(desk.client, RPCStatusCode.UNAVAILABLE))
    with pytest.raises(RPCError):
        await away.comes("first", "1")
    for _ in range(2):  # once more at once; then it has to wait
        with pytest.raises(RPCError):
            await take_in_texts(away.sessions, away.client)
    assert await desk.comes("second", "2") == [TextOutcome.REPLY_RECEIVED]
    [first] = [one for one in await desk.all(ReceivedText) if one.event_id == "1"]
    assert (first.attempts, first.outcome) == (3, None)
    await _its_turn(desk)
    assert await take_in_texts(desk.sessions, desk.client) == [TextOutcome.REPLY_RECEIVED]


async def _its_turn(desk: Desk) -> None:
    """The machine's time goes on until every text may be tried again."""
    async with desk.sessions.begin() as session:
        await session.execute(sa.update(ReceivedText).values(not_before=sa.func.now()))
