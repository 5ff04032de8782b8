"""Cases: the queue, and one case with its clocks, its conversation and what may be done."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from api.paging import Paging, read_page
from console.asked import CustomersTime, one_of, time_of
from console.case_clocks import clocks_of
from console.conversation import Entry, conversation_of
from console.desk import AtDesk, Desk, Json, Refused, Undo
from console.mail_frames import mail_frame
from console.manner import manner_of
from console.routes import ConsoleRoute
from console.steps import step_shown
from database.customers import clock_in
from database.queries.cases import (
    ACTIVE,
    NEXT_CLOCK,
    OVERDUE,
    cases_with_clocks,
    names_of_staff,
    who_works_cases,
)
from database.queries.processes import lines_of, messages_of
from database.support import Case
from domain.policies import CaseKind, Priority
from domain.processes import support_workflow_id
from domain.support import CaseCause, CaseState

router = APIRouter(route_class=ConsoleRoute)

_MOST_AT_ONCE = 100
_ACTIONS = {
    "respond": ("respond", "The answer is on its way"),
    "wait_for_customer": (
        "wait-for-customer",
        "Asked; the resolution clock rests",
    ),
    "resolve": ("resolve", "Resolved; the customer is told the outcome"),
}


class CaseLine(NamedTuple):
    case: Case
    customer: str
    begins: str
    time: CustomersTime

    @property
    def due(self) -> datetime | None:
        return self.case.first_response_due or self.case.resolution_due

    @property
    def version(self) -> str:
        """Differs when a row of the queue does."""
        case = self.case
        return f"{case.state} {case.priority} {case.owner} {self.due}"


def line_of(row: Any) -> CaseLine:
    """Of a row of `cases_with_clocks`."""
    return CaseLine(row[0], row.name, row.begins or "", time_of(row))


class _Typed(TypedDict):
    """What the composer is to hold."""

    action: str
    text: str
    cause: str
    note: str


@dataclass(frozen=True)
class _Draft:
    """What has been typed, and what is said about it."""

    typed: _Typed
    preview: Json | None = None
    problem: Json | None = None
    meanwhile: tuple[Entry, ...] = ()


_NOTHING = _Draft({"action": "respond", "text": "", "cause": CaseCause.UNKNOWN, "note": ""})


@router.get("/cases")
async def list_cases(desk: AtDesk, paging: Paging) -> Response:
    """By the clock that rings next; mine for those who work cases, else all."""
    show = desk.filters("show").get("show", "mine" if desk.viewer.may("work_cases") else "all")
    state = one_of(desk, "state", CaseState)
    given = {
        Case.state: state,
        Case.priority: one_of(desk, "priority", Priority),
        Case.kind: one_of(desk, "kind", CaseKind),
        Case.owner: desk.viewer.id if show == "mine" else desk.filters("owner").get("owner"),
    }
    statement = cases_with_clocks().where(
        *(column == value for column, value in given.items() if value is not None)
    )
    if state is None:
        statement = statement.where(Case.state.in_(ACTIVE))
    if show == "unassigned":
        statement = statement.where(Case.owner.is_(None))
    if desk.filters("overdue"):
        statement = statement.where(OVERDUE)
    over = state in (CaseState.RESOLVED, CaseState.CLOSED)
    async with desk.database() as session:
        page = await read_page(
            session,
            statement,
            [Case.opened_at if over else NEXT_CLOCK, Case.id],
            paging,
            line_of,
            descending=over,
        )
        names = await names_of_staff(session)
        owners = await who_works_cases(session)
    return desk.page(
        "cases/list.html",
        page=page,
        names=names,
        owners=owners,
        show=show,
        states=list(CaseState),
        priorities=list(Priority),
        kinds=list(CaseKind),
    )


@router.post("/cases")
async def assign_cases(desk: AtDesk) -> Response:
    """Those that were chosen, one by one: what one refuses stops no other."""
    chosen = desk.lists.get("cases", [])[:_MOST_AT_ONCE]
    key, owner = desk.form.get("key", ""), desk.text("owner")
    refused = 0
    for case_id in chosen:
        try:
            path = f"/cases/{UUID(case_id)}/assign"
            await desk.act("POST", path, {"owner": owner}, key=f"{key}-{case_id}")
        except (Refused, ValueError):
            refused += 1
    told = f"{len(chosen) - refused} cases assigned to {owner}"
    return desk.back(f"{told}, {refused} refused" if refused else told)


@router.get("/cases/{case_id}")
async def show_case(desk: AtDesk, case_id: UUID) -> Response:
    return await _page(desk, case_id, _NOTHING)


@router.post("/cases/{case_id}/preview")
async def preview_words(desk: AtDesk, case_id: UUID) -> Response:
    """What the customer would get; with `as_mail` as a mail program shows it."""
    draft = _drafted(desk)
    wanted = {"action": draft.typed["action"], "text": draft.typed["text"] or None}
    try:
        shown = await desk.act("POST", f"/cases/{case_id}/previews", wanted)
    except Refused as refused:
        return await _page(desk, case_id, replace(draft, problem=refused.problem))
    if desk.text("as_mail"):
        return mail_frame(shown["html"])
    return await _page(desk, case_id, replace(draft, preview=shown))


@router.post("/cases/{case_id}/words")
async def write_to_customer(desk: AtDesk, case_id: UUID) -> Response:
    """Answer, ask, or resolve. What came meanwhile is shown first; nothing typed is lost."""
    draft = _drafted(desk)
    meanwhile = await _said_meanwhile(desk, case_id)
    if meanwhile:
        return await _page(desk, case_id, replace(draft, meanwhile=meanwhile))
    path, said = _ACTIONS[draft.typed["action"]]
    body = {"text": draft.typed["text"] or None}
    if path == "resolve":
        body["cause"] = draft.typed["cause"]
    try:
        async with step_shown(desk, support_workflow_id(case_id)):
            await desk.act("POST", f"/cases/{case_id}/{path}", body)
    except Refused as refused:
        return await _page(desk, case_id, replace(draft, problem=refused.problem))
    again = Undo(f"/console/cases/{case_id}/reopen", label="Reopen") if path == "resolve" else None
    return desk.back(said, to=f"/console/cases/{case_id}", undo=again)


@router.post("/cases/{case_id}/notes")
async def write_note(desk: AtDesk, case_id: UUID) -> Response:
    await desk.act("POST", f"/cases/{case_id}/notes", {"text": desk.text("note")})
    return desk.back("Noted for colleagues", to=f"/console/cases/{case_id}")


@router.post("/cases/{case_id}/assign")
async def assign_case(desk: AtDesk, case_id: UUID) -> Response:
    """To me, or to whom was chosen; it can go back to the one who had it, or to its queue."""
    before = (await desk.get(f"/cases/{case_id}"))["owner"]
    owner = desk.text("owner") or desk.viewer.id
    async with step_shown(desk, support_workflow_id(case_id)):
        await desk.act("POST", f"/cases/{case_id}/assign", {"owner": owner})
    path = f"/console/cases/{case_id}"
    inverse = ("assign", before) if before else ("release", owner)
    undo = Undo(f"{path}/{inverse[0]}", {"owner": inverse[1]})
    said = "The case is yours" if owner == desk.viewer.id else f"The case is {owner}'s"
    return desk.back(said, undo=undo if before != owner else None)


@router.post("/cases/{case_id}/release")
async def release_case(desk: AtDesk, case_id: UUID) -> Response:
    """Mine, or that of whom is named, back to its queue."""
    owner = desk.text("owner") or desk.viewer.id
    async with step_shown(desk, support_workflow_id(case_id)):
        await desk.act("POST", f"/cases/{case_id}/release", {"owner": owner})
    again = Undo(f"/console/cases/{case_id}/assign", {"owner": owner})
    return desk.back("The case waits in its queue again", undo=again)


@router.post("/cases/{case_id}/escalate")
async def escalate_case(desk: AtDesk, case_id: UUID) -> Response:
    async with step_shown(desk, support_workflow_id(case_id)):
        await desk.act("POST", f"/cases/{case_id}/escalate", {})
    return desk.back("Escalated: a manager is asked")


@router.post("/cases/{case_id}/reopen")
async def reopen_case(desk: AtDesk, case_id: UUID) -> Response:
    async with step_shown(desk, support_workflow_id(case_id)):
        await desk.act("POST", f"/cases/{case_id}/reopen", {})
    return desk.back("Open again; the resolution clock goes on")


def _drafted(desk: Desk) -> _Draft:
    action = desk.text("action")
    return _Draft(
        {
            "action": action if action in _ACTIONS else "respond",
            "text": desk.text("text"),
            "cause": desk.text("cause") or CaseCause.UNKNOWN,
            "note": "",
        }
    )


async def _said_meanwhile(desk: Desk, case_id: UUID) -> tuple[Entry, ...]:
    """What was said since the page was made: the form carries what it showed."""
    seen = desk.text("seen")
    entries = [entry for entry in await _conversation(desk, case_id) if _is_said(entry)]
    return tuple(entries[: max(len(entries) - int(seen), 0)]) if seen.isdecimal() else ()


def _is_said(entry: Entry) -> bool:
    """By a person, on either side."""
    return entry.side != "event" and not (entry.side == "us" and not entry.by)


async def _conversation(desk: Desk, case_id: UUID) -> list[Entry]:
    case = await desk.get(f"/cases/{case_id}")
    async with desk.database() as session:
        row = (await session.execute(cases_with_clocks().where(Case.id == case_id))).one()
        messages = await messages_of(session, support_workflow_id(case_id))
    return conversation_of(case, messages, [], clock_in(row))


async def _page(desk: Desk, case_id: UUID, draft: _Draft) -> Response:
    case = await desk.get(f"/cases/{case_id}")
    customer_id = case["customer_id"]
    customer = await desk.get(f"/customers/{customer_id}")
    async with desk.database() as session:
        row = (await session.execute(cases_with_clocks().where(Case.id == case_id))).one()
        messages = await messages_of(session, support_workflow_id(case_id))
        lines = await lines_of(session, support_workflow_id(case_id))
        names = await names_of_staff(session)
        owners = await who_works_cases(session)
        manner = await manner_of(session, customer, time_of(row).now)
    entries = conversation_of(case, messages, lines, clock_in(row))
    process = await desk.get(f"/processes/{case['workflow_id']}")
    tasks = await desk.get("/tasks", workflow_id=case["workflow_id"], limit=200)
    others = await desk.get("/cases", customer_id=customer_id, limit=6)
    return desk.page(
        "cases/one.html",
        status=int(draft.problem["status"]) if draft.problem else 200,
        case=case,
        time=time_of(row),
        clocks=clocks_of(row[0], messages),
        entries=entries,
        seen=sum(_is_said(entry) for entry in entries),
        draft=draft,
        ways=[one for one in _ACTIONS if one in case["allowed_actions"]],
        causes=list(CaseCause),
        names=names,
        owners=owners,
        process=process,
        tasks=[task for task in tasks["items"] if not task["ended_at"]],
        others=[one for one in others["items"] if one["id"] != case["id"]],
        customer=customer,
        manner=manner,
        order=case["order_id"] and await desk.get(f"/orders/{case['order_id']}"),
        feedback=(await desk.get("/feedback", customer_id=customer_id, limit=3))["items"],
        policy=(await desk.get("/policies/support"))["current"]["document"],
    )
