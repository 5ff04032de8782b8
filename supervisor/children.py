"""Starts one child process the way everything here is started: own session, own log, no orphan."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

_LAUNCH = Path(__file__).with_name("launch.py")
_LOG_LIMIT = 10 * 2**20


class User(NamedTuple):
    """Whom a child runs as, and the one capability it keeps to reach its files (-1: none)."""

    uid: int
    gid: int
    capability: int = -1


def start_child(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    user: User | None = None,
    directory: Path | None = None,
    death_signal: int = signal.SIGKILL,
    niceness: int = 0,
) -> "subprocess.Popen[bytes]":
    """Start `command` in its own session, its output appended to `log`.

    It ends with us: see `tied_to_us`. `niceness` as nice(1) has it: with 10 it yields to the others
    when the processors are full.
    """
    with open_log(log) as output:
        return subprocess.Popen(
            tied_to_us(command, user=user, death_signal=death_signal, niceness=niceness),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            # Another user may not be able to stand where we stand.
            cwd=directory or ("/" if user else None),
            start_new_session=True,
        )


def tied_to_us(
    command: Sequence[str],
    *,
    user: User | None = None,
    death_signal: int = signal.SIGKILL,
    niceness: int = 0,
) -> list[str]:
    """The words that start `command` as a child that does not outlive us.

    The kernel sends it `death_signal` when the *thread* that started it ends; start it from the
    main thread or from a pool thread that lives as long as the process.
    """
    who = user or User(-1, -1)
    options = [os.getpid(), int(death_signal), who.uid, who.gid, who.capability, niceness]
    return [sys.executable, "-I", "-S", str(_LAUNCH), *map(str, options), "--", *command]


def open_log(path: Path) -> IO[bytes]:
    """Open for appending, bounded first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    bound_log(path)
    return path.open("ab")


def bound_log(path: Path) -> None:
    """Above 10 MiB, move what is there to `<name>.1`; its writers go on at the file's start.

    They append, so emptying the file under them is safe; lines written meanwhile may be lost.
    """
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)


def kill_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Signal a child and all it started; silent when they are gone."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def tail(path: Path, lines: int = 3) -> str:
    """The last lines of a log on one line, for an error message."""
    if not path.exists():
        return ""
    text = path.read_bytes()[-4096:].decode(errors="replace")
    return " / ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())
