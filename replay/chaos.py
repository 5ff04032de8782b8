"""Kills servers of the running instance while something is played: the supervisor restarts them."""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from supervisor.errors import Refused
from supervisor.run_file import read_run_file

WORKER_AND_TEMPORAL = ("worker", "temporal")
_WAIT_FOR_PID = 180.0


async def kill_on_the_way(
    data_dir: Path,
    times: int,
    lasts: float,
    seed: int,
    say: Callable[[str], None],
    names: Sequence[str] = WORKER_AND_TEMPORAL,
) -> int:
    """SIGKILL each of the named servers `times` times, spread by the seed over `lasts` seconds.

    Each is killed while it runs: a kill waits until the last one has been made good. How many.
    """
    dice = random.Random(seed)
    plan = sorted(
        ((number + dice.random()) / times * lasts, name)
        for name in names
        for number in range(times)
    )
    begun = asyncio.get_running_loop().time()
    killed: dict[str, int] = {}
    for at, name in plan:
        await asyncio.sleep(max(at - (asyncio.get_running_loop().time() - begun), 0))
        pid = await _running(data_dir, name, killed.get(name))
        os.kill(pid, signal.SIGKILL)
        killed[name] = pid
        say(f"killed {name} (pid {pid})")
    return len(plan)


async def _running(data_dir: Path, name: str, dead: int | None) -> int:
    """The pid of a server that runs, another than the one we killed last."""
    waited = 0.0
    while waited < _WAIT_FOR_PID:
        run = read_run_file(data_dir)
        pid = run.pids.get(name) if run else None
        if pid is not None and pid != dead and _is_alive(pid):
            return pid
        await asyncio.sleep(0.1)
        waited += 0.1
    raise Refused(f"{name} has not been restarted within {_WAIT_FOR_PID:.0f} s")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
