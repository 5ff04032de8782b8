"""The API's documentation as pages, rendered here: it needs no network and no script."""

import asyncio
import json
from functools import cache
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from api.errors import EXPLAINED, Code, Problem
from api.pages import PageRoute, page

router = APIRouter(tags=["pages"], route_class=PageRoute, default_response_class=HTMLResponse)


class _Parameter(NamedTuple):
    name: str
    where: str
    required: bool
    what: str


class _Example(NamedTuple):
    name: str
    text: str


class _Answer(NamedTuple):
    status: str
    what: str
    text: str


class _Operation(NamedTuple):
    id: str
    method: str
    path: str
    summary: str
    description: list[str]
    parameters: list[_Parameter]
    requests: list[_Example]
    answers: list[_Answer]


class _Group(NamedTuple):
    name: str
    operations: list[_Operation]


@router.get("/docs", include_in_schema=False)
async def show_docs(request: Request) -> HTMLResponse:
    """Every operation with its parameters, examples and answers."""
    app: FastAPI = request.app
    groups = await asyncio.to_thread(_groups, app)
    info = app.openapi()["info"]
    context = {
        "title": info["title"],
        "summary": info["summary"],
        "description": _paragraphs(info["description"]),
        "groups": groups,
        "base": str(request.base_url).rstrip("/"),
    }
    return page("docs.html", context)


@router.get("/openapi.json", include_in_schema=False)
async def show_openapi(request: Request) -> Response:
    """The OpenAPI 3.1 document. Made once, beside the event loop: it takes a second."""
    body = await asyncio.to_thread(_document, request.app)
    return Response(body, media_type="application/json")


@cache
def _document(app: FastAPI) -> bytes:
    return json.dumps(app.openapi(), ensure_ascii=False).encode()


@router.get("/problems", include_in_schema=False)
async def list_problems() -> HTMLResponse:
    """Every code with its remedy."""
    return page("problems.html", {"problems": list(EXPLAINED.items())})


@router.get("/problems/{code}", include_in_schema=False)
async def show_problem(code: str) -> HTMLResponse:
    """What the `type` of a problem points to."""
    if code not in [str(known) for known in EXPLAINED]:
        raise Problem(Code.NOT_FOUND, "there is no such code")
    explained = EXPLAINED[Code(code)]
    context = {**explained._asdict(), "code": code}
    return page("problem.html", context)


@cache
def _groups(app: FastAPI) -> list[_Group]:
    groups: dict[str, list[_Operation]] = {}
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            groups.setdefault(tag, []).append(_operation(path, method, operation))
    return [_Group(name, operations) for name, operations in groups.items()]


def _operation(path: str, method: str, operation: dict[str, Any]) -> _Operation:
    paragraphs = _paragraphs(operation.get("description", ""))
    first = paragraphs[0].partition(". ")[0].rstrip(".") if paragraphs else ""
    return _Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=first,
        description=paragraphs,
        parameters=[_parameter(one) for one in operation.get("parameters", [])],
        requests=_requests(operation),
        answers=[_answer(status, one) for status, one in operation["responses"].items()],
    )


def _parameter(parameter: dict[str, Any]) -> _Parameter:
    schema = parameter["schema"]
    choices = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    kind = " or ".join(str(c.get("format") or c.get("type") or _name(c)) for c in choices)
    words = parameter.get("description", "")
    return _Parameter(
        parameter["name"], parameter["in"], parameter["required"], f"{kind}. {words}".strip()
    )


def _name(schema: dict[str, Any]) -> str:
    return str(schema.get("$ref", "value")).rpartition("/")[2]


def _requests(operation: dict[str, Any]) -> list[_Example]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is None:
        return []
    if "examples" in body:
        return [_Example(name, _json(one["value"])) for name, one in body["examples"].items()]
    return [_Example("", _json(body.get("example")))]


def _answer(status: str, response: dict[str, Any]) -> _Answer:
    if "$ref" in response:  # a problem
        return _Answer(status, EXPLAINED[Code(_name(response))].title, "")
    content = response.get("content", {})
    example = next((c["example"] for c in content.values() if "example" in c), None)
    text = _json(example) if example is not None and status.startswith("2") else ""
    return _Answer(status, response["description"], text)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]
