"""Pages that follow what changes: how many at once, and what becomes of one too many."""

import asyncio
from contextlib import AsyncExitStack

import httpx2

from api.deps import SESSION_COOKIE
from console.live import MOST_STREAMS
from domain.tasks import Role
from tests.console.conftest import SignIn


async def test_of_too_many_windows_the_oldest_rests_until_somebody_comes_back_to_it(
    sign_in: SignIn, console_url: str
) -> None:
    page = await sign_in(Role.OPS)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/console/live" in one.url else None)
    async with page.expect_response(lambda answer: "/console/live" in answer.url):
        await page.goto("/console/tasks")
    cookies = {one["name"]: one["value"] for one in await page.context.cookies()}
    async with (
        httpx2.AsyncClient(base_url=console_url, timeout=30) as client,
        AsyncExitStack() as others,
    ):
        client.cookies.set(SESSION_COOKIE, cookies[SESSION_COOKIE])
        streams = []
        for _ in range(MOST_STREAMS):
            following = client.stream("GET", "/console/live?topics=tasks")
            streams.append(await others.enter_async_context(following))
        await asyncio.sleep(4.5)  # left to itself a browser comes again after three seconds
        assert len(asked) == 1
        async with page.expect_request(lambda one: "/console/live" in one.url):
            await page.evaluate("dispatchEvent(new Event('focus'))")
        async with asyncio.timeout(15):
            told = [line async for line in streams[0].aiter_lines() if line.startswith("event")]
        assert told[-1] == "event: crowded"  # and then it is at its end
        assert set(told) <= {"event: changed", "event: crowded"}  # others' tasks may change
