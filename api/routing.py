"""The route class of the control API: strict JSON, known parameters, answers given once."""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.responses import Response
from fastapi.routing import APIRoute
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.routing import Match
from starlette.types import Scope

from api.deps import SAFE_METHODS, authenticate, permit, resources
from api.errors import Code, FieldError, Problem
from database.events import ANSWERS_KEPT_FOR, IdempotentAnswer
from database.staff import StaffAction
from domain.staff import Permission, Principal

_KEPT_HEADERS = ("location", "etag")
JSON_MEDIA = re.compile(r"application/(json|[a-z0-9.-]+\+json)")
FORM_MEDIA = re.compile("application/x-www-form-urlencoded")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_REQUIRES_KEY = "__requires_idempotency_key__"
_NEEDS = "__needs_permission__"
_SIGNATURES = ("by", "author", "approved_by")
_SECRETS = frozenset({"password", "new_password", "current_password"})

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Endpoint = Callable[..., Any]


class Beneath(APIRouter):
    """Includes routers whose paths all begin with `path`: for others none of them is looked at.

    FastAPI tries one route after the other, through all that was included, twice.
    """

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(**options)
        self.path = path

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if not scope["path"].removeprefix(scope.get("root_path", "")).startswith(self.path):
            return Match.NONE, {}
        return super().matches(scope)


def requires_key(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint whose repeat would do harm: it is answered only with an Idempotency-Key."""
    setattr(endpoint, _REQUIRES_KEY, True)
    return endpoint


def key_is_required(endpoint: Endpoint) -> bool:
    return getattr(endpoint, _REQUIRES_KEY, False)


def needs(permission: Permission) -> Callable[[Endpoint], Endpoint]:
    """Marks what an endpoint asks of the caller's role. What only reads needs READ without it."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _NEEDS, permission)
        return endpoint

    return mark


def needed_permission(endpoint: Endpoint) -> Permission | None:
    found: Permission | None = getattr(endpoint, _NEEDS, None)
    return found


class StrictRequest(Request):
    """A request whose JSON is read strictly: UTF-8, each key once, numbers that exist.

    `signed`: the field of the signature, and the member of staff whose id stands there; nobody
    signs as somebody else.
    """

    signed: tuple[str, str] | None = None

    async def json(self) -> Any:
        body = read_json(await self.body())
        if self.signed is not None and isinstance(body, dict):
            name, staff_id = self.signed
            if body.setdefault(name, staff_id) != staff_id:
                raise Problem(Code.FORBIDDEN, f"/{name}: you sign with your own id")
        return body


def read_json(body: bytes) -> Any:
    """Raises the 400 problem for what is not strictly JSON."""
    try:
        text = body.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_each_key_once, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise Problem(Code.MALFORMED_JSON, f"the body is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem(Code.MALFORMED_JSON, f"{error.msg} at {where}") from None
    except RecursionError:
        raise Problem(Code.MALFORMED_JSON, "the body is nested too deeply") from None
    except ValueError as error:  # a key twice, NaN, a number of thousands of digits
        raise Problem(Code.MALFORMED_JSON, str(error)[:200]) from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!a} is there twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


class ApiRoute(APIRoute):
    """Checks what is the same for every route before the body is looked at."""

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()
        parameters = _query_parameters(self.dependant)
        takes_body = self.body_field is not None
        fields = getattr(_body_type(self), "model_fields", ())
        signature = next((name for name in _SIGNATURES if name in fields), None)

        async def handle(plain: Request) -> Response:
            request = StrictRequest(plain.scope, plain.receive)
            principal = await authenticate(request)
            _refuse_role(principal, request, self.endpoint)
            _refuse_unknown(request, parameters)
            if takes_body:
                refuse_other_media(request, JSON_MEDIA)
            if principal.is_staff and signature is not None:
                request.signed = (signature, principal.id)
            acts = principal.is_staff and request.method not in SAFE_METHODS
            carry_out = _recorded(answer, self.endpoint, principal) if acts else answer
            key = _idempotency_key(request) if request.method == "POST" else None
            if key is not None:
                return await _answer_once(request, principal.id, key, carry_out)
            if request.method == "POST" and key_is_required(self.endpoint):
                raise Problem(Code.KEY_REQUIRED, "this request must carry an Idempotency-Key")
            if not acts:
                return await answer(request)
            async with resources(request).sessions.begin() as session:
                request.state.session = session
                return await carry_out(request)

        return handle


def _body_type(route: APIRoute) -> object:
    return route.body_field.field_info.annotation if route.body_field else None


def _refuse_role(principal: Principal, request: Request, endpoint: Endpoint) -> None:
    permission = needed_permission(endpoint)
    if principal.one_time and permission is not Permission.CHANGE_OWN_PASSWORD:
        raise Problem(Code.PASSWORD_CHANGE_REQUIRED, "this password opens nothing but its change")
    if permission is None and request.method in SAFE_METHODS:
        permission = Permission.READ
    # What declares nothing is for programs: a new endpoint is closed to staff until it says more.
    permit(principal, permission or Permission.INTEGRATE)


def _recorded(answer: Handler, endpoint: Endpoint, principal: Principal) -> Handler:
    """What a member of staff does, written in the transaction of its effect (`request.state`)."""

    async def act(request: Request) -> Response:
        response = await answer(request)
        change: Change = getattr(request.state, "change", Change())
        session: AsyncSession = request.state.session
        session.add(
            StaffAction(
                staff_id=principal.id,
                operation=endpoint.__name__,
                target=request.url.path.removeprefix("/api/v1"),
                before=change.before,
                after=await _told(request) if change.after is None else change.after,
                request_id=request.state.request_id,
            )
        )
        return response

    return act


async def _told(request: Request) -> dict[str, Any] | None:
    """The body of the request, without what must not be kept."""
    body = await request.json() if await request.body() else None
    if not isinstance(body, dict):
        return None
    return {name: value for name, value in body.items() if name not in _SECRETS}


class Change(NamedTuple):
    """What an action changed, where the request alone doesn't say it."""

    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


def note_change(
    request: Request, *, before: dict[str, Any] | None, after: dict[str, Any] | None = None
) -> None:
    """What the record of a staff action shall tell. `after` None: the body of the request."""
    request.state.change = Change(before, after)


def _query_parameters(dependant: Dependant) -> frozenset[str]:
    own = {field.alias for field in dependant.query_params}
    return frozenset(own.union(*(_query_parameters(d) for d in dependant.dependencies)))


def _refuse_unknown(request: Request, parameters: frozenset[str]) -> None:
    if not request.url.query:
        return
    unknown = [name for name in request.query_params if name not in parameters]
    if unknown:
        known = ", ".join(sorted(parameters)) or "none"
        raise Problem(
            Code.UNKNOWN_PARAMETER,
            f"unknown query parameter {unknown[0][:60]!a}; known: {known}",
            errors=[
                FieldError(pointer=f"query/{name[:60]}", code="unknown_parameter", detail="unknown")
                for name in unknown[:20]
            ],
        )
    for name in parameters:
        if len(request.query_params.getlist(name)) > 1:
            raise Problem(
                Code.UNKNOWN_PARAMETER,
                f"{name} is given more than once",
                errors=[
                    FieldError(pointer=f"query/{name}", code="given_twice", detail="once only")
                ],
            )


def refuse_other_media(request: Request, wanted: re.Pattern[str]) -> None:
    """Raises the 415 problem."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "the body must not be packed")
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not wanted.fullmatch(media):
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, f"the content type is {media[:60]!a}")


def _idempotency_key(request: Request) -> str | None:
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header.strip().removeprefix('"').removesuffix('"')  # bare, or a structured-field string
    if not _KEY.fullmatch(key):
        raise Problem(
            Code.KEY_REQUIRED, "the Idempotency-Key must be 1 to 200 printable ASCII characters"
        )
    return key


async def _answer_once(request: Request, principal: str, key: str, answer: Handler) -> Response:
    """Answer, and keep the answer in the transaction of the effect.

    A twin waits on the unique index until the first has committed, then gets the same answer. What
    raises is rolled back with the key, so a corrected request may use it again.
    """
    request.state.idempotency_key = key
    route = f"{request.method} {request.url.path}"
    fingerprint = await _fingerprint(request)
    async with resources(request).sessions.begin() as session:
        claim = insert(IdempotentAnswer).values(
            principal=principal, route=route, key=key, fingerprint=fingerprint
        )
        claimed = await session.scalar(
            claim.on_conflict_do_update(
                index_elements=["principal", "route", "key"],
                set_={"fingerprint": fingerprint, "recorded_at": sa.func.now()},
                where=IdempotentAnswer.recorded_at < sa.func.now() - ANSWERS_KEPT_FOR,
            ).returning(IdempotentAnswer.id)
        )
        if claimed is None:
            return await _replay(session, principal, route, key, fingerprint)
        request.state.session = session
        response = await answer(request)
        await session.execute(
            sa.update(IdempotentAnswer)
            .where(IdempotentAnswer.id == claimed)
            .values(status=response.status_code, body=_kept(response))
        )
    return response


async def _fingerprint(request: Request) -> str:
    body, read = await request.body(), None
    if body:
        read = await request.json()
        body = json.dumps(read, sort_keys=True).encode()
    told = body + b"?" + request.url.query.encode()
    if _holds_secret(read):  # a fast hash without a key would give the password away
        return hmac.new(resources(request).signing_key.encode(), told, "sha256").hexdigest()
    return hashlib.sha256(told).hexdigest()


def _kept(response: Response) -> dict[str, Any]:
    """What a repeat is answered with; a secret is shown once and not kept."""
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    content = json.loads(bytes(response.body) or b"null")
    return {"headers": headers} | ({} if _holds_secret(content) else {"content": content})


def _holds_secret(document: Any) -> bool:
    return isinstance(document, dict) and not _SECRETS.isdisjoint(document)


async def _replay(
    session: AsyncSession, principal: str, route: str, key: str, fingerprint: str
) -> Response:
    stored = (
        await session.execute(
            sa.select(
                IdempotentAnswer.fingerprint, IdempotentAnswer.status, IdempotentAnswer.body
            ).where(
                IdempotentAnswer.principal == principal,
                IdempotentAnswer.route == route,
                IdempotentAnswer.key == key,
            )
        )
    ).one()
    if stored.fingerprint != fingerprint:
        raise Problem(Code.KEY_REUSED, "this Idempotency-Key came before with another body")
    if "content" not in stored.body:
        raise Problem(Code.CONFLICT, "it is done; the password was shown once: make another one")
    return Response(
        json.dumps(stored.body["content"]),
        stored.status,
        {**stored.body["headers"], "Idempotency-Replayed": "true"},
        "application/json",
    )
