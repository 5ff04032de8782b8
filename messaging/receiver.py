"""Takes mail by SMTP: keeps what it says yes to, and looks at nothing.

It stands behind a mail server of one's own, on the same machine: that one has the public address,
TLS, the defence against spam, and hands on what is for our domain. A mail is understood later
(`messaging/mail_reading.py`), where a fault harms no conversation.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiosmtpd.smtp import SMTP, Envelope, Session

log = logging.getLogger(__name__)

LARGEST_MAIL = 10 * 1024 * 1024
MOST_RECIPIENTS = 50

# Called with the envelope's sender (empty: the null return path), its recipients and the mail.
# Returns once it is kept for good; whatever it raises, the mail is refused for now.
Keep = Callable[[str, Sequence[str], bytes], Awaitable[None]]


@dataclass(frozen=True)
class ReceiverLimits:
    """Times in seconds."""

    sessions: int = 20
    silence: float = 60.0  # of a client
    session: float = 600.0
    keeping: float = 20.0


class _Handler:
    """What aiosmtpd calls for each command."""

    def __init__(self, domain: str, keep: Keep, limits: ReceiverLimits) -> None:
        self._domain = domain.lower()
        self._keep = keep
        self._limits = limits

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not (address or "").isprintable():
            return "553 5.1.7 not an address"
        envelope.mail_from = address  # <> for the null return path
        return "250 2.1.0 ok"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.rpartition("@")[2].lower() != self._domain or not address.isprintable():
            return "550 5.7.1 no mail for that domain is taken here"
        if len(envelope.rcpt_tos) >= MOST_RECIPIENTS:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        raw = envelope.original_content or b""
        mail_from = (envelope.mail_from or "").removeprefix("<>")
        try:
            async with asyncio.timeout(self._limits.keeping):
                await self._keep(mail_from, envelope.rcpt_tos, raw)
        except Exception as problem:  # the sender keeps it and tries again
            log.warning("a mail could not be kept: %s", type(problem).__name__)
            return "451 4.3.0 the mail could not be kept, try again later"
        return "250 2.0.0 kept"


class _Conversation(SMTP):
    """One that ends: a client that says a little now and then can't hold it for ever."""

    def __init__(self, handler: _Handler, limits: ReceiverLimits, open_: set[SMTP]) -> None:
        super().__init__(
            handler,
            data_size_limit=LARGEST_MAIL,
            hostname="mail-in",
            ident="Perennial",
            enable_SMTPUTF8=True,
            timeout=limits.silence,
        )
        self._longest = limits.session
        self._open = open_

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open.add(self)
        assert isinstance(transport, asyncio.Transport)
        self._end = self.loop.call_later(self._longest, transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)
        self._end.cancel()
        super().connection_lost(error)


class _Busy(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"421 4.3.2 too many connections, try again later\r\n")
        transport.close()


async def receive_mail(
    host: str,
    port: int,
    domain: str,
    keep: Keep,
    limits: ReceiverLimits | None = None,
) -> asyncio.Server:
    """A server that takes mail for the domain. Raises OSError when the port is taken."""
    bounds = limits or ReceiverLimits()
    handler = _Handler(domain, keep, bounds)
    conversations: set[SMTP] = set()

    def converse() -> asyncio.Protocol:
        if len(conversations) >= bounds.sessions:
            return _Busy()
        return _Conversation(handler, bounds, conversations)

    return await asyncio.get_running_loop().create_server(converse, host, port)
