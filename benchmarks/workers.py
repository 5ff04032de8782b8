"""A worker under measurement: `python -m benchmarks.workers ours|bare [--profile FILE]`.

`ours` is the product's workers as `worker.py` composes them; `bare` is a worker with the same
options for the twin. Both report the steps they have done to the driver.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

import temporal_runtime
from activities.received import ReceivedActivities
from activities.sweeps import SweepActivities
from benchmarks.bare import BARE_QUEUE, BareActivities, BareProcess
from benchmarks.bare_parts import read_script
from benchmarks.profiling import profiled
from benchmarks.reports import ReportingInterceptor
from benchmarks.statements import StatementCounter
from database.base import connect
from settings import Settings
from temporal_sandbox import workflow_runner
from worker import (
    activities_of,
    bulk_worker,
    lifecycle_options,
    lifecycle_worker,
    message_activities,
    messaging_worker,
    signing_key,
    start_messaging,
)


async def work(side: str, *, counts: bool) -> None:
    settings = Settings.from_environment()
    assert settings.database_url is not None
    statements = StatementCounter()
    url = settings.database_url.get_secret_value()
    sessions = connect(url, settings.database_pool_size, ping=False)  # as worker.py does
    if counts:
        statements.attach(sessions.kw["bind"])
    client = await temporal_runtime.connect(settings.temporal_address)
    reporting = ReportingInterceptor(os.environ["BENCH_REPORTS"], statements)
    options = client.config()
    options["interceptors"] = [reporting]
    client = Client(**options)
    if side == "ours":
        messages = message_activities(settings, client, sessions)
        workers = [
            lifecycle_worker(client, sessions),
            messaging_worker(
                client, messages, ReceivedActivities(sessions, client, signing_key(settings))
            ),
            bulk_worker(client, SweepActivities(sessions, client)),
        ]
    else:
        workers = [bare_worker(client, Path(os.environ["BENCH_SCRIPT"]))]
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as running:
        for one in workers:
            await running.enter_async_context(one)
        if side == "ours":
            await start_messaging(client)
        assert settings.ready_file is not None
        settings.ready_file.touch()
        await stopping.wait()
    await sessions.kw["bind"].dispose()


def bare_worker(client: Client, script: Path) -> Worker:
    """The options of the product's worker, whatever they are, on the twin's queue."""
    read_script(script)
    options = lifecycle_options()
    options["workflow_runner"] = workflow_runner("benchmarks.bare_parts")
    return Worker(
        client,
        task_queue=BARE_QUEUE,
        workflows=[BareProcess],
        activities=activities_of(BareActivities(client)),
        **options,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("side", choices=["ours", "bare"])
    parser.add_argument("--count", action="store_true", help="count round trips to PostgreSQL")
    parser.add_argument("--profile", type=Path, help="write a profile of all threads here")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    with profiled(chosen.profile):
        asyncio.run(work(chosen.side, counts=chosen.count))


if __name__ == "__main__":
    main()
