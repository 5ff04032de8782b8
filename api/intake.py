"""Accepting a fact: its row and the signal to its process in one transaction, once per event id."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Resources, patiently
from api.errors import Code, Problem, invalid_field
from api.event_bodies import EventBody
from database.queries.intake import Ground, find_ground, insert_event
from domain.clock import Clock

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


async def accept(session: AsyncSession, held: Resources, caller: str, event: EventBody) -> Accepted:
    """Store the event, tell its process, and leave the commit to the caller's transaction.

    The process is told before the commit: when Temporal is away nothing stays behind, and when the
    commit fails the repeat tells it again, which the process recognises.
    """
    body = event.model_dump(mode="json", exclude_unset=True)
    fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
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
    _refuse_future(event, ground.clock)
    workflow_id = event.workflow_id(ground)
    inserted = await insert_event(
        session,
        event_id=event.event_id,
        kind=event.kind,
        customer_id=ground.customer_id,
        order_id=event.order(),
        workflow_id=workflow_id,
        occurred_at=event.occurred_at,
        body=body,
        fingerprint=fingerprint,
        accepted_by=caller,
    )
    if not inserted:  # a twin was faster
        ground = await find_ground(session, event.event_id, **about)
        return _repeated(event, ground, fingerprint)
    await event.record(session, ground)
    async with patiently():
        await event.tell(await held.engine.client(), ground)
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


def _refuse_future(event: EventBody, clock: Clock) -> None:
    now = clock.business(datetime.now(UTC))
    tolerated = max(_TOLERANCE, timedelta(seconds=_TOLERATED_SECONDS * clock.speed))
    if event.occurred_at > now + tolerated:
        raise invalid_field(
            "/occurred_at",
            f"{event.occurred_at:%Y-%m-%d %H:%M} UTC is in the future; "
            f"for this customer it is {now:%Y-%m-%d %H:%M} UTC",
            Code.IMPOSSIBLE_DATE,
        )
