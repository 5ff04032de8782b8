"""Everything that can be known to stop a start, checked before anything is started or written."""

import ipaddress
import os
import time
from pathlib import Path
from typing import NamedTuple

from settings import Settings
from supervisor.accounts import user_for_postgres
from supervisor.errors import Refused
from supervisor.lock import not_writable
from supervisor.ports import holder, is_free
from supervisor.postgres import binaries, check_version


class Port(NamedTuple):
    """A port we are going to listen on, and the variable that moves it."""

    what: str
    host: str
    number: int
    variable: str


def ports(settings: Settings) -> list[Port]:
    wanted = [Port("the API", settings.api_host, settings.api_port, "CRM_API_PORT")]
    if not settings.temporal_address:
        ui = settings.temporal_ui_port
        wanted.append(Port("Temporal", "127.0.0.1", settings.temporal_port, "CRM_TEMPORAL_PORT"))
        wanted.append(Port("Temporal's web UI", "127.0.0.1", ui, "CRM_TEMPORAL_UI_PORT"))
    if not settings.smtp_host:
        wanted.append(Port("the mail inbox", "127.0.0.1", settings.smtp_port, "CRM_SMTP_PORT"))
    if settings.inbound_port:
        port = settings.inbound_port
        wanted.append(Port("mail that comes back", "127.0.0.1", port, "CRM_INBOUND_PORT"))
    return wanted


def check_ports(wanted: list[Port], patience: float = 0.0) -> None:
    """Refuse a port that is taken or wanted twice; `patience` is for children that are dying."""
    seen: dict[int, Port] = {}
    for port in wanted:
        if (other := seen.setdefault(port.number, port)) is not port:
            raise Refused(
                f"port {port.number} is wanted by both {other.what} and {port.what}: "
                f"set {port.variable} to another one"
            )
    deadline = time.monotonic() + patience
    for port in wanted:
        while not is_free(port.host, port.number):
            if time.monotonic() > deadline:
                by = holder(port.number) or "another process"
                raise Refused(
                    f"port {port.number} for {port.what} is taken by {by}: "
                    f"stop it or set {port.variable} to a free port"
                )
            time.sleep(0.1)


def check_exposure(settings: Settings) -> None:
    """Beyond this machine only with a key somebody chose to hand out."""
    if not _is_loopback(settings.api_host) and settings.api_key_file is None:
        raise Refused(
            f"CRM_API_HOST={settings.api_host} opens the API to the network: set CRM_API_KEY_FILE "
            "to a file with the key callers must send, or leave the host at 127.0.0.1"
        )


def check_key_files(settings: Settings) -> None:
    """Files named by settings are the operator's: we read them and never make them."""
    for variable, path in (
        ("CRM_API_KEY_FILE", settings.api_key_file),
        ("CRM_SIGNING_KEY_FILE", settings.signing_key_file),
    ):
        if path is not None and not os.access(path, os.R_OK):
            raise Refused(f"{variable}={path} cannot be read: put the key there or unset it")


def check_postgres(data_dir: Path) -> None:
    """Version of the data that is there, and a user to run as."""
    check_version(data_dir / "postgres")
    user_for_postgres(data_dir / "postgres", [binaries()])


def make_data_dir(data_dir: Path) -> None:
    """0700, except for root: there the user PostgreSQL runs as has to pass through."""
    try:
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        (data_dir / "logs").mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise not_writable(data_dir, problem) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
