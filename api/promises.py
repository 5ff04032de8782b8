"""The promise ledger: what was said in selling, and whether it was kept."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.dialects.postgresql import insert

from api.contacts import customer_clock
from api.deps import Session
from api.fields import Body, Day, Line
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs
from database.promises import Promise
from domain.promises import PromiseKind, PromiseState
from domain.staff import Permission

router = APIRouter(prefix="/promises", tags=["promises"], route_class=ApiRoute)


class NewPromise(Body):
    """What a member of staff promises; it binds with the customer's next order."""

    customer_id: UUID
    kind: PromiseKind
    text: Line = Field(examples=["a spare battery is in the box"])
    due_on: Day | None = Field(
        None, description="of a date: it is judged by this day, and an order that names none has it"
    )


class PromiseView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    customer_id: UUID
    order_id: UUID | None
    kind: PromiseKind
    text: str
    due_on: date | None
    state: PromiseState
    source: str
    settled_at: datetime | None
    recorded_at: datetime


@router.post("", status_code=201)
@needs(Permission.EDIT_CUSTOMERS)
async def make_promise(body: NewPromise, session: Session) -> PromiseView:
    """Record a promise made to a customer who has not ordered yet."""
    await customer_clock(session, body.customer_id)
    promise = await session.scalar(
        insert(Promise)
        .values(
            customer_id=body.customer_id,
            kind=body.kind,
            text=body.text,
            due_on=body.due_on,
            state=PromiseState.OFFERED,
            source="staff",
        )
        .returning(Promise)
    )
    return PromiseView.model_validate(promise)


@router.get("")
async def list_promises(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query()] = None,
    order_id: Annotated[UUID | None, Query()] = None,
    state: Annotated[PromiseState | None, Query()] = None,
    kind: Annotated[PromiseKind | None, Query()] = None,
) -> Page[PromiseView]:
    """Promises, the newest first."""
    filters = {"customer_id": customer_id, "order_id": order_id, "state": state, "kind": kind}
    given = {name: value for name, value in filters.items() if value is not None}
    return await read_page(
        session,
        sa.select(Promise).filter_by(**given),
        [Promise.id],
        paging,
        PromiseView.model_validate,
    )
