"""Text messages kept in the local inbox, through the same protocol as any SMS provider."""

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from messaging.inbox import open_inbox
from messaging.provider import Answer, Outcome, OutgoingMessage

_INSERT = "INSERT INTO sms (message_id, rcpt_to, text, effect, received_at) VALUES (?, ?, ?, ?, ?)"


class LocalSms:
    """Implements messaging.provider.Provider on the inbox's file."""

    name = "local_sms"
    repeat_within = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._one_at_a_time = asyncio.Lock()
        self._connection: sqlite3.Connection | None = None

    async def send(self, message: OutgoingMessage) -> Answer:
        if not message.address.removeprefix("+").isdigit():
            return Answer(Outcome.PERMANENT, "not a phone number", bad_address=True)
        now = datetime.now(UTC).isoformat()
        row = (message.message_id, message.address, message.text.strip(), message.effect, now)
        try:
            async with self._one_at_a_time:
                await asyncio.to_thread(self._keep, row)
        except (sqlite3.Error, OSError) as problem:
            return Answer(Outcome.TRANSIENT, str(problem), nobody=True)
        return Answer(Outcome.ACCEPTED, "kept")

    async def reachable(self) -> bool:
        return True  # it is a file, and we are the ones who write it

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _keep(self, row: tuple[str, ...]) -> None:
        if self._connection is None:
            self._connection = open_inbox(self._path)
        self._connection.execute(_INSERT, row)
