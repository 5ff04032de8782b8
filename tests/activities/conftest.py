from collections.abc import AsyncGenerator

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.messages import MessageActivities
from database.base import Sessions
from tests.activities.dispatching import dispatcher
from tests.conftest import end_all_processes
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
    await end_all_processes(temporal.client)
