"""E-mail over SMTP, on a few connections that are kept and used again.

Each stage of the hand-over is its own command here, because the stage decides what a lost
connection means: before the message's text begins nothing has been taken, after its final dot
nobody knows.
"""

import re
import ssl
import time
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from messaging.compose import (
    BadAddress,
    check_header,
    compose_email,
    recipient_of,
    sender_header,
)
from messaging.provider import Answer, Outcome, OutgoingMessage
from messaging.slots import Slots

_LEADING_DOT = re.compile(rb"(?m)^\.")
_ENHANCED = re.compile(r"\b5\.(\d{1,3})\.(\d{1,3})\b")
_NO_SUCH_MAILBOX = (550, 551, 553)  # in answer to RCPT, when no enhanced code says more
_IDLE_LIMIT = 5.0  # seconds; servers close what rests, the local inbox after 10
_LONGEST_ANSWER = 500
_LOST = (SMTPServerDisconnected, SMTPTimeoutError, OSError)


@dataclass(frozen=True)
class SmtpAccount:
    """Where mail is handed over, and as whom. Times in seconds.

    `tls` is from the first byte on (RFC 8314 section 3.3), `starttls` after a greeting; with
    either nothing goes in the clear. `ca_file` instead of the system's authorities.
    """

    host: str
    port: int
    mail_from: str  # Name <address>
    username: str = ""
    password: str = ""
    starttls: bool = False
    tls: bool = False
    ca_file: Path | None = None
    connections: int = 8
    connect_timeout: float = 10.0
    answer_timeout: float = 20.0


class _Stage(IntEnum):
    """What the server was last told."""

    SENDER = 1
    RECIPIENT = 2
    DATA = 3
    TEXT = 4  # some of the message may have left us


class SmtpProvider:
    """Implements messaging.provider.Provider."""

    name = "smtp"
    repeat_within = None

    def __init__(self, account: SmtpAccount) -> None:
        self._account = account
        _, sender = sender_header(account.mail_from)  # raises when it is none
        # RFC 5321 section 4.1.1.1 wants a name that can be looked up; to look up ours would block.
        self._greets_as = sender.rpartition("@")[2]
        encrypted = account.tls or account.starttls
        self._tls = ssl.create_default_context(cafile=account.ca_file) if encrypted else None
        self._slots = Slots(account.connections)
        self._resting: deque[tuple[float, SMTP]] = deque()  # with the moment it came to rest

    async def send(self, message: OutgoingMessage) -> Answer:
        try:
            recipient = recipient_of(message).addr_spec
            header, sender = sender_header(message.sender or self._account.mail_from)
            mail = compose_email(header, message)
            check_header("Return-Path", message.return_path)
        except BadAddress as problem:
            return Answer(Outcome.PERMANENT, str(problem), bad_address=True)
        except (ValueError, LookupError, TypeError) as problem:
            return Answer(Outcome.PERMANENT, f"can't be written as a mail: {problem}")
        text = _LEADING_DOT.sub(b"..", mail) + b".\r\n"
        async with self._slots.taken(urgent=message.urgent):
            # One that rested may have been closed meanwhile; nothing is lost but the try.
            while rested := self._take_rested():
                answer = await self._converse(rested, sender, recipient, text, message)
                if answer is not None:
                    return answer
            try:
                smtp = await self._connect()
            except (SMTPException, OSError, ValueError) as problem:
                return _out_of_reach(str(problem))
            answer = await self._converse(smtp, sender, recipient, text, message)
            return answer or _out_of_reach("it closes the connection at once")

    async def reachable(self) -> bool:
        try:
            smtp = await self._connect()
        except (SMTPException, OSError, ValueError):
            return False
        await _leave(smtp)
        return True

    async def close(self) -> None:
        while self._resting:
            await _leave(self._resting.popleft()[1])

    async def _converse(
        self, smtp: SMTP, sender: str, recipient: str, text: bytes, message: OutgoingMessage
    ) -> Answer | None:
        """Hand over one message. None when the connection turned out to be closed already."""
        stage = _Stage.SENDER
        try:
            await smtp.mail(message.return_path or sender)
            stage = _Stage.RECIPIENT
            await smtp.rcpt(recipient)
            stage = _Stage.DATA
            begin = await smtp.execute_command(b"DATA")
            protocol = smtp.protocol
            if begin.code != 354 or protocol is None:
                raise SMTPResponseException(begin.code, begin.message)
            if not message.still_ours():
                smtp.close()
                return Answer(Outcome.TRANSIENT, "held up for too long; not sent")
            stage = _Stage.TEXT
            protocol.write(text)
            end = await protocol.read_response(timeout=self._account.answer_timeout)
            if not 200 <= end.code < 300:
                raise SMTPResponseException(end.code, end.message)
        except _LOST as problem:
            smtp.close()
            if stage is _Stage.SENDER and not isinstance(problem, SMTPTimeoutError):
                return None
            return _lost(stage, problem)
        except SMTPResponseException as refused:
            await self._rest_again(smtp)
            return _refusal(stage, refused.code, refused.message)
        except BaseException:
            smtp.close()  # cancelled: the conversation can't be taken up again
            raise
        self._resting.append((time.monotonic(), smtp))
        return Answer(Outcome.ACCEPTED, f"{end.code} {end.message}"[:_LONGEST_ANSWER])

    async def _connect(self) -> SMTP:
        account = self._account
        smtp = SMTP(
            hostname=account.host,
            port=account.port,
            username=account.username or None,
            password=account.password or None,
            use_tls=account.tls,
            start_tls=account.starttls,
            tls_context=self._tls,
            local_hostname=self._greets_as,
            timeout=account.connect_timeout,
        )
        try:
            await smtp.connect()
        except BaseException:
            smtp.close()
            raise
        smtp.timeout = account.answer_timeout
        return smtp

    def _take_rested(self) -> SMTP | None:
        while self._resting:
            since, smtp = self._resting.pop()
            if smtp.is_connected and time.monotonic() - since < _IDLE_LIMIT:
                return smtp
            smtp.close()
        return None

    async def _rest_again(self, smtp: SMTP) -> None:
        """After a refusal, when the server still talks to us."""
        try:
            await smtp.rset()
        except (SMTPException, OSError):
            smtp.close()
        else:
            self._resting.append((time.monotonic(), smtp))


def _lost(stage: _Stage, problem: Exception) -> Answer:
    said = f"lost after {stage.name.lower()}: {problem}"[:_LONGEST_ANSWER]
    return Answer(Outcome.UNKNOWN if stage is _Stage.TEXT else Outcome.TRANSIENT, said)


def _refusal(stage: _Stage, code: int, message: str) -> Answer:
    """What a refusal means.

    A refused sender is a fault of ours that a person must mend; it holds for every message, and
    they wait for it.
    """
    said = f"{code} {message}"[:_LONGEST_ANSWER]
    if not 400 <= code < 600:  # an answer that can't be read
        return Answer(Outcome.UNKNOWN if stage is _Stage.TEXT else Outcome.TRANSIENT, said)
    if stage is _Stage.SENDER:
        return _out_of_reach(said)
    if code < 500:
        return Answer(Outcome.TRANSIENT, said)
    bad_address = stage is _Stage.RECIPIENT and _says_no_such_mailbox(code, message)
    return Answer(Outcome.PERMANENT, said, bad_address=bad_address)


def _says_no_such_mailbox(code: int, message: str) -> bool:
    """RFC 3463: 5.1.x is about the address, 5.2.1 a mailbox that is switched off."""
    if enhanced := _ENHANCED.search(message):
        subject, detail = enhanced.groups()
        return subject == "1" or (subject, detail) == ("2", "1")
    return code in _NO_SUCH_MAILBOX


def _out_of_reach(said: str) -> Answer:
    return Answer(Outcome.TRANSIENT, said[:_LONGEST_ANSWER], nobody=True)


async def _leave(smtp: SMTP) -> None:
    try:
        await smtp.quit()
    except (SMTPException, OSError):
        smtp.close()
