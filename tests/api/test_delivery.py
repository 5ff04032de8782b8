"""Orders by the API: placed, reported on, contradicted, and what was learned."""

from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.api.conftest import OCCURRED, MakeCustomer, assert_problem, eventually

pytestmark = pytest.mark.usefixtures("worker")


async def _place(api: httpx2.AsyncClient, customer: UUID, **fields: Any) -> httpx2.Response:
    body = {
        "reference": uuid4().hex,
        "customer_id": str(customer),
        "placed_at": OCCURRED,
        "total_minor": 4990,
        "lines": [{"product": "kettle", "quantity": 1, "price_minor": 4990}],
        "promised_on": "2026-01-20",
        "promises": [{"kind": "service", "code": "gift-wrapped"}],
        **fields,
    }
    return await api.post("/api/v1/orders", json=body)


async def _placed(api: httpx2.AsyncClient, customer: UUID) -> str:
    accepted = await _place(api, customer)
    assert accepted.status_code == 202, accepted.text
    order_id: str = accepted.json()["order_id"]
    await eventually(lambda: api.get(f"/api/v1/orders/{order_id}"), lambda order: bool(order))
    return order_id


async def test_an_order_on_its_way(api: httpx2.AsyncClient, customer: UUID) -> None:
    order_id = await _placed(api, customer)
    path = f"/api/v1/orders/{order_id}"
    for kind, fields in (
        ("order_approved", {"occurred_at": "2026-01-06T10:00:00Z"}),
        ("order_dispatched", {"occurred_at": "2026-01-07T10:00:00Z", "carrier": "Correios"}),
        ("order_delivered", {"occurred_at": "2026-01-22T10:00:00Z"}),
    ):
        answer = await api.post(f"{path}/milestones", json={"kind": kind, **fields})
        assert answer.status_code == 202, answer.text
        assert answer.json()["workflow_id"] == f"delivery/{order_id}"
    order = await eventually(lambda: api.get(path), lambda order: order["state"] == "delivered")
    assert order["carrier"] == "Correios"
    assert order["delivered_late"] is True
    assert len(order["milestones"]) >= 3
    assert {promise["kind"] for promise in order["promises"]} == {"date", "service"}
    assert order["allowed_actions"]
    told = [message["template"] for message in order["told"]]
    assert told[0] == "order_confirmed"
    listed = (await api.get("/api/v1/orders", params={"customer_id": str(customer)})).json()
    assert [one["id"] for one in listed["items"]] == [order_id]
    late = (await api.get("/api/v1/orders", params={"late": "true", "limit": 200})).json()
    assert order_id in [one["id"] for one in late["items"]]
    timeline = await api.get(f"/api/v1/customers/{customer}/timeline", params={"limit": 200})
    entries = timeline.json()["items"]
    assert {"line", "message"} == {entry["what"] for entry in entries}
    words = [entry["words"] for entry in entries]
    assert "The order was delivered" in " ".join(words)
    moments = [entry["happened_at"] for entry in entries]
    assert moments == sorted(moments, reverse=True)
    path = f"/api/v1/customers/{customer}/timeline"
    first = (await api.get(path, params={"limit": 2, "oldest_first": "true"})).json()
    query = {"limit": 200, "oldest_first": "true", "cursor": first["next_cursor"]}
    rest = await api.get(path, params={**query})
    assert_problem(await api.get(path, params={**query, "what": "line"}), 400, "invalid_cursor")
    moments = [entry["happened_at"] for entry in first["items"] + rest.json()["items"]]
    assert moments == sorted(moments)
    assert len(moments) >= len(entries)


async def test_a_contradicting_milestone_is_refused_with_what_may_be(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    order_id = await _placed(api, customer)
    path = f"/api/v1/orders/{order_id}"
    await api.post(f"{path}/milestones", json={"kind": "order_cancelled", "reason": "customer"})
    await eventually(lambda: api.get(path), lambda order: order["state"] == "cancelled")
    answer = await api.post(f"{path}/milestones", json={"kind": "order_delivered"})
    problem = assert_problem(answer, 409, "milestone_out_of_order")
    assert problem["allowed_actions"] == []
    assert "cancelled" in problem["detail"]
    event = {"kind": "order_delivered", "event_id": uuid4().hex, "occurred_at": OCCURRED}
    accepted = await api.post("/api/v1/events", json={**event, "order_id": order_id})
    assert accepted.status_code == 202
    assert "contradiction" in accepted.json()["notice"]


async def test_a_new_day_can_be_promised_while_the_order_may_still_come(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    order_id = await _placed(api, customer)
    path = f"/api/v1/orders/{order_id}"
    assert "delivery_rescheduled" in (await api.get(path)).json()["allowed_actions"]
    late = await eventually(lambda: api.get(path), lambda order: bool(order["late_noticed_at"]))
    assert late["endangered_at"]
    new_day = {"kind": "delivery_rescheduled", "promised_on": "2100-01-20"}
    assert (await api.post(f"{path}/milestones", json=new_day)).status_code == 202
    order = await eventually(
        lambda: api.get(path), lambda order: order["promised_on"] == "2100-01-20"
    )
    assert order["first_promised_on"] == "2026-01-20"
    assert order["late_noticed_at"] is order["endangered_at"] is None, "of the day before"
    sent = {"kind": "order_dispatched", "expected_on": "2100-01-19"}
    assert (await api.post(f"{path}/milestones", json=sent)).status_code == 202
    await api.post(f"{path}/milestones", json={"kind": "order_delivered"})
    order = await eventually(lambda: api.get(path), lambda order: order["state"] == "delivered")
    assert order["delivered_late"], "judged by the day first promised"
    answer = await api.post(f"{path}/milestones", json=new_day)
    problem = assert_problem(answer, 409, "milestone_out_of_order")
    assert "delivery_rescheduled" not in problem["allowed_actions"]
    event = {**new_day, "event_id": uuid4().hex, "occurred_at": OCCURRED, "order_id": order_id}
    accepted = await api.post("/api/v1/events", json=event)
    assert "contradiction" in accepted.json()["notice"]


async def test_a_milestone_has_the_fields_of_its_kind(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    order_id = await _placed(api, customer)
    path = f"/api/v1/orders/{order_id}/milestones"
    for body, pointer in (
        ({"kind": "delivery_rescheduled"}, "/promised_on"),
        ({"kind": "order_approved", "carrier": "x"}, "/carrier"),
        ({"kind": "order_approved", "expected_on": "2026-01-20"}, "/expected_on"),
        ({"kind": "order_dispatched", "expected_on": "soon"}, "/expected_on"),
        ({"kind": "order_eaten"}, "/kind"),
        ({"kind": "order_approved", "occurred_at": "2026-01-01"}, "/occurred_at"),
    ):
        problem = assert_problem(await api.post(path, json=body), 422, "invalid_request")
        assert problem["errors"][0]["pointer"] == pointer
    nothing = f"/api/v1/orders/{uuid4()}/milestones"
    answer = await api.post(nothing, json={"kind": "order_approved"})
    assert_problem(answer, 404, "unknown_order")
    assert_problem(await api.get(f"/api/v1/orders/{uuid4()}"), 404, "unknown_order")


async def test_an_order_is_placed_once(api: httpx2.AsyncClient, customer: UUID) -> None:
    first = await _place(api, customer, reference="once", placed_at=None)
    again = await _place(api, customer, reference="once", placed_at=None)
    assert first.status_code == again.status_code == 202
    assert again.json() == {**first.json(), "duplicate": True}
    other = await _place(api, customer, reference="once", placed_at=None, total_minor=1)
    assert_problem(other, 422, "event_conflict")


async def test_what_was_learned_is_kept(api: httpx2.AsyncClient, customer: UUID) -> None:
    order_id = await _placed(api, customer)
    path = f"/api/v1/orders/{order_id}/learnings"
    need = {"kind": "need", "author": "agent-7", "text": "a second battery"}
    assert (await api.post(path, json=need)).status_code == 202
    liking = {"kind": "preference", "author": "agent-7", "name": "day", "value": "Saturday"}
    assert (await api.post(path, json=liking)).status_code == 201
    order = (await api.get(f"/api/v1/orders/{order_id}")).json()
    assert [one["text"] for one in order["needs"]] == ["a second battery"]
    assert [one["source"] for one in order["needs"]] == ["agent-7"]
    assert [one["value"] for one in order["preferences"]] == ["Saturday"]
    known = (await api.get(f"/api/v1/customers/{customer}/preferences")).json()["items"]
    assert known[0]["order_id"] == order_id
    for wrong in ({"kind": "need"}, {**need, "name": "x"}, {**liking, "text": "x"}):
        answer = await api.post(path, json={"author": "agent-7", **wrong})
        assert_problem(answer, 422, "invalid_request")
    opportunity = {"customer_id": str(customer), "kind": "opportunity"}
    tasks = await eventually(
        lambda: api.get("/api/v1/tasks", params=opportunity), lambda page: page["items"]
    )
    assert tasks["items"][0]["role"] == "account_manager"


async def test_a_promise_in_selling(
    api: httpx2.AsyncClient, customer: UUID, make_customer: MakeCustomer
) -> None:
    body = {"customer_id": str(customer), "kind": "quality", "text": "a spare battery"}
    made = await api.post("/api/v1/promises", json=body)
    assert made.status_code == 201
    assert made.json()["state"] == "offered"
    listed = await api.get("/api/v1/promises", params={"customer_id": str(customer)})
    assert [one["id"] for one in listed.json()["items"]] == [made.json()["id"]]
    nobody = await api.post("/api/v1/promises", json={**body, "customer_id": str(uuid4())})
    assert_problem(nobody, 404, "unknown_customer")


async def test_leads_of_known_and_new_customers(api: httpx2.AsyncClient, customer: UUID) -> None:
    known = await api.post("/api/v1/leads", json={"customer_id": str(customer)})
    assert known.json()["workflow_id"] == f"customer/{customer}"
    consent = {"channel": "email", "purpose": "marketing", "source": "fair"}
    newcomer = {"name": "New", "email": "new@example.com", "consents": [consent]}
    answer = await api.post("/api/v1/leads", json={"customer": newcomer, "campaign": "fair"})
    assert answer.status_code == 202
    new = answer.json()["customer_id"]
    view = await eventually(
        lambda: api.get(f"/api/v1/customers/{new}"), lambda one: one["stage"] == "marketing"
    )
    assert view["stage_reason"]
    for wrong in ({}, {"customer_id": str(customer), "customer": newcomer}):
        assert_problem(await api.post("/api/v1/leads", json=wrong), 422, "invalid_request")
    nobody = await api.post("/api/v1/leads", json={"customer_reference": "nobody"})
    assert_problem(nobody, 404, "unknown_customer")
