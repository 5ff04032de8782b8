"""Mail that came to us: handed in by whoever receives it for us, shown, and given to a customer."""

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from api.commands import command_process
from api.contacts import customer_clock
from api.deps import Caller, Held, Resources, Session
from api.errors import EXPLAINED, Code, Problem, invalid_field, not_found
from api.event_bodies import ReplyReceivedEvent
from api.fields import Base64, Body, Envelope, StaffId, Word, example
from api.intake import Accepted, accept
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute, needs, note_change
from database.received_mails import ReceivedAttachment, ReceivedMail, keep_mail
from database.tasks import Task
from domain.lifecycle import unclear_mail_key
from domain.processes import TaskCompleted, lifecycle_workflow_id
from domain.received_mails import MAIL_EVENT, MailKind, MailOutcome
from domain.received_texts import TextOutcome
from domain.staff import Permission
from domain.tasks import task_id_of
from workflows.process import Process

LARGEST_MAIL = 10 * 1024 * 1024  # bytes, as by SMTP
LARGEST_BODY = LARGEST_MAIL * 4 // 3 + 100_000
PREFIX = "/received-mails"
Outcome = TypeVar("Outcome", MailOutcome, TextOutcome)
_MAY_BE_DELETED: dict[int | str, dict[str, Any]] = {
    EXPLAINED[Code.DELETED].status: {"$ref": f"#/components/responses/{Code.DELETED}"}
}
_EXAMPLE = b64encode(b"From: ada@example.com\r\nSubject: Re: Your order\r\n\r\nYes.\r\n").decode()

router = APIRouter(prefix=PREFIX, tags=["received mails"], route_class=ApiRoute)


class NewReceivedMail(Body):
    """A mail with its envelope. The signed address it came to says what it is about."""

    model_config = example(
        mail_from="ada@example.com", rcpt_to=["hello@mail.example.com"], raw=_EXAMPLE
    )

    source: Word = Field("api", description="who received it for us", examples=["mail-provider"])
    mail_from: Envelope | None = Field(
        None, description="the envelope's sender; empty: the null return path; null: not known"
    )
    rcpt_to: list[Envelope] = Field([], max_length=50, description="the envelope's recipients")
    raw: Base64 = Field(description="the mail as it came (RFC 5322), at most 10 MB")


class MailTaken(BaseModel):
    """The mail is stored; what follows from it happens on its own, within seconds."""

    id: UUID
    duplicate: bool = Field(description="true: the same mail was stored before")


class ReceivedMailView(BaseModel):
    """`happened_at` is business time, the other moments are the machine's."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    source: str
    mail_from: str | None
    rcpt_to: list[str]
    received_at: datetime
    attempts: int = Field(description="how often we began to act on it")
    raw_deleted_at: datetime | None = Field(
        description="since when the mail as it came, and what was attached, are gone"
    )
    words_deleted_at: datetime | None = Field(
        description="since when its subject and its own words are gone too"
    )
    kind: MailKind | None = Field(description="null while nobody has looked at it")
    because: str | None = Field(description="what it was recognised by")
    sender: str | None = Field(description="as the mail says; anybody can write anything there")
    subject: str | None
    processed_at: datetime | None
    outcome: MailOutcome | None
    customer_id: UUID | None
    case_id: UUID | None
    happened_at: datetime | None
    answers: UUID | None = Field(description="the message of ours that it is about")
    event_id: str | None

    @computed_field(description="asks a person whose it is")  # type: ignore[prop-decorator]  # pydantic's way
    @property
    def task_id(self) -> UUID | None:
        if self.outcome is not MailOutcome.ASKED or self.customer_id is None:
            return None
        return task_id_of(lifecycle_workflow_id(self.customer_id), unclear_mail_key(self.id))


class AttachmentView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str = Field(description="without a path and without what a shell would act on")
    media_type: str = Field(description="as the mail says")
    size: int
    sha256: str


class ReceivedMailDetail(ReceivedMailView):
    """With its words."""

    message_id: str | None
    text: str | None = Field(description="without what it quotes")
    whole_text: str | None
    attachments: list[AttachmentView]
    left_out: int = Field(description="attachments beyond the limits; they are in the raw mail")


class AttachmentContent(AttachmentView):
    content: str = Field(description="base64; as it came, never looked into")


class RawMail(BaseModel):
    id: UUID
    raw: str = Field(description="base64; the mail as it came")


class Attribution(Body):
    customer_id: UUID
    case_id: UUID | None = Field(None, description="the case it is about, if known")
    by: StaffId = "api"


class Dismissal(Body):
    reason: Word = Field(description="a code, no personal data", examples=["advertising"])
    by: StaffId = "api"


@router.post("", status_code=202)
async def take_received_mail(
    body: NewReceivedMail, response: Response, session: Session
) -> MailTaken:
    """Hand in a mail that came for us. The same mail with the same envelope is stored once."""
    if len(body.raw) > LARGEST_MAIL:
        raise Problem(Code.TOO_LARGE, "the mail is larger than 10 MB")
    mail_from = body.mail_from.strip("<>") if body.mail_from is not None else None
    mail_id, new = await keep_mail(session, body.source, mail_from, body.rcpt_to, body.raw)
    response.headers["Location"] = f"/api/v1{PREFIX}/{mail_id}"
    return MailTaken(id=mail_id, duplicate=not new)


@router.get("")
async def list_received_mails(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query()] = None,
    case_id: Annotated[UUID | None, Query()] = None,
    kind: Annotated[MailKind | None, Query()] = None,
    outcome: Annotated[MailOutcome | None, Query()] = None,
) -> Page[ReceivedMailView]:
    """Mails, the latest first. With `outcome=unknown_sender` those that nobody has seen to."""
    filters = {"customer_id": customer_id, "case_id": case_id, "kind": kind, "outcome": outcome}
    given = {name: value for name, value in filters.items() if value is not None}
    statement = sa.select(ReceivedMail).filter_by(**given)
    return await read_page(
        session, statement, [ReceivedMail.id], paging, ReceivedMailView.model_validate
    )


@router.get("/{mail_id}")
async def show_received_mail(mail_id: UUID, session: Session) -> ReceivedMailDetail:
    """One mail with its words and the names of its attachments."""
    mail = await session.get(ReceivedMail, mail_id)
    if mail is None:
        raise not_found("received mail", mail_id)
    attachments = await session.scalars(
        sa.select(ReceivedAttachment)
        .where(ReceivedAttachment.mail_id == mail_id)
        .order_by(ReceivedAttachment.number)
    )
    return ReceivedMailDetail(
        **ReceivedMailView.model_validate(mail).model_dump(exclude={"task_id"}),
        message_id=mail.message_id,
        text=mail.text,
        whole_text=mail.whole_text,
        attachments=[AttachmentView.model_validate(one) for one in attachments],
        left_out=mail.left_out,
    )


@router.get("/{mail_id}/raw", responses=_MAY_BE_DELETED)
async def show_raw_mail(mail_id: UUID, session: Session) -> RawMail:
    """The mail byte for byte. 410 once its time under the policy of kind storage is over."""
    mail = await session.get(ReceivedMail, mail_id, options=[undefer(ReceivedMail.raw)])
    if mail is None:
        raise not_found("received mail", mail_id)
    if mail.raw is None:
        raise _deleted("mail", mail)
    return RawMail(id=mail_id, raw=b64encode(mail.raw).decode())


@router.get("/{mail_id}/attachments/{attachment_id}", responses=_MAY_BE_DELETED)
async def show_mail_attachment(
    mail_id: UUID, attachment_id: UUID, session: Session
) -> AttachmentContent:
    """One attachment. Its type and name are what a stranger wrote: show it to nobody unasked.

    410 once the time of its mail under the policy of kind storage is over.
    """
    content = undefer(ReceivedAttachment.content)
    found = await session.get(ReceivedAttachment, attachment_id, options=[content])
    if found is None or found.mail_id != mail_id:
        raise not_found("attachment", attachment_id)
    if found.content is None:
        raise _deleted("attachment", await session.get_one(ReceivedMail, mail_id))
    return AttachmentContent(
        **AttachmentView.model_validate(found).model_dump(),
        content=b64encode(found.content).decode(),
    )


def _deleted(what: str, mail: ReceivedMail) -> Problem:
    return Problem(Code.DELETED, f"the {what} was deleted on {mail.raw_deleted_at:%Y-%m-%d}")


@router.post("/{mail_id}/attribution", status_code=202)
@needs(Permission.WORK_TASKS)
async def attribute_received_mail(
    mail_id: UUID,
    body: Attribution,
    request: Request,
    session: Session,
    held: Held,
    caller: Caller,
) -> Accepted:
    """A person says whose mail it is: from then on it is a reply of that customer.

    The task that asked, if there is one, is completed with it. 409 for a mail that was acted upon
    already.
    """
    mail = await _locked(session, mail_id)
    refuse_settled("mail", mail.outcome, MailOutcome.ATTRIBUTED)
    clock = await customer_clock(session, body.customer_id)
    happened_at = clock.business(mail.received_at)
    try:
        event = ReplyReceivedEvent(
            kind="reply_received",
            event_id=mail.event_id or MAIL_EVENT + mail.digest,
            source="mail",
            occurred_at=happened_at,
            customer_id=body.customer_id,
            case_id=body.case_id,
            text=(mail.text or mail.subject or "")[:10_000] or None,
        )
    except ValidationError:
        raise invalid_field("/mail_id", "the mail has nothing that can be read") from None
    accepted = await accept(session, held, caller, event, body)
    task_id = ReceivedMailView.model_validate(mail).task_id
    if task_id is not None:
        await _complete_task(request, session, held, task_id, "attributed", body.by)
    mail.outcome, mail.event_id = MailOutcome.ATTRIBUTED, event.event_id
    mail.customer_id, mail.case_id, mail.happened_at = body.customer_id, body.case_id, happened_at
    return accepted


@router.post("/{mail_id}/dismissal")
@needs(Permission.WORK_TASKS)
async def dismiss_received_mail(
    mail_id: UUID, body: Dismissal, request: Request, session: Session, held: Held
) -> ReceivedMailView:
    """A person says that nothing follows from a mail: nobody is asked about it any more.

    The task that asked is completed. It can still be given to a customer; a repeat changes nothing.
    409 for a mail that was acted upon.
    """
    mail = await _locked(session, mail_id)
    refuse_settled("mail", mail.outcome, MailOutcome.DISMISSED)
    note_change(request, before={"outcome": mail.outcome})
    task_id = ReceivedMailView.model_validate(mail).task_id
    if task_id is not None:
        await _complete_task(request, session, held, task_id, "not_theirs", body.by)
    mail.outcome = MailOutcome.DISMISSED
    await session.flush()
    return ReceivedMailView.model_validate(mail)


async def _locked(session: AsyncSession, mail_id: UUID) -> ReceivedMail:
    """Raises the 404 problem."""
    mail = await session.get(ReceivedMail, mail_id, with_for_update=True)
    if mail is None:
        raise not_found("received mail", mail_id)
    return mail


def refuse_settled(what: str, outcome: Outcome | None, wanted: Outcome) -> None:
    """Raises the 409 problem; a repeat is none."""
    if outcome is None or not (outcome is wanted or outcome.may_become(wanted)):
        state = outcome or "not looked at yet"
        raise Problem(Code.NOT_ALLOWED_NOW, f"the {what} is {state}", allowed_actions=[])


async def _complete_task(
    request: Request,
    session: AsyncSession,
    held: Resources,
    task_id: UUID,
    outcome: str,
    by: str,
) -> None:
    """One that somebody has completed by hand meanwhile, or nobody needs any more, is none."""
    task = await session.get(Task, task_id)
    if task is None or task.ended_at is not None:
        return
    done = TaskCompleted(task_id=task_id, outcome=outcome, by=by)
    try:
        await command_process(request, session, held, task.workflow_id, Process.complete_task, done)
    except Problem as refused:
        if refused.code is not Code.NOT_ALLOWED_NOW:
            raise
