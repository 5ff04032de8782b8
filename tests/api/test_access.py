"""Who may call what: every address needs the key, except those for customers and operators."""

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from tests.api.conftest import KEY, assert_problem

PUBLIC = {
    "/livez",
    "/readyz",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/problems",
    "/problems/{code}",
    "/inbox",
    "/inbox/{mail_id}",
    "/s/{token}",
    "/u/{token}",
    "/p/{token}",
    "/v/{token}",
    "/c/{token}",
    "/o/{token}",
}

SIGNED = {
    "/api/v1/provider-events/resend",
    "/api/v1/provider-events/twilio",
    "/api/v1/provider-events/twilio/texts",
}


def _routes(app: FastAPI) -> list[tuple[str, str]]:
    return sorted(
        (method, str(context.path))
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ()
        if method != "HEAD"
    )


def test_what_is_public_is_written_down(app: FastAPI) -> None:
    open_to_all = {
        path for _, path in _routes(app) if not path.startswith(("/api/v1/", "/console"))
    }
    assert open_to_all == PUBLIC


async def test_what_providers_sign_needs_no_key(app: FastAPI, stranger: httpx2.AsyncClient) -> None:
    """While their secrets are not set nothing is taken; tests/api/test_provider_events.py."""
    assert {path for _, path in _routes(app) if "/provider-events/" in path} == SIGNED
    for path in SIGNED:
        assert_problem(await stranger.post(path), 404, "provider_events_off")


async def test_everything_else_needs_the_key(app: FastAPI, stranger: httpx2.AsyncClient) -> None:
    routes = [one for one in _routes(app) if one[1].startswith("/api/v1/") and one[1] not in SIGNED]
    assert len(routes) > 50
    for method, path in routes:
        for header in ({}, {"Authorization": "Bearer crm_wrong"}, {"Authorization": KEY}):
            answer = await stranger.request(method, path, headers=header)
            assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_every_page_of_the_console_needs_a_session(
    app: FastAPI, stranger: httpx2.AsyncClient
) -> None:
    """The API's key opens none of them either: who acts there is a person."""
    pages = [one for one in _routes(app) if one[1].startswith("/console")]
    assert len(pages) > 10
    for method, path in pages:
        if path in ("/console/sign-in", "/console/static/{name}"):
            continue
        for header in ({}, {"Authorization": f"Bearer {KEY}"}, {"Cookie": "perennial_session=x"}):
            answer = await stranger.request(method, path, headers=header)
            if method == "GET":
                assert answer.status_code == 303, path
                assert answer.headers["location"].startswith("/console/sign-in?next=")
            else:
                assert answer.status_code == 401, path
                assert "Sign in" in answer.text


async def test_a_body_is_not_looked_at_before_the_key(stranger: httpx2.AsyncClient) -> None:
    headers = {"content-type": "application/json", "idempotency-key": "k"}
    answer = await stranger.post("/api/v1/events", content=b"{not json", headers=headers)
    assert_problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_may_be_written_as_one_likes(
    stranger: httpx2.AsyncClient, scheme: str
) -> None:
    answer = await stranger.get("/api/v1/customers", headers={"Authorization": f"{scheme} {KEY}"})
    assert answer.status_code == 200


async def test_every_answer_keeps_browsers_from_guessing(api: httpx2.AsyncClient) -> None:
    for path in ("/livez", "/docs", "/api/v1/customers", "/nothing"):
        headers = (await api.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "script-src" not in headers["content-security-policy"]
        assert headers["x-request-id"]


async def test_a_request_id_is_kept_unless_it_could_break_a_log(api: httpx2.AsyncClient) -> None:
    answer = await api.get("/livez", headers={"X-Request-Id": "shop-17"})
    assert answer.headers["x-request-id"] == "shop-17"
    answer = await api.get("/livez", headers={"X-Request-Id": 'x" level=error'})
    assert answer.headers["x-request-id"] != 'x" level=error'
