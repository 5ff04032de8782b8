from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.messages import MessageActivities
from database.base import Sessions
from tests.activities.dispatching import dispatcher
from tests.messaging.post_office import PostOffice, free_port


@pytest.fixture
async def post_office(tmp_path: Path) -> AsyncGenerator[PostOffice]:
    office = PostOffice(tmp_path / "inbox.sqlite", free_port())
    await office.open()
    yield office
    await office.close()


@pytest.fixture
def activities(
    sessions: Sessions, temporal: WorkflowEnvironment, post_office: PostOffice
) -> MessageActivities:
    return dispatcher(sessions, temporal.client, post_office.port, post_office.path)
