"""A wording from draft to roll-back, as those who write and those who publish do it."""

import re
from collections.abc import AsyncGenerator

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from playwright.async_api import expect

from database.base import Sessions
from database.staff import StaffAction
from database.templates import TemplateVersion
from domain.tasks import Role
from tests.api.conftest import MakeCustomer
from tests.console.conftest import SignIn, calling_as

NAME = "Zoë <b>O'Hara</b> أمل"
FAULTY = "<mj-text>It is about {{ case }}:</mj-text>\n<mj-text>{{ nobody }} <b>{{ text }}</mj-text>"
SOUND = "<mj-text>Dear {{ name }}, about {{ case }}:</mj-text>\n<mj-text>{{ text }}</mj-text>"


@pytest.fixture(autouse=True)
async def only_files(sessions: Sessions) -> AsyncGenerator[None]:
    yield
    async with sessions.begin() as session:
        await session.execute(sa.delete(TemplateVersion))


async def _in_force(api: httpx2.AsyncClient) -> str:
    shown = (await api.get("/api/v1/templates/case_reply")).json()
    version: str = shown["wordings"][0]["version"]
    return version


async def test_a_wording_is_written_looked_at_published_and_taken_back(
    sign_in: SignIn, api: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    await make_customer(name=NAME, reference="T-ZOE")
    page = await sign_in(Role.MANAGER)
    await page.goto("/console/templates")
    await page.get_by_role("link", name="Case reply").click()
    await page.get_by_role("button", name="Edit this wording").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("version 1")

    body = page.get_by_label("HTML body (MJML)")
    await body.fill(FAULTY)
    await page.get_by_role("button", name="Save draft").click()
    faults = page.locator("#wrong-body_mjml")
    await expect(faults).to_contain_text("Line 2: there is no variable 'nobody'")
    await expect(faults).to_contain_text("{{ nobody }} <b>{{ text }}")
    await expect(page.get_by_role("button", name="Publish version 1")).to_have_count(0)
    await expect(body).to_have_value(FAULTY)

    other = await sign_in(Role.ADMIN)  # opens the draft before it is mended
    await other.goto(page.url)
    await body.fill(SOUND)
    await page.get_by_role("button", name="Save draft").click()
    await expect(faults).to_have_count(0)
    await other.get_by_label("Subject").fill("News, {{ name }}")
    await other.get_by_role("button", name="Save draft").click()
    differs = other.locator("table.grid tbody tr")
    await expect(differs.filter(has_text="Body mjml")).to_contain_text("Dear {{ name }}")
    await other.get_by_label("Body mjml").fill(SOUND)
    await other.get_by_role("button", name="Send it again").click()
    await expect(other.locator(".notice")).to_contain_text("Saved")

    await page.reload()
    await page.get_by_label("Preview as:").fill("T-ZOE")
    await page.get_by_role("button", name="Find customer").click()
    await expect(page.locator("#subject")).to_have_text(f"News, {NAME}")
    mail = page.frame_locator("iframe.mail")
    await expect(mail.locator("body")).to_contain_text(f"Dear {NAME}, about")
    await expect(mail.locator("b")).to_have_count(0)
    await expect(page.locator(".diff .plus").filter(has_text="Dear {{ name }}")).to_have_count(1)

    await page.get_by_role("button", name="Send test").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Case reply")
    await expect(page.locator("#why")).to_contain_text("Not sent yet")
    await page.go_back()
    await page.get_by_role("button", name="Publish version 1").dblclick()
    await expect(page.locator(".notice")).to_contain_text("Version 1 is in force")
    assert await _in_force(api) == "1"
    await page.locator(".notice").get_by_role("button", name="Undo").click()
    await expect(page.locator(".notice")).to_contain_text("The file is in force again")
    assert await _in_force(api) == "file"
    await page.get_by_role("row", name=re.compile("^1 ")).get_by_role("button").click()
    await expect(page.locator(".notice")).to_contain_text("what version 1 said")
    assert await _in_force(api) == "2"


async def test_marketing_needs_a_second_person_and_a_role_its_right(
    app: FastAPI, sessions: Sessions, api: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    path = "/console/templates/win_back"
    async with calling_as(app, sessions, Role.MANAGER) as manager:
        token = {"csrf_token": manager.headers["x-csrf-token"]}
        begun = await manager.post(f"{path}/versions", data={**token, "locale": "en"})
        assert begun.status_code == 303, begun.text
        draft = begun.headers["location"]
        page = (await manager.get(draft)).text
        assert "marketing is published by another person" in page
        assert "Publish version" not in page
        refused = await manager.post(f"{draft}/publication", data={**token, "version": "1"})
        assert refused.status_code == 409
        assert "another person than those who wrote it" in refused.text

    customer = await make_customer(name=NAME)
    async with calling_as(app, sessions, Role.ACCOUNT_MANAGER) as writer:
        page = (await writer.get(draft)).text
        assert "Save draft" in page
        assert "Publish version" not in page
        token = {"csrf_token": writer.headers["x-csrf-token"]}
        refused = await writer.post(f"{draft}/publication", data={**token, "version": "1"})
        assert refused.status_code == 403
        frame = await writer.get(f"{draft}/frame", params={"customer_id": str(customer)})
        assert "&lt;b&gt;O&#39;Hara" in frame.text
        assert frame.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert (await writer.get(f"{path}/versions/99")).status_code == 404
        assert (await writer.get("/console/templates/staff_digest")).status_code == 404
    async with sessions() as session:  # looking leaves no record
        here = StaffAction.target.startswith("/templates")
        done = set(await session.scalars(sa.select(StaffAction.operation).where(here)))
        assert "draft_template" in done
        assert not [one for one in done if "preview" in one]

    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        page = (await agent.get(draft)).text
        assert "<textarea" not in page
        token = {"csrf_token": agent.headers["x-csrf-token"]}
        for tail in ("", "/test", "/publication"):
            refused = await agent.post(f"{draft}{tail}", data={**token, "version": "1"})
            assert refused.status_code == 403, tail
        begun = await agent.post(f"{path}/versions", data={**token, "locale": "en"})
        assert begun.status_code == 403


async def test_a_text_message_says_how_many_segments_it_takes(
    app: FastAPI, sessions: Sessions, api: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(name="Şule")  # not of GSM-7
    path = "/console/templates/order_late"
    async with calling_as(app, sessions, Role.MANAGER) as manager:
        token = {"csrf_token": manager.headers["x-csrf-token"]}
        begun = await manager.post(f"{path}/versions", data={**token, "locale": "en"})
        draft = begun.headers["location"]
        sources = (await api.get(draft.replace("/console", "/api/v1"))).json()["sources"]
        sources["sms"] = "{{ name }}: " + "late " * 14
        form = {**token, **sources, "version": "1", "customer_id": str(customer)}
        saved = await manager.post(draft, data=form)
        assert saved.headers["location"] == f"{draft}?customer_id={customer}"
        page = (await manager.get(saved.headers["location"])).text
    said = " ".join(page.partition('id="segments"')[2].partition("</p>")[0].split())
    assert "2 segments for this customer: 75 units of UCS-2" in said
