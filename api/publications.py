"""Wordings put into force: a draft is published, or what was there before comes back."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources, Session
from api.errors import Code, FieldError, Problem, invalid_field
from api.etags import IfMatch, expected_version
from api.fields import Body, LocaleTag, StaffId
from api.routing import ApiRoute, needs
from api.templates import (
    Changeable,
    VersionView,
    refuse_other_than_draft,
    sources_of,
    version_of,
)
from database.messages import Message
from database.templates import MarketingClaim, TemplateVersion
from domain.messages import MessageState, Template
from domain.staff import Permission
from domain.templates import (
    FILE,
    ClaimMade,
    Fault,
    Tone,
    VersionState,
    may_claim,
    nearest_locale,
)

router = APIRouter(prefix="/templates", tags=["templates"], route_class=ApiRoute)


class NewPublication(Body):
    """The draft that comes into force. If-Match: the ETag of what was looked at."""

    number: int = Field(ge=1, le=1_000_000, strict=True)
    by: StaffId = Field("api", description="of marketing: nobody who wrote in it")


class RollBack(Body):
    """Back to a version of this locale and tone, or to the file."""

    locale: LocaleTag
    tone: Tone = Tone.NEUTRAL
    to: int | None = Field(ge=1, le=1_000_000, strict=True, description="null: the file's default")
    by: StaffId = "api"


class InForce(BaseModel):
    """What new messages are written from. Those that have been written keep their version."""

    template: Template
    locale: str
    tone: Tone
    version: str = Field(description="`file`: the default; else the number of a version")
    replaced: str


@router.post("/{template}/publications", status_code=201)
@needs(Permission.PUBLISH_TEMPLATES)
async def publish_template(
    template: Changeable,
    body: NewPublication,
    session: Session,
    held: Held,
    response: Response,
    if_match: IfMatch = None,
) -> VersionView:
    """Publish a draft: refused with every fault and its line; the next message is written from it.

    A marketing wording is published by a person who wrote nothing in the draft.
    """
    expected = expected_version(if_match)
    draft = await version_of(session, template, body.number, lock=True)
    refuse_other_than_draft(draft, expected)
    if may_claim(template) and body.by in {draft.author, *draft.editors}:
        raise Problem(
            Code.CONFLICT, "marketing is published by another person than those who wrote it"
        )
    await _refuse_faulty(session, held, draft)
    draft.replaced = await _retire(session, template, draft.locale, draft.tone)
    await _publish(session, draft, body.by)
    response.headers["Location"] = f"/api/v1/templates/{template}/versions/{draft.number}"
    return VersionView.model_validate(draft)


@router.post("/{template}/rollbacks", status_code=201)
@needs(Permission.PUBLISH_TEMPLATES)
async def roll_back_template(
    template: Changeable, body: RollBack, session: Session, held: Held
) -> InForce:
    """Bring back what was published before, as a new version; or the file's default.

    A claim that has expired since keeps a version from coming back.
    """
    wording = {"template": template, "locale": body.locale, "tone": body.tone}
    if body.to is None:
        replaced = await _retire(session, template, body.locale, body.tone)
        if replaced is None:
            raise Problem(Code.CONFLICT, f"the file is in force in {body.locale}, {body.tone}")
        await _try_again(session, template)
        return InForce(**wording, version=FILE, replaced=str(replaced))
    earlier = await version_of(session, template, body.to)
    if (earlier.locale, earlier.tone) != (body.locale, body.tone):
        raise invalid_field("/to", f"is a version in {earlier.locale}, {earlier.tone}")
    if earlier.state is not VersionState.RETIRED:
        raise Problem(Code.CONFLICT, f"version {body.to} is {earlier.state}, and was not replaced")
    await _refuse_faulty(session, held, earlier)
    replaced = await _retire(session, template, body.locale, body.tone)
    newest = sa.select(sa.func.max(TemplateVersion.number)).filter_by(template=template)
    version = TemplateVersion(
        **wording,
        number=(await session.scalar(newest) or 0) + 1,
        **sources_of(earlier).model_dump(),
        claims=earlier.claims,
        author=earlier.author,
        editors=earlier.editors,
        restores=earlier.number,
        replaced=replaced,
    )
    session.add(version)
    await _publish(session, version, body.by)
    before = FILE if replaced is None else str(replaced)
    return InForce(**wording, version=str(version.number), replaced=before)


async def _publish(session: AsyncSession, version: TemplateVersion, by: str) -> None:
    version.state = VersionState.PUBLISHED
    version.published_by = by
    version.published_at = datetime.now(UTC)
    await session.flush()
    await _try_again(session, version.template)


async def _try_again(session: AsyncSession, template: Template) -> None:
    """What could not be rendered has waited for this."""
    await session.execute(
        sa.update(Message)
        .where(
            Message.state == MessageState.QUEUED,
            Message.template == template,
            Message.provider_answer.startswith("not rendered"),
        )
        .values(not_before=sa.func.now())
    )


async def _retire(session: AsyncSession, template: Template, locale: str, tone: Tone) -> int | None:
    """Take what is in force away; its number. Of two at a time one waits here for the other."""
    return await session.scalar(
        sa.update(TemplateVersion)
        .where(
            TemplateVersion.template == template,
            TemplateVersion.locale == locale,
            TemplateVersion.tone == tone,
            TemplateVersion.state == VersionState.PUBLISHED,
        )
        .values(state=VersionState.RETIRED, retired_at=sa.func.now())
        .returning(TemplateVersion.number)
    )


async def _refuse_faulty(session: AsyncSession, held: Resources, version: TemplateVersion) -> None:
    """Raises 422 with every fault, by part and line."""
    sources = sources_of(version)
    verdict = await held.workshop.check(version.template, version.locale, sources)
    faults = [*verdict.faults, *await _unapproved(session, verdict.claims, version.locale)]
    if faults:
        errors = [
            FieldError(pointer=f"/{one.part}", code="template", detail=_words(one))
            for one in faults[:50]
        ]
        raise Problem(
            Code.INVALID_REQUEST,
            f"{faults[0].part}: {_words(faults[0])}",
            errors=errors,
            faults=[one.model_dump(mode="json") for one in faults[:50]],
        )


async def _unapproved(
    session: AsyncSession, claims: Sequence[ClaimMade], locale: str
) -> Iterable[Fault]:
    if not claims:
        return []
    ids = {claim.id for claim in claims}
    found = await session.scalars(sa.select(MarketingClaim).where(MarketingClaim.id.in_(ids)))
    approved = {row.id: row for row in found}
    faults = []
    for claim in claims:
        says = _objection(approved.get(claim.id), locale)
        if says:
            says = f"the claim {claim.id[:60]} {says}"
            faults.append(Fault(part=claim.part, line=claim.line, says=says))
    return faults


def _objection(claim: MarketingClaim | None, locale: str) -> str | None:
    if claim is None:
        return "is not approved"
    if claim.expires_on < datetime.now(UTC).date():
        return f"expired on {claim.expires_on}"
    if nearest_locale(claim.wordings, locale, default=False) is None:
        return f"has no wording in {locale}"
    return None


def _words(fault: Fault) -> str:
    return f"line {fault.line}: {fault.says}" if fault.line else fault.says
