"""The embedded Temporal server: `temporal server start-dev` on a SQLite file, set up as it pays.

    with TemporalServer(data_dir, port, ui_port) as server:   # blocking
        client = await Client.connect(server.address)
        server.kill()                                         # SIGKILL: nothing acknowledged lost
        server.start()

For one machine: the server keeps histories in one SQLite file. `docs/operations.md` says how to
grow past it.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from supervisor.children import start_child
from supervisor.errors import Refused
from supervisor.ports import is_answered
from supervisor.service import Service

RETENTION = "2160h"  # 90 days; the server's own default is one
SEARCH_ATTRIBUTES = {
    "CustomerId": "Keyword",
    "Process": "Keyword",
    "Stage": "Keyword",
    "Owner": "Keyword",
    "DueAt": "Datetime",
}
# What each gains was measured. A lone activity takes 28 ms instead of 200, a short timer or a
# continue-as-new no longer waits a second, and fairness keys work. There is one history shard here,
# which does one write at a time unless told otherwise: on a busy machine a signal waited 90 ms for
# its turn. A shard on SQL may do several.
DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxTimeShift": '"20ms"',
    "history.workflowIdReuseMinimalInterval": '"0s"',
    "matching.enableFairness": "true",
    "history.shardIOConcurrency": "16",
    # A task whose worker died or was too slow is given again; after some tries Temporal would wait
    # for up to ten minutes.
    "history.workflowTaskRetryMaxInterval": '"30s"',
    # So that processes over which our program stumbles can be listed (TemporalReportedProblems).
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute": "3",
}


class TemporalServer(Service):
    """One Temporal server with its web UI, bound to 127.0.0.1.

    State is in `<data_dir>/temporal/temporal.db`, the log in `<data_dir>/logs`. `synchronous` is
    SQLite's: FULL survives a power cut, NORMAL is about twice as fast and survives any kill.
    `ui_port` None runs it without the web UI. `extra` goes to the command line as it is, such as
    the dynamic configuration of time skipping.
    """

    name = "temporal"
    title = "Temporal"

    def __init__(
        self,
        data_dir: Path,
        port: int,
        ui_port: int | None = None,
        synchronous: str = "NORMAL",
        extra: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.data_dir = data_dir.absolute()
        self.port = port
        self.ui_port = ui_port
        self.log = self.data_dir / "logs" / "temporal.log"
        self.database = self.data_dir / "temporal" / "temporal.db"
        self._synchronous = synchronous
        self._extra = tuple(extra)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}" if self.ui_port else ""

    def start(self) -> None:
        """Return once it answers and keeps closed histories for 90 days; at most 60 s."""
        if self.running:
            return
        self._stopping.clear()
        self.database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._process = start_child(self._command(), log=self.log)
        self._wait_until(lambda: is_answered("127.0.0.1", self.port) and self._set_retention())

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


def _options(name: str, values: dict[str, str]) -> list[str]:
    return [part for key, value in values.items() for part in (name, f"{key}={value}")]


def binary() -> Path:
    """The server that came with this environment, never another one on the PATH."""
    found = shutil.which("temporal", path=str(Path(sys.executable).parent))
    if found is None:
        raise Refused("the Temporal server is not installed: run `make clean up`")
    return Path(found)


def binary_version() -> str:
    """Such as `1.9.1 (Server 1.32.0, UI 2.54.1)`."""
    done = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("temporal version ")
