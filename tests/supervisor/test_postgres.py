"""The embedded PostgreSQL keeps what was committed, listens nowhere and refuses other data."""

import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from supervisor.errors import Refused
from supervisor.postgres import PostgresServer
from supervisor.service import ROOT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    # A path longer than a socket's may be, so that the short place is taken as well.
    with PostgresServer(tmp_path_factory.mktemp("x" * 100)) as server:
        yield server


def ask(server: PostgresServer, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_a_killed_server_starts_again_with_everything_committed(server: PostgresServer) -> None:
    ask(server, "create table kept as select 42 as answer")
    for _ in range(2):
        server.kill()
        assert not server.running
        server.start()
    assert ask(server, "select answer from kept") == [(42,)]


def test_it_listens_on_no_port_and_in_a_private_directory(server: PostgresServer) -> None:
    assert ask(server, "show listen_addresses") == [("",)]
    assert (server.socket_dir / ".s.PGSQL.5432").is_socket()
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700


def test_the_applications_role_is_no_superuser(server: PostgresServer) -> None:
    query = "select rolsuper, rolbypassrls from pg_roles where rolname = current_user"
    assert ask(server, query) == [(False, False)]


def test_text_is_unicode_whatever_the_locale_of_the_machine(server: PostgresServer) -> None:
    query = """
        select pg_encoding_to_char(encoding), datlocale from pg_database where datname = 'perennial'
    """
    assert ask(server, query) == [("UTF8", "C.UTF-8")]
    assert ask(server, "select upper('çã')") == [("ÇÃ",)]


def test_passwords_are_readable_by_their_owner_only(server: PostgresServer) -> None:
    secrets = server.data_dir / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o600}


def test_a_lost_application_password_is_set_anew(server: PostgresServer) -> None:
    server.stop()
    (server.data_dir / "secrets" / "postgres_password").unlink()
    server.start()
    assert ask(server, "select 1") == [(1,)]


def test_data_of_another_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    cluster = tmp_path / "postgres"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("12\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused, match=r"made by PostgreSQL 12 .* pg_dump"):
        PostgresServer(tmp_path).start()
    assert sorted(tmp_path.rglob("*")) == before


def test_it_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = """
        import os, pathlib, signal, sys
        from supervisor.postgres import PostgresServer
        server = PostgresServer(pathlib.Path(sys.argv[1]))
        server.start()
        print(server.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "shut down" in (tmp_path / "logs" / "postgres.log").read_text()  # not killed: stopped
