"""Webhook of Twilio: a text message came.

https://www.twilio.com/docs/messaging/guides/webhook-request
"""

from typing import Annotated

from fastapi import APIRouter, Header, Request

from api.deps import Held, Session
from api.errors import invalid_field
from api.fields import phone_number
from api.provider_events import PREFIX, documented_body
from api.received_texts import take_text
from api.routing import FORM_MEDIA
from api.twilio_events import read_signed_form
from domain.plain_text import clean

router = APIRouter(prefix=PREFIX, tags=["provider events"])

_LONGEST_TEXT = 10_000
_EXAMPLE = {
    "MessageSid": "SM0123456789abcdef0123456789abcdef",
    "From": "+5511961234567",
    "Body": "STOP",
}


@router.post(
    "/twilio/texts",
    status_code=204,
    openapi_extra=documented_body(FORM_MEDIA.pattern, _EXAMPLE, required=["MessageSid"]),
)
async def take_twilio_text(
    request: Request,
    session: Session,
    held: Held,
    x_twilio_signature: Annotated[str, Header()] = "",
) -> None:
    """Take a text message that came to a number at Twilio; without a body nothing is answered."""
    form = await read_signed_form(request, held, x_twilio_signature)
    sid = form.get("MessageSid", "")
    if not 0 < len(sid) <= 100 or not sid.isalnum():
        raise invalid_field("/MessageSid", "is missing or no id")
    try:
        sender = phone_number(form.get("From", ""))
    except ValueError:  # a short code, a name: nobody whom we could have written to
        sender = clean(form.get("From", ""))[:100]
    await take_text(session, "twilio", sid, sender, clean(form.get("Body", ""))[:_LONGEST_TEXT])
