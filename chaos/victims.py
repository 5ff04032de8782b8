"""Dispatchers that are killed: each is the whole of one, in a process of its own."""

import asyncio
import multiprocessing
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from temporalio.client import Client

from activities.message_claims import DispatchRules
from chaos.ground import Ground
from database.base import connect
from tests.activities.dispatching import RULES, dispatcher, running

PATIENCE = 30.0  # seconds
# Goes on soon with what others have left behind.
SURVIVOR = replace(
    RULES,
    lease=timedelta(seconds=1),
    grace=timedelta(seconds=0.2),
    resend_after=timedelta(seconds=0.5),
)
_FORKS = multiprocessing.get_context("forkserver")
# Forked from a process that has done the imports, which take longer than all the rest.
_FORKS.set_forkserver_preload(["tests.activities.dispatching"])


@asynccontextmanager
async def dispatching(
    ground: Ground, port: int, inbox: Path, rules: DispatchRules, *, evidence: bool
) -> AsyncGenerator[ForkServerProcess]:
    """One that sends to the port, killed at the end if not before."""
    process = _FORKS.Process(
        target=dispatch, args=(ground.database_url, port, inbox, evidence, rules)
    )
    process.start()
    try:
        yield process
    finally:
        await kill(process)


async def kill(process: ForkServerProcess) -> None:
    process.kill()
    await asyncio.to_thread(process.join, PATIENCE)
    if process.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"a dispatcher ended by itself ({process.exitcode}), before it was hit")


def dispatch(database: str, port: int, inbox: Path, evidence: bool, rules: DispatchRules) -> None:
    """The main function of a process: the dispatcher, until killed."""
    asyncio.run(_dispatch(database, port, inbox, evidence, rules))


async def _dispatch(
    database: str, port: int, inbox: Path, evidence: bool, rules: DispatchRules
) -> None:
    # No process is told anything here, so no Temporal server is needed: a lazy client.
    client = await Client.connect("127.0.0.1:1", lazy=True)
    activities = dispatcher(
        *(connect(database), client, port, inbox),
        evidence=evidence,
        rules=rules,
        answer_timeout=PATIENCE,
    )
    async with running(activities) as task:
        await task
