"""One supervisor per data directory: a lock the kernel lets go of when its holder dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from supervisor.errors import Refused


@contextlib.contextmanager
def exclusive(data_dir: Path) -> Iterator[int | None]:
    """Hold the data directory. Yields the pid of a former holder that did not stop cleanly."""
    path = data_dir / "supervisor.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise not_writable(data_dir, problem) from None
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"{data_dir} is in use by the instance with pid {file.read().strip() or '?'}: "
                "stop that one, or set CRM_DATA_DIR (and the ports) for a second"
            ) from None
        former = file.read().strip()
        _rewrite(file.fileno(), str(os.getpid()))
        yield int(former) if former.isdecimal() else None
        _rewrite(file.fileno(), "")


def holder_pid(data_dir: Path) -> int | None:
    """The pid of the supervisor that runs on this data directory now."""
    path = data_dir / "supervisor.lock"
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdecimal() else None
    return None


def not_writable(data_dir: Path, problem: OSError) -> Refused:
    return Refused(
        f"cannot write to the data directory {data_dir} ({problem.strerror}): "
        "set CRM_DATA_DIR to a directory you may write to"
    )


def _rewrite(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
