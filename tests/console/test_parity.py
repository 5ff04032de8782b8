"""docs/console.md names for each request of the API the screen that makes it, or why none does."""

import re
from typing import NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.deps import SAFE_METHODS
from api.routing import ApiRoute, needed_permission
from console.routes import ConsoleRoute
from domain.staff import PERMISSIONS, Permission
from domain.tasks import Role
from tests.sources import ROOT

_PAGE = (ROOT / "docs" / "console.md").read_text()
_REQUEST = r"`(GET|POST|PUT|PATCH|DELETE) (\S+)`"


class Made(NamedTuple):
    """A request and the screen that makes it; `permission` empty: what only reads."""

    method: str
    path: str
    screen: str
    permission: str


def _part(title: str) -> str:
    return _PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def _made(title: str) -> list[Made]:
    row = rf"^\| [^|]+ \| {_REQUEST} \| `(\S+)` \|(?: `(\w+)` \|)?$"
    return [Made(*found) for found in re.findall(row, _part(title), re.MULTILINE)]


def _plain(path: str) -> str:
    return path.replace(":path}", "}")


def _requests(app: FastAPI, *, acting: bool) -> dict[tuple[str, str], APIRoute]:
    return {
        (method, _plain(str(context.path))): context.original_route
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, ApiRoute)
        for method in context.methods or ()
        if (method not in SAFE_METHODS) is acting
    }


@pytest.mark.parametrize(("title", "acting"), [("Acting", True), ("Reading", False)])
def test_each_request_has_its_screen_or_a_reason_why_not(
    app: FastAPI, title: str, acting: bool
) -> None:
    requests = _requests(app, acting=acting)
    for_programs = set(re.findall(rf"^\| {_REQUEST} \|", _part("For programs only"), re.MULTILINE))
    told = [(made.method, made.path) for made in _made(title)]
    assert len(told) == len(set(told)), "each once"
    assert set(told) | (for_programs & set(requests)) == set(requests)
    assert not set(told) & for_programs
    assert for_programs <= {*_requests(app, acting=True), *_requests(app, acting=False)}
    if acting:
        for made in _made(title):
            needed = needed_permission(requests[made.method, made.path].endpoint)
            assert made.permission == needed, made


def test_each_screen_that_is_named_is_there(app: FastAPI) -> None:
    screens = {
        _plain(str(context.path))
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, ConsoleRoute) and "GET" in (context.methods or ())
    }
    assert {made.screen for title in ("Acting", "Reading") for made in _made(title)} <= screens


def test_who_may_is_what_the_roles_have() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([a-z ,]+) \|$", _part("Who may"), re.MULTILINE)
    for permission in Permission:
        roles = [role.replace("_", " ") for role in Role if permission in PERMISSIONS[role]]
        said = "everybody" if len(roles) == len(Role) else ", ".join(roles)
        assert dict(rows)[permission] == said
    assert len(rows) == len(Permission)
