"""TCP ports of this machine: is one free, and who holds it when it isn't."""

import os
import socket
from pathlib import Path

_LISTEN = "0A"


def free_port() -> int:
    """A port nobody listens on now; for tests and benchmarks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there; a connection in TIME_WAIT does not count."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def is_answered(host: str, port: int, timeout: float = 0.5) -> bool:
    """Whether somebody accepts a connection there."""
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError:
        return False
    return True


def holder(port: int) -> str:
    """Such as `postgres (pid 812)`; empty where the system does not tell us."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*") if sockets else ():
        try:
            if any(_target(link) in sockets for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:  # it ended, or it is another user's
            continue
    return ""


def _target(link: Path) -> str:
    """Of a file descriptor; empty where it has been closed meanwhile."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(fields[9])
    return inodes
