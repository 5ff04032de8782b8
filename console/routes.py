"""The route class of the console: a session, a form that is ours, and failures as pages."""

import hmac
import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.service import RPCError

from api.deps import SAFE_METHODS, resources, signed_in_by
from api.errors import Code, Problem, as_dict
from console.again import ask_again, problem_page, sign_in_again
from console.desk import PREFIX, Desk, Refused
from console.viewer import Viewer
from domain.errors import where

_log = logging.getLogger(__name__)

_MOST_FIELDS = 2000  # a bulk selection has one for each row
FIRST_PASSWORD, SIGN_OUT = f"{PREFIX}/password", f"{PREFIX}/sign-out"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a plain form (application/x-www-form-urlencoded). Raises the 400 problem."""
    try:
        body = (await request.body()).decode()
        if "%00" in body or "\0" in body:  # PostgreSQL holds no NUL
            raise ValueError
        return parse_qs(body, max_num_fields=_MOST_FIELDS, keep_blank_values=True, errors="strict")
    except ValueError:
        raise Problem(Code.MALFORMED_FORM, "the form could not be read") from None


def refuse_foreign(request: Request) -> None:
    """Another site must neither sign a browser in as somebody else nor have its own form shown as
    what a person had typed. Raises the 403 problem.

    Fetch Metadata (W3C) says it, which browsers send to https and to localhost; elsewhere the
    Origin does (RFC 6454), which is ours by the name that was asked or the one that is published.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        origin = request.headers.get("origin")
        names = {request.headers.get("host"), urlsplit(resources(request).links_base).netloc}
        ours = origin is None or urlsplit(origin).netloc in names
    if not ours:
        raise Problem(Code.INVALID_CSRF_TOKEN, "the form came from another site")


class ConsoleRoute(APIRoute):
    """Needs a session: else the sign-in, which gives back what had been typed.

    A HEAD is a GET whose body the server leaves out, as with Starlette's own routes; but a stream
    has no end.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if (
            self.methods is not None
            and "GET" in self.methods
            and self.response_class is not EventSourceResponse
        ):
            self.methods.add("HEAD")

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            desk: Desk | None = None
            fields: dict[str, list[str]] = {}
            try:
                if request.method not in SAFE_METHODS:
                    refuse_foreign(request)
                    fields = await read_form(request)
                signed_in = await signed_in_by(request)
                if signed_in is None:
                    return _to_sign_in(request, fields)
                desk = Desk(
                    request,
                    resources(request),
                    Viewer.of(signed_in),
                    {name: values[-1] for name, values in fields.items()},
                    fields,
                )
                request.state.desk = desk
                if desk.viewer.one_time and request.url.path not in (FIRST_PASSWORD, SIGN_OUT):
                    return RedirectResponse(FIRST_PASSWORD, 303)
                if request.method not in SAFE_METHODS and not _is_from_us(desk):
                    raise Problem(Code.INVALID_CSRF_TOKEN, "the form is of an older session")
                return await answer(request)
            except Refused as refused:
                return _failure(request, desk, refused.problem)
            except Exception as error:
                return _failure(request, desk, _told(request, error))

        return handle


def _told(request: Request, error: Exception) -> dict[str, Any]:
    """The problem that a person is told about."""
    request_id = getattr(request.state, "request_id", "")
    match error:
        case Problem():
            problem = error
        case RequestValidationError():
            problem = Problem(Code.UNKNOWN_ROUTE, f"nothing is at {request.url.path[:200]}")
        case RPCError():
            problem = Problem(Code.PROCESS_ENGINE_AWAY, "Temporal does not answer")
        case DBAPIError(orig=psycopg.DataError()):  # such as a filter with a NUL
            problem = Problem(Code.INVALID_REQUEST, "a value cannot be looked for")
        case DBAPIError() | PoolTimeout():
            problem = Problem(Code.DATABASE_AWAY, "PostgreSQL does not answer")
        case _:
            _log.error("request %s failed: %s", request_id, where(error))
            problem = Problem(Code.INTERNAL, "the page could not be made")
    return as_dict(problem, request.url.path, request_id)


def _is_from_us(desk: Desk) -> bool:
    token = desk.form.get("csrf_token", "")
    return hmac.compare_digest(token.encode(), desk.viewer.csrf_token.encode())


def _to_sign_in(request: Request, fields: dict[str, list[str]]) -> Response:
    if request.method not in SAFE_METHODS:
        return sign_in_again(request, fields)
    if "hx-request" in request.headers:  # a part of a page: the whole of it has to go there
        return Response(status_code=204, headers={"HX-Redirect": f"{PREFIX}/sign-in"})
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{PREFIX}/sign-in?next={quote(here, safe='')}", 303)


def _failure(request: Request, desk: Desk | None, problem: dict[str, Any]) -> Response:
    if desk is not None and request.method not in SAFE_METHODS:
        return ask_again(desk, problem)
    return problem_page(request, desk, problem)
