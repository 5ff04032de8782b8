"""Support: acknowledged, answered, resolved; clocks that rest while we wait for the customer."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from database.support import Case
from database.tasks import Task
from domain.marketing import ReplyReceived
from domain.policies import CaseKind, PolicyKind, Priority, SupportPolicy
from domain.processes import Command, ProcessState, TaskCompleted
from domain.support import ALLOWED, Assign, CaseCause, CaseState, Resolve, Respond, WaitForCustomer
from domain.tasks import Role, TaskKind, TaskState
from tests.driving import DAY, HOUR, MINUTE, Drive, Handle
from tests.patience import becomes
from workflows.support import SupportCase

POLICY = SupportPolicy()
NORMAL = Priority.NORMAL
STAFF = Command(by="staff-7", reason="angry")


@pytest.fixture
async def customer(drive: Drive) -> UUID:
    return await drive.customer()


@pytest.fixture
async def opened(drive: Drive, customer: UUID) -> tuple[UUID, Handle]:
    return await drive.open_case(customer)


@pytest.fixture
def case_id(opened: tuple[UUID, Handle]) -> UUID:
    return opened[0]


@pytest.fixture
def process(opened: tuple[UUID, Handle]) -> Handle:
    return opened[1]


def respond() -> Respond:
    return Respond(by="staff-7", text_id=uuid4())


def resolve() -> Resolve:
    return Resolve(by="staff-7", text_id=uuid4(), cause=CaseCause.PRODUCT)


def reply() -> ReplyReceived:
    return ReplyReceived(event_id=f"reply-{uuid4()}", occurred_at=datetime.now(UTC))


async def test_a_case_is_acknowledged_queued_and_given_its_clocks(
    drive: Drive, customer: UUID, case_id: UUID, process: Handle
) -> None:
    case = await drive.row(Case, case_id)
    assert (case.state, case.priority, case.queue) == (
        CaseState.OPEN,
        NORMAL,
        Role.SUPPORT_AGENT,
    )
    assert case.owner is None
    assert case.first_response_due == case.opened_at + POLICY.first_response[NORMAL]
    assert case.resolution_due == case.opened_at + POLICY.resolution[NORMAL]
    [message] = await drive.messages(process)
    assert message.template == "case_acknowledged"
    assert message.context["case"] == case.reference
    assert datetime.fromisoformat(message.context["respond_by"]) == case.first_response_due
    task = await drive.task(process, TaskKind.FIRST_RESPONSE)
    assert (task.role, task.due_at) == (Role.SUPPORT_AGENT, case.first_response_due)
    await becomes(lambda: drive.stage(customer), "support")


@pytest.mark.history
async def test_an_acknowledgement_that_is_not_accepted_in_time_escalates(
    drive: Drive, customer: UUID
) -> None:
    case_id, process = await drive.open_case(customer, acknowledged=False)
    await drive.skip(process, POLICY.acknowledge_within - MINUTE)
    assert await drive.story(process) == ["case_opened"]
    await drive.skip(process, 2 * MINUTE)
    line = await drive.line(process, "acknowledgement_checked")
    assert line.facts == {"accepted": False, "message": "queued"}
    assert (await drive.line(process, "case_escalated")).facts["clock"] == "acknowledgement"
    assert (await drive.task(process, TaskKind.RESOLVE_CASE)).role is Role.MANAGER
    assert (await drive.row(Case, case_id)).first_response_missed_at is None


async def test_an_acknowledgement_accepted_in_time_is_noted(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    await drive.skip(process, POLICY.acknowledge_within + MINUTE)
    assert (await drive.line(process, "acknowledgement_checked")).facts["accepted"] is True
    assert (await drive.row(Case, case_id)).escalations == 0


async def test_an_answer_before_that_needs_no_acknowledgement(drive: Drive, customer: UUID) -> None:
    _, process = await drive.open_case(customer, acknowledged=False)
    await drive.command(process, SupportCase.respond, respond())
    await drive.skip(process, POLICY.acknowledge_within + MINUTE)
    assert "acknowledgement_checked" not in await drive.story(process)


async def test_an_answer_in_time_meets_the_first_response_clock(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    await drive.skip(process, HOUR)
    await drive.command(process, SupportCase.respond, respond())
    case = await drive.row(Case, case_id)
    assert case.state is CaseState.IN_PROGRESS
    assert case.first_response_at is not None
    assert case.first_response_due is None
    assert await drive.told(process) == ["case_acknowledged", "case_reply"]
    assert (await drive.task(process, TaskKind.FIRST_RESPONSE)).state is TaskState.CANCELLED

    await drive.skip(process, DAY)
    assert (await drive.row(Case, case_id)).escalations == 0


async def test_every_answer_is_sent_but_only_the_first_is_the_first(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    await drive.command(process, SupportCase.respond, respond())
    first = (await drive.row(Case, case_id)).first_response_at
    await drive.skip(process, HOUR)
    await drive.command(process, SupportCase.respond, respond())
    assert (await drive.row(Case, case_id)).first_response_at == first
    assert (await drive.told(process)).count("case_reply") == 2


@pytest.mark.history
async def test_a_call_instead_of_a_letter_meets_the_clock_too(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    await drive.complete(process, TaskKind.FIRST_RESPONSE, "answered")
    case = await drive.row(Case, case_id)
    assert case.state is CaseState.IN_PROGRESS
    assert case.first_response_at is not None
    await drive.skip(process, DAY)
    assert (await drive.row(Case, case_id)).first_response_missed_at is None


@pytest.mark.history
async def test_each_missed_clock_escalates_once(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    await drive.skip(process, POLICY.first_response[NORMAL] - MINUTE)
    assert (await drive.row(Case, case_id)).escalations == 0

    await drive.skip(process, 2 * MINUTE)
    case = await drive.row(Case, case_id)
    assert (case.escalations, case.priority) == (1, Priority.HIGH)
    assert case.first_response_missed_at is not None
    assert case.resolution_missed_at is None
    task = await drive.task(process, TaskKind.RESOLVE_CASE)
    assert task.role is Role.MANAGER

    await drive.skip(process, POLICY.resolution[NORMAL])
    case = await drive.row(Case, case_id)
    assert (case.escalations, case.priority) == (2, Priority.URGENT)
    assert case.resolution_missed_at is not None
    clocks = [line.facts["clock"] for line in await drive.lines(process, "case_escalated")]
    assert clocks == ["first_response", "resolution"]

    await drive.skip(process, 30 * DAY)
    assert (await drive.row(Case, case_id)).escalations == 2


async def test_a_person_may_escalate_until_there_is_nothing_above(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    for priority in (Priority.HIGH, Priority.URGENT, Priority.URGENT):
        await drive.command(process, SupportCase.escalate, STAFF)
        assert (await drive.row(Case, case_id)).priority is priority
    line = (await drive.lines(process, "case_escalated"))[-1]
    assert line.facts == {"clock": "", "reason": "angry", "by": "staff-7"}
    assert len(await drive.tasks(process, kind=TaskKind.RESOLVE_CASE)) == 3


async def test_a_case_has_one_owner_at_a_time(drive: Drive, case_id: UUID, process: Handle) -> None:
    for owner in ("staff-1", "staff-2"):
        await drive.command(process, SupportCase.assign, Assign(by="staff-7", owner=owner))
        assert (await drive.row(Case, case_id)).owner == owner
    attributes = (await process.describe()).search_attributes
    assert attributes["Owner"] == ["staff-2"]
    await drive.command(process, SupportCase.assign, Assign(by="staff-7", owner=""))
    assert (await drive.row(Case, case_id)).owner is None
    assert "Owner" not in (await process.describe()).search_attributes
    [line] = await drive.lines(process, "case_released")
    assert line.facts == {"owner": "", "by": "staff-7"}


# --- waiting for the customer --------------------------------------------------------------------


@pytest.mark.history
async def test_the_resolution_clock_rests_while_we_wait_for_the_customer(
    drive: Drive, customer: UUID, case_id: UUID, process: Handle
) -> None:
    await drive.skip(process, DAY)
    await drive.command(process, SupportCase.wait_for_customer, WaitForCustomer(by="staff-7"))
    case = await drive.row(Case, case_id)
    assert case.state is CaseState.WAITING_FOR_CUSTOMER
    assert case.resolution_due is None
    assert (await drive.told(process))[-1] == "case_waiting"

    await drive.skip(process, 2 * DAY)
    await drive.signal(process, SupportCase.reply_received, reply())
    case = await drive.row(Case, case_id)
    assert case.state is CaseState.IN_PROGRESS
    assert case.resolution_due is not None
    left = case.resolution_due - await drive.now(process)
    used = case.opened_at + DAY
    assert left == pytest.approx(POLICY.resolution[NORMAL] - (used - case.opened_at), abs=MINUTE)
    [task] = await drive.tasks(process, kind=TaskKind.FIRST_RESPONSE, state=TaskState.OPEN)
    assert task.role is Role.SUPPORT_AGENT


async def test_asking_the_customer_is_a_first_response(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    await drive.command(process, SupportCase.wait_for_customer, WaitForCustomer(by="staff-7"))
    case = await drive.row(Case, case_id)
    assert case.first_response_at is not None
    await drive.skip(process, DAY)
    assert (await drive.row(Case, case_id)).escalations == 0


@pytest.mark.history
async def test_a_silent_customer_is_reminded_once_and_then_given_up(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    await drive.command(process, SupportCase.wait_for_customer, WaitForCustomer(by="staff-7"))
    asked = ["case_acknowledged", "case_waiting"]
    await drive.skip(process, POLICY.remind_waiting_customer - HOUR)
    assert await drive.told(process) == asked
    await drive.skip(process, 2 * HOUR)
    assert await drive.told(process) == [*asked, "case_waiting_reminder"]
    await drive.skip(process, POLICY.give_up_waiting - 2 * HOUR)
    assert (await drive.row(Case, case_id)).state is CaseState.WAITING_FOR_CUSTOMER

    await drive.skip(process, 2 * HOUR)
    case = await drive.row(Case, case_id)
    assert (case.state, case.outcome) == (CaseState.RESOLVED, "unanswered")
    assert await drive.told(process) == [*asked, "case_waiting_reminder", "case_resolved"]
    # Thrown away with its worker, it must not be taken for the resolution that staff gives then.
    assert (await drive.line(process, "case_resolved")).step_key.startswith("given_up/")


# --- resolved, reopened, closed ------------------------------------------------------------------


async def test_a_resolution_is_told_and_withdraws_every_task(
    drive: Drive, customer: UUID, case_id: UUID, process: Handle
) -> None:
    await drive.command(process, SupportCase.escalate, STAFF)
    await drive.command(process, SupportCase.resolve, resolve())
    case = await drive.row(Case, case_id)
    assert (case.state, case.outcome, case.cause) == (
        CaseState.RESOLVED,
        "resolved",
        CaseCause.PRODUCT,
    )
    assert case.resolution_due is case.first_response_due is None
    assert {task.state for task in await drive.tasks(process)} == {TaskState.CANCELLED}
    message = (await drive.messages(process))[-1]
    assert (message.template, message.context["case"]) == ("case_resolved", case.reference)
    await becomes(lambda: drive.stage(customer), "follow_up")


@pytest.mark.history
async def test_after_the_window_the_case_is_closed(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    await drive.command(process, SupportCase.resolve, resolve())
    await drive.skip(process, POLICY.reopening_window - HOUR)
    assert (await drive.row(Case, case_id)).state is CaseState.RESOLVED
    await drive.skip(process, 2 * HOUR)
    assert await drive.ends(process) == CaseState.CLOSED
    case = await drive.row(Case, case_id)
    assert case.state is CaseState.CLOSED
    assert case.closed_at is not None
    assert case.outcome == "resolved"


@pytest.mark.parametrize("by", ["staff", "customer"])
@pytest.mark.history
async def test_within_the_window_staff_or_a_reply_reopens_it(
    drive: Drive, case_id: UUID, process: Handle, by: str
) -> None:
    await drive.skip(process, DAY)
    await drive.command(process, SupportCase.resolve, resolve())
    await drive.skip(process, POLICY.reopening_window - DAY)
    if by == "staff":
        await drive.command(process, SupportCase.reopen, STAFF)
    else:
        await drive.signal(process, SupportCase.reply_received, reply())

    case = await drive.row(Case, case_id)
    assert (case.state, case.reopened) == (CaseState.IN_PROGRESS, 1)
    assert case.resolved_at is None
    assert case.resolution_due is not None
    left = case.resolution_due - await drive.now(process)
    assert left == pytest.approx(POLICY.resolution[NORMAL] - DAY, abs=MINUTE), "it rested"
    [task] = await drive.tasks(process, kind=TaskKind.FIRST_RESPONSE, state=TaskState.OPEN)
    assert task.due_at > await drive.now(process)

    await drive.command(process, SupportCase.resolve, resolve())
    await drive.skip(process, POLICY.reopening_window + HOUR)
    assert await drive.ends(process) == CaseState.CLOSED


@pytest.mark.history
async def test_a_reply_that_comes_while_the_case_closes_reopens_it(
    drive: Drive, customer: UUID, case_id: UUID, process: Handle
) -> None:
    """PostgreSQL is slow to write the end; the reply was told to a case that was not closed."""
    await drive.command(process, SupportCase.resolve, resolve())
    await drive.skip_to_next_timer(process)
    async with drive.held_up(process):
        await drive.tell_held_up(process, SupportCase.reply_received, reply())
    await becomes(lambda: state_of(drive, case_id), CaseState.IN_PROGRESS)
    case = await drive.row(Case, case_id)
    assert (case.reopened, case.closed_at, case.outcome) == (1, None, None)
    await becomes(lambda: drive.stage(customer), "support")

    await drive.command(process, SupportCase.resolve, resolve())
    await drive.skip(process, POLICY.reopening_window + HOUR)
    assert await drive.ends(process) == CaseState.CLOSED
    assert await state_of(drive, case_id) is CaseState.CLOSED
    await becomes(lambda: drive.stage(customer), "follow_up")


async def state_of(drive: Drive, case_id: UUID) -> CaseState:
    return (await drive.row(Case, case_id)).state


async def test_a_reply_that_arrives_twice_is_one(
    drive: Drive, case_id: UUID, process: Handle
) -> None:
    twice = reply()
    await drive.command(process, SupportCase.resolve, resolve())
    await drive.signal(process, SupportCase.reply_received, twice)
    await drive.command(process, SupportCase.resolve, resolve())
    await drive.signal(process, SupportCase.reply_received, twice)
    case = await drive.row(Case, case_id)
    assert (case.state, case.reopened) == (CaseState.RESOLVED, 1)


# --- what is refused -----------------------------------------------------------------------------

COMMANDS = {
    "respond": respond(),
    "wait_for_customer": WaitForCustomer(by="staff-7"),
    "resolve": resolve(),
    "reopen": STAFF,
    "escalate": STAFF,
    "assign": Assign(by="staff-7", owner="staff-1"),
}
LEADS_TO = {
    CaseState.OPEN: (),
    CaseState.IN_PROGRESS: ("respond",),
    CaseState.WAITING_FOR_CUSTOMER: ("wait_for_customer",),
    CaseState.RESOLVED: ("resolve",),
}


@pytest.mark.parametrize("state", LEADS_TO, ids=str)
async def test_what_the_state_does_not_allow_is_refused_with_what_it_does(
    drive: Drive, case_id: UUID, process: Handle, state: CaseState
) -> None:
    for command in LEADS_TO[state]:
        await drive.command(process, command, COMMANDS[command])
    assert (await drive.row(Case, case_id)).state is state
    lines = await drive.story(process)

    for command in set(COMMANDS) - set(ALLOWED[state]):
        allowed = await drive.refused(process, command, COMMANDS[command])
        assert set(allowed) & set(COMMANDS) == set(ALLOWED[state])
        assert allowed == (await drive.standing(process)).allowed, "the same as PostgreSQL says"
    assert await drive.story(process) == lines, "a refusal leaves no trace"


# --- recovery ------------------------------------------------------------------------------------


@pytest.mark.history
async def test_a_recovery_case_has_a_deadline_a_queue_and_its_own_words(
    drive: Drive, customer: UUID
) -> None:
    contact_by = datetime.now(UTC) + 8 * HOUR
    _case_id, process = await drive.open_case(
        customer,
        kind=CaseKind.RECOVERY,
        queue=Role.ACCOUNT_MANAGER,
        priority=Priority.HIGH,
        contact_by=contact_by,
    )
    task = await drive.task(process, TaskKind.CONTACT_DISAPPOINTED)
    assert (task.role, task.due_at) == (Role.ACCOUNT_MANAGER, contact_by)
    await drive.complete(process, TaskKind.CONTACT_DISAPPOINTED, "contacted")
    await drive.command(process, SupportCase.resolve, resolve())
    assert await drive.told(process) == ["recovery_started", "recovery_outcome"]


async def test_a_missed_contact_of_a_disappointed_customer_escalates(
    drive: Drive, customer: UUID
) -> None:
    contact_by = datetime.now(UTC) + HOUR
    case_id, process = await drive.open_case(
        customer, kind=CaseKind.RECOVERY, contact_by=contact_by
    )
    await drive.skip(process, 2 * HOUR)
    assert (await drive.row(Case, case_id)).first_response_missed_at is not None


# --- steering and policy -------------------------------------------------------------------------


@pytest.mark.history
async def test_a_stopped_case_is_closed_and_out_of_the_way(
    drive: Drive, customer: UUID, case_id: UUID, process: Handle
) -> None:
    await becomes(lambda: drive.stage(customer), "support")
    await drive.command(process, SupportCase.stop, STAFF)
    assert await drive.ends(process) == ProcessState.STOPPED
    case = await drive.row(Case, case_id)
    assert (case.state, case.outcome) == (CaseState.CLOSED, "stopped")
    await becomes(lambda: drive.stage(customer), "quiet")


async def test_a_case_keeps_the_policy_it_was_opened_under(drive: Drive, customer: UUID) -> None:
    short = {priority: "PT1H" for priority in Priority}
    async with drive.policy(PolicyKind.SUPPORT, first_response=short):
        case_id, process = await drive.open_case(customer)
    await drive.skip(process, 2 * HOUR)
    assert (await drive.row(Case, case_id)).first_response_missed_at is not None


async def test_a_task_done_while_it_is_withdrawn_holds_nothing_up(
    drive: Drive, customer: UUID
) -> None:
    """Both are accepted before either is carried out; the resolution withdraws the task."""
    for _ in range(5):
        _, case = await drive.open_case(customer)
        [task] = await drive.tasks(case, kind=TaskKind.FIRST_RESPONSE, state=TaskState.OPEN)
        done = TaskCompleted(task_id=task.id, outcome="answered", by="staff-7")
        await asyncio.gather(
            case.execute_update(SupportCase.resolve, Resolve(by="staff-7")),
            case.execute_update(SupportCase.complete_task, done),
            return_exceptions=True,  # the second may come too late, and is refused then
        )
        await becomes(lambda case=case: _state(drive, case), CaseState.RESOLVED)  # type: ignore[misc]
        await drive.quiet(case)
        task = await drive.row(Task, task.id)
        assert task.ended_at is not None


async def _state(drive: Drive, case: Handle) -> CaseState:
    return (await drive.row(Case, UUID(case.id.removeprefix("case/")))).state
