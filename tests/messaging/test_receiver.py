"""The listener keeps what it says yes to, and stands whatever comes."""

import asyncio
import smtplib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from messaging.receiver import LARGEST_MAIL, ReceiverLimits, receive_mail
from tests.messaging.post_office import free_port
from tests.messaging.received import answer

T = TypeVar("T")
SHORT = ReceiverLimits(sessions=3, silence=5.0, session=1.5, keeping=0.3)


@dataclass
class Desk:
    port: int
    kept: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    problem: Exception | None = None
    slow: float = 0.0

    async def keep(self, mail_from: str, rcpt_to: Sequence[str], raw: bytes) -> None:
        await asyncio.sleep(self.slow)
        if self.problem is not None:
            raise self.problem
        self.kept.append((mail_from, list(rcpt_to), raw))

    async def talk(self, conversation: Callable[[smtplib.SMTP], T]) -> T:
        def converse() -> T:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=10) as client:
                return conversation(client)

        return await asyncio.to_thread(converse)


@pytest.fixture
async def desk() -> AsyncGenerator[Desk]:
    desk = Desk(free_port())
    async with await receive_mail("127.0.0.1", desk.port, "mail.example", desk.keep, SHORT):
        yield desk


async def test_a_mail_is_kept_byte_for_byte_with_its_envelope(desk: Desk) -> None:
    raw = b"Subject: x\r\n\r\n..dots\r\n.\r\n\xff\x00\r\n"
    to = ["reply+t@mail.example", "Hello@MAIL.example"]
    await desk.talk(lambda client: client.sendmail("ada@example.com", to, raw))
    assert desk.kept == [("ada@example.com", to, raw)]


async def test_a_bounce_has_no_sender(desk: Desk) -> None:
    await desk.talk(lambda client: client.sendmail("", ["bounce+t@mail.example"], answer()))
    assert desk.kept[0][0] == ""


async def test_only_mail_for_our_domain_is_taken(desk: Desk) -> None:
    def conversation(client: smtplib.SMTP) -> list[int]:
        client.ehlo()
        client.mail("ada@example.com")
        others = ("eve@example.com", "x@mail.example.com", "x@notmail.example", "a@b@c.example")
        return [client.rcpt(address)[0] for address in others]

    assert set(await desk.talk(conversation)) <= {550, 553}
    assert desk.kept == []


@pytest.mark.parametrize("problem", [OSError("no database"), ValueError("a fault")])
async def test_what_can_not_be_kept_is_refused_for_now(desk: Desk, problem: Exception) -> None:
    desk.problem = problem
    await _refused_for_now(desk)
    desk.problem = None
    await desk.talk(lambda c: c.sendmail("a@example.com", ["x@mail.example"], answer()))
    assert len(desk.kept) == 1


async def test_so_is_what_is_not_kept_in_time(desk: Desk) -> None:
    desk.slow = 5.0
    await _refused_for_now(desk)


async def _refused_for_now(desk: Desk) -> None:
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        await desk.talk(lambda c: c.sendmail("a@example.com", ["x@mail.example"], answer()))
    assert refusal.value.smtp_code == 451


async def test_a_mail_has_fifty_recipients_at_most(desk: Desk) -> None:
    def conversation(client: smtplib.SMTP) -> list[int]:
        client.ehlo()
        client.mail("ada@example.com")
        return [client.rcpt(f"p{n}@mail.example")[0] for n in range(52)]

    assert await desk.talk(conversation) == [250] * 50 + [452] * 2


async def test_a_mail_that_is_too_large_is_refused(desk: Desk) -> None:
    def conversation(client: smtplib.SMTP) -> int:
        client.ehlo()
        return client.docmd("MAIL", f"FROM:<a@example.com> SIZE={LARGEST_MAIL + 1}")[0]

    assert await desk.talk(conversation) == 552


async def test_nonsense_takes_nobody_down(desk: Desk) -> None:
    for nonsense in (b"\x00" * 5000, b"\r\n" * 100, b"GET / HTTP/1.1\r\n\r\n", b"MAIL FROM:<\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        assert (await reader.readline()).startswith(b"220")
        writer.write(nonsense)
        await writer.drain()
        writer.close()
    await desk.talk(lambda c: c.sendmail("a@example.com", ["x@mail.example"], answer()))
    assert len(desk.kept) == 1


async def test_who_holds_a_connection_is_cut_off_and_who_is_one_too_many_waits(desk: Desk) -> None:
    held = [await asyncio.open_connection("127.0.0.1", desk.port) for _ in range(SHORT.sessions)]
    for reader, _ in held:
        assert (await reader.readline()).startswith(b"220")
    late, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    assert (await late.readline()).startswith(b"421")
    writer.close()
    ends = [reader.read() for reader, _ in held]  # until the server ends it
    await asyncio.wait_for(asyncio.gather(*ends, return_exceptions=True), SHORT.session + 1)
    for _, each in held:
        each.close()
    await desk.talk(lambda c: c.sendmail("a@example.com", ["x@mail.example"], answer()))
