"""What the supervisor keeps running: something that starts, answers, dies or is stopped."""

import contextlib
import http.client
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from supervisor.children import kill_group, start_child, tail
from supervisor.errors import Refused

ROOT = Path(__file__).resolve().parent.parent  # where our own programs start


class Service(ABC):
    """One child process. All methods block; `interrupt` may come from another thread.

    Used as a context manager it runs from `start` to `stop`.
    """

    name: str
    title: str
    started: str = "is up"
    log: Path
    stop_signal: int = signal.SIGTERM
    start_limit: float = 60.0

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.running else None

    @property
    def ending(self) -> str:
        """How the last run ended, in words."""
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return "stopped"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    @abstractmethod
    def start(self) -> None:
        """Return once it answers; nothing happens when it runs already.

        Raises:
            Refused: it can't start, with the reason.
        """

    def interrupt(self) -> None:
        """Make a `start` that is under way in another thread give up."""
        self._stopping.set()

    def stop(self, timeout: float = 5.0) -> None:
        """Ask it to end; end it after `timeout` seconds."""
        self._stopping.set()
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()  # also what it may have left in its process group

    def kill(self) -> None:
        """SIGKILL to it and its process group, as a crash would look."""
        if self._process is not None:
            kill_group(self._process, signal.SIGKILL)
            self._process.wait()

    def _wait_until(self, answers: Callable[[], bool], interval: float = 0.03) -> None:
        """Poll until it answers; refuse when it ends, is interrupted or takes too long."""
        deadline = time.monotonic() + self.start_limit
        while not answers():
            if not self.running:
                raise Refused(self._failure(f"failed ({self.ending})"))
            if self._stopping.is_set():
                self.stop(2)
                raise Refused(f"stopped while {self.title} was starting")
            if time.monotonic() > deadline:
                self.kill()
                raise Refused(self._failure(f"did not answer within {self.start_limit:.0f} s"))
            time.sleep(interval)

    def _failure(self, what: str) -> str:
        return f"{self.title} {what}: {tail(self.log) or 'no reason given'} (log: {self.log})"


class Program(Service):
    """One of our own programs."""

    start_limit = 120.0  # a busy machine takes long to import what they are made of

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        answers: Callable[[], bool],
        niceness: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.title = f"the {name}"
        self.log = log
        self._command = command
        self._environment = environment
        self._answers = answers
        self._niceness = niceness
        self.before_start: Callable[[], None] = lambda: None

    def start(self) -> None:
        if self.running:
            return
        self._stopping.clear()
        self.before_start()
        self._process = start_child(
            self._command,
            log=self.log,
            environment=self._environment,
            directory=ROOT,
            niceness=self._niceness,
        )
        self._wait_until(self._answers, interval=0.1)


def answers_ok(host: str, port: int, path: str) -> bool:
    """Whether a GET is answered by 200."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
