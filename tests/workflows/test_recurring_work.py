"""The recurring work as its schedules start it: one workflow around one activity."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from activities.sweeps import SweepActivities
from database.base import Sessions
from database.events import Verification
from database.messages import Message
from domain.messages import MESSAGES, Channel, MessageState, Template
from domain.processes import BULK_QUEUE
from domain.schedules import RECURRENCES, ScheduleName, SweepResult, schedule_id
from tests.driving import MINUTE, Drive
from worker import bulk_worker


@pytest.mark.history
async def test_each_ends_with_what_it_found(drive: Drive, sessions: Sessions) -> None:
    ids = {
        name: f"{schedule_id(name)}-{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" for name in ScheduleName
    }
    async with sessions.begin() as session:
        session.add(_stuck_message())
    found: dict[ScheduleName, SweepResult] = {}
    # Other tests leave processes behind that look suspect, and always will.
    sweeps = SweepActivities(sessions, drive.client, patience=timedelta(seconds=1))
    async with bulk_worker(drive.client, sweeps):
        for name, recurrence in RECURRENCES.items():
            found[name] = await drive.client.execute_workflow(
                recurrence.workflow, id=ids[name], task_queue=BULK_QUEUE, result_type=SweepResult
            )
            drive.process(ids[name])
    verified = found.pop(ScheduleName.VERIFY)
    assert {name: result.found for name, result in found.items()} == {
        ScheduleName.MARKETING_SWEEP: 0,
        ScheduleName.RETENTION_SWEEP: 0,
        ScheduleName.FOLLOW_UP_SWEEP: 0,
        ScheduleName.KPI_SNAPSHOT: 1,
        ScheduleName.STAFF_DIGEST: 0,
        ScheduleName.STORAGE_SWEEP: 0,
    }
    assert not verified.clean
    async with sessions() as session:
        kept = (await session.scalars(sa.select(Verification))).one()
    named = {finding["check"]: finding["count"] for finding in kept.findings["findings"]}
    assert (kept.clean, named["messages_unsettled"]) == (False, 1)
    assert sum(named.values()) == verified.found


def _stuck_message() -> Message:
    """Due, and nobody sends it."""
    kind = MESSAGES[Template.STAFF_DIGEST]
    return Message(
        key="stuck",
        workflow_id="schedule/staff-digest",
        step="yesterday",
        template=Template.STAFF_DIGEST,
        message_class=kind.message_class,
        purpose=kind.purpose,
        channel=Channel.EMAIL,
        context={},
        state=MessageState.QUEUED,
        asked_at=datetime.now(UTC),
        not_before=datetime.now(UTC) - MINUTE,
    )
