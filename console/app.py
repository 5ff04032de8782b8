"""Puts the console into the application: screens, what browsers load, and where one signs in."""

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, Response

from api.errors import Code, Problem
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
from console.desk import PREFIX
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
_nowhere = APIRouter(route_class=ConsoleRoute)
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def install(app: FastAPI) -> None:
    """Raises RuntimeError when an asset of an installed package is missing."""
    found = assets()

    async def show_asset(name: str) -> Response:
        if name not in found:
            raise Problem(Code.UNKNOWN_ROUTE, f"there is no {name[:60]!a} here")
        return FileResponse(found[name], headers=_FOR_EVER)

    app.add_api_route(f"{PREFIX}/static/{{name}}", show_asset, include_in_schema=False)
    for router in (sign_in.open_to_all, *SCREENS):
        app.include_router(router, prefix=PREFIX, include_in_schema=False)
    app.include_router(_nowhere, prefix=PREFIX, include_in_schema=False)


@_nowhere.api_route("/{rest:path}", methods=["GET", "POST"])
async def show_nothing(rest: str) -> Response:
    """An address that is none of ours: told as a page, after the sign-in."""
    raise Problem(Code.UNKNOWN_ROUTE, f"nothing is at {PREFIX}/{rest[:200]}")
