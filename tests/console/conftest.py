"""A real Chromium at the real console, on the real API, workers and servers."""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from api.deps import CSRF_HEADER, SESSION_COOKIE
from api.sign_in import new_session
from database.base import Sessions
from database.queries.staff import find_signed_in
from database.staff import Staff
from docs.browser import FLAGS, NoPicture, chromium
from domain.tasks import Role
from tests.api.conftest import (
    api,
    app,
    customer,
    database_url,
    make_customer,
    order_id,
    report,
    sessions,
    settings,
    worker,
)
from tests.messaging.post_office import free_port

__all__ = [
    "api",
    "app",
    "customer",
    "database_url",
    "make_customer",
    "order_id",
    "report",
    "sessions",
    "settings",
    "worker",
]

expect.set_options(timeout=15_000)

# Nobody signs in with it: sessions are begun in the database.
_NO_HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA"

SignIn = Callable[..., Awaitable[Page]]
CallAs = Callable[[Role], Awaitable[httpx2.AsyncClient]]


@pytest.fixture(scope="package")
async def console_url(app: FastAPI) -> AsyncGenerator[str]:
    """The application on a port of its own."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, lifespan="off", log_level="warning", ws="none")
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn has no event)
        await asyncio.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = server.force_exit = True
    await serving


@pytest.fixture(scope="package")
async def browser() -> AsyncGenerator[Browser]:
    try:
        program = chromium()
    except NoPicture as reason:
        pytest.skip(str(reason))
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        await opened.close()


async def staff_of(sessions: Sessions, role: Role, staff_id: str = "") -> str:
    """The id of a member of staff of that role; made when missing."""
    staff_id = staff_id or f"test-{role.replace('_', '-')}"
    async with sessions.begin() as session:
        if await session.get(Staff, staff_id) is None:
            session.add(
                Staff(
                    id=staff_id,
                    email=f"{staff_id}@example.com",
                    name=f"{role.replace('_', ' ').title()} of the tests",
                    role=role,
                    password_hash=_NO_HASH,
                    one_time_password=False,
                )
            )
    return staff_id


async def token_of(sessions: Sessions, staff_id: str) -> str:
    """A session of that member of staff."""
    async with sessions.begin() as session:
        return await new_session(session, staff_id, "browser of the tests")


@pytest.fixture
async def sign_in(browser: Browser, console_url: str, sessions: Sessions) -> AsyncGenerator[SignIn]:
    """`await sign_in(Role.OPS)`: a page of a browser in which one of that role is signed in.

    At the end no page may have had a fault of script or of the content security policy.
    """
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    async def page_of(role: Role, *, staff_id: str = "", script: bool = True) -> Page:
        token = await token_of(sessions, await staff_of(sessions, role, staff_id))
        context = await browser.new_context(
            base_url=console_url,
            java_script_enabled=script,
            viewport={"width": 1280, "height": 720},
        )
        contexts.append(context)
        await context.add_cookies(
            [{"name": SESSION_COOKIE, "value": token, "url": console_url, "httpOnly": True}]
        )
        page = await context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda said: (
                faults.append(said.text)
                if said.type == "error" and not re.search(r"status of [45]\d\d", said.text)
                else None
            ),
        )
        return page

    yield page_of
    for context in contexts:
        await context.close()
    assert not faults


@asynccontextmanager
async def calling_as(
    app: FastAPI, sessions: Sessions, role: Role
) -> AsyncIterator[httpx2.AsyncClient]:
    """The API, by the session of somebody of that role."""
    token = await token_of(sessions, await staff_of(sessions, role))
    async with sessions() as session:
        signed_in = await find_signed_in(session, token)
    assert signed_in is not None
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://crm",
        cookies={SESSION_COOKIE: token},
        headers={CSRF_HEADER: signed_in.session.csrf_token},
        timeout=30,
    ) as client:
        yield client


async def post_form(client: httpx2.AsyncClient, path: str, **fields: str) -> httpx2.Response:
    """As a browser does: the form, then the page it leads to."""
    form = {"csrf_token": client.headers[CSRF_HEADER], "key": uuid4().hex, **fields}
    answer = await client.post(path, data=form)
    return await client.get(answer.headers["location"]) if answer.status_code == 303 else answer


def password() -> str:
    return secrets.token_urlsafe(16)
