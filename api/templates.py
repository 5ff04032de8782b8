"""Wordings that staff changes: what there is, the history, and drafts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources, Session
from api.errors import Code, Problem, not_found
from api.etags import IfMatch, changed_meanwhile, etag, expected_version
from api.fields import Body, LocaleTag, StaffId, source_text
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs
from database.templates import TemplateVersion
from domain.messages import MESSAGES, MessageClass, Purpose, Template
from domain.staff import Permission
from domain.templates import (
    FILE,
    LARGEST_SOURCE,
    Fault,
    TemplateSources,
    Tone,
    VersionState,
    may_be_changed,
    names_in,
)

router = APIRouter(prefix="/templates", tags=["templates"], route_class=ApiRoute)

Source = Annotated[str, StringConstraints(max_length=LARGEST_SOURCE), AfterValidator(source_text)]
Number = Annotated[int, Path(ge=1, le=1_000_000, description="counts a template's versions")]


class Sources(Body):
    """The parts of a wording. The bodies stand in a frame with greeting, signature and footer."""

    subject: Source = Field("", examples=["Your order {{ order }} is late"])
    body_text: Source = Field("", examples=["We are sorry, {{ name }}: {{ order }} is late."])
    body_mjml: Source = Field(
        "", examples=["<mj-text>We are sorry, {{ name }}: {{ order }} is late.</mj-text>"]
    )
    sms: Source | None = Field(
        None, description="null: it does not go by SMS; one that sells says how to stop it"
    )
    by: StaffId = "api"

    def parts(self) -> TemplateSources:
        return TemplateSources(**self.model_dump(exclude={"by", "locale", "tone"}))


class NewDraft(Sources):
    """A wording for one locale and tone; there is one draft of each at a time."""

    locale: LocaleTag
    tone: Tone = Tone.NEUTRAL


class WordingView(BaseModel):
    """What is in force for a locale and tone, and the draft of what may follow."""

    locale: str
    tone: Tone
    version: str = Field(description="`file`: the default; else the number of a version")
    published_by: str | None
    published_at: datetime | None
    draft: int | None = Field(description="the number of the draft; null: there is none")


class TemplateView(BaseModel):
    template: Template
    message_class: MessageClass
    purpose: Purpose
    variables: list[str] = Field(description="what a wording may use")
    wordings: list[WordingView]


class Templates(BaseModel):
    items: list[TemplateView]


class WordingDetail(WordingView):
    sources: TemplateSources


class TemplateDetail(BaseModel):
    """The wordings in force with what is written in them: where a draft begins."""

    template: Template
    message_class: MessageClass
    purpose: Purpose
    variables: list[str] = Field(description="what a wording may use")
    wordings: list[WordingDetail]


class VersionView(BaseModel):
    """One version; `replaced` null: it took the place of the file."""

    model_config = ConfigDict(from_attributes=True)

    template: Template
    number: int
    locale: str
    tone: Tone
    state: VersionState
    revision: int = Field(description="of a draft; in its ETag")
    claims: list[str] = Field(description="the marketing claims it makes")
    author: str = Field(description="who wrote in it last")
    editors: list[str] = Field(description="everybody who wrote in it")
    created_at: datetime
    published_by: str | None
    published_at: datetime | None
    retired_at: datetime | None
    replaced: int | None
    restores: int | None = Field(description="of a roll-back: the version it says again")


class VersionDetail(VersionView):
    sources: TemplateSources
    faults: list[Fault] = Field(description="of a draft: what keeps it from being published")


def _changeable(template: Template) -> Template:
    if not may_be_changed(template):
        raise not_found("template that staff may change:", template)
    return template


Changeable = Annotated[Template, Depends(_changeable)]


@router.get("")
async def list_templates(session: Session) -> Templates:
    """Every message to customers, its variables, and what is in force in each locale."""
    rows = await _in_use(session, sa.true())
    return Templates(
        items=[
            TemplateView(**_kind(template), wordings=_wordings(template, rows.get(template, [])))
            for template in Template
            if may_be_changed(template)
        ]
    )


@router.get("/{template}")
async def show_template(template: Changeable, session: Session, held: Held) -> TemplateDetail:
    """One template with the wordings in force, the files among them."""
    rows = (await _in_use(session, TemplateVersion.template == template)).get(template, [])
    sources = {
        (str(row.number), row.locale): sources_of(row)
        for row in rows
        if row.state is VersionState.PUBLISHED
    }
    details = [
        WordingDetail(
            **dict(view),
            sources=sources.get((view.version, view.locale))
            or held.workshop.default(template, view.locale),
        )
        for view in _wordings(template, rows)
    ]
    return TemplateDetail(**_kind(template), wordings=details)


@router.get("/{template}/versions")
async def list_template_versions(
    template: Changeable,
    session: Session,
    paging: Paging,
    locale: Annotated[LocaleTag | None, Query()] = None,
    tone: Annotated[Tone | None, Query()] = None,
    state: Annotated[VersionState | None, Query()] = None,
) -> Page[VersionView]:
    """The history of a template, the newest version first."""
    filters = {"template": template, "locale": locale, "tone": tone, "state": state}
    given = {name: value for name, value in filters.items() if value is not None}
    return await read_page(
        session,
        sa.select(TemplateVersion).filter_by(**given),
        [TemplateVersion.number],
        paging,
        VersionView.model_validate,
    )


@router.get("/{template}/versions/{number}")
async def show_template_version(
    template: Changeable, number: Number, session: Session, held: Held, response: Response
) -> VersionDetail:
    """One version. The ETag of a draft is what replacing and publishing it need."""
    version = await version_of(session, template, number)
    response.headers["ETag"] = etag(version.revision)
    return await detail_of(held, version)


@router.post("/{template}/versions", status_code=201)
@needs(Permission.EDIT_TEMPLATES)
async def draft_template(
    template: Changeable, body: NewDraft, session: Session, held: Held, response: Response
) -> VersionDetail:
    """Begin a draft. It may be faulty for now: what is wrong with it is in the answer."""
    sources = body.parts()
    verdict = await held.workshop.check(template, body.locale, sources)
    newest = sa.select(sa.func.coalesce(sa.func.max(TemplateVersion.number), 0))
    draft = await session.scalar(
        insert(TemplateVersion)
        .values(
            template=template,
            number=newest.where(TemplateVersion.template == template).scalar_subquery() + 1,
            locale=body.locale,
            tone=body.tone,
            claims=sorted({claim.id for claim in verdict.claims}),
            author=body.by,
            editors=[body.by],
            **sources.model_dump(),
        )
        .on_conflict_do_nothing()
        .returning(TemplateVersion)
    )
    if draft is None:
        raise Problem(
            Code.CONFLICT,
            f"there is a draft in {body.locale}, {body.tone}, or one begins now: replace it",
        )
    response.headers["ETag"] = etag(draft.revision)
    response.headers["Location"] = f"/api/v1/templates/{template}/versions/{draft.number}"
    return _detail(draft, verdict.faults)


@router.put("/{template}/versions/{number}")
@needs(Permission.EDIT_TEMPLATES)
async def replace_template_draft(
    template: Changeable,
    number: Number,
    body: Sources,
    session: Session,
    held: Held,
    response: Response,
    if_match: IfMatch = None,
) -> VersionDetail:
    """Write a draft anew, if nobody else did meanwhile. What was published stays as it is."""
    expected = expected_version(if_match)
    draft = await version_of(session, template, number, lock=True)
    refuse_other_than_draft(draft, expected)
    sources = body.parts()
    verdict = await held.workshop.check(template, draft.locale, sources)
    if sources != sources_of(draft):  # who only saves it again has written nothing
        draft.author = body.by
        draft.editors = sorted({*draft.editors, body.by})
    for part, text in sources:
        setattr(draft, part, text)
    draft.claims = sorted({claim.id for claim in verdict.claims})
    draft.revision += 1
    await session.flush()
    response.headers["ETag"] = etag(draft.revision)
    return _detail(draft, verdict.faults)


async def version_of(
    session: AsyncSession, template: Template, number: int, *, lock: bool = False
) -> TemplateVersion:
    """Raises the 404 problem."""
    statement = sa.select(TemplateVersion).filter_by(template=template, number=number)
    version = await session.scalar(statement.with_for_update() if lock else statement)
    if version is None:
        raise not_found(f"version of {template} with the number", number)
    return version


def refuse_other_than_draft(version: TemplateVersion, expected: int | None) -> None:
    """Raises 409 for what was published, 412 for a draft that somebody changed meanwhile."""
    if version.state is not VersionState.DRAFT:
        raise Problem(Code.CONFLICT, f"version {version.number} was published: begin a draft")
    if expected not in (None, version.revision):
        raise changed_meanwhile("draft", version.revision, _detail(version, []))


async def detail_of(held: Resources, version: TemplateVersion) -> VersionDetail:
    faults: Sequence[Fault] = ()
    if version.state is VersionState.DRAFT:
        sources = sources_of(version)
        verdict = await held.workshop.check(version.template, version.locale, sources)
        faults = verdict.faults
    return _detail(version, faults)


def sources_of(version: TemplateVersion) -> TemplateSources:
    return TemplateSources(
        subject=version.subject,
        body_text=version.body_text,
        body_mjml=version.body_mjml,
        sms=version.sms,
    )


def _detail(version: TemplateVersion, faults: Sequence[Fault]) -> VersionDetail:
    view = VersionView.model_validate(version)
    return VersionDetail(**dict(view), sources=sources_of(version), faults=list(faults))


def _kind(template: Template) -> dict[str, Any]:
    kind = MESSAGES[template]
    return {
        "template": template,
        "message_class": kind.message_class,
        "purpose": kind.purpose,
        "variables": sorted(names_in(template)),
    }


async def _in_use(
    session: AsyncSession, which: sa.ColumnElement[bool]
) -> dict[Template, list[TemplateVersion]]:
    """Published versions and drafts."""
    found = await session.scalars(
        sa.select(TemplateVersion)
        .where(TemplateVersion.state != VersionState.RETIRED, which)
        .order_by(TemplateVersion.number)
    )
    rows: dict[Template, list[TemplateVersion]] = {}
    for row in found:
        rows.setdefault(row.template, []).append(row)
    return rows


def _wordings(template: Template, rows: Sequence[TemplateVersion]) -> list[WordingView]:
    """The files, and what staff published instead of them or beside them."""
    drafts = {(r.locale, r.tone): r.number for r in rows if r.state is VersionState.DRAFT}
    published = {(r.locale, r.tone): r for r in rows if r.state is VersionState.PUBLISHED}
    files = {(locale, Tone.NEUTRAL) for locale in MESSAGES[template].locales}
    views = []
    for locale, tone in sorted({*files, *published}):
        row = published.get((locale, tone))
        views.append(
            WordingView(
                locale=locale,
                tone=tone,
                version=str(row.number) if row else FILE,
                published_by=row.published_by if row else None,
                published_at=row.published_at if row else None,
                draft=drafts.get((locale, tone)),
            )
        )
    return views
