"""An SMTP server that keeps mail as the local inbox does, and fails where a test tells it to."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from database.inbox import Inbox
from messaging.inbox import MailHandler, MailStore


@dataclass
class Fault:
    """What happens, `times` times, to mail for one address.

    `at` is the last thing the client said: MAIL, RCPT, DATA, or TEXT for the final dot. An empty
    `say` breaks the connection. `keep` keeps the mail all the same, after TEXT.
    """

    at: str
    say: str = ""
    hang: bool = False
    keep: bool = False
    times: int = 1


@dataclass
class PostOffice:
    path: Path
    port: int
    faults: dict[str, Fault] = field(default_factory=dict)
    refused_senders: int = 0  # so many MAIL commands are answered with 530
    on_kept: Callable[[str], None] = lambda _: None  # told of a mail before its 250
    connections: int = 0

    def __post_init__(self) -> None:
        self._store = MailStore(self.path)
        self._sessions: set[SMTP] = set()
        self._server: asyncio.Server | None = None

    @property
    def inbox(self) -> Inbox:
        return Inbox(self.path)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, "127.0.0.1", self.port)

    async def shut(self) -> None:
        """Nobody gets through, and who was talking is cut off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for session in self._sessions:
            _break_off(session)
        self._sessions.clear()
        await asyncio.sleep(0)

    async def close(self) -> None:
        await self.shut()
        self._store.close()

    def _session(self) -> SMTP:
        self.connections += 1
        session = _FaultySession(_FaultyHandler(self, self._store), self)
        self._sessions.add(session)
        return session

    def fault(self, address: str, at: str) -> Fault | None:
        fault = self.faults.get(address)
        if fault is None or fault.at != at or fault.times < 1:
            return None
        fault.times -= 1
        return fault


class _FaultySession(SMTP):
    def __init__(self, handler: object, office: PostOffice) -> None:
        super().__init__(handler, hostname="post-office", timeout=10)
        self._office = office

    async def smtp_DATA(self, arg: str) -> None:
        assert self.envelope is not None
        for address in self.envelope.rcpt_tos:
            if fault := self._office.fault(address, "DATA"):
                said = await _misbehave(self, fault)
                if said:
                    await self.push(said)
                return
        await super().smtp_DATA(arg)


class _FaultyHandler(MailHandler):
    def __init__(self, office: PostOffice, store: MailStore) -> None:
        super().__init__(store)
        self._office = office

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._office.refused_senders > 0:
            self._office.refused_senders -= 1
            return "530 5.7.0 authentication required"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if fault := self._office.fault(address, "RCPT"):
            return await _misbehave(server, fault)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        address = envelope.rcpt_tos[0]
        fault = self._office.fault(address, "TEXT")
        if fault is None or fault.keep:
            answer = await super().handle_DATA(server, session, envelope)
            self._office.on_kept(address)
            if fault is None:
                return answer
        return await _misbehave(server, fault)


async def _misbehave(server: SMTP, fault: Fault) -> str:
    if fault.hang:
        await asyncio.sleep(3600)
    if not fault.say:
        _break_off(server)
    return fault.say


def _break_off(session: SMTP) -> None:
    if isinstance(session.transport, asyncio.WriteTransport):
        session.transport.abort()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
