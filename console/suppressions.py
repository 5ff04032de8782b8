"""Addresses that must not be written to: why and since when, whose they are, and lifting that."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk, Desk, Json, Refused
from console.routes import ConsoleRoute
from database.queries.suppressions import Owner, owners_of
from domain.contacts import was_asked_for
from domain.messages import Channel

router = APIRouter(route_class=ConsoleRoute)

# How the reasons begin, and what each means.
_REASONS = {
    "hard bounce": "Came back",
    "bounced": "Refused when we sent",
    "5 soft bounces": "Given up for days",
    "complaint": "Called our mail spam",
    "asked by": "Asked to stop",
}
_HOLDS = {"": "false", "lifted": "true", "all": None}


@router.get("/suppressions")
async def list_suppressions(desk: AtDesk) -> Response:
    """Those that hold, the latest first; `show`: the lifted ones, or all."""
    filters = desk.filters("customer_id", "channel", "reason", "q", "cursor")
    lifted = _HOLDS.get(desk.filters("show").get("show", ""), "false")
    found = await desk.get("/suppressions", lifted=lifted, **filters)
    customer_id = filters.get("customer_id")
    return desk.page(
        "suppressions/list.html",
        found=found,
        reasons=list(_REASONS.items()),
        channels=list(Channel),
        customer=await desk.get(f"/customers/{customer_id}") if customer_id else None,
    )


@router.get("/suppressions/{suppression_id}")
async def show_suppression(desk: AtDesk, suppression_id: UUID) -> Response:
    return await _page(desk, suppression_id)


@router.post("/suppressions/{suppression_id}/lift")
async def lift_suppression(desk: AtDesk, suppression_id: UUID) -> Response:
    path = f"/suppressions/{suppression_id}"
    try:
        await desk.act("POST", f"{path}/lift", desk.given("reason", "consent_id"))
    except Refused as refused:
        return await _page(desk, suppression_id, refused.problem)
    return desk.back("Lifted: the address may be written to again", to=f"/console{path}")


async def _page(desk: Desk, suppression_id: UUID, problem: Json = None) -> Response:
    one = await desk.get(f"/suppressions/{suppression_id}")
    async with desk.database() as session:
        owners = await owners_of(session, one["channel"], one["address"])
    asked_for = was_asked_for(one["reason"])
    return desk.page(
        "suppressions/one.html",
        status=int(problem["status"]) if problem else 200,
        one=one,
        problem=problem,
        owners=owners,
        asked_for=asked_for,
        consents=await _consents_since(desk, one, owners) if asked_for else [],
        means=next(
            (words for code, words in _REASONS.items() if one["reason"].startswith(code)), ""
        ),
    )


async def _consents_since(desk: Desk, one: Json, owners: Sequence[Owner]) -> list[tuple[str, str]]:
    """What may lift a wish: consents to marketing on the channel, given since, that hold."""
    found = []
    for owner in owners:
        consents = await desk.get(f"/customers/{owner.customer_id}/consents", holds=True, limit=200)
        found += [
            (consent["id"], f"{owner.name}, {consent['source']}, {consent['occurred_at'][:10]}")
            for consent in consents["items"]
            if (consent["channel"], consent["purpose"]) == (one["channel"], "marketing")
            and consent["state"] == "granted"
            and consent["recorded_at"] > one["recorded_at"]
        ]
    return found
