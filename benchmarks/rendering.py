"""`render.*`: warm medians in ms of one message with its MJML, of a file and of a staff version."""

import statistics
import time
from collections.abc import Awaitable, Callable

from domain.messages import Channel, Template
from messaging.render import Renderer, sample_context
from messaging.render_process import RenderProcess
from messaging.staff_wording import RenderJob
from messaging.workshop import Workshop

_COMPANY = "Perennial"
_TEMPLATE = Template.ORDER_CONFIRMED  # a list, an amount and a date
_MESSAGES = 2_000
_QUICK = 200
_WARM_UP = 50


async def measure_rendering(say: Callable[[str], None], *, quick: bool = False) -> dict[str, float]:
    count = _QUICK if quick else _MESSAGES
    say(f"render: {count} messages of a file, and of a version of staff")
    renderer, process = Renderer(_COMPANY), RenderProcess()
    context = sample_context(_TEMPLATE)
    job = RenderJob(
        company=_COMPANY,
        template=_TEMPLATE,
        sources=Workshop(_COMPANY).default(_TEMPLATE, "en"),
        wording="en",
        locale="en",
        channel=Channel.EMAIL,
        context=context,
    )

    async def of_file() -> None:
        renderer.render(_TEMPLATE, Channel.EMAIL, "en", context)

    async def of_staff() -> None:
        await process.render(job)

    try:
        return {
            "mjml_ms": await _median_ms(of_file, count),
            "staff_mjml_ms": await _median_ms(of_staff, count),
        }
    finally:
        await process.close()


async def _median_ms(render: Callable[[], Awaitable[None]], count: int) -> float:
    took = []
    for _ in range(_WARM_UP + count):
        begun = time.perf_counter()
        await render()
        took.append(time.perf_counter() - begun)
    return round(1000 * statistics.median(took[_WARM_UP:]), 3)
