"""What a customer saw and did, as it reached him, and what either side owed meanwhile."""

from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple, TypeVarTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.events import Event
from database.feedback import Feedback, Survey
from database.messages import Message
from database.orders import Order
from database.processes import ProcessRow
from database.received_mails import ReceivedMail
from database.received_texts import ReceivedText
from database.support import Case
from database.tasks import Task
from domain.messages import MessageState, Template
from domain.received_mails import MailKind
from domain.tasks import TaskKind
from domain.waits import Owed, Side

Row = TypeVarTuple("Row")

_CAME_BACK = (MessageState.BOUNCED, MessageState.FAILED)
_SAID = (
    "lead_received",
    "reply_received",
    "opted_out",
    "need_stated",
    "case_opened",
    "order_placed",
)
# What a customer waits for a person to do.
_OURS = {
    TaskKind.ANSWER_REPLY: "an answer",
    TaskKind.ANSWER_REPLY_ESCALATED: "an answer",
    TaskKind.FIRST_RESPONSE: "a first answer to the case",
    TaskKind.CONTACT_DISAPPOINTED: "a call after the disappointment",
    TaskKind.COMPENSATE: "amends for the order",
}


class Moment(NamedTuple):
    """Something the customer saw (by us) or did. `kind`: the template's or the event's word."""

    at: datetime
    by: Side
    kind: str
    message: Message | None = None
    text: str = ""
    received_mail_id: UUID | None = None
    score: str = ""


async def moments_of(
    session: AsyncSession, customer_id: UUID, before: datetime | None, most: int
) -> list[Moment]:
    """The latest `most` before a moment, the oldest of them first."""
    found = [
        *await _messages(session, customer_id, before, most),
        *await _mails(session, customer_id, before, most),
        *await _texts(session, customer_id, before, most),
        *await _events(session, customer_id, before, most),
        *await _answers(session, customer_id, before, most),
    ]
    return sorted(found, key=lambda moment: moment.at)[-most:]


async def _messages(
    session: AsyncSession, customer_id: UUID, before: datetime | None, most: int
) -> list[Moment]:
    """Those that were taken and did not come back."""
    rows = await session.scalars(
        _latest(
            sa.select(Message).where(
                Message.customer_id == customer_id, Message.state.not_in(_CAME_BACK)
            ),
            *(Message.told_at, before, most),
        )
    )
    return [
        Moment(row.told_at, Side.US, row.template, message=row)
        for row in rows
        if row.told_at is not None
    ]


async def _mails(
    session: AsyncSession, customer_id: UUID, before: datetime | None, most: int
) -> list[Moment]:
    mails = sa.select(
        *(ReceivedMail.happened_at, ReceivedMail.text, ReceivedMail.id, ReceivedMail.kind)
    ).where(
        ReceivedMail.customer_id == customer_id,
        ReceivedMail.kind.in_((MailKind.REPLY, MailKind.COMPLAINT)),
    )
    rows = await session.execute(_latest(mails, ReceivedMail.happened_at, before, most))
    return [
        Moment(row.happened_at, Side.CUSTOMER, f"mail_{row.kind}", None, row.text or "", row.id)
        for row in rows
    ]


async def _texts(
    session: AsyncSession, customer_id: UUID, before: datetime | None, most: int
) -> list[Moment]:
    texts = sa.select(ReceivedText.happened_at, ReceivedText.text).where(
        ReceivedText.customer_id == customer_id
    )
    rows = await session.execute(_latest(texts, ReceivedText.happened_at, before, most))
    return [Moment(row.happened_at, Side.CUSTOMER, "text", None, row.text) for row in rows]


async def _events(
    session: AsyncSession, customer_id: UUID, before: datetime | None, most: int
) -> list[Moment]:
    """What was reported of him; what came by mail or text is told by these already."""
    events = sa.select(
        Event.occurred_at, Event.kind, Event.body["text"].astext.label("text")
    ).where(
        Event.customer_id == customer_id,
        Event.kind.in_(_SAID),
        ~Event.event_id.startswith("mail/"),
        ~Event.event_id.startswith("text/"),
    )
    rows = await session.execute(_latest(events, Event.occurred_at, before, most))
    return [Moment(row.occurred_at, Side.CUSTOMER, row.kind, None, row.text or "") for row in rows]


async def _answers(
    session: AsyncSession, customer_id: UUID, before: datetime | None, most: int
) -> list[Moment]:
    answers = (
        sa.select(
            *(Feedback.answered_at, Feedback.score, Feedback.scale),
            Event.body["comment"].astext.label("comment"),
        )
        .outerjoin(Event, Event.event_id == Feedback.event_id)
        .where(Feedback.customer_id == customer_id)
    )
    rows = await session.execute(_latest(answers, Feedback.answered_at, before, most))
    return [
        Moment(
            *(row.answered_at, Side.CUSTOMER, "feedback", None, row.comment or ""),
            score=f"{row.score} of {5 if row.scale == 'stars' else 10}",
        )
        for row in rows
    ]


async def owed_to(session: AsyncSession, customer_id: UUID) -> list[Owed]:
    """Every move that was owed: by us with its limit as it was promised, by him without one."""
    return [
        *await _tasks(session, customer_id),
        *await _orders(session, customer_id),
        *await _surveys(session, customer_id),
        *await _questions(session, customer_id),
    ]


async def _tasks(session: AsyncSession, customer_id: UUID) -> list[Owed]:
    rows = await session.scalars(
        sa.select(Task).where(Task.customer_id == customer_id, Task.kind.in_(list(_OURS)))
    )
    return [
        Owed(
            *(Side.US, _OURS[row.kind], row.opened_at, row.ended_at),
            # An escalation is opened when the first promise was missed.
            row.opened_at if row.kind is TaskKind.ANSWER_REPLY_ESCALATED else row.due_at,
        )
        for row in rows
    ]


async def _orders(session: AsyncSession, customer_id: UUID) -> list[Owed]:
    """By the day that was promised first: it is what the customer remembers."""
    rows = await session.scalars(sa.select(Order).where(Order.customer_id == customer_id))
    found = []
    for row in rows:
        day = row.first_promised_on or row.promised_on
        due = datetime.combine(day + timedelta(days=1), time(), UTC) if day else None
        until = row.delivered_at or row.ended_at
        found.append(Owed(Side.US, f"the order {row.reference}", row.placed_at, until, due))
    return found


async def _surveys(session: AsyncSession, customer_id: UUID) -> list[Owed]:
    rows = await session.execute(
        sa.select(Survey.asked_at, Survey.answered_at, ProcessRow.ended_at)
        .outerjoin(ProcessRow, ProcessRow.workflow_id == Survey.workflow_id)
        .where(Survey.customer_id == customer_id)
    )
    return [
        Owed(
            Side.CUSTOMER, "an answer to our survey", row.asked_at, row.answered_at or row.ended_at
        )
        for row in rows
    ]


async def _questions(session: AsyncSession, customer_id: UUID) -> list[Owed]:
    """What a case has asked the customer, until he wrote or it was resolved."""
    asked = await session.execute(
        sa.select(Message.told_at, Case.resolved_at, Case.reference)
        .join(Case, Message.workflow_id == sa.func.concat("case/", sa.cast(Case.id, sa.Text)))
        .where(
            Message.customer_id == customer_id,
            Message.template == Template.CASE_WAITING,
            Message.told_at.is_not(None),
        )
    )
    wrote = sorted(
        await session.scalars(
            sa.select(Event.occurred_at).where(
                Event.customer_id == customer_id, Event.kind == "reply_received"
            )
        )
    )
    found = []
    for row in asked:
        ends = [at for at in (*wrote, row.resolved_at) if at is not None and at > row.told_at]
        what = f"what we asked about {row.reference}"
        found.append(Owed(Side.CUSTOMER, what, row.told_at, min(ends, default=None)))
    return found


def _latest(
    statement: sa.Select[*Row], at: Any, before: datetime | None, most: int
) -> sa.Select[*Row]:
    until = at.is_not(None) if before is None else at < before
    return statement.where(until).order_by(at.desc()).limit(most)
