"""Cases, tasks and processes: commands that are obeyed, and commands that are refused."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from database.base import Sessions
from database.events import Event
from database.messages import Message
from database.support import StaffText
from tests.api.conftest import Json, MakeCustomer, assert_problem, count, eventually

pytestmark = pytest.mark.usefixtures("worker")


async def _open_case(api: httpx2.AsyncClient, customer: UUID, **fields: Any) -> str:
    body = {"customer_id": str(customer), "text": "It came loose.", **fields}
    answer = await api.post("/api/v1/cases", json=body)
    assert answer.status_code == 202, answer.text
    case_id: str = answer.json()["case_id"]
    await eventually(lambda: api.get(f"/api/v1/cases/{case_id}"), lambda case: bool(case))
    return case_id


async def _in_state(api: httpx2.AsyncClient, case_id: str, state: str) -> Json:
    case: Json = await eventually(
        lambda: api.get(f"/api/v1/cases/{case_id}"), lambda case: case["state"] == state
    )
    return case


async def test_a_case_from_question_to_resolution(
    api: httpx2.AsyncClient, customer: UUID, sessions: Sessions
) -> None:
    case_id = await _open_case(api, customer, priority="high", kind="question")
    path = f"/api/v1/cases/{case_id}"
    case = (await api.get(path)).json()
    assert case["text"] == "It came loose."
    assert case["first_response_due"]
    assert "respond" in case["allowed_actions"]
    assigned = await api.post(f"{path}/assign", json={"owner": "agent-7"})
    assert assigned.json()["accepted"] is True
    await eventually(lambda: api.get(path), lambda shown: shown["owner"] == "agent-7")
    not_theirs = await api.post(f"{path}/release", json={"owner": "agent-8"})
    assert assert_problem(not_theirs, 409, "not_allowed_now")["detail"] == "agent-7 has the case"
    assert (await api.post(f"{path}/release", json={"owner": "agent-7"})).status_code == 200
    await eventually(lambda: api.get(path), lambda shown: shown["owner"] is None)
    await api.post(f"{path}/assign", json={"owner": "agent-7"})
    answer = {"text": "We send a new one.", "by": "agent-7"}
    key = {"Idempotency-Key": uuid4().hex}
    for _ in range(2):
        said = await api.post(f"{path}/respond", json=answer, headers=key)
        assert said.status_code == 200, said.text
    assert await count(sessions, StaffText, case_id=UUID(case_id)) == 1
    await _in_state(api, case_id, "in_progress")
    asked = await api.post(f"{path}/wait-for-customer", json={"text": "Which colour?"})
    assert asked.status_code == 200
    waiting = await _in_state(api, case_id, "waiting_for_customer")
    assert waiting["resolution_due"] is None
    raised = await api.post(f"{path}/escalate", json={"reason": "vip"})
    assert raised.status_code == 200
    solved = await api.post(f"{path}/resolve", json={"text": "Done.", "cause": "product"})
    assert solved.status_code == 200
    resolved = await _in_state(api, case_id, "resolved")
    assert resolved["cause"] == "product"
    assert resolved["owner"] == "agent-7"
    assert resolved["escalations"] == 1
    assert resolved["allowed_actions"] == ["reopen"]
    texts = [one["text"] for one in resolved["staff_texts"]]
    assert texts == ["We send a new one.", "Which colour?", "Done."]
    assert (await api.post(f"{path}/reopen", json={})).status_code == 200
    await _in_state(api, case_id, "in_progress")
    for query in ({"state": "in_progress"}, {"owner": "agent-7"}, {"customer_id": str(customer)}):
        listed = (await api.get("/api/v1/cases", params=query)).json()["items"]
        assert case_id in [one["id"] for one in listed]


async def test_a_refused_command_says_what_is_allowed_and_leaves_nothing(
    api: httpx2.AsyncClient, customer: UUID, sessions: Sessions
) -> None:
    case_id = await _open_case(api, customer)
    path = f"/api/v1/cases/{case_id}"
    await api.post(f"{path}/resolve", json={})
    await _in_state(api, case_id, "resolved")
    answer = await api.post(f"{path}/respond", json={"text": "Too late."})
    problem = assert_problem(answer, 409, "not_allowed_now")
    assert "reopen" in problem["allowed_actions"]
    assert await count(sessions, StaffText, case_id=UUID(case_id)) == 0
    answer = await api.post(f"/api/v1/cases/{uuid4()}/respond", json={"text": "Hello?"})
    assert_problem(answer, 404, "unknown_case")
    for wrong in ({}, {"text": ""}, {"text": "x", "by": "Ada Lovelace"}):
        assert_problem(await api.post(f"{path}/respond", json=wrong), 422, "invalid_request")


async def test_a_task_is_claimed_and_completed(api: httpx2.AsyncClient, customer: UUID) -> None:
    await _open_case(api, customer)
    mine = {"customer_id": str(customer), "state": "open"}
    tasks = await eventually(
        lambda: api.get("/api/v1/tasks", params=mine), lambda page: len(page["items"]) > 0
    )
    task = tasks["items"][0]
    assert task["outcomes"] == ["answered"]
    assert task["allowed_actions"] == ["claim", "complete"]
    assert task["overdue"] is False
    path = f"/api/v1/tasks/{task['id']}"
    claimed = await api.post(f"{path}/claim", json={"owner": "agent-1"})
    assert claimed.json()["state"] == "claimed"
    assert (await api.post(f"{path}/claim", json={"owner": "agent-1"})).status_code == 200
    other = await api.post(f"{path}/claim", json={"owner": "agent-2"})
    problem = assert_problem(other, 409, "not_allowed_now")
    assert "agent-1" in problem["detail"]
    assert problem["allowed_actions"] == ["release", "complete"]
    wrong = await api.post(f"{path}/complete", json={"outcome": "won"})
    problem = assert_problem(wrong, 422, "invalid_request")
    assert "answered" in problem["errors"][0]["detail"]
    done = await api.post(f"{path}/complete", json={"outcome": "answered", "by": "agent-1"})
    assert done.status_code == 200, done.text
    await eventually(lambda: api.get(path), lambda task: task["state"] == "done")
    again = await api.post(f"{path}/complete", json={"outcome": "answered"})
    assert_problem(again, 409, "not_allowed_now")
    assert_problem(await api.get(f"/api/v1/tasks/{uuid4()}"), 404, "not_found")
    for query in ({"role": "support_agent"}, {"overdue": "false"}, {"owner": "agent-1"}):
        answer = await api.get("/api/v1/tasks", params={**query, "limit": 200})
        assert task["id"] in [one["id"] for one in answer.json()["items"]]


async def test_a_claim_is_undone_by_whoever_has_the_task(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    await _open_case(api, customer)
    open_ones = {"customer_id": str(customer), "state": "open"}
    tasks = await eventually(
        lambda: api.get("/api/v1/tasks", params=open_ones), lambda page: len(page["items"]) > 0
    )
    path = f"/api/v1/tasks/{tasks['items'][0]['id']}"
    mine = {"owner": "agent-1"}
    assert (await api.post(f"{path}/release", json=mine)).json()["state"] == "open"
    await api.post(f"{path}/claim", json=mine)
    theirs = await api.post(f"{path}/release", json={"owner": "agent-2"})
    assert "agent-1" in assert_problem(theirs, 409, "not_allowed_now")["detail"]
    for _ in range(2):
        released = (await api.post(f"{path}/release", json=mine)).json()
        assert (released["state"], released["owner"]) == ("open", None)
    await api.post(f"{path}/claim", json={"owner": "agent-2"})
    await api.post(f"{path}/complete", json={"outcome": "answered", "by": "agent-2"})
    await eventually(lambda: api.get(path), lambda task: task["state"] == "done")
    assert_problem(await api.post(f"{path}/release", json=mine), 409, "not_allowed_now")
    assert_problem(await api.post(f"/api/v1/tasks/{uuid4()}/release", json=mine), 404, "not_found")
    for wrong in ({}, {"owner": ""}, {"owner": "Ada Lovelace"}):
        assert_problem(await api.post(f"{path}/release", json=wrong), 422, "invalid_request")


async def test_words_are_seen_as_the_customer_would_before_they_are_said(
    api: httpx2.AsyncClient, make_customer: MakeCustomer, sessions: Sessions
) -> None:
    customer = await make_customer(name="Zoë <b>Ada</b>", email="words@example.com")
    case_id = await _open_case(api, customer)
    path = f"/api/v1/cases/{case_id}/previews"
    said = "Eat <script>alert(1)</script> & mail.\nأمل"
    shown = (await api.post(path, json={"text": said})).json()
    assert shown["template"] == "case_reply"
    assert shown["to"] == "words@example.com"
    assert said in shown["text"]
    assert "<script>" not in shown["html"]
    assert "CASE-" in shown["subject"]
    words = {"wait_for_customer": "case_waiting", "resolve": "case_resolved"}
    for action, template in words.items():
        shown = (await api.post(path, json={"action": action})).json()
        assert shown["template"] == template
    for wrong in ({}, {"action": "respond"}, {"action": "close"}, {"text": ""}):
        assert_problem(await api.post(path, json=wrong), 422, "invalid_request")
    unknown = await api.post(f"/api/v1/cases/{uuid4()}/previews", json={"text": "Hello?"})
    assert_problem(unknown, 404, "unknown_case")
    assert await count(sessions, StaffText, case_id=UUID(case_id)) == 0


async def test_a_note_is_for_colleagues_only(
    api: httpx2.AsyncClient, customer: UUID, sessions: Sessions
) -> None:
    case_id = await _open_case(api, customer)
    path = f"/api/v1/cases/{case_id}"
    before = await count(sessions, Message, customer_id=customer)
    key = {"Idempotency-Key": uuid4().hex}
    note = {"text": "Called the carrier.", "by": "agent-7"}
    for _ in range(2):
        kept = await api.post(f"{path}/notes", json=note, headers=key)
        assert kept.status_code == 201, kept.text
    [text] = (await api.get(path)).json()["staff_texts"]
    assert (text["text"], text["by"], text["internal"]) == ("Called the carrier.", "agent-7", True)
    assert await count(sessions, Message, customer_id=customer) == before
    assert_problem(await api.post(f"{path}/notes", json={}), 422, "invalid_request")
    nowhere = await api.post(f"/api/v1/cases/{uuid4()}/notes", json=note)
    assert_problem(nowhere, 404, "unknown_case")


async def test_a_command_the_server_lets_go_of_is_given_again(
    api: httpx2.AsyncClient, customer: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does when the update meets a workflow task that has to be repeated."""
    case_id = await _open_case(api, customer)
    ids: list[str] = []
    really = WorkflowHandle.execute_update

    async def let_go_twice(self: Any, *given: Any, id: str, **more: Any) -> Any:
        ids.append(id)
        if len(ids) < 3:
            raise RPCError("the update was lost", RPCStatusCode.FAILED_PRECONDITION, b"")
        return await really(self, *given, id=id, **more)

    monkeypatch.setattr(WorkflowHandle, "execute_update", let_go_twice)
    answer = await api.post(f"/api/v1/cases/{case_id}/assign", json={"owner": "agent-7"})
    assert answer.status_code == 200, answer.text
    assert len(ids) == 3
    assert len(set(ids)) == 1, "one command"
    await eventually(
        lambda: api.get(f"/api/v1/cases/{case_id}"), lambda case: case["owner"] == "agent-7"
    )


async def test_a_process_is_shown_paused_resumed_and_stopped(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    case_id = await _open_case(api, customer)
    path = f"/api/v1/processes/case/{case_id}"
    process = (await api.get(path)).json()
    assert process["state"] == "running"
    assert process["waiting_for"]
    assert process["next_timer_at"]
    assert process["temporal_url"].endswith(f"/namespaces/default/workflows/case%2F{case_id}")
    command = f"{path}/commands"
    paused = await api.post(command, json={"command": "pause", "reason": "holiday"})
    assert paused.status_code == 200, paused.text
    await eventually(lambda: api.get(path), lambda one: one["state"] == "paused")
    refused = await api.post(command, json={"command": "pause"})
    problem = assert_problem(refused, 409, "not_allowed_now")
    assert "resume" in problem["allowed_actions"]
    assert (await api.post(command, json={"command": "resume"})).status_code == 200
    assert (await api.post(command, json={"command": "stop"})).status_code == 200
    await eventually(lambda: api.get(path), lambda one: one["state"] == "stopped")
    ended = await api.post(command, json={"command": "pause"})
    assert assert_problem(ended, 409, "not_allowed_now")["allowed_actions"] == []
    unknown = f"/api/v1/processes/case/{uuid4()}"
    assert_problem(await api.get(unknown), 404, "not_found")
    answer = await api.post(f"{unknown}/commands", json={"command": "stop"})
    assert_problem(answer, 404, "not_found")
    answer = await api.post(command, json={"command": "explode"})
    assert_problem(answer, 422, "invalid_request")
    for query in (
        {"kind": "support", "state": "stopped"},
        {"customer_id": str(customer)},
        {"overdue": "false"},
    ):
        listed = await api.get("/api/v1/processes", params={**query, "limit": 200})
        assert f"case/{case_id}" in [one["workflow_id"] for one in listed.json()["items"]]


async def test_a_process_that_takes_its_time_says_nothing_about_temporal(
    api: httpx2.AsyncClient, temporal: WorkflowEnvironment
) -> None:
    workflow_id = f"case/{uuid4()}"  # of no worker: it judges nothing
    await temporal.client.start_workflow("SupportCase", id=workflow_id, task_queue="nobody")
    command = f"/api/v1/processes/{workflow_id}/commands"
    for _ in range(2):  # the second without waiting for it
        busy = await api.post(command, json={"command": "stop"})
        assert_problem(busy, 503, "process_busy")
        assert int(busy.headers["retry-after"]) > 0
        assert (await api.get("/api/v1/schedules")).status_code == 200
    others = f"/api/v1/processes/case/{uuid4()}/commands"
    await asyncio.sleep(1.1)  # commands rest for a second
    answer = await api.post(others, json={"command": "stop"})
    assert_problem(answer, 404, "not_found")


async def test_processes_are_started_by_hand(api: httpx2.AsyncClient, customer: UUID) -> None:
    for kind, fields, workflow in (
        ("marketing", {"campaign": "spring"}, f"customer/{customer}"),
        ("retention", {"cause": "contract-ends"}, f"customer/{customer}"),
        ("support", {"text": "By phone."}, "case/"),
    ):
        body = {"kind": kind, "customer_id": str(customer), **fields}
        key = {"Idempotency-Key": uuid4().hex}
        answer = await api.post("/api/v1/processes", json=body, headers=key)
        assert answer.status_code == 202, answer.text
        assert answer.json()["workflow_id"].startswith(workflow)
        again = await api.post("/api/v1/processes", json=body, headers=key)
        assert again.json() == answer.json()
    await eventually(
        lambda: api.get("/api/v1/processes", params={"customer_id": str(customer)}),
        lambda page: (
            {"marketing", "support", "lifecycle"} <= {one["kind"] for one in page["items"]}
        ),
    )


async def test_a_follow_up_is_started_for_what_was_done(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    case_id = await _open_case(api, customer)
    body = {"kind": "follow_up", "customer_id": str(customer), "case_id": case_id}
    key = {"Idempotency-Key": uuid4().hex}
    early = await api.post("/api/v1/processes", json=body, headers=key)
    assert_problem(early, 409, "conflict")
    await api.post(f"/api/v1/cases/{case_id}/resolve", json={})
    await _in_state(api, case_id, "resolved")
    answer = await api.post("/api/v1/processes", json=body, headers=key)
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]
    await eventually(lambda: api.get(path), lambda one: one["kind"] == "follow_up")
    missing = {**body, "case_id": str(uuid4())}
    answer = await api.post(
        "/api/v1/processes", json=missing, headers={"Idempotency-Key": uuid4().hex}
    )
    assert_problem(answer, 404, "unknown_case")


async def _has_process(api: httpx2.AsyncClient, customer: UUID, kind: str) -> None:
    await eventually(
        lambda: api.get("/api/v1/processes", params={"customer_id": str(customer)}),
        lambda page: kind in {one["kind"] for one in page["items"]},
    )


async def test_many_are_started_each_judged_by_itself(
    api: httpx2.AsyncClient, customer: UUID, make_customer: MakeCustomer, sessions: Sessions
) -> None:
    consent = [{"channel": "sms", "purpose": "marketing", "source": "form"}]
    silent, unreachable = await make_customer(), await make_customer(consents=consent)
    second = await make_customer(consents=[{**consent[0], "channel": "email"}])
    items: list[Json] = [
        {"kind": "marketing", "customer_id": str(one), "campaign": "spring"}
        for one in (customer, silent, unreachable, uuid4(), second)
    ]
    items += [{"kind": "delivery"}, {"kind": "support", "customer_id": str(silent), "text": "We."}]
    items += [{"kind": "retention", "customer_id": str(customer), "cause": "ends"}] * 2
    path, key = "/api/v1/processes/bulk", {"Idempotency-Key": uuid4().hex}

    tried = await api.post(
        path, json={"items": items, "dry_run": True}, headers={"Idempotency-Key": uuid4().hex}
    )
    assert tried.status_code == 200, tried.text
    assert await count(sessions, Event, customer_id=customer) == 0, "nothing has started"
    statuses = [202, 409, 409, 404, 202, 422, 202, 422, 422]
    assert [one["status"] for one in tried.json()["items"]] == statuses
    assert tried.json()["items"][0]["started"] is None

    done = (await api.post(path, json={"items": items}, headers=key)).json()
    assert [one["status"] for one in done["items"]] == statuses
    assert (done["started"], done["refused"]) == (3, 6)
    reasons = [one["problem"]["detail"] for one in done["items"] if one["problem"]]
    assert "no consent" in reasons[0]
    assert "no address for sms" in reasons[1]
    again = await api.post(path, json={"items": items}, headers=key)
    assert again.json() == done
    other = await api.post(
        path, json={"items": items[:1]}, headers={"Idempotency-Key": uuid4().hex}
    )
    assert "running already" in other.json()["items"][0]["problem"]["detail"]
    assert other.json()["items"][0]["problem"]["code"] == "cannot_start"
    single = await api.post(
        "/api/v1/processes", json=items[0], headers={"Idempotency-Key": uuid4().hex}
    )
    assert_problem(single, 409, "cannot_start")
    for one in (customer, second):
        assert await count(sessions, Event, customer_id=one, kind="lead_received") == 1
        await _has_process(api, one, "marketing")


async def test_a_bulk_start_is_refused_as_a_whole_when_it_can_not_be_read(
    api: httpx2.AsyncClient, customer: UUID
) -> None:
    path = "/api/v1/processes/bulk"
    one = {"kind": "marketing", "customer_id": str(customer)}
    assert_problem(await api.post(path, json={"items": [one]}), 400, "idempotency_key_required")
    faults: list[Json] = [{"items": []}, {"items": [one] * 201}, {"items": [one], "dry_run": 1}, {}]
    for wrong in faults:
        answer = await api.post(path, json=wrong, headers={"Idempotency-Key": uuid4().hex})
        assert_problem(answer, 422, "invalid_request")
