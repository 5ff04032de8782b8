"""Processes: how each kind stands, how its runs went, and one run told in plain words."""

import functools
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, TypeVar

from fastapi import APIRouter, Path
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.processes import WorkflowId
from console.counted import Counted, counted
from console.desk import AtDesk, Desk, Json, Refused, Undo, segment
from console.routes import ConsoleRoute
from console.steps import step_shown
from database.queries.customers import clock_of
from database.queries.processes import (
    RUNS,
    facts_told,
    figures_of_kinds,
    flow_of,
    lines_of,
    messages_of,
    names_of,
    tasks_of,
)
from domain.clock import REAL_TIME
from domain.processes import ProcessKind, ProcessState
from domain.timeline import words_for

router = APIRouter(route_class=ConsoleRoute)

T = TypeVar("T")
KindPath = Annotated[ProcessKind, Path()]

# The reasons that can be chosen from; the API takes any code.
REASONS = {
    "pause": ("customer-asked", "under-review", "maintenance", "wrong-data"),
    "stop": ("no-longer-needed", "customer-asked", "duplicate", "mistake"),
    "retry": ("mended", "cause-removed", "try-again"),
}
_UNDOES = {"pause": "resume", "resume": "pause"}
_DONE = {
    "pause": "Paused: nothing more happens until it may go on",
    "resume": "It goes on",
    "stop": "Stopped: what it has done stays done",
}


class Line(NamedTuple):
    """Something that a process did, with the messages it asked for on that occasion."""

    kind: str
    words: str
    at: object
    detail: list[tuple[str, str]]
    messages: list[object]


@router.get("/processes")
async def list_kinds(desk: AtDesk) -> Response:
    kinds = await counted(desk.request.app, "kinds", lambda: _count(desk, figures_of_kinds))
    troubles = await _troubles(desk)
    return desk.page(
        "processes/list.html",
        kinds=kinds.value,
        troubles=troubles.value,
        age=max(kinds.age, troubles.age),
    )


@router.get("/processes/kinds/{kind}")
async def show_kind(desk: AtDesk, kind: KindPath) -> Response:
    filters = desk.filters("state", "step", "overdue", "cursor")
    runs = await desk.get("/processes", kind=kind, limit=30, **filters)
    flow_of_kind = functools.partial(flow_of, kind=kind)
    flow = await counted(desk.request.app, ("flow", kind), lambda: _count(desk, flow_of_kind))
    troubles = await _troubles(desk)
    async with desk.database() as session:
        names = await names_of(session, (one["customer_id"] for one in runs["items"]))
    return desk.page(
        "processes/kind.html",
        kind=kind,
        flow=flow.value,
        age=max(flow.age, troubles.age),
        choices=[(step, step) for step in _known([one.step for one in flow.value.steps], filters)],
        most=max((one.runs for one in flow.value.passed), default=1),
        latest=RUNS,
        runs=runs,
        names={str(customer_id): name for customer_id, name in names.items()},
        states=list(ProcessState),
        troubles=[one for one in troubles.value["items"] if one["kind"] == kind],
    )


@router.get("/processes/{workflow_id:path}")
async def show_process(desk: AtDesk, workflow_id: WorkflowId) -> Response:
    """One run. Of one that has left no record yet, what Temporal says."""
    path = f"/processes/{segment(workflow_id)}"
    health = await _health(desk, path)
    try:
        process = await desk.get(path)
    except Refused as refused:
        if refused.status != 404 or not health or not health["run_id"]:
            raise
        return desk.page(
            "processes/unrecorded.html", workflow_id=workflow_id, health=health, reasons=REASONS
        )
    async with desk.database() as session:
        lines = await lines_of(session, workflow_id)
        messages = await messages_of(session, workflow_id)
        tasks = await tasks_of(session, workflow_id)
        told = await facts_told(session, workflow_id, frozenset(line.step_key for line in lines))
        names = await names_of(session, [process["customer_id"]])
        clock = await clock_of(session, process["customer_id"]) or REAL_TIME
    by_step: dict[str, list[object]] = {}
    for message in messages:
        by_step.setdefault(message.step, []).append(message)
    story = [
        Line(
            kind=line.kind,
            words=words_for(line.kind, line.facts),
            at=line.happened_at,
            detail=[(name, str(value)) for name, value in line.facts.items() if value],
            messages=by_step.pop(line.step_key, []),
        )
        for line in lines
    ]
    return desk.page(
        "processes/one.html",
        process=process,
        health=health,
        name=next(iter(names.values()), ""),
        story=story,
        others=[message for rest in by_step.values() for message in rest],
        tasks=tasks,
        told=told,
        now=clock.business(datetime.now(UTC)),
        speed=clock.speed,
        about=_about(process),
        reasons=REASONS,
    )


@router.post("/processes/{workflow_id:path}/commands")
async def steer_process(desk: AtDesk, workflow_id: WorkflowId) -> Response:
    command = desk.text("command")
    body = {"command": command, **desk.given("reason")}
    here = f"/console/processes/{segment(workflow_id)}"
    async with step_shown(desk, workflow_id):
        await desk.act("POST", f"/processes/{segment(workflow_id)}/commands", body)
    inverse = _UNDOES.get(command)
    undo = Undo(f"{here}/commands", {"command": inverse}) if inverse else None
    return desk.back(_DONE[command], undo=undo)


@router.post("/processes/{workflow_id:path}/retry")
async def retry_process(desk: AtDesk, workflow_id: WorkflowId) -> Response:
    body = desk.given("reason", "run_id")
    await desk.act("POST", f"/processes/{segment(workflow_id)}/retry", body)
    return desk.back("Tried again: see here whether it goes on")


def _known(steps: list[str], filters: dict[str, str]) -> list[str]:
    """The steps to choose from: also the one asked for, where nobody stands any more."""
    asked = filters.get("step", "")
    return [*steps, asked] if asked and asked not in steps else steps


async def unless_away(desk: Desk, path: str, **parameters: object) -> Json:
    """What the API answers; None while Temporal is away: the rest of a page stands without it."""
    try:
        return await desk.get(path, **parameters)
    except Refused as refused:
        if refused.status != 503:
            raise
        return None


async def _count(desk: Desk, figures: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async with desk.held.sessions.begin() as session:
        return await figures(session)


async def _troubles(desk: Desk) -> Counted[Json]:
    """Of all kinds; Temporal is asked about each that is suspected."""
    ask = functools.partial(desk.get, "/operations/processes")
    try:
        return await counted(desk.request.app, "troubles", ask)
    except Refused as refused:
        if refused.status != 503:
            raise
        return Counted({"items": [], "complete": False}, time.monotonic(), 0)


async def _health(desk: Desk, path: str) -> Json:
    try:
        return await unless_away(desk, f"{path}/health")
    except Refused as refused:
        if refused.status != 404:
            raise
        return None


def _about(process: Json) -> tuple[str, str] | None:
    """The order or case that a process is about: its name and its screen."""
    prefix, _, key = process["workflow_id"].partition("/")
    match prefix:
        case "delivery":
            return "The order", f"/console/orders/{key}"
        case "case":
            return "The case", f"/console/cases/{key}"
        case _:
            return None
