"""The local mail inbox: an SMTP server that keeps every mail it says yes to.

    python -m messaging.inbox --host 127.0.0.1 --port 1025 --path var/inbox.sqlite

It stands in for a mail provider on a machine of one's own. A mail is on disk before its 250, and
nothing is made unique, so that a duplicate can be seen. `database/inbox.py` reads what it keeps.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import queue
import signal
import sqlite3
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import NamedTuple

from aiosmtpd.smtp import SMTP, Envelope, Session

log = logging.getLogger("inbox")

_LARGEST_BATCH = 200
LARGEST_MAIL = 10 * 1024 * 1024
# A client that was stopped in the middle of a mail is cut off after this, well before another
# dispatcher takes over its messages: it can't complete the mail later and make a duplicate.
_SESSION_TIMEOUT = 10.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS mails (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL,
    mail_from TEXT NOT NULL,
    rcpt_to TEXT NOT NULL,
    subject TEXT NOT NULL,
    effect TEXT NOT NULL,
    received_at TEXT NOT NULL,
    raw BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS mails_message_id ON mails (message_id);
CREATE TABLE IF NOT EXISTS sms (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL,
    rcpt_to TEXT NOT NULL,
    text TEXT NOT NULL,
    effect TEXT NOT NULL,
    received_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sms_message_id ON sms (message_id);
"""
_INSERT_MAIL = (
    "INSERT INTO mails (message_id, mail_from, rcpt_to, subject, effect, received_at, raw)"
    " VALUES (:message_id, :mail_from, :rcpt_to, :subject, :effect, :received_at, :raw)"
)


class StoredMail(NamedTuple):
    message_id: str
    mail_from: str
    rcpt_to: str
    subject: str
    effect: str
    received_at: str
    raw: bytes


def open_inbox(path: Path) -> sqlite3.Connection:
    """For writing; makes the file and its tables. What is committed survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=15, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    return connection


class MailStore:
    """Writes mails from one thread: all that wait go into one transaction, so into one fsync."""

    def __init__(self, path: Path) -> None:
        self._connection = open_inbox(path)
        self._waiting: queue.SimpleQueue[tuple[StoredMail, asyncio.Future[None]] | None] = (
            queue.SimpleQueue()
        )
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, name="inbox", daemon=True)
        self._thread.start()

    async def keep(self, mail: StoredMail) -> None:
        """Returns once it is on disk. Raises sqlite3.Error when it is not."""
        kept: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((mail, kept))
        await kept

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _write(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < _LARGEST_BATCH and not self._waiting.empty():
                further = self._waiting.get()
                if further is None:
                    self._waiting.put(None)  # after this one
                    break
                batch.append(further)
            problem: sqlite3.Error | None = None
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(_INSERT_MAIL, [mail._asdict() for mail, _ in batch])
                self._connection.execute("COMMIT")
            except sqlite3.Error as failure:
                problem = failure
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_answer, [kept for _, kept in batch], problem)


def _answer(waiting: list[asyncio.Future[None]], problem: sqlite3.Error | None) -> None:
    for kept in waiting:
        if kept.done():
            continue  # its client has gone
        if problem is None:
            kept.set_result(None)
        else:
            kept.set_exception(problem)


class MailHandler:
    """What aiosmtpd calls for each mail."""

    def __init__(self, store: MailStore) -> None:
        self._store = store

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        raw = envelope.original_content or b""
        headers = BytesHeaderParser().parsebytes(raw)
        mail = StoredMail(
            message_id=str(headers["Message-ID"] or "").strip().strip("<>"),
            mail_from=envelope.mail_from or "",
            rcpt_to=", ".join(envelope.rcpt_tos),
            subject=_readable(str(headers["Subject"] or "")),
            effect=str(headers["X-CRM-Effect"] or "").strip(),
            received_at=datetime.now(UTC).isoformat(),
            raw=raw,
        )
        try:
            await self._store.keep(mail)
        except sqlite3.Error as problem:
            log.warning("a mail could not be kept: %s", problem)
            return "451 4.3.0 the mail could not be kept, try again later"
        return "250 2.0.0 kept"


def _readable(subject: str) -> str:
    try:
        return " ".join(str(make_header(decode_header(subject))).split())
    except (LookupError, ValueError):
        return subject


async def serve(host: str, port: int, path: Path, ready: asyncio.Event | None = None) -> None:
    """Until cancelled. Raises OSError when the port is taken."""
    store = MailStore(path)
    handler = MailHandler(store)

    def session() -> SMTP:
        return SMTP(
            handler,
            data_size_limit=LARGEST_MAIL,
            hostname="inbox",
            ident="Perennial inbox",
            enable_SMTPUTF8=True,
            timeout=_SESSION_TIMEOUT,
        )

    try:
        server = await asyncio.get_running_loop().create_server(session, host, port)
        async with server:
            log.info("the inbox takes mail on %s:%s", host, port)
            if ready is not None:
                ready.set()
            await server.serve_forever()
    finally:
        store.close()


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs until SIGTERM or SIGINT."""
    data_dir = Path(environment.get("CRM_DATA_DIR") or "var")
    path = Path(environment.get("CRM_INBOX_PATH") or data_dir / "inbox.sqlite")
    parser = argparse.ArgumentParser(prog="python -m messaging.inbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(environment.get("CRM_SMTP_PORT") or 1025))
    parser.add_argument("--path", type=Path, default=path)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd tells of every session
    try:
        asyncio.run(_serve_until_told(chosen.host, chosen.port, chosen.path))
    except OSError as problem:
        log.error("the inbox can't take mail on %s:%s: %s", chosen.host, chosen.port, problem)
        return 1
    except sqlite3.Error as problem:
        log.error("the inbox can't write %s: %s", chosen.path, problem)
        return 1
    return 0


async def _serve_until_told(host: str, port: int, path: Path) -> None:
    serving = asyncio.ensure_future(serve(host, port, path))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
