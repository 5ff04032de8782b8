"""What runs in an installation with these settings, in which order, and with which environment."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from settings import Settings
from supervisor.existing import existing_database_url
from supervisor.migrations import Migrations
from supervisor.ports import is_answered
from supervisor.postgres import PostgresServer
from supervisor.run_file import Addresses
from supervisor.secret_files import ensure_secret, new_api_key, new_signing_key
from supervisor.service import Program, Service, answers_ok
from supervisor.temporal import TemporalServer

# Where all share the processors, what others are told waits for what is being told to us: a worker
# that is behind catches up, a caller whose report isn't taken in time gives it up.
WORKER_NICENESS = 10


@dataclass
class Plan:
    """The services by the order they depend on each other in; the reverse is how they stop."""

    settings: Settings
    data_dir: Path
    database_url: str
    postgres: PostgresServer | None
    temporal: TemporalServer | None
    migrations: Migrations
    environment: dict[str, str]
    inbox: Program | None = None
    mail_in: Program | None = None
    workers: list[Program] = field(default_factory=list)
    api: Program | None = None

    @property
    def services(self) -> list[Service]:
        ours = [self.postgres, self.temporal, self.inbox, *self.workers, self.mail_in, self.api]
        return [service for service in ours if service is not None]

    @property
    def addresses(self) -> Addresses:
        settings = self.settings
        host = settings.api_host if settings.api_host not in ("0.0.0.0", "::") else "127.0.0.1"
        api = f"http://{host}:{settings.api_port}"
        return Addresses(
            api=api,
            console=f"{api}/console",
            docs=f"{api}/docs",
            inbox=f"{api}/inbox",
            temporal=self.environment["CRM_TEMPORAL_ADDRESS"],
            temporal_ui=self.environment["CRM_TEMPORAL_UI_URL"],
            smtp=f"{settings.smtp_host or '127.0.0.1'}:{settings.smtp_port}",
        )


def make_plan(settings: Settings) -> Plan:
    """Decide what to start. Reads and makes the secrets, starts nothing."""
    data_dir = settings.data_dir.absolute()
    postgres = None if settings.database_url else PostgresServer(data_dir)
    temporal = None
    if not settings.temporal_address:
        temporal = TemporalServer(
            data_dir,
            settings.temporal_port,
            settings.temporal_ui_port,
            settings.temporal_sqlite_synchronous,
        )
    url = postgres.url if postgres else existing_database_url(settings)
    plan = Plan(settings, data_dir, url, postgres, temporal, Migrations(data_dir, url), {})
    plan.environment = plan.migrations.environment = _environment(settings, plan)
    if settings.api_key_file is None:
        ensure_secret(data_dir / "secrets" / "api_key", new_api_key)
    if settings.signing_key_file is None:
        ensure_secret(data_dir / "secrets" / "signing_key", new_signing_key)
    if not settings.smtp_host:
        plan.inbox = _inbox(plan)
    plan.workers = [_worker(plan, number) for number in range(1, settings.workers + 1)]
    if settings.inbound_port:
        plan.mail_in = _mail_in(plan)
    plan.api = _api(plan)
    return plan


def _environment(settings: Settings, plan: Plan) -> dict[str, str]:
    """Ours, what `.env` set, and the addresses of what we start."""
    explicit = {
        f"CRM_{name.upper()}": _as_text(getattr(settings, name))
        for name in settings.model_fields_set
    }
    return {
        **os.environ,
        **explicit,
        "PYTHONUNBUFFERED": "1",
        "CRM_DATA_DIR": str(plan.data_dir),
        "CRM_DATABASE_URL": plan.database_url,
        "CRM_TEMPORAL_ADDRESS": plan.temporal.address
        if plan.temporal
        else settings.temporal_address,
        "CRM_TEMPORAL_UI_URL": settings.temporal_ui_url
        or (plan.temporal.ui_url if plan.temporal else ""),
    }


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value.absolute())
    return "" if value is None else str(value)


def _inbox(plan: Plan) -> Program:
    return _program(
        plan,
        "inbox",
        ["-m", "messaging.inbox"],
        {},
        lambda: is_answered("127.0.0.1", plan.settings.smtp_port),
    )


def _mail_in(plan: Plan) -> Program:
    return _program(
        plan,
        "mail-in",
        ["receiver.py"],
        {},
        lambda: is_answered("127.0.0.1", plan.settings.inbound_port),
    )


def _worker(plan: Plan, number: int) -> Program:
    name = "worker" if number == 1 else f"worker-{number}"
    ready = plan.data_dir / f"{name}.ready"
    own = {"CRM_READY_FILE": str(ready)}
    if plan.settings.metrics_port:
        own["CRM_METRICS_PORT"] = str(plan.settings.metrics_port + number - 1)
    program = _program(plan, name, ["worker.py"], own, ready.exists, niceness=WORKER_NICENESS)
    program.before_start = lambda: ready.unlink(missing_ok=True)
    return program


def _api(plan: Plan) -> Program:
    settings = plan.settings
    host = plan.addresses.api.removeprefix("http://").rpartition(":")[0].strip("[]")
    return _program(
        plan,
        "api",
        [
            *("-m", "uvicorn", "--factory", "api.app:create_app", "--no-server-header"),
            *("--host", settings.api_host, "--port", str(settings.api_port)),
            *("--log-level", "warning", "--timeout-graceful-shutdown", "2"),
        ],
        {},
        lambda: answers_ok(host, settings.api_port, "/readyz"),
    )


def _program(
    plan: Plan,
    name: str,
    arguments: list[str],
    own: Mapping[str, str],
    answers: Callable[[], bool],
    niceness: int = 0,
) -> Program:
    return Program(
        name,
        [sys.executable, *arguments],
        log=plan.data_dir / "logs" / f"{name}.log",
        environment={**plan.environment, **own},
        answers=answers,
        niceness=niceness,
    )
