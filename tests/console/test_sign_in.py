"""Signing in as a person does; what is typed survives the end of a session."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from itsdangerous import URLSafeSerializer
from playwright.async_api import Browser, expect
from typer.testing import CliRunner

import crm
from api.deps import SESSION_COOKIE
from console.desk import is_ours
from database.base import Sessions
from database.staff import SignInFailure, Staff, StaffSession
from docs.browser import FLAGS, chromium
from domain.tasks import Role
from supervisor.run_file import Addresses, RunFile, write_run_file
from tests.api.conftest import KEY, SIGNING_KEY
from tests.console.conftest import SignIn, calling_as, password


async def _made(api: httpx2.AsyncClient, staff_id: str, role: str = "admin") -> tuple[str, str]:
    email = f"{staff_id}@example.com"
    body = {"id": staff_id, "email": email, "name": "Ana Lima", "role": role}
    answer = await api.post("/api/v1/staff", json=body)
    assert answer.status_code == 201, answer.text
    return email, answer.json()["password"]


async def test_first_sign_in_asks_for_a_password_of_ones_own(
    browser: Browser, console_url: str, api: httpx2.AsyncClient
) -> None:
    email, for_once = await _made(api, "first-1")
    page = await browser.new_page(base_url=console_url)
    await page.goto("/console/customers")
    await expect(page).to_have_url(re.compile("/console/sign-in"))
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(for_once)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
    await page.goto("/console/staff")  # nothing else opens
    await expect(page).to_have_url(re.compile("/console/password"))

    async def choose(new: str, again: str) -> None:
        await page.get_by_label("Present password").fill(for_once)
        await page.get_by_label("New password").fill(new)
        await page.get_by_label("Once more").fill(again)
        await page.get_by_role("button", name="Set password").click()

    await choose("aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaa")
    await expect(page.get_by_role("alert")).to_contain_text("too easy to guess")
    mine = password()
    await choose(mine, mine + "x")
    await expect(page.get_by_role("alert")).to_contain_text("differ")
    await choose(mine, mine)
    await expect(page.get_by_role("heading", name="What needs me now")).to_be_visible()
    await expect(page.locator(".notice")).to_contain_text("Password set")

    cookie = next(c for c in await page.context.cookies() if c["name"] == SESSION_COOKIE)
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    await page.locator(".me summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.goto("/console")
    await expect(page).to_have_url(re.compile("/console/sign-in"))
    await page.context.close()


async def test_failures_have_to_wait_and_say_so(
    browser: Browser, console_url: str, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    email, right = await _made(api, "guessed-1", "ops")
    page = await browser.new_page(base_url=console_url)
    await page.goto("/console/sign-in")

    async def attempt(word: str) -> str:
        await page.get_by_label("E-mail").fill(email)
        await page.get_by_label("Password").fill(word)
        await page.get_by_role("button", name="Sign in").click()
        return await page.get_by_role("alert").inner_text()

    try:
        for _ in range(5):
            assert "not right" in await attempt("wrong")
        assert "try again in" in await attempt(right)
        assert await page.get_by_label("E-mail").input_value() == email
    finally:  # also of the address that all tests come from
        async with sessions.begin() as session:
            await session.execute(sa.delete(SignInFailure))
        await page.context.close()


async def test_nothing_typed_is_lost_when_the_session_ends(
    sign_in: SignIn, api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    email, for_once = await _made(api, "typing-1")
    page = await sign_in(Role.ADMIN, staff_id="typing-1")
    async with sessions.begin() as session:  # chosen long ago
        await session.execute(sa.text("UPDATE staff SET one_time_password = false"))
    await page.goto("/console/staff")
    await page.get_by_label("Name").fill("Zoë, أمل & <b>Co</b>")
    await page.get_by_label("E-mail").fill("kept@example.com")
    await page.get_by_label("Signs as").fill("kept-1")
    async with sessions.begin() as session:
        await session.execute(sa.delete(StaffSession).where(StaffSession.staff_id == "typing-1"))
    await page.get_by_role("button", name="Add account").click()
    await expect(page.get_by_text("Your session has ended")).to_be_visible()
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(for_once)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_label("Name")).to_have_value("Zoë, أمل & <b>Co</b>")
    await page.get_by_role("button", name="Send it again").click()
    await expect(page.locator("#one-time")).to_have_text(re.compile(r"^(\w{5}-){3}\w{5}$"))
    made = (await api.get("/api/v1/staff/kept-1")).json()
    assert made["name"] == "Zoë, أمل & <b>Co</b>"
    assert made["role"] == "sales_rep"


async def test_a_password_for_once_ends_and_the_server_makes_another(
    console_url: str,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who doesn't know it is told what strangers are told."""
    staff_id = "ended-1"
    email, for_once = await _made(api, staff_id)
    kept = await _made(api, "chosen-1")
    mine = {"current_password": for_once, "new_password": password()}
    async with httpx2.AsyncClient(base_url=console_url, timeout=30) as browser:

        async def attempt(email: str, word: str) -> httpx2.Response:
            return await browser.post("/console/sign-in", data={"email": email, "password": word})

        assert (await attempt(email, for_once)).status_code == 303  # and leaves it for later
        page = (await browser.get("/console/password")).text
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token is not None
        async with sessions.begin() as session:
            for one_time, made in ((True, staff_id), (False, "chosen-1")):
                staff = await session.get_one(Staff, made)
                staff.password_set_at -= timedelta(hours=72)
                staff.one_time_password = one_time
        late = {**mine, "repeated_password": mine["new_password"], "csrf_token": token[1]}
        assert (await browser.post("/console/password", data=late)).status_code == 403
        browser.cookies.clear()
        told = await attempt(email, for_once)
        assert told.status_code == 403
        assert "crm.py staff reset" in told.text
        assert "set-cookie" not in told.headers
        strange = [await attempt(one, "wrong") for one in (email, "nobody@example.com")]
        assert {one.status_code for one in strange} == {401}
        assert strange[0].text == strange[1].text.replace("nobody@example.com", email)
        assert (await attempt(*kept)).status_code == 303  # one's own has no end
        browser.cookies.clear()

        write_run_file(_run_file(console_url, tmp_path))
        monkeypatch.setenv("CRM_DATA_DIR", str(tmp_path))
        command = ["staff", "reset", staff_id]
        printed = await asyncio.to_thread(CliRunner().invoke, crm.app, command)
        assert printed.exit_code == 0, printed.output
        assert (await attempt(email, printed.output.strip())).status_code == 303


def _run_file(console_url: str, data_dir: Path) -> RunFile:
    """Of an installation at that address, with the key of the tests."""
    (data_dir / "api_key").write_text(KEY)
    nowhere = dict.fromkeys(("docs", "inbox", "temporal", "temporal_ui", "smtp"), "")
    return RunFile(
        addresses=Addresses(api=console_url, **nowhere),
        pids={},
        data_dir=data_dir,
        api_key_file=data_dir / "api_key",
        database_url="",
        temporal_namespace="default",
    )


async def test_it_works_without_script(sign_in: SignIn) -> None:
    page = await sign_in(Role.MANAGER, script=False)
    await page.goto("/console")
    await page.get_by_role("link", name="Audit").click()
    await expect(page.get_by_role("heading", name="Who did what")).to_be_visible()
    await page.goto("/console/account")
    await page.get_by_label("Colours").select_option("dark")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("/console", True),
        ("/console?x=//elsewhere.example", True),
        ("/console/search?q=a\\b#c", True),
        ("/console/processes/case/0197b7c2", True),
        ("/consolex", False),
        ("//elsewhere.example/console/", False),
        ("https://elsewhere.example/console/", False),
        ("//[/console/", False),  # no address at all
        ("/console/..//elsewhere.example", False),
        ("/console/%2e%2E/api/v1/staff", False),  # a browser reads %2e as a dot
        ("/console/\\elsewhere.example", False),
        ("/console/\t/x", False),
    ],
)
def test_a_way_back_stays_in_the_console(address: str, ours: bool) -> None:
    assert is_ours(address) is ours


async def test_an_address_that_is_none_leads_home(app: FastAPI, api: httpx2.AsyncClient) -> None:
    email, for_once = await _made(api, "astray-1", "ops")
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False), base_url="http://crm"
    ) as browser:
        typed = {"email": email, "password": for_once, "next": "//[/console/"}
        answer = await browser.post("/console/sign-in", data=typed)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")


async def test_no_other_site_signs_a_browser_in(app: FastAPI, api: httpx2.AsyncClient) -> None:
    email, for_once = await _made(api, "lured-1", "ops")
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False), base_url="http://crm"
    ) as browser:
        typed = {"email": email, "password": for_once}
        for headers, status in (
            *(({"Sec-Fetch-Site": site}, 403) for site in ("cross-site", "same-site")),
            ({"Sec-Fetch-Site": "same-origin", "Origin": "http://behind-a-proxy.example"}, 303),
            # To an address without TLS browsers send no more than the origin.
            *(({"Origin": one}, 403) for one in ("http://lure.example", "http://crm:81", "null")),
            ({"Origin": "http://crm"}, 303),
            ({"Origin": "http://127.0.0.1:8000"}, 303),  # as it is published
        ):
            browser.cookies.clear()
            answer = await browser.post("/console/sign-in", data=typed, headers=headers)
            assert (headers, answer.status_code) == (headers, status)
            assert ("set-cookie" in answer.headers) is (status == 303)


async def test_a_browser_signs_in_where_there_is_no_tls(
    browser: Browser, console_url: str, api: httpx2.AsyncClient
) -> None:
    """By a name that is not localhost: such a page sends its origin, and no Fetch Metadata."""
    email, for_once = await _made(api, "plain-1", "ops")
    named = console_url.replace("127.0.0.1", "crm.test")
    resolving = [*FLAGS, "--host-resolver-rules=MAP crm.test 127.0.0.1"]
    other = await browser.browser_type.launch(executable_path=chromium(), args=resolving)
    page = await other.new_page(base_url=named)
    await page.goto("/console/sign-in")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(for_once)
    async with page.expect_request("**/console/sign-in") as sent:
        await page.get_by_role("button", name="Sign in").click()
    headers = await (await sent.value).all_headers()
    assert "sec-fetch-site" not in headers
    assert headers["origin"] == named
    await expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
    await other.close()


async def test_no_other_site_has_its_form_shown_as_what_was_typed(
    app: FastAPI, sessions: Sessions
) -> None:
    """Neither after the sign-in, nor where the session's cookie comes along."""
    lure = {"id": "lured-2", "email": "lured@example.com", "name": "Ana", "role": "admin"}
    async with calling_as(app, sessions, Role.ADMIN) as browser:
        for site, shown in (("cross-site", False), ("same-site", False), ("same-origin", True)):
            answer = await browser.post(
                "/console/staff", data=lure, headers={"Sec-Fetch-Site": site}
            )
            assert answer.status_code == 403
            assert ("lured-2" in answer.text) is shown
        browser.cookies.clear()
        for site, shown in (("cross-site", False), ("same-origin", True)):
            answer = await browser.post(
                "/console/staff", data=lure, headers={"Sec-Fetch-Site": site}
            )
            assert answer.status_code == (401 if shown else 403)
            assert ('name="kept"' in answer.text) is shown


async def test_no_password_is_shown_again(app: FastAPI, sessions: Sessions) -> None:
    words = {name: password() for name in ("current_password", "new_password")}
    typed = {**words, "repeated_password": words["new_password"], "csrf_token": "old"}
    async with calling_as(app, sessions, Role.OPS) as browser:
        refused = await browser.post("/console/password", data=typed)
        assert refused.status_code == 403
        browser.cookies.clear()
        ended = await browser.post("/console/password", data=typed)
        assert ended.status_code == 401
    kept = re.search(r'name="kept" value="([^"]+)"', ended.text)
    assert kept is not None
    for word in words.values():
        assert word not in refused.text
        assert word not in URLSafeSerializer(SIGNING_KEY, salt="console-typed").loads(kept[1])


async def test_what_no_database_holds_is_the_callers_fault(
    app: FastAPI, sessions: Sessions
) -> None:
    async with calling_as(app, sessions, Role.OPS) as browser:
        assert (await browser.get("/console/tasks?owner=%00")).status_code == 422
        browser.cookies.clear()
        answer = await browser.post("/console/sign-in", data={"email": "\0", "password": "x"})
        assert answer.status_code == 400


async def test_whoever_has_to_choose_a_password_may_leave(
    app: FastAPI, api: httpx2.AsyncClient
) -> None:
    email, for_once = await _made(api, "leaving-1", "ops")
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False), base_url="http://crm"
    ) as browser:
        await browser.post("/console/sign-in", data={"email": email, "password": for_once})
        page = (await browser.get("/console/password")).text
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token is not None
        left = await browser.post("/console/sign-out", data={"csrf_token": token[1]})
        assert left.headers["location"] == "/console/sign-in"
    assert (await api.get("/api/v1/staff/leaving-1/sessions")).json() == {"items": []}
