"""An installation for measurements: the product's own servers and programs, beside what else runs.

State is in a temporary directory that goes at the end; every port is one found free.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from settings import Settings
from supervisor.plan import WORKER_NICENESS, Plan, make_plan
from supervisor.ports import free_port
from supervisor.service import Program, answers_ok


class Installation:
    """PostgreSQL with the schema, Temporal and the inbox; workers and the API on demand."""

    def __init__(self, synchronous: str) -> None:
        # Not below a directory closed to others: PostgreSQL runs as another user than root.
        self._directory = Path(tempfile.mkdtemp(prefix="perennial-bench-"))
        self._directory.chmod(0o711)
        # What the environment says about the caller's own installation is not for this one.
        for name in [name for name in os.environ if name.startswith("CRM_")]:
            del os.environ[name]
        # Without bytecode the sandbox compiles the workflows anew for each of their instances.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        self.settings = Settings(
            _env_file=None,
            data_dir=self._directory,
            api_port=free_port(),
            temporal_port=free_port(),
            temporal_ui_port=free_port(),
            smtp_port=free_port(),
            temporal_sqlite_synchronous=synchronous,
            smtp_host="",
            public_url="",
        )
        self.plan: Plan = make_plan(self.settings)
        self.reports = self._directory / "reports.sock"
        self.script = self._directory / "bare.json"
        self._workers = 0

    def __enter__(self) -> Self:
        try:
            for service in (
                self.plan.postgres,
                self.plan.temporal,
                self.plan.migrations,
                self.plan.inbox,
            ):
                assert service is not None
                service.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: object, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for service in reversed(self.plan.services):
            service.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def temporal_address(self) -> str:
        return self.plan.environment["CRM_TEMPORAL_ADDRESS"]

    @property
    def database_url(self) -> str:
        return self.plan.database_url

    @property
    def temporal_pid(self) -> int:
        assert self.plan.temporal is not None
        assert self.plan.temporal.pid is not None
        return self.plan.temporal.pid

    @property
    def postgres_pid(self) -> int:
        assert self.plan.postgres is not None
        assert self.plan.postgres.pid is not None
        return self.plan.postgres.pid

    @contextmanager
    def worker(self, *arguments: str, **environment: str) -> Iterator[int]:
        """`python -m benchmarks.workers …` while the context lasts; its process id."""
        self._workers += 1
        ready = self._directory / f"worker-{self._workers}.ready"
        program = ["-m", "benchmarks.workers", *arguments]
        with self._program("worker", program, ready, environment) as worker:
            assert worker.pid is not None
            yield worker.pid

    @contextmanager
    def api(self) -> Iterator[str]:
        """The product's API; its address."""
        assert self.plan.api is not None
        with self.plan.api:
            yield self.plan.addresses.api

    @contextmanager
    def bare_pages(self) -> Iterator[str]:
        """A FastAPI that answers the bytes it was given, served as the API is; its address."""
        port = free_port()
        options = ["--port", str(port), "--no-server-header", "--no-access-log"]
        program = Program(
            "bare pages",
            [sys.executable, "-m", "uvicorn", "benchmarks.bare_pages:app", *options],
            log=self._directory / "logs" / "bare-pages.log",
            environment=self.plan.environment,
            answers=lambda: answers_ok("127.0.0.1", port, "/ready"),
        )
        with program:
            yield f"http://127.0.0.1:{port}"

    @property
    def api_key(self) -> str:
        return (self._directory / "secrets" / "api_key").read_text().strip()

    def _program(
        self, name: str, arguments: Sequence[str], ready: Path, own: Mapping[str, str]
    ) -> Program:
        environment = {
            **self.plan.environment,
            **own,
            "CRM_READY_FILE": str(ready),
            "BENCH_REPORTS": str(self.reports),
            "BENCH_SCRIPT": str(self.script),
        }
        return Program(
            name,
            [sys.executable, *arguments],
            log=self._directory / "logs" / f"{name}.log",
            environment=environment,
            answers=ready.exists,
            niceness=WORKER_NICENESS,
        )
