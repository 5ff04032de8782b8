"""A real PostgreSQL and a real Temporal server that skips time; an empty database for each test."""

import asyncio
import functools
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import settings
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from temporalio.client import Client, WorkflowExecution
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkippingConfig, WorkflowEnvironment

from database.base import Sessions, connect
from database.tables import Base
from domain import passwords
from supervisor.postgres import PostgresServer
from supervisor.temporal import DYNAMIC_CONFIG, SEARCH_ATTRIBUTES, binary
from tests.messaging.http_office import ResendOffice, TwilioOffice
from tests.messaging.post_office import PostOffice, free_port

_TEMPLATE = "perennial"
_ONLY_HERE = {
    "frontend.WorkflowTimeSkippingEnabled": "true",
    "limit.historyCount.suggestContinueAsNew": "300",  # of events; 4,096 take a test too long
}

# In one message, and so one transaction. The role keeps no order of tables.
_EMPTY = "; ".join(
    (
        "SET LOCAL session_replication_role = replica",
        *(f"DELETE FROM {table}" for table in Base.metadata.tables),
    )
)
_END_ALL_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-histories", metavar="DIR", help="see tests/record_histories.py")
    parser.addoption("--full-size", action="store_true", help="of tests/crash: see `make crash`")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "history: its processes are kept in tests/histories and replayed ever after"
    )
    # Other examples each time. What a busy machine takes for one says nothing.
    settings.register_profile("suite", max_examples=50, deadline=None)
    settings.load_profile("suite")
    config.addinivalue_line("markers", "own_database: it changes the schema, or grows big")


@pytest.fixture(scope="session", autouse=True)
def usual_hashing() -> Generator[PasswordHash]:
    """How the product hashes passwords: slowly, by design. In the tests it does so quickly."""
    usual = passwords.HASHING
    passwords.HASHING = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
    yield usual
    passwords.HASHING = usual


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer]:
    # Not pytest's own directory: PostgreSQL runs as another user when the tests run as root.
    directory = Path(tempfile.mkdtemp(prefix="perennial-tests-"))
    directory.chmod(0o711)
    # The race of opt-outs and claims is judged by the order of their commits.
    options = {"fsync": "off", "track_commit_timestamp": "on"}
    with PostgresServer(directory, settings=options) as server:
        engine = sa.create_engine(server.url)
        Base.metadata.create_all(engine)
        engine.dispose()
        yield server
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def new_database(postgres: PostgresServer, template: str = _TEMPLATE) -> Iterator[str]:
    """The address of an empty database, by default with the current schema; dropped at the end."""
    name = f"test_{uuid4().hex}"
    admin = postgres.admin_url.replace("postgresql+psycopg://", "postgresql://")
    owner = "perennial"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
    yield postgres.url.replace(f"/{_TEMPLATE}?", f"/{name}?")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def used_again(postgres: PostgresServer) -> Generator[tuple[str, psycopg.Connection]]:
    """A database that is emptied after each test, and the superuser's way into it."""
    with new_database(postgres) as url:
        name = sa.make_url(url).database
        admin = postgres.admin_url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(admin, dbname=name, autocommit=True) as connection:
            yield url, connection


@pytest.fixture
def database_url(request: pytest.FixtureRequest, postgres: PostgresServer) -> Generator[str]:
    """Of an empty database: to make one takes a hundred times as long as to empty it."""
    if request.node.get_closest_marker("own_database"):
        with new_database(postgres) as url:
            yield url
        return
    url, admin = request.getfixturevalue("used_again")
    yield url
    admin.execute(_END_ALL_OTHERS)  # a dispatcher that was killed may still hold its locks
    admin.execute(_EMPTY)


# An engine keeps the statements it has compiled: a new one for each test makes all of them anew.
_sessions_of = functools.cache(connect)


@pytest.fixture
async def sessions(database_url: str) -> AsyncGenerator[Sessions]:
    sessions = _sessions_of(database_url)
    yield sessions
    await sessions.kw["bind"].dispose()


@pytest.fixture(scope="session")
async def temporal() -> AsyncGenerator[WorkflowEnvironment]:
    environment = await WorkflowEnvironment.start_time_skipping_v2(
        # Time moves only where a test says so: a child that inherited the skipping of its parent
        # would run to its end at once.
        ts_config=TimeSkippingConfig(enabled=False, disable_propagation=True),
        dev_server_existing_path=str(binary()),
        dev_server_extra_args=[
            *_options("--dynamic-config-value", DYNAMIC_CONFIG),
            *_options("--dynamic-config-value", _ONLY_HERE),
            *_options("--search-attribute", SEARCH_ATTRIBUTES),
        ],
        data_converter=pydantic_data_converter,
    )
    async with environment:
        yield environment


def _options(name: str, values: Mapping[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in (name, f"{key}={value}")]


@pytest.fixture
async def only_my_processes(temporal: WorkflowEnvironment) -> AsyncGenerator[None]:
    """Ends what a test left running: its database goes with it."""
    yield
    await end_all_processes(temporal.client)


async def end_all_processes(client: Client) -> None:
    async def end(execution: WorkflowExecution) -> None:
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        try:
            await handle.terminate("the tests are over")
        except RPCError as error:  # it may have ended since the list was made
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    running = [one async for one in client.list_workflows('ExecutionStatus="Running"')]
    await asyncio.gather(*map(end, running))


@pytest.fixture
async def post_office(tmp_path: Path) -> AsyncGenerator[PostOffice]:
    office = PostOffice(tmp_path / "inbox.sqlite", free_port())
    await office.open()
    yield office
    await office.close()


@pytest.fixture
async def resend() -> AsyncGenerator[ResendOffice]:
    office = ResendOffice()
    await office.open()
    yield office
    await office.shut()


@pytest.fixture
async def twilio() -> AsyncGenerator[TwilioOffice]:
    office = TwilioOffice()
    await office.open()
    yield office
    await office.shut()


# What takes long begins early, the many that are short fill up the end. Whoever runs the crash test
# has to wait with what pytest-xdist gives him next, two files at a time: one of the domain, which
# takes no time.
_ORDER = (
    *("crash", "domain", "activities", "console", "replay", "supervisor", "workflows", "chaos"),
    *("benchmarks", "api", "messaging"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [*_ORDER, item.path.parent.name].index(item.path.parent.name))
