"""What happened to a customer, what he was told and what he wrote, as one sequence."""

import sqlalchemy as sa

from database.messages import Message
from database.received_mails import ReceivedMail
from database.received_texts import ReceivedText
from database.timeline import TimelineLine

_LONGEST_EXCERPT = 500  # characters
LINE, MESSAGE, MAIL, TEXT = "line", "message", "mail", "text"


_CUSTOMER = sa.bindparam("customer_id", type_=sa.Uuid)


def _timeline() -> sa.Subquery:
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
    ).where(TimelineLine.customer_id == _CUSTOMER)
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
    ).where(Message.customer_id == _CUSTOMER)
    came = [_received(what, table) for what, table in _RECEIVED.items()]
    return sa.union_all(lines, messages, *came).subquery()


_RECEIVED: dict[str, type[ReceivedMail] | type[ReceivedText]] = {
    MAIL: ReceivedMail,
    TEXT: ReceivedText,
}


def _received(
    what: str, table: type[ReceivedMail] | type[ReceivedText]
) -> sa.Select[*tuple[object, ...]]:
    no_text = sa.cast(sa.null(), sa.Text)
    kind = sa.cast(table.kind, sa.Text) if table is ReceivedMail else sa.literal("text")
    return sa.select(
        table.happened_at,
        sa.func.concat(what, sa.cast(table.id, sa.Text)),
        sa.literal(what),
        kind,
        no_text,
        sa.func.concat("customer/", _CUSTOMER),
        sa.func.jsonb_build_object(
            *("id", table.id, "outcome", table.outcome),
            *("text", sa.func.left(table.text, _LONGEST_EXCERPT)),
        ),
        no_text,
        no_text,
    ).where(table.customer_id == _CUSTOMER, table.happened_at.is_not(None))


# Of the customer whom the parameter `customer_id` names; built once, which takes as long as asking.
# Columns: happened_at, ref (both make the order), what, then those of either kind or null.
# A message stands at the moment the customer was told, or at which it was asked for.
TIMELINE = _timeline()
