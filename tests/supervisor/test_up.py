"""An installation as a person meets it: ready, played, kept running, killed, back where it stood.

It is run by `crm.py demo`, which is `crm.py up` with lives that are played.
"""

import asyncio
import contextlib
import os
import re
import signal
import smtplib
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
from temporalio.client import Client

from supervisor.ports import free_port
from supervisor.run_file import read_run_file
from supervisor.service import answers_ok
from tests.installation import Installation, is_gone, wait_until
from tests.messaging.received import answer
from tests.patience import becomes

pytestmark = pytest.mark.timeout(500)

DOMAIN = "mail.example"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("up") / "var")
    mail_comes_back = {"CRM_INBOUND_DOMAIN": DOMAIN, "CRM_INBOUND_PORT": str(free_port())}
    installation.environment.update(mail_comes_back)
    installation.up("demo", "--customers", "6", "--day", "50ms")
    yield installation
    installation.down()


def test_ready_means_that_everything_answers(installation: Installation) -> None:
    run = installation.run_file
    assert {"supervisor", "postgres", "temporal", "inbox", "worker", "mail-in", "api"} <= set(
        run.pids
    )
    assert run.pids["supervisor"] == installation.process.pid
    assert installation.healthy
    assert answers_ok("127.0.0.1", int(run.addresses.temporal_ui.rsplit(":", 1)[1]), "/")
    assert run.api_key.startswith("crm_")
    examined = installation.command("doctor")
    assert examined.returncode == 0, examined.stdout + examined.stderr


def test_the_demo_says_what_happened_and_where_to_look(installation: Installation) -> None:
    wait_until(lambda: "go on until Ctrl-C" in installation.said, 300)
    told = installation.said.partition("What happened")[2]
    rows = dict(re.findall(r"^│ (.+?) +│ (.+?) +│$", told, re.M))
    assert set(rows) >= ROWS
    assert 1 <= sum(map(int, re.findall(r"\d+", rows["customers by stage"]))) <= 6
    assert int(rows["steps of all processes"]) > 0
    run = installation.run_file.addresses
    assert [a for a in (run.console, run.docs, run.temporal_ui, run.inbox) if a not in told] == []
    assert "sign in to the console as any of" in told
    assert installation.process.poll() is None
    assert installation.healthy


ROWS = {
    "customers by stage",
    "orders",
    "delivered late",
    "promises",
    "surveys",
    "messages",
    "steps of all processes",
    "played by people",
}


def test_a_mail_that_comes_is_kept_and_looked_at(installation: Installation) -> None:
    raw = answer().replace(b"\n", b"\r\n")
    with smtplib.SMTP("127.0.0.1", int(installation.environment["CRM_INBOUND_PORT"])) as client:
        for _ in range(2):  # a sender that did not hear our yes
            client.sendmail("ada@example.com", [f"hello@{DOMAIN}"], raw)
    url = installation.run_file.database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        kept = "SELECT source, raw, outcome FROM received_mails"

        def looked_at() -> bool:
            return all(outcome for _, _, outcome in connection.execute(kept))

        wait_until(looked_at, 30)
        [(source, stored, outcome)] = connection.execute(kept)
    assert (source, outcome) == ("smtp", "unknown_sender")
    assert stored == raw


def test_what_dies_is_started_again_and_the_rest_stays(installation: Installation) -> None:
    before = installation.run_file.pids
    killed = {"postgres", "temporal", "worker"}
    for name in killed:
        os.kill(before[name], signal.SIGKILL)

    def all_back() -> bool:
        now = installation.run_file.pids
        return all(now.get(name, before[name]) != before[name] for name in killed)

    wait_until(all_back, 60)
    wait_until(lambda: installation.healthy, 60)
    now = installation.run_file.pids
    assert {name for name in before if now[name] != before[name]} == killed


def test_a_second_one_on_the_servers_of_the_first_starts_none_of_its_own(
    installation: Installation, tmp_path: Path
) -> None:
    """Beside the first, with other ports and another data directory; it leaves them as they are."""
    first = installation.run_file
    second = Installation(tmp_path / "second")
    second.environment |= {
        "CRM_DATABASE_URL": first.database_url,
        "CRM_TEMPORAL_ADDRESS": first.addresses.temporal,
        "CRM_SMTP_HOST": "127.0.0.1",
        "CRM_SMTP_PORT": installation.environment["CRM_SMTP_PORT"],
        "CRM_SIGNING_KEY_FILE": str(first.data_dir / "secrets" / "signing_key"),
    }
    try:
        second.up()
        assert set(second.run_file.pids) == {"supervisor", "worker", "api"}
        assert "PostgreSQL: the existing server of CRM_DATABASE_URL" in second.said
        assert f"Temporal: the existing server at {first.addresses.temporal}" in second.said
        assert not {"postgres", "temporal"} & {each.name for each in second.data_dir.iterdir()}
        assert second.healthy
        with calling(second) as api, calling(installation) as beside:
            customer = make_customer(api)
            assert beside.get(f"/customers/{customer}").is_success
    finally:
        second.down()
    assert second.process.returncode == 0
    assert installation.run_file.pids == first.pids
    assert installation.healthy


def test_after_a_kill_of_everything_each_process_goes_on_where_it_stood(
    installation: Installation,
) -> None:
    with calling(installation) as api:
        lead, asker, buyer = customers = [make_customer(api) for _ in range(3)]
        report(api, "lead_received", customer_id=lead)
        report(api, "case_opened", customer_id=asker, case_kind="question", text="Which colour?")
        report(api, "order_placed", customer_id=buyer, order_reference="A-1001")
        wait_until(lambda: {step for step, _ in standing(api, customers).values()} == SETTLED, 120)
        stood = standing(api, customers)
        asyncio.run(nothing_under_way(installation, stood))
        stood = standing(api, customers)
    key = installation.run_file.api_key
    player = player_of(installation)
    installation.kill_everything()
    wait_until(lambda: is_gone(player), 10)  # nobody plays on against what is not there
    installation.up("demo", "--customers", "3", "--day", "10s")
    assert "was killed; going on from where it stood" in installation.said
    assert installation.run_file.api_key == key
    with calling(installation) as api:
        assert standing(api, customers) == stood
        [delivery] = (workflow_id for workflow_id in stood if workflow_id.startswith("delivery/"))
        report(api, "order_delivered", order_reference="A-1001")
        wait_until(lambda: process(api, delivery)["outcome"] == "delivered", 120)
    verified = installation.command("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


SETTLED = {
    "in marketing contact",
    "touch 1 sent",
    "in support",
    "opened, acknowledged",
    "an order is on its way",
    "placed, confirmed to the customer",
}


def standing(api: httpx2.Client, customers: list[str]) -> dict[str, tuple[str, str | None]]:
    """Of each process of these customers: its step, and when its timer rings."""
    listed = api.get("/processes?limit=200").raise_for_status().json()["items"]
    return {
        each["workflow_id"]: (each["step"], each["next_timer_at"])
        for each in listed
        if each["customer_id"] in customers
    }


async def nothing_under_way(installation: Installation, workflow_ids: Iterable[str]) -> None:
    """A step is written before its workflow task ends: killed between, its waiting begins anew."""
    run = installation.run_file
    client = await Client.connect(run.addresses.temporal, namespace=run.temporal_namespace)
    handles = [client.get_workflow_handle(workflow_id) for workflow_id in workflow_ids]

    async def under_way() -> int:
        found = [(await handle.describe()).raw_description for handle in handles]
        return sum(one.HasField("pending_workflow_task") for one in found)

    await becomes(under_way, 0)


def process(api: httpx2.Client, workflow_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/processes/{workflow_id}").raise_for_status().json()
    return found


def calling(installation: Installation) -> httpx2.Client:
    run = installation.run_file
    headers = {"Authorization": f"Bearer {run.api_key}"}
    return httpx2.Client(base_url=f"{run.addresses.api}/api/v1", headers=headers, timeout=30)


def make_customer(api: httpx2.Client) -> str:
    consent = {"channel": "email", "purpose": "marketing", "source": "form"}
    fields = {"name": "Ada Lovelace", "email": f"{uuid4().hex}@example.com", "consents": [consent]}
    made = api.post("/customers", json=fields).raise_for_status()
    return str(made.json()["id"])


def report(api: httpx2.Client, kind: str, **fields: str) -> None:
    now = datetime.now(UTC).isoformat()
    body = {"kind": kind, "event_id": uuid4().hex, "occurred_at": now, **fields}
    api.post("/events", json=body).raise_for_status()


def test_one_interrupt_ends_everything_in_time_while_lives_are_played(
    installation: Installation,
) -> None:
    pids = {*installation.run_file.pids.values(), player_of(installation)}
    assert "What happened" not in installation.said
    begun = time.monotonic()
    installation.process.send_signal(signal.SIGINT)
    assert installation.process.wait(20) == 0
    assert time.monotonic() - begun < 10
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert read_run_file(installation.data_dir) is None


def player_of(installation: Installation) -> int:
    """The supervisor's child that plays the lives."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (process / "cmdline").read_bytes().split(b"\0")
            if parent == installation.process.pid and b"--running" in words:
                return int(process.name)
    raise AssertionError("nobody plays")
