"""What providers over HTTP share: kept connections, time limits, and what a lost answer means."""

import asyncio
import math
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from messaging.provider import Answer, Outcome, OutgoingMessage
from messaging.slots import Slots

LONGEST_ANSWER = 500
_NOT_CONNECTED = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)
_IDLE_LIMIT = 5.0  # seconds; a connection that rests for longer may be closed under us


class HttpProvider(ABC):
    """Implements messaging.provider.Provider around one request a message.

    A request that was begun and not answered leaves the outcome unknown: only a connection that
    never came about is certain. Times in seconds; the answer's limit is for all of it.
    """

    name: str
    repeat_within: timedelta | None = None

    def __init__(
        self,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        login: tuple[str, str] | None = None,
        connections: int = 8,
        connect_timeout: float = 10.0,
        answer_timeout: float = 20.0,
    ) -> None:
        self._client = httpx2.AsyncClient(
            base_url=url,
            headers=headers,
            auth=login,
            timeout=httpx2.Timeout(answer_timeout, connect=connect_timeout),
            limits=httpx2.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=_IDLE_LIMIT,
            ),
            trust_env=False,  # settings alone say where messages go
        )
        self._limit = connect_timeout + answer_timeout
        self._slots = Slots(connections)

    async def send(self, message: OutgoingMessage) -> Answer:
        try:
            request = self._request(message)
        except ValueError as problem:
            return Answer(Outcome.PERMANENT, f"can't be written as a message: {problem}")
        if isinstance(request, Answer):
            return request
        async with self._slots.taken(urgent=message.urgent):
            if not message.still_ours():
                return Answer(Outcome.TRANSIENT, "held up for too long; not sent")
            try:
                async with asyncio.timeout(self._limit):
                    response = await self._client.send(request)
            except _NOT_CONNECTED as problem:
                return out_of_reach(str(problem) or type(problem).__name__)
            except (httpx2.HTTPError, TimeoutError) as problem:
                lost = f"lost after the request: {problem or type(problem).__name__}"
                return Answer(Outcome.UNKNOWN, lost[:LONGEST_ANSWER], nobody=True)
        return self._answer(response)

    async def reachable(self) -> bool:
        try:
            response = await self._client.get("/")
        except httpx2.HTTPError:
            return False
        return response.status_code < 500

    async def close(self) -> None:
        await self._client.aclose()

    @abstractmethod
    def _request(self, message: OutgoingMessage) -> httpx2.Request | Answer:
        """The request, or the answer where there is nothing to ask. Raises ValueError."""

    @abstractmethod
    def _answer(self, response: httpx2.Response) -> Answer:
        """What the provider has made of it."""


def fields_of(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object in the answer; an empty one where there is none."""
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def out_of_reach(said: str, retry_after: timedelta | None = None) -> Answer:
    """It was certainly not taken, and no other message would be."""
    return Answer(Outcome.TRANSIENT, said[:LONGEST_ANSWER], retry_after, nobody=True)


def retry_after(response: httpx2.Response) -> timedelta | None:
    """Retry-After, in seconds or as a date (RFC 9110, 10.2.3); None for what is neither."""
    given = response.headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            at = parsedate_to_datetime(given)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return timedelta(seconds=min(max(seconds, 0.0), 86_400.0)) if math.isfinite(seconds) else None
