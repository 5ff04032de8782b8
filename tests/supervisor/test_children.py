"""Children write to logs that stay small, and run as nobody who is root."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor.accounts import user_for_postgres
from supervisor.children import bound_log, start_child

_PATIENT_WRITER = """
import sys, time
while True:
    print("x" * 1000, flush=True)
    time.sleep(0.001)
"""


def test_a_long_log_is_moved_aside_under_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.children._LOG_LIMIT", 20_000)
    log = tmp_path / "a.log"
    child = start_child([sys.executable, "-c", _PATIENT_WRITER], log=log)
    try:
        deadline = time.monotonic() + 10
        while not (tmp_path / "a.log.1").exists():
            assert time.monotonic() < deadline
            bound_log(log)
        while b"x" not in log.read_bytes():  # it goes on writing, from the start of the file
            assert time.monotonic() < deadline
        assert b"\0" not in log.read_bytes()
    finally:
        child.kill()
        child.wait()


_PRIORITIES = """
import os, pathlib
session = pathlib.Path("/proc/self/autogroup")
print(os.nice(0), session.read_text().split()[-1] if session.exists() else 10)
"""


def test_a_child_that_yields_does_so_to_other_sessions_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = start_child([sys.executable, "-c", _PRIORITIES], log=log, niceness=10)
    assert child.wait(10) == 0
    assert log.read_text().split() == [str(min(os.nice(0) + 10, 19)), "10"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
def test_as_root_a_closed_directory_is_reached_by_one_capability(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "inside").mkdir()
    user = user_for_postgres(tmp_path / "absent", [closed / "inside"])
    assert user is not None
    assert user.uid != 0
    log = tmp_path / "log"
    child = start_child(["/bin/sh", "-c", f"id -u; ls -d {closed}/inside"], log=log, user=user)
    assert child.wait(10) == 0
    assert log.read_text().split() == [str(user.uid), f"{closed}/inside"]
    denied = subprocess.run(
        ["ls", "-d", f"{closed}/inside"],
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        check=False,
    )
    assert denied.returncode != 0
