"""What marketing may claim: approved with its evidence until a day, and approved again."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Session
from api.errors import Code, Problem, invalid_field, not_found
from api.etags import IfMatch, changed_meanwhile, etag, expected_version
from api.fields import Body, Day, Line, LocaleTag, Prose, StaffId, example
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs
from database.templates import MarketingClaim
from domain.contacts import claim_holds
from domain.staff import Permission

router = APIRouter(prefix="/marketing-claims", tags=["marketing claims"], route_class=ApiRoute)

_ID = r"^[a-z][a-z0-9_]{0,59}$"
ClaimId = Annotated[str, Path(pattern=_ID)]


class NewClaim(Body):
    """A template says it by `{{ claims.<id> }}`. Another wording is another claim."""

    model_config = example(
        id="free_delivery",
        wordings={"en": "Free delivery from 50 euros", "pt-BR": "Frete grátis a partir de R$ 250"},
        evidence="price list 2026, page 3",
        approved_by="agent-7",
        expires_on="2026-12-31",
    )

    id: str = Field(pattern=_ID)
    wordings: dict[LocaleTag, Line] = Field(min_length=1, max_length=20)
    evidence: Prose
    approved_by: StaffId
    expires_on: Day = Field(description="the last day on which it may be claimed")


class ClaimRenewal(Body):
    """Approved again, or (with a day that has passed) not any more."""

    model_config = example(
        expires_on="2027-12-31", approved_by="agent-7", evidence="price list 2027, page 3"
    )

    expires_on: Day
    approved_by: StaffId
    evidence: Prose | None = Field(None, description="null: as before")


class ClaimView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    wordings: dict[str, str]
    evidence: str
    approved_by: str
    approved_at: datetime
    expires_on: date
    recorded_at: datetime
    revision: int = Field(description="in its ETag")


@router.get("")
async def list_marketing_claims(
    session: Session,
    paging: Paging,
    sort: Annotated[
        Literal["id", "expires_on"] | None, Query(description="expires_on: the soonest first")
    ] = None,
) -> Page[ClaimView]:
    """The claims by their ids, those that have expired among them."""
    first = [MarketingClaim.expires_on] if sort == "expires_on" else []
    return await read_page(
        session,
        sa.select(MarketingClaim),
        [*first, MarketingClaim.id],
        paging,
        ClaimView.model_validate,
        descending=False,
    )


@router.post("", status_code=201)
@needs(Permission.PUBLISH_TEMPLATES)
async def approve_marketing_claim(
    body: NewClaim, session: Session, response: Response
) -> ClaimView:
    """Approve a claim. Its last day is not over yet, by the calendar of UTC."""
    if not claim_holds(body.expires_on, datetime.now(UTC)):
        raise invalid_field("/expires_on", "is over already: nothing could claim it")
    claim = await session.scalar(
        insert(MarketingClaim)
        .values(**body.model_dump(), revision=1)
        .on_conflict_do_nothing()
        .returning(MarketingClaim)
    )
    if claim is None:
        raise Problem(Code.CONFLICT, f"there is a claim {body.id}: renew it, or take another id")
    response.headers["Location"] = f"/api/v1/marketing-claims/{claim.id}"
    response.headers["ETag"] = etag(claim.revision)
    return ClaimView.model_validate(claim)


@router.get("/{claim_id}")
async def show_marketing_claim(
    claim_id: ClaimId, session: Session, response: Response
) -> ClaimView:
    """One claim; the ETag is what PATCH needs."""
    claim = await _claim(session, claim_id)
    response.headers["ETag"] = etag(claim.revision)
    return ClaimView.model_validate(claim)


@router.patch("/{claim_id}")
@needs(Permission.PUBLISH_TEMPLATES)
async def renew_marketing_claim(
    claim_id: ClaimId,
    body: ClaimRenewal,
    session: Session,
    response: Response,
    if_match: IfMatch = None,
) -> ClaimView:
    """Approve it until another day; messages that wait are judged by it."""
    expected = expected_version(if_match)
    claim = await _claim(session, claim_id, lock=True)
    if expected not in (None, claim.revision):
        raise changed_meanwhile("claim", claim.revision, ClaimView.model_validate(claim))
    if body.evidence is None and "evidence" in body.model_fields_set:
        raise invalid_field("/evidence", "cannot be cleared")
    claim.expires_on = body.expires_on
    claim.approved_by = body.approved_by
    claim.evidence = body.evidence or claim.evidence
    claim.revision += 1
    claim.approved_at = await session.scalar(sa.select(sa.func.now())) or claim.approved_at
    await session.flush()
    response.headers["ETag"] = etag(claim.revision)
    return ClaimView.model_validate(claim)


async def _claim(session: AsyncSession, claim_id: str, *, lock: bool = False) -> MarketingClaim:
    """Raises the 404 problem."""
    statement = sa.select(MarketingClaim).filter_by(id=claim_id)
    claim = await session.scalar(statement.with_for_update() if lock else statement)
    if claim is None:
        raise not_found("marketing claim", claim_id)
    return claim
