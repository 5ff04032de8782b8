"""Processes started for many customers at once, each judged by itself; or only judged."""

import asyncio
from collections import Counter
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from api.deps import Asker, Held, Resources
from api.errors import (
    Code,
    Problem,
    ProblemBody,
    as_dict,
    field_errors,
    invalid_field,
    problem_of,
)
from api.fields import Body, Flag, example
from api.intake import event_id_for
from api.processes import AnyStart, Started, judge_start, start_once
from api.routing import (
    ApiRoute,
    in_parts,
    keep_begun,
    needs,
    note_unfinished,
    requires_key,
)
from database.queries.starts import facts_to_start
from domain.processes import SELLING
from domain.staff import Permission, Principal
from domain.starts import StartFacts

router = APIRouter(prefix="/processes", tags=["processes"], route_class=ApiRoute)

MOST = 200
_AT_ONCE = 8  # transactions, each of which talks to Temporal
_START: TypeAdapter[AnyStart] = TypeAdapter(Annotated[AnyStart, Field(discriminator="kind")])


class BulkStarts(Body):
    """Up to 200 starts, each with the fields of a single one."""

    model_config = example(
        items=[
            {
                "kind": "marketing",
                "customer_id": "0197b7c2-8d3e-7a51-9c64-2f1f4b8f2a10",
                "campaign": "spring-sale",
            }
        ],
        dry_run=True,
    )

    items: list[Any] = Field(min_length=1, max_length=MOST)
    dry_run: Flag = Field(False, description="true: nothing starts; the answer says what would")


class StartResult(BaseModel):
    """Of one item. 202: started or told, in a dry run: it would be; else the problem says why."""

    index: int
    status: int
    customer_id: UUID | None = None
    started: Started | None = None
    problem: ProblemBody | None = None


class StartResults(BaseModel):
    dry_run: bool
    items: list[StartResult]
    started: int = Field(description="in a dry run: how many would be")
    refused: int


@router.post("/bulk")
@requires_key
@in_parts
@needs(Permission.READ)
async def start_processes(
    body: BulkStarts, request: Request, held: Held, asker: Asker
) -> StartResults:
    """Start processes of up to 200 customers; what can't start is refused by itself.

    Each is kept as it starts, whatever becomes of the others. A repeat with the same
    Idempotency-Key gets the first answer; where an item failed by a fault of ours (status 5xx), or
    the request broke off, it tries the rest again and starts nothing twice. To try the refused ones
    again, send them alone with another key.
    """
    read = [_read(item) for item in body.items]
    starts = [one for one in read if not isinstance(one, Problem)]
    async with held.sessions.begin() as session:
        known = await facts_to_start(session, {one.customer_id for one in starts})
    times = Counter((one.kind, one.customer_id) for one in starts if one.kind in SELLING)
    await keep_begun(request)
    room = asyncio.Semaphore(_AT_ONCE)

    async def result(index: int, one: AnyStart | Problem) -> StartResult:
        customer_id = None if isinstance(one, Problem) else one.customer_id
        started = problem = None
        try:
            if isinstance(one, Problem):
                raise one
            if times[one.kind, one.customer_id] > 1:  # they would be the same start
                raise invalid_field("/customer_id", "is there twice in this request")
            event_id = "" if body.dry_run else event_id_for(request, "start", index)
            async with room:
                started = await _start(held, asker, one, known.get(one.customer_id), event_id)
        except Exception as error:
            request_id = str(request.state.request_id)
            told = as_dict(_problem_of(error, request_id), request.url.path, request_id)
            problem = ProblemBody.model_validate(told)
        status = problem.status if problem else 202
        return StartResult(
            index=index, status=status, customer_id=customer_id, started=started, problem=problem
        )

    results = await asyncio.gather(*(result(index, one) for index, one in enumerate(read)))
    if any(one.status >= 500 for one in results):
        note_unfinished(request)
    accepted = sum(one.problem is None for one in results)
    return StartResults(
        dry_run=body.dry_run, items=results, started=accepted, refused=len(results) - accepted
    )


def _problem_of(error: Exception, request_id: str) -> Problem:
    """Of a part. What waited for a row for too long is to be tried again: under another key it
    might be started twice, by a twin of this request that holds the row.
    """
    problem = problem_of(error, request_id)
    if problem.code is Code.KEY_IN_USE:
        return Problem(Code.DATABASE_AWAY, "what it has to write is held by another request")
    return problem


def _read(item: Any) -> AnyStart | Problem:
    try:
        return _START.validate_python(item)
    except ValidationError as error:
        told = field_errors(error.errors(include_url=False, include_input=False), item)
        return Problem(Code.INVALID_REQUEST, f"{told[0].pointer}: {told[0].detail}", errors=told)


async def _start(
    held: Resources, asker: Principal, body: AnyStart, facts: StartFacts | None, event_id: str
) -> Started | None:
    """Judge it, and start it where it has an event id, in a transaction of its own.

    Raises its problem.
    """
    async with held.sessions.begin() as session:
        if not event_id:
            await judge_start(session, asker, body, facts)
            return None
        return await start_once(session, held, asker, body, facts, event_id)
