import contextlib
from collections.abc import AsyncGenerator

import pytest
import sqlalchemy as sa
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.messages import MessageActivities
from database.base import Sessions, connect
from supervisor.postgres import PostgresServer
from tests.activities.dispatching import dispatcher
from tests.conftest import new_database
from tests.messaging.post_office import PostOffice


@pytest.fixture
def activities(
    sessions: Sessions, temporal: WorkflowEnvironment, post_office: PostOffice
) -> MessageActivities:
    return dispatcher(sessions, temporal.client, post_office.port, post_office.path)


@pytest.fixture(scope="module")
async def shared(
    temporal: WorkflowEnvironment, postgres: PostgresServer
) -> AsyncGenerator[Sessions]:
    """One database for many tests, and an end for the lifecycles they start."""
    with new_database(postgres) as url:
        sessions = connect(url)
        yield sessions
        await sessions.kw["bind"].dispose()
    async for execution in temporal.client.list_workflows('ExecutionStatus="Running"'):
        with contextlib.suppress(RPCError):  # the list is a little behind
            handle = temporal.client.get_workflow_handle(execution.id)
            await handle.terminate("the tests of what comes back are over")


@pytest.fixture
async def emptied(shared: Sessions) -> AsyncGenerator[Sessions]:
    """To empty a database is faster than to make one."""
    yield shared
    tables = "customers, events, received_mails, received_texts, delivery_reports, suppressions"
    async with shared.begin() as session:
        await session.execute(sa.text(f"TRUNCATE {tables} CASCADE"))
        await session.execute(sa.text("DROP FUNCTION IF EXISTS die, stumble CASCADE"))
