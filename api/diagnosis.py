"""Asks Temporal what keeps a process from going on, without what customers wrote."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    EventType,
    PendingWorkflowTaskState,
    ResetReapplyType,
    WorkflowExecutionStatus,
    WorkflowTaskFailedCause,
)
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryReverseRequest,
    ResetActivityRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import Client

from domain.errors import Refusal
from domain.operations import Trouble
from workflows.visibility import CUSTOMER_ID, PROCESS

_PATIENCE = timedelta(seconds=30)  # until a task that no worker has taken is trouble
_LOOK_BACK = 50  # events: what a step that fails leaves between two tries is far fewer
_MOST_EVENTS = 2_000  # looked through for a point to go back to
_IDENTITY = "console"

_E = EventType
_STEP = "core_local_activity"  # the marker that the SDK records for one
_BY_FORCE = (
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
)
_FAILED_TASKS = (_E.EVENT_TYPE_WORKFLOW_TASK_FAILED, _E.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)
_OF_NO_MEANING = (  # between the tries of a step
    *(_E.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, _E.EVENT_TYPE_WORKFLOW_TASK_STARTED),
    *(_E.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, *_FAILED_TASKS),
    *(_E.EVENT_TYPE_TIMER_STARTED, _E.EVENT_TYPE_TIMER_FIRED),
    *(_E.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, _E.EVENT_TYPE_TIMER_CANCELED),
    *(
        _E.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        _E.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
    ),
)


@dataclass(frozen=True)
class Diagnosis:
    """What Temporal says of a process. Moments are the machine's."""

    workflow_id: str
    run_id: str
    workflow_type: str
    running: bool
    kind: str = ""  # of a process of a customer
    customer_id: str = ""
    trouble: Trouble | None = None
    since: datetime | None = None
    attempts: int = 0
    at: str = ""  # the step or activity it is at, in words
    failure: str = ""  # its class, and its words only where they are ours
    next_try_at: datetime | None = None
    waits: str = ""  # what its timer is for, in the words it was started with
    beat_at: datetime | None = None  # last sign of life of an activity that runs for long


async def diagnose(client: Client, workflow_id: str) -> Diagnosis:
    """Raises RPCError NOT_FOUND for what Temporal does not know."""
    found = await client.workflow_service.describe_workflow_execution(
        DescribeWorkflowExecutionRequest(
            namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
        )
    )
    status = found.workflow_execution_info.status
    if status in _BY_FORCE:
        closed = _moment(found.workflow_execution_info.close_time)
        return replace(_of(found), trouble=Trouble.ENDED_BY_FORCE, since=closed)
    if status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED:
        last = [event async for event in _backwards(client, found, 1)]
        failure = last[0].workflow_execution_failed_event_attributes.failure
        return replace(
            _of(found),
            trouble=Trouble.FAILED,
            since=_moment(found.workflow_execution_info.close_time),
            failure=_said(failure),
        )
    if status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING:
        return await _of_running(client, found)
    return _of(found)


async def go_back(client: Client, found: Diagnosis, reason: str) -> str:
    """Run it anew from its last good point; the id of the new run. Raises LookupError for none.

    That is before the last workflow task that was completed: what its commands were is decided
    again, and what came after it is told again.
    """
    execution = WorkflowExecution(workflow_id=found.workflow_id, run_id=found.run_id)
    done = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=execution,
            reason=reason,
            workflow_task_finish_event_id=await _last_good_point(client, execution),
            request_id=f"retry/{found.run_id}",
            reset_reapply_type=ResetReapplyType.RESET_REAPPLY_TYPE_ALL_ELIGIBLE,
            identity=_IDENTITY,
        )
    )
    return done.run_id


async def try_at_once(client: Client, found: Diagnosis) -> str:
    """Its activities begin to count their tries anew, now."""
    await client.workflow_service.reset_activity(
        ResetActivityRequest(
            namespace=client.namespace,
            execution=WorkflowExecution(workflow_id=found.workflow_id, run_id=found.run_id),
            identity=_IDENTITY,
            match_all=True,
            keep_paused=True,
        )
    )
    return found.run_id


async def _last_good_point(client: Client, execution: WorkflowExecution) -> int:
    first_failure = 0
    async for event in _history(client, execution, _MOST_EVENTS):
        if event.event_type == _E.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return event.event_id
        if event.event_type in _FAILED_TASKS:
            first_failure = event.event_id
    if not first_failure:
        raise LookupError(execution.workflow_id)
    return first_failure  # it has never got through one task


async def _of_running(client: Client, found: DescribeWorkflowExecutionResponse) -> Diagnosis:
    for activity in found.pending_activities:
        if activity.attempt > 1:
            next_at = activity.next_attempt_schedule_time
            return replace(
                _of(found),
                trouble=Trouble.ACTIVITY_FAILING,
                attempts=activity.attempt - 1,
                since=_moment(activity.last_attempt_complete_time)
                or _moment(activity.last_started_time),
                at=activity.activity_type.name.replace("_", " "),
                failure=_said(activity.last_failure),
                next_try_at=_moment(next_at),
            )
    events = [event async for event in _backwards(client, found, _LOOK_BACK)]
    if found.HasField("pending_workflow_task"):
        task = found.pending_workflow_task
        last = next(filter(_is_failed_task, events), None)
        if task.attempt > 1 and last is not None and not _timed_out(last):
            return replace(
                _of(found),
                trouble=Trouble.TASK_FAILING,
                attempts=task.attempt - 1,
                since=_moment(task.original_scheduled_time),
                failure=_why(last),
                next_try_at=_future(task.scheduled_time),
            )
    failing = _failing_step(found, events)
    if failing is not None:
        return failing
    if found.HasField("pending_workflow_task"):
        task = found.pending_workflow_task
        since = _moment(task.original_scheduled_time)
        waits = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
        is_late = since is not None and datetime.now(UTC) - since > _PATIENCE
        if is_late and (waits or task.attempt > 1):
            attempts = task.attempt - 1
            return replace(_of(found), trouble=Trouble.NO_WORKER, since=since, attempts=attempts)
    beats = [_moment(one.last_heartbeat_time) for one in found.pending_activities]
    return replace(_of(found), waits=_waits(events), beat_at=next(iter(beats), None))


def _failing_step(
    found: DescribeWorkflowExecutionResponse, events: list[HistoryEvent]
) -> Diagnosis | None:
    """A step whose last try failed: its marker carries the failure, and a timer follows."""
    following: HistoryEvent | None = None  # the event after the one looked at
    for event in events:
        if event.event_type == _E.EVENT_TYPE_MARKER_RECORDED:
            marker = event.marker_recorded_event_attributes
            if marker.marker_name != _STEP or not marker.HasField("failure"):
                return None
            told = json.loads(marker.details["data"].payloads[0].data)
            if not told.get("backoff"):
                return None  # it failed for good: the process has taken note of it
            first_try = told["original_schedule_time"]["seconds"]
            return replace(
                _of(found),
                trouble=Trouble.STEP_FAILING,
                since=datetime.fromtimestamp(first_try, UTC),
                attempts=int(told["attempt"]),
                at=_summary(event) or str(told["activity_type"]).replace("_", " "),
                failure=_said(marker.failure),
                next_try_at=_fires_at(following),
            )
        if event.event_type not in _OF_NO_MEANING:
            return None
        following = event
    return None


def _fires_at(event: HistoryEvent | None) -> datetime | None:
    if event is None or event.event_type != _E.EVENT_TYPE_TIMER_STARTED:
        return None
    rest = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
    return event.event_time.ToDatetime(UTC) + rest


def _waits(events: list[HistoryEvent]) -> str:
    """The words of the newest timer that still runs."""
    over = {
        event.timer_fired_event_attributes.started_event_id
        or event.timer_canceled_event_attributes.started_event_id
        for event in events
    }
    for event in events:
        if event.event_type == _E.EVENT_TYPE_TIMER_STARTED and event.event_id not in over:
            return _summary(event)
    return ""


def _summary(event: HistoryEvent) -> str:
    data = event.user_metadata.summary.data
    return str(json.loads(data)) if data else ""


def _is_failed_task(event: HistoryEvent) -> bool:
    return event.event_type in _FAILED_TASKS


def _timed_out(event: HistoryEvent) -> bool:
    return event.event_type == _E.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT


def _why(event: HistoryEvent) -> str:
    failed = event.workflow_task_failed_event_attributes
    if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR:
        return "the program would do something else than its history says (non-determinism)"
    return _said(failed.failure)


def _said(failure: Failure) -> str:
    """The class of a failure. Its message may quote a row, so only our own refusals are quoted."""
    while failure.HasField("cause"):
        failure = failure.cause
    kind = failure.application_failure_info.type
    if kind in set(Refusal):
        return f"{kind}: {failure.message}"
    nature = str(failure.WhichOneof("failure_info") or "")
    return kind or nature.removesuffix("_failure_info").replace("_", " ") or "failure"


def _of(found: DescribeWorkflowExecutionResponse) -> Diagnosis:
    """What it is, with nothing the matter."""
    info = found.workflow_execution_info
    return Diagnosis(
        workflow_id=info.execution.workflow_id,
        run_id=info.execution.run_id,
        workflow_type=info.type.name,
        running=info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING,
        kind=_attribute(found, PROCESS.name),
        customer_id=_attribute(found, CUSTOMER_ID.name),
    )


def _attribute(found: DescribeWorkflowExecutionResponse, name: str) -> str:
    fields = found.workflow_execution_info.search_attributes.indexed_fields
    return str(json.loads(fields[name].data)) if name in fields else ""


def _backwards(
    client: Client, found: DescribeWorkflowExecutionResponse, most: int
) -> AsyncIterator[HistoryEvent]:
    return _history(client, found.workflow_execution_info.execution, most)


async def _history(
    client: Client, execution: WorkflowExecution, most: int
) -> AsyncIterator[HistoryEvent]:
    """The newest first, `most` of them."""
    token, left = b"", most
    while left > 0:
        page = await client.workflow_service.get_workflow_execution_history_reverse(
            GetWorkflowExecutionHistoryReverseRequest(
                namespace=client.namespace,
                execution=execution,
                maximum_page_size=min(left, 200),
                next_page_token=token,
            )
        )
        for event in page.history.events[:left]:
            yield event
        left -= len(page.history.events)
        token = page.next_page_token
        if not token:
            return


def _moment(stamp: Timestamp) -> datetime | None:
    return stamp.ToDatetime(UTC) if stamp.seconds else None


def _future(stamp: Timestamp) -> datetime | None:
    at = _moment(stamp)
    return at if at is not None and at > datetime.now(UTC) else None
