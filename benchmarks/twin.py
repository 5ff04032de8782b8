"""The bare twin of a recorded life: its moves from the histories, and its driver."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from benchmarks.bare import BARE_QUEUE, BareProcess
from benchmarks.bare_parts import Move, Nudge, Part, Verb, bare_id
from benchmarks.lives import Mark
from benchmarks.reports import Progress, Report
from domain.processes import ProcessKind
from workflows.visibility import search_attributes

_PATIENCE = 30.0  # seconds
_DUE = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
)


async def histories_of(
    client: Client, reports: Sequence[Report]
) -> dict[str, Sequence[HistoryEvent]]:
    """By workflow id, the events of every process of one life, once its last step is in them.

    Raises TimeoutError when it does not come to rest.
    """
    steps = Counter(report.workflow_id for report in reports)
    async with asyncio.timeout(_PATIENCE):
        while True:
            handles = [client.get_workflow_handle(id_) for id_ in steps]
            found = {handle.id: (await handle.fetch_history()).events for handle in handles}
            if all(_at_rest(events, steps[id_]) for id_, events in found.items()):
                return found
            await asyncio.sleep(0.1)


def _at_rest(events: Sequence[HistoryEvent], steps: int) -> bool:
    """Whether all steps are recorded, every child is heard to have ended, and nothing is due."""
    counts = Counter(event.event_type for event in events)
    return (
        counts[EventType.EVENT_TYPE_MARKER_RECORDED] == steps
        and counts[EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED]
        == counts[EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED]
        and events[-1].event_type not in _DUE
    )


def event_counts(histories: Mapping[str, Sequence[HistoryEvent]]) -> Counter[str]:
    names = (EventType.Name(event.event_type) for one in histories.values() for event in one)
    return Counter(name.removeprefix("EVENT_TYPE_") for name in names)


def script_of(
    histories: Mapping[str, Sequence[HistoryEvent]], reports: Sequence[Report]
) -> dict[str, list[Move]]:
    """By role, what the processes of a life did and waited for, in order."""
    roles = {report.workflow_id: report.role for report in reports}
    script = {}
    for workflow_id, events in histories.items():
        steps = iter(report for report in reports if report.workflow_id == workflow_id)
        moves: list[Move] = []
        for event in events:
            if move := _move(event, steps, roles):
                moves.append(move)
        script[roles[workflow_id]] = moves
    return script


def _move(event: HistoryEvent, steps: Any, roles: Mapping[str, str]) -> Move | None:
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            return Move(Verb.HEARD)
        case EventType.EVENT_TYPE_MARKER_RECORDED:
            step: Report = next(steps)
            return Move(Verb.STEP, tells=tuple(roles[id_] for id_ in step.tells))
        case EventType.EVENT_TYPE_TIMER_STARTED:
            lasts = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
            return Move(Verb.START_TIMER, timer=event.event_id, seconds=lasts.total_seconds())
        case EventType.EVENT_TYPE_TIMER_CANCELED:
            return Move(
                Verb.CANCEL_TIMER, timer=event.timer_canceled_event_attributes.started_event_id
            )
        case EventType.EVENT_TYPE_TIMER_FIRED:
            return Move(Verb.FIRED, timer=event.timer_fired_event_attributes.started_event_id)
        case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
            child = event.start_child_workflow_execution_initiated_event_attributes.workflow_id
            return Move(Verb.START_CHILD, child=roles[child])
        case EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
            return Move(Verb.SHOW)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            return Move(Verb.END)
    return None


class TwinDriver:
    """Leads twins through their lives with the calls of the real driver."""

    def __init__(self, client: Client, progress: Progress, marks: Sequence[Mark]) -> None:
        self._client = client
        self._progress = progress
        self._marks = marks

    async def live(self, life: UUID | None = None) -> list[Mark]:
        life = life or uuid4()
        lead, reply, order, dispatch, deliver, answer = self._marks
        await self._tell_lifecycle(life)
        await self._until(life, lead)
        await self._tell_lifecycle(life)
        await self._until(life, reply)
        await self._start(life, ProcessKind.DELIVERY)
        await self._until(life, order)
        await self._tell(life, ProcessKind.DELIVERY)
        await self._until(life, dispatch)
        await self._tell(life, ProcessKind.DELIVERY)
        await self._until(life, deliver)
        await self._tell(life, ProcessKind.FOLLOW_UP)
        await self._until(life, answer)
        return list(self._marks)

    async def _tell_lifecycle(self, life: UUID) -> None:
        """As the product does: a signal, and only for somebody unknown a start with it."""
        try:
            await self._tell(life, ProcessKind.LIFECYCLE)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            options = {"start_signal": "hear", "start_signal_args": [Nudge()]}
            await self._start(life, ProcessKind.LIFECYCLE, **options)

    async def _tell(self, life: UUID, role: str) -> None:
        await self._client.get_workflow_handle(bare_id(role, str(life))).signal("hear", Nudge())

    async def _start(self, life: UUID, role: str, **options: Any) -> None:
        await self._client.start_workflow(
            BareProcess.run,
            Part(life=str(life), role=role),
            id=bare_id(role, str(life)),
            task_queue=BARE_QUEUE,
            search_attributes=search_attributes(life, role),
            static_summary="The bare twin of a process",
            **options,
        )

    async def _until(self, life: UUID, mark: Mark) -> None:
        await self._progress.until(
            str(life),
            lambda report: (report.role, report.number) == mark,
            f"step {mark.number} of {mark.role}",
        )
