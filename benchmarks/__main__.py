"""`python -m benchmarks`: measure the speed claims, print them and write `var/bench.json`."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.console import FULL, QUICK, measure_console
from benchmarks.cpu import machine
from benchmarks.events import measure_events
from benchmarks.installation import Installation
from benchmarks.life import LifeBench, Scale
from benchmarks.messages import measure_messages
from benchmarks.parked import measure_parked
from benchmarks.profiling import print_profile
from benchmarks.rendering import measure_rendering

_PHASES = ("life", "events", "parked", "messages", "render", "console")
_QUIET = 1.0  # load average


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers and their files go too
    if chosen.profile:
        _profile(chosen)
        return
    phases = chosen.only or _PHASES
    figures: dict[str, Any] = {}
    before = machine()
    if before["load"] > _QUIET:
        _say(f"this machine is busy (load {before['load']}): rates will be too low and uneven")
    for name in phases:
        figures[name] = _MEASURE[name](chosen)
    figures["machine"] = before
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    written = json.loads(chosen.json.read_text()) if chosen.only and chosen.json.exists() else {}
    chosen.json.write_text(json.dumps({**written, **figures}, indent=2) + "\n")
    _say(json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=_PHASES, help="measure only this")
    parser.add_argument("--quick", action="store_true", help="small numbers, for a first look")
    parser.add_argument("--lives", type=int, help="of each round")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--concurrency", type=int, default=50, help="lives at the same time")
    parser.add_argument("--json", type=Path, default=Path("var/bench.json"))
    parser.add_argument("--profile", action="store_true", help="profile the worker instead")
    parser.add_argument(
        "--synchronous",
        choices=["FULL", "NORMAL"],
        default="NORMAL",
        help="of Temporal's SQLite; the product's default is NORMAL",
    )
    return parser


def _life(chosen: argparse.Namespace) -> dict[str, Any]:
    scale = _scale(chosen)
    _say(f"life: {scale.rounds} rounds of {scale.lives} lives, {scale.concurrency} at a time")
    with Installation(chosen.synchronous) as installation:
        return asyncio.run(LifeBench(installation, _say).measure(scale)).as_json()


def _events(chosen: argparse.Namespace) -> dict[str, Any]:
    with Installation(chosen.synchronous) as installation:
        return asyncio.run(measure_events(installation, _say, quick=chosen.quick))


def _parked(chosen: argparse.Namespace) -> dict[str, Any]:
    with Installation(chosen.synchronous) as installation:
        return asyncio.run(measure_parked(installation, _say, quick=chosen.quick))


def _render(chosen: argparse.Namespace) -> dict[str, Any]:
    return asyncio.run(measure_rendering(_say, quick=chosen.quick))


def _messages(chosen: argparse.Namespace) -> dict[str, Any]:
    with Installation(chosen.synchronous) as installation:
        return asyncio.run(measure_messages(installation, _say, quick=chosen.quick))


def _console(chosen: argparse.Namespace) -> dict[str, Any]:
    size = QUICK if chosen.quick else FULL
    with Installation(chosen.synchronous) as installation:
        return asyncio.run(measure_console(installation, _say, size))


_MEASURE = {
    "life": _life,
    "events": _events,
    "parked": _parked,
    "messages": _messages,
    "render": _render,
    "console": _console,
}


def _profile(chosen: argparse.Namespace) -> None:
    path = chosen.json.with_name("worker.pstats")
    path.parent.mkdir(parents=True, exist_ok=True)
    with Installation(chosen.synchronous) as installation:
        bench = LifeBench(installation, _say)
        lives = asyncio.run(bench.profile(_scale(chosen), path.absolute()))
    print_profile(path, lives)


def _scale(chosen: argparse.Namespace) -> Scale:
    lives, rounds = (40, 1) if chosen.quick else (300, 3)
    return Scale(chosen.lives or lives, chosen.rounds or rounds, chosen.concurrency)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    # Run as `crm.py bench` the command line is another program's.
    main([] if Path(sys.argv[0]).name == "crm.py" else None)
