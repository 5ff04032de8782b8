"""What staff wrote is rendered where it can be killed, and holds up nobody."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from domain.messages import Template
from domain.templates import NotRendered
from messaging.render import sample_context
from messaging.render_process import RenderProcess
from messaging.staff_wording import CheckJob
from tests.messaging.wording import SOUND, job, sources

ENDLESS = sources(
    body_text="{% for a in text %}{% for b in text %}{% endfor %}{% endfor %}", subject="Endless"
)
LONG = {**sample_context(Template.CASE_REPLY), "text": "x" * 20_000}


@pytest.fixture
async def process() -> AsyncGenerator[RenderProcess]:
    process = RenderProcess(processor=0.2)
    yield process
    await process.close()


def _children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


def _environment_of(process: str) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


async def test_a_wording_is_rendered_by_a_process_that_stays(process: RenderProcess) -> None:
    before = _children()
    first = await process.render(job())
    child = _children() - before
    assert first.subject == "News about C-2001"
    assert await process.render(job()) == first
    assert _children() - before == child
    assert len(child) == 1
    assert _environment_of(child.pop()) == b""  # no password of ours is in it


async def test_an_endless_wording_is_stopped_and_rests_while_others_go_on(
    process: RenderProcess,
) -> None:
    with pytest.raises(NotRendered, match="was stopped"):
        await process.render(job(sources=ENDLESS, context=LONG))
    assert (await process.render(job())).subject == "News about C-2001"
    with pytest.raises(NotRendered, match="a moment ago"):
        await process.render(job(sources=ENDLESS, context=LONG))


async def test_a_wording_that_takes_all_memory_is_stopped(process: RenderProcess) -> None:
    bomb = sources(body_text="{{ " + " + ".join(["text"] * 100) + " }}")
    context = {**LONG, "text": "x" * 7_000_000}
    with pytest.raises(NotRendered, match=r"was stopped|MemoryError"):
        await process.render(job(sources=bomb, context=context))
    assert (await process.render(job())).subject == "News about C-2001"


async def test_a_check_that_takes_too_long_is_a_fault(process: RenderProcess) -> None:
    sums = sources(body_text="{{ " + " + ".join(["(1 + 1)"] * 15_000) + " }}")
    check = CheckJob(template=Template.CASE_REPLY, sources=sums, wording="en")
    assert (await process.check(check)).faults
    sound = CheckJob(template=Template.CASE_REPLY, sources=SOUND, wording="en")
    assert (await process.check(sound)).faults == []


async def test_a_killed_process_is_replaced(process: RenderProcess) -> None:
    before = _children()
    await process.render(job())
    (child,) = _children() - before
    os.kill(int(child), 9)
    for _ in range(100):
        await asyncio.sleep(0.02)  # until our side has heard of it
        if child not in _children():
            break
    assert (await process.render(job())).subject == "News about C-2001"


async def test_whoever_gives_up_leaves_no_answer_for_the_next(process: RenderProcess) -> None:
    await process.render(job())
    given_up = asyncio.create_task(process.render(job(sources=sources(subject="Mine"))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert (await process.render(job())).subject == "News about C-2001"
