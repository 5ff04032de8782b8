"""The customer's-eye view: exactly what a customer saw and wrote, and how long he waited."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from api.contacts import customer_clock
from console.desk import AtDesk
from console.routes import ConsoleRoute
from database.queries.eye import moments_of, owed_to
from domain.waits import waits

router = APIRouter(route_class=ConsoleRoute)

_MOST = 100  # moments of a page
_NO_WAIT = timedelta(minutes=1)  # what follows within it follows at once
_DID = {
    "lead_received": "showed interest",
    "reply_received": "wrote",
    "opted_out": "asked not to be written to any more",
    "need_stated": "said what is needed",
    "case_opened": "asked for help",
    "order_placed": "ordered",
    "mail_reply": "wrote a mail",
    "mail_complaint": "called our mail spam",
    "text": "wrote a text message",
    "feedback": "said how it went",
}


@router.get("/customers/{customer_id}/eye")
async def show_eye_view(desk: AtDesk, customer_id: UUID) -> Response:
    customer = await desk.get(f"/customers/{customer_id}")
    before = _moment(desk.request.query_params.get("before", ""))
    async with desk.database() as session:
        clock = await customer_clock(session, customer_id)
        found = await moments_of(session, customer_id, before, _MOST + 1)
        owed = await owed_to(session, customer_id)
    shown = found[-_MOST:]
    now = clock.business(datetime.now(UTC))
    between = waits([moment.at for moment in shown], owed, before or now)
    return desk.page(
        "eye/eye.html",
        customer=customer,
        moments=list(zip(shown, between, strict=True)),
        no_wait=_NO_WAIT,
        did=_DID,
        earlier=shown[0].at.isoformat() if len(found) > _MOST else "",
        before=before,
        now=now,
        speed=clock.speed,
        late=[wait for wait in between if wait.late],
    )


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
