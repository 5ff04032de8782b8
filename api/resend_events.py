"""Webhook of Resend: what became of an e-mail (https://resend.com/docs/webhooks)."""

import hmac
import time
from base64 import b64encode
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import AwareDatetime, BaseModel, ValidationError

from api.deps import Held, Session
from api.provider_events import (
    PREFIX,
    EventTaken,
    documented_body,
    effect_in,
    invalid_event,
    not_signed,
    not_taken,
)
from api.routing import JSON_MEDIA, read_json, refuse_other_media
from database.delivery_reports import keep_report
from domain.delivery_reports import DeliveryReport, ReportKind

router = APIRouter(prefix=PREFIX, tags=["provider events"])

_PROVIDER = "resend"
_TOLERANCE = 300  # seconds between the provider's clock and ours (Standard Webhooks)
_LONGEST_ID = 200
_KINDS = {
    "email.sent": ReportKind.ACCEPTED,
    "email.delivered": ReportKind.DELIVERED,
    "email.delivery_delayed": ReportKind.DELAYED,
    "email.bounced": ReportKind.BOUNCED,
    "email.complained": ReportKind.COMPLAINED,
    "email.failed": ReportKind.FAILED,
    "email.suppressed": ReportKind.FAILED,  # it is on the provider's own list
}
_EXAMPLE = {
    "type": "email.delivered",
    "created_at": "2026-11-21T10:00:00.126Z",
    "data": {"tags": {"effect": "0197b7c2-8d3e-7a51-9c64-2f1f4b8f2a10"}},
}


class _Pair(BaseModel):
    name: str
    value: str


class _Reason(BaseModel):
    type: str = ""  # of a bounce: Permanent, Transient, Undetermined
    message: str = ""
    reason: str = ""


class _Email(BaseModel):
    """What an event about an e-mail holds, as far as we look at it."""

    tags: dict[str, str] | list[_Pair] = {}
    headers: list[_Pair] | None = None
    bounce: _Reason | None = None
    failed: _Reason | None = None
    suppressed: _Reason | None = None

    @property
    def effect(self) -> str | None:
        """From the tag that was sent with the e-mail, or from its header."""
        tags = self.tags if isinstance(self.tags, dict) else {t.name: t.value for t in self.tags}
        headers = {header.name.lower(): header.value for header in self.headers or ()}
        return tags.get("effect") or headers.get("x-crm-effect")


class _Event(BaseModel):
    type: str
    created_at: AwareDatetime
    data: dict[str, Any] = {}

    def report(self) -> DeliveryReport:
        """Raises ValidationError where an event about an e-mail isn't what it should be."""
        kind = _KINDS.get(self.type, ReportKind.OTHER)
        email = _Email() if kind is ReportKind.OTHER else _Email.model_validate(self.data)
        if kind is ReportKind.BOUNCED and email.bounce and email.bounce.type != "Permanent":
            kind = ReportKind.EXPIRED
        why = email.bounce or email.failed or email.suppressed or _Reason()
        words = [self.type, why.type, why.message or why.reason]
        return DeliveryReport(
            kind=kind,
            effect=effect_in(email.effect),
            said=": ".join(word for word in words if word),
            at=self.created_at,
            provider=_PROVIDER,
        )


@router.post("/resend", openapi_extra=documented_body("application/json", _EXAMPLE))
async def take_resend_event(
    request: Request,
    session: Session,
    held: Held,
    svix_id: Annotated[str, Header()] = "",
    svix_timestamp: Annotated[str, Header(description="seconds since 1970")] = "",
    svix_signature: Annotated[str, Header(description="v1,<base64>, or several")] = "",
) -> EventTaken:
    """Take one event of Resend, signed as Svix signs. A repeat has the same `svix-id`."""
    if held.resend_secret is None:
        raise not_taken("Resend", "CRM_RESEND_WEBHOOK_SECRET")
    refuse_other_media(request, JSON_MEDIA)
    body = await request.body()
    _verify(held.resend_secret, svix_id, svix_timestamp, svix_signature, body)
    event = read_json(body)
    try:
        report = _Event.model_validate(event).report()
    except ValidationError as problem:
        raise invalid_event(problem, event) from None
    return EventTaken(duplicate=not await keep_report(session, _PROVIDER, svix_id, report))


def _verify(secret: bytes, event_id: str, timestamp: str, signatures: str, body: bytes) -> None:
    """Svix's scheme (https://docs.svix.com/receiving/verifying-payloads/how-manual).

    Of several signatures one must fit: while a secret is replaced there are two.
    """
    if not 0 < len(event_id) <= _LONGEST_ID:
        raise not_signed("svix-id is missing or too long")
    if not timestamp.isdecimal() or len(timestamp) > 12:
        raise not_signed("svix-timestamp is missing, or no number of seconds")
    if abs(time.time() - int(timestamp)) > _TOLERANCE:
        raise not_signed("svix-timestamp is more than five minutes from our clock")
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = b"v1," + b64encode(hmac.digest(secret, signed, sha256))
    given = [one.encode() for one in signatures.split()]
    if not any([hmac.compare_digest(one, expected) for one in given]):
        raise not_signed("no signature in svix-signature fits the body")
