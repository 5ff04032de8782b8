"""How a worker tells the driver which step it has done: one line on a socket for each activity.

Both sides of a comparison are paced by the same lines, so that neither pays for being asked.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from temporalio import activity
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.client import OutboundInterceptor, SignalWorkflowInput
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from benchmarks.bare_parts import Beat
from benchmarks.statements import StatementCounter
from domain.processes import Step

_PATIENCE = 60.0


class Report(NamedTuple):
    """An activity that ended: of which life, in which of its processes, the how-manieth there."""

    life: str
    role: str
    number: int
    key: str
    activity: str
    workflow_id: str
    tells: list[str]  # workflow ids it signalled
    round_trips: int


class ReportingInterceptor(Interceptor, ClientInterceptor):
    """Given to the client of a worker: reports its activities and the signals they send."""

    def __init__(self, socket_path: str, statements: StatementCounter) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(socket_path)
        self._statements = statements
        self._told: dict[str, list[str]] = {}

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activities(next, self._report, self._statements)

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Signals(next, self._told)

    def _report(self, step: Step | Beat, round_trips: int) -> None:
        info = activity.info()
        told = self._told.pop(f"{info.workflow_run_id}/{info.activity_id}", [])
        if isinstance(step, Beat):
            life, role, key = step.life, step.role, str(step.number)
        else:
            life, role, key = str(step.customer_id), str(step.kind), step.key
        line = [life, role, 0, key, info.activity_type, info.workflow_id or "", told, round_trips]
        self._socket.sendall(json.dumps(line).encode() + b"\n")


class _Activities(ActivityInboundInterceptor):
    def __init__(
        self,
        next: ActivityInboundInterceptor,
        report: Callable[[Step | Beat, int], None],
        statements: StatementCounter,
    ) -> None:
        super().__init__(next)
        self._report = report
        self._statements = statements

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        with self._statements.counted() as counted:
            answer = await self.next.execute_activity(input)
        step = input.args[0] if input.args else None
        if isinstance(step, Step | Beat):
            self._report(step, counted.round_trips)
        return answer


class _Signals(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, told: dict[str, list[str]]) -> None:
        super().__init__(next)
        self._told = told

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        if activity.in_activity():
            info = activity.info()
            key = f"{info.workflow_run_id}/{info.activity_id}"
            self._told.setdefault(key, []).append(input.id)
        await super().signal_workflow(input)


class Progress:
    """What the driver has heard, and who waits for more."""

    def __init__(self) -> None:
        self._heard: dict[str, list[Report]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._counts: dict[str, int] = {}
        self._activities: dict[tuple[str, str], set[str]] = {}  # by workflow and step

    def hear(self, line: bytes) -> None:
        report = Report(*json.loads(line))
        self._activities.setdefault((report.workflow_id, report.key), set()).add(report.activity)
        if any(
            (known.workflow_id, known.key) == (report.workflow_id, report.key)
            for known in self.of(report.life)
        ):
            return  # a workflow task that took too long is taken again, with its steps
        number = self._counts.get(report.workflow_id, 0) + 1
        self._counts[report.workflow_id] = number
        self._heard.setdefault(report.life, []).append(report._replace(number=number))
        if news := self._news.get(report.life):
            news.set()

    def of(self, life: str) -> list[Report]:
        return self._heard.get(life, [])

    def everything(self) -> list[Report]:
        return [report for reports in self._heard.values() for report in reports]

    @property
    def activities_a_step(self) -> int:
        """The most that any step took."""
        return max((len(names) for names in self._activities.values()), default=0)

    def forget(self) -> None:
        """Before a round: what was heard is of no interest any more."""
        self._heard.clear()
        self._counts.clear()
        self._activities.clear()

    async def until(self, life: str, is_it: Callable[[Report], bool], what: str) -> Report:
        """The first report that `is_it`; raises TimeoutError naming `what` after a minute."""
        news = self._news.setdefault(life, asyncio.Event())
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    news.clear()
                    for report in self.of(life):
                        if is_it(report):
                            return report
                    await news.wait()
        except TimeoutError:
            heard = [f"{report.role}:{report.key}" for report in self.of(life)]
            raise TimeoutError(f"{what} of {life} did not come; heard: {heard}") from None
        finally:
            self._news.pop(life, None)


@asynccontextmanager
async def listening(path: Path) -> AsyncGenerator[Progress]:
    """Hear workers that connect to the socket at `path`."""
    progress = Progress()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The measurement may be over before the worker has gone.
        with contextlib.suppress(asyncio.CancelledError):
            while line := await reader.readline():
                progress.hear(line)
        writer.close()

    server = await asyncio.start_unix_server(hear, path)
    async with server:
        yield progress
