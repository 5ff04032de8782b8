"""What marketing may claim: in which words, until when, by which templates; approved, renewed."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from console.desk import AtDesk, Desk, Json, Refused, Undo, segment
from console.routes import ConsoleRoute
from database.queries.claims import uses_of_claims
from domain.contacts import claim_holds
from domain.staff import Permission

router = APIRouter(route_class=ConsoleRoute)

_SOON = timedelta(days=30)
_LANGUAGES = 4  # wordings that the form takes; the API takes more
_DAY = timedelta(days=1)


@router.get("/claims")
async def list_claims(desk: AtDesk) -> Response:
    """What expires first stands first."""
    desk.require(Permission.EDIT_TEMPLATES)
    claims = await desk.get("/marketing-claims", sort="expires_on", **desk.filters("cursor"))
    async with desk.database() as session:
        uses = await uses_of_claims(session)
    return desk.page("claims/list.html", claims=claims, uses=uses, **_days())


@router.get("/approve-claim")
async def ask_for_claim(desk: AtDesk) -> Response:
    desk.require(Permission.PUBLISH_TEMPLATES)
    return _new(desk)


@router.post("/claims")
async def approve_claim(desk: AtDesk) -> Response:
    wordings = {
        desk.text(f"locale_{n}"): desk.text(f"wording_{n}")
        for n in range(1, _LANGUAGES + 1)
        if desk.text(f"wording_{n}")
    }
    body = {"wordings": wordings, **desk.given("id", "evidence", "expires_on")}
    try:
        claim = await desk.act("POST", "/marketing-claims", body)
    except Refused as refused:
        return _new(desk, refused.problem)
    said = "Approved: a template says it by {{ claims." + claim["id"] + " }}"
    return desk.back(said, to=f"/console/claims/{claim['id']}")


@router.get("/claims/{claim_id}")
async def show_claim(desk: AtDesk, claim_id: str) -> Response:
    desk.require(Permission.EDIT_TEMPLATES)
    return await _page(desk, claim_id)


@router.post("/claims/{claim_id}")
async def renew_claim(desk: AtDesk, claim_id: str) -> Response:
    """Until another day; one that has passed withdraws it."""
    path = f"/marketing-claims/{segment(claim_id)}"
    before = await desk.get(path)
    body = desk.given("expires_on", "evidence")
    try:
        claim = await desk.act("PATCH", path, body, version=desk.text("version") or "*")
    except Refused as refused:
        return await _page(desk, claim_id, refused.problem)
    back = {name: before[name] for name in ("expires_on", "evidence")}
    undo = Undo(f"/console/claims/{claim_id}", {**back, "version": str(claim["revision"])})
    holds = claim_holds(date.fromisoformat(claim["expires_on"]), datetime.now(UTC))
    said = f"May be claimed until {claim['expires_on']}" if holds else "May not be claimed any more"
    return desk.back(said, to=f"/console/claims/{claim_id}", undo=undo)


def _new(desk: Desk, problem: Json = None) -> Response:
    return desk.page(
        "claims/new.html",
        status=int(problem["status"]) if problem else 200,
        problem=problem,
        typed=dict(desk.form),
        rows=range(1, _LANGUAGES + 1),
    )


async def _page(desk: Desk, claim_id: str, problem: Json = None) -> Response:
    claim = await desk.get(f"/marketing-claims/{segment(claim_id)}")
    async with desk.database() as session:
        uses = await uses_of_claims(session)
    return desk.page(
        "claims/one.html",
        status=int(problem["status"]) if problem else 200,
        claim=claim,
        problem=problem,
        typed=desk.form if problem else {},
        uses=uses.get(claim_id, []),
        **_days(),
    )


def _days() -> dict[str, Any]:
    """Of the calendar by which claims expire (UTC)."""
    today = datetime.now(UTC).date()
    days = {"yesterday": today - _DAY, "today": today, "soon": today + _SOON}
    return {name: day.isoformat() for name, day in days.items()}
