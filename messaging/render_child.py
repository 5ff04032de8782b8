"""The process that renders what staff wrote: one job a line on its input, one answer a line.

It holds no secret and no connection, and may be killed at any moment: `python -m
messaging.render_child <seconds of the processor> <bytes of memory>`.
"""

import resource
import signal
import sys

from pydantic import BaseModel, TypeAdapter

from domain.templates import NotRendered, Verdict
from messaging.render import Rendered
from messaging.staff_wording import CheckJob, RenderJob, check, render


class Answer(BaseModel):
    """One of the three."""

    rendered: Rendered | None = None
    verdict: Verdict | None = None
    not_rendered: str | None = None


_JOBS: TypeAdapter[RenderJob | CheckJob] = TypeAdapter(RenderJob | CheckJob)


def main(seconds: float, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        # Time of the processor, not of the wall: a busy machine is no fault of a template. Nobody
        # handles SIGPROF, so it ends us.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer = _answer(_JOBS.validate_json(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(answer.model_dump_json(exclude_none=True).encode() + b"\n")
        sys.stdout.buffer.flush()


def _answer(job: RenderJob | CheckJob) -> Answer:
    try:
        if isinstance(job, CheckJob):
            return Answer(verdict=check(job))
        return Answer(rendered=render(job))
    except NotRendered as problem:
        return Answer(not_rendered=str(problem))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
