"""Every failure an API caller is told about, as RFC 9457 problem+json; here and nowhere else."""

import json
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from psycopg import errors as postgres
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from temporalio.service import RPCError, RPCStatusCode

from domain.errors import where

PROBLEM_JSON = "application/problem+json"
_MOST_ERRORS = 50
_LONGEST_POINTER = 200

_log = logging.getLogger(__name__)


class Code(StrEnum):
    """What went wrong, for programs. The page /problems/<code> says it for people."""

    INVALID_REQUEST = "invalid_request"
    MALFORMED_JSON = "malformed_json"
    MALFORMED_FORM = "malformed_form"
    UNKNOWN_PARAMETER = "unknown_parameter"
    INVALID_CURSOR = "invalid_cursor"
    UNAUTHENTICATED = "unauthenticated"
    INVALID_SIGNATURE = "invalid_signature"
    FORBIDDEN = "forbidden"
    INVALID_CSRF_TOKEN = "invalid_csrf_token"
    PASSWORD_CHANGE_REQUIRED = "password_change_required"
    ONE_TIME_PASSWORD_ENDED = "one_time_password_ended"
    TOO_MANY_SIGN_INS = "too_many_sign_ins"
    NOT_FOUND = "not_found"
    UNKNOWN_ROUTE = "unknown_route"
    PROVIDER_EVENTS_OFF = "provider_events_off"
    UNKNOWN_CUSTOMER = "unknown_customer"
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_CASE = "unknown_case"
    DELETED = "deleted"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    NOT_ALLOWED_NOW = "not_allowed_now"
    CANNOT_START = "cannot_start"
    MILESTONE_OUT_OF_ORDER = "milestone_out_of_order"
    EVENT_CONFLICT = "event_conflict"
    IMPOSSIBLE_DATE = "impossible_date"
    KEY_REQUIRED = "idempotency_key_required"
    KEY_REUSED = "idempotency_key_reused"
    KEY_IN_USE = "idempotency_key_in_use"
    PRECONDITION_REQUIRED = "precondition_required"
    PRECONDITION_FAILED = "precondition_failed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID_LINK = "invalid_link"
    INTERNAL = "internal_error"
    PROCESS_ENGINE_AWAY = "process_engine_unavailable"
    PROCESS_BUSY = "process_busy"
    DATABASE_AWAY = "database_unavailable"
    NOT_READY = "not_ready"


class Explained(NamedTuple):
    status: int
    title: str
    remedy: str


EXPLAINED: dict[Code, Explained] = {
    Code.INVALID_REQUEST: Explained(
        422, "The request has invalid fields", "Correct the fields listed under `errors`."
    ),
    Code.MALFORMED_JSON: Explained(
        400, "The body is not JSON", "Send one JSON document in UTF-8, each key once, no NaN."
    ),
    Code.MALFORMED_FORM: Explained(
        400, "The body is not a form", "Send fields as application/x-www-form-urlencoded in UTF-8."
    ),
    Code.UNKNOWN_PARAMETER: Explained(
        400, "Unknown query parameter", "Leave it out, or use one of those listed in the API docs."
    ),
    Code.INVALID_CURSOR: Explained(
        400,
        "The cursor does not fit",
        "Use a cursor as it was given, with the same filters; or start again without one.",
    ),
    Code.UNAUTHENTICATED: Explained(
        401,
        "No valid API key",
        "Send `Authorization: Bearer <key>`, with the key of the file that run.json names; "
        "or sign in to the console.",
    ),
    Code.INVALID_SIGNATURE: Explained(
        401,
        "The signature does not fit",
        "Sign with the secret that is set here, the body byte by byte, for the public address; "
        "and see that both clocks are right.",
    ),
    Code.FORBIDDEN: Explained(
        403,
        "Your role may not do that",
        "Ask somebody whose role may, or an administrator for another role.",
    ),
    Code.INVALID_CSRF_TOKEN: Explained(
        403,
        "The request did not come from our own page",
        "Send the session's token as `X-CSRF-Token`; a page that was open for long: load it again.",
    ),
    Code.PASSWORD_CHANGE_REQUIRED: Explained(
        403, "The password was for once only", "Choose your own: POST /api/v1/staff/me/password."
    ),
    Code.ONE_TIME_PASSWORD_ENDED: Explained(
        403,
        "The password for once has ended",
        "An administrator makes a new one, or `python crm.py staff reset ID` on the server.",
    ),
    Code.TOO_MANY_SIGN_INS: Explained(
        429, "Too many failed sign-ins", "Wait as long as Retry-After says, then try again."
    ),
    Code.NOT_FOUND: Explained(404, "There is no such thing", "Check the id."),
    Code.UNKNOWN_ROUTE: Explained(
        404, "There is no such address", "See /docs for those of the API, /console for the pages."
    ),
    Code.PROVIDER_EVENTS_OFF: Explained(
        404,
        "Events of this provider are not taken",
        "Set the secret that the provider signs its webhooks with; see docs/operations.md.",
    ),
    Code.UNKNOWN_CUSTOMER: Explained(
        404,
        "Unknown customer",
        "Make the customer first: PUT /api/v1/customers/by-reference/{reference}.",
    ),
    Code.UNKNOWN_ORDER: Explained(
        404,
        "Unknown order",
        "Report order_placed first, with the same `source` and `order_reference`.",
    ),
    Code.UNKNOWN_CASE: Explained(404, "Unknown case", "Open a case first: POST /api/v1/cases."),
    Code.DELETED: Explained(
        410,
        "It was deleted",
        "Nothing brings it back: the time that the policy of kind storage gives it is over.",
    ),
    Code.METHOD_NOT_ALLOWED: Explained(
        405, "The address has no such method", "Use one of the methods in the Allow header."
    ),
    Code.CONFLICT: Explained(
        409, "It contradicts what is there", "Read the present state, then decide again."
    ),
    Code.NOT_ALLOWED_NOW: Explained(
        409, "Not allowed in this state", "Use one of `allowed_actions`, or wait."
    ),
    Code.CANNOT_START: Explained(
        409, "It cannot start now", "Settle what the detail says, then start it again."
    ),
    Code.MILESTONE_OUT_OF_ORDER: Explained(
        409,
        "The milestone cannot follow",
        "Report one of `allowed_actions`; or correct the order in the reporting system.",
    ),
    Code.EVENT_CONFLICT: Explained(
        422,
        "The event id was used for another body",
        "Repeat an event with the same body, or give a new fact a new event_id.",
    ),
    Code.IMPOSSIBLE_DATE: Explained(
        422,
        "The date is impossible",
        "Send the moment at which it happened, with its time zone, not before 1990 and not in "
        "the future of the customer's clock.",
    ),
    Code.KEY_REQUIRED: Explained(
        400,
        "Idempotency-Key is required",
        "Send a header `Idempotency-Key` with a value of your own; repeat it when you retry.",
    ),
    Code.KEY_REUSED: Explained(
        422,
        "The Idempotency-Key was used for another body",
        "Use a new key for a new request. Keys are kept for 72 hours.",
    ),
    Code.KEY_IN_USE: Explained(
        409, "The first request with this key is still running", "Repeat it after Retry-After."
    ),
    Code.PRECONDITION_REQUIRED: Explained(
        428, "If-Match is required", "Read the resource and send its ETag as If-Match."
    ),
    Code.PRECONDITION_FAILED: Explained(
        412, "Somebody changed it meanwhile", "Read it again, merge, and send the new ETag."
    ),
    Code.TOO_LARGE: Explained(
        413, "The body is too large", "Send at most 1 MB; a received mail may have 10."
    ),
    Code.UNSUPPORTED_MEDIA_TYPE: Explained(
        415,
        "The body has another content type",
        "Send `Content-Type: application/json` (webhooks: as the provider does), not packed.",
    ),
    Code.INVALID_LINK: Explained(
        404, "The link is not valid", "Use the link of the newest message, in full."
    ),
    Code.INTERNAL: Explained(
        500,
        "A fault of ours",
        "Repeat it once; if it stays, report the request_id to your operator.",
    ),
    Code.PROCESS_ENGINE_AWAY: Explained(
        503,
        "The process engine cannot be reached",
        "Nothing was changed. Repeat the request after Retry-After.",
    ),
    Code.PROCESS_BUSY: Explained(
        503,
        "The process has not answered yet",
        "It may have taken the request: repeat it after Retry-After with the same Idempotency-Key.",
    ),
    Code.DATABASE_AWAY: Explained(
        503,
        "The database cannot be reached",
        "Nothing was changed. Repeat the request after Retry-After.",
    ),
    Code.NOT_READY: Explained(503, "Not ready", "Wait, or start what is missing."),
}


class FieldError(BaseModel):
    pointer: str = Field(description="JSON pointer into the body, or the parameter's name")
    code: str
    detail: str


class ProblemBody(BaseModel):
    """RFC 9457 problem details; every answer that isn't a success has this shape."""

    type: str = Field(examples=["/problems/unknown_customer"])
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    remedy: str
    errors: list[FieldError] = []
    allowed_actions: list[str] | None = None


class Problem(HTTPException):
    """Raise it anywhere below a route. `extra` are further members of the problem object."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(EXPLAINED[code].status, detail, dict(headers) if headers else None)
        self.code = code
        self.errors = list(errors)
        self.extra = extra


def invalid_field(pointer: str, detail: str, code: Code = Code.INVALID_REQUEST) -> Problem:
    """One field of a well-formed request that can't be right."""
    return Problem(
        code, f"{pointer}: {detail}", errors=[FieldError(pointer=pointer, code=code, detail=detail)]
    )


def not_found(what: str, key: object) -> Problem:
    return Problem(Code.NOT_FOUND, f"there is no {what} {key}")


def engine_away() -> Problem:
    return Problem(
        Code.PROCESS_ENGINE_AWAY, "Temporal does not answer", headers={"Retry-After": "2"}
    )


def process_busy() -> Problem:
    return Problem(
        Code.PROCESS_BUSY, "the process is busy with other things", headers={"Retry-After": "2"}
    )


def as_dict(problem: Problem, instance: str, request_id: str) -> dict[str, Any]:
    explained = EXPLAINED[problem.code]
    return {
        "type": f"/problems/{problem.code}",
        "title": explained.title,
        "status": explained.status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code,
        "request_id": request_id,
        "remedy": explained.remedy,
        "errors": [error.model_dump() for error in problem.errors],
        **problem.extra,
    }


def respond(request: Request, problem: Problem) -> Response:
    request_id = getattr(request.state, "request_id", "")
    body = as_dict(problem, request.url.path, request_id)
    headers = {**(problem.headers or {}), "Cache-Control": "no-store"}
    # ASCII only: what is echoed of a body may hold half a surrogate pair.
    return Response(json.dumps(body), problem.status_code, headers, PROBLEM_JSON)


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI raise themselves."""
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return respond(request, error)
    match error.status_code:
        case 404:
            problem = Problem(Code.UNKNOWN_ROUTE, f"nothing is at {request.url.path[:200]}")
        case 405:
            allowed = (error.headers or {}).get("Allow", "")
            problem = Problem(
                Code.METHOD_NOT_ALLOWED,
                f"{request.method} is not possible here; possible: {allowed}",
                headers=error.headers,
            )
        case 413:
            problem = Problem(Code.TOO_LARGE, "the body is larger than 1 MB")
        case _:
            problem = Problem(Code.MALFORMED_JSON, "the body could not be read")
    return respond(request, problem)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = field_errors(error.errors(), error.body)
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return respond(
        request,
        Problem(Code.INVALID_REQUEST, f"{first.pointer}: {first.detail}{more}", errors=errors),
    )


def field_errors(errors: Sequence[Mapping[str, Any]], body: object) -> list[FieldError]:
    """pydantic's errors as pointers, without what was sent."""
    return [
        FieldError(
            pointer=(_pointer(tuple(error["loc"]), body) + _tag(error))[:_LONGEST_POINTER],
            code=str(error["type"]),
            detail=str(error["msg"]).removeprefix("Value error, ")[:500],
        )
        for error in errors[:_MOST_ERRORS]
    ]


def _tag(error: Mapping[str, Any]) -> str:
    """The field that says which kind of body it is."""
    return "kind" if str(error["type"]).startswith("union_tag") else ""


def _pointer(location: tuple[str | int, ...], body: object) -> str:
    """A JSON pointer (RFC 6901). The tag pydantic puts into the path of a union is left out."""
    if location and location[0] in ("query", "path", "header"):
        return "/".join(str(part) for part in location)
    parts: list[str] = []
    here = body
    for part in location[1:] if location and location[0] == "body" else location:
        if isinstance(here, Mapping) and part not in here and part == here.get("kind"):
            continue
        if isinstance(here, Mapping):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            here = None
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
    return "/" + "/".join(parts)


def problem_of(error: Exception, request_id: str) -> Problem:
    """What an exception means to who asked, for the whole answer or for one part of it."""
    found: Problem | None = None
    match error:
        case Problem():
            found = error
        case RPCError():
            found = _of_engine(error)
        case DBAPIError() | PoolTimeout():
            found = _of_database(error)
    if found is not None:
        return found
    _log.error("request %s failed: %s", request_id, where(error))
    return Problem(Code.INTERNAL, "the request failed", headers={"X-Request-Id": request_id})


def _of_engine(error: RPCError) -> Problem:
    if error.status is RPCStatusCode.NOT_FOUND:
        return Problem(Code.NOT_FOUND, "no such process or schedule is known")
    if error.status in (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION):
        return Problem(Code.CONFLICT, "the process engine refused the request")
    return engine_away()


def _of_database(error: DBAPIError | PoolTimeout) -> Problem | None:
    cause = error.orig if isinstance(error, DBAPIError) else None
    match cause:
        case postgres.LockNotAvailable():
            words = "an equal request is under way"
            return Problem(Code.KEY_IN_USE, words, headers={"Retry-After": "1"})
        case postgres.IntegrityError():
            name = cause.diag.constraint_name or "a constraint"
            return Problem(Code.CONFLICT, f"refused by {name}")
        case postgres.DataError():
            return Problem(Code.INVALID_REQUEST, "a value cannot be stored")
        case None | postgres.OperationalError() | postgres.InterfaceError():
            _log.warning("PostgreSQL: %s", type(error).__name__)
            words = "PostgreSQL does not answer"
            return Problem(Code.DATABASE_AWAY, words, headers={"Retry-After": "2"})
    return None


async def _other(request: Request, error: Exception) -> Response:
    return fault(request, error)


def fault(request: Request, error: Exception) -> Response:
    """The answer to what was raised. What nobody has foreseen is told to the log by where it was,
    to the caller by its number.
    """
    return respond(request, problem_of(error, getattr(request.state, "request_id", "")))


def install(app: FastAPI) -> None:
    app.add_exception_handler(Problem, _other)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RPCError, _other)
    app.add_exception_handler(DBAPIError, _other)
    app.add_exception_handler(PoolTimeout, _other)
