"""What an endpoint may ask for: the caller, a session, the process engine, the signing key."""

import asyncio
import hmac
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client, WorkflowUpdateRPCTimeoutOrCancelledError

from api.errors import Code, Problem, engine_away
from database.base import Sessions

_PATIENCE = 5.0  # seconds for one conversation with Temporal; then 503, and the client repeats
_REST = 1.0  # seconds without another try

_bearer = HTTPBearer(auto_error=False, description="the key in the file that run.json names")


class ProcessEngine:
    """Temporal, connected when first needed and again when it was away at the start."""

    def __init__(self, connect: Callable[[], Awaitable[Client]]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._one_at_a_time = asyncio.Lock()
        self._away_until = 0.0

    @asynccontextmanager
    async def reached(self) -> AsyncIterator[Client]:
        """A client for one conversation, given up after a while so that callers never hang.

        Raises the 503 problem while Temporal is away; for a moment after that without trying, since
        each try would hold a database connection that reading callers need.
        """
        if time.monotonic() < self._away_until:
            raise engine_away()
        try:
            async with asyncio.timeout(_PATIENCE):
                yield await self._connected()
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            self._away_until = time.monotonic() + _REST
            raise engine_away() from None

    async def _connected(self) -> Client:
        if self._client is None:
            async with self._one_at_a_time:
                if self._client is None:
                    try:
                        self._client = await self._connect()
                    except RuntimeError:  # what the SDK raises
                        raise TimeoutError from None
        return self._client


@dataclass(frozen=True)
class Resources:
    """Made once by the composition root."""

    sessions: Sessions
    engine: ProcessEngine
    api_key: str
    signing_key: str
    namespace: str
    temporal_ui_url: str
    inbox: Path
    schema_head: str | None
    links_base: str  # our address as others see it
    resend_secret: bytes | None = None  # what providers sign their events with
    twilio_token: str | None = None


def resources(request: Request) -> Resources:
    found: Resources = request.app.state.resources
    return found


def authenticate(request: Request) -> str:
    """The caller's name. Raises the 401 problem; compared in constant time."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    expected = resources(request).api_key
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        key.strip().encode(), expected.encode()
    ):
        raise Problem(
            Code.UNAUTHENTICATED,
            "the request has no API key, or one that is not known",
            headers={"WWW-Authenticate": 'Bearer realm="perennial"'},
        )
    return "api"


async def _caller(request: Request, _: Annotated[object, Depends(_bearer)]) -> str:
    return authenticate(request)


async def _session(request: Request) -> AsyncGenerator[AsyncSession]:
    shared: AsyncSession | None = getattr(request.state, "session", None)
    if shared is not None:  # the transaction of an Idempotency-Key: committed with its answer
        yield shared
        return
    async with resources(request).sessions.begin() as session:
        yield session


# The function scope commits before the answer is sent: a failed commit must not answer 200.
Session = Annotated[AsyncSession, Depends(_session, scope="function")]
Held = Annotated[Resources, Depends(resources)]
Caller = Annotated[str, Depends(_caller)]
AUTHENTICATED = Depends(_caller)
