"""The door for other systems: each event once, told to the right process, nothing half-written."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.testing import WorkflowEnvironment

from database.base import Sessions
from database.events import Event
from database.feedback import Need
from tests.api.conftest import OCCURRED, MakeCustomer, Report, assert_problem, count
from workflows.delivery import OrderDelivery
from workflows.follow_up import FollowUp
from workflows.lifecycle import CustomerLifecycle


def _signals(history: WorkflowHistory) -> list[str]:
    return [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in history.events
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]


async def _was_told(temporal: WorkflowEnvironment, workflow_id: str, *expected: str) -> bool:
    """A signal that comes while the process takes a step is in its history a moment later."""
    for _ in range(100):
        history = await temporal.client.get_workflow_handle(workflow_id).fetch_history()
        if _signals(history) == list(expected):
            return True
        await asyncio.sleep(0.05)
    return False


OF_THE_CUSTOMER: list[tuple[str, dict[str, Any]]] = [
    ("lead_received", {"campaign": "spring", "by_staff": True}),
    ("reply_received", {"text": "Hello\nthere"}),
    ("opted_out", {"channel": "email"}),
    ("risk_noticed", {"cause": "contract-ends"}),
    ("need_stated", {"text": "a second battery"}),
]
OF_THE_ORDER: list[tuple[str, dict[str, Any]]] = [
    ("order_approved", {}),
    ("order_dispatched", {"carrier": "Correios", "tracking": "BR123"}),
    ("delivery_attempt_failed", {"reason": "nobody-home"}),
    ("delivery_rescheduled", {"promised_on": "2026-02-01"}),
    ("order_delivered", {"shortfalls": [{"kind": "quality", "verdict": "partly_kept"}]}),
    ("order_returned", {"reason": "damaged"}),
    ("order_unavailable", {"refund_minor": 100, "alternative": "another"}),
    ("order_cancelled", {"reason": "customer", "refund_minor": 0}),
]


def test_every_kind_is_a_signal_of_its_process() -> None:
    """The word of an event is the name of its signal: nothing would tell us at run time."""
    for workflow_class, told in (
        (CustomerLifecycle, OF_THE_CUSTOMER),
        (OrderDelivery, OF_THE_ORDER),
        (FollowUp, [("feedback_received", {})]),
    ):
        definition = workflow._Definition.must_from_class(workflow_class)
        assert {kind for kind, _ in told} <= set(definition.signals)


@pytest.mark.parametrize(("kind", "fields"), OF_THE_CUSTOMER)
async def test_a_fact_of_the_relationship_is_told_to_the_lifecycle(
    kind: str,
    fields: dict[str, Any],
    report: Report,
    customer: UUID,
    temporal: WorkflowEnvironment,
) -> None:
    accepted = await report(kind, customer_id=str(customer), **fields)
    assert accepted["workflow_id"] == f"customer/{customer}"
    assert accepted["duplicate"] is False
    assert await _was_told(temporal, f"customer/{customer}", kind)


@pytest.mark.parametrize(("kind", "fields"), OF_THE_ORDER)
async def test_a_milestone_is_told_to_the_orders_process(
    kind: str, fields: dict[str, Any], report: Report, order_id: str, temporal: WorkflowEnvironment
) -> None:
    accepted = await report(kind, order_id=order_id, **fields)
    assert accepted["order_id"] == order_id
    assert accepted["workflow_id"] == f"delivery/{order_id}"
    assert await _was_told(temporal, f"delivery/{order_id}", kind)


async def test_a_milestone_finds_its_order_by_the_shops_reference(
    report: Report, customer: UUID, temporal: WorkflowEnvironment
) -> None:
    of_shop = {"source": "shop", "order_reference": uuid4().hex}
    placed = await report("order_placed", customer_id=str(customer), **of_shop)
    await report("order_approved", **of_shop)
    assert await _was_told(temporal, placed["workflow_id"], "order_approved")


async def test_a_milestone_reopens_a_process_that_had_ended(
    report: Report, order_id: str, temporal: WorkflowEnvironment
) -> None:
    await temporal.client.get_workflow_handle(f"delivery/{order_id}").terminate()
    await report("order_returned", order_id=order_id)
    assert await _was_told(temporal, f"delivery/{order_id}", "order_returned")


async def test_a_review_is_told_to_the_follow_up(
    report: Report, order_id: str, temporal: WorkflowEnvironment
) -> None:
    accepted = await report("review_received", order_id=order_id, score=1, comment="não chegou")
    assert accepted["workflow_id"] == f"follow-up/{order_id}"
    assert await _was_told(temporal, f"follow-up/{order_id}", "feedback_received")


async def test_a_case_is_started(
    report: Report, customer: UUID, temporal: WorkflowEnvironment
) -> None:
    accepted = await report("case_opened", customer_id=str(customer), text="It broke.")
    handle = temporal.client.get_workflow_handle(accepted["workflow_id"])
    assert (await handle.describe()).workflow_type == "SupportCase"


async def test_a_repeat_is_recognised_and_changes_nothing(
    api: httpx2.AsyncClient, customer: UUID, temporal: WorkflowEnvironment
) -> None:
    body = {
        "kind": "lead_received",
        "event_id": "shop/1",
        "occurred_at": OCCURRED,
        "customer_id": str(customer),
    }
    first = (await api.post("/api/v1/events", json=body)).json()
    # The same moment written otherwise is the same body.
    again = await api.post(
        "/api/v1/events", json={**body, "occurred_at": "2026-01-05T11:00:00+01:00"}
    )
    assert again.status_code == 202
    assert again.json() == {**first, "duplicate": True}
    assert await _was_told(temporal, f"customer/{customer}", "lead_received")


async def test_twins_at_the_same_moment_are_told_once(
    api: httpx2.AsyncClient, customer: UUID, temporal: WorkflowEnvironment, sessions: Sessions
) -> None:
    body = {
        "kind": "lead_received",
        "event_id": "twin",
        "occurred_at": OCCURRED,
        "customer_id": str(customer),
    }
    answers = await asyncio.gather(*(api.post("/api/v1/events", json=body) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + [True] * 4
    assert await count(sessions, Event, event_id="twin") == 1
    assert await _was_told(temporal, f"customer/{customer}", "lead_received")


async def test_the_same_id_with_another_body_is_refused(
    api: httpx2.AsyncClient, report: Report, customer: UUID
) -> None:
    await report("lead_received", event_id="shop/2", customer_id=str(customer))
    body = {
        "kind": "risk_noticed",
        "cause": "x",
        "event_id": "shop/2",
        "occurred_at": OCCURRED,
        "customer_id": str(customer),
    }
    assert_problem(await api.post("/api/v1/events", json=body), 422, "event_conflict")


async def test_an_order_placed_again_under_another_event_is_said_so(
    report: Report, customer: UUID
) -> None:
    first = await report("order_placed", customer_id=str(customer), order_reference="again")
    again = await report("order_placed", customer_id=str(customer), order_reference="again")
    assert again["order_id"] == first["order_id"]
    assert "was placed before" in again["notice"]


async def test_an_order_of_another_customer_is_refused(
    api: httpx2.AsyncClient, report: Report, customer: UUID, make_customer: MakeCustomer
) -> None:
    await report("order_placed", customer_id=str(customer), order_reference="adas")
    body = {
        "kind": "order_placed",
        "event_id": "x",
        "occurred_at": OCCURRED,
        "customer_id": str(await make_customer()),
        "order_reference": "adas",
    }
    assert_problem(await api.post("/api/v1/events", json=body), 409, "conflict")


async def test_an_opt_out_withdraws_the_consent_of_every_channel(
    api: httpx2.AsyncClient, report: Report, customer: UUID
) -> None:
    await report("opted_out", customer_id=str(customer), occurred_at="2026-11-21T00:00:00Z")
    path = f"/api/v1/customers/{customer}/consents"
    held = (await api.get(path, params={"holds": "true"})).json()["items"]
    states = {(one["channel"], one["state"]) for one in held}
    assert ("sms", "withdrawn") in states


async def test_what_the_customer_wrote_stays_in_the_database(
    api: httpx2.AsyncClient,
    report: Report,
    customer: UUID,
    sessions: Sessions,
    temporal: WorkflowEnvironment,
) -> None:
    accepted = await report("need_stated", customer_id=str(customer), text="my secret wish")
    assert await count(sessions, Need, customer_id=customer) == 1
    event = (await api.get(f"/api/v1/events/{accepted['event_id']}")).json()
    assert event["body"]["text"] == "my secret wish"
    history = await temporal.client.get_workflow_handle(f"customer/{customer}").fetch_history()
    assert "secret" not in history.to_json()


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"kind": "lead_received", "customer_id": str(uuid4())}, 404, "unknown_customer"),
        ({"kind": "lead_received", "customer_reference": "nobody"}, 404, "unknown_customer"),
        ({"kind": "order_approved", "order_reference": "nothing"}, 404, "unknown_order"),
        ({"kind": "review_received", "order_id": str(uuid4()), "score": 5}, 404, "unknown_order"),
    ],
)
async def test_what_is_not_known_is_named(
    api: httpx2.AsyncClient, sessions: Sessions, fields: dict[str, Any], status: int, code: str
) -> None:
    body = {"event_id": "x", "occurred_at": OCCURRED, **fields}
    problem = assert_problem(await api.post("/api/v1/events", json=body), status, code)
    assert "order_placed" in problem["remedy"] or "PUT" in problem["remedy"]
    assert await count(sessions, Event, event_id="x") == 0


@pytest.mark.parametrize(
    ("fields", "pointer", "says"),
    [
        ({"occurred_at": "2026-01-05T10:00:00"}, "/occurred_at", "time zone"),
        ({"occurred_at": "2026-02-30T10:00:00Z"}, "/occurred_at", "calendar"),
        ({"occurred_at": "1889-01-01T00:00:00Z"}, "/occurred_at", "impossible"),
        ({"occurred_at": "9999-12-31T23:59:59-12:00"}, "/occurred_at", "calendar"),
        ({"occurred_at": "2199-01-01T00:00:00Z"}, "/occurred_at", "future"),
        ({"occurred_at": 1767000000}, "/occurred_at", "RFC 3339"),
        ({"occurred_at": "2026-01-05T24:00:00Z"}, "/occurred_at", "calendar"),
        ({"event_id": "with space"}, "/event_id", "pattern"),
        ({"event_id": 7}, "/event_id", "string"),
        ({"campaign": "x" * 61}, "/campaign", "pattern"),
        ({"by_staff": 1}, "/by_staff", "boolean"),
        ({"by_staff": "true"}, "/by_staff", "boolean"),
        ({"colour": "red"}, "/colour", "not permitted"),
        ({"customer_id": "no-uuid"}, "/customer_id", "UUID"),
        ({"customer_reference": "also"}, "/", "not both"),
        ({"kind": "order_eaten"}, "/kind", "order_placed"),
    ],
)
async def test_bad_fields_are_named_with_their_remedy(
    api: httpx2.AsyncClient,
    customer: UUID,
    sessions: Sessions,
    fields: dict[str, Any],
    pointer: str,
    says: str,
) -> None:
    body = {
        "kind": "lead_received",
        "event_id": "x",
        "occurred_at": OCCURRED,
        "customer_id": str(customer),
        **fields,
    }
    response = await api.post("/api/v1/events", json=body)
    assert response.status_code == 422, response.text
    errors = response.json()["errors"]
    assert pointer in [error["pointer"] for error in errors]
    assert says in " ".join(error["detail"] for error in errors)
    assert await count(sessions, Event, event_id="x") == 0


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("order_placed", {"total_minor": -1}),
        ("order_placed", {"total_minor": 1.5}),
        ("order_placed", {"total_minor": True}),
        ("order_placed", {"total_minor": 2**63}),
        ("order_placed", {"currency": "eur"}),
        ("order_placed", {"currency": "XXY"}),
        ("order_placed", {"promised_on": "2026-02-29"}),
        ("order_placed", {"promised_on": "2026-02-01T00:00:00Z"}),
        ("order_placed", {"order_reference": "a/b"}),
        ("order_placed", {"lines": [{"product": "x", "quantity": 0}]}),
        ("order_placed", {"lines": [{"product": "x"}] * 201}),
        ("need_stated", {"text": "\x00"}),
        ("need_stated", {"text": "a\u202eb"}),
        ("need_stated", {"text": "\u200b"}),
        ("need_stated", {"text": "x" * 10_001}),
    ],
)
async def test_values_that_cannot_be_are_refused(
    api: httpx2.AsyncClient, customer: UUID, kind: str, fields: dict[str, Any]
) -> None:
    body: dict[str, Any] = {
        "kind": kind,
        "event_id": "x",
        "occurred_at": OCCURRED,
        "customer_id": str(customer),
    }
    if kind == "order_placed":
        body["order_reference"] = "1"
    response = await api.post("/api/v1/events", json={**body, **fields})
    assert_problem(response, 422, "invalid_request")
