"""`crm.py replay` and `crm.py demo --running`: against an instance that is up."""

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console
from rich.table import Table

from replay.chaos import WORKER_AND_TEMPORAL, kill_on_the_way
from replay.history import BadInput, History
from replay.instance import Instance, insist, opened
from replay.lives import DAYS, make_lives
from replay.olist import read_olist
from replay.people import People
from replay.player import Player, begin_world
from replay.progress import Progress
from replay.reconciliation import Reconciliation, check_conservation, reconcile, settle
from replay.report import print_reconciliation
from replay.staff import demo_staff
from replay.summary import what_happened
from supervisor.errors import Refused
from supervisor.run_file import RunFile

BAD_INPUT = 2  # exit code
_SHOWN = 20
_DEMO_SETTLES = 15.0  # seconds after the last entry


def run_replay(
    run: RunFile,
    directory: Path,
    *,
    day: float,
    limit: int | None = None,
    json_file: Path | None = None,
    check: bool = False,
    zone: str,
    skip_bad_rows: bool = False,
    kills: int = 0,
    seed: int = 1,
) -> int:
    """Play a directory, print and write the reconciliation; the exit code."""
    console = Console()
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise Refused(f"--zone {zone} is not a time zone such as America/Sao_Paulo") from None
    _refuse_unwritable(json_file)
    if kills:
        _refuse_what_is_not_ours(run)
    try:
        history = read_olist(directory, zone=zone, limit=limit, skip_bad_rows=skip_bad_rows)
    except BadInput as bad:
        _print_problems(Console(stderr=True), bad)
        return BAD_INPUT
    try:
        result = asyncio.run(_replay(console, run, directory.name, history, day, kills, seed))
    except KeyboardInterrupt:
        console.print("given up; what has entered goes on in the instance")
        return 130
    print_reconciliation(console, result)
    if json_file is not None:
        json_file.write_text(json.dumps(result.model_dump(mode="json"), indent=2) + "\n")
    return 1 if check and not result.agrees else 0


async def _replay(
    console: Console,
    run: RunFile,
    name: str,
    history: History,
    day: float,
    kills: int,
    seed: int,
) -> Reconciliation:
    begun = time.monotonic()
    async with opened(run) as instance:
        lasts = (history.ends_at - history.begins_at).total_seconds() / 86_400 * day
        console.print(
            f"{len(history.orders):,} orders of {len(history.customers):,} customers, "
            f"{history.begins_at:%Y-%m-%d} to {history.ends_at:%Y-%m-%d}: "
            f"takes {_duration(lasts)}",
            highlight=False,
        )
        world = await begin_world(instance.http, f"replay of {name}"[:200], history.begins_at, day)
        player = Player(instance.http, world, history.entries)
        progress = Progress(console, instance, player, history.ends_at, history.zone)
        async with progress.shown():
            await _play_with_kills(instance, player, progress, lasts, kills, seed)
            progress.doing("waiting until all is settled")
            await insist(lambda: settle(instance, world, progress.doing))
            progress.doing("checking that nothing is lost or twice")
            verdict = await insist(lambda: check_conservation(instance, world))
        elapsed = time.monotonic() - begun
        return await insist(
            lambda: reconcile(instance, history, world, player.tally, verdict, elapsed)
        )


async def _play_with_kills(
    instance: Instance, player: Player, progress: Progress, lasts: float, kills: int, seed: int
) -> None:
    killing = asyncio.create_task(
        kill_on_the_way(instance.run.data_dir, kills, lasts, seed, progress.note)
    )
    try:
        await player.play()
    finally:
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing


def run_demo(run: RunFile, *, customers: int, seed: int, day: float, stay: bool) -> int:
    """Play generated lives and print what happened; the exit code.

    `stay`: its clock goes on, so its people do as well, until Ctrl-C.
    """
    console = Console()
    try:
        asyncio.run(_demo(console, run, customers, seed, day, stay))
    except KeyboardInterrupt:
        return 130
    return 0


async def _demo(
    console: Console, run: RunFile, customers: int, seed: int, day: float, stay: bool
) -> None:
    begins_at = datetime.now(UTC) - timedelta(days=DAYS)
    history = make_lives(customers, seed, begins_at)
    async with opened(run) as instance:
        lasts = _duration(DAYS * day)
        console.print(
            f"{customers:,} customers, {DAYS} days in {lasts}; look at it meanwhile:",
            highlight=False,
        )
        _print_addresses(console, run)
        way_in = await asyncio.to_thread(_way_in, run)
        console.print(way_in, highlight=False, markup=False)
        world = await begin_world(instance.http, f"demo, seed {seed}", begins_at, day)
        player = Player(instance.http, world, history.entries)
        people = People(instance, world, seed)
        progress = Progress(console, instance, player, history.ends_at, history.zone)
        async with people.about():
            async with progress.shown():
                await player.play()
                progress.doing("waiting until all is settled")
                await insist(lambda: settle(instance, world, progress.doing, _DEMO_SETTLES))
            console.print(await what_happened(instance, world, people))
            for refused in player.tally.refused:
                console.print(refused, style="yellow", markup=False, highlight=False)
            _print_addresses(console, run)
            console.print(way_in, highlight=False, markup=False)
            if stay:
                said = "  no order comes any more; customers and staff go on until Ctrl-C"
                console.print(said, highlight=False)
                await asyncio.Event().wait()


def _print_addresses(console: Console, run: RunFile) -> None:
    addresses = Table.grid(padding=(0, 2))
    for what, address in (
        ("console", run.addresses.console),
        ("API docs", run.addresses.docs),
        ("Temporal web UI", run.addresses.temporal_ui),
        ("mail inbox", run.addresses.inbox),
    ):
        addresses.add_row(f"  {what}", address or "-")
    console.print(addresses, highlight=False)


def _way_in(run: RunFile) -> str:
    """How to sign in to the console, in words."""
    try:
        staff = demo_staff(run)
    except Refused as refusal:
        return f"  {refusal}"
    everybody = ", ".join(staff.emails.values())
    return (
        f"  sign in to the console as any of {everybody};\n"
        f"  the password of all of them is {staff.password}"
    )


def _refuse_what_is_not_ours(run: RunFile) -> None:
    for name in WORKER_AND_TEMPORAL:
        if name not in run.pids:
            raise Refused(f"--kill: {name} was not started by this instance; leave --kill out")


def _refuse_unwritable(path: Path | None) -> None:
    """Before half an hour of work rather than after it."""
    if path is None:
        return
    try:
        path.touch()
    except OSError as problem:
        raise Refused(f"--json {path} can't be written ({problem.strerror})") from None


def _print_problems(console: Console, bad: BadInput) -> None:
    for problem in bad.problems[:_SHOWN]:
        console.print(str(problem), markup=False, highlight=False, soft_wrap=True)
    if len(bad.problems) > _SHOWN:
        console.print(f"and {len(bad.problems) - _SHOWN:,} more", highlight=False)
    rows = any(problem.row not in (None, 1) for problem in bad.problems)
    remedy = ", or leave bad rows out with --skip-bad-rows" if rows else ""
    console.print(
        f"crm: {len(bad.problems):,} faults in the files; nothing was sent. Correct them{remedy}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
