"""A manager changes a policy: what is running keeps its own, and nobody overwrites a colleague."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from html.parser import HTMLParser
from uuid import UUID

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from playwright.async_api import Page, expect

from database.base import Sessions
from database.policies import PolicyVersion
from domain.tasks import Role
from tests.api.conftest import Json, eventually
from tests.console.conftest import SignIn, calling_as


@pytest.fixture(autouse=True)
async def only_defaults(sessions: Sessions) -> AsyncGenerator[None]:
    """The policies are everybody's: the next test begins with the defaults."""
    yield
    async with sessions.begin() as session:
        await session.execute(sa.delete(PolicyVersion))


async def _answered_within(api: httpx2.AsyncClient, customer: UUID) -> timedelta:
    """What a case that is opened now promises."""
    body = {"customer_id": str(customer), "text": "It does not work."}
    opened = await api.post("/api/v1/cases", json=body)
    assert opened.status_code == 202, opened.text
    return await _promised(api, opened.json()["case_id"])


async def _promised(api: httpx2.AsyncClient, case_id: str) -> timedelta:
    case = await eventually(
        lambda: api.get(f"/api/v1/cases/{case_id}"), lambda one: one["first_response_due"]
    )
    due, opened = (datetime.fromisoformat(case[n]) for n in ("first_response_due", "opened_at"))
    return due - opened


async def _in_force(api: httpx2.AsyncClient, kind: str) -> Json:
    current: Json = (await api.get(f"/api/v1/policies/{kind}")).json()["current"]
    return current


async def _review(page: Page) -> None:
    await page.get_by_role("button", name="Review changes").click()


async def test_a_new_case_follows_a_changed_policy_and_an_old_one_keeps_its_own(
    sign_in: SignIn, api: httpx2.AsyncClient, customer: UUID, worker: None
) -> None:
    body = {"customer_id": str(customer), "text": "It does not work."}
    old = (await api.post("/api/v1/cases", json=body)).json()["case_id"]
    assert await _promised(api, old) == timedelta(hours=8)
    page = await sign_in(Role.MANAGER)
    await page.goto("/console/policies")
    await page.get_by_role("link", name="Support").click()
    normal = page.get_by_role("group", name="First response").get_by_label("Normal")
    await expect(normal).to_have_value("8 hours")

    await normal.fill("soon")
    await page.get_by_label("Reopening window").fill("1 month")
    await _review(page)
    await expect(page.get_by_role("alert")).to_contain_text("2 fields can't be understood")
    await expect(normal).to_have_value("soon")
    await expect(page.locator(".setting.wrong").first).to_contain_text("write it as 3 days")

    await normal.fill("1.5 hours")
    await page.get_by_label("Reopening window").fill("P7D")  # as it is, written otherwise
    await _review(page)
    review = page.locator("#review")
    await expect(review.locator("tbody tr")).to_have_count(1)
    await expect(review.locator("tbody tr")).to_contain_text("8 hours1 hour 30 minutes")
    await expect(review).to_contain_text("keeps the version it began with")
    await review.get_by_label("Why").fill("Faster <b>answers</b>")
    await review.get_by_role("button", name="Publish policy").click()
    await expect(page.locator(".notice")).to_contain_text("Version 1 of Support is in force")

    assert await _answered_within(api, customer) == timedelta(minutes=90)
    assert await _promised(api, old) == timedelta(hours=8)
    await expect(page.locator("#history + ul li").first).to_contain_text("Faster <b>answers</b>")
    await page.locator(".notice").get_by_role("button", name="Undo").click()
    await expect(page.locator(".notice")).to_contain_text("Version 2 of Support is in force")
    await expect(normal).to_have_value("8 hours")
    assert (await _in_force(api, "support"))["note"] == "Brings back version 0"

    await page.get_by_role("button", name="Bring back version 1").click()
    await expect(review.locator("tbody tr")).to_contain_text("1 hour 30 minutes")
    assert (await _in_force(api, "support"))["version"] == 2  # only shown so far


async def test_of_two_who_publish_at_once_the_second_sees_what_differs(
    sign_in: SignIn, api: httpx2.AsyncClient
) -> None:
    mine, theirs = await sign_in(Role.MANAGER), await sign_in(Role.ADMIN)
    for page in (mine, theirs):
        await page.goto("/console/policies/delivery")
    await theirs.get_by_label("Chases").fill("5")
    await theirs.get_by_label("Warn before").fill("1 day")
    await _review(theirs)
    await mine.get_by_label("Warn before").fill("3 days")
    await mine.get_by_label("Compensation due").fill("2 days")
    await _review(mine)
    for page in (theirs, mine):
        await page.get_by_role("button", name="Publish policy").click()
    alert = mine.locator("#review")
    await expect(alert).to_contain_text("Version 1 was published meanwhile by test-admin")
    differ = alert.get_by_role("table").first.locator("tbody tr")
    await expect(differ).to_have_text(
        ["Warn before2 days1 day3 days", "Chases353", "Compensation due1 day1 day2 days"]
    )
    assert (await _in_force(api, "delivery"))["document"]["warn_before"] == "P1D"
    await mine.get_by_role("button", name="Publish policy").click()
    await expect(mine.locator(".notice")).to_contain_text("Version 2")
    both = (await _in_force(api, "delivery"))["document"]
    assert (both["chases"], both["warn_before"], both["compensation_due"]) == (5, "P3D", "P2D")


async def test_who_may_not_publish_reads_and_is_refused(
    app: FastAPI, sessions: Sessions, api: httpx2.AsyncClient
) -> None:
    async with calling_as(app, sessions, Role.OPS) as ops:
        page = await ops.get("/console/policies/contact")
        assert page.status_code == 200
        assert "Review changes" not in page.text
        assert '<fieldset class="bare" disabled>' in page.text
        sent = {"csrf_token": ops.headers["x-csrf-token"], "document": "{}", "replaces": "0"}
        for path in ("", "/review", "/undo"):
            refused = await ops.post(f"/console/policies/contact{path}", data=sent)
            assert refused.status_code == 403, path
        assert (await ops.get("/console/policies/weather")).status_code == 404
    async with calling_as(app, sessions, Role.MANAGER) as manager:
        sent = {"csrf_token": manager.headers["x-csrf-token"]}
        for path, more, status in (
            ("", {"document": "no JSON"}, 400),
            ("", {"document": "{}", "replaces": "0"}, 422),
            ("/review", {}, 422),
            ("/review", {"bring_back": "99"}, 404),
            ("/undo", {"to": "<b>"}, 404),
        ):
            answer = await manager.post(f"/console/policies/contact{path}", data={**sent, **more})
            assert answer.status_code == status, (path, more, answer.status_code)
    assert (await _in_force(api, "contact"))["version"] == 0


@pytest.mark.parametrize(
    ("kind", "field", "typed", "said"),
    [
        ("delivery", "chases", "51", "less than or equal to 50"),
        ("delivery", "chase_every", "4000 days", "less than or equal to"),
        ("retention", "rhythm_factor", "one", "is not a number"),
        ("sending", "marketing.sender", "a@b, c@d", "write one address"),
        ("sending", "smtp.warm_up_start", "0", "greater than 0"),
        ("contact", "quiet_from", "25:00", "is not a time of day"),
    ],
)
async def test_a_fault_stands_beside_its_field(
    app: FastAPI, sessions: Sessions, kind: str, field: str, typed: str, said: str
) -> None:
    async with calling_as(app, sessions, Role.MANAGER) as manager:
        html = (await manager.get(f"/console/policies/{kind}")).text
        form = _filled(html)
        form[field] = [typed]
        answer = await manager.post(f"/console/policies/{kind}/review", data=form)
    assert answer.status_code == 422
    fault = answer.text.partition(f'id="means-{field}"')[2].partition("</small>")[0]
    assert said in fault
    assert f'value="{typed}"' in answer.text


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "select":
            self._select = given["name"]
        elif tag == "option" and "selected" in given:
            self.fields.setdefault(self._select, []).append(given["value"])
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self.fields.setdefault(given["name"], []).append(given.get("value", ""))


def _filled(html: str) -> dict[str, list[str]]:
    """The form as a browser would send it untouched."""
    reader = _FormReader()
    reader.feed(html.partition('class="settings"')[2].partition("</form>")[0])
    return reader.fields
