"""Support cases: opened, answered, resolved by commands that the case may refuse."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID, uuid4

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.commands import CommandAccepted, command_process
from api.deps import Caller, Held, Resources, Session
from api.errors import Code, Problem
from api.event_bodies import CaseOpenedEvent
from api.fields import Body, EventId, Instant, Prose, Reference, StaffId, Word
from api.intake import Accepted, accept, business_now, event_id_for
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs, note_change
from api.template_trials import PreviewView, preview_for
from database.customers import Customer
from database.events import Event
from database.queries.customers import addresses_of
from database.queries.replies import replies_to
from database.support import Case, StaffText
from domain.messages import Channel, Template
from domain.policies import CaseKind, Priority
from domain.processes import Command, derived_id, support_workflow_id
from domain.staff import Permission
from domain.support import (
    ALLOWED,
    Assign,
    CaseCause,
    CaseState,
    Resolve,
    Respond,
    WaitForCustomer,
    outcome_template,
)
from domain.tasks import Role
from workflows.support import SupportCase

router = APIRouter(prefix="/cases", tags=["cases"], route_class=ApiRoute)


class NewCase(Body):
    event_id: EventId | None = Field(None, description="null: one is made")
    customer_id: UUID | None = None
    customer_reference: Reference | None = None
    kind: Literal[
        CaseKind.REQUEST, CaseKind.QUESTION, CaseKind.INCIDENT, CaseKind.FAILED_DELIVERY
    ] = CaseKind.REQUEST
    priority: Priority = Priority.NORMAL
    queue: Role = Role.SUPPORT_AGENT
    text: Prose = Field(examples=["The handle came loose after a day."])
    order_id: UUID | None = None
    source: Word = "api"
    occurred_at: Instant | None = Field(None, description="null: now on the customer's clock")

    @model_validator(mode="after")
    def _names_one_customer(self) -> Self:
        if (self.customer_id is None) is (self.customer_reference is None):
            raise ValueError("name the customer by customer_id or by customer_reference, not both")
        return self


class CaseAccepted(Accepted):
    case_id: UUID


class CaseView(BaseModel):
    """A case with its clocks; `resolution_due` is empty while that clock rests."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    reference: str
    customer_id: UUID
    kind: CaseKind
    state: CaseState
    priority: Priority
    queue: Role
    owner: str | None
    order_id: UUID | None
    feedback_id: UUID | None
    opened_at: datetime
    contact_by: datetime | None
    first_response_due: datetime | None
    first_response_at: datetime | None
    first_response_missed_at: datetime | None
    resolution_due: datetime | None
    resolution_missed_at: datetime | None
    resolved_at: datetime | None
    closed_at: datetime | None
    reopened: int
    escalations: int
    cause: CaseCause | None
    outcome: str | None
    recorded_at: datetime


class StaffTextView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    by: str
    text: str
    internal: bool
    recorded_at: datetime
    words_deleted_at: datetime | None = Field(description="since when the text is empty")


class ReplyView(BaseModel):
    """What the customer wrote about the case later."""

    model_config = ConfigDict(from_attributes=True)

    event_id: str
    text: str
    occurred_at: datetime
    received_mail_id: UUID | None = Field(description="the mail, with its attachments")


class CaseDetail(CaseView):
    """A case with its words."""

    workflow_id: str
    allowed_actions: list[str]
    text: str = Field(description="what the customer wrote to open it")
    staff_texts: list[StaffTextView]
    replies: list[ReplyView]


class _ByStaff(Body):
    by: StaffId = "api"


class Answer(_ByStaff):
    text: Prose = Field(examples=["We send you a new handle today."])


class Question(_ByStaff):
    text: Prose | None = Field(None, description="what we ask the customer")


class Resolution(_ByStaff):
    text: Prose | None = Field(None, description="what the customer is told of the outcome")
    cause: CaseCause = CaseCause.UNKNOWN


class WantedWords(Body):
    """What is about to be said, and by which action."""

    action: Literal["respond", "wait_for_customer", "resolve"] = "respond"
    text: Prose | None = Field(None, examples=["We send you a new handle today."])

    @model_validator(mode="after")
    def _answers_say_something(self) -> Self:
        if self.action == "respond" and self.text is None:
            raise ValueError("an answer needs a text")
        return self


class CaseWords(PreviewView):
    """What the customer would get."""

    template: Template
    to: str | None = Field(description="the address it would go to; null: there is none")


class Note(_ByStaff):
    text: Prose = Field(examples=["Called the carrier: the parcel is found."])


class Reason(_ByStaff):
    reason: Word | None = Field(None, description="a code, no personal data")


class Assignment(_ByStaff):
    owner: StaffId


class CaseRelease(_ByStaff):
    owner: StaffId = Field(description="who has it: a case of somebody else stays theirs")


@router.post("", status_code=202)
@needs(Permission.START_SUPPORT)
async def open_case(
    body: NewCase,
    request: Request,
    response: Response,
    session: Session,
    held: Held,
    caller: Caller,
) -> CaseAccepted:
    """Open a case. The customer gets an acknowledgement; the clocks run from `occurred_at`."""
    now = await business_now(
        session, customer_id=body.customer_id, customer_reference=body.customer_reference
    )
    event = CaseOpenedEvent(
        kind="case_opened",
        event_id=body.event_id or event_id_for(request, "case"),
        source=body.source,
        occurred_at=body.occurred_at or now,
        customer_id=body.customer_id,
        customer_reference=body.customer_reference,
        case_kind=body.kind,
        priority=body.priority,
        queue=body.queue,
        text=body.text,
        order_id=body.order_id,
    )
    accepted = await accept(session, held, caller, event, body)
    case_id = event.opened_case()
    response.headers["Location"] = f"/api/v1/cases/{case_id}"
    return CaseAccepted(**accepted.model_dump(), case_id=case_id)


@router.get("")
async def list_cases(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query()] = None,
    order_id: Annotated[UUID | None, Query()] = None,
    state: Annotated[CaseState | None, Query()] = None,
    kind: Annotated[CaseKind | None, Query()] = None,
    priority: Annotated[Priority | None, Query()] = None,
    queue: Annotated[Role | None, Query()] = None,
    owner: Annotated[StaffId | None, Query()] = None,
    due_before: Annotated[
        Instant | None, Query(description="business time: one of its clocks runs out before")
    ] = None,
) -> Page[CaseView]:
    """Cases, the latest opened first."""
    filters = {
        "customer_id": customer_id,
        "order_id": order_id,
        "state": state,
        "kind": kind,
        "priority": priority,
        "queue": queue,
        "owner": owner,
    }
    given = {name: value for name, value in filters.items() if value is not None}
    statement = sa.select(Case).filter_by(**given)
    if due_before is not None:
        unanswered = Case.first_response_at.is_(None) & (Case.first_response_due < due_before)
        is_due = unanswered | (Case.resolution_due < due_before)
        statement = statement.where(Case.resolved_at.is_(None), is_due)
    return await read_page(
        session,
        statement,
        [Case.opened_at, Case.id],
        paging,
        CaseView.model_validate,
    )


@router.get("/{case_id}")
async def show_case(case_id: UUID, session: Session) -> CaseDetail:
    """One case: state, clocks, words, and what may be done now."""
    case = await _case(session, case_id)
    body = await session.scalar(sa.select(Event.body).where(Event.event_id == case.event_id))
    texts = await session.scalars(
        sa.select(StaffText).where(StaffText.case_id == case_id).order_by(StaffText.recorded_at)
    )
    opening = body or {}
    return CaseDetail(
        **CaseView.model_validate(case).model_dump(),
        workflow_id=support_workflow_id(case_id),
        allowed_actions=list(ALLOWED[case.state]),
        text=str(opening.get("text") or opening.get("comment") or ""),
        staff_texts=[StaffTextView.model_validate(text) for text in texts],
        replies=[ReplyView.model_validate(row) for row in await replies_to(session, case_id)],
    )


@router.post("/{case_id}/respond")
@needs(Permission.WORK_CASES)
async def answer_case(
    case_id: UUID, body: Answer, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """Write to the customer. The first answer stops the first-response clock."""
    text_id = await _keep_text(request, held, await _case(session, case_id), body.by, body.text)
    command = Respond(by=body.by, text_id=text_id)
    return await _tell_case(request, session, held, case_id, SupportCase.respond, command, text_id)


@router.post("/{case_id}/wait-for-customer")
@needs(Permission.WORK_CASES)
async def await_case_customer(
    case_id: UUID, body: Question, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """Ask the customer something; until the answer the resolution clock rests."""
    text_id = await _keep_text(request, held, await _case(session, case_id), body.by, body.text)
    command = WaitForCustomer(by=body.by, text_id=text_id)
    return await _tell_case(
        request, session, held, case_id, SupportCase.wait_for_customer, command, text_id
    )


@router.post("/{case_id}/resolve")
@needs(Permission.WORK_CASES)
async def resolve_case(
    case_id: UUID, body: Resolution, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """Resolve the case and tell the customer the outcome."""
    text_id = await _keep_text(request, held, await _case(session, case_id), body.by, body.text)
    command = Resolve(by=body.by, text_id=text_id, cause=body.cause)
    return await _tell_case(request, session, held, case_id, SupportCase.resolve, command, text_id)


@router.post("/{case_id}/previews")
@needs(Permission.WORK_CASES)
async def preview_case_words(
    case_id: UUID, body: WantedWords, request: Request, session: Session, held: Held
) -> CaseWords:
    """What the customer would get for a text, in the wording in force; nothing is sent or kept."""
    note_change(request, before=None, after={"action": body.action})
    case = await _case(session, case_id)
    customer = await session.get_one(Customer, case.customer_id)
    template = {
        "respond": Template.CASE_REPLY,
        "wait_for_customer": Template.CASE_WAITING,
        "resolve": outcome_template(case.kind),
    }[body.action]
    known = {"case": case.reference, "text": body.text or ""}
    shown = await preview_for(session, held, template, customer, known=known)
    points = (await addresses_of(session, [customer.id]))[customer.id]
    to = next((point.address for point in points if point.channel is Channel.EMAIL), None)
    return CaseWords(**shown.model_dump(), template=template, to=to)


@router.post("/{case_id}/notes", status_code=201)
@needs(Permission.WORK_CASES)
async def note_case(case_id: UUID, body: Note, request: Request, session: Session) -> StaffTextView:
    """Write something for colleagues. The customer never gets it, and no clock hears of it."""
    note_change(request, before=None, after={"note": "written"})
    case = await _case(session, case_id)
    note = StaffText(
        customer_id=case.customer_id, case_id=case_id, by=body.by, text=body.text, internal=True
    )
    session.add(note)
    await session.flush()
    await session.refresh(note)
    return StaffTextView.model_validate(note)


@router.post("/{case_id}/reopen")
@needs(Permission.WORK_CASES)
async def reopen_case(
    case_id: UUID, body: Reason, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """Reopen a resolved case within the policy's window."""
    command = Command(by=body.by, reason=body.reason or "")
    return await _tell_case(request, session, held, case_id, SupportCase.reopen, command)


@router.post("/{case_id}/escalate")
@needs(Permission.WORK_CASES)
async def escalate_case(
    case_id: UUID, body: Reason, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """Raise the priority and ask a manager."""
    command = Command(by=body.by, reason=body.reason or "")
    return await _tell_case(request, session, held, case_id, SupportCase.escalate, command)


@router.post("/{case_id}/assign")
@needs(Permission.WORK_CASES)
async def assign_case(
    case_id: UUID, body: Assignment, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """Give the case to a member of staff."""
    command = Assign(by=body.by, owner=body.owner)
    return await _tell_case(request, session, held, case_id, SupportCase.assign, command)


@router.post("/{case_id}/release")
@needs(Permission.WORK_CASES)
async def release_case(
    case_id: UUID, body: CaseRelease, request: Request, session: Session, held: Held
) -> CommandAccepted:
    """Give a case back to its queue: the inverse of taking it. 409 when somebody else has it."""
    case = await _case(session, case_id)
    if case.owner != body.owner:
        whose = f"{case.owner} has the case" if case.owner else "nobody has the case"
        raise Problem(Code.NOT_ALLOWED_NOW, whose, allowed_actions=list(ALLOWED[case.state]))
    command = Assign(by=body.by, owner="")
    return await _tell_case(request, session, held, case_id, SupportCase.assign, command)


async def _case(session: AsyncSession, case_id: UUID) -> Case:
    case = await session.get(Case, case_id)
    if case is None:
        raise Problem(Code.UNKNOWN_CASE, f"there is no case {case_id}")
    return case


async def _keep_text(
    request: Request, held: Resources, case: Case, by: str, text: str | None
) -> UUID | None:
    """Store the words before the case is told: its step may look for them at once."""
    if text is None:
        return None
    held.engine.refuse_while_resting(command=True)  # nothing is kept that goes nowhere
    key = getattr(request.state, "idempotency_key", None) or uuid4()
    text_id = derived_id("staff-text", request.url.path, key)
    async with held.sessions.begin() as own:
        await own.execute(
            insert(StaffText)
            .values(id=text_id, customer_id=case.customer_id, case_id=case.id, by=by, text=text)
            .on_conflict_do_nothing()
        )
    return text_id


async def _tell_case(
    request: Request,
    session: AsyncSession,
    held: Resources,
    case_id: UUID,
    update: object,
    command: Command,
    text_id: UUID | None = None,
) -> CommandAccepted:
    await _case(session, case_id)
    workflow_id = support_workflow_id(case_id)
    try:
        return await command_process(request, session, held, workflow_id, update, command)
    except Problem as refusal:
        if text_id is not None and refusal.code is Code.NOT_ALLOWED_NOW:
            async with held.sessions.begin() as own:
                await own.execute(sa.delete(StaffText).where(StaffText.id == text_id))
        raise
