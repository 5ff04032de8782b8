"""Schedules: the recurring work; paused, let go on, run now, caught up on the past."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from fastapi import APIRouter
from fastapi.responses import Response

from api.schedules import Name
from console.desk import AtDesk, Desk, Refused, Undo
from console.routes import ConsoleRoute
from domain.schedules import RECURRENCES
from domain.staff import Permission

router = APIRouter(route_class=ConsoleRoute)

_REASONS = ("maintenance", "under-review", "not-needed")
_OVERLAPS = (
    ("buffer_all", "One after the other"),
    ("buffer_one", "Only one more after the one that runs"),
    ("skip", "Only while none runs"),
    ("allow_all", "All at once"),
)
_ROOM = "/console/schedules"


@router.get("/schedules")
async def list_schedules(desk: AtDesk) -> Response:
    desk.require(Permission.RUN_SCHEDULES)
    schedules = await desk.get("/schedules")
    return desk.page("schedules/list.html", schedules=schedules["items"])


@router.get("/schedules/{name}")
async def show_schedule(desk: AtDesk, name: Name) -> Response:
    return await _show(desk, name)


async def _show(desk: Desk, name: str, problem: dict[str, object] | None = None) -> Response:
    desk.require(Permission.RUN_SCHEDULES)
    recurrences = {str(key): recurrence for key, recurrence in RECURRENCES.items()}
    return desk.page(
        "schedules/one.html",
        status=200 if problem is None else int(str(problem["status"])),
        schedule=await desk.get(f"/schedules/{name}"),
        recurrence=recurrences.get(name),
        reasons=_REASONS,
        overlaps=_OVERLAPS,
        problem=problem,
        typed=desk.form,
    )


@router.post("/schedules/{name}/pause")
async def pause_schedule(desk: AtDesk, name: Name) -> Response:
    await desk.act("POST", f"/schedules/{name}/pause", desk.given("reason"))
    undo = Undo(f"{_ROOM}/{name}/resume")
    return desk.back("Paused: it starts nothing until it is resumed", undo=undo)


@router.post("/schedules/{name}/resume")
async def resume_schedule(desk: AtDesk, name: Name) -> Response:
    await desk.act("POST", f"/schedules/{name}/resume", {})
    return desk.back("It goes on with its next run", undo=Undo(f"{_ROOM}/{name}/pause"))


@router.post("/schedules/{name}/trigger")
async def trigger_schedule(desk: AtDesk, name: Name) -> Response:
    await desk.act("POST", f"/schedules/{name}/trigger")
    return desk.back("It runs now: its result is shown here in a moment")


@router.post("/schedules/{name}/backfill")
async def backfill_schedule(desk: AtDesk, name: Name) -> Response:
    try:
        body = {
            "start_at": _moment(desk, "start_at"),
            "end_at": _moment(desk, "end_at"),
            "overlap": desk.text("overlap"),
        }
        await desk.act("POST", f"/schedules/{name}/backfill", body)
    except Refused as refused:
        if refused.status != 422:
            raise
        return await _show(desk, name, refused.problem)
    return desk.back("It runs what was due in that time")


def _moment(desk: Desk, name: str) -> str:
    """What a field for date and time holds, in the viewer's zone; else as it is, to be refused."""
    typed = desk.text(name)
    try:
        local = datetime.fromisoformat(typed)
    except ValueError:
        return typed
    zone = ZoneInfo(desk.viewer.zone)
    return (local if local.tzinfo else local.replace(tzinfo=zone)).astimezone(UTC).isoformat()
