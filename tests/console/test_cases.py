"""Cases and feedback as people work them: from a question to the survey and what it leads to."""

import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from playwright.async_api import Page, expect
from temporalio.testing import WorkflowEnvironment

from api.deps import CSRF_HEADER
from database.base import Sessions
from database.customers import Customer
from database.inbox import Inbox
from database.messages import Message
from database.support import StaffText
from domain.messages import MessageState
from domain.tasks import Role
from messaging.links import Links
from settings import Settings
from tests.activities.dispatching import dispatcher, running
from tests.api.conftest import SIGNING_KEY, Json, MakeCustomer, Report, count, eventually
from tests.console.conftest import SignIn, calling_as, post_form
from tests.messaging.post_office import PostOffice, free_port

pytestmark = pytest.mark.usefixtures("worker")

MARKUP = '<script>alert("case")</script> <b>bold</b> & أمل'
NAME = "Zoë <img src=x onerror=alert(1)> أمل " + "van den Berg " * 10


@pytest.fixture
async def mail_goes_out(
    settings: Settings,
    sessions: Sessions,
    temporal: WorkflowEnvironment,
    console_url: str,
) -> AsyncGenerator[Inbox]:
    """Messages are sent, with links to the application of the tests."""
    office = PostOffice(settings.inbox, free_port())
    await office.open()
    links = Links(console_url, SIGNING_KEY.encode(), "perennial.example")
    activities = dispatcher(sessions, temporal.client, office.port, settings.inbox)
    async with running(replace(activities, links=links)):
        yield office.inbox
    await office.close()


@pytest.fixture
async def asks_at_once(api: httpx2.AsyncClient) -> AsyncGenerator[None]:
    """Surveys go a second after a case is resolved."""
    path = "/api/v1/policies/follow_up"
    usual = (await api.get(path)).json()["current"]["document"]
    for document in ({**usual, "after_case": "PT1S"}, usual):
        answer = await api.post(path, json={"document": document})
        assert answer.status_code == 201, answer.text
        if document is not usual:
            yield


async def _open(api: httpx2.AsyncClient, customer: UUID, text: str) -> Json:
    body = {"customer_id": str(customer), "text": text, "kind": "question"}
    answer = await api.post("/api/v1/cases", json=body)
    assert answer.status_code == 202, answer.text
    path = f"/api/v1/cases/{answer.json()['case_id']}"
    case: Json = await eventually(lambda: api.get(path), lambda case: bool(case))
    return case


async def _write(page: Page, text: str, action: str = "Answer") -> None:
    await page.get_by_label(action, exact=True).check()
    await page.get_by_label(re.compile("^To ")).fill(text)
    await page.get_by_role("button", name="Send to customer").click()


async def test_a_case_is_answered_to_its_resolution_and_the_survey_comes_back(
    sign_in: SignIn,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    make_customer: MakeCustomer,
    report: Report,
    mail_goes_out: Inbox,
    asks_at_once: None,
) -> None:
    address = f"zoe-{uuid4().hex[:8]}@example.com"
    customer = await make_customer(name=NAME[:190], email=address)
    case = await _open(api, customer, MARKUP)
    page = await sign_in(Role.SUPPORT_AGENT)
    await page.goto("/console/cases?show=unassigned")
    row = page.locator(f"#case-{case['id']}")
    await expect(row).to_contain_text("<b>bold</b>")
    await expect(row).to_contain_text("Zoë <img src=x onerror=alert(1)>")
    await row.get_by_role("link", name=case["reference"]).click()
    await expect(page.locator("#thread .customer")).to_contain_text(MARKUP)
    await expect(page.locator(".clocks li").nth(1)).to_contain_text("Running")

    await page.keyboard.press("i")
    await expect(page.locator(".notice")).to_contain_text("The case is yours")
    await expect(page.locator("#case-head")).to_contain_text("Support Agent of the tests")

    # What the customer gets is seen first; then a double click says it once.
    said = "We look into it.\nWhich <colour> is it?"
    await page.get_by_label(re.compile("^To ")).fill(said)
    await page.get_by_role("button", name="Preview").click()
    preview = page.get_by_label("Preview")
    await expect(preview).to_contain_text(f"About your request {case['reference']}")
    await expect(preview).to_contain_text("Which <colour> is it?")
    await expect(preview).to_contain_text(address)
    await preview.get_by_role("button", name="Show as a mail").click()
    mail = page.frame_locator("iframe[name=as-mail]")
    await expect(mail.get_by_text("Which <colour> is it?")).to_be_visible()
    await expect(page.get_by_label(re.compile("^To "))).to_have_value(said)
    await page.get_by_role("button", name="Send to customer").dblclick()
    await expect(page.locator(".notice")).to_contain_text("on its way")
    await expect(page.locator(".clocks li").nth(1)).to_contain_text("Met")
    ours = page.locator("#thread .us", has_text="Which <colour> is it?")
    await expect(ours).to_contain_text("Accepted")  # live: nobody has loaded the page again
    assert await count(sessions, StaffText, case_id=UUID(case["id"])) == 1

    await _write(page, "Blue or green?", "Ask and wait")
    await expect(page.locator(".clocks li").nth(2)).to_contain_text("Resting")
    await expect(page.locator("#case-next")).to_contain_text("one reminder goes")
    await report("reply_received", customer_id=str(customer), case_id=case["id"], text="Blue!")
    await expect(page.locator("#thread .customer", has_text="Blue!")).to_be_visible()
    await expect(page.locator(".clocks li").nth(2)).to_contain_text("Running")

    await page.get_by_label("Cause, when resolving").select_option("product")
    await _write(page, "A blue one is on its way.", "Resolve")
    await expect(page.locator("#case-head")).to_contain_text("Resolved")
    await expect(page.locator(".clocks li").nth(2)).to_contain_text("Met")
    await expect(page.get_by_role("button", name="Reopen case")).to_be_visible()
    await expect(page.get_by_role("button", name="Send to customer")).to_have_count(0)

    await page.goto(f"{await _survey_link(page, mail_goes_out, address)}?score=2")
    await _recover(page, customer)


async def _recover(page: Page, customer: UUID) -> None:
    """A bad answer is a recovery case; its loop is closed when the customer knows the outcome."""
    await page.goto("/console/feedback?verdict=detractor&score=2")
    answer = page.locator("tr", has=page.locator(f"a[href='/console/customers/{customer}']"))
    await expect(answer).to_contain_text("2 of 5")
    await expect(answer).to_contain_text("open")
    await answer.get_by_role("link", name=re.compile("^CASE-")).click()
    await expect(page.locator(".clocks li").nth(1)).to_contain_text("First contact")
    await _write(page, "We were too slow, and have changed who answers.", "Resolve")
    await expect(page.locator("#case-head")).to_contain_text("Resolved")
    await page.goto("/console/feedback?verdict=detractor&score=2")
    await expect(answer).to_contain_text("closed")
    await expect(answer).to_contain_text("Accepted")


async def _survey_link(page: Page, inbox: Inbox, address: str) -> str:
    """Of the mail that asks how the case went."""
    for _ in range(100):
        for kept in await inbox.mails(to=address):
            opened = await inbox.open(kept.id)
            assert opened is not None
            link = re.search(r"https?://\S+/s/[\w.~-]+", opened.text or "")
            if link:
                return link[0]
        await page.wait_for_timeout(100)
    raise AssertionError("no survey came")


async def test_what_was_said_meanwhile_is_read_before_it_is_answered(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID, report: Report
) -> None:
    """Two tabs, a refusal, and nothing typed is lost."""
    case = await _open(api, customer, "Hello?")
    path, here = f"/api/v1/cases/{case['id']}", f"/console/cases/{case['id']}"
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:

        async def send(text: str, **fields: str) -> httpx2.Response:
            typed = {"csrf_token": agent.headers[CSRF_HEADER], "key": uuid4().hex, "text": text}
            return await agent.post(f"{here}/words", data={**typed, "seen": "1", **fields})

        await report("reply_received", customer_id=str(customer), case_id=case["id"], text="Wait!")
        await eventually(lambda: agent.get(path), lambda case: len(case["replies"]) == 1)
        shown = await send("Here is <my> draft")
        assert shown.status_code == 200
        assert "Meanwhile something was said" in shown.text
        assert "Wait!" in shown.text
        assert "Here is &lt;my&gt; draft</textarea>" in shown.text
        assert await count(sessions, StaffText, case_id=UUID(case["id"])) == 0
        assert (await send("I have read it.", seen="2")).status_code == 303
        empty = await send("", seen="3")
        assert empty.status_code == 422
        assert (await send("Done.", action="resolve", seen="3")).status_code == 303
        await eventually(lambda: agent.get(path), lambda case: case["state"] == "resolved")
        refused = await send("One thing more", seen="4")
        assert refused.status_code == 409
        assert "One thing more</textarea>" in refused.text
        assert "takes no words" in refused.text
        note = {"csrf_token": agent.headers[CSRF_HEADER], "key": uuid4().hex, "note": "Nice man"}
        assert (await agent.post(f"{here}/notes", data=note)).status_code == 303
        assert "for colleagues only" in (await agent.get(here)).text
        assert (await agent.get(f"/console/cases/{uuid4()}")).status_code == 404
        assert (await agent.get("/console/cases/nothing")).status_code == 404


async def test_several_cases_are_assigned_at_once(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    """What one refuses stops no other, and is counted."""
    first, second = [await _open(api, customer, f"Question {n}") for n in range(2)]
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        form = {
            "csrf_token": agent.headers[CSRF_HEADER],
            "key": uuid4().hex,
            "owner": "test-support-agent",
            "cases": [first["id"], second["id"], str(uuid4()), "nothing"],
        }
        answer = await agent.post("/console/cases", data=form)
        assert answer.status_code == 303
        assert (
            "2 cases assigned to test-support-agent, 2 refused"
            in (await agent.get("/console/cases")).text
        )
        for case in (first, second):
            await eventually(
                partial(agent.get, f"/api/v1/cases/{case['id']}"),
                lambda shown: shown["owner"] == "test-support-agent",
            )
        mine = (await agent.get("/console/cases?show=mine")).text
        assert first["reference"] in mine
        assert "Question 0" in mine
        assert first["reference"] not in (await agent.get("/console/cases?show=unassigned")).text
        for query in ("state=resolved", "priority=urgent", "owner=nobody-1&show=all", "kind=x%00"):
            shown = await agent.get(f"/console/cases?{query}")
            assert shown.status_code == 200


async def test_taking_and_resolving_a_case_can_be_taken_back(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    case = await _open(api, customer, "Hello?")
    path, here = f"/api/v1/cases/{case['id']}", f"/console/cases/{case['id']}"

    async def becomes(field: str, value: object) -> None:
        await eventually(lambda: api.get(path), lambda shown: shown[field] == value)

    def notice(answer: httpx2.Response) -> str:
        return answer.text.partition('class="notice"')[2]

    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        taken = await post_form(agent, f"{here}/assign", back=here)
        assert f'action="{here}/release"' in notice(taken)
        await becomes("owner", "test-support-agent")
        given_back = await post_form(agent, f"{here}/release", back=here)
        assert "waits in its queue again" in notice(given_back)
        assert f'action="{here}/assign"' in notice(given_back)
        await becomes("owner", None)
        refused = await post_form(agent, f"{here}/release", back=here)
        assert refused.status_code == 409

        resolved = await post_form(agent, f"{here}/words", action="resolve", text="Done.")
        assert f'action="{here}/reopen"' in notice(resolved)
        assert "Reopen</button>" in notice(resolved)
        await becomes("state", "resolved")
        assert "Open again" in notice(await post_form(agent, f"{here}/reopen", back=here))
        await becomes("state", "in_progress")


async def test_a_message_that_did_not_arrive_is_seen_in_the_conversation(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    case = await _open(api, customer, "Hello?")
    async with sessions.begin() as session:
        await session.execute(
            sa.update(Message)
            .where(Message.workflow_id == f"case/{case['id']}")
            .values(state=MessageState.FAILED)
        )
    async with calling_as(app, sessions, Role.SALES_REP) as reader:
        shown = (await reader.get(f"/console/cases/{case['id']}")).text
    assert "the message is failed" in shown
    assert "Send to customer" not in shown  # a sales rep reads cases
    assert "Take case" not in shown


async def test_whoever_writes_sees_how_the_customer_wants_to_be_written_to(
    app: FastAPI,
    api: httpx2.AsyncClient,
    sessions: Sessions,
    make_customer: MakeCustomer,
) -> None:
    """Above the composer of the case and that of the customer; of each wish the newest."""
    customer = await make_customer(locale="pt-BR")
    case = await _open(api, customer, "Hello?")
    for name, value in (
        ("handle-with", "large <print>"),
        ("contact-time", "mornings"),
        ("form-of-address", "Dr. Silva"),
        ("contact-time", "after 18:00"),
        ("delivery-day", "friday"),
    ):
        wish = {"name": name, "value": value, "source": "phone"}
        noted = await api.post(f"/api/v1/customers/{customer}/preferences", json=wish)
        assert noted.status_code == 201, noted.text
    rests = datetime.now(UTC) + timedelta(days=30)
    async with sessions.begin() as session:
        whose = sa.update(Customer).where(Customer.id == customer)
        known = {"tone": "formal", "preferred_channel": "sms", "chosen_locale": "en"}
        await session.execute(whose.values(marketing_paused_until=rests, **known))
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        for path in (f"cases/{case['id']}", f"customers/{customer}"):
            page = (await agent.get(f"/console/{path}")).text
            manner = page.partition('id="manner"')[2].partition("</p>")[0]
            told = re.findall(r'<span class="meta">([^<(]*)</span> <bdi>(.*?)</bdi>', manner)
            assert told == [
                ("Language", "en"),
                ("Tone", "Formal"),
                ("Prefers", "Sms"),
                ("No marketing until", f"{rests:%d %b %Y}"),
                ("Form of address", "Dr. Silva"),
                ("Contact time", "after 18:00"),
                ("Handle with", "large &lt;print&gt;"),
            ]
            assert page.index('id="manner"') < page.index('name="text"')
        over = datetime.now(UTC) - timedelta(days=1)
        async with sessions.begin() as session:
            await session.execute(whose.values(marketing_paused_until=over, chosen_locale=None))
        page = (await agent.get(f"/console/cases/{case['id']}")).text
        assert "No marketing until" not in page
        assert "<bdi>pt-BR</bdi>" in page
