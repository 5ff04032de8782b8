"""What a customer wrote about a case after it was opened, as the case has taken note of it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from database.events import Event
from database.received_mails import ReceivedMail
from database.timeline import TimelineLine
from domain.processes import support_workflow_id
from domain.received_mails import MailOutcome


async def replies_to(session: AsyncSession, case_id: UUID) -> Sequence[Any]:
    """The oldest first: event_id, text, occurred_at, received_mail_id."""
    mail = sa.and_(
        ReceivedMail.event_id == Event.event_id,
        ReceivedMail.outcome.in_([MailOutcome.REPLY_RECEIVED, MailOutcome.ATTRIBUTED]),
    )
    found = await session.execute(
        sa.select(
            Event.event_id,
            sa.func.coalesce(Event.body["text"].astext, "").label("text"),
            Event.occurred_at,
            ReceivedMail.id.label("received_mail_id"),
        )
        .select_from(TimelineLine)
        .join(Event, Event.event_id == TimelineLine.facts["event"].astext)
        .outerjoin(ReceivedMail, mail)
        .where(
            TimelineLine.workflow_id == support_workflow_id(case_id),
            Event.kind == "reply_received",
        )
        .order_by(TimelineLine.id)
    )
    return found.all()
