"""A customer chooses what he gets from us: by a signed link, without a login, without a script."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx2
import pytest
import sqlalchemy as sa

from database.base import Sessions
from database.customers import Consent, Customer, Preference, Suppression
from database.events import Event
from database.messages import Message
from domain.contacts import ConsentState
from domain.messages import Channel, MessageState, Purpose, Template
from domain.policies import ContactPolicy
from domain.preferences import pause_until
from domain.tokens import TokenPurpose, preferences_value, sign, unsubscribe_value
from settings import Settings
from tests.api.conftest import SIGNING_KEY, MakeCustomer, calling, count, running_app
from tests.api.publishing import published
from tests.api.reading import ReadPage, assert_anybody_can_use

PHONE = "+5511961237755"  # not the example of the API: generated requests may say STOP for it


def link_of(customer: UUID, channel: Channel = Channel.EMAIL) -> str:
    value = preferences_value(customer, channel)
    return f"/p/{sign(SIGNING_KEY.encode(), TokenPurpose.PREFERENCES, value)}"


async def opened(stranger: httpx2.AsyncClient, link: str) -> ReadPage:
    answer = await stranger.get(link)
    assert answer.status_code == 200, answer.text
    return ReadPage(answer.text)


async def saved(stranger: httpx2.AsyncClient, link: str, form: dict[str, list[str]]) -> ReadPage:
    answer = await stranger.post(link, data=form)
    assert answer.status_code == 200, answer.text
    return ReadPage(answer.text)


async def statements(sessions: Sessions, customer: UUID) -> list[Consent]:
    """Those made on the page, in order."""
    async with sessions() as session:
        found = await session.scalars(
            sa.select(Consent)
            .where(Consent.customer_id == customer, Consent.source == "preference-page")
            .order_by(Consent.occurred_at, Consent.id)
        )
        return list(found)


async def row_of(sessions: Sessions, customer: UUID) -> Customer:
    async with sessions() as session:
        return await session.get_one(Customer, customer)


async def hold(sessions: Sessions, customer: UUID) -> UUID:
    """A message that is held back until tomorrow."""
    message_id = uuid4()
    async with sessions.begin() as session:
        session.add(
            Message(
                id=message_id,
                key=str(message_id),
                customer_id=customer,
                workflow_id="marketing/test/1",
                step="touch/1",
                template=Template.MARKETING_VALUE,
                message_class="marketing",
                purpose=Purpose.MARKETING,
                channel=Channel.EMAIL,
                context={},
                asked_at=datetime.now(UTC),
                state=MessageState.HELD,
                decision={},
                not_before=datetime.now(UTC) + timedelta(days=1),
            )
        )
    return message_id


@pytest.mark.parametrize(
    ("locale", "lang", "words"),
    [("en-GB", "en", "I want news and offers by e-mail."), ("pt", "pt-BR", "Quero receber")],
)
async def test_the_page_is_in_the_customers_language_and_anybody_can_use_it(
    stranger: httpx2.AsyncClient,
    make_customer: MakeCustomer,
    locale: str,
    lang: str,
    words: str,
) -> None:
    customer = await make_customer(locale=locale, phone=PHONE)
    page = await opened(stranger, link_of(customer))
    assert_anybody_can_use(page, lang)
    assert words in page.text
    changed = await saved(stranger, link_of(customer), page.filled(pause="3"))
    assert_anybody_can_use(changed, lang)


async def test_the_page_shows_nobody_who_the_customer_is_and_is_kept_nowhere(
    stranger: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(name="Ada Lovelace", email="ada-hidden@example.com", phone=PHONE)
    answer = await stranger.get(link_of(customer))
    for secret in ("Ada", "Lovelace", "ada-hidden", PHONE.removeprefix("+5511"), str(customer)):
        assert secret not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "set-cookie" not in answer.headers
    assert "<script" not in answer.text


async def test_what_may_be_refused_is_offered_and_orders_are_not(
    stranger: httpx2.AsyncClient, customer: UUID
) -> None:
    page = await opened(stranger, link_of(customer))
    assert page.offers["offered"] == ["email/marketing", "email/feedback", "email/support"]
    assert [value for name, value in page.fields if name == "on"] == page.offers["offered"]
    assert "part of the contract" in page.text
    assert "channel" not in page.offers  # there is only one
    assert (await stranger.head(link_of(customer))).status_code == 200


async def test_what_a_suppressed_number_does_not_get_is_not_promised_and_can_still_be_refused(
    stranger: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    number = "+5511961234999"  # of nobody else: what is suppressed stays so
    customer = await make_customer(phone=number)
    link = link_of(customer)
    before = await opened(stranger, link)
    async with sessions.begin() as session:
        session.add(Suppression(channel=Channel.SMS, address=number, reason="answered STOP"))
    page = await opened(stranger, link)
    assert "Send us START" in page.text
    assert "sms/marketing" not in page.offers["offered"]
    stale = before.filled(on=("sms/marketing",), off=("sms/support",))
    changed = await saved(stranger, link, stale)
    assert "From now on" not in changed.text
    assert "No longer: messages about your requests by text message." in changed.text
    said = [(one.purpose, one.state) for one in await statements(sessions, customer)]
    assert said == [(Purpose.SUPPORT, ConsentState.WITHDRAWN)]


async def test_refusing_selling_holds_is_explained_and_ends_what_is_under_way(
    stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    link = link_of(customer)
    form = (await opened(stranger, link)).filled(off=("email/marketing",))
    page = await saved(stranger, link, form)
    assert "No longer: news and offers by e-mail." in page.text
    assert "email/marketing" not in [value for name, value in page.fields if name == "on"]
    [said] = await statements(sessions, customer)
    assert (said.state, said.purpose) == (ConsentState.WITHDRAWN, Purpose.MARKETING)
    assert said.wording == "I want news and offers by e-mail."
    assert await count(sessions, Event, customer_id=customer, kind="opted_out") == 1
    again = await saved(stranger, link, form)
    assert "Nothing has changed." in again.text
    assert len(await statements(sessions, customer)) == 1
    back = await saved(stranger, link, again.filled(on=("email/marketing",)))
    assert "From now on: news and offers by e-mail." in back.text
    states = [said.state for said in await statements(sessions, customer)]
    assert states == [ConsentState.WITHDRAWN, ConsentState.GRANTED]


async def test_it_holds_while_the_process_cannot_be_told(
    settings: Settings, stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    form = (await opened(stranger, link_of(customer))).filled(off=("email/marketing",))
    away = settings.model_copy(update={"temporal_address": "127.0.0.1:1"})
    async with running_app(away) as app, calling(app, None) as client:
        await saved(client, link_of(customer), form)
    [said] = await statements(sessions, customer)
    assert said.state is ConsentState.WITHDRAWN


async def test_an_objection_to_questions_is_only_that(
    stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    link = link_of(customer)
    await saved(stranger, link, (await opened(stranger, link)).filled(off=("email/feedback",)))
    [said] = await statements(sessions, customer)
    assert (said.purpose, said.state) == (Purpose.FEEDBACK, ConsentState.WITHDRAWN)
    assert await count(sessions, Event, customer_id=customer, kind="opted_out") == 0


async def test_of_two_tabs_each_changes_only_what_was_changed_in_it(
    stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    """The second tab still shows marketing as allowed, and says nothing about it."""
    link = link_of(customer)
    one, other = [await opened(stranger, link) for _ in range(2)]
    await saved(stranger, link, one.filled(off=("email/marketing",)))
    page = await saved(stranger, link, other.filled(off=("email/feedback",), language="pt-BR"))
    assert page.lang == "pt-BR"
    states = {said.purpose: said.state for said in await statements(sessions, customer)}
    assert states == dict.fromkeys((Purpose.MARKETING, Purpose.FEEDBACK), ConsentState.WITHDRAWN)


async def test_a_form_sent_twice_at_once_is_one_change(
    stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    link = link_of(customer)
    page = await opened(stranger, link)
    form = page.filled(off=("email/marketing",), pause="1", language="pt-BR")
    answers = await asyncio.gather(*(stranger.post(link, data=form) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await statements(sessions, customer)) == 1
    assert await count(sessions, Preference, customer_id=customer) == 2
    assert await count(sessions, Event, customer_id=customer, kind="opted_out") == 1


async def test_language_and_channel_are_the_customers_own(
    stranger: httpx2.AsyncClient,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    make_customer: MakeCustomer,
) -> None:
    reference = f"C-{uuid4().hex[:8]}"
    customer = await make_customer(locale="de", phone=PHONE, reference=reference)
    link = link_of(customer)
    page = await opened(stranger, link)
    assert page.offers["language"] == ["en", "pt-BR", "de"]
    assert ("language", "de") in page.fields
    page = await saved(stranger, link, page.filled(language="pt-BR", channel="sms"))
    assert "Escrevemos a você em português (Brasil)." in page.text
    assert "Você prefere receber notícias nossas por mensagem de texto." in page.text
    # What the shop reports every night does not undo it; what staff changes does.
    await api.put(f"/api/v1/customers/by-reference/{reference}", json={"name": "A", "locale": "de"})
    shown = (await api.get(f"/api/v1/customers/{customer}")).json()
    assert (shown["locale"], shown["chosen_locale"]) == ("de", "pt-BR")
    assert shown["preferred_channel"] == "sms"
    noted = await api.get(f"/api/v1/customers/{customer}/preferences")
    assert {(one["name"], one["value"], one["source"]) for one in noted.json()["items"]} == {
        ("language", "pt-BR", "preference-page"),
        ("channel", "sms", "preference-page"),
    }
    change = {"locale": "en", "preferred_channel": None}
    answer = await api.patch(
        f"/api/v1/customers/{customer}", json=change, headers={"If-Match": "*"}
    )
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["locale"], changed["chosen_locale"]) == ("en", None)
    assert changed["preferred_channel"] is None
    page = await saved(stranger, link, (await opened(stranger, link)).filled(channel="email"))
    page = await saved(stranger, link, page.filled(channel=""))
    assert "You have no preference between the channels." in page.text


async def test_a_rest_ends_by_itself_or_when_the_customer_says_so(
    stranger: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    zone = "America/Sao_Paulo"
    customer = await make_customer(zone=zone)
    held = await hold(sessions, customer)
    link = link_of(customer)
    page = await saved(stranger, link, (await opened(stranger, link)).filled(pause="1"))
    paused = (await row_of(sessions, customer)).marketing_paused_until
    assert paused == pause_until(datetime.now(UTC), 1, zone)
    local = paused.astimezone(ZoneInfo(zone))
    assert f"No news and offers until {local:%B} {local.day}, {local.year}." in page.text
    assert f"Resting until {local:%B} {local.day}, {local.year}" in page.text
    async with sessions() as session:  # asked anew, so that its explanation is the true one
        message = await session.get_one(Message, held)
        assert message.not_before <= datetime.now(UTC)
    page = await saved(stranger, link, page.filled(pause="end"))
    assert "The rest is over" in page.text
    assert (await row_of(sessions, customer)).marketing_paused_until is None
    assert "end" not in page.offers["pause"]


async def test_a_rest_is_in_the_time_the_customer_lives_in(
    stranger: httpx2.AsyncClient,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    make_customer: MakeCustomer,
) -> None:
    body = {"name": "rest", "business_origin": "2017-06-15T12:00:00Z", "speed": 1}
    simulation = (await api.post("/api/v1/simulations", json=body)).json()["id"]
    customer = await make_customer(simulation_id=simulation)
    link = link_of(customer)
    page = await saved(stranger, link, (await opened(stranger, link)).filled(pause="6"))
    assert "No news and offers until December 15, 2017." in page.text
    paused = (await row_of(sessions, customer)).marketing_paused_until
    assert paused == datetime(2017, 12, 15, tzinfo=UTC)


@pytest.mark.parametrize("channel", ["email", "sms"])
async def test_a_grant_holds_at_once_only_for_the_channel_the_link_came_by(
    stranger: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer, channel: str
) -> None:
    customer = await make_customer(phone=PHONE)
    link = link_of(customer, Channel(channel))
    page = await opened(stranger, link)
    both = ("email/marketing", "sms/marketing")
    async with published(sessions, ContactPolicy(double_opt_in=both)):
        page = await saved(stranger, link, page.filled(on=both))
    states = {str(said.channel): said.state for said in await statements(sessions, customer)}
    other = {"email": "sms", "sms": "email"}[channel]
    assert states == {channel: ConsentState.GRANTED, other: ConsentState.PENDING}
    assert "follow its link" in page.text
    async with sessions() as session:
        [asked] = await session.scalars(sa.select(Message).where(Message.customer_id == customer))
    assert (asked.template, asked.channel) == (Template.CONFIRM_OPT_IN, other)


async def test_a_consent_that_holds_is_not_asked_about_again_by_a_stale_form(
    stranger: httpx2.AsyncClient,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    make_customer: MakeCustomer,
) -> None:
    """It was confirmed while the other tab still showed it as off."""
    customer = await make_customer(phone=PHONE)
    link = link_of(customer, Channel.SMS)
    form = (await opened(stranger, link)).filled(on=("email/marketing",))
    grant = {"channel": "email", "purpose": "marketing", "state": "granted", "source": "form"}
    await api.post(f"/api/v1/customers/{customer}/consents", json=grant)
    async with published(sessions, ContactPolicy(double_opt_in=("email/marketing",))):
        page = await saved(stranger, link, form)
    assert "Nothing has changed." in page.text
    assert await statements(sessions, customer) == []


async def test_tracking_is_offered_where_there_is_some_or_was_allowed(
    stranger: httpx2.AsyncClient, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(phone=PHONE)
    link = link_of(customer)
    assert "email/tracking" not in (await opened(stranger, link)).offers["offered"]
    async with published(sessions, ContactPolicy(track=True)):
        page = await opened(stranger, link)
        assert "sms/tracking" not in page.offers["offered"]
        assert ("on", "email/tracking") not in page.fields  # off until somebody says yes
        await saved(stranger, link, page.filled(on=("email/tracking",)))
    page = await opened(stranger, link)
    assert ("on", "email/tracking") in page.fields
    page = await saved(stranger, link, page.filled(off=("email/tracking",)))
    assert "No longer: counting what you open and click by e-mail." in page.text
    assert await count(sessions, Event, customer_id=customer) == 0


BAD_FORMS: list[Any] = [
    {},
    {"on": "email/marketing"},
    {"language": "en"},
    {"language": "xx", "was_language": "en"},
    {"language": "en", "was_language": "en", "pause": "12"},
    {"language": "en", "was_language": "en", "channel": "fax"},
    {"language": "en", "was_language": "en", "offered": "email"},
    {"language": "en", "was_language": "en", "offered": "fax/marketing", "on": "fax/marketing"},
    {"language": "en", "was_language": "en", **{f"x{n}": "" for n in range(50)}},
    b"\xff",
    b"language=en&was_language=%ED%A0%80",
    b'{"language": "en", "was_language": "en"}',
]


@pytest.mark.parametrize("form", BAD_FORMS, ids=range(len(BAD_FORMS)))
async def test_a_form_that_is_not_ours_changes_nothing(
    stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID, form: Any
) -> None:
    body = {"content": form} if isinstance(form, bytes) else {"data": form}
    answer = await stranger.post(link_of(customer), **body)
    assert answer.status_code == 422, answer.text
    assert "The form could not be read" in answer.text
    assert "errors" not in answer.text  # the remedy for a program
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert await statements(sessions, customer) == []


async def test_what_was_not_offered_cannot_be_switched(
    stranger: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    """Orders, tracking where there is none, a channel without an address; any earlier language."""
    base = {"language": ["en"], "was_language": ["en"]}
    for name in ("email/orders", "email/tracking", "sms/marketing"):
        for form in ({"on": [name]}, {"was_on": [name]}):
            page = await saved(stranger, link_of(customer), {**base, "offered": [name], **form})
            assert "Nothing has changed." in page.text
    assert await statements(sessions, customer) == []


async def test_links_that_are_not_ours_open_nothing(
    stranger: httpx2.AsyncClient, customer: UUID
) -> None:
    link = link_of(customer)
    value = unsubscribe_value(customer, Channel.EMAIL, Purpose.MARKETING)
    other = sign(SIGNING_KEY.encode(), TokenPurpose.UNSUBSCRIBE, value)
    strange = sign(
        b"another key of 16", TokenPurpose.PREFERENCES, preferences_value(customer, Channel.EMAIL)
    )
    for bad in (f"{link}x", f"/p/{other}", f"/p/{strange}", link_of(uuid4()), "/p/%00", "/p/é"):
        for answer in (
            await stranger.get(bad),
            await stranger.post(bad, data={"language": "en", "was_language": "en"}),
        ):
            assert answer.status_code == 404, bad
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
