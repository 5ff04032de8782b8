"""What came from people nobody knows is given to a customer or dismissed; surveys and reports."""

from base64 import b64encode
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from temporalio.testing import WorkflowEnvironment

from activities.received_mail import take_in_mail
from activities.received_texts import take_in_texts
from database.base import Sessions
from domain.tasks import Role
from tests.api.conftest import SIGNING_KEY, MakeCustomer
from tests.console.conftest import calling_as, post_form
from tests.messaging.received import answer

Comes = Callable[[str], Awaitable[str]]
MARKUP = "<script>alert(1)</script> أمل"


@pytest.fixture
def mail_comes(api: httpx2.AsyncClient, sessions: Sessions, temporal: WorkflowEnvironment) -> Comes:
    """A mail of a stranger with these words; its screen."""

    async def take(text: str) -> str:
        raw = answer(text, sender=f"{uuid4().hex}@example.net")
        body = {"raw": b64encode(raw).decode(), "mail_from": "a@example.com"}
        taken = await api.post("/api/v1/received-mails", json=body)
        while await take_in_mail(sessions, temporal.client, SIGNING_KEY.encode()):
            pass
        return f"/console/received-mails/{taken.json()['id']}"

    return take


@pytest.fixture
def text_comes(api: httpx2.AsyncClient, sessions: Sessions, temporal: WorkflowEnvironment) -> Comes:
    """Likewise a text, of a number that is nobody's."""

    async def take(text: str) -> str:
        body = {"event_id": f"sms/{uuid4()}", "sender": "+5511961230055", "text": text}
        taken = await api.post("/api/v1/received-texts", json=body)
        await take_in_texts(sessions, temporal.client)
        return f"/console/received-texts/{taken.json()['id']}"

    return take


async def test_a_strangers_mail_is_dismissed_and_given_to_a_customer_after_all(
    app: FastAPI, sessions: Sessions, mail_comes: Comes, make_customer: MakeCustomer
) -> None:
    path = await mail_comes(MARKUP)
    customer = await make_customer(name=MARKUP, reference=f"M-{uuid4().hex[:8]}")
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        assert path in (await agent.get("/console")).text
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        assert path in (await rep.get("/console/received-mails")).text
        page = (await rep.get(path)).text
        assert "&lt;script&gt;alert(1)&lt;/script&gt; أمل" in page
        assert "<script>alert" not in page
        gone = await post_form(rep, f"{path}/dismissal", reason="not-a-customer")
        assert "Dismissed; it can still be given to a customer" in gone.text
        assert path not in (await rep.get("/console/received-mails")).text
        assert path in (await rep.get("/console/received-mails?outcome=dismissed")).text
        async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
            assert path not in (await agent.get("/console")).text
        assert path in (await rep.get("/console/received-mails?outcome=all&kind=reply")).text

        chosen = await rep.get(f"{path}?customer_id={customer}")
        assert "Nothing follows from it" not in chosen.text
        assert "Give mail to customer" in chosen.text
        given = await post_form(rep, path, customer_id=str(customer))
        assert "it is handled like any reply" in given.text
        again = await post_form(rep, f"{path}/dismissal", reason="not-a-customer")
        assert again.status_code == 409
        assert (await rep.get("/console/received-mails?outcome=lost")).status_code == 422


async def test_a_text_is_given_to_a_customer_who_is_known_by_the_number_from_then_on(
    app: FastAPI,
    sessions: Sessions,
    api: httpx2.AsyncClient,
    text_comes: Comes,
    make_customer: MakeCustomer,
) -> None:
    path = await text_comes(MARKUP)
    customer = await make_customer()
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        assert path in (await agent.get("/console/received-texts")).text
        assert path in (await agent.get("/console")).text
        page = (await agent.get(f"{path}?q=nobody-{uuid4().hex}")).text
        assert "<script>alert" not in page
        assert "Find who wrote it first." in page
        assert "is known." in page
        refused = await post_form(agent, path, customer_id=str(uuid4()))
        assert refused.status_code == 404
        given = await post_form(agent, path, customer_id=str(customer), known="yes")
        assert "The text is the customer's now" in given.text.replace("&#39;", "'")
        assert "Attributed" in (await agent.get(path)).text
    shown = (await api.get(f"/api/v1/customers/{customer}")).json()
    assert "+5511961230055" in [point["address"] for point in shown["contact_points"]]
    point = next(one for one in shown["contact_points"] if one["channel"] == "sms")
    await api.delete(f"/api/v1/customers/{customer}/contact-points/{point['id']}")

    path = await text_comes("Cheap shoes")
    async with calling_as(app, sessions, Role.OPS) as ops:
        gone = await post_form(ops, f"{path}/dismissal", reason="advertising")
        assert "Dismissed" in gone.text
        assert path in (await ops.get("/console/received-texts?outcome=dismissed")).text
        for query in ("", "?about=unknown&kind=bounced", "?about=ours&source=smtp"):
            assert (await ops.get(f"/console/delivery-reports{query}")).status_code == 200
        for query in ("", "?answered=no", f"?answered=yes&customer_id={UUID(int=1)}"):
            assert (await ops.get(f"/console/surveys{query}")).status_code == 200
