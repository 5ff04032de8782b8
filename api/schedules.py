"""The recurring work: Temporal Schedules, listed, paused, triggered and caught up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field, model_validator
from temporalio.client import (
    Client,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    WorkflowExecutionStatus,
)
from temporalio.service import RPCError, RPCStatusCode

from api.deps import Held, Resources
from api.errors import invalid_field, not_found
from api.fields import Body, Instant, StaffId, Word, example
from api.routing import ApiRoute, needs, note_change
from domain.schedules import RECURRENCES, ScheduleName, SweepResult
from domain.staff import Permission

_TRIES, _SOON = 30, 0.1  # seconds between looks at a change

router = APIRouter(prefix="/schedules", tags=["schedules"], route_class=ApiRoute)

PREFIX = "schedule/"
_LONGEST_BACKFILL = timedelta(days=366)

Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$", examples=["retention-sweep"])]


class RecentRun(BaseModel):
    scheduled_at: datetime
    started_at: datetime


class LastRun(BaseModel):
    """The latest run that began. `found` and `clean`: its result, of a run that completed."""

    workflow_id: str
    started_at: datetime
    state: str = Field(examples=["running", "completed", "failed"])
    found: int | None = None
    clean: bool | None = None


class ScheduleView(BaseModel):
    name: str
    does: str = Field(description="the workflow it starts")
    words: str = Field(description="what that is for; empty for one that is not ours")
    last_run: LastRun | None
    paused: bool
    note: str
    next_runs: list[datetime]
    recent_runs: list[RecentRun]
    runs: int
    missed: int
    temporal_url: str


class Schedules(BaseModel):
    items: list[ScheduleView]


class StaffReason(Body):
    by: StaffId = "api"
    reason: Word | None = Field(None, description="a code, no personal data")


class Backfill(Body):
    """Run what would have run in a span of the past."""

    model_config = example(start_at="2026-11-01T00:00:00Z", end_at="2026-11-02T00:00:00Z")

    start_at: Instant
    end_at: Instant
    overlap: Literal["skip", "buffer_one", "buffer_all", "allow_all"] = "buffer_all"

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if self.end_at <= self.start_at:
            raise ValueError("end_at must be after start_at")
        if self.end_at - self.start_at > _LONGEST_BACKFILL:
            raise ValueError(f"at most {_LONGEST_BACKFILL.days} days at once")
        return self


class ScheduleTold(BaseModel):
    name: str
    accepted: bool = True


@router.get("")
async def list_schedules(held: Held) -> Schedules:
    """Every schedule with its next runs."""
    async with held.engine.reached() as client:
        listed = [one.id async for one in await client.list_schedules()]
        ours = sorted(name for name in listed if name.startswith(PREFIX))
        handles = [client.get_schedule_handle(name) for name in ours]
        described = await asyncio.gather(*(handle.describe() for handle in handles))
        views = (_view(client, found, held) for found in described)
        return Schedules(items=list(await asyncio.gather(*views)))


@router.get("/{name}")
async def show_schedule(name: Name, held: Held) -> ScheduleView:
    """One schedule."""
    return await _show(held, name)


@router.post("/{name}/pause")
@needs(Permission.RUN_SCHEDULES)
async def pause_schedule(
    name: Name, body: StaffReason, request: Request, held: Held
) -> ScheduleView:
    """Start nothing until it is resumed."""
    return await _set_paused(request, held, name, body, paused=True)


@router.post("/{name}/resume")
@needs(Permission.RUN_SCHEDULES)
async def resume_schedule(
    name: Name, body: StaffReason, request: Request, held: Held
) -> ScheduleView:
    """Go on with the next run."""
    return await _set_paused(request, held, name, body, paused=False)


@router.post("/{name}/trigger", status_code=202)
@needs(Permission.RUN_SCHEDULES)
async def trigger_schedule(name: Name, held: Held) -> ScheduleTold:
    """Run it once now, also when it is paused."""
    async with _schedule(held, name) as (_, handle):
        await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)
    return ScheduleTold(name=name)


@router.post("/{name}/backfill", status_code=202)
@needs(Permission.RUN_SCHEDULES)
async def backfill_schedule(name: Name, body: Backfill, held: Held) -> ScheduleTold:
    """Run what it missed between two moments of the past."""
    if body.end_at > datetime.now(UTC):
        raise invalid_field("/end_at", "must not be in the future")
    overlap = ScheduleOverlapPolicy[body.overlap.upper()]
    async with _schedule(held, name) as (_, handle):
        await handle.backfill(
            ScheduleBackfill(start_at=body.start_at, end_at=body.end_at, overlap=overlap)
        )
    return ScheduleTold(name=name)


@asynccontextmanager
async def _schedule(held: Resources, name: str) -> AsyncIterator[tuple[Client, ScheduleHandle]]:
    """Raises the 404 problem for one that isn't there."""
    try:
        async with held.engine.reached() as client:
            yield client, client.get_schedule_handle(PREFIX + name)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise not_found("schedule", name) from None
        raise


async def _set_paused(
    request: Request, held: Resources, name: str, body: StaffReason, *, paused: bool
) -> ScheduleView:
    async with _schedule(held, name) as (_, handle):
        was = (await handle.describe()).schedule.state
        if paused:
            await handle.pause(note=_note("paused", body))
        else:
            await handle.unpause(note=_note("resumed", body))
    note_change(request, before={"paused": was.paused, "note": was.note or ""})
    return await _taken_up(held, name, paused=paused)


async def _taken_up(held: Resources, name: str, *, paused: bool) -> ScheduleView:
    """The server answers before the schedule has taken a change up: show it as asked for."""
    for _ in range(_TRIES):
        shown = await _show(held, name)
        if shown.paused is paused:
            break
        await asyncio.sleep(_SOON)
    return shown


async def _show(held: Resources, name: str) -> ScheduleView:
    async with _schedule(held, name) as (client, handle):
        return await _view(client, await handle.describe(), held)


def _note(what: str, body: StaffReason) -> str:
    return f"{what} by {body.by}" + (f": {body.reason}" if body.reason else "")


async def _view(client: Client, found: ScheduleDescription, held: Resources) -> ScheduleView:
    action = found.schedule.action
    name = found.id.removeprefix(PREFIX)
    ui = f"{held.temporal_ui_url}/namespaces/{held.namespace}/schedules"
    return ScheduleView(
        name=name,
        words=RECURRENCES[ScheduleName(name)].words if name in set(ScheduleName) else "",
        last_run=await _last_run(client, found),
        does=str(action.workflow) if isinstance(action, ScheduleActionStartWorkflow) else "",
        paused=found.schedule.state.paused,
        note=found.schedule.state.note or "",
        next_runs=list(found.info.next_action_times),
        recent_runs=[
            RecentRun(scheduled_at=run.scheduled_at, started_at=run.started_at)
            for run in found.info.recent_actions
        ],
        runs=found.info.num_actions,
        missed=found.info.num_actions_missed_catchup_window,
        temporal_url=f"{ui}/{quote(found.id, safe='')}",
    )


async def _last_run(client: Client, found: ScheduleDescription) -> LastRun | None:
    if not found.info.recent_actions:
        return None
    last = found.info.recent_actions[-1]
    assert isinstance(last.action, ScheduleActionExecutionStartWorkflow)
    handle = client.get_workflow_handle(last.action.workflow_id, result_type=SweepResult)
    shown = LastRun(workflow_id=handle.id, started_at=last.started_at, state="forgotten")
    try:
        described = await handle.describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return shown  # older than Temporal keeps what has ended
    status = described.status
    shown.state = status.name.lower() if status else "unknown"
    if status is WorkflowExecutionStatus.COMPLETED:
        result = await handle.result()
        shown.found, shown.clean = result.found, result.clean
    return shown
