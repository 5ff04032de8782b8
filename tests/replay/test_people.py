"""Staff of a generated world: what they do is done once, however often it has to be sent."""

from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import httpx2

from domain.clock import REAL_TIME
from replay.instance import Instance
from replay.people import People
from replay.player import World


async def test_what_is_sent_again_is_the_same_request() -> None:
    """An answer to a case is stored before the case is told: under a new key it would stay there
    for each try, as words that were never sent."""
    keys: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["Idempotency-Key"])
        return httpx2.Response(503 if len(keys) < 3 else 200)

    transport = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(transport=transport, base_url="http://there") as http:
        instance = cast(Instance, SimpleNamespace(http=http))
        people = People(instance, World(uuid4(), REAL_TIME), seed=1)
        assert await people._post("/api/v1/cases/1/respond", {"text": "Hello"})
        assert await people._post("/api/v1/cases/1/respond", {"text": "Hello"})
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]
