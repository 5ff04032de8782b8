"""What a screen works with: who looks, what was sent, the API, and how to answer."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlencode
from uuid import uuid4

import httpx2
from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Receive, Scope, Send

from api.deps import CSRF_HEADER, SESSION_COOKIE, Resources, permit
from console.rendering import render
from console.viewer import Viewer
from domain.staff import Permission, Principal

PREFIX = "/console"
_SAID = "perennial_said"
_SAID_FOR = 60  # seconds until a notice that nobody fetched is forgotten
_OURS = frozenset({"csrf_token", "key", "version", "back"})  # fields every form may carry
_INSIDE = re.compile(rf"(?P<path>{PREFIX}(/[^\\?#\x00-\x1f\x7f]*)?)([?#][^\x00-\x1f\x7f]*)?")
_PAGE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
}

Json = Any


class Refused(Exception):
    """The API said no; `problem` is its RFC 9457 body."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("code"))
        self.problem = problem

    @property
    def status(self) -> int:
        return int(self.problem["status"])


@dataclass(frozen=True)
class Undo:
    """A button in the notice that takes something back: a form of ours."""

    action: str
    fields: Mapping[str, str] = field(default_factory=dict)
    label: str = "Undo"


@dataclass
class Desk:
    """Made for each request by `ConsoleRoute`; a form has been checked and read by then."""

    request: Request
    held: Resources
    viewer: Viewer
    form: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)  # of fields that came several times

    async def get(self, path: str, /, **parameters: object) -> Json:
        """What the API answers under /api/v1. Raises Refused. Empty parameters are left out."""
        given = {name: _plain(value) for name, value in parameters.items() if _is_given(value)}
        return await self._ask("GET", f"{path}?{urlencode(given)}" if given else path)

    async def act(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        version: int | str | None = None,
        key: str | None = None,
    ) -> Json:
        """Do something through the API, as the viewer, once per form. Raises Refused.

        `version`: what was read, for If-Match. `key`: where one form asks for several things.
        """
        headers = {CSRF_HEADER: self.viewer.csrf_token}
        if method == "POST":
            headers["Idempotency-Key"] = key or self.form.get("key") or uuid4().hex
        if version is not None:
            headers["If-Match"] = "*" if version == "*" else f'"v{version}"'
        return await self._ask(method, path, body, headers)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        # In this process, by the same door as everybody: what a role may not do is refused there.
        # No client stands between: what one can do beyond carrying a request is of no use here.
        caller = self.request.client or ("unknown", 0)
        transport = httpx2.ASGITransport(
            self._as_viewer, raise_app_exceptions=False, client=(caller[0], caller[1])
        )
        cookie = f"{SESSION_COOKIE}={self.request.cookies.get(SESSION_COOKIE, '')}"
        answer = await transport.handle_async_request(
            httpx2.Request(
                method,
                f"http://console/api/v1{path}",
                json=body,
                headers={"Cookie": cookie, **(headers or {})},
            )
        )
        content = await answer.aread()
        if answer.is_error:
            raise Refused(answer.json())
        return answer.json() if content else None

    async def _as_viewer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, told who asks: the session has been found and the form checked."""
        scope["state"] = {"principal": self._principal}
        await self.request.app(scope, receive, send)

    @property
    def _principal(self) -> Principal:
        return Principal(self.viewer.id, self.viewer.role, self.viewer.one_time)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[AsyncSession]:
        """For reading what several tables tell together."""
        async with self.held.sessions.begin() as session:
            yield session

    def require(self, permission: Permission) -> None:
        """For what is read from the database. Raises the 403 problem."""
        permit(self._principal, permission)

    def page(
        self, template: str, *, block: str = "", status: int = 200, **context: Any
    ) -> HTMLResponse:
        """`template` under console/html; only its `block` where a script asks for that part."""
        is_part = bool(block) and "hx-request" in self.request.headers
        said = None if is_part else self._take_said()
        path = self.request.url.path
        context = {
            "viewer": self.viewer,
            "path": path,
            "query": dict(self.request.query_params),
            "here": path + (f"?{self.request.url.query}" if self.request.url.query else ""),
            "said": said,
            "temporal_ui_url": self.held.temporal_ui_url,
            **context,
        }
        body = render(template, context, block if is_part else "")
        response = HTMLResponse(body, status, _PAGE)
        if said is not None:
            response.delete_cookie(_SAID, path=PREFIX)
        return response

    def back(self, said: str = "", *, to: str = "", undo: Undo | None = None) -> Response:
        """After something was done: to the page it was asked from, with a notice."""
        response = RedirectResponse(to or self.came_from, 303)
        if said:
            told = {"text": said, "undo": undo and [undo.action, dict(undo.fields), undo.label]}
            signed = self._notices.dumps(told)
            response.set_cookie(
                _SAID,
                signed if isinstance(signed, str) else signed.decode(),
                max_age=_SAID_FOR,
                path=PREFIX,
                httponly=True,
                samesite="lax",
                secure=self.held.links_base.startswith("https:"),  # it may hold a name
            )
        return response

    @property
    def came_from(self) -> str:
        """Our page a form was on; home where that isn't known."""
        asked = self.form.get("back", "")
        return asked if is_ours(asked) else PREFIX

    @property
    def typed(self) -> dict[str, list[str]]:
        """What a person has put into the form."""
        return {name: values for name, values in self.lists.items() if name not in _OURS}

    def text(self, name: str) -> str:
        return self.form.get(name, "").strip()

    def given(self, *names: str) -> dict[str, str]:
        """The fields of the form that hold something."""
        return {name: self.text(name) for name in names if self.text(name)}

    def filters(self, *names: str) -> dict[str, str]:
        """Those filters of the address that hold something."""
        asked = self.request.query_params
        return {name: asked[name].strip() for name in names if asked.get(name, "").strip()}

    @property
    def _notices(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self.held.signing_key, salt="console-notice")

    def _take_said(self) -> dict[str, Any] | None:
        cookie = self.request.cookies.get(_SAID)
        if cookie is None:
            return None
        try:
            said: dict[str, Any] = self._notices.loads(cookie, max_age=_SAID_FOR)
        except BadSignature:
            return None
        return said


def is_ours(address: str) -> bool:
    """Whether a redirect to it stays in the console, as browsers read addresses (WHATWG URL)."""
    found = _INSIDE.fullmatch(address)
    return found is not None and not {".", ".."} & set(unquote(found["path"]).split("/"))


def segment(text: str) -> str:
    """An id as part of a path: slashes of workflow ids stay."""
    return quote(text, safe="/:")


def _is_given(value: object) -> bool:
    return value is not None and value != ""


def _plain(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _desk(request: Request) -> Desk:
    desk: Desk = request.state.desk
    return desk


AtDesk = Annotated[Desk, Depends(_desk)]
