"""Renders the pages people open without a key; errors there are pages too."""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from babel import Locale, UnknownLocaleError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.service import RPCError

from api.errors import EXPLAINED, Code, Problem

HTML = Path(__file__).with_name("html")
LOCALES = ("en", "pt-BR")

_STYLE = (HTML / "style.css").read_text()
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# The frame of a mail inherits the policy of its page: mails style themselves inline.
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; "
    "frame-ancestors 'none'"
)

_environment = Environment(
    loader=FileSystemLoader(HTML),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["style"] = Markup(_STYLE)  # our own file


def page(
    name: str, context: dict[str, Any], *, lang: str = "en", status: int = 200, mail: bool = False
) -> HTMLResponse:
    """`name` under api/html. `mail`: with the policy that lets a mail style itself."""
    body = _environment.get_template(name).render(lang=lang, **context)
    headers = {"Content-Security-Policy": _MAIL_POLICY if mail else _POLICY}
    return HTMLResponse(body, status, headers)


def words(lang: str, name: str, *about: object) -> str:
    """What a macro of <lang>/words.html says: the same words on a page and in the record of it."""
    said = getattr(_environment.get_template(f"{lang}/words.html").module, name)(*about)
    return str(said.unescape())


def form_fields(body: bytes) -> dict[str, list[str]]:
    """The fields of a plain HTML form. Raises ValueError for what isn't one."""
    return parse_qs(body.decode(), max_num_fields=40, keep_blank_values=True, errors="strict")


def page_locale(locale: str) -> str:
    """The locale of our pages that is nearest to a customer's."""
    try:
        language = Locale.parse(locale, sep="-").language
    except (ValueError, UnknownLocaleError):
        return LOCALES[0]
    return next((ours for ours in LOCALES if ours.partition("-")[0] == language), LOCALES[0])


class PageProblem(Exception):
    """A failure that a person is told about, in HTML."""

    def __init__(self, code: Code, status: int) -> None:
        super().__init__(code)
        self.code, self.status = code, status


class PageRoute(APIRoute):
    """A route whose reader is a person: problems are told in HTML.

    They are raised, not answered, from here: dependencies end around this handler, and the
    transaction of a request that was answered would be committed.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await answer(request)
            except Problem as problem:
                raise PageProblem(problem.code, problem.status_code) from problem
            except RequestValidationError as problem:
                raise PageProblem(Code.INVALID_LINK, 404) from problem
            except (RPCError, PoolTimeout) as problem:
                raise PageProblem(Code.PROCESS_ENGINE_AWAY, 503) from problem
            except DBAPIError as problem:
                raise PageProblem(Code.DATABASE_AWAY, 503) from problem

        return handle


# Where the remedy for a program says nothing to a person.
_TO_PEOPLE = {
    Code.INVALID_REQUEST: (
        "The form could not be read",
        "Nothing was changed. Open the link in our message again, and send the form once more.",
    )
}


async def _problem_page(request: Request, problem: Exception) -> HTMLResponse:
    assert isinstance(problem, PageProblem)
    explained = EXPLAINED[problem.code]
    title, remedy = _TO_PEOPLE.get(problem.code, (explained.title, explained.remedy))
    context = {
        "title": title,
        "remedy": remedy,
        "code": str(problem.code),
        "status": problem.status,
    }
    return page("problem.html", context, status=problem.status)


def install(app: FastAPI) -> None:
    app.add_exception_handler(PageProblem, _problem_page)
