"""Messages: what was sent, what waits, what was not sent; and why."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from api.errors import not_found
from console.desk import AtDesk, Desk, Json, Refused, segment
from console.mail_frames import mail_frame
from console.rendering import pairs, words
from console.routes import ConsoleRoute
from database.queries.message_list import COUNTED, beside, count_states
from domain.clock import Clock
from domain.messages import Channel, MessageState, SettledBy, Template
from domain.sms_segments import sms_size

router = APIRouter(route_class=ConsoleRoute)

# As one works through them: what waits, what went wrong, what went well.
_TABS = (
    *(MessageState.HELD, MessageState.QUEUED, MessageState.SENDING, MessageState.FAILED),
    *(MessageState.BOUNCED, MessageState.COMPLAINED, MessageState.UNKNOWN),
    *(MessageState.SUPPRESSED, MessageState.CANCELLED, MessageState.ACCEPTED),
    MessageState.DELIVERED,
)
_RULES = {
    "channel": "The way it takes",
    "address": "Do we know an address?",
    "suppression": "Does the address take our messages?",
    "consent": "Is it allowed?",
    "confirmation": "Is the question still open?",
    "process": "Does the process that asked still go on?",
    "reply": "Has the customer answered already?",
    "deadline": "Does it still make sense?",
    "claims": "Is all that it claims approved?",
    "open_cases": "Is there a case that selling has to wait for?",
    "open_recovery": "Is there a recovery that selling has to wait for?",  # in older decisions
    "pause": "Has the customer paused it?",
    "quiet_hours": "Is it a time to disturb?",
    "cap": "Has the customer had enough for now?",
}
_STEERED_BY = {  # the rule -> the policy that says when it objects
    rule: "contact" for rule in ("quiet_hours", "cap", "confirmation", "open_cases")
}
_PROCESSES = ("customer", "marketing", "delivery", "case", "follow-up", "retention")


@router.get("/messages")
async def list_messages(desk: AtDesk) -> Response:
    filters = desk.filters(
        *("state", "template", "channel", "settled_by", "possible_duplicate"),
        *("customer_id", "cursor"),
    )
    wanted = desk.filters("customer").get("customer", "")
    candidates = await _candidates(desk, wanted) if wanted else []
    if len(candidates) == 1:
        filters["customer_id"] = candidates[0]["id"]
    messages: Json = {"items": [], "next_cursor": None, "prev_cursor": None}
    if not wanted or len(candidates) == 1:
        messages = await desk.get("/messages", **filters)
    customer_id = filters.get("customer_id")
    async with desk.database() as session:
        known = await beside(session, [UUID(one["id"]) for one in messages["items"]])
        counts = await count_states(session, UUID(customer_id) if customer_id else None)
    chosen = (MessageState.HELD, filters.get("state"))  # there also where there are none
    said = [
        (state, f"{words(state)} ({counts.get(state, 0):,})")
        for state in _TABS
        if counts.get(state) or state in chosen
    ]
    return desk.page(
        "messages/list.html",
        messages=messages,
        beside={str(key): value for key, value in known.items()},
        tabs=[("", "All"), *said],
        templates=pairs(Template),
        channels=pairs(Channel),
        settled=pairs(SettledBy),
        wanted=wanted,
        candidates=candidates,
        customer=await desk.get(f"/customers/{customer_id}") if customer_id else None,
        counted=COUNTED,
    )


@router.get("/messages/{message_id}")
async def show_message(desk: AtDesk, message_id: UUID) -> Response:
    message = await desk.get(f"/messages/{message_id}")
    why = await desk.get(f"/messages/{message_id}/explanation")
    async with desk.database() as session:
        here = (await beside(session, [message_id]))[message_id]
    return desk.page(
        "messages/one.html",
        message=message,
        beside=here,
        why=why,
        history=_history(message, why, here.clock),
        next_look=here.clock.business(_at(message["not_before"])),
        now=here.clock.business(datetime.now(UTC)),
        process=await _process(desk, message["workflow_id"]),
        sms=sms_size(message["text"]) if message["channel"] == "sms" and message["text"] else None,
        rules=_RULES,
        known=_known(why["facts"]) if why["facts"] else [],
        steered_by=_STEERED_BY,
    )


@router.get("/messages/{message_id}/html")
async def show_message_html(desk: AtDesk, message_id: UUID) -> Response:
    """As it was sent, in a frame of its own."""
    html = (await desk.get(f"/messages/{message_id}"))["html"]
    if not html:
        raise not_found("HTML of the message", message_id)
    return mail_frame(html)


async def _candidates(desk: Desk, wanted: str) -> list[Json]:
    found: list[Any] = (await desk.get("/customers", q=wanted[:200], limit=8))["items"]
    return found


async def _process(desk: Desk, workflow_id: str) -> Json:
    """The process that asked for it; None for what no process asked for, such as a test send."""
    if workflow_id.partition("/")[0] not in _PROCESSES:
        return None
    try:
        return await desk.get(f"/processes/{segment(workflow_id)}")
    except Refused as refused:
        if refused.status != 404:
            raise
        return None


def _known(facts: Json) -> list[tuple[str, str]]:
    """What the decision was made upon, as far as there is something to say."""
    consent = words(facts["consent"] or "nothing stated")
    if facts["consent_at"]:
        stated = _at(facts["consent_at"])
        consent += f", stated on {stated:%Y-%m-%d %H:%M} UTC ({words(facts['consent_source'])})"
    known = [
        ("Asked at", f"{_at(facts['at']):%Y-%m-%d %H:%M} UTC, for {facts['zone']}"),
        ("Consent", consent),
        ("Address", _address(facts)),
    ]
    if facts["process_ended"]:
        known.append(("What asked", "had ended"))
    if facts["answered"]:
        known.append(("The customer", "had answered what asked"))
    if facts["quiet_hours"]:
        hours = facts["quiet_hours"]
        known.append(("Quiet hours", f"{hours['begins'][:5]} to {hours['ends'][:5]}"))
    if facts["cap"]:
        known.append(("Sent lately", f"{facts['sent']}, of {facts['cap']['at_most']} at most"))
    if facts["open_cases"]:
        known.append(("Open cases", ", ".join(map(words, facts["open_cases"]))))
    if facts["marketing_paused_until"]:
        known.append(("Paused until", facts["marketing_paused_until"][:10]))
    claims = [
        f"{name} until {day}" if day else f"{name}, which is not approved"
        for name, day in facts["claims"].items()
    ]
    if claims:
        known.append(("Claims", ", ".join(claims)))
    return known


def _address(facts: Json) -> str:
    if not facts["address_known"]:
        return f"none for {facts['channel']}"
    return "suppressed" if facts["suppressed"] else "known, not suppressed"


def _history(message: Json, why: Json, clock: Clock) -> list[tuple[datetime, str, str]]:
    """(moment, state, words), the first first; every moment in the customer's business time."""
    lines = [(_at(message["asked_at"]), "queued", f"Asked for by the step {message['step']}")]
    if message["accepted_at"]:
        took = f"{message['provider'] or 'The provider'} took it"
        lines.append((clock.business(_at(message["accepted_at"])), "accepted", took))
    for report in why["reports"]:
        said = f"{report['source']}: {report['words']} {report['said'] or ''}".strip()
        lines.append((clock.business(_at(report["received_at"])), report["kind"], said))
    for one in why["reactions"]:
        did = f"Followed the link {one['link']}" if one["link"] else "Opened it"
        lines.append((clock.business(_at(one["first_at"])), one["kind"], did))
    return sorted(lines)


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)
