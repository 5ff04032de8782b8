"""Somebody else's cluster is reached by settings alone: TLS, our certificate, an API key."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

import temporal_runtime
from settings import Settings


class Certificates:
    """An authority's, and what it has signed: the server's and a client's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._openssl("req", "-x509", "-subj", "/CN=Authority", *self._new("ca"))
        for name in ("server", "client"):
            (directory / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
            self._openssl("req", "-subj", f"/CN={name}", *self._new(name, ".csr"))
            signed_by = ("-CA", self["ca.pem"], "-CAkey", self["ca.key"], "-CAcreateserial")
            words = ("-in", self[f"{name}.csr"], "-out", self[f"{name}.pem"])
            self._openssl("x509", "-req", *words, *signed_by, "-extfile", self[f"{name}.ext"])

    def __getitem__(self, name: str) -> Path:
        return self._directory / name

    def _new(self, name: str, kind: str = ".pem") -> list[str | Path]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return [*curve, "-keyout", self[f"{name}.key"], "-out", self[f"{name}{kind}"]]

    def _openssl(self, *words: str | Path) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make certificates with")
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(temporal: WorkflowEnvironment) -> str:
    """The address of the Temporal server of the tests, which speaks no TLS."""
    return temporal.client.service_client.config.target_host


@asynccontextmanager
async def behind_tls(
    server: str, certificates: Certificates, *, mutual: bool = False
) -> AsyncIterator[str]:
    """Where TLS ends before the server; `mutual`: only for clients of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates["ca.pem"])
    context.load_cert_chain(certificates["server.pem"], certificates["server.key"])
    context.set_alpn_protocols(["h2"])
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    host, _, port = server.rpartition(":")
    tasks: set[asyncio.Task[Any] | None] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    listener.close()
    for task in filter(None, tasks):
        task.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def connected(address: str, **settings: Any) -> Client:
    """As worker, API and commands connect by these settings."""
    return await temporal_runtime.connect(address, **Settings(**settings).temporal_options)


async def test_a_cluster_with_mutual_tls_wants_our_certificate(
    server: str, certificates: Certificates
) -> None:
    authority = {"temporal_tls_ca_file": certificates["ca.pem"]}
    ours = {
        "temporal_tls_cert_file": certificates["client.pem"],
        "temporal_tls_key_file": certificates["client.key"],
    }
    async with behind_tls(server, certificates, mutual=True) as address:
        client = await connected(address, **authority, **ours)
        assert await client.service_client.check_health()
        with pytest.raises(RuntimeError):
            await connected(address, **authority)


async def test_a_server_whose_authority_is_unknown_is_not_trusted(
    server: str, certificates: Certificates
) -> None:
    async with behind_tls(server, certificates) as address:
        assert await connected(address, temporal_tls_ca_file=certificates["ca.pem"])
        with pytest.raises(RuntimeError):
            await connected(address, temporal_tls=True)
        with pytest.raises(RuntimeError):
            await connected(address)


async def test_an_api_key_is_sent_and_only_over_tls(
    server: str, certificates: Certificates
) -> None:
    key = SecretStr("a-key-of-temporal-cloud")
    async with behind_tls(server, certificates) as address:
        client = await connected(
            address, temporal_api_key=key, temporal_tls_ca_file=certificates["ca.pem"]
        )
    assert client.service_client.config.api_key == key.get_secret_value()
    with pytest.raises(RuntimeError):
        await connected(server, temporal_api_key=key)
