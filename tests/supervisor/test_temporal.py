"""The embedded Temporal server is set up as we rely on, and keeps what it acknowledged."""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from settings import Settings
from supervisor.plan import make_plan
from supervisor.ports import free_port
from supervisor.temporal import SEARCH_ATTRIBUTES, TemporalServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    data_dir = tmp_path_factory.mktemp("temporal")
    with TemporalServer(data_dir, free_port(), free_port()) as server:
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


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who listens")
def test_only_this_machine_reaches_any_of_its_ports(server: TemporalServer) -> None:
    listening = set(addresses_of(server))
    assert {port for _, port in listening} >= {server.port, server.ui_port}
    assert {address for address, _ in listening} == {LOOPBACK}


LOOPBACK = "0100007F"  # as the kernel writes 127.0.0.1
LISTEN = "0A"


def addresses_of(server: TemporalServer) -> Iterator[tuple[str, int]]:
    """Where it listens."""
    own = {str(link.readlink()) for link in Path(f"/proc/{server.pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and f"socket:[{fields[9]}]" in own:
                address, _, port = fields[1].rpartition(":")
                yield address, int(port, 16)


def test_what_is_acknowledged_is_in_a_log_written_ahead(server: TemporalServer) -> None:
    with sqlite3.connect(server.database) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_a_setting_says_whether_a_power_cut_is_survived_too(
    synchronous: str, tmp_path: Path
) -> None:
    plan = make_plan(Settings(data_dir=tmp_path, temporal_sqlite_synchronous=synchronous))
    assert plan.temporal is not None
    assert f"synchronous={synchronous}" in plan.temporal._command()
