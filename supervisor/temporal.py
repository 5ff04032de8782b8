"""The embedded Temporal server: `temporal server start-dev` on a SQLite file, set up as it pays.

    with TemporalServer(data_dir, port, ui_port) as server:   # blocking
        client = await Client.connect(server.address)
        server.kill()                                         # SIGKILL: nothing acknowledged lost
        server.start()

For one machine: the server keeps histories in one SQLite file. `docs/operations.md` says how to
grow past it.
"""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from supervisor.children import kill_group, start_child, tail
from supervisor.errors import Refused

RETENTION = "2160h"  # 90 days; the server's own default is one
SEARCH_ATTRIBUTES = {
    "CustomerId": "Keyword",
    "Process": "Keyword",
    "Stage": "Keyword",
    "Owner": "Keyword",
    "DueAt": "Datetime",
}
# Measured gains of each: spec temporal.md §1. A lone activity takes 28 ms instead of 200, a short
# timer or a continue-as-new no longer waits a second, and fairness keys work.
DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxTimeShift": '"20ms"',
    "history.workflowIdReuseMinimalInterval": '"0s"',
    "matching.enableFairness": "true",
}
_START_LIMIT = 60.0


class TemporalServer:
    """One Temporal server with its web UI, bound to 127.0.0.1.

    State is in `<data_dir>/temporal/temporal.db`, the log in `<data_dir>/logs`. `synchronous` is
    SQLite's: FULL survives a power cut, NORMAL is about twice as fast and survives any kill.
    `ui_port` None runs it without the web UI. `extra` goes to the command line as it is, such as
    the dynamic configuration of time skipping.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        ui_port: int | None = None,
        synchronous: str = "FULL",
        extra: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.ui_port = ui_port
        self.log = self.data_dir / "logs" / "temporal.log"
        self.database = self.data_dir / "temporal" / "temporal.db"
        self._synchronous = synchronous
        self._extra = tuple(extra)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}" if self.ui_port else ""

    @property
    def process(self) -> "subprocess.Popen[bytes] | None":
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self.running and self._process else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it answers and keeps closed histories for 90 days; at most 60 s."""
        if self.running:
            return
        self._stopping.clear()
        self.database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._process = start_child(self._command(), log=self.log)
        deadline = time.monotonic() + _START_LIMIT
        while not (self._listens() and self._set_retention()):
            if self._process.poll() is not None:
                raise Refused(self._failure("does not start"))
            if self._stopping.is_set():
                raise Refused("stopped while Temporal was starting")
            if time.monotonic() > deadline:
                self.stop()
                raise Refused(self._failure(f"did not answer within {_START_LIMIT:.0f} s"))
            time.sleep(0.03)

    def stop(self, timeout: float = 5.0) -> None:
        self._stopping.set()
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            kill_group(self._process, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _command(self) -> list[str]:
        ui = ["--ui-port", str(self.ui_port)] if self.ui_port else ["--headless"]
        return [
            *(str(binary()), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self.port)),
            *ui,
            *("--db-filename", str(self.database), "--log-level", "warn"),
            *("--sqlite-pragma", "journal_mode=WAL"),
            *("--sqlite-pragma", f"synchronous={self._synchronous}"),
            *_options("--dynamic-config-value", DYNAMIC_CONFIG),
            *_options("--search-attribute", SEARCH_ATTRIBUTES),
            *("--ui-disable-news-fetch", "--color", "never"),
            *self._extra,
        ]

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _set_retention(self) -> bool:
        """Sets what may be set already; a repeat changes nothing."""
        command = ["operator", "namespace", "update", "--namespace", "default"]
        done = subprocess.run(
            [binary(), *command, "--retention", RETENTION, "--address", self.address],
            capture_output=True,
            timeout=15,
            check=False,
        )
        return done.returncode == 0

    def _failure(self, what: str) -> str:
        return f"Temporal {what}: {tail(self.log) or 'no reason given'} (log: {self.log})"


def _options(name: str, values: dict[str, str]) -> list[str]:
    return [part for key, value in values.items() for part in (name, f"{key}={value}")]


def binary() -> Path:
    """The server that came with this environment, never another one on the PATH."""
    found = shutil.which("temporal", path=str(Path(sys.executable).parent))
    if found is None:
        raise Refused("the Temporal server is not installed: run `make .venv`")
    return Path(found)


def binary_version() -> str:
    """Such as `1.9.1 (Server 1.32.0, UI 2.54.1)`."""
    done = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("temporal version ")
