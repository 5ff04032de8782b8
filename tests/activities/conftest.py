import pytest
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
