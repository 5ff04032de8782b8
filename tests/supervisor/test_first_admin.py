"""Who can sign in to a new installation, and to the demo's."""

from pathlib import Path

import psycopg
import pytest

from domain.passwords import is_right
from domain.tasks import Role
from replay.staff import demo_staff
from supervisor.errors import Refused
from supervisor.first_admin import first_admin
from supervisor.run_file import Addresses, RunFile


def _staff(url: str) -> dict[str, tuple[str, str, str, bool]]:
    with psycopg.connect(url.replace("+psycopg", "", 1)) as connection:
        rows = connection.execute(
            "SELECT id, email, role, password_hash, one_time_password FROM staff"
        )
        return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}


def test_the_first_start_makes_one_administrator_and_no_second(database_url: str) -> None:
    made = first_admin(database_url, "boss@example.com")
    assert made is not None
    assert first_admin(database_url, "boss@example.com") is None
    ((email, role, known, for_once),) = _staff(database_url).values()
    assert (email, role, for_once) == ("boss@example.com", "admin", True)
    assert is_right(made.password, known)
    assert made.password not in known
    with psycopg.connect(database_url.replace("+psycopg", "", 1)) as connection:
        since = "SELECT now() - password_set_at < interval '1 minute' FROM staff"
        assert connection.execute(since).fetchone() == (True,)


def test_the_demo_has_one_of_each_role_and_a_password_of_its_own(
    database_url: str, tmp_path: Path
) -> None:
    nowhere = dict.fromkeys(("api", "docs", "inbox", "temporal", "temporal_ui", "smtp"), "")
    run = RunFile(
        addresses=Addresses(**nowhere),
        pids={},
        data_dir=tmp_path,
        api_key_file=tmp_path / "key",
        database_url=database_url,
        temporal_namespace="default",
    )
    first = demo_staff(run)
    assert demo_staff(run) == first
    people = _staff(database_url)
    assert {role for _, role, _, _ in people.values()} == set(Role)
    assert all(is_right(first.password, known) for _, _, known, _ in people.values())
    assert not any(for_once for *_, for_once in people.values())
    assert first.file.stat().st_mode & 0o777 == 0o600
    assert demo_staff(run.model_copy(update={"data_dir": tmp_path / "other"})) != first
    with psycopg.connect(database_url.replace("+psycopg", "", 1)) as connection:
        connection.execute("UPDATE staff SET id = 'real-' || role")
    with pytest.raises(Refused, match="staff works here already"):
        demo_staff(run)
