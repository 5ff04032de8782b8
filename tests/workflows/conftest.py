"""One worker and one database for all tests of the processes: a worker takes seconds to start."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from database.base import connect
from supervisor.postgres import PostgresServer
from tests.conftest import new_database
from tests.driving import Drive
from tests.record_histories import keep
from worker import lifecycle_worker


@pytest.fixture(scope="package")
async def driven(temporal: WorkflowEnvironment, postgres: PostgresServer) -> AsyncGenerator[Drive]:
    with new_database(postgres) as url:
        sessions = connect(url)
        async with lifecycle_worker(temporal.client, sessions):
            yield Drive(temporal, sessions)
        await sessions.kw["bind"].dispose()


@pytest.fixture
async def drive(
    driven: Drive, only_my_processes: None, request: pytest.FixtureRequest
) -> AsyncGenerator[Drive]:
    """Processes on the real servers; what a test leaves running ends with it."""
    yield driven
    directory = request.config.getoption("--record-histories")
    if directory and request.node.get_closest_marker("history"):
        keep(await driven.histories(), Path(directory), request.node.name)
