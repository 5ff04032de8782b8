"""Where the policy asks for it, a consent to marketing holds once the customer has confirmed it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
import sqlalchemy as sa

from database.base import Sessions
from database.customers import Consent
from database.events import Event
from database.messages import Message
from domain.messages import Channel, Template
from domain.policies import ContactPolicy
from domain.tokens import (
    Confirmation,
    TokenPurpose,
    address_mark,
    confirmation_value,
    preferences_value,
    sign,
)
from tests.api.conftest import SIGNING_KEY, MakeCustomer, Report, count, eventually
from tests.api.publishing import published
from tests.api.reading import ReadPage, assert_anybody_can_use

ADDRESS = "ada-confirms@example.com"
POLICY = ContactPolicy(double_opt_in=("email/marketing",))
GRANT = {"channel": "email", "purpose": "marketing", "source": "form", "wording": "Yes, write me."}


def link_of(customer: UUID, address: str = ADDRESS, hours: float = 1) -> str:
    """As the message brings it."""
    until = datetime.now(UTC) + timedelta(hours=hours)
    asked = Confirmation(customer, Channel.EMAIL, until, address_mark(address))
    return f"/v/{sign(SIGNING_KEY.encode(), TokenPurpose.CONFIRM, confirmation_value(asked))}"


async def state_of(api: httpx2.AsyncClient, customer: UUID) -> list[tuple[str, str]]:
    """The newest statement; only one that waits for nothing holds."""
    stated = (await api.get(f"/api/v1/customers/{customer}/consents")).json()["items"]
    assert [one["holds"] for one in stated[:1]] == [one["state"] != "pending" for one in stated[:1]]
    assert not any(one["holds"] for one in stated[1:])
    return [(one["state"], one["source"]) for one in stated[:1]]


async def questions(sessions: Sessions, customer: UUID) -> list[Message]:
    async with sessions() as session:
        found = await session.scalars(
            sa.select(Message).where(
                Message.customer_id == customer, Message.template == Template.CONFIRM_OPT_IN
            )
        )
        return list(found)


@pytest.fixture
async def pending(sessions: Sessions, make_customer: MakeCustomer) -> UUID:
    """A customer who has not confirmed yet."""
    async with published(sessions, POLICY):
        return await make_customer(email=ADDRESS, consents=[GRANT])


async def grant(api: httpx2.AsyncClient, customer: UUID, **more: Any) -> str:
    answer = await api.post(
        f"/api/v1/customers/{customer}/consents", json={**GRANT, "state": "granted", **more}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["state"])


async def test_a_grant_waits_and_one_message_asks_whether_it_was_meant(
    api: httpx2.AsyncClient, sessions: Sessions, pending: UUID
) -> None:
    assert await state_of(api, pending) == [("pending", "form")]
    [asked] = await questions(sessions, pending)
    assert (asked.channel, asked.channel_fixed) == (Channel.EMAIL, True)
    assert asked.context["confirms"] == "email/marketing"
    assert asked.not_after == asked.asked_at + POLICY.confirm_within
    async with published(sessions, POLICY):
        assert await grant(api, pending) == "pending"
        again = {**GRANT, "occurred_at": datetime.now(UTC).isoformat()}
        body = {"name": "Ada", "email": ADDRESS, "consents": [again]}
        reference = (await api.get(f"/api/v1/customers/{pending}")).json()["reference"]
        await api.put(f"/api/v1/customers/by-reference/{reference}", json=body)
        assert len(await questions(sessions, pending)) == 1  # within a day
        yesterday = Message.asked_at - timedelta(days=1)
        async with sessions.begin() as session:
            mine = Message.customer_id == pending
            await session.execute(sa.update(Message).where(mine).values(asked_at=yesterday))
        assert await grant(api, pending) == "pending"
        assert len(await questions(sessions, pending)) == 2


async def test_nothing_changes_where_the_policy_does_not_ask(
    api: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(email=ADDRESS, consents=[GRANT])
    assert await state_of(api, customer) == [("granted", "form")]
    async with published(sessions, POLICY):
        assert await grant(api, customer) == "granted"  # it holds already
        confirmed = await make_customer(consents=[{**GRANT, "confirmed": True}])
        assert await state_of(api, confirmed) == [("granted", "form")]
        other = await make_customer()
        assert await grant(api, other, confirmed=True) == "granted"
        assert await grant(api, other, purpose="feedback") == "granted"
    for one in (customer, confirmed, other):
        assert await questions(sessions, one) == []


async def test_nobody_reports_a_consent_as_pending(api: httpx2.AsyncClient, customer: UUID) -> None:
    body = {**GRANT, "state": "pending"}
    answer = await api.post(f"/api/v1/customers/{customer}/consents", json=body)
    assert answer.status_code == 422


@pytest.mark.parametrize("lang", ["en", "pt-BR"])
async def test_the_link_shows_a_button_and_only_the_button_confirms(
    stranger: httpx2.AsyncClient,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    pending: UUID,
    lang: str,
) -> None:
    await api.patch(
        f"/api/v1/customers/{pending}", json={"locale": lang}, headers={"If-Match": "*"}
    )
    link = link_of(pending)
    shown = ReadPage((await stranger.get(link)).text)
    assert_anybody_can_use(shown, lang)
    assert shown.action == link
    assert (await stranger.head(link)).status_code == 200
    assert await state_of(api, pending) == [("pending", "form")]
    for _ in range(2):
        done = await stranger.post(link)
        assert done.status_code == 200
        assert "<form" not in done.text
    assert await state_of(api, pending) == [("granted", "double-opt-in")]
    async with sessions() as session:
        wordings = await session.scalars(
            sa.select(Consent.wording).where(Consent.customer_id == pending)
        )
        assert set(wordings) == {GRANT["wording"]}
    choices = sign(
        SIGNING_KEY.encode(), TokenPurpose.PREFERENCES, preferences_value(pending, Channel.EMAIL)
    )
    assert shown.links == [f"/p/{choices}"]


async def test_who_changed_his_mind_has_nothing_to_confirm(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, pending: UUID
) -> None:
    body = {**GRANT, "state": "withdrawn", "source": "phone"}
    await api.post(f"/api/v1/customers/{pending}/consents", json=body)
    for answer in (await stranger.get(link_of(pending)), await stranger.post(link_of(pending))):
        assert answer.status_code == 410
        assert "nothing to confirm" in answer.text
    assert await state_of(api, pending) == [("withdrawn", "phone")]


async def test_a_late_click_confirms_nothing(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, pending: UUID
) -> None:
    answer = await stranger.post(link_of(pending, hours=-1))
    assert answer.status_code == 410
    assert "expired" in answer.text
    assert await state_of(api, pending) == [("pending", "form")]


async def test_only_the_address_that_was_asked_can_confirm(
    stranger: httpx2.AsyncClient, api: httpx2.AsyncClient, pending: UUID
) -> None:
    """Else the holder of a mailbox could say yes for the address that took its place."""
    path = f"/api/v1/customers/{pending}/contact-points"
    await api.post(path, json={"channel": "email", "address": "ada-new@example.com"})
    assert (await stranger.post(link_of(pending))).status_code == 410
    assert await state_of(api, pending) == [("pending", "form")]
    assert (await stranger.post(link_of(pending, "ada-new@example.com"))).status_code == 200
    assert await state_of(api, pending) == [("granted", "double-opt-in")]


async def test_links_that_are_not_ours_confirm_nothing(
    stranger: httpx2.AsyncClient, pending: UUID
) -> None:
    link = link_of(pending)
    for bad in (f"{link}x", link.replace("/v/", "/p/"), f"/p/{link[3:]}", "/v/x", "/v/%00"):
        for answer in (await stranger.get(bad), await stranger.post(bad)):
            assert answer.status_code == 404, bad


@pytest.mark.usefixtures("worker")
async def test_an_interest_that_had_to_wait_is_taken_up_once_it_is_confirmed(
    stranger: httpx2.AsyncClient,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    pending: UUID,
    report: Report,
) -> None:
    now = datetime.now(UTC).isoformat()
    await report("lead_received", customer_id=str(pending), campaign="spring-sale", occurred_at=now)
    path = f"/api/v1/customers/{pending}/timeline"
    timeline = await eventually(
        lambda: api.get(path, params={"what": "line"}), lambda page: page["items"] != []
    )
    assert timeline["items"][0]["facts"]["not_started"] == "no consent to marketing on any channel"
    for _ in range(2):
        await stranger.post(link_of(pending))
    touched = await eventually(
        lambda: api.get("/api/v1/messages", params={"customer_id": str(pending)}),
        lambda page: any(one["template"] == "marketing_welcome" for one in page["items"]),
    )
    assert {one["state"] for one in touched["items"]} == {"queued"}
    assert await count(sessions, Event, customer_id=pending, kind="lead_received") == 2


async def test_who_showed_no_interest_is_only_allowed(
    stranger: httpx2.AsyncClient, sessions: Sessions, pending: UUID
) -> None:
    await stranger.post(link_of(pending))
    assert await count(sessions, Event, customer_id=pending) == 0
