"""The embedded Temporal server is set up as we rely on, and keeps what it acknowledged."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from supervisor.ports import free_port
from supervisor.temporal import SEARCH_ATTRIBUTES, TemporalServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    with TemporalServer(tmp_path_factory.mktemp("temporal"), free_port()) as server:
        yield server


async def test_a_killed_server_starts_again_with_every_process(server: TemporalServer) -> None:
    client = await Client.connect(server.address)
    await client.start_workflow("Waiting", id="customer/1", task_queue="nobody")
    server.kill()
    server.start()
    client = await Client.connect(server.address)
    description = await client.get_workflow_handle("customer/1").describe()
    assert description.id == "customer/1"


async def test_closed_histories_are_kept_for_90_days(server: TemporalServer) -> None:
    client = await Client.connect(server.address)
    request = DescribeNamespaceRequest(namespace="default")
    answer = await client.workflow_service.describe_namespace(request)
    kept = answer.config.workflow_execution_retention_ttl.ToTimedelta()
    assert kept == timedelta(days=90)


async def test_search_attributes_are_registered(server: TemporalServer) -> None:
    client = await Client.connect(server.address)
    request = ListSearchAttributesRequest(namespace="default")
    answer = await client.operator_service.list_search_attributes(request)
    assert set(SEARCH_ATTRIBUTES) <= set(answer.custom_attributes)
