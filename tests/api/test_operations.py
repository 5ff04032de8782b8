"""What operators look after: why a process doesn't go on, and what a retry does about it."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from database.base import Sessions
from database.customers import Customer
from database.staff import StaffAction
from domain.follow_up import FollowUpInput
from domain.processes import LIFECYCLE_QUEUE, ProcessKind
from domain.tasks import Role
from tests.api.conftest import OCCURRED, Json, Report, assert_problem, eventually
from tests.console.conftest import calling_as
from tests.patience import becomes
from workflows.follow_up import FollowUp
from workflows.visibility import search_attributes

pytestmark = pytest.mark.usefixtures("worker")

MENDED = {"reason": "mended"}


@pytest.fixture
def client(temporal: WorkflowEnvironment) -> Client:
    return temporal.client


@pytest.fixture
async def failed(client: Client) -> tuple[str, UUID]:
    """A process that failed for good: its customer is not there."""
    customer_id, about_id = uuid4(), uuid4()
    workflow_id = f"follow-up/{about_id}"
    about = FollowUpInput(customer_id=customer_id, about_id=about_id, since="2026-01-05T10:00:00Z")
    handle = await client.start_workflow(
        FollowUp.run,
        about,
        id=workflow_id,
        task_queue=LIFECYCLE_QUEUE,
        search_attributes=search_attributes(customer_id, ProcessKind.FOLLOW_UP),
    )
    await becomes(lambda: _status(handle), "FAILED")
    return workflow_id, customer_id


@pytest.fixture
async def new_order(report: Report, customer: UUID) -> str:
    """An order of today: its clocks lie ahead."""
    placed = await report(
        "order_placed",
        customer_id=str(customer),
        order_reference=uuid4().hex,
        occurred_at=_now(),
    )
    return str(placed["order_id"])


def _now() -> str:
    return datetime.now(UTC).isoformat()


async def _status(handle: Any) -> str:
    found = (await handle.describe()).status
    return str(found.name)


async def _trouble(api: httpx2.AsyncClient, workflow_id: str, trouble: str) -> Json:
    """The entry of a process, once the list has it; and its own page says the same."""

    def holds(found: Json) -> bool:
        return (workflow_id, trouble) in [(i["workflow_id"], i["trouble"]) for i in found["items"]]

    listed = await eventually(lambda: api.get("/api/v1/operations/processes"), holds, 40)
    entry: Json = next(one for one in listed["items"] if one["workflow_id"] == workflow_id)
    health = (await api.get(f"/api/v1/processes/{workflow_id}/health")).json()
    assert health["trouble"]["trouble"] == trouble
    return entry


async def _alarm(api: httpx2.AsyncClient, workflow_id: str) -> Json:
    def of(found: Json) -> list[Json]:
        return [one for one in found["items"] if one["workflow_id"] == workflow_id]

    listed = await eventually(lambda: api.get("/api/v1/operations/alarms"), lambda f: bool(of(f)))
    [alarm] = of(listed)
    return alarm


async def _retry(
    api: httpx2.AsyncClient, workflow_id: str, body: Json = MENDED, key: str = ""
) -> httpx2.Response:
    headers = {"Idempotency-Key": key or uuid4().hex}
    path = f"/api/v1/processes/{workflow_id}/retry"
    return await api.post(path, json=body, headers=headers)


async def test_a_failed_process_goes_on_once_its_cause_is_gone(
    api: httpx2.AsyncClient, app: FastAPI, failed: tuple[str, UUID], sessions: Sessions
) -> None:
    workflow_id, customer_id = failed
    entry = await _trouble(api, workflow_id, "failed")
    assert entry["failure"] == f"unknown_customer: no customer {customer_id}"
    assert entry["customer_id"] == str(customer_id)
    assert entry["kind"] == "follow_up"
    assert "stays done" in entry["retry"]["does"]
    listed = (await api.get("/api/v1/operations/processes", params={"kind": "delivery"})).json()
    assert workflow_id not in [one["workflow_id"] for one in listed["items"]]

    alarm = await _alarm(api, workflow_id)
    assert (alarm["trouble"], alarm["kind"], alarm["customer_id"]) == (
        *("failed", "follow_up"),
        str(customer_id),
    )

    async with calling_as(app, sessions, Role.SALES_REP) as rep:
        assert_problem(await _retry(rep, workflow_id), 403, "forbidden")
    another = {**MENDED, "run_id": str(uuid4())}
    assert_problem(await _retry(api, workflow_id, another), 409, "conflict")

    async with sessions.begin() as session:
        session.add(Customer(id=customer_id, reference=f"late-{customer_id}", name="Ada"))
    async with calling_as(app, sessions, Role.OPS) as ops:
        meant = {**MENDED, "run_id": entry["run_id"]}
        first = await _retry(ops, workflow_id, meant, key="once")
        assert first.status_code == 200, first.text
        again = await _retry(ops, workflow_id, meant, key="once")
    assert again.json() == first.json()
    assert first.json()["run_id"] != entry["run_id"]
    shown = await eventually(
        lambda: api.get(f"/api/v1/processes/{workflow_id}"), lambda one: bool(one)
    )
    assert shown["state"] == "running"
    alarms = (await api.get("/api/v1/operations/alarms")).json()["items"]
    assert workflow_id not in [one["workflow_id"] for one in alarms], "it has gone on since"
    health = (await api.get(f"/api/v1/processes/{workflow_id}/health")).json()
    assert (health["trouble"], health["running"]) == (None, True)
    problem = assert_problem(await _retry(api, workflow_id), 409, "not_allowed_now")
    assert "goes on by itself" in problem["detail"]
    async with sessions() as session:
        target = f"/processes/{workflow_id}/retry"
        [action] = (
            await session.scalars(sa.select(StaffAction).where(StaffAction.target == target))
        ).all()
    assert action.before == {
        "run_id": entry["run_id"],
        "trouble": "failed",
        "failure": entry["failure"],
    }
    assert action.after == {"run_id": first.json()["run_id"], "reason": "mended"}


async def test_one_ended_by_force_is_taken_up_with_the_case_it_had_opened(
    api: httpx2.AsyncClient, client: Client, report: Report, new_order: str
) -> None:
    workflow_id = f"delivery/{new_order}"
    for number in (1, 2):  # the second failure opens a support case, as a child
        await report(
            "delivery_attempt_failed",
            order_id=new_order,
            reason=f"nobody-home-{number}",
            occurred_at=_now(),
        )
    process = f"/api/v1/processes/{workflow_id}"
    await eventually(lambda: api.get(process), lambda one: "attempt" in one["step"])
    await becomes(lambda: _lines(api, new_order, "delivery_attempt_failed"), 2)
    handle = client.get_workflow_handle(workflow_id)
    await handle.terminate("by mistake")
    entry = await _trouble(api, workflow_id, "ended_by_force")
    assert entry["allowed_actions"] == []
    assert (await _retry(api, workflow_id)).status_code == 200
    await report("order_delivered", order_id=new_order, occurred_at=_now())
    await eventually(lambda: api.get(process), lambda one: one["outcome"] == "delivered")
    assert await _lines(api, new_order, "delivery_attempt_failed") == 2, "nothing was done twice"


async def _lines(api: httpx2.AsyncClient, new_order: str, kind: str) -> int:
    order = (await api.get(f"/api/v1/orders/{new_order}")).json()
    path = f"/api/v1/customers/{order['customer_id']}/timeline"
    lines = (await api.get(path, params={"what": "line", "limit": 200})).json()["items"]
    return len([line for line in lines if line["kind"] == kind])


async def test_a_process_our_program_stumbles_over_is_listed_without_its_words(
    api: httpx2.AsyncClient, client: Client
) -> None:
    workflow_id = f"case/{uuid4()}"
    handle = await client.start_workflow(
        "OfAnotherProgram", "a secret", id=workflow_id, task_queue=LIFECYCLE_QUEUE
    )
    entry = await _trouble(api, workflow_id, "task_failing")
    assert entry["attempts"] >= 1
    assert (await _alarm(api, workflow_id))["trouble"] == "task_failing"
    assert "secret" not in str(entry)
    assert "program is mended" in entry["means"]
    retried = await _retry(api, workflow_id)
    assert retried.status_code == 200, retried.text
    await handle.terminate()


async def test_a_step_that_cannot_be_written_down_says_when_it_is_tried_again(
    api: httpx2.AsyncClient, sessions: Sessions, report: Report, new_order: str
) -> None:
    workflow_id = f"delivery/{new_order}"
    health = f"/api/v1/processes/{workflow_id}/health"
    waits = await eventually(lambda: api.get(health), lambda one: one["waits"])
    assert waits["trouble"] is None
    assert waits["waits"] == "until the order should be approved"
    assert "a person is asked to approve it" in waits["then"]
    async with sessions.begin() as session:
        await session.execute(sa.text("ALTER TABLE order_milestones RENAME TO elsewhere"))
    try:
        await report("order_approved", order_id=new_order, occurred_at=_now())
        found = await eventually(lambda: api.get(health), lambda one: one["trouble"], 60)
        trouble = found["trouble"]
        assert trouble["trouble"] == "step_failing"
        assert trouble["at"] == "order approved"
        assert trouble["attempts"] > 3
        assert "order_milestones" not in str(trouble)
    finally:
        async with sessions.begin() as session:
            await session.execute(sa.text("ALTER TABLE elsewhere RENAME TO order_milestones"))
    assert (await _retry(api, workflow_id)).status_code == 200, "at once, not in half a minute"
    process = f"/api/v1/processes/{workflow_id}"
    await eventually(lambda: api.get(process), lambda one: one["step"] == "approved")


async def test_what_should_have_acted_stands_still(
    api: httpx2.AsyncClient, sessions: Sessions, new_order: str
) -> None:
    workflow_id = f"delivery/{new_order}"
    await eventually(lambda: api.get(f"/api/v1/processes/{workflow_id}"), lambda one: bool(one))

    async def is_overdue() -> bool:
        wanted = {"overdue": "true", "limit": "200"}
        listed = (await api.get("/api/v1/processes", params=wanted)).json()["items"]
        return workflow_id in [one["workflow_id"] for one in listed]

    for column in ("next_timer_machine_at", "updated_at"):
        assert not await is_overdue(), "one that has just moved catches up"
        late = f"UPDATE processes SET {column} = now() - interval '1 hour' WHERE workflow_id = :id"
        async with sessions.begin() as session:
            await session.execute(sa.text(late), {"id": workflow_id})
    assert await is_overdue()
    await _trouble(api, workflow_id, "stands_still")
    async with sessions.begin() as session:
        unknown = f"delivery/{uuid4()}"
        await session.execute(
            sa.text("UPDATE processes SET workflow_id = :new WHERE workflow_id = :id").bindparams(
                new=unknown, id=workflow_id
            )
        )
    await _trouble(api, unknown, "unknown_to_temporal")
    assert_problem(await _retry(api, unknown), 404, "not_found")


async def test_bad_retries_are_refused(api: httpx2.AsyncClient) -> None:
    path = f"/api/v1/processes/case/{uuid4()}"
    assert_problem(await api.post(f"{path}/retry", json=MENDED), 400, "idempotency_key_required")
    assert_problem(await _retry(api, f"case/{uuid4()}"), 404, "not_found")
    assert_problem(await api.get(f"{path}/health"), 404, "not_found")
    for wrong in ({}, {"reason": "It was late"}, {**MENDED, "run_id": "x"}):
        assert_problem(await _retry(api, f"case/{uuid4()}", wrong), 422, "invalid_request")
    unknown = await api.get("/api/v1/operations/processes", params={"kind": "Delivery"})
    assert_problem(unknown, 422, "invalid_request")


async def test_queues_tell_of_their_workers(api: httpx2.AsyncClient) -> None:
    found = await eventually(
        lambda: api.get("/api/v1/operations/queues"),
        lambda all_: all_["items"][0]["pollers"] > 0,
    )
    by_name = {(one["queue"], one["takes"]): one for one in found["items"]}
    assert by_name["lifecycle", "workflow"]["last_poll_at"] > OCCURRED
    assert ("bulk", "activity") in by_name
    assert [one["workflow_id"] for one in found["steady"]] == [
        "messages/dispatch",
        "messages/intake",
    ]
