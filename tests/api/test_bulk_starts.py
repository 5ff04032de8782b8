"""Many starts in one request: each kept by itself, and none done twice by a repeat."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from psycopg.errors import LockNotAvailable
from sqlalchemy.exc import OperationalError

from api import bulk_starts
from database.base import Sessions
from database.customers import Customer
from database.events import Event
from database.staff import StaffAction
from domain.tasks import Role
from tests.api.conftest import Json, MakeCustomer, assert_problem
from tests.console.conftest import calling_as

PATH = "/api/v1/processes/bulk"
CONSENT = {"channel": "email", "purpose": "marketing", "source": "form"}


@pytest.fixture
async def customers(make_customer: MakeCustomer) -> list[UUID]:
    return [await make_customer(consents=[CONSENT]) for _ in range(4)]


def _starts(customers: list[UUID]) -> Json:
    return {"items": [{"kind": "marketing", "customer_id": str(one)} for one in customers]}


@asynccontextmanager
async def _locked(sessions: Sessions, customer: UUID) -> AsyncGenerator[None]:
    """What is written about the customer has to wait."""
    async with sessions.begin() as session:
        await session.execute(
            sa.select(Customer.id).where(Customer.id == customer).with_for_update()
        )
        yield


async def _told(sessions: Sessions, customers: list[UUID]) -> list[str]:
    """The ids of what was accepted for the customers."""
    async with sessions() as session:
        found = await session.scalars(
            sa.select(Event.event_id)
            .where(Event.customer_id.in_(customers), Event.kind == "lead_received")
            .order_by(Event.event_id)
        )
        return list(found)


async def _until_told(sessions: Sessions, customers: list[UUID], number: int) -> None:
    for _ in range(200):
        if len(await _told(sessions, customers)) == number:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the others wait for the one that can not be written")


@pytest.mark.usefixtures("worker")
async def test_one_that_can_not_be_written_holds_up_no_other_and_its_repeat_starts_the_rest(
    api: httpx2.AsyncClient, sessions: Sessions, customers: list[UUID]
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    async with _locked(sessions, customers[1]):
        request = asyncio.create_task(api.post(PATH, json=_starts(customers), headers=key))
        await _until_told(sessions, customers, 3)
        async with sessions.begin() as session:  # as when PostgreSQL ends its connection
            await session.execute(sa.text(_END_WHO_WAITS))
        first: Json = (await request).json()
    assert [one["status"] for one in first["items"]] == [202, 503, 202, 202]
    assert first["items"][1]["problem"]["code"] == "database_unavailable"
    assert (first["started"], first["refused"]) == (3, 1)

    second = await api.post(PATH, json=_starts(customers), headers=key)
    assert [one["status"] for one in second.json()["items"]] == [202] * 4
    assert "idempotency-replayed" not in second.headers, "the first answer was not final"
    assert second.json()["items"][0] == first["items"][0]
    third = await api.post(PATH, json=_starts(customers), headers=key)
    assert third.json() == second.json()
    assert third.headers["idempotency-replayed"] == "true"
    assert len(await _told(sessions, customers)) == 4


async def test_the_page_of_a_bulk_start_tells_what_its_reload_tries_again(
    app: FastAPI, sessions: Sessions, customers: list[UUID]
) -> None:
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        form = {"csrf_token": rep.headers["X-CSRF-Token"], "key": uuid4().hex, "kind": "marketing"}
        chosen = {**form, "customer_id": [str(one) for one in customers]}
        async with _locked(sessions, customers[1]):
            request = asyncio.create_task(rep.post("/console/start/bulk", data=chosen))
            await _until_told(sessions, customers, 3)
            async with sessions.begin() as session:
                await session.execute(sa.text(_END_WHO_WAITS))
            page = (await request).text
        assert "3 started, 1 refused" in page
        assert "tries again the 1 that failed" in page
        assert "Try the refused ones again" not in page, "under another key it might start twice"
        again = (await rep.post("/console/start/bulk", data=chosen)).text
    assert "4 started, 0 refused" in again
    assert "tries again" not in again


_END_WHO_WAITS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%events%'
"""


@pytest.mark.usefixtures("worker")
async def test_what_broke_off_is_gone_on_with_under_the_same_key_only_as_it_was(
    api: httpx2.AsyncClient, sessions: Sessions, customers: list[UUID]
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    async with _locked(sessions, customers[3]):
        request = asyncio.create_task(api.post(PATH, json=_starts(customers), headers=key))
        await _until_told(sessions, customers, 3)
        request.cancel()
        await asyncio.wait([request])
    before = await _told(sessions, customers)
    other = await api.post(PATH, json=_starts(customers[:1]), headers=key)
    assert_problem(other, 422, "idempotency_key_reused")

    again = await api.post(PATH, json=_starts(customers), headers=key)
    assert [one["status"] for one in again.json()["items"]] == [202] * 4
    assert set(before) < set(await _told(sessions, customers))
    started = [one["started"]["event_id"] for one in again.json()["items"]]
    assert sorted(started) == await _told(sessions, customers)


@pytest.mark.usefixtures("worker")
async def test_twins_get_one_answer(
    api: httpx2.AsyncClient, sessions: Sessions, customers: list[UUID]
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    twins = [api.post(PATH, json=_starts(customers), headers=key) for _ in range(3)]
    answers = [answer.json() for answer in await asyncio.gather(*twins)]
    assert [one["status"] for one in answers[0]["items"]] == [202] * 4
    assert answers[1:] == answers[:1] * 2
    assert len(await _told(sessions, customers)) == 4


async def test_what_staff_begins_is_recorded_before_it_has_an_effect_and_once(
    app: FastAPI, sessions: Sessions, customers: list[UUID]
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        async with _locked(sessions, customers[0]):
            request = asyncio.create_task(rep.post(PATH, json=_starts(customers), headers=key))
            await _until_told(sessions, customers, 3)
            begun = await _actions(sessions, customers)
            request.cancel()
            await asyncio.wait([request])
        await rep.post(PATH, json=_starts(customers), headers=key)
    assert begun == ["start_processes"]
    assert await _actions(sessions, customers) == begun


async def test_the_record_of_staff_does_not_keep_the_words_which_the_cases_keep(
    app: FastAPI, sessions: Sessions, customers: list[UUID]
) -> None:
    case = {"kind": "support", "customer_id": str(customers[0])}
    body = {"items": [{**case, "text": "The handle came loose."}], "dry_run": True}
    async with calling_as(app, sessions, Role.SUPPORT_AGENT) as agent:
        judged = await agent.post(PATH, json=body, headers={"Idempotency-Key": uuid4().hex})
    assert judged.json()["started"] == 1, judged.text
    of_customer = StaffAction.after["items"][0]["customer_id"].astext == str(customers[0])
    async with sessions() as session:
        kept = await session.scalar(sa.select(StaffAction.after).where(of_customer))
    assert kept == {"items": [case], "dry_run": True}


async def test_one_that_found_a_row_locked_is_tried_again_under_the_same_key(
    api: httpx2.AsyncClient, customers: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, waits = bulk_starts._start, [customers[1]]

    async def too_long(held: Any, asker: Any, body: Any, *rest: Any) -> Any:
        if body.customer_id in waits:
            waits.clear()
            raise OperationalError("", None, LockNotAvailable())
        return await start(held, asker, body, *rest)

    monkeypatch.setattr(bulk_starts, "_start", too_long)
    request = {**_starts(customers), "dry_run": True}
    key = {"Idempotency-Key": uuid4().hex}
    first, second = [(await api.post(PATH, json=request, headers=key)).json() for _ in range(2)]
    assert [one["status"] for one in first["items"]] == [202, 503, 202, 202]
    assert [one["status"] for one in second["items"]] == [202] * 4


async def _actions(sessions: Sessions, customers: list[UUID]) -> list[str]:
    async with sessions() as session:
        found = await session.scalars(
            sa.select(StaffAction.operation).where(StaffAction.after == _starts(customers))
        )
        return list(found)
