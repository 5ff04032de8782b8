"""The list of customers, one customer all round, and processes started by hand, as staff does."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from playwright.async_api import Page, expect

from console.customer import rail_of
from console.outlook import When, outlook
from database.base import Sessions
from database.events import Event
from database.processes import ProcessRow
from domain.policies import MarketingPolicy
from domain.processes import ProcessKind
from domain.tasks import Role
from tests.api.conftest import MakeCustomer, Report, count, eventually
from tests.console.conftest import SignIn, calling_as, post_form
from tests.console.test_screens import faults_of

pytestmark = pytest.mark.usefixtures("worker")

_CONSENT = {"channel": "email", "purpose": "marketing", "source": "form"}
_NASTY = "<script>alert('x')</script><b>أمل 😀</b>"


async def _in_list(page: Page, family: str) -> None:
    """The list, narrowed to a family by typing."""
    await page.goto("/console/customers")
    await page.get_by_label("Name, reference or address").press_sequentially(family, delay=20)
    await expect(page.locator("#rows tbody tr")).to_have_count(4)


async def test_marketing_for_three_customers_and_one_followed_to_its_reply(
    sign_in: SignIn,
    make_customer: MakeCustomer,
    report: Report,
    api: httpx2.AsyncClient,
    sessions: Sessions,
) -> None:
    family = f"Quill{uuid4().hex[:6]}"
    three = [
        await make_customer(name=f"{name} {family}", consents=[_CONSENT])
        for name in ("Ann", "Bea", "Cyd")
    ]
    without = await make_customer(name=f"Dan {family}")
    page = await sign_in(Role.SALES_REP)
    await _in_list(page, family)
    await expect(page).to_have_url(re.compile(f"q={family}"))
    await page.get_by_label("Choose all on this page").check()
    await expect(page.locator(".bulk b")).to_have_text("4")
    kinds = await page.locator(".bulk select option").all_inner_texts()
    assert kinds == ["Marketing contact"], "a sales rep starts nothing else"
    await page.get_by_role("button", name="Preview for the chosen").click()

    await expect(page.get_by_text("It starts for 3.")).to_be_visible()
    await expect(page.get_by_role("row", name=f"Dan {family}")).to_contain_text("no consent")
    await expect(page.locator(".outlook")).to_contain_text("within 4 hours")
    assert await count(sessions, Event, customer_id=three[0]) == 0, "nothing has started"
    await page.get_by_label("Campaign").fill("spring-sale")
    await page.get_by_role("button", name="Start marketing contact for 3").dblclick()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("3 started, 1 refused")
    await expect(page.get_by_role("row", name=f"Dan {family}")).to_contain_text("no consent")
    await page.reload()  # sends the form once more: the same answer
    await expect(page.get_by_role("heading", level=1)).to_contain_text("3 started, 1 refused")
    for one in three:
        assert await count(sessions, Event, customer_id=one, kind="lead_received") == 1

    await api.post(f"/api/v1/customers/{without}/consents", json={**_CONSENT, "state": "granted"})
    await page.get_by_role("button", name="Try the refused ones again").click()
    await expect(page.get_by_text("It starts for 1.")).to_be_visible()
    await page.get_by_role("button", name="Start marketing contact for 1").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("1 started, 0 refused")

    await _in_list(page, family)
    await page.get_by_role("link", name=f"Ann {family}").click()
    processes = page.locator("#processes")
    await expect(processes).to_contain_text("Touch 1 sent")
    await expect(processes).to_contain_text("waits for an answer or an order")
    await expect(processes.locator("time.clock").first).to_contain_text("in ")
    await expect(page.locator(".rail .here")).to_contain_text("Marketing")
    await expect(page.get_by_role("button", name="Pause")).to_have_count(0)

    body = {
        "customer_id": str(three[0]),
        "text": _NASTY,
        "occurred_at": datetime.now(UTC).isoformat(),
    }
    await report("reply_received", **body)
    await expect(page.locator("#tasks")).to_contain_text("Answer reply")  # by itself
    await expect(page.locator("#tasks time.clock")).to_contain_text("in 4 hours")
    await expect(page.locator("#timeline .written", has_text=_NASTY)).to_have_count(1)
    await expect(processes).to_contain_text("waits for a sales rep's first response")


async def test_two_people_change_one_customer(
    sign_in: SignIn, make_customer: MakeCustomer, api: httpx2.AsyncClient
) -> None:
    long = "ש" * 190
    made = await make_customer(name=long, locale="de")
    page = await sign_in(Role.SUPPORT_AGENT)
    for path in (f"/console/customers?q={long}", f"/console/customers/{made}"):
        await page.goto(path)
        await expect(page.locator("main").get_by_text(long, exact=True)).to_be_visible()
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 720})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
    await page.keyboard.press("e")
    await page.locator("#edit").get_by_label("Name").fill(_NASTY)
    path = f"/api/v1/customers/{made}"
    await api.patch(path, json={"zone": "Asia/Tokyo"}, headers={"If-Match": "*"})
    await page.get_by_role("button", name="Save changes").click()
    differs = page.get_by_role("table")
    await expect(differs.get_by_role("row", name="Zone")).to_contain_text("Asia/Tokyo")
    assert (await api.get(path)).json()["name"] == long, "nothing was written over"
    await page.get_by_label("Zone").fill("Asia/Tokyo")
    await page.get_by_role("button", name="Send it again").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(_NASTY)
    await expect(page.get_by_text("Customer changed")).to_be_visible()
    await page.get_by_role("button", name="Undo").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(long)
    assert (await api.get(path)).json()["zone"] == "Asia/Tokyo"

    await page.get_by_text("Add an address").click()
    await page.get_by_label("Address").fill("not an address")
    await page.get_by_role("button", name="Add address").click()
    await expect(page.get_by_role("alert")).to_contain_text("not an e-mail address")
    await page.get_by_label("Address").fill("second@example.com")
    await page.get_by_role("button", name="Send it again").click()
    await expect(page.locator(".notice")).to_contain_text("second@example.com is used")
    await page.get_by_role("button", name="Undo").click()
    await expect(page.locator(".notice")).to_contain_text("is used no more")
    addresses = [one["address"] for one in (await api.get(path)).json()["contact_points"]]
    assert "second@example.com" not in addresses

    await page.get_by_text("Record a consent").click()
    await page.get_by_role("button", name="Record what was said").click()
    await expect(page.get_by_text("Marketing by email: granted").first).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Withdraw marketing by email").click()
    await expect(page.locator(".told")).to_contain_text("No marketing by email: withdrawn")
    await page.keyboard.press("n")
    await page.get_by_label("What is known").fill("Works nights")
    await page.get_by_role("button", name="Keep note").click()
    await expect(page.get_by_text("Works nights")).to_be_visible()
    await page.get_by_text("Promise", exact=True).click()
    await page.get_by_label("What is promised").fill("A spare handle")
    await page.get_by_role("button", name="Record promise").click()
    await expect(page.get_by_text("A spare handle")).to_be_visible()


async def test_a_case_is_opened_answered_and_its_process_paused(
    sign_in: SignIn, customer: UUID, api: httpx2.AsyncClient
) -> None:
    page = await sign_in(Role.MANAGER)
    await page.goto(f"/console/start?kind=support&customer_id={customer}")
    await expect(page.locator(".outlook")).to_contain_text("acknowledgement")
    await expect(page.locator(".outlook")).to_contain_text(re.compile(r"by \w{3} \d+ \w{3} 20\d\d"))
    await page.get_by_label("What it is about").fill("The handle came loose.")
    await page.get_by_role("button", name="Start support case").dblclick()
    await expect(page.locator(".notice")).to_contain_text("Support case started: ")
    processes = page.locator("#processes [id^=process-case]")
    await expect(processes).to_have_count(1)
    listed = await api.get("/api/v1/cases", params={"customer_id": str(customer)})
    assert len(listed.json()["items"]) == 1, "clicked twice, opened once"

    await processes.get_by_role("button", name="Pause").click()
    await expect(processes).to_contain_text("Paused")
    await page.get_by_role("button", name="Undo").click()
    await expect(processes).to_contain_text("Running")
    await page.keyboard.press("r")
    await page.get_by_label("Your answer to").fill("We send a new one.")
    await page.get_by_role("button", name="Send answer").click()
    await expect(page.locator("#timeline")).to_contain_text("Staff answered")
    await processes.get_by_text("Stop", exact=True).click()
    await processes.get_by_label("Reason").fill("duplicate")
    page.once("dialog", lambda dialog: dialog.accept())
    await processes.get_by_role("button", name="Stop process").click()
    await expect(processes).to_have_count(0)


async def test_views_are_saved_shared_and_forgotten(
    sign_in: SignIn, make_customer: MakeCustomer
) -> None:
    name = f"Seen-{uuid4().hex[:8]}"
    await make_customer(name=name)
    page = await sign_in(Role.SALES_REP)
    other = await sign_in(Role.ADMIN, script=False)
    await page.goto(f"/console/customers?q={name}&kind=person&cursor=")
    await page.get_by_text("Save or forget a view").click()
    await page.get_by_label("Name of the view").fill(name)
    await page.get_by_label("for everybody").check()
    await page.get_by_role("button", name="Save view").click()
    await expect(page.get_by_role("link", name=f"{name} shared")).to_have_attribute(
        "aria-current", "true"
    )
    await other.goto("/console/customers")
    await other.get_by_role("link", name=f"{name} shared").click()
    await expect(other.locator("#rows tbody tr")).to_have_count(1)
    await page.get_by_text("Save or forget a view").click()
    await page.get_by_role("button", name=f"Forget “{name}”").click()
    await expect(page.get_by_role("link", name=f"{name} shared")).to_have_count(0)

    await other.goto("/console/customers/new")
    await other.get_by_label("Name").fill(_NASTY)
    await other.get_by_label("E-mail").fill("new@example.com")
    await other.get_by_label("Time zone").fill("Mars/Olympus")
    await other.get_by_label("by email").check()
    await other.get_by_role("button", name="Add customer").click()
    await expect(other.get_by_role("alert")).to_contain_text("zone")
    await expect(other.get_by_label("Name")).to_have_value(_NASTY)
    await other.get_by_label("Time zone").fill("Europe/Berlin")
    await other.get_by_role("button", name="Add customer").click()
    await expect(other.get_by_role("heading", level=1)).to_have_text(_NASTY)
    await expect(other.get_by_text("Marketing by email: granted")).to_be_visible()


async def test_what_is_not_there_or_not_allowed_is_a_page(
    app: FastAPI, sessions: Sessions, customer: UUID, api: httpx2.AsyncClient
) -> None:
    gone = uuid4()
    async with calling_as(app, sessions, Role.SALES_REP) as client:
        for path, status in (
            (f"/console/customers/{gone}", 404),
            ("/console/customers/nobody", 404),
            (f"/console/customers/{customer}?lines=x&what=line", 200),
            (f"/console/customers/{customer}?what=gossip", 422),
            ("/console/customers?stage=nowhere", 422),
            ("/console/customers?cursor=made-up", 400),
            (f"/console/start?kind=marketing&customer_id={gone}", 404),
            (f"/console/start?kind=marketing&customer_id={customer}", 200),
            (f"/console/start?kind=retention&customer_id={customer}", 403),
            ("/console/start?kind=delivery", 404),
            ("/console/start", 200),
        ):
            answer = await client.get(path)
            assert answer.status_code == status, (path, answer.text[:300])
            assert answer.headers["content-type"].startswith("text/html")
        form = {"csrf_token": client.headers["X-CSRF-Token"], "key": uuid4().hex}
        for path, fields, status in (
            ("/console/start/many", {"kind": "support", "customer_id": str(customer)}, 403),
            ("/console/start/many", {"kind": "marketing", "customer_id": str(gone)}, 200),
            ("/console/start/bulk", {"kind": "marketing"}, 422),
            ("/console/start", {"kind": "marketing", "customer_id": str(gone)}, 404),
            (f"/console/customers/{customer}/answers", {"case_id": str(gone), "text": "x"}, 403),
            (f"/console/customers/{customer}/commands", {"workflow_id": "x", "command": "y"}, 403),
        ):
            answer = await client.post(path, data={**form, **fields})
            assert answer.status_code == status, (path, fields, answer.text[:300])
            if status == 422:
                assert form["key"] in answer.text, "sent again it is still the same request"
        items = [{"kind": kind, "customer_id": str(customer)} for kind in ("support", "follow_up")]
        bulk = {"items": [{**items[0], "text": "Hello"}, {**items[1], "order_id": str(gone)}]}
        answer = await client.post(
            "/api/v1/processes/bulk", json=bulk, headers={"Idempotency-Key": uuid4().hex}
        )
        assert [one["status"] for one in answer.json()["items"]] == [403, 403]
    async with calling_as(app, sessions, Role.OPS) as client:
        page = (await client.get(f"/console/customers/{customer}")).text
        for hidden in ("Add an address", "Start a process", "Record a consent", "Keep note"):
            assert hidden not in page
        assert (await client.get("/console/start")).status_code == 403
        assert "Choose all" not in (await client.get("/console/customers")).text
        assert (await client.get("/console/customers/new")).status_code == 403


async def test_a_resolved_case_is_followed_up_from_the_form(
    sign_in: SignIn, customer: UUID, api: httpx2.AsyncClient
) -> None:
    body = {"customer_id": str(customer), "text": "Never came.", "kind": "failed_delivery"}
    path = f"/api/v1/cases/{(await api.post('/api/v1/cases', json=body)).json()['case_id']}"
    await eventually(lambda: api.get(path), lambda case: bool(case))
    page = await sign_in(Role.SUPPORT_AGENT, script=False)
    await page.goto(f"/console/start?kind=follow_up&customer_id={customer}")
    await expect(page.get_by_text("Nothing to follow up.")).to_be_visible()
    await expect(page.get_by_role("button", name="Start follow-up")).to_have_count(0)
    await api.post(f"{path}/resolve", json={})
    await eventually(lambda: api.get(path), lambda case: case["state"] == "resolved")
    await page.reload()
    await page.get_by_role("button", name="Start follow-up").click()
    await expect(page.locator(".notice")).to_contain_text("Follow-up started: ")
    await expect(page.locator("#processes")).to_contain_text("Follow up")


async def test_what_was_said_by_phone_is_recorded(
    app: FastAPI, sessions: Sessions, api: httpx2.AsyncClient, make_customer: MakeCustomer
) -> None:
    customer = await make_customer()
    here = f"/console/customers/{customer}"
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        heard = await post_form(rep, f"{here}/replies", text="<b>Call me</b>", back=here)
        assert "Recorded as an answer of the customer" in heard.text
        await eventually(
            lambda: api.get("/api/v1/cases", params={"customer_id": str(customer)}),
            lambda found: bool(found["items"]),  # nobody wrote to them, so it is a question
        )
        page = (await rep.get(here)).text
        assert "&lt;b&gt;Call me&lt;/b&gt;" in page
        need = await post_form(rep, f"{here}/needs", text="a <second> battery", back=here)
        assert "a &lt;second&gt; battery" in need.text
        said = {"channel": "email", "purpose": "feedback", "source": "phone"}
        objected = await post_form(
            rep, f"{here}/consents", state="withdrawn", back=here, **said, wording="No <surveys>"
        )
        flag = f'<a href="{here}/consents">No feedback by email: withdrawn</a>'
        assert flag in objected.text
        assert "No &lt;surveys&gt;" in (await rep.get(f"{here}/consents")).text
        empty = await post_form(rep, f"{here}/replies", source="letter", back=here)
        assert empty.status_code == 422
        assert (await rep.get(f"/console/customers/{uuid4()}/consents")).status_code == 404
    async with calling_as(app, sessions, Role.OPS) as ops:
        assert "Heard from the customer" not in (await ops.get(here)).text


async def test_the_screens_of_a_customer_are_accessible(
    sign_in: SignIn, customer: UUID, report: Report
) -> None:
    await report("reply_received", customer_id=str(customer), text="Hello?")
    page = await sign_in(Role.ADMIN)
    for path in (
        f"/console/customers/{customer}",
        f"/console/start?kind=support&customer_id={customer}",
        "/console/customers/new",
    ):
        await page.goto(path)
        for details in await page.locator("main details").all():
            await details.evaluate("part => { part.open = true; }")
        assert await faults_of(page) == [], path
        await page.set_viewport_size({"width": 390, "height": 780})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390, path
        await page.set_viewport_size({"width": 1280, "height": 720})


def test_the_outlook_follows_the_policy_in_force() -> None:
    policy = MarketingPolicy(touches=("marketing_welcome",), after_last_touch=timedelta(days=2))
    now = datetime(2026, 11, 20, 9, tzinfo=UTC)
    said = " ".join(outlook(policy, When(now, "Asia/Tokyo")))
    assert "by Sun 22 Nov 2026, 18:00, the contact ends" in said
    assert "Marketing value" not in said
    assert "within 2 days" in " ".join(outlook(policy, When()))


def test_the_rail_tells_when_and_why() -> None:
    customer = {
        "stage": "delivery",
        "stage_since": "2026-01-05T10:00:00Z",
        "stage_reason": "an order was placed",
    }
    at = datetime(2026, 1, 2, tzinfo=UTC)
    ended = ProcessRow(outcome="answered", step="ended", started_at=at, ended_at=at)
    rail = rail_of(customer, {ProcessKind.MARKETING: (ended, 3)})
    assert [rung.mark for rung in rail] == ["past", "here", "", "", ""]
    assert (rail[0].why, rail[0].of) == ("answered", 3)
    assert rail[1].why == "an order was placed"
