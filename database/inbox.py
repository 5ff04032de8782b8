"""Reads the local mail inbox: its page, and the evidence of what was really handed over.

The inbox itself is a process of its own (`messaging/inbox.py`); its file is the only thing shared.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

T = TypeVar("T")

_MAIL = "id, message_id, mail_from, rcpt_to, subject, effect, received_at"


class InboxUnavailable(OSError):
    """The inbox's file is not there or can't be read now."""


class KeptMail(NamedTuple):
    id: int
    message_id: str
    mail_from: str
    rcpt_to: str
    subject: str
    effect: str  # our message row's id
    received_at: datetime


class OpenedMail(NamedTuple):
    mail: KeptMail
    headers: list[tuple[str, str]]
    text: str
    html: str  # as received: show it in a sandboxed frame only
    raw: bytes


class KeptText(NamedTuple):
    """An SMS."""

    id: int
    message_id: str
    rcpt_to: str
    text: str
    effect: str
    received_at: datetime


class Duplicate(NamedTuple):
    effect: str
    message_id: str
    times: int


class Inbox:
    """All methods raise InboxUnavailable; safe while the inbox writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def mails(
        self, limit: int = 50, before: int | None = None, to: str = "", after: int = 0
    ) -> list[KeptMail]:
        """The newest first, with an id between `after` and `before`; `to` is part of an address."""
        query = (
            f"SELECT {_MAIL} FROM mails"
            " WHERE id > ? AND id < ? AND instr(lower(rcpt_to), lower(?)) > 0"
        )
        return await self._read(
            lambda inbox: [
                _kept(row)
                for row in inbox.execute(
                    f"{query} ORDER BY id DESC LIMIT ?", (after, before or 2**62, to, limit)
                )
            ]
        )

    async def texts(self, limit: int = 50, before: int | None = None) -> list[KeptText]:
        """Text messages, the newest first."""
        query = (
            "SELECT id, message_id, rcpt_to, text, effect, received_at FROM sms"
            " WHERE id < ? ORDER BY id DESC LIMIT ?"
        )
        return await self._read(
            lambda inbox: [
                KeptText._make((*row[:5], datetime.fromisoformat(row[5])))
                for row in inbox.execute(query, (before or 2**62, limit))
            ]
        )

    async def open(self, mail_id: int) -> OpenedMail | None:
        def find(inbox: sqlite3.Connection) -> tuple[Any, ...] | None:
            query = f"SELECT {_MAIL}, raw FROM mails WHERE id = ?"
            found: tuple[Any, ...] | None = inbox.execute(query, (mail_id,)).fetchone()
            return found

        row = await self._read(find)
        return None if row is None else _opened(_kept(row[:7]), row[7])

    async def count(self) -> int:
        """How many mails there are."""
        count: int = await self._read(
            lambda inbox: inbox.execute("SELECT count(*) FROM mails").fetchone()[0]
        )
        return count

    async def by_message_id(self, message_ids: Collection[str]) -> Mapping[str, datetime]:
        """When each of those that are here, mails and text messages, came first."""
        ids = list(message_ids)
        marks = ",".join("?" * len(ids))
        query = " UNION ALL ".join(
            f"SELECT message_id, received_at FROM {table} WHERE message_id IN ({marks})"
            for table in ("mails", "sms")
        )
        rows = await self._read(lambda inbox: inbox.execute(query, [*ids, *ids]).fetchall())
        first: dict[str, datetime] = {}
        for message_id, received_at in rows:
            moment = datetime.fromisoformat(received_at)
            first[message_id] = min(moment, first.get(message_id, moment))
        return first

    async def duplicates(self) -> list[Duplicate]:
        """Messages that are here more than once."""
        query = (
            "SELECT effect, message_id, count(*) FROM {} WHERE message_id <> ''"
            " GROUP BY message_id HAVING count(*) > 1"
        )
        return await self._read(
            lambda inbox: [
                Duplicate(*row)
                for table in ("mails", "sms")
                for row in inbox.execute(query.format(table))
            ]
        )

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._read_now, query)

    def _read_now(self, query: Callable[[sqlite3.Connection], T]) -> T:
        address = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=10)) as inbox:
                return query(inbox)
        except sqlite3.Error as problem:
            raise InboxUnavailable(f"the mail inbox can't be read: {problem}") from problem


def _kept(row: tuple[Any, ...]) -> KeptMail:
    return KeptMail._make((*row[:6], datetime.fromisoformat(row[6])))


def _opened(mail: KeptMail, raw: bytes) -> OpenedMail:
    parsed = message_from_bytes(raw, policy=default)
    assert isinstance(parsed, EmailMessage)
    return OpenedMail(
        mail,
        headers=[(name, str(value)) for name, value in parsed.items()],
        text=_body(parsed, "plain"),
        html=_body(parsed, "html"),
        raw=raw,
    )


def _body(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    if part is None:
        return ""
    try:
        content = str(part.get_content())
    except LookupError:  # a character set nobody knows
        content = str(part.get_payload())
    return content.replace("\r\n", "\n")
