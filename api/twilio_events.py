"""Webhook of Twilio: what became of a text message.

https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
"""

import hmac
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Header, Query, Request

from api.deps import Held, Resources, Session
from api.errors import Code, Problem, invalid_field
from api.provider_events import (
    PREFIX,
    EventTaken,
    documented_body,
    effect_in,
    not_signed,
    not_taken,
)
from api.routing import FORM_MEDIA, refuse_other_media
from database.delivery_reports import keep_report
from domain.delivery_reports import DeliveryReport, ReportKind
from domain.plain_text import clean

router = APIRouter(prefix=PREFIX, tags=["provider events"])

_PROVIDER = "twilio"
_MOST_FIELDS = 200
_LONGEST_FIELD = 100  # of those we look at
_KINDS = {
    "accepted": ReportKind.ACCEPTED,
    "scheduled": ReportKind.ACCEPTED,
    "queued": ReportKind.ACCEPTED,
    "sending": ReportKind.ACCEPTED,
    "sent": ReportKind.ACCEPTED,
    "delivered": ReportKind.DELIVERED,
    "read": ReportKind.DELIVERED,
    "undelivered": ReportKind.FAILED,
    "failed": ReportKind.FAILED,
    "canceled": ReportKind.FAILED,
}
# What Twilio says of numbers that take no text message, for whatever is sent to them
# (https://www.twilio.com/docs/api/errors).
_NO_SUCH_NUMBER = {
    "21211": "not a number",
    "21610": "the recipient has answered STOP",
    "21614": "not a mobile number",
    "30005": "the number is unknown",
    "30006": "a landline, or a carrier that can't be reached",
}
_EXAMPLE = {
    "MessageSid": "SM0123456789abcdef0123456789abcdef",
    "MessageStatus": "undelivered",
    "ErrorCode": "30005",
}


@router.post("/twilio", openapi_extra=documented_body(FORM_MEDIA.pattern, _EXAMPLE))
async def take_twilio_event(
    request: Request,
    session: Session,
    held: Held,
    effect: Annotated[str, Query(description="the id of our message")] = "",
    x_twilio_signature: Annotated[str, Header()] = "",
) -> EventTaken:
    """Take one status callback of Twilio. A repeat has the same message and status."""
    form = await read_signed_form(request, held, x_twilio_signature)
    sid, status = _field(form, "MessageSid"), _field(form, "MessageStatus")
    code = clean(form.get("ErrorCode", ""))[:_LONGEST_FIELD].strip()
    report = DeliveryReport(
        kind=_kind(status, code),
        effect=effect_in(effect),
        said=_words(status, code),
        at=datetime.now(UTC),  # a callback doesn't say when
        provider=_PROVIDER,
    )
    kept = await keep_report(session, _PROVIDER, f"{sid}/{status}", report)
    return EventTaken(duplicate=not kept)


def _kind(status: str, code: str) -> ReportKind:
    kind = _KINDS.get(status, ReportKind.OTHER)
    return ReportKind.BOUNCED if kind is ReportKind.FAILED and code in _NO_SUCH_NUMBER else kind


def _words(status: str, code: str) -> str:
    if code in ("", "0"):
        return status
    meaning = f" ({_NO_SUCH_NUMBER[code]})" if code in _NO_SUCH_NUMBER else ""
    return f"{status}: error {code}{meaning}"


def _field(form: dict[str, str], name: str) -> str:
    value = form.get(name, "")
    if not 0 < len(value) <= _LONGEST_FIELD or not value.isascii() or not value.isprintable():
        raise invalid_field(f"/{name}", "is missing, too long or not plain")
    return value


async def read_signed_form(request: Request, held: Resources, signature: str) -> dict[str, str]:
    """The fields of a webhook of Twilio, once its signature has been found right.

    Raises the problems of any webhook: 404 while it is off, 415, 400, 401.
    """
    if held.twilio_token is None:
        raise not_taken("Twilio", "CRM_TWILIO_AUTH_TOKEN")
    refuse_other_media(request, FORM_MEDIA)
    body = await request.body()
    try:
        text = body.decode()
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:  # not UTF-8, or too many fields
        raise Problem(Code.MALFORMED_FORM, "the body can't be read as a form") from None
    expected = twilio_signature(held.twilio_token, _address(request, held), fields)
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        raise not_signed("X-Twilio-Signature doesn't fit the address and the fields")
    return dict(fields)


def _address(request: Request, held: Resources) -> str:
    """As Twilio was told it: what a proxy makes of it does not count."""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{held.links_base}{request.url.path}{query}"


def twilio_signature(token: str, address: str, fields: Sequence[tuple[str, str]]) -> str:
    """https://www.twilio.com/docs/usage/security: the address, then the fields in order of name."""
    signed = address + "".join(name + value for name, value in sorted(set(fields)))
    return b64encode(hmac.digest(token.encode(), signed.encode(), "sha1")).decode()
