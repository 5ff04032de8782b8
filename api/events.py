"""The door for other systems: lifecycle events, each taken once."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict

from api.deps import Caller, Held, Session
from api.errors import not_found
from api.event_bodies import LifecycleEvent
from api.fields import EventId
from api.intake import Accepted, accept
from api.observed import Figures
from api.routing import ApiRoute
from database.events import Event

router = APIRouter(prefix="/events", tags=["events"], route_class=ApiRoute)


class EventView(BaseModel):
    """An accepted event as it was sent."""

    model_config = ConfigDict(from_attributes=True)

    event_id: str
    kind: str
    customer_id: UUID | None
    order_id: UUID | None
    workflow_id: str
    occurred_at: datetime
    accepted_at: datetime
    accepted_by: str
    body: dict[str, Any]


@router.post("", status_code=202)
async def report_event(
    event: LifecycleEvent, request: Request, session: Session, held: Held, caller: Caller
) -> Accepted:
    """Report what happened; `kind` says which fields there are.

    202: the event is stored and its process has been told. The same event_id with the same body is
    answered again with `duplicate: true`; with another body it is refused.
    """
    accepted = await accept(session, held, caller, event)
    figures: Figures = request.app.state.figures
    figures.events.labels(event.kind, str(accepted.duplicate).lower()).inc()
    return accepted


@router.get("/{event_id:path}")
async def show_event(event_id: Annotated[EventId, Path()], session: Session) -> EventView:
    """One accepted event with its body."""
    event = await session.get(Event, event_id)
    if event is None:
        raise not_found("event", event_id)
    return EventView.model_validate(event)
