"""What is asked of providers over HTTP, and what each of their answers means."""

import asyncio
import base64
from datetime import timedelta
from email.utils import format_datetime, localtime
from typing import Any

import pytest

from messaging.http_provider import HttpProvider
from messaging.provider import Outcome, OutgoingMessage
from messaging.resend import ResendProvider
from messaging.twilio import TwilioProvider
from tests.messaging.http_office import HttpFault, HttpOffice, ResendOffice, TwilioOffice
from tests.messaging.test_smtp import IN_A_HEADER

ADA = OutgoingMessage(
    effect="3f0e8a2c-0000-7000-8000-000000000001",
    message_id="0123456789abcdef0123456789abcdef@perennial.example",
    address="ada@example.com",
    name='Ada "the first" Łovelace, Countess',
    subject="Recebemos o seu pedido",
    text="Olá!\n",
    html="<p>Olá!</p>\n",
    key="3f0e8a2c/0123456789abcdef",
)
TEXT = ADA._replace(address="+5511987654321", html=None, text="Hello\n")
SID = "AC00000000000000000000000000000000"
REPORTS = "https://crm.example.com/api/v1/provider-events/twilio"


def mailer(office: HttpOffice, **limits: Any) -> ResendProvider:
    limits = {"answer_timeout": 0.3, "connect_timeout": 0.5} | limits
    return ResendProvider(office.url, "re_test", "Perennial <hello@perennial.example>", **limits)


def texter(office: HttpOffice, sender: str = "+15005550006") -> TwilioProvider:
    return TwilioProvider(office.url, SID, "secret", sender, REPORTS, answer_timeout=0.3)


async def test_a_mail_is_asked_for_under_the_key_of_its_claim(resend: ResendOffice) -> None:
    answer = await mailer(resend).send(ADA)
    assert answer.outcome is Outcome.ACCEPTED
    [asked] = resend.asked
    assert (asked.method, asked.path) == ("POST", "/emails")
    assert asked.headers["authorization"] == "Bearer re_test"
    assert asked.headers["idempotency-key"] == ADA.key
    [mail] = resend.sent
    assert mail == {
        "from": "Perennial <hello@perennial.example>",
        "to": ['"Ada \\"the first\\" Łovelace, Countess" <ada@example.com>'],
        "subject": ADA.subject,
        "text": ADA.text,
        "html": ADA.html,
        "headers": {"X-CRM-Effect": ADA.effect, "Auto-Submitted": "auto-generated"},
        "tags": [{"name": "effect", "value": ADA.effect}],
    }


async def test_a_stream_has_its_own_sender_and_marketing_its_one_click(
    resend: ResendOffice,
) -> None:
    link = "https://crm.example.com/u/token"
    thread = ("1@mail.example", "2@mail.example")
    sender, reply_to = "News <news@mail.example>", "answers@mail.example"
    of_stream = ADA._replace(sender=sender, reply_to=reply_to, thread=thread)
    await mailer(resend).send(of_stream._replace(unsubscribe_url=link))
    [mail] = resend.sent
    assert (mail["from"], mail["reply_to"]) == (sender, reply_to)
    assert mail["headers"]["List-Unsubscribe"] == f"<{link}>"
    assert mail["headers"]["In-Reply-To"] == "<2@mail.example>"
    assert mail["headers"]["References"] == "<1@mail.example> <2@mail.example>"
    assert mail["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


async def test_one_click_is_promised_only_where_it_can_be_kept(resend: ResendOffice) -> None:
    """RFC 8058 section 3.1: one HTTPS URI."""
    link = "http://127.0.0.1:8000/u/token"
    await mailer(resend).send(ADA._replace(unsubscribe_url=link))
    [mail] = resend.sent
    assert mail["headers"]["List-Unsubscribe"] == f"<{link}>"
    assert "List-Unsubscribe-Post" not in mail["headers"]


async def test_what_a_person_wrote_is_no_mail_of_a_machine(resend: ResendOffice) -> None:
    await mailer(resend).send(ADA._replace(auto_submitted=""))
    [mail] = resend.sent
    assert "Auto-Submitted" not in mail["headers"]


@pytest.mark.parametrize("change", IN_A_HEADER, ids=str)
async def test_no_header_can_be_smuggled_in(resend: ResendOffice, change: dict[str, Any]) -> None:
    answer = await mailer(resend).send(ADA._replace(**change))
    assert answer.outcome is Outcome.PERMANENT
    assert not resend.asked


async def test_a_repeat_sends_nothing_and_says_what_became_of_the_first(
    resend: ResendOffice,
) -> None:
    resend.faults[ADA.address] = HttpFault(keep=True)
    provider = mailer(resend)
    assert (await provider.send(ADA)).outcome is Outcome.UNKNOWN
    assert (await provider.send(ADA)).outcome is Outcome.ACCEPTED
    other = await provider.send(ADA._replace(subject="other words"))
    assert other.outcome is Outcome.ACCEPTED, "the key proves that the first was taken"
    assert "in other words" in other.said
    assert len(resend.sent) == 1
    moved = await provider.send(ADA._replace(address="ada@example.org", key="2"))
    assert moved.outcome is Outcome.ACCEPTED
    assert "in other words" not in moved.said, "the first went to the other address"
    assert [mail["to"][0].rpartition(" ")[2] for mail in resend.sent] == [
        "<ada@example.com>",
        "<ada@example.org>",
    ]
    await provider.close()


def resend_error(status: int, name: str, message: str = "", **headers: str) -> HttpFault:
    return HttpFault(status, {"statusCode": status, "name": name, "message": message}, headers)


RESEND_ANSWERS = {
    "rate": (
        resend_error(429, "rate_limit_exceeded", **{"Retry-After": "2"}),
        (Outcome.TRANSIENT, True, False, timedelta(seconds=2)),
    ),
    "quota": (
        resend_error(429, "daily_quota_exceeded"),
        (Outcome.TRANSIENT, True, False, None),
    ),
    "key": (resend_error(403, "invalid_api_key"), (Outcome.TRANSIENT, True, False, None)),
    "domain": (
        resend_error(403, "validation_error", "The domain is not verified"),
        (Outcome.TRANSIENT, True, False, None),
    ),
    "sender": (
        resend_error(422, "invalid_from_address"),
        (Outcome.TRANSIENT, True, False, None),
    ),
    "address": (
        resend_error(422, "validation_error", "Invalid `to` field."),
        (Outcome.PERMANENT, False, True, None),
    ),
    "content": (
        resend_error(422, "missing_required_field", "Missing `html` or `text` field."),
        (Outcome.PERMANENT, False, False, None),
    ),
    "concurrent": (
        resend_error(409, "concurrent_idempotent_requests"),
        (Outcome.UNKNOWN, False, False, None),
    ),
    "fault": (
        resend_error(500, "internal_server_error"),
        (Outcome.UNKNOWN, True, False, None),
    ),
    "gateway": (HttpFault(502, "<html>bad gateway"), (Outcome.UNKNOWN, True, False, None)),
    "redirect": (
        HttpFault(302, headers={"Location": "http://127.0.0.1:1/"}),
        (Outcome.UNKNOWN, True, False, None),
    ),
    "yes_and_garbage": (HttpFault(200, "{"), (Outcome.ACCEPTED, False, False, None)),
    "no_object": (HttpFault(200, "[]"), (Outcome.ACCEPTED, False, False, None)),
    "lost": (HttpFault(), (Outcome.UNKNOWN, True, False, None)),
    "silence": (HttpFault(hang=True), (Outcome.UNKNOWN, True, False, None)),
}


@pytest.mark.parametrize("case", RESEND_ANSWERS)
async def test_each_answer_of_the_mail_provider_has_its_meaning(
    resend: ResendOffice, case: str
) -> None:
    fault, meaning = RESEND_ANSWERS[case]
    resend.faults[ADA.address] = HttpFault(fault.status, fault.body, fault.headers, fault.hang)
    provider = mailer(resend)
    answer = await provider.send(ADA)
    seen = (answer.outcome, answer.nobody, answer.bad_address, answer.retry_after)
    assert seen == meaning, answer.said
    after = await provider.send(ADA._replace(address="grace@example.com", effect=case, key=case))
    assert after.outcome is Outcome.ACCEPTED, "one recipient's failure is no other's"
    await provider.close()


async def test_a_date_says_when_to_come_again_too(resend: ResendOffice) -> None:
    at = format_datetime(localtime() + timedelta(seconds=90))
    resend.faults["*"] = resend_error(429, "rate_limit_exceeded", **{"Retry-After": at})
    wait = (await mailer(resend).send(ADA)).retry_after
    assert wait is not None
    assert timedelta(seconds=80) < wait <= timedelta(seconds=90)
    for nonsense in ("soon", "nan", "inf", "-5"):
        resend.faults["*"] = resend_error(429, "rate", **{"Retry-After": nonsense})
        assert not (await mailer(resend).send(ADA)).retry_after


async def test_a_provider_out_of_reach_has_certainly_taken_nothing(resend: ResendOffice) -> None:
    provider = mailer(resend)
    assert await provider.reachable()
    await resend.shut()
    assert not await provider.reachable()
    answer = await provider.send(ADA)
    assert (answer.outcome, answer.nobody) == (Outcome.TRANSIENT, True)
    await provider.close()


@pytest.mark.parametrize(
    ("change", "bad_address"),
    [
        ({"address": "ada@example.com, eve@example.com"}, True),
        ({"address": "ada@example.com\r\nBcc: eve@example.com"}, True),
        *(
            ({"address": address}, True)
            for address in ("", "b@[", "b@[1", '"@b', "b@[\r\nBcc: c@d]")
        ),
        ({"name": "a\nb"}, True),
        ({"subject": "a\r\nBcc: eve@example.com"}, False),
        ({"subject": "a\x00b"}, False),
        ({"subject": "a\u2028b"}, False),
    ],
)
async def test_what_can_not_be_written_is_asked_of_nobody(
    resend: ResendOffice, change: dict[str, str], bad_address: bool
) -> None:
    answer = await mailer(resend).send(ADA._replace(**change))  # type: ignore[arg-type]
    assert (answer.outcome, answer.bad_address) == (Outcome.PERMANENT, bad_address)
    assert not resend.asked


async def test_nothing_leaves_us_once_the_message_is_another_dispatchers(
    resend: ResendOffice,
) -> None:
    answer = await mailer(resend).send(ADA._replace(still_ours=lambda: False))
    assert answer.outcome is Outcome.TRANSIENT
    assert not resend.asked


@pytest.mark.parametrize("kind", ["resend", "twilio"])
async def test_many_messages_share_a_few_connections(
    resend: ResendOffice, twilio: TwilioOffice, kind: str
) -> None:
    office: HttpOffice = resend if kind == "resend" else twilio
    provider: HttpProvider = mailer(office) if kind == "resend" else texter(office)
    message = ADA if kind == "resend" else TEXT
    answers = await asyncio.gather(
        *(provider.send(message._replace(key=str(n))) for n in range(60))
    )
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert (len(office.sent), office.connections) == (60, 8)
    await provider.close()


async def test_selling_that_hangs_leaves_a_connection_for_what_is_urgent(
    resend: ResendOffice,
) -> None:
    resend.faults["shop@example.com"] = HttpFault(hang=True, times=20)
    provider = mailer(resend, answer_timeout=5.0)
    offer = ADA._replace(address="shop@example.com", urgent=False)
    selling = [asyncio.create_task(provider.send(offer._replace(key=str(n)))) for n in range(20)]
    await asyncio.wait(selling, timeout=0.3)
    assert len(resend.asked) == 7
    async with asyncio.timeout(2):
        assert (await provider.send(ADA)).outcome is Outcome.ACCEPTED
    for task in selling:
        task.cancel()
    await asyncio.wait(selling)
    await provider.close()


async def test_a_text_message_is_asked_for_with_where_to_report(twilio: TwilioOffice) -> None:
    answer = await texter(twilio).send(TEXT)
    assert answer.outcome is Outcome.ACCEPTED
    assert answer.said.startswith("201 SM")
    [asked] = twilio.asked
    assert asked.path == f"/2010-04-01/Accounts/{SID}/Messages.json"
    login = base64.b64encode(f"{SID}:secret".encode()).decode()
    assert asked.headers["authorization"] == f"Basic {login}"
    assert twilio.sent == [
        {
            "From": "+15005550006",
            "To": TEXT.address,
            "Body": "Hello",
            "StatusCallback": f"{REPORTS}?effect={TEXT.effect}",
        }
    ]


async def test_a_messaging_service_may_be_the_sender(twilio: TwilioOffice) -> None:
    await texter(twilio, sender="MG0123").send(TEXT)
    [form] = twilio.sent
    assert form["MessagingServiceSid"] == "MG0123"
    assert "From" not in form


def twilio_error(status: int, code: int, **headers: str) -> HttpFault:
    return HttpFault(status, {"status": status, "code": code, "message": "words"}, headers)


TWILIO_ANSWERS = {
    "stopped": (twilio_error(400, 21610), (Outcome.PERMANENT, False, True)),
    "no_number": (twilio_error(400, 21211), (Outcome.PERMANENT, False, True)),
    "no_mobile": (twilio_error(400, 21614), (Outcome.PERMANENT, False, True)),
    "landline": (twilio_error(400, 21635), (Outcome.PERMANENT, False, True)),
    "region": (twilio_error(400, 21408), (Outcome.PERMANENT, False, False)),
    "sender": (twilio_error(400, 21606), (Outcome.TRANSIENT, True, False)),
    "queue_full": (twilio_error(400, 21611), (Outcome.TRANSIENT, True, False)),
    "login": (twilio_error(401, 20003), (Outcome.TRANSIENT, True, False)),
    "account": (twilio_error(404, 20404), (Outcome.TRANSIENT, True, False)),
    "rate": (twilio_error(429, 20429), (Outcome.TRANSIENT, True, False)),
    "away": (HttpFault(503, "busy"), (Outcome.TRANSIENT, True, False)),
    "fault": (HttpFault(500, "oops", keep=True), (Outcome.UNKNOWN, True, False)),
    "lost": (HttpFault(keep=True), (Outcome.UNKNOWN, True, False)),
    "silence": (HttpFault(hang=True), (Outcome.UNKNOWN, True, False)),
}


@pytest.mark.parametrize("case", TWILIO_ANSWERS)
async def test_each_answer_of_the_text_provider_has_its_meaning(
    twilio: TwilioOffice, case: str
) -> None:
    fault, meaning = TWILIO_ANSWERS[case]
    twilio.faults["*"] = HttpFault(fault.status, fault.body, fault.headers, fault.hang)
    answer = await texter(twilio).send(TEXT)
    assert (answer.outcome, answer.nobody, answer.bad_address) == meaning, answer.said


@pytest.mark.parametrize("address", ["", "5511987654321", "+", "+55 11", "ada@example.com", "+x"])
async def test_what_is_no_number_is_asked_of_nobody(twilio: TwilioOffice, address: str) -> None:
    answer = await texter(twilio).send(TEXT._replace(address=address))
    assert (answer.outcome, answer.bad_address) == (Outcome.PERMANENT, True)
    assert not twilio.asked


@pytest.mark.parametrize("text", [" \n", "x" * 1601])
async def test_a_text_must_have_a_length_that_can_be_sent(twilio: TwilioOffice, text: str) -> None:
    answer = await texter(twilio).send(TEXT._replace(text=text))
    assert (answer.outcome, answer.bad_address) == (Outcome.PERMANENT, False)
    assert not twilio.asked
