from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from chaos.ground import Ground
from database.base import Sessions
from supervisor.postgres import PostgresServer


@pytest.fixture
def ground(
    sessions: Sessions, postgres: PostgresServer, temporal: WorkflowEnvironment, tmp_path: Path
) -> Ground:
    return Ground(sessions, postgres.admin_url, temporal.client, tmp_path)
