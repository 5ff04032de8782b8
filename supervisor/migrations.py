"""Brings the schema to the newest revision before anything that uses it starts."""

import sys
from pathlib import Path

import psycopg

from database.revisions import newest_revisions
from supervisor.children import start_child
from supervisor.postgres_url import libpq_url
from supervisor.service import ROOT, Service


class Migrations(Service):
    """`alembic upgrade head`: done when it ends well; changes nothing when all is current."""

    name = "schema"
    title = "the migration of the database"
    started = "is current"

    def __init__(self, data_dir: Path, database_url: str) -> None:
        super().__init__()
        self.log = data_dir / "logs" / "migrations.log"
        self.environment: dict[str, str] = {}
        self._database_url = database_url

    def start(self) -> None:
        if is_current(self._database_url):
            return
        command = [sys.executable, "-m", "alembic", "upgrade", "head"]
        self._process = start_child(
            command, log=self.log, environment=self.environment, directory=ROOT
        )
        self._wait_until(lambda: self._process is not None and self._process.poll() == 0)


def is_current(database_url: str) -> bool:
    """Whether there is nothing to do, found out without the seconds it takes to import Alembic.

    In doubt the answer is no, and Alembic decides.
    """
    with psycopg.connect(libpq_url(database_url), connect_timeout=5) as connection:
        try:
            applied = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except psycopg.errors.UndefinedTable:
            return False
    return {version for (version,) in applied} == newest_revisions()
