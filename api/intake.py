"""Accepting a fact: its row and the signal to its process in one transaction, once per event id."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from fastapi import Request
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Resources
from api.errors import Code, Problem, invalid_field
from api.event_bodies import EventBody
from database.events import fingerprint_of, keep_event
from database.queries.intake import Ground, find_ground
from domain.clock import Clock
from domain.processes import derived_id

_TOLERANCE = timedelta(days=1)  # clocks of reporting systems differ
_TOLERATED_SECONDS = 10  # of machine time, where a simulation's clock runs fast


class Accepted(BaseModel):
    """The event is stored and its process has it; what follows happens on its own."""

    event_id: str
    workflow_id: str = Field(description="the process that was told")
    duplicate: bool = Field(description="true: it was accepted before; nothing was done again")
    customer_id: UUID | None = None
    order_id: UUID | None = None
    notice: str = Field("", description="what the reporter should know, in words")


async def accept(
    session: AsyncSession,
    held: Resources,
    caller: str,
    event: EventBody,
    sent: BaseModel | None = None,
) -> Accepted:
    """Store the event, tell its process, and leave the commit to the caller's transaction.

    `sent` is the request where that isn't the event itself: what a repeat is recognised by.

    The process is told before the commit: when Temporal is away nothing stays behind, and when the
    commit fails the repeat tells it again, which the process recognises.
    """
    body = event.model_dump(mode="json", exclude_unset=True)
    told = body if sent is None else sent.model_dump(mode="json", exclude_unset=True)
    fingerprint = fingerprint_of(told)
    about: dict[str, Any] = {
        "customer_id": getattr(event, "customer_id", None),
        "customer_reference": getattr(event, "customer_reference", None),
        "order_id": event.order(),
        "case_id": event.case(),
    }
    ground = await find_ground(session, event.event_id, **about)
    if ground.fingerprint is not None:
        return _repeated(event, ground, fingerprint)
    event.refuse_unfounded(ground)
    refuse_future(event.occurred_at, ground.clock)
    workflow_id = event.workflow_id(ground)
    kept = await keep_event(
        session,
        body,
        fingerprint=fingerprint,
        customer_id=ground.customer_id,
        order_id=event.order(),
        workflow_id=workflow_id,
        occurred_at=event.occurred_at,
        accepted_by=caller,
    )
    if not kept:  # a twin was faster
        ground = await find_ground(session, event.event_id, **about)
        return _repeated(event, ground, fingerprint)
    await event.record(session, ground)
    async with held.engine.reached() as client:
        await event.tell(client, ground)
    return Accepted(
        event_id=event.event_id,
        workflow_id=workflow_id,
        duplicate=False,
        customer_id=ground.customer_id,
        order_id=event.order(),
        notice=event.notice(ground),
    )


def _repeated(event: EventBody, ground: Ground, fingerprint: str) -> Accepted:
    if ground.fingerprint != fingerprint:
        raise Problem(
            Code.EVENT_CONFLICT, f"event_id {event.event_id} came before with another body"
        )
    return Accepted(
        event_id=event.event_id,
        workflow_id=ground.workflow_id or "",
        duplicate=True,
        customer_id=ground.customer_id,
        order_id=event.order(),
    )


def refuse_future(moment: datetime, clock: Clock, pointer: str = "/occurred_at") -> None:
    """Raises the problem for a moment that has not come yet on the customer's clock."""
    now = now_on(clock)
    if moment > now + max(_TOLERANCE, timedelta(seconds=_TOLERATED_SECONDS * clock.speed)):
        raise invalid_field(
            pointer,
            f"{moment:%Y-%m-%d %H:%M} UTC is in the future; "
            f"for this customer it is {now:%Y-%m-%d %H:%M} UTC",
            Code.IMPOSSIBLE_DATE,
        )


async def business_now(
    session: AsyncSession,
    *,
    customer_id: UUID | None = None,
    customer_reference: str | None = None,
    order_id: UUID | None = None,
) -> datetime:
    """What time it is for a customer; the machine's time where the customer isn't known."""
    ground = await find_ground(
        session,
        "",
        customer_id=customer_id,
        customer_reference=customer_reference,
        order_id=order_id,
    )
    return now_on(ground.clock)


def now_on(clock: Clock) -> datetime:
    """The business time now."""
    return clock.business(datetime.now(UTC))


def event_id_for(request: Request, kind: str, *about: object) -> str:
    """An id for an event that came without: the same for a repeat with one Idempotency-Key.

    `about` tells the events of one request apart.
    """
    key = getattr(request.state, "idempotency_key", None)
    made = uuid4() if key is None else derived_id(kind, request.url.path, key, *about)
    return f"{kind}/{made}"
