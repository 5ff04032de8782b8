"""What can't start says so in one line that names the remedy, before anything is touched."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from settings import Settings
from supervisor.errors import Refused
from supervisor.lock import exclusive, holder_pid
from supervisor.ports import free_port
from supervisor.postgres import binaries_version
from supervisor.service import ROOT
from supervisor.supervise import run


def settings(data_dir: Path, **others: Any) -> Settings:
    """Settings of an installation of its own, on ports nobody uses."""
    ports = ("api_port", "temporal_port", "temporal_ui_port", "smtp_port")
    return Settings(data_dir=data_dir, **{**{port: free_port() for port in ports}, **others})


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.mark.parametrize("name", ["api_port", "temporal_port", "temporal_ui_port", "smtp_port"])
def test_a_taken_port_is_named_with_its_holder_and_its_variable(
    name: str, taken: int, tmp_path: Path
) -> None:
    with pytest.raises(Refused) as refusal:
        run(settings(tmp_path, **{name: taken}))
    line = str(refusal.value)
    assert str(taken) in line
    assert f"(pid {os.getpid()})" in line
    assert f"CRM_{name.upper()}" in line
    assert not (tmp_path / "postgres").exists()


def test_the_port_for_mail_that_comes_back_is_one_of_them(taken: int, tmp_path: Path) -> None:
    inbound = {"inbound_port": taken, "inbound_domain": "mail.example"}
    with pytest.raises(Refused, match=rf"port {taken} .*CRM_INBOUND_PORT"):
        run(settings(tmp_path, **inbound))


def test_mail_is_taken_for_a_domain_only(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="CRM_INBOUND_PORT needs CRM_INBOUND_DOMAIN"):
        settings(tmp_path, inbound_port=2525)
    for domain in ("a b", "example", "-x@y.example", "x.example/"):
        with pytest.raises(ValidationError, match="inbound_domain"):
            settings(tmp_path, inbound_domain=domain)


@pytest.mark.parametrize(
    "sender", ["", "hello", "X <hello@exämple.com>", "a@b.c, d@e.f", "X <a@[>", "X\n<a@b.c>"]
)
def test_a_sender_whose_mail_no_server_would_take_is_refused(tmp_path: Path, sender: str) -> None:
    with pytest.raises(ValidationError, match="mail_from"):
        settings(tmp_path, mail_from=sender)


@pytest.mark.parametrize("domain", ["", "exämple.com", "a b", "x>.example", "x.example\n"])
def test_a_domain_that_no_message_id_can_have_is_refused(tmp_path: Path, domain: str) -> None:
    with pytest.raises(ValidationError, match="mail_domain"):
        settings(tmp_path, mail_domain=domain)


def test_a_password_goes_over_no_network_in_the_clear(tmp_path: Path) -> None:
    login = {"smtp_username": "us", "smtp_password": "secret"}
    for host in ("mail.example", "192.0.2.1", "localhost.example"):
        with pytest.raises(ValidationError, match="CRM_SMTP_STARTTLS=true") as refusal:
            settings(tmp_path, smtp_host=host, **login)
        assert f"to {host} in the clear" in str(refusal.value)
        for way in ("smtp_tls", "smtp_starttls"):
            assert settings(tmp_path, smtp_host=host, **login, **{way: True})
        assert settings(tmp_path, smtp_host=host)
    for host in ("", "localhost", "127.0.0.1", "127.1.2.3", "::1"):
        assert settings(tmp_path, smtp_host=host, **login)
    with pytest.raises(ValidationError, match="choose one of CRM_SMTP_TLS"):
        settings(tmp_path, smtp_tls=True, smtp_starttls=True)
    with pytest.raises(ValidationError, match="smtp_tls_ca_file"):
        settings(tmp_path, smtp_tls_ca_file=tmp_path / "missing")


def test_one_port_for_two_servers_is_refused(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(Refused, match="wanted by both the API and Temporal"):
        run(settings(tmp_path, api_port=port, temporal_port=port))


def test_a_data_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Refused, match=r"cannot write to the data directory .* CRM_DATA_DIR"):
        run(settings(file / "var"))  # fails for root as well, whom modes do not stop


def test_a_second_instance_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        assert holder_pid(tmp_path) == os.getpid()
        with pytest.raises(Refused, match=f"in use by the instance with pid {os.getpid()}"):
            run(settings(tmp_path))
    assert holder_pid(tmp_path) is None


def test_the_lock_of_a_killed_instance_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "supervisor.lock").write_text("4194304")
    with exclusive(tmp_path) as killed:
        assert killed == 4194304
    with exclusive(tmp_path) as killed:
        assert killed is None  # this one stopped cleanly


def test_data_of_another_postgresql_is_refused_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("12")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused, match="made by PostgreSQL 12"):
        run(settings(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_data_of_another_user_is_refused(tmp_path: Path) -> None:
    cluster = tmp_path / "postgres"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text(binaries_version().split(".")[0])
    if os.geteuid() != 0:
        pytest.skip("only root can make what belongs to somebody else; here: to root")
    with pytest.raises(Refused, match=r"belongs to root .*chown -R"):
        run(settings(tmp_path))


def test_the_network_sees_the_api_only_with_a_chosen_key(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="CRM_API_KEY_FILE"):
        run(settings(tmp_path / "new", api_host="0.0.0.0"))
    assert not (tmp_path / "new").exists()


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"CRM_API_KEY_FILE=.* cannot be read"):
        run(settings(tmp_path / "new", api_key_file=tmp_path / "missing"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"database_url": "postgresql://crm:x@127.0.0.1:1/crm"}, "PostgreSQL of CRM_DATABASE_URL"),
        ({"database_url": "mysql://crm"}, "must be postgresql://"),
        ({"temporal_address": "127.0.0.1:1"}, "Temporal at 127.0.0.1:1 cannot be reached"),
        ({"temporal_address": "somewhere"}, "not host:port"),
        ({"smtp_host": "127.0.0.1", "smtp_port": 1}, "the mail server at 127.0.0.1:1"),
    ],
)
def test_an_existing_server_that_is_away_is_named(
    others: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=words):
        run(settings(tmp_path, **others))


def test_the_command_line_prints_one_line_and_fails(taken: int, tmp_path: Path) -> None:
    environment = {**os.environ, "CRM_DATA_DIR": str(tmp_path), "CRM_API_PORT": str(taken)}
    command = [sys.executable, "crm.py", "up"]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("crm: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_setting_that_cannot_be_is_one_line_too(tmp_path: Path) -> None:
    environment = {**os.environ, "CRM_DATA_DIR": str(tmp_path), "CRM_API_PORT": "http"}
    command = [sys.executable, "crm.py", "schedules", "list"]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("crm: CRM_API_PORT")
