"""What every process can do: rest, go on, stop, and take a person's word that a task is done."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from domain.lifecycle import LeadReceived
from domain.marketing import ReplyReceived
from domain.processes import Command, ProcessKind, ProcessState, TaskCompleted
from domain.tasks import TaskKind, TaskState
from tests.driving import DAY, HOUR, MINUTE, Drive, Handle
from workflows.process import Process

STAFF = Command(by="staff-7", reason="on holiday")


async def _lifecycle(drive: Drive, customer: UUID) -> Handle:
    lead = LeadReceived(event_id="lead", occurred_at=datetime.now(UTC))
    return await drive.tell(customer, "lead_received", lead)


async def _order(drive: Drive, customer: UUID) -> Handle:
    return (await drive.place_order(customer))[1]


async def _case(drive: Drive, customer: UUID) -> Handle:
    return (await drive.open_case(customer))[1]


async def _follow_up(drive: Drive, customer: UUID) -> Handle:
    return (await drive.follow_up(customer))[1]


KINDS: dict[ProcessKind, Callable[[Drive, UUID], Awaitable[Handle]]] = {
    ProcessKind.LIFECYCLE: _lifecycle,
    ProcessKind.MARKETING: Drive.start_contact,
    ProcessKind.DELIVERY: _order,
    ProcessKind.SUPPORT: _case,
    ProcessKind.FOLLOW_UP: _follow_up,
    ProcessKind.RETENTION: Drive.retain,
}


@pytest.fixture
async def customer(drive: Drive) -> UUID:
    # Without consent the lifecycle starts no process: its own clock can be skipped.
    return await drive.customer(consent=False)


@pytest.fixture(params=KINDS, ids=str)
async def process(request: pytest.FixtureRequest, drive: Drive, customer: UUID) -> Handle:
    return await KINDS[request.param](drive, customer)


def _about(one: datetime | None, other: datetime | None) -> bool:
    return abs(one - other) < MINUTE if one and other else one is other


def test_every_kind_of_process_is_steered_here() -> None:
    assert set(KINDS) == set(ProcessKind)


@pytest.mark.history
async def test_while_it_is_paused_nothing_goes_on_and_resumed_it_acts_on_what_passed(
    drive: Drive, process: Handle
) -> None:
    before = await drive.standing(process)
    assert before.next_timer_machine_at is not None or process.id.startswith("customer/")
    await drive.command(process, Process.pause, STAFF)
    paused = await drive.standing(process)
    assert (paused.state, paused.step) == (ProcessState.PAUSED, "paused by staff")
    assert set(paused.allowed) >= {"resume", "stop"}
    assert "pause" not in paused.allowed
    assert _about(paused.next_timer_at, before.next_timer_at), "its clock runs on"
    line = (await drive.lines(process))[-1]
    assert (line.kind, line.facts) == (
        "process_pause",
        {"by": "staff-7", "reason": "on holiday"},
    )

    story = await drive.story(process)
    if before.next_timer_machine_at is not None:
        await drive.skip_to(process, before.next_timer_machine_at + HOUR)
    assert await drive.story(process) == story, "a clock that passes waits"

    await drive.command(process, Process.resume, STAFF)
    story_after = await drive.story(process)
    assert story_after[: len(story) + 1] == [*story, "process_resume"]
    assert len(story_after) > len(story) + 1, "now it is acted on"
    assert (await drive.standing(process)).state is ProcessState.RUNNING


async def test_stopped_it_ends_and_its_tasks_with_it(drive: Drive, process: Handle) -> None:
    await drive.command(process, Process.stop, STAFF)
    assert await drive.ends(process) == ProcessState.STOPPED
    row = await drive.standing(process)
    assert (row.state, row.outcome, row.allowed) == (ProcessState.STOPPED, "stopped", [])
    assert not await drive.tasks(process, ended_at=None)
    assert "process_stop" in await drive.story(process)


async def test_what_a_person_said_is_kept_before_it_is_acted_on(
    drive: Drive, process: Handle
) -> None:
    """Else a killed server forgets an update that PostgreSQL knows to have been carried out."""
    await drive.command(process, Process.pause, STAFF)
    await drive.command(process, Process.resume, STAFF)
    await drive.command(process, Process.stop, STAFF)
    kept: list[int] = []  # by the number of the task in whose commands they stand
    done: list[int] = []
    for event in (await process.fetch_history()).events:
        if event.HasField("workflow_execution_update_completed_event_attributes"):
            completed = event.workflow_execution_update_completed_event_attributes
            kept.append(completed.accepted_event_id)
        if event.HasField("marker_recorded_event_attributes"):
            words = event.user_metadata.summary.data.decode()
            if words.startswith('"staff: '):
                done.append(event.marker_recorded_event_attributes.workflow_task_completed_event_id)
    assert len(kept) == len(done) == 3
    assert all(before < after for before, after in zip(kept, done, strict=True))


async def test_a_paused_process_can_be_stopped(drive: Drive, process: Handle) -> None:
    await drive.command(process, Process.pause, STAFF)
    await drive.command(process, Process.stop, STAFF)
    assert await drive.ends(process) == ProcessState.STOPPED


async def test_a_refusal_says_what_is_allowed(drive: Drive, process: Handle) -> None:
    allowed = await drive.refused(process, "resume", STAFF)
    assert set(allowed) >= {"pause", "stop"}
    assert "resume" not in allowed
    assert allowed == (await drive.standing(process)).allowed, "the same as PostgreSQL says"

    await drive.command(process, Process.pause, STAFF)
    allowed = await drive.refused(process, "pause", STAFF)
    assert set(allowed) >= {"resume", "stop"}
    assert "pause" not in allowed


async def test_pausing_twice_and_again_is_recorded_each_time(drive: Drive, process: Handle) -> None:
    for _ in range(2):
        await drive.command(process, Process.pause, STAFF)
        await drive.command(process, Process.resume, STAFF)
    story = await drive.story(process)
    assert story.count("process_pause") == story.count("process_resume") == 2
    assert (await drive.standing(process)).state is ProcessState.RUNNING


# --- tasks ---------------------------------------------------------------------------------------


@pytest.fixture
async def asked(drive: Drive, customer: UUID) -> Handle:
    """A contact whose reply waits for a sales rep."""
    process = await drive.start_contact(customer)
    reply = ReplyReceived(event_id=f"reply-{uuid4()}", occurred_at=datetime.now(UTC))
    await drive.signal(process, "reply_received", reply)
    return process


async def test_a_task_is_completed_once(drive: Drive, asked: Handle) -> None:
    task = await drive.task(asked, TaskKind.ANSWER_REPLY)
    done = TaskCompleted(task_id=task.id, outcome="answered", by="staff-7", reason="by phone")
    await drive.command(asked, Process.complete_task, done)
    await drive.ends(asked)

    task = await drive.task(asked, TaskKind.ANSWER_REPLY)
    assert (task.state, task.outcome, task.note) == (TaskState.DONE, "answered", "by phone")
    assert task.ended_at is not None


async def test_a_task_that_is_not_open_is_refused(drive: Drive, asked: Handle) -> None:
    strange = TaskCompleted(task_id=uuid4(), outcome="answered")
    allowed = await drive.refused(asked, "complete_task", strange)
    assert set(allowed) == {"pause", "stop", "complete_task"}


@pytest.mark.history
async def test_a_task_completed_during_a_pause_counts_and_the_pause_goes_on(
    drive: Drive, asked: Handle
) -> None:
    await drive.command(asked, Process.pause, STAFF)
    await drive.complete(asked, TaskKind.ANSWER_REPLY, "answered")
    assert (await drive.task(asked, TaskKind.ANSWER_REPLY)).state is TaskState.DONE
    row = await drive.standing(asked)
    assert row.state is ProcessState.PAUSED
    assert set(row.allowed) == {"resume", "stop"}
    await drive.skip(asked, DAY)
    assert await drive.is_running(asked)

    await drive.command(asked, Process.resume, STAFF)
    assert await drive.ends(asked) == "answered"


async def test_a_task_completed_while_it_is_stopped_leaves_it_stopped(
    drive: Drive, asked: Handle
) -> None:
    """Both are accepted before either is acted on."""
    task = await drive.task(asked, TaskKind.ANSWER_REPLY)
    done = TaskCompleted(task_id=task.id, outcome="answered", by="staff-7")
    await drive.command(asked, Process.pause, STAFF)
    await asyncio.gather(
        asked.execute_update(Process.stop, STAFF),
        asked.execute_update(Process.complete_task, done),
    )
    assert await drive.ends(asked) == ProcessState.STOPPED
    assert (await drive.standing(asked)).state is ProcessState.STOPPED
    assert (await drive.task(asked, TaskKind.ANSWER_REPLY)).state is not TaskState.OPEN


async def test_commands_of_a_process_that_runs_again_are_its_own(
    drive: Drive, customer: UUID
) -> None:
    about = uuid4()
    for _ in range(2):  # a case that is resolved, reopened and resolved again
        _, process = await drive.follow_up(customer, about_id=about, about="case")
        await drive.command(process, Process.pause, STAFF)
        assert (await drive.standing(process)).state is ProcessState.PAUSED
        await drive.command(process, Process.stop, STAFF)
        assert await drive.ends(process) == ProcessState.STOPPED
    assert (await drive.story(process)).count("process_pause") == 2
