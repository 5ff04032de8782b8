"""What a customer has chosen is kept when he is written to: channel, language, rest, tracking."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from temporalio.testing import WorkflowEnvironment

from activities.messages import MessageActivities
from database.base import Sessions
from database.customers import Consent, ContactPoint, Customer, Suppression
from database.messages import Message
from database.policies import PolicyVersion
from database.queries.consents import ask_to_confirm, state_consent
from database.queries.messages import ask_again
from domain.contacts import ConsentState
from domain.messages import Channel, MessageState, Purpose, Template
from domain.policies import ContactPolicy, PolicyKind
from domain.tokens import (
    TokenPurpose,
    parse_click_value,
    parse_confirmation_value,
    parse_preferences_value,
    verify,
)
from messaging.render import TEMPLATES, Renderer
from tests.activities.dispatching import (
    LINKS,
    consent_of,
    queue,
    running,
    simulate,
    until,
    until_settled,
)
from tests.activities.opt_out_race import race_opt_outs, settings_for
from tests.messaging.post_office import PostOffice

NOON = datetime(2026, 3, 2, 15, tzinfo=UTC)  # in Sao Paulo, where the customers live
PHONE = "+5511987654321"
KEY = LINKS.signing_key


async def ask_at_noon(
    sessions: Sessions, template: Template, *, consent: bool = False, **choices: Any
) -> UUID:
    """A message to a customer with an address and a phone, who has made choices."""
    simulation = await simulate(sessions, NOON)
    granted = ConsentState.GRANTED if consent else None
    [customer] = await queue(sessions, template, consent=granted, simulation_id=simulation.id)
    async with sessions.begin() as session:
        session.add(ContactPoint(customer_id=customer, channel=Channel.SMS, address=PHONE))
        if choices:
            mine = sa.update(Customer).where(Customer.id == customer)
            await session.execute(mine.values(**choices))
    return customer


async def suppress(sessions: Sessions, *addresses: tuple[Channel, str]) -> None:
    async with sessions.begin() as session:
        for channel, address in addresses:
            session.add(Suppression(channel=channel, address=address, reason="hard bounce"))


def rule(message: Message, name: str) -> str | None:
    assert message.decision is not None
    said: dict[str, str] = {one["name"]: one["because"] for one in message.decision["rules"]}
    return said.get(name)


async def publish(sessions: Sessions, policy: ContactPolicy) -> None:
    async with sessions.begin() as session:
        session.add(
            PolicyVersion(
                kind=PolicyKind.CONTACT,
                version=1,
                document=policy.model_dump(mode="json"),
                published_by="test",
            )
        )


# --- the channel -------------------------------------------------------------------------------


async def test_a_message_goes_by_the_channel_the_customer_prefers_and_says_so(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await ask_at_noon(sessions, Template.ORDER_LATE, preferred_channel=Channel.SMS)
    async with running(activities):
        [message] = await until_settled(sessions)
    assert (message.state, message.provider) == (MessageState.ACCEPTED, "local_sms")
    assert (message.channel, message.asked_channel) == (Channel.SMS, Channel.EMAIL)
    assert message.address == PHONE
    assert rule(message, "channel") == "asked by email; the customer prefers sms: it goes by sms"
    [text] = await post_office.inbox.texts()
    assert text.rcpt_to == PHONE
    assert await post_office.inbox.count() == 0


async def test_what_cannot_go_by_the_preferred_channel_goes_by_the_asked_one(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    """No wording for it; no consent to be sold to by it; its number is dead."""
    await ask_at_noon(sessions, Template.ORDER_CONFIRMED, preferred_channel=Channel.SMS)
    await ask_at_noon(
        sessions, Template.MARKETING_VALUE, consent=True, preferred_channel=Channel.SMS
    )
    async with running(activities):
        confirmed, selling = await until_settled(sessions)
    await suppress(sessions, (Channel.SMS, PHONE))
    await ask_at_noon(sessions, Template.ORDER_LATE, preferred_channel=Channel.SMS)
    async with running(activities):
        *_, late = await until_settled(sessions)
    for message, obstacle in (
        (confirmed, "it has no wording for sms"),
        (selling, "it has no wording for sms"),
        (late, "the address for sms is suppressed"),
    ):
        assert (message.state, message.channel) == (MessageState.ACCEPTED, Channel.EMAIL)
        assert message.asked_channel is None
        said = f"asked by email; the customer prefers sms, but {obstacle}: it goes by email"
        assert rule(message, "channel") == said


async def test_what_belongs_to_a_contract_goes_another_way_when_its_address_is_dead(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await suppress(sessions, (Channel.EMAIL, "customer0@example.com"))
    await ask_at_noon(sessions, Template.ORDER_LATE)
    await ask_at_noon(sessions, Template.SURVEY_REQUEST)
    async with running(activities):
        order, survey = await until_settled(sessions)
    assert (order.state, order.channel) == (MessageState.ACCEPTED, Channel.SMS)
    said = "asked by email, but the address for email is suppressed: it goes by sms"
    assert rule(order, "channel") == said
    assert (survey.state, survey.channel) == (MessageState.SUPPRESSED, Channel.EMAIL)


async def test_without_a_wish_nothing_is_chosen(
    activities: MessageActivities, sessions: Sessions
) -> None:
    await ask_at_noon(sessions, Template.ORDER_LATE)
    async with running(activities):
        [message] = await until_settled(sessions)
    assert (message.channel, message.asked_channel) == (Channel.EMAIL, None)
    assert rule(message, "channel") is None


# --- language and rest -------------------------------------------------------------------------


async def test_the_chosen_language_goes_before_all_that_others_have_reported(
    activities: MessageActivities, sessions: Sessions
) -> None:
    await ask_at_noon(sessions, Template.ORDER_LATE, chosen_locale="pt-BR")
    async with sessions.begin() as session:
        await session.execute(sa.update(ContactPoint).values(locale="en"))
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.locale == "pt-BR"
    assert message.text is not None
    assert message.text.startswith("Olá")


async def test_a_rest_holds_selling_until_it_ends_and_drops_what_would_be_too_late(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    until_then = NOON + timedelta(days=30)
    resting: dict[str, Any] = {"consent": True, "marketing_paused_until": until_then}
    customer = await ask_at_noon(sessions, Template.MARKETING_VALUE, **resting)
    await ask_at_noon(sessions, Template.WIN_BACK, **resting)
    await ask_at_noon(sessions, Template.ORDER_LATE, marketing_paused_until=until_then)
    async with sessions.begin() as session:
        series = sa.update(Message).where(Message.template == Template.WIN_BACK)
        await session.execute(series.values(not_after=NOON + timedelta(days=4)))
    expected = [MessageState.HELD, MessageState.CANCELLED, MessageState.ACCEPTED]
    async with running(activities):
        rows = await until(sessions, lambda found: [row.state for row in found] == expected)
        held, dropped, _ = rows
        assert held.decision is not None
        assert held.decision["decided_by"] == "pause"
        assert datetime.fromisoformat(held.decision["until"]) == until_then
        assert dropped.decision is not None
        assert dropped.decision["decided_by"] == "pause"
        assert "when it is too late" in dropped.decision["because"]
        async with sessions.begin() as session:  # the customer ends it
            mine = sa.update(Customer).where(Customer.id == customer)
            await session.execute(mine.values(marketing_paused_until=None))
            await ask_again(session, customer)
        await until(sessions, lambda found: found[0].state is MessageState.ACCEPTED)
    assert await post_office.inbox.count() == 2


# --- double opt-in -----------------------------------------------------------------------------


async def say(sessions: Sessions, customer: UUID, state: ConsentState) -> None:
    async with sessions.begin() as session:
        about = (customer, Channel.EMAIL, Purpose.MARKETING)
        await state_consent(session, *about, state, source="test", now=NOON)


@pytest.mark.parametrize("locale", ["en", "pt-BR"])
async def test_the_question_whether_it_was_meant_goes_to_the_address_in_question(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice, locale: str
) -> None:
    customer = await ask_at_noon(
        sessions, Template.MARKETING_VALUE, preferred_channel=Channel.SMS, chosen_locale=locale
    )
    await say(sessions, customer, ConsentState.PENDING)
    policy = ContactPolicy()
    async with sessions.begin() as session:
        assert await ask_to_confirm(session, customer, Channel.EMAIL, policy=policy, now=NOON)
    async with running(activities):
        selling, question = await until_settled(sessions)
    assert selling.state is MessageState.SUPPRESSED
    assert rule(selling, "consent") == "the consent to marketing by email is not confirmed"
    assert (question.state, question.channel) == (MessageState.ACCEPTED, Channel.EMAIL)
    assert question.locale == locale
    assert question.text is not None
    [link] = [line for line in question.text.splitlines() if "/v/" in line]
    value = verify(KEY, TokenPurpose.CONFIRM, link.removeprefix(f"{LINKS.base}/v/"))
    assert value is not None
    asked = parse_confirmation_value(value)
    assert (asked.customer_id, asked.channel) == (customer, Channel.EMAIL)
    assert asked.until == NOON + policy.confirm_within
    assert asked.is_of("customer0@example.com")
    assert link in (question.html or "")


async def test_who_changed_his_mind_is_not_asked_any_more(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    customer = await ask_at_noon(sessions, Template.ORDER_LATE)
    await say(sessions, customer, ConsentState.PENDING)
    async with sessions.begin() as session:
        await ask_to_confirm(session, customer, Channel.EMAIL, policy=ContactPolicy(), now=NOON)
    await say(sessions, customer, ConsentState.WITHDRAWN)
    async with running(activities):
        _, question = await until_settled(sessions)
    assert question.state is MessageState.CANCELLED
    assert question.decision is not None
    assert question.decision["decided_by"] == "confirmation"


# --- tracking, and the link to the choices -----------------------------------------------------

_TARGET = "https://shop.example.com/coffee?size=250&unit=g"


@pytest.fixture
def linking(activities: MessageActivities, tmp_path: Path) -> MessageActivities:
    """A dispatcher whose win-back has a link to the shop."""
    templates = tmp_path / "templates"
    shutil.copytree(TEMPLATES, templates)
    folder = templates / Template.WIN_BACK / "en"
    for name, link in (
        ("body.mjml", f'<mj-text><a href="{_TARGET.replace("&", "&amp;")}">Coffee</a></mj-text>'),
        ("body.txt", f"Coffee: {_TARGET}"),
    ):
        source = (folder / name).read_text()
        (folder / name).write_text(source.replace("{% endblock %}", f"{link}\n{{% endblock %}}"))
    return replace(activities, renderer=Renderer("Perennial", templates))


@pytest.mark.parametrize(
    ("on", "consent", "counted"),
    [
        (True, ConsentState.GRANTED, True),
        (True, ConsentState.WITHDRAWN, False),
        (True, None, False),
        (False, ConsentState.GRANTED, False),
    ],
)
async def test_links_are_counted_only_of_who_allowed_it_and_only_while_it_is_on(
    linking: MessageActivities,
    sessions: Sessions,
    on: bool,
    consent: ConsentState | None,
    counted: bool,
) -> None:
    await publish(sessions, ContactPolicy(track=on))
    customer = await ask_at_noon(sessions, Template.WIN_BACK, consent=True)
    if consent is not None:
        async with sessions.begin() as session:
            session.add(consent_of(customer, consent, Purpose.TRACKING))
    async with running(linking):
        [message] = await until_settled(sessions)
    html, text = message.html or "", message.text or ""
    assert _TARGET in text  # always as it was written
    assert f"{LINKS.base}/c/" not in text
    assert (LINKS.opened(message.id) in html) is counted
    assert (_TARGET.replace("&", "&amp;") in html) is not counted
    if counted:
        token = html.partition(f"{LINKS.base}/c/")[2].partition('"')[0]
        value = verify(KEY, TokenPurpose.CLICK, token)
        assert value is not None
        assert parse_click_value(value) == (message.id, _TARGET)
    # The ways out are never counted.
    for link in (
        LINKS.unsubscribe(customer, Channel.EMAIL, Purpose.MARKETING),
        LINKS.preferences(customer, Channel.EMAIL),
    ):
        assert f'href="{link}"' in html


@pytest.mark.parametrize("locale", ["en", "pt-BR"])
async def test_a_mail_that_may_be_refused_leads_to_the_choices_of_its_reader(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice, locale: str
) -> None:
    customer = await ask_at_noon(
        sessions, Template.REFERRAL_REQUEST, consent=True, chosen_locale=locale
    )
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.locale == locale
    link = LINKS.preferences(customer, Channel.EMAIL)
    assert link in (message.text or "")
    assert f'href="{link}"' in (message.html or "")
    value = verify(KEY, TokenPurpose.PREFERENCES, link.removeprefix(f"{LINKS.base}/p/"))
    assert value is not None
    assert parse_preferences_value(value) == (customer, Channel.EMAIL)
    [stored] = await post_office.inbox.mails()
    opened = await post_office.inbox.open(stored.id)
    assert opened is not None
    mail = message_from_bytes(opened.raw)
    unsubscribe = LINKS.unsubscribe(customer, Channel.EMAIL, Purpose.MARKETING)
    assert mail["List-Unsubscribe"] == f"<{unsubscribe}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


# --- who was first -----------------------------------------------------------------------------


@pytest.mark.own_database
@pytest.mark.usefixtures("only_my_processes")
async def test_an_opt_out_that_commits_first_always_wins(
    activities: MessageActivities,
    sessions: Sessions,
    database_url: str,
    temporal: WorkflowEnvironment,
    post_office: PostOffice,
    tmp_path: Path,
) -> None:
    address = temporal.client.service_client.config.target_host
    patient = replace(activities, rules=replace(activities.rules, batch=5))
    settings = settings_for(database_url, address, tmp_path)
    race = await race_opt_outs(patient, sessions, settings, times=100)
    assert race.sent_after_opting_out == 0
    assert race.opted_out_first > 0
    assert race.sent_first > 0
    assert await post_office.inbox.count() == race.sent_first
    async with sessions() as session:
        withdrawn = Consent.state == ConsentState.WITHDRAWN
        said = await session.scalar(sa.select(sa.func.count()).where(withdrawn))
    assert said == 100
