"""`crm.py fill`: with its progress shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import rich.progress
from rich.console import Console

from replay.fill.filling import Progress, Size, fill, remove
from supervisor.errors import Refused


def run_fill(url: str, size: Size, *, seed: int, processes: int, yes: bool) -> None:
    console = Console(highlight=False)
    now = datetime.now(UTC)
    left = "what is there `crm.py fill --remove` takes out"
    with _shown(console, left) as progress:
        fill(
            *(url, size),
            seed=seed,
            now=now,
            processes=processes,
            beside_real=yes,
            progress=progress,
        )
    console.print(
        f"{size.customers:,} customers, {size.orders:,} orders and {size.lines:,} lines of their "
        "timelines are there; `crm.py fill --remove` takes them out"
    )


def run_remove(url: str, *, processes: int) -> None:
    console = Console(highlight=False)
    with _shown(console, "either nothing is taken out, or all") as progress:
        removed = remove(url, processes=processes, progress=progress)
    console.print(f"{removed:,} filled customers and all that was theirs are gone")


@contextmanager
def _shown(console: Console, left: str) -> Iterator[Progress]:
    """What was `left` by an end before its time is said in the one line about it."""
    with rich.progress.Progress(
        "{task.description}",
        rich.progress.BarColumn(),
        "{task.percentage:>3.0f} %",
        rich.progress.TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        shown = bar.add_task("starting", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        try:
            yield progress
        except KeyboardInterrupt:
            raise Refused(f"stopped by Ctrl-C; {left}") from None
        except psycopg.Error as problem:
            reason = str(problem).strip().splitlines()[0]
            raise Refused(f"PostgreSQL: {reason}; {left}") from None
