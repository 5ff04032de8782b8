"""The running instance that is played against: its API, and where its outcome is read."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from sqlalchemy.exc import InterfaceError, OperationalError
from temporalio.client import Client
from temporalio.service import RPCError

import temporal_runtime
from database.base import Sessions, connect
from database.inbox import Inbox, InboxUnavailable
from settings import Settings
from supervisor.errors import Refused
from supervisor.run_file import RunFile

T = TypeVar("T")

CONNECTIONS = 16
_TIMEOUT = 30.0
_AWAY = (InterfaceError, OperationalError, RPCError, InboxUnavailable, TimeoutError)
_AWAY_LIMIT = 120.0
_READY_LIMIT = 20.0


@dataclass(frozen=True)
class Instance:
    """Everything a replay needs of it. Made by `opened`."""

    run: RunFile
    http: httpx2.AsyncClient
    sessions: Sessions
    temporal: Client
    inbox: Inbox | None  # None: mail goes out to somebody else's server


@asynccontextmanager
async def opened(run: RunFile) -> AsyncIterator[Instance]:
    """Raises Refused when the instance does not answer."""
    settings = Settings.from_environment()
    try:
        temporal = await temporal_runtime.connect(
            run.addresses.temporal,
            run.temporal_namespace,
            **settings.temporal_options,
        )
    except RuntimeError:
        raise Refused(
            f"Temporal at {run.addresses.temporal} does not answer: is the instance up? "
            "(`python crm.py doctor`)"
        ) from None
    sessions = connect(run.database_url, pool_size=4)
    async with httpx2.AsyncClient(
        base_url=run.addresses.api,
        headers={"Authorization": f"Bearer {run.api_key}"},
        timeout=_TIMEOUT,
        limits=httpx2.Limits(
            max_connections=CONNECTIONS + 4, max_keepalive_connections=CONNECTIONS + 4
        ),
    ) as http:
        try:
            await _wait_until_ready(run, http)
            yield Instance(run, http, sessions, temporal, _inbox(run, settings))
        finally:
            await sessions.kw["bind"].dispose()


async def _wait_until_ready(run: RunFile, http: httpx2.AsyncClient) -> None:
    """A moment, for one that is being restarted."""
    begun = time.monotonic()
    while True:
        with contextlib.suppress(httpx2.TransportError):
            if (await http.get("/readyz", timeout=5)).is_success:
                return
        if time.monotonic() - begun > _READY_LIMIT:
            raise Refused(
                f"the API at {run.addresses.api} is not ready: is the instance up? "
                "(`python crm.py doctor`)"
            )
        await asyncio.sleep(0.5)


async def insist(read: Callable[[], Awaitable[T]]) -> T:
    """Read again while a server is being restarted. Raises Refused when that takes minutes."""
    begun = time.monotonic()
    while True:
        try:
            return await read()
        except _AWAY as problem:
            if time.monotonic() - begun > _AWAY_LIMIT:
                raise Refused(f"a server does not come back ({problem})") from problem
        await asyncio.sleep(1)


def _inbox(run: RunFile, settings: Settings) -> Inbox | None:
    if settings.smtp_host:
        return None
    same = settings.data_dir.absolute() == run.data_dir
    path: Path = settings.inbox if same else run.data_dir / "inbox.sqlite"
    return Inbox(path) if path.exists() else None
