"""Renders what staff wrote in a process of its own, which is killed when it takes too much."""

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from domain.templates import Fault, NotRendered, Part, TemplateSources, Verdict
from messaging.render import Rendered
from messaging.render_child import Answer
from messaging.staff_wording import CheckJob, RenderJob

_ROOT = Path(__file__).parents[1]
_PROCESSOR = 1.0  # seconds of it for one message; 0.3 ms are usual
_PATIENCE = 5.0  # seconds of the wall for an answer, also on a busy machine
_MEMORY = 512 * 2**20  # bytes of address space
_LONGEST_ANSWER = 8 * 2**20
_REST = 60.0  # seconds in which a wording that had to be stopped is not tried again


class RenderProcess:
    """One child, started when it is first needed and again after it was killed."""

    def __init__(self, processor: float = _PROCESSOR, memory: int = _MEMORY) -> None:
        self._limits = (str(processor), str(memory))
        self._one_at_a_time = asyncio.Lock()
        self._child: Process | None = None
        self._resting: dict[TemplateSources, float] = {}  # until when; monotonic

    async def render(self, job: RenderJob) -> Rendered:
        """Raises NotRendered, also when the wording takes too much time or memory.

        One that was stopped is not tried again for a minute: it must not hold up the others.
        """
        now = time.monotonic()
        self._resting = {one: until for one, until in self._resting.items() if until > now}
        if job.sources in self._resting:
            raise NotRendered("it took too much time or memory a moment ago")
        answer = await self._ask(job)
        if answer is None:
            self._resting[job.sources] = time.monotonic() + _REST
            raise NotRendered("it takes too much time or memory, and was stopped")
        if answer.rendered is None:
            raise NotRendered(answer.not_rendered or "it was not rendered")
        return answer.rendered

    async def check(self, job: CheckJob) -> Verdict:
        answer = await self._ask(job)
        if answer is None or answer.verdict is None:
            says = "it takes too much time or memory"
            return Verdict(faults=[Fault(part=Part.BODY_MJML, says=says)])
        return answer.verdict

    async def close(self) -> None:
        if self._child is not None:
            await self._kill(self._child)

    async def _ask(self, job: RenderJob | CheckJob) -> Answer | None:
        """None: it was killed, by us or by one of its limits."""
        async with self._one_at_a_time:
            child = self._child
            if child is None or child.returncode is not None:
                child = await self._start()
            assert child.stdin is not None
            assert child.stdout is not None
            line = b""
            try:
                child.stdin.write(job.model_dump_json().encode() + b"\n")
                async with asyncio.timeout(_PATIENCE):
                    line = await child.stdout.readline()
            except (TimeoutError, OSError, ValueError):  # ValueError: longer than the longest
                pass
            finally:
                whole = line.endswith(b"\n")
                if not whole:  # also when we are cancelled: its answer must reach nobody else
                    await self._kill(child)
            return Answer.model_validate_json(line) if whole else None

    async def _start(self) -> Process:
        # Of our environment it gets nothing: there are passwords in it.
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "messaging.render_child", *self._limits),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd=_ROOT,
            env={},
            limit=_LONGEST_ANSWER,
        )
        return self._child

    async def _kill(self, child: Process) -> None:
        self._child = None
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
