"""Search: a page of its own, and the palette that shows the same and what can be done here."""

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import PREFIX, AtDesk, Desk, Json, segment
from console.navigation import GROUPS
from console.routes import ConsoleRoute

router = APIRouter(route_class=ConsoleRoute)

_SHORTEST = 2


@router.get("/search")
async def show_search(desk: AtDesk) -> Response:
    asked = desk.request.query_params.get("q", "").strip()[:200]
    return desk.page("search.html", asked=asked, found=await _found(desk, asked))


@router.get("/palette")
async def show_palette(desk: AtDesk) -> Response:
    asked = desk.request.query_params.get("q", "").strip()[:200]
    screens = [
        entry
        for _, entries in GROUPS
        for entry in entries
        if desk.viewer.may(entry.permission) and asked.casefold() in entry.label.casefold()
    ]
    found = await _found(desk, asked)
    return desk.page("palette.html", asked=asked, found=found, screens=screens)


async def _found(desk: Desk, asked: str) -> list[Json]:
    if len(asked.lstrip("@#!$")) < _SHORTEST:
        return []
    hits = (await desk.get("/search", q=asked))["items"]
    return [{**hit, "address": address_of(hit["kind"], str(hit["id"]))} for hit in hits]


def address_of(kind: str, key: str) -> str:
    """The screen of a thing."""
    screens = {
        "customer": "customers",
        "order": "orders",
        "case": "cases",
        "task": "tasks",
        "process": "processes",
        "message": "messages",
    }
    return f"{PREFIX}/{screens[kind]}/{segment(key)}"
