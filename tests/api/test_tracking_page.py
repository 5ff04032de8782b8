"""Links that count: for who allowed it, once a day; for everybody else they just lead on."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from database.base import Sessions
from database.messages import Message
from database.reactions import MessageReaction
from domain.messages import Channel, MessageClass, Purpose, Template
from domain.policies import ContactPolicy
from domain.tokens import TokenPurpose, click_value, sign
from settings import Settings
from tests.api.conftest import SIGNING_KEY, Json, calling, running_app
from tests.api.publishing import published

TARGET = "https://shop.example.com/coffee?size=250&unit=g#top"
KEY = SIGNING_KEY.encode()


def click_on(message: UUID, target: str = TARGET) -> str:
    return f"/c/{sign(KEY, TokenPurpose.CLICK, click_value(message, target))}"


def opening_of(message: UUID) -> str:
    return f"/o/{sign(KEY, TokenPurpose.OPEN, str(message))}"


@pytest.fixture
async def message(sessions: Sessions, customer: UUID) -> UUID:
    message_id = uuid4()
    async with sessions.begin() as session:
        session.add(
            Message(
                id=message_id,
                key=str(message_id),
                customer_id=customer,
                workflow_id=f"marketing/{customer}/1",
                step="touch/1",
                template=Template.MARKETING_VALUE,
                message_class=MessageClass.MARKETING,
                purpose=Purpose.MARKETING,
                channel=Channel.EMAIL,
                context={},
                asked_at=datetime.now(UTC),
            )
        )
    return message_id


@pytest.fixture
async def counting(sessions: Sessions) -> AsyncGenerator[None]:
    async with published(sessions, ContactPolicy(track=True)):
        yield


async def say(api: httpx2.AsyncClient, customer: UUID, state: str) -> None:
    body = {"channel": "email", "purpose": "tracking", "state": state, "source": "form"}
    answer = await api.post(f"/api/v1/customers/{customer}/consents", json=body)
    assert answer.status_code == 201, answer.text


async def reactions(api: httpx2.AsyncClient, message: UUID) -> list[Json]:
    explained: Json = (await api.get(f"/api/v1/messages/{message}/explanation")).json()
    found: list[Json] = explained["reactions"]
    return found


async def use_both(stranger: httpx2.AsyncClient, message: UUID) -> None:
    """They work, whatever is counted."""
    led = await stranger.get(click_on(message))
    assert (led.status_code, led.headers["location"]) == (302, TARGET)
    shown = await stranger.get(opening_of(message))
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/gif")
    assert shown.content.startswith(b"GIF89a")
    for answer in (led, shown):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in answer.headers


@pytest.mark.usefixtures("counting")
async def test_who_allowed_it_is_counted_once_a_day_and_the_explanation_shows_it(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, customer: UUID, message: UUID
) -> None:
    await say(api, customer, "granted")
    for _ in range(3):
        await use_both(stranger, message)
    await stranger.get(click_on(message, "https://shop.example.com/tea"))
    found = await reactions(api, message)
    assert [(one["kind"], one["link"]) for one in found] == [
        ("clicked", TARGET),
        ("opened", ""),
        ("clicked", "https://shop.example.com/tea"),
    ]


@pytest.mark.usefixtures("counting")
async def test_who_said_nothing_or_no_more_is_not_counted(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, customer: UUID, message: UUID
) -> None:
    await use_both(stranger, message)
    await say(api, customer, "granted")
    await say(api, customer, "withdrawn")
    await use_both(stranger, message)
    assert await reactions(api, message) == []


async def test_nothing_is_counted_while_it_is_off_which_it_is_by_default(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, customer: UUID, message: UUID
) -> None:
    await say(api, customer, "granted")
    await use_both(stranger, message)
    assert await reactions(api, message) == []


@pytest.mark.usefixtures("counting")
async def test_an_old_link_leads_on_and_is_not_counted(
    stranger: httpx2.AsyncClient,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    customer: UUID,
    message: UUID,
) -> None:
    await say(api, customer, "granted")
    async with sessions.begin() as session:
        long_ago = datetime.now(UTC) - timedelta(days=91)
        mine = sa.update(Message).where(Message.id == message)
        await session.execute(mine.values(queued_at=long_ago))
    await use_both(stranger, message)
    assert await reactions(api, message) == []
    await use_both(stranger, uuid4())  # of a message that is not there any more


@pytest.mark.usefixtures("counting")
async def test_a_scanner_that_only_asks_for_the_headers_is_not_counted(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, customer: UUID, message: UUID
) -> None:
    await say(api, customer, "granted")
    assert (await stranger.head(click_on(message))).status_code == 302
    assert (await stranger.head(opening_of(message))).status_code == 200
    assert await reactions(api, message) == []


async def test_a_link_leads_on_while_the_database_is_away(
    settings: Settings, message: UUID
) -> None:
    away = settings.model_copy(update={"database_url": SecretStr("postgresql://x@127.0.0.1:1/x")})
    async with running_app(away) as app, calling(app, None) as client:
        await use_both(client, message)


async def test_nobody_can_make_a_link_that_leads_elsewhere(
    stranger: httpx2.AsyncClient, sessions: Sessions, message: UUID
) -> None:
    link = click_on(message)
    forged = sign(b"another key of 16", TokenPurpose.CLICK, click_value(message, TARGET))
    mac = link.rpartition(".")[2]
    exchanged = sign(KEY, TokenPurpose.CLICK, click_value(message, "https://evil.example"))
    bad = [
        *(f"{link}x", f"/c/{forged}", f"/c/{exchanged.partition('.')[0]}.{mac}", "/c/x", "/c/%00"),
        *(opening_of(message).replace("/o/", "/c/"), link.replace("/c/", "/o/")),
        f"/c/{TARGET}",
    ]
    # Not even we sign these: no mail of ours has one.
    for scheme in ("http://shop.example.com", "javascript:alert(1)", "//evil.example", "/inbox"):
        bad.append(click_on(message, scheme))
    for one in bad:
        answer = await stranger.get(one)
        assert answer.status_code == 404, one
        assert "location" not in answer.headers
    async with sessions() as session:
        found = sa.select(MessageReaction).where(MessageReaction.message_id == message)
        assert (await session.scalars(found)).all() == []
