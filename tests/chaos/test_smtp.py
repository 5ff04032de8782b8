"""The fault runs of SMTP at a small size; `make chaos` runs them at full size."""

from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from chaos.ground import Ground
from chaos.random_kills import kill_at_random
from chaos.smtp_crashes import Point, crash_dispatchers
from chaos.smtp_faults import meet_faults
from database.base import connect
from supervisor.postgres import PostgresServer
from tests.conftest import new_database

SIZE = 7


@pytest.mark.parametrize("evidence", [True, False], ids=["with-evidence", "without"])
async def test_a_dispatcher_killed_at_any_point_loses_nothing_and_counts_what_it_can_not_know(
    ground: Ground, evidence: bool
) -> None:
    table = await crash_dispatchers(ground, SIZE, evidence=evidence)
    assert table.wrong == [], str(table)
    assert [row[:3] for row in table.rows] == [[point, SIZE, 1] for point in Point]


async def test_dispatchers_killed_at_random_moments_send_each_message_once(
    postgres: PostgresServer, temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    hits = 0
    for attempt in range(5):  # the few kills of so small a run may all miss
        directory = tmp_path / str(attempt)
        directory.mkdir()
        with new_database(postgres) as url:
            sessions = connect(url)
            ground = Ground(sessions, postgres.admin_url, temporal.client, directory)
            table = await kill_at_random(ground, size=150)
            await sessions.kw["bind"].dispose()
        assert table.wrong == [], str(table)
        [[_, messages, kills, found, again, *_]] = table.rows
        assert messages == 150
        assert int(kills) > 1, str(table)
        hits = int(found) + int(again)
        if hits > 0:
            break
    assert hits > 0, "the kills hit something"


async def test_each_fault_of_a_mail_server_ends_in_its_state_and_is_retried_on_schedule(
    ground: Ground,
) -> None:
    table = await meet_faults(ground, size=5)
    assert table.wrong == [], str(table)
    assert len(table.rows) == 10
