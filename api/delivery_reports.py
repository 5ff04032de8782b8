"""What providers and bounces reported about messages, as it was kept."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, computed_field

from api.deps import Session
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute
from database.delivery_reports import DeliveryReportRow
from domain.delivery_reports import ReportKind

router = APIRouter(prefix="/delivery-reports", tags=["messages"], route_class=ApiRoute)

_WORDS = {
    ReportKind.ACCEPTED: "The provider took it.",
    ReportKind.DELAYED: "It is late: it is still being tried.",
    ReportKind.DELIVERED: "It was delivered.",
    ReportKind.EXPIRED: "It was tried and given up, for a passing reason.",
    ReportKind.FAILED: "The provider gave it up.",
    ReportKind.BOUNCED: "It came back: the address takes no messages.",
    ReportKind.COMPLAINED: "The recipient complained about it.",
    ReportKind.OTHER: "It says nothing about the delivery.",
}


class ReportView(BaseModel):
    """All moments are the machine's."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    source: str = Field(examples=["resend"])
    event_id: str
    kind: ReportKind
    effect: UUID | None = Field(description="the id of the message, as it was reported")
    message_id: UUID | None = Field(description="null: no message of ours has that id")
    said: str | None = Field(description="as it was reported, without addresses")
    said_deleted_at: datetime | None = Field(
        description="since when that is gone, under the policy of kind storage"
    )
    reported_at: datetime = Field(description="by the clock of who reported it")
    received_at: datetime
    processed_at: datetime | None
    outcome: str | None = Field(
        description="what came of it; null while nobody has looked at it",
        examples=["it was accepted and is delivered"],
    )

    @computed_field(examples=["It was delivered."])  # type: ignore[prop-decorator]  # pydantic's way
    @property
    def words(self) -> str:
        return _WORDS[self.kind]


@router.get("")
async def list_delivery_reports(
    session: Session,
    paging: Paging,
    source: Annotated[str | None, Query(max_length=100)] = None,
    kind: Annotated[ReportKind | None, Query()] = None,
    of_ours: Annotated[bool | None, Query(description="false: about no message of ours")] = None,
) -> Page[ReportView]:
    """Reports, the latest first."""
    given = {name: value for name, value in {"source": source, "kind": kind}.items() if value}
    statement = sa.select(DeliveryReportRow).filter_by(**given)
    if of_ours is not None:
        statement = statement.where(DeliveryReportRow.message_id.is_not(None) == of_ours)
    return await read_page(
        session, statement, [DeliveryReportRow.id], paging, ReportView.model_validate
    )
