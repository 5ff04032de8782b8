"""Staff sees why an address gets nothing, and lifts that where the recipient didn't ask for it."""

from uuid import UUID, uuid4

import httpx2
import sqlalchemy as sa
from fastapi import FastAPI

from database.base import Sessions
from database.customers import ContactPoint, Suppression
from domain.messages import Channel, Purpose
from domain.tasks import Role
from tests.api.conftest import MakeCustomer
from tests.console.conftest import calling_as, post_form

NAME = "<script>alert(1)</script> نور"


async def _suppress(
    sessions: Sessions, customer: UUID, reason: str, purpose: Purpose | None = None
) -> str:
    async with sessions.begin() as session:
        address = await session.scalar(
            sa.select(sa.func.lower(ContactPoint.address)).filter_by(customer_id=customer)
        )
        row = Suppression(channel=Channel.EMAIL, address=address, purpose=purpose, reason=reason)
        session.add(row)
        await session.flush()
        return f"/console/suppressions/{row.id}"


async def test_a_dead_address_is_found_from_its_customer_and_lifted(
    app: FastAPI, sessions: Sessions, make_customer: MakeCustomer
) -> None:
    customer = await make_customer(name=NAME)
    path = await _suppress(sessions, customer, "hard bounce: 5.1.1 <unknown>")
    of_customer = f"/console/suppressions?customer_id={customer}"
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        page = (await agent.get(f"/console/customers/{customer}")).text
        assert f'<a href="{of_customer}">Nothing by email: the address is suppressed</a>' in page
        for query in ("", "&reason=hard+bounce", "&channel=email&show=all"):
            listed = (await agent.get(of_customer + query)).text
            assert f'href="{path}"' in listed, query
            assert "hard bounce: 5.1.1 &lt;unknown&gt;" in listed
        for query in ("&reason=complaint", "&show=lifted", "&q=nowhere"):
            assert "No address fits." in (await agent.get(of_customer + query)).text, query

        page = (await agent.get(path)).text
        assert "Nothing goes to it by email" in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "From the next message on everything goes to it again" in page
        refused = await post_form(agent, f"{path}/lift", reason="She said so!")
        assert refused.status_code == 422
        assert "/reason" in refused.text
        lifted = (await post_form(agent, f"{path}/lift", reason="mailbox-was-mended")).text
        assert "Lifted: the address may be written to again" in lifted
        assert "test-support-agent: mailbox-was-mended" in lifted
        assert "Lift suppression" not in lifted
        page = (await agent.get(f"/console/customers/{customer}")).text
        assert "the address is suppressed" not in page
        assert (await agent.get(f"/console/suppressions/{uuid4()}")).status_code == 404


async def test_what_the_recipient_asked_for_takes_a_consent_since(
    app: FastAPI, sessions: Sessions, api: httpx2.AsyncClient, customer: UUID
) -> None:
    path = await _suppress(sessions, customer, "complaint: abuse", Purpose.MARKETING)
    async with calling_as(app, sessions, Role.OPS) as ops:
        page = (await ops.get(path)).text
        assert "No marketing goes to it; what belongs to orders and support does." in page
        assert "Lift suppression" not in page
        refused = await post_form(ops, f"{path}/lift", reason="mended")
        assert refused.status_code == 403
    async with calling_as(app, sessions, Role.ACCOUNT_MANAGER) as manager:
        page = (await manager.get(path)).text
        assert "staff alone can&#39;t lift it" in page or "staff alone can't lift it" in page
        assert "Lift suppression" not in page
        given = {"channel": "email", "purpose": "marketing", "source": "phone", "state": "granted"}
        consent = await api.post(f"/api/v1/customers/{customer}/consents", json=given)
        assert f'<option value="{consent.json()["id"]}">' in (await manager.get(path)).text
        fields = {"reason": "asked-us-to", "consent_id": consent.json()["id"]}
        assert "Lifted" in (await post_form(manager, f"{path}/lift", **fields)).text
