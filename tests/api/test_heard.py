"""What a customer says by phone counts as what he writes: a reply ends the messages it answers."""

from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from database.base import Sessions
from database.staff import StaffAction
from domain.tasks import Role
from tests.api.conftest import assert_problem, eventually
from tests.console.conftest import calling_as

pytestmark = pytest.mark.usefixtures("worker")


async def test_an_answer_by_phone_ends_the_contact_and_asks_for_a_response(
    api: httpx2.AsyncClient, app: FastAPI, sessions: Sessions, customer: UUID
) -> None:
    start = {"kind": "marketing", "customer_id": str(customer)}
    headers = {"Idempotency-Key": uuid4().hex}
    assert (await api.post("/api/v1/processes", json=start, headers=headers)).status_code == 202
    wanted = {"customer_id": str(customer), "kind": "marketing"}
    await eventually(
        lambda: api.get("/api/v1/processes", params=wanted), lambda found: bool(found["items"])
    )
    path = f"/api/v1/customers/{customer}/replies"
    body = {"text": "She would like an offer for two."}
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        told, again = [await rep.post(path, json=body, headers=headers) for _ in range(2)]
    assert told.status_code == 202, told.text
    assert again.json() == told.json()
    tasks = await eventually(
        lambda: api.get("/api/v1/tasks", params={"customer_id": str(customer)}),
        lambda found: bool(found["items"]),
    )
    assert [task["kind"] for task in tasks["items"]] == ["answer_reply"]
    event = (await api.get(f"/api/v1/events/{told.json()['event_id']}")).json()
    assert (event["body"]["text"], event["body"]["source"]) == (body["text"], "phone")
    async with sessions() as session:
        kept = sa.select(StaffAction.after).where(
            StaffAction.target == path.removeprefix("/api/v1")
        )
        assert await session.scalar(kept) == {}, "the words are kept where they are deleted in time"


async def test_a_need_becomes_an_opportunity_without_an_order(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    need = {"text": "a second battery for the winter", "author": "agent-7"}
    told = await api.post(f"/api/v1/customers/{customer}/needs", json=need)
    assert told.status_code == 202, told.text
    tasks = await eventually(
        lambda: api.get("/api/v1/tasks", params={"customer_id": str(customer)}),
        lambda found: bool(found["items"]),
    )
    assert [task["kind"] for task in tasks["items"]] == ["opportunity"]


async def test_what_nobody_can_have_said_is_refused(
    api: httpx2.AsyncClient, app: FastAPI, sessions: Sessions, customer: UUID
) -> None:
    path = f"/api/v1/customers/{customer}/replies"
    for fields in (
        {},
        {"text": ""},
        {"text": "a\u202eb"},
        {"text": "x" * 10_001},
        {"text": "Hello", "source": "by phone"},
        {"text": "Hello", "occurred_at": "2099-01-01T00:00:00Z"},
        {"text": "Hello", "occurred_at": "2026-01-05"},
    ):
        assert (await api.post(path, json=fields)).status_code == 422, fields
    stranger = {"text": "Hello", "case_id": str(uuid4())}
    assert_problem(await api.post(path, json=stranger), 404, "unknown_case")
    for what, body in (("replies", {"text": "x"}), ("needs", {"text": "x", "author": "agent-7"})):
        nobody = await api.post(f"/api/v1/customers/{uuid4()}/{what}", json=body)
        assert_problem(nobody, 404, "unknown_customer")
        async with calling_as(app, sessions, Role.OPS) as ops:
            signed = {**body, "author": "test-ops"} if what == "needs" else body
            refused = await ops.post(f"/api/v1/customers/{customer}/{what}", json=signed)
            assert_problem(refused, 403, "forbidden")
