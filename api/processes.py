"""Processes: where each stands, started by staff, and told to pause, go on or stop."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self
from urllib.parse import quote
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi import Body as RequestBody
from pydantic import BaseModel, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.common import WorkflowIDConflictPolicy

from api.commands import CommandAccepted, command_process
from api.deps import Asker, Held, Resources, Session, permit
from api.errors import Code, Problem, not_found
from api.event_bodies import CaseOpenedEvent, EventBody, LeadReceivedEvent, RiskNoticedEvent
from api.fields import Body, Prose, StaffId, Word, example
from api.intake import accept, business_now, event_id_for
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs, requires_key
from database.orders import Order
from database.processes import ProcessRow
from database.queries.intake import find_ground
from database.queries.operations import OVERDUE
from database.queries.starts import facts_to_start, was_told
from database.support import Case
from domain.follow_up import FollowUpInput
from domain.policies import CaseKind, Priority
from domain.processes import (
    LIFECYCLE_QUEUE,
    Command,
    ProcessKind,
    ProcessState,
    follow_up_workflow_id,
)
from domain.staff import STARTS, Permission, Principal
from domain.starts import StartFacts, obstacle
from workflows.follow_up import FollowUp
from workflows.process import Process
from workflows.visibility import search_attributes

router = APIRouter(prefix="/processes", tags=["processes"], route_class=ApiRoute)

WorkflowId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}$",
        description="such as delivery/<order id>; slashes as they are",
    ),
]
_COMMANDS = {"pause": Process.pause, "resume": Process.resume, "stop": Process.stop}


class ProcessView(BaseModel):
    """Where a process stands. `next_timer_at` is business time, `…_machine_at` the machine's."""

    workflow_id: str
    kind: ProcessKind
    customer_id: UUID
    state: ProcessState
    step: str
    waiting_for: str
    next_timer_at: datetime | None
    next_timer_machine_at: datetime | None
    outcome: str
    allowed_actions: list[str]
    started_at: datetime
    ended_at: datetime | None
    updated_at: datetime
    temporal_url: str = Field(description="its history in the Temporal web UI")


class StartMarketing(Body):
    """A first contact, by the customer's lifecycle: only with consent, and one at a time."""

    kind: Literal["marketing"]
    customer_id: UUID
    campaign: Word | None = None


class StartSupport(Body):
    kind: Literal["support"]
    customer_id: UUID
    text: Prose
    case_kind: Literal[
        CaseKind.REQUEST, CaseKind.QUESTION, CaseKind.INCIDENT, CaseKind.FAILED_DELIVERY
    ] = CaseKind.REQUEST
    priority: Priority = Priority.NORMAL
    order_id: UUID | None = None


class StartFollowUp(Body):
    """Ask about a delivered order or a resolved case."""

    model_config = example(
        kind="follow_up",
        customer_id="0197b7c2-8d3e-7a51-9c64-2f1f4b8f2a10",
        order_id="0197b7c2-8d3e-7a51-9c64-2f1f4b8f2a11",
    )

    kind: Literal["follow_up"]
    customer_id: UUID
    order_id: UUID | None = None
    case_id: UUID | None = None

    @model_validator(mode="after")
    def _about_one(self) -> Self:
        if (self.order_id is None) is (self.case_id is None):
            raise ValueError("name what it is about by order_id or by case_id, not both")
        return self


class StartRetention(Body):
    """A save play, by the customer's lifecycle: only with consent, never during a recovery."""

    kind: Literal["retention"]
    customer_id: UUID
    cause: Word = Field(examples=["contract-ends"])


AnyStart = StartMarketing | StartSupport | StartFollowUp | StartRetention
StartRequest = Annotated[AnyStart, Field(discriminator="kind"), RequestBody()]


class Started(BaseModel):
    """`workflow_id` is the process that was started or told; `event_id` what it was told."""

    kind: ProcessKind
    workflow_id: str
    event_id: str | None = None


class CommandBody(Body):
    command: Literal["pause", "resume", "stop"]
    reason: Word | None = Field(None, description="a code, no personal data")
    by: StaffId = "api"


@router.get("")
async def list_processes(
    session: Session,
    held: Held,
    paging: Paging,
    kind: Annotated[ProcessKind | None, Query()] = None,
    state: Annotated[ProcessState | None, Query()] = None,
    customer_id: Annotated[UUID | None, Query()] = None,
    step: Annotated[str | None, Query(max_length=200, pattern=r"^[ -~]+$")] = None,
    overdue: Annotated[
        bool | None, Query(description="true: its timer should have rung a minute ago")
    ] = None,
) -> Page[ProcessView]:
    """Processes, the latest started first."""
    filters = {"kind": kind, "state": state, "customer_id": customer_id, "step": step}
    given = {name: value for name, value in filters.items() if value is not None}
    statement = sa.select(ProcessRow).filter_by(**given)
    if overdue is not None:
        statement = statement.where(OVERDUE if overdue else OVERDUE.is_not(sa.true()))
    return await read_page(
        session,
        statement,
        [ProcessRow.recorded_at, ProcessRow.workflow_id],
        paging,
        lambda row: _view(row, held),
    )


@router.post("", status_code=202)
@requires_key
@needs(Permission.READ)
async def start_process(
    body: StartRequest,
    request: Request,
    response: Response,
    session: Session,
    held: Held,
    asker: Asker,
) -> Started:
    """Start a process of a customer by hand. The rules that hold for it hold here as well.

    409 `cannot_start` where it would not start now: no consent, one is running already, a recovery.
    """
    known = await facts_to_start(session, [body.customer_id])
    facts, event_id = known.get(body.customer_id), event_id_for(request, "start")
    started = await start_once(session, held, asker, body, facts, event_id)
    response.headers["Location"] = f"/api/v1/processes/{started.workflow_id}"
    return started


async def judge_start(
    session: AsyncSession, asker: Principal, body: AnyStart, facts: StartFacts | None
) -> None:
    """Raises the problem of a start that may not be, or would lead to nothing.

    `facts`: of the customer; None when there is none.
    """
    kind = ProcessKind(body.kind)
    permit(asker, STARTS[kind])
    if facts is None:
        raise Problem(Code.UNKNOWN_CUSTOMER, f"there is no customer {body.customer_id}")
    if why := obstacle(kind, facts):
        raise Problem(Code.CANNOT_START, why)
    if isinstance(body, StartFollowUp):
        await _what_was_done(session, body)
    if isinstance(body, StartSupport) and body.order_id is not None:
        event = _event(body, "judged", datetime.now(UTC))
        event.refuse_unfounded(
            await find_ground(session, "", customer_id=body.customer_id, order_id=body.order_id)
        )


async def start_once(
    session: AsyncSession,
    held: Resources,
    asker: Principal,
    body: AnyStart,
    facts: StartFacts | None,
    event_id: str,
) -> Started:
    """Judge it and start it. A repeat with the same event id starts nothing more, and is not
    refused because of what it has started itself.
    """
    try:
        await judge_start(session, asker, body, facts)
    except Problem as problem:
        ours = problem.code is Code.CANNOT_START and await was_told(
            session, body.customer_id, event_id
        )
        if not ours:
            raise
    kind = ProcessKind(body.kind)
    if isinstance(body, StartFollowUp):
        return Started(kind=kind, workflow_id=await _start_follow_up(session, held, body))
    now = await business_now(session, customer_id=body.customer_id)
    accepted = await accept(session, held, asker.id, _event(body, event_id, now), body)
    return Started(kind=kind, workflow_id=accepted.workflow_id, event_id=accepted.event_id)


def _event(
    body: StartMarketing | StartSupport | StartRetention, event_id: str, now: datetime
) -> EventBody:
    match body:
        case StartMarketing():
            return LeadReceivedEvent(
                kind="lead_received",
                event_id=event_id,
                source="staff",
                occurred_at=now,
                customer_id=body.customer_id,
                campaign=body.campaign,
                by_staff=True,
            )
        case StartRetention():
            return RiskNoticedEvent(
                kind="risk_noticed",
                event_id=event_id,
                source="staff",
                occurred_at=now,
                customer_id=body.customer_id,
                cause=body.cause,
            )
        case StartSupport():
            return CaseOpenedEvent(
                kind="case_opened",
                event_id=event_id,
                source="staff",
                occurred_at=now,
                customer_id=body.customer_id,
                case_kind=body.case_kind,
                priority=body.priority,
                text=body.text,
                order_id=body.order_id,
            )


async def _start_follow_up(session: AsyncSession, held: Resources, body: StartFollowUp) -> str:
    about_id, about, since = await _what_was_done(session, body)
    async with held.engine.reached() as client:
        await client.start_workflow(
            FollowUp.run,
            FollowUpInput(
                customer_id=body.customer_id, about_id=about_id, about=about, since=since
            ),
            id=follow_up_workflow_id(about_id),
            task_queue=LIFECYCLE_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=search_attributes(body.customer_id, ProcessKind.FOLLOW_UP),
            static_summary=f"Follow-up of {'a delivery' if about == 'order' else 'a case'}",
        )
    return follow_up_workflow_id(about_id)


async def _what_was_done(session: AsyncSession, body: StartFollowUp) -> tuple[UUID, str, datetime]:
    """The order or case, and when it was done. Raises 404 and 409."""
    if body.order_id is not None:
        order = await session.get(Order, body.order_id)
        if order is None or order.customer_id != body.customer_id:
            raise Problem(Code.UNKNOWN_ORDER, f"the customer has no order {body.order_id}")
        if order.delivered_at is None:
            raise Problem(Code.CONFLICT, f"the order is {order.state}, not delivered")
        return order.id, "order", order.delivered_at
    case = await session.get(Case, body.case_id)
    if case is None or case.customer_id != body.customer_id:
        raise Problem(Code.UNKNOWN_CASE, f"the customer has no case {body.case_id}")
    if case.resolved_at is None:
        raise Problem(Code.CONFLICT, f"the case is {case.state}, not resolved")
    return case.id, "case", case.resolved_at


@router.post("/{workflow_id:path}/commands")
@needs(Permission.STEER_PROCESSES)
async def steer_process(
    workflow_id: WorkflowId, body: CommandBody, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """Pause, resume or stop a process. 409 with `allowed_actions` when it refuses."""
    command = Command(by=body.by, reason=body.reason or "")
    update = _COMMANDS[body.command]
    return await command_process(request, session, held, workflow_id, update, command)


@router.get("/{workflow_id:path}")
async def show_process(workflow_id: WorkflowId, session: Session, held: Held) -> ProcessView:
    """One process: its state, what it waits for, its next timer, what it may be told."""
    row = await session.get(ProcessRow, workflow_id)
    if row is None:
        raise not_found("process", workflow_id)
    return _view(row, held)


def temporal_url(held: Resources, workflow_id: str) -> str:
    where = f"{held.temporal_ui_url}/namespaces/{held.namespace}/workflows"
    return f"{where}/{quote(workflow_id, safe='')}"


def _view(row: ProcessRow, held: Resources) -> ProcessView:
    return ProcessView(
        workflow_id=row.workflow_id,
        kind=row.kind,
        customer_id=row.customer_id,
        state=row.state,
        step=row.step,
        waiting_for=row.waiting_for,
        next_timer_at=row.next_timer_at,
        next_timer_machine_at=row.next_timer_machine_at,
        outcome=row.outcome,
        allowed_actions=list(row.allowed),
        started_at=row.started_at,
        ended_at=row.ended_at,
        updated_at=row.updated_at,
        temporal_url=temporal_url(held, row.workflow_id),
    )
