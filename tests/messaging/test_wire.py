"""What a mail server that is not ours makes of our mail, and how it tells us that it gave up."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from flufl.bounce import scan_message

from domain.messages import Channel, Template
from messaging.provider import Outcome, OutgoingMessage
from messaging.render import Renderer, sample_context
from messaging.smtp import SmtpAccount, SmtpProvider
from tests.messaging.exim import NotHere, exim
from tests.messaging.post_office import Fault, PostOffice, free_port

RETURN_PATH = "bounce+3f0e8a2c@perennial.example"
SENDER = f"Perennial <{RETURN_PATH}>"
GONE = "gone@example.com"


@pytest.fixture(scope="module")
def sink_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def exim_port(sink_port: int) -> Iterator[int]:
    try:
        with exim(sink_port) as port:
            yield port
    except NotHere as reason:
        pytest.skip(str(reason))


@pytest.fixture
async def sink(
    sink_port: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[PostOffice]:
    office = PostOffice(tmp_path_factory.mktemp("sink") / "inbox.sqlite", sink_port)
    await office.open()
    yield office
    await office.close()


def written(
    number: int, text: str, html: str | None = None, unsubscribe_url: str = ""
) -> OutgoingMessage:
    return OutgoingMessage(
        effect=f"3f0e8a2c-0000-7000-8000-{number:012x}",
        message_id=f"{number:032x}@perennial.example",
        address=f"ada{number}@example.com",
        name='Ada "the first" Łovelace, Countess of Österreich',
        subject="Não é só uma boa notícia: 日本語, emoji 🎉, and a line to be folded twice",
        text=text,
        html=html,
        unsubscribe_url=unsubscribe_url,
    )


def kinds() -> list[OutgoingMessage]:
    """Every difficulty by itself, and two messages as customers get them."""
    renderer = Renderer("Perennial")
    difficult = [
        written(1, "Grüße aus Köln, und olá!\n", "<p>Grüße, olá!</p>\n"),
        written(2, ".\n..\n.a line with a dot\n\n.\n", "<p>\n.\n..\n</p>\n"),
        written(3, "x" * 5000 + "\n" + "ö" * 5000, f"<p>{'y' * 100_000}</p>"),
        written(4, "text only\n"),
        written(5, "From here\nFrom there \t \n\n\n-- \nsignature\n=20 =\n"),
        written(6, "stop it", "<p>stop it</p>", unsubscribe_url="https://crm.example.com/u/t0ken"),
        written(7, "\n".join("line" for _ in range(3000))),
    ]
    ours = []
    for number, template in enumerate((Template.ORDER_CONFIRMED, Template.MARKETING_WELCOME), 8):
        made = renderer.render(template, Channel.EMAIL, "pt-BR", sample_context(template))
        ours.append(written(number, made.text, made.html)._replace(subject=made.subject))
    return difficult + ours


async def send(port: int, messages: list[OutgoingMessage]) -> None:
    provider = SmtpProvider(SmtpAccount("127.0.0.1", port, SENDER))
    answers = await asyncio.gather(*(provider.send(message) for message in messages))
    await provider.close()
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}, answers


async def arrived(sink: PostOffice, count: int) -> dict[str, EmailMessage]:
    """By the address of the envelope, once so many have come."""
    async with asyncio.timeout(30):
        while True:
            if await sink.inbox.count() >= count:
                break
            await asyncio.sleep(0.05)
    mails = {}
    for mail in await sink.inbox.mails(limit=10_000):
        opened = await sink.inbox.open(mail.id)
        assert opened is not None
        parsed = message_from_bytes(opened.raw, policy=SMTP)
        assert isinstance(parsed, EmailMessage)
        mails[mail.rcpt_to] = parsed
    assert len(mails) == count
    return mails


def headers(mail: EmailMessage) -> list[tuple[str, str]]:
    """But those that each hop, and each moment, writes anew."""
    return [(name, str(value)) for name, value in mail.items() if name not in ("Received", "Date")]


async def test_a_real_mail_server_hands_on_what_we_wrote_unchanged(
    exim_port: int, sink: PostOffice, post_office: PostOffice
) -> None:
    messages = kinds()
    await send(post_office.port, messages)
    await send(exim_port, messages)
    direct = await arrived(post_office, len(messages))
    relayed = await arrived(sink, len(messages))
    for message in messages:
        ours, theirs = direct[message.address], relayed[message.address]
        assert "exim.example" in str(theirs["Received"])
        assert headers(theirs) == headers(ours)
        assert not theirs.defects
        bodies = [mail.as_bytes().partition(b"\r\n\r\n")[2] for mail in (ours, theirs)]
        assert bodies[0] == bodies[1]
        text = theirs.get_body(("plain",))
        assert text is not None
        assert text.get_content().splitlines() == message.text.splitlines()
        assert theirs["Subject"] == message.subject
        assert theirs["List-Unsubscribe"] == (
            f"<{message.unsubscribe_url}>" if message.unsubscribe_url else None
        )
    assert {mail.mail_from for mail in await sink.inbox.mails()} == {RETURN_PATH}


async def test_its_bounce_comes_to_our_return_path_and_names_the_message(
    exim_port: int, sink: PostOffice
) -> None:
    sink.faults[GONE] = Fault("RCPT", "550 5.1.1 no such user", times=99)
    message = written(9, "hello", "<p>hello</p>")._replace(address=GONE)
    await send(exim_port, [message])
    [(to, bounce)] = (await arrived(sink, 1)).items()
    assert to == RETURN_PATH
    [kept] = await sink.inbox.mails()
    assert kept.mail_from == "<>", "so that no bounce is bounced"
    assert bounce.get_content_type() == "multipart/report"
    assert bounce.get_param("report-type") == "delivery-status"
    assert bounce["Auto-Submitted"] == "auto-replied"
    _, status, original = bounce.iter_parts()
    assert "Action: failed" in str(status)
    assert "Status: 5." in str(status)
    assert f"<{message.message_id}>" in str(original)
    assert message.effect in str(original)
    assert scan_message(bounce) == {GONE.encode()}
