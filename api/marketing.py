"""Leads: the first sign of interest, of somebody known or new."""

from typing import Self
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field, model_validator

from api.customers import NewCustomer, write_one
from api.deps import Caller, Held, Session
from api.event_bodies import LeadReceivedEvent
from api.fields import Body, EventId, Flag, Instant, Reference, Word
from api.intake import Accepted, accept, business_now, event_id_for
from api.routing import ApiRoute, needs
from domain.processes import derived_id
from domain.staff import Permission

router = APIRouter(prefix="/leads", tags=["leads"], route_class=ApiRoute)


class NewLead(Body):
    """Of a customer we know, or with the `customer` to be made on the way."""

    event_id: EventId | None = Field(None, description="null: one is made")
    customer_id: UUID | None = None
    customer_reference: Reference | None = None
    customer: NewCustomer | None = None
    source: Word = Field("api", examples=["trade-fair"])
    campaign: Word | None = None
    by_staff: Flag = False
    occurred_at: Instant | None = Field(None, description="null: now on the customer's clock")

    @model_validator(mode="after")
    def _names_one_customer(self) -> Self:
        named = [self.customer_id, self.customer_reference, self.customer]
        if sum(one is not None for one in named) != 1:
            raise ValueError("give one of customer_id, customer_reference and customer")
        return self


@router.post("", status_code=202)
@needs(Permission.START_MARKETING)
async def report_lead(
    body: NewLead, request: Request, session: Session, held: Held, caller: Caller
) -> Accepted:
    """Report a lead; with consent to marketing, a contact starts.

    A `customer` is made first (or found by its reference) and stays, whatever becomes of the lead:
    its process may look at it at once. A repeat with the same event_id or Idempotency-Key finds it.
    """
    event_id = body.event_id or event_id_for(request, "lead")
    customer_id = body.customer_id
    if body.customer is not None:
        async with held.engine.reached():  # nothing is made while its process can't be told
            pass
        reference = body.customer.reference or f"L-{derived_id('lead', event_id).hex[:12]}"
        async with held.sessions.begin() as own:
            customer_id = (await write_one(own, reference, body.customer)).id
    now = await business_now(
        session, customer_id=customer_id, customer_reference=body.customer_reference
    )
    event = LeadReceivedEvent(
        kind="lead_received",
        event_id=event_id,
        source=body.source,
        occurred_at=body.occurred_at or now,
        customer_id=customer_id,
        customer_reference=body.customer_reference,
        campaign=body.campaign,
        by_staff=body.by_staff,
    )
    return await accept(session, held, caller, event, body)
