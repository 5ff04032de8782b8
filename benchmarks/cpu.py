"""CPU time and memory of processes, seen from outside; and how busy the machine is."""

import os
import time

import psutil  # type: ignore[import-untyped]  # it has no types of its own


def cpu_seconds(pid: int, *, with_children: bool = False) -> float:
    """User and system time so far; of a postmaster with its backends, those that ended too."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    total = float(times.user + times.system)
    if with_children:
        total += float(times.children_user + times.children_system)
        for child in process.children():
            try:
                spent = child.cpu_times()
            except psutil.NoSuchProcess:  # it ended just now: its parent will have its time
                continue
            total += float(spent.user + spent.system)
    return total


def resident_kb(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss) // 1024


def machine() -> dict[str, float]:
    """What figures have to be read with: on a busy machine CPU time itself gets longer."""
    begun = time.process_time()
    total = 0
    for number in range(2_000_000):
        total += number
    return {
        "cores": os.cpu_count() or 0,
        "load": round(os.getloadavg()[0], 1),
        "loop_ms": round(1000 * (time.process_time() - begun), 1),
    }
