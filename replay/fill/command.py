"""`crm.py fill`: with its progress shown."""

from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console

from replay.fill.filling import Progress, Size, fill, remove


def run_fill(url: str, size: Size, *, seed: int, yes: bool) -> None:
    console = Console(highlight=False)
    with _shown(console) as progress:
        fill(url, size, seed=seed, beside_real=yes, progress=progress)
    console.print(
        f"{size.customers:,} customers, {size.orders:,} orders and {size.lines:,} lines of their "
        "timelines are there; `crm.py fill --remove` takes them out"
    )


def run_remove(url: str) -> None:
    console = Console(highlight=False)
    with _shown(console) as progress:
        removed = remove(url, progress)
    console.print(f"{removed:,} filled customers and all that was theirs are gone")


@contextmanager
def _shown(console: Console) -> Iterator[Progress]:
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

        yield progress
