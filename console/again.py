"""When something did not go: what, why, what now; and nothing that was typed is lost."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from itsdangerous import BadData, URLSafeSerializer

from api.deps import resources
from api.errors import Code
from console.desk import PREFIX, Desk, is_ours
from console.rendering import page_of_nobody

Fields = Mapping[str, Sequence[str]]


def ask_again(desk: Desk, problem: Mapping[str, Any]) -> HTMLResponse:
    """The form once more, with what was typed in it and what speaks against it."""
    return desk.page(
        "again.html",
        status=int(problem["status"]),
        problem=problem,
        action=desk.request.url.path,
        fields=desk.typed,
        version=_version_now(problem, desk.form.get("version")),
        differs=_differences(desk.form, problem.get("current")),
        back=desk.came_from,
        # The first attempt may have been done and its answer lost: the same key does it once.
        key="" if problem["code"] == Code.KEY_REUSED else desk.form.get("key", ""),
    )


def sign_in_again(request: Request, fields: Fields) -> HTMLResponse:
    """The session ended while somebody was typing: the sign-in carries the form along, except
    passwords: what it carries is signed, not hidden.
    """
    typed = {
        name: [""] * len(values) if "password" in name else list(values)
        for name, values in fields.items()
        if name != "csrf_token"
    }
    kept = _keeper(request).dumps(json.dumps({"action": request.url.path, "fields": typed}))
    context = {"next": PREFIX, "kept": _text(kept), "problem": None, "email": ""}
    return page_of_nobody("sign_in.html", context, status=401)


def taken_up_again(request: Request, kept: str) -> dict[str, Any] | None:
    """What `sign_in_again` has kept, if it was made here."""
    try:
        found: dict[str, Any] = json.loads(_keeper(request).loads(kept))
    except (BadData, ValueError):
        return None
    return found if is_ours(str(found.get("action"))) else None


def problem_page(request: Request, desk: Desk | None, problem: Mapping[str, Any]) -> Response:
    if desk is None:
        return page_of_nobody("problem.html", {"problem": problem}, status=int(problem["status"]))
    return desk.page("problem.html", status=int(problem["status"]), problem=problem)


def _keeper(request: Request) -> URLSafeSerializer:
    return URLSafeSerializer(resources(request).signing_key, salt="console-typed")


def _text(signed: str | bytes) -> str:
    return signed if isinstance(signed, str) else signed.decode()


def _version_now(problem: Mapping[str, Any], sent: str | None) -> object:
    """What sending it again goes by: what has just been shown."""
    current = problem.get("current")
    return current.get("version", sent) if isinstance(current, Mapping) else sent


def _differences(
    form: Mapping[str, str], current: Mapping[str, Any] | None
) -> list[tuple[str, str, str]]:
    """(field, yours, now) where somebody else's change and the form differ."""
    if not current:
        return []
    now = {name: "" if value is None else str(value) for name, value in current.items()}
    return [
        (name, form[name], now[name])
        for name in form
        if name in now and name != "version" and form[name].strip() != now[name]
    ]
