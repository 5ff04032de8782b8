"""The board of orders, and one order: what was promised, what its customer was told, what next."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Path
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.errors import Code, Problem, invalid_field
from api.paging import Paging, read_page
from console.desk import AtDesk, Desk, Json, Refused
from console.money import minor_units
from console.routes import ConsoleRoute
from database.queries.orders import (
    BY_DAY,
    LATEST_FIRST,
    NEXT_DAY_FIRST,
    Column,
    OnBoard,
    Wanted,
    around_order,
    count_open,
    first_of_lanes,
    on_board,
    orders_on_board,
)
from database.queries.policies import current_policy
from domain.policies import DeliveryPolicy, PolicyKind
from domain.promises import PromiseKind, day_in, end_of_day
from domain.staff import Permission
from domain.tasks import OUTCOMES, TaskKind
from domain.timeline import words_for

router = APIRouter(route_class=ConsoleRoute)

TABS = (
    (Column.PROMISED.value, "Promised soon"),
    (Column.AT_RISK.value, "At risk"),
    (Column.LATE.value, "Late"),
    (Column.DELIVERED.value, "Delivered"),
    (Column.FAILED.value, "Failed or returned"),
    ("", "All"),
)
_IN_A_LANE = 12  # orders
_LINES = 3  # of an order placed by hand
_PATIENCE = 3.0  # seconds until the process of a new order has written it, mostly far less

# The fields that each milestone has beside its moment.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "order_approved": (),
    "order_dispatched": ("carrier", "tracking", "expected_on"),
    "delivery_attempt_failed": ("reason",),
    "order_delivered": ("shortfalls",),
    "order_returned": ("reason",),
    "order_unavailable": ("refund", "alternative"),
    "order_cancelled": ("reason", "refund", "alternative"),
}
_AS_TYPED = ("carrier", "tracking", "expected_on", "alternative", "promised_on")

OrderIdPath = Annotated[UUID, Path()]


class Lane(NamedTuple):
    """The first of a column of the board; `has_more`: there are others."""

    rows: Sequence[OnBoard]
    has_more: bool


@router.get("/orders")
async def show_board(desk: AtDesk, paging: Paging) -> Response:
    filters = desk.filters(
        "tab", "reference", "customer_id", "promised_from", "promised_until", "view"
    )
    whose = filters.get("customer_id")
    of = await desk.get(f"/customers/{_uuid(whose)}") if whose else None
    wanted = Wanted(
        filters.get("reference"),
        of and UUID(of["id"]),
        _day(filters, "promised_from"),
        _day(filters, "promised_until"),
    )
    tab = filters.get("tab", "")
    if tab not in dict(TABS):
        raise invalid_field("query/tab", f"must be one of: {', '.join(Column)}")
    column = Column(tab) if tab else None
    async with desk.database() as session:
        counts = await count_open(session)
        if filters.get("view") == "board":
            lanes = await _lanes(session, wanted)
            return desk.page(
                "orders/board.html", tabs=TABS, counts=counts, lanes=lanes, of=of, now=_now()
            )
        by_day = column in BY_DAY
        page = await read_page(
            session,
            orders_on_board(column, wanted),
            NEXT_DAY_FIRST if by_day else LATEST_FIRST,
            paging,
            lambda order: order,
            descending=not by_day,
        )
        rows = (await on_board(session, page.items)).values()
    return desk.page(
        "orders/list.html", tabs=TABS, counts=counts, page=page, rows=rows, of=of, now=_now()
    )


async def _lanes(session: AsyncSession, wanted: Wanted) -> dict[Column, Lane]:
    found = await first_of_lanes(session, wanted, _IN_A_LANE + 1)
    shown = {column: orders[:_IN_A_LANE] for column, orders in found.items()}
    rows = await on_board(session, [order for orders in shown.values() for order in orders])
    return {
        column: Lane([rows[order.id] for order in orders], len(found[column]) > len(orders))
        for column, orders in shown.items()
    }


@router.get("/orders/new")
async def show_new(desk: AtDesk) -> Response:
    desk.require(Permission.REPORT_ORDERS)
    return await _new_page(desk, {"reference": f"M-{uuid4().hex[:8]}"}, None)


@router.post("/orders/new")
async def place_order(desk: AtDesk) -> Response:
    """Place an order for a customer; then its page, once its process has written it."""
    try:
        placed = await desk.act("POST", "/orders", _as_placed(desk))
    except Refused as refused:
        return await _new_page(desk, desk.form, refused.problem)
    order_id = placed["order_id"]
    path = f"/console/orders/{order_id}"
    if not await _is_written(desk, order_id):
        path = f"/console/orders?reference={desk.text('reference')}"
    return desk.back("Order placed; its confirmation is on its way to the customer", to=path)


async def _new_page(desk: Desk, typed: Mapping[str, str], problem: Json) -> Response:
    customer_id = typed.get("customer_id") or desk.request.query_params.get("customer_id", "")
    customer = await desk.get(f"/customers/{_uuid(customer_id)}") if customer_id else None
    return desk.page(
        "orders/new.html",
        status=problem["status"] if problem else 200,
        customer=customer,
        typed=typed,
        problem=problem,
        lines=range(1, _LINES + 1),
        promise_kinds=[kind for kind in PromiseKind if kind is not PromiseKind.DATE],
    )


def _as_placed(desk: Desk) -> dict[str, Any]:
    """The body of POST /orders. Raises the 422 problem of an amount that is none."""
    currency = desk.text("currency").upper()
    lines: list[dict[str, Any]] = [
        {
            "product": desk.text(f"product_{n}"),
            "quantity": _number(desk, f"quantity_{n}"),
            "price_minor": _minor(desk, f"price_{n}", currency) or 0,
        }
        for n in range(1, _LINES + 1)
        if desk.text(f"product_{n}")
    ]
    body: dict[str, Any] = {
        "source": "staff",
        **desk.given("customer_id", "customer_reference", "reference", "promised_on"),
        "currency": currency,
        "lines": lines,
        "total_minor": sum(one["price_minor"] * one["quantity"] for one in lines),
    }
    if desk.text("promise_code"):
        code = _code(desk.text("promise_code"))
        body["promises"] = [{"kind": desk.text("promise_kind"), "code": code}]
    return body


async def _is_written(desk: Desk, order_id: str) -> bool:
    for _ in range(int(_PATIENCE / 0.1)):
        try:
            await desk.get(f"/orders/{order_id}")
        except Refused as refused:
            if refused.status != 404:
                raise
            await asyncio.sleep(0.1)
        else:
            return True
    return False


@router.get("/orders/{order_id}")
async def show_order(desk: AtDesk, order_id: OrderIdPath) -> Response:
    order = await desk.get(f"/orders/{order_id}")
    async with desk.database() as session:
        around = await around_order(session, UUID(order["customer_id"]), order["workflow_id"])
        policy = await current_policy(session, PolicyKind.DELIVERY)
    assert isinstance(policy, DeliveryPolicy)
    now = around.clock.business(_now())
    ends = order["promised_on"] and end_of_day(
        date.fromisoformat(order["promised_on"]), around.zone
    )
    return desk.page(
        "orders/one.html",
        order=order,
        around=around,
        policy=policy,
        now=now,
        today=day_in(around.zone, now),
        promise_ends=ends or None,
        fields=FIELDS,
        open_tasks=[task for task in around.tasks if task.ended_at is None],
        chases=[
            task
            for task in around.tasks
            if task.ended_at is None and task.kind is TaskKind.CHASE_ORDER
        ],
        outcomes=OUTCOMES,
        lines=[(line, words_for(line.kind, line.facts)) for line in around.lines],
    )


@router.post("/orders/{order_id}/milestones")
async def report_milestone(desk: AtDesk, order_id: OrderIdPath) -> Response:
    kind = desk.text("kind")
    order = await desk.get(f"/orders/{order_id}")
    body: dict[str, Any] = {"kind": kind, "source": "staff", **desk.given(*_AS_TYPED)}
    if desk.text("reason"):
        body["reason"] = _code(desk.text("reason"))
    if desk.text("occurred_at"):
        body["occurred_at"] = _moment(desk)
    refund = _minor(desk, "refund", order["currency"])
    if refund is not None:
        body["refund_minor"] = refund
    shortfalls = [
        {"promise_id": name.removeprefix("promise_"), "verdict": verdict}
        for name, verdict in desk.form.items()
        if name.startswith("promise_") and verdict and verdict != "kept"
    ]
    if shortfalls:
        body["shortfalls"] = shortfalls
    await desk.act("POST", f"/orders/{order_id}/milestones", body)
    done = await _complete_chases(desk) if kind == "delivery_rescheduled" else ""
    return desk.back(f"Reported; the process takes it from here{done}")


async def _complete_chases(desk: Desk) -> str:
    """The tasks that asked for what has just been done; said where somebody was faster."""
    late = 0
    for task_id in desk.lists.get("chase", []):
        try:
            await desk.act(
                "POST",
                f"/tasks/{_uuid(task_id)}/complete",
                {"outcome": "on_its_way"},
                key=f"{desk.form.get('key', '')}/{task_id}",
            )
        except Refused as refused:
            if refused.status != 409:
                raise
            late += 1
    return "; a task was ended by somebody else meanwhile" if late else ""


@router.post("/orders/{order_id}/tasks/{task_id}")
async def complete_task(desk: AtDesk, order_id: OrderIdPath, task_id: OrderIdPath) -> Response:
    await desk.act("POST", f"/tasks/{task_id}/complete", {"outcome": desk.text("outcome")})
    return desk.back("Task completed", to=f"/console/orders/{order_id}")


@router.post("/orders/{order_id}/learnings")
async def record_learning(desk: AtDesk, order_id: OrderIdPath) -> Response:
    kind = desk.text("kind")
    body: dict[str, Any] = {"kind": kind, "author": desk.viewer.id}
    if kind == "preference":
        body |= {"name": _code(desk.text("name")), "value": desk.text("value")}
    else:
        body["text"] = desk.form.get("text", "")
    await desk.act("POST", f"/orders/{order_id}/learnings", body)
    said = "An opportunity for the account manager" if kind == "need" else "Preference"
    return desk.back(f"{said} recorded")


def _now() -> datetime:
    return datetime.now(UTC)


def _moment(desk: Desk) -> str:
    """What was typed in the viewer's zone; what is no moment is left to the API to refuse."""
    typed = desk.text("occurred_at")
    try:
        return datetime.fromisoformat(typed).replace(tzinfo=ZoneInfo(desk.viewer.zone)).isoformat()
    except ValueError:
        return typed


def _code(said: str) -> str:
    """`Nobody home` as the code that processes are given: nobody-home."""
    return "-".join(said.lower().split())


def _minor(desk: Desk, name: str, currency: str) -> int | None:
    if not desk.text(name):
        return None
    try:
        return minor_units(desk.text(name), currency)
    except ValueError as error:
        raise invalid_field(f"/{name}", str(error)) from None


def _number(desk: Desk, name: str) -> int:
    typed = desk.text(name) or "1"
    if not (typed.isascii() and typed.isdigit() and len(typed) < 10):
        raise invalid_field(f"/{name}", "is no whole number")
    return int(typed)


def _day(filters: Mapping[str, str], name: str) -> date | None:
    if name not in filters:
        return None
    try:
        return date.fromisoformat(filters[name])
    except ValueError:
        raise invalid_field(f"query/{name}", "is no day: write 2026-03-12") from None


def _uuid(typed: str) -> UUID:
    try:
        return UUID(typed)
    except ValueError:
        raise Problem(Code.NOT_FOUND, f"there is no {typed[:60]!a}") from None
