"""One's own account: sessions, and how the console looks and listens."""

from zoneinfo import available_timezones

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk
from console.routes import ConsoleRoute
from console.viewer import THEMES

router = APIRouter(route_class=ConsoleRoute)


@router.get("/account")
async def show_account(desk: AtDesk) -> Response:
    sessions = await desk.get(f"/staff/{desk.viewer.id}/sessions")
    zones = sorted(available_timezones())
    return desk.page("account.html", sessions=sessions["items"], themes=THEMES, zones=zones)


@router.post("/account")
async def change_account(desk: AtDesk) -> Response:
    chosen = {
        "theme": desk.text("theme"),
        "zone": desk.text("zone"),
        "keys": desk.text("keys") == "on",
    }
    await desk.act("PUT", "/staff/me/preferences", chosen)
    return desk.back("Saved", to="/console/account")


@router.post("/account/sessions")
async def end_session(desk: AtDesk) -> Response:
    """One of mine, or all of them: this one too."""
    only = desk.text("only")
    tail = f"?only={only}" if only else ""
    await desk.act("DELETE", f"/staff/{desk.viewer.id}/sessions{tail}")
    return desk.back("Session ended", to="/console/account")


@router.get("/keys")
async def show_keys(desk: AtDesk) -> Response:
    return desk.page("keys.html")
