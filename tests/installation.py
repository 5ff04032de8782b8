"""An installation run by a real `crm.py`, for tests of the whole and of what survives a kill."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from supervisor.ports import free_port
from supervisor.run_file import RunFile, read_run_file
from supervisor.service import ROOT, answers_ok


class Installation:
    """An installation in a directory of its own, run by a real `crm.py up`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.output = data_dir.with_name("output.txt")
        ports = ("API", "TEMPORAL", "TEMPORAL_UI", "SMTP")
        own = {"CRM_DATA_DIR": str(data_dir), **{f"CRM_{p}_PORT": str(free_port()) for p in ports}}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CRM_")}
        self.environment = {**inherited, **own}

    def up(self, *command: str) -> None:
        """Start it and wait until it is ready. How fast is for a quiet machine to say.

        `command`: instead of `crm.py up`.
        """
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "crm.py", *(command or ["up"])],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: "ready (" in self.said or self.process.poll() is not None, 150)
        assert self.process.poll() is None, self.said

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def run_file(self) -> RunFile:
        run = read_run_file(self.data_dir)
        assert run is not None
        return run

    @property
    def healthy(self) -> bool:
        port = int(self.environment["CRM_API_PORT"])
        return answers_ok("127.0.0.1", port, "/readyz")

    def command(self, *words: str, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """`crm.py …` against it."""
        return subprocess.run(
            [sys.executable, "crm.py", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def down(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)

    def kill_everything(self) -> None:
        for pid in self.run_file.pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
