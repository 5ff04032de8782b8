"""What each role is shown and may do: in the navigation, on its home, and by every API route."""

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api.deps import SAFE_METHODS
from api.routing import ApiRoute, needed_permission
from console.navigation import GROUPS
from console.rendering import asset
from database.base import Sessions
from domain.staff import PERMISSIONS, Permission
from domain.tasks import Role
from settings import Settings
from tests.api.conftest import running_app
from tests.console.conftest import calling_as

# What declares no permission is for other systems only.
FOR_PROGRAMS = {
    *("report_event", "upsert_customers", "start_simulation"),
    *("take_received_mail", "take_received_text"),
}
HOMES = {
    Role.SALES_REP: ("Replies waiting", "First contacts under way", "Promises we owe"),
    Role.SUPPORT_AGENT: (
        "My cases",
        "Customers who just answered",
        "Nobody&#39;s yet",
        "of strangers",
    ),
    Role.ACCOUNT_MANAGER: ("Disappointed customers", "try to keep", "falling silent"),
    Role.OPS: (
        "failed or stumble",
        "should have gone on",
        "Messages that failed",
        "Schedules that are paused",
    ),
    Role.MANAGER: ("Delivered by the promised day", "Overdue tasks", "missed in the last 7 days"),
    Role.ADMIN: ("failed or stumble", "should have gone on", "Accounts to look at"),
}
_CASE = "/cases/0197b7c2-0000-7000-8000-000000000000"


class Unsafe(NamedTuple):
    method: str
    path: str
    endpoint: Callable[..., object]


def _unsafe_routes(app: FastAPI) -> list[Unsafe]:
    return [
        Unsafe(method, str(context.path), context.original_route.endpoint)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, ApiRoute)
        for method in sorted(set(context.methods or ()) - SAFE_METHODS)
    ]


def _impossible(path: str) -> str:
    """The address with ids that no route takes: whoever may call it gets 404 or 422, no effect."""
    return re.sub(r"\{[^}]+\}", "!", path)


@pytest.mark.parametrize("role", list(Role))
async def test_the_api_refuses_what_the_role_may_not(
    app: FastAPI, sessions: Sessions, role: Role
) -> None:
    async with calling_as(app, sessions, role) as client:
        for method, path, endpoint in _unsafe_routes(app):
            answer = await client.request(
                method,
                _impossible(path),
                content=b"[]",
                headers={"content-type": "application/json"},
            )
            permission = needed_permission(endpoint) or Permission.INTEGRATE
            told = answer.json() if answer.is_error else {}
            refused = (answer.status_code, told.get("code")) == (403, "forbidden")
            assert refused is (permission not in PERMISSIONS[role]), (role, method, path)
            assert answer.is_error, (method, path)


def test_what_is_open_to_staff_says_to_whom(app: FastAPI) -> None:
    undeclared = {
        endpoint.__name__
        for _, _, endpoint in _unsafe_routes(app)
        if needed_permission(endpoint) is None
    }
    assert undeclared == FOR_PROGRAMS


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_sees_its_home_and_its_screens_only(
    app: FastAPI, sessions: Sessions, role: Role
) -> None:
    async with calling_as(app, sessions, role) as client:
        home = await client.get("/console")
        assert home.status_code == 200
        for words in HOMES[role]:
            assert words in home.text
        for _, entries in GROUPS:
            for entry in entries:
                may = entry.permission in PERMISSIONS[role]
                assert (f'href="{entry.path}" data-key' in home.text) is may
        staff = await client.get("/console/staff")
        assert staff.status_code == (200 if role is Role.ADMIN else 403)
        for path in ("/console/tasks", "/console/cases", "/console/feedback"):
            assert (await client.get(path)).status_code == 200
        bulk = "Assign cases" in (await client.get("/console/cases?show=all")).text
        assert not bulk or Permission.WORK_CASES in PERMISSIONS[role]


async def test_homes_do_not_wait_for_one_another(app: FastAPI, sessions: Sessions) -> None:
    """One that asks the API while it holds a connection would keep it from the others."""
    async with calling_as(app, sessions, Role.OPS) as client:
        homes = await asyncio.gather(*(client.get("/console") for _ in range(16)))
    assert {home.status_code for home in homes} == {200}
    assert all("Schedules that are paused" in home.text for home in homes)
    assert not [home for home in homes if "PostgreSQL does not answer" in home.text]


async def test_a_head_is_answered_as_its_get(
    app: FastAPI, sessions: Sessions, console_url: str
) -> None:
    async with (
        calling_as(app, sessions, Role.OPS) as client,
        httpx2.AsyncClient(base_url=console_url, cookies=client.cookies, timeout=30) as browser,
    ):
        for path, status in (
            *(("/console", 200), ("/console/tasks", 200), ("/console/staff", 403)),
            *(("/console/sign-in", 303), (asset("console.css"), 200), ("/console/none", 404)),
            ("/console/live?topics=tasks", 404),  # a stream has no end to wait for
        ):
            answer = await browser.head(path)
            assert (path, answer.status_code, answer.content) == (path, status, b"")
            assert "application/problem" not in answer.headers.get("content-type", "")


@pytest.mark.parametrize(
    ("sent_to", "above"),
    [
        (f"{_CASE}/preview", _CASE),
        ("/templates/win_back/versions/3/publication", "/templates/win_back/versions/3"),
        ("/templates/win_back/versions", "/templates/win_back"),
        ("/templates/a%2F%0D%0Ab/versions", None),
        ("/policies/delivery/review", "/policies/delivery"),
        ("/start/bulk", "/start"),
        ("/saved-views", ""),
        ("/nothing/preview", None),
    ],
)
async def test_what_only_a_form_is_sent_to_leads_to_its_page(
    app: FastAPI, sessions: Sessions, sent_to: str, above: str | None
) -> None:
    async with calling_as(app, sessions, Role.ADMIN) as client:
        answer = await client.get(f"/console{sent_to}")
        if above is None:
            assert answer.status_code == 404
        else:
            assert (answer.status_code, answer.headers["location"]) == (303, f"/console{above}")


async def test_the_home_stands_while_temporal_is_away(
    settings: Settings, sessions: Sessions
) -> None:
    away = settings.model_copy(update={"temporal_address": "127.0.0.1:1"})
    async with running_app(away) as app, calling_as(app, sessions, Role.ADMIN) as client:
        home = await client.get("/console")
    assert home.status_code == 200
    assert "Temporal does not answer: processes wait, nothing is lost." in home.text
    assert "Messages that failed" in home.text
    assert "None failed" not in home.text


_PLANNED = sa.text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE :told")


@pytest.mark.parametrize(
    ("path", "told"), [("/console/orders", "%late_noticed_at%"), ("/readyz", "%alembic_version%")]
)
async def test_what_is_looked_at_again_is_planned_once(
    settings: Settings, sessions: Sessions, path: str, told: str
) -> None:
    async with running_app(settings) as app, calling_as(app, sessions, Role.ADMIN) as client:
        for _ in range(3):
            assert (await client.get(path)).status_code == 200
        async with app.state.resources.sessions.begin() as session:  # of the same connection
            assert await session.scalar(_PLANNED, {"told": told}) > 0


async def test_nobody_gets_in_without_a_session(app: FastAPI) -> None:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://crm"
    ) as stranger:
        for path in ("/console", "/console/cases", "/console/tasks", "/console/received-mails"):
            answer = await stranger.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/console/sign-in")
