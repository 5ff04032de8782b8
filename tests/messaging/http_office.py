"""Providers over HTTP, as real servers on loopback that behave as their documentation says."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from uuid import uuid4


@dataclass
class HttpFault:
    """What happens, `times` times, to a request for one address ("*": to each).

    `status` 0 breaks the connection off after the request; `hang` never answers; `keep` takes the
    message all the same.
    """

    status: int = 0
    body: Mapping[str, Any] | str = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    keep: bool = False
    times: int = 1


class Asked(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    at: float  # monotonic


class Said(NamedTuple):
    status: int
    body: Mapping[str, Any] | str
    headers: Mapping[str, str] = {}


class HttpOffice:
    """A server that takes messages; `sent` is what it has taken, a duplicate twice."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.sent: list[dict[str, Any]] = []
        self.faults: dict[str, HttpFault] = {}
        self.connections = 0
        self.port = 0
        self._taken = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def has_sent(self, many: int) -> None:
        async with self._taken:
            await self._taken.wait_for(lambda: len(self.sent) >= many)

    async def shut(self) -> None:
        """Nobody gets through, and who was talking is cut off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0)

    def address_of(self, asked: Asked) -> str:
        raise NotImplementedError

    def take(self, asked: Asked) -> Said:
        raise NotImplementedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, path, headers, body, time.monotonic())
        self.asked.append(asked)
        said = await self._misbehave(asked) if method == "POST" else Said(404, {})
        if said.status == 0:
            writer.transport.abort()
            return False
        text = said.body if isinstance(said.body, str) else json.dumps(said.body)
        lines = [f"HTTP/1.1 {said.status} -", f"Content-Length: {len(text.encode())}"]
        lines += [f"{name}: {value}" for name, value in said.headers.items()]
        writer.write("\r\n".join([*lines, "", text]).encode())
        await writer.drain()
        return True

    async def _misbehave(self, asked: Asked) -> Said:
        fault = self.faults.get(self.address_of(asked)) or self.faults.get("*")
        if fault is None or fault.times < 1:
            return await self._take(asked)
        fault.times -= 1
        if fault.keep:
            await self._take(asked)
        if fault.hang:
            await asyncio.sleep(3600)
        return Said(fault.status, fault.body, fault.headers)

    async def _take(self, asked: Asked) -> Said:
        async with self._taken:
            said = self.take(asked)
            self._taken.notify_all()
        return said


class ResendOffice(HttpOffice):
    """POST /emails with idempotency keys: resend.com/docs/dashboard/emails/idempotency-keys."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, tuple[bytes, str]] = {}

    def forget_keys(self) -> None:
        """As after 24 hours."""
        self._keys.clear()

    def address_of(self, asked: Asked) -> str:
        return str(json.loads(asked.body)["to"][0]).rpartition("<")[2].removesuffix(">")

    def take(self, asked: Asked) -> Said:
        if asked.headers.get("authorization") != "Bearer re_test":
            return Said(403, {"name": "invalid_api_key", "message": "API key is invalid"})
        key = asked.headers["idempotency-key"]
        if key in self._keys:
            body, known = self._keys[key]
            if body == asked.body:
                return Said(200, {"id": known})
            words = "Same idempotency key used with a different request payload."
            return Said(409, {"name": "invalid_idempotent_request", "message": words})
        known = str(uuid4())
        self._keys[key] = (asked.body, known)
        self.sent.append(json.loads(asked.body))
        return Said(200, {"id": known})


class TwilioOffice(HttpOffice):
    """POST …/Messages.json, which knows no key: twilio.com/docs/messaging/api/message-resource."""

    def address_of(self, asked: Asked) -> str:
        return parse_qs(asked.body.decode())["To"][0]

    def take(self, asked: Asked) -> Said:
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        self.sent.append(form)
        return Said(201, {"sid": f"SM{uuid4().hex}", "status": "queued"})
