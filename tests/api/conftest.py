"""The real application on a database of the test and on the real Temporal server."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from temporalio.testing import WorkflowEnvironment

from api.app import create_app
from settings import Settings

KEY = "crm_key_of_the_tests"

MakeCustomer = Callable[..., Awaitable[UUID]]


@pytest.fixture
def settings(tmp_path: Path, database_url: str, temporal: WorkflowEnvironment) -> Settings:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "api_key").write_text(KEY + "\n")
    (secrets / "signing_key").write_text("signing-key-of-the-tests\n")
    return Settings(
        data_dir=tmp_path,
        database_url=SecretStr(database_url),
        temporal_address=temporal.client.service_client.config.target_host,
        database_pool_size=5,
    )


@pytest.fixture
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """A caller without a key."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://crm") as client:
        yield client


@pytest.fixture
async def api(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://crm", headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        yield client


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
