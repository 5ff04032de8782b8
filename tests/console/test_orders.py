"""Orders as staff works on them: the board, the rescue of a late one, one placed by hand."""

import asyncio
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from playwright.async_api import expect

from database.base import Sessions
from database.messages import Message
from database.orders import Order
from domain.delivery import DeliveryState
from domain.messages import MESSAGES, Channel, Template
from domain.processes import delivery_workflow_id
from domain.tasks import Role
from tests.api.conftest import MakeCustomer, eventually
from tests.console.conftest import SignIn, calling_as

MARKUP = '<img src=x onerror="alert(1)"> عمر 🌊'
NOW = datetime.now(UTC)
FAR = date(2190, 5, 1)  # days that no other test promises


@pytest.fixture
async def hurried(api: httpx2.AsyncClient, make_customer: MakeCustomer) -> UUID:
    """A customer whose days last two seconds."""
    clock = {"name": "hurry", "business_origin": "2026-01-05T10:00:00Z", "speed": 43_200.0}
    made = await api.post("/api/v1/simulations", json=clock)
    assert made.status_code == 201, made.text
    return await make_customer(name=MARKUP, simulation_id=made.json()["id"])


async def _place(api: httpx2.AsyncClient, customer: UUID, **fields: Any) -> str:
    body = {
        "reference": uuid4().hex[:12],
        "customer_id": str(customer),
        "lines": [{"product": "<script>alert(2)</script>", "price_minor": 4990}],
        **fields,
    }
    answer = await api.post("/api/v1/orders", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["order_id"])


@pytest.mark.usefixtures("worker")
async def test_an_order_that_runs_late_is_rescued(
    sign_in: SignIn, api: httpx2.AsyncClient, hurried: UUID
) -> None:
    order_id = await _place(api, hurried, promised_on="2026-01-06")
    path = f"/api/v1/orders/{order_id}"
    late = await eventually(lambda: api.get(path), lambda order: bool(order["late_noticed_at"]))
    reference = late["reference"]
    ops = await sign_in(Role.OPS)
    await ops.goto(f"/console/orders?reference={reference}")
    await ops.get_by_role("link", name=re.compile("^Late")).click()
    row = ops.get_by_role("row", name=re.compile(reference))
    await expect(row).to_contain_text(MARKUP)
    await expect(row).to_contain_text("Order late")
    await row.get_by_role("link", name=reference).click()
    await expect(ops.get_by_role("heading", name="It is late: rescue it")).to_be_visible()
    await expect(ops.get_by_text("<script>alert(2)</script>")).to_be_visible()
    await expect(ops.get_by_text("Record what we learned")).to_have_count(0)  # not for operations

    now = datetime.fromisoformat("2026-01-05T10:00:00+00:00") + timedelta(days=90)
    new_day = now.date().isoformat()
    await ops.get_by_label("New promised day").fill(new_day)
    await expect(ops.get_by_role("checkbox", name=re.compile("chase order"))).to_be_checked()
    await ops.get_by_role("button", name="Promise the new day").dblclick()
    await expect(ops.locator(".notice")).to_contain_text("Reported")
    await expect(ops.get_by_role("heading", name="Promise another day")).to_be_visible()
    told = ops.get_by_role("table").filter(has_text="Message")
    await expect(told).to_contain_text("Order rescheduled")
    completed = ops.locator("#order-left").get_by_text("A person completed a task").first
    for _ in range(20):
        # The second click may have come to rest in a field, and what has focus is not exchanged.
        await ops.reload()
        if await completed.count():
            break
        await asyncio.sleep(0.5)
    await expect(completed).to_be_visible()
    order = (await api.get(path)).json()
    assert (order["promised_on"], order["first_promised_on"]) == (new_day, "2026-01-06")
    assert order["late_noticed_at"] is order["endangered_at"] is None
    assert [one["template"] for one in order["told"]].count("order_rescheduled") == 1
    query = {"workflow_id": f"delivery/{order_id}", "kind": "chase_order"}
    tasks = (await api.get("/api/v1/tasks", params=query)).json()["items"]
    assert [(one["state"], one["outcome"]) for one in tasks] == [("done", "on_its_way")]

    await ops.locator("summary", has_text="Order dispatched").click()
    form = ops.locator("details[open] form")
    await form.get_by_label("Carrier", exact=True).fill("ACME <b>Parcel</b>")
    await form.get_by_label("The carrier expects it on").fill(new_day)
    await form.get_by_role("button", name="Report order dispatched").click()
    await expect(ops.locator("#order-right")).to_contain_text("ACME <b>Parcel</b>")
    await ops.goto(f"/console/orders?reference={reference}&tab=promised")
    await expect(ops.get_by_role("row", name=re.compile(reference))).to_contain_text("Dispatched")
    await ops.goto(f"/console/orders?reference={reference}&tab=late")
    await expect(ops.get_by_text("No order fits.")).to_be_visible()


@pytest.mark.usefixtures("worker")
async def test_an_order_is_placed_by_hand_and_nothing_typed_is_lost(
    sign_in: SignIn, api: httpx2.AsyncClient, customer: UUID
) -> None:
    page = await sign_in(Role.SALES_REP)
    await page.goto(f"/console/orders/new?customer_id={customer}")
    reference = f"H-{uuid4().hex[:8]}"
    await page.get_by_label("Order's reference").fill(reference)
    first = page.get_by_role("group", name="Line 1")
    await first.get_by_label("Product").fill("Tea & <i>cups</i>")
    await first.get_by_label("How many").fill("2")
    await first.get_by_label("Price of one").fill("49.905")
    await page.get_by_label("What is promised").fill("Gift wrapped")
    await page.get_by_role("button", name="Place order").click()
    await expect(page.get_by_role("alert")).to_contain_text("more decimals")
    await expect(page.get_by_label("Product 1")).to_have_value("Tea & <i>cups</i>")
    await page.get_by_label("Price 1").fill("49.90")
    await page.get_by_role("button", name="Send it again").click()
    await expect(page.get_by_role("heading", name=f"Order {reference}")).to_be_visible()
    await expect(page.get_by_text("€99.80")).to_be_visible()
    await expect(page.get_by_text("Tea & <i>cups</i>")).to_be_visible()
    await expect(page.get_by_text("gift-wrapped", exact=True)).to_be_visible()
    found = (await api.get("/api/v1/orders", params={"reference": reference})).json()["items"]
    assert [one["total_minor"] for one in found] == [9980]

    await page.get_by_text("Record what we learned").click()
    await page.get_by_label("What the customer needs next").fill("a <u>second</u> pot")
    await page.get_by_role("button", name="Record need").click()
    await expect(page.get_by_text("a <u>second</u> pot")).to_be_visible()
    order = (await api.get(f"/api/v1/orders/{found[0]['id']}")).json()
    assert [one["source"] for one in order["needs"]] == ["test-sales-rep"]


async def test_a_role_that_may_not_is_neither_shown_nor_let(
    app: FastAPI, api: httpx2.AsyncClient, sessions: Sessions, customer: UUID
) -> None:
    [order] = await _orders(sessions, customer, {"one": {"promised_on": FAR - timedelta(days=30)}})
    path = f"/console/orders/{order.id}"
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        page = (await agent.get(path)).text
        assert "Record what we learned" in page
        for hidden in ("Promise the new day", "Report a milestone", "Place an order"):
            assert hidden not in page
        assert (await agent.get("/console/orders/new")).status_code == 403
        token = agent.headers["X-CSRF-Token"]
        form = {"csrf_token": token, "kind": "order_approved", "key": uuid4().hex, "back": path}
        answer = await agent.post(f"{path}/milestones", data=form)
        assert answer.status_code == 403
        assert "may not report orders" in answer.text
        for nothing in (f"/console/orders/{uuid4()}", "/console/orders/x"):
            assert (await agent.get(nothing)).status_code == 404
        for wrong in ("tab=lost", "promised_from=soon", "cursor=x", "limit=0"):
            assert 400 <= (await agent.get(f"/console/orders?{wrong}")).status_code < 500


async def _orders(
    sessions: Sessions, customer: UUID, wanted: dict[str, dict[str, Any]]
) -> list[Order]:
    """Rows as the delivery process leaves them."""
    rows = [
        Order(
            **{
                "id": uuid4(),
                "customer_id": customer,
                "reference": f"{reference}-{uuid4().hex[:6]}",
                "state": DeliveryState.DISPATCHED,
                "currency": "EUR",
                "total_minor": 100,
                "lines": [],
                "first_promised_on": fields.get("promised_on"),
                "placed_at": NOW,
                **fields,
            }
        )
        for reference, fields in wanted.items()
    ]
    async with sessions.begin() as session:
        session.add_all(rows)
    return rows


async def test_the_orders_of_one_customer_stand_by_themselves(
    app: FastAPI, sessions: Sessions, customer: UUID, make_customer: MakeCustomer
) -> None:
    other = await make_customer(name=MARKUP)
    day = {"promised_on": FAR - timedelta(days=60)}
    mine = await _orders(sessions, customer, {str(one): day for one in range(6)})
    [theirs] = await _orders(sessions, other, {"one": day})
    path = f"/console/orders?customer_id={customer}"
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        assert path in (await rep.get(f"/console/customers/{customer}")).text
        for view in ("", "&tab=promised", "&view=board"):
            page = (await rep.get(path + view)).text
            assert all(f"row-{order.id}" in page for order in mine)
            assert f"row-{theirs.id}" not in page
            assert "Of everybody" in page
        page = (await rep.get(f"/console/orders?customer_id={other}&tab=late")).text
        assert "No order fits." in page
        assert MARKUP not in page
        assert (await rep.get(f"/console/orders?customer_id={uuid4()}")).status_code == 404
        assert (await rep.get("/console/orders?customer_id=x")).status_code == 404


async def test_every_order_is_in_its_tab_and_its_lane(
    app: FastAPI, sessions: Sessions, customer: UUID
) -> None:
    soon, later = {"promised_on": FAR}, {"promised_on": FAR + timedelta(days=9)}
    ended = {"ended_at": NOW, **soon}
    failed = {"state": DeliveryState.ATTEMPT_FAILED, **soon}
    wanted: dict[str, dict[str, Any]] = {
        "later": later,
        "next": {"state": DeliveryState.PLACED, **soon},
        "danger": {"endangered_at": NOW, **soon},
        "late": {"endangered_at": NOW, "late_noticed_at": NOW, **soon},
        "failed-late": {"late_noticed_at": NOW, **failed},
        "failed": failed,
        "returned": {"state": DeliveryState.RETURNED, "delivered_at": NOW, **ended},
        "cancelled": {"state": DeliveryState.CANCELLED, "late_noticed_at": NOW, **ended},
        "here": {
            "state": DeliveryState.DELIVERED,
            **{"delivered_at": NOW, "delivered_late": True, "late_noticed_at": NOW, **soon},
        },
    }
    orders = dict(zip(wanted, await _orders(sessions, customer, wanted), strict=True))
    await _tell(sessions, customer, orders["danger"].id)
    tabs = {
        "promised": ["next", "later"],
        "at_risk": ["danger"],
        "late": ["late", "failed-late"],
        "delivered": ["here"],
        "failed": ["failed", "returned", "cancelled"],
        "": list(wanted),
    }
    by_id = {str(order.id): name for name, order in orders.items()}
    window = f"promised_from={FAR}&promised_until={FAR + timedelta(days=9)}"
    async with calling_as(app, sessions, Role.MANAGER) as manager:

        async def shown(query: str) -> str:
            answer = await manager.get(f"/console/orders?{window}&{query}")
            assert answer.status_code == 200, answer.text
            return answer.text

        def names(page: str) -> list[str]:
            return [by_id[one] for one in re.findall(r'id="row-([^"]+)"', page) if one in by_id]

        for tab, expected in tabs.items():
            found = names(await shown(f"tab={tab}"))
            assert sorted(found) == sorted(expected), tab
        assert names(await shown("tab=promised")) == ["next", "later"], "the next day first"
        board = await shown("view=board")
        lanes = re.split(r'id="lane-(\w+)"', board)[1:]
        for lane, content in zip(lanes[::2], lanes[1::2], strict=True):
            assert sorted(names(content)) == sorted(tabs[lane]), lane
        danger = await shown(f"tab=at_risk&reference={orders['danger'].reference}")
        assert "Order at risk" in danger, "what the customer was told"
        assert names(await shown(f"tab=late&reference={orders['danger'].reference}")) == []
        page = await shown("limit=4")
        assert len(names(page)) == 4
        following = re.search(r'rel="next" href="\?([^"]+)"', page)
        assert following is not None
        answer = await manager.get("/console/orders?" + following[1].replace("&amp;", "&"))
        assert not set(names(answer.text)) & set(names(page))


async def _tell(sessions: Sessions, customer: UUID, order_id: UUID) -> None:
    kind = MESSAGES[Template.ORDER_AT_RISK]
    workflow_id = delivery_workflow_id(order_id)
    async with sessions.begin() as session:
        for minutes, template in enumerate((Template.ORDER_CONFIRMED, Template.ORDER_AT_RISK)):
            session.add(
                Message(
                    key=f"{workflow_id}/{template}",
                    customer_id=customer,
                    workflow_id=workflow_id,
                    step="test",
                    template=template,
                    message_class=kind.message_class,
                    purpose=kind.purpose,
                    channel=Channel.EMAIL,
                    context={},
                    state="accepted",
                    accepted_at=NOW,
                    asked_at=NOW + timedelta(minutes=minutes),
                )
            )
