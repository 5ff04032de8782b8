"""Completes the OpenAPI document: error answers, headers and examples for every operation."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from api.errors import EXPLAINED, PROBLEM_JSON, Code, ProblemBody
from api.routing import key_is_required

_DESCRIPTION = """\
Every error is `application/problem+json` (RFC 9457) with a `code`, a `remedy` in words and, for
invalid fields, JSON pointers. Lists are keyset pages: pass `next_cursor` back as `cursor` with the
same filters. A POST may carry an `Idempotency-Key`: a repeat within 72 hours gets the first answer
again. A program sends the API key; a member of staff the cookie of a session and, with what changes
something, its token as `X-CSRF-Token`: roles say who may do what. Dates of customers are business
time; a date needs its time zone.
"""
_EXAMPLE_ID = "0197b7c2-8d3e-7a51-9c64-2f1f4b8f2a10"
_BY_FORMAT = {
    "uuid": _EXAMPLE_ID,
    "date-time": "2026-11-21T10:00:00Z",
    "date": "2026-11-28",
    "duration": "P3D",
    "email": "ada@example.com",
}
_LONGEST_NESTING = 6
_ERRORS_OF_WEBHOOKS = (
    *(Code.INTERNAL, Code.DATABASE_AWAY, Code.MALFORMED_JSON, Code.INVALID_SIGNATURE),
    *(Code.PROVIDER_EVENTS_OFF, Code.TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE, Code.INVALID_REQUEST),
)

Schema = dict[str, Any]


def install(app: FastAPI, public_paths: frozenset[str], signed_prefix: str) -> None:
    """`public_paths` need no key, so they have no 401; what is below `signed_prefix` is signed."""

    def document() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(app, public_paths, signed_prefix)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _complete(app: FastAPI, public_paths: frozenset[str], signed_prefix: str) -> Schema:
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION,
        routes=app.routes,
        separate_input_output_schemas=True,
    )
    schemas: dict[str, Schema] = found["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.setdefault("ProblemBody", ProblemBody.model_json_schema())
    found["components"]["responses"] = {str(code): _problem(code) for code in EXPLAINED}
    requires_key = {name for name, endpoint in _endpoints(app) if key_is_required(endpoint)}
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            _add_examples(operation, schemas)
            if path.startswith(signed_prefix):
                _add_responses(operation, _ERRORS_OF_WEBHOOKS)
                continue
            _add_errors(path, method, operation, public=path in public_paths)
            if method == "post" and path not in public_paths:
                _add_key(operation, required=operation["operationId"] in requires_key)
    return found


def _endpoints(app: FastAPI) -> list[tuple[str, Callable[..., Any]]]:
    contexts = iter_route_contexts(app.routes)
    routes = [context.original_route for context in contexts]
    found = [route for route in routes if isinstance(route, APIRoute)]
    return [(operation_id(route), route.endpoint) for route in found]


def operation_id(route: object) -> str:
    """`list_customers` is the operation `customers_list`: nouns sort together."""
    verb, _, noun = str(getattr(route, "name", "")).partition("_")
    return f"{noun}_{verb}"


def _add_key(operation: Schema, *, required: bool) -> None:
    operation.setdefault("parameters", []).append(
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": required,
            "description": "a value of your own; a repeat within 72 hours gets the first answer",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
            "example": "6f1c2a0e-import-4711",
        }
    )


def _add_errors(path: str, method: str, operation: Schema, *, public: bool) -> None:
    codes = [Code.INTERNAL, Code.DATABASE_AWAY]
    if path == "/readyz":
        codes = [Code.NOT_READY]
    elif path == "/livez":
        codes = []
    if not public:
        codes += [Code.UNAUTHENTICATED, Code.FORBIDDEN]
        codes += [Code.UNKNOWN_PARAMETER, Code.INVALID_REQUEST]
        if "{" in path or method in ("post", "put"):
            codes.append(Code.NOT_FOUND)
        if method in ("post", "patch", "put", "delete"):
            codes.append(Code.CONFLICT)
        if "requestBody" in operation:
            codes += [Code.TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE]
        if any(one["name"] == "if-match" for one in operation.get("parameters", ())):
            codes += [Code.PRECONDITION_REQUIRED, Code.PRECONDITION_FAILED]
    _add_responses(operation, codes)


def _add_responses(operation: Schema, codes: Iterable[Code]) -> None:
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)  # FastAPI's own shape
    for code in codes:
        responses[str(EXPLAINED[code].status)] = {"$ref": f"#/components/responses/{code}"}
    operation["responses"] = dict(sorted(responses.items()))


def _problem(code: Code) -> Schema:
    explained = EXPLAINED[code]
    example = {
        "type": f"/problems/{code}",
        "title": explained.title,
        "status": explained.status,
        "detail": explained.title,
        "instance": "/api/v1/orders",
        "code": str(code),
        "request_id": "3f0a7cb4d1e64a1c9a9f3f5f2f6f8a11",
        "remedy": explained.remedy,
        "errors": [],
    }
    return {
        "description": explained.title,
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": "#/components/schemas/ProblemBody"},
                "example": example,
            }
        },
    }


def _add_examples(operation: Schema, schemas: Mapping[str, Schema]) -> None:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        one_of = content["schema"].get("oneOf")
        if one_of:
            bodies = [_resolved(option, schemas) for option in one_of]
            content["examples"] = {
                body["properties"]["kind"]["const"]: {"value": example_of(body, schemas)}
                for body in bodies
            }
        else:
            content["example"] = example_of(content["schema"], schemas)
    for status, response in operation.get("responses", {}).items():
        if status.startswith("2"):
            for content in response.get("content", {}).values():
                if content.get("schema"):
                    content["example"] = example_of(content["schema"], schemas, full=True)


def _resolved(schema: Schema, schemas: Mapping[str, Schema]) -> Schema:
    reference = schema.get("$ref")
    return schemas[reference.rpartition("/")[2]] if reference else schema


def example_of(
    schema: Schema,
    schemas: Mapping[str, Schema],
    *,
    full: bool = False,
    depth: int = 0,
) -> Any:
    """A value of the schema. Of an object: what is required, and (`full`) all the rest."""
    schema = _resolved(schema, schemas)
    for given in ("const", "default", "example"):
        if schema.get(given) is not None and not (given == "default" and schema[given] == []):
            return schema[given]
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return example_of(schema[choice][0], schemas, full=full, depth=depth + 1)
    return _plain_example(schema, schemas, full=full, depth=depth)


def _plain_example(schema: Schema, schemas: Mapping[str, Schema], *, full: bool, depth: int) -> Any:
    match schema.get("type"):
        case "object" if schema.get("properties") and depth < _LONGEST_NESTING:
            wanted = schema["properties"] if full else _told(schema)
            return {
                name: example_of(schema["properties"][name], schemas, full=full, depth=depth + 1)
                for name in wanted
            }
        case "object":
            return {}
        case "array":
            if depth >= _LONGEST_NESTING or "items" not in schema:
                return []
            return [example_of(schema["items"], schemas, full=full, depth=depth + 1)]
        case "integer":
            return max(int(schema.get("minimum", 1)), 1)
        case "number":
            return 86400.0
        case "boolean":
            return False
        case "string":
            return _BY_FORMAT.get(schema.get("format", ""), "a short text")
        case _:
            return None


def _told(schema: Schema) -> list[str]:
    """The fields an example of a request shows: the required ones, and who it is about; or all."""
    fields: Schema = schema["properties"]
    required: list[str] = list(schema.get("required", []))
    about = [name for name in ("customer_reference", "order_reference") if name in fields]
    told = required + [name for name in about if name not in required]
    return told or list(fields)
