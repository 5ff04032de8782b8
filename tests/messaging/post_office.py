"""An SMTP server that keeps mail as the local inbox does, and fails where a test tells it to."""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import AnyStr

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from database.inbox import Inbox
from messaging.inbox import MailHandler, MailStore


@dataclass
class Fault:
    """What happens, `times` times, to mail for one address.

    `at` is the last thing the client said: MAIL, RCPT, DATA, or TEXT for the final dot. An empty
    `say` breaks the connection; after a 421 it is closed, as RFC 5321 3.8 has it. `keep` keeps the
    mail all the same, after TEXT. With `seconds_a_byte` the answer trickles; `lasts` is how many
    seconds from the first try on a greylist refuses, in place of `times`.
    """

    at: str
    say: str = ""
    hang: bool = False
    keep: bool = False
    times: int = 1
    seconds_a_byte: float = 0.0
    lasts: float = 0.0


class Stage(StrEnum):
    """Where a mail can be held on its way in."""

    TEXT_BEGUN = "text begun"  # before its final dot is read
    KEPT = "kept"  # and its 250 not written


async def go_on(stage: Stage, address: str) -> None:
    """Hold nothing."""


@dataclass
class PostOffice:
    path: Path
    port: int
    faults: dict[str, Fault] = field(default_factory=dict)
    refused_senders: int = 0  # so many MAIL commands are answered with 530
    on_kept: Callable[[str], None] = lambda _: None  # told of a mail before its 250
    hold: Callable[[Stage, str], Awaitable[None]] = go_on  # the mail goes on when this returns
    # Without a certificate in it, every handshake fails.
    tls: ssl.SSLContext | None = None
    tls_at_once: bool = False  # as on port 465; else after STARTTLS
    password: str = ""  # of anybody; empty: there is no login
    connections: int = 0
    seen: list[tuple[str, str, bool]] = field(default_factory=list)  # name in EHLO, login, TLS?
    tries: dict[str, list[float]] = field(default_factory=dict)  # monotonic, by address

    def __post_init__(self) -> None:
        self._store = MailStore(self.path)
        self._sessions: set[SMTP] = set()
        self._server: asyncio.Server | None = None

    @property
    def inbox(self) -> Inbox:
        return Inbox(self.path)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        tls = self.tls if self.tls_at_once else None
        self._server = await loop.create_server(self._session, "127.0.0.1", self.port, ssl=tls)

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
        if fault is None or fault.at != at:
            return None
        if fault.lasts:
            return fault if time.monotonic() < self.tries[address][0] + fault.lasts else None
        if fault.times < 1:
            return None
        fault.times -= 1
        return fault


class _FaultySession(SMTP):
    def __init__(self, handler: object, office: PostOffice) -> None:
        super().__init__(
            handler,
            hostname="post-office",
            timeout=10,
            tls_context=None if office.tls_at_once else office.tls,
            authenticator=self._log_in if office.password else None,
            # aiosmtpd knows of no TLS but that after STARTTLS.
            auth_require_tls=office.tls is not None and not office.tls_at_once,
        )
        self._office = office
        self._told_togo_on = False
        self._text = asyncio.Event()  # some of it has come

    def _log_in(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        success = data.password.decode() == self._office.password
        return AuthResult(success=success, auth_data=data.login.decode(), handled=False)

    async def smtp_DATA(self, arg: str) -> None:
        assert self.envelope is not None
        for address in self.envelope.rcpt_tos:
            if fault := self._office.fault(address, "DATA"):
                said = await _misbehave(self, fault)
                if said:
                    await self.push(said)
                return
        await super().smtp_DATA(arg)

    async def push(self, status: AnyStr) -> None:
        await super().push(status)
        if status[:3] in ("354", b"354"):
            self._told_togo_on = True
            await self._text.wait()
            self._told_togo_on = False
            self._text.clear()
            assert self.envelope is not None
            await self._office.hold(Stage.TEXT_BEGUN, self.envelope.rcpt_tos[0])

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._told_togo_on:
            self._text.set()


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
        if self._office.password and not session.authenticated:
            return "530 5.7.0 authentication required"
        envelope.mail_from = address
        encrypted = server.transport is not None and server.transport.get_extra_info("ssl_object")
        login = str(session.auth_data or "")
        self._office.seen.append((session.host_name or "", login, bool(encrypted)))
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self._office.tries.setdefault(address, []).append(time.monotonic())
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
            await self._office.hold(Stage.KEPT, address)
            if fault is None:
                return answer
        return await _misbehave(server, fault)


async def _misbehave(server: SMTP, fault: Fault) -> str:
    if fault.hang:
        await asyncio.sleep(3600)
    if not fault.say:
        _break_off(server)
    transport = server.transport
    if isinstance(transport, asyncio.WriteTransport):
        if fault.say.startswith("421"):
            asyncio.get_running_loop().call_soon(transport.close)  # once it is written
        if fault.seconds_a_byte:
            for byte in fault.say[:-1].encode():
                transport.write(bytes([byte]))
                await asyncio.sleep(fault.seconds_a_byte)
            return fault.say[-1]
    return fault.say


def _break_off(session: SMTP) -> None:
    if isinstance(session.transport, asyncio.WriteTransport):
        session.transport.abort()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
