"""Each role's home: what needs me now, by the time that is left."""

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk
from console.routes import ConsoleRoute

router = APIRouter(route_class=ConsoleRoute)


@router.get("")
async def show_home(desk: AtDesk) -> Response:
    mine = await desk.get("/tasks", owner=desk.viewer.id, state="claimed", limit=20)
    waiting = await desk.get("/tasks", role=desk.viewer.role, state="open", limit=20)
    return desk.page("home.html", mine=mine["items"], waiting=waiting["items"])
