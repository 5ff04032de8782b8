"""One customer, all round: who it is, what happened, what is open, and what can be done now."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.errors import Code, Problem
from api.processes import temporal_url
from console.desk import PREFIX, AtDesk, Desk, Json, Undo, segment
from console.manner import manner_of
from console.rendering import moment, words
from console.routes import ConsoleRoute
from console.steps import step_shown
from database.customers import CustomerKind
from database.processes import ProcessRow
from database.queries.relationship import Relationship, read_relationship, words_in
from domain.contacts import ConsentState
from domain.messages import Channel, Purpose
from domain.processes import ProcessKind, Stage, lifecycle_workflow_id
from domain.promises import PromiseKind
from domain.staff import STARTS
from domain.support import ALLOWED
from domain.templates import Tone

router = APIRouter(route_class=ConsoleRoute)

_LINES, _MOST_LINES = 30, 200
_FIELDS = ("name", "kind", "locale", "zone", "tone", "preferred_channel")
_CLEARABLE = ("tone", "preferred_channel")
_RAIL = {
    Stage.MARKETING: ProcessKind.MARKETING,
    Stage.DELIVERY: ProcessKind.DELIVERY,
    Stage.SUPPORT: ProcessKind.SUPPORT,
    Stage.FOLLOW_UP: ProcessKind.FOLLOW_UP,
    Stage.RETENTION: ProcessKind.RETENTION,
}


class Rung(NamedTuple):
    """A stage on the rail: `here`, `past` or not yet; of the latest of `of` processes."""

    stage: Stage
    mark: str
    since: datetime | None
    until: datetime | None
    why: str
    of: int = 0


@router.get("/customers/{customer_id}")
async def show_customer(desk: AtDesk, customer_id: UUID) -> Response:
    customer = await desk.get(f"/customers/{customer_id}")
    lines = await _timeline(desk, customer_id)
    newest_last = reversed(customer["contact_points"])
    used = {Channel(one["channel"]): one["address"].lower() for one in newest_last}
    async with desk.database() as session:
        around = await read_relationship(session, customer_id, used)
        shown = await _with_words(session, customer_id, lines["items"])
        if around is None:
            raise Problem(Code.UNKNOWN_CUSTOMER, f"there is no customer {customer_id}")
        now = around.clock.business(datetime.now(UTC))
        manner = await manner_of(session, customer, now)
    return desk.page(
        "customers/one.html",
        customer=customer,
        around=around,
        manner=manner,
        now=now,
        speed=around.clock.speed,
        rail=rail_of(customer, around.latest),
        flags=flags_of(customer, around),
        timeline={**lines, "items": shown},
        more=min(len(lines["items"]) + _LINES, _MOST_LINES),
        most=_MOST_LINES,
        starts=[kind for kind, needed in STARTS.items() if desk.viewer.may(needed)],
        answerable=[case for case in around.cases if "respond" in ALLOWED[case.state]],
        temporal={
            row.workflow_id: temporal_url(desk.held, row.workflow_id) for row in around.processes
        },
        kinds=list(CustomerKind),
        tones=list(Tone),
        channels=list(Channel),
        purposes=list(Purpose),
        promise_kinds=list(PromiseKind),
    )


def rail_of(customer: Json, latest: Mapping[ProcessKind, tuple[ProcessRow, int]]) -> Sequence[Rung]:
    """The stages with their dates and reasons, from what the latest process of each says."""
    rungs = []
    for stage, kind in _RAIL.items():
        row, of = latest.get(kind, (None, 0))
        if customer["stage"] == stage:
            since = datetime.fromisoformat(customer["stage_since"])
            rungs.append(Rung(stage, "here", since, None, customer["stage_reason"], of))
        elif row is not None:
            why = row.outcome or row.step
            rungs.append(Rung(stage, "past", row.started_at, row.ended_at, why, of))
        else:
            rungs.append(Rung(stage, "", None, None, ""))
    return rungs


def flags_of(customer: Json, around: Relationship) -> Sequence[tuple[str, str]]:
    """Where and for what the customer must not be written to: the words, and the screen of it."""
    suppressions = f"{PREFIX}/suppressions?customer_id={customer['id']}"
    consents = f"{PREFIX}/customers/{customer['id']}/consents"
    flags = [
        (f"{_nothing(purpose)} by {channel}: the address is suppressed", suppressions)
        for channel, purpose in sorted(around.suppressed, key=str)
    ]
    flags += [
        (f"{_nothing(one.purpose)} by {one.channel}: withdrawn", consents)
        for one in around.consents
        if one.state is ConsentState.WITHDRAWN
    ]
    resting = moment(customer["marketing_paused_until"])
    if resting is not None and resting > around.clock.business(datetime.now(UTC)):
        flags.append((f"No marketing until {resting:%d %b %Y}: the customer rests from it", ""))
    if not customer["contact_points"]:
        flags.append(("No address is known", ""))
    return flags


def _nothing(purpose: Purpose | None) -> str:
    return f"No {purpose.replace('_', ' ')}" if purpose else "Nothing"


async def _timeline(desk: Desk, customer_id: UUID) -> Json:
    asked = desk.filters("what", "cursor", "lines")
    count = asked.pop("lines", "")
    limit = min(max(int(count), 1), _MOST_LINES) if count.isdecimal() else _LINES
    return await desk.get(f"/customers/{customer_id}/timeline", limit=limit, **asked)


async def _with_words(session: AsyncSession, customer_id: UUID, lines: list[Json]) -> list[Json]:
    """The lines of the API, with what the customer wrote."""
    if not lines:
        return []
    moments = [datetime.fromisoformat(one["happened_at"]) for one in lines]
    written = await words_in(session, customer_id, min(moments), max(moments))
    return [
        {
            **one,
            "text": one["facts"].get("text")
            or written.get((one["workflow_id"], one["kind"], at), ""),
        }
        for one, at in zip(lines, moments, strict=True)
    ]


@router.post("/customers/{customer_id}")
async def change_customer(desk: AtDesk, customer_id: UUID) -> Response:
    """What differs from what was read; somebody else's change meanwhile is shown (412)."""
    was = await desk.get(f"/customers/{customer_id}")
    wanted = {name: desk.text(name) or None for name in _FIELDS if name in desk.form}
    change = {
        name: value
        for name, value in wanted.items()
        if value != was[name] and (value is not None or name in _CLEARABLE)
    }
    path = f"/customers/{customer_id}"
    now = await desk.act("PATCH", path, change, version=desk.text("version"))
    before = {name: was[name] or "" for name in change}
    undo = Undo(f"{PREFIX}{path}", {**before, "version": str(now["version"])}) if change else None
    return desk.back("Customer changed", to=f"{PREFIX}{path}", undo=undo)


@router.post("/customers/{customer_id}/contact-points")
async def add_address(desk: AtDesk, customer_id: UUID) -> Response:
    path = f"/customers/{customer_id}/contact-points"
    point = await desk.act("POST", path, desk.given("channel", "address", "locale"))
    undo = Undo(f"{PREFIX}{path}/{point['id']}/retire")
    return desk.back(f"{point['address']} is used from now on", undo=undo)


@router.post("/customers/{customer_id}/contact-points/{point_id}/retire")
async def retire_address(desk: AtDesk, customer_id: UUID, point_id: UUID) -> Response:
    path = f"/customers/{customer_id}"
    points = (await desk.get(path))["contact_points"]
    await desk.act("DELETE", f"{path}/contact-points/{point_id}")
    was = next((one for one in points if one["id"] == str(point_id)), None)
    if was is None:
        return desk.back("The address was not in use any more")
    again = {name: was[name] for name in ("channel", "address", "locale") if was[name]}
    undo = Undo(f"{PREFIX}{path}/contact-points", again)
    return desk.back(f"{was['address']} is used no more", undo=undo)


@router.post("/customers/{customer_id}/consents")
async def state_consent(desk: AtDesk, customer_id: UUID) -> Response:
    body = desk.given("channel", "purpose", "state", "source", "wording")
    kept = await desk.act("POST", f"/customers/{customer_id}/consents", body)
    said = f"{words(kept['purpose'])} by {kept['channel']}: {kept['state']}"
    if kept["state"] == ConsentState.PENDING:
        said += "; the customer is asked to confirm it by a link"
    return desk.back(said)


@router.get("/customers/{customer_id}/consents")
async def list_consents(desk: AtDesk, customer_id: UUID) -> Response:
    """All that was said about being written to."""
    path, filters = f"/customers/{customer_id}", desk.filters("cursor")
    return desk.page(
        "customers/consents.html",
        customer=await desk.get(path),
        consents=await desk.get(f"{path}/consents", **filters),
    )


@router.post("/customers/{customer_id}/replies")
async def record_reply(desk: AtDesk, customer_id: UUID) -> Response:
    body = desk.given("text", "source", "case_id")
    async with step_shown(desk, lifecycle_workflow_id(customer_id)):
        await desk.act("POST", f"/customers/{customer_id}/replies", body)
    return desk.back("Recorded as an answer of the customer")


@router.post("/customers/{customer_id}/needs")
async def record_need(desk: AtDesk, customer_id: UUID) -> Response:
    async with step_shown(desk, lifecycle_workflow_id(customer_id)):
        await desk.act("POST", f"/customers/{customer_id}/needs", {"text": desk.text("text")})
    return desk.back("Recorded; somebody gets a task to take it up")


@router.post("/customers/{customer_id}/preferences")
async def note_preference(desk: AtDesk, customer_id: UUID) -> Response:
    body = {"name": desk.text("name"), "value": desk.text("value")}
    await desk.act("POST", f"/customers/{customer_id}/preferences", body)
    return desk.back("Noted")


@router.post("/customers/{customer_id}/promises")
async def make_promise(desk: AtDesk, customer_id: UUID) -> Response:
    body = {"customer_id": str(customer_id), **desk.given("kind", "text", "due_on")}
    await desk.act("POST", "/promises", body)
    return desk.back("Promise recorded; it binds with the next order")


@router.post("/customers/{customer_id}/answers")
async def answer_case(desk: AtDesk, customer_id: UUID) -> Response:
    """Write to the customer in an open case."""
    path = f"/cases/{segment(desk.text('case_id'))}/respond"
    await desk.act("POST", path, {"text": desk.text("text")})
    return desk.back("Your answer goes out now", to=f"{PREFIX}/customers/{customer_id}")


@router.post("/customers/{customer_id}/commands")
async def steer(desk: AtDesk, customer_id: UUID) -> Response:
    """Pause, resume or stop one of the customer's processes."""
    workflow_id, command = desk.text("workflow_id"), desk.text("command")
    body = {"command": command, **desk.given("reason")}
    async with step_shown(desk, workflow_id):
        await desk.act("POST", f"/processes/{segment(workflow_id)}/commands", body)
    inverse = {"pause": "resume", "resume": "pause"}.get(command)
    fields = {"workflow_id": workflow_id, "command": str(inverse)}
    undo = Undo(f"{PREFIX}/customers/{customer_id}/commands", fields) if inverse else None
    said = {"pause": "paused", "resume": "goes on", "stop": "is stopped"}[command]
    return desk.back(f"The process {said}", undo=undo)
