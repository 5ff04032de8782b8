"""What an endpoint may ask for: the caller, a session, the process engine, the signing key."""

import asyncio
import hmac
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError

from api.errors import Code, Problem, engine_away, process_busy
from database.base import Sessions
from database.queries.staff import SignedIn, find_signed_in
from domain.messages import Template
from domain.staff import PROGRAM, Permission, Principal
from domain.templates import Preview, TemplateSources, Verdict

_PATIENCE = 5.0  # seconds for one conversation with Temporal; then 503, and the client repeats
_REST = 1.0  # seconds without another try

SESSION_COOKIE = "perennial_session"
CSRF_HEADER = "X-CSRF-Token"
UNATTENDED_HEADER = "X-Unattended"  # sent by a script, not because of what a person did
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="perennial"'}

_bearer = HTTPBearer(auto_error=False, description="the key in the file that run.json names")


class ProcessEngine:
    """Temporal, connected when first needed and again when it was away at the start."""

    def __init__(self, connect: Callable[[], Awaitable[Client]]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._one_at_a_time = asyncio.Lock()
        self._away_until = 0.0
        self._busy_until = 0.0

    @asynccontextmanager
    async def reached(self, *, command: bool = False) -> AsyncIterator[Client]:
        """A client for one conversation, given up after a while so that callers never hang.

        Raises the 503 problem while Temporal is away, and that of a busy process where only a
        `command` was not judged in time. For a moment after that without trying (commands alone,
        or everybody), since each try holds a database connection that reading callers need.
        """
        self.refuse_while_resting(command=command)
        try:
            async with asyncio.timeout(_PATIENCE):
                yield await self._connected()
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            if command and await self._answers():
                self._busy_until = time.monotonic() + _REST
                raise process_busy() from None
            self._away_until = time.monotonic() + _REST
            raise engine_away() from None

    def refuse_while_resting(self, *, command: bool = False) -> None:
        """Raises the 503 problem. For who keeps something before a process is told of it."""
        now = time.monotonic()
        if now < self._away_until:
            raise engine_away()
        if command and now < self._busy_until:
            raise process_busy()

    async def _answers(self) -> bool:
        """Whether Temporal is there: a process that takes its time says nothing about that."""
        if self._client is None:
            return False
        try:
            async with asyncio.timeout(_REST):
                return await self._client.service_client.check_health()
        except (TimeoutError, RPCError):
            return False

    async def _connected(self) -> Client:
        if self._client is None:
            async with self._one_at_a_time:
                if self._client is None:
                    try:
                        self._client = await self._connect()
                    except RuntimeError:  # what the SDK raises
                        raise TimeoutError from None
        return self._client


class Workshop(Protocol):
    """What makes something of a wording; messaging/workshop.py, given by the composition root."""

    def default(self, template: Template, locale: str) -> TemplateSources: ...

    def samples(self, template: Template) -> dict[str, str]: ...

    async def check(self, template: Template, locale: str, sources: TemplateSources) -> Verdict: ...

    async def preview(
        self,
        template: Template,
        wording: str,
        sources: TemplateSources,
        *,
        reader: Mapping[str, str],
        locale: str,
        zone: str,
        claims: Mapping[str, str],
    ) -> Preview: ...

    def preview_file(
        self, template: Template, *, reader: Mapping[str, str], locale: str, zone: str
    ) -> Preview: ...

    async def close(self) -> None: ...


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
    schema_head: str
    workshop: Workshop
    staff_digest_to: str
    links_base: str  # our address as others see it
    resend_secret: bytes | None = None  # what providers sign their events with
    twilio_token: str | None = None


def resources(request: Request) -> Resources:
    found: Resources = request.app.state.resources
    return found


async def authenticate(request: Request) -> Principal:
    """Who asks: a program by its key, or a member of staff by the cookie of a session.

    Raises the 401 problem; and the 403 of a change that doesn't carry the session's CSRF token.
    """
    known: Principal | None = getattr(request.state, "principal", None)
    if known is not None:
        return known
    if "authorization" in request.headers or SESSION_COOKIE not in request.cookies:
        _check_key(request)
        principal = PROGRAM
    else:
        signed_in = await signed_in_by(request)
        if signed_in is None:
            raise Problem(Code.UNAUTHENTICATED, "the session has ended", headers=_CHALLENGE)
        if request.method not in SAFE_METHODS:
            _check_csrf(request, signed_in.session.csrf_token)
        principal = Principal(
            signed_in.staff.id, signed_in.staff.role, signed_in.staff.one_time_password
        )
    request.state.principal = principal
    return principal


def _check_key(request: Request) -> None:
    """Compared in constant time."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    expected = resources(request).api_key
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        key.strip().encode(), expected.encode()
    ):
        raise Problem(
            Code.UNAUTHENTICATED,
            "the request has no API key, or one that is not known",
            headers=_CHALLENGE,
        )


def _check_csrf(request: Request, expected: str) -> None:
    token = request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(token.encode(), expected.encode()):
        raise Problem(Code.INVALID_CSRF_TOKEN, f"{CSRF_HEADER} is missing or of another session")


async def signed_in_by(request: Request) -> SignedIn | None:
    """The session of the request's cookie, if it is still good.

    A page that brings itself up to date is no sign that somebody is there.
    """
    token = request.cookies.get(SESSION_COOKIE, "")
    if not token:
        return None
    asks_itself = request.headers.get("accept") == "text/event-stream"
    used = not asks_itself and UNATTENDED_HEADER not in request.headers
    async with resources(request).sessions.begin() as session:
        return await find_signed_in(session, token, used=used)


def permit(principal: Principal, permission: Permission) -> None:
    """Raises the 403 problem."""
    if not principal.may(permission):
        raise Problem(Code.FORBIDDEN, f"{principal.role} may not {permission.replace('_', ' ')}")


async def _principal(request: Request, _: Annotated[object, Depends(_bearer)]) -> Principal:
    return await authenticate(request)


async def _caller(principal: Annotated[Principal, Depends(_principal)]) -> str:
    return principal.id


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
Asker = Annotated[Principal, Depends(_principal)]
AUTHENTICATED = Depends(_principal)
