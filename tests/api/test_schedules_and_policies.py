"""What operators steer: the recurring work, and the figures that the processes live by."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from temporalio.testing import WorkflowEnvironment

from domain.policies import PolicyKind
from domain.sending import Account, Stream
from tests.api.conftest import Json, assert_problem, eventually

STREAM = Stream().model_dump(mode="json")
ACCOUNT = Account().model_dump(mode="json")


@pytest.fixture
async def sweep(temporal: WorkflowEnvironment) -> AsyncGenerator[str]:
    """A schedule whose work nobody does here."""
    name = f"sweep-{uuid4().hex[:8]}"
    handle = await temporal.client.create_schedule(
        f"schedule/{name}",
        Schedule(
            action=ScheduleActionStartWorkflow("Nothing", id=name, task_queue="nobody"),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))]),
        ),
    )
    yield name
    await handle.delete()


async def test_a_schedule_is_steered(api: httpx2.AsyncClient, sweep: str) -> None:
    path = f"/api/v1/schedules/{sweep}"
    listed = await eventually(
        lambda: api.get("/api/v1/schedules"),
        lambda all_: sweep in [one["name"] for one in all_["items"]],
    )
    shown = next(one for one in listed["items"] if one["name"] == sweep)
    assert shown["does"] == "Nothing"
    assert len(shown["next_runs"]) > 1
    paused = await api.post(f"{path}/pause", json={"reason": "migration"})
    assert paused.json()["paused"] is True
    assert "migration" in paused.json()["note"]
    assert (await api.post(f"{path}/resume", json={})).json()["paused"] is False
    assert (await api.post(f"{path}/trigger")).status_code == 202
    span = {"start_at": "2026-01-01T00:00:00Z", "end_at": "2026-01-01T03:00:00Z"}
    assert (await api.post(f"{path}/backfill", json=span)).status_code == 202


async def test_bad_backfills_and_unknown_schedules(api: httpx2.AsyncClient, sweep: str) -> None:
    path = f"/api/v1/schedules/{sweep}/backfill"
    for start, end in (
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2024-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2199-01-01T00:00:00Z", "2199-01-02T00:00:00Z"),
    ):
        answer = await api.post(path, json={"start_at": start, "end_at": end})
        assert_problem(answer, 422, "invalid_request")
    for verb in ("pause", "resume"):
        answer = await api.post(f"/api/v1/schedules/no-such/{verb}", json={})
        assert_problem(answer, 404, "not_found")
    assert_problem(await api.get("/api/v1/schedules/no-such"), 404, "not_found")
    assert_problem(await api.post("/api/v1/schedules/no-such/trigger"), 404, "not_found")


async def _document(api: httpx2.AsyncClient, kind: str) -> Json:
    answer = await api.get(f"/api/v1/policies/{kind}")
    document: Json = answer.json()["current"]["document"]
    return document


async def test_every_policy_can_be_read_changed_and_published(api: httpx2.AsyncClient) -> None:
    listed = (await api.get("/api/v1/policies")).json()["items"]
    assert [one["kind"] for one in listed] == list(PolicyKind)
    for kind in PolicyKind:
        document = await _document(api, kind)
        path = f"/api/v1/policies/{kind}"
        before = (await api.get(path)).json()["current"]["version"]
        published = await api.post(path, json={"document": document, "note": "as it was"})
        assert published.status_code == 201, published.text
        assert published.json()["version"] == before + 1
        assert published.json()["document"] == document
        shown = (await api.get(path)).json()
        assert shown["current"] == published.json()
        assert shown["versions"][-1]["version"] == 0
        top = {name for name in shown["fields"] if "." not in name}
        assert top == set(document)
        assert all(shown["fields"].values()), kind  # each says what it means


@pytest.mark.parametrize(
    ("kind", "change", "pointer"),
    [
        ("delivery", {"warn_before": "2 days"}, "/document/warn_before"),
        ("delivery", {"warn_before": 86400}, "/document/warn_before"),
        ("delivery", {"warn_before": "PT0S"}, "/document/warn_before"),
        ("delivery", {"warn_before": "P"}, "/document/warn_before"),
        ("delivery", {"warn_before": "-P1D"}, "/document/warn_before"),
        ("delivery", {"chases": "3"}, "/document/chases"),
        ("delivery", {"chases": True}, "/document/chases"),
        ("delivery", {"chases": 51}, "/document/chases"),
        ("delivery", {"warnbefore": "P1D"}, "/document/warnbefore"),
        ("support", {"resolution": {"high": "P1D"}}, "/document/resolution/low"),
        ("support", {"resolution": []}, "/document/resolution"),
        ("marketing", {"touches": ["order_late"]}, "/document/touches/0"),
        ("marketing", {"touches": []}, "/document/touches"),
        ("follow_up", {"scale": "smileys"}, "/document/scale"),
        ("retention", {"rhythm_factor": 1}, "/document/rhythm_factor"),
        ("contact", {"quiet": ["sms"]}, "/document/quiet"),
        ("contact", {"capped": ["fax/orders"]}, "/document/capped"),
        ("contact", {"quiet_from": "9pm"}, "/document/quiet_from"),
        ("contact", {"quiet_from": 0}, "/document/quiet_from"),
        ("contact", {"quiet_until": "24:00"}, "/document/quiet_until"),
        ("contact", {"at_most": 0}, "/document/at_most"),
        ("contact", {"within": "PT0S"}, "/document/within"),
        ("sending", {"marketing": {"email": ["smtp"]}}, "/document/marketing/sender"),
        ("sending", {"marketing": {"emails": ["smtp"]}}, "/document/marketing/emails"),
        ("sending", {"marketing": STREAM | {"email": []}}, "/document/marketing/email"),
        ("sending", {"marketing": STREAM | {"email": ["pigeon"]}}, "/document/marketing/email/0"),
        ("sending", {"service": STREAM | {"sms": ["smtp"]}}, "/document/service/sms"),
        ("sending", {"service": STREAM | {"sender": "a@b, c@d"}}, "/document/service/sender"),
        ("sending", {"smtp": {"per_second": 5}}, "/document/smtp/warm_up_from"),
        ("sending", {"smtp": ACCOUNT | {"per_second": "5"}}, "/document/smtp/per_second"),
        ("sending", {"smtp": 5}, "/document/smtp"),
        ("sending", {"fall_back_after": 30}, "/document/fall_back_after"),
        ("contact", {"quiet": ["sms/tracking"]}, "/document/quiet"),
        ("contact", {"double_opt_in": ["email/orders"]}, "/document/double_opt_in"),
        ("contact", {"double_opt_in": ["marketing"]}, "/document/double_opt_in"),
        ("contact", {"confirm_within": "PT0S"}, "/document/confirm_within"),
        ("contact", {"track": "yes"}, "/document/track"),
        ("contact", {"track": 1}, "/document/track"),
        ("delivery", {"chases": False}, "/document/chases"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused(
    api: httpx2.AsyncClient, kind: str, change: dict[str, Any], pointer: str
) -> None:
    document = {**await _document(api, kind), **change}
    answer = await api.post(f"/api/v1/policies/{kind}", json={"document": document})
    problem = assert_problem(answer, 422, "invalid_request")
    assert pointer in [error["pointer"] for error in problem["errors"]]


async def test_half_a_policy_is_refused(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/api/v1/policies/delivery", json={"document": {"chases": 1}})
    problem = assert_problem(answer, 422, "invalid_request")
    assert len(problem["errors"]) == 6
    assert_problem(await api.get("/api/v1/policies/nothing"), 422, "invalid_request")
