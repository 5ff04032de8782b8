"""One box for everything: customers, orders, cases, tasks and processes by what somebody types."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Session
from api.fields import Line
from api.routing import ApiRoute
from database.customers import Customer, CustomerKind
from database.orders import Order
from database.processes import ProcessRow
from database.queries.search import (
    Match,
    Typed,
    find_customers,
    find_processes,
    find_referenced,
    find_tasks,
    ids_in,
    read_typed,
)
from database.support import Case
from database.tasks import Task
from domain.tasks import TaskKind

router = APIRouter(prefix="/search", tags=["search"], route_class=ApiRoute)

HitKind = Literal["customer", "order", "case", "task", "process"]
_SCOPES = {"@": CustomerKind.PERSON, "#": CustomerKind.ORGANISATION}
_TASKS = "!"


class Hit(BaseModel):
    """Something found. `title` and `subtitle` are for a list; `href` is its place in the API."""

    kind: HitKind
    id: str = Field(description="of a process, its workflow id")
    what: str = Field(examples=["Person"], description="what it is, in a word or two")
    title: str = Field(examples=["Ada Lovelace"])
    subtitle: str = Field(examples=["C-1001 · ada@example.com"])
    customer_id: UUID
    match: Match
    href: str = Field(examples=["/api/v1/customers/0197b7c2-8d3e-7a51-9c64-2f1f4b8f2a10"])


class Found(BaseModel):
    """What fits what was typed, by kind; of each the best first."""

    items: list[Hit]


@router.get("")
async def search_everything(
    session: Session,
    q: Annotated[
        Line,
        Query(
            description="a name, reference, e-mail address, phone number, id or workflow id, or a"
            " part of it. Begun with @ only people, with # organisations, with ! open tasks (of a"
            " customer, an owner or a kind)",
            examples=["lovelace"],
        ),
    ],
    limit: Annotated[int, Query(ge=1, le=20, description="of each kind")] = 8,
) -> Found:
    """Find by what is typed, as it is typed; names are found without accents and misspelt."""
    scope, text = (q[0], q[1:].strip()) if q[0] in (*_SCOPES, _TASKS) else ("", q)
    if not text:
        return Found(items=[])
    typed = await read_typed(session, text)
    if scope == _TASKS:
        return Found(items=await _tasks(session, typed, limit))
    if scope:
        customers = await find_customers(session, typed, kind=_SCOPES[scope], limit=limit)
        return Found(items=[_customer(*found) for found in customers])
    return Found(items=await _anything(session, typed, text, limit))


async def _anything(session: AsyncSession, typed: Typed, text: str, limit: int) -> list[Hit]:
    ids = ids_in(text)
    customers = await find_customers(session, typed, ids=ids, limit=limit)
    orders = await find_referenced(session, Order, typed, ids, limit)
    cases = await find_referenced(session, Case, typed, ids, limit)
    hits = [_customer(*found) for found in customers]
    hits += [_order(*found) for found in orders]
    hits += [_case(*found) for found in cases]
    if ids is not None:
        processes = await find_processes(session, typed.lower, ids, limit)
        hits += [_process(row, name, typed.lower) for row, name in processes]
    return hits


async def _tasks(session: AsyncSession, typed: Typed, limit: int) -> list[Hit]:
    kinds = [kind for kind in TaskKind if typed.lower in kind.value.replace("_", " ")]
    return [_task(task, name) for task, name in await find_tasks(session, typed, kinds, limit)]


def _customer(customer: Customer, address: str | None, match: Match) -> Hit:
    return Hit(
        kind="customer",
        id=str(customer.id),
        what=customer.kind.value.capitalize(),
        title=customer.name,
        subtitle=_joined(customer.reference, address or ""),
        customer_id=customer.id,
        match=match,
        href=f"/api/v1/customers/{customer.id}",
    )


def _order(order: Order, name: str, match: Match) -> Hit:
    promised = f"promised for {order.promised_on}" if order.promised_on else ""
    return Hit(
        kind="order",
        id=str(order.id),
        what="Order",
        title=order.reference,
        subtitle=_joined(name, order.state.value.replace("_", " "), promised),
        customer_id=order.customer_id,
        match=match,
        href=f"/api/v1/orders/{order.id}",
    )


def _case(case: Case, name: str, match: Match) -> Hit:
    return Hit(
        kind="case",
        id=str(case.id),
        what=f"{case.kind.value.replace('_', ' ').capitalize()} case",
        title=case.reference,
        subtitle=_joined(name, case.state.value.replace("_", " "), case.owner or ""),
        customer_id=case.customer_id,
        match=match,
        href=f"/api/v1/cases/{case.id}",
    )


def _process(row: ProcessRow, name: str, text: str) -> Hit:
    return Hit(
        kind="process",
        id=row.workflow_id,
        what=f"{row.kind.value.replace('_', ' ').capitalize()} process",
        title=row.workflow_id,
        subtitle=_joined(name, row.state.value, row.step),
        customer_id=row.customer_id,
        match=Match.EXACT if row.workflow_id == text else Match.PREFIX,
        href=f"/api/v1/processes/{row.workflow_id}",
    )


def _task(task: Task, name: str) -> Hit:
    return Hit(
        kind="task",
        id=str(task.id),
        what="Task",
        title=task.kind.value.replace("_", " ").capitalize(),
        subtitle=_joined(name, f"due {task.due_at:%Y-%m-%d %H:%M} UTC", task.owner or ""),
        customer_id=task.customer_id,
        match=Match.CONTAINS,
        href=f"/api/v1/tasks/{task.id}",
    )


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
