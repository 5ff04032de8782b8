"""Migrations make what the models say, keep data on the way, and are known to be current."""

import re
from collections.abc import Generator

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from database.revisions import newest_revisions
from supervisor.postgres import PostgresServer
from supervisor.postgres_url import libpq_url
from supervisor.service import ROOT
from tests.conftest import new_database

_MESSAGE = """
INSERT INTO messages (key, workflow_id, step, template, message_class, purpose, channel, context,
    state, asked_at, attempts, possible_duplicate, accepted_at)
VALUES (%s, 'customer/1', 'step', %s, 'transactional', 'orders', 'email', '{}',
    %s, now(), 0, false, now()) RETURNING id
"""
_REPORT = """
INSERT INTO delivery_reports (source, event_id, kind, message_id, provider, said, reported_at)
VALUES ('mail', %s, 'delivered', %s, 'smtp', 'ok', now())
"""
_ANSWER = """
INSERT INTO received_mails (digest, source, rcpt_to, raw, left_out, answers)
VALUES (%s, 'smtp', '[]', '', 0, %s)
"""
_FOLDED = "SELECT pg_get_functiondef('folded(text)'::regprocedure)"
_SUPPRESSION = """
INSERT INTO suppressions (channel, address, reason, purpose)
VALUES ('email', 'a@example.com', 'complaint', 'marketing'), ('email', 'a@example.com', 'x', NULL)
"""


# What PostgreSQL makes of the schema, beyond what Alembic compares.
_SCHEMA = {
    "columns": """
        SELECT table_name || '.' || column_name, concat_ws(' ', data_type,
            character_maximum_length, is_nullable, column_default, generation_expression)
        FROM information_schema.columns WHERE table_schema = 'public'
    """,
    "constraints": """
        SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    """,
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "functions": """
        SELECT oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    """,
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
}


@pytest.fixture
def empty_database_url(postgres: PostgresServer) -> Generator[str]:
    with new_database(postgres, template="template0") as url:
        yield url


def test_the_migrations_make_of_nothing_what_the_models_say(
    empty_database_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_DATABASE_URL", empty_database_url)
    config = Config(ROOT / "alembic.ini")
    command.upgrade(config, "head")
    command.check(config)
    with (
        psycopg.connect(libpq_url(empty_database_url)) as migrated,
        psycopg.connect(libpq_url(database_url)) as modelled,
    ):
        migrated.execute("DROP TABLE alembic_version")
        for what, sql in _SCHEMA.items():
            found, wanted = ({tuple(r) for r in c.execute(sql)} for c in (migrated, modelled))
            assert (what, found - wanted, wanted - found) == (what, set(), set())


def test_the_newest_revisions_are_those_alembic_finds() -> None:
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert newest_revisions() == set(scripts.get_heads())


@pytest.mark.own_database
def test_whoever_goes_back_keeps_what_is_known_there_and_can_go_on_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came after 0003 is deleted with all that refers to it."""
    monkeypatch.setenv("CRM_DATABASE_URL", database_url)
    config = Config(ROOT / "alembic.ini")
    with psycopg.connect(libpq_url(database_url)) as connection:
        folded = connection.execute(_FOLDED).fetchone()
        for template in ("order_confirmed", "sms_help", "confirm_opt_in"):
            about = connection.execute(_MESSAGE, [template, template, "accepted"]).fetchone()
            assert about is not None
            connection.execute(_REPORT, [template, *about])
            connection.execute(_ANSWER, [template, *about])
        connection.execute(_MESSAGE, ["left behind", "order_late", "sending"])
        connection.execute(_SUPPRESSION)
    command.stamp(config, "head")
    command.downgrade(config, "0003")
    command.upgrade(config, "head")
    with psycopg.connect(libpq_url(database_url)) as connection:
        messages = connection.execute("SELECT key, provider FROM messages ORDER BY key").fetchall()
        assert connection.execute(_FOLDED).fetchone() == folded, "the tables' is another"
        [suppression] = connection.execute("SELECT reason FROM suppressions").fetchall()
    assert messages == [("left behind", "smtp"), ("order_confirmed", None)]
    assert suppression == ("x",)


@pytest.mark.own_database
def test_what_can_be_built_before_an_upgrade_is_what_the_upgrade_wants(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = (ROOT / "docs" / "operations.md").read_text()
    [statement] = re.findall(r"^CREATE INDEX CONCURRENTLY ix_events[^;]+;", told, re.M)
    monkeypatch.setenv("CRM_DATABASE_URL", database_url)
    config = Config(ROOT / "alembic.ini")
    command.stamp(config, "head")
    command.downgrade(config, "0014")
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute(statement.encode())
    command.upgrade(config, "head")
    command.check(config)
