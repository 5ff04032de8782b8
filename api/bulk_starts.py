"""Processes started for many customers at once, each judged by itself; or only judged."""

from collections import Counter
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Asker, Held, Resources, Session
from api.errors import Code, Problem, ProblemBody, as_dict, field_errors, invalid_field
from api.fields import Body, Flag, example
from api.intake import event_id_for
from api.processes import AnyStart, Started, judge_start, start_judged
from api.routing import ApiRoute, needs, requires_key
from database.queries.starts import facts_to_start
from domain.processes import SELLING
from domain.staff import Permission, Principal
from domain.starts import StartFacts

router = APIRouter(prefix="/processes", tags=["processes"], route_class=ApiRoute)

MOST = 200
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
@needs(Permission.READ)
async def start_processes(
    body: BulkStarts, request: Request, session: Session, held: Held, asker: Asker
) -> StartResults:
    """Start processes of up to 200 customers; what can't start is refused by itself.

    A repeat with the same Idempotency-Key gets the first answer. To try the refused ones again,
    send them alone with another key.
    """
    read = [_read(item) for item in body.items]
    starts = [one for one in read if not isinstance(one, Problem)]
    known = await facts_to_start(session, {one.customer_id for one in starts})
    times = Counter((one.kind, one.customer_id) for one in starts if one.kind in SELLING)
    results: list[StartResult] = []
    for index, one in enumerate(read):
        customer_id = None if isinstance(one, Problem) else one.customer_id
        try:
            if isinstance(one, Problem):
                raise one
            if times[one.kind, one.customer_id] > 1:  # they would be the same start
                raise invalid_field("/customer_id", "is there twice in this request")
            event_id = "" if body.dry_run else event_id_for(request, "start", index)
            started = await _start(session, held, asker, one, known.get(one.customer_id), event_id)
        except Problem as problem:
            told = as_dict(problem, request.url.path, str(request.state.request_id))
            refusal = ProblemBody.model_validate(told)
            results.append(
                StartResult(
                    index=index, status=refusal.status, customer_id=customer_id, problem=refusal
                )
            )
        else:
            results.append(
                StartResult(index=index, status=202, customer_id=customer_id, started=started)
            )
    accepted = sum(result.problem is None for result in results)
    return StartResults(
        dry_run=body.dry_run, items=results, started=accepted, refused=len(results) - accepted
    )


def _read(item: Any) -> AnyStart | Problem:
    try:
        return _START.validate_python(item)
    except ValidationError as error:
        told = field_errors(error.errors(include_url=False, include_input=False), item)
        return Problem(Code.INVALID_REQUEST, f"{told[0].pointer}: {told[0].detail}", errors=told)


async def _start(
    session: AsyncSession,
    held: Resources,
    asker: Principal,
    body: AnyStart,
    facts: StartFacts | None,
    event_id: str,
) -> Started | None:
    """Judge it, and start it where it has an event id. Raises its problem."""
    await judge_start(session, asker, body, facts)
    if not event_id:
        return None
    # What was written for one that could not be told must not stay.
    async with session.begin_nested():
        return await start_judged(session, held, asker.id, body, event_id)
