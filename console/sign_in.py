"""Signing in and out, and the first password."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from api import sign_in as sessions
from api.deps import SESSION_COOKIE, Resources, resources, signed_in_by
from api.errors import Problem, as_dict
from console.again import taken_up_again
from console.desk import PREFIX, AtDesk, Desk, Refused, is_ours
from console.rendering import page_of_nobody
from console.routes import FIRST_PASSWORD, ConsoleRoute, read_form, refuse_foreign
from console.viewer import Viewer
from database.queries.staff import find_signed_in

open_to_all = APIRouter()
router = APIRouter(route_class=ConsoleRoute)


@open_to_all.api_route("/sign-in", methods=["GET", "HEAD"])
async def show_sign_in(request: Request, next: str = PREFIX) -> Response:
    """The page; whoever is signed in goes on."""
    if await signed_in_by(request) is not None:
        return RedirectResponse(_inside(next), 303)
    return _form(next=next)


@open_to_all.post("/sign-in")
async def begin_session(request: Request) -> Response:
    """Sign in, then go to where one wanted; a form that was kept waits there."""
    held = resources(request)
    fields: dict[str, str] = {}
    try:
        refuse_foreign(request)
        fields = {name: values[-1] for name, values in (await read_form(request)).items()}
        token = await sessions.sign_in(
            request, held, fields.get("email", ""), fields.get("password", "")
        )
    except Problem as problem:
        told = as_dict(problem, request.url.path, request.state.request_id)
        return _form(
            next=fields.get("next", PREFIX),
            kept=fields.get("kept", ""),
            email=fields.get("email", ""),
            problem=told,
            status=problem.status_code,
        )
    kept = taken_up_again(request, fields.get("kept", ""))
    response = (
        await _kept_form(request, held, token, kept)
        if kept
        else RedirectResponse(_inside(fields.get("next", PREFIX)), 303)
    )
    secure = held.links_base.startswith("https:")
    response.set_cookie(
        SESSION_COOKIE, token, path="/", httponly=True, samesite="lax", secure=secure
    )
    return response


async def _kept_form(
    request: Request, held: Resources, token: str, kept: dict[str, Any]
) -> Response:
    """What was typed when the session ended, to be sent in the new one."""
    async with held.sessions() as session:
        signed_in = await find_signed_in(session, token)
    assert signed_in is not None  # it has just begun
    desk = Desk(request, held, Viewer.of(signed_in))
    fields: dict[str, list[str]] = kept["fields"]
    back, version = ((fields.pop(name, None) or [""])[0] for name in ("back", "version"))
    fields.pop("key", None)
    problem = {
        "title": "You are signed in again",
        "detail": "Nothing was sent while you were away.",
        "remedy": "Look it over and send it, or leave it.",
        "errors": [],
        "request_id": request.state.request_id,
    }
    return desk.page(
        "again.html",
        problem=problem,
        action=kept["action"],
        fields=fields,
        version=version or None,
        differs=[],
        back=_inside(back),
        key="",
    )


@router.post("/sign-out")
async def end_session(desk: AtDesk) -> Response:
    await desk.act("DELETE", f"/staff/{desk.viewer.id}/sessions?only={desk.viewer.session_id}")
    response = RedirectResponse(f"{PREFIX}/sign-in", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


@router.get("/password")
async def show_password(desk: AtDesk) -> Response:
    return desk.page("password.html", problem=None)


@router.post("/password")
async def change_password(desk: AtDesk) -> Response:
    """Choose a password: the only thing an account can do that came with one for once."""
    if desk.form.get("new_password") != desk.form.get("repeated_password"):
        problem = {
            "title": "The two are not the same",
            "detail": "The new password and its repetition differ.",
            "remedy": "Type both again.",
            "errors": [],
            "request_id": desk.request.state.request_id,
        }
        return desk.page("password.html", problem=problem, status=422)
    passwords = {name: desk.form.get(name, "") for name in ("current_password", "new_password")}
    try:
        await desk.act("POST", "/staff/me/password", passwords)
    except Refused as refused:
        return desk.page("password.html", problem=refused.problem, status=refused.status)
    return desk.back("Password set; other sessions have ended", to=PREFIX)


def _inside(address: str) -> str:
    return address if is_ours(address) and not address.startswith(FIRST_PASSWORD) else PREFIX


def _form(
    *,
    next: str = PREFIX,
    kept: str = "",
    email: str = "",
    problem: dict[str, object] | None = None,
    status: int = 200,
) -> Response:
    context = {"next": next, "kept": kept, "email": email, "problem": problem}
    return page_of_nobody("sign_in.html", context, status=status)
