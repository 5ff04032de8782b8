"""Around every request: its id, measure and limit, and headers that keep browsers from guessing."""

import re
import time
from collections.abc import Mapping
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Code, Problem, fault, respond

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Figures:
    """What the API counts about itself; a registry per application, so that tests may have many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "perennial_http_requests",
            "Requests answered",
            ["operation", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "perennial_http_request_seconds",
            "Time to answer",
            ["operation"],
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self.events = Counter(
            "perennial_events", "Events accepted", ["kind", "duplicate"], registry=self.registry
        )


class BrokenOff(Exception):
    """An answer that cannot be ended. Servers log what is raised, so it says nothing else."""


class Observed:
    """ASGI middleware. A request id that a caller sends is kept, unless it could break a log. A
    fault ends here: what gets to the server is logged with all that it says.
    """

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self.app = app
        self.figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None
        began = time.perf_counter()

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except Exception as error:
            answer = fault(Request(scope), error)
            if status is not None:  # half of another is on its way: the server breaks it off
                raise BrokenOff from None
            await answer(scope, receive, send_on)
        finally:
            operation = getattr(scope.get("endpoint"), "__name__", "none")
            self.figures.requests.labels(operation, scope["method"], status or 500).inc()
            self.figures.seconds.labels(operation).observe(time.perf_counter() - began)


class BodyLimit:
    """ASGI middleware: no body beyond `most` bytes is read, whatever its length header says.

    `larger` has the limits of paths with another one.
    """

    def __init__(self, app: ASGIApp, most: int, larger: Mapping[str, int]) -> None:
        self.app = app
        self.most = most
        self.larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.larger.get(scope["path"], self.most)
        too_large = Problem(Code.TOO_LARGE, f"the body is larger than {most} bytes")
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and (len(announced) > 15 or int(announced) > most):
            await respond(Request(scope), too_large)(scope, receive, send)
            return
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise too_large
            return message

        await self.app(scope, receive_some, send)
