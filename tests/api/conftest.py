"""The real application on a database of the test and on the real Temporal server."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import SecretStr
from temporalio.testing import WorkflowEnvironment

from api.app import create_app
from database.base import Sessions, connect
from database.revisions import newest_revisions
from settings import Settings
from supervisor.postgres import PostgresServer
from tests.conftest import end_all_processes, new_database
from tests.patience import seen
from worker import lifecycle_worker

KEY = "crm_key_of_the_tests"
SIGNING_KEY = "signing-key-of-the-tests"
OCCURRED = "2026-01-05T10:00:00Z"

Json = dict[str, Any]
MakeCustomer = Callable[..., Awaitable[UUID]]
Report = Callable[..., Awaitable[Json]]


@pytest.fixture(scope="package")
def database_url(postgres: PostgresServer) -> Generator[str]:
    """One database for all tests of the API: each test makes its own customers."""
    with new_database(postgres) as url:
        engine = sa.create_engine(url)
        with engine.begin() as connection:  # as a migration would have left it
            connection.execute(sa.text("CREATE TABLE alembic_version (version_num text)"))
            [head] = newest_revisions()
            connection.execute(
                sa.text("INSERT INTO alembic_version VALUES (:head)"), {"head": head}
            )
        engine.dispose()
        yield url


@pytest.fixture(scope="package")
async def sessions(database_url: str) -> AsyncGenerator[Sessions]:
    sessions = connect(database_url)
    yield sessions
    await sessions.kw["bind"].dispose()


@pytest.fixture(scope="package")
def settings(
    tmp_path_factory: pytest.TempPathFactory, database_url: str, temporal: WorkflowEnvironment
) -> Settings:
    data_dir = tmp_path_factory.mktemp("api")
    secrets = data_dir / "secrets"
    secrets.mkdir()
    (secrets / "api_key").write_text(KEY + "\n")
    (secrets / "signing_key").write_text(SIGNING_KEY + "\n")
    return Settings(
        data_dir=data_dir,
        database_url=SecretStr(database_url),
        temporal_address=temporal.client.service_client.config.target_host,
        database_pool_size=5,
    )


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def calling(app: FastAPI, key: str | None = KEY) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://crm", headers=headers, timeout=30
    ) as client:
        yield client


@pytest.fixture(scope="package")
async def app(settings: Settings, temporal: WorkflowEnvironment) -> AsyncGenerator[FastAPI]:
    async with running_app(settings) as app:
        yield app
    await end_all_processes(temporal.client)


@pytest.fixture(scope="package")
async def api(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    async with calling(app) as client:
        yield client


@pytest.fixture(scope="package")
async def stranger(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """A caller without a key."""
    async with calling(app, None) as client:
        yield client


@pytest.fixture(scope="package")
async def worker(
    app: FastAPI, temporal: WorkflowEnvironment, sessions: Sessions
) -> AsyncGenerator[None]:
    """Processes run; no message is sent."""
    async with lifecycle_worker(temporal.client, sessions):
        yield


@pytest.fixture
def make_customer(api: httpx2.AsyncClient) -> MakeCustomer:
    async def make(**fields: Any) -> UUID:
        body = {"name": "Ada Lovelace", "email": f"ada-{uuid4().hex[:8]}@example.com", **fields}
        answer = await api.post("/api/v1/customers", json=body)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    return make


@pytest.fixture
async def customer(make_customer: MakeCustomer) -> UUID:
    """A customer with consent to marketing."""
    consent = {"channel": "email", "purpose": "marketing", "source": "form"}
    return await make_customer(consents=[consent])


@pytest.fixture
def report(api: httpx2.AsyncClient) -> Report:
    """Report an event that must be accepted."""

    async def post(kind: str, **fields: Any) -> Json:
        body = {"kind": kind, "event_id": uuid4().hex, "occurred_at": OCCURRED, **fields}
        answer = await api.post("/api/v1/events", json=body)
        assert answer.status_code == 202, answer.text
        accepted: Json = answer.json()
        return accepted

    return post


@pytest.fixture
async def order_id(report: Report, customer: UUID) -> str:
    """An order that was placed; its process waits for a worker."""
    placed = await report("order_placed", customer_id=str(customer), order_reference=uuid4().hex)
    return str(placed["order_id"])


async def eventually(
    read: Callable[[], Awaitable[httpx2.Response]],
    holds: Callable[[Any], bool],
    seconds: float = 15,
) -> Any:
    """What `read` answers once it holds: a process needs a moment."""

    def answers(response: httpx2.Response) -> bool:
        return response.status_code == 200 and holds(response.json())

    response = await seen(read, answers, seconds)
    assert answers(response), f"it did not come: {response.text}"
    return response.json()


async def count(sessions: Sessions, table: type[Any], **filters: Any) -> int:
    async with sessions() as session:
        statement = sa.select(sa.func.count()).select_from(table).filter_by(**filters)
        return await session.scalar(statement) or 0


def assert_problem(response: httpx2.Response, status: int, code: str) -> Json:
    """Every error has this shape and these headers."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: Json = response.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert problem["type"] == f"/problems/{code}"
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["title"]
    assert problem["detail"]
    assert problem["remedy"]
    assert "Traceback" not in response.text
    return problem
