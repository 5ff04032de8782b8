"""Staff reads why a message was held or sent, and what its customer saw."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
from fastapi import FastAPI
from playwright.async_api import expect

from database.base import Sessions
from database.messages import Message
from database.tasks import Task
from domain.contacts import ConsentState, ContactFacts, Stated, may_send
from domain.messages import Channel, MessageClass, MessageState, Purpose, SettledBy, Template
from domain.quiet_hours import ContactCap, QuietHours
from domain.tasks import Role, TaskKind, TaskState
from tests.api.conftest import Json, MakeCustomer, Report
from tests.console.conftest import SignIn, calling_as

NAME = "<img src=x onerror=alert(1)> نور"
AT = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
HOUR = timedelta(hours=1)
MAIL = "<p>Welcome <b>back</b></p>"


async def _message(sessions: Sessions, customer: UUID, state: MessageState, **fields: Any) -> UUID:
    message_id = uuid4()
    known = {
        "template": Template.MARKETING_WELCOME,
        "message_class": MessageClass.MARKETING,
        "purpose": Purpose.MARKETING,
        "channel": Channel.EMAIL,
        "workflow_id": f"marketing/{customer}/1",
        "step": "touch/1",
        "asked_at": AT,
        **fields,
    }
    async with sessions.begin() as session:
        session.add(
            Message(
                id=message_id,
                key=str(message_id),
                customer_id=customer,
                context={},
                state=state,
                **known,
            )
        )
    return message_id


async def _sent(sessions: Sessions, customer: UUID, at: datetime, **fields: Any) -> UUID:
    sent = {
        "accepted_at": at,
        "told_at": at,
        "subject": "Welcome",
        "text": "Welcome back",
        **fields,
    }
    return await _message(sessions, customer, MessageState.ACCEPTED, **sent)


def _decided(at: datetime, **known: Any) -> Json:
    """About selling to who has agreed to it, but not at night."""
    facts = ContactFacts(
        at=at,
        message_class=MessageClass.MARKETING,
        purpose=Purpose.MARKETING,
        channel=Channel.EMAIL,
        address="nur@example.com",
        consents={"email/marketing": ConsentState.GRANTED},
        quiet_hours=QuietHours.model_validate({"begins": "21:00", "ends": "08:00"}),
        **known,
    )
    return may_send(facts).model_dump(mode="json")


async def _held(sessions: Sessions, customer: UUID) -> UUID:
    """As the dispatcher leaves it in the night."""
    decision = _decided(datetime(2026, 3, 2, 2, 30, tzinfo=UTC))
    return await _message(sessions, customer, MessageState.HELD, decision=decision)


async def test_one_reads_why_a_message_was_held(
    sign_in: SignIn, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(name=NAME, reference="M-NUR")
    held = await _held(sessions, customer)
    sent = await _sent(sessions, customer, AT + HOUR, html=MAIL, provider="smtp", attempts=1)
    page = await sign_in(Role.SUPPORT_AGENT)
    await page.goto("/console/messages")
    await page.get_by_role("link", name="Held (").click()
    row = page.locator(f"#row-{held}")
    await expect(row).to_contain_text(NAME)
    await expect(row).to_contain_text("quiet hours in UTC")
    await expect(row).to_contain_text("until 2 Mar 2026, 08:00")
    await row.get_by_role("link", name="Marketing welcome").click()
    await expect(page.locator("#why")).to_contain_text("Held back for now: quiet hours in UTC")
    await expect(page.locator("#fate-now")).to_contain_text("It is looked at again")
    rules = page.get_by_role("row")
    await expect(rules.filter(has_text="Is it allowed?")).to_contain_text("agrees")
    deciding = rules.filter(has_text="This decided.")
    await expect(deciding).to_contain_text("Is it a time to disturb?")
    await expect(deciding.get_by_role("link")).to_have_count(0)  # policies are not this role's
    await expect(page.get_by_text("It has not been written yet.")).to_be_visible()

    await page.goto("/console/messages?channel=email")
    await page.get_by_label("Customer:").fill("M-NUR")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.locator(f"#row-{sent}").get_by_role("link", name="Marketing welcome").click()
    await expect(page.locator("#why")).to_contain_text("Sent: the provider took it")
    await expect(page.frame_locator("iframe.mail").locator("b")).to_have_text("back")

    await page.get_by_role("link", name="As the customer saw it").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"What {NAME} saw")
    await expect(page.locator(".eye > .from-us")).to_have_count(1)  # the held one was not seen
    await page.locator(".eye summary").click()
    await expect(page.frame_locator("iframe.mail").locator("b")).to_have_text("back")


async def test_what_was_sent_fetches_and_runs_nothing(
    app: FastAPI, sessions: Sessions, customer: UUID
) -> None:
    spied = '<img src="https://spy.example/x.png"><script>alert(1)</script>'
    message = await _sent(sessions, customer, AT, html=spied)
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        shown = await rep.get(f"/console/messages/{message}/html")
        policy = shown.headers["content-security-policy"]
        assert shown.text == spied
        assert policy.startswith("sandbox; default-src 'none'")
        assert "img-src data:;" in policy
        assert "script-src" not in policy
        page = await rep.get(f"/console/messages/{message}")
        assert '<iframe class="mail" sandbox ' in page.text
        assert "spy.example" not in page.text
        for path in (f"/console/messages/{uuid4()}", f"/console/messages/{uuid4()}/html"):
            assert (await rep.get(path)).status_code == 404
        text = await _sent(sessions, customer, AT, channel=Channel.SMS, text="Grüße €")
        assert (await rep.get(f"/console/messages/{text}/html")).status_code == 404
        assert "1 segment, 8 units of GSM-7" in (await rep.get(f"/console/messages/{text}")).text
        assert (await rep.get("/console/messages?state=lost")).status_code == 422
        nobody = await rep.get("/console/messages?customer=%3Cb%3Enobody")
        assert "No customer fits “&lt;b&gt;nobody”." in nobody.text
        assert (await rep.get("/console/customers/1/eye")).status_code == 404
        assert (await rep.get(f"/console/customers/{uuid4()}/eye")).status_code == 404


async def test_the_eye_view_tells_waits_and_who_owed_the_next_move(
    app: FastAPI,
    sessions: Sessions,
    api: httpx2.AsyncClient,
    make_customer: MakeCustomer,
    report: Report,
) -> None:
    customer = await make_customer(name=NAME)
    asked = "Where is it? <script>alert(1)</script> مرحبا"
    await report("need_stated", customer_id=str(customer), text=asked, occurred_at=AT.isoformat())
    async with sessions.begin() as session:
        session.add(
            Task(
                id=uuid4(),
                customer_id=customer,
                workflow_id=f"marketing/{customer}/1",
                kind=TaskKind.ANSWER_REPLY,
                role=Role.SUPPORT_AGENT,
                state=TaskState.DONE,
                outcome="answered",
                opened_at=AT,
                due_at=AT + 8 * HOUR,
                ended_at=AT + 20 * HOUR,
            )
        )
    words = {"template": Template.CASE_REPLY, "message_class": MessageClass.SERVICE}
    await _sent(sessions, customer, AT + 20 * HOUR, subject="News <b>", **words)
    await _message(
        sessions,
        customer,
        MessageState.BOUNCED,
        accepted_at=AT,
        told_at=AT,
        subject="It never arrived",
    )
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        page = (await agent.get(f"/console/customers/{customer}/eye")).text
        said = " ".join(page.split())
        assert "1 wait longer than promised" in said
        assert "we owed an answer, <strong>12 hours longer than promised" in said
        assert "3 days so far" not in said
        assert "2 days so far</strong>: nobody owed anything" in said
        assert "&lt;script&gt;alert(1)&lt;/script&gt; مرحبا" in page
        assert "<script>alert" not in page
        assert "News &lt;b&gt;" in page
        assert "It never arrived" not in page
        assert said.index("said what is needed") < said.index("Case reply")
        before = {"before": (AT + 10 * HOUR).isoformat()}
        earlier = (await agent.get(f"/console/customers/{customer}/eye", params=before)).text
        assert "said what is needed" in earlier
        assert "Case reply" not in earlier


async def test_a_message_shows_all_that_was_said_and_operators_count_the_doubts(
    app: FastAPI, sessions: Sessions, customer: UUID
) -> None:
    lost = {
        "at": AT.isoformat(),
        "provider": "smtp",
        "attempt": 1,
        "answer": "its answer was lost <b>and</b> nothing was heard since; sent again",
        "then": "queued",
    }
    taken = {**lost, "attempt": 2, "answer": "250 2.0.0 kept", "then": "accepted"}
    decision = _decided(
        AT,
        stated=Stated(ConsentState.GRANTED, AT - timedelta(days=9), "sign-up_form"),
        cap=ContactCap(at_most=4, within=timedelta(days=7)),
        sent=(AT - timedelta(days=1),),
    )
    doubted = await _sent(
        sessions,
        customer,
        AT,
        decision=decision,
        conversation=[lost, taken],
        attempts=2,
        possible_duplicate=True,
        settled_by=SettledBy.CLASS,
    )
    sure = await _sent(sessions, customer, AT)
    async with calling_as(app, sessions, Role.OPS) as ops:
        page = (await ops.get(f"/console/messages/{doubted}")).text
        assert "It may have arrived twice" in page
        said = page.partition('id="conversation"')[2].partition("</details>")[0]
        assert said.index("lost &lt;b&gt;and&lt;/b&gt;") < said.index("250 2.0.0 kept")
        known = page.partition('id="known"')[2].partition("</details>")[0]
        stated = f"Granted, stated on {AT - timedelta(days=9):%Y-%m-%d %H:%M} UTC (Sign up form)"
        for fact in (stated, "known, not suppressed", "21:00 to 08:00", "1, of 4 at most"):
            assert fact in known
        assert "nur@example.com" not in known
        page = (await ops.get(f"/console/messages/{sure}")).text
        assert "twice" not in page
        assert 'id="conversation"' not in page
        for doubt in ("settled_by=class", "possible_duplicate=true"):
            found = (await ops.get(f"/console/messages?customer_id={customer}&{doubt}")).text
            assert f'id="row-{doubted}"' in found
            assert f'id="row-{sure}"' not in found
        counted = (await ops.get("/console/operations")).text.partition('id="doubts"')[2]
        for link in ("settled_by=class", "possible_duplicate=true"):
            assert re.search(rf'<a href="/console/messages\?{link}">[1-9]', counted), link


async def test_what_was_not_sent_says_upon_what(
    app: FastAPI, sessions: Sessions, customer: UUID
) -> None:
    decision = _decided(AT, answered=True, process_ended=True, claims={"fastest": None})
    cancelled = await _message(sessions, customer, MessageState.CANCELLED, decision=decision)
    async with calling_as(app, sessions, Role.OPS) as ops:
        page = (await ops.get(f"/console/messages/{cancelled}")).text
        known = page.partition('id="known"')[2].partition("</details>")[0]
        for fact in ("had ended", "had answered what asked", "fastest, which is not approved"):
            assert fact in known
