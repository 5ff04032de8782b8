"""The one way to reach Temporal: worker, API, command line and tests all use these."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from temporalio.client import Client, TLSConfig
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from domain.lifecycle import LifecycleInput
from domain.processes import LIFECYCLE_QUEUE, Fact, ProcessKind, lifecycle_workflow_id
from workflows.visibility import search_attributes


async def connect(
    address: str,
    namespace: str = "default",
    *,
    api_key: str | None = None,
    tls: bool = False,
    tls_files: Mapping[str, Path | None] | None = None,
    metrics_port: int = 0,
) -> Client:
    """A client with the product's data converter.

    `tls_files` names the PEM files `ca`, `cert` and `key` of a cluster with mutual TLS; an API key
    (Temporal Cloud) implies TLS. With `metrics_port` the client, and the workers that use it, show
    their Prometheus metrics on that port of the loopback interface.
    Raises RuntimeError when the server can't be reached.
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
        runtime=_runtime(metrics_port) if metrics_port else None,
    )


@functools.cache
def _runtime(metrics_port: int) -> Runtime:
    """One for the process: the port can be bound once."""
    metrics = PrometheusConfig(bind_address=f"127.0.0.1:{metrics_port}")
    return Runtime(telemetry=TelemetryConfig(metrics=metrics))


async def tell_lifecycle(
    client: Client, customer_id: UUID, signal: str, fact: Fact, *, known: bool = True
) -> None:
    """Signal the customer's lifecycle; the first fact starts it. A repeat is recognised there.

    `known`: it has probably begun. A plain signal costs a third less than signal-with-start.
    """
    workflow_id = lifecycle_workflow_id(customer_id)
    try:
        if known:
            return await client.get_workflow_handle(workflow_id).signal(signal, fact)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    await client.start_workflow(
        "CustomerLifecycle",
        LifecycleInput(customer_id=customer_id),
        id=workflow_id,
        task_queue=LIFECYCLE_QUEUE,
        start_signal=signal,
        start_signal_args=[fact],
        search_attributes=search_attributes(customer_id, ProcessKind.LIFECYCLE, "new"),
        static_summary="The relationship with one customer, from first contact on",
    )


async def tell_process(
    client: Client, workflow_id: str, signal: str, fact: Fact | dict[str, Any]
) -> bool:
    """Signal a stage process; False when it isn't running (any more)."""
    try:
        await client.get_workflow_handle(workflow_id).signal(signal, fact)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
