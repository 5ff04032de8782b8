"""Requests at a fixed rate from a process of their own: `python -m benchmarks.load`.

Reads what to send from standard input, writes what it saw to standard output, both JSON. A request
is sent at its moment whatever became of the others, and its time counts from that moment: a slow
server can't slow the measurement down.
"""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
from pydantic import BaseModel

_PATIENCE = 30.0  # seconds


class Load(BaseModel):
    """Events to be posted; each gets an id and its moment when it is sent."""

    url: str
    api_key: str
    per_s: float
    events: list[dict[str, Any]]


class Seen(BaseModel):
    milliseconds: list[float]
    errors: list[str]


async def send_all(load: Load) -> Seen:
    seen = Seen(milliseconds=[], errors=[])
    headers = {"Authorization": f"Bearer {load.api_key}"}
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx2.AsyncClient(headers=headers, limits=limits, timeout=_PATIENCE) as client:
        begun = time.perf_counter() + 0.5
        async with asyncio.TaskGroup() as requests:
            for number, event in enumerate(load.events):
                moment = begun + number / load.per_s
                await asyncio.sleep(max(moment - time.perf_counter(), 0))
                requests.create_task(_post(client, load.url, event, moment, seen))
    return seen


async def _post(
    client: httpx2.AsyncClient, url: str, event: dict[str, Any], moment: float, seen: Seen
) -> None:
    now = datetime.now(UTC).isoformat()
    body = {"event_id": f"bench-{uuid4()}", "occurred_at": now, **event}
    try:
        answer = await client.post(url, json=body)
    except httpx2.HTTPError as problem:
        seen.errors.append(repr(problem))
        return
    seen.milliseconds.append(1000 * (time.perf_counter() - moment))
    if answer.status_code != httpx2.codes.ACCEPTED:
        seen.errors.append(f"{answer.status_code}: {answer.text[:200]}")


def main() -> None:
    load = Load.model_validate_json(sys.stdin.read())
    sys.stdout.write(json.dumps(asyncio.run(send_all(load)).model_dump()))


if __name__ == "__main__":
    main()
