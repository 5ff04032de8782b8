"""The one way to reach Temporal: worker, API, command line and tests all use these."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from uuid import UUID

from temporalio.client import Client, TLSConfig
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

CUSTOMER_ID = SearchAttributeKey.for_keyword("CustomerId")
PROCESS = SearchAttributeKey.for_keyword("Process")
STAGE = SearchAttributeKey.for_keyword("Stage")
OWNER = SearchAttributeKey.for_keyword("Owner")
DUE_AT = SearchAttributeKey.for_datetime("DueAt")

# Imported once, outside the sandbox. None of them does work at import time.
_SHARED_WITH_WORKFLOWS = (
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "activities",
    "domain",
    "database",
    "messaging",
    "sqlalchemy",
)


def workflow_runner() -> SandboxedWorkflowRunner:
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*_SHARED_WITH_WORKFLOWS)
    return SandboxedWorkflowRunner(restrictions=restrictions)


def search_attributes(
    customer_id: UUID,
    process: str,
    stage: str,
    due_at: datetime | None = None,
) -> TypedSearchAttributes:
    """What an operator filters by. Ids and words only: they are stored in the clear."""
    pairs: list[SearchAttributePair[str] | SearchAttributePair[datetime]] = [
        SearchAttributePair(CUSTOMER_ID, str(customer_id)),
        SearchAttributePair(PROCESS, process),
        SearchAttributePair(STAGE, stage),
    ]
    if due_at is not None:
        pairs.append(SearchAttributePair(DUE_AT, due_at))
    return TypedSearchAttributes(pairs)


async def connect(
    address: str,
    namespace: str = "default",
    *,
    api_key: str | None = None,
    tls: bool = False,
    tls_files: Mapping[str, Path | None] | None = None,
) -> Client:
    """A client with the product's data converter.

    `tls_files` names the PEM files `ca`, `cert` and `key` of a cluster with mutual TLS; an API key
    (Temporal Cloud) implies TLS. Raises RuntimeError when the server can't be reached.
    """
    files = {name: path.read_bytes() for name, path in (tls_files or {}).items() if path}
    config: bool | TLSConfig = tls or api_key is not None
    if files:
        config = TLSConfig(
            server_root_ca_cert=files.get("ca"),
            client_cert=files.get("cert"),
            client_private_key=files.get("key"),
        )
    return await Client.connect(
        address,
        namespace=namespace,
        data_converter=pydantic_data_converter,
        api_key=api_key,
        tls=config,
    )
