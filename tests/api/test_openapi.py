"""The OpenAPI document is complete and true."""

import threading
import time
from collections.abc import Generator
from typing import Any

import httpx2
import hypothesis
import pytest
import requests
import schemathesis
import uvicorn
from schemathesis import checks
from schemathesis.core.result import Ok

from api.app import create_app
from api.errors import PROBLEM_JSON
from settings import Settings
from supervisor.ports import free_port
from tests.api.conftest import KEY, Json


@pytest.fixture
async def document(api: httpx2.AsyncClient) -> Json:
    answer: Json = (await api.get("/openapi.json")).json()
    return answer


def _operations(document: Json) -> list[tuple[str, str, Json]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def test_every_operation_is_named_and_explained(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for _, _, operation in _operations(document)]
    assert len(names) == len(set(names))
    assert {"customers_list", "event_report", "order_place", "case_resolve"} <= set(names)
    for path, method, operation in _operations(document):
        assert operation["summary"], (path, method)
        assert operation["description"], (path, method)
        assert operation["tags"], (path, method)


async def test_every_operation_tells_its_errors(document: Json) -> None:
    for path, method, operation in _operations(document):
        if not path.startswith("/api/v1/"):
            continue
        assert {"401", "400", "422", "500", "503"} <= set(operation["responses"]), (path, method)
        if "requestBody" in operation:
            assert {"413", "415"} <= set(operation["responses"]), (path, method)
        for status, response in operation["responses"].items():
            if not status.startswith(("2", "3")):
                name = response["$ref"].rpartition("/")[2]
                problem = document["components"]["responses"][name]
                assert PROBLEM_JSON in problem["content"]


async def test_every_body_and_answer_has_an_example(document: Json) -> None:
    for path, method, operation in _operations(document):
        if not path.startswith("/api/v1/"):
            continue
        for content in operation.get("requestBody", {"content": {}})["content"].values():
            assert content.get("example") or content.get("examples"), (path, method)
        for status, response in operation["responses"].items():
            if status.startswith("2") and status != "204":
                assert response["content"]["application/json"]["example"], (path, method)


async def test_the_examples_are_understood(document: Json, api: httpx2.AsyncClient) -> None:
    """What the document shows gets past validation: the thing is there, or is not known."""
    for path, method, operation in _operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        values = [one["value"] for one in body.get("examples", {}).values()] or [body["example"]]
        kind = "delivery" if path.endswith("/policies/{kind}") else "sweep"
        known = {"kind": kind, "name": "sweep", "reference": "C-1001", "template": "win_back"}
        address = path.format_map(_Filled(known, number="1", claim_id="free_delivery"))
        for value in values:
            headers = {"Idempotency-Key": f"example {path}".replace(" ", "-")}
            if method == "patch":
                headers["If-Match"] = "*"
            answer = await api.request(method, address, json=value, headers=headers)
            assert answer.status_code not in (400, 415, 422, 500), (path, value, answer.text)


class _Filled(dict[str, str]):
    def __missing__(self, name: str) -> str:
        if name == "workflow_id":
            return "case/1"
        return "0197b7c2-8d3e-7a51-9c64-2f1f4b8f2a10"


@pytest.fixture
def served(settings: Settings) -> Generator[str]:
    """The application behind a real server: the generator has no event loop of ours."""
    port = free_port()
    config = uvicorn.Config(create_app(settings), port=port, log_level="critical", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


# What fits a schema may still be refused for its words (a phone number, a zone), so that accepting
# every valid body is no check here; refusing every invalid one is.
checks.load_all_checks()
_CHECKS = (
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
)
# 413: what is wrong may also be too long to be read.
_REFUSALS = ["400", "401", "404", "409", "412", "413", "415", "422", "428"]
_BOUNDED = hypothesis.settings(
    max_examples=2,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


def test_generated_requests_find_no_fault(served: str, document: Json) -> None:
    """A few requests of every operation, valid and invalid, each answered as documented."""
    refusals = {"negative_data_rejection": {"expected-statuses": _REFUSALS}}
    config = schemathesis.Config.from_dict({"checks": refusals})
    whole = schemathesis.openapi.from_dict(document, config=config)
    schema = whole.include(path_regex="^/api/v1/")
    headers = {"Authorization": f"Bearer {KEY}"}
    tried = 0
    with requests.Session() as session:
        for found in schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            for mode in schemathesis.GenerationMode:

                @_BOUNDED
                @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
                def request_and_check(case: schemathesis.Case[Any]) -> None:
                    nonlocal tried
                    tried += 1
                    response = case.call(
                        base_url=served, headers=headers, session=session, timeout=60
                    )
                    case.validate_response(response, checks=list(_CHECKS), headers=headers)

                request_and_check()
    assert tried > 150
