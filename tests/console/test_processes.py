"""Following processes, retrying one that failed, and running the schedules, as a person does."""

import re
from collections.abc import AsyncGenerator
from uuid import uuid4

import httpx2
import pytest
import sqlalchemy as sa
from axe_playwright_python.async_playwright import Axe
from fastapi import FastAPI
from playwright.async_api import Locator, Page, expect
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities.sweeps import SweepActivities
from database.base import Sessions
from database.customers import Customer
from database.timeline import TimelineLine
from domain.follow_up import FollowUpInput
from domain.processes import LIFECYCLE_QUEUE, ProcessKind
from domain.schedules import ScheduleName, schedule_id
from domain.tasks import Role
from tests.api.conftest import MakeCustomer, Report, eventually
from tests.console.conftest import SignIn, calling_as
from tests.patience import becomes
from worker import bulk_worker, ensure_schedules
from workflows.follow_up import FollowUp
from workflows.visibility import search_attributes

_SCRIPT = "<script>document.title = 'taken'</script> أمل " + "x" * 120


@pytest.fixture
async def order(report: Report, make_customer: MakeCustomer, worker: None) -> str:
    """An order of today, of a customer with a name that no page must trust."""
    customer = await make_customer(name=_SCRIPT[:200])
    placed = await report(
        "order_placed",
        customer_id=str(customer),
        order_reference=uuid4().hex,
        occurred_at="2026-11-20T10:00:00Z",
    )
    return str(placed["order_id"])


async def test_a_run_is_followed_in_plain_words_and_steered(
    sign_in: SignIn,
    app: FastAPI,
    api: httpx2.AsyncClient,
    report: Report,
    order: str,
    sessions: Sessions,
) -> None:
    path = f"/console/processes/delivery/{order}"
    await eventually(lambda: api.get(f"/api/v1/processes/delivery/{order}"), bool)
    async with sessions.begin() as session:
        await session.execute(
            sa.update(TimelineLine)
            .where(TimelineLine.workflow_id == f"delivery/{order}")
            .values(facts={"reason": "<img src=x onerror=alert(1)>"})
        )
    page = await sign_in(Role.OPS)
    await page.goto("/console/processes")
    await page.get_by_role("link", name="Delivery").click()
    await _is_accessible(page)
    await page.get_by_label("State").select_option("running")
    await expect(page).to_have_url(re.compile("state=running"))
    await page.get_by_role("link", name="أمل").first.click()
    await expect(page).to_have_url(re.compile(f"{path}$"))
    await _is_accessible(page)
    now = page.locator("#now")
    await expect(now).to_contain_text("placed, confirmed to the customer")
    await expect(now).to_contain_text("It waits for: the approval of the order")
    await expect(now).to_contain_text("a person is asked to approve it")
    story = page.locator("#story")
    await expect(story).to_contain_text("Ordered")
    await expect(story).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(story).to_contain_text("Order confirmed")
    assert await page.title() != "taken"

    await page.get_by_label("Why pause").select_option("under-review")
    await page.get_by_role("button", name="Pause process").click()
    await expect(page.locator(".notice")).to_contain_text("Paused")
    await expect(now).to_contain_text("While it is paused nothing happens")
    await page.locator(".notice").get_by_role("button", name="Undo").click()
    await expect(page.locator(".notice")).to_contain_text("It goes on")
    await expect(now).to_contain_text("It waits for: the approval of the order")
    await expect(story).to_contain_text("Staff paused the process (under-review)")

    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_text("Stop…").click()
    await page.get_by_label("Why stop").select_option("duplicate")
    await page.get_by_role("button", name="Stop process").click()
    await expect(now).to_contain_text("Nothing more follows")
    await expect(page.locator("#steer-card")).to_have_count(0)
    assert await page.title() != "taken"

    async with calling_as(app, sessions, Role.OPS) as ops:
        gone = await ops.get(f"/console/processes/delivery/{uuid4()}")
        assert gone.status_code == 404
        assert "There is no such thing" in gone.text
        assert (await ops.get("/console/processes/kinds/nothing")).status_code == 404


async def test_a_sales_rep_sees_processes_and_no_buttons(
    app: FastAPI, api: httpx2.AsyncClient, order: str, sessions: Sessions
) -> None:
    await eventually(lambda: api.get(f"/api/v1/processes/delivery/{order}"), bool)
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        shown = await rep.get(f"/console/processes/delivery/{order}")
        assert shown.status_code == 200, shown.text
        assert "Pause process" not in shown.text
        assert "<script>document" not in shown.text
        listed = await rep.get("/console/processes")
        assert "What needs an operator" not in listed.text
        for screen in ("operations", "schedules", "schedules/verify"):
            assert (await rep.get(f"/console/{screen}")).status_code == 403
        token = {"csrf_token": rep.headers["X-CSRF-Token"], "command": "pause"}
        refused = await rep.post(f"/console/processes/delivery/{order}/commands", data=token)
        assert refused.status_code == 403
        assert "may not steer processes" in refused.text


async def test_a_failed_process_is_retried(
    sign_in: SignIn,
    api: httpx2.AsyncClient,
    temporal: WorkflowEnvironment,
    sessions: Sessions,
    worker: None,
) -> None:
    customer_id, about_id = uuid4(), uuid4()
    workflow_id = f"follow-up/{about_id}"
    await temporal.client.start_workflow(
        FollowUp.run,
        FollowUpInput(customer_id=customer_id, about_id=about_id, since="2099-01-05T10:00:00Z"),
        id=workflow_id,
        task_queue=LIFECYCLE_QUEUE,
        search_attributes=search_attributes(customer_id, ProcessKind.FOLLOW_UP),
    )
    await eventually(
        lambda: api.get("/api/v1/operations/processes"),
        lambda found: workflow_id in [one["workflow_id"] for one in found["items"]],
    )
    page = await sign_in(Role.OPS)
    await page.goto("/console")
    await expect(
        page.get_by_role("heading", name="Processes that failed or stumble:")
    ).to_be_visible()
    alarm = page.locator(f"[id='alarm-{workflow_id}']")
    await expect(alarm).to_contain_text("trying again by itself cannot cure")
    await page.goto("/console/operations")
    row = page.locator(f"#row-{workflow_id.replace('/', '-')}")
    await expect(row).to_contain_text("Failed")
    await expect(row).to_contain_text(f"no customer {customer_id}")
    await _is_accessible(page)
    await _retry(page, row)
    # Its cause is still there: it fails again, in another run.
    await expect(row).to_contain_text("Failed")

    async with sessions.begin() as session:
        session.add(Customer(id=customer_id, reference=f"late-{customer_id}", name="Ada Late"))
    await becomes(lambda: _failed(api, workflow_id), True)
    await page.reload()
    await row.get_by_role("link").first.click()
    await expect(page.get_by_role("group", name="Trouble")).to_contain_text("stays done")
    await _is_accessible(page)
    await _retry(page, page.get_by_role("group", name="Trouble"))
    await eventually(lambda: api.get(f"/api/v1/processes/{workflow_id}"), bool)
    await page.reload()
    await expect(page.locator("h1")).to_have_text("Follow up: Ada Late")
    await expect(page.locator("#now")).to_contain_text("thanked and asked how it went")
    await expect(page.get_by_role("group", name="Trouble")).to_have_count(0)
    await page.goto("/console/operations")
    await expect(row).to_have_count(0)


async def _is_accessible(page: Page) -> None:
    """By axe (WCAG 2.2 AA); and it fits a phone."""
    found = (await Axe().run(page)).response["violations"]
    assert not found, [(one["id"], [node["target"] for node in one["nodes"]]) for one in found]
    await page.set_viewport_size({"width": 390, "height": 780})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.set_viewport_size({"width": 1280, "height": 720})


async def _failed(api: httpx2.AsyncClient, workflow_id: str) -> bool:
    health = (await api.get(f"/api/v1/processes/{workflow_id}/health")).json()
    return bool(health["trouble"])


async def _retry(page: Page, within: Locator) -> None:
    await within.get_by_text("Retry…").click()
    await expect(within).to_contain_text("See to the cause first")
    await within.get_by_label("Why now").select_option("cause-removed")
    await within.get_by_role("button", name="Retry process").click()
    await expect(page.locator(".notice")).to_contain_text("Tried again")


@pytest.fixture
async def scheduled(temporal: WorkflowEnvironment, sessions: Sessions) -> AsyncGenerator[Client]:
    await ensure_schedules(temporal.client)
    async with bulk_worker(temporal.client, SweepActivities(sessions, temporal.client)):
        yield temporal.client
    for name in ScheduleName:
        await temporal.client.get_schedule_handle(schedule_id(name)).delete()


@pytest.mark.usefixtures("scheduled")
async def test_a_schedule_is_paused_triggered_and_caught_up(
    sign_in: SignIn, api: httpx2.AsyncClient
) -> None:
    await eventually(
        lambda: api.get("/api/v1/schedules"),
        lambda all_: "kpi-snapshot" in [one["name"] for one in all_["items"]],
    )
    page = await sign_in(Role.OPS)
    await page.goto("/console/schedules")
    await expect(page.locator("#row-kpi-snapshot")).to_contain_text("Keeps the figures of the day")
    await page.get_by_role("link", name="Kpi snapshot").click()
    await _is_accessible(page)
    now = page.locator("#now")
    await expect(now).to_contain_text("Active")
    await page.get_by_label("Why pause").select_option("maintenance")
    await page.get_by_role("button", name="Pause schedule").click()
    await expect(now).to_contain_text("paused by test-ops: maintenance")
    await page.get_by_role("button", name="Run it now").click()
    await expect(page.locator(".notice")).to_contain_text("It runs now")

    async def last_run() -> str:
        shown = (await api.get("/api/v1/schedules/kpi-snapshot")).json()
        return shown["last_run"]["state"] if shown["last_run"] else "none"

    await becomes(last_run, "completed")
    await page.reload()
    await expect(now).to_contain_text("Completed")
    await expect(now).to_contain_text("Paused")
    await page.get_by_role("button", name="Resume schedule").click()
    await expect(now).to_contain_text("Active")
    await page.locator(".notice").get_by_role("button", name="Undo").click()
    await expect(now).to_contain_text("Paused")

    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_label("From").fill("2026-11-02T00:00")
    await page.get_by_label("Until").fill("2026-11-01T00:00")
    await page.get_by_role("button", name="Catch up").click()
    await expect(page.get_by_role("alert")).to_contain_text("end_at must be after start_at")
    await expect(page.get_by_label("From")).to_have_value("2026-11-02T00:00")
    await page.get_by_label("Until").fill("2026-11-04T00:00")
    await page.get_by_role("button", name="Catch up").click()
    await expect(page.locator(".notice")).to_contain_text("runs what was due")

    async def runs() -> int:
        found: int = (await api.get("/api/v1/schedules/kpi-snapshot")).json()["runs"]
        return found

    await becomes(runs, 3)
