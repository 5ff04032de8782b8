"""The route class of the control API: strict JSON, known parameters, answers given once."""

import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Coroutine
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
_IN_PARTS = "__acts_in_parts__"
_NEEDS = "__needs_permission__"
_SIGNATURES = ("by", "author", "approved_by")
_SECRETS = frozenset({"password", "new_password", "current_password"})
# What the policy of kind storage deletes by its own time (`own_words`) is kept in one place only.
_OWN_WORDS = frozenset({"text", "title", "comment"})

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Endpoint = Callable[..., Any]
Note = Callable[[AsyncSession], Awaitable[None]]


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


def in_parts(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint with a key whose parts commit by themselves, each knowing its own repeat.

    It awaits `keep_begun` before the first of them.
    """
    setattr(endpoint, _IN_PARTS, True)
    return endpoint


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
            if key is not None and getattr(self.endpoint, _IN_PARTS, False):
                return await _answer_in_parts(request, principal, key, answer, self.endpoint)
            if key is None and request.method == "POST" and key_is_required(self.endpoint):
                raise Problem(Code.KEY_REQUIRED, "this request must carry an Idempotency-Key")
            if key is None and not acts:
                return await answer(request)
            try:
                async with resources(request).sessions.begin() as session:
                    request.state.session = session
                    if key is not None:
                        return await _answer_once(request, session, principal.id, key, carry_out)
                    return await carry_out(request)
            except Problem:
                await _note_refused(request)
                raise

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
        session: AsyncSession = request.state.session
        session.add(await _action(request, endpoint, principal))
        return response

    return act


def note_if_refused(request: Request, note: Note) -> None:
    """What is written although the request is refused, after its own transaction is rolled back."""
    request.state.note_if_refused = note


async def _note_refused(request: Request) -> None:
    note: Note | None = getattr(request.state, "note_if_refused", None)
    if note is not None:
        async with resources(request).sessions.begin() as session:
            await note(session)


async def _action(request: Request, endpoint: Endpoint, principal: Principal) -> StaffAction:
    change: Change = getattr(request.state, "change", Change())
    return StaffAction(
        staff_id=principal.id,
        operation=endpoint.__name__,
        target=request.url.path.removeprefix("/api/v1"),
        before=change.before,
        after=await _told(request) if change.after is None else change.after,
        request_id=request.state.request_id,
    )


async def _told(request: Request) -> dict[str, Any] | None:
    """The body of the request, without what must not be kept, also in its parts."""
    body = await request.json() if await request.body() else None
    return _without_words(body) if isinstance(body, dict) else None


def _without_words(told: Any) -> Any:
    match told:
        case dict():
            kept = told.keys() - _SECRETS - _OWN_WORDS
            return {name: _without_words(value) for name, value in told.items() if name in kept}
        case list():
            return [_without_words(one) for one in told]
    return told


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


class _Asked(NamedTuple):
    """A request with a key, and what it is recognised by when it comes again."""

    principal: str
    route: str
    key: str
    fingerprint: str


async def _asked(request: Request, principal: str, key: str) -> _Asked:
    request.state.idempotency_key = key
    route = f"{request.method} {request.url.path}"
    return _Asked(principal, route, key, await _fingerprint(request))


async def _answer_once(
    request: Request, session: AsyncSession, principal: str, key: str, answer: Handler
) -> Response:
    """Answer, and keep the answer in the transaction of the effect.

    A twin waits on the unique index until the first has committed, then gets the same answer. What
    raises is rolled back with the key, so a corrected request may use it again.
    """
    asked = await _asked(request, principal, key)
    if not await _claim(session, asked):
        return await _replay(session, asked)
    response = await answer(request)
    await _keep_answer(session, asked, response)
    return response


async def _answer_in_parts(
    request: Request, principal: Principal, key: str, answer: Handler, endpoint: Endpoint
) -> Response:
    """Answer a request whose parts commit by themselves: none waits for the others to be kept.

    A twin, and a repeat of what broke off, go through the parts again and find them done; the first
    answer that is kept is everybody's. One that isn't final (`note_unfinished`) is not kept.
    """
    asked = await _asked(request, principal.id, key)
    sessions = resources(request).sessions
    async with sessions.begin() as session:
        if (known := await _find_answer(session, asked)) is not None:
            return known

    async def begin() -> None:
        async with sessions.begin() as session:
            if not await _claim(session, asked):
                await _find_answer(session, asked)  # refuses another body
            elif principal.is_staff:
                session.add(await _action(request, endpoint, principal))

    request.state.begin = begin
    response = await answer(request)
    if getattr(request.state, "unfinished", False):
        return response
    async with sessions.begin() as session:
        kept = await _keep_answer(session, asked, response)
        return response if kept else await _replay(session, asked)


async def keep_begun(request: Request) -> None:
    """Keep the key, and the record of what a member of staff does, before the first part acts."""
    await request.state.begin()


def note_unfinished(request: Request) -> None:
    """A part failed by a fault of ours: the same key tries it again."""
    request.state.unfinished = True


async def _claim(session: AsyncSession, asked: _Asked) -> bool:
    """Whether the key is new, or forgotten."""
    anew = {"fingerprint": asked.fingerprint, "recorded_at": sa.func.now()}
    claimed = await session.scalar(
        insert(IdempotentAnswer)
        .values(asked._asdict())
        .on_conflict_do_update(
            index_elements=["principal", "route", "key"],
            set_={**anew, "status": None, "body": sa.null()},
            where=IdempotentAnswer.recorded_at < sa.func.now() - ANSWERS_KEPT_FOR,
        )
        .returning(IdempotentAnswer.id)
    )
    return claimed is not None


async def _keep_answer(session: AsyncSession, asked: _Asked, response: Response) -> bool:
    """False when an answer is there, which stays."""
    kept = await session.scalar(
        sa.update(IdempotentAnswer)
        .where(_is_of(asked), IdempotentAnswer.status.is_(None))
        .values(status=response.status_code, body=_kept(response))
        .returning(IdempotentAnswer.id)
    )
    return kept is not None


def _is_of(asked: _Asked) -> sa.ColumnElement[bool]:
    return sa.and_(
        IdempotentAnswer.principal == asked.principal,
        IdempotentAnswer.route == asked.route,
        IdempotentAnswer.key == asked.key,
    )


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


async def _replay(session: AsyncSession, asked: _Asked) -> Response:
    found = await _find_answer(session, asked)
    assert found is not None  # a key without an answer is committed by requests in parts only
    return found


async def _find_answer(session: AsyncSession, asked: _Asked) -> Response | None:
    """The answer that was given; None while there is none. Raises where the body was another."""
    columns = (IdempotentAnswer.fingerprint, IdempotentAnswer.status, IdempotentAnswer.body)
    is_kept = IdempotentAnswer.recorded_at >= sa.func.now() - ANSWERS_KEPT_FOR
    stored = (
        await session.execute(sa.select(*columns).where(_is_of(asked), is_kept))
    ).one_or_none()
    if stored is not None and stored.fingerprint != asked.fingerprint:
        raise Problem(Code.KEY_REUSED, "this Idempotency-Key came before with another body")
    if stored is None or stored.status is None:
        return None
    if "content" not in stored.body:
        raise Problem(Code.CONFLICT, "it is done; the password was shown once: make another one")
    return Response(
        json.dumps(stored.body["content"]),
        stored.status,
        {**stored.body["headers"], "Idempotency-Replayed": "true"},
        "application/json",
    )
