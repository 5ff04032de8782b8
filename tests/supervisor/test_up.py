"""`crm.py up` as a person meets it: ready, kept running, killed, back where it stood, stopped."""

import os
import signal
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from supervisor.ports import free_port
from supervisor.run_file import read_run_file
from supervisor.service import answers_ok
from tests.installation import Installation, wait_until
from tests.messaging.received import answer

pytestmark = pytest.mark.timeout(300)

DOMAIN = "mail.example"


def is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("up") / "var")
    mail_comes_back = {"CRM_INBOUND_DOMAIN": DOMAIN, "CRM_INBOUND_PORT": str(free_port())}
    installation.environment.update(mail_comes_back)
    installation.up()
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


def test_after_a_kill_of_everything_it_goes_on_where_it_stood(installation: Installation) -> None:
    url = installation.run_file.database_url.replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.execute("create table left_behind as select 1")
    key = installation.run_file.api_key
    installation.kill_everything()
    installation.up()
    assert "was killed; going on from where it stood" in installation.said
    assert installation.run_file.api_key == key
    with psycopg.connect(url) as connection:
        connection.execute("drop table left_behind")


def test_a_stop_ends_everything_in_time(installation: Installation) -> None:
    pids = installation.run_file.pids
    begun = time.monotonic()
    installation.process.send_signal(signal.SIGTERM)
    assert installation.process.wait(20) == 0
    assert time.monotonic() - begun < 10
    assert [name for name, pid in pids.items() if not is_gone(pid)] == []
    assert read_run_file(installation.data_dir) is None
