"""run.json is private, complete or absent, and read back as it was written."""

import stat
from pathlib import Path

import pytest

from supervisor.errors import Refused
from supervisor.run_file import (
    Addresses,
    RunFile,
    read_run_file,
    run_file_path,
    running_instance,
    write_run_file,
)


def test_it_is_read_back_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    api = "http://127.0.0.1:8000"
    run = RunFile(
        addresses=Addresses(
            api=api,
            docs=f"{api}/docs",
            inbox=f"{api}/inbox",
            temporal="127.0.0.1:7233",
            temporal_ui="http://127.0.0.1:8233",
            smtp="127.0.0.1:1025",
        ),
        pids={"supervisor": 1},
        data_dir=tmp_path,
        api_key_file=tmp_path / "secrets" / "api_key",
        database_url="postgresql+psycopg://",
        temporal_namespace="default",
    )
    write_run_file(run)
    assert read_run_file(tmp_path) == run
    assert stat.S_IMODE(run_file_path(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_without_one_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="make up"):
        running_instance(tmp_path)


def test_a_file_that_is_something_else_is_one_line(tmp_path: Path) -> None:
    run_file_path(tmp_path).write_text("{}")
    with pytest.raises(Refused, match="remove it"):
        read_run_file(tmp_path)
