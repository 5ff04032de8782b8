"""An Idempotency-Key: one effect and one answer, however often and however close together."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa

from database.base import Sessions
from database.customers import Preference, Simulation
from database.events import Event, IdempotentAnswer
from tests.api.conftest import assert_problem, count


async def test_a_repeat_gets_the_first_answer(api: httpx2.AsyncClient, sessions: Sessions) -> None:
    body = {"name": "Grace Hopper"}
    key = {"Idempotency-Key": f'"{uuid4().hex}"'}
    first = await api.post("/api/v1/customers", json=body, headers=key)
    again = await api.post("/api/v1/customers", json=body, headers=key)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"]
    assert "idempotency-replayed" not in first.headers


async def test_twins_have_one_effect(
    api: httpx2.AsyncClient, customer: UUID, sessions: Sessions
) -> None:
    body = {"name": "delivery-day", "value": "Saturday"}
    path = f"/api/v1/customers/{customer}/preferences"
    key = {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(*(api.post(path, json=body, headers=key) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 3
    assert await count(sessions, Preference, customer_id=customer) == 1


async def test_leads_with_a_new_customer_are_made_once(
    api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    body = {"customer": {"name": "New", "email": "new@example.com"}, "source": "fair"}
    key = {"Idempotency-Key": uuid4().hex}
    answers = [await api.post("/api/v1/leads", json=body, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    customer_id = answers[0].json()["customer_id"]
    assert await count(sessions, Event, customer_id=UUID(customer_id)) == 1


async def test_the_key_with_another_body_is_refused(api: httpx2.AsyncClient) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    await api.post("/api/v1/customers", json={"name": "A"}, headers=key)
    answer = await api.post("/api/v1/customers", json={"name": "B"}, headers=key)
    assert_problem(answer, 422, "idempotency_key_reused")


async def test_a_corrected_request_may_use_its_key_again(
    api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    key = uuid4().hex
    headers = {"Idempotency-Key": key}
    wrong = await api.post("/api/v1/customers", json={"name": ""}, headers=headers)
    assert_problem(wrong, 422, "invalid_request")
    assert await count(sessions, IdempotentAnswer, key=key) == 0
    right = await api.post("/api/v1/customers", json={"name": "Right"}, headers=headers)
    assert right.status_code == 201


async def test_one_key_on_two_addresses_is_two_requests(
    api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    assert (await api.post("/api/v1/customers", json={"name": "A"}, headers=key)).is_success
    body = {"name": "with a key", "business_origin": "2017-01-01T00:00:00Z", "speed": 1.0}
    assert (await api.post("/api/v1/simulations", json=body, headers=key)).is_success
    assert await count(sessions, Simulation, name="with a key") == 1


async def test_what_would_do_harm_twice_needs_a_key(api: httpx2.AsyncClient) -> None:
    for path in ("/api/v1/processes", "/api/v1/customers/bulk"):
        assert_problem(await api.post(path, json={}), 400, "idempotency_key_required")


@pytest.mark.parametrize("key", ["", '""', "x" * 201, "with space"])
async def test_a_key_that_is_none(api: httpx2.AsyncClient, key: str) -> None:
    answer = await api.post(
        "/api/v1/customers", json={"name": "A"}, headers={"Idempotency-Key": key}
    )
    assert_problem(answer, 400, "idempotency_key_required")


async def test_a_key_is_forgotten_after_three_days(
    api: httpx2.AsyncClient, sessions: Sessions
) -> None:
    key = uuid4().hex
    headers = {"Idempotency-Key": key}
    await api.post("/api/v1/customers", json={"name": "Old"}, headers=headers)
    async with sessions.begin() as session:
        await session.execute(
            sa.update(IdempotentAnswer)
            .where(IdempotentAnswer.key == key)
            .values(recorded_at=datetime.now(UTC) - timedelta(hours=73))
        )
    answer = await api.post("/api/v1/customers", json={"name": "New"}, headers=headers)
    assert answer.json()["name"] == "New"
    again = await api.post("/api/v1/customers", json={"name": "New"}, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
