"""`python -m chaos`: the fault runs at full size; exit 1 when anything is not as it must be.

PostgreSQL and Temporal are its own, in a temporary directory, beside what else runs.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

import temporal_runtime
from benchmarks.installation import Installation
from chaos.ground import Ground, Table
from chaos.runs import RUNS, Run
from database.base import connect
from supervisor.postgres import PostgresServer
from tests.conftest import new_database


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers and their files go too
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd tells of each failure
    tables: dict[str, Table] = {}
    with Installation("NORMAL") as installation:
        _note_moments_of_commits(installation.plan.postgres)
        for name in chosen.only or RUNS:
            run = RUNS[name]
            _say(f"{name}: {run.shows}")
            begun = time.monotonic()
            tables[name] = asyncio.run(_perform(run, chosen.size or run.size, installation))
            _say(f"\n{tables[name]}\n{time.monotonic() - begun:.0f} s\n")
    if chosen.json is not None:
        figures = {name: table.as_json() for name, table in tables.items()}
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    wrong = sum(len(table.wrong) for table in tables.values())
    _say(f"{wrong} disagreements" if wrong else "everything is as it must be")
    return 1 if wrong else 0


async def _perform(run: Run, size: int, installation: Installation) -> Table:
    postgres = installation.plan.postgres
    assert postgres is not None
    client = await temporal_runtime.connect(installation.temporal_address)
    with new_database(postgres) as url:
        sessions = connect(url)
        directory = installation.settings.data_dir
        try:
            return await run.run(
                Ground(sessions, postgres.admin_url, client, directory, _say), size
            )
        finally:
            await sessions.kw["bind"].dispose()


def _note_moments_of_commits(postgres: PostgresServer | None) -> None:
    """The opt-out race is judged by them; PostgreSQL takes this setting when it starts."""
    assert postgres is not None
    address = postgres.admin_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    postgres.stop()
    postgres.start()


def _parser() -> argparse.ArgumentParser:
    runs = "\n".join(f"  {name:<14} {run.shows} ({run.size})" for name, run in RUNS.items())
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=f"{__doc__}\nruns (full size):\n{runs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=RUNS, help="run only this")
    parser.add_argument("--size", type=_size, help="another size for every run")
    parser.add_argument("--json", type=Path, help="write the tables here as well")
    return parser


def _size(text: str) -> int:
    size = int(text)
    if size < 1:
        raise ValueError
    return size


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
