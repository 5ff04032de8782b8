"""Debian's exim as a smart host between us and a sink: a mail server that is not ours.

The installed one is run, or else apt's package is unpacked into a directory; nothing is installed
and no right is needed. Its configuration, queue and logs are in that directory, it listens on
loopback, asks no DNS, and hands everything to the sink.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supervisor.ports import is_answered
from tests.messaging.post_office import free_port

# With libraries that only it needs, and one that tells it of the user that its package makes.
_PACKAGES = ("exim4-daemon-light", "libidn12", "libgnutls-dane0", "libnsl2", "libnss-wrapper")
_ITS_USER = "Debian-exim"
_PATIENCE = 30.0  # seconds

_CONFIGURATION = """
primary_hostname = exim.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
exim_path = {directory}/exim4
spool_directory = {directory}/spool
log_file_path = {directory}/spool/%slog
pid_file_path = {directory}/spool/exim.pid
exim_user = {user}
exim_group = {group}
deliver_drop_privilege
host_lookup =
keep_environment = *
tls_advertise_hosts =
acl_smtp_rcpt = accept_all
begin acl
accept_all:
  accept
begin routers
to_the_sink:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = sink
begin transports
sink:
  driver = smtp
  port = {sink}
  allow_localhost
"""


class NotHere(Exception):
    """No exim can be run here; says why."""


@contextmanager
def exim(sink: int) -> Iterator[int]:
    """The port of an exim that hands everything over to port `sink`. Raises NotHere."""
    directory = Path(tempfile.mkdtemp(prefix="perennial-exim-"))
    directory.chmod(0o755)
    try:
        environment = _put_in(directory)
        port = free_port()
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        configuration = directory / "exim.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                directory=directory, port=port, sink=sink, user=user.pw_uid, group=user.pw_gid
            )
        )
        (directory / "spool").mkdir(mode=0o755)
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(directory / "spool", user.pw_uid, user.pw_gid)
            as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with (
            (directory / "output").open("wb") as output,
            subprocess.Popen(
                [directory / "exim4", "-C", configuration, "-bdf", "-q2s"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                **as_user,
            ) as server,
        ):
            try:
                _wait_for(port, server, directory)
                yield port
            finally:
                server.terminate()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _put_in(directory: Path) -> Mapping[str, str]:
    """A copy of exim, and the environment it needs. A copy: the installed one is set-uid root."""
    installed = shutil.which("exim4", path=f"{os.environ['PATH']}:/usr/sbin")
    if installed is not None:
        shutil.copyfile(installed, directory / "exim4")
        (directory / "exim4").chmod(0o755)
        return {"PATH": os.environ["PATH"]}
    _fetch(directory)
    shutil.copyfile(directory / "usr" / "sbin" / "exim4", directory / "exim4")
    (directory / "exim4").chmod(0o755)
    [library] = (directory / "usr" / "lib").glob("*/libnss_wrapper.so")
    for name, line in (
        ("passwd", f"{_ITS_USER}:x:65534:65534::/:/bin/false\n"),
        ("group", f"{_ITS_USER}:x:65534:\n"),
    ):
        (directory / name).write_text(Path("/etc", name).read_text() + line)
    return {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": str(library.parent),
        "LD_PRELOAD": str(library),
        "NSS_WRAPPER_PASSWD": str(directory / "passwd"),
        "NSS_WRAPPER_GROUP": str(directory / "group"),
    }


def _fetch(directory: Path) -> None:
    """Download the packages with the machine's own apt, and unpack them."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise NotHere("exim4 is not installed, and there is no apt to fetch it with")
    try:
        download = ["apt-get", "download", "-qq", *_PACKAGES]
        subprocess.run(download, cwd=directory, capture_output=True, check=True, timeout=20)
        for package in directory.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, directory], check=True, timeout=20)
    except (subprocess.SubprocessError, OSError) as problem:
        raise NotHere(f"exim4 is not installed, and apt can't fetch it: {problem}") from problem


def _wait_for(port: int, server: "subprocess.Popen[bytes]", directory: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_answered("127.0.0.1", port):
        if server.poll() is not None or time.monotonic() > deadline:
            said = (directory / "output").read_text(errors="replace")
            with contextlib.suppress(OSError):
                said += (directory / "spool" / "paniclog").read_text(errors="replace")
            raise NotHere(f"exim doesn't start here: {said.strip()[-500:]}")
        time.sleep(0.05)
