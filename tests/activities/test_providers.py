"""Which provider is asked, what happens when it fails, and what a lost answer leads to."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError
from temporalio.testing import ActivityEnvironment

from activities.messages import MessageActivities
from database.base import Sessions
from database.customers import ContactPoint, Customer, Suppression
from database.messages import Message
from domain.contacts import ConsentState
from domain.messages import (
    Channel,
    DispatchRound,
    MessageState,
    Purpose,
    SettledBy,
    Template,
)
from domain.policies import SendingPolicy
from domain.sending import ProviderName, Stream
from messaging.resend import ResendProvider
from messaging.twilio import TwilioProvider
from settings import Settings
from tests.activities.dispatching import (
    IMPATIENT,
    RULES,
    consent_of,
    messages,
    publish,
    queue,
    running,
    simulate,
    until,
    until_settled,
)
from tests.messaging.http_office import HttpFault, ResendOffice, TwilioOffice
from tests.messaging.post_office import PostOffice
from worker import configured_providers

SENDER = "Perennial <hello@perennial.example>"
SMTP_FIRST = Stream(email=(ProviderName.SMTP, ProviderName.RESEND))
RESEND_FIRST = Stream(email=(ProviderName.RESEND, ProviderName.SMTP))
RESEND_ONLY = Stream(email=(ProviderName.RESEND,))
TWILIO_ONLY = Stream(sms=(ProviderName.TWILIO,))
AT_ONCE = timedelta(milliseconds=1)


def streams(stream: Stream, fall_back_after: timedelta = AT_ONCE) -> SendingPolicy:
    return SendingPolicy(
        transactional=stream, service=stream, marketing=stream, fall_back_after=fall_back_after
    )


@pytest.fixture
def http(
    activities: MessageActivities, resend: ResendOffice, twilio: TwilioOffice
) -> MessageActivities:
    """A dispatcher with all four providers; the two over HTTP are never asked for evidence."""
    limits: dict[str, Any] = {"answer_timeout": 0.5, "connect_timeout": 0.5}
    more = [
        ResendProvider(resend.url, "re_test", SENDER, **limits),
        TwilioProvider(twilio.url, "AC1", "secret", "+15005550006", **limits),
    ]
    providers = {**activities.providers, **{one.name: one for one in more}}
    return replace(activities, providers=providers)


async def selling(sessions: Sessions, address: str = "shop{}@example.com", n: int = 1) -> None:
    await queue(
        sessions, Template.WIN_BACK, customers=n, consent=ConsentState.GRANTED, address=address
    )


def effects(office: ResendOffice) -> list[str]:
    return sorted(mail["headers"]["X-CRM-Effect"] for mail in office.sent)


async def test_the_end_of_a_round_does_not_wait_for_who_gives_no_answer(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice
) -> None:
    await publish(sessions, SendingPolicy(marketing=RESEND_ONLY))
    resend.faults["shop0@example.com"] = HttpFault(hang=True, times=99)
    slow = ResendProvider(resend.url, "re_test", SENDER, answer_timeout=8.0)
    await selling(sessions)
    activities = replace(http, providers={**http.providers, "resend": slow})
    round_ = DispatchRound(lasts=timedelta(seconds=0.5))
    dispatching = asyncio.create_task(ActivityEnvironment().run(activities.deliver_queued, round_))
    await asyncio.sleep(1.2)
    await queue(sessions)
    try:
        rows = await until(sessions, lambda found: bool(found[-1].accepted_at), within=5.0)
        assert rows[-1].provider == "smtp"
        assert not dispatching.done()
    finally:
        resend.faults.clear()
        await resend.shut()  # the answer that is missing is lost, and the round ends
        await dispatching
        for provider in activities.providers.values():
            await provider.close()


def test_settings_say_which_providers_there_are() -> None:
    def names(**settings: str) -> list[str]:
        given = Settings.model_validate({"mail_from": SENDER, **settings})
        return [provider.name for provider in configured_providers(given)]

    account = {"twilio_account_sid": "AC1", "twilio_auth_token": "t", "twilio_from": "MG1"}
    assert names() == ["smtp", "local_sms"]
    assert names(resend_api_key="re_1", **account) == ["smtp", "local_sms", "resend", "twilio"]
    assert set(names(resend_api_key="re_1", **account)) == set(ProviderName)
    with pytest.raises(ValidationError, match="needs CRM_TWILIO_AUTH_TOKEN and CRM_TWILIO_FROM"):
        names(twilio_account_sid="AC1")
    with pytest.raises(ValidationError, match="resend_url"):
        names(resend_url="")


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not_taken"])
async def test_a_lost_answer_is_found_out_by_asking_again_under_the_same_key(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice, taken: bool
) -> None:
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["shop0@example.com"] = HttpFault(keep=taken)
    await selling(sessions)
    async with running(http):
        [message] = await until_settled(sessions)
    assert (message.state, message.attempts) == (MessageState.ACCEPTED, 2)
    assert (message.provider, message.possible_duplicate) == ("resend", False)
    assert message.settled_by is SettledBy.EVIDENCE
    assert effects(resend) == [str(message.id)]
    first, again = resend.asked
    assert first.body == again.body, "the very same request, or the key would be refused"
    assert message.decision is not None
    assert message.decision["rules"][-1]["name"] == "provider"
    assert "asked again" in message.decision["rules"][-1]["because"]


@pytest.mark.parametrize("status", [500, 409])
async def test_a_provider_in_trouble_is_asked_until_it_says_what_it_took(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice, status: int
) -> None:
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["shop0@example.com"] = HttpFault(status, keep=True, times=3)
    await selling(sessions)
    async with running(http):
        [message] = await until_settled(sessions)
    assert (message.state, message.attempts) == (MessageState.ACCEPTED, 4)
    assert len(resend.sent) == 1


async def test_a_provider_that_asks_us_to_slow_down_is_left_alone_and_drops_nobody(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice
) -> None:
    await publish(sessions, streams(RESEND_ONLY))
    too_many = {"name": "rate_limit_exceeded", "message": "Too many requests"}
    resend.faults["*"] = HttpFault(429, too_many, {"Retry-After": "1"}, times=3)
    await selling(sessions)
    async with running(http):
        await until(sessions, lambda found: "429" in (found[0].provider_answer or ""))
        await selling(sessions, address="later{}@example.com", n=5)
        rows = await until_settled(sessions)
    moments = [asked.at for asked in resend.asked]
    assert all(later - earlier > 0.9 for earlier, later in pairwise(moments[:4]))
    assert len(moments) == 3 + len(rows)
    assert effects(resend) == sorted(str(row.id) for row in rows)
    told = {(row.state, row.attempts, row.process_told_at) for row in rows}
    assert told == {(MessageState.ACCEPTED, 1, None)}, (
        "it is no attempt, and no process hears of it"
    )


async def test_a_dispatcher_that_dies_leaves_requests_that_the_next_one_repeats(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice
) -> None:
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["*"] = HttpFault(hang=True, keep=True, times=5)
    await selling(sessions, n=5)
    patient = ResendProvider(resend.url, "re_test", SENDER, answer_timeout=60.0)
    dying = replace(http, providers={**http.providers, "resend": patient}, lines={})
    async with running(dying) as round_:
        async with asyncio.timeout(10):
            await resend.has_sent(5)
        round_.cancel()
    left = {row.state for row in await messages(sessions)}
    assert left == {MessageState.SENDING}
    fresh = ResendProvider(resend.url, "re_test", SENDER, answer_timeout=0.5)
    again = {**http.providers, "resend": fresh}
    async with running(replace(http, providers=again, rules=IMPATIENT)):
        rows = await until_settled(sessions)
    assert {(row.state, row.possible_duplicate) for row in rows} == {(MessageState.ACCEPTED, False)}
    assert effects(resend) == sorted(str(row.id) for row in rows)


@pytest.mark.parametrize("kept", ["of-an-earlier-version", None])
async def test_what_is_in_doubt_at_an_update_is_repeated_under_its_own_key_or_not_at_all(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice, kept: str | None
) -> None:
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["*"] = HttpFault(hang=True, keep=True)
    await selling(sessions)
    patient = ResendProvider(resend.url, "re_test", SENDER, answer_timeout=60.0)
    async with running(replace(http, providers={"resend": patient}, lines={})) as earlier:
        async with asyncio.timeout(10):
            await resend.has_sent(1)
        earlier.cancel()
    async with sessions.begin() as session:
        await session.execute(sa.update(Message).values(asked_under=kept))
    fresh = ResendProvider(resend.url, "re_test", SENDER, answer_timeout=0.5)
    async with running(replace(http, providers={"resend": fresh}, rules=IMPATIENT)):
        [message] = await until_settled(sessions)
    again = [one.headers["idempotency-key"] for one in resend.asked[1:]]
    assert again == ([kept] if kept else [])
    assert message.state is (MessageState.ACCEPTED if kept else MessageState.UNKNOWN)


async def test_who_has_left_meanwhile_is_not_asked_about_again(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice
) -> None:
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["shop0@example.com"] = HttpFault(500, times=99)
    await selling(sessions)
    async with running(http):
        [message] = await until(sessions, lambda found: found[0].unknown_since is not None)
        assert message.customer_id is not None
        async with sessions.begin() as session:
            session.add(consent_of(message.customer_id, ConsentState.WITHDRAWN, Purpose.MARKETING))
        resend.faults.clear()
        [message] = await until_settled(sessions)
    # It may go out with the last request before the consent was withdrawn, never after.
    assert message.state in (MessageState.UNKNOWN, MessageState.ACCEPTED)
    if message.state is MessageState.UNKNOWN:
        assert "not asked again: no consent" in (message.provider_answer or "")
        assert not resend.sent


async def test_an_address_that_was_suppressed_meanwhile_is_not_asked_about_again(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice
) -> None:
    """Nor when the customer has another one by now: what is repeated goes to the first."""
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["shop0@example.com"] = HttpFault(500, times=99)
    await selling(sessions)
    async with running(http):
        [message] = await until(sessions, lambda found: found[0].unknown_since is not None)
        async with sessions.begin() as session:
            other = {"channel": Channel.EMAIL, "address": "new@example.com"}
            session.add(ContactPoint(customer_id=message.customer_id, **other))
            first = {"channel": Channel.EMAIL, "address": "shop0@example.com"}
            session.add(Suppression(**first, reason="hard bounce"))
        [message] = await until(sessions, lambda found: found[0].state is MessageState.UNKNOWN)
    assert "not asked again: hard bounce" in (message.provider_answer or "")


async def test_after_the_provider_has_forgotten_the_key_the_class_decides(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice
) -> None:
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["shop0@example.com"] = HttpFault(500, keep=True, times=99)
    await selling(sessions)
    async with running(http):
        await until(sessions, lambda found: found[0].unknown_since is not None)
        resend.forget_keys()
        async with sessions.begin() as session:
            old = datetime.now(UTC) - timedelta(hours=23, minutes=1)
            await session.execute(sa.update(Message).values(unknown_since=old))
        [message] = await until(sessions, lambda found: found[0].state is MessageState.UNKNOWN)
        taken = len(resend.sent)
        await asyncio.sleep(0.5)
    assert len(resend.sent) == taken
    assert not message.possible_duplicate


async def test_an_order_does_not_wait_a_day_for_a_provider_that_gives_no_answer(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice, post_office: PostOffice
) -> None:
    await publish(sessions, streams(RESEND_FIRST))
    resend.faults["*"] = HttpFault(500, keep=True, times=9999)
    await queue(sessions, Template.ORDER_LATE)
    async with running(http):
        [message] = await until_settled(sessions)
    assert (message.state, message.provider) == (MessageState.ACCEPTED, "smtp")
    assert message.possible_duplicate, "it was unknown for as long as the rules allow"
    assert await post_office.inbox.count() == 1


async def test_an_order_that_was_sent_again_is_asked_about_while_its_key_is_known(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice
) -> None:
    """That is not blind: it may last longer than two waits, and is not given up for unknown."""
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["*"] = HttpFault(500, times=9999)
    await queue(sessions, Template.ORDER_LATE)
    async with running(http):
        await until(sessions, lambda found: found[0].possible_duplicate)
        await asyncio.sleep(2 * RULES.resend_after.total_seconds() + 0.5)
        resend.faults.clear()
        [message] = await until_settled(sessions)
    assert message.state is MessageState.ACCEPTED
    assert effects(resend) == [str(message.id)]


async def test_what_is_sent_again_to_a_new_address_really_goes_there(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice
) -> None:
    """The provider knows the message by its key, and took it for the address before."""
    await publish(sessions, streams(RESEND_ONLY))
    resend.faults["shop0@example.com"] = HttpFault(500, keep=True, times=9999)
    await queue(sessions, Template.ORDER_LATE, address="shop{}@example.com")
    async with running(http):
        [message] = await until(sessions, lambda found: found[0].unknown_since is not None)
        async with sessions.begin() as session:
            point = {"channel": Channel.EMAIL, "address": "new@example.com"}
            session.add(ContactPoint(customer_id=message.customer_id, **point))
        [message] = await until_settled(sessions)
    assert (message.state, message.address) == (MessageState.ACCEPTED, "new@example.com")
    assert message.possible_duplicate
    assert [mail["to"][0].rpartition("<")[2] for mail in resend.sent] == [
        "shop0@example.com>",
        "new@example.com>",
    ]


async def test_while_a_provider_is_down_the_second_takes_what_is_new(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice, post_office: PostOffice
) -> None:
    await publish(sessions, streams(SMTP_FIRST))
    await post_office.shut()
    await queue(sessions, customers=30)
    async with running(http):
        rows = await until_settled(sessions)
        assert {row.provider for row in rows} == {"resend"}
        assert rows[0].decision is not None
        assert rows[0].decision["rules"][-1] == {
            "name": "provider",
            "passed": True,
            "because": "resend is asked: smtp lets nobody through",
        }
        await post_office.open()
        for _ in range(40):  # one of them is the first to try again
            await queue(sessions)
            *_, last = await until_settled(sessions)
            if last.provider == "smtp":
                break
            await asyncio.sleep(0.1)
        await queue(sessions, customers=10)
        *_, last = await until_settled(sessions)
    assert last.provider == "smtp"
    assert last.decision is not None
    assert last.decision["rules"][-1]["name"] == "cap"
    rows = await messages(sessions)
    assert {row.state for row in rows} == {MessageState.ACCEPTED}
    assert len(resend.sent) + await post_office.inbox.count() == len(rows)


async def test_for_a_moment_of_trouble_nobody_changes_the_provider(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice, post_office: PostOffice
) -> None:
    await publish(sessions, streams(SMTP_FIRST, fall_back_after=timedelta(minutes=1)))
    await post_office.shut()
    await queue(sessions, customers=5)
    async with running(http):
        await until(sessions, lambda found: any(row.provider_answer for row in found))
        await post_office.open()
        rows = await until_settled(sessions)
    assert {row.provider for row in rows} == {"smtp"}
    assert not resend.sent


async def test_what_is_unknown_at_the_first_provider_is_never_given_to_the_second(
    http: MessageActivities, sessions: Sessions, resend: ResendOffice, post_office: PostOffice
) -> None:
    await publish(sessions, streams(RESEND_FIRST))
    resend.faults["shop0@example.com"] = HttpFault(hang=True, keep=True)
    await selling(sessions)
    async with running(http):
        [doubted] = await until(sessions, lambda found: found[0].unknown_since is not None)
        await resend.shut()
        await selling(sessions, address="later{}@example.com", n=5)
        *_, last = await until(sessions, lambda found: found[-1].state == MessageState.ACCEPTED)
        assert last.provider == "smtp"
        await asyncio.sleep(0.5)
        doubted = (await messages(sessions))[0]
        assert (doubted.state, doubted.provider) == (MessageState.SENDING, "resend")
        await resend.open()
        rows = await until_settled(sessions)
    assert (rows[0].state, rows[0].provider) == (MessageState.ACCEPTED, "resend")
    to = {mail.rcpt_to for mail in await post_office.inbox.mails()}
    assert "shop0@example.com" not in to
    assert effects(resend).count(str(doubted.id)) == 1


async def test_a_provider_without_its_key_is_passed_over_with_a_word_about_it(
    activities: MessageActivities, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(sessions, streams(RESEND_FIRST))
    await queue(sessions, Template.ORDER_LATE)
    with caplog.at_level(logging.WARNING):
        async with running(activities):
            [message] = await until_settled(sessions)
    assert message.provider == "smtp"
    assert message.decision is not None
    because = message.decision["rules"][-1]["because"]
    assert because == "smtp is asked: resend is not configured"
    assert "transactional messages: resend is not configured; asked instead: smtp" in caplog.text


async def test_when_no_provider_that_is_named_is_there_the_one_of_every_installation_is_asked(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    await publish(sessions, streams(RESEND_ONLY))
    await queue(sessions, customers=3)
    async with running(activities):
        rows = await until_settled(sessions)
    assert {row.provider for row in rows} == {"smtp"}


async def test_each_stream_has_its_sender_and_a_new_policy_holds_at_once(
    activities: MessageActivities, sessions: Sessions, post_office: PostOffice
) -> None:
    news = Stream(sender="The Shop - News <news@m.shop.example>")
    await publish(sessions, SendingPolicy(marketing=news))
    await selling(sessions)
    await queue(sessions, Template.ORDER_LATE)
    async with running(activities):
        await until_settled(sessions)
        await publish(sessions, SendingPolicy(marketing=Stream(sender="other@m.shop.example")))
        await asyncio.sleep(1.2)  # within a second it is read
        await selling(sessions, address="later{}@example.com")
        await until_settled(sessions)
    senders = {mail.rcpt_to: mail.mail_from for mail in await post_office.inbox.mails()}
    assert senders == {
        "shop0@example.com": "news@m.shop.example",
        "customer0@example.com": "hello@perennial.example",
        "later0@example.com": "other@m.shop.example",
    }


async def test_a_policy_that_can_not_be_read_stops_nobody(
    activities: MessageActivities, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(sessions, SendingPolicy())
    unreadable = sa.text(
        "UPDATE policies SET document = jsonb_set(document, '{marketing,email}', '[\"pigeon\"]')"
    )
    async with sessions.begin() as session:
        await session.execute(unreadable)
    await queue(sessions)
    async with running(activities):
        [message] = await until_settled(sessions)
    assert message.state is MessageState.ACCEPTED
    assert "the policy of kind sending can't be read" in caplog.text


async def a_text(sessions: Sessions, template: Template, address: str) -> None:
    noon = await simulate(sessions, datetime(2026, 3, 2, 15, tzinfo=UTC))
    await queue(sessions, template, channel=Channel.SMS, address=address, simulation_id=noon.id)


async def test_a_text_message_whose_answer_got_lost_is_decided_by_its_class(
    http: MessageActivities, sessions: Sessions, twilio: TwilioOffice
) -> None:
    await publish(sessions, streams(TWILIO_ONLY))
    twilio.faults["+551190000000"] = HttpFault(500, keep=True)
    await a_text(sessions, Template.ORDER_LATE, "+551190000000")
    async with running(http):
        [message] = await until_settled(sessions)
    assert (message.state, message.provider) == (MessageState.ACCEPTED, "twilio")
    assert message.possible_duplicate
    assert len(twilio.sent) == 2, "it knows no key: an order's message is sent again, and counted"


async def test_what_goes_by_another_channel_goes_by_its_provider(
    http: MessageActivities, sessions: Sessions, twilio: TwilioOffice, post_office: PostOffice
) -> None:
    await publish(sessions, streams(TWILIO_ONLY))
    noon = await simulate(sessions, datetime(2026, 3, 2, 15, tzinfo=UTC))
    [customer] = await queue(sessions, Template.ORDER_LATE, simulation_id=noon.id)
    phone = ContactPoint(customer_id=customer, channel=Channel.SMS, address="+551190000000")
    async with sessions.begin() as session:
        session.add(phone)
        await session.execute(sa.update(Customer).values(preferred_channel=Channel.SMS))
    async with running(http):
        [message] = await until_settled(sessions)
    assert (message.state, message.provider) == (MessageState.ACCEPTED, "twilio")
    assert (message.channel, message.attempts) == (Channel.SMS, 1)
    assert message.decision is not None
    assert message.decision["rules"][0]["name"] == "channel"
    assert len(twilio.sent) == 1
    assert await post_office.inbox.count() == 0


async def test_who_answered_stop_is_not_written_to_again(
    http: MessageActivities, sessions: Sessions, twilio: TwilioOffice
) -> None:
    await publish(sessions, streams(TWILIO_ONLY))
    stopped = {"code": 21610, "message": "Attempt to send to unsubscribed recipient"}
    twilio.faults["+551190000000"] = HttpFault(400, stopped, times=99)
    await a_text(sessions, Template.ORDER_LATE, "+551190000000")
    async with running(http):
        [first] = await until_settled(sessions)
        await a_text(sessions, Template.ORDER_LATE, "+551190000000")
        _, second = await until_settled(sessions)
    assert (first.state, second.state) == (MessageState.FAILED, MessageState.SUPPRESSED)
    assert len(twilio.asked) == 1
    async with sessions() as session:
        [suppression] = await session.scalars(sa.select(Suppression))
    assert suppression.channel is Channel.SMS
    assert "21610" in suppression.reason
