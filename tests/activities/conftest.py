import contextlib
from collections.abc import AsyncGenerator

import pytest
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.messages import MessageActivities
from database.base import Sessions
from tests.activities.dispatching import dispatcher
from tests.messaging.post_office import PostOffice


@pytest.fixture
def activities(
    sessions: Sessions, temporal: WorkflowEnvironment, post_office: PostOffice
) -> MessageActivities:
    return dispatcher(sessions, temporal.client, post_office.port, post_office.path)


@pytest.fixture(scope="module")
async def their_lifecycles(temporal: WorkflowEnvironment) -> AsyncGenerator[None]:
    """An end, once for a module, for the lifecycles that what comes back has started."""
    yield
    async for execution in temporal.client.list_workflows('ExecutionStatus="Running"'):
        with contextlib.suppress(RPCError):  # the list is a little behind
            handle = temporal.client.get_workflow_handle(execution.id)
            await handle.terminate("the tests of what comes back are over")
