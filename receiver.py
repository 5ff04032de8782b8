"""Composition root of the mail receiver: settings → sessions, SMTP server.

Start it with `python receiver.py`; `crm.py up` does where CRM_INBOUND_PORT is set.
"""

import asyncio
import logging
import signal
from collections.abc import Sequence

from database.base import Sessions, connect
from database.received_mails import keep_mail
from messaging.receiver import Keep, receive_mail
from settings import Settings

HOST = "127.0.0.1"
_CONNECTIONS = 4


def keeper(sessions: Sessions) -> Keep:
    async def keep(mail_from: str, rcpt_to: Sequence[str], raw: bytes) -> None:
        async with sessions.begin() as session:
            await keep_mail(session, "smtp", mail_from, rcpt_to, raw)

    return keep


async def run(settings: Settings) -> None:
    """Take mail until told to stop (SIGTERM, SIGINT)."""
    if settings.database_url is None:
        raise SystemExit("set CRM_DATABASE_URL, or start everything with `make up`")
    if not settings.inbound_domain or not settings.inbound_port:
        raise SystemExit("set CRM_INBOUND_DOMAIN and CRM_INBOUND_PORT: for whom mail is taken")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    sessions = connect(settings.database_url.get_secret_value(), _CONNECTIONS)
    server = await receive_mail(
        HOST, settings.inbound_port, settings.inbound_domain, keeper(sessions)
    )
    logging.getLogger(__name__).info("taking mail for %s", settings.inbound_domain)
    async with server:
        await stopping.wait()
    await sessions.kw["bind"].dispose()


def main() -> None:
    settings = Settings.from_environment()
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd tells of every session
    try:
        asyncio.run(run(settings))
    except OSError as problem:
        raise SystemExit(
            f"no mail can be taken on port {settings.inbound_port}: {problem}"
        ) from None


if __name__ == "__main__":
    main()
