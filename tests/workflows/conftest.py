"""One worker and one database for all tests of the processes: a worker takes seconds to start."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput
from temporalio.worker import Interceptor as WorkerInterceptor

from database.base import connect
from supervisor.postgres import PostgresServer
from tests.conftest import new_database
from tests.driving import Drive
from tests.record_histories import keep
from worker import lifecycle_worker


class TakenTwice(ClientInterceptor, WorkerInterceptor):
    """Takes every step twice, as after the death of a worker that had just committed it.

    So each sentence of these tests also says that a repeated step changes nothing.
    """

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Twice(next)


class _Twice(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        first = await super().execute_activity(input)
        again = await super().execute_activity(input)
        assert again == first, f"{input.fn} answers differently when it is repeated"
        return again


@pytest.fixture(scope="package")
async def driven(temporal: WorkflowEnvironment, postgres: PostgresServer) -> AsyncGenerator[Drive]:
    with new_database(postgres) as url:
        sessions = connect(url)
        config = temporal.client.config()
        config["interceptors"] = [*config["interceptors"], TakenTwice()]
        async with lifecycle_worker(Client(**config), sessions):
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
