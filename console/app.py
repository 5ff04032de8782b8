"""Puts the console into the application: screens, what browsers load, and where one signs in."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from api.deps import SAFE_METHODS
from api.errors import Code, Problem
from api.routing import Beneath
from console import (
    account,
    cases,
    claims,
    customer,
    customers,
    delivery_reports,
    eye,
    feedback,
    figures,
    home,
    journey,
    live,
    mails,
    messages,
    operations,
    orders,
    policies,
    processes,
    saved_views,
    schedules,
    search,
    sign_in,
    staff,
    starts,
    suppressions,
    surveys,
    tasks,
    templates,
    texts,
)
from console.desk import PREFIX, segment
from console.rendering import assets
from console.routes import ConsoleRoute

SCREENS: tuple[APIRouter, ...] = (
    home.router,
    sign_in.router,
    account.router,
    search.router,
    live.router,
    staff.router,
    messages.router,
    templates.router,
    policies.router,
    eye.router,
    tasks.router,
    cases.router,
    mails.router,
    feedback.router,
    orders.router,
    figures.router,
    journey.router,
    processes.router,
    operations.router,
    schedules.router,
    customers.router,
    customer.router,
    starts.router,
    saved_views.router,
    suppressions.router,
    claims.router,
    texts.router,
    delivery_reports.router,
    surveys.router,
)
_ROUTES = [one for router in SCREENS for one in router.routes if isinstance(one, APIRoute)]
_nowhere = APIRouter(route_class=ConsoleRoute)
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def install(app: FastAPI) -> None:
    """Raises RuntimeError when an asset of an installed package is missing."""
    found = assets()
    app.state.streams = live.Streams()

    async def show_asset(name: str) -> Response:
        if name not in found:
            raise Problem(Code.UNKNOWN_ROUTE, f"there is no {name[:60]!a} here")
        return FileResponse(found[name], headers=_FOR_EVER)

    console = Beneath(PREFIX, include_in_schema=False)
    console.add_api_route(f"{PREFIX}/static/{{name}}", show_asset, methods=["GET", "HEAD"])
    for router in (sign_in.open_to_all, *SCREENS, _nowhere):
        console.include_router(router, prefix=PREFIX)
    app.include_router(console)


@_nowhere.api_route("/{rest:path}", methods=["GET", "POST"])
async def show_nothing(request: Request, rest: str) -> Response:
    """An address that is none of ours: told as a page, after the sign-in. What only a form is sent
    to, such as a preview that is loaded again or was kept as a bookmark: the page above it.
    """
    path = f"/{rest}"
    if request.method in SAFE_METHODS and _takes(path, "POST"):
        while path and not _takes(path, "GET"):
            path = path.rpartition("/")[0]
        return RedirectResponse(f"{PREFIX}{segment(path)}", 303)
    raise Problem(Code.UNKNOWN_ROUTE, f"nothing is at {PREFIX}/{rest[:200]}")


def _takes(path: str, method: str) -> bool:
    return any(method in (one.methods or ()) and one.path_regex.match(path) for one in _ROUTES)
