"""`crm.py doctor`: what this machine and a running installation look like, each with its remedy."""

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

import temporal_runtime
from domain.processes import LIFECYCLE_QUEUE
from settings import Settings
from supervisor import postgres, refusals, temporal
from supervisor.errors import Refused
from supervisor.lock import holder_pid
from supervisor.run_file import RunFile, read_run_file
from supervisor.service import ROOT, answers_ok

_ENOUGH_DISK = 2 * 2**30
_RETENTION = timedelta(days=90)


@dataclass(frozen=True)
class Finding:
    """One line of the report. `remedy` is empty when all is well; only `matters` fails the run."""

    what: str
    remedy: str = ""
    matters: bool = True

    @property
    def well(self) -> bool:
        return not self.remedy


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything that can be checked without changing anything."""
    data_dir = settings.data_dir.absolute()
    yield _python()
    yield _disk(data_dir)
    yield _refusal(
        f"PostgreSQL {_version(postgres.binaries_version)} for {data_dir}",
        lambda: refusals.check_postgres(data_dir),
    )
    yield _refusal(f"Temporal {_version(temporal.binary_version)}", lambda: None)
    yield _refusal("the API's exposure", lambda: refusals.check_exposure(settings))
    yield _refusal("key files", lambda: refusals.check_key_files(settings))
    supervisor = holder_pid(data_dir)
    if supervisor is None:
        wanted = refusals.ports(settings)
        numbers = ", ".join(str(port.number) for port in wanted)
        yield _refusal(f"ports {numbers} free", lambda: refusals.check_ports(wanted))
        yield Finding("no instance running", "start one with `make up`", matters=False)
        return
    yield Finding(f"an instance is running (pid {supervisor})")
    run = read_run_file(data_dir)
    if run is None:
        yield Finding("it is not ready", f"wait, or read {data_dir / 'logs'}")
        return
    yield from _examine_instance(settings, run)


def _examine_instance(settings: Settings, run: RunFile) -> Iterator[Finding]:
    for name, pid in run.pids.items():
        alive = Path(f"/proc/{pid}").exists() or not Path("/proc").exists()
        remedy = f"it is being restarted; read {run.data_dir / 'logs' / name}.log"
        yield Finding(f"{name} (pid {pid})", "" if alive else remedy)
    host, _, port = run.addresses.api.removeprefix("http://").rpartition(":")
    ready = answers_ok(host.strip("[]"), int(port), "/readyz")
    log = run.data_dir / "logs" / "api.log"
    yield Finding(f"API at {run.addresses.api}", "" if ready else f"not ready: read {log}")
    yield _schema(run.database_url)
    yield from asyncio.run(_examine_temporal(settings, run))


def _python() -> Finding:
    enough = sys.version_info >= (3, 11)
    remedy = "" if enough else "install Python 3.11 or newer and run `make clean demo`"
    return Finding(f"Python {sys.version.split()[0]}", remedy)


def _disk(data_dir: Path) -> Finding:
    there = next(path for path in (data_dir, *data_dir.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    remedy = "" if free >= _ENOUGH_DISK else "make room, or set CRM_DATA_DIR to a larger disk"
    return Finding(f"{free / 2**30:.0f} GiB free for {data_dir}", remedy)


def _version(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except (Refused, OSError):
        return "(missing)"


def _refusal(what: str, check: Callable[[], None]) -> Finding:
    if "(missing)" in what:
        return Finding(what, "install it with `make clean up`")
    try:
        check()
    except Refused as refusal:
        return Finding(what, str(refusal))
    return Finding(what)


def _schema(database_url: str) -> Finding:
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    engine = sqlalchemy.create_engine(database_url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            found = set(MigrationContext.configure(connection).get_current_heads())
    except sqlalchemy.exc.OperationalError:
        return Finding("PostgreSQL", "it does not answer: read the postgres log")
    finally:
        engine.dispose()
    current = found == set(scripts.get_heads())
    remedy = "" if current else "stop it and start it again: the migrations run at start"
    return Finding(f"PostgreSQL, schema at {', '.join(sorted(found)) or 'nothing'}", remedy)


async def _examine_temporal(settings: Settings, run: RunFile) -> list[Finding]:
    address = run.addresses.temporal
    try:
        async with asyncio.timeout(5):
            client = await _connect(settings, run)
            kept = await _retention(client)
            polled = await _is_polled(client, LIFECYCLE_QUEUE)
    except (RuntimeError, RPCError, TimeoutError):
        return [Finding(f"Temporal at {address}", "it does not answer: read the temporal log")]
    enough = kept >= _RETENTION
    return [
        Finding(f"Temporal at {address}"),
        Finding(
            f"closed histories kept {kept.days} days",
            "" if enough else "set the namespace's retention to 90 days or more",
            matters=False,
        ),
        Finding(
            f"a worker polls queue {LIFECYCLE_QUEUE}",
            "" if polled else f"no process moves: read {run.data_dir / 'logs' / 'worker.log'}",
        ),
    ]


async def _connect(settings: Settings, run: RunFile) -> Client:
    return await temporal_runtime.connect(
        run.addresses.temporal,
        run.temporal_namespace,
        **settings.temporal_options,
    )


async def _retention(client: Client) -> timedelta:
    request = DescribeNamespaceRequest(namespace=client.namespace)
    answer = await client.workflow_service.describe_namespace(request)
    return answer.config.workflow_execution_retention_ttl.ToTimedelta()


async def _is_polled(client: Client, queue: str) -> bool:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    return bool((await client.workflow_service.describe_task_queue(request)).pollers)
