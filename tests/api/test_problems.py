"""Every error is told in one shape, with its remedy, whoever raises it."""

import dataclasses
import json
import traceback
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import SecretStr

from api.deps import SESSION_COOKIE
from api.errors import EXPLAINED, Code
from api.observed import BrokenOff
from console.routes import ConsoleRoute
from database.base import Sessions
from database.customers import Customer
from database.events import Event
from domain.tasks import Role
from settings import Settings
from tests.api.conftest import (
    OCCURRED,
    MakeCustomer,
    assert_problem,
    calling,
    count,
    running_app,
)
from tests.console.conftest import staff_of, token_of

JSON = {"content-type": "application/json"}


async def test_an_unknown_address(api: httpx2.AsyncClient) -> None:
    for path in ("/nothing", "/api/v1/nothing", "/api/v1/customers/", "/api/v2/customers"):
        assert_problem(await api.get(path), 404, "unknown_route")


async def test_a_method_that_is_not_there(api: httpx2.AsyncClient) -> None:
    answer = await api.delete("/api/v1/customers/0197b7c2-8d3e-7a51-9c64-2f1f4b8f2a10")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "column"),
        (b'{"a": 1,}', "column"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b"[" * 100_000, "deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "digit"),
    ],
)
async def test_a_body_that_is_not_json(api: httpx2.AsyncClient, body: bytes, says: str) -> None:
    answer = await api.post("/api/v1/events", content=body, headers=JSON)
    problem = assert_problem(answer, 400, "malformed_json")
    assert says in problem["detail"]


async def test_a_body_of_another_kind(api: httpx2.AsyncClient) -> None:
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {**JSON, "content-encoding": "gzip"},
    ):
        answer = await api.post("/api/v1/events", content=b"{}", headers=headers)
        assert_problem(answer, 415, "unsupported_media_type")


async def test_a_body_that_is_too_large(api: httpx2.AsyncClient) -> None:
    text = json.dumps({"name": "x" * 1_100_000}).encode()
    answer = await api.post("/api/v1/customers", content=text, headers=JSON)
    assert_problem(answer, 413, "too_large")

    async def in_pieces() -> object:
        for _ in range(20):
            yield b" " * 100_000

    answer = await api.post("/api/v1/customers", content=in_pieces(), headers=JSON)  # type: ignore[arg-type]
    assert_problem(answer, 413, "too_large")


async def test_a_text_that_is_just_too_long_names_its_field(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/api/v1/customers", json={"name": "x" * 1_000_000})
    problem = assert_problem(answer, 422, "invalid_request")
    assert problem["errors"][0]["pointer"] == "/name"
    assert len(answer.content) < 2000


async def test_half_a_surrogate_pair_is_refused(api: httpx2.AsyncClient) -> None:
    for body in (b'{"name": "\\ud800"}', b'{"name": "x", "\\udfff": 1}'):
        answer = await api.post("/api/v1/customers", content=body, headers=JSON)
        assert_problem(answer, 422, "invalid_request")


async def test_parameters_are_known_and_given_once(api: httpx2.AsyncClient) -> None:
    for query in ("colour=red", "limit=5&limit=6", "limit[gte]=3"):
        assert_problem(await api.get(f"/api/v1/customers?{query}"), 400, "unknown_parameter")


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1e9", "x", ""])
async def test_a_page_has_a_size(api: httpx2.AsyncClient, limit: str) -> None:
    assert_problem(await api.get(f"/api/v1/customers?limit={limit}"), 422, "invalid_request")


@pytest.mark.parametrize("key", ["no-uuid", "1e3", "..%2f..%2fetc", "x" * 10_000])
async def test_ids_are_ids(api: httpx2.AsyncClient, key: str) -> None:
    answer = await api.get(f"/api/v1/customers/{key}")
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_null_character_in_a_search(api: httpx2.AsyncClient) -> None:
    assert_problem(await api.get("/api/v1/customers?q=%00"), 422, "invalid_request")


async def test_a_fault_of_ours_tells_no_secrets(
    settings: Settings, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither to the caller nor to the log: what is raised may quote what somebody wrote."""

    tulip = uuid4().hex

    async def break_down() -> None:
        raise ValueError(f"the password is {tulip}")

    async def break_off() -> AsyncIterator[bytes]:
        yield b"the first half"
        await break_down()

    async def stream() -> StreamingResponse:
        return StreamingResponse(break_off())

    async with running_app(settings) as app:
        app.add_api_route("/broken", break_down)
        app.add_api_route("/broken-off", stream)
        app.router.add_api_route("/broken-page", break_down, route_class_override=ConsoleRoute)
        token = await token_of(sessions, await staff_of(sessions, Role.OPS))
        # What gets out of the application the server logs with all that it says.
        transport = httpx2.ASGITransport(app, raise_app_exceptions=True)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://crm", cookies={SESSION_COOKIE: token}
        ) as client:
            answer = await client.get("/broken")
            page = await client.get("/broken-page")
            with pytest.raises(BrokenOff) as raised:
                await client.get("/broken-off")
    assert_problem(answer, 500, "internal_error")
    assert page.status_code == 500
    assert caplog.text.count("in break_down") == 3  # where it was
    logged = caplog.text + "".join(traceback.format_exception(raised.value))
    assert tulip not in answer.text + page.text + logged


async def test_nothing_is_half_written_while_temporal_is_away(
    settings: Settings, make_customer: MakeCustomer, sessions: Sessions
) -> None:
    customer = await make_customer()
    away = settings.model_copy(update={"temporal_address": "127.0.0.1:1"})
    event = {
        "kind": "lead_received",
        "event_id": "while-away",
        "occurred_at": OCCURRED,
        "customer_id": str(customer),
    }
    before = await count(sessions, Customer)
    async with running_app(away) as app, calling(app) as client:
        answer = await client.post("/api/v1/events", json=event)
        assert_problem(answer, 503, "process_engine_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        keyed = await client.post("/api/v1/events", json=event, headers={"Idempotency-Key": "a"})
        assert_problem(keyed, 503, "process_engine_unavailable")
        lead = await client.post("/api/v1/leads", json={"customer": {"name": "New"}})
        assert_problem(lead, 503, "process_engine_unavailable")
        schedules = await client.get("/api/v1/schedules")
        assert_problem(schedules, 503, "process_engine_unavailable")
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get(f"/api/v1/customers/{customer}")).status_code == 200
        ready = assert_problem(await client.get("/readyz"), 503, "not_ready")
        assert [lack["pointer"] for lack in ready["errors"]] == ["temporal"]
    assert await count(sessions, Event, event_id="while-away") == 0
    assert await count(sessions, Customer) == before


async def test_the_same_key_works_once_temporal_is_back(
    api: httpx2.AsyncClient, settings: Settings, make_customer: MakeCustomer
) -> None:
    event = {
        "kind": "lead_received",
        "event_id": "back-again",
        "occurred_at": OCCURRED,
        "customer_id": str(await make_customer()),
    }
    key = {"Idempotency-Key": "back"}
    away = settings.model_copy(update={"temporal_address": "127.0.0.1:1"})
    async with running_app(away) as app, calling(app) as client:
        assert (await client.post("/api/v1/events", json=event, headers=key)).status_code == 503
    answer = await api.post("/api/v1/events", json=event, headers=key)
    assert answer.status_code == 202
    assert "idempotency-replayed" not in answer.headers


async def test_postgresql_is_away(settings: Settings) -> None:
    nowhere = SecretStr("postgresql://perennial:x@127.0.0.1:1/perennial")
    away = settings.model_copy(update={"database_url": nowhere})
    async with running_app(away) as app, calling(app) as client:
        for path in ("/api/v1/customers", "/api/v1/tasks"):
            answer = await client.get(path)
            assert_problem(answer, 503, "database_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/livez")).status_code == 200
        assert "perennial_database_up 0.0" in (await client.get("/metrics")).text
        ready = assert_problem(await client.get("/readyz"), 503, "not_ready")
        assert [lack["pointer"] for lack in ready["errors"]] == ["postgresql"]
        survey = await client.get("/s/abc.def?score=3")
        assert survey.headers["content-type"].startswith("text/html")


async def test_old_migrations_are_named(app: FastAPI, settings: Settings) -> None:
    async with running_app(settings) as other, calling(other) as client:
        assert (await client.get("/readyz")).status_code == 200
        held = other.state.resources
        other.state.resources = dataclasses.replace(held, schema_head="9999")
        ready = assert_problem(await client.get("/readyz"), 503, "not_ready")
    assert "alembic upgrade head" in ready["errors"][0]["detail"]


async def test_the_type_of_a_problem_can_be_opened(stranger: httpx2.AsyncClient) -> None:
    for code in EXPLAINED:
        page = await stranger.get(f"/problems/{code}")
        assert page.status_code == 200
        assert EXPLAINED[Code(code)].title in page.text.replace("&#39;", "'")
    assert (await stranger.get("/problems/nothing")).status_code == 404
