"""A profile of the CPU time of every Python thread of a worker, as pstats."""

import cProfile
import pstats
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


@contextmanager
def profiled(path: Path | None) -> Iterator[None]:
    """Write what the threads started meanwhile, and this one, spent their CPU time on."""
    if path is None:
        yield
        return
    profiles: list[cProfile.Profile] = []

    def enable(*_: Any) -> None:
        profile = cProfile.Profile(time.thread_time)
        profiles.append(profile)
        profile.enable()

    def enable_in_thread(frame: FrameType, event: str, argument: object) -> None:
        sys.setprofile(None)
        enable()

    threading.setprofile(enable_in_thread)
    enable()
    try:
        yield
    finally:
        threading.setprofile(None)
        profiles[0].disable()
        merged = pstats.Stats(profiles[0])
        for other in profiles[1:]:
            merged.add(pstats.Stats(other))
        merged.dump_stats(path)


def print_profile(path: Path, lives: int, most: int = 30) -> None:
    """The functions with the most time of their own, in milliseconds per life."""
    stats = pstats.Stats(str(path))
    rows: dict[Any, Any] = stats.stats  # type: ignore[attr-defined]  # undocumented, but stable
    total = sum(row[2] for row in rows.values())
    print(f"worker, Python CPU per life: {1000 * total / lives:.1f} ms (slowed by the profiler)")
    for title, column in (("of its own", 2), ("with what it calls", 3)):
        print(f"\n{'ms':>8} {'calls':>8}  {title}")
        ordered = sorted(rows.items(), key=lambda item: item[1][column], reverse=True)
        for (file, line, name), row in ordered[:most]:
            short = "/".join(file.split("/")[-3:])
            own = 1000 * row[column] / lives
            print(f"{own:8.2f} {row[1] / lives:8.1f}  {name} ({short}:{line})")
