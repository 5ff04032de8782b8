"""The local inbox keeps what it says yes to, and shows what it keeps."""

import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from database.inbox import Inbox, InboxUnavailable
from messaging.inbox import main
from messaging.provider import Outcome, OutgoingMessage
from messaging.sms import LocalSms
from tests.messaging.post_office import free_port

MAIL = (
    "Message-ID: <{id}@perennial.example>\r\nX-CRM-Effect: effect-{id}\r\n"
    "Subject: =?utf-8?q?Ol=C3=A1?= {id}\r\nTo: a@example.com\r\n\r\n.Hello\r\n"
)


@contextmanager
def running(path: Path, port: int) -> Generator[subprocess.Popen[bytes]]:
    """The inbox as the supervisor runs it."""
    environment = {**os.environ, "CRM_SMTP_PORT": str(port), "CRM_INBOX_PATH": str(path)}
    process = subprocess.Popen([sys.executable, "-m", "messaging.inbox"], env=environment)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def post(port: int, ids: range) -> None:
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        for number in ids:
            smtp.sendmail("b@example.com", ["a@example.com"], MAIL.format(id=number).encode())


async def test_what_was_accepted_survives_a_kill_and_can_be_read(tmp_path: Path) -> None:
    path, port = tmp_path / "inbox.sqlite", free_port()
    with running(path, port) as process:
        post(port, range(5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    inbox = Inbox(path)
    with running(path, port) as process:
        post(port, range(5, 7))
        assert [mail.message_id.partition("@")[0] for mail in await inbox.mails()] == [
            *("6", "5", "4", "3", "2", "1", "0")
        ]
        process.terminate()
        assert process.wait(10) == 0
    newest, between, oldest = await inbox.mails(limit=3)
    assert (newest.subject, newest.effect, newest.rcpt_to) == (
        *("Olá 6", "effect-6", "a@example.com"),
    )
    assert await inbox.mails(after=oldest.id) == [newest, between]
    assert await inbox.mails(after=newest.id) == []
    older = await inbox.mails(limit=3, before=oldest.id)
    assert [mail.subject for mail in older] == ["Olá 3", "Olá 2", "Olá 1"]
    assert await inbox.mails(to="nobody@") == []
    opened = await inbox.open(newest.id)
    assert opened is not None
    assert opened.text == ".Hello\n"
    assert ("X-CRM-Effect", "effect-6") in opened.headers
    assert await inbox.open(99) is None
    found = await inbox.by_message_id(["6@perennial.example", "9@perennial.example"])
    assert found == {"6@perennial.example": newest.received_at}


async def test_a_duplicate_is_kept_and_shown(tmp_path: Path) -> None:
    path, port = tmp_path / "inbox.sqlite", free_port()
    with running(path, port):
        post(port, range(2))
        post(port, range(1))
    assert [tuple(twice) for twice in await Inbox(path).duplicates()] == [
        ("effect-0", "0@perennial.example", 2)
    ]


def test_a_port_that_is_taken_is_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["--port", port, "--path", str(tmp_path / "inbox.sqlite")], {}) == 1
    assert f"can't take mail on 127.0.0.1:{port}" in caplog.text


async def test_no_inbox_is_something_else_than_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(InboxUnavailable):
        await Inbox(tmp_path / "none.sqlite").by_message_id(["1@perennial.example"])


async def test_text_messages_are_kept_beside_the_mails(tmp_path: Path) -> None:
    path = tmp_path / "inbox.sqlite"
    sms = LocalSms(path)
    message = OutgoingMessage(
        *("effect", "1@perennial.example", "+5511987654321", "Ada", "subject", "On its way.\n")
    )
    assert (await sms.send(message)).outcome is Outcome.ACCEPTED
    nowhere = await sms.send(message._replace(address="ada@example.com"))
    assert (nowhere.outcome, nowhere.bad_address) == (Outcome.PERMANENT, True)
    await sms.close()
    [text] = await Inbox(path).texts()
    assert (text.rcpt_to, text.text, text.effect) == ("+5511987654321", "On its way.", "effect")
    assert set(await Inbox(path).by_message_id(["1@perennial.example"])) == {"1@perennial.example"}
