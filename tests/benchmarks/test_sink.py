"""The sink of the benchmark takes what a mail server takes, however the bytes are cut."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from benchmarks.sink import serve
from messaging.provider import Outcome, OutgoingMessage
from messaging.smtp import SmtpAccount, SmtpProvider
from tests.messaging.post_office import free_port


@pytest.fixture
async def port() -> AsyncGenerator[int]:
    port = free_port()
    serving = asyncio.create_task(serve(port))
    await asyncio.sleep(0.05)
    yield port
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def test_our_provider_hands_over_many_mails_on_a_connection(port: int) -> None:
    smtp = SmtpProvider(SmtpAccount("127.0.0.1", port, "Us <us@perennial.example>", connections=1))
    message = OutgoingMessage("e", "m@perennial.example", "ada@example.com", "Ada", "s", ".\n..\n")
    for _ in range(3):
        assert (await smtp.send(message)).outcome is Outcome.ACCEPTED
    await smtp.close()


async def test_the_end_of_a_text_is_found_byte_by_byte(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await reader.readline()).startswith(b"220")
    for command, answer in ((b"MAIL FROM:<a@b>", b"250"), (b"DATA", b"354")):
        writer.write(command + b"\r\n")
        assert (await reader.readline()).startswith(answer)
    for byte in b"a .\r\n..\r\n.\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert (await reader.readline()).startswith(b"250")
    writer.write(b"QUIT\r\n")
    assert (await reader.readline()).startswith(b"221")
    writer.close()
    await writer.wait_closed()
