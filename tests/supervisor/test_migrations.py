"""The schema goes up and down with data in it, and the short way to know it is current is right."""

import re

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from database.revisions import newest_revisions
from supervisor.service import ROOT

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
    address = database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address) as connection:
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
    with psycopg.connect(address) as connection:
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
    address = database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(statement.encode())
    command.upgrade(config, "head")
    command.check(config)
