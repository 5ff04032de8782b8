"""Renders the pages people open without a key; errors there are pages too."""

import hashlib
import re
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

from api.errors import Code, Problem
from domain.templates import nearest_locale

HTML = Path(__file__).with_name("html")
LOCALES = ("en", "pt-BR")
_RANGE = re.compile(
    r"\s*([a-z]{1,8}(?:-[a-z0-9]{1,8})*)\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?", re.I
)
_MOST_RANGES = 20  # of a browser's languages; a person has few

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
    return str(said_in(lang)[name](*about).unescape())


def said_in(lang: str) -> dict[str, Any]:
    """All that <lang>/words.html says, by name."""
    said = vars(_environment.get_template(f"{lang}/words.html").module)
    return {name: what for name, what in said.items() if not name.startswith("_")}


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


def browser_locale(accept_language: str) -> str:
    """The locale of our pages that a browser likes best (RFC 9110 section 12.5.4), else English."""
    found = map(_RANGE.fullmatch, accept_language.split(",", _MOST_RANGES)[:_MOST_RANGES])
    liked = [(float(one[2] or 1), one[1]) for one in found if one is not None]
    for weight, wanted in sorted(liked, key=lambda one: -one[0]):
        ours = nearest_locale(LOCALES, wanted, default=False) if weight else None
        if ours is not None:
            return ours
    return LOCALES[0]


def note_reader(request: Request, locale: str) -> None:
    """Whose page it is, should it become one about a problem."""
    request.state.reader_locale = locale


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


async def _problem_page(request: Request, problem: Exception) -> HTMLResponse:
    """In the customer's language where the link has told us whose it is, else in the browser's."""
    assert isinstance(problem, PageProblem)
    locale = getattr(request.state, "reader_locale", None)
    accepted = request.headers.get("accept-language", "")
    lang = page_locale(locale) if locale is not None else browser_locale(accepted)
    said = said_in(lang)["problems"]
    title, remedy = said.get(problem.code, said["other"])
    context = {
        "title": title,
        "remedy": remedy,
        "code": str(problem.code),
        "status": problem.status,
    }
    answer = page("problem.html", context, lang=lang, status=problem.status)
    answer.headers["Vary"] = "Accept-Language"
    return answer


def install(app: FastAPI) -> None:
    app.add_exception_handler(PageProblem, _problem_page)
