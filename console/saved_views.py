"""Views of lists: kept under a name, shared, forgotten. For every screen that has filters."""

from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import PREFIX, AtDesk, Desk, Json
from console.routes import ConsoleRoute

router = APIRouter(route_class=ConsoleRoute)

_NOT_KEPT = ("cursor",)


async def views_of(desk: Desk, screen: str) -> list[Json]:
    """The viewer's views of a screen and the shared ones; `here`: it is what is shown."""
    shown = _query(desk.request.url.query)
    found = (await desk.get("/saved-views", screen=screen))["items"]
    return [{**view, "here": view["query"] == shown} for view in found]


@router.post("/saved-views")
async def save_view(desk: AtDesk) -> Response:
    """What is shown, under a name; the same name again replaces it."""
    screen, query = desk.text("screen"), _query(desk.text("query"))
    body = {
        "screen": screen,
        "name": desk.text("name"),
        "query": query,
        "shared": desk.text("shared") == "yes",
    }
    await desk.act("POST", "/saved-views", body)
    return desk.back(f"View “{body['name']}” saved", to=f"{PREFIX}/{screen}?{query}")


@router.post("/saved-views/{view_id}/forget")
async def forget_view(desk: AtDesk, view_id: UUID) -> Response:
    forgotten = await desk.act("DELETE", f"/saved-views/{view_id}")
    return desk.back(f"View “{forgotten['name']}” forgotten")


def _query(given: str) -> str:
    """In one form, so that the same filters are known again."""
    pairs = [(name, value) for name, value in parse_qsl(given) if name not in _NOT_KEPT]
    return urlencode(sorted(pairs))
