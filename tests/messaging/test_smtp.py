"""What goes over the wire, and what each way to fail means."""

import asyncio
import shutil
import ssl
import subprocess
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from database.inbox import OpenedMail
from messaging.provider import Answer, Outcome, OutgoingMessage
from messaging.smtp import SmtpAccount, SmtpProvider
from tests.messaging.post_office import Fault, PostOffice

ADA = OutgoingMessage(
    effect="3f0e8a2c-0000-7000-8000-000000000001",
    message_id="0123456789abcdef0123456789abcdef@perennial.example",
    address="ada@example.com",
    name='Ada "the first" Łovelace, Countess',
    subject="Recebemos o seu pedido A-1001 é uma boa notícia para todos os que esperavam por ele",
    text="Olá!\n.\n..two dots\n" + "x" * 2000 + "\n",
    html="<p>Olá!</p>\n<p>" + "y" * 5000 + "</p>\n",
)


def provider(office: PostOffice, answer_timeout: float = 5.0, **more: Any) -> SmtpProvider:
    account = SmtpAccount(
        "127.0.0.1",
        office.port,
        "Perennial <hello@perennial.example>",
        answer_timeout=answer_timeout,
        **more,
    )
    return SmtpProvider(account)


async def received(office: PostOffice) -> EmailMessage:
    [mail] = await office.inbox.mails()
    opened = await office.inbox.open(mail.id)
    assert opened is not None
    parsed = message_from_bytes(opened.raw, policy=default)
    assert isinstance(parsed, EmailMessage)
    return parsed


async def test_a_mail_arrives_as_it_was_meant(post_office: PostOffice) -> None:
    answer = await provider(post_office).send(ADA)
    assert answer.outcome is Outcome.ACCEPTED
    mail = await received(post_office)
    assert mail["Subject"] == ADA.subject
    [to] = mail["To"].addresses
    assert (to.display_name, to.addr_spec) == (ADA.name, ADA.address)
    assert mail["From"] == "Perennial <hello@perennial.example>"
    assert mail["Message-ID"] == f"<{ADA.message_id}>"
    assert mail["X-CRM-Effect"] == ADA.effect
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["List-Unsubscribe"] is None
    assert mail.get_content_type() == "multipart/alternative"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines() == ADA.text.splitlines()
    assert html.get_content().splitlines() == (ADA.html or "").splitlines()
    assert not mail.defects


async def test_marketing_can_be_stopped_with_one_click(post_office: PostOffice) -> None:
    link = "https://crm.example.com/u/token"
    await provider(post_office).send(ADA._replace(unsubscribe_url=link))
    mail = await received(post_office)
    assert mail["List-Unsubscribe"] == f"<{link}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


async def test_one_click_is_promised_only_where_it_can_be_kept(post_office: PostOffice) -> None:
    """RFC 8058 section 3.1: one HTTPS URI. A plain one is still a link to follow (RFC 2369)."""
    await provider(post_office).send(ADA._replace(unsubscribe_url="http://127.0.0.1:8000/u/token"))
    mail = await received(post_office)
    assert mail["List-Unsubscribe"] == "<http://127.0.0.1:8000/u/token>"
    assert mail["List-Unsubscribe-Post"] is None


async def test_many_mails_share_a_few_connections(post_office: PostOffice) -> None:
    smtp = provider(post_office)
    answers = await asyncio.gather(
        *(smtp.send(ADA._replace(message_id=f"{n:032x}@perennial.example")) for n in range(60))
    )
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert await post_office.inbox.count() == 60
    assert post_office.connections <= 8
    await smtp.close()


@pytest.mark.parametrize(
    ("fault", "outcome", "bad_address"),
    [
        (Fault("RCPT", "421 4.3.2 shutting down"), Outcome.TRANSIENT, False),
        (Fault("RCPT", "450 4.2.1 greylisted"), Outcome.TRANSIENT, False),
        (Fault("RCPT", "452 4.2.2 mailbox full"), Outcome.TRANSIENT, False),
        (Fault("RCPT", "550 5.1.1 no such user"), Outcome.PERMANENT, True),
        (Fault("RCPT", "550 no such user"), Outcome.PERMANENT, True),
        (Fault("RCPT", "550 5.7.1 not from you"), Outcome.PERMANENT, False),
        (Fault("RCPT", "552 5.2.2 mailbox full"), Outcome.PERMANENT, False),
        (Fault("RCPT", "gibberish"), Outcome.TRANSIENT, False),
        (Fault("RCPT"), Outcome.TRANSIENT, False),
        (Fault("RCPT", hang=True), Outcome.TRANSIENT, False),
        (Fault("DATA", "451 4.3.0 later"), Outcome.TRANSIENT, False),
        (Fault("DATA"), Outcome.TRANSIENT, False),
        (Fault("TEXT", "451 4.3.0 later"), Outcome.TRANSIENT, False),
        (Fault("TEXT", "554 5.7.1 spam"), Outcome.PERMANENT, False),
        (Fault("TEXT", "550 5.1.1 no such user"), Outcome.PERMANENT, False),
        (Fault("TEXT"), Outcome.UNKNOWN, False),
        (Fault("TEXT", keep=True), Outcome.UNKNOWN, False),
        (Fault("TEXT", "gibberish", keep=True), Outcome.UNKNOWN, False),
        (Fault("TEXT", hang=True, keep=True), Outcome.UNKNOWN, False),
    ],
    ids=lambda value: f"{value.at}-{value.say or 'lost'}" if isinstance(value, Fault) else "",
)
async def test_each_way_to_fail_has_its_meaning(
    post_office: PostOffice, fault: Fault, outcome: Outcome, bad_address: bool
) -> None:
    post_office.faults[ADA.address] = fault
    smtp = provider(post_office, answer_timeout=0.4)
    answer = await smtp.send(ADA)
    assert (answer.outcome, answer.bad_address) == (outcome, bad_address), answer.said
    assert not answer.nobody
    after = await smtp.send(ADA._replace(address="grace@example.com"))
    assert after.outcome is Outcome.ACCEPTED, "one recipient's failure is no other's"
    await smtp.close()


async def test_a_server_that_is_down_lets_nobody_through(post_office: PostOffice) -> None:
    smtp = provider(post_office)
    assert await smtp.reachable()
    await post_office.shut()
    assert not await smtp.reachable()
    answer = await smtp.send(ADA)
    assert (answer.outcome, answer.nobody) == (Outcome.TRANSIENT, True)


async def test_a_refused_sender_holds_for_all_and_harms_no_message(
    post_office: PostOffice,
) -> None:
    post_office.refused_senders = 1
    smtp = provider(post_office)
    refused = await smtp.send(ADA)
    assert (refused.outcome, refused.nobody) == (Outcome.TRANSIENT, True)
    assert (await smtp.send(ADA)).outcome is Outcome.ACCEPTED


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=post-office"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file, "-out", f"{file}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


@pytest.fixture(params=["starttls", "tls"])
async def locked(
    request: pytest.FixtureRequest, post_office: PostOffice, certificate: Path
) -> dict[str, Any]:
    """A server with TLS and a login; what an account there needs."""
    await post_office.shut()
    post_office.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    post_office.tls.load_cert_chain(certificate)
    post_office.tls_at_once = request.param == "tls"
    post_office.password = "pässword"
    await post_office.open()
    login = {"username": "perennial", "password": "pässword"}
    return {request.param: True, "ca_file": certificate, **login}


async def test_a_server_with_tls_and_a_login_takes_mail(
    post_office: PostOffice, locked: dict[str, Any]
) -> None:
    smtp = provider(post_office, **locked)
    assert await smtp.reachable()
    answers = [(await smtp.send(ADA)).outcome for _ in range(2)]
    assert answers == [Outcome.ACCEPTED] * 2
    assert post_office.seen == [("perennial.example", "perennial", True)] * 2
    await smtp.close()


@pytest.mark.parametrize(
    "change",
    [{"password": "wrong"}, {"username": ""}, {"ca_file": None}, {"tls": False, "starttls": False}],
    ids=["wrong_password", "no_login", "certificate_of_nobody", "in_the_clear"],
)
async def test_a_server_that_does_not_let_us_in_harms_no_message_and_hears_none(
    post_office: PostOffice, locked: dict[str, Any], change: dict[str, Any]
) -> None:
    answer = await provider(post_office, **(locked | change), connect_timeout=0.5).send(ADA)
    assert (answer.outcome, answer.nobody) == (Outcome.TRANSIENT, True), answer.said
    assert await post_office.inbox.count() == 0
    assert "pässword" not in answer.said


async def test_tls_that_the_server_does_not_offer_is_not_done_without(
    post_office: PostOffice,
) -> None:
    post_office.password = "secret"
    login: dict[str, Any] = {"username": "perennial", "password": "secret"}
    answer = await provider(post_office, starttls=True, **login).send(ADA)
    assert (answer.outcome, answer.nobody) == (Outcome.TRANSIENT, True), answer.said
    assert not post_office.seen
    plain = await provider(post_office, **login).send(ADA)
    assert plain.outcome is Outcome.ACCEPTED, "settings allow that to this machine only"


async def test_a_connection_closed_while_it_rested_costs_nothing(post_office: PostOffice) -> None:
    smtp = provider(post_office)
    await smtp.send(ADA)
    await post_office.shut()
    await post_office.open()
    again = await smtp.send(ADA._replace(message_id="f" * 32 + "@perennial.example"))
    assert again.outcome is Outcome.ACCEPTED
    assert await post_office.inbox.count() == 2


async def test_nothing_leaves_us_once_the_message_is_another_dispatchers(
    post_office: PostOffice,
) -> None:
    answer = await provider(post_office).send(ADA._replace(still_ours=lambda: False))
    assert answer.outcome is Outcome.TRANSIENT
    assert await post_office.inbox.count() == 0


@pytest.mark.parametrize(
    "address",
    [
        *("", "ada", "ada@", "@example.com", "a@b@example.com, eve@example.com"),
        *("ada@example.com, eve@example.com", "ada@example.com\r\nBcc: eve@example.com"),
        *("<ada@example.com>", "ada @example.com", "ada@exam\x00ple.com", "ädä@example.com"),
        *(f"ada@{'d' * 64}.com", "ada@[", "ada@[127.0.0.1"),
    ],
)
async def test_what_can_not_be_an_address_is_refused_before_a_socket_opens(
    post_office: PostOffice, address: str
) -> None:
    answer = await provider(post_office).send(ADA._replace(address=address))
    assert (answer.outcome, answer.bad_address) == (Outcome.PERMANENT, True)
    assert post_office.connections == 0


SMUGGLED = "\r\nBcc: eve@example.com"
IN_A_HEADER = [
    *({"subject": f"a{SMUGGLED}"}, {"name": f"a{SMUGGLED}"}, {"address": f"ada@b.c{SMUGGLED}"}),
    *({"sender": f"A <a@b.c>{SMUGGLED}"}, {"sender": f"A{SMUGGLED} <a@b.c>"}),
    *({"reply_to": f"a@b.c{SMUGGLED}"}, {"unsubscribe_url": f"https://a.b/u{SMUGGLED}"}),
    *({"thread": (f"1@a{SMUGGLED}",)}, {"thread": (f"1@a>{SMUGGLED}", "2@b")}),
    *({"subject": "a\x00b"}, {"subject": "a\nb"}, {"reply_to": "a@b\x85.c"}, {"effect": "1\u2028"}),
]
IN_AN_ENVELOPE = [{"message_id": f"1@b{SMUGGLED}"}, {"return_path": f"a@b.c>{SMUGGLED}"}]


@pytest.mark.parametrize("change", [*IN_A_HEADER, *IN_AN_ENVELOPE], ids=str)
async def test_no_header_can_be_smuggled_in(
    post_office: PostOffice, change: dict[str, Any]
) -> None:
    answer: Answer = await provider(post_office).send(ADA._replace(**change))
    assert answer.outcome is Outcome.PERMANENT
    assert await post_office.inbox.count() == 0
    assert not any("eve" in address for address in post_office.tries)


async def test_an_encoded_line_break_in_a_subject_is_text(post_office: PostOffice) -> None:
    subject = "50%0d%0aBcc: eve@example.com =?utf-8?q?=0D=0ABcc:_eve@example.com?="
    await provider(post_office).send(ADA._replace(subject=subject))
    mail = await received(post_office)
    assert mail["Bcc"] is None
    assert mail["Subject"] == subject


@pytest.mark.parametrize("said", ["auto-generated", "auto-replied", ""])
async def test_a_mail_says_whether_a_machine_wrote_it(post_office: PostOffice, said: Any) -> None:
    """RFC 3834 section 5; without the header a person did."""
    await provider(post_office).send(ADA._replace(auto_submitted=said))
    assert (await received(post_office))["Auto-Submitted"] == (said or None)


async def test_an_international_domain_is_written_in_ascii(post_office: PostOffice) -> None:
    await provider(post_office).send(ADA._replace(address="ada@exämple.com"))
    [mail] = await post_office.inbox.mails()
    assert mail.rcpt_to == "ada@xn--exmple-cua.com"


async def test_a_mail_says_where_bounces_and_answers_come_back_to(post_office: PostOffice) -> None:
    smtp = provider(post_office)
    back = ADA._replace(return_path="bounce+t@mail.example", reply_to="reply+t@mail.example")
    await smtp.send(back)
    await smtp.send(ADA)
    plain, returning = await post_office.inbox.mails()
    assert returning.mail_from == "bounce+t@mail.example"
    assert plain.mail_from == "hello@perennial.example"
    replies = [dict(o.headers).get("Reply-To") for o in (await _opened(post_office))]
    assert replies == [None, "reply+t@mail.example"]


async def _opened(office: PostOffice) -> list[OpenedMail]:
    found = [await office.inbox.open(mail.id) for mail in await office.inbox.mails()]
    return [opened for opened in found if opened is not None]
