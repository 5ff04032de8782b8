"""What needs an operator: processes that don't go on and why, a retry, queues and their workers."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from api.deps import Held, Resources, Session
from api.diagnosis import Diagnosis, diagnose, go_back, try_at_once
from api.errors import Code, Problem, not_found
from api.fields import Body, StaffId, Word
from api.processes import WorkflowId, temporal_url
from api.routing import ApiRoute, needs, note_change, requires_key
from database.queries.operations import (
    Standing,
    Suspect,
    overdue_processes,
    standings_of,
    told_in_vain,
)
from domain.messages import DISPATCH_WORKFLOW_ID, INTAKE_WORKFLOW_ID
from domain.operations import EXPLAINED, Trouble
from domain.processes import (
    BULK_QUEUE,
    LIFECYCLE_QUEUE,
    MESSAGING_QUEUE,
    ProcessKind,
)
from domain.staff import Permission
from domain.timers import what_follows
from workflows.visibility import CUSTOMER_ID, PROCESS

router = APIRouter(prefix="/operations", tags=["operations"], route_class=ApiRoute)
processes = APIRouter(prefix="/processes", tags=["processes"], route_class=ApiRoute)

_MOST = 100  # processes looked at for each reason to suspect them
_AT_ONCE = 10  # questions to Temporal
_FAILED = "ExecutionStatus IN ('Failed','TimedOut','Terminated','Canceled')"
_STUMBLES = "ExecutionStatus = 'Running' AND TemporalReportedProblems IS NOT NULL"
_SWEEPS = f"ExecutionStatus = 'Running' AND TaskQueue = '{BULK_QUEUE}'"
_QUEUES = {
    LIFECYCLE_QUEUE: "the business processes and their steps",
    MESSAGING_QUEUE: "sends messages, takes in what comes back",
    BULK_QUEUE: "the recurring work",
}


class Retry(BaseModel):
    """What a retry would do, in words, and the run it would be about."""

    does: str
    run_id: str


class TroubledProcess(BaseModel):
    """A process that doesn't go on. Moments are the machine's; nothing in it is personal."""

    workflow_id: str
    run_id: str
    workflow_type: str
    kind: ProcessKind | None = Field(description="null: none of a customer")
    customer_id: UUID | None
    step: str = Field(description="where it stands, as far as it could say")
    trouble: Trouble
    means: str = Field(description="what the trouble is, in words")
    since: datetime | None
    attempts: int = Field(description="tries that failed; 0 where none is counted")
    at: str = Field(description="the step or activity that fails, in words")
    failure: str = Field(description="its class; its words only where they are our own")
    next_try_at: datetime | None = Field(description="null: none follows, or it is under way")
    retry: Retry | None = Field(description="null: there is nothing to retry")
    allowed_actions: list[str]
    temporal_url: str


class Troubles(BaseModel):
    items: list[TroubledProcess]
    complete: bool = Field(description="false: there are more than were looked at")


class Alarm(BaseModel):
    """A process that Temporal lists as failed, ended by force or stumbling."""

    workflow_id: str
    workflow_type: str
    kind: ProcessKind | None = Field(description="null: none of a customer")
    customer_id: UUID | None
    trouble: Trouble
    means: str = Field(description="what the trouble is, in words")
    since: datetime | None = Field(description="the machine's moment; null: not known yet")


class Alarms(BaseModel):
    items: list[Alarm]
    complete: bool = Field(description="false: there are more than were listed")


class Health(BaseModel):
    """Whether a process goes on; `trouble` null: all is well."""

    workflow_id: str
    run_id: str
    running: bool
    waits: str = Field(description="what its timer is for; empty: it has none")
    then: str = Field(description="what follows when the timer rings, in words")
    trouble: TroubledProcess | None


class QueueView(BaseModel):
    """One task queue; the backlog is approximate."""

    queue: str
    takes: str = Field(description="workflow or activity tasks")
    does: str
    pollers: int
    last_poll_at: datetime | None
    backlog: int
    backlog_age_seconds: float


class SteadyProcess(BaseModel):
    """A process that never ends, with the last sign of life of what it is at."""

    workflow_id: str
    does: str
    running: bool
    beat_at: datetime | None
    temporal_url: str


class Queues(BaseModel):
    items: list[QueueView]
    steady: list[SteadyProcess]


class RetryBody(Body):
    reason: Word = Field(description="why now: a code, no personal data", examples=["mended"])
    run_id: str | None = Field(
        None,
        pattern=r"^[0-9a-f-]{36}$",
        description="the run that is meant: 409 when somebody else has retried it meanwhile",
    )
    by: StaffId = "api"


class Retried(BaseModel):
    """`run_id` is the run that goes on."""

    workflow_id: str
    run_id: str
    trouble: Trouble
    did: str


@router.get("/processes")
async def list_troubled_processes(
    held: Held,
    kind: Annotated[ProcessKind | None, Query()] = None,
) -> Troubles:
    """What failed, was ended by force, stumbles, retries for long or stands still.

    Found by what Temporal lists as failed, by timers that should have rung, and by facts of the
    last day that had no effect; each is then asked for in Temporal. The nightly check looks deeper.
    """
    # No connection is held while Temporal is asked: others need it more.
    async with held.sessions.begin() as session:
        late = await overdue_processes(session, _MOST)
        in_vain = await told_in_vain(session, _MOST)
    async with held.engine.reached() as client:
        listed, complete = await _listed(client)
        suspects = {one.workflow_id: one for one in (*in_vain, *late)}
        asked = list(dict.fromkeys([*listed, *suspects]))
        found = await _diagnosed(client, asked, suspects)
    async with held.sessions.begin() as session:
        standings = await standings_of(session, [one.workflow_id for one in found])
    views = [_view(one, standings.get(one.workflow_id), held) for one in found]
    return Troubles(
        items=[view for view in views if kind is None or view.kind is kind],
        complete=complete and max(len(late), len(in_vain)) < _MOST,
    )


@router.get("/alarms")
async def list_alarms(session: Session, held: Held) -> Alarms:
    """What failed or stumbles as Temporal lists it, by one question to it, the latest first.

    Left out is what has gone on since, as our records know. `GET …/processes` looks closer.
    """
    async with held.engine.reached() as client:
        query = f"{_FAILED} OR ({_STUMBLES})"
        listed = [one async for one in client.list_workflows(query, limit=_MOST)]
    standings = await standings_of(session, [one.id for one in listed])
    latest: dict[str, WorkflowExecution] = {}
    for one in listed:  # of several runs the latest
        latest.setdefault(one.id, one)
    return Alarms(
        items=[
            _alarm(one, standings.get(one.id))
            for one in latest.values()
            if one.close_time is None or not _went_on(standings.get(one.id), one.close_time)
        ],
        complete=len(listed) < _MOST,
    )


def _went_on(standing: Standing | None, closed: datetime) -> bool:
    return standing is not None and (standing.state.ended or standing.updated_at > closed)


def _alarm(found: WorkflowExecution, standing: Standing | None) -> Alarm:
    trouble = {
        WorkflowExecutionStatus.RUNNING: Trouble.TASK_FAILING,
        WorkflowExecutionStatus.FAILED: Trouble.FAILED,
    }.get(found.status or WorkflowExecutionStatus.FAILED, Trouble.ENDED_BY_FORCE)
    return Alarm(
        workflow_id=found.id,
        workflow_type=found.workflow_type,
        kind=standing.kind if standing else _kind(found.typed_search_attributes.get(PROCESS, "")),
        customer_id=standing.customer_id
        if standing
        else _uuid(found.typed_search_attributes.get(CUSTOMER_ID, "")),
        trouble=trouble,
        means=EXPLAINED[trouble].means,
        since=found.close_time,
    )


@router.get("/queues")
async def list_queues(held: Held) -> Queues:
    """Task queues with their workers and what waits, and the processes that never end."""
    async with held.engine.reached() as client:
        views = [
            await _queue(client, queue, takes)
            for queue in _QUEUES
            for takes in ("workflow", "activity")
            if (queue, takes) != (LIFECYCLE_QUEUE, "activity")  # its steps are local activities
        ]
        steady = [
            await _steady(client, held, DISPATCH_WORKFLOW_ID, "Sends what processes queued"),
            await _steady(client, held, INTAKE_WORKFLOW_ID, "Takes in what comes back"),
        ]
    return Queues(items=views, steady=steady)


@processes.get("/{workflow_id:path}/health")
async def show_process_health(workflow_id: WorkflowId, held: Held) -> Health:
    """Whether a process goes on; if not, why, and what a retry would do."""
    async with held.sessions.begin() as session:
        standing = (await standings_of(session, [workflow_id])).get(workflow_id)
        suspect = await _overdue(session, workflow_id)
    async with held.engine.reached() as client:
        found = await _suspected(client, workflow_id, suspect)
    if found is None:
        if standing is None:
            raise not_found("process", workflow_id)
        found = _unknown(workflow_id, None)
    ended = standing is not None and standing.state.ended
    troubled = found.trouble is not None and not (ended and not found.running)
    return Health(
        workflow_id=workflow_id,
        run_id=found.run_id,
        running=found.running,
        waits=found.waits,
        then=what_follows(found.waits),
        trouble=_view(found, standing, held) if troubled else None,
    )


@processes.post("/{workflow_id:path}/retry")
@requires_key
@needs(Permission.STEER_PROCESSES)
async def retry_process(
    workflow_id: WorkflowId, body: RetryBody, request: Request, session: Session, held: Held
) -> Retried:
    """Let a process that doesn't go on try again; `GET …/health` says what that does.

    409 when nothing is the matter with it, when there is nothing to retry, or when it is another
    run than `run_id`.
    """
    async with held.engine.reached() as client:
        found = await _suspected(client, workflow_id, await _overdue(session, workflow_id))
        if found is None:
            raise not_found("process in Temporal", workflow_id)
        _refuse_retry(found, body.run_id)
        assert found.trouble is not None
        if found.trouble is Trouble.ACTIVITY_FAILING:
            run_id = await try_at_once(client, found)
        else:
            run_id = await _gone_back(client, found, f"{body.by}: {body.reason}")
    before = {"run_id": found.run_id, "trouble": found.trouble, "failure": found.failure}
    note_change(request, before=before, after={"run_id": run_id, "reason": body.reason})
    return Retried(
        workflow_id=workflow_id,
        run_id=run_id,
        trouble=found.trouble,
        did=EXPLAINED[found.trouble].retry,
    )


async def _overdue(session: AsyncSession, workflow_id: str) -> Suspect | None:
    return next(iter(await overdue_processes(session, 1, workflow_id)), None)


def _refuse_retry(found: Diagnosis, run_id: str | None) -> None:
    if run_id is not None and run_id != found.run_id:
        raise Problem(Code.CONFLICT, "somebody has retried it meanwhile: it is another run now")
    if found.trouble is None:
        why = "goes on by itself" if found.running else "has ended as it should"
        raise Problem(Code.NOT_ALLOWED_NOW, f"the process {why}", allowed_actions=[])
    if not EXPLAINED[found.trouble].retry:
        raise Problem(Code.NOT_ALLOWED_NOW, EXPLAINED[found.trouble].means, allowed_actions=[])


async def _gone_back(client: Client, found: Diagnosis, reason: str) -> str:
    try:
        return await go_back(client, found, reason)
    except LookupError:
        raise Problem(
            Code.NOT_ALLOWED_NOW,
            "it has taken no step to go back to: start it again where processes are started",
            allowed_actions=[],
        ) from None


async def _listed(client: Client) -> tuple[list[str], bool]:
    """What Temporal names, each once; and whether that is all."""
    found = [DISPATCH_WORKFLOW_ID, INTAKE_WORKFLOW_ID]
    complete = True
    for query in (_FAILED, _STUMBLES, _SWEEPS):
        listed = [one.id async for one in client.list_workflows(query, limit=_MOST)]
        complete = complete and len(listed) < _MOST
        found += listed
    return found, complete


async def _diagnosed(
    client: Client, workflow_ids: Iterable[str], suspects: dict[str, Suspect]
) -> list[Diagnosis]:
    """Those in trouble, the latest first. Of one that was run again it is the last run that counts.

    What is not there is no trouble unless our records say that it is open.
    """
    turn = asyncio.Semaphore(_AT_ONCE)

    async def ask(workflow_id: str) -> Diagnosis | None:
        suspect = suspects.get(workflow_id)
        async with turn:
            found = await _suspected(client, workflow_id, suspect)
        return _unknown(workflow_id, suspect) if found is None and suspect else found

    found = await asyncio.gather(*map(ask, workflow_ids))
    troubled = [one for one in found if one is not None and one.trouble is not None]
    return sorted(troubled, key=lambda one: one.since.timestamp() if one.since else 0, reverse=True)


async def _suspected(client: Client, workflow_id: str, suspect: Suspect | None) -> Diagnosis | None:
    """None: Temporal doesn't know it. A suspect that nothing hinders stands still."""
    try:
        found = await diagnose(client, workflow_id)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None
    if suspect is not None and found.running and found.trouble is None:
        return replace(found, trouble=Trouble.STANDS_STILL, since=suspect.since)
    return found


def _unknown(workflow_id: str, suspect: Suspect | None) -> Diagnosis:
    return Diagnosis(
        workflow_id,
        "",
        "",
        running=False,
        trouble=Trouble.UNKNOWN_TO_TEMPORAL,
        since=suspect and suspect.since,
    )


async def _queue(client: Client, queue: str, takes: str) -> QueueView:
    kind = TaskQueueType.Value(f"TASK_QUEUE_TYPE_{takes.upper()}")
    found = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=kind,
            report_stats=True,
        )
    )
    polls = [one.last_access_time.ToDatetime(UTC) for one in found.pollers]
    return QueueView(
        queue=queue,
        takes=takes,
        does=_QUEUES[queue],
        pollers=len(found.pollers),
        last_poll_at=max(polls, default=None),
        backlog=found.stats.approximate_backlog_count,
        backlog_age_seconds=found.stats.approximate_backlog_age.ToTimedelta().total_seconds(),
    )


async def _steady(client: Client, held: Resources, workflow_id: str, does: str) -> SteadyProcess:
    found = await _suspected(client, workflow_id, None) or _unknown(workflow_id, None)
    return SteadyProcess(
        workflow_id=workflow_id,
        does=does,
        running=found.running,
        beat_at=found.beat_at,
        temporal_url=temporal_url(held, workflow_id),
    )


def _view(found: Diagnosis, standing: Standing | None, held: Resources) -> TroubledProcess:
    assert found.trouble is not None
    explained = EXPLAINED[found.trouble]
    return TroubledProcess(
        workflow_id=found.workflow_id,
        run_id=found.run_id,
        workflow_type=found.workflow_type,
        kind=standing.kind if standing else _kind(found.kind),
        customer_id=standing.customer_id if standing else _uuid(found.customer_id),
        step=standing.step if standing else "",
        trouble=found.trouble,
        means=explained.means,
        since=found.since,
        attempts=found.attempts,
        at=found.at,
        failure=found.failure,
        next_try_at=found.next_try_at,
        retry=Retry(does=explained.retry, run_id=found.run_id) if explained.retry else None,
        allowed_actions=standing.allowed if standing and found.running else [],
        temporal_url=temporal_url(held, found.workflow_id),
    )


def _kind(name: str) -> ProcessKind | None:
    return ProcessKind(name) if name in set(ProcessKind) else None


def _uuid(text: str) -> UUID | None:
    return UUID(text) if text else None
