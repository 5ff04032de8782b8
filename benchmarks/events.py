"""`events.*`: how long `POST /api/v1/events` takes at 50 a second while lives run.

The requests are leads and stated needs of known customers without consent: each is stored, told to
the customer's process and recorded there. Meanwhile whole lives run at a quarter of the rate this
machine can take, which is measured first; together they keep it busy, not drowned. Three windows:
a figure is the median of theirs, so that a moment in which the machine stalls is not the answer.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any
from uuid import UUID

import temporal_runtime
from benchmarks.installation import Installation
from benchmarks.life import live_all
from benchmarks.lives import LifeDriver, make_customers, publish_policies
from benchmarks.load import Load, Seen
from benchmarks.reports import listening
from database.base import connect

_PER_S = 50.0
_SECONDS = 20.0  # of a window
_WINDOWS = 3
_KNOWN = 200
_BUSY = 0.25  # of the lives per second that the machine could take
_FIRST_PER_S = 12.5  # while everybody is heard of once: the start of a lifecycle costs the most


async def measure_events(
    installation: Installation, say: Callable[[str], None], *, quick: bool = False
) -> dict[str, Any]:
    sessions = connect(installation.database_url)
    client = await temporal_runtime.connect(installation.temporal_address)
    await publish_policies(sessions)
    seconds, windows = (_SECONDS / 4, 1) if quick else (_SECONDS, _WINDOWS)
    async with listening(installation.reports) as progress:
        with installation.worker("ours"), installation.api() as address:
            customers, clock = await make_customers(sessions, 2_000)
            driver = LifeDriver(client, sessions, progress, clock)
            trial, lives = customers[:60], iter(customers[60:])
            begun = time.perf_counter()
            await live_all(driver.live, trial, 20)
            capacity = len(trial) / (time.perf_counter() - begun)
            say(
                f"events: {windows} windows of {seconds:.0f} s with {_PER_S:.0f}/s,"
                f" beside {capacity * _BUSY:.2f} lives/s"
            )
            running = asyncio.create_task(_keep_living(driver, lives, capacity * _BUSY))
            known, _ = await make_customers(sessions, _KNOWN, consents=False)
            await _send(installation, address, known, _KNOWN, _FIRST_PER_S)
            seen = [
                await _send(installation, address, known, int(_PER_S * seconds), _PER_S)
                for _ in range(windows)
            ]
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    await sessions.kw["bind"].dispose()
    errors = [error for window in seen for error in window.errors]
    for error in errors[:5]:
        say(f"error: {error}")
    hundredths = [quantiles(window.milliseconds, n=100) for window in seen]
    return {
        "p50_ms": round(median(one[49] for one in hundredths), 1),
        "p99_ms": round(median(one[98] for one in hundredths), 1),
        "windows": [
            {"p50_ms": round(one[49], 1), "p99_ms": round(one[98], 1)} for one in hundredths
        ],
        "max_ms": round(max(max(window.milliseconds) for window in seen), 1),
        "errors": len(errors),
        "requests": sum(len(window.milliseconds) for window in seen),
        "per_s": _PER_S,
        "lives_per_s": round(capacity * _BUSY, 2),
    }


async def _send(
    installation: Installation, address: str, known: Sequence[UUID], count: int, per_s: float
) -> Seen:
    load = Load(
        url=f"{address}/api/v1/events",
        api_key=installation.api_key,
        per_s=per_s,
        events=[_event(known, number) for number in range(count)],
    )
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await program.communicate(load.model_dump_json().encode())
    return Seen.model_validate_json(said)


def _event(known: Sequence[UUID], number: int) -> dict[str, Any]:
    event = {"customer_id": str(known[number % len(known)]), "source": "bench"}
    if number % 2:
        return {**event, "kind": "need_stated", "text": "a bigger one"}
    return {**event, "kind": "lead_received"}


async def _keep_living(driver: LifeDriver, customers: Any, per_s: float) -> None:
    async with asyncio.TaskGroup() as lives:
        for customer in customers:
            lives.create_task(driver.live(customer))
            await asyncio.sleep(1 / per_s)
