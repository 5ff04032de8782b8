"""A wording before customers get it: seen as one of them would, and sent to staff."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Held, Resources, Session
from api.errors import Code, Problem, invalid_field, not_found
from api.fields import Body, Email, LocaleTag, Phone, StaffId
from api.intake import now_on
from api.routing import ApiRoute, needs, requires_key
from api.templates import Changeable, sources_of, version_of
from database.customers import Customer
from database.messages import Message
from database.queries.customers import addresses_of
from database.templates import MarketingClaim, TemplateVersion
from domain.clock import REAL_TIME
from domain.messages import MESSAGES, Channel, MessageClass, Template, message_key
from domain.sms_segments import SmsEncoding, sms_size
from domain.staff import Permission
from domain.templates import (
    DEFAULT_LOCALE,
    FILE,
    NotRendered,
    TemplateSources,
    Tone,
    VersionState,
    best_wording,
    nearest_locale,
)

router = APIRouter(prefix="/templates", tags=["templates"], route_class=ApiRoute)


class WantedPreview(Body):
    """With the name, the language and the tone of a customer."""

    customer_id: UUID
    number: int | None = Field(
        None, ge=1, le=1_000_000, strict=True, description="null: what the customer would get now"
    )


class SmsView(BaseModel):
    """As a carrier would cut and bill it."""

    text: str
    encoding: SmsEncoding
    units: int = Field(description="septets of GSM-7, 16-bit units of UCS-2")
    segments: int


class PreviewView(BaseModel):
    version: str = Field(description="`file`: the default; else the number of a version")
    locale: str
    tone: Tone
    subject: str
    text: str
    html: str
    sms: SmsView | None


class WantedTest(Body):
    """With sample values; its subject says that it is a test."""

    number: int | None = Field(
        None, ge=1, le=1_000_000, strict=True, description="also of a draft; null: the file"
    )
    locale: LocaleTag = Field("en", description="of the reader, where the file is tested")
    channel: Channel = Channel.EMAIL
    email: Email | None = Field(None, description="null: the address of the staff digest")
    phone: Phone | None = None
    by: StaffId = "api"


class QueuedTest(BaseModel):
    message_id: UUID


class _Wording(BaseModel):
    version: str
    locale: str
    tone: Tone
    sources: TemplateSources
    claims: list[str] = []


@router.post("/{template}/previews")
@needs(Permission.EDIT_TEMPLATES)
async def preview_template(
    template: Changeable, body: WantedPreview, session: Session, held: Held
) -> PreviewView:
    """Render it for a customer, with samples for what a process would know; nothing is sent."""
    return await _preview(session, held, template, body.customer_id, body.number)


@router.get("/{template}/preview")
@needs(Permission.EDIT_TEMPLATES)
async def show_template_preview(
    template: Changeable,
    session: Session,
    held: Held,
    customer_id: Annotated[UUID, Query()],
    number: Annotated[
        int | None,
        Query(ge=1, le=1_000_000, description="left out: what the customer would get now"),
    ] = None,
) -> PreviewView:
    """The same to look at, as often as one likes: nothing of it is recorded."""
    return await _preview(session, held, template, customer_id, number)


async def _preview(
    session: AsyncSession,
    held: Resources,
    template: Template,
    customer_id: UUID,
    number: int | None,
) -> PreviewView:
    customer = await session.get(Customer, customer_id)
    if customer is None:
        raise not_found("customer", customer_id)
    return await preview_for(session, held, template, customer, number=number)


async def preview_for(
    session: AsyncSession,
    held: Resources,
    template: Template,
    customer: Customer,
    *,
    number: int | None = None,
    known: Mapping[str, str] | None = None,
) -> PreviewView:
    """As that customer would get it; `known`: values a process would give, instead of samples."""
    mail = [
        point.locale
        for point in (await addresses_of(session, [customer.id]))[customer.id]
        if point.channel is Channel.EMAIL
    ]
    locale = customer.chosen_locale or (mail[0] if mail else None) or customer.locale
    wording = await _wording(session, held, template, number, locale, customer.tone)
    claims = await _claims(session, wording)
    unsaid = sorted({*wording.claims} - {*claims})
    if unsaid:
        raise Problem(
            Code.CONFLICT,
            f"approve these marketing claims in {wording.locale} first: {', '.join(unsaid)}",
        )
    reader = {"name": customer.name, "reference": customer.reference, **(known or {})}
    zone = customer.zone
    try:
        shown = (
            held.workshop.preview_file(template, reader=reader, locale=locale, zone=zone)
            if wording.version == FILE
            else await held.workshop.preview(
                template,
                wording.locale,
                wording.sources,
                reader=reader,
                locale=locale,
                zone=zone,
                claims=claims,
            )
        )
    except NotRendered as problem:
        raise invalid_field("/number", f"cannot be rendered: {problem}") from None
    sms = None if shown.sms is None else SmsView(text=shown.sms, **sms_size(shown.sms)._asdict())
    return PreviewView(
        version=wording.version,
        locale=wording.locale,
        tone=wording.tone,
        subject=shown.subject,
        text=shown.text,
        html=shown.html,
        sms=sms,
    )


@router.post("/{template}/tests", status_code=202)
@requires_key
@needs(Permission.EDIT_TEMPLATES)
async def send_template_test(
    template: Changeable, body: WantedTest, session: Session, held: Held, response: Response
) -> QueuedTest:
    """Send it to a member of staff, on the way that every message takes."""
    version = FILE
    locale = body.locale
    if body.number is None:
        known = nearest_locale(MESSAGES[template].locales, locale) or DEFAULT_LOCALE
        sources = held.workshop.default(template, known)
    else:
        tested = await version_of(session, template, body.number)
        version, locale, sources = str(tested.number), tested.locale, sources_of(tested)
    if body.channel is Channel.SMS and sources.sms is None:
        raise invalid_field("/channel", "it has no wording for text messages")
    message = Message(
        key=message_key(f"templates/{template}", template, f"test-{uuid4().hex}"),
        workflow_id=f"templates/{template}",
        step=f"test send by {body.by}",
        template=template,
        template_version=version,
        message_class=MessageClass.STAFF,
        purpose=MESSAGES[template].purpose,
        channel=body.channel,
        context={
            **held.workshop.samples(template),
            "to": _to(body, held),
            "locale": locale,
            "test": "yes",
        },
        asked_at=now_on(REAL_TIME),
    )
    session.add(message)
    await session.flush()
    response.headers["Location"] = f"/api/v1/messages/{message.id}"
    return QueuedTest(message_id=message.id)


def _to(body: WantedTest, held: Resources) -> str:
    if body.channel is Channel.SMS:
        if body.phone is None:
            raise invalid_field("/phone", "is missing: a test by SMS needs a number")
        return body.phone
    address = body.email or held.staff_digest_to
    if not address:
        raise Problem(Code.CONFLICT, "give an email: no address for the staff digest is set")
    return address


async def _wording(
    session: AsyncSession,
    held: Resources,
    template: Template,
    number: int | None,
    locale: str,
    tone: Tone | None,
) -> _Wording:
    if number is not None:
        return _of_version(await version_of(session, template, number))
    published = await session.scalars(
        sa.select(TemplateVersion).filter_by(template=template, state=VersionState.PUBLISHED)
    )
    files = [
        _Wording(
            version=FILE,
            locale=known,
            tone=Tone.NEUTRAL,
            sources=held.workshop.default(template, known),
        )
        for known in MESSAGES[template].locales
    ]
    best = best_wording([*(_of_version(row) for row in published), *files], locale, tone)
    assert best is not None, f"{template} has no English file"
    return best


def _of_version(row: TemplateVersion) -> _Wording:
    return _Wording(
        version=str(row.number),
        locale=row.locale,
        tone=row.tone,
        sources=sources_of(row),
        claims=row.claims,
    )


async def _claims(session: AsyncSession, wording: _Wording) -> dict[str, str]:
    """Also those that have expired: a preview shows the wording, and sends nothing."""
    if not wording.claims:
        return {}
    found = await session.scalars(
        sa.select(MarketingClaim).where(MarketingClaim.id.in_(wording.claims))
    )
    said: dict[str, Any] = {}
    for claim in found:
        language = nearest_locale(claim.wordings, wording.locale, default=False)
        if language is not None:
            said[claim.id] = claim.wordings[language]
    return said
