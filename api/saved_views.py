"""Saved views: a list with its filters under a name, for oneself or for everybody."""

from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.dialects.postgresql import insert

from api.deps import Asker, Session
from api.errors import Code, Problem, not_found
from api.fields import Body, Flag, Line, Word
from api.routing import ApiRoute, needs
from database.staff import SavedView
from domain.staff import Permission

router = APIRouter(prefix="/saved-views", tags=["staff"], route_class=ApiRoute)

FilterQuery = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[!-~]*$")]


class NewSavedView(Body):
    screen: Word = Field(examples=["customers"])
    name: Line = Field(max_length=60, examples=["Silent for a month"])
    query: FilterQuery = Field(examples=["stage=retention"], description="of the screen's address")
    shared: Flag = Field(False, description="true: everybody sees it")


class SavedViewView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    staff_id: str
    screen: str
    name: str
    query: str
    shared: bool


class SavedViews(BaseModel):
    items: list[SavedViewView]


@router.get("")
async def list_saved_views(
    session: Session, asker: Asker, screen: Annotated[Word | None, Query()] = None
) -> SavedViews:
    """My views and those shared with everybody."""
    statement = sa.select(SavedView).where(sa.or_(SavedView.staff_id == asker.id, SavedView.shared))
    if screen is not None:
        statement = statement.where(SavedView.screen == screen)
    found = await session.scalars(statement.order_by(SavedView.name, SavedView.id))
    return SavedViews(items=[SavedViewView.model_validate(one) for one in found])


@router.post("", status_code=201)
@needs(Permission.READ)
async def save_view(body: NewSavedView, session: Session, asker: Asker) -> SavedViewView:
    """Keep a view; one of mine with the same name is replaced."""
    if not asker.is_staff:
        raise Problem(Code.CONFLICT, "views are kept by members of staff, not by programs")
    values = {**body.model_dump(), "staff_id": asker.id}
    kept = await session.scalar(
        insert(SavedView)
        .values(**values)
        .on_conflict_do_update(
            index_elements=["staff_id", "screen", "name"],
            set_={"query": body.query, "shared": body.shared},
        )
        .returning(SavedView)
    )
    return SavedViewView.model_validate(kept)


@router.delete("/{view_id}")
@needs(Permission.READ)
async def forget_view(view_id: UUID, session: Session, asker: Asker) -> SavedViewView:
    """Remove a view of mine; an administrator may remove anybody's shared one."""
    view = await session.get(SavedView, view_id)
    mine = view is not None and view.staff_id == asker.id
    if view is None or not (mine or (view.shared and asker.may(Permission.MANAGE_STAFF))):
        raise not_found("view of yours", view_id)
    await session.delete(view)
    return SavedViewView.model_validate(view)
