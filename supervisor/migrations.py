"""Brings the schema to the newest revision before anything that uses it starts."""

import sys
from pathlib import Path

from supervisor.children import start_child
from supervisor.service import ROOT, Service


class Migrations(Service):
    """`alembic upgrade head`: done when it ends well; changes nothing when all is current."""

    name = "schema"
    title = "the migration of the database"
    started = "is current"

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self.log = data_dir / "logs" / "migrations.log"
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        command = [sys.executable, "-m", "alembic", "upgrade", "head"]
        self._process = start_child(
            command, log=self.log, environment=self.environment, directory=ROOT
        )
        self._wait_until(lambda: self._process is not None and self._process.poll() == 0)
