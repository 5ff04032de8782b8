"""The short way to know the schema is current agrees with Alembic's own."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from supervisor.migrations import newest_revisions
from supervisor.service import ROOT


def test_the_newest_revisions_are_those_alembic_finds() -> None:
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert newest_revisions(ROOT / "database" / "migrations") == set(scripts.get_heads())
