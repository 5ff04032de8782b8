"""The recurring work as its schedules start it: one workflow around one activity."""

from datetime import UTC, datetime, timedelta

import pytest

from activities.sweeps import SweepActivities
from database.base import Sessions
from domain.processes import BULK_QUEUE
from domain.schedules import RECURRENCES, ScheduleName, SweepResult, schedule_id
from tests.driving import Drive
from worker import bulk_worker


@pytest.mark.history
async def test_each_ends_with_what_it_found(drive: Drive, sessions: Sessions) -> None:
    ids = {
        name: f"{schedule_id(name)}-{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" for name in ScheduleName
    }
    # Other tests leave processes behind that look suspect, and always will.
    sweeps = SweepActivities(sessions, drive.client, patience=timedelta(seconds=1))
    async with bulk_worker(drive.client, sweeps):
        for name, recurrence in RECURRENCES.items():
            found = await drive.client.execute_workflow(
                recurrence.workflow, id=ids[name], task_queue=BULK_QUEUE, result_type=SweepResult
            )
            assert found.found >= 0
            drive.process(ids[name])
