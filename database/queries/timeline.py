"""What happened to a customer and what the customer was told, as one sequence."""

from uuid import UUID

import sqlalchemy as sa

from database.messages import Message
from database.timeline import TimelineLine

LINE, MESSAGE = "line", "message"


def timeline_of(customer_id: UUID) -> sa.Subquery:
    """Columns: happened_at, ref (both make the order), what, then those of either kind or null.

    A message stands at the moment the customer was told, or at which it was asked for.
    """
    no_text = sa.cast(sa.null(), sa.Text)
    lines = sa.select(
        TimelineLine.happened_at.label("happened_at"),
        sa.func.concat("l", sa.func.lpad(sa.cast(TimelineLine.id, sa.Text), 20, "0")).label("ref"),
        sa.literal(LINE).label("what"),
        TimelineLine.kind.label("kind"),
        sa.cast(TimelineLine.phase, sa.Text).label("phase"),
        TimelineLine.workflow_id.label("workflow_id"),
        TimelineLine.facts.label("facts"),
        no_text.label("message_id"),
        no_text.label("state"),
    ).where(TimelineLine.customer_id == customer_id)
    messages = sa.select(
        sa.func.coalesce(Message.told_at, Message.asked_at),
        sa.func.concat("m", sa.cast(Message.id, sa.Text)),
        sa.literal(MESSAGE),
        sa.cast(Message.template, sa.Text),
        no_text,
        Message.workflow_id,
        Message.context,
        sa.cast(Message.id, sa.Text),
        sa.cast(Message.state, sa.Text),
    ).where(Message.customer_id == customer_id)
    return sa.union_all(lines, messages).subquery()
