"""Tasks as people take, give back and complete them; mails that nobody could be found for."""

from base64 import b64encode
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from playwright.async_api import expect
from temporalio.testing import WorkflowEnvironment

from activities.received_mail import take_in_mail
from api.deps import CSRF_HEADER
from console.outcomes import ASKS, THEN
from database.base import Sessions
from domain.tasks import OUTCOMES, Role, TaskKind
from tests.api.conftest import SIGNING_KEY, Json, MakeCustomer, Report, eventually
from tests.console.conftest import SignIn, calling_as
from tests.messaging.test_mail_reading import with_files

pytestmark = pytest.mark.usefixtures("worker")


def test_every_outcome_is_told_in_words() -> None:
    assert set(ASKS) == set(TaskKind)
    assert {kind: set(told) for kind, told in THEN.items()} == {
        kind: set(outcomes) for kind, outcomes in OUTCOMES.items()
    }


async def _task(api: httpx2.AsyncClient, customer: UUID) -> Json:
    asked = {"customer_id": str(customer), "state": "open"}
    page = await eventually(
        lambda: api.get("/api/v1/tasks", params=asked), lambda page: len(page["items"]) > 0
    )
    task: Json = page["items"][0]
    return task


async def test_a_task_is_taken_given_back_and_completed(
    sign_in: SignIn, api: httpx2.AsyncClient, customer: UUID
) -> None:
    text = "Does it come in <b>blue</b>? أمل"
    await api.post("/api/v1/cases", json={"customer_id": str(customer), "text": text})
    task = await _task(api, customer)
    page = await sign_in(Role.SUPPORT_AGENT)
    await page.goto("/console/tasks")
    row = page.locator(f"#task-{task['id']}")
    await expect(row).to_contain_text("in 8 hours")
    await row.get_by_role("button", name="Take").dblclick()
    await expect(page.locator(".notice")).to_contain_text("The task is yours")
    await expect(row).to_contain_text("Claimed")
    await page.keyboard.press("u")
    await expect(page.locator(".notice")).to_contain_text("waits for somebody again")
    await expect(row).to_contain_text("Open")

    await row.get_by_role("link", name="First response").click()
    await expect(page.locator(".written")).to_have_text(text)
    await expect(page.get_by_text("A case was opened")).to_be_visible()
    await page.keyboard.press("i")
    await expect(page.locator("#task-head")).to_contain_text("Support Agent of the tests")
    await page.get_by_role("button", name="Complete: answered").dblclick()
    await expect(page.locator(".notice")).to_contain_text("The task is done")
    await expect(page.locator("#task-head")).to_contain_text("Answered")
    await expect(page.get_by_role("button", name="Complete")).to_have_count(0)
    await page.goto("/console/tasks?show=all&state=done")
    await expect(row).to_contain_text("Done")


async def test_a_task_of_a_colleague_stays_theirs(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    await api.post("/api/v1/cases", json={"customer_id": str(customer), "text": "Hello?"})
    task = await _task(api, customer)
    await api.post(f"/api/v1/tasks/{task['id']}/claim", json={"owner": "colleague-1"})
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        form = {"csrf_token": agent.headers[CSRF_HEADER], "key": uuid4().hex}
        for action in ("claim", "release"):
            answer = await agent.post(f"/console/tasks/{task['id']}/{action}", data=form)
            assert answer.status_code == 409
            assert "colleague-1" in answer.text
        assert (await agent.get(f"/console/tasks/{uuid4()}")).status_code == 404
        assert task["id"] not in (await agent.get("/console/tasks")).text
        everybodys = await agent.get("/console/tasks?show=all&owner=colleague-1&overdue=")
        assert task["id"] in everybodys.text
        assert (await agent.get("/console/tasks?role=king&kind=&cursor=")).status_code == 200
        assert (await agent.get("/console/tasks?cursor=made-up")).status_code == 400


async def test_what_a_need_and_a_reply_said_stands_on_their_tasks(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID, report: Report
) -> None:
    await report("need_stated", customer_id=str(customer), text="A <second> lamp")
    task = await _task(api, customer)
    async with calling_as(app, sessions, Role.ACCOUNT_MANAGER) as manager:
        shown = (await manager.get(f"/console/tasks/{task['id']}")).text
    assert "A &lt;second&gt; lamp" in shown
    assert "Complete: nothing there" in shown


async def test_a_mail_of_a_stranger_is_shown_safely_and_given_to_its_customer(
    app: FastAPI,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    temporal: WorkflowEnvironment,
    make_customer: MakeCustomer,
) -> None:
    customer = await make_customer(name=f"Mary {uuid4().hex[:8]}")
    name = (await api.get(f"/api/v1/customers/{customer}")).json()["name"]
    raw = with_files(("<b>page</b>.html", b"<script>alert(1)</script>"))
    raw = raw.replace(b"See the photos.", b"<script>alert(2)</script> photos.")
    raw = raw.replace(b"ada@example.com", f"{uuid4().hex}@elsewhere.example".encode())
    body = {"raw": b64encode(raw).decode(), "rcpt_to": ["hello@mail.example"]}
    mail = (await api.post("/api/v1/received-mails", json=body)).json()["id"]
    while await take_in_mail(sessions, temporal.client, SIGNING_KEY.encode()):
        pass
    here = f"/console/received-mails/{mail}"
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        assert here in (await agent.get("/console/received-mails")).text
        shown = (await agent.get(here)).text
        assert "&lt;script&gt;alert(2)&lt;/script&gt; photos." in shown
        assert "<script>alert" not in shown
        [file] = (await agent.get(f"/api/v1/received-mails/{mail}")).json()["attachments"]
        download = await agent.get(f"{here}/attachments/{file['id']}")
        assert download.content == b"<script>alert(1)</script>"
        assert download.headers["content-type"] == "application/octet-stream"
        assert download.headers["content-disposition"].startswith("attachment;")
        assert "sandbox" in download.headers["content-security-policy"]
        assert (await agent.get(f"{here}/raw")).content == raw
        found = (await agent.get(here, params={"q": name})).text
        assert f"customer_id={customer}" in found
        chosen = (await agent.get(here, params={"customer_id": str(customer)})).text
        assert "Give mail to customer" in chosen
        form = {
            "csrf_token": agent.headers[CSRF_HEADER],
            "key": uuid4().hex,
            "customer_id": str(customer),
            "case_id": "",
        }
        for _ in range(2):
            assert (await agent.post(here, data=form)).status_code == 303
        cases = await eventually(
            lambda: agent.get("/api/v1/cases", params={"customer_id": str(customer)}),
            lambda page: len(page["items"]) == 1,
        )
        case = (await agent.get(f"/console/cases/{cases['items'][0]['id']}")).text
        assert "photos." in case
        assert (await agent.get(f"/console/received-mails/{uuid4()}")).status_code == 404
    async with calling_as(app, sessions, Role.MANAGER) as manager:
        assert "Give mail to customer" not in (await manager.get(here)).text
