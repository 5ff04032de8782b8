"""Starting a process by hand, of one customer or of a selection: first in words, then done."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.bulk_starts import MOST
from api.errors import Code, Problem
from console.customers import FILTERS, STARTED_IN_BULK, find_customers
from console.desk import PREFIX, AtDesk, Desk, Refused
from console.outlook import POLICY_OF, When, outlook
from console.routes import ConsoleRoute
from database.processes import ProcessRow
from database.queries.policies import current_policy
from database.queries.starts import (
    Named,
    facts_to_start,
    name_customers,
    processes_of_kind,
    what_may_be_followed_up,
)
from domain.policies import CaseKind, Priority
from domain.processes import ProcessKind
from domain.staff import STARTS
from domain.starts import obstacle

router = APIRouter(route_class=ConsoleRoute)

_CASE_KINDS = (CaseKind.REQUEST, CaseKind.QUESTION, CaseKind.INCIDENT)
_LOOK_EVERY = 0.1  # seconds
_PATIENCE = 3.0  # seconds to wait for the first step, so that it is seen on the next page


@router.get("/start")
async def ask_for_start(desk: AtDesk) -> Response:
    """For one customer: which process, whether it may start, and what will happen."""
    allowed = _allowed(desk)
    kind = _kind(desk.request.query_params.get("kind") or allowed[0], allowed)
    customer_id = _uuid(desk.request.query_params.get("customer_id", ""))
    return await _one(desk, kind, customer_id, desk.filters("order_id"), None)


@router.post("/start")
async def start_one(desk: AtDesk) -> Response:
    kind = _kind(desk.text("kind"), _allowed(desk))
    customer_id = _uuid(desk.text("customer_id"))
    if customer_id is None:
        raise Problem(Code.UNKNOWN_CUSTOMER, "no customer is named")
    async with desk.database() as session:
        before = {row.workflow_id for row in await processes_of_kind(session, customer_id, kind)}
    try:
        await desk.act("POST", "/processes", _start_of(desk, kind, customer_id))
    except Refused as refused:
        return await _one(desk, kind, customer_id, dict(desk.form), refused)
    begun = await _first_step(desk, customer_id, kind, before)
    said = f"{_TITLES[kind]} started"
    if begun is not None:
        said += f": {begun.step}; waits for {begun.waiting_for}"
    return desk.back(said, to=f"{PREFIX}/customers/{customer_id}")


@router.post("/start/many")
async def preview_many(desk: AtDesk) -> Response:
    """What a start would do for each of the chosen; nothing is done yet."""
    kind = _kind(desk.text("kind"), [one for one in _allowed(desk) if one in STARTED_IN_BULK])
    chosen, more = await _chosen(desk)
    async with desk.database() as session:
        named = await name_customers(session, chosen)
        facts = await facts_to_start(session, chosen)
        policy = await current_policy(session, POLICY_OF[kind])
    hindered = {one: why for one in named if (why := obstacle(kind, facts[one]))}
    return desk.page(
        "starts/many.html",
        kind=kind,
        title=_TITLES[kind],
        named=named,
        hindered=hindered,
        gone=len(chosen) - len(named),
        more=more,
        outlook=outlook(policy, When()),
        priorities=list(Priority),
        case_kinds=_CASE_KINDS,
    )


@router.post("/start/bulk")
async def start_many(desk: AtDesk) -> Response:
    """Done, each by itself. The page is the answer of the API: loaded again, it is the same one."""
    kind = _kind(desk.text("kind"), [one for one in _allowed(desk) if one in STARTED_IN_BULK])
    chosen = _uuids(desk.lists.get("customer_id", []))
    items = [_start_of(desk, kind, one) for one in chosen]
    answer = await desk.act("POST", "/processes/bulk", {"items": items})
    async with desk.database() as session:
        named = await name_customers(session, chosen)
    return desk.page(
        "starts/done.html",
        kind=kind,
        title=_TITLES[kind],
        answer=answer,
        named={str(one): found for one, found in named.items()},
        refused=[one["customer_id"] for one in answer["items"] if one["problem"]],
    )


_TITLES = {
    ProcessKind.MARKETING: "Marketing contact",
    ProcessKind.SUPPORT: "Support case",
    ProcessKind.FOLLOW_UP: "Follow-up",
    ProcessKind.RETENTION: "Retention outreach",
}


async def _one(
    desk: Desk,
    kind: ProcessKind,
    customer_id: UUID | None,
    typed: Mapping[str, str],
    refused: Refused | None,
) -> Response:
    context: dict[str, Any] = {
        "kind": kind,
        "kinds": [(one.value, _TITLES[one]) for one in _allowed(desk)],
        "title": _TITLES[kind],
        "typed": typed,
        "problem": refused.problem if refused else None,
        "priorities": list(Priority),
        "case_kinds": _CASE_KINDS,
        "customer": None,
    }
    async with desk.database() as session:
        policy = await current_policy(session, POLICY_OF[kind])
        when = When()
        if customer_id is not None:
            named = await _known(session, customer_id)
            when = When(named.clock.business(datetime.now(UTC)), named.zone)
            facts = (await facts_to_start(session, [customer_id]))[customer_id]
            context |= {"customer": named, "hindrance": obstacle(kind, facts)}
            if kind is ProcessKind.FOLLOW_UP:
                context["done"] = await what_may_be_followed_up(session, customer_id)
    status = refused.status if refused else 200
    return desk.page("starts/one.html", status=status, outlook=outlook(policy, when), **context)


async def _known(session: AsyncSession, customer_id: UUID) -> Named:
    named = (await name_customers(session, [customer_id])).get(customer_id)
    if named is None:
        raise Problem(Code.UNKNOWN_CUSTOMER, f"there is no customer {customer_id}")
    return named


def _start_of(desk: Desk, kind: ProcessKind, customer_id: UUID) -> dict[str, str]:
    """The API's body, of the fields that belong to the kind."""
    fields = {
        ProcessKind.MARKETING: ("campaign",),
        ProcessKind.SUPPORT: ("text", "case_kind", "priority", "order_id"),
        ProcessKind.RETENTION: ("cause",),
    }
    body = {"kind": str(kind), "customer_id": str(customer_id)}
    if kind is ProcessKind.FOLLOW_UP:
        about, _, about_id = desk.text("about").partition("/")
        return {**body, f"{about or 'order'}_id": about_id}
    return {**body, **desk.given(*fields[kind])}


async def _chosen(desk: Desk) -> tuple[list[UUID], bool]:
    """The rows that were chosen, or all that fit the filters; and whether there are more of them
    than one start takes.
    """
    if desk.text("all") == "yes":
        filters = {name: desk.text(f"filter_{name}") for name in FILTERS}
        page = await find_customers(desk, filters, limit=MOST)
        return [UUID(one["id"]) for one in page["items"]], page["has_more"]
    chosen = list(dict.fromkeys(_uuids(desk.lists.get("customer_id", []))))
    return chosen[:MOST], len(chosen) > MOST


async def _first_step(
    desk: Desk, customer_id: UUID, kind: ProcessKind, before: set[str]
) -> ProcessRow | None:
    """The process that has begun since; None where it needs longer."""
    for _ in range(int(_PATIENCE / _LOOK_EVERY)):
        async with desk.database() as session:
            found = await processes_of_kind(session, customer_id, kind)
        begun = [row for row in found if row.workflow_id not in before]
        if begun:
            return begun[0]
        await asyncio.sleep(_LOOK_EVERY)
    return None


def _allowed(desk: Desk) -> list[ProcessKind]:
    """The kinds that the viewer may start. Raises the 403 problem where there are none."""
    found = [kind for kind, permission in STARTS.items() if desk.viewer.may(permission)]
    if not found:
        raise Problem(Code.FORBIDDEN, f"{desk.viewer.role} may start no process")
    return found


def _kind(given: str, allowed: list[ProcessKind]) -> ProcessKind:
    if given in set(STARTS) - set(allowed):
        raise Problem(Code.FORBIDDEN, f"your role may not start {given}")
    if given not in allowed:
        raise Problem(Code.UNKNOWN_ROUTE, f"nothing is started as {given[:60]!a}")
    return ProcessKind(given)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _uuids(texts: Iterable[str]) -> list[UUID]:
    return [found for text in texts if (found := _uuid(text)) is not None]
